//! What a machine can do, as its agent found it: told when it registers, in each hello, and when it
//! changes. For people, for placement by labels and GPUs, never for authorisation.
//!
//! Lists are bounded where they enter the server ([`MachineFacts::bounded`]).

mod gpu;

pub use gpu::{GpuFacts, GpuInstance, GpuState, GpuUnit, GpuVendor};

use crate::{
    time::Timestamp,
    unit::{BitRate, Bytes},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The label that [`MachineFacts::region`] counts as.
pub const LABEL_REGION: &str = "region";
/// The label that [`MachineFacts::site`] counts as.
pub const LABEL_SITE: &str = "site";

/// How many entries a list of facts may have.
const MAX_LIST: usize = 64;
/// How many characters a fact may have.
const MAX_FACT: usize = 128;
/// How many one that tells what to do may have.
const LONG_FACT: usize = 400;

/// What a machine can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct MachineFacts {
    /// Cores with circuits of their own; 0 where that is not told.
    pub cores: u32,
    /// What the processor can do beyond its architecture, by the kernel's names, of those that programs
    /// ask for: `avx2`, `aes`, `vmx` …
    pub cpu_features: BTreeSet<String>,
    /// Its disks.
    pub disks: Vec<DiskFacts>,
    /// What it runs in: `none` on bare metal, `kvm`, `vmware`, `wsl` …; empty where that is not known.
    pub virtualization: String,
    /// The container engine.
    pub engine: EngineFacts,
    /// Its GPUs.
    pub gpus: Vec<GpuFacts>,
    /// Its way to the server, as it was measured last.
    pub network: Option<NetworkFacts>,
    /// Whether it has a battery.
    pub battery: bool,
    /// Where it is, by its owner's word.
    pub region: Option<String>,
    /// Where in the region it is, by its owner's word.
    pub site: Option<String>,
    /// Labels by its owner. Those that an operator gives outrank them.
    pub labels: BTreeMap<String, String>,
    /// Whether containers reach its owner's network.
    pub lan: LanState,
    /// How much of its network is lent at most.
    pub bandwidth: Bandwidth,
}

/// The most of a machine's network that its owner lends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Bandwidth {
    /// To others, in bits a second; absent where that has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<BitRate>,
    /// From others, in bits a second; absent where that has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<BitRate>,
}

impl Bandwidth {
    /// Whether nothing is limited.
    pub const fn is_unlimited(&self) -> bool {
        self.up.is_none() && self.down.is_none()
    }
}

impl fmt::Display for Bandwidth {
    /// `20Mbit each way`, `5Mbit up, 50Mbit down`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.up, self.down) {
            (None, None) => f.write_str("not limited"),
            (Some(up), Some(down)) if up == down => write!(f, "{up} each way"),
            (Some(up), Some(down)) => write!(f, "{up} up, {down} down"),
            (Some(up), None) => write!(f, "{up} up"),
            (None, Some(down)) => write!(f, "{down} down"),
        }
    }
}

/// Whether containers on a machine reach its owner's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LanState {
    /// They do not, but for what the owner allows.
    Closed,
    /// They do, by the owner's word.
    Open,
    /// They would: it cannot be closed here, so nothing runs.
    Unfenced,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

impl LanState {
    /// As it is written in tables and JSON, and asked for as `node.lan`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Unfenced => "unfenced",
            Self::Unknown => "unknown",
        }
    }
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DiskFacts {
    /// As the kernel names it: `nvme0n1`.
    pub name: String,
    /// What it is.
    pub kind: DiskKind,
    /// All of it.
    pub size: Bytes,
    /// What is free on the file system that is mounted from it, the engine's where there are several;
    /// absent where nothing is mounted. As of the report: a change of it alone is not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<Bytes>,
    /// Where that file system is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Whether the container engine keeps its data there.
    pub engine: bool,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// Flash behind NVMe.
    Nvme,
    /// Flash behind something slower.
    Ssd,
    /// It turns.
    Hdd,
    /// A memory card.
    Card,
    /// A disk of a virtual machine: what is below it cannot be seen.
    Virtual,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

impl DiskKind {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
            Self::Card => "card",
            Self::Virtual => "virtual",
            Self::Unknown => "unknown",
        }
    }
}

/// The container engine, as far as it matters to what it can run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct EngineFacts {
    /// Whether it runs without root's rights.
    pub rootless: bool,
    /// 1 or 2; 0 where it does not say.
    pub cgroup: u8,
    /// Whether it lives in a virtual machine of its own.
    pub in_vm: bool,
    /// How it keeps layers: `overlay2` …
    pub storage: String,
    /// What can run a container there, by the engine's names: `runc`, `runsc` (gVisor), `nvidia`, `kata` …
    pub runtimes: BTreeSet<String>,
    /// The one that runs what asks for none.
    pub default_runtime: String,
}

/// The way to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NetworkFacts {
    /// There and back, the shortest of several, in microseconds.
    pub round_trip_us: u64,
    /// To the machine, in bytes a second; absent where it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<Bytes>,
    /// From the machine, in bytes a second; absent where it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<Bytes>,
    /// Whether each byte costs its owner something, by his word.
    pub metered: bool,
    /// When, by the machine's clock.
    pub at: Timestamp,
}

impl MachineFacts {
    /// What of its GPUs is handed out, in their order.
    pub fn gpu_units(&self) -> Vec<GpuUnit<'_>> {
        self.gpus.iter().flat_map(GpuFacts::units).collect()
    }

    /// What of its network may be promised, in each of both ways: what its owner lends and no more than the link carried
    /// when it was measured last. `None` where neither is known of a way.
    pub fn promised_bandwidth(&self) -> Option<BitRate> {
        let measured = |way: fn(&NetworkFacts) -> Option<Bytes>| {
            self.network.as_ref().and_then(way).map(|bytes| BitRate(bytes.0.saturating_mul(8)))
        };
        let least = |lent: Option<BitRate>, measured: Option<BitRate>| lent.into_iter().chain(measured).min();
        let up = least(self.bandwidth.up, measured(|network| network.up))?;
        let down = least(self.bandwidth.down, measured(|network| network.down))?;
        Some(up.min(down))
    }

    /// Without what changes by itself all the time: two machines that are alike in this need no report.
    #[must_use]
    pub fn steady(&self) -> Self {
        let mut steady = self.clone();
        steady.disks.iter_mut().for_each(|disk| disk.free = None);
        steady
    }

    /// The label of this name that its owner gave, region and site among them.
    pub fn label(&self, key: &str) -> Option<&str> {
        let own = match key {
            LABEL_REGION => self.region.as_deref(),
            LABEL_SITE => self.site.as_deref(),
            _ => None,
        };
        own.or_else(|| self.labels.get(key).map(String::as_str))
    }

    /// The same, cut to what a row may hold: an agent is not believed to be modest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let Self {
            cores: _,
            cpu_features,
            disks,
            virtualization,
            engine,
            gpus,
            network: _,
            battery: _,
            region,
            site,
            labels,
            lan: _,
            bandwidth: _,
        } = &mut self;
        let EngineFacts { rootless: _, cgroup: _, in_vm: _, storage, runtimes, default_runtime } = engine;
        [virtualization, storage, default_runtime].into_iter().for_each(fact);
        region.iter_mut().chain(site.iter_mut()).for_each(fact);
        set(cpu_features);
        set(runtimes);
        *labels = std::mem::take(labels).into_iter().take(MAX_LIST).map(|(k, v)| (cut(k), cut(v))).collect();
        disks.truncate(MAX_LIST);
        for DiskFacts { name, kind: _, size: _, free: _, mount, engine: _ } in disks {
            fact(name);
            mount.iter_mut().for_each(fact);
        }
        gpus.truncate(MAX_LIST);
        gpus.iter_mut().for_each(GpuFacts::bound);
        self
    }
}

/// For one line of a table: bounded, without control characters.
fn fact(text: &mut String) {
    *text = cut(std::mem::take(text));
}

fn long_fact(text: &mut String, most: usize) {
    *text = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
}

fn cut(text: String) -> String {
    text.chars().take(MAX_FACT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn set(words: &mut BTreeSet<String>) {
    *words = std::mem::take(words).into_iter().take(MAX_LIST).map(cut).collect();
}

impl fmt::Display for DiskFacts {
    /// `nvme0n1: 931.5 GiB nvme, 120 GiB free at /, the engine's`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.size, self.kind.as_str())?;
        if let (Some(free), Some(mount)) = (&self.free, &self.mount) {
            write!(f, ", {free} free at {mount}")?;
        }
        if self.engine { f.write_str(", the engine's") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immodest_agent_is_cut_short() {
        let facts = MachineFacts {
            cpu_features: (0..1000).map(|n| n.to_string()).collect(),
            disks: vec![DiskFacts { name: "x".repeat(9999), ..DiskFacts::default() }; 500],
            gpus: vec![GpuFacts { why: Some("a\u{1b}[31m".into()), ..GpuFacts::default() }; 500],
            labels: (0..500).map(|n| (n.to_string(), "v".repeat(9999))).collect(),
            region: Some("r\n".repeat(500)),
            ..MachineFacts::default()
        };
        let bounded = facts.bounded();
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.len() < 64 << 10, "{}", text.len());
        assert!(!text.contains("\\u001b") && !text.contains("\\n"), "{text}");
        assert_eq!((bounded.disks.len(), bounded.gpus.len(), bounded.labels.len()), (64, 64, 64));
    }

    #[test]
    fn facts_of_an_older_or_newer_agent_are_read() {
        let read = |text: &str| serde_json::from_str::<MachineFacts>(text).unwrap();
        assert_eq!(read("{}"), MachineFacts::default());
        let newer = read(r#"{"disks":[{"name":"a","kind":"holographic","spin":7}],"aura":true}"#);
        assert_eq!(newer.disks[0].kind, DiskKind::Unknown);
    }

    #[test]
    fn what_is_known_of_the_network_is_promised_and_the_slower_way_counts() {
        let facts = |up: Option<u64>, down: Option<u64>, measured: Option<(u64, u64)>| MachineFacts {
            bandwidth: Bandwidth { up: up.map(BitRate), down: down.map(BitRate) },
            network: measured.map(|(up, down)| NetworkFacts {
                up: Some(Bytes(up)),
                down: Some(Bytes(down)),
                ..NetworkFacts::default()
            }),
            ..MachineFacts::default()
        };
        for (up, down, measured, promised) in [
            (None, None, None, None),
            (Some(80), None, None, None),
            (Some(80), Some(90), None, Some(80)),
            (None, None, Some((5, 4)), Some(32)),
            (Some(80), Some(16), Some((5, 4)), Some(16)),
            (Some(24), None, Some((5, 4)), Some(24)),
        ] {
            assert_eq!(facts(up, down, measured).promised_bandwidth(), promised.map(BitRate));
        }
    }

    #[test]
    fn what_only_drifts_is_no_news() {
        let disk = |free| DiskFacts { name: "sda".into(), free: Some(Bytes(free)), ..DiskFacts::default() };
        let facts = |free| MachineFacts { disks: vec![disk(free)], ..MachineFacts::default() };
        assert_eq!(facts(1).steady(), facts(2).steady());
        assert_ne!(facts(1).steady(), MachineFacts::default());
    }

    #[test]
    fn owners_words_are_labels() {
        let facts = MachineFacts {
            region: Some("eu".into()),
            labels: [("disk".to_owned(), "ssd".to_owned()), ("region".to_owned(), "x".to_owned())].into(),
            ..MachineFacts::default()
        };
        assert_eq!(
            (facts.label("region"), facts.label("disk"), facts.label("site")),
            (Some("eu"), Some("ssd"), None)
        );
    }
}
