//! `deploy` and `run`.

use crate::{
    args::{BuildOn, DeployArgs, JobRunArgs, RunArgs, WaitArgs},
    commands::{
        follow::{Outcome, follow},
        node_build::{self, Where},
        ps::stack_table,
    },
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    parse,
    project::{Project, build, pack_all, planned, share, tag},
    table::{Style, clean},
    terminal::{self, note},
};
use anyhow::Context as _;
use lattice_api::{
    Change, ChangeKind, ChangedThing, DeployQuery, DeployRequest, DeployResult, RunRequest, StackDetail,
};
use lattice_compose::{Loaded, normalize_project_name};
use lattice_model::{
    Bytes, Duration, NetworkName, SecretName, StackKey, StackName,
    spec::{Attachment, ImageDigest, ImagePin, ImageSource, RestartPolicy, WorkloadSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    process::ExitCode,
};

/// `lattice deploy`.
pub(crate) async fn deploy(ctx: &Context, args: DeployArgs) -> anyhow::Result<ExitCode> {
    let Project { mut loaded, source, folder } = Project::read(&args.project, !args.no_build)?;
    let key = StackKey { project: ctx.project_or_default(), stack: loaded.name.clone() };
    let on = args.build_on.as_ref();
    let parts = Parts::prepare(ctx, &key, &mut loaded, &folder, on, args.dry_run).await?;
    let request = DeployRequest { spec: loaded.spec, source: Some(source) };
    let result =
        ctx.client.deploy(&key, &DeployQuery { dry_run: args.dry_run, hold: false }, &request).await?;
    let plan = plan(&result, terminal::colours(&std::io::stderr()));
    if args.dry_run {
        // Here the plan is what was asked for.
        if ctx.is_json() {
            ctx.json(&result)?;
        } else {
            terminal::data(format!("{}{plan}", parts.0).as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    terminal::note_raw(plan.as_bytes());
    finish(ctx, &key, &result, &args.wait).await
}

/// What was done before the deployment, or in a dry run would be: a line for each.
pub(crate) struct Parts(pub(crate) String);

impl Parts {
    /// Builds and uploads images, uploads files and sets secrets; in a dry run it only says so.
    pub(crate) async fn prepare(
        ctx: &Context,
        key: &StackKey,
        loaded: &mut Loaded,
        folder: &Path,
        build_on: Option<&BuildOn>,
        dry_run: bool,
    ) -> anyhow::Result<Self> {
        let mut lines = String::new();
        let would = if dry_run { "would be " } else { "" };
        let place = match loaded.builds.is_empty() || dry_run {
            true => Where::Here,
            false => node_build::choose(build_on).await,
        };
        for (service, how) in &loaded.builds {
            let (image, pin) = if dry_run {
                (planned(&key.stack, service), None)
            } else if let Where::Node(node) = &place {
                let pool = loaded
                    .spec
                    .workloads
                    .get(service)
                    .map(|workload| workload.pool.clone())
                    .unwrap_or_default();
                let built =
                    node_build::build(ctx, &key.project, service, (folder, how), pool, node.clone()).await?;
                let (view, said) = built;
                let image = tag(&key.stack, service, &view.id.hex());
                let _ = writeln!(lines, "  {image}: {said}");
                (image, Some(uploaded(view.id)))
            } else {
                let (folder, stack, service, how) =
                    (folder.to_owned(), key.stack.clone(), service.clone(), how.clone());
                let built = tokio::task::spawn_blocking(move || build(&folder, &stack, &service, &how));
                let image = built.await.context("the build ended early")??.image;
                let shared = share(&ctx.client, &key.project, &image).await?;
                let _ = writeln!(lines, "  {image}: {}", shared.said);
                (image, Some(uploaded(shared.id)))
            };
            let _ = writeln!(lines, "  {service}: {image} {would}built from {}", shown(&how.context));
            if let Some(workload) = loaded.spec.workloads.get_mut(service) {
                (workload.image, workload.pin) = (image, pin);
            }
        }
        let (place, mut project) = (folder.to_owned(), loaded.clone());
        let packed =
            tokio::task::spawn_blocking(move || pack_all(&place, &mut project).map(|p| (p, project)));
        let (packed, project) = packed.await.context("packing ended early")??;
        *loaded = project;
        for (what, tree) in packed {
            let there = ctx.client.has_tree(&key.project, tree.digest).await?;
            let (size, short) = (Bytes(tree.summary.bytes), tree.digest.short());
            let state = if there { "there already".to_owned() } else { format!("{would}uploaded") };
            let _ = writeln!(lines, "  {what}: {short}, {size}, {state}");
            match (there, dry_run) {
                (true, _) => {}
                (false, false) => drop(ctx.client.put_tree(&key.project, tree.digest, tree.archive).await?),
                // The server plans with what it has.
                (false, true) => loaded
                    .spec
                    .workloads
                    .values_mut()
                    .for_each(|workload| workload.trees.retain(|mount| mount.tree != tree.digest)),
            }
        }
        let known: BTreeMap<SecretName, u64> = if loaded.secrets.is_empty() {
            BTreeMap::new()
        } else {
            let list = ctx.client.secrets(&key.project).await?;
            list.items.into_iter().map(|secret| (secret.name, secret.version)).collect()
        };
        for secret in std::mem::take(&mut loaded.secrets) {
            let before = known.get(&secret.name).copied();
            let mut said = format!("{would}set from {}", secret.from);
            if !dry_run {
                // The same value again changes nothing.
                let view = ctx.client.set_secret(&key.project, &secret.name, secret.value).await?;
                if before == Some(view.version) {
                    said = "is unchanged".to_owned();
                }
            } else if before.is_none() {
                for workload in loaded.spec.workloads.values_mut() {
                    workload.secrets.retain(|mount| mount.secret != secret.name);
                }
            }
            let _ = writeln!(lines, "  secret {} {said}", secret.name);
        }
        if !dry_run {
            terminal::note_raw(clean_lines(&lines).as_bytes());
        }
        Ok(Self(clean_lines(&lines)))
    }
}

/// An image that the server has, by its digest.
pub(crate) const fn uploaded(digest: ImageDigest) -> ImagePin {
    // What it is made for, the server reads in it.
    ImagePin { from: ImageSource::Server, digest, platforms: BTreeSet::new() }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn clean_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", clean(line))).collect()
}

/// `lattice run`.
pub(crate) async fn run(ctx: &Context, args: RunArgs) -> anyhow::Result<ExitCode> {
    let wait = args.wait.clone();
    let (key, request) = run_request(ctx, args)?;
    let result = ctx.client.run(&request).await?;
    terminal::note_raw(plan(&result, terminal::colours(&std::io::stderr())).as_bytes());
    finish(ctx, &key, &result, &wait).await
}

/// What is asked for by flags.
fn run_request(ctx: &Context, args: RunArgs) -> anyhow::Result<(StackKey, RunRequest)> {
    let name = match args.name {
        Some(name) => name,
        None => {
            made_up_name(&args.image, getrandom::u32().map_err(|e| anyhow::anyhow!("no randomness: {e}"))?)?
        }
    };
    let mut spec = WorkloadSpec::of_image(args.image);
    spec.environment =
        parse::environment(&args.env, |name| std::env::var(name).ok()).map_err(CliError::Usage)?;
    spec.command = (!args.command.is_empty()).then_some(args.command);
    spec.ports = args.publish;
    spec.restart = args.restart;
    spec.resources.memory_limit = args.memory;
    spec.resources.cpu_limit = args.cpus;
    spec.pool = args.pool.unwrap_or_default();
    spec.networks.insert(NetworkName::new("default")?, Attachment::default());
    let key = StackKey { project: ctx.project_or_default(), stack: name.clone() };
    let request = RunRequest { project: Some(key.project.clone()), name, spec };
    Ok((key, request))
}

/// Deploys one image as a job, and does not wait for it.
pub(crate) async fn start_job(ctx: &Context, args: JobRunArgs) -> anyhow::Result<StackKey> {
    let JobRunArgs { name, env, retries, memory, cpus, pool, keep: _, detach: _, image, command } = args;
    let restart = match retries {
        0 => RestartPolicy::Never,
        times => RestartPolicy::OnFailure { max_retries: Some(times) },
    };
    let wait = WaitArgs { wait: false, no_wait: true, timeout: Duration::from_secs(0) };
    let args = RunArgs { name, env, publish: Vec::new(), restart, memory, cpus, pool, wait, image, command };
    let (key, request) = run_request(ctx, args)?;
    let result = ctx.client.run(&request).await?;
    for warning in &result.warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(key)
}

/// `nginx-3f2a` for `registry.example/team/nginx:1.27`.
fn made_up_name(image: &str, random: u32) -> anyhow::Result<StackName> {
    let last = image.rsplit('/').next().unwrap_or_default();
    let base = last.split(['@', ':']).next().unwrap_or_default();
    let base: String = normalize_project_name(base).chars().take(40).collect();
    let base = if base.is_empty() { "run".into() } else { base };
    Ok(StackName::new(format!("{base}-{:04x}", random & 0xffff))?)
}

/// What a deployment changes, as people read it.
pub(crate) fn plan(result: &DeployResult, colour: bool) -> String {
    let mut text = String::new();
    let mut line = |style: Style, line: String| {
        text.push_str(&style.paint(&clean(&line), colour));
        text.push('\n');
    };
    let (verb, key) =
        (if result.dry_run { "would become" } else { "is" }, format!("{}/{}", result.project, result.stack));
    line(Style::Plain, format!("{key} {verb} version {}", result.version));
    let mut changes: Vec<&Change> = result.changes.iter().collect();
    changes.sort_by_key(|change| (change.what, change.name.as_str()));
    let mut unchanged = 0;
    for change in changes {
        let (sign, style) = match change.kind {
            ChangeKind::Create => ('+', Style::Good),
            ChangeKind::Update => ('~', Style::Warn),
            ChangeKind::Remove => ('-', Style::Bad),
            ChangeKind::Unchanged => {
                unchanged += 1;
                continue;
            }
        };
        let what = match change.what {
            ChangedThing::Workload => "service",
            ChangedThing::Volume => "volume",
            ChangedThing::Network => "network",
        };
        line(style, format!("  {sign} {what} {}", change.name));
        for detail in &change.details {
            line(Style::Dim, format!("      {detail}"));
        }
    }
    if unchanged > 0 {
        line(Style::Dim, format!("    {unchanged} unchanged"));
    }
    if result.dry_run {
        for placement in &result.placements {
            line(
                Style::Plain,
                format!(
                    "  {}#{} on {}: {}",
                    placement.workload, placement.slot, placement.node, placement.why
                ),
            );
        }
    }
    for slot in result.pending.iter().filter(|slot| !slot.turn) {
        let hint = if slot.hint.is_empty() { String::new() } else { format!(" ({})", slot.hint) };
        line(Style::Warn, format!("  {}#{} finds no node: {}{hint}", slot.workload, slot.slot, slot.why));
    }
    for warning in &result.warnings {
        line(Style::Warn, format!("  warning: {warning}"));
    }
    text
}

/// Follows a deployment to its end, and shows what came of it.
pub(super) async fn finish(
    ctx: &Context,
    key: &StackKey,
    result: &DeployResult,
    wait: &WaitArgs,
) -> anyhow::Result<ExitCode> {
    if wait.no_wait {
        note(&format!("`lattice ps {}` shows how it fares", key.stack));
        if ctx.is_json() {
            ctx.json(result)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    match follow(ctx, key, result.revision, wait.timeout.as_std()).await? {
        Outcome::Ready(stack) => {
            show(ctx, &stack)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Held(stack, held) => {
            show(ctx, &stack)?;
            for (service, why) in &held {
                note(&format!("{service}: {why}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Failed(stack, failed) => {
            show(ctx, &stack)?;
            for (service, reason) in &failed {
                note(&format!(
                    "{service}: {reason}\n  `lattice logs {}/{service}` shows what it wrote, `lattice explain {}/{service}` why",
                    key.stack, key.stack
                ));
            }
            let names: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
            note(&format!("error: {key} does not run as it should: {} failed", names.join(", ")));
            Ok(ExitCode::from(FAILED))
        }
        Outcome::TimedOut(stack) => {
            if let Some(stack) = &stack {
                show(ctx, stack)?;
            }
            note(&format!(
                "error: {key} is not ready after {}. The deployment goes on: `lattice ps {}` shows it, `lattice explain SERVICE` says what it waits for",
                wait.timeout, key.stack
            ));
            Ok(ExitCode::from(FAILED))
        }
        Outcome::Interrupted => {
            note(&format!(
                "\nThe deployment of {key} goes on. `lattice ps {0}` shows it, `lattice rm {0}` takes it back",
                key.stack
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

pub(crate) fn show(ctx: &Context, stack: &StackDetail) -> anyhow::Result<()> {
    if ctx.is_json() {
        ctx.json(stack)
    } else {
        ctx.table(&stack_table(&stack.workloads), "The stack has no service.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_api::{PendingSlot, Placement};

    #[test]
    fn names_are_made_of_images() {
        for (image, name) in [
            ("nginx", "nginx-00ff"),
            ("registry.example:5000/Team/My_App:1.2@sha256:abc", "my_app-00ff"),
            ("…", "run-00ff"),
        ] {
            assert_eq!(made_up_name(image, 0xff).unwrap().as_str(), name);
        }
        assert!(made_up_name(&"x".repeat(300), 1).is_ok());
    }

    #[test]
    fn a_plan() {
        let change = |kind, what, name: &str, details: &[&str]| Change {
            kind,
            what,
            name: name.into(),
            details: details.iter().map(|d| (*d).to_owned()).collect(),
        };
        let result = DeployResult {
            project: "default".parse().unwrap(),
            stack: "shop".parse().unwrap(),
            version: 3,
            revision: 9,
            dry_run: true,
            changes: vec![
                change(ChangeKind::Unchanged, ChangedThing::Network, "default", &[]),
                change(ChangeKind::Create, ChangedThing::Volume, "data", &[]),
                change(ChangeKind::Update, ChangedThing::Workload, "web", &["image: a:1 -> a:2"]),
                change(ChangeKind::Remove, ChangedThing::Workload, "old", &[]),
            ],
            placements: vec![Placement {
                workload: "web".parse().unwrap(),
                slot: 1,
                node: "laptop".parse().unwrap(),
                why: "most free memory".into(),
            }],
            pending: vec![PendingSlot {
                workload: "web".parse().unwrap(),
                slot: 2,
                why: "1 node: memory".into(),
                hint: "add a node".into(),
                turn: false,
            }],
            warnings: vec!["port 80 is\u{1b} taken".into()],
        };
        insta::assert_snapshot!(plan(&result, false), @r"
        default/shop would become version 3
          - service old
          ~ service web
              image: a:1 -> a:2
          + volume data
            1 unchanged
          web#1 on laptop: most free memory
          web#2 finds no node: 1 node: memory (add a node)
          warning: port 80 is  taken
        ");
    }
}
