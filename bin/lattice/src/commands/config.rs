//! `config`: a Compose project as it was understood, without a server.

use crate::{
    args::{ConfigArgs, Format, Global},
    project::Project,
    terminal,
};
use lattice_compose::{Build, Loaded};
use serde_json::{Value, json};

/// `lattice config`.
pub(crate) fn config(global: &Global, args: &ConfigArgs) -> anyhow::Result<()> {
    let project = Project::read(&args.project, !args.no_build)?;
    let shown = document(&project.loaded)?;
    let mut text = match global.output {
        Format::Json => serde_json::to_string_pretty(&shown)?,
        Format::Table => {
            let mut text = String::new();
            yaml(&shown, 0, &mut text);
            text.trim_start_matches('\n').to_owned()
        }
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    terminal::data(text.as_bytes())
}

/// Everything that a deployment is made of; values that look confidential are hidden.
fn document(loaded: &Loaded) -> anyhow::Result<Value> {
    let Loaded { name, spec, builds, trees, secrets, warnings: _ } = loaded;
    let mut spec = spec.clone();
    for workload in spec.workloads.values_mut() {
        for (key, value) in &mut workload.environment {
            if lattice_compose::looks_secret(key, value) {
                *value = "(hidden)".into();
            }
        }
    }
    let mut document = json!({ "name": name });
    let spec = serde_json::to_value(&spec)?;
    let mut add = |key: &str, value: Value| {
        if !value.as_object().is_some_and(serde_json::Map::is_empty)
            && !value.as_array().is_some_and(Vec::is_empty)
        {
            document[key] = value;
        }
    };
    if let Value::Object(parts) = spec {
        for (key, value) in parts {
            add(&key, value);
        }
    }
    add("builds", builds.iter().map(|(service, build)| (service.to_string(), build_view(build))).collect());
    let tree = |tree: &lattice_compose::TreeSource| {
        let mounts: Vec<String> = tree.mounts.iter().map(|(service, at)| format!("{service}:{at}")).collect();
        json!({ "what": format!("{:?}", tree.content), "mounts": mounts })
    };
    add("trees", trees.iter().map(tree).collect());
    add("secrets", secrets.iter().map(|s| json!({ "name": s.name, "from": s.from })).collect());
    Ok(document)
}

fn build_view(build: &Build) -> Value {
    let Build {
        context,
        remote: _,
        dockerfile,
        dockerfile_inline,
        args,
        secrets,
        contexts,
        options,
        buildkit: _,
    } = build;
    let mut view = json!({ "context": if context.is_empty() { "." } else { context } });
    if let Some(file) = dockerfile {
        view["dockerfile"] = json!(file);
    }
    if dockerfile_inline.is_some() {
        view["dockerfile_inline"] = json!(true);
    }
    for (key, names) in [
        ("args", args.keys().collect::<Vec<_>>()),
        ("secrets", secrets.keys().collect()),
        ("contexts", contexts.keys().collect()),
    ] {
        if !names.is_empty() {
            view[key] = json!(names);
        }
    }
    if !options.is_empty() {
        view["options"] = json!(options);
    }
    view
}

/// JSON as YAML for people: block form, every text quoted where it has to be.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push('\n');
                out.push_str(&format!("{pad}{}:", scalar(key)));
                yaml(value, indent + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push('\n');
                out.push_str(&format!("{pad}-"));
                // JSON is YAML: what is nested in a list stays on its line.
                out.push_str(&format!(" {}", inline(item)));
            }
        }
        other => out.push_str(&format!(" {}", inline(other))),
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Plain where nothing can take it for something else.
fn scalar(text: &str) -> String {
    let plain = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-@+".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_yaml() {
        let value = json!({"a": {"b": [1, "x y", {"c": true}], "d": {}}, "e": "no", "f": "plain"});
        let mut text = String::new();
        yaml(&value, 0, &mut text);
        assert_eq!(
            text,
            "\na:\n  b:\n    - 1\n    - \"x y\"\n    - {\"c\":true}\n  d: {}\ne: \"no\"\nf: plain"
        );
    }
}
