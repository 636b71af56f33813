//! Hard exclusion: why a node cannot hold an ask.

use crate::{fleet::Kind, gpu};
use lattice_model::{
    PoolName,
    health::{ConditionKind, Reason},
    resource::{Approval, Eligibility, Node, PresenceState, Taint},
    spec::{Constraint, GpuRequest, NodeAttribute, Protocol},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeSet, fmt, net::IpAddr};

/// A port of a node that somebody has or wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortClaim {
    /// The port on the node.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address; `None` is the node's default (loopback).
    pub ip: Option<IpAddr>,
}

impl PortClaim {
    /// Whether both cannot be had at once: the same port on the same or on every address.
    pub fn collides(&self, other: &Self) -> bool {
        let everywhere = |ip: Option<IpAddr>| ip.is_some_and(|ip| ip.is_unspecified());
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(self.ip) || everywhere(other.ip))
    }
}

/// Why a node cannot hold an ask. The order is that of the counts people see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The data or the neighbours of the ask are on another node.
    Pinned,
    /// It gave the ask up, and takes it back in its own time.
    GaveUp,
    /// It waits for approval, or was rejected, revoked or quarantined.
    NotApproved,
    /// It belongs to another pool.
    Pool,
    /// Something that has to hold of it does not.
    Constraint(Constraint),
    /// It cannot run what is made for this platform.
    Platform(String),
    /// Its machine is of a kind that the image is not made for; this is what it is made for.
    Image(String),
    /// It lends too few such GPUs, or others have them; what is needed and what it has.
    Gpu(String),
    /// It has a taint that the ask does not bear.
    Taint(Taint),
    /// It is cordoned.
    Cordoned,
    /// It is being emptied.
    Draining,
    /// Its agent is too old.
    Outdated,
    /// Its owner lets nothing new run there now; what it does, and why.
    Suspended(String),
    /// The link to it is down.
    Disconnected,
    /// Its engine does not answer, or it is short of something.
    Distress(ConditionKind, Reason),
    /// It has as many replicas as one node may.
    MaxPerNode(u32),
    /// Not enough of something is left.
    Room(Kind),
    /// A published port is taken there.
    Port(u16),
    /// Nobody is near that has to be.
    NobodyNear(String),
    /// Somebody is near that may not be.
    Near(String),
    /// Somebody there wants no such neighbour.
    Unwanted,
    /// Its domain is ahead of others already; the attribute.
    Skew(String),
    /// Not even if those of lower priority made way.
    Priority,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("not where its data or neighbours are"),
            Self::GaveUp => f.write_str("gave it up"),
            Self::NotApproved => f.write_str("not approved"),
            Self::Pool => f.write_str("other pool"),
            Self::Constraint(constraint) => write!(f, "constraint {constraint}"),
            Self::Platform(platform) => write!(f, "not for {platform}"),
            Self::Image(platforms) => write!(f, "its image is for {platforms}"),
            Self::Gpu(why) => write!(f, "gpu: {why}"),
            Self::Taint(taint) => write!(f, "taint {taint}"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Draining => f.write_str("draining"),
            Self::Outdated => f.write_str("agent too old"),
            Self::Suspended(what) => f.write_str(what),
            Self::Disconnected => f.write_str("not connected"),
            Self::Distress(kind, reason) => write!(f, "{kind} {reason}"),
            Self::MaxPerNode(most) => write!(f, "has {most} replicas of it already"),
            Self::Room(kind) => write!(f, "{kind}"),
            Self::Port(port) => write!(f, "port {port} taken"),
            Self::NobodyNear(who) => write!(f, "no {who} near"),
            Self::Near(who) => write!(f, "{who} is near"),
            Self::Unwanted => f.write_str("somebody there wants no such neighbour"),
            Self::Skew(over) => write!(f, "its {over} has its share already"),
            Self::Priority => f.write_str("nobody of lower priority could make way"),
        }
    }
}

/// What has to hold of a node, whatever it has left and however it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// It is in one of these pools.
    Pools(Vec<PoolName>),
    /// This holds.
    Constraint(Constraint),
    /// It runs what is made for this, as `os/arch`.
    Platform(String),
    /// It runs what is made for one of these; empty is not known.
    Image(BTreeSet<String>),
    /// It lends these GPUs, an entry for each container, of which the constraints hold.
    Gpus(Vec<GpuRequest>, Vec<Constraint>),
}

impl Rule {
    /// Why it does not hold of a node, if it does not.
    pub fn refuses(&self, node: &Node) -> Option<Refusal> {
        match self {
            Self::Pools(pools) => (!pools.contains(&node.pool)).then_some(Refusal::Pool),
            Self::Constraint(constraint) => {
                (!holds(constraint, node)).then(|| Refusal::Constraint(constraint.clone()))
            }
            Self::Platform(platform) => (!runs(platform, node)).then(|| Refusal::Platform(platform.clone())),
            Self::Image(platforms) => {
                let suits = platforms.is_empty() || platforms.iter().any(|platform| runs(platform, node));
                let list = || platforms.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                (!suits).then(|| Refusal::Image(list()))
            }
            Self::Gpus(requests, constraints) => {
                gpu::unsuitable(requests, constraints, node).map(Refusal::Gpu)
            }
        }
    }
}

/// Why `node` is no place whatever it has left and however it is doing: what stays there although it is,
/// has to move.
pub fn unsuitable(rules: &[Rule], node: &Node) -> Option<Refusal> {
    rules.iter().find_map(|rule| rule.refuses(node))
}

/// Why a node takes nothing new at present, whatever it is; of approval see [`Refusal::NotApproved`].
pub(crate) fn closed(node: &Node) -> Option<Refusal> {
    match node.eligibility {
        Eligibility::Eligible => {}
        Eligibility::Cordoned => return Some(Refusal::Cordoned),
        Eligibility::Draining => return Some(Refusal::Draining),
        Eligibility::Outdated => return Some(Refusal::Outdated),
    }
    if !node.standing.takes_work() {
        return Some(Refusal::Suspended(node.standing.in_words()));
    }
    if node.presence.state != PresenceState::Connected {
        return Some(Refusal::Disconnected);
    }
    node.distress().map(|condition| Refusal::Distress(condition.kind, condition.reason))
}

/// Whether a node belongs to the cluster.
pub(crate) fn approved(node: &Node) -> bool {
    node.approval == Approval::Approved
}

/// What of a node has a value, as text; none where it lacks it.
pub fn value<'n>(node: &'n Node, attribute: &NodeAttribute) -> Option<Cow<'n, str>> {
    Some(match attribute {
        NodeAttribute::Id => node.id.to_string().into(),
        NodeAttribute::Name => node.name.as_str().into(),
        NodeAttribute::Os => node.facts.os.as_str().into(),
        NodeAttribute::Arch => node.facts.arch.as_str().into(),
        NodeAttribute::Pool => node.pool.as_str().into(),
        NodeAttribute::Owner => node.owner.as_str().into(),
        NodeAttribute::Lan => node.facts.machine.lan.as_str().into(),
        NodeAttribute::Label(key) => node.label(key)?.into(),
        NodeAttribute::Cpu => node.capacity.cpu.to_string().into(),
        NodeAttribute::Memory => node.capacity.memory.0.to_string().into(),
        NodeAttribute::Disk => node.capacity.disk.0.to_string().into(),
        NodeAttribute::Engine => Some(node.facts.engine_version.as_str()).filter(|v| !v.is_empty())?.into(),
        NodeAttribute::Agent => Some(node.facts.agent_version.as_str()).filter(|v| !v.is_empty())?.into(),
        NodeAttribute::Battery => if node.facts.machine.battery { "yes" } else { "no" }.into(),
        NodeAttribute::GpuModel | NodeAttribute::GpuMemory | NodeAttribute::GpuCount => {
            gpu::attribute(node, attribute)
        }
    })
}

/// The one name of an architecture, as the machine or as Docker names it.
fn architecture(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "amd64" | "x86-64" => "x86_64".into(),
        "arm64" | "armv8" => "aarch64".into(),
        other => other.into(),
    }
}

/// Whether a constraint holds of a node.
pub fn holds(constraint: &Constraint, node: &Node) -> bool {
    let gpu = matches!(
        constraint.attribute,
        NodeAttribute::GpuModel | NodeAttribute::GpuMemory | NodeAttribute::GpuCount
    );
    if gpu {
        return gpu::node_holds(constraint, node);
    }
    let alike =
        |a: &str, b: &str| constraint.attribute == NodeAttribute::Arch && architecture(a) == architecture(b);
    constraint.holds(value(node, &constraint.attribute).as_deref(), alike)
}

/// Whether a node runs what is made for `os/arch[/variant]`. Containers are Linux's on every machine;
/// an x86-64 processor runs 32-bit programs too.
fn runs(platform: &str, node: &Node) -> bool {
    let mut parts = platform.split('/');
    let (os, arch) = (parts.next().unwrap_or_default(), parts.next());
    let machine = architecture(&node.facts.arch);
    os.eq_ignore_ascii_case("linux")
        && arch.is_none_or(|arch| {
            let arch = architecture(arch);
            arch == machine || (machine == "x86_64" && matches!(arch.as_str(), "386" | "i386" | "x86"))
        })
}
