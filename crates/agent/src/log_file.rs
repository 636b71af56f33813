//! The agent's log file: bounded, however long the agent runs.
//!
//! Standard error *is* the file, so that what is written there by others (a panic, a library) is found in it too;
//! when it is full it is put aside as `agent.log.1`, the one before as `agent.log.2`, and a new one takes its place.
//! Rejected: tracing-appender, which rolls by time and so has no bound; a pipe to whoever started the agent, which may
//! be gone while the agent goes on.

use rustix::stdio::dup2_stderr;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// How large the file becomes before it is put aside, in bytes.
const MOST: u64 = 8 << 20;
/// How many of those put aside are kept.
const KEPT: u32 = 3;

/// A log file that takes the place of standard error.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    most: u64,
    stderr: bool,
}

impl LogFile {
    /// Opens or makes it (mode 0600), and lets standard error be it from now on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let log = Self::at(path, MOST, true)?;
        dup2_stderr(&log.file)?;
        Ok(log)
    }

    fn at(path: &Path, most: u64, stderr: bool) -> io::Result<Self> {
        let file = appending(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, most, stderr })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        for n in (1..KEPT).rev() {
            match fs::rename(self.aside(n), self.aside(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.aside(1))?;
        let file = appending(&self.path)?;
        if self.stderr {
            dup2_stderr(&file)?;
        }
        self.file = file;
        Ok(())
    }

    fn aside(&self, n: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{n}"));
        name.into()
    }
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for LogFile {
    /// Writes a whole line, as the subscriber gives it: none is torn by the change of files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written + line.len() as u64 > self.most {
            // Where that cannot be done it goes on in the old one, and is tried again as late.
            let _ = self.put_aside();
            self.written = 0;
        }
        self.file.write_all(line)?;
        self.written += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_the_last_lines_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let line = |n: usize| format!("line {n:04}\n");
        let mut log = LogFile::at(&path, 100, false).unwrap();
        for n in 0..500 {
            log.write_all(line(n).as_bytes()).unwrap();
            // As after a restart: what is there counts.
            if n % 70 == 0 {
                log = LogFile::at(&path, 100, false).unwrap();
            }
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["agent.log", "agent.log.1", "agent.log.2", "agent.log.3"]);
        let text = |name: &&String| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(names.iter().all(|name| text(&name).len() <= 100));
        let all: String = names.iter().rev().map(|name| text(&name)).collect();
        let first = 500 - all.lines().count();
        assert!(first < 470, "{all}");
        assert_eq!(all, (first..500).map(line).collect::<String>(), "no line is lost or torn");
    }

    #[test]
    fn one_that_cannot_be_put_aside_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        // Nothing can be renamed onto a folder that is not empty.
        for n in 1..=KEPT {
            fs::create_dir_all(folder.path().join(format!("agent.log.{n}/x"))).unwrap();
        }
        let mut log = LogFile::at(&path, 20, false).unwrap();
        for _ in 0..10 {
            log.write_all(b"0123456789\n").unwrap();
        }
        assert_eq!(fs::read(&path).unwrap().len(), 110);
    }
}
