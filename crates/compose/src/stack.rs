//! The file as a whole: services, volumes, networks.

use crate::{
    check, keys,
    problem::{Code, show},
    read::{Path, Reader},
    service::Draft,
    yaml::{Entry, Mapping, Node, Span, Value},
};
use lattice_model::{
    NetworkName, VolumeName,
    spec::{MAX_WORKLOADS, NetworkSpec, StackSpec, VolumeSpec},
};
use std::collections::BTreeMap;

/// A declared volume or network with the place of its key.
pub(crate) type Declared<N, S> = BTreeMap<N, (Span, S)>;

impl Reader<'_> {
    /// Reads the whole tree. What comes back counts only when no error was noted.
    pub(crate) fn stack(&mut self, root: &Node) -> StackSpec {
        let path = Path::Root;
        let Some(top) = self.mapping(root, &path) else { return StackSpec::default() };
        self.check_keys(top, &path, &keys::TOP);
        if let Some(entry) = top.get("version") {
            let message = "`version` is obsolete and has no effect";
            self.problems.warn(Code::Ignored, entry.key, path.key("version"), message, "Remove it");
        }
        if let Some(entry) = top.get("x-lattice") {
            self.x_lattice_elsewhere(entry, &path.key("x-lattice"));
        }
        let drafts = self.services(top, root.span);
        let volumes = self.declared(top, "volumes", Self::volume);
        let networks = self.declared(top, "networks", Self::network);
        check::stack(self, drafts, &volumes, &networks)
    }

    fn services(&mut self, top: &Mapping, top_at: Span) -> Vec<Draft> {
        let path = Path::Root.key("services");
        let Some(entry) = top.get("services").filter(|e| !e.value.is_null()) else {
            let at = top.get("services").map_or(top_at, |e| e.key);
            self.error(
                Code::Invalid,
                at,
                path,
                "the file has no services",
                "Write `services: {web: {image: nginx}}`",
            );
            return Vec::new();
        };
        let Some(map) = self.mapping(&entry.value, &path) else { return Vec::new() };
        let count = map.keys().filter(|k| !k.starts_with("x-")).count();
        if count == 0 {
            self.error(
                Code::Invalid,
                entry.key,
                path,
                "the file has no services",
                "Write `services: {web: {image: nginx}}`",
            );
        }
        if count > MAX_WORKLOADS {
            let message = format!("the file has {count} services; the most is {MAX_WORKLOADS}");
            self.error(Code::Limit, entry.key, path, message, "Split it into several stacks");
        }
        // `x-` names no service: Compose has extensions anywhere.
        let named = map.iter().filter(|(k, _)| !k.starts_with("x-")).take(MAX_WORKLOADS);
        named.filter_map(|(name, entry)| self.service(name, entry, &path.key(name))).collect()
    }

    fn declared<N, S: Default>(
        &mut self,
        top: &Mapping,
        key: &'static str,
        read: fn(&mut Self, &Mapping, &Path<'_>) -> S,
    ) -> Declared<N, S>
    where
        N: std::str::FromStr<Err: std::fmt::Display> + Ord,
    {
        let mut declared = BTreeMap::new();
        let path = Path::Root.key(key);
        let Some(Entry { value, .. }) = top.get(key).filter(|e| !e.value.is_null()) else { return declared };
        let Some(map) = self.mapping(value, &path) else { return declared };
        for (name, entry) in map.iter().filter(|(name, _)| !name.starts_with("x-")) {
            let at = path.key(name);
            let parsed = self.named(name, entry.key, &at);
            let spec = if entry.value.is_null() {
                S::default()
            } else {
                let Some(inner) = self.mapping(&entry.value, &at) else { continue };
                read(self, inner, &at)
            };
            if let Some(name) = parsed {
                declared.insert(name, (entry.key, spec));
            }
        }
        declared
    }

    fn volume(&mut self, map: &Mapping, path: &Path<'_>) -> VolumeSpec {
        self.check_keys(&without(map, &[("driver", "local"), ("external", "false")]), path, &keys::VOLUME);
        let labels = map.get("labels").map(|e| self.labels(&e.value, &path.key("labels")));
        VolumeSpec { labels: labels.unwrap_or_default() }
    }

    fn network(&mut self, map: &Mapping, path: &Path<'_>) -> NetworkSpec {
        self.check_keys(&without(map, &[("external", "false")]), path, &keys::NETWORK);
        let mut spec = NetworkSpec::default();
        if let Some(entry) = map.get("internal") {
            spec.internal = self.boolean(&entry.value, &path.key("internal")).unwrap_or_default();
        }
        if let Some(entry) = map.get("labels") {
            spec.labels = self.labels(&entry.value, &path.key("labels"));
        }
        if let Some(entry) = map.get("driver")
            && let Some(driver) = self.text(&entry.value, &path.key("driver"))
            && driver != "bridge"
        {
            let message =
                format!("not supported: the driver `{}`, since the node builds the network", show(driver));
            self.error(
                Code::NotSupported,
                entry.value.span,
                path.key("driver"),
                message,
                "Remove it, or write `bridge`",
            );
        }
        spec
    }
}

/// Leaves out what merely writes a default down: it changes nothing.
fn without(map: &Mapping, defaults: &[(&str, &str)]) -> Mapping {
    let is = |entry: &Entry, text: &str| matches!(&*entry.value.value, Value::Scalar(t, _) if **t == *text);
    let plain = |key: &str, entry: &Entry| defaults.iter().any(|(k, text)| *k == key && is(entry, text));
    map.iter()
        .filter(|(key, entry)| !plain(key, entry))
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect()
}

/// Names that a file may refer to.
pub(crate) type Volumes = Declared<VolumeName, VolumeSpec>;
/// See [`Volumes`].
pub(crate) type Networks = Declared<NetworkName, NetworkSpec>;
