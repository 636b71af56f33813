//! Placed instances of services.

use super::{
    error::{ApiError, not_found},
    extract::{Names, Query},
    nodes,
    principal::Principal,
    views,
};
use crate::state::{Core, Snapshot};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{AllocationQuery, AllocationView, ErrorBody, ErrorCode, List, Problem};
use lattice_model::{
    report::AllocationState,
    resource::{Allocation, Intent},
};
use lattice_planner::Row;
use std::sync::Arc;

/// An allocation by its id or the id's first characters.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, text: &str) -> Result<&'a Row<Allocation>, ErrorBody> {
    let prefix = text.to_ascii_lowercase();
    let fits = |row: &&Row<Allocation>| prefix.len() >= 4 && row.id.to_string().starts_with(&prefix);
    let found: Vec<_> = snapshot.cluster.allocations().values().filter(fits).take(10).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(not_found("allocation", text, "lattice ps")),
        _ => {
            let name =
                |row: &&Row<Allocation>| Problem::at("", format!("{} {}#{}", row.id, row.workload, row.slot));
            let body = ErrorBody::new(
                ErrorCode::Ambiguous,
                format!("{text:?} fits several allocations"),
                "give more characters",
            );
            Err(body.with_details(found.iter().map(name).collect()))
        }
    }
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(AllocationQuery { project, stack, workload, node, all }): Query<AllocationQuery>,
) -> Result<Json<List<AllocationView>>, ApiError> {
    let snapshot = core.snapshot();
    // By the node's name or id: which of their own instances are there they may know.
    let node = node.map(|text| nodes::find(&snapshot, &text).map(|row| row.id)).transpose()?;
    let ended = |state| matches!(state, AllocationState::Completed | AllocationState::Failed);
    let wanted = |row: &&Row<Allocation>| {
        who.sees(&row.workload.project)
            && project.as_ref().is_none_or(|project| row.workload.project.as_str() == project)
            && stack.as_ref().is_none_or(|stack| row.workload.stack.as_str() == stack)
            && workload.as_ref().is_none_or(|workload| row.workload.workload.as_str() == workload)
            && node.is_none_or(|node| row.node == node)
            && (all || (row.intent != Intent::Remove && !ended(row.status.state)))
    };
    let rows = snapshot.cluster.allocations().values().filter(wanted);
    let mut items: Vec<_> = rows.map(|row| views::allocation(&snapshot, row)).collect();
    items.sort_by(|a, b| {
        (&a.project, &a.stack, &a.workload, a.slot, a.id).cmp(&(
            &b.project,
            &b.stack,
            &b.workload,
            b.slot,
            b.id,
        ))
    });
    Ok(Json(List { items, revision: snapshot.revision }))
}

pub(crate) async fn show(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<AllocationView>, ApiError> {
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("id"))?;
    Ok(Json(views::allocation(&snapshot, row)))
}
