//! What is wrong with a file, where, why, and what to do instead.
//!
//! Problems are collected and shown together: a person fixes a file once, not key by key.
//! Texts from the file are cut and escaped by [`show`] before they enter a message, since a
//! message ends up on a terminal.

use crate::yaml::Span;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// The most problems that are returned; a last one counts the others.
pub const MAX_PROBLEMS: usize = 100;

/// How many are collected before sorting, so that a hostile file cannot fill the memory.
const MAX_COLLECTED: usize = 1000;

/// Whether a problem stops the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is deployed.
    Error,
    /// It is deployed; what is said has no effect or may surprise.
    Warning,
}

/// The kind of a problem, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text is no YAML, or no `.env` file.
    Syntax,
    /// Too large, too deep, too many.
    Limit,
    /// A key stands twice in one mapping.
    DuplicateKey,
    /// Neither Compose nor Lattice has such a key.
    UnknownKey,
    /// Compose has it; Lattice refuses it, for now or by design.
    NotSupported,
    /// A value of the wrong kind, form or range, or a missing one.
    Invalid,
    /// It names something that does not exist.
    Reference,
    /// Two parts of the file exclude each other.
    Conflict,
    /// Something about a variable.
    Variable,
    /// It is understood and has no effect.
    Ignored,
    /// It is done in another way than Compose does it.
    Differs,
    /// Something confidential stands where many may read it.
    Secret,
}

/// One problem of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted in characters from 1.
    pub column: u32,
    /// The keys that lead to it, e.g. `services.web.ports[0]`; empty for the file as a whole.
    pub path: String,
    /// The kind, for programs.
    pub code: Code,
    /// What is wrong and why, without a full stop.
    pub message: String,
    /// What to do instead, a sentence without its full stop; empty where the message says it.
    pub hint: String,
    /// Whether it stops the deployment.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    /// One line: `compose.yaml:12:5: services.web.devices: not supported: … . Do … instead.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            let stop = if self.hint.ends_with('?') { "" } else { "." };
            write!(f, ". {}{stop}", self.hint)?;
        }
        Ok(())
    }
}

impl Problem {
    /// The line of [`Display`](fmt::Display), then the source line with a caret under the place.
    /// `source` is the text of the file that [`Problem::file`] names.
    pub fn render(&self, source: &str) -> String {
        const WIDTH: usize = 100;
        let mut text = self.to_string();
        let index = (self.line as usize).saturating_sub(1);
        let Some(line) = source.lines().nth(index) else { return text };
        let column = (self.column as usize).saturating_sub(1);
        // A long line is shown from somewhat before the place.
        let from = if column > WIDTH - 20 { column - 20 } else { 0 };
        let shown: String =
            line.chars().skip(from).take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let pad = " ".repeat(column - from);
        let _ = write!(text, "\n {gutter} |\n {number} | {}\n {gutter} | {pad}^", shown.trim_end());
        text
    }
}

/// Everything that was found, sorted by line; at least one is an error. At most
/// [`MAX_PROBLEMS`], after which one more says how many are not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposeErrors(pub Vec<Problem>);

impl ComposeErrors {
    /// Every problem with its source line; `source` gives the text of a file by its name.
    pub fn render<'s>(&self, source: impl Fn(&str) -> Option<&'s str>) -> String {
        let each = |p: &Problem| source(&p.file).map_or_else(|| p.to_string(), |text| p.render(text));
        self.0.iter().map(each).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for ComposeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ComposeErrors {}

/// A text from a file, cut and escaped for a message.
pub(crate) fn show(text: &str) -> String {
    const MAX: usize = 60;
    let mut out: String = text.chars().take(MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX).is_some() {
        out.push('…');
    }
    out
}

/// Where problems are collected.
pub(crate) struct Problems {
    files: Vec<String>,
    list: Vec<Problem>,
    errors: usize,
    dropped: usize,
}

impl Problems {
    pub(crate) fn new(files: impl IntoIterator<Item = String>) -> Self {
        Self { files: files.into_iter().collect(), list: Vec::new(), errors: 0, dropped: 0 }
    }

    /// One more file that problems may stand in.
    pub(crate) fn add_file(&mut self, name: String) -> u16 {
        self.files.push(name);
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        span: Span,
        path: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, code, span, path, message, hint);
    }

    pub(crate) fn warn(
        &mut self,
        code: Code,
        span: Span,
        path: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, span, path, message, hint);
    }

    fn push(
        &mut self,
        severity: Severity,
        code: Code,
        span: Span,
        path: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        // An error always finds room, whatever warnings came before it.
        let room = if severity == Severity::Error { MAX_COLLECTED } else { MAX_PROBLEMS };
        if self.list.len() >= room {
            self.dropped += 1;
            return;
        }
        let problem = Problem {
            file: self.files.get(usize::from(span.file)).cloned().unwrap_or_default(),
            line: span.line,
            column: span.column,
            path: path.to_string(),
            code,
            message: message.into(),
            hint: hint.into(),
            severity,
        };
        // An alias or a merge shows the same place several times, under another path each time.
        let seen = |p: &Problem| {
            (p.line, p.column, &p.message, &p.file)
                == (problem.line, problem.column, &problem.message, &problem.file)
        };
        if !self.list.iter().any(seen) {
            self.list.push(problem);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_COLLECTED
    }

    pub(crate) fn failed(&self) -> bool {
        self.errors > 0
    }

    /// The problems by line: as an error when there is one among them, as warnings otherwise.
    pub(crate) fn finish(mut self) -> Result<Vec<Problem>, ComposeErrors> {
        let files = std::mem::take(&mut self.files);
        let order = |p: &Problem| files.iter().position(|f| *f == p.file);
        let mut all = self.list;
        if all.len() > MAX_PROBLEMS {
            // Errors are kept before warnings.
            all.sort_by_key(|p| (p.severity, order(p), p.line, p.column));
            self.dropped += all.len() - MAX_PROBLEMS;
            all.truncate(MAX_PROBLEMS);
        }
        all.sort_by_key(|p| (order(p), p.line, p.column));
        if self.dropped > 0 {
            let last = all.last().map(|p| (p.file.clone(), p.line));
            let (file, line) = last.unwrap_or_else(|| (files.first().cloned().unwrap_or_default(), 1));
            all.push(Problem {
                file,
                line,
                column: 1,
                path: String::new(),
                code: Code::Limit,
                message: format!("{} more problems are not shown", self.dropped),
                hint: "Fix these first".into(),
                severity: if self.errors > 0 { Severity::Error } else { Severity::Warning },
            });
        }
        if self.errors > 0 { Err(ComposeErrors(all)) } else { Ok(all) }
    }
}
