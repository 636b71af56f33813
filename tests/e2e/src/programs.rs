//! Where the programs under test are.

use std::{path::PathBuf, process::Command, sync::LazyLock};

/// The repository's folder.
pub fn root() -> PathBuf {
    // tests/e2e, two below it.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(folder) = std::env::var_os("LATTICE_BIN_DIR").filter(|folder| !folder.is_empty()) {
        return folder.into();
    }
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata tells the target folder; or set LATTICE_BIN_DIR");
    metadata.target_directory.join("debug").into_std_path_buf()
});

/// A program under test: `LATTICE_BIN_DIR`, else the debug build.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let path = FOLDER.join(name);
    assert!(
        path.is_file(),
        "{} is not built; `make test` builds it, or: cargo build -p lattice -p lattice-agent",
        path.display()
    );
    path
}

/// A command that dies with this process, whatever ends that.
pub(crate) fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A command as root: by sudo, without a question, where this is an ordinary user.
pub(crate) fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", "--", program]);
    command
}
