//! The network between the machines: a bridge in a machine of its own, called hub, and a cable to each.
//!
//! Every packet between two machines passes the bridge, and there the faults are, where no process of a node can see
//! them: rules of nftables drop, and where packets are to be late the cable ends at a second bridge, from which `wire`
//! carries each frame to the first one after its time.

use crate::{
    error::{Result, TestbedError},
    faults::Faults,
    machine::{Machine, Power},
    programs::program,
    run::{rooted, run},
};
use std::{
    ffi::{OsStr, OsString},
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// The hub's machine, and its folder's name.
pub(crate) const HUB: &str = "hub";
/// The server's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// How many nodes have an address.
pub(crate) const MOST_NODES: u8 = 100;

/// A place at the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port(pub(crate) u8);

impl Port {
    /// The server's.
    pub(crate) const SERVER: Self = Self(0);

    /// The address of who is plugged in there: node 1 has 10.77.0.11.
    pub(crate) fn address(self) -> Ipv4Addr {
        if self == Self::SERVER { SERVER } else { Ipv4Addr::new(10, 77, 0, 10 + self.0) }
    }

    /// The interface's name at the bridge.
    fn interface(self) -> String {
        format!("port{}", self.0)
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    hub: Machine,
    /// One change at a time, as the rules are written as a whole.
    one: Mutex<()>,
}

impl Network {
    pub(crate) fn new(hub: Machine) -> Self {
        Self { hub, one: Mutex::new(()) }
    }

    pub(crate) fn hub(&self) -> &Machine {
        &self.hub
    }

    /// Makes the bridge.
    pub(crate) fn boot(&self) -> Result<()> {
        self.hub.boot()?;
        let folder = self.faults_folder();
        fs::create_dir_all(&folder).map_err(TestbedError::file("make", &folder))?;
        let text = "ip link add br0 type bridge stp_state 0 forward_delay 0; ip link set br0 up";
        self.hub.script("making the bridge", text, &[]).map(drop)
    }

    /// Lays a cable from a machine to its port; what was wrong with the one before is wrong with this one.
    pub(crate) fn plug(&self, machine: &Machine, port: Port) -> Result<()> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let (hub, node) = (self.hub.pid()?.to_string(), machine.pid()?.to_string());
        let interface = port.interface();
        // The kernel takes a dead machine's cable away in its own time.
        self.unplug(port)?;
        // The same address on the wire at each boot, as a real card has.
        let card = format!("02:77:00:00:00:{:02x}", port.0);
        let mut command = rooted("ip");
        command.args(["link", "add", &interface, "netns", &hub, "type", "veth", "peer", "name", "eth0"]);
        command.args(["address", &card, "netns", &node]);
        run(&format!("laying a cable to {}", machine.name()), &command)?;
        let address = format!("{}/24", port.address());
        let text = "ip address add \"$1\" dev eth0; ip link set eth0 up";
        machine.script("setting an address", text, &[address.as_ref()])?;
        let text = "ip link set \"$1\" master br0; ip link set \"$1\" up";
        self.hub.script("plugging a cable in", text, &[interface.as_ref()])?;
        let faults = self.faults(port);
        if faults == Faults::default() { Ok(()) } else { self.carry_out(port, &faults) }
    }

    /// Takes a cable away, where there is one.
    pub(crate) fn unplug(&self, port: Port) -> Result<()> {
        let interface = port.interface();
        let text =
            "if [ -e \"/proc/sys/net/ipv4/conf/$1\" ]; then ip link delete \"$1\" 2>/dev/null || true; fi";
        self.hub.script("unplugging a cable", text, &[interface.as_ref()]).map(drop)
    }

    fn faults_folder(&self) -> PathBuf {
        self.hub.folder().join("faults")
    }

    fn faults_file(&self, port: Port) -> PathBuf {
        self.faults_folder().join(port.interface())
    }

    /// What is wrong at a port.
    pub(crate) fn faults(&self, port: Port) -> Faults {
        let text = fs::read(self.faults_file(port)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Makes this wrong at a port, and nothing else.
    pub(crate) fn set_faults(
        &self,
        port: Port,
        change: impl FnOnce(&mut Faults) -> Result<()>,
    ) -> Result<()> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.faults(port);
        let mut after = before.clone();
        change(&mut after)?;
        let file = self.faults_file(port);
        let text = serde_json::to_vec(&after).unwrap_or_default();
        fs::write(&file, text).map_err(TestbedError::file("write", &file))?;
        self.carry_out(port, &after)
    }

    fn carry_out(&self, port: Port, faults: &Faults) -> Result<()> {
        self.write_rules()?;
        self.set_wire(port, faults)
    }

    /// Every port's rules at once: between two sets of rules no packet slips through.
    fn write_rules(&self) -> Result<()> {
        let (mut from, mut to) = (String::new(), String::new());
        for number in 0..=MOST_NODES {
            let port = Port(number);
            if self.faults_file(port).exists() {
                let (its_from, its_to) = self.faults(port).rules(&port.interface());
                from.push_str(&its_from);
                to.push_str(&its_to);
            }
        }
        let text = format!(
            "table bridge faults\ndelete table bridge faults\ntable bridge faults {{\n\
             chain from {{ type filter hook prerouting priority -300; policy accept;\n{from}}}\n\
             chain to {{ type filter hook postrouting priority 300; policy accept;\n{to}}}\n}}\n"
        );
        let file = self.hub.run_folder().join("faults.nft");
        fs::write(&file, text).map_err(TestbedError::file("write", &file))?;
        let mut command = self.hub.command("nft")?;
        run("changing what gets lost", command.arg("-f").arg(&file)).map(drop)
    }

    /// Puts the process that holds frames back into a port's way, or takes it out of there.
    fn set_wire(&self, port: Port, faults: &Faults) -> Result<()> {
        let interface = port.interface();
        let daemon = format!("wire{}", port.0);
        if self.hub.power() == Power::On && self.hub.runs(&daemon)? {
            self.hub.end(&daemon, "KILL")?;
        }
        let (bridge, near, far) =
            (format!("slow{}", port.0), format!("near{}", port.0), format!("far{}", port.0));
        if !faults.is_slow() {
            // The port of a machine that is off is not there.
            let text = "if [ -e \"/proc/sys/net/ipv4/conf/$2\" ]; then
                ip link set \"$1\" master br0 2>/dev/null || true; ip link delete \"$2\"; fi";
            return self
                .hub
                .script("taking a delay away", text, &[interface.as_ref(), bridge.as_ref()])
                .map(drop);
        }
        let words: Vec<OsString> = vec![
            program("lattice-testbed")?.into(),
            "wire".into(),
            near.clone().into(),
            far.clone().into(),
            format!("--delay={}", faults.delay_ms).into(),
            format!("--jitter={}", faults.jitter_ms).into(),
        ];
        self.hub.start(&daemon, &words, false)?;
        // The process makes the two interfaces; they go with it.
        let text = "tries=0; until [ -e \"/proc/sys/net/ipv4/conf/$3\" ] && [ -e \"/proc/sys/net/ipv4/conf/$4\" ]; do
            tries=$((tries + 1)); if [ $tries -gt 500 ]; then tail -n 5 \"$5\"; exit 1; fi; sleep 0.02; done
            [ -e \"/proc/sys/net/ipv4/conf/$2\" ] || ip link add \"$2\" type bridge stp_state 0 forward_delay 0
            ip link set \"$2\" up; ip link set \"$3\" master \"$2\" up; ip link set \"$4\" master br0 up
            if [ -e \"/proc/sys/net/ipv4/conf/$1\" ]; then ip link set \"$1\" master \"$2\"; fi";
        let log = self.hub.log_file(&daemon);
        let args = [&interface, &bridge, &near, &far].map(|word| OsStr::new(word.as_str()));
        self.hub.script("putting a delay in", text, &[&args[..], &[log.as_os_str()]].concat()).map(drop)
    }
}
