//! The owner's buttons while no agent runs: the pause is a file that the next agent finds, and what
//! runs is stopped here and now.

use super::files;
use crate::{clock, error::Result, home::Home};
use lattice_model::{Duration, container::ContainerState};
use lattice_rules::{Pause, PauseKind};
use lattice_runtime::Runtime;

/// How long a container has to end.
const GRACE: Duration = Duration::from_secs(10);

/// What was done without an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The containers that ran, by name.
    pub stopped: Vec<String>,
    /// Those that are left, and why.
    pub left: Vec<(String, String)>,
}

/// Keeps the pause for the next agent and, unless it waits for jobs, stops what runs of this node. Holding
/// the home means that no agent starts it again.
///
/// # Errors
/// When the pause cannot be written, or the engine cannot be listed.
pub async fn pause_offline(
    home: &Home,
    runtime: &dyn Runtime,
    kind: PauseKind,
    span: Option<Duration>,
) -> Result<Stopped> {
    files::save_pause(home, Some(&Pause::new(kind, span, &clock::moment())))?;
    let mut done = Stopped { stopped: Vec::new(), left: Vec::new() };
    let Some(identity) = home.identity()? else { return Ok(done) };
    if kind == PauseKind::Finish {
        return Ok(done);
    }
    let runs = runtime.list(identity.node).await?;
    let runs =
        runs.into_iter().filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Paused));
    let stops =
        runs.map(|container| async move { (container.name, runtime.stop(&container.id, GRACE).await) });
    for (name, result) in futures::future::join_all(stops).await {
        match result {
            Ok(_) => done.stopped.push(name),
            Err(error) => done.left.push((name, crate::error::chain(&error))),
        }
    }
    Ok(done)
}

/// Ends the pause for the next agent.
///
/// # Errors
/// What the file system says.
pub fn resume_offline(home: &Home) -> Result<()> {
    files::save_pause(home, None)
}
