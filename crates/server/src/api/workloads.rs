//! Services: listing, and start, stop, restart, scale.

use super::{
    deploy::{MAX_TOLD, told_bytes},
    error::{ApiError, conflict, invalid, not_found, refuse},
    extract::{Body, Names, Query},
    principal::Principal,
    projects, views,
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
use lattice_api::{ErrorBody, ExplainView, ExplainedAllocation, List, Scale, WorkloadQuery, WorkloadView};
use lattice_model::{
    AllocationId, WorkloadKey,
    goal::DesiredState,
    resource::Workload,
    spec::{MAX_REPLICAS, Mode},
};
use lattice_planner::{Account, Explained, Row};
use std::sync::Arc;

pub(super) type Answer = Result<Json<WorkloadView>, ApiError>;

fn find<'a>(snapshot: &'a Snapshot, key: &WorkloadKey) -> Result<&'a Row<Workload>, ErrorBody> {
    snapshot.cluster.workloads().get(key).ok_or_else(|| not_found("service", &key.to_string(), "lattice ps"))
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(WorkloadQuery { project, stack }): Query<WorkloadQuery>,
) -> Json<List<WorkloadView>> {
    let snapshot = core.snapshot();
    let wanted = |row: &&Row<Workload>| {
        who.sees(&row.key.project)
            && project.as_ref().is_none_or(|project| row.key.project.as_str() == project)
            && stack.as_ref().is_none_or(|stack| row.key.stack.as_str() == stack)
    };
    let rows = snapshot.cluster.workloads().values().filter(wanted);
    let items = rows.map(|row| views::workload(&core, &snapshot, row)).collect();
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn show(State(core): State<Arc<Core>>, names: Names) -> Answer {
    let snapshot = core.snapshot();
    let row = find(&snapshot, &names.workload()?)?;
    Ok(Json(views::workload(&core, &snapshot, row)))
}

pub(crate) async fn explain(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<ExplainView>, ApiError> {
    let (snapshot, now) = (core.snapshot(), clock::now());
    let key = names.workload()?;
    let row = find(&snapshot, &key)?;
    let cluster = core.live.foresight.on(&snapshot, now);
    let mut ledger = core.live.foresight.ledger();
    let found = lattice_planner::explain(&mut ledger, &cluster, &core.config.planning, now, &key);
    drop(ledger);
    let Explained { bound, another, allocations } = found.unwrap_or_default();
    let allocation = |(id, account): &(AllocationId, Account)| {
        let row = cluster.allocations().get(id)?;
        Some(ExplainedAllocation {
            id: *id,
            slot: row.slot,
            node: views::allocation(&snapshot, row).node,
            placed_at: row.placed_at,
            why: row.explanation.clone(),
            now: views::account(account),
        })
    };
    let WorkloadKey { project, stack, workload } = key.clone();
    Ok(Json(ExplainView {
        project,
        stack,
        workload,
        replicas: row.replicas,
        bound,
        allocations: allocations.iter().filter_map(allocation).collect(),
        pending: views::pending(&core, &key),
        another: views::account(&another),
    }))
}

async fn change(
    core: &Core,
    who: &Principal,
    names: &Names,
    action: &'static str,
    says: &str,
    how: impl Fn(&mut Workload) + Send + Sync,
) -> Answer {
    let always = |workload: &mut Workload| {
        how(workload);
        Ok(())
    };
    try_change(core, who, names, action, says, always).await
}

pub(super) async fn try_change(
    core: &Core,
    who: &Principal,
    names: &Names,
    action: &'static str,
    says: &str,
    how: impl Fn(&mut Workload) -> Result<(), ErrorBody> + Send + Sync,
) -> Answer {
    let key = names.workload()?;
    core.commit(|snapshot| {
        let row = find(snapshot, &key)?;
        if snapshot.cluster.stacks.get(&key.stack_key()).is_none_or(|stack| stack.deleting) {
            return refuse(conflict(
                format!("{} is being removed", key.stack_key()),
                "deploy it again when it is gone",
            ));
        }
        let mut workload = (*row.value).clone();
        how(&mut workload)?;
        if workload == *row.value {
            return Ok((Vec::new(), ()));
        }
        let mut ops = vec![
            rows::update(&workload, row.revision),
            rows::create(&who.audit(action, key.to_string(), says)),
        ];
        if workload.replicas > row.replicas {
            let mut after = snapshot.cluster.clone();
            after.put_workload(Row { revision: row.revision, value: Arc::new(workload.clone()) });
            ops.extend(projects::hold(snapshot, &key.project, &after)?);
        }
        let who = format!("asked by {}", who.name);
        ops.extend(rows::events([Event::new(action, key.to_string(), says).of(&key).because(Some(who))]));
        Ok((ops, ()))
    })
    .await?;
    let snapshot = core.snapshot();
    let row = find(&snapshot, &key)?;
    Ok(Json(views::workload(core, &snapshot, row)))
}

pub(crate) async fn start(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    change(&core, &who, &names, "workload.start", "to be started", |w| {
        if w.desired != DesiredState::Run {
            w.go_on_from(clock::now());
        }
        w.desired = DesiredState::Run;
    })
    .await
}

pub(crate) async fn stop(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    change(&core, &who, &names, "workload.stop", "to be stopped", |w| w.desired = DesiredState::Stop).await
}

pub(crate) async fn restart(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    change(&core, &who, &names, "workload.restart", "to be restarted", |w| {
        if w.desired != DesiredState::Run {
            w.go_on_from(clock::now());
        }
        w.desired = DesiredState::Run;
        w.run_now(clock::now());
    })
    .await
}

pub(crate) async fn scale(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(Scale { replicas }): Body<Scale>,
) -> Answer {
    if replicas > MAX_REPLICAS {
        return Err(
            invalid(format!("{replicas} replicas are too many"), format!("at most {MAX_REPLICAS}")).into()
        );
    }
    let says = format!("to have {replicas} replicas");
    try_change(&core, &who, &names, "workload.scale", &says, |w| {
        if w.spec.mode == Mode::Global {
            let text = format!("{} runs once on each node that takes it, so it cannot be scaled", w.key);
            return Err(conflict(text, "its constraints and its pool say on which nodes it runs"));
        }
        if w.spec.array.is_some() {
            let text = format!("the replicas of {} are the tasks of a job, which are told how many there are", w.key);
            return Err(conflict(text, "change `replicas` in its file and deploy it"));
        }
        if let Some(port) = w.spec.ports.iter().find_map(|port| port.published).filter(|_| replicas > 1) {
            let text = format!(
                "{} publishes port {port}, which only one replica on a node can have, and its replicas share a node",
                w.key
            );
            let hint = "publish the container's port without a number for the node's, then scale";
            return Err(conflict(text, hint));
        }
        let told = told_bytes(&w.spec, replicas);
        if told > MAX_TOLD {
            let text = format!("so many replicas of {} take {told} bytes to say; at most {MAX_TOLD}", w.key);
            return Err(conflict(text, "run fewer, or keep less in its variables and labels"));
        }
        w.replicas = replicas;
        Ok(())
    })
    .await
}
