//! systemd-logind and NetworkManager over D-Bus, as far as this computer has them
//! (org.freedesktop.login1(5); NetworkManager's D-Bus reference, `Metered`).
//!
//! Sleep is delayed for a moment, so that the server hears of it; being kept awake means *idle* alone:
//! who closes the lid or says "sleep" is the owner, and is obeyed.

use crate::sleep::{Departure, Hold, Sleep};
use async_trait::async_trait;
use futures::StreamExt as _;
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::time::Duration as StdDuration;
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};
use zbus::{Connection, MatchRule, MessageStream, OwnedFd, OwnedVariant, message::Type};

const LOGIN: &str = "org.freedesktop.login1";
const LOGIN_PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const NETWORK: &str = "org.freedesktop.NetworkManager";
const NETWORK_PATH: &str = "/org/freedesktop/NetworkManager";
/// A service that does not answer is none.
const PATIENCE: StdDuration = StdDuration::from_secs(5);
/// Departures that wait to be heard; there are no more than these in a second.
const QUEUE: usize = 8;

/// The system's bus.
#[derive(Debug)]
pub struct Login {
    connection: Connection,
    departures: Mutex<mpsc::Receiver<Departure>>,
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn soon<T, E: std::fmt::Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    timeout(PATIENCE, work).await.map_err(|_| "it does not answer".to_owned())?.map_err(said)
}

impl Login {
    /// On the system's bus, where logind answers on it.
    ///
    /// # Errors
    /// In words, where there is no bus or no logind.
    pub async fn system() -> Result<Self, String> {
        Self::on(soon(Connection::system()).await?).await
    }

    /// On another bus: for tests.
    ///
    /// # Errors
    /// As [`Login::system`].
    pub async fn at(address: &str) -> Result<Self, String> {
        let builder = zbus::connection::Builder::address(address);
        Self::on(soon(builder.build()).await?).await
    }

    async fn on(connection: Connection) -> Result<Self, String> {
        let rule = MatchRule::builder().msg_type(Type::Signal).path(LOGIN_PATH).interface(MANAGER).build();
        let mut signals = soon(MessageStream::for_match_rule(rule.map_err(said)?, &connection, None)).await?;
        let (heard, departures) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(Ok(message)) = signals.next().await {
                let header = message.header();
                let Some(member) = header.member() else { continue };
                let Ok(begins) = message.body().deserialize::<bool>() else { continue };
                let departure = match (member.as_str(), begins) {
                    ("PrepareForSleep", true) => Departure::Sleep,
                    ("PrepareForSleep", false) => Departure::Awake,
                    ("PrepareForShutdown", true) => Departure::Shutdown,
                    ("PrepareForShutdown", false) => Departure::Stays,
                    _ => continue,
                };
                if heard.send(departure).await.is_err() {
                    return;
                }
            }
        });
        let login = Self { connection, departures: Mutex::new(departures) };
        // Whoever has no logind on its bus learns it now.
        login.property::<bool>(LOGIN, LOGIN_PATH, MANAGER, "IdleHint").await.map(|_| login)
    }

    async fn property<T>(&self, service: &str, path: &str, interface: &str, name: &str) -> Result<T, String>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: std::fmt::Display,
    {
        let asked = (interface, name);
        let ask = self.connection.call_method(
            Some(service),
            path,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &asked,
        );
        let answer = soon(ask).await?;
        let value: OwnedVariant = answer.body().deserialize().map_err(said)?;
        T::try_from(value).map_err(said)
    }

    async fn inhibit(&self, what: &str, mode: &str, why: &str) -> Result<Hold, String> {
        let asked = (what, "Lattice", why, mode);
        let ask = self.connection.call_method(Some(LOGIN), LOGIN_PATH, Some(MANAGER), "Inhibit", &asked);
        let answer = soon(ask).await?;
        let hold: OwnedFd = answer.body().deserialize().map_err(said)?;
        Ok(Box::new(hold))
    }
}

#[async_trait]
impl Sleep for Login {
    async fn keep_awake(&self, why: &str) -> Result<Hold, String> {
        self.inhibit("idle", "block", why).await
    }

    async fn delay(&self, why: &str) -> Result<Hold, String> {
        self.inhibit("sleep:shutdown", "delay", why).await
    }

    async fn next(&self) -> Option<Departure> {
        self.departures.lock().await.recv().await
    }

    async fn idle(&self, now: Timestamp) -> Reading<Duration> {
        let hint = self.property::<bool>(LOGIN, LOGIN_PATH, MANAGER, "IdleHint").await;
        let since = self.property::<u64>(LOGIN, LOGIN_PATH, MANAGER, "IdleSinceHint").await;
        match (hint, since) {
            (Ok(false), _) => Reading::Known(Duration(0)),
            (Ok(true), Ok(micros)) => {
                Reading::Known(now.since(Timestamp(i64::try_from(micros / 1000).unwrap_or(i64::MAX))))
            }
            (Err(why), _) | (_, Err(why)) => Reading::unknown(format!("the session manager: {why}")),
        }
    }

    async fn metered(&self) -> Reading<bool> {
        // NMMetered: 1 yes, 2 no, 3 and 4 the same as guesses.
        match self.property::<u32>(NETWORK, NETWORK_PATH, NETWORK, "Metered").await {
            Ok(1 | 3) => Reading::Known(true),
            Ok(2 | 4) => Reading::Known(false),
            Ok(_) => Reading::unknown("NetworkManager does not know it"),
            Err(why) => Reading::unknown(format!("NetworkManager: {why}")),
        }
    }
}
