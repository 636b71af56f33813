//! How an update fares, what people decide about it, and the way back to a former version. Going back is a
//! deployment of what was, so it is checked like any other; containers of that version that still run stay.

use super::{
    deploy::Begin,
    error::{ApiError, conflict, not_found},
    extract::{Names, Query},
    principal::Principal,
    stacks::carry_out,
    views,
};
use crate::{
    clock,
    rows::{self, Event},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{
    DeployResult, ErrorBody, RevisionView, RolloutQuery, RolloutState, RolloutView, RolloutWorkload,
    TrialView, UndoQuery,
};
use lattice_model::{
    StackKey, Timestamp, WorkloadName,
    resource::{Rollout, RolloutPause, StackRevision, Superseded, Workload},
    spec::{StackSpec, WorkloadSpec},
};
use lattice_planner::{
    Row,
    rollout::{failing, kept_until, trial},
};
use lattice_store::Op;
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
    let failing = failing(&snapshot.cluster, row, clock::now());
    let rollout = row.present_rollout().cloned();
    let trial = trial(&snapshot.cluster, row);
    let paused = row.is_under_way() && rollout.as_ref().is_some_and(|rollout| rollout.paused.is_some());
    let state = match (row.settled == row.generation, failing.too_many || paused, &trial) {
        (true, ..) => RolloutState::Done,
        (false, true, _) => RolloutState::Paused,
        (false, false, Some(_)) => RolloutState::Trial,
        (false, false, None) => RolloutState::Rolling,
    };
    let kept = |row: &Row<lattice_model::resource::Allocation>| row.superseded == Some(Superseded::Retired);
    let keeps = snapshot.cluster.allocations_of(&row.key).any(kept);
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
        strategy: row.spec.update.strategy,
        rollout,
        trial: trial.map(|trial| TrialView {
            replicas: u32::try_from(trial.slots.len()).unwrap_or(u32::MAX),
            serving: trial.serving,
            bake: trial.bake,
            baked_at: trial.baked_at,
            promote: trial.promote,
        }),
        kept_until: kept_until(row).filter(|_| keeps),
    }
}

fn view(core: &Core, key: &StackKey) -> Result<RolloutView, ErrorBody> {
    let snapshot = core.snapshot();
    let stack =
        snapshot.cluster.stacks.get(key).ok_or_else(|| not_found("stack", &key.to_string(), "lattice ps"))?;
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
    Ok(RolloutView {
        version: stack.version,
        workloads: snapshot.cluster.workloads_of(key).map(|row| workload(core, &snapshot, row)).collect(),
        revisions: revisions(&snapshot, key).rev().map(revision).collect(),
    })
}

pub(crate) async fn status(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<RolloutView>, ApiError> {
    Ok(Json(view(&core, &names.stack()?)?))
}

/// What somebody decides about a rollout.
#[derive(Clone, Copy)]
enum Decision {
    Pause,
    Resume,
    Promote,
}

impl Decision {
    const fn action(self) -> &'static str {
        match self {
            Self::Pause => "rollout.pause",
            Self::Resume => "rollout.resume",
            Self::Promote => "rollout.promote",
        }
    }

    const fn says(self) -> &'static str {
        match self {
            Self::Pause => "the rollout is paused",
            Self::Resume => "the rollout goes on",
            Self::Promote => "the new version takes over",
        }
    }

    /// The rollout as it is to be; `None` where this decides nothing about it.
    fn of(
        self,
        snapshot: &Snapshot,
        row: &Workload,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<Rollout>, ErrorBody> {
        if !row.is_under_way() {
            return Ok(None);
        }
        let present = row.present_rollout().cloned().unwrap_or_else(|| Rollout::begin(row.generation, now));
        let name = &row.key.workload;
        let stack = &row.key.stack;
        Ok(match self {
            Self::Pause if present.paused.is_some() => None,
            Self::Pause => {
                Some(Rollout { paused: Some(RolloutPause { by: by.to_owned(), at: now }), ..present })
            }
            Self::Resume if present.paused.is_none() => None,
            Self::Resume => Some(Rollout { paused: None, counted_from: now, ..present }),
            Self::Promote => {
                let Some(trial) = trial(&snapshot.cluster, row) else { return Ok(None) };
                if present.paused.is_some() {
                    let hint = format!("`lattice rollout resume {stack}` first");
                    return Err(conflict(format!("the rollout of {name} is paused"), hint));
                }
                let all = trial.slots.len();
                if all == 0 || (trial.serving as usize) < all {
                    let text = format!(
                        "{} of {all} replicas of {name} that are tried serve, so the new version does not take over",
                        trial.serving
                    );
                    let hint = format!(
                        "`lattice rollout status {stack}` shows why; `lattice rollout undo {stack}` goes back"
                    );
                    return Err(conflict(text, hint));
                }
                Some(Rollout { promoted: Some(now), counted_from: now, ..present })
            }
        })
    }

    /// Why there is nothing to decide.
    fn nothing(self, key: &StackKey) -> ErrorBody {
        let hint = format!("`lattice rollout status {}` shows where it stands", key.stack);
        let text = match self {
            Self::Pause => format!("of {key} no rollout is under way that is not paused"),
            Self::Resume => format!("of {key} no rollout is paused"),
            Self::Promote => format!("of {key} no new version is tried beside the old one"),
        };
        conflict(text, hint)
    }
}

async fn decide(
    core: &Core,
    who: &Principal,
    names: &Names,
    query: &RolloutQuery,
    decision: Decision,
) -> Result<Json<RolloutView>, ApiError> {
    let key = names.stack()?;
    core.commit(|snapshot| {
        if !snapshot.cluster.stacks.contains_key(&key) {
            return Err(not_found("stack", &key.to_string(), "lattice ps").into());
        }
        let asked = |row: &&Row<Workload>| {
            query.service.as_ref().is_none_or(|service| row.key.workload.as_str() == service)
        };
        let mut ops: Vec<Op> = Vec::new();
        for row in snapshot.cluster.workloads_of(&key).filter(asked) {
            let Some(rollout) = decision.of(snapshot, row, &who.name, clock::now())? else { continue };
            ops.push(rows::update(
                &Workload { rollout: Some(rollout), ..(*row.value).clone() },
                row.revision,
            ));
            let subject = row.key.to_string();
            ops.push(rows::create(&who.audit(decision.action(), subject.clone(), decision.says())));
            let event = Event::new(decision.action(), subject, decision.says()).of(&row.key);
            ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
        }
        if ops.is_empty() {
            return Err(decision.nothing(&key).into());
        }
        Ok((ops, ()))
    })
    .await?;
    Ok(Json(view(core, &key)?))
}

pub(crate) async fn pause(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(query): Query<RolloutQuery>,
) -> Result<Json<RolloutView>, ApiError> {
    decide(&core, &who, &names, &query, Decision::Pause).await
}

pub(crate) async fn resume(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(query): Query<RolloutQuery>,
) -> Result<Json<RolloutView>, ApiError> {
    decide(&core, &who, &names, &query, Decision::Resume).await
}

pub(crate) async fn promote(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(query): Query<RolloutQuery>,
) -> Result<Json<RolloutView>, ApiError> {
    decide(&core, &who, &names, &query, Decision::Promote).await
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
    Ok(Json(carry_out(&core, &who, &key, &spec, None, Begin::Back, dry_run).await?))
}
