//! One connection to a server: a task drives it, calls share it.

use super::dial::{Address, Dialer};
use crate::{
    bulk,
    ended::{Ended, reason},
    error::{CloseReason, LinkError, Refusal, code},
    wire::WireError,
};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{
    fmt,
    future::Future,
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http, http::Uri},
};

/// An open connection; clones share it. It ends when the last clone and the last call are gone.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Body>,
    pub(super) ended: Ended,
    pub(super) origin: Uri,
    address: Arc<str>,
    local: Option<SocketAddr>,
    server: Arc<[CertificateDer<'static>]>,
    cut: CancellationToken,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) async fn start(
        stream: Watched,
        local: Option<SocketAddr>,
        address: &Address,
        name: &ServerName<'static>,
        dialer: &Dialer,
    ) -> Result<Self, LinkError> {
        let fault = stream.fault.clone();
        let chain = stream.tls.get_ref().1.peer_certificates().unwrap_or_default();
        let server = chain.iter().map(|der| der.clone().into_owned()).collect();
        let name = Address { host: name.to_str().into_owned(), port: address.port };
        let origin = format!("https://{name}").parse().unwrap_or(Uri::from_static("https://lattice"));
        let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(dialer.keepalive.interval)
            .keep_alive_timeout(dialer.keepalive.timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(dialer.window)
            .initial_connection_window_size(dialer.window.saturating_mul(2))
            .max_send_buf_size(64 << 10)
            .max_header_list_size(8 << 10)
            .header_table_size(1 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| reason(&error))?;
        let (ended, cut) = (Ended::default(), CancellationToken::new());
        let (told, stop) = (ended.clone(), cut.clone());
        tokio::spawn(async move {
            let result = tokio::select! {
                result = connection => result,
                () = stop.cancelled() => return told.set(CloseReason::Cut),
            };
            told.set(match (fault.get(), result) {
                // HTTP/2 keeps only the text of what TLS said.
                (Some(error), _) => CloseReason::Tls(error.clone()),
                (None, Ok(())) => CloseReason::ByPeer,
                (None, Err(error)) => reason(&error),
            });
        });
        Ok(Self { requests, ended, origin, address: address.to_string().into(), local, server, cut })
    }

    /// The address that answered, as it was configured.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether this machine no longer has the address that the connection was made from: it went to another
    /// network, and no packet of this connection will come any more. Pings would notice too, and later.
    pub fn is_astray(&self) -> bool {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
        // Binding is the one question about it that every system answers.
        self.local.is_some_and(|local| UdpSocket::bind((local.ip(), 0)).is_err_and(|error| gone(&error)))
    }

    /// The certificates that the server showed, the leaf first.
    pub fn server_chain(&self) -> &[CertificateDer<'static>] {
        &self.server
    }

    /// Ends the connection at once, calls included.
    pub fn close(&self) {
        self.cut.cancel();
    }

    /// Why it ended; waits until it does.
    pub async fn ended(&self) -> LinkError {
        let reason = self.ended.wait().await;
        self.named(reason.into())
    }

    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed() && !self.cut.is_cancelled()
    }

    /// Puts the address to a failure of TLS that showed after the handshake: with TLS 1.3 a
    /// server judges the client's certificate when the client is done already.
    pub(super) fn named(&self, error: LinkError) -> LinkError {
        match error {
            LinkError::Closed(CloseReason::Tls(source)) => {
                LinkError::Tls { address: self.address.to_string(), source }
            }
            other => other,
        }
    }

    /// What a call means that failed before its first message.
    pub(super) async fn refused(&self, status: Status) -> LinkError {
        let code = match status.code() {
            tonic::Code::Unauthenticated => code::CERTIFICATE_REQUIRED,
            _ => code::RPC,
        };
        match bulk::failed(status, &self.ended).await {
            LinkError::Malformed(WireError::Rpc(message)) => {
                LinkError::Refused(Refusal::new(code, message, ""))
            }
            other => self.named(other),
        }
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}

/// A TLS stream that remembers what TLS said: HTTP/2 turns it into text on the way up.
pub(super) struct Watched {
    tls: TlsStream<TcpStream>,
    fault: Arc<OnceLock<rustls::Error>>,
}

impl Watched {
    pub(super) fn new(tls: TlsStream<TcpStream>) -> Self {
        Self { tls, fault: Arc::default() }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            let _ = self.fault.set(fault.clone());
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_read(cx, buf);
        self.note(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
