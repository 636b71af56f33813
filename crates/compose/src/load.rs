//! The entry: texts and variables in, a stack or its problems out.

use crate::{
    build::Build,
    files::Files,
    gather::Gather,
    interpolate::Expander,
    problem::{Code, ComposeErrors, Problem, Problems, show},
    read::FileInfo,
    yaml::{self, Entry, Span, Value},
};
use lattice_model::{
    SecretName, StackName, WorkloadName,
    spec::{StackSpec, TreeDigest, TreeMount},
};
use std::{collections::BTreeMap, fmt};

/// A Compose file as text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// How messages name it, e.g. `compose.yaml`.
    pub name: &'a str,
    /// What it holds, UTF-8 or not; at most [`MAX_BYTES`](crate::MAX_BYTES).
    pub text: &'a [u8],
}

/// What files are read against.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The stack's name as the person gave it; outranks COMPOSE_PROJECT_NAME and `name:`.
    pub name: Option<&'a str>,
    /// The name where nobody gave one: the folder's, through [`normalize_project_name`].
    pub fallback_name: Option<&'a str>,
    /// The value of a variable: the environment first, then `.env`.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// The profiles that are selected; `*` is all.
    pub profiles: &'a [String],
    /// The absolute path of the project's folder, so that `${PWD}/conf` is found to be inside.
    pub folder: Option<&'a str>,
    /// Whether services with a `build` are built; otherwise their `image` is taken.
    pub build: bool,
    /// Whether this is the computer that the file stands on. Elsewhere there are no other files, nothing is built
    /// or packed and no secret is set: what needs that is refused, with its place.
    pub local: bool,
}

impl<'a> Options<'a> {
    /// No name, no profile, no folder; services with a `build` are built, on the computer that has the file.
    pub fn new(variables: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            name: None,
            fallback_name: None,
            variables,
            profiles: &[],
            folder: None,
            build: true,
            local: true,
        }
    }
}

/// A project that can be deployed, once its images are built and its trees and secrets are where
/// the server has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The stack's name.
    pub name: StackName,
    /// The stack, resolved; without what [`Loaded::builds`] and [`Loaded::trees`] will add. The
    /// image of a service that is built is empty.
    pub spec: StackSpec,
    /// The images to build, by service.
    pub builds: BTreeMap<WorkloadName, Build>,
    /// The files that travel with the deployment.
    pub trees: Vec<TreeSource>,
    /// The secrets to be set before it, sorted by name.
    pub secrets: Vec<SecretSource>,
    /// What has no effect or may surprise, sorted by file and line.
    pub warnings: Vec<Problem>,
}

/// Files to be packed, and where they are mounted.
#[derive(Clone, PartialEq, Eq)]
pub struct TreeSource {
    /// Which files.
    pub content: TreeContent,
    /// The services that mount them, with the path in the container.
    pub mounts: Vec<(WorkloadName, String)>,
}

/// Which files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeContent {
    /// A folder with all that is in it, by its path relative to the project's folder (`""` is
    /// that folder itself), or elsewhere for a config.
    Folder(String),
    /// One file; in the archive it has the name that it has on disk.
    File {
        /// As for a folder.
        path: String,
        /// Permission bits, where somebody said; else as on disk.
        mode: Option<u32>,
    },
    /// A text of the Compose file, or of a variable.
    Inline {
        /// Its name in the archive.
        name: String,
        /// The text itself.
        text: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
}

impl TreeContent {
    /// What [`TreeMount::path`] says of it: a single file's name in the archive, nothing for a folder.
    pub fn entry(&self) -> &str {
        match self {
            Self::Folder(_) => "",
            Self::File { path, .. } => crate::files::base_name(path),
            Self::Inline { name, .. } => name,
        }
    }
}

impl fmt::Debug for TreeContent {
    /// Leaves the text out, which may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder {}", crate::files::shown(path)),
            Self::File { path, .. } => write!(f, "file {}", crate::files::shown(path)),
            Self::Inline { name, text, .. } => write!(f, "text {name} of {} bytes", text.len()),
        }
    }
}

impl fmt::Debug for TreeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, mounts } = self;
        f.debug_struct("TreeSource").field("content", content).field("mounts", mounts).finish()
    }
}

/// A secret to be set in the project before the deployment.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Its name in the project.
    pub name: SecretName,
    /// Where its value comes from, for people: `./db_password.txt` or `$DB_PASSWORD`.
    pub from: String,
    /// The value.
    pub value: Vec<u8>,
}

impl fmt::Debug for SecretSource {
    /// Leaves the value out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from, value: _ } = self;
        f.debug_struct("SecretSource").field("name", name).field("from", from).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Mounts the tree with this index where it belongs, once it was packed.
    pub fn place_tree(&mut self, index: usize, digest: TreeDigest) {
        let Some(source) = self.trees.get(index) else { return };
        for (service, target) in &source.mounts {
            if let Some(workload) = self.spec.workloads.get_mut(service) {
                let path = source.content.entry().to_owned();
                workload.trees.push(TreeMount { tree: digest, path, target: target.clone() });
            }
        }
    }
}

impl fmt::Debug for Loaded {
    /// Leaves the environment out, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, spec, builds, trees, secrets, warnings } = self;
        let services: Vec<_> = spec.workloads.keys().collect();
        f.debug_struct("Loaded")
            .field("name", name)
            .field("services", &services)
            .field("builds", &builds.keys().collect::<Vec<_>>())
            .field("trees", trees)
            .field("secrets", secrets)
            .field("warnings", warnings)
            .finish()
    }
}

/// Reads a Compose project: `files` in the order of `-f`, each on top of the one before; what
/// they refer to comes from `disk`.
///
/// A service without `restart` is started again always (Compose's own default is `no`), unless
/// another waits for it with `service_completed_successfully`: then it is a job and runs once.
///
/// # Errors
/// Every problem of the files with its place, sorted by file and line.
pub fn load(files: &[Source<'_>], options: &Options<'_>, disk: &dyn Files) -> Result<Loaded, ComposeErrors> {
    let mut gather = Gather::new(options, disk);
    let mut parsed = Vec::new();
    for source in files {
        let info = FileInfo { base: String::new(), environment: 0 };
        // A file that includes itself is found by this path; two of one name are two.
        let path = crate::files::join("", source.name, options.folder);
        parsed.push(gather.parse(source, info, path));
    }
    if files.is_empty() {
        let file = gather.problems.add_file(String::new());
        let top = Span { file, line: 1, column: 1 };
        gather.problems.error(Code::Invalid, top, "", "no file is given", "Name a Compose file");
    }
    let parsed: Option<Vec<_>> = parsed.into_iter().collect();
    let Some(parsed) = parsed.filter(|p| !p.is_empty()) else { return Err(refused(gather.problems)) };

    let mut expander = Expander { variables: options.variables, budget: gather.expansion };
    let written = parsed.iter().rev().find_map(|p| p.name());
    let name = stack_name(written, options, &mut expander, &mut gather.problems);
    gather.expansion = expander.budget;
    // Compose offers the name to the file.
    gather.name = name.as_ref().map(ToString::to_string);
    let Some(tree) = gather.project(parsed, 0, &mut Vec::new()) else { return Err(refused(gather.problems)) };
    let (tree, off) = gather.select(tree);

    let environments = std::mem::take(&mut gather.environments);
    let stack = gather.name.clone();
    let variables = |environment: usize, key: &str| {
        (options.variables)(key)
            .or_else(|| environments.get(environment)?.get(key).cloned())
            .or_else(|| stack.clone().filter(|_| key == "COMPOSE_PROJECT_NAME"))
    };
    let mut reader = gather.reader(&variables);
    (reader.build, reader.local) = (options.build && options.local, options.local);
    let parts = reader.stack(&tree, name.as_ref(), &off);
    match (reader.problems.finish(), name) {
        (Ok(warnings), Some(name)) => Ok(Loaded {
            name,
            spec: parts.spec,
            builds: parts.builds,
            trees: parts.trees,
            secrets: parts.secrets,
            warnings,
        }),
        (Err(errors), _) => Err(errors),
        // Whenever there is no name, an error was noted by `stack_name` or by the expansion.
        (Ok(warnings), None) => Err(ComposeErrors(warnings)),
    }
}

fn refused(problems: Problems) -> ComposeErrors {
    debug_assert!(problems.failed(), "refused without a reason");
    problems.finish().err().unwrap_or_else(|| ComposeErrors(Vec::new()))
}

pub(crate) fn utf8<'t>(file: u16, text: &'t [u8], problems: &mut Problems) -> Option<&'t str> {
    // Judged by its size before it is read.
    if text.len() > yaml::MAX_BYTES {
        let top = Span { file, line: 1, column: 1 };
        let message = format!("the file has {} bytes; the most is {}", text.len(), yaml::MAX_BYTES);
        problems.error(Code::Limit, top, "", message, "Move data out of it");
        return None;
    }
    match std::str::from_utf8(text) {
        Ok(text) => Some(text),
        Err(fault) => {
            let good = &text[..fault.valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
            let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let span = Span { file, line: clamp(line), column: clamp(column) };
            problems.error(Code::Syntax, span, "", "the file is no UTF-8 text", "Save it as UTF-8");
            None
        }
    }
}

/// The given name, else COMPOSE_PROJECT_NAME, else `name:`, else the fallback.
fn stack_name(
    written: Option<&Entry>,
    options: &Options<'_>,
    expander: &mut Expander<'_>,
    problems: &mut Problems,
) -> Option<StackName> {
    let path = "name";
    let top = Span { file: 0, line: 1, column: 1 };
    let variable = (options.variables)("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    let from_variable = options.name.is_none() && variable.is_some();
    let given = options.name.map(str::to_owned).or(variable);
    let (text, span, from_file) = match (given, written, options.fallback_name) {
        (Some(given), ..) => (given, top, false),
        (None, Some(entry), _) => {
            let Value::Scalar(text, _) = &*entry.value.value else {
                problems.error(
                    Code::Invalid,
                    entry.value.span,
                    path,
                    "expected a text",
                    "Write `name: my-stack`",
                );
                return None;
            };
            match expander.expand(text) {
                Ok(expanded) => (expanded.text, entry.value.span, true),
                // Said by the expansion of the whole tree, which comes next.
                Err(_) => return None,
            }
        }
        (None, None, Some(folder)) => (folder.to_owned(), top, false),
        (None, None, None) => {
            problems.error(
                Code::Invalid,
                top,
                "",
                "the stack has no name",
                "Write `name: my-stack`, or give a name",
            );
            return None;
        }
    };
    let normal = normalize_project_name(&text);
    if normal != text || normal.is_empty() {
        let whence = if from_variable { " (of COMPOSE_PROJECT_NAME)" } else { "" };
        let message = format!(
            "`{}`{whence} cannot name a stack: lower-case letters, digits, `-` and `_` can, beginning with a letter or digit",
            show(&text)
        );
        let hint = if normal.is_empty() {
            "Write `name: my-stack`, or give a name".into()
        } else {
            format!("Write `{}`", show(&normal))
        };
        problems.error(Code::Invalid, span, if from_file { "name" } else { "" }, message, hint);
        return None;
    }
    match StackName::new(text) {
        Ok(name) => Some(name),
        Err(fault) => {
            problems.error(Code::Invalid, span, if from_file { "name" } else { "" }, fault.to_string(), "");
            None
        }
    }
}

/// A folder's name as Compose makes a project name of it: lower case, without what is not a
/// letter, digit, `-` or `_`, and beginning with a letter or digit. May be empty.
pub fn normalize_project_name(folder: &str) -> String {
    let kept: String =
        folder.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}
