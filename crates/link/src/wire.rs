//! Between the generated messages and [`crate::message`]: every field that comes from the other
//! side is bounded and validated here, and nowhere else.
//!
//! Documents that the model owns (facts, states, kinds of reports) travel as their JSON: they
//! have one definition, and their growth is the model's affair.

use crate::{
    error::Refusal,
    message::*,
    proto::{self, agent_message, bulk_frame, challenge_reply, join_update, renew_reply, server_message},
};
use bytes::Bytes;
use lattice_model::{
    AllocationId, Bytes as Amount, Cpu, Duration, GoalId, SealedGoal, Timestamp,
    goal::InvalidGoal,
    report::{Report, ReportKind},
    resource::{Capacity, NodeFacts},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// The longest message of a session from the agent, in bytes.
pub const MAX_UP: usize = 1 << 20;
/// The longest message of a session from the server, in bytes; goals travel in parts.
pub const MAX_DOWN: usize = 256 << 10;
/// The longest message of enrolment, in bytes.
pub const MAX_ENROLL: usize = 64 << 10;
/// The most data in one frame of a stream, in bytes.
pub const MAX_BULK: usize = 64 << 10;
/// The longest frame with what is around the data, in bytes.
pub(crate) const MAX_BULK_MESSAGE: usize = MAX_BULK + 1024;
/// The most body in one part of a goal, in bytes.
pub const GOAL_PART: usize = 32 << 10;
/// The most reports in one message.
pub const MAX_REPORTS: usize = 256;
/// The most bytes that the reports of one message may have together.
pub const MAX_REPORTS_BYTES: usize = 512 << 10;
/// The most allocations in a Hello.
pub const MAX_STATUSES: usize = 1024;
/// The longest JSON of one report or state, in bytes.
pub const MAX_KIND: usize = 64 << 10;

const MAX_TEXT: usize = 4096;
const MAX_WORD: usize = 64;
const MAX_FACT: usize = 256;
const MAX_JSON: usize = 16 << 10;
const MAX_DER: usize = 16 << 10;
const MAX_OPAQUE: usize = 1024;
const MAX_CHAIN: usize = 8;
/// What a reason is cut to inside a Hello, so that [`MAX_STATUSES`] of them fit into [`MAX_UP`].
const HELLO_REASON: usize = 256;

/// How a message breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Over its bound.
    #[error("{field} has {len} bytes or items, and at most {max} are taken")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// What it has.
        len: usize,
        /// What it may have.
        max: usize,
    },
    /// Not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Not what it should be.
    #[error("{field} cannot be read: {problem}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A message at a place where the protocol has another.
    #[error("{got} came where {expected} was expected")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// Refused by gRPC before it was read: too long or not a message.
    #[error("the message was not taken: {0}")]
    Rpc(String),
}

type Wire<T> = Result<T, WireError>;

fn invalid(field: &'static str, problem: impl ToString) -> WireError {
    WireError::Invalid { field, problem: problem.to_string() }
}

fn bounded(field: &'static str, len: usize, max: usize) -> Wire<()> {
    if len > max { Err(WireError::TooLong { field, len, max }) } else { Ok(()) }
}

fn text(field: &'static str, text: String, max: usize) -> Wire<String> {
    bounded(field, text.len(), max).map(|()| text)
}

fn opaque(field: &'static str, bytes: &Bytes, max: usize) -> Wire<Vec<u8>> {
    bounded(field, bytes.len(), max).map(|()| bytes.to_vec())
}

fn some<T>(field: &'static str, value: Option<T>) -> Wire<T> {
    value.ok_or(WireError::Missing(field))
}

fn id(field: &'static str, bytes: &Bytes) -> Wire<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| invalid(field, format_args!("{} bytes are not an id", bytes.len())))
}

fn json<T: DeserializeOwned>(field: &'static str, bytes: &Bytes, max: usize) -> Wire<T> {
    bounded(field, bytes.len(), max)?;
    serde_json::from_slice(bytes).map_err(|e| invalid(field, e))
}

fn to_json(value: &impl serde::Serialize) -> Bytes {
    // Types of the model and of this crate: maps with text keys, nothing that can fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn uuid(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// Cuts at a character.
pub(crate) fn clip(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(3)));
        text.push('…');
    }
}

fn clipped(text: &str, max: usize) -> String {
    let mut text = text.to_owned();
    clip(&mut text, max);
    text
}

/// For one line of a table: bounded, without control characters.
fn fact(text: &mut String) {
    clip(text, MAX_FACT);
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
}

fn facts(bytes: &Bytes) -> Wire<NodeFacts> {
    let mut facts: NodeFacts = json("facts", bytes, MAX_JSON)?;
    let NodeFacts {
        hostname,
        os,
        os_version,
        kernel,
        arch,
        cpu_model,
        cpus: _,
        memory: _,
        engine_version,
        agent_version,
    } = &mut facts;
    [hostname, os, os_version, kernel, arch, cpu_model, engine_version, agent_version]
        .into_iter()
        .for_each(fact);
    Ok(facts)
}

impl From<ProtocolRange> for proto::ProtocolRange {
    fn from(range: ProtocolRange) -> Self {
        Self { min: range.min, max: range.max }
    }
}

impl From<proto::ProtocolRange> for ProtocolRange {
    fn from(range: proto::ProtocolRange) -> Self {
        Self { min: range.min, max: range.max }
    }
}

impl From<Capacity> for proto::Capacity {
    fn from(capacity: Capacity) -> Self {
        let Capacity { cpu, memory, disk } = capacity;
        Self { cpu_millis: cpu.0, memory_bytes: memory.0, disk_bytes: disk.0 }
    }
}

impl From<proto::Capacity> for Capacity {
    fn from(capacity: proto::Capacity) -> Self {
        let proto::Capacity { cpu_millis, memory_bytes, disk_bytes } = capacity;
        Self { cpu: Cpu(cpu_millis), memory: Amount(memory_bytes), disk: Amount(disk_bytes) }
    }
}

impl From<GoalId> for proto::GoalId {
    fn from(id: GoalId) -> Self {
        Self { incarnation: id.incarnation, revision: id.revision }
    }
}

impl From<proto::GoalId> for GoalId {
    fn from(id: proto::GoalId) -> Self {
        Self { incarnation: id.incarnation, revision: id.revision }
    }
}

fn code(code: String) -> Wire<String> {
    let code = text("code", code, MAX_WORD)?;
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if code.is_empty() || !code.chars().all(fine) {
        return Err(invalid("code", "only a-z, 0-9 and _ are allowed"));
    }
    Ok(code)
}

impl From<Refusal> for proto::Refusal {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, hint, retry_after } = refusal;
        Self {
            code: code.into_owned(),
            message: clipped(&message, MAX_TEXT),
            hint: clipped(&hint, MAX_TEXT),
            retry_after_ms: retry_after.map_or(0, |after| after.0.max(1)),
        }
    }
}

impl TryFrom<proto::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(refusal: proto::Refusal) -> Wire<Self> {
        let proto::Refusal { code: word, message, hint, retry_after_ms } = refusal;
        // An hour at most: a server that says more is not believed, or a node would stay away.
        let after = retry_after_ms.min(3_600_000);
        Ok(Self {
            code: code(word)?.into(),
            message: text("message", message, MAX_TEXT)?,
            hint: text("hint", hint, MAX_TEXT)?,
            retry_after: (after > 0).then_some(Duration(after)),
        })
    }
}

impl From<Notice> for proto::Notice {
    fn from(notice: Notice) -> Self {
        let Notice { code, message, hint } = notice;
        Self { code, message: clipped(&message, MAX_TEXT), hint: clipped(&hint, MAX_TEXT) }
    }
}

impl TryFrom<proto::Notice> for Notice {
    type Error = WireError;

    fn try_from(notice: proto::Notice) -> Wire<Self> {
        let proto::Notice { code: word, message, hint } = notice;
        Ok(Self {
            code: code(word)?,
            message: text("message", message, MAX_TEXT)?,
            hint: text("hint", hint, MAX_TEXT)?,
        })
    }
}

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
            name: if name.is_empty() {
                None
            } else {
                Some(name.try_into().map_err(|e| invalid("name", e))?)
            },
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
                join_update::Kind::Pending(proto::JoinPending { node_id: uuid(node.uuid()), fingerprint, hint })
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
            join_update::Kind::Approved(proto::JoinApproved { node_id, cluster_id, certificate, ratchet }) => {
                Self::Approved(Approved {
                    node: lattice_model::NodeId::new(id("node_id", &node_id)?),
                    cluster: lattice_model::ClusterId::new(id("cluster_id", &cluster_id)?),
                    certificate: some("certificate", certificate)?.try_into()?,
                    ratchet: Secret::new(opaque("ratchet", &ratchet, MAX_OPAQUE)?),
                })
            }
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

impl From<Hello> for proto::AgentMessage {
    fn from(hello: Hello) -> Self {
        let Hello {
            protocol,
            agent_version,
            capabilities,
            facts,
            capacity,
            goal,
            ratchet,
            boot_id,
            statuses,
            outbox,
        } = hello;
        let statuses = statuses
            .into_iter()
            .take(MAX_STATUSES)
            .map(|(id, mut status)| {
                if let Some(reason) = &mut status.reason {
                    clip(reason, HELLO_REASON);
                }
                proto::AllocationState { allocation_id: uuid(id.uuid()), status_json: to_json(&status) }
            })
            .collect();
        let hello = proto::Hello {
            protocol: Some(protocol.into()),
            agent_version,
            capabilities,
            facts_json: to_json(&facts),
            capacity: Some(capacity.into()),
            goal: goal.map(|(id, hash)| proto::GoalSeen {
                id: Some(id.into()),
                hash: Bytes::copy_from_slice(&hash),
            }),
            ratchet: Bytes::copy_from_slice(ratchet.reveal()),
            boot_id,
            statuses,
            outbox: Some(proto::OutboxMark {
                id: Bytes::copy_from_slice(&outbox.id.0.to_be_bytes()),
                first: outbox.first,
                next: outbox.next,
            }),
        };
        Self { kind: Some(agent_message::Kind::Hello(hello)) }
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = WireError;

    fn try_from(hello: proto::Hello) -> Wire<Self> {
        let proto::Hello {
            protocol,
            agent_version,
            capabilities,
            facts_json,
            capacity,
            goal,
            ratchet,
            boot_id,
            statuses,
            outbox,
        } = hello;
        bounded("capabilities", capabilities.len(), 64)?;
        bounded("statuses", statuses.len(), MAX_STATUSES)?;
        let goal = goal
            .map(|seen| {
                let hash = <[u8; 32]>::try_from(&seen.hash[..]).map_err(|e| invalid("goal.hash", e))?;
                Ok((some("goal.id", seen.id)?.into(), hash))
            })
            .transpose()?;
        let outbox = some("outbox", outbox)?;
        let outbox_id = <[u8; 16]>::try_from(&outbox.id[..]).map_err(|e| invalid("outbox.id", e))?;
        Ok(Self {
            protocol: some("protocol", protocol)?.into(),
            agent_version: text("agent_version", agent_version, MAX_WORD)?,
            capabilities: capabilities
                .into_iter()
                .map(|word| text("capabilities", word, MAX_WORD))
                .collect::<Wire<_>>()?,
            facts: facts(&facts_json)?,
            capacity: some("capacity", capacity)?.into(),
            goal,
            ratchet: Secret::new(opaque("ratchet", &ratchet, MAX_OPAQUE)?),
            boot_id: text("boot_id", boot_id, MAX_WORD)?,
            statuses: statuses
                .iter()
                .map(|state| {
                    let id = AllocationId::new(id("statuses.allocation_id", &state.allocation_id)?);
                    Ok((id, json("statuses.status", &state.status_json, MAX_KIND)?))
                })
                .collect::<Wire<_>>()?,
            outbox: OutboxMark {
                id: OutboxId(u128::from_be_bytes(outbox_id)),
                first: outbox.first,
                next: outbox.next,
            },
        })
    }
}

impl From<Reported> for proto::Report {
    fn from(report: Reported) -> Self {
        match report {
            Reported::Known(Report { seq, at, kind }) => {
                Self { seq, at_ms: at.0, kind_json: to_json(&kind) }
            }
            Reported::Unknown { seq, at, kind } => Self { seq, at_ms: at.0, kind_json: kind.into() },
        }
    }
}

impl TryFrom<proto::Report> for Reported {
    type Error = WireError;

    fn try_from(report: proto::Report) -> Wire<Self> {
        let proto::Report { seq, at_ms, kind_json } = report;
        bounded("reports.kind", kind_json.len(), MAX_KIND)?;
        if seq == 0 {
            return Err(invalid("reports.seq", "numbers begin at 1"));
        }
        Ok(reported(seq, Timestamp(at_ms), &kind_json))
    }
}

/// A report from its parts, known or not.
pub(crate) fn reported(seq: u64, at: Timestamp, kind: &[u8]) -> Reported {
    match serde_json::from_slice::<ReportKind>(kind) {
        Ok(kind) => Reported::Known(Report { seq, at, kind }),
        Err(_) => Reported::Unknown { seq, at, kind: String::from_utf8_lossy(kind).into_owned() },
    }
}

impl From<AgentMessage> for proto::AgentMessage {
    fn from(message: AgentMessage) -> Self {
        use agent_message::Kind;
        let kind = match message {
            AgentMessage::Reports(reports) => {
                Kind::Reports(proto::Reports { reports: reports.into_iter().map(Into::into).collect() })
            }
            AgentMessage::Heartbeat(Heartbeat { at, cpu_millis, memory_bytes, disk_free_bytes, running }) => {
                Kind::Heartbeat(proto::Heartbeat {
                    at_ms: at.0,
                    cpu_millis,
                    memory_bytes,
                    disk_free_bytes,
                    running,
                })
            }
            AgentMessage::GoalAccepted(id) => Kind::GoalAccepted(id.into()),
            AgentMessage::RatchetStored => Kind::RatchetStored(proto::RatchetStored {}),
        };
        Self { kind: Some(kind) }
    }
}

/// Reads the first message of a session.
#[cfg(feature = "server")]
pub(crate) fn hello(message: proto::AgentMessage) -> Wire<Hello> {
    match some("kind", message.kind)? {
        agent_message::Kind::Hello(hello) => hello.try_into(),
        _ => Err(WireError::Unexpected { got: "another message", expected: "Hello" }),
    }
}

impl TryFrom<proto::AgentMessage> for AgentMessage {
    type Error = WireError;

    fn try_from(message: proto::AgentMessage) -> Wire<Self> {
        use agent_message::Kind;
        Ok(match some("kind", message.kind)? {
            Kind::Hello(_) => {
                return Err(WireError::Unexpected { got: "a second Hello", expected: "another message" });
            }
            Kind::Reports(proto::Reports { reports }) => {
                bounded("reports", reports.len(), MAX_REPORTS)?;
                if !reports.windows(2).all(|w| w[0].seq < w[1].seq) {
                    return Err(invalid("reports", "their numbers do not rise"));
                }
                Self::Reports(reports.into_iter().map(TryInto::try_into).collect::<Wire<_>>()?)
            }
            Kind::Heartbeat(proto::Heartbeat {
                at_ms,
                cpu_millis,
                memory_bytes,
                disk_free_bytes,
                running,
            }) => Self::Heartbeat(Heartbeat {
                at: Timestamp(at_ms),
                cpu_millis,
                memory_bytes,
                disk_free_bytes,
                running,
            }),
            Kind::GoalAccepted(id) => Self::GoalAccepted(id.into()),
            Kind::RatchetStored(proto::RatchetStored {}) => Self::RatchetStored,
        })
    }
}

impl From<Welcome> for proto::Welcome {
    fn from(welcome: Welcome) -> Self {
        let Welcome { protocol, server_version, heartbeat, ratchet_next, ack_up_to, notice } = welcome;
        Self {
            protocol,
            server_version,
            heartbeat_ms: heartbeat.0,
            ratchet_next: ratchet_next.map(|next| Bytes::copy_from_slice(next.reveal())).unwrap_or_default(),
            ack_up_to,
            notice: notice.map(Into::into),
        }
    }
}

impl TryFrom<proto::Welcome> for Welcome {
    type Error = WireError;

    fn try_from(welcome: proto::Welcome) -> Wire<Self> {
        let proto::Welcome { protocol, server_version, heartbeat_ms, ratchet_next, ack_up_to, notice } =
            welcome;
        Ok(Self {
            protocol,
            server_version: text("server_version", server_version, MAX_WORD)?,
            // Neither a busy loop nor a node that is never heard of.
            heartbeat: Duration(heartbeat_ms.clamp(100, 300_000)),
            ratchet_next: if ratchet_next.is_empty() {
                None
            } else {
                Some(Secret::new(opaque("ratchet_next", &ratchet_next, MAX_OPAQUE)?))
            },
            ack_up_to,
            notice: notice.map(TryInto::try_into).transpose()?,
        })
    }
}

/// Writes a message that is no goal; a goal goes through [`goal_part`].
#[cfg(feature = "server")]
pub(crate) fn server_kind(message: ServerMessage) -> Result<server_message::Kind, SealedGoal> {
    use server_message::Kind;
    Ok(match message {
        ServerMessage::Goal(goal) => return Err(goal),
        ServerMessage::Welcome(welcome) => Kind::Welcome(welcome.into()),
        ServerMessage::Ack(up_to) => Kind::AckUpTo(up_to),
        ServerMessage::OpenStream(OpenStream { stream, request }) => {
            Kind::OpenStream(proto::OpenStream { stream_id: stream.0, request_json: to_json(&request) })
        }
        ServerMessage::Notice(notice) => Kind::Notice(notice.into()),
        ServerMessage::Goodbye(refusal) => Kind::Goodbye(refusal.into()),
    })
}

/// The part of a goal that begins at `offset`.
#[cfg(feature = "server")]
pub(crate) fn goal_part(goal: &SealedGoal, offset: usize) -> proto::GoalPart {
    let body = goal.body();
    let end = body.len().min(offset + GOAL_PART);
    proto::GoalPart {
        id: Some(goal.id().into()),
        hash: Bytes::copy_from_slice(goal.hash()),
        size: body.len() as u64,
        offset: offset as u64,
        body: Bytes::copy_from_slice(&body[offset..end]),
    }
}

/// Puts the parts of goals together.
#[derive(Debug, Default)]
pub struct GoalAssembler(Option<(GoalId, [u8; 32], usize, Vec<u8>)>);

impl GoalAssembler {
    /// Takes the next part; the goal when it is whole and its bytes have the hash.
    ///
    /// # Errors
    /// [`WireError`] when the part does not go on where the last one ended, is too large, or the
    /// whole does not have the hash.
    pub fn push(&mut self, part: proto::GoalPart) -> Wire<Option<SealedGoal>> {
        let proto::GoalPart { id, hash, size, offset, body } = part;
        let id = GoalId::from(some("goal.id", id)?);
        let hash = <[u8; 32]>::try_from(&hash[..]).map_err(|e| invalid("goal.hash", e))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        bounded("goal.size", size, SealedGoal::MAX_BYTES)?;
        if offset == 0 {
            self.0 = Some((id, hash, size, Vec::new()));
        }
        let (of, sum, whole, mut bytes) = self.0.take().ok_or(WireError::Unexpected {
            got: "a later part of a goal",
            expected: "its first part",
        })?;
        if (of, sum, whole, bytes.len() as u64) != (id, hash, size, offset) {
            return Err(WireError::Unexpected { got: "a part of another goal", expected: "the next part" });
        }
        bounded("goal.body", bytes.len() + body.len(), size)?;
        bytes.extend_from_slice(&body);
        if bytes.len() < size {
            if body.is_empty() {
                return Err(WireError::Missing("goal.body"));
            }
            self.0 = Some((id, hash, size, bytes));
            return Ok(None);
        }
        SealedGoal::from_parts(id, hash, bytes.into())
            .map(Some)
            .map_err(|e: InvalidGoal| invalid("goal.body", e))
    }
}

/// Reads a message of the server; `None` when a goal is not whole yet.
///
/// # Errors
/// [`WireError`] says which field breaks the protocol.
pub fn server_message(
    message: proto::ServerMessage,
    goal: &mut GoalAssembler,
) -> Wire<Option<ServerMessage>> {
    use server_message::Kind;
    Ok(Some(match some("kind", message.kind)? {
        Kind::Welcome(welcome) => ServerMessage::Welcome(welcome.try_into()?),
        Kind::Goal(part) => return Ok(goal.push(part)?.map(ServerMessage::Goal)),
        Kind::AckUpTo(up_to) => ServerMessage::Ack(up_to),
        Kind::OpenStream(proto::OpenStream { stream_id, request_json }) => {
            ServerMessage::OpenStream(OpenStream {
                stream: StreamId(stream_id),
                request: json("request", &request_json, MAX_KIND)?,
            })
        }
        Kind::Notice(notice) => ServerMessage::Notice(notice.try_into()?),
        Kind::Goodbye(refusal) => ServerMessage::Goodbye(refusal.try_into()?),
    }))
}

impl From<BulkFrame> for proto::BulkFrame {
    fn from(frame: BulkFrame) -> Self {
        use bulk_frame::Kind;
        let kind = match frame {
            BulkFrame::Open(StreamId(id)) => Kind::Open(id),
            BulkFrame::Data { channel, bytes } => {
                Kind::Data(proto::BulkData { channel: channel.into(), bytes })
            }
            BulkFrame::End(channel) => Kind::End(channel.into()),
            BulkFrame::Close(end) => {
                let (exit_code, error) = match end {
                    BulkEnd::Done => (None, None),
                    BulkEnd::Exit(code) => (Some(code), None),
                    BulkEnd::Failed(refusal) => (None, Some(refusal.into())),
                };
                Kind::Close(proto::BulkClose { exit_code, error })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::BulkFrame> for BulkFrame {
    type Error = WireError;

    fn try_from(frame: proto::BulkFrame) -> Wire<Self> {
        use bulk_frame::Kind;
        let channel = |n: u32| u8::try_from(n).map_err(|e| invalid("channel", e));
        Ok(match some("kind", frame.kind)? {
            Kind::Open(id) => Self::Open(StreamId(id)),
            Kind::Data(proto::BulkData { channel: n, bytes }) => {
                bounded("data", bytes.len(), MAX_BULK)?;
                Self::Data { channel: channel(n)?, bytes }
            }
            Kind::End(n) => Self::End(channel(n)?),
            Kind::Close(proto::BulkClose { exit_code, error }) => Self::Close(match (exit_code, error) {
                (_, Some(refusal)) => BulkEnd::Failed(refusal.try_into()?),
                (Some(code), None) => BulkEnd::Exit(code),
                (None, None) => BulkEnd::Done,
            }),
        })
    }
}

#[cfg(all(test, feature = "server"))]
#[path = "wire_tests.rs"]
mod tests;
