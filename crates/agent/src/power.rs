//! Sleep, shutdown and staying awake.
//!
//! While work runs, the machine is kept from falling asleep by itself, as far as the owner's rules want that;
//! closing the lid and asking for sleep stay the owner's. Before it sleeps or is shut down the server is
//! told, for which the system waits a moment: an absence that was announced alarms nobody, and work that
//! can run elsewhere does. Where there is no session manager, neither is done.

use crate::{
    clock,
    disk::Disk,
    event::Event,
    owner::{Order, OwnerStatus},
};
use lattice_model::{Duration, StandingState};
use lattice_rules::{KeepAwake, PowerSource, Reading};
use lattice_sense::{Departure, Hold, Sensors, Sleep};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration as StdDuration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

/// Between two looks.
const LOOK: StdDuration = StdDuration::from_secs(1);
/// How long the server may take to hear of it; no system lets anybody wait longer than five seconds.
const TELL: StdDuration = StdDuration::from_secs(3);
/// Looks between two about staying awake.
const AWAKE_EVERY: u32 = 5;

/// What the session manager says, for whoever decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Felt(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    wants: Wants,
    idle: Option<Reading<Duration>>,
    metered: Option<Reading<bool>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) idle: bool,
    pub(crate) metered: bool,
}

impl Felt {
    pub(crate) fn want(&self, wants: Wants) {
        self.0.lock().wants = wants;
    }

    pub(crate) fn idle(&self) -> Option<Reading<Duration>> {
        self.0.lock().idle.clone()
    }

    pub(crate) fn metered(&self) -> Option<Reading<bool>> {
        self.0.lock().metered.clone()
    }

    /// Asks for what is wanted.
    pub(crate) async fn look(&self, manager: &dyn Sleep) {
        let wants = self.0.lock().wants;
        if wants.idle {
            let idle = manager.idle(clock::now()).await;
            self.0.lock().idle = Some(idle);
        }
        if wants.metered {
            let metered = manager.metered().await;
            self.0.lock().metered = Some(metered);
        }
    }
}

/// The task.
pub(crate) struct Keeper {
    pub(crate) manager: Arc<dyn Sleep>,
    pub(crate) sensors: Arc<dyn Sensors>,
    pub(crate) felt: Felt,
    pub(crate) owner: watch::Receiver<OwnerStatus>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) disk: Arc<Disk>,
}

impl Keeper {
    /// Runs until the agent ends, which lets go of all holds.
    pub(crate) async fn run(self) {
        let mut delay = self.delay().await;
        let mut awake: Option<Hold> = None;
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks: u32 = 0;
        loop {
            tokio::select! {
                departure = self.manager.next() => match departure {
                    None => return warn!("the session manager is gone; sleep is no more announced"),
                    Some(departure) => {
                        info!(?departure, "the system says");
                        match departure {
                            Departure::Sleep => self.announce(Some(StandingState::Asleep)).await,
                            Departure::Shutdown => self.announce(Some(StandingState::Away)).await,
                            Departure::Awake | Departure::Stays => self.announce(None).await,
                        }
                        // Told: nothing is held up any longer.
                        delay = match departure {
                            Departure::Sleep | Departure::Shutdown => None,
                            Departure::Awake | Departure::Stays => self.delay().await,
                        };
                    }
                },
                _ = tick.tick() => {
                    self.felt.look(&*self.manager).await;
                    if looks.is_multiple_of(AWAKE_EVERY) {
                        self.stay_awake(&mut awake).await;
                    }
                    looks = looks.wrapping_add(1);
                    let _ = &delay;
                }
            }
        }
    }

    async fn delay(&self) -> Option<Hold> {
        match self.manager.delay("the server is told that this machine goes").await {
            Ok(hold) => Some(hold),
            Err(why) => {
                debug!(why, "sleep cannot be delayed; the server may not hear of it in time");
                None
            }
        }
    }

    /// Tells the server, and waits a moment until it has heard.
    async fn announce(&self, state: Option<StandingState>) {
        let (done, answer) = oneshot::channel();
        if self.orders.send(Order::Announce { state, done }).await.is_err() || answer.await.is_err() {
            return;
        }
        let began = Instant::now();
        // Let what was decided reach the queue of reports.
        sleep(StdDuration::from_millis(50)).await;
        while state.is_some() && self.disk.waiting() > 0 && began.elapsed() < TELL {
            sleep(StdDuration::from_millis(20)).await;
        }
    }

    async fn stay_awake(&self, awake: &mut Option<Hold>) {
        let wanted = self.wants_awake().await;
        match (wanted, awake.is_some()) {
            (true, false) => match self.manager.keep_awake("containers run for a Lattice cluster").await {
                Ok(hold) => {
                    info!("the machine stays awake while work runs");
                    *awake = Some(hold);
                }
                Err(why) => debug!(why, "the machine cannot be kept awake"),
            },
            (false, true) => {
                info!("the machine may fall asleep");
                *awake = None;
            }
            _ => {}
        }
    }

    async fn wants_awake(&self) -> bool {
        let (allowed, rule) = {
            let owner = self.owner.borrow();
            (owner.verdict.allowed(), owner.keep_awake)
        };
        let powered = match rule {
            KeepAwake::Never => false,
            KeepAwake::Always => true,
            KeepAwake::OnMains => self.sensors.power().source == Reading::Known(PowerSource::Mains),
        };
        if !allowed || !powered {
            return false;
        }
        let (answer, snapshot) = oneshot::channel();
        let _ = self.events.send(Event::Snapshot(answer)).await;
        snapshot.await.is_ok_and(|snapshot| snapshot.running() > 0)
    }
}
