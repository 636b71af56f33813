//! Requests to an object store: one connection each, rustls with ring, bounded answers.

use crate::BackupError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins; a part of some MiB goes up in it.
const ANSWER: Duration = Duration::from_secs(120);
/// How long a stream may stand still.
pub(super) const STANDSTILL: Duration = Duration::from_secs(60);
/// The most bytes of an answer that is not a stream.
const MAX_ANSWER: usize = 16 << 20;
/// How often a request is tried.
const ATTEMPTS: u32 = 4;

/// An answer, with the connection that it comes over.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _connection: Driver,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Speaks to one object store.
#[derive(Clone, Debug)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Http {
    /// With the system's authorities.
    pub(super) fn new() -> Result<Self, BackupError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Self::with(roots)
    }

    pub(super) fn with(roots: RootCertStore) -> Result<Self, BackupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| BackupError::Unreachable { host: "any".into(), source: Box::new(error) })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Sends a request; tries again where the store was not reached or says that it is busy.
    pub(super) async fn send(&self, method: Method, url: &Url, body: Bytes) -> Result<Answer, BackupError> {
        let mut pause = Duration::from_millis(250);
        for attempt in 1.. {
            match self.once(method.clone(), url, body.clone()).await {
                Ok(answer) if attempt < ATTEMPTS && is_busy(answer.response.status().as_u16()) => {}
                Err(error) if attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "the object store was not reached");
                }
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
        Err(BackupError::Stopped)
    }

    async fn once(&self, method: Method, url: &Url, body: Bytes) -> Result<Answer, BackupError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let place = format!("{host}:{port}");
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| BackupError::Unreachable {
            host: place.clone(),
            source,
        };
        let connect = async {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let tcp = TcpStream::connect((bare, port)).await?;
            tcp.set_nodelay(true)?;
            if url.scheme() == "http" {
                return Ok(Box::new(tcp) as Box<dyn Stream>);
            }
            let name = ServerName::try_from(bare.to_owned()).map_err(std::io::Error::other)?;
            let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
            Ok::<_, std::io::Error>(Box::new(tls) as Box<dyn Stream>)
        };
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT, connect).await.map_err(|_| unreachable(Box::new(late())))?;
        let stream = stream.map_err(|error| unreachable(Box::new(error)))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("lattice/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| unreachable(Box::new(error)))?;
        let exchange = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let driver = Driver(tokio::spawn(async move {
                // What breaks here breaks the answer too, which tells it.
                let _ = connection.await;
            }));
            let response = sender.send_request(request).await?;
            Ok::<_, hyper::Error>(Answer { response, _connection: driver })
        };
        match timeout(ANSWER, exchange).await {
            Ok(answer) => answer.map_err(|error| unreachable(Box::new(error))),
            Err(_) => Err(unreachable(Box::new(late()))),
        }
    }
}

/// Whether trying again later is the thing to do.
fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

impl Answer {
    /// The whole answer, where it says that it was done.
    pub(super) async fn text(self, action: &'static str) -> Result<(hyper::HeaderMap, String), BackupError> {
        let status = self.response.status();
        let headers = self.response.headers().clone();
        let body = Limited::new(self.response.into_body(), MAX_ANSWER).collect();
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let body = timeout(STANDSTILL, body).await.map_err(|_| BackupError::io("read")(late()))?;
        let body = body.map_err(|error| BackupError::io("read")(std::io::Error::other(error)))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        // Completing an upload may be refused with 200: the answer begins before it is decided.
        if status.is_success() && !text.contains("<Error>") {
            return Ok((headers, text));
        }
        Err(refused(action, status.as_u16(), &text))
    }
}

/// What a refusal says: `<Code>` and `<Message>` of its body, where it has them.
pub(super) fn refused(action: &'static str, status: u16, body: &str) -> BackupError {
    let tag = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    let message = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => body.to_owned(),
    };
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    BackupError::Refused { action, status, message: message.chars().map(clean).take(300).collect() }
}
