//! `reset-time`: from just before `lattice-agent reset --yes` is started, on a machine whose agent runs 20 containers,
//! each of an image of its own that came through the server, until it has ended. What is on the engine then is compared
//! with what was there before the join: where anything is left, nothing is measured.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    select::Wanted,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use lattice_testbed::{Node, Options, Testbed, program};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// Services, each with an image of its own.
const COUNT: usize = 20;
const HOST: &str = "unix:///var/run/docker.sock";

pub(super) struct ResetTime;

#[async_trait]
impl Benchmark for ResetTime {
    fn about(&self) -> &'static str {
        "a machine with 20 containers and their images is as it was before the join"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "reset-time", unit: "s", target: Target::AtMost(30.0) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let run = lab.run().to_owned();
        tokio::task::spawn_blocking(move || {
            // The second machine shows what an engine has that only its own image was given to.
            let bed = Testbed::up(&Options::nodes(2, &[crate::lab::IMAGE]))?;
            let measured = measure(&bed, &run);
            let built = format!("reference=lattice/bench-{run}*");
            let _ = said(HOST, &["images", "--quiet", "--no-trunc", "--filter", &built]).map(|ids| {
                for id in ids.lines() {
                    let _ = said(HOST, &["rmi", "--force", id]);
                }
            });
            let _ = bed.down();
            measured
        })
        .await?
    }
}

fn measure(bed: &Testbed, run: &str) -> anyhow::Result<Outcome> {
    let (node, untouched) = (bed.node("n1")?, bed.node("n2")?);
    let folder = tempfile::tempdir()?;
    write(folder.path())?;
    let output = Command::new(program("lattice")?)
        .args(["deploy", "--name", &format!("bench-{run}"), "-f"])
        .arg(folder.path().join("compose.yaml"))
        .env("LATTICE_HOME", bed.server().home())
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("lattice deploy: {}", String::from_utf8_lossy(&output.stderr));
    }
    let host = |node: &Node| format!("unix://{}", node.engine().socket().display());
    let (containers, images) = (running(&host(node))?, things(&host(node))?.len());
    if containers != COUNT {
        bail!("{containers} of {COUNT} containers run");
    }
    let mut command = node.agent_command(&["reset", "--yes"])?;
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = begin.elapsed();
    if !output.status.success() {
        bail!("lattice-agent reset: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (left, usual) = (things(&host(node))?, things(&host(untouched))?);
    if left != usual || node.agent_folder().exists() {
        bail!("{left:?} is left, and not {usual:?}");
    }
    let mut outcome = Outcome::default();
    outcome.add("reset-time", took.as_secs_f64());
    outcome.note(format!(
        "{containers} containers, and {images} lines of containers, networks, volumes and images before"
    ));
    Ok(outcome)
}

/// Each image has a layer of its own, of a megabyte.
fn write(folder: &Path) -> anyhow::Result<()> {
    let mut compose = String::from("services:\n");
    for n in 0..COUNT {
        let context = folder.join(format!("s{n}"));
        fs::create_dir(&context)?;
        let mut noise = vec![0; 1 << 20];
        getrandom::fill(&mut noise)?;
        fs::write(context.join("noise"), noise)?;
        fs::write(
            context.join("Dockerfile"),
            format!(
                "FROM {}\nCOPY noise /noise\nCMD [\"sh\", \"-c\", \"trap 'exit 0' TERM; sleep 1000000 & wait\"]\n",
                crate::lab::IMAGE
            ),
        )?;
        compose.push_str(&format!(
            "  s{n}:\n    build: ./s{n}\n    volumes: [\"d{n}:/data\"]\n    deploy: {{resources: {{reservations: {{cpus: \"0.01\", memory: 8M}}}}, placement: {{constraints: [node.hostname == n1]}}}}\n"
        ));
    }
    compose.push_str("volumes:\n");
    for n in 0..COUNT {
        compose.push_str(&format!("  d{n}: {{}}\n"));
    }
    Ok(fs::write(folder.join("compose.yaml"), compose)?)
}

fn running(host: &str) -> anyhow::Result<usize> {
    Ok(said(host, &["ps", "--quiet"])?.lines().count())
}

/// Containers, networks, volumes and images, by what does not differ between two engines.
fn things(host: &str) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for args in [
        ["ps", "--all", "--format", "container {{.Names}}"],
        ["network", "ls", "--format", "network {{.Name}}"],
        ["volume", "ls", "--format", "volume {{.Name}}"],
        ["images", "--all", "--format", "image {{.Repository}}:{{.Tag}} {{.ID}}"],
    ] {
        all.extend(said(host, &args)?.lines().map(str::to_owned));
    }
    all.sort();
    Ok(all)
}

fn said(host: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(["-H", host]).args(args).output().context("docker")?;
    if !output.status.success() {
        bail!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
