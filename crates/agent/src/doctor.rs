//! Is this machine fit, and what to do where it is not: one check after the other, none of which
//! changes anything.

use crate::{
    AgentConfig, certificate,
    error::chain,
    facts,
    home::HomePaths,
    lan::{LanStatus, SpeedStatus},
    local_api,
    owner::{OwnerStatus, RulesFile, rules_of},
    secrets::SecretsDir,
    sockets,
};
use lattice_identity::{
    CertSlot, NodeKey,
    renewal::Renewal,
    tls::{Trust, explain_chain},
};
use lattice_model::{NodeId, machine::LanState};
use lattice_rules::Reason;
use lattice_runtime::{Runtime as _, docker::Docker};
use serde::Serialize;
use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};
use tokio::time::timeout;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// Works, and should be looked at.
    Warning,
    /// Does not work.
    Failed,
    /// Not checked, since something before it failed.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// For programs.
    pub id: &'static str,
    /// What it found.
    pub result: CheckResult,
    /// In words.
    pub why: String,
    /// What to do; empty when nothing.
    pub todo: String,
}

fn check(id: &'static str, result: CheckResult, why: impl Into<String>, todo: impl Into<String>) -> Check {
    Check { id, result, why: why.into(), todo: todo.into() }
}

/// All checks, in the order in which a new machine is set up.
pub async fn doctor(paths: &HomePaths, docker_host: Option<&str>) -> Vec<Check> {
    use CheckResult::{Failed, Ok as Good, Skipped, Warning};
    let mut checks = vec![home(paths)];
    let config = AgentConfig::load(&paths.config());
    checks.push(match &config {
        Ok(_) => check("config", Good, "agent.toml is understood, or there is none", ""),
        Err(error) => check("config", Failed, chain(error), "correct the file"),
    });
    checks.push(rules(paths));
    let config = config.unwrap_or_default();
    let socket = config.docker_host(docker_host);
    checks.extend(engine(&socket).await);
    checks.extend(others(&socket, &sockets::find(&sockets::Places::here())));
    let identity = paths.identity();
    checks.push(
        match SecretsDir::find(
            identity.as_ref().ok().and_then(Option::as_ref).map_or(NodeId::from_random(0), |i| i.node),
        ) {
            Ok(dir) => {
                check("memory_files", Good, format!("secrets are kept in memory at {}", dir.path()), "")
            }
            Err(error) => {
                check("memory_files", Warning, chain(&error), "workloads with secrets wait until then")
            }
        },
    );
    if let Some(free) = facts::free(paths.dir()).or_else(|| facts::free(Path::new("/"))) {
        let enough = free.0 > 1 << 30;
        checks.push(check(
            "disk",
            if enough { Good } else { Warning },
            format!("{free} are free where the agent keeps its state"),
            if enough { "" } else { "free some space; images and volumes need it" },
        ));
    }
    let identity = match identity {
        Ok(Some(identity)) => {
            checks.push(check(
                "joined",
                Good,
                format!("node {} of cluster {}", identity.node, identity.cluster),
                "",
            ));
            identity
        }
        Ok(None) if paths.joining() => {
            let todo = "an operator approves it with `lattice node approve`; keep `lattice-agent run` going";
            checks.push(check("joined", Warning, "the join waits for approval", todo));
            return checks;
        }
        Ok(None) => {
            let todo =
                "run `lattice-agent join` with a token; `lattice token create` on the server makes one";
            checks.push(check("joined", Failed, "this machine has not joined a cluster", todo));
            return checks;
        }
        Err(error) => {
            checks.push(check("joined", Failed, chain(&error), ""));
            return checks;
        }
    };
    let answer = local_api::ask_status(paths).await;
    checks.extend(answer.iter().flatten().flat_map(|status| at_work(&status.owner)));
    checks.extend(answer.iter().flatten().map(|status| lan(&status.lan)));
    checks.extend(answer.iter().flatten().filter_map(|status| status.lan.speed.as_ref()).map(speed));
    checks.push(match answer {
        Ok(Some(status)) => check("agent", Good, format!("runs as process {}", status.pid), ""),
        Ok(None) => {
            check("agent", Warning, "no agent runs for this home", "start it with `lattice-agent run`")
        }
        Err(error) => {
            check("agent", Failed, format!("it runs and does not answer ({error})"), "look at its log")
        }
    });
    let chain_der = paths.certificate().unwrap_or_default();
    let validity = certificate::validity(&chain_der);
    checks.push(match certificate::renewal(validity, 0) {
        Renewal::Wait { .. } => check("certificate", Good, "valid", ""),
        Renewal::Due => check("certificate", Good, "valid, and due for renewal", ""),
        Renewal::Expired => {
            check("certificate", Warning, "it has ended", "nothing: the agent renews it by its key")
        }
        Renewal::ClockBehind => {
            check("certificate", Warning, "it begins in the future", "set this machine's clock")
        }
    });
    let dialer = identity.root().and_then(|root| {
        let slot = CertSlot::empty();
        // Only read, never made: a doctor changes nothing.
        let key = paths.node_key();
        if validity.is_some()
            && key.exists()
            && let Ok(key) = NodeKey::load_or_create(&key)
        {
            slot.swap(chain_der, key.private_key())?;
        }
        certificate::dialer(&identity.servers, Trust::Root(root), slot, &config)
    });
    let dialled = match dialer {
        Ok(dialer) => {
            timeout(
                Duration::from_secs(20),
                async move { dialer.dial().await.map(|c| c.address().to_owned()) },
            )
            .await
        }
        Err(error) => {
            checks.push(check("server", Failed, chain(&error), ""));
            return checks;
        }
    };
    let (server, clock) = match dialled {
        Ok(Ok(address)) => (
            check("server", Good, format!("{address} answers and is the one that this node trusts"), ""),
            check("clock", Good, "this machine and the server agree on the time within five minutes", ""),
        ),
        Ok(Err(error)) => {
            let unknown = check("clock", Skipped, "it is compared with the server's certificate", "");
            match explain_chain(&error) {
                Some(e) if matches!(e.trouble.code(), "tls_expired" | "tls_not_yet_valid") => (
                    check("server", Failed, e.message.clone(), e.hint),
                    check("clock", Failed, e.message, "set this machine's clock, or the server's"),
                ),
                Some(e) => (check("server", Failed, e.message, e.hint), unknown),
                None => (
                    check("server", Failed, chain(&error), "check the network between here and the server"),
                    unknown,
                ),
            }
        }
        Err(_) => (
            check(
                "server",
                Failed,
                "it did not answer within 20 s",
                "check the network between here and the server",
            ),
            check("clock", Skipped, "it is compared with the server's certificate", ""),
        ),
    };
    checks.extend([server, clock]);
    checks
}

/// Whether the owner's rules can be read.
fn rules(paths: &HomePaths) -> Check {
    use CheckResult::{Failed, Ok as Good};
    match rules_of(paths) {
        Ok(RulesFile { text, problem: None, .. }) if text.is_empty() => {
            let todo =
                "`lattice-agent rules preset balanced` is a good beginning on a computer that people use";
            check("rules", Good, "there are none: work may run at any time, on battery too", todo)
        }
        Ok(RulesFile { problem: None, .. }) => check("rules", Good, "rules.toml is understood", ""),
        Ok(RulesFile { problem: Some(problem), .. }) => check(
            "rules",
            Failed,
            format!("nothing runs, since rules.toml is not understood: {problem}"),
            "correct the file",
        ),
        Err(error) => check("rules", Failed, chain(&error), ""),
    }
}

/// Whether work may run, and which rules rest on what nobody can measure here.
fn at_work(owner: &OwnerStatus) -> Vec<Check> {
    use CheckResult::{Ok as Good, Warning};
    let mut checks = vec![match owner.verdict.standing() {
        Some(said) => check("at_work", Warning, format!("{} ({})", said.why, said.reason), said.todo.clone()),
        None => check("at_work", Good, "the owner's rules let work run now", ""),
    }];
    checks.extend(owner.verdict.unsure.iter().map(|unsure| {
        let why = format!("{} cannot be kept on this machine: {}", unsure.rule, unsure.why);
        check(
            "rule_unknown",
            Warning,
            why,
            "it suspends nothing; take it out of the rules, or keep to it by hand",
        )
    }));
    checks
}

/// Whether containers are kept out of the owner's network.
fn lan(status: &LanStatus) -> Check {
    use CheckResult::{Failed, Ok as Good, Warning};
    let (result, todo) = match status.state {
        LanState::Closed | LanState::Unknown => (Good, ""),
        LanState::Open => {
            (Warning, "nothing, where all that runs here is yours; docs/lan.md says how to close it")
        }
        LanState::Unfenced => (Failed, Reason::LanNotClosed.todo()),
    };
    check("lan", result, format!("the owner's network: {}", status.sentence()), todo)
}

/// Whether containers keep to the owner's limit of speed.
fn speed(status: &SpeedStatus) -> Check {
    let said = format!("containers' speed: {}", status.sentence());
    match status.why {
        None => check("speed", CheckResult::Ok, said, ""),
        Some(_) => {
            let todo = "it suspends nothing: run the agent as root with nft installed, or take caps.bandwidth out of the rules";
            check("speed", CheckResult::Warning, said, todo)
        }
    }
}

fn home(paths: &HomePaths) -> Check {
    use CheckResult::{Failed, Ok as Good, Warning};
    let dir = paths.dir().display();
    match std::fs::metadata(paths.dir()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check("home", Good, format!("{dir} will be made at the join"), "")
        }
        Err(error) => check("home", Failed, format!("{dir}: {error}"), "give another one with --home"),
        Ok(meta) if !meta.is_dir() => check("home", Failed, format!("{dir} is no folder"), "move it away"),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            check("home", Warning, format!("other users may look into {dir}"), format!("chmod 700 {dir}"))
        }
        Ok(_) => check("home", Good, format!("{dir}"), ""),
    }
}

/// Other engines of this machine: they are used only when the owner names them.
fn others(used: &str, found: &[sockets::Found]) -> Option<Check> {
    let used = used.strip_prefix("unix://").unwrap_or(used);
    // `/var/run` is `/run` on most systems.
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let used = real(Path::new(used));
    let others: Vec<_> = found.iter().filter(|found| real(&found.path) != used).collect();
    let first = others.first()?;
    let list: Vec<String> =
        others.iter().map(|found| format!("{} ({})", found.path.display(), found.how)).collect();
    let todo = format!("to use another, write docker_host = \"{}\" into agent.toml", first.path.display());
    Some(check("other_engines", CheckResult::Ok, format!("not used: {}", list.join(", ")), todo))
}

async fn engine(socket: &str) -> Vec<Check> {
    use CheckResult::{Failed, Ok as Good, Skipped, Warning};
    let path = socket.strip_prefix("unix://").unwrap_or(socket);
    let skipped = || check("engine", Skipped, "its socket has to be there first", "");
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let todo = "run the agent as root, or add this user to the group `docker` and log in again";
            return vec![check("engine_socket", Failed, format!("{path}: {error}"), todo), skipped()];
        }
        Err(error) => {
            let todo = "install and start Docker, or name its socket with --docker-host or as docker_host in agent.toml";
            return vec![check("engine_socket", Failed, format!("{path}: {error}"), todo), skipped()];
        }
    }
    let mut checks = vec![check("engine_socket", Good, format!("{path} takes connections"), "")];
    let info = match Docker::new(socket) {
        Ok(docker) => docker.info().await,
        Err(error) => Err(error),
    };
    checks.push(match info {
        Err(error) => check("engine", Failed, chain(&error), "look at the engine's own log"),
        Ok(info) if info.unfit().is_some() => {
            let why = info.unfit().unwrap_or_default();
            check(
                "engine",
                Failed,
                format!("version {}: {why}", info.version),
                "the agent runs nothing until then",
            )
        }
        Ok(info) if info.cgroup_version == Some(1) => {
            let why = format!("version {} with cgroup 1", info.version);
            check("engine", Warning, why, "limits are coarser; boot with cgroup 2 where you can")
        }
        Ok(info) => check(
            "engine",
            Good,
            format!("version {}, {} processors, {}", info.version, info.cpus, info.memory),
            "",
        ),
    });
    checks
}
