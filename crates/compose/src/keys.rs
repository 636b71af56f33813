//! Which keys there are: those that Lattice honours, those that only Compose knows, with the
//! reason and the way out, and those that nobody knows, with what was probably meant.
//!
//! The lists repeat the Compose specification's schema; a key that joins the supported list
//! here must be read by the layer that the list belongs to.

use crate::{
    problem::{Code, show},
    read::{Path, Reader},
    scalar::nearest,
    yaml::{Entry, Mapping, Value},
};

/// The keys of one kind of mapping.
pub(crate) struct Table {
    pub(crate) supported: &'static [&'static str],
    /// Known to Compose and refused here.
    pub(crate) compose: &'static [&'static str],
    /// Why, and what to do instead.
    pub(crate) reason: fn(&str) -> Option<(&'static str, &'static str)>,
}

fn no_reason(_: &str) -> Option<(&'static str, &'static str)> {
    None
}

pub(crate) const TOP: Table = Table {
    supported: &["name", "services", "volumes", "networks", "version", "x-lattice"],
    compose: &["include", "models", "secrets", "configs"],
    reason: |key| {
        Some(match key {
            "include" => {
                ("the parts of a file are not put together yet", "Copy the included services into this file")
            }
            "secrets" => (
                "secrets are not delivered yet",
                "Pass the value by a variable: `environment: {KEY: ${KEY:?}}`",
            ),
            "configs" => (
                "configs are not delivered yet",
                "Put the file into the image, or pass it by an environment variable",
            ),
            "models" => ("Lattice runs no models by itself", "Run a model server as a service"),
            _ => return None,
        })
    },
};

pub(crate) const SERVICE: Table = Table {
    supported: &[
        "image",
        "command",
        "entrypoint",
        "environment",
        "ports",
        "expose",
        "volumes",
        "networks",
        "network_mode",
        "depends_on",
        "healthcheck",
        "restart",
        "deploy",
        "labels",
        "stop_grace_period",
        "x-lattice",
    ],
    compose: &[
        "develop",
        "annotations",
        "attach",
        "build",
        "blkio_config",
        "cap_add",
        "cap_drop",
        "cgroup",
        "cgroup_parent",
        "configs",
        "container_name",
        "cpu_count",
        "cpu_percent",
        "cpu_shares",
        "cpu_quota",
        "cpu_period",
        "cpu_rt_period",
        "cpu_rt_runtime",
        "cpus",
        "cpuset",
        "credential_spec",
        "device_cgroup_rules",
        "devices",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "env_file",
        "label_file",
        "extends",
        "provider",
        "external_links",
        "extra_hosts",
        "gpus",
        "group_add",
        "hostname",
        "init",
        "ipc",
        "isolation",
        "links",
        "logging",
        "mac_address",
        "mem_limit",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "models",
        "oom_kill_disable",
        "oom_score_adj",
        "pid",
        "pids_limit",
        "platform",
        "pre_start",
        "post_start",
        "pre_stop",
        "privileged",
        "profiles",
        "pull_policy",
        "pull_refresh_after",
        "read_only",
        "runtime",
        "scale",
        "security_opt",
        "shm_size",
        "secrets",
        "sysctls",
        "stdin_open",
        "stop_signal",
        "storage_opt",
        "tmpfs",
        "tty",
        "ulimits",
        "use_api_socket",
        "user",
        "uts",
        "userns_mode",
        "volumes_from",
        "working_dir",
    ],
    reason: service_reason,
};

fn service_reason(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "build" => (
            "images are not built yet",
            "Build it yourself, push it to a registry (`docker build -t NAME . && docker push NAME`), and write `image: NAME` instead",
        ),
        "privileged" => (
            "a privileged container owns the computer that somebody lends",
            "Remove it; a service that needs one right more says so in its documentation, and most need none",
        ),
        "cap_add" => (
            "containers run with a fixed, small set of capabilities on lent computers",
            "Remove it: ports below 1024, file owners and switching users work without it",
        ),
        "cap_drop" => (
            "all capabilities but a small set are dropped already, and a smaller set cannot be chosen yet",
            "Remove it if that is enough",
        ),
        "security_opt" => (
            "the node sets the security profile, and never a laxer one",
            "Remove it; no-new-privileges is always on",
        ),
        "devices" | "device_cgroup_rules" => (
            "the devices of a node belong to its owner",
            "Remove it; pass data through a volume or the network instead",
        ),
        "gpus" => ("GPUs cannot be asked for yet", "Remove it and run on the processors"),
        "pid" | "ipc" | "uts" | "userns_mode" | "cgroup" | "cgroup_parent" => (
            "the host's and other containers' namespaces are closed to workloads",
            "Remove it; let services talk over their network",
        ),
        "use_api_socket" => (
            "the engine's socket gives away the whole computer",
            "Remove it; use Lattice's API with a token instead",
        ),
        "volumes_from" => {
            ("mounts are not taken over from other services", "Name each volume under `volumes`")
        }
        "links" | "external_links" => (
            "links are the old way to name another service",
            "Remove it: services on the same network reach each other by name; give other names under `networks: {…: {aliases: […]}}`",
        ),
        "container_name" => (
            "Lattice names containers itself, since there may be several of one service",
            "Remove it: other services reach it by the service's name; add another under `networks: {…: {aliases: […]}}`",
        ),
        "hostname" | "domainname" => (
            "the host name of a container cannot be chosen yet",
            "Remove it; give other names under `networks: {…: {aliases: […]}}`",
        ),
        "env_file" | "label_file" => (
            "further files are not read yet",
            "Write the values under `environment` or `labels`; variables come from `.env` by `${NAME}`",
        ),
        "extends" => {
            ("services are not put together yet", "Use a YAML anchor: `x-base: &base {…}` and `<<: *base`")
        }
        "profiles" => (
            "profiles are not selected yet",
            "Move the service to a file of its own and deploy it when wanted",
        ),
        "secrets" => {
            ("secrets are not delivered yet", "Pass the value by a variable: `environment: {KEY: ${KEY:?}}`")
        }
        "configs" => (
            "configs are not delivered yet",
            "Put the file into the image, or pass it by an environment variable",
        ),
        "scale" => ("there is one place for it", "Write `deploy: {replicas: N}`"),
        "cpus" | "cpu_count" | "cpu_percent" | "cpu_shares" | "cpu_quota" | "cpu_period" => {
            ("there is one place for it", "Write `deploy: {resources: {limits: {cpus: \"0.5\"}}}`")
        }
        "mem_limit" => ("there is one place for it", "Write `deploy: {resources: {limits: {memory: 512m}}}`"),
        "mem_reservation" => {
            ("there is one place for it", "Write `deploy: {resources: {reservations: {memory: 256m}}}`")
        }
        "pids_limit" => ("there is one place for it", "Write `deploy: {resources: {limits: {pids: 100}}}`"),
        "cpuset" | "cpu_rt_period" | "cpu_rt_runtime" | "mem_swappiness" | "memswap_limit"
        | "oom_kill_disable" | "oom_score_adj" | "blkio_config" | "storage_opt" => (
            "the node's owner decides how the computer is shared",
            "Remove it; set limits under `deploy: {resources: {limits: {…}}}`",
        ),
        "tmpfs" | "shm_size" => {
            ("file systems in memory are not mounted yet", "Remove it, or use a named volume")
        }
        "logging" => ("Lattice keeps the logs itself", "Remove it; read them by `lattice logs`"),
        "runtime" | "isolation" | "credential_spec" => {
            ("the node chooses how containers are run", "Remove it")
        }
        "provider" => ("what runs outside of containers is not managed", "Run it as a service with an image"),
        "models" => ("Lattice runs no models by itself", "Run a model server as a service"),
        "develop" => (
            "it describes development on one machine, and nodes do not see your files",
            "Remove it, or keep it in a file for development",
        ),
        "stdin_open" | "tty" | "attach" => {
            ("services run in the background", "Remove it; use `lattice exec` for a terminal")
        }
        "mac_address" => {
            ("addresses are given by the node", "Remove it; let services find each other by name")
        }
        "pull_policy" | "pull_refresh_after" => {
            ("images are pinned when a stack is deployed", "Remove it and deploy again for a newer image")
        }
        _ => return None,
    })
}

pub(crate) const HEALTHCHECK: Table = Table {
    supported: &["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"],
    compose: &[],
    reason: no_reason,
};

pub(crate) const DEPLOY: Table = Table {
    supported: &["mode", "replicas", "resources"],
    compose: &["endpoint_mode", "labels", "rollback_config", "update_config", "restart_policy", "placement"],
    reason: |key| {
        Some(match key {
            "restart_policy" => (
                "there is one place for it",
                "Write `restart: always`, `on-failure:3` or `\"no\"` on the service",
            ),
            "labels" => ("labels are kept on containers only", "Write them under the service's `labels`"),
            "placement" => ("nodes are chosen by pool", "Write `x-lattice: {pool: NAME}` on the service"),
            "endpoint_mode" => ("a service's name resolves to its replicas", "Remove it"),
            "update_config" | "rollback_config" => {
                ("how an update proceeds cannot be chosen yet", "Remove it")
            }
            _ => return None,
        })
    },
};

pub(crate) const RESOURCES: Table =
    Table { supported: &["limits", "reservations"], compose: &[], reason: no_reason };

pub(crate) const LIMITS: Table =
    Table { supported: &["cpus", "memory", "pids"], compose: &[], reason: no_reason };

pub(crate) const RESERVATIONS: Table = Table {
    supported: &["cpus", "memory"],
    compose: &["generic_resources", "devices"],
    reason: |key| {
        Some(match key {
            "devices" => ("GPUs cannot be asked for yet", "Remove it and run on the processors"),
            "generic_resources" => {
                ("nodes offer processors and memory only", "Choose nodes by `x-lattice: {pool: NAME}`")
            }
            _ => return None,
        })
    },
};

pub(crate) const PORT: Table = Table {
    supported: &["target", "published", "protocol", "host_ip", "mode", "name", "app_protocol"],
    compose: &[],
    reason: no_reason,
};

pub(crate) const MOUNT: Table = Table {
    supported: &["type", "source", "target", "read_only", "volume", "consistency"],
    compose: &["bind", "tmpfs", "image"],
    reason: |_| Some(("only named volumes are mounted", "Use `type: volume` with a `source`")),
};

pub(crate) const MOUNT_VOLUME: Table = Table {
    supported: &["nocopy"],
    compose: &["labels", "subpath"],
    reason: |key| {
        Some(match key {
            "subpath" => ("a volume is mounted as a whole", "Use a volume of its own for this folder"),
            "labels" => ("there is one place for it", "Write them under the top-level `volumes`"),
            _ => return None,
        })
    },
};

pub(crate) const SERVICE_NETWORK: Table = Table {
    supported: &["aliases"],
    compose: &[
        "interface_name",
        "ipv4_address",
        "ipv6_address",
        "link_local_ips",
        "mac_address",
        "driver_opts",
        "priority",
        "gw_priority",
    ],
    reason: |key| {
        Some(match key {
            "ipv4_address" | "ipv6_address" | "link_local_ips" | "mac_address" => {
                ("addresses are given by the node", "Let services find each other by name, or add `aliases`")
            }
            _ => ("the node builds the network", "Remove it"),
        })
    },
};

pub(crate) const DEPENDENCY: Table =
    Table { supported: &["condition", "required", "restart"], compose: &[], reason: no_reason };

pub(crate) const VOLUME: Table = Table {
    supported: &["labels"],
    compose: &["name", "driver", "driver_opts", "external"],
    reason: |key| {
        Some(match key {
            "external" => (
                "a volume belongs to its stack, so that no stack can mount another's data",
                "Remove it; Lattice creates the volume and keeps it when the stack is deployed again",
            ),
            "name" => ("a volume's name is its key, within its stack", "Remove it, or rename the key"),
            _ => (
                "the node keeps volumes on its own disk",
                "Remove it; use a client of the remote storage inside a service",
            ),
        })
    },
};

pub(crate) const NETWORK: Table = Table {
    supported: &["internal", "labels", "driver"],
    compose: &["name", "driver_opts", "ipam", "external", "enable_ipv4", "enable_ipv6", "attachable"],
    reason: |key| {
        Some(match key {
            "external" => (
                "a network belongs to its stack, so that no stack can reach into another",
                "Put services that talk to each other into one stack, or publish a port",
            ),
            "name" => ("a network's name is its key, within its stack", "Remove it, or rename the key"),
            "attachable" => ("nothing outside of the stack attaches to its networks", "Remove it"),
            _ => ("the node builds the network and picks free addresses", "Remove it"),
        })
    },
};

pub(crate) const LATTICE: Table = Table { supported: &["pool"], compose: &[], reason: no_reason };
const LATTICE_ELSEWHERE: Table = Table { supported: &[], compose: &[], reason: no_reason };

impl Reader<'_> {
    /// Refuses every key that the table does not support. `x-` keys pass, `x-lattice` where
    /// nothing reads it apart.
    pub(crate) fn check_keys(&mut self, entries: &Mapping, path: &Path<'_>, table: &Table) {
        for (key, entry) in entries {
            if table.supported.contains(&&**key) {
                continue;
            }
            if &**key == "x-lattice" {
                self.x_lattice_elsewhere(entry, &path.key(key));
            } else if !key.starts_with("x-") {
                self.refuse_key(key, entry, path, table);
            }
        }
    }

    /// The keys of an `x-lattice` where Lattice has none yet.
    pub(crate) fn x_lattice_elsewhere(&mut self, entry: &Entry, path: &Path<'_>) {
        match &*entry.value.value {
            Value::Mapping(entries) => {
                for (key, entry) in entries {
                    self.refuse_key(key, entry, path, &LATTICE_ELSEWHERE);
                }
            }
            _ if entry.value.is_null() => {}
            _ => {
                self.expected::<()>(&entry.value, path, "a mapping (`key: value` lines)", "");
            }
        }
    }

    fn refuse_key(&mut self, key: &str, entry: &Entry, path: &Path<'_>, table: &Table) {
        let at = path.key(key);
        if table.compose.contains(&key) {
            let (message, hint) = match (table.reason)(key) {
                Some((reason, hint)) => (format!("not supported: {reason}"), hint),
                None => (
                    "Compose knows it; Lattice does not support it yet".into(),
                    "Remove it if the service runs without",
                ),
            };
            self.error(Code::NotSupported, entry.key, at, message, hint);
            return;
        }
        let known = || table.supported.iter().chain(table.compose).copied();
        // Beyond what is shown nothing is worth a search: a hostile file has thousands of keys.
        let near = if self.problems.is_full() { None } else { nearest(key, known()) };
        let hint = match near {
            Some(near) => format!("Did you mean `{near}`?"),
            None if matches!(path, Path::Root) && SERVICE.supported.contains(&key) => {
                "It belongs to a service, below `services: {NAME: …}`".into()
            }
            None if table.supported.is_empty() => "Remove it; `pool` is known, on a service".into(),
            None => format!("Known here: {}", table.supported.join(", ")),
        };
        let whose = if matches!(path, Path::Key(_, "x-lattice")) { "Lattice" } else { "Compose" };
        self.error(Code::UnknownKey, entry.key, at, format!("{whose} has no key `{}` here", show(key)), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_do_not_overlap_and_reasons_have_keys() {
        let tables = [
            TOP,
            SERVICE,
            HEALTHCHECK,
            DEPLOY,
            RESOURCES,
            LIMITS,
            RESERVATIONS,
            PORT,
            MOUNT,
            MOUNT_VOLUME,
            SERVICE_NETWORK,
            DEPENDENCY,
            VOLUME,
            NETWORK,
            LATTICE,
        ];
        for table in tables {
            for key in table.compose {
                assert!(!table.supported.contains(key), "{key} stands in both lists");
            }
            for reason in table.compose.iter().filter_map(|key| (table.reason)(key)) {
                assert!(!reason.0.ends_with('.') && !reason.1.ends_with('.'), "{reason:?}");
            }
        }
    }
}
