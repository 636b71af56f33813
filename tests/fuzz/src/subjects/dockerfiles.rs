//! Dockerfiles and `.dockerignore`: what is taken is marked in every stage, needs the same images when it is read
//! again, and names none by an id; patterns of any kind are judged in bounded time.

use crate::{Blob, Draw, Subject, text};
use lattice_image::Dockerfile as Read;
use lattice_tree::Ignore;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// A Dockerfile, and a `.dockerignore` with a path that it judges.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dockerfile {
    text: Blob,
    ignore: Blob,
    path: String,
}

const LINES: &[&str] = &[
    "FROM busybox:1",
    "FROM busybox:1 AS one",
    "from --platform=linux/amd64 img as two",
    "FROM one",
    "FROM scratch",
    "FROM ${A:-x:1}",
    "FROM $A",
    "FROM deadbeef",
    "ARG A=img:2",
    "ARG A",
    "RUN a \\",
    "RUN <<E",
    "E",
    "  && b",
    "COPY --from=one / /",
    "COPY --from=other:1 / /",
    "COPY . .",
    "LABEL a=b \\",
    "LABEL m=0",
    "# a comment",
    "# escape=`",
    "# syntax=x",
    "",
    "\\",
    "ONBUILD RUN x",
];
const PATTERNS: &[&str] = &[
    "*", "**", "!a", "!**/a", "a/b", "a/**", "**/*.b", "a?", "[a-c]", "[^a]", "a[", "\\", "#", "/a/", "a**b",
    "!",
];
const PATHS: &[&str] = &["a", "b", "a/b", "a/b/c", "ab", "a.b", "", "\u{e9}/a"];

fn lines(draw: &mut dyn Draw, of: &[&str], most: usize) -> Blob {
    let mut text = Vec::new();
    for _ in 0..draw.below(most) {
        text.extend_from_slice(draw.of(of).as_bytes());
        text.extend_from_slice(if draw.one_in(8) { b"\r\n" } else { b"\n" });
    }
    if draw.one_in(4) {
        let others: Vec<&[u8]> = of.iter().map(|line| line.as_bytes()).collect();
        text::alter(draw, &mut text, &others);
    }
    Blob(text)
}

impl Subject for Dockerfile {
    const NAME: &'static str = "dockerfiles";

    fn draw(draw: &mut dyn Draw) -> Self {
        let (text, ignore) = (lines(draw, LINES, 12), lines(draw, PATTERNS, 8));
        Self { text, ignore, path: (*draw.of(PATHS)).to_owned() }
    }

    fn check(&self) -> Result<(), String> {
        if let Ok(text) = std::str::from_utf8(&self.ignore.0)
            && let Ok(ignore) = Ignore::parse(text)
        {
            let path = Path::new(&self.path);
            let below = path.join("further/below");
            let brings_back = text.contains('!');
            if ignore.ignores(path) && !ignore.ignores(&below) && !brings_back {
                return Err(format!("{path:?} is ignored, and {below:?} below it is not"));
            }
            if ignore.ignores(path) && !ignore.ignores(&below) && !ignore.may_come_back_below(path) {
                return Err(format!("nobody looks below {path:?}, and {below:?} travels"));
            }
        }
        let args = BTreeMap::from([("A".to_owned(), "given:1".to_owned())]);
        let Ok(read) = Read::read(&self.text.0, &args, None) else { return Ok(()) };
        let id = |base: &String| base.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(base) = read.bases.iter().find(|base| id(base)) {
            return Err(format!("{base:?} may be an id"));
        }
        let marked = read.marked("m", "1");
        let again = Read::read(marked.as_bytes(), &args, None)
            .map_err(|error| format!("marked, it is refused ({error}): {marked:?}"))?;
        if again.bases != read.bases {
            return Err(format!("marked, it needs {:?} and not {:?}", again.bases, read.bases));
        }
        let stages =
            marked.lines().filter(|line| line.trim_start().to_ascii_lowercase().starts_with("from "));
        match marked.contains("LABEL m=1\n") || stages.count() == 0 {
            true => Ok(()),
            false => Err(format!("no stage is marked: {marked:?}")),
        }
    }
}
