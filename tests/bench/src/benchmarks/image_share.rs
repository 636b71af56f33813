//! `image-share`: an image of some 200 MB that a first machine has, until a second one has it too, by an uploaded
//! image of Lattice: from just before the request that puts a stack there until the engine makes its container, by
//! the `Created` that Docker gives it. `first`: the second machine has nothing of it. `second`: it has an earlier
//! version, of which the last layer, 10 MB, is another.
//!
//! The reference is what people type: `docker save` on the first machine, by a pipe into `docker load` on the second,
//! as with ssh in between but without what ssh costs, which makes it harder to reach. What getting the image to the
//! server takes before that, out of Docker and compressed, is said beside it.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    engine::{millis, now},
    lab::Lab,
    progress::Progress,
    select::Wanted,
    stats::median,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use lattice_client::{Client, Endpoint};
use lattice_model::{
    ProjectName, StackKey,
    spec::{Constraint, ImageDigest, ImagePin, ImageSource, NodeAttribute, StackSpec, Test, WorkloadSpec},
};
use lattice_testbed::{Node, Options, Testbed, program};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of the middle layer and of the last one, on top of 137 MB of PostgreSQL.
const MIDDLE: usize = 50 << 20;
const LAST: usize = 10 << 20;

pub(super) struct ImageShare;

#[async_trait]
impl Benchmark for ImageShare {
    fn about(&self) -> &'static str {
        "a 200 MB image gets from one machine to another, against docker save and load"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "image-share/first", unit: "ms", target: Target::RatioAtMost(1.0) },
            Figure { name: "image-share/second", unit: "ms", target: Target::RatioAtMost(0.2) },
        ]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let bed = tokio::task::spawn_blocking(|| Testbed::up(&Options::nodes(2, &[]))).await??;
        let run = lab.run().to_owned();
        let measured = measure(&bed, &run).await;
        // What was built here goes, whatever came of it.
        let _ = remove(&format!("unix://{HOST}"), &format!("reference=lattice/bench-{run}*"));
        let _ = tokio::task::spawn_blocking(move || bed.down()).await;
        measured
    }
}

/// The engine of this machine.
const HOST: &str = "/var/run/docker.sock";

#[derive(Default)]
struct Times {
    lattice: Vec<f64>,
    docker: Vec<f64>,
    deploy: Vec<f64>,
}

async fn measure(bed: &Testbed, run: &str) -> anyhow::Result<Outcome> {
    let client = Client::new(Endpoint::Unix(bed.server().socket()), None);
    let (from, to) = (bed.node("n1")?, bed.node("n2")?);
    let folder = tempfile::tempdir()?;
    let (mut first, mut second) = (Times::default(), Times::default());
    let mut progress = Progress::new("rounds", ROUNDS);
    for round in 0..ROUNDS {
        for (version, times) in [(1, &mut first), (2, &mut second)] {
            write(folder.path(), version == 1)?;
            let source = format!("bench-{run}-{round}-{version}");
            let begin = Instant::now();
            deploy(bed, folder.path(), &source)?;
            times.deploy.push(begin.elapsed().as_secs_f64() * 1e3);
            let spec = client.workload(&key(&source)?.workload("web".parse()?)).await?.spec;
            let id = spec.pin.as_ref().context("it is not pinned")?.digest;
            // Whoever comes first changes with each round.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    times.lattice.push(by_lattice(&client, to, &format!("{source}-b"), &spec).await?);
                } else {
                    times.docker.push(by_hand(from, to, id)?);
                }
                forget(&client, to, &format!("{source}-b"), id).await?;
            }
            if version == 1 {
                // The second version comes to a machine that has the first.
                by_hand(from, to, id)?;
            }
        }
        for version in [1, 2] {
            client
                .delete_stack(&key(&format!("bench-{run}-{round}-{version}"))?, &Default::default())
                .await?;
        }
        let _ = remove(&socket(to), "dangling=false");
        progress.step(&format!(
            "first {:.0} to {:.0} ms, second {:.0} to {:.0} ms",
            last(&first.lattice),
            last(&first.docker),
            last(&second.lattice),
            last(&second.docker)
        ));
    }
    let mut outcome = Outcome::default();
    outcome.compare("image-share/first", median(&first.lattice), median(&first.docker));
    outcome.compare("image-share/second", median(&second.lattice), median(&second.docker));
    outcome.note(format!(
        "`lattice deploy` before that, with the build from Docker's cache, until the first machine runs it: first {:.0} ms, second {:.0} ms",
        median(&first.deploy),
        median(&second.deploy)
    ));
    Ok(outcome)
}

fn last(times: &[f64]) -> f64 {
    times.last().copied().unwrap_or(0.0)
}

fn key(name: &str) -> anyhow::Result<StackKey> {
    Ok(StackKey { project: ProjectName::default_project(), stack: name.parse()? })
}

/// The folder that is deployed; each version has a last layer of its own.
fn write(folder: &Path, fresh: bool) -> anyhow::Result<()> {
    let noise = |bytes: usize| -> anyhow::Result<Vec<u8>> {
        let mut noise = vec![0; bytes];
        getrandom::fill(&mut noise)?;
        Ok(noise)
    };
    if fresh {
        // Half of it compresses well, as programs and texts do.
        let mut middle = noise(MIDDLE / 2)?;
        middle.resize(MIDDLE, b'x');
        std::fs::write(folder.join("middle"), middle)?;
    }
    std::fs::write(folder.join("last"), noise(LAST)?)?;
    std::fs::write(
        folder.join("Dockerfile"),
        "FROM lattice-test/postgres:15\nCOPY middle /middle\nCOPY last /last\nENTRYPOINT []\nCMD [\"sleep\", \"3600\"]\n",
    )?;
    let compose = "services:\n  web:\n    build: .\n    stop_grace_period: 0s\n    deploy: {placement: {constraints: [node.hostname == n1]}}\n";
    Ok(std::fs::write(folder.join("compose.yaml"), compose)?)
}

fn deploy(bed: &Testbed, folder: &Path, name: &str) -> anyhow::Result<()> {
    let file: PathBuf = folder.join("compose.yaml");
    let output = Command::new(program("lattice")?)
        .args(["deploy", "--name", name, "-f"])
        .arg(&file)
        .env("LATTICE_HOME", bed.server().home())
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("lattice deploy: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn by_lattice(client: &Client, to: &Node, name: &str, spec: &WorkloadSpec) -> anyhow::Result<f64> {
    let mut spec = spec.clone();
    let digest = spec.pin.as_ref().context("it is not pinned")?.digest;
    spec.pin = Some(ImagePin { from: ImageSource::Server, digest, platforms: BTreeSet::new() });
    spec.placement.constraints =
        vec![Constraint { attribute: NodeAttribute::Name, test: Test::In([to.name().to_owned()].into()) }];
    let networks = spec.networks.keys().map(|name| (name.clone(), Default::default())).collect();
    let stack = StackSpec { workloads: [("web".parse()?, spec)].into(), networks, ..StackSpec::default() };
    let key = key(name)?;
    let begin = now();
    client
        .deploy(&key, &Default::default(), &lattice_api::DeployRequest { spec: stack, source: None })
        .await?;
    let label = format!("label=lattice.stack={key}");
    let patience = Instant::now() + PATIENCE;
    loop {
        let ids = said(&socket(to), &["ps", "--quiet", "--filter", &label])?;
        if let Some(id) = ids.lines().next() {
            let created = said(&socket(to), &["inspect", "--format", "{{.Created}}", id])?;
            let created: jiff::Timestamp = created.trim().parse()?;
            return Ok(millis(begin, created.as_nanosecond()));
        }
        if Instant::now() > patience {
            bail!("it did not start on {}", to.name());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `docker save | docker load`.
fn by_hand(from: &Node, to: &Node, id: ImageDigest) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut save = Command::new("docker")
        .args(["-H", &socket(from), "save", &id.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = save.stdout.take().context("docker save has no output")?;
    let load = Command::new("docker").args(["-H", &socket(to), "load", "--quiet"]).stdin(out).output()?;
    let saved = save.wait()?;
    if !saved.success() || !load.status.success() {
        bail!("docker save and load: {}", String::from_utf8_lossy(&load.stderr));
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Takes stack and image from the second machine again.
async fn forget(client: &Client, to: &Node, name: &str, id: ImageDigest) -> anyhow::Result<()> {
    let _ = client.delete_stack(&key(name)?, &Default::default()).await;
    let patience = Instant::now() + PATIENCE;
    loop {
        let known = said(&socket(to), &["images", "--quiet", "--no-trunc"])?;
        if !known.lines().any(|line| line == id.to_string()) {
            return Ok(());
        }
        let _ = said(&socket(to), &["rmi", "--force", &id.to_string()]);
        if Instant::now() > patience {
            bail!("the image does not go from {}", to.name());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn socket(node: &Node) -> String {
    format!("unix://{}", node.engine().socket().display())
}

fn said(host: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(["-H", host]).args(args).output()?;
    if !output.status.success() {
        bail!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Removes images by a filter.
fn remove(host: &str, filter: &str) -> anyhow::Result<()> {
    for image in said(host, &["images", "--quiet", "--no-trunc", "--filter", filter])?.lines() {
        let _ = said(host, &["rmi", "--force", image]);
    }
    Ok(())
}
