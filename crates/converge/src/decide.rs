//! The next step of one allocation.
//!
//! The gates, in order: whether the owner lets anything run now; what the owner forbids; whether it had to make
//! way; a stop that is wanted; a predecessor that must be
//! gone, and whoever is on its way out with a port of ours; superfluous containers; then, by what its container does: create, start, restart, or
//! leave it alone.

use crate::{
    config::{assign_ports, container_config, fixed, name_prefix, secret_files},
    outcome::image_of,
    reconciler::{Containers, Reconciler, Tracked, pick_container},
    record::AllocationRecord,
    words::{Admission, Operation},
};
use lattice_model::{
    AllocationId, Duration, Goal, GoalAllocation, Timestamp,
    container::{ContainerSeen, ContainerState, LABEL_WORKLOAD},
    goal::DesiredState,
    report::{AllocationState, AllocationStatus, EndedRun, Health},
    spec::{Protocol, PullPolicy, RestartPolicy},
};
use std::collections::BTreeSet;

/// A run at least this long ends a row of failures.
pub(crate) const GOOD_RUN: Duration = Duration::from_secs(60);

/// The longest that anything may take to stop, and what the owner forbids.
pub(crate) const MAX_GRACE: Duration = Duration::from_secs(3600);
const FORBIDDEN_GRACE: Duration = Duration::from_secs(60);

/// What to do about an allocation.
pub(crate) enum Next {
    Nothing,
    Run(Operation),
}

/// What to do, what to tell, and what to remember once it is begun.
pub(crate) struct Decision {
    pub(crate) next: Next,
    pub(crate) status: AllocationStatus,
    pub(crate) record: AllocationRecord,
}

/// The circumstances of one decision.
pub(crate) struct Case<'a> {
    pub(crate) reconciler: &'a Reconciler,
    pub(crate) id: AllocationId,
    pub(crate) wanted: &'a GoalAllocation,
    pub(crate) goal: &'a Goal,
    pub(crate) tracked: &'a Tracked,
    pub(crate) now: Timestamp,
    pub(crate) record: AllocationRecord,
}

pub(crate) fn decide(
    reconciler: &Reconciler,
    id: AllocationId,
    wanted: &GoalAllocation,
    goal: &Goal,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> Decision {
    let none = Containers::new();
    let blank = Tracked::default();
    let tracked = reconciler.tracked.get(&id).unwrap_or(&blank);
    let containers = reconciler.view.as_ref().and_then(|view| view.containers.get(&id)).unwrap_or(&none);
    let mut record = tracked.record.clone();
    record.grace = Some(wanted.spec.stop_grace_period);
    let mut case = Case { reconciler, id, wanted, goal, tracked, now, record };
    let seen = pick_container(containers);
    let (next, mut status) = match &tracked.record.reported {
        // While an operation is under way, its status stands and nothing else is begun.
        Some(reported) if tracked.busy.is_some() => (Next::Nothing, reported.clone()),
        _ => case.next(containers, seen, random),
    };
    if let Some(seen) = seen {
        status.health = if seen.state == ContainerState::Running { seen.health } else { Health::None };
        status.started_at = seen.started_at.filter(|_| seen.state == ContainerState::Running);
        status.exit_code = seen.exit_code.filter(|_| seen.state != ContainerState::Running);
        let ended = seen.started_at.zip(seen.finished_at).filter(|_| seen.state == ContainerState::Exited);
        status.ended_run = ended.map(|(started_at, finished_at)| EndedRun { started_at, finished_at });
    }
    status.restarts = case.record.restarts;
    status.ports = case.record.ports.clone();
    Decision { next, status, record: case.record }
}

pub(crate) fn is(state: AllocationState) -> AllocationStatus {
    AllocationStatus::new(state)
}

impl Case<'_> {
    fn next(
        &mut self,
        containers: &Containers,
        seen: Option<&ContainerSeen>,
        random: &mut dyn FnMut() -> u128,
    ) -> (Next, AllocationStatus) {
        let runs = seen.is_some_and(|c| matches!(c.state, ContainerState::Running | ContainerState::Paused));
        if let Some(held) = self.held(seen, runs) {
            return held;
        }
        if let Some(why) = self.reconciler.policy.refuse(self.wanted) {
            return match seen.filter(|_| runs) {
                Some(seen) => {
                    // What the owner stops is no end of its own: it goes on once it may again.
                    self.record.stopped = true;
                    let grace = self.wanted.spec.stop_grace_period.min(FORBIDDEN_GRACE);
                    (self.stop_within(seen, grace), is(AllocationState::Stopping).because(why))
                }
                None => (Next::Nothing, is(AllocationState::Failed).because(why)),
            };
        }
        if let Some(evicted) = self.evicted(seen, runs) {
            return evicted;
        }
        if self.wanted.desired != DesiredState::Run {
            self.record.stopped = true;
            self.record.honoured_restart = self.wanted.restart;
            return match seen.filter(|_| runs) {
                Some(seen) => (self.stop(seen), is(AllocationState::Stopping)),
                None => (Next::Nothing, is(AllocationState::Stopped)),
            };
        }
        if !runs && let Some(old) = self.predecessor() {
            let why = format!("waits until its predecessor {} is gone", old.short());
            return (Next::Nothing, is(AllocationState::Waiting).because(why));
        }
        if !runs && let Some((port, old)) = self.port_holder() {
            let why = format!("waits for port {port} until {} is gone", old.short());
            return (Next::Nothing, is(AllocationState::Waiting).because(why));
        }
        if let Some(extra) = seen.and_then(|keep| containers.values().find(|c| c.id != keep.id)) {
            let lives = matches!(extra.state, ContainerState::Running | ContainerState::Paused);
            let next = if lives { self.stop(extra) } else { self.remove(extra) };
            return (next, is(AllocationState::Starting).because("a second container of it is removed"));
        }
        if !runs || self.moved_dependency().is_none() {
            self.note_dependencies();
        }
        match seen {
            None => self.create(random),
            Some(seen) => match seen.state {
                ContainerState::Created => self.first_start(seen),
                ContainerState::Running => self.running(seen),
                ContainerState::Paused => {
                    (Next::Nothing, is(AllocationState::Running).because("somebody paused its container"))
                }
                ContainerState::Exited => self.ended(seen),
                ContainerState::Dead => (self.remove(seen), is(AllocationState::Starting)),
            },
        }
    }

    /// What the owner's rules make of it while they let nothing run, or nothing begin. They outrank
    /// what its specification says; what has ended stays ended, and what is stopped waits.
    fn held(&mut self, seen: Option<&ContainerSeen>, runs: bool) -> Option<(Next, AllocationStatus)> {
        if self.wanted.desired == DesiredState::Stop {
            return None;
        }
        let waits = |why: &str| Some((Next::Nothing, is(AllocationState::Waiting).because(why)));
        match &self.reconciler.admission {
            Admission::Open => None,
            Admission::NothingNew(why) => match seen.map(|seen| seen.state) {
                None | Some(ContainerState::Created) => {
                    self.done().map_or_else(|| waits(why), |done| Some((Next::Nothing, done)))
                }
                // What has begun goes on, restarts included.
                Some(_) => None,
            },
            Admission::Closed(why) => {
                if let Some(seen) = seen.filter(|_| runs) {
                    self.record.stopped = true;
                    let grace = self.wanted.spec.stop_grace_period.min(FORBIDDEN_GRACE);
                    return Some((self.stop_within(seen, grace), is(AllocationState::Stopping).because(why)));
                }
                if let Some(done) = self.done() {
                    return Some((Next::Nothing, done));
                }
                let exited = seen.filter(|seen| seen.state == ContainerState::Exited && !self.record.stopped);
                if let Some(exited) = exited {
                    if exited.exit_code == Some(0) && self.wanted.spec.restart != RestartPolicy::Always {
                        return Some((Next::Nothing, is(AllocationState::Completed)));
                    }
                    // Stopped behind the agent's back for the same reason, or broken: it is tried again.
                    self.record.stopped = true;
                }
                waits(why)
            }
        }
    }

    /// Who must be gone first: the one that is named, and whoever else of the same slot is on its
    /// way out, since a server that decided twice in a row names only one of them.
    fn predecessor(&self) -> Option<AllocationId> {
        let leaving = || {
            let (workload, view) = (self.wanted.workload.to_string(), self.reconciler.view.as_ref()?);
            let prefix = name_prefix(&self.wanted.workload, self.wanted.slot);
            let same = |c: &ContainerSeen| {
                c.labels.get(LABEL_WORKLOAD) == Some(&workload) && c.name.starts_with(&prefix)
            };
            let others = view.containers.iter().filter(|(id, _)| !self.goal.allocations.contains_key(id));
            others.into_iter().find(|(_, containers)| containers.values().any(same)).map(|(id, _)| *id)
        };
        self.wanted.replaces.filter(|old| self.still_here(*old)).or_else(leaving)
    }

    /// A port that was asked for by number, and who still has it on its way out: services of a stack
    /// may exchange theirs.
    fn port_holder(&self) -> Option<(u16, AllocationId)> {
        let wanted: BTreeSet<(u16, Protocol)> =
            self.wanted.spec.ports.iter().filter_map(|p| Some((fixed(p)?, p.target.protocol))).collect();
        let view = self.reconciler.view.as_ref().filter(|_| !wanted.is_empty())?;
        let leaving = view.containers.iter().filter(|(id, _)| !self.goal.allocations.contains_key(id));
        leaving.into_iter().find_map(|(id, containers)| {
            let running = containers.values().filter(|c| c.state == ContainerState::Running);
            let mut held = running.flat_map(|c| &c.ports).map(|p| (p.host_port, p.target.protocol));
            held.find(|port| wanted.contains(port)).map(|(port, _)| (port, *id))
        })
    }

    fn still_here(&self, old: AllocationId) -> bool {
        let shown = self.reconciler.view.as_ref().is_some_and(|view| view.containers.contains_key(&old));
        shown || self.reconciler.tracked.get(&old).is_some_and(|tracked| tracked.busy.is_some())
    }

    fn stop(&self, seen: &ContainerSeen) -> Next {
        self.stop_within(seen, self.wanted.spec.stop_grace_period.min(MAX_GRACE))
    }

    pub(crate) fn stop_within(&self, seen: &ContainerSeen, grace: Duration) -> Next {
        let container = seen.id.clone();
        Next::Run(Operation::Stop { allocation: self.id, container, grace })
    }

    fn remove(&self, seen: &ContainerSeen) -> Next {
        Next::Run(Operation::Remove { allocation: self.id, container: seen.id.clone() })
    }

    /// The trouble that the last attempt met, as a status, while it lasts.
    fn trouble(&self) -> Option<AllocationStatus> {
        let trouble = self.tracked.trouble.as_ref()?;
        let waiting = trouble.retry_at > self.now;
        waiting.then(|| is(AllocationState::BackingOff).because(&trouble.why))
    }

    fn create(&mut self, random: &mut dyn FnMut() -> u128) -> (Next, AllocationStatus) {
        if let Some(done) = self.done() {
            return (Next::Nothing, done);
        }
        let always = self.wanted.spec.pull == PullPolicy::Always;
        if self.tracked.needs_image || (always && !self.tracked.fetched) {
            return self.pull();
        }
        if let Some(status) = self.trouble() {
            return (Next::Nothing, status);
        }
        if let Some(fetch) = self.missing_tree() {
            return fetch;
        }
        if let Some(why) = self.unmet_dependency().or_else(|| self.missing_surroundings()) {
            return (Next::Nothing, is(AllocationState::Waiting).because(why));
        }
        let files = match secret_files(self.id, self.wanted, &self.reconciler.folders.secrets) {
            Ok(files) => files,
            Err(why) => return (Next::Nothing, is(AllocationState::Waiting).because(why)),
        };
        let refused = &self.tracked.refused_ports;
        self.record.ports =
            assign_ports(&self.wanted.spec.ports, &self.record.ports, &self.taken_ports(), refused, random);
        self.record.honoured_restart = self.wanted.restart;
        self.record.stopped = false;
        self.record.volumes = self.wanted.volumes.values().copied().collect();
        let Reconciler { node, policy, folders, .. } = self.reconciler;
        let ports = &self.record.ports;
        let config = container_config(*node, self.id, self.wanted, self.goal, policy, ports, folders);
        let create = Operation::Create { allocation: self.id, config: Box::new(config), files };
        (Next::Run(create), is(AllocationState::Starting))
    }

    /// The last word about a job that has ended: it is not run again because somebody pruned its
    /// container.
    fn done(&self) -> Option<AllocationStatus> {
        let AllocationRecord { reported, stopped, honoured_restart, .. } = &self.record;
        let reported = reported.as_ref().filter(|_| !stopped && self.wanted.restart <= *honoured_restart)?;
        let ended = match self.wanted.spec.restart {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure { .. } => reported.state == AllocationState::Completed,
            RestartPolicy::Never => {
                reported.state == AllocationState::Completed
                    || (reported.state == AllocationState::Failed && reported.exit_code.is_some())
            }
        };
        ended.then(|| reported.clone())
    }

    fn pull(&self) -> (Next, AllocationStatus) {
        if let Some(no_room) = self.no_room("its image") {
            return no_room;
        }
        let pull = image_of(self.wanted);
        let status = match self.reconciler.troubles.get(&pull.subject()) {
            Some(trouble) if trouble.retry_at > self.now => {
                is(AllocationState::BackingOff).because(&trouble.why)
            }
            _ => {
                let image = &self.wanted.spec.image;
                let far = match self.reconciler.fetched.get(&pull.subject()) {
                    Some((here, total)) if total.0 > 0 => format!(": {here} of {total}"),
                    _ => String::new(),
                };
                is(AllocationState::Pulling).because(format!("fetches {image}{far}"))
            }
        };
        (Next::Run(pull), status)
    }

    fn first_start(&mut self, seen: &ContainerSeen) -> (Next, AllocationStatus) {
        // Made with ports that had to be given up, or before the specification's networks changed.
        if seen.ports.iter().collect::<BTreeSet<_>>() != self.record.ports.iter().collect() {
            return (self.remove(seen), is(AllocationState::Starting));
        }
        if let Some(status) = self.trouble() {
            return (Next::Nothing, status);
        }
        match self.unmet_dependency() {
            Some(why) => (Next::Nothing, is(AllocationState::Waiting).because(why)),
            None => {
                let (next, status) = self.start(seen);
                if matches!(next, Next::Run(_)) {
                    self.record.honoured_restart = self.wanted.restart;
                }
                (next, status)
            }
        }
    }

    /// The files that travelled with the deployment, where one of its trees is not here.
    fn missing_tree(&self) -> Option<(Next, AllocationStatus)> {
        let view = self.reconciler.view.as_ref()?;
        let mut trees = self.wanted.spec.trees.iter().map(|mount| mount.tree);
        let tree = trees.find(|tree| !view.trees.contains(tree))?;
        if let Some(no_room) = self.no_room("what it is to read") {
            return Some(no_room);
        }
        let fetch = Operation::FetchTree { tree };
        let status = match self.reconciler.troubles.get(&fetch.subject()) {
            Some(trouble) if trouble.retry_at > self.now => {
                is(AllocationState::BackingOff).because(format!("its files are not here: {}", trouble.why))
            }
            _ => is(AllocationState::Pulling).because(format!("fetches its files ({})", tree.short())),
        };
        Some((Next::Run(fetch), status))
    }

    fn start(&self, seen: &ContainerSeen) -> (Next, AllocationStatus) {
        if self.tracked.renew {
            return (self.remove(seen), is(AllocationState::Starting).because("its container is made anew"));
        }
        if let Some(fetch) = self.missing_tree() {
            return fetch;
        }
        match secret_files(self.id, self.wanted, &self.reconciler.folders.secrets) {
            Ok(files) => {
                let start = Operation::Start { allocation: self.id, container: seen.id.clone(), files };
                (Next::Run(start), is(AllocationState::Starting))
            }
            Err(why) => (Next::Nothing, is(AllocationState::Waiting).because(why)),
        }
    }

    fn running(&mut self, seen: &ContainerSeen) -> (Next, AllocationStatus) {
        if self.record.ports.is_empty() {
            // A lost record: what runs is the truth.
            self.record.ports = seen.ports.clone();
        }
        self.record.stopped = false;
        if self.wanted.restart > self.record.honoured_restart {
            // Honoured once it is started again, so that a crash in between does not lose it.
            self.record.stopped = true;
            return (self.stop(seen), is(AllocationState::Stopping).because("somebody asked for a restart"));
        }
        if let Some(name) = self.moved_dependency()
            && self.have_come_back(&name)
            && self.unmet_dependency().is_none()
        {
            self.record.stopped = true;
            self.record.following += 1;
            self.note_dependencies();
            let why = format!("{name}, which it follows, was restarted");
            return (self.stop(seen), is(AllocationState::Stopping).because(why));
        }
        self.changed_secrets()
    }

    /// Values that changed while it runs: the files that it has mounted change with them. An agent
    /// that has just begun knows of none that it wrote.
    fn changed_secrets(&self) -> (Next, AllocationStatus) {
        let (wanted, running) = (&self.wanted.secrets, is(AllocationState::Running));
        if wanted.is_empty() || self.tracked.written.as_ref() == Some(wanted) {
            return (Next::Nothing, running);
        }
        let status = match &self.tracked.trouble {
            // Said until it has succeeded, also while it is tried again.
            Some(trouble) => {
                let why =
                    format!("it has its former secrets, as the new ones were not written: {}", trouble.why);
                running.because(why)
            }
            None => running,
        };
        match secret_files(self.id, self.wanted, &self.reconciler.folders.secrets) {
            Ok(files) if self.trouble().is_none() => {
                (Next::Run(Operation::WriteSecrets { allocation: self.id, files }), status)
            }
            // It has what it was started with.
            Ok(_) | Err(_) => (Next::Nothing, status),
        }
    }

    fn ended(&mut self, seen: &ContainerSeen) -> (Next, AllocationStatus) {
        let owed = self.wanted.restart > self.record.honoured_restart;
        if self.record.stopped || owed {
            if let Some(status) = self.trouble() {
                return (Next::Nothing, status);
            }
            let (next, status) = self.start(seen);
            if matches!(next, Next::Run(_)) {
                self.record.in_a_row = 0;
                self.record.honoured_restart = self.wanted.restart;
                // Until a start has succeeded, so that one that fails is tried again.
                self.record.stopped = true;
            }
            return (next, status);
        }
        let ran = seen.finished_at.zip(seen.started_at).map_or(Duration(0), |(end, start)| end.since(start));
        if ran >= self.wanted.spec.restart_timing.window.unwrap_or(GOOD_RUN) {
            self.record.in_a_row = 0;
        }
        let how = how_it_ended(seen);
        let clean = seen.exit_code == Some(0);
        match self.wanted.spec.restart {
            RestartPolicy::Never | RestartPolicy::OnFailure { .. } if clean => {
                return (Next::Nothing, is(AllocationState::Completed));
            }
            RestartPolicy::Never => return (Next::Nothing, is(AllocationState::Failed).because(how)),
            RestartPolicy::OnFailure { max_retries: Some(max) } if self.record.in_a_row >= max => {
                let why = format!("{how}, after {max} retries in a row");
                return (Next::Nothing, is(AllocationState::Failed).because(why));
            }
            RestartPolicy::OnFailure { .. } | RestartPolicy::Always => {}
        }
        self.restart(seen, &how)
    }

    fn restart(&mut self, seen: &ContainerSeen, how: &str) -> (Next, AllocationStatus) {
        if let Some(status) = self.trouble() {
            return (Next::Nothing, status);
        }
        let ended_at = self.tracked.ended_at.unwrap_or(self.now);
        let again = self.record.restart_at(ended_at, self.wanted.spec.restart_timing);
        if again > self.now {
            let pause = again.since(ended_at);
            let why = format!("{how}; it is started again {pause} after that");
            return (Next::Nothing, is(AllocationState::BackingOff).because(why));
        }
        let (next, status) = self.start(seen);
        if matches!(next, Next::Run(_)) {
            self.record.restarts += 1;
            self.record.in_a_row += 1;
        }
        (next, status.because(how))
    }

    fn taken_ports(&self) -> BTreeSet<u16> {
        let others = self.reconciler.tracked.iter().filter(|(id, _)| **id != self.id);
        let chosen = others.flat_map(|(_, tracked)| tracked.record.ports.iter().map(|port| port.host_port));
        // What anybody asks for by its number is theirs, also before they have it.
        let specs = self.goal.allocations.values().flat_map(|a| &a.spec.ports);
        chosen.chain(specs.filter_map(fixed)).collect()
    }

    /// The first network or volume that is not there yet, in words.
    fn missing_surroundings(&self) -> Option<String> {
        let view = self.reconciler.view.as_ref()?;
        let full = || {
            let why = self.reconciler.pressure.disk.as_ref()?;
            Some(format!(", and nothing is while this machine is short of disk space: {why}"))
        };
        let trouble = |subject: String| {
            full().or_else(|| self.reconciler.troubles.get(&subject).map(|t| format!(": {}", t.why)))
        };
        for mount in &self.wanted.spec.mounts {
            let name = &mount.volume;
            let Some(id) = self.wanted.volumes.get(name) else {
                return Some(format!("waits for volume {name}, which the server did not name"));
            };
            let Some(volume) = self.goal.volumes.get(id) else {
                return Some(format!("waits for volume {name}, which the server did not describe"));
            };
            if view.volumes.contains_key(id) {
                continue;
            }
            if volume.exists || self.reconciler.was_here(*id) {
                return Some(format!(
                    "volume {name} was on this machine and is gone: its data may be lost, and an empty one is not put in its place"
                ));
            }
            let why = trouble(format!("volume {}", volume.engine_name(*id))).unwrap_or_default();
            return Some(format!("waits for volume {name} to be created{why}"));
        }
        for name in self.wanted.spec.networks.keys() {
            let Some(id) = self.wanted.networks.get(name) else {
                return Some(format!("waits for network {name}, which the server did not name"));
            };
            let Some(network) = self.goal.networks.get(id) else {
                return Some(format!("waits for network {name}, which the server did not describe"));
            };
            if !view.networks.contains_key(id) {
                let engine_name = network.engine_name(*id);
                let why = trouble(format!("network {engine_name}")).unwrap_or_default();
                return Some(format!("waits for network {name} to be created{why}"));
            }
        }
        None
    }
}

fn how_it_ended(seen: &ContainerSeen) -> String {
    match (seen.out_of_memory, seen.exit_code, &seen.error) {
        (true, _, _) => {
            "it was killed for using more memory than its limit; raise the limit or use less".into()
        }
        (false, _, Some(error)) if !error.is_empty() => format!("it could not be started: {error}"),
        (false, Some(code), _) => match &seen.last_words {
            // As runc says it where it finds out in the container: the engine takes that for the program's words.
            Some(words) if words.contains("exec format error") => format!(
                "its image is made for another kind of machine than this one: build it for this kind, or say which with `platform:` (it ended with exit code {code}: {words})"
            ),
            Some(words) => format!("it ended with exit code {code}; it wrote last: {words}"),
            None => format!("it ended with exit code {code}"),
        },
        (false, None, _) => "it ended".into(),
    }
}
