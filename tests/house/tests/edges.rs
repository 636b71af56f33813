//! The dependencies between crates are those that ARCHITECTURE.md draws, and the drawing shows none that is not there.
//!
//! Rules: an edge of a crate in `crates/` or `bin/` (normal, build or development) is drawn. Crates in `tests/` may use
//! anything; others may use them in development only.

#![allow(clippy::unwrap_used)]

use cargo_metadata::{DependencyKind, MetadataCommand, camino::Utf8Path};
use lattice_house::{Markdown, root};
use std::{collections::BTreeSet, fs};

type Edges = BTreeSet<(String, String)>;

/// `crates/x` is called x; `bin/x` and `tests/x` keep their folder.
fn name(root: &Utf8Path, folder: &Utf8Path) -> String {
    let folder = folder.strip_prefix(root).expect("a workspace crate lies in the repository");
    folder.as_str().strip_prefix("crates/").unwrap_or(folder.as_str()).to_owned()
}

fn actual() -> (Edges, Edges) {
    let manifest = root().unwrap().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
    let root = &metadata.workspace_root;
    let (mut edges, mut wrong) = (Edges::new(), Edges::new());
    for package in &metadata.packages {
        let from = name(root, package.manifest_path.parent().unwrap());
        if from.starts_with("tests/") {
            continue;
        }
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else { continue };
            let edge = (from.clone(), name(root, path));
            let development = dependency.kind == DependencyKind::Development;
            match (edge.1.starts_with("tests/"), development) {
                // A crate may depend on itself in its tests, to turn a feature on.
                (true, true) => {}
                (true, false) => drop(wrong.insert(edge)),
                (false, _) if edge.0 == edge.1 => {}
                (false, _) => drop(edges.insert(edge)),
            }
        }
    }
    (edges, wrong)
}

fn drawn() -> Edges {
    let text = fs::read_to_string(root().unwrap().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut edges = Edges::new();
    for (number, _, line) in Markdown::read(&text).fenced.iter().filter(|(_, word, _)| word == "edges") {
        let (from, to) = line.split_once("->").unwrap_or_else(|| {
            panic!("ARCHITECTURE.md:{number}: an edge is 'crate -> crate …', not '{line}'")
        });
        for to in to.split_whitespace() {
            let new = edges.insert((from.trim().to_owned(), to.to_owned()));
            assert!(new, "ARCHITECTURE.md:{number}: {} -> {to} is drawn twice", from.trim());
        }
    }
    assert!(!edges.is_empty(), "ARCHITECTURE.md has no block that opens with ```edges");
    edges
}

fn list<'a>(edges: impl Iterator<Item = &'a (String, String)>) -> String {
    edges.map(|(from, to)| format!("  {from} -> {to}\n")).collect()
}

#[test]
fn every_edge_is_drawn_and_every_drawn_edge_is_there() {
    let ((actual, wrong), drawn) = (actual(), drawn());
    assert!(
        wrong.is_empty(),
        "only tests may use a crate of tests/; make it a dev-dependency:\n{}",
        list(wrong.iter())
    );
    let undrawn = list(actual.difference(&drawn));
    let unreal = list(drawn.difference(&actual));
    assert!(
        undrawn.is_empty() && unreal.is_empty(),
        "the crates' dependencies and ARCHITECTURE.md differ.\n\
         Not drawn (does this crate have to know that one? if so, draw it and say why in the commit):\n{undrawn}\
         Drawn and not there (remove the line from the drawing):\n{unreal}"
    );
}

#[test]
fn the_map_names_every_crate() {
    let text = fs::read_to_string(root().unwrap().join("ARCHITECTURE.md")).unwrap();
    for folder in ["crates", "bin"] {
        for entry in fs::read_dir(root().unwrap().join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("Cargo.toml").is_file() {
                let name = format!("{}/", entry.file_name().to_string_lossy());
                assert!(text.contains(&name), "ARCHITECTURE.md's map does not name {folder}/{name}");
            }
        }
    }
}
