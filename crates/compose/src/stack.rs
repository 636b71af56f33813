//! The file as a whole: services, volumes, networks, secrets, configs.

use crate::{
    build::{Build, BuildSecret},
    check, keys,
    load::{SecretSource, TreeSource},
    problem::{Code, show},
    read::{Path, Reader},
    secrets::{Holdings, Origin},
    service::{Draft, Placed},
    yaml::{Entry, Mapping, Node, Span},
};
use lattice_model::{
    NetworkName, StackName, VolumeName, WorkloadName,
    spec::{MAX_WORKLOADS, NetworkSpec, StackSpec, VolumeSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// A declared volume or network with the place of its key.
pub(crate) type Declared<N, S> = BTreeMap<N, (Span, S)>;

/// What the tree holds.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) spec: StackSpec,
    pub(crate) builds: BTreeMap<WorkloadName, Build>,
    pub(crate) trees: Vec<TreeSource>,
    pub(crate) secrets: Vec<SecretSource>,
}

impl Reader<'_> {
    /// Reads the whole tree; `off` are the services whose profiles are not selected. What comes
    /// back counts only when no error was noted.
    pub(crate) fn stack(
        &mut self,
        root: &Node,
        name: Option<&StackName>,
        off: &BTreeMap<String, Vec<String>>,
    ) -> Parts {
        let path = Path::Root;
        let Some(top) = self.mapping(root, &path) else { return Parts::default() };
        self.check_keys(top, &path, &keys::TOP);
        if let Some(entry) = top.get("x-lattice") {
            self.x_lattice_elsewhere(entry, &path.key("x-lattice"));
        }
        let mut drafts = self.services(top, root.span, off);
        let volumes = self.declared(top, "volumes", Self::volume);
        let networks = self.declared(top, "networks", Self::network);
        let secrets = self.holdings(top, "secrets", &keys::SECRET);
        let configs = self.holdings(top, "configs", &keys::CONFIG);

        let mut parts = Parts::default();
        let declared: BTreeSet<VolumeName> = volumes.keys().cloned().collect();
        parts.trees = self.files_of(&mut drafts, &declared, &mut parts.spec);
        self.configs_of(&mut drafts, &configs, &mut parts.trees);
        parts.secrets = self.secrets_of(&mut drafts, &secrets, name);
        self.build_secrets(top, &mut drafts, &secrets);
        for draft in &mut drafts {
            if let Some(build) = draft.build.take() {
                parts.builds.insert(draft.name.clone(), build);
            }
        }
        check::stack(self, drafts, &volumes, &networks, off, &mut parts.spec);
        parts
    }

    /// `build.secrets` name what the file declares at its top.
    fn build_secrets(&mut self, top: &Mapping, drafts: &mut [Draft], holdings: &Holdings) {
        let services = top.get("services").and_then(|e| e.value.as_mapping());
        for draft in drafts.iter_mut() {
            let Some(build) = &mut draft.build else { continue };
            let path = Path::Root.key("services");
            let path = path.key(draft.name.as_str());
            let path = path.key("build");
            let entry = services
                .and_then(|s| s.get(draft.name.as_str())?.value.as_mapping())
                .and_then(|s| s.get("build")?.value.as_mapping())
                .and_then(|b| Self::said(b, "secrets"));
            let Some(entry) = entry else { continue };
            let at = path.key("secrets");
            for Placed { value, span, path } in
                self.grants(&entry.value, &at, &keys::BUILD_SECRET, "/run/secrets/")
            {
                let source = match holdings.get(&value.source).map(|h| &h.origin) {
                    Some(Origin::File(file)) => BuildSecret::File(file.clone()),
                    Some(Origin::Variable(name, _)) => BuildSecret::Variable(name.clone()),
                    Some(Origin::Broken) => continue,
                    Some(Origin::Content(_) | Origin::External) | None => {
                        let message = format!("a build has no secret `{}` to use", show(&value.source));
                        let hint = "Declare it under the top-level `secrets` with `file` or `environment`";
                        self.error(Code::Reference, span, path, message, hint);
                        continue;
                    }
                };
                let id = value.target.rsplit('/').next().unwrap_or(&value.source).to_owned();
                build.secrets.insert(id, source);
                build.buildkit = true;
            }
        }
    }

    fn services(&mut self, top: &Mapping, top_at: Span, off: &BTreeMap<String, Vec<String>>) -> Vec<Draft> {
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
        if count == 0 && !off.is_empty() {
            let profiles: BTreeSet<&str> = off.values().flatten().map(String::as_str).collect();
            let profiles: Vec<String> = profiles.into_iter().take(10).map(show).collect();
            let message =
                format!("every service is in a profile that is not selected: {}", profiles.join(", "));
            self.error(Code::Invalid, entry.key, path, message, "Select one by `--profile NAME`");
        } else if count == 0 {
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
        self.check_keys(map, path, &keys::VOLUME);
        if let Some(entry) = Self::said(map, "driver")
            && let Some(driver) = self.text(&entry.value, &path.key("driver")).map(str::to_owned)
            && !matches!(driver.as_str(), "local" | "")
        {
            let why = format!("the driver `{}`; the node keeps volumes on its own disk", show(&driver));
            let hint = "Remove it; use a client of the remote storage inside a service";
            self.refuse(entry, &path.key("driver"), &why, hint);
        }
        let labels = Self::said(map, "labels").map(|e| self.labels(&e.value, &path.key("labels")));
        VolumeSpec { labels: labels.unwrap_or_default() }
    }

    fn network(&mut self, map: &Mapping, path: &Path<'_>) -> NetworkSpec {
        self.check_keys(map, path, &keys::NETWORK);
        let mut spec = NetworkSpec::default();
        if let Some(entry) = Self::said(map, "internal") {
            spec.internal = self.boolean(&entry.value, &path.key("internal")).unwrap_or_default();
        }
        if let Some(entry) = Self::said(map, "labels") {
            spec.labels = self.labels(&entry.value, &path.key("labels"));
        }
        if let Some(entry) = Self::said(map, "enable_ipv4")
            && self.boolean(&entry.value, &path.key("enable_ipv4")) == Some(false)
        {
            let why = "services reach each other over IPv4";
            self.refuse(entry, &path.key("enable_ipv4"), why, "Remove it");
        }
        if let Some(entry) = Self::said(map, "driver")
            && let Some(driver) = self.text(&entry.value, &path.key("driver")).map(str::to_owned)
        {
            let (why, instead) = match driver.as_str() {
                "bridge" | "overlay" | "default" | "" => return spec,
                "macvlan" | "ipvlan" => (
                    format!("the driver `{driver}` would put containers into the LAN of a node's owner"),
                    "Remove it and publish what is needed under `ports`",
                ),
                "host" => (
                    "the host's network would open its owner's LAN to the container".to_owned(),
                    "Remove it and publish what is needed under `ports`",
                ),
                _ => (
                    format!("the driver `{}`, since the node builds the network", show(&driver)),
                    "Remove it, or write `bridge`",
                ),
            };
            self.error(
                Code::NotSupported,
                entry.value.span,
                path.key("driver"),
                format!("not supported: {why}"),
                instead,
            );
        }
        spec
    }
}

/// Names that a file may refer to.
pub(crate) type Volumes = Declared<VolumeName, VolumeSpec>;
/// See [`Volumes`].
pub(crate) type Networks = Declared<NetworkName, NetworkSpec>;
