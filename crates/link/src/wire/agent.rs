//! What an agent says in a session.

use super::*;
use crate::{
    message::{AgentMessage, Heartbeat, Hello, OutboxId, OutboxMark, Reported, Secret},
    proto::agent_message,
};
use lattice_model::{
    AllocationId, Standing, Timestamp,
    report::{Report, ReportKind},
};

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
            standing,
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
            standing_json: to_json(&standing),
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
            standing_json,
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
            // Older agents say nothing, and work.
            standing: match standing_json.is_empty() {
                true => Standing::default(),
                false => json::<Standing>("standing", &standing_json, MAX_KIND)?.bounded(),
            },
        })
    }
}

impl From<Reported> for proto::Report {
    fn from(report: Reported) -> Self {
        match report {
            Reported::Known(Report { seq, at, kind }) => Self { seq, at_ms: at.0, kind_json: to_json(&kind) },
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
    // What is kept is what was read: bytes that are no text would else be unknown now, and known when read again.
    let kind = String::from_utf8_lossy(kind);
    match serde_json::from_str::<ReportKind>(&kind) {
        Ok(kind) => Reported::Known(Report { seq, at, kind }),
        Err(_) => Reported::Unknown { seq, at, kind: kind.into_owned() },
    }
}

impl From<AgentMessage> for proto::AgentMessage {
    fn from(message: AgentMessage) -> Self {
        use agent_message::Kind;
        let kind = match message {
            AgentMessage::Reports(reports) => {
                Kind::Reports(proto::Reports { reports: reports.into_iter().map(Into::into).collect() })
            }
            AgentMessage::Heartbeat(Heartbeat {
                at,
                cpu_millis,
                memory_bytes,
                disk_free_bytes,
                running,
                ping,
                conditions,
            }) => Kind::Heartbeat(proto::Heartbeat {
                at_ms: at.0,
                cpu_millis,
                memory_bytes,
                disk_free_bytes,
                running,
                ping,
                conditions_json: if conditions.is_empty() { Bytes::new() } else { to_json(&conditions) },
            }),
            AgentMessage::GoalAccepted(id) => Kind::GoalAccepted(id.into()),
            AgentMessage::RatchetStored => Kind::RatchetStored(proto::RatchetStored {}),
        };
        Self { kind: Some(kind) }
    }
}

/// Reads the first message of a session.
///
/// # Errors
/// [`WireError`] says which field breaks the protocol, or that it is another message.
#[cfg(feature = "server")]
pub fn hello(message: proto::AgentMessage) -> Wire<Hello> {
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
                ping,
                conditions_json,
            }) => Self::Heartbeat(Heartbeat {
                at: Timestamp(at_ms),
                cpu_millis,
                memory_bytes,
                disk_free_bytes,
                running,
                ping,
                conditions: match conditions_json.is_empty() {
                    true => Vec::new(),
                    // One of a kind that this version does not know is none of the others' fault.
                    false => json::<Vec<serde_json::Value>>("conditions", &conditions_json, MAX_KIND)?
                        .into_iter()
                        .filter_map(|one| serde_json::from_value(one).ok())
                        .collect(),
                },
            }),
            Kind::GoalAccepted(id) => Self::GoalAccepted(id.into()),
            Kind::RatchetStored(proto::RatchetStored {}) => Self::RatchetStored,
        })
    }
}
