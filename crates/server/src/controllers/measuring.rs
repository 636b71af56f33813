//! Measures nodes, each about once in [`ServerConfig::measure_every`](crate::ServerConfig::measure_every), at times that
//! it draws by chance and tells nobody. Each server measures the nodes whose sessions it has.
//!
//! A number that was drawn this moment leaves, and this server's clock runs until the answer is there; some of it is
//! computed anew ([`lattice_measure`]). What a node begins and does not end counts as nothing done; what it refuses
//! beforehand, since its owner needs it, counts as not asked. An answer that is not what the work gives makes it a
//! newcomer again, and is told.

use crate::{
    clock,
    gateway::streams,
    rows::{self, Event, MeasuredRow},
    state::{Core, Refused, Snapshot},
};
use lattice_link::{
    BulkChannel, BulkReceiver, BulkSender,
    message::{BulkEnd, BulkFrame, StreamRequest, channel},
};
use lattice_measure::{
    Ask, BLOCKS, FILE, MAX_LANES, MEASURES, MEASURES_GPUS, SYNCS, Told, Wrong, check_cpu, check_disk,
    check_gpu, check_gpu_memory, check_memory, gpu,
};
use lattice_model::{
    Bytes, Duration as Span, NodeId, Timestamp,
    resource::{Approval, Intent, Node},
};
use lattice_ranking::{GpuSpeed, Run};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// How many are measured at the same time: two on one machine would measure each other.
const PLACES: usize = 2;
/// Between two looks at who is due.
const LOOK: Duration = Duration::from_secs(1);
/// How long one part of it may take.
const PART: Duration = Duration::from_secs(20);
/// For how long a part runs.
const MILLIS: u16 = 400;
/// Segments of work that are computed anew.
const PICKS: usize = 3;
/// How long a GPU computes before it counts: its clock rises, and its speed says how long a segment should be.
const WARM_MILLIS: u16 = 150;
/// The rounds of a GPU's segments until then.
const WARM_ROUNDS: u32 = 64;
/// How long a GPU's segment should take, in seconds: long beside what starts it.
const SEGMENT: f64 = 0.004;
/// The most rounds of one: this server computes some of it anew.
const MOST_ROUNDS: u32 = 4096;
/// How often the way is measured; the shortest counts.
const PINGS: u32 = 3;
/// The most bytes of one answer.
const MAX_ANSWER: usize = 256 << 10;

/// Why there is no whole measurement.
enum Ended {
    /// It was not begun.
    Refused(String),
    /// It broke off.
    Broken(String),
    /// It was made up.
    MadeUp(Wrong),
}

/// A number drawn now.
fn draw() -> u64 {
    u64::from_be_bytes(clock::random())
}

/// A span from a range, by chance.
fn between(least: u64, most: u64) -> Span {
    Span(least + draw() % (most - least).max(1))
}

/// Measures until the server goes down.
pub(crate) async fn run(core: Arc<Core>) {
    let every = core.config.measure_every.0;
    if every == 0 {
        return;
    }
    let mut due: HashMap<NodeId, Timestamp> = HashMap::new();
    let places = Arc::new(Semaphore::new(PLACES));
    // As many wait as there are places.
    let (ended, mut ends) = mpsc::channel::<(NodeId, bool)>(PLACES);
    let mut timer = tokio::time::interval(LOOK);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            Some((node, refused)) = ends.recv() => {
                if refused {
                    due.insert(node, clock::now() + between(every / 24, every / 4));
                }
                continue;
            }
            _ = timer.tick() => {}
        }
        let (snapshot, now) = (core.snapshot(), clock::now());
        // Not by session: who connects anew draws no new time.
        due.retain(|node, _| snapshot.cluster.nodes.contains_key(node));
        let sessions: Vec<NodeId> = {
            let sessions = core.live.sessions.lock();
            sessions.iter().filter(|(_, session)| session.can(MEASURES)).map(|(node, _)| *node).collect()
        };
        for node in sessions {
            let Some(row) = snapshot.cluster.nodes.get(&node) else { continue };
            let at = *due.entry(node).or_insert_with(|| {
                let identity = snapshot.identities.get(&node);
                let measured = identity.and_then(|identity| snapshot.measured.get(&identity.fingerprint));
                let soon = now + between(every / 720, every / 144);
                match measured.and_then(|row| row.runs.newest().copied()) {
                    Some(run) => soon.max(run.at + between(every / 2, every / 2 * 3)),
                    None => soon,
                }
            });
            if at > now || row.approval != Approval::Approved || !row.standing.takes_work() {
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
            due.insert(node, now + between(every / 2, every / 2 * 3));
            let (core, ended) = (Arc::clone(&core), ended.clone());
            tokio::spawn(async move {
                let refused = measure(&core, node).await;
                drop(place);
                let _ = ended.send((node, refused)).await;
            });
        }
    }
}

/// Measures one node and writes down what came of it; whether it refused to be measured now.
async fn measure(core: &Core, node: NodeId) -> bool {
    let snapshot = core.snapshot();
    let Some(row) = snapshot.cluster.nodes.get(&node) else { return false };
    let name = row.name.clone();
    let reserved: u64 = snapshot
        .cluster
        .allocations_on(node)
        .filter(|allocation| allocation.intent != Intent::Remove)
        .map(|allocation| allocation.spec.resources.reserved().1.0)
        .sum();
    let lent = row.capacity;
    let mut run = Run { claimed_cpu: lent.cpu, ..Run::default() };
    let lanes = u16::try_from(lent.cpu.0.div_ceil(1000)).unwrap_or(MAX_LANES).clamp(1, MAX_LANES);
    let can = core.live.session(node).is_some_and(|session| session.can(MEASURES_GPUS));
    let asked = Asked {
        lanes,
        block: block(lent.memory.0.saturating_sub(reserved)),
        gpu: gpu_of(&snapshot, row).filter(|_| can),
    };
    let whole = tokio::select! {
        whole = converse(core, node, asked, &mut run) => whole,
        () = core.shutdown.cancelled() => return false,
    };
    run.at = clock::now();
    run.up = core.live.probes.up(node).map_or(0.0, |up| up as f64);
    let made_up = match whole {
        Ok(()) => {
            tracing::info!(%node, %name, ?run, "a node was measured");
            None
        }
        Err(Ended::Refused(why)) => {
            tracing::debug!(%node, %name, why, "a node is not measured now");
            return true;
        }
        Err(Ended::Broken(why)) => {
            tracing::info!(%node, %name, why, "a measurement was begun and not ended");
            None
        }
        Err(Ended::MadeUp(wrong)) => {
            tracing::warn!(%node, %name, %wrong, "a node's answer to a measurement is made up");
            Some(wrong)
        }
    };
    if let Err(refused) = keep(core, node, run, made_up).await {
        tracing::warn!(%node, ?refused, "what was measured was not written down");
    }
    false
}

/// What a node is asked for.
struct Asked {
    lanes: u16,
    block: u64,
    /// The id of a GPU.
    gpu: Option<String>,
}

/// One of a node's GPUs, drawn by chance: whole ones that are lent, that a container has used, and that nobody has.
fn gpu_of(snapshot: &Snapshot, node: &Node) -> Option<String> {
    let taken = |id: &str| {
        let mut all = snapshot.cluster.allocations_on(node.id);
        all.any(|allocation| {
            allocation.spec.gpus.as_ref().is_some_and(|gpus| gpus.ids.iter().any(|one| one == id))
        })
    };
    let units = node.facts.machine.gpu_units();
    let mut free: Vec<&str> =
        units.iter().filter(|unit| unit.is_usable() && !unit.gpu.mig).map(|unit| unit.id).collect();
    free.retain(|id| !taken(id));
    let at = draw() % (free.len().max(1) as u64);
    free.get(at as usize).map(|id| (*id).to_owned())
}

/// How much memory is asked for: a power of two of MiB by chance, an eighth of what is free by what is lent at the most.
fn block(free: u64) -> u64 {
    let (least, most) = (*BLOCKS.start(), (*BLOCKS.end()).min(free / 8));
    let steps = (most / least).checked_ilog2();
    match steps {
        Some(steps) => least << (draw() % u64::from(steps + 1)),
        // Too small to be asked for much.
        None if free >= 4 * least => least,
        None => 0,
    }
}

/// Writes down what came of it.
async fn keep(core: &Core, node: NodeId, run: Run, made_up: Option<Wrong>) -> Result<(), Refused> {
    core.commit(|snapshot| {
        let (Some(row), Some(identity)) = (snapshot.cluster.nodes.get(&node), snapshot.identities.get(&node))
        else {
            return Ok((Vec::new(), ()));
        };
        let known = snapshot.measured.get(&identity.fingerprint);
        let mut runs = known.map(|row| row.runs.clone()).unwrap_or_default();
        let mut ops = Vec::new();
        match made_up {
            None => {
                // What passes is measured once a day and network, and remembered until it is known anew.
                let up = runs.newest().map_or(0.0, |last| last.up);
                runs.add(Run { up: if run.up > 0.0 { run.up } else { up }, ..run });
            }
            Some(wrong) => {
                runs.make_up(clock::now());
                let text = "its answer to a measurement was made up; it counts as a newcomer again";
                ops.extend(rows::events([Event::new(
                    "node.measurement_made_up",
                    row.name.to_string(),
                    text,
                )
                .on(row)
                .because(Some(wrong.to_string()))]));
            }
        }
        let changed = MeasuredRow { key: identity.fingerprint.clone(), runs, seen: clock::now() };
        ops.push(match known {
            Some(known) => rows::update(&changed, known.revision),
            None => rows::create(&changed),
        });
        Ok((ops, ()))
    })
    .await
    .map(drop)
}

/// Both ends of a measurement.
struct Talk {
    send: BulkSender,
    recv: BulkReceiver,
    /// There and back, as it was measured.
    trip: Duration,
}

impl Talk {
    /// Asks, and waits for the answer: how long that took, by this server's clock.
    async fn ask(&mut self, ask: &Ask) -> Result<(Told, Duration), Ended> {
        let json = serde_json::to_vec(ask).unwrap_or_default();
        let broken = |error: lattice_link::LinkError| Ended::Broken(error.to_string());
        let began = Instant::now();
        self.send.data(channel::CONTROL, json.into()).await.map_err(broken)?;
        let mut said = Vec::new();
        let answer = async {
            loop {
                match self.recv.recv().await.map_err(broken)? {
                    Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => {
                        said.extend_from_slice(&bytes);
                        if said.len() > MAX_ANSWER {
                            return Err(Ended::Broken("its answer is too long".into()));
                        }
                        // An answer of several frames is whole when it can be read.
                        if let Ok(told) = serde_json::from_slice(&said) {
                            return Ok(told);
                        }
                    }
                    Some(BulkFrame::Close(BulkEnd::Failed(refusal))) => {
                        return Err(Ended::Refused(refusal.to_string()));
                    }
                    Some(BulkFrame::Close(_)) | None => return Err(Ended::Broken("it ended it".into())),
                    Some(_) => {}
                }
            }
        };
        match timeout(PART, answer).await {
            Ok(told) => Ok((told?, began.elapsed())),
            Err(_) => Err(Ended::Broken("it did not answer in time".into())),
        }
    }

    /// How long something took, in seconds: what the node says, and no less than what was seen of it. Of what was seen
    /// the way is taken off, a tenth at the most: a node may have been slow on purpose when the way was measured.
    fn took(&self, seen: Duration, said: u64) -> f64 {
        let seen = seen.saturating_sub(self.trip.min(seen / 10));
        seen.max(Duration::from_micros(said)).as_secs_f64().max(1e-6)
    }
}

/// A refusal counts as one only before a number was given that work grows from.
fn begun(ended: Ended) -> Ended {
    match ended {
        Ended::Refused(why) => Ended::Broken(why),
        other => other,
    }
}

async fn checked<T: Send + 'static>(
    check: impl FnOnce() -> Result<T, Wrong> + Send + 'static,
) -> Result<T, Ended> {
    match tokio::task::spawn_blocking(check).await {
        Ok(done) => done.map_err(Ended::MadeUp),
        Err(_) => Err(Ended::Broken("this server goes down".into())),
    }
}

fn out_of_turn() -> Ended {
    Ended::Broken("it answers what it was not asked".into())
}

/// All of a measurement. What was measured stays in `run` also when it breaks off.
async fn converse(core: &Core, node: NodeId, asked: Asked, run: &mut Run) -> Result<(), Ended> {
    let opened = streams::open(core, node, StreamRequest::Measure).await;
    let BulkChannel { send, recv } = opened.map_err(|error| Ended::Refused(error.message))?;
    let mut talk = Talk { send, recv, trip: Duration::MAX };
    for _ in 0..PINGS {
        let nonce = draw();
        match talk.ask(&Ask::Ping { nonce }).await? {
            (Told::Pong { nonce: back }, seen) if back == nonce => talk.trip = talk.trip.min(seen),
            _ => return Err(out_of_turn()),
        }
    }
    run.round_trip_us = u64::try_from(talk.trip.as_micros()).unwrap_or(u64::MAX).max(1);
    work(&mut talk, &asked, run).await.map_err(begun)?;
    if let Some(id) = asked.gpu {
        graphics(&mut talk, id, &mut run.gpu).await.map_err(begun)?;
    }
    let _ = talk.send.end(channel::CONTROL).await;
    Ok(())
}

async fn work(talk: &mut Talk, asked: &Asked, run: &mut Run) -> Result<(), Ended> {
    let Asked { lanes, block, gpu: _ } = *asked;
    run.cpu_one = processor(talk, 1).await?;
    run.cpu_all = if lanes > 1 { processor(talk, lanes).await? } else { run.cpu_one };
    if block > 0 {
        run.block_asked = Bytes(block);
        let seed = draw();
        let (told, _) = talk.ask(&Ask::Fill { seed, bytes: block }).await?;
        let Told::Filled { bytes } = told else { return Err(out_of_turn()) };
        let is_block = bytes.is_power_of_two() && bytes <= block && BLOCKS.contains(&bytes);
        if bytes > 0 && !is_block {
            return Err(Ended::MadeUp(Wrong::Form { what: "another block" }));
        }
        if bytes > 0 {
            let key = draw();
            let (told, seen) = talk.ask(&Ask::Pass { key, millis: MILLIS }).await?;
            let Told::Passed { sums, micros } = told else { return Err(out_of_turn()) };
            let passes = checked(move || check_memory(seed, bytes, key, &sums, draw())).await?;
            // Each word is read and written.
            run.memory = (2 * passes * bytes) as f64 / talk.took(seen, micros);
            run.block = Bytes(bytes);
        }
    }
    let (seed, key) = (draw(), draw());
    let (told, seen) = talk.ask(&Ask::Disk { seed, key }).await?;
    let Told::Disk { sums, write, sync, read } = told else { return Err(out_of_turn()) };
    checked(move || check_disk(seed, key, &sums, draw)).await?;
    // All of it took as long as was seen: what the node says only shares that out.
    let said = write.saturating_add(read).saturating_add(sync.saturating_mul(SYNCS.into())).max(1);
    let longer = talk.took(seen, said) / (said as f64 / 1e6);
    let seconds = |micros: u64| micros.max(1) as f64 / 1e6 * longer;
    run.disk_write = FILE as f64 / seconds(write);
    run.disk_read = FILE as f64 / seconds(read);
    run.disk_sync = 1.0 / seconds(sync);
    Ok(())
}

/// A GPU. Whoever does not want it measured says so before anything is drawn; from then on it counts.
async fn graphics(talk: &mut Talk, id: String, speed: &mut Option<GpuSpeed>) -> Result<(), Ended> {
    let (told, _) = talk.ask(&Ask::GpuReady { gpu: id.clone() }).await?;
    let bytes = match told {
        Told::GpuReady { bytes } => bytes,
        Told::GpuNot { why } => {
            tracing::debug!(gpu = id, why, "a GPU is not measured now");
            return Ok(());
        }
        _ => return Err(out_of_turn()),
    };
    if !bytes.is_power_of_two() || !gpu::BLOCKS.contains(&bytes) {
        return Err(Ended::MadeUp(Wrong::Form { what: "another block of a GPU" }));
    }
    let speed = speed.insert(GpuSpeed::default());
    let warm = segments(talk, WARM_ROUNDS, WARM_MILLIS).await?;
    speed.compute = segments(talk, rounds(warm), MILLIS).await?;
    let seed = draw();
    match talk.ask(&Ask::GpuFill { seed }).await? {
        (Told::GpuFilled { bytes: filled }, _) if filled == bytes => {}
        _ => return Err(out_of_turn()),
    }
    let key = draw();
    let (told, seen) = talk.ask(&Ask::GpuPass { key, millis: MILLIS }).await?;
    let Told::GpuPassed { sums, micros } = told else { return Err(out_of_turn()) };
    let passes = checked(move || check_gpu_memory(seed, bytes, key, &sums, draw())).await?;
    speed.memory = (2 * passes * bytes) as f64 / talk.took(seen, micros);
    Ok(())
}

/// How many rounds a segment should have on a GPU of so many steps a second: a power of two.
fn rounds(speed: f64) -> u32 {
    let wanted = (speed * SEGMENT / gpu::steps(1) as f64).min(f64::from(MOST_ROUNDS)) as u32;
    1 << wanted.max(WARM_ROUNDS).ilog2()
}

/// Steps a second of a GPU.
async fn segments(talk: &mut Talk, rounds: u32, millis: u16) -> Result<f64, Ended> {
    let seed = draw();
    let (told, seen) = talk.ask(&Ask::Gpu { seed, rounds, millis }).await?;
    let Told::Gpu { sums, micros } = told else { return Err(out_of_turn()) };
    let steps = checked(move || check_gpu(seed, rounds, &sums, PICKS, draw)).await?;
    Ok(steps as f64 / talk.took(seen, micros))
}

/// Segments a second on so many lanes.
async fn processor(talk: &mut Talk, asked: u16) -> Result<f64, Ended> {
    let seed = draw();
    let (told, seen) = talk.ask(&Ask::Cpu { seed, lanes: asked, millis: MILLIS }).await?;
    let Told::Cpu { lanes, micros } = told else { return Err(out_of_turn()) };
    let segments = checked(move || check_cpu(seed, asked, &lanes, PICKS, draw)).await?;
    Ok(segments as f64 / talk.took(seen, micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_as_long_as_a_gpu_is_fast() {
        assert_eq!((rounds(0.0), rounds(1e9), rounds(f64::MAX)), (WARM_ROUNDS, WARM_ROUNDS, MOST_ROUNDS));
        assert_eq!(rounds(1.5e12), 1024);
        assert!(gpu::ROUNDS.contains(&MOST_ROUNDS) && MOST_ROUNDS.is_power_of_two());
    }

    #[test]
    fn memory_is_asked_for_within_what_is_lent() {
        let mib = 1u64 << 20;
        for _ in 0..100 {
            assert_eq!(block(200 * mib), 0);
            assert_eq!(block(400 * mib), 64 * mib);
            let some = block(4096 * mib);
            assert!(BLOCKS.contains(&some) && some <= 512 * mib && some.is_power_of_two());
            assert!(BLOCKS.contains(&block(u64::MAX)));
        }
    }
}
