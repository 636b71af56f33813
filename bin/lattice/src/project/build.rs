//! Images that are built here, with this machine's Docker.
//!
//! The tag is made of the image's own id, which Docker makes of what went into it: an unchanged
//! context gives the same image from the builder's cache, the same tag, and no new container.
//! Rejected: a hash of the context, which Docker reads through `.dockerignore` and we would not;
//! Docker's API in place of its program, which has BuildKit, credentials and progress already.

use super::{agent::engine_socket, disk::locate};
use crate::{error::CliError, terminal::note};
use anyhow::Context as _;
use lattice_compose::{Build, BuildSecret};
use lattice_model::{StackName, WorkloadName};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// How long a Docker may take to say that it is there.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);
/// The most that is read of an image's id.
const MAX_ID: usize = 200;

/// An image that was built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// What the service names as its image.
    pub(crate) image: String,
}

/// What is run for a build: arguments, and variables that stay out of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Invocation {
    args: Vec<String>,
    variables: Vec<(String, String)>,
    /// The Dockerfile, where it is not a file.
    stdin: Option<String>,
}

/// Builds the image of a service and tags it; what Docker says goes to stderr.
pub(crate) fn build(
    folder: &Path,
    stack: &StackName,
    service: &WorkloadName,
    build: &Build,
) -> anyhow::Result<Built> {
    let scratch = tempfile_dir()?;
    let id_file = scratch.path().join("id");
    let Invocation { mut args, variables, stdin } = invocation(folder, build);
    args.insert(1, format!("--iidfile={}", id_file.display()));
    note(&format!("building {service} …"));
    let mut command = docker();
    command.args(&args).envs(variables);
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    // The legacy builder reports on stdout, which is ours for data.
    command.stdout(stderr()?);
    let mut child = command.spawn().map_err(no_docker)?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        use std::io::Write as _;
        // A builder that fails early closes it; its status says more.
        let _ = pipe.write_all(text.as_bytes());
    }
    let status = child.wait().context("Docker cannot be waited for")?;
    if !status.success() {
        let hint = if build.buildkit {
            "; it uses what only BuildKit has: check that `docker buildx version` works"
        } else {
            ""
        };
        return Err(CliError::Failed(format!(
            "the image of {service} could not be built ({status}), see above{hint}; nothing was deployed"
        ))
        .into());
    }
    let id = std::fs::read_to_string(&id_file).context("Docker did not say which image it built")?;
    let id = id.trim();
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    if hex.len() < 12 || id.len() > MAX_ID || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(CliError::Failed(format!("Docker named the image of {service} in an unknown way")).into());
    }
    let image = tag(stack, service, hex);
    let tagged = docker().args(["tag", id, &image]).status().map_err(no_docker)?;
    if !tagged.success() {
        return Err(CliError::Failed(format!(
            "the image of {service} could not be named {image} ({tagged})"
        ))
        .into());
    }
    Ok(Built { image })
}

/// `lattice/shop-web:0123456789ab`, of what a repository's name allows.
pub(crate) fn tag(stack: &StackName, service: &WorkloadName, hex: &str) -> String {
    let mut name = String::new();
    for c in format!("{stack}-{service}").to_ascii_lowercase().chars() {
        // Neighbouring separators are not allowed.
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    format!("lattice/{}:{}", name.trim_matches('-'), &hex[..12])
}

/// What a dry run shows in place of the tag.
pub(crate) fn planned(stack: &StackName, service: &WorkloadName) -> String {
    tag(stack, service, "000000000000").replace("000000000000", "built")
}

fn invocation(folder: &Path, build: &Build) -> Invocation {
    let Build {
        context,
        remote,
        dockerfile,
        dockerfile_inline,
        args,
        secrets,
        contexts,
        options,
        buildkit: _,
    } = build;
    let place = |path: &str| locate(folder, path).display().to_string();
    let mut run = Invocation { args: vec!["build".into()], ..Invocation::default() };
    // The value of an argument may be confidential, and arguments of programs are everybody's to see.
    for (name, value) in args {
        run.args.extend(["--build-arg".into(), name.clone()]);
        run.variables.push((name.clone(), value.clone()));
    }
    for (id, source) in secrets {
        let from = match source {
            BuildSecret::File(path) => format!("src={}", place(path)),
            BuildSecret::Variable(name) => format!("env={name}"),
        };
        run.args.extend(["--secret".into(), format!("id={id},{from}")]);
    }
    for (name, source) in contexts {
        let is_url = source.contains("://") || source.starts_with("git@");
        let source = if is_url { source.clone() } else { place(source) };
        run.args.extend(["--build-context".into(), format!("{name}={source}")]);
    }
    run.args.extend(options.iter().cloned());
    if let Some(text) = dockerfile_inline {
        run.stdin = Some(text.clone());
        run.args.extend(["-f".into(), "-".into()]);
    } else if let Some(file) = dockerfile {
        // Docker takes it relative to here, Compose relative to the context.
        let path =
            if *remote { file.clone() } else { Path::new(&place(context)).join(file).display().to_string() };
        run.args.extend(["-f".into(), path]);
    }
    // Nothing that begins with `-` is taken for an option.
    run.args.push("--".into());
    run.args.push(if *remote { context.clone() } else { place(context) });
    run
}

/// The program, aimed at the engine of this machine's agent.
pub(super) fn docker() -> Command {
    let mut command = Command::new("docker");
    if let Some(socket) = engine_socket() {
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    }
    command
}

/// Whether a Docker answers here.
pub(crate) async fn answers() -> bool {
    let mut command = tokio::process::Command::from(docker());
    command.args(["version", "--format", "{{.Server.Version}}"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = tokio::time::timeout(ANSWER, command.status()).await;
    matches!(status, Ok(Ok(status)) if status.success())
}

pub(super) fn no_docker(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::from(error)
        .context("the program `docker` could not be run, and it builds images; install it, build on a node (--build-on node), or write `image:` and deploy with --no-build")
}

#[cfg(unix)]
fn stderr() -> anyhow::Result<Stdio> {
    use std::os::fd::AsFd as _;
    Ok(std::io::stderr().as_fd().try_clone_to_owned().context("stderr cannot be shared")?.into())
}

#[cfg(not(unix))]
fn stderr() -> anyhow::Result<Stdio> {
    Ok(Stdio::null())
}

/// A folder of our own that goes when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile_dir() -> anyhow::Result<Scratch> {
    let random = getrandom::u64().map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    let path = std::env::temp_dir().join(format!("lattice-build-{random:016x}"));
    // Fails where somebody else was there before.
    std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(Scratch(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_to_docker_without_values_in_its_arguments() {
        let build = Build {
            context: "api".into(),
            dockerfile: Some("Dockerfile.prod".into()),
            args: [("TOKEN".into(), "hush".into())].into(),
            secrets: [("npm".into(), BuildSecret::File("npmrc".into()))].into(),
            contexts: [("lib".into(), "../lib".into())].into(),
            options: vec!["--target".into(), "prod".into()],
            ..Build::default()
        };
        let run = invocation(Path::new("/p"), &build);
        assert_eq!(
            run.args.join(" "),
            "build --build-arg TOKEN --secret id=npm,src=/p/npmrc --build-context lib=/p/../lib --target prod -f /p/api/Dockerfile.prod -- /p/api"
        );
        assert_eq!(run.variables, [("TOKEN".to_owned(), "hush".to_owned())]);
        let inline = Build {
            context: "https://git.example/x.git".into(),
            remote: true,
            dockerfile_inline: Some("FROM a".into()),
            ..Build::default()
        };
        let run = invocation(Path::new("/p"), &inline);
        assert_eq!(run.args.join(" "), "build -f - -- https://git.example/x.git");
        assert_eq!(run.stdin.as_deref(), Some("FROM a"));
    }

    #[test]
    fn tags_are_names_that_docker_takes() {
        let (stack, service) = ("my_shop".parse().unwrap(), "Web.__1".parse().unwrap());
        assert_eq!(tag(&stack, &service, "0123456789abcdef"), "lattice/my-shop-web-1:0123456789ab");
        assert_eq!(planned(&stack, &service), "lattice/my-shop-web-1:built");
    }
}
