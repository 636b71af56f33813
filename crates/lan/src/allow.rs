//! One line of the owner's list: to whom, which ports, by which protocol.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// Whom containers may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// This machine, by any of its addresses.
    Host,
    /// These addresses.
    Net(IpNet),
}

/// By which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// An exception: `192.168.1.20:5432/tcp`, `192.168.1.0/24`, `[fd00::5]:53/udp`, `host:11434`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Allow {
    /// Whom.
    pub to: Target,
    /// Which ports, both ends included; all of them unless said.
    pub ports: Option<(u16, u16)>,
    /// By which protocol. Unless said: TCP and UDP where ports are named, else any.
    pub transport: Option<Transport>,
}

/// What is wrong with a line, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {problem}")]
pub struct AllowError {
    text: String,
    problem: String,
}

impl FromStr for Allow {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        parse(text.trim()).map_err(|problem| AllowError { text: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Allow, String> {
    let (rest, transport) = match text.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(Transport::Tcp)),
        Some((rest, "udp")) => (rest, Some(Transport::Udp)),
        Some((_, other)) if other.chars().any(|c| c.is_ascii_alphabetic()) && !other.contains(':') => {
            return Err(format!("{other} is neither tcp nor udp"));
        }
        _ => (text, None),
    };
    let (address, ports) = if let Some(inner) = rest.strip_prefix('[') {
        let (address, ports) = inner.split_once(']').ok_or("the ] is missing")?;
        match ports.strip_prefix(':') {
            Some(ports) => (address, Some(ports)),
            None if ports.is_empty() => (address, None),
            None => return Err("write [ADDRESS]:PORT".into()),
        }
    } else if rest.matches(':').count() == 1 {
        let (address, ports) = rest.split_once(':').unwrap_or((rest, ""));
        (address, Some(ports))
    } else {
        // Several colons are an address of IPv6 without a port.
        (rest, None)
    };
    Ok(Allow { to: target(address)?, ports: ports.map(port_range).transpose()?, transport })
}

fn target(text: &str) -> Result<Target, String> {
    if text == "host" {
        return Ok(Target::Host);
    }
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            "write an address such as 192.168.1.20, a range such as 192.168.1.0/24, or host; names of computers change \
             their meaning and are not taken"
                .to_owned()
        })?,
    };
    if net.trunc() != net {
        return Err(format!(
            "the range is written {}, or one address without /{}",
            net.trunc(),
            net.prefix_len()
        ));
    }
    if net.prefix_len() == 0 {
        return Err("that is everything; to open the whole network, set lan.access = \"open\"".into());
    }
    Ok(Target::Net(net))
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is no port; write a number from 1 to 65535, or two as 5000-5100")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("{first}-{last}: the first port is above the last"));
    }
    Ok((first, last))
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.to {
            Target::Host => "host".to_owned(),
            Target::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
            Target::Net(net) => net.to_string(),
        };
        match (self.ports, address.contains(':')) {
            (None, _) => f.write_str(&address)?,
            (Some(_), true) => write!(f, "[{address}]")?,
            (Some(_), false) => f.write_str(&address)?,
        }
        match self.ports {
            None => {}
            Some((first, last)) if first == last => write!(f, ":{first}")?,
            Some((first, last)) => write!(f, ":{first}-{last}")?,
        }
        match self.transport {
            None => Ok(()),
            Some(transport) => write!(f, "/{}", transport.as_str()),
        }
    }
}

impl TryFrom<String> for Allow {
    type Error = AllowError;

    fn try_from(text: String) -> Result<Self, AllowError> {
        text.parse()
    }
}

impl From<Allow> for String {
    fn from(allow: Allow) -> Self {
        allow.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_owners_write_is_understood_and_written_back() {
        for text in [
            "192.168.1.20",
            "192.168.1.20:5432",
            "192.168.1.20:5432/tcp",
            "192.168.1.0/24",
            "192.168.1.0/24:443/tcp",
            "192.168.1.0/24/udp",
            "host",
            "host:11434/tcp",
            "host:5000-5100",
            "fd00::5",
            "fd00::/64",
            "[fd00::5]:53/udp",
            "[fd00::/64]:443",
        ] {
            assert_eq!(text.parse::<Allow>().unwrap().to_string(), text);
        }
        assert_eq!("[fd00::5]".parse::<Allow>().unwrap().to_string(), "fd00::5");
        for (text, word) in [
            ("printer.local", "names of computers"),
            ("192.168.1.20/24", "192.168.1.0/24"),
            ("0.0.0.0/0", "lan.access"),
            ("::/0", "lan.access"),
            ("192.168.1.20:0", "no port"),
            ("192.168.1.20:70000", "no port"),
            ("192.168.1.20:9-5", "above"),
            ("192.168.1.20:80/sctp", "neither tcp nor udp"),
            ("[fd00::5:80", "]"),
            ("[fd00::5]80", "[ADDRESS]:PORT"),
            ("", "write an address"),
        ] {
            let error = text.parse::<Allow>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
