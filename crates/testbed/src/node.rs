//! A node: a machine with an engine and an agent, and what can be done to it.

use crate::{
    engine::Engine,
    error::{Result, TestbedError},
    faults::{Direction, Faults},
    machine::{Machine, Power},
    network::{Network, Port},
    programs::program,
    run::{PATIENCE, run},
};
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

const DAEMON: &str = "agent";
/// What fills a disk.
const FILLER: &str = "filler";

/// A node.
#[derive(Debug)]
pub struct Node {
    machine: Arc<Machine>,
    engine: Engine,
    network: Arc<Network>,
    port: Port,
}

impl Node {
    pub(crate) fn new(machine: Machine, network: Arc<Network>, port: Port) -> Self {
        let machine = Arc::new(machine);
        let engine = Engine::on(Arc::clone(&machine), port.0);
        Self { machine, engine, network, port }
    }

    /// Its name, also in the cluster.
    pub fn name(&self) -> &str {
        self.machine.name()
    }

    /// Its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.port.address()
    }

    /// Whether it runs.
    pub fn power(&self) -> Power {
        self.machine.power()
    }

    /// The agent's folder, which only the node sees where its disk is a file.
    pub fn agent_folder(&self) -> PathBuf {
        self.machine.disk().join("agent")
    }

    /// Everything that its agent wrote.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.machine.log_file(DAEMON)).unwrap_or_default()
    }

    /// A fresh machine with an engine, `archives` in it, and the owner's word for the agent; no agent yet.
    pub(crate) fn install(&self, agent_toml: &str, archives: &[PathBuf]) -> Result<()> {
        self.machine.boot()?;
        self.network.plug(&self.machine, self.port)?;
        self.engine.start()?;
        let text = "umask 077; mkdir -p \"$1\"; printf %s \"$2\" >\"$1/agent.toml\"";
        let config = format!("docker_host = \"{}\"\n{agent_toml}", self.engine.socket().display());
        let folder = self.agent_folder();
        self.machine.script("writing agent.toml", text, &[folder.as_os_str(), config.as_ref()])?;
        self.engine.ready()?;
        archives.iter().try_for_each(|archive| self.engine.load(archive))
    }

    /// `lattice-agent` on this node.
    ///
    /// # Errors
    /// When it is off, or not built.
    pub fn agent_command(&self, args: &[&str]) -> Result<Command> {
        let words = self.agent_words(args)?;
        let mut command = self.machine.command(&words[0])?;
        command.args(&words[1..]);
        Ok(command)
    }

    fn agent_words(&self, args: &[&str]) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = vec![
            "env".into(),
            "-i".into(),
            format!("PATH={}", crate::run::search_path()).into(),
            "LATTICE_LOG=info".into(),
            "NO_COLOR=1".into(),
            program("lattice-agent")?.into(),
            "--home".into(),
            self.machine.disk().into(),
        ];
        words.extend(args.iter().map(OsString::from));
        Ok(words)
    }

    /// Joins by the token in a file, and waits until somebody has decided.
    ///
    /// # Errors
    /// When it is turned away.
    pub fn join(&self, token_file: &Path) -> Result<()> {
        let file = token_file.to_string_lossy();
        let command = self.agent_command(&["join", "--name", self.name(), "--token-file", &file])?;
        run(&format!("joining {}", self.name()), &command).map(drop)
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it runs already, or the node is off.
    pub fn start_agent(&self) -> Result<()> {
        self.machine.start(DAEMON, &self.agent_words(&["run"])?, false)
    }

    /// Stops the agent politely.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop_agent(&self) -> Result<()> {
        self.machine.end(DAEMON, "TERM")
    }

    /// kill -9 of the agent alone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_agent(&self) -> Result<()> {
        self.machine.end(DAEMON, "KILL")
    }

    /// Whether the agent runs.
    pub fn agent_is_running(&self) -> bool {
        self.machine.runs(DAEMON).unwrap_or(false)
    }

    /// Stops the agent and starts it again; what runs, runs on.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn restart_agent(&self) -> Result<()> {
        self.stop_agent()?;
        self.start_agent()
    }

    /// Stops dockerd, and with it its containers, and starts it again.
    ///
    /// # Errors
    /// When it does not run, or does not start.
    pub fn restart_engine(&self) -> Result<()> {
        self.engine.stop()?;
        self.engine.start()?;
        self.engine.ready()
    }

    /// Cuts the power: every process of the node ends at once, and no connection is closed. What the disk has, it keeps.
    ///
    /// # Errors
    /// When the node is off already.
    pub fn kill(&self) -> Result<()> {
        self.machine.pid()?;
        // First, or the kernel would say goodbye in the name of the dead: who loses its power sends nothing.
        self.network.unplug(self.port)?;
        self.machine.kill()
    }

    /// Switches it on again after a power cut: the same disk and address, engine and agent as at boot. The network has
    /// the faults that it had.
    ///
    /// # Errors
    /// When it is on, or does not start.
    pub fn revive(&self) -> Result<()> {
        self.machine.boot()?;
        self.network.plug(&self.machine, self.port)?;
        self.engine.start()?;
        self.start_agent()?;
        self.engine.ready()
    }

    /// Closes the lid: agent, engine and containers stand still, connections stay as they are.
    ///
    /// # Errors
    /// When the node is off.
    pub fn freeze(&self) -> Result<()> {
        self.machine.freeze()
    }

    /// Opens the lid.
    ///
    /// # Errors
    /// When the node is off.
    pub fn thaw(&self) -> Result<()> {
        self.machine.thaw()
    }

    /// What is wrong with its network.
    pub fn faults(&self) -> Faults {
        self.network.faults(self.port)
    }

    /// Packets vanish from now on.
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn drop_packets(&self, direction: Direction) -> Result<()> {
        self.network.set_faults(self.port, |faults| {
            faults.drop(direction);
            Ok(())
        })
    }

    /// So many of a hundred packets vanish from now on, each way, by chance.
    ///
    /// # Errors
    /// When that is no share, or the rules cannot be changed.
    pub fn lose_packets(&self, percent: f64) -> Result<()> {
        self.network.set_faults(self.port, |faults| faults.lose(percent))
    }

    /// Packets take so much longer from now on, each way, and by chance up to `jitter` more; their order is kept.
    ///
    /// # Errors
    /// When the process that holds them back does not start.
    pub fn delay_packets(&self, delay: Duration, jitter: Duration) -> Result<()> {
        self.network.set_faults(self.port, |faults| {
            faults.delay(delay, jitter);
            Ok(())
        })
    }

    /// The network is as it should be.
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn heal_network(&self) -> Result<()> {
        self.network.set_faults(self.port, |faults| {
            *faults = Faults::default();
            Ok(())
        })
    }

    /// It is on another network now: the old address is gone, and this last byte is that of the new one. Until the
    /// machine is booted again.
    ///
    /// # Errors
    /// When the node is off.
    pub fn move_address(&self, last: u8) -> Result<Ipv4Addr> {
        let [a, b, c, _] = self.address().octets();
        let new = Ipv4Addr::new(a, b, c, last);
        // Gone first, as when a laptop is carried away; with it goes every route over it.
        let text = "ip address flush dev eth0 scope global; ip address add \"$1/24\" dev eth0";
        self.machine.script("changing an address", text, &[new.to_string().as_ref()])?;
        Ok(new)
    }

    /// Fills its disk, but for `leave_mib`.
    ///
    /// # Errors
    /// When it has no disk of its own: the host's is not to be filled.
    pub fn fill(&self, leave_mib: u64) -> Result<()> {
        if !self.machine.has_own_disk() {
            return Err(TestbedError::Senseless(format!(
                "{} has no disk of its own, and this machine's is not to be filled; start it with --disk",
                self.name()
            )));
        }
        let text = "cd \"$1\"; rm -f \"$2\"; sync -f .
            free=$(df --output=avail -B 4096 . | tail -n 1); count=$((free - $3 * 256))
            if [ $count -gt 0 ]; then fallocate -l $((count * 4096)) \"$2\" || true; fi
            if [ \"$3\" -eq 0 ]; then dd if=/dev/zero bs=4096 oflag=append conv=notrunc of=\"$2\" 2>/dev/null || true; fi";
        let (disk, leave) = (self.machine.disk(), leave_mib.to_string());
        self.machine
            .script("filling the disk", text, &[disk.as_os_str(), FILLER.as_ref(), leave.as_ref()])
            .map(drop)
    }

    /// There is room on its disk again.
    ///
    /// # Errors
    /// When the node is off.
    pub fn unfill(&self) -> Result<()> {
        let disk = self.machine.disk();
        let text = "rm -f \"$1/$2\"";
        self.machine.script("making room", text, &[disk.as_os_str(), FILLER.as_ref()]).map(drop)
    }

    /// How much of its disk is used and how much there is, in MiB.
    ///
    /// # Errors
    /// When the node is off.
    pub fn disk_usage(&self) -> Result<(u64, u64)> {
        let disk = self.machine.disk();
        let text = "df --output=used,size -B 1M \"$1\" | tail -n 1";
        let said = self.machine.script("looking at the disk", text, &[disk.as_os_str()])?;
        let mut numbers = said.split_whitespace().filter_map(|word| word.parse().ok());
        Ok((numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()))
    }

    /// How long things are waited for.
    pub(crate) const PATIENCE: Duration = PATIENCE;
}
