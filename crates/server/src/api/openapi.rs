//! The OpenAPI document, made from the table of routes and the wire types. It is checked in as
//! `api/openapi.json`; a test fails when it drifts.

use super::table::{Content, Described, Route, table};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The document as it is served.
pub static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// Method, path, and the operation's id, for every route.
pub fn routes() -> Vec<(String, &'static str, &'static str)> {
    table().iter().map(|route| (route.method.to_string(), route.path, route.id)).collect()
}

fn document() -> Value {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    let error = super_error(&mut schemas);
    for route in table() {
        let operation = operation(&route, &error, &mut schemas);
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lattice",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control plane's API. Instants are milliseconds since 1970-01-01T00:00:00Z, spans are milliseconds. Every refusal is an ErrorBody. Any GET takes `min_revision=N` (answer from a state at least as new as revision N) and `consistent=true` (as new as the store).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "http://127.0.0.1:7400" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "A session's token or an API token. The Unix socket needs none." } },
            "schemas": schemas
        }
    })
}

fn super_error(schemas: &mut Map<String, Value>) -> Value {
    use utoipa::{PartialSchema, ToSchema};
    let mut found = vec![(lattice_api::ErrorBody::name().into_owned(), lattice_api::ErrorBody::schema())];
    lattice_api::ErrorBody::schemas(&mut found);
    collect(schemas, found);
    json!({ "description": "Refused.", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } } } })
}

fn collect(
    schemas: &mut Map<String, Value>,
    found: Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
) {
    for (name, schema) in found {
        schemas.entry(name).or_insert_with(|| serde_json::to_value(schema).unwrap_or_default());
    }
}

fn reference(schemas: &mut Map<String, Value>, described: fn() -> Described) -> Value {
    let (reference, found) = described();
    collect(schemas, found);
    serde_json::to_value(reference).unwrap_or_default()
}

fn content(schemas: &mut Map<String, Value>, content: Content) -> Option<Value> {
    Some(match content {
        Content::Empty => return None,
        Content::Json(described) => {
            json!({ "application/json": { "schema": reference(schemas, described) } })
        }
        Content::List(described) => {
            let item = reference(schemas, described);
            let list = json!({
                "type": "object",
                "required": ["items", "revision"],
                "properties": {
                    "items": { "type": "array", "items": item },
                    "revision": { "type": "integer", "format": "int64", "minimum": 0, "description": "The store's revision that the list is of: watch from here and miss nothing." }
                }
            });
            json!({ "application/json": { "schema": list } })
        }
        Content::Other(media, Some(described)) => {
            json!({ media: { "schema": reference(schemas, described) } })
        }
        Content::Other(media, None) => json!({ media: {} }),
    })
}

fn operation(route: &Route, error: &Value, schemas: &mut Map<String, Value>) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let query = route.query.map(|query| query()).unwrap_or_default();
    parameters.extend(query.iter().map(|parameter| serde_json::to_value(parameter).unwrap_or_default()));
    let (status, answer) = match content(schemas, route.gives) {
        Some(content) if route.id == "exec" => {
            ("101", json!({ "description": "Upgraded; see the types.", "content": content }))
        }
        Some(content) => ("200", json!({ "description": "Done.", "content": content })),
        None => ("204", json!({ "description": "Done." })),
    };
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "x-lattice-permission": route.access.describe(),
        "responses": { status: answer, "default": error }
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = content(schemas, route.takes).filter(|_| route.id != "exec") {
        operation["requestBody"] = json!({ "required": true, "content": body });
    }
    operation
}
