//! Looks, decides and says so. One look a second where a rule rests on what is measured, else one in
//! five, and at once when the owner presses a button or time alone changes the answer: work is allowed
//! within two seconds of its threshold.

use super::{files, lend::Lent};
use crate::{
    AgentError, clock,
    config::AgentConfig,
    error::{Result, chain},
    event::Event,
    facts::Machine,
    gpu::Gpus,
    home::HomePaths,
    lan::LanStatus,
    power::{Felt, Wants},
};
use lattice_converge::Admission;
use lattice_identity::keyfile;
use lattice_model::{Duration, Standing, StandingState, Timestamp};
use lattice_rules::{
    Facts, KeepAwake, Moment, OnMetered, Pause, PauseKind, Preset, Reading, Rules, State, Verdict, Word,
    decide,
};
use lattice_sense::{Sensors, Sleep, data::DataUse};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::SystemTime};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// Between two looks while a rule rests on what is measured.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// Between two looks otherwise: files may have been changed by hand.
const GLANCE: std::time::Duration = std::time::Duration::from_secs(5);
/// Between two writes of what was sent and received.
const KEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// What the owner presses.
#[derive(Debug)]
pub(crate) enum Order {
    /// Stop, or stop once jobs have ended.
    Pause { kind: PauseKind, span: Option<Duration>, done: Answer },
    /// Go on.
    Resume { done: Answer },
    /// Other rules, as a text.
    Rules { text: String, done: Answer },
    /// Look now.
    Look { done: Answer },
    /// The machine goes to sleep or is shut down, or not any more.
    Announce { state: Option<StandingState>, done: Answer },
}

type Answer = oneshot::Sender<Result<OwnerStatus>>;

/// What the owner's rules make of this machine now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerStatus {
    /// Whether it works, and why not.
    pub verdict: Verdict,
    /// What was measured, as far as a rule asked for it.
    pub facts: Facts,
    /// The pause, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,
    /// The preset that the rules are, where they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Whether work keeps the machine awake, by the rules.
    pub keep_awake: KeepAwake,
    /// What the server is told.
    pub standing: Standing,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// At once, or once jobs have ended.
    pub kind: PauseKind,
    /// Since when.
    pub since: Timestamp,
    /// How long it still lasts; absent is until the owner ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Duration>,
}

/// A decision, as the rest of the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) admission: Admission,
    pub(crate) standing: Standing,
}

/// What of the machine rules rest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    power: bool,
    heat: bool,
    idle: bool,
    metered: bool,
    traffic: bool,
}

impl Needs {
    fn of(rules: &Rules) -> Self {
        Self {
            // Where work may run on battery, for how long is worth knowing.
            power: true,
            heat: rules.temperature.is_some() || rules.noise.is_some(),
            idle: rules.user.stop_when_active,
            metered: rules.network.metered == OnMetered::Suspend,
            traffic: rules.caps.data_per_month.is_some(),
        }
    }
}

type Stamp = Option<(SystemTime, u64)>;

/// What it looks at.
pub(crate) struct Senses {
    pub(crate) sensors: Arc<dyn Sensors>,
    pub(crate) gpus: Gpus,
    pub(crate) felt: Felt,
    pub(crate) lan: watch::Receiver<LanStatus>,
}

/// The task's state.
pub(crate) struct Warden {
    paths: HomePaths,
    sensors: Arc<dyn Sensors>,
    machine: Machine,
    gpus: Gpus,
    config: AgentConfig,
    word: Word,
    pause: Option<Pause>,
    state: State,
    announced: Option<(StandingState, Timestamp)>,
    felt: Felt,
    lan: watch::Receiver<LanStatus>,
    data: DataUse,
    data_kept: Instant,
    stamps: [Stamp; 3],
    lent: watch::Sender<Arc<Lent>>,
    status: watch::Sender<OwnerStatus>,
}

impl Warden {
    /// Reads the owner's files and decides for the first time.
    pub(crate) async fn begin(
        paths: HomePaths,
        config: AgentConfig,
        machine: Machine,
        senses: Senses,
        manager: Option<&dyn Sleep>,
    ) -> Self {
        let Senses { sensors, gpus, felt, lan } = senses;
        let stamps = stamps(&paths);
        let (word, pause) = (files::word(&paths), files::pause(&paths));
        if let Word::Broken(problem) = &word {
            warn!(problem, "the owner's rules cannot be read; nothing runs until they can");
        }
        let data = keyfile::load(&paths.data_use()).ok().flatten();
        let data = data.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let lent = watch::Sender::new(Arc::new(Lent::new(config.clone(), &word)));
        let first = OwnerStatus {
            verdict: decide(&word, &Facts::unknown(""), &clock::moment(), &State::default(), None).0,
            facts: Facts::unknown("nobody has looked yet"),
            pause: None,
            preset: None,
            keep_awake: KeepAwake::Never,
            standing: Standing::default(),
        };
        let mut warden = Self {
            paths,
            sensors,
            machine,
            gpus,
            config,
            word,
            pause,
            state: State::default(),
            announced: None,
            felt,
            lan,
            data,
            data_kept: Instant::now(),
            stamps,
            lent,
            status: watch::Sender::new(first),
        };
        // The session manager's answer is there before the first decision.
        warden.want();
        if let Some(manager) = manager {
            warden.felt.look(manager).await;
        }
        warden.judge();
        warden
    }

    pub(crate) fn status(&self) -> watch::Receiver<OwnerStatus> {
        self.status.subscribe()
    }

    pub(crate) fn lent(&self) -> watch::Receiver<Arc<Lent>> {
        self.lent.subscribe()
    }

    /// The last decision.
    pub(crate) fn judgement(&self) -> Judgement {
        judgement(&self.status.borrow())
    }

    /// Looks and decides until the agent ends. `calm` says that no job is under way.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        calm: Arc<Notify>,
        events: mpsc::Sender<Event>,
    ) {
        let mut told = self.judgement();
        loop {
            let next = self.next_look();
            let order = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
                () = sleep_until(next) => None,
                Ok(()) = self.lan.changed() => None,
                () = calm.notified() => {
                    self.finish();
                    None
                }
            };
            let (done, answer) = match order {
                Some(order) => self.obey(order),
                None => (Ok(()), None),
            };
            let reread = self.reread();
            // A GPU may have been proven, or lost.
            let gpus = self.gpus.facts();
            let others = self.machine.facts.machine.gpus != gpus;
            self.machine.facts.machine.gpus = gpus;
            let policy = (reread || others).then(|| self.lent.borrow().policy(&self.machine));
            if let Some(policy) = policy
                && events.send(Event::Policy(policy)).await.is_err()
            {
                return;
            }
            self.judge();
            let now = self.judgement();
            if now != told {
                let Standing { state, reason, .. } = &now.standing;
                info!(%state, reason, "the owner's rules decide");
                told = now.clone();
                if events.send(Event::Owner(now)).await.is_err() {
                    return;
                }
            }
            if let Some(answer) = answer {
                let _ = answer.send(done.map(|()| self.status.borrow().clone()));
            }
        }
    }

    fn next_look(&self) -> Instant {
        let measured = match &self.word {
            Word::Rules(rules) => Needs::of(rules.rules()) != Needs::default(),
            Word::Broken(_) => false,
        };
        let usual = if measured { LOOK } else { GLANCE };
        let by_time = self.status.borrow().verdict.next_change.map(|at| at.since(clock::now()).as_std());
        // A clock that jumps is seen at the next glance.
        Instant::now() + by_time.map_or(usual, |span| span.min(usual))
    }

    fn obey(&mut self, order: Order) -> (Result<()>, Option<Answer>) {
        match order {
            Order::Pause { kind, span, done } => {
                let pause = Pause::new(kind, span, &clock::moment());
                info!(?kind, ?span, "the owner pauses this machine");
                (self.put_pause(Some(pause)), Some(done))
            }
            Order::Resume { done } => {
                info!("the owner ends the pause");
                (self.put_pause(None), Some(done))
            }
            Order::Rules { text, done } => (files::save_rules(&self.paths, &text).map(drop), Some(done)),
            Order::Look { done } => (Ok(()), Some(done)),
            Order::Announce { state, done } => {
                self.announced = state.map(|state| (state, clock::now()));
                (Ok(()), Some(done))
            }
        }
    }

    /// The owner's button works also when the disk does not: then it holds as long as the agent runs.
    fn put_pause(&mut self, pause: Option<Pause>) -> Result<()> {
        self.pause = pause;
        let kept = files::save_pause(&self.paths, self.pause.as_ref());
        self.stamps[2] = files::stamp(&self.paths.pause());
        kept
    }

    /// Jobs have ended: a pause that waited for that begins.
    fn finish(&mut self) {
        if let Some(pause) = self.pause.take_if(|pause| pause.kind == PauseKind::Finish) {
            info!("all jobs have ended; the machine is paused");
            if let Err(error) = self.put_pause(Some(pause.finished())) {
                warn!(error = chain(&error), "the pause cannot be kept; it holds until the agent ends");
            }
        }
    }

    /// Takes in what was changed on disk; whether what may run is something else.
    fn reread(&mut self) -> bool {
        let now = stamps(&self.paths);
        let before = std::mem::replace(&mut self.stamps, now);
        if now[0] != before[0] {
            match AgentConfig::load(&self.paths.config()) {
                Ok(config) => {
                    info!("the owner changed agent.toml");
                    self.config = config;
                }
                Err(error) => warn!(
                    error = chain(&error),
                    "agent.toml was changed and is not understood; the old one counts"
                ),
            }
        }
        if now[1] != before[1] {
            self.word = files::word(&self.paths);
            match &self.word {
                Word::Rules(_) => info!("the owner changed the rules"),
                Word::Broken(problem) => {
                    warn!(problem, "the owner's rules cannot be read; nothing runs until they can")
                }
            }
        }
        if now[2] != before[2] {
            self.pause = files::pause(&self.paths);
        }
        let lent = Arc::new(Lent::new(self.config.clone(), &self.word));
        self.lent.send_if_modified(|known| {
            let changed = **known != *lent;
            *known = lent;
            changed
        })
    }

    fn want(&self) {
        if let Word::Rules(rules) = &self.word {
            let Needs { idle, metered, .. } = Needs::of(rules.rules());
            self.felt.want(Wants { idle, metered });
        }
    }

    fn judge(&mut self) {
        self.want();
        let now = clock::moment();
        if self.pause.as_ref().is_some_and(|pause| pause.is_over(&now)) {
            info!("the pause is over");
            if let Err(error) = self.put_pause(None) {
                warn!(error = chain(&error), "the pause that is over cannot be removed");
                self.pause = None;
            }
        }
        let facts = self.look(&now);
        let (verdict, state) = decide(&self.word, &facts, &now, &self.state, self.pause.as_ref());
        self.state = state;
        let pause = self.pause.as_ref().map(|pause| PauseStatus {
            kind: pause.kind,
            since: pause.since,
            left: pause.left(&now),
        });
        let preset = match &self.word {
            Word::Rules(rules) => Preset::of(rules.rules()),
            Word::Broken(_) => None,
        };
        let keep_awake = match &self.word {
            Word::Rules(rules) => rules.rules().power.keep_awake,
            Word::Broken(_) => KeepAwake::Never,
        };
        let standing = match self.announced {
            None => standing(&verdict),
            Some((state, since)) => Standing {
                state,
                why: Some("its session manager said so".into()),
                since,
                ..Standing::default()
            },
        };
        self.status.send_replace(OwnerStatus { verdict, facts, pause, preset, keep_awake, standing });
    }

    /// Measures what rules rest on, and nothing else.
    fn look(&mut self, now: &Moment) -> Facts {
        let mut facts = Facts::unknown("no rule asks for it");
        facts.lan = self.lan.borrow_and_update().fact();
        let Word::Rules(rules) = &self.word else { return facts };
        let needs = Needs::of(rules.rules());
        if needs.power {
            let power = self.sensors.power();
            (facts.power, facts.charge) = (power.source, power.charge);
        }
        if needs.heat {
            let heat = self.sensors.heat();
            (facts.temperature, facts.fan) = (heat.hottest.map(|sensor| sensor.celsius), heat.fan);
        }
        if needs.idle {
            let idle = self.felt.idle().filter(|idle| idle.known().is_some());
            facts.idle = idle.unwrap_or_else(|| self.sensors.idle(now.wall));
        }
        if needs.metered {
            facts.metered = self.felt.metered().unwrap_or_else(|| self.sensors.metered());
        }
        if needs.traffic {
            let month = rules.data_month(now.wall).0;
            facts.data = match self.sensors.traffic() {
                Reading::Known(counters) => {
                    self.data.add(&counters, &now.boot_id, month);
                    Reading::Known(self.data.used)
                }
                Reading::Unknown(why) => Reading::Unknown(why),
            };
            if self.data_kept.elapsed() >= KEEP {
                self.keep_data();
            }
        }
        facts
    }

    fn keep_data(&mut self) {
        self.data_kept = Instant::now();
        let bytes = serde_json::to_vec(&self.data).unwrap_or_default();
        if let Err(error) = keyfile::replace(&self.paths.data_use(), &bytes).map_err(AgentError::from) {
            warn!(error = chain(&error), "what was sent and received cannot be kept");
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if self.data != DataUse::default() {
            self.keep_data();
        }
    }
}

fn stamps(paths: &HomePaths) -> [Stamp; 3] {
    let files: [PathBuf; 3] = [paths.config(), paths.rules(), paths.pause()];
    files.map(|path| files::stamp(&path))
}

fn judgement(status: &OwnerStatus) -> Judgement {
    let Verdict { suspended, finishing, .. } = &status.verdict;
    let words = |why: &str| format!("suspended: {why}");
    let admission = match (suspended, finishing) {
        (Some(suspended), _) => Admission::Closed(words(&suspended.why)),
        (None, Some(finishing)) => Admission::NothingNew(finishing.why.clone()),
        (None, None) => Admission::Open,
    };
    Judgement { admission, standing: status.standing.clone() }
}

/// What the server is told.
fn standing(verdict: &Verdict) -> Standing {
    let Some(said) = verdict.standing() else {
        return Standing {
            state: StandingState::Working,
            since: verdict.since,
            until: verdict.ends(),
            ..Standing::default()
        };
    };
    let state = if verdict.allowed() { StandingState::Finishing } else { StandingState::Suspended };
    Standing {
        state,
        reason: Some(said.reason.code().to_owned()),
        why: Some(said.why.clone()),
        since: said.since,
        until: said.until,
    }
}
