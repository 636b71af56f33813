//! Images without a registry: layers are uploaded, then the configuration that names them, per project.
//!
//! That another project has the same layer is nobody's to know, nor to use: each uploads it whole, and
//! an image is taken in only where its own project has all its layers. What counts against the quota is
//! what comes out of a layer, so that little that becomes much is not had for little.

use super::{
    error::{ApiError, not_found},
    extract::{Names, Raw},
    principal::Principal,
    trees::not_taken,
};
use crate::{
    blobs::{NotTaken, Stored, What},
    clock,
    rows::{self, ImageRow, LayerRow, image_id},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    body::Body,
    extract::{Extension, State},
    http::StatusCode,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use lattice_api::{ErrorBody, ErrorCode, ImageView, LayerView, List, Problem};
use lattice_image::{Config, MAX_LAYER};
use lattice_model::{
    ProjectName,
    spec::{ImageDigest, ImagePin, ImageSource, StackSpec, TreeDigest},
};
use lattice_planner::Row;
use lattice_store::Op;
use std::{collections::BTreeSet, sync::Arc};

fn names(names: &Names) -> Result<(ProjectName, ImageDigest), ErrorBody> {
    Ok((names.get("project")?, names.get("digest")?))
}

/// A layer's place among the blobs.
pub(crate) fn blob(digest: ImageDigest) -> TreeDigest {
    TreeDigest::from_sha256(*digest.as_bytes())
}

/// Whether a layer is on this server's disk.
pub(crate) async fn there(core: &Core, digest: ImageDigest) -> Result<bool, ErrorBody> {
    core.layers.size(blob(digest)).await.map(|size| size.is_some()).map_err(|error| {
        tracing::error!(%error, "the folder of layers cannot be read");
        let hint = "look at the server's log and its disk";
        ErrorBody::new(ErrorCode::Internal, "the server's folder of uploaded images cannot be read", hint)
    })
}

/// Whether a project has a layer. The answer has no body, as HTTP wants it.
pub(crate) async fn look(State(core): State<Arc<Core>>, parts: Names) -> Result<StatusCode, ApiError> {
    let (project, digest) = names(&parts)?;
    let known = core.snapshot().layers.contains_key(&image_id(&project, digest));
    match known && there(&core, digest).await? {
        true => Ok(StatusCode::OK),
        false => Err(not_found("layer", &digest.to_string(), "lattice deploy").into()),
    }
}

pub(crate) async fn upload(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    parts: Names,
    body: Body,
) -> Result<Json<LayerView>, ApiError> {
    let (project, digest) = names(&parts)?;
    let Ok(_place) = core.live.uploads.try_acquire() else {
        let text = "the server takes in as many uploads as it can";
        return Err(ErrorBody::new(ErrorCode::TooManyRequests, text, "try again in a moment").into());
    };
    let body = body.into_data_stream().map_err(std::io::Error::other).boxed();
    take_layer(&core, &who, &project, digest, body).await.map(Json)
}

/// Takes in a layer, whole and within the quota.
pub(crate) async fn take_layer(
    core: &Core,
    who: &Principal,
    project: &ProjectName,
    digest: ImageDigest,
    body: BoxStream<'static, std::io::Result<Bytes>>,
) -> Result<LayerView, ApiError> {
    let room = room(core, &core.snapshot(), project, digest);
    let (stored, bytes) = match core.layers.put(blob(digest), room, body).await {
        Ok(Stored { bytes: stored, what: What::Layer(bytes) }) => (stored, bytes),
        Ok(Stored { bytes, what: What::Tree(_) }) => (bytes, bytes),
        Err(NotTaken::TooMuch(_) | NotTaken::Layer(lattice_image::ImageError::TooLarge { .. })) => {
            return Err(too_much(core, project, room).into());
        }
        Err(error) => return Err(not_taken(&error).into()),
    };
    let id = image_id(project, digest);
    let done = core
        .commit(|snapshot| {
            // Others of the project may have uploaded meanwhile.
            let room = self::room(core, snapshot, project, digest);
            if bytes > room {
                return Err(too_much(core, project, room).into());
            }
            let row = LayerRow {
                project: project.clone(),
                digest,
                bytes,
                stored,
                uploaded_at: clock::now(),
                uploaded_by: who.name.clone(),
                unused_since: None,
            };
            let write = match snapshot.layers.get(&id) {
                Some(old) => rows::update(&row, old.revision),
                None => rows::create(&row),
            };
            let audit = who.audit("layer.upload", id.clone(), &format!("{stored} bytes, {bytes} unpacked"));
            let view = LayerView { project: project.clone(), digest, bytes, stored };
            Ok((vec![write, rows::create(&audit)], view))
        })
        .await?;
    // The housekeeper may have taken an older copy away that no row named, just before this one's.
    if !there(core, digest).await? {
        return Err(not_taken(&NotTaken::Broken("it was cleared away in the same moment".into())).into());
    }
    Ok(done.value)
}

/// How much a project may still upload, in bytes unpacked, that layer aside.
fn room(core: &Core, snapshot: &Snapshot, project: &ProjectName, digest: ImageDigest) -> u64 {
    let of_project = snapshot.layers.values().filter(|row| row.project == *project && row.digest != digest);
    let used = of_project.map(|row| row.bytes).sum();
    core.config.images_per_project.0.saturating_sub(used).min(MAX_LAYER)
}

fn too_much(core: &Core, project: &ProjectName, room: u64) -> ErrorBody {
    let quota = core.config.images_per_project;
    let text = match room < MAX_LAYER {
        true => format!(
            "the layer is more than project {project} may still upload: {} of {quota} unpacked",
            lattice_model::Bytes(room)
        ),
        false => format!("the layer has more than {} unpacked", lattice_model::Bytes(MAX_LAYER)),
    };
    let hint =
        "make the image smaller, or keep data in a volume; images that no stack uses are removed after a day";
    ErrorBody::new(ErrorCode::TooLarge, text, hint)
}

pub(crate) fn view(snapshot: &Snapshot, row: &ImageRow) -> ImageView {
    let bytes =
        |layer: &ImageDigest| snapshot.layers.get(&image_id(&row.project, *layer)).map_or(0, |l| l.bytes);
    ImageView {
        project: row.project.clone(),
        id: row.id,
        platform: row.platform.clone(),
        bytes: row.layers.iter().collect::<BTreeSet<_>>().into_iter().map(bytes).sum(),
        layers: row.layers.clone(),
        uploaded_at: row.uploaded_at,
        unused_since: row.unused_since,
    }
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    parts: Names,
) -> Result<Json<List<ImageView>>, ApiError> {
    let project: ProjectName = parts.get("project")?;
    let snapshot = core.snapshot();
    let of_project = snapshot.images.values().filter(|row| row.project == project);
    let items = of_project.map(|row| view(&snapshot, row)).collect();
    Ok(Json(List { items, revision: snapshot.revision }))
}

/// An image that can be deployed: 404 also where a part of it is not on the server's disk any more.
pub(crate) async fn show(State(core): State<Arc<Core>>, parts: Names) -> Result<Json<ImageView>, ApiError> {
    let (project, id) = names(&parts)?;
    let snapshot = core.snapshot();
    let row = snapshot.images.get(&image_id(&project, id));
    match row {
        Some(row) if lacking(&core, &snapshot, row).await?.is_none() => Ok(Json(view(&snapshot, row))),
        _ => Err(not_found("image", &id.to_string(), "lattice deploy").into()),
    }
}

/// The first layer of an image that is not there.
pub(crate) async fn lacking(
    core: &Core,
    snapshot: &Snapshot,
    row: &ImageRow,
) -> Result<Option<ImageDigest>, ErrorBody> {
    for layer in &row.layers {
        let known = snapshot.layers.contains_key(&image_id(&row.project, *layer));
        if !known || !there(core, *layer).await? {
            return Ok(Some(*layer));
        }
    }
    Ok(None)
}

pub(crate) async fn register(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    parts: Names,
    Raw(json): Raw,
) -> Result<Json<ImageView>, ApiError> {
    let (project, id) = names(&parts)?;
    take_image(&core, &who, &project, id, &json, None).await.map(Json)
}

/// Takes in an image whose layers are there; `built_of` says of what a node built it.
pub(crate) async fn take_image(
    core: &Core,
    who: &Principal,
    project: &ProjectName,
    id: ImageDigest,
    json: &[u8],
    built_of: Option<String>,
) -> Result<ImageView, ApiError> {
    let found = ImageDigest::of(json);
    if found != id {
        let text =
            format!("the configuration has the digest {found}, and not the one that it was sent under");
        return Err(ErrorBody::new(ErrorCode::Mismatch, text, "deploy again; the image changed").into());
    }
    let invalid = |text: String| {
        ErrorBody::new(ErrorCode::InvalidSpec, text, "build the image again, then deploy again")
    };
    let Config { platform, layers } = Config::read(json).map_err(|error| invalid(error.to_string()))?;
    let config =
        String::from_utf8(json.to_vec()).map_err(|_| invalid("the configuration is no text".into()))?;
    let mut lost = BTreeSet::new();
    for layer in layers.iter().collect::<BTreeSet<_>>() {
        if !there(core, *layer).await? {
            lost.insert(*layer);
        }
    }
    let key = image_id(project, id);
    let done = core
        .commit(|snapshot| {
            let mut ops = Vec::new();
            let mut missing = Vec::new();
            for layer in layers.iter().collect::<BTreeSet<_>>() {
                let at = image_id(project, *layer);
                match snapshot.layers.get(&at).filter(|_| !lost.contains(layer)) {
                    Some(row) => ops.push(rows::check::<LayerRow>(at, Some(row.revision))),
                    None => missing
                        .push(Problem::at(layer.to_string(), "the project has not uploaded this layer")),
                }
            }
            if !missing.is_empty() {
                let text = format!("{} layers of the image are not on the server yet", missing.len());
                let hint = "upload each with PUT /v1/projects/{project}/layers/{digest}, then this again";
                return Err(ErrorBody::new(ErrorCode::MissingLayers, text, hint)
                    .with_details(missing)
                    .into());
            }
            let mut row = ImageRow {
                project: project.clone(),
                id,
                platform: platform.clone(),
                layers: layers.clone(),
                config: config.clone(),
                uploaded_at: clock::now(),
                uploaded_by: who.name.clone(),
                unused_since: None,
                built_of: built_of.clone(),
            };
            row.built_of = row.built_of.or_else(|| snapshot.images.get(&key)?.built_of.clone());
            ops.push(match snapshot.images.get(&key) {
                Some(old) => rows::update(&row, old.revision),
                None => rows::create(&row),
            });
            ops.push(rows::create(&who.audit(
                "image.upload",
                key.clone(),
                &format!("{} layers", layers.len()),
            )));
            Ok((ops, view(snapshot, &row)))
        })
        .await?;
    Ok(done.value)
}

fn pins(spec: &StackSpec) -> impl Iterator<Item = (&lattice_model::WorkloadName, &ImagePin)> {
    spec.workloads.iter().filter_map(|(name, workload)| Some((name, workload.pin.as_ref()?)))
}

/// The uploaded images that a stack names and that are not wholly on this server's disk, whatever the
/// rows say.
pub(crate) async fn lost(
    core: &Core,
    project: &ProjectName,
    spec: &StackSpec,
) -> Result<BTreeSet<ImageDigest>, ErrorBody> {
    let snapshot = core.snapshot();
    let mut lost = BTreeSet::new();
    for (_, pin) in pins(spec).filter(|(_, pin)| pin.from == ImageSource::Server) {
        if let Some(row) = snapshot.images.get(&image_id(project, pin.digest))
            && lacking(core, &snapshot, row).await?.is_some()
        {
            lost.insert(pin.digest);
        }
    }
    Ok(lost)
}

/// Refuses a stack that names images that the project has not uploaded; else the operations that keep
/// the housekeeper from removing them meanwhile.
pub(crate) fn require(
    snapshot: &Snapshot,
    project: &ProjectName,
    spec: &StackSpec,
    lost: &BTreeSet<ImageDigest>,
) -> Result<Vec<Op>, ErrorBody> {
    let (mut kept, mut missing) = (Vec::new(), Vec::new());
    let named: BTreeSet<ImageDigest> =
        pins(spec).filter(|(_, pin)| pin.from == ImageSource::Server).map(|(_, pin)| pin.digest).collect();
    for digest in named {
        let id = image_id(project, digest);
        match snapshot.images.get(&id).filter(|_| !lost.contains(&digest)) {
            Some(row) => kept.push(rows::check::<ImageRow>(id, Some(row.revision))),
            None => missing.push(Problem {
                hint: Some("`lattice deploy` uploads it by itself".into()),
                ..Problem::at(digest.to_string(), "the server does not have this image")
            }),
        }
    }
    match missing.is_empty() {
        true => Ok(kept),
        false => {
            let text = format!("{} images are not on the server yet", missing.len());
            let hint = "upload each with PUT /v1/projects/{project}/images/{digest}, then deploy again";
            Err(ErrorBody::new(ErrorCode::MissingImages, text, hint).with_details(missing))
        }
    }
}

/// What an image is made for is what the server read in it, whatever was sent.
pub(crate) fn with_platforms(snapshot: &Snapshot, project: &ProjectName, spec: &StackSpec) -> StackSpec {
    let mut spec = spec.clone();
    for pin in spec.workloads.values_mut().filter_map(|workload| workload.pin.as_mut()) {
        if pin.from == ImageSource::Server
            && let Some(row) = snapshot.images.get(&image_id(project, pin.digest))
        {
            pin.platforms = [row.platform.clone()].into();
        }
    }
    spec
}

/// The images that the rows of a project's work name, and whether one of them has a layer.
pub(crate) fn has_layer(row: &Row<ImageRow>, layer: ImageDigest) -> bool {
    row.layers.contains(&layer)
}
