//! One service becomes a workload. What needs the other services to be judged stays with its
//! place in a [`Draft`], for `check`.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    scalar,
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    Duration, NetworkName, WorkloadName,
    spec::{Dependency, MountSpec, PortSpec, RestartPolicy, WorkloadSpec},
};

/// The longest that a container may take to stop.
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// Something with the place that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
    pub(crate) path: String,
}

/// A service as read, not yet checked against the others.
pub(crate) struct Draft {
    pub(crate) name: WorkloadName,
    pub(crate) spec: WorkloadSpec,
    pub(crate) ports: Vec<Placed<PortSpec>>,
    pub(crate) mounts: Vec<Placed<MountSpec>>,
    pub(crate) networks: Vec<Placed<NetworkName>>,
    pub(crate) depends_on: Vec<Placed<(WorkloadName, Dependency)>>,
    /// Where `restart` stands, if it does.
    pub(crate) restart: Option<Span>,
}

impl Reader<'_> {
    /// Reads one service; `None` when it has no usable name. The draft of a service with
    /// problems still serves to find problems in others.
    pub(crate) fn service(&mut self, name: &str, entry: &Entry, path: &Path<'_>) -> Option<Draft> {
        let workload: Option<WorkloadName> = self.named(name, entry.key, path);
        let entries = self.mapping(&entry.value, path)?;
        self.check_keys(entries, path, &keys::SERVICE);
        let image = self.image(entries, entry.key, path).unwrap_or_default();
        let mut spec = WorkloadSpec::of_image(image);
        let mut draft = Draft {
            name: workload?,
            ports: Vec::new(),
            mounts: Vec::new(),
            networks: Vec::new(),
            depends_on: Vec::new(),
            restart: None,
            spec: WorkloadSpec::of_image(""),
        };
        for (key, entry) in entries {
            let (at, node) = (path.key(key), &entry.value);
            match &**key {
                "command" => spec.command = self.command(node, &at),
                "entrypoint" => spec.entrypoint = self.command(node, &at),
                "environment" => spec.environment = self.environment(node, &at),
                "ports" => {
                    draft.ports = self.ports(node, &at);
                    spec.ports = draft.ports.iter().map(|p| p.value.clone()).collect();
                }
                "expose" => spec.expose = self.expose(node, &at),
                "volumes" => {
                    draft.mounts = self.mounts(node, &at);
                    spec.mounts = draft.mounts.iter().map(|m| m.value.clone()).collect();
                }
                "depends_on" => draft.depends_on = self.depends_on(node, &at),
                "healthcheck" => spec.healthcheck = self.healthcheck(node, &at),
                "restart" => {
                    draft.restart = Some(entry.key);
                    if let Some(policy) = self.restart(node, &at) {
                        spec.restart = policy;
                    }
                }
                "deploy" => self.deploy(node, &at, &mut spec),
                "labels" => spec.labels = self.labels(node, &at),
                "stop_grace_period" => {
                    if let Some(span) = self.duration(node, &at) {
                        if span > MAX_GRACE {
                            let message = "this is more than an hour";
                            let hint =
                                "A container is killed after an hour at the latest; write `1h` or less";
                            self.error(Code::Invalid, node.span, at, message, hint);
                        }
                        spec.stop_grace_period = span;
                    }
                }
                "x-lattice" => {
                    if let Some(entries) = self.mapping(node, &at) {
                        self.check_keys(entries, &at, &keys::LATTICE);
                        if let Some(pool) = entries.get("pool") {
                            spec.pool = self.parsed(&pool.value, &at.key("pool"));
                        }
                    }
                }
                // Read by `image`, `networks` below, or refused by `check_keys`.
                _ => {}
            }
        }
        self.networks(entries, entry.key, path, &mut spec, &mut draft);
        spec.depends_on = draft.depends_on.iter().map(|d| d.value.clone()).collect();
        draft.spec = spec;
        Some(draft)
    }

    fn image(&mut self, entries: &Mapping, at: Span, path: &Path<'_>) -> Option<String> {
        // With `build`, `check_keys` has said what to do.
        let Some(entry) = entries.get("image") else {
            if !entries.contains_key("build") {
                let message = "the service has no `image`";
                self.error(Code::Invalid, at, path, message, "Write `image: NAME:TAG`");
            }
            return None;
        };
        let at = path.key("image");
        let text = self.text(&entry.value, &at)?;
        if let Some(fault) = scalar::image_fault(text) {
            let message = format!("`{}` is no image reference: {fault}", show(text));
            let hint = "Write it as `postgres:15` or `registry.example/team/app:1.2`";
            self.error(Code::Invalid, entry.value.span, at, message, hint);
            return None;
        }
        Some(text.to_owned())
    }

    /// A list as it is; a text split into words; null keeps the image's own, an empty text or
    /// list clears it, as Compose has it.
    fn command(&mut self, node: &Node, path: &Path<'_>) -> Option<Vec<String>> {
        match &*node.value {
            _ if node.is_null() => None,
            Value::Scalar(text, _) => match scalar::shell_words(text) {
                Ok(words) => Some(words),
                Err(fault) => {
                    let message = format!("this is no list of words: {fault}");
                    let hint = "Write a list, such as `[\"sh\", \"-c\", \"one && two\"]`";
                    self.error(Code::Invalid, node.span, path, message, hint);
                    None
                }
            },
            Value::Sequence(_) => self.texts(node, path),
            Value::Mapping(_) => self.expected(node, path, "a text or a list of texts", ""),
        }
    }

    fn environment(&mut self, node: &Node, path: &Path<'_>) -> std::collections::BTreeMap<String, String> {
        let variables = self.variables;
        // Without a value it is taken from the variables; unset there, it is left out.
        let each = |(key, (_, value)): (String, (Span, Option<String>))| {
            let value = value.or_else(|| variables(&key))?;
            Some((key, value))
        };
        self.pairs(node, path).into_iter().filter_map(each).collect()
    }

    fn restart(&mut self, node: &Node, path: &Path<'_>) -> Option<RestartPolicy> {
        const HINT: &str = "Write `restart: always`, `restart: on-failure:3` or `restart: \"no\"`";
        let text = self.text(node, path)?;
        match text {
            "always" | "unless-stopped" => return Some(RestartPolicy::Always),
            // YAML 1.1 reads an unquoted `no` as false.
            "no" | "false" => return Some(RestartPolicy::Never),
            "on-failure" => return Some(RestartPolicy::OnFailure { max_retries: None }),
            _ => {}
        }
        match text.strip_prefix("on-failure:").map(str::parse::<u32>) {
            // Docker reads 0 as no limit.
            Some(Ok(0)) => Some(RestartPolicy::OnFailure { max_retries: None }),
            Some(Ok(n)) => Some(RestartPolicy::OnFailure { max_retries: Some(n) }),
            _ => self.expected(node, path, "a restart policy", HINT),
        }
    }
}
