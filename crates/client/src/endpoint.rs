//! Where the server is, and how to open a connection to it.

use crate::error::ClientError;
use hyper::Uri;
use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// How long opening a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket on this machine: the peer's user is the credential.
    Unix(PathBuf),
    /// HTTP on loopback, as `host:port`.
    Http(String),
}

/// An API token; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(String);

impl ApiToken {
    /// Trims and checks a token as it stands in a file or a variable.
    ///
    /// # Errors
    /// [`ClientError::InvalidToken`] when it is empty or has characters that no token has.
    pub fn new(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientError::InvalidToken);
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

impl Endpoint {
    /// Reads `unix:/path`, `http://127.0.0.1:7400` or `http://localhost:7400`.
    ///
    /// # Errors
    /// [`ClientError::InvalidEndpoint`] for anything else: plain HTTP would show the token to
    /// everybody on the way, and HTTPS is not supported yet.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let fail = |problem| ClientError::InvalidEndpoint { text: text.chars().take(200).collect(), problem };
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let uri: Uri = text.parse().map_err(|_| fail("is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(fail(
                    "uses https, which this version does not speak; forward the port to this machine \
                     (ssh -L 7400:127.0.0.1:7400 SERVER) and use http://127.0.0.1:7400",
                ));
            }
            _ => return Err(fail("is neither http:// nor unix:")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fail("has a path; give the host and the port alone"));
        }
        let authority = uri.authority().ok_or_else(|| fail("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(fail("has a user in it; give the token by LATTICE_TOKEN or --token-file"));
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !loopback {
            return Err(fail(
                "is plain HTTP to another machine, which would show the token on the way; forward the port \
                 to this machine (ssh -L 7400:127.0.0.1:7400 SERVER) and use http://127.0.0.1:7400",
            ));
        }
        Ok(Self::Http(format!("{host}:{}", authority.port_u16().unwrap_or(7400))))
    }

    /// The `Host` that requests carry; servers check it against an allow-list.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Http(authority) => authority,
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Io>, ClientError> {
        let open = async {
            match self {
                #[cfg(unix)]
                Self::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok(Box::new(stream) as Box<dyn Io>)
                }
                #[cfg(not(unix))]
                Self::Unix(_) => Err(std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    "no Unix sockets on this system",
                )),
                Self::Http(authority) => {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    stream.set_nodelay(true)?;
                    Ok(Box::new(stream) as Box<dyn Io>)
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, open).await {
            Ok(result) => {
                result.map_err(|source| ClientError::Unreachable { place: self.to_string(), source })
            }
            Err(_) => Err(ClientError::Timeout { place: self.to_string(), after: CONNECT_TIMEOUT }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// A connection of either kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_is_dialled() {
        for (text, place) in [
            ("http://127.0.0.1:7400", "http://127.0.0.1:7400"),
            ("http://localhost", "http://localhost:7400"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), place);
        }
        for (text, problem) in [
            ("https://example.org", "https"),
            ("http://example.org:7400", "another machine"),
            ("http://10.0.0.1", "another machine"),
            ("http://user@127.0.0.1", "user"),
            ("http://127.0.0.1/v1", "path"),
            ("ftp://127.0.0.1", "neither"),
            ("127.0.0.1:7400", "is n"),
            ("", "is not a URL"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn tokens_are_checked_and_hidden() {
        let token = ApiToken::new(" abc\n").unwrap();
        assert_eq!(token.reveal(), "abc");
        assert!(!format!("{token:?}").contains("abc"));
        assert!(ApiToken::new("a b").is_err());
        assert!(ApiToken::new("\n").is_err());
    }
}
