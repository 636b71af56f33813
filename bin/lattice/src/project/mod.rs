//! A Compose project on this disk: which files it is made of, what they may read, and what a
//! deployment needs beside its specification.
//!
//! Enter at [`Project::read`]. `disk` is the loader's view of the files, `build` makes images with
//! the local Docker, `context` packs what a node builds from, `image` brings them to the server, `trees` packs files, `agent` finds this machine's
//! engine.

mod agent;
mod build;
mod context;
mod disk;
mod image;
mod trees;

pub(crate) use agent::engine_socket;
pub(crate) use build::{answers, build, planned, tag};
pub(crate) use context::{Context, context};
pub(crate) use image::share;
pub(crate) use trees::pack_all;

use disk::Disk;

use crate::{args::ProjectArgs, error::CliError, terminal::note};
use anyhow::Context as _;
use lattice_compose::{Loaded, Options, Source, load, normalize_project_name, parse_env};
use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// What a Compose file is called where nobody says.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// What is put on top of it, if it is there.
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// A project that was read.
pub(crate) struct Project {
    pub(crate) loaded: Loaded,
    /// The Compose files as they were written, for the record.
    pub(crate) source: String,
    /// The project's folder.
    pub(crate) folder: PathBuf,
}

/// Where the project is and what it is made of.
struct Place {
    folder: PathBuf,
    files: Vec<PathBuf>,
    variables: BTreeMap<String, String>,
}

impl Project {
    /// Finds and reads the files; shows warnings, and every problem where there is one.
    pub(crate) fn read(args: &ProjectArgs, build: bool) -> anyhow::Result<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        let Place { folder, files, variables } = find(args, &environment)?;
        let lookup = |name: &str| environment(name).or_else(|| variables.get(name).cloned());
        // First the files: one that is not there is named, and not its folder.
        let mut texts = Vec::new();
        for path in &files {
            texts.push((path.display().to_string(), bounded(path)?));
        }
        let disk = Disk::new(&folder)?;
        let sources: Vec<_> = texts.iter().map(|(name, text)| Source { name, text }).collect();
        let absolute = disk.folder().to_string_lossy().into_owned();
        let fallback = disk.folder().file_name().map(|name| normalize_project_name(&name.to_string_lossy()));
        let mut profiles = args.profiles.clone();
        if profiles.is_empty() {
            let listed = lookup("COMPOSE_PROFILES").unwrap_or_default();
            profiles.extend(listed.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned));
        }
        let options = Options {
            name: args.name.as_deref(),
            fallback_name: fallback.as_deref().filter(|name| !name.is_empty()),
            profiles: &profiles,
            folder: Some(&absolute),
            build,
            ..Options::new(&lookup)
        };
        let outcome = load(&sources, &options, &disk);
        let read = disk.into_texts();
        let text_of = |name: &str| {
            let own = texts.iter().find(|(file, _)| file == name).map(|(_, text)| text);
            std::str::from_utf8(own.or_else(|| read.get(name))?).ok()
        };
        match outcome {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    let shown = text_of(&warning.file).map(|text| warning.render(text));
                    note(&shown.unwrap_or_else(|| warning.to_string()));
                }
                let source = texts.iter().map(|(_, text)| String::from_utf8_lossy(text)).collect::<Vec<_>>();
                Ok(Self { loaded, source: source.join("\n---\n"), folder })
            }
            Err(errors) => {
                let faults =
                    errors.0.iter().filter(|p| p.severity == lattice_compose::Severity::Error).count();
                note(&errors.render(text_of));
                note("");
                let things = if faults == 1 { "1 problem".into() } else { format!("{faults} problems") };
                Err(CliError::Failed(format!("the Compose file has {things}; nothing was deployed")).into())
            }
        }
    }
}

/// `-f`, else COMPOSE_FILE of the shell or of `.env`, else the usual names here or in a folder above.
fn find(args: &ProjectArgs, environment: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Place> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some(first) = args.files.first() {
        let beside = if first == Path::new("-") { PathBuf::from(".") } else { parent(first) };
        let folder = args.project_directory.clone().unwrap_or(beside);
        let variables = env_files(args, &folder, environment)?;
        return Ok(Place { folder, files: args.files.clone(), variables });
    }
    let folder = match &args.project_directory {
        Some(folder) => folder.clone(),
        None => PathBuf::from("."),
    };
    let variables = env_files(args, &folder, environment)?;
    let known = |name: &str| set(name).or_else(|| variables.get(name).cloned().filter(|v| !v.is_empty()));
    if let Some(list) = known("COMPOSE_FILE") {
        let separator =
            known("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| if cfg!(windows) { ";" } else { ":" }.into());
        let files: Vec<PathBuf> = list
            .split(separator.as_str())
            .filter(|f| !f.is_empty())
            .map(|file| beneath(&folder, Path::new(file)))
            .collect();
        let folder = match (&args.project_directory, files.first()) {
            (None, Some(first)) => parent(first),
            _ => folder,
        };
        return Ok(Place { folder, files, variables });
    }
    // Docker looks in the folders above, too.
    let mut above = folder.clone();
    let first = loop {
        let found = FILES.iter().map(|name| beneath(&above, Path::new(name))).find(|path| path.exists());
        if let Some(found) = found {
            break found;
        }
        let up = if above == Path::new(".") { PathBuf::from("..") } else { above.join("..") };
        let moved = std::fs::canonicalize(&up).ok() != std::fs::canonicalize(&above).ok();
        if args.project_directory.is_some() || !moved || !up.exists() {
            return Err(CliError::NotFound {
                what: "Compose file",
                name: FILES[0].into(),
                hint: "name one with -f, or go to its folder".into(),
            }
            .into());
        }
        above = up;
    };
    let folder_moved = above != folder;
    let mut files = vec![first];
    files.extend(OVERRIDES.iter().map(|name| beneath(&above, Path::new(name))).find(|path| path.exists()));
    let variables = if folder_moved { env_files(args, &above, environment)? } else { variables };
    Ok(Place { folder: above, files, variables })
}

fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A path in a folder, without a `./` in front of it.
fn beneath(folder: &Path, path: &Path) -> PathBuf {
    if folder == Path::new(".") { path.to_owned() } else { folder.join(path) }
}

/// Variables of `--env-file`, the later ones winning; else of `.env` in the project's folder, if there is one.
fn env_files(
    args: &ProjectArgs,
    folder: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let implied = beneath(folder, Path::new(".env"));
    let listed = environment("COMPOSE_ENV_FILES").unwrap_or_default();
    let paths: Vec<PathBuf> = if !args.env_files.is_empty() {
        args.env_files.clone()
    } else if !listed.is_empty() {
        listed.split(',').map(PathBuf::from).collect()
    } else if implied.is_file() {
        vec![implied]
    } else {
        Vec::new()
    };
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for path in paths {
        let (name, text) = (path.display().to_string(), bounded(&path)?);
        let known = |key: &str| environment(key).or_else(|| variables.get(key).cloned());
        match parse_env(Source { name: &name, text: &text }, &known) {
            Ok(file) => {
                for warning in &file.warnings {
                    note(&warning.to_string());
                }
                variables.extend(file.values);
            }
            Err(errors) => {
                // Without source lines: they may hold secrets.
                note(&errors.to_string());
                return Err(CliError::Failed(format!("{name} cannot be read; nothing was deployed")).into());
            }
        }
    }
    Ok(variables)
}

/// A file up to one byte more than a Compose file may have, so that the loader sees that it is too
/// large; `-` is standard input.
fn bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    let limit = lattice_compose::MAX_BYTES as u64 + 1;
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CliError::NotFound {
            what: "file",
            name: path.display().to_string(),
            hint: "check the path".into(),
        }
        .into()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path) -> ProjectArgs {
        ProjectArgs {
            files: Vec::new(),
            name: None,
            env_files: Vec::new(),
            profiles: Vec::new(),
            project_directory: Some(folder.to_owned()),
        }
    }

    fn names(place: &Place) -> Vec<String> {
        place.files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn files_are_found_as_docker_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let none = |_: &str| None;
        assert!(find(&args(dir.path()), &none).is_err());
        write("docker-compose.yml", "services: {}");
        assert_eq!(names(&find(&args(dir.path()), &none).unwrap()), ["docker-compose.yml"]);
        write("compose.yaml", "services: {}");
        write("compose.override.yml", "services: {}");
        assert_eq!(names(&find(&args(dir.path()), &none).unwrap()), ["compose.yaml", "compose.override.yml"]);
        write(".env", "COMPOSE_FILE=a.yaml:b.yaml\nX=1\n");
        let place = find(&args(dir.path()), &none).unwrap();
        assert_eq!(names(&place), ["a.yaml", "b.yaml"]);
        assert_eq!(place.variables["X"], "1");
        let shell = |name: &str| (name == "COMPOSE_FILE").then(|| "c.yaml".to_owned());
        assert_eq!(names(&find(&args(dir.path()), &shell).unwrap()), ["c.yaml"]);
        let given =
            ProjectArgs { files: vec!["x/y.yaml".into()], project_directory: None, ..args(dir.path()) };
        assert_eq!(find(&given, &none).unwrap().folder, Path::new("x"));
    }

    #[test]
    fn a_project_with_everything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "compose.yaml",
            "name: whole\nservices:\n  web:\n    image: nginx:${TAG}\n    env_file: web.env\n    secrets: [pw]\n    volumes: [\"./conf:/conf:ro\", \"./data:/data\", \"${PWD_OF_TEST}/conf:/again:ro\"]\n  tool: {image: t, profiles: [debug]}\nsecrets: {pw: {file: pw.txt}}\n",
        );
        write(".env", "TAG=1.27\nPWD_OF_TEST=/nowhere\n");
        write("web.env", "A=1\n");
        write("pw.txt", "hush");
        write("conf/a.conf", "x");
        write("data/.gitkeep", "");
        let errors = Project::read(&args(dir.path()), true).err().unwrap().to_string();
        assert!(errors.contains("1 problem;"), "{errors}");
        write(".env", &format!("TAG=1.27\nPWD_OF_TEST={}\n", dir.path().canonicalize().unwrap().display()));
        let project = Project::read(&args(dir.path()), true).unwrap();
        let spec = &project.loaded.spec;
        assert_eq!(spec.workloads.len(), 1);
        let web = spec.workloads.values().next().unwrap();
        assert_eq!((web.image.as_str(), web.environment["A"].as_str()), ("nginx:1.27", "1"));
        assert_eq!(web.mounts.len(), 1);
        assert_eq!(project.loaded.trees.len(), 1);
        assert_eq!(project.loaded.trees[0].mounts.len(), 2);
        assert_eq!(project.loaded.secrets[0].name.as_str(), "whole_pw");
        let all = ProjectArgs { profiles: vec!["debug".into()], ..args(dir.path()) };
        assert_eq!(Project::read(&all, true).unwrap().loaded.spec.workloads.len(), 2);
    }
}
