//! This machine's node, as its agent says: what is built here runs here.

use crate::error::CliError;
use lattice_client::default_home;
use lattice_model::NodeId;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::{Duration, timeout},
};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;
/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of the agent's answer; the rest of it is the agent's own affair.
#[derive(Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    node: NodeId,
}

/// The node that this machine is.
///
/// # Errors
/// When no agent runs here, or none of this user.
pub(crate) async fn local_node() -> anyhow::Result<NodeId> {
    let none = || {
        CliError::Failed(
            "an image that is built here runs on this machine's node, and no agent of yours runs here; start one by `lattice up`, set LATTICE_HOME to where it runs, or push the image to a registry, write `image:` and deploy with --no-build".into(),
        )
    };
    let socket = default_home().ok_or_else(none)?.join("agent/agent.sock");
    match timeout(PATIENCE, ask(&socket)).await {
        Ok(Ok(node)) => Ok(node),
        Ok(Err(_)) | Err(_) => Err(none().into()),
    }
}

#[cfg(unix)]
async fn ask(socket: &Path) -> anyhow::Result<NodeId> {
    let stream = tokio::net::UnixStream::connect(socket).await?;
    let (read, mut write) = stream.into_split();
    write.write_all(b"{\"request\":\"status\"}\n").await?;
    let mut line = String::new();
    BufReader::new(read.take(MAX_ANSWER)).read_line(&mut line).await?;
    let Answer { status: Status { node } } = serde_json::from_str(&line)?;
    Ok(node)
}

#[cfg(not(unix))]
async fn ask(_: &Path) -> anyhow::Result<NodeId> {
    anyhow::bail!("this system has no such socket")
}

/// The engine that this machine's agent was told to use, if its owner named one.
pub(crate) fn engine_socket() -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Owner {
        docker_host: Option<String>,
    }
    let text = std::fs::read_to_string(default_home()?.join("agent/agent.toml")).ok()?;
    toml::from_str::<Owner>(&text).ok()?.docker_host.map(PathBuf::from)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_agent_says_which_node_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let id = "0198c0de-0000-7000-8000-000000000001";
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut line = String::new();
            BufReader::new(read).read_line(&mut line).await.unwrap();
            assert_eq!(line, "{\"request\":\"status\"}\n");
            let answer = format!("{{\"status\":{{\"version\":\"1\",\"node\":\"{id}\",\"more\":[]}}}}\n");
            write.write_all(answer.as_bytes()).await.unwrap();
        });
        assert_eq!(ask(&path).await.unwrap().to_string(), id);
        assert!(ask(&dir.path().join("none")).await.is_err());
    }
}
