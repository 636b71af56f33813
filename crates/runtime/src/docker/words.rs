//! The model's words into Docker's, and Docker's back. Here stands what hardens a container.

use crate::{checks::limited, error::Result, port::EngineInfo};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, EndpointSettings, HealthConfig,
    HealthStatusEnum, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    NetworkingConfig, PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum, SystemInfo,
};
use lattice_model::{
    Bytes, Duration, Timestamp,
    container::{ContainerConfig, ContainerId, ContainerMount, ContainerSeen, ContainerState, MountSource},
    report::{Health, PublishedPort},
    spec::{ContainerPort, HealthCheck, Protocol},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whole seconds, rounded up, as Docker counts grace periods.
pub(super) fn whole_seconds(span: Duration) -> i32 {
    i32::try_from(span.0.div_ceil(1000)).unwrap_or(i32::MAX)
}

/// The request that makes a container, attached to the first `networks` of its networks; the
/// others have to be connected afterwards.
pub(super) fn create_body(config: &ContainerConfig, networks: usize) -> Result<ContainerCreateBody> {
    let ContainerConfig {
        name: _,
        image,
        entrypoint,
        command,
        environment,
        labels,
        mounts,
        networks: attached,
        ports,
        healthcheck,
        cpu_limit,
        memory_limit,
        pids_limit,
        capabilities,
        stop_grace_period,
        platform: _,
        process: _,
        sandbox: _,
        naming: _,
        logs: _,
        gpus: _,
    } = config;
    limited(config)?;
    let memory = i64::try_from(memory_limit.0).unwrap_or(i64::MAX);
    let host = HostConfig {
        // Hardened: no privileges, none that can be gained, no restart that Lattice did not decide.
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities.iter().cloned().collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..Default::default() }),
        // Limits, always. Swap is memory and swap together, so the same number is no swap.
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(cpu_limit.0) * 1_000_000),
        pids_limit: Some(i64::from(*pids_limit)),
        // A log that cannot fill the disk. Zombies are left to the image: Docker's `init` needs a
        // program that Debian's docker.io does not install.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                [("max-size", "10m"), ("max-file", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ),
        }),
        mounts: Some(mounts.iter().map(mount).collect()),
        port_bindings: Some(port_map(ports)),
        network_mode: Some(attached.keys().next().cloned().unwrap_or_else(|| "none".to_owned())),
        ..Default::default()
    };
    let exposed: BTreeSet<String> = ports.iter().map(|port| port_key(port.target)).collect();
    Ok(ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint: entrypoint.clone(),
        cmd: command.clone(),
        env: Some(environment.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(labels.clone().into_iter().collect()),
        exposed_ports: Some(exposed.into_iter().collect()),
        healthcheck: healthcheck.as_ref().map(health_config),
        stop_timeout: Some(i64::from(whole_seconds(*stop_grace_period))),
        host_config: Some(host),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(
                attached
                    .iter()
                    .take(networks)
                    .map(|(name, aliases)| (name.clone(), endpoint(aliases)))
                    .collect(),
            ),
        }),
        ..Default::default()
    })
}

/// How a container is attached to one network.
pub(super) fn endpoint(aliases: &BTreeSet<String>) -> EndpointSettings {
    EndpointSettings { aliases: Some(aliases.iter().cloned().collect()), ..Default::default() }
}

fn mount(mount: &ContainerMount) -> Mount {
    let common =
        Mount { target: Some(mount.target.clone()), read_only: Some(mount.read_only), ..Default::default() };
    match &mount.source {
        MountSource::Volume(name) => Mount {
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions { no_copy: Some(false), ..Default::default() }),
            ..common
        },
        // A mount, not a `bind`: a missing file then is an error and not a new folder of root's.
        MountSource::SecretFile(path) | MountSource::Tree(path) => {
            Mount { source: Some(path.clone()), typ: Some(MountType::BIND), read_only: Some(true), ..common }
        }
    }
}

fn port_key(port: ContainerPort) -> String {
    format!("{}/{}", port.port, port.protocol.as_str())
}

fn port_map(ports: &[PublishedPort]) -> PortMap {
    let mut map: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        map.entry(port_key(port.target)).or_default().get_or_insert_default().push(PortBinding {
            host_ip: Some(port.host_ip.to_string()),
            host_port: Some(port.host_port.to_string()),
        });
    }
    map
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

fn health_config(check: &HealthCheck) -> HealthConfig {
    let nanos = |span: Option<Duration>| {
        span.map(|span| i64::try_from(span.0).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    };
    HealthConfig {
        test: Some(check.test.clone()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.map(i64::from),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
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
    })
}

/// What the engine is, by its `/info` and its API version.
pub(super) fn engine_info(info: SystemInfo, api_version: String) -> EngineInfo {
    let options = info.security_options.unwrap_or_default();
    let os = info.os_type.unwrap_or_default();
    let system = format!(
        "{} {}",
        info.operating_system.unwrap_or_default(),
        info.kernel_version.unwrap_or_default().to_ascii_lowercase()
    );
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        api_version,
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
    }
}

/// Docker's filter for one label.
pub(super) fn label_filter(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

/// A map as Docker's types want it.
pub(super) fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_docker_are_read() {
        assert_eq!(instant("2024-01-02T03:04:05.678901234Z"), Some(Timestamp(1_704_164_645_678)));
        assert_eq!(instant("0001-01-01T00:00:00Z"), None);
        assert_eq!(instant(""), None);
    }
}
