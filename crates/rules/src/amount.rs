//! Spans, shares and speeds as people write them: `5m`, `50%`, `4g`, `20Mbit`.

use lattice_model::{BitRate, Duration, machine::Bandwidth};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A span of time, written `90s`, `5m`, `1h30m` or `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || {
            format!(
                "{:?} is no span of time; write e.g. 90s, 5m, 1h30m",
                text.chars().take(40).collect::<String>()
            )
        };
        let mut rest = text.trim();
        let mut sum: u64 = 0;
        let mut last = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
            let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "d" => 86_400_000,
                "h" => 3_600_000,
                "m" | "min" => 60_000,
                "s" => 1000,
                _ => return Err(fail()),
            };
            // Each unit once, the larger ones first.
            if unit >= last {
                return Err(fail());
            }
            last = unit;
            rest = &rest[letters..];
            sum = number.checked_mul(unit).and_then(|span| sum.checked_add(span)).ok_or_else(fail)?;
        }
        if last == u64::MAX { Err(fail()) } else { Ok(Self(Duration(sum))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.0 / 1000;
        let mut text = String::new();
        for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
            if rest >= size {
                text.push_str(&format!("{}{unit}", rest / size));
                rest %= size;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A part of what a machine has, or an amount: `50%`, `4g`, `2.5`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many hundredths of it.
    Percent(u8),
    /// So much; what the unit is depends on the rule (cores, bytes).
    Amount(f64),
}

impl Share {
    /// Of `all`, at most all.
    pub fn of(self, all: u64) -> u64 {
        match self {
            Self::Percent(percent) => (u128::from(all) * u128::from(percent) / 100) as u64,
            Self::Amount(amount) => (amount as u64).min(all),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(format!("{text:?}: write a share from 1% to 100%")),
            },
            None => {
                let amount: lattice_model::Bytes = text.parse().map_err(|error| format!("{error}"))?;
                Ok(Self::Amount(amount.0 as f64))
            }
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
            Self::Amount(amount) if amount.fract() == 0.0 => serializer.serialize_u64(*amount as u64),
            Self::Amount(amount) => serializer.serialize_f64(*amount),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl de::Visitor<'_> for Read {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as \"50%\", or an amount such as 2.5 or \"4g\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
                Share::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Share, E> {
                Ok(Share::Amount(n as f64))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Share, E> {
                self.visit_f64(n as f64)
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Share, E> {
                if (0.0..=9.0e15).contains(&n) {
                    Ok(Share::Amount(n))
                } else {
                    Err(E::custom("write a number that is not negative"))
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// The most that passes each way: `"20Mbit"` for both, or `{ up = "5Mbit", down = "50Mbit" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speeds(pub Bandwidth);

impl Serialize for Speeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.up, self.0.down) {
            (Some(up), Some(down)) if up == down => serializer.collect_str(&up),
            (up, down) => {
                let both = [("up", up), ("down", down)];
                serializer
                    .collect_map(both.iter().filter_map(|(key, rate)| Some((key, (*rate)?.to_string()))))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Speeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> de::Visitor<'de> for Read {
            type Value = Speeds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "bits a second such as \"20Mbit\", or { up = \"5Mbit\", down = \"50Mbit\" }; a number alone may be \
                     bits or bytes",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Speeds, E> {
                let rate: BitRate = text.parse().map_err(E::custom)?;
                Ok(Speeds(Bandwidth { up: Some(rate), down: Some(rate) }))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Speeds, A::Error> {
                let mut speeds = Bandwidth::default();
                while let Some(key) = map.next_key::<String>()? {
                    let place = match key.as_str() {
                        "up" => &mut speeds.up,
                        "down" => &mut speeds.down,
                        other => return Err(de::Error::unknown_field(other, &["up", "down"])),
                    };
                    *place = Some(map.next_value::<String>()?.parse().map_err(de::Error::custom)?);
                }
                Ok(Speeds(speeds))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_they_print() {
        for (text, secs) in [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("5min", 300)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::secs(secs), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["", "5", "m", "5x", "5m1h", "5m5m", "-1s", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_of_what_there_is() {
        assert_eq!(Share::parse("50%").unwrap().of(8000), 4000);
        assert_eq!(Share::parse("1k").unwrap().of(8000), 1024);
        assert_eq!(Share::parse("1t").unwrap().of(8000), 8000);
        assert!(
            Share::parse("0%").is_err() && Share::parse("101%").is_err() && Share::parse("much").is_err()
        );
    }
}
