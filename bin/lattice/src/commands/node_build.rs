//! Images that a node builds, seen from here: the context goes up, what the build says comes down.

use super::interrupted;
use crate::{
    args::BuildOn,
    context::Context as Ctx,
    error::CliError,
    project::{Context, answers, context},
    terminal::{note, note_raw},
};
use anyhow::Context as _;
use lattice_api::{BuildRecord, ImageView};
use lattice_client::ClientError;
use lattice_compose::Build;
use lattice_model::{Bytes, NodeName, ProjectName, WorkloadName, spec::Pools};
use std::path::Path;

/// Where the images of a project are built.
pub(super) enum Where {
    Here,
    /// On this node, or on one that the scheduler picks.
    Node(Option<NodeName>),
}

/// What was said, or else with a Docker that answers here.
pub(super) async fn choose(said: Option<&BuildOn>) -> Where {
    match said {
        Some(BuildOn::Local) => Where::Here,
        Some(BuildOn::Node) => Where::Node(None),
        Some(BuildOn::Named(name)) => Where::Node(Some(name.clone())),
        None if answers().await => Where::Here,
        None => {
            note("no Docker answers here, so a node builds (--build-on)");
            Where::Node(None)
        }
    }
}

/// Builds a service's image on a node. The server has it then; with what came of it, for people.
pub(super) async fn build(
    ctx: &Ctx,
    project: &ProjectName,
    service: &WorkloadName,
    (folder, how): (&Path, &Build),
    pool: Pools,
    node: Option<NodeName>,
) -> anyhow::Result<(ImageView, String)> {
    let (place, name, build) = (folder.to_owned(), service.clone(), how.clone());
    let packing = tokio::task::spawn_blocking(move || context(&place, &name, &build, pool, node));
    let Context { tree, start } = packing.await.context("packing ended early")??;
    let size = Bytes(tree.summary.bytes);
    if !ctx.client.has_tree(project, tree.digest).await? {
        note(&format!("uploading what {service} is built from: {} files, {size} …", tree.summary.entries));
        let _ = ctx.client.put_tree(project, tree.digest, tree.archive).await?;
    }
    note(&format!("building {service} on a node …"));
    let mut records = ctx.client.build(project, &start).await?;
    let mut on = String::from("a node");
    loop {
        let next = tokio::select! {
            next = records.next() => next,
            () = interrupted() => {
                // Dropping the stream ends the build.
                return Err(CliError::Interrupted("the build was ended; nothing was deployed").into());
            }
        };
        match next {
            Some(Ok(BuildRecord::Placed { node, why })) => {
                note(&format!("{service} is built on {node} ({why})"));
                on = node.to_string();
            }
            Some(Ok(BuildRecord::Output { text })) => note_raw(text.as_bytes()),
            Some(Ok(BuildRecord::Uploading { layer, of })) => {
                note(&format!("layer {layer} of {of} goes to the server …"));
            }
            Some(Ok(BuildRecord::Done { image, reused: true })) => {
                return Ok((image, "built of the same before, there already".to_owned()));
            }
            Some(Ok(BuildRecord::Done { image, reused: false })) => {
                let said = format!("{} layers, {}, built on {on}", image.layers.len(), Bytes(image.bytes));
                return Ok((image, said));
            }
            Some(Ok(BuildRecord::Failed { error })) => {
                let error = anyhow::Error::from(ClientError::Api(error));
                return Err(error.context(format!(
                    "the image of {service} could not be built on {on}, see above; nothing was deployed"
                )));
            }
            Some(Err(error)) => return Err(error).context("the server's word on the build broke off"),
            None => {
                return Err(CliError::Failed(
                    "the server ended the build without a word; deploy again".into(),
                )
                .into());
            }
        }
    }
}
