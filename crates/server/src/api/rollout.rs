//! How an update fares, and the way back to a former version. Going back is a deployment of what was,
//! so it is checked like any other; containers of that version that still run stay.

use super::{
    deploy::Begin,
    error::{ApiError, conflict, not_found},
    extract::{Names, Query},
    principal::Principal,
    stacks::carry_out,
    views,
};
use crate::state::{Core, Snapshot};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{
    DeployResult, ErrorBody, RevisionView, RolloutState, RolloutView, RolloutWorkload, UndoQuery,
};
use lattice_model::{
    StackKey, WorkloadName,
    resource::{StackRevision, Workload},
    spec::{StackSpec, WorkloadSpec},
};
use lattice_planner::{Row, rollout::failing};
use std::sync::Arc;

/// How many deployments of a stack are kept.
pub(crate) const KEPT: usize = 10;

/// The kept deployments of a stack, oldest first.
pub(crate) fn revisions<'a>(
    snapshot: &'a Snapshot,
    stack: &StackKey,
) -> impl DoubleEndedIterator<Item = &'a Row<StackRevision>> {
    let range = (stack.clone(), 0)..=(stack.clone(), u64::MAX);
    snapshot.stack_revisions.range(range).map(|(_, row)| row)
}

fn workload(core: &Core, snapshot: &Snapshot, row: &Workload) -> RolloutWorkload {
    let view = views::workload(core, snapshot, row);
    let failing = failing(&snapshot.cluster, row, crate::clock::now());
    let state = match (row.settled == row.generation, failing.too_many) {
        (true, _) => RolloutState::Done,
        (false, true) => RolloutState::Paused,
        (false, false) => RolloutState::Rolling,
    };
    let mut waits: Vec<String> = view.pending.iter().map(|slot| slot.why.clone()).collect();
    waits.dedup();
    RolloutWorkload {
        name: view.name,
        generation: row.generation,
        state,
        updated: view.serving,
        replicas: view.replicas,
        failing: failing.slots,
        waits,
        rolled_back: row.rolled_back.clone(),
    }
}

pub(crate) async fn status(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<RolloutView>, ApiError> {
    let key = names.stack()?;
    let snapshot = core.snapshot();
    let stack = snapshot
        .cluster
        .stacks
        .get(&key)
        .ok_or_else(|| not_found("stack", &key.to_string(), "lattice ps"))?;
    let image = |revision: &StackRevision| {
        let one = |(name, generation): (&WorkloadName, &u64)| {
            let kept = snapshot.cluster.revisions.get(&(key.workload(name.clone()), *generation))?;
            Some((name.clone(), kept.spec.image.clone()))
        };
        revision.workloads.iter().filter_map(one).collect()
    };
    let revision = |row: &Row<StackRevision>| RevisionView {
        version: row.version,
        came_up: came_up(&snapshot, row),
        at: row.at,
        by: row.by.clone(),
        images: image(row),
    };
    Ok(Json(RolloutView {
        version: stack.version,
        workloads: snapshot.cluster.workloads_of(&key).map(|row| workload(&core, &snapshot, row)).collect(),
        revisions: revisions(&snapshot, &key).rev().map(revision).collect(),
    }))
}

/// Whether all of a kept deployment served at a time.
fn came_up(snapshot: &Snapshot, revision: &StackRevision) -> bool {
    let kept = |name: &WorkloadName, generation: u64| {
        snapshot.cluster.revisions.get(&(revision.stack.workload(name.clone()), generation))
    };
    revision.workloads.iter().all(|(name, generation)| kept(name, *generation).is_some_and(|row| row.came_up))
}

/// What a kept deployment was.
fn was(snapshot: &Snapshot, key: &StackKey, to: Option<u64>) -> Result<StackSpec, ErrorBody> {
    let stack =
        snapshot.cluster.stacks.get(key).ok_or_else(|| not_found("stack", &key.to_string(), "lattice ps"))?;
    let found = match to {
        Some(version) => revisions(snapshot, key).find(|row| row.version == version),
        None => revisions(snapshot, key).rfind(|row| row.version < stack.version && came_up(snapshot, row)),
    };
    let hint = format!(
        "`lattice rollout status {}` lists what is kept, `lattice rollout undo {} --to N` goes to one of it",
        key.stack, key.stack
    );
    let gone = || match to {
        Some(version) => conflict(format!("version {version} of {key} is not kept"), hint.clone()),
        None => conflict(format!("no version of {key} before {} came up", stack.version), hint.clone()),
    };
    let revision = found.ok_or_else(gone)?;
    let mut spec = StackSpec {
        networks: revision.networks.clone(),
        volumes: revision.volumes.clone(),
        ..StackSpec::default()
    };
    for (name, generation) in &revision.workloads {
        let kept =
            snapshot.cluster.revisions.get(&(key.workload(name.clone()), *generation)).ok_or_else(gone)?;
        let replicas = revision.replicas.get(name).copied().unwrap_or(kept.spec.replicas);
        spec.workloads.insert(name.clone(), WorkloadSpec { replicas, ..(*kept.spec).clone() });
    }
    Ok(spec)
}

pub(crate) async fn undo(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(UndoQuery { to, dry_run }): Query<UndoQuery>,
) -> Result<Json<DeployResult>, ApiError> {
    let key = names.stack()?;
    let spec = was(&core.snapshot(), &key, to)?;
    Ok(Json(carry_out(&core, &who, &key, &spec, None, Begin::Any, dry_run).await?))
}
