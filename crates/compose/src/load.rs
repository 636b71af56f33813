//! The entry: texts and variables in, a stack or its problems out.

use crate::{
    interpolate::{self, Expander},
    problem::{Code, ComposeErrors, Problem, Problems, show},
    read::{Path, Reader},
    yaml::{self, Node, Span, Value},
};
use lattice_model::{StackName, spec::StackSpec};
use std::fmt;

/// A Compose file as text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// How messages name it, e.g. `compose.yaml`.
    pub name: &'a str,
    /// What it holds, UTF-8 or not; at most [`MAX_BYTES`](crate::MAX_BYTES).
    pub text: &'a [u8],
}

/// What a file is read against.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The stack's name as the person gave it; outranks `name:` in the file.
    pub name: Option<&'a str>,
    /// The name where nobody gave one: the folder's, through [`normalize_project_name`].
    pub fallback_name: Option<&'a str>,
    /// The value of a variable: the environment first, then `.env`.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

/// A file that can be deployed.
#[derive(Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The stack's name.
    pub name: StackName,
    /// The stack, resolved.
    pub spec: StackSpec,
    /// What has no effect or may surprise, sorted by line.
    pub warnings: Vec<Problem>,
}

impl fmt::Debug for Loaded {
    /// Leaves the environment out, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, spec, warnings } = self;
        let services: Vec<_> = spec.workloads.keys().collect();
        f.debug_struct("Loaded")
            .field("name", name)
            .field("services", &services)
            .field("warnings", warnings)
            .finish()
    }
}

/// Reads a Compose file.
///
/// A service without `restart` is started again always (Compose's own default is `no`), unless
/// another waits for it with `service_completed_successfully`: then it is a job and runs once.
///
/// `files` holds exactly one file for now; the order of several will be that of `-f`.
///
/// # Errors
/// Every problem of the file with its place, sorted by line.
pub fn load(files: &[Source<'_>], options: &Options<'_>) -> Result<Loaded, ComposeErrors> {
    let mut problems = Problems::new(files.iter().map(|f| f.name.to_owned()));
    let top = Span { file: 0, line: 1, column: 1 };
    let [source] = files else {
        let message = format!("{} files are given, and exactly one is read for now", files.len());
        problems.error(Code::NotSupported, top, "", message, "Write the merged result into one file");
        return Err(refused(problems));
    };
    let Some(text) = utf8(source, &mut problems) else { return Err(refused(problems)) };
    let Some(tree) = yaml::parse(0, text, &mut problems) else { return Err(refused(problems)) };

    let mut expander = Expander::new(options.variables);
    let name = stack_name(&tree, options, &mut expander, &mut problems);
    // Compose offers the name to the file.
    let variables = |key: &str| match (options.variables)(key) {
        None if key == "COMPOSE_PROJECT_NAME" => name.as_ref().map(ToString::to_string),
        value => value,
    };
    let mut expander = Expander { variables: &variables, budget: expander.budget };
    let tree = interpolate::tree(&tree, &mut expander, &mut problems);
    let mut reader = Reader { problems, variables: &variables };
    let spec = reader.stack(&tree);
    match (reader.problems.finish(), name) {
        (Ok(warnings), Some(name)) => Ok(Loaded { name, spec, warnings }),
        (Err(errors), _) => Err(errors),
        // Whenever there is no name, an error was noted by `stack_name` or by the expansion.
        (Ok(warnings), None) => Err(ComposeErrors(warnings)),
    }
}

fn refused(problems: Problems) -> ComposeErrors {
    debug_assert!(problems.failed(), "refused without a reason");
    problems.finish().err().unwrap_or_else(|| ComposeErrors(Vec::new()))
}

pub(crate) fn utf8<'t>(source: &Source<'t>, problems: &mut Problems) -> Option<&'t str> {
    // Judged by its size before it is read.
    if source.text.len() > yaml::MAX_BYTES {
        let top = Span { file: 0, line: 1, column: 1 };
        let message = format!("the file has {} bytes; the most is {}", source.text.len(), yaml::MAX_BYTES);
        problems.error(Code::Limit, top, "", message, "Move data out of it");
        return None;
    }
    match std::str::from_utf8(source.text) {
        Ok(text) => Some(text),
        Err(fault) => {
            let good = &source.text[..fault.valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
            let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let span = Span { file: 0, line: clamp(line), column: clamp(column) };
            problems.error(Code::Syntax, span, "", "the file is no UTF-8 text", "Save it as UTF-8");
            None
        }
    }
}

/// The given name, else `name:`, else the fallback.
fn stack_name(
    tree: &Node,
    options: &Options<'_>,
    expander: &mut Expander<'_>,
    problems: &mut Problems,
) -> Option<StackName> {
    let path = Path::Root.key("name");
    let written = match &*tree.value {
        Value::Mapping(top) => top.get("name").filter(|e| !e.value.is_null()),
        _ => None,
    };
    let top = Span { file: 0, line: 1, column: 1 };
    let (text, span, from_file) = match (options.name, written, options.fallback_name) {
        (Some(given), ..) => (given.to_owned(), top, false),
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
        let message = format!(
            "`{}` cannot name a stack: lower-case letters, digits, `-` and `_` can, beginning with a letter or digit",
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
