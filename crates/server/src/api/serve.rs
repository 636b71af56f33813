//! The listeners of the API: loopback TCP, TLS elsewhere, and the Unix socket; and what bounds their
//! connections.

use super::guard::PeerInfo;
use crate::{config::TlsFiles, error::ServerError};
use axum::{Router, body::Body, extract::ConnectInfo, serve::Listener};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::{fs::PermissionsExt, net::UnixStream as StdUnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How many finished handshakes may wait to be taken.
const QUEUE: usize = 64;
/// How many handshakes run at the same time.
const HANDSHAKES: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections over TCP at the same time; more wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// Connections of one address at the same time; more are closed at once.
const PER_ADDRESS: usize = 256;
/// Connections on the socket, counted by themselves: no flood on TCP locks out whoever runs the server.
const LOCAL_CONNECTIONS: usize = 512;
/// How long the head of a request may take to come, from the end of the one before.
const HEAD: Duration = Duration::from_secs(30);
/// How large the head of a request may be, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// How many headers a request may have.
const HEADERS: usize = 100;

/// A listener that knows who connects.
pub(crate) trait ApiListener: Listener {
    /// How many connections it serves at the same time.
    const CONNECTIONS: usize;

    /// The other end.
    fn peer(io: &Self::Io, address: &Self::Addr) -> PeerInfo;
}

impl ApiListener for TcpListener {
    const CONNECTIONS: usize = CONNECTIONS;

    fn peer(_: &TcpStream, address: &SocketAddr) -> PeerInfo {
        PeerInfo::Tcp(*address)
    }
}

impl ApiListener for TlsListener {
    const CONNECTIONS: usize = CONNECTIONS;

    fn peer(_: &TlsStream<TcpStream>, address: &SocketAddr) -> PeerInfo {
        PeerInfo::Tcp(*address)
    }
}

impl ApiListener for UnixListener {
    const CONNECTIONS: usize = LOCAL_CONNECTIONS;

    fn peer(io: &UnixStream, _: &tokio::net::unix::SocketAddr) -> PeerInfo {
        PeerInfo::Unix(io.peer_cred().ok().map(|cred| cred.uid()))
    }
}

/// Serves a listener until `shutdown`; then ends each connection after its present request.
/// `axum::serve` was rejected: it bounds neither connections nor the time that a head may take.
pub(crate) async fn serve<L: ApiListener>(mut listener: L, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(L::CONNECTIONS));
    let addresses = Arc::new(Addresses::default());
    let open = TaskTracker::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (io, address)) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let Ok(place) = place else { break };
        let peer = L::peer(&io, &address);
        let Some(counted) = addresses.count(peer) else {
            tracing::debug!(?peer, "a connection was closed: its address has too many");
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        open.spawn(async move {
            let _held = (place, counted);
            connection(io, peer, router, shutdown).await;
        });
    }
    open.close();
    open.wait().await;
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: PeerInfo,
    router: Router,
    shutdown: CancellationToken,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "a connection of the API broke");
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One of them; dropping it takes it off the count.
struct Counted(Option<(Arc<Addresses>, IpAddr)>);

impl Addresses {
    fn count(self: &Arc<Self>, peer: PeerInfo) -> Option<Counted> {
        let PeerInfo::Tcp(address) = peer else { return Some(Counted(None)) };
        let address = address.ip().to_canonical();
        let mut all = self.0.lock();
        let count = all.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Counted(Some((Arc::clone(self), address))))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((all, address)) = &self.0 else { return };
        let mut all = all.0.lock();
        if let Some(count) = all.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                all.remove(address);
            }
        }
    }
}

/// Listens on TCP.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen {
        what: "the API",
        address: address.to_string(),
        source,
    })
}

/// Listens on the socket, readable by its owner alone. A socket that a dead server left is
/// replaced; the store's lock has already told whether a server lives.
pub(crate) fn unix(path: &Path) -> Result<UnixListener, ServerError> {
    let failed =
        |source| ServerError::Listen { what: "the API", address: path.display().to_string(), source };
    if path.exists() {
        if StdUnixStream::connect(path).is_ok() {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    // The folder is of mode 0700, so nobody gets in between these two lines.
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// TLS on top of TCP: handshakes run beside each other, and a slow one holds up nobody.
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Takes over a listener.
    pub(crate) fn new(listener: TcpListener, files: &TlsFiles) -> Result<Self, ServerError> {
        let acceptor = acceptor(files)?;
        let local = listener.local_addr().map_err(|source| ServerError::Listen {
            what: "the API",
            address: "?".into(),
            source,
        })?;
        let (sender, ready) = mpsc::channel(QUEUE);
        tokio::spawn(accept(listener, acceptor, sender));
        Ok(Self { ready, local })
    }
}

async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (tcp, address) = tokio::select! {
            () = ready.closed() => return,
            accepted = Listener::accept(&mut listener) => accepted,
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake of the API failed"),
                Err(_) => tracing::debug!(%address, "a TLS handshake of the API took too long"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only after this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    let bad = |what: &str, path: &Path, error: &dyn std::fmt::Display| ServerError::ApiTls {
        problem: format!("{what} {}: {error}", path.display()),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad("the certificate", &files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad("the key", &files.key, &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(lattice_identity::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("the certificate", &files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad("the certificate", &files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
