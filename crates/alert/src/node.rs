//! What is read of a node for the rules about nodes.
//!
//! A node that is not connected has no present: what it said last is not known to hold, so that it neither fires nor is
//! over. One that said that it goes to sleep is away as announced, and nobody is told.

use crate::board::{Reading, Value};
use lattice_model::{
    Timestamp,
    alert::{Subject, SubjectKind},
    health::{ConditionKind, Level},
    resource::{Approval, Node, PresenceState},
};

/// What a machine uses now, of all that it has, in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Processors.
    pub cpu: f64,
    /// Memory.
    pub memory: f64,
}

/// A node as what an alert is about.
pub fn subject(node: &Node) -> Subject {
    Subject {
        node: Some(node.name.clone()),
        pool: Some(node.pool.clone()),
        owner: Some(node.owner.clone()),
        ..Subject::plain(SubjectKind::Node, node.id.to_string(), node.name.as_str())
    }
}

const BY_CONDITION: [(&str, ConditionKind, Level); 4] = [
    ("node_engine", ConditionKind::Docker, Level::Bad),
    ("node_disk", ConditionKind::Disk, Level::Bad),
    ("node_clock", ConditionKind::Clock, Level::Warning),
    ("node_temperature", ConditionKind::Temperature, Level::Bad),
];

/// Readings of a node for every rule about nodes.
pub fn readings(node: &Node, load: Option<Load>) -> Vec<Reading> {
    let state = node.presence.state;
    let there = node.approval == Approval::Approved;
    let connected = state == PresenceState::Connected;
    let unexpected = !node.standing.is_announced();
    let away = |is: bool| match state {
        PresenceState::New | PresenceState::Unknown => Value::Unknown,
        _ => Value::Is(is && unexpected),
    };
    let subject = subject(node);
    let name = &node.name;
    let read = |rule: &str, value: Value, since: Option<Timestamp>, text: String| Reading {
        rule: rule.to_owned(),
        subject: subject.clone(),
        value: if there { value } else { Value::Gone },
        since,
        text,
    };
    let since = Some(node.presence.since);
    let lost = state == PresenceState::Lost;
    let mut all = vec![
        read("node_lost", away(lost), since, format!("{name} is lost; its work was placed elsewhere")),
        read(
            "node_disconnected",
            away(lost || state == PresenceState::Disconnected),
            since,
            format!("{name} is away"),
        ),
    ];
    for (rule, kind, from) in BY_CONDITION {
        let condition = node.conditions.iter().find(|one| one.kind == kind).filter(|_| connected);
        let value = match condition {
            Some(one) if one.level == Level::Unknown => Value::Unknown,
            Some(one) => Value::Is(one.level >= from),
            None => Value::Unknown,
        };
        let text = condition.map(|one| format!("{name}: {}", one.message)).unwrap_or_default();
        all.push(read(rule, value, condition.map(|one| one.since), text));
    }
    let load = load.filter(|_| connected);
    for (rule, what, number) in [
        ("node_cpu", "processors", load.map(|load| load.cpu)),
        ("node_memory", "memory", load.map(|load| load.memory)),
    ] {
        let value = number.map_or(Value::Unknown, Value::Number);
        let text = format!("{name} uses {:.0} % of its {what}", number.unwrap_or_default());
        all.push(read(rule, value, None, text));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Board, Rule, builtin};
    use lattice_model::{NodeId, alert::AlertState, resource::Presence};
    use std::collections::{BTreeMap, BTreeSet};

    fn rules() -> BTreeMap<String, Rule> {
        builtin().into_iter().map(|rule| (rule.id.clone(), rule)).collect()
    }

    fn node(state: PresenceState) -> Node {
        Node { presence: Presence { state, since: Timestamp(0) }, ..Node::blank(NodeId::from_random(1)) }
    }

    fn firing(board: &Board) -> Vec<&str> {
        let firing = board.open().filter(|alert| alert.state == AlertState::Firing);
        firing.map(|alert| alert.rule.as_str()).collect()
    }

    #[test]
    fn every_rule_about_nodes_is_read_and_nothing_else() {
        let read: BTreeSet<String> =
            readings(&node(PresenceState::New), None).into_iter().map(|one| one.rule).collect();
        assert_eq!(read, rules().into_keys().collect());
    }

    #[test]
    fn a_node_that_is_lost_fires_and_is_over_when_it_comes_back_or_goes_for_good() {
        let (mut board, rules, hour) = (Board::default(), rules(), 3_600_000);
        board.step(&rules, &readings(&node(PresenceState::Unknown), None), Timestamp(hour));
        assert!(firing(&board).is_empty(), "right after a start nothing is known");
        board.step(&rules, &readings(&node(PresenceState::Lost), None), Timestamp(hour));
        assert_eq!(firing(&board), ["node_disconnected", "node_lost"]);
        let mut back = board.clone();
        for at in [hour + 5_000, hour + 500_000] {
            back.step(&rules, &readings(&node(PresenceState::Connected), None), Timestamp(at));
        }
        assert!(firing(&back).is_empty());
        let revoked = Node { approval: Approval::Revoked, ..node(PresenceState::Lost) };
        board.step(&rules, &readings(&revoked, None), Timestamp(hour + 1));
        assert_eq!(board.open().count(), 0);
    }

    #[test]
    fn what_a_node_said_before_it_went_is_no_news() {
        let (mut board, rules) = (Board::default(), rules());
        let busy = Some(Load { cpu: 99.0, memory: 10.0 });
        for at in 0..=200 {
            board.step(&rules, &readings(&node(PresenceState::Connected), busy), Timestamp(at * 5_000));
        }
        assert_eq!(firing(&board), ["node_cpu"]);
        board.step(&rules, &readings(&node(PresenceState::Disconnected), busy), Timestamp(1_100_000));
        assert_eq!(firing(&board), ["node_cpu", "node_disconnected"]);
        let cpu = board.open().find(|alert| alert.rule == "node_cpu").unwrap();
        assert!(board.hushed_by(cpu, &rules).is_some());
    }
}
