//! Tasks of an array: so many at a time, each once, whatever happens to nodes.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    AllocationId,
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Intent, PresenceState},
    spec::{RestartPolicy, TaskArray},
};
use lattice_planner::{Row, goal::goal_for};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::*;

fn scene(tasks: u32, parallel: u32) -> Scene {
    let mut scene = Scene::with_nodes(&[(8, 16), (8, 16), (8, 16)]);
    scene.stack();
    scene.workload("batch", tasks, |s| {
        s.replicas = tasks;
        s.restart = RestartPolicy::OnFailure { max_retries: Some(1) };
        s.array = Some(TaskArray { parallel });
    });
    scene
}

fn own(scene: &Scene) -> Vec<Row<Allocation>> {
    scene.filling("batch")
}

fn runs(scene: &Scene) -> Vec<AllocationId> {
    let ended = |row: &Row<Allocation>| {
        matches!(row.status.state, AllocationState::Completed | AllocationState::Failed)
    };
    own(scene).iter().filter(|row| !ended(row)).map(|row| row.id).collect()
}

fn ends(scene: &mut Scene, id: AllocationId, code: i64) {
    let mut row = (*scene.cluster.allocations()[&id].value).clone();
    let state = if code == 0 { AllocationState::Completed } else { AllocationState::Failed };
    row.status = AllocationStatus { exit_code: Some(code), ..AllocationStatus::new(state) };
    let row = scene.row(row);
    scene.cluster.put_allocation(row);
}

/// Nodes that are there remove what is to go.
fn tidy(scene: &mut Scene) {
    let there = |row: &Row<Allocation>, scene: &Scene| {
        scene.cluster.nodes[&row.node].presence.state == PresenceState::Connected
    };
    let gone: Vec<_> =
        scene.cluster.allocations().values().filter(|row| row.intent == Intent::Remove).cloned().collect();
    for row in gone.into_iter().filter(|row| there(row, scene)).collect::<Vec<_>>() {
        scene.cluster.remove_allocation(row.id);
    }
}

#[test]
fn so_many_tasks_run_at_a_time_each_is_told_its_number_and_all_run_again() {
    let mut scene = scene(5, 2);
    for round in 0..2u64 {
        let mut done = BTreeSet::new();
        while done.len() < 5 {
            let (_, report) = scene.plan();
            tidy(&mut scene);
            let running = runs(&scene);
            assert_eq!(running.len(), 2.min(5 - done.len()), "{report:#?}");
            if let Some(pending) = report.pending.first() {
                assert_eq!(
                    (pending.why.as_str(), pending.turn),
                    ("at most 2 of its tasks run at the same time", true)
                );
            }
            let row = scene.cluster.allocations()[&running[0]].clone();
            assert_eq!(row.restart, round);
            let goal = goal_for(&scene.cluster, row.node, &|_, _| None).unwrap();
            let told = &goal.allocations[&row.id].spec.environment;
            assert_eq!(told["LATTICE_TASK_INDEX"], (row.slot - 1).to_string());
            assert_eq!(told["LATTICE_TASK_COUNT"], "5");
            assert!(done.insert(row.slot), "no task runs twice");
            ends(&mut scene, row.id, i64::from(row.slot == 3));
        }
        assert!(scene.plan().0.steps.iter().all(|step| !matches!(step, lattice_planner::Step::Create(_))));
        scene.change("batch", |w| w.restart += 1);
    }
}

#[test]
fn another_number_of_tasks_is_another_job() {
    let mut scene = scene(2, 0);
    scene.plan();
    assert_eq!(runs(&scene).len(), 2, "0 is all");
    for id in runs(&scene) {
        ends(&mut scene, id, 0);
    }
    scene.plan();
    scene.workload("batch", 4, |s| {
        s.replicas = 4;
        s.restart = RestartPolicy::Never;
        s.array = Some(TaskArray { parallel: 3 });
    });
    scene.plan();
    assert_eq!(runs(&scene).len(), 3);
    assert!(own(&scene).iter().filter(|row| row.generation == 2).all(|row| row.spec.replicas == 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nodes come and go while tasks end, well or not: never more run than may where anybody can know, planning again
    /// changes nothing, and in the end each has ended.
    #[test]
    fn never_more_than_may(
        (tasks, parallel) in (1u32..9, 1u32..4),
        acts in proptest::collection::vec((0usize..6, 0usize..9), 1..40),
    ) {
        let mut scene = scene(tasks, parallel);
        for (act, n) in acts {
            let running = runs(&scene);
            match act {
                0 => scene.node(n % 3, |node| node.presence.state = PresenceState::Lost),
                1 => scene.node(n % 3, |node| node.presence.state = PresenceState::Connected),
                2 => tidy(&mut scene),
                3 => if let Some(id) = running.get(n) { ends(&mut scene, *id, 3) },
                4 => if n == 0 { scene.change("batch", |w| w.restart += 1) },
                _ => if let Some(id) = running.get(n) { ends(&mut scene, *id, 0) },
            }
            for _ in 0..4 {
                scene.plan();
                prop_assert!(runs(&scene).len() <= parallel as usize);
            }
            prop_assert!(scene.plan().0.steps.is_empty(), "planning again changes nothing");
        }
        for n in 0..3 { scene.node(n, |node| node.presence.state = PresenceState::Connected); }
        for _ in 0..60 {
            scene.plan();
            tidy(&mut scene);
            for id in runs(&scene) { ends(&mut scene, id, 0); }
        }
        prop_assert!(runs(&scene).is_empty());
        prop_assert_eq!(own(&scene).len(), tasks as usize);
    }
}
