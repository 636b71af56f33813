//! What is to hold, what holds, and the gate before each start.
//!
//! `refresh` is the one way in which anything changes: it looks at the host, computes, compares with what is there, and
//! applies where that differs. It runs when the agent begins, when the kernel tells of a change, when the owner's rules
//! change, every half minute, and before each start.

use super::{Firewall, table_name};
use crate::{clock, engine::EngineStatus, owner::Lent};
use lattice_lan::{Bridges, Facts, Limits, Ruleset};
use lattice_model::{
    BitRate, NodeId, Timestamp,
    container::bridge_prefix,
    machine::{Bandwidth, LanState},
};
use lattice_rules::{Access, LanFact, LanRule, Reading};
use lattice_runtime::Runtime;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

/// Between two looks when nothing is heard.
const LOOK: Duration = Duration::from_secs(30);
/// The same, while it cannot be closed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A change seldom comes alone.
const SETTLE: Duration = Duration::from_millis(50);
/// The least between two looks: somebody else's firewall may change all the time.
const APART: Duration = Duration::from_millis(300);
/// How long what runs may run on when it cannot be closed any more; nothing starts meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// How long the engine may take to say what it is.
const ASK: Duration = Duration::from_secs(10);

/// What the owner wants of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    lan: LanRule,
    bandwidth: Bandwidth,
}

impl Wish {
    pub(crate) fn of(lent: &Lent) -> Self {
        Self { lan: lent.lan().clone(), bandwidth: lent.bandwidth() }
    }

    fn limits(&self) -> Limits {
        let Bandwidth { up, down } = self.bandwidth;
        Limits { up: up.map(BitRate::bytes), down: down.map(BitRate::bytes) }
    }
}

/// How fast containers may send and receive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedStatus {
    /// By the owner's word.
    pub limit: Bandwidth,
    /// Why they may do so faster all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl SpeedStatus {
    /// A sentence.
    pub fn sentence(&self) -> String {
        match &self.why {
            None => format!("at most {}", self.limit),
            Some(why) => format!("to be at most {}, which is not kept: {why}", self.limit),
        }
    }
}

/// Whether the owner's network is closed to containers, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanStatus {
    /// Whether.
    pub state: LanState,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when, by this machine's clock.
    #[serde(default)]
    pub since: Timestamp,
    /// What the owner allows.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The table that holds the rules, as `nft list table` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Whom containers may ask for names.
    #[serde(default)]
    pub resolvers: Vec<String>,
    /// How often the rules were written since the agent began.
    #[serde(default)]
    pub written: u64,
    /// How often somebody else had taken them away or changed them.
    #[serde(default)]
    pub restored: u64,
    /// How fast containers may send and receive, where the owner limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<SpeedStatus>,
}

impl LanStatus {
    /// As the owner's rules look at it.
    pub(crate) fn fact(&self) -> Reading<LanFact> {
        match self.state {
            LanState::Unknown => Reading::unknown("nobody looks after the network here"),
            state => Reading::Known(LanFact { state, why: self.why.clone() }),
        }
    }

    /// A sentence.
    pub fn sentence(&self) -> String {
        let why = self.why.as_deref().unwrap_or_default();
        match self.state {
            LanState::Closed if self.allow.is_empty() => "closed to containers".into(),
            LanState::Closed => format!("closed to containers, but for {}", self.allow.join(", ")),
            LanState::Open => format!("open to containers: {why}"),
            LanState::Unfenced => format!("cannot be closed to containers, so none runs: {why}"),
            LanState::Unknown => "not known".into(),
        }
    }
}

/// What was done last.
#[derive(Default)]
struct Done {
    facts: Option<Facts>,
    /// The text that was applied, and the table as it was listed right after.
    text: String,
    listing: Option<String>,
    /// Whether all networks of this node were seen on bridges where the rules hold.
    proven: bool,
    others: BTreeSet<String>,
    /// Since when it cannot be closed.
    broken: Option<Instant>,
    /// Whether the table of a network that is open was taken away.
    opened: bool,
    /// Why the speed is not limited as the owner wants it.
    unlimited: Option<String>,
}

/// Keeps containers out of the owner's network.
pub(crate) struct Fence {
    node: NodeId,
    runtime: Arc<dyn Runtime>,
    /// None: nothing that this agent runs leaves its process.
    firewall: Option<Arc<dyn Firewall>>,
    /// Whoever deploys here is who owns this machine: where nothing can be closed, work runs all the same.
    own: bool,
    wish: parking_lot::Mutex<Wish>,
    done: Mutex<Done>,
    status: watch::Sender<LanStatus>,
    again: Notify,
}

impl Fence {
    /// Closes the network before anything runs, if that can be done.
    pub(crate) async fn begin(
        node: NodeId,
        runtime: Arc<dyn Runtime>,
        firewall: Option<Arc<dyn Firewall>>,
        own: bool,
        wish: Wish,
    ) -> Arc<Self> {
        let fence = Arc::new(Self {
            node,
            runtime,
            firewall,
            own,
            wish: parking_lot::Mutex::new(wish),
            done: Mutex::new(Done::default()),
            status: watch::Sender::new(LanStatus::default()),
            again: Notify::new(),
        });
        let _ = fence.refresh(true).await;
        fence
    }

    /// For what runs nothing outside of its process.
    #[cfg(test)]
    pub(crate) async fn none(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Self::begin(NodeId::from_random(1), runtime, None, false, Wish::default()).await
    }

    pub(crate) fn status(&self) -> watch::Receiver<LanStatus> {
        self.status.subscribe()
    }

    /// A network was made, or may have been: before the next start it is looked where its bridge is.
    pub(crate) async fn network_made(&self) {
        self.done.lock().await.proven = false;
        self.again.notify_one();
    }

    /// Whether a container may start now.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub(crate) async fn gate(&self) -> Result<(), String> {
        let wait = |why: &str| {
            format!("nothing starts while the owner's network cannot be closed to containers: {why}")
        };
        self.refresh(false).await.map_err(|why| wait(&why))?;
        let closed = self.status.borrow().state == LanState::Closed;
        if closed && !self.done.lock().await.proven {
            return Err(wait("the container engine does not say which networks it has"));
        }
        Ok(())
    }

    /// Watches for ever.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut lent: watch::Receiver<Arc<Lent>>,
        mut engine: watch::Receiver<EngineStatus>,
    ) {
        let Some(firewall) = self.firewall.clone() else { return };
        let mut changes = firewall.changes();
        loop {
            let pause = if self.status.borrow().state == LanState::Unfenced { LOOK_AGAIN } else { LOOK };
            let next = Instant::now() + pause;
            let anew = tokio::select! {
                () = changes.next() => {
                    sleep(SETTLE).await;
                    true
                }
                changed = lent.changed() => {
                    if changed.is_err() { return }
                    let wish = Wish::of(&lent.borrow_and_update());
                    *self.wish.lock() = wish;
                    false
                }
                changed = engine.changed() => {
                    if changed.is_err() { return }
                    if !engine.borrow_and_update().ok { continue }
                    // It may be another one, and elsewhere.
                    self.done.lock().await.proven = false;
                    changes = firewall.changes();
                    true
                }
                () = self.again.notified() => false,
                () = sleep_until(next) => true,
            };
            let _ = self.refresh(anew).await;
            // What happens meanwhile is heard afterwards.
            sleep(APART).await;
        }
    }

    /// Makes it so; `anew` looks at the host's network again.
    async fn refresh(&self, anew: bool) -> Result<(), String> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let wish = self.wish.lock().clone();
        let mut done = self.done.lock().await;
        if wish.lan.access == Access::Open {
            self.open(&**firewall, &mut done, &wish, anew).await;
            self.tell(LanState::Open, Some("lan.access = \"open\" in the rules".into()), &wish, &done);
            return Ok(());
        }
        done.opened = false;
        match self.close(&**firewall, &mut done, &wish, anew).await {
            Ok(()) => {
                done.broken = None;
                self.tell(LanState::Closed, None, &wish, &done);
                Ok(())
            }
            Err(why) if self.own => {
                done.unlimited = Some(why.clone());
                let why = format!("{why} (this machine runs its own owner's work)");
                self.tell(LanState::Open, Some(why), &wish, &done);
                Ok(())
            }
            Err(why) => {
                done.unlimited = Some(why.clone());
                let since = *done.broken.get_or_insert_with(Instant::now);
                // What has begun behind rules that held may run on for a moment: whoever flushed them
                // may still be at it.
                if since.elapsed() >= GRACE || self.status.borrow().state != LanState::Closed {
                    self.tell(LanState::Unfenced, Some(why.clone()), &wish, &done);
                }
                Err(why)
            }
        }
    }

    /// By the owner's word: there is no table, or one that limits the speed and nothing else.
    async fn open(&self, firewall: &dyn Firewall, done: &mut Done, wish: &Wish, anew: bool) {
        let table = table_name(self.node);
        if wish.limits() == Limits::default() {
            done.unlimited = None;
            if !done.opened {
                // Without a table everything is open.
                match firewall.remove(&table).await {
                    Ok(()) => *done = Done { opened: true, ..Done::default() },
                    Err(why) => debug!(why, "there may be a table that closes the network"),
                }
            }
            return;
        }
        done.opened = false;
        let written = async {
            if !done.proven || anew {
                self.prove(firewall, done).await?;
            }
            let bridges = Bridges { prefix: bridge_prefix(self.node), others: done.others.clone() };
            let text = Ruleset::open(&table, bridges).limited(wish.limits()).nft();
            self.write(firewall, done, &table, text).await
        };
        done.unlimited = match written.await {
            Ok(false) => None,
            Ok(true) => {
                info!(table, limit = %wish.bandwidth, "the speed of containers is limited");
                None
            }
            Err(why) => {
                // No rest of a table that closes what is open.
                if let Err(why) = firewall.remove(&table).await {
                    debug!(why, "there may be a table that closes the network");
                }
                Some(why)
            }
        };
    }

    async fn close(
        &self,
        firewall: &dyn Firewall,
        done: &mut Done,
        wish: &Wish,
        anew: bool,
    ) -> Result<(), String> {
        if !done.proven {
            self.prove(firewall, done).await?;
        }
        if anew || done.facts.is_none() {
            done.facts = Some(firewall.facts().await?);
        }
        let facts = done.facts.clone().unwrap_or_default();
        let table = table_name(self.node);
        let bridges = Bridges { prefix: bridge_prefix(self.node), others: done.others.clone() };
        let ruleset = Ruleset::new(&table, bridges, &facts, &wish.lan.allow)
            .map_err(|error| crate::error::chain(&error))?;
        let closed = ruleset.nft();
        let text = ruleset.limited(wish.limits()).nft();
        // Once the kernel did not take the limit, the rules without it are what is to hold.
        let known_to_fail = done.unlimited.is_some() && done.text == closed && !anew;
        let written = match known_to_fail {
            true => self.write(firewall, done, &table, closed).await?,
            false => match self.write(firewall, done, &table, text.clone()).await {
                Ok(written) => {
                    done.unlimited = None;
                    written
                }
                Err(why) if text != closed => {
                    let written = self.write(firewall, done, &table, closed).await?;
                    done.unlimited = Some(why);
                    written
                }
                Err(why) => return Err(why),
            },
        };
        if written {
            info!(
                table,
                routes = facts.routes.len(),
                allowed = wish.lan.allow.len(),
                "the owner's network is closed to containers"
            );
        }
        Ok(())
    }

    /// Makes the table this one; whether that took anything.
    async fn write(
        &self,
        firewall: &dyn Firewall,
        done: &mut Done,
        table: &str,
        text: String,
    ) -> Result<bool, String> {
        let there = firewall.listing(table).await?;
        if text == done.text && there.is_some() && there == done.listing {
            return Ok(false);
        }
        let taken = text == done.text;
        if taken {
            warn!(
                table,
                gone = there.is_none(),
                "somebody changed the rules that this agent keeps for its containers; they are written again"
            );
        }
        firewall.apply(&text).await?;
        let listing = firewall.listing(table).await?;
        if listing.is_none() {
            return Err("nft takes the rules, and then they are not there".into());
        }
        (done.text, done.listing) = (text, listing);
        self.status.send_modify(|status| {
            status.written += 1;
            status.restored += u64::from(taken);
        });
        Ok(true)
    }

    /// Whether the bridges of this node's networks are where the rules hold. An engine that does not answer
    /// starts nothing, and is asked before it does.
    async fn prove(&self, firewall: &dyn Firewall, done: &mut Done) -> Result<(), String> {
        let Ok(Ok(info)) = timeout(ASK, self.runtime.info()).await else { return Ok(()) };
        if info.rootless {
            return Err("the container engine runs without root's rights, and its containers' packets leave as those of \
                        its user, where no rule tells them apart; use an engine that root runs"
                .into());
        }
        let Ok(Ok(networks)) = timeout(ASK, self.runtime.list_networks(self.node)).await else {
            return Ok(());
        };
        let here = firewall.interfaces().await?;
        let prefix = bridge_prefix(self.node);
        let mut others = BTreeSet::new();
        for network in networks {
            let Some(bridge) = network.bridge else {
                return Err(format!("the engine does not say which bridge the network {} has", network.name));
            };
            if !here.contains(&bridge) {
                return Err(format!(
                    "the bridge {bridge} of the network {} is not on this machine: the container engine runs in a virtual \
                     machine or in a network of its own, whose packets do not pass this machine's firewall",
                    network.name
                ));
            }
            if !bridge.starts_with(&prefix) {
                others.insert(bridge);
            }
        }
        (done.others, done.proven) = (others, true);
        Ok(())
    }

    fn tell(&self, state: LanState, why: Option<String>, wish: &Wish, done: &Done) {
        let resolvers =
            done.facts.iter().flat_map(|facts| &facts.resolvers).map(ToString::to_string).collect();
        self.status.send_if_modified(|status| {
            let since = if status.state == state { status.since } else { clock::now() };
            let limited = !wish.bandwidth.is_unlimited();
            let kept = state == LanState::Closed || limited && done.unlimited.is_none();
            let table = kept.then(|| format!("inet {}", table_name(self.node)));
            let speed = limited.then(|| SpeedStatus { limit: wish.bandwidth, why: done.unlimited.clone() });
            let allow = wish.lan.allow.iter().map(ToString::to_string).collect();
            let now = LanStatus { state, why, since, allow, table, resolvers, speed, ..status.clone() };
            if *status == now {
                return false;
            }
            if status.speed != now.speed
                && let Some(speed) = &now.speed
            {
                let sentence = speed.sentence();
                match speed.why {
                    Some(_) => warn!(sentence, "the speed of containers"),
                    None => info!(sentence, "the speed of containers"),
                }
            }
            if status.state != now.state {
                let sentence = now.sentence();
                match now.state {
                    LanState::Unfenced => warn!(sentence, "the owner's network"),
                    _ => info!(sentence, "the owner's network"),
                }
            }
            *status = now;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lan::changes::Changes;
    use async_trait::async_trait;
    use lattice_model::NetworkId;
    use lattice_model::container::{LABEL_NETWORK, LABEL_NODE, bridge_name};
    use lattice_runtime::simulated::{Settings, Simulated};

    fn node() -> NodeId {
        NodeId::from_random(7)
    }

    /// A host in memory.
    #[derive(Default)]
    struct Host(parking_lot::Mutex<State>);

    #[derive(Default)]
    struct State {
        facts: Facts,
        interfaces: BTreeSet<String>,
        table: Option<String>,
        applied: usize,
        tried: usize,
        broken: Option<String>,
        /// The kernel has no limits.
        uncounted: bool,
    }

    #[async_trait]
    impl Firewall for Host {
        async fn facts(&self) -> Result<Facts, String> {
            Ok(self.0.lock().facts.clone())
        }

        async fn interfaces(&self) -> Result<BTreeSet<String>, String> {
            Ok(self.0.lock().interfaces.clone())
        }

        async fn remove_interface(&self, name: &str) -> Result<(), String> {
            self.0.lock().interfaces.remove(name);
            Ok(())
        }

        async fn listing(&self, _: &str) -> Result<Option<String>, String> {
            Ok(self.0.lock().table.clone())
        }

        async fn apply(&self, text: &str) -> Result<(), String> {
            let mut state = self.0.lock();
            state.tried += 1;
            if let Some(why) = &state.broken {
                return Err(why.clone());
            }
            if state.uncounted && text.contains("limit rate") {
                return Err("nft_limit".into());
            }
            (state.table, state.applied) = (Some(text.to_owned()), state.applied + 1);
            Ok(())
        }

        async fn remove(&self, _: &str) -> Result<(), String> {
            self.0.lock().table = None;
            Ok(())
        }

        fn changes(&self) -> Changes {
            Changes::default()
        }
    }

    async fn fence(own: bool) -> (Arc<Host>, Arc<dyn Runtime>, Arc<Fence>) {
        let host = Arc::new(Host::default());
        let settings = Settings::new(1, Timestamp(1_700_000_000_000));
        let runtime: Arc<dyn Runtime> = Arc::new(Simulated::new(settings));
        let firewall: Arc<dyn Firewall> = Arc::clone(&host) as _;
        let fence = Fence::begin(node(), Arc::clone(&runtime), Some(firewall), own, Wish::default()).await;
        (host, runtime, fence)
    }

    fn state(fence: &Fence) -> LanState {
        fence.status.borrow().state
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_closed_before_anything_runs_and_again_after_a_flush() {
        let (host, _, fence) = fence(false).await;
        assert_eq!((state(&fence), host.0.lock().applied), (LanState::Closed, 1));
        fence.gate().await.unwrap();
        assert_eq!(host.0.lock().applied, 1, "nothing is written in vain");
        host.0.lock().table = None;
        fence.gate().await.unwrap();
        assert!(host.0.lock().table.is_some());
        host.0.lock().table = Some("with a hole".into());
        fence.gate().await.unwrap();
        assert_eq!((host.0.lock().applied, fence.status.borrow().restored), (3, 2));
        // A route came: it is in the text as soon as that is looked at.
        let route = r#"[{"dst":"203.0.113.0/24","dev":"tun0"}]"#;
        host.0.lock().facts = Facts::read("", route).unwrap();
        fence.refresh(true).await.unwrap();
        assert!(host.0.lock().table.as_ref().unwrap().contains("203.0.113.0/24"));
        fence.wish.lock().lan.allow.insert("192.168.1.9:80".parse().unwrap());
        fence.refresh(false).await.unwrap();
        assert!(host.0.lock().table.as_ref().unwrap().contains("ip daddr 192.168.1.9/32"));
        fence.wish.lock().lan.access = Access::Open;
        fence.wish.lock().lan.allow.clear();
        fence.gate().await.unwrap();
        assert_eq!((state(&fence), host.0.lock().table.clone()), (LanState::Open, None));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_starts_without_it_and_what_runs_has_a_moment() {
        let (host, _, fence) = fence(false).await;
        host.0.lock().table = None;
        host.0.lock().broken = Some("no right".into());
        assert!(fence.gate().await.unwrap_err().contains("no right"));
        assert_eq!(state(&fence), LanState::Closed, "whoever flushed it may still be at it");
        tokio::time::advance(GRACE).await;
        assert!(fence.gate().await.is_err());
        assert_eq!(state(&fence), LanState::Unfenced);
        host.0.lock().broken = None;
        fence.gate().await.unwrap();
        assert_eq!(state(&fence), LanState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bridge_that_is_elsewhere_proves_that_nothing_is_closed() {
        let (host, runtime, fence) = fence(false).await;
        let network = NetworkId::from_random(9);
        let labels = [(LABEL_NODE, node().to_string()), (LABEL_NETWORK, network.to_string())];
        let labels = labels.map(|(key, value)| (key.to_owned(), value)).into();
        runtime.create_network("n", false, &labels).await.unwrap();
        fence.network_made().await;
        assert!(fence.gate().await.unwrap_err().contains("virtual machine"));
        host.0.lock().interfaces.insert(bridge_name(node(), network));
        fence.gate().await.unwrap();
        assert!(bridge_name(node(), network).len() <= 15);
    }

    #[tokio::test(start_paused = true)]
    async fn the_owners_limit_of_speed_is_in_the_table_closed_or_open() {
        let (host, _, fence) = fence(false).await;
        let table = || host.0.lock().table.clone().unwrap_or_default();
        let rate = "limit rate over 2500000 bytes/second";
        fence.wish.lock().bandwidth = Bandwidth { up: Some(BitRate(20_000_000)), down: None };
        fence.gate().await.unwrap();
        assert!(table().contains("closed4") && table().contains(rate) && !table().contains("speed_down"));
        let speed = fence.status.borrow().speed.clone().unwrap();
        assert_eq!(speed.sentence(), "at most 20Mbit up");
        let written = host.0.lock().applied;
        fence.gate().await.unwrap();
        assert_eq!(host.0.lock().applied, written, "nothing is written in vain");
        host.0.lock().table = None;
        fence.gate().await.unwrap();
        assert!(table().contains(rate), "flushed, and back");
        // Open, the limit still holds; and without a limit there is no table.
        fence.wish.lock().lan.access = Access::Open;
        fence.gate().await.unwrap();
        assert!(!table().contains("closed4") && table().contains(rate));
        assert_eq!(state(&fence), LanState::Open);
        host.0.lock().table = None;
        fence.refresh(false).await.unwrap();
        assert!(table().contains(rate), "flushed, and back");
        fence.wish.lock().bandwidth = Bandwidth::default();
        fence.gate().await.unwrap();
        assert_eq!((table(), fence.status.borrow().speed.clone()), (String::new(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_cannot_count_closes_the_network_all_the_same() {
        let (host, _, fence) = fence(false).await;
        host.0.lock().uncounted = true;
        fence.wish.lock().bandwidth = Bandwidth { up: None, down: Some(BitRate(8_000_000)) };
        fence.gate().await.unwrap();
        assert_eq!(state(&fence), LanState::Closed);
        let speed = fence.status.borrow().speed.clone().unwrap();
        assert!(speed.sentence().contains("not kept: nft_limit"), "{}", speed.sentence());
        let tried = host.0.lock().tried;
        fence.gate().await.unwrap();
        assert_eq!(host.0.lock().tried, tried, "what fails is not tried at each start");
        host.0.lock().uncounted = false;
        fence.refresh(true).await.unwrap();
        assert_eq!(fence.status.borrow().speed.clone().and_then(|speed| speed.why), None);
        // What cannot be limited where all is open is said as well, and stops nothing.
        fence.wish.lock().lan.access = Access::Open;
        host.0.lock().broken = Some("no right".into());
        fence.gate().await.unwrap();
        let speed = fence.status.borrow().speed.clone().unwrap();
        assert_eq!(speed.why.as_deref(), Some("no right"));
    }

    #[tokio::test(start_paused = true)]
    async fn on_ones_own_machine_work_runs_all_the_same() {
        let (host, _, fence) = fence(true).await;
        host.0.lock().table = None;
        host.0.lock().broken = Some("no right".into());
        fence.gate().await.unwrap();
        assert_eq!(state(&fence), LanState::Open);
        assert!(fence.status.borrow().sentence().contains("no right"));
    }
}
