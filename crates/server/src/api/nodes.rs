//! Nodes: listing, and the decisions that people take about them.

use super::{
    error::{ApiError, conflict, not_found, not_seen, refuse},
    extract::{Body, Names},
    guard::object_of_node,
    principal::Principal,
    views,
};
use crate::{
    gateway::{claim_name, key_claim, name_claim, session},
    rows::{self, Event, NodeIdentity, NodeOutbox, NodeSession},
    state::{Core, Refused, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{ApproveNode, ErrorBody, ErrorCode, List, NodeReason, NodeView, Problem};
use lattice_identity::{Object, Permission};
use lattice_model::{
    NodeId,
    resource::{Approval, Eligibility, Node},
};
use lattice_planner::Row;
use lattice_store::Op;
use std::sync::Arc;

type Answer = Result<Json<NodeView>, ApiError>;

/// The longest reason, in characters.
const MAX_REASON: usize = 500;

/// A node by name, id, or an id's first characters.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, text: &str) -> Result<&'a Row<Node>, ErrorBody> {
    let nodes = &snapshot.cluster.nodes;
    // A whole id is nobody's name: a node may call itself like another one's.
    if let Some(row) = text.parse().ok().and_then(|id: NodeId| nodes.get(&id)) {
        return Ok(row);
    }
    let prefix = text.to_ascii_lowercase();
    let fits = |row: &&Row<Node>| {
        row.name.as_str() == text || prefix.len() >= 4 && row.id.to_string().starts_with(&prefix)
    };
    let found: Vec<_> = nodes.values().filter(fits).take(10).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(not_found("node", text, "lattice node ls")),
        _ => {
            let details =
                found.iter().map(|row| Problem::at("", format!("{} {}", row.id, row.name))).collect();
            let body = ErrorBody::new(
                ErrorCode::Ambiguous,
                format!("{text:?} fits several nodes"),
                "give the whole id",
            );
            Err(body.with_details(details))
        }
    }
}

/// The same for somebody: what they may not see is not there.
pub(crate) fn find_seen(snapshot: &Snapshot, who: &Principal, text: &str) -> Result<NodeId, ErrorBody> {
    let row = find(snapshot, text)?;
    if who.may(Permission::NodeLook, &object_of_node(row)) { Ok(row.id) } else { Err(not_seen()) }
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<NodeView>> {
    let snapshot = core.snapshot();
    let seen = |row: &&Row<Node>| who.may(Permission::NodeLook, &object_of_node(row));
    let rows = snapshot.cluster.nodes.values().filter(seen);
    let mut items: Vec<_> = rows.map(|row| views::node(&core, &snapshot, row)).collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn show(State(core): State<Arc<Core>>, names: Names) -> Answer {
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("node"))?;
    Ok(Json(views::node(&core, &snapshot, row)))
}

/// What a decision changes.
struct Decision {
    node: Node,
    identity: Option<NodeIdentity>,
    action: &'static str,
    kind: &'static str,
    says: String,
}

/// Takes a decision about a node, writes it down with event and audit entry, and shows the node.
async fn decide(
    core: &Core,
    who: &Principal,
    text: &str,
    how: impl Fn(&Snapshot, &Row<Node>, Option<&Row<NodeIdentity>>) -> Result<Option<Decision>, Refused>
    + Send
    + Sync,
) -> Result<NodeView, ErrorBody> {
    let done = core
        .commit(|snapshot| {
            let row = find(snapshot, text)?;
            let identity = snapshot.identities.get(&row.id);
            let Some(decision) = how(snapshot, row, identity)? else { return Ok((Vec::new(), row.id)) };
            let Decision { node, identity: changed, action, kind, says } = decision;
            let mut ops = vec![rows::update(&node, row.revision)];
            if node.name != row.name {
                ops.push(Op::Delete { key: name_claim(&row.name), expected: None });
                ops.push(claim_name(&node.name, row.id));
            }
            if let (Some(changed), Some(identity)) = (changed, identity) {
                ops.push(rows::update(&changed, identity.revision));
            }
            ops.push(rows::create(&who.audit(action, node.name.to_string(), &says)));
            ops.extend(rows::events([Event::new(kind, node.name.to_string(), says).on(&node)]));
            Ok((ops, row.id))
        })
        .await?;
    view(core, done.value)
}

fn view(core: &Core, id: NodeId) -> Result<NodeView, ErrorBody> {
    let snapshot = core.snapshot();
    let row = snapshot
        .cluster
        .nodes
        .get(&id)
        .ok_or_else(|| not_found("node", &id.to_string(), "lattice node ls"))?;
    Ok(views::node(core, &snapshot, row))
}

/// Takes a node into the cluster.
pub(crate) async fn take_in(
    core: &Core,
    who: &Principal,
    text: &str,
    request: &ApproveNode,
) -> Result<NodeView, ErrorBody> {
    decide(core, who, text, |snapshot, row, identity| {
        let ApproveNode { name, pool, fingerprint } = request;
        if let (Some(said), Some(identity)) = (fingerprint, identity) {
            let said: String =
                said.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
            // At least what people read to each other, 128 bits.
            if said.len() < 32 || !identity.fingerprint.starts_with(&said) {
                return refuse(ErrorBody::new(
                    ErrorCode::Mismatch,
                    format!("the key of {} has another fingerprint: {}", row.name, identity.fingerprint),
                    "it may be another machine: compare again with what its agent shows",
                ));
            }
        }
        if row.approval == Approval::Revoked {
            let hint = format!("run `lattice node rm {}`, then let it join again", row.name);
            return refuse(conflict(
                format!("{} was thrown out, and its key is not taken again", row.name),
                hint,
            ));
        }
        if let Some(name) = name
            && snapshot.cluster.nodes.values().any(|other| other.name == *name && other.id != row.id)
        {
            return refuse(conflict(format!("there is a node {name} already"), "choose another name"));
        }
        let node = Node {
            approval: Approval::Approved,
            name: name.clone().unwrap_or_else(|| row.name.clone()),
            pool: pool.clone().unwrap_or_else(|| row.pool.clone()),
            ..(*row.value).clone()
        };
        if node == *row.value {
            return Ok(None);
        }
        let quarantined = row.approval == Approval::Quarantined;
        let identity = identity.map(|identity| NodeIdentity {
            resume_next: identity.resume_next || quarantined,
            reason: None,
            ..(*identity.value).clone()
        });
        let says = match quarantined {
            true => "approved again: the copy that connects next goes on".to_owned(),
            false => format!("approved for pool {}", node.pool),
        };
        Ok(Some(Decision { node, identity, action: "node.approve", kind: "node.approved", says }))
    })
    .await
}

pub(crate) async fn approve(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(request): Body<ApproveNode>,
) -> Answer {
    // Into another pool only by whoever may take nodes into that one.
    if let Some(pool) = &request.pool {
        who.require(&core, Permission::NodeApprove, &Object::Pool(pool.clone())).await?;
    }
    Ok(Json(take_in(&core, &who, names.text("node"), &request).await?))
}

fn with_reason(
    row: &Row<Node>,
    identity: Option<&Row<NodeIdentity>>,
    approval: Approval,
    reason: &str,
) -> (Node, Option<NodeIdentity>) {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    let identity = identity.map(|identity| NodeIdentity {
        reason: (!reason.is_empty()).then_some(reason),
        resume_next: false,
        ..(*identity.value).clone()
    });
    (Node { approval, ..(*row.value).clone() }, identity)
}

pub(crate) async fn reject(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(NodeReason { reason }): Body<NodeReason>,
) -> Answer {
    let view = decide(&core, &who, names.text("node"), |_, row, identity| match row.approval {
        Approval::Rejected => Ok(None),
        Approval::Pending => {
            let (node, identity) = with_reason(row, identity, Approval::Rejected, &reason);
            let says = format!("turned away{}", because(&reason));
            Ok(Some(Decision { node, identity, action: "node.reject", kind: "node.rejected", says }))
        }
        _ => refuse(conflict(
            format!("{} does not wait for a decision", row.name),
            "`lattice node revoke` throws a node out",
        )),
    })
    .await?;
    Ok(Json(view))
}

pub(crate) async fn revoke(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(NodeReason { reason }): Body<NodeReason>,
) -> Answer {
    let view = decide(&core, &who, names.text("node"), |_, row, identity| {
        if row.approval == Approval::Revoked {
            return Ok(None);
        }
        let (node, identity) = with_reason(row, identity, Approval::Revoked, &reason);
        let says = format!("thrown out{}", because(&reason));
        Ok(Some(Decision { node, identity, action: "node.revoke", kind: "node.revoked", says }))
    })
    .await?;
    // Its session sees it by itself; what it has open besides, and what it said, ends here.
    core.live.believe_no_more(view.id);
    session::cut(&core, view.id);
    Ok(Json(view))
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {}", reason.chars().take(MAX_REASON).collect::<String>())
    }
}

pub(crate) async fn cordon(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    let view = decide(&core, &who, names.text("node"), |_, row, _| {
        let node = Node { eligibility: Eligibility::Cordoned, ..(*row.value).clone() };
        let says = "cordoned: it gets no new work".to_owned();
        let changed = node != *row.value;
        Ok(changed.then_some(Decision {
            node,
            identity: None,
            action: "node.cordon",
            kind: "node.cordoned",
            says,
        }))
    })
    .await?;
    Ok(Json(view))
}

pub(crate) async fn uncordon(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer {
    let minimum = core.config.min_agent_version.clone();
    let view = decide(&core, &who, names.text("node"), |_, row, _| {
        if row.eligibility != Eligibility::Cordoned {
            return Ok(None);
        }
        let new_enough = minimum
            .as_deref()
            .is_none_or(|minimum| lattice_link::agent_version_ok(&row.facts.agent_version, minimum));
        let eligibility = if new_enough { Eligibility::Eligible } else { Eligibility::Outdated };
        let node = Node { eligibility, ..(*row.value).clone() };
        let says = "no longer cordoned".to_owned();
        Ok(Some(Decision { node, identity: None, action: "node.uncordon", kind: "node.uncordoned", says }))
    })
    .await?;
    Ok(Json(view))
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    core.commit(|snapshot| {
        let row = find(snapshot, names.text("node"))?;
        if matches!(row.approval, Approval::Approved | Approval::Quarantined) {
            let hint = format!("run `lattice node revoke {}` first", row.name);
            return refuse(conflict(format!("{} belongs to the cluster", row.name), hint));
        }
        let left = snapshot.cluster.allocations_on(row.id).count();
        if left > 0 {
            return refuse(conflict(
                format!("{left} allocations of {} are not forgotten yet", row.name),
                "try again in a moment",
            ));
        }
        let mut ops: Vec<Op> = vec![
            rows::delete::<Node>(row.id, Some(row.revision)),
            rows::delete::<NodeOutbox>(row.id, None),
            rows::delete::<NodeSession>(row.id, None),
            Op::Delete { key: name_claim(&row.name), expected: None },
            rows::create(&who.audit("node.delete", row.name.to_string(), "")),
        ];
        if let Some(identity) = snapshot.identities.get(&row.id) {
            ops.push(rows::delete::<NodeIdentity>(row.id, Some(identity.revision)));
            ops.push(Op::Delete { key: key_claim(&identity.fingerprint), expected: None });
        }
        ops.extend(rows::events([Event::new(
            "node.removed",
            row.name.to_string(),
            "removed; its key is forgotten",
        )]));
        Ok((ops, ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
