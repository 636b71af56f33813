//! `import`: a Docker Compose project of this machine becomes a stack, with the data of its volumes.
//!
//! Enter at [`import`]. The order is what keeps the data:
//!
//! 1. look: the project by its labels, its files, what will happen; ask;
//! 2. images, files and secrets go where deployments have them; the project runs on;
//! 3. the stack is deployed **held**: it has nodes, networks and empty volumes, nothing was started;
//! 4. the project's containers are stopped, whoever depends on others first. Nothing of the project
//!    is removed or written to, now or later;
//! 5. each volume is copied, read back from where it is now, and compared;
//! 6. the stack is started and followed until it runs.
//!
//! Whatever fails before the end is taken back: what the import itself made is removed, and what it
//! stopped is started again. Before each step the [`journal`] says so on disk, for a process that is
//! killed.
//!
//! | file | what |
//! |---|---|
//! | [`found`] | Compose projects out of what an engine lists; pure |
//! | [`plan`] | which data goes where, what stays, what differs; pure |
//! | [`manifest`] | what is in an archive, to be compared; pure but for its reading |
//! | [`journal`] | what was begun, on disk |
//! | [`carry`] | data on its way |
//! | [`work`], [`undo`] | the steps, and the way back |
//!
//! Rejected: taking the project's volumes over under their own names (a volume has to carry its
//! node's labels, and the way back would be gone); reading them while the project runs (a database
//! that is copied as it writes is torn).

mod carry;
mod found;
mod journal;
mod manifest;
mod plan;
mod undo;
mod work;

use crate::{
    args::{ImportArgs, ProjectArgs},
    commands::deploy,
    context::Context,
    error::CliError,
    project::{Project, engine_socket},
    table::{Cell, Style, Table},
    terminal::{self, note},
};
use anyhow::Context as _;
use found::{Found, Listed};
use journal::{Desk, Phase};
use lattice_api::{DeployQuery, DeployRequest};
use lattice_model::{Bytes, StackKey};
use lattice_runtime::docker::Projects;
use plan::{Facts, Plan, Source};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};
use work::Work;

/// Where an engine listens where nobody says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// `lattice import`.
pub(crate) async fn import(ctx: &Context, args: ImportArgs) -> anyhow::Result<ExitCode> {
    let socket = socket(&args);
    let engine = Projects::connect(&socket).await.context(
        "the Docker engine that has the project cannot be asked; start it, or name its socket with --engine",
    )?;
    let all = found::projects(engine.containers().await?, engine.volumes().await?);
    let Some(name) = &args.from else { return list(ctx, &engine, &all).await.map(|()| ExitCode::SUCCESS) };
    if !all.iter().any(|found| found.name == *name) && !journal::begun().contains(name) {
        return Err(none_of(name, &all));
    }
    let desk = Desk::take(name)?;
    if let Some(journal) = desk.read()? {
        if let Some(code) = undo::resume(ctx, &args, &socket, &engine, &desk, journal).await? {
            return Ok(code);
        }
    } else if args.undo {
        let text = format!("no import of {name} is under way, so there is nothing to take back");
        return Err(CliError::Failed(text).into());
    }
    // What was interrupted was taken back: the project is looked at as it is now.
    let all = found::projects(engine.containers().await?, engine.volumes().await?);
    let found = all.iter().find(|found| found.name == *name).ok_or_else(|| none_of(name, &all))?;
    begin(ctx, &args, socket, engine, desk, found).await
}

async fn begin(
    ctx: &Context,
    args: &ImportArgs,
    socket: String,
    engine: Projects,
    desk: Desk,
    found: &Found,
) -> anyhow::Result<ExitCode> {
    let Project { mut loaded, source, folder } = Project::read(&project_args(args, found)?, true)?;
    let key = StackKey { project: ctx.project_or_default(), stack: loaded.name.clone() };
    let plan = plan::plan(found, &loaded, &facts(&engine, found).await?, args.build);
    if !plan.problems.is_empty() {
        for problem in &plan.problems {
            note(&format!("  {}", crate::table::clean(problem)));
        }
        let text = format!("{} cannot be imported as it is now; nothing was changed", found.name);
        return Err(CliError::Failed(text).into());
    }
    // What a build would make is not known before; what the engine has is.
    let images = work::images(&engine, &key, &plan, &mut loaded, args.dry_run).await?;
    let mut dry = loaded.clone();
    let parts = deploy::Parts::prepare(ctx, &key, &mut dry, &folder, None, true).await?;
    let request = DeployRequest { spec: dry.spec, source: None };
    let result = ctx.client.deploy(&key, &DeployQuery { dry_run: true, hold: true }, &request).await?;
    say(ctx, args, found, &key, &plan, &format!("{images}{}", parts.0), &result)?;
    if let Some(slot) = result.pending.first() {
        let text =
            format!("{}#{} would find no node: {}; nothing was changed", slot.workload, slot.slot, slot.why);
        return Err(CliError::Failed(text).into());
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !terminal::confirm(&format!("Import {} as {key}?", found.name))? {
        note("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    // Built and uploaded while the project still runs.
    work::upload(ctx, &engine, &key, &plan, &mut loaded).await?;
    deploy::Parts::prepare(ctx, &key, &mut loaded, &folder, None, false).await?;
    let timeout = args.timeout.as_std();
    Work::new(ctx, engine, desk, found, &plan, key, socket, timeout)?.run(loaded.spec, &source).await
}

/// Where the project's engine listens.
fn socket(args: &ImportArgs) -> String {
    let host = || std::env::var("DOCKER_HOST").ok().filter(|host| host.starts_with("unix://"));
    let agents = || engine_socket().map(|path| path.display().to_string());
    let named = args.engine.clone().or_else(host).or_else(agents).unwrap_or_else(|| SOCKET.to_owned());
    named.strip_prefix("unix://").unwrap_or(&named).to_owned()
}

/// What is read in place of the project's own `docker compose` command line.
fn project_args(args: &ImportArgs, found: &Found) -> anyhow::Result<ProjectArgs> {
    let own = args.files.is_empty();
    let files = if own { found.files.clone() } else { args.files.clone() };
    let gone: Vec<String> =
        files.iter().filter(|file| !file.exists()).map(|file| file.display().to_string()).collect();
    if files.is_empty() || (own && !gone.is_empty()) {
        let which = match &gone[..] {
            [] => "its containers do not say which Compose files it was started with".to_owned(),
            gone => format!("its Compose files are not there any more ({})", gone.join(", ")),
        };
        let name = &found.name;
        let text = format!("{name}: {which}; name them: `lattice import {name} -f compose.yaml`");
        return Err(CliError::Usage(text).into());
    }
    let env_files = if args.env_files.is_empty() { found.env_files.clone() } else { args.env_files.clone() };
    let env_files = if args.env_files.is_empty() {
        env_files.into_iter().filter(|file| file.exists()).collect()
    } else {
        env_files
    };
    let folder = found.folder.clone().filter(|folder| own && folder.is_dir());
    let name = args.stack.as_ref().map_or_else(|| found.name.clone(), ToString::to_string);
    Ok(ProjectArgs {
        files,
        name: Some(name),
        env_files,
        profiles: args.profiles.clone(),
        project_directory: folder,
    })
}

/// What the engine knows of the project's volumes.
async fn facts(engine: &Projects, found: &Found) -> anyhow::Result<Facts> {
    let mut facts = Facts { sizes: sizes(engine).await, ..Facts::default() };
    for volume in found.all_volumes() {
        facts.users.insert(volume.to_owned(), engine.users(volume).await?);
    }
    Ok(facts)
}

/// How large volumes are; an engine that cannot count them in time stands in nobody's way.
async fn sizes(engine: &Projects) -> BTreeMap<String, u64> {
    engine.sizes().await.unwrap_or_else(|error| {
        note(&format!("warning: how large the volumes are is not known: {error}"));
        BTreeMap::new()
    })
}

fn none_of(name: &str, all: &[Found]) -> anyhow::Error {
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    let hint = match &names[..] {
        [] => "no container or volume on this engine was made by Docker Compose".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    CliError::NotFound { what: "Compose project", name: name.to_owned(), hint }.into()
}

/// `lattice import` without a name.
async fn list(ctx: &Context, engine: &Projects, all: &[Found]) -> anyhow::Result<()> {
    let sizes = sizes(engine).await;
    let exists = |path: &Path| path.exists();
    if ctx.is_json() {
        let listed: Vec<Listed<'_>> = all.iter().map(|found| Listed::of(found, &sizes, &exists)).collect();
        return ctx.json(&listed);
    }
    let begun = journal::begun();
    let mut table = Table::new(&["PROJECT", "STATE", "SERVICES", "VOLUMES", "COMPOSE FILES"]);
    for found in all {
        let volumes = found.all_volumes();
        let bytes: u64 = volumes.iter().filter_map(|name| sizes.get(*name)).sum();
        let known = volumes.iter().any(|name| sizes.contains_key(*name));
        let size = if known { format!(" ({})", Bytes(bytes)) } else { String::new() };
        let gone = found.files.iter().find(|file| !file.exists());
        let files = match gone {
            Some(gone) => Cell::new(format!("{} is not there", gone.display()), Style::Bad),
            None if found.files.is_empty() => Cell::new("unknown; -f names them", Style::Warn),
            None => found
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
                .into(),
        };
        let state = if begun.contains(&found.name) {
            Cell::new("an import was interrupted", Style::Bad)
        } else {
            found.state().into()
        };
        table.row([
            found.name.as_str().into(),
            state,
            found.services().len().to_string().into(),
            format!("{}{size}", volumes.len()).into(),
            files,
        ]);
    }
    ctx.table(
        &table,
        "No container or volume on this engine was made by Docker Compose; --engine names another one.",
    )?;
    if let Some(first) = all.first() {
        note(&format!(
            "\n`lattice import {} --dry-run` says what an import would do; without --dry-run it asks first.",
            first.name
        ));
    }
    Ok(())
}

/// Says what will happen; in a dry run that is what was asked for.
fn say(
    ctx: &Context,
    args: &ImportArgs,
    found: &Found,
    key: &StackKey,
    plan: &Plan,
    parts: &str,
    result: &lattice_api::DeployResult,
) -> anyhow::Result<()> {
    if args.dry_run && ctx.is_json() {
        return ctx.json(&serde_json::json!({ "project": found.name, "import": plan, "deploy": result }));
    }
    let (from, bytes) = (found.folder.clone().unwrap_or_else(|| PathBuf::from(".")), plan.bytes());
    let mut text =
        format!("{} ({}, of {}) is imported as {key}\n", found.name, found.state(), from.display());
    text.push_str(&plan.lines(found));
    text.push_str(parts);
    text.push_str(&deploy::plan(result, false));
    let down = plan.stop.iter().any(|wave| !wave.is_empty());
    if down {
        let folders = plan.copies.iter().any(|copy| matches!(copy.source, Source::Folder(_)));
        let unknown = folders || plan.copies.iter().any(|copy| copy.bytes.is_none());
        let much = if unknown { format!("at least {bytes}") } else { bytes.to_string() };
        text.push_str(&format!(
            "{} is down from its stop until {key} runs: {much} are copied, read back and compared meanwhile\n",
            found.name
        ));
    }
    text.push_str(&format!(
        "nothing of {} is removed; should anything fail, it is started again\n",
        found.name
    ));
    match args.dry_run {
        true => terminal::data(text.as_bytes()),
        false => {
            terminal::note_raw(text.as_bytes());
            Ok(())
        }
    }
}

/// How an import of this phase is spoken of.
fn stage(phase: Phase) -> &'static str {
    match phase {
        Phase::Placing => "before anything of the project was stopped",
        Phase::Copying => "while its data was copied",
        Phase::Starting => "when its data was copied and compared, and the stack was being started",
    }
}
