//! Stories told to the planner line by line, with what it does checked in beside them (`tests/scenarios`).
//!
//! A script is a text of commands; `#` begins a remark, which is repeated in the output. After a change on purpose:
//! `INSTA_UPDATE=always cargo nextest run -p lattice-planner scenarios`, and read the difference: it is what people
//! will see. Every plan is checked against the invariants, as in all tests here.
//!
//! | command | what it does |
//! |---|---|
//! | `pool NAME: trusted; rule RULE; …` | makes a pool |
//! | `node NAME CORES MEMORY: label K=V; pool P; gpu N MODEL MEMORY; taint T; stays A B C D` | a node comes |
//! | `service NAME REPLICAS: image I; cpu 1; memory 1g; …` | deploys a service, or its next version |
//! | `go` | plans, and all that are there obey, until nothing changes; prints each plan |
//! | `plan` | plans once, and nobody obeys yet |
//! | `wait` | the same as `go`, and time passes until nothing waits for it |
//! | `cut NAME`, `lost NAME`, `back NAME` | a node's link is cut; it counts as lost; it is there again |
//! | `drain NAME`, `uncordon NAME`, `taint NAME T`, `label NAME K=V` | what operators do |
//! | `what-if drain NAME` | what emptying it would do |
//! | `explain NAME` | where one more replica would go, or why nowhere |
//! | `show` | who is where |

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod support;

use lattice_model::{
    Bytes, Cpu, Duration,
    machine::{GpuFacts, GpuState, GpuVendor},
    pool::{Pool, PoolRule},
    resource::{Allocation, Drain, Eligibility, Intent, Node, Presence, PresenceState},
    spec::{Affinity, GpuCount, GpuRequest, Mode, Preference, RestartPolicy, UpdateOrder, WorkloadSpec},
};
use lattice_planner::{
    Ledger, Plan, PlanReport, Step, explain,
    forecast::{self, Fate},
};
use std::{collections::BTreeMap, fmt::Write as _};
use support::*;

/// A scene, with names for its nodes, and what was said.
struct Story {
    scene: Scene,
    names: Vec<String>,
    out: String,
}

impl Story {
    fn new() -> Self {
        let mut scene = Scene::with_nodes(&[]);
        scene.stack();
        Self { scene, names: Vec::new(), out: String::new() }
    }

    fn say(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.out, "  {}", text.as_ref());
    }

    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|one| one == name).unwrap_or_else(|| panic!("there is no node {name}"))
    }

    fn name(&self, node: lattice_model::NodeId) -> String {
        self.scene
            .cluster
            .nodes
            .get(&node)
            .map_or_else(|| "a node that left".into(), |row| row.name.to_string())
    }

    fn what(&self, row: &Allocation) -> String {
        let image = match row.spec.image.as_str() {
            "img" => String::new(),
            image => format!(" ({image})"),
        };
        format!("{}#{}{image} on {}", row.workload.workload, row.slot, self.name(row.node))
    }

    fn command(&mut self, line: &str) {
        let _ = writeln!(self.out, "> {line}");
        let (head, options) = line.split_once(": ").unwrap_or((line, ""));
        let options: Vec<&str> = options.split("; ").filter(|option| !option.is_empty()).collect();
        let words: Vec<&str> = head.split_whitespace().collect();
        match words.as_slice() {
            ["pool", name] => self.pool(name, &options),
            ["node", name, cores, memory] => self.comes(name, cores.parse().unwrap(), memory, &options),
            ["service", name, replicas] => {
                self.scene.workload(name, replicas.parse().unwrap(), |spec| {
                    options.iter().for_each(|option| service(spec, option));
                });
            }
            ["scale", name, replicas] => {
                self.scene.change(name, |workload| workload.replicas = replicas.parse().unwrap());
            }
            ["go"] => self.go(false),
            ["wait"] => self.go(true),
            ["plan"] => {
                let (plan, report) = self.scene.plan();
                self.told(&plan);
                self.reported(&report);
            }
            ["cut", name] => self.presence(name, PresenceState::Disconnected),
            ["lost", name] => self.presence(name, PresenceState::Lost),
            ["back", name] => self.presence(name, PresenceState::Connected),
            ["drain", name] => {
                let since = self.scene.now;
                self.node(name, |node| {
                    node.eligibility = Eligibility::Draining;
                    node.drain = Some(Drain { since, deadline: None });
                });
            }
            ["uncordon", name] => {
                self.node(name, |node| (node.eligibility, node.drain) = (Eligibility::Eligible, None));
            }
            ["taint", name, taint] => self.node(name, |node| _ = node.taints.insert(taint.parse().unwrap())),
            ["label", name, label] => self.node(name, |node| set(&mut node.labels, label)),
            ["what-if", "drain", name] => self.drained(name),
            ["explain", name] => self.explained(name),
            ["show"] => self.show(),
            _ => panic!("no such command: {line}"),
        }
    }

    fn node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let at = self.at(name);
        self.scene.node(at, change);
    }

    fn presence(&mut self, name: &str, state: PresenceState) {
        let since = self.scene.now;
        self.node(name, |node| node.presence = Presence { state, since });
    }

    fn pool(&mut self, name: &str, options: &[&str]) {
        let mut pool =
            Pool { trusted: false, name: name.parse().unwrap(), ..Pool::default_pool(self.scene.now) };
        for option in options {
            match option.split_once(' ') {
                None if *option == "trusted" => pool.trusted = true,
                Some(("rule", rule)) => {
                    let rule = rule.parse().unwrap();
                    pool.rule = Some(PoolRule { rule, priority: 0, trusts_claims: true });
                }
                Some(("promise", percent)) => pool.oversubscription.cpu_percent = percent.parse().unwrap(),
                Some(("taint", taint)) => _ = pool.taints.insert(taint.parse().unwrap()),
                _ => panic!("no such option of a pool: {option}"),
            }
        }
        let row = self.scene.row(pool);
        self.scene.cluster.pools.insert(row.name.clone(), row);
    }

    fn comes(&mut self, name: &str, cores: u32, memory: &str, options: &[&str]) {
        let at = self.names.len();
        self.names.push(name.to_owned());
        let memory: Bytes = memory.parse().unwrap();
        let mut node = Scene::with_nodes(&[(cores, 1)]).cluster.nodes[&node_id(0)].value.as_ref().clone();
        (node.id, node.name, node.capacity.memory) = (node_id(at), name.parse().unwrap(), memory);
        node.presence.since = self.scene.now;
        for option in options {
            match *option.split(' ').collect::<Vec<_>>() {
                ["label", label] => set(&mut node.labels, label),
                ["pool", pool] => node.pool = pool.parse().unwrap(),
                ["taint", taint] => _ = node.taints.insert(taint.parse().unwrap()),
                ["gpu", count, model, memory] => {
                    node.facts.machine.gpus =
                        cards(name, count.parse().unwrap(), model, memory.parse().unwrap());
                }
                ["stays", a, b, c, d] => {
                    let stays = [a, b, c, d].map(|percent| percent.parse().unwrap());
                    let outlook = lattice_planner::Outlook { stays, ..Default::default() };
                    self.scene.cluster.outlooks.insert(node.id, outlook);
                }
                _ => panic!("no such option of a node: {option}"),
            }
        }
        let row = self.scene.row(node);
        self.scene.cluster.nodes.insert(row.id, row);
    }

    /// Plans and obeys until nothing changes, with time or without.
    fn go(&mut self, in_time: bool) {
        for _ in 0..100 {
            let (plan, report) = self.scene.plan();
            if plan.steps.is_empty() {
                match report.next.values().min() {
                    Some(next) if in_time => {
                        let span = next.since(self.scene.now);
                        self.scene.now = *next;
                        self.say(format!(". {span} later"));
                        self.scene.obey();
                        continue;
                    }
                    _ => return self.reported(&report),
                }
            }
            self.told(&plan);
            self.scene.obey();
        }
        panic!("it never comes to rest");
    }

    /// What a plan does, a line each.
    fn told(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let line = match step {
                Step::Create(row) => {
                    let gpus = if row.gpus.is_empty() {
                        String::new()
                    } else {
                        format!(" [{}]", row.gpus.join(", "))
                    };
                    format!("+ {}{gpus}: {}", self.what(row), row.explanation)
                }
                Step::Update { allocation, why, .. } => {
                    let mark = if allocation.intent == Intent::Remove { "-" } else { "~" };
                    let why = why.as_deref().unwrap_or("as asked");
                    format!("{mark} {}: {why}", self.what(allocation))
                }
                Step::Forget { why, .. } => format!("x {why}"),
                Step::Workload { workload, .. } if workload.settled == workload.generation => {
                    format!("= {} has come up", workload.key.workload)
                }
                Step::Workload { workload, .. } => format!("= {} is under way", workload.key.workload),
                Step::Keep(kept) => format!("= {} is kept", kept.key.workload),
                Step::Claim { volume, .. } => {
                    let node = volume.node.map(|node| self.name(node)).unwrap_or_default();
                    format!("= volume {} is on {node}", volume.key.volume)
                }
                Step::ForgetVolume { key, .. } => format!("x volume {}", key.volume),
                Step::ForgetStack { .. } => "x the stack".to_owned(),
                Step::Missed(missed) => format!("x {} was due and did not run", missed.workload.workload),
            };
            self.say(line);
        }
    }

    fn reported(&mut self, report: &PlanReport) {
        for pending in &report.pending {
            let slots = pending.slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let hint = if pending.hint.is_empty() { String::new() } else { format!(" -- {}", pending.hint) };
            self.say(format!("? {}#{slots} waits: {}{hint}", pending.workload.workload, pending.why));
        }
        for stay in &report.stays {
            let node = self.name(stay.node);
            self.say(format!("! {}#{} stays on {node}: {}", stay.workload.workload, stay.slot, stay.why));
        }
    }

    fn drained(&mut self, name: &str) {
        let node = node_id(self.at(name));
        let mut n = 1 << 90;
        let mut random = || {
            n += 1;
            n
        };
        let moves =
            forecast::drain(&self.scene.cluster, node, &self.scene.policy, self.scene.now, &mut random);
        for one in moves {
            let what = match one.fate {
                Fate::Moves { to, why } => format!("moves to {}: {why}", self.name(to)),
                Fate::Goes => "goes".to_owned(),
                Fate::Stays { why } => format!("stays: {why}"),
                Fate::Waits { why } => format!("waits: {why}"),
            };
            self.say(format!("{}#{} {what}", one.workload.workload, one.slot));
        }
    }

    fn explained(&mut self, name: &str) {
        let mut ledger = Ledger::default();
        let Scene { cluster, policy, now, .. } = &self.scene;
        let explained = explain(&mut ledger, cluster, policy, *now, &key(name)).unwrap();
        if let Some(bound) = &explained.bound {
            self.say(format!("bound to {bound}"));
        }
        let more = explained.another.would_do().map(|would| format!("; {would}")).unwrap_or_default();
        self.say(format!("one more: {}{more}", explained.another));
    }

    fn show(&mut self) {
        let mut there: BTreeMap<String, Vec<String>> =
            self.names.iter().map(|name| (name.clone(), Vec::new())).collect();
        for row in self.scene.cluster.allocations().values().filter(|row| row.intent != Intent::Remove) {
            let who = format!("{}#{}", row.workload.workload, row.slot);
            there.entry(self.name(row.node)).or_default().push(who);
        }
        for (node, mut who) in there {
            who.sort();
            self.say(format!("{node}: {}", if who.is_empty() { "-".to_owned() } else { who.join(" ") }));
        }
    }
}

fn set(labels: &mut BTreeMap<String, String>, label: &str) {
    let (key, value) = label.split_once('=').unwrap();
    labels.insert(key.into(), value.into());
}

/// GPUs of a node, all linked with each other.
fn cards(node: &str, count: u32, model: &str, memory: Bytes) -> Vec<GpuFacts> {
    let id = |index: u32| format!("{node}-{index}");
    let card = |index: u32| GpuFacts {
        id: id(index),
        index,
        vendor: GpuVendor::Nvidia,
        model: model.into(),
        memory,
        lent: true,
        state: GpuState::Proven,
        links: (0..count).filter(|other| *other != index).map(id).collect(),
        ..GpuFacts::default()
    };
    (0..count).map(card).collect()
}

/// One wish of a service.
fn service(spec: &mut WorkloadSpec, option: &str) {
    let (word, rest) = option.split_once(' ').unwrap_or((option, ""));
    let weighed = || rest.rsplit_once(" weight ");
    match word {
        "image" => spec.image = rest.into(),
        "cpu" => spec.resources.reserved_cpu = Some(rest.parse::<Cpu>().unwrap()),
        "memory" => spec.resources.reserved_memory = Some(rest.parse::<Bytes>().unwrap()),
        "pool" => spec.pool = rest.parse().unwrap(),
        "where" => spec.placement.constraints.push(rest.parse().unwrap()),
        "prefer" => {
            let (node, weight) = weighed().unwrap_or((rest, "10"));
            let (node, weight) = (node.parse().unwrap(), weight.parse().unwrap());
            spec.placement.prefers.push(Preference { node, weight });
        }
        "near" | "apart" => {
            let to = match word {
                "near" => &mut spec.placement.near,
                _ => &mut spec.placement.apart,
            };
            to.push(Affinity { to: rest.parse().unwrap(), over: None, weight: None });
        }
        "spread" => spec.placement.spread.push(rest.parse().unwrap()),
        "skew" => spec.placement.max_skew = Some(rest.parse().unwrap()),
        "per-node" => spec.placement.max_per_node = Some(rest.parse().unwrap()),
        "priority" => spec.placement.priority = rest.parse().unwrap(),
        "tolerates" => spec.placement.tolerations.push(rest.parse().unwrap()),
        "lasts" => spec.placement.lasts = Some(Duration::from_secs(60 * rest.parse::<u64>().unwrap())),
        "gpus" => spec.gpus = Some(GpuRequest::any(GpuCount::Exactly(rest.parse().unwrap()))),
        "port" => publish(rest.parse().unwrap())(spec),
        "volume" => mount(spec),
        "network" => network(spec),
        "rendezvous" => spec.rendezvous = Some(lattice_model::spec::Rendezvous { port: 4000 }),
        "global" => spec.mode = Mode::Global,
        "job" => spec.restart = RestartPolicy::Never,
        "start-first" => spec.update.order = UpdateOrder::StartFirst,
        _ => panic!("no such option of a service: {option}"),
    }
}

#[test]
fn scenarios() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    assert!(scripts.len() >= 8, "{scripts:?}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("scenarios");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for script in scripts {
        let mut story = Story::new();
        for line in std::fs::read_to_string(&script).unwrap().lines() {
            match line.trim() {
                "" => story.out.push('\n'),
                remark if remark.starts_with('#') => story.out.push_str(&format!("{remark}\n")),
                line => story.command(line),
            }
        }
        let name = script.file_stem().unwrap().to_string_lossy().into_owned();
        settings.bind(|| insta::assert_snapshot!(name, story.out));
    }
}
