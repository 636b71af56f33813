//! `agent-wake`: from the moment at which the owner's rules allow work again until the container runs that they had
//! stopped, by the `StartedAt` that Docker gives it; the slowest of three rounds. `hours`: they begin, by the clock.
//! `mains`: the plug is back for as long as `mains_for` says. `user`: nobody has touched the machine for `idle_for`.
//!
//! The agent is the real one, with the kernel's files about power and terminals in a folder of the benchmark's, and
//! without its server, as rules have to work offline. Nothing asks the agent anything meanwhile: a question makes it
//! look at once, and would make it faster than it is.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::{Cluster, idle_stack},
    engine::{Event, Events, millis, now},
    lab::Lab,
    progress::Progress,
    select::Wanted,
    stats::percentile,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::process::{Child, Command};

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(150);
/// How long mains have to be back, and nobody to touch the machine, by the rules of this benchmark.
const MAINS_FOR: Duration = Duration::from_secs(1);
const IDLE_FOR: Duration = Duration::from_secs(15);
const NANOS: i128 = 1_000_000_000;

pub(super) struct AgentWake;

#[async_trait]
impl Benchmark for AgentWake {
    fn about(&self) -> &'static str {
        "the owner's rules allow work again until it runs"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "agent-wake/hours", unit: "ms", target: Target::AtMost(2000.0) },
            Figure { name: "agent-wake/mains", unit: "ms", target: Target::AtMost(2000.0) },
            Figure { name: "agent-wake/user", unit: "ms", target: Target::AtMost(2000.0) },
        ]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let key = cluster.stack("wake")?;
        cluster.deploy(&key, &idle_stack(1)?).await?;
        let ids = cluster.started(&mut events, &key, 1).await?;
        let id = ids.into_iter().next().context("no container")?;
        cluster.stop().await?;
        let machine = Machine::new(&cluster)?;
        machine.mains(true)?;
        machine.touched(Duration::from_secs(3600))?;
        let agent = Agent::start(lab, &cluster, &machine)?;
        let mut bench = Bench { cluster: &cluster, machine, agent, events, id };
        let (mut hours, mut mains, mut user) = (Vec::new(), Vec::new(), Vec::new());
        let mut progress = Progress::new("rounds", ROUNDS);
        for round in 0..ROUNDS {
            hours.push(bench.hours().await.with_context(|| cluster.logs())?);
            mains.push(bench.mains().await.with_context(|| cluster.logs())?);
            user.push(bench.user().await.with_context(|| cluster.logs())?);
            let (h, m, u) = (hours[round], mains[round], user[round]);
            progress.step(&format!("hours {h:.0} ms, mains {m:.0} ms, user {u:.0} ms"));
        }
        bench.agent.end().await?;
        let mut outcome = Outcome::default();
        outcome.add("agent-wake/hours", percentile(&hours, 1.0));
        outcome.add("agent-wake/mains", percentile(&mains, 1.0));
        outcome.add("agent-wake/user", percentile(&user, 1.0));
        Ok(outcome)
    }
}

struct Bench<'a> {
    cluster: &'a Cluster,
    machine: Machine,
    agent: Agent,
    events: Events,
    id: String,
}

impl Bench<'_> {
    async fn hours(&mut self) -> anyhow::Result<f64> {
        let minute = 60 * NANOS;
        let mut begins = (now() / minute + 1) * minute;
        // Time to stop what runs before.
        if begins - now() < 8 * NANOS {
            begins += minute;
        }
        let clock = |at: i128| {
            let minutes = at / minute % 1440;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        };
        let text = format!(
            "time_zone = \"UTC\"\n[hours]\ndaily = [\"{}-{}\"]\n",
            clock(begins),
            clock(begins + 120 * minute)
        );
        self.rules(&text).await?;
        self.stopped().await?;
        self.runs_again(begins).await
    }

    async fn mains(&mut self) -> anyhow::Result<f64> {
        let text = format!("[battery]\nrun = \"on_mains\"\nmains_for = \"{}s\"\n", MAINS_FOR.as_secs());
        self.rules(&text).await?;
        self.machine.mains(false)?;
        self.stopped().await?;
        let plugged = now();
        self.machine.mains(true)?;
        self.runs_again(plugged + MAINS_FOR.as_nanos() as i128).await
    }

    async fn user(&mut self) -> anyhow::Result<f64> {
        let text = format!("[user]\nstop_when_active = true\nidle_for = \"{}s\"\n", IDLE_FOR.as_secs());
        self.rules(&text).await?;
        let touched = now();
        self.machine.touched(Duration::ZERO)?;
        self.stopped().await?;
        self.runs_again(touched + IDLE_FOR.as_nanos() as i128).await
    }

    /// Other rules; what ran runs on by them.
    async fn rules(&mut self, text: &str) -> anyhow::Result<()> {
        let file = self.machine.0.join("rules.toml");
        fs::write(&file, text)?;
        let mut command = self.agent.command(self.cluster);
        let output = command.args(["rules", "set", "--file"]).arg(&file).output().await?;
        if !output.status.success() {
            bail!("lattice-agent rules set: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    async fn stopped(&mut self) -> anyhow::Result<()> {
        let id = self.id.clone();
        let fits = move |event: &Event| event.is("container", "die") && event.actor.id == id;
        self.events.until("the end of what the rules forbid", PATIENCE, fits).await.map(drop)
    }

    /// Milliseconds from an instant until the container runs again.
    async fn runs_again(&mut self, from: i128) -> anyhow::Result<f64> {
        let id = self.id.clone();
        let fits = move |event: &Event| event.is("container", "start") && event.actor.id == id;
        self.events.until("its start", PATIENCE, fits).await?;
        let took = millis(from, self.cluster.engine().started_at(&self.id).await?);
        if took < 0.0 {
            bail!("it ran {:.0} ms before the rules allowed it", -took);
        }
        Ok(took)
    }
}

/// The kernel's files, as the agent is to see them.
struct Machine(PathBuf);

impl Machine {
    fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let folder = cluster.home().join("machine");
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn put(&self, path: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, text)?;
        Ok(path)
    }

    fn mains(&self, online: bool) -> anyhow::Result<()> {
        self.put("sys/class/power_supply/BAT0/type", "Battery\n")?;
        self.put("sys/class/power_supply/AC/type", "Mains\n")?;
        self.put("sys/class/power_supply/AC/online", if online { "1\n" } else { "0\n" }).map(drop)
    }

    /// Somebody typed so long ago.
    fn touched(&self, ago: Duration) -> anyhow::Result<()> {
        let path = self.put("dev/pts/0", "")?;
        let file = fs::File::options().write(true).open(path)?;
        Ok(file.set_times(fs::FileTimes::new().set_accessed(SystemTime::now() - ago))?)
    }
}

/// The agent of the cluster's node, started by hand.
struct Agent {
    program: PathBuf,
    child: Child,
}

impl Agent {
    fn start(lab: &Lab, cluster: &Cluster, machine: &Machine) -> anyhow::Result<Self> {
        let program = lab.program("lattice-agent")?.canonicalize()?;
        let mut command = Self::of(&program, cluster);
        let log = cluster.home().join("agent/agent.log");
        command.arg("run").arg("--machine-root").arg(&machine.0).arg("--log-file").arg(log);
        // A session manager of this machine would know better who uses it.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent").process_group(0).kill_on_drop(true);
        let child = command.spawn().context("lattice-agent could not be started")?;
        Ok(Self { program, child })
    }

    fn of(program: &Path, cluster: &Cluster) -> Command {
        let mut command = Command::new(program);
        command.arg("--home").arg(cluster.home()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).env_remove("LATTICE_HOME");
        command
    }

    fn command(&self, cluster: &Cluster) -> Command {
        let mut command = Self::of(&self.program, cluster);
        command.stderr(Stdio::piped());
        command
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the agent could not be ended")
    }
}
