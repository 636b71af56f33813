//! The messages of enrolment.

use super::*;
use crate::{
    message::{Approved, Certificate, JoinRequest, JoinUpdate, RenewRequest, Secret},
    proto::{challenge_reply, join_update, renew_reply},
};
use lattice_model::Timestamp;

impl From<JoinRequest> for proto::JoinRequest {
    fn from(request: JoinRequest) -> Self {
        let JoinRequest {
            protocol,
            agent_version,
            token_id,
            token_secret,
            csr_der,
            public_key,
            name,
            facts,
            capacity,
        } = request;
        Self {
            protocol: Some(protocol.into()),
            agent_version,
            token_id: uuid(token_id.uuid()),
            token_secret: Bytes::copy_from_slice(token_secret.reveal()),
            csr_der: csr_der.into(),
            public_key: public_key.into(),
            name: name.map(String::from).unwrap_or_default(),
            facts_json: to_json(&facts),
            capacity: Some(capacity.into()),
        }
    }
}

impl TryFrom<proto::JoinRequest> for JoinRequest {
    type Error = WireError;

    fn try_from(request: proto::JoinRequest) -> Wire<Self> {
        let proto::JoinRequest {
            protocol,
            agent_version,
            token_id,
            token_secret,
            csr_der,
            public_key,
            name,
            facts_json,
            capacity,
        } = request;
        Ok(Self {
            protocol: some("protocol", protocol)?.into(),
            agent_version: text("agent_version", agent_version, MAX_WORD)?,
            token_id: lattice_model::TokenId::new(id("token_id", &token_id)?),
            token_secret: Secret::new(opaque("token_secret", &token_secret, MAX_OPAQUE)?),
            csr_der: opaque("csr_der", &csr_der, MAX_DER)?,
            public_key: opaque("public_key", &public_key, MAX_OPAQUE)?,
            name: if name.is_empty() { None } else { Some(name.try_into().map_err(|e| invalid("name", e))?) },
            facts: facts(&facts_json)?,
            capacity: some("capacity", capacity)?.into(),
        })
    }
}

impl From<Certificate> for proto::Certificate {
    fn from(certificate: Certificate) -> Self {
        let Certificate { chain_der, not_after } = certificate;
        Self { chain_der: chain_der.into_iter().map(Into::into).collect(), not_after_ms: not_after.0 }
    }
}

impl TryFrom<proto::Certificate> for Certificate {
    type Error = WireError;

    fn try_from(certificate: proto::Certificate) -> Wire<Self> {
        let proto::Certificate { chain_der, not_after_ms } = certificate;
        bounded("chain_der", chain_der.len(), MAX_CHAIN)?;
        if chain_der.is_empty() {
            return Err(WireError::Missing("chain_der"));
        }
        let chain_der = chain_der.iter().map(|der| opaque("chain_der", der, MAX_DER)).collect::<Wire<_>>()?;
        Ok(Self { chain_der, not_after: Timestamp(not_after_ms) })
    }
}

impl From<JoinUpdate> for proto::JoinUpdate {
    fn from(update: JoinUpdate) -> Self {
        let kind = match update {
            JoinUpdate::Pending { node, fingerprint, hint } => {
                join_update::Kind::Pending(proto::JoinPending {
                    node_id: uuid(node.uuid()),
                    fingerprint,
                    hint,
                })
            }
            JoinUpdate::Approved(Approved { node, cluster, certificate, ratchet }) => {
                join_update::Kind::Approved(proto::JoinApproved {
                    node_id: uuid(node.uuid()),
                    cluster_id: uuid(cluster.uuid()),
                    certificate: Some(certificate.into()),
                    ratchet: Bytes::copy_from_slice(ratchet.reveal()),
                })
            }
            JoinUpdate::Refused(refusal) => join_update::Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::JoinUpdate> for JoinUpdate {
    type Error = WireError;

    fn try_from(update: proto::JoinUpdate) -> Wire<Self> {
        Ok(match some("kind", update.kind)? {
            join_update::Kind::Pending(proto::JoinPending { node_id, fingerprint, hint }) => Self::Pending {
                node: lattice_model::NodeId::new(id("node_id", &node_id)?),
                fingerprint: text("fingerprint", fingerprint, MAX_FACT)?,
                hint: text("hint", hint, MAX_TEXT)?,
            },
            join_update::Kind::Approved(proto::JoinApproved {
                node_id,
                cluster_id,
                certificate,
                ratchet,
            }) => Self::Approved(Approved {
                node: lattice_model::NodeId::new(id("node_id", &node_id)?),
                cluster: lattice_model::ClusterId::new(id("cluster_id", &cluster_id)?),
                certificate: some("certificate", certificate)?.try_into()?,
                ratchet: Secret::new(opaque("ratchet", &ratchet, MAX_OPAQUE)?),
            }),
            join_update::Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

/// Reads the node of a request for a challenge.
#[cfg(feature = "server")]
pub(crate) fn challenge_request(request: &proto::ChallengeRequest) -> Wire<lattice_model::NodeId> {
    id("node_id", &request.node_id).map(lattice_model::NodeId::new)
}

#[cfg(feature = "client")]
pub(crate) fn challenge_for(node: lattice_model::NodeId) -> proto::ChallengeRequest {
    proto::ChallengeRequest { node_id: uuid(node.uuid()) }
}

impl From<Result<Vec<u8>, Refusal>> for proto::ChallengeReply {
    fn from(reply: Result<Vec<u8>, Refusal>) -> Self {
        Self {
            kind: Some(match reply {
                Ok(challenge) => challenge_reply::Kind::Challenge(challenge.into()),
                Err(refusal) => challenge_reply::Kind::Refused(refusal.into()),
            }),
        }
    }
}

impl TryFrom<proto::ChallengeReply> for Result<Vec<u8>, Refusal> {
    type Error = WireError;

    fn try_from(reply: proto::ChallengeReply) -> Wire<Self> {
        match some("kind", reply.kind)? {
            challenge_reply::Kind::Challenge(bytes) => opaque("challenge", &bytes, MAX_OPAQUE).map(Ok),
            challenge_reply::Kind::Refused(refusal) => refusal.try_into().map(Err),
        }
    }
}

impl From<RenewRequest> for proto::RenewRequest {
    fn from(request: RenewRequest) -> Self {
        let RenewRequest { node, challenge, signature, csr_der } = request;
        Self {
            node_id: uuid(node.uuid()),
            challenge: challenge.into(),
            signature: signature.into(),
            csr_der: csr_der.into(),
        }
    }
}

impl TryFrom<proto::RenewRequest> for RenewRequest {
    type Error = WireError;

    fn try_from(request: proto::RenewRequest) -> Wire<Self> {
        let proto::RenewRequest { node_id, challenge, signature, csr_der } = request;
        Ok(Self {
            node: lattice_model::NodeId::new(id("node_id", &node_id)?),
            challenge: opaque("challenge", &challenge, MAX_OPAQUE)?,
            signature: opaque("signature", &signature, MAX_OPAQUE)?,
            csr_der: opaque("csr_der", &csr_der, MAX_DER)?,
        })
    }
}

impl From<Result<Certificate, Refusal>> for proto::RenewReply {
    fn from(reply: Result<Certificate, Refusal>) -> Self {
        Self {
            kind: Some(match reply {
                Ok(certificate) => renew_reply::Kind::Approved(certificate.into()),
                Err(refusal) => renew_reply::Kind::Refused(refusal.into()),
            }),
        }
    }
}

impl TryFrom<proto::RenewReply> for Result<Certificate, Refusal> {
    type Error = WireError;

    fn try_from(reply: proto::RenewReply) -> Wire<Self> {
        match some("kind", reply.kind)? {
            renew_reply::Kind::Approved(certificate) => certificate.try_into().map(Ok),
            renew_reply::Kind::Refused(refusal) => refusal.try_into().map(Err),
        }
    }
}
