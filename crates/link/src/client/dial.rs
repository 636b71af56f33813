//! From a list of addresses to a connection: TCP (or a proxy's tunnel), TLS, HTTP/2.

use super::{
    connection::{Connection, Watched},
    proxy::Proxy,
};
use crate::{
    ended::KeepAlive,
    error::{Attempt, LinkError},
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, io, net::IpAddr, str::FromStr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Where a server listens for agents when nothing else is said.
pub(super) const DEFAULT_PORT: u16 = 7443;

/// The configuration for the next handshake; asked each time, since certificates rotate.
pub type ClientTls = Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>;

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a server's address; write host:port, such as lattice.example:7443 or [fd00::1]:7443")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    /// `host`, `host:port`, `[v6]`, `[v6]:port`; the port is 7443 unless said.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let fail = || InvalidAddress(text.chars().take(80).collect());
        let text = text.trim();
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port: DEFAULT_PORT });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| fail())?),
            _ => (text, DEFAULT_PORT),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        // A name or an address as TLS knows it: nothing that could break a header or a log line.
        ServerName::try_from(host).map_err(|_| fail())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Makes connections to a server.
#[derive(Clone)]
pub struct Dialer {
    /// Tried in order until one answers.
    pub addresses: Vec<Address>,
    /// The name that the server's certificate must have; each address's host when absent.
    pub server_name: Option<ServerName<'static>>,
    /// With the node's certificate, or without one to enrol.
    pub tls: ClientTls,
    /// The way out, where there is only one.
    pub proxy: Option<Proxy>,
    /// For TCP to one IP address, the proxy's answer, and TLS: each of them.
    pub timeout: Duration,
    /// How a silent server is noticed.
    pub keepalive: KeepAlive,
    /// HTTP/2 window of a stream, in bytes: what the server may have sent that nobody read yet.
    pub window: u32,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addresses, server_name, tls: _, proxy, timeout, keepalive, window } = self;
        f.debug_struct("Dialer")
            .field("addresses", addresses)
            .field("server_name", server_name)
            .field("proxy", proxy)
            .field("timeout", timeout)
            .field("keepalive", keepalive)
            .field("window", window)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    /// Without a proxy, with timeouts of 10 s.
    pub fn new(addresses: Vec<Address>, tls: ClientTls) -> Self {
        Self {
            addresses,
            server_name: None,
            tls,
            proxy: None,
            timeout: Duration::from_secs(10),
            keepalive: KeepAlive::default(),
            window: 256 << 10,
        }
    }

    /// A connection to the first address that answers.
    ///
    /// # Errors
    /// [`LinkError::Tls`] when any address answered and was not trusted, else what the proxy
    /// said, else [`LinkError::Unreachable`] with what happened at each address.
    pub async fn dial(&self) -> Result<Connection, LinkError> {
        let mut attempts = Vec::new();
        let mut telling = None;
        for address in &self.addresses {
            match self.dial_one(address).await {
                Ok(connection) => return Ok(connection),
                Err(LinkError::Unreachable(more)) => attempts.extend(more),
                Err(error @ LinkError::Tls { .. }) => telling = Some(error),
                Err(error) => telling = telling.or(Some(error)),
            }
        }
        Err(telling.unwrap_or(LinkError::Unreachable(attempts)))
    }

    async fn dial_one(&self, address: &Address) -> Result<Connection, LinkError> {
        let unreachable =
            |problem: String| LinkError::Unreachable(vec![Attempt { address: address.to_string(), problem }]);
        let tcp = match &self.proxy {
            None => self.tcp(&address.host, address.port).await.map_err(|e| unreachable(e.to_string()))?,
            Some(proxy) => {
                let failed = |problem| LinkError::Proxy { proxy: proxy.to_string(), status: None, problem };
                let (host, port) = proxy.target();
                let mut tcp = self.tcp(host, port).await.map_err(|e| failed(e.to_string()))?;
                let authority = address.to_string();
                match timeout(self.timeout, proxy.tunnel(&mut tcp, &authority)).await {
                    Ok(result) => result?,
                    Err(_) => return Err(failed("it did not answer in time".into())),
                }
                tcp
            }
        };
        tcp.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let local = tcp.local_addr().ok();
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.host.clone())
                .map_err(|_| unreachable("it is neither a name nor an IP address".into()))?,
        };
        let connector = TlsConnector::from((self.tls)());
        let connecting = connector.with_alpn(vec![b"h2".to_vec()]).connect(name.clone(), tcp);
        let stream = match timeout(self.timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(tls_error(address, error)),
            Err(_) => return Err(unreachable("the TLS handshake took too long".into())),
        };
        Connection::start(Watched::new(stream), local, address, &name, self).await
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in timeout(self.timeout, lookup_host((host, port))).await.map_err(late)?? {
            match timeout(self.timeout, TcpStream::connect(addr)).await.map_err(late).flatten() {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn tls_error(address: &Address, error: io::Error) -> LinkError {
    let address = address.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(source) => LinkError::Tls { address, source: source.clone() },
        None => {
            let problem = format!("the TLS handshake was cut off: {error}");
            LinkError::Unreachable(vec![Attempt { address, problem }])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_what_they_print() {
        for (text, printed) in [
            ("lattice.example", "lattice.example:7443"),
            ("lattice.example:443", "lattice.example:443"),
            ("10.0.0.1", "10.0.0.1:7443"),
            ("::1", "[::1]:7443"),
            ("[fd00::1]:443", "[fd00::1]:443"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<Address>().unwrap(), address);
        }
        for text in ["", "a b", "host:99999", "host:", "a\r\nb:1", ":7443"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
