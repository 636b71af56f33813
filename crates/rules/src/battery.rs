//! How long the battery lasts: [`Discharge`], what was seen of it since the mains went.
//!
//! Each percent that goes says how long a percent takes; the last ones count most, as work comes and goes. The first may
//! have been a part of one and says nothing. The end is told in quarters of an hour and stays as it was told while it is
//! off by no more than one, so that whoever hears of it does not hear of it each minute. Rejected: what batteries say
//! themselves of their time; many say nothing, others what the present second would come to.

use crate::facts::{Facts, Moment, PowerSource};
use lattice_model::{Duration, Timestamp};
use std::num::NonZeroU64;

/// Where no rule says when work stops, a machine goes off about here, in percent.
const EMPTY: u8 = 5;
/// The step in which the end is told, in milliseconds.
const STEP: i64 = 15 * 60_000;
/// Of how many times of a percent the last one is a part.
const WEIGHT: u64 = 4;

/// What is known of a battery that feeds the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discharge {
    boot_id: String,
    charge: u8,
    /// When the last percent went, by the boot clock.
    fell: Option<Duration>,
    /// How long a percent takes.
    percent: Option<Duration>,
    ends: Option<Timestamp>,
}

impl Discharge {
    /// What is known after another look; nothing on mains, or where the charge is not known. `stop` is the charge in
    /// percent below which work stops.
    pub(crate) fn after(
        before: Option<&Self>,
        facts: &Facts,
        stop: Option<u8>,
        now: &Moment,
    ) -> Option<Self> {
        let charge = *facts.charge.known()?;
        if facts.power.known() != Some(&PowerSource::Battery) {
            return None;
        }
        let first = Self { boot_id: now.boot_id.clone(), charge, fell: None, percent: None, ends: None };
        let Some(before) = before.filter(|before| before.boot_id == now.boot_id && before.charge >= charge)
        else {
            return Some(first);
        };
        let mut next = Self { charge, ..before.clone() };
        if let Some(gone) = NonZeroU64::new(u64::from(before.charge - charge)) {
            if let Some(fell) = before.fell {
                let each = now.boot.0.saturating_sub(fell.0) / gone;
                let percent = before.percent.map_or(each, |known| (known.0 * (WEIGHT - 1) + each) / WEIGHT);
                next.percent = Some(Duration(percent));
            }
            next.fell = Some(now.boot);
        }
        next.ends = next.percent.map(|percent| {
            let left = u64::from(charge.saturating_sub(stop.unwrap_or(EMPTY)));
            let at = (now.wall + Duration(percent.0.saturating_mul(left))).0;
            let at = Timestamp(at.div_euclid(STEP) * STEP);
            before.ends.filter(|told| told.0.abs_diff(at.0) <= STEP.unsigned_abs()).unwrap_or(at)
        });
        Some(next)
    }

    /// When work has to stop for it, in whole quarters of an hour.
    pub(crate) const fn ends(&self) -> Option<Timestamp> {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Reading;

    const MINUTE: u64 = 60_000;

    fn at(minutes: u64) -> Moment {
        let wall = Timestamp(i64::try_from(minutes * MINUTE).unwrap());
        Moment { wall, boot: Duration(minutes * MINUTE), boot_id: "a".into() }
    }

    fn on_battery(charge: u8) -> Facts {
        Facts {
            power: Reading::Known(PowerSource::Battery),
            charge: Reading::Known(charge),
            ..Facts::unknown("not asked for")
        }
    }

    /// Looks once a minute at a battery of which a percent goes every three.
    fn seen(until: u64, stop: Option<u8>) -> Option<Discharge> {
        (0..=until).fold(None, |known, minute| {
            let charge = 90 - u8::try_from((minute + 1) / 3).unwrap();
            Discharge::after(known.as_ref(), &on_battery(charge), stop, &at(minute))
        })
    }

    #[test]
    fn the_end_is_told_when_a_whole_percent_has_gone() {
        assert_eq!(seen(4, None).unwrap().ends(), None, "the first one was a part of one");
        let hours = |known: Option<Discharge>| known.unwrap().ends().unwrap().0 / STEP;
        // 88 % after five minutes, and 83 of them take 249 minutes.
        assert_eq!(hours(seen(5, None)), 254 / 15);
        assert_eq!(hours(seen(5, Some(40))), (5 + 48 * 3) / 15);
        assert_eq!(hours(seen(120, None)), 254 / 15, "as it was told, while it is so");
    }

    #[test]
    fn mains_another_start_and_a_charge_that_rises_begin_anew() {
        let known = seen(30, None);
        let mains = Facts { power: Reading::Known(PowerSource::Mains), ..on_battery(79) };
        assert_eq!(Discharge::after(known.as_ref(), &mains, None, &at(31)), None);
        let other = Moment { boot_id: "b".into(), ..at(31) };
        assert_eq!(Discharge::after(known.as_ref(), &on_battery(79), None, &other).unwrap().ends(), None);
        assert_eq!(Discharge::after(known.as_ref(), &on_battery(95), None, &at(31)).unwrap().ends(), None);
        let unknown = Facts { charge: Reading::unknown("no sensor"), ..on_battery(1) };
        assert_eq!(Discharge::after(known.as_ref(), &unknown, None, &at(31)), None);
    }

    #[test]
    fn harder_work_brings_the_end_nearer() {
        let mut known = seen(30, None);
        let before = known.as_ref().unwrap().ends().unwrap();
        for minute in 31..50 {
            let charge = 80 - u8::try_from(minute - 30).unwrap();
            known = Discharge::after(known.as_ref(), &on_battery(charge), None, &at(minute));
        }
        assert!(known.unwrap().ends().unwrap() < before);
    }
}
