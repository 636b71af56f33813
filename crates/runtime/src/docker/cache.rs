//! Which containers have to be inspected again. A listing of Docker tells state and a text such
//! as `Up 5 minutes (healthy)`, but neither start times nor exit codes; inspecting every container
//! at every poll is what makes agents warm.
//!
//! A container is taken from here when its state and its text are as they were, the text counts
//! in minutes or more, and it was inspected within [`TRUSTED`]. That cannot hide a restart: whoever
//! was started again within the last minute has a text in seconds, which is never trusted; whoever
//! was started again earlier was so before the inspection. What the port itself changes, and what
//! an event names, is forgotten at once.

use lattice_model::{
    NodeId,
    container::{ContainerId, ContainerSeen},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// Shorter than the minute for which Docker counts seconds.
const TRUSTED: Duration = Duration::from_secs(50);

/// What a listing tells of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) text: String,
}

#[derive(Debug)]
struct Entry {
    summary: Summary,
    at: Instant,
    seen: ContainerSeen,
}

/// The last inspection of each container.
#[derive(Debug, Default)]
pub(super) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// Rises whenever something is forgotten: an inspection that began before is not kept.
    generation: u64,
}

impl Cache {
    /// To be read before a listing, and given back to [`Cache::keep`].
    pub(super) fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    /// The last inspection, if it still holds.
    pub(super) fn get(&self, summary: &Summary, now: Instant) -> Option<ContainerSeen> {
        let young = summary.text.is_empty() || summary.text.contains("second");
        let inner = self.inner.lock();
        let entry = inner.entries.get(&summary.id)?;
        (!young && entry.summary == *summary && now.saturating_duration_since(entry.at) < TRUSTED)
            .then(|| entry.seen.clone())
    }

    /// Keeps what was inspected, and drops containers of the node that are not listed any more.
    pub(super) fn keep(
        &self,
        node: NodeId,
        generation: u64,
        now: Instant,
        listed: &HashSet<&str>,
        inspected: impl IntoIterator<Item = (Summary, ContainerSeen)>,
    ) {
        let mut inner = self.inner.lock();
        inner.entries.retain(|id, entry| listed.contains(id.as_str()) || entry.seen.node() != Some(node));
        if inner.generation == generation {
            for (summary, seen) in inspected {
                inner.entries.insert(summary.id.clone(), Entry { summary, at: now, seen });
            }
        }
    }

    /// Forgets one container: something was done to it.
    pub(super) fn forget(&self, id: &ContainerId) {
        let mut inner = self.inner.lock();
        inner.generation += 1;
        inner.entries.remove(&id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::{container::ContainerState, report::Health};

    fn seen(id: &str) -> ContainerSeen {
        ContainerSeen {
            id: ContainerId(id.to_owned()),
            name: id.to_owned(),
            labels: Default::default(),
            state: ContainerState::Running,
            health: Health::None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            ports: Vec::new(),
            last_words: None,
        }
    }

    fn summary(text: &str) -> Summary {
        Summary { id: "a".to_owned(), state: "running".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn only_what_cannot_have_changed_is_trusted() {
        let (cache, node, now) = (Cache::default(), NodeId::from_random(1), Instant::now());
        let put = |text: &str| {
            cache.keep(node, cache.generation(), now, &HashSet::from(["a"]), [(summary(text), seen("a"))]);
        };
        let held =
            |text: &str, after: u64| cache.get(&summary(text), now + Duration::from_secs(after)).is_some();

        put("Up 5 minutes");
        assert!(held("Up 5 minutes", 10));
        assert!(!held("Up 6 minutes", 10), "another text");
        assert!(!held("Up 5 minutes (unhealthy)", 10), "another health");
        assert!(!held("Up 5 minutes", 59), "too old");
        put("Up 5 seconds");
        assert!(!held("Up 5 seconds", 0), "may have been started again between two seconds");
        put("Up 5 minutes");
        let generation = cache.generation();
        cache.forget(&ContainerId("a".to_owned()));
        assert!(!held("Up 5 minutes", 1));
        cache.keep(node, generation, now, &HashSet::from(["a"]), [(summary("Up 5 minutes"), seen("a"))]);
        assert!(!held("Up 5 minutes", 1), "the inspection began before the change");
    }
}
