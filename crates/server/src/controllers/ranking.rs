//! How good nodes are: the server that plans looks at each now and then, and writes down what [`History`] makes of it;
//! what was measured is written by [`super::measuring`]. Both rows are under the node's key and not its id, and stay for
//! [`KEPT`] when the node is removed: whoever comes back with that key comes back with its past.

use crate::{
    clock,
    rows::{self, MeasuredRow, RankingRow},
    state::{Core, Snapshot},
};
use lattice_link::message::Rank;
use lattice_model::{
    Duration, NodeId, Timestamp,
    health::{ConditionKind, Level},
    report::AllocationState,
    resource::{Approval, Node, PresenceState},
};
use lattice_planner::Row;
use lattice_ranking::{Board, Class, Entry, History, MOST, Runs, Score, Sight, placement_weight};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many rows are written in one transaction.
const CHUNK: usize = 250;
/// How long what is known of a key is kept that no node has any more: three half-lives of trust.
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);
/// How old the board may be that somebody is shown …
const BOARD_FOR: Duration = Duration::from_secs(5);
/// … and the one by which nodes are told their places: as often as each of them hears of it.
const BOARD_FOR_NODES: Duration = Duration::from_secs(60);
/// The badge of whoever was measured to be the fastest of its class.
pub(crate) const FASTEST: &str = "fastest_in_class";

/// What it remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    known: BTreeMap<String, Known>,
    loaded: bool,
}

#[derive(Debug)]
struct Known {
    history: History,
    /// What placement gets.
    weight: u8,
    weight_gpu: u8,
    /// Of the row of what was measured that the weight was made of.
    measured: u64,
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
            let known = |(key, row): (&String, &Row<RankingRow>)| {
                let RankingRow { history, weight, weight_gpu, .. } = (*row.value).clone();
                (key.clone(), Known { history, weight, weight_gpu, measured: 0 })
            };
            self.known = snapshot.ranking.iter().map(known).collect();
            self.loaded = true;
        }
        let held: BTreeSet<NodeId> = core
            .live
            .held
            .lock()
            .as_ref()
            .map(|held| held.nodes.iter().copied().collect())
            .unwrap_or_default();
        let mut changed = Vec::new();
        let members = snapshot.cluster.nodes.values().filter(|row| row.approval == Approval::Approved);
        for row in members {
            let Some(key) = snapshot.identities.get(&row.id).map(|identity| identity.fingerprint.clone())
            else {
                continue;
            };
            let fresh = || Known { history: History::new(now), weight: 0, weight_gpu: 0, measured: 0 };
            let is_new = !self.known.contains_key(&key);
            let known = self.known.entry(key.clone()).or_insert_with(fresh);
            let measured = snapshot.measured.get(&key);
            let runs = measured.map(|row| &row.runs);
            let mut news = known.history.see(sight(&snapshot, row, &held), now) || is_new;
            if let Some(at) = runs.and_then(Runs::made_up) {
                news |= known.history.catch(at);
            }
            let revision = measured.map_or(0, |row| row.revision);
            if news || revision != known.measured {
                let none = Runs::default();
                let score = Score::of(Some(&known.history), runs.unwrap_or(&none), now);
                let weight = placement_weight(score.general, (!is_new).then_some(known.weight));
                let weight_gpu = placement_weight(score.with_gpu, (!is_new).then_some(known.weight_gpu));
                news |= (weight, weight_gpu) != (known.weight, known.weight_gpu);
                (known.weight, known.weight_gpu, known.measured) = (weight, weight_gpu, revision);
            }
            if news {
                let history = known.history.clone();
                let Known { weight, weight_gpu, .. } = *known;
                changed.push(RankingRow { key, node: row.id, history, weight, weight_gpu, seen: now });
            }
        }
        for chunk in changed.chunks(CHUNK) {
            let written = core
                .commit(|snapshot| {
                    let there = chunk.iter().filter(|row| snapshot.cluster.nodes.contains_key(&row.node));
                    Ok((there.map(rows::put).collect(), ()))
                })
                .await;
            if let Err(refused) = written {
                // What was seen is still known here, and is written with what is seen next.
                tracing::warn!(?refused, "what was seen of nodes was not written down");
                return;
            }
        }
    }
}

/// What can be said of a node. That an operator cordons it says nothing about it.
fn sight(snapshot: &Snapshot, node: &Node, held: &BTreeSet<NodeId>) -> Sight {
    match node.presence.state {
        PresenceState::Connected if node.standing.stands_still() => Sight::Excused,
        PresenceState::Connected => Sight::There {
            working: snapshot
                .cluster
                .allocations_on(node.id)
                .any(|allocation| allocation.status.state == AllocationState::Running),
            failing: node
                .conditions
                .iter()
                .any(|one| one.kind == ConditionKind::Docker && one.level == Level::Bad),
            until: node.standing.until.filter(|_| node.standing.takes_work()),
        },
        PresenceState::Disconnected | PresenceState::Lost if node.standing.stands_still() => Sight::Excused,
        // Many vanished at once: that is the network's fault or this server's.
        PresenceState::Disconnected | PresenceState::Lost if held.contains(&node.id) => Sight::Unknown,
        PresenceState::Disconnected | PresenceState::Lost => Sight::Missing,
        PresenceState::New | PresenceState::Unknown => Sight::Unknown,
    }
}

/// Forgets keys that no node has had for long.
pub(crate) async fn forget(core: &Core) {
    let (snapshot, now) = (core.snapshot(), clock::now());
    let nobodys = |key: &&String| !snapshot.by_key.contains_key(*key);
    let old = |at: Timestamp| now.since(at) > KEPT;
    let ranks = snapshot.ranking.iter().filter(|(key, row)| nobodys(key) && old(row.seen));
    let measured = snapshot.measured.iter().filter(|(key, row)| nobodys(key) && old(row.seen));
    let mut ops: Vec<_> =
        ranks.map(|(key, row)| rows::delete::<RankingRow>(key, Some(row.revision))).collect();
    ops.extend(measured.map(|(key, row)| rows::delete::<MeasuredRow>(key, Some(row.revision))));
    for chunk in ops.chunks(CHUNK) {
        if let Err(error) = core.store.apply(lattice_store::Transaction::new(chunk.to_vec())).await {
            return tracing::warn!(%error, "what was known of former nodes was not forgotten");
        }
    }
}

/// What is known of a node.
pub(crate) struct Standing<'a> {
    pub(crate) history: Option<&'a History>,
    pub(crate) runs: Runs,
    pub(crate) weight: u8,
    pub(crate) weight_gpu: u8,
    pub(crate) class: Class,
    pub(crate) score: Score,
}

/// What is known of a node now.
pub(crate) fn standing<'a>(snapshot: &'a Snapshot, node: &Node, now: Timestamp) -> Standing<'a> {
    let key = snapshot.identities.get(&node.id).map(|row| &row.fingerprint);
    let ranked = key.and_then(|key| snapshot.ranking.get(key));
    let runs = key.and_then(|key| snapshot.measured.get(key)).map(|row| row.runs.clone()).unwrap_or_default();
    let history = ranked.map(|row| &row.value.history);
    let cores = runs.figures().map(|figures| figures.cores());
    Standing {
        history,
        weight: ranked.map_or(0, |row| row.weight),
        weight_gpu: ranked.map_or(0, |row| row.weight_gpu),
        class: Class::of(&node.facts, cores),
        score: Score::of(history, &runs, now),
        runs,
    }
}

/// All members in order, as they were a moment ago.
pub(crate) fn board(core: &Core, snapshot: &Snapshot) -> Arc<Board> {
    board_within(core, snapshot, BOARD_FOR)
}

fn board_within(core: &Core, snapshot: &Snapshot, age: Duration) -> Arc<Board> {
    let now = clock::now();
    let mut last = core.live.board.lock();
    if let Some((at, board)) = &*last
        && now.since(*at) < age
        && at.since(now) == Duration(0)
    {
        return Arc::clone(board);
    }
    let entry = |row: &Row<Node>| {
        let Standing { class, score, runs, .. } = standing(snapshot, row, now);
        let speed = runs.figures().map_or(0.0, |figures| figures.speed());
        Entry { node: row.id, class, points: score.points, probation: score.probation.is_some(), speed }
    };
    let members = snapshot.cluster.nodes.values().filter(|row| row.approval == Approval::Approved);
    let board = Arc::new(Board::new(members.map(entry).collect()));
    *last = Some((now, Arc::clone(&board)));
    board
}

/// What a node is told of itself; nothing where it has no place yet.
pub(crate) fn own(core: &Core, node: NodeId) -> Option<Rank> {
    let (snapshot, now) = (core.snapshot(), clock::now());
    let row = snapshot.cluster.nodes.get(&node)?;
    // Who is new has its place in a newer one.
    let known = board_within(core, &snapshot, BOARD_FOR_NODES).place(node);
    let place = known.or_else(|| board(core, &snapshot).place(node))?;
    let Standing { history, score, class, .. } = standing(&snapshot, row, now);
    let earned = history.map(|history| history.badges()).unwrap_or_default().iter();
    let mut badges: Vec<String> = earned.map(|earned| earned.badge.as_str().to_owned()).collect();
    badges.extend(place.fastest.then(|| FASTEST.to_owned()));
    Some(Rank {
        points: score.points,
        most: MOST,
        class: class.as_str().to_owned(),
        class_place: place.in_class,
        class_size: place.class_size,
        place: place.overall,
        size: place.size,
        streak_days: history.map_or(0, History::streak),
        best_streak_days: history.map_or(0, History::best_streak),
        badges,
        probation: score.probation,
        marks: score.marks.iter().map(|mark| mark.in_words().to_owned()).collect(),
    })
}
