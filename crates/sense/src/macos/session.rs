//! Sleep, shutdown and idle time, from programs of the system: `pmset -g pslog` prints what the kernel announces to
//! whoever registered (`IORegisterForSystemPower`), `notifyutil -w` what loginwindow posts, `ioreg` the idle time.
//!
//! Sleep cannot be held up so: `pmset` answers the kernel itself, at once. What follows takes macOS a second or two, which is
//! the server's to hear of it. Shutdown waits for programs that end.

use super::output;
use crate::{
    awake,
    sleep::{Departure, Hold, Sleep},
};
use async_trait::async_trait;
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::{
    process::Stdio,
    time::{Duration as StdDuration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};

const PMSET: &str = "/usr/bin/pmset";
const NOTIFYUTIL: &str = "/usr/bin/notifyutil";
const IOREG: &str = "/usr/sbin/ioreg";
/// A program that does not answer is none.
const PATIENCE: StdDuration = StdDuration::from_secs(5);
/// Before a program that ended is started again.
const AGAIN: StdDuration = StdDuration::from_secs(10);
/// `ioreg` is asked no more often: what it said goes on growing meanwhile.
const IDLE_EVERY: StdDuration = StdDuration::from_secs(2);
/// Departures that wait to be heard; there are no more than these in a second.
const QUEUE: usize = 8;

/// The programs that are listened to. They end with this.
#[derive(Debug)]
pub(crate) struct Session {
    departures: Mutex<mpsc::Receiver<Departure>>,
    idle: Mutex<Option<(Instant, Reading<Duration>)>>,
}

impl Session {
    pub(crate) async fn begin() -> Result<Self, String> {
        let (heard, departures) = mpsc::channel(QUEUE);
        let of_shutdown: Vec<&str> =
            output::ENDS.iter().chain([&output::STAYS]).flat_map(|name| ["-w", *name]).collect();
        let programs: [(&str, Vec<&str>, fn(&str) -> Option<Departure>); 2] =
            [(PMSET, vec!["-g", "pslog"], output::slept), (NOTIFYUTIL, of_shutdown, output::posted)];
        for (program, args, read) in programs {
            let args = args.into_iter().map(ToOwned::to_owned).collect();
            tokio::spawn(listen(program, args, read, heard.clone()));
        }
        Ok(Self { departures: Mutex::new(departures), idle: Mutex::new(None) })
    }
}

async fn listen(
    program: &'static str,
    args: Vec<String>,
    read: fn(&str) -> Option<Departure>,
    heard: mpsc::Sender<Departure>,
) {
    while !heard.is_closed() {
        let mut command = Command::new(program);
        command.args(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.kill_on_drop(true).spawn() {
            Ok(mut child) => {
                let Some(stdout) = child.stdout.take() else { return };
                let mut lines = BufReader::new(stdout).lines();
                loop {
                    let line = tokio::select! {
                        line = lines.next_line() => line,
                        () = heard.closed() => return,
                    };
                    let Ok(Some(line)) = line else { break };
                    if let Some(departure) = read(&line)
                        && heard.send(departure).await.is_err()
                    {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(program, %error, "it cannot be started; what it would tell is not heard")
            }
        }
        sleep(AGAIN).await;
    }
}

async fn ask_idle() -> Reading<Duration> {
    let mut command = Command::new(IOREG);
    command.args(["-c", "IOHIDSystem", "-d", "4"]).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(said)) => output::idle(&String::from_utf8_lossy(&said.stdout)),
        Ok(Err(error)) => Reading::unknown(format!("{IOREG}: {error}")),
        Err(_) => Reading::unknown(format!("{IOREG} does not answer")),
    }
}

#[async_trait]
impl Sleep for Session {
    async fn keep_awake(&self, why: &str) -> Result<Hold, String> {
        awake::keep_awake(why).await
    }

    async fn delay(&self, _why: &str) -> Result<Hold, String> {
        Err("macOS is not asked to wait".into())
    }

    async fn next(&self) -> Option<Departure> {
        self.departures.lock().await.recv().await
    }

    async fn idle(&self, _now: Timestamp) -> Reading<Duration> {
        let mut last = self.idle.lock().await;
        if let Some((at, said)) = &*last
            && at.elapsed() < IDLE_EVERY
        {
            let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            return said.clone().map(|idle| Duration(idle.0.saturating_add(since)));
        }
        let said = ask_idle().await;
        *last = Some((Instant::now(), said.clone()));
        said
    }

    async fn metered(&self) -> Reading<bool> {
        Reading::unknown("macOS tells it to frameworks alone")
    }
}
