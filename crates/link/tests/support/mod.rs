//! Certificates, a gateway that records what it hears, and a network that can be cut.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use lattice_link::{
    BulkChannel, Dedup, KeepAlive, LinkError, PROTOCOL, Refusal, Verdict,
    client::{Address, ClientTls, Dialer},
    code,
    message::*,
    server::{
        CertifiedPeer, ConnectionRegistry, Gateway, JoinUpdates, Limits, LinkServer, Peer, ServerTls,
        Session, TreeBytes,
    },
};
use lattice_model::{ClusterId, Duration as Span, NodeId, Timestamp, resource::Capacity, spec::TreeDigest};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

pub struct Ca {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }

    pub fn server(&self) -> ServerTls {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (chain, key) = self.leaf("localhost");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        Arc::new(move || config.clone())
    }

    /// Trusts this CA; shows a certificate of `shown`, if any.
    pub fn client(&self, shown: Option<&Ca>) -> ClientTls {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let config = Arc::new(match shown {
            Some(ca) => {
                let (chain, key) = ca.leaf("node");
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        });
        Arc::new(move || config.clone())
    }
}

pub fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent_version: "0.1.0".into(),
        capabilities: Vec::new(),
        facts: Default::default(),
        capacity: Capacity::default(),
        goal: None,
        ratchet: Secret::new([1; 32]),
        boot_id: "boot".into(),
        statuses: Default::default(),
        outbox: OutboxMark { id: OutboxId(1), first: 1, next: 1 },
        standing: Default::default(),
    }
}

pub fn join_request() -> JoinRequest {
    JoinRequest {
        protocol: PROTOCOL,
        agent_version: "0.1.0".into(),
        token_id: lattice_model::TokenId::from_random(1),
        token_secret: Secret::new("secret"),
        csr_der: vec![1],
        public_key: vec![2],
        name: None,
        facts: Default::default(),
        capacity: Capacity::default(),
    }
}

/// Records what agents say and sends what the test wants.
#[derive(Default)]
pub struct Recorder {
    pub reports: Mutex<Vec<Reported>>,
    pub dedup: Mutex<Option<Dedup>>,
    pub heartbeats: AtomicUsize,
    pub sessions: Mutex<Vec<mpsc::Sender<ServerMessage>>>,
    pub ends: Mutex<Vec<LinkError>>,
    pub goals: Mutex<Vec<lattice_model::GoalId>>,
    pub decided: watch::Sender<bool>,
}

#[async_trait]
impl Gateway for Recorder {
    async fn join(&self, _: Peer, request: JoinRequest) -> Result<JoinUpdates, Refusal> {
        if request.token_secret.reveal() != b"secret" {
            return Err(Refusal::new("token_unknown", "this token is not known here", "ask for another"));
        }
        let node = NodeId::from_random(1);
        let mut decided = self.decided.subscribe();
        let pending =
            JoinUpdate::Pending { node, fingerprint: "aa:bb".into(), hint: "lattice node approve".into() };
        let approved = async move {
            let _ = decided.wait_for(|yes| *yes).await;
            JoinUpdate::Approved(Approved {
                node,
                cluster: ClusterId::from_random(2),
                certificate: Certificate { chain_der: vec![vec![1]], not_after: Timestamp(9) },
                ratchet: Secret::new([3; 32]),
            })
        };
        Ok(stream::iter([pending]).chain(stream::once(approved)).boxed())
    }

    async fn challenge(&self, _: Peer, node: NodeId) -> Result<Vec<u8>, Refusal> {
        Ok(node.uuid().as_bytes().to_vec())
    }

    async fn renew(&self, _: Peer, request: RenewRequest) -> Result<Certificate, Refusal> {
        if request.signature != request.challenge {
            return Err(Refusal::new("proof_wrong", "the signature is of another key", "join again"));
        }
        Ok(Certificate { chain_der: vec![request.csr_der], not_after: Timestamp(7) })
    }

    async fn session(&self, peer: CertifiedPeer, hello: Hello, session: Session) -> Result<(), Refusal> {
        assert!(!peer.leaf().is_empty());
        let Session { send, mut recv, protocol } = session;
        let mut dedup = Dedup::resume(*self.dedup.lock(), &hello.outbox);
        send.send(ServerMessage::Welcome(Welcome {
            protocol,
            server_version: "0.1.0".into(),
            heartbeat: Span::from_secs(5),
            ratchet_next: Some(Secret::new([2; 32])),
            ack_up_to: dedup.last,
            notice: None,
            server_time: None,
        }))
        .await?;
        let (out, mut wanted) = mpsc::channel(16);
        self.sessions.lock().push(out);
        let error = loop {
            let message = tokio::select! {
                message = recv.recv() => message,
                Some(message) = wanted.recv() => {
                    send.send(message).await?;
                    continue;
                }
            };
            match message {
                Ok(AgentMessage::Reports(reports)) => {
                    for report in reports {
                        if dedup.accept(report.seq()) != Verdict::Duplicate {
                            self.reports.lock().push(report);
                        }
                    }
                    *self.dedup.lock() = Some(dedup);
                    send.send(ServerMessage::Ack(dedup.last)).await?;
                }
                Ok(AgentMessage::Heartbeat(beat)) => {
                    self.heartbeats.fetch_add(1, Ordering::SeqCst);
                    if beat.ping != 0 {
                        send.send(ServerMessage::Pong(beat.ping)).await?;
                    }
                }
                Ok(AgentMessage::GoalAccepted(id)) => self.goals.lock().push(id),
                Ok(AgentMessage::RatchetStored) => {}
                Err(error) => break error,
            }
        };
        let refusal = match &error {
            LinkError::Malformed(e) => Err(Refusal::from(e.clone())),
            _ => Ok(()),
        };
        self.ends.lock().push(error);
        refusal
    }

    async fn bulk(&self, _: CertifiedPeer, stream: StreamId, channel: BulkChannel) {
        let (send, mut recv) = channel.split();
        if stream.0 == 13 {
            let refusal = Refusal::new("no_stream", "nobody asked for this stream", "");
            return drop(send.close(BulkEnd::Failed(refusal)).await);
        }
        let mut code = 0;
        while let Ok(Some(frame)) = recv.recv().await {
            match frame {
                BulkFrame::Data { channel, bytes } => {
                    code += bytes.len() as i64;
                    if send.data(channel, bytes).await.is_err() {
                        return;
                    }
                }
                BulkFrame::End(_) => break,
                _ => return,
            }
        }
        let _ = send.close(BulkEnd::Exit(code)).await;
    }

    async fn probe(&self, _: CertifiedPeer, channel: BulkChannel) {
        let (send, mut recv) = channel.split();
        let _ = send.data(channel::STDOUT, Bytes::from_static(&[0; 100_000])).await;
        let _ = send.end(channel::STDOUT).await;
        let mut bytes = 0;
        while let Ok(Some(BulkFrame::Data { bytes: piece, .. })) = recv.recv().await {
            bytes += piece.len() as u64;
        }
        let counted = serde_json::to_vec(&Counted { bytes, micros: 1_000_000 }).unwrap();
        let _ = send.data(channel::CONTROL, counted.into()).await;
        let _ = send.close(BulkEnd::Done).await;
    }

    async fn image_part(&self, _: CertifiedPeer, request: ImagePartRequest) -> Result<TreeBytes, Refusal> {
        let bytes = match request.layer {
            None => b"configuration".to_vec(),
            Some(layer) => layer.as_bytes().to_vec(),
        };
        let (size, offset) = (bytes.len() as u64, usize::try_from(request.offset).unwrap());
        let rest = Bytes::from(bytes).slice(offset..);
        Ok(TreeBytes { size, bytes: futures::stream::iter([Ok(rest)]).boxed() })
    }

    async fn tree(&self, _: CertifiedPeer, request: TreeRequest) -> Result<TreeBytes, Refusal> {
        let archive = archive();
        if request.digest != TreeDigest::of(&archive) {
            return Err(Refusal::new(code::TREE_UNKNOWN, "your goal does not name it", ""));
        }
        let size = archive.len() as u64;
        let rest = archive.slice(usize::try_from(request.offset).unwrap().min(archive.len())..);
        // The first answer breaks off.
        let broken = request.offset == 0;
        let pieces = match broken {
            true => vec![Ok(rest.slice(..150_000)), Err(Refusal::new(code::BUSY, "the disk is slow", ""))],
            false => vec![Ok(rest)],
        };
        Ok(TreeBytes { size, bytes: futures::stream::iter(pieces).boxed() })
    }
}

/// A server on loopback.
pub struct Running {
    pub addr: SocketAddr,
    pub gateway: Arc<Recorder>,
    pub connections: ConnectionRegistry,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

pub fn quick() -> KeepAlive {
    KeepAlive { interval: Duration::from_millis(300), timeout: Duration::from_millis(600) }
}

pub fn limits() -> Limits {
    Limits { shutdown_grace: Duration::from_secs(2), ..Limits::default() }
}

impl Running {
    pub async fn start(ca: &Ca, limits: Limits) -> Self {
        Self::start_at(ca, limits, "127.0.0.1:0".parse().unwrap(), Arc::default()).await
    }

    pub async fn start_at(ca: &Ca, limits: Limits, addr: SocketAddr, gateway: Arc<Recorder>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = LinkServer::new(gateway.clone(), ca.server()).with_limits(limits);
        let (connections, stop) = (server.connections(), CancellationToken::new());
        let task = tokio::spawn(server.serve(listener, stop.clone()));
        Self { addr, gateway, connections, stop, task }
    }

    pub async fn end(self) {
        self.stop.cancel();
        soon("the server ends", self.task).await.unwrap();
    }
}

pub fn dialer(addr: SocketAddr, tls: ClientTls) -> Dialer {
    Dialer::new(vec![Address { host: addr.ip().to_string(), port: addr.port() }], tls)
}

/// Waits until a condition holds, without saying how long.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Forwards TCP, until told to swallow everything while keeping the sockets open.
pub struct Forwarder {
    pub addr: SocketAddr,
    pub blackhole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forwarder {
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_from(target, "127.0.0.1:0".parse().unwrap()).await
    }

    /// Comes to the target from `source`.
    pub async fn start_from(target: SocketAddr, source: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (blackhole, swallowing) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(source).unwrap();
                let outside = socket.connect(target).await.unwrap();
                let ((ir, iw), (or, ow)) = (inside.into_split(), outside.into_split());
                for (mut from, mut to) in [(ir, ow), (or, iw)] {
                    let mut swallowing = swallowing.clone();
                    tokio::spawn(async move {
                        let mut buf = vec![0; 16 << 10];
                        while let Ok(n) = from.read(&mut buf).await {
                            if swallowing.wait_for(|yes| !yes).await.is_err() || n == 0 {
                                break;
                            }
                            if to.write_all(&buf[..n]).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        Self { addr, blackhole, task }
    }
}

/// An HTTP proxy that wants `me:pass`.
pub async fn proxy() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                if !head.contains("Proxy-Authorization: Basic bWU6cGFzcw==\r\n") {
                    let reply = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno";
                    return client.write_all(reply).await.unwrap();
                }
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (addr, task)
}

pub fn noise(len: usize) -> Bytes {
    (0..len).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>().into()
}

/// What [`Recorder`] gives as a tree.
pub fn archive() -> Bytes {
    (0..200_000u32).flat_map(|n| n.to_le_bytes()).take(300_000).collect::<Vec<_>>().into()
}
