//! A stack as it arrives: bounds, references, what is reserved. Pure.
//!
//! The command line has checked the Compose file already, with lines; this is for whoever speaks to
//! the API, and trusts nobody.

use super::schedules;
use lattice_api::Problem;
use lattice_model::{
    Bytes, Duration, WorkloadName,
    spec::{
        BlueGreen, Canary, DependencyCondition, GpuCount, GpuRequest, LogSpec, MAX_REPLICAS, MAX_WISHES,
        MAX_WORKLOADS, Mode, NamingSpec, PlacementSpec, ProcessSpec, RestartPolicy, SandboxSpec, Share,
        StackSpec, UpdateFailure, UpdatePolicy, UpdateStrategy, WorkloadSpec,
    },
    taint::MAX_TAINTS,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most problems that are told at once.
const MAX_PROBLEMS: usize = 50;
/// The longest text of any kind: an argument, a value of a variable.
const MAX_TEXT: usize = 128 << 10;
/// The longest span of a policy: a day.
const MAX_SPAN_MS: u64 = 86_400_000;
/// The most that is set aside of disk, in bytes, or of network, in bits a second.
const MOST_RESERVED: u64 = 1 << 50;
/// The most entries of any list or map of a service.
const MAX_ENTRIES: usize = 1000;

/// Everything that is wrong with a stack; empty when it can be planned.
pub(crate) fn problems(spec: &StackSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    if spec.workloads.is_empty() {
        found.push(Problem::at("workloads", "there is no service"));
    }
    if spec.workloads.len() > MAX_WORKLOADS {
        found.push(Problem::at(
            "workloads",
            format!("{} services are too many; at most {MAX_WORKLOADS}", spec.workloads.len()),
        ));
    }
    for (what, count) in [("volumes", spec.volumes.len()), ("networks", spec.networks.len())] {
        if count > MAX_ENTRIES {
            found.push(Problem::at(what, format!("{count} are too many; at most {MAX_ENTRIES}")));
        }
    }
    for (name, workload) in &spec.workloads {
        let mut service = Service { path: format!("workloads.{name}"), found: &mut found };
        service.check(spec, name, workload);
        if found.len() >= MAX_PROBLEMS {
            break;
        }
    }
    found.extend(cycle(spec));
    found.extend(same_ports(spec));
    found.truncate(MAX_PROBLEMS);
    found
}

struct Service<'a> {
    path: String,
    found: &'a mut Vec<Problem>,
}

impl Service<'_> {
    fn say(&mut self, at: &str, message: impl Into<String>) {
        self.found.push(Problem::at(format!("{}.{at}", self.path), message));
    }

    fn check(&mut self, stack: &StackSpec, name: &WorkloadName, workload: &WorkloadSpec) {
        let WorkloadSpec {
            image,
            pin,
            entrypoint,
            command,
            environment,
            ports,
            expose,
            mounts,
            secrets,
            networks,
            depends_on,
            healthcheck,
            restart,
            replicas,
            resources,
            labels,
            pool: _,
            stop_grace_period,
            platform,
            pull: _,
            trees,
            process,
            sandbox,
            naming,
            logs,
            gpus: _,
            rendezvous,
            array,
            schedule: _,
            restart_timing: _,
            restart_on_secret: _,
            mode,
            placement,
            update,
            rollback,
        } = workload;
        if image.is_empty() || image.len() > 512 || !image.chars().all(|c| c.is_ascii_graphic()) {
            self.say("image", "it is empty, longer than 512 characters, or has white space in it");
        }
        if let Some(pin) = pin {
            let odd = |platform: &String| {
                platform.len() > 100 || platform.split('/').count() > 3 || platform.split('/').any(bad_word)
            };
            if pin.platforms.len() > 100 || pin.platforms.iter().any(odd) {
                self.say(
                    "pin.platforms",
                    "a platform is not `os/arch` or `os/arch/variant`, or there are too many",
                );
            }
        }
        for (at, words) in [("entrypoint", entrypoint), ("command", command)] {
            if words
                .as_ref()
                .is_some_and(|words| words.len() > MAX_ENTRIES || words.iter().any(|word| bad_text(word)))
            {
                self.say(at, "a word of it is too long or has a NUL, or there are more than 1000");
            }
        }
        if environment.len() > MAX_ENTRIES
            || environment.iter().any(|(name, value)| {
                name.is_empty() || name.contains('=') || bad_text(name) || bad_text(value)
            })
        {
            self.say("environment", "a variable has no name, has `=` in its name, or is too long");
        }
        for (at, count) in [
            ("ports", ports.len()),
            ("expose", expose.len()),
            ("mounts", mounts.len()),
            ("secrets", secrets.len()),
            ("networks", networks.len()),
            ("labels", labels.len()),
            ("trees", trees.len()),
        ] {
            if count > MAX_ENTRIES {
                self.say(at, format!("{count} are too many; at most {MAX_ENTRIES}"));
            }
        }
        if let Some(label) = labels.keys().find(|label| label.to_ascii_lowercase().starts_with("lattice.")) {
            self.say(&format!("labels.{label}"), "labels that begin with `lattice.` are reserved");
        }
        if labels.iter().any(|(name, value)| name.is_empty() || bad_text(name) || bad_text(value)) {
            self.say("labels", "a label has no name or is too long");
        }
        self.ports(workload);
        self.mounts(stack, workload);
        self.process(platform.as_deref(), process, naming);
        self.sandbox(sandbox, logs);
        self.placement(workload);
        if array.is_some()
            && (*restart == RestartPolicy::Always || *mode == Mode::Global || rendezvous.is_some())
        {
            self.say(
                "array",
                "for a job that ends by itself, whose replicas are counted and do not find each other",
            );
        }
        for (at, why) in schedules::problems(workload) {
            self.say(at, why);
        }
        if rendezvous.is_some_and(|one| one.port == 0) {
            self.say("rendezvous.port", "from 1 to 65535");
        }
        if rendezvous.is_some() && *mode == Mode::Global {
            self.say("rendezvous", "not for what runs once on each node: replicas that meet are on one");
        }
        let fewer = |most: u32| most < *replicas;
        if rendezvous.is_some() && placement.max_per_node.is_some_and(fewer) {
            self.say(
                "placement.max_per_node",
                "replicas that meet are on one node: allow it all of them, or fewer replicas",
            );
        }
        for (at, policy) in [("update", Some(update)), ("rollback", rollback.as_ref())] {
            let bad = |p: &&UpdatePolicy| {
                p.max_failure_permille > 1000 || p.delay.0 > MAX_SPAN_MS || p.monitor.0 > MAX_SPAN_MS
            };
            if policy.filter(bad).is_some() {
                self.say(at, "spans are at most a day, and the failure ratio at most 1");
            }
            if let Some(policy) = policy {
                self.strategy(at, policy, workload);
            }
        }
        for network in networks.keys().filter(|network| !stack.networks.contains_key(*network)) {
            self.say(&format!("networks.{network}"), "the stack has no such network");
        }
        let strange = |alias: &&String| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            alias.is_empty() || alias.len() > 253 || !alias.chars().all(plain)
        };
        for (network, attachment) in networks {
            if attachment.aliases.len() > MAX_ENTRIES {
                self.say(&format!("networks.{network}.aliases"), "at most 1000");
            }
            if let Some(alias) = attachment.aliases.iter().find(strange) {
                self.say(
                    &format!("networks.{network}.aliases"),
                    format!("{:?} is not a name of a host: letters, digits, `-`, `_` and `.`", short(alias)),
                );
            }
        }
        for (dependency, how) in depends_on {
            match stack.workloads.get(dependency) {
                None if how.required => {
                    self.say(&format!("depends_on.{dependency}"), "the stack has no such service")
                }
                Some(other) if other.schedule.is_some() => {
                    let why = "it runs when it is due, and nothing can wait for that";
                    self.say(&format!("depends_on.{dependency}"), why);
                }
                Some(other)
                    if how.condition == DependencyCondition::ServiceCompletedSuccessfully
                        && other.restart == RestartPolicy::Always =>
                {
                    self.say(
                        &format!("depends_on.{dependency}"),
                        "it never completes, since it is always started again",
                    );
                }
                _ if dependency == name => {
                    self.say(&format!("depends_on.{dependency}"), "it waits for itself")
                }
                _ => {}
            }
        }
        if let Some(check) = healthcheck {
            let known =
                check.test.first().is_none_or(|first| ["CMD", "CMD-SHELL", "NONE"].contains(&first.as_str()));
            if !known || check.test.len() > MAX_ENTRIES || check.test.iter().any(|word| bad_text(word)) {
                self.say("healthcheck.test", "it begins with CMD, CMD-SHELL or NONE");
            }
        }
        if *replicas > MAX_REPLICAS {
            self.say("replicas", format!("{replicas} are too many; at most {MAX_REPLICAS}"));
        }
        if stop_grace_period.0 > 3_600_000 {
            self.say("stop_grace_period", "at most an hour");
        }
        let (reserved_cpu, reserved_memory) = resources.reserved();
        if resources.memory_limit.is_some_and(|limit| limit < reserved_memory) {
            self.say(
                "resources",
                format!("it reserves more memory ({reserved_memory}) than its limit allows"),
            );
        }
        if resources.cpu_limit.is_some_and(|limit| limit < reserved_cpu && resources.reserved_cpu.is_some()) {
            self.say(
                "resources",
                format!("it reserves more processor ({reserved_cpu}) than its limit allows"),
            );
        }
        let (disk, bandwidth) = resources.reserved_besides();
        if disk.0.max(bandwidth.0) > MOST_RESERVED {
            self.say("resources", "at most a pebibyte of disk, and a petabit a second of network");
        }
        // Docker's own minimum.
        if resources.memory_limit.is_some_and(|limit| limit.0 < 6 << 20) {
            self.say("resources.memory_limit", "at least 6 MiB");
        }
        if resources.pids_limit == Some(0) {
            self.say("resources.pids_limit", "at least 1");
        }
    }

    /// Whether a new version can be tried as it says.
    fn strategy(&mut self, at: &str, policy: &UpdatePolicy, workload: &WorkloadSpec) {
        let least = Duration::from_secs(10);
        if policy.deadline.is_some_and(|span| span < least || span.0 > MAX_SPAN_MS) {
            self.say(&format!("{at}.deadline"), "from ten seconds to a day");
        }
        let (bake, keep) = match policy.strategy {
            UpdateStrategy::Rolling => return,
            UpdateStrategy::Canary(Canary { first, bake, promote: _ }) => {
                if matches!(first, Share::Count(0) | Share::Percent(0 | 101..)) {
                    self.say(&format!("{at}.strategy"), "a canary is at least one replica, and at most all");
                }
                (bake, Duration(0))
            }
            UpdateStrategy::BlueGreen(BlueGreen { bake, keep, promote: _ }) => (bake, keep),
        };
        if bake.0.max(keep.0) > MAX_SPAN_MS {
            self.say(&format!("{at}.strategy"), "spans are at most a day");
        }
        if policy.on_failure == UpdateFailure::Continue {
            let text = "what is tried cannot go on whatever comes of it: `pause` or `rollback`";
            self.say(&format!("{at}.on_failure"), text);
        }
        if let Some(why) = workload.cannot_run_beside() {
            let name = policy.strategy.as_str();
            let text = format!("a new version cannot run beside the old one ({name}): {why}");
            self.say(&format!("{at}.strategy"), text);
        }
    }

    fn process(&mut self, platform: Option<&str>, process: &ProcessSpec, naming: &NamingSpec) {
        let ProcessSpec {
            user, groups, working_dir, hostname, domainname, stop_signal, oom_score_adj, ..
        } = process;
        let word =
            |text: &str| !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic());
        for (at, text) in [
            ("platform", platform),
            ("process.user", user.as_deref()),
            ("process.hostname", hostname.as_deref()),
            ("process.domainname", domainname.as_deref()),
            ("process.stop_signal", stop_signal.as_deref()),
        ] {
            if text.is_some_and(|text| !word(text)) {
                self.say(at, "it is empty, longer than 255 characters, or has white space in it");
            }
        }
        if working_dir.as_ref().is_some_and(|dir| !dir.starts_with('/') || dir.len() > 4096 || bad_text(dir))
        {
            self.say("process.working_dir", "it is no absolute path");
        }
        if groups.len() > MAX_ENTRIES || !groups.iter().all(|group| word(group)) {
            self.say("process.groups", "a group is empty or has white space in it, or there are too many");
        }
        if oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            self.say("process.oom_score_adj", "it is from -1000 to 1000");
        }
        let NamingSpec { hosts, servers, search, options } = naming;
        let count = hosts.len().max(servers.len()).max(search.len()).max(options.len());
        if count > MAX_ENTRIES
            || !hosts.iter().map(|host| &host.name).chain(search).chain(options).all(|text| word(text))
        {
            self.say("naming", "a name is empty or has white space in it, or there are too many");
        }
    }

    fn sandbox(&mut self, sandbox: &SandboxSpec, logs: &LogSpec) {
        let SandboxSpec { read_only: _, tmpfs, shm_size, ulimits, sysctls, cap_add, cap_drop } = sandbox;
        if tmpfs.len() > MAX_ENTRIES || tmpfs.iter().any(|t| !good_target(&t.target)) {
            self.say("sandbox.tmpfs", "a target is not an absolute path that can be mounted on");
        }
        if tmpfs.iter().any(|t| t.mode.is_some_and(|mode| mode > 0o7777)) {
            self.say("sandbox.tmpfs", "a mode is not of permission bits alone");
        }
        if shm_size.is_some_and(|size| size.0 == 0) {
            self.say("sandbox.shm_size", "at least 1 byte");
        }
        let word = |text: &String| {
            !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic() && c != '=')
        };
        if !ulimits.keys().chain(sysctls.keys()).chain(cap_add).chain(cap_drop).all(word)
            || sysctls.values().any(|value| bad_text(value))
            || ulimits.len().max(sysctls.len()).max(cap_add.len()).max(cap_drop.len()) > MAX_ENTRIES
        {
            self.say("sandbox", "a name is empty or has white space in it, or there are too many");
        }
        if ulimits.values().any(|u| u.soft < -1 || u.hard < -1 || (u.hard >= 0 && u.soft > u.hard)) {
            self.say("sandbox.ulimits", "a soft limit is at most its hard limit, and -1 is none");
        }
        let (size, files) = logs.bound();
        if size < Bytes::KIB || size > Bytes::GIB || !(1..=100).contains(&files) {
            self.say("logs", "files of 1 KiB to 1 GiB, and 1 to 100 of them");
        }
    }

    fn placement(&mut self, workload: &WorkloadSpec) {
        let (gpus, placement) = (workload.gpus.as_ref(), &workload.placement);
        let PlacementSpec {
            constraints,
            spread,
            max_per_node,
            priority: _,
            tolerations,
            rebalance: _,
            prefers,
            near,
            apart,
            max_skew,
            lasts: _,
            gang,
        } = placement;
        if *gang && (workload.mode == Mode::Global || workload.array.is_some_and(|array| array.parallel > 0))
        {
            self.say(
                "placement.gang",
                "a gang is placed all at once, and of these some come later than others",
            );
        }
        if prefers.len().max(near.len() + apart.len()) > MAX_WISHES {
            self.say("placement", "at most 50 preferences, and 50 others that are wanted near or apart");
        }
        let weights = near.iter().chain(apart).filter_map(|one| one.weight);
        if prefers.iter().any(|one| one.weight == 0 || !(-100..=100).contains(&one.weight))
            || weights.into_iter().any(|weight| !(1..=100).contains(&weight))
        {
            self.say("placement", "weights are 1 to 100, those of preferences also -100 to -1");
        }
        if *max_skew == Some(0) || (max_skew.is_some() && spread.is_empty()) {
            self.say("placement.max_skew", "at least 1, with an attribute to spread over");
        }
        if constraints.len().max(spread.len()) > 50 {
            self.say("placement", "at most 50 constraints and 50 attributes to spread over");
        }
        if tolerations.len() > MAX_TAINTS {
            self.say("placement.tolerations", "at most 50");
        }
        if *max_per_node == Some(0) {
            self.say("placement.max_per_node", "at least 1");
        }
        if gpus.is_some_and(|gpu| {
            gpu.count == GpuCount::Exactly(0)
                || gpu.ids.len().max(gpu.capabilities.len()) > 64
                || (gpu.ids.iter().chain(&gpu.capabilities).chain(&gpu.driver).chain(&gpu.model))
                    .any(|text| text.len() > 255)
        }) {
            self.say("gpus", "at least one GPU, and at most 64 ids and capabilities");
        }
        let odd = |gpu: &GpuRequest| {
            gpu.share.is_some_and(|share| {
                !(1..=GpuRequest::WHOLE).contains(&share) || gpu.count != GpuCount::Exactly(1)
            })
        };
        if gpus.is_some_and(odd) {
            self.say("gpus.share", "a share is of one GPU, in thousandths of it, 1 to 1000");
        }
    }

    fn ports(&mut self, workload: &WorkloadSpec) {
        for port in &workload.ports {
            if port.target.port == 0 || port.published == Some(0) {
                self.say("ports", "ports are from 1 to 65535");
            }
            if port.published_to.is_some_and(|end| port.published.is_none_or(|begin| end < begin)) {
                self.say("ports", "a range of the node's ports ends before it begins");
            }
            let alone = port.published_to.is_none();
            if let Some(published) = port.published.filter(|_| alone && workload.replicas > 1) {
                self.found.push(Problem {
                    hint: Some("leave the node's port out, so that each replica gets one of its own".into()),
                    ..Problem::at(
                        format!("{}.ports", self.path),
                        format!(
                            "port {published} of the node cannot be had by {} replicas",
                            workload.replicas
                        ),
                    )
                });
            }
        }
    }

    fn mounts(&mut self, stack: &StackSpec, workload: &WorkloadSpec) {
        let mut targets = BTreeSet::new();
        for mount in &workload.mounts {
            if !stack.volumes.contains_key(&mount.volume) {
                self.say("mounts", format!("the stack has no volume {}", mount.volume));
            }
            if !good_target(&mount.target) {
                self.say(
                    "mounts",
                    format!("{:?} is not an absolute path that can be mounted on", short(&mount.target)),
                );
            }
            if !targets.insert(mount.target.trim_end_matches('/').to_owned()) {
                self.say("mounts", format!("two things are mounted on {:?}", short(&mount.target)));
            }
        }
        for tree in &workload.trees {
            let target = short(&tree.target);
            if !good_target(&tree.target) {
                self.say("trees", format!("{target:?} is not an absolute path that can be mounted on"));
            }
            if !targets.insert(tree.target.trim_end_matches('/').to_owned()) {
                self.say("trees", format!("two things are mounted on {target:?}"));
            }
            let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
            if !tree.path.is_empty() && (bad_text(&tree.path) || !tree.path.split('/').all(plain)) {
                self.say("trees", format!("{:?} is not a path within a tree", short(&tree.path)));
            }
        }
        for secret in &workload.secrets {
            if !good_target(&secret.target) {
                self.say(
                    "secrets",
                    format!("{:?} is not an absolute path that can be mounted on", short(&secret.target)),
                );
            }
            if !targets.insert(secret.target.trim_end_matches('/').to_owned()) {
                self.say("secrets", format!("two things are mounted on {:?}", short(&secret.target)));
            }
            if secret.mode > 0o777 {
                self.say("secrets", format!("{:o} is not a mode of permission bits alone", secret.mode));
            }
        }
    }
}

fn bad_word(word: &str) -> bool {
    word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn bad_text(text: &str) -> bool {
    text.len() > MAX_TEXT || text.contains('\0')
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn good_target(path: &str) -> bool {
    let reserved = ["/proc", "/sys", "/dev"];
    path.starts_with('/')
        && path.trim_end_matches('/').len() > 1
        && path.len() <= 4096
        && !path.contains(['\0', ':', ','])
        && !path.split('/').any(|part| part == ".." || part == ".")
        && !reserved.iter().any(|root| path == *root || path.starts_with(&format!("{root}/")))
}

/// A service that would wait for itself, over others.
fn cycle(spec: &StackSpec) -> Option<Problem> {
    let mut done: BTreeSet<&WorkloadName> = BTreeSet::new();
    loop {
        let ready: Vec<_> = spec
            .workloads
            .iter()
            .filter(|(name, workload)| {
                !done.contains(name)
                    && workload
                        .depends_on
                        .keys()
                        .all(|other| done.contains(other) || !spec.workloads.contains_key(other))
            })
            .map(|(name, _)| name)
            .collect();
        if ready.is_empty() {
            break;
        }
        done.extend(ready);
    }
    let waiting: Vec<&str> =
        spec.workloads.keys().filter(|name| !done.contains(name)).map(WorkloadName::as_str).collect();
    let text = format!("these services wait for each other in a circle: {}", waiting.join(", "));
    (!waiting.is_empty()).then(|| Problem::at("workloads", text))
}

/// Ports of the node that two services want, though they have to be on the same one.
fn same_ports(spec: &StackSpec) -> Vec<Problem> {
    let mut taken: BTreeMap<(u16, &str, Option<std::net::IpAddr>), &WorkloadName> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, workload) in &spec.workloads {
        for port in &workload.ports {
            let (Some(published), None) = (port.published, port.published_to) else { continue };
            let key = (published, port.target.protocol.as_str(), port.host_ip);
            if let Some(other) = taken.insert(key, name) {
                let text = match other == name {
                    true => format!("port {published} of the node is published twice"),
                    false => format!("port {published} of the node is published by {other} too"),
                };
                found.push(Problem::at(format!("workloads.{name}.ports"), text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::spec::{Dependency, MountSpec, NetworkSpec, PortSpec, VolumeSpec};

    fn stack(services: &[(&str, WorkloadSpec)]) -> StackSpec {
        StackSpec {
            workloads: services.iter().map(|(name, spec)| (name.parse().unwrap(), spec.clone())).collect(),
            volumes: [("data".parse().unwrap(), VolumeSpec::default())].into(),
            networks: [("default".parse().unwrap(), NetworkSpec::default())].into(),
        }
    }

    fn says(spec: &StackSpec) -> String {
        problems(spec).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_good_stack_has_no_problems() {
        let mut web = WorkloadSpec::of_image("nginx");
        web.mounts.push(MountSpec {
            volume: "data".parse().unwrap(),
            target: "/data".into(),
            read_only: false,
        });
        web.networks.insert("default".parse().unwrap(), Default::default());
        assert_eq!(says(&stack(&[("web", web)])), "");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let waits = |other: &str| {
            let mut spec = WorkloadSpec::of_image("nginx");
            let how =
                Dependency { condition: DependencyCondition::ServiceStarted, required: true, restart: false };
            spec.depends_on.insert(other.parse().unwrap(), how);
            spec
        };
        let with = |change: &dyn Fn(&mut WorkloadSpec)| {
            let mut spec = WorkloadSpec::of_image("nginx");
            change(&mut spec);
            stack(&[("web", spec)])
        };
        let mount = |volume: &str, target: &str| MountSpec {
            volume: volume.parse().unwrap(),
            target: target.into(),
            read_only: false,
        };
        let port = |published| PortSpec {
            published_to: None,
            target: lattice_model::spec::ContainerPort { port: 80, protocol: Default::default() },
            published: Some(published),
            host_ip: None,
        };
        for (spec, expected) in [
            (stack(&[]), "there is no service"),
            (stack(&[("web", WorkloadSpec::of_image("no image"))]), "workloads.web.image"),
            (with(&|s| s.mounts.push(mount("other", "/x"))), "no volume other"),
            (with(&|s| s.mounts.push(mount("data", "/../etc"))), "absolute path"),
            (with(&|s| s.mounts.push(mount("data", "/proc/x"))), "absolute path"),
            (
                with(&|s| {
                    s.labels.insert("lattice.node".into(), "x".into());
                }),
                "reserved",
            ),
            (with(&|s| s.replicas = 1001), "at most 1000"),
            (
                with(&|s| {
                    (s.replicas, s.placement.max_per_node) = (2, Some(1));
                    s.rendezvous = Some(lattice_model::spec::Rendezvous { port: 4000 });
                }),
                "replicas that meet are on one node",
            ),
            (
                with(&|s| {
                    s.replicas = 2;
                    s.ports.push(port(80));
                }),
                "leave the node's port out",
            ),
            (
                with(&|s| {
                    s.networks.insert("other".parse().unwrap(), Default::default());
                }),
                "no such network",
            ),
            (
                with(&|s| {
                    let aliases = [" db\u{1b}[2J".to_owned()].into();
                    let attachment = lattice_model::spec::Attachment { aliases };
                    s.networks.insert("default".parse().unwrap(), attachment);
                }),
                "not a name of a host",
            ),
            (stack(&[("a", waits("b")), ("b", waits("a"))]), "in a circle: a, b"),
            (stack(&[("a", waits("c"))]), "no such service"),
        ] {
            let said = says(&spec);
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
    }
}
