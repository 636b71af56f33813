//! The leaderboard, and a node's place on it.

use super::{extract::Query, guard::object_of_node, principal::Principal};
use crate::{
    clock,
    controllers::ranking::{self, Standing},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{
    BadgeView, List, MeasuredGpu, MeasuredView, PromisesView, RankClass, RankMark, RankPart, RankView,
    RankedNode, RankingQuery,
};
use lattice_identity::Permission;
use lattice_model::resource::{Approval, Node};
use lattice_ranking::{Board, Class, Figures, PartKind, REFERENCE, REFERENCE_GPU, Runs};
use std::sync::Arc;

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(RankingQuery { class }): Query<RankingQuery>,
) -> Json<List<RankedNode>> {
    let snapshot = core.snapshot();
    let board = ranking::board(&core, &snapshot);
    let rows = board.entries().iter().filter_map(|entry| snapshot.cluster.nodes.get(&entry.node));
    let seen = rows.filter(|row| who.may(Permission::NodeLook, &object_of_node(row)));
    let ranked = seen.filter_map(|row| {
        let rank = of(&snapshot, &board, row)?;
        Some(RankedNode { id: row.id, name: row.name.clone(), owner: row.owner.clone(), rank })
    });
    let items = ranked.filter(|ranked| class.is_none_or(|class| ranked.rank.class == class)).collect();
    Json(List { items, revision: snapshot.revision })
}

/// How good a node is; nothing of one that does not belong to the cluster.
pub(crate) fn of(snapshot: &Snapshot, board: &Board, node: &Node) -> Option<RankView> {
    if node.approval != Approval::Approved {
        return None;
    }
    let place = board.place(node.id)?;
    let Standing { history, runs, weight, weight_gpu, class, score } =
        ranking::standing(snapshot, node, clock::now());
    let earned = history.map(|history| history.badges()).unwrap_or_default().iter();
    let mut badges: Vec<BadgeView> = earned
        .map(|earned| BadgeView {
            badge: earned.badge.as_str().into(),
            rule: earned.badge.rule().into(),
            at: Some(earned.at),
        })
        .collect();
    if place.fastest {
        let rule = "measured to be the fastest of its class, now";
        badges.push(BadgeView { badge: ranking::FASTEST.into(), rule: rule.into(), at: None });
    }
    let part = |part: &lattice_ranking::Part| RankPart {
        part: part.kind.as_str().into(),
        points: part.points.round() as u16,
        most: part.most as u16,
        why: part.why.clone(),
    };
    let mark =
        |mark: &lattice_ranking::Mark| RankMark { mark: mark.as_str().into(), why: mark.in_words().into() };
    let promises = history.map_or_else(PromisesView::default, |history| PromisesView {
        since: Some(history.first_seen()),
        kept_hours: history.kept(),
        broken_hours: history.broken(),
        worked_hours: history.worked(),
        failed_hours: history.failed(),
        streak_days: history.streak(),
        best_streak_days: history.best_streak(),
    });
    Some(RankView {
        points: score.points,
        parts: score.parts.iter().map(part).collect(),
        class: view(class),
        class_place: place.in_class,
        class_size: place.class_size,
        place: place.overall,
        size: place.size,
        probation: score.probation,
        marks: score.marks.iter().map(mark).collect(),
        badges,
        promises,
        measured: measured(&runs),
        placement: weight,
        placement_gpu: score.parts.iter().any(|part| part.kind == PartKind::Gpu).then_some(weight_gpu),
    })
}

fn view(class: Class) -> RankClass {
    match class {
        Class::Laptop => RankClass::Laptop,
        Class::Desktop => RankClass::Desktop,
        Class::Server => RankClass::Server,
        Class::Gpu => RankClass::Gpu,
    }
}

fn measured(runs: &Runs) -> Option<MeasuredView> {
    let (newest, figures) = (runs.newest()?, runs.figures()?);
    let hundredths = |n: f64| (n * 100.0).round() / 100.0;
    let Figures { cpu_one, cpu_all, memory, block, disk_write, disk_read, disk_sync, round_trip_us, up, gpu } =
        figures;
    Some(MeasuredView {
        at: newest.at,
        runs: runs.total(),
        speed: hundredths(figures.speed()),
        cpu_one: hundredths(cpu_one / REFERENCE.cpu_one),
        cpu_all: hundredths(cpu_all / REFERENCE.cpu_all),
        cores: hundredths(figures.cores()),
        memory_bytes: block as u64,
        memory_rate: memory as u64,
        disk_write_rate: disk_write as u64,
        disk_read_rate: disk_read as u64,
        disk_syncs: hundredths(disk_sync),
        round_trip_us: round_trip_us as u64,
        up_rate: (up > 0.0).then_some(up as u64),
        gpu: figures.gpu_speed().zip(gpu).map(|(speed, gpu)| MeasuredGpu {
            speed: hundredths(speed),
            compute: hundredths(gpu.compute / REFERENCE_GPU.compute),
            memory_rate: gpu.memory as u64,
        }),
    })
}
