//! `build`: how the image of a service is made, as the local Docker is to be told.

use crate::{
    files::{Found, is_outside, shown},
    keys,
    problem::{Code, show},
    read::{Pair, Path, Reader},
    yaml::{Mapping, Node, Value},
};
use std::{collections::BTreeMap, fmt};

/// How an image is built.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// A folder relative to the project's (`""` is that one), an absolute path, or a URL that
    /// Docker fetches.
    pub context: String,
    /// Whether `context` is a URL.
    pub remote: bool,
    /// The Dockerfile, inside the context; `None` is `Dockerfile`.
    pub dockerfile: Option<String>,
    /// Its text, where it stands in the Compose file.
    pub dockerfile_inline: Option<String>,
    /// Variables of the build. They may be confidential.
    pub args: BTreeMap<String, String>,
    /// Where a secret of the build comes from, by its id.
    pub secrets: BTreeMap<String, BuildSecret>,
    /// Further contexts by name: paths as `context`, or URLs and the like as they were written.
    pub contexts: BTreeMap<String, String>,
    /// Everything else, as options of `docker build` in order: `--target`, `prod`, …
    pub options: Vec<String>,
    /// Whether any of it needs BuildKit.
    pub buildkit: bool,
}

/// Where a secret of a build comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildSecret {
    /// A path as [`Build::context`].
    File(String),
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Debug for Build {
    /// Shows the names of the arguments alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            context,
            remote,
            dockerfile,
            dockerfile_inline,
            args,
            secrets,
            contexts,
            options,
            buildkit,
        } = self;
        f.debug_struct("Build")
            .field("context", context)
            .field("remote", remote)
            .field("dockerfile", dockerfile)
            .field("dockerfile_inline", &dockerfile_inline.is_some())
            .field("args", &args.keys().collect::<Vec<_>>())
            .field("secrets", secrets)
            .field("contexts", contexts)
            .field("options", options)
            .field("buildkit", buildkit)
            .finish()
    }
}

fn is_remote(context: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|start| context.starts_with(start))
}

impl Reader<'_> {
    pub(crate) fn build(&mut self, node: &Node, path: &Path<'_>) -> Option<Build> {
        let mut build = Build::default();
        let Value::Mapping(map) = &*node.value else {
            let text = self.text(node, path)?.to_owned();
            self.context(&text, node, path, &mut build)?;
            return Some(build);
        };
        self.check_keys(map, path, &keys::BUILD);
        match Self::said(map, "context") {
            Some(entry) => {
                let text = self.text(&entry.value, &path.key("context"))?.to_owned();
                self.context(&text, &entry.value, &path.key("context"), &mut build)?;
            }
            // Compose's own default.
            None => self.context(".", node, path, &mut build)?,
        }
        self.dockerfile(map, path, &mut build);
        if let Some(entry) = Self::said(map, "args") {
            for (key, Pair { span, value, .. }) in self.pairs(&entry.value, &path.key("args")) {
                // A name alone passes a variable on; unset, it is left to the Dockerfile.
                if let Some(value) = value.or_else(|| self.variable(span, &key)) {
                    build.args.insert(key, value);
                }
            }
        }
        if let Some(entry) = Self::said(map, "labels") {
            for (key, value) in self.labels(&entry.value, &path.key("labels")) {
                build.options.extend(["--label".into(), format!("{key}={value}")]);
            }
        }
        for (key, option) in [("target", "--target"), ("network", "--network"), ("shm_size", "--shm-size")] {
            let Some(entry) = Self::said(map, key) else { continue };
            if let Some(text) = self.text(&entry.value, &path.key(key)).filter(|t| !t.is_empty()) {
                build.options.extend([option.into(), text.to_owned()]);
            }
        }
        for (key, option) in [("no_cache", "--no-cache"), ("pull", "--pull")] {
            if let Some(entry) = Self::said(map, key)
                && self.boolean(&entry.value, &path.key(key)) == Some(true)
            {
                build.options.push(option.into());
            }
        }
        for (key, option, buildkit) in [
            ("cache_from", "--cache-from", false),
            ("cache_to", "--cache-to", true),
            ("no_cache_filter", "--no-cache-filter", true),
            ("ssh", "--ssh", true),
            ("tags", "--tag", false),
        ] {
            let Some(entry) = Self::said(map, key) else { continue };
            let at = path.key(key);
            let list = if entry.value.as_mapping().is_some() {
                let pairs = self.pairs(&entry.value, &at);
                pairs.into_iter().map(|(k, p)| p.value.map_or(k.clone(), |v| format!("{k}={v}"))).collect()
            } else {
                self.text_or_list(&entry.value, &at).into_iter().map(|(text, _)| text).collect::<Vec<_>>()
            };
            for text in list {
                build.options.extend([option.into(), text]);
                build.buildkit |= buildkit;
            }
        }
        self.build_platform(map, path, &mut build);
        if let Some(entry) = Self::said(map, "isolation")
            && !matches!(entry.value.as_text(), Some("default" | ""))
        {
            self.refuse(entry, &path.key("isolation"), "it is for Windows", "Remove it");
        }
        if let Some(entry) = Self::said(map, "ulimits") {
            // Read by the same rules as a service's.
            let mut spec = lattice_model::spec::WorkloadSpec::of_image("");
            self.ulimits(&entry.value, &path.key("ulimits"), &mut spec);
            for (name, limit) in spec.sandbox.ulimits {
                build.options.extend(["--ulimit".into(), format!("{name}={}:{}", limit.soft, limit.hard)]);
            }
        }
        if let Some(entry) = Self::said(map, "extra_hosts") {
            self.build_hosts(&entry.value, &path.key("extra_hosts"), &mut build);
        }
        if let Some(entry) = Self::said(map, "additional_contexts") {
            for (name, Pair { span, value, .. }) in self.pairs(&entry.value, &path.key("additional_contexts"))
            {
                let Some(value) = value else { continue };
                let place = if value.contains("://") || value.starts_with("git@") {
                    value
                } else {
                    self.resolve(span, &value)
                };
                build.contexts.insert(name, place);
                build.buildkit = true;
            }
        }
        Some(build)
    }

    fn context(&mut self, text: &str, node: &Node, path: &Path<'_>, build: &mut Build) -> Option<()> {
        if is_remote(text) {
            (build.context, build.remote) = (text.to_owned(), true);
            return Some(());
        }
        build.context = self.resolve(node.span, text);
        let name = show(&shown(&build.context));
        let (message, hint) = match self.disk.look(&build.context) {
            // What lies outside is built here, and only the image leaves.
            Found::Folder | Found::EmptyFolder | Found::Outside => return Some(()),
            Found::Missing => (
                format!("there is no folder {name} to build from"),
                "Check the path; it is relative to the file that names it",
            ),
            Found::File | Found::Other => {
                (format!("{name} is no folder"), "Name the folder that the Dockerfile stands in")
            }
        };
        self.error(Code::Reference, node.span, path, message, hint);
        None
    }

    fn dockerfile(&mut self, map: &Mapping, path: &Path<'_>, build: &mut Build) {
        let inline = Self::said(map, "dockerfile_inline");
        if let Some(entry) = inline {
            build.dockerfile_inline =
                self.text(&entry.value, &path.key("dockerfile_inline")).map(str::to_owned);
        }
        let Some(entry) = Self::said(map, "dockerfile") else { return };
        let at = path.key("dockerfile");
        if inline.is_some() {
            let message = "`dockerfile` and `dockerfile_inline` exclude each other";
            self.error(Code::Conflict, entry.key, at, message, "Remove one of the two");
            return;
        }
        let Some(text) = self.text(&entry.value, &at).map(str::to_owned) else { return };
        if !build.remote {
            let place = crate::files::join(&build.context, &text, self.folder);
            if self.disk.look(&place) == Found::Missing && !is_outside(&place) {
                let message = format!("there is no file {}", show(&shown(&place)));
                let hint = "Check the path; it is relative to the `context`";
                self.error(Code::Reference, entry.value.span, at, message, hint);
            }
        }
        build.dockerfile = Some(text);
    }

    fn build_platform(&mut self, map: &Mapping, path: &Path<'_>, build: &mut Build) {
        let Some(entry) = Self::said(map, "platforms") else { return };
        let at = path.key("platforms");
        let platforms = self.text_or_list(&entry.value, &at);
        match &platforms[..] {
            [] => {}
            [(one, _)] => build.options.extend(["--platform".into(), one.clone()]),
            _ => {
                let why = "the image is built for this machine's node, which has one platform";
                let hint =
                    "Keep one, or build the image for all, push it to a registry and write `image: NAME`";
                self.refuse(entry, &at, why, hint);
            }
        }
    }

    fn build_hosts(&mut self, node: &Node, path: &Path<'_>, build: &mut Build) {
        let mut hosts = Vec::new();
        match &*node.value {
            Value::Mapping(map) => {
                for (name, entry) in map {
                    for (address, _) in self.text_or_list(&entry.value, &path.key(name)) {
                        hosts.push(format!("{name}:{address}"));
                    }
                }
            }
            _ => {
                let lines = self.text_or_list(node, path).into_iter();
                hosts.extend(lines.map(|(text, _)| text.replacen('=', ":", 1)));
            }
        }
        for host in hosts {
            build.options.extend(["--add-host".into(), host]);
        }
    }
}
