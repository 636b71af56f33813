//! `.dockerignore`: what of a build's folder does not travel, as Docker reads it.
//!
//! A line is a pattern of whole paths from the folder's root; `*` and `?` stop at a slash, `**` does not, and what
//! matches a folder matches all below it. The last line that matches decides, and one with `!` brings back. Enter at
//! [`Ignore::parse`].
//!
//! Rejected: the matchers of version control, whose rules differ where it matters (a name without a slash matches
//! there at any depth, and nothing comes back from below an ignored folder).

use crate::error::{Result, TreeError};
use std::path::{Component, Path};

/// The most patterns; each file is matched against all of them.
const MAX_PATTERNS: usize = 5000;

/// Patterns of a `.dockerignore`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// Whether what matches is brought back.
    back: bool,
    /// As it is written, cleaned.
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    /// `?`: anything but a slash.
    Any,
    /// `*`: any run without a slash.
    Run,
    /// `**` before something: any number of folders.
    Folders,
    /// `**` at the end: anything.
    Rest,
    /// `[a-z]`, or with `^` what is not in it.
    Class(bool, Vec<(char, char)>),
}

impl Ignore {
    /// Reads a file's text.
    ///
    /// # Errors
    /// [`TreeError::Pattern`] names the line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            // Only at the very beginning of a line: ` #a` is a file.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let wrong = || TreeError::Pattern { pattern: line.trim().chars().take(200).collect() };
            let line = line.trim();
            let (back, rest) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if rest.is_empty() || patterns.len() == MAX_PATTERNS {
                return Err(wrong());
            }
            let text = clean(rest);
            let tokens = tokens(&text).ok_or_else(wrong)?;
            patterns.push(Pattern { back, text, tokens });
        }
        Ok(Self { patterns })
    }

    /// Whether a path within the folder does not travel.
    pub fn ignores(&self, path: &Path) -> bool {
        let parts: Vec<char> = joined(path).chars().collect();
        if parts.is_empty() {
            return false;
        }
        let ends = || parts.iter().enumerate().filter(|(_, c)| **c == '/').map(|(at, _)| at);
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.back != ignored {
                continue;
            }
            let whole = || matches(&pattern.tokens, &parts);
            if whole() || ends().any(|end| matches(&pattern.tokens, &parts[..end])) {
                ignored = !pattern.back;
            }
        }
        ignored
    }

    /// Whether something below a folder that is ignored itself may come back.
    pub fn may_come_back_below(&self, folder: &Path) -> bool {
        let folder = format!("{}/", joined(folder));
        self.patterns.iter().filter(|pattern| pattern.back).any(|pattern| {
            let wild = pattern.tokens.iter().any(|token| !matches!(token, Token::One(_)));
            wild || format!("{}/", pattern.text).starts_with(&folder)
        })
    }
}

fn joined(path: &Path) -> String {
    let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    parts.iter().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// As Go's `filepath.Clean`, without the slash in front: `a//./b/../c/` is `a/c`.
fn clean(text: &str) -> String {
    let rooted = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (parts.is_empty(), rooted) {
        (true, true) => "/".to_owned(),
        (true, false) => ".".to_owned(),
        _ => parts.join("/"),
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let _ = chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::Rest } else { Token::Folders }
            }
            '*' => Token::Run,
            '?' => Token::Any,
            '\\' => Token::One(chars.next()?),
            '[' => {
                let not = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut one = || match chars.next()? {
                        ']' | '-' => None,
                        '\\' => chars.next(),
                        c => Some(c),
                    };
                    let low = one()?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next()? {
                            ']' | '-' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                    if chars.next_if_eq(&']').is_some() {
                        break;
                    }
                }
                Token::Class(not, ranges)
            }
            c => Token::One(c),
        });
    }
    Some(tokens)
}

/// Whether all of a path is what the tokens say: the places that they may have come to, token by token, so that no
/// pattern takes longer than its length times the path's.
fn matches(tokens: &[Token], path: &[char]) -> bool {
    let mut at = vec![false; path.len() + 1];
    at[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        let mut open = false;
        for (place, here) in at.iter().enumerate() {
            let c = path.get(place);
            match token {
                Token::One(wanted) => next[place.min(path.len() - 1) + 1] |= *here && c == Some(wanted),
                Token::Any => next[place.min(path.len() - 1) + 1] |= *here && c.is_some_and(|c| *c != '/'),
                Token::Class(not, ranges) => {
                    let fits = |c: &char| ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *not;
                    next[place.min(path.len() - 1) + 1] |= *here && c.is_some_and(fits);
                }
                Token::Run => {
                    open = (open && place > 0 && path[place - 1] != '/') || *here;
                    next[place] = open;
                }
                Token::Rest => {
                    open |= *here;
                    next[place] = open;
                }
                Token::Folders => {
                    next[place] = *here || (open && place > 0 && path[place - 1] == '/');
                    open |= *here;
                }
            }
        }
        at = next;
    }
    at[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(file: &str, path: &str) -> bool {
        Ignore::parse(file).unwrap().ignores(Path::new(path))
    }

    /// The table of Docker's own matcher, as far as its patterns are files of this system.
    #[test]
    fn patterns_match_as_docker_matches_them() {
        for (pattern, path, yes) in [
            ("**", "file", true),
            ("**", "file/", true),
            ("**/", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abcdef", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("abc/**", "abc", false),
            ("*/temp*", "a/temporary", true),
            ("*/temp*", "a/b/temporary", false),
            ("temp?", "tempa", true),
            // A name is one at the root, and a slash in front says nothing.
            ("node_modules", "a/node_modules", false),
            ("/node_modules", "node_modules/x", true),
            ("./a//b/../c/", "a/c/file", true),
        ] {
            assert_eq!(ignored(pattern, path.trim_end_matches('/')), yes, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_line_that_matches_decides() {
        let file = "# a comment\n\n*.md\n!README*.md\nREADME-secret.md\n  docs  \n! docs/keep\n";
        for (path, yes) in [
            ("a.md", true),
            ("README.md", false),
            ("README-secret.md", true),
            ("docs/a", true),
            ("docs/keep", false),
            ("docs/keep/a", false),
            ("# a comment", false),
        ] {
            assert_eq!(ignored(file, path), yes, "{path}");
        }
        let all_but = Ignore::parse("*\n!src/main.rs\n").unwrap();
        assert!(all_but.ignores(Path::new("src/lib.rs")) && !all_but.ignores(Path::new("src/main.rs")));
        assert!(
            all_but.may_come_back_below(Path::new("src")) && !all_but.may_come_back_below(Path::new("doc"))
        );
        let wild = Ignore::parse("*\n!**/*.rs\n").unwrap();
        assert!(wild.may_come_back_below(Path::new("any/where")));
        for wrong in ["!", "a[", "[]a]", "a\\", "[-]"] {
            let error = Ignore::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
