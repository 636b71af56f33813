//! Progress of something long on stderr: one line that changes on a terminal, a line now and then in a log.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Progress in steps.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    steps: usize,
    done: usize,
    told: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// `steps` are to come.
    pub(crate) fn new(what: &'static str, steps: usize) -> Self {
        Self { what, steps, done: 0, told: None, terminal: std::io::stderr().is_terminal() }
    }

    /// One more is done; `news` is what it found.
    pub(crate) fn step(&mut self, news: &str) {
        self.done += 1;
        let last = self.done == self.steps;
        let line = format!(
            "    {}: {} of {}{}{news}",
            self.what,
            self.done,
            self.steps,
            if news.is_empty() { "" } else { ", " }
        );
        if self.terminal {
            // Clears the rest of a longer line before.
            eprint!("\r{line}\x1b[K{}", if last { "\n" } else { "" });
            let _ = std::io::stderr().flush();
        } else if last || self.told.is_none_or(|told| told.elapsed() > LOG_EVERY) {
            eprintln!("{line}");
            self.told = Some(Instant::now());
        }
    }
}

/// Waits, and shows that it does.
pub(crate) async fn wait(what: &'static str, seconds: u64) {
    let mut progress = Progress::new(what, seconds as usize);
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        progress.step("");
    }
}

/// Says something that happened.
pub(crate) fn say(text: &str) {
    eprintln!("    {text}");
}
