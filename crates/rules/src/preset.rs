//! Three answers to "how much?". A preset says nothing about hours and consent: those are the
//! owner's own, and stay.

use crate::{
    amount::{Share, Span},
    rules::{Band, BatteryRule, Caps, KeepAwake, NetworkRule, OnMetered, PowerRule, Rules, RunOn, UserRule},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A set of answers by one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Nobody notices it: a quarter of the machine, while nobody uses it, cool and silent.
    Quiet,
    /// Half of the machine while it has mains and no metered network.
    Balanced,
    /// All that it can give.
    Max,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quiet, Self::Balanced, Self::Max];

    /// As it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Balanced => "balanced",
            Self::Max => "max",
        }
    }

    /// What it is, in a sentence.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Quiet => "a quarter of the machine, on mains, while nobody uses it, cool and silent",
            Self::Balanced => "half of the machine, on mains, also while somebody uses it",
            Self::Max => "all of the machine, on battery too until that is low",
        }
    }

    /// These rules with this preset's answers; hours, consent, disk, GPUs, bandwidth and data stay: what a way out
    /// carries nobody here knows, and a part of it is no number.
    pub fn apply(self, rules: &Rules) -> Rules {
        let on_mains =
            |hold| BatteryRule { run: RunOn::Mains, mains_for: Some(hold), ..BatteryRule::default() };
        let band = |stop_at, start_at| Some(Band { stop_at, start_at });
        let (share, memory, battery, idle, temperature, noise, metered, keep_awake) = match self {
            Self::Quiet => (
                25,
                25,
                on_mains(Span::secs(120)),
                Some(Span::secs(600)),
                band(70, 60),
                band(2500, 1800),
                OnMetered::Suspend,
                KeepAwake::Never,
            ),
            Self::Balanced => (
                50,
                50,
                on_mains(Span::secs(30)),
                None,
                band(85, 75),
                None,
                OnMetered::Suspend,
                KeepAwake::OnMains,
            ),
            Self::Max => {
                let battery =
                    BatteryRule { stop_below: Some(30), start_above: Some(50), ..BatteryRule::default() };
                (100, 80, battery, None, band(95, 85), None, OnMetered::Run, KeepAwake::OnMains)
            }
        };
        Rules {
            caps: Caps {
                cpu: Some(Share::Percent(share)),
                memory: Some(Share::Percent(memory)),
                ..rules.caps.clone()
            },
            battery,
            user: UserRule { stop_when_active: idle.is_some(), idle_for: idle },
            temperature,
            noise,
            network: NetworkRule { metered },
            power: PowerRule { keep_awake },
            ..rules.clone()
        }
    }

    /// The preset whose answers these rules have.
    pub fn of(rules: &Rules) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.apply(rules) == *rules)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|preset| preset.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no preset; there are quiet, balanced and max"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_known_again() {
        let own = Rules::parse(
            "[consent]\nexec = false\n[caps]\ndisk = \"9g\"\n[hours]\ndaily = [\"18:00-23:00\"]",
        )
        .unwrap();
        for preset in Preset::ALL {
            let rules = preset.apply(&own);
            assert_eq!(Preset::of(&rules), Some(preset));
            assert_eq!(preset.as_str().parse(), Ok(preset));
            assert_eq!(
                (&rules.hours, &rules.consent, rules.caps.disk),
                (&own.hours, &own.consent, own.caps.disk)
            );
            rules.clone().check(Some("Europe/Berlin")).unwrap();
            assert_eq!(Rules::parse(&rules.to_toml()).unwrap(), rules);
        }
        assert_eq!(Preset::of(&own), None);
    }
}
