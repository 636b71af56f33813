//! What the README promises: two commands, and what people type afterwards.

use super::shop;
use lattice_api::{AllocationView, AuditView, EventView, NodeView, VolumeView};
use lattice_e2e::{Output, PATIENCE, POSTGRES, Process, Up, eventually, http, speaks_postgres, until};
use lattice_model::{report::AllocationState, resource::Approval};
use rustix::process::Signal;
use std::{net::SocketAddr, process::Stdio, time::Duration};

fn ps(up: &Up) -> Vec<AllocationView> {
    up.lattice(&["ps", "-o", "json", "shop"]).ok().json()
}

fn address(up: &Up, service: &str, port: u16) -> SocketAddr {
    let all = ps(up);
    let found = all.iter().filter(|a| a.workload.as_str() == service).flat_map(|a| &a.status.ports);
    let port =
        found.into_iter().find(|p| p.target.port == port).unwrap_or_else(|| panic!("{service}: {all:#?}"));
    SocketAddr::new(port.host_ip, port.host_port)
}

fn visit(up: &Up) -> u64 {
    until("the shop answers", PATIENCE, || {
        let address = address(up, "web", 8080);
        match http(address) {
            Ok((200, body)) => body
                .trim()
                .strip_prefix("visit ")
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| format!("{body:?}")),
            other => Err(format!("{other:?}")),
        }
    })
}

fn is_waited_for(up: &Up, what: &str, is: impl Fn(&[AllocationView]) -> bool) {
    until(what, PATIENCE, || {
        let all: Vec<AllocationView> = up.lattice(&["ps", "-a", "-o", "json"]).ok().json();
        if is(&all) { Ok(()) } else { Err(all) }
    });
}

fn starts(up: &Up) -> Vec<(String, String)> {
    let mut starts: Vec<_> = ps(up)
        .iter()
        .map(|a| {
            let found = up.engine().labelled(&format!("lattice.allocation={}", a.id));
            assert_eq!(found.len(), 1, "{found:?}");
            (format!("{}#{}", a.workload, a.slot), up.engine().started_at(&found[0]))
        })
        .collect();
    starts.sort();
    starts
}

fn deploy(up: &Up, more: &[&str]) -> Output {
    let (file, (name, image)) = shop();
    let mut args = vec!["deploy", "-f", &file];
    args.extend(more);
    let mut command = up.command(&args);
    command.env(name, image);
    Output::of(&command, b"")
}

/// `psql` on the published port, from outside of the stack's network.
fn psql(up: &Up, sql: &str) -> String {
    let port = address(up, "db", 5432).port().to_string();
    let args =
        ["run", "--rm", "--network", "host", "--env", "PGPASSWORD=shop", "--entrypoint", "psql", POSTGRES];
    let words = ["-h", "127.0.0.1", "-p", &port, "-U", "shop", "-d", "shop", "-qtAX", "-c", sql];
    up.engine().docker(&[&args[..], &words].concat()).ok().text().to_owned()
}

#[test]
fn up_deploy_and_every_command() {
    let mut up = Up::new();
    let words = up.start();
    assert!(words.contains(&format!("http://127.0.0.1:{}", up.api_port())), "no address: {words}");
    let nodes: Vec<NodeView> = up.lattice(&["node", "ls", "-o", "json"]).ok().json();
    assert!(matches!(&nodes[..], [node] if node.approval == Approval::Approved), "{nodes:#?}");
    assert_eq!(up.agents().len(), 1, "the agent is a process of its own");

    // What would happen, and that it did not.
    let _ = deploy(&up, &["--dry-run"]).ok().says(&["+ service db", "+ volume data", "web#1 on"]);
    is_waited_for(&up, "a dry run makes nothing", <[_]>::is_empty);

    let _ = deploy(&up, &[]).ok().says(&["db", "web", "running"]);
    assert!(speaks_postgres(address(&up, "db", 5432)));
    assert_eq!(visit(&up), 1);
    assert_eq!(visit(&up), 2);
    assert_eq!(psql(&up, "SELECT count(*) FROM visit"), "2");
    let table = up.lattice(&["ps"]).ok();
    let _ = table.says(&["shop/db#1", "shop/web#1", "5432/tcp", "8080/tcp"]);
    // The same again changes nothing.
    let before = starts(&up);
    let _ = deploy(&up, &[]).ok();
    assert_eq!(starts(&up), before);

    exec(&up);
    logs(&up);
    stop_start_restart(&up);
    scale_and_run(&up);
    jobs(&up);
    files(&up);
    interrupted_and_up_again(&mut up);
    removal(&up);

    let events: Vec<EventView> = up.lattice(&["events", "-n", "1000", "-o", "json"]).ok().json();
    for kind in ["node.approved", "allocation.running", "allocation.gone", "volume.created", "volume.deleted"]
    {
        assert!(events.iter().any(|event| event.kind == kind), "no event {kind}: {events:#?}");
    }
    let audit: Vec<AuditView> = up.lattice(&["audit", "-n", "1000", "-o", "json"]).ok().json();
    for action in ["stack.deploy", "stack.delete", "node.approve"] {
        assert!(audit.iter().any(|entry| entry.action == action), "no audit entry {action}: {audit:#?}");
    }
    assert!(up.interrupt().success());
}

fn exec(up: &Up) {
    let said = up.lattice(&["exec", "shop/web", "sh", "-c", "echo out; echo err >&2; exit 7"]).ended(7);
    assert_eq!((said.stdout.as_str(), said.stderr.contains("err")), ("out\n", true), "{said}");
    let input: Vec<u8> = (0..200_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let count = up.lattice_with_input(&["exec", "-i", "shop/web", "wc", "-c"], &input).ok();
    assert_eq!(count.text(), input.len().to_string());
    let user = up.lattice(&["exec", "-e", "WORD=blue", "shop/db", "sh", "-c", "echo $WORD"]).ok();
    assert_eq!(user.text(), "blue");
    let sql = up.lattice(&["exec", "shop/db", "psql", "-U", "shop", "-qtAX", "-c", "SELECT 6 * 7"]).ok();
    assert_eq!(sql.text(), "42");
    let _ = up.lattice(&["exec", "shop/web", "no-such-program"]).failed_or(126..=127);
    let _ = up.lattice(&["exec", "nothing", "true"]).ended(3).says(&["nothing"]);
}

trait FailedOr {
    fn failed_or(self, codes: std::ops::RangeInclusive<i32>) -> Self;
}

impl FailedOr for Output {
    fn failed_or(self, codes: std::ops::RangeInclusive<i32>) -> Self {
        if codes.contains(&self.code) { self } else { self.failed() }
    }
}

fn logs(up: &Up) {
    let _ = up.lattice(&["logs", "-n", "500", "shop/web"]).ok().says(&["listening on port 8080"]);
    let one = up.lattice(&["logs", "-n", "1", "shop/web"]).ok();
    assert_eq!(one.stdout.lines().count() + one.stderr.lines().count(), 1, "{one}");
    let mut command = up.command(&["logs", "-f", "-n", "0", "shop/web"]);
    let log = up.home().join("follow.log");
    let mut follow = Process::start("logs -f", command.stdin(Stdio::null()), &log);
    // Visits until one is seen: the stream may have begun a little after the first.
    until("the visit is in the logs that are followed", PATIENCE, || {
        visit(up);
        let text = follow.log();
        if text.contains("/ 200 OK") { Ok(()) } else { Err(text) }
    });
    follow.signal(Signal::INT);
    assert_eq!(follow.wait(PATIENCE).code(), Some(130));
}

fn stop_start_restart(up: &Up) {
    let visits = visit(up);
    let port = address(up, "web", 8080);
    let before = starts(up);
    let _ = up.lattice(&["stop", "shop/web"]).ok();
    is_waited_for(up, "web is stopped, db runs on", |all| {
        all.iter().all(|a| match a.workload.as_str() {
            "web" => a.status.state == AllocationState::Stopped,
            _ => a.status.state == AllocationState::Running,
        })
    });
    assert!(http(port).is_err(), "a stopped service answers");
    let _ = up.lattice(&["start", "shop/web"]).ok();
    is_waited_for(up, "web serves again", |all| all.iter().all(AllocationView::is_serving));
    assert_eq!(address(up, "web", 8080), port, "the port is kept");
    assert_eq!(visit(up), visits + 1, "the data is kept");
    let after = starts(up);
    assert_eq!(before[0], after[0], "db was not touched");

    let _ = up.lattice(&["restart", "shop/web"]).ok();
    eventually("web was started anew", || starts(up).get(1).is_some_and(|web| *web != after[1]));
    is_waited_for(up, "web serves again", |all| all.iter().all(AllocationView::is_serving));
    assert_eq!(before[0], starts(up)[0], "db was not touched");

    // What is killed comes back.
    let web = ps(up).into_iter().find(|a| a.workload.as_str() == "web").unwrap();
    let container = up.engine().labelled(&format!("lattice.allocation={}", web.id)).remove(0);
    up.engine().kill_container(&container);
    is_waited_for(up, "what was killed was started again", |all| {
        all.iter().any(|a| a.id == web.id && a.is_serving() && a.status.restarts == web.status.restarts + 1)
    });
}

fn scale_and_run(up: &Up) {
    let _ = up.lattice(&["scale", "shop/web=3"]).ok();
    is_waited_for(up, "three of web serve", |all| {
        all.iter().filter(|a| a.workload.as_str() == "web" && a.is_serving()).count() == 3
    });
    let ports: std::collections::BTreeSet<_> =
        ps(up).iter().flat_map(|a| &a.status.ports).map(|port| port.host_port).collect();
    assert_eq!(ports.len(), 4, "one of the database's, three of web's, all different");
    let _ = up.lattice(&["scale", "shop/web=1"]).ok();
    is_waited_for(up, "one of web is left", |all| {
        all.len() == 2 && all.iter().all(AllocationView::is_serving)
    });

    let image = lattice_e2e::BUSYBOX;
    let args =
        ["run", "--name", "job", "--restart", "no", "-e", "WORD=green", image, "sh", "-c", "echo $WORD"];
    let _ = up.lattice(&args).ok();
    let _ = up.lattice(&["logs", "job"]).ok().says(&["green"]);
    let _ = up.lattice(&args).failed().says(&["job"]);
    let _ = up.lattice(&["rm", "job"]).ok();
    // It may be seen running before it ends: then following ends well, and the listing says the rest.
    let args = ["run", "--name", "bad", "--restart", "no", image, "sh", "-c", "exit 3"];
    assert!(matches!(up.lattice(&args).code, 0 | 1));
    until("its end is seen", PATIENCE, || {
        let table = up.lattice(&["ps", "-a", "bad"]).ok();
        if table.stdout.contains("failed (3)") { Ok(()) } else { Err(table.stdout) }
    });
    let _ = up.lattice(&["rm", "bad"]).ok();
}

/// A job ends with its exit code, is removed unless it is to be kept, and its runs are remembered.
fn jobs(up: &Up) {
    let image = lattice_e2e::BUSYBOX;
    let said = up.lattice(&["job", "run", "--name", "once", image, "sh", "-c", "echo out; exit 5"]).ended(5);
    assert_eq!(said.stdout, "out\n", "{said}");
    is_waited_for(up, "a job that was not to be kept is gone", |all| {
        all.iter().all(|a| a.workload.as_str() != "once")
    });
    let said = up.lattice(&["job", "run", "--keep", "--name", "kept", image, "sh", "-c", "echo good"]).ok();
    assert_eq!(said.stdout, "good\n", "{said}");
    let _ = up.lattice(&["job", "rerun", "kept"]).ok();
    let _ = up.lattice(&["job", "ls"]).ok().says(&["kept/kept", "completed"]);
    let runs: Vec<lattice_api::JobRunView> =
        up.lattice(&["job", "history", "kept", "-o", "json"]).ok().json();
    assert_eq!(runs.iter().map(|run| run.exit_code).collect::<Vec<_>>(), [Some(0), Some(0)], "{runs:#?}");
    assert!(runs[0].ended_at <= runs[1].started_at, "{runs:#?}");
    let _ = up.lattice(&["job", "rerun", "shop/web"]).failed().says(&["is no job"]);
    let _ = up.lattice(&["rm", "kept"]).ok();
}

/// Files go in and come out as they were, also of a container that does not run.
fn files(up: &Up) {
    let folder = up.home().join("files");
    std::fs::create_dir_all(folder.join("tree/deep")).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.join("tree/deep/file"), &bytes).unwrap();
    let here = |name: &str| folder.join(name).display().to_string();
    let _ = up.lattice(&["cp", &here("tree"), "shop/web:/tmp"]).ok();
    let size = up.lattice(&["exec", "shop/web", "sh", "-c", "wc -c < /tmp/tree/deep/file"]).ok();
    assert_eq!(size.text().trim(), bytes.len().to_string());
    let _ = up.lattice(&["stop", "shop/web"]).ok();
    let _ = up.lattice(&["cp", "shop/web:/tmp/tree", &here("back")]).ok();
    assert_eq!(std::fs::read(folder.join("back/deep/file")).unwrap(), bytes);
    let _ = up.lattice(&["start", "shop/web"]).ok();
    let _ = up.lattice(&["cp", "shop/web:/nothing", &here("x")]).ended(3).says(&["/nothing"]);
    let _ = up.lattice(&["cp", &here("tree"), &here("y")]).ended(2);
    is_waited_for(up, "web serves again", |all| all.iter().all(AllocationView::is_serving));
}

fn interrupted_and_up_again(up: &mut Up) {
    let before = starts(up);
    let web = address(up, "web", 8080);
    assert!(up.interrupt().success(), "Ctrl-C ends `lattice up` with 0");
    assert!(up.agents().is_empty(), "the agent goes with `lattice up`");
    assert_eq!(http(web).expect("workloads run on").0, 200);
    let _ = up.lattice(&["ps"]).ended(4).says(&["lattice up"]);
    up.start();
    is_waited_for(up, "everything is found again", |all| {
        all.len() == 2 && all.iter().all(AllocationView::is_serving)
    });
    assert_eq!(starts(up), before, "nothing was started anew");
    assert_eq!(address(up, "web", 8080), web);
}

fn removal(up: &Up) {
    let visits = visit(up);
    let _ = up.lattice(&["rm", "shop"]).ok().says(&["data"]);
    is_waited_for(up, "nothing is left of shop", <[_]>::is_empty);
    let volumes: Vec<VolumeView> = up.lattice(&["volume", "ls", "-o", "json"]).ok().json();
    assert!(matches!(&volumes[..], [volume] if volume.name.as_str() == "data"), "{volumes:#?}");
    let _ = deploy(up, &[]).ok();
    assert_eq!(visit(up), visits + 1, "a stack of the same name finds its volume again");

    let _ = up.lattice(&["rm", "--volumes", "shop"]).ended(2).says(&["--yes"]);
    let _ = up.lattice(&["rm", "--volumes", "--yes", "shop"]).ok();
    until("the volume is deleted", Duration::from_secs(30), || {
        let volumes: Vec<VolumeView> = up.lattice(&["volume", "ls", "-o", "json"]).ok().json();
        if volumes.is_empty() { Ok(()) } else { Err(volumes) }
    });
    let node = &up.lattice(&["node", "ls", "-o", "json"]).ok().json::<Vec<NodeView>>()[0];
    let label = format!("lattice.node={}", node.id);
    let made = (
        up.engine().labelled(&label),
        up.engine().named("network", &label),
        up.engine().named("volume", &label),
    );
    assert_eq!(made, (vec![], vec![], vec![]), "nothing is left in the engine");
}
