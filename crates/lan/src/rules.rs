//! Rules as data: one list that is both written for nftables and applied to packets of tests.

use crate::allow::Transport;
use ipnet::IpNet;
use std::{fmt::Write as _, net::IpAddr};

/// Where the kernel asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The packet is for somebody else.
    Forward,
    /// The packet is for this host.
    Input,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These rules have nothing against it.
    Pass,
    /// It is refused, and the sender told so.
    Refuse,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of either version; whether it is a question about who is next door.
    Icmp {
        /// Neighbour discovery, without which there is no IPv6.
        neighbour: bool,
    },
    /// Anything else.
    Other,
}

/// A packet, as far as rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Where the kernel asks.
    pub hook: Hook,
    /// The interface by which it came.
    pub from: &'a str,
    /// The one by which it is to leave; nothing at [`Hook::Input`].
    pub to: Option<&'a str>,
    /// To whom.
    pub destination: IpAddr,
    /// Carrying what.
    pub protocol: Protocol,
    /// To which port.
    pub port: Option<u16>,
    /// Whether it answers a connection that the other side began.
    pub reply: bool,
    /// Whether it is an ICMP message about such a connection.
    pub related: bool,
    /// Whether the way to its destination is the interface by which it came.
    pub stays: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It answers.
    Reply,
    /// It is a message about a connection that is there.
    RelatedIcmp,
    /// It is to leave by a bridge of Lattice.
    ToBridge,
    /// The way to its destination is the bridge by which it came.
    Stays,
    /// To an address that no router passes on: it can only be on the same bridge.
    LinkOnly,
    /// Who is next door.
    Neighbour,
    /// To these.
    To(IpNet),
    /// To any that is closed.
    Closed,
    /// By this protocol.
    Transport(Transport),
    /// By TCP or UDP, to these ports.
    Ports(u16, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Match>,
    pub(crate) verdict: Verdict,
}

impl Rule {
    pub(crate) fn pass(conditions: Vec<Match>) -> Self {
        Self { conditions, verdict: Verdict::Pass }
    }

    pub(crate) fn refuse(conditions: Vec<Match>) -> Self {
        Self { conditions, verdict: Verdict::Refuse }
    }
}

/// What the rules are about, besides the packet.
pub(crate) struct Surroundings<'a> {
    pub(crate) is_bridge: &'a dyn Fn(&str) -> bool,
    pub(crate) closed: &'a [IpNet],
}

/// The first rule that matches decides; without one the packet passes.
pub(crate) fn judge(rules: &[Rule], packet: &Packet<'_>, around: &Surroundings<'_>) -> Verdict {
    let hit = rules.iter().find(|rule| rule.conditions.iter().all(|one| one.holds(packet, around)));
    hit.map_or(Verdict::Pass, |rule| rule.verdict)
}

impl Match {
    fn holds(&self, packet: &Packet<'_>, around: &Surroundings<'_>) -> bool {
        let net = |text: &str| text.parse::<IpNet>().is_ok_and(|net| net.contains(&packet.destination));
        match self {
            Self::Reply => packet.reply,
            Self::RelatedIcmp => packet.related && matches!(packet.protocol, Protocol::Icmp { .. }),
            Self::ToBridge => packet.to.is_some_and(around.is_bridge),
            Self::Stays => packet.stays,
            Self::LinkOnly => LINK_ONLY_4.iter().chain(&LINK_ONLY_6).any(|text| net(text)),
            Self::Neighbour => packet.protocol == Protocol::Icmp { neighbour: true },
            Self::To(to) => to.contains(&packet.destination),
            Self::Closed => around.closed.iter().any(|closed| closed.contains(&packet.destination)),
            Self::Transport(Transport::Tcp) => packet.protocol == Protocol::Tcp,
            Self::Transport(Transport::Udp) => packet.protocol == Protocol::Udp,
            Self::Ports(first, last) => {
                matches!(packet.protocol, Protocol::Tcp | Protocol::Udp)
                    && packet.port.is_some_and(|port| (*first..=*last).contains(&port))
            }
        }
    }
}

const LINK_ONLY_4: [&str; 2] = ["224.0.0.0/24", "255.255.255.255/32"];
const LINK_ONLY_6: [&str; 2] = ["fe80::/10", "ff02::/16"];

/// A rule as nftables reads it; one line each, and two where a condition differs by the version of IP.
pub(crate) fn write(rule: &Rule, bridges: &[String], text: &mut String) {
    let mut variants = vec![String::new()];
    let mut transport = None;
    for one in &rule.conditions {
        let words: Vec<String> = match one {
            Match::Reply => vec!["ct direction reply".into()],
            Match::RelatedIcmp => vec!["ct state related meta l4proto { icmp, ipv6-icmp }".into()],
            Match::ToBridge => bridges.iter().map(|name| format!("oifname \"{name}\"")).collect(),
            Match::Stays => vec!["fib daddr . iif oif exists".into()],
            Match::LinkOnly => vec![
                format!("ip daddr {{ {} }}", LINK_ONLY_4.join(", ")),
                format!("ip6 daddr {{ {} }}", LINK_ONLY_6.join(", ")),
            ],
            Match::Neighbour => vec!["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }".into()],
            Match::To(net) => {
                vec![format!("{} daddr {net}", if net.addr().is_ipv4() { "ip" } else { "ip6" })]
            }
            Match::Closed => vec!["ip daddr @closed4".into(), "ip6 daddr @closed6".into()],
            Match::Transport(by) => {
                transport = Some(*by);
                vec![format!("meta l4proto {}", by.as_str())]
            }
            Match::Ports(first, last) => {
                let both = if transport.is_none() { "meta l4proto { tcp, udp } " } else { "" };
                let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
                vec![format!("{both}th dport {ports}")]
            }
        };
        let with = |variant: &String| {
            let space = if variant.is_empty() { "" } else { " " };
            words.iter().map(|word| format!("{variant}{space}{word}")).collect::<Vec<_>>()
        };
        variants = variants.iter().flat_map(with).collect();
    }
    let verdict = match rule.verdict {
        Verdict::Pass => "accept",
        Verdict::Refuse => "counter reject with icmpx admin-prohibited",
    };
    for variant in variants {
        let space = if variant.is_empty() { "" } else { " " };
        let _ = writeln!(text, "\t\t{variant}{space}{verdict}");
    }
}
