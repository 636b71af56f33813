//! Arbitrary rules against a specification that is written down once more here: what constraints mean, who may be
//! where, and what a place is worth. The fleet's own [`holds`](lattice_scheduler::holds) is not asked.

#![allow(clippy::unwrap_used)]

use lattice_model::{
    AllocationId, Bytes, Cpu, NodeId,
    machine::{GpuFacts, GpuState},
    resource::{Capacity, Eligibility, Node, Taint, TaintEffect},
    spec::{Protocol, Toleration},
};
use lattice_scheduler::{
    PortClaim, Refusal, Rule, Strategy,
    fleet::{
        Crowd, Fleet, Gpu, GpuNeed, Kind, Lasts, Machine, Near, Need, Outlook, Over, Pull, Room, Spread, Tags,
    },
};
use proptest::prelude::{Strategy as Generator, *};
use std::{collections::BTreeMap, sync::Arc};

const GIB: u64 = 1 << 30;

/// A node in the words of this test.
#[derive(Clone, Debug)]
struct Desk {
    site: Option<&'static str>,
    disk_kind: Option<&'static str>,
    level: Option<&'static str>,
    arch: &'static str,
    engine: (&'static str, u64),
    battery: bool,
    /// Model, GiB, lent.
    gpus: Vec<(&'static str, u64, bool)>,
    cores: u64,
    gib: u64,
    disk: u64,
    mbit: u64,
    taints: Vec<(&'static str, TaintEffect)>,
    leaves: Option<u8>,
    chance: u8,
    rank: u8,
    closed: bool,
}

fn id(n: usize) -> NodeId {
    NodeId::from_random((n as u128 + 1) << 80)
}

fn key(n: usize) -> AllocationId {
    AllocationId::from_random((n as u128 + 1) << 80)
}

impl Desk {
    fn machine(&self, n: usize) -> Machine {
        let mut node = Node::blank(id(n));
        for (key, value) in [("site", self.site), ("disk", self.disk_kind), ("level", self.level)] {
            node.labels.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        }
        node.facts.arch = self.arch.into();
        node.facts.engine_version = self.engine.0.into();
        node.facts.machine.battery = self.battery;
        let facts = |(at, (model, gib, lent)): (usize, &(&str, u64, bool))| GpuFacts {
            id: format!("GPU-{at}"),
            index: at as u32,
            model: (*model).into(),
            memory: Bytes(gib * GIB),
            lent: *lent,
            state: GpuState::Proven,
            ..GpuFacts::default()
        };
        node.facts.machine.gpus = self.gpus.iter().enumerate().map(facts).collect();
        node.capacity = Capacity {
            cpu: Cpu::from_cores(self.cores as u32),
            memory: Bytes(self.gib * GIB),
            disk: Bytes(self.disk * GIB),
        };
        if self.closed {
            node.eligibility = Eligibility::Cordoned;
        }
        let room = Room {
            cpu: self.cores * 1000,
            memory: self.gib * GIB,
            disk: self.disk * GIB,
            bandwidth: self.mbit * 1_000_000,
            slots: 5,
        };
        let gpu = |(model, gib, lent): &(&str, u64, bool)| Gpu {
            usable: *lent,
            ..Gpu::of((*model).to_owned(), gib * GIB)
        };
        let taint = |(key, effect): &(&str, TaintEffect)| Taint {
            key: (*key).into(),
            value: String::new(),
            effect: *effect,
        };
        Machine {
            gpus: self.gpus.iter().map(gpu).collect(),
            taints: self.taints.iter().map(taint).collect(),
            outlook: Outlook {
                stays: [self.chance; 4],
                leaves: self.leaves,
                rank: self.rank,
                gpu_rank: self.rank,
            },
            ..Machine::of(Arc::new(node), room)
        }
    }
}

/// What of a node.
#[derive(Clone, Copy, Debug)]
enum What {
    Site,
    Disk,
    Level,
    Arch,
    Engine,
    Battery,
    Cpu,
    Memory,
    Space,
    GpuModel,
    GpuMemory,
    GpuCount,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Site => "node.site",
            Self::Disk => "node.labels.disk",
            Self::Level => "node.labels.level",
            Self::Arch => "node.platform.arch",
            Self::Engine => "node.engine",
            Self::Battery => "node.battery",
            Self::Cpu => "node.cpu",
            Self::Memory => "node.memory",
            Self::Space => "node.disk",
            Self::GpuModel => "node.gpu.model",
            Self::GpuMemory => "node.gpu.memory",
            Self::GpuCount => "node.gpu.count",
        }
    }

    fn text(self, desk: &Desk) -> Option<&'static str> {
        match self {
            Self::Site => desk.site,
            Self::Disk => desk.disk_kind,
            Self::Level => desk.level,
            Self::Arch => Some(desk.arch),
            Self::Battery => Some(if desk.battery { "yes" } else { "no" }),
            _ => None,
        }
    }

    /// As it is compared.
    fn number(self, desk: &Desk) -> Option<u64> {
        match self {
            Self::Level => desk.level.and_then(|level| level.parse().ok()),
            Self::Engine => (!desk.engine.0.is_empty()).then_some(desk.engine.1),
            Self::Cpu => Some(desk.cores),
            Self::Memory => Some(desk.gib),
            Self::Space => Some(desk.disk),
            Self::GpuCount => Some(desk.gpus.iter().filter(|gpu| gpu.2).count() as u64),
            _ => None,
        }
    }

    /// A number as people write it.
    fn written(self, number: u64) -> String {
        match self {
            Self::Memory | Self::Space | Self::GpuMemory => format!("{number}g"),
            _ => number.to_string(),
        }
    }
}

#[derive(Clone, Debug)]
enum Check {
    Is(Vec<&'static str>),
    IsNot(Vec<&'static str>),
    Exists,
    Absent,
    Than(&'static str, u64),
}

fn stands(a: u64, sign: &str, b: u64) -> bool {
    match sign {
        "==" => a == b,
        "!=" => a != b,
        ">" => a > b,
        ">=" => a >= b,
        "<" => a < b,
        "<=" => a <= b,
        other => unreachable!("{other}"),
    }
}

/// A constraint in the words of this test.
#[derive(Clone, Debug)]
struct Term(What, Check);

impl Term {
    fn written(&self) -> String {
        let Self(what, check) = self;
        let name = what.name();
        match check {
            Check::Is(values) => format!("{name} in ({})", values.join(", ")),
            Check::IsNot(values) => format!("{name} not in ({})", values.join(",")),
            Check::Exists => format!("{name} exists"),
            Check::Absent => format!("{name} does not exist"),
            Check::Than(sign, number) => format!("{name} {sign} {}", what.written(*number)),
        }
    }

    fn constraint(&self) -> lattice_model::spec::Constraint {
        self.written().parse().unwrap()
    }

    fn holds(&self, desk: &Desk) -> bool {
        let Self(what, check) = self;
        let lent: Vec<_> = desk.gpus.iter().filter(|gpu| gpu.2).collect();
        let one_of = |text: &str, values: &[&str]| {
            let arch = |text: &str| if text == "amd64" { "x86_64".to_owned() } else { text.to_lowercase() };
            values.iter().any(|value| match what {
                What::Arch => arch(text) == arch(value),
                // A whole word of the name.
                What::GpuModel => text.split(' ').any(|word| word.eq_ignore_ascii_case(value)),
                _ => text.eq_ignore_ascii_case(value),
            })
        };
        match (what, check) {
            (What::GpuModel, Check::Is(values)) => lent.iter().any(|gpu| one_of(gpu.0, values)),
            (What::GpuModel, Check::IsNot(values)) => {
                lent.is_empty() || lent.iter().any(|gpu| !one_of(gpu.0, values))
            }
            (What::GpuModel | What::GpuMemory | What::GpuCount, Check::Exists) => !lent.is_empty(),
            (What::GpuModel | What::GpuMemory | What::GpuCount, Check::Absent) => lent.is_empty(),
            // A card tells less than its name says: 93 of hundred will do.
            (What::GpuMemory, Check::Than(">=", gib)) => lent.iter().any(|gpu| gpu.1 * 100 >= gib * 93),
            (What::GpuMemory, Check::Than("<", gib)) => lent.iter().any(|gpu| gpu.1 * 100 < gib * 93),
            (What::GpuMemory, Check::Than(sign, gib)) => lent.iter().any(|gpu| stands(gpu.1, sign, *gib)),
            (What::Engine, Check::Exists) => what.number(desk).is_some(),
            (What::Engine, Check::Absent) => what.number(desk).is_none(),
            (What::Cpu | What::Memory | What::Space, Check::Exists) => true,
            (What::Cpu | What::Memory | What::Space, Check::Absent) => false,
            (_, Check::Exists) => what.text(desk).is_some(),
            (_, Check::Absent) => what.text(desk).is_none(),
            (_, Check::Is(values)) => what.text(desk).is_some_and(|text| one_of(text, values)),
            (_, Check::IsNot(values)) => !what.text(desk).is_some_and(|text| one_of(text, values)),
            (_, Check::Than("!=", number)) => what.number(desk) != Some(*number),
            (_, Check::Than(sign, number)) => what.number(desk).is_some_and(|has| stands(has, sign, *number)),
        }
    }
}

fn term() -> impl Generator<Value = Term> {
    let signs = || prop::sample::select(vec![">", ">=", "<", "<="]);
    let equal = || prop::sample::select(vec![">", ">=", "<", "<=", "==", "!="]);
    let words = |what: What, words: &'static [&'static str]| {
        let some = || prop::sample::subsequence(words, 1..=words.len());
        prop_oneof![
            3 => some().prop_map(Check::Is),
            3 => some().prop_map(Check::IsNot),
            1 => Just(Check::Exists),
            1 => Just(Check::Absent),
        ]
        .prop_map(move |check| Term(what, check))
    };
    let number = |what: What, most: u64| {
        prop_oneof![
            5 => (equal(), 0..most).prop_map(|(sign, number)| Check::Than(sign, number)),
            1 => Just(Check::Exists),
            1 => Just(Check::Absent),
        ]
        .prop_map(move |check| Term(what, check))
    };
    prop_oneof![
        2 => words(What::Site, &["A", "b", "c"]),
        2 => words(What::Disk, &["ssd", "HDD"]),
        1 => words(What::Level, &["3", "high"]),
        1 => (signs(), 0u64..8).prop_map(|(sign, number)| Term(What::Level, Check::Than(sign, number))),
        1 => words(What::Arch, &["x86_64", "aarch64", "amd64"]),
        1 => words(What::Battery, &["yes", "no"]),
        1 => number(What::Engine, 30),
        1 => number(What::Cpu, 8),
        1 => number(What::Memory, 8),
        1 => number(What::Space, 40),
        1 => words(What::GpuModel, &["l4", "H100"]),
        1 => (signs(), 20u64..90).prop_map(|(sign, gib)| Term(What::GpuMemory, Check::Than(sign, gib))),
        1 => number(What::GpuCount, 4),
    ]
}

fn desk() -> impl Generator<Value = Desk> {
    let of = |all: &'static [&'static str]| prop::option::weighted(0.8, prop::sample::select(all));
    let taint = (
        prop::sample::select(vec!["night", "gpu"]),
        prop::sample::select(vec![TaintEffect::Refuse, TaintEffect::Avoid]),
    );
    let gpu =
        (prop::sample::select(vec![("NVIDIA L4", 23), ("NVIDIA H100 80GB", 79)]), prop::bool::weighted(0.8));
    let labels = (of(&["a", "B"]), of(&["ssd", "hdd"]), of(&["3", "7", "high"]));
    let kind = (
        prop::sample::select(vec!["x86_64", "aarch64"]),
        prop::sample::select(vec![("", 0), ("20", 20), ("24", 24)]),
        any::<bool>(),
        prop::collection::vec(gpu.prop_map(|((model, gib), lent)| (model, gib, lent)), 0..4),
    );
    let room = (1u64..8, 1u64..8, 0u64..40, 0u64..100);
    let rest = (
        prop::collection::vec(taint, 0..2),
        prop::option::of(8u8..10),
        0u8..100,
        0u8..100,
        prop::bool::weighted(0.08),
    );
    (labels, kind, room, rest).prop_map(|(labels, kind, room, rest)| {
        let ((site, disk_kind, level), (arch, engine, battery, gpus)) = (labels, kind);
        let ((cores, gib, disk, mbit), (taints, leaves, chance, rank, closed)) = (room, rest);
        Desk {
            site,
            disk_kind,
            level,
            arch,
            engine,
            battery,
            gpus,
            cores,
            gib,
            disk,
            mbit,
            taints,
            leaves,
            chance,
            rank,
            closed,
        }
    })
}

/// What is asked for: the need, and its constraints in the words of this test.
#[derive(Clone, Debug)]
struct Ask {
    need: Arc<Need>,
    rules: Vec<Term>,
    prefers: Vec<(Term, i32)>,
}

fn ask() -> impl Generator<Value = Ask> {
    let gpus = prop_oneof![
        5 => Just(None),
        3 => (1u16..11).prop_map(|tenths| Some(GpuNeed::part(tenths * 100))),
        1 => (1u16..3).prop_map(|count| Some(GpuNeed::whole(count))),
        1 => Just(Some(GpuNeed { memory: 40 * GIB, ..GpuNeed::part(500) })),
        1 => Just(Some(GpuNeed::whole(GpuNeed::ALL))),
    ];
    let sometimes =
        |most: u64| prop::option::weighted(0.4, 0..most).prop_map(|amount| amount.unwrap_or_default());
    let room = (0u64..3000, 0u64..3, sometimes(30), sometimes(70));
    let tag = || prop::sample::select(vec!["web", "db"]);
    let over = || prop_oneof![Just(Over::label("site")), Just(Over::Leaving)];
    let pull = prop_oneof![Just(Pull::Must), Just(Pull::MustNot), (-9i32..9).prop_map(Pull::Prefers)];
    let near = (tag(), prop::option::of(Just(Over::label("site"))), pull);
    let spread = (tag(), over(), prop::option::weighted(0.4, 1u32..3), 0i32..9);
    let crowd = (tag(), prop::option::of(1u32..3), 0i32..9);
    let ip = prop_oneof![Just(None), Just(Some("0.0.0.0".parse().unwrap()))];
    let others = (
        prop::collection::vec(near, 0..2),
        prop::collection::vec(spread, 0..3),
        prop::option::weighted(0.4, crowd),
        prop::option::weighted(0.3, (80u16..82, ip)),
        prop::option::of(prop::sample::select(vec!["night", "gpu"])),
    );
    let wishes = (
        prop::collection::vec(term(), 0..3),
        prop::collection::vec((term(), -9i32..9), 0..3),
        0i32..9,
        0i32..9,
    );
    (room, gpus, others, wishes).prop_map(|(room, gpus, others, wishes)| {
        let ((cpu, memory, disk, mbit), (near, spread, crowd, port, bears)) = (room, others);
        let (rules, prefers, stays, merit) = wishes;
        let need = Need {
            room: Room { cpu, memory: memory * GIB, disk: disk * GIB, bandwidth: mbit * 1_000_000, slots: 1 },
            gpus,
            ports: port
                .map(|(port, ip)| PortClaim { port, protocol: Protocol::Tcp, ip })
                .into_iter()
                .collect(),
            rules: rules.iter().map(|term| Rule::Constraint(term.constraint())).collect(),
            prefers: prefers.iter().map(|(term, weight)| (term.constraint(), *weight)).collect(),
            tolerates: bears.map(|key| Toleration { key: key.into(), value: None }).into_iter().collect(),
            near: near.into_iter().map(|(tag, over, pull)| Near { tag: tag.into(), over, pull }).collect(),
            spread: spread
                .into_iter()
                .map(|(tag, over, max_skew, weight)| Spread { tag: tag.into(), over, max_skew, weight })
                .collect(),
            crowd: crowd.map(|(tag, most, weight)| Crowd { tag: tag.into(), most, weight }),
            lasts: Some(Lasts { time: 2, weight: stays }),
            merit,
            priority: 0,
        };
        Ask { need: Arc::new(need), rules, prefers }
    })
}

/// What stands against a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Against {
    Constraint(String),
    Taint,
    Closed,
    Room(Kind),
    Port(u16),
    Gpu,
    Crowd,
    Nobody,
    Somebody,
    Unwanted,
    Skew,
}

/// What is asked for, under which tag, where, with which GPUs.
type There = (Arc<Need>, Option<&'static str>, usize, Vec<u8>);

/// Lists that are walked through.
#[derive(Clone, Debug)]
struct Plain {
    desks: Vec<Desk>,
    there: BTreeMap<usize, There>,
}

impl Plain {
    fn domain(&self, node: usize, over: Option<&Over>) -> Option<String> {
        match over {
            None => Some(node.to_string()),
            Some(Over::Leaving) => self.desks[node].leaves.map(|hour| hour.to_string()),
            Some(_) => self.desks[node].site.map(str::to_owned),
        }
    }

    /// How many with a tag are where a node is; where it is nowhere, those that are nowhere, too.
    fn there(&self, tag: &str, over: Option<&Over>, node: usize) -> u32 {
        let domain = self.domain(node, over);
        let has = |(_, own, at, _): &&There| *own == Some(tag) && self.domain(*at, over) == domain;
        self.there.values().filter(has).count() as u32
    }

    fn on(&self, node: usize) -> impl Iterator<Item = &There> {
        self.there.values().filter(move |(_, _, at, _)| *at == node)
    }

    fn free(&self, node: usize, kind: Kind) -> u64 {
        let all = self.desks[node].machine(node).capacity.of(kind);
        all.checked_sub(self.on(node).map(|(need, ..)| need.room.of(kind)).sum()).unwrap()
    }

    fn gpus(&self, node: usize) -> Vec<u32> {
        let mut used = vec![0; self.desks[node].gpus.len()];
        for (need, _, _, gpus) in self.on(node) {
            gpus.iter()
                .for_each(|at| used[usize::from(*at)] += u32::from(need.gpus.as_ref().unwrap().each()));
        }
        used
    }

    /// What no load changes.
    fn lasting(&self, node: usize, ask: &Ask) -> Vec<Against> {
        let desk = &self.desks[node];
        let broken = ask.rules.iter().filter(|term| !term.holds(desk));
        let mut all: Vec<Against> =
            broken.map(|term| Against::Constraint(term.constraint().to_string())).collect();
        let refuses = |(key, effect): &&(&str, TaintEffect)| {
            *effect == TaintEffect::Refuse && ask.need.tolerates.iter().all(|one| one.key != *key)
        };
        all.extend(desk.taints.iter().filter(refuses).map(|_| Against::Taint));
        all.extend(desk.closed.then_some(Against::Closed));
        all
    }

    /// All that stands against a node.
    fn against(&self, node: usize, ask: &Ask, tag: Option<&str>) -> Vec<Against> {
        let (desk, need) = (&self.desks[node], &ask.need);
        let mut all = self.lasting(node, ask);
        let short = Kind::ALL.into_iter().filter(|kind| need.room.of(*kind) > self.free(node, *kind));
        all.extend(short.map(Against::Room));
        for port in &need.ports {
            let collides = |other: &&PortClaim| {
                other.port == port.port && (other.ip == port.ip || other.ip.is_some() || port.ip.is_some())
            };
            let taken = self.on(node).flat_map(|(need, ..)| &need.ports).any(|other| collides(&other));
            all.extend(taken.then_some(Against::Port(port.port)));
        }
        if let Some(gpus) = &need.gpus {
            let used = self.gpus(node);
            let such = desk.gpus.iter().zip(&used);
            let such = such.filter(|((_, gib, lent), _)| *lent && gib * GIB >= gpus.memory);
            let such: Vec<bool> = such.map(|(_, used)| used + u32::from(gpus.each()) <= 1000).collect();
            let free = such.iter().filter(|free| **free).count();
            let enough = match gpus.count {
                GpuNeed::ALL => free > 0 && free == such.len(),
                count => free >= usize::from(count),
            };
            all.extend((!enough).then_some(Against::Gpu));
        }
        for near in &need.near {
            let nowhere = self.domain(node, near.over.as_ref()).is_none();
            let there = if nowhere { 0 } else { self.there(&near.tag, near.over.as_ref(), node) };
            let first = tag == Some(near.tag.as_str())
                && !self.there.values().any(|(_, own, ..)| *own == Some(near.tag.as_str()));
            match near.pull {
                Pull::Must if nowhere || (there == 0 && !first) => all.push(Against::Nobody),
                Pull::MustNot if there > 0 => all.push(Against::Somebody),
                _ => {}
            }
        }
        for (other, _, at, _) in self.there.values() {
            let shuns = |near: &&Near| near.pull == Pull::MustNot && tag == Some(near.tag.as_str());
            for near in other.near.iter().filter(shuns) {
                let domain = self.domain(node, near.over.as_ref());
                let together = domain.is_some() && self.domain(*at, near.over.as_ref()) == domain;
                all.extend(together.then_some(Against::Unwanted));
            }
        }
        for spread in need.spread.iter().filter(|spread| spread.max_skew.is_some()) {
            let count = |node: usize| {
                let somewhere = self.domain(node, Some(&spread.over)).is_some();
                somewhere.then(|| self.there(&spread.tag, Some(&spread.over), node))
            };
            let could = (0..self.desks.len()).filter(|node| self.lasting(*node, ask).is_empty());
            let least = could.filter_map(count).min().unwrap_or(0);
            let own = u32::from(tag == Some(spread.tag.as_str()));
            let uneven = count(node).is_none_or(|there| there + own > least + spread.max_skew.unwrap());
            all.extend(uneven.then_some(Against::Skew));
        }
        if let Some(Crowd { tag, most: Some(most), .. }) = &need.crowd
            && self.there(tag, None, node) >= *most
        {
            all.push(Against::Crowd);
        }
        all
    }

    /// How much a place is wished for.
    fn wish(&self, node: usize, ask: &Ask) -> i64 {
        let (desk, need) = (&self.desks[node], &ask.need);
        let sum = |all: &mut dyn Iterator<Item = i64>| all.sum::<i64>();
        let prefers = ask.prefers.iter().filter(|(term, _)| term.holds(desk));
        let prefers = sum(&mut prefers.map(|(_, weight)| i64::from(*weight)));
        let avoided = |(key, effect): &&(&str, TaintEffect)| {
            *effect == TaintEffect::Avoid && need.tolerates.iter().all(|one| one.key != *key)
        };
        let avoided = desk.taints.iter().filter(avoided).count() as i64 * 100_000_000;
        let near = sum(&mut need.near.iter().map(|near| match near.pull {
            Pull::Prefers(weight)
                if self.domain(node, near.over.as_ref()).is_some()
                    && self.there(&near.tag, near.over.as_ref(), node) > 0 =>
            {
                i64::from(weight)
            }
            _ => 0,
        }));
        let spread = sum(&mut need.spread.iter().map(|spread| {
            // Nodes that nobody expects to leave do not leave together.
            let stays = spread.over == Over::Leaving && desk.leaves.is_none();
            let there = if stays { 0 } else { self.there(&spread.tag, Some(&spread.over), node) };
            i64::from(spread.weight) * i64::from(there)
        }));
        let crowd = need
            .crowd
            .as_ref()
            .map_or(0, |crowd| i64::from(crowd.weight) * i64::from(self.there(&crowd.tag, None, node)));
        let stays = i64::from(need.lasts.unwrap().weight) * i64::from(desk.chance) / 100;
        let rank = i64::from(need.merit) * i64::from(desk.rank) / 100;
        prefers - avoided + near - spread - crowd + stays + rank
    }

    /// How well it fits; none where that depends on what its GPUs lose.
    fn fit(&self, node: usize, ask: &Ask, strategy: Strategy) -> Option<i64> {
        let left = |kind: Kind| {
            let all = self.desks[node].machine(node).capacity.of(kind);
            (self.free(node, kind) - ask.need.room.of(kind)) * 1000 / all
        };
        let left = left(Kind::Cpu).min(left(Kind::Memory)) as i64;
        let left = if strategy == Strategy::Pack { 1000 - left } else { left };
        self.desks[node].gpus.is_empty().then_some(left)
    }
}

fn is(refusal: &Refusal) -> Against {
    match refusal {
        Refusal::Constraint(constraint) => Against::Constraint(constraint.to_string()),
        Refusal::Taint(_) => Against::Taint,
        Refusal::Cordoned => Against::Closed,
        Refusal::Room(kind) => Against::Room(*kind),
        Refusal::Port(port) => Against::Port(*port),
        Refusal::Gpu(_) => Against::Gpu,
        Refusal::MaxPerNode(_) => Against::Crowd,
        Refusal::NobodyNear(_) => Against::Nobody,
        Refusal::Near(_) => Against::Somebody,
        Refusal::Unwanted => Against::Unwanted,
        Refusal::Skew(_) => Against::Skew,
        other => panic!("nobody would refuse so: {other:?}"),
    }
}

fn kind(refusal: &Refusal) -> String {
    // A GPU's reason is said in fewer words where another node fits.
    if let Refusal::Gpu(_) = refusal { "gpu".to_owned() } else { refusal.to_string() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The pick is feasible by every rule, and the best of what is; who is refused is refused by each node for
    /// something that stands against it; reasons are counted right, and what alone would have to change is alone.
    #[test]
    fn arbitrary_rules_hold_and_the_best_is_picked(
        desks in prop::collection::vec(desk(), 1..7),
        asks in prop::collection::vec(ask(), 1..6),
        story in prop::collection::vec((0usize..6, prop::option::of(prop::sample::select(vec!["web", "db"])), 0usize..8), 1..25),
        strategy in prop_oneof![Just(Strategy::Pack), Just(Strategy::Spread)],
    ) {
        let mut fleet = Fleet::new(strategy);
        desks.iter().enumerate().for_each(|(n, desk)| fleet.put_node(desk.machine(n)));
        let mut plain = Plain { desks, there: BTreeMap::new() };
        for (number, (which, tag, goes)) in story.iter().enumerate() {
            // One that is there goes now and then.
            if let Some(known) = plain.there.keys().nth(*goes).copied().filter(|_| goes % 2 == 1) {
                plain.there.remove(&known);
                prop_assert!(fleet.release(key(known)));
            }
            let ask = &asks[which % asks.len()];
            let tags: Tags = tag.iter().map(|tag| (*tag).into()).collect();
            fleet.learn(&ask.need);
            let against: Vec<Vec<Against>> =
                (0..plain.desks.len()).map(|node| plain.against(node, ask, *tag)).collect();
            let scores: BTreeMap<NodeId, Option<i64>> = fleet.scores(&ask.need, &tags).into_iter().collect();
            let mut refused: BTreeMap<String, u32> = BTreeMap::new();
            for (node, against) in against.iter().enumerate() {
                let score = scores[&id(node)];
                prop_assert_eq!(score.is_some(), against.is_empty(), "node {}: {:?} for {:?}", node, against, ask);
                match (score, fleet.find_on(&ask.need, &tags, id(node))) {
                    (Some(score), Ok(_)) => {
                        // What is left, and what GPUs lose, is less than half of the least wish.
                        let wish = (score + (1 << 31)) >> 32;
                        prop_assert_eq!(wish, plain.wish(node, ask), "node {} for {:?}", node, ask);
                        if let Some(fit) = plain.fit(node, ask, strategy) {
                            prop_assert_eq!(score - (wish << 32), fit);
                        }
                    }
                    (None, Err(refusal)) => {
                        prop_assert!(against.contains(&is(&refusal)), "node {}: {:?} and not {:?}", node, against, refusal);
                        *refused.entry(kind(&refusal)).or_default() += 1;
                    }
                    (score, found) => prop_assert!(false, "node {}: {:?} and {:?}", node, score, found),
                }
            }
            let account = fleet.account(&ask.need, &tags);
            let mut counted: BTreeMap<String, u32> = BTreeMap::new();
            for (refusal, n) in &account.refused {
                *counted.entry(kind(refusal)).or_default() += n;
            }
            prop_assert_eq!(counted, refused);
            let best = scores.iter().filter_map(|(id, score)| Some(((*score)?, std::cmp::Reverse(*id)))).max();
            match (best, fleet.place(key(number), &ask.need, &tags)) {
                (Some((score, std::cmp::Reverse(node))), Ok(placed)) => {
                    prop_assert_eq!((placed.node, placed.score), (node, score));
                    let at = (0..plain.desks.len()).find(|at| id(*at) == node).unwrap();
                    plain.there.insert(number, (Arc::clone(&ask.need), *tag, at, placed.gpus));
                    prop_assert!(plain.gpus(at).iter().all(|used| *used <= 1000));
                }
                (None, Err(_)) => {
                    for room in Kind::ALL {
                        let alone = against.iter().filter(|against| ***against == [Against::Room(room)]).count();
                        let said = account.changes.get(&format!("less {room}")).copied().unwrap_or(0);
                        prop_assert_eq!(said as usize, alone, "less {}: {:?}", room, against);
                    }
                }
                (best, placed) => prop_assert!(false, "{:?} and {:?}", best, placed),
            }
        }
    }

    /// Of nodes that are as good otherwise, replicas take such as leave at different hours: those of an hour have at
    /// most one more than those of another that could take one, and a node that stays counts for itself.
    #[test]
    fn replicas_leave_at_different_hours(
        hours in prop::collection::vec(prop::option::weighted(0.8, 0u8..4), 2..12),
        replicas in 1usize..12,
    ) {
        let mut fleet = Fleet::new(Strategy::Spread);
        let room = Room { cpu: 1_000_000, memory: 1 << 50, slots: 100, ..Room::UNLIMITED };
        for (n, hour) in hours.iter().enumerate() {
            let outlook = Outlook { leaves: *hour, ..Outlook::default() };
            fleet.put_node(Machine { outlook, ..Machine::new(id(n), room) });
        }
        let spread = Spread { tag: "web".into(), over: Over::Leaving, max_skew: None, weight: 300 };
        let crowd = Some(Crowd { tag: "web".into(), most: Some(1), weight: 1000 });
        let room = Room { cpu: 1, slots: 1, ..Room::default() };
        let need = Arc::new(Need { room, spread: vec![spread], crowd, ..Need::default() });
        let tags: Tags = ["web".into()].into();
        let mut used: Vec<usize> = Vec::new();
        for n in 0..replicas.min(hours.len()) {
            let placed = fleet.place(key(n), &need, &tags).unwrap();
            used.push((0..hours.len()).find(|at| id(*at) == placed.node).unwrap());
        }
        let of = |hour: u8| used.iter().filter(|at| hours[**at] == Some(hour)).count();
        let free = |hour: Option<u8>| (0..hours.len()).any(|at| hours[at] == hour && !used.contains(&at));
        for hour in 0..4 {
            let other = (0..4).filter(|other| free(Some(*other))).map(of).min();
            prop_assert!(of(hour) <= other.unwrap_or(usize::MAX - 1) + 1, "{:?} of {:?}", used, hours);
            // Nobody leaves from where another node would have stayed.
            prop_assert!(!free(None) || of(hour) <= 1, "{:?} of {:?}", used, hours);
        }
    }
}
