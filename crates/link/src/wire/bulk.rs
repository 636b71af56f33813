//! The frames of a stream, and the parts of a tree.

use super::*;
use crate::{
    message::{BulkEnd, BulkFrame, ImagePartRequest, StreamId, TreePart, TreeRequest},
    proto::{bulk_frame, tree_part},
};
use lattice_model::spec::{ImageDigest, TreeDigest};

/// From this size on, in bytes, a frame costs a receiver nothing but its bytes. Smaller ones that wait unread count against
/// a budget of half the connection's window (h2 0.4.16 and later, `DEFAULT_DATA_FRAME_OVERHEAD_THRESHOLD`), and beyond it
/// the connection ends with ENHANCE_YOUR_CALM: a log that trickles while nobody reads would end every stream of a node.
const LARGE: usize = 256;
static PADDING: [u8; LARGE] = [0; LARGE];

impl From<BulkFrame> for proto::BulkFrame {
    fn from(frame: BulkFrame) -> Self {
        use bulk_frame::Kind;
        let carried = match &frame {
            BulkFrame::Data { bytes, .. } => bytes.len(),
            BulkFrame::Open(_) | BulkFrame::End(_) | BulkFrame::Close(_) => 0,
        };
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
        let padding = Bytes::from_static(&PADDING[carried.min(LARGE)..]);
        Self { kind: Some(kind), padding }
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

impl From<TreeRequest> for proto::TreeRequest {
    fn from(TreeRequest { digest, offset }: TreeRequest) -> Self {
        Self { digest: Bytes::copy_from_slice(digest.as_bytes()), offset }
    }
}

impl TryFrom<proto::TreeRequest> for TreeRequest {
    type Error = WireError;

    fn try_from(proto::TreeRequest { digest, offset }: proto::TreeRequest) -> Wire<Self> {
        Ok(Self { digest: TreeDigest::from_sha256(hash("digest", &digest)?), offset })
    }
}

fn hash(field: &'static str, bytes: &Bytes) -> Wire<[u8; 32]> {
    <[u8; 32]>::try_from(&**bytes)
        .map_err(|_| invalid(field, format_args!("{} bytes are not a SHA-256", bytes.len())))
}

impl From<ImagePartRequest> for proto::ImagePartRequest {
    fn from(ImagePartRequest { image, layer, offset }: ImagePartRequest) -> Self {
        let layer = layer.map_or_else(Bytes::new, |layer| Bytes::copy_from_slice(layer.as_bytes()));
        Self { image: Bytes::copy_from_slice(image.as_bytes()), layer, offset }
    }
}

impl TryFrom<proto::ImagePartRequest> for ImagePartRequest {
    type Error = WireError;

    fn try_from(proto::ImagePartRequest { image, layer, offset }: proto::ImagePartRequest) -> Wire<Self> {
        let image = ImageDigest::from_sha256(hash("image", &image)?);
        let layer = match layer.is_empty() {
            true => None,
            false => Some(ImageDigest::from_sha256(hash("layer", &layer)?)),
        };
        Ok(Self { image, layer, offset })
    }
}

impl From<TreePart> for proto::TreePart {
    fn from(part: TreePart) -> Self {
        use tree_part::Kind;
        Self {
            kind: Some(match part {
                TreePart::Size(size) => Kind::Size(size),
                TreePart::Data(bytes) => Kind::Data(bytes),
                TreePart::Refused(refusal) => Kind::Refused(refusal.into()),
            }),
        }
    }
}

impl TryFrom<proto::TreePart> for TreePart {
    type Error = WireError;

    fn try_from(part: proto::TreePart) -> Wire<Self> {
        use tree_part::Kind;
        Ok(match some("kind", part.kind)? {
            Kind::Size(size) => Self::Size(size),
            Kind::Data(bytes) => {
                bounded("data", bytes.len(), MAX_BULK)?;
                Self::Data(bytes)
            }
            Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}
