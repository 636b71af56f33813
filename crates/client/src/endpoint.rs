//! Where the server is, and how to open a connection to it.

use crate::{error::ClientError, tls};
use hyper::Uri;
use rustls_pki_types::ServerName;
use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// How long opening a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket on this machine: the peer's user is the credential.
    Unix(PathBuf),
    /// HTTP on loopback, as `host:port`.
    Http(String),
    /// HTTPS, on any machine.
    Https(Https),
}

/// A server that proves who it is.
#[derive(Clone)]
pub struct Https {
    /// `host:port`.
    authority: String,
    name: ServerName<'static>,
    config: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl PartialEq for Https {
    fn eq(&self, other: &Self) -> bool {
        self.authority == other.authority
    }
}

impl Eq for Https {}

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
    /// Reads `unix:/path`, `https://lattice.example.org` or `http://127.0.0.1:7400`, and believes the
    /// authorities of the system.
    ///
    /// # Errors
    /// As [`Endpoint::parse_with`].
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        Self::parse_with(text, None)
    }

    /// The same; with `authorities`, in PEM, those are believed and no others.
    ///
    /// # Errors
    /// [`ClientError::InvalidEndpoint`] for anything else, plain HTTP to another machine above all: it
    /// would show the token to everybody on the way. [`ClientError::Authorities`] where those cannot be used.
    pub fn parse_with(text: &str, authorities: Option<&[u8]>) -> Result<Self, ClientError> {
        let fail = |problem| ClientError::InvalidEndpoint { text: text.chars().take(200).collect(), problem };
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let uri: Uri = text.parse().map_err(|_| fail("is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(fail("is none of https://, http:// and unix:")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fail("has a path; give the host and the port alone"));
        }
        let authority = uri.authority().ok_or_else(|| fail("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(fail("has a user in it; give the token by LATTICE_TOKEN or --token-file"));
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if secure {
            let name =
                ServerName::try_from(bare.to_owned()).map_err(|_| fail("has a host that is no name"))?;
            let authority = format!("{host}:{}", authority.port_u16().unwrap_or(443));
            return Ok(Self::Https(Https { authority, name, config: tls::config(authorities)? }));
        }
        let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !loopback {
            return Err(fail(
                "is plain HTTP to another machine, which would show the token on the way; use https://, or forward \
                 the port to this machine (ssh -L 7400:127.0.0.1:7400 SERVER) and use http://127.0.0.1:7400",
            ));
        }
        Ok(Self::Http(format!("{host}:{}", authority.port_u16().unwrap_or(7400))))
    }

    /// The `Host` that requests carry; servers check it against an allow-list.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Http(authority) | Self::Https(Https { authority, .. }) => authority,
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
                Self::Https(Https { authority, name, config }) => {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    stream.set_nodelay(true)?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    let stream = connector.connect(name.clone(), stream).await?;
                    Ok(Box::new(stream) as Box<dyn Io>)
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, open).await {
            Ok(result) => {
                result.map_err(|source: std::io::Error| {
                    let place = self.to_string();
                    // What TLS has to say stands inside; a refused connection has no such cause.
                    if source.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) {
                        ClientError::Untrusted { place, source }
                    } else {
                        ClientError::Unreachable { place, source }
                    }
                })
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
            Self::Https(Https { authority, .. }) => write!(f, "https://{authority}"),
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
            ("https://example.org", "https://example.org:443"),
            ("https://10.0.0.1:7400/", "https://10.0.0.1:7400"),
            ("https://[::1]:7400", "https://[::1]:7400"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), place);
        }
        for (text, problem) in [
            ("http://example.org:7400", "another machine"),
            ("http://10.0.0.1", "another machine"),
            ("http://user@127.0.0.1", "user"),
            ("http://127.0.0.1/v1", "path"),
            ("ftp://127.0.0.1", "none of"),
            ("https://user@example.org", "user"),
            ("https://exa mple.org", "is not a URL"),
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

    #[tokio::test]
    async fn a_server_is_believed_by_its_authority_alone() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = acceptor.accept(stream).await;
            }
        });
        let url = format!("https://localhost:{}", address.port());
        let pem = made.cert.pem();
        let own = Endpoint::parse_with(&url, Some(pem.as_bytes())).unwrap();
        assert!(own.connect().await.is_ok());
        let others = Endpoint::parse(&url).unwrap().connect().await.err().unwrap();
        assert!(matches!(others, ClientError::Untrusted { .. }), "{others:?}");
        // Its certificate is for another name.
        let by_address = format!("https://127.0.0.1:{}", address.port());
        let other =
            Endpoint::parse_with(&by_address, Some(pem.as_bytes())).unwrap().connect().await.err().unwrap();
        assert!(matches!(other, ClientError::Untrusted { .. }), "{other:?}");
        assert!(matches!(Endpoint::parse_with(&url, Some(b"")), Err(ClientError::Authorities { .. })));
    }
}
