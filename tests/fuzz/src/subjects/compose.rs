//! Compose files, with what they include, extend and read: reading ends, names places that exist, and what is
//! accepted is in order.

use crate::{Blob, Draw, Subject, corpus::COMPOSE, disk::Disk, text};
use lattice_compose::{Loaded, MAX_PROBLEMS, NoFiles, Options, Problem, Source, load, parse_env};
use lattice_model::spec::StackSpec;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The files of a project and what surrounds them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Compose {
    /// The files that are given, in order.
    given: Vec<String>,
    /// All files by path.
    files: BTreeMap<String, Blob>,
    variables: BTreeMap<String, String>,
    profiles: Vec<String>,
    build: bool,
}

const NAMES: &[&str] =
    &["compose.yaml", "other.yaml", "common/services.yaml", "infra/compose.yaml", "db.env", ".env"];
const VARIABLES: &[&str] =
    &["A", "TAG", "IMAGE", "HOME", "PWD", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "DOMAIN"];

impl Subject for Compose {
    const NAME: &'static str = "compose";
    const MOST: Duration = Duration::from_secs(1);

    fn draw(draw: &mut dyn Draw) -> Self {
        let others: Vec<&[u8]> = COMPOSE.iter().map(Vec::as_slice).collect();
        let mut files = BTreeMap::new();
        let how_many = if draw.one_in(2) { NAMES.len() } else { 1 };
        for name in &NAMES[..how_many] {
            let mut bytes = draw.of(&COMPOSE).clone();
            // Few lines first: what is short is quick, and shows what stands in it.
            if draw.one_in(3) {
                bytes.truncate(draw.below(bytes.len() + 1));
            }
            text::alter(draw, &mut bytes, &others);
            files.insert((*name).to_owned(), Blob(bytes));
        }
        let mut given = vec![NAMES[0].to_owned()];
        if draw.one_in(4) {
            given.push(NAMES[1].to_owned());
        }
        let mut variables = BTreeMap::new();
        for _ in 0..draw.below(3) {
            let mut value = b"value $X ${Y".to_vec();
            text::alter(draw, &mut value, &others);
            let name = (*draw.of(VARIABLES)).to_owned();
            variables.insert(name, String::from_utf8_lossy(&value).into_owned());
        }
        let profiles = if draw.one_in(4) { vec!["*".to_owned()] } else { Vec::new() };
        Self { given, files, variables, profiles, build: draw.below(2) == 0 }
    }

    fn check(&self) -> Result<(), String> {
        let Self { given, files, variables, profiles, build } = self;
        let disk = Disk::of(files.iter().map(|(name, text)| (name.as_str(), text.0.as_slice())));
        let missing = Blob::default();
        let sources: Vec<Source<'_>> =
            given.iter().map(|name| Source { name, text: &files.get(name).unwrap_or(&missing).0 }).collect();
        let variables = |name: &str| variables.get(name).cloned();
        let options = Options {
            fallback_name: Some("fuzz"),
            folder: Some("/home/fuzz/project"),
            profiles,
            build: *build,
            ..Options::new(&variables)
        };
        for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".env")) {
            let _ = parse_env(Source { name, text: &text.0 }, &variables);
        }
        self.read_elsewhere(&sources, &options)?;
        match load(&sources, &options, &disk) {
            Ok(loaded) => {
                loaded.warnings.iter().try_for_each(|problem| self.sound(problem))?;
                let json = serde_json::to_string(&loaded.spec).map_err(|error| error.to_string())?;
                let back: StackSpec = serde_json::from_str(&json)
                    .map_err(|error| format!("the stack is none in the model's own eyes: {error}"))?;
                (back == loaded.spec)
                    .then_some(())
                    .ok_or_else(|| "the stack is another after its JSON".to_owned())
            }
            Err(errors) if errors.0.is_empty() => Err("it is refused without a reason".to_owned()),
            Err(errors) if errors.0.len() > MAX_PROBLEMS + 1 => Err(format!("{} problems", errors.0.len())),
            Err(errors) => errors.0.iter().try_for_each(|problem| self.sound(problem)),
        }
    }
}

impl Compose {
    /// Where the text is alone, nothing is left to be built, packed or set.
    fn read_elsewhere(&self, sources: &[Source<'_>], options: &Options<'_>) -> Result<(), String> {
        let options = Options { local: false, ..*options };
        match load(sources, &options, &NoFiles) {
            Ok(Loaded { builds, trees, secrets, .. }) => {
                (builds.is_empty() && trees.is_empty() && secrets.is_empty())
                    .then_some(())
                    .ok_or_else(|| "what needs the computer with the file was accepted elsewhere".to_owned())
            }
            Err(errors) if errors.0.is_empty() => Err("it is refused elsewhere without a reason".to_owned()),
            Err(errors) => errors.0.iter().try_for_each(|problem| self.sound(problem)),
        }
    }

    /// A message is one line, and names a place that there is.
    fn sound(&self, problem: &Problem) -> Result<(), String> {
        let text = self.files.get(&problem.file).map(|text| text.0.as_slice()).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').count();
        let line = problem.line as usize;
        if line == 0 || problem.column == 0 || problem.file.is_empty() {
            return Err(format!("a problem has no place: {problem:?}"));
        }
        // Readers of YAML count other line ends too.
        let ends = String::from_utf8_lossy(text).matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        if self.files.contains_key(&problem.file) && line > lines + ends + 1 {
            return Err(format!("a problem is on line {line} of {lines}: {problem:?}"));
        }
        if problem.to_string().chars().any(char::is_control) {
            return Err(format!("a message has control characters: {problem:?}"));
        }
        problem.render(&String::from_utf8_lossy(text));
        Ok(())
    }
}
