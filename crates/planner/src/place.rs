//! Fills slots: picks a node, sends the old one away as its order says, and creates the new one.

use crate::{
    ask::Ask,
    cluster::Row,
    home::{Home, is_connected, may_be_sent_away, must_leave, no_fit, no_node, wanted},
    plan::{Placement, Step},
    planning::Planning,
    slots::{has_ended, is_current, moves_start_first, world_of},
};
use lattice_model::{
    AllocationId, NodeId,
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Intent, Superseded, Volume, Workload},
};
use lattice_scheduler::Refusal;
use std::{collections::BTreeMap, sync::Arc};

/// How the new one and the old one of a slot follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// There is no old one.
    Fill,
    /// The old one goes first.
    StopFirst,
    /// The old one goes when the new one serves.
    StartFirst,
    /// The old one goes at once, and nobody waits.
    Now,
    /// The old one is on a node that is lost.
    Lost,
}

/// A slot to be filled.
#[derive(Clone, Debug)]
pub(crate) struct Vacancy {
    pub(crate) slot: u32,
    pub(crate) old: Option<Row<Allocation>>,
    pub(crate) how: How,
    /// Why the old one cannot stay where it is, where that is the only reason.
    pub(crate) moves: Option<String>,
    /// The node of a workload that runs once on each.
    pub(crate) node: Option<NodeId>,
    /// Those of the slot that are on their way out.
    pub(crate) leaving: Vec<Row<Allocation>>,
}

pub(crate) fn place(planning: &mut Planning<'_>, workload: &Workload, vacancies: Vec<Vacancy>, home: &Home) {
    let mut refused: BTreeMap<(String, &'static str), Vec<u32>> = BTreeMap::new();
    for vacancy in vacancies {
        let found = match home {
            Home::Pinned(node, why) => pinned(planning, workload, &vacancy, *node, why),
            Home::Each => each(planning, workload, &vacancy),
            Home::Free => anywhere(planning, workload, &vacancy),
            Home::Away { why, hint } | Home::Blocked { why, hint } | Home::Full { why, hint } => {
                Err((why.clone(), *hint))
            }
        };
        match (found, &vacancy.old, &vacancy.moves) {
            (Ok(site), ..) => {
                if let Some(wait) = fill(planning, workload, &vacancy, &site) {
                    let hint = "the order of its updates is stop-first; start-first has no gap";
                    refused.entry((wait, hint)).or_default().push(vacancy.slot);
                }
            }
            (Err((why, _)), Some(old), Some(moves)) if vacancy.how != How::Lost => {
                planning.stays(old, format!("{moves}, but {why}"));
            }
            (Err((why, hint)), Some(old), _) if vacancy.how == How::Lost => {
                let why = format!("{}, and {why}", planning.gone(old.node));
                refused.entry((why, hint)).or_default().push(vacancy.slot);
            }
            (Err(why), ..) => refused.entry(why).or_default().push(vacancy.slot),
        }
    }
    for ((why, hint), slots) in refused {
        planning.pending(&workload.key, slots, why, hint);
    }
}

/// Where a replica goes.
#[derive(Clone)]
struct Site {
    node: NodeId,
    why: String,
    /// The one that is sent away for it and has to be gone before.
    evicts: Option<AllocationId>,
    /// All that are sent away for it.
    victims: Vec<Row<Allocation>>,
}

impl Site {
    fn at(node: NodeId, why: impl Into<String>) -> Self {
        Self { node, why: why.into(), evicts: None, victims: Vec::new() }
    }
}

type Found = Result<Site, (String, &'static str)>;

/// The one of the slot that has gone, or stopped, by the time the new one starts.
fn makes_room(vacancy: &Vacancy) -> Option<AllocationId> {
    let old = vacancy.old.as_ref()?;
    (vacancy.how != How::StartFirst).then_some(old.id)
}

/// On the one node where it has to be.
fn pinned(
    planning: &mut Planning<'_>,
    workload: &Workload,
    vacancy: &Vacancy,
    node: NodeId,
    why: &str,
) -> Found {
    let Err(reason) = admit(planning, workload, node, vacancy) else { return Ok(Site::at(node, why)) };
    let ask = planning.ledger().ask(workload).only_on(node);
    make_way(planning, &ask, &[workload], Some(vacancy)).ok_or_else(|| {
        let why = format!("{why}, but that node cannot hold it: {reason}");
        (why, "free the node, wait for it to come back, or ask for less")
    })
}

/// On a node that is its own.
fn each(planning: &Planning<'_>, workload: &Workload, vacancy: &Vacancy) -> Found {
    let node = vacancy.node.or(vacancy.old.as_ref().map(|old| old.node));
    let Some(node) = node else { return Err(("no node takes it".into(), no_node())) };
    match admit(planning, workload, node, vacancy) {
        Ok(()) => Ok(Site::at(node, "it runs once on each node that takes it")),
        Err(reason) => Err((
            format!("{} cannot hold it: {reason}", planning.name(node)),
            "free the node, or ask for less",
        )),
    }
}

/// Where it is, if that is possible; else on the best node.
fn anywhere(planning: &mut Planning<'_>, workload: &Workload, vacancy: &Vacancy) -> Found {
    if let Some(old) = &vacancy.old
        && vacancy.moves.is_none()
        && vacancy.how != How::Lost
        && must_leave(planning, workload, old.node).is_none()
        && admit(planning, workload, old.node, vacancy).is_ok()
    {
        return Ok(Site::at(old.node, "where its predecessor is"));
    }
    let ask = planning.ledger().ask(workload);
    // Whoever gave it up gets it back by itself, when it has room and in its own time.
    let gave_up = vacancy.old.as_ref().filter(|old| old.status.displaced).map(|old| old.node);
    let accepts = |node: NodeId| match gave_up {
        Some(other) if other == node => Err(Refusal::GaveUp),
        _ => Ok(()),
    };
    match planning.find(&ask, makes_room(vacancy), &accepts) {
        Ok(found) => Ok(Site::at(found.placed.node, found.account.to_string())),
        Err(account) => make_way(planning, &ask, &[workload], Some(vacancy))
            .ok_or_else(|| no_fit(&workload.spec.pool, &account)),
    }
}

/// A node for a group for which none has room, when those of lower priority have made way: for all of it, failing that
/// for one replica of each.
pub(crate) fn clear(planning: &mut Planning<'_>, group: &[&Workload]) -> Option<Home> {
    let wanted: Vec<&Workload> = wanted(group).collect();
    let clear = |planning: &mut Planning<'_>, replicas: &dyn Fn(&Workload) -> u32| {
        let ask = planning.ledger().group(&wanted, replicas);
        // The scheduler knows of one container's GPUs alone.
        if ask.gpus.is_none() { make_way(planning, &ask, &wanted, None) } else { None }
    };
    let at_least = |w: &Workload| if w.spec.is_gang() { w.replicas } else { 1 };
    // What still runs elsewhere would be waited for, and others would take the place meanwhile.
    let runs = |row: &Row<Allocation>| is_connected(&planning.cluster, row.node) && !has_ended(row);
    if group.iter().any(|w| planning.cluster.allocations_of(&w.key).any(runs)) {
        return None;
    }
    let site = clear(planning, &|w| w.replicas).or_else(|| clear(planning, &at_least))?;
    evict(planning, &site);
    Some(Home::Pinned(site.node, site.why))
}

/// A place that is free when those of lower priority are sent away, as few as will do. The one who fills a vacancy may
/// wait for one container alone: for its predecessor's where that is on the node, else for the one that makes way, which
/// may have its GPU or its port.
fn make_way(
    planning: &mut Planning<'_>,
    ask: &Ask,
    of: &[&Workload],
    vacancy: Option<&Vacancy>,
) -> Option<Site> {
    let eviction = planning.ledger().make_way(ask)?;
    let rows: Vec<Row<Allocation>> =
        eviction.victims.iter().filter_map(|id| planning.cluster.allocations().get(id).cloned()).collect();
    // An earlier version goes as its own rollout says, and what this plan has just placed would come and go.
    let goes = |row: &Row<Allocation>| {
        !of.iter().any(|one| one.key == row.workload)
            && planning.base.allocations().contains_key(&row.id)
            && may_be_sent_away(&planning.cluster, row)
    };
    if rows.is_empty() || !rows.iter().all(goes) {
        return None;
    }
    let own = vacancy.and_then(|vacancy| predecessor_on(vacancy, eviction.node));
    let evicts = match (vacancy, own, rows.as_slice()) {
        (Some(_), None, [one]) => Some(one.id),
        _ => None,
    };
    // Room is free at once; GPUs and ports only when a container is gone.
    let waits = ask.need.gpus.is_some() || !ask.need.ports.is_empty();
    if waits && !fits_without(planning, ask, &rows, own.or(evicts), eviction.node) {
        return None;
    }
    let why = format!("{} of lower priority made way for it", named(&rows));
    Some(Site { node: eviction.node, why, evicts, victims: rows })
}

/// The one of the slot on a node whose end is waited for anyway.
fn predecessor_on(vacancy: &Vacancy, node: NodeId) -> Option<AllocationId> {
    let old = vacancy.old.as_ref().filter(|_| vacancy.how != How::StartFirst);
    old.into_iter().chain(&vacancy.leaving).find(|row| row.node == node).map(|row| row.id)
}

/// Sends away whom a site needs to be free of. Not before its place is taken: whoever is still waited for takes nobody's.
fn evict(planning: &mut Planning<'_>, site: &Site) {
    for row in &site.victims {
        let why = "it makes way for work of higher priority".to_owned();
        planning.update_because(row, Some(why), |a| a.intent = Intent::Remove);
    }
}

/// `shop/web#1, shop/web#2 and 3 more`.
fn named(rows: &[Row<Allocation>]) -> String {
    const MOST: usize = 3;
    let name =
        |row: &Row<Allocation>| format!("{}/{}#{}", row.workload.stack, row.workload.workload, row.slot);
    let names = rows.iter().take(MOST).map(name).collect::<Vec<_>>().join(", ");
    match rows.len().saturating_sub(MOST) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// Whether an ask fits on a node when these are on their way out and the one of them that it waits for is gone.
fn fits_without(
    planning: &mut Planning<'_>,
    ask: &Ask,
    rows: &[Row<Allocation>],
    evicts: Option<AllocationId>,
    node: NodeId,
) -> bool {
    let before = planning.cluster.clone();
    for row in rows {
        let mut gone = (*row.value).clone();
        gone.intent = Intent::Remove;
        planning.cluster.put_allocation(Row { revision: row.revision, value: Arc::new(gone) });
    }
    let fits = planning.admit(ask, evicts, node).is_ok();
    planning.cluster = before;
    fits
}

/// Whether one more replica fits on a node, beside what is there and without what makes room.
fn admit(
    planning: &Planning<'_>,
    workload: &Workload,
    home: NodeId,
    vacancy: &Vacancy,
) -> Result<(), String> {
    if !planning.cluster.nodes.contains_key(&home) {
        return Err("it has left the cluster".into());
    }
    let ask = planning.ledger().ask(workload);
    planning.admit(&ask, makes_room(vacancy), home).map(|_| ()).map_err(|refusal| refusal.to_string())
}

/// Creates the new one; or says for whom it waits.
fn fill(planning: &mut Planning<'_>, workload: &Workload, vacancy: &Vacancy, site: &Site) -> Option<String> {
    let Vacancy { slot, old, how, moves, node: _, leaving } = vacancy;
    let (node, mut why) = (site.node, site.why.clone());
    if let Some(old) = old {
        let elsewhere = old.node != node;
        let cause = match (how, moves) {
            (How::Lost, _) => planning.gone(old.node).replacen(" is ", ", where it was, is ", 1),
            (_, Some(moves)) => moves.clone(),
            _ => "a newer version takes its place".into(),
        };
        if elsewhere {
            why = format!("{why}; {cause}");
        }
        match how {
            How::Lost if is_current(workload, old) => {
                planning.update_because(old, Some(cause), |a| a.superseded = Some(Superseded::Lost));
            }
            How::StartFirst => {
                planning.update_because(old, Some(cause), |a| a.superseded = Some(Superseded::Handover));
            }
            How::StopFirst if elsewhere && is_connected(&planning.cluster, old.node) => {
                planning.update_because(old, Some(cause), |a| a.intent = Intent::Remove);
                return Some(format!(
                    "it waits until its predecessor on {} has stopped",
                    planning.name(old.node)
                ));
            }
            How::Fill | How::StopFirst | How::Now | How::Lost => {
                planning.update_because(old, Some(cause), |a| a.intent = Intent::Remove);
            }
        }
    }
    // One that left for another node is waited for too, unless both may serve together.
    if *how == How::Fill
        && !moves_start_first(workload)
        && let Some(other) =
            leaving.iter().find(|row| row.node != node && is_connected(&planning.cluster, row.node))
    {
        return Some(format!("it waits until its predecessor on {} has stopped", planning.name(other.node)));
    }
    evict(planning, site);
    create(planning, workload, *slot, &Site { why, ..site.clone() }, old.as_ref());
    None
}

fn create(
    planning: &mut Planning<'_>,
    workload: &Workload,
    slot: u32,
    site: &Site,
    old: Option<&Row<Allocation>>,
) {
    let Site { node, why, evicts, victims: _ } = site;
    let node = *node;
    claim_volumes(planning, workload, node);
    if let Some(row) = planning.base.workloads().get(&workload.key) {
        let relied = (workload.key.clone(), row.revision);
        if planning.plan.relies_on.last() != Some(&relied) {
            planning.plan.relies_on.push(relied);
        }
    }
    // The container that an allocation replaces holds its ports and volumes until it is gone; so
    // does one of the same slot that was sent away before and is not gone yet.
    let going = |row: &Row<Allocation>| row.slot == slot && row.node == node && row.intent == Intent::Remove;
    let replaced = old
        .and_then(|old| planning.cluster.allocations().get(&old.id))
        .filter(|old| going(old))
        .map(|old| old.id);
    let leaving = planning.cluster.allocations_of(&workload.key).find(|row| going(row));
    let replaces = evicts.or(replaced).or(leaving.map(|row| row.id));
    let gpus = own_gpus(planning, workload, node, replaces);
    let allocation = Allocation {
        id: AllocationId::from_random((planning.random)()),
        workload: workload.key.clone(),
        slot,
        node,
        generation: workload.generation,
        spec: Arc::clone(&workload.spec),
        intent: match workload.desired {
            DesiredState::Run => Intent::Run,
            DesiredState::Stop | DesiredState::Hold => Intent::Stop,
        },
        restart: workload.restart,
        due: workload.timetable.as_ref().and_then(|table| table.under_way()?.due),
        gpus,
        world: world_of(workload),
        replaces,
        status: AllocationStatus::new(AllocationState::Assigned),
        superseded: None,
        serving_since: None,
        placed_at: planning.now,
        explanation: why.clone(),
    };
    planning.report.placed.push(Placement { workload: workload.key.clone(), slot, node, why: why.clone() });
    planning.cluster.put_allocation(Row { revision: 0, value: Arc::new(allocation.clone()) });
    planning.plan.steps.push(Step::Create(Box::new(allocation)));
}

/// The GPUs that a replica gets on the node that was picked for it, which has them.
fn own_gpus(
    planning: &Planning<'_>,
    workload: &Workload,
    node: NodeId,
    replaces: Option<AllocationId>,
) -> Vec<String> {
    if workload.spec.gpus.is_none() {
        return Vec::new();
    }
    let ask = planning.ledger().ask(workload);
    planning.admit(&ask, replaces, node).unwrap_or_default()
}

/// A volume without a node, or whose node left before it was created there, gets this one.
fn claim_volumes(planning: &mut Planning<'_>, workload: &Workload, node: NodeId) {
    for mount in &workload.spec.mounts {
        let key = workload.key.stack_key().volume(mount.volume.clone());
        let Some(row) = planning.cluster.volumes.get(&key).cloned() else { continue };
        if row.node == Some(node) || row.exists {
            continue;
        }
        let volume = Volume { node: Some(node), epoch: row.epoch + 1, ..(*row.value).clone() };
        let value = Arc::new(volume.clone());
        planning.cluster.volumes.insert(key, Row { revision: row.revision, value });
        planning.plan.steps.push(Step::Claim { expected: row.revision, volume: Box::new(volume) });
    }
}
