//! Trees of files: uploaded before the deployment that names them, per project. That another project
//! has the same files is nobody's to know: each uploads them whole.

use super::{
    error::{ApiError, invalid, not_found},
    extract::Names,
    principal::Principal,
    projects,
};
use crate::{
    blobs::{NotTaken, Stored, What},
    clock,
    error::chain,
    rows::{self, ProjectRow, TreeRow, tree_id},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    body::Body,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode, header::CONTENT_LENGTH},
};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_api::{ErrorBody, ErrorCode, Problem, TreeView};
use lattice_model::{
    ProjectName,
    spec::{StackSpec, TreeDigest},
};
use lattice_store::Op;
use std::{collections::BTreeSet, sync::Arc};

fn names(names: &Names) -> Result<(ProjectName, TreeDigest), ErrorBody> {
    Ok((names.get("project")?, names.get("digest")?))
}

/// Whether a project has a tree. The answer has no body, as HTTP wants it.
pub(crate) async fn look(State(core): State<Arc<Core>>, parts: Names) -> Result<StatusCode, ApiError> {
    let (project, digest) = names(&parts)?;
    let known = core.snapshot().trees.contains_key(&tree_id(&project, digest));
    match known && there(&core, digest).await? {
        true => Ok(StatusCode::OK),
        false => Err(not_found("tree", &digest.to_string(), "lattice deploy").into()),
    }
}

/// Whether its archive is where this server keeps them.
async fn there(core: &Core, digest: TreeDigest) -> Result<bool, ErrorBody> {
    core.blobs.size(digest).await.map(|size| size.is_some()).map_err(|error| {
        tracing::error!(%error, "the folder of blobs cannot be read");
        ErrorBody::new(
            ErrorCode::Internal,
            "the server's folder of uploaded files cannot be read",
            "look at the server's log and its disk",
        )
    })
}

pub(crate) async fn upload(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    parts: Names,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TreeView>, ApiError> {
    let (project, digest) = names(&parts)?;
    projects::must_exist(&core.snapshot(), &project)?;
    let Ok(_place) = core.live.uploads.try_acquire() else {
        let text = "the server takes in as many uploads as it can";
        return Err(ErrorBody::new(ErrorCode::TooManyRequests, text, "try again in a moment").into());
    };
    let room = room(&core, &core.snapshot(), &project, digest);
    let told = headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    if let Some(bytes) = told.filter(|bytes| *bytes > room) {
        return Err(too_much(&core, &project, bytes, room).into());
    }
    let body = body.into_data_stream().map_err(std::io::Error::other).boxed();
    let Stored { bytes, what } = match core.blobs.put(digest, room, body).await {
        Ok(stored) => stored,
        Err(NotTaken::TooMuch(_)) => {
            return Err(too_much(&core, &project, told.unwrap_or(room + 1), room).into());
        }
        Err(error) => return Err(not_taken(&error).into()),
    };
    let id = tree_id(&project, digest);
    let done = core
        .commit(|snapshot| {
            let home = projects::must_exist(snapshot, &project)?;
            let old = snapshot.trees.get(&id);
            // Others of the project may have uploaded meanwhile.
            let room = self::room(&core, snapshot, &project, digest);
            if bytes > room {
                return Err(too_much(&core, &project, bytes, room).into());
            }
            let row = TreeRow {
                project: project.clone(),
                digest,
                bytes,
                uploaded_at: clock::now(),
                uploaded_by: who.name.clone(),
                unused_since: None,
            };
            let write = match old {
                Some(old) => rows::update(&row, old.revision),
                None => rows::create(&row),
            };
            let text = match what {
                What::Tree(summary) => format!("{bytes} bytes, {} entries", summary.entries),
                What::Layer(_) => format!("{bytes} bytes"),
            };
            let audit = who.audit("tree.upload", id.clone(), &text);
            let view = TreeView { project: project.clone(), digest, bytes, uploaded_at: row.uploaded_at };
            let home = rows::check::<ProjectRow>(&project, Some(home.revision));
            Ok((vec![write, home, rows::create(&audit)], view))
        })
        .await?;
    // The housekeeper may have taken an older copy away that no row named, just before this one's.
    if !there(&core, digest).await? {
        return Err(not_taken(&NotTaken::Broken("it was cleared away in the same moment".into())).into());
    }
    Ok(Json(done.value))
}

/// How much a project may still upload, in bytes, that tree aside.
fn room(core: &Core, snapshot: &Snapshot, project: &ProjectName, digest: TreeDigest) -> u64 {
    let of_project = snapshot.trees.values().filter(|row| row.project == *project && row.digest != digest);
    core.config
        .blobs_per_project
        .0
        .saturating_sub(of_project.map(|row| row.bytes).sum())
        .min(lattice_tree::MAX_BYTES)
}

fn too_much(core: &Core, project: &ProjectName, bytes: u64, room: u64) -> ErrorBody {
    let quota = core.config.blobs_per_project;
    let text = match room < lattice_tree::MAX_BYTES {
        true => format!(
            "{bytes} bytes of files are more than project {project} may still upload: {room} of {quota}"
        ),
        false => format!("{bytes} bytes of files are more than the {room} that one tree may have"),
    };
    let hint = "put large files into an image or a volume; what no stack uses is removed after a day";
    ErrorBody::new(ErrorCode::TooLarge, text, hint)
}

pub(super) fn not_taken(error: &NotTaken) -> ErrorBody {
    let text = chain(error);
    match error {
        NotTaken::Disk(_) => {
            tracing::error!(error = text, "an upload was not kept");
            let hint = "look at the room on the server's disk, then deploy again";
            ErrorBody::new(ErrorCode::Unavailable, "the server could not keep the files", hint)
        }
        NotTaken::OtherDigest(_) => {
            ErrorBody::new(ErrorCode::Mismatch, text, "deploy again; the files changed")
        }
        NotTaken::Broken(_) => invalid(text, "deploy again"),
        NotTaken::TooMuch(_) => ErrorBody::new(ErrorCode::TooLarge, text, "upload less"),
        NotTaken::Layer(lattice_image::ImageError::TooLarge { .. }) => ErrorBody::new(
            ErrorCode::TooLarge,
            text,
            "put large data into a volume, or remove images that no stack uses",
        ),
        NotTaken::Tree(_) | NotTaken::Layer(_) => {
            ErrorBody::new(ErrorCode::InvalidSpec, text, "correct it, then deploy again")
        }
    }
}

/// The trees that a stack names.
pub(crate) fn named(spec: &StackSpec) -> BTreeSet<TreeDigest> {
    spec.workloads.values().flat_map(|workload| workload.trees.iter().map(|mount| mount.tree)).collect()
}

/// Whether all archives that a stack names are on this server's disk; those that are not are to be
/// uploaded (again), whatever the rows say.
pub(crate) async fn lost(core: &Core, spec: &StackSpec) -> Result<BTreeSet<TreeDigest>, ErrorBody> {
    let mut lost = BTreeSet::new();
    for digest in named(spec) {
        if !there(core, digest).await? {
            lost.insert(digest);
        }
    }
    Ok(lost)
}

/// Refuses a stack that names trees that the project has not uploaded; else the operations that keep
/// the housekeeper from removing them meanwhile.
pub(crate) fn require(
    snapshot: &Snapshot,
    project: &ProjectName,
    spec: &StackSpec,
    lost: &BTreeSet<TreeDigest>,
) -> Result<Vec<Op>, ErrorBody> {
    let (mut kept, mut missing) = (Vec::new(), Vec::new());
    for digest in named(spec) {
        let id = tree_id(project, digest);
        match snapshot.trees.get(&id).filter(|_| !lost.contains(&digest)) {
            Some(row) => kept.push(rows::check::<TreeRow>(id, Some(row.revision))),
            None => missing.push(Problem {
                hint: Some("`lattice deploy` uploads it by itself".into()),
                ..Problem::at(digest.to_string(), "the server does not have these files")
            }),
        }
    }
    match missing.is_empty() {
        true => Ok(kept),
        false => {
            let text = format!("{} sets of files are not on the server yet", missing.len());
            let hint = "upload each with PUT /v1/projects/{project}/trees/{digest}, then deploy again";
            Err(ErrorBody::new(ErrorCode::MissingTrees, text, hint).with_details(missing))
        }
    }
}
