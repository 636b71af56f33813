//! Leases. The writer holds the table in memory, with ends on the clock that never goes back, and
//! writes each change through.
//!
//! Over a restart only the wall clock's end is left; what remains of a lease is then between
//! nothing and its whole length, however the wall clock jumped. That it may end early is harmless:
//! the holders of an embedded store's leases are tasks of the one process that had the file lock,
//! so they ended with it, and the epoch fences whatever they left under way.

use crate::{
    Clock, Lease, LeaseError,
    lease::{LeaseOp, LeaseRow, judge},
};
use lattice_model::{Duration, Timestamp};
use rusqlite::Connection;
use std::collections::HashMap;

type Answer = Result<Option<Lease>, LeaseError>;

/// Ends are on [`Clock::elapsed`].
#[derive(Debug, Default)]
pub(super) struct Leases {
    rows: HashMap<String, LeaseRow>,
    /// What a rollback has to put back.
    undo: Vec<(String, Option<LeaseRow>)>,
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
            Ok((row.get(0)?, LeaseRow { holder: row.get(1)?, epoch, held: row.get(3)?, ttl, ends }))
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
        let name = op.name();
        let (answer, row) = judge(op, self.rows.get(name), now);
        let Some(row) = row else { return Ok(answer) };
        let LeaseRow { holder, epoch, held, ttl, ends } = &row;
        let wall = clock.wall() + Duration(ends.0 - now.0);
        db.prepare_cached(
            "INSERT OR REPLACE INTO leases (name, holder, epoch, held, ttl, ends) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute((name, holder, *epoch as i64, held, ttl.0 as i64, wall.0))?;
        self.undo.push((name.to_owned(), self.rows.insert(name.to_owned(), row)));
        Ok(answer)
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
