//! `deploy` and the older keys that say the same: how many, how large, where, and how they are
//! replaced.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    service::Draft,
    yaml::{Entry, Mapping, Node, Value},
};
use lattice_model::{
    Bytes, Cpu, PoolName,
    spec::{
        Affinity, Constraint, GpuCount, GpuRequest, MAX_REPLICAS, Mode, NodeAttribute, Pools, Preference,
        Rendezvous, RestartPolicy, TaskArray, Toleration, UpdateFailure, UpdateOrder, UpdatePolicy,
        WorkloadSpec,
    },
};

/// What Docker itself demands of a memory limit.
const LEAST_MEMORY: Bytes = Bytes::from_mib(6);
/// What Docker itself demands of a processor limit: a hundredth of a core.
const LEAST_CPU: Cpu = Cpu(10);
/// The most processes that a limit may name.
const MOST_PIDS: u32 = 1 << 22;

impl Reader<'_> {
    pub(crate) fn deploy(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::DEPLOY);
        let mut job = false;
        if let Some(entry) = Self::said(map, "mode") {
            let at = path.key("mode");
            match self.text(&entry.value, &at) {
                None | Some("replicated") => {}
                Some("global") => spec.mode = Mode::Global,
                Some("replicated-job") => job = true,
                Some("global-job") => (spec.mode, job) = (Mode::Global, true),
                Some(_) => {
                    let what = "`replicated`, `global`, `replicated-job` or `global-job`";
                    self.expected::<()>(&entry.value, &at, what, "");
                }
            }
        }
        if let Some(entry) = Self::said(map, "replicas") {
            let at = path.key("replicas");
            if let Some(count) = self.integer(&entry.value, &at, 0, MAX_REPLICAS) {
                spec.replicas = count;
            }
            if spec.mode == Mode::Global {
                let message = "it has no effect: a global service runs once on each node";
                self.problems.warn(
                    Code::Ignored,
                    entry.key,
                    at,
                    message,
                    "Remove it, or write `mode: replicated`",
                );
            }
        }
        if let Some(entry) = Self::said(map, "labels") {
            for (key, value) in self.labels(&entry.value, &path.key("labels")) {
                spec.labels.entry(key).or_insert(value);
            }
        }
        if let Some(entry) = Self::said(map, "resources") {
            self.resources(&entry.value, &path.key("resources"), spec);
        }
        if let Some(entry) = Self::said(map, "placement") {
            self.placement(&entry.value, &path.key("placement"), spec);
        }
        if let Some(entry) = Self::said(map, "update_config") {
            let at = path.key("update_config");
            if let Some(policy) = self.update(&entry.value, &at, &keys::UPDATE_CONFIG) {
                spec.update = policy;
            }
        }
        if let Some(entry) = Self::said(map, "rollback_config") {
            spec.rollback = self.update(&entry.value, &path.key("rollback_config"), &keys::ROLLBACK_CONFIG);
        }
        let policy = Self::said(map, "restart_policy");
        if let Some(entry) = policy {
            draft.restart = Some(entry.key);
            self.restart_policy(&entry.value, &path.key("restart_policy"), spec);
        }
        if job {
            // A job that ends with 0 is done; `any`, Compose's default, would never let it be.
            if spec.restart == RestartPolicy::Always || (policy.is_none() && draft.restart.is_none()) {
                spec.restart = RestartPolicy::OnFailure { max_retries: None };
            }
            draft.restart = draft.restart.or(Some(node.span));
        }
    }

    fn restart_policy(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::RESTART_POLICY);
        let attempts = Self::said(map, "max_attempts");
        let max_retries = attempts
            .and_then(|e| self.integer(&e.value, &path.key("max_attempts"), 0, u32::MAX))
            .filter(|n| *n > 0);
        let condition = match Self::said(map, "condition") {
            Some(entry) => {
                self.text(&entry.value, &path.key("condition")).map(|text| (text.to_owned(), entry))
            }
            None => None,
        };
        match condition.as_ref().map(|(text, entry)| (text.as_str(), entry)) {
            Some(("none" | "no", _)) => spec.restart = RestartPolicy::Never,
            Some(("on-failure", _)) => spec.restart = RestartPolicy::OnFailure { max_retries },
            None | Some(("any" | "always" | "unless-stopped" | "", _)) => {
                spec.restart = RestartPolicy::Always;
                if let (Some(entry), Some(_)) = (attempts, max_retries) {
                    let message =
                        "it has no effect: a service that is always started again has no last attempt";
                    let at = path.key("max_attempts");
                    self.problems.warn(
                        Code::Ignored,
                        entry.key,
                        at,
                        message,
                        "Write `condition: on-failure` to count",
                    );
                }
            }
            Some((_, entry)) => {
                let hint = "Write `none`, `on-failure` or `any`";
                self.expected::<()>(&entry.value, &path.key("condition"), "a condition", hint);
            }
        }
        let mut span = |key: &'static str| {
            let entry = Self::said(map, key)?;
            self.duration(&entry.value, &path.key(key))
        };
        spec.restart_timing.delay = span("delay");
        spec.restart_timing.window = span("window");
    }

    fn update(&mut self, node: &Node, path: &Path<'_>, table: &keys::Table) -> Option<UpdatePolicy> {
        let map = self.mapping(node, path)?;
        self.check_keys(map, path, table);
        let mut policy = UpdatePolicy::default();
        if let Some(entry) = Self::said(map, "parallelism") {
            policy.parallelism = self.integer(&entry.value, &path.key("parallelism"), 0, MAX_REPLICAS)?;
        }
        for (key, field) in [("delay", &mut policy.delay), ("monitor", &mut policy.monitor)] {
            if let Some(entry) = Self::said(map, key) {
                *field = self.duration(&entry.value, &path.key(key))?;
            }
        }
        if let Some(entry) = Self::said(map, "failure_action") {
            let at = path.key("failure_action");
            policy.on_failure = match self.text(&entry.value, &at)? {
                "pause" => UpdateFailure::Pause,
                "continue" => UpdateFailure::Continue,
                "rollback" => UpdateFailure::Rollback,
                _ => return self.expected(&entry.value, &at, "`pause`, `continue` or `rollback`", ""),
            };
        }
        if let Some(entry) = Self::said(map, "order") {
            let at = path.key("order");
            policy.order = match self.text(&entry.value, &at)? {
                "stop-first" => UpdateOrder::StopFirst,
                "start-first" => UpdateOrder::StartFirst,
                _ => return self.expected(&entry.value, &at, "`stop-first` or `start-first`", ""),
            };
        }
        if let Some(entry) = Self::said(map, "max_failure_ratio") {
            let at = path.key("max_failure_ratio");
            let ratio = self.text(&entry.value, &at)?.parse::<f64>().ok().filter(|r| (0.0..=1.0).contains(r));
            match ratio {
                Some(ratio) => policy.max_failure_permille = (ratio * 1000.0).round() as u16,
                None => return self.expected(&entry.value, &at, "a number from 0 to 1", ""),
            }
        }
        Some(policy)
    }

    fn placement(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::PLACEMENT);
        if let Some(entry) = Self::said(map, "constraints") {
            let at = path.key("constraints");
            for (text, span) in self.text_or_list(&entry.value, &at) {
                let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                match bare.as_str() {
                    // Every node is one.
                    "node.role==worker" | "node.role!=manager" => continue,
                    "node.role==manager" | "node.role!=worker" => {
                        let message =
                            "not supported: the control plane runs no workloads, so no node is a manager";
                        let hint = "Remove it; choose nodes by `node.labels.KEY == VALUE` or `x-lattice: {pool: NAME}`";
                        self.error(Code::NotSupported, span, at, message, hint);
                        continue;
                    }
                    _ => {}
                }
                if let Some(constraint) = self.named::<Constraint>(&text, span, &at) {
                    spec.placement.constraints.push(constraint);
                }
            }
        }
        if let Some(entry) = Self::said(map, "preferences") {
            let at = path.key("preferences");
            for (index, item) in self.list(&entry.value, &at).unwrap_or_default().iter().enumerate() {
                let at = at.index(index);
                let Some(inner) = self.mapping(item, &at) else { continue };
                self.check_keys(inner, &at, &keys::PREFERENCE);
                if let Some(entry) = inner.get("spread")
                    && let Some(attribute) = self.parsed::<NodeAttribute>(&entry.value, &at.key("spread"))
                {
                    spec.placement.spread.push(attribute);
                }
            }
        }
        if let Some(entry) = Self::said(map, "max_replicas_per_node") {
            let most = self.integer(&entry.value, &path.key("max_replicas_per_node"), 0, MAX_REPLICAS);
            // Swarm reads 0 as no limit.
            spec.placement.max_per_node = most.filter(|n| *n > 0);
        }
    }

    /// `cpus`, `mem_limit` and the others of the service itself; `deploy` outranks them, as it is read later.
    pub(crate) fn limits(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let number = |this: &mut Self, key: &'static str, most: i64| {
            let entry = Self::said(entries, key)?;
            this.signed(&entry.value, &path.key(key), -1, most).filter(|n| *n > 0)
        };
        let quota = number(self, "cpu_quota", 1 << 40);
        let period = match Self::said(entries, "cpu_period") {
            // Microseconds, or a span of time.
            Some(entry) => match entry.value.as_text().and_then(|t| t.parse::<i64>().ok()) {
                Some(micros) => Some(micros),
                None => {
                    let span = self.duration(&entry.value, &path.key("cpu_period"));
                    span.map(|d| i64::try_from(d.0).unwrap_or(i64::MAX).saturating_mul(1000))
                }
            },
            None => None,
        };
        if let Some(quota) = quota {
            let period = period.filter(|p| *p > 0).unwrap_or(100_000);
            let milli = quota.saturating_mul(1000) / period;
            spec.resources.cpu_limit = u32::try_from(milli).ok().map(|n| Cpu(n.max(LEAST_CPU.0)));
        }
        if let Some(entry) = Self::said(entries, "cpu_count").filter(|e| e.value.as_text() != Some("0")) {
            spec.resources.cpu_limit = self.amount(Some(entry), &path.key("cpu_count"), LEAST_CPU);
        }
        // 0 is no limit, as Docker reads it.
        let some =
            |key| Self::said(entries, key).filter(|e| !matches!(e.value.as_text(), Some("0" | "0.0" | "")));
        if let Some(entry) = some("cpus") {
            spec.resources.cpu_limit = self.amount(Some(entry), &path.key("cpus"), LEAST_CPU);
        }
        if let Some(entry) = some("mem_limit") {
            spec.resources.memory_limit = self.amount(Some(entry), &path.key("mem_limit"), LEAST_MEMORY);
        }
        if let Some(entry) = some("mem_reservation") {
            let at = path.key("mem_reservation");
            spec.resources.reserved_memory = self.amount(Some(entry), &at, Bytes(0));
            let limit = spec.resources.memory_limit;
            self.reserved_within(Some(entry), &at, spec.resources.reserved_memory, limit);
        }
        if let Some(pids) = number(self, "pids_limit", i64::from(MOST_PIDS)) {
            spec.resources.pids_limit = u32::try_from(pids).ok();
        }
        if let Some(entry) = Self::said(entries, "gpus") {
            spec.gpus = self.gpus(&entry.value, &path.key("gpus"));
        }
    }

    /// `scale`, which has to agree with `deploy.replicas`.
    pub(crate) fn scale(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(entry) = Self::said(entries, "scale") else { return };
        let at = path.key("scale");
        let Some(count) = self.integer(&entry.value, &at, 0, MAX_REPLICAS) else { return };
        let deploy = Self::said(entries, "deploy").and_then(|e| e.value.as_mapping());
        if deploy.is_some_and(|d| Self::said(d, "replicas").is_some()) && spec.replicas != count {
            let message = format!("`scale` says {count} and `deploy.replicas` says {}", spec.replicas);
            self.error(Code::Conflict, entry.key, at, message, "Remove one of the two");
            return;
        }
        spec.replicas = count;
    }

    fn resources(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(map) = self.mapping(node, path) else { return };
        self.check_keys(map, path, &keys::RESOURCES);
        let mut part = |key: &'static str, table: &keys::Table| -> Option<Mapping> {
            let entry = Self::said(map, key)?;
            let at = path.key(key);
            let part = self.mapping(&entry.value, &at)?;
            self.check_keys(part, &at, table);
            Some(part.clone())
        };
        let limits = part("limits", &keys::LIMITS_TABLE).unwrap_or_default();
        let reservations = part("reservations", &keys::RESERVATIONS).unwrap_or_default();
        let (at_limits, at_reservations) = (path.key("limits"), path.key("reservations"));
        let out = &mut spec.resources;
        let amounts = |map: &Mapping, key| Self::said(map, key).cloned();
        if let Some(entry) = amounts(&limits, "cpus") {
            out.cpu_limit = self.amount(Some(&entry), &at_limits.key("cpus"), LEAST_CPU);
        }
        if let Some(entry) = amounts(&limits, "memory") {
            out.memory_limit = self.amount(Some(&entry), &at_limits.key("memory"), LEAST_MEMORY);
        }
        if let Some(entry) = Self::said(&limits, "pids") {
            let at = at_limits.key("pids");
            // -1 and 0 are no limit of its own.
            out.pids_limit = self
                .signed(&entry.value, &at, -1, i64::from(MOST_PIDS))
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0);
        }
        let (cpus, memory) = (Self::said(&reservations, "cpus"), Self::said(&reservations, "memory"));
        if cpus.is_some() {
            out.reserved_cpu = self.amount(cpus, &at_reservations.key("cpus"), Cpu(0));
        }
        if memory.is_some() {
            out.reserved_memory = self.amount(memory, &at_reservations.key("memory"), Bytes(0));
        }
        self.reserved_within(cpus, &at_reservations.key("cpus"), out.reserved_cpu, out.cpu_limit);
        let both = (out.reserved_memory, out.memory_limit);
        self.reserved_within(memory, &at_reservations.key("memory"), both.0, both.1);
        if let Some(entry) = Self::said(&reservations, "devices") {
            let at = at_reservations.key("devices");
            if let Some(request) = self.devices(&entry.value, &at, &keys::DEVICE, true) {
                spec.gpus = Some(request);
            }
        }
    }

    fn gpus(&mut self, node: &Node, path: &Path<'_>) -> Option<GpuRequest> {
        match &*node.value {
            Value::Scalar(text, _) if &**text == "all" => Some(GpuRequest::any(GpuCount::All)),
            Value::Sequence(_) => self.devices(node, path, &keys::GPU, false),
            _ => self.expected(node, path, "`all` or a list", "Write `gpus: all`"),
        }
    }

    fn devices(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        table: &keys::Table,
        named: bool,
    ) -> Option<GpuRequest> {
        let items = self.list(node, path)?;
        if items.len() > 1 {
            let message = "not supported: more than one kind of GPU for one container";
            self.error(
                Code::NotSupported,
                items[1].span,
                path,
                message,
                "Put them into one entry with a `count`",
            );
            return None;
        }
        let item = items.first()?;
        let path = path.index(0);
        let map = self.mapping(item, &path)?;
        self.check_keys(map, &path, table);
        let mut request = GpuRequest::any(GpuCount::Exactly(1));
        let capabilities = match Self::said(map, "capabilities") {
            Some(entry) => self.text_or_list(&entry.value, &path.key("capabilities")),
            None => Vec::new(),
        };
        if named && !capabilities.iter().any(|(name, _)| matches!(name.as_str(), "gpu" | "nvidia-compute")) {
            let message = "not supported: devices other than GPUs belong to the node's owner";
            let hint = "Write `capabilities: [gpu]` for a GPU, or remove it";
            self.error(Code::NotSupported, item.span, path, message, hint);
            return None;
        }
        request.capabilities =
            capabilities.into_iter().map(|(name, _)| name).filter(|name| name != "gpu").collect();
        if let Some(entry) = Self::said(map, "driver") {
            request.driver =
                self.text(&entry.value, &path.key("driver")).map(str::to_owned).filter(|d| !d.is_empty());
        }
        let ids = Self::said(map, "device_ids");
        if let Some(entry) = ids {
            let at = path.key("device_ids");
            request.ids = self.text_or_list(&entry.value, &at).into_iter().map(|(id, _)| id).collect();
            request.count = GpuCount::Exactly(u32::try_from(request.ids.len()).unwrap_or(u32::MAX));
        }
        match Self::said(map, "count") {
            Some(entry) if ids.is_some() => {
                let message = "`count` and `device_ids` exclude each other";
                self.error(Code::Conflict, entry.key, path.key("count"), message, "Remove one of the two");
            }
            Some(entry) if matches!(entry.value.as_text(), Some("all" | "-1")) => {
                request.count = GpuCount::All
            }
            Some(entry) => {
                let count = self.integer(&entry.value, &path.key("count"), 1, 64)?;
                request.count = GpuCount::Exactly(count);
            }
            // Compose takes all where nothing is said.
            None if ids.is_none() => request.count = GpuCount::All,
            None => {}
        }
        if let Some(entry) = Self::said(map, "options") {
            self.gpu_options(&entry.value, &path.key("options"), &mut request);
        }
        Some(request)
    }

    /// What a GPU has to have.
    fn gpu_options(&mut self, node: &Node, path: &Path<'_>, request: &mut GpuRequest) {
        let Some(map) = self.mapping(node, path) else { return };
        for (name, entry) in map.iter() {
            let at = path.key(name);
            match &**name {
                "model" => {
                    request.model =
                        self.text(&entry.value, &at).map(str::to_owned).filter(|model| !model.is_empty());
                }
                "memory" => request.memory = self.amount(Some(entry), &at, Bytes(0)),
                _ => {
                    let message = "not supported: options of the driver belong to the node's owner";
                    let hint = "Write `model` or `memory`, or remove it";
                    self.error(Code::NotSupported, entry.key, at, message, hint);
                }
            }
        }
    }

    /// `x-lattice: {rendezvous: true}`, or the port.
    pub(crate) fn rendezvous(&mut self, node: &Node, path: &Path<'_>) -> Option<Rendezvous> {
        match node.as_text() {
            Some("true") => Some(Rendezvous { port: Rendezvous::PORT }),
            Some("false") => None,
            _ => {
                let port = self.integer(node, path, 1, 65_535)?;
                u16::try_from(port).ok().map(|port| Rendezvous { port })
            }
        }
    }

    /// What a service prefers, and whom it wants near or apart.
    pub(crate) fn wishes(&mut self, map: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        if let Some(entry) = Self::said(map, "prefer") {
            spec.placement.prefers = self.preferences(&entry.value, &path.key("prefer"));
        }
        if let Some(entry) = Self::said(map, "near") {
            spec.placement.near = self.affinities(&entry.value, &path.key("near"));
        }
        if let Some(entry) = Self::said(map, "apart") {
            spec.placement.apart = self.affinities(&entry.value, &path.key("apart"));
        }
        if let Some(entry) = Self::said(map, "max_skew") {
            spec.placement.max_skew = self.integer(&entry.value, &path.key("max_skew"), 1, MAX_REPLICAS);
        }
        if let Some(entry) = Self::said(map, "lasts") {
            spec.placement.lasts = self.duration(&entry.value, &path.key("lasts"));
        }
    }

    fn preferences(&mut self, node: &Node, path: &Path<'_>) -> Vec<Preference> {
        let mut found = Vec::new();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let Value::Mapping(map) = &*item.value else {
                let node = self.parsed(item, &at);
                found.extend(node.map(|node| Preference { node, weight: Preference::WEIGHT }));
                continue;
            };
            self.check_keys(map, &at, &keys::PREFER);
            let Some(entry) = map.get("node") else {
                let hint = "Write `{node: \"node.labels.disk == ssd\", weight: 20}`";
                self.error(Code::Invalid, item.span, at, "it names no constraint", hint);
                continue;
            };
            let node = self.parsed(&entry.value, &at.key("node"));
            let weight = match map.get("weight") {
                None => Some(Preference::WEIGHT),
                Some(entry) => self.weight(&entry.value, &at.key("weight"), -100),
            };
            found.extend(node.zip(weight).map(|(node, weight)| Preference { node, weight }));
        }
        found
    }

    /// A weight from `least` to 100 that is not 0.
    fn weight(&mut self, node: &Node, path: &Path<'_>, least: i8) -> Option<i8> {
        let text = self.text(node, path)?;
        match text.parse::<i8>() {
            Ok(weight) if weight != 0 && (least..=100).contains(&weight) => Some(weight),
            _ => self.expected(node, path, "a whole number up to 100 that is not 0", ""),
        }
    }

    fn affinities(&mut self, node: &Node, path: &Path<'_>) -> Vec<Affinity> {
        let mut found = Vec::new();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let Value::Mapping(map) = &*item.value else {
                let to = self.parsed(item, &at);
                found.extend(to.map(|to| Affinity { to, over: None, weight: None }));
                continue;
            };
            self.check_keys(map, &at, &keys::AFFINITY);
            let Some(entry) = map.get("service") else {
                let hint =
                    "Write `{service: NAME}`, with `over: node.region` or `weight: 20` where that is meant";
                self.error(Code::Invalid, item.span, at, "it names no service", hint);
                continue;
            };
            let Some(to) = self.parsed(&entry.value, &at.key("service")) else { continue };
            let over = map.get("over").and_then(|entry| self.parsed(&entry.value, &at.key("over")));
            let weight = map.get("weight").and_then(|entry| self.weight(&entry.value, &at.key("weight"), 1));
            found.push(Affinity { to, over, weight: weight.map(i8::unsigned_abs) });
        }
        found
    }

    /// The taints of nodes that a service bears: `KEY`, `KEY=VALUE`, or mappings of `key` and `value`.
    /// One pool, or several, the best first.
    pub(crate) fn pools(&mut self, node: &Node, path: &Path<'_>) -> Pools {
        let Value::Sequence(items) = &*node.value else {
            return self.parsed::<PoolName>(node, path).map(Pools::from).unwrap_or_default();
        };
        let each = |(at, item): (usize, &Node)| self.parsed(item, &path.index(at));
        let names: Vec<PoolName> = items.iter().enumerate().filter_map(each).collect();
        // One that is no name was told already.
        if names.len() < items.len() {
            return Pools::default();
        }
        Pools::new(names).unwrap_or_else(|error| {
            let hint = "Write one pool, or each once with the best first: `pool: [eu, us]`";
            self.error(Code::Invalid, node.span, path, error.to_string(), hint);
            Pools::default()
        })
    }

    pub(crate) fn tolerations(&mut self, node: &Node, path: &Path<'_>) -> Vec<Toleration> {
        let mut found: Vec<Toleration> = Vec::new();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let one = match &*item.value {
                Value::Mapping(map) => {
                    self.check_keys(map, &at, &keys::TOLERATION);
                    let Some(key) = map.get("key") else {
                        let hint = "Write `{key: NAME}`, with `value:` where only one value is borne";
                        self.error(Code::Invalid, item.span, at, "it names no taint", hint);
                        continue;
                    };
                    let Some(key) = self.text(&key.value, &at.key("key")) else { continue };
                    let value = match map.get("value") {
                        None => None,
                        Some(value) => match self.text(&value.value, &at.key("value")) {
                            Some(value) => Some(value),
                            None => continue,
                        },
                    };
                    let text = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
                    self.named(&text, item.span, &at)
                }
                _ => self.parsed(item, &at),
            };
            found.extend(one.filter(|one| !found.contains(one)));
        }
        found
    }

    /// `x-lattice: {array: 4}`: how many of the tasks of a job run at the same time. After `deploy` was read.
    pub(crate) fn x_array(&mut self, service: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let entries = Self::said(service, "x-lattice").and_then(|entry| entry.value.as_mapping());
        let Some(entry) = entries.and_then(|entries| Self::said(entries, "array")) else { return };
        let at = path.key("x-lattice");
        let at = at.key("array");
        let parallel = match entry.value.as_text() {
            Some("true") => 0,
            Some("false") => return,
            _ => match self.integer(&entry.value, &at, 0, MAX_REPLICAS) {
                Some(parallel) => parallel,
                None => return,
            },
        };
        if spec.restart == RestartPolicy::Always || spec.mode == Mode::Global || spec.rendezvous.is_some() {
            let message = "tasks are the replicas of a job that ends by itself, and do not find each other";
            let hint = "Write `deploy: {mode: replicated-job, replicas: N}`, and no `rendezvous`";
            self.error(Code::Conflict, entry.key, at, message, hint);
        }
        spec.array = Some(TaskArray { parallel });
    }

    pub(crate) fn amount<T>(&mut self, entry: Option<&Entry>, path: &Path<'_>, least: T) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display,
    {
        let entry = entry?;
        let amount: T = self.parsed(&entry.value, path)?;
        if amount < least {
            let message = format!("{} is less than the least possible, {least}", show(&amount.to_string()));
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
