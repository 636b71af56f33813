//! The endpoints and their schemas, from the OpenAPI document: an endpoint that is new is tried from its first day.

use crate::{draw::Draw, json};
use serde_json::{Map, Value, json};
use std::{path::Path, sync::LazyLock};

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// In capitals.
    pub(crate) method: String,
    /// With `{names}`.
    pub(crate) path: String,
    /// The names of its query parameters, and what type each has.
    pub(crate) query: Vec<(String, String)>,
    /// Its body's type, and the schema where it has one.
    pub(crate) body: Option<(String, Option<Value>)>,
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/openapi.json");
    let text = std::fs::read(path).expect("api/openapi.json");
    serde_json::from_slice(&text).expect("the OpenAPI document")
});

/// Every endpoint.
pub(crate) static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (path, methods) in DOCUMENT["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| (text(&parameter["name"]), text(&parameter["schema"]["type"])))
                .collect();
            let content = operation["requestBody"]["content"].as_object();
            let body = content.and_then(|content| content.iter().next());
            let body = body.map(|(kind, media)| (kind.clone(), media.get("schema").cloned()));
            all.push(Operation { method: method.to_uppercase(), path: path.clone(), query, body });
        }
    }
    assert!(all.len() > 40, "the document names the endpoints");
    all
});

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A value that a schema describes.
pub(crate) fn value(draw: &mut dyn Draw, schema: &Value, depth: usize) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return named(draw, name, depth);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(all) = schema[key].as_array().filter(|all| !all.is_empty()) {
            // Deep down the first, which is the plainest.
            let chosen = if depth > 6 { 0 } else { draw.below(all.len()) };
            return value(draw, &all[chosen], depth);
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts =
            all.iter().map(|part| value(draw, part, depth)).filter_map(|part| part.as_object().cloned());
        return Value::Object(parts.flatten().collect());
    }
    if let Some(all) = schema["enum"].as_array().filter(|all| !all.is_empty()) {
        return draw.of(all).clone();
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return json::any(draw),
    };
    match *draw.of(&kinds) {
        "object" => object(draw, schema, depth),
        "array" if depth > 6 => json!([]),
        "array" => (0..draw.below(3)).map(|_| value(draw, &schema["items"], depth + 1)).collect(),
        "integer" if draw.below(4) != 3 => json!(draw.below(5)),
        "integer" | "number" => json::number(draw),
        "boolean" => json!(draw.below(2) == 1),
        "string" => json!(json::word(draw)),
        _ => Value::Null,
    }
}

fn named(draw: &mut dyn Draw, name: &str, depth: usize) -> Value {
    let usual = |draw: &mut dyn Draw, words: &[&str]| json!(*draw.of(words));
    match name {
        "Duration" => json!(*draw.of(&[0_u64, 1, 50, 1000, 60_000, 3_600_000, u64::MAX])),
        "Timestamp" => json!(*draw.of(&[0_i64, 1, -1, 1_800_000_000_000, i64::MAX, i64::MIN])),
        "Bytes" => json!(*draw.of(&[0_u64, 1, 4096, 64 << 20, 1 << 30, u64::MAX])),
        "Cpu" => json!(*draw.of(&[0_u32, 1, 100, 1000, u32::MAX])),
        "ProjectName" => usual(draw, &["default", "other"]),
        "PoolName" => usual(draw, &["default", "gpu"]),
        "NodeName" => usual(draw, &["fuzz-node", "other"]),
        "UserName" => usual(draw, &["ada", "bob"]),
        "StackName" => usual(draw, &["shop", "blog"]),
        "WorkloadName" => usual(draw, &["web", "app", "db"]),
        "VolumeName" | "SecretName" => usual(draw, &["data", "password"]),
        "Binding" => {
            usual(draw, &["viewer", "admin", "operator@pool/default", "developer@project/default", "owner"])
        }
        "StackSpec" => draw.of(&crate::corpus::STACKS).clone(),
        _ if depth > 12 => Value::Null,
        _ => value(draw, &DOCUMENT["components"]["schemas"][name], depth + 1),
    }
}

fn object(draw: &mut dyn Draw, schema: &Value, depth: usize) -> Value {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut object = Map::new();
    for (key, of) in schema["properties"].as_object().into_iter().flatten() {
        if required.contains(&key.as_str()) || (depth < 8 && draw.one_in(3)) {
            object.insert(key.clone(), value(draw, of, depth + 1));
        }
    }
    if let Some(of @ Value::Object(_)) = schema.get("additionalProperties")
        && depth < 8
    {
        for _ in 0..draw.below(3) {
            let key = json::word(draw);
            object.insert(key, value(draw, of, depth + 1));
        }
    }
    Value::Object(object)
}
