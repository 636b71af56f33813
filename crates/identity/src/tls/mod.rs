//! TLS of the agents' port: rustls with ring, TLS 1.3 alone, ALPN `h2`, no session tickets.
//!
//! Both ends are ours, so there is nothing to be compatible with: TLS 1.2 and resumption are off. A
//! full handshake each time also means that each session verifies certificates anew, at their time.
//!
//! Enter at [`server_config`] and [`client_config`]; both take a [`CertSlot`], whose certificate can
//! be replaced while connections come and go, and a [`Clock`]. [`explain`] turns what rustls says
//! into what a person can act on.

mod client;
mod explain;
mod server;
mod slot;

pub use client::{Trust, client_config};
pub use explain::{Explanation, TlsError, Trouble, explain, explain_chain};
pub use server::server_config;
pub use slot::CertSlot;

use crate::CLOCK_SKEW;
use lattice_model::Timestamp;
use rustls::{CertificateError, Error, crypto::CryptoProvider, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The protocol that both ends speak inside: HTTP/2, for gRPC.
pub const ALPN: &[u8] = b"h2";

/// The one provider of cryptography for TLS: ring.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// Where the TLS stack asks for the time. The shell gives the system's clock, a test a fixed one.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Wraps a source of time.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from((self.0)().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// Verifies at `now`, and where only time stands against it, once more with the stated tolerance.
/// What comes back is then the first answer, which names the true times.
fn tolerating_skew<T>(now: UnixTime, verify: impl Fn(UnixTime) -> Result<T, Error>) -> Result<T, Error> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let skew = CLOCK_SKEW.as_std().as_secs();
    let shifted = match verify(now) {
        Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => now.as_secs().saturating_sub(skew),
        Err(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
            now.as_secs().saturating_add(skew)
        }
        other => return other,
    };
    match verify(UnixTime::since_unix_epoch(Duration::from_secs(shifted))) {
        Err(Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        )) => verify(now),
        other => other,
    }
}
