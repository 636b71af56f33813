//! What logins leave behind: sessions, invitations and codes that are over; when sessions were used;
//! logins that failed.

use crate::{
    clock,
    rows::{self, Audit, DeviceRow, InviteRow, LinkRow, SessionRow},
    state::Core,
};
use lattice_api::AuditOutcome;
use lattice_identity::SessionRecord;
use lattice_model::Duration;
use lattice_store::{Op, Transaction};

/// How often it is written down that a session is used: it may end so much too early after a restart.
const USED_EVERY: Duration = Duration::from_secs(300);
/// How many rows are changed at once.
const AT_ONCE: usize = 500;
/// How many kinds of failed logins are told apart in one round.
const MOST_FAILURES: usize = 50;

/// Removes what is over, and notes which sessions are used.
pub(crate) async fn tidy(core: &Core) {
    let (snapshot, now) = (core.snapshot(), clock::now());
    let used = core.live.token_use.lock().clone();
    let mut ops: Vec<Op> = Vec::new();
    for row in snapshot.logins.values() {
        let last = used.get(&row.0.id).copied();
        if !row.0.good(core.config.sessions, last, now) {
            ops.push(rows::delete::<SessionRow>(row.0.id, Some(row.revision)));
        } else if let Some(last) = last.filter(|last| last.since(row.0.used) >= USED_EVERY) {
            let record = SessionRecord { used: last, ..row.0.clone() };
            ops.push(rows::update(&SessionRow(record), row.revision));
        }
    }
    let invites = snapshot.invites.values().filter(|row| row.0.expires <= now);
    ops.extend(invites.map(|row| rows::delete::<InviteRow>(row.0.id, Some(row.revision))));
    let links = snapshot.links.values().filter(|row| row.0.expires <= now);
    ops.extend(links.map(|row| rows::delete::<LinkRow>(row.0.id, Some(row.revision))));
    let devices = snapshot.devices.values().filter(|row| row.0.expires <= now);
    ops.extend(devices.map(|row| rows::delete::<DeviceRow>(row.0.id, Some(row.revision))));
    // Where somebody changed one of them meanwhile, the next round does it.
    for chunk in ops.chunks(AT_ONCE) {
        if let Err(error) = core.store.apply(Transaction::new(chunk.to_vec())).await {
            tracing::debug!(%error, "what logins left behind was not tidied up");
        }
    }
    let known = |id: &_| snapshot.logins.contains_key(id) || snapshot.api_tokens.contains_key(id);
    core.live.token_use.lock().retain(|id, _| known(id));
}

/// Writes down which logins failed, collected: a guesser must not be able to fill the audit log.
pub(crate) async fn failed_logins(core: &Core) {
    let mut all = core.live.gate.take_failures();
    all.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let rest: u64 = all.iter().skip(MOST_FAILURES).map(|(_, _, count)| count).sum();
    all.truncate(MOST_FAILURES);
    if rest > 0 {
        all.push(("others".into(), "elsewhere".into(), rest));
    }
    for (user, from, count) in all {
        let details = format!("{count} times; from {from}");
        let entry =
            Audit { outcome: AuditOutcome::Denied, ..Audit::new("system", "session.failed", user, details) };
        if let Err(error) = core.store.apply(Transaction::new([rows::create(&entry)])).await {
            tracing::warn!(%error, "failed logins were not written down");
        }
    }
}
