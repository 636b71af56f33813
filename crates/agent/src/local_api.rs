//! What programs of the owner on this machine may ask: one line of JSON in, one out, at the agent's
//! [`door`](crate::door), through which only this user comes, or root.
//!
//! Rejected: HTTP, which is a server's worth of code for ten questions; a browser that is tricked
//! into asking can speak neither to a Unix socket nor to a named pipe either way.

use crate::{
    certificate::Validity,
    disk::Disk,
    door::{self, Listener, Stream},
    engine::EngineStatus,
    error::{Result, chain},
    event::Event,
    health::Health,
    home::{HomePaths, Identity},
    lan::LanStatus,
    log::LogRing,
    owner::{Order, OwnerStatus, RulesFile, rules_of},
    rank::OwnRank,
    reset::{Survey, survey},
    session::LinkStatus,
};
use lattice_model::{AllocationId, ClusterId, NodeId, Timestamp, WorkloadKey, report::AllocationStatus};
use lattice_rules::{PauseKind, Rules};
use lattice_runtime::Runtime;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take that waits for the network.
const LONG_PATIENCE: Duration = Duration::from_secs(90);
const MAX_CALLERS: usize = 8;
/// Of them, who may wait for the network: the pause button always finds a place.
const MAX_SLOW: usize = 2;
const MAX_REQUEST: u64 = 96 << 10;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What it does: [`Reply::Status`].
    Status {},
    /// Stop at once, for good or for so many milliseconds: [`Reply::Owner`].
    Pause {
        /// How long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        span_ms: Option<u64>,
    },
    /// Take nothing new, let jobs end, then stop: [`Reply::Owner`].
    Finish {
        /// How long from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        span_ms: Option<u64>,
    },
    /// End the pause: [`Reply::Owner`].
    Resume {},
    /// The owner's rules: [`Reply::Rules`].
    Rules {},
    /// Other rules, as the text of `rules.toml`: [`Reply::Owner`], or why they are refused.
    SetRules {
        /// The text.
        text: String,
    },
    /// Forget the cluster, and end: [`Reply::Leaving`].
    Leave {
        /// Containers and networks go too; volumes stay.
        #[serde(default)]
        remove: bool,
    },
    /// End, and leave everything as it is: [`Reply::Leaving`].
    End {},
    /// Whether this machine is fit: [`Reply::Doctor`].
    Doctor {},
    /// The last lines of its log: [`Reply::Logs`].
    Logs {
        /// How many.
        lines: usize,
    },
    /// What `lattice-agent reset` would remove: [`Reply::Preview`].
    ResetPreview {},
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What it does.
    Status(Box<AgentStatus>),
    /// What the owner's rules make of the machine, now that the order is obeyed.
    Owner(Box<OwnerStatus>),
    /// The rules.
    Rules {
        /// The file's text.
        text: String,
        /// What it says; absent where it is not understood.
        rules: Box<Option<Rules>>,
        /// Why it is not.
        problem: Option<String>,
    },
    /// It ends; asked to leave, it forgets its cluster.
    Leaving {},
    /// The checks, as [`crate::doctor()`] makes them.
    Doctor(serde_json::Value),
    /// Lines, the oldest first.
    Logs(Vec<String>),
    /// What would be removed.
    Preview(Box<Survey>),
    /// It was not done.
    Error {
        /// For programs.
        code: String,
        /// What is wrong, and what to do.
        message: String,
    },
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
    /// What the owner's rules make of this machine now.
    pub owner: OwnerStatus,
    /// Whether containers reach the owner's network.
    #[serde(default)]
    pub lan: LanStatus,
    /// How it stands among the others; absent until the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<OwnRank>,
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
    pub(crate) owner: watch::Receiver<OwnerStatus>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) lan: watch::Receiver<LanStatus>,
    pub(crate) log: LogRing,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) leave: watch::Sender<Option<bool>>,
    pub(crate) stop: CancellationToken,
}

/// Serves until dropped. An agent without its local API still does its work.
pub(crate) async fn serve(desk: Desk) {
    let path = desk.paths.socket();
    let mut listener = match Listener::open(&path) {
        Ok(listener) => listener,
        Err(error) => {
            return error!(path = %path.display(), %error, "the local API cannot be offered; `lattice-agent status` will not work (a socket's path may have 107 characters)");
        }
    };
    let (desk, callers) = (Arc::new(desk), Arc::new(Semaphore::new(MAX_CALLERS)));
    let slow = Arc::new(Semaphore::new(MAX_SLOW));
    loop {
        let Ok(permit) = Arc::clone(&callers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let (desk, slow) = (Arc::clone(&desk), Arc::clone(&slow));
                tokio::spawn(async move {
                    match timeout(LONG_PATIENCE, answer(&desk, &slow, stream)).await {
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

async fn answer(desk: &Desk, slow: &Semaphore, stream: Stream) -> io::Result<()> {
    let stranger = door::stranger(&stream)?;
    let (read, mut write) = tokio::io::split(stream);
    let reply = if let Some(caller) = stranger {
        warn!(caller, "another user asked the local API; refused");
        refused("not_the_owner", "only the user that runs the agent, and root, may ask")
    } else {
        let mut line = String::new();
        let mut read = BufReader::new(read.take(MAX_REQUEST));
        timeout(PATIENCE, read.read_line(&mut line)).await??;
        match serde_json::from_str(&line) {
            Ok(request) => reply(desk, slow, request).await,
            Err(error) => refused("malformed", error.to_string()),
        }
    };
    let mut bytes = serde_json::to_vec(&reply).unwrap_or_default();
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    if matches!(reply, Reply::Leaving {}) {
        // The answer is on its way, and nothing more is to come.
        let _ = write.shutdown().await;
        desk.stop.cancel();
    }
    Ok(())
}

fn refused(code: &str, message: impl Into<String>) -> Reply {
    Reply::Error { code: code.into(), message: message.into() }
}

async fn reply(desk: &Desk, slow: &Semaphore, request: Request) -> Reply {
    use lattice_model::Duration as Span;
    let busy = || refused("busy", "others ask for that already; try again in a while");
    match request {
        Request::Status {} => Reply::Status(Box::new(status(desk).await)),
        Request::Pause { span_ms } => {
            order(desk, |done| Order::Pause { kind: PauseKind::Pause, span: span_ms.map(Span), done }).await
        }
        Request::Finish { span_ms } => {
            order(desk, |done| Order::Pause { kind: PauseKind::Finish, span: span_ms.map(Span), done }).await
        }
        Request::Resume {} => order(desk, |done| Order::Resume { done }).await,
        Request::SetRules { text } => order(desk, |done| Order::Rules { text, done }).await,
        Request::Rules {} => match rules_of(&desk.paths) {
            Ok(RulesFile { text, rules, problem }) => Reply::Rules { text, rules: Box::new(rules), problem },
            Err(error) => refused("unreadable", chain(&error)),
        },
        Request::Leave { remove } => {
            info!(remove, "the owner lets this machine leave its cluster");
            desk.leave.send_replace(Some(remove));
            Reply::Leaving {}
        }
        Request::End {} => {
            info!("the owner wants the agent to end");
            Reply::Leaving {}
        }
        Request::Doctor {} => {
            let Ok(_place) = slow.try_acquire() else { return busy() };
            let checks = Box::pin(crate::doctor(&desk.paths, None)).await;
            Reply::Doctor(serde_json::to_value(checks).unwrap_or_default())
        }
        Request::Logs { lines } => Reply::Logs(desk.log.last(lines)),
        Request::ResetPreview {} => {
            let Ok(_place) = slow.try_acquire() else { return busy() };
            let mut engines = crate::reset::engines(&desk.paths, None);
            // The first is the one that this agent uses.
            if let Some(engine) = engines.first_mut() {
                engine.runtime = Ok(Arc::clone(&desk.runtime));
            }
            Reply::Preview(Box::new(survey(&desk.paths, &engines, &BTreeSet::new()).await))
        }
    }
}

/// Has the warden do something, and says what came of it.
async fn order(desk: &Desk, order: impl FnOnce(oneshot::Sender<Result<OwnerStatus>>) -> Order) -> Reply {
    let (done, answer) = oneshot::channel();
    let _ = desk.orders.send(order(done)).await;
    match answer.await {
        Ok(Ok(status)) => Reply::Owner(Box::new(status)),
        Ok(Err(error)) => refused("refused", chain(&error)),
        Err(_) => refused("ending", "the agent is ending; try again when it runs"),
    }
}

async fn status(desk: &Desk) -> AgentStatus {
    let owner = look(desk).await;
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
        rank: desk.link.borrow().rank.clone(),
        link: desk.link.borrow().clone(),
        engine: desk.engine.borrow().clone(),
        health: desk.health.borrow().clone(),
        goal: snapshot.goal.map(|(id, _)| id.to_string()),
        allocations: snapshot.statuses.iter().map(line).collect(),
        outbox: desk.disk.waiting(),
        certificate_until: desk.certificate.borrow().map(|validity| validity.not_after),
        owner,
        lan: desk.lan.borrow().clone(),
    }
}

/// What is so now, not a moment ago.
async fn look(desk: &Desk) -> OwnerStatus {
    let (done, answer) = oneshot::channel();
    let _ = desk.orders.send(Order::Look { done }).await;
    let now = answer.await.ok().and_then(Result::ok);
    now.unwrap_or_else(|| desk.owner.borrow().clone())
}

/// Asks the agent of this home how it is; `None` when none runs.
///
/// # Errors
/// When one runs and does not answer.
pub async fn ask_status(paths: &HomePaths) -> io::Result<Option<AgentStatus>> {
    match ask(paths, &Request::Status {}).await? {
        None => Ok(None),
        Some(Reply::Status(status)) => Ok(Some(*status)),
        Some(_) => Err(io::Error::other("the agent answered something else; are both of the same version?")),
    }
}

/// Asks the agent of this home; `None` when none runs.
///
/// # Errors
/// When one runs and does not answer, or refuses.
pub async fn ask(paths: &HomePaths, request: &Request) -> io::Result<Option<Reply>> {
    let Some(stream) = door::connect(&paths.socket()).await? else { return Ok(None) };
    let slow = matches!(request, Request::Doctor {} | Request::ResetPreview {});
    let ask = async {
        let (read, mut write) = tokio::io::split(stream);
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        let mut line = String::new();
        BufReader::new(read).read_line(&mut line).await?;
        match serde_json::from_str(&line) {
            Ok(Reply::Error { message, .. }) => Err(io::Error::other(message)),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    let patience = if slow { LONG_PATIENCE } else { PATIENCE };
    match timeout(patience, ask).await {
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
        // It ended in the same moment.
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
        {
            Ok(None)
        }
        Ok(answer) => answer,
    }
}
