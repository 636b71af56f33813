//! The steps of an import, each remembered before it is done. See the module's head for their order.

use super::{
    carry::carry,
    found::Found,
    journal::{Desk, Journal, Phase, Ran},
    plan::{Image, Plan},
    undo,
};
use crate::{
    commands::{
        deploy,
        follow::{Outcome, follow},
        interrupted,
    },
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    project::{share, tag as tag_of},
    table::clean,
    terminal::note,
};
use anyhow::Context as _;
use futures::future::join_all;
use lattice_api::{
    AllocationView, DeployQuery, DeployRequest, LogQuery, StackDetail, VolumeState, WorkloadState,
};
use lattice_compose::Loaded;
use lattice_model::{StackKey, VolumeName, spec::StackSpec};
use lattice_runtime::docker::{ComposeContainer, Projects};
use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode, time::Duration};

/// Between two looks at a stack that is being placed.
const LOOK: Duration = Duration::from_millis(200);
/// How many lines of a service that failed are shown: it is removed.
const LAST_LINES: u64 = 15;

/// Lets services run the images that their containers have, and says which; in a dry run with names
/// that nothing has yet.
pub(super) async fn images(
    engine: &Projects,
    key: &StackKey,
    plan: &Plan,
    loaded: &mut Loaded,
    dry_run: bool,
) -> anyhow::Result<String> {
    let mut lines = String::new();
    if plan.images.is_empty() {
        return Ok(lines);
    }
    for Image { service, id } in &plan.images {
        if !engine.has_image(id).await? {
            let text =
                format!("the engine has the image of {service} no more ({id}); say --build to make it anew");
            return Err(CliError::Failed(text).into());
        }
        let image = image_name(key, service, id);
        let would = if dry_run { "would be " } else { "is " };
        let _ = writeln!(lines, "  {service}: {image} {would}what its container runs; --build makes it anew");
        loaded.builds.remove(service);
        if let Some(workload) = loaded.spec.workloads.get_mut(service) {
            workload.image = image;
        }
    }
    Ok(lines)
}

fn image_name(key: &StackKey, service: &lattice_model::WorkloadName, id: &str) -> String {
    let hex: String =
        id.trim_start_matches("sha256:").chars().chain(std::iter::repeat('0')).take(12).collect();
    tag_of(&key.stack, service, &hex)
}

/// Names the images that the project's containers run, so that they stay when it builds others, and
/// uploads them: any node may run them then.
pub(super) async fn upload(
    ctx: &Context,
    engine: &Projects,
    key: &StackKey,
    plan: &Plan,
    loaded: &mut Loaded,
) -> anyhow::Result<()> {
    for Image { service, id } in &plan.images {
        let name = image_name(key, service, id);
        let (repository, tag) = name.split_once(':').unwrap_or((&name, "latest"));
        engine.tag(id, repository, tag).await?;
        let shared = share(&ctx.client, &key.project, &name).await?;
        note(&format!("  {name}: {}", shared.said));
        if let Some(workload) = loaded.spec.workloads.get_mut(service) {
            workload.pin = Some(deploy::uploaded(shared.id));
        }
    }
    Ok(())
}

/// An import that is carried out.
pub(super) struct Work<'a> {
    ctx: &'a Context,
    engine: Projects,
    desk: Desk,
    plan: &'a Plan,
    journal: Journal,
    containers: BTreeMap<String, ComposeContainer>,
    timeout: Duration,
}

/// Why an import does not go on.
enum Halt {
    Failed(anyhow::Error),
    Interrupted,
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Work<'a> {
    #[allow(clippy::too_many_arguments, reason = "called once, by the command that has them all")]
    pub(super) fn new(
        ctx: &'a Context,
        engine: Projects,
        desk: Desk,
        found: &Found,
        plan: &'a Plan,
        stack: StackKey,
        socket: String,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let order = found.stop_order();
        let ran = order.iter().map(|wave| wave.iter().map(|member| Ran::of(&member.container)).collect());
        let nonce = getrandom::u64().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let journal = Journal {
            project: found.name.clone(),
            engine: socket,
            server: ctx.client.endpoint().to_string(),
            stack,
            mark: format!("# imported from the Docker Compose project {} ({nonce:016x})", found.name),
            phase: Phase::Placing,
            ran: ran.collect(),
            stopped: 0,
        };
        let all =
            order.into_iter().flatten().map(|member| (member.container.id.clone(), member.container.clone()));
        Ok(Self { ctx, engine, desk, plan, containers: all.collect(), journal, timeout })
    }

    /// Carries it out, or takes it back.
    pub(super) async fn run(mut self, spec: StackSpec, source: &str) -> anyhow::Result<ExitCode> {
        // From here on Ctrl-C is heard between steps, and within those that can be left at any time.
        drop(interrupted());
        let halt = match self.steps(spec, source).await {
            Ok(stack) => return self.finish(&stack),
            Err(halt) => halt,
        };
        let (code, why) = match halt {
            Halt::Interrupted => (INTERRUPTED, "interrupted".to_owned()),
            Halt::Failed(error) => (FAILED, clean(&format!("{error:#}"))),
        };
        note(&format!("\n{why}\nThe import of {} is taken back …", self.journal.project));
        let undone = undo::undo(self.ctx, &self.engine, &self.desk, &mut self.journal).await;
        if let Err(error) = undone {
            note(&format!(
                "error: {error:#}\n  When that is mended: `lattice import {} --undo` goes on with taking it back",
                self.journal.project
            ));
            return Ok(ExitCode::from(code));
        }
        let was = if self.journal.ran.is_empty() { "is" } else { "runs" };
        note(&format!(
            "error: {} was not imported; it {was} as before, and nothing of it was lost",
            self.journal.project
        ));
        Ok(ExitCode::from(code))
    }

    async fn steps(&mut self, spec: StackSpec, source: &str) -> Result<StackDetail, Halt> {
        self.desk.write(&self.journal)?;
        let key = self.journal.stack.clone();
        let request = DeployRequest { spec, source: Some(format!("{}\n{source}", self.journal.mark)) };
        let query = DeployQuery { dry_run: false, hold: true };
        let result = self.ctx.client.deploy(&key, &query, &request).await.map_err(anyhow::Error::from)?;
        note(&format!("{key} is made; nothing of it is started yet"));
        let placed = tokio::select! {
            placed = tokio::time::timeout(self.timeout, self.placed()) => placed,
            () = interrupted() => return Err(Halt::Interrupted),
        };
        let carriers = placed.map_err(|_| {
            anyhow::anyhow!(
                "the volumes of {key} were not there after {:?}; `lattice explain` says why",
                self.timeout
            )
        })??;
        self.stop().await?;
        for copy in &self.plan.copies {
            let carrier = carriers.get(&copy.volume).with_context(|| {
                format!("no service mounts the volume {}, so nothing can be brought into it", copy.volume)
            })?;
            tokio::select! {
                carried = carry(self.ctx, &self.engine, &self.journal.project, copy, carrier) => {
                    carried.with_context(|| format!("the data of {} was not copied", copy.source))?;
                }
                () = interrupted() => return Err(Halt::Interrupted),
            }
        }
        self.journal.phase = Phase::Starting;
        self.desk.write(&self.journal)?;
        let started = tokio::select! {
            started = start(self.ctx, &key, result.revision, self.timeout) => started?,
            () = interrupted() => return Err(Halt::Interrupted),
        };
        match started {
            Outcome::Ready(stack) | Outcome::Held(stack, _) => Ok(stack),
            Outcome::Interrupted => Err(Halt::Interrupted),
            Outcome::Failed(stack, failed) => {
                for (service, reason) in &failed {
                    note(&format!("{service}: {reason}"));
                    last_words(self.ctx, &stack, service).await;
                }
                let names: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
                Err(anyhow::anyhow!("{key} does not run as it should: {} failed", names.join(", ")).into())
            }
            Outcome::TimedOut(_) => Err(anyhow::anyhow!(
                "{key} does not run after {:?}; give it more time with --timeout",
                self.timeout
            )
            .into()),
        }
    }

    /// Waits until every volume is there, and gives an allocation for each that mounts it.
    async fn placed(&self) -> anyhow::Result<BTreeMap<VolumeName, AllocationView>> {
        loop {
            let stack = self.ctx.client.stack(&self.journal.stack).await?;
            for workload in &stack.workloads {
                if let Some(slot) = workload.pending.first() {
                    anyhow::bail!("{}#{} finds no node: {}", slot.workload, slot.slot, slot.why);
                }
            }
            let there = stack.volumes.iter().filter(|v| self.plan.copies.iter().any(|c| c.volume == v.name));
            if stack.workloads.iter().all(|w| w.state == WorkloadState::Stopped)
                && there.clone().count() == self.plan.copies.len()
                && there.clone().all(|volume| volume.state == VolumeState::Available)
            {
                let mut carriers = BTreeMap::new();
                for workload in &stack.workloads {
                    let Some(allocation) = workload.allocations.first() else { continue };
                    for mount in &workload.spec.mounts {
                        carriers.entry(mount.volume.clone()).or_insert_with(|| allocation.clone());
                    }
                }
                return Ok(carriers);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops what runs of the project. A wave that was begun is waited for: what is half stopped can
    /// not be started again.
    async fn stop(&mut self) -> Result<(), Halt> {
        self.journal.phase = Phase::Copying;
        let waves = self.journal.ran.clone();
        for (index, wave) in waves.iter().enumerate() {
            if is_pressed().await {
                return Err(Halt::Interrupted);
            }
            self.journal.stopped = index + 1;
            self.desk.write(&self.journal)?;
            let names: Vec<&str> = wave.iter().map(|ran| ran.name.as_str()).collect();
            note(&format!("stops {} …", names.join(" and ")));
            let stops = wave.iter().map(async |ran| {
                // `always` would bring it back with the engine's next start, beside the stack; with
                // `unless-stopped` it stays as it is left.
                if ran.restart == "always" {
                    self.engine.set_restart(&ran.id, "unless-stopped").await?;
                }
                match self.containers.get(&ran.id) {
                    Some(container) => self.engine.stop(container).await,
                    None => Ok(()),
                }
            });
            for (stopped, ran) in join_all(stops).await.into_iter().zip(wave) {
                stopped.with_context(|| format!("{} could not be stopped", ran.name))?;
            }
        }
        self.desk.write(&self.journal)?;
        // Somebody may have started one by hand.
        for ran in waves.iter().flatten() {
            let now = self.engine.container(&ran.id).await.map_err(anyhow::Error::from)?;
            if now.is_some_and(|container| container.is_up()) {
                return Err(anyhow::anyhow!("{} runs again: somebody started it meanwhile", ran.name).into());
            }
        }
        Ok(())
    }

    fn finish(self, stack: &StackDetail) -> anyhow::Result<ExitCode> {
        self.desk.forget()?;
        deploy::show(self.ctx, stack)?;
        let Journal { project, stack: key, ran, .. } = &self.journal;
        note(&goodbye(project, key, ran));
        Ok(ExitCode::SUCCESS)
    }
}

/// What is left, and the way back.
pub(super) fn goodbye(project: &str, key: &StackKey, ran: &[Vec<Ran>]) -> String {
    let names: Vec<&str> = ran.iter().rev().flatten().map(|ran| ran.name.as_str()).collect();
    let back = match names.is_empty() {
        true => String::new(),
        false => format!(
            "\n  the way back:  lattice rm --volumes {}, then docker start {}",
            key.stack,
            names.join(" ")
        ),
    };
    format!(
        "{project} runs as {key}. Its old containers are stopped; they and their volumes are kept.{back}\n  \
         to be rid of them:  docker compose -p {project} down  (--volumes deletes the old data, too)"
    )
}

async fn is_pressed() -> bool {
    tokio::select! {
        biased;
        () = interrupted() => true,
        () = std::future::ready(()) => false,
    }
}

/// Starts every service of a stack, and follows it.
pub(super) async fn start(
    ctx: &Context,
    key: &StackKey,
    revision: u64,
    timeout: Duration,
) -> anyhow::Result<Outcome> {
    let stack = ctx.client.stack(key).await?;
    for workload in &stack.workloads {
        ctx.client.start(&key.workload(workload.name.clone())).await?;
    }
    follow(ctx, key, revision, timeout).await
}

/// What a service wrote last, since it is about to be removed.
async fn last_words(ctx: &Context, stack: &StackDetail, service: &str) {
    let found = stack.workloads.iter().find(|workload| workload.name.as_str() == service);
    let Some(allocation) = found.and_then(|workload| workload.allocations.first()) else { return };
    let query = LogQuery { tail: Some(LAST_LINES), ..LogQuery::default() };
    let Ok(mut logs) = ctx.client.logs(&allocation.id.to_string(), &query).await else { return };
    while let Some(Ok(line)) = logs.next().await {
        let bytes = line.bytes().unwrap_or_default();
        note(&format!("  {service} | {}", clean(String::from_utf8_lossy(&bytes).trim_end())));
    }
}
