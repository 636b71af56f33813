//! `events` and `audit`.

use crate::{
    args::{AuditArgs, EventsArgs},
    commands::interrupted,
    context::Context,
    error::INTERRUPTED,
    show,
    table::{Style, Table, clean},
    terminal::{self, note},
};
use lattice_api::{
    AuditOutcome, AuditQuery, CauseKind, ErrorCode, EventQuery, EventView, ObjectKind, WatchQuery, paths,
};
use lattice_client::ClientError;
use std::{process::ExitCode, time::Duration};

/// Between two attempts to reach the server again.
const PAUSE: Duration = Duration::from_secs(1);
/// The most events that one listing gives.
const PAGE: u32 = 1000;

/// `lattice events`.
pub(crate) async fn events(ctx: &Context, args: EventsArgs) -> anyhow::Result<ExitCode> {
    let query =
        EventQuery { limit: Some(args.limit), stack: args.stack, node: args.node, ..EventQuery::default() };
    if !args.follow && ctx.is_json() {
        ctx.list_json(&paths::events(), &query).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let list = ctx.client.events(&query).await?;
    if list.items.is_empty() && !args.follow {
        note("Nothing has happened yet.");
    }
    for event in &list.items {
        print(ctx, event)?;
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let after = list.items.last().map_or(0, |event| event.id);
    tokio::select! {
        result = follow(ctx, query, after, list.revision) => result?,
        () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The watch only says that there is something: each time, what is new is listed. So nothing is
/// lost or shown twice, whatever happens to the watch.
async fn follow(ctx: &Context, query: EventQuery, mut after: u64, mut revision: u64) -> anyhow::Result<()> {
    loop {
        let mut watch = match ctx.client.watch(&WatchQuery::of(Some(revision), &[ObjectKind::Event])).await {
            Ok(watch) => Some(watch),
            Err(error) if is_passing(&error) => None,
            Err(error) => return Err(error.into()),
        };
        loop {
            let more = match &mut watch {
                Some(watch) => matches!(watch.next().await, Some(Ok(_))),
                None => false,
            };
            if !more {
                tokio::time::sleep(PAUSE).await;
            }
            let query = EventQuery { after: Some(after), limit: Some(PAGE), ..query.clone() };
            match ctx.client.events(&query).await {
                Ok(list) => {
                    for event in &list.items {
                        print(ctx, event)?;
                        after = after.max(event.id);
                    }
                    revision = list.revision;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if !more {
                break;
            }
        }
    }
}

/// Whether trying again can help.
pub(crate) fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Broken(_))
        || matches!(
            error.code(),
            Some(ErrorCode::Unavailable | ErrorCode::TooManyRequests | ErrorCode::TooOld)
        )
}

fn print(ctx: &Context, event: &EventView) -> anyhow::Result<()> {
    if ctx.is_json() {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        return terminal::data(line.as_bytes());
    }
    let node = event.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let cause = event.cause.as_ref().map(|cause| format!(" ({})", clean(cause))).unwrap_or_default();
    let led = event.caused_by.as_ref().filter(|by| by.kind == CauseKind::Event);
    let because = led.map(|by| format!(", because of {}", clean(&by.what))).unwrap_or_default();
    ctx.line(&format!(
        "{}  {}{node}  {}{cause}{because}",
        Style::Dim.paint(&show::time(event.at, &ctx.zone), ctx.colour),
        clean(&event.subject),
        clean(&event.message),
    ))
}

/// `lattice audit`.
pub(crate) async fn audit(ctx: &Context, args: AuditArgs) -> anyhow::Result<()> {
    let query = AuditQuery { limit: Some(args.limit), ..AuditQuery::default() };
    if ctx.is_json() {
        return ctx.list_json(&paths::audit(), &query).await;
    }
    let mut table = Table::new(&["TIME", "WHO", "ACTION", "SUBJECT", "OUTCOME", "DETAILS"]);
    for entry in ctx.client.audit(&query).await?.items {
        let outcome = match entry.outcome {
            AuditOutcome::Done => crate::table::Cell::new("done", Style::Good),
            AuditOutcome::Denied => crate::table::Cell::new("denied", Style::Bad),
            AuditOutcome::Failed => crate::table::Cell::new("failed", Style::Warn),
        };
        table.row([
            show::time(entry.at, &ctx.zone).into(),
            entry.who.into(),
            entry.action.into(),
            entry.subject.into(),
            outcome,
            entry.details.into(),
        ]);
    }
    ctx.table(&table, "Nobody has changed anything yet.")
}
