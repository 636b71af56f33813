//! What a container is and may: its process, its walls, its names, its log.

use crate::{
    keys,
    problem::{Code, show},
    read::{Pair, Path, Reader},
    scalar,
    service::{Draft, Placed},
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    Bytes, WorkloadName,
    spec::{CAPABILITIES, DEFAULT_CAPABILITIES, HostEntry, TmpfsSpec, ULIMITS, Ulimit, WorkloadSpec},
};
use std::net::IpAddr;

impl Reader<'_> {
    /// A text of one line with nothing odd in it, of at most `most` bytes.
    fn word(&mut self, entries: &Mapping, key: &'static str, path: &Path<'_>, most: usize) -> Option<String> {
        let entry = Self::said(entries, key)?;
        let at = path.key(key);
        let text = self.text(&entry.value, &at)?;
        if text.is_empty() {
            return None;
        }
        if text.len() > most || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.expected::<()>(&entry.value, &at, &format!("a word of at most {most} bytes"), "");
            return None;
        }
        Some(text.to_owned())
    }

    fn flag(&mut self, entries: &Mapping, key: &'static str, path: &Path<'_>) -> bool {
        match Self::said(entries, key) {
            Some(entry) => self.boolean(&entry.value, &path.key(key)).unwrap_or_default(),
            None => false,
        }
    }

    pub(crate) fn process(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let user = self.word(entries, "user", path, 255);
        let hostname = self.host_name(entries, "hostname", path);
        let domainname = self.host_name(entries, "domainname", path);
        let stop_signal = self.stop_signal(entries, path);
        let process = &mut spec.process;
        process.user = user;
        process.hostname = hostname;
        process.domainname = domainname;
        process.stop_signal = stop_signal;
        process.init = self.flag(entries, "init", path);
        process.tty = self.flag(entries, "tty", path);
        process.stdin_open = self.flag(entries, "stdin_open", path);
        if let Some(entry) = Self::said(entries, "group_add") {
            let groups = self.texts(&entry.value, &path.key("group_add"));
            process.groups = groups.unwrap_or_default();
        }
        if let Some(entry) = Self::said(entries, "working_dir") {
            let at = path.key("working_dir");
            if let Some(text) = self.text(&entry.value, &at).map(str::to_owned) {
                if text.starts_with('/') && text.len() <= 4096 && !text.chars().any(char::is_control) {
                    process.working_dir = Some(text);
                } else if !text.is_empty() {
                    self.expected::<()>(
                        &entry.value,
                        &at,
                        "an absolute path inside the container",
                        "Begin it with `/`",
                    );
                }
            }
        }
        if let Some(entry) = Self::said(entries, "oom_score_adj")
            && let Some(score) = self.signed(&entry.value, &path.key("oom_score_adj"), -1000, 1000)
        {
            process.oom_score_adj = i16::try_from(score).ok();
        }
        self.closed(entries, path);
    }

    fn host_name(&mut self, entries: &Mapping, key: &'static str, path: &Path<'_>) -> Option<String> {
        let text = self.word(entries, key, path, 253)?;
        if !scalar::is_host_name(&text) {
            let node = &entries.get(key)?.value;
            return self.expected(
                node,
                &path.key(key),
                "a host name",
                "Use letters, digits and `-`, with dots between parts",
            );
        }
        Some(text)
    }

    fn stop_signal(&mut self, entries: &Mapping, path: &Path<'_>) -> Option<String> {
        let text = self.word(entries, "stop_signal", path, 20)?;
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = [
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
            "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
            "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
        ];
        let realtime =
            name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX")).is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix(['+', '-']).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 30))
            });
        match name.parse::<u8>() {
            Ok(1..=64) => Some(text),
            Err(_) if known.contains(&name) || realtime => Some(format!("SIG{name}")),
            _ => {
                let node = &entries.get("stop_signal")?.value;
                self.expected(
                    node,
                    &path.key("stop_signal"),
                    "a signal",
                    "Write `SIGTERM`, `SIGINT`, `SIGQUIT` or another",
                )
            }
        }
    }

    /// What is closed with some values and plain with others.
    fn closed(&mut self, entries: &Mapping, path: &Path<'_>) {
        for (key, fine) in [
            ("ipc", &["private", "shareable", ""][..]),
            ("cgroup", &["private", ""]),
            ("isolation", &["default", ""]),
            ("runtime", &["runc", "io.containerd.runc.v2", ""]),
        ] {
            let Some(entry) = Self::said(entries, key) else { continue };
            let at = path.key(key);
            let Some(text) = self.text(&entry.value, &at).map(str::to_owned) else { continue };
            if fine.contains(&text.as_str()) {
                continue;
            }
            let (why, instead) = match (key, text.as_str()) {
                ("runtime", "nvidia") => ("GPUs are asked for in another way", "Write `gpus: all` instead"),
                ("runtime", _) => ("the node chooses how containers are run", "Remove it"),
                ("isolation", _) => ("it is for Windows", "Remove it"),
                _ => (
                    "the host's and other containers' namespaces are closed to workloads",
                    "Remove it; let services talk over their network, or share a volume",
                ),
            };
            self.refuse(entry, &at, why, instead);
        }
    }

    pub(crate) fn sandbox(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        spec.sandbox.read_only = self.flag(entries, "read_only", path);
        if let Some(entry) = Self::said(entries, "shm_size") {
            spec.sandbox.shm_size = self.parsed::<Bytes>(&entry.value, &path.key("shm_size"));
        }
        if let Some(entry) = Self::said(entries, "ulimits") {
            self.ulimits(&entry.value, &path.key("ulimits"), spec);
        }
        if let Some(entry) = Self::said(entries, "sysctls") {
            self.sysctls(&entry.value, &path.key("sysctls"), spec);
        }
        for key in ["cap_add", "cap_drop"] {
            let Some(entry) = Self::said(entries, key) else { continue };
            let at = path.key(key);
            for (text, span) in self.text_or_list(&entry.value, &at) {
                self.capability(key == "cap_add", &text, span, &at, spec);
            }
        }
        if let Some(entry) = Self::said(entries, "security_opt") {
            let at = path.key("security_opt");
            for (text, span) in self.text_or_list(&entry.value, &at) {
                self.security(&text, span, &at);
            }
        }
    }

    pub(crate) fn ulimits(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(map) = self.mapping(node, path) else { return };
        for (key, entry) in map.iter().filter(|(key, _)| !key.starts_with("x-")) {
            let at = path.key(key);
            if !ULIMITS.contains(&&**key) {
                let hint = match scalar::nearest(key, ULIMITS) {
                    Some(near) => format!("Did you mean `{near}`?"),
                    None => format!("There are {}", ULIMITS.join(", ")),
                };
                let message = format!("the kernel has no limit `{}`", show(key));
                self.error(Code::Invalid, entry.key, at, message, hint);
                continue;
            }
            let most = i64::MAX;
            let pair = match &*entry.value.value {
                Value::Mapping(inner) => {
                    self.check_keys(inner, &at, &keys::ULIMIT);
                    let read = |this: &mut Self, key: &'static str| match inner.get(key) {
                        Some(e) => this.signed(&e.value, &at.key(key), -1, most),
                        None => this.expected(&entry.value, &at, "both `soft` and `hard`", ""),
                    };
                    (read(self, "soft"), read(self, "hard"))
                }
                _ => {
                    let both = self.signed(&entry.value, &at, -1, most);
                    (both, both)
                }
            };
            let (Some(soft), Some(hard)) = pair else { continue };
            if hard != -1 && (soft == -1 || soft > hard) {
                let message = format!("the soft limit {soft} is more than the hard one, {hard}");
                self.error(Code::Conflict, entry.key, at, message, "Lower `soft` or raise `hard`");
                continue;
            }
            spec.sandbox.ulimits.insert(key.to_string(), Ulimit { soft, hard });
        }
    }

    fn sysctls(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec) {
        for (key, Pair { span, value, .. }) in self.pairs(node, path) {
            let own = key.starts_with("net.")
                || key.starts_with("fs.mqueue.")
                || matches!(
                    key.as_str(),
                    "kernel.msgmax"
                        | "kernel.msgmnb"
                        | "kernel.msgmni"
                        | "kernel.sem"
                        | "kernel.shmall"
                        | "kernel.shmmax"
                        | "kernel.shmmni"
                        | "kernel.shm_rmid_forced"
                );
            if !own || !key.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
                let message = format!(
                    "not supported: {} belongs to the whole computer, not to the container",
                    show(&key)
                );
                let hint = if key.starts_with("vm.") {
                    "Remove it; most programs have a setting of their own for a smaller need (for Elasticsearch and OpenSearch `node.store.allow_mmap: \"false\"`)"
                } else {
                    "Remove it; `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem` and `fs.mqueue.*` are the container's own"
                };
                self.error(Code::NotSupported, span, path.key(&key), message, hint);
                continue;
            }
            spec.sandbox.sysctls.insert(key, value.unwrap_or_default());
        }
    }

    fn capability(&mut self, add: bool, text: &str, span: Span, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" && !add {
            spec.sandbox.cap_drop.insert("ALL".into());
            return;
        }
        if name == "ALL" {
            let message = "not supported: all capabilities together own the computer that somebody lends";
            self.error(Code::NotSupported, span, path, message, "Name the single ones that it needs");
            return;
        }
        if !CAPABILITIES.contains(&name) {
            let hint = match scalar::nearest(name, CAPABILITIES.map(|c| c)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Write one such as `NET_ADMIN`, or remove it".into(),
            };
            self.error(Code::Invalid, span, path, format!("there is no capability `{}`", show(text)), hint);
            return;
        }
        if add && !DEFAULT_CAPABILITIES.contains(&name) {
            let message = format!(
                "the capability {name} is given only by nodes whose owners allow it; on others the service waits"
            );
            self.problems.warn(Code::Differs, span, path, message, "Remove it if the service runs without");
        }
        let set = if add { &mut spec.sandbox.cap_add } else { &mut spec.sandbox.cap_drop };
        set.insert(name.to_owned());
    }

    fn security(&mut self, text: &str, span: Span, path: &Path<'_>) {
        let normal = text.trim().replace('=', ":");
        match normal.as_str() {
            // So it is always.
            "no-new-privileges" | "no-new-privileges:true" => {}
            "label:disable" | "label:type:spc_t" => {
                let message = format!("`{}` has no effect: no folder of the host is mounted", show(text));
                self.problems.warn(Code::Ignored, span, path, message, "Remove it");
            }
            _ => {
                let message = format!(
                    "not supported: `{}`; the node sets the security profile of a lent computer, and never a laxer one",
                    show(text)
                );
                self.error(
                    Code::NotSupported,
                    span,
                    path,
                    message,
                    "Remove it; no-new-privileges is always on",
                );
            }
        }
    }

    /// `/run`, `/run:size=64m,mode=1777`.
    pub(crate) fn tmpfs(&mut self, node: &Node, path: &Path<'_>, spec: &mut WorkloadSpec, draft: &mut Draft) {
        for (text, span) in self.text_or_list(node, path) {
            let (target, options) = text.split_once(':').unwrap_or((&text, ""));
            let Some(mut tmpfs) = self.tmpfs_at(target, span, path) else { continue };
            for option in options.split(',').filter(|o| !o.is_empty()) {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                let good = match name {
                    "size" => value.parse().map(|size| tmpfs.size = Some(size)).is_ok(),
                    "mode" => u32::from_str_radix(value, 8)
                        .ok()
                        .filter(|m| *m <= 0o7777)
                        .map(|mode| tmpfs.mode = Some(mode))
                        .is_some(),
                    "uid" => value.parse().map(|uid| tmpfs.uid = Some(uid)).is_ok(),
                    "gid" => value.parse().map(|gid| tmpfs.gid = Some(gid)).is_ok(),
                    "exec" => {
                        tmpfs.exec = true;
                        true
                    }
                    // So it is.
                    "noexec" | "rw" | "nosuid" | "nodev" | "noatime" | "async" => true,
                    _ => false,
                };
                if !good {
                    let message = format!("`{}` is no option of a file system in memory", show(option));
                    let hint = "Write `size=64m`, `mode=1777`, `uid=1000`, `gid=1000` or `exec`";
                    self.error(Code::Invalid, span, path, message, hint);
                }
            }
            self.add_tmpfs(tmpfs, span, path, spec, draft);
        }
    }

    pub(crate) fn tmpfs_at(&mut self, target: &str, span: Span, path: &Path<'_>) -> Option<TmpfsSpec> {
        // The one place below /dev that is a file system in memory anyway.
        let target = match target.trim_end_matches('/') {
            "/dev/shm" => Ok("/dev/shm".to_owned()),
            _ => scalar::container_path(target),
        };
        match target {
            Ok(target) => {
                Some(TmpfsSpec { target, size: None, mode: None, uid: None, gid: None, exec: false })
            }
            Err(fault) => {
                self.error(Code::Invalid, span, path, fault, "Write `- /run`");
                None
            }
        }
    }

    pub(crate) fn add_tmpfs(
        &mut self,
        tmpfs: TmpfsSpec,
        span: Span,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        if !self.take_target(draft, &tmpfs.target, span, path) {
            return;
        }
        if tmpfs.target == "/dev/shm" {
            spec.sandbox.shm_size = tmpfs.size.or(spec.sandbox.shm_size);
        } else {
            spec.sandbox.tmpfs.push(tmpfs);
        }
    }

    pub(crate) fn naming(
        &mut self,
        entries: &Mapping,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        if let Some(entry) = Self::said(entries, "extra_hosts") {
            spec.naming.hosts = self.extra_hosts(&entry.value, &path.key("extra_hosts"));
        }
        if let Some(entry) = Self::said(entries, "dns") {
            let at = path.key("dns");
            for (text, span) in self.text_or_list(&entry.value, &at) {
                match text.parse::<IpAddr>() {
                    Ok(address) => spec.naming.servers.push(address),
                    Err(_) => {
                        let message = format!("`{}` is no address of a DNS server", show(&text));
                        self.error(
                            Code::Invalid,
                            span,
                            at,
                            message,
                            "Write an IP address, such as `1.1.1.1`",
                        );
                    }
                }
            }
        }
        let plain = |list: Vec<(String, Span)>| list.into_iter().map(|(text, _)| text).collect();
        if let Some(entry) = Self::said(entries, "dns_search") {
            spec.naming.search = plain(self.text_or_list(&entry.value, &path.key("dns_search")));
        }
        if let Some(entry) = Self::said(entries, "dns_opt") {
            spec.naming.options = plain(self.text_or_list(&entry.value, &path.key("dns_opt")));
        }
        if let Some(entry) = Self::said(entries, "container_name") {
            let at = path.key("container_name");
            let Some(text) = self.text(&entry.value, &at).map(str::to_owned) else { return };
            let place = Placed { value: text.clone(), span: entry.value.span, path: at.to_string() };
            if scalar::is_host_name(&text) {
                draft.container_name = Some(place);
            } else {
                let message = format!("`{}` cannot be a name in the network; it has no effect", show(&text));
                let hint = "Remove it: other services reach it by the service's name";
                self.problems.warn(Code::Ignored, entry.value.span, at, message, hint);
            }
        }
    }

    fn extra_hosts(&mut self, node: &Node, path: &Path<'_>) -> Vec<HostEntry> {
        let mut wanted: Vec<(String, String, Span)> = Vec::new();
        match &*node.value {
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let at = path.index(index);
                    let Some(text) = self.text(item, &at) else { continue };
                    match text.split_once('=').or_else(|| text.split_once(':')) {
                        Some((name, address)) => {
                            wanted.push((name.trim().into(), address.trim().into(), item.span))
                        }
                        None => {
                            let message = format!("`{}` has no address", show(text));
                            self.error(Code::Invalid, item.span, at, message, "Write `name:ADDRESS`");
                        }
                    }
                }
            }
            _ => {
                let Some(map) = self.mapping(node, path) else { return Vec::new() };
                for (name, entry) in map {
                    for (address, span) in self.text_or_list(&entry.value, &path.key(name)) {
                        wanted.push((name.to_string(), address, span));
                    }
                }
            }
        }
        let mut hosts = Vec::new();
        for (name, address, span) in wanted {
            if address == "host-gateway" {
                let message = "not supported: `host-gateway` is the node itself, and a node's owner keeps computer and LAN closed to containers";
                let hint =
                    "Remove it; run what it should reach as a service of the stack, or name a public address";
                self.error(Code::NotSupported, span, path, message, hint);
                continue;
            }
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&address);
            match bare.parse() {
                Ok(address) if scalar::is_host_name(&name) => hosts.push(HostEntry { name, address }),
                Ok(_) => {
                    let message = format!("`{}` is no host name", show(&name));
                    self.error(Code::Invalid, span, path, message, "Use letters, digits and `-`");
                }
                Err(_) => {
                    let message = format!("`{}` is no address for {}", show(&address), show(&name));
                    self.error(
                        Code::Invalid,
                        span,
                        path,
                        message,
                        "Write `name:ADDRESS`, such as `db:203.0.113.7`",
                    );
                }
            }
        }
        hosts
    }

    /// `db`, `db:database`.
    pub(crate) fn links(&mut self, node: &Node, path: &Path<'_>, draft: &mut Draft) {
        if node.is_null() {
            return;
        }
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let Some(text) = self.text(item, &at) else { continue };
            let (service, alias) = text.split_once(':').map_or((text, None), |(s, a)| (s, Some(a)));
            let Some(name) = self.named::<WorkloadName>(service, item.span, &at) else { continue };
            let alias = alias.filter(|alias| *alias != service);
            if alias.is_some_and(|alias| !scalar::is_host_name(alias)) {
                self.expected::<()>(
                    item,
                    &at,
                    "`SERVICE` or `SERVICE:NAME`",
                    "Use letters, digits and `-` in the name",
                );
                continue;
            }
            let value = (name, alias.map(str::to_owned));
            draft.links.push(Placed { value, span: item.span, path: at.to_string() });
        }
    }

    pub(crate) fn logging(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let Some(entry) = Self::said(entries, "logging") else { return };
        let at = path.key("logging");
        let Some(map) = self.mapping(&entry.value, &at) else { return };
        self.check_keys(map, &at, &keys::LOGGING);
        let driver = match Self::said(map, "driver") {
            Some(driver) => {
                let at = at.key("driver");
                let Some(text) = self.text(&driver.value, &at).map(str::to_owned) else { return };
                if !self.log_driver(&text, driver, &at) {
                    return;
                }
                text
            }
            None => String::new(),
        };
        let Some(options) = Self::said(map, "options") else { return };
        let at = at.key("options");
        let Some(options) = self.mapping(&options.value, &at) else { return };
        let bounded = matches!(driver.as_str(), "" | "json-file" | "local");
        for (key, option) in options {
            let at = at.key(key);
            match &**key {
                "max-size" if bounded => spec.logs.max_size = self.log_size(&option.value, &at),
                "max-file" if bounded => spec.logs.max_files = self.integer(&option.value, &at, 1, 100),
                // Lattice compresses nothing that is read daily, and knows service and stack by itself.
                _ => {
                    let message = "it has no effect: Lattice keeps the log itself";
                    self.problems.warn(Code::Ignored, option.key, at, message, "Read it by `lattice logs`");
                }
            }
        }
    }

    fn log_driver(&mut self, driver: &str, entry: &Entry, at: &Path<'_>) -> bool {
        match driver {
            "" | "json-file" | "local" => true,
            "journald" | "none" => {
                let message = format!("`{driver}` has no effect: Lattice keeps a bounded log itself");
                self.problems.warn(Code::Ignored, entry.value.span, at, message, "Read it by `lattice logs`");
                true
            }
            _ => {
                let message = format!(
                    "not supported: the driver `{}` would send the log away from the node; Lattice keeps it",
                    show(driver)
                );
                let hint = "Remove it and read the log by `lattice logs`, or let the program itself send what it writes";
                self.error(Code::NotSupported, entry.value.span, at, message, hint);
                false
            }
        }
    }

    fn log_size(&mut self, node: &Node, at: &Path<'_>) -> Option<Bytes> {
        let size = self.parsed::<Bytes>(node, at)?;
        if size == Bytes(0) {
            return self.expected(node, at, "a size", "Write `10m`");
        }
        Some(size)
    }
}
