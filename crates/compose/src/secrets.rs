//! Secrets and configs: what the file declares at its top, and what services are given of it.

use crate::{
    files::{Found, shown},
    gather::cannot_read,
    keys::Table,
    load::{SecretSource, TreeContent, TreeSource},
    problem::{Code, show},
    read::{DEPLOY_THERE, Path, Reader},
    scalar,
    service::{Draft, Placed},
    yaml::{Entry, Mapping, Node, Span},
};
use lattice_model::{SecretName, StackName, spec::SecretMount};
use std::collections::BTreeMap;

/// The most that a secret may hold, as the server has it.
const MAX_SECRET: usize = 500 << 10;

/// What a service is given.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Where the value of a secret or the text of a config comes from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A path relative to the project's folder.
    File(String),
    /// A variable's name and value.
    Variable(String, Vec<u8>),
    /// A text of the file.
    Content(Vec<u8>),
    /// It is in the project already.
    External,
    /// Said to be wrong.
    Broken,
}

/// A secret or config as declared.
pub(crate) struct Holding {
    pub(crate) span: Span,
    pub(crate) origin: Origin,
    pub(crate) name: Option<String>,
}

pub(crate) type Holdings = BTreeMap<String, Holding>;

impl Reader<'_> {
    /// `secrets` or `configs` of a service; `folder` is where a bare name stands.
    pub(crate) fn grants(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        table: &Table,
        folder: &str,
    ) -> Vec<Placed<Grant>> {
        let mut grants = Vec::new();
        if node.is_null() {
            return grants;
        }
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let span = item.span;
            let grant = if let Some(map) = item.as_mapping() {
                self.check_keys(map, &at, table);
                self.long_grant(map, item, &at)
            } else {
                self.text(item, &at).map(|source| Grant {
                    source: source.to_owned(),
                    target: source.to_owned(),
                    mode: None,
                    uid: None,
                    gid: None,
                })
            };
            let Some(mut grant) = grant else { continue };
            if !grant.target.starts_with('/') {
                grant.target = format!("{folder}{}", grant.target);
            }
            match scalar::container_path(&grant.target) {
                Ok(target) => {
                    grant.target = target;
                    grants.push(Placed { value: grant, span, path: at.to_string() });
                }
                Err(fault) => {
                    let message = format!("`{}`: {fault}", show(&grant.target));
                    self.error(Code::Invalid, span, at, message, "Choose another `target`");
                }
            }
        }
        grants
    }

    fn long_grant(&mut self, map: &Mapping, item: &Node, at: &Path<'_>) -> Option<Grant> {
        let Some(source) = Self::said(map, "source") else {
            self.error(Code::Invalid, item.span, at, "it has no `source`", "Write `source: NAME`");
            return None;
        };
        let source = self.text(&source.value, &at.key("source"))?.to_owned();
        let target = match Self::said(map, "target") {
            Some(entry) => self.text(&entry.value, &at.key("target"))?.to_owned(),
            None => source.clone(),
        };
        let mode = match Self::said(map, "mode") {
            Some(entry) => Some(self.mode(&entry.value, &at.key("mode"))?),
            None => None,
        };
        let id = |this: &mut Self, key: &'static str| match Self::said(map, key) {
            Some(entry) => this.integer(&entry.value, &at.key(key), 0, u32::MAX - 1),
            None => None,
        };
        let (uid, gid) = (id(self, "uid"), id(self, "gid"));
        Some(Grant { source, target, mode, uid, gid })
    }

    /// The top-level `secrets` or `configs`.
    pub(crate) fn holdings(&mut self, top: &Mapping, key: &'static str, table: &Table) -> Holdings {
        let mut found = Holdings::new();
        let path = Path::Root.key(key);
        let Some(entry) = Self::said(top, key) else { return found };
        let Some(map) = self.mapping(&entry.value, &path) else { return found };
        for (name, entry) in map.iter().filter(|(name, _)| !name.starts_with("x-")) {
            let at = path.key(name);
            let Some(inner) = self.mapping(&entry.value, &at) else { continue };
            self.check_keys(inner, &at, table);
            let own = Self::said(inner, "name")
                .and_then(|e| self.text(&e.value, &at.key("name")))
                .map(str::to_owned);
            let (origin, inner_name) = self.origin(name, inner, entry, &at, key == "configs");
            found.insert(name.to_string(), Holding { span: entry.key, origin, name: own.or(inner_name) });
        }
        found
    }

    fn origin(
        &mut self,
        name: &str,
        map: &Mapping,
        entry: &Entry,
        path: &Path<'_>,
        config: bool,
    ) -> (Origin, Option<String>) {
        let external = Self::said(map, "external");
        if config && external.is_some() {
            // Said by `check_keys`, where it is not false.
            if external.is_some_and(|e| e.value.as_text() != Some("false")) {
                return (Origin::Broken, None);
            }
        } else if let Some(external) = external {
            // The old form had the name inside.
            if let Some(inner) = external.value.as_mapping() {
                return (
                    Origin::External,
                    inner.get("name").and_then(|e| e.value.as_text()).map(str::to_owned),
                );
            }
            if self.boolean(&external.value, &path.key("external")) == Some(true) {
                return (Origin::External, None);
            }
        }
        let ways: Vec<&str> = ["file", "environment", "content"]
            .into_iter()
            .filter(|key| Self::said(map, key).is_some())
            .collect();
        let [way] = ways[..] else {
            if map.keys().any(|key| matches!(&**key, "driver" | "template_driver")) {
                return (Origin::Broken, None);
            }
            let (message, hint) = match (ways.is_empty(), config) {
                (false, _) => (format!("`{}` exclude each other", ways.join("` and `")), "Keep one of them"),
                (true, true) => (
                    "it does not say where its text comes from".to_owned(),
                    "Write `file: ./PATH`, `content: |` or `environment: VARIABLE`",
                ),
                (true, false) => (
                    "it does not say where its value comes from".to_owned(),
                    "Write `file: ./PATH`, `environment: VARIABLE`, or `external: true` for one that was set by `lattice secret set`",
                ),
            };
            self.error(Code::Invalid, entry.key, path, message, hint);
            return (Origin::Broken, None);
        };
        let Some(said) = Self::said(map, way) else { return (Origin::Broken, None) };
        let at = path.key(way);
        let Some(text) = self.text(&said.value, &at).map(str::to_owned) else {
            return (Origin::Broken, None);
        };
        let origin = match way {
            "file" => Origin::File(self.resolve(said.value.span, &text)),
            "content" if !config => {
                self.refuse(
                    said,
                    &at,
                    "a secret does not stand in the file",
                    "Write `file: ./PATH` or `environment: VARIABLE`",
                );
                Origin::Broken
            }
            "content" => Origin::Content(text.into_bytes()),
            // Refused when a service asks for it, whatever its value is.
            _ if !self.local => Origin::Variable(text, Vec::new()),
            _ => match self.variable(said.value.span, &text) {
                Some(value) => Origin::Variable(text, value.into_bytes()),
                None => {
                    let message = format!("the variable {} of `{}` is not set", show(&text), show(name));
                    let hint = "Set it in your shell or in `.env` and try again";
                    self.error(Code::Variable, said.value.span, at, message, hint);
                    Origin::Broken
                }
            },
        };
        (origin, None)
    }

    /// Gives the services their secrets; yields what has to be set before.
    pub(crate) fn secrets_of(
        &mut self,
        drafts: &mut [Draft],
        holdings: &Holdings,
        stack: Option<&StackName>,
    ) -> Vec<SecretSource> {
        let mut sources: BTreeMap<String, Option<SecretSource>> = BTreeMap::new();
        let mut names: BTreeMap<SecretName, String> = BTreeMap::new();
        for draft in drafts.iter_mut() {
            for at in std::mem::take(&mut draft.secrets) {
                let Some(holding) = self.held(holdings, &at, "secret") else { continue };
                let key = &at.value.source;
                let name = match (&holding.name, &holding.origin, stack) {
                    (Some(name), ..) => name.clone(),
                    (None, Origin::External, _) => key.clone(),
                    (None, _, Some(stack)) => format!("{stack}_{key}"),
                    (None, _, None) => key.clone(),
                };
                let path = Path::Root.key("secrets");
                let Some(name) = self.named::<SecretName>(&name, holding.span, &path.key(key)) else {
                    continue;
                };
                if let Some(other) = names.insert(name.clone(), key.clone()).filter(|other| other != key) {
                    let message = format!(
                        "`{}` and `{}` are both kept as the secret `{name}`",
                        show(&other),
                        show(key)
                    );
                    self.error(
                        Code::Conflict,
                        holding.span,
                        path.key(key),
                        message,
                        "Give one of them another `name`",
                    );
                }
                if !sources.contains_key(key) {
                    let source = self.secret_source(&name, holding, &path.key(key));
                    sources.insert(key.clone(), source);
                }
                let Grant { target, mode, uid, gid, .. } = at.value;
                if self.take_target(draft, &target, at.span, &at.path) {
                    let mount = SecretMount { secret: name, target, mode: mode.unwrap_or(0o444), uid, gid };
                    draft.spec.secrets.push(mount);
                }
            }
        }
        let mut list: Vec<_> = sources.into_values().flatten().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    fn secret_source(
        &mut self,
        name: &SecretName,
        holding: &Holding,
        path: &Path<'_>,
    ) -> Option<SecretSource> {
        if matches!(holding.origin, Origin::File(_) | Origin::Variable(..)) {
            let hint = format!(
                "Set it (`lattice secret set {name}`), and write `external: true` and `name: {name}` here"
            );
            if self.elsewhere(holding.span, path, "the value of the secret is", &hint) {
                return None;
            }
        }
        let (from, value) = match &holding.origin {
            Origin::File(file) => {
                self.say_outside(file, holding.span, path);
                match self.disk.read(file, MAX_SECRET) {
                    Ok(text) => (shown(file), text.bytes),
                    Err(fault) => {
                        let (message, hint) = cannot_read(file, &fault, MAX_SECRET);
                        self.error(Code::Reference, holding.span, path, message, hint);
                        return None;
                    }
                }
            }
            Origin::Variable(name, value) => (format!("${name}"), value.clone()),
            Origin::Content(_) | Origin::External | Origin::Broken => return None,
        };
        if value.is_empty() {
            let message = format!("the value of the secret, from {}, is empty", show(&from));
            self.error(Code::Invalid, holding.span, path, message, "Put a value there");
            return None;
        }
        Some(SecretSource { name: name.clone(), from, value })
    }

    fn say_outside(&mut self, file: &str, span: Span, path: &Path<'_>) {
        if crate::files::is_outside(file) {
            let message = format!("{} is read from outside of the project's folder", show(file));
            let hint = "If the file is not yours, look whether you want to hand that out";
            self.problems.warn(Code::Differs, span, path, message, hint);
        }
    }

    /// What is declared under the name that a service asks for.
    fn held<'h>(&mut self, holdings: &'h Holdings, at: &Placed<Grant>, what: &str) -> Option<&'h Holding> {
        let name = &at.value.source;
        match holdings.get(name) {
            Some(holding) => Some(holding).filter(|h| !matches!(h.origin, Origin::Broken)),
            None => {
                let hint = match scalar::nearest(name, holdings.keys().map(String::as_str)) {
                    Some(near) => format!("Did you mean `{near}`?"),
                    None => format!("Add `{}: {{file: ./PATH}}` under the top-level `{what}s`", show(name)),
                };
                let message = format!("there is no {what} `{}` in the file", show(name));
                self.error(Code::Reference, at.span, &at.path, message, hint);
                None
            }
        }
    }

    /// Gives the services their configs, as trees.
    pub(crate) fn configs_of(
        &mut self,
        drafts: &mut [Draft],
        holdings: &Holdings,
        trees: &mut Vec<TreeSource>,
    ) {
        for draft in drafts.iter_mut() {
            for at in std::mem::take(&mut draft.configs) {
                let Some(holding) = self.held(holdings, &at, "config") else { continue };
                let Grant { source, target, mode, uid, gid } = &at.value;
                let path = Path::Root.key("configs");
                let hint = format!("Put it into the image, {DEPLOY_THERE}");
                if self.elsewhere(holding.span, path.key(source), "a config is packed", &hint) {
                    continue;
                }
                if [uid, gid].into_iter().any(|id| id.is_some_and(|id| id > 0))
                    || mode.is_some_and(|m| m & 0o444 != 0o444)
                {
                    let message = "the file belongs to root, and every user of the container may read it";
                    let hint =
                        "Remove `uid`, `gid` and `mode`; what only one user may read belongs under `secrets`";
                    self.problems.warn(Code::Differs, at.span, &at.path, message, hint);
                }
                // Whoever the program runs as has to be able to read it.
                let mode = mode.map(|mode| mode & 0o7777 | 0o444);
                let text = |text: &[u8]| TreeContent::Inline {
                    name: source.clone(),
                    text: text.to_vec(),
                    mode: mode.unwrap_or(0o444),
                };
                let content = match &holding.origin {
                    Origin::Content(content) | Origin::Variable(_, content) => text(content),
                    Origin::File(file) => {
                        self.say_outside(file, holding.span, &path.key(source));
                        match self.disk.look(file) {
                            Found::File => TreeContent::File { path: file.clone(), mode },
                            Found::Folder | Found::EmptyFolder => TreeContent::Folder(file.clone()),
                            Found::Missing => {
                                let message = format!("there is no file {}", show(&shown(file)));
                                let hint = "Check the path; it is relative to the file that names it";
                                self.error(Code::Reference, holding.span, path.key(source), message, hint);
                                continue;
                            }
                            Found::Outside | Found::Other => {
                                let message = format!(
                                    "{} is no file that can be read, or a link that leads out of the project's folder",
                                    show(&shown(file))
                                );
                                let hint = "Put the file itself into the project's folder";
                                self.error(Code::NotSupported, holding.span, path.key(source), message, hint);
                                continue;
                            }
                        }
                    }
                    Origin::External | Origin::Broken => continue,
                };
                if !self.take_target(draft, target, at.span, &at.path) {
                    continue;
                }
                let mount = (draft.name.clone(), target.clone());
                match trees.iter_mut().find(|tree| tree.content == content) {
                    Some(tree) => tree.mounts.push(mount),
                    None => trees.push(TreeSource { content, mounts: vec![mount] }),
                }
            }
        }
    }
}
