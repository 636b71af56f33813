//! The files of a project become one tree: each is parsed, its variables expanded, what its
//! services extend put below them, what it includes put beside them, and the next one on top.
//!
//! A node keeps the number of its file through all of this, so that every message names the
//! right place and every path is relative to the right folder ([`FileInfo::base`]).

use crate::{
    dotenv,
    files::{self, FileFault, Files, join, parent},
    interpolate::{self, Expander},
    keys,
    load::{Options, Source, utf8},
    merge::{self, TooLarge},
    problem::{Code, Problems, show},
    read::{DEPLOY_THERE, FileInfo, Reader, not_here},
    scalar::nearest,
    yaml::{self, Budget, Entry, MAX_BYTES, MAX_NODES, Mapping, Mark, Node, Span, Value},
};
use std::{collections::BTreeMap, sync::Arc};

/// The most files of one project, variables' and labels' files among them.
pub(crate) const MAX_FILES: usize = 200;
/// The most files that include each other, and the most services that extend each other, in a row.
const MAX_CHAIN: usize = 20;

/// The kinds of things that a file declares.
const KINDS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

pub(crate) struct Gather<'a> {
    pub(crate) options: &'a Options<'a>,
    pub(crate) disk: &'a dyn Files,
    pub(crate) problems: Problems,
    pub(crate) files: Vec<FileInfo>,
    /// Variables besides the caller's: none, then those of each include.
    pub(crate) environments: Vec<BTreeMap<String, String>>,
    /// What COMPOSE_PROJECT_NAME is.
    pub(crate) name: Option<String>,
    pub(crate) budget: Budget,
    /// It was used up: that was said, and nothing more is put together.
    full: bool,
    pub(crate) expansion: usize,
    /// Files that services were extended from, by path and environment.
    extended: BTreeMap<(String, usize), Option<Node>>,
}

/// A file that was parsed and not yet expanded.
pub(crate) struct Parsed {
    tree: Node,
    path: String,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(options: &'a Options<'a>, disk: &'a dyn Files) -> Self {
        Self {
            options,
            disk,
            problems: Problems::new([]),
            files: Vec::new(),
            environments: vec![BTreeMap::new()],
            name: None,
            budget: Budget::default(),
            full: false,
            expansion: yaml::MAX_TEXT,
            extended: BTreeMap::new(),
        }
    }

    pub(crate) fn variable(&self, environment: usize, key: &str) -> Option<String> {
        (self.options.variables)(key)
            .or_else(|| self.environments.get(environment)?.get(key).cloned())
            .or_else(|| self.name.clone().filter(|_| key == "COMPOSE_PROJECT_NAME"))
    }

    /// Parses one file; `None` with the reason among the problems.
    pub(crate) fn parse(&mut self, source: &Source<'_>, info: FileInfo, path: String) -> Option<Parsed> {
        let file = self.problems.add_file(source.name.to_owned());
        self.files.push(info);
        let text = utf8(file, source.text, &mut self.problems)?;
        let tree = yaml::parse(file, text, &mut self.budget, &mut self.problems)?;
        Some(Parsed { tree, path })
    }

    /// Reads and parses a file that another names.
    fn open(&mut self, path: &str, info: FileInfo, at: Span, keys: &str) -> Option<Parsed> {
        let text = self.text(path, at, keys)?;
        self.parse(&Source { name: &text.name, text: &text.bytes }, info, path.to_owned())
    }

    fn text(&mut self, path: &str, at: Span, keys: &str) -> Option<files::Text> {
        if self.files.len() >= MAX_FILES {
            let message = format!("the project has more than {MAX_FILES} files");
            self.problems.error(Code::Limit, at, keys, message, "Put some of them together");
            return None;
        }
        if !self.options.local {
            let message = not_here(&format!("the file {} is", show(&files::shown(path))));
            let hint = format!("Write what it says into this file, {DEPLOY_THERE}");
            self.problems.error(Code::NotSupported, at, keys, message, hint);
            return None;
        }
        match self.disk.read(path, MAX_BYTES) {
            Ok(text) => Some(text),
            Err(fault) => {
                let (message, hint) = cannot_read(path, &fault, MAX_BYTES);
                self.problems.error(Code::Reference, at, keys, message, hint);
                None
            }
        }
    }

    fn expand(&mut self, tree: &Node, environment: usize) -> Node {
        let mut problems = std::mem::replace(&mut self.problems, Problems::new([]));
        let variables = |key: &str| self.variable(environment, key);
        let mut expander = Expander { variables: &variables, budget: self.expansion };
        let tree = interpolate::tree(tree, &mut expander, &mut problems);
        self.expansion = expander.budget;
        self.problems = problems;
        tree
    }

    fn merge(&mut self, base: &Node, over: &Node, path: &[&str]) -> Node {
        if self.full {
            return over.clone();
        }
        let mut path: Vec<Arc<str>> = path.iter().map(|key| Arc::from(*key)).collect();
        match merge::merge(base, over, &mut path, &mut self.budget) {
            Ok(node) => node,
            Err(TooLarge) => {
                self.full = true;
                let message =
                    format!("the files hold more than {MAX_NODES} values once they are put together");
                let hint = "Let fewer services extend a large one";
                self.problems.error(Code::Limit, over.span, "", message, hint);
                over.clone()
            }
        }
    }

    /// Files of one project, each on top of the one before.
    pub(crate) fn project(
        &mut self,
        files: Vec<Parsed>,
        environment: usize,
        open: &mut Vec<String>,
    ) -> Option<Node> {
        let mut whole: Option<Node> = None;
        for Parsed { tree, path } in files {
            let tree = self.expand(&tree, environment);
            let tree = self.extends(tree, whole.as_ref(), &path, environment);
            open.push(path);
            let tree = self.includes(tree, environment, open);
            open.pop();
            whole = Some(match &whole {
                Some(base) => self.merge(base, &tree, &[]),
                None => tree,
            });
        }
        whole.map(|tree| merge::without_resets(&tree))
    }

    // --- extends

    /// Puts below each service what it extends.
    fn extends(&mut self, tree: Node, former: Option<&Node>, path: &str, environment: usize) -> Node {
        let Some(services) = services(&tree) else { return tree };
        if !services.values().any(|e| e.value.as_mapping().is_some_and(|m| m.contains_key("extends"))) {
            return tree;
        }
        let services = services.clone();
        let mut merged = services.clone();
        let origin =
            Origin { services: &services, former: former.and_then(self::services), path, environment };
        for (name, entry) in &services {
            let mut chain = vec![(path.to_owned(), name.to_string())];
            if let Some(value) = self.extended(&entry.value, name, &origin, &mut chain)
                && let Some(entry) = merged.get_mut(name)
            {
                entry.value = value;
            }
        }
        replace_services(&tree, merged)
    }

    /// A service with what it extends below it; `None` when it extends nothing that is there.
    fn extended(
        &mut self,
        service: &Node,
        name: &str,
        origin: &Origin<'_>,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        // What could not be kept need not be looked for: thousands of services may extend a large one.
        if self.full {
            return None;
        }
        let map = service.as_mapping()?;
        let entry = map.get("extends").filter(|e| !e.value.is_null() && e.value.mark != Mark::Reset)?;
        let keys = format!("services.{}.extends", show(name));
        let at = entry.value.span;
        let (base_name, file) = match &*entry.value.value {
            Value::Mapping(inner) => {
                self.known_keys(inner, &keys, &keys::EXTENDS);
                (inner.get("service").and_then(|e| e.value.as_text()), inner.get("file"))
            }
            _ => (entry.value.as_text(), None),
        };
        let Some(base_name) = base_name else {
            if !entry.value.is_broken() {
                self.problems.error(
                    Code::Invalid,
                    at,
                    &keys,
                    "it does not name a service",
                    "Write `extends: {service: NAME}`, with `file: PATH` for one of another file",
                );
            }
            return None;
        };
        let file = file.filter(|e| !e.value.is_null()).and_then(|e| e.value.as_text());
        let path = file.map(|file| {
            let base = self.files.get(usize::from(at.file)).map_or("", |f| &f.base);
            join(base, file, self.options.folder)
        });
        let here = (path.clone().unwrap_or_else(|| origin.path.to_owned()), base_name.to_owned());
        if chain.contains(&here) || chain.len() >= MAX_CHAIN {
            let mut names: Vec<String> = chain.iter().map(|(_, name)| show(name)).collect();
            names.push(show(base_name));
            let (code, what) = if chain.contains(&here) {
                (Code::Conflict, "services extend each other in a circle")
            } else {
                (Code::Limit, "too many services extend each other in a row")
            };
            let message = format!("{what}: {}", names.join(" → "));
            self.problems.error(code, at, &keys, message, "Remove one `extends`");
            return None;
        }
        chain.push(here);
        let base = match &path {
            None => {
                let found = origin.services.get(base_name).or_else(|| origin.former?.get(base_name));
                match found.map(|e| e.value.clone()) {
                    Some(base) => Some(self.extended(&base, base_name, origin, chain).unwrap_or(base)),
                    None => self.no_base(base_name, origin.services, None, at, &keys),
                }
            }
            Some(path) => {
                let tree = self.extended_file(path, origin.environment, at, &keys);
                let tree = tree?;
                let empty = Mapping::new();
                let others = services(&tree).unwrap_or(&empty);
                match others.get(base_name).map(|e| e.value.clone()) {
                    Some(base) => {
                        let origin =
                            Origin { services: others, former: None, path, environment: origin.environment };
                        Some(self.extended(&base, base_name, &origin, chain).unwrap_or(base))
                    }
                    None => self.no_base(base_name, others, Some(path), at, &keys),
                }
            }
        };
        chain.pop();
        let base = base?;
        let strip = |node: &Node| match node.as_mapping() {
            Some(map) => {
                let mut map = map.clone();
                map.shift_remove("extends");
                Node::new(node.span, Value::Mapping(map))
            }
            None => node.clone(),
        };
        // Resets of the base speak of what is below it, and that is done.
        let base = merge::without_resets(&strip(&base));
        Some(self.merge(&base, &strip(service), &["services", name]))
    }

    fn no_base(
        &mut self,
        name: &str,
        among: &Mapping,
        path: Option<&str>,
        at: Span,
        keys: &str,
    ) -> Option<Node> {
        let place = path.map_or_else(|| "this file".to_owned(), |path| show(&files::shown(path)));
        let hint = match nearest(name, among.keys().map(|k| &**k)) {
            Some(near) => format!("Did you mean `{near}`?"),
            None if path.is_none() => "Name its file too: `extends: {file: PATH, service: NAME}`".into(),
            None => "Check the name and the file".into(),
        };
        let message = format!("there is no service `{}` in {place} to extend", show(name));
        self.problems.error(Code::Reference, at, keys, message, hint);
        None
    }

    fn extended_file(&mut self, path: &str, environment: usize, at: Span, keys: &str) -> Option<Node> {
        let key = (path.to_owned(), environment);
        if let Some(known) = self.extended.get(&key) {
            return known.clone();
        }
        let info = FileInfo { base: parent(path), environment };
        let tree = self.open(path, info, at, keys).map(|parsed| self.expand(&parsed.tree, environment));
        self.extended.insert(key, tree.clone());
        tree
    }

    // --- include

    /// Puts beside a file's services what it includes.
    fn includes(&mut self, tree: Node, environment: usize, open: &mut Vec<String>) -> Node {
        let Some(map) = tree.as_mapping() else { return tree };
        let Some(entry) = map.get("include").filter(|e| e.value.mark != Mark::Reset) else { return tree };
        let mut map = map.clone();
        map.shift_remove("include");
        let mut whole = Node::new(tree.span, Value::Mapping(map));
        let items = match &*entry.value.value {
            _ if entry.value.is_null() => return whole,
            Value::Sequence(items) => items.as_slice(),
            _ => {
                let hint = "Write `- path/to/compose.yaml` lines";
                self.problems.error(Code::Invalid, entry.value.span, "include", "expected a list", hint);
                return whole;
            }
        };
        for (index, item) in items.iter().enumerate() {
            if let Some(part) = self.include(item, &format!("include[{index}]"), environment, open) {
                whole = self.beside(whole, &part, item.span, &format!("include[{index}]"));
            }
        }
        whole
    }

    fn include(
        &mut self,
        item: &Node,
        keys: &str,
        environment: usize,
        open: &mut Vec<String>,
    ) -> Option<Node> {
        let base = self.files.get(usize::from(item.span.file)).map_or_else(String::new, |f| f.base.clone());
        let folder = self.options.folder;
        let (paths, directory, env_files) = match &*item.value {
            Value::Mapping(map) => {
                self.known_keys(map, keys, &keys::INCLUDE);
                let directory = map.get("project_directory").and_then(|e| e.value.as_text());
                (
                    map.get("path").map(|e| texts(&e.value)).unwrap_or_default(),
                    directory.map(|d| join(&base, d, folder)),
                    map.get("env_file").filter(|e| !e.value.is_null()).map(|e| texts(&e.value)),
                )
            }
            _ => (texts(item), None, None),
        };
        if paths.is_empty() {
            if !item.is_broken() {
                let hint =
                    "Write `- path/to/compose.yaml`, or `- path: …` with `env_file` and `project_directory`";
                self.problems.error(Code::Invalid, item.span, keys, "it does not name a file", hint);
            }
            return None;
        }
        let remote =
            |text: &str| text.contains("://") || text.starts_with("git@") || text.starts_with("oci:");
        if let Some((_, at)) = paths.iter().find(|(text, _)| remote(text)) {
            let message = "not supported: files are not fetched from the network";
            let hint = "Fetch it first, look at it, and include your copy";
            self.problems.error(Code::NotSupported, *at, keys, message, hint);
            return None;
        }
        let paths: Vec<(String, Span)> =
            paths.into_iter().map(|(text, at)| (join(&base, &text, folder), at)).collect();
        let directory = directory.unwrap_or_else(|| parent(&paths[0].0));
        if let Some((path, at)) = paths.iter().find(|(path, _)| open.contains(path)) {
            let message =
                format!("{} includes itself, by way of the files between", show(&files::shown(path)));
            self.problems.error(Code::Conflict, *at, keys, message, "Remove one `include`");
            return None;
        }
        if open.len() >= MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} files include each other in a row");
            self.problems.error(Code::Limit, item.span, keys, message, "Include them side by side");
            return None;
        }
        let inner = self.include_environment(&directory, env_files, &base, environment, keys);
        let mut parsed = Vec::new();
        for (path, at) in paths {
            let info = FileInfo { base: directory.clone(), environment: inner };
            parsed.push(self.open(&path, info, at, keys)?);
        }
        self.project(parsed, inner, open)
    }

    /// The variables of included files: those around them win, as Compose has it.
    fn include_environment(
        &mut self,
        directory: &str,
        env_files: Option<Vec<(String, Span)>>,
        base: &str,
        environment: usize,
        keys: &str,
    ) -> usize {
        let implied = join(directory, ".env", self.options.folder);
        let paths: Vec<(String, Span)> = match env_files {
            Some(list) => list.into_iter().map(|(t, at)| (join(base, &t, self.options.folder), at)).collect(),
            // The project's own `.env` is known already.
            None if directory.is_empty() => Vec::new(),
            None if self.disk.look(&implied) == files::Found::File => vec![(implied, Span::default())],
            None => Vec::new(),
        };
        if paths.is_empty() {
            return environment;
        }
        let mut values = BTreeMap::new();
        for (path, at) in paths {
            let Some(text) = self.text(&path, at, keys) else { continue };
            let file = self.problems.add_file(text.name);
            self.files.push(FileInfo { base: parent(&path), environment });
            let mut problems = std::mem::replace(&mut self.problems, Problems::new([]));
            let known = |key: &str| self.variable(environment, key);
            values.extend(dotenv::read(file, &text.bytes, &known, &mut problems));
            self.problems = problems;
        }
        let mut all = self.environments.get(environment).cloned().unwrap_or_default();
        for (key, value) in values {
            all.entry(key).or_insert(value);
        }
        self.environments.push(all);
        self.environments.len() - 1
    }

    /// What is included stands beside; what both declare differently is an error.
    fn beside(&mut self, whole: Node, part: &Node, at: Span, keys: &str) -> Node {
        let (Some(map), Some(part)) = (whole.as_mapping(), part.as_mapping()) else { return whole };
        let mut map = map.clone();
        for kind in KINDS {
            let Some(theirs) = part.get(kind).filter(|e| e.value.as_mapping().is_some()) else { continue };
            let mut ours = match map.get(kind) {
                Some(entry) if entry.value.is_null() => Mapping::new(),
                Some(entry) => match entry.value.as_mapping() {
                    Some(ours) => ours.clone(),
                    None => continue,
                },
                None => Mapping::new(),
            };
            for (name, entry) in theirs.value.as_mapping().into_iter().flatten() {
                match ours.get(name) {
                    Some(own) if own.value.same(&entry.value) => {}
                    Some(_) => {
                        let message = format!(
                            "the included file declares {kind}.{} as well, on line {} of it, and differently",
                            show(name),
                            entry.key.line
                        );
                        let hint = "Rename one of the two; to change what is included, write the change into a further file and give both with -f";
                        self.problems.error(Code::Conflict, at, keys, message, hint);
                    }
                    None => drop(ours.insert(name.clone(), entry.clone())),
                }
            }
            let key = map.get(kind).map_or(theirs.key, |e| e.key);
            let value = Node::new(key, Value::Mapping(ours));
            if !self.budget.spend(&value) {
                let message =
                    format!("the files hold more than {MAX_NODES} values once they are put together");
                self.problems.error(Code::Limit, at, keys, message, "Include fewer files");
                return whole;
            }
            map.insert(kind.into(), Entry { key, value });
        }
        Node::new(whole.span, Value::Mapping(map))
    }

    fn known_keys(&mut self, map: &Mapping, keys: &str, table: &keys::Table) {
        for (key, entry) in map.iter().filter(|(key, _)| table.fate(key).is_none() && !key.starts_with("x-"))
        {
            let known: Vec<_> = table.keys.iter().map(|(key, _)| *key).collect();
            let message = format!("Compose has no key `{}` here", show(key));
            let hint = format!("Known here: {}", known.join(", "));
            self.problems.error(Code::UnknownKey, entry.key, format!("{keys}.{}", show(key)), message, hint);
        }
    }

    // --- profiles

    /// Leaves out the services whose profiles are not selected; yields their names with the profiles.
    pub(crate) fn select(&mut self, tree: Node) -> (Node, BTreeMap<String, Vec<String>>) {
        let mut off = BTreeMap::new();
        let Some(services) = services(&tree) else { return (tree, off) };
        let wanted = |profile: &str| self.options.profiles.iter().any(|p| p == profile || p == "*");
        let mut kept = services.clone();
        for (name, entry) in services {
            let Some(profiles) = entry.value.as_mapping().and_then(|m| m.get("profiles")) else { continue };
            let Value::Sequence(items) = &*profiles.value.value else { continue };
            let names: Vec<String> = items.iter().filter_map(|n| n.as_text()).map(str::to_owned).collect();
            if !names.is_empty() && !names.iter().any(|name| wanted(name)) {
                kept.shift_remove(name);
                off.insert(name.to_string(), names);
            }
        }
        if off.is_empty() { (tree, off) } else { (replace_services(&tree, kept), off) }
    }

    /// The reader of the finished tree.
    pub(crate) fn reader<'r>(self, variables: &'r dyn Fn(usize, &str) -> Option<String>) -> Reader<'r>
    where
        'a: 'r,
    {
        Reader::new(self.problems, self.files, variables, self.disk, self.options.folder)
    }
}

/// Where a service that extends another stands.
struct Origin<'o> {
    services: &'o Mapping,
    /// The services of the files below.
    former: Option<&'o Mapping>,
    path: &'o str,
    environment: usize,
}

fn services(tree: &Node) -> Option<&Mapping> {
    tree.as_mapping()?.get("services")?.value.as_mapping()
}

fn replace_services(tree: &Node, services: Mapping) -> Node {
    let Some(map) = tree.as_mapping() else { return tree.clone() };
    let mut map = map.clone();
    if let Some(entry) = map.get_mut("services") {
        entry.value = Node::new(entry.value.span, Value::Mapping(services));
    }
    Node::new(tree.span, Value::Mapping(map))
}

/// One text or a list of them.
fn texts(node: &Node) -> Vec<(String, Span)> {
    match &*node.value {
        Value::Sequence(items) => {
            items.iter().filter_map(|item| Some((item.as_text()?.to_owned(), item.span))).collect()
        }
        _ => node.as_text().map(|text| (text.to_owned(), node.span)).into_iter().collect(),
    }
}

/// What to say of a file that cannot be read.
pub(crate) fn cannot_read(path: &str, fault: &FileFault, limit: usize) -> (String, String) {
    let path = show(&files::shown(path));
    match fault {
        FileFault::Missing => (
            format!("there is no file {path}"),
            "Check the path; it is relative to the file that names it".into(),
        ),
        FileFault::TooLarge => {
            (format!("the file {path} has more than {limit} bytes"), "Make it smaller".into())
        }
        FileFault::Other(why) => {
            (format!("the file {path} cannot be read: {}", show(why)), "Check who may read it".into())
        }
    }
}

impl Parsed {
    /// What the file says of the project's name.
    pub(crate) fn name(&self) -> Option<&Entry> {
        self.tree.as_mapping()?.get("name").filter(|e| !e.value.is_null())
    }
}
