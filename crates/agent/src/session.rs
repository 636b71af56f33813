//! The link to the server: one session after the other, for as long as the agent lives.
//!
//! A cut link changes nothing on the node: reports wait in the outbox, and the reconciler never
//! asks whether there is a link. What ends a session decides when the next one begins: soon with
//! full jitter, when the server said, or slowly after a refusal that only a person can lift.
//!
//! Of the reports, at most [`WINDOW`] are under way unacknowledged, which together with the bound
//! of heartbeats keeps this side from ever waiting to send while the server waits to send to it.

use crate::{
    AgentConfig,
    agent::Snapshot,
    builds::Builds,
    census::Told,
    certificate::{self, Validity},
    clock::{self, ServerClock},
    disk::Disk,
    enrol::ratchet_value,
    error::{Result, chain},
    event::Event,
    facts::{self, Load, Machine},
    gpu::Gpus,
    home::Identity,
    measure::Measurer,
    owner::{Lent, OwnerStatus},
    rank::OwnRank,
    streams::Streams,
    way::Way,
};
use lattice_identity::{
    AgentRatchet, CertSlot, RatchetValue,
    renewal::Renewal,
    tls::{Trust, explain_chain},
};
use lattice_link::{
    Backoff, CloseReason, LinkError, PROTOCOL,
    client::{self, BulkDialer, Dialer, SessionIo},
    message::{AgentMessage, Hello, Notice, Secret, ServerMessage, Welcome},
    wire,
};
use lattice_model::{Timestamp, health::Condition};
use lattice_runtime::Runtime;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How many reports may be on their way.
const WINDOW: u64 = 2 * wire::MAX_REPORTS as u64;
/// How long a message may wait to be sent before the link counts as dead.
const SEND: Duration = Duration::from_secs(30);
/// Between attempts after a refusal that a person may lift any moment.
const SLOW: Duration = Duration::from_secs(30);
/// Between attempts after a refusal that is meant for good.
const SLOWEST: Duration = Duration::from_secs(300);
/// The longest wait for a renewal: clocks jump, so it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1800);
/// After a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Whether there is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It is dialled.
    Connecting,
    /// There is one.
    Connected,
    /// There is none; it is dialled again soon.
    Waiting,
    /// The server does not want this node; it is asked again, slowly.
    Refused,
}

/// The state of the link, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether there is one.
    pub state: LinkState,
    /// Since when, by this machine's clock.
    pub since: Timestamp,
    /// The address that answered.
    pub server: Option<String>,
    /// For programs: why there is none.
    pub code: Option<String>,
    /// Why there is none, and what to do.
    pub why: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// What the server wants to be known.
    pub notice: Option<String>,
    /// How this node stands among the others, as the server said last. Shown beside the link.
    #[serde(skip)]
    pub(crate) rank: Option<OwnRank>,
}

impl LinkStatus {
    pub(crate) fn new() -> Self {
        Self {
            state: LinkState::Connecting,
            since: clock::now(),
            server: None,
            code: None,
            why: None,
            retry_at: None,
            notice: None,
            rank: None,
        }
    }
}

/// What to do after a session ended or did not come about.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    Soon,
    Slow(Duration),
    Renew,
}

/// What ended, for the status and for the pace.
struct Ended {
    pace: Pace,
    code: String,
    why: String,
    retry_after: Option<lattice_model::Duration>,
}

fn judge(error: &LinkError) -> Ended {
    let explained = explain_chain(error);
    let (code, why) = match (&explained, error) {
        (Some(e), _) => (e.trouble.code().to_owned(), format!("{}; {}", e.message, e.hint)),
        (None, LinkError::Refused(r) | LinkError::VersionRefused(r)) => (r.code.to_string(), r.to_string()),
        (None, other) => ("unreachable".to_owned(), chain(other)),
    };
    let pace = match code.as_str() {
        "tls_own_certificate_expired" | "certificate_ended" | "certificate_required" => Pace::Renew,
        "node_pending" | "node_quarantined" => Pace::Slow(SLOW),
        "node_rejected" | "node_revoked" | "node_unknown" | "tls_own_certificate_refused" => {
            Pace::Slow(SLOWEST)
        }
        "version_refused" => Pace::Slow(SLOWEST),
        _ => Pace::Soon,
    };
    Ended { pace, code, why, retry_after: error.retry_after() }
}

/// The task that keeps the link.
pub(crate) struct Session {
    disk: Arc<Disk>,
    identity: Identity,
    gpus: Gpus,
    lent: watch::Receiver<Arc<Lent>>,
    owner: watch::Receiver<OwnerStatus>,
    runtime: Arc<dyn Runtime>,
    /// As it was measured last; whoever measures tells the others.
    machine: watch::Sender<Machine>,
    told: Told,
    clock: ServerClock,
    way: Way,
    /// What the disk does not take.
    untold: watch::Receiver<Vec<Condition>>,
    events: mpsc::Sender<Event>,
    reports_ready: Arc<Notify>,
    status: watch::Sender<LinkStatus>,
    slot: Arc<CertSlot>,
    dialer: Arc<Dialer>,
    bulk: BulkDialer,
    streams: Arc<Streams>,
    ratchet: AgentRatchet,
    validity: watch::Sender<Option<Validity>>,
    jitter: u32,
    /// Not before, so that a certificate that seems old when it comes is not renewed at once again.
    earliest_renewal: Instant,
    backoff: Backoff,
    load: Load,
}

/// What this agent can do beyond its version. Where the owner lets nobody build, that is not said; a rule that
/// changes meanwhile is kept all the same.
fn capabilities(lent: &Lent) -> Vec<String> {
    use lattice_link::message::{HEARS_RANK, RESOLVES};
    let always = ["logs", "exec", "secrets", "trees", "images", RESOLVES, HEARS_RANK];
    let builds = lent.builds().then_some(lattice_link::message::BUILDS);
    let measures = [lattice_measure::MEASURES, lattice_measure::MEASURES_GPUS];
    let measures = measures.into_iter().filter(|_| lent.benchmarks());
    always.into_iter().chain(builds).chain(measures).map(String::from).collect()
}

impl Session {
    #[allow(clippy::too_many_arguments, reason = "called once, by the agent that has them all")]
    pub(crate) fn new(
        disk: Arc<Disk>,
        identity: Identity,
        gpus: Gpus,
        lent: watch::Receiver<Arc<Lent>>,
        owner: watch::Receiver<OwnerStatus>,
        runtime: Arc<dyn Runtime>,
        machine: watch::Sender<Machine>,
        told: Told,
        clock: ServerClock,
        way: Way,
        untold: watch::Receiver<Vec<Condition>>,
        events: mpsc::Sender<Event>,
        reports_ready: Arc<Notify>,
        status: watch::Sender<LinkStatus>,
        builds: Arc<Builds>,
        measurer: Arc<Measurer>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let slot = CertSlot::empty();
        let trust = Trust::Root(identity.root()?);
        let config = lent.borrow().config().clone();
        let dialer = Arc::new(certificate::dialer(&identity.servers, trust, Arc::clone(&slot), &config)?);
        let bulk = BulkDialer::new(Arc::clone(&dialer));
        let streams = Arc::new(Streams::new(
            identity.node,
            bulk.clone(),
            Arc::clone(&runtime),
            events.clone(),
            lent.clone(),
            builds,
            measurer,
            stop,
        ));
        let ratchet = AgentRatchet::new(disk.home().ratchet()?);
        let chain = disk.home().certificate()?;
        let mut session = Self {
            disk,
            identity,
            gpus,
            lent,
            owner,
            runtime,
            machine,
            told,
            clock,
            way,
            untold,
            events,
            reports_ready,
            status,
            slot,
            dialer,
            bulk,
            streams,
            ratchet,
            validity: watch::Sender::new(None),
            jitter: 0,
            earliest_renewal: Instant::now(),
            backoff: Backoff::default(),
            load: Load::default(),
        };
        session.use_certificate(chain)?;
        session.earliest_renewal = Instant::now();
        Ok(session)
    }

    pub(crate) fn certificate(&self) -> watch::Receiver<Option<Validity>> {
        self.validity.subscribe()
    }

    /// The second connection, for whoever fetches something.
    pub(crate) fn bulk(&self) -> BulkDialer {
        self.bulk.clone()
    }

    fn use_certificate(&mut self, chain: Vec<CertificateDer<'static>>) -> Result<()> {
        self.jitter = clock::random() as u32;
        let validity = certificate::validity(&chain);
        self.validity.send_replace(validity);
        let left = validity.map_or(Duration::ZERO, |v| v.not_after.since(clock::now()).as_std());
        self.earliest_renewal = Instant::now() + if left.is_zero() { RENEW_AGAIN } else { left / 2 };
        if validity.is_some() {
            self.slot.swap(chain, self.disk.home().key().private_key())?;
        }
        Ok(())
    }

    fn renewal(&self) -> Renewal {
        certificate::renewal(*self.validity.borrow(), self.jitter)
    }

    pub(crate) async fn run(mut self) {
        let mut renew_now = false;
        loop {
            if renew_now || matches!(self.renewal(), Renewal::Expired) {
                renew_now = false;
                self.tell(|s| s.state = LinkState::Connecting);
                info!("the certificate has ended; renewing it by the node's key");
                if let Err(error) = self.renew().await {
                    self.pause(ended(&error)).await;
                    continue;
                }
            }
            let began = Instant::now();
            let error = match self.session().await {
                // The certificate was renewed: the next session shows the new one.
                Ok(()) => continue,
                Err(error) => error,
            };
            let ended = ended(&error);
            self.backoff.session_lived(lattice_model::Duration::from_millis(
                u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            ));
            renew_now = ended.pace == Pace::Renew;
            self.pause(ended).await;
        }
    }

    fn config(&self) -> AgentConfig {
        self.lent.borrow().config().clone()
    }

    async fn renew(&mut self) -> Result<()> {
        let chain = certificate::renew(&self.disk, &self.identity, &self.config()).await?;
        self.use_certificate(chain)?;
        info!(until = ?self.validity.borrow().map(|v| v.not_after), "the certificate was renewed");
        Ok(())
    }

    async fn pause(&mut self, ended: Ended) {
        let Ended { pace, code, why, retry_after } = ended;
        let jitter = self.backoff.next(clock::random(), retry_after).as_std();
        let pause = match pace {
            Pace::Slow(span) => span + jitter,
            Pace::Soon | Pace::Renew => jitter,
        };
        let refused = matches!(pace, Pace::Slow(_));
        let retry_at = clock::now() + lattice_model::Duration(u64::try_from(pause.as_millis()).unwrap_or(0));
        warn!(code, why, ?pause, "no link to the server; what runs, runs on");
        self.tell(|s| {
            let state = if refused { LinkState::Refused } else { LinkState::Waiting };
            (s.state, s.server, s.code, s.why, s.retry_at) =
                (state, None, Some(code), Some(why), Some(retry_at));
        });
        sleep(pause).await;
    }

    fn tell(&self, change: impl FnOnce(&mut LinkStatus)) {
        self.status.send_modify(|status| {
            let before = status.state;
            change(status);
            let up = |state| state == LinkState::Connected;
            if up(before) != up(status.state) {
                status.since = clock::now();
            }
        });
    }

    async fn snapshot(&self) -> Snapshot {
        let (answer, snapshot) = oneshot::channel();
        let _ = self.events.send(Event::Snapshot(answer)).await;
        snapshot.await.unwrap_or_default()
    }

    /// One session. `Ok` when this side wants another one at once.
    async fn session(&mut self) -> Result<()> {
        let machine = facts::measure_with(&*self.runtime, self.disk.home().dir(), &self.gpus).await;
        let lent = Arc::clone(&self.lent.borrow());
        let (mut facts, capacity) = (self.told.facts(&machine, &lent), lent.capacity(&machine));
        facts.machine.network = self.way.facts();
        let Some((number, value)) = self.ratchet.hello() else {
            return Err(LinkError::Closed(CloseReason::ShuttingDown).into());
        };
        let Snapshot { goal, mut statuses, .. } = self.snapshot().await;
        while statuses.len() > wire::MAX_STATUSES {
            statuses.pop_last();
        }
        let outbox = self.disk.run(Disk::mark).await?;
        let standing = self.owner.borrow().standing.clone();
        let hello = Hello {
            protocol: PROTOCOL,
            agent_version: crate::VERSION.to_owned(),
            capabilities: capabilities(&lent),
            facts: facts.clone(),
            capacity,
            goal,
            ratchet: Secret::new(String::from(value).into_bytes()),
            boot_id: facts::boot_id(),
            statuses,
            outbox,
            standing,
        };
        let asked = clock::boot();
        let (welcome, mut io) = client::connect(&self.dialer, hello).await?;
        let Welcome { protocol, server_version, heartbeat, ratchet_next, ack_up_to, notice, server_time } =
            welcome;
        if let Some(time) = server_time {
            self.clock.set(time, asked, clock::boot());
        }
        match outbox.first == outbox.next {
            true => self.told.by_hello(&facts, &capacity),
            false => self.told.is_doubtful(),
        }
        self.machine.send_replace(machine);
        info!(server = io.connection.address(), protocol, server_version, "connected");
        let server = Some(io.connection.address().to_owned());
        self.tell(|s| {
            let rank = s.rank.take();
            *s =
                LinkStatus { state: LinkState::Connected, server, since: s.since, rank, ..LinkStatus::new() };
        });
        if let Some(notice) = notice {
            self.notice(&notice);
        }
        let _ = self.events.send(Event::Linked).await;
        if let Some(next) = ratchet_next.as_ref().map(ratchet_value).transpose()?.flatten() {
            self.move_ratchet(number, next, &io).await?;
        }
        if !self.ack(ack_up_to).await {
            warn!(
                ack_up_to,
                last = outbox.next - 1,
                "the server knows later reports than this agent gave: its folder was restored from an older image; numbering begins anew"
            );
            io.connection.close();
            return self.disk.run(Disk::renew_outbox).await;
        }
        let since = Instant::now();
        let result = self.serve(&mut io, self.config().heartbeat(heartbeat), ack_up_to).await;
        self.way.lost();
        io.connection.close();
        debug!(lived = ?since.elapsed(), "the session ended");
        result
    }

    /// Forgets what took effect; `false` where that was never given. A disk that takes nothing keeps it a while
    /// longer, which is no reason to lose the link: the server knows what it has seen.
    async fn ack(&self, up_to: u64) -> bool {
        let done = self.disk.run(move |disk| disk.ack(up_to)).await;
        done.unwrap_or_else(|error| {
            debug!(
                error = chain(&error),
                up_to, "what was acknowledged stays in the queue of reports for now"
            );
            true
        })
    }

    async fn move_ratchet(&mut self, number: u64, next: RatchetValue, io: &SessionIo) -> Result<()> {
        let Some(value) = self.ratchet.offer(number, next) else { return Ok(()) };
        match self.disk.run(move |disk| disk.home().save_ratchet(&value)).await {
            Ok(()) => {
                self.ratchet.saved();
                send(io, AgentMessage::RatchetStored).await?;
            }
            Err(error) => {
                warn!(error = chain(&error), "the session value could not be kept");
                let found = self.disk.run(|disk| disk.home().ratchet()).await?;
                self.ratchet.save_failed(found.unwrap_or(RatchetValue::GENESIS));
            }
        }
        Ok(())
    }

    async fn serve(&mut self, io: &mut SessionIo, heartbeat: Duration, acked: u64) -> Result<()> {
        let (mut acked, mut sent) = (acked, acked);
        let mut beat = tokio::time::interval(heartbeat);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renew_at = self.renew_at();
        loop {
            let may_send = sent.saturating_sub(acked) < WINDOW;
            if may_send {
                let after = sent;
                let reports = self.disk.run(move |disk| disk.unacked(after, wire::MAX_REPORTS)).await?;
                if let Some(last) = reports.last() {
                    sent = last.seq();
                    send(io, AgentMessage::Reports(reports)).await?;
                    continue;
                }
            }
            tokio::select! {
                message = io.recv.recv() => match message? {
                    ServerMessage::Goal(sealed) => {
                        let (id, (taken, kept)) = (sealed.id(), oneshot::channel());
                        let _ = self.events.send(Event::Goal { sealed, taken }).await;
                        if kept.await == Ok(true) {
                            send(io, AgentMessage::GoalAccepted(id)).await?;
                        }
                    }
                    ServerMessage::Ack(up_to) => {
                        if self.ack(up_to).await {
                            acked = acked.max(up_to);
                        } else {
                            warn!(up_to, "the server acknowledged what was never sent");
                        }
                    }
                    ServerMessage::OpenStream(asked) => self.streams.answer(asked),
                    ServerMessage::Notice(notice) => self.notice(&notice),
                    ServerMessage::Pong(ping) => self.way.heard(ping, Instant::now()),
                    ServerMessage::Rank(rank) => {
                        self.tell(|s| s.rank = Some(OwnRank { told: clock::now(), rank }));
                    }
                    ServerMessage::Welcome(_) | ServerMessage::Goodbye(_) => {}
                },
                _ = beat.tick() => {
                    if io.connection.is_astray() {
                        let why = "this machine's address is another one now".to_owned();
                        return Err(LinkError::Closed(CloseReason::Transport(why)).into());
                    }
                    let running = self.snapshot().await.running();
                    let ping = self.way.ask(Instant::now());
                    let mut heartbeat = self.load.sample(&self.machine.borrow(), self.disk.home().dir(), running, ping);
                    heartbeat.conditions.clone_from(&self.untold.borrow());
                    send(io, AgentMessage::Heartbeat(heartbeat)).await?;
                }
                () = self.reports_ready.notified(), if may_send => {}
                () = sleep_until(renew_at) => {
                    let allowed = Instant::now() >= self.earliest_renewal;
                    if allowed && matches!(self.renewal(), Renewal::Due | Renewal::Expired) {
                        match self.renew().await {
                            // A session does not outlive its certificate; the next one shows the new one.
                            Ok(()) => return Ok(()),
                            Err(error) => warn!(error = chain(&error), "the certificate could not be renewed; trying again"),
                        }
                        renew_at = Instant::now() + RENEW_AGAIN;
                    } else {
                        renew_at = self.renew_at();
                    }
                }
            }
        }
    }

    fn renew_at(&self) -> Instant {
        let wait = match self.renewal() {
            Renewal::Wait { until } => until.since(clock::now()).as_std(),
            Renewal::Due | Renewal::Expired => Duration::ZERO,
            Renewal::ClockBehind => LOOK_AGAIN,
        };
        (Instant::now() + wait.min(LOOK_AGAIN)).max(self.earliest_renewal.min(Instant::now() + LOOK_AGAIN))
    }

    fn notice(&self, notice: &Notice) {
        let Notice { code, message, hint } = notice;
        warn!(code, message, hint, "the server says");
        self.tell(|s| {
            s.notice = Some(if hint.is_empty() { message.clone() } else { format!("{message}; {hint}") })
        });
    }
}

fn ended(error: &crate::AgentError) -> Ended {
    match error {
        crate::AgentError::Link(error) => judge(error),
        other => Ended { pace: Pace::Soon, code: "agent".into(), why: chain(other), retry_after: None },
    }
}

async fn send(io: &SessionIo, message: AgentMessage) -> Result<(), LinkError> {
    match timeout(SEND, io.send.send(message)).await {
        Ok(sent) => sent,
        Err(_) => Err(LinkError::Closed(CloseReason::Silent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_link::Refusal;

    #[test]
    fn the_pace_follows_the_reason() {
        let refused = |code: &'static str| judge(&LinkError::Refused(Refusal::new(code, "no", "ask")));
        assert_eq!(refused("busy").pace, Pace::Soon);
        assert_eq!(refused("node_revoked").pace, Pace::Slow(SLOWEST));
        assert_eq!(refused("node_quarantined").pace, Pace::Slow(SLOW));
        assert_eq!(refused("certificate_ended").pace, Pace::Renew);
        assert_eq!(refused("session_replaced").pace, Pace::Soon);
        assert_eq!(judge(&LinkError::Closed(CloseReason::Silent)).pace, Pace::Soon);
        assert!(refused("node_revoked").why.contains("ask"));
    }
}
