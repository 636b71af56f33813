//! The server's side: a listener that admits agents at a bounded rate and hands what they say
//! to a [`Gateway`], which makes every decision.
//!
//! Enter at [`LinkServer`]. One task drives each connection ([`connection`]); it alone knows why
//! the connection ended. TLS and hyper are driven here and not by tonic's transport, which gives
//! neither the peer's certificates per connection without axum nor a handle that cuts one.

mod addresses;
mod admission;
mod connection;
mod registry;
mod services;
mod session;

pub use admission::{Bucket, Limits};
pub use registry::{CertifiedPeer, ConnectionRegistry, Peer};
pub use session::{Session, SessionReceiver, SessionSender};

use crate::{
    bulk::BulkChannel,
    error::{Refusal, code},
    message::{
        BulkEnd, Certificate, Hello, ImagePartRequest, JoinRequest, JoinUpdate, RenewRequest, StreamId,
        TreeRequest,
    },
};
use admission::Admission;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lattice_model::NodeId;
use rustls::ServerConfig;
use std::{fmt, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// What becomes of a request to join, until it is decided.
pub type JoinUpdates = BoxStream<'static, JoinUpdate>;

/// The archive of a tree, or a part of an image, from an offset on.
pub struct TreeBytes {
    /// Bytes of the whole archive.
    pub size: u64,
    /// Its bytes from the offset on, in pieces of any size; cut to frames on the way.
    pub bytes: BoxStream<'static, Result<Bytes, Refusal>>,
}

impl fmt::Debug for TreeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeBytes").field("size", &self.size).finish_non_exhaustive()
    }
}

/// The configuration for the next handshake; asked each time, since certificates rotate.
pub type ServerTls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Who decides. A method that takes long must watch for the end of what it serves: the streams
/// that it gets and gives end with the connection.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// An agent asks to join. The protocol is negotiated already. Dropping the stream that is
    /// returned means that the agent is gone.
    async fn join(&self, peer: Peer, request: JoinRequest) -> Result<JoinUpdates, Refusal>;

    /// A fresh challenge for [`Self::renew`].
    async fn challenge(&self, peer: Peer, node: NodeId) -> Result<Vec<u8>, Refusal>;

    /// A node proves its registered key.
    async fn renew(&self, peer: Peer, request: RenewRequest) -> Result<Certificate, Refusal>;

    /// A node opens a session. The protocol is negotiated already ([`Session::protocol`]); send
    /// Welcome, then serve it until it ends. A refusal is sent as Goodbye.
    async fn session(&self, peer: CertifiedPeer, hello: Hello, session: Session) -> Result<(), Refusal>;

    /// A node answers an [`crate::message::OpenStream`]; whether it may is to be checked.
    async fn bulk(&self, peer: CertifiedPeer, stream: StreamId, channel: BulkChannel);

    /// A node wants to know how much passes in a moment; see `Probe` in the protocol.
    async fn probe(&self, _peer: CertifiedPeer, channel: BulkChannel) {
        let refusal = Refusal::new(code::BUSY, "this server measures no links", "update the server");
        let _ = channel.send.close(BulkEnd::Failed(refusal)).await;
    }

    /// A node wants the archive of a tree; whether its goal names it is to be checked.
    async fn tree(&self, _peer: CertifiedPeer, _request: TreeRequest) -> Result<TreeBytes, Refusal> {
        Err(Refusal::new(code::TREE_UNKNOWN, "this server keeps no trees", "update the server"))
    }

    /// A node wants a part of an uploaded image; whether its goal names it is to be checked.
    async fn image_part(
        &self,
        _peer: CertifiedPeer,
        _request: ImagePartRequest,
    ) -> Result<TreeBytes, Refusal> {
        Err(Refusal::new(code::IMAGE_UNKNOWN, "this server keeps no images", "update the server"))
    }
}

/// The listener for agents.
pub struct LinkServer {
    gateway: Arc<dyn Gateway>,
    tls: ServerTls,
    limits: Limits,
    registry: ConnectionRegistry,
}

impl fmt::Debug for LinkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkServer").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What all connections share.
pub(crate) struct Shared {
    gateway: Arc<dyn Gateway>,
    tls: ServerTls,
    limits: Limits,
    admission: Admission,
    registry: ConnectionRegistry,
    tasks: TaskTracker,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl LinkServer {
    /// A server with [`Limits::default`]. The TLS configuration must ask for client certificates
    /// and let those without one in: they can only enrol.
    pub fn new(gateway: Arc<dyn Gateway>, tls: ServerTls) -> Self {
        Self { gateway, tls, limits: Limits::default(), registry: ConnectionRegistry::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The open connections: to cut those of a revoked node, and to count them.
    pub fn connections(&self) -> ConnectionRegistry {
        self.registry.clone()
    }

    /// Serves until `shutdown`; then says goodbye to every session, waits
    /// [`Limits::shutdown_grace`] and cuts what is left.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { gateway, tls, limits, registry } = self;
        let admission = Admission::new(&limits);
        let tasks = TaskTracker::new();
        let (closing, cut) = (shutdown.child_token(), CancellationToken::new());
        let shared = Arc::new(Shared { gateway, tls, limits, admission, registry, tasks, closing, cut });
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shared.closing.cancelled() => break,
            };
            match accepted {
                Ok((tcp, addr)) => {
                    // 1. Bounded in number and in waiting time, before anything is spent on it.
                    let Some(ticket) = shared.admission.admit(addr) else { continue };
                    let shared = shared.clone();
                    shared.tasks.clone().spawn(connection::run(shared, tcp, addr, ticket));
                }
                Err(error) => {
                    // Out of descriptors, mostly: the sockets that wait stay in the kernel's queue.
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        shared.tasks.close();
        let grace = shared.limits.shutdown_grace;
        if tokio::time::timeout(grace, shared.tasks.wait()).await.is_err() {
            shared.cut.cancel();
            if tokio::time::timeout(grace, shared.tasks.wait()).await.is_err() {
                warn!(tasks = shared.tasks.len(), "handlers of agents do not end");
            }
        }
        info!("the listener for agents is closed");
    }
}
