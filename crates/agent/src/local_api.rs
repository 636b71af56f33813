//! What programs of this user on this machine may ask: a Unix socket of mode 0600 in the agent's
//! folder. One line of JSON in, one out. The folder is private and so is the socket, which is
//! the whole authorisation: who may connect is this user or root.

use crate::{
    certificate::Validity,
    disk::Disk,
    engine::EngineStatus,
    event::Event,
    health::Health,
    home::{HomePaths, Identity},
    session::LinkStatus,
};
use lattice_model::{AllocationId, ClusterId, NodeId, Timestamp, WorkloadKey, report::AllocationStatus};
use serde::{Deserialize, Serialize};
use std::{io, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tracing::{debug, error};

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_CALLERS: usize = 8;
const MAX_REQUEST: u64 = 4096;

#[derive(Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Status {},
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Status(Box<AgentStatus>),
    Error { code: String, message: String },
}

/// What an agent says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The name that it asked for.
    pub name: Option<String>,
    /// Where the servers are.
    pub servers: Vec<String>,
    /// The link.
    pub link: LinkStatus,
    /// The engine.
    pub engine: EngineStatus,
    /// The machine.
    #[serde(default)]
    pub health: Health,
    /// The goal that it works towards, as `incarnation.revision`.
    pub goal: Option<String>,
    /// What should be here, and how it is.
    pub allocations: Vec<AllocationLine>,
    /// Reports that wait for the server.
    pub outbox: usize,
    /// The end of the certificate; it is renewed long before.
    pub certificate_until: Option<Timestamp>,
}

/// One allocation of [`AgentStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AllocationLine {
    /// Which.
    pub id: AllocationId,
    /// Of what; absent when it is on its way out.
    pub workload: Option<WorkloadKey>,
    /// How it is.
    pub status: AllocationStatus,
}

/// Everything that an answer needs.
pub(crate) struct Desk {
    pub(crate) identity: Identity,
    pub(crate) paths: HomePaths,
    pub(crate) disk: Arc<Disk>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) engine: watch::Receiver<EngineStatus>,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) certificate: watch::Receiver<Option<Validity>>,
}

/// Removes the socket when the agent ends.
struct Socket(std::path::PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Serves until dropped. An agent without its local API still does its work.
pub(crate) async fn serve(desk: Desk) {
    let path = desk.paths.socket();
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            return error!(path = %path.display(), %error, "the local API cannot be offered; `lattice-agent status` will not work (a socket's path may have 107 characters)");
        }
    };
    let _socket = Socket(path);
    let (desk, callers) = (Arc::new(desk), Arc::new(Semaphore::new(MAX_CALLERS)));
    loop {
        let Ok(permit) = Arc::clone(&callers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    match timeout(PATIENCE, answer(&desk, stream)).await {
                        Ok(Ok(())) => {}
                        other => debug!(?other, "a local caller went away"),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                debug!(%error, "a local caller could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn listen(path: &std::path::Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder is 0700, so nobody gets in between these two.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(desk: &Desk, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line).await?;
    let reply = match serde_json::from_str(&line) {
        Ok(Request::Status {}) => Reply::Status(Box::new(status(desk).await)),
        Err(error) => Reply::Error { code: "malformed".into(), message: error.to_string() },
    };
    let mut bytes = serde_json::to_vec(&reply).unwrap_or_default();
    bytes.push(b'\n');
    write.write_all(&bytes).await
}

async fn status(desk: &Desk) -> AgentStatus {
    let (answer, snapshot) = oneshot::channel();
    let _ = desk.events.send(Event::Snapshot(answer)).await;
    let snapshot = snapshot.await.unwrap_or_default();
    let line = |(id, status): (&AllocationId, &AllocationStatus)| AllocationLine {
        id: *id,
        workload: snapshot.workloads.get(id).cloned(),
        status: status.clone(),
    };
    AgentStatus {
        version: crate::VERSION.to_owned(),
        pid: std::process::id(),
        node: desk.identity.node,
        cluster: desk.identity.cluster,
        name: desk.identity.name.as_ref().map(ToString::to_string),
        servers: desk.identity.servers.iter().map(ToString::to_string).collect(),
        link: desk.link.borrow().clone(),
        engine: desk.engine.borrow().clone(),
        health: desk.health.borrow().clone(),
        goal: snapshot.goal.map(|(id, _)| id.to_string()),
        allocations: snapshot.statuses.iter().map(line).collect(),
        outbox: desk.disk.waiting(),
        certificate_until: desk.certificate.borrow().map(|validity| validity.not_after),
    }
}

/// Asks the agent of this home; `None` when none runs.
///
/// # Errors
/// When one runs and does not answer.
pub async fn ask_status(paths: &HomePaths) -> io::Result<Option<AgentStatus>> {
    let stream = match UnixStream::connect(paths.socket()).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let ask = async {
        let (read, mut write) = stream.into_split();
        write.write_all(b"{\"request\":\"status\"}\n").await?;
        let mut line = String::new();
        BufReader::new(read).read_line(&mut line).await?;
        match serde_json::from_str(&line) {
            Ok(Reply::Status(status)) => Ok(Some(*status)),
            Ok(Reply::Error { message, .. }) => Err(io::Error::other(message)),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
