//! How conditions come and go: what a machine in trouble is said to be, and that no row of samples makes a
//! condition flap.

use lattice_converge::health::{
    Assessor, ClockSample, CpuSample, DiskErrors, DiskSample, DockerSample, GpuSample, MemorySample,
    NetworkSample, RULES, STALE, Sample, TemperatureSample, rule,
};
use lattice_model::{
    Bytes, Duration, Timestamp,
    health::{Condition, ConditionKind, Level, Reason},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A machine that is looked at every five seconds.
#[derive(Default)]
struct Watched {
    assessor: Assessor,
    at: u64,
}

impl Watched {
    fn shows(&mut self, sample: &Sample) -> bool {
        self.at += 5;
        self.assessor.step(sample, secs(self.at), Timestamp(self.at as i64 * 1000))
    }

    /// For how long the same has to be shown until something changes; at most two hours.
    fn until_changed(&mut self, sample: &Sample) -> Option<u64> {
        let began = self.at;
        (0..1440).find(|_| self.shows(sample)).map(|_| self.at - began)
    }

    fn is(&self, kind: ConditionKind) -> (Level, Reason) {
        let condition = self.assessor.condition(kind).expect("it was measured");
        (condition.level, condition.reason)
    }
}

fn memory(available_permille: u64, stalled: u32) -> Sample {
    let memory = MemorySample {
        available: Bytes(available_permille << 20),
        total: Bytes(1000 << 20),
        stalled: Some(stalled),
    };
    Sample { memory: Some(memory), ..Sample::default() }
}

fn disk(free: u64, total: u64) -> Sample {
    let disk = DiskSample { free: Bytes(free), total: Bytes(total), inodes_free_permille: Some(900) };
    Sample { disk: Some(disk), ..Sample::default() }
}

fn docker(docker: DockerSample) -> Sample {
    Sample { docker: Some(docker), ..Sample::default() }
}

#[test]
fn a_hung_engine_is_not_a_dead_one() {
    let mut machine = Watched::default();
    assert!(machine.shows(&docker(DockerSample::Answered(Duration(4)))), "what is good is good at once");
    assert_eq!(machine.is(ConditionKind::Docker), (Level::Good, Reason::Fine));
    let hung = docker(DockerSample::NoAnswer(secs(10)));
    assert!(machine.until_changed(&hung).unwrap() <= 15);
    assert_eq!(machine.is(ConditionKind::Docker), (Level::Bad, Reason::Hung));
    let since = machine.assessor.condition(ConditionKind::Docker).unwrap().since;
    assert_eq!(machine.until_changed(&hung), None, "and that is said once");
    assert_eq!(machine.assessor.condition(ConditionKind::Docker).unwrap().since, since);
    let dead = docker(DockerSample::Unreachable("connection refused".into()));
    machine.until_changed(&dead).unwrap();
    assert_eq!(machine.is(ConditionKind::Docker), (Level::Bad, Reason::Down));
    assert!(machine.until_changed(&docker(DockerSample::Answered(Duration(4)))).unwrap() <= 15);
    assert_eq!(machine.is(ConditionKind::Docker), (Level::Good, Reason::Fine));
    machine.until_changed(&docker(DockerSample::Answered(secs(4)))).unwrap();
    assert_eq!(machine.is(ConditionKind::Docker), (Level::Warning, Reason::Slow));
    let less = docker(DockerSample::Answered(secs(2)));
    assert_eq!(machine.until_changed(&less), None, "two seconds are not slow, and not quick after slowness");
}

#[test]
fn one_bad_look_is_none() {
    let mut machine = Watched::default();
    let (well, hung) =
        (docker(DockerSample::Answered(Duration(4))), docker(DockerSample::NoAnswer(secs(10))));
    machine.shows(&well);
    for _ in 0..20 {
        assert!(!machine.shows(&hung) && !machine.shows(&well));
    }
}

#[test]
fn memory_runs_out_and_comes_back() {
    let mut machine = Watched::default();
    machine.shows(&memory(500, 0));
    assert!(machine.until_changed(&memory(90, 0)).unwrap() <= 15);
    assert_eq!(machine.is(ConditionKind::Memory), (Level::Warning, Reason::LowMemory));
    machine.until_changed(&memory(30, 0)).unwrap();
    assert_eq!(machine.is(ConditionKind::Memory), (Level::Bad, Reason::LowMemory));
    assert_eq!(machine.until_changed(&memory(70, 0)), None, "it has to be better than it had to be worse");
    assert!(machine.until_changed(&memory(300, 0)).unwrap() >= 60);
    assert_eq!(machine.is(ConditionKind::Memory), (Level::Good, Reason::Fine));
    machine.until_changed(&memory(120, 5000)).unwrap();
    assert_eq!(machine.is(ConditionKind::Memory), (Level::Bad, Reason::MemoryStalls));
    assert!(
        machine.until_changed(&memory(300, 9000)).unwrap() >= 60,
        "with much to spare nothing is evicted"
    );
}

#[test]
fn disks_of_every_size_fill_up() {
    for (total, enough, short, full) in [
        (GIB, GIB / 5, GIB * 9 / 100, GIB * 4 / 100),
        (100 * GIB, 30 * GIB, 9 * GIB, 4 * GIB),
        (8000 * GIB, 30 * GIB, 19 * GIB, 4 * GIB),
    ] {
        let mut machine = Watched::default();
        machine.shows(&disk(enough, total));
        assert_eq!(machine.is(ConditionKind::Disk), (Level::Good, Reason::Fine), "{total}");
        machine.until_changed(&disk(short, total)).unwrap();
        assert_eq!(machine.is(ConditionKind::Disk), (Level::Warning, Reason::LowSpace), "{total}");
        machine.until_changed(&disk(full, total)).unwrap();
        assert_eq!(machine.is(ConditionKind::Disk), (Level::Bad, Reason::LowSpace), "{total}");
        machine.until_changed(&disk(enough, total)).unwrap();
        assert_eq!(machine.is(ConditionKind::Disk), (Level::Good, Reason::Fine), "{total}");
    }
}

#[test]
fn errors_count_from_when_the_agent_looked_first() {
    let mut machine = Watched::default();
    let errors = |count| {
        let counts = BTreeMap::from([("ext4 on sda1".to_owned(), count)]);
        Sample { disk_errors: Some(DiskErrors { counts, ..DiskErrors::default() }), ..Sample::default() }
    };
    machine.shows(&errors(14));
    assert_eq!(
        machine.is(ConditionKind::DiskErrors),
        (Level::Good, Reason::Fine),
        "old errors are told by nobody"
    );
    machine.until_changed(&errors(15)).unwrap();
    assert_eq!(machine.is(ConditionKind::DiskErrors), (Level::Warning, Reason::IoErrors));
    assert!(machine.until_changed(&errors(15)).unwrap() >= 3600);
    let dead = DiskErrors { read_only: true, ..DiskErrors::default() };
    machine.until_changed(&Sample { disk_errors: Some(dead), ..Sample::default() }).unwrap();
    assert_eq!(machine.is(ConditionKind::DiskErrors), (Level::Bad, Reason::ReadOnly));
}

#[test]
fn a_clock_is_wrong_by_more_than_one_can_know() {
    let mut machine = Watched::default();
    let clock = |ahead_ms, uncertain_ms| Sample {
        clock: Some(ClockSample { ahead_ms, uncertain_ms }),
        ..Sample::default()
    };
    machine.shows(&clock(20_000, 30_000));
    assert_eq!(machine.is(ConditionKind::Clock), (Level::Good, Reason::Fine), "the line was that slow");
    machine.until_changed(&clock(-3_600_000, 20)).unwrap();
    assert_eq!(machine.is(ConditionKind::Clock), (Level::Bad, Reason::Skewed));
    assert!(machine.assessor.condition(ConditionKind::Clock).unwrap().message.contains("59m59s behind"));
    machine.until_changed(&clock(20_000, 20)).unwrap();
    assert_eq!(machine.is(ConditionKind::Clock), (Level::Warning, Reason::Skewed));
    machine.until_changed(&clock(0, 20)).unwrap();
    assert_eq!(machine.is(ConditionKind::Clock), (Level::Good, Reason::Fine));
}

#[test]
fn the_network_is_judged_by_what_is_left_of_it() {
    let mut machine = Watched::default();
    let net = |network| Sample { network: Some(network), ..Sample::default() };
    let well = NetworkSample { way_out: Some(true), linked: true, ..NetworkSample::default() };
    machine.shows(&net(well));
    let island = NetworkSample { way_out: Some(false), ..well };
    assert_eq!(machine.until_changed(&net(island)), None, "who reaches the server needs no more");
    machine.until_changed(&net(NetworkSample { linked: false, ..island })).unwrap();
    assert_eq!(machine.is(ConditionKind::Network), (Level::Bad, Reason::NoRoute));
    machine.until_changed(&net(well)).unwrap();
    machine.until_changed(&net(NetworkSample { round_trip: Some(secs(2)), ..well })).unwrap();
    assert_eq!(machine.is(ConditionKind::Network), (Level::Warning, Reason::SlowLink));
    machine.until_changed(&net(well)).unwrap();
    let mut packets = 0;
    let wrong = (0..20).any(|_| {
        packets += 1000;
        machine.shows(&net(NetworkSample { packets, wrong: packets / 20, ..well }))
    });
    assert!(wrong);
    assert_eq!(machine.is(ConditionKind::Network), (Level::Warning, Reason::PacketErrors));
}

#[test]
fn gpus_are_lost_and_found() {
    let mut machine = Watched::default();
    let gpu = |lost: &[&str]| {
        let lost = lost.iter().map(ToString::to_string).collect();
        Sample { gpu: Some(GpuSample { lost, ..GpuSample::default() }), ..Sample::default() }
    };
    machine.shows(&gpu(&[]));
    assert_eq!(machine.is(ConditionKind::Gpu), (Level::Good, Reason::Fine));
    machine.until_changed(&gpu(&["GPU-1"])).unwrap();
    assert_eq!(machine.is(ConditionKind::Gpu), (Level::Bad, Reason::GpuLost));
    assert!(machine.until_changed(&gpu(&[])).unwrap() >= 60);
    for (sample, level, reason) in [
        (GpuSample { hung: true, ..GpuSample::default() }, Level::Bad, Reason::Hung),
        (
            GpuSample { errors: [("GPU-1".to_owned(), 3)].into(), ..GpuSample::default() },
            Level::Warning,
            Reason::GpuErrors,
        ),
        (
            GpuSample { unproven: Some(("GPU-1".into(), "why".into())), ..GpuSample::default() },
            Level::Warning,
            Reason::GpuUnproven,
        ),
    ] {
        machine.until_changed(&Sample { gpu: Some(sample), ..Sample::default() }).unwrap();
        assert_eq!(machine.is(ConditionKind::Gpu), (level, reason));
        machine.until_changed(&gpu(&[])).unwrap();
    }
}

#[test]
fn heat_is_measured_against_the_makers_word() {
    let mut machine = Watched::default();
    let heat = |hottest| Sample { temperature: Some(TemperatureSample { hottest }), ..Sample::default() };
    machine.shows(&heat(60));
    machine.until_changed(&heat(92)).unwrap();
    assert_eq!(machine.is(ConditionKind::Temperature), (Level::Warning, Reason::Hot));
    machine.until_changed(&heat(98)).unwrap();
    assert_eq!(machine.is(ConditionKind::Temperature), (Level::Bad, Reason::Hot));
    machine.until_changed(&heat(60)).unwrap();
    assert_eq!(machine.is(ConditionKind::Temperature), (Level::Good, Reason::Fine));
}

#[test]
fn what_is_not_measured_is_unknown_and_what_never_was_is_absent() {
    let mut machine = Watched::default();
    assert!(!machine.shows(&Sample::default()) && machine.assessor.conditions().is_empty());
    machine.shows(&memory(500, 0));
    assert_eq!(machine.until_changed(&Sample::default()), Some(STALE.0 / 1000));
    assert_eq!(machine.is(ConditionKind::Memory), (Level::Unknown, Reason::NotMeasured));
    assert_eq!(machine.assessor.conditions().len(), 1);
    assert!(machine.shows(&memory(500, 0)), "and what is good is good at once");
}

#[test]
fn a_busy_processor_takes_its_time() {
    let mut machine = Watched::default();
    let cpu = |busy_permille, waited| Sample {
        cpu: Some(CpuSample { busy_permille, waited }),
        ..Sample::default()
    };
    machine.shows(&cpu(100, Some(0)));
    assert_eq!(machine.until_changed(&cpu(1000, Some(100))), None, "busy with what waits for nothing");
    assert!(machine.until_changed(&cpu(1000, Some(9000))).unwrap() >= 120);
    assert_eq!(machine.is(ConditionKind::Cpu), (Level::Warning, Reason::Busy));
    assert!(machine.until_changed(&cpu(500, Some(0))).unwrap() >= 60);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let docker = prop_oneof![
        (0u64..20_000).prop_map(|ms| DockerSample::Answered(Duration(ms))),
        Just(DockerSample::NoAnswer(secs(10))),
        Just(DockerSample::Unreachable("gone".into())),
        Just(DockerSample::Refused("500".into())),
    ];
    let cpu = (0u32..=1000, prop::option::of(0u32..10_000))
        .prop_map(|(busy_permille, waited)| CpuSample { busy_permille, waited });
    let memory = (0u64..1000, prop::option::of(0u32..10_000)).prop_map(|(available, stalled)| MemorySample {
        available: Bytes(available << 20),
        total: Bytes(1000 << 20),
        stalled,
    });
    let disk = (0u64..1000, prop::option::of(0u32..1000)).prop_map(|(free, inodes)| DiskSample {
        free: Bytes(free << 20),
        total: Bytes(1000 << 20),
        inodes_free_permille: inodes,
    });
    let errors =
        (any::<bool>(), 0u64..3, any::<bool>()).prop_map(|(read_only, count, degraded)| DiskErrors {
            read_only,
            counts: [("a".to_owned(), count)].into(),
            degraded: degraded.then(|| "md0".to_owned()).into_iter().collect(),
        });
    let network = (any::<Option<bool>>(), any::<bool>(), 0u64..3000, 0u64..9000, 0u64..90).prop_map(
        |(way_out, linked, trip, packets, wrong)| NetworkSample {
            way_out,
            linked,
            round_trip: Some(Duration(trip)),
            packets,
            wrong,
        },
    );
    let clock = (-600_000i64..600_000, 0u64..1000)
        .prop_map(|(ahead_ms, uncertain_ms)| ClockSample { ahead_ms, uncertain_ms });
    let gpu = any::<(bool, bool, bool, bool)>().prop_map(|(lost, hung, wrong, unproven)| GpuSample {
        lost: lost.then(|| "g".to_owned()).into_iter().collect(),
        hung,
        errors: wrong.then(|| ("g".to_owned(), 1)).into_iter().collect(),
        unproven: unproven.then(|| ("g".to_owned(), "w".to_owned())),
    });
    let heat = (20i32..110).prop_map(|hottest| TemperatureSample { hottest });
    let some = |strategy| prop::option::weighted(0.9, strategy);
    (
        some(docker.boxed()),
        prop::option::weighted(0.9, cpu),
        prop::option::weighted(0.9, memory),
        prop::option::weighted(0.9, disk),
        prop::option::weighted(0.9, errors),
        prop::option::weighted(0.9, network),
        prop::option::weighted(0.9, clock),
        prop::option::weighted(0.9, gpu),
        prop::option::weighted(0.9, heat),
    )
        .prop_map(|(docker, cpu, memory, disk, disk_errors, network, clock, gpu, temperature)| Sample {
            docker,
            cpu,
            memory,
            disk,
            disk_errors,
            network,
            clock,
            gpu,
            temperature,
        })
}

fn states(conditions: &[Condition]) -> BTreeMap<ConditionKind, (Level, Reason)> {
    conditions.iter().map(|one| (one.kind, (one.level, one.reason))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the samples do and whenever they come, between two changes of a condition lies at least the
    /// shorter of its spans; it is told exactly when something changed; and `since` is when that was.
    #[test]
    fn nothing_flaps(samples in prop::collection::vec((any_sample(), 0u64..40_000), 1..150)) {
        let mut assessor = Assessor::default();
        let (mut at, mut last) = (0u64, BTreeMap::new());
        let mut before = BTreeMap::new();
        for (sample, later) in &samples {
            at += later;
            let changed = assessor.step(sample, Duration(at), Timestamp(at as i64));
            let now = states(&assessor.conditions());
            prop_assert_eq!(changed, now != before);
            for (kind, state) in &now {
                if before.get(kind) == Some(state) { continue; }
                let since = assessor.condition(*kind).unwrap().since;
                prop_assert_eq!(since, Timestamp(at as i64));
                // Becoming known, and unknown, is another matter.
                let known = |state: Option<&(Level, Reason)>| state.is_some_and(|(level, _)| *level != Level::Unknown);
                if known(before.get(kind)) && known(Some(state))
                    && let Some(then) = last.get(kind)
                {
                    let rule = rule(*kind);
                    let least = rule.worsens.0.min(rule.betters.0);
                    prop_assert!(at - then >= least, "{kind} changed after {} ms", at - then);
                }
                last.insert(*kind, at);
            }
            before = now;
        }
    }

    /// What stays as it is comes to rest: after its longest span, nothing changes any more.
    #[test]
    fn what_lasts_comes_to_rest(before in prop::collection::vec(any_sample(), 0..20), lasting in any_sample()) {
        let mut machine = Watched::default();
        for sample in &before { machine.shows(sample); }
        // Two rounds: a threshold to enter may be met on the way to another state.
        for _ in 0..3 * 3600 / 5 { machine.shows(&lasting); }
        for _ in 0..800 { prop_assert!(!machine.shows(&lasting), "{:?}", machine.assessor.conditions()); }
    }

    /// The same samples in the same order say the same.
    #[test]
    fn it_is_a_function_of_its_samples(samples in prop::collection::vec(any_sample(), 0..40)) {
        let run = || {
            let mut machine = Watched::default();
            samples.iter().map(|sample| machine.shows(sample)).collect::<Vec<_>>().len();
            machine.assessor.conditions()
        };
        prop_assert_eq!(run(), run());
    }
}

/// The table of `docs/health.md` is that of the code. `UPDATE_DOCS=1` writes it.
#[test]
#[allow(clippy::disallowed_methods, reason = "documentation is a file")]
fn documentation_of_the_conditions() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/health.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut table = String::from(
        "| condition | bad | warning | left at | worse after | better after | new work |\n|---|---|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let away = if rule.kind.keeps_work_away() { "not while bad" } else { "comes" };
        table.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} | {away} |\n",
            rule.kind, rule.bad, rule.warning, rule.leaves, rule.worsens, rule.betters
        ));
    }
    let words: Vec<String> = Reason::ALL.iter().map(|reason| format!("`{reason}`")).collect();
    let wanted = format!("{table}\nReasons: {}.\n", words.join(", "));
    let (begin, end) = ("<!-- conditions: written by a test -->\n", "<!-- end -->");
    let start = text.find(begin).expect("the table's begin") + begin.len();
    let stop = start + text[start..].find(end).expect("the table's end");
    if text[start..stop] == wanted {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{}{wanted}{}", &text[..start], &text[stop..])).unwrap();
        return;
    }
    panic!(
        "docs/health.md is not what the code says; UPDATE_DOCS=1 cargo nextest run -p lattice-converge documentation"
    );
}
