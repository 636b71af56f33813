//! Jobs with a schedule: what may be written, holding one, and what was missed. When a job runs is the planner's.

use super::{
    error::{ApiError, conflict},
    extract::{Names, Query},
    principal::Principal,
    workloads::{Answer, try_change},
};
use crate::{clock, state::Core};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{ErrorBody, JobRunQuery, List, MissedRunsView};
use lattice_cron::Times;
use lattice_model::{
    resource::{MissedRuns, Paused, Timetable, Workload},
    spec::{Mode, RestartPolicy, Schedule, WorkloadSpec},
};
use std::sync::Arc;

/// How many an answer has unless told otherwise, and at the most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

/// What is wrong with the schedule of a service, where something is.
pub(super) fn problems(workload: &WorkloadSpec) -> Vec<(&'static str, String)> {
    let Some(schedule) = &workload.schedule else { return Vec::new() };
    let mut found = Vec::new();
    if workload.restart == RestartPolicy::Always {
        let why = "only a job has one, which ends by itself: write `restart: \"no\"` or `restart: on-failure`, or \
                   `deploy: {mode: replicated-job}`";
        found.push(("schedule", why.to_owned()));
    }
    if workload.mode == Mode::Global {
        let why = "not for what runs once on each node, as nobody could say what a node has missed that was away; \
                   write `deploy: {mode: replicated-job}`";
        found.push(("schedule", why.to_owned()));
    }
    if let Err(error) = Times::of(schedule) {
        found.push(("schedule", error.to_string()));
    }
    found
}

/// The schedule of a job.
fn scheduled(workload: &Workload) -> Result<Schedule, ErrorBody> {
    workload.spec.schedule.clone().ok_or_else(|| {
        let hint = "give it one: `x-lattice: {schedule: \"30 2 * * *\"}`";
        conflict(format!("{} has no schedule", workload.key), hint)
    })
}

pub(crate) async fn pause(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    let by = who.name.clone();
    try_change(&core, &who, &names, "schedule.pause", "its schedule is held", move |workload| {
        let (schedule, now) = (scheduled(workload)?, clock::now());
        let table = workload.timetable.get_or_insert_with(|| Timetable::begin(schedule, now));
        table.paused.get_or_insert_with(|| Paused { by: by.clone(), at: now });
        Ok(())
    })
    .await
}

pub(crate) async fn resume(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    try_change(&core, &who, &names, "schedule.resume", "its schedule goes on", |workload| {
        let (schedule, now) = (scheduled(workload)?, clock::now());
        if schedule.suspended {
            let text = format!("the file of {} says that it is suspended", workload.key.stack);
            return Err(conflict(text, "take `suspended` out of it and deploy it"));
        }
        let table = workload.timetable.get_or_insert_with(|| Timetable::begin(schedule, now));
        // Also where nobody holds it: after a clock that was ahead of time.
        if table.paused.take().is_some() || table.until > now {
            table.go_on_from(now);
        }
        Ok(())
    })
    .await
}

pub(crate) async fn missed(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(JobRunQuery { project, stack, workload, limit }): Query<JobRunQuery>,
) -> Result<Json<List<MissedRunsView>>, ApiError> {
    let is = |wish: &Option<String>, name: &str| wish.as_ref().is_none_or(|wish| wish == name);
    let wanted = |missed: &MissedRuns| {
        let key = &missed.workload;
        who.sees(&key.project)
            && is(&project, key.project.as_str())
            && is(&stack, key.stack.as_str())
            && is(&workload, key.workload.as_str())
    };
    let stored = core.stored::<MissedRuns>().await?.into_iter().filter(|(_, missed)| wanted(missed));
    let mut items: Vec<_> = stored.map(|(created, missed)| MissedRunsView::of(created.0, missed)).collect();
    items.sort_by_key(|missed| (missed.id, missed.last));
    let limit = limit.unwrap_or(USUAL).clamp(1, MOST) as usize;
    let items = items.split_off(items.len().saturating_sub(limit));
    Ok(Json(List { items, revision: core.snapshot().revision }))
}
