//! `volumes` of a service: named volumes in both forms. Everything else that Compose mounts is
//! refused with its reason: a bind would name a path of a computer that is not the writer's.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    scalar,
    service::Placed,
    yaml::{Mapping, Node, Span, Value},
};
use lattice_model::spec::MountSpec;
use std::collections::BTreeMap;

/// The most mounts of one service.
const MAX_MOUNTS: usize = 100;

const NAME_IT: &str = "Name it: `- data:/path` here, and `data:` under the top-level `volumes`";

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

impl Reader<'_> {
    pub(crate) fn mounts(&mut self, node: &Node, path: &Path<'_>) -> Vec<Placed<MountSpec>> {
        let mut mounts: Vec<Placed<MountSpec>> = Vec::new();
        if node.is_null() {
            return mounts;
        }
        let mut targets: BTreeMap<String, u32> = BTreeMap::new();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            if index >= MAX_MOUNTS {
                let message = format!("the service has more than {MAX_MOUNTS} mounts");
                self.error(Code::Limit, item.span, at, message, "Mount a common parent folder");
                break;
            }
            let mount = match &*item.value {
                _ if item.is_broken() => None,
                Value::Scalar(text, _) => self.short_mount(text, item.span, &at),
                Value::Mapping(entries) => self.long_mount(entries, item.span, &at),
                Value::Sequence(_) => self.expected(item, &at, "a mount", "Write `- name:/path`"),
            };
            let Some(mount) = mount else { continue };
            if let Some(first) = targets.insert(mount.target.clone(), item.span.line) {
                let message =
                    format!("{} is mounted twice; the first is on line {first}", show(&mount.target));
                self.error(Code::Conflict, item.span, at, message, "Remove one, or mount it elsewhere");
                continue;
            }
            mounts.push(Placed { value: mount, span: item.span, path: at.to_string() });
        }
        mounts
    }

    fn refuse_bind(&mut self, source: &str, span: Span, path: &Path<'_>) {
        let (message, hint) = if source.ends_with("docker.sock") || source.ends_with("podman.sock") {
            (
                "not supported: the engine's socket gives away the whole computer that somebody lends"
                    .to_owned(),
                "Remove it; use Lattice's API with a token instead",
            )
        } else if source.starts_with("./") || source.starts_with("../") || source == "." {
            (
                format!(
                    "not supported yet: `{}` is a folder of yours, and the service runs on another computer",
                    show(source)
                ),
                "Copy it into the image, or use a named volume: `- data:/path`",
            )
        } else {
            (
                format!(
                    "not supported: `{}` is a path of the host, and hosts are other people's computers",
                    show(source)
                ),
                "Use a named volume: `- data:/path`, and `data:` under the top-level `volumes`",
            )
        };
        self.error(Code::NotSupported, span, path, message, hint);
    }

    fn refuse_anonymous(&mut self, span: Span, path: &Path<'_>) {
        let message = "not supported: a volume without a name would be lost when the container is replaced";
        self.error(Code::NotSupported, span, path, message, NAME_IT);
    }

    fn target(&mut self, text: &str, span: Span, path: &Path<'_>) -> Option<String> {
        match scalar::container_path(text) {
            Ok(target) => Some(target),
            Err(fault) => {
                let message = format!("`{}`: {fault}", show(text));
                self.error(Code::Invalid, span, path, message, "");
                None
            }
        }
    }

    fn short_mount(&mut self, text: &str, span: Span, path: &Path<'_>) -> Option<MountSpec> {
        let Some(colon) = source_end(text) else {
            if text.starts_with('/') {
                self.refuse_anonymous(span, path);
            } else {
                let message = format!("`{}` does not say where the volume is mounted", show(text));
                self.error(Code::Invalid, span, path, message, "Write `- name:/path`");
            }
            return None;
        };
        let (source, rest) = (&text[..colon], text.get(colon + 1..).unwrap_or_default());
        if source.starts_with('/') && !rest.starts_with('/') {
            self.refuse_anonymous(span, path);
            return None;
        }
        if is_host_path(source) {
            self.refuse_bind(source, span, path);
            return None;
        }
        if source.is_empty() {
            self.refuse_anonymous(span, path);
            return None;
        }
        let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
        let mut read_only = false;
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "z" | "Z" | "cached" | "delegated" | "consistent" => {
                    let message = format!("the mount option `{option}` has no effect on a named volume");
                    self.problems.warn(Code::Ignored, span, path, message, "Remove it");
                }
                _ => {
                    let message = format!("the mount option `{}` is not supported", show(option));
                    self.error(Code::NotSupported, span, path, message, "`ro` and `rw` are");
                    return None;
                }
            }
        }
        let volume = self.named(source, span, path);
        let target = self.target(target, span, path);
        Some(MountSpec { volume: volume?, target: target?, read_only })
    }

    fn long_mount(&mut self, entries: &Mapping, span: Span, path: &Path<'_>) -> Option<MountSpec> {
        let text = |this: &mut Self, key: &'static str| {
            let entry = entries.get(key)?;
            this.text(&entry.value, &path.key(key)).map(|text| (text.to_owned(), entry.value.span))
        };
        let Some((kind, kind_at)) = text(self, "type") else {
            if !entries.contains_key("type") {
                self.error(Code::Invalid, span, path, "the mount has no `type`", "Write `type: volume`");
            }
            return None;
        };
        let source = text(self, "source");
        match kind.as_str() {
            "volume" => {}
            "bind" => {
                let source = source.as_ref().map_or("", |s| s.0.as_str());
                self.refuse_bind(source, kind_at, path);
                return None;
            }
            "tmpfs" => {
                let message = "not supported yet: file systems in memory are not mounted";
                self.error(
                    Code::NotSupported,
                    kind_at,
                    path,
                    message,
                    "Use a named volume, or the container's own file system",
                );
                return None;
            }
            "npipe" | "cluster" | "image" => {
                let message = format!("not supported: mounts of type {kind}");
                self.error(Code::NotSupported, kind_at, path, message, "Use `type: volume`");
                return None;
            }
            _ => {
                let message = format!("`{}` is no type of mount", show(&kind));
                self.error(Code::Invalid, kind_at, path, message, "Use `type: volume`");
                return None;
            }
        }
        self.check_keys(entries, path, &keys::MOUNT);
        if let Some(entry) = entries.get("consistency") {
            let message = "it has no effect on a named volume";
            self.problems.warn(Code::Ignored, entry.key, path.key("consistency"), message, "Remove it");
        }
        if let Some(entry) = entries.get("volume") {
            let at = path.key("volume");
            if let Some(inner) = self.mapping(&entry.value, &at) {
                self.check_keys(inner, &at, &keys::MOUNT_VOLUME);
                if let Some(entry) = inner.get("nocopy")
                    && self.boolean(&entry.value, &at.key("nocopy")) == Some(true)
                {
                    let message = "not supported yet: a new volume begins with what the image has there";
                    self.error(
                        Code::NotSupported,
                        entry.key,
                        at.key("nocopy"),
                        message,
                        "Remove it, or mount where the image has nothing",
                    );
                }
            }
        }
        let read_only = match entries.get("read_only") {
            Some(entry) => self.boolean(&entry.value, &path.key("read_only"))?,
            None => false,
        };
        let Some((source, source_at)) = source else {
            if !entries.contains_key("source") {
                self.refuse_anonymous(span, path);
            }
            return None;
        };
        if !entries.contains_key("target") {
            self.error(
                Code::Invalid,
                span,
                path,
                "the mount has no `target`",
                "Write `target: /path`, absolute inside the container",
            );
        }
        let (target, target_at) = text(self, "target")?;
        let volume = if is_host_path(&source) {
            self.refuse_bind(&source, source_at, path);
            None
        } else {
            self.named(&source, source_at, &path.key("source"))
        };
        let target = self.target(&target, target_at, &path.key("target"));
        Some(MountSpec { volume: volume?, target: target?, read_only })
    }
}
