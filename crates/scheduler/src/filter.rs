//! Hard exclusion: why a node cannot hold an ask.

use crate::pick::{Ask, Candidate};
use lattice_model::{
    resource::{Approval, Eligibility, PresenceState},
    spec::Protocol,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

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

/// Why a node cannot hold an ask. The order is that of the checks, and of the counts people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The data or the neighbours of the ask are on another node.
    Pinned,
    /// It waits for approval, or was rejected, revoked or quarantined.
    NotApproved,
    /// It belongs to another pool.
    Pool,
    /// It is cordoned.
    Cordoned,
    /// Its agent is too old.
    Outdated,
    /// The link to it is down.
    Disconnected,
    /// Not enough processor is left.
    Cpu,
    /// Not enough memory is left.
    Memory,
    /// A published port is taken there.
    Port(u16),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("not where its data or neighbours are"),
            Self::NotApproved => f.write_str("not approved"),
            Self::Pool => f.write_str("other pool"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Outdated => f.write_str("agent too old"),
            Self::Disconnected => f.write_str("not connected"),
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Port(port) => write!(f, "port {port} taken"),
        }
    }
}

/// The first reason against `node`, or none.
pub(crate) fn refuse(ask: &Ask, node: &Candidate<'_>) -> Option<Refusal> {
    if ask.pinned.is_some_and(|pinned| pinned != node.node.id) {
        return Some(Refusal::Pinned);
    }
    if node.node.approval != Approval::Approved {
        return Some(Refusal::NotApproved);
    }
    if node.node.pool != ask.pool {
        return Some(Refusal::Pool);
    }
    match node.node.eligibility {
        Eligibility::Eligible => {}
        Eligibility::Cordoned => return Some(Refusal::Cordoned),
        Eligibility::Outdated => return Some(Refusal::Outdated),
    }
    if node.node.presence.state != PresenceState::Connected {
        return Some(Refusal::Disconnected);
    }
    if ask.cpu > node.free_cpu {
        return Some(Refusal::Cpu);
    }
    if ask.memory > node.free_memory {
        return Some(Refusal::Memory);
    }
    let taken = |claim: &&PortClaim| node.ports.iter().any(|taken| taken.collides(claim));
    ask.ports.iter().find(taken).map(|claim| Refusal::Port(claim.port))
}
