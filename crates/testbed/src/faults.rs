//! What is wrong with a machine's network, as one value: it is saved, shown, and carried out as a whole.

use crate::error::{Result, TestbedError};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Which way packets go, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the machine.
    In,
    /// From the machine.
    Out,
    /// Either.
    Both,
}

/// What is wrong with a machine's network. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// No packet reaches the machine.
    pub drop_in: bool,
    /// No packet leaves it.
    pub drop_out: bool,
    /// So many of a hundred packets get lost, each way.
    pub lose_percent: f64,
    /// So much later packets arrive, each way.
    pub delay_ms: u64,
    /// Up to so much more, by chance; the order is kept.
    pub jitter_ms: u64,
}

impl Faults {
    /// Packets vanish.
    pub fn drop(&mut self, direction: Direction) {
        self.drop_in |= direction != Direction::Out;
        self.drop_out |= direction != Direction::In;
    }

    /// Packets get lost by chance.
    ///
    /// # Errors
    /// When `percent` is none.
    pub fn lose(&mut self, percent: f64) -> Result<()> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(TestbedError::Senseless(format!("{percent} % cannot be lost: write 0 to 100")));
        }
        self.lose_percent = percent;
        Ok(())
    }

    /// Packets arrive later.
    pub fn delay(&mut self, delay: Duration, jitter: Duration) {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        (self.delay_ms, self.jitter_ms) = (ms(delay), ms(jitter));
    }

    /// Whether packets have to take the way through a process that holds them back.
    pub(crate) fn is_slow(&self) -> bool {
        self.delay_ms > 0 || self.jitter_ms > 0
    }

    /// The lines of the bridge's rules for the port of this name: those for frames from the machine, and those for
    /// frames to it.
    pub(crate) fn rules(&self, port: &str) -> (String, String) {
        // In millionths, so that a tenth of a percent is something.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let lost = (self.lose_percent * 10_000.0).round() as u32;
        let rule = |word: &str, dropped: bool| match (dropped, lost) {
            (true, _) | (false, 1_000_000..) => format!("{word} \"{port}\" drop\n"),
            (false, 0) => String::new(),
            (false, lost) => format!("{word} \"{port}\" numgen random mod 1000000 < {lost} drop\n"),
        };
        (rule("iifname", self.drop_out), rule("oifname", self.drop_in))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drop_in, drop_out, lose_percent, delay_ms, jitter_ms } = self;
        let mut words = Vec::new();
        match (drop_in, drop_out) {
            (true, true) => words.push("drops in and out".to_owned()),
            (true, false) => words.push("drops in".to_owned()),
            (false, true) => words.push("drops out".to_owned()),
            (false, false) => {}
        }
        if *lose_percent > 0.0 {
            words.push(format!("loses {lose_percent} %"));
        }
        match (delay_ms, jitter_ms) {
            (0, 0) => {}
            (delay, 0) => words.push(format!("delays {delay} ms")),
            (delay, jitter) => words.push(format!("delays {delay} to {} ms", delay + jitter)),
        }
        f.write_str(&if words.is_empty() { "-".to_owned() } else { words.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_becomes_rules() {
        let mut faults = Faults::default();
        assert_eq!(faults.to_string(), "-");
        assert_eq!(faults.rules("p1"), (String::new(), String::new()));
        faults.lose(0.5).expect("a share");
        faults.drop(Direction::Out);
        assert_eq!(faults.to_string(), "drops out, loses 0.5 %");
        let (from, to) = faults.rules("p1");
        assert_eq!(from, "iifname \"p1\" drop\n", "who sends nothing loses nothing besides");
        assert_eq!(to, "oifname \"p1\" numgen random mod 1000000 < 5000 drop\n");
        faults.drop(Direction::In);
        faults.delay(Duration::from_millis(20), Duration::from_millis(5));
        assert_eq!(faults.to_string(), "drops in and out, loses 0.5 %, delays 20 to 25 ms");
        faults = Faults::default();
        faults.lose(100.0).expect("a share");
        assert_eq!(faults.rules("p1").1, "oifname \"p1\" drop\n", "the kernel's die has no side for all");
        for wrong in [-1.0, 100.1, f64::NAN] {
            assert!(faults.lose(wrong).is_err(), "{wrong}");
        }
    }
}
