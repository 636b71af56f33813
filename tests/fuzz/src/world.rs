//! A real server with a real agent on a simulated engine, in this process, for all inputs of a run.

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use lattice_agent_core::{
    AgentConfig, AgentParts, Home, JoinOptions, JoinToken, PendingJoin, Runtime as Engine, join, measure, run,
};
use lattice_api::JoinTokenCreate;
use lattice_model::Timestamp;
use lattice_runtime::simulated::{Delays, Program, Settings, Simulated};
use lattice_server::{RunningServer, Server, ServerConfig};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{runtime::Runtime, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long an answer may take, its body included: generous, as machines that run tests are busy.
const LIMIT: Duration = Duration::from_secs(60);
/// How long is listened to what does not end.
const LISTEN: Duration = Duration::from_millis(5);
/// The most of a body that is kept.
const KEPT: usize = 1 << 20;

/// Server and node.
pub(crate) struct World {
    runtime: Runtime,
    server: RunningServer,
    _home: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP's.
    pub(crate) status: u16,
    /// Of its body.
    pub(crate) content_type: String,
    /// The first MiB of it, or what came in a moment of what does not end.
    pub(crate) body: Vec<u8>,
}

/// The world of this process.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| World::new().expect("a server with a node"));

impl World {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let home = tempfile::tempdir()?;
        let server = runtime.block_on(Self::start(home.path()))?;
        Ok(Self { runtime, server, _home: home })
    }

    async fn start(home: &std::path::Path) -> Result<RunningServer> {
        let config = ServerConfig {
            api_listen: "127.0.0.1:0".parse()?,
            agent_listen: "127.0.0.1:0".parse()?,
            ..ServerConfig::new(home.join("server"))
        };
        let server = Server::start(config, CancellationToken::new()).await?;
        let request = JoinTokenCreate { auto_approve: true, ..JoinTokenCreate::default() };
        let token = server.create_join_token(request).await.map_err(anyhow::Error::msg)?;
        let settings = Settings { delays: Delays::none(), ..Settings::new(1, Timestamp(1_800_000_000_000)) };
        let settings = Settings { any_image: Some(Arc::new(Program::service())), ..settings };
        let engine: Arc<dyn Engine> = Arc::new(Simulated::new(settings));
        let node = Home::open(home)?;
        let config = AgentConfig::default();
        let pending =
            PendingJoin { token: JoinToken::parse(&token.token)?, name: Some("fuzz-node".parse()?) };
        let machine = measure(&*engine, node.dir()).await;
        join(&node, &pending, &machine, &config, JoinOptions::default(), &mut |_| {}).await?;
        tokio::spawn(run(AgentParts::new(node, config, engine), CancellationToken::new()));
        Ok(server)
    }

    /// Asks as whoever runs the server.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) fn ask(&self, request: Request<Vec<u8>>) -> Result<Answer> {
        self.runtime.block_on(async {
            timeout(LIMIT, self.asked(request)).await.context("no answer within a minute")?
        })
    }

    async fn asked(&self, request: Request<Vec<u8>>) -> Result<Answer> {
        let stream = tokio::net::UnixStream::connect(self.server.socket())
            .await
            .context("the server does not listen")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let response =
            sender.send_request(request).await.context("the connection ended without an answer")?;
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let endless = content_type.starts_with("text/event-stream") || status == 101;
        let (mut incoming, mut body) = (response.into_body(), Vec::new());
        let read = async {
            while let Some(frame) = incoming.frame().await {
                let data = frame.context("the answer broke off")?.into_data().unwrap_or_default();
                let room = KEPT.saturating_sub(body.len());
                body.extend_from_slice(&data[..data.len().min(room)]);
            }
            anyhow::Ok(())
        };
        if endless {
            let _ = timeout(LISTEN, read).await;
        } else {
            read.await?;
        }
        connection.abort();
        Ok(Answer { status, content_type, body })
    }
}
