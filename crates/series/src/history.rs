//! [`History`]: the shell that has files. It asks no clock: whoever has one calls [`History::maintain`] every ten
//! seconds or so, which writes what is complete, makes coarse blocks of fine ones and removes what is too old.

use crate::{
    block::{Block, Chunk, Writer},
    codec::GAP,
    error::{SeriesError, damaged},
    recent::{Latest, Recent, Written},
    tier::{self, Point, Tier},
};
use lattice_model::{
    Timestamp,
    metric::{Entity, Metric},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::warn;

/// How late a value may come: a block is closed so long after its end, in milliseconds.
const GRACE: i64 = 300_000;
/// How often what is in no block yet is saved, in milliseconds: what a kill loses at the most.
const SAVE: i64 = 120_000;
/// Of a block.
const ENDING: &str = "series";

/// What bounds a history.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most series in memory; values of further ones are refused.
    pub series: usize,
    /// The most bytes of files; the oldest go first.
    pub bytes: u64,
}

/// How a history is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series that got a value lately.
    pub series: usize,
    /// Blocks on disk.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Select {
    /// One entity.
    One(Entity),
    /// All whose tag is this, or begins with it and a slash; also those that are gone.
    Tag(String),
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSeries {
    /// Of what.
    pub entity: Entity,
    /// What that belongs to.
    pub tag: String,
    /// The metric.
    pub metric: Metric,
    /// What tells it apart; else empty.
    pub label: String,
    /// A point for each step; none where nothing is known.
    pub points: Vec<Option<Point>>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// When the first point begins.
    pub start: Timestamp,
    /// From one point to the next, in milliseconds.
    pub step: i64,
    /// By entity, metric and label.
    pub series: Vec<FoundSeries>,
}

type Blocks = BTreeMap<(Tier, i64), Arc<Block<File>>>;

/// Recent history of metrics, in a folder.
pub struct History {
    folder: PathBuf,
    config: Config,
    recent: Mutex<Recent>,
    blocks: Mutex<Blocks>,
    saved: Mutex<i64>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A sum on the way to a point.
#[derive(Clone, Copy, Default)]
struct Bucket {
    sum: f64,
    count: f64,
    max: f64,
}

impl Bucket {
    fn add(&mut self, point: Point) {
        self.max = if self.count == 0.0 { point.max } else { self.max.max(point.max) };
        self.sum += point.avg;
        self.count += 1.0;
    }

    fn point(self) -> Option<Point> {
        (self.count > 0.0).then(|| Point { avg: self.sum / self.count, max: self.max })
    }
}

impl History {
    /// Opens the history in a folder, which is made where there is none. What is damaged is set aside.
    ///
    /// # Errors
    /// [`SeriesError::Io`] where the folder cannot be used.
    pub fn open(folder: &Path, config: Config, now: Timestamp) -> Result<Self, SeriesError> {
        let failed = |source| SeriesError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut blocks = Blocks::new();
        let mut recent = Recent::new(Tier::Fine.block(Timestamp(now.0 - GRACE)));
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending == Some("part") {
                // Half written when something ended.
                let _ = fs::remove_file(&path);
            }
            if ending != Some(ENDING) {
                continue;
            }
            let open =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("open-"));
            match File::open(&path).map_err(failed).and_then(Block::open) {
                Ok(block) if !open => drop(blocks.insert((block.tier(), block.start()), Arc::new(block))),
                Ok(block) if block.tier() == Tier::Fine && block.start() >= recent.closed() => {
                    if let Err(error) = restore(&mut recent, &block) {
                        set_aside(&path, &error);
                    }
                }
                Ok(_) => drop(fs::remove_file(&path)),
                Err(error) => set_aside(&path, &error),
            }
        }
        let (recent, blocks, saved) = (Mutex::new(recent), Mutex::new(blocks), Mutex::new(now.0));
        Ok(Self { folder: folder.to_owned(), config, recent, blocks, saved })
    }

    /// Takes values of one entity at one instant. `tag` is what it belongs to, like `project/stack/service`.
    pub fn write<'a>(
        &self,
        entity: Entity,
        tag: &str,
        at: Timestamp,
        values: impl IntoIterator<Item = (Metric, &'a str, f64)>,
    ) -> Written {
        self.recent.lock().write(entity, tag, at, self.config.series, values)
    }

    /// Shows the latest values of an entity.
    pub fn latest<T>(&self, entity: &Entity, show: impl FnMut(Latest<'_>) -> T) -> Vec<T> {
        self.recent.lock().latest(entity).map(show).collect()
    }

    /// Shows the latest values of all entities.
    pub fn each(&self, mut show: impl FnMut(&Entity, &str, Latest<'_>)) {
        for (entity, of) in &self.recent.lock().entities {
            of.latest().for_each(|latest| show(entity, &of.tag, latest));
        }
    }

    /// How it is.
    pub fn stats(&self) -> Stats {
        let blocks = self.blocks.lock();
        let bytes = blocks.values().map(|block| block.size()).sum();
        Stats { series: self.recent.lock().count, blocks: blocks.len(), bytes }
    }

    /// Writes what is complete, makes coarse blocks, removes what is too old.
    ///
    /// # Errors
    /// The first thing that failed; the rest was done, and it is tried again at the next call.
    pub fn maintain(&self, now: Timestamp) -> Result<(), SeriesError> {
        let mut result = self.close(now);
        for tier in [Tier::Minutes, Tier::Tens] {
            result = result.and(self.compact(tier));
        }
        self.expire(now);
        if now.0 - *self.saved.lock() >= SAVE {
            result = result.and(self.save(now));
        }
        result
    }

    /// Saves what is in no block yet; at an orderly end too.
    ///
    /// # Errors
    /// [`SeriesError::Io`] where the disk takes nothing.
    pub fn save(&self, now: Timestamp) -> Result<(), SeriesError> {
        *self.saved.lock() = now.0;
        let first = self.recent.lock().closed();
        for block in [first, first + Tier::Fine.span()] {
            let file = encode(&self.recent.lock(), block);
            if let Some(file) = file {
                self.put(&open_name(block), &file)?;
            }
        }
        Ok(())
    }

    fn close(&self, now: Timestamp) -> Result<(), SeriesError> {
        loop {
            let block = self.recent.lock().closed();
            if block + Tier::Fine.span() + GRACE > now.0 {
                return Ok(());
            }
            // Nobody is kept waiting but those who write, for the time that encoding takes.
            let file = {
                let mut recent = self.recent.lock();
                if recent.entities.is_empty() {
                    recent.close(Tier::Fine.block(Timestamp(now.0 - GRACE)));
                    continue;
                }
                encode(&recent, block)
            };
            let written = file.map_or(Ok(()), |file| self.add(Tier::Fine, block, &file));
            // What the disk does not take is tried again until its place in memory is needed.
            if written.is_err() && now.0 < block + 2 * Tier::Fine.span() {
                return written;
            }
            let mut recent = self.recent.lock();
            recent.close(block + Tier::Fine.span());
            recent.clear(block);
            drop(recent);
            let _ = fs::remove_file(self.folder.join(open_name(block)));
            written?;
        }
    }

    fn compact(&self, tier: Tier) -> Result<(), SeriesError> {
        let Some(finer) = tier.finer() else { return Ok(()) };
        let closed = self.recent.lock().closed();
        let due: BTreeSet<i64> = {
            let blocks = self.blocks.lock();
            let starts =
                blocks.keys().filter(|(of, _)| *of == finer).map(|(_, start)| tier.block(Timestamp(*start)));
            starts
                .filter(|start| start + tier.span() <= closed && !blocks.contains_key(&(tier, *start)))
                .collect()
        };
        for start in due {
            let parts: Vec<_> = {
                let blocks = self.blocks.lock();
                let range = (finer, start)..(finer, start + tier.span());
                blocks.range(range).map(|(_, block)| Arc::clone(block)).collect()
            };
            if let Some(file) = self.coarse(tier, start, &parts)? {
                self.add(tier, start, &file)?;
            }
        }
        Ok(())
    }

    /// One coarse block of fine ones, an entity after the other.
    fn coarse(
        &self,
        tier: Tier,
        start: i64,
        parts: &[Arc<Block<File>>],
    ) -> Result<Option<Vec<u8>>, SeriesError> {
        let mut entities: BTreeMap<Entity, String> = BTreeMap::new();
        for part in parts {
            let Some(tags) = self.good(part, part.tags()) else { continue };
            for (index, tag) in tags.into_iter().enumerate() {
                if let Some(entry) = self.good(part, part.entry(index)) {
                    entities.insert(entry.entity, tag);
                }
            }
        }
        let mut writer = Writer::new(tier, start);
        for (entity, tag) in &entities {
            let mut series: BTreeMap<(u16, String), Vec<Bucket>> = BTreeMap::new();
            for part in parts {
                let found = part.find(entity).and_then(|entry| match entry {
                    Some(entry) => part.chunks(&entry, &|id| Metric::of_id(id).is_some()),
                    None => Ok(Vec::new()),
                });
                for chunk in self.good(part, found).unwrap_or_default() {
                    let Some(metric) = Metric::of_id(chunk.metric) else { continue };
                    let points: Vec<_> = points(&chunk, metric).collect();
                    let key = (chunk.metric, chunk.label);
                    let buckets = series.entry(key).or_insert_with(|| vec![Bucket::default(); tier.slots()]);
                    for (slot, point) in points {
                        let at = part.start() + slot as i64 * part.tier().step();
                        if let Some(bucket) = buckets.get_mut(((at - start) / tier.step()) as usize) {
                            bucket.add(point);
                        }
                    }
                }
            }
            let columns: Vec<_> = series
                .into_iter()
                .filter_map(|((id, label), buckets)| {
                    let scale = Metric::of_id(id)?.spec().scale;
                    let code =
                        |bucket: Bucket| bucket.point().map_or((GAP, 0), |point| tier::code(scale, point));
                    let (avg, above): (Vec<i32>, Vec<i32>) = buckets.into_iter().map(code).unzip();
                    Some((id, label, avg, above))
                })
                .collect();
            let series =
                columns.iter().map(|(id, label, avg, above)| (*id, label.as_str(), &avg[..], &above[..]));
            writer.add(entity, tag, series);
        }
        Ok(writer.finish())
    }

    /// Removes what is too old, and the oldest while there is too much. A fine block stays until a coarse one has it.
    fn expire(&self, now: Timestamp) {
        let mut blocks = self.blocks.lock();
        let old: Vec<_> = blocks
            .keys()
            .filter(|(tier, start)| {
                let coarser = match tier {
                    Tier::Fine => Some(Tier::Minutes),
                    Tier::Minutes => Some(Tier::Tens),
                    Tier::Tens => None,
                };
                let kept = coarser
                    .is_none_or(|coarser| blocks.contains_key(&(coarser, coarser.block(Timestamp(*start)))));
                start + tier.span() + tier.kept() < now.0 && kept
            })
            .copied()
            .collect();
        for key in old {
            self.remove(&mut blocks, key);
        }
        let mut bytes: u64 = blocks.values().map(|block| block.size()).sum();
        while bytes > self.config.bytes {
            let oldest = blocks.keys().min_by_key(|(tier, start)| start + tier.span()).copied();
            let Some(oldest) = oldest else { return };
            bytes -= blocks.get(&oldest).map_or(0, |block| block.size());
            self.remove(&mut blocks, oldest);
        }
    }

    fn remove(&self, blocks: &mut Blocks, key: (Tier, i64)) {
        blocks.remove(&key);
        let _ = fs::remove_file(self.folder.join(name(key.0, key.1)));
    }

    /// A part of a block, or the block is set aside.
    fn good<T>(&self, block: &Block<File>, part: Result<T, SeriesError>) -> Option<T> {
        part.map_err(|error| {
            let key = (block.tier(), block.start());
            self.blocks.lock().remove(&key);
            set_aside(&self.folder.join(name(key.0, key.1)), &error);
        })
        .ok()
    }

    fn add(&self, tier: Tier, start: i64, file: &[u8]) -> Result<(), SeriesError> {
        let path = self.put(&name(tier, start), file)?;
        let opened = File::open(&path).map_err(|source| SeriesError::Io { path, source })?;
        self.blocks.lock().insert((tier, start), Arc::new(Block::open(opened)?));
        Ok(())
    }

    /// Writes a file so that it is whole or not there.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, SeriesError> {
        let path = self.folder.join(name);
        let part = path.with_extension("part");
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| SeriesError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// How metrics went from one instant to another, in about so many points.
    pub fn range(
        &self,
        of: &Select,
        metrics: &[Metric],
        from: Timestamp,
        to: Timestamp,
        points: u32,
        now: Timestamp,
    ) -> Found {
        let wanted = (to.0 - from.0).max(1) / i64::from(points.max(1));
        let fits = |tier: &Tier| now.0 - from.0 <= tier.kept();
        let long = Tier::ALL.into_iter().find(fits).unwrap_or(Tier::Tens);
        let smooth = Tier::ALL.into_iter().rev().find(|tier| tier.step() <= wanted).unwrap_or(Tier::Fine);
        let tier = long.max(smooth);
        let step = (wanted + tier.step() - 1).div_euclid(tier.step()).max(1) * tier.step();
        let start = from.0.div_euclid(step) * step;
        let slots = ((to.0 - start).max(0) + step - 1).div_euclid(step) as usize;
        let mut series = Vec::new();
        for (entity, tag) in self.named(of, tier, start, to.0) {
            let mut buckets: BTreeMap<(Metric, String), Vec<Bucket>> = BTreeMap::new();
            let mut block = tier.block(Timestamp(start));
            while block < to.0 {
                self.gather(&entity, metrics, tier, block, &mut |metric, label, at, point| {
                    if at < start || at >= to.0 {
                        return;
                    }
                    let key = (metric, label.to_owned());
                    let row = buckets.entry(key).or_insert_with(|| vec![Bucket::default(); slots]);
                    if let Some(bucket) = row.get_mut(((at - start) / step) as usize) {
                        bucket.add(point);
                    }
                });
                block += tier.span();
            }
            series.extend(buckets.into_iter().map(|((metric, label), row)| FoundSeries {
                entity,
                tag: tag.clone(),
                metric,
                label,
                points: row.into_iter().map(Bucket::point).collect(),
            }));
        }
        Found { start: Timestamp(start), step, series }
    }

    /// The entities that are meant, with what they belong to.
    fn named(&self, of: &Select, tier: Tier, from: i64, to: i64) -> BTreeMap<Entity, String> {
        let meant = |tag: &str, wanted: &str| {
            tag.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let wanted = match of {
            Select::One(entity) => {
                let recent = self.recent.lock();
                let tag = recent.entities.get(entity).map(|of| of.tag.to_string());
                return BTreeMap::from([(*entity, tag.unwrap_or_default())]);
            }
            Select::Tag(tag) => tag,
        };
        let mut found = BTreeMap::new();
        let touched: Vec<_> = {
            let blocks = self.blocks.lock();
            let near = |(of, start): &(Tier, i64)| *of <= tier && *start < to && start + of.span() > from;
            blocks.iter().filter(|(key, _)| near(key)).map(|(_, block)| Arc::clone(block)).collect()
        };
        for block in touched {
            for (index, tag) in self.good(&block, block.tags()).unwrap_or_default().into_iter().enumerate() {
                if meant(&tag, wanted)
                    && let Some(entry) = self.good(&block, block.entry(index))
                {
                    found.insert(entry.entity, tag);
                }
            }
        }
        for (entity, of) in &self.recent.lock().entities {
            if meant(&of.tag, wanted) {
                found.insert(*entity, of.tag.to_string());
            }
        }
        found
    }

    /// Every point of a stretch, from the coarsest blocks that there are.
    fn gather(
        &self,
        entity: &Entity,
        metrics: &[Metric],
        tier: Tier,
        start: i64,
        sink: &mut dyn FnMut(Metric, &str, i64, Point),
    ) {
        let block = self.blocks.lock().get(&(tier, start)).cloned();
        if let Some(block) = block {
            let wanted = |id| Metric::of_id(id).is_some_and(|metric| metrics.contains(&metric));
            let found = block
                .find(entity)
                .and_then(|entry| entry.map(|entry| block.chunks(&entry, &wanted)).transpose());
            for chunk in self.good(&block, found).flatten().unwrap_or_default() {
                let Some(metric) = Metric::of_id(chunk.metric) else { continue };
                for (slot, point) in points(&chunk, metric) {
                    sink(metric, &chunk.label, start + slot as i64 * tier.step(), point);
                }
            }
            return;
        }
        if let Some(finer) = tier.finer() {
            let mut at = start;
            while at < start + tier.span() {
                self.gather(entity, metrics, finer, at, sink);
                at += finer.span();
            }
            return;
        }
        let recent = self.recent.lock();
        if !(recent.closed()..recent.closed() + 2 * tier.span()).contains(&start) {
            return;
        }
        let series = recent.entities.get(entity).into_iter().flat_map(|of| &of.series);
        for series in series.filter(|series| metrics.contains(&series.metric)) {
            for slot in 0..tier.slots() as i64 {
                let at = start + slot * tier.step();
                if let Some(point) = series.point(at) {
                    sink(series.metric, &series.label, at, point);
                }
            }
        }
    }
}

/// The points of a chunk that are known, by slot.
fn points(chunk: &Chunk, metric: Metric) -> impl Iterator<Item = (usize, Point)> {
    let scale = metric.spec().scale;
    chunk.avg.iter().enumerate().filter_map(move |(slot, code)| {
        let code = (*code)?;
        let above = tier::expand(chunk.above.get(slot).copied().unwrap_or(0));
        Some((slot, Point { avg: scale.value(code), max: scale.value(code.saturating_add(above)) }))
    })
}

fn encode(recent: &Recent, block: i64) -> Option<Vec<u8>> {
    let mut writer = Writer::new(Tier::Fine, block);
    for (entity, of) in &recent.entities {
        let series = of.series.iter();
        writer.add(
            entity,
            &of.tag,
            series.map(|one| (one.metric.spec().id, &*one.label, one.codes(block), &[][..])),
        );
    }
    writer.finish()
}

fn restore(recent: &mut Recent, block: &Block<File>) -> Result<(), SeriesError> {
    if block.start() >= recent.closed() + 2 * Tier::Fine.span() {
        return Err(damaged("it is of a time to come"));
    }
    for saved in block.all()? {
        for Chunk { metric, label, avg, .. } in saved.chunks {
            if let Some(metric) = Metric::of_id(metric) {
                recent.restore(saved.entity, &saved.tag, metric, &label, block.start(), &avg);
            }
        }
    }
    Ok(())
}

fn name(tier: Tier, start: i64) -> String {
    format!("{}-{start}.{ENDING}", tier.as_str())
}

fn open_name(start: i64) -> String {
    format!("open-{start}.{ENDING}")
}

fn set_aside(path: &Path, error: &SeriesError) {
    warn!(path = %path.display(), %error, "a file of the history of metrics is set aside");
    let _ = fs::rename(path, path.with_extension("damaged"));
}
