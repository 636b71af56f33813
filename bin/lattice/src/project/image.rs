//! Images that were built here, brought to the server without a registry: the layers that the project
//! has not uploaded yet, then the configuration.

use super::build::docker;
use crate::{error::CliError, terminal::note};
use anyhow::Context as _;
use bytes::Bytes;
use lattice_client::Client;
use lattice_image::{ImageError, Pieces, Saved, SavedLayer, compress, split};
use lattice_model::{ProjectName, spec::ImageDigest};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    io::{self, Read as _},
    process::Stdio,
};
use tokio::sync::mpsc;

/// How much of a layer waits for the network, in pieces.
const PIECES: usize = 4;
/// The most that is read of what Docker says of an image.
const MAX_INSPECTED: u64 = 4 << 20;

/// An image that the server has now.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: ImageDigest,
    /// What came of it, for people.
    pub(crate) said: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(rename = "RootFS")]
    root: Root,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Root {
    #[serde(default)]
    layers: Vec<ImageDigest>,
}

/// Uploads an image of the local Docker, or what the project lacks of it.
pub(crate) async fn share(client: &Client, project: &ProjectName, image: &str) -> anyhow::Result<Shared> {
    let name = image.to_owned();
    let inspected =
        tokio::task::spawn_blocking(move || inspect(&name)).await.context("Docker was not asked")??;
    // An engine with images in containerd has ids of another kind, which the server does not know.
    if let Ok(id) = inspected.id.parse::<ImageDigest>()
        && let Some(view) = client.image(project, id).await?
    {
        let size = lattice_model::Bytes(view.bytes);
        return Ok(Shared { id, said: format!("{} layers, {size}, there already", view.layers.len()) });
    }
    let all: BTreeSet<ImageDigest> = inspected.root.layers.iter().copied().collect();
    let mut wanted = BTreeSet::new();
    for layer in &all {
        if !client.has_layer(project, *layer).await? {
            wanted.insert(*layer);
        }
    }
    note(&format!("uploading {image}: {} of {} layers …", wanted.len(), all.len()));
    // One layer is uploaded while the next one is read.
    let (layers, mut queue) = mpsc::channel(1);
    let (name, lacking) = (image.to_owned(), wanted.clone());
    let saving = tokio::task::spawn_blocking(move || save(&name, &lacking, layers));
    let (mut sent, mut unpacked) = (0, 0);
    while let Some(layer) = queue.recv().await {
        let view = upload(client, project, layer).await?;
        (sent, unpacked) = (sent + view.stored, unpacked + view.bytes);
    }
    let Saved { id, json, config: _ } = saving.await.context("saving the image ended early")??;
    client.put_image(project, id, json).await?;
    let (sent, unpacked) = (lattice_model::Bytes(sent), lattice_model::Bytes(unpacked));
    Ok(Shared {
        id,
        said: format!("{} of {} layers uploaded, {sent} for {unpacked}", wanted.len(), all.len()),
    })
}

fn inspect(image: &str) -> anyhow::Result<Inspected> {
    let output = docker()
        .args(["image", "inspect", "--", image])
        .stderr(Stdio::inherit())
        .output()
        .map_err(super::build::no_docker)?;
    if !output.status.success() || output.stdout.len() as u64 > MAX_INSPECTED {
        return Err(
            CliError::Failed(format!("Docker does not show the image {image} ({})", output.status)).into()
        );
    }
    let mut found: Vec<Inspected> =
        serde_json::from_slice(&output.stdout).context("what Docker says of the image is not understood")?;
    found.pop().ok_or_else(|| CliError::Failed(format!("Docker shows nothing of the image {image}")).into())
}

/// Reads the image out of Docker.
fn save(
    image: &str,
    wanted: &BTreeSet<ImageDigest>,
    layers: mpsc::Sender<SavedLayer>,
) -> anyhow::Result<Saved> {
    let mut child = docker()
        .args(["save", "--", image])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(super::build::no_docker)?;
    let mut out = child.stdout.take().context("Docker has no output")?;
    let given_up = || ImageError::Missing { what: "reader any more".into() };
    let saved = split(&mut out, wanted, &mut |layer| layers.blocking_send(layer).map_err(|_| given_up()));
    if saved.is_ok() {
        // So that it ends well and not by a broken pipe.
        let _ = io::copy(&mut out.by_ref(), &mut io::sink());
    } else {
        let _ = child.kill();
    }
    let status = child.wait().context("Docker cannot be waited for")?;
    let saved = saved.with_context(|| format!("the image {image} cannot be read out of Docker"))?;
    if !status.success() {
        return Err(
            CliError::Failed(format!("the image {image} could not be saved ({status}), see above")).into()
        );
    }
    Ok(saved)
}

async fn upload(
    client: &Client,
    project: &ProjectName,
    layer: SavedLayer,
) -> anyhow::Result<lattice_api::LayerView> {
    let SavedLayer { digest, size, file } = layer;
    let (pieces, queue) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces::new(|piece| pieces.blocking_send(piece).is_ok());
        let done = compress(file, size, &mut out);
        if let Err(error) = &done {
            out.fail(error);
        }
        done
    });
    let stream =
        futures::stream::unfold(queue, async |mut queue| queue.recv().await.map(|next| (next, queue)));
    let view = client.put_layer(project, digest, stream).await;
    let packed = packing.await.context("compressing a layer ended early")?;
    match (view, packed) {
        (Ok(view), _) => Ok(view),
        // The server's word is the cause where it took no more.
        (Err(error @ lattice_client::ClientError::Api(_)), _) | (Err(error), Ok(())) => Err(error.into()),
        (Err(_), Err(error)) => Err(error).context("a layer cannot be sent"),
    }
}
