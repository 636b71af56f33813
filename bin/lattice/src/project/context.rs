//! What a node builds an image from: the context without what `.dockerignore` names, and what of `build` a node can do.

use super::{disk::locate, trees::largest_of};
use crate::error::CliError;
use anyhow::Context as _;
use lattice_api::BuildStart;
use lattice_compose::Build;
use lattice_image::{Dockerfile, MAX_DOCKERFILE, OWN_DOCKERFILE};
use lattice_model::{Bytes, NodeName, WorkloadName, spec::Pools};
use lattice_tree::{Ignore, MAX_BYTES, MAX_ENTRIES, Tree, TreeError, pack_context};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The most bytes of a `.dockerignore`.
const MAX_IGNORE: u64 = 1 << 20;

/// What is uploaded, and what is asked for.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) tree: Tree,
    pub(crate) start: BuildStart,
}

/// Packs what a service is built from; or says what of its `build` no node can do.
pub(crate) fn context(
    folder: &Path,
    service: &WorkloadName,
    build: &Build,
    pool: Pools,
    node: Option<NodeName>,
) -> anyhow::Result<Context> {
    let refused = refused(build);
    if !refused.is_empty() {
        let text = format!(
            "the image of {service} cannot be built on a node: {}; take it out, or build where a Docker is (--build-on local)",
            refused.join("; ")
        );
        return Err(CliError::Failed(text).into());
    }
    let place = locate(folder, &build.context);
    let (mut file, text, ignore) = dockerfile(&place, build)?;
    let wanted = option(build, "--target").map(str::to_owned);
    let read = Dockerfile::read(&text, &build.args, wanted.as_deref());
    let read = read.with_context(|| format!("the image of {service} cannot be built on a node"))?;
    let patterns = Ignore::parse(&ignore).with_context(|| format!("what {service} is built from"))?;
    let mut more = BTreeMap::new();
    // One that is ignored is no file that a step could copy.
    if file == Path::new(OWN_DOCKERFILE) || patterns.ignores(&file) {
        file = OWN_DOCKERFILE.into();
        more.insert(file.clone(), text);
    }
    // The engine looks into it for what no step may copy.
    let always = [Path::new(".dockerignore")];
    let tree = match pack_context(&place, &patterns, &always, &more) {
        Err(TreeError::TooMuch { .. }) => {
            let text = format!(
                "{} is too large to be built from on a node: at most {} and {MAX_ENTRIES} files{}. Name what the build does not need in .dockerignore",
                place.display(),
                Bytes(MAX_BYTES),
                largest_of(&place)
            );
            return Err(CliError::Failed(text).into());
        }
        other => other.with_context(|| format!("what {service} is built from cannot travel"))?,
    };
    let start = BuildStart {
        context: tree.digest,
        dockerfile: file.to_string_lossy().into_owned(),
        target: wanted,
        args: build.args.clone(),
        labels: pairs(build, "--label", '='),
        platform: option(build, "--platform").map(str::to_owned),
        no_network: option(build, "--network") == Some("none"),
        extra_hosts: all(build, "--add-host").map(str::to_owned).collect(),
        shm_bytes: match option(build, "--shm-size") {
            Some(text) => {
                Some(text.parse::<Bytes>().map_err(|error| anyhow::anyhow!("shm_size: {error}"))?.0)
            }
            None => None,
        },
        pull: flag(build, "--pull"),
        no_cache: flag(build, "--no-cache"),
        bases: read.bases.into_iter().collect(),
        pool,
        node,
    };
    Ok(Context { tree, start })
}

/// What of it only a Docker beside the files can do, by the names of Compose.
fn refused(build: &Build) -> Vec<String> {
    let mut all = Vec::new();
    let mut no = |yes: bool, what: &str| {
        if yes {
            all.push(what.to_owned());
        }
    };
    no(build.remote, "`context` is a URL, and a node gets files");
    no(!build.secrets.is_empty(), "`secrets` need BuildKit, and a node builds with the engine's own builder");
    no(!build.contexts.is_empty(), "`additional_contexts` need BuildKit");
    for (option, what) in [
        ("--ssh", "`ssh` would give your agent's keys away"),
        ("--cache-to", "`cache_to` needs BuildKit"),
        ("--no-cache-filter", "`no_cache_filter` needs BuildKit"),
        ("--ulimit", "`ulimits` are the owner's there"),
    ] {
        no(build.options.iter().any(|said| said == option), what);
    }
    let network = option(build, "--network");
    no(
        network.is_some_and(|network| !matches!(network, "none" | "default")),
        "`network` is `default` or `none` there: nothing reaches the owner's own network",
    );
    all
}

/// The values of an option, in order.
fn all<'a>(build: &'a Build, name: &'a str) -> impl Iterator<Item = &'a str> {
    let said = build.options.windows(2).filter(move |pair| pair[0] == name);
    said.map(|pair| pair[1].as_str())
}

fn option<'a>(build: &'a Build, name: &'a str) -> Option<&'a str> {
    all(build, name).last()
}

fn flag(build: &Build, name: &str) -> bool {
    build.options.iter().any(|said| said == name)
}

fn pairs(build: &Build, name: &str, at: char) -> BTreeMap<String, String> {
    let split = |text: &str| {
        let (key, value) = text.split_once(at).unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    all(build, name).map(split).collect()
}

/// The Dockerfile's name in the context, its text, and the `.dockerignore` that goes with it.
fn dockerfile(place: &Path, build: &Build) -> anyhow::Result<(PathBuf, Vec<u8>, String)> {
    let usual = || text_of(&place.join(".dockerignore"));
    if let Some(text) = &build.dockerfile_inline {
        return Ok((OWN_DOCKERFILE.into(), text.clone().into_bytes(), usual()?));
    }
    let name = match &build.dockerfile {
        Some(name) => name.clone(),
        // Docker takes the other spelling, too, where the usual one is not there.
        None if !place.join("Dockerfile").exists() && place.join("dockerfile").exists() => {
            "dockerfile".into()
        }
        None => "Dockerfile".into(),
    };
    let path = place.join(&name);
    let text =
        bounded(&path, MAX_DOCKERFILE).with_context(|| format!("{} cannot be read", path.display()))?;
    // Its own one counts, and alone.
    let own = PathBuf::from(format!("{}.dockerignore", path.display()));
    let ignore = if own.is_file() { text_of(&own)? } else { usual()? };
    let inside = plain(Path::new(&name)).or_else(|| plain(path.strip_prefix(place).ok()?));
    Ok((inside.unwrap_or_else(|| OWN_DOCKERFILE.into()), text, ignore))
}

/// A path without `.` and `..`; nothing where it leads out.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

fn bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    fs::File::open(path)?.take(max + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// A `.dockerignore`; without one nothing is ignored.
fn text_of(path: &Path) -> anyhow::Result<String> {
    match bounded(path, MAX_IGNORE) {
        Ok(text) if text.len() as u64 <= MAX_IGNORE => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(_) => Err(CliError::Failed(format!("{} is too large", path.display())).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(folder: &Path, build: &Build) -> anyhow::Result<Context> {
        context(folder, &"web".parse().unwrap(), build, Pools::default(), None)
    }

    #[test]
    fn what_a_node_needs_is_packed_and_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("app/docker/File", "ARG V=1\nFROM base:$V AS one\nFROM other:1");
        write("app/.dockerignore", "docker\n*.log\n");
        write("app/a.log", "x");
        write("app/src", "x");
        let build = Build {
            context: "app".into(),
            dockerfile: Some("docker/File".into()),
            args: [("V".into(), "2".into())].into(),
            options: [
                "--label",
                "a=b=c",
                "--target",
                "one",
                "--shm-size",
                "64m",
                "--pull",
                "--network",
                "none",
            ]
            .map(String::from)
            .to_vec(),
            ..Build::default()
        };
        let Context { tree, start } = packed(dir.path(), &build).unwrap();
        // The root, a file, what says what is ignored, and the Dockerfile, which is.
        assert_eq!(tree.summary.entries, 4, "{start:?}");
        assert_eq!((start.dockerfile.as_str(), start.target.as_deref()), (OWN_DOCKERFILE, Some("one")));
        assert_eq!((start.bases.as_slice(), start.shm_bytes), (&["base:2".to_owned()][..], Some(64 << 20)));
        assert_eq!(start.labels["a"], "b=c");
        assert!(start.pull && start.no_network && !start.no_cache);
        // One of its own counts alone.
        write("app/docker/File.dockerignore", "src\n");
        let own = packed(dir.path(), &build).unwrap();
        assert_ne!(own.tree.digest, tree.digest);
        assert_eq!(own.start.dockerfile, "docker/File");
        // In the Compose file, or beside the context, it travels under a name of its own.
        let inline = Build { dockerfile_inline: Some("FROM img".into()), dockerfile: None, ..build.clone() };
        let inline = Build { options: Vec::new(), ..inline };
        assert_eq!(packed(dir.path(), &inline).unwrap().start.dockerfile, OWN_DOCKERFILE);
        write("Beside", "FROM img");
        let beside = Build { dockerfile: Some("../Beside".into()), options: Vec::new(), ..build };
        assert_eq!(packed(dir.path(), &beside).unwrap().start.dockerfile, OWN_DOCKERFILE);
    }

    #[test]
    fn what_no_node_can_do_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let said = |build: Build| format!("{:#}", packed(dir.path(), &build).unwrap_err());
        let options = |words: &[&str]| Build {
            options: words.iter().map(ToString::to_string).collect(),
            ..Build::default()
        };
        for (build, word) in [
            (Build { remote: true, ..Build::default() }, "`context` is a URL"),
            (
                Build {
                    secrets: [("a".into(), lattice_compose::BuildSecret::Variable("A".into()))].into(),
                    ..Build::default()
                },
                "`secrets` need BuildKit",
            ),
            (options(&["--ssh", "default"]), "`ssh`"),
            (options(&["--network", "host"]), "`network` is"),
            (options(&["--ulimit", "nofile=1:1"]), "`ulimits`"),
            (Build::default(), "Dockerfile cannot be read"),
        ] {
            let text = said(build);
            assert!(text.contains(word), "{text}");
        }
    }
}
