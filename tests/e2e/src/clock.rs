//! A wall clock that a test sets, for one program: a small library in C, built here, that the program loads before
//! its own. Setting the machine's clock would set everybody's, and time namespaces leave the wall clock out.

use std::{fs, path::PathBuf, process::Command};

/// A wall clock, right at first.
#[derive(Debug)]
pub struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    /// Builds the library.
    ///
    /// # Panics
    /// Without a C compiler, which building the programs takes as well.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("clock.c");
        fs::write(&source, include_str!("clock.c")).expect("its source");
        let library = folder.path().join("clock.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        let built = command.output().expect("a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let clock = Self { folder };
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// It is so many seconds ahead of the machine's from now on, or behind.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn set(&self, ahead: i64) {
        // One write of one length, which nobody reads by halves.
        let text = format!("{ahead:<20}");
        if let Ok(file) = fs::OpenOptions::new().write(true).open(self.file()) {
            std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).expect("the clock");
        } else {
            fs::write(self.file(), text).expect("the clock");
        }
    }

    /// What a program's environment needs for it.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.folder.path().join("clock.so")), ("LATTICE_TEST_CLOCK", self.file())]
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
