//! [`Gate`]: what stands between the world and the passwords: rates, a bound on hashing, and the count
//! of logins that failed.
//!
//! Nothing here counts for the socket: whoever runs the server is not locked out by a flood from elsewhere.

use crate::{api::guard::PeerInfo, clock};
use lattice_api::{ErrorBody, ErrorCode};
use lattice_identity::{IdentityError, Password, PasswordHash, Rate, RateLimiter};
use lattice_model::{Duration, TokenId};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

/// Passwords hashed at the same time: each takes 19 MiB.
const HASHINGS: usize = 2;
/// How many may wait for that; at 30 ms each the last waits half a second.
const WAITING: usize = 32;
/// Addresses and users that the limiters know.
const KEYS: usize = 10_000;
/// Tries by password, invitation or page, of one address.
const BY_ADDRESS: Rate = Rate { burst: 20, every: Duration::from_secs(3) };
/// Tries for one user, from wherever.
const BY_USER: Rate = Rate { burst: 10, every: Duration::from_secs(10) };
/// Logins by code that one address begins.
const STARTS: Rate = Rate { burst: 10, every: Duration::from_secs(6) };
/// Questions about logins by code, of one address.
const QUESTIONS: Rate = Rate { burst: 60, every: Duration::from_millis(500) };
/// Codes that one user tries to approve.
const CODES: Rate = Rate { burst: 10, every: Duration::from_secs(10) };
/// Questions about one login by code: a little faster than the interval that it is told.
const POLLS: Rate = Rate { burst: 2, every: Duration::from_millis(1500) };
/// How many different failures are told apart until they are written down.
const FAILURES: usize = 1000;

/// What stands before the passwords.
pub(crate) struct Gate {
    addresses: Mutex<RateLimiter<IpAddr>>,
    users: Mutex<RateLimiter<String>>,
    starts: Mutex<RateLimiter<IpAddr>>,
    questions: Mutex<RateLimiter<IpAddr>>,
    codes: Mutex<RateLimiter<String>>,
    polls: Mutex<RateLimiter<TokenId>>,
    hashing: Semaphore,
    waiting: AtomicUsize,
    failed: Mutex<BTreeMap<(String, String), u64>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            addresses: Mutex::new(RateLimiter::new(BY_ADDRESS, KEYS)),
            users: Mutex::new(RateLimiter::new(BY_USER, KEYS)),
            starts: Mutex::new(RateLimiter::new(STARTS, KEYS)),
            questions: Mutex::new(RateLimiter::new(QUESTIONS, KEYS)),
            codes: Mutex::new(RateLimiter::new(CODES, KEYS)),
            polls: Mutex::new(RateLimiter::new(POLLS, KEYS)),
            hashing: Semaphore::new(HASHINGS),
            waiting: AtomicUsize::new(0),
            failed: Mutex::new(BTreeMap::new()),
        }
    }
}

/// The address by which tries are counted: of IPv6 the network, of which one machine has all addresses.
fn counted(peer: PeerInfo) -> Option<IpAddr> {
    let PeerInfo::Tcp(address) = peer else { return None };
    Some(match address.ip().to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    })
}

fn check<K: Hash + Eq + Clone>(limiter: &Mutex<RateLimiter<K>>, key: &K) -> Result<(), ErrorBody> {
    limiter.lock().check(key, clock::now()).map_err(|wait| {
        let seconds = wait.0.div_ceil(1000);
        let text = format!("too many attempts; wait {seconds} s");
        let hint = "then try again; the socket on the server's machine has no such limit";
        ErrorBody::new(ErrorCode::TooManyRequests, text, hint).retry_after(wait)
    })
}

impl Gate {
    /// Counts a try with a secret: of the address, and of the user where one is named.
    pub(crate) fn attempt(&self, peer: PeerInfo, user: Option<&str>) -> Result<(), ErrorBody> {
        let Some(address) = counted(peer) else { return Ok(()) };
        check(&self.addresses, &address)?;
        match user {
            Some(user) => check(&self.users, &user.chars().take(64).collect()),
            None => Ok(()),
        }
    }

    /// The user proved who they are.
    pub(crate) fn forgive(&self, user: &str) {
        self.users.lock().forget(&user.to_owned());
    }

    /// Counts the beginning of a login by code.
    pub(crate) fn start(&self, peer: PeerInfo) -> Result<(), ErrorBody> {
        counted(peer).map_or(Ok(()), |address| check(&self.starts, &address))
    }

    /// Counts a question about one, before it is looked for.
    pub(crate) fn question(&self, peer: PeerInfo) -> Result<(), ErrorBody> {
        counted(peer).map_or(Ok(()), |address| check(&self.questions, &address))
    }

    /// Whether a login by code is asked about too often.
    pub(crate) fn too_often(&self, device: TokenId) -> bool {
        self.polls.lock().check(&device, clock::now()).is_err()
    }

    /// Counts a code that somebody typed.
    pub(crate) fn code(&self, user: &str) -> Result<(), ErrorBody> {
        check(&self.codes, &user.to_owned())
    }

    async fn hashed<T: Send + 'static>(
        &self,
        peer: PeerInfo,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorBody> {
        struct Wait<'a>(&'a AtomicUsize);
        impl Drop for Wait<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let busy = || {
            let text = "too many people sign in at this moment";
            ErrorBody::new(ErrorCode::TooManyRequests, text, "try again in a moment")
                .retry_after(Duration::from_secs(1))
        };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let wait = Wait(&self.waiting);
        if before >= WAITING && counted(peer).is_some() {
            return Err(busy());
        }
        let place = self.hashing.acquire().await.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(work).await;
        drop((place, wait));
        done.map_err(|_| internal(IdentityError::Hashing))
    }

    /// Whether the password is right; takes as long where there is nothing to compare with.
    pub(crate) async fn verify(
        &self,
        peer: PeerInfo,
        stored: Option<PasswordHash>,
        password: Password,
    ) -> Result<bool, ErrorBody> {
        self.hashed(peer, move || PasswordHash::verify(stored.as_ref(), &password)).await
    }

    /// Hashes a password that somebody chose.
    pub(crate) async fn hash(&self, peer: PeerInfo, password: Password) -> Result<PasswordHash, ErrorBody> {
        self.hashed(peer, move || PasswordHash::make(&password)).await?.map_err(internal)
    }

    /// Remembers a login that failed, until [`Gate::take_failures`] writes it down.
    pub(crate) fn failed(&self, user: Option<&str>, from: &str) {
        // What is no user's name may be a password in the wrong field.
        let user = user.unwrap_or("an unknown user");
        tracing::warn!(user, from, "a login failed");
        let mut all = self.failed.lock();
        let key = if all.len() < FAILURES { (user.to_owned(), from.to_owned()) } else { Default::default() };
        *all.entry(key).or_default() += 1;
    }

    /// The logins that failed since the last time: user, from where, how often.
    pub(crate) fn take_failures(&self) -> Vec<(String, String, u64)> {
        let all = std::mem::take(&mut *self.failed.lock());
        all.into_iter().map(|((user, from), count)| (user, from, count)).collect()
    }
}

fn internal(error: IdentityError) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
}
