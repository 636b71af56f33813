//! How a service meets others: networks, dependencies, health.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    scalar,
    service::{Draft, Placed},
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    Duration, NetworkName, WorkloadName,
    spec::{Attachment, Dependency, DependencyCondition, HealthCheck, WorkloadSpec},
};

/// The network that a service joins when it names none.
pub(crate) const DEFAULT_NETWORK: &str = "default";

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
        if let Some(entry) = Self::said(entries, "network_mode")
            && self.network_mode(entry, named.is_some(), &path.key("network_mode"))
        {
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
            if !scalar::is_host_name(alias) {
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

    /// Whether the service has no network but what this says; otherwise its networks count.
    fn network_mode(&mut self, entry: &Entry, also_networks: bool, path: &Path<'_>) -> bool {
        let Some(mode) = self.text(&entry.value, path) else { return true };
        let (why, instead) = match mode {
            "" => return false,
            "none" | "host" if also_networks => {
                let message = "`network_mode` and `networks` exclude each other";
                self.error(Code::Conflict, entry.key, path, message, "Remove one of the two");
                return true;
            }
            "none" => return true,
            "bridge" | "default" => {
                if mode == "bridge" {
                    let message = "the bridge that all containers of a host share is not used: the service joins the stack's own networks";
                    self.problems.warn(Code::Differs, entry.value.span, path, message, "Remove it");
                }
                return false;
            }
            "host" => (
                "the host's network would open its owner's LAN to the container".to_owned(),
                "Remove it and publish what is needed under `ports`",
            ),
            mode if mode.starts_with("service:") || mode.starts_with("container:") => (
                "containers do not share a network namespace".to_owned(),
                "Remove it: services on the same network reach each other by name, and what both need runs in one image",
            ),
            mode => (format!("`{}` is not known", show(mode)), "Write `none` for no network, or remove it"),
        };
        self.error(Code::NotSupported, entry.value.span, path, format!("not supported: {why}"), instead);
        true
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
        if node.is_null() {
            return Some(Dependency {
                condition: DependencyCondition::ServiceStarted,
                required: true,
                restart: false,
            });
        }
        let map = self.mapping(node, path)?;
        self.check_keys(map, path, &keys::DEPENDENCY);
        let restart = match Self::said(map, "restart") {
            Some(entry) => self.boolean(&entry.value, &path.key("restart"))?,
            None => false,
        };
        let required = match map.get("required") {
            Some(entry) => self.boolean(&entry.value, &path.key("required"))?,
            None => true,
        };
        let Some(entry) = Self::said(map, "condition") else {
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
        Some(Dependency { condition, required, restart })
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
            // The image's own, with the times of this one.
            None => Vec::new(),
        };
        if test.is_empty()
            && [interval, timeout, start_period, start_interval].iter().all(Option::is_none)
            && retries.is_none()
        {
            return None;
        }
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
                    (first, _) => {
                        let first = show(first.unwrap_or_default());
                        let message = format!(
                            "the list begins with `{first}`, and has to begin with CMD, CMD-SHELL or NONE and go on"
                        );
                        self.error(Code::Invalid, node.span, path, message, HINT);
                        None
                    }
                }
            }
            _ => self.expected(node, path, "a test", HINT),
        }
    }
}
