//! Between the generated messages and [`crate::message`]: every field that comes from the other
//! side is bounded and validated here, and nowhere else.
//!
//! Documents that the model owns (facts, states, kinds of reports) travel as their JSON: they
//! have one definition, and their growth is the model's affair.

mod agent;
mod bulk;
mod enroll;
mod server;

#[cfg(feature = "server")]
pub use agent::hello;
#[cfg(feature = "client")]
pub(crate) use agent::reported;
#[cfg(feature = "client")]
pub(crate) use enroll::challenge_for;
#[cfg(feature = "server")]
pub(crate) use enroll::challenge_request;
#[cfg(feature = "server")]
pub(crate) use server::goal_part;
#[cfg(feature = "server")]
pub use server::server_kind;
pub use server::{GoalAssembler, server_message};

use crate::{
    error::Refusal,
    message::{Notice, ProtocolRange},
    proto,
};
use bytes::Bytes;
use lattice_model::{
    Bytes as Amount, Cpu, Duration, GoalId,
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
        machine,
    } = &mut facts;
    *machine = std::mem::take(machine).bounded();
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

#[cfg(all(test, feature = "server"))]
#[path = "tests.rs"]
mod tests;
