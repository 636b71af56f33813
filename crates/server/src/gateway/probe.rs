//! How much passes between a node and this server in a moment: asked for by the node, bounded here.
//!
//! A probe costs what a small image does, so few run at a time and each node has one in [`AGAIN`]; the others
//! are told when to ask again. Zeros travel: the link is encrypted, so nobody on the way makes them shorter.

use bytes::Bytes;
use lattice_link::{
    BulkChannel, BulkReceiver, BulkSender, LinkError, Refusal, code,
    message::{BulkEnd, BulkFrame, Counted, PROBE_BYTES, PROBE_TIME, channel},
};
use lattice_model::{Duration, NodeId};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// How many run at the same time.
const PLACES: usize = 2;
/// Between two probes of one node.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(600);
/// How long what came is remembered: a node measures its way once a day.
const KNOWN: std::time::Duration = std::time::Duration::from_secs(3 * 86_400);
/// Between the beginnings of two probes of anybody: 4 MiB a second each way at the most, on the average.
const STEP: std::time::Duration = std::time::Duration::from_secs(1);
/// All of one, the slowest link included.
const WHOLE: std::time::Duration = std::time::Duration::from_secs(60);

/// Places for probes.
pub(crate) struct Probes {
    places: Arc<Semaphore>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// When the last one began.
    any: Option<Instant>,
    /// When each node had its last one, forgotten after [`AGAIN`].
    nodes: HashMap<NodeId, Instant>,
    /// What came from each node, in bytes a second, forgotten after [`KNOWN`].
    up: HashMap<NodeId, (Instant, u64)>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), last: Mutex::default() }
    }
}

impl Probes {
    /// A place for a node, or when to ask again.
    fn take(&self, node: NodeId, now: Instant) -> Result<OwnedSemaphorePermit, Duration> {
        let mut last = self.last.lock();
        last.nodes.retain(|_, at| now.duration_since(*at) < AGAIN);
        if let Some(at) = last.nodes.get(&node) {
            return Err(span(AGAIN.saturating_sub(now.duration_since(*at))));
        }
        let early = last.any.is_some_and(|at| now.duration_since(at) < STEP);
        let place = if early { None } else { Arc::clone(&self.places).try_acquire_owned().ok() };
        let Some(place) = place else { return Err(span(AGAIN / 10)) };
        last.any = Some(now);
        last.nodes.insert(node, now);
        Ok(place)
    }
}

impl Probes {
    /// What came from a node when it measured its way last, in bytes a second, as this server counted.
    pub(crate) fn up(&self, node: NodeId) -> Option<u64> {
        self.last.lock().up.get(&node).map(|(_, up)| *up)
    }

    fn counted(&self, node: NodeId, counted: Counted) {
        let (Some(up), now) = (counted.per_second(), Instant::now()) else { return };
        let mut last = self.last.lock();
        last.up.retain(|_, (at, _)| now.duration_since(*at) < KNOWN);
        last.up.insert(node, (now, up));
    }
}

fn span(span: std::time::Duration) -> Duration {
    Duration(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// Answers a node that wants to know.
pub(crate) async fn serve(probes: &Probes, node: NodeId, channel: BulkChannel) {
    let (send, recv) = channel.split();
    let place = match probes.take(node, Instant::now()) {
        Ok(place) => place,
        Err(after) => {
            let refusal = Refusal::new(
                code::BUSY,
                "the server measures no more links now",
                "the agent asks again by itself",
            );
            let _ = send.close(BulkEnd::Failed(refusal.after(after))).await;
            return;
        }
    };
    match timeout(WHOLE, converse(send, recv)).await {
        Ok(Ok(counted)) => {
            tracing::debug!(%node, ?counted, "a link was measured");
            probes.counted(node, counted);
        }
        Ok(Err(error)) => tracing::debug!(%node, %error, "a link was not measured"),
        Err(_) => tracing::debug!(%node, "a link was too slow to be measured"),
    }
    drop(place);
}

async fn converse(send: BulkSender, mut recv: BulkReceiver) -> Result<Counted, LinkError> {
    let piece = Bytes::from_static(&[0; 32 << 10]);
    let began = Instant::now();
    let mut sent = 0;
    while sent < PROBE_BYTES && began.elapsed() < PROBE_TIME {
        sent += piece.len() as u64;
        send.data(channel::STDOUT, piece.clone()).await?;
    }
    send.end(channel::STDOUT).await?;
    let counted = count(&mut recv).await?;
    let json = serde_json::to_vec(&counted).unwrap_or_default();
    send.data(channel::CONTROL, json.into()).await?;
    send.close(BulkEnd::Done).await?;
    Ok(counted)
}

/// What comes, until it ends or is more than was agreed.
async fn count(recv: &mut BulkReceiver) -> Result<Counted, LinkError> {
    let mut counted = Counted::default();
    let mut first: Option<Instant> = None;
    while counted.bytes < 2 * PROBE_BYTES {
        match recv.recv().await? {
            Some(BulkFrame::Data { channel: channel::STDIN, bytes }) => match first {
                None => first = Some(Instant::now()),
                Some(first) => {
                    counted.bytes += bytes.len() as u64;
                    counted.micros = u64::try_from(first.elapsed().as_micros()).unwrap_or(u64::MAX);
                }
            },
            Some(BulkFrame::Data { .. }) => {}
            _ => break,
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_measure_at_a_time_and_each_rarely() {
        let probes = Probes::default();
        let node = NodeId::from_random;
        let now = Instant::now();
        let first = probes.take(node(1), now).unwrap();
        assert!(probes.take(node(2), now).is_err(), "one after the other");
        let second = probes.take(node(2), now + STEP).unwrap();
        assert_eq!(probes.take(node(3), now + 2 * STEP).map(drop), Err(Duration::from_secs(60)));
        drop((first, second));
        assert_eq!(probes.take(node(1), now + 2 * STEP).map(drop), Err(Duration::from_secs(598)));
        assert!(probes.take(node(3), now + 2 * STEP).is_ok());
        assert!(probes.take(node(1), now + AGAIN).is_ok());
        assert!(probes.last.lock().nodes.len() <= 3);
    }
}
