//! What is to hold on one node, and its text for nftables.
//!
//! A packet that a container sends is looked at in three places:
//! 1. before routing: one whose sender's address does not belong on its bridge is dropped, so that nobody makes
//!    the kernel believe in a connection from the LAN;
//! 2. to others: answers pass, then what stays on its bridge, the resolvers, what the owner allows; other bridges of
//!    Lattice and all that is closed are refused; the rest is the internet;
//! 3. to this host: answers, neighbours, resolvers and what the owner allows pass, and nothing else.
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
        Ok(Self { table: table.to_owned(), bridges, closed, forward, input })
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
        self.closed.iter().any(|net| net.contains(&address))
    }

    /// What becomes of a packet.
    pub fn judge(&self, packet: &Packet<'_>) -> Verdict {
        if !self.covers(packet.from) {
            return Verdict::Pass;
        }
        let is_bridge = |name: &str| self.bridges.has(name);
        let around = Surroundings { is_bridge: &is_bridge, closed: &self.closed };
        let rules = match packet.hook {
            Hook::Forward => &self.forward,
            Hook::Input => &self.input,
        };
        judge(rules, packet, &around)
    }

    /// The text for `nft -f`: the table as it is to be, in one transaction, whatever there is of it.
    pub fn nft(&self) -> String {
        let patterns = self.bridges.patterns();
        let mut text = String::with_capacity(4096 + 20 * self.closed.len());
        let Self { table, .. } = self;
        let _ = writeln!(text, "table inet {table}\ndelete table inet {table}\ntable inet {table} {{");
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
        for name in &patterns {
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
            for name in &patterns {
                let _ = writeln!(text, "\t\tiifname \"{name}\" jump to_{to}");
            }
            text.push_str("\t}\n");
        }
        for (name, rules) in [("others", &self.forward), ("host", &self.input)] {
            let _ = writeln!(text, "\tchain to_{name} {{");
            rules.iter().for_each(|rule| write(rule, &patterns, &mut text));
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
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
