//! What `--only` means: which benchmarks run, and which of their figures count.

use crate::{benchmark::Benchmark, benchmarks::ALL};
use std::collections::BTreeSet;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    names: BTreeSet<&'static str>,
    all: bool,
}

/// The figures of one benchmark that were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted(BTreeSet<&'static str>);

impl Wanted {
    /// Whether this figure was asked for; what is not may be left unmeasured.
    pub(crate) fn has(&self, figure: &str) -> bool {
        self.0.contains(figure)
    }
}

impl Selection {
    /// Everything where nothing is said; else the figures of that name or family, else those whose name begins so.
    /// `None` when there are none.
    pub(crate) fn of(only: Option<&str>) -> Option<Self> {
        let all = || ALL.iter().flat_map(|benchmark| benchmark.figures()).map(|figure| figure.name);
        let Some(only) = only.map(|text| text.trim_end_matches('/')).filter(|text| !text.is_empty()) else {
            return Some(Self { names: all().collect(), all: true });
        };
        let family =
            |name: &str| name.strip_prefix(only).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut names: BTreeSet<_> = all().filter(|name| family(name)).collect();
        if names.is_empty() {
            names = all().filter(|name| name.starts_with(only)).collect();
        }
        (!names.is_empty()).then_some(Self { names, all: false })
    }

    /// Whether nothing in particular was asked for.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// The benchmarks with at least one figure that was asked for, in the registry's order.
    pub(crate) fn benchmarks(&self) -> impl Iterator<Item = (&'static &'static dyn Benchmark, Wanted)> {
        ALL.iter().filter_map(|benchmark| {
            let of = benchmark.figures().iter().map(|figure| figure.name);
            let wanted: BTreeSet<_> = of.filter(|name| self.names.contains(name)).collect();
            (!wanted.is_empty()).then_some((benchmark, Wanted(wanted)))
        })
    }
}

/// Every figure with its benchmark, for people.
pub(crate) fn listing() -> String {
    let mut text = String::new();
    for benchmark in ALL {
        let arguments: String =
            benchmark.arguments().iter().map(|argument| format!(" {}=…", argument.name)).collect();
        text += &format!("{}{arguments}: {}\n", benchmark.name(), benchmark.about());
        for figure in benchmark.figures() {
            text += &format!("  {}\n", figure.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &str) -> Vec<&'static str> {
        Selection::of(Some(only)).map(|found| found.names.into_iter().collect()).unwrap_or_default()
    }

    #[test]
    fn a_name_a_family_and_a_beginning() {
        assert_eq!(names("agent-footprint/rss"), ["agent-footprint/rss"]);
        assert_eq!(names("deploy-latency"), ["deploy-latency/median", "deploy-latency/p95"]);
        assert_eq!(names("deploy-latency/"), ["deploy-latency/median", "deploy-latency/p95"]);
        assert_eq!(names("store"), ["store-writes/postgres", "store-writes/sqlite"]);
        assert!(names("no-such-thing").is_empty());
        assert!(Selection::of(Some("")).unwrap().is_all() && Selection::of(None).unwrap().is_all());
        let selection = Selection::of(Some("agent-footprint/cpu")).unwrap();
        let found: Vec<_> = selection.benchmarks().collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].1.has("agent-footprint/cpu") && !found[0].1.has("agent-footprint/rss"));
    }

    #[test]
    fn names_are_unique_and_of_one_family() {
        let mut seen = BTreeSet::new();
        for benchmark in ALL {
            assert!(!benchmark.about().is_empty() && !benchmark.figures().is_empty());
            for figure in benchmark.figures() {
                assert!(seen.insert(figure.name), "{} is there twice", figure.name);
                let family = figure.name.split_once('/').map_or(figure.name, |(family, _)| family);
                assert_eq!(family, benchmark.name(), "{} is of another family", figure.name);
            }
        }
    }
}
