//! Nodes: listing, and the decisions that people take about them.

use super::{
    error::{ApiError, conflict, invalid, not_found, not_seen, refuse},
    extract::{Body, Names, Query},
    guard::object_of_node,
    pools,
    principal::Principal,
    views,
};
use crate::{
    clock,
    gateway::{claim_name, key_claim, name_claim, session},
    rows::{self, AvailabilityRow, Event, NodeIdentity, NodeOutbox, NodeSession},
    state::{Core, Refused, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{
    ApproveNode, DeleteNodeQuery, DrainFate, DrainMove, DrainNode, DrainResult, ErrorBody, ErrorCode, List,
    NodeChange, NodePreview, NodeReason, NodeView, Problem,
};
use lattice_identity::{Object, Permission};
use lattice_model::{
    NodeId, WorkloadKey,
    resource::{Approval, Drain, Eligibility, Node, PresenceState, Volume},
};
use lattice_planner::{
    Row,
    forecast::{self, Fate, Move},
    pools::preview_node,
};
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
            pool_fixed: row.pool_fixed || pool.is_some(),
            home_pool: pool.clone().or_else(|| row.home_pool.clone()),
            ..(*row.value).clone()
        };
        if node == *row.value {
            return Ok(None);
        }
        pools::find(snapshot, &node.pool)?;
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
        let node = Node { eligibility: Eligibility::Cordoned, drain: None, ..(*row.value).clone() };
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
        if !matches!(row.eligibility, Eligibility::Cordoned | Eligibility::Draining) {
            return Ok(None);
        }
        let new_enough = minimum
            .as_deref()
            .is_none_or(|minimum| lattice_link::agent_version_ok(&row.facts.agent_version, minimum));
        let eligibility = if new_enough { Eligibility::Eligible } else { Eligibility::Outdated };
        let node = Node { eligibility, drain: None, ..(*row.value).clone() };
        let says = match row.eligibility {
            Eligibility::Draining => "no longer emptied".to_owned(),
            _ => "no longer cordoned".to_owned(),
        };
        Ok(Some(Decision { node, identity: None, action: "node.uncordon", kind: "node.uncordoned", says }))
    })
    .await?;
    Ok(Json(view))
}

pub(crate) async fn change(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(request): Body<NodeChange>,
) -> Answer {
    may_change(&core, &who, names.text("node"), &request).await?;
    let view = decide(&core, &who, names.text("node"), |snapshot, row, _| {
        let node = changed(snapshot, row, &request)?;
        let mut says = Vec::new();
        if node.pool != row.pool {
            says.push(format!("pool {} -> {}", row.pool, node.pool));
        }
        if node.pool_fixed != row.pool_fixed {
            let who = if node.pool_fixed { "an operator" } else { "the rules of pools" };
            says.push(format!("{who} says in which pool it is"));
        }
        for (key, value) in &request.labels {
            if row.labels.get(key) != value.as_ref() {
                says.push(format!("label {key}={}", value.as_deref().unwrap_or("(none)")));
            }
        }
        says.extend(node.taints.difference(&row.taints).map(|taint| format!("taint {taint}")));
        says.extend(row.taints.difference(&node.taints).map(|taint| format!("no taint {taint}")));
        let (says, changed) = (says.join(", "), node != *row.value);
        Ok(changed.then_some(Decision {
            node,
            identity: None,
            action: "node.change",
            kind: "node.changed",
            says,
        }))
    })
    .await?;
    Ok(Json(view))
}

/// What a change of a node would do; nothing is changed.
pub(crate) async fn preview(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(request): Body<NodeChange>,
) -> Result<Json<NodePreview>, ApiError> {
    may_change(&core, &who, names.text("node"), &request).await?;
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("node"))?;
    let node = changed(&snapshot, row, &request)?;
    let (policy, now) = (&core.config.planning, clock::now());
    let (to, stays, moves) = preview_node(&snapshot.cluster, node, policy, now, &mut clock::random_bits);
    let moves = moves.into_iter().map(|one| drain_move(&snapshot, one)).collect();
    Ok(Json(NodePreview { node: row.name.clone(), from: row.pool.clone(), to, stays, moves }))
}

/// Who gives a node to a pool has a say in that pool too.
async fn may_change(
    core: &Arc<Core>,
    who: &Principal,
    node: &str,
    request: &NodeChange,
) -> Result<(), ApiError> {
    let Some(pool) = &request.pool else { return Ok(()) };
    if request.auto_pool {
        return Err(
            invalid("it is either in a pool or where rules put it", "leave one of the two out").into()
        );
    }
    let snapshot = core.snapshot();
    let row = find(&snapshot, node)?;
    pools::find(&snapshot, pool)?;
    let there = Object::Node { pool: pool.clone(), owner: row.owner.clone() };
    who.require(core, Permission::NodeChange, &there).await?;
    Ok(())
}

/// A node as a change makes it.
fn changed(snapshot: &Snapshot, row: &Node, request: &NodeChange) -> Result<Node, ErrorBody> {
    let NodeChange { pool, auto_pool, labels, taint, untaint } = request;
    let mut node = row.clone();
    pools::relabel(&mut node.labels, labels.clone());
    pools::check_labels(&node.labels)?;
    pools::retaint(&mut node.taints, taint.clone(), untaint)?;
    if let Some(pool) = pool {
        pools::find(snapshot, pool)?;
        (node.pool, node.pool_fixed) = (pool.clone(), true);
    }
    if *auto_pool {
        node.home_pool = Some(row.home().clone());
        node.pool_fixed = false;
    }
    Ok(node)
}

/// The longest deadline of a drain: 30 days.
const MAX_DEADLINE: u64 = 30 * 86_400_000;

pub(crate) async fn drain(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(DrainNode { deadline_ms, dry_run }): Body<DrainNode>,
) -> Result<Json<DrainResult>, ApiError> {
    if deadline_ms.is_some_and(|ms| ms > MAX_DEADLINE) {
        return Err(invalid(
            "the deadline is too far away",
            "at most 30 days; without one nothing is hurried",
        )
        .into());
    }
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("node"))?;
    let now = clock::now();
    let moves =
        forecast::drain(&snapshot.cluster, row.id, &core.config.planning, now, &mut clock::random_bits);
    let moves = moves.into_iter().map(|one| drain_move(&snapshot, one)).collect();
    let node = if dry_run {
        views::node(&core, &snapshot, row)
    } else {
        let id = row.id.to_string();
        decide(&core, &who, &id, |_, row, _| {
            if row.approval != Approval::Approved {
                let hint = "`lattice node rm` forgets a node that is not";
                return refuse(conflict(format!("{} does not belong to the cluster", row.name), hint));
            }
            let since = row.drain.map_or(now, |drain| drain.since);
            let deadline = deadline_ms.map(|ms| now + lattice_model::Duration(ms));
            let drain = Some(Drain { since, deadline });
            let node = Node { eligibility: Eligibility::Draining, drain, ..(*row.value).clone() };
            let says =
                "to be emptied: it gets no new work, and what can run elsewhere moves there".to_owned();
            let changed = node != *row.value;
            Ok(changed.then_some(Decision {
                node,
                identity: None,
                action: "node.drain",
                kind: "node.draining",
                says,
            }))
        })
        .await?
    };
    Ok(Json(DrainResult { node, dry_run, moves }))
}

pub(crate) fn drain_move(snapshot: &Snapshot, one: Move) -> DrainMove {
    let Move { allocation: _, workload, slot, fate } = one;
    let name = |id: NodeId| snapshot.cluster.nodes.get(&id).map(|row| row.name.clone());
    let (fate, to, why) = match fate {
        Fate::Moves { to, why } => (DrainFate::Moves, name(to), why),
        Fate::Goes => (DrainFate::Goes, None, "it runs once on each node that takes work".into()),
        Fate::Stays { why } => (DrainFate::Stays, None, why),
        Fate::Waits { why } => (DrainFate::Waits, None, why),
    };
    let WorkloadKey { project, stack, workload } = workload;
    DrainMove { project, stack, workload, slot, fate, to, why }
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(DeleteNodeQuery { lose_volumes }): Query<DeleteNodeQuery>,
) -> Result<StatusCode, ApiError> {
    let done = core
        .commit(|snapshot| {
            let row = find(snapshot, names.text("node"))?;
            may_be_removed(&core, snapshot, row)?;
            let volumes = given_up(snapshot, row, lose_volumes.as_deref())?;
            let mut details = String::new();
            let mut ops: Vec<Op> = vec![
                rows::delete::<Node>(row.id, Some(row.revision)),
                rows::delete::<NodeOutbox>(row.id, None),
                rows::delete::<NodeSession>(row.id, None),
                rows::delete::<AvailabilityRow>(row.id, None),
                Op::Delete { key: name_claim(&row.name), expected: None },
            ];
            let mut news =
                vec![Event::new("node.removed", row.name.to_string(), "removed; its key is forgotten")];
            for volume in &volumes {
                ops.extend(lose(snapshot, volume));
                let text = format!("given up with {}, where its data was", row.name);
                news.push(
                    Event::new("volume.lost", volume.key.to_string(), text).of_stack(&volume.key.stack_key()),
                );
                details.push_str(&format!(
                    "{}gives up {}",
                    if details.is_empty() { "" } else { ", " },
                    volume.key
                ));
            }
            ops.push(rows::create(&who.audit("node.delete", row.name.to_string(), &details)));
            if let Some(identity) = snapshot.identities.get(&row.id) {
                ops.push(rows::delete::<NodeIdentity>(row.id, Some(identity.revision)));
                ops.push(Op::Delete { key: key_claim(&identity.fingerprint), expected: None });
            }
            ops.extend(rows::events(news));
            Ok((ops, row.id))
        })
        .await?;
    // Its session sees it by itself; what it has open besides, and what it said, ends here.
    core.live.believe_no_more(done.value);
    session::cut(&core, done.value);
    Ok(StatusCode::NO_CONTENT)
}

/// Who is in use is emptied first.
fn may_be_removed(core: &Core, snapshot: &Snapshot, row: &Row<Node>) -> Result<(), Refused> {
    if !matches!(row.approval, Approval::Approved | Approval::Quarantined) || row.is_lost() {
        return Ok(());
    }
    let here = row.presence.state == PresenceState::Connected;
    if row.eligibility != Eligibility::Draining {
        let hint = format!(
            "run `lattice node drain {}` first, or `lattice node revoke {}` to throw it out",
            row.name, row.name
        );
        let how = if here { "belongs to the cluster" } else { "is away and not lost yet" };
        return refuse(conflict(format!("{} {how}", row.name), hint));
    }
    let view = views::node(core, snapshot, row);
    match view.drain {
        Some(drain) if drain.moving > 0 => {
            let text = format!("{} replicas on {} have not moved yet", drain.moving, row.name);
            let hint = format!(
                "wait for `lattice node drain {} --wait`; `lattice node show` says what stays, and why",
                row.name
            );
            refuse(conflict(text, hint))
        }
        _ => Ok(()),
    }
}

/// The volumes whose data is only on the node, where somebody gives them up by its name.
fn given_up<'a>(
    snapshot: &'a Snapshot,
    row: &Row<Node>,
    confirmed: Option<&str>,
) -> Result<Vec<&'a Row<Volume>>, Refused> {
    let there = |volume: &&Row<Volume>| volume.node == Some(row.id) && volume.exists && !volume.deleting;
    let volumes: Vec<_> = snapshot.cluster.volumes.values().filter(there).collect();
    if volumes.is_empty() || confirmed == Some(row.name.as_str()) {
        return Ok(volumes);
    }
    let details = volumes.iter().map(|v| Problem::at("volume", v.key.to_string())).collect();
    let body = match confirmed {
        None => conflict(
            format!("the data of {} volumes is only on {}", volumes.len(), row.name),
            format!("move it first; `lattice node rm --lose-volumes {}` gives it up for ever", row.name),
        ),
        Some(other) => ErrorBody::new(
            ErrorCode::Mismatch,
            format!("{other:?} is not the name of {}, so its volumes are not given up", row.name),
            "type the node's name to give up its volumes",
        ),
    };
    refuse(body.with_details(details))
}

/// A volume that is given up: its services begin with an empty one, as somebody decided.
fn lose(snapshot: &Snapshot, volume: &Row<Volume>) -> Vec<Op> {
    let mut ops = vec![rows::delete::<Volume>(volume.id, Some(volume.revision))];
    let stack = volume.key.stack_key();
    let used = |w: &Row<lattice_model::resource::Workload>| {
        w.spec.mounts.iter().any(|m| m.volume == volume.key.volume)
    };
    if snapshot.cluster.workloads_of(&stack).any(used) {
        ops.push(rows::create(&Volume {
            id: lattice_model::VolumeId::from_random(clock::random_bits()),
            key: volume.key.clone(),
            node: None,
            exists: false,
            epoch: volume.epoch + 1,
            missing: false,
            deleting: false,
            created_at: clock::now(),
        }));
    }
    ops
}
