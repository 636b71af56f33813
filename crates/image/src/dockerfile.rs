//! A Dockerfile, as much of it as whoever builds for others has to know: which images it begins from, before the
//! engine fetches or uses any; and the same text with a label in every stage, by which all that comes of the build
//! is found again.
//!
//! It is read as the engine's own builder does. Where the two could differ (another escape character, a here-document,
//! a name that cannot be told) it is refused, as somebody could hide a `FROM` there.
//!
//! Rejected: taking the images from what the builder says, which it does when it has them already.

use crate::error::{ImageError, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of one that is read.
pub const MAX_DOCKERFILE: u64 = 256 << 10;

/// What a Dockerfile is called among what it is built from, where it is none of these files: `COPY . .` leaves it out.
pub const OWN_DOCKERFILE: &str = ".lattice.Dockerfile";

/// What a Dockerfile says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The images that it needs, as they are written, up to the stage that is wanted; `scratch` is none.
    pub bases: BTreeSet<String>,
    /// The lines, and after which of them the label goes.
    lines: Vec<(String, bool)>,
}

/// One instruction.
struct Instruction {
    /// In capitals.
    word: String,
    rest: String,
    /// The number of its last line.
    ends: usize,
}

fn wrong(problem: impl Into<String>) -> ImageError {
    ImageError::Dockerfile { problem: problem.into() }
}

impl Dockerfile {
    /// Reads one, with the arguments and the stage that the build is given.
    ///
    /// # Errors
    /// [`ImageError::Dockerfile`].
    pub fn read(text: &[u8], args: &BTreeMap<String, String>, target: Option<&str>) -> Result<Self> {
        if text.len() as u64 > MAX_DOCKERFILE {
            return Err(wrong(format!("has more than {MAX_DOCKERFILE} bytes")));
        }
        let text = std::str::from_utf8(text).map_err(|_| wrong("is no text"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines: Vec<(String, bool)> = text
            .split('\n')
            .map(|line| (line.strip_suffix('\r').unwrap_or(line).to_owned(), false))
            .collect();
        let instructions = instructions(&lines)?;
        let (mut known, mut bases, mut stages) = (BTreeMap::new(), BTreeSet::new(), Vec::<String>::new());
        // What is behind the stage that is wanted is not built.
        let mut wanted = true;
        for Instruction { word, rest, ends } in &instructions {
            match word.as_str() {
                "ARG" if stages.is_empty() => {
                    for (name, default) in assignments(rest) {
                        let value = args
                            .get(&name)
                            .cloned()
                            .or(default.map(|text| expand(&text, &known)).transpose()?);
                        known.insert(name, value.unwrap_or_default());
                    }
                }
                "FROM" => {
                    wanted &= !target.is_some_and(|target| is_stage(target, &stages));
                    let words: Vec<&str> =
                        rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
                    let (image, name) = match *words {
                        [image] => (image, None),
                        [image, is, name] if is.eq_ignore_ascii_case("as") => (image, Some(name)),
                        _ => {
                            return Err(wrong(format!("has a FROM that is not understood: {}", short(rest))));
                        }
                    };
                    let image = expand(image, &known)?;
                    if wanted && !is_name(&image, &stages) {
                        bases.insert(named(&image)?);
                    }
                    stages.push(name.unwrap_or_default().to_ascii_lowercase());
                    lines[*ends].1 = true;
                }
                _ if stages.is_empty() => {
                    return Err(wrong(format!("has {word} before the first FROM")));
                }
                "COPY" | "ADD" => {
                    let flags = rest.split_whitespace().take_while(|word| word.starts_with("--"));
                    for from in flags.filter_map(|flag| flag.strip_prefix("--from=")) {
                        if wanted && !is_name(from, &stages) && !is_stage(from, &stages) {
                            bases.insert(named(from)?);
                        }
                    }
                }
                // One of ours that was overwritten is set again.
                "LABEL" => lines[*ends].1 = true,
                _ => {}
            }
        }
        if stages.is_empty() {
            return Err(wrong("has no FROM"));
        }
        if let Some(target) = target.filter(|target| !is_stage(target, &stages)) {
            return Err(wrong(format!("has no stage {}", short(target))));
        }
        bases.remove("scratch");
        Ok(Self { bases, lines })
    }

    /// The text with a label in every stage. Neither name nor value may need to be quoted.
    pub fn marked(&self, label: &str, value: &str) -> String {
        let mut out = String::new();
        for (line, mark) in &self.lines {
            out.push_str(line);
            out.push('\n');
            if *mark {
                out.push_str(&format!("LABEL {label}={value}\n"));
            }
        }
        out
    }
}

/// Lines that are continued make one instruction; comments and empty lines in between count for nothing.
fn instructions(lines: &[(String, bool)]) -> Result<Vec<Instruction>> {
    let mut all = Vec::new();
    let mut open: Option<String> = None;
    for (number, (line, _)) in lines.iter().enumerate() {
        let plain = line.trim();
        if let Some(comment) = plain.strip_prefix('#') {
            let directive = comment.trim_start().to_ascii_lowercase();
            let value = directive.strip_prefix("escape").and_then(|rest| rest.trim_start().strip_prefix('='));
            if value.is_some_and(|value| value.trim() != "\\") {
                return Err(wrong("has another escape character than \\"));
            }
            continue;
        }
        if plain.is_empty() {
            continue;
        }
        let (text, more) = match line.trim_end().strip_suffix('\\') {
            Some(text) => (text, true),
            None => (line.as_str(), false),
        };
        let whole = match open.take() {
            Some(before) => before + text,
            None => text.trim_start().to_owned(),
        };
        if more {
            open = Some(whole);
            continue;
        }
        all.push(instruction(&whole, number)?);
    }
    match open {
        // A label after it would become a part of it.
        Some(whole) => Err(wrong(format!("ends in the middle of an instruction: {}\\", short(&whole)))),
        None => Ok(all),
    }
}

fn instruction(text: &str, ends: usize) -> Result<Instruction> {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let word = word.to_ascii_uppercase();
    if matches!(word.as_str(), "RUN" | "COPY" | "ADD") && here_document(rest) {
        return Err(wrong(format!(
            "has a here-document ({word} <<…), which the engine's own builder does not know: write the lines with && and \\"
        )));
    }
    Ok(Instruction { word, rest: rest.trim().to_owned(), ends })
}

/// `<<EOF`, `<<-"EOF"` at the beginning of a word; a shell's `<<<` or `1 << 2` is none.
fn here_document(rest: &str) -> bool {
    rest.split_whitespace().any(|word| {
        let Some((digits, name)) = word.split_once("<<") else { return false };
        let name = name.strip_prefix('-').unwrap_or(name).trim_start_matches(['"', '\'']);
        digits.bytes().all(|b| b.is_ascii_digit())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// `A=1 B="2 3" C`, each with its value where it has one.
fn assignments(rest: &str) -> Vec<(String, Option<String>)> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            let whole = std::mem::take(word);
            all.push(match whole.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (whole, None),
            });
        }
    };
    for c in rest.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, c) if c.is_whitespace() => end(&mut word),
            _ => word.push(c),
        }
    }
    end(&mut word);
    all
}

/// Puts in variables: `$A`, `${A}`, `${A:-else}`, `${A:+then}`.
fn expand(text: &str, known: &BTreeMap<String, String>) -> Result<String> {
    let unclear = || wrong(format!("has a name with a variable that is not understood: {}", short(text)));
    let (mut out, mut rest) = (String::new(), text.trim_matches(['"', '\'']));
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let after = rest[at..].strip_prefix('$').ok_or_else(unclear)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, word, left) = match after.strip_prefix('{') {
            Some(inner) => {
                let (inner, left) = inner.split_once('}').ok_or_else(unclear)?;
                let end = inner.find(|c| !plain(c)).unwrap_or(inner.len());
                (&inner[..end], &inner[end..], left)
            }
            None => {
                let end = after.find(|c| !plain(c)).unwrap_or(after.len());
                (&after[..end], "", &after[end..])
            }
        };
        let value = known.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let value = match (word.get(..2), value) {
            _ if name.is_empty() || word.contains('$') => return Err(unclear()),
            (None, value) if word.is_empty() => value.unwrap_or_default(),
            (Some(":-"), value) => value.unwrap_or(&word[2..]),
            (Some(":+"), Some(_)) => &word[2..],
            (Some(":+"), None) => "",
            _ => return Err(unclear()),
        };
        out.push_str(value);
        rest = left;
    }
    Ok(out + rest)
}

/// Whether it is the name of a stage before.
fn is_name(text: &str, stages: &[String]) -> bool {
    stages.iter().any(|stage| !stage.is_empty() && stage.eq_ignore_ascii_case(text))
}

/// Whether it is the name or the number of a stage before.
fn is_stage(text: &str, stages: &[String]) -> bool {
    is_name(text, stages) || text.parse::<usize>().is_ok_and(|number| number < stages.len())
}

/// An image's name, and not an id: that could be any image of the computer that builds.
fn named(image: &str) -> Result<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-/:@".contains(c);
    if image.is_empty() || image.len() > 512 || !image.chars().all(fine) {
        return Err(wrong(format!("has a FROM without an image's name: {}", short(image))));
    }
    let id = image.strip_prefix("sha256:").unwrap_or(image);
    if id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(format!("names {}, which may be an id: write a tag behind it", short(image))));
    }
    Ok(image.to_owned())
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dockerfile> {
        let args = [("TAG".to_owned(), "2".to_owned())].into();
        Dockerfile::read(text.as_bytes(), &args, None)
    }

    fn bases(text: &str) -> String {
        read(text).unwrap().bases.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_images_that_a_build_needs_are_known_before_it() {
        for (text, wanted) in [
            ("FROM busybox", "busybox"),
            ("\u{feff}# syntax=docker/dockerfile:1\r\nfrom  busybox:1 \r\nRUN x", "busybox:1"),
            ("ARG TAG=1\nARG BASE=\"node\"\nFROM ${BASE}:$TAG AS build\nFROM build\nFROM scratch", "node:2"),
            ("ARG OTHER\nFROM a:${OTHER:-1.2}\n", "a:1.2"),
            (
                "FROM --platform=linux/arm64 a:1 as x\nCOPY --from=x / /\nCOPY --chown=1 --from=b:2 / /\nCOPY --from=0 a b",
                "a:1 b:2",
            ),
            ("FROM a:1 \\\n# comment\n\n  AS b\nFROM B", "a:1"),
            ("FROM a:1\nRUN echo \\\n  FROM c:1 \\\n\nRUN x << 2", "a:1"),
            ("FROM a:1\nRUN x \\  \n && FROM b\nFROM c:1", "a:1 c:1"),
        ] {
            assert_eq!(bases(text), wanted, "{text}");
        }
        let text = "FROM a:1 AS one\nFROM b:1 AS two\nCOPY --from=three:1 / /\nFROM c:1";
        let to = |target| Dockerfile::read(text.as_bytes(), &BTreeMap::new(), Some(target));
        assert_eq!(to("one").unwrap().bases, ["a:1".to_owned()].into());
        assert_eq!(to("TWO").unwrap().bases.len(), 3);
        assert_eq!(to("1").unwrap().bases.len(), 3);
        assert!(to("four").unwrap_err().to_string().contains("no stage four"));
    }

    #[test]
    fn what_could_hide_an_image_is_refused() {
        for (text, says) in [
            ("RUN x", "before the first FROM"),
            ("# a\n", "no FROM"),
            ("# escape=`\nFROM a", "escape character"),
            ("#Escape = `\nFROM a", "escape character"),
            ("FROM a\nRUN <<EOF\nFROM b\nEOF", "here-document"),
            ("FROM a\nCOPY <<-\"E\" /x\nE", "here-document"),
            ("FROM c2dbefc6eddd", "may be an id"),
            ("FROM sha256:c2dbefc6eddd", "may be an id"),
            ("FROM $NONE", "without an image's name"),
            ("FROM ${A:?x}", "not understood"),
            ("FROM a b c", "not understood"),
            ("FROM a\\\n\n# b\n", "ends in the middle of an instruction: FROM a"),
            ("FROM img\nCOPY --from=$X a b", "without an image's name"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Dockerfile::read(&vec![b'#'; 300 << 10], &BTreeMap::new(), None).is_err());
    }

    #[test]
    fn every_stage_is_marked_and_stays_so() {
        let text = "ARG A\nFROM a:1 \\\n  AS b\nRUN x\nLABEL m=0 \\\n n=1\nFROM b";
        let marked = "ARG A\nFROM a:1 \\\n  AS b\nLABEL m=1\nRUN x\nLABEL m=0 \\\n n=1\nLABEL m=1\nFROM b\nLABEL m=1\n";
        assert_eq!(read(text).unwrap().marked("m", "1"), marked);
        assert_eq!(read(marked).unwrap().bases, ["a:1".to_owned()].into());
    }
}
