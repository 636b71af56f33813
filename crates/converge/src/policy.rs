//! What the machine's owner allows, checked on the node whatever the server says.

use lattice_model::{
    Bytes, Cpu, GoalAllocation, ProjectName,
    spec::{
        DEFAULT_CAPABILITIES, GpuRequest, ImagePin, ImageSource, SandboxSpec, ULIMITS, Ulimit, WorkloadSpec,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Settings of the kernel that belong to a container's own namespaces, by their full name.
const OWN_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The same, by how they begin. Every container has a network of its own, so all of `net.` is.
const OWN_SYSCTL_FAMILIES: [&str; 2] = ["net.", "fs.mqueue."];

/// Whether containers get a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuOffer {
    /// The owner lends it, and a container has seen it.
    Given,
    /// They do not, and why.
    Kept(String),
}

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
    /// Which images may run here, as patterns in which `*` is any run of characters; `None` is any.
    pub images: Option<BTreeSet<String>>,
    /// Capabilities that a container may have besides the usual ones, without `CAP_`.
    pub capabilities: BTreeSet<String>,
    /// The most of each limit of the kernel, -1 for any; one that is not named may be any.
    pub ulimits: BTreeMap<String, i64>,
    /// The GPUs of the machine and the instances that some are cut into, by their ids.
    pub gpus: BTreeMap<String, GpuOffer>,
    /// The least `oom_score_adj`: nothing here outlives the agent when memory is short.
    pub oom_score_adj: i16,
    /// The most that the output of one container may take on disk.
    pub logs: Bytes,
}

impl NodePolicy {
    /// The most output that is kept of one container where the owner says nothing.
    pub const DEFAULT_LOGS: Bytes = Bytes::from_mib(1024);

    /// So much is lent to everybody, on loopback alone, with nothing that weakens the walls.
    pub fn lending(cpu: Cpu, memory: Bytes) -> Self {
        Self {
            cpu,
            memory,
            publish_beyond_loopback: false,
            projects: None,
            images: None,
            capabilities: BTreeSet::new(),
            ulimits: Self::usual_ulimits(),
            gpus: BTreeMap::new(),
            oom_score_adj: 0,
            logs: Self::DEFAULT_LOGS,
        }
    }

    /// As many files as Docker gives, and nothing that runs before everybody else's work. Memory and
    /// processes are bounded by the container's own limits.
    pub fn usual_ulimits() -> BTreeMap<String, i64> {
        [("nofile", 1_048_576), ("nice", 20), ("rtprio", 0)]
            .map(|(name, most)| (name.to_owned(), most))
            .into()
    }

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
        let spec = &allocation.spec;
        if let Some(images) = &self.images
            && let Some(name) = refuse_image(images, spec)
        {
            return Some(format!(
                "the owner of this machine does not run the image {name} (consent.images in rules.toml)"
            ));
        }
        if let Some(limit) = spec.resources.memory_limit.filter(|limit| *limit > self.memory) {
            return Some(format!("it may use {limit} of memory and the owner lends {}", self.memory));
        }
        if let Some(limit) = spec.resources.cpu_limit.filter(|limit| *limit > self.cpu) {
            return Some(format!("it may use {limit} processors and the owner lends {}", self.cpu));
        }
        let beyond = |ip: &IpAddr| !ip.is_loopback();
        let port = spec.ports.iter().find(|port| port.host_ip.as_ref().is_some_and(beyond));
        if let Some(port) = port.filter(|_| !self.publish_beyond_loopback) {
            return Some(format!(
                "it publishes port {} beyond loopback and the owner of this machine does not allow that",
                port.target.port
            ));
        }
        if let Some(adj) = spec.process.oom_score_adj.filter(|adj| *adj < self.oom_score_adj) {
            return Some(format!(
                "oom_score_adj {adj} would let it outlive the agent when memory is short; the least here is {}",
                self.oom_score_adj
            ));
        }
        let (size, files) = spec.logs.bound();
        if size.0.saturating_mul(u64::from(files)) > self.logs.0 {
            return Some(format!(
                "it wants {files} log files of {size} kept and the owner allows {} for each container (max_log in agent.toml)",
                self.logs
            ));
        }
        self.refuse_sandbox(&spec.sandbox).or_else(|| self.refuse_gpus(spec.gpus.as_ref()?))
    }

    fn refuse_sandbox(&self, sandbox: &SandboxSpec) -> Option<String> {
        let usual = |name: &str| DEFAULT_CAPABILITIES.contains(&name);
        let capability =
            sandbox.cap_add.iter().find(|name| !usual(name) && !self.capabilities.contains(*name));
        if let Some(name) = capability {
            return Some(format!(
                "the owner of this machine does not allow the capability {name} (allow_capabilities in agent.toml)"
            ));
        }
        if let Some(name) = sandbox.sysctls.keys().find(|name| !is_own_sysctl(name)) {
            return Some(format!(
                "sysctl {name} belongs to the whole machine, not to a container; {} can be set",
                "net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem"
            ));
        }
        sandbox.ulimits.iter().find_map(|(name, limit)| self.refuse_ulimit(name, *limit))
    }

    fn refuse_ulimit(&self, name: &str, Ulimit { soft, hard }: Ulimit) -> Option<String> {
        let over = |value: i64, most: i64| most >= 0 && (value < 0 || value > most);
        if !ULIMITS.contains(&name) {
            return Some(format!("ulimit {name} is none of the kernel's; those are {}", ULIMITS.join(", ")));
        }
        if over(soft, hard) {
            return Some(format!("ulimit {name}: its soft limit {soft} is above its hard limit {hard}"));
        }
        let most = self.ulimits.get(name).copied().unwrap_or(-1);
        over(hard, most).then(|| {
            format!(
                "ulimit {name} of {hard} is above the {most} that the owner of this machine allows (max_ulimits in agent.toml)"
            )
        })
    }

    /// The server names each GPU, as it knows who has which.
    fn refuse_gpus(&self, request: &GpuRequest) -> Option<String> {
        if request.ids.is_empty() {
            return Some(
                "it asks for GPUs and the server names none: the server is older than this agent".into(),
            );
        }
        request.ids.iter().find_map(|id| match self.gpus.get(id) {
            Some(GpuOffer::Given) => None,
            Some(GpuOffer::Kept(why)) => Some(format!("it is to have the GPU {id}, and {why}")),
            None => Some(format!("it is to have the GPU {id}, and this machine has no such GPU")),
        })
    }
}

impl NodePolicy {
    /// Why no image of this project is built here that begins from these others; nothing where it may be. What is
    /// built counts as uploaded, and is judged when it is to run.
    pub fn refuse_build(&self, project: &ProjectName, bases: &BTreeSet<String>) -> Option<String> {
        if let Some(projects) = &self.projects
            && !projects.contains(project)
        {
            return Some(format!("the owner of this machine does not run work of project {project}"));
        }
        let images = self.images.as_ref()?;
        let foreign = |base: &&String| !images.iter().any(|pattern| is_image(pattern, base));
        let base = bases.iter().find(foreign)?;
        Some(format!(
            "the owner of this machine does not run the image {}, which is built from (consent.images in rules.toml)",
            whole_name(base)
        ))
    }
}

/// The image's name in the owner's eyes, unless he runs it. What an uploaded image is called proves nothing, as whoever
/// uploads it chooses that: it counts as `uploaded/NAME`, or by its id. Neither does a name that the engine would
/// take for the id of any image that it has.
fn refuse_image(images: &BTreeSet<String>, spec: &WorkloadSpec) -> Option<String> {
    if let Some(ImagePin { from: ImageSource::Server, digest, .. }) = &spec.pin {
        let names = [format!("uploaded/{}", spec.image), digest.to_string()];
        let runs = images.iter().any(|pattern| names.iter().any(|name| matches(pattern, name)));
        let [name, _] = names;
        return (!runs).then_some(name);
    }
    let id = spec.image.strip_prefix("sha256:").unwrap_or(&spec.image);
    if spec.pin.is_none() && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(format!("{}, which may be an id: with a tag it is a name", spec.image));
    }
    let runs = images.iter().any(|pattern| is_image(pattern, &spec.image));
    (!runs).then(|| whole_name(&spec.image))
}

/// The whole name of an image, as Docker completes it: `nginx` is `docker.io/library/nginx`.
fn whole_name(image: &str) -> String {
    let registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    match image.split_once('/') {
        Some((first, _)) if registry(first) => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// Whether a pattern means an image: its whole name, with or without tag and digest.
fn is_image(pattern: &str, image: &str) -> bool {
    let whole = whole_name(image);
    let without_digest = whole.split_once('@').map_or(whole.as_str(), |(name, _)| name);
    // A colon before the last slash is a port.
    let path = without_digest.rfind('/').unwrap_or(0);
    let name = without_digest[path..].find(':').map_or(without_digest, |at| &without_digest[..path + at]);
    [whole.as_str(), without_digest, name].iter().any(|text| matches(pattern, text))
}

/// Whether a text is what a pattern says, in which `*` is any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn is_own_sysctl(name: &str) -> bool {
    // The kernel takes a slash for a dot and the other way round: `net/../kernel` must not pass.
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let family = |family: &str| name.strip_prefix(family).is_some_and(|rest| !rest.is_empty());
    plain
        && !name.contains("..")
        && (OWN_SYSCTLS.contains(&name) || OWN_SYSCTL_FAMILIES.into_iter().any(family))
}

/// What a container keeps: the usual ones and what it asks for besides, without what it drops.
pub(crate) fn capabilities(sandbox: &SandboxSpec) -> BTreeSet<String> {
    let SandboxSpec { cap_add, cap_drop, .. } = sandbox;
    let usual = DEFAULT_CAPABILITIES.iter().filter(|_| !cap_drop.contains("ALL")).map(ToString::to_string);
    let mut all: BTreeSet<String> = usual.chain(cap_add.iter().cloned()).collect();
    all.retain(|name| !cap_drop.contains(name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_built_begins_from_images_that_the_owner_runs() {
        let mut policy = NodePolicy::lending(Cpu(1000), Bytes(1 << 30));
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let bases = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(policy.refuse_build(&one, &bases(&["x"])), None);
        policy.projects = Some([ProjectName::default_project(), "one".parse().unwrap()].into());
        assert!(policy.refuse_build(&other, &bases(&[])).unwrap().contains("project other"));
        policy.images = Some(["docker.io/library/*".to_owned()].into());
        assert_eq!(policy.refuse_build(&one, &bases(&["busybox:1", "node"])), None);
        let refused = policy.refuse_build(&one, &bases(&["busybox", "ghcr.io/x/y:1"])).unwrap();
        assert!(refused.contains("ghcr.io/x/y:1"), "{refused}");
    }

    #[test]
    fn images_are_known_by_their_whole_name() {
        for (pattern, image, is) in [
            ("docker.io/library/*", "nginx:1", true),
            ("docker.io/library/nginx", "nginx:1@sha256:abc", true),
            ("docker.io/library/nginx:1", "nginx:1@sha256:abc", true),
            ("docker.io/library/nginx:2", "nginx:1", false),
            ("docker.io/me/*", "me/app", true),
            ("docker.io/me/*", "evil.example/docker.io/me/app", false),
            ("registry.local:5000/a", "registry.local:5000/a:2", true),
            ("registry.local:5000/*", "registry.local/a", false),
            ("*/app*", "ghcr.io/me/app:1", true),
            ("ghcr.io/*/app", "ghcr.io/app", false),
            ("*", "anything", true),
            ("localhost/x", "localhost/x", true),
        ] {
            assert_eq!(is_image(pattern, image), is, "{pattern} {image}");
        }
    }

    #[test]
    fn capabilities_add_up() {
        let of = |add: &[&str], drop: &[&str]| {
            capabilities(&SandboxSpec { cap_add: names(add), cap_drop: names(drop), ..Default::default() })
        };
        assert_eq!(of(&[], &[]), names(&DEFAULT_CAPABILITIES));
        assert_eq!(of(&["NET_ADMIN", "CHOWN"], &["ALL"]), names(&["NET_ADMIN", "CHOWN"]));
        assert_eq!(of(&["CHOWN"], &["ALL", "CHOWN"]), names(&[]), "what it does without wins");
        assert!(!of(&[], &["KILL"]).contains("KILL"));
    }

    #[test]
    fn only_settings_of_its_own_namespaces_are_a_containers() {
        for name in
            ["net.core.somaxconn", "net.ipv4.ip_unprivileged_port_start", "kernel.sem", "fs.mqueue.msg_max"]
        {
            assert!(is_own_sysctl(name), "{name}");
        }
        for name in [
            "kernel.core_pattern",
            "vm.overcommit_memory",
            "net.",
            "net/../kernel",
            "net...kernel.x",
            "fs.file-max",
        ] {
            assert!(!is_own_sysctl(name), "{name}");
        }
    }
}
