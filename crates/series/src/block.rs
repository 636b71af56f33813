//! An immutable file: many series over one stretch of time.
//!
//! ```text
//! header     "LSB1", tier, 3 reserved, start (ms), entities, bytes of the tags, bytes of the whole file
//! directory  for each entity, rising: kind, id, offset and length of its chunks, their CRC-32
//! tags       for each entity: what it belongs to, length first
//! checksum   CRC-32 of all above
//! chunks     for each entity, for each of its series: metric, label, length, columns
//! ```
//!
//! An entity's chunks have a checksum of their own, so that a question reads and checks what it is about and nothing
//! else; the directory is searched in the file, and memory holds no index.

use crate::{
    codec::{self, BitReader, BitWriter, GAP},
    error::{SeriesError, damaged},
    tier::Tier,
};
use lattice_model::{AllocationId, NodeId, metric::Entity};
use std::io;

const MAGIC: &[u8; 4] = b"LSB1";
const HEADER: usize = 4 + 4 + 8 + 4 + 4 + 8;
const ENTRY: usize = 1 + 16 + 4 + 4 + 4;
/// The most series of one entity.
pub(crate) const MAX_SERIES: usize = 1024;
/// The longest label, in bytes.
pub(crate) const MAX_LABEL: usize = 64;
/// The longest tag, in bytes.
pub(crate) const MAX_TAG: usize = 255;

/// Where bytes are read from.
pub trait ReadAt {
    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// As reading does; also where there are fewer bytes.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// How many bytes there are.
    ///
    /// # Errors
    /// As asking the system does.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = from.checked_add(into.len()).and_then(|to| self.get(from..to));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, into, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|data| data.len())
    }
}

/// One series of one entity over a block's stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The metric's number, also of one that this version does not know.
    pub metric: u16,
    /// What tells it apart; else empty.
    pub label: String,
    /// For each slot the step of the average, where it is known.
    pub avg: Vec<Option<i32>>,
    /// For each slot how many steps more the highest has, as `tier::expand` reads it; of a coarse tier alone.
    pub above: Vec<i32>,
}

/// All of one entity, on the way to a file or from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Whose.
    pub entity: Entity,
    /// What it belongs to.
    pub tag: String,
    /// Its series.
    pub chunks: Vec<Chunk>,
}

pub(crate) fn entity_key(entity: &Entity) -> [u8; 17] {
    let (kind, id) = match entity {
        Entity::Node(id) => (0, id.uuid().into_bytes()),
        Entity::Allocation(id) => (1, id.uuid().into_bytes()),
        Entity::Server => (2, [0; 16]),
    };
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&id);
    key
}

fn entity_of(key: &[u8]) -> Option<Entity> {
    let (kind, id) = key.split_first()?;
    let id = uuid::Uuid::from_slice(id).ok()?;
    match kind {
        0 => Some(Entity::Node(NodeId::new(id))),
        1 => Some(Entity::Allocation(AllocationId::new(id))),
        2 if id.is_nil() => Some(Entity::Server),
        _ => None,
    }
}

/// Makes a block, an entity after the other.
pub(crate) struct Writer {
    tier: Tier,
    start: i64,
    directory: Vec<u8>,
    tags: Vec<u8>,
    data: Vec<u8>,
    last: Option<[u8; 17]>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    present: Vec<bool>,
    values: Vec<i32>,
    above: Vec<i32>,
    sort: Vec<i32>,
}

impl Writer {
    pub(crate) fn new(tier: Tier, start: i64) -> Self {
        let (directory, tags, data) = (Vec::new(), Vec::new(), Vec::new());
        Self { tier, start, directory, tags, data, last: None, scratch: Scratch::default() }
    }

    /// Adds an entity, which is greater than the one before. `series` gives metric, label, the steps of the averages
    /// ([`GAP`] where nothing is known) and, for coarse tiers, how many more the highest have.
    pub(crate) fn add<'a>(
        &mut self,
        entity: &Entity,
        tag: &str,
        series: impl Iterator<Item = (u16, &'a str, &'a [i32], &'a [i32])>,
    ) {
        let key = entity_key(entity);
        debug_assert!(self.last.is_none_or(|last| last < key), "entities rise");
        let began = self.data.len();
        for (metric, label, avg, above) in series.take(MAX_SERIES) {
            if avg.iter().all(|code| *code == GAP) {
                continue;
            }
            let columns = self.scratch.columns(avg, above);
            varint(&mut self.data, metric.into());
            let label = clip(label, MAX_LABEL);
            self.data.push(label.len() as u8);
            self.data.extend_from_slice(label.as_bytes());
            varint(&mut self.data, columns.len() as u64);
            self.data.extend_from_slice(&columns);
        }
        if self.data.len() == began {
            return;
        }
        self.last = Some(key);
        let blob = &self.data[began..];
        self.directory.extend_from_slice(&key);
        self.directory.extend_from_slice(&(began as u32).to_le_bytes());
        self.directory.extend_from_slice(&(blob.len() as u32).to_le_bytes());
        self.directory.extend_from_slice(&crc32fast::hash(blob).to_le_bytes());
        let tag = clip(tag, MAX_TAG);
        self.tags.push(tag.len() as u8);
        self.tags.extend_from_slice(tag.as_bytes());
    }

    /// The file; nothing where nothing was added.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        self.last?;
        let Self { tier, start, directory, tags, data, .. } = self;
        let whole = HEADER + directory.len() + tags.len() + 4 + data.len();
        let mut file = Vec::with_capacity(whole);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&[tier.id(), 0, 0, 0]);
        file.extend_from_slice(&start.to_le_bytes());
        file.extend_from_slice(&((directory.len() / ENTRY) as u32).to_le_bytes());
        file.extend_from_slice(&(tags.len() as u32).to_le_bytes());
        file.extend_from_slice(&(whole as u64).to_le_bytes());
        file.extend_from_slice(&directory);
        file.extend_from_slice(&tags);
        let checksum = crc32fast::hash(&file);
        file.extend_from_slice(&checksum.to_le_bytes());
        file.extend_from_slice(&data);
        Some(file)
    }
}

impl Scratch {
    fn columns(&mut self, avg: &[i32], above: &[i32]) -> Vec<u8> {
        self.present.clear();
        self.present.extend(avg.iter().map(|code| *code != GAP));
        self.values.clear();
        self.values.extend(avg.iter().filter(|code| **code != GAP));
        let mut bits = BitWriter::default();
        codec::write_presence(&mut bits, &self.present);
        codec::write_numbers(&mut bits, &self.values, &mut self.sort);
        if !above.is_empty() {
            self.above.clear();
            self.above
                .extend(avg.iter().zip(above).filter(|(code, _)| **code != GAP).map(|(_, above)| above));
            codec::write_numbers(&mut bits, &self.above, &mut self.sort);
        }
        bits.finish()
    }
}

/// As much of a text as fits, whole characters.
pub(crate) fn clip(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A file of the history, opened.
#[derive(Debug)]
pub struct Block<R> {
    file: R,
    tier: Tier,
    start: i64,
    entities: usize,
    tags: usize,
    size: u64,
}

/// Where an entity's chunks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) entity: Entity,
    offset: u32,
    length: u32,
    checksum: u32,
}

impl<R: ReadAt> Block<R> {
    /// Opens a block and checks all but the chunks, which are checked when they are read.
    ///
    /// # Errors
    /// [`SeriesError::Damaged`] where it is no block, or not all of one.
    pub fn open(file: R) -> Result<Self, SeriesError> {
        let size = file.size().map_err(|_| damaged("its size is not known"))?;
        let mut header = [0; HEADER];
        file.read_at(0, &mut header).map_err(|_| damaged("it is too short"))?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        if &header[..4] != MAGIC {
            return Err(damaged("it is of another format"));
        }
        let tier = Tier::of_id(header[4]).ok_or_else(|| damaged("its grid is not known"))?;
        let start = long(8).cast_signed();
        let (entities, tags) = (word(16) as usize, word(20) as usize);
        let head = (HEADER as u64) + (entities as u64) * (ENTRY as u64) + tags as u64;
        if start.rem_euclid(tier.span()) != 0 || long(24) != size || head + 4 > size {
            return Err(damaged("it is not whole"));
        }
        let block = Self { file, tier, start, entities, tags, size };
        block.check(head)?;
        Ok(block)
    }

    /// The checksum of what stands before the chunks, read in pieces.
    fn check(&self, head: u64) -> Result<(), SeriesError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut piece = vec![0; usize::try_from(head).unwrap_or(usize::MAX).min(64 << 10)];
        let mut at = 0;
        while at < head {
            let length = usize::try_from(head - at).unwrap_or(usize::MAX).min(piece.len());
            self.read(at, &mut piece[..length])?;
            hasher.update(&piece[..length]);
            at += length as u64;
        }
        let mut checksum = [0; 4];
        self.read(head, &mut checksum)?;
        if hasher.finalize() == u32::from_le_bytes(checksum) {
            Ok(())
        } else {
            Err(damaged("its checksum is another"))
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), SeriesError> {
        self.file.read_at(at, into).map_err(|_| damaged("a part of it cannot be read"))
    }

    /// Its grid.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// When it begins, in milliseconds.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many entities it has.
    pub fn len(&self) -> usize {
        self.entities
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entities == 0
    }

    pub(crate) fn entry(&self, index: usize) -> Result<Entry, SeriesError> {
        let mut bytes = [0; ENTRY];
        self.read((HEADER + index * ENTRY) as u64, &mut bytes)?;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let entity = entity_of(&bytes[..17]).ok_or_else(|| damaged("it names something unknown"))?;
        Ok(Entry { entity, offset: word(17), length: word(21), checksum: word(25) })
    }

    /// Where an entity is.
    pub(crate) fn find(&self, entity: &Entity) -> Result<Option<Entry>, SeriesError> {
        let wanted = entity_key(entity);
        let (mut low, mut high) = (0, self.entities);
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.entry(middle)?;
            match entity_key(&entry.entity).cmp(&wanted) {
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// What each entity belongs to, in the order of the entities.
    pub(crate) fn tags(&self) -> Result<Vec<String>, SeriesError> {
        let mut bytes = vec![0; self.tags];
        self.read((HEADER + self.entities * ENTRY) as u64, &mut bytes)?;
        let mut rest = &bytes[..];
        let mut tags = Vec::new();
        while let Some((length, after)) = rest.split_first() {
            let (tag, after) =
                after.split_at_checked(usize::from(*length)).ok_or_else(|| damaged("its tags end early"))?;
            tags.push(String::from_utf8_lossy(tag).into_owned());
            rest = after;
        }
        if tags.len() == self.entities { Ok(tags) } else { Err(damaged("it has another number of tags")) }
    }

    /// An entity's series, those of `wanted` alone.
    pub(crate) fn chunks(
        &self,
        entry: &Entry,
        wanted: &dyn Fn(u16) -> bool,
    ) -> Result<Vec<Chunk>, SeriesError> {
        let data = (HEADER + self.entities * ENTRY + self.tags + 4) as u64;
        let at = data + u64::from(entry.offset);
        if at + u64::from(entry.length) > self.size {
            return Err(damaged("a chunk lies outside"));
        }
        let mut bytes = vec![0; entry.length as usize];
        self.read(at, &mut bytes)?;
        if crc32fast::hash(&bytes) != entry.checksum {
            return Err(damaged("the checksum of a chunk is another"));
        }
        read_chunks(&bytes, self.tier, wanted).ok_or_else(|| damaged("a chunk cannot be read"))
    }

    /// All of the block, for tests and for whoever looks into a file.
    ///
    /// # Errors
    /// [`SeriesError::Damaged`] where a part of it is.
    pub fn all(&self) -> Result<Vec<Saved>, SeriesError> {
        let tags = self.tags()?;
        let saved = tags.into_iter().enumerate().map(|(index, tag)| {
            let entry = self.entry(index)?;
            Ok(Saved { entity: entry.entity, tag, chunks: self.chunks(&entry, &|_| true)? })
        });
        saved.collect()
    }
}

fn read_chunks(mut bytes: &[u8], tier: Tier, wanted: &dyn Fn(u16) -> bool) -> Option<Vec<Chunk>> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let metric = u16::try_from(read_varint(&mut bytes)?).ok()?;
        let (length, rest) = bytes.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        bytes = rest;
        let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
        let (columns, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        if !wanted(metric) {
            continue;
        }
        if chunks.len() == MAX_SERIES {
            return None;
        }
        let (avg, above) = read_columns(columns, tier)?;
        chunks.push(Chunk { metric, label: std::str::from_utf8(label).ok()?.to_owned(), avg, above });
    }
    Some(chunks)
}

fn read_columns(columns: &[u8], tier: Tier) -> Option<(Vec<Option<i32>>, Vec<i32>)> {
    let mut bits = BitReader::new(columns);
    let present = codec::read_presence(&mut bits, tier.slots())?;
    let count = present.iter().filter(|here| **here).count();
    let mut values = codec::read_numbers(&mut bits, count)?.into_iter();
    let avg = present.iter().map(|here| if *here { values.next() } else { None }).collect();
    if tier == Tier::Fine {
        return Some((avg, Vec::new()));
    }
    let mut values = codec::read_numbers(&mut bits, count)?.into_iter();
    let above = present.iter().map(|here| if *here { values.next().unwrap_or(0) } else { 0 }).collect();
    Some((avg, above))
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}
