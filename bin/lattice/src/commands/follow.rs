//! Follows a stack until it is as it should be: live lines on a terminal, one line per change
//! elsewhere. The watch only says when to look again.

use crate::{
    commands::{events::is_passing, interrupted},
    context::Context,
    progress::{self, Progress, Verdict},
    terminal::{self, note},
};
use lattice_api::{ObjectKind, StackDetail, WatchItem, WatchOp, WatchQuery};
use lattice_client::WatchStream;
use lattice_model::StackKey;
use std::{io::IsTerminal, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// The longest time without a look, should the watch miss or say nothing.
const LOOK: Duration = Duration::from_secs(2);
/// The shortest time between two looks.
const CALM: Duration = Duration::from_millis(50);
/// How long a container without a health check has to run before it counts: many end at once.
const STEADY: Duration = Duration::from_secs(1);

/// How following ended.
pub(crate) enum Outcome {
    /// Everything is as it should be.
    Ready(StackDetail),
    /// These services wait for a person: paused, or to be promoted.
    Held(StackDetail, Vec<(String, String)>),
    /// These services will not get there by themselves.
    Failed(StackDetail, Vec<(String, String)>),
    /// The time is up; the last that was seen.
    TimedOut(Option<StackDetail>),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Follows the stack from a revision on.
pub(crate) async fn follow(
    ctx: &Context,
    key: &StackKey,
    revision: u64,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let mut screen = Screen::new();
    let mut last = None;
    let followed = async {
        let mut progress = Progress::default();
        let mut watch = None;
        let mut steady = None;
        loop {
            let (looked, mut look) = (Instant::now(), LOOK);
            match ctx.client.stack(key).await {
                Ok(stack) => {
                    let verdict = progress.step(&stack);
                    screen.show(progress::lines(&stack, screen.colour));
                    match verdict {
                        Verdict::Ready => {
                            let unproven = progress.unproven(&stack);
                            let since = match steady.take() {
                                Some((same, since)) if same == unproven => since,
                                _ => looked,
                            };
                            let left = STEADY.saturating_sub(looked - since);
                            if unproven.is_empty() || left.is_zero() {
                                return Ok(Outcome::Ready(stack));
                            }
                            (look, last, steady) = (left, Some(stack), Some((unproven, since)));
                        }
                        Verdict::Held(held) => return Ok(Outcome::Held(stack, held)),
                        Verdict::Failed(failed) => return Ok(Outcome::Failed(stack, failed)),
                        Verdict::Waiting => last = Some(stack),
                    }
                }
                Err(error) if is_passing(&error) => screen.show(vec![format!("  {error}")]),
                Err(error) => return Err(anyhow::Error::from(error)),
            }
            if watch.is_none() {
                let kinds = [ObjectKind::Workload, ObjectKind::Allocation];
                watch = ctx.client.watch(&WatchQuery::of(Some(revision), &kinds)).await.ok();
            }
            if let Ok(false) = timeout(look, change(&mut watch, key)).await {
                watch = None;
                sleep(LOOK).await;
            }
            sleep(CALM.saturating_sub(looked.elapsed())).await;
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(limit, followed) => outcome.ok(),
        () = interrupted() => Some(Ok(Outcome::Interrupted)),
    };
    outcome.unwrap_or_else(|| Ok(Outcome::TimedOut(last)))
}

/// Waits for a change of the stack; false when the watch has ended.
async fn change(watch: &mut Option<WatchStream>, key: &StackKey) -> bool {
    let Some(watch) = watch else { return false };
    while let Some(item) = watch.next().await {
        match item {
            Ok(WatchItem::Change(event)) => {
                let is = |field: &str, name: &str| {
                    event.object.as_ref().and_then(|o| o.get(field)).and_then(|v| v.as_str()) == Some(name)
                };
                // A deletion has no object to look at.
                if event.op == WatchOp::Delete
                    || (is("stack", key.stack.as_str()) && is("project", key.project.as_str()))
                {
                    return true;
                }
            }
            Ok(WatchItem::Bookmark(_)) => {}
            Err(_) => return false,
        }
    }
    false
}

/// The lines on stderr.
struct Screen {
    live: bool,
    colour: bool,
    shown: Vec<String>,
}

impl Screen {
    fn new() -> Self {
        let stderr = std::io::stderr();
        let colour = terminal::colours(&stderr);
        // A terminal that knows no colours knows no cursor either; NO_COLOR says nothing of that.
        let live = stderr.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { live, colour, shown: Vec::new() }
    }

    fn show(&mut self, lines: Vec<String>) {
        if lines == self.shown {
            return;
        }
        if self.live {
            let columns = terminal::size().map_or(usize::MAX, |size| usize::from(size.cols));
            let mut text = String::new();
            if !self.shown.is_empty() {
                text.push_str(&format!("\x1b[{}A\x1b[J", self.shown.len()));
            }
            for line in &lines {
                // A line that wrapped would be two to the cursor.
                text.push_str(&fit(line, columns));
                text.push('\n');
            }
            terminal::note_raw(text.as_bytes());
        } else {
            for line in lines.iter().filter(|line| !self.shown.contains(line)) {
                note(line);
            }
        }
        self.shown = lines;
    }
}

/// Cuts a line to so many columns; escape sequences count nothing and stay whole.
fn fit(line: &str, columns: usize) -> String {
    let mut out = String::new();
    let (mut used, mut escape) = (0, false);
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if !escape {
            used += 1;
            if used > columns {
                continue;
            }
        }
        out.push(c);
        if escape && c == 'm' {
            escape = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn lines_fit_the_terminal() {
        assert_eq!(fit("abcdef", 4), "abcd");
        assert_eq!(fit("a\x1b[32mbcd\x1b[0mef", 3), "a\x1b[32mbc\x1b[0m");
        assert_eq!(fit("größe", 5), "größe");
    }
}
