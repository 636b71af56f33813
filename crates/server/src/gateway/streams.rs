//! Streams that the API asked for and that an agent has not answered yet.
//!
//! The server says in the session what it wants, under a random number; the agent dials the bulk
//! connection and names that number. It is good once, for that node, for ten seconds.

use crate::{clock, state::Core};
use lattice_api::{ErrorBody, ErrorCode};
use lattice_link::{
    BulkChannel, Refusal,
    message::{BulkEnd, OpenStream, ServerMessage, StreamId, StreamRequest},
    wire::MAX_KIND,
};
use lattice_model::{Duration, NodeId, Timestamp};
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many may wait at the same time.
const MAX_WAITING: usize = 1024;

struct Waiting {
    node: NodeId,
    until: Timestamp,
    answer: oneshot::Sender<BulkChannel>,
}

/// Who waits for an agent's bulk connection.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<StreamId, Waiting>>);

impl Streams {
    /// Hands an agent's answer to whoever waits for it.
    pub(crate) async fn answer(&self, node: NodeId, stream: StreamId, channel: BulkChannel) {
        let waiting = {
            let mut all = self.0.lock();
            match all.get(&stream) {
                Some(waiting) if waiting.node == node => all.remove(&stream),
                _ => None,
            }
        };
        let refused = match waiting {
            Some(waiting) => waiting.answer.send(channel).err(),
            None => Some(channel),
        };
        if let Some(channel) = refused {
            let refusal = Refusal::new("stream_unknown", "nobody waits for this stream any more", "");
            let _ = channel.send.close(BulkEnd::Failed(refusal)).await;
        }
    }

    /// Forgets what nobody answered.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.0.lock().retain(|_, waiting| waiting.until > now);
    }

    fn register(&self, node: NodeId, stream: StreamId) -> Option<oneshot::Receiver<BulkChannel>> {
        let mut all = self.0.lock();
        if all.len() >= MAX_WAITING {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        all.insert(stream, Waiting { node, until: clock::now() + PATIENCE, answer });
        Some(receiver)
    }
}

/// Asks a node for a stream and waits for its answer.
pub(crate) async fn open(
    core: &Core,
    node: NodeId,
    request: StreamRequest,
) -> Result<BulkChannel, ErrorBody> {
    let offline = |why: &str| {
        let name =
            core.snapshot().cluster.nodes.get(&node).map_or_else(|| node.short(), |row| row.name.to_string());
        ErrorBody::new(
            ErrorCode::NodeOffline,
            format!("{name} {why}"),
            "what runs there goes on; wait for it to come back (`lattice node ls`)",
        )
    };
    // The agent would have to end its session over it.
    if serde_json::to_vec(&request).is_ok_and(|json| json.len() > MAX_KIND) {
        let hint = "pass what is long by the command's standard input";
        return Err(ErrorBody::new(
            ErrorCode::TooLarge,
            format!("the command with its variables takes more than {} KiB", MAX_KIND >> 10),
            hint,
        ));
    }
    let session = core.live.session(node).ok_or_else(|| match core.session_elsewhere(node) {
        Some(server) => offline(&format!("is connected to another server ({server}): ask that one")),
        None => offline("is not connected"),
    })?;
    let stream = StreamId(u64::from_be_bytes(clock::random()));
    let waiting = core.live.streams.register(node, stream).ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::TooManyRequests,
            "too many streams are being opened",
            "try again in a moment",
        )
    })?;
    let sent = session.send(ServerMessage::OpenStream(OpenStream { stream, request })).await;
    if sent.is_err() {
        core.live.streams.0.lock().remove(&stream);
        return Err(offline("lost its connection"));
    }
    let answered = tokio::time::timeout(PATIENCE.as_std(), waiting).await;
    core.live.streams.0.lock().remove(&stream);
    match answered {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(_)) => Err(offline("lost its connection")),
        Err(_) => Err(offline("did not answer within ten seconds")),
    }
}
