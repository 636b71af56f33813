//! A window that nobody sees, to which Windows says that it sleeps, wakes up, or ends the session
//! (`WM_POWERBROADCAST`, `WM_QUERYENDSESSION`, `WM_ENDSESSION`). As long as the window has not answered, Windows
//! waits: about two seconds before sleep, five before the end of a session.
//!
//! Not heard: sleep of machines with *modern standby* that Windows does not announce to desktop programs, and the
//! shutdown where the agent is a service (services are told by the service manager). The server then notices the absence
//! by itself.
//!
//! Rejected: a message-only window, which these messages do not reach; `PowerRegisterSuspendResumeNotification`, which
//! no crate offers safely and which says nothing of shutdown.

use super::{facts, sensors};
use crate::{
    awake,
    gate::Gate,
    sleep::{Departure, Hold, Sleep},
};
use async_trait::async_trait;
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::{sync::Arc, thread, time::Duration as StdDuration};
use tokio::sync::{Mutex, mpsc, oneshot};
use winsafe::{self as w, co, gui, prelude::*};

/// Windows goes to sleep two seconds after it said so.
const BEFORE_SLEEP: StdDuration = StdDuration::from_millis(1800);
/// Whoever takes longer than five seconds to answer counts as hung.
const BEFORE_END: StdDuration = StdDuration::from_millis(4000);
const TITLE: &str = "Lattice listens for sleep and shutdown";
/// Departures that wait to be heard; there are no more than these in a second.
const QUEUE: usize = 8;

/// The session of this user.
#[derive(Debug)]
pub(crate) struct Session {
    departures: Mutex<mpsc::Receiver<Departure>>,
    gate: Arc<Gate>,
}

impl Session {
    /// Makes the window. It is there for as long as the process is.
    pub(crate) async fn begin() -> Result<Self, String> {
        let (heard, departures) = mpsc::channel(QUEUE);
        let gate = Arc::new(Gate::default());
        let (made, is_made) = oneshot::channel();
        let of_window = Arc::clone(&gate);
        let thread = thread::Builder::new().name("session-window".into());
        thread
            .spawn(move || {
                if let Err(error) = listen(heard, of_window, made) {
                    tracing::warn!(%error, "the window that hears of sleep ended");
                }
            })
            .map_err(|error| error.to_string())?;
        is_made.await.map_err(|_| "Windows lets this process have no window".to_owned())?;
        Ok(Self { departures: Mutex::new(departures), gate })
    }
}

/// Says so, and waits for those who hold it up.
fn announce(heard: &mpsc::Sender<Departure>, gate: &Gate, departure: Departure, most: StdDuration) {
    if heard.try_send(departure).is_ok() {
        gate.wait(most);
    }
}

fn listen(heard: mpsc::Sender<Departure>, gate: Arc<Gate>, made: oneshot::Sender<()>) -> w::AnyResult<i32> {
    let window = gui::WindowMain::new(gui::WindowMainOpts {
        title: TITLE,
        size: (1, 1),
        style: co::WS::OVERLAPPED,
        ..Default::default()
    });
    let made = std::sync::Mutex::new(Some(made));
    window.on().wm_create(move |_| {
        if let Some(made) = made.lock().ok().and_then(|mut made| made.take()) {
            let _ = made.send(());
        }
        Ok(0)
    });
    let (to, held) = (heard.clone(), Arc::clone(&gate));
    window.on().wm_power_broadcast(move |said| {
        match facts::departure(said.event.raw()) {
            Some(Departure::Sleep) => announce(&to, &held, Departure::Sleep, BEFORE_SLEEP),
            Some(departure) => {
                let _ = to.try_send(departure);
            }
            None => {}
        }
        Ok(())
    });
    let (to, held) = (heard.clone(), gate);
    window.on().wm(co::WM::QUERYENDSESSION, move |_| {
        announce(&to, &held, Departure::Shutdown, BEFORE_END);
        // Nobody is kept from it.
        Ok(1)
    });
    window.on().wm_end_session(move |said| {
        if !said.is_session_being_ended {
            let _ = heard.try_send(Departure::Stays);
        }
        Ok(())
    });
    window.run_main(Some(co::SW::HIDE))
}

#[async_trait]
impl Sleep for Session {
    async fn keep_awake(&self, why: &str) -> Result<Hold, String> {
        awake::keep_awake(why).await
    }

    async fn delay(&self, _why: &str) -> Result<Hold, String> {
        Ok(Box::new(self.gate.hold()))
    }

    async fn next(&self) -> Option<Departure> {
        self.departures.lock().await.recv().await
    }

    async fn idle(&self, _now: Timestamp) -> Reading<Duration> {
        sensors::idle()
    }

    async fn metered(&self) -> Reading<bool> {
        // It asks a service of Windows, which may take its time.
        let asked = tokio::task::spawn_blocking(sensors::metered).await;
        asked.unwrap_or_else(|_| Reading::unknown("the question broke off"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on Windows, and under Wine. What the messages say is tested in [`facts`]; sending some would be unsafe code.
    #[tokio::test]
    async fn the_window_is_there_to_hear_and_the_computer_is_kept_awake() {
        let session = Session::begin().await.unwrap();
        assert!(w::HWND::FindWindow(None, Some(TITLE)).unwrap().is_some());
        let hold = session.delay("a test").await.unwrap();
        assert!(!session.gate.wait(StdDuration::ZERO));
        drop(hold);
        assert!(session.gate.wait(StdDuration::ZERO));
        drop(session.keep_awake("a test").await.unwrap());
        let idle = session.idle(Timestamp(0)).await;
        assert!(idle.known().is_some() || !sensors::sees_desktop(), "{idle:?}");
    }
}
