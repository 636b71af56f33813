//! The owner's hours on the two days of a year on which the clock on the wall jumps, with an agent that runs through
//! the jump: its wall clock is set to shortly before, and goes on by itself.

use super::sleepers;
use lattice_e2e::{Agent, Clock, Cluster, PATIENCE, until};
use serde_json::Value;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the clock of Berlin goes from 2:00 to 3:00 on a Sunday in March, 2027-03-28T01:00Z.
const SPRING: i64 = 1_806_195_600;
/// When it goes from 3:00 back to 2:00 on a Sunday in October, 2027-10-31T01:00Z.
const AUTUMN: i64 = 1_824_944_400;
const STACK: &str = "hours";
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How long before a moment the clock is set: the agent looks at it at least every five seconds.
const BEFORE: i64 = 16;

struct Wall<'a> {
    cluster: &'a Cluster,
    agent: &'a Agent,
    clock: &'a Clock,
}

impl Wall<'_> {
    /// From now on it is this time, in seconds since 1970.
    fn is(&self, at: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.clock.set(at - i64::try_from(now).unwrap());
    }

    fn hours(&self, daily: &str) {
        let text = format!("time_zone = \"Europe/Berlin\"\n[hours]\ndaily = [{daily}]\n");
        std::fs::write(self.agent.folder().join("rules.toml"), text).unwrap();
    }

    fn verdict(&self) -> Value {
        let said = self.agent.lattice_agent(&["status", "-o", "json"], b"").stdout;
        let status: Value = serde_json::from_str(&said).unwrap_or_default();
        status["owner"]["verdict"].clone()
    }

    /// Waits until it stands still, being outside of its hours until this time, and nothing runs.
    #[track_caller]
    fn stands_still_until(&self, at: i64) -> Value {
        let verdict = until(&format!("it stands still until {at}"), PATIENCE, || {
            let verdict = self.verdict();
            let said = &verdict["suspended"];
            let so = said["reason"] == "outside_hours" && said["until"] == at * 1000;
            if so { Ok(verdict) } else { Err(verdict) }
        });
        self.running(false);
        verdict
    }

    /// Waits until it works, until this time, and its work runs.
    #[track_caller]
    fn works_until(&self, at: i64) -> Value {
        let verdict = until(&format!("it works until {at}"), PATIENCE, || {
            let verdict = self.verdict();
            let so = verdict["suspended"].is_null() && verdict["hours_end"] == at * 1000;
            if so { Ok(verdict) } else { Err(verdict) }
        });
        self.running(true);
        verdict
    }

    #[track_caller]
    fn running(&self, so: bool) {
        until(&format!("its work runs: {so}"), PATIENCE, || {
            let filter = format!("label=lattice.stack=default/{STACK}");
            let ids = self.cluster.engine.docker(&["ps", "--quiet", "--filter", &filter]).ok().stdout;
            if ids.trim().is_empty() == so { Err(ids) } else { Ok(()) }
        });
    }
}

/// What was decided last was decided within seconds after this time, by the agent's own clock.
#[track_caller]
fn just_after(at: i64, verdict: &Value) {
    let since = verdict["since"].as_i64().unwrap_or_default();
    let late = since - at * 1000;
    assert!((0..15_000).contains(&late), "{late} ms after: {verdict}");
}

/// With an agent that goes by a clock of its own, and has work.
fn with_a_wall(test: impl FnOnce(&Wall<'_>)) {
    let cluster = Cluster::start();
    let clock = Clock::new();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy(STACK, &sleepers(&[("one", "")]), &[]).ok();
    cluster.serving(STACK, 1);
    agent.stop();
    agent.goes_by(&clock);
    agent.start();
    cluster.connected("a");
    test(&Wall { cluster: &cluster, agent: &agent, clock: &clock });
}

/// In spring half past two is not there. It begins with the jump, at three, and ends at four by the clock on the wall: an
/// hour, and not one and a half. The day before it is as ever.
#[test]
fn hours_begin_with_the_jump_when_clocks_go_forward() {
    with_a_wall(spring);
}

/// In autumn there are two of each time from two to three. It begins at the first half past two, goes on while the clock
/// shows times before that again, and ends at half past three: after two hours.
#[test]
fn hours_do_not_begin_twice_when_clocks_go_back() {
    with_a_wall(autumn);
}

fn spring(wall: &Wall<'_>) {
    wall.hours("\"02:30-04:00\"");
    wall.is(SPRING - DAY + 10 * MINUTE);
    let _ = wall.stands_still_until(SPRING - DAY + 30 * MINUTE);
    wall.is(SPRING - BEFORE);
    let _ = wall.stands_still_until(SPRING);
    just_after(SPRING, &wall.works_until(SPRING + HOUR));
    wall.is(SPRING + HOUR - BEFORE);
    let _ = wall.works_until(SPRING + HOUR);
    just_after(SPRING + HOUR, &wall.stands_still_until(SPRING + DAY - 30 * MINUTE));
}

fn autumn(wall: &Wall<'_>) {
    wall.hours("\"02:30-03:30\"");
    let (begin, end) = (AUTUMN - 30 * MINUTE, AUTUMN + 90 * MINUTE);
    wall.is(begin - BEFORE);
    let _ = wall.stands_still_until(begin);
    let begun = wall.works_until(end);
    just_after(begin, &begun);
    let starts = wall.cluster.starts(STACK);
    wall.is(AUTUMN - BEFORE);
    let set = Instant::now();
    until("the clock has gone back", PATIENCE, || {
        let verdict = wall.works_until(end);
        assert_eq!(verdict["since"], begun["since"], "it has worked all the time");
        if set.elapsed().as_secs() > 25 { Ok(()) } else { Err("not yet") }
    });
    assert_eq!(wall.cluster.starts(STACK), starts, "nothing was stopped, and nothing started again");
    wall.is(end - BEFORE);
    let _ = wall.works_until(end);
    just_after(end, &wall.stands_still_until(begin + DAY + HOUR));

    // What has ended at the first of two equal times does not begin at the second.
    wall.hours("\"02:10-02:20\"");
    wall.is(AUTUMN - 40 * MINUTE - BEFORE);
    let _ = wall.works_until(AUTUMN - 40 * MINUTE);
    let next = AUTUMN + DAY + 10 * MINUTE;
    just_after(AUTUMN - 40 * MINUTE, &wall.stands_still_until(next));
    wall.is(AUTUMN + 15 * MINUTE);
    let _ = wall.stands_still_until(next);
}
