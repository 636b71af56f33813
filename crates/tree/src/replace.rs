//! Archives that are looked into and passed on without being unpacked.

use crate::{
    check::{MAX_BYTES, What, walk},
    error::{Result, TreeError},
};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// The contents of a file of an archive, which is judged whole as by [`check`](crate::check); nothing where there is
/// no such file.
///
/// # Errors
/// [`TreeError`] where the archive is none, or the file has more than `max` bytes.
pub fn read_file(archive: impl Read, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    walk(archive, |entry, contents| {
        if entry.path == path && entry.what == What::File {
            let mut bytes = Vec::new();
            contents.take(max + 1).read_to_end(&mut bytes).map_err(TreeError::Unreadable)?;
            if bytes.len() as u64 > max {
                return Err(TreeError::refused(path, "it is too large for what it is"));
            }
            found = Some(bytes);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Writes an archive anew, with other contents of these files and with those that it does not have. What it holds is
/// judged on the way; so whoever reads the result takes it for good only when this has returned.
///
/// # Errors
/// [`TreeError`] where the archive is none, or nobody takes what is written.
pub fn with_files(archive: impl Read, files: &BTreeMap<PathBuf, Vec<u8>>, sink: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(sink);
    let sink_failed = TreeError::Unreadable;
    walk(archive, |entry, contents| {
        if files.contains_key(&entry.path) {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(0);
        header.set_size(0);
        let path: &Path = if entry.path.as_os_str().is_empty() { Path::new(".") } else { &entry.path };
        match &entry.what {
            What::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, std::io::empty()).map_err(sink_failed)
            }
            What::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).map_err(sink_failed)
            }
            What::File => {
                header.set_entry_type(tar::EntryType::Regular);
                let mut bytes = Vec::new();
                contents.take(MAX_BYTES).read_to_end(&mut bytes).map_err(TreeError::Unreadable)?;
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, &*bytes).map_err(sink_failed)
            }
        }
    })?;
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        builder.append_data(&mut header, path, &**contents).map_err(sink_failed)?;
    }
    builder.into_inner().and_then(|mut sink| sink.flush()).map_err(sink_failed)
}
