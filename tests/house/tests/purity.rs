//! The pure crates reach no runtime, no database, no network and no randomness, not even by way of another crate.
//!
//! Asked of `cargo tree` for each crate alone: `cargo metadata` would unite the features of the whole workspace and
//! find, say, the server's random UUIDs in the planner. Clocks are in the standard library and cannot be found here;
//! the `clippy.toml` of each pure crate forbids them, which is checked too.

#![allow(clippy::unwrap_used)]

use lattice_house::root;
use std::{fs, process::Command};

const PURE: [&str; 12] = [
    "model",
    "compose",
    "scheduler",
    "availability",
    "ranking",
    "measure",
    "planner",
    "converge",
    "api",
    "rules",
    "alert",
    "lan",
];

// `rand_core` and seeded generators are allowed: they draw nothing by themselves, which takes `getrandom`.
const FORBIDDEN: [&str; 16] = [
    "async-std",
    "axum",
    "bollard",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "tokio",
    "tonic",
];

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut found = String::new();
    for name in PURE {
        let output = Command::new(&cargo)
            .args([
                "tree",
                "--locked",
                "--offline",
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ])
            .args(["--package", &format!("lattice-{name}")])
            .current_dir(root().unwrap())
            .output()
            .expect("cargo tree");
        assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            if FORBIDDEN.contains(&dependency) {
                found += &format!(
                    "  {name} reaches {dependency}; see: cargo tree -p lattice-{name} -i {dependency}\n"
                );
            }
        }
    }
    assert!(found.is_empty(), "a pure crate has to stay pure; take what it needs as an argument:\n{found}");
}

#[test]
fn clippy_forbids_clocks_in_pure_crates() {
    for name in PURE {
        let path = root().unwrap().join("crates").join(name).join("clippy.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for method in ["std::time::SystemTime::now", "std::time::Instant::now"] {
            assert!(text.contains(method), "{} does not forbid {method}", path.display());
        }
    }
}
