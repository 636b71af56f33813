//! Leases. The writer holds the table in memory, with ends on the clock that never goes back, and
//! writes each change through.
//!
//! Over a restart only the wall clock's end is left; what remains of a lease is then between
//! nothing and its whole length, however the wall clock jumped. That it may end early is harmless:
//! the holders of an embedded store's leases are tasks of the one process that had the file lock,
//! so they ended with it, and the epoch fences whatever they left under way.

use crate::{Clock, Lease, LeaseError, MAX_NAME_BYTES};
use lattice_model::{Duration, Timestamp};
use rusqlite::Connection;
use std::collections::HashMap;

/// The longest lease.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug)]
struct Row {
    holder: String,
    epoch: u64,
    held: bool,
    ttl: Duration,
    /// On [`Clock::elapsed`].
    ends: Duration,
}

/// What is asked of the leases.
#[derive(Clone, Debug)]
pub(super) enum LeaseOp {
    Acquire { name: String, holder: String, ttl: Duration },
    Renew { name: String, epoch: u64, ttl: Duration },
    Release { name: String, epoch: u64 },
    Look { name: String },
}

type Answer = Result<Option<Lease>, LeaseError>;

#[derive(Debug, Default)]
pub(super) struct Leases {
    rows: HashMap<String, Row>,
    /// What a rollback has to put back.
    undo: Vec<(String, Option<Row>)>,
}

impl Leases {
    pub(super) fn load(connection: &Connection, clock: &dyn Clock) -> rusqlite::Result<Self> {
        let (now, wall) = (clock.elapsed(), clock.wall());
        let mut statement = connection.prepare("SELECT name, holder, epoch, held, ttl, ends FROM leases")?;
        let rows = statement.query_map([], |row| {
            let ttl = Duration(row.get::<_, i64>(4)?.unsigned_abs());
            let left = Timestamp(row.get(5)?).since(wall).min(ttl);
            let ends = Duration(now.0 + left.0);
            let epoch = row.get::<_, i64>(2)?.unsigned_abs();
            Ok((row.get(0)?, Row { holder: row.get(1)?, epoch, held: row.get(3)?, ttl, ends }))
        })?;
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, undo: Vec::new() })
    }

    /// The epoch at which a lease is held now.
    pub(super) fn held(&self, name: &str, clock: &dyn Clock) -> Option<u64> {
        self.rows.get(name).filter(|row| row.live(clock.elapsed())).map(|row| row.epoch)
    }

    /// One that is held now, with its holder.
    pub(super) fn any(&self, clock: &dyn Clock) -> Option<(String, String)> {
        let now = clock.elapsed();
        self.rows.iter().find(|(_, row)| row.live(now)).map(|(name, row)| (name.clone(), row.holder.clone()))
    }

    pub(super) fn run(
        &mut self,
        db: &Connection,
        clock: &dyn Clock,
        op: &LeaseOp,
    ) -> rusqlite::Result<Answer> {
        let now = clock.elapsed();
        if let Err(what) = check(op) {
            return Ok(Err(LeaseError::Invalid { what }));
        }
        let (name, row) = match op {
            LeaseOp::Look { name } => {
                let row = self.rows.get(name).filter(|row| row.live(now));
                return Ok(Ok(row.map(|row| row.lease(name, now))));
            }
            LeaseOp::Acquire { name, holder, ttl } => {
                let old = self.rows.get(name);
                if let Some(row) = old.filter(|row| row.live(now) && row.holder != *holder) {
                    let remaining = Duration(row.ends.0 - now.0);
                    return Ok(Err(LeaseError::Held {
                        name: name.clone(),
                        by: row.holder.clone(),
                        remaining,
                    }));
                }
                let epoch = old.map_or(0, |row| row.epoch) + 1;
                (
                    name,
                    Row {
                        holder: holder.clone(),
                        epoch,
                        held: true,
                        ttl: *ttl,
                        ends: Duration(now.0 + ttl.0),
                    },
                )
            }
            LeaseOp::Renew { name, epoch, .. } | LeaseOp::Release { name, epoch } => {
                let Some(row) = self.rows.get(name).filter(|row| row.live(now) && row.epoch == *epoch) else {
                    let actual = self.held(name, clock);
                    return Ok(Err(LeaseError::Lost { name: name.clone(), epoch: *epoch, actual }));
                };
                match op {
                    LeaseOp::Renew { ttl, .. } => {
                        (name, Row { ttl: *ttl, ends: Duration(now.0 + ttl.0), ..row.clone() })
                    }
                    _ => (name, Row { held: false, ends: now, ..row.clone() }),
                }
            }
        };
        let Row { holder, epoch, held, ttl, ends } = &row;
        let wall = clock.wall() + Duration(ends.0 - now.0);
        db.prepare_cached(
            "INSERT OR REPLACE INTO leases (name, holder, epoch, held, ttl, ends) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute((name, holder, *epoch as i64, held, ttl.0 as i64, wall.0))?;
        let lease = row.lease(name, now);
        self.undo.push((name.clone(), self.rows.insert(name.clone(), row)));
        Ok(Ok(Some(lease)))
    }

    pub(super) fn committed(&mut self) {
        self.undo.clear();
    }

    pub(super) fn rolled_back(&mut self) {
        for (name, old) in self.undo.drain(..).rev() {
            match old {
                Some(row) => self.rows.insert(name, row),
                None => self.rows.remove(&name),
            };
        }
    }
}

impl Row {
    fn live(&self, now: Duration) -> bool {
        self.held && now < self.ends
    }

    fn lease(&self, name: &str, now: Duration) -> Lease {
        let expires_in = Duration(self.ends.0.saturating_sub(now.0));
        Lease { name: name.to_owned(), holder: self.holder.clone(), epoch: self.epoch, expires_in }
    }
}

fn check(op: &LeaseOp) -> Result<(), &'static str> {
    let named =
        |text: &str| !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    let (name, holder, ttl) = match op {
        LeaseOp::Acquire { name, holder, ttl } => (name, Some(holder), Some(ttl)),
        LeaseOp::Renew { name, ttl, .. } => (name, None, Some(ttl)),
        LeaseOp::Release { name, .. } | LeaseOp::Look { name } => (name, None, None),
    };
    if !named(name) || !holder.is_none_or(|holder| named(holder)) {
        return Err("its name or holder is empty, too long or has control characters");
    }
    match ttl.is_none_or(|ttl| (1..=MAX_TTL.0).contains(&ttl.0)) {
        true => Ok(()),
        false => Err("its length is outside 1 ms to 24 h"),
    }
}
