//! `cp`: files between this computer and a container, which need not run and needs no program of
//! its own for it. What travels is a tar archive; the rules are those of `cp -r`: into a folder
//! that is there, else under the name that was given.
//!
//! An archive from a container is unpacked in a folder of its own beside the target and then put in
//! place: no entry of it reaches outside, whatever the container wrote into it.

use crate::{
    args::CpArgs,
    context::Context,
    error::CliError,
    resolve,
    terminal::{self, note},
};
use lattice_api::{AllocationView, CopyFiles, ExecStart, FilesStart};
use lattice_client::{ExecOutput, ExecSender};
use lattice_model::VolumeName;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::sync::mpsc;

/// Parts of an archive that wait to be sent or written.
pub(crate) const PARTS: usize = 8;
/// The size of a part.
pub(crate) const PART: usize = 48 << 10;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    Archive,
    Container { target: &'a str, path: &'a str },
}

/// `web:/etc/x` is in a container; what has a slash before the colon is a path here, also on Windows.
fn side(text: &str) -> Side<'_> {
    match text.split_once(":/") {
        _ if text == "-" => Side::Archive,
        Some((target, _)) if !target.is_empty() && !target.starts_with(['.', '/']) && target.len() > 1 => {
            Side::Container { target, path: &text[target.len() + 1..] }
        }
        _ => Side::Here(text),
    }
}

/// `lattice cp`.
pub(crate) async fn cp(ctx: &Context, args: CpArgs) -> anyhow::Result<ExitCode> {
    match (side(&args.from), side(&args.to)) {
        (Side::Container { target, path }, Side::Archive) => {
            let allocation = one(ctx, target).await?;
            let (parts, mut archive) = mpsc::channel(PARTS);
            let written = async {
                while let Some(part) = archive.recv().await {
                    let part: Vec<u8> = part;
                    terminal::data(&part)?;
                }
                anyhow::Ok(())
            };
            let (fetched, written) = tokio::join!(fetch(ctx, &allocation, Place::Path(path), parts), written);
            fetched.and(written)?;
        }
        (Side::Container { target, path }, Side::Here(to)) => {
            let allocation = one(ctx, target).await?;
            let to = PathBuf::from(to);
            let (parts, archive) = mpsc::channel(PARTS);
            let unpacked = tokio::task::spawn_blocking(move || unpack(Parts::new(archive), &to));
            let fetched = fetch(ctx, &allocation, Place::Path(path), parts).await;
            let unpacked = unpacked.await?;
            fetched?;
            note(&format!("{} is here", unpacked?.display()));
        }
        (from @ (Side::Archive | Side::Here(_)), Side::Container { target, path }) => {
            let allocation = one(ctx, target).await?;
            let (folder, name) = destination(ctx, &allocation, path, &from).await?;
            let (parts, archive) = mpsc::channel(PARTS);
            let packed = match from {
                Side::Here(from) => {
                    let from = PathBuf::from(from);
                    tokio::task::spawn_blocking(move || pack(&from, &name, Sink::new(parts)))
                }
                _ => tokio::task::spawn_blocking(move || {
                    io::copy(&mut io::stdin().lock(), &mut Sink::new(parts)).map(drop)
                }),
            };
            let sent = send(ctx, &allocation, Place::Path(&folder), archive).await;
            // What could not be read here is the cause where both failed.
            packed.await??;
            sent?;
            note(&format!("it is in {}:{folder}", resolve::allocation_name(&allocation)));
        }
        _ => {
            let text = "one side is in a container, as SERVICE:/PATH, and the other is here";
            return Err(CliError::Usage(text.into()).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The replica that is meant; the first where there are several.
async fn one(ctx: &Context, target: &str) -> anyhow::Result<AllocationView> {
    let found = ctx.targets(target).await?;
    if found.len() > 1 {
        note(&format!("1 of {} replicas: {}", found.len(), resolve::allocation_name(&found[0])));
    }
    found.into_iter().next().ok_or_else(|| {
        CliError::NotFound {
            what: "replica",
            name: target.to_owned(),
            hint: "`lattice ps -a` lists them".into(),
        }
        .into()
    })
}

/// What is copied into or out of an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A path in its container.
    Path(&'a str),
    /// A whole volume of it.
    Volume(&'a VolumeName),
}

impl Place<'_> {
    fn start(self, copy: CopyFiles) -> ExecStart {
        let (path, volume) = match self {
            Self::Path(path) => (path.to_owned(), None),
            Self::Volume(volume) => (String::new(), Some(volume.clone())),
        };
        ExecStart { files: Some(FilesStart { path, volume, copy }), ..ExecStart::default() }
    }

    fn is_not_there(self, allocation: &AllocationView) -> anyhow::Error {
        match self {
            Self::Path(path) => nothing_there(allocation, path),
            Self::Volume(volume) => CliError::NotFound {
                what: "volume",
                name: volume.to_string(),
                hint: "`lattice volume ls` shows what there is".into(),
            }
            .into(),
        }
    }
}

fn nothing_there(allocation: &AllocationView, path: &str) -> anyhow::Error {
    CliError::NotFound {
        what: "path",
        name: path.to_owned(),
        hint: format!("`lattice exec {} ls` shows what is there", resolve::allocation_name(allocation)),
    }
    .into()
}

/// Brings an archive here, part by part.
pub(crate) async fn fetch(
    ctx: &Context,
    allocation: &AllocationView,
    place: Place<'_>,
    parts: mpsc::Sender<Vec<u8>>,
) -> anyhow::Result<()> {
    let session = ctx.client.exec(&allocation.id.to_string(), &place.start(CopyFiles::Out)).await?;
    // Held to the end: dropping it would end the session.
    let (_sender, mut receiver) = session.split();
    loop {
        match receiver.next().await? {
            ExecOutput::Stdout(data) => {
                if parts.send(data.to_vec()).await.is_err() {
                    // Whoever unpacks it says why.
                    return Ok(());
                }
            }
            ExecOutput::Stderr(_) => {}
            ExecOutput::Exit(0) => return Ok(()),
            ExecOutput::Exit(_) => return Err(place.is_not_there(allocation)),
        }
    }
}

/// `folder` or `file`, or nothing.
async fn look(ctx: &Context, allocation: &AllocationView, path: &str) -> anyhow::Result<Option<String>> {
    let session =
        ctx.client.exec(&allocation.id.to_string(), &Place::Path(path).start(CopyFiles::Look)).await?;
    let (_sender, mut receiver) = session.split();
    let mut word = Vec::new();
    loop {
        match receiver.next().await? {
            ExecOutput::Stdout(data) => word.extend_from_slice(&data),
            ExecOutput::Stderr(_) => {}
            ExecOutput::Exit(0) => return Ok(Some(String::from_utf8_lossy(&word).into_owned())),
            ExecOutput::Exit(_) => return Ok(None),
        }
    }
}

/// The folder in the container to unpack in, and the name that it gets there.
async fn destination(
    ctx: &Context,
    allocation: &AllocationView,
    path: &str,
    from: &Side<'_>,
) -> anyhow::Result<(String, String)> {
    let there = look(ctx, allocation, path).await?;
    let Side::Here(from) = from else {
        // An archive has names of its own, so it needs a folder.
        return match there.as_deref() {
            Some("folder") => Ok((path.to_owned(), String::new())),
            _ => Err(nothing_there(allocation, path)),
        };
    };
    let from = fs::canonicalize(from).map_err(|error| CliError::Failed(format!("{from}: {error}")))?;
    let own = || from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if there.as_deref() == Some("folder") {
        return Ok((path.to_owned(), own()));
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some((parent, name)) if !name.is_empty() && !path.ends_with('/') => {
            let parent = if parent.is_empty() { "/" } else { parent };
            match look(ctx, allocation, parent).await?.as_deref() {
                Some("folder") => Ok((parent.to_owned(), name.to_owned())),
                _ => Err(nothing_there(allocation, parent)),
            }
        }
        _ => Err(nothing_there(allocation, path)),
    }
}

/// Sends an archive to be unpacked in a folder of a container.
pub(crate) async fn send(
    ctx: &Context,
    allocation: &AllocationView,
    place: Place<'_>,
    mut archive: mpsc::Receiver<Vec<u8>>,
) -> anyhow::Result<()> {
    let session = ctx.client.exec(&allocation.id.to_string(), &place.start(CopyFiles::In)).await?;
    let (mut sender, mut receiver) = session.split();
    let sending = async move {
        while let Some(part) = archive.recv().await {
            if sender.stdin(&part).await.is_err() {
                break;
            }
        }
        let _ = sender.close_stdin().await;
        // The receiving half tells how it ended.
        hold(sender).await
    };
    let told = async {
        loop {
            match receiver.next().await? {
                ExecOutput::Exit(0) => return Ok(()),
                ExecOutput::Exit(_) => return Err(place.is_not_there(allocation)),
                ExecOutput::Stdout(_) | ExecOutput::Stderr(_) => {}
            }
        }
    };
    tokio::select! {
        told = told => told,
        never = sending => match never {},
    }
}

async fn hold(_sender: ExecSender) -> std::convert::Infallible {
    std::future::pending().await
}

/// Writes an archive of `from`, under another name.
fn pack(from: &Path, name: &str, sink: Sink) -> io::Result<()> {
    let mut archive = tar::Builder::new(sink);
    archive.follow_symlinks(false);
    let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    if fs::metadata(from).map_err(about)?.is_dir() {
        archive.append_dir_all(name, from).map_err(about)?;
    } else {
        archive.append_file(name, &mut File::open(from).map_err(about)?).map_err(about)?;
    }
    archive.into_inner()?.finish()
}

/// Unpacks an archive with one entry at its top to `to`: into it where it is a folder.
fn unpack(archive: impl Read, to: &Path) -> anyhow::Result<PathBuf> {
    let failed = |path: &Path, error: io::Error| CliError::Failed(format!("{}: {error}", path.display()));
    let into = to.is_dir();
    let beside = if into {
        to.to_owned()
    } else {
        std::path::absolute(to)?.parent().map(Path::to_owned).unwrap_or_default()
    };
    let work = beside.join(format!(".lattice-cp-{:08x}", getrandom::u32().unwrap_or(0)));
    fs::create_dir(&work).map_err(|error| failed(&work, error))?;
    let done = (|| {
        let mut archive = tar::Archive::new(archive);
        archive.set_preserve_permissions(true);
        archive.unpack(&work).map_err(|error| failed(&work, error))?;
        let mut entries = fs::read_dir(&work).map_err(|error| failed(&work, error))?;
        let Some(entry) = entries.next() else {
            return Err(CliError::Failed("nothing came".into()));
        };
        let entry = entry.map_err(|error| failed(&work, error))?;
        let target = if into { to.join(entry.file_name()) } else { to.to_owned() };
        if target.is_dir() {
            return Err(CliError::Failed(format!(
                "{} is a folder that is there already; name another",
                target.display()
            )));
        }
        fs::rename(entry.path(), &target).map_err(|error| failed(&target, error))?;
        Ok(target)
    })();
    let _ = fs::remove_dir_all(&work);
    Ok(done?)
}

/// Sends what is written, in parts.
struct Sink {
    parts: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Sink {
    const fn new(parts: mpsc::Sender<Vec<u8>>) -> Self {
        Self { parts, buffer: Vec::new() }
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PART {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.buffer);
        self.parts.blocking_send(part).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Reads parts as one stream.
pub(crate) struct Parts {
    parts: mpsc::Receiver<Vec<u8>>,
    rest: io::Cursor<Vec<u8>>,
}

impl Parts {
    pub(crate) fn new(parts: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { parts, rest: io::Cursor::default() }
    }
}

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.rest.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.parts.blocking_recv() {
                Some(part) => self.rest = io::Cursor::new(part),
                None => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(side("shop/web#2:/etc/x"), Side::Container { target: "shop/web#2", path: "/etc/x" });
        assert_eq!(side("-"), Side::Archive);
        for here in ["/a/b:/c", "./web:/x", "file", "C:/Users", "web:relative"] {
            assert_eq!(side(here), Side::Here(here), "{here}");
        }
    }

    /// What was packed is unpacked under the name that was given, into a folder or beside it; and an
    /// entry that leads outside stays inside.
    #[tokio::test]
    async fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), vec![7; 200_000]).unwrap();
        fs::create_dir(&to).unwrap();
        let (parts, archive) = mpsc::channel(PARTS);
        let packed = tokio::task::spawn_blocking(move || pack(&from, "other", Sink::new(parts)));
        let into = to.clone();
        let target = tokio::task::spawn_blocking(move || unpack(Parts::new(archive), &into)).await.unwrap();
        packed.await.unwrap().unwrap();
        assert_eq!(target.unwrap(), to.join("other"));
        assert_eq!(fs::read(to.join("other/deep/file")).unwrap().len(), 200_000);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "nothing else is left");
    }
}
