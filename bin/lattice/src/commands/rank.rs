//! `node rank`, and what `node show` says about it.

use crate::{
    args::{HardwareClass, RankArgs},
    context::Context,
    show,
    table::{Cell, Style, Table},
};
use lattice_api::{MeasuredView, RankClass, RankView, RankingQuery, paths};
use lattice_model::{Bytes, Timestamp};

/// `lattice node rank`.
pub(crate) async fn run(ctx: &Context, args: RankArgs) -> anyhow::Result<()> {
    let class = args.class.map(|class| match class {
        HardwareClass::Laptop => RankClass::Laptop,
        HardwareClass::Desktop => RankClass::Desktop,
        HardwareClass::Server => RankClass::Server,
        HardwareClass::Gpu => RankClass::Gpu,
    });
    let query = RankingQuery { class };
    if ctx.is_json() {
        return ctx.list_json(&paths::ranking(), &query).await;
    }
    let mut table = Table::new(&[
        "PLACE", "NAME", "OWNER", "CLASS", "IN CLASS", "POINTS", "KEPT", "SPEED", "STREAK", "BADGES",
    ]);
    for node in ctx.client.ranking(&query).await?.items {
        let rank = &node.rank;
        let promised = rank.promises.kept_hours + rank.promises.broken_hours;
        let kept = match promised {
            0 => "-".to_owned(),
            all => format!("{:.1}%", rank.promises.kept_hours as f64 * 100.0 / all as f64),
        };
        table.row([
            rank.place.to_string().into(),
            node.name.as_str().into(),
            node.owner.as_str().into(),
            rank.class.as_str().into(),
            format!("{}/{}", rank.class_place, rank.class_size).into(),
            points(rank),
            kept.into(),
            rank.measured.map_or_else(|| "-".to_owned(), |measured| format!("{:.2}", measured.speed)).into(),
            format!("{}d", rank.promises.streak_days).into(),
            badges(rank).into(),
        ]);
    }
    ctx.table(&table, "There is no node yet; `lattice token create` makes a token with which one can join.")
}

fn points(rank: &RankView) -> Cell {
    match (rank.marks.is_empty(), &rank.probation) {
        (false, _) => Cell::new(format!("{} (marked)", rank.points), Style::Bad),
        (true, Some(_)) => Cell::new(format!("{} (new)", rank.points), Style::Dim),
        (true, None) => rank.points.to_string().into(),
    }
}

fn badges(rank: &RankView) -> String {
    if rank.badges.is_empty() {
        return "-".into();
    }
    rank.badges.iter().map(|badge| badge.badge.as_str()).collect::<Vec<_>>().join(" ")
}

/// How good a node is, a line each.
pub(crate) fn describe(rank: &RankView, now: Timestamp, line: &mut impl FnMut(&str, String)) {
    line(
        "rank",
        format!(
            "{} of 1000 points; {} of {} among {}s, {} of {} in all",
            rank.points,
            rank.class_place,
            rank.class_size,
            rank.class.as_str(),
            rank.place,
            rank.size
        ),
    );
    for part in &rank.parts {
        line("points", format!("{} of {} for {}: {}", part.points, part.most, part.part, part.why));
    }
    line("on probation", rank.probation.clone().unwrap_or_default());
    for mark in &rank.marks {
        line("MARKED", mark.why.clone());
    }
    for badge in &rank.badges {
        line("badge", format!("{} ({})", badge.badge, badge.rule));
    }
    if rank.promises.best_streak_days > 0 {
        let promises = rank.promises;
        line(
            "streak",
            format!("{} days kept in a row, {} at best", promises.streak_days, promises.best_streak_days),
        );
    }
    if let Some(measured) = rank.measured {
        line("measured", shown(&measured, now));
    }
}

fn shown(measured: &MeasuredView, now: Timestamp) -> String {
    let rate = |bytes: u64| format!("{}/s", Bytes(bytes));
    format!(
        "{} ago: {:.1} cores; memory {}; disk {} written, {} read, {:.0} small pieces kept a second",
        show::age(measured.at, now),
        measured.cores,
        rate(measured.memory_rate),
        rate(measured.disk_write_rate),
        rate(measured.disk_read_rate),
        measured.disk_syncs,
    ) + &measured
        .gpu
        .map(|gpu| format!("; GPU {:.2}, its memory {}", gpu.speed, rate(gpu.memory_rate)))
        .unwrap_or_default()
}
