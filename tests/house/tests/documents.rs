//! What the documents name exists: targets of make, files, links with their anchors.

#![allow(clippy::unwrap_used)]

use lattice_house::{Markdown, markdown_files, root};
use std::{collections::BTreeSet, fs, path::Path};

/// Folders whose names, at the beginning of a code span, announce a path of this repository.
const FOLDERS: [&str; 9] =
    ["crates/", "bin/", "tests/", "scripts/", "docs/", "examples/", "proto/", ".ci/", ".config/"];

fn documents() -> Vec<(String, Markdown)> {
    let root = root().unwrap();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    let files = markdown_files().unwrap();
    files.iter().map(|path| (name(path), Markdown::read(&fs::read_to_string(path).unwrap()))).collect()
}

#[test]
fn every_make_command_is_a_target() {
    let makefile = fs::read_to_string(root().unwrap().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .collect();
    let (mut wrong, mut count) = (String::new(), 0);
    for (file, document) in documents() {
        for (number, code) in document.code() {
            let words: Vec<&str> = code.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "make") {
                let target = pair[1].trim_end_matches([',', '.', ';', ')']);
                let is_target = target.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                count += 1;
                if is_target && !targets.contains(target) {
                    wrong += &format!("  {file}:{number}: make {target}\n");
                }
            }
        }
    }
    assert!(count > 0, "no document names a make target; is the scanner broken?");
    assert!(wrong.is_empty(), "the Makefile has no such target:\n{wrong}");
}

#[test]
fn every_named_path_exists() {
    let root = root().unwrap();
    let mut wrong = String::new();
    for (file, document) in documents() {
        for (number, code) in document.code() {
            for word in code.split_whitespace() {
                let path = word.trim_end_matches([',', '.', ':', ';', ')']);
                let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
                // Where the path only begins with a folder's name, as in `tests/bench` of a later issue, a
                // document that runs ahead of the code is what this is here to find.
                if plain && FOLDERS.iter().any(|folder| path.starts_with(folder)) && !root.join(path).exists()
                {
                    wrong += &format!("  {file}:{number}: {path}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the documents name what is not there:\n{wrong}");
}

#[test]
fn every_relative_link_resolves() {
    let root = root().unwrap();
    let mut wrong = String::new();
    let all = documents();
    for (file, document) in &all {
        for (number, link) in &document.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(p, a)| (p, Some(a)));
            let target =
                if path.is_empty() { root.join(file) } else { root.join(file).parent().unwrap().join(path) };
            let Ok(target) = target.canonicalize() else {
                wrong += &format!("  {file}:{number}: {link}: no such file\n");
                continue;
            };
            let name = target.strip_prefix(&root).map(|p| p.display().to_string()).unwrap_or_default();
            let linked = all.iter().find(|(file, _)| *file == name);
            if let (Some(anchor), Some((_, linked))) = (anchor, linked)
                && !linked.anchors.iter().any(|known| known == anchor)
            {
                wrong += &format!("  {file}:{number}: {link}: no such heading\n");
            }
        }
    }
    assert!(wrong.is_empty(), "links lead nowhere:\n{wrong}");
}

#[test]
fn the_examples_are_named_in_the_readme() {
    let readme = fs::read_to_string(root().unwrap().join("README.md")).unwrap();
    for entry in fs::read_dir(root().unwrap().join("examples")).unwrap() {
        let name = format!("examples/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(readme.contains(&name), "README.md does not name {name}");
        assert!(root().unwrap().join(&name).join("compose.yaml").is_file(), "{name} has no compose.yaml");
    }
}
