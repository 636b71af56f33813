//! `volumes` of a service, both forms: named volumes, volumes without a name, file systems in
//! memory, and files inside the project's folder. A path of the host outside of that folder is
//! refused with its reason: it would name a path of a computer that is not the writer's.
//!
//! What a bind becomes depends on what is on the disk, and on the other services: see `trees`.

use crate::{
    files::is_outside,
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    scalar,
    service::{Draft, Placed},
    yaml::{Mapping, Node, Span, Value},
};
use lattice_model::{
    Bytes,
    spec::{MountSpec, WorkloadSpec},
};

/// The most mounts of one service.
const MAX_MOUNTS: usize = 100;

/// Files inside the project's folder, as asked for.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    /// Relative to the project's folder.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// Whether it may be missing.
    pub(crate) create: bool,
}

/// Whether a source is a path, where a volume's name is a single word.
fn is_host_path(source: &str) -> bool {
    source.starts_with(['.', '~']) || source.contains(['/', '\\'])
}

/// Where the source ends. In `C:\data:/data` and `C:/data:/data` the first colon belongs to a
/// drive; `c:/data` alone is a volume with a short name.
fn source_end(text: &str) -> Option<usize> {
    let first = text.find(':')?;
    let drive = first == 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let second = text[first + 1..].find(':').map(|at| first + 1 + at);
    match (drive, text.as_bytes().get(first + 1), second) {
        (true, Some(b'\\'), second) => Some(second.unwrap_or(text.len())),
        (true, Some(b'/'), Some(second)) if text[second + 1..].starts_with('/') => Some(second),
        _ => Some(first),
    }
}

/// The target of a short mount.
pub(crate) fn short_target(text: &str) -> &str {
    let rest = source_end(text).and_then(|colon| text.get(colon + 1..));
    match rest {
        Some(rest) if rest.starts_with('/') => rest.split(':').next().unwrap_or(rest),
        _ => text.split(':').next().unwrap_or(text),
    }
}

/// What is to be mounted at one path.
enum Kind {
    Named(MountSpec),
    Anonymous(String),
    Bind(Bind),
}

impl Reader<'_> {
    pub(crate) fn mounts(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) {
        if node.is_null() {
            return;
        }
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            if index >= MAX_MOUNTS {
                let message = format!("the service has more than {MAX_MOUNTS} mounts");
                self.error(Code::Limit, item.span, at, message, "Mount a common parent folder");
                break;
            }
            let kind = match &*item.value {
                _ if item.is_broken() => None,
                Value::Scalar(text, _) => self.short_mount(text, item.span, &at),
                Value::Mapping(entries) => self.long_mount(entries, item.span, &at, spec, draft),
                Value::Sequence(_) => self.expected(item, &at, "a mount", "Write `- name:/path`"),
            };
            let Some(kind) = kind else { continue };
            let target = match &kind {
                Kind::Named(mount) => &mount.target,
                Kind::Anonymous(target) => target,
                Kind::Bind(bind) => &bind.target,
            }
            .clone();
            if !self.take_target(draft, &target, item.span, at) {
                continue;
            }
            let (span, path) = (item.span, at.to_string());
            match kind {
                Kind::Named(value) => {
                    spec.mounts.push(value.clone());
                    draft.mounts.push(Placed { value, span, path });
                }
                Kind::Anonymous(value) => draft.anonymous.push(Placed { value, span, path }),
                Kind::Bind(value) => draft.binds.push(Placed { value, span, path }),
            }
        }
    }

    /// A bind inside the project's folder, or a refusal that says what to do instead.
    fn bind(
        &mut self,
        source: &str,
        target: &str,
        read_only: bool,
        create: bool,
        span: Span,
        path: &Path<'_>,
    ) -> Option<Kind> {
        let base = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let windows = source.contains('\\') && !source.starts_with(['.']) || {
            let drive = source.as_bytes();
            drive.len() > 2 && drive[0].is_ascii_alphabetic() && drive[1] == b':'
        };
        let joined = if windows { String::new() } else { self.resolve(span, source) };
        let refuse = |this: &mut Self, why: String, instead: &str| {
            this.error(Code::NotSupported, span, path, format!("not supported: {why}"), instead);
            None
        };
        if base.ends_with("docker.sock") || base.ends_with("podman.sock") || base.ends_with("containerd.sock")
        {
            let why = "the engine's socket gives away the whole computer that somebody lends";
            let hint = "Remove it; what watches containers (Traefik, Portainer, Watchtower …) is configured by a file here, or replaced by `lattice` itself";
            return refuse(self, why.to_owned(), hint);
        }
        if matches!(joined.as_str(), "/etc/localtime" | "/etc/timezone") {
            let message = format!("`{joined}` is not mounted: the node's time zone is not yours");
            let hint = "Remove it, and set `TZ` under `environment`, such as `TZ: Europe/Berlin`";
            self.problems.warn(Code::Ignored, span, path, message, hint);
            return None;
        }
        if windows || is_outside(&joined) {
            let shown = show(source);
            let (why, instead) = match joined.as_str() {
                "/var/run/dbus"
                | "/run/dbus"
                | "/run/dbus/system_bus_socket"
                | "/var/run/dbus/system_bus_socket" => (
                    format!("`{shown}` leads to the services of the computer that somebody lends"),
                    "Remove it",
                ),
                j if j.starts_with("/dev") => (
                    format!("`{shown}` belongs to the devices of a node, and those to its owner"),
                    "Remove it; ask for a GPU by `gpus: all`, and for shared memory by `shm_size`",
                ),
                j if ["/", "/proc", "/sys", "/run", "/var/run", "/boot", "/lib/modules"].contains(&j)
                    || ["/proc/", "/sys/", "/run/", "/var/run/"]
                        .iter()
                        .any(|folder| j.starts_with(folder)) =>
                {
                    (
                        format!("`{shown}` shows the computer that somebody lends"),
                        "Remove it; what nodes and containers do is shown by `lattice node show` and `lattice top`",
                    )
                }
                j if j == "/etc" || j.starts_with("/etc/") => (
                    format!("`{shown}` belongs to the computer that somebody lends"),
                    "Copy what is needed into the project's folder and mount it from there: `- ./FILE:/path:ro`",
                ),
                j if j == "/var" || j.starts_with("/var/") || j == "/root" => (
                    format!("`{shown}` belongs to the computer that somebody lends"),
                    "Use a named volume for data: `- data:/path`, and `data:` under the top-level `volumes`",
                ),
                j if j.starts_with('~') || j.starts_with("..") => (
                    format!(
                        "`{shown}` is outside of the project's folder, which is all that travels with a deployment"
                    ),
                    "Copy it into the project's folder and mount it from there, or use a named volume: `- data:/path`",
                ),
                _ => (
                    format!("`{shown}` is a path of the host, and hosts are other people's computers"),
                    "Use a named volume (`- data:/path`, and `data:` under the top-level `volumes`) for data; files inside the project's folder (`./…`) travel with the deployment",
                ),
            };
            return refuse(self, why, instead);
        }
        let target = self.target(target, span, path)?;
        Some(Kind::Bind(Bind { source: joined, target, read_only, create }))
    }

    fn target(&mut self, text: &str, span: Span, path: &Path<'_>) -> Option<String> {
        match scalar::container_path(text) {
            Ok(target) => Some(target),
            Err(fault) => {
                let message = format!("`{}`: {fault}", show(text));
                self.error(Code::Invalid, span, path, message, "Choose another path inside the container");
                None
            }
        }
    }

    fn short_mount(&mut self, text: &str, span: Span, path: &Path<'_>) -> Option<Kind> {
        let Some(colon) = source_end(text) else {
            if text.starts_with('/') {
                return Some(Kind::Anonymous(self.target(text, span, path)?));
            }
            let message = format!("`{}` does not say where the volume is mounted", show(text));
            self.error(Code::Invalid, span, path, message, "Write `- name:/path`");
            return None;
        };
        let (source, rest) = (&text[..colon], text.get(colon + 1..).unwrap_or_default());
        if source.starts_with('/') && !rest.starts_with('/') {
            // `/path:ro`: the path is the container's.
            return Some(Kind::Anonymous(self.target(source, span, path)?));
        }
        if source.is_empty() {
            let message = "the source is empty: a variable in it may have no value";
            self.error(Code::Invalid, span, path, message, "Write `- name:/path`, or set the variable");
            return None;
        }
        let host = is_host_path(source);
        let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
        let mut read_only = false;
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                // Labels and hints for the host's file system, of which there is none here.
                "z" | "Z" | "cached" | "delegated" | "consistent" | "private" | "rprivate" => {}
                // Said by the bind, when it is outside of the folder.
                "shared" | "rshared" | "slave" | "rslave"
                    if host && is_outside(&self.resolve(span, source)) => {}
                "shared" | "rshared" | "slave" | "rslave" => {
                    let message = format!("the mount option `{option}` would reach into the host");
                    self.error(
                        Code::NotSupported,
                        span,
                        path,
                        message,
                        "Remove it; `ro` and `rw` are supported",
                    );
                    return None;
                }
                _ => {
                    let message = format!("the mount option `{}` is not supported", show(option));
                    self.error(Code::NotSupported, span, path, message, "`ro` and `rw` are");
                    return None;
                }
            }
        }
        if host {
            return self.bind(source, target, read_only, true, span, path);
        }
        let volume = self.named(source, span, path);
        let target = self.target(target, span, path);
        Some(Kind::Named(MountSpec { volume: volume?, target: target?, read_only }))
    }

    fn long_mount(
        &mut self,
        entries: &Mapping,
        span: Span,
        path: &Path<'_>,
        spec: &mut WorkloadSpec,
        draft: &mut Draft,
    ) -> Option<Kind> {
        let text = |this: &mut Self, key: &'static str| {
            let entry = Self::said(entries, key)?;
            this.text(&entry.value, &path.key(key)).map(|text| (text.to_owned(), entry.value.span))
        };
        self.check_keys(entries, path, &keys::MOUNT);
        let Some((kind, kind_at)) = text(self, "type") else {
            if !entries.contains_key("type") {
                self.error(Code::Invalid, span, path, "the mount has no `type`", "Write `type: volume`");
            }
            return None;
        };
        let source = text(self, "source");
        if !entries.contains_key("target") {
            let hint = "Write `target: /path`, absolute inside the container";
            self.error(Code::Invalid, span, path, "the mount has no `target`", hint);
        }
        let read_only = match Self::said(entries, "read_only") {
            Some(entry) => self.boolean(&entry.value, &path.key("read_only"))?,
            None => false,
        };
        self.mount_parts(entries, path);
        match kind.as_str() {
            "volume" => {
                let (target, target_at) = text(self, "target")?;
                let Some((source, source_at)) = source else {
                    return Some(Kind::Anonymous(self.target(&target, target_at, &path.key("target"))?));
                };
                if is_host_path(&source) {
                    let message = format!("`{}` is a path, where a volume has a name", show(&source));
                    let hint = "Write `type: bind` for files inside the project's folder";
                    self.error(Code::Invalid, source_at, path.key("source"), message, hint);
                    return None;
                }
                let volume = self.named(&source, source_at, &path.key("source"));
                let target = self.target(&target, target_at, &path.key("target"));
                Some(Kind::Named(MountSpec { volume: volume?, target: target?, read_only }))
            }
            "bind" => {
                let Some((source, source_at)) = source else {
                    if !entries.contains_key("source") {
                        let message = "the mount has no `source`";
                        self.error(Code::Invalid, span, path, message, "Write `source: ./folder`");
                    }
                    return None;
                };
                let (target, _) = text(self, "target")?;
                let create = match Self::said(entries, "bind").and_then(|e| e.value.as_mapping()) {
                    Some(inner) => match Self::said(inner, "create_host_path") {
                        Some(entry) => {
                            self.boolean(&entry.value, &path.key("bind").key("create_host_path"))?
                        }
                        None => true,
                    },
                    None => true,
                };
                self.bind(&source, &target, read_only, create, source_at, path)
            }
            "tmpfs" => {
                let (target, target_at) = text(self, "target")?;
                let mut tmpfs = self.tmpfs_at(&target, target_at, &path.key("target"))?;
                if let Some(inner) = Self::said(entries, "tmpfs").and_then(|e| e.value.as_mapping()) {
                    let at = path.key("tmpfs");
                    if let Some(entry) = Self::said(inner, "size") {
                        tmpfs.size = self.parsed::<Bytes>(&entry.value, &at.key("size"));
                    }
                    if let Some(entry) = Self::said(inner, "mode") {
                        tmpfs.mode = self.mode(&entry.value, &at.key("mode"));
                    }
                }
                self.add_tmpfs(tmpfs, span, path, spec, draft);
                None
            }
            "npipe" | "cluster" | "image" => {
                let why = match kind.as_str() {
                    "npipe" => "named pipes are for Windows",
                    "cluster" => "cluster volumes belong to Swarm's storage plugins",
                    _ => "images are not mounted",
                };
                let message = format!("not supported: mounts of type {kind}; {why}");
                self.error(Code::NotSupported, kind_at, path, message, "Use `type: volume`");
                None
            }
            _ => {
                let message = format!("`{}` is no type of mount", show(&kind));
                self.error(Code::Invalid, kind_at, path, message, "Write `volume`, `bind` or `tmpfs`");
                None
            }
        }
    }

    /// The parts `bind`, `volume`, `tmpfs` and `image` of the long form.
    fn mount_parts(&mut self, entries: &Mapping, path: &Path<'_>) {
        for (key, table) in [
            ("bind", &keys::MOUNT_BIND),
            ("volume", &keys::MOUNT_VOLUME),
            ("tmpfs", &keys::MOUNT_TMPFS),
            ("image", &keys::MOUNT_IMAGE),
        ] {
            let Some(entry) = Self::said(entries, key) else { continue };
            let at = path.key(key);
            let Some(inner) = self.mapping(&entry.value, &at) else { continue };
            self.check_keys(inner, &at, table);
            if key == "volume"
                && let Some(entry) = Self::said(inner, "nocopy")
                && self.boolean(&entry.value, &at.key("nocopy")) == Some(true)
            {
                let why = "a new volume begins with what the image has there";
                let hint = "Remove it, or mount where the image has nothing";
                self.refuse(entry, &at.key("nocopy"), why, hint);
            }
            if key == "bind"
                && let Some(entry) = Self::said(inner, "propagation")
                && !matches!(entry.value.as_text(), Some("private" | "rprivate" | ""))
            {
                let why = "mounts do not spread between container and host";
                self.refuse(entry, &at.key("propagation"), why, "Remove it");
            }
        }
    }
}
