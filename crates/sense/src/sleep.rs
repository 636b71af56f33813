//! Sleep and shutdown: who keeps the machine awake, and who hears of it before. One trait for every
//! system; on Linux logind is behind it. macOS: `IOPMAssertionCreateWithName` and
//! `IORegisterForSystemPower`; Windows: `PowerSetRequest` and `WM_POWERBROADCAST`.

use async_trait::async_trait;
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;

/// What is about to happen, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It goes to sleep.
    Sleep,
    /// It woke up, or did not sleep after all.
    Awake,
    /// It is shut down.
    Shutdown,
    /// It is not shut down after all.
    Stays,
}

/// Something that the system keeps to until this is dropped.
pub type Hold = Box<dyn std::any::Any + Send + Sync>;

/// The machine's session manager.
#[async_trait]
pub trait Sleep: Send + Sync {
    /// Keeps the machine from sleeping of its own accord. Errors are in words.
    async fn keep_awake(&self, why: &str) -> Result<Hold, String>;
    /// Delays sleep and shutdown for as long as the system lets anybody (five seconds usually).
    async fn delay(&self, why: &str) -> Result<Hold, String>;
    /// Waits for the next departure; nothing when the session manager is gone.
    async fn next(&self) -> Option<Departure>;
    /// How long nobody has used the machine.
    async fn idle(&self, now: Timestamp) -> Reading<Duration>;
    /// Whether the way out is paid by volume.
    async fn metered(&self) -> Reading<bool>;
}
