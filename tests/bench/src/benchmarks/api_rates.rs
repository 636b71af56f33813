//! `api-reads` and `api-writes`: requests a second that the API answers to 100 clients on loopback, each with a
//! connection and a token of its own and one request under way at a time; the embedded store on a real disk.
//!
//! A read is one service by name. A write is `scale` of a service that is stopped: judged, stored with its audit entry
//! and its event, planned, and acknowledged once it is on the disk; no container comes of it. The clients are tasks of
//! this process that speak HTTP/1.1 by hand, since they share the processors with the server.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::{Cluster, idle_stack},
    lab::Lab,
    progress::say,
    select::Wanted,
    stats::percentile,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use lattice_model::StackKey;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const CLIENTS: usize = 100;
const STACKS: usize = 10;
const WARM: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(8);

pub(super) struct ApiReads;
pub(super) struct ApiWrites;

#[async_trait]
impl Benchmark for ApiReads {
    fn about(&self) -> &'static str {
        "requests that read, of 100 clients"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "api-reads", unit: "requests/s", target: Target::AtLeast(20_000.0) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let (cluster, paths, token) = stage(lab).await?;
        let request = move |client: usize, _: u64| {
            let path = &paths[client % paths.len()];
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
        };
        rate("api-reads", cluster.api(), request).await
    }
}

#[async_trait]
impl Benchmark for ApiWrites {
    fn about(&self) -> &'static str {
        "requests that write, of 100 clients"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "api-writes", unit: "requests/s", target: Target::AtLeast(5_000.0) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let (cluster, paths, token) = stage(lab).await?;
        let request = move |client: usize, number: u64| {
            let body = format!("{{\"replicas\":{}}}", number % 2 + 1);
            format!(
                "POST {}/scale HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                paths[client],
                body.len()
            )
        };
        rate("api-writes", cluster.api(), request).await
    }
}

/// A cluster with one stopped service for each client; the paths of the services, and a token.
async fn stage(lab: &Lab) -> anyhow::Result<(Arc<Cluster>, Arc<Vec<String>>, String)> {
    say("a cluster with 100 stopped services");
    let cluster = lab.cluster().await?;
    let mut paths = Vec::with_capacity(CLIENTS);
    for stack in 0..STACKS {
        let key: StackKey = cluster.stack(&format!("s{stack}"))?;
        let mut spec = idle_stack(0)?;
        let service = spec.workloads.values().next().context("a stack has a service")?.clone();
        spec.workloads = (0..CLIENTS / STACKS)
            .map(|n| Ok((format!("w{n}").parse()?, service.clone())))
            .collect::<anyhow::Result<_>>()?;
        cluster.deploy(&key, &spec).await?;
        for name in spec.workloads.keys() {
            cluster.client().stop(&key.workload(name.clone())).await?;
            paths.push(lattice_api::paths::workload(&key.project, &key.stack, name));
        }
    }
    let token = cluster.token().await?;
    Ok((cluster, Arc::new(paths), token))
}

/// Requests a second of all clients together.
async fn rate(
    name: &'static str,
    server: SocketAddr,
    request: impl Fn(usize, u64) -> String + Clone + Send + 'static,
) -> anyhow::Result<Outcome> {
    say(&format!("{CLIENTS} clients for {} s", LONG.as_secs()));
    let (begin, end) = (Instant::now() + WARM, Instant::now() + WARM + LONG);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let request = request.clone();
        clients.spawn(async move {
            let mut connection = Connection::open(server).await?;
            let mut times = Vec::new();
            for number in 0.. {
                let asked = Instant::now();
                if asked >= end {
                    break;
                }
                let status = connection.ask(&request(client, number)).await?;
                if status != 200 {
                    bail!("the server answered {status} to a client");
                }
                if asked >= begin {
                    times.push(asked.elapsed().as_secs_f64() * 1000.0);
                }
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = clients.join_next().await {
        times.extend(ended.context("a client broke off")??);
    }
    let mut outcome = Outcome::default();
    outcome.add(name, times.len() as f64 / LONG.as_secs_f64());
    outcome.note(format!(
        "answers in ms: median {:.2}, p99 {:.2}, worst {:.1}",
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        percentile(&times, 1.0)
    ));
    Ok(outcome)
}

/// One connection of HTTP/1.1 that stays open.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await.context("the API cannot be reached")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 << 10) })
    }

    /// Sends a request, reads the whole answer, gives its status.
    async fn ask(&mut self, request: &str) -> anyhow::Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed a connection");
            }
            if let Some((status, whole)) = head(&self.buffer)?
                && self.buffer.len() >= whole
            {
                return Ok(status);
            }
        }
    }
}

/// Status and length of an answer, once its head is there.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end])?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has no status")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.context("an answer does not say how long it is")??;
    Ok(Some((status.parse()?, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(head(&answer[..20]).unwrap(), None);
        assert_eq!(head(answer).unwrap(), Some((200, answer.len())));
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
