//! The reference of what Lattice does with containers: the same calls to the engine, made directly, with the same host
//! configuration, read back from a container that Lattice made.

use crate::{
    engine::{Engine, text},
    lab::Lab,
};
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// How the engine is told the name of a network's bridge.
const BRIDGE: &str = "com.docker.network.bridge.name";

/// How to make what Lattice made.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    network: Value,
    container: Value,
    aliases: Value,
}

/// What was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The container.
    pub(super) container: String,
    /// Its network.
    pub(super) network: String,
}

impl Recipe {
    /// Of a container with one network that Lattice made.
    pub(super) async fn of(lab: &Lab, container: &str) -> anyhow::Result<Self> {
        let seen = lab.engine().inspect(container).await?;
        let joined = seen["NetworkSettings"]["Networks"].as_object().and_then(|map| map.values().next());
        let joined = joined.context("Lattice's container is on no network")?;
        let network = lab.engine().get(&format!("/networks/{}", text(joined, &["NetworkID"])?)).await?;
        Ok(Self::from(&seen, &network, joined, lab.label()))
    }

    fn from(container: &Value, network: &Value, joined: &Value, label: (String, String)) -> Self {
        let mut body = container["Config"].as_object().cloned().unwrap_or_default();
        // The engine made it from the id of that container.
        body.remove("Hostname");
        body.insert("Labels".into(), relabelled(&container["Config"]["Labels"], &label));
        body.insert("HostConfig".into(), container["HostConfig"].clone());
        let id = container["Id"].as_str().unwrap_or_default();
        let aliases = joined["Aliases"].as_array().cloned().unwrap_or_default();
        // The engine adds the beginning of the id by itself.
        let own =
            |alias: &Value| alias.as_str().is_some_and(|alias| !alias.is_empty() && id.starts_with(alias));
        let aliases = aliases.into_iter().filter(|alias| !own(alias)).collect();
        let network = json!({
            "Driver": network["Driver"], "Internal": network["Internal"], "Attachable": network["Attachable"],
            "EnableIPv6": network["EnableIPv6"], "Options": network["Options"], "CheckDuplicate": true,
            "Labels": relabelled(&network["Labels"], &label),
        });
        Self { network, container: Value::Object(body), aliases: Value::Array(aliases) }
    }

    /// The request for a container on a network.
    fn body(&self, network: &str) -> Value {
        let mut body = self.container.clone();
        body["HostConfig"]["NetworkMode"] = network.into();
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { network: { "Aliases": self.aliases } } });
        body
    }

    /// Network, container, start: what a new stack of one service takes.
    pub(super) async fn run(&self, engine: &Engine, name: &str) -> anyhow::Result<Made> {
        let mut network = self.network.clone();
        network["Name"] = name.into();
        // Lattice names the bridge; the same name twice is refused, so this one has another of the same length.
        if let Some(bridge) = network["Options"].get_mut(BRIDGE) {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            *bridge = format!("bn{:013x}", hasher.finish() >> 12).into();
        }
        let network = text(&engine.post("/networks/create", Some(&network)).await?, &["Id"])?;
        let container = engine.create(name, &self.body(name)).await?;
        engine.post(&format!("/containers/{container}/start"), None).await?;
        Ok(Made { container, network })
    }

    /// One more container on a network that is there: its id.
    pub(super) async fn another(
        &self,
        engine: &Engine,
        network: &str,
        name: String,
    ) -> anyhow::Result<String> {
        let container = engine.create(&name, &self.body(network)).await?;
        engine.post(&format!("/containers/{container}/start"), None).await?;
        Ok(container)
    }
}

impl Made {
    /// Removes both.
    pub(super) async fn remove(&self, engine: &Engine) -> anyhow::Result<()> {
        engine.remove(&self.container).await?;
        engine.delete(&format!("/networks/{}", self.network)).await.map(drop)
    }
}

/// As many labels of the same length, none of which is Lattice's: its agent would take the container for its own.
fn relabelled(labels: &Value, (key, value): &(String, String)) -> Value {
    let mut map = Map::new();
    for (name, value) in labels.as_object().into_iter().flatten() {
        map.insert(
            name.strip_prefix("lattice.").map_or_else(|| name.clone(), |rest| format!("xattice.{rest}")),
            value.clone(),
        );
    }
    map.insert(key.clone(), value.clone().into());
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_the_same_but_for_what_names_it() {
        let container = json!({
            "Id": "abcdef0123456789",
            "Config": { "Hostname": "abcdef012345", "Cmd": ["sh"], "Labels": { "lattice.node": "n", "own": "x" } },
            "HostConfig": { "Memory": 7, "NetworkMode": "lattice-net", "CapDrop": ["ALL"] },
        });
        let network =
            json!({ "Driver": "bridge", "Internal": false, "Labels": { "lattice.stack": "default/s" } });
        let joined = json!({ "Aliases": ["web", "abcdef012345"] });
        let recipe = Recipe::from(&container, &network, &joined, ("bench.run".into(), "1".into()));
        let body = recipe.body("mine");
        assert_eq!(body["HostConfig"], json!({ "Memory": 7, "NetworkMode": "mine", "CapDrop": ["ALL"] }));
        assert_eq!(body["Cmd"], json!(["sh"]));
        assert!(body.get("Hostname").is_none());
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["mine"]["Aliases"], json!(["web"]));
        for labels in [&body["Labels"], &recipe.network["Labels"]] {
            let names: Vec<_> = labels.as_object().unwrap().keys().collect();
            assert!(names.iter().all(|name| !name.starts_with("lattice")), "{names:?}");
            assert_eq!(labels["bench.run"], "1");
        }
        assert_eq!(body["Labels"]["own"], "x");
    }
}
