//! What is named by its own content and kept outside the store: the archives of trees, and the layers
//! of uploaded images, which are kept compressed under the digest of what comes out of them.
//!
//! [`Blobs`] is the port, [`FolderBlobs`] its part on a file system: `<folder>/sha256/ab/cdef…`,
//! written under `<folder>/tmp` first, hashed on the way, synced, renamed. With several servers on
//! one store the folder is one that all of them share (`[blobs] path`). Rejected: archives in rows
//! (a store replicates every byte of its log, and a watch would carry them to every server).

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use lattice_image::{ImageError, MAX_LAYER};
use lattice_model::spec::TreeDigest;
use lattice_tree::{MAX_BYTES, Summary, TreeError};
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};
use tokio_util::io::ReaderStream;

/// How long an upload may bring nothing.
const IDLE: Duration = Duration::from_secs(30);
/// What is read at once, in bytes.
const PIECE: usize = 64 << 10;
/// An unfinished upload of this age is a dead server's.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Bytes as they come.
pub(crate) type Body = BoxStream<'static, io::Result<Bytes>>;

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It has another digest than it was given under.
    #[error("what was sent has the digest {0}, and not the one that it was sent under")]
    OtherDigest(TreeDigest),
    /// Too large, or holds what no tree may hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// No layer, or one that is too large unpacked.
    #[error(transparent)]
    Layer(#[from] ImageError),
    /// More bytes than there is room for.
    #[error("it has more than {0} bytes")]
    TooMuch(u64),
    /// The sender went away or fell silent.
    #[error("the archive did not arrive as a whole ({0})")]
    Broken(String),
    /// The server's disk.
    #[error("the server could not keep the archive")]
    Disk(#[source] io::Error),
}

/// A blob that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) digest: TreeDigest,
    pub(crate) written: SystemTime,
}

/// Where archives are kept.
#[async_trait]
pub(crate) trait Blobs: Send + Sync {
    /// How many bytes it has, if it is there.
    async fn size(&self, digest: TreeDigest) -> io::Result<Option<u64>>;

    /// Takes a blob in, once it is whole, has its digest and may be unpacked. `room` is how many
    /// bytes it may have at most; of a layer, unpacked.
    async fn put(&self, digest: TreeDigest, room: u64, body: Body) -> Result<Stored, NotTaken>;

    /// Its size, and its bytes from an offset on; `None` when it is not there.
    async fn read(&self, digest: TreeDigest, offset: u64) -> io::Result<Option<(u64, Body)>>;

    /// Everything that is there.
    async fn list(&self) -> io::Result<Vec<Found>>;

    /// Removes one; one that is not there is removed already.
    async fn remove(&self, digest: TreeDigest) -> io::Result<()>;
}

/// What was taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    /// On disk.
    pub(crate) bytes: u64,
    pub(crate) what: What,
}

/// What it turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A tree, with so much in it.
    Tree(Summary),
    /// A layer of so many bytes unpacked.
    Layer(u64),
}

/// What is kept in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Archives of trees, as they are.
    Trees,
    /// Layers, each a frame of zstd.
    Layers,
}

/// On a file system.
#[derive(Debug)]
pub(crate) struct FolderBlobs {
    folder: PathBuf,
    kind: Kind,
}

impl FolderBlobs {
    /// Opens or makes the folder, and removes what uploads of a dead server left.
    pub(crate) fn open(folder: PathBuf, kind: Kind) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let this = Self { folder, kind };
        for part in [&this.folder, &this.folder.join("sha256"), &this.temporary()] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(part)?;
        }
        for entry in std::fs::read_dir(this.temporary())? {
            let entry = entry?;
            let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            // Another server may be in the middle of one.
            if age.is_none_or(|age| age > ABANDONED) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(this)
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    fn path(&self, digest: TreeDigest) -> PathBuf {
        let name = digest.to_string();
        let (first, rest) = name.split_at(2);
        self.folder.join("sha256").join(first).join(rest)
    }

    /// How many bytes may come, where so many may be in it.
    fn most(&self, room: u64) -> u64 {
        match self.kind {
            Kind::Trees => room.min(MAX_BYTES),
            // What does not compress becomes a little larger.
            Kind::Layers => room.min(MAX_LAYER).saturating_add((room.min(MAX_LAYER) >> 7) + 1024),
        }
    }

    async fn receive(&self, path: &Path, room: u64, mut body: Body) -> Result<(TreeDigest, u64), NotTaken> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .await
            .map_err(NotTaken::Disk)?;
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        loop {
            let piece = match tokio::time::timeout(IDLE, body.next()).await {
                Err(_) => return Err(NotTaken::Broken("nothing came for 30 s".into())),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(NotTaken::Broken(error.to_string())),
                Ok(Some(Ok(piece))) => piece,
            };
            bytes += piece.len() as u64;
            if bytes > self.most(room) {
                return Err(NotTaken::TooMuch(self.most(room)));
            }
            if self.kind == Kind::Trees {
                hash.update(&piece);
            }
            file.write_all(&piece).await.map_err(NotTaken::Disk)?;
        }
        file.sync_all().await.map_err(NotTaken::Disk)?;
        Ok((TreeDigest::from_sha256(hash.finalize().into()), bytes))
    }

    async fn settle(
        &self,
        temporary: &Path,
        digest: TreeDigest,
        room: u64,
        body: Body,
    ) -> Result<Stored, NotTaken> {
        let (found, bytes) = self.receive(temporary, room, body).await?;
        if self.kind == Kind::Trees && found != digest {
            return Err(NotTaken::OtherDigest(found));
        }
        let (checked, kind) = (temporary.to_owned(), self.kind);
        let check = move || {
            let file = std::fs::File::open(checked).map_err(NotTaken::Disk)?;
            Ok::<_, NotTaken>(match kind {
                Kind::Trees => What::Tree(lattice_tree::check(io::BufReader::new(file))?),
                Kind::Layers => {
                    let (found, size) = lattice_image::check(file, room)?;
                    let found = TreeDigest::from_sha256(*found.as_bytes());
                    if found != digest {
                        return Err(NotTaken::OtherDigest(found));
                    }
                    What::Layer(size)
                }
            })
        };
        let what = tokio::task::spawn_blocking(check)
            .await
            .map_err(|error| NotTaken::Disk(io::Error::other(error)))??;
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.folder).to_owned();
        let moved = async {
            fs::create_dir_all(&folder).await?;
            fs::rename(temporary, &path).await?;
            // Without it the name may be lost in a power cut, though the bytes are safe.
            for folder in [folder.as_path(), &self.folder.join("sha256")] {
                fs::File::open(folder).await?.sync_all().await?;
            }
            Ok(())
        };
        moved.await.map_err(NotTaken::Disk)?;
        Ok(Stored { bytes, what })
    }
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn size(&self, digest: TreeDigest) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(digest)).await {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, digest: TreeDigest, room: u64, body: Body) -> Result<Stored, NotTaken> {
        let temporary = self.temporary().join(format!("{:032x}", crate::clock::random_bits()));
        // Removed also when the request is given up in the middle.
        let temporary = Temporary(temporary);
        self.settle(&temporary.0, digest, room, body).await
    }

    async fn read(&self, digest: TreeDigest, offset: u64) -> io::Result<Option<(u64, Body)>> {
        let mut file = match fs::File::open(self.path(digest)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata().await?.len();
        file.seek(SeekFrom::Start(offset.min(size))).await?;
        let rest = file.take(size - offset.min(size));
        Ok(Some((size, ReaderStream::with_capacity(rest, PIECE).boxed())))
    }

    async fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut folders = fs::read_dir(self.folder.join("sha256")).await?;
        while let Some(folder) = folders.next_entry().await? {
            let first = folder.file_name();
            let mut files = fs::read_dir(folder.path()).await?;
            while let Some(file) = files.next_entry().await? {
                let name = format!("{}{}", first.to_string_lossy(), file.file_name().to_string_lossy());
                if let Ok(digest) = name.parse() {
                    found.push(Found { digest, written: file.metadata().await?.modified()? });
                }
            }
        }
        Ok(found)
    }

    async fn remove(&self, digest: TreeDigest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes a file that was not moved to its place.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_tree::Packer;

    fn body(bytes: &[u8]) -> Body {
        let pieces: Vec<_> = bytes.chunks(700).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        futures::stream::iter(pieces).boxed()
    }

    async fn whole(mut body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    }

    #[tokio::test]
    async fn what_is_whole_and_fits_is_kept_and_nothing_else_leaves_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path().join("blobs"), Kind::Trees).unwrap();
        let mut packer = Packer::new();
        packer.file(Path::new("app.conf"), 0o644, (0, 0), &[7; 5000]).unwrap();
        let tree = packer.finish().unwrap();
        let len = tree.archive.len() as u64;
        let other = TreeDigest::of(b"other");
        let wrong = blobs.put(other, MAX_BYTES, body(&tree.archive)).await;
        assert!(matches!(wrong, Err(NotTaken::OtherDigest(found)) if found == tree.digest));
        let large = blobs.put(tree.digest, len - 1, body(&tree.archive)).await;
        assert!(matches!(large, Err(NotTaken::TooMuch(most)) if most == len - 1));
        let noise = b"no archive at all, whatever it is called".repeat(40);
        assert!(matches!(
            blobs.put(TreeDigest::of(&noise), MAX_BYTES, body(&noise)).await,
            Err(NotTaken::Tree(_))
        ));
        let cut =
            futures::stream::iter([Ok(Bytes::from_static(b"x")), Err(io::ErrorKind::ConnectionReset.into())]);
        assert!(matches!(blobs.put(tree.digest, MAX_BYTES, cut.boxed()).await, Err(NotTaken::Broken(_))));
        assert_eq!(std::fs::read_dir(blobs.temporary()).unwrap().count(), 0);
        assert_eq!((blobs.list().await.unwrap(), blobs.size(tree.digest).await.unwrap()), (vec![], None));
        for _ in 0..2 {
            let stored = blobs.put(tree.digest, MAX_BYTES, body(&tree.archive)).await.unwrap();
            assert!(
                matches!(stored, Stored { bytes, what: What::Tree(summary) } if bytes == len && summary.entries == 1)
            );
        }
        assert_eq!(blobs.size(tree.digest).await.unwrap(), Some(len));
        let (size, rest) = blobs.read(tree.digest, 512).await.unwrap().unwrap();
        assert_eq!((size, whole(rest).await), (len, tree.archive[512..].to_vec()));
        assert!(whole(blobs.read(tree.digest, len + 9).await.unwrap().unwrap().1).await.is_empty());
        let found = blobs.list().await.unwrap();
        assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), [tree.digest]);
        blobs.remove(tree.digest).await.unwrap();
        blobs.remove(tree.digest).await.unwrap();
        assert!(blobs.read(tree.digest, 0).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_layer_is_kept_as_it_comes_and_named_by_what_comes_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path().join("layers"), Kind::Layers).unwrap();
        let layer = b"a layer, more or less".repeat(1000);
        let (size, digest) = (layer.len() as u64, TreeDigest::of(&layer));
        let mut frame = Vec::new();
        lattice_image::compress(&*layer, size, &mut frame).unwrap();
        let wrong = blobs.put(TreeDigest::of(&frame), MAX_LAYER, body(&frame)).await;
        assert!(matches!(wrong, Err(NotTaken::OtherDigest(found)) if found == digest));
        let bomb = blobs.put(digest, size - 1, body(&frame)).await;
        assert!(matches!(bomb, Err(NotTaken::Layer(ImageError::TooLarge { .. }))), "{bomb:?}");
        assert!(matches!(blobs.put(digest, MAX_LAYER, body(&layer)).await, Err(NotTaken::Layer(_))));
        assert_eq!(blobs.list().await.unwrap(), vec![]);
        let stored = blobs.put(digest, MAX_LAYER, body(&frame)).await.unwrap();
        assert!(
            matches!(stored, Stored { bytes, what: What::Layer(n) } if bytes == frame.len() as u64 && n == size)
        );
        assert_eq!(whole(blobs.read(digest, 0).await.unwrap().unwrap().1).await, frame);
    }
}
