//! What a board promises, whatever is read.

#![allow(clippy::unwrap_used)]

use lattice_alert::{Board, Mark, Reading, Rule, Transition, Value, board, builtin};
use lattice_model::{
    Duration, Timestamp,
    alert::{AlertState, Subject, SubjectKind},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const STEP: i64 = 5_000;

fn rules() -> BTreeMap<String, Rule> {
    builtin().into_iter().map(|rule| (rule.id.clone(), rule)).collect()
}

fn reading(rule: &str, value: Value) -> Reading {
    let subject = Subject::plain(SubjectKind::Node, "1", "quiet-otter");
    Reading { rule: rule.to_owned(), subject, value, since: None, text: "as it was read".to_owned() }
}

fn states(all: &[Transition]) -> Vec<Option<AlertState>> {
    all.iter().map(|one| one.to).collect()
}

/// Steps every five seconds from `at` on, each with one value of a rule.
fn run(board: &mut Board, rule: &str, at: &mut i64, values: &[Value]) -> Vec<Transition> {
    let rules = rules();
    let step = |value: &Value| {
        *at += STEP;
        board.step(&rules, &[reading(rule, *value)], Timestamp(*at))
    };
    values.iter().flat_map(step).collect()
}

#[test]
fn what_lasts_fires_once_and_is_over_when_it_has_ended_for_long_enough() {
    let (mut board, mut at) = (Board::default(), 0);
    // Five minutes of too much memory, and a little more.
    let all = run(&mut board, "node_memory", &mut at, &[Value::Number(95.0); 70]);
    assert_eq!(states(&all), [Some(AlertState::Pending), Some(AlertState::Firing)]);
    assert_eq!(all[1].alert.fired_at, Some(Timestamp(STEP + 300_000)));
    // Between the two marks it still is.
    assert!(run(&mut board, "node_memory", &mut at, &[Value::Number(89.0); 100]).is_empty());
    let all = run(&mut board, "node_memory", &mut at, &[Value::Number(50.0); 30]);
    assert_eq!(states(&all), [Some(AlertState::Resolved)]);
    assert_eq!(board.open().count(), 0);
}

#[test]
fn what_does_not_last_tells_nobody() {
    let (mut board, mut at) = (Board::default(), 0);
    let all = run(&mut board, "node_memory", &mut at, &[Value::Number(95.0), Value::Number(50.0)]);
    assert_eq!(states(&all), [Some(AlertState::Pending), None]);
}

#[test]
fn who_knows_since_when_need_not_wait_again() {
    let mut board = Board::default();
    let known = Reading { since: Some(Timestamp(0)), ..reading("node_disconnected", Value::Is(true)) };
    let all = board.step(&rules(), &[known], Timestamp(20 * 60_000));
    assert_eq!(states(&all), [Some(AlertState::Pending), Some(AlertState::Firing)]);
}

#[test]
fn what_comes_and_goes_has_to_hold_still_for_longer() {
    let (mut board, mut at) = (Board::default(), 0);
    let mut fired = 0;
    for _ in 0..board::FLAPS {
        let mut values = vec![Value::Is(true)];
        values.extend([Value::Is(false); 30]);
        let all = run(&mut board, "node_lost", &mut at, &values);
        fired += all.iter().filter(|one| one.to == Some(AlertState::Firing)).count();
    }
    assert_eq!(fired, board::FLAPS);
    let alert = board.open().next().unwrap();
    assert!(alert.flapping && alert.state == AlertState::Firing, "{alert:?}");
    let all = run(&mut board, "node_lost", &mut at, &[Value::Is(false); 200]);
    assert_eq!(states(&all), [Some(AlertState::Resolved)]);
}

#[test]
fn a_node_that_is_lost_hushes_what_it_said_last() {
    let (mut board, rules) = (Board::default(), rules());
    let both = [
        Reading { since: Some(Timestamp(0)), ..reading("node_engine", Value::Is(true)) },
        reading("node_lost", Value::Is(true)),
    ];
    board.step(&rules, &both[..1], Timestamp(600_000));
    let engine = board.open().next().unwrap().clone();
    assert_eq!(board.hushed_by(&engine, &rules), None);
    board.step(&rules, &both, Timestamp(605_000));
    assert_eq!(board.hushed_by(&engine, &rules).map(|other| other.rule.as_str()), Some("node_lost"));
}

#[test]
fn a_rule_that_is_switched_off_ends_its_alerts_and_a_thing_that_is_gone_too() {
    let (mut board, mut all) = (Board::default(), rules());
    board.step(&all, &[reading("node_lost", Value::Is(true))], Timestamp(0));
    let gone = board.clone().step(&all, &[reading("node_lost", Value::Gone)], Timestamp(1));
    assert_eq!(states(&gone), [Some(AlertState::Resolved)]);
    all.get_mut("node_lost").unwrap().enabled = false;
    let off = board.step(&all, &[reading("node_lost", Value::Is(true))], Timestamp(1));
    assert_eq!(states(&off), [Some(AlertState::Resolved)]);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0.0..100.0f64).prop_map(Value::Number),
        1 => Just(Value::Number(f64::NAN)),
        1 => Just(Value::Unknown),
        1 => Just(Value::Gone),
    ]
}

proptest! {
    /// A state is never skipped, what fires has lasted, and the same is not said twice.
    #[test]
    fn states_follow_each_other(values in prop::collection::vec(any_value(), 0..300)) {
        let (mut board, mut at, mut before) = (Board::default(), 0, None);
        let hold = rules()["node_memory"].hold;
        for one in run(&mut board, "node_memory", &mut at, &values) {
            prop_assert_eq!(one.from, before);
            match (one.from, one.to) {
                (None, Some(AlertState::Pending)) | (Some(AlertState::Pending), None) => {}
                (Some(AlertState::Pending), Some(AlertState::Firing)) => {
                    prop_assert!(one.alert.fired_at.unwrap().since(one.alert.since) >= hold);
                }
                (Some(AlertState::Firing), Some(AlertState::Resolved)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
            before = one.to.filter(|state| *state != AlertState::Resolved);
        }
    }

    /// What swings between the two marks changes nothing, on whichever side it began.
    #[test]
    fn nothing_flaps_between_the_marks(
        values in prop::collection::vec(87.0..92.0f64, 1..200), firing: bool,
    ) {
        let (mut board, mut at) = (Board::default(), 0);
        if firing {
            run(&mut board, "node_memory", &mut at, &[Value::Number(99.0); 70]);
        }
        let values: Vec<Value> = values.into_iter().map(Value::Number).collect();
        prop_assert_eq!(run(&mut board, "node_memory", &mut at, &values), vec![]);
        prop_assert_eq!(board.open().count(), usize::from(firing));
    }

    /// A server that is restarted anywhere says what it would have said.
    #[test]
    fn a_restart_changes_nothing(values in prop::collection::vec(any_value(), 0..200), cut: prop::sample::Index) {
        let (mut whole, mut at) = (Board::default(), 0);
        let expected = run(&mut whole, "node_cpu", &mut at, &values);
        let (first, rest) = values.split_at(cut.index(values.len() + 1));
        let (mut board, mut at) = (Board::default(), 0);
        let mut said = run(&mut board, "node_cpu", &mut at, first);
        let text = serde_json::to_string(&board).unwrap();
        let mut board: Board = serde_json::from_str(&text).unwrap();
        said.extend(run(&mut board, "node_cpu", &mut at, rest));
        prop_assert_eq!(states(&said), states(&expected));
        prop_assert_eq!(board.open().count(), whole.open().count());
    }

    /// With one mark only there would be no telling, so a sound one never ends before it begins.
    #[test]
    fn what_begins_has_not_ended(begins in -1e6..1e6f64, room in 0.0..1e6f64, above: bool) {
        let mark = if above { Mark::above(begins, begins - room) } else { Mark::below(begins, begins + room) };
        prop_assert!(mark.is_sound());
        let rule = Rule { mark: Some(mark), hold: Duration(0), ..rules().remove("node_memory").unwrap() };
        let rules = BTreeMap::from([(rule.id.clone(), rule)]);
        let (mut board, reading) = (Board::default(), reading("node_memory", Value::Number(begins)));
        prop_assert_eq!(board.step(&rules, std::slice::from_ref(&reading), Timestamp(0)).len(), 2);
        prop_assert!(board.step(&rules, &[reading], Timestamp(1)).is_empty());
    }
}
