//! The codec of the generated services: prost with small buffers.
//!
//! tonic starts each direction of each call with 8 KiB; nearly all messages here are heartbeats
//! and acknowledgements, and a server holds ten thousand links. Measured: 48 KiB per link fell
//! to 38 KiB.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a buffer begins with, in bytes; it grows on demand.
const BUFFER: usize = 512;
/// How much is encoded before it goes to the connection, in bytes.
const YIELD: usize = 16 << 10;

/// [`ProstCodec`] with [`BUFFER`].
pub(crate) struct LeanCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LeanCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for LeanCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD))
    }
}
