//! `node`.

use crate::{
    args::{ApproveArgs, DrainArgs, NodeCommand, NodeRmArgs},
    commands::{interrupted, pool, rank},
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    show,
    table::{Style, Table, clean},
    terminal::{self, note},
};
use lattice_api::{
    ApproveNode, DeleteNodeQuery, DrainFate, DrainMove, DrainNode, DrainResult, NodeChange, NodePreview,
    NodeReason, NodeView, OutlookView, VolumeQuery, paths,
};
use lattice_model::{
    StandingState, Timestamp,
    machine::{LanState, MachineFacts, NetworkFacts},
    resource::{Approval, PresenceState},
};
use std::{fmt::Write, process::ExitCode, time::Duration};

/// `lattice node …`.
pub(crate) async fn run(ctx: &Context, command: NodeCommand) -> anyhow::Result<ExitCode> {
    let client = &ctx.client;
    match command {
        NodeCommand::Ls if ctx.is_json() => ctx.list_json(&paths::nodes(), &()).await?,
        NodeCommand::Ls => list(ctx).await?,
        NodeCommand::Show(args) if ctx.is_json() => ctx.object_json(&paths::node(&args.node)).await?,
        NodeCommand::Show(args) => {
            let node = client.node(&args.node).await?;
            terminal::data(describe(ctx, &node).as_bytes())?;
        }
        NodeCommand::Rank(args) => rank::run(ctx, args).await?,
        NodeCommand::Approve(args) => return approve(ctx, args).await,
        NodeCommand::Reject(args) => {
            for node in &args.nodes {
                let view = client.reject_node(node, &NodeReason { reason: args.reason.clone() }).await?;
                note(&format!("{} is turned away", view.name));
            }
        }
        NodeCommand::Revoke(args) => {
            for node in &args.nodes {
                let view = client.revoke_node(node, &NodeReason { reason: args.reason.clone() }).await?;
                note(&format!(
                    "{} is thrown out; what it ran is placed elsewhere where its data allows",
                    view.name
                ));
            }
        }
        NodeCommand::Cordon(args) => {
            for node in &args.nodes {
                note(&format!("{} gets no new work", client.cordon_node(node).await?.name));
            }
        }
        NodeCommand::Uncordon(args) => {
            for node in &args.nodes {
                note(&format!("{} gets new work again", client.uncordon_node(node).await?.name));
            }
        }
        NodeCommand::Set(args) => {
            let labels = pool::labels(&args.label);
            let auto_pool = args.pool.as_ref().is_some_and(|pool| pool.as_str() == "auto");
            let pool = args.pool.clone().filter(|_| !auto_pool);
            let request = NodeChange { pool, auto_pool, labels, ..NodeChange::default() };
            if args.dry_run {
                return preview(ctx, &args.nodes, &request).await;
            }
            for node in &args.nodes {
                let view = client.change_node(node, &request).await?;
                note(&format!("{} is in pool {}", view.name, view.pool));
            }
        }
        NodeCommand::Taint(args) => {
            let (taint, untaint) = pool::taints(args.taints);
            let request = NodeChange { taint, untaint, ..NodeChange::default() };
            if args.dry_run {
                return preview(ctx, &[args.node], &request).await;
            }
            let view = client.change_node(&args.node, &request).await?;
            if ctx.is_json() {
                ctx.json(&view)?;
            } else {
                note(&format!("{} has {}", view.name, pool::tainted(&view.taints)));
            }
        }
        NodeCommand::Drain(args) => return drain(ctx, args).await,
        NodeCommand::Rm(args) => remove(ctx, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what a change of nodes would do.
async fn preview(ctx: &Context, nodes: &[String], request: &NodeChange) -> anyhow::Result<ExitCode> {
    let mut previews = Vec::new();
    for node in nodes {
        previews.push(ctx.client.preview_node(node, request).await?);
    }
    if ctx.is_json() {
        ctx.json(&previews)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for NodePreview { node, from, to, stays, moves } in &previews {
        match (stays, from == to) {
            (Some(why), _) => writeln!(text, "{node} would stay in pool {to}: {}", clean(why))?,
            (None, true) => writeln!(text, "{node} would stay in pool {to}")?,
            (None, false) => writeln!(text, "{node} would go from pool {from} to {to}")?,
        }
        if moves.is_empty() {
            writeln!(text, "  nothing would have to move")?;
        }
        for one in moves {
            writeln!(text, "  {}", fate(ctx, one))?;
        }
    }
    terminal::data(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Between two looks at a node that is emptied.
const LOOK: Duration = Duration::from_millis(300);

async fn drain(ctx: &Context, args: DrainArgs) -> anyhow::Result<ExitCode> {
    let request = DrainNode { deadline_ms: args.deadline.map(|span| span.0), dry_run: args.dry_run };
    let mut results = Vec::new();
    for node in &args.nodes {
        let result = ctx.client.drain_node(node, &request).await?;
        if !ctx.is_json() {
            terminal::data(moves(ctx, &result)?.as_bytes())?;
        }
        results.push(result);
    }
    let mut code = ExitCode::SUCCESS;
    if args.wait && !args.dry_run {
        let emptied = async {
            for result in &mut results {
                emptied(ctx, &mut result.node).await?;
            }
            anyhow::Ok(())
        };
        code = tokio::select! {
            result = tokio::time::timeout(args.timeout.as_std(), emptied) => match result {
                Ok(result) => result.map(|()| ExitCode::SUCCESS)?,
                Err(_) => ExitCode::from(FAILED),
            },
            () = interrupted() => ExitCode::from(INTERRUPTED),
        };
        for result in &results {
            note(&progress(&result.node));
        }
    }
    if ctx.is_json() {
        ctx.json(&results)?;
    }
    Ok(code)
}

/// Waits until all has moved that can.
async fn emptied(ctx: &Context, node: &mut NodeView) -> anyhow::Result<()> {
    let id = node.id.to_string();
    let mut said = String::new();
    while node.drain.as_ref().is_some_and(|drain| !drain.is_done()) {
        let text = progress(node);
        if text != said {
            note(&text);
            said = text;
        }
        tokio::time::sleep(LOOK).await;
        match ctx.client.node(&id).await {
            Ok(view) => *node = view,
            Err(error) if super::events::is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How far emptying a node has come, in a sentence or two.
fn progress(node: &NodeView) -> String {
    let Some(drain) = &node.drain else { return format!("{} is not emptied any more", node.name) };
    let mut text = match drain.moving {
        0 => format!("{}: all has moved that can", node.name),
        1 => format!("{}: 1 replica still has to move", node.name),
        n => format!("{}: {n} replicas still have to move", node.name),
    };
    for stay in &drain.staying {
        let word = if stay.for_good { "stays" } else { "waits" };
        text.push_str(&format!(
            "\n  {}/{}#{} {word}: {}",
            stay.stack,
            stay.workload,
            stay.slot,
            clean(&stay.why)
        ));
    }
    text
}

/// What a machine can do, a line each.
fn machine(facts: &MachineFacts, line: &mut impl FnMut(&str, String)) {
    let MachineFacts {
        cores,
        cpu_features,
        disks,
        virtualization,
        engine,
        gpus,
        network,
        battery,
        region,
        site,
        labels,
        lan,
        bandwidth,
    } = facts;
    let words = |words: &std::collections::BTreeSet<String>| {
        words.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    if *cores > 0 {
        line("cores", format!("{cores}, with {}", words(cpu_features)));
    }
    line("runs in", virtualization.clone());
    for disk in disks {
        line("disk", disk.to_string());
    }
    if !engine.runtimes.is_empty() {
        let rootless = if engine.rootless { ", without root" } else { "" };
        line(
            "runtimes",
            format!("{} ({} unless said){rootless}", words(&engine.runtimes), engine.default_runtime),
        );
    }
    for gpu in gpus {
        line("gpu", gpu.to_string());
    }
    if let Some(NetworkFacts { round_trip_us, down, up, metered, at: _ }) = network {
        let speed = |name: &str, speed: &Option<lattice_model::Bytes>| {
            speed.map_or_else(String::new, |speed| format!(", {speed}/s {name}"))
        };
        let metered = if *metered { ", metered" } else { "" };
        let trip = *round_trip_us as f64 / 1000.0;
        line(
            "network",
            format!("{trip:.1} ms there and back{}{}{metered}", speed("down", down), speed("up", up)),
        );
    }
    line("lan", if *lan == LanState::Unknown { String::new() } else { lan.as_str().to_owned() });
    line("lent network", if bandwidth.is_unlimited() { String::new() } else { bandwidth.to_string() });
    line("power", if *battery { "has a battery".into() } else { String::new() });
    line("region", region.clone().unwrap_or_default());
    line("site", site.clone().unwrap_or_default());
    for (name, value) in labels {
        line("owner's label", format!("{name}={value}"));
    }
}

/// What becomes of each replica, a line each.
fn moves(ctx: &Context, result: &DrainResult) -> anyhow::Result<String> {
    let mut text = String::new();
    let name = &result.node.name;
    if result.moves.is_empty() {
        writeln!(text, "{name}: nothing runs there")?;
        return Ok(text);
    }
    let would = if result.dry_run { "would be emptied" } else { "is emptied" };
    writeln!(text, "{name} {would}:")?;
    for one in &result.moves {
        writeln!(text, "  {}", fate(ctx, one))?;
    }
    Ok(text)
}

/// What becomes of a replica.
pub(crate) fn fate(ctx: &Context, one: &DrainMove) -> String {
    let (style, what) = match (one.fate, &one.to) {
        (DrainFate::Moves, Some(to)) => (Style::Good, format!("moves to {to}")),
        (DrainFate::Moves, None) => (Style::Good, "moves".into()),
        (DrainFate::Goes, _) => (Style::Dim, "goes".into()),
        (DrainFate::Stays, _) => (Style::Warn, "stays".into()),
        (DrainFate::Waits, _) => (Style::Bad, "waits".into()),
    };
    let what = style.paint(&what, ctx.colour);
    format!("{}/{}#{} {what}: {}", one.stack, one.workload, one.slot, clean(&one.why))
}

async fn remove(ctx: &Context, args: NodeRmArgs) -> anyhow::Result<()> {
    for text in &args.nodes {
        let mut query = DeleteNodeQuery::default();
        let mut name = text.clone();
        if args.lose_volumes {
            let node = ctx.client.node(text).await?;
            let volumes = ctx.client.volumes(&VolumeQuery::default()).await?.items;
            let there = volumes.iter().filter(|volume| volume.node.as_ref() == Some(&node.name));
            let there: Vec<_> = there.map(|v| format!("{}/{}/{}", v.project, v.stack, v.name)).collect();
            if !there.is_empty() && !args.yes {
                note(&format!("This gives up the data of {} for ever.", there.join(", ")));
                let answer = terminal::ask(&format!("Type the node's name ({}) to go on: ", node.name))?;
                if answer != node.name.as_str() {
                    return Err(CliError::Failed(format!(
                        "{answer:?} is not {}; nothing was removed",
                        node.name
                    ))
                    .into());
                }
            }
            query.lose_volumes = Some(node.name.to_string());
            name = node.name.to_string();
        }
        ctx.client.delete_node(text, &query).await?;
        note(&format!("{name} is forgotten; what it ran is placed elsewhere where its data allows"));
    }
    Ok(())
}

async fn list(ctx: &Context) -> anyhow::Result<()> {
    let now = ctx.now();
    let mut table = Table::new(&[
        "NAME", "ID", "STATE", "FOR", "HEALTH", "POOL", "OWNER", "CPU", "MEMORY", "RUNS", "TAINTS", "AGENT",
    ]);
    let nodes = ctx.client.nodes().await?.items;
    let pending = nodes.iter().filter(|node| node.approval == Approval::Pending).count();
    for node in nodes {
        let since = if node.approval == Approval::Pending { node.joined_at } else { node.presence.since };
        table.row([
            node.name.as_str().into(),
            node.id.short().into(),
            show::node_state(&node),
            show::age(since, now).into(),
            show::health(&node),
            node.pool.as_str().into(),
            node.owner.as_str().into(),
            format!("{}/{}", node.reserved.cpu, node.capacity.cpu).into(),
            format!("{}/{}", node.reserved.memory, node.capacity.memory).into(),
            node.allocations.to_string().into(),
            node.taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into(),
            node.facts.agent_version.into(),
        ]);
    }
    ctx.table(&table, "There is no node yet; `lattice token create` makes a token with which one can join.")?;
    if pending > 0 {
        note(&format!(
            "{pending} wait for a decision: `lattice node approve NAME` shows what it can rest on."
        ));
    }
    Ok(())
}

/// All that is known of a node, a line each.
fn describe(ctx: &Context, node: &NodeView) -> String {
    let now = ctx.now();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14} {}", clean(&value));
        }
    };
    line("name", node.name.to_string());
    line("id", node.id.to_string());
    line("owner", node.owner.to_string());
    let fixed = if node.pool_fixed { ", by hand" } else { "" };
    line("pool", format!("{}{fixed}", node.pool));
    if !node.pool_fixed {
        line("", format!("joined in {}; {}", node.home_pool, node.pool_why));
    }
    line("stays", node.pool_stays.clone().unwrap_or_default());
    line("fingerprint", evidence(&node.evidence.key_fingerprint));
    line("address", node.evidence.address.clone());
    line("token", node.evidence.token_id.map(|id| id.to_string()).unwrap_or_default());
    line(
        "asked to join",
        format!("{} ({} ago)", show::time(node.joined_at, &ctx.zone), show::age(node.joined_at, now)),
    );
    line("approval", format!("{:?}", node.approval).to_lowercase());
    line("reason", node.reason.clone().unwrap_or_default());
    line("eligibility", format!("{:?}", node.eligibility).to_lowercase());
    if let Some(drain) = &node.drain {
        let deadline = drain.deadline.map(|at| format!(", in a hurry from {}", show::time(at, &ctx.zone)));
        line(
            "emptied",
            format!("since {}{}", show::time(drain.since, &ctx.zone), deadline.unwrap_or_default()),
        );
        for part in progress(node).lines().map(str::trim) {
            line("drain", part.to_owned());
        }
    }
    let presence = format!("{:?}", node.presence.state).to_lowercase();
    line("link", format!("{presence} for {}", show::age(node.presence.since, now)));
    let standing = &node.standing;
    if standing.state != StandingState::Working {
        line("does", format!("{} for {}", standing.in_words(), show::age(standing.since, now)));
        line("because", standing.why.clone().unwrap_or_default());
    }
    if let Some(until) = standing.until {
        let what = if standing.takes_work() { "works until" } else { "expected" };
        line(what, show::time(until, &ctx.zone));
    }
    if let Some(at) = node.certificate_expires_at {
        line("certificate", format!("until {}", show::time(at, &ctx.zone)));
    }
    let (facts, capacity) = (&node.facts, &node.capacity);
    line("host", facts.hostname.clone());
    line("system", format!("{} ({}, {}), kernel {}", facts.os_version, facts.os, facts.arch, facts.kernel));
    line("processor", format!("{} × {}", facts.cpus, facts.cpu_model));
    line("installed", format!("{} memory", facts.memory));
    line(
        "engine",
        if facts.engine_version.is_empty() { "none".into() } else { facts.engine_version.clone() },
    );
    line("agent", facts.agent_version.clone());
    line("lends", format!("{} cores, {} memory, {} disk", capacity.cpu, capacity.memory, capacity.disk));
    let reserved = &node.reserved;
    let mut set_aside = format!("{} cores, {} memory", reserved.cpu, reserved.memory);
    if reserved.disk.0 > 0 {
        set_aside += &format!(", {} disk", reserved.disk);
    }
    if reserved.bandwidth.0 > 0 {
        set_aside += &format!(", {} each way", reserved.bandwidth);
    }
    line("set aside", format!("{set_aside} for {} allocations", node.allocations));
    if let Some(load) = &node.load {
        let free = load.disk_free;
        line(
            "in use",
            format!(
                "{} cores, {} memory; {free} disk free; {} containers",
                load.cpu, load.memory, load.containers
            ),
        );
    }
    machine(&facts.machine, &mut line);
    if let Some((outlook, since)) = node.outlook.and_then(|outlook| Some((outlook, outlook.since?))) {
        line("stays", stays(outlook, since, now));
    }
    if let Some(rank) = &node.rank {
        rank::describe(rank, now, &mut line);
    }
    for (name, value) in &node.labels {
        line("label", format!("{name}={value}"));
    }
    let heard = node.presence.state == PresenceState::Connected;
    for taint in &node.taints {
        line("taint", taint.to_string());
    }
    let last = if heard { "" } else { " (last heard)" };
    for one in &node.conditions {
        line("health", format!("{one}, for {}{last}", show::age(one.since, now)));
    }
    line("WARNING", node.clone_warning.clone().unwrap_or_default());
    text
}

/// `for an hour with 97 %, for 8 hours with 81 %, for a day with 40 % (there for 3h; left 12 times in 30d)`.
fn stays(outlook: OutlookView, since: Timestamp, now: Timestamp) -> String {
    let OutlookView { since: _, hour, eight_hours, day, seen_hours, departures } = outlook;
    let known = match (seen_hours, departures) {
        (..24, _) => "seen for less than a day, so judged by others".to_owned(),
        (hours, left) => {
            let seen = lattice_model::Duration::from_secs(u64::from(hours) * 3600);
            format!("left {left} times in {seen} that it was seen")
        }
    };
    format!(
        "for an hour with {hour} %, for 8 hours with {eight_hours} %, for a day with {day} % (there for {}; {known})",
        show::age(since, now)
    )
}

async fn approve(ctx: &Context, args: ApproveArgs) -> anyhow::Result<ExitCode> {
    if args.nodes.len() > 1 && (args.name.is_some() || args.fingerprint.is_some()) {
        return Err(CliError::Usage(
            "--name and --fingerprint are of one node; approve one at a time".into(),
        )
        .into());
    }
    let mut declined = false;
    for name in &args.nodes {
        let node = ctx.client.node(name).await?;
        if node.approval == Approval::Approved {
            note(&format!("{} belongs to the cluster already", node.name));
            continue;
        }
        // Who reads the fingerprint out has decided; so has who says --yes.
        if !args.yes && args.fingerprint.is_none() {
            terminal::note_raw(describe(ctx, &node).as_bytes());
            note(
                "\nOnly the fingerprint is proven; compare it with what `lattice-agent join` shows on that machine.",
            );
            if !terminal::confirm(&format!("Take {} into the cluster?", node.name))? {
                note(&format!(
                    "{} still waits; `lattice node reject {}` turns it away",
                    node.name, node.name
                ));
                declined = true;
                continue;
            }
        }
        let request = ApproveNode {
            name: args.name.clone(),
            pool: args.pool.clone(),
            // What was shown is what is approved, whatever happened in between.
            fingerprint: Some(args.fingerprint.clone().unwrap_or(node.evidence.key_fingerprint)),
        };
        let view = ctx.client.approve_node(&node.id.to_string(), &request).await?;
        note(&format!("{} belongs to the cluster now, in pool {}", view.name, view.pool));
    }
    Ok(if declined { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// A fingerprint as the joining machine shows it: its first 128 bits in groups of four digits.
fn evidence(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.chars().take(32).collect();
    digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
