//! A real server in a temporary folder, a client that speaks plain HTTP, and an agent that does
//! what a test tells it, over the real link.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use lattice_api::{ApiTokenCreate, JoinTokenCreate};
use lattice_identity::{CertSlot, Clock, JoinToken, NodeKey, tls};
use lattice_link::{
    LinkError, PROTOCOL,
    client::{self, Connection, Dialer, SessionIo},
    message::*,
};
use lattice_model::{
    AllocationId, Bytes as Amount, Cpu, Goal, GoalId, NodeId, Timestamp,
    report::{AllocationState, AllocationStatus, Report, ReportKind},
    resource::{Capacity, NodeFacts},
};
use lattice_server::{RunningServer, Server, ServerConfig};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::{collections::BTreeMap, future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come in time"))
}

pub fn config(home: &Path) -> ServerConfig {
    ServerConfig {
        api_listen: "127.0.0.1:0".parse().unwrap(),
        agent_listen: "127.0.0.1:0".parse().unwrap(),
        ..ServerConfig::new(home)
    }
}

pub struct World {
    pub home: tempfile::TempDir,
    pub server: Option<RunningServer>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = config(home.path());
        change(&mut config);
        let server = Server::start(config, CancellationToken::new()).await.unwrap();
        Self { home, server: Some(server) }
    }

    pub fn server(&self) -> &RunningServer {
        self.server.as_ref().unwrap()
    }

    pub async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.shutdown();
        soon("the end of the server", server.wait()).await;
    }

    /// Stops and starts again on the same ports, as an agent would see it.
    pub async fn restart(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        self.restart_with(|_| {}, change).await;
    }

    /// The same, with something done to its folder in between.
    pub async fn restart_with(
        &mut self,
        between: impl FnOnce(&Path),
        change: impl FnOnce(&mut ServerConfig),
    ) {
        let (api, agents) = (self.server().api_addr(), self.server().agent_addr());
        self.stop().await;
        between(self.home.path());
        let mut config = ServerConfig { api_listen: api, agent_listen: agents, ..config(self.home.path()) };
        change(&mut config);
        self.server = Some(Server::start(config, CancellationToken::new()).await.unwrap());
    }

    /// A request on the socket.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let stream = tokio::net::UnixStream::connect(self.server().socket()).await.unwrap();
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        send(stream, method, path, &[("host", "lattice")], body).await
    }

    pub async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer:#}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, None).await
    }

    /// A request on TCP.
    pub async fn tcp(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.tcp_body(method, path, headers, String::new()).await
    }

    /// A request on TCP as somebody: the bearer token, and JSON where there is some.
    pub async fn as_bearer(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.tcp_body(method, path, &[("authorization", &bearer)], body).await
    }

    pub async fn tcp_body(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (u16, Value) {
        let stream = tokio::net::TcpStream::connect(self.server().api_addr()).await.unwrap();
        let own = format!("127.0.0.1:{}", self.server().api_addr().port());
        let mut all = vec![("host", own.as_str())];
        if headers.iter().any(|(name, _)| *name == "host") {
            all.clear();
        }
        all.extend(headers);
        send(stream, method, path, &all, body).await
    }

    /// A request on the socket with bytes in its body.
    pub async fn bytes(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let stream = tokio::net::UnixStream::connect(self.server().socket()).await.unwrap();
        send(stream, method, path, &[("host", "lattice")], body).await
    }

    /// An API token with roles such as `viewer developer@project/shop`.
    pub async fn api_token(&self, roles: &str) -> String {
        let roles = roles.split_whitespace().map(|role| role.parse().unwrap()).collect();
        let request = ApiTokenCreate { name: "test".into(), roles, ttl_ms: None };
        self.server().create_api_token(request).await.unwrap().token
    }

    /// A user with a password, signed in; gives the session's token.
    pub async fn session(&self, name: &str, roles: &str) -> String {
        let roles: Vec<&str> = roles.split_whitespace().collect();
        let user = json!({ "name": name, "roles": roles, "password": PASSWORD });
        self.ok("POST", "/v1/users", Some(user)).await;
        let (status, session) = self.login(name, PASSWORD).await;
        assert_eq!(status, 200, "{session}");
        session["token"].as_str().unwrap().to_owned()
    }

    /// Signs in over TCP.
    pub async fn login(&self, user: &str, password: &str) -> (u16, Value) {
        let body = json!({ "user": user, "password": password, "client": "test" }).to_string();
        self.tcp_body("POST", "/v1/login", &[], body).await
    }

    /// A request over TCP without credential.
    pub async fn stranger(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.tcp_body(method, path, &[], body.to_string()).await
    }

    pub async fn token(&self, auto_approve: bool) -> JoinToken {
        let request = JoinTokenCreate { auto_approve, ..JoinTokenCreate::default() };
        JoinToken::parse(&self.server().create_join_token(request).await.unwrap().token).unwrap()
    }

    /// An agent that is approved and connected.
    pub async fn node(&self, name: &str) -> (Agent, Link) {
        let token = self.token(true).await;
        let mut agent = Agent::new(&token, name);
        agent.join_now(&token).await;
        let link = agent.connect().await.unwrap();
        (agent, link)
    }

    /// Asks until `right` says so.
    pub async fn until(&self, path: &str, right: impl Fn(&Value) -> bool) -> Value {
        let ask = async {
            loop {
                let answer = self.get(path).await;
                if right(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), ask).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path} does not become right: {:#}", self.get(path).await),
        }
    }

    pub async fn event(&self, kind: &str) -> Value {
        let has = |event: &&Value| event["kind"] == kind;
        let all = self
            .until("/v1/events?limit=1000", |list| list["items"].as_array().unwrap().iter().any(|e| has(&e)))
            .await;
        all["items"].as_array().unwrap().iter().find(has).unwrap().clone()
    }
}

/// The first words of a stream over TCP: its status, and then its body as text until `until` holds.
pub async fn stream_as(
    world: &World,
    token: &str,
    path: &str,
    mut until: impl FnMut(&str) -> bool,
) -> (u16, String) {
    let address = world.server().api_addr();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri(path)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    let (status, mut body, mut text) = (response.status().as_u16(), response.into_body(), String::new());
    while !until(&text) {
        match soon("more of the stream", body.frame()).await {
            Some(frame) => {
                text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
            }
            None => break,
        }
    }
    (status, text)
}

pub async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (u16, Value) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let bytes = soon("a body", response.into_body().collect()).await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// An agent's identity and what it remembers.
pub struct Agent {
    pub key: NodeKey,
    pub name: String,
    pub node: Option<NodeId>,
    pub ratchet: Secret,
    pub goal: Option<(GoalId, [u8; 32])>,
    pub outbox: u128,
    pub seq: u64,
    pub waiting: u64,
    pub memory: Amount,
    pub version: String,
    pub capabilities: Vec<String>,
    pub statuses: BTreeMap<AllocationId, AllocationStatus>,
    slot: Arc<CertSlot>,
    server: String,
    trust: lattice_identity::Fingerprint,
}

/// An agent's open session.
pub struct Link {
    pub welcome: Welcome,
    pub io: SessionIo,
    /// The last goal that came while something else was waited for.
    kept: Option<ServerMessage>,
}

impl Agent {
    pub fn new(token: &JoinToken, name: &str) -> Self {
        Self {
            key: NodeKey::generate().unwrap(),
            name: name.into(),
            node: None,
            ratchet: Secret::new(Vec::new()),
            goal: None,
            outbox: 7,
            seq: 0,
            waiting: 0,
            memory: Amount::from_mib(4096),
            version: "0.1.0".into(),
            capabilities: Vec::new(),
            statuses: BTreeMap::new(),
            slot: CertSlot::empty(),
            server: token.servers()[0].to_string(),
            trust: token.root(),
        }
    }

    /// The same directory on another machine.
    pub fn copy(&self) -> Self {
        let slot = CertSlot::empty();
        Self {
            key: NodeKey::generate().unwrap(),
            slot,
            name: self.name.clone(),
            ratchet: self.ratchet.clone(),
            server: self.server.clone(),
            version: self.version.clone(),
            capabilities: self.capabilities.clone(),
            statuses: BTreeMap::new(),
            ..*self
        }
    }

    /// From now on it comes to this address.
    pub fn dial(&mut self, server: std::net::SocketAddr) {
        self.server = server.to_string();
    }

    fn dialer(&self, slot: &Arc<CertSlot>) -> Dialer {
        let clock = Clock::new(|| Timestamp(now()));
        let config =
            tls::client_config(tls::Trust::Fingerprint(self.trust), Arc::clone(slot), clock).unwrap();
        let config = Arc::new(config);
        Dialer::new(vec![self.server.parse().unwrap()], Arc::new(move || Arc::clone(&config)))
    }

    pub async fn enrolment(&self) -> Connection {
        soon("a connection", self.dialer(&CertSlot::empty()).dial()).await.unwrap()
    }

    pub fn request(&self, token: &JoinToken) -> JoinRequest {
        JoinRequest {
            protocol: PROTOCOL,
            agent_version: self.version.clone(),
            token_id: token.id(),
            token_secret: Secret::new(token.secret().expose().to_vec()),
            csr_der: self.key.csr_der("test").unwrap(),
            public_key: self.key.public_key_der().to_vec(),
            name: Some(self.name.parse().unwrap()),
            facts: self.facts(),
            capacity: self.capacity(),
        }
    }

    fn facts(&self) -> NodeFacts {
        NodeFacts {
            hostname: self.name.clone(),
            os: "linux".into(),
            arch: "x86_64".into(),
            agent_version: self.version.clone(),
            ..NodeFacts::default()
        }
    }

    fn capacity(&self) -> Capacity {
        Capacity { cpu: Cpu::from_cores(4), memory: self.memory, disk: Amount::from_mib(1 << 20) }
    }

    pub async fn join(&self, request: JoinRequest) -> Joining {
        let connection = self.enrolment().await;
        let updates = connection.join(request).await.unwrap();
        Joining { updates: Box::pin(updates), _connection: connection }
    }

    pub fn approved(&mut self, approved: Approved) {
        self.node = Some(approved.node);
        self.ratchet = approved.ratchet;
        self.certify(&approved.certificate);
    }

    pub fn certify(&self, certificate: &Certificate) {
        let chain = certificate.chain_der.iter().map(|der| CertificateDer::from(der.clone())).collect();
        self.slot.swap(chain, self.key.private_key()).unwrap();
    }

    pub async fn join_now(&mut self, token: &JoinToken) {
        let mut joining = self.join(self.request(token)).await;
        match joining.next().await {
            JoinUpdate::Approved(approved) => self.approved(approved),
            other => panic!("{other:?}"),
        }
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            agent_version: self.version.clone(),
            capabilities: self.capabilities.clone(),
            facts: self.facts(),
            capacity: self.capacity(),
            goal: self.goal,
            ratchet: self.ratchet.clone(),
            boot_id: "boot".into(),
            statuses: self.statuses.clone(),
            outbox: OutboxMark {
                id: OutboxId(self.outbox),
                first: self.seq + 1 - self.waiting,
                next: self.seq + 1,
            },
            standing: Default::default(),
        }
    }

    /// Opens a session, keeps the next ratchet and confirms it.
    pub async fn connect(&mut self) -> Result<Link, LinkError> {
        self.connect_with(self.hello()).await
    }

    pub async fn connect_with(&mut self, hello: Hello) -> Result<Link, LinkError> {
        let (welcome, io) = soon("welcome", client::connect(&self.dialer(&self.slot), hello)).await?;
        if let Some(next) = welcome.ratchet_next.clone() {
            self.ratchet = next;
            io.send.send(AgentMessage::RatchetStored).await?;
        }
        Ok(Link { welcome, io, kept: None })
    }

    pub fn report(&mut self, kind: ReportKind) -> Reported {
        self.seq += 1;
        Reported::Known(Report { seq: self.seq, at: Timestamp(now()), kind })
    }

    pub fn bulk(&self) -> client::BulkDialer {
        client::BulkDialer::new(Arc::new(self.dialer(&self.slot)))
    }

    /// Takes the next goal.
    pub async fn goal(&mut self, link: &mut Link) -> Goal {
        loop {
            let next = match link.kept.take() {
                Some(kept) => kept,
                None => soon("a goal", link.io.recv.recv()).await.unwrap(),
            };
            match next {
                ServerMessage::Goal(sealed) => {
                    self.goal = Some((sealed.id(), *sealed.hash()));
                    link.io.send.send(AgentMessage::GoalAccepted(sealed.id())).await.unwrap();
                    return sealed.open().unwrap();
                }
                other => assert!(!matches!(other, ServerMessage::Welcome(_)), "{other:?}"),
            }
        }
    }

    /// Sends reports and waits for their acknowledgement.
    pub async fn say(&mut self, link: &mut Link, kinds: Vec<ReportKind>) {
        let reports: Vec<_> = kinds.into_iter().map(|kind| self.report(kind)).collect();
        self.repeat(link, reports).await;
    }

    pub async fn repeat(&mut self, link: &mut Link, reports: Vec<Reported>) {
        link.io.send.send(AgentMessage::Reports(reports)).await.unwrap();
        loop {
            match soon("an ack", link.io.recv.recv()).await.unwrap() {
                ServerMessage::Ack(up_to) if up_to >= self.seq => return,
                goal @ ServerMessage::Goal(_) => link.kept = Some(goal),
                _ => {}
            }
        }
    }
}

pub fn running(id: AllocationId) -> ReportKind {
    let started_at = Some(Timestamp(now()));
    ReportKind::Allocation {
        id,
        status: AllocationStatus { started_at, ..AllocationStatus::new(AllocationState::Running) },
    }
}

pub fn stopped(id: AllocationId) -> ReportKind {
    ReportKind::Allocation { id, status: AllocationStatus::new(AllocationState::Stopped) }
}

type Updates = Pin<Box<dyn futures::Stream<Item = Result<JoinUpdate, LinkError>> + Send>>;

pub struct Joining {
    updates: Updates,
    _connection: Connection,
}

impl Joining {
    pub async fn next(&mut self) -> JoinUpdate {
        soon("an update", self.updates.next()).await.unwrap().unwrap()
    }

    pub async fn refused(&mut self) -> String {
        match self.next().await {
            JoinUpdate::Refused(refusal) => refusal.code.into_owned(),
            other => panic!("{other:?}"),
        }
    }
}

/// The code of a Goodbye.
pub fn code(error: &LinkError) -> String {
    match error {
        LinkError::Refused(refusal) => refusal.code.to_string(),
        other => format!("{other:?}"),
    }
}

/// Reads until the session ends; gives why.
pub async fn goodbye(link: &mut Link) -> String {
    loop {
        if let Err(error) = soon("goodbye", link.io.recv.recv()).await {
            return code(&error);
        }
    }
}

pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A stack of one service.
pub fn web(image: &str) -> Value {
    json!({ "spec": {
        "workloads": { "web": { "image": image, "networks": { "default": {} }, "mounts": [{ "volume": "data", "target": "/data" }] } },
        "volumes": { "data": {} },
        "networks": { "default": {} }
    }})
}

pub const PASSWORD: &str = "correct horse battery staple";
pub const SHOP: &str = "/v1/projects/default/stacks/shop";
pub const WEB: &str = "/v1/projects/default/stacks/shop/workloads/web";
