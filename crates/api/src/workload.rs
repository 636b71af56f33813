//! Services as they are, and what is asked of them.

use crate::{allocation::AllocationView, stack::PendingSlot};
use lattice_model::{
    ProjectName, StackName, Timestamp, WorkloadName,
    goal::DesiredState,
    report::{AllocationState, Health},
    resource::{Paused, RolledBack, ScheduledRun, Timetable, Workload},
    spec::WorkloadSpec,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::{IntoParams, ToSchema};

/// One service of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadView {
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// Its name within the stack.
    pub name: WorkloadName,
    /// Rises whenever it changes in a way that needs new containers.
    pub generation: u64,
    /// Whether it should run.
    pub desired: DesiredState,
    /// How many should run.
    pub replicas: u32,
    /// How many of the present generation serve ([`is_serving`](lattice_model::report::AllocationStatus::is_serving)).
    pub serving: u32,
    /// Where it stands as a whole.
    pub state: WorkloadState,
    /// Counts the restarts that people asked for.
    pub restart: u64,
    /// A version that failed was taken back: `spec` is a former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// What a person has to do before a new version goes on to take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How far its schedule has come, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timetable: Option<TimetableView>,
    /// What to run.
    pub spec: WorkloadSpec,
    /// Its instances, those on their way out included.
    pub allocations: Vec<AllocationView>,
    /// Replicas that find no node.
    #[serde(default)]
    pub pending: Vec<PendingSlot>,
}

impl WorkloadView {
    /// The view of a row, with how many are wanted, its allocations and what finds no node.
    pub fn of(
        workload: &Workload,
        replicas: u32,
        allocations: Vec<AllocationView>,
        pending: Vec<PendingSlot>,
    ) -> Self {
        let Workload {
            key,
            spec,
            generation,
            replicas: _,
            desired,
            restart,
            alike: _,
            settled: _,
            rolled_back,
            rollout: _,
            moved_at: _,
            timetable,
        } = workload.clone();
        let scheduled = spec.schedule.is_some() && desired == DesiredState::Run;
        let state = match timetable.as_ref().and_then(Timetable::under_way) {
            None if scheduled => WorkloadState::Scheduled,
            // A run is of the version that there was when it began.
            Some(run) if scheduled => {
                let own = allocations.iter().filter(|a| a.restart == restart).cloned();
                let own: Vec<_> = own.map(|a| AllocationView { generation, ..a }).collect();
                WorkloadState::of(desired, generation, run.replicas.min(replicas), &own, &pending)
            }
            _ => WorkloadState::of(desired, generation, replicas, &allocations, &pending),
        };
        let timetable = spec.schedule.is_some().then(|| TimetableView {
            next: None,
            run: timetable.as_ref().and_then(|table| table.run.clone()),
            paused: timetable.and_then(|table| table.paused),
        });
        let serving = allocations.iter().filter(|a| a.generation == generation && a.is_serving()).count();
        Self {
            project: key.project,
            stack: key.stack,
            name: key.workload,
            generation,
            desired,
            replicas,
            serving: u32::try_from(serving).unwrap_or(u32::MAX),
            state,
            restart,
            rolled_back,
            held: None,
            timetable,
            spec: (*spec).clone(),
            allocations,
            pending,
        }
    }

    /// Replicas that find no node, without those that are only not replaced yet.
    pub fn stuck(&self) -> impl Iterator<Item = &PendingSlot> {
        self.pending.iter().filter(|slot| !slot.turn)
    }

    /// The first reason that one of its instances, or the planner, gives for not being there.
    pub fn reason(&self) -> Option<String> {
        let current = self.allocations.iter().filter(|a| a.generation == self.generation);
        current
            .filter(|a| !a.is_serving())
            .find_map(|a| a.status.reason.clone())
            .or_else(|| self.stuck().next().map(|p| p.why.clone()))
    }
}

/// How far the schedule of a job has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimetableView {
    /// When it is due next; absent while nothing comes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The run that began last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ScheduledRun>,
    /// Somebody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

/// Where a workload stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// Every replica of the present generation serves, and none of an older one is left.
    Running,
    /// On its way there.
    Progressing,
    /// At least one replica finds no node.
    Pending,
    /// Some replicas run that do not serve: unhealthy, or started again after a pause.
    Degraded,
    /// Every replica has ended with 0 and is not to be started again.
    Completed,
    /// At least one replica cannot run, or ended with another code.
    Failed,
    /// It has a schedule, and waits for its time.
    Scheduled,
    /// It should not run, and does not.
    Stopped,
    /// A node with one of its replicas has not been heard of.
    Unknown,
}

impl WorkloadState {
    /// What a workload's instances say together. Worst first: failed, pending, unknown, degraded.
    pub fn of(
        desired: DesiredState,
        generation: u64,
        replicas: u32,
        allocations: &[AllocationView],
        pending: &[PendingSlot],
    ) -> Self {
        use AllocationState as A;
        // What is on a node that was lost is out of the count until that is back.
        // What is kept of a former version, to go back to, is out of it too.
        let counts = |a: &&AllocationView| !a.is_lost() && !a.is_kept();
        let here: Vec<&AllocationView> = allocations.iter().filter(counts).collect();
        let current: Vec<_> = here
            .iter()
            .copied()
            .filter(|a| a.generation == generation && !a.is_going() && a.superseded.is_none())
            .collect();
        let count = |wanted: &dyn Fn(&AllocationView) -> bool| current.iter().filter(|a| wanted(a)).count();
        let ended = |a: &AllocationView| matches!(a.status.state, A::Stopped | A::Completed | A::Failed);
        if desired == DesiredState::Hold && replicas > 0 {
            let placed = u32::try_from(current.len()).unwrap_or(u32::MAX);
            return match (pending.is_empty(), placed >= replicas && here.iter().all(|a| ended(a))) {
                (false, _) => Self::Pending,
                (true, true) => Self::Stopped,
                (true, false) => Self::Progressing,
            };
        }
        if desired != DesiredState::Run || replicas == 0 {
            let all_ended = here.iter().all(|a| ended(a));
            return if all_ended && (replicas > 0 || here.is_empty()) {
                Self::Stopped
            } else {
                Self::Progressing
            };
        }
        if count(&|a| a.status.state == A::Failed) > 0 {
            return Self::Failed;
        }
        if pending.iter().any(|slot| !slot.turn) {
            return Self::Pending;
        }
        if count(&|a| a.status.state == A::Unknown) > 0 {
            return Self::Unknown;
        }
        if count(&|a| a.status.state == A::BackingOff || a.status.health == Health::Unhealthy) > 0 {
            return Self::Degraded;
        }
        let wanted = replicas as usize;
        let left_over = here.len() > current.len();
        let completed = count(&|a| a.status.state == A::Completed);
        let serving = count(&AllocationView::is_serving);
        if serving + completed < wanted || left_over {
            return Self::Progressing;
        }
        if serving == 0 { Self::Completed } else { Self::Running }
    }

    /// Whether it is as it should be, and nothing more is to come.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Running | Self::Completed | Self::Scheduled | Self::Stopped)
    }

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Progressing => "progressing",
            Self::Pending => "pending",
            Self::Degraded => "degraded",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Scheduled => "scheduled",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for WorkloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Query of [`paths::WORKLOADS`](crate::paths::WORKLOADS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WorkloadQuery {
    /// Only those of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of stacks with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// Changes how many replicas run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// From 0 to [`MAX_REPLICAS`](lattice_model::spec::MAX_REPLICAS).
    pub replicas: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeployRequest, RunRequest};
    use lattice_model::{
        AllocationId, NodeId, NodeName, Timestamp,
        report::AllocationStatus,
        resource::{Allocation, Intent},
    };
    use std::sync::Arc;

    fn workload(replicas: u32) -> Workload {
        Workload {
            key: "default/shop/web".parse().unwrap(),
            spec: Arc::new(WorkloadSpec::of_image("nginx")),
            generation: 2,
            replicas,
            desired: DesiredState::Run,
            restart: 0,
            alike: Vec::new(),
            settled: 0,
            rolled_back: None,
            rollout: None,
            moved_at: None,
            timetable: None,
        }
    }

    fn allocation(slot: u32, generation: u64, state: AllocationState) -> AllocationView {
        let workload = workload(1);
        let row = Allocation {
            id: AllocationId::from_random(u128::from(slot)),
            workload: workload.key,
            slot,
            node: NodeId::from_random(1),
            generation,
            spec: workload.spec,
            intent: Intent::Run,
            restart: 0,
            due: None,
            gpus: Vec::new(),
            world: 0,
            replaces: None,
            status: AllocationStatus::new(state),
            superseded: None,
            serving_since: None,
            placed_at: Timestamp(5),
            explanation: "most free memory".into(),
        };
        AllocationView::of(&row, NodeName::new("laptop").unwrap())
    }

    #[test]
    fn a_workload_is_as_its_instances_are() {
        use AllocationState as A;
        let state = |replicas, allocations: Vec<AllocationView>| {
            WorkloadView::of(&workload(replicas), replicas, allocations, vec![]).state
        };
        assert_eq!(state(1, vec![]), WorkloadState::Progressing);
        assert_eq!(state(1, vec![allocation(1, 2, A::Running)]), WorkloadState::Running);
        assert_eq!(state(1, vec![allocation(1, 1, A::Running)]), WorkloadState::Progressing);
        let both = vec![allocation(1, 2, A::Running), allocation(1, 1, A::Stopping)];
        assert_eq!(state(1, both), WorkloadState::Progressing);
        let half = vec![allocation(1, 2, A::Running), allocation(2, 2, A::Failed)];
        assert_eq!(state(2, half), WorkloadState::Failed);
        assert_eq!(state(1, vec![allocation(1, 2, A::Completed)]), WorkloadState::Completed);
        assert_eq!(state(1, vec![allocation(1, 2, A::BackingOff)]), WorkloadState::Degraded);
        assert_eq!(state(1, vec![allocation(1, 2, A::Unknown)]), WorkloadState::Unknown);
        assert_eq!(state(0, vec![]), WorkloadState::Stopped);
        assert_eq!(state(0, vec![allocation(1, 2, A::Running)]), WorkloadState::Progressing);

        let mut stopped = workload(1);
        stopped.desired = DesiredState::Stop;
        let of =
            |state| WorkloadView::of(&stopped, stopped.replicas, vec![allocation(1, 2, state)], vec![]).state;
        assert_eq!(of(A::Stopping), WorkloadState::Progressing);
        assert_eq!(of(A::Stopped), WorkloadState::Stopped);
        let mut held = workload(1);
        held.desired = DesiredState::Hold;
        let of = |allocations| WorkloadView::of(&held, 1, allocations, vec![]).state;
        assert_eq!(of(vec![]), WorkloadState::Progressing, "it has no node yet");
        assert_eq!(of(vec![allocation(1, 2, A::Stopped)]), WorkloadState::Stopped);

        let pending = PendingSlot {
            workload: WorkloadName::new("web").unwrap(),
            slot: 1,
            why: "1 node: memory".into(),
            hint: "add a node".into(),
            turn: false,
        };
        let view = WorkloadView::of(&workload(1), 1, vec![], vec![pending]);
        assert_eq!((view.state, view.reason().as_deref()), (WorkloadState::Pending, Some("1 node: memory")));
    }

    #[test]
    fn between_two_runs_a_job_waits_for_its_time() {
        use AllocationState as A;
        let mut row = workload(1);
        let schedule = lattice_model::spec::Schedule::of("@daily");
        row.spec = Arc::new(WorkloadSpec { schedule: Some(schedule.clone()), ..(*row.spec).clone() });
        let of = |row: &Workload, allocations| WorkloadView::of(row, 1, allocations, vec![]).state;
        assert_eq!(of(&row, vec![]), WorkloadState::Scheduled);
        row.run_now(Timestamp(9));
        let table = row.timetable.clone().unwrap();
        assert_eq!(of(&row, vec![]), WorkloadState::Progressing);
        // It is of a former version, and goes on as that.
        let run = |state| vec![AllocationView { restart: 1, ..allocation(1, 1, state) }];
        assert_eq!(of(&row, run(A::Running)), WorkloadState::Running);
        assert_eq!(of(&row, run(A::Failed)), WorkloadState::Failed);
        let ended = table.run.map(|run| ScheduledRun { ended: Some(Timestamp(10)), ..run });
        row.timetable = Some(Timetable { run: ended, ..Timetable::begin(schedule, Timestamp(9)) });
        assert_eq!(of(&row, run(A::Failed)), WorkloadState::Scheduled, "the deployment is well");
        assert!(WorkloadState::Scheduled.is_settled());
    }

    #[test]
    fn views_and_requests_read_back() {
        let view =
            WorkloadView::of(&workload(1), 1, vec![allocation(1, 2, AllocationState::Running)], vec![]);
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<WorkloadView>(&json).unwrap(), view);
        assert_eq!(view.serving, 1);

        let request = RunRequest {
            project: None,
            name: StackName::new("run-1").unwrap(),
            spec: WorkloadSpec::of_image("busybox"),
        };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<RunRequest>(&json).unwrap(), request);
        let stack = request.stack_spec();
        assert_eq!(stack.workloads.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["run-1"]);
        assert!(serde_json::from_str::<DeployRequest>(r#"{"spec":{"workloads":{}},"x":1}"#).is_err());
    }
}
