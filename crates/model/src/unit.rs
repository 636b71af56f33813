//! Amounts: bytes, CPU shares and speeds of networks, parsed and printed in one way everywhere.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An amount of memory or disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u64))]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A share of processors, in thousandths of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u32))]
#[serde(transparent)]
pub struct Cpu(pub u32);

/// An amount of GPUs, in thousandths of one; in JSON as a number of GPUs, such as `1.25`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = f64))]
#[serde(from = "f64", into = "f64")]
pub struct Gpus(pub u32);

impl Gpus {
    /// So many whole ones.
    pub const fn whole(n: u32) -> Self {
        Self(n.saturating_mul(1000))
    }
}

impl From<f64> for Gpus {
    /// What is less than nothing is nothing, and what is too much the most.
    fn from(gpus: f64) -> Self {
        Self((gpus * 1000.0).round() as u32)
    }
}

impl From<Gpus> for f64 {
    fn from(gpus: Gpus) -> Self {
        Self::from(gpus.0) / 1000.0
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(*self)))
    }
}

/// A speed of a network, in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u64))]
#[serde(transparent)]
pub struct BitRate(pub u64);

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of {what}; write {example}")]
pub struct InvalidAmount {
    /// The text, cut to a printable length.
    pub text: String,
    /// "memory" or "processors".
    pub what: &'static str,
    /// How it is written.
    pub example: &'static str,
}

impl Bytes {
    /// One kibibyte.
    pub const KIB: Self = Self(1 << 10);
    /// One mebibyte.
    pub const MIB: Self = Self(1 << 20);
    /// One gibibyte.
    pub const GIB: Self = Self(1 << 30);

    /// A whole number of mebibytes.
    pub const fn from_mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Bytes {
    type Err = InvalidAmount;

    /// Reads Compose's byte values: a number with `b`, `k`/`kb`, `m`/`mb`, `g`/`gb` (powers of
    /// 1024, as Docker reads them), `KiB`, `MiB`, `GiB`, `TiB`, or none for bytes.
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let fail = || InvalidAmount {
            text: text.chars().take(40).collect(),
            what: "memory",
            example: "a number and a unit, such as 512m, 1.5g or 64KiB",
        };
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(fail()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(fail);
        }
        let value = number.parse::<f64>().map_err(|_| fail())? * (1u64 << shift) as f64;
        if !(0.0..9.0e18).contains(&value) {
            return Err(fail());
        }
        Ok(Self(value.round() as u64))
    }
}

impl fmt::Display for Bytes {
    /// One decimal at the most, in powers of 1024: `1.5 GiB`, `512 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let text = UNITS.iter().find(|(_, size)| self.0 >= *size).map_or_else(
            || format!("{} B", self.0),
            |(unit, size)| {
                let value = self.0 as f64 / *size as f64;
                let one = format!("{value:.1}");
                format!("{} {unit}", one.strip_suffix(".0").unwrap_or(&one))
            },
        );
        f.pad(&text)
    }
}

impl Cpu {
    /// One whole core.
    pub const CORE: Self = Self(1000);

    /// A whole number of cores.
    pub const fn from_cores(n: u32) -> Self {
        Self(n.saturating_mul(1000))
    }
}

impl FromStr for Cpu {
    type Err = InvalidAmount;

    /// Reads a number of cores with at most three decimals that count, as Compose's `cpus`.
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let fail = || InvalidAmount {
            text: text.chars().take(40).collect(),
            what: "processors",
            example: "a number of cores, such as 0.5 or 2",
        };
        let cores: f64 = text.trim().parse().map_err(|_| fail())?;
        if !(0.0..=1_000_000.0).contains(&cores) {
            return Err(fail());
        }
        Ok(Self((cores * 1000.0).round() as u32))
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1000.0))
    }
}

impl BitRate {
    /// What that is in whole bytes a second.
    pub const fn bytes(self) -> u64 {
        self.0 / 8
    }
}

/// Why a text is not a speed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a speed that nobody can mistake; write bits a second, such as 20Mbit, 500kbit or 1Gbit (8 bits are a byte: 2.5 MB/s is 20Mbit)"
)]
pub struct InvalidBitRate {
    /// The text, cut to a printable length.
    pub text: String,
}

impl FromStr for BitRate {
    type Err = InvalidBitRate;

    /// Reads a number and `kbit`, `Mbit` or `Gbit` (powers of 1000, as networks count), with `/s` or without, in
    /// capitals or not. A number alone, `M`, `MB` and `Mbps` are refused: some read them as bits, others as bytes.
    fn from_str(text: &str) -> Result<Self, InvalidBitRate> {
        let fail = || InvalidBitRate { text: text.chars().take(40).collect() };
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let unit = unit.trim().to_ascii_lowercase();
        let size: u64 = match unit.strip_suffix("/s").unwrap_or(&unit) {
            "kbit" => 1000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(fail()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(size).map(Self).ok_or_else(fail);
        }
        let value = number.parse::<f64>().map_err(|_| fail())? * size as f64;
        if !(0.0..9.0e15).contains(&value) {
            return Err(fail());
        }
        Ok(Self(value.round() as u64))
    }
}

impl fmt::Display for BitRate {
    /// In the largest unit that says it whole, and as it is read: `20Mbit`, `2500kbit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1000)];
        let whole = UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        match whole {
            Some((unit, size)) => f.pad(&format!("{}{unit}", self.0 / size)),
            None => f.pad(&format!("{}kbit", self.0 as f64 / 1000.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("64KiB", 64 << 10),
            ("7", 7),
            ("1 GB", 1 << 30),
            ("20b", 20),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "m", "-1m", "1x", "99999999999999t", "1e3"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!("0.25".parse(), Ok(Cpu(250)));
        assert!("NaN".parse::<Cpu>().is_err());
        assert!("-1".parse::<Cpu>().is_err());
    }

    #[test]
    fn speeds_read_as_they_print_and_what_can_be_mistaken_is_refused() {
        for (text, bits, printed) in [
            ("20Mbit", 20_000_000, "20Mbit"),
            ("20 mbit/s", 20_000_000, "20Mbit"),
            ("2.5Mbit", 2_500_000, "2500kbit"),
            ("1000Mbit", 1_000_000_000, "1Gbit"),
            ("512kbit", 512_000, "512kbit"),
            ("0.0625kbit", 63, "0.063kbit"),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(bits)), "{text}");
            assert_eq!(BitRate(bits).to_string(), printed);
            assert_eq!(printed.parse(), Ok(BitRate(bits)));
        }
        for text in
            ["20", "20M", "20MB", "20MB/s", "20Mbps", "20MiB", "Mbit", "-1Mbit", "1e3Mbit", "20Mbit/h"]
        {
            let error = text.parse::<BitRate>().unwrap_err().to_string();
            assert!(error.contains("20Mbit") && error.contains(text), "{error}");
        }
        assert_eq!(BitRate(20_000_000).bytes(), 2_500_000);
    }

    #[test]
    fn amounts_print_short() {
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(Bytes(512 << 20).to_string(), "512 MiB");
        assert_eq!(Bytes(20).to_string(), "20 B");
        assert_eq!(Cpu(250).to_string(), "0.25");
    }
}
