//! The tasks of a job: so many at a time, each told its number, each with a line in the history.

use lattice_api::JobRunView;
use lattice_e2e::{BUSYBOX, Cluster, PATIENCE, until};
use std::collections::BTreeSet;

#[test]
fn tasks_are_told_their_number_and_the_one_that_fails_is_named() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let job = format!(
        r#"services:
  batch:
    image: {BUSYBOX}
    command: [sh, -c, "echo task $$LATTICE_TASK_INDEX of $$LATTICE_TASK_COUNT; exit $$((LATTICE_TASK_INDEX == 3))"]
    network_mode: none
    deploy:
      mode: replicated-job
      replicas: 5
      resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }}
      restart_policy: {{ condition: none }}
    x-lattice: {{ array: 2 }}
"#
    );
    let _ = cluster.deploy("s", &job, &[]).ended(1).says(&["batch"]);
    let history =
        || -> Vec<JobRunView> { cluster.lattice(&["job", "history", "s/batch", "-o", "json"]).ok().json() };
    let runs = until("every task has run", PATIENCE, || match history() {
        runs if runs.len() == 5 => Ok(runs),
        runs => Err(runs),
    });
    let failed: Vec<u32> = runs.iter().filter(|run| !run.is_success()).map(|run| run.slot).collect();
    assert_eq!(failed, [4], "{runs:#?}");
    assert_eq!(runs.iter().map(|run| run.slot).collect::<BTreeSet<_>>(), (1..=5).collect());
    let said = cluster.lattice(&["logs", "s/batch"]).ok().stdout;
    for index in 0..5 {
        assert!(said.contains(&format!("task {index} of 5")), "{said}");
    }
    let _ = cluster.lattice(&["scale", "s/batch=9"]).ended(1).says(&["tasks of a job"]);
}
