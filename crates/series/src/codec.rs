//! One column of whole numbers as bits.
//!
//! A column begins with how its numbers are foretold: all alike, as the one before, as their middle, or between the
//! two. What was foretold wrongly is written by an adaptive Golomb-Rice code: the number of low bits follows the mean
//! of the last errors, as in JPEG-LS, so that nothing is spent on stating it and a change of temper costs a few
//! numbers. The encoder tries each way and keeps the shortest.
//!
//! Rejected: Gorilla's XOR of floats, which pays for digits that nobody looks at (4 bytes a point for noise); zstd over
//! fixed widths, larger and slower on columns this short; arithmetic coding, a tenth smaller and several times slower.

/// What stands for "nothing known".
pub(crate) const GAP: i32 = i32::MIN;

/// Ones of a quotient before the number is written as it is.
const ESCAPE: u32 = 24;
/// Bits of a number that is written as it is.
const WHOLE: u32 = 33;

/// Bits, the highest of each byte first.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    bits: u32,
}

impl BitWriter {
    /// The low `count` bits of a number, at most 33.
    fn put(&mut self, value: u64, count: u32) {
        self.held = (self.held << count) | (value & ((1 << count) - 1));
        self.bits += count;
        while self.bits >= 8 {
            self.bits -= 8;
            #[allow(clippy::cast_possible_truncation, reason = "the next eight bits")]
            self.bytes.push((self.held >> self.bits) as u8);
        }
    }

    /// All of them, filled up with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.bits > 0 {
            let fill = 8 - self.bits;
            self.put(0, fill);
        }
        self.bytes
    }
}

/// The other way.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    bits: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, held: 0, bits: 0 }
    }

    fn fill(&mut self) {
        while self.bits <= 56
            && let Some(byte) = self.bytes.get(self.at)
        {
            self.held |= u64::from(*byte) << (56 - self.bits);
            self.bits += 8;
            self.at += 1;
        }
    }

    fn take(&mut self, count: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        self.fill();
        if count > self.bits {
            return None;
        }
        let value = self.held >> (64 - count);
        self.held <<= count;
        self.bits -= count;
        Some(value)
    }

    /// Ones until a zero, at most [`ESCAPE`] of them; the zero is taken too.
    fn ones(&mut self) -> Option<u32> {
        self.fill();
        let ones = self.held.leading_ones().min(ESCAPE);
        let taken = if ones == ESCAPE { ones } else { ones + 1 };
        if taken > self.bits {
            return None;
        }
        self.held <<= taken;
        self.bits -= taken;
        Some(ones)
    }
}

/// How the next number is foretold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All are alike.
    Same = 0,
    /// As the one before.
    Last = 1,
    /// As the middle.
    Middle = 2,
    /// Between the two.
    Between = 3,
}

impl Way {
    fn foretell(self, last: i64, middle: i64) -> i64 {
        match self {
            Self::Same | Self::Middle => middle,
            Self::Last => last,
            Self::Between => (last + middle) >> 1,
        }
    }
}

/// The mean of the last errors.
struct Temper {
    sum: u64,
    count: u64,
}

impl Temper {
    const fn new(bits: u32) -> Self {
        Self { sum: 1 << bits, count: 1 }
    }

    /// How many low bits an error of this mean is best written with.
    fn bits(&self) -> u32 {
        let mean = self.sum / self.count;
        if mean == 0 { 0 } else { mean.ilog2().min(31) }
    }

    fn saw(&mut self, error: u64) {
        self.sum += error;
        self.count += 1;
        if self.count == 24 {
            self.sum /= 2;
            self.count /= 2;
        }
    }
}

const fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

const fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

fn cost(error: u64, bits: u32) -> u32 {
    match error >> bits {
        quotient if quotient < u64::from(ESCAPE) => quotient as u32 + 1 + bits,
        _ => ESCAPE + WHOLE,
    }
}

/// A bound for the errors: whatever is foretold, both are 32 bits.
const fn error_of(value: i32, foretold: i64) -> u64 {
    zigzag(value as i64 - foretold)
}

fn errors(values: &[i32], way: Way, middle: i32) -> impl Iterator<Item = u64> {
    let mut last = i64::from(middle);
    values.iter().map(move |value| {
        let error = error_of(*value, way.foretell(last, middle.into()));
        last = i64::from(*value);
        error
    })
}

/// The bits that a way takes, and those that the first error is best written with.
fn price(values: &[i32], way: Way, middle: i32) -> (u32, u32) {
    let first: u64 = errors(values, way, middle).take(8).sum::<u64>() / values.len().clamp(1, 8) as u64;
    let begin = if first == 0 { 0 } else { first.ilog2().min(31) };
    let mut temper = Temper::new(begin);
    let mut total = 0u32;
    for error in errors(values, way, middle) {
        total = total.saturating_add(cost(error, temper.bits()));
        temper.saw(error);
    }
    (total, begin)
}

/// Writes numbers; how many, the reader has to know.
pub(crate) fn write_numbers(out: &mut BitWriter, values: &[i32], scratch: &mut Vec<i32>) {
    let Some(first) = values.first().copied() else { return };
    if values.iter().all(|value| *value == first) {
        out.put(Way::Same as u64, 2);
        return write_base(out, first);
    }
    scratch.clear();
    scratch.extend_from_slice(values);
    let half = scratch.len() / 2;
    let (_, median, _) = scratch.select_nth_unstable(half);
    let median = *median;
    let ways = [(Way::Last, first), (Way::Middle, median), (Way::Between, median)];
    let priced = ways.map(|(way, base)| (price(values, way, base), way, base));
    let Some(((_, begin), way, base)) = priced.into_iter().min_by_key(|((bits, _), ..)| *bits) else {
        return;
    };
    out.put(way as u64, 2);
    write_base(out, base);
    out.put(begin.into(), 5);
    let mut temper = Temper::new(begin);
    for error in errors(values, way, base) {
        let bits = temper.bits();
        let quotient = error >> bits;
        if quotient < u64::from(ESCAPE) {
            out.put((1 << (quotient + 1)) - 2, quotient as u32 + 1);
            out.put(error, bits);
        } else {
            out.put((1 << ESCAPE) - 1, ESCAPE);
            out.put(error, WHOLE);
        }
        temper.saw(error);
    }
}

/// Reads `count` numbers; nothing where the bits are not of any.
pub(crate) fn read_numbers(bits: &mut BitReader<'_>, count: usize) -> Option<Vec<i32>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let way = match bits.take(2)? {
        0 => Way::Same,
        1 => Way::Last,
        2 => Way::Middle,
        _ => Way::Between,
    };
    let base = read_base(bits)?;
    if way == Way::Same {
        return Some(vec![base; count]);
    }
    let mut temper = Temper::new(bits.take(5)? as u32);
    let mut last = i64::from(base);
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let low = temper.bits();
        let quotient = bits.ones()?;
        let error = match quotient {
            ESCAPE => bits.take(WHOLE)?,
            _ => (u64::from(quotient) << low) | bits.take(low)?,
        };
        temper.saw(error);
        last = i64::from(i32::try_from(way.foretell(last, base.into()) + unzigzag(error)).ok()?);
        values.push(last as i32);
    }
    Some(values)
}

/// A number by itself: how many bits it has, and the bits.
fn write_base(out: &mut BitWriter, value: i32) {
    let coded = zigzag(value.into());
    let bits = u64::BITS - coded.leading_zeros();
    out.put(bits.into(), 6);
    out.put(coded, bits);
}

fn read_base(bits: &mut BitReader<'_>) -> Option<i32> {
    let count = bits.take(6)? as u32;
    if count > WHOLE {
        return None;
    }
    i32::try_from(unzigzag(bits.take(count)?)).ok()
}

/// Writes which of the slots have a number: one bit where all have, else the lengths of the runs.
pub(crate) fn write_presence(out: &mut BitWriter, present: &[bool]) {
    if present.iter().all(|here| *here) {
        return out.put(1, 1);
    }
    out.put(0, 1);
    out.put(present.first().is_some_and(|here| *here).into(), 1);
    for run in present.chunk_by(|a, b| a == b) {
        // Elias gamma.
        let bits = run.len().ilog2();
        out.put(0, bits);
        out.put(run.len() as u64, bits + 1);
    }
}

/// Reads it for `slots` slots.
pub(crate) fn read_presence(bits: &mut BitReader<'_>, slots: usize) -> Option<Vec<bool>> {
    if bits.take(1)? == 1 {
        return Some(vec![true; slots]);
    }
    let mut here = bits.take(1)? == 1;
    let mut present = Vec::with_capacity(slots);
    while present.len() < slots {
        let mut length = 0;
        while bits.take(1)? == 0 {
            length += 1;
            if length > 16 {
                return None;
            }
        }
        let run = (1usize << length) | bits.take(length)? as usize;
        if run > slots - present.len() {
            return None;
        }
        present.resize(present.len() + run, here);
        here = !here;
    }
    Some(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(values: &[i32]) -> Vec<u8> {
        let mut out = BitWriter::default();
        write_numbers(&mut out, values, &mut Vec::new());
        out.finish()
    }

    #[test]
    fn what_is_alike_costs_next_to_nothing() {
        assert!(written(&[7; 144]).len() <= 2);
        let rising: Vec<i32> = (0..144).collect();
        assert!(written(&rising).len() <= 60, "{}", written(&rising).len());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            values in prop::collection::vec(prop_oneof![-100i32..100, any::<i32>(), Just(i32::MAX), Just(i32::MIN + 1)], 0..200),
            present in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let mut out = BitWriter::default();
            write_presence(&mut out, &present);
            write_numbers(&mut out, &values, &mut Vec::new());
            write_presence(&mut out, &present);
            let bytes = out.finish();
            let mut bits = BitReader::new(&bytes);
            prop_assert_eq!(read_presence(&mut bits, present.len()), Some(present.clone()));
            prop_assert_eq!(read_numbers(&mut bits, values.len()), Some(values));
            prop_assert_eq!(read_presence(&mut bits, present.len()), Some(present));
        }

        #[test]
        fn no_bits_are_too_wild(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..300) {
            if let Some(values) = read_numbers(&mut BitReader::new(&bytes), count) {
                prop_assert_eq!(values.len(), count);
            }
            if let Some(present) = read_presence(&mut BitReader::new(&bytes), count) {
                prop_assert_eq!(present.len(), count);
            }
        }
    }
}
