//! A named pipe. Its name is drawn at each start and kept in a file of the agent's folder, which the user's profile
//! keeps from other users: so nobody can have taken the name before, and nobody finds it who may not read the folder.
//!
//! Nobody else gets in: the pipe's access list is the system's own for new pipes (this user, administrators and the
//! system may write; others may at most read, and who cannot write cannot ask), it is not reachable over the network,
//! and the first instance has to be the first of that name. The next instance is made before the one before is
//! served, so that the door is never gone. A caller lets the agent see who it is, and not act in its name (tokio's
//! default quality of service for pipes).
//!
//! Rejected: a name made of the user's, which another user could take first and answer in the agent's place; an access list
//! of our own, which needs unsafe code and would take away no more than reading.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions},
    time::sleep,
};

/// Winerror.h: all instances have a caller; the next is being made.
const ERROR_PIPE_BUSY: i32 = 231;
/// Between two tries at a busy door, and how many.
const BUSY: Duration = Duration::from_millis(20);
const TRIES: u32 = 100;

/// One caller.
pub(crate) type Stream = NamedPipeServer;

/// Where callers come in. Removes the file with its name when it ends.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Nobody is in it yet.
    next: NamedPipeServer,
    name: String,
    path: PathBuf,
}

impl Listener {
    /// Opens the door whose name is to be found at this path; what an agent that was killed left there is replaced.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).map_err(io::Error::other)?;
        let name = format!(r"\\.\pipe\lattice-agent-{}", hex::encode(drawn));
        let next = options().first_pipe_instance(true).create(&name)?;
        // Renamed when whole: nobody reads half a name.
        let new = path.with_extension("new");
        fs::write(&new, &name)?;
        fs::rename(&new, path)?;
        Ok(Self { next, name, path: path.to_owned() })
    }

    /// The next caller.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        if let Err(error) = self.next.connect().await {
            // One that came and went: the instance is made ready for the next.
            let _ = self.next.disconnect();
            return Err(error);
        }
        // Where none can be made, the caller keeps waiting in this one, and is found there at the next try.
        let fresh = options().create(&self.name)?;
        Ok(mem::replace(&mut self.next, fresh))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.reject_remote_clients(true);
    options
}

/// Nobody: the system has asked them at the door.
pub(crate) fn stranger(_stream: &Stream) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Comes in at the door whose name is at this path; `None` where no agent has it open.
pub(crate) async fn connect(path: &Path) -> io::Result<Option<NamedPipeClient>> {
    let name = match fs::read_to_string(path) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut tries = 0;
    loop {
        match ClientOptions::new().open(&name) {
            Ok(stream) => return Ok(Some(stream)),
            // The agent was killed, and could not remove the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tries < TRIES => {
                tries += 1;
                sleep(BUSY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    async fn ask(path: PathBuf, line: String) -> io::Result<String> {
        let stream = connect(&path).await?.ok_or(io::ErrorKind::NotFound)?;
        let (read, mut write) = tokio::io::split(stream);
        write.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(read).read_line(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn many_callers_get_their_answers_and_the_door_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        assert!(connect(&path).await.unwrap().is_none(), "there is no agent");
        let mut listener = Listener::open(&path).unwrap();
        let callers: Vec<_> =
            (0..20).map(|n| tokio::spawn(ask(path.clone(), format!("caller {n}\n")))).collect();
        for _ in 0..20 {
            let stream = listener.accept().await.unwrap();
            assert_eq!(stranger(&stream).unwrap(), None);
            tokio::spawn(async move {
                let (read, mut write) = tokio::io::split(stream);
                let mut line = String::new();
                BufReader::new(read).read_line(&mut line).await.unwrap();
                write.write_all(format!("hello {line}").as_bytes()).await.unwrap();
            });
        }
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap().unwrap(), format!("hello caller {n}\n"));
        }
        // One that goes at once does not close it for the others.
        drop(connect(&path).await.unwrap().unwrap());
        let _ = listener.accept().await;
        let (answer, served) = tokio::join!(ask(path.clone(), "again\n".into()), async {
            let stream = loop {
                if let Ok(stream) = listener.accept().await {
                    break stream;
                }
            };
            let (read, mut write) = tokio::io::split(stream);
            let mut line = String::new();
            BufReader::new(read).read_line(&mut line).await?;
            write.write_all(line.as_bytes()).await
        });
        served.unwrap();
        assert_eq!(answer.unwrap(), "again\n");
        drop(listener);
        assert!(connect(&path).await.unwrap().is_none(), "the agent has ended");
    }

    #[tokio::test]
    async fn a_name_that_a_killed_agent_left_leads_nowhere_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        fs::write(&path, r"\\.\pipe\lattice-agent-gone").unwrap();
        assert!(connect(&path).await.unwrap().is_none());
        let _listener = Listener::open(&path).unwrap();
        assert!(connect(&path).await.unwrap().is_some());
    }
}
