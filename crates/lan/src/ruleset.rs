//! What is to hold on one node, and its text for nftables.
//!
//! A packet that a container sends is looked at in three places:
//! 1. before routing: one whose sender's address does not belong on its bridge is dropped, so that nobody makes
//!    the kernel believe in a connection from the LAN;
//! 2. to others: answers pass, then what stays on its bridge, the resolvers, what the owner allows; other bridges of
//!    Lattice and all that is closed are refused; the rest is the internet;
//! 3. to this host: answers, neighbours, resolvers and what the owner allows pass, and nothing else.
//!
//! Where the owner limits how fast work may send and receive, what passes between a bridge and others is counted, after it
//! was let through: all bridges of a node together, each way by itself. What is more than that is dropped, by which
//! senders learn to send less; what stays on a node is not counted.
//!
//! Only answers pass unseen, not all of a connection that is there: one that began before the LAN was closed, or
//! before a route came, ends with the next packet. A refusal is a message and no silence: whoever is
//! refused knows at once, and it says the same of addresses where nobody is.

use crate::{
    allow::{Allow, Target, Transport},
    closed::closed,
    error::LanError,
    facts::Facts,
    rules::{Hook, Match, Packet, Rule, Surroundings, Verdict, judge, write},
};
use ipnet::IpNet;
use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

/// What may come at once beyond a second's worth, in bytes: two of the largest packets that a kernel hands around, or none
/// of these would ever pass where the limit is low.
const BURST: u64 = 128 << 10;

/// How fast containers may send and receive, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// To others; without a limit where nothing is said.
    pub up: Option<u64>,
    /// From others; without a limit where nothing is said.
    pub down: Option<u64>,
}

/// The bridges of one node's networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridges {
    /// How the names of all that are made from now on begin.
    pub prefix: String,
    /// Those that were made before, or that the engine named otherwise.
    pub others: BTreeSet<String>,
}

impl Bridges {
    /// Whether an interface is one of them.
    pub fn has(&self, name: &str) -> bool {
        name.starts_with(&self.prefix) || self.others.contains(name)
    }

    /// As nftables matches them.
    fn patterns(&self) -> Vec<String> {
        std::iter::once(format!("{}*", self.prefix)).chain(self.others.iter().cloned()).collect()
    }
}

/// What is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    table: String,
    bridges: Bridges,
    limits: Limits,
    closing: Option<Closing>,
}

/// What closes the owner's network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Closing {
    closed: Vec<IpNet>,
    forward: Vec<Rule>,
    input: Vec<Rule>,
}

impl Ruleset {
    /// The rules for these bridges on a host like this, with the owner's exceptions. `table` is the name of a table
    /// that is nobody else's.
    ///
    /// # Errors
    /// [`LanError::TooMany`].
    pub fn new(
        table: &str,
        bridges: Bridges,
        facts: &Facts,
        allow: &BTreeSet<Allow>,
    ) -> Result<Self, LanError> {
        let closed = closed(facts, &bridges)?;
        let answers = || [Rule::pass(vec![Match::Reply]), Rule::pass(vec![Match::RelatedIcmp])];
        let mut forward: Vec<Rule> = answers().into();
        forward.push(Rule::pass(vec![Match::ToBridge, Match::Stays]));
        forward.push(Rule::pass(vec![Match::ToBridge, Match::LinkOnly]));
        forward.push(Rule::refuse(vec![Match::ToBridge]));
        let mut input: Vec<Rule> = answers().into();
        input.push(Rule::pass(vec![Match::Neighbour]));
        for resolver in &facts.resolvers {
            let rule = Rule::pass(vec![Match::To(IpNet::from(*resolver)), Match::Ports(53, 53)]);
            forward.push(rule.clone());
            input.push(rule);
        }
        for one in allow {
            let rule = Rule::pass(conditions(one));
            match one.to {
                Target::Host => input.push(rule),
                Target::Net(_) => {
                    forward.push(rule.clone());
                    input.push(rule);
                }
            }
        }
        forward.push(Rule::refuse(vec![Match::Closed]));
        input.push(Rule::refuse(vec![]));
        let closing = Some(Closing { closed, forward, input });
        Ok(Self { table: table.to_owned(), bridges, limits: Limits::default(), closing })
    }

    /// Rules that close nothing.
    pub fn open(table: &str, bridges: Bridges) -> Self {
        Self { table: table.to_owned(), bridges, limits: Limits::default(), closing: None }
    }

    /// The same, with limits on how fast containers send and receive.
    #[must_use]
    pub const fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether there is any rule at all.
    pub fn is_empty(&self) -> bool {
        self.closing.is_none() && self.limits == Limits::default()
    }

    /// The table's name, in the family `inet`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether an interface is one whose packets are looked at.
    pub fn covers(&self, interface: &str) -> bool {
        self.bridges.has(interface)
    }

    /// Whether an address is closed to containers unless the owner allows it.
    pub fn is_closed(&self, address: IpAddr) -> bool {
        self.closing.iter().flat_map(|closing| &closing.closed).any(|net| net.contains(&address))
    }

    /// What becomes of a packet.
    pub fn judge(&self, packet: &Packet<'_>) -> Verdict {
        let Some(closing) = self.closing.as_ref().filter(|_| self.covers(packet.from)) else {
            return Verdict::Pass;
        };
        let is_bridge = |name: &str| self.bridges.has(name);
        let around = Surroundings { is_bridge: &is_bridge, closed: &closing.closed };
        let rules = match packet.hook {
            Hook::Forward => &closing.forward,
            Hook::Input => &closing.input,
        };
        judge(rules, packet, &around)
    }

    /// The text for `nft -f`: the table as it is to be, in one transaction, whatever there is of it.
    pub fn nft(&self) -> String {
        let patterns = self.bridges.patterns();
        let mut text = String::with_capacity(4096);
        let Self { table, closing, limits, bridges: _ } = self;
        let _ = writeln!(text, "table inet {table}\ndelete table inet {table}\ntable inet {table} {{");
        if let Some(closing) = closing {
            closing.write(&patterns, &mut text);
        }
        limits.write(&patterns, &mut text);
        text.push_str("}\n");
        text
    }
}

impl Closing {
    fn write(&self, patterns: &[String], text: &mut String) {
        for (name, kind, four) in [("closed4", "ipv4_addr", true), ("closed6", "ipv6_addr", false)] {
            let nets = self.closed.iter().filter(|net| net.addr().is_ipv4() == four);
            let nets: Vec<String> = nets.map(ToString::to_string).collect();
            let _ = writeln!(
                text,
                "\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {{ {} }}\n\t}}",
                nets.join(",\n\t\t\t     ")
            );
        }
        let _ =
            writeln!(text, "\tchain sent {{\n\t\ttype filter hook prerouting priority -310; policy accept;");
        for name in patterns {
            let _ =
                writeln!(text, "\t\tiifname \"{name}\" meta nfproto ipv4 fib saddr . iif oif missing drop");
            let _ = writeln!(
                text,
                "\t\tiifname \"{name}\" ip6 saddr != {{ ::, fe80::/10 }} fib saddr . iif oif missing drop"
            );
        }
        text.push_str("\t}\n");
        for (hook, to) in [("forward", "others"), ("input", "host")] {
            let _ =
                writeln!(text, "\tchain {hook} {{\n\t\ttype filter hook {hook} priority -10; policy accept;");
            for name in patterns {
                let _ = writeln!(text, "\t\tiifname \"{name}\" jump to_{to}");
            }
            text.push_str("\t}\n");
        }
        for (name, rules) in [("others", &self.forward), ("host", &self.input)] {
            let _ = writeln!(text, "\tchain to_{name} {{");
            rules.iter().for_each(|rule| write(rule, patterns, text));
            text.push_str("\t}\n");
        }
    }
}

impl Limits {
    /// One rule counts for all bridges: each rule of nftables has a count of its own. Its unit of a second lets a
    /// second's worth come at once after silence, without which no connection over some distance keeps up.
    fn write(self, patterns: &[String], text: &mut String) {
        let ways = [("up", "iifname", self.up), ("down", "oifname", self.down)];
        let ways: Vec<_> = ways.into_iter().filter_map(|(way, by, rate)| Some((way, by, rate?))).collect();
        if ways.is_empty() {
            return;
        }
        let _ = writeln!(text, "\tchain speed {{\n\t\ttype filter hook forward priority -5; policy accept;");
        for from in patterns {
            for to in patterns {
                let _ = writeln!(text, "\t\tiifname \"{from}\" oifname \"{to}\" accept");
            }
        }
        for (way, by, _) in &ways {
            for name in patterns {
                let _ = writeln!(text, "\t\t{by} \"{name}\" jump speed_{way}");
            }
        }
        text.push_str("\t}\n");
        for (way, _, rate) in ways {
            let _ = writeln!(
                text,
                "\tchain speed_{way} {{\n\t\tlimit rate over {rate} bytes/second burst {BURST} bytes counter drop\n\t}}"
            );
        }
    }
}

fn conditions(allow: &Allow) -> Vec<Match> {
    let Allow { to, ports, transport } = allow;
    let to = match to {
        Target::Host => None,
        Target::Net(net) => Some(Match::To(*net)),
    };
    let by = transport.map(|transport: Transport| Match::Transport(transport));
    let ports = ports.map(|(first, last)| Match::Ports(first, last));
    to.into_iter().chain(by).chain(ports).collect()
}
