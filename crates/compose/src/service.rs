//! One service becomes a workload. What needs the other services to be judged stays with its
//! place in a [`Draft`], for `check`.

use crate::{
    build::Build,
    keys,
    mounts::Bind,
    problem::{Code, show},
    read::{DEPLOY_THERE, Path, Reader},
    scalar,
    secrets::Grant,
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    Duration, NetworkName, WorkloadName,
    spec::{Dependency, MountSpec, PortSpec, PullPolicy, Rebalancing, RestartPolicy, WorkloadSpec},
};
use std::collections::BTreeMap;

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
    /// Volumes that the file has to declare.
    pub(crate) mounts: Vec<Placed<MountSpec>>,
    /// Volumes without a name, by their path in the container.
    pub(crate) anonymous: Vec<Placed<String>>,
    pub(crate) binds: Vec<Placed<Bind>>,
    pub(crate) secrets: Vec<Placed<Grant>>,
    pub(crate) configs: Vec<Placed<Grant>>,
    pub(crate) networks: Vec<Placed<NetworkName>>,
    pub(crate) depends_on: Vec<Placed<(WorkloadName, Dependency)>>,
    /// Services with the further name that they get by `links`.
    pub(crate) links: Vec<Placed<(WorkloadName, Option<String>)>>,
    pub(crate) build: Option<Build>,
    /// The further name of `container_name`.
    pub(crate) container_name: Option<Placed<String>>,
    /// Where `restart` stands, if it does.
    pub(crate) restart: Option<Span>,
    /// The line on which each path in the container is taken.
    pub(crate) targets: BTreeMap<String, u32>,
}

impl Draft {
    fn new(name: WorkloadName) -> Self {
        Self {
            name,
            spec: WorkloadSpec::of_image(""),
            ports: Vec::new(),
            mounts: Vec::new(),
            anonymous: Vec::new(),
            binds: Vec::new(),
            secrets: Vec::new(),
            configs: Vec::new(),
            networks: Vec::new(),
            depends_on: Vec::new(),
            links: Vec::new(),
            build: None,
            container_name: None,
            restart: None,
            targets: BTreeMap::new(),
        }
    }
}

impl Reader<'_> {
    /// Reads one service; `None` when it has no usable name. The draft of a service with
    /// problems still serves to find problems in others.
    pub(crate) fn service(&mut self, name: &str, entry: &Entry, path: &Path<'_>) -> Option<Draft> {
        let workload: Option<WorkloadName> = self.named(name, entry.key, path);
        let entries = self.mapping(&entry.value, path)?;
        self.check_keys(entries, path, &keys::SERVICE);
        let mut draft = Draft::new(workload?);
        let mut spec = WorkloadSpec::of_image("");
        self.image_or_build(entries, entry.key, path, &mut spec, &mut draft);
        self.environment(entries, path, &mut spec);
        self.service_labels(entries, path, &mut spec);
        for (key, entry) in entries {
            let (at, node) = (path.key(key), &entry.value);
            match &**key {
                "command" => spec.command = self.command(node, &at),
                "entrypoint" => spec.entrypoint = self.command(node, &at),
                "ports" => {
                    draft.ports = self.ports(node, &at);
                    spec.ports = draft.ports.iter().map(|p| p.value.clone()).collect();
                }
                "expose" => spec.expose = self.expose(node, &at),
                "volumes" => self.mounts(node, &at, &mut spec, &mut draft),
                "tmpfs" => self.tmpfs(node, &at, &mut spec, &mut draft),
                "depends_on" => draft.depends_on = self.depends_on(node, &at),
                "links" => self.links(node, &at, &mut draft),
                "healthcheck" => spec.healthcheck = self.healthcheck(node, &at),
                "secrets" => draft.secrets = self.grants(node, &at, &keys::SERVICE_SECRET, "/run/secrets/"),
                "configs" => draft.configs = self.grants(node, &at, &keys::SERVICE_CONFIG, "/"),
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
                            spec.pool = self.pools(&pool.value, &at.key("pool"));
                        }
                        if let Some(entry) = entries.get("priority") {
                            let at = at.key("priority");
                            spec.placement.priority = self.parsed(&entry.value, &at).unwrap_or(0);
                        }
                        if let Some(entry) = entries.get("tolerations") {
                            spec.placement.tolerations =
                                self.tolerations(&entry.value, &at.key("tolerations"));
                        }
                        if let Some(entry) = entries.get("rebalance") {
                            let at = at.key("rebalance");
                            spec.placement.rebalance = match self.text(&entry.value, &at) {
                                // YAML 1.1 reads an unquoted `off` as false.
                                Some("off" | "false") => Rebalancing::Off,
                                Some("gentle") | None => Rebalancing::Gentle,
                                Some(_) => {
                                    self.expected::<()>(&entry.value, &at, "`gentle` or `off`", "");
                                    Rebalancing::Gentle
                                }
                            };
                        }
                        self.wishes(entries, &at, &mut spec);
                        if let Some(entry) = entries.get("rendezvous") {
                            spec.rendezvous = self.rendezvous(&entry.value, &at.key("rendezvous"));
                        }
                        if let Some(entry) = entries.get("restart_on_secret") {
                            spec.restart_on_secret =
                                self.boolean(&entry.value, &at.key("restart_on_secret")).unwrap_or(false);
                        }
                    }
                }
                // Read by the parts below, or refused by `check_keys`.
                _ => {}
            }
        }
        self.process(entries, path, &mut spec);
        self.sandbox(entries, path, &mut spec);
        self.naming(entries, path, &mut spec, &mut draft);
        self.logging(entries, path, &mut spec);
        self.limits(entries, path, &mut spec);
        if let Some(entry) = Self::said(entries, "restart") {
            draft.restart = Some(entry.key);
            if let Some(policy) = self.restart(&entry.value, &path.key("restart")) {
                spec.restart = policy;
            }
        }
        if let Some(entry) = Self::said(entries, "deploy") {
            self.deploy(&entry.value, &path.key("deploy"), &mut spec, &mut draft);
        }
        self.scale(entries, path, &mut spec);
        self.x_update(entries, path, &mut spec);
        self.x_array(entries, path, &mut spec);
        self.x_asks(entries, path, &mut spec);
        self.x_schedule(entries, path, &mut spec);
        self.networks(entries, entry.key, path, &mut spec, &mut draft);
        spec.depends_on = draft.depends_on.iter().map(|d| d.value.clone()).collect();
        for link in &draft.links {
            let dependency = Dependency {
                condition: lattice_model::spec::DependencyCondition::ServiceStarted,
                required: true,
                restart: false,
            };
            if !spec.depends_on.contains_key(&link.value.0) {
                spec.depends_on.insert(link.value.0.clone(), dependency);
                let value = (link.value.0.clone(), dependency);
                draft.depends_on.push(Placed { value, span: link.span, path: link.path.clone() });
            }
        }
        draft.spec = spec;
        Some(draft)
    }

    fn image_or_build(
        &mut self,
        entries: &Mapping,
        at: Span,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        let image = Self::said(entries, "image").and_then(|e| self.image(e, &path.key("image")));
        let build = Self::said(entries, "build");
        let policy = Self::said(entries, "pull_policy");
        match build {
            Some(entry) if self.build => draft.build = self.build(&entry.value, &path.key("build")),
            Some(entry) if image.is_none() && !self.local => {
                let hint = format!("Write `image: NAME:TAG`, {DEPLOY_THERE}");
                self.elsewhere(entry.key, path.key("build"), "what the image is built from is", &hint);
            }
            Some(entry) if image.is_none() => {
                let message = "the service has no `image`, and nothing is built now";
                let hint = "Deploy without --no-build, or write `image: NAME:TAG`";
                self.error(Code::Invalid, entry.key, path.key("build"), message, hint);
            }
            // What could not be extended was said.
            None if !["image", "provider", "extends"].iter().any(|key| entries.contains_key(*key)) => {
                let hint = "Write `image: NAME:TAG`, or `build: ./folder`";
                self.error(Code::Invalid, at, path, "the service has neither `image` nor `build`", hint);
            }
            _ => {}
        }
        if draft.build.is_none() {
            spec.image = image.unwrap_or_default();
        }
        if let Some(entry) = policy
            && let Some(pull) = self.pull_policy(&entry.value, build.is_some(), &path.key("pull_policy"))
        {
            spec.pull = pull;
        }
        if draft.build.is_some() {
            // It is on this machine's node and nowhere else.
            spec.pull = PullPolicy::Never;
        }
        if let Some(entry) = Self::said(entries, "platform") {
            let at = path.key("platform");
            spec.platform = self.text(&entry.value, &at).map(str::to_owned);
            if let Some(text) = &spec.platform {
                let parts: Vec<&str> = text.split('/').collect();
                let plain = |p: &&str| {
                    !p.is_empty() && p.len() <= 20 && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                };
                if parts[0] != "linux" || !(2..=3).contains(&parts.len()) || !parts.iter().all(plain) {
                    let message = format!("`{}` is no platform that nodes run", show(text));
                    let hint = "Write `linux/amd64`, `linux/arm64` or another `linux/ARCHITECTURE`";
                    self.error(Code::Invalid, entry.value.span, at, message, hint);
                }
            }
        }
    }

    fn image(&mut self, entry: &Entry, at: &Path<'_>) -> Option<String> {
        let text = self.text(&entry.value, at)?;
        if let Some(fault) = scalar::image_fault(text) {
            let message = format!("`{}` is no image reference: {fault}", show(text));
            let hint = "Write it as `postgres:15` or `registry.example/team/app:1.2`";
            self.error(Code::Invalid, entry.value.span, at, message, hint);
            return None;
        }
        Some(text.to_owned())
    }

    fn pull_policy(&mut self, node: &Node, builds: bool, path: &Path<'_>) -> Option<PullPolicy> {
        let by_clock = |this: &mut Self| {
            let message = "images are not fetched by the clock: it is fetched before each new container";
            this.problems.warn(Code::Ignored, node.span, path, message, "Write `always`, or `missing`");
            Some(PullPolicy::Always)
        };
        match self.text(node, path)? {
            "missing" | "if_not_present" => Some(PullPolicy::Missing),
            "always" => Some(PullPolicy::Always),
            "never" => Some(PullPolicy::Never),
            "build" if builds => Some(PullPolicy::Never),
            "build" => {
                let message = "the service is to be built and has no `build`";
                self.error(Code::Invalid, node.span, path, message, "Write `build: ./folder`, or remove it");
                None
            }
            "daily" | "weekly" | "refresh" => by_clock(self),
            text if text.strip_prefix("every_").is_some_and(|span| scalar::duration(span).is_some()) => {
                by_clock(self)
            }
            _ => self.expected(node, path, "a pull policy", "Write `missing`, `always`, `never` or `build`"),
        }
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

    /// Whether a path in the container is free; it is taken then.
    pub(crate) fn take_target(
        &mut self,
        draft: &mut Draft,
        target: &str,
        span: Span,
        path: impl std::fmt::Display,
    ) -> bool {
        if let Some(first) = draft.targets.insert(target.to_owned(), span.line) {
            let message = format!("{} is mounted twice; the first is on line {first}", show(target));
            self.error(Code::Conflict, span, path, message, "Remove one, or mount it elsewhere");
            return false;
        }
        true
    }
}
