//! What is in a tar archive of a volume, so that two can be compared: how much of what, and a
//! digest of everything that counts of each entry, read as it streams by.
//!
//! The digests of entries are added up, so their order does not matter and nothing has to be kept;
//! beyond that the digest of each of the first entries is kept, to name what is different.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Read},
};

/// Of so many entries each one is remembered.
const REMEMBERED: usize = 200_000;
/// What extended attributes are called in archives.
const XATTR: &str = "SCHILY.xattr.";
/// What is read at a time.
const BUFFER: usize = 128 << 10;

/// What is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Entries of every kind.
    pub(crate) entries: u64,
    /// Regular files, names of one file counted once.
    pub(crate) files: u64,
    /// The bytes in them.
    pub(crate) bytes: u64,
    sum: Sum,
    known: BTreeMap<Vec<u8>, [u8; 16]>,
}

/// Digests added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, digest: &[u8; 32]) {
        let mut carry = 0u128;
        for (limb, bytes) in self.0.iter_mut().zip(digest.chunks_exact(8)) {
            let more = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let total = u128::from(*limb) + u128::from(more) + carry;
            *limb = total as u64;
            carry = total >> 64;
        }
    }
}

impl Manifest {
    /// Reads an archive to its end.
    ///
    /// # Errors
    /// Where it breaks off, or is none.
    pub(crate) fn read(archive: impl Read) -> io::Result<Self> {
        let mut manifest = Self::default();
        let mut archive = tar::Archive::new(archive);
        let mut buffer = vec![0; BUFFER];
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path_bytes().into_owned();
            let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
            let mut hash = Sha256::new();
            let mut field = |bytes: &[u8]| {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            };
            field(&path);
            field(&link);
            let mut attributes = BTreeMap::new();
            if let Some(extensions) = entry.pax_extensions()? {
                for extension in extensions {
                    let extension = extension?;
                    let key = extension.key_bytes();
                    // Ids that the plain header has no room for stand here, too.
                    if key.starts_with(XATTR.as_bytes()) || matches!(key, b"uid" | b"gid") {
                        attributes.insert(extension.key_bytes().to_vec(), extension.value_bytes().to_vec());
                    }
                }
            }
            for (key, value) in &attributes {
                field(key);
                field(value);
            }
            let header = entry.header();
            let kind = header.entry_type();
            let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
            let (mode, mtime) = (header.mode()?, header.mtime()?);
            for number in [
                u64::from(kind.as_byte()),
                // The kind once more is in some archives' modes and not in others'.
                u64::from(mode & 0o7777),
                header.uid()?,
                header.gid()?,
                mtime,
                entry.size(),
                device.0.unwrap_or(0).into(),
                device.1.unwrap_or(0).into(),
            ] {
                field(&number.to_le_bytes());
            }
            let mut content = Sha256::new();
            loop {
                let read = entry.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                content.update(&buffer[..read]);
                manifest.bytes += read as u64;
            }
            hash.update(content.finalize());
            let digest: [u8; 32] = hash.finalize().into();
            manifest.sum.add(&digest);
            manifest.entries += 1;
            manifest.files += u64::from(kind.is_file());
            if manifest.known.len() < REMEMBERED {
                let short = digest[..16].try_into().unwrap_or_default();
                manifest.known.insert(path, short);
            }
        }
        Ok(manifest)
    }

    /// What is different in another one that should be the same, in words; nothing where nothing is.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let Self { entries, files, bytes, sum, known } = self;
        if (*entries, *files, *bytes, *sum) == (other.entries, other.files, other.bytes, other.sum) {
            return None;
        }
        let counts =
            format!("{} entries with {} bytes came in of {entries} with {bytes}", other.entries, other.bytes);
        let different = known.iter().find(|(path, digest)| other.known.get(*path) != Some(*digest));
        let more = other.known.keys().find(|path| !known.contains_key(*path));
        let first = different.map(|(path, _)| path).or(more);
        Some(match first {
            Some(path) => format!("{counts}; the first that differs is {:?}", String::from_utf8_lossy(path)),
            None => counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct Entry {
        name: String,
        mode: u32,
        uid: u64,
        mtime: u64,
        content: Vec<u8>,
    }

    fn archive(entries: &[Entry]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for Entry { name, mode, uid, mtime, content } in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_uid(*uid);
            header.set_gid(0);
            header.set_mtime(*mtime);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (0u32..0o10000, any::<u32>(), 0u64..1 << 33, prop::collection::vec(any::<u8>(), 0..2000));
        prop::collection::vec(entry, 1..8).prop_map(|all| {
            let named = all.into_iter().enumerate();
            named
                .map(|(n, (mode, uid, mtime, content))| {
                    let name = format!("volume/{}{n}", "long name/".repeat(n * 4));
                    Entry { name, mode, uid: uid.into(), mtime, content }
                })
                .collect()
        })
    }

    proptest! {
        /// The same in any order is the same; whatever is changed, of whichever entry, is seen and named.
        #[test]
        fn every_difference_is_seen(entries in entries(), which in any::<prop::sample::Index>(), what in 0..5) {
            let whole = Manifest::read(archive(&entries).as_slice()).unwrap();
            prop_assert_eq!(whole.entries, entries.len() as u64);
            let mut other = entries.clone();
            other.reverse();
            prop_assert_eq!(whole.difference(&Manifest::read(archive(&other).as_slice()).unwrap()), None);
            let mut other = entries.clone();
            let index = which.index(other.len());
            let entry = &mut other[index];
            let name = entry.name.clone();
            match what {
                0 => entry.mode ^= 1,
                1 => entry.uid += 1,
                2 => entry.mtime += 1,
                3 => entry.content.push(0),
                _ => drop(other.remove(index)),
            }
            let told = whole.difference(&Manifest::read(archive(&other).as_slice()).unwrap()).unwrap();
            prop_assert!(told.contains(&name), "{told}");
        }

        /// An archive that breaks off inside of an entry is none.
        #[test]
        fn what_breaks_off_is_an_error(entries in entries(), cut in any::<prop::sample::Index>()) {
            let bytes = archive(&entries);
            let last = entries.last().unwrap();
            // Inside of the last entry's content, where it has any.
            let end = bytes.len() - 1024 - (512 - last.content.len() % 512) % 512;
            prop_assume!(!last.content.is_empty());
            let at = end - 1 - cut.index(last.content.len());
            prop_assert!(Manifest::read(&bytes[..at]).is_err());
        }
    }
}
