//! `job`: services that end by themselves, with what each run came to.

use crate::{
    args::{HistoryArgs, JobCommand, JobRunArgs, LogsArgs},
    commands::{deploy, interrupted, logs},
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    resolve, show,
    table::{Cell, Style, Table, cut},
    terminal::note,
};
use lattice_api::{
    AllocationView, DeleteStackQuery, JobRunQuery, JobRunView, WorkloadQuery, WorkloadState, WorkloadView,
    paths,
};
use lattice_model::{StackKey, Timestamp, WorkloadKey, WorkloadName, spec::RestartPolicy};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// Between two looks at a job that runs.
const LOOK: Duration = Duration::from_millis(300);

/// `lattice job`.
pub(crate) async fn run(ctx: &Context, command: JobCommand) -> anyhow::Result<ExitCode> {
    match command {
        JobCommand::Ls => list(ctx).await.map(|()| ExitCode::SUCCESS),
        JobCommand::History(args) => history(ctx, &args).await.map(|()| ExitCode::SUCCESS),
        JobCommand::Pause(args) => hold(ctx, &args.service, true).await,
        JobCommand::Resume(args) => hold(ctx, &args.service, false).await,
        JobCommand::Rerun(args) => rerun(ctx, &args.service, args.no_wait).await,
        JobCommand::Run(args) => once(ctx, args).await,
    }
}

fn is_job(workload: &WorkloadView) -> bool {
    workload.spec.restart != RestartPolicy::Always
}

async fn list(ctx: &Context) -> anyhow::Result<()> {
    let query = WorkloadQuery { project: ctx.project_query(), stack: None };
    let mut jobs = ctx.client.workloads(&query).await?.items;
    jobs.retain(is_job);
    if ctx.is_json() {
        return ctx.json(&jobs);
    }
    let query = JobRunQuery { project: ctx.project_query(), limit: Some(1000), ..JobRunQuery::default() };
    let runs = ctx.client.job_runs(&query).await?.items;
    let mut last: BTreeMap<WorkloadKey, &JobRunView> = BTreeMap::new();
    for run in &runs {
        last.insert(key_of(run), run);
    }
    let mut table =
        Table::new(&["JOB", "STATE", "SCHEDULE", "NEXT DUE", "LAST RUN", "EXIT CODE", "TOOK", "NODE"]);
    for job in &jobs {
        let key = resolve::workload_key(job);
        let mut row: Vec<Cell> =
            vec![name(&key).into(), Cell::new(job.state.as_str(), show::workload_style(job.state))];
        row.extend(times(ctx, job));
        match last.get(&key) {
            Some(run) => row.extend(cells(ctx, run)),
            None => row.push(Cell::new("none yet", Style::Dim)),
        }
        table.row(row);
    }
    ctx.table(&table, "There is no job; `lattice job run IMAGE COMMAND` runs one.")
}

async fn history(ctx: &Context, args: &HistoryArgs) -> anyhow::Result<()> {
    let key = resolve::workload(&ctx.workload_keys().await?, &args.service, ctx.project())?;
    let query = query_of(&key, args.limit);
    if ctx.is_json() {
        let path = if args.missed { paths::missed_runs() } else { paths::job_runs() };
        return ctx.list_json(&path, &query).await;
    }
    let missed = ctx.client.missed_runs(&query).await?.items;
    let runs = if args.missed { Vec::new() } else { ctx.client.job_runs(&query).await?.items };
    let mut rows: Vec<(Timestamp, Vec<Cell>)> = Vec::new();
    for run in runs {
        let mut row: Vec<Cell> = vec![format!("#{}", run.slot).into(), due(ctx, &run).into()];
        row.extend(cells(ctx, &run));
        let reason = run.reason.as_deref().filter(|_| !run.is_success()).unwrap_or_default();
        row.push(Cell::new(cut(reason, 72), Style::Dim));
        rows.push((run.ended_at, row));
    }
    for one in missed {
        let count = format!("{}{} missed", one.count, if one.more { "+" } else { "" });
        let what = if one.count == 1 { "missed".to_owned() } else { count };
        let mut row: Vec<Cell> = vec!["".into(), show::time(one.last, &ctx.zone).into(), "".into()];
        row.extend([Cell::new(what, Style::Warn), "".into(), "".into()]);
        row.push(Cell::new(cut(&one.reason, 120), Style::Dim));
        rows.push((one.at, row));
    }
    rows.sort_by_key(|(at, _)| *at);
    let mut table = Table::new(&["REPLICA", "DUE", "ENDED", "EXIT CODE", "TOOK", "NODE", "WHY"]);
    rows.into_iter().for_each(|(_, row)| table.row(row));
    ctx.table(&table, if args.missed { "It has missed nothing." } else { "It has not ended yet." })
}

/// When a run was due, and how late it was.
fn due(ctx: &Context, run: &JobRunView) -> String {
    let Some(due) = run.due else { return String::new() };
    let late = run.late.filter(|late| *late >= lattice_model::Duration::from_secs(1));
    let late = late.map(|late| format!(", {late} late")).unwrap_or_default();
    format!("{}{late}", show::time(due, &ctx.zone))
}

/// The schedule of a job, and when it is due next.
fn times(ctx: &Context, job: &WorkloadView) -> [Cell; 2] {
    let (Some(schedule), Some(table)) = (&job.spec.schedule, &job.timetable) else {
        return ["".into(), "".into()];
    };
    let zone = if schedule.zone == "UTC" { String::new() } else { format!(" {}", schedule.zone) };
    let next = match (&table.paused, schedule.suspended, table.next) {
        (Some(paused), _, _) => Cell::new(format!("paused by {}", paused.by), Style::Warn),
        (None, true, _) => Cell::new("suspended", Style::Warn),
        (None, false, Some(next)) => show::time(next, &ctx.zone).into(),
        (None, false, None) => "".into(),
    };
    [format!("{}{zone}", schedule.cron).into(), next]
}

/// `lattice job pause` and `resume`.
async fn hold(ctx: &Context, service: &str, pause: bool) -> anyhow::Result<ExitCode> {
    let key = resolve::workload(&ctx.workload_keys().await?, service, ctx.project())?;
    let job = match pause {
        true => ctx.client.pause_schedule(&key).await?,
        false => ctx.client.resume_schedule(&key).await?,
    };
    if ctx.is_json() {
        ctx.json(&job)?;
        return Ok(ExitCode::SUCCESS);
    }
    let next = job.timetable.and_then(|table| table.next).map(|next| show::time(next, &ctx.zone));
    note(&match (pause, next) {
        (false, Some(next)) => format!("the schedule of {} goes on; it is due next at {next}", name(&key)),
        (false, None) => format!("the schedule of {} goes on", name(&key)),
        (true, _) => {
            format!("the schedule of {0} is held; `lattice job resume {0}` lets it go on", name(&key))
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// When it ended, its exit code, how long it took, where.
fn cells(ctx: &Context, run: &JobRunView) -> [Cell; 4] {
    let style = if run.is_success() { Style::Good } else { Style::Bad };
    [
        show::time(run.ended_at, &ctx.zone).into(),
        Cell::new(run.exit_code.map_or_else(|| "unknown".into(), |code| code.to_string()), style),
        run.ended_at.since(run.started_at).to_string().into(),
        run.node.as_str().into(),
    ]
}

fn key_of(run: &JobRunView) -> WorkloadKey {
    let JobRunView { project, stack, workload, .. } = run.clone();
    WorkloadKey { project, stack, workload }
}

fn name(key: &WorkloadKey) -> String {
    let name = format!("{}/{}", key.stack, key.workload);
    if key.project == lattice_model::ProjectName::default_project() { name } else { key.to_string() }
}

fn query_of(key: &WorkloadKey, limit: u32) -> JobRunQuery {
    JobRunQuery {
        project: Some(key.project.to_string()),
        stack: Some(key.stack.to_string()),
        workload: Some(key.workload.to_string()),
        limit: Some(limit),
    }
}

/// The number of the newest run of a job; 0 where there is none.
async fn newest(ctx: &Context, key: &WorkloadKey) -> anyhow::Result<u64> {
    Ok(ctx.client.job_runs(&query_of(key, 1)).await?.items.last().map_or(0, |run| run.id))
}

async fn rerun(ctx: &Context, service: &str, no_wait: bool) -> anyhow::Result<ExitCode> {
    let key = resolve::workload(&ctx.workload_keys().await?, service, ctx.project())?;
    let job = ctx.client.workload(&key).await?;
    if !is_job(&job) {
        let text =
            format!("{key} is no job: it is started again whenever it ends; `lattice restart` restarts it");
        return Err(CliError::Failed(text).into());
    }
    let before = newest(ctx, &key).await?;
    ctx.client.restart(&key).await?;
    if no_wait {
        note(&format!("{key} runs again; `lattice job history {}` shows what comes of it", name(&key)));
        return Ok(ExitCode::SUCCESS);
    }
    ended(ctx, &key, before, job.replicas).await
}

/// `lattice job run`: to the end, with what it writes, and with its exit code.
async fn once(ctx: &Context, args: JobRunArgs) -> anyhow::Result<ExitCode> {
    let (keep, detach) = (args.keep, args.detach);
    let key: StackKey = deploy::start_job(ctx, args).await?;
    let workload = key.workload(WorkloadName::new(key.stack.as_str())?);
    if detach {
        note(&format!("`lattice job history {}` shows what comes of it", name(&workload)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = started(ctx, &workload).await?;
    if code == ExitCode::SUCCESS {
        let target = workload.to_string();
        let args = LogsArgs { follow: true, tail: None, since: None, timestamps: false, target };
        if let Err(error) = logs::logs(ctx, args).await {
            note(&format!("what it wrote cannot be read: {error}"));
        }
        code = ended(ctx, &workload, 0, 1).await?;
    }
    if keep || code == ExitCode::from(INTERRUPTED) {
        note(&format!("`lattice rm {}` removes it", key.stack));
    } else {
        ctx.client.delete_stack(&key, &DeleteStackQuery { volumes: false }).await?;
    }
    Ok(code)
}

/// Waits until there is a container whose output can be followed, or until there will be none.
async fn started(ctx: &Context, key: &WorkloadKey) -> anyhow::Result<ExitCode> {
    let mut told = String::new();
    loop {
        let job = ctx.client.workload(key).await?;
        let has_run = |a: &AllocationView| a.status.ended_run.is_some() || a.status.started_at.is_some();
        if job.state == WorkloadState::Failed || job.allocations.iter().any(has_run) {
            return Ok(ExitCode::SUCCESS);
        }
        tell(key, &job, &mut told);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = interrupted() => return Ok(goes_on(key)),
        }
    }
}

/// Says where a job stands, when that is new.
fn tell(key: &WorkloadKey, job: &WorkloadView, told: &mut String) {
    let state = job
        .reason()
        .map_or_else(|| job.state.as_str().to_owned(), |reason| format!("{}: {reason}", job.state.as_str()));
    if state != *told {
        note(&format!("{key}: {state}"));
        *told = state;
    }
}

fn goes_on(key: &WorkloadKey) -> ExitCode {
    note(&format!("\n{key} goes on; `lattice job history {}` shows what comes of it", name(key)));
    ExitCode::from(INTERRUPTED)
}

/// Waits until each replica of a job ended once more; with the worst of their exit codes.
async fn ended(ctx: &Context, key: &WorkloadKey, after: u64, replicas: u32) -> anyhow::Result<ExitCode> {
    // Right after it was asked to run again, its state is that of the run before.
    let (mut told, mut begun) = (String::new(), after == 0);
    loop {
        let runs = ctx.client.job_runs(&query_of(key, 1000)).await?.items;
        let job = ctx.client.workload(key).await?;
        let done: BTreeMap<u32, &JobRunView> =
            runs.iter().filter(|run| run.id > after).map(|run| (run.slot, run)).collect();
        // Between two attempts it is not over, whatever the last one came to.
        let over =
            matches!(job.state, WorkloadState::Completed | WorkloadState::Failed | WorkloadState::Scheduled);
        begun |= !over;
        // It may fail without a run: its node's owner may not want it.
        if over && done.len() < replicas as usize && begun && job.state == WorkloadState::Failed {
            note(&format!("{key} failed: {}", job.reason().unwrap_or_default()));
            return Ok(ExitCode::from(FAILED));
        }
        if over && done.len() >= replicas as usize {
            let worst =
                done.values().map(|run| run.exit_code.unwrap_or(i64::from(FAILED))).max_by_key(|c| c.abs());
            let code = worst.unwrap_or(0);
            if ctx.is_json() {
                ctx.json(&done.values().collect::<Vec<_>>())?;
            }
            if code != 0 {
                note(&format!("{key} ended with {code}"));
            }
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
        }
        tell(key, &job, &mut told);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = interrupted() => return Ok(goes_on(key)),
        }
    }
}
