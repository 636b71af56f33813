//! Variables in values, by Compose's rules: `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`, `${NAME:+other}`, `${NAME+other}`,
//! nested in defaults, and `$$` for one `$`. Keys are never touched.
//!
//! One pass without backtracking; nesting and output are bounded, since `${A}${A}…` multiplies.

use crate::{
    problem::{Code, Problems, show},
    read::Path,
    yaml::{Entry, MAX_TEXT, Node, Span, Style, Value},
};
use std::sync::Arc;

/// The deepest `${A:-${B:-…}}`.
const MAX_NESTING: usize = 32;

/// The value of a variable, by its name.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `$` without a name or a brace after it.
    NoName,
    /// `${…` without `}`, or with something else after the name than an operator.
    Unclosed,
    /// `${NAME?message}` and there is no value.
    Missing {
        name: String,
        message: String,
    },
    TooDeep,
    TooLarge,
}

impl Fault {
    pub(crate) fn describe(&self) -> (Code, String, String) {
        let deploy = "Set it in the environment or in `.env` and try again";
        match self {
            Self::NoName => (
                Code::Syntax,
                "a `$` is followed by no variable name".into(),
                "Write `$$` where a dollar sign is meant".into(),
            ),
            Self::Unclosed => (
                Code::Syntax,
                "a variable begins with `${` and is not completed".into(),
                "Write `${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${NAME:+other}`, or `$$` for a dollar sign".into(),
            ),
            Self::Missing { name, message } if message.is_empty() => {
                (Code::Variable, format!("the required variable {} has no value", show(name)), deploy.into())
            }
            Self::Missing { name, message } => (
                Code::Variable,
                format!("the required variable {} has no value: {}", show(name), show(message)),
                deploy.into(),
            ),
            Self::TooDeep => (
                Code::Limit,
                format!("variables are nested more than {MAX_NESTING} deep"),
                "Use fewer nested defaults".into(),
            ),
            Self::TooLarge => (
                Code::Limit,
                format!("variables expand to more than {MAX_TEXT} bytes"),
                "Pass large values as files".into(),
            ),
        }
    }
}

/// Expands texts against one set of variables and one budget of output.
pub(crate) struct Expander<'a> {
    pub(crate) variables: Variables<'a>,
    pub(crate) budget: usize,
}

/// What one expansion yields.
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Variables that had no value, with the byte where they stand.
    pub(crate) unset: Vec<(String, usize)>,
}

struct Run<'t, 'a, 'e> {
    text: &'t str,
    at: usize,
    unset: Vec<(String, usize)>,
    expander: &'e mut Expander<'a>,
}

impl Expander<'_> {
    /// Expands one text.
    ///
    /// # Errors
    /// The byte where it fails, and why.
    pub(crate) fn expand(&mut self, text: &str) -> Result<Expanded, (usize, Fault)> {
        let mut run = Run { text, at: 0, unset: Vec::new(), expander: self };
        let mut out = String::new();
        match run.words(0, false, true, &mut out) {
            Ok(()) => Ok(Expanded { text: out, unset: run.unset }),
            Err(fault) => Err((run.at, fault)),
        }
    }
}

impl<'t> Run<'t, '_, '_> {
    fn push(&mut self, active: bool, out: &mut String, piece: &str) -> Result<(), Fault> {
        if active {
            let left = self.expander.budget.checked_sub(piece.len()).ok_or(Fault::TooLarge)?;
            self.expander.budget = left;
            out.push_str(piece);
        }
        Ok(())
    }

    /// Reads to the end, or to the `}` that closes the surrounding variable. What is not
    /// `active` is read and neither evaluated nor written.
    fn words(&mut self, depth: usize, braced: bool, active: bool, out: &mut String) -> Result<(), Fault> {
        if depth > MAX_NESTING {
            return Err(Fault::TooDeep);
        }
        let text = self.text;
        loop {
            let rest = &text[self.at..];
            let Some(next) = rest.find(|c| c == '$' || (braced && c == '}')) else {
                self.push(active, out, rest)?;
                self.at = text.len();
                return if braced { Err(Fault::Unclosed) } else { Ok(()) };
            };
            self.push(active, out, &rest[..next])?;
            self.at += next;
            if rest.as_bytes()[next] == b'}' {
                return Ok(());
            }
            match rest.as_bytes().get(next + 1) {
                Some(b'$') => {
                    self.push(active, out, "$")?;
                    self.at += 2;
                }
                Some(b'{') => self.variable(depth, active, out)?,
                _ => {
                    let start = self.at;
                    self.at += 1;
                    let name = self.name();
                    if name.is_empty() {
                        self.at = start;
                        return Err(Fault::NoName);
                    }
                    self.value(name, start, active, out)?;
                }
            }
        }
    }

    fn name(&mut self) -> &'t str {
        let text = self.text;
        let rest = &text[self.at..];
        let end = rest.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(rest.len());
        let name = if rest.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &rest[..end] };
        self.at += name.len();
        name
    }

    fn value(&mut self, name: &str, start: usize, active: bool, out: &mut String) -> Result<(), Fault> {
        if !active {
            return Ok(());
        }
        match (self.expander.variables)(name) {
            Some(value) => self.push(true, out, &value),
            None => {
                self.unset.push((name.to_owned(), start));
                Ok(())
            }
        }
    }

    /// `${…}`, from the dollar sign to behind the closing brace.
    fn variable(&mut self, depth: usize, active: bool, out: &mut String) -> Result<(), Fault> {
        let start = self.at;
        self.at += 2;
        let name = self.name().to_owned();
        let rest = &self.text[self.at..];
        let fail = |run: &mut Self, fault| {
            run.at = start;
            Err(fault)
        };
        if name.is_empty() {
            return fail(self, Fault::Unclosed);
        }
        if rest.starts_with('}') {
            self.value(&name, start, active, out)?;
            self.at += 1;
            return Ok(());
        }
        let (strict, operator) = match rest.strip_prefix(':') {
            Some(after) => (true, after.bytes().next()),
            None => (false, rest.bytes().next()),
        };
        self.at += 1 + usize::from(strict);
        // With a colon, empty counts as absent.
        let value = (self.expander.variables)(&name).filter(|v| !(strict && v.is_empty()));
        match operator {
            Some(b'-') => {
                if let Some(value) = &value {
                    self.push(active, out, value)?;
                }
                self.words(depth + 1, true, active && value.is_none(), out)?;
            }
            Some(b'+') => self.words(depth + 1, true, active && value.is_some(), out)?,
            Some(b'?') => {
                let missing = active && value.is_none();
                let mut message = String::new();
                self.words(depth + 1, true, missing, &mut message)?;
                if missing {
                    return fail(self, Fault::Missing { name, message });
                }
                self.push(active, out, value.as_deref().unwrap_or_default())?;
            }
            _ => return fail(self, Fault::Unclosed),
        }
        self.at += 1;
        Ok(())
    }
}

/// Expands every value of a file. `x-` keys of the file and of its services are left as they
/// are, `x-lattice` apart: nothing reads them, so a `$` in them is nobody's mistake.
pub(crate) fn tree(root: &Node, expander: &mut Expander<'_>, problems: &mut Problems) -> Node {
    Walk { expander, problems }.node(root, &Path::Root)
}

struct Walk<'a, 'e, 'p> {
    expander: &'e mut Expander<'a>,
    problems: &'p mut Problems,
}

impl Walk<'_, '_, '_> {
    fn node(&mut self, node: &Node, path: &Path<'_>) -> Node {
        match &*node.value {
            Value::Scalar(text, style) => self.scalar(node, text, *style, path),
            Value::Sequence(items) => {
                let each = |(i, item)| self.node(item, &path.index(i));
                node.with(Value::Sequence(items.iter().enumerate().map(each).collect()))
            }
            Value::Mapping(entries) => {
                let extensible = path.is_extensible();
                let each = |(key, entry): (&Arc<str>, &Entry)| {
                    let value = if extensible && key.starts_with("x-") && &**key != "x-lattice" {
                        entry.value.clone()
                    } else {
                        self.node(&entry.value, &path.key(key))
                    };
                    (key.clone(), Entry { key: entry.key, value })
                };
                node.with(Value::Mapping(entries.iter().map(each).collect()))
            }
        }
    }

    fn scalar(&mut self, node: &Node, text: &Arc<str>, style: Style, path: &Path<'_>) -> Node {
        if text.contains('\0') {
            let message = "the text contains a NUL character, which no program can be given";
            self.problems.error(Code::Invalid, node.span, path, message, "Remove it");
        }
        if !text.contains('$') {
            return node.clone();
        }
        match self.expander.expand(text) {
            Ok(Expanded { text: new, unset }) => {
                for (name, at) in unset {
                    let message = format!("the variable {} is not set; it becomes empty", show(&name));
                    let hint = "Set it in the environment or in `.env`, or write a default: `${NAME:-default}`; write `$$` where a dollar sign is meant";
                    self.problems.warn(
                        Code::Variable,
                        place(node.span, text, style, at),
                        path,
                        message,
                        hint,
                    );
                }
                node.with(Value::Scalar(new.into(), Style::Expanded))
            }
            Err((at, fault)) => {
                let (code, message, hint) = fault.describe();
                self.problems.error(code, place(node.span, text, style, at), path, message, hint);
                node.with(Value::Scalar("".into(), Style::Broken))
            }
        }
    }
}

/// The place of a byte of a scalar, as exactly as its style allows.
fn place(span: Span, text: &str, style: Style, at: usize) -> Span {
    let before = &text[..at];
    let count = |n: usize| u32::try_from(n).unwrap_or(0);
    match style {
        Style::Plain => Span { column: span.column + count(before.chars().count()), ..span },
        // The parser's place is the first line that is not blank.
        Style::Literal => Span {
            line: span.line + count(before.trim_start_matches('\n').matches('\n').count()),
            column: 1,
            ..span
        },
        Style::Text | Style::Expanded | Style::Broken => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<(String, Vec<String>), Fault> {
        let variables = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "_x9" => Some("under".to_owned()),
            "RAW" => Some("$A".to_owned()),
            _ => None,
        };
        let mut expander = Expander { variables: &variables, budget: MAX_TEXT };
        let done = expander.expand(text).map_err(|(_, fault)| fault)?;
        Ok((done.text, done.unset.into_iter().map(|(name, _)| name).collect()))
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "one"),
            ("$A-$A.", "one-one."),
            ("${A}b", "oneb"),
            ("$_x9", "under"),
            ("$$A", "$A"),
            ("$$$A", "$one"),
            ("$${A}", "${A}"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${NONE-}", ""),
            ("${A:-d}", "one"),
            ("${A:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NONE+yes}", ""),
            ("${A:?no}", "one"),
            ("${EMPTY?no}", ""),
            ("${NONE:-${EMPTY:-${A}}}", "one"),
            ("${NONE:-a:b-c?d}", "a:b-c?d"),
            ("${A:-${NONE:?not evaluated}}", "one"),
            ("${NONE:-{}}", "{}"),
            ("${RAW}", "$A"),
            ("${NONE:-$$}", "$"),
            ("http://${A}:80/ä", "http://one:80/ä"),
        ] {
            assert_eq!(expand(text).map(|(out, _)| out), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(expand("$NONE ${OTHER}").unwrap().1, ["NONE", "OTHER"]);
        assert!(expand("${A:-$NONE}").unwrap().1.is_empty());
    }

    #[test]
    fn every_fault() {
        for text in ["$", "a $ b", "$1", "$-", "100%$"] {
            assert_eq!(expand(text), Err(Fault::NoName), "{text}");
        }
        for text in
            ["${", "${}", "${A", "${A:-", "${A!}", "${A:}", "${A:=x}", "${1}", "${NONE:-${A}", "${ A }"]
        {
            assert_eq!(expand(text), Err(Fault::Unclosed), "{text}");
        }
        let missing = |message: &str| Err(Fault::Missing { name: "NONE".into(), message: message.into() });
        assert_eq!(expand("${NONE?}"), missing(""));
        assert_eq!(expand("x ${NONE:?set $A}"), missing("set one"));
        assert!(matches!(expand("${EMPTY:?e}"), Err(Fault::Missing { .. })));
        assert_eq!(expand(&"${NONE:-".repeat(100_000)), Err(Fault::TooDeep));
        let large = |_: &str| Some("x".repeat(1 << 20));
        let mut expander = Expander { variables: &large, budget: MAX_TEXT };
        assert_eq!(expander.expand(&"$A".repeat(5)).map(|_| ()).map_err(|(_, f)| f), Err(Fault::TooLarge));
    }
}
