//! The owner's two files. Both are replaced whole, so that a crash leaves the old or the new.

use crate::{AgentError, clock, error::Result, home::HomePaths};
use lattice_identity::keyfile;
use lattice_rules::{Pause, Rules, Word};
use std::{fs, io, path::Path, time::SystemTime};
use tracing::warn;

/// More than anybody writes by hand.
const MAX_RULES: u64 = 64 << 10;
const HEADER: &str =
    "# The owner's rules: docs/owner.md explains each. `lattice-agent rules set` changes this file.\n\n";

/// The owner's rules as they are on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct RulesFile {
    /// Its text; empty where there is none.
    pub text: String,
    /// What it says; nothing where it is not understood.
    pub rules: Option<Rules>,
    /// Why it is not.
    pub problem: Option<String>,
}

/// Reads the rules, and why they are none.
///
/// # Errors
/// What the file system says.
pub fn rules_of(paths: &HomePaths) -> Result<RulesFile> {
    let path = paths.rules();
    let text = read(&path)?.unwrap_or_default();
    Ok(match understood(&text) {
        Ok(rules) => RulesFile { text, rules: Some(rules), problem: None },
        Err(problem) => RulesFile { text, rules: None, problem: Some(problem) },
    })
}

fn understood(text: &str) -> Result<Rules, String> {
    let rules = Rules::parse(text).map_err(|error| error.to_string())?;
    rules.clone().check(clock::zone().as_deref()).map_err(|error| error.to_string())?;
    Ok(rules)
}

/// Replaces the rules by a text, if that is understood and contradicts itself nowhere. The text is kept
/// as it is, comments too.
///
/// # Errors
/// [`AgentError::Rules`] with what is wrong; what the file system says.
pub fn save_rules(paths: &HomePaths, text: &str) -> Result<Rules> {
    let rules = understood(text).map_err(|problem| AgentError::Rules { problem })?;
    Ok(keyfile::replace(&paths.rules(), text.as_bytes()).map(|()| rules)?)
}

/// The text of a file with rules that a program made.
pub fn text_of(rules: &Rules) -> String {
    format!("{HEADER}{}", rules.to_toml())
}

/// What the file says, for decisions: rules that cannot be read allow nothing.
pub(crate) fn word(paths: &HomePaths) -> Word {
    let zone = clock::zone();
    let read = read(&paths.rules()).map_err(|error| crate::error::chain(&error));
    let rules = read.and_then(|text| {
        let rules = Rules::parse(&text.unwrap_or_default()).map_err(|error| error.to_string())?;
        rules.check(zone.as_deref()).map_err(|error| error.to_string())
    });
    match rules {
        Ok(rules) => Word::Rules(Box::new(rules)),
        Err(problem) => Word::Broken(problem),
    }
}

/// The pause. One that cannot be read still says that the owner wanted one.
pub(super) fn pause(paths: &HomePaths) -> Option<Pause> {
    let text = match read(&paths.pause()) {
        Ok(None) => return None,
        Ok(Some(text)) => text,
        Err(error) => {
            warn!(error = crate::error::chain(&error), "the pause cannot be read; it counts");
            String::new()
        }
    };
    Some(
        serde_json::from_str(&text)
            .unwrap_or_else(|_| Pause::new(lattice_rules::PauseKind::Pause, None, &clock::moment())),
    )
}

pub(super) fn save_pause(paths: &HomePaths, pause: Option<&Pause>) -> Result<()> {
    let path = paths.pause();
    match pause {
        Some(pause) => Ok(keyfile::replace(&path, &serde_json::to_vec(pause).unwrap_or_default())?),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(AgentError::file("remove", &path)(error))
            }
            _ => Ok(()),
        },
    }
}

/// When a file was changed last, and how long it is: what tells a new one from an old one.
pub(super) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read(path: &Path) -> Result<Option<String>> {
    let failed = |error| AgentError::file("read", path)(error);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_RULES => {
            return Err(failed(io::Error::other("it is no file of rules")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}
