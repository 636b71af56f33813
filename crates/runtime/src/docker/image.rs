//! Images: which there are, archives of them, and what registries say of a name.

use super::{
    client::{Docker, QUICK, SLOW},
    fault::{fault, pull_fault},
    files::complaint,
    pull::credentials,
    stream::body_bytes,
    wire::query_value,
};
use crate::{
    checks::checked,
    error::{Result, RuntimeError},
    port::{ImageResolved, ImageSeen, MAX_IMAGES},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use bollard::{body_full, body_try_stream, errors::Error};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use lattice_model::{Duration, goal::RegistryLogin, spec::ImageDigest};
use serde::Deserialize;
use std::{collections::BTreeSet, io};

/// The longest that taking in an archive may last; what feeds it falls silent much sooner.
const LONG: Duration = Duration::from_secs(3600);
/// How long a registry may take to say what a name stands for.
const RESOLVE: Duration = Duration::from_secs(20);
/// How many images are looked at at the same time.
const INSPECTS: usize = 8;
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS")]
    root: Option<Root>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    #[serde(default)]
    size: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Root {
    layers: Option<Vec<String>>,
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> String {
    match variant.filter(|variant| !variant.is_empty()) {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    }
}

pub(super) async fn look(engine: &Docker, image: &str) -> Result<Option<ImageSeen>> {
    let path = format!("/images/{}/json", checked("image", image)?);
    let call = engine.wire().call::<Inspected, ()>(Method::GET, &path, None);
    match engine.within(QUICK, || format!("image {image}"), call).await {
        Ok(Inspected { id, repo_tags, repo_digests, root, os, architecture, variant, size }) => {
            let layers = root.and_then(|root| root.layers).unwrap_or_default();
            Ok(Some(ImageSeen {
                id,
                tags: repo_tags.unwrap_or_default(),
                digests: repo_digests.unwrap_or_default(),
                layers: layers.iter().filter_map(|layer| layer.parse().ok()).collect(),
                platform: platform(&os, &architecture, variant.as_deref()),
                size: lattice_model::Bytes(u64::try_from(size).unwrap_or(0)),
            }))
        }
        Err(RuntimeError::ImageMissing { .. } | RuntimeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn list(engine: &Docker) -> Result<Vec<ImageSeen>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        id: String,
        #[serde(default)]
        created: i64,
    }
    let call = engine.wire().call::<Vec<Listed>, ()>(Method::GET, "/images/json", None);
    let mut listed = engine.within(SLOW, || "list of images".to_owned(), call).await?;
    listed.sort_by_key(|image| std::cmp::Reverse(image.created));
    listed.truncate(MAX_IMAGES);
    let seen: Vec<Option<ImageSeen>> = futures::stream::iter(listed)
        .map(|image| async move { look(engine, &image.id).await })
        .buffered(INSPECTS)
        .try_collect()
        .await?;
    Ok(seen.into_iter().flatten().collect())
}

/// What an engine says while it takes in an archive: its last word is an error where it failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct News {
    error: Option<String>,
}

pub(super) async fn load(engine: &Docker, archive: BoxStream<'static, io::Result<Bytes>>) -> Result<()> {
    let what = || "an image's archive".to_owned();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/images/load?quiet=1")
        .header(header::CONTENT_TYPE, "application/x-tar");
    let call = async {
        let response = engine.wire().send(request.body(body_try_stream(archive))?).await?;
        if !response.status().is_success() {
            return Err(complaint(response).await);
        }
        let mut body = body_bytes(response.into_body());
        let mut text = Vec::new();
        while let Some(bytes) = body.next().await {
            text.extend_from_slice(&bytes?);
            if text.len() > MAX_ANSWER {
                break;
            }
        }
        let said = serde_json::Deserializer::from_slice(&text).into_iter::<News>();
        match said.map_while(|news| news.ok()).find_map(|news| news.error) {
            Some(error) => Err(Error::DockerStreamError { error }),
            None => Ok(()),
        }
    };
    match tokio::time::timeout(LONG.as_std(), call).await {
        Ok(Ok(())) => Ok(()),
        // A status of its own keeps what follows from it: a full disk, or a refusal.
        Ok(Err(Error::DockerStreamError { error })) => {
            let error = Error::DockerResponseServerError { status_code: 500, message: error };
            Err(fault(error, engine.wire().socket(), &what()))
        }
        Ok(Err(error)) => Err(fault(error, engine.wire().socket(), &what())),
        Err(_) => Err(RuntimeError::Timeout { what: what(), after: LONG }),
    }
}

pub(super) async fn remove(engine: &Docker, image: &str) -> Result<bool> {
    // Images below it that have no name are somebody's build cache.
    let path = format!("/images/{}?noprune=1", checked("image", image)?);
    let call = engine.wire().request::<()>(Method::DELETE, &path, None, false);
    match engine.within(SLOW, || format!("image {image}"), call).await {
        Ok(_) => Ok(true),
        Err(RuntimeError::ImageMissing { .. } | RuntimeError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn resolve(
    engine: &Docker,
    image: &str,
    login: Option<&RegistryLogin>,
) -> Result<ImageResolved> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Distribution {
        descriptor: Descriptor,
        #[serde(default)]
        platforms: Option<Vec<Platform>>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: ImageDigest,
    }
    #[derive(Deserialize)]
    struct Platform {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let path = format!("/distribution/{}/json", query_value(checked("image", image)?).replace("%2F", "/"));
    let mut request = Request::builder().method(Method::GET).uri(path);
    if let Some(login) = login {
        let json = serde_json::to_vec(&credentials(image, login)?).unwrap_or_default();
        request = request.header("X-Registry-Auth", BASE64_URL_SAFE.encode(json));
    }
    let call = async {
        let response = engine.wire().send(request.body(body_full(Bytes::new()))?).await?;
        if !response.status().is_success() {
            return Err(complaint(response).await);
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let whole = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(serde_json::from_slice::<Distribution>(&whole.to_bytes())?)
    };
    let found = match tokio::time::timeout(RESOLVE.as_std(), call).await {
        Ok(found) => found.map_err(|error| pull_fault(error, engine.wire().socket(), image))?,
        Err(_) => {
            let message = format!("it said nothing for {RESOLVE}");
            return Err(RuntimeError::RegistryUnreachable { image: image.to_owned(), message });
        }
    };
    let Distribution { descriptor, platforms } = found;
    // Attestations are listed as being for an unknown machine.
    let known = |p: &Platform| !p.os.is_empty() && !p.architecture.is_empty() && p.os != "unknown";
    let platforms: BTreeSet<String> = platforms
        .unwrap_or_default()
        .iter()
        .filter(|p| known(p))
        .map(|p| platform(&p.os, &p.architecture, p.variant.as_deref()))
        .collect();
    Ok(ImageResolved { digest: descriptor.digest, platforms })
}
