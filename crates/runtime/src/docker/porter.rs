//! Whole volumes as tar archives, in and out, with nothing that runs.
//!
//! A porter is a container of an empty image that mounts one volume at `/volume` and is never
//! started: the engine's archive calls mount it all the same. So the volume's own folder comes
//! along with its owner and mode, other mounts below a path do not, a service's read-only mounts
//! and root do not matter, and a new volume is not filled from an image first.
//!
//! One porter per volume at a time. Its name is made of the volume's, so that one that was left by
//! a process that was killed is found and removed by the next, and by the volume's removal.
//!
//! While it carries, the engine holds its lock on it: an inspection would wait until it has done so.
//!
//! Rejected: the volume's folder on the disk, which an agent without root cannot read and an engine
//! in a virtual machine has elsewhere; a helper image, which would have to be fetched.

use super::{
    client::{Docker, QUICK, SLOW},
    files,
    wire::query_value,
};
use crate::{
    checks::checked,
    error::{Result, RuntimeError},
    port::Runtime as _,
};
use bollard::{body_full, errors::Error};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use lattice_model::{
    Duration,
    container::{ContainerId, LABEL_PORTER},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Where the volume is mounted, and how the names of an archive begin.
const PLACE: &str = "/volume";
/// The longest that filling a volume may take.
const FILLING: Duration = Duration::from_secs(24 * 3600);
/// How long one waits for another porter of the same volume.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the removal of a left porter's image is waited for.
const IMAGE_PATIENCE: Duration = Duration::from_secs(5);
/// An archive without an entry, which is an image without a file.
const EMPTY: [u8; 1024] = [0; 1024];
/// The most of the engine's answer about a new image that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Who carries which volume now, in this process.
#[derive(Debug, Default)]
pub(super) struct Porters(parking_lot::Mutex<HashMap<String, Weak<Mutex<()>>>>);

impl Porters {
    fn of(&self, volume: &str) -> Arc<Mutex<()>> {
        let mut known = self.0.lock();
        known.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = known.get(volume).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(Mutex::new(()));
        known.insert(volume.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// A container that mounts a volume and never runs. Goes when it is dropped.
struct Porter {
    docker: Docker,
    left: Option<Left>,
}

/// What is to be removed.
struct Left {
    container: Option<ContainerId>,
    image: String,
    _alone: OwnedMutexGuard<()>,
}

impl Porter {
    async fn new(
        docker: &Docker,
        volume: &str,
        labels: &BTreeMap<String, String>,
        mount: serde_json::Value,
    ) -> Result<Self> {
        let name = name_of(volume)?;
        let waiting = docker.porters().of(volume).lock_owned();
        let alone = tokio::time::timeout(PATIENCE.as_std(), waiting).await.map_err(|_| is_carried(volume))?;
        forget(docker, volume).await?;
        let image = empty_image(docker).await?;
        // From here on it is removed whatever happens.
        let left = Left { container: None, image: image.clone(), _alone: alone };
        let mut porter = Self { docker: docker.clone(), left: Some(left) };
        let mut labels = labels.clone();
        labels.insert(LABEL_PORTER.to_owned(), volume.to_owned());
        let body = json!({
            "Image": image,
            // Never executed; an engine makes no container without.
            "Cmd": ["/never"],
            "Labels": labels,
            "NetworkDisabled": true,
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": [mount],
            },
        });
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let path = format!("/containers/create?name={name}");
        let call = docker.wire().call::<Created, _>(Method::POST, &path, Some(&body));
        let created = docker.within(SLOW, || format!("container {name}"), call).await?;
        if let Some(left) = &mut porter.left {
            left.container = Some(ContainerId(created.id));
        }
        Ok(porter)
    }

    fn container(&self) -> Result<&ContainerId> {
        let container = self.left.as_ref().and_then(|left| left.container.as_ref());
        container.ok_or_else(|| RuntimeError::NotFound {
            what: "the container that carries a volume".to_owned(),
            message: "it was removed".to_owned(),
        })
    }

    /// Removes it, and returns when it is gone.
    async fn end(mut self) {
        if let Some(left) = self.left.take() {
            remove(&self.docker, left).await;
        }
    }
}

impl Drop for Porter {
    fn drop(&mut self) {
        // A process that ends leaves it to the next one.
        if let (Some(left), Ok(runtime)) = (self.left.take(), tokio::runtime::Handle::try_current()) {
            let docker = self.docker.clone();
            runtime.spawn(async move { remove(&docker, left).await });
        }
    }
}

async fn remove(docker: &Docker, left: Left) {
    if let Some(container) = &left.container
        && let Err(error) = docker.remove(container, true).await
    {
        tracing::warn!(container = %container.0, %error, "a container that carried a volume was not removed; the next copy of that volume, or its removal, does that");
    }
    drop(remove_image(docker, &left.image));
}

/// In the background: to remove an image the engine asks every container, and one whose volume is
/// being carried answers only when that is done. Its carrier may wait for us.
fn remove_image(docker: &Docker, image: &str) -> tokio::task::JoinHandle<()> {
    let (docker, image) = (docker.clone(), image.to_owned());
    tokio::spawn(async move {
        let path = format!("/images/{}", query_value(&image));
        let call = docker.wire().request::<()>(Method::DELETE, &path, None, false);
        if let Err(error) = docker.within(FILLING, || format!("image {image}"), call).await {
            tracing::debug!(image, %error, "an empty image stays");
        }
    })
}

/// A volume, without what an image may have for it.
fn mounted(volume: &str, read_only: bool) -> serde_json::Value {
    json!({
        "Type": "volume", "Source": volume, "Target": PLACE, "ReadOnly": read_only,
        "VolumeOptions": { "NoCopy": true },
    })
}

fn name_of(volume: &str) -> Result<String> {
    Ok(format!("lattice_porter_{}", checked("volume", volume)?))
}

/// Removes a porter of this volume that somebody left; gives the removal of its image.
pub(super) async fn forget(docker: &Docker, volume: &str) -> Result<Option<tokio::task::JoinHandle<()>>> {
    match look(docker, &name_of(volume)?).await? {
        Some((labels, id, image)) if labels.get(LABEL_PORTER).is_some_and(|label| label == volume) => {
            docker.remove(&ContainerId(id), true).await?;
            Ok(Some(remove_image(docker, &image)))
        }
        // Somebody else's; making one of the same name says so.
        _ => Ok(None),
    }
}

/// The same, unless it carries now: then it is not waited for. Who takes everything away and ends finds no image
/// of it left, where the engine is not busy with another one.
pub(super) async fn forget_idle(docker: &Docker, volume: &str) -> Result<()> {
    let lock = docker.porters().of(volume);
    let Ok(_alone) = lock.try_lock() else { return Err(is_carried(volume)) };
    if let Some(image) = forget(docker, volume).await? {
        let _ = tokio::time::timeout(IMAGE_PATIENCE.as_std(), image).await;
    }
    Ok(())
}

fn is_carried(volume: &str) -> RuntimeError {
    RuntimeError::Conflict {
        what: format!("volume {volume}"),
        message: "its files are being copied already".to_owned(),
    }
}

/// Removes a porter by its container.
pub(super) async fn clear(docker: &Docker, id: String) -> Result<()> {
    if let Some((_, id, image)) = look(docker, &id).await? {
        docker.remove(&ContainerId(id), true).await?;
        drop(remove_image(docker, &image));
    }
    Ok(())
}

/// A container's labels, id and image.
async fn look(docker: &Docker, name: &str) -> Result<Option<(HashMap<String, String>, String, String)>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Seen {
        id: String,
        image: String,
        config: Config,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        #[serde(default)]
        labels: Option<HashMap<String, String>>,
    }
    let path = format!("/containers/{}/json", checked("container", name)?);
    let call = docker.wire().call::<Seen, ()>(Method::GET, &path, None);
    match docker.within(QUICK, || format!("container {name}"), call).await {
        Ok(seen) => Ok(Some((seen.config.labels.unwrap_or_default(), seen.id, seen.image))),
        Err(RuntimeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an image without a file.
async fn empty_image(docker: &Docker) -> Result<String> {
    let path = "/images/create?fromSrc=-";
    let request =
        Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, "application/x-tar");
    let call = async {
        let request = request.body(body_full(Bytes::from_static(&EMPTY)))?;
        let response = docker.wire().send(request).await?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| std::io::Error::other(error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        match image_of(&text).filter(|_| status.is_success()) {
            Some(image) => Ok(image),
            None => Err(Error::DockerResponseServerError { status_code: status.as_u16(), message: text }),
        }
    };
    docker.within(SLOW, || "an empty image".to_owned(), call).await
}

/// The id in the engine's lines about a new image.
fn image_of(answer: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        status: String,
    }
    let lines = answer.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.map(|line| line.status).find(|status| status.starts_with("sha256:"))
}

/// Everything of a volume that is known to be there.
pub(super) async fn read(
    docker: &Docker,
    volume: &str,
    labels: &BTreeMap<String, String>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    carry_out(Porter::new(docker, volume, labels, mounted(volume, true)).await?).await
}

/// Everything of a folder of the engine's machine, which has to be there, in the same form.
pub(super) async fn read_folder(
    docker: &Docker,
    folder: &str,
    labels: &BTreeMap<String, String>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let key: String = folder.chars().map(plain).take(200).collect();
    let mount = json!({ "Type": "bind", "Source": folder, "Target": PLACE, "ReadOnly": true });
    carry_out(Porter::new(docker, &key, labels, mount).await?).await
}

async fn carry_out(porter: Porter) -> Result<BoxStream<'static, Result<Bytes>>> {
    let docker = &porter.docker;
    let archive = files::read(docker, porter.container()?, PLACE).await?;
    let state = Some((archive, porter));
    let stream = futures::stream::unfold(state, async |state| {
        let (mut archive, porter) = state?;
        match archive.next().await {
            Some(part) => Some((part, Some((archive, porter)))),
            None => {
                // Whoever reads to the end finds nothing of it left.
                porter.end().await;
                None
            }
        }
    });
    Ok(stream.boxed())
}

/// Unpacks an archive in a volume that is known to be there.
pub(super) async fn write(
    docker: &Docker,
    volume: &str,
    labels: &BTreeMap<String, String>,
    archive: BoxStream<'static, Bytes>,
) -> Result<()> {
    let porter = Porter::new(docker, volume, labels, mounted(volume, false)).await?;
    in_use(docker, volume).await?;
    let written = files::write_within(FILLING, docker, porter.container()?, "/", archive).await;
    porter.end().await;
    written
}

/// Refuses where something runs that mounts the volume: nothing but us is to write to it.
async fn in_use(docker: &Docker, volume: &str) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct User {
        #[serde(default)]
        names: Vec<String>,
    }
    let filters = json!({ "volume": [volume], "status": ["running", "paused", "restarting"] }).to_string();
    let path = format!("/containers/json?filters={}", query_value(&filters));
    let call = docker.wire().call::<Vec<User>, ()>(Method::GET, &path, None);
    let users = docker.within(QUICK, || format!("users of volume {volume}"), call).await?;
    let names = users.iter().flat_map(|user| &user.names).map(|name| name.trim_start_matches('/'));
    let names = names.collect::<Vec<_>>().join(", ");
    if users.is_empty() {
        return Ok(());
    }
    Err(RuntimeError::Conflict {
        what: format!("volume {volume}"),
        message: format!("{names} runs and mounts it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_image_is_named_in_the_answer() {
        let answer = "{\"status\":\"Importing\"}\r\n{\"status\":\"sha256:00ff\"}\r\n";
        assert_eq!(image_of(answer).as_deref(), Some("sha256:00ff"));
        assert_eq!(image_of("{\"error\":\"no\"}"), None);
    }

    #[tokio::test]
    async fn one_at_a_time_for_each_volume() {
        let porters = Porters::default();
        let first = porters.of("a").lock_owned().await;
        assert!(porters.of("a").try_lock().is_err() && porters.of("b").try_lock().is_ok());
        drop(first);
        assert!(porters.of("a").try_lock().is_ok());
    }
}
