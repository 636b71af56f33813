//! The program from the outside, as far as it needs neither server nor engine.
#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lattice-agent"))
}

#[test]
fn shells_learn_its_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = agent()
            .args(["completion", shell])
            .env_remove("HOME")
            .env_remove("LATTICE_HOME")
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("lattice-agent") && script.contains("doctor"),
            "{shell}"
        );
    }
}

#[test]
fn what_goes_wrong_is_in_the_log_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("agent.log");
    let run =
        || agent().arg("--home").arg(folder.path()).arg("run").arg("--log-file").arg(&log).output().unwrap();
    for times in 1..=2 {
        let output = run();
        assert!(!output.status.success());
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.matches("error: ").count(), times, "it is written on: {text}");
    }
}
