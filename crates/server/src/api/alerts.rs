//! Alerts that fire, read from the store: every server shows the same.

use super::{error::ApiError, guard::object_of_node, principal::Principal};
use crate::{
    controllers::alerting,
    rows::{AlertRow, alert_id},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_alert::{Alert, Board};
use lattice_api::{AlertView, List};
use lattice_identity::{Object, Permission};
use lattice_model::NodeId;
use std::{cmp::Reverse, sync::Arc};

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<List<AlertView>>, ApiError> {
    let (rows, snapshot) = (core.stored::<AlertRow>().await?, core.snapshot());
    let board = Board::of(rows.into_iter().map(|(_, row)| row.0));
    let rules = alerting::rules();
    let view = |alert: &Alert| {
        let rule = rules.get(&alert.rule)?;
        Some(AlertView {
            id: alert_id(alert),
            rule: alert.rule.clone(),
            title: rule.title.clone(),
            hint: rule.hint.clone(),
            doc: format!("docs/alerts.md#{}", alert.rule),
            subject: alert.subject.clone(),
            severity: alert.severity,
            state: alert.state,
            since: alert.since,
            fired_at: alert.fired_at,
            summary: alert.text.clone(),
            flapping: alert.flapping,
            hushed_by: board.hushed_by(alert, &rules).map(|other| other.rule.clone()),
        })
    };
    let mut items: Vec<AlertView> =
        board.open().filter(|alert| sees(&who, &snapshot, alert)).filter_map(view).collect();
    items.sort_by_key(|alert| (Reverse(alert.severity), alert.since));
    Ok(Json(List { items, revision: snapshot.revision }))
}

/// Whoever may see a node may see its alerts; the others are of the cluster.
fn sees(who: &Principal, snapshot: &Snapshot, alert: &Alert) -> bool {
    match alert.subject.id.parse().ok().and_then(|id: NodeId| snapshot.cluster.nodes.get(&id)) {
        Some(node) => who.may(Permission::NodeLook, &object_of_node(node)),
        None => who.may(Permission::ClusterLook, &Object::Cluster),
    }
}
