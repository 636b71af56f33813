//! Mutations of protobuf messages, by what the bytes themselves tell: fields are taken away, repeated, moved, and
//! altered as the number, text, JSON or message that they seem to be.

use crate::{draw::Draw, json, text};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::Value;

#[derive(Clone, Debug)]
enum Field {
    Varint(u64),
    Bytes(Vec<u8>),
    /// Of a fixed size.
    Fixed(WireType, Vec<u8>),
}

/// No longer than this, in bytes: what is repeated may be repeated again.
const MOST: usize = 256 << 10;

/// Alters a message in some places, with fields of `others`.
pub(crate) fn alter(draw: &mut dyn Draw, message: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=draw.below(4) {
        once(draw, message, others, 0);
        message.truncate(MOST);
    }
}

fn once(draw: &mut dyn Draw, message: &mut Vec<u8>, others: &[Vec<u8>], depth: usize) {
    let Some(mut fields) = fields(message) else {
        return text::alter(draw, message, &[]);
    };
    if fields.is_empty() {
        let mut made = Vec::new();
        write(&mut made, draw.between(1, 12) as u32, &Field::Varint(draw.bits()));
        *message = made;
        return;
    }
    let at = draw.below(fields.len());
    match draw.below(12) {
        0 => drop(fields.remove(at)),
        1 => {
            let field = fields[at].clone();
            let times = *draw.of(&[1, 2, 70, 1100]);
            fields.extend(std::iter::repeat_n(field, times));
        }
        2 => fields[at].0 = draw.between(1, 12) as u32,
        3 => {
            let other = draw.below(fields.len());
            fields.swap(at, other);
        }
        4 if !others.is_empty() => {
            let other: &Vec<u8> = draw.of(others);
            let all = self::fields(other).unwrap_or_default();
            if !all.is_empty() {
                fields.push(draw.of(&all).clone());
            }
        }
        _ => value(draw, &mut fields[at].1, others, depth),
    }
    message.clear();
    fields.iter().for_each(|(tag, field)| write(message, *tag, field));
    // Cut or spoiled as bytes, now and then.
    if depth == 0 && draw.one_in(12) {
        let to = draw.below(message.len() + 1);
        message.truncate(to);
    }
}

fn value(draw: &mut dyn Draw, field: &mut Field, others: &[Vec<u8>], depth: usize) {
    match field {
        Field::Varint(number) => {
            let all =
                [0, 1, 127, 128, 256, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53, 1 << 63, u64::MAX];
            *number = if draw.one_in(4) { draw.bits() } else { *draw.of(&all) };
        }
        Field::Bytes(bytes) => {
            if let Ok(mut document @ (Value::Object(_) | Value::String(_))) =
                serde_json::from_slice::<Value>(bytes)
            {
                json::alter(draw, &mut document, &[]);
                *bytes = document.to_string().into_bytes();
            } else if depth < 6 && !bytes.is_empty() && fields(bytes).is_some() && !draw.one_in(4) {
                once(draw, bytes, others, depth + 1);
            } else {
                match draw.below(4) {
                    0 => bytes.clear(),
                    1 => bytes.resize(
                        *draw.of(&[1, 15, 16, 17, 31, 32, 33, 64, 65, 256, 257, 1024, 4097, 70_000]),
                        b'a',
                    ),
                    _ => text::alter(draw, bytes, &[]),
                }
            }
        }
        Field::Fixed(_, bytes) => bytes.iter_mut().for_each(|byte| *byte = draw.below(256) as u8),
    }
}

/// The fields of a message; none when the bytes are none.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Field)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (tag, kind) = decode_key(&mut bytes).ok()?;
        let field = match kind {
            WireType::Varint => Field::Varint(decode_varint(&mut bytes).ok()?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                Field::Bytes(take(&mut bytes, len)?)
            }
            WireType::SixtyFourBit => Field::Fixed(kind, take(&mut bytes, 8)?),
            WireType::ThirtyTwoBit => Field::Fixed(kind, take(&mut bytes, 4)?),
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        all.push((tag, field));
    }
    Some(all)
}

fn take(bytes: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken.to_vec())
}

fn write(message: &mut Vec<u8>, tag: u32, field: &Field) {
    match field {
        Field::Varint(number) => {
            encode_key(tag, WireType::Varint, message);
            encode_varint(*number, message);
        }
        Field::Bytes(bytes) => {
            encode_key(tag, WireType::LengthDelimited, message);
            encode_varint(bytes.len() as u64, message);
            message.extend_from_slice(bytes);
        }
        Field::Fixed(kind, bytes) => {
            encode_key(tag, *kind, message);
            message.extend_from_slice(bytes);
        }
    }
}
