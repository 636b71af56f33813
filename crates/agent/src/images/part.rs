//! A part of an image that is read while it comes: the engine takes in what is there, and waits for
//! the rest. The file stays where the link breaks, and is gone on with.

use parking_lot::{Condvar, Mutex};
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

#[derive(Debug, Default)]
struct State {
    here: u64,
    /// Whether all of it is there, once that is known.
    ended: Option<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The end that fetches. Dropped without [`Coming::whole`], whoever reads gets an error.
#[derive(Debug)]
pub(super) struct Coming(Arc<Shared>);

/// The end that reads, from the beginning.
#[derive(Debug)]
pub(super) struct Growing {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Option<File>,
    at: u64,
}

/// Both ends of what comes into the file at `path`.
pub(super) fn part(path: PathBuf) -> (Coming, Growing) {
    let shared = Arc::new(Shared::default());
    (Coming(Arc::clone(&shared)), Growing { shared, path, file: None, at: 0 })
}

impl Coming {
    /// So many bytes are in the file.
    pub(super) fn here(&self, bytes: u64) {
        self.0.state.lock().here = bytes;
        self.0.changed.notify_all();
    }

    /// All of it is there.
    pub(super) fn whole(self) {
        self.0.state.lock().ended = Some(true);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.state.lock().ended.get_or_insert(false);
        self.0.changed.notify_all();
    }
}

impl Read for Growing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = {
            let mut state = self.shared.state.lock();
            loop {
                if state.here > self.at {
                    break state.here - self.at;
                }
                match state.ended {
                    Some(true) => return Ok(0),
                    Some(false) => return Err(io::Error::other("it did not arrive as a whole")),
                    None => self.shared.changed.wait(&mut state),
                }
            }
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        let room = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
        let read = file.read(&mut into[..room])?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn what_comes_is_read_as_it_comes_and_what_breaks_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let (coming, mut growing) = part(path.clone());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"abc").unwrap();
        coming.here(2);
        let mut two = [0; 8];
        assert_eq!((growing.read(&mut two).unwrap(), &two[..2]), (2, &b"ab"[..]));
        let reader = std::thread::spawn(move || {
            let mut rest = String::new();
            growing.read_to_string(&mut rest).map(|_| rest)
        });
        file.write_all(b"def").unwrap();
        coming.here(6);
        coming.whole();
        assert_eq!(reader.join().unwrap().unwrap(), "cdef");
        let (coming, mut growing) = part(path);
        let reader = std::thread::spawn(move || growing.read(&mut [0; 8]).is_err());
        drop(coming);
        assert!(reader.join().unwrap());
    }
}
