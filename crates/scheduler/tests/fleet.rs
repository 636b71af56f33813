//! What the fleet promises, against a plain model that knows nothing of how it does it.

#![allow(clippy::unwrap_used)]

use lattice_model::{
    AllocationId, NodeId,
    resource::{Eligibility, Node, Taint, TaintEffect},
    spec::{Constraint, NodeAttribute, Protocol, Toleration},
};
use lattice_scheduler::{
    PortClaim, Refusal, Rule, Strategy,
    fleet::{
        Crowd, Fleet, FleetError, Gpu, GpuNeed, Lasts, Machine, Near, Need, Outlook, Over, Placed, Pull,
        Room, Spread, Tags,
    },
    holds,
};
use proptest::prelude::{Strategy as Generator, *};
use std::{collections::BTreeMap, sync::Arc};

fn node_id(n: usize) -> NodeId {
    NodeId::from_random((n as u128 + 1) << 80)
}

fn key(n: usize) -> AllocationId {
    AllocationId::from_random((n as u128 + 1) << 80)
}

fn node(machine: &mut Machine) -> &mut Node {
    Arc::make_mut(&mut machine.node)
}

fn term(text: &str) -> Constraint {
    text.parse().unwrap()
}

fn site(machine: &mut Machine, site: Option<usize>) {
    node(machine).labels.remove("site");
    node(machine).labels.extend(site.map(|site| ("site".to_owned(), format!("s{site}"))));
}

fn is_open(machine: &Machine) -> bool {
    machine.node.eligibility == Eligibility::Eligible
}

fn turn(machine: &mut Machine) {
    node(machine).eligibility = if is_open(machine) { Eligibility::Cordoned } else { Eligibility::Eligible };
}

/// What is on a node, as a plain list.
#[derive(Clone, Debug)]
struct There {
    need: Arc<Need>,
    tags: Tags,
    node: usize,
    gpus: Vec<u8>,
}

/// The plain model: lists that are walked through.
#[derive(Clone, Debug, Default)]
struct Plain {
    machines: Vec<Machine>,
    there: BTreeMap<usize, There>,
}

impl Plain {
    fn on(&self, node: usize) -> impl Iterator<Item = &There> {
        self.there.values().filter(move |there| there.node == node)
    }

    fn free(&self, node: usize) -> [i128; 5] {
        let list =
            |room: &Room| [room.cpu, room.memory, room.disk, room.bandwidth, room.slots].map(i128::from);
        let mut free = list(&self.machines[node].capacity);
        for there in self.on(node) {
            for (free, used) in free.iter_mut().zip(list(&there.need.room)) {
                *free -= used;
            }
        }
        free
    }

    fn gpus(&self, node: usize) -> Vec<i32> {
        let mut free = vec![1000; self.machines[node].gpus.len()];
        for there in self.on(node) {
            for at in &there.gpus {
                free[usize::from(*at)] -= i32::from(there.need.gpus.as_ref().unwrap().each());
            }
        }
        free
    }

    fn domain(&self, node: usize, over: Option<&Over>) -> Option<String> {
        match over {
            None => Some(format!("node {node}")),
            Some(Over::Attribute(NodeAttribute::Label(key))) => {
                self.machines[node].node.label(key).map(str::to_owned)
            }
            Some(other) => unreachable!("{other}"),
        }
    }

    fn tagged(&self, tag: &str, over: Option<&Over>, domain: &Option<String>) -> u32 {
        let has = |there: &&There| {
            there.tags.iter().any(|had| **had == *tag) && self.domain(there.node, over) == *domain
        };
        domain.as_ref().map_or(0, |_| self.there.values().filter(has).count() as u32)
    }

    /// What no node's load changes.
    fn suits(&self, node: usize, need: &Need) -> bool {
        let machine = &self.machines[node];
        is_open(machine)
            && machine.taints.iter().filter(|taint| taint.effect == TaintEffect::Refuse).all(|taint| {
                need.tolerates
                    .iter()
                    .any(|t| t.key == taint.key && t.value.as_ref().is_none_or(|value| *value == taint.value))
            })
            && need.rules.iter().all(|rule| match rule {
                Rule::Constraint(constraint) => holds(constraint, &machine.node),
                other => unreachable!("{other:?}"),
            })
    }

    /// Every hard rule, said once more.
    fn allows(&self, node: usize, need: &Need, tags: &Tags) -> bool {
        let machine = &self.machines[node];
        let room = [need.room.cpu, need.room.memory, need.room.disk, need.room.bandwidth, need.room.slots];
        let roomy = self.free(node).iter().zip(room).all(|(free, ask)| *free >= i128::from(ask));
        let free = self.gpus(node);
        let gpus = need.gpus.as_ref().is_none_or(|ask| {
            let suits = machine.gpus.iter().zip(&free).filter(|(gpu, _)| {
                gpu.memory >= ask.memory
                    && (ask.models.is_empty() || ask.models.contains(&gpu.model))
                    && (ask.ids.is_empty() || gpu.names.iter().any(|name| ask.ids.contains(name)))
            });
            let suits: Vec<bool> = suits.map(|(_, free)| *free >= i32::from(ask.each())).collect();
            let enough = suits.iter().filter(|enough| **enough).count();
            match ask.count {
                GpuNeed::ALL => enough > 0 && enough == suits.len(),
                count => enough >= usize::from(count),
            }
        });
        let ports = need
            .ports
            .iter()
            .all(|port| self.on(node).flat_map(|there| &there.need.ports).all(|taken| !taken.collides(port)));
        let own = |tag: &str| tags.iter().any(|had| **had == *tag);
        let near = need.near.iter().all(|near| {
            let domain = self.domain(node, near.over.as_ref());
            let there = self.tagged(&near.tag, near.over.as_ref(), &domain);
            let anywhere = self.there.values().any(|there| there.tags.iter().any(|had| **had == *near.tag));
            match near.pull {
                Pull::Must => domain.is_some() && (there > 0 || (own(&near.tag) && !anywhere)),
                Pull::MustNot => there == 0,
                Pull::Prefers(_) => true,
            }
        });
        let wanted = self.there.values().all(|there| {
            there.need.near.iter().filter(|near| near.pull == Pull::MustNot && own(&near.tag)).all(|near| {
                let domain = self.domain(node, near.over.as_ref());
                domain.is_none() || self.domain(there.node, near.over.as_ref()) != domain
            })
        });
        let even = need.spread.iter().all(|spread| {
            let Some(most) = spread.max_skew else { return true };
            let domain = self.domain(node, Some(&spread.over));
            let count = |node| {
                let domain = self.domain(node, Some(&spread.over));
                domain.is_some().then(|| self.tagged(&spread.tag, Some(&spread.over), &domain))
            };
            let nodes = (0..self.machines.len()).filter(|node| self.suits(*node, need));
            let least = nodes.filter_map(count).min().unwrap_or(0);
            domain.is_some() && count(node).unwrap() + u32::from(own(&spread.tag)) <= least + most
        });
        let crowd = need.crowd.as_ref().is_none_or(|crowd| {
            let domain = self.domain(node, None);
            crowd.most.is_none_or(|most| self.tagged(&crowd.tag, None, &domain) < most)
        });
        self.suits(node, need) && crowd && roomy && gpus && ports && near && wanted && even
    }

    fn put(&mut self, number: usize, need: &Arc<Need>, tags: &Tags, placed: &Placed) {
        let node = (0..self.machines.len()).find(|node| node_id(*node) == placed.node).unwrap();
        let there = There { need: Arc::clone(need), tags: tags.clone(), node, gpus: placed.gpus.clone() };
        self.there.insert(number, there);
    }
}

fn machines() -> impl Generator<Value = Vec<Machine>> {
    let machine = (
        1u64..8,
        1u64..8,
        0usize..4,
        prop::option::weighted(0.8, 0usize..3),
        prop::option::weighted(0.2, any::<bool>()),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(machine, 1..7).prop_map(|all| {
        let each = |(at, (cpu, memory, gpus, site, taint, closed)): (usize, (u64, u64, _, _, _, _))| {
            let (gpus, site, taint, closed): (usize, Option<usize>, Option<bool>, bool) =
                (gpus, site, taint, closed);
            let room = Room { cpu: cpu * 1000, memory: memory << 30, slots: 6, ..Room::UNLIMITED };
            let mut machine = Machine::new(node_id(at), room);
            let gpu = |gpu: usize| Gpu {
                links: (0..gpus as u8).filter(|to| usize::from(*to) / 2 == gpu / 2).collect(),
                names: vec![gpu.to_string()],
                ..Gpu::of(if gpu.is_multiple_of(2) { "a" } else { "b" }, 16 << 30)
            };
            machine.gpus = (0..gpus).map(gpu).collect();
            self::site(&mut machine, site);
            node(&mut machine).labels.insert("cores".into(), cpu.to_string());
            let tainted = |refuses| Taint {
                key: "special".into(),
                value: String::new(),
                effect: if refuses { TaintEffect::Refuse } else { TaintEffect::Avoid },
            };
            machine.taints.extend(taint.map(tainted));
            machine.outlook = Outlook {
                stays: [(cpu * 10) as u8; 4],
                leaves: None,
                rank: (memory * 10) as u8,
                gpu_rank: 0,
            };
            if closed {
                turn(&mut machine);
            }
            machine
        };
        all.into_iter().enumerate().map(each).collect()
    })
}

fn needs() -> impl Generator<Value = Need> {
    let gpus = prop_oneof![
        3 => Just(None),
        2 => (1u16..11).prop_map(|tenths| Some(GpuNeed::part(tenths * 100))),
        1 => (1u16..3).prop_map(|count| Some(GpuNeed { models: vec!["a".into()], ..GpuNeed::whole(count) })),
        1 => Just(Some(GpuNeed { memory: 8 << 30, ..GpuNeed::whole(2) })),
        1 => Just(Some(GpuNeed { models: vec!["a".into()], ..GpuNeed::whole(GpuNeed::ALL) })),
        1 => Just(Some(GpuNeed { ids: vec!["1".into()], ..GpuNeed::whole(1) })),
    ];
    let rule = prop_oneof![
        4 => Just(None),
        1 => Just(Some("node.site == s1")),
        1 => Just(Some("node.site != s0")),
        1 => Just(Some("node.labels.cores > 3")),
    ];
    let over = || prop_oneof![Just(None), Just(Some(Over::label("site")))];
    let pull = prop_oneof![Just(Pull::Must), Just(Pull::MustNot), (-3i32..4).prop_map(Pull::Prefers)];
    let near = prop::option::weighted(0.4, (tag(), over(), pull));
    let spread = prop::option::weighted(0.3, (tag(), prop::option::of(1u32..3), 0i32..3));
    let of = (
        0u64..3000,
        0u64..3,
        gpus,
        rule,
        near,
        spread,
        (-2i16..3, any::<bool>(), prop::option::weighted(0.2, 80u16..82)),
        prop::option::weighted(0.3, (tag(), prop::option::of(1u32..3), 0i32..3)),
    );
    of.prop_map(|(cpu, memory, gpus, rule, near, spread, (priority, tolerant, port), crowd)| Need {
        room: Room { cpu, memory: memory << 30, slots: 1, ..Room::default() },
        gpus,
        ports: port.map(|port| PortClaim { port, protocol: Protocol::Tcp, ip: None }).into_iter().collect(),
        rules: rule.map(|rule| Rule::Constraint(term(rule))).into_iter().collect(),
        prefers: vec![(term("node.site == s2"), i32::from(priority))],
        crowd: crowd.map(|(tag, most, weight)| Crowd { tag, most, weight }),
        lasts: (priority > 0).then_some(Lasts { time: 1, weight: 20 }),
        merit: i32::from(priority.max(0)) * 10,
        tolerates: tolerant.then(|| Toleration { key: "special".into(), value: None }).into_iter().collect(),
        near: near.map(|(tag, over, pull)| Near { tag, over, pull }).into_iter().collect(),
        spread: spread
            .map(|(tag, max_skew, weight)| Spread { tag, over: Over::label("site"), max_skew, weight })
            .into_iter()
            .collect(),
        priority,
    })
}

fn tag() -> impl Generator<Value = String> {
    prop_oneof![Just("web".to_owned()), Just("db".to_owned())]
}

/// What happens to a fleet.
#[derive(Clone, Debug)]
enum Event {
    /// One of the needs is asked for, under one of the tags.
    Ask(usize, Option<String>),
    /// One of those that are there goes.
    Go(usize),
    /// A node closes or opens.
    Turn(usize),
    /// A node is now on another site.
    Move(usize, Option<usize>),
}

fn events() -> impl Generator<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (0usize..6, prop::option::of(tag())).prop_map(|(need, tag)| Event::Ask(need, tag)),
        2 => (0usize..40).prop_map(Event::Go),
        1 => (0usize..7).prop_map(Event::Turn),
        1 => (0usize..7, prop::option::of(0usize..3)).prop_map(|(node, site)| Event::Move(node, site)),
    ];
    prop::collection::vec(event, 1..40)
}

fn strategy() -> impl Generator<Value = Strategy> {
    prop_oneof![Just(Strategy::Pack), Just(Strategy::Spread)]
}

fn fleet_of(machines: &[Machine], strategy: Strategy) -> Fleet {
    let mut fleet = Fleet::new(strategy);
    machines.iter().for_each(|machine| fleet.put_node(machine.clone()));
    fleet
}

/// Runs a story on the fleet and on the plain model beside it; `look` sees every ask before it is answered.
fn tell(
    fleet: &mut Fleet,
    plain: &mut Plain,
    needs: &[Arc<Need>],
    story: &[Event],
    mut look: impl FnMut(&mut Fleet, &Plain, &Arc<Need>, &Tags, Option<&Placed>) -> Result<(), TestCaseError>,
) -> Result<Vec<Option<Placed>>, TestCaseError> {
    let mut answers = Vec::new();
    for (number, event) in story.iter().enumerate() {
        match event {
            Event::Ask(need, tag) => {
                let need = &needs[need % needs.len()];
                let tags: Tags = tag.iter().map(|tag| tag.as_str().into()).collect();
                fleet.learn(need);
                let before = fleet.clone();
                let answer = fleet.place(key(number), need, &tags).ok();
                look(&mut before.clone(), plain, need, &tags, answer.as_ref())?;
                if let Some(placed) = &answer {
                    plain.put(number, need, &tags, placed);
                }
                answers.push(answer);
            }
            Event::Go(which) => {
                let known: Vec<usize> = plain.there.keys().copied().collect();
                if let Some(number) = known.get(which % known.len().max(1)) {
                    plain.there.remove(number);
                    prop_assert!(fleet.release(key(*number)));
                }
            }
            Event::Turn(node) => {
                let at = node % plain.machines.len();
                let machine = &mut plain.machines[at];
                turn(machine);
                fleet.put_node(machine.clone());
            }
            Event::Move(node, site) => {
                let at = node % plain.machines.len();
                let machine = &mut plain.machines[at];
                self::site(machine, *site);
                fleet.put_node(machine.clone());
            }
        }
    }
    Ok(answers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// No capacity is exceeded and every hard rule holds; who is refused fits nowhere; the pick is the best of what
    /// fits, under scores that are found out anew, and of equals the first.
    #[test]
    fn the_pick_is_the_best_that_every_rule_allows(
        machines in machines(),
        needs in prop::collection::vec(needs(), 1..6),
        story in events(),
        strategy in strategy(),
    ) {
        let needs: Vec<Arc<Need>> = needs.into_iter().map(Arc::new).collect();
        let mut fleet = fleet_of(&machines, strategy);
        let mut plain = Plain { machines, ..Plain::default() };
        tell(&mut fleet, &mut plain, &needs, &story, |fleet, plain, need, tags, placed| {
            let scores = fleet.scores(need, tags);
            for (at, _) in plain.machines.iter().enumerate() {
                let score = scores.iter().find(|(id, _)| *id == node_id(at)).unwrap().1;
                prop_assert_eq!(score.is_some(), plain.allows(at, need, tags), "node {} {:?}", at, need);
            }
            let best = scores.iter().filter_map(|(id, score)| Some((score.as_ref()?, std::cmp::Reverse(id)))).max();
            prop_assert_eq!(best.map(|(score, id)| (*id.0, *score)), placed.map(|p| (p.node, p.score)));
            let account = fleet.account(need, tags);
            prop_assert_eq!(account.considered as usize, plain.machines.len());
            match placed {
                Some(placed) => {
                    prop_assert_eq!(account.ranked[0].node, placed.node);
                    prop_assert_eq!(account.ranked[0].parts.sum(), placed.score);
                    let mut fits: Vec<i64> = scores.iter().filter_map(|(_, score)| *score).collect();
                    fits.sort_unstable();
                    let shown: Vec<i64> = account.ranked.iter().map(|ranked| ranked.parts.sum()).collect();
                    prop_assert_eq!(shown, fits.iter().rev().take(3).copied().collect::<Vec<_>>());
                    let refused = account.refused.values().sum::<u32>();
                    prop_assert_eq!(refused as usize, plain.machines.len() - fits.len());
                    // The same without putting it there; and the second best where the best is not wanted.
                    let found = fleet.find(need, tags, &mut |_| Ok(())).unwrap();
                    prop_assert_eq!(&found.placed, placed);
                    prop_assert_eq!(&found.account, &account);
                    let not = |node| if node == placed.node { Err(Refusal::Pinned) } else { Ok(()) };
                    let second = fleet.find(need, tags, &mut { not }).map(|found| found.placed.score).ok();
                    prop_assert_eq!(second, fits.iter().rev().nth(1).copied());
                    prop_assert_eq!(fleet.find_on(need, tags, placed.node), Ok(placed.gpus.clone()));
                    prop_assert_eq!(fleet.find(need, tags, &mut |_| Ok(())).unwrap().placed, placed.clone());
                }
                None => prop_assert_eq!(account.refused.values().sum::<u32>(), account.considered),
            }
            for (at, _) in plain.machines.iter().enumerate() {
                let fits = fleet.find_on(need, tags, node_id(at)).is_ok();
                prop_assert_eq!(fits, plain.allows(at, need, tags));
            }
            Ok(())
        })?;
        for node in 0..plain.machines.len() {
            prop_assert!(plain.free(node).iter().all(|free| *free >= 0));
            let gpus = plain.gpus(node);
            prop_assert!(gpus.iter().all(|free| *free >= 0));
            let kept: Vec<i32> = fleet.free_gpus(node_id(node)).unwrap().iter().map(|f| i32::from(*f)).collect();
            prop_assert_eq!(kept, gpus);
        }
    }

    /// The same story gives the same answers; and a fleet that is told what is there, as after a restart, answers as
    /// the one that placed it.
    #[test]
    fn the_same_story_ends_the_same(
        machines in machines(),
        needs in prop::collection::vec(needs(), 1..6),
        story in events(),
        strategy in strategy(),
    ) {
        let needs: Vec<Arc<Need>> = needs.into_iter().map(|need| Arc::new(Need { gpus: None, ..need })).collect();
        let run = || {
            let mut fleet = fleet_of(&machines, strategy);
            let mut plain = Plain { machines: machines.clone(), ..Plain::default() };
            let answers = tell(&mut fleet, &mut plain, &needs, &story, |_, _, _, _, _| Ok(()));
            answers.map(|answers| (answers, fleet, plain))
        };
        let (answers, mut fleet, plain) = run()?;
        prop_assert_eq!(&answers, &run()?.0);
        let mut again = fleet_of(&plain.machines, strategy);
        for (number, there) in plain.there.iter().rev() {
            again.restore(key(*number), &there.need, &there.tags, node_id(there.node), &there.gpus).unwrap();
        }
        for need in &needs {
            prop_assert_eq!(again.scores(need, &Tags::new()), fleet.scores(need, &Tags::new()));
        }
    }

    /// All of a gang are placed, or nothing has changed.
    #[test]
    fn a_gang_is_placed_whole_or_not_at_all(
        machines in machines(),
        needs in prop::collection::vec(needs(), 1..6),
        size in 1usize..12,
    ) {
        let needs: Vec<Arc<Need>> = needs.into_iter().map(Arc::new).collect();
        let mut fleet = fleet_of(&machines, Strategy::Pack);
        let gang: Vec<_> = (0..size).map(|n| (key(n), Arc::clone(&needs[n % needs.len()]), Tags::new())).collect();
        let before = fleet.clone();
        match fleet.place_all(&gang) {
            Ok(placed) => {
                prop_assert_eq!((placed.len(), fleet.allocations()), (size, size));
                for (placed, (key, ..)) in placed.iter().zip(&gang) {
                    prop_assert_eq!(fleet.node_of(*key), Some(placed.node));
                }
            }
            Err(FleetError::NoFit(_)) => {
                prop_assert_eq!(fleet.allocations(), 0);
                for at in 0..machines.len() {
                    prop_assert_eq!(fleet.free(node_id(at)), before.free(node_id(at)));
                    prop_assert_eq!(fleet.free_gpus(node_id(at)), before.free_gpus(node_id(at)));
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    /// Nobody goes whose priority is not lower; after they went the ask fits there; no other set on any node would
    /// have been cheaper: first the highest priority that goes, then how many, then the sum of their priorities.
    #[test]
    fn whoever_makes_way_is_lower_and_as_few_as_can_be(
        machines in machines(),
        needs in prop::collection::vec(needs(), 2..6),
        story in events(),
        urgent in needs(),
    ) {
        // Rules over domains hold while those who go still count: they are left out of this one.
        let local = |need: Need| Need {
            near: need.near.into_iter().filter(|near| near.over.is_none() && near.pull == Pull::MustNot).collect(),
            spread: Vec::new(),
            ..need
        };
        let needs: Vec<Arc<Need>> = needs.into_iter().map(|need| Arc::new(local(need))).collect();
        let urgent = Arc::new(Need { priority: 2, ..local(urgent) });
        let mut fleet = fleet_of(&machines, Strategy::Pack);
        let mut plain = Plain { machines, ..Plain::default() };
        tell(&mut fleet, &mut plain, &needs, &story, |_, _, _, _, _| Ok(()))?;
        let found = fleet.make_way(&urgent, &Tags::new());
        let price = |set: &[usize]| {
            let priority = |number: &usize| i64::from(plain.there[number].need.priority);
            (set.iter().map(priority).max().unwrap_or(i64::MIN), set.len(), set.iter().map(priority).sum::<i64>())
        };
        let mut cheapest = None;
        for node in 0..plain.machines.len() {
            let lower: Vec<usize> = plain
                .there
                .iter()
                .filter(|(_, there)| there.node == node && there.need.priority < urgent.priority)
                .map(|(number, _)| *number)
                .collect();
            for set in 0..1u32 << lower.len() {
                let set: Vec<usize> =
                    (0..lower.len()).filter(|at| set >> at & 1 == 1).map(|at| lower[at]).collect();
                let mut left = plain.clone();
                set.iter().for_each(|number| drop(left.there.remove(number)));
                if left.allows(node, &urgent, &Tags::new()) {
                    cheapest = Some(cheapest.map_or(price(&set), |known: (i64, usize, i64)| known.min(price(&set))));
                }
            }
        }
        let victims: Option<Vec<usize>> = found.as_ref().map(|found| {
            let number = |victim: &AllocationId| *plain.there.keys().find(|n| key(**n) == *victim).unwrap();
            found.victims.iter().map(number).collect()
        });
        prop_assert_eq!(victims.as_ref().map(|victims| price(victims)), cheapest);
        if let Some(found) = found {
            for victim in victims.unwrap() {
                prop_assert!(plain.there[&victim].need.priority < urgent.priority);
                prop_assert_eq!(node_id(plain.there[&victim].node), found.node);
            }
            found.victims.iter().for_each(|victim| assert!(fleet.release(*victim)));
            let placed = fleet.place(key(1000), &urgent, &Tags::new());
            prop_assert!(placed.is_ok(), "{placed:?}");
        }
    }
}

#[test]
fn linked_gpus_are_given_together_and_a_pair_is_not_broken() {
    let mut machine = Machine::new(node_id(0), Room::UNLIMITED);
    let link = |to: &[u8]| Gpu { links: to.iter().copied().collect(), ..Gpu::of("a", 1) };
    machine.gpus = vec![link(&[3]), link(&[]), link(&[]), link(&[0])];
    let mut fleet = fleet_of(&[machine], Strategy::Pack);
    let ask = |gpus| Arc::new(Need { gpus: Some(gpus), ..Need::default() });
    assert_eq!(fleet.place(key(0), &ask(GpuNeed::whole(1)), &Tags::new()).unwrap().gpus, [1]);
    assert_eq!(fleet.place(key(1), &ask(GpuNeed::whole(2)), &Tags::new()).unwrap().gpus, [0, 3]);
    // The tightest that will do: what is broken already.
    assert_eq!(fleet.place(key(2), &ask(GpuNeed::part(600)), &Tags::new()).unwrap().gpus, [2]);
    assert_eq!(fleet.place(key(3), &ask(GpuNeed::part(400)), &Tags::new()).unwrap().gpus, [2]);
    assert!(fleet.place(key(4), &ask(GpuNeed::part(1)), &Tags::new()).is_err());
}

#[test]
fn a_refusal_says_what_would_have_to_change() {
    let room = Room { cpu: 4000, memory: 8 << 30, slots: 10, ..Room::UNLIMITED };
    let mut machines: Vec<Machine> = (0..4).map(|at| Machine::new(node_id(at), room)).collect();
    turn(&mut machines[1]);
    for (at, region) in [(1, "eu"), (2, "us"), (3, "eu")] {
        node(&mut machines[at]).labels.insert("region".into(), region.into());
    }
    machines[3].taints.push("special=gpu:refuse".parse().unwrap());
    let mut fleet = fleet_of(&machines, Strategy::Spread);
    let rules = vec![Rule::Constraint(term("node.region == eu"))];
    let need = Arc::new(Need { room: Room { cpu: 2000, ..Room::default() }, rules, ..Need::default() });
    let refused = fleet.place(key(0), &need, &Tags::new()).unwrap_err();
    let counts = "none of 4 nodes fits (2: constraint node.labels.region == eu, 1: taint special=gpu:refuse, 1: cordoned)";
    assert_eq!(refused.to_string(), format!("no node can hold it: {counts}"));
    let account = fleet.account(&need, &Tags::new());
    assert_eq!(account.to_string(), counts);
    let would_do = "would do: 1 node with \"cordoned\" over, 1 node with a toleration of special, 2 nodes with no constraint node.labels.region == eu";
    assert_eq!(account.would_do().unwrap(), would_do);
}
