//! The cluster as a whole: status, who asks, events, audit, the document.

use super::{
    cookie::Csrf, error::ApiError, extract::Query, guard::object_of_node, openapi::DOCUMENT,
    principal::Principal,
};
use crate::{
    backups::schedule,
    rows::{Audit, Event},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::header,
    response::IntoResponse,
};
use lattice_api::{AuditQuery, AuditView, List, NodeCounts, PlannerStatus, Status, Whoami};
use lattice_identity::{Object, Permission};
use lattice_model::{
    ProjectName, StackKey,
    resource::{Approval, PresenceState},
};
use lattice_store::{Page, Revision};
use std::sync::{Arc, atomic::Ordering};

type Answer<T> = Result<Json<T>, ApiError>;

/// How many entries an answer has unless told otherwise.
const USUAL: u32 = 100;
/// The most entries of an answer.
const MOST: u32 = 1000;

pub(crate) async fn status(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Answer<Status> {
    let mut status = present(&core);
    if !who.may(Permission::ClusterLook, &Object::Cluster) {
        // They name nodes and volumes of others, and places.
        status.warnings.clear();
        status.planner.warnings.clear();
        status.backup = lattice_api::BackupStatus::default();
    }
    Ok(Json(status))
}

/// How the cluster and its server are doing.
pub(crate) fn present(core: &Core) -> Status {
    let snapshot = core.snapshot();
    let mut nodes = NodeCounts::default();
    for node in snapshot.cluster.nodes.values() {
        *match (node.approval, node.presence.state) {
            (Approval::Pending, _) => &mut nodes.pending,
            (Approval::Rejected | Approval::Revoked, _) => &mut nodes.rejected,
            (Approval::Quarantined, _) => &mut nodes.quarantined,
            (Approval::Approved, PresenceState::Connected) if node.standing.stands_still() => {
                &mut nodes.suspended
            }
            (Approval::Approved, PresenceState::Disconnected | PresenceState::Lost)
                if node.standing.is_announced() =>
            {
                &mut nodes.away
            }
            (Approval::Approved, PresenceState::Connected) => &mut nodes.connected,
            (Approval::Approved, PresenceState::Disconnected) => &mut nodes.disconnected,
            (Approval::Approved, PresenceState::Lost) => &mut nodes.lost,
            (Approval::Approved, PresenceState::New | PresenceState::Unknown) => &mut nodes.unknown,
        } += 1;
    }
    let mut warnings = Vec::new();
    if let Some((node, behind)) = core.live.behind() {
        let name =
            snapshot.cluster.nodes.get(&node).map_or_else(|| node.short(), |node| node.name.to_string());
        warnings.push(format!(
            "the store is behind: {name} has seen goal {}, and the store is at {}. Nothing is planned. Start the server on the newer store, or with --accept-older-store to go on from this one; a node that is not to be believed can be revoked (`lattice node revoke {name}`)",
            behind.seen, behind.have
        ));
    }
    for node in core.live.too_large.lock().keys().filter_map(|node| snapshot.cluster.nodes.get(node)) {
        warnings.push(format!(
            "{} cannot be told what to run, since that is too much; run fewer or smaller services there",
            node.name
        ));
    }
    for node in snapshot.cluster.nodes.values().filter(|node| node.approval == Approval::Quarantined) {
        warnings.push(format!(
            "two machines use the key of {}: stop the copy, then `lattice node approve {}`",
            node.name, node.name
        ));
    }
    for volume in snapshot.cluster.volumes.values().filter(|volume| volume.missing) {
        warnings.push(format!(
            "volume {} is not on its node although it should be: its data may be lost",
            volume.key
        ));
    }
    warnings.extend(schedule::warning(core));
    if let Some(held) = core.live.held.lock().as_ref() {
        warnings.push(format!(
            "{} nodes vanished at once and {} are left, so nothing of them is placed elsewhere ({}). It goes on when enough are back; `lattice node drain NAME` gives one up",
            held.together,
            held.present,
            crate::controllers::presence::held_names(&snapshot, held)
        ));
    }
    let memory = core.live.planner.lock();
    let pending: usize = {
        let stuck = memory.pending.values().flatten().filter(|pending| !pending.turn);
        stuck.map(|pending| pending.slots.len()).sum()
    };
    Status {
        cluster_id: core.cluster,
        name: core.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        incarnation: core.incarnation,
        revision: snapshot.revision,
        ready: core.ready.load(Ordering::Relaxed),
        started_at: core.started_at,
        agent_addresses: core.advertised.iter().map(ToString::to_string).collect(),
        nodes,
        planner: PlannerStatus {
            last_run: memory.last_run,
            behind: if core.live.plan_pending() {
                snapshot.revision.saturating_sub(memory.planned_to)
            } else {
                0
            },
            pending: u32::try_from(pending).unwrap_or(u32::MAX),
            warnings: memory.warnings.clone(),
        },
        backup: schedule::status(core),
        warnings,
    }
}

pub(crate) async fn whoami(
    Extension(who): Extension<Principal>,
    Extension(Csrf(csrf)): Extension<Csrf>,
) -> Json<Whoami> {
    let (credential, token_id) = who.credential();
    let (roles, rights) = (who.roles.to_vec(), who.rights());
    Json(Whoami {
        name: who.name,
        credential,
        user: who.user,
        roles,
        rights,
        token_id,
        expires_at: who.expires,
        csrf,
    })
}

pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// Whether somebody may see an event: by its stack, else by its node, else as one of the cluster.
pub(crate) fn sees_event(who: &Principal, snapshot: &Snapshot, event: &Event) -> bool {
    match (&event.stack, event.node.and_then(|id| snapshot.cluster.nodes.get(&id))) {
        (Some(stack), _) => who.may(Permission::StackLook, &Object::Project(stack.project.clone())),
        (None, Some(node)) => who.may(Permission::NodeLook, &object_of_node(node)),
        (None, None) => who.may(Permission::ClusterLook, &Object::Cluster),
    }
}

pub(crate) async fn audit(
    State(core): State<Arc<Core>>,
    Query(query): Query<AuditQuery>,
) -> Answer<List<AuditView>> {
    let AuditQuery { after, before, limit } = query;
    super::events::one_way(after, before)?;
    let limit = bound(limit);
    let page = match (after, before) {
        (Some(after), _) => Page::After(Revision(after)),
        (None, Some(before)) => Page::Before(Revision(before)),
        (None, None) => Page::Last,
    };
    let entries = core.page::<Audit>(page, limit).await?;
    let items = entries.into_iter().map(|(created, entry)| entry.view(created)).collect();
    Ok(Json(List { items, revision: core.snapshot().revision }))
}

pub(crate) fn bound(limit: Option<u32>) -> usize {
    limit.unwrap_or(USUAL).clamp(1, MOST) as usize
}

/// `stack` of the default project, or `project/stack`.
pub(crate) fn read_stack(text: &str) -> Result<StackKey, ApiError> {
    let whole = if text.contains('/') {
        text.to_owned()
    } else {
        format!("{}/{text}", ProjectName::default_project())
    };
    whole
        .parse()
        .map_err(|error| super::error::invalid(format!("{error}"), "write stack or project/stack").into())
}
