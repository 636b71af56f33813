//! Which workloads of a stack must share a node: those that share a network, a volume or a
//! dependency, until a mesh carries traffic between nodes.

use lattice_model::{WorkloadName, resource::Workload};
use std::collections::BTreeMap;

/// The groups, each in order of name; a workload with nothing in common is a group of its own.
pub(crate) fn groups<'a>(workloads: impl IntoIterator<Item = &'a Workload>) -> Vec<Vec<&'a Workload>> {
    let workloads: Vec<&Workload> = workloads.into_iter().collect();
    let index: BTreeMap<&WorkloadName, usize> =
        workloads.iter().enumerate().map(|(i, w)| (&w.key.workload, i)).collect();
    let mut parent: Vec<usize> = (0..workloads.len()).collect();
    let mut first_user: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (i, workload) in workloads.iter().enumerate() {
        let networks = workload.spec.networks.keys().map(|n| ("network", n.as_str()));
        let volumes = workload.spec.mounts.iter().map(|m| ("volume", m.volume.as_str()));
        for shared in networks.chain(volumes) {
            let first = *first_user.entry(shared).or_insert(i);
            join(&mut parent, first, i);
        }
        for dependency in workload.spec.depends_on.keys() {
            if let Some(&other) = index.get(dependency) {
                join(&mut parent, other, i);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<&Workload>> = BTreeMap::new();
    for (i, workload) in workloads.iter().enumerate() {
        groups.entry(root(&mut parent, i)).or_default().push(workload);
    }
    groups.into_values().collect()
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// The smaller index becomes the root, so that a group is found under its first member.
fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b)] = a.min(b);
}
