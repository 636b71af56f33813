//! YAML text to a small tree in which every value and key knows its place.
//!
//! Aliases share the anchored subtree, so memory stays in the order of the text; but every use
//! is charged with the full size of what it stands for, and the tree is refused beyond
//! [`MAX_NODES`] nodes, [`MAX_TEXT`] bytes of text or [`MAX_DEPTH`] levels *after* expansion.
//! Whoever walks the tree later is therefore bounded too. Merge keys (`<<`) are resolved here;
//! keys of the mapping itself win, then the earlier of the merged ones.

use crate::problem::{Code, Problems, show};
use indexmap::IndexMap;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting, aliases expanded.
pub const MAX_DEPTH: usize = 64;
/// The most values in one file, aliases expanded.
pub const MAX_NODES: usize = 100_000;
/// The most text in one file, aliases expanded, in bytes; also what interpolation may produce.
pub(crate) const MAX_TEXT: usize = 4 << 20;

/// A place in one of the files; line and column count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) file: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Span {
    fn at(file: u16, marker: &Marker) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file, line: clamp(marker.line()), column: clamp(marker.col() + 1) }
    }
}

/// How a scalar was written; only a plain one may be null, a number or a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// On one line, without quotes: its columns can be counted.
    Plain,
    /// Quoted, folded over lines, tagged `!!str`, or the result of interpolation.
    Text,
    /// `|`: its lines can be counted.
    Literal,
    /// Variables were expanded in it.
    Expanded,
    /// Its variables could not be expanded, which was said: nothing more is said about it.
    Broken,
}

/// What a tag says about merging files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    #[default]
    None,
    /// `!reset`: it and what it would be merged with are left out.
    Reset,
    /// `!override`: it takes the place of what it would be merged with.
    Override,
}

/// What all files of a project may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: MAX_NODES, bytes: MAX_TEXT }
    }
}

impl Budget {
    /// Takes the cost of a node that is made of others; whether there was enough.
    pub(crate) fn spend(&mut self, node: &Node) -> bool {
        self.take(node.size)
    }

    fn take(&mut self, size: Size) -> bool {
        match (self.nodes.checked_sub(size.nodes), self.bytes.checked_sub(size.bytes)) {
            (Some(nodes), Some(bytes)) => {
                (self.nodes, self.bytes) = (nodes, bytes);
                true
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Arc<str>, Style),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

pub(crate) type Mapping = IndexMap<Arc<str>, Entry>;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Span,
    pub(crate) value: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Arc<Value>,
    pub(crate) mark: Mark,
    size: Size,
}

/// What a subtree counts for, aliases expanded.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
    /// Something below has a mark.
    marked: bool,
}

impl Size {
    fn contain(&mut self, child: &Node) {
        self.nodes += child.size.nodes;
        self.bytes += child.size.bytes;
        self.height = self.height.max(child.size.height + 1);
        self.marked |= child.holds_mark();
    }
}

impl Node {
    /// The same place with another value, for a layer that rewrites the tree.
    pub(crate) fn with(&self, value: Value) -> Self {
        Self { mark: self.mark, ..Self::new(self.span, value) }
    }

    /// A node made by a layer that puts trees together.
    pub(crate) fn new(span: Span, value: Value) -> Self {
        let mut size = Size { nodes: 1, ..Size::default() };
        match &value {
            Value::Scalar(text, _) => size.bytes = text.len(),
            Value::Sequence(items) => {
                size.height = 1;
                items.iter().for_each(|item| size.contain(item));
            }
            Value::Mapping(entries) => {
                size.height = 1;
                entries.values().for_each(|entry| size.contain(&entry.value));
            }
        }
        Self { span, value: Arc::new(value), mark: Mark::None, size }
    }

    /// Whether it or something below it has a [`Mark`].
    pub(crate) fn holds_mark(&self) -> bool {
        self.mark != Mark::None || self.size.marked
    }

    pub(crate) fn as_mapping(&self) -> Option<&Mapping> {
        match &*self.value {
            Value::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text of a single value that is not null.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &*self.value {
            Value::Scalar(text, style) if !self.is_null() && *style != Style::Broken => Some(text),
            _ => None,
        }
    }

    /// Whether both say the same, wherever they stand.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&*self.value, &*other.value) {
            (Value::Scalar(a, _), Value::Scalar(b, _)) => a == b && self.is_null() == other.is_null(),
            (Value::Sequence(a), Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, entry)| b.get(key).is_some_and(|other| entry.value.same(&other.value)))
            }
            _ => false,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&*self.value, Value::Scalar(text, Style::Plain)
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(&*self.value, Value::Scalar(_, Style::Broken))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match &*self.value {
            Value::Scalar(..) if self.is_null() => "empty",
            Value::Scalar(..) => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Reads one file; `None` when there is no tree, with the reason among the problems.
pub(crate) fn parse(file: u16, text: &str, budget: &mut Budget, problems: &mut Problems) -> Option<Node> {
    let top = Span { file, line: 1, column: 1 };
    // Before anything looks at it: size is the one check that costs nothing.
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; the most is {MAX_BYTES}", text.len());
        problems.error(Code::Limit, top, "", message, "A Compose file holds no data: move it elsewhere");
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        problems,
        stack: Vec::new(),
        anchors: HashMap::new(),
        budget,
        documents: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                let span = Span::at(file, error.marker());
                // The scanner reads ahead and has a bound of its own.
                if error.info().contains("recursion limit") {
                    return builder.too_deep(span);
                }
                let message = format!("this is no YAML: {}", show(error.info()));
                let hint = "Check the indentation (spaces, no tabs), the colons and the quotes here and on the line before";
                builder.problems.error(Code::Syntax, span, "", message, hint);
                return None;
            }
        }
    }
    match builder.root {
        Some(root) if !root.is_null() => Some(root),
        _ => {
            problems.error(
                Code::Invalid,
                top,
                "",
                "the file is empty",
                "Write at least one service with an image",
            );
            None
        }
    }
}

struct Builder<'p> {
    file: u16,
    problems: &'p mut Problems,
    stack: Vec<Frame>,
    /// Finished anchored nodes; one that is still open is absent, so a cycle cannot be built.
    anchors: HashMap<usize, Node>,
    budget: &'p mut Budget,
    documents: usize,
    root: Option<Node>,
}

struct Frame {
    span: Span,
    mark: Mark,
    anchor: usize,
    size: Size,
    kind: Open,
}

enum Open {
    Sequence(Vec<Node>),
    Mapping {
        entries: Mapping,
        merges: Vec<Node>,
        merged_at: Option<Span>,
        key: Option<(Arc<str>, Span, bool)>,
    },
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, at: saphyr_parser::Span) -> Option<()> {
        let span = Span::at(self.file, &at.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "Keep one document per file and remove what follows `---`";
                    return self.fail(
                        Code::Syntax,
                        span,
                        "there is more than one YAML document in the file",
                        hint,
                    );
                }
                Some(())
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    let hint = "Let the alias name an anchor that is complete before it";
                    return self.fail(
                        Code::Syntax,
                        span,
                        "this alias stands inside of what it refers to",
                        hint,
                    );
                };
                self.deliver(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let (tagged_text, mark) = self.tag(tag, span)?;
                let one_line = at.start.line() == at.end.line();
                let style = match style {
                    ScalarStyle::Plain if !tagged_text && (one_line || text.is_empty()) => Style::Plain,
                    ScalarStyle::Literal => Style::Literal,
                    _ => Style::Text,
                };
                let size = Size { nodes: 1, bytes: text.len(), ..Size::default() };
                let value = Arc::new(Value::Scalar(text.into(), style));
                self.complete(anchor, Node { span, value, mark, size })
            }
            Event::SequenceStart(anchor, tag) => self.open(anchor, tag, span, Open::Sequence(Vec::new())),
            Event::MappingStart(anchor, tag) => {
                let (entries, merges) = (Mapping::new(), Vec::new());
                self.open(anchor, tag, span, Open::Mapping { entries, merges, merged_at: None, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let frame = self.stack.pop()?;
                let value = match frame.kind {
                    Open::Sequence(items) => Value::Sequence(items),
                    Open::Mapping { mut entries, merges, .. } => {
                        for node in &merges {
                            self.merge(&mut entries, node, true);
                        }
                        Value::Mapping(entries)
                    }
                };
                self.complete(
                    frame.anchor,
                    Node { span: frame.span, value: Arc::new(value), mark: frame.mark, size: frame.size },
                )
            }
        }
    }

    fn fail<T>(&mut self, code: Code, span: Span, message: impl Into<String>, hint: &str) -> Option<T> {
        self.problems.error(code, span, "", message, hint);
        None
    }

    /// Whether the tag says that the scalar is text, and what it says about merging; `None` when
    /// there may be no such tag.
    fn tag(&mut self, tag: Option<Cow<'_, Tag>>, span: Span) -> Option<(bool, Mark)> {
        let Some(tag) = tag else { return Some((false, Mark::None)) };
        match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => Some((true, Mark::None)),
            (true, "int" | "float" | "bool" | "null" | "seq" | "map") => Some((false, Mark::None)),
            (false, "reset") => Some((false, Mark::Reset)),
            (false, "override") => Some((false, Mark::Override)),
            _ => {
                let message = format!("the tag {} means nothing in a Compose file", show(&tag.to_string()));
                self.fail(
                    Code::Syntax,
                    span,
                    message,
                    "Remove the tag, or quote the text if it was meant as text",
                )
            }
        }
    }

    fn open(&mut self, anchor: usize, tag: Option<Cow<'_, Tag>>, span: Span, kind: Open) -> Option<()> {
        let (_, mark) = self.tag(tag, span)?;
        if self.stack.len() >= MAX_DEPTH {
            return self.too_deep(span);
        }
        self.stack.push(Frame {
            span,
            mark,
            anchor,
            size: Size { nodes: 1, height: 1, ..Size::default() },
            kind,
        });
        self.charge(Size { nodes: 1, ..Size::default() }, span)
    }

    fn too_deep<T>(&mut self, span: Span) -> Option<T> {
        let message = format!("it is nested more than {MAX_DEPTH} levels deep");
        self.fail(
            Code::Limit,
            span,
            message,
            "A Compose file needs about six levels; check for repeated aliases",
        )
    }

    fn charge(&mut self, size: Size, span: Span) -> Option<()> {
        if !self.budget.take(size) {
            let message = format!(
                "the file, with those that belong to it, holds more than {MAX_NODES} values or {MAX_TEXT} bytes of text once its aliases are expanded"
            );
            return self.fail(Code::Limit, span, message, "Use fewer aliases, or aliases to smaller parts");
        }
        Some(())
    }

    /// A node that was written here is complete: a container was charged when it opened, and its
    /// children when they came.
    fn complete(&mut self, anchor: usize, node: Node) -> Option<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let fresh = if matches!(&*node.value, Value::Scalar(..)) { node.size } else { Size::default() };
        self.charge(fresh, node.span)?;
        self.attach(node)
    }

    /// An alias brings everything that it stands for.
    fn deliver(&mut self, node: Node) -> Option<()> {
        self.charge(node.size, node.span)?;
        if self.stack.len() + node.size.height > MAX_DEPTH {
            return self.too_deep(node.span);
        }
        self.attach(node)
    }

    /// The keys that lead to where the reader stands.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match &frame.kind {
                Open::Sequence(items) => path.push_str(&format!("[{}]", items.len())),
                Open::Mapping { key: Some((key, ..)), .. } => {
                    let dot = if path.is_empty() { "" } else { "." };
                    path.push_str(&format!("{dot}{}", show(key)));
                }
                Open::Mapping { key: None, .. } => {}
            }
        }
        path
    }

    fn attach(&mut self, node: Node) -> Option<()> {
        let mut twice = None;
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        frame.size.contain(&node);
        match &mut frame.kind {
            Open::Sequence(items) => items.push(node),
            Open::Mapping { entries, merges, merged_at, key } => match key.take() {
                None => {
                    let Value::Scalar(text, style) = &*node.value else {
                        let message = format!("a key is {}, where only text can be one", node.kind());
                        return self.fail(
                            Code::Syntax,
                            node.span,
                            message,
                            "Quote it if braces or brackets were meant as text",
                        );
                    };
                    *key = Some((text.clone(), node.span, *style == Style::Plain));
                }
                Some((text, span, plain)) => {
                    let first = if plain && &*text == "<<" {
                        merges.push(node);
                        merged_at.replace(span)
                    } else {
                        // The first one stays, so that the rest of the file is still checked.
                        let first = entries.get(&text).map(|e| e.key);
                        entries.entry(text.clone()).or_insert(Entry { key: span, value: node });
                        first
                    };
                    twice = first.map(|first| (text, span, first.line));
                }
            },
        }
        if let Some((key, span, line)) = twice {
            let message = format!("the key `{}` stands twice; the first is on line {line}", show(&key));
            let path = self.path();
            self.problems.error(Code::DuplicateKey, span, path, message, "Remove one of the two");
        }
        Some(())
    }

    fn merge(&mut self, entries: &mut Mapping, from: &Node, list: bool) {
        match &*from.value {
            Value::Mapping(other) => {
                for (key, entry) in other {
                    entries.entry(key.clone()).or_insert_with(|| entry.clone());
                }
            }
            Value::Sequence(items) if list => {
                for item in items {
                    self.merge(entries, item, false);
                }
            }
            _ => {
                let message = format!("`<<` merges {}, where only a mapping can be merged", from.kind());
                let hint = "Let it be an alias of a mapping, or a list of such aliases";
                let path = self.path();
                self.problems.error(Code::Invalid, from.span, path, message, hint);
            }
        }
    }
}
