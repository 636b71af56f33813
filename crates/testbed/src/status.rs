//! What a testbed looks like now.

use lattice_testbed::{Faults, Node, Power, Server, Testbed, TestbedError};
use serde::Serialize;
use std::{collections::BTreeMap, thread};

/// One machine.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    address: Option<String>,
    power: Power,
    /// dockerd's, of a node.
    engine: Option<bool>,
    /// The agent's, or the server's.
    program: bool,
    /// Running containers, of a node whose engine answers.
    containers: Option<usize>,
    /// MiB used and there are, of a node that is on.
    disk: Option<(u64, u64)>,
    faults: Option<Faults>,
    /// What the server says of a node.
    approval: Option<String>,
    /// The same.
    presence: Option<String>,
}

/// Looks at everything, side by side.
pub(crate) fn look(bed: &Testbed) -> Result<Vec<Row>, TestbedError> {
    let answers = bed.server().machine().power() == Power::On && bed.server().is_running();
    let cluster = if answers { bed.cluster().unwrap_or_default() } else { Vec::new() };
    let cluster: BTreeMap<_, _> = cluster.into_iter().map(|(name, a, p)| (name, (a, p))).collect();
    let mut rows = vec![server_row(bed.server())];
    thread::scope(|scope| {
        let looking = bed.nodes().iter().map(|node| {
            let cluster = &cluster;
            scope.spawn(move || node_row(node, cluster.get(node.name())))
        });
        let looking: Vec<_> = looking.collect();
        for handle in looking {
            match handle.join() {
                Ok(row) => rows.push(row),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    Ok(rows)
}

fn server_row(server: &Server) -> Row {
    Row {
        name: "server".into(),
        address: None,
        power: server.machine().power(),
        engine: None,
        program: server.is_running(),
        containers: None,
        disk: None,
        faults: None,
        approval: None,
        presence: None,
    }
}

fn node_row(node: &Node, known: Option<&(String, String)>) -> Row {
    let power = node.power();
    let engine = node.engine().is_running();
    let containers = (power == Power::On && engine).then(|| node.engine().docker(&["ps", "--quiet"]).ok());
    let containers =
        containers.flatten().filter(|said| said.code == 0).map(|said| said.stdout.lines().count());
    Row {
        name: node.name().to_owned(),
        address: Some(node.address().to_string()),
        power,
        engine: Some(engine),
        program: node.agent_is_running(),
        containers,
        disk: node.disk_usage().ok(),
        faults: Some(node.faults()),
        approval: known.map(|(approval, _)| approval.clone()),
        presence: known.map(|(_, presence)| presence.clone()),
    }
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        ["MACHINE", "ADDRESS", "POWER", "DOCKERD", "AGENT", "CONTAINERS", "DISK", "FAULTS", "SERVER SAYS"]
            .map(str::to_owned),
    ];
    let runs = |yes: bool| if yes { "runs" } else { "down" }.to_owned();
    let none = || "-".to_owned();
    for row in rows {
        let Row { name, address, power, engine, program, containers, disk, faults, approval, presence } = row;
        let power = match power {
            Power::Off => "off",
            Power::On => "on",
            Power::Frozen => "frozen",
        };
        let says = match (approval.as_deref(), presence) {
            (Some("approved"), Some(presence)) => presence.clone(),
            (Some(approval), _) => approval.to_owned(),
            _ => none(),
        };
        let server = engine.is_none();
        lines.push([
            name.clone(),
            address.clone().unwrap_or_else(|| if server { "10.77.0.1".into() } else { none() }),
            power.to_owned(),
            engine.map_or_else(none, runs),
            if server { format!("server {}", runs(*program)) } else { runs(*program) },
            containers.map_or_else(none, |count| count.to_string()),
            disk.map_or_else(none, |(used, size)| format!("{used}/{size} MiB")),
            faults.as_ref().map_or_else(none, ToString::to_string),
            says,
        ]);
    }
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 9]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
