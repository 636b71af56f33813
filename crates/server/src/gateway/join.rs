//! A computer asks to become a node.
//!
//! The gates, in order: 1. the request is for the key that it shows, by the signature of that key;
//! 2. a key that is known already is that node, in whatever state it is, and spends no token;
//! 3. the token is good; 4. not too many wait; 5. node, key and the token's use are written as one
//! transaction, so that a token is never used once too often.

use super::{admitted, certificate, fingerprint, note_certificate, unavailable};
use crate::{
    clock,
    rows::{self, Audit, Event, JoinTokenRow, NodeIdentity},
    state::{Core, Refused, Snapshot},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use lattice_api::{ErrorBody, ErrorCode};
use lattice_identity::{
    Presented, RatchetValue, ServerRatchet, TokenRecord, TokenSecret, ca::request_public_key,
};
use lattice_link::{
    Refusal,
    message::{Approved, JoinRequest, JoinUpdate, Secret},
    server::{JoinUpdates, Peer},
};
use lattice_model::{
    NodeId, NodeName, OwnerName,
    resource::{Approval, Eligibility, Node, Presence, PresenceState},
};
use lattice_store::Op;
use std::sync::Arc;

/// How many may wait for a decision.
const MAX_PENDING: usize = 1000;

pub(super) async fn join(core: Arc<Core>, peer: Peer, request: JoinRequest) -> Result<JoinUpdates, Refusal> {
    // 1.
    let malformed =
        |text: String| Refusal::new(lattice_link::code::MALFORMED, text, "make a new key and ask again");
    let key = request_public_key(&request.csr_der).map_err(|error| malformed(error.to_string()))?;
    if key != request.public_key {
        return Err(malformed("the request is for another key than the one that it shows".into()));
    }
    let print = fingerprint(&key);
    // 2. and 3.: outside of the transaction, so that a refusal is told apart from a conflict.
    let known = core.snapshot().by_key.get(&print.to_string()).copied();
    let node = match known {
        Some(node) => node,
        None => admit(&core, peer, &request, &key).await?,
    };
    Ok(updates(core, node, print.evidence(), request.csr_der))
}

/// Takes a new key in; gives the node's id.
async fn admit(core: &Core, peer: Peer, request: &JoinRequest, key: &[u8]) -> Result<NodeId, Refusal> {
    let secret: [u8; 32] = request.token_secret.reveal().try_into().map_err(|_| {
        Refusal::new(
            "token_forged",
            "the token's secret has the wrong length",
            "copy the token again as a whole",
        )
    })?;
    let root = core.authority.read().root_fingerprint();
    let presented = Presented { id: request.token_id, secret: TokenSecret::from_bytes(secret), root };
    let node = NodeId::from_random(clock::random_bits());
    let mut refusal = None;
    let decided = core
        .commit(|snapshot| {
            let now = clock::now();
            let token = snapshot.join_tokens.get(&request.token_id);
            if let Err(refused) = TokenRecord::judge(token.map(|row| &row.record), &presented, &root, now) {
                refusal = Some(Refusal::new(refused.code(), refused.to_string(), ""));
                return Err(stop());
            }
            let Some(token) = token else { return Err(stop()) };
            let waiting =
                snapshot.cluster.nodes.values().filter(|row| row.approval == Approval::Pending).count();
            if waiting >= MAX_PENDING {
                let text = format!("{waiting} computers wait for approval already");
                let hint = "an operator decides on some of them first (`lattice node ls`)";
                let after = lattice_model::Duration::from_secs(60);
                refusal = Some(Refusal::new(lattice_link::code::BUSY, text, hint).after(after));
                return Err(stop());
            }
            Ok((enrol(core, snapshot, node, peer, request, key, token), ()))
        })
        .await;
    match (decided, refusal) {
        (Ok(_), _) => Ok(node),
        (Err(_), Some(refusal)) => {
            tracing::warn!(address = %peer.addr, token = %request.token_id, code = %refusal.code, "a join was refused");
            Err(refusal)
        }
        (Err(refused), None) => {
            // Two requests with one key at once: the first one made the node.
            let print = fingerprint(key).to_string();
            core.snapshot().by_key.get(&print).copied().ok_or_else(|| unavailable(refused))
        }
    }
}

/// Ends the decision; the refusal for the agent is kept beside it.
fn stop() -> Refused {
    Refused::Body(ErrorBody::new(ErrorCode::Forbidden, "the join was refused", ""))
}

fn enrol(
    core: &Core,
    snapshot: &Snapshot,
    id: NodeId,
    peer: Peer,
    request: &JoinRequest,
    key: &[u8],
    token: &lattice_planner::Row<JoinTokenRow>,
) -> Vec<Op> {
    let now = clock::now();
    let by_rule =
        token.record.policy.auto_approve.as_ref().is_some_and(|rule| rule.approves(peer.addr.ip(), None));
    let outdated = core
        .config
        .min_agent_version
        .as_deref()
        .is_some_and(|minimum| !lattice_link::agent_version_ok(&request.agent_version, minimum));
    let node = Node {
        id,
        name: free_name(snapshot, request, id),
        owner: token.owner.clone(),
        pool: token.record.policy.pool.clone(),
        pool_fixed: token.fixes_pool,
        home_pool: Some(token.record.policy.pool.clone()),
        pool_since: None,
        approval: if by_rule { Approval::Approved } else { Approval::Pending },
        eligibility: if outdated { Eligibility::Outdated } else { Eligibility::Eligible },
        capacity: request.capacity,
        facts: request.facts.clone(),
        labels: Default::default(),
        taints: Default::default(),
        drain: None,
        presence: Presence { state: PresenceState::New, since: now },
        conditions: Vec::new(),
        standing: Default::default(),
        joined_at: now,
    };
    let print = fingerprint(key);
    let identity = NodeIdentity {
        node: id,
        public_key: BASE64_STANDARD.encode(key),
        fingerprint: print.to_string(),
        token: Some(token.record.id),
        address: peer.addr.ip().to_canonical().to_string(),
        ratchet: ServerRatchet::new(),
        resume_next: false,
        certificate_serial: None,
        certificate_expires_at: None,
        reason: None,
        clone_warning: None,
    };
    let details =
        format!("key {}, from {}, token {}", print.evidence(), identity.address, token.record.id.short());
    let mut news = vec![
        Event::new("node.joined", node.name.to_string(), "it asks to join")
            .on(&node)
            .because(Some(details.clone())),
    ];
    if by_rule {
        news.push(
            Event::new("node.approved", node.name.to_string(), "approved by the rule of its join token")
                .on(&node),
        );
    }
    let action = if by_rule { "node.approve" } else { "node.join" };
    let audit = Audit::new("system", action, node.name.to_string(), details);
    let mut ops = vec![
        rows::create(&node),
        rows::create(&identity),
        rows::update(
            &JoinTokenRow { record: token.record.spent(), ..(*token.value).clone() },
            token.revision,
        ),
        rows::create(&audit),
        claim_name(&node.name, id),
        // So that two requests with one key cannot both make a node.
        Op::Create {
            key: key_claim(&print.to_string()),
            project: None,
            owner: Some(Arc::from(OwnerName::admin().as_str())),
            body: format!("\"{id}\"").into(),
        },
    ];
    ops.extend(rows::events(news));
    ops
}

/// The row that makes a key unique; removed with its node.
pub(crate) fn key_claim(fingerprint: &str) -> lattice_store::Key {
    lattice_store::Key::new(lattice_store::Kind::new("node_key"), fingerprint)
}

/// The row that makes a name unique, so that nobody is approved in another one's place.
pub(crate) fn name_claim(name: &NodeName) -> lattice_store::Key {
    lattice_store::Key::new(lattice_store::Kind::new("node_name"), name.as_str())
}

/// Takes a name, which nobody has.
pub(crate) fn claim_name(name: &NodeName, id: NodeId) -> Op {
    let owner = Some(Arc::from(OwnerName::admin().as_str()));
    Op::Create { key: name_claim(name), project: None, owner, body: format!("\"{id}\"").into() }
}

/// The name that it wants, or its host name, with a number where that is taken.
fn free_name(snapshot: &Snapshot, request: &JoinRequest, id: NodeId) -> NodeName {
    let host: String = request.facts.hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let wanted = request.name.clone().or_else(|| NodeName::new(host).ok());
    let taken = |name: &NodeName| snapshot.cluster.nodes.values().any(|node| node.name == *name);
    let last = || NodeName::new(format!("node-{}", id.short()));
    let base = match wanted.map_or_else(last, Ok) {
        Ok(name) => name,
        // Eight hexadecimal digits are always a name.
        Err(_) => return NodeName::new("node").unwrap_or_else(|_| unreachable!("a word is a name")),
    };
    if !taken(&base) {
        return base;
    }
    let stem: String = base.as_str().chars().take(50).collect();
    let numbered = (2..1000).filter_map(|n| NodeName::new(format!("{stem}-{n}")).ok());
    numbered.into_iter().find(|name| !taken(name)).or_else(|| last().ok()).unwrap_or(base)
}

enum Waiting {
    First,
    Told,
    Over,
}

/// What becomes of the request: pending once, then the decision.
fn updates(core: Arc<Core>, node: NodeId, evidence: String, csr: Vec<u8>) -> JoinUpdates {
    let snapshots = core.snapshots.subscribe();
    let state = (core, snapshots, evidence, csr, Waiting::First);
    stream::unfold(state, move |(core, mut snapshots, evidence, csr, waiting)| async move {
        if matches!(waiting, Waiting::Over) {
            return None;
        }
        loop {
            let (row, reason) = {
                let snapshot = snapshots.borrow_and_update();
                let reason = snapshot.identities.get(&node).and_then(|row| row.reason.clone());
                (snapshot.cluster.nodes.get(&node).cloned(), reason)
            };
            let update = match row {
                None => JoinUpdate::Refused(super::unknown()),
                Some(row) if row.approval == Approval::Pending => {
                    if matches!(waiting, Waiting::First) {
                        let hint = format!(
                            "an operator compares the fingerprint and runs `lattice node approve {}`",
                            row.name
                        );
                        let update = JoinUpdate::Pending { node, fingerprint: evidence.clone(), hint };
                        return Some((update, (core, snapshots, evidence, csr, Waiting::Told)));
                    }
                    tokio::select! {
                        () = core.shutdown.cancelled() => return None,
                        changed = snapshots.changed() => changed.ok()?,
                    }
                    continue;
                }
                Some(row) => match admitted(&row, reason.as_deref()) {
                    Err(refusal) => JoinUpdate::Refused(refusal),
                    Ok(()) => match approve(&core, node, &csr).await {
                        Ok(approved) => JoinUpdate::Approved(approved),
                        Err(refusal) => JoinUpdate::Refused(refusal),
                    },
                },
            };
            return Some((update, (core, snapshots, evidence, csr, Waiting::Over)));
        }
    })
    .boxed()
}

async fn approve(core: &Core, node: NodeId, csr: &[u8]) -> Result<Approved, Refusal> {
    let (certificate, serial) = certificate(core, node, csr)?;
    note_certificate(core, node, &serial, &certificate).await?;
    tracing::info!(%node, serial, "a node got its certificate");
    let ratchet = Secret::new(String::from(RatchetValue::GENESIS).into_bytes());
    Ok(Approved { node, cluster: core.cluster, certificate, ratchet })
}
