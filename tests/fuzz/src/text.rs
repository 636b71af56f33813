//! Mutations of texts: characters, words, lines, and pieces of other texts.

use crate::draw::Draw;

/// Characters that mean something in YAML, JSON, TOML, shells, URLs and numbers.
const SPICE: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    "-",
    "&a",
    "*a",
    "!",
    "|",
    ">",
    "'",
    "\"",
    "%",
    "@",
    "#",
    "?",
    ",",
    "\n",
    " ",
    "\t",
    "$",
    "${",
    "${A:-",
    "$$",
    "\\",
    "/",
    "..",
    "../",
    "=",
    "~",
    "<<",
    "\0",
    "\u{feff}",
    "é",
    "\u{1f480}",
    "\u{202e}",
    "\r\n",
    "0",
    "-1",
    "1e9",
    "0x1f",
    "18446744073709551616",
    "9223372036854775808",
    "4294967296",
    ".5",
    "1_000",
    "NaN",
    "inf",
    "null",
    "true",
    "no",
    "---",
    "...",
    "%2e%2e",
    "%00",
    "!!str",
    "!reset",
    "!override",
    "x-",
    "''",
    "\"\"",
    "{}",
    "[]",
    ": ",
];

/// Numbers at the edges of what a program keeps numbers in.
pub(crate) const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "127",
    "128",
    "255",
    "256",
    "1000",
    "32767",
    "32768",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-2147483649",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "1e308",
    "1e400",
    "0.1",
    "-0.0",
    "0.0000000001",
    "1e-400",
];

/// Alters a text in some places, with pieces of `others`.
pub(crate) fn alter(draw: &mut dyn Draw, text: &mut Vec<u8>, others: &[&[u8]]) {
    for _ in 0..=draw.below(6) {
        once(draw, text, others);
    }
    text.truncate(1 << 17);
}

fn once(draw: &mut dyn Draw, text: &mut Vec<u8>, others: &[&[u8]]) {
    let len = text.len();
    let at = draw.below(len + 1);
    match draw.below(12) {
        0 => insert(text, at, draw.of(SPICE).as_bytes()),
        1 => drop(text.drain(at..len.min(at + 1 + draw.below(16)))),
        2 if at < len => text[at] = draw.below(256) as u8,
        3 => {
            let numbers = numbers(text);
            if !numbers.is_empty() {
                let (start, end) = *draw.of(&numbers);
                drop(text.splice(start..end, draw.of(NUMBERS).bytes()));
            }
        }
        4 => {
            let (start, end) = word(text, at);
            drop(text.splice(start..end, draw.of(SPICE).bytes()));
        }
        // A piece of its own, once more or many times.
        5 => {
            let end = len.min(at + 1 + draw.below(64));
            let piece = text[at.min(end)..end].to_vec();
            let times = *draw.of(&[1, 2, 3, 20, 300]);
            insert(text, at, &piece.repeat(times));
        }
        6 => {
            let (start, end) = line(text, at);
            drop(text.drain(start..end));
        }
        7 => {
            let (start, end) = line(text, at);
            let piece = text[start..end].to_vec();
            let to = draw.below(len + 1);
            let (start, _) = line(text, to);
            insert(text, start, &piece);
        }
        // A line of another, as it is, deeper, or at the margin.
        8 | 9 if !others.is_empty() => {
            let other = *draw.of(others);
            let (start, end) = line(other, draw.below(other.len() + 1));
            let piece = &other[start..end];
            let (start, _) = line(text, at);
            match draw.below(3) {
                0 => insert(text, start, piece),
                1 => insert(text, start, &[b"  ", piece].concat()),
                _ => insert(text, start, piece.trim_ascii_start()),
            }
        }
        10 if !others.is_empty() => {
            let other = *draw.of(others);
            let (start, end) = word(other, draw.below(other.len() + 1));
            let piece = other[start..end].to_vec();
            let (start, end) = word(text, at);
            drop(text.splice(start..end, piece));
        }
        _ => text.truncate(at),
    }
}

fn insert(text: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(text.splice(at..at, piece.iter().copied()));
}

/// Where numbers stand.
fn numbers(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for at in text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at) {
        match found.last_mut() {
            Some((_, end)) if *end == at => *end += 1,
            _ => found.push((at, at + 1)),
        }
    }
    found
}

/// The word around a place.
fn word(text: &[u8], at: usize) -> (usize, usize) {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
    let start = at - text[..at].iter().rev().take_while(|byte| inside(byte)).count();
    (start, at + text[at..].iter().take_while(|byte| inside(byte)).count())
}

/// The line around a place, its end included.
fn line(text: &[u8], at: usize) -> (usize, usize) {
    let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
    (start, text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end + 1))
}
