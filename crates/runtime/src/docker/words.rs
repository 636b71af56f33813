//! Docker's words into the model's.

use crate::{error::RuntimeError, port::EngineInfo};
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum, PortMap, SystemInfo, SystemVersion,
};
use lattice_model::{
    Bytes, Timestamp,
    container::{ContainerId, ContainerSeen, ContainerState, labelled_bridge},
    report::{Health, PublishedPort},
    spec::{ContainerPort, Protocol},
};
use std::collections::{BTreeMap, HashMap};

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// The name of its bridge, told by its labels: rules of the host's firewall hold for it from its first moment on.
pub(super) fn bridge_options(
    labels: &BTreeMap<String, String>,
    attempt: u8,
) -> BTreeMap<&'static str, String> {
    labelled_bridge(labels, attempt).map(|name| (BRIDGE_NAME, name)).into_iter().collect()
}

/// Whether a network was refused for the name of its bridge. An engine whose disk was full as it made a network says
/// so to whoever makes it again, until it is restarted: it forgot the network and remembers the bridge
/// (moby, `failed to update bridge store`).
pub(super) fn is_bridge_taken(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Refused { message, .. } if message.contains("networks have same bridge name"))
}

/// The interface that a network has on the engine's host: as it was asked for, else as Docker names it by itself.
pub(super) fn bridge_of(driver: Option<&str>, options: &HashMap<String, String>, id: &str) -> Option<String> {
    let own = || id.get(..12).map(|id| format!("br-{id}"));
    options.get(BRIDGE_NAME).cloned().or_else(own).filter(|_| driver.is_none_or(|driver| driver == "bridge"))
}

fn ports_of(map: PortMap) -> Vec<PublishedPort> {
    let mut ports: Vec<_> = map
        .into_iter()
        .filter_map(|(key, bindings)| {
            let (port, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
            let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
            Some((ContainerPort { port: port.parse().ok()?, protocol }, bindings?))
        })
        .flat_map(|(target, bindings)| {
            bindings.into_iter().filter_map(move |binding| {
                Some(PublishedPort {
                    target,
                    host_ip: binding.host_ip?.parse().ok()?,
                    host_port: binding.host_port?.parse().ok()?,
                })
            })
        })
        .collect();
    ports.sort();
    ports
}

/// Docker's RFC 3339 times; its year 1 means never.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    (at > 0).then_some(Timestamp(at))
}

/// A container as it was inspected; `None` when the answer lacks its id or state.
pub(super) fn seen(inspected: ContainerInspectResponse) -> Option<ContainerSeen> {
    let (raw, config) = (inspected.state?, inspected.config.unwrap_or_default());
    let state = match raw.status? {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => ContainerState::Running,
        ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
        // Restarting is a pause of Docker's own policy, which is `no` here: it has ended.
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::RESTARTING => ContainerState::Exited,
        ContainerStateStatusEnum::DEAD
        | ContainerStateStatusEnum::REMOVING
        | ContainerStateStatusEnum::EMPTY => ContainerState::Dead,
    };
    let health = match raw.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Health::None,
    };
    let name = inspected.name.unwrap_or_default();
    Some(ContainerSeen {
        id: ContainerId(inspected.id?),
        name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state,
        health,
        started_at: raw.started_at.as_deref().and_then(instant),
        finished_at: raw.finished_at.as_deref().and_then(instant),
        exit_code: if state == ContainerState::Exited { raw.exit_code } else { None },
        out_of_memory: raw.oom_killed.unwrap_or(false),
        error: raw.error.filter(|error| !error.is_empty()),
        ports: inspected.host_config.and_then(|host| host.port_bindings).map(ports_of).unwrap_or_default(),
        // Of the log, which is another question.
        last_words: None,
    })
}

/// What the engine is, by its `/info` and its API version.
pub(super) fn engine_info(info: SystemInfo, version: SystemVersion) -> EngineInfo {
    let limits = [("memory", info.memory_limit), ("cpu", info.cpu_cfs_quota), ("pids", info.pids_limit)];
    let podman = version.components.iter().flatten().any(|part| part.name.starts_with("Podman"));
    let options = info.security_options.unwrap_or_default();
    let os = info.os_type.unwrap_or_default();
    let system = format!(
        "{} {}",
        info.operating_system.unwrap_or_default(),
        info.kernel_version.unwrap_or_default().to_ascii_lowercase()
    );
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        podman,
        // What it does not mention it may well do; without it creation fails and says so.
        missing_limits: limits.iter().filter(|(_, has)| *has == Some(false)).map(|(name, _)| *name).collect(),
        arch: match info.architecture.unwrap_or_default().as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        },
        cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        memory: Bytes(info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)),
        data_root: info.docker_root_dir.unwrap_or_default(),
        rootless: options.iter().any(|option| option.contains("rootless")),
        cgroup_version: info.cgroup_version.and_then(|version| version.to_string().parse().ok()),
        in_vm_guess: os != std::env::consts::OS
            || system.contains("Docker Desktop")
            || ["linuxkit", "microsoft", "orbstack"].iter().any(|kernel| system.contains(kernel)),
        security_options: options,
        os,
        storage_driver: info.driver.unwrap_or_default(),
        // containerd's own names for runc are no choice of a person's.
        runtimes: info
            .runtimes
            .unwrap_or_default()
            .into_keys()
            .filter(|name| !name.starts_with("io."))
            .collect(),
        default_runtime: info.default_runtime.unwrap_or_default(),
        cdi_dirs: info.cdi_spec_dirs.unwrap_or_default(),
    }
}

/// Docker's filter for one label.
pub(super) fn label_filter(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_fit_says_why() {
        let of = |info: serde_json::Value, part: &str| {
            let version =
                serde_json::json!({ "ApiVersion": "1.41", "Components": [{ "Name": part, "Version": "1" }] });
            engine_info(serde_json::from_value(info).unwrap(), serde_json::from_value(version).unwrap())
                .unfit()
        };
        let info = |memory: bool, options: &[&str]| {
            serde_json::json!({
                "OSType": "linux", "ServerVersion": "4.3.1", "MemoryLimit": memory, "CpuCfsQuota": true,
                "PidsLimit": true, "SecurityOptions": options,
            })
        };
        assert_eq!(of(info(true, &["name=seccomp"]), "Engine"), None);
        assert_eq!(of(info(true, &["name=rootless"]), "Engine"), None, "without root it may well be fit");
        assert!(of(info(true, &[]), "Podman Engine").unwrap().contains("Podman 4.3.1"));
        let delegate = of(info(false, &["name=rootless"]), "Engine").unwrap();
        assert!(delegate.contains("memory") && delegate.contains("Delegate="), "{delegate}");
        assert!(!of(info(false, &[]), "Engine").unwrap().contains("Delegate="));
        assert!(of(serde_json::json!({ "OSType": "windows" }), "Engine").unwrap().contains("windows"));
    }

    #[test]
    fn times_of_docker_are_read() {
        assert_eq!(instant("2024-01-02T03:04:05.678901234Z"), Some(Timestamp(1_704_164_645_678)));
        assert_eq!(instant("0001-01-01T00:00:00Z"), None);
        assert_eq!(instant(""), None);
    }
}
