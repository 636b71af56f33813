//! Holds a departure up until those are done who asked for a moment, or the system's patience ends. For systems that
//! wait as long as a call of theirs has not returned; logind counts such holds itself.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Counts those who need a moment.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    held: Mutex<usize>,
    freed: Condvar,
}

/// One of them; until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Gate>);

impl Gate {
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Held(Arc::clone(self))
    }

    /// Waits until nobody holds it, no longer than `most`. Whether nobody does.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(held, most, |held| *held > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_all_who_hold_it_and_not_for_ever() {
        let gate = Arc::new(Gate::default());
        assert!(gate.wait(Duration::ZERO), "nobody holds it");
        let (first, second) = (gate.hold(), gate.hold());
        assert!(!gate.wait(Duration::from_millis(10)));
        drop(first);
        assert!(!gate.wait(Duration::from_millis(10)));
        let waits = Arc::clone(&gate);
        let waiting = std::thread::spawn(move || waits.wait(Duration::from_secs(60)));
        drop(second);
        assert!(waiting.join().unwrap());
    }
}
