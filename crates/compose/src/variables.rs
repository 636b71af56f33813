//! `environment` and `env_file`, `labels` and `label_file`.

use crate::{
    dotenv,
    files::Found,
    gather::{MAX_FILES, cannot_read},
    guess, keys,
    problem::{Code, show},
    read::{FileInfo, Pair, Path, Reader},
    yaml::{MAX_BYTES, Mapping, Node, Span, Value},
};
use indexmap::IndexMap;
use lattice_model::spec::WorkloadSpec;

/// One of the files that `env_file` names.
struct Wanted {
    path: String,
    span: Span,
    required: bool,
    raw: bool,
}

impl Reader<'_> {
    /// Files first, each over the one before; then what the service says itself.
    pub(crate) fn environment(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        if let Some(entry) = Self::said(entries, "env_file") {
            let at = path.key("env_file");
            for wanted in self.env_files(&entry.value, &at) {
                let span = wanted.span;
                for (key, value) in
                    self.variables_of(&wanted, &at, &spec.environment.clone().into_iter().collect())
                {
                    if key.contains(['=', '\0']) || value.contains('\0') {
                        let message = "a variable in it has a character that no program can be given";
                        self.error(Code::Invalid, span, at, message, "Remove the NUL or `=`");
                        continue;
                    }
                    spec.environment.insert(key, value);
                }
            }
        }
        let Some(entry) = Self::said(entries, "environment") else { return };
        let at = path.key("environment");
        let pairs = self.pairs(&entry.value, &at);
        let mut suspects: Vec<(&str, Span)> = Vec::new();
        for (key, Pair { span, value, literal }) in &pairs {
            // Without a value it is taken from the variables; unset there, it is left out.
            let passed = value.is_none();
            let Some(value) = value.clone().or_else(|| self.variable(*span, key)) else {
                spec.environment.remove(key);
                continue;
            };
            if guess::is_secret(key, &value, *literal && !passed) {
                suspects.push((key, *span));
            }
            spec.environment.insert(key.clone(), value);
        }
        suspects.sort_by_key(|(_, span)| (span.file, span.line, span.column));
        if let Some((first, span)) = suspects.first() {
            let names: Vec<String> = suspects.iter().take(5).map(|(key, _)| show(key)).collect();
            let more =
                if suspects.len() > 5 { format!(" and {} more", suspects.len() - 5) } else { String::new() };
            let verb = if suspects.len() == 1 { "looks like a secret" } else { "look like secrets" };
            let message =
                format!("{}{more} {verb}, and who may see the stack sees the environment", names.join(", "));
            let hint = format!(
                "Put it into a file, declare that under the top-level `secrets`, name it under the service's `secrets`, and write `{}_FILE: /run/secrets/NAME` if the image knows that",
                show(first)
            );
            self.problems.warn(Code::Secret, *span, at, message, hint);
        }
    }

    fn env_files(&mut self, node: &Node, path: &Path<'_>) -> Vec<Wanted> {
        let Value::Sequence(items) = &*node.value else {
            let each = |(path, span)| Wanted { path, span, required: true, raw: false };
            return self.text_or_list(node, path).into_iter().map(each).collect();
        };
        let mut wanted = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = path.index(index);
            let Value::Mapping(map) = &*item.value else {
                if let Some(text) = self.text(item, &at) {
                    wanted.push(Wanted {
                        path: text.to_owned(),
                        span: item.span,
                        required: true,
                        raw: false,
                    });
                }
                continue;
            };
            self.check_keys(map, &at, &keys::ENV_FILE);
            let required = match Self::said(map, "required") {
                Some(entry) => self.boolean(&entry.value, &at.key("required")).unwrap_or(true),
                None => true,
            };
            let raw = match Self::said(map, "format") {
                Some(entry) => match self.text(&entry.value, &at.key("format")) {
                    Some("raw") => true,
                    Some("") | None => false,
                    Some(_) => {
                        self.expected::<()>(
                            &entry.value,
                            &at.key("format"),
                            "`raw`",
                            "Remove it for Compose's own form",
                        );
                        false
                    }
                },
                None => false,
            };
            match Self::said(map, "path") {
                Some(entry) => {
                    if let Some(text) = self.text(&entry.value, &at.key("path")) {
                        wanted.push(Wanted { path: text.to_owned(), span: entry.value.span, required, raw });
                    }
                }
                None => self.error(
                    Code::Invalid,
                    item.span,
                    at,
                    "the file has no `path`",
                    "Write `path: ./web.env`",
                ),
            }
        }
        wanted
    }

    fn variables_of(
        &mut self,
        wanted: &Wanted,
        at: &Path<'_>,
        before: &IndexMap<String, String>,
    ) -> IndexMap<String, String> {
        let path = self.resolve(wanted.span, &wanted.path);
        let what = format!("the file {} is", show(&crate::files::shown(&path)));
        // One that may be missing is not left out either: where the file stands it may be there.
        if self.elsewhere(wanted.span, at, &what, "Write what it says under `environment` or `labels`") {
            return IndexMap::new();
        }
        if !wanted.required && self.disk.look(&path) == Found::Missing {
            return IndexMap::new();
        }
        let Some((file, bytes)) = self.read_file(&path, wanted.span, at) else { return IndexMap::new() };
        let mut problems = std::mem::replace(&mut self.problems, crate::problem::Problems::new([]));
        let lookup = |key: &str| self.variable(wanted.span, key).or_else(|| before.get(key).cloned());
        let read = if wanted.raw { dotenv::read_raw } else { dotenv::read };
        let values = read(file, &bytes, &lookup, &mut problems);
        self.problems = problems;
        values
    }

    /// Reads a file that the one at `at` names, and gives it a number for messages.
    pub(crate) fn read_file(&mut self, path: &str, span: Span, at: &Path<'_>) -> Option<(u16, Vec<u8>)> {
        if self.files.len() >= MAX_FILES {
            let message = format!("the project has more than {MAX_FILES} files");
            self.error(Code::Limit, span, at, message, "Put some of them together");
            return None;
        }
        match self.disk.read(path, MAX_BYTES) {
            Ok(text) => {
                let file = self.problems.add_file(text.name);
                self.files.push(FileInfo { base: crate::files::parent(path), environment: 0 });
                Some((file, text.bytes))
            }
            Err(fault) => {
                let (message, hint) = cannot_read(path, &fault, MAX_BYTES);
                self.error(Code::Reference, span, at, message, hint);
                None
            }
        }
    }

    pub(crate) fn service_labels(&mut self, entries: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        if let Some(entry) = Self::said(entries, "label_file") {
            let at = path.key("label_file");
            for (text, span) in self.text_or_list(&entry.value, &at) {
                let wanted = Wanted { path: text, span, required: true, raw: false };
                for (key, value) in self.variables_of(&wanted, &at, &IndexMap::new()) {
                    if self.label_allowed(&key, span, &at) {
                        spec.labels.insert(key, value);
                    }
                }
            }
        }
        if let Some(entry) = Self::said(entries, "labels") {
            let labels = self.labels(&entry.value, &path.key("labels"));
            spec.labels.extend(labels);
        }
    }
}
