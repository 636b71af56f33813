//! Jobs by the clock: each time that is due runs once, also where the server dies around it.

use lattice_api::{EventView, JobRunView, MissedRunsView, WorkloadState, WorkloadView};
use lattice_e2e::{BUSYBOX, Cluster, PATIENCE, until};
use lattice_model::{Duration, Timestamp};
use std::{collections::BTreeSet, time::SystemTime};

fn file(every: &str, rest: &str) -> String {
    format!(
        r#"services:
  tick:
    image: {BUSYBOX}
    command: [sh, -c, "echo tick"]
    network_mode: none
    restart: "no"
    deploy: {{ resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }} }}
    x-lattice: {{ schedule: {{ cron: "{every}"{rest} }} }}
"#
    )
}

fn job(cluster: &Cluster) -> WorkloadView {
    let all: Vec<WorkloadView> = cluster.lattice(&["job", "ls", "-o", "json"]).ok().json();
    all.into_iter().next().expect("there is one job")
}

fn history(cluster: &Cluster) -> Vec<JobRunView> {
    cluster.lattice(&["job", "history", "s/tick", "-o", "json"]).ok().json()
}

fn runs(cluster: &Cluster, what: &str, enough: impl Fn(&[JobRunView]) -> bool) -> Vec<JobRunView> {
    until(what, PATIENCE, || match history(cluster) {
        runs if enough(&runs) => Ok(runs),
        runs => Err(runs),
    })
}

fn passed(at: Timestamp) {
    until("the clock gets there", PATIENCE, || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
        if now as i64 >= at.0 { Ok(()) } else { Err(now) }
    });
}

#[test]
fn each_time_runs_once_though_the_server_dies_around_it() {
    let mut cluster = Cluster::start();
    let _agent = cluster.join("a");
    let _ = cluster.deploy("s", &file("*/10 * * * * *", ", catch_up: 1m"), &[]).ok();
    assert_eq!(job(&cluster).state, WorkloadState::Scheduled, "it waits for its time");
    assert!(history(&cluster).is_empty(), "a deployment runs nothing");
    let first = runs(&cluster, "the first run", |runs| !runs.is_empty());
    assert!(first[0].due.is_some_and(|due| due.0 % 10_000 == 0), "{first:#?}");
    assert!(first[0].is_success() && first[0].late.is_some_and(|late| late < Duration::from_secs(60)));
    let _ = cluster.lattice(&["logs", "s/tick"]).ok().says(&["tick"]);

    // Killed at a time that is due, and a moment later.
    for after in [0, 40] {
        let next = until("it is due again", PATIENCE, || {
            let table = job(&cluster).timetable.expect("it has a schedule");
            table.next.ok_or(table)
        });
        passed(Timestamp(next.0 + after));
        cluster.kill_server();
        cluster.start_server();
        let made_up = |runs: &[JobRunView]| runs.iter().any(|run| run.due >= Some(next));
        let _ = runs(&cluster, "what was due has run", made_up);
    }
    // Down for longer: one run makes up for the times that passed.
    let next = job(&cluster).timetable.and_then(|table| table.next).expect("it is due again");
    cluster.kill_server();
    passed(next + Duration::from_secs(11));
    cluster.start_server();
    let later = next + Duration::from_secs(10);
    let all =
        runs(&cluster, "the last of them has run", |runs| runs.iter().any(|run| run.due >= Some(later)));
    let due: Vec<Timestamp> = all.iter().filter_map(|run| run.due).collect();
    assert_eq!(due.len(), all.len(), "all of them are by the schedule: {all:#?}");
    assert_eq!(due.iter().collect::<BTreeSet<_>>().len(), due.len(), "no time has run twice: {all:#?}");
    assert!(due.is_sorted());
    let missed: Vec<MissedRunsView> =
        cluster.lattice(&["job", "history", "s/tick", "--missed", "-o", "json"]).ok().json();
    assert!(
        missed.iter().any(|one| one.last >= next && one.reason.contains("makes up for all")),
        "{missed:#?}"
    );
    for one in &missed {
        assert!(due.iter().all(|due| *due < one.first || *due > one.last), "{one:#?} {due:?}");
    }

    // Held, nothing is due; somebody runs it all the same, and it goes on from now.
    let _ = cluster.lattice(&["job", "pause", "s/tick"]).ok().says(&["is held"]);
    let _ = cluster.lattice(&["job", "ls"]).ok().says(&["*/10 * * * * *", "paused by"]);
    until("what goes on has ended", PATIENCE, || match job(&cluster).state {
        WorkloadState::Scheduled => Ok(()),
        state => Err(state),
    });
    let _ = cluster.lattice(&["job", "rerun", "s/tick"]).ok();
    let by_hand = runs(&cluster, "the run by hand", |runs| runs.iter().any(|run| run.due.is_none()));
    let _ = cluster.lattice(&["job", "resume", "s/tick"]).ok().says(&["it is due next at"]);
    let more = runs(&cluster, "it goes on", |runs| runs.len() > by_hand.len());
    assert!(more.last().and_then(|run| run.due) > by_hand.iter().filter_map(|run| run.due).max());
    let events: Vec<EventView> = cluster.lattice(&["events", "-o", "json"]).ok().json();
    for kind in ["job.begun", "job.missed", "schedule.pause", "schedule.resume"] {
        assert!(events.iter().any(|event| event.kind == kind), "{kind}");
    }

    // Another schedule begins from now; what is no job has none.
    let _ = cluster.deploy("s", &file("@yearly", ""), &[]).ok();
    let _ = cluster.lattice(&["job", "ls"]).ok().says(&["@yearly", "-01-01"]);
    let _ = cluster.deploy("s", &file("0 0 30 2 *", ""), &[]).failed().says(&["never due"]);
    let service = file("@daily", "").replace("restart: \"no\"", "restart: always");
    let _ = cluster.deploy("s", &service, &[]).failed().says(&["only a job has a schedule"]);
}
