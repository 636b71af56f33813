//! Fetches images, and tells how far that is.

use super::{client::Docker, fault::pull_fault};
use crate::{
    checks::{checked, image_parts},
    error::{Result, RuntimeError},
    port::PullProgress,
};
use bollard::{auth::DockerCredentials, errors::Error, query_parameters as query};
use futures::StreamExt as _;
use lattice_model::{Bytes, Duration, goal::RegistryLogin, spec::image_registry};
use std::collections::HashMap;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// The longest time without any news. An engine waits for a registry that accepts connections and
/// says nothing as long as it lives; unpacking a layer is told as it goes.
pub(super) const SILENCE: Duration = Duration::from_secs(120);
/// What has to come in that time where nothing else happens: a registry that gives a byte a second gives none.
const LEAST: u64 = 128 << 10;

/// How a login is shown to the engine, which shows it to the registry alone.
pub(super) fn credentials(image: &str, login: &RegistryLogin) -> Result<DockerCredentials> {
    let RegistryLogin { username, password } = login;
    let password = String::from_utf8(password.reveal().to_vec()).map_err(|_| RuntimeError::Refused {
        what: format!("pulling {image}"),
        message: "the password for its registry is no text; set it again".to_owned(),
    })?;
    // Docker Hub has an address of its own for logins.
    let server = match image_registry(image) {
        "docker.io" => "https://index.docker.io/v1/",
        host => host,
    };
    Ok(DockerCredentials {
        username: Some(username.clone()),
        password: Some(password),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    })
}

pub(super) async fn pull(
    docker: &Docker,
    image: &str,
    platform: Option<&str>,
    login: Option<&RegistryLogin>,
    progress: &watch::Sender<PullProgress>,
) -> Result<()> {
    let (name, tag) = image_parts(checked("image", image)?);
    let options = query::CreateImageOptionsBuilder::default().from_image(name).tag(tag);
    let options = options.platform(platform.unwrap_or_default()).build();
    let mut news = docker.api().create_image(
        Some(options),
        None,
        login.map(|login| credentials(image, login)).transpose()?,
    );
    // Per layer: bytes fetched, bytes in all, whether it is there.
    let mut layers: HashMap<String, (u64, u64, bool)> = HashMap::new();
    let silence = docker.pull_silence();
    let given_up = |how: String| RuntimeError::RegistryUnreachable {
        image: image.to_owned(),
        message: format!("{how} in {silence}, so the pull was given up"),
    };
    // When something happened last that counts, and what had come until then.
    let (mut since, mut had) = (Instant::now(), 0);
    loop {
        // Dropping the request ends the engine's pull.
        let Ok(next) = timeout(silence.as_std(), news.next()).await else {
            return Err(given_up("its registry said nothing".to_owned()));
        };
        let Some(line) = next else { return Ok(()) };
        let line = line.map_err(|error| pull_fault(error, docker.wire().socket(), image))?;
        if let Some(error) = line.error_detail.and_then(|detail| detail.message) {
            return Err(pull_fault(Error::DockerStreamError { error }, docker.wire().socket(), image));
        }
        let (Some(layer), Some(status)) = (line.id, line.status) else { continue };
        // "Pulling from …" carries the tag as its id.
        if layer == tag {
            continue;
        }
        let downloads = status == "Downloading";
        let entry = layers.entry(layer).or_default();
        match (status.as_str(), line.progress_detail) {
            ("Downloading", Some(detail)) => {
                let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                (entry.0, entry.1) = (positive(detail.current), positive(detail.total));
            }
            ("Download complete", _) => entry.0 = entry.1,
            ("Pull complete" | "Already exists", _) => (entry.0, entry.2) = (entry.1, true),
            _ => {}
        }
        let current = layers.values().map(|layer| layer.0).sum();
        if !downloads || current >= had + LEAST {
            (since, had) = (Instant::now(), current);
        } else if since.elapsed() > silence.as_std() {
            return Err(given_up(format!("its registry gave {}", Bytes(current.saturating_sub(had)))));
        }
        progress.send_replace(PullProgress {
            layers: u32::try_from(layers.len()).unwrap_or(u32::MAX),
            layers_done: u32::try_from(layers.values().filter(|layer| layer.2).count()).unwrap_or(u32::MAX),
            current,
            total: layers.values().map(|layer| layer.1).sum(),
        });
    }
}
