//! `.env` text: `KEY=value` lines with comments, `export`, quotes over several lines, and
//! variables in unquoted and double-quoted values.
//!
//! The environment outranks the file, in its expansions too, as Compose has it.

use crate::{
    interpolate::{Expanded, Expander},
    load::{Source, utf8},
    problem::{Code, ComposeErrors, Problem, Problems, show},
    yaml::Span,
};
use indexmap::IndexMap;
use std::fmt;

/// What a `.env` file says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// The variables in the order of their first mention; the last value of each counts.
    pub values: IndexMap<String, String>,
    /// Variables that were used and had no value.
    pub warnings: Vec<Problem>,
}

impl fmt::Debug for EnvFile {
    /// Shows the names alone: the values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { values, warnings } = self;
        let names: Vec<_> = values.keys().collect();
        f.debug_struct("EnvFile").field("names", &names).field("warnings", warnings).finish()
    }
}

/// Reads the text of a `.env` file, at most [`MAX_BYTES`](crate::MAX_BYTES); `environment` is
/// asked for variables in values and for the value of a line that names a variable alone.
///
/// # Errors
/// Every line that cannot be read; no value appears in a message.
pub fn parse_env(
    source: Source<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<EnvFile, ComposeErrors> {
    let mut problems = Problems::new([source.name.to_owned()]);
    let values = read(0, source.text, environment, &mut problems);
    problems.finish().map(|warnings| EnvFile { values, warnings })
}

/// As [`parse_env`], among the problems of other files.
pub(crate) fn read(
    file: u16,
    text: &[u8],
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> IndexMap<String, String> {
    let mut values = IndexMap::new();
    if let Some(text) = utf8(file, text, problems) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines =
            Lines { file, text, at: 0, line: 1, start: 0, budget: crate::yaml::MAX_TEXT, environment };
        while lines.statement(&mut values, problems).is_some() {}
    }
    values
}

/// A file of `format: raw`: what stands behind the first `=` of a line is the value.
pub(crate) fn read_raw(
    file: u16,
    text: &[u8],
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> IndexMap<String, String> {
    let mut values = IndexMap::new();
    let Some(text) = utf8(file, text, problems) else { return values };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let (key, value) = match body.split_once('=') {
            Some((key, value)) => (key.trim_end(), Some(value.to_owned())),
            None => (body.trim_end(), environment(body.trim_end())),
        };
        if key.is_empty() || key.contains(char::is_whitespace) || body.contains('\0') {
            let span = Span { file, line: u32::try_from(index + 1).unwrap_or(u32::MAX), column: 1 };
            let message = "the line is neither `KEY=value` nor a comment";
            problems.error(Code::Syntax, span, "", message, "Begin a comment with `#`");
        } else if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    }
    values
}

struct Lines<'t> {
    file: u16,
    text: &'t str,
    at: usize,
    line: u32,
    /// Where the current line begins.
    start: usize,
    budget: usize,
    environment: &'t dyn Fn(&str) -> Option<String>,
}

enum Quote {
    None,
    Single,
    Double,
}

impl Lines<'_> {
    fn span(&self) -> Span {
        let column = self.text[self.start..self.at].chars().count() + 1;
        Span { file: self.file, line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    /// Steps over the rest of the line and its end.
    fn next_line(&mut self) {
        match self.text[self.at..].find('\n') {
            Some(end) => {
                self.at += end + 1;
                self.line += 1;
                self.start = self.at;
            }
            None => self.at = self.text.len(),
        }
    }

    /// Reads one line, or as many as its quotes span; `None` at the end.
    fn statement(&mut self, values: &mut IndexMap<String, String>, problems: &mut Problems) -> Option<()> {
        if self.at >= self.text.len() {
            return None;
        }
        let rest = &self.text[self.at..];
        let line = rest.lines().next().unwrap_or_default();
        let mut body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            self.next_line();
            return Some(());
        }
        if let Some(after) = body.strip_prefix("export").filter(|a| a.starts_with([' ', '\t'])) {
            body = after.trim_start();
        }
        self.at += line.len() - body.len();
        let at = self.span();
        let end = body.find(['=', ':']).unwrap_or(body.len());
        let (key, bare) = match end == body.len() {
            true => (body.split('#').next().unwrap_or_default().trim_end(), true),
            false => (body[..end].trim_end(), false),
        };
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        if key.is_empty() || !key.chars().all(allowed) {
            let message = "the line is neither `KEY=value` nor a comment";
            let hint = "Names have letters, digits, `_`, `.` and `-`; quote a value that spans lines; begin a comment with `#`";
            problems.error(Code::Syntax, at, "", message, hint);
            self.next_line();
            return Some(());
        }
        if bare {
            // A name alone passes the environment's value on.
            if let Some(value) = (self.environment)(key) {
                values.insert(key.to_owned(), value);
            }
            self.next_line();
            return Some(());
        }
        self.at += end + 1;
        let after = &self.text[self.at..];
        self.at += after.len() - after.trim_start_matches([' ', '\t']).len();
        let value_at = self.span();
        match self.value(key, problems) {
            Some((raw, quote)) => {
                let value = match quote {
                    Quote::Single => Some(raw),
                    Quote::None | Quote::Double => self.expand(&raw, key, value_at, values, problems),
                };
                if let Some(value) = value {
                    values.insert(key.to_owned(), value);
                }
            }
            None => self.next_line(),
        }
        Some(())
    }

    /// The value as a template, up to the end of its last line.
    fn value(&mut self, key: &str, problems: &mut Problems) -> Option<(String, Quote)> {
        let rest = &self.text[self.at..];
        let quote = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => {
                let line = rest.lines().next().unwrap_or_default();
                // A `#` begins a comment where a space stands before it.
                let comment = line.char_indices().zip(std::iter::once(' ').chain(line.chars()));
                let end = comment
                    .filter(|((_, c), before)| *c == '#' && before.is_whitespace())
                    .map(|((at, _), _)| at)
                    .next()
                    .unwrap_or(line.len());
                let value = line[..end].trim_end().to_owned();
                self.next_line();
                return Some((value, Quote::None));
            }
        };
        let opened = self.span();
        let mut raw = String::new();
        let mut chars = rest.char_indices().skip(1);
        let mut close = None;
        while let Some((at, c)) = chars.next() {
            match (c, quote) {
                (c, _) if c == quote => {
                    close = Some(at);
                    break;
                }
                ('\\', '"') => match chars.next() {
                    Some((_, 'n')) => raw.push('\n'),
                    Some((_, 'r')) => raw.push('\r'),
                    Some((_, 't')) => raw.push('\t'),
                    Some((_, '$')) => raw.push_str("$$"),
                    Some((_, c @ ('"' | '\\'))) => raw.push(c),
                    Some((_, c)) => raw.extend(['\\', c]),
                    None => {}
                },
                // Only the quote itself can be escaped.
                ('\\', _) if rest[at + 1..].starts_with('\'') => {
                    chars.next();
                    raw.push('\'');
                }
                (c, _) => raw.push(c),
            }
        }
        let Some(close) = close else {
            let message =
                format!("the value of {} begins with {quote} and has no {quote} at its end", show(key));
            problems.error(Code::Syntax, opened, "", message, "Close the quote");
            // What follows cannot be told apart from the value.
            self.at = self.text.len();
            return None;
        };
        let value = &rest[..close];
        let lines = value.matches('\n').count();
        self.line += u32::try_from(lines).unwrap_or(0);
        if let Some(last) = value.rfind('\n') {
            self.start = self.at + last + 1;
        }
        self.at += close + 1;
        let tail = self.text[self.at..].lines().next().unwrap_or_default().trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            let message = format!("something follows the closing quote of {}", show(key));
            problems.error(Code::Syntax, self.span(), "", message, "Remove it, or begin a comment with `#`");
        }
        self.next_line();
        Some((raw, if quote == '"' { Quote::Double } else { Quote::Single }))
    }

    fn expand(
        &mut self,
        raw: &str,
        key: &str,
        at: Span,
        values: &IndexMap<String, String>,
        problems: &mut Problems,
    ) -> Option<String> {
        let environment = self.environment;
        let lookup = |name: &str| environment(name).or_else(|| values.get(name).cloned());
        let mut expander = Expander { variables: &lookup, budget: self.budget };
        let expanded = expander.expand(raw);
        self.budget = expander.budget;
        match expanded {
            Ok(Expanded { text, unset }) => {
                for (name, _) in unset {
                    let message = format!("the variable {} is not set; it becomes empty", show(&name));
                    problems.warn(
                        Code::Variable,
                        at,
                        key,
                        message,
                        "Set it before, or write `$$` or single quotes for a dollar sign",
                    );
                }
                Some(text)
            }
            Err((_, fault)) => {
                let (code, message, hint) = fault.describe();
                problems.error(code, at, key, message, hint);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
        let environment = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        parse_env(Source { name: ".env", text: text.as_bytes() }, &environment)
            .map(|file| file.values.into_iter().collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_form() {
        for (text, value) in [
            ("A=1", "1"),
            ("  A = 1  ", "1"),
            ("export A=1", "1"),
            ("\texport\tA=1", "1"),
            ("A: yaml", "yaml"),
            ("A=", ""),
            ("A=# comment", ""),
            ("A=a#b # comment", "a#b"),
            ("A='$HOME # no'", "$HOME # no"),
            ("A='it\\'s'", "it's"),
            ("A=\"a\\tb\\\"c\\\\\" # comment", "a\tb\"c\\"),
            ("A=\"one\ntwo\"\n", "one\ntwo"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=$HOME/x", "/root/x"),
            ("A=\"${HOME}\"", "/root"),
            ("A=\"\\$HOME\"", "$HOME"),
            ("A=$$HOME", "$HOME"),
            ("A=1\nA=2", "2"),
            ("A=${NONE:-d}", "d"),
            ("\u{feff}A=1\r\n", "1"),
            ("# only\n\n  # comments\nA=1", "1"),
            ("A=a=b", "a=b"),
        ] {
            assert_eq!(parse(text), Ok(vec![("A".into(), value.into())]), "{text:?}");
        }
        assert_eq!(parse("HOME\nNONE\n"), Ok(vec![("HOME".into(), "/root".into())]));
        assert_eq!(parse("A=1\nB=${A}2"), Ok(vec![("A".into(), "1".into()), ("B".into(), "12".into())]));
    }

    #[test]
    fn faults_name_their_line_and_no_value() {
        for (text, expected) in [
            ("A=1\nwhat is this", ".env:2:1: the line is neither"),
            ("A=1\n\nB=\"secret\nsecret", ".env:3:3: the value of B begins with \""),
            ("A=\"a\nb\" secret", ".env:2:3: something follows the closing quote of A"),
            ("A='a\nb'\nB=${", ".env:3:3: B: a variable begins with"),
            ("A=${B:?set it}", ".env:1:3: A: the required variable B has no value: set it"),
            ("=x", ".env:1:1: the line is neither"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(expected), "{text:?}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let unset = |_: &str| None;
        let file = parse_env(Source { name: ".env", text: b"A=$B" }, &unset).unwrap();
        assert_eq!(file.warnings.len(), 1);
        assert_eq!(
            format!("{:?}", EnvFile { warnings: Vec::new(), ..file }),
            "EnvFile { names: [\"A\"], warnings: [] }"
        );
    }
}
