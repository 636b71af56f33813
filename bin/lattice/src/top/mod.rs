//! `top`: nodes, services, what needs attention, events and logs, live in a terminal.
//!
//! - [`state`]: what is shown and what a key does to it, without a terminal;
//! - [`draw`]: the same on a screen;
//! - here: keys, looks at the server and lines of containers come in. The watch only says when to look again.
//!
//! Rejected: keeping every object by the watch's own copies. A look costs a few milliseconds, and cannot go wrong.

mod draw;
mod state;
#[cfg(test)]
mod tests;

use crate::{
    commands::interrupted,
    context::Context,
    error::{CliError, INTERRUPTED},
    table::clean,
};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use draw::Theme;
use futures::StreamExt;
use lattice_api::{EventQuery, LogQuery, LogStream, ObjectKind, WatchQuery, WorkloadQuery};
use lattice_client::Client;
use lattice_model::AllocationId;
use ratatui::DefaultTerminal;
use state::{Ask, Key, Line, Look, Top};
use std::{process::ExitCode, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// The shortest time between two looks, however much changes.
const CALM: Duration = Duration::from_millis(300);
/// Between two tries to watch.
const PAUSE: Duration = Duration::from_secs(2);
/// Lines that wait to be drawn; then the streams wait too.
const WAITING: usize = 1024;
/// Events that are listed.
const EVENTS: u32 = 200;
/// Lines of each replica from before it was followed.
const BEFORE: u64 = 200;

/// Runs until somebody quits.
///
/// # Errors
/// [`CliError::Usage`] without a terminal; the first look's, as then there is nothing to show.
pub(crate) async fn run(ctx: &Context, every: Duration) -> anyhow::Result<ExitCode> {
    let project = ctx.project_query();
    // A wrong address or a missing right is said before the screen is taken.
    let mut top = Top::default();
    top.see(look(&ctx.client, project.clone()).await?);
    let (looks, mut looked) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_looking(ctx.client.clone(), project, every.max(CALM), looks));
    let mut terminal = ratatui::try_init()
        .map_err(|error| CliError::Usage(format!("this terminal cannot be drawn on: {error}")))?;
    let ended = live(ctx, &mut terminal, &mut top, &mut looked).await;
    ratatui::restore();
    ended
}

async fn live(
    ctx: &Context,
    terminal: &mut DefaultTerminal,
    top: &mut Top,
    looked: &mut mpsc::Receiver<Result<Look, String>>,
) -> anyhow::Result<ExitCode> {
    let mut keys = EventStream::new();
    let (sender, mut lines) = mpsc::channel(WAITING);
    let mut followers = JoinSet::new();
    loop {
        let theme = Theme { colour: ctx.colour, now: ctx.now() };
        terminal.draw(|frame| draw::draw(frame, top, theme))?;
        let ask = tokio::select! {
            () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
            event = keys.next() => match event {
                None => return Ok(ExitCode::SUCCESS),
                Some(event) => match key(&event?) {
                    Some(key) => top.press(key, draw::page(terminal.size()?.height)),
                    None => None,
                },
            },
            look = looked.recv() => {
                match look {
                    Some(Ok(look)) => top.see(look),
                    Some(Err(error)) => top.failed(error),
                    None => return Ok(ExitCode::FAILURE),
                }
                None
            }
            Some(line) = lines.recv() => {
                top.wrote(line);
                // All that waits is drawn at once: a chatty container costs no more frames than a calm one.
                while let Ok(line) = lines.try_recv() {
                    top.wrote(line);
                }
                None
            }
        };
        match ask {
            None => {}
            Some(Ask::Quit) => return Ok(ExitCode::SUCCESS),
            Some(Ask::Follow(replicas)) => {
                followers.shutdown().await;
                while lines.try_recv().is_ok() {}
                for (id, who) in replicas {
                    followers.spawn(follow(ctx.client.clone(), id, who, sender.clone()));
                }
            }
        }
    }
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) =
        event
    else {
        return None;
    };
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(c) => Key::Char(*c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        _ => return None,
    })
}

async fn look(client: &Client, project: Option<String>) -> Result<Look, lattice_client::ClientError> {
    let workloads = WorkloadQuery { project, ..WorkloadQuery::default() };
    let events = EventQuery { limit: Some(EVENTS), ..EventQuery::default() };
    let (status, nodes, workloads, alerts, events) = tokio::try_join!(
        client.status(),
        client.nodes(),
        client.workloads(&workloads),
        client.alerts(),
        client.events(&events)
    )?;
    Ok(Look {
        status,
        nodes: nodes.items,
        workloads: workloads.items,
        alerts: alerts.items,
        events: events.items,
    })
}

/// Looks again when something changed, and every so often in any case: a node's load is in no watch.
async fn keep_looking(
    client: Client,
    project: Option<String>,
    every: Duration,
    looks: mpsc::Sender<Result<Look, String>>,
) {
    let kinds = [ObjectKind::Node, ObjectKind::Workload, ObjectKind::Event];
    let mut watch = None;
    loop {
        if watch.is_none() {
            watch = client.watch(&WatchQuery::of(None, &kinds)).await.ok();
        }
        let changed = async {
            match &mut watch {
                Some(stream) => matches!(stream.next().await, Some(Ok(_))),
                None => {
                    sleep(PAUSE).await;
                    false
                }
            }
        };
        if let Ok(false) = timeout(every, changed).await {
            watch = None;
        }
        let seen = look(&client, project.clone()).await.map_err(|error| error.to_string());
        if looks.send(seen).await.is_err() {
            return;
        }
        sleep(CALM).await;
    }
}

/// What a replica writes, until nobody wants it any more.
async fn follow(client: Client, id: AllocationId, who: String, sender: mpsc::Sender<Line>) {
    let query = LogQuery { follow: true, tail: Some(BEFORE), ..LogQuery::default() };
    let line = |text: &str, stderr| Line { who: who.clone(), text: clean(text), stderr };
    let mut stream = match client.logs(&id.to_string(), &query).await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = sender.send(line(&error.to_string(), true)).await;
            return;
        }
    };
    while let Some(next) = stream.next().await {
        let said = match next {
            Ok(written) => {
                let bytes = written.bytes().unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
                line(&text, written.stream == LogStream::Stderr)
            }
            Err(error) => line(&error.to_string(), true),
        };
        if sender.send(said).await.is_err() {
            return;
        }
    }
    let _ = sender
        .send(line("the container has ended, or the stream with it; press l to follow again", true))
        .await;
}
