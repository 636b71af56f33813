//! The frames of a stream.

use super::*;
use crate::{
    message::{BulkEnd, BulkFrame, StreamId},
    proto::bulk_frame,
};

impl From<BulkFrame> for proto::BulkFrame {
    fn from(frame: BulkFrame) -> Self {
        use bulk_frame::Kind;
        let kind = match frame {
            BulkFrame::Open(StreamId(id)) => Kind::Open(id),
            BulkFrame::Data { channel, bytes } => {
                Kind::Data(proto::BulkData { channel: channel.into(), bytes })
            }
            BulkFrame::End(channel) => Kind::End(channel.into()),
            BulkFrame::Close(end) => {
                let (exit_code, error) = match end {
                    BulkEnd::Done => (None, None),
                    BulkEnd::Exit(code) => (Some(code), None),
                    BulkEnd::Failed(refusal) => (None, Some(refusal.into())),
                };
                Kind::Close(proto::BulkClose { exit_code, error })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::BulkFrame> for BulkFrame {
    type Error = WireError;

    fn try_from(frame: proto::BulkFrame) -> Wire<Self> {
        use bulk_frame::Kind;
        let channel = |n: u32| u8::try_from(n).map_err(|e| invalid("channel", e));
        Ok(match some("kind", frame.kind)? {
            Kind::Open(id) => Self::Open(StreamId(id)),
            Kind::Data(proto::BulkData { channel: n, bytes }) => {
                bounded("data", bytes.len(), MAX_BULK)?;
                Self::Data { channel: channel(n)?, bytes }
            }
            Kind::End(n) => Self::End(channel(n)?),
            Kind::Close(proto::BulkClose { exit_code, error }) => Self::Close(match (exit_code, error) {
                (_, Some(refusal)) => BulkEnd::Failed(refusal.try_into()?),
                (Some(code), None) => BulkEnd::Exit(code),
                (None, None) => BulkEnd::Done,
            }),
        })
    }
}
