//! What is not in a file yet: for each series the last 20 minutes in the finest grid, and its latest value.

use crate::{
    block::{self, MAX_LABEL, MAX_SERIES},
    codec::GAP,
    tier::{Point, Tier},
};
use lattice_model::{
    Timestamp,
    metric::{Entity, Kind, Metric},
};
use std::collections::BTreeMap;

/// Slots of one block.
const SLOTS: usize = Tier::Fine.slots();
/// Slots in memory: two blocks, of which the older one is closed while the newer one fills.
const RING: usize = 2 * SLOTS;
/// A counter that was not heard of for so long has no rate.
const FORGET: i64 = 300_000;

/// What became of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Those that were taken.
    pub taken: u64,
    /// Those that were not: no number, of another kind of thing, too old, too many series.
    pub refused: u64,
}

/// The latest value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latest<'a> {
    /// Of what.
    pub metric: Metric,
    /// What tells it apart; else empty.
    pub label: &'a str,
    /// When it was measured.
    pub at: Timestamp,
    /// As it was said: of a counter, the counter.
    pub raw: f64,
    /// As history has it: of a counter, how fast it rises. None before the second value.
    pub value: Option<f64>,
}

pub(crate) struct Series {
    pub(crate) metric: Metric,
    pub(crate) label: Box<str>,
    at: i64,
    raw: f64,
    value: f64,
    ring: Box<[i32; RING]>,
}

pub(crate) struct Of {
    pub(crate) tag: Box<str>,
    pub(crate) series: Vec<Series>,
}

/// What is not in a file yet.
#[derive(Default)]
pub(crate) struct Recent {
    pub(crate) entities: BTreeMap<Entity, Of>,
    /// How many series there are.
    pub(crate) count: usize,
    /// What is earlier is in files, or too late.
    closed: i64,
}

fn index(slot: i64) -> usize {
    slot.rem_euclid(RING as i64) as usize
}

impl Recent {
    pub(crate) fn new(closed: i64) -> Self {
        Self { closed, ..Self::default() }
    }

    pub(crate) fn closed(&self) -> i64 {
        self.closed
    }

    /// Takes values of one entity at one instant; `most` series in all.
    pub(crate) fn write<'a>(
        &mut self,
        entity: Entity,
        tag: &str,
        at: Timestamp,
        most: usize,
        values: impl IntoIterator<Item = (Metric, &'a str, f64)>,
    ) -> Written {
        let mut written = Written::default();
        let in_time = (self.closed..self.closed + 2 * Tier::Fine.span()).contains(&at.0);
        let slot = index(at.0.div_euclid(Tier::Fine.step()));
        for (metric, label, value) in values {
            let believed =
                metric.believed(value).filter(|_| in_time && metric.spec().scope == entity.scope());
            let Some(value) = believed else {
                written.refused += 1;
                continue;
            };
            // Looked up anew for each value: a series that is refused makes no entity.
            let of = match self.entities.get_mut(&entity) {
                Some(of) => of,
                None if self.count < most => self.entities.entry(entity).or_insert_with(|| Of {
                    tag: block::clip(tag, block::MAX_TAG).into(),
                    series: Vec::new(),
                }),
                None => {
                    written.refused += 1;
                    continue;
                }
            };
            if &*of.tag != block::clip(tag, block::MAX_TAG) {
                of.tag = block::clip(tag, block::MAX_TAG).into();
            }
            let label = if metric.spec().label.is_some() { block::clip(label, MAX_LABEL) } else { "" };
            let series = match of.find(metric, label) {
                Some(found) => &mut of.series[found],
                None if self.count < most && of.series.len() < MAX_SERIES => {
                    self.count += 1;
                    let last = of.add(metric, label);
                    &mut of.series[last]
                }
                None => {
                    written.refused += 1;
                    continue;
                }
            };
            series.take(at.0, value, slot);
            written.taken += 1;
        }
        written
    }

    /// From now on nothing before `to` is taken.
    pub(crate) fn close(&mut self, to: i64) {
        self.closed = self.closed.max(to);
    }

    /// Forgets the slots of a block, which is in a file now or lost, and series that had nothing in the last one either.
    pub(crate) fn clear(&mut self, block: i64) {
        let first = block.div_euclid(Tier::Fine.step());
        self.entities.retain(|_, of| {
            of.series.retain_mut(|series| {
                for slot in first..first + SLOTS as i64 {
                    series.ring[index(slot)] = GAP;
                }
                series.ring.iter().any(|code| *code != GAP) || series.at >= block
            });
            !of.series.is_empty()
        });
        self.count = self.entities.values().map(|of| of.series.len()).sum();
    }

    /// Puts a slot's step back, from a file that was saved at the last end.
    pub(crate) fn restore(
        &mut self,
        entity: Entity,
        tag: &str,
        metric: Metric,
        label: &str,
        start: i64,
        codes: &[Option<i32>],
    ) {
        let of = self.entities.entry(entity).or_insert_with(|| Of { tag: tag.into(), series: Vec::new() });
        let at = of.find(metric, label).unwrap_or_else(|| {
            self.count += 1;
            of.add(metric, label)
        });
        let first = start.div_euclid(Tier::Fine.step());
        for (slot, code) in (first..).zip(codes) {
            if let Some(code) = code {
                of.series[at].ring[index(slot)] = *code;
            }
        }
    }

    /// The latest values of an entity.
    pub(crate) fn latest(&self, entity: &Entity) -> impl Iterator<Item = Latest<'_>> {
        self.entities.get(entity).into_iter().flat_map(Of::latest)
    }
}

impl Of {
    /// Where a series stands.
    fn find(&self, metric: Metric, label: &str) -> Option<usize> {
        self.series.iter().position(|series| series.metric == metric && &*series.label == label)
    }

    /// Adds a series without values; where it stands.
    fn add(&mut self, metric: Metric, label: &str) -> usize {
        let (at, raw, value, ring) = (i64::MIN, 0.0, f64::NAN, Box::new([GAP; RING]));
        self.series.push(Series { metric, label: label.into(), at, raw, value, ring });
        self.series.len() - 1
    }

    pub(crate) fn latest(&self) -> impl Iterator<Item = Latest<'_>> {
        self.series.iter().filter(|series| series.at > i64::MIN).map(|series| Latest {
            metric: series.metric,
            label: &series.label,
            at: Timestamp(series.at),
            raw: series.raw,
            value: (!series.value.is_nan()).then_some(series.value),
        })
    }
}

impl Series {
    fn take(&mut self, at: i64, raw: f64, slot: usize) {
        let (before, said) = (self.at, self.raw);
        if at >= before {
            (self.at, self.raw) = (at, raw);
        }
        let value = match self.metric.spec().kind {
            Kind::Gauge | Kind::Tally => raw,
            // Since the value before it; one that comes late has none. After a restart it has risen from 0.
            Kind::Counter => {
                if before == i64::MIN || at <= before {
                    return;
                }
                let span = at - before;
                if span > FORGET {
                    self.value = f64::NAN;
                    return;
                }
                let rose = if raw < said { raw } else { raw - said };
                rose * 1000.0 / span as f64
            }
        };
        let scale = self.metric.spec().scale;
        self.ring[slot] = scale.code(value);
        if at >= before {
            self.value = value;
        }
    }

    /// The steps of a block's slots.
    pub(crate) fn codes(&self, block: i64) -> &[i32] {
        let first = index(block.div_euclid(Tier::Fine.step()));
        &self.ring[first..first + SLOTS]
    }

    /// The point that begins at an instant.
    pub(crate) fn point(&self, at: i64) -> Option<Point> {
        let code = self.ring[index(at.div_euclid(Tier::Fine.step()))];
        (code != GAP).then(|| {
            let value = self.metric.spec().scale.value(code);
            Point { avg: value, max: value }
        })
    }
}
