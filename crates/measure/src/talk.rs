//! What is said while a machine is measured, as JSON on the control channel of a stream: the server asks, the machine
//! tells, one after the other.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What the server wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Say this back at once: how long the way takes.
    Ping {
        /// Drawn by chance.
        nonce: u64,
    },
    /// Compute on so many lanes at once, until the time is over or enough is done.
    Cpu {
        /// Where it begins.
        seed: u64,
        /// How many, at least 1.
        lanes: u16,
        /// For how long.
        millis: u16,
    },
    /// Make a block of memory.
    Fill {
        /// What it is filled with.
        seed: u64,
        /// Its size.
        bytes: u64,
    },
    /// Go through the block, until the time is over or enough is done.
    Pass {
        /// Of the first pass.
        key: u64,
        /// For how long.
        millis: u16,
    },
    /// Write a file of [`FILE`](crate::FILE) bytes, see it on the disk, overwrite pieces of it one by one, read it back.
    Disk {
        /// What it is filled with.
        seed: u64,
        /// Of its sums.
        key: u64,
    },
    /// Get a GPU ready for work. Nothing is drawn yet: whoever does not want it measured now says so here.
    GpuReady {
        /// Its id.
        gpu: String,
    },
    /// Have that GPU compute segments, until the time is over or enough is done.
    Gpu {
        /// Where it begins.
        seed: u64,
        /// Rounds of a segment.
        rounds: u32,
        /// For how long.
        millis: u16,
    },
    /// Make a block of that GPU's memory.
    GpuFill {
        /// What it is filled with.
        seed: u64,
    },
    /// Have that GPU go through the block, until the time is over or enough is done.
    GpuPass {
        /// Of the first pass.
        key: u64,
        /// For how long.
        millis: u16,
    },
}

/// What the machine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// What was asked back.
    Pong {
        /// As it came.
        nonce: u64,
    },
    /// What each lane computed, and how long all of it took.
    Cpu {
        /// What the segments gave, lane by lane.
        lanes: Vec<Words>,
        /// By the machine's clock.
        micros: u64,
    },
    /// The block is there, or as much of it as there was memory for: 0 is none.
    Filled {
        /// Its size.
        bytes: u64,
    },
    /// The sums of the chunks, pass by pass.
    Passed {
        /// One for each chunk.
        sums: Vec<Words>,
        /// By the machine's clock.
        micros: u64,
    },
    /// The file was written and read.
    Disk {
        /// The sums of its chunks, as they were read.
        sums: Words,
        /// To write it and see it on the disk, in microseconds.
        write: u64,
        /// To overwrite a piece and see it on the disk: the median.
        sync: u64,
        /// To read it.
        read: u64,
    },
    /// The GPU is ready.
    GpuReady {
        /// The block of memory that it can make, in bytes.
        bytes: u64,
    },
    /// It is not, or it failed.
    GpuNot {
        /// Why.
        why: String,
    },
    /// What the GPU computed.
    Gpu {
        /// The sums of the groups, segment by segment.
        sums: Vec<Words>,
        /// By the machine's clock.
        micros: u64,
    },
    /// The block of the GPU's memory is there.
    GpuFilled {
        /// Its size.
        bytes: u64,
    },
    /// The sums of the chunks of the GPU's memory, pass by pass.
    GpuPassed {
        /// One for each chunk.
        sums: Vec<Words>,
        /// By the machine's clock.
        micros: u64,
    },
}

/// Numbers, 16 hexadecimal digits each: less on the wire than a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<u64>);

/// The most numbers of one list.
const MAX_WORDS: usize = 64;

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|word| format!("{word:016x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (digits, rest) = text.as_bytes().as_chunks::<16>();
        if !rest.is_empty() || digits.len() > MAX_WORDS {
            return Err(D::Error::custom(format!(
                "numbers have 16 hexadecimal digits each, and there are at most {MAX_WORDS}"
            )));
        }
        let word = |digits: &[u8; 16]| {
            let text = str::from_utf8(digits).ok().filter(|text| !text.contains('+'))?;
            u64::from_str_radix(text, 16).ok()
        };
        digits
            .iter()
            .map(word)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| D::Error::custom("a number has hexadecimal digits alone"))
    }
}
