//! What somebody has on their own engine by Docker Compose: looked at, stopped, started again and
//! read, for `lattice import`. Enter at [`Projects`].
//!
//! This is the person's hand and no node's: no agent uses it, and it needs no label of a node.
//! Nothing of a project is ever removed or written to, but for the restart policy of a container
//! ([`Projects::set_restart`]).

use super::{
    census,
    client::{Docker, QUICK, SLOW},
    porter,
    wire::query_value,
};
use crate::{
    checks::{checked, no_volume},
    error::{Result, RuntimeError},
    port::Runtime as _,
};
use bollard::models::ContainerInspectResponse;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use http::Method;
use lattice_model::{
    Duration,
    container::{ContainerId, LABEL_PORTER},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

/// On every container and volume that Docker Compose made.
const LABEL: &str = "com.docker.compose.project";
/// How many containers are inspected at the same time.
const INSPECTS: usize = 8;
/// Counting the bytes of volumes may take the engine long.
const COUNTING: Duration = Duration::from_secs(90);
/// What a container gets to stop that says nothing about it.
const CUSTOMARY: u64 = 10;

/// An engine, as whoever has Compose projects on it uses it.
#[derive(Clone, Debug)]
pub struct Projects {
    docker: Docker,
}

/// A container that Docker Compose made.
#[derive(Clone, PartialEq, Eq)]
pub struct ComposeContainer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image that it runs, `sha256:…`.
    pub image_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// As the engine says it: `created`, `running`, `paused`, `restarting`, `exited`, `dead`.
    pub state: String,
    /// Its environment with the image's, `NAME=VALUE`. May hold secrets.
    pub environment: Vec<String>,
    /// What it mounts.
    pub mounts: Vec<ComposeMount>,
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub restart: String,
    /// How long it may take to stop.
    pub grace: Duration,
}

impl fmt::Debug for ComposeContainer {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposeContainer")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("state", &self.state)
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}

/// Something that a container mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposeMount {
    /// The volume, where it is one.
    pub volume: Option<String>,
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Whether it may write there.
    pub writable: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposeVolume {
    /// Its name on the engine.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Projects {
    /// The engine at this socket, which has to answer.
    ///
    /// # Errors
    /// `Refused` for a socket of another kind, `Unreachable` or `Timeout`.
    pub async fn connect(socket: &str) -> Result<Self> {
        Ok(Self { docker: Docker::connect(socket).await? })
    }

    async fn list<T: serde::de::DeserializeOwned>(&self, path: &str, what: &str) -> Result<T> {
        let call = self.docker.wire().call::<T, ()>(Method::GET, path, None);
        self.docker.within(QUICK, || what.to_owned(), call).await
    }

    /// Every container that Docker Compose made, by name.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn containers(&self) -> Result<Vec<ComposeContainer>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
        }
        let filters = json!({ "label": [LABEL] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", query_value(&filters));
        let listed: Vec<Listed> = self.list(&path, "list of containers").await?;
        let looks = listed.into_iter().map(|found| async move { self.inspect(&found.id).await });
        let found: Vec<Option<ComposeContainer>> =
            futures::stream::iter(looks).buffer_unordered(INSPECTS).try_collect().await?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn inspect(&self, id: &str) -> Result<Option<ComposeContainer>> {
        let path = format!("/containers/{}/json", checked("container", id)?);
        match self.list::<ContainerInspectResponse>(&path, &format!("container {id}")).await {
            Ok(seen) => Ok(Some(container(seen))),
            // One that goes between two looks is gone.
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A container as it is now.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn container(&self, id: &str) -> Result<Option<ComposeContainer>> {
        self.inspect(id).await
    }

    /// Every volume that Docker Compose made, by name.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn volumes(&self) -> Result<Vec<ComposeVolume>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Volumes {
            volumes: Option<Vec<Volume>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Volume {
            name: String,
            #[serde(default)]
            labels: Option<HashMap<String, String>>,
        }
        let filters = json!({ "label": [LABEL] }).to_string();
        let path = format!("/volumes?filters={}", query_value(&filters));
        let found: Volumes = self.list(&path, "list of volumes").await?;
        let volumes = found.volumes.unwrap_or_default().into_iter();
        let mut volumes: Vec<_> = volumes
            .map(|volume| ComposeVolume {
                name: volume.name,
                labels: volume.labels.unwrap_or_default().into_iter().collect(),
            })
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The bytes in each volume of the engine, as far as it counts them. May take long.
    ///
    /// # Errors
    /// What the engine says; `Timeout` where it counts for more than 90 s.
    pub async fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let volumes = census::counted(&self.docker, COUNTING).await?.into_iter();
        Ok(volumes.filter_map(|volume| Some((volume.name.clone(), volume.bytes()?))).collect())
    }

    /// The names of all containers that mount a volume, and whether each runs.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn users(&self, volume: &str) -> Result<Vec<(String, bool)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct User {
            #[serde(default)]
            names: Vec<String>,
            #[serde(default)]
            state: String,
        }
        let filters = json!({ "volume": [volume] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", query_value(&filters));
        let users: Vec<User> = self.list(&path, &format!("users of volume {volume}")).await?;
        let name = |user: &User| user.names.first().map(|name| name.trim_start_matches('/').to_owned());
        Ok(users.iter().filter_map(|user| Some((name(user)?, is_up(&user.state)))).collect())
    }

    /// Stops a container as it wants to be stopped. One that does not run, or is gone, is fine.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn stop(&self, container: &ComposeContainer) -> Result<()> {
        self.docker.stop(&ContainerId(container.id.clone()), container.grace).await
    }

    /// Starts a container. One that runs is left alone.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn start(&self, id: &str) -> Result<()> {
        self.docker.start(&ContainerId(id.to_owned())).await
    }

    /// Changes what the engine does with a container after its end, or its own start: `always` or
    /// `unless-stopped`.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn set_restart(&self, id: &str, policy: &str) -> Result<()> {
        let path = format!("/containers/{}/update", checked("container", id)?);
        let body = json!({ "RestartPolicy": { "Name": policy } });
        let call = self.docker.wire().call::<serde::de::IgnoredAny, _>(Method::POST, &path, Some(&body));
        self.docker.within(SLOW, || format!("container {id}"), call).await.map(drop)
    }

    /// Names an image that the engine has.
    ///
    /// # Errors
    /// `NotFound` or `ImageMissing` where it has it not.
    pub async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        let path = format!(
            "/images/{}/tag?repo={}&tag={}",
            query_value(image),
            query_value(repository),
            query_value(tag)
        );
        let call = self.docker.wire().request::<()>(Method::POST, &path, None, false);
        self.docker.within(SLOW, || format!("image {image}"), call).await.map(drop)
    }

    /// Whether the engine has an image.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn has_image(&self, image: &str) -> Result<bool> {
        self.docker.has_image(image).await
    }

    /// All of a volume as a tar archive whose names begin with `volume/`, as the agent takes it. A
    /// container that never runs is made for it, with this label, and removed at its end.
    ///
    /// # Errors
    /// `NotFound` where there is no such volume.
    pub async fn read(&self, volume: &str, label: (&str, &str)) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = format!("/volumes/{}", checked("volume", volume)?);
        match self.list::<serde::de::IgnoredAny>(&path, &format!("volume {volume}")).await {
            Ok(_) => {}
            // Mounting it would make an empty one.
            Err(RuntimeError::NotFound { .. }) => return Err(no_volume(volume)),
            Err(error) => return Err(error),
        }
        let labels = [(label.0.to_owned(), label.1.to_owned())].into();
        porter::read(&self.docker, volume, &labels).await
    }

    /// Removes what a process that was killed left of its reading under this label.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn clear(&self, label: (&str, &str)) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
        }
        let filters = json!({ "label": [LABEL_PORTER, format!("{}={}", label.0, label.1)] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", query_value(&filters));
        let left: Vec<Listed> = self.list(&path, "list of containers").await?;
        for Listed { id } in left {
            porter::clear(&self.docker, id).await?;
        }
        Ok(())
    }

    /// As [`Projects::read`], of a folder of the engine's machine that a container had mounted.
    ///
    /// # Errors
    /// `Refused` where there is no such folder.
    pub async fn read_folder(
        &self,
        folder: &str,
        label: (&str, &str),
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let labels = [(label.0.to_owned(), label.1.to_owned())].into();
        porter::read_folder(&self.docker, folder, &labels).await
    }
}

/// Whether a container in this state runs, or will by itself.
fn is_up(state: &str) -> bool {
    matches!(state, "running" | "paused" | "restarting")
}

impl ComposeContainer {
    /// Whether it runs, or will by itself.
    pub fn is_up(&self) -> bool {
        is_up(&self.state)
    }
}

fn container(seen: ContainerInspectResponse) -> ComposeContainer {
    let config = seen.config.unwrap_or_default();
    let restart = seen.host_config.and_then(|host| host.restart_policy?.name);
    let mounts = seen.mounts.unwrap_or_default().into_iter().map(|mount| {
        let is_volume = mount.typ.as_deref() == Some("volume");
        ComposeMount {
            volume: mount.name.filter(|name| is_volume && !name.is_empty()),
            source: mount.source.unwrap_or_default(),
            target: mount.destination.unwrap_or_default(),
            writable: mount.rw.unwrap_or(true),
        }
    });
    let grace = config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(CUSTOMARY);
    ComposeContainer {
        id: seen.id.unwrap_or_default(),
        name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        image_id: seen.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: seen.state.and_then(|state| state.status).map(|s| s.to_string()).unwrap_or_default(),
        environment: config.env.unwrap_or_default(),
        mounts: mounts.collect(),
        restart: restart.map(|name| name.to_string()).unwrap_or_default(),
        grace: Duration::from_secs(grace),
    }
}
