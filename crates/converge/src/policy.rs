//! What the machine's owner allows, checked on the node whatever the server says.

use lattice_model::{Bytes, Cpu, GoalAllocation, ProjectName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::IpAddr};

/// The owner's word. There is no default: somebody must choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePolicy {
    /// The most processor that one container may use.
    pub cpu: Cpu,
    /// The most memory that one container may use.
    pub memory: Bytes,
    /// Whether ports may be published beyond loopback.
    pub publish_beyond_loopback: bool,
    /// Whose work may run here; `None` is everybody's of this control plane.
    pub projects: Option<BTreeSet<ProjectName>>,
}

impl NodePolicy {
    /// Why this allocation must not run here, or nothing.
    pub fn refuse(&self, allocation: &GoalAllocation) -> Option<String> {
        if let Some(projects) = &self.projects
            && !projects.contains(&allocation.workload.project)
        {
            return Some(format!(
                "the owner of this machine does not run work of project {}",
                allocation.workload.project
            ));
        }
        let resources = &allocation.spec.resources;
        if let Some(limit) = resources.memory_limit.filter(|limit| *limit > self.memory) {
            return Some(format!("it may use {limit} of memory and the owner lends {}", self.memory));
        }
        if let Some(limit) = resources.cpu_limit.filter(|limit| *limit > self.cpu) {
            return Some(format!("it may use {limit} processors and the owner lends {}", self.cpu));
        }
        let beyond = |ip: &IpAddr| !ip.is_loopback();
        let port = allocation.spec.ports.iter().find(|port| port.host_ip.as_ref().is_some_and(beyond));
        match port {
            Some(port) if !self.publish_beyond_loopback => Some(format!(
                "it publishes port {} beyond loopback and the owner of this machine does not allow that",
                port.target.port
            )),
            _ => None,
        }
    }
}
