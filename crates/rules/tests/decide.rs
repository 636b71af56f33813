//! What every decision keeps to.

#![allow(clippy::unwrap_used)]

use lattice_model::{Bytes, Duration, Timestamp, machine::LanState};
use lattice_rules::{
    Facts, LanFact, Moment, Pause, PauseKind, PowerSource, Reading, Reason, Rules, State, Verdict, Word,
    decide,
};
use proptest::prelude::*;

const ALL: &str = "[hours]\ndaily = [\"18:00-06:00\"]\n[battery]\nrun = \"on_mains\"\nmains_for = \"30s\"\n\
    [user]\nstop_when_active = true\nidle_for = \"5m\"\n[temperature]\nstop_at = 85\nstart_at = 75\n\
    [noise]\nstop_at = 3500\nstart_at = 2500\n[network]\nmetered = \"suspend\"\n[caps]\ndata_per_month = \"50g\"";

fn word(text: &str) -> Word {
    Word::Rules(Box::new(Rules::parse(text).unwrap().check(Some("UTC")).unwrap()))
}

/// Milliseconds of a day's time, in winter.
fn moment(hour: i64, seconds: i64) -> Moment {
    let wall = 1_795_392_000_000 + hour * 3_600_000 + seconds * 1000;
    Moment { wall: Timestamp(wall), boot: Duration(u64::try_from(wall).unwrap()), boot_id: "a".into() }
}

fn lan(state: LanState) -> Reading<LanFact> {
    Reading::Known(LanFact { state, why: None })
}

fn fine() -> Facts {
    Facts {
        power: Reading::Known(PowerSource::Mains),
        charge: Reading::Known(100),
        idle: Reading::Known(Duration::from_secs(3600)),
        temperature: Reading::Known(40),
        fan: Reading::Known(0),
        metered: Reading::Known(false),
        data: Reading::Known(Bytes(0)),
        lan: lan(LanState::Closed),
    }
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    verdict.suspended.as_ref().map(|suspension| suspension.reason)
}

#[test]
fn one_reason_at_a_time_in_the_order_of_the_table() {
    let word = word(
        &format!("{ALL}\ndata_month_begins = 1")
            .replace("[battery]\nrun = \"on_mains\"\nmains_for = \"30s\"", "[battery]\nstop_below = 30"),
    );
    let mut facts = Facts {
        power: Reading::Known(PowerSource::Battery),
        charge: Reading::Known(5),
        idle: Reading::Known(Duration(0)),
        temperature: Reading::Known(95),
        fan: Reading::Known(6000),
        metered: Reading::Known(true),
        data: Reading::Known(Bytes(60 << 30)),
        lan: lan(LanState::Unfenced),
    };
    let noon = moment(12, 0);
    let pause = Pause::new(PauseKind::Pause, Some(Duration::from_secs(60)), &noon);
    let state = State::default();
    let told =
        |now: &Moment, facts: &Facts, pause: Option<&Pause>| decide(&word, facts, now, &state, pause).0;
    let verdict = told(&noon, &facts, Some(&pause));
    assert_eq!(reason(&verdict), Some(Reason::Paused));
    assert_eq!(verdict.suspended.unwrap().until, Some(noon.wall + Duration::from_secs(60)));
    assert_eq!(verdict.also.len(), 8, "{:?}", verdict.also);
    assert_eq!(reason(&told(&noon, &facts, None)), Some(Reason::LanNotClosed));
    facts.lan = fine().lan;
    let verdict = told(&noon, &facts, None);
    assert_eq!(reason(&verdict), Some(Reason::OutsideHours));
    assert_eq!(verdict.suspended.unwrap().until, Some(moment(18, 0).wall));
    let evening = moment(20, 0);
    let mut seen = Vec::new();
    while let Some(reason) = reason(&told(&evening, &facts, None)) {
        seen.push(reason);
        let good = fine();
        match reason {
            Reason::Hot => facts.temperature = good.temperature,
            Reason::BatteryLow => facts.power = good.power,
            Reason::UserActive => facts.idle = good.idle,
            Reason::Loud => facts.fan = good.fan,
            Reason::Metered => facts.metered = good.metered,
            Reason::DataUsedUp => facts.data = good.data,
            other => panic!("{other}"),
        }
    }
    use Reason::{BatteryLow, DataUsedUp, Hot, Loud, Metered, UserActive};
    assert_eq!(seen, [Hot, BatteryLow, UserActive, Loud, Metered, DataUsedUp]);
    assert_eq!(told(&evening, &facts, None).hours_end, Some(moment(30, 0).wall));
}

#[test]
fn mains_must_last_and_the_wake_is_known() {
    let word = word(ALL);
    let on = |source| Facts { power: Reading::Known(source), ..fine() };
    let (verdict, state) = decide(&word, &on(PowerSource::Battery), &moment(20, 0), &State::default(), None);
    assert_eq!(reason(&verdict), Some(Reason::OnBattery));
    let (verdict, state) = decide(&word, &on(PowerSource::Mains), &moment(20, 100), &state, None);
    assert_eq!(verdict.next_change, Some(moment(20, 130).wall));
    assert_eq!(verdict.since, moment(20, 0).wall);
    let (verdict, again) = decide(&word, &on(PowerSource::Battery), &moment(20, 120), &state, None);
    assert!(!verdict.allowed());
    let (verdict, again) = decide(&word, &on(PowerSource::Mains), &moment(20, 125), &again, None);
    assert_eq!(verdict.next_change, Some(moment(20, 155).wall), "counted anew");
    assert!(!decide(&word, &on(PowerSource::Mains), &moment(20, 154), &again, None).0.allowed());
    let (verdict, _) = decide(&word, &on(PowerSource::Mains), &moment(20, 155), &again, None);
    assert!(verdict.allowed());
    assert_eq!(verdict.since, moment(20, 155).wall);
}

#[test]
fn what_is_not_known_is_named_and_suspends_nothing() {
    let evening = moment(20, 0);
    let (verdict, _) = decide(&word(ALL), &Facts::unknown("no sensor"), &evening, &State::default(), None);
    assert!(verdict.allowed());
    let rules: Vec<&str> = verdict.unsure.iter().map(|unsure| unsure.rule.as_str()).collect();
    let all = [
        "temperature",
        "battery.run",
        "user.stop_when_active",
        "noise",
        "network.metered",
        "caps.data_per_month",
    ];
    assert_eq!(rules, all);
    // Who was suspended stays so while nobody knows better.
    let hot = Facts { temperature: Reading::Known(90), ..fine() };
    let (_, state) = decide(&word(ALL), &hot, &evening, &State::default(), None);
    let lost = Facts { temperature: Reading::unknown("gone"), ..fine() };
    assert_eq!(reason(&decide(&word(ALL), &lost, &evening, &state, None).0), Some(Reason::Hot));
}

#[test]
fn broken_rules_allow_nothing_and_a_pause_still_counts() {
    let broken = Word::Broken("line 3: what?".into());
    let (verdict, _) = decide(&broken, &fine(), &moment(20, 0), &State::default(), None);
    assert_eq!(reason(&verdict), Some(Reason::RulesBroken));
    assert!(verdict.suspended.unwrap().why.contains("line 3"));
    let pause = Pause::new(PauseKind::Pause, None, &moment(20, 0));
    let (verdict, _) = decide(&broken, &fine(), &moment(20, 1), &State::default(), Some(&pause));
    assert_eq!((reason(&verdict), &verdict.also[..]), (Some(Reason::Paused), &[Reason::RulesBroken][..]));
}

#[test]
fn finishing_takes_nothing_new_and_lets_run() {
    let now = moment(20, 0);
    let finish = Pause::new(PauseKind::Finish, None, &now);
    let (verdict, state) = decide(&word(ALL), &fine(), &now, &State::default(), Some(&finish));
    assert!(verdict.allowed() && !verdict.takes_new());
    assert_eq!(verdict.standing().unwrap().reason, Reason::Finishing);
    let (verdict, _) = decide(&word(ALL), &fine(), &moment(20, 5), &state, Some(&finish.finished()));
    assert_eq!(reason(&verdict), Some(Reason::Paused));
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    for (text, words) in [
        ("[battery]\nrun = \"on_mains\"\nstop_below = 20", "battery.stop_below contradict"),
        ("[battery]\nmains_for = \"5s\"", "battery.mains_for and battery.run contradict"),
        ("[battery]\nstop_below = 50\nstart_above = 40", "above stop_below (50)"),
        ("[battery]\nstart_above = 40", "write both"),
        ("[battery]\nstop_below = 0", "1 to 95"),
        ("[temperature]\nstop_at = 80\nstart_at = 80", "start_at (80) must be below"),
        ("[temperature]\nstop_at = 200\nstart_at = 80", "degrees Celsius"),
        ("[noise]\nstop_at = 50\nstart_at = 20", "turns a minute"),
        ("[user]\nidle_for = \"5m\"", "user.idle_for and user.stop_when_active contradict"),
        ("[user]\nstop_when_active = true\nidle_for = \"1s\"", "15s to 24h"),
        (
            "[power]\nkeep_awake = \"always\"\n[battery]\nrun = \"on_mains\"",
            "power.keep_awake and battery.run",
        ),
        ("[hours]\nmonday = []", "no day has any hours"),
        ("[hours]\ndaily = [\"18:00-23:00\", \"22:00-23:30\"]", "overlap"),
        ("time_zone = \"Mars/Olympus\"", "Mars/Olympus"),
        ("[consent]\nprojects = []", "nobody's work may run"),
        ("[consent]\nimages = []", "no image may run"),
        ("[consent]\nimages = [\"A b\"]", "pattern"),
        ("[caps]\ncpu = 0", "lends nothing"),
        ("[caps]\ncpu = \"4g\"", "cores"),
        ("[caps]\nmemory = 4", "with its unit"),
        ("[caps]\ndata_per_month = \"50%\"", "write an amount"),
        ("[caps]\ndata_month_begins = 3", "write both or none"),
        ("[caps]\ndata_per_month = \"1g\"\ndata_month_begins = 31", "1 to 28"),
        ("[caps]\ngpus = \"some\"", "caps.gpus"),
    ] {
        let error = Rules::parse(text).unwrap().check(Some("UTC")).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for (text, words) in [
        ("hours = 5", "line 1"),
        ("\n[hours]\ndaily = [\"25:00-26:00\"]", "line 3"),
        ("[hours]\ndaily = [\"07:00-07:00\"]", "no length"),
        ("[battery]\nrun = \"sometimes\"", "on_mains"),
        ("[temprature]\nstop_at = 1", "temprature"),
        ("[caps]\ncpu = \"200%\"", "1% to 100%"),
    ] {
        let error = Rules::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let homeless = Rules::parse("[hours]\ndaily = [\"07:00-08:00\"]").unwrap();
    assert!(homeless.check(None).unwrap_err().to_string().contains("time_zone"));
}

#[test]
fn one_rule_is_changed_at_a_time() {
    let rules = Rules::default();
    let set = |rules: &Rules, key, value| rules.with(key, value).unwrap();
    let rules = set(&rules, "battery.run", "on_mains");
    let rules = set(&rules, "hours.weekdays", "[\"18:00-23:00\"]");
    let rules = set(&rules, "temperature", "{ stop_at = 80, start_at = 70 }");
    let rules = set(&rules, "time_zone", "Europe/Berlin");
    let rules = set(&rules, "caps.cpu", "50%");
    assert_eq!(Rules::parse(&rules.to_toml()).unwrap(), rules);
    assert!(rules.clone().check(None).is_ok());
    let less = set(&set(&rules, "temperature", ""), "hours", " ");
    assert_eq!((less.temperature, &less.hours), (None, &None));
    assert_eq!(less.time_zone.as_deref(), Some("Europe/Berlin"));
    for (key, value) in [
        ("batery.run", "always"),
        ("battery.run", "maybe"),
        ("", "1"),
        ("time_zone.x", "1"),
        ("caps.cpu", "1\nmemory = 2"),
    ] {
        assert!(rules.with(key, value).is_err(), "{key} = {value}");
    }
}

#[test]
fn months_of_a_data_plan() {
    let checked = |day: u8| {
        let text = format!(
            "time_zone = \"Europe/Berlin\"\n[caps]\ndata_per_month = \"1g\"\ndata_month_begins = {day}"
        );
        Rules::parse(&text).unwrap().check(None).unwrap()
    };
    let month = |day, now: &str| {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let (from, to) = checked(day).data_month(at(now));
        let show = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).unwrap().to_string();
        (show(from), show(to))
    };
    let is = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(month(1, "2026-03-31T22:30:00Z"), is("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"));
    assert_eq!(month(15, "2026-03-14T22:59:59Z"), is("2026-02-14T23:00:00Z", "2026-03-14T23:00:00Z"));
    assert_eq!(month(28, "2027-01-05T00:00:00Z"), is("2026-12-27T23:00:00Z", "2027-01-27T23:00:00Z"));
}

fn facts() -> impl Strategy<Value = Facts> {
    fn reading<T: std::fmt::Debug + Clone + 'static>(
        known: impl Strategy<Value = T> + 'static,
    ) -> BoxedStrategy<Reading<T>> {
        prop_oneof![6 => known.prop_map(Reading::Known), 1 => Just(Reading::unknown("x"))].boxed()
    }
    let power = prop_oneof![Just(PowerSource::Mains), Just(PowerSource::Battery)];
    (
        reading(power),
        reading(0u8..=100),
        reading((0u64..900).prop_map(Duration::from_secs)),
        reading(20i32..110),
        reading(0u32..6000),
        reading(any::<bool>()),
        reading((0u64..100).prop_map(|gib| Bytes(gib << 30))),
        prop::sample::select(vec![LanState::Closed, LanState::Open, LanState::Unfenced, LanState::Unknown]),
    )
        .prop_map(|(power, charge, idle, temperature, fan, metered, data, state)| Facts {
            power,
            charge,
            idle,
            temperature,
            fan,
            metered,
            data,
            lan: lan(state),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same is decided from the same; there is one reason, the first of all that hold; a pause
    /// outranks all, a network that cannot be closed all but that, and hours the rest.
    #[test]
    fn total_deterministic_and_in_order(
        steps in prop::collection::vec((facts(), 0i64..48, 0i64..3600, 0u8..6), 1..12),
    ) {
        let word = word(ALL);
        let mut state = State::default();
        for (facts, hour, seconds, act) in steps {
            let now = moment(hour, seconds);
            let kind = if act == 0 { PauseKind::Pause } else { PauseKind::Finish };
            let pause = (act < 2).then(|| Pause::new(kind, None, &now));
            let (verdict, next) = decide(&word, &facts, &now, &state, pause.as_ref());
            let again = decide(&word, &facts, &now, &state, pause.as_ref());
            prop_assert_eq!((&verdict, &next), (&again.0, &again.1));
            let reasons: Vec<Reason> = reason(&verdict).into_iter().chain(verdict.also.clone()).collect();
            prop_assert!(reasons.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", reasons);
            let hour = hour % 24;
            let outside = (6..18).contains(&hour);
            let bare = facts.lan == lan(LanState::Unfenced);
            match reason(&verdict) {
                Some(Reason::Paused) => prop_assert_eq!(act, 0),
                Some(Reason::LanNotClosed) => prop_assert!(act != 0 && bare),
                Some(Reason::OutsideHours) => prop_assert!(act != 0 && !bare && outside),
                _ => prop_assert!(act != 0 && !bare && !outside),
            }
            prop_assert_eq!(verdict.takes_new(), verdict.allowed() && act != 1);
            prop_assert!(verdict.next_change.is_none_or(|at| at > now.wall));
            state = next;
        }
    }

    /// Between two thresholds nothing ever changes, whichever way the value wanders there.
    #[test]
    fn hysteresis_does_not_flap(
        first in 20i32..110,
        wander in prop::collection::vec(76i32..85, 1..40),
    ) {
        let word = word("[temperature]\nstop_at = 85\nstart_at = 75");
        let hot = |celsius| Facts { temperature: Reading::Known(celsius), ..fine() };
        let (verdict, mut state) = decide(&word, &hot(first), &moment(20, 0), &State::default(), None);
        let allowed = verdict.allowed();
        prop_assert_eq!(allowed, first <= 75, "work begins beyond the start threshold alone");
        for (n, celsius) in wander.into_iter().enumerate() {
            let (verdict, next) = decide(&word, &hot(celsius), &moment(20, n as i64), &state, None);
            prop_assert_eq!(verdict.allowed(), allowed);
            prop_assert_eq!(verdict.since, moment(20, 0).wall);
            state = next;
        }
        prop_assert!(decide(&word, &hot(75), &moment(21, 0), &state, None).0.allowed());
        prop_assert!(!decide(&word, &hot(85), &moment(21, 0), &state, None).0.allowed());
    }

    /// Facts that stay the same change nothing but by time that was named: from one decision to its
    /// next change, whatever is asked in between has the same answer.
    #[test]
    fn the_next_change_is_the_next_change(
        before in facts(),
        facts in facts(),
        hour in 0i64..24,
        ahead in 0u32..1000,
    ) {
        let word = word(ALL);
        let (_, state) = decide(&word, &before, &moment(hour, 0), &State::default(), None);
        let (verdict, state) = decide(&word, &facts, &moment(hour, 1), &state, None);
        let start = moment(hour, 1).wall;
        let end = verdict.next_change.unwrap_or(start + Duration::from_secs(40 * 86_400));
        let span = u64::try_from(end.0 - start.0).unwrap();
        let passed = Duration(span.saturating_sub(1) * u64::from(ahead) / 1000);
        let boot = moment(hour, 1).boot;
        let later = Moment { wall: start + passed, boot: Duration(boot.0 + passed.0), boot_id: "a".into() };
        // A month of data ends in between at the latest where nothing else does.
        let data_ends = reason(&verdict) == Some(Reason::DataUsedUp);
        prop_assume!(!data_ends);
        let (then, _) = decide(&word, &facts, &later, &state, None);
        prop_assert_eq!(reason(&then), reason(&verdict));
        prop_assert_eq!(then.since, verdict.since);
    }
}
