//! Between those who compute (blocking: encryption, archive) and those who carry (async: network):
//! a bounded channel of pieces, whose end has to be said.

use crate::BackupError;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// The size of a piece in bytes, its end aside.
const PIECE: usize = 256 << 10;
/// How many pieces may be under way; beyond it the writer waits.
const UNDER_WAY: usize = 8;

/// A piece of a stream. A channel that closes without [`Piece::End`] was given up.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    End,
    /// What went wrong at the other end.
    Failed(String),
}

/// The blocking writer's end; counts and hashes what is written.
#[derive(Debug)]
pub struct PipeWriter {
    sender: mpsc::Sender<Piece>,
    buffer: BytesMut,
    bytes: u64,
    hash: Sha256,
}

/// The reader's end: blocking as [`Read`], or async by [`PipeReader::next`].
#[derive(Debug)]
pub struct PipeReader {
    receiver: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

/// A channel with room for 2 MiB.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let writer = PipeWriter { sender, buffer: BytesMut::new(), bytes: 0, hash: Sha256::new() };
    (writer, PipeReader { receiver, rest: Bytes::new(), ended: false })
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other end has stopped")
}

impl PipeWriter {
    /// Says that this was all. Without it the reader gets an error and not an end.
    ///
    /// # Errors
    /// When the reader has gone.
    pub fn end(mut self) -> io::Result<()> {
        self.send()?;
        self.sender.blocking_send(Piece::End).map_err(|_| gone())
    }

    /// Size and SHA-256, in hexadecimal, of what was written.
    pub fn tally(&self) -> (u64, String) {
        (self.bytes, hex::encode(self.hash.clone().finalize()))
    }

    /// Says why there will be no more.
    pub fn fail(self, why: &str) {
        // Nobody hears it when the reader has gone, who then knows better.
        let _ = self.sender.blocking_send(Piece::Failed(why.to_owned()));
    }

    /// The same from async code: a piece of any size.
    ///
    /// # Errors
    /// [`BackupError::Stopped`] when the reader has gone.
    pub async fn feed(&self, bytes: Bytes) -> Result<(), BackupError> {
        self.sender.send(Piece::Data(bytes)).await.map_err(|_| BackupError::Stopped)
    }

    /// [`PipeWriter::end`] from async code.
    ///
    /// # Errors
    /// [`BackupError::Stopped`] when the reader has gone.
    pub async fn finish(self) -> Result<(), BackupError> {
        self.sender.send(Piece::End).await.map_err(|_| BackupError::Stopped)
    }

    /// [`PipeWriter::fail`] from async code.
    pub async fn give_up(self, why: &str) {
        let _ = self.sender.send(Piece::Failed(why.to_owned())).await;
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Piece::Data(self.buffer.split().freeze())).map_err(|_| gone())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl PipeReader {
    /// The next piece; `None` at the end that was said.
    ///
    /// # Errors
    /// [`BackupError::Io`] when the writer failed or stopped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let piece = self.receiver.recv().await;
        self.take(piece).map_err(BackupError::io("read"))
    }

    fn take(&mut self, piece: Option<Piece>) -> io::Result<Option<Bytes>> {
        match piece {
            Some(Piece::Data(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Piece::Failed(why)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
            None => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the stream broke off")),
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.ended {
                return Ok(0);
            }
            let piece = self.receiver.blocking_recv();
            match self.take(piece)? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
