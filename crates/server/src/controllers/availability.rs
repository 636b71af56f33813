//! Who stays: the server that plans sees every node now and then, and what [`Track`] makes of that is written down, so
//! that the next one to plan goes on from there.

use crate::{
    clock,
    rows::{self, AvailabilityRow, PopulationRow},
    state::Core,
};
use lattice_availability::{Population, Sight, Track, Zone};
use lattice_model::{
    NodeId,
    resource::{Approval, Node, PresenceState},
};
use std::collections::BTreeMap;

/// How many histories are written in one transaction.
const CHUNK: usize = 250;

/// What it remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    tracks: BTreeMap<NodeId, Track>,
    population: Population,
    loaded: bool,
}

impl Watcher {
    /// Looks at all nodes once.
    pub(crate) async fn look(&mut self, core: &Core) {
        if core.live.leads_since.lock().is_none() || core.live.behind().is_some() {
            *self = Self::default();
            return;
        }
        let (snapshot, now) = (core.snapshot(), clock::now());
        if !self.loaded {
            let tracks = snapshot.availability.iter();
            self.tracks = tracks.map(|(node, row)| (*node, row.value.track.clone())).collect();
            self.population = snapshot.population.clone();
            self.loaded = true;
        }
        let members = || snapshot.cluster.nodes.values().filter(|row| row.approval == Approval::Approved);
        let Self { tracks, population, .. } = self;
        tracks.retain(|node, _| snapshot.cluster.nodes.contains_key(node));
        let mut changed = Vec::new();
        for row in members() {
            let track = tracks.entry(row.id).or_insert_with(|| Track::new(Zone::default(), now));
            if track.see(population, sight(row), now) {
                changed.push(AvailabilityRow { node: row.id, track: track.clone() });
            }
        }
        for chunk in changed.chunks(CHUNK) {
            let population = PopulationRow(population.clone());
            let written = core
                .commit(|snapshot| {
                    let there = chunk.iter().filter(|row| snapshot.cluster.nodes.contains_key(&row.node));
                    let mut ops: Vec<_> = there.map(rows::put).collect();
                    ops.push(rows::put(&population));
                    Ok((ops, ()))
                })
                .await;
            if let Err(refused) = written {
                // What was seen is still known here, and is written with the next look that changes something.
                tracing::warn!(?refused, "what was seen of nodes' comings and goings was not written down");
                return;
            }
        }
    }
}

/// What can be said of a node: it is there while it can be given work. That an operator cordons it says nothing about
/// it.
fn sight(node: &Node) -> Sight {
    let presence = node.presence;
    match presence.state {
        PresenceState::Connected if node.standing.stands_still() => {
            Sight::Away { since: node.standing.since, announced: true }
        }
        PresenceState::Connected => Sight::There { since: presence.since.max(node.standing.since) },
        PresenceState::Disconnected | PresenceState::Lost => {
            Sight::Away { since: presence.since, announced: node.standing.is_announced() }
        }
        PresenceState::New | PresenceState::Unknown => Sight::Unknown,
    }
}
