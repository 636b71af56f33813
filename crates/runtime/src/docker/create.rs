//! Makes containers, on engines old and new.

use super::{
    body,
    client::{Docker, SLOW},
    wire::query_value,
};
use crate::{
    checks::{checked, no_volume, node_label},
    error::{Result, RuntimeError},
    port::Runtime as _,
};
use bollard::models::NetworkConnectRequest;
use http::Method;
use lattice_model::container::{ContainerConfig, ContainerId, MountSource};
use serde::Deserialize;

/// From this API version (1.44, engine 25) on, a container is made on several networks at once.
const MANY_NETWORKS: u32 = 44;
/// From this API version (1.41, engine 20.10) on, the platform of a container's image can be named.
const PLATFORMS: u32 = 41;

pub(super) async fn create(docker: &Docker, config: &ContainerConfig) -> Result<ContainerId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created {
        id: String,
    }
    let what = || format!("container {}", config.name);
    if docker.wire().api_at_least(0).is_none() {
        docker.ping().await?;
    }
    let at_once = if docker.wire().api_at_least(MANY_NETWORKS) == Some(true) { usize::MAX } else { 1 };
    let body = body::create_body(config, at_once)?;
    has_volumes(docker, config).await?;
    let mut path = format!("/containers/create?name={}", checked("container", &config.name)?);
    if let Some(platform) = &config.platform {
        if docker.wire().api_at_least(PLATFORMS) != Some(true) {
            return Err(RuntimeError::Refused {
                what: what(),
                message: format!(
                    "it wants platform {platform}, and engines know that from 20.10 on; update it"
                ),
            });
        }
        path.push_str(&format!("&platform={}", query_value(platform)));
    }
    let call = docker.wire().call::<Created, _>(Method::POST, &path, Some(&body));
    let id = ContainerId(docker.within(SLOW, what, call).await?.id);
    for (network, aliases) in config.networks.iter().skip(at_once) {
        let request =
            NetworkConnectRequest { container: id.0.clone(), endpoint_config: Some(body::endpoint(aliases)) };
        let joined = match checked("network", network) {
            Ok(name) => docker.within(SLOW, what, docker.api().connect_network(name, request)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = joined {
            // Nothing half done: a container that lacks a network must not be started.
            if let Err(left) = docker.remove(&id, true).await {
                tracing::warn!(container = %id.0, error = %left, "a half made container stays for now");
            }
            return Err(error);
        }
    }
    Ok(id)
}

/// A volume that is not there would be made by the engine, empty and without labels: data that
/// was lost would look as if it had never been.
async fn has_volumes(docker: &Docker, config: &ContainerConfig) -> Result<()> {
    let node = node_label("container", &config.name, &config.labels)?;
    for mount in &config.mounts {
        let MountSource::Volume(name) = &mount.source else { continue };
        if !docker.owned("volume", checked("volume", name)?, node).await? {
            return Err(no_volume(name));
        }
    }
    Ok(())
}
