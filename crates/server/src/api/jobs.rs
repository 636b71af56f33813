//! Runs of jobs, read from the store: they are looked at now and then, and are not planned on.

use super::{error::ApiError, extract::Query, principal::Principal};
use crate::{rows::JobRun, state::Core};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{JobRunQuery, JobRunView, List};
use std::sync::Arc;

/// How many runs an answer has unless told otherwise, and at the most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

pub(crate) async fn runs(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(JobRunQuery { project, stack, workload, limit }): Query<JobRunQuery>,
) -> Result<Json<List<JobRunView>>, ApiError> {
    let wanted = |run: &JobRun| {
        let is = |wish: &Option<String>, name: &str| wish.as_ref().is_none_or(|wish| wish == name);
        who.sees(&run.workload.project)
            && is(&project, run.workload.project.as_str())
            && is(&stack, run.workload.stack.as_str())
            && is(&workload, run.workload.workload.as_str())
    };
    let mut items: Vec<JobRunView> = core
        .stored::<JobRun>()
        .await?
        .into_iter()
        .filter(|(_, run)| wanted(run))
        .map(|(created, run)| run.view(created))
        .collect();
    items.sort_by_key(|run| run.id);
    let limit = limit.unwrap_or(USUAL).clamp(1, MOST) as usize;
    let items = items.split_off(items.len().saturating_sub(limit));
    Ok(Json(List { items, revision: core.snapshot().revision }))
}
