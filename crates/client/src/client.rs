//! The client itself: how a request is sent, and one function per endpoint.

use crate::{
    endpoint::{ApiToken, Endpoint},
    error::{ClientError, refusal},
    exec::ExecSession,
    stream::{ByteStream, Connection, LogStream, Open, WatchStream},
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use lattice_api::{
    AlertView, AllocationQuery, AllocationView, ApiTokenCreate, ApiTokenView, ApproveNode, AuditQuery,
    AuditView, BackupDump, BackupStatus, ComposeRead, ComposeView, DeleteNodeQuery, DeleteStackQuery,
    DeployQuery, DeployRequest, DeployResult, DrainNode, DrainResult, EventChain, EventQuery, EventView,
    ExecStart, ExplainView, JobRunQuery, JobRunView, JoinTokenCreate, JoinTokenView, KeyRotation, List,
    LogQuery, MissedRunsView, NodeChange, NodePreview, NodeReason, NodeView, PoolChange, PoolCreate,
    PoolPreview, PoolView, RankedNode, RankingQuery, RolloutQuery, RolloutView, RunRequest, Scale,
    SecretRollback, SecretVersionView, SecretView, StackDetail, StackQuery, StackView, Status, TokenCreated,
    TreeView, UndoQuery, VolumeQuery, VolumeView, WatchQuery, Whoami, WorkloadQuery, WorkloadView, paths,
};
use lattice_model::{PoolName, ProjectName, SecretName, StackKey, TokenId, WorkloadKey, spec::TreeDigest};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// The most bytes of an answer that is not a stream.
const MAX_BODY: usize = 64 << 20;
/// The most bytes of a refusal.
const MAX_ERROR_BODY: usize = 256 << 10;
/// How long an answer may take; for a stream, its beginning.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an upload may take, as the server gives it.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1100);

/// A client of one server. Cheap to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<ApiToken>,
    timeout: Duration,
}

/// A query that has nothing in it.
pub(crate) const NO_QUERY: &[(&str, &str)] = &[];

impl Client {
    /// A client of the server at `endpoint`. The Unix socket needs no token.
    pub const fn new(endpoint: Endpoint, token: Option<ApiToken>) -> Self {
        Self { endpoint, token, timeout: REQUEST_TIMEOUT }
    }

    /// The same with another bound on how long an answer may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the server is.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Any `GET` of the API. With [`serde_json::Value`] the answer is kept as the server wrote it.
    ///
    /// # Errors
    /// See [`ClientError`]; so for every function here.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let (response, _connection) =
            self.send(Method::GET, &with_query(path, query)?, None, Bytes::new()).await?;
        self.read(response).await
    }

    /// How the cluster and its server are doing.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&paths::status(), NO_QUERY).await
    }

    /// Who the server takes us for.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get(&paths::whoami(), NO_QUERY).await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get(&paths::openapi(), NO_QUERY).await
    }

    /// Every join token, without its secret.
    pub async fn join_tokens(&self) -> Result<List<JoinTokenView>, ClientError> {
        self.get(&paths::join_tokens(), NO_QUERY).await
    }

    /// Makes a join token.
    pub async fn create_join_token(&self, request: &JoinTokenCreate) -> Result<TokenCreated, ClientError> {
        self.json(Method::POST, &paths::join_tokens(), request).await
    }

    /// Makes a join token useless from now on.
    pub async fn delete_join_token(&self, id: TokenId) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::join_token(id)).await
    }

    /// Every API token, without its secret.
    pub async fn api_tokens(&self) -> Result<List<ApiTokenView>, ClientError> {
        self.get(&paths::api_tokens(), NO_QUERY).await
    }

    /// Makes an API token.
    pub async fn create_api_token(&self, request: &ApiTokenCreate) -> Result<TokenCreated, ClientError> {
        self.json(Method::POST, &paths::api_tokens(), request).await
    }

    /// Makes an API token useless from now on.
    pub async fn delete_api_token(&self, id: TokenId) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::api_token(id)).await
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<List<NodeView>, ClientError> {
        self.get(&paths::nodes(), NO_QUERY).await
    }

    /// Nodes by how good they are, the best first.
    pub async fn ranking(&self, query: &RankingQuery) -> Result<List<RankedNode>, ClientError> {
        self.get(&paths::ranking(), query).await
    }

    /// One node, by name, id, or an id's first characters.
    pub async fn node(&self, node: &str) -> Result<NodeView, ClientError> {
        self.get(&paths::node(node), NO_QUERY).await
    }

    /// Takes a node into the cluster.
    pub async fn approve_node(&self, node: &str, request: &ApproveNode) -> Result<NodeView, ClientError> {
        self.json(Method::POST, &paths::node_approve(node), request).await
    }

    /// Turns a node away that asked to join.
    pub async fn reject_node(&self, node: &str, request: &NodeReason) -> Result<NodeView, ClientError> {
        self.json(Method::POST, &paths::node_reject(node), request).await
    }

    /// Throws a node out.
    pub async fn revoke_node(&self, node: &str, request: &NodeReason) -> Result<NodeView, ClientError> {
        self.json(Method::POST, &paths::node_revoke(node), request).await
    }

    /// Gives a node no new work.
    pub async fn cordon_node(&self, node: &str) -> Result<NodeView, ClientError> {
        self.bare(Method::POST, &paths::node_cordon(node)).await
    }

    /// Gives a node new work again.
    pub async fn uncordon_node(&self, node: &str) -> Result<NodeView, ClientError> {
        self.bare(Method::POST, &paths::node_uncordon(node)).await
    }

    /// Empties a node, or says what that would do.
    pub async fn drain_node(&self, node: &str, request: &DrainNode) -> Result<DrainResult, ClientError> {
        self.json(Method::POST, &paths::node_drain(node), request).await
    }

    /// Changes a node's pool and labels.
    pub async fn change_node(&self, node: &str, request: &NodeChange) -> Result<NodeView, ClientError> {
        self.json(Method::PATCH, &paths::node(node), request).await
    }

    /// Pools.
    pub async fn pools(&self) -> Result<List<PoolView>, ClientError> {
        self.get(&paths::pools(), NO_QUERY).await
    }

    /// What a change of a node would do.
    pub async fn preview_node(&self, node: &str, request: &NodeChange) -> Result<NodePreview, ClientError> {
        self.json(Method::POST, &paths::node_preview(node), request).await
    }

    /// Makes a pool.
    pub async fn create_pool(&self, request: &PoolCreate) -> Result<PoolView, ClientError> {
        self.json(Method::POST, &paths::pools(), request).await
    }

    /// Changes a pool.
    pub async fn change_pool(&self, pool: &PoolName, request: &PoolChange) -> Result<PoolView, ClientError> {
        self.json(Method::PATCH, &paths::pool(pool), request).await
    }

    /// One pool, with its members and why each is one.
    pub async fn pool(&self, pool: &PoolName) -> Result<PoolView, ClientError> {
        self.get(&paths::pool(pool), NO_QUERY).await
    }

    /// What a change of a pool would do.
    pub async fn preview_pool(
        &self,
        pool: &PoolName,
        request: &PoolChange,
    ) -> Result<PoolPreview, ClientError> {
        self.json(Method::POST, &paths::pool_preview(pool), request).await
    }

    /// Removes a pool that nothing uses.
    pub async fn delete_pool(&self, pool: &PoolName) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::pool(pool)).await
    }

    /// How the last deployment of a stack fares.
    pub async fn rollout(&self, key: &StackKey) -> Result<RolloutView, ClientError> {
        self.get(&paths::rollout(&key.project, &key.stack), NO_QUERY).await
    }

    /// Deploys a former version of a stack again.
    pub async fn undo_rollout(&self, key: &StackKey, query: &UndoQuery) -> Result<DeployResult, ClientError> {
        self.bare(Method::POST, &with_query(&paths::rollout_undo(&key.project, &key.stack), query)?).await
    }

    /// Holds rollouts of a stack where they are.
    pub async fn pause_rollout(
        &self,
        key: &StackKey,
        query: &RolloutQuery,
    ) -> Result<RolloutView, ClientError> {
        self.bare(Method::POST, &with_query(&paths::rollout_pause(&key.project, &key.stack), query)?).await
    }

    /// Lets paused rollouts of a stack go on.
    pub async fn resume_rollout(
        &self,
        key: &StackKey,
        query: &RolloutQuery,
    ) -> Result<RolloutView, ClientError> {
        self.bare(Method::POST, &with_query(&paths::rollout_resume(&key.project, &key.stack), query)?).await
    }

    /// Lets new versions of a stack take over that are tried beside the old ones.
    pub async fn promote_rollout(
        &self,
        key: &StackKey,
        query: &RolloutQuery,
    ) -> Result<RolloutView, ClientError> {
        self.bare(Method::POST, &with_query(&paths::rollout_promote(&key.project, &key.stack), query)?).await
    }

    /// Forgets a node that is emptied, lost, rejected or revoked.
    pub async fn delete_node(&self, node: &str, query: &DeleteNodeQuery) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &with_query(&paths::node(node), query)?).await
    }

    /// Stacks.
    pub async fn stacks(&self, query: &StackQuery) -> Result<List<StackView>, ClientError> {
        self.get(&paths::stacks(), query).await
    }

    /// One stack with all that belongs to it.
    pub async fn stack(&self, key: &StackKey) -> Result<StackDetail, ClientError> {
        self.get(&paths::stack(&key.project, &key.stack), NO_QUERY).await
    }

    /// Deploys a stack, or says what that would do.
    pub async fn deploy(
        &self,
        key: &StackKey,
        query: &DeployQuery,
        request: &DeployRequest,
    ) -> Result<DeployResult, ClientError> {
        self.json(Method::PUT, &with_query(&paths::stack(&key.project, &key.stack), query)?, request).await
    }

    /// What a Compose file says, or its problems; nothing is deployed.
    pub async fn read_compose(
        &self,
        project: &ProjectName,
        request: &ComposeRead,
    ) -> Result<ComposeView, ClientError> {
        self.json(Method::POST, &paths::compose(project), request).await
    }

    /// Removes a stack; its volumes only when the query says so.
    pub async fn delete_stack(
        &self,
        key: &StackKey,
        query: &DeleteStackQuery,
    ) -> Result<StackView, ClientError> {
        self.bare(Method::DELETE, &with_query(&paths::stack(&key.project, &key.stack), query)?).await
    }

    /// Runs one image.
    pub async fn run(&self, request: &RunRequest) -> Result<DeployResult, ClientError> {
        self.json(Method::POST, &paths::run(), request).await
    }

    /// Workloads.
    pub async fn workloads(&self, query: &WorkloadQuery) -> Result<List<WorkloadView>, ClientError> {
        self.get(&paths::workloads(), query).await
    }

    /// One workload.
    pub async fn workload(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.get(&paths::workload(&key.project, &key.stack, &key.workload), NO_QUERY).await
    }

    /// Why its replicas are where they are, and where one more would go.
    pub async fn explain(&self, key: &WorkloadKey) -> Result<ExplainView, ClientError> {
        self.get(&paths::explain(&key.project, &key.stack, &key.workload), NO_QUERY).await
    }

    /// Lets a stopped workload run again.
    pub async fn start(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.bare(Method::POST, &paths::workload_start(&key.project, &key.stack, &key.workload)).await
    }

    /// Stops a workload and keeps its containers.
    pub async fn stop(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.bare(Method::POST, &paths::workload_stop(&key.project, &key.stack, &key.workload)).await
    }

    /// Restarts a workload's containers.
    pub async fn restart(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.bare(Method::POST, &paths::workload_restart(&key.project, &key.stack, &key.workload)).await
    }

    /// Changes how many replicas run.
    pub async fn scale(&self, key: &WorkloadKey, request: &Scale) -> Result<WorkloadView, ClientError> {
        self.json(Method::POST, &paths::workload_scale(&key.project, &key.stack, &key.workload), request)
            .await
    }

    /// Alerts that fire, the worst first.
    pub async fn alerts(&self) -> Result<List<AlertView>, ClientError> {
        self.get(&paths::alerts(), &[("", ""); 0]).await
    }

    /// What jobs did.
    pub async fn job_runs(&self, query: &JobRunQuery) -> Result<List<JobRunView>, ClientError> {
        self.get(&paths::job_runs(), query).await
    }

    /// When jobs were due and did not run.
    pub async fn missed_runs(&self, query: &JobRunQuery) -> Result<List<MissedRunsView>, ClientError> {
        self.get(&paths::missed_runs(), query).await
    }

    /// Holds the schedule of a job.
    pub async fn pause_schedule(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.bare(Method::POST, &paths::schedule_pause(&key.project, &key.stack, &key.workload)).await
    }

    /// Lets the schedule of a job go on from now.
    pub async fn resume_schedule(&self, key: &WorkloadKey) -> Result<WorkloadView, ClientError> {
        self.bare(Method::POST, &paths::schedule_resume(&key.project, &key.stack, &key.workload)).await
    }

    /// Allocations.
    pub async fn allocations(&self, query: &AllocationQuery) -> Result<List<AllocationView>, ClientError> {
        self.get(&paths::allocations(), query).await
    }

    /// One allocation, by id or its first characters.
    pub async fn allocation(&self, id: &str) -> Result<AllocationView, ClientError> {
        self.get(&paths::allocation(id), NO_QUERY).await
    }

    /// What an allocation's container wrote.
    pub async fn logs(&self, id: &str, query: &LogQuery) -> Result<LogStream, ClientError> {
        Ok(LogStream::new(self.open(&with_query(&paths::allocation_logs(id), query)?).await?))
    }

    /// Runs a command inside an allocation's container.
    pub async fn exec(&self, id: &str, start: &ExecStart) -> Result<ExecSession, ClientError> {
        let stream = self.endpoint.connect().await?;
        let path = paths::allocation_exec(id);
        let open = ExecSession::open(stream, self.endpoint.host(), &path, self.headers()?, start);
        self.in_time(open).await
    }

    /// Volumes.
    pub async fn volumes(&self, query: &VolumeQuery) -> Result<List<VolumeView>, ClientError> {
        self.get(&paths::volumes(), query).await
    }

    /// The secrets of a project, without their values.
    pub async fn secrets(&self, project: &ProjectName) -> Result<List<SecretView>, ClientError> {
        self.get(&paths::secrets(project), NO_QUERY).await
    }

    /// Sets a secret.
    pub async fn set_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        value: Vec<u8>,
    ) -> Result<SecretView, ClientError> {
        let path = paths::secret(project, name);
        let (response, _connection) =
            self.send(Method::PUT, &path, Some("application/octet-stream"), value.into()).await?;
        self.read(response).await
    }

    /// The versions of a secret, the newest first.
    pub async fn secret_versions(
        &self,
        project: &ProjectName,
        name: &SecretName,
    ) -> Result<List<SecretVersionView>, ClientError> {
        self.get(&paths::secret_versions(project, name), NO_QUERY).await
    }

    /// Makes a new version with the value of an earlier one.
    pub async fn rollback_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        version: u64,
    ) -> Result<SecretView, ClientError> {
        self.json(Method::POST, &paths::secret_rollback(project, name), &SecretRollback { version }).await
    }

    /// Goes over to a new key for what the server seals.
    pub async fn rotate_key(&self) -> Result<KeyRotation, ClientError> {
        self.bare(Method::POST, &paths::rotate_key()).await
    }

    /// Deletes a secret.
    pub async fn delete_secret(&self, project: &ProjectName, name: &SecretName) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::secret(project, name)).await
    }

    /// Whether a project has a tree of files.
    pub async fn has_tree(&self, project: &ProjectName, digest: TreeDigest) -> Result<bool, ClientError> {
        let path = paths::tree(project, digest);
        let (response, _connection) = self.exchange(Method::HEAD, &path, None, Bytes::new()).await?;
        // An answer to HEAD has no body, so a refusal is its status alone.
        match response.status().as_u16() {
            200..300 => Ok(true),
            404 => Ok(false),
            status => Err(refusal(status, b"")),
        }
    }

    /// Uploads a tree of files, named by the SHA-256 of its archive. Takes as long as the network needs.
    pub async fn put_tree(
        &self,
        project: &ProjectName,
        digest: TreeDigest,
        archive: impl Into<Bytes>,
    ) -> Result<TreeView, ClientError> {
        let patient = self.clone().with_timeout(UPLOAD_TIMEOUT);
        let path = paths::tree(project, digest);
        let (response, _connection) =
            patient.send(Method::PUT, &path, Some("application/x-tar"), archive.into()).await?;
        self.read(response).await
    }

    /// What happened.
    pub async fn events(&self, query: &EventQuery) -> Result<List<EventView>, ClientError> {
        self.get(&paths::events(), query).await
    }

    /// What led to an event, and what came of it.
    pub async fn event_chain(&self, id: u64) -> Result<EventChain, ClientError> {
        self.get(&paths::event_chain(id), NO_QUERY).await
    }

    /// Who changed what.
    pub async fn audit(&self, query: &AuditQuery) -> Result<List<AuditView>, ClientError> {
        self.get(&paths::audit(), query).await
    }

    /// How the backups are doing that the server makes by itself.
    pub async fn backup_status(&self) -> Result<BackupStatus, ClientError> {
        self.get(&paths::backup(), NO_QUERY).await
    }

    /// Has the server make a backup where its configuration says; [`Client::backup_status`] tells how it went.
    pub async fn create_backup(&self) -> Result<BackupStatus, ClientError> {
        self.bare(Method::POST, &paths::backup()).await
    }

    /// The whole control plane, encrypted to the recipients that are given.
    pub async fn backup_dump(&self, request: &BackupDump) -> Result<ByteStream, ClientError> {
        let body = serde_json::to_vec(request).map_err(|e| ClientError::Request(Box::new(e)))?;
        let (response, connection) =
            self.send(Method::POST, &paths::backup_dump(), Some("application/json"), body.into()).await?;
        Ok(ByteStream::new(Open { body: response.into_body(), _connection: connection }))
    }

    /// Every change from a revision on.
    pub async fn watch(&self, query: &WatchQuery) -> Result<WatchStream, ClientError> {
        Ok(WatchStream::new(self.open(&with_query(&paths::watch(), query)?).await?))
    }

    pub(crate) async fn json_empty(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Request(Box::new(e)))?;
        self.send(method, path, Some("application/json"), body.into()).await.map(|_| ())
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Request(Box::new(e)))?;
        let (response, _connection) = self.send(method, path, Some("application/json"), body.into()).await?;
        self.read(response).await
    }

    pub(crate) async fn bare<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let (response, _connection) = self.send(method, path, None, Bytes::new()).await?;
        self.read(response).await
    }

    pub(crate) async fn empty(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(method, path, None, Bytes::new()).await.map(|_| ())
    }

    async fn open(&self, path: &str) -> Result<Open, ClientError> {
        let (response, connection) = self.send(Method::GET, path, None, Bytes::new()).await?;
        Ok(Open { body: response.into_body(), _connection: connection })
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, ClientError> {
        let mut headers =
            vec![(USER_AGENT, HeaderValue::from_static(concat!("lattice/", env!("CARGO_PKG_VERSION"))))];
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|_| ClientError::InvalidToken)?;
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        Ok(headers)
    }

    /// Sends a request on a connection of its own; the answer's status says that it was done.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let (response, connection) = self.exchange(method, path, content_type, body).await?;
        self.accepted(response, connection).await
    }

    /// The same of a body that comes bit by bit. What breaks it off breaks the request off.
    pub(crate) async fn send_stream(
        &self,
        path: &str,
        content_type: &'static str,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let patient = self.clone().with_timeout(UPLOAD_TIMEOUT);
        let body = StreamBody::new(body.map_ok(Frame::data)).boxed_unsync();
        let (response, connection) =
            patient.exchange_body(Method::PUT, path, Some(content_type), body).await?;
        patient.accepted(response, connection).await
    }

    async fn accepted(
        &self,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        if response.status().is_success() {
            return Ok((response, connection));
        }
        let status = response.status().as_u16();
        let body = self.in_time(collect(response, MAX_ERROR_BODY)).await?;
        Err(refusal(status, &body))
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        self.exchange_body(method, path, content_type, body).await
    }

    async fn exchange_body(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: UnsyncBoxBody<Bytes, std::io::Error>,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = self.endpoint.connect().await?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.endpoint.host());
        for (name, value) in self.headers()? {
            request = request.header(name, value);
        }
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|e| ClientError::Request(Box::new(e)))?;
        self.in_time(async {
            let (mut sender, driver) =
                http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::broken)?;
            let connection = Connection(tokio::spawn(async move {
                // What breaks here also breaks the request, which tells it.
                let _ = driver.await;
            }));
            let response = sender.send_request(request).await.map_err(ClientError::broken)?;
            Ok((response, connection))
        })
        .await
    }

    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let body = self.in_time(collect(response, MAX_BODY)).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::json(&error))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { place: self.endpoint.to_string(), after: self.timeout }),
        }
    }
}

async fn collect(response: Response<Incoming>, limit: usize) -> Result<Bytes, ClientError> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge { limit }),
        Err(error) => Err(ClientError::Broken(error)),
    }
}

fn with_query(path: &str, query: &(impl Serialize + ?Sized)) -> Result<String, ClientError> {
    let query = serde_urlencoded::to_string(query).map_err(|e| ClientError::Request(Box::new(e)))?;
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}
