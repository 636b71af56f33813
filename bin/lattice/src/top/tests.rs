//! The screen as people see it, and what keys do to it. Pictures are checked in.

use super::{
    draw::{self, Theme},
    state::{Ask, HISTORY, Key, LINES, Line, Look, Order, Tab, Top},
};
use crate::resolve::tests::allocation;
use lattice_api::{AlertView, EventView, NodeView, Status, WorkloadView};
use lattice_model::{Timestamp, report::AllocationState, resource::Intent};
use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

const NOW: Timestamp = Timestamp(1_700_000_060_000);

fn node(number: u64, name: &str, presence: &str, cpu: u32) -> NodeView {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    serde_json::from_value(json!({
        "id": id, "name": name, "owner": "ada", "pool": "default", "pool_fixed": false, "home_pool": "default",
        "approval": "approved", "eligibility": "eligible",
        "presence": { "state": presence, "since": 1_700_000_000_000_u64 },
        "capacity": { "cpu": 8000, "memory": 17_179_869_184_u64, "disk": 107_374_182_400_u64 },
        "reserved": { "cpu": 500, "memory": 536_870_912 },
        "load": { "at": 1_700_000_059_000_u64, "cpu": cpu, "memory": 12_884_901_888_u64,
                  "disk_free": 53_687_091_200_u64, "containers": 1 },
        "allocations": 1,
        "facts": { "hostname": name, "os": "linux", "os_version": "Debian 12", "kernel": "6.1", "arch": "x86_64",
                   "cpu_model": "A CPU", "cpus": 8, "memory": 17_179_869_184_u64, "engine_version": "27.0",
                   "agent_version": "0.1.0" },
        "evidence": { "key_fingerprint": "", "address": "" },
        "joined_at": 1_700_000_000_000_u64
    }))
    .unwrap()
}

fn service(name: &str, state: &str) -> WorkloadView {
    let mut replica = allocation(&format!("default/shop/{name}"), 1, 7, Intent::Run);
    replica.node_id = node(1, "laptop", "connected", 0).id;
    if state == "failed" {
        replica.status.state = AllocationState::Failed;
        replica.status.exit_code = Some(1);
        replica.status.reason = Some("it ended with 1".into());
    }
    serde_json::from_value(json!({
        "project": "default", "stack": "shop", "name": name, "generation": 1, "desired": "run", "replicas": 1,
        "serving": u32::from(state == "running"), "state": state, "restart": 0,
        "spec": { "image": "nginx:1.27" }, "allocations": [replica], "pending": []
    }))
    .unwrap()
}

fn look() -> Look {
    let status: Status = serde_json::from_value(json!({
        "cluster_id": "00000000-0000-4000-8000-000000000009", "name": "home", "version": "0.1.0", "incarnation": 1,
        "revision": 9, "ready": true, "started_at": 1_700_000_000_000_u64, "agent_addresses": [],
        "nodes": { "connected": 1, "disconnected": 1, "unknown": 0, "pending": 0, "rejected": 0, "quarantined": 0 },
        "planner": { "behind": 0, "pending": 0, "warnings": [] }, "warnings": ["no backup is configured"]
    }))
    .unwrap();
    let event = EventView {
        id: 1,
        at: Timestamp(1_700_000_050_000),
        kind: "node.disconnected".into(),
        subject: "tower".into(),
        node: None,
        stack: None,
        message: "tower is away".into(),
        level: lattice_api::EventLevel::Warning,
        cause: Some("the link was cut".into()),
        caused_by: None,
    };
    let alert: AlertView = serde_json::from_value(json!({
        "id": "node_cpu/node/1", "rule": "node_cpu", "title": "processors are busy for long",
        "hint": "move work away", "doc": "docs/alerts.md#node_cpu",
        "subject": { "kind": "node", "id": node(1, "laptop", "connected", 0).id, "name": "laptop" },
        "severity": "warning", "state": "firing", "since": 1_700_000_000_000_u64, "summary": "98 % are in use"
    }))
    .unwrap();
    // Said already by the one that the node is away.
    let hushed = AlertView { hushed_by: Some("node_disconnected".into()), ..alert.clone() };
    Look {
        status,
        alerts: vec![alert, hushed],
        nodes: vec![node(1, "laptop", "connected", 2000), node(2, "tower", "disconnected", 7800)],
        workloads: vec![service("web", "running"), service("worker", "failed")],
        events: vec![event],
    }
}

fn seen() -> Top {
    let mut top = Top::default();
    top.see(look());
    top
}

fn press(top: &mut Top, keys: &str) -> Option<Ask> {
    keys.chars().fold(None, |_, c| top.press(Key::Char(c), 10))
}

fn picture(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, top, Theme { colour: true, now: NOW })).unwrap();
    terminal.backend().to_string()
}

#[test]
fn nodes_wide_and_narrow() {
    let mut top = seen();
    insta::assert_snapshot!("nodes", picture(&top, 140, 12));
    insta::assert_snapshot!("nodes_narrow", picture(&top, 80, 10));
    top.press(Key::Down, 10);
    top.press(Key::Enter, 10);
    insta::assert_snapshot!("node_details", picture(&top, 120, 20));
}

#[test]
fn services_attention_and_events() {
    let mut top = seen();
    press(&mut top, "2");
    top.press(Key::Enter, 10);
    insta::assert_snapshot!("services", picture(&top, 120, 16));
    press(&mut top, "3");
    insta::assert_snapshot!("attention", picture(&top, 120, 10));
    press(&mut top, "4");
    insta::assert_snapshot!("events", picture(&top, 120, 8));
}

#[test]
fn help_and_what_failed() {
    let mut top = seen();
    top.failed("the server does not answer\x1b[2J.".into());
    press(&mut top, "?");
    insta::assert_snapshot!("help", picture(&top, 90, 16));
    insta::assert_snapshot!("empty", picture(&Top::default(), 60, 6));
}

/// No size of a terminal is too small, and none makes drawing fail.
#[test]
fn every_size_is_drawn() {
    let mut top = seen();
    for tab in "12345".chars() {
        press(&mut top, &tab.to_string());
        for (width, height) in [(1, 1), (3, 2), (20, 5), (99, 7), (400, 100)] {
            top.press(Key::Enter, draw::page(height));
            picture(&top, width, height);
        }
    }
}

#[test]
fn trouble_stands_first_and_orders_change() {
    let mut top = seen();
    let names = |top: &Top| top.nodes().iter().map(|n| n.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&top), ["tower", "laptop"]);
    assert_eq!(top.services()[0].name.as_str(), "worker");
    press(&mut top, "s");
    assert_eq!((top.order, names(&top)), (Order::Name, vec!["laptop".into(), "tower".into()]));
    press(&mut top, "s");
    assert_eq!((top.order, names(&top)), (Order::Load, vec!["tower".into(), "laptop".into()]));
    let notices = top.notices();
    let bad: Vec<bool> = notices.iter().map(|notice| notice.bad).collect();
    assert_eq!(bad, [true, true, false, false], "{notices:?}");
}

/// What an alert says is not said twice.
#[test]
fn an_alert_stands_for_what_it_tells() {
    let mut look = look();
    let lost = look.nodes[1].id.to_string();
    let away = look.alerts[0].clone();
    look.alerts = vec![AlertView { rule: "node_disconnected".into(), ..away }];
    look.alerts[0].subject.id = lost;
    look.alerts[0].subject.name = "tower".into();
    let mut top = Top::default();
    top.see(look);
    let told: Vec<_> = top.notices().into_iter().filter(|n| n.subject == "tower").map(|n| n.text).collect();
    assert_eq!(told, ["98 % are in use: move work away"]);
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut top = seen();
    // While it is typed, letters are letters.
    assert_eq!(press(&mut top, "/lapq"), None);
    assert!(top.nodes().is_empty());
    top.press(Key::Backspace, 10);
    assert_eq!(top.nodes().len(), 1);
    top.press(Key::Enter, 10);
    assert_eq!((top.typing, top.filter.as_str()), (false, "lap"));
    assert_eq!(top.press(Key::Escape, 10), None);
    assert_eq!((top.filter.as_str(), top.nodes().len()), ("", 2));
    assert_eq!(top.press(Key::Escape, 10), Some(Ask::Quit));
    assert_eq!(top.press(Key::Interrupt, 10), Some(Ask::Quit));
}

#[test]
fn the_choice_stays_inside() {
    let mut top = seen();
    for key in [Key::Down, Key::PageDown, Key::End] {
        top.press(key, 10);
        assert_eq!(top.row(), 1, "{key:?}");
    }
    let mut smaller = look();
    smaller.nodes.truncate(1);
    top.see(smaller);
    assert_eq!(top.row(), 0);
}

#[test]
fn logs_of_the_chosen_service() {
    let mut top = seen();
    press(&mut top, "2");
    let asked = press(&mut top, "l");
    let worker = &look().workloads[1].allocations[0];
    assert_eq!(asked, Some(Ask::Follow(vec![(worker.id, "shop/worker#1".into())])));
    assert_eq!(top.tab, Tab::Logs);
    for number in 0..LINES + 50 {
        let text = format!("line {number}");
        top.wrote(Line { who: "shop/worker#1".into(), text, stderr: number % 2 == 0 });
    }
    assert_eq!(top.lines.len(), LINES);
    insta::assert_snapshot!("logs", picture(&top, 80, 9));
    // Who reads further up keeps the same lines, whatever is written meanwhile.
    top.press(Key::PageUp, 4);
    let before = picture(&top, 80, 9);
    top.wrote(Line { who: "shop/worker#1".into(), text: "more".into(), stderr: false });
    let body = |text: &str| text.lines().skip(3).take(5).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&before), body(&picture(&top, 80, 9)));
    top.press(Key::End, 4);
    assert_eq!(top.row(), 0);
}

#[test]
fn loads_are_kept_for_a_while_and_of_nodes_that_are_there() {
    let mut top = Top::default();
    for _ in 0..HISTORY + 10 {
        top.see(look());
    }
    let id = look().nodes[0].id;
    assert_eq!(top.load_of(id), vec![250; HISTORY]);
    let mut without = look();
    without.nodes.remove(0);
    top.see(without);
    assert!(top.load_of(id).is_empty());
}
