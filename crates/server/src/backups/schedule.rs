//! Backups that the server makes by itself: when one is due, what is said of it, and what is kept.
//!
//! The last success is a row, so that a restart knows it and so that of several servers one does the
//! work: whoever finds that another was faster waits for the next time.

use super::gather;
use crate::{
    api::principal::Principal,
    clock,
    error::ServerError,
    rows::{self, BackupRow, Event, Stored},
    state::Core,
};
use lattice_api::{BackupMade, BackupStatus};
use lattice_backup::{BackupError, Reason, name_of, prune, save, write};
use lattice_model::{Duration, Timestamp};
use lattice_store::{Key, Transaction};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration as Span};
use tokio::sync::Notify;

/// After a failure, how long until the next attempt at most.
const AGAIN: Duration = Duration::from_secs(300);
/// How long the other servers leave it to the one that plans.
const LEADER_FIRST: Duration = Duration::from_secs(300);
/// How long the first one waits after a start: agents come first.
const SETTLE: Duration = Duration::from_secs(10);

/// What this process knows of its backups.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    asked: bool,
    last: Option<BackupMade>,
    attempted_at: Option<Timestamp>,
    error: Option<String>,
    told_overdue: bool,
}

impl Memory {
    /// Somebody wants one now.
    pub(crate) fn ask(&self) {
        self.state.lock().asked = true;
        self.wanted.notify_one();
    }
}

/// How they are doing.
pub(crate) fn status(core: &Core) -> BackupStatus {
    let Some(config) = &core.config.backup else { return BackupStatus::default() };
    let now = clock::now();
    let state = core.live.backups.state.lock();
    BackupStatus {
        place: Some(config.url.clone()),
        every_ms: config.every.0,
        keep: u32::try_from(config.keep).unwrap_or(u32::MAX),
        running: state.running || state.asked,
        last: state.last.clone(),
        attempted_at: state.attempted_at,
        error: state.error.clone(),
        next_at: Some(due(&state, core.started_at, config.every)),
        overdue: is_overdue(&state, core.started_at, config.every, now),
    }
}

/// What a person should look at.
pub(crate) fn warning(core: &Core) -> Option<String> {
    let status = status(core);
    let place = status.place?;
    let hint = "`lattice backup create` tries at once";
    match (status.error, status.overdue) {
        (Some(error), _) => Some(format!("the last backup to {place} failed: {error}; {hint}")),
        (None, true) => {
            Some(format!("no backup was made to {place} for more than twice its interval; {hint}"))
        }
        (None, false) => None,
    }
}

fn due(state: &State, started_at: Timestamp, every: Duration) -> Timestamp {
    let regular = state.last.as_ref().map_or(started_at + SETTLE, |last| last.at + every);
    match (state.error.is_some(), state.attempted_at) {
        (true, Some(at)) => regular.max(at + Duration(AGAIN.0.min(every.0))),
        _ => regular,
    }
}

fn is_overdue(state: &State, started_at: Timestamp, every: Duration, now: Timestamp) -> bool {
    let since = state.last.as_ref().map_or(started_at, |last| last.at);
    now.since(since).0 > 2 * every.0
}

/// Runs until the server goes down.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(config) = core.config.backup.clone() else { return };
    recall(&core).await;
    loop {
        let now = clock::now();
        let (due, asked) = {
            let mut state = core.live.backups.state.lock();
            let due = self::due(&state, core.started_at, config.every) + after_the_leader(&core);
            (due, std::mem::take(&mut state.asked))
        };
        if !asked && due > now {
            // A clock that jumps is noticed within a minute.
            let wait = Span::from_millis(due.since(now).0.min(60_000));
            tokio::select! {
                () = core.shutdown.cancelled() => return,
                () = core.live.backups.wanted.notified() => {}
                () = tokio::time::sleep(wait) => tell_overdue(&core, config.every).await,
            }
            continue;
        }
        if !asked {
            // Another server may have made it.
            recall(&core).await;
            let due = self::due(&core.live.backups.state.lock(), core.started_at, config.every);
            if due + after_the_leader(&core) > now {
                continue;
            }
        }
        core.live.backups.state.lock().running = true;
        let reason = if asked { Reason::Asked } else { Reason::Scheduled };
        let made = tokio::select! {
            () = core.shutdown.cancelled() => return,
            made = make(&core, reason) => made,
        };
        note(&core, made).await;
    }
}

/// The server that plans makes the backup; another one only when that did not.
fn after_the_leader(core: &Core) -> Duration {
    if core.live.leads_since.lock().is_some() { Duration(0) } else { LEADER_FIRST }
}

/// Reads what is known of the last one.
async fn recall(core: &Core) {
    let found = core.store.get(&Key::new(BackupRow::KIND, "last")).await;
    match found.map(|record| record.map(|record| rows::read::<BackupRow>(&record))) {
        Ok(Some(Ok(row))) => core.live.backups.state.lock().last = Some(row.0),
        Ok(None) => {}
        Ok(Some(Err(error))) => tracing::warn!(%error, "when the last backup was made cannot be read"),
        Err(error) => tracing::warn!(%error, "when the last backup was made cannot be read"),
    }
}

async fn make(core: &Core, reason: Reason) -> Result<BackupMade, ServerError> {
    let config = core.config.backup.clone().ok_or(ServerError::Stopping)?;
    let (lock, place) = (config.lock()?, config.place()?);
    let dump = gather(core, reason).await?;
    let name = name_of(&core.name, dump.header.created_at, clock::random());
    let label = save(&place, &name, move |out| write(out, &lock, &dump)).await?;
    match prune(&place, core.cluster, config.keep, clock::now()).await {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => tracing::info!(count = gone.len(), "old backups were removed"),
        // It is made all the same.
        Err(error) => tracing::warn!(%error, "old backups were not removed"),
    }
    Ok(BackupMade {
        name: label.name,
        at: label.header.created_at,
        revision: label.header.revision,
        rows: label.rows,
        bytes: label.bytes,
    })
}

/// Writes down how it went.
async fn note(core: &Core, made: Result<BackupMade, ServerError>) {
    let ops = match &made {
        Ok(made) => {
            tracing::info!(name = made.name, rows = made.rows, bytes = made.bytes, "a backup was made");
            let text = format!("{} has {} rows of revision {}", made.name, made.rows, made.revision);
            let mut ops = vec![
                rows::put(&BackupRow(made.clone())),
                rows::create(&Principal::process().audit("backup.create", made.name.clone(), &text)),
            ];
            ops.extend(rows::events([Event::new("backup.made", "backup", text)]));
            ops
        }
        Err(error) => {
            let cause = chain(error);
            tracing::error!(error = cause, "a backup failed");
            rows::events([Event::new("backup.failed", "backup", "a backup of the control plane failed")
                .because(Some(cause))])
        }
    };
    {
        let mut state = core.live.backups.state.lock();
        state.running = false;
        state.attempted_at = Some(clock::now());
        state.error = made.as_ref().err().map(chain);
        if let Ok(made) = made {
            state.last = Some(made);
            state.told_overdue = false;
        }
    }
    if let Err(error) = core.store.apply(Transaction::new(ops)).await {
        tracing::warn!(%error, "how the backup went was not written down");
    }
}

async fn tell_overdue(core: &Core, every: Duration) {
    {
        let mut state = core.live.backups.state.lock();
        if state.told_overdue || !is_overdue(&state, core.started_at, every, clock::now()) {
            return;
        }
        state.told_overdue = true;
    }
    let event = Event::new("backup.overdue", "backup", "no backup was made for more than twice its interval");
    if let Err(error) = core.store.apply(Transaction::new(rows::events([event]))).await {
        tracing::warn!(%error, "that backups are overdue was not written down");
    }
}

/// An error with its causes, in a line.
fn chain(error: &ServerError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

impl From<BackupError> for ServerError {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(at: i64) -> BackupMade {
        BackupMade { name: "x".into(), at: Timestamp(at), revision: 1, rows: 1, bytes: 1 }
    }

    #[test]
    fn the_next_is_due_after_the_last_and_a_failure_is_tried_again() {
        let every = Duration::from_secs(6 * 3600);
        let start = Timestamp(1_000_000);
        let mut state = State::default();
        assert_eq!(due(&state, start, every), start + SETTLE, "none yet: soon");
        state.last = Some(made(5));
        assert_eq!(due(&state, start, every), Timestamp(5) + every);
        (state.error, state.attempted_at) = (Some("full".into()), Some(Timestamp(5) + every));
        assert_eq!(due(&state, start, every), Timestamp(5) + every + AGAIN);
        // Never more often than asked for.
        let often = Duration::from_secs(60);
        state.attempted_at = Some(Timestamp(5) + often);
        assert_eq!(due(&state, start, often), Timestamp(5) + often + often);
    }

    #[test]
    fn overdue_is_twice_the_interval() {
        let every = Duration::from_secs(3600);
        let mut state = State::default();
        let at = |ms: u64| Timestamp(0) + Duration(ms);
        assert!(!is_overdue(&state, at(0), every, at(2 * every.0)));
        assert!(is_overdue(&state, at(0), every, at(2 * every.0 + 1)));
        state.last = Some(made(1000));
        assert!(!is_overdue(&state, at(0), every, at(2 * every.0 + 1)));
    }
}
