//! What is asked of a thing, for how long, and how bad it is.
//!
//! [`builtin`] has the rules of a new control plane. Each names what to do about it in a sentence for people.

use lattice_model::{
    Duration,
    alert::{Severity, SubjectKind},
};
use serde::{Deserialize, Serialize};

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// In `snake_case`; readings say by it which rule they are for.
    pub id: String,
    /// What it says, in a few words.
    pub title: String,
    /// What to do when it fires.
    pub hint: String,
    /// What kind of thing it is about.
    pub about: SubjectKind,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Of what is measured: from where on it is too much or too little. None: readings say yes or no.
    pub mark: Option<Mark>,
    /// For how long it has to be so before somebody is told.
    pub hold: Duration,
    /// For how long it must not be so before it is over.
    pub clear: Duration,
    /// Rules that, firing of the same thing, say it all: of this one nobody is told meanwhile.
    pub hushed_by: Vec<String>,
}

/// From where on a number is too much or too little. Between the two marks everything stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether it is too much; else too little.
    pub above: bool,
    /// It begins here.
    pub begins: f64,
    /// It ends here: below `begins` where it is too much, above where it is too little.
    pub ends: f64,
}

impl Mark {
    /// Too much from `begins` on, until below `ends`.
    pub const fn above(begins: f64, ends: f64) -> Self {
        Self { above: true, begins, ends }
    }

    /// Too little from `begins` down, until above `ends`.
    pub const fn below(begins: f64, ends: f64) -> Self {
        Self { above: false, begins, ends }
    }

    /// Whether it can be used: finite, and ending on the good side of where it begins.
    pub fn is_sound(&self) -> bool {
        let good_side = if self.above { self.ends <= self.begins } else { self.ends >= self.begins };
        self.begins.is_finite() && self.ends.is_finite() && good_side
    }

    /// Whether a number is beyond where it begins, or has not yet come back to where it ends.
    pub(crate) fn holds(&self, number: f64, open: bool) -> bool {
        match (self.above, open) {
            (true, false) => number >= self.begins,
            (true, true) => number >= self.ends,
            (false, false) => number <= self.begins,
            (false, true) => number <= self.ends,
        }
    }
}

/// The rules of a new control plane.
pub fn builtin() -> Vec<Rule> {
    use Severity::{Critical, Warning};
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let of_nodes = |id: &str, title: &str, severity, mark, hold, hint: &str| Rule {
        id: id.to_owned(),
        title: title.to_owned(),
        hint: hint.to_owned(),
        about: SubjectKind::Node,
        severity,
        enabled: true,
        mark,
        hold,
        clear: minutes(2),
        hushed_by: Vec::new(),
    };
    // Of a node that is away, what it said last is no news.
    let hushed =
        |rule: Rule| Rule { hushed_by: vec!["node_lost".to_owned(), "node_disconnected".to_owned()], ..rule };
    let at_once = Duration(0);
    let lost = of_nodes(
        "node_lost",
        "a node is lost",
        Critical,
        None,
        at_once,
        "its work was placed elsewhere where its data allows; start the machine, or `lattice node rm` it",
    );
    let away = of_nodes(
        "node_disconnected",
        "a node is away for long",
        Warning,
        None,
        minutes(15),
        "ask its owner whether the machine is on and online; `lattice-agent doctor` there says what is wrong",
    );
    vec![
        lost,
        Rule { hushed_by: vec!["node_lost".to_owned()], ..away },
        hushed(of_nodes(
            "node_engine",
            "the container engine does not answer",
            Critical,
            None,
            minutes(2),
            "restart Docker on that machine; `lattice-agent doctor` says more",
        )),
        hushed(of_nodes(
            "node_cpu",
            "processors are busy for long",
            Warning,
            Some(Mark::above(95.0, 85.0)),
            minutes(15),
            "Enter on the node in `lattice top` shows what runs there; move work away (`lattice node drain`) or set limits",
        )),
        hushed(of_nodes(
            "node_memory",
            "memory is short",
            Warning,
            Some(Mark::above(92.0, 87.0)),
            minutes(5),
            "Enter on the node in `lattice top` shows what runs there; lower limits or move work away",
        )),
        hushed(of_nodes(
            "node_disk",
            "disk space is short",
            Critical,
            None,
            minutes(5),
            "remove images and volumes that nothing uses, or lend more space",
        )),
        hushed(of_nodes(
            "node_temperature",
            "a node is too hot",
            Warning,
            None,
            minutes(5),
            "clean its fans, give it air, or lend less of its processors",
        )),
        hushed(of_nodes(
            "node_clock",
            "a node's clock is wrong",
            Warning,
            None,
            minutes(5),
            "switch time synchronisation on; certificates fail where clocks differ much",
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn builtin_rules_are_sound_and_hushed_by_rules_that_are_there() {
        let rules = builtin();
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids.len(), rules.len());
        for rule in &rules {
            assert!(rule.mark.is_none_or(|mark| mark.is_sound()), "{}", rule.id);
            assert!(!rule.hint.is_empty() && !rule.title.is_empty());
            for other in &rule.hushed_by {
                assert!(ids.contains(other.as_str()) && *other != rule.id, "{}: {other}", rule.id);
            }
        }
    }

    #[test]
    fn every_builtin_rule_has_its_section_in_the_documentation() {
        let text = include_str!("../../../docs/alerts.md");
        let sections: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let rules = builtin();
        assert_eq!(sections, rules.iter().map(|rule| rule.id.as_str()).collect());
    }

    #[test]
    fn a_mark_that_ends_on_the_wrong_side_is_not_sound() {
        assert!(Mark::above(90.0, 90.0).is_sound() && Mark::below(10.0, 15.0).is_sound());
        for wrong in [Mark::above(90.0, 95.0), Mark::below(10.0, 5.0), Mark::above(f64::NAN, 1.0)] {
            assert!(!wrong.is_sound(), "{wrong:?}");
        }
    }
}
