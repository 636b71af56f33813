//! Sleep and shutdown: who keeps the machine awake, and who hears of it before. One trait for every
//! system; behind it is logind on Linux, a hidden window on Windows, programs of the system on macOS.

use async_trait::async_trait;
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::sync::Arc;

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
    /// Delays sleep and shutdown for as long as the system lets anybody (five seconds usually; two before sleep on
    /// Windows; not at all on macOS).
    async fn delay(&self, why: &str) -> Result<Hold, String>;
    /// Waits for the next departure; nothing when the session manager is gone.
    async fn next(&self) -> Option<Departure>;
    /// How long nobody has used the machine.
    async fn idle(&self, now: Timestamp) -> Reading<Duration>;
    /// Whether the way out is paid by volume.
    async fn metered(&self) -> Reading<bool>;
}

/// The session manager of this computer.
///
/// # Errors
/// In words, where there is none that could be spoken to.
pub async fn session_manager() -> Result<Arc<dyn Sleep>, String> {
    #[cfg(target_os = "linux")]
    return Ok(Arc::new(crate::linux::login::Login::system().await?));
    #[cfg(target_os = "macos")]
    return Ok(Arc::new(crate::macos::session::Session::begin().await?));
    #[cfg(windows)]
    return Ok(Arc::new(crate::windows::session::Session::begin().await?));
    #[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
    Err("none is known on this operating system".to_owned())
}
