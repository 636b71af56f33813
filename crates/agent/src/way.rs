//! The way to the server: how long it takes, and how much passes.
//!
//! How long is measured all the time: a heartbeat asks for an answer, and the median of the last five counts, so
//! that one late answer is none. [`crate::health`] judges it.
//!
//! How much passes is measured by a [`Prober`] once a day and network, at most 4 MiB or two seconds each way, and
//! kept on disk by the network's name, so that a laptop that goes to and fro measures each once. Not while the
//! owner's rules let nothing run, and never where the network is paid by volume. After a link came up it waits
//! for up to a minute, by chance: a fleet comes back at once, and its links are not to be full of measuring; the
//! server has the last word.
//!
//! What is measured is what one transfer over the link gets, as images and files do, and no more than HTTP/2's
//! window lets through in a round trip; it says nothing about the line as such.

use crate::{
    clock,
    error::chain,
    machine::{Roots, default_ways},
    owner::{Lent, OwnerStatus},
    session::{LinkState, LinkStatus},
};
use bytes::Bytes as Piece;
use lattice_identity::keyfile;
use lattice_link::{
    CloseReason, LinkError,
    client::BulkDialer,
    message::{BulkEnd, BulkFrame, Counted, PROBE_BYTES, PROBE_TIME, channel},
};
use lattice_model::{Bytes, Duration as Span, Timestamp, machine::NetworkFacts};
use lattice_sense::{Sensors, Sleep};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

/// How many answers are remembered: those of a minute.
const TRIPS: usize = 12;
/// Of how many the median counts.
const MEDIAN: usize = 5;
/// Between two looks of the prober.
const LOOK: Duration = Duration::from_secs(10);
/// Between two questions whether the network is metered.
const METERED: Duration = Duration::from_secs(300);
/// Between two probes of one network.
const DAY: Span = Span::from_secs(24 * 3600);
/// After a probe that failed; doubled with each further one.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest pause after one that failed.
const AGAIN_MOST: Duration = Duration::from_secs(6 * 3600);
/// By chance so much is waited, besides.
const SPREAD: Duration = Duration::from_secs(50);
/// All of a probe.
const WHOLE: Duration = Duration::from_secs(60);
/// How many networks are remembered, the latest ones.
const NETWORKS: usize = 8;

/// What is known of the way; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    number: u64,
    /// The question that is under way.
    asked: Option<(u64, Instant)>,
    /// The latest last, of this session.
    trips: VecDeque<Duration>,
    facts: Option<NetworkFacts>,
}

impl Way {
    /// A number that the next heartbeat asks with; 0 while an answer is waited for.
    pub(crate) fn ask(&self, now: Instant) -> u64 {
        let mut state = self.0.state.lock();
        if state.asked.is_some() {
            return 0;
        }
        state.number += 1;
        state.asked = Some((state.number, now));
        state.number
    }

    /// The answer came.
    pub(crate) fn heard(&self, ping: u64, now: Instant) {
        let mut state = self.0.state.lock();
        let Some((_, at)) = state.asked.filter(|(number, _)| *number == ping) else { return };
        state.asked = None;
        if state.trips.len() == TRIPS {
            state.trips.pop_front();
        }
        state.trips.push_back(now.duration_since(at));
    }

    /// The session is over.
    pub(crate) fn lost(&self) {
        let mut state = self.0.state.lock();
        state.asked = None;
        state.trips.clear();
    }

    /// How long the server takes to answer, or has taken already; `None` where it never answered, as one of an
    /// older version does not.
    pub(crate) fn round_trip(&self, now: Instant) -> Option<Span> {
        let state = self.0.state.lock();
        let mut last: Vec<Duration> = state.trips.iter().rev().take(MEDIAN).copied().collect();
        last.sort();
        let median = *last.get(last.len() / 2)?;
        let waiting = state.asked.map_or(Duration::ZERO, |(_, at)| now.duration_since(at));
        Some(Span(u64::try_from(median.max(waiting).as_millis()).unwrap_or(u64::MAX)))
    }

    /// The shortest of the remembered ones, in microseconds.
    fn shortest(&self) -> Option<u64> {
        let state = self.0.state.lock();
        state.trips.iter().min().map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX))
    }

    /// What the server is told.
    pub(crate) fn facts(&self) -> Option<NetworkFacts> {
        self.0.state.lock().facts.clone()
    }

    fn set(&self, facts: Option<NetworkFacts>) {
        let mut state = self.0.state.lock();
        if state.facts != facts {
            state.facts = facts;
            self.0.changed.notify_one();
        }
    }

    /// Waits until [`Self::facts`] are others. For one task. Cancel-safe.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> {
        self.0.changed.notified()
    }
}

/// What was measured, by the names of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Links {
    #[serde(default)]
    networks: BTreeMap<String, NetworkFacts>,
}

impl Links {
    /// What cannot be read was never measured.
    fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Whether this network is to be measured. A clock that jumps by an hour is no reason.
    fn is_due(&self, name: &str, now: Timestamp) -> bool {
        let day = i64::try_from(DAY.0).unwrap_or(i64::MAX);
        self.networks.get(name).is_none_or(|facts| (now.0 - facts.at.0).abs() >= day)
    }

    fn put(&mut self, name: &str, facts: NetworkFacts) {
        self.networks.insert(name.to_owned(), facts);
        while self.networks.len() > NETWORKS {
            let oldest = self.networks.iter().min_by_key(|(_, facts)| facts.at);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            self.networks.remove(&name);
        }
    }
}

/// What is told: what was measured, with the round trip of now. One that only wavers is no news.
fn told(
    before: Option<&NetworkFacts>,
    measured: Option<&NetworkFacts>,
    shortest: Option<u64>,
    metered: bool,
    now: Timestamp,
) -> Option<NetworkFacts> {
    let mut facts = match (measured, shortest) {
        (Some(measured), _) => measured.clone(),
        (None, Some(trip)) => NetworkFacts { round_trip_us: trip, at: now, ..NetworkFacts::default() },
        (None, None) => return before.cloned(),
    };
    facts.metered = metered;
    let Some(trip) = shortest else { return Some(facts) };
    let wavers = |told: u64| trip <= told * 2 + 10_000 && told <= trip * 2 + 10_000;
    let same = |before: &&NetworkFacts| (before.down, before.up) == (facts.down, facts.up);
    match before.filter(same).filter(|before| wavers(before.round_trip_us)) {
        Some(before) => (facts.round_trip_us, facts.at) = (before.round_trip_us, before.at),
        None => facts.round_trip_us = trip,
    }
    Some(facts)
}

/// The task that measures how much passes.
pub(crate) struct Prober {
    pub(crate) way: Way,
    /// Where results are kept.
    pub(crate) file: PathBuf,
    pub(crate) roots: Roots,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) owner: watch::Receiver<OwnerStatus>,
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) manager: Option<Arc<dyn Sleep>>,
    pub(crate) sensors: Arc<dyn Sensors>,
    pub(crate) bulk: BulkDialer,
}

impl Prober {
    /// Takes up what was measured before, so that the first hello says it.
    pub(crate) fn recall(&self) {
        let known = Links::load(&self.file).networks.remove(&default_ways(&self.roots, ""));
        self.way.set(known);
    }

    /// Measures for ever.
    pub(crate) async fn run(self) {
        let mut links = Links::load(&self.file);
        let mut name = default_ways(&self.roots, "");
        let (mut since, mut failures) = (self.link.borrow().since, 0u32);
        let mut not_before = Instant::now() + LOOK + by_chance();
        let (mut metered, mut ask_metered) = (false, Instant::now());
        loop {
            sleep(LOOK).await;
            let (now, status) = (Instant::now(), self.link.borrow().clone());
            let here = default_ways(&self.roots, &name);
            if here != name || status.since != since {
                if here != name {
                    debug!(network = here, "another network");
                    (failures, ask_metered) = (0, now);
                }
                (name, since) = (here, status.since);
                not_before = not_before.max(now + by_chance());
            }
            if now >= ask_metered {
                (metered, ask_metered) = (self.metered().await, now + METERED);
            }
            let (at, linked) = (clock::now(), status.state == LinkState::Connected);
            let before = self.way.facts();
            let (known, trip) = (links.networks.get(&name), self.way.shortest());
            self.way.set(told(before.as_ref(), known, trip, metered, at));
            let may = linked && !metered && self.owner.borrow().standing.takes_work();
            if !may || now < not_before || !links.is_due(&name, at) {
                continue;
            }
            match timeout(WHOLE, measure(&self.bulk)).await {
                Ok(Ok((down, up))) => {
                    failures = 0;
                    let facts = NetworkFacts {
                        round_trip_us: self.way.shortest().unwrap_or_default(),
                        down: down.map(Bytes),
                        up: up.map(Bytes),
                        metered,
                        at: clock::now(),
                    };
                    info!(down, up, round_trip_us = facts.round_trip_us, "the link was measured");
                    links.put(&name, facts.clone());
                    self.way.set(Some(facts));
                    self.keep(&links).await;
                }
                failed => {
                    let (why, after) = match &failed {
                        Ok(Err(error)) => (chain(error), error.retry_after()),
                        _ => ("it took too long".to_owned(), None),
                    };
                    let pause = (AGAIN * 2u32.saturating_pow(failures.min(16))).min(AGAIN_MOST);
                    let pause = after.map_or(pause, |after| pause.max(after.as_std())) + by_chance();
                    failures += 1;
                    debug!(why, ?pause, "the link was not measured");
                    not_before = Instant::now() + pause;
                }
            }
        }
    }

    /// By the owner's word, else as the machine says. Where nobody knows it is not.
    async fn metered(&self) -> bool {
        let word = self.lent.borrow().config().metered();
        if let Some(word) = word {
            return word;
        }
        let said = match &self.manager {
            Some(manager) => manager.metered().await,
            None => self.sensors.metered(),
        };
        said.known().copied().unwrap_or(false)
    }

    async fn keep(&self, links: &Links) {
        let (path, json) = (self.file.clone(), serde_json::to_vec(links).unwrap_or_default());
        let kept = tokio::task::spawn_blocking(move || keyfile::replace(&path, &json)).await;
        if let Ok(Err(error)) = kept {
            warn!(error = chain(&error), "what was measured of the link could not be kept");
        }
    }
}

fn by_chance() -> Duration {
    Duration::from_millis(clock::random() % u64::try_from(SPREAD.as_millis()).unwrap_or(1))
}

/// Bytes a second to this machine and from it.
async fn measure(bulk: &BulkDialer) -> Result<(Option<u64>, Option<u64>), LinkError> {
    let (send, mut recv) = bulk.probe().await?.split();
    let (mut down, mut first) = (Counted::default(), None::<Instant>);
    loop {
        match recv.recv().await? {
            Some(BulkFrame::Data { channel: channel::STDOUT, bytes }) => match first {
                None => first = Some(Instant::now()),
                Some(first) => {
                    down.bytes += bytes.len() as u64;
                    down.micros = u64::try_from(first.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if first.elapsed() > 3 * PROBE_TIME || down.bytes > 2 * PROBE_BYTES {
                        // So slow that what is under way alone takes too long: enough is known.
                        return Ok((down.per_second(), None));
                    }
                }
            },
            Some(BulkFrame::End(channel::STDOUT)) => break,
            Some(BulkFrame::Close(BulkEnd::Failed(refusal))) => return Err(LinkError::Refused(refusal)),
            Some(BulkFrame::Close(_)) | None => return Err(CloseReason::ByPeer.into()),
            Some(_) => {}
        }
    }
    let (piece, began) = (Piece::from_static(&[0; 32 << 10]), Instant::now());
    let mut sent = 0;
    while sent < PROBE_BYTES && began.elapsed() < PROBE_TIME {
        sent += piece.len() as u64;
        send.data(channel::STDIN, piece.clone()).await?;
    }
    send.end(channel::STDIN).await?;
    let mut up = None;
    loop {
        match recv.recv().await? {
            Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => {
                up = serde_json::from_slice::<Counted>(&bytes).ok().and_then(Counted::per_second);
            }
            Some(BulkFrame::Close(_)) | None => return Ok((down.per_second(), up)),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_late_answer_is_none_and_one_that_does_not_come_counts() {
        let (way, start) = (Way::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(way.ask(start), 1);
        assert_eq!(way.round_trip(at(60_000)), None, "an older server answers never");
        assert_eq!(way.ask(at(1)), 0, "one at a time");
        way.heard(7, at(3));
        way.heard(1, at(20));
        for n in 1..6 {
            let ping = way.ask(at(n * 1000));
            way.heard(ping, at(n * 1000 + if n == 3 { 900 } else { 20 }));
        }
        assert_eq!(way.round_trip(at(6000)), Some(Span(20)));
        assert_eq!(way.shortest(), Some(20_000));
        let _ = way.ask(at(7000));
        assert_eq!(way.round_trip(at(9500)), Some(Span(2500)));
        way.lost();
        assert_eq!(way.round_trip(at(9500)), None);
    }

    #[test]
    fn each_network_is_measured_once_a_day() {
        let mut links = Links::default();
        let facts = |at| NetworkFacts { at: Timestamp(at), ..NetworkFacts::default() };
        let day = i64::try_from(DAY.0).unwrap();
        assert!(links.is_due("home", Timestamp(day)));
        links.put("home", facts(day));
        for (now, due) in
            [(day, false), (2 * day - 1, false), (day - 3_600_000, false), (2 * day, true), (0, true)]
        {
            assert_eq!(links.is_due("home", Timestamp(now)), due, "{now}");
        }
        assert!(links.is_due("work", Timestamp(day)));
        for n in 0..20 {
            links.put(&n.to_string(), facts(2 * day + n));
        }
        assert_eq!(links.networks.len(), NETWORKS);
        assert!(links.networks.contains_key("19") && !links.networks.contains_key("home"));
        let text = serde_json::to_vec(&links).unwrap();
        assert_eq!(serde_json::from_slice::<Links>(&text).unwrap(), links);
    }

    #[test]
    fn a_round_trip_that_wavers_is_no_news() {
        let (now, later) = (Timestamp(1), Timestamp(2));
        assert_eq!(told(None, None, None, false, now), None);
        let first = told(None, None, Some(20_000), false, now);
        assert_eq!(told(first.as_ref(), None, Some(35_000), false, later), first);
        assert_eq!(told(first.as_ref(), None, None, false, later), first, "a cut link is as it was");
        let slow = told(first.as_ref(), None, Some(700_000), false, later).unwrap();
        assert_eq!((slow.round_trip_us, slow.at), (700_000, later));
        let measured = NetworkFacts {
            down: Some(Bytes(9)),
            round_trip_us: 21_000,
            at: later,
            ..NetworkFacts::default()
        };
        let full = told(first.as_ref(), Some(&measured), Some(25_000), false, later).unwrap();
        assert_eq!((full.down, full.round_trip_us), (Some(Bytes(9)), 25_000));
        assert_eq!(told(Some(&full), Some(&measured), Some(21_500), false, later), Some(full.clone()));
        assert!(told(Some(&full), Some(&measured), Some(21_500), true, later).unwrap().metered);
    }
}
