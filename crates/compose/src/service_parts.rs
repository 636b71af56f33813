//! The larger parts of a service: networks, dependencies, health, deploy.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    service::{Draft, Placed},
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    Bytes, Cpu, Duration, NetworkName, WorkloadName,
    spec::{Attachment, Dependency, DependencyCondition, HealthCheck, MAX_REPLICAS, WorkloadSpec},
};

/// The network that a service joins when it names none.
pub(crate) const DEFAULT_NETWORK: &str = "default";

/// What Docker itself demands of a memory limit.
const LEAST_MEMORY: Bytes = Bytes::from_mib(6);
/// What Docker itself demands of a processor limit: a hundredth of a core.
const LEAST_CPU: Cpu = Cpu(10);

impl Reader<'_> {
    pub(crate) fn networks(
        &mut self,
        entries: &Mapping,
        at: Span,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        let named = entries.get("networks");
        if let Some(entry) = entries.get("network_mode") {
            self.network_mode(entry, named.is_some(), &path.key("network_mode"));
            return;
        }
        let at_networks = path.key("networks");
        match named.map(|e| (&*e.value.value, &e.value)) {
            Some((Value::Sequence(items), _)) => {
                for (index, item) in items.iter().enumerate() {
                    let at = at_networks.index(index);
                    if let Some(name) = self.parsed::<NetworkName>(item, &at) {
                        spec.networks.insert(name.clone(), Attachment::default());
                        draft.networks.push(Placed { value: name, span: item.span, path: at.to_string() });
                    }
                }
            }
            Some((Value::Mapping(map), _)) => {
                for (key, entry) in map {
                    let at = at_networks.key(key);
                    let Some(name) = self.named::<NetworkName>(key, entry.key, &at) else { continue };
                    let attachment = self.attachment(&entry.value, &at);
                    spec.networks.insert(name.clone(), attachment);
                    draft.networks.push(Placed { value: name, span: entry.key, path: at.to_string() });
                }
            }
            Some((_, node)) if !node.is_null() => {
                self.expected::<()>(node, &at_networks, "a list or a mapping of networks", "");
            }
            _ => {}
        }
        // An empty list means the default network too, as Compose has it.
        let wrote_some = named.is_some_and(|e| match &*e.value.value {
            Value::Sequence(items) => !items.is_empty(),
            Value::Mapping(map) => !map.is_empty(),
            Value::Scalar(..) => !e.value.is_null(),
        });
        if !wrote_some && let Ok(name) = NetworkName::new(DEFAULT_NETWORK) {
            spec.networks.insert(name.clone(), Attachment::default());
            draft.networks.push(Placed { value: name, span: at, path: path.to_string() });
        }
    }

    fn attachment(&mut self, node: &Node, path: &Path<'_>) -> Attachment {
        let mut attachment = Attachment::default();
        if node.is_null() {
            return attachment;
        }
        let Some(map) = self.mapping(node, path) else { return attachment };
        self.check_keys(map, path, &keys::SERVICE_NETWORK);
        let Some(entry) = map.get("aliases") else { return attachment };
        let at = path.key("aliases");
        for (index, item) in self.list(&entry.value, &at).unwrap_or_default().iter().enumerate() {
            let at = at.index(index);
            let Some(alias) = self.text(item, &at) else { continue };
            let label = |l: &str| {
                (1..=63).contains(&l.len())
                    && l.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            };
            if alias.len() > 253 || !alias.split('.').all(label) {
                let message = format!("`{}` cannot be a name in the network", show(alias));
                self.error(
                    Code::Invalid,
                    item.span,
                    at,
                    message,
                    "Use letters, digits, `-` and `_`, with dots between parts",
                );
                continue;
            }
            attachment.aliases.insert(alias.to_owned());
        }
        attachment
    }

    fn network_mode(&mut self, entry: &Entry, also_networks: bool, path: &Path<'_>) {
        let Some(mode) = self.text(&entry.value, path) else { return };
        let (message, hint) = match mode {
            "none" if also_networks => {
                let message = "`network_mode` and `networks` exclude each other";
                self.error(Code::Conflict, entry.key, path, message, "Remove one of the two");
                return;
            }
            "none" => return,
            "host" => (
                "the host's network would open its owner's LAN to the container".to_owned(),
                "Remove it and publish what is needed under `ports`",
            ),
            "bridge" => (
                "the bridge that all containers of a host share is not used".to_owned(),
                "Remove it: the service joins the stack's default network",
            ),
            mode if mode.starts_with("service:") || mode.starts_with("container:") => (
                "containers do not share a network namespace".to_owned(),
                "Remove it: services on the same network reach each other by name",
            ),
            mode => (format!("`{}` is not known", show(mode)), "Write `none` for no network, or remove it"),
        };
        self.error(Code::NotSupported, entry.value.span, path, format!("not supported: {message}"), hint);
    }

    pub(crate) fn depends_on(
        &mut self,
        node: &Node,
        path: &Path<'_>,
    ) -> Vec<Placed<(WorkloadName, Dependency)>> {
        let mut found: Vec<Placed<(WorkloadName, Dependency)>> = Vec::new();
        match &*node.value {
            _ if node.is_null() => {}
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let at = path.index(index);
                    let dependency = Dependency {
                        condition: DependencyCondition::ServiceStarted,
                        required: true,
                        restart: false,
                    };
                    if let Some(name) = self.parsed(item, &at) {
                        found.push(Placed {
                            value: (name, dependency),
                            span: item.span,
                            path: at.to_string(),
                        });
                    }
                }
            }
            Value::Mapping(map) => {
                for (key, entry) in map {
                    let at = path.key(key);
                    let name = self.named(key, entry.key, &at);
                    let dependency = self.dependency(&entry.value, &at);
                    if let (Some(name), Some(dependency)) = (name, dependency) {
                        found.push(Placed {
                            value: (name, dependency),
                            span: entry.key,
                            path: at.to_string(),
                        });
                    }
                }
            }
            Value::Scalar(..) => {
                self.expected::<()>(node, path, "a list or a mapping of services", "Write `- NAME` lines");
            }
        }
        found
    }

    fn dependency(&mut self, node: &Node, path: &Path<'_>) -> Option<Dependency> {
        const HINT: &str =
            "Write `condition: service_started`, `service_healthy` or `service_completed_successfully`";
        let map = self.mapping(node, path)?;
        self.check_keys(map, path, &keys::DEPENDENCY);
        if let Some(entry) = map.get("restart")
            && self.boolean(&entry.value, &path.key("restart")) == Some(true)
        {
            let message = "not supported yet: a service is not restarted with another";
            self.error(
                Code::NotSupported,
                entry.key,
                path.key("restart"),
                message,
                "Remove it; let the service connect again by itself",
            );
        }
        let required = match map.get("required") {
            Some(entry) => self.boolean(&entry.value, &path.key("required"))?,
            None => true,
        };
        let Some(entry) = map.get("condition") else {
            self.error(Code::Invalid, node.span, path, "the dependency has no `condition`", HINT);
            return None;
        };
        let at = path.key("condition");
        let condition = match self.text(&entry.value, &at)? {
            "service_started" => DependencyCondition::ServiceStarted,
            "service_healthy" => DependencyCondition::ServiceHealthy,
            "service_completed_successfully" => DependencyCondition::ServiceCompletedSuccessfully,
            _ => return self.expected(&entry.value, &at, "a condition", HINT),
        };
        Some(Dependency { condition, required, restart: false })
    }

    pub(crate) fn healthcheck(&mut self, node: &Node, path: &Path<'_>) -> Option<HealthCheck> {
        if node.is_null() {
            return None;
        }
        let map = self.mapping(node, path)?;
        self.check_keys(map, path, &keys::HEALTHCHECK);
        let mut span = |key: &'static str| {
            let entry = map.get(key)?;
            // Docker reads zero as "the default".
            self.duration(&entry.value, &path.key(key)).filter(|d| *d > Duration(0))
        };
        let (interval, timeout) = (span("interval"), span("timeout"));
        let (start_period, start_interval) = (span("start_period"), span("start_interval"));
        let retries = match map.get("retries") {
            Some(entry) => self.integer(&entry.value, &path.key("retries"), 0, 1000).filter(|n| *n > 0),
            None => None,
        };
        let disabled = match map.get("disable") {
            Some(entry) => self.boolean(&entry.value, &path.key("disable"))?,
            None => false,
        };
        let test = match map.get("test") {
            _ if disabled => vec!["NONE".to_owned()],
            Some(entry) => self.health_test(&entry.value, &path.key("test"))?,
            None => {
                let message = "the health check has no `test`";
                let hint =
                    "Write `test: [\"CMD\", …]`; the image's own check is not known here, so repeat it";
                self.error(Code::Invalid, node.span, path, message, hint);
                return None;
            }
        };
        Some(HealthCheck { test, interval, timeout, retries, start_period, start_interval })
    }

    fn health_test(&mut self, node: &Node, path: &Path<'_>) -> Option<Vec<String>> {
        const HINT: &str = "Write `[\"CMD\", \"program\", …]`, `[\"CMD-SHELL\", \"command\"]`, `[\"NONE\"]` or a text for the shell";
        match &*node.value {
            Value::Scalar(text, _) if !text.trim().is_empty() && !node.is_null() => {
                Some(vec!["CMD-SHELL".into(), text.to_string()])
            }
            Value::Sequence(_) => {
                let test = self.texts(node, path)?;
                match (test.first().map(String::as_str), test.len()) {
                    (Some("NONE"), 1) | (Some("CMD-SHELL"), 2) | (Some("CMD"), 2..) => Some(test),
                    _ => self.expected(node, path, "a list that begins with CMD, CMD-SHELL or NONE", HINT),
                }
            }
            _ => self.expected(node, path, "a test", HINT),
        }
    }

    pub(crate) fn deploy(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        if node.is_null() {
            return;
        }
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::DEPLOY);
        if let Some(entry) = map.get("mode") {
            let at = path.key("mode");
            match self.text(&entry.value, &at) {
                None | Some("replicated") => {}
                Some("global" | "global-job" | "replicated-job") => {
                    let message = "not supported yet: only `replicated` is";
                    self.error(
                        Code::NotSupported,
                        entry.value.span,
                        at,
                        message,
                        "Write `mode: replicated` and a number of `replicas`",
                    );
                }
                Some(_) => {
                    self.expected::<()>(&entry.value, &at, "`replicated`", "");
                }
            }
        }
        if let Some(entry) = map.get("replicas")
            && let Some(count) = self.integer(&entry.value, &path.key("replicas"), 0, MAX_REPLICAS)
        {
            spec.replicas = count;
        }
        if let Some(entry) = map.get("resources")
            && !entry.value.is_null()
        {
            self.resources(&entry.value, &path.key("resources"), spec);
        }
    }

    fn resources(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::RESOURCES);
        let mut part = |key: &'static str, table: &keys::Table| -> Option<Mapping> {
            let entry = map.get(key).filter(|e| !e.value.is_null())?;
            let at = path.key(key);
            let part = self.mapping(&entry.value, &at)?;
            self.check_keys(part, &at, table);
            Some(part.clone())
        };
        let limits = part("limits", &keys::LIMITS).unwrap_or_default();
        let reservations = part("reservations", &keys::RESERVATIONS).unwrap_or_default();
        let (at_limits, at_reservations) = (path.key("limits"), path.key("reservations"));
        let out = &mut spec.resources;
        out.cpu_limit = self.amount(limits.get("cpus"), &at_limits.key("cpus"), LEAST_CPU);
        out.memory_limit = self.amount(limits.get("memory"), &at_limits.key("memory"), LEAST_MEMORY);
        if let Some(entry) = limits.get("pids") {
            out.pids_limit = self.integer(&entry.value, &at_limits.key("pids"), 1, 1 << 22);
        }
        out.reserved_cpu = self.amount(reservations.get("cpus"), &at_reservations.key("cpus"), Cpu(0));
        out.reserved_memory =
            self.amount(reservations.get("memory"), &at_reservations.key("memory"), Bytes(0));
        self.reserved_within(
            reservations.get("cpus"),
            &at_reservations.key("cpus"),
            out.reserved_cpu,
            out.cpu_limit,
        );
        let memory = (out.reserved_memory, out.memory_limit);
        self.reserved_within(reservations.get("memory"), &at_reservations.key("memory"), memory.0, memory.1);
    }

    fn amount<T>(&mut self, entry: Option<&Entry>, path: &Path<'_>, least: T) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display,
    {
        let entry = entry?;
        let amount: T = self.parsed(&entry.value, path)?;
        if amount < least {
            let message = format!("{amount} is less than the least possible, {least}");
            self.error(Code::Invalid, entry.value.span, path, message, "Remove it for no limit of its own");
            return None;
        }
        Some(amount)
    }

    fn reserved_within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        entry: Option<&Entry>,
        path: &Path<'_>,
        reserved: Option<T>,
        limit: Option<T>,
    ) {
        if let (Some(entry), Some(reserved), Some(limit)) = (entry, reserved, limit)
            && reserved > limit
        {
            let message = format!("{reserved} is reserved, which is more than the limit of {limit}");
            self.error(
                Code::Conflict,
                entry.value.span,
                path,
                message,
                "Lower the reservation or raise the limit",
            );
        }
    }
}
