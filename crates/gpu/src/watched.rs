//! A driver on a thread of its own. A call into a driver that hangs returns never, and no signal ends it: whoever
//! asks waits for a limit and goes on, and the thread is asked again once it has answered.

use crate::{
    error::{GpuError, Result},
    reading::{GpuDriver, GpuReading},
};
use std::{
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

/// One call at a time; whoever asks while another one waits, waits with him.
pub struct Watched {
    inner: Mutex<Inner>,
}

struct Inner {
    // One place each: the thread has at most one question, and its answer waits for whoever asks next.
    ask: mpsc::SyncSender<()>,
    answers: mpsc::Receiver<Result<GpuReading>>,
    /// A question was not answered in time.
    owed: bool,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    /// Starts the thread. It ends with this value, or when its driver answers after that.
    pub fn new(mut driver: impl GpuDriver) -> Self {
        let (ask, asked) = mpsc::sync_channel::<()>(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let serve = move || {
            while asked.recv().is_ok() {
                if answer.send(driver.read()).is_err() {
                    return;
                }
            }
        };
        // Where no thread can be had, the channel is closed, and asking says so.
        let _ = thread::Builder::new().name("gpu".to_owned()).stack_size(512 << 10).spawn(serve);
        Self { inner: Mutex::new(Inner { ask, answers, owed: false }) }
    }

    /// Asks, and blocks for at most `limit`.
    ///
    /// # Errors
    /// What the driver says, or [`GpuError::Hung`].
    pub fn read(&self, limit: Duration) -> Result<GpuReading> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let gone = || GpuError::Refused("the thread that asks it ended".to_owned());
        if !inner.owed {
            inner.ask.send(()).map_err(|_| gone())?;
        }
        inner.owed = true;
        match inner.answers.recv_timeout(limit) {
            Ok(reading) => {
                inner.owed = false;
                reading
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(GpuError::Hung(limit.as_secs())),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each time it is let.
    struct Slow(mpsc::Receiver<()>);

    impl GpuDriver for Slow {
        fn read(&mut self) -> Result<GpuReading> {
            let _ = self.0.recv();
            Ok(GpuReading { driver: "1".into(), ..GpuReading::default() })
        }
    }

    #[test]
    fn a_driver_that_hangs_is_named_and_asked_again_when_it_is_back() {
        let (let_go, slow) = mpsc::channel();
        let watched = Watched::new(Slow(slow));
        let soon = Duration::from_millis(10);
        assert_eq!(watched.read(soon), Err(GpuError::Hung(0)));
        assert_eq!(watched.read(soon), Err(GpuError::Hung(0)));
        let_go.send(()).unwrap();
        let late = Duration::from_secs(60);
        assert_eq!(watched.read(late).unwrap().driver, "1");
        let_go.send(()).unwrap();
        assert!(watched.read(late).is_ok());
    }
}
