//! From an allocation to a container: the only way in which one is made.

use crate::{
    policy::{NodePolicy, capabilities},
    words::SecretFile,
};
use lattice_model::{
    AllocationId, Goal, GoalAllocation, NodeId, WorkloadKey,
    container::{
        ContainerConfig, ContainerMount, LABEL_ALLOCATION, LABEL_NODE, LABEL_PROJECT, LABEL_STACK,
        LABEL_WORKLOAD, MountSource,
    },
    report::PublishedPort,
    spec::{PortSpec, TreeMount},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

/// Where dynamic ports are chosen: below Linux's ephemeral range, above what people choose.
pub const DYNAMIC_PORTS: RangeInclusive<u16> = 20_000..=32_000;

/// Where the agent keeps what it mounts into containers, by absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// In memory: secrets.
    pub secrets: String,
    /// On disk: trees, each under its digest.
    pub trees: String,
}

/// What the container of `allocation` is made from.
pub fn container_config(
    node: NodeId,
    id: AllocationId,
    allocation: &GoalAllocation,
    goal: &Goal,
    policy: &NodePolicy,
    ports: &[PublishedPort],
    folders: &Folders,
) -> ContainerConfig {
    let GoalAllocation { workload, slot, spec, volumes, networks, .. } = allocation;
    let mut labels = spec.labels.clone();
    labels.extend([
        (LABEL_NODE.to_owned(), node.to_string()),
        (LABEL_ALLOCATION.to_owned(), id.to_string()),
        (LABEL_WORKLOAD.to_owned(), workload.to_string()),
        (LABEL_STACK.to_owned(), workload.stack_key().to_string()),
        (LABEL_PROJECT.to_owned(), workload.project.to_string()),
    ]);
    let volume_mounts = spec.mounts.iter().filter_map(|mount| {
        let volume = volumes.get(&mount.volume)?;
        let name = goal.volumes.get(volume)?.engine_name(*volume);
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        Some(ContainerMount { source: MountSource::Volume(name), target, read_only })
    });
    let secret_mounts = spec.secrets.iter().enumerate().map(|(i, mount)| ContainerMount {
        source: MountSource::SecretFile(secret_path(&folders.secrets, id, i)),
        target: mount.target.clone(),
        read_only: true,
    });
    let tree_mounts = spec.trees.iter().map(|mount| ContainerMount {
        source: MountSource::Tree(tree_path(&folders.trees, mount)),
        target: mount.target.clone(),
        read_only: true,
    });
    let attached = spec.networks.iter().filter_map(|(name, attachment)| {
        let network = networks.get(name)?;
        let engine_name = goal.networks.get(network)?.engine_name(*network);
        let mut aliases: BTreeSet<String> = attachment.aliases.clone();
        aliases.insert(workload.workload.to_string());
        aliases.insert(format!("{}-{slot}", workload.workload));
        Some((engine_name, aliases))
    });
    ContainerConfig {
        name: format!("{}{}", name_prefix(workload, *slot), id.short()),
        image: spec.engine_image(),
        entrypoint: spec.entrypoint.clone(),
        command: spec.command.clone(),
        environment: spec.environment.clone(),
        labels,
        mounts: volume_mounts.chain(secret_mounts).chain(tree_mounts).collect(),
        networks: attached.collect::<BTreeMap<_, _>>(),
        ports: ports.to_vec(),
        healthcheck: spec.healthcheck.clone(),
        cpu_limit: spec.resources.cpu_limit.unwrap_or(policy.cpu).min(policy.cpu),
        memory_limit: spec.resources.memory_limit().min(policy.memory),
        pids_limit: spec.resources.pids_limit(),
        capabilities: capabilities(&spec.sandbox),
        stop_grace_period: spec.stop_grace_period,
        platform: spec.platform.clone(),
        process: spec.process.clone(),
        sandbox: spec.sandbox.clone(),
        naming: spec.naming.clone(),
        logs: spec.logs,
        gpus: spec.gpus.clone(),
        // The shell knows how, when it makes the container.
        gpu_access: None,
    }
}

/// What the names of all containers of one slot begin with.
pub(crate) fn name_prefix(workload: &WorkloadKey, slot: u32) -> String {
    format!("lattice_{}_{}_{slot}_", workload.stack, workload.workload)
}

fn tree_path(dir: &str, mount: &TreeMount) -> String {
    let TreeMount { tree, path, .. } = mount;
    if path.is_empty() { format!("{dir}/{tree}") } else { format!("{dir}/{tree}/{path}") }
}

fn secret_path(dir: &str, id: AllocationId, index: usize) -> String {
    format!("{dir}/{id}/{index}")
}

/// The files that must be in memory before the container starts. A secret whose value is not
/// known is the error.
pub(crate) fn secret_files(
    id: AllocationId,
    allocation: &GoalAllocation,
    dir: &str,
) -> Result<Vec<SecretFile>, String> {
    let file = |(i, mount): (usize, &lattice_model::spec::SecretMount)| {
        let value = allocation.secrets.get(&mount.secret).ok_or_else(|| {
            format!(
                "secret {0} is not given to this node: it does not exist (`lattice secret set {0}` sets it), or the node's pool is not trusted with secrets",
                mount.secret
            )
        })?;
        let (mode, uid, gid) = (mount.mode, mount.uid, mount.gid);
        Ok(SecretFile { path: secret_path(dir, id, i), mode, uid, gid, value: value.clone() })
    };
    allocation.spec.secrets.iter().enumerate().map(file).collect()
}

/// Ports for `wanted`: what was chosen before where it still answers to the wish, else the number
/// asked for, else a free one, of the range where one was asked for. One that was `refused` is
/// tried again only when there is no other.
pub(crate) fn assign_ports(
    wanted: &[PortSpec],
    before: &[PublishedPort],
    taken: &BTreeSet<u16>,
    refused: &BTreeSet<u16>,
    random: &mut dyn FnMut() -> u128,
) -> Vec<PublishedPort> {
    let mut taken = taken.clone();
    let mut assigned: Vec<PublishedPort> = Vec::with_capacity(wanted.len());
    for port in wanted {
        let host_ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let kept = before.iter().find(|p| {
            p.target == port.target
                && p.host_ip == host_ip
                && choice(port).is_none_or(|range| range.contains(&p.host_port))
                && !assigned.contains(p)
        });
        let host_port = match (fixed(port), kept) {
            (Some(number), _) => number,
            (None, Some(kept)) => kept.host_port,
            (None, None) => free_port(choice(port).unwrap_or(DYNAMIC_PORTS), &taken, refused, random),
        };
        taken.insert(host_port);
        assigned.push(PublishedPort { target: port.target, host_ip, host_port });
    }
    assigned
}

/// The one port on the node that is asked for, if it is one.
pub(crate) fn fixed(port: &PortSpec) -> Option<u16> {
    let range = choice(port)?;
    (range.start() == range.end()).then_some(*range.start())
}

/// The ports on the node that are asked for, where any are.
fn choice(port: &PortSpec) -> Option<RangeInclusive<u16>> {
    let first = port.published?;
    Some(first..=port.published_to.unwrap_or(first).max(first))
}

fn free_port(
    range: RangeInclusive<u16>,
    taken: &BTreeSet<u16>,
    refused: &BTreeSet<u16>,
    random: &mut dyn FnMut() -> u128,
) -> u16 {
    let (begin, size) = (u32::from(*range.start()), u32::from(range.end() - range.start()) + 1);
    // The remainder is below `size`, so it fits.
    let first = u32::try_from(random() % u128::from(size)).unwrap_or(0);
    let candidates = (0..size).filter_map(|i| u16::try_from(begin + (first + i) % size).ok());
    let free = || candidates.clone().filter(|port| !taken.contains(port));
    free().find(|port| !refused.contains(port)).or_else(|| free().next()).unwrap_or(*range.start())
}
