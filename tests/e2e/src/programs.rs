//! Where the programs under test are.

use std::{path::PathBuf, process::Command};

/// The repository's folder.
pub fn root() -> PathBuf {
    // tests/e2e, two below it.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

/// A program under test: `LATTICE_BIN_DIR`, else the debug build.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    lattice_testbed::program(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A command that dies with this process, whatever ends that.
pub(crate) fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
