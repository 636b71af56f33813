//! Mutations of JSON documents.

use crate::{draw::Draw, text};
use serde_json::{Map, Number, Value, json};

/// Alters a document in some places, with parts of `others`.
pub(crate) fn alter(draw: &mut dyn Draw, document: &mut Value, others: &[Value]) {
    for _ in 0..=draw.below(4) {
        let places = count(document);
        let at = draw.below(places);
        if let Some(value) = place(document, &mut { at }) {
            once(draw, value, others);
        }
    }
}

/// Any value.
pub(crate) fn any(draw: &mut dyn Draw) -> Value {
    match draw.below(12) {
        0 => Value::Null,
        1 => Value::Bool(draw.below(2) == 1),
        2 | 3 => number(draw),
        4 => Value::String(String::new()),
        5 => Value::String(word(draw)),
        6 => Value::String("x".repeat(*draw.of(&[63, 64, 255, 256, 4096, 70_000]))),
        7 => Value::String("a\u{0}\u{1b}[31m\n\u{202e}é".to_owned()),
        8 => Value::Array(Vec::new()),
        9 => Value::Object(Map::new()),
        10 => deep(*draw.of(&[2, 20, 120, 127, 200])),
        _ => Value::Array(vec![json!("a"); *draw.of(&[1, 2, 100, 5000])]),
    }
}

/// A number, rather one at an edge.
pub(crate) fn number(draw: &mut dyn Draw) -> Value {
    let text = *draw.of(text::NUMBERS);
    // Those that serde cannot keep whole become what a reader would make of them.
    text.parse::<Number>().map_or_else(|_| json!(f64::MAX), Value::Number)
}

/// A word such as programs know.
pub(crate) fn word(draw: &mut dyn Draw) -> String {
    let words = [
        "a",
        "web",
        "default",
        "fuzz",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "0",
        "..",
        "/",
        "/etc/passwd",
        "a/b",
        "a:b",
        "a@b",
        "a b",
        "127.0.0.1",
        "::1",
        "nginx",
        "nginx:1@sha256:00",
        "{{.}}",
        "$A",
        "5s",
        "1g",
        "9e99g",
        "-1s",
        "18446744073709551615s",
        "99999999999999999999d",
        "0.5",
        "tcp",
        "on-failure",
        "always",
        "admin",
        "viewer@project/a",
        "operator@pool/default",
        "00000000-0000-0000-0000-000000000000",
        "1970-01-01T00:00:00Z",
        "ä",
        "NET_ADMIN",
        "latest",
    ];
    (*draw.of(&words)).to_owned()
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(
        json!("deep"),
        |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) },
    )
}

fn once(draw: &mut dyn Draw, value: &mut Value, others: &[Value]) {
    match (draw.below(9), &mut *value) {
        (0, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(draw.below(map.len())).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (1, Value::Object(map)) => {
            let key = word(draw);
            let value = any(draw);
            map.insert(key, value);
        }
        // What one key has, under another too.
        (2, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(draw.below(map.len())).cloned().unwrap_or_default();
            let value = map[&key].clone();
            let other = word(draw);
            map.insert(other, value);
        }
        (0, Value::Array(items)) if !items.is_empty() => drop(items.remove(draw.below(items.len()))),
        (1, Value::Array(items)) => items.push(any(draw)),
        (2, Value::Array(items)) if !items.is_empty() => {
            let item = items[draw.below(items.len())].clone();
            let times = *draw.of(&[1, 2, 50]);
            items.extend(std::iter::repeat_n(item, times));
        }
        (0..3, Value::String(string)) => {
            let mut bytes = std::mem::take(string).into_bytes();
            text::alter(draw, &mut bytes, &[]);
            *string = String::from_utf8_lossy(&bytes).into_owned();
        }
        (0..3, Value::Number(_)) => *value = number(draw),
        (3, _) => *value = any(draw),
        (4, _) => *value = Value::Array(vec![value.take()]),
        (5, _) => *value = Value::String(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        (6 | 7, _) if !others.is_empty() => {
            let other = draw.of(others);
            let at = draw.below(count(other));
            let mut other = other.clone();
            if let Some(part) = place(&mut other, &mut { at }) {
                *value = part.take();
            }
        }
        _ => *value = Value::String(word(draw)),
    }
}

/// How many values a document has, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place, counted from the outside.
fn place<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| place(item, at)),
        Value::Object(map) => map.values_mut().find_map(|item| place(item, at)),
        _ => None,
    }
}
