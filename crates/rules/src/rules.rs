//! What an owner may say, and what of it is refused. What is not said is not restricted.
//!
//! ```toml
//! time_zone = "Europe/Berlin"          # of the hours; the machine's own unless said
//!
//! [hours]                              # always unless said
//! weekdays = ["18:00-08:00"]           # over midnight
//! weekend = ["00:00-24:00"]
//! friday = []                          # a day by its name counts more than its group
//!
//! [consent]
//! projects = ["default"]               # whose work may run here
//! images = ["docker.io/library/*"]     # * is any run of characters
//! exec = false                         # whether others may open a shell in containers or copy files
//! builds = false                       # whether images are built here for others
//! benchmarks = false                   # whether the machine is measured now and then, for some seconds
//!
//! [caps]
//! cpu = "50%"                          # or cores: 2.5
//! memory = "4g"                        # or a share
//! disk = "100g"
//! gpus = ["0"]                         # or "all", or "none"
//! bandwidth = "20Mbit"                 # each way; or { up = "5Mbit", down = "50Mbit" }
//! data_per_month = "50g"               # of this machine, as a data plan counts
//! data_month_begins = 15               # the day of the month
//!
//! [battery]
//! run = "on_mains"                     # or "always"
//! mains_for = "30s"                    # work begins when mains have been back for so long
//!
//! [user]
//! stop_when_active = true
//! idle_for = "5m"                      # work begins when nobody has touched it for so long
//!
//! [temperature]                        # degrees Celsius, of the hottest part
//! stop_at = 85
//! start_at = 75
//!
//! [noise]                              # turns a minute, of the fastest fan
//! stop_at = 3500
//! start_at = 2500
//!
//! [network]
//! metered = "suspend"                  # or "run"
//!
//! [power]
//! keep_awake = "on_mains"              # "never", "always": while there is work
//!
//! [lan]
//! access = "closed"                    # containers reach nothing of the owner's network; or "open"
//! allow = ["192.168.1.20:5432/tcp", "host:11434"]   # but for these
//! ```

use crate::{
    amount::{Share, Span, Speeds},
    error::RulesError,
    hours::{Hours, Schedule, first_at, local_date, zone},
};
use jiff::tz::TimeZone;
use lattice_lan::Allow;
use lattice_model::{BitRate, Bytes, ProjectName, Timestamp, machine::Bandwidth};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// When mains are back and nothing else is said.
const MAINS_FOR: Span = Span::secs(10);
/// When nobody touches the machine and nothing else is said.
const IDLE_FOR: Span = Span::secs(300);

/// Below that connections do not live: a few packets are a second's worth.
const LEAST_SPEED: BitRate = BitRate(256_000);
/// More than any machine's network has.
const MOST_SPEED: BitRate = BitRate(100_000_000_000);

/// More exceptions than anybody keeps in mind.
const MAX_ALLOW: usize = 64;

/// The owner's rules as they are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// By whose clock the hours are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When it works; always unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// For whom.
    #[serde(skip_serializing_if = "is_default")]
    pub consent: Consent,
    /// How much.
    #[serde(skip_serializing_if = "is_default")]
    pub caps: Caps,
    /// On battery.
    #[serde(skip_serializing_if = "is_default")]
    pub battery: BatteryRule,
    /// While somebody uses it.
    #[serde(skip_serializing_if = "is_default")]
    pub user: UserRule,
    /// Degrees Celsius of the hottest part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Band>,
    /// Turns a minute of the fastest fan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Band>,
    /// By which network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkRule,
    /// Whether work keeps it awake.
    #[serde(skip_serializing_if = "is_default")]
    pub power: PowerRule,
    /// What containers reach of the owner's network.
    #[serde(skip_serializing_if = "is_default")]
    pub lan: LanRule,
}

/// Whether containers reach the owner's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// They do not, and none starts where that cannot be kept.
    #[default]
    Closed,
    /// They do.
    Open,
}

/// What containers reach of the owner's network, this machine included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanRule {
    /// All of it or nothing.
    pub access: Access,
    /// Exceptions, where it is closed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<Allow>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose work, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consent {
    /// Whose work may run here; everybody's unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Which images, as patterns of their whole name; any unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<BTreeSet<String>>,
    /// Whether commands may be run in containers and files copied; allowed unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<bool>,
    /// Whether images may be built here for others; allowed unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builds: Option<bool>,
    /// Whether the machine may be measured now and then; allowed unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benchmarks: Option<bool>,
}

/// How much of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Cores, or a share of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Share>,
    /// Bytes, or a share of the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Share>,
    /// Bytes, or a share of what is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Share>,
    /// GPUs that are lent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// How fast work may send and receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Speeds>,
    /// What this machine may send and receive in a month before work stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_per_month: Option<Share>,
    /// On which day that month begins; the first unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_month_begins: Option<u8>,
}

/// GPUs that are lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Gpus {
    /// These, as the driver names them.
    Ids(Vec<String>),
    /// `all` or `none`.
    Word(String),
}

/// Whether work runs on battery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOn {
    /// It does.
    #[default]
    #[serde(rename = "always")]
    Always,
    /// On mains alone.
    #[serde(rename = "on_mains")]
    Mains,
}

/// On battery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatteryRule {
    /// Whether work runs then.
    pub run: RunOn,
    /// With `always`: below so many percent it stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_below: Option<u8>,
    /// And goes on above so many, or on mains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_above: Option<u8>,
    /// With `on_mains`: work begins when mains have been back for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mains_for: Option<Span>,
}

impl BatteryRule {
    pub(crate) fn hold(&self) -> Span {
        self.mains_for.unwrap_or(MAINS_FOR)
    }

    /// The charge from which it goes on.
    pub(crate) fn start(&self) -> Option<(u8, u8)> {
        let stop = self.stop_below?;
        Some((stop, self.start_above.unwrap_or(stop.saturating_add(10).min(100))))
    }
}

/// While somebody uses the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRule {
    /// Whether work stops then.
    pub stop_when_active: bool,
    /// It begins when nobody has touched the machine for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_for: Option<Span>,
}

impl UserRule {
    pub(crate) fn idle(&self) -> Span {
        self.idle_for.unwrap_or(IDLE_FOR)
    }
}

/// Two thresholds: work stops at the upper one and goes on at the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// At this or above it stops.
    pub stop_at: u32,
    /// At this or below it goes on.
    pub start_at: u32,
}

/// What to do where the way out is paid by volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMetered {
    /// Work as ever.
    #[default]
    Run,
    /// Stop.
    Suspend,
}

/// By which network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkRule {
    /// On a metered one.
    pub metered: OnMetered,
}

/// Whether work keeps the machine awake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepAwake {
    /// On mains.
    #[default]
    OnMains,
    /// It sleeps when it wants to.
    Never,
    /// On battery too.
    Always,
}

/// Whether work keeps the machine awake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerRule {
    /// While there is work.
    pub keep_awake: KeepAwake,
}

impl Rules {
    /// Reads a text as it is in `rules.toml`. What contradicts itself is found by [`Rules::check`].
    ///
    /// # Errors
    /// [`RulesError::Unreadable`] with the line.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            RulesError::Unreadable { line, problem: error.message().trim().replace('\n', " ") }
        })
    }

    /// The text that reads as these rules.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The same with one rule changed: `battery.run` and `always`. An empty value takes it out.
    ///
    /// # Errors
    /// A key or a value that is not understood.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, RulesError> {
        let unreadable = |problem: String| RulesError::Unreadable { line: 1, problem };
        let mut root = toml::Table::try_from(self).map_err(|error| unreadable(error.to_string()))?;
        let parts: Vec<&str> = key.split('.').collect();
        let Some((last, sections)) = parts.split_last().filter(|(last, _)| !last.is_empty()) else {
            return Err(unreadable(format!("{key:?} is no rule")));
        };
        let mut table = &mut root;
        for section in sections {
            let entry = table.entry((*section).to_owned()).or_insert_with(|| toml::Table::new().into());
            table = entry.as_table_mut().ok_or_else(|| unreadable(format!("{section} has no parts")))?;
        }
        if value.trim().is_empty() {
            table.remove(*last);
        } else {
            // What is no TOML is a word: `always` as well as `"always"`.
            let read = toml::from_str::<toml::Table>(&format!("it = {value}")).ok();
            let read = read.filter(|table| table.len() == 1).and_then(|mut table| table.remove("it"));
            table.insert((*last).to_owned(), read.unwrap_or_else(|| value.trim().into()));
        }
        let text = toml::to_string(&root).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text).map_err(|error| match error {
            RulesError::Unreadable { problem, .. } => {
                RulesError::Unreadable { line: 1, problem: format!("{key} = {value}: {problem}") }
            }
            other => other,
        })
    }

    /// Refuses what contradicts itself or leaves nothing. `system_zone` is the machine's own.
    ///
    /// # Errors
    /// [`RulesError`] names the keys.
    pub fn check(self, system_zone: Option<&str>) -> Result<Checked, RulesError> {
        let Self {
            time_zone,
            hours,
            consent,
            caps,
            battery,
            user,
            temperature,
            noise,
            network: _,
            power,
            lan,
        } = &self;
        let named = time_zone.as_deref().or(system_zone);
        let place = named.map(zone).transpose()?;
        let schedule = match (hours, named) {
            (None, _) => None,
            (Some(hours), Some(name)) => Some(Schedule::new(hours.clone(), name)?),
            (Some(_), None) => {
                let problem = "the zone of this machine is not known; write it, e.g. \"Europe/Berlin\"";
                return Err(RulesError::value("time_zone", problem));
            }
        };
        check_consent(consent)?;
        check_caps(caps)?;
        check_battery(battery)?;
        if user.idle_for.is_some() && !user.stop_when_active {
            return Err(RulesError::Contradiction {
                one: "user.idle_for",
                other: "user.stop_when_active",
                why: "work that does not stop for a user does not wait for one either",
            });
        }
        if user.idle_for.is_some_and(|span| !(Span::secs(15)..=Span::secs(86_400)).contains(&span)) {
            return Err(RulesError::value("user.idle_for", "write a span from 15s to 24h"));
        }
        check_band("temperature", *temperature, 30..=110, "degrees Celsius")?;
        check_band("noise", *noise, 200..=20_000, "turns a minute")?;
        if power.keep_awake == KeepAwake::Always && battery.run == RunOn::Mains {
            return Err(RulesError::Contradiction {
                one: "power.keep_awake",
                other: "battery.run",
                why: "on battery there is no work to stay awake for",
            });
        }
        check_lan(lan)?;
        let zone = place.unwrap_or(TimeZone::UTC);
        Ok(Checked { rules: self, schedule, zone })
    }
}

fn check_lan(lan: &LanRule) -> Result<(), RulesError> {
    if lan.access == Access::Open && !lan.allow.is_empty() {
        return Err(RulesError::Contradiction {
            one: "lan.access",
            other: "lan.allow",
            why: "where everything is open there are no exceptions",
        });
    }
    if lan.allow.len() > MAX_ALLOW {
        let problem = format!("write at most {MAX_ALLOW}; a range such as 192.168.1.0/24 is one");
        return Err(RulesError::value("lan.allow", problem));
    }
    Ok(())
}

fn check_consent(consent: &Consent) -> Result<(), RulesError> {
    if consent.projects.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(RulesError::Nothing { key: "consent.projects", why: "nobody's work may run" });
    }
    let Some(images) = &consent.images else { return Ok(()) };
    if images.is_empty() {
        return Err(RulesError::Nothing { key: "consent.images", why: "no image may run" });
    }
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/:@*".contains(c);
    match images.iter().find(|image| image.is_empty() || image.len() > 255 || !image.chars().all(known)) {
        Some(image) => Err(RulesError::value(
            "consent.images",
            format!("{image:?} is no pattern of image names; write e.g. \"docker.io/library/*\""),
        )),
        None => Ok(()),
    }
}

fn check_caps(caps: &Caps) -> Result<(), RulesError> {
    let nothing = |share: Option<Share>| matches!(share, Some(Share::Amount(amount)) if amount <= 0.0);
    for (key, share) in [("caps.cpu", caps.cpu), ("caps.memory", caps.memory), ("caps.disk", caps.disk)] {
        if nothing(share) {
            return Err(RulesError::Nothing { key, why: "that lends nothing" });
        }
    }
    // A core is not a byte: `4g` is no number of cores, and 4 is no memory.
    if matches!(caps.cpu, Some(Share::Amount(cores)) if cores > 4096.0) {
        return Err(RulesError::value("caps.cpu", "write cores, such as 2.5, or a share, such as \"50%\""));
    }
    for (key, share) in
        [("caps.memory", caps.memory), ("caps.disk", caps.disk), ("caps.data_per_month", caps.data_per_month)]
    {
        if matches!(share, Some(Share::Amount(bytes)) if bytes < 1_048_576.0) {
            return Err(RulesError::value(
                key,
                "write an amount with its unit, such as \"4g\"; less than 1m is nothing",
            ));
        }
    }
    if matches!(caps.data_per_month, Some(Share::Percent(_))) {
        return Err(RulesError::value("caps.data_per_month", "write an amount, such as \"50g\""));
    }
    if let Some(Gpus::Word(word)) = &caps.gpus
        && !matches!(word.as_str(), "all" | "none")
    {
        return Err(RulesError::value("caps.gpus", "write \"all\", \"none\", or a list such as [\"0\"]"));
    }
    let Bandwidth { up, down } = caps.bandwidth.unwrap_or_default().0;
    for rate in [up, down].into_iter().flatten() {
        if rate == BitRate(0) {
            return Err(RulesError::Nothing { key: "caps.bandwidth", why: "nothing would pass" });
        }
        if !(LEAST_SPEED..=MOST_SPEED).contains(&rate) {
            let problem = format!("{rate}: write a speed from {LEAST_SPEED} to {MOST_SPEED}");
            return Err(RulesError::value("caps.bandwidth", problem));
        }
    }
    match (caps.data_month_begins, caps.data_per_month) {
        (Some(_), None) => Err(RulesError::value(
            "caps.data_month_begins",
            "it counts with caps.data_per_month alone; write both or none",
        )),
        (Some(day), _) if !(1..=28).contains(&day) => Err(RulesError::value(
            "caps.data_month_begins",
            "write a day from 1 to 28, which every month has",
        )),
        _ => Ok(()),
    }
}

fn check_battery(battery: &BatteryRule) -> Result<(), RulesError> {
    let BatteryRule { run, stop_below, start_above, mains_for } = battery;
    if *run == RunOn::Mains && (stop_below.is_some() || start_above.is_some()) {
        return Err(RulesError::Contradiction {
            one: "battery.run",
            other: if stop_below.is_some() { "battery.stop_below" } else { "battery.start_above" },
            why: "on mains alone, no charge is ever asked after",
        });
    }
    if *run == RunOn::Always && mains_for.is_some() {
        return Err(RulesError::Contradiction {
            one: "battery.mains_for",
            other: "battery.run",
            why: "work that runs on battery does not wait for mains",
        });
    }
    if mains_for.is_some_and(|span| span > Span::secs(86_400)) {
        return Err(RulesError::value("battery.mains_for", "write a span of at most 24h"));
    }
    match (stop_below, start_above) {
        (None, Some(_)) => Err(RulesError::value(
            "battery.start_above",
            "it counts with battery.stop_below alone; write both",
        )),
        (Some(stop), _) if !(1..=95).contains(stop) => {
            Err(RulesError::value("battery.stop_below", "write a percentage from 1 to 95"))
        }
        (Some(stop), Some(start)) if start <= stop || *start > 100 => Err(RulesError::value(
            "battery.start_above",
            format!(
                "write a percentage above stop_below ({stop}), or work would stop and start all the time"
            ),
        )),
        _ => Ok(()),
    }
}

fn check_band(
    key: &'static str,
    band: Option<Band>,
    usual: std::ops::RangeInclusive<u32>,
    unit: &str,
) -> Result<(), RulesError> {
    let Some(Band { stop_at, start_at }) = band else { return Ok(()) };
    if start_at >= stop_at {
        let problem = format!(
            "start_at ({start_at}) must be below stop_at ({stop_at}), or work would stop and start all the time"
        );
        return Err(RulesError::value(key, problem));
    }
    if !usual.contains(&stop_at) {
        let problem =
            format!("stop_at is in {unit}; write a number from {} to {}", usual.start(), usual.end());
        return Err(RulesError::value(key, problem));
    }
    Ok(())
}

/// Rules that do not contradict themselves.
#[derive(Clone, Debug)]
pub struct Checked {
    rules: Rules,
    schedule: Option<Schedule>,
    zone: TimeZone,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.zone == other.zone
    }
}

impl Checked {
    /// As they are written.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether `now` is in the hours, and when that changes; `None` is never.
    pub fn hours(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        self.schedule.as_ref().map_or((true, None), |schedule| schedule.look(now))
    }

    /// The month of the data plan around `now`: from when to when.
    pub fn data_month(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let day = i8::try_from(self.rules.caps.data_month_begins.unwrap_or(1)).unwrap_or(1);
        let today = local_date(&self.zone, now);
        let of_month = |date: jiff::civil::Date| date.with().day(day).build().unwrap_or(date);
        let this = of_month(today);
        let begins = if today >= this { this } else { of_month(last_month(today)) };
        let next = of_month(begins.last_of_month().tomorrow().unwrap_or(begins));
        (first_at(&self.zone, begins, 0), first_at(&self.zone, next, 0))
    }

    /// How fast work may send and receive.
    pub fn bandwidth(&self) -> Bandwidth {
        self.rules.caps.bandwidth.unwrap_or_default().0
    }

    /// The most data of a month.
    pub fn data_cap(&self) -> Option<Bytes> {
        match self.rules.caps.data_per_month {
            Some(Share::Amount(bytes)) => Some(Bytes(bytes as u64)),
            _ => None,
        }
    }
}

fn last_month(date: jiff::civil::Date) -> jiff::civil::Date {
    date.first_of_month().yesterday().unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_bits_a_second_each_way_or_two_and_nothing_that_can_be_mistaken() {
        let both = Rules::parse("[caps]\nbandwidth = \"20Mbit\"").unwrap();
        let rate = Some(BitRate(20_000_000));
        assert_eq!(both.caps.bandwidth.map(|speeds| speeds.0), Some(Bandwidth { up: rate, down: rate }));
        let two = Rules::default().with("caps.bandwidth", "{ up = \"5Mbit\", down = \"50Mbit\" }").unwrap();
        assert_eq!(two.caps.bandwidth.unwrap().0.to_string(), "5Mbit up, 50Mbit down");
        let one = Rules::default().with("caps.bandwidth.up", "1Gbit").unwrap();
        assert_eq!(one.caps.bandwidth.unwrap().0.to_string(), "1Gbit up");
        for rules in [both, two, one.clone()] {
            assert_eq!(Rules::parse(&rules.to_toml()).unwrap(), rules);
            rules.check(None).unwrap();
        }
        let none = one.with("caps.bandwidth.up", "").unwrap().check(None).unwrap();
        assert!(none.bandwidth().is_unlimited());
        for wrong in ["20", "20M", "20Mbps", "\"20MB/s\"", "{ in = \"1Mbit\" }", "{ up = 5 }", "[\"1Mbit\"]"]
        {
            let error = Rules::default().with("caps.bandwidth", wrong).unwrap_err().to_string();
            assert!(error.contains("caps.bandwidth"), "{error}");
        }
        for (wrong, says) in [("0Mbit", "nothing would pass"), ("64kbit", "256kbit"), ("101Gbit", "100Gbit")]
        {
            let error = Rules::default().with("caps.bandwidth", wrong).unwrap().check(None).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn what_containers_may_reach_is_understood_and_mistakes_are_named() {
        let text = "[lan]\naccess = \"closed\"\nallow = [\"192.168.1.20:5432/tcp\", \"host:11434\"]\n";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(rules.lan.allow.len(), 2);
        assert_eq!(Rules::parse(&rules.to_toml()).unwrap(), rules);
        assert!(rules.check(None).is_ok());
        let more = Rules::default().with("lan.allow", "[\"10.0.0.0/8\"]").unwrap();
        assert_eq!(more.lan.allow.first().map(ToString::to_string).as_deref(), Some("10.0.0.0/8"));
        let wrong = Rules::parse("[lan]\nallow = [\"printer.local\"]").unwrap_err().to_string();
        assert!(wrong.contains("printer.local") && wrong.contains("line 2"), "{wrong}");
        let both =
            Rules::parse("[lan]\naccess = \"open\"\nallow = [\"host\"]").unwrap().check(None).unwrap_err();
        assert!(both.to_string().contains("lan.allow"), "{both}");
    }
}
