//! What agents may do: the server's [`Gateway`], every decision of which is taken here.
//!
//! - [`join`]: a computer becomes a node, and gets its first certificate;
//! - [`renew`]: a node comes back by its key, after any absence;
//! - [`session`]: a node's session, from Hello to Goodbye;
//! - [`reports`]: what nodes say happened, exactly once;
//! - [`streams`]: logs and commands, asked for by the API and answered by the agent;
//! - [`probe`]: how much passes between a node and this server in a moment;
//! - [`trees`]: files that travelled with a deployment, for the nodes that mount them.
//!
//! An agent is believed about itself alone: a session is of the node that its certificate names,
//! and whatever it says about another node's allocation or volume is refused and told.

pub(crate) mod images;
mod join;
pub(crate) mod probe;
mod renew;
pub(crate) mod reports;
pub(crate) mod session;
pub(crate) mod streams;
mod trees;

pub(crate) use join::{claim_name, key_claim, name_claim};

use crate::{clock, rows::NodeIdentity, state::Core};
use async_trait::async_trait;
use lattice_identity::{Fingerprint, PeerIdentity, ca::NODE_VALIDITY, peer_node};
use lattice_link::{
    BulkChannel, Refusal,
    message::{
        BulkEnd, Certificate, Hello, ImagePartRequest, JoinRequest, RenewRequest, StreamId, TreeRequest,
    },
    server::{CertifiedPeer, Gateway, JoinUpdates, Peer, Session, TreeBytes},
};
use lattice_model::{
    NodeId,
    resource::{Approval, Node},
};
use std::sync::Arc;

/// The gateway of a server.
pub(crate) struct AgentGateway(pub(crate) Arc<Core>);

#[async_trait]
impl Gateway for AgentGateway {
    async fn join(&self, peer: Peer, request: JoinRequest) -> Result<JoinUpdates, Refusal> {
        join::join(Arc::clone(&self.0), peer, request).await
    }

    async fn challenge(&self, _peer: Peer, node: NodeId) -> Result<Vec<u8>, Refusal> {
        renew::challenge(&self.0, node)
    }

    async fn renew(&self, peer: Peer, request: RenewRequest) -> Result<Certificate, Refusal> {
        renew::renew(&self.0, peer, request).await
    }

    async fn session(&self, peer: CertifiedPeer, hello: Hello, session: Session) -> Result<(), Refusal> {
        session::serve(Arc::clone(&self.0), peer, hello, session).await
    }

    async fn tree(&self, peer: CertifiedPeer, request: TreeRequest) -> Result<TreeBytes, Refusal> {
        let node = self.certified(&peer)?;
        trees::give(&self.0, node, request).await
    }

    async fn image_part(&self, peer: CertifiedPeer, request: ImagePartRequest) -> Result<TreeBytes, Refusal> {
        let node = self.certified(&peer)?;
        images::give(&self.0, node, request).await
    }

    async fn probe(&self, peer: CertifiedPeer, channel: BulkChannel) {
        match self.certified(&peer) {
            Ok(node) => probe::serve(&self.0.live.probes, node, channel).await,
            Err(refusal) => {
                let _ = channel.send.close(BulkEnd::Failed(refusal)).await;
            }
        }
    }

    async fn bulk(&self, peer: CertifiedPeer, stream: StreamId, channel: BulkChannel) {
        match self.certified(&peer) {
            Ok(node) => self.0.live.streams.answer(node, stream, channel).await,
            Err(refusal) => {
                let _ = channel.send.close(BulkEnd::Failed(refusal)).await;
            }
        }
    }
}

impl AgentGateway {
    /// The node of a connection beside its session, if it may be served.
    fn certified(&self, peer: &CertifiedPeer) -> Result<NodeId, Refusal> {
        let who = identify(&self.0, peer)?;
        match self.0.snapshot().cluster.nodes.get(&who.node) {
            Some(node) => admitted(node, None).map(|()| who.node),
            None => Err(unknown()),
        }
    }
}

/// The codes that the gateway adds to those of the link.
pub(crate) mod code {
    /// It waits for approval.
    pub(crate) const PENDING: &str = "node_pending";
    /// It was turned away.
    pub(crate) const REJECTED: &str = "node_rejected";
    /// It was thrown out.
    pub(crate) const REVOKED: &str = "node_revoked";
    /// Two machines use its key.
    pub(crate) const QUARANTINED: &str = "node_quarantined";
    /// The cluster does not know it.
    pub(crate) const UNKNOWN: &str = "node_unknown";
    /// A newer session of the same node took over.
    pub(crate) const REPLACED: &str = "session_replaced";
    /// The session's certificate has ended.
    pub(crate) const CERTIFICATE_ENDED: &str = "certificate_ended";
    /// The server's store is older than what the node has.
    pub(crate) const BEHIND: &str = "store_behind";
    /// The server could not do it now.
    pub(crate) const UNAVAILABLE: &str = "unavailable";
}

/// Whose connection it is: what the certificate says, held against what was registered.
fn identify(core: &Core, peer: &CertifiedPeer) -> Result<PeerIdentity, Refusal> {
    let malformed = |text: String| Refusal::new(lattice_link::code::MALFORMED, text, "renew the certificate");
    let who = peer_node(peer.leaf()).map_err(|error| malformed(error.to_string()))?;
    if who.cluster != core.cluster {
        return Err(malformed("the certificate is of another cluster".into()));
    }
    let snapshot = core.snapshot();
    let registered = snapshot.identities.get(&who.node).ok_or_else(unknown)?;
    if registered.fingerprint != who.public_key_fingerprint.to_string() {
        return Err(malformed("the certificate is not for the key that this node registered".into()));
    }
    Ok(who)
}

fn unknown() -> Refusal {
    Refusal::new(
        code::UNKNOWN,
        "the cluster does not know this node: it was removed, or the store was restored from before it joined",
        "join again with a new token (`lattice token create`, then `lattice-agent join`)",
    )
}

/// Whether a node may be served, or why not.
fn admitted(node: &Node, reason: Option<&str>) -> Result<(), Refusal> {
    let because = reason.filter(|text| !text.is_empty()).map_or_else(String::new, |text| format!(": {text}"));
    let name = &node.name;
    let (code, message, hint) = match node.approval {
        Approval::Approved => return Ok(()),
        Approval::Pending => (
            code::PENDING,
            format!("{name} waits for approval"),
            format!("an operator approves it with `lattice node approve {name}`"),
        ),
        Approval::Rejected => (
            code::REJECTED,
            format!("{name} was turned away{because}"),
            "ask the operator; `lattice node rm` makes a new attempt possible".into(),
        ),
        Approval::Revoked => (
            code::REVOKED,
            format!("{name} was thrown out of the cluster{because}"),
            "ask the operator; `lattice node rm` makes a new attempt possible".into(),
        ),
        Approval::Quarantined => (
            code::QUARANTINED,
            format!("two machines use the key of {name}, so neither is served"),
            format!(
                "stop the copy, then an operator runs `lattice node approve {name}`; whichever connects next goes on"
            ),
        ),
    };
    Err(Refusal::new(code, message, hint))
}

/// Signs a certificate for the node's registered key.
fn certificate(core: &Core, node: NodeId, csr: &[u8]) -> Result<(Certificate, String), Refusal> {
    let issued =
        core.authority.read().issue_node(node, csr, clock::now(), NODE_VALIDITY).map_err(|error| {
            tracing::error!(%node, %error, "a certificate was not signed");
            Refusal::new(
                code::UNAVAILABLE,
                error.to_string(),
                "try again; if it stays so, look at the server's log",
            )
        })?;
    let chain_der = issued.chain.iter().map(|der| der.to_vec()).collect();
    Ok((Certificate { chain_der, not_after: issued.not_after }, issued.serial))
}

/// The key's fingerprint, as it is registered.
fn fingerprint(public_key: &[u8]) -> Fingerprint {
    Fingerprint::of(public_key)
}

/// A refusal of the store's, for an agent.
fn unavailable(refused: crate::state::Refused) -> Refusal {
    let body = lattice_api::ErrorBody::from(refused);
    let after = lattice_model::Duration::from_secs(1);
    Refusal::new(code::UNAVAILABLE, body.message, "the agent tries again by itself").after(after)
}

/// Writes down the certificate that was signed last.
async fn note_certificate(
    core: &Core,
    node: NodeId,
    serial: &str,
    certificate: &Certificate,
) -> Result<(), Refusal> {
    core.commit(|snapshot| {
        let Some(row) = snapshot.identities.get(&node) else { return Ok((Vec::new(), ())) };
        let changed = NodeIdentity {
            certificate_serial: Some(serial.to_owned()),
            certificate_expires_at: Some(certificate.not_after),
            ..(*row.value).clone()
        };
        Ok((vec![crate::rows::update(&changed, row.revision)], ()))
    })
    .await
    .map(drop)
    .map_err(unavailable)
}
