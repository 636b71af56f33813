//! Which keys there are, and what becomes of each: honoured, without effect and harmless, or
//! refused with the reason and the way out; and what was probably meant by those nobody knows.
//!
//! `service` and `rest` hold the tables, which repeat the Compose specification's schema: a test
//! walks it and finds every key here, and another makes the table in `docs/compose.md` of them.
//! A key that is honoured here must be read by the layer that its table belongs to.

mod rest;
mod service;

pub(crate) use rest::*;
pub(crate) use service::*;

use crate::{
    problem::{Code, show},
    read::{Path, Reader},
    scalar::nearest,
    yaml::{Entry, Mapping, Value},
};

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It does what Compose says it does, or what is written here.
    Honoured(&'static str),
    /// Some of its values are honoured and the others refused, by the layer that reads it.
    Partly(&'static str),
    /// It has no effect, which hurts nobody: a warning.
    Harmless(&'static str),
    /// Why not, and what to do instead.
    Refused(&'static str, &'static str),
}

use Fate::{Harmless, Honoured, Partly, Refused};

/// The keys of one kind of mapping.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Where it stands, as `services.*.ports[]`.
    pub(crate) at: &'static str,
    pub(crate) keys: &'static [(&'static str, Fate)],
}

impl Table {
    pub(crate) fn fate(&self, key: &str) -> Option<Fate> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, fate)| *fate)
    }
}

/// A key of the Compose specification and what Lattice does with it, for documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyNote {
    /// Where it stands: `services.*.ports[].target`.
    pub path: String,
    /// `honoured`, `partly`, `harmless` or `refused`.
    pub fate: &'static str,
    /// How, or why not and what to do instead.
    pub note: String,
}

/// Every key that is known, by place, in the order of the tables.
pub fn key_notes() -> Vec<KeyNote> {
    let mut notes = Vec::new();
    for table in TABLES {
        for (key, fate) in table.keys {
            let path = if table.at.is_empty() { (*key).to_owned() } else { format!("{}.{key}", table.at) };
            let (fate, note) = match *fate {
                Honoured(how) => ("honoured", how.to_owned()),
                Partly(how) => ("partly", how.to_owned()),
                Harmless(why) => ("harmless", why.to_owned()),
                Refused(why, instead) => ("refused", format!("{why}. {instead}")),
            };
            notes.push(KeyNote { path, fate, note });
        }
    }
    notes
}

impl Reader<'_> {
    /// Refuses what the table refuses or does not know, warns of what has no effect. `x-` keys
    /// pass, `x-lattice` where nothing reads it apart.
    pub(crate) fn check_keys(&mut self, entries: &Mapping, path: &Path<'_>, table: &Table) {
        for (key, entry) in entries {
            match table.fate(key) {
                Some(Honoured(_) | Partly(_)) => {}
                Some(Harmless(why)) => {
                    self.problems.warn(
                        Code::Ignored,
                        entry.key,
                        path.key(key),
                        format!("it has no effect: {why}"),
                        "",
                    );
                }
                // What is switched off or empty asks for nothing.
                Some(Refused(..)) if asks_nothing(entry) => {}
                Some(Refused(why, instead)) => self.refuse(entry, &path.key(key), why, instead),
                None if &**key == "x-lattice" => self.x_lattice_elsewhere(entry, &path.key(key)),
                None if key.starts_with("x-") => {}
                None => self.unknown_key(key, entry, path, table),
            }
        }
    }

    /// The one form of a refusal.
    pub(crate) fn refuse(&mut self, entry: &Entry, path: &Path<'_>, why: &str, instead: &str) {
        self.error(Code::NotSupported, entry.key, path, format!("not supported: {why}"), instead);
    }

    /// The keys of an `x-lattice` where Lattice has none yet.
    pub(crate) fn x_lattice_elsewhere(&mut self, entry: &Entry, path: &Path<'_>) {
        match &*entry.value.value {
            Value::Mapping(entries) => {
                for (key, entry) in entries {
                    self.unknown_key(key, entry, path, &LATTICE_ELSEWHERE);
                }
            }
            _ if entry.value.is_null() => {}
            _ => {
                self.expected::<()>(&entry.value, path, "a mapping (`key: value` lines)", "");
            }
        }
    }

    fn unknown_key(&mut self, key: &str, entry: &Entry, path: &Path<'_>, table: &Table) {
        // Beyond what is shown nothing is worth a search: a hostile file has thousands of keys.
        let near = if self.problems.is_full() {
            None
        } else {
            nearest(key, table.keys.iter().map(|(name, _)| *name))
        };
        let known =
            || table.keys.iter().filter(|(_, fate)| !matches!(fate, Refused(..))).map(|(name, _)| *name);
        let hint = match near {
            Some(near) => format!("Did you mean `{near}`?"),
            None if matches!(path, Path::Root) && SERVICE.fate(key).is_some() => {
                "It belongs to a service, below `services: {NAME: …}`".into()
            }
            None if matches!(path, Path::Root) && entry_is_service(entry) => {
                "If it is a service, write it below `services:` (a file without `services:` has the form of 2015, which is no longer read)".into()
            }
            None if DEPLOY.fate(key).is_some() && table.at == SERVICE.at => {
                format!("It belongs below `deploy: {{{}: …}}`", show(key))
            }
            None if table.keys.is_empty() => "Remove it; `pool` is known, on a service".into(),
            None if table.at == SERVICE.at => {
                "Remove it; `x-` before the name makes it a note that nobody reads".into()
            }
            None => format!("Known here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        let whose = if table.at.contains("x-lattice") { "Lattice" } else { "Compose" };
        let at = path.key(key);
        self.error(Code::UnknownKey, entry.key, at, format!("{whose} has no key `{}` here", show(key)), hint);
    }
}

fn entry_is_service(entry: &Entry) -> bool {
    matches!(&*entry.value.value, Value::Mapping(map) if map.contains_key("image") || map.contains_key("build"))
}

/// Null, an empty list or mapping, `false`.
fn asks_nothing(entry: &Entry) -> bool {
    match &*entry.value.value {
        _ if entry.value.is_null() => true,
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(map) => map.is_empty(),
        Value::Scalar(text, _) => text.is_empty() || text.eq_ignore_ascii_case("false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_stands_once_and_every_note_is_written_as_the_others() {
        let mut seen = BTreeSet::new();
        for note in key_notes() {
            assert!(seen.insert(note.path.clone()), "{} stands twice", note.path);
            assert!(!note.note.ends_with('.'), "{note:?}");
        }
        for table in TABLES {
            for (key, fate) in table.keys {
                if let Refused(why, instead) = fate {
                    assert!(
                        !why.is_empty() && !instead.is_empty() && !why.ends_with('.'),
                        "{}.{key}",
                        table.at
                    );
                    assert!(instead.starts_with(|c: char| c.is_uppercase()), "{}.{key}: {instead}", table.at);
                }
            }
        }
    }
}
