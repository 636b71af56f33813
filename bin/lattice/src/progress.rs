//! How a deployment fares: what the workloads of a stack say together, and a line for each.

use crate::{
    show,
    table::{Style, clean, cut},
};
use lattice_api::{StackDetail, WorkloadState, WorkloadView};
use lattice_model::{
    AllocationId, Timestamp,
    report::{AllocationState, Health},
};
use std::collections::{BTreeMap, BTreeSet};

/// A container that ended so often since the deployment began is given up on.
const MAX_RESTARTS: u32 = 3;
/// What could not be started so often in a row (no image, a port in use) is given up on.
const MAX_ATTEMPTS: u32 = 3;
/// The most characters of a line's reason.
const MAX_REASON: usize = 100;

/// Whether to go on following.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something is still on its way.
    Waiting,
    /// Everything is as it should be.
    Ready,
    /// These services wait for a person: paused, or to be promoted.
    Held(Vec<(String, String)>),
    /// These services will not get there by themselves, with the reason.
    Failed(Vec<(String, String)>),
}

/// Watches a stack settle.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// How often each container had been restarted when it was first seen.
    baseline: BTreeMap<AllocationId, u32>,
    /// How often each was seen to begin a pause, and whether it pauses now.
    pauses: BTreeMap<AllocationId, (u32, bool)>,
    /// What ran already at the first look.
    proven: Option<BTreeSet<Run>>,
}

/// One run of a container.
type Run = (AllocationId, Option<Timestamp>);

/// What runs, and has no health check to say how well.
fn unchecked(stack: &StackDetail) -> BTreeSet<Run> {
    let all = stack.workloads.iter().flat_map(|w| &w.allocations);
    all.filter(|a| a.is_serving() && a.status.health == Health::None)
        .map(|a| (a.id, a.status.started_at))
        .collect()
}

impl Progress {
    /// What the stack says now.
    pub(crate) fn step(&mut self, stack: &StackDetail) -> Verdict {
        self.proven.get_or_insert_with(|| unchecked(stack));
        let mut failed = Vec::new();
        let mut settled = true;
        for workload in &stack.workloads {
            let hopeless = self.hopeless(workload);
            if workload.state == WorkloadState::Failed || hopeless.is_some() {
                let reason = workload.reason().unwrap_or_else(|| match exit_code(workload) {
                    Some(code) => format!("it ended with exit code {code}"),
                    None => "no reason was reported".into(),
                });
                let how = hopeless.unwrap_or_default();
                failed.push((workload.name.to_string(), format!("{how}{}", clean(&reason))));
            }
            // What came back runs well, and is not what was asked for.
            if let Some(back) = workload.rolled_back.as_ref().filter(|_| workload.state.is_settled()) {
                failed.push((workload.name.to_string(), format!("it was taken back: {}", clean(&back.why))));
            }
            settled &= workload.state.is_settled();
        }
        let held: Vec<(String, String)> = stack
            .workloads
            .iter()
            .filter_map(|workload| Some((workload.name.to_string(), workload.held.clone()?)))
            .collect();
        let others = |workload: &WorkloadView| workload.held.is_some() || workload.state.is_settled();
        match (failed.is_empty(), settled) {
            (false, _) => Verdict::Failed(failed),
            (true, _) if !held.is_empty() && stack.workloads.iter().all(others) => Verdict::Held(held),
            (true, true) => Verdict::Ready,
            (true, false) => Verdict::Waiting,
        }
    }

    /// The containers that began since the first look and of which nobody but time can say that they stay.
    pub(crate) fn unproven(&self, stack: &StackDetail) -> BTreeSet<Run> {
        let mut runs = unchecked(stack);
        runs.retain(|run| self.proven.as_ref().is_none_or(|proven| !proven.contains(run)));
        runs
    }

    /// How a workload shows that it will not get there by itself.
    fn hopeless(&mut self, workload: &WorkloadView) -> Option<&'static str> {
        let mut how = None;
        for allocation in workload.allocations.iter().filter(|a| a.generation == workload.generation) {
            let (status, id) = (&allocation.status, allocation.id);
            let before = *self.baseline.entry(id).or_insert(status.restarts);
            let pausing = status.state == AllocationState::BackingOff;
            let (pauses, paused) = self.pauses.entry(id).or_default();
            *pauses += u32::from(pausing && !*paused);
            *paused = pausing;
            if pausing && status.restarts.saturating_sub(before) >= MAX_RESTARTS {
                how = Some("it ends again and again: ");
            } else if pausing && status.restarts == before && *pauses >= MAX_ATTEMPTS {
                how = how.or(Some("it cannot be started: "));
            }
        }
        how
    }
}

fn exit_code(workload: &WorkloadView) -> Option<i64> {
    workload.allocations.iter().find_map(|a| a.status.exit_code.filter(|code| *code != 0))
}

/// A line for each workload: what it is called, how many serve, where it stands.
pub(crate) fn lines(stack: &StackDetail, colour: bool) -> Vec<String> {
    let width = stack.workloads.iter().map(|w| w.name.as_str().len()).max().unwrap_or(0);
    stack
        .workloads
        .iter()
        .map(|w| {
            let state = show::workload_style(w.state).paint(w.state.as_str(), colour);
            let mut line = format!("  {:width$}  {}/{} {state}", w.name.as_str(), w.serving, w.replicas);
            let detail = detail(w);
            if !detail.is_empty() {
                line.push_str("  ");
                line.push_str(&Style::Dim.paint(&cut(&clean(&detail), MAX_REASON), colour));
            }
            line
        })
        .collect()
}

/// What its replicas do that do not serve yet: `pulling on laptop: 40 %`.
fn detail(workload: &WorkloadView) -> String {
    if let Some(held) = &workload.held {
        return held.clone();
    }
    if let Some(pending) = workload.stuck().next() {
        let hint = if pending.hint.is_empty() { String::new() } else { format!(" ({})", pending.hint) };
        return format!("{}{hint}", pending.why);
    }
    let back = workload.rolled_back.as_ref().filter(|_| !workload.state.is_settled());
    if let Some(back) = back {
        return format!("the former version comes back: {}", back.why);
    }
    let current = workload
        .allocations
        .iter()
        .find(|a| a.generation == workload.generation && !a.is_going() && !a.is_serving());
    match (current, workload.state) {
        (Some(a), state)
            if state != WorkloadState::Stopped && a.status.state != AllocationState::Completed =>
        {
            let reason = a.status.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
            let what = match a.status.state {
                AllocationState::Running => "not healthy yet".to_owned(),
                state => state.to_string(),
            };
            format!("{what} on {}{reason}", a.node)
        }
        (None, WorkloadState::Progressing) if let Some(turn) = workload.pending.first() => turn.why.clone(),
        (None, WorkloadState::Progressing) if workload.allocations.iter().any(|a| a.is_going()) => {
            "the former containers are on their way out".into()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::allocation;
    use lattice_api::{PendingSlot, StackView};
    use lattice_model::{
        OwnerName, StackId, Timestamp,
        goal::DesiredState,
        report::Health,
        resource::{Intent, Workload},
        spec::WorkloadSpec,
    };

    fn workload(name: &str, change: impl FnOnce(&mut lattice_api::AllocationView)) -> WorkloadView {
        let key = format!("default/shop/{name}");
        let mut view = allocation(&key, 1, 1, Intent::Run);
        change(&mut view);
        let row = Workload {
            key: key.parse().unwrap(),
            spec: WorkloadSpec::of_image("nginx").into(),
            generation: 1,
            replicas: 1,
            desired: DesiredState::Run,
            restart: 0,
            alike: Vec::new(),
            settled: 0,
            rolled_back: None,
            rollout: None,
            moved_at: None,
            timetable: None,
        };
        WorkloadView::of(&row, row.replicas, vec![view], vec![])
    }

    fn stack(workloads: Vec<WorkloadView>) -> StackDetail {
        StackDetail {
            stack: StackView {
                id: StackId::from_random(1),
                project: "default".parse().unwrap(),
                name: "shop".parse().unwrap(),
                owner: OwnerName::admin(),
                version: 1,
                deployed_at: Timestamp(0),
                deleting: false,
                workloads: 1,
                settled: 0,
            },
            workloads,
            volumes: vec![],
            networks: BTreeMap::new(),
            source: None,
        }
    }

    #[test]
    fn ready_when_all_serve() {
        let mut progress = Progress::default();
        let starting = workload("web", |a| a.status.health = Health::Starting);
        assert_eq!(progress.step(&stack(vec![workload("db", |_| {}), starting])), Verdict::Waiting);
        assert_eq!(
            progress.step(&stack(vec![workload("db", |_| {}), workload("web", |_| {})])),
            Verdict::Ready
        );
        assert_eq!(progress.step(&stack(vec![])), Verdict::Ready);
    }

    #[test]
    fn given_up_on_with_the_reason() {
        let mut progress = Progress::default();
        let failed = workload("web", |a| {
            a.status.state = AllocationState::Failed;
            a.status.reason = Some("there is no image nginx:0".into());
        });
        assert_eq!(
            progress.step(&stack(vec![failed])),
            Verdict::Failed(vec![("web".into(), "there is no image nginx:0".into())])
        );
        let looping = |restarts| {
            stack(vec![workload("web", |a| {
                a.status.state = AllocationState::BackingOff;
                a.status.restarts = restarts;
                a.status.exit_code = Some(7);
            })])
        };
        let mut progress = Progress::default();
        assert_eq!(progress.step(&looping(40)), Verdict::Waiting, "what happened before does not count");
        assert_eq!(progress.step(&looping(42)), Verdict::Waiting);
        assert_eq!(
            progress.step(&looping(43)),
            Verdict::Failed(vec![(
                "web".into(),
                "it ends again and again: it ended with exit code 7".into()
            )])
        );
    }

    #[test]
    fn what_has_no_check_is_proven_by_time() {
        let at =
            |started: i64| stack(vec![workload("web", |a| a.status.started_at = Some(Timestamp(started)))]);
        let mut progress = Progress::default();
        assert_eq!(progress.step(&at(1)), Verdict::Ready);
        assert!(progress.unproven(&at(1)).is_empty(), "it ran before");
        assert_eq!(progress.unproven(&at(2)).len(), 1, "it was started since");
        let checked = workload("web", |a| {
            a.status.started_at = Some(Timestamp(3));
            a.status.health = Health::Healthy;
        });
        assert!(progress.unproven(&stack(vec![checked])).is_empty(), "its check says it");
    }

    #[test]
    fn what_never_starts_is_given_up_on() {
        let seen = |state| {
            stack(vec![workload("web", |a| {
                a.status.state = state;
                a.status.reason = Some("port 80 is in use".into());
            })])
        };
        let (pause, pull) = (AllocationState::BackingOff, AllocationState::Pulling);
        let mut progress = Progress::default();
        for state in [pull, pause, pause, pause, pull, pause, pull] {
            assert_eq!(
                progress.step(&seen(state)),
                Verdict::Waiting,
                "two pauses, however often they are seen"
            );
        }
        assert_eq!(
            progress.step(&seen(pause)),
            Verdict::Failed(vec![("web".into(), "it cannot be started: port 80 is in use".into())])
        );
    }

    #[test]
    fn a_line_for_each() {
        let mut pending = workload("worker", |_| {});
        pending.allocations.clear();
        pending.pending = vec![PendingSlot {
            workload: "worker".parse().unwrap(),
            slot: 1,
            why: "2 nodes: not enough memory".into(),
            hint: "add a node".into(),
            turn: false,
        }];
        (pending.state, pending.serving) = (WorkloadState::Pending, 0);
        let pulling = workload("web", |a| {
            a.status.state = AllocationState::Pulling;
            a.status.reason = Some("40 %".into());
        });
        let text = lines(&stack(vec![workload("db", |_| {}), pulling, pending]), false).join("\n");
        insta::assert_snapshot!(text, @r"
          db      1/1 running
          web     0/1 progressing  pulling on laptop: 40 %
          worker  0/1 pending  2 nodes: not enough memory (add a node)
        ");
    }
}
