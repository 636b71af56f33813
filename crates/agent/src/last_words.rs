//! What a container wrote last before it failed: part of the reason, so that it is kept with the event when the
//! container and its log are gone, as after a rollout that reverts itself.
//!
//! Each end of a container is read once. Rejected: reading it when somebody asks, which is when it is gone.

use futures::{StreamExt as _, future::join_all};
use lattice_model::{
    Timestamp,
    container::{ContainerId, ContainerSeen, ContainerState},
};
use lattice_runtime::{LogOptions, Runtime};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// How many lines.
const LINES: u32 = 3;
/// How many characters of each.
const LINE: usize = 160;
/// How much is read at most, in bytes: a line may be endless.
const MOST: usize = 64 << 10;
/// How long the engine may take for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many ends are remembered; the oldest is read again if it is still there.
const REMEMBERED: usize = 512;

/// Reads and remembers; clones share what is remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<Known>>);

type End = (ContainerId, Option<Timestamp>);

#[derive(Debug, Default)]
struct Known {
    words: BTreeMap<End, Option<String>>,
    order: VecDeque<End>,
}

impl LastWords {
    /// Puts them to a container that failed.
    pub(crate) async fn put(&self, runtime: &dyn Runtime, seen: &mut ContainerSeen) {
        if !failed(seen) {
            return;
        }
        let end = (seen.id.clone(), seen.finished_at);
        let known = self.0.lock().words.get(&end).cloned();
        seen.last_words = match known {
            Some(words) => words,
            None => {
                // An engine that does not answer now is not asked again: the reason would change with no news in it.
                let words = timeout(PATIENCE, read(runtime, &seen.id)).await.unwrap_or_default();
                self.0.lock().keep(end, words.clone());
                words
            }
        };
    }

    /// The same for several.
    pub(crate) async fn put_all(&self, runtime: &dyn Runtime, seen: &mut [ContainerSeen]) {
        join_all(seen.iter_mut().map(|one| self.put(runtime, one))).await;
    }
}

impl Known {
    fn keep(&mut self, end: End, words: Option<String>) {
        if self.words.insert(end.clone(), words).is_none() {
            self.order.push_back(end);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.words.remove(&oldest);
            }
        }
    }
}

fn failed(seen: &ContainerSeen) -> bool {
    // A signal from outside says what it is by its code; want of memory is said by the kernel.
    seen.state == ContainerState::Exited
        && seen.exit_code.is_some_and(|code| code != 0)
        && !seen.out_of_memory
        && seen.error.as_deref().unwrap_or_default().is_empty()
}

async fn read(runtime: &dyn Runtime, id: &ContainerId) -> Option<String> {
    let mut logs = runtime.logs(id, LogOptions { tail: Some(LINES), ..LogOptions::default() }).await.ok()?;
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = logs.next().await {
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() > MOST {
            break;
        }
    }
    clean(&String::from_utf8_lossy(&bytes))
}

/// The last lines that say something, on one.
fn clean(text: &str) -> Option<String> {
    let plain = |line: &str| -> String {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.trim().chars().take(LINE).collect()
    };
    let mut lines: Vec<String> =
        text.lines().rev().map(plain).filter(|line| !line.is_empty()).take(LINES as usize).collect();
    lines.reverse();
    if lines.is_empty() { None } else { Some(lines.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_that_say_something_fit_a_reason() {
        assert_eq!(clean("\n  \n\u{1b}\n"), None);
        assert_eq!(clean("a\nb\n\nc\r\nd\n").as_deref(), Some("b | c | d"));
        let long = clean(&"x".repeat(5000)).unwrap();
        assert_eq!(long.len(), LINE);
        assert!(!clean("a\u{1b}[31mb\tc").unwrap().contains(char::is_control));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for n in 0..3 * REMEMBERED {
            known.keep((ContainerId(n.to_string()), None), None);
            known.keep((ContainerId(n.to_string()), None), Some("again".into()));
        }
        assert_eq!((known.words.len(), known.order.len()), (REMEMBERED, REMEMBERED));
        assert!(known.words.contains_key(&(ContainerId((3 * REMEMBERED - 1).to_string()), None)));
    }
}
