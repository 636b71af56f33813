//! The three grids, and how a coarse one follows from a fine one.

use lattice_model::{Timestamp, metric::Scale};

/// One of the grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// 10 s, for 2 hours.
    Fine,
    /// 1 min, for 24 hours.
    Minutes,
    /// 10 min, for 30 days.
    Tens,
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

impl Tier {
    /// From the finest to the coarsest.
    pub const ALL: [Self; 3] = [Self::Fine, Self::Minutes, Self::Tens];

    /// From one point to the next, in milliseconds.
    pub const fn step(self) -> i64 {
        match self {
            Self::Fine => 10 * SECOND,
            Self::Minutes => MINUTE,
            Self::Tens => 10 * MINUTE,
        }
    }

    /// How long a block is, in milliseconds.
    pub const fn span(self) -> i64 {
        match self {
            Self::Fine => 10 * MINUTE,
            Self::Minutes => 2 * HOUR,
            Self::Tens => 24 * HOUR,
        }
    }

    /// How many points a block has for each series.
    pub const fn slots(self) -> usize {
        (self.span() / self.step()) as usize
    }

    /// How long it is kept, in milliseconds.
    pub const fn kept(self) -> i64 {
        match self {
            Self::Fine => 2 * HOUR,
            Self::Minutes => 24 * HOUR,
            Self::Tens => 30 * 24 * HOUR,
        }
    }

    /// The one that it is made of.
    pub const fn finer(self) -> Option<Self> {
        match self {
            Self::Fine => None,
            Self::Minutes => Some(Self::Fine),
            Self::Tens => Some(Self::Minutes),
        }
    }

    /// As it is in names of files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "10s",
            Self::Minutes => "1m",
            Self::Tens => "10m",
        }
    }

    /// Its number in files.
    pub(crate) const fn id(self) -> u8 {
        self as u8
    }

    pub(crate) const fn of_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Fine),
            1 => Some(Self::Minutes),
            2 => Some(Self::Tens),
            _ => None,
        }
    }

    /// Where the block that contains an instant begins.
    pub const fn block(self, at: Timestamp) -> i64 {
        at.0.div_euclid(self.span()) * self.span()
    }
}

/// What is known of one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The average of what is known.
    pub avg: f64,
    /// The highest.
    pub max: f64,
}

/// A point in steps of a scale: the average's step, and how many more the highest has, as it is kept.
pub(crate) fn code(scale: Scale, point: Point) -> (i32, i32) {
    let (avg, max) = (scale.code(point.avg), scale.code(point.max));
    (avg, squeeze(max.saturating_sub(avg).max(0)))
}

/// How many steps the highest is above the average: beyond 16 to a thirty-second of it, as nobody reads a peak closer.
fn squeeze(above: i32) -> i32 {
    if above < 16 {
        return above;
    }
    let shift = above.ilog2() - 4;
    let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
    // What rounds up to the next octave is its first step by the same formula.
    (shift as i32) * 16 + (above.saturating_add(half) >> shift)
}

/// The other way.
pub(crate) fn expand(kept: i32) -> i32 {
    if kept < 16 {
        return kept.max(0);
    }
    let (shift, step) = (kept / 16 - 1, kept % 16 + 16);
    // What no block of ours holds.
    if shift > 26 { i32::MAX } else { step << shift }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_kept_nearly() {
        for above in (0..100_000).chain([i32::MAX / 2, i32::MAX - 1]) {
            let back = i64::from(expand(squeeze(above)));
            assert!((back - i64::from(above)).abs() * 32 <= i64::from(above).max(1), "{above} became {back}");
        }
    }
}
