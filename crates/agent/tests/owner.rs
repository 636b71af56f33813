//! The owner's rules and buttons, on a real engine and with a machine whose sensors are files.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use lattice_agent_core::{
    AgentStatus, HomePaths, ItemKind, OwnerStatus, PauseKind, Reply, Request, ask, pause_offline,
};
use lattice_link::message::{BulkEnd, BulkFrame, ExecRequest, StreamRequest};
use lattice_model::{
    StandingState,
    container::ContainerState,
    report::{AllocationState, ReportKind},
};
use lattice_sense::{Departure, Hold, Reading, Sleep};
use std::{
    fs,
    time::{Duration as StdDuration, Instant, SystemTime},
};
use support::{Node, Server, goal, id};

const SLEEP: &str = "sleep 3600";

async fn press(node: &Node, request: Request) -> Result<OwnerStatus, String> {
    let paths = HomePaths::new(node.folder.path());
    match ask(&paths, &request).await.map_err(|error| error.to_string())?.expect("an agent runs") {
        Reply::Owner(owner) => Ok(*owner),
        other => panic!("{other:?}"),
    }
}

async fn rules(node: &Node, text: &str) -> Result<OwnerStatus, String> {
    press(node, Request::SetRules { text: text.into() }).await
}

fn reason(status: &OwnerStatus) -> Option<&'static str> {
    status.verdict.suspended.as_ref().map(|said| said.reason.code())
}

fn runs(status: &AgentStatus) -> bool {
    !status.allocations.is_empty()
        && status.allocations.iter().all(|a| a.status.state == AllocationState::Running)
}

fn waits(status: &AgentStatus, code: &str) -> bool {
    reason(&status.owner) == Some(code)
        && status.allocations.iter().all(|a| a.status.state == AllocationState::Waiting)
}

async fn told(server: &Server, what: &str, state: StandingState, code: Option<&str>) {
    let is = |kind: &ReportKind| match kind {
        ReportKind::Standing { standing } => standing.state == state && standing.reason.as_deref() == code,
        _ => false,
    };
    server
        .until(what, |seen| {
            let last =
                seen.reports.iter().rev().find(|(_, kind)| matches!(kind, ReportKind::Standing { .. }));
            last.is_some_and(|(_, kind)| is(kind)).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_works_at_once_offline_and_across_a_restart() {
    let mut server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let container = node.container(web).await.unwrap();
    let paused = press(&node, Request::Pause { span_ms: None }).await.unwrap();
    assert_eq!((reason(&paused), paused.standing.state), (Some("paused"), StandingState::Suspended));
    let status = server.state(web, AllocationState::Waiting).await;
    assert!(status.reason.as_deref().unwrap().contains("the owner paused it"), "{status:?}");
    told(&server, "the server knows why", StandingState::Suspended, Some("paused")).await;
    assert_eq!(node.container(web).await.unwrap().state, ContainerState::Exited);
    // Neither a restart of the agent nor the server's absence changes it.
    server.down().await;
    node.kill().await;
    node.start().await;
    node.says("still paused", |status| waits(status, "paused")).await;
    press(&node, Request::Resume {}).await.unwrap();
    node.says("it runs again", runs).await;
    assert_eq!(node.container(web).await.unwrap().id, container.id, "the same container goes on");
    // A pause for a while ends by itself.
    let for_a_while = press(&node, Request::Pause { span_ms: Some(3000) }).await.unwrap();
    assert!(for_a_while.verdict.suspended.unwrap().until.is_some());
    node.says("paused for a while", |status| waits(status, "paused")).await;
    node.says("and over", runs).await;
    server.up().await;
    told(&server, "it works", StandingState::Working, None).await;
    server
        .until("hello says so too", |seen| {
            let hello = seen.hellos.last()?;
            (seen.hellos.len() > 1 && hello.standing.state == StandingState::Working).then_some(())
        })
        .await;
    // Without an agent the button stops what runs by itself, and the next agent finds it pressed.
    node.stop().await;
    let home = loop {
        match lattice_agent_core::Home::open(node.folder.path()) {
            Ok(home) => break home,
            Err(_) => tokio::time::sleep(StdDuration::from_millis(20)).await,
        }
    };
    let done = pause_offline(&home, &*node.runtime, PauseKind::Pause, None).await.unwrap();
    assert_eq!((done.stopped.len(), done.left.len()), (1, 0));
    drop(home);
    assert_eq!(node.container(web).await.unwrap().state, ContainerState::Exited);
    node.start().await;
    node.says("paused from before", |status| waits(status, "paused")).await;
    press(&node, Request::Resume {}).await.unwrap();
    node.says("it runs once more", runs).await;
    node.stop().await;
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finishing_waits_for_jobs_and_pauses_then() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let (web, job, late) = (id(), id(), id());
    let job_of = |goal: &mut lattice_model::Goal, name| {
        let wanted = goal.allocations.get_mut(&name).unwrap();
        let mut spec = (*wanted.spec).clone();
        spec.restart = lattice_model::spec::RestartPolicy::Never;
        wanted.spec = spec.into();
    };
    // It ends when the test says so.
    let script = "while [ ! -e /tmp/end ]; do sleep 0.1; done";
    let mut both = goal([(web, SLEEP), (job, script)]);
    job_of(&mut both, job);
    server.give(1, &both);
    server.state(web, AllocationState::Running).await;
    server.state(job, AllocationState::Running).await;
    let finishing = press(&node, Request::Finish { span_ms: None }).await.unwrap();
    assert!(finishing.verdict.allowed() && !finishing.verdict.takes_new());
    told(&server, "it finishes", StandingState::Finishing, Some("finishing")).await;
    let mut more = goal([(web, SLEEP), (job, script), (late, SLEEP)]);
    job_of(&mut more, job);
    server.give(2, &more);
    server.state(late, AllocationState::Waiting).await;
    let status = node.status().await.unwrap();
    assert_eq!(reason(&status.owner), None, "the job still runs");
    let container = node.container(job).await.unwrap();
    node.runtime.kill(&container.id, "SIGKILL").await.unwrap();
    node.says("paused", |status| reason(&status.owner) == Some("paused")).await;
    told(&server, "and said so", StandingState::Suspended, Some("paused")).await;
    server.state(web, AllocationState::Waiting).await;
    assert!(node.container(late).await.is_none());
    node.stop().await;
    node.clear().await;
}

/// The machine's files.
struct Machine<'a>(&'a Node);

impl Machine<'_> {
    fn put(&self, path: &str, text: &str) {
        let path = self.0.folder.path().join("machine").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mains(&self, online: bool) {
        self.put("sys/class/power_supply/BAT0/type", "Battery\n");
        self.put("sys/class/power_supply/AC/type", "Mains\n");
        self.put("sys/class/power_supply/AC/online", if online { "1\n" } else { "0\n" });
    }

    fn celsius(&self, celsius: u32) {
        self.put("sys/class/hwmon/hwmon0/temp1_input", &format!("{celsius}000\n"));
    }

    fn typed(&self, ago: u64) {
        self.put("dev/pts/0", "");
        let file =
            fs::File::options().write(true).open(self.0.folder.path().join("machine/dev/pts/0")).unwrap();
        let at = SystemTime::now() - StdDuration::from_secs(ago);
        file.set_times(fs::FileTimes::new().set_accessed(at)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mains_heat_users_and_hours_decide_and_work_comes_back() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let machine = Machine(&node);
    machine.mains(true);
    machine.celsius(50);
    machine.typed(3600);
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let text = "[battery]\nrun = \"on_mains\"\nmains_for = \"1s\"\n[temperature]\nstop_at = 85\nstart_at = 75\n\
                [user]\nstop_when_active = true\nidle_for = \"15s\"\n";
    assert!(rules(&node, text).await.unwrap().verdict.allowed());
    node.says("it runs", runs).await;
    machine.mains(false);
    node.says("on battery", |status| waits(status, "on_battery")).await;
    told(&server, "the server knows", StandingState::Suspended, Some("on_battery")).await;
    machine.mains(true);
    let back = Instant::now();
    node.says("mains are back", |status| status.owner.verdict.allowed()).await;
    println!(
        "agent-wake/mains {} ms after the plug, of which 1000 ms are the rule's",
        back.elapsed().as_millis()
    );
    node.says("it runs again", runs).await;
    // Heat has two thresholds, and nothing changes between them.
    machine.celsius(90);
    node.says("hot", |status| waits(status, "hot")).await;
    machine.celsius(80);
    let look = node.says("seen", |status| status.owner.facts.temperature.known() == Some(&80)).await;
    assert_eq!(reason(&look.owner), Some("hot"));
    machine.celsius(70);
    let back = Instant::now();
    node.says("cool", |status| status.owner.verdict.allowed()).await;
    println!("agent-wake/heat {} ms", back.elapsed().as_millis());
    machine.celsius(80);
    let look = node.says("warm", |status| status.owner.facts.temperature.known() == Some(&80)).await;
    assert!(look.owner.verdict.allowed());
    // Somebody types.
    machine.typed(0);
    node.says("in use", |status| waits(status, "user_active")).await;
    machine.typed(3600);
    node.says("nobody there", runs).await;
    // A sensor that is gone is said to be.
    fs::remove_dir_all(node.folder.path().join("machine/sys/class/hwmon")).unwrap();
    node.says("unsure", |s| s.owner.verdict.unsure.iter().any(|unsure| unsure.rule == "temperature")).await;
    // Hours that begin in two hours.
    let minutes = support::now().0 / 60_000 % 1440;
    let clock = |n: i64| format!("{:02}:{:02}", n % 1440 / 60, n % 60);
    let later = format!(
        "time_zone = \"UTC\"\n[hours]\ndaily = [\"{}-{}\"]\n",
        clock(minutes + 120),
        clock(minutes + 180)
    );
    let outside = rules(&node, &later).await.unwrap();
    assert_eq!(reason(&outside), Some("outside_hours"));
    let begins = outside.verdict.suspended.unwrap().until.unwrap().since(support::now()).0;
    assert!((7_000_000..=7_200_000).contains(&begins), "{begins}");
    node.says("out of its hours", |status| waits(status, "outside_hours")).await;
    // Rules that contradict themselves change nothing; a file that cannot be read stops everything.
    let refused = rules(&node, "[battery]\nrun = \"on_mains\"\nstop_below = 3").await.unwrap_err();
    assert!(refused.contains("contradict"), "{refused}");
    assert!(rules(&node, "").await.unwrap().verdict.allowed());
    node.says("it runs by no rules", runs).await;
    fs::write(HomePaths::new(node.folder.path()).rules(), "[hours\n").unwrap();
    node.says("broken", |status| waits(status, "rules_broken")).await;
    fs::remove_file(HomePaths::new(node.folder.path()).rules()).unwrap();
    node.says("mended", runs).await;
    node.stop().await;
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_and_caps_are_kept_on_the_node() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let before = server.fake.seen.lock().hellos.last().unwrap().capacity;
    rules(&node, "[consent]\nexec = false\n[caps]\nmemory = \"50%\"").await.unwrap();
    let exec = ExecRequest {
        allocation: web,
        command: vec!["true".into()],
        tty: false,
        stdin: false,
        size: None,
        user: None,
        workdir: None,
        env: Default::default(),
    };
    server
        .until("the server hears that less is lent", |seen| {
            let lent = seen.reports.iter().rev().find_map(|(_, kind)| match kind {
                ReportKind::Facts { capacity, .. } => Some(*capacity),
                _ => None,
            })?;
            (lent.memory < before.memory && lent.cpu == before.cpu).then_some(())
        })
        .await;
    let mut stream = server.open(StreamRequest::Exec(exec)).await;
    let end = loop {
        match stream.recv.recv().await.unwrap() {
            Some(BulkFrame::Close(end)) => break end,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert!(matches!(&end, BulkEnd::Failed(refusal) if refusal.code == "owner_forbids"), "{end:?}");
    assert_eq!(node.container(web).await.unwrap().state, ContainerState::Running);
    rules(&node, "[consent]\nimages = [\"docker.io/library/*\"]").await.unwrap();
    let status = server.state(web, AllocationState::Failed).await;
    assert!(status.reason.as_deref().unwrap().contains("consent.images"), "{status:?}");
    rules(&node, "[consent]\nimages = [\"docker.io/lattice-test/*\"]").await.unwrap();
    server.state(web, AllocationState::Running).await;
    let Some(Reply::Preview(survey)) =
        ask(&HomePaths::new(node.folder.path()), &Request::ResetPreview {}).await.unwrap()
    else {
        panic!("a preview")
    };
    assert_eq!(survey.of(ItemKind::Container).count(), 1);
    node.stop().await;
    node.clear().await;
}

/// A session manager that the test plays.
#[derive(Default)]
struct Played {
    holds: parking_lot::Mutex<Vec<(&'static str, std::sync::Weak<()>)>>,
    departures: tokio::sync::Mutex<Option<tokio::sync::mpsc::Receiver<Departure>>>,
    idle: parking_lot::Mutex<u64>,
    metered: std::sync::atomic::AtomicBool,
}

impl Played {
    fn hold(&self, what: &'static str) -> Hold {
        let hold = std::sync::Arc::new(());
        self.holds.lock().push((what, std::sync::Arc::downgrade(&hold)));
        Box::new(hold)
    }

    fn holds(&self, what: &str) -> bool {
        self.holds.lock().iter().any(|(name, hold)| *name == what && hold.strong_count() > 0)
    }

    async fn until(&self, what: &str, held: bool) {
        let began = Instant::now();
        while self.holds(what) != held {
            assert!(began.elapsed() < support::LIMIT, "{what} is not {held}");
            tokio::time::sleep(StdDuration::from_millis(20)).await;
        }
    }
}

#[async_trait::async_trait]
impl Sleep for Played {
    async fn keep_awake(&self, _why: &str) -> Result<Hold, String> {
        Ok(self.hold("awake"))
    }

    async fn delay(&self, _why: &str) -> Result<Hold, String> {
        Ok(self.hold("delay"))
    }

    async fn next(&self) -> Option<Departure> {
        match self.departures.lock().await.as_mut() {
            Some(departures) => departures.recv().await,
            None => std::future::pending().await,
        }
    }

    async fn idle(&self, _now: lattice_model::Timestamp) -> Reading<lattice_model::Duration> {
        Reading::Known(lattice_model::Duration::from_secs(*self.idle.lock()))
    }

    async fn metered(&self) -> Reading<bool> {
        Reading::Known(self.metered.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleep_is_announced_and_held_off_while_work_runs() {
    let server = Server::start().await;
    let mut node = Node::joined(&server).await;
    let (says, departures) = tokio::sync::mpsc::channel(4);
    let played = std::sync::Arc::new(Played::default());
    *played.departures.lock().await = Some(departures);
    node.manager = Some(played.clone());
    Machine(&node).mains(true);
    node.start().await;
    played.until("delay", true).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    played.until("awake", true).await;
    Machine(&node).mains(false);
    played.until("awake", false).await;
    Machine(&node).mains(true);
    // The server hears of it before the machine sleeps, and that it is back.
    says.send(Departure::Sleep).await.unwrap();
    told(&server, "asleep", StandingState::Asleep, None).await;
    played.until("delay", false).await;
    says.send(Departure::Awake).await.unwrap();
    told(&server, "awake", StandingState::Working, None).await;
    played.until("delay", true).await;
    says.send(Departure::Shutdown).await.unwrap();
    told(&server, "away", StandingState::Away, None).await;
    says.send(Departure::Stays).await.unwrap();
    told(&server, "still there", StandingState::Working, None).await;
    // What the session manager knows counts for the rules.
    *played.idle.lock() = 3600;
    rules(&node, "[user]\nstop_when_active = true\nidle_for = \"15s\"\n[network]\nmetered = \"suspend\"")
        .await
        .unwrap();
    node.says("nobody there", runs).await;
    *played.idle.lock() = 0;
    node.says("somebody is there", |status| waits(status, "user_active")).await;
    played.until("awake", false).await;
    *played.idle.lock() = 3600;
    node.says("gone again", runs).await;
    played.metered.store(true, std::sync::atomic::Ordering::Relaxed);
    node.says("metered", |status| waits(status, "metered")).await;
    node.stop().await;
    node.clear().await;
}

/// Each with its two thresholds, and what was counted is known to the next agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charge_fans_and_the_data_of_a_month_decide_too() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let machine = |node: &Node, path: &str, text: &str| Machine(node).put(path, text);
    let charge = |node: &Node, percent: u32| {
        machine(node, "sys/class/power_supply/BAT0/capacity", &format!("{percent}\n"));
    };
    let fan = |node: &Node, turns: u32| {
        machine(node, "sys/class/hwmon/hwmon0/fan1_input", &format!("{turns}\n"));
    };
    let sent = |node: &Node, mebibytes: u64| {
        let bytes = format!("{}\n", mebibytes << 20);
        machine(node, "sys/class/net/eth0/statistics/tx_bytes", &bytes);
    };
    Machine(&node).mains(false);
    machine(&node, "sys/class/power_supply/BAT0/status", "Discharging\n");
    charge(&node, 80);
    fan(&node, 1000);
    machine(&node, "sys/class/net/eth0/device/vendor", "");
    machine(&node, "sys/class/net/eth0/statistics/rx_bytes", "0\n");
    sent(&node, 5);
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let text = "[battery]\nrun = \"always\"\nstop_below = 30\nstart_above = 50\n\
                [noise]\nstop_at = 3500\nstart_at = 2500\n[caps]\ndata_per_month = \"10m\"\n";
    assert!(rules(&node, text).await.unwrap().verdict.allowed());
    node.says("it runs", runs).await;
    // 1. The battery: nothing changes between the thresholds.
    charge(&node, 29);
    node.says("low", |status| waits(status, "battery_low")).await;
    told(&server, "the server knows", StandingState::Suspended, Some("battery_low")).await;
    charge(&node, 45);
    let look = node.says("seen", |status| status.owner.facts.charge.known() == Some(&45)).await;
    assert_eq!(reason(&look.owner), Some("battery_low"));
    charge(&node, 51);
    node.says("charged", runs).await;
    charge(&node, 45);
    let look = node.says("seen", |status| status.owner.facts.charge.known() == Some(&45)).await;
    assert!(look.owner.verdict.allowed());
    // 2. The fans.
    fan(&node, 3600);
    node.says("loud", |status| waits(status, "loud")).await;
    fan(&node, 3000);
    let look = node.says("seen", |status| status.owner.facts.fan.known() == Some(&3000)).await;
    assert_eq!(reason(&look.owner), Some("loud"));
    fan(&node, 2400);
    node.says("silent", runs).await;
    // 3. The month's data: what was sent before anybody counted does not. The next agent begins with the thresholds
    // from which work goes on.
    charge(&node, 80);
    sent(&node, 12);
    let look =
        node.says("counted", |s| s.owner.facts.data.known().is_some_and(|data| data.0 >= 7 << 20)).await;
    assert!(look.owner.verdict.allowed());
    node.stop().await;
    node.start().await;
    node.says("it runs on", runs).await;
    sent(&node, 16);
    node.says("used up", |status| waits(status, "data_used_up")).await;
    node.stop().await;
    node.start().await;
    node.says("still used up", |status| waits(status, "data_used_up")).await;
    assert!(rules(&node, "[caps]\ndata_per_month = \"1g\"").await.unwrap().verdict.allowed());
    node.says("more is allowed", runs).await;
    node.stop().await;
    node.clear().await;
}
