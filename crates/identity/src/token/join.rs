//! Join tokens: one word with all that a new node needs to find and to trust its cluster.
//!
//! Payload: `token id (16) | root fingerprint (32) | secret (32) | number of servers (1) | for each:
//! port (2), length of host (1), host`. Binary, not JSON: shorter by half, and nothing to guess.

use super::{
    TokenParseError, TokenSecret,
    envelope::{self, MAX_TOKEN, Reader},
    record::Presented,
};
use crate::{Fingerprint, IdentityError};
use lattice_model::TokenId;
use rustls_pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};
use zeroize::Zeroizing;

const PREFIX: &str = "lat1_";
/// The most server addresses in a token.
pub const MAX_SERVERS: usize = 8;

/// Where a server is reached: `host:port`, the host a DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// Checks and wraps.
    ///
    /// # Errors
    /// [`IdentityError::NotA`] when the host is neither DNS name nor IP address, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, IdentityError> {
        let wrong = || {
            IdentityError::not_a("a server address", &format!("{host}:{port}"), "lattice.example.org:7443")
        };
        // One spelling per address, e.g. of IPv6.
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => DnsName::try_from(host).map_err(|_| wrong())?.as_ref().to_ascii_lowercase(),
        };
        if port == 0 || host.len() > 253 {
            return Err(wrong());
        }
        Ok(Self { host, port })
    }

    /// The DNS name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that the server's certificate must have.
    ///
    /// # Errors
    /// [`IdentityError::NotA`]; does not happen for a checked address.
    pub fn server_name(&self) -> Result<ServerName<'static>, IdentityError> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| IdentityError::not_a("a server name", &self.host, "lattice.example.org"))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let wrong = || {
            IdentityError::not_a("a server address", text, "lattice.example.org:7443 or [2001:db8::1]:7443")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':')).ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        Self::new(host, port).map_err(|_| wrong())
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

/// A join token. `Debug` leaves the secret out; [`JoinToken::reveal`] is the token itself.
#[derive(Clone)]
pub struct JoinToken {
    servers: Vec<ServerAddress>,
    root: Fingerprint,
    id: TokenId,
    secret: TokenSecret,
}

impl JoinToken {
    /// Puts one together; the caller stores a [`super::TokenRecord`] with the secret's hash.
    ///
    /// # Errors
    /// [`IdentityError::BadToken`] unless there are 1 to 8 servers and the token stays within 2 KiB.
    pub fn new(
        servers: Vec<ServerAddress>,
        root: Fingerprint,
        id: TokenId,
        secret: TokenSecret,
    ) -> Result<Self, IdentityError> {
        if servers.is_empty() || servers.len() > MAX_SERVERS {
            return Err(IdentityError::BadToken { problem: "a join token names 1 to 8 server addresses" });
        }
        let token = Self { servers, root, id, secret };
        if token.reveal().len() > MAX_TOKEN {
            return Err(IdentityError::BadToken {
                problem: "the server addresses are too long together; name fewer",
            });
        }
        Ok(token)
    }

    /// Reads a token; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenParseError`] tells damage from another kind of token.
    pub fn parse(text: &str) -> Result<Self, TokenParseError> {
        let payload = envelope::decode("a join token", PREFIX, text)?;
        let mut reader = Reader(&payload);
        let id = reader.token_id()?;
        let root = Fingerprint::from_bytes(reader.array()?);
        let secret = TokenSecret::from_bytes(reader.array()?);
        let [count] = reader.array()?;
        if count == 0 || usize::from(count) > MAX_SERVERS {
            return Err(TokenParseError::Unknown);
        }
        let mut servers = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let port = u16::from_be_bytes(reader.array()?);
            let [length] = reader.array()?;
            let host = std::str::from_utf8(reader.bytes(usize::from(length))?)
                .map_err(|_| TokenParseError::Unknown)?;
            servers.push(ServerAddress::new(host, port).map_err(|_| TokenParseError::Unknown)?);
        }
        reader.end()?;
        Ok(Self { servers, root, id, secret })
    }

    /// The token as the person carries it. **A secret**: to a terminal, a file, never to a log.
    pub fn reveal(&self) -> Zeroizing<String> {
        let Self { servers, root, id, secret } = self;
        let mut payload = Zeroizing::new(Vec::with_capacity(MAX_TOKEN));
        payload.extend_from_slice(id.uuid().as_bytes());
        payload.extend_from_slice(root.as_bytes());
        payload.extend_from_slice(secret.expose());
        payload.push(u8::try_from(servers.len()).unwrap_or(0));
        for ServerAddress { host, port } in servers {
            payload.extend_from_slice(&port.to_be_bytes());
            payload.push(u8::try_from(host.len()).unwrap_or(0));
            payload.extend_from_slice(host.as_bytes());
        }
        envelope::encode(PREFIX, &payload)
    }

    /// Where to connect, in order of preference.
    pub fn servers(&self) -> &[ServerAddress] {
        &self.servers
    }

    /// The root certificate to trust, and no other.
    pub fn root(&self) -> Fingerprint {
        self.root
    }

    /// Names the token's record.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The secret.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }

    /// What the agent presents to the server.
    pub fn presented(&self) -> Presented {
        Presented { id: self.id, secret: self.secret.clone(), root: self.root }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, root, id, secret } = self;
        f.debug_struct("JoinToken")
            .field("id", id)
            .field("servers", servers)
            .field("root", root)
            .field("secret", secret)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(hosts: &[String], seed: [u8; 32]) -> JoinToken {
        let servers = hosts.iter().map(|host| ServerAddress::new(host, 7443).unwrap()).collect();
        let id = TokenId::from_random(5);
        JoinToken::new(servers, Fingerprint::of(&seed), id, TokenSecret::from_bytes(seed)).unwrap()
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9]{0,20}(\\.[a-z]{1,10}){0,3}",
            any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            any::<[u8; 16]>().prop_map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        ]
    }

    proptest! {
        #[test]
        fn a_token_comes_back_as_it_was(hosts in prop::collection::vec(host(), 1..=8), seed: [u8; 32]) {
            let token = token(&hosts, seed);
            let text = token.reveal();
            prop_assert!(text.len() <= MAX_TOKEN && !text.contains(char::is_whitespace));
            let back = JoinToken::parse(&format!("  {}\r\n", *text)).unwrap();
            prop_assert_eq!(back.servers(), token.servers());
            prop_assert_eq!((back.id(), back.root()), (token.id(), token.root()));
            prop_assert_eq!(back.secret().expose(), token.secret().expose());
            for address in back.servers() {
                prop_assert_eq!(&address.to_string().parse::<ServerAddress>().unwrap(), address);
            }
        }
    }

    #[test]
    fn every_single_typo_and_every_truncation_is_refused() {
        let text = token(&["lattice.example.org".to_owned(), "192.0.2.7".to_owned()], [3; 32]).reveal();
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for at in 0..text.len() {
            for other in ALPHABET.chars().filter(|c| !text[at..].starts_with(*c)) {
                let typo = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert!(JoinToken::parse(&typo).is_err(), "{other} at {at}");
            }
            assert!(JoinToken::parse(&text[..at]).is_err(), "cut at {at}");
            assert!(JoinToken::parse(&text[at + 1..]).is_err());
        }
        assert_eq!(JoinToken::parse(&text[..40]).unwrap_err(), TokenParseError::Damaged);
        assert_eq!(JoinToken::parse(&"x".repeat(3000)).unwrap_err(), TokenParseError::TooLong);
        assert!(matches!(JoinToken::parse("lap1_AAAA"), Err(TokenParseError::OtherKind { .. })));
    }

    #[test]
    fn debug_shows_no_secret_and_bad_addresses_are_named() {
        let token = token(&["a.example".to_owned()], [0xab; 32]);
        let shown = format!("{token:?}");
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
        for text in [
            "host",
            "host:",
            "host:0",
            "host:70000",
            ":7443",
            "a b:1",
            "::1:7443",
            "[::1]",
            "[a.b]:1",
            "x/y:1",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
        assert_eq!("[2001:DB8::1]:7443".parse::<ServerAddress>().unwrap().to_string(), "[2001:db8::1]:7443");
        let long: Vec<_> =
            (0..8).map(|_| format!("{}.example", "a.".repeat(110).trim_end_matches('.'))).collect();
        let servers = long.iter().map(|host| ServerAddress::new(host, 1).unwrap()).collect();
        let made = JoinToken::new(servers, token.root(), token.id(), token.secret().clone());
        assert!(matches!(made, Err(IdentityError::BadToken { .. })));
    }
}
