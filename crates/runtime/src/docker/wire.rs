//! HTTP to the engine: one connection per request over a local socket, as the docker command
//! does. So there is nothing to reconnect: an engine that comes back is simply there again.
//! A pool would save some 50 µs a call and bring calls that fail on a stale connection.
//!
//! Paths carry no API version: the engine then speaks its newest one, which its answers name.

use bollard::{BollardRequest, body_full, errors::Error};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

/// An answer of the engine that is larger than this is not read to its end.
const MAX_ANSWER: usize = 64 << 20;

/// The way to one engine.
#[derive(Debug)]
pub(super) struct Wire {
    socket: String,
    /// The engine's API version as 1000 × major + minor, by its last answer; 0 before the first.
    api: AtomicU32,
}

impl Wire {
    pub(super) fn new(socket: &str) -> Self {
        Self { socket: socket.strip_prefix("unix://").unwrap_or(socket).to_owned(), api: AtomicU32::new(0) }
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// Whether the engine's API is at least `1.minor`; `None` before its first answer.
    pub(super) fn api_at_least(&self, minor: u32) -> Option<bool> {
        match self.api.load(Ordering::Relaxed) {
            0 => None,
            api => Some(api >= 1000 + minor),
        }
    }

    #[cfg(unix)]
    async fn dial(&self) -> io::Result<tokio::net::UnixStream> {
        tokio::net::UnixStream::connect(&self.socket).await
    }

    #[cfg(not(unix))]
    async fn dial(&self) -> io::Result<tokio::net::TcpStream> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only Unix sockets are supported; use the engine in WSL2",
        ))
    }

    /// One request, whatever its answer's status.
    pub(super) async fn send(&self, request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let stream = self.dial().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends by itself: when the answer has been read or dropped, or the engine hangs up.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the engine ended");
            }
        });
        let (mut parts, body) = request.into_parts();
        if let Some(path) = parts.uri.path_and_query() {
            parts.uri = Uri::from(path.clone());
        }
        parts.headers.insert(header::HOST, HeaderValue::from_static("engine"));
        let response = sender.send_request(Request::from_parts(parts, body)).await?;
        if let Some(api) = response.headers().get("api-version").and_then(api_number) {
            self.api.store(api, Ordering::Relaxed);
        }
        Ok(response)
    }

    /// One request with a JSON body; a status that is not a success becomes an error.
    pub(super) async fn request<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Error> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let response = self.send(request.body(body_full(Bytes::from(bytes)))?).await?;
        let status = response.status();
        if status.is_success() || status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        #[derive(Deserialize)]
        struct Complaint {
            message: String,
        }
        let bytes = collect(response).await?;
        let message = serde_json::from_slice(&bytes)
            .map_or_else(|_| String::from_utf8_lossy(&bytes).trim().to_owned(), |c: Complaint| c.message);
        Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
    }

    /// One request whose answer is JSON. Neither body is ever logged.
    pub(super) async fn call<T: DeserializeOwned, B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Error> {
        let response = self.request(method, path, body, false).await?;
        Ok(serde_json::from_slice(&collect(response).await?)?)
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Error> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
    let whole = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(whole.to_bytes())
}

fn api_number(value: &HeaderValue) -> Option<u32> {
    let (major, minor) = value.to_str().ok()?.split_once('.')?;
    Some(major.parse::<u32>().ok()? * 1000 + minor.parse::<u32>().ok()?)
}

/// Percent-encodes a value of a query.
pub(super) fn query_value(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
