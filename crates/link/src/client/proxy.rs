//! A tunnel through an HTTP proxy: CONNECT, with Basic authentication where the URL has it.

use crate::error::LinkError;
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{fmt, str::FromStr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zeroize::Zeroizing;

/// The longest answer of a proxy that is read, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// An HTTP proxy, from a URL as in `HTTPS_PROXY`. `Debug` and `Display` hide its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// `user:password`.
    credentials: Option<Zeroizing<String>>,
}

/// Why a text is not a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy's URL {problem}; write http://host:port or http://user:password@host:port")]
pub struct InvalidProxy {
    problem: &'static str,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let fail = |problem| InvalidProxy { problem };
        let rest = match text.trim().split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(fail("has a scheme other than http")),
            None => text.trim(),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => {
                let credentials =
                    percent_decode(credentials).ok_or(fail("has credentials that are not text"))?;
                (Some(Zeroizing::new(credentials)), host)
            }
            None => (None, rest),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| fail("has a port that is not a number"))?)
            }
            _ => (host, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(fail("has no host"));
        }
        Ok(Self { host: host.to_owned(), port, credentials })
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}

/// What the head of an answer says: the status, or what is wrong with it.
fn status(head: &[u8]) -> Result<(u16, String), &'static str> {
    let line = head.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut parts = line.splitn(3, ' ');
    if !parts.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("it does not speak HTTP");
    }
    let status = parts.next().and_then(|code| code.parse().ok()).ok_or("its answer has no status")?;
    let reason = parts.next().unwrap_or_default();
    Ok((status, reason.chars().filter(|c| !c.is_control()).take(80).collect()))
}

impl Proxy {
    /// Host and port, to dial.
    pub(super) fn target(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Asks for a tunnel to `authority` (`host:port`) over a fresh connection to the proxy.
    pub(super) async fn tunnel(&self, tcp: &mut TcpStream, authority: &str) -> Result<(), LinkError> {
        let failed = |status, problem: String| LinkError::Proxy { proxy: self.to_string(), status, problem };
        let mut request = Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"));
        if let Some(credentials) = &self.credentials {
            let encoded = Zeroizing::new(BASE64_STANDARD.encode(credentials.as_bytes()));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&encoded);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes()).await.map_err(|e| failed(None, e.to_string()))?;
        // A TLS server says nothing before its client does: whatever comes is the proxy's head.
        let mut head = Vec::with_capacity(512);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(failed(None, "its answer is too long".into()));
            }
            let mut chunk = [0; 512];
            match tcp.read(&mut chunk).await {
                Ok(0) => return Err(failed(None, "it closed the connection".into())),
                Ok(n) => head.extend_from_slice(&chunk[..n]),
                Err(error) => return Err(failed(None, error.to_string())),
            }
        }
        match status(&head) {
            Ok((code, _)) if (200..300).contains(&code) && head.ends_with(b"\r\n\r\n") => Ok(()),
            Ok((code, _)) if (200..300).contains(&code) => {
                Err(failed(Some(code), "something answered in the place of the server".into()))
            }
            Ok((code, reason)) => Err(failed(Some(code), format!("it answered {code} {reason}"))),
            Err(problem) => Err(failed(None, problem.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_and_credentials_hidden() {
        let proxy: Proxy = "http://me:p%40ss@proxy.example:3128/".parse().unwrap();
        assert_eq!(proxy.target(), ("proxy.example", 3128));
        assert_eq!(proxy.credentials.as_ref().unwrap().as_str(), "me:p@ss");
        assert_eq!(format!("{proxy:?} {proxy}"), "Proxy(proxy.example:3128) proxy.example:3128");
        assert_eq!("[::1]:8080".parse::<Proxy>().unwrap().target(), ("::1", 8080));
        assert_eq!("http://[::1]".parse::<Proxy>().unwrap().target(), ("::1", 80));
        for text in ["", "https://a:1", "http://:80", "http://a:b", "socks5://a:1"] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_url_and_no_answer_panics(text in ".{0,60}", head in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = text.parse::<Proxy>();
            let _ = status(&head);
        }
    }
}
