//! Stacks and volumes.

use super::{
    deploy::{Ask, Begin, decide},
    error::{ApiError, conflict, not_found, refuse},
    extract::{Body, Names, Query},
    images, pins,
    principal::Principal,
    trees, views,
};
use crate::{
    clock,
    rows::{self, Event, StackSource, Stored},
    state::Core,
};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{
    ChangeKind, DeleteStackQuery, DeployQuery, DeployRequest, DeployResult, ErrorBody, List, RunRequest,
    StackDetail, StackQuery, StackView, VolumeQuery, VolumeView,
};
use lattice_identity::{Object, Permission};
use lattice_model::{
    ProjectName, StackId, StackKey,
    resource::{Stack, Volume, Workload},
    spec::{NetworkSpec, StackSpec},
};
use lattice_planner::Row;
use lattice_store::Key;
use std::sync::Arc;

type Answer<T> = Result<Json<T>, ApiError>;

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(StackQuery { project }): Query<StackQuery>,
) -> Json<List<StackView>> {
    let snapshot = core.snapshot();
    let wanted = |row: &&Row<Stack>| {
        project.as_ref().is_none_or(|project| row.key.project.as_str() == project)
            && who.sees(&row.key.project)
    };
    let items = snapshot
        .cluster
        .stacks
        .values()
        .filter(wanted)
        .map(|row| views::stack(&core, &snapshot, row))
        .collect();
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn show(State(core): State<Arc<Core>>, names: Names) -> Answer<StackDetail> {
    let key = names.stack()?;
    let source = core
        .store
        .get(&Key::of(StackSource::KIND, &key))
        .await
        .map_err(|e| crate::state::core::store_refusal(&e.into()))?;
    let source = source.and_then(|record| rows::read::<StackSource>(&record).ok()).map(|row| row.source);
    let snapshot = core.snapshot();
    let row = snapshot
        .cluster
        .stacks
        .get(&key)
        .ok_or_else(|| not_found("stack", &key.to_string(), "lattice ps"))?;
    Ok(Json(StackDetail {
        stack: views::stack(&core, &snapshot, row),
        workloads: snapshot
            .cluster
            .workloads_of(&key)
            .map(|row| views::workload(&core, &snapshot, row))
            .collect(),
        volumes: snapshot.cluster.volumes_of(&key).map(|row| views::volume(&snapshot, row)).collect(),
        networks: row.networks.iter().map(|(name, network)| (name.clone(), network.spec.clone())).collect(),
        source,
    }))
}

pub(crate) async fn deploy(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(DeployQuery { dry_run, hold }): Query<DeployQuery>,
    Body(DeployRequest { spec, source }): Body<DeployRequest>,
) -> Answer<DeployResult> {
    let key = names.stack()?;
    let begin = if hold { Begin::Held } else { Begin::Any };
    Ok(Json(carry_out(&core, &who, &key, &spec, source.as_deref(), begin, dry_run).await?))
}

pub(crate) async fn run(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(RunRequest { project, name, spec }): Body<RunRequest>,
) -> Answer<DeployResult> {
    let key = StackKey { project: project.unwrap_or_else(ProjectName::default_project), stack: name };
    who.require(&core, Permission::StackChange, &Object::Project(key.project.clone())).await?;
    let service = key
        .stack
        .as_str()
        .parse()
        .map_err(|error| super::error::invalid(format!("{error}"), "choose another name"))?;
    // Volumes and networks that it names are its own.
    let volumes = spec.mounts.iter().map(|mount| (mount.volume.clone(), Default::default())).collect();
    let networks = spec.networks.keys().map(|name| (name.clone(), NetworkSpec::default())).collect();
    let stack = StackSpec { workloads: [(service, spec)].into(), volumes, networks };
    Ok(Json(carry_out(&core, &who, &key, &stack, None, Begin::New, false).await?))
}

/// Deploys, or says what that would do. The answer comes when memory shows it.
pub(crate) async fn carry_out(
    core: &Core,
    who: &Principal,
    key: &StackKey,
    spec: &StackSpec,
    source: Option<&str>,
    begin: Begin,
    dry_run: bool,
) -> Result<DeployResult, ErrorBody> {
    let (spec, warnings) = pins::pinned(core, key, spec).await;
    let spec = &spec;
    let lost = &trees::lost(core, spec).await?;
    let lost_images = &images::lost(core, &key.project, spec).await?;
    let ask = Ask {
        key,
        spec,
        source,
        owner: who.owner(),
        lost,
        lost_images,
        begin,
        now: clock::now(),
        policy: &core.config.planning,
        foresight: &core.live.foresight,
        by: &who.name,
    };
    let done = core
        .commit(|snapshot| {
            let mut deployment = decide(snapshot, &ask, &mut clock::random_bits)?;
            deployment.result.dry_run = dry_run;
            deployment.result.warnings.extend(warnings.iter().cloned());
            if dry_run {
                return Ok((Vec::new(), deployment.result));
            }
            let changed = deployment
                .result
                .changes
                .iter()
                .filter(|change| change.kind != ChangeKind::Unchanged)
                .count();
            let text = format!("version {}, {changed} changes", deployment.result.version);
            let mut ops = deployment.ops;
            ops.push(rows::create(&who.audit("stack.deploy", key.to_string(), &text)));
            let event = Event::new("stack.deployed", key.to_string(), text).of_stack(key);
            ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
            Ok((ops, deployment.result))
        })
        .await?;
    Ok(DeployResult { revision: done.revision, ..done.value })
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(DeleteStackQuery { volumes }): Query<DeleteStackQuery>,
) -> Answer<StackView> {
    let key = names.stack()?;
    let done = core
        .commit(|snapshot| {
            let kept: Vec<&Row<Volume>> =
                snapshot.cluster.volumes_of(&key).filter(|row| !row.deleting).collect();
            let old = snapshot.cluster.stacks.get(&key);
            let mut ops = Vec::new();
            let stack = match old {
                Some(row) => Stack { deleting: true, ..(*row.value).clone() },
                // The stack is gone and its volumes are not: it comes back to take them along.
                None if volumes && !kept.is_empty() => Stack {
                    id: StackId::from_random(clock::random_bits()),
                    key: key.clone(),
                    owner: who.owner(),
                    version: 1,
                    networks: Default::default(),
                    deployed_at: clock::now(),
                    deleting: true,
                },
                None if !kept.is_empty() => {
                    let hint =
                        format!("`lattice rm --volumes {}` deletes them and their data, for ever", key.stack);
                    return refuse(conflict(format!("of {key} only volumes are left"), hint));
                }
                None => return refuse(not_found("stack", &key.to_string(), "lattice ps")),
            };
            match old {
                Some(row) if *row.value != stack => ops.push(rows::update(&stack, row.revision)),
                Some(_) => {}
                None => ops.push(rows::create(&stack)),
            }
            let workloads = snapshot.cluster.workloads_of(&key);
            ops.extend(workloads.map(|row| rows::delete::<Workload>(&row.key, Some(row.revision))));
            if volumes {
                ops.extend(kept.iter().map(|row| {
                    rows::update(&Volume { deleting: true, ..(*row.value).clone() }, row.revision)
                }));
            }
            if ops.is_empty() {
                return Ok((ops, stack));
            }
            // It may be deployed again meanwhile, and then its volumes are in use.
            if let Some(row) = old.filter(|row| *row.value == stack) {
                ops.push(rows::check::<Stack>(&key, Some(row.revision)));
            }
            let text = if volumes {
                "to be removed with the data of its volumes"
            } else {
                "to be removed; its volumes stay"
            };
            ops.push(rows::create(&who.audit("stack.delete", key.to_string(), text)));
            let event = Event::new("stack.deleting", key.to_string(), text).of_stack(&key);
            ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
            Ok((ops, stack))
        })
        .await?;
    let snapshot = core.snapshot();
    let view = snapshot.cluster.stacks.get(&key).map(|row| views::stack(&core, &snapshot, row));
    // A stack without containers may be gone already.
    Ok(Json(view.unwrap_or_else(|| StackView::of(&done.value, []))))
}

pub(crate) async fn volumes(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(VolumeQuery { project, stack }): Query<VolumeQuery>,
) -> Json<List<VolumeView>> {
    let snapshot = core.snapshot();
    let wanted = |row: &&Row<Volume>| {
        who.sees(&row.key.project)
            && project.as_ref().is_none_or(|project| row.key.project.as_str() == project)
            && stack.as_ref().is_none_or(|stack| row.key.stack.as_str() == stack)
    };
    let items =
        snapshot.cluster.volumes.values().filter(wanted).map(|row| views::volume(&snapshot, row)).collect();
    Json(List { items, revision: snapshot.revision })
}
