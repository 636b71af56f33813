//! A cluster of a benchmark's own: `lattice up` with its own home and ports, and the agent that it starts.

use crate::{
    engine::{Engine, Events},
    lab::{IMAGE, Lab},
    proc,
};
use anyhow::{Context as _, bail};
use lattice_api::{ApiTokenCreate, DeleteStackQuery, DeployQuery, DeployRequest, ErrorCode};
use lattice_client::{API_SOCKET, Client, Endpoint};
use lattice_model::{
    Cpu, Duration as Span, StackKey, StackName,
    access::{Binding, Role},
    spec::{Attachment, NetworkSpec, Resources, StackSpec, WorkloadSpec},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    sync::Mutex,
};

/// How long a cluster may take to be ready, to stop, and to do what it is told.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at while that is waited for; short, since it is part of what is measured.
const LOOK: Duration = Duration::from_millis(5);

/// A cluster of one node.
#[derive(Debug)]
pub(crate) struct Cluster {
    engine: Engine,
    client: Client,
    program: PathBuf,
    agent_program: PathBuf,
    home: PathBuf,
    listen: SocketAddr,
    agent_listen: SocketAddr,
    run: String,
    up: Mutex<Option<Child>>,
}

impl Cluster {
    /// One that does not run yet.
    pub(crate) fn new(lab: &Lab, home: PathBuf) -> anyhow::Result<Self> {
        // Both are held at once, so that they differ. They are chosen once, since the agent keeps its server's address.
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (one, other) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
        fs::create_dir_all(&home)?;
        Ok(Self {
            engine: lab.engine().clone(),
            client: Client::new(Endpoint::Unix(home.join(API_SOCKET)), None),
            program: lab.program("lattice")?,
            agent_program: lab.program("lattice-agent")?.canonicalize()?,
            listen: one.local_addr()?,
            agent_listen: other.local_addr()?,
            run: lab.run().to_owned(),
            up: Mutex::new(None),
            home,
        })
    }

    /// The engine that its node uses.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The folder with all its state.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where its API listens.
    pub(crate) const fn api(&self) -> SocketAddr {
        self.listen
    }

    /// Its API by the socket.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// An API token that may do everything.
    pub(crate) async fn token(&self) -> anyhow::Result<String> {
        let roles = vec![Binding::everywhere(Role::Admin)];
        let wish = ApiTokenCreate { name: "bench".into(), roles, ttl_ms: None };
        Ok(self.client.create_api_token(&wish).await?.token)
    }

    /// Starts `lattice up` and waits until its node can be given work. Answers how long the server took to be ready,
    /// and how long it took until its node was there too, both from just before the program was started.
    pub(crate) async fn start(&self) -> anyhow::Result<(Duration, Duration)> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.join("up.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("up").arg("--home").arg(&self.home);
        command.arg("--listen").arg(self.listen.to_string());
        command.arg("--agent-listen").arg(self.agent_listen.to_string());
        for name in
            ["LATTICE_HOME", "LATTICE_SERVER", "LATTICE_TOKEN", "LATTICE_TOKEN_FILE", "LATTICE_PROJECT"]
        {
            command.env_remove(name);
        }
        // A group of its own: Ctrl-C reaches it through the lab, in order.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let begun = Instant::now();
        let mut up = self.up.lock().await;
        let child = up.insert(command.spawn().context("`lattice up` could not be started")?);
        let mut server = None;
        loop {
            if let Ok(status) = self.client.status().await {
                if status.ready {
                    server.get_or_insert_with(|| begun.elapsed());
                }
                if let (Some(server), true) = (server, status.nodes.connected > 0) {
                    return Ok((server, begun.elapsed()));
                }
            }
            if let Some(status) = child.try_wait()? {
                bail!("`lattice up` ended ({status}){}", self.logs());
            }
            if begun.elapsed() > PATIENCE {
                bail!("`lattice up` has no node after {} s{}", PATIENCE.as_secs(), self.logs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops server and agent as Ctrl-C does; workloads run on.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let Some(mut child) = self.up.lock().await.take() else { return Ok(()) };
        let asked = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).is_some_and(|pid| {
            // Not yet waited for, so the number is still its own.
            kill_process(pid, Signal::INT).is_ok()
        });
        if !asked || tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
            child.kill().await?;
            bail!("`lattice up` did not stop when asked to{}", self.logs());
        }
        Ok(())
    }

    /// Ends everything of this cluster: server, agent, and what is in the engine.
    pub(crate) async fn destroy(&self) {
        if let Err(error) = self.stop().await {
            eprintln!("    cleaning: {error:#}");
        }
        // The agent outlives a server that was killed.
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(pid) = self.agent_pid().filter(|pid| self.is_agent(*pid)) else { break };
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                let _ = kill_process(pid, signal);
            }
            let begun = Instant::now();
            while self.is_agent(pid) && begun.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        if let Some(node) = self.node() {
            self.engine.remove_labelled(&format!("lattice.node={node}")).await;
            // What is not in the engine, the table of the firewall above all, the agent takes away itself.
            let mut reset = Command::new(&self.agent_program);
            reset.args(["reset", "--yes"]).env("LATTICE_HOME", &self.home).stdin(Stdio::null());
            match reset.output().await {
                Ok(output) if output.status.success() => {}
                Ok(output) => eprintln!("    cleaning: {}", String::from_utf8_lossy(&output.stderr).trim()),
                Err(error) => eprintln!("    cleaning: the agent cannot be started: {error}"),
            }
        }
    }

    fn is_agent(&self, pid: u32) -> bool {
        proc::program(pid).is_some_and(|program| program == self.agent_program)
    }

    /// The server's process.
    pub(crate) async fn server_pid(&self) -> anyhow::Result<u32> {
        self.up.lock().await.as_ref().and_then(Child::id).context("the server does not run")
    }

    /// The agent's process, as it wrote it into the lock that it holds.
    pub(crate) fn agent_pid(&self) -> Option<u32> {
        fs::read_to_string(self.home.join("agent/lock")).ok()?.trim().parse().ok()
    }

    fn node(&self) -> Option<String> {
        let text = fs::read_to_string(self.home.join("agent/identity.json")).ok()?;
        let identity: serde_json::Value = serde_json::from_str(&text).ok()?;
        identity["node"].as_str().map(str::to_owned)
    }

    /// The name of a stack that no other run has.
    pub(crate) fn stack(&self, name: &str) -> anyhow::Result<StackKey> {
        let stack = StackName::new(format!("bench-{}-{name}", self.run))?;
        Ok(StackKey { project: "default".parse()?, stack })
    }

    /// Deploys a stack.
    pub(crate) async fn deploy(&self, key: &StackKey, spec: &StackSpec) -> anyhow::Result<()> {
        let request = DeployRequest { spec: spec.clone(), source: None };
        let result = self.client.deploy(key, &DeployQuery::default(), &request).await;
        result.with_context(|| format!("deploying {key}{}", self.logs())).map(drop)
    }

    /// Removes a stack, and waits until neither the server nor the engine has anything of it.
    pub(crate) async fn remove(&self, key: &StackKey) -> anyhow::Result<()> {
        self.client.delete_stack(key, &DeleteStackQuery { volumes: true }).await?;
        let begun = Instant::now();
        loop {
            let gone = match self.client.stack(key).await {
                Ok(_) => false,
                Err(error) if error.code() == Some(ErrorCode::NotFound) => true,
                Err(error) => return Err(error.into()),
            };
            let label = format!("lattice.stack={key}");
            if gone
                && self.engine.labelled("containers", &label).await?.is_empty()
                && self.engine.labelled("networks", &label).await?.is_empty()
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("the stack {key} is not gone after {} s{}", PATIENCE.as_secs(), self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many containers of a stack have been started; answers their ids.
    pub(crate) async fn started(
        &self,
        events: &mut Events,
        key: &StackKey,
        count: usize,
    ) -> anyhow::Result<Vec<String>> {
        let stack = key.to_string();
        let mut ids = Vec::new();
        while ids.len() < count {
            let what = format!("the start of container {} of {count} of {stack}", ids.len() + 1);
            let fits = |event: &crate::engine::Event| {
                event.is("container", "start") && event.attribute("lattice.stack") == Some(&stack)
            };
            let seen = events.until(&what, PATIENCE, fits).await.with_context(|| self.logs())?;
            ids.extend(seen.into_iter().last().map(|event| event.actor.id));
        }
        Ok(ids)
    }

    /// The end of the logs, for an error.
    pub(crate) fn logs(&self) -> String {
        let tail = |path: &Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n      ")
        };
        ["up.log", "server/server.log", "agent/agent.log"]
            .map(|log| format!("\n    the last lines of {log}:\n      {}", tail(&self.home.join(log))))
            .concat()
    }
}

/// A stack with one service on a network of its own, that does nothing and ends when it is told to.
pub(crate) fn idle_stack(replicas: u32) -> anyhow::Result<StackSpec> {
    let mut service = WorkloadSpec::of_image(IMAGE);
    service.command = Some(idle_command());
    service.replicas = replicas;
    service.networks = [("default".parse()?, Attachment::default())].into();
    service.stop_grace_period = Span::from_secs(1);
    // A dozen have to fit on a small machine.
    service.resources = Resources { reserved_cpu: Some(Cpu(10)), ..Resources::default() };
    Ok(StackSpec {
        workloads: [("web".parse()?, service)].into(),
        networks: [("default".parse()?, NetworkSpec::default())].into(),
        ..StackSpec::default()
    })
}

/// As process 1 the shell ignores SIGTERM unless it is told what to do then.
pub(crate) fn idle_command() -> Vec<String> {
    ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"].map(String::from).into()
}
