//! What a server says in a session, goals in parts included.

use super::*;
use crate::{
    message::{OpenStream, Rank, Secret, ServerMessage, StreamId, Welcome},
    proto::server_message,
};
use lattice_model::{SealedGoal, Timestamp, goal::InvalidGoal};

impl From<Welcome> for proto::Welcome {
    fn from(welcome: Welcome) -> Self {
        let Welcome { protocol, server_version, heartbeat, ratchet_next, ack_up_to, notice, server_time } =
            welcome;
        Self {
            protocol,
            server_version,
            heartbeat_ms: heartbeat.0,
            ratchet_next: ratchet_next.map(|next| Bytes::copy_from_slice(next.reveal())).unwrap_or_default(),
            ack_up_to,
            notice: notice.map(Into::into),
            server_time_ms: server_time.map_or(0, |at| at.0),
        }
    }
}

impl TryFrom<proto::Welcome> for Welcome {
    type Error = WireError;

    fn try_from(welcome: proto::Welcome) -> Wire<Self> {
        let proto::Welcome {
            protocol,
            server_version,
            heartbeat_ms,
            ratchet_next,
            ack_up_to,
            notice,
            server_time_ms,
        } = welcome;
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
            server_time: (server_time_ms > 0).then_some(Timestamp(server_time_ms)),
        })
    }
}

/// Writes a message that is no goal.
///
/// # Errors
/// The goal, which goes in parts.
#[cfg(feature = "server")]
pub fn server_kind(message: ServerMessage) -> Result<server_message::Kind, SealedGoal> {
    use server_message::Kind;
    Ok(match message {
        ServerMessage::Goal(goal) => return Err(goal),
        ServerMessage::Welcome(welcome) => Kind::Welcome(welcome.into()),
        ServerMessage::Ack(up_to) => Kind::AckUpTo(up_to),
        ServerMessage::OpenStream(OpenStream { stream, request }) => {
            Kind::OpenStream(proto::OpenStream { stream_id: stream.0, request_json: to_json(&request) })
        }
        ServerMessage::Notice(notice) => Kind::Notice(notice.into()),
        ServerMessage::Pong(ping) => Kind::Pong(ping),
        ServerMessage::Rank(rank) => Kind::RankJson(to_json(&rank)),
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
        let (of, sum, whole, mut bytes) = self
            .0
            .take()
            .ok_or(WireError::Unexpected { got: "a later part of a goal", expected: "its first part" })?;
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

/// Reads a rank; its words are shown to people as they are.
fn rank(bytes: &Bytes) -> Wire<Rank> {
    let mut rank: Rank = json("rank", bytes, MAX_JSON)?;
    fact(&mut rank.class);
    rank.badges.truncate(MAX_WORD);
    rank.marks.truncate(MAX_WORD);
    rank.badges.iter_mut().chain(&mut rank.marks).chain(&mut rank.probation).for_each(fact);
    Ok(rank)
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
        Kind::Pong(ping) => ServerMessage::Pong(ping),
        Kind::RankJson(bytes) => ServerMessage::Rank(rank(&bytes)?),
        Kind::Goodbye(refusal) => ServerMessage::Goodbye(refusal.try_into()?),
    }))
}
