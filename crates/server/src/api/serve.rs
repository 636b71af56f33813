//! The listeners of the API: loopback TCP, TLS elsewhere, and the Unix socket.

use super::guard::PeerInfo;
use crate::{config::TlsFiles, error::ServerError};
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream as StdUnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How many finished handshakes may wait to be taken.
const QUEUE: usize = 64;
/// How many handshakes run at the same time.
const HANDSHAKES: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Connected<IncomingStream<'_, TcpListener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::Unix(stream.io().peer_cred().ok().map(|cred| cred.uid()))
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
