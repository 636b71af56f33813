//! The schedule of a job through the API: what is refused, holding it, and what it leaves behind.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::*;

const PAUSE: &str = "/v1/projects/default/stacks/shop/workloads/web/schedule/pause";
const RESUME: &str = "/v1/projects/default/stacks/shop/workloads/web/schedule/resume";
const RESTART: &str = "/v1/projects/default/stacks/shop/workloads/web/restart";

fn job(change: Value) -> Value {
    let mut web = json!({ "image": "one", "restart": "never", "networks": {} });
    for (key, value) in change.as_object().unwrap() {
        web[key] = value.clone();
    }
    json!({ "spec": { "workloads": { "web": web } } })
}

fn daily() -> Value {
    json!({ "schedule": { "cron": "@daily", "zone": "Europe/Berlin" } })
}

#[tokio::test]
async fn a_schedule_is_checked_held_and_kept() {
    let world = World::new().await;
    for (change, path, why) in [
        (json!({ "restart": "always", "schedule": { "cron": "@daily" } }), "schedule", "only a job has one"),
        (json!({ "mode": "global", "schedule": { "cron": "@daily" } }), "schedule", "once on each node"),
        (json!({ "schedule": { "cron": "0 0 31 2 *" } }), "schedule", "never due"),
        (json!({ "schedule": { "cron": "* * * * * *" } }), "schedule", "twice within 10s"),
        (json!({ "schedule": { "cron": "@daily", "zone": "Berlin" } }), "schedule", "no time zone"),
        (json!({ "schedule": { "cron": "@daily", "catch_up": 700_000_000 } }), "schedule", "at most 7d late"),
    ] {
        let (status, body) = world.ask("PUT", SHOP, Some(job(change))).await;
        let found = &body["details"][0];
        assert_eq!(
            (status, found["path"].as_str()),
            (422, Some(&*format!("workloads.web.{path}"))),
            "{body:#}"
        );
        assert!(found["message"].as_str().unwrap().contains(why), "{body:#}");
    }
    let (status, body) = world.ask("PUT", SHOP, Some(job(json!({ "schedule": { "crom": "@daily" } })))).await;
    assert!(status >= 400, "{body:#}");
    let mut waits = job(daily());
    waits["spec"]["workloads"]["next"] = json!({ "image": "one", "networks": {}, "depends_on": { "web": { "condition": "service_started" } } });
    let (_, body) = world.ask("PUT", SHOP, Some(waits)).await;
    assert!(body["details"][0]["message"].as_str().unwrap().contains("nothing can wait"), "{body:#}");

    world.ok("PUT", SHOP, Some(job(daily()))).await;
    let view = world.until(WEB, |view| view["timetable"]["next"].is_number()).await;
    assert_eq!((view["state"].as_str(), view["restart"].as_u64()), (Some("scheduled"), Some(0)));
    assert!(view["allocations"].as_array().unwrap().is_empty());
    // Berlin's midnight is at 22 or 23 o'clock.
    assert!([22, 23].contains(&(view["timetable"]["next"].as_i64().unwrap() / 3_600_000 % 24)), "{view:#}");

    let held = world.ok("POST", PAUSE, None).await;
    assert!(held["timetable"]["paused"]["by"].is_string() && held["timetable"]["next"].is_null(), "{held:#}");
    // Deploying the same holds it still; so does what somebody runs all the same.
    world.ok("PUT", SHOP, Some(job(daily()))).await;
    let run = world.ok("POST", RESTART, None).await;
    assert_eq!(
        (run["restart"].as_u64(), run["timetable"]["run"]["due"].is_null()),
        (Some(1), true),
        "{run:#}"
    );
    assert!(run["timetable"]["paused"].is_object());
    let on = world.ok("POST", RESUME, None).await;
    assert!(on["timetable"]["paused"].is_null() && on["timetable"]["next"].is_number(), "{on:#}");
    for action in ["schedule.pause", "schedule.resume"] {
        world.event(action).await;
        let audit = world.get("/v1/audit").await;
        assert!(
            audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == action),
            "{audit:#}"
        );
    }
    let missed = world.get("/v1/missed-runs").await;
    assert_eq!(missed["items"], json!([]));

    // Another schedule is no other container; suspended, nobody but the file lets it go on; without one there is none.
    let mut suspended = daily();
    suspended["schedule"]["suspended"] = json!(true);
    world.ok("PUT", SHOP, Some(job(suspended))).await;
    let view = world.get(WEB).await;
    assert_eq!(
        (view["generation"].as_u64(), view["timetable"]["next"].is_null()),
        (Some(1), true),
        "{view:#}"
    );
    let (status, body) = world.ask("POST", RESUME, None).await;
    assert_eq!((status, body["hint"].as_str()), (409, Some("take `suspended` out of it and deploy it")));
    world.ok("PUT", SHOP, Some(job(json!({})))).await;
    assert!(world.get(WEB).await["timetable"].is_null());
    let (status, body) = world.ask("POST", PAUSE, None).await;
    assert_eq!(status, 409, "{body:#}");
    assert!(body["message"].as_str().unwrap().contains("has no schedule"), "{body:#}");
}

/// Ten-second times: the run that is due is placed with its time, by a real node's link, and a restart of the server
/// makes up for what passed meanwhile.
#[tokio::test]
async fn what_is_due_is_placed_once_also_after_a_restart() {
    let mut world = World::new().await;
    let (mut a, mut to_a) = world.node("a").await;
    let often = json!({ "schedule": { "cron": "*/10 * * * * *" } });
    world.ok("PUT", SHOP, Some(job(often))).await;
    let goal = loop {
        let goal = a.goal(&mut to_a).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    assert!(goal.allocations.values().all(|one| one.spec.schedule.is_none()), "agents know no schedules");
    let view = world.until(WEB, |view| view["allocations"][0]["due"].is_number()).await;
    let due = view["allocations"][0]["due"].as_i64().unwrap();
    assert_eq!((due % 10_000, view["timetable"]["run"]["due"].as_i64()), (0, Some(due)));
    world.event("job.begun").await;
    // The run goes on, so the next ones wait; and who comes after this server knows it.
    world.restart(|_| {}).await;
    let view = world.get(WEB).await;
    assert_eq!((view["restart"].as_u64(), view["timetable"]["run"]["due"].as_i64()), (Some(1), Some(due)));
}
