//! logind and NetworkManager, played by this test on a bus of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use lattice_model::{Duration, Timestamp};
use lattice_sense::{Departure, Login, Reading, Sleep as _};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration as StdDuration,
};
use zbus::object_server::SignalEmitter;

struct Bus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing where no `dbus-daemon` is installed.
fn bus() -> Option<Bus> {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bus.conf");
    let text = format!(
        "<busconfig><type>custom</type><listen>unix:path={}/bus</listen><policy context=\"default\">\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--print-address=1", "--nofork"])
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Some(Bus { child, address: line.trim().to_owned(), _folder: folder })
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, String, UnixStream)>>>);

struct Manager {
    seen: Seen,
    idle: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn inhibit(&self, what: String, who: String, why: String, mode: String) -> zbus::OwnedFd {
        assert_eq!((who.as_str(), why.is_empty()), ("Lattice", false));
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.seen.0.lock().unwrap().push((what, mode, ours));
        OwnedFd::from(theirs).into()
    }

    #[zbus(property)]
    fn idle_hint(&self) -> bool {
        self.idle
    }

    #[zbus(property)]
    fn idle_since_hint(&self) -> u64 {
        1_000_000_000
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, begins: bool) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn prepare_for_shutdown(emitter: &SignalEmitter<'_>, begins: bool) -> zbus::Result<()>;
}

struct Network(u32);

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl Network {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.0
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(StdDuration::from_secs(60), work).await.unwrap()
}

#[tokio::test]
async fn sleep_is_held_announced_and_let_go() {
    let Some(bus) = bus() else {
        return println!("skipped: there is no dbus-daemon");
    };
    assert!(Login::at(&bus.address).await.is_err(), "nobody plays logind yet");
    let seen = Seen::default();
    let service = zbus::connection::Builder::address(bus.address.as_str())
        .serve_at("/org/freedesktop/login1", Manager { seen: seen.clone(), idle: true })
        .serve_at("/org/freedesktop/NetworkManager", Network(3))
        .name("org.freedesktop.login1")
        .name("org.freedesktop.NetworkManager")
        .build()
        .await
        .unwrap();
    let login = Login::at(&bus.address).await.unwrap();
    assert_eq!(login.idle(Timestamp(1_300_000)).await, Reading::Known(Duration::from_secs(300)));
    assert_eq!(login.metered().await, Reading::Known(true));
    let hold = login.delay("the server is told").await.unwrap();
    let awake = login.keep_awake("work runs").await.unwrap();
    let holds = || {
        let mut seen = seen.0.lock().unwrap();
        seen.drain(..).collect::<Vec<_>>()
    };
    let mut taken = holds();
    let kinds: Vec<(&str, &str)> =
        taken.iter().map(|(what, mode, _)| (what.as_str(), mode.as_str())).collect();
    assert_eq!(kinds, [("sleep:shutdown", "delay"), ("idle", "block")]);
    let emitter = SignalEmitter::new(&service, "/org/freedesktop/login1").unwrap();
    Manager::prepare_for_sleep(&emitter, true).await.unwrap();
    assert_eq!(soon(login.next()).await, Some(Departure::Sleep));
    // logind sees the end of a hold by the end of its pipe.
    let (_, _, end) = &mut taken[0];
    end.set_nonblocking(true).unwrap();
    assert!(end.read(&mut [0]).is_err(), "still held");
    drop(hold);
    let began = std::time::Instant::now();
    loop {
        match end.read(&mut [0]) {
            Ok(0) => break,
            other => assert!(began.elapsed() < StdDuration::from_secs(60), "{other:?}"),
        }
        tokio::time::sleep(StdDuration::from_millis(10)).await;
    }
    assert!(taken[1].2.write(b"x").is_ok(), "the other is still held");
    drop(awake);
    Manager::prepare_for_sleep(&emitter, false).await.unwrap();
    Manager::prepare_for_shutdown(&emitter, true).await.unwrap();
    assert_eq!(soon(login.next()).await, Some(Departure::Awake));
    assert_eq!(soon(login.next()).await, Some(Departure::Shutdown));
    drop(emitter);
    service.close().await.unwrap();
    assert!(matches!(login.metered().await, Reading::Unknown(_)));
}
