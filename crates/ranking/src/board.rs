//! [`Board`]: who is before whom.

use crate::Class;
use lattice_model::NodeId;
use std::collections::BTreeMap;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Which node.
    pub node: NodeId,
    /// With what it is compared.
    pub class: Class,
    /// Its points.
    pub points: u16,
    /// Whether it is on probation: then it is behind those that are not.
    pub probation: bool,
    /// How fast it is; 0 where it was not measured.
    pub speed: f64,
}

/// Where a node stands. Equals share a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Among its class, from 1.
    pub in_class: u32,
    /// How many are in its class.
    pub class_size: u32,
    /// Among all, from 1.
    pub overall: u32,
    /// How many there are.
    pub size: u32,
    /// Nobody of its class was measured to be faster, and there are others.
    pub fastest: bool,
}

/// All nodes in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    entries: Vec<Entry>,
    places: BTreeMap<NodeId, Place>,
}

impl Board {
    /// Puts them in order: by points, who is on probation last, equals by id.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        let rank = |entry: &Entry| (entry.probation, std::cmp::Reverse(entry.points));
        entries.sort_by_key(|entry| (rank(entry), entry.node));
        let overall = places(&entries);
        let mut board = Self { places: BTreeMap::new(), entries };
        for class in Class::ALL {
            let of_class: Vec<Entry> =
                board.entries.iter().filter(|entry| entry.class == class).copied().collect();
            let best = of_class.iter().map(|entry| entry.speed).fold(0.0, f64::max);
            let size = u32::try_from(of_class.len()).unwrap_or(u32::MAX);
            let in_class = places(&of_class);
            for entry in &of_class {
                let place = Place {
                    in_class: in_class[&entry.node],
                    class_size: size,
                    overall: overall[&entry.node],
                    size: u32::try_from(board.entries.len()).unwrap_or(u32::MAX),
                    fastest: size > 1 && best > 0.0 && entry.speed >= best && !entry.probation,
                };
                board.places.insert(entry.node, place);
            }
        }
        board
    }

    /// All, the best first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where a node stands.
    pub fn place(&self, node: NodeId) -> Option<Place> {
        self.places.get(&node).copied()
    }
}

/// From 1; equals share a place, and the next one has as many before it as there are.
fn places(sorted: &[Entry]) -> BTreeMap<NodeId, u32> {
    let mut places = BTreeMap::new();
    let mut last: Option<(bool, u16, u32)> = None;
    for (n, entry) in (1u32..).zip(sorted) {
        let place = match last {
            Some((probation, points, place)) if (probation, points) == (entry.probation, entry.points) => {
                place
            }
            _ => n,
        };
        last = Some((entry.probation, entry.points, place));
        places.insert(entry.node, place);
    }
    places
}
