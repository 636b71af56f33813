//! `ports` and `expose`: the short forms in all their shapes and the long form.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    service::Placed,
    yaml::{Mapping, Node, Span, Value},
};
use lattice_model::spec::{ContainerPort, PortSpec, Protocol};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

/// The most ports that one service may publish, and expose: a node opens a socket for each.
const MAX_PORTS: usize = 1000;

const FORMS: &str = "Write `8080:80`, `127.0.0.1:8080:80`, `[::1]:8080:80`, `53:53/udp`, `8000-8010:8000-8010`, or `80` for a free port of the node";

type Range = (u16, u16);

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last && (first > 0 || last == 0)).then_some((first, last))
}

fn width((first, last): Range) -> usize {
    usize::from(last - first) + 1
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err("the protocol sctp is not carried; there are tcp and udp".into()),
        _ => Err(format!("`{}` is no protocol; there are tcp and udp", show(text))),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        // An address that hides another would slip past the check for collisions.
        Ok(IpAddr::V6(v6)) => Ok(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)),
        Ok(v4) => Ok(v4),
        Err(_) => Err(format!("`{}` is no IP address of the node", show(text))),
    }
}

/// One short form: container ports, ports of the node, address, protocol.
struct Short {
    target: Range,
    published: Option<Range>,
    host_ip: Option<IpAddr>,
    protocol: Protocol,
}

fn short(text: &str) -> Result<Short, String> {
    let (text, protocol) = match text.rsplit_once('/') {
        Some((text, name)) => (text, protocol(name)?),
        None => (text, Protocol::Tcp),
    };
    let bad = |what: &str| format!("`{}` is no {what} (1 to 65535, or a range)", show(text));
    let (host, target) = text.rsplit_once(':').map_or((None, text), |(host, target)| (Some(host), target));
    let target = range(target).filter(|(first, _)| *first > 0).ok_or_else(|| bad("port of the container"))?;
    let Some(host) = host else {
        return Ok(Short { target, published: None, host_ip: None, protocol });
    };
    let (host_ip, published) = match host.rsplit_once(':') {
        Some((ip, published)) => (Some(address(ip)?), published),
        None => (None, host),
    };
    let published = match published {
        "" if host_ip.is_some() => None,
        // The node chooses, as with no port at all.
        "0" => None,
        text => Some(range(text).ok_or_else(|| bad("port of the node"))?),
    };
    Ok(Short { target, published, host_ip, protocol })
}

impl Reader<'_> {
    pub(crate) fn ports(&mut self, node: &Node, path: &Path<'_>) -> Vec<Placed<PortSpec>> {
        let mut ports = Vec::new();
        if node.is_null() {
            return ports;
        }
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            match &*item.value {
                _ if item.is_broken() => {}
                Value::Mapping(entries) => self.long_port(entries, item.span, &at, &mut ports),
                Value::Scalar(text, _) => match short(text) {
                    Ok(form) => self.expand(form, item.span, &at, &mut ports),
                    Err(message) => self.error(Code::Invalid, item.span, at, message, FORMS),
                },
                Value::Sequence(_) => {
                    self.expected::<()>(item, &at, "a port", FORMS);
                }
            }
            if ports.len() > MAX_PORTS {
                let message = format!("the service publishes more than {MAX_PORTS} ports");
                self.error(
                    Code::Limit,
                    item.span,
                    at,
                    message,
                    "Publish the few that are needed from outside; services of the stack reach every port",
                );
                ports.truncate(MAX_PORTS);
                break;
            }
        }
        ports
    }

    fn expand(&mut self, form: Short, span: Span, path: &Path<'_>, ports: &mut Vec<Placed<PortSpec>>) {
        let Short { target, published, host_ip, protocol } = form;
        if let Some(range) = published
            && target.0 == target.1
            && range.0 < range.1
        {
            // One of these, whichever is free.
            let value = PortSpec {
                target: ContainerPort { port: target.0, protocol },
                published: Some(range.0),
                published_to: Some(range.1),
                host_ip,
            };
            ports.push(Placed { value, span, path: path.to_string() });
            return;
        }
        if let Some(published) = published
            && width(published) != width(target)
        {
            let message = "the two ranges have different lengths";
            self.error(Code::Invalid, span, path, message, "Give both ranges the same number of ports");
            return;
        }
        for offset in 0..width(target).min(MAX_PORTS + 1) {
            let offset = u16::try_from(offset).unwrap_or(0);
            let value = PortSpec {
                published_to: None,
                target: ContainerPort { port: target.0 + offset, protocol },
                published: published.map(|(first, _)| first + offset),
                host_ip,
            };
            ports.push(Placed { value, span, path: path.to_string() });
        }
    }

    fn long_port(
        &mut self,
        entries: &Mapping,
        span: Span,
        path: &Path<'_>,
        ports: &mut Vec<Placed<PortSpec>>,
    ) {
        self.check_keys(entries, path, &keys::PORT);
        if let Some(entry) = entries.get("mode") {
            let at = path.key("mode");
            match self.text(&entry.value, &at) {
                None | Some("host" | "ingress") => {}
                Some(_) => {
                    self.expected::<()>(
                        &entry.value,
                        &at,
                        "`host` or `ingress`",
                        "Remove it: both publish on the node here",
                    );
                }
            }
        }
        let mut field = |key: &str, read: &dyn Fn(&str) -> Result<(), String>| -> bool {
            let Some(entry) = entries.get(key) else { return true };
            let at = path.key(key);
            let Some(text) = self.text(&entry.value, &at) else { return false };
            match read(text) {
                Ok(()) => true,
                Err(message) => {
                    self.error(Code::Invalid, entry.value.span, at, message, "");
                    false
                }
            }
        };
        let mut form = Short { target: (0, 0), published: None, host_ip: None, protocol: Protocol::Tcp };
        let cell = std::cell::RefCell::new(&mut form);
        let wrong = |what: &str, text: &str| format!("`{}` is no {what} (1 to 65535)", show(text));
        let ok = field("target", &|text| {
            cell.borrow_mut().target = range(text)
                .filter(|r| r.0 > 0 && r.0 == r.1)
                .ok_or_else(|| wrong("port of the container", text))?;
            Ok(())
        }) & field("published", &|text| {
            cell.borrow_mut().published = match text {
                "0" | "" => None,
                text => Some(range(text).ok_or_else(|| wrong("port of the node", text))?),
            };
            Ok(())
        }) & field("protocol", &|text| {
            cell.borrow_mut().protocol = protocol(text)?;
            Ok(())
        }) & field("host_ip", &|text| {
            cell.borrow_mut().host_ip = if text.is_empty() { None } else { Some(address(text)?) };
            Ok(())
        });
        if !entries.contains_key("target") {
            self.error(
                Code::Invalid,
                span,
                path,
                "the port has no `target`",
                "Write `target: 80`, the port inside the container",
            );
        } else if ok {
            self.expand(form, span, path, ports);
        }
    }

    pub(crate) fn expose(&mut self, node: &Node, path: &Path<'_>) -> BTreeSet<ContainerPort> {
        let mut exposed = BTreeSet::new();
        if node.is_null() {
            return exposed;
        }
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            let Some(text) = self.text(item, &at) else { continue };
            match short(text) {
                Ok(Short { target, published: None, host_ip: None, protocol }) if !text.contains(':') => {
                    exposed.extend((target.0..=target.1).map(|port| ContainerPort { port, protocol }));
                }
                Ok(_) => {
                    let hint = "Write `ports` to publish one on the node";
                    self.error(
                        Code::Invalid,
                        item.span,
                        at,
                        "`expose` takes ports of the container only",
                        hint,
                    );
                }
                Err(message) => {
                    self.error(Code::Invalid, item.span, at, message, "Write `3000`, `53/udp` or `3000-3005`")
                }
            }
            if exposed.len() > MAX_PORTS {
                let message = format!("the service exposes more than {MAX_PORTS} ports");
                self.error(
                    Code::Limit,
                    item.span,
                    path,
                    message,
                    "Services of the stack reach every port; name the important ones",
                );
                break;
            }
        }
        exposed
    }
}

/// What makes a port of a list distinct, for merging files: the same again replaces it.
pub(crate) fn identity(item: &Node) -> Option<String> {
    match &*item.value {
        Value::Mapping(map) => {
            let text = |key| map.get(key).and_then(|e| e.value.as_text()).unwrap_or_default();
            let protocol = Some(text("protocol")).filter(|p| !p.is_empty()).unwrap_or("tcp");
            Some(format!("{}|{}|{}|{protocol}", text("host_ip"), text("published"), text("target")))
        }
        _ => {
            let text = item.as_text()?;
            let (text, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
            let (host, target) = text.rsplit_once(':').unwrap_or(("", text));
            let (ip, published) = host.rsplit_once(':').unwrap_or(("", host));
            Some(format!("{ip}|{published}|{target}|{protocol}"))
        }
    }
}

/// Whether two published ports want the same socket. Without an address the owner of the node
/// may allow every one, so it meets them all.
pub(crate) fn collide(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => {
            // `::` takes IPv4 as well on common systems.
            let all = |ip: IpAddr, other: IpAddr| {
                ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || (ip.is_unspecified() && other.is_ipv4())
            };
            a == b || all(a, b) || all(b, a)
        }
    }
}
