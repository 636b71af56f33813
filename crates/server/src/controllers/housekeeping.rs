//! Bounds of what grows (events, audit, the change log) and certificates before their end.

use crate::{
    authority, clock,
    controllers::{alerting, availability, images, people, pools, presence, ranking, trees},
    keys,
    rows::{self, Audit, Event, JobRun},
    state::Core,
};
use lattice_model::resource::MissedRuns;
use lattice_store::{Op, Page, Revision, Transaction};
use std::{sync::Arc, time::Duration};

/// How often it runs.
const EVERY: Duration = Duration::from_secs(60);
/// How often events are counted: a node may say much in a minute.
const OFTEN: Duration = Duration::from_secs(1);
/// How many of those rounds failed logins are collected before they are written down.
const FAILURES_EVERY: u32 = 10;
/// How many events are kept.
const EVENTS: usize = 5_000;
/// How many audit entries are kept.
const AUDITS: usize = 100_000;
/// How many runs of one job are kept, and of all jobs together.
const RUNS: usize = 50;
const ALL_RUNS: usize = 10_000;
/// How many changes a watcher may be behind.
const CHANGES: u64 = 10_000;
/// How many rows are removed at once.
const AT_ONCE: usize = 500;

/// Runs until the server goes down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut often = tokio::time::interval(OFTEN);
    often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is now, when the server has better things to do.
    timer.tick().await;
    let (mut round, mut failures) = (0u64, 0);
    let mut watcher = availability::Watcher::default();
    let mut ranks = ranking::Watcher::default();
    let mut alerts = alerting::Watcher::default();
    let mut keeper = pools::Keeper::default();
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            _ = often.tick() => {
                trim_events(&core).await;
                // Credentials also end by themselves.
                core.review();
                failures = (failures + 1) % FAILURES_EVERY;
                watcher.look(&core).await;
                keeper.look(&core).await;
                alerts.look(&core).await;
                if failures == 0 {
                    people::failed_logins(&core).await;
                    ranks.look(&core).await;
                }
                continue;
            }
            _ = timer.tick() => {}
        }
        presence::missed(&core).await;
        people::tidy(&core).await;
        if round.is_multiple_of(60) {
            trim_audit(&core).await;
            trim_runs(&core).await;
            trim_missed(&core).await;
            authority::keep_in_time(&core).await;
            trees::sweep(&core).await;
            images::sweep(&core).await;
            keys::keep(&core).await;
            ranking::forget(&core).await;
        }
        let head = core.snapshot().revision;
        if head > CHANGES
            && let Err(error) = core.store.compact(Revision(head - CHANGES)).await
        {
            tracing::warn!(%error, "the change log was not compacted");
        }
        core.live.streams.sweep(clock::now());
        round += 1;
    }
}

async fn trim_events(core: &Core) {
    let snapshot = core.snapshot();
    let surplus = snapshot.events.len().saturating_sub(EVENTS);
    if surplus < AT_ONCE {
        return;
    }
    let _ = remove(
        core,
        snapshot.events.values().take(surplus).map(|event| rows::delete::<Event>(&event.key, None)),
    )
    .await;
}

async fn trim_audit(core: &Core) {
    // By pages: there may be a hundred thousand.
    let (mut count, mut from) = (0usize, Revision::ZERO);
    loop {
        let Ok(entries) = core.page::<Audit>(Page::After(from), AT_ONCE).await else { return };
        let Some((last, _)) = entries.last() else { break };
        (count, from) = (count + entries.len(), *last);
    }
    let mut surplus = count.saturating_sub(AUDITS);
    while surplus > 0 {
        let limit = surplus.min(AT_ONCE);
        let Ok(oldest) = core.page::<Audit>(Page::After(Revision::ZERO), limit).await else { return };
        if oldest.is_empty()
            || !remove(core, oldest.iter().map(|(_, entry)| rows::delete::<Audit>(&entry.key, None))).await
        {
            return;
        }
        surplus -= oldest.len();
    }
}

async fn trim_runs(core: &Core) {
    let Ok(mut runs) = core.stored::<JobRun>().await else { return };
    // The newest first: what comes after enough of its job, or of all, is surplus.
    runs.sort_by_key(|(created, run)| std::cmp::Reverse((*created, run.n)));
    let mut kept = std::collections::BTreeMap::<_, usize>::new();
    let surplus = runs.iter().enumerate().filter(|(place, (_, run))| {
        let of_job = kept.entry(run.workload.clone()).or_default();
        *of_job += 1;
        *of_job > RUNS || *place >= ALL_RUNS
    });
    let _ = remove(core, surplus.map(|(_, (_, run))| rows::delete::<JobRun>(&run.key, None))).await;
}

async fn trim_missed(core: &Core) {
    let Ok(mut missed) = core.stored::<MissedRuns>().await else { return };
    missed.sort_by_key(|(created, row)| std::cmp::Reverse((*created, row.last)));
    let mut kept = std::collections::BTreeMap::<_, usize>::new();
    let surplus = missed.iter().enumerate().filter(|(place, (_, row))| {
        let of_job = kept.entry(row.workload.clone()).or_default();
        *of_job += 1;
        *of_job > RUNS || *place >= ALL_RUNS
    });
    let ids = surplus.map(|(_, (_, row))| rows::missed_runs_id(row));
    let _ = remove(core, ids.map(|id| rows::delete::<MissedRuns>(id, None))).await;
}

/// Whether all of them went.
async fn remove(core: &Core, ops: impl Iterator<Item = Op>) -> bool {
    let ops: Vec<Op> = ops.collect();
    for chunk in ops.chunks(AT_ONCE) {
        if let Err(error) = core.store.apply(Transaction::new(chunk.to_vec())).await {
            tracing::warn!(%error, "old rows were not removed");
            return false;
        }
    }
    true
}
