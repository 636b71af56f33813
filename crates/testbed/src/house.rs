//! The house that a node stands in: a router with a name server and a way to the internet, a neighbour on the LAN with
//! a network behind it that others reach by VPN, and a host on the internet.
//!
//! All of them answer by HTTP on port 80 with their name. The addresses:
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | router | 10.77.0.201, and 169.254.169.254 behind it | 2001:db8:77:1::1 |
//! | neighbour | 10.77.0.202, and 198.51.100.7 behind it | 2001:db8:77:1::2 |
//! | internet | 203.0.113.10 | 2001:db8:ffff::10 |
//! | the node | its own | 2001:db8:77:1::11 for n1 |

use crate::{
    bed::Testbed, error::Result, machine::Machine, network::Port, node::Node, programs::program, run::run,
};
use std::ffi::OsString;

const ROUTER: Port = Port(191);
const NEIGHBOUR: Port = Port(192);

/// What stands around the nodes of a testbed; dropping it ends it.
#[derive(Debug)]
pub struct House {
    router: Machine,
    neighbour: Machine,
    internet: Machine,
}

impl House {
    /// The router.
    pub fn router(&self) -> &Machine {
        &self.router
    }

    /// The neighbour.
    pub fn neighbour(&self) -> &Machine {
        &self.neighbour
    }

    /// The host on the internet.
    pub fn internet(&self) -> &Machine {
        &self.internet
    }
}

impl Testbed {
    /// Builds it around the nodes.
    ///
    /// # Errors
    /// Where namespaces are not to be had, or a command fails.
    pub fn house(&self) -> Result<House> {
        let house = House {
            router: self.stranger("router"),
            neighbour: self.stranger("neighbour"),
            internet: self.stranger("internet"),
        };
        let House { router, neighbour, internet } = &house;
        router.boot()?;
        neighbour.boot()?;
        internet.boot()?;
        self.network().plug(router, ROUTER)?;
        self.network().plug(neighbour, NEIGHBOUR)?;
        let (inside, outside) = (router.pid()?.to_string(), internet.pid()?.to_string());
        let mut cable = crate::run::rooted("ip");
        cable.args([
            "link", "add", "wan0", "netns", &inside, "type", "veth", "peer", "name", "eth0", "netns",
            &outside,
        ]);
        run("laying a cable to the internet", &cable)?;
        // Without the check whether an address is somebody else's, which takes a second.
        let router_text = "
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip link set wan0 up; ip address add 203.0.113.1/24 dev wan0
            ip address add 169.254.169.254/32 dev lo
            ip -6 address add 2001:db8:ffff::1/64 dev wan0 nodad
            ip -6 address add 2001:db8:77:1::1/64 dev eth0 nodad
            ip -6 route add 2001:db8:172::/64 via 2001:db8:77:1::11";
        router.script("setting the router up", router_text, &[])?;
        let neighbour_text = "
            ip address add 198.51.100.7/32 dev lo
            ip -6 address add 2001:db8:77:1::2/64 dev eth0 nodad
            ip route add default via 10.77.0.201
            ip -6 route add 2001:db8:172::/64 via 2001:db8:77:1::11";
        neighbour.script("setting the neighbour up", neighbour_text, &[])?;
        let internet_text = "
            ip link set eth0 up; ip address add 203.0.113.10/24 dev eth0
            ip -6 address add 2001:db8:ffff::10/64 dev eth0 nodad
            ip route add default via 203.0.113.1; ip -6 route add default via 2001:db8:ffff::1";
        internet.script("setting the internet up", internet_text, &[])?;
        answer(router, "router", &[80, 53], true)?;
        answer(neighbour, "neighbour", &[80, 53, 5432], true)?;
        answer(internet, "internet", &[80], false)?;
        self.nodes().iter().try_for_each(move_in)?;
        Ok(house)
    }
}

/// A node gets the router as its way out and its name server, an address of IPv6, and a service on port 8099.
fn move_in(node: &Node) -> Result<()> {
    let machine = node.machine();
    let text = "
        printf 'nameserver 10.77.0.201\\n' >\"$1/resolv.conf\"
        mount --bind \"$1/resolv.conf\" /etc/resolv.conf
        sysctl -qw net.ipv6.conf.all.forwarding=1
        ip -6 address add \"2001:db8:77:1::$2/64\" dev eth0 nodad
        ip route add default via 10.77.0.201; ip -6 route add default via 2001:db8:77:1::1";
    let (folder, last) = (machine.run_folder(), node.address().octets()[3].to_string());
    machine.script("moving in", text, &[folder.as_os_str(), last.as_ref()])?;
    answer(machine, "host", &[8099], false)
}

fn answer(machine: &Machine, word: &str, ports: &[u16], names: bool) -> Result<()> {
    let mut words: Vec<OsString> = vec![program("lattice-testbed")?.into(), "answer".into(), word.into()];
    words.extend(ports.iter().map(|port| format!("--port={port}").into()));
    if names {
        words.push("--names=203.0.113.10".into());
    }
    machine.start("answer", &words, false)
}
