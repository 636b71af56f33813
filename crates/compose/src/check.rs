//! What only the whole file shows: names that lead nowhere, services that wait for each other
//! in a circle, ports that two want.

use crate::{
    ports::collide,
    problem::{Code, show},
    read::Reader,
    scalar::nearest,
    service::{Draft, Placed},
    service_parts::DEFAULT_NETWORK,
    stack::{Networks, Volumes},
};
use lattice_model::{
    NetworkName, WorkloadName,
    spec::{Dependency, DependencyCondition, PortSpec, Protocol, RestartPolicy, StackSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Checks the services against each other and puts the stack together.
pub(crate) fn stack(
    reader: &mut Reader<'_>,
    mut drafts: Vec<Draft>,
    volumes: &Volumes,
    networks: &Networks,
    off: &BTreeMap<String, Vec<String>>,
    spec: &mut StackSpec,
) {
    for draft in &drafts {
        for mount in &draft.mounts {
            let name = &mount.value.volume;
            match volumes.get(name) {
                Some((_, volume)) => drop(spec.volumes.insert(name.clone(), volume.clone())),
                None => unknown(
                    reader,
                    mount,
                    "volume",
                    name.as_str(),
                    volumes.keys().map(|n| n.as_str()),
                    "volumes",
                ),
            }
        }
        for used in &draft.networks {
            let name = &used.value;
            match networks.get(name) {
                Some((_, network)) => drop(spec.networks.insert(name.clone(), network.clone())),
                // It exists without being declared.
                None if name.as_str() == DEFAULT_NETWORK => {
                    drop(spec.networks.insert(name.clone(), Default::default()))
                }
                None => unknown(
                    reader,
                    used,
                    "network",
                    name.as_str(),
                    networks.keys().map(|n| n.as_str()),
                    "networks",
                ),
            }
        }
    }
    // A mount that was refused says nothing about its volume.
    if !reader.problems.failed() && off.is_empty() {
        unused(
            reader,
            "volumes",
            volumes.iter().filter(|(n, _)| !spec.volumes.contains_key(*n)).map(|(n, v)| (n.as_str(), v.0)),
        );
        unused(
            reader,
            "networks",
            networks.iter().filter(|(n, _)| !spec.networks.contains_key(*n)).map(|(n, v)| (n.as_str(), v.0)),
        );
    }
    dependencies(reader, &mut drafts, off);
    cycles(reader, &drafts);
    ports(reader, &drafts);
    names(reader, &mut drafts);
    spec.workloads = drafts.into_iter().map(|d| (d.name, d.spec)).collect();
}

/// Further names: `container_name`, and the aliases of `links`.
fn names(reader: &mut Reader<'_>, drafts: &mut [Draft]) {
    let mut held: BTreeMap<String, u32> = BTreeMap::new();
    for draft in drafts.iter_mut() {
        let Some(at) = draft.container_name.take() else { continue };
        if let Some(first) = held.insert(at.value.clone(), at.span.line) {
            let message = format!("`{}` names another container already, on line {first}", show(&at.value));
            reader.error(Code::Conflict, at.span, &at.path, message, "Choose another name");
        }
        if at.value != draft.name.as_str() {
            for attachment in draft.spec.networks.values_mut() {
                attachment.aliases.insert(at.value.clone());
            }
        }
    }
    let links: Vec<_> = drafts
        .iter()
        .flat_map(|d| {
            let networks: Vec<NetworkName> = d.spec.networks.keys().cloned().collect();
            d.links.iter().filter_map(move |link| {
                let (name, alias) = &link.value;
                Some((name.clone(), alias.clone()?, networks.clone()))
            })
        })
        .collect();
    for (name, alias, networks) in links {
        let Some(target) = drafts.iter_mut().find(|d| d.name == name) else { continue };
        for network in networks {
            if let Some(attachment) = target.spec.networks.get_mut(&network) {
                attachment.aliases.insert(alias.clone());
            }
        }
    }
}

fn unknown<'c, T>(
    reader: &mut Reader<'_>,
    at: &Placed<T>,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'c str>,
    top: &str,
) {
    let near = if reader.problems.is_full() { None } else { nearest(name, known) };
    let hint = match near {
        Some(near) => format!("Did you mean `{near}`?"),
        None => format!("Add `{}:` under the top-level `{top}`", show(name)),
    };
    let message = format!("there is no {what} `{}` in the file", show(name));
    reader.error(Code::Reference, at.span, &at.path, message, hint);
}

fn unused<'n>(reader: &mut Reader<'_>, top: &str, names: impl Iterator<Item = (&'n str, crate::yaml::Span)>) {
    for (name, span) in names {
        let message = "no service uses it; it is not created";
        reader.problems.warn(
            Code::Ignored,
            span,
            format!("{top}.{name}"),
            message,
            "Remove it, or use it in a service",
        );
    }
}

fn dependencies(reader: &mut Reader<'_>, drafts: &mut [Draft], off: &BTreeMap<String, Vec<String>>) {
    let health_off: BTreeSet<WorkloadName> = drafts
        .iter()
        .filter(|d| d.spec.healthcheck.as_ref().is_some_and(|h| h.test.first().is_some_and(|t| t == "NONE")))
        .map(|d| d.name.clone())
        .collect();
    let names: BTreeSet<WorkloadName> = drafts.iter().map(|d| d.name.clone()).collect();
    let mut completes = BTreeMap::new();
    for draft in drafts.iter_mut() {
        for at in &draft.depends_on {
            let (name, Dependency { condition, required, restart: _ }) = &at.value;
            if !names.contains(name) {
                if *required && let Some(profiles) = off.get(name.as_str()) {
                    let message = format!("the service `{name}` is in a profile that is not selected");
                    let profile = profiles.first().map(|p| show(p)).unwrap_or_default();
                    let hint = format!("Select it by `--profile {profile}`, or write `required: false`");
                    reader.error(Code::Reference, at.span, &at.path, message, hint);
                } else if *required {
                    let full = reader.problems.is_full();
                    let near =
                        if full { None } else { nearest(name.as_str(), names.iter().map(|n| n.as_str())) };
                    let hint = match near {
                        Some(near) => format!("Did you mean `{near}`?"),
                        None => "Add the service, or remove the dependency".into(),
                    };
                    let message = format!("there is no service `{name}` in the file");
                    reader.error(Code::Reference, at.span, &at.path, message, hint);
                } else if off.contains_key(name.as_str()) {
                    draft.spec.depends_on.remove(name);
                } else {
                    draft.spec.depends_on.remove(name);
                    let message =
                        format!("there is no service `{name}`, and it is not required; nothing waits for it");
                    reader.problems.warn(
                        Code::Ignored,
                        at.span,
                        &at.path,
                        message,
                        "Remove it, or add the service",
                    );
                }
                continue;
            }
            match condition {
                DependencyCondition::ServiceStarted => {}
                DependencyCondition::ServiceHealthy if health_off.contains(name) => {
                    let message =
                        format!("it waits for `{name}` to be healthy, whose health check is switched off");
                    reader.error(
                        Code::Conflict,
                        at.span,
                        &at.path,
                        message,
                        "Give that service a health check, or wait for service_started",
                    );
                }
                DependencyCondition::ServiceHealthy => {}
                DependencyCondition::ServiceCompletedSuccessfully => {
                    drop(completes.insert(name.clone(), at.clone()))
                }
            }
        }
    }
    for draft in drafts {
        let Some(at) = completes.get(&draft.name) else { continue };
        match (draft.restart, draft.spec.restart) {
            // Somebody waits for its end, so it is a job: Compose's own default, `no`, is what
            // its writer relied on.
            (None, _) => draft.spec.restart = RestartPolicy::Never,
            (Some(_), RestartPolicy::Always) => {
                let message = format!(
                    "it waits for `{}` to complete, which is started again whenever it ends",
                    draft.name
                );
                let hint = format!("Write `restart: on-failure` or `restart: \"no\"` on `{}`", draft.name);
                reader.error(Code::Conflict, at.span, &at.path, message, hint);
            }
            (Some(_), RestartPolicy::Never | RestartPolicy::OnFailure { .. }) => {}
        }
    }
}

fn cycles(reader: &mut Reader<'_>, drafts: &[Draft]) {
    let index: BTreeMap<&WorkloadName, usize> =
        drafts.iter().enumerate().map(|(i, d)| (&d.name, i)).collect();
    // 0 unseen, 1 on the way, 2 done.
    let mut state = vec![0u8; drafts.len()];
    for start in 0..drafts.len() {
        if state[start] > 0 {
            continue;
        }
        // The way from the start: a service and the next of its dependencies to look at.
        let mut way = vec![(start, 0)];
        state[start] = 1;
        while let Some((at, next)) = way.last_mut() {
            let here = &drafts[*at];
            let Some(edge) = here.depends_on.get(*next) else {
                state[*at] = 2;
                way.pop();
                continue;
            };
            *next += 1;
            let Some(&to) = index.get(&edge.value.0) else { continue };
            match state[to] {
                0 => {
                    state[to] = 1;
                    way.push((to, 0));
                }
                1 => {
                    let from = way.iter().position(|(i, _)| *i == to).unwrap_or(0);
                    let mut names: Vec<&str> =
                        way[from..].iter().map(|(i, _)| drafts[*i].name.as_str()).collect();
                    names.push(drafts[to].name.as_str());
                    if names.len() > 20 {
                        let cut = names.len() - 3;
                        names.splice(10..cut, ["…"]);
                    }
                    let message = format!("services wait for each other in a circle: {}", names.join(" → "));
                    reader.error(
                        Code::Conflict,
                        edge.span,
                        &edge.path,
                        message,
                        "Remove one of these dependencies",
                    );
                }
                _ => {}
            }
        }
    }
}

fn ports(reader: &mut Reader<'_>, drafts: &[Draft]) {
    // The first of each address; found by address, since a file may hold a hundred thousand.
    type Holders<'d> = BTreeMap<Option<IpAddr>, (usize, &'d Placed<PortSpec>)>;
    let any = [None, Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
    let mut taken: BTreeMap<(Protocol, u16), Holders<'_>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let mut free: BTreeSet<&PortSpec> = BTreeSet::new();
        for port in &draft.ports {
            let PortSpec { target, published, published_to, host_ip } = &port.value;
            // Of a range the node takes a free one, as without a port.
            let Some(published) = published.filter(|_| published_to.is_none()) else {
                if !free.insert(&port.value) {
                    let message =
                        format!("the container's port {} is published twice in the same way", target.port);
                    reader.error(Code::Conflict, port.span, &port.path, message, "Remove one of the two");
                }
                continue;
            };
            if draft.spec.replicas > 1 {
                let message = format!(
                    "{} replicas cannot all publish the node's port {published}: a port of a node belongs to one container",
                    draft.spec.replicas
                );
                let hint = format!(
                    "Leave the node's port out (`- \"{}\"`) for a free port per replica, or publish one service in front of them",
                    target.port
                );
                reader.error(Code::Conflict, port.span, &port.path, message, hint);
            }
            let holders = taken.entry((target.protocol, published)).or_default();
            let exact = holders.get(host_ip).or_else(|| {
                let wide = any.iter().filter(|ip| collide(**ip, *host_ip)).find_map(|ip| holders.get(ip));
                let is_wide = any.contains(host_ip);
                wide.or_else(|| holders.values().find(|(_, p)| is_wide && collide(p.value.host_ip, *host_ip)))
            });
            if let Some((other, first)) = exact {
                let whose = if *other == index {
                    "this service".to_owned()
                } else {
                    format!("the service `{}`", drafts[*other].name)
                };
                let message = format!(
                    "the node's port {published}/{} is published already by {whose} on line {}",
                    target.protocol.as_str(),
                    first.span.line
                );
                reader.error(
                    Code::Conflict,
                    port.span,
                    &port.path,
                    message,
                    "Choose another port, or leave the node's port out",
                );
            }
            holders.entry(*host_ip).or_insert((index, port));
        }
    }
}
