//! This machine is measured: work that the server asks for, and sees for itself how long it takes ([`lattice_measure`]).
//!
//! 1. What the owner does not allow, and what this machine does not do now, is refused with the reason, whatever a server
//!    says: on battery, while somebody uses it, while it is hot or short of something, while work keeps it busy, or while
//!    the rules let nothing run.
//! 2. One measurement at a time, and then none for half an hour: some seconds of heat, on threads that give way to all
//!    others.
//! 3. The owner's word ends one that has begun.
//!
//! What is asked is bounded here: lanes by what is lent, each part by its time, memory by what is free. One GPU at the
//! most, which is lent and nobody's, in a process of its own ([`Bench`]).

use crate::{
    agent::Snapshot,
    clock,
    error::chain,
    event::Event,
    facts::Machine,
    gpu::{Bench, Gpus},
    health::Health,
    machine::{Roots, meminfo_of},
    owner::{Lent, OwnerStatus},
};
use bytes::Bytes;
use lattice_compute::Which;
use lattice_link::{
    BulkReceiver, BulkSender, LinkError, Refusal, code,
    message::{BulkEnd, BulkFrame, channel},
};
use lattice_measure::{
    Ask, BLOCKS, CHUNKS, FILE, MAX_LANES, MAX_PASSES, MAX_SEGMENTS, SYNCS, Told, Words, cpu,
    memory::{Chunk, next_key, words},
};
use lattice_model::{
    Duration as Span,
    health::{ConditionKind, Level},
};
use lattice_rules::{PowerSource, Reading};
use lattice_sense::{Sensors, Sleep};
use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tracing::info;

/// Between two measurements.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// All of one.
const WHOLE: Duration = Duration::from_secs(40);
/// The longest that a part runs.
const PART: Duration = Duration::from_millis(500);
/// How much is asked in one measurement.
const ASKS: usize = 16;
/// Who touched the machine so lately uses it.
const USED: Span = Span::from_secs(60);
/// From so many degrees on it is left alone.
const HOT: i32 = 85;
/// With work on it, a machine that is so busy is not disturbed, in thousandths of all its processors.
const BUSY: u32 = 500;
/// A GPU that is so busy is used by somebody, in percent.
const GPU_BUSY: u32 = 20;
/// The bytes of a piece that is written and waited for.
const PIECE: usize = 4096;

/// Measures this machine.
pub(crate) struct Measurer {
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) owner: watch::Receiver<OwnerStatus>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) machine: watch::Receiver<Machine>,
    pub(crate) sensors: Arc<dyn Sensors>,
    pub(crate) manager: Option<Arc<dyn Sleep>>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) roots: Roots,
    pub(crate) gpus: Gpus,
    /// Where its file is, without a name.
    pub(crate) folder: PathBuf,
    /// When the last one began; held while one is under way.
    pub(crate) last: Mutex<Option<Instant>>,
}

impl Measurer {
    /// Why nothing is measured now.
    async fn refusal(&self) -> Option<Refusal> {
        let not_now = |why: &str| Some(Refusal::new("not_now", why.to_owned(), "it is asked again later"));
        if !self.lent.borrow().benchmarks() {
            return Some(Refusal::new(
                "owner_forbids",
                "the owner of this machine does not let it be measured",
                "ask the owner (consent.benchmarks in rules.toml)",
            ));
        }
        if !self.owner.borrow().standing.takes_work() {
            return not_now("its owner's rules let nothing run there now");
        }
        if self.sensors.power().source.known() == Some(&PowerSource::Battery) {
            return not_now("it runs on battery");
        }
        let idle = match &self.manager {
            Some(manager) => manager.idle(clock::now()).await,
            None => Reading::unknown("there is no session manager"),
        };
        let idle = match idle {
            Reading::Known(idle) => Reading::Known(idle),
            Reading::Unknown(_) => self.sensors.idle(clock::now()),
        };
        if idle.known().is_some_and(|idle| *idle < USED) {
            return not_now("somebody uses it");
        }
        if self.sensors.heat().hottest.known().is_some_and(|part| part.celsius >= HOT) {
            return not_now("it is hot");
        }
        let health = self.health.borrow().clone();
        let short = |kind| {
            use ConditionKind::{Disk, DiskErrors, Memory, Temperature};
            matches!(kind, Memory | Disk | DiskErrors | Temperature)
        };
        let trouble = |level| matches!(level, Level::Warning | Level::Bad);
        if let Some(one) = health.conditions.iter().find(|one| short(one.kind) && trouble(one.level)) {
            return not_now(&format!("it is not well: {one}"));
        }
        if health.cpu_busy_permille.is_some_and(|busy| busy > BUSY) && self.running().await > 0 {
            return not_now("work that runs there keeps it busy");
        }
        None
    }

    async fn running(&self) -> u32 {
        self.snapshot().await.running()
    }

    async fn snapshot(&self) -> Snapshot {
        let (answer, snapshot) = oneshot::channel();
        let _ = self.events.send(Event::Snapshot(answer)).await;
        snapshot.await.unwrap_or_default()
    }

    /// Gets a GPU ready to be measured, or says why it is not measured now.
    async fn ready(&self, id: &str) -> Result<(Bench, u64), String> {
        let lent = Arc::clone(&self.lent.borrow());
        let gpus = lent.gpus(&self.machine.borrow());
        // Of one that is cut into instances none is measured: OpenCL sees the whole.
        let gpu = gpus.iter().find(|gpu| gpu.id == id && gpu.lent && !gpu.mig);
        let model = gpu.ok_or("its owner does not lend this GPU as a whole")?.model.clone();
        if self.snapshot().await.gpus.contains(id) {
            return Err("work has this GPU".into());
        }
        self.gpus.look().await;
        let card = self.gpus.card(id).ok_or("this GPU is not there now")?;
        if card.busy_percent.is_some_and(|busy| busy > GPU_BUSY) {
            return Err("somebody uses this GPU".into());
        }
        // The owner's limit has the machine stand still, which ends all of this; below it the usual one holds.
        if card.celsius.is_some_and(|celsius| celsius >= HOT) || !self.owner.borrow().standing.takes_work() {
            return Err("this GPU is hot, or its owner's rules let nothing run now".into());
        }
        let program =
            std::env::current_exe().map_err(|error| format!("the agent's program is not found: {error}"))?;
        Bench::open(&program, &Which { id: id.to_owned(), address: card.address, model }).await
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        let busy = || {
            let text = "this node is measured now, or was a short while ago";
            BulkEnd::Failed(Refusal::new(code::BUSY, text, "it is asked again later"))
        };
        let Ok(mut last) = self.last.try_lock() else { return Ok(busy()) };
        if last.is_some_and(|last| last.elapsed() < AGAIN) {
            return Ok(busy());
        }
        if let Some(refusal) = self.refusal().await {
            return Ok(BulkEnd::Failed(refusal));
        }
        *last = Some(Instant::now());
        info!("this machine is measured, as the server asks");
        let mut owner = self.owner.clone();
        tokio::select! {
            ended = tokio::time::timeout(WHOLE, self.converse(send, recv)) => ended.unwrap_or_else(|_| {
                let text = "the measurement took too long and was ended";
                Ok(BulkEnd::Failed(Refusal::new("too_long", text, "")))
            }),
            // The owner's word outranks what has begun.
            _ = owner.wait_for(|owner| owner.standing.stands_still()) => {
                Ok(BulkEnd::Failed(Refusal::new("not_now", "its owner needs it", "it is asked again later")))
            }
        }
    }

    async fn converse(&self, send: &BulkSender, recv: &mut BulkReceiver) -> Result<BulkEnd, LinkError> {
        let bad = |what: &str| BulkEnd::Failed(Refusal::new(code::MALFORMED, what.to_owned(), ""));
        let mut block = Vec::new();
        let (mut gpu, mut had_gpu) = (None, false);
        let mut asked = 0;
        loop {
            let ask = match recv.recv().await? {
                Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => serde_json::from_slice(&bytes),
                Some(BulkFrame::End(channel::CONTROL) | BulkFrame::Close(_)) | None => {
                    return Ok(BulkEnd::Done);
                }
                Some(_) => continue,
            };
            let Ok(ask) = ask else { return Ok(bad("the server asks for what this agent does not know")) };
            asked += 1;
            if asked > ASKS {
                return Ok(bad("the server asks for more than one measurement takes"));
            }
            let told = match ask {
                Ask::Ping { nonce } => Some(Told::Pong { nonce }),
                Ask::Cpu { seed, lanes, millis } => {
                    let lanes = lanes.clamp(1, MAX_LANES).min(self.lanes());
                    let time = Duration::from_millis(millis.into()).min(PART);
                    niced(move |stop| Some(compute(seed, lanes, time, stop))).await
                }
                Ask::Fill { seed, bytes } => {
                    let free = meminfo_of(&self.roots.read("proc/meminfo"), "MemAvailable");
                    let bytes = fitting(bytes, free.map(|free| free.0));
                    drop(std::mem::take(&mut block));
                    let filled = niced(move |stop| fill(seed, bytes, stop)).await;
                    block = filled.unwrap_or_default();
                    Some(Told::Filled { bytes: block.len() as u64 * 8 })
                }
                Ask::Pass { key, millis } => {
                    let (time, mut taken) =
                        (Duration::from_millis(millis.into()).min(PART), std::mem::take(&mut block));
                    // It is given back to the system here: a part of its own.
                    niced(move |stop| pass(&mut taken, key, time, stop)).await
                }
                Ask::Disk { seed, key } => {
                    let folder = self.folder.clone();
                    match niced(move |stop| Some(disk(&folder, seed, key, stop))).await {
                        Some(Ok(told)) => Some(told),
                        Some(Err(error)) => {
                            let text = format!("its disk did not take a file: {}", chain(&error));
                            return Ok(BulkEnd::Failed(Refusal::new("disk", text, "")));
                        }
                        None => None,
                    }
                }
                Ask::GpuReady { gpu: id } if !had_gpu => match self.ready(&id).await {
                    Ok((bench, bytes)) => {
                        (gpu, had_gpu) = (Some(bench), true);
                        Some(Told::GpuReady { bytes })
                    }
                    Err(why) => {
                        info!(gpu = id, why, "this GPU is not measured");
                        Some(Told::GpuNot { why })
                    }
                },
                Ask::GpuReady { .. } => None,
                ask @ (Ask::Gpu { .. } | Ask::GpuFill { .. } | Ask::GpuPass { .. }) => match &mut gpu {
                    None => None,
                    Some(bench) => match bench.ask(&ask).await {
                        Ok(told) => Some(told),
                        Err(why) => return Ok(BulkEnd::Failed(Refusal::new("gpu", why, ""))),
                    },
                },
            };
            let Some(told) = told else { return Ok(bad("the server asks for what makes no sense now")) };
            let json = serde_json::to_vec(&told).unwrap_or_default();
            send.data(channel::CONTROL, Bytes::from(json)).await?;
        }
    }

    /// How many lanes the processor that is lent has.
    fn lanes(&self) -> u16 {
        let millis = self.lent.borrow().capacity(&self.machine.borrow()).cpu.0;
        u16::try_from(millis.div_ceil(1000)).unwrap_or(MAX_LANES).max(1)
    }
}

/// Sets the flag when it is dropped: the work has nobody left to work for.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works on a thread of its own that gives way to all others; those that it starts do too. A thread of a pool would stay
/// slow for whoever has it next.
async fn niced<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> Option<T> + Send + 'static) -> Option<T> {
    let flag = Arc::new(AtomicBool::new(false));
    let _stop = Stop(Arc::clone(&flag));
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("measure".into()).spawn(move || {
        // Without it the machine is measured all the same, and for some seconds alone.
        let _ = rustix::process::setpriority_process(None, 19);
        let _ = done.send(work(&flag));
    });
    thread.ok()?;
    result.await.ok()?
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn compute(seed: u64, lanes: u16, time: Duration, stop: &AtomicBool) -> Told {
    let began = Instant::now();
    let lane = |n: u16| {
        let mut state = cpu::begin(seed, n);
        let mut found = Vec::new();
        // At least one, or there is nothing to say.
        while found.is_empty()
            || (found.len() < MAX_SEGMENTS && began.elapsed() < time && !stop.load(Ordering::Relaxed))
        {
            state = cpu::segment(state);
            found.push(state);
        }
        Words(found)
    };
    let lanes = std::thread::scope(|scope| {
        let others: Vec<_> = (1..lanes)
            .map_while(|n| std::thread::Builder::new().spawn_scoped(scope, move || lane(n)).ok())
            .collect();
        let mut all = vec![lane(0)];
        all.extend(others.into_iter().map_while(|other| other.join().ok()));
        all
    });
    Told::Cpu { lanes, micros: micros(began) }
}

/// How much is taken of what is asked for: never more than a quarter of what is free.
fn fitting(asked: u64, free: Option<u64>) -> u64 {
    let mut bytes = asked.min(*BLOCKS.end());
    let free = free.unwrap_or(u64::MAX);
    while bytes > free / 4 {
        bytes /= 2;
    }
    if bytes < *BLOCKS.start() { 0 } else { bytes }
}

fn fill(seed: u64, bytes: u64, stop: &AtomicBool) -> Option<Vec<u64>> {
    let len = words(bytes);
    let mut block = Vec::new();
    if len == 0 || block.try_reserve_exact(len * CHUNKS).is_err() {
        return None;
    }
    block.resize(len * CHUNKS, 0);
    for (n, chunk) in block.chunks_mut(len).enumerate() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        Chunk(chunk).fill(seed, n);
    }
    Some(block)
}

fn pass(block: &mut [u64], key: u64, time: Duration, stop: &AtomicBool) -> Option<Told> {
    if block.is_empty() {
        return None;
    }
    let (began, len, mut key) = (Instant::now(), block.len() / CHUNKS, key);
    let mut sums = Vec::new();
    while sums.is_empty()
        || (sums.len() < MAX_PASSES && began.elapsed() < time && !stop.load(Ordering::Relaxed))
    {
        let found: Vec<u64> = block.chunks_mut(len).map(|chunk| Chunk(chunk).pass(key)).collect();
        key = next_key(key, &found);
        sums.push(Words(found));
    }
    Some(Told::Passed { sums, micros: micros(began) })
}

fn disk(folder: &Path, seed: u64, key: u64, stop: &AtomicBool) -> io::Result<Told> {
    let mut file = nameless(folder)?;
    let len = words(FILE);
    let (mut chunk, mut bytes) = (vec![0u64; len], vec![0u8; len * 8]);
    let ended = || match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::other("nobody waits for it any more")),
        false => Ok(()),
    };
    let began = Instant::now();
    for n in 0..CHUNKS {
        ended()?;
        Chunk(&mut chunk).fill(seed, n);
        let (parts, _) = bytes.as_chunks_mut::<8>();
        parts.iter_mut().zip(&chunk).for_each(|(part, word)| *part = word.to_le_bytes());
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    let write = micros(began);
    let mut syncs = Vec::new();
    for _ in 0..SYNCS {
        ended()?;
        let began = Instant::now();
        file.seek(io::SeekFrom::Start(FILE))?;
        file.write_all(&bytes[..PIECE])?;
        file.sync_data()?;
        syncs.push(micros(began));
    }
    syncs.sort_unstable();
    // What the kernel still has in memory says nothing about the disk.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    file.rewind()?;
    let began = Instant::now();
    let mut sums = Vec::new();
    for _ in 0..CHUNKS {
        ended()?;
        file.read_exact(&mut bytes)?;
        let (parts, _) = bytes.as_chunks::<8>();
        chunk.iter_mut().zip(parts).for_each(|(word, part)| *word = u64::from_le_bytes(*part));
        sums.push(Chunk(&mut chunk).sum(key));
    }
    Ok(Told::Disk { sums: Words(sums), write, sync: syncs[syncs.len() / 2], read: micros(began) })
}

/// A file that goes when it is closed, or whoever has it open ends.
fn nameless(folder: &Path) -> io::Result<fs::File> {
    let path = folder.join(format!("measure-{:032x}", clock::random_wide()));
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_measure::{check_cpu, check_disk, check_memory};

    static GO: AtomicBool = AtomicBool::new(false);

    #[test]
    fn what_this_machine_computes_is_what_the_server_expects() {
        let mut n = 0;
        let mut draw = || {
            n += 7;
            n
        };
        let Told::Cpu { lanes, micros } = compute(5, 2, Duration::from_millis(30), &GO) else { panic!() };
        assert!(micros > 0 && lanes.len() == 2);
        assert!(check_cpu(5, 2, &lanes, 3, &mut draw).is_ok());
        let bytes = *BLOCKS.start();
        let mut block = fill(6, bytes, &GO).unwrap();
        let Some(Told::Passed { sums, .. }) = pass(&mut block, 9, Duration::from_millis(30), &GO) else {
            panic!()
        };
        assert!(check_memory(6, bytes, 9, &sums, 3).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let Told::Disk { sums, write, sync, read } = disk(folder.path(), 7, 8, &GO).unwrap() else {
            panic!()
        };
        assert!(check_disk(7, 8, &sums, &mut draw).is_ok());
        assert!(write > 0 && sync > 0 && read > 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing stays");
    }

    #[test]
    fn it_takes_no_more_than_is_free_and_stops_when_nobody_waits() {
        let mib = 1 << 20;
        assert_eq!(fitting(256 * mib, None), 256 * mib);
        assert_eq!(fitting(256 * mib, Some(600 * mib)), 128 * mib);
        assert_eq!(fitting(256 * mib, Some(200 * mib)), 0);
        assert_eq!(fitting(u64::MAX, None), 1024 * mib);
        let stopped = AtomicBool::new(true);
        assert!(fill(1, 64 * mib, &stopped).is_none());
        assert!(disk(tempfile::tempdir().unwrap().path(), 1, 1, &stopped).is_err());
        let Told::Cpu { lanes, .. } = compute(1, 1, Duration::from_secs(3600), &stopped) else { panic!() };
        assert_eq!(lanes[0].0.len(), 1);
    }
}
