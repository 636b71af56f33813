//! How a layer travels and is kept: one frame of zstd that states how many bytes come out.
//!
//! The size is stated so that an archive can be written around a layer without unpacking it first,
//! and so that a bomb is known for one before it goes off: what says more than [`MAX_LAYER`] is not
//! begun, and what brings more than it said is ended there.

use crate::error::{ImageError, Result};
use lattice_model::spec::ImageDigest;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufReader, Read, Write};

/// The most bytes of an unpacked layer.
pub const MAX_LAYER: u64 = 16 << 30;
/// How hard it is compressed. Level 1 made 45 % of a system's 150 MB in 0.6 s, tried once on two busy cores: even
/// over loopback less is hashed, written and read again. Higher levels were not measured.
pub const LEVEL: i32 = 1;
/// The most memory that unpacking may take, as a power of two: a frame that wants more is refused.
/// Level 1 takes half a megabyte.
const WINDOW_LOG: u32 = 23;
/// What is unpacked at once, in bytes.
const PIECE: usize = 128 << 10;
/// The longest header of a frame.
const HEADER: usize = 18;

/// Compresses a layer of exactly `size` bytes.
///
/// # Errors
/// [`ImageError::Io`], also where the source has more or fewer bytes.
pub fn compress(source: impl Read, size: u64, sink: impl Write) -> Result<()> {
    let mut encoder = zstd::Encoder::new(sink, LEVEL).map_err(ImageError::write)?;
    let pledged = encoder.set_pledged_src_size(Some(size)).and_then(|()| encoder.include_contentsize(true));
    pledged.map_err(ImageError::write)?;
    let copied =
        io::copy(&mut source.take(size.saturating_add(1)), &mut encoder).map_err(ImageError::write)?;
    if copied != size {
        let odd = io::Error::other(format!("it has other than {size} bytes"));
        return Err(ImageError::read(odd));
    }
    encoder.finish().and_then(|mut sink| sink.flush()).map_err(ImageError::write)
}

/// A layer as it is unpacked: reading it brings exactly [`Frame::size`] bytes, or an error.
pub struct Frame<R: Read> {
    decoder: zstd::Decoder<'static, BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>>,
    size: u64,
    left: u64,
}

impl<R: Read> std::fmt::Debug for Frame<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("size", &self.size).field("left", &self.left).finish_non_exhaustive()
    }
}

impl<R: Read> Frame<R> {
    /// Reads the beginning of a frame.
    ///
    /// # Errors
    /// [`ImageError::Frame`] where it is none or does not state its size, [`ImageError::TooLarge`]
    /// where that is beyond `max`.
    pub fn open(mut source: R, max: u64) -> Result<Self> {
        let mut head = Vec::with_capacity(HEADER);
        source.by_ref().take(HEADER as u64).read_to_end(&mut head).map_err(ImageError::read)?;
        let size = match zstd::zstd_safe::get_frame_content_size(&head) {
            Ok(Some(size)) => size,
            Ok(None) => return Err(ImageError::Frame { problem: "does not say how large it is" }),
            Err(_) => return Err(ImageError::Frame { problem: "is not compressed with zstd" }),
        };
        let max = max.min(MAX_LAYER);
        if size > max {
            return Err(ImageError::TooLarge { max });
        }
        let whole = BufReader::with_capacity(PIECE, io::Cursor::new(head).chain(source));
        let mut decoder = zstd::Decoder::with_buffer(whole).map_err(ImageError::read)?.single_frame();
        decoder.window_log_max(WINDOW_LOG).map_err(ImageError::read)?;
        Ok(Self { decoder, size, left: size })
    }

    /// How many bytes it has unpacked, by its own word.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing but the frame was there.
    fn ends(self) -> Result<()> {
        let mut rest = self.decoder.finish();
        let mut byte = [0];
        match rest.read(&mut byte).map_err(ImageError::read)? {
            0 => Ok(()),
            _ => Err(ImageError::Frame { problem: "has something after its end" }),
        }
    }
}

impl<R: Read> Read for Frame<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(into)?;
        if into.is_empty() {
            return Ok(0);
        }
        self.left = match self.left.checked_sub(read as u64) {
            Some(left) => left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than it says")),
        };
        if read == 0 && self.left > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is smaller than it says"));
        }
        Ok(read)
    }
}

/// Unpacks a layer to nowhere: its digest, and how many bytes it has unpacked.
///
/// # Errors
/// [`ImageError`] where it is no whole frame, or has more than `max` bytes.
pub fn check(source: impl Read, max: u64) -> Result<(ImageDigest, u64)> {
    let mut frame = Frame::open(source, max)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let read = frame.read(&mut buffer).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
                ImageError::Frame { problem: "is damaged, or larger or smaller than it says" }
            }
            _ => ImageError::read(error),
        })?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let size = frame.size();
    frame.ends()?;
    Ok((ImageDigest::from_sha256(hash.finalize().into()), size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(bytes, bytes.len() as u64, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_out_and_is_named_by_what_comes_out(
            bytes in prop::collection::vec(any::<u8>(), 0..40_000), copies in 1usize..20,
        ) {
            let bytes = bytes.repeat(copies);
            let packed = frame(&bytes);
            prop_assert_eq!(check(&*packed, MAX_LAYER).unwrap(), (ImageDigest::of(&bytes), bytes.len() as u64));
            let mut out = Vec::new();
            Frame::open(&*packed, MAX_LAYER).unwrap().read_to_end(&mut out).unwrap();
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn what_is_damaged_is_never_taken_for_it(at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let bytes = b"a layer of some length, which compresses well well well".repeat(40);
            let mut packed = frame(&bytes);
            let at = at.index(packed.len());
            prop_assume!(packed[at] != with);
            packed[at] = with;
            prop_assert!(check(&*packed, MAX_LAYER).err_or_other(ImageDigest::of(&bytes)));
        }

        #[test]
        fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(check(&*bytes, MAX_LAYER).is_err());
        }
    }

    trait Other {
        fn err_or_other(self, digest: ImageDigest) -> bool;
    }

    impl Other for Result<(ImageDigest, u64)> {
        /// What is not part of the content, such as a reserved bit, may differ without harm.
        fn err_or_other(self, digest: ImageDigest) -> bool {
            self.map_or(true, |(found, size)| found != digest || size == 55 * 40)
        }
    }

    #[test]
    fn bombs_and_appendices_are_refused() {
        let zeros = frame(&vec![0; 1 << 20]);
        assert!(zeros.len() < 1000);
        assert!(matches!(check(&*zeros, (1 << 20) - 1), Err(ImageError::TooLarge { .. })));
        let mut two = zeros.clone();
        two.extend_from_slice(&zeros);
        assert!(check(&*two, MAX_LAYER).unwrap_err().to_string().contains("after its end"));
        assert!(check(&zeros[..zeros.len() - 1], MAX_LAYER).is_err());
        // Compressed as a stream, without a size.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(b"x").unwrap();
        encoder.flush().unwrap();
        let unsized_frame = encoder.finish().unwrap();
        assert!(check(&*unsized_frame, MAX_LAYER).unwrap_err().to_string().contains("how large"));
        // A window of a gigabyte wants that much memory.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_pledged_src_size(Some(64 << 20)).unwrap();
        encoder.include_contentsize(true).unwrap();
        encoder.window_log(26).unwrap();
        encoder.write_all(&vec![7; 64 << 20]).unwrap();
        assert!(check(&*encoder.finish().unwrap(), MAX_LAYER).is_err());
        assert!(compress(&b"abc"[..], 2, Vec::new()).is_err());
        assert!(compress(&b"abc"[..], 4, Vec::new()).is_err());
    }
}
