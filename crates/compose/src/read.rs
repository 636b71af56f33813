//! Reading typed values out of the tree: each reader yields the value, or notes one problem at
//! its place and yields nothing, so that the rest of the file is still checked.

use crate::{
    files::{Files, join},
    problem::{Code, Problems, show},
    scalar,
    yaml::{Entry, Mapping, Node, Span, Style, Value},
};
use lattice_model::Duration;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// The keys that lead to a value; lives on the stack of whoever descends.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// Whether `x-` keys here are extensions: the file itself and a service. Below them, `x-…`
    /// may be the name of an environment variable.
    pub(crate) fn is_extensible(&self) -> bool {
        match self {
            Self::Root => true,
            Self::Key(Self::Key(Self::Root, "services"), _) => true,
            Self::Key(..) | Self::Index(..) => false,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(&show(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", show(key)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Where a file's paths and variables come from.
#[derive(Clone, Debug)]
pub(crate) struct FileInfo {
    /// The folder that its paths are relative to, itself relative to the project's folder.
    pub(crate) base: String,
    /// Which variables it sees.
    pub(crate) environment: usize,
}

/// One of `KEY=value` lines or of a mapping.
pub(crate) struct Pair {
    pub(crate) span: Span,
    pub(crate) value: Option<String>,
    /// Whether the value stands in the file as it is, without variables.
    pub(crate) literal: bool,
}

/// What every reader needs.
pub(crate) struct Reader<'a> {
    pub(crate) problems: Problems,
    pub(crate) files: Vec<FileInfo>,
    variables: &'a dyn Fn(usize, &str) -> Option<String>,
    pub(crate) disk: &'a dyn Files,
    pub(crate) folder: Option<&'a str>,
    /// Whether services with a `build` are built.
    pub(crate) build: bool,
    /// Whether this is the computer that the file stands on.
    pub(crate) local: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        problems: Problems,
        files: Vec<FileInfo>,
        variables: &'a dyn Fn(usize, &str) -> Option<String>,
        disk: &'a dyn Files,
        folder: Option<&'a str>,
    ) -> Self {
        Self { problems, files, variables, disk, folder, build: true, local: true }
    }

    /// The value of a variable, as the file at this place sees it.
    pub(crate) fn variable(&self, at: Span, key: &str) -> Option<String> {
        let environment = self.files.get(usize::from(at.file)).map_or(0, |file| file.environment);
        (self.variables)(environment, key)
    }

    /// A path as written at this place, relative to the project's folder.
    pub(crate) fn resolve(&self, at: Span, path: &str) -> String {
        let base = self.files.get(usize::from(at.file)).map_or("", |file| &file.base);
        join(base, path, self.folder)
    }

    /// An entry that says something.
    pub(crate) fn said<'n>(entries: &'n Mapping, key: &str) -> Option<&'n Entry> {
        entries.get(key).filter(|entry| !entry.value.is_null())
    }
}

/// What to do with a file that needs more than its text.
pub(crate) const DEPLOY_THERE: &str = "or deploy the project from its folder with `lattice deploy`";

/// That something is on the computer of whoever wrote the file.
pub(crate) fn not_here(what: &str) -> String {
    format!("not supported here: {what} on the computer that has the file, and here is its text alone")
}

impl Reader<'_> {
    pub(crate) fn error(
        &mut self,
        code: Code,
        span: Span,
        path: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.error(code, span, path, message, hint);
    }

    /// Whether something needs the computer that the file stands on, and this is another: then it is refused.
    pub(crate) fn elsewhere(&mut self, span: Span, path: impl fmt::Display, what: &str, hint: &str) -> bool {
        if !self.local {
            self.error(Code::NotSupported, span, path, not_here(what), hint);
        }
        !self.local
    }

    /// "must be X, and is Y"; yields nothing, for the end of a reader.
    pub(crate) fn expected<T>(&mut self, node: &Node, path: &Path<'_>, what: &str, hint: &str) -> Option<T> {
        if node.is_broken() {
            return None;
        }
        let is = match &*node.value {
            Value::Scalar(text, _) if !node.is_null() && text.is_empty() => "empty".to_owned(),
            Value::Scalar(text, _) if !node.is_null() => format!("`{}`", show(text)),
            _ => node.kind().to_owned(),
        };
        self.error(Code::Invalid, node.span, path, format!("expected {what}, found {is}"), hint);
        None
    }

    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n Mapping> {
        match &*node.value {
            Value::Mapping(entries) => Some(entries),
            _ => self.expected(node, path, "a mapping (`key: value` lines)", ""),
        }
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n [Node]> {
        match &*node.value {
            Value::Sequence(items) => Some(items),
            _ => self.expected(node, path, "a list (`- value` lines)", ""),
        }
    }

    /// One text, or a list of them, each with its place.
    pub(crate) fn text_or_list(&mut self, node: &Node, path: &Path<'_>) -> Vec<(String, Span)> {
        match &*node.value {
            _ if node.is_null() => Vec::new(),
            Value::Sequence(items) => {
                let each = |(i, item): (usize, &Node)| {
                    Some((self.text(item, &path.index(i))?.to_owned(), item.span))
                };
                items.iter().enumerate().filter_map(each).collect()
            }
            _ => self.text(node, path).map(|text| (text.to_owned(), node.span)).into_iter().collect(),
        }
    }

    /// A whole number that may be negative.
    pub(crate) fn signed(&mut self, node: &Node, path: &Path<'_>, least: i64, most: i64) -> Option<i64> {
        if let Value::Scalar(text, _) = &*node.value
            && let Ok(number) = text.trim().parse::<i64>()
            && (least..=most).contains(&number)
        {
            return Some(number);
        }
        self.expected(node, path, &format!("a whole number from {least} to {most}"), "")
    }

    /// Permission bits: octal where it begins with `0`, as YAML 1.1 reads it, or is quoted.
    pub(crate) fn mode(&mut self, node: &Node, path: &Path<'_>) -> Option<u32> {
        if let Value::Scalar(text, _) = &*node.value {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            if let Ok(mode) = u32::from_str_radix(digits, 8)
                && mode <= 0o7777
            {
                return Some(mode);
            }
        }
        self.expected(node, path, "permission bits in octal", "Write `mode: \"0440\"`")
    }

    /// A single value as its text; null is refused.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n str> {
        match &*node.value {
            Value::Scalar(text, _) if !node.is_null() && !node.is_broken() => Some(text),
            _ => self.expected(node, path, "a text", ""),
        }
    }

    pub(crate) fn texts(&mut self, node: &Node, path: &Path<'_>) -> Option<Vec<String>> {
        let items = self.list(node, path)?;
        // Every item is read, so that every wrong one is named.
        let read: Vec<_> = items.iter().enumerate().map(|(i, n)| self.text(n, &path.index(i))).collect();
        read.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    pub(crate) fn boolean(&mut self, node: &Node, path: &Path<'_>) -> Option<bool> {
        if let Value::Scalar(text, _) = &*node.value {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => return Some(true),
                "false" | "no" | "off" | "n" => return Some(false),
                _ => {}
            }
        }
        self.expected(node, path, "true or false", "")
    }

    pub(crate) fn integer(&mut self, node: &Node, path: &Path<'_>, least: u32, most: u32) -> Option<u32> {
        let what = format!("a whole number from {least} to {most}");
        if let Value::Scalar(text, _) = &*node.value
            && let Ok(number) = text.parse::<u32>()
            && (least..=most).contains(&number)
        {
            return Some(number);
        }
        self.expected(node, path, &what, "")
    }

    pub(crate) fn duration(&mut self, node: &Node, path: &Path<'_>) -> Option<Duration> {
        if let Value::Scalar(text, _) = &*node.value
            && let Some(span) = scalar::duration(text)
        {
            return Some(span);
        }
        self.expected(node, path, "a span of time", "Write a number with a unit, such as 10s, 1m30s or 500ms")
    }

    /// A value of the model, with the model's own words for what is wrong.
    pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<T> {
        let text = self.text(node, path)?;
        self.named(text, node.span, path)
    }

    pub(crate) fn named<T: FromStr<Err: fmt::Display>>(
        &mut self,
        text: &str,
        span: Span,
        path: &Path<'_>,
    ) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(fault) => {
                // The model says what is wrong and, after a semicolon, what to do.
                let fault = fault.to_string();
                let (message, hint) = fault.split_once("; ").unwrap_or((&fault, ""));
                let mut hint = hint.to_owned();
                hint.get_mut(..1).map(str::make_ascii_uppercase);
                self.error(Code::Invalid, span, path, message, hint);
                None
            }
        }
    }

    /// `- KEY=value` lines or a mapping of single values: each key with its place and its value,
    /// `None` where there is none. In a list the last one of a key counts, as Compose has it.
    pub(crate) fn pairs(&mut self, node: &Node, path: &Path<'_>) -> BTreeMap<String, Pair> {
        let mut pairs = BTreeMap::new();
        match &*node.value {
            _ if node.is_null() || node.is_broken() => {}
            Value::Mapping(entries) => {
                for (key, entry) in entries {
                    let at = path.key(key);
                    let value = match &*entry.value.value {
                        Value::Scalar(..) if entry.value.is_null() => None,
                        Value::Scalar(text, Style::Plain) => Some(canonical(text)),
                        // Said by the expansion.
                        Value::Scalar(_, Style::Broken) => continue,
                        Value::Scalar(text, _) => Some(text.to_string()),
                        _ => {
                            self.expected::<()>(
                                &entry.value,
                                &at,
                                "a single value",
                                "Quote it if it was meant as text",
                            );
                            continue;
                        }
                    };
                    if self.pair_key(key, entry.key, &at) {
                        let literal = !matches!(&*entry.value.value, Value::Scalar(_, Style::Expanded));
                        pairs.insert(key.to_string(), Pair { span: entry.key, value, literal });
                    }
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let at = path.index(index);
                    let Some(text) = self.text(item, &at) else { continue };
                    let (key, value) =
                        text.split_once('=').map_or((text, None), |(k, v)| (k, Some(v.to_owned())));
                    if self.pair_key(key, item.span, &at) {
                        let literal = !matches!(&*item.value, Value::Scalar(_, Style::Expanded));
                        pairs.insert(key.to_owned(), Pair { span: item.span, value, literal });
                    }
                }
            }
            Value::Scalar(..) => {
                // The text is not shown: it may be a secret.
                let message =
                    "expected a mapping (`KEY: value`) or a list (`- KEY=value`), found a single value";
                self.error(Code::Invalid, node.span, path, message, "");
            }
        }
        pairs
    }

    fn pair_key(&mut self, key: &str, span: Span, path: &Path<'_>) -> bool {
        let fault = if key.trim().is_empty() {
            "the key is empty"
        } else if key.contains(['=', '\0', '\n']) {
            "a key cannot contain `=`, a line break or NUL"
        } else {
            return true;
        };
        self.error(Code::Invalid, span, path, fault, "Write `KEY=value`");
        false
    }

    /// Labels; Lattice's own prefix is refused, or a file could claim another stack's containers.
    pub(crate) fn labels(&mut self, node: &Node, path: &Path<'_>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (key, Pair { span, value, literal: _ }) in self.pairs(node, path) {
            if self.label_allowed(&key, span, path) {
                labels.insert(key, value.unwrap_or_default());
            }
        }
        labels
    }

    pub(crate) fn label_allowed(&mut self, key: &str, span: Span, path: &Path<'_>) -> bool {
        let reserved = key == "lattice" || key.starts_with("lattice.");
        if reserved {
            let message = format!(
                "the label {} is refused: Lattice finds its own containers by this prefix",
                show(key)
            );
            self.error(Code::NotSupported, span, path.key(key), message, "Choose another name for the label");
        }
        !reserved
    }
}

/// Booleans in one spelling, as Compose passes them on; everything else as it was written.
fn canonical(text: &str) -> String {
    match text {
        "True" | "TRUE" => "true".into(),
        "False" | "FALSE" => "false".into(),
        _ => text.into(),
    }
}
