//! A Unix socket of mode 0600 in the agent's folder. The folder is private and so is the socket, and the kernel says
//! who has connected.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// One caller.
pub(crate) type Stream = UnixStream;

/// Where callers come in. Removes the socket when it ends.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Opens the door at this path; what an agent that was killed left there is replaced.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folder is 0700, so nobody gets in between these two.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// The next caller.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The caller's user, where that is neither this one nor root.
pub(crate) fn stranger(stream: &Stream) -> io::Result<Option<u32>> {
    let caller = stream.peer_cred()?.uid();
    Ok((caller != 0 && caller != rustix::process::geteuid().as_raw()).then_some(caller))
}

/// Comes in at this door; `None` where no agent has it open.
pub(crate) async fn connect(path: &Path) -> io::Result<Option<Stream>> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        // Reset: it ended while the connection waited to be taken.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
