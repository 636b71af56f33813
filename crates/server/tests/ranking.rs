//! Nodes are measured and ranked: what an honest one computes counts and stays, what one makes up is found out.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_link::{
    BulkChannel,
    message::{BulkEnd, BulkFrame, HEARS_RANK, Rank, ServerMessage, StreamRequest, channel},
};
use lattice_measure::{
    Ask, BLOCKS, CHUNKS, FILE, MEASURES, MEASURES_GPUS, Told, Words, cpu, gpu,
    memory::{Chunk, next_key, words},
};
use lattice_model::{
    Duration,
    machine::{GpuFacts, GpuState},
};
use serde_json::{Value, json};
use std::time::Instant;
use support::*;

/// Who is new is asked within half a second; the same one again after half a minute at the earliest.
fn often(config: &mut lattice_server::ServerConfig) {
    config.measure_every = Duration::from_secs(60);
}

/// A node that can be measured.
async fn measurable(world: &World, name: &str) -> (Agent, Link) {
    let token = world.token(true).await;
    let mut agent = Agent::new(&token, name);
    agent.capabilities = vec![MEASURES.into()];
    agent.join_now(&token).await;
    let link = agent.connect().await.unwrap();
    (agent, link)
}

/// Waits until it is to be measured.
async fn asked(agent: &Agent, link: &mut Link) -> BulkChannel {
    loop {
        if let ServerMessage::OpenStream(asked) = soon("a request", link.io.recv.recv()).await.unwrap()
            && asked.request == StreamRequest::Measure
        {
            return agent.bulk().open(asked.stream).await.unwrap();
        }
    }
}

/// What a machine does that is asked.
#[derive(Default)]
struct Machine {
    block: Vec<u64>,
    /// A segment is made up.
    lies: bool,
    /// What its GPU computes is.
    gpu_lies: bool,
}

impl Machine {
    fn tell(&mut self, ask: Ask) -> Told {
        let began = Instant::now();
        let micros = |began: Instant| began.elapsed().as_micros() as u64;
        match ask {
            Ask::Ping { nonce } => Told::Pong { nonce },
            Ask::Cpu { seed, lanes, .. } => {
                let lane = |n| {
                    let mut state = cpu::begin(seed, n);
                    let mut segments: Vec<u64> = Vec::new();
                    for _ in 0..2 {
                        state = if self.lies { state ^ 1 } else { cpu::segment(state) };
                        segments.push(state);
                    }
                    Words(segments)
                };
                Told::Cpu { lanes: (0..lanes).map(lane).collect(), micros: micros(began) }
            }
            Ask::Fill { seed, .. } => {
                let len = words(*BLOCKS.start());
                self.block = vec![0; len * CHUNKS];
                self.block.chunks_mut(len).enumerate().for_each(|(n, chunk)| Chunk(chunk).fill(seed, n));
                Told::Filled { bytes: *BLOCKS.start() }
            }
            Ask::Pass { mut key, .. } => {
                let len = words(*BLOCKS.start());
                let pass = |_| {
                    let sums: Vec<u64> =
                        self.block.chunks_mut(len).map(|chunk| Chunk(chunk).pass(key)).collect();
                    key = next_key(key, &sums);
                    Words(sums)
                };
                Told::Passed { sums: (0..2).map(pass).collect(), micros: micros(began) }
            }
            Ask::GpuReady { gpu } => match gpu == "GPU-1" {
                true => Told::GpuReady { bytes: *gpu::BLOCKS.start() },
                false => Told::GpuNot { why: "there is none of that name".into() },
            },
            Ask::Gpu { seed, rounds, .. } => {
                let key = gpu::begin(seed);
                let mut sums: Vec<u64> =
                    (0..gpu::GROUPS).map(|group| gpu::group(key, group, rounds)).collect();
                if self.gpu_lies {
                    sums.iter_mut().for_each(|sum| *sum ^= 1);
                }
                Told::Gpu { sums: vec![Words(sums)], micros: micros(began) }
            }
            Ask::GpuFill { seed } => {
                let len = words(*gpu::BLOCKS.start());
                self.block = vec![0; len * CHUNKS];
                self.block.chunks_mut(len).enumerate().for_each(|(n, chunk)| Chunk(chunk).fill(seed, n));
                Told::GpuFilled { bytes: *gpu::BLOCKS.start() }
            }
            Ask::GpuPass { mut key, .. } => {
                let len = words(*gpu::BLOCKS.start());
                let pass = |_| {
                    let sums: Vec<u64> =
                        self.block.chunks_mut(len).map(|chunk| Chunk(chunk).pass(key)).collect();
                    key = next_key(key, &sums);
                    Words(sums)
                };
                Told::GpuPassed { sums: (0..2).map(pass).collect(), micros: micros(began) }
            }
            Ask::Disk { seed, key } => {
                let mut memory = vec![0; words(FILE)];
                let sum = |n| {
                    let mut chunk = Chunk(&mut memory);
                    chunk.fill(seed, n);
                    chunk.sum(key)
                };
                Told::Disk { sums: Words((0..CHUNKS).map(sum).collect()), write: 900, sync: 10, read: 300 }
            }
        }
    }

    /// Answers until the server ends it, or for so many questions.
    async fn answer(&mut self, stream: BulkChannel, most: usize) {
        let (send, mut recv) = stream.split();
        for _ in 0..most {
            match soon("a question", recv.recv()).await {
                Ok(Some(BulkFrame::Data { channel: channel::CONTROL, bytes })) => {
                    let told = self.tell(serde_json::from_slice(&bytes).unwrap());
                    let _ = send.data(channel::CONTROL, serde_json::to_vec(&told).unwrap().into()).await;
                }
                Ok(Some(BulkFrame::Data { .. })) => {}
                _ => break,
            }
        }
        let _ = send.close(BulkEnd::Done).await;
    }
}

fn runs(node: &Value) -> u64 {
    node["rank"]["measured"]["runs"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_measured_counts_and_outlives_server_and_node() {
    let mut world = World::with(often).await;
    let (mut agent, mut link) = measurable(&world, "desk").await;
    let (_idle, _link) = world.node("attic").await;
    let stream = asked(&agent, &mut link).await;
    Machine::default().answer(stream, 100).await;
    let node = world.until("/v1/nodes/desk", |node| runs(node) == 1).await;
    let rank = &node["rank"];
    let part = |name: &str| {
        let part = rank["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap();
        part["points"].as_u64().unwrap()
    };
    assert!(part("performance") > 0 && part("network") > 0, "{rank:#}");
    assert_eq!(part("capacity"), 0, "it takes three runs: {rank:#}");
    assert!(rank["probation"].as_str().unwrap().contains("2 more measurements"), "{rank:#}");
    assert!(rank["points"].as_u64().unwrap() <= 300, "{rank:#}");
    assert!(rank["measured"]["round_trip_us"].as_u64().unwrap() > 0, "{rank:#}");
    assert_eq!(rank["class"], "desktop", "{rank:#}");
    // Nobody was faster in less time than passed here, whatever the machine said.
    assert!(rank["measured"]["disk_write_rate"].as_u64().unwrap() < 18_000_000_000, "{rank:#}");

    // The board has both, the one that was measured first.
    let board = world
        .until("/v1/ranking", |list| {
            // Places are some seconds old, what was measured is not.
            list["items"].as_array().unwrap().len() == 2
                && runs(&list["items"][0]) == 1
                && list["items"][1]["rank"]["place"] == 2
        })
        .await;
    let names: Vec<_> = board["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["desk", "attic"]);
    assert_eq!(
        (&board["items"][1]["rank"]["place"], &board["items"][1]["rank"]["size"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(world.get("/v1/ranking?class=laptop").await["items"], json!([]));
    assert_eq!(world.ask("GET", "/v1/ranking?class=toaster", None).await.0, 400);

    // It is seen, too, and that is written down.
    world.until("/v1/nodes/desk", |node| node["rank"]["promises"]["since"].is_i64()).await;
    world.restart(often).await;
    let again = world.get("/v1/nodes/desk").await;
    assert_eq!((runs(&again), &again["rank"]["measured"]), (1, &rank["measured"]));
    assert!(again["rank"]["promises"]["since"].is_i64(), "{again:#}");

    // Whoever comes back with the same key comes back with its past.
    let since = again["rank"]["promises"]["since"].clone();
    world.ok("POST", "/v1/nodes/desk/revoke", Some(json!({ "reason": "for a while" }))).await;
    assert_eq!(world.ask("DELETE", "/v1/nodes/desk", None).await.0, 204);
    let token = world.token(true).await;
    agent.name = "desk-again".into();
    agent.join_now(&token).await;
    let back = world.until("/v1/nodes/desk-again", |node| node["rank"].is_object()).await;
    assert_eq!((runs(&back), &back["rank"]["promises"]["since"]), (1, &since), "{back:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_up_is_found_out_and_what_breaks_off_is_nothing() {
    let world = World::with(often).await;
    let (agent, mut link) = measurable(&world, "liar").await;
    let stream = asked(&agent, &mut link).await;
    Machine { lies: true, ..Machine::default() }.answer(stream, 100).await;
    let event = world.event("node.measurement_made_up").await;
    assert!(event["cause"].as_str().unwrap().contains("was not computed"), "{event:#}");
    let node = world.until("/v1/nodes/liar", |node| node["rank"]["marks"][0]["mark"] == "made_up").await;
    assert_eq!(runs(&node), 0, "{node:#}");

    // Three pings and one core, and then it hangs up: nothing but that core counts, and it was asked.
    let (agent, mut link) = measurable(&world, "coward").await;
    let stream = asked(&agent, &mut link).await;
    Machine::default().answer(stream, 4).await;
    let node = world.until("/v1/nodes/coward", |node| runs(node) == 1).await;
    assert_eq!(node["rank"]["measured"]["cpu_all"], 0.0, "{node:#}");

    // Who says beforehand that its owner needs it was not measured.
    let (agent, mut link) = measurable(&world, "busy").await;
    let stream = asked(&agent, &mut link).await;
    let refusal = lattice_link::Refusal::new("not_now", "somebody uses it", "");
    stream.send.close(BulkEnd::Failed(refusal)).await.unwrap();
    let (agent, mut link) = measurable(&world, "next").await;
    let stream = asked(&agent, &mut link).await;
    Machine::default().answer(stream, 100).await;
    world.until("/v1/nodes/next", |node| runs(node) == 1).await;
    assert_eq!(runs(&world.get("/v1/nodes/busy").await), 0);
}

/// Waits until it is told its rank.
async fn told(link: &mut Link) -> Rank {
    loop {
        if let ServerMessage::Rank(rank) = soon("its rank", link.io.recv.recv()).await.unwrap() {
            return rank;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_hear_it_is_told_its_own_rank() {
    let world = World::new().await;
    let token = world.token(true).await;
    let mut agent = Agent::new(&token, "desk");
    agent.capabilities = vec![HEARS_RANK.into()];
    agent.join_now(&token).await;
    let mut link = agent.connect().await.unwrap();
    let rank = told(&mut link).await;
    let seen = world.get("/v1/nodes/desk").await["rank"].clone();
    assert_eq!(
        (rank.points.into(), rank.class_place.into(), rank.size.into(), rank.most),
        (seen["points"].clone(), seen["class_place"].clone(), seen["size"].clone(), 1000)
    );
    assert_eq!((rank.class.as_str(), rank.place), ("desktop", 1));
    assert!(rank.probation.unwrap().contains("newcomer"), "{seen:#}");
    // Who does not say that it can hear it is told nothing else than before.
    let (mut old, mut link) = world.node("old").await;
    old.goal(&mut link).await;
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), link.io.recv.recv()).await;
    assert!(!matches!(more, Ok(Ok(ServerMessage::Rank(_)))), "{more:?}");
}

/// A node that lends a GPU which a container has used.
async fn with_gpu(world: &World, name: &str) -> (Agent, Link) {
    let token = world.token(true).await;
    let mut agent = Agent::new(&token, name);
    agent.capabilities = vec![MEASURES.into(), MEASURES_GPUS.into()];
    agent.join_now(&token).await;
    let gpu = GpuFacts { id: "GPU-1".into(), lent: true, state: GpuState::Proven, ..GpuFacts::default() };
    let mut hello = agent.hello();
    hello.facts.machine.gpus = vec![gpu];
    let link = agent.connect_with(hello).await.unwrap();
    (agent, link)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gpu_is_measured_and_one_that_makes_it_up_is_found_out() {
    let world = World::with(often).await;
    let (agent, mut link) = with_gpu(&world, "honest").await;
    let stream = asked(&agent, &mut link).await;
    Machine::default().answer(stream, 100).await;
    let node = world.until("/v1/nodes/honest", |node| runs(node) == 1).await;
    let measured = &node["rank"]["measured"]["gpu"];
    assert!(measured["memory_rate"].as_u64().unwrap() > 0, "{node:#}");
    let parts = node["rank"]["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["part"] == "gpu").unwrap();
    // It is a processor: whatever it calls itself, it has the points of one.
    assert!(part["points"].as_u64().unwrap() <= 5, "{node:#}");
    assert!(node["rank"]["placement_gpu"].is_u64(), "{node:#}");

    let (agent, mut link) = with_gpu(&world, "liar").await;
    let stream = asked(&agent, &mut link).await;
    Machine { gpu_lies: true, ..Machine::default() }.answer(stream, 100).await;
    let event = world.event("node.measurement_made_up").await;
    assert!(event["cause"].as_str().unwrap().contains("a GPU's lanes"), "{event:#}");
    let node = world.until("/v1/nodes/liar", |node| node["rank"]["marks"][0]["mark"] == "made_up").await;
    assert_eq!(runs(&node), 0, "{node:#}");

    // Who breaks off with its GPU keeps what the rest of it did, and has shown no GPU.
    let (agent, mut link) = with_gpu(&world, "coward").await;
    let stream = asked(&agent, &mut link).await;
    // Three pings, two for the processor, two for memory, the disk, the GPU is ready, and gets warm.
    Machine::default().answer(stream, 10).await;
    let node = world.until("/v1/nodes/coward", |node| runs(node) == 1).await;
    assert_eq!(node["rank"]["measured"]["gpu"]["speed"], 0.0, "{node:#}");
    assert!(node["rank"]["measured"]["disk_syncs"].as_f64().unwrap() > 0.0, "{node:#}");
}
