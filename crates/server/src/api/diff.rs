//! What is different between two specs, for people: one thing a line. Pure.

use serde_json::Value;

/// The most lines of one thing.
const MAX_LINES: usize = 40;

/// The differences between two declared documents, by path. Values of variables are not shown:
/// people keep passwords there.
pub(crate) fn differences<T: serde::Serialize>(before: &T, after: &T) -> Vec<String> {
    let (before, after) = (serde_json::to_value(before), serde_json::to_value(after));
    let mut lines = Vec::new();
    walk("", &before.unwrap_or_default(), &after.unwrap_or_default(), &mut lines);
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn walk(path: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(&below, old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null), lines);
        }
        return;
    }
    let hidden = path.starts_with("environment");
    lines.push(match (before, after) {
        (Value::Null, new) if hidden && !new.is_null() => format!("{path}: new"),
        (_, Value::Null) if hidden => format!("{path}: removed"),
        _ if hidden => format!("{path}: changed"),
        (old, new) => format!("{path}: {} -> {}", text(old), text(new)),
    });
}

fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() > 100 { text.chars().take(99).chain(['…']).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::spec::WorkloadSpec;

    #[test]
    fn differences_read_well_and_hide_variables() {
        let before = WorkloadSpec::of_image("postgres:15");
        let mut after = WorkloadSpec::of_image("postgres:16");
        after.environment.insert("PASSWORD".into(), "s3cret".into());
        let lines = differences(&before, &after).join("\n");
        assert!(lines.contains("image: postgres:15 -> postgres:16"), "{lines}");
        assert!(lines.contains("environment"), "{lines}");
        assert!(!lines.contains("s3cret"), "{lines}");
    }
}
