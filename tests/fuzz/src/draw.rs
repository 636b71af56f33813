//! Where the choices of an input come from: bytes that the engine makes up, behind a trait. Zero is always the
//! plainest choice: shrinking goes there, and bytes that are used up say nothing else.

/// Choices.
pub trait Draw {
    /// A number below `bound`; 0 where there is none.
    fn below(&mut self, bound: usize) -> usize;

    /// Any 64 bits.
    fn bits(&mut self) -> u64;
}

impl dyn Draw + '_ {
    /// Whether something of one in `n` is the case; the plain choice is that it is not.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// From `min` to `max`, both included.
    pub fn between(&mut self, min: usize, max: usize) -> usize {
        min + self.below(max - min + 1)
    }

    /// Bytes of any value.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

/// Choices by bytes.
pub(crate) struct Bytes<'b>(pub(crate) &'b [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = N.min(self.0.len());
        let (head, rest) = self.0.split_at(len);
        taken[..len].copy_from_slice(head);
        self.0 = rest;
        taken
    }
}

impl Draw for Bytes<'_> {
    fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 | 1 => 0,
            2..=256 => usize::from(u8::from_le_bytes(self.take())) % bound,
            257..=65_536 => usize::from(u16::from_le_bytes(self.take())) % bound,
            _ => u32::from_le_bytes(self.take()) as usize % bound,
        }
    }

    fn bits(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
