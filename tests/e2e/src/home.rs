//! A folder for state, with a path short enough for Unix sockets, on its own small disk where a test wants one.

use lattice_testbed::rooted;
use std::path::{Path, PathBuf};

/// A folder that goes with the test. `LATTICE_E2E_KEEP=1` keeps it.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    mounted: bool,
}

impl Home {
    /// A fresh one below `/tmp`, whatever `TMPDIR` says: a socket's path has at most 107 bytes.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("le-")
            .rand_bytes(6)
            .tempdir_in("/tmp")
            .expect("a folder in /tmp");
        Self { path: folder.keep(), mounted: false }
    }

    /// One on a disk in memory with room for `mebibytes`.
    ///
    /// # Panics
    /// When it cannot be mounted, which takes root or sudo without a question.
    pub fn on_small_disk(mebibytes: u32) -> Self {
        let mut home = Self::new();
        let options = format!("size={mebibytes}m,mode=0777");
        let status =
            rooted("mount").args(["-t", "tmpfs", "-o", &options, "lattice-e2e"]).arg(&home.path).status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "a small disk cannot be mounted ({status:?}); this test needs root, or sudo that asks no password"
        );
        home.mounted = true;
        home
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::env::var_os("LATTICE_E2E_KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
            return;
        }
        if self.mounted {
            let _ = rooted("umount").arg("--lazy").arg(&self.path).status();
        }
        if std::fs::remove_dir_all(&self.path).is_err() {
            // A private engine leaves files of root.
            let _ = rooted("rm").args(["-rf", "--one-file-system"]).arg(&self.path).status();
        }
    }
}
