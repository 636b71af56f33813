//! Which pool a node belongs to, by the pools' rules ([`belongs`]); when it is moved there ([`moves`]); and what a
//! change of a pool would do ([`preview`]).
//!
//! The first rule that holds takes a node: by priority, then by the pool's name. Where none holds it goes back to the
//! pool in which it joined. Whoever was put into a pool by hand stays. Three things bound what rules may do:
//!
//! - **trust**: a trusted pool takes nodes by rule only where an operator said so for that pool, and labels by the
//!   nodes' owners never count for it;
//! - **data**: a node whose volumes are there stays, until an operator moves it;
//! - **peace**: what a rule took in stays until its facts have said otherwise for a while, and few nodes with work
//!   that has to go are moved at a time.
//!
//! What runs on a node that changes its pool moves as the planner always moves what is no longer suitable: by turns.
//! Rejected: pools as views over nodes, computed whenever somebody asks. Trust, secrets and quotas hang on a node's
//! pool, and a transition that is stored, with its reason, can be looked up later.

use crate::{
    cluster::{Cluster, Row},
    forecast::{self, Move},
    home::may_use,
    policy::Policy,
};
use lattice_model::{
    Duration, NodeId, PoolName, Timestamp,
    pool::{Pool, Rule},
    resource::{Approval, Intent, Node, PresenceState},
};
use lattice_scheduler::holds;
use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, sync::Arc};

/// How many nodes with work that has to go are on their way from pool to pool at a time.
pub const AT_ONCE: usize = 3;
/// How long a node that was moved counts as on its way, while something on it has to go and has not.
pub const UNDER_WAY: Duration = Duration::from_secs(600);
/// How many nodes are moved in one go.
pub const MOST: usize = 50;

/// Where a node belongs, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'c> {
    /// The pool.
    pub pool: &'c PoolName,
    /// By whose word.
    pub by: By<'c>,
}

/// By whose word a node belongs to a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By<'c> {
    /// An operator or a join token put it there.
    Hand,
    /// The pool's rule holds of it.
    Rule(&'c Rule),
    /// No rule holds of it, and there it joined.
    Home,
    /// No rule holds of it, and where it joined is no more.
    Left,
}

impl Place<'_> {
    /// Why it belongs there, for people.
    pub fn why(&self) -> String {
        match self.by {
            By::Hand => "an operator or its join token put it there".into(),
            By::Rule(rule) => format!("the rule of the pool {} holds: {rule}", self.pool),
            By::Home => "no pool's rule holds of it, and there it joined".into(),
            By::Left => "no pool's rule holds of it, and the pool in which it joined is gone".into(),
        }
    }
}

/// Whether a pool's rule takes a node.
pub fn admits(pool: &Pool, node: &Node) -> bool {
    let Some(rule) = &pool.rule else { return false };
    if pool.trusted && !rule.trusts_claims {
        return false;
    }
    let seen = if pool.trusted { Cow::Owned(without_owners_labels(node)) } else { Cow::Borrowed(node) };
    rule.rule.constraints().iter().all(|constraint| holds(constraint, &seen))
}

/// The node as it is without what its owner says about where and what it is.
fn without_owners_labels(node: &Node) -> Node {
    let mut node = node.clone();
    let machine = &mut node.facts.machine;
    machine.labels.clear();
    (machine.region, machine.site) = (None, None);
    node
}

/// Where a node belongs. Every node belongs somewhere.
pub fn belongs<'c>(cluster: &'c Cluster, node: &'c Node) -> Place<'c> {
    if node.pool_fixed || node.approval != Approval::Approved {
        return Place { pool: &node.pool, by: By::Hand };
    }
    let taking = cluster.pools.values().filter_map(|pool| Some((pool, pool.rule.as_ref()?)));
    let taking = taking.filter(|(pool, _)| admits(pool, node));
    // The names come in order, and the first of equals is the one.
    if let Some((pool, rule)) = taking.min_by_key(|(_, rule)| Reverse(rule.priority)) {
        return Place { pool: &pool.name, by: By::Rule(&rule.rule) };
    }
    // Never the default pool instead, which may be trusted with more than the one that is gone.
    match cluster.pools.contains_key(node.home()) || node.pool == *node.home() {
        true => Place { pool: node.home(), by: By::Home },
        false => Place { pool: &node.pool, by: By::Left },
    }
}

/// Why a node stays in its pool although it belongs to another, where only a person changes that.
pub fn bound(cluster: &Cluster, node: &Node) -> Option<String> {
    let mut there = cluster.volumes.values().filter(|row| row.node == Some(node.id) && !row.deleting);
    let first = there.next()?;
    let more = match there.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Some(format!(
        "the data of volume {}{more} is on it; `lattice node set {} --pool P` moves it all the same",
        first.key.volume, node.name
    ))
}

/// Why a node is not yet where it belongs: what a person changes, or what it waits for.
pub fn stays(cluster: &Cluster, node: &Node) -> Option<String> {
    (belongs(cluster, node).pool != &node.pool).then(|| {
        bound(cluster, node).unwrap_or_else(|| match node.presence.state {
            PresenceState::Connected => {
                "it moves when this has been so for a while, and its turn has come".into()
            }
            _ => "it moves when it is back".into(),
        })
    })
}

/// Since when the facts of nodes have said that they belong elsewhere. Whoever begins without it waits a little longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since(BTreeMap<NodeId, (PoolName, Timestamp)>);

/// A node that goes to another pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repool {
    /// The node.
    pub node: NodeId,
    /// From where.
    pub from: PoolName,
    /// Where to.
    pub to: PoolName,
    /// Why, for people.
    pub why: String,
}

impl Repool {
    /// The node as it is then.
    #[must_use]
    pub fn of(&self, node: &Node, now: Timestamp) -> Node {
        // Where it joined stays known.
        let home_pool = Some(node.home().clone());
        Node { pool: self.to.clone(), pool_since: Some(now), home_pool, ..node.clone() }
    }
}

/// Whether something on a node may not run in a pool.
fn has_strangers(cluster: &Cluster, node: NodeId, pool: &PoolName) -> bool {
    let mut there = cluster.allocations_on(node).filter(|row| row.intent != Intent::Remove);
    there.any(|row| !may_use(&row.spec, pool))
}

/// The nodes that go to another pool now.
///
/// One that a rule has never moved, or not within `hold`, goes as soon as a rule holds of it; one that a rule took in
/// goes when its facts have said otherwise for `hold`. So an attribute that comes and goes moves a node once in `hold`.
pub fn moves(cluster: &Cluster, since: &mut Since, hold: Duration, now: Timestamp) -> Vec<Repool> {
    since.0.retain(|node, _| cluster.nodes.contains_key(node));
    let mut under_way = cluster
        .nodes
        .values()
        .filter(|node| {
            node.pool_since.is_some_and(|at| now < at + UNDER_WAY)
                && has_strangers(cluster, node.id, &node.pool)
        })
        .count();
    let mut moves = Vec::new();
    for node in cluster.nodes.values() {
        let place = belongs(cluster, node);
        let away = node.presence.state != PresenceState::Connected;
        if *place.pool == node.pool || away || bound(cluster, node).is_some() {
            since.0.remove(&node.id);
            continue;
        }
        let known = since.0.get(&node.id).filter(|(to, _)| to == place.pool).map(|(_, at)| *at);
        let begun = known.unwrap_or(now);
        since.0.insert(node.id, (place.pool.clone(), begun));
        let taken_in = node.pool != *node.home();
        let long_enough = !taken_in || now >= begun + hold;
        let rested = node.pool_since.is_none_or(|at| now >= at + hold);
        if !long_enough || !rested || moves.len() >= MOST {
            continue;
        }
        if has_strangers(cluster, node.id, place.pool) {
            if under_way >= AT_ONCE {
                continue;
            }
            under_way += 1;
        }
        since.0.remove(&node.id);
        let (from, to) = (node.pool.clone(), place.pool.clone());
        moves.push(Repool { node: node.id, from, to, why: place.why() });
    }
    moves
}

/// What becomes of a node when a pool is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The node.
    pub node: NodeId,
    /// Whether the pool's rule holds of it.
    pub matches: bool,
    /// The pool that it is in.
    pub from: PoolName,
    /// The pool in which it ends.
    pub to: PoolName,
    /// Why it belongs where it belongs.
    pub why: String,
    /// Why it stays although it belongs elsewhere.
    pub stays: Option<String>,
}

/// What a pool as it would be does: the nodes that its rule takes, or that are in it or leave it, and what of the
/// replicas on nodes that change their pool has to move.
pub fn preview(
    cluster: &Cluster,
    pool: Pool,
    policy: &Policy,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> (Vec<Change>, Vec<Move>) {
    let name = pool.name.clone();
    let mut after = cluster.clone();
    let revision = cluster.pools.get(&name).map_or(0, |row| row.revision);
    after.pools.insert(name.clone(), Row { revision, value: Arc::new(pool.clone()) });
    let (mut changes, mut nodes) = (Vec::new(), after.nodes.clone());
    for node in cluster.nodes.values().filter(|node| node.approval == Approval::Approved) {
        let (place, matches) = (belongs(&after, node), admits(&pool, node));
        let stays = if *place.pool == node.pool { None } else { bound(&after, node) };
        let to = if stays.is_some() { node.pool.clone() } else { place.pool.clone() };
        if !matches && node.pool != name && *place.pool != name {
            continue;
        }
        if to != node.pool {
            let moved = Node { pool: to.clone(), ..(*node.value).clone() };
            nodes.insert(node.id, Row { revision: node.revision, value: Arc::new(moved) });
        }
        changes.push(Change { node: node.id, matches, from: node.pool.clone(), to, why: place.why(), stays });
    }
    after.nodes = nodes;
    (changes, forecast::repooled(cluster, after, policy, now, random))
}

/// What becomes of a node when it is changed: its pool, and why it stays where it is although it belongs elsewhere; and
/// what of the replicas there has to move.
pub fn preview_node(
    cluster: &Cluster,
    node: Node,
    policy: &Policy,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> (PoolName, Option<String>, Vec<Move>) {
    let mut after = cluster.clone();
    let revision = cluster.nodes.get(&node.id).map_or(0, |row| row.revision);
    let place = belongs(cluster, &node).pool.clone();
    let stays = (place != node.pool).then(|| bound(cluster, &node)).flatten();
    let to = if stays.is_some() { node.pool.clone() } else { place };
    let node = Node { pool: to.clone(), ..node };
    after.nodes.insert(node.id, Row { revision, value: Arc::new(node) });
    (to, stays, forecast::repooled(cluster, after, policy, now, random))
}
