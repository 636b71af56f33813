//! How good nodes are: points by part, badges, and who is before whom.

use lattice_model::{NodeId, NodeName, OwnerName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What a machine is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RankClass {
    /// It has a battery.
    Laptop,
    /// It has none, and is small.
    Desktop,
    /// It is large, or a virtual machine.
    Server,
    /// It lends a GPU that containers can use.
    Gpu,
}

impl RankClass {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Laptop => "laptop",
            Self::Desktop => "desktop",
            Self::Server => "server",
            Self::Gpu => "gpu",
        }
    }
}

/// How good a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankView {
    /// From 0 to 1000.
    pub points: u16,
    /// What they are made of. On probation the points may be fewer than their sum.
    pub parts: Vec<RankPart>,
    /// With what it is compared.
    pub class: RankClass,
    /// Its place in its class, from 1; equals share one.
    pub class_place: u32,
    /// How many are in its class.
    pub class_size: u32,
    /// Its place among all.
    pub place: u32,
    /// How many there are.
    pub size: u32,
    /// What a newcomer still lacks; absent where nothing is lacking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<String>,
    /// What is held against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<RankMark>,
    /// What it has earned, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub badges: Vec<BadgeView>,
    /// What was seen of it.
    pub promises: PromisesView,
    /// What was measured, the median of the last runs; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<MeasuredView>,
    /// What placement gets, from 0 to 100 in steps of 5.
    pub placement: u8,
    /// What it gets for work that asks for GPUs, in the same steps; absent where no GPU was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_gpu: Option<u8>,
}

/// Points for one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankPart {
    /// For what: `reliability`, `performance`, `capacity`, `network`, or `gpu`, which is on top of the others.
    pub part: String,
    /// How many, rounded.
    pub points: u16,
    /// Of how many.
    pub most: u16,
    /// Why, in words.
    pub why: String,
}

/// Something that is held against a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RankMark {
    /// For programs: `made_up`, `cores` or `memory`.
    pub mark: String,
    /// What it means.
    pub why: String,
}

/// Something that a node has earned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadgeView {
    /// For programs: `kept_week`, `fastest_in_class` …
    pub badge: String,
    /// Its rule, in words.
    pub rule: String,
    /// When it was earned; absent where it is held only as long as it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// What a node promised and kept, of all time. Hours are those of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromisesView {
    /// When it was seen for the first time; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Hours that it was there.
    pub kept_hours: u64,
    /// Hours in which it was missing without a word.
    pub broken_hours: u64,
    /// Hours in which work ran there without its fault.
    pub worked_hours: u64,
    /// Hours in which it failed its work.
    pub failed_hours: u64,
    /// Days kept in a row.
    pub streak_days: u32,
    /// The most days that it ever kept in a row.
    pub best_streak_days: u32,
}

/// What was measured of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredView {
    /// When it was measured last.
    pub at: Timestamp,
    /// How often it was.
    pub runs: u32,
    /// How fast it is against the reference, which is 1.
    pub speed: f64,
    /// One core against the reference.
    pub cpu_one: f64,
    /// All cores that are lent against the reference.
    pub cpu_all: f64,
    /// How many cores it shows.
    pub cores: f64,
    /// Bytes of memory that were there when they were asked for, the most of all runs.
    pub memory_bytes: u64,
    /// Bytes of memory read and written, a second.
    pub memory_rate: u64,
    /// Bytes written to disk, a second.
    pub disk_write_rate: u64,
    /// Bytes read from disk, a second.
    pub disk_read_rate: u64,
    /// Small pieces that the disk has for sure, a second.
    pub disk_syncs: f64,
    /// There and back, in microseconds, by the server's clock.
    pub round_trip_us: u64,
    /// Bytes from it to the server, a second; absent where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_rate: Option<u64>,
    /// A GPU, drawn by chance each time; absent where none was measured lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<MeasuredGpu>,
}

/// What was measured of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredGpu {
    /// How fast it is against the reference, which is 1.
    pub speed: f64,
    /// How much it computes against the reference.
    pub compute: f64,
    /// Bytes of its memory read and written, a second.
    pub memory_rate: u64,
}

/// A node on the leaderboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankedNode {
    /// Its id.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Who lends it.
    pub owner: OwnerName,
    /// How good it is.
    pub rank: RankView,
}

/// Query of [`paths::RANKING`](crate::paths::RANKING).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RankingQuery {
    /// Of this class alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<RankClass>,
}
