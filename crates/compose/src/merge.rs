//! Two trees become one, by the rules of the specification for several files, `extends` and
//! `include`: mappings by key, lists one behind the other, and what is known to be a set by what
//! makes its members distinct (a port, a path in the container, a variable's name).
//!
//! Every merge is charged with the size of what comes out, so that services that extend each
//! other cannot multiply without end.

use crate::{
    mounts, ports, scalar,
    yaml::{Budget, Entry, Mapping, Mark, Node, Span, Style, Value},
};
use std::{collections::BTreeSet, sync::Arc};

/// How two values of one key become one.
enum Rule {
    /// The later one counts.
    Replace,
    /// `KEY=value` lines or a mapping.
    Pairs,
    /// A text or a list; what stands twice counts once.
    Set,
    /// Names in a list, or a mapping.
    Names,
    Ports,
    Mounts,
    /// Secrets or configs, by their place in the container.
    Grants,
    /// A text is its `context`.
    Build,
    /// Options of another driver do not mix.
    Logging,
    /// Mappings by key, lists one behind the other.
    Deep,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint" | "gpus" | "credential_spec" | "extends"] => Rule::Replace,
            ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["environment" | "labels" | "annotations" | "sysctls"] => Rule::Pairs,
            ["build", "args" | "labels" | "additional_contexts"] | ["deploy", "labels"] => Rule::Pairs,
            [
                "extra_hosts" | "dns" | "dns_search" | "dns_opt" | "env_file" | "label_file" | "tmpfs"
                | "expose",
            ]
            | [
                "cap_add" | "cap_drop" | "links" | "external_links" | "group_add" | "profiles"
                | "security_opt",
            ]
            | [
                "build",
                "extra_hosts" | "cache_from" | "cache_to" | "tags" | "platforms" | "no_cache_filter",
            ] => Rule::Set,
            ["depends_on" | "networks" | "models"] => Rule::Names,
            ["ports"] => Rule::Ports,
            ["volumes"] => Rule::Mounts,
            ["secrets" | "configs"] | ["build", "secrets"] => Rule::Grants,
            ["build"] => Rule::Build,
            ["logging"] => Rule::Logging,
            _ => Rule::Deep,
        },
        ["networks" | "volumes" | "secrets" | "configs", _, "labels"] => Rule::Pairs,
        _ => Rule::Deep,
    }
}

/// The sum became larger than a project may be.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// `over` on top of `base`, both at `path`.
pub(crate) fn merge(
    base: &Node,
    over: &Node,
    path: &mut Vec<Arc<str>>,
    budget: &mut Budget,
) -> Result<Node, TooLarge> {
    if over.mark == Mark::Override || base.mark == Mark::Reset || base.is_null() {
        return Ok(over.clone());
    }
    // Nothing said changes nothing.
    if over.is_null() {
        return Ok(base.clone());
    }
    let keys: Vec<&str> = path.iter().map(|key| &**key).collect();
    let node = match rule(&keys) {
        Rule::Replace => over.clone(),
        Rule::Pairs => union(&pairs(base), &pairs(over)),
        Rule::Names => deep(&names(base), &names(over), path, budget)?,
        Rule::Set => append(&listed(base), &listed(over), |a, b| a.same(b)),
        Rule::Ports => append_by(base, over, ports::identity),
        Rule::Mounts => append_by(base, over, mount_target),
        Rule::Grants => append_by(base, over, grant_target),
        Rule::Build => deep(&built(base), &built(over), path, budget)?,
        Rule::Logging => {
            let driver =
                |node: &Node| node.as_mapping().and_then(|m| m.get("driver")).map(|e| e.value.clone());
            match (driver(base), driver(over)) {
                (Some(a), Some(b)) if !a.same(&b) => over.clone(),
                _ => deep(base, over, path, budget)?,
            }
        }
        Rule::Deep => deep(base, over, path, budget)?,
    };
    if budget.spend(&node) { Ok(node) } else { Err(TooLarge) }
}

fn deep(base: &Node, over: &Node, path: &mut Vec<Arc<str>>, budget: &mut Budget) -> Result<Node, TooLarge> {
    match (&*base.value, &*over.value) {
        (Value::Mapping(a), Value::Mapping(b)) => {
            let mut merged = a.clone();
            for (key, entry) in b {
                if entry.value.mark == Mark::Reset {
                    merged.shift_remove(key);
                    continue;
                }
                let value = match a.get(key) {
                    Some(old) => {
                        path.push(key.clone());
                        let value = merge(&old.value, &entry.value, path, budget);
                        path.pop();
                        value?
                    }
                    None => entry.value.clone(),
                };
                merged.insert(key.clone(), Entry { key: entry.key, value });
            }
            Ok(Node::new(base.span, Value::Mapping(merged)))
        }
        (Value::Sequence(_), Value::Sequence(_)) => Ok(append(base, over, |_, _| false)),
        _ => Ok(over.clone()),
    }
}

/// Each key as the later one says it; a name alone takes the value from the variables again.
fn union(base: &Node, over: &Node) -> Node {
    let (Value::Mapping(a), Value::Mapping(b)) = (&*base.value, &*over.value) else { return over.clone() };
    let mut merged = a.clone();
    for (key, entry) in b {
        if entry.value.mark == Mark::Reset {
            merged.shift_remove(key);
        } else {
            merged.insert(key.clone(), entry.clone());
        }
    }
    Node::new(base.span, Value::Mapping(merged))
}

fn items(node: &Node) -> &[Node] {
    match &*node.value {
        Value::Sequence(items) => items,
        _ => &[],
    }
}

fn append(base: &Node, over: &Node, equal: fn(&Node, &Node) -> bool) -> Node {
    if !matches!((&*base.value, &*over.value), (Value::Sequence(_), Value::Sequence(_))) {
        return over.clone();
    }
    let later = items(over);
    // Bounded: a list of thousands is compared with nothing.
    let compare = items(base).len().saturating_mul(later.len()) <= 1_000_000;
    let kept = items(base).iter().filter(|a| !(compare && later.iter().any(|b| equal(a, b))));
    Node::new(base.span, Value::Sequence(kept.chain(later).cloned().collect()))
}

/// Members of the former list that the later one says again are left out.
fn append_by<K: Ord>(base: &Node, over: &Node, key: impl Fn(&Node) -> Option<K>) -> Node {
    if !matches!((&*base.value, &*over.value), (Value::Sequence(_), Value::Sequence(_))) {
        return over.clone();
    }
    let said: BTreeSet<K> = items(over).iter().filter_map(&key).collect();
    let kept = items(base).iter().filter(|item| key(item).is_none_or(|k| !said.contains(&k)));
    Node::new(base.span, Value::Sequence(kept.chain(items(over)).cloned().collect()))
}

fn null(span: Span) -> Node {
    Node::new(span, Value::Scalar("".into(), Style::Plain))
}

/// `- KEY=value` lines as a mapping.
fn pairs(node: &Node) -> Node {
    let Value::Sequence(items) = &*node.value else { return node.clone() };
    let mut map = Mapping::new();
    for item in items {
        let Value::Scalar(text, style) = &*item.value else { return node.clone() };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => {
                let style = if *style == Style::Plain { Style::Text } else { *style };
                (key, Node::new(item.span, Value::Scalar(value.into(), style)))
            }
            None => (&**text, null(item.span)),
        };
        map.insert(key.into(), Entry { key: item.span, value });
    }
    Node::new(node.span, Value::Mapping(map))
}

/// A list of names as a mapping to nothing; a dependency waits for the start, as the list says.
fn names(node: &Node) -> Node {
    let Value::Sequence(items) = &*node.value else { return node.clone() };
    let mut map = Mapping::new();
    for item in items {
        let Some(text) = item.as_text() else { return node.clone() };
        map.insert(text.into(), Entry { key: item.span, value: null(item.span) });
    }
    Node::new(node.span, Value::Mapping(map))
}

fn listed(node: &Node) -> Node {
    match &*node.value {
        Value::Scalar(..) => Node::new(node.span, Value::Sequence(vec![node.clone()])),
        _ => node.clone(),
    }
}

fn built(node: &Node) -> Node {
    match &*node.value {
        Value::Scalar(..) => {
            let entry = Entry { key: node.span, value: node.clone() };
            Node::new(node.span, Value::Mapping([("context".into(), entry)].into_iter().collect()))
        }
        _ => node.clone(),
    }
}

fn mount_target(item: &Node) -> Option<String> {
    let target = match &*item.value {
        Value::Mapping(map) => map.get("target")?.value.as_text()?.to_owned(),
        _ => mounts::short_target(item.as_text()?).to_owned(),
    };
    Some(scalar::container_path(&target).unwrap_or(target))
}

fn grant_target(item: &Node) -> Option<String> {
    match &*item.value {
        Value::Mapping(map) => {
            let text = |key| map.get(key).and_then(|e| e.value.as_text());
            text("target").or_else(|| text("source")).map(str::to_owned)
        }
        _ => item.as_text().map(str::to_owned),
    }
}

/// Leaves out what `!reset` marks, where nothing was there to be merged with.
pub(crate) fn without_resets(node: &Node) -> Node {
    match &*node.value {
        Value::Mapping(map) if map.values().any(|e| e.value.holds_mark()) => {
            let kept = map.iter().filter(|(_, e)| e.value.mark != Mark::Reset);
            let each = |(key, e): (&Arc<str>, &Entry)| {
                (key.clone(), Entry { key: e.key, value: without_resets(&e.value) })
            };
            Node::new(node.span, Value::Mapping(kept.map(each).collect()))
        }
        Value::Sequence(items) if items.iter().any(Node::holds_mark) => {
            let kept = items.iter().filter(|item| item.mark != Mark::Reset).map(without_resets);
            Node::new(node.span, Value::Sequence(kept.collect()))
        }
        _ => node.clone(),
    }
}
