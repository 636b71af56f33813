//! What is written piece by piece to somebody who takes it elsewhere: a network, an engine.

use bytes::{Bytes, BytesMut};
use std::io::{self, Write};

/// The bytes of a piece; the last one may be shorter.
const PIECE: usize = 256 << 10;

/// Gathers what is written into pieces and hands each on. `S` is given a piece or the error that ends
/// them, and says whether anybody still takes them; it may wait. What was written last is handed on by
/// [`flush`](Write::flush).
#[derive(Debug)]
pub struct Pieces<S> {
    send: S,
    piece: BytesMut,
}

impl<S: FnMut(io::Result<Bytes>) -> bool> Pieces<S> {
    /// Hands pieces to `send`.
    pub fn new(send: S) -> Self {
        Self { send, piece: BytesMut::with_capacity(PIECE) }
    }

    /// Ends them with an error, so that whoever takes them takes what there is for damaged.
    pub fn fail(&mut self, error: impl std::fmt::Display) {
        (self.send)(Err(io::Error::other(error.to_string())));
    }
}

impl<S: FnMut(io::Result<Bytes>) -> bool> Write for Pieces<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (PIECE - self.piece.len()).min(bytes.len());
        self.piece.extend_from_slice(&bytes[..room]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        let taken = (self.send)(Ok(piece));
        taken.then_some(()).ok_or_else(|| io::Error::other("nobody takes the rest of it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_in_pieces_and_no_more_when_nobody_takes_it() {
        let (all, mut got) = (vec![7u8; 2 * PIECE + 3], Vec::new());
        let mut out = Pieces::new(|piece| {
            got.push(piece.unwrap().len());
            true
        });
        out.write_all(&all).unwrap();
        out.flush().unwrap();
        drop(out);
        assert_eq!(got, [PIECE, PIECE, 3]);
        assert!(Pieces::new(|_| false).write_all(&all).is_err());
    }
}
