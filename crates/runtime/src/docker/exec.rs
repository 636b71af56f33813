//! A command that runs in a container: its terminal's size and its exit code.

use super::client::{Docker, QUICK};
use crate::{
    error::{Result, RuntimeError},
    port::{ExecControl, TerminalSize},
};
use async_trait::async_trait;
use bollard::models::ExecInspectResponse;
use http::Method;
use lattice_model::Duration;

/// A command in a container, by the engine's id of it.
pub(super) struct DockerExec {
    docker: Docker,
    exec: String,
}

impl DockerExec {
    pub(super) fn new(docker: Docker, exec: String) -> Self {
        Self { docker, exec }
    }

    /// `None` while it runs.
    async fn code(&self) -> Result<Option<i64>> {
        let path = format!("/exec/{}/json", self.exec);
        let call = self.docker.wire().call::<ExecInspectResponse, ()>(Method::GET, &path, None);
        let found = self.docker.within(QUICK, || "command in a container".to_owned(), call).await?;
        Ok(if found.running == Some(true) { None } else { found.exit_code })
    }
}

#[async_trait]
impl ExecControl for DockerExec {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        let path = format!("/exec/{}/resize?h={}&w={}", self.exec, size.rows, size.columns);
        let call = self.docker.wire().request::<()>(Method::POST, &path, None, false);
        self.docker.within(QUICK, || "size of a terminal".to_owned(), call).await.map(drop)
    }

    async fn exit_code(&self) -> Result<i64> {
        const LIMIT: Duration = Duration::from_secs(10);
        let mut pause = std::time::Duration::from_millis(2);
        let wait = async {
            loop {
                if let Some(code) = self.code().await? {
                    return Ok(code);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(std::time::Duration::from_millis(250));
            }
        };
        tokio::time::timeout(LIMIT.as_std(), wait).await.unwrap_or_else(|_| {
            Err(RuntimeError::Timeout { what: "the command still runs".to_owned(), after: LIMIT })
        })
    }
}
