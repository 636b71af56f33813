//! The model's words into Docker's: the request that makes a container. Here stands what hardens it.

use crate::{checks::limited, error::Result};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, PortMap,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use lattice_model::{
    Bytes, Duration,
    container::{ContainerConfig, ContainerMount, GpuAccess, MountSource},
    report::PublishedPort,
    spec::{
        ContainerPort, GpuCount, GpuRequest, HealthCheck, NamingSpec, ProcessSpec, SandboxSpec, TmpfsSpec,
        Ulimit,
    },
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
        mounts: _,
        networks: attached,
        ports,
        healthcheck,
        cpu_limit: _,
        memory_limit: _,
        pids_limit: _,
        capabilities: _,
        stop_grace_period,
        // In the request's address.
        platform: _,
        process,
        sandbox: _,
        naming: _,
        logs: _,
        gpus: _,
        gpu_access: _,
    } = config;
    limited(config)?;
    let ProcessSpec {
        user,
        groups: _,
        working_dir,
        hostname,
        domainname,
        init: _,
        tty,
        stdin_open,
        stop_signal,
        oom_score_adj: _,
    } = process;
    let exposed: BTreeSet<String> = ports.iter().map(|port| port_key(port.target)).collect();
    Ok(ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint: entrypoint.clone(),
        cmd: command.clone(),
        env: Some(environment.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(labels.clone().into_iter().collect()),
        exposed_ports: Some(exposed.into_iter().collect()),
        healthcheck: healthcheck.as_ref().map(health_config),
        user: user.clone(),
        working_dir: working_dir.clone(),
        hostname: hostname.clone(),
        domainname: domainname.clone(),
        tty: Some(*tty),
        open_stdin: Some(*stdin_open),
        stop_signal: stop_signal.clone(),
        stop_timeout: Some(i64::from(whole_seconds(*stop_grace_period))),
        host_config: Some(host_config(config)),
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

fn host_config(config: &ContainerConfig) -> HostConfig {
    let ContainerConfig { mounts, networks, ports, process, sandbox, naming, logs, .. } = config;
    let SandboxSpec { read_only, tmpfs, shm_size, ulimits, sysctls, cap_add: _, cap_drop: _ } = sandbox;
    let NamingSpec { hosts, servers, search, options } = naming;
    let memory = signed(config.memory_limit);
    let (log_size, log_files) = logs.bound();
    HostConfig {
        // Hardened: no privileges, none that can be gained, no restart that Lattice did not decide.
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(config.capabilities.iter().cloned().collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..Default::default() }),
        readonly_rootfs: Some(*read_only),
        // Limits, always. Swap is memory and swap together, so the same number is no swap.
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(config.cpu_limit.0) * 1_000_000),
        pids_limit: Some(i64::from(config.pids_limit)),
        ulimits: Some(ulimits.iter().map(ulimit).collect()),
        oom_score_adj: process.oom_score_adj.map(i64::from),
        // A log that cannot fill the disk.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                [("max-size", log_size.0.max(1).to_string()), ("max-file", log_files.max(1).to_string())]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into(),
            ),
        }),
        // Unless asked for, zombies are left to the image: the init is a program of its own, which not
        // every engine has.
        init: process.init.then_some(true),
        group_add: Some(process.groups.clone()),
        sysctls: Some(sysctls.clone().into_iter().collect()),
        shm_size: shm_size.map(signed),
        tmpfs: Some(tmpfs.iter().map(|spec| (spec.target.clone(), tmpfs_options(spec, config))).collect()),
        mounts: Some(mounts.iter().map(mount).chain(driver_files(config)).collect()),
        port_bindings: Some(port_map(ports)),
        network_mode: Some(networks.keys().next().cloned().unwrap_or_else(|| "none".to_owned())),
        extra_hosts: Some(hosts.iter().map(|entry| format!("{}:{}", entry.name, entry.address)).collect()),
        dns: Some(servers.iter().map(ToString::to_string).collect()),
        dns_search: Some(search.clone()),
        dns_options: Some(options.clone()),
        device_requests: Some(device_requests(config)),
        devices: Some(devices(config)),
        ..Default::default()
    }
}

fn signed(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// What it holds counts as the container's memory, so without a size it is that limit which holds:
/// the kernel's own default would be half of the machine's memory.
fn tmpfs_options(spec: &TmpfsSpec, config: &ContainerConfig) -> String {
    let TmpfsSpec { target: _, size, mode, uid, gid, exec } = spec;
    let mut options = vec![
        format!("size={}", size.unwrap_or(config.memory_limit).0),
        if *exec { "exec" } else { "noexec" }.to_owned(),
    ];
    options.extend(mode.map(|mode| format!("mode={mode:o}")));
    options.extend(uid.map(|uid| format!("uid={uid}")));
    options.extend(gid.map(|gid| format!("gid={gid}")));
    options.join(",")
}

/// The GPUs, in the words of the engine's toolkit. Without the agent's word on how, as they are asked for.
fn device_requests(config: &ContainerConfig) -> Vec<DeviceRequest> {
    match &config.gpu_access {
        None => config.gpus.iter().map(device_request).collect(),
        Some(GpuAccess::Runtime { ids, capabilities }) => {
            let all: BTreeSet<&str> = capabilities.iter().map(String::as_str).chain(["gpu"]).collect();
            vec![DeviceRequest {
                driver: Some("nvidia".to_owned()),
                device_ids: Some(ids.clone()),
                capabilities: Some(vec![all.into_iter().map(str::to_owned).collect()]),
                ..DeviceRequest::default()
            }]
        }
        Some(GpuAccess::Cdi { names }) => vec![DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(names.clone()),
            ..DeviceRequest::default()
        }],
        Some(GpuAccess::Direct { .. }) => Vec::new(),
    }
}

/// Nodes that the agent found, to be read and written and never made anew.
fn devices(config: &ContainerConfig) -> Vec<DeviceMapping> {
    let Some(GpuAccess::Direct { devices, .. }) = &config.gpu_access else { return Vec::new() };
    let one = |path: &String| DeviceMapping {
        path_on_host: Some(path.clone()),
        path_in_container: Some(path.clone()),
        cgroup_permissions: Some("rw".to_owned()),
    };
    devices.iter().map(one).collect()
}

/// Files of the driver, read-only.
fn driver_files(config: &ContainerConfig) -> impl Iterator<Item = Mount> {
    let files = match &config.gpu_access {
        Some(GpuAccess::Direct { files, .. }) => files.as_slice(),
        _ => &[],
    };
    files.iter().map(|file| Mount {
        source: Some(file.source.clone()),
        target: Some(file.target.clone()),
        read_only: Some(true),
        typ: Some(MountType::BIND),
        ..Mount::default()
    })
}

fn device_request(request: &GpuRequest) -> DeviceRequest {
    let GpuRequest { count, driver, ids, capabilities, model: _, memory: _, share: _ } = request;
    let count = match count {
        // Named ones are counted by their names.
        _ if !ids.is_empty() => None,
        GpuCount::All => Some(-1),
        GpuCount::Exactly(n) => Some(i64::from(*n)),
    };
    let all: BTreeSet<&str> = capabilities.iter().map(String::as_str).chain(["gpu"]).collect();
    DeviceRequest {
        driver: driver.clone(),
        count,
        device_ids: (!ids.is_empty()).then(|| ids.clone()),
        capabilities: Some(vec![all.into_iter().map(str::to_owned).collect()]),
        options: None,
    }
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

/// A map as Docker's types want it.
pub(super) fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}
