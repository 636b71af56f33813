//! How things of the API look in a cell or a line.

use crate::table::{Cell, Style, cut};
use jiff::tz::TimeZone;
use lattice_api::{AllocationView, NodeView, WorkloadState};
use lattice_model::{
    Binding, StandingState, Timestamp,
    health::{Level, worst},
    report::{AllocationState, Health},
    resource::{Approval, Eligibility, PresenceState},
};

/// The most characters of a reason in a table.
const MAX_REASON: usize = 72;

/// How long ago: `3m12s`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let span = now.since(at);
    // Below a second nobody counts.
    if span.0 < 1000 { "0s".into() } else { span.to_string() }
}

/// When, in a time zone: `2026-11-23 10:00:00`.
pub(crate) fn time(at: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(instant) => instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// Roles with their places, a comma between.
pub(crate) fn roles(roles: &[Binding]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `127.0.0.1:8080->80/tcp`, several with blanks between.
pub(crate) fn ports(view: &AllocationView) -> String {
    let port = |p: &lattice_model::report::PublishedPort| {
        let host = std::net::SocketAddr::new(p.host_ip, p.host_port);
        format!("{host}->{}/{}", p.target.port, p.target.protocol.as_str())
    };
    view.status.ports.iter().map(port).collect::<Vec<_>>().join(" ")
}

/// State, health, and the reason where it is not as it should be.
pub(crate) fn state(view: &AllocationView) -> Cell {
    let status = &view.status;
    let health = match status.health {
        Health::None => "",
        Health::Starting => " (health: starting)",
        Health::Healthy => " (healthy)",
        Health::Unhealthy => " (unhealthy)",
    };
    let health = if status.state == AllocationState::Running { health } else { "" };
    let mut text = format!("{}{health}", status.state);
    let ended = matches!(status.state, AllocationState::Completed | AllocationState::Failed);
    if let (true, Some(code)) = (ended || status.state == AllocationState::BackingOff, status.exit_code) {
        text.push_str(&format!(" ({code})"));
    }
    if view.is_lost() {
        text = "lost".into();
    } else if view.is_going() {
        text.push_str(", going");
    } else if view.is_kept() {
        text.push_str(", kept to go back to");
    } else if view.superseded.is_some() {
        text.push_str(", making way");
    }
    let (good, bad) = (view.is_serving() || status.state == AllocationState::Completed, status.state);
    if let (false, Some(reason)) = (good, &status.reason) {
        text.push_str(": ");
        text.push_str(&cut(reason, MAX_REASON));
    }
    let style = match bad {
        _ if good => Style::Good,
        AllocationState::Failed | AllocationState::BackingOff => Style::Bad,
        AllocationState::Stopped => Style::Dim,
        AllocationState::Running if status.health == Health::Unhealthy => Style::Bad,
        _ => Style::Warn,
    };
    Cell::new(text, style)
}

/// A workload's state.
pub(crate) fn workload_style(state: WorkloadState) -> Style {
    match state {
        WorkloadState::Running | WorkloadState::Completed | WorkloadState::Scheduled => Style::Good,
        WorkloadState::Failed | WorkloadState::Degraded => Style::Bad,
        WorkloadState::Stopped => Style::Dim,
        WorkloadState::Progressing | WorkloadState::Pending | WorkloadState::Unknown => Style::Warn,
    }
}

/// What a node is, in one word or two.
pub(crate) fn node_state(node: &NodeView) -> Cell {
    let still = match (node.standing.state, node.presence.state) {
        (StandingState::Working, _) | (_, PresenceState::New | PresenceState::Unknown) => None,
        // Once it is connected again, it says itself what it does.
        (state @ (StandingState::Asleep | StandingState::Away), _) => Some((state.as_str(), Style::Dim)),
        (_, PresenceState::Disconnected | PresenceState::Lost) => None,
        (state, PresenceState::Connected) => Some((state.as_str(), Style::Warn)),
    };
    let presence = match node.presence.state {
        PresenceState::New => ("never connected", Style::Warn),
        PresenceState::Connected => ("connected", Style::Good),
        PresenceState::Disconnected => ("disconnected", Style::Bad),
        PresenceState::Lost => ("lost", Style::Bad),
        PresenceState::Unknown => ("unknown", Style::Warn),
    };
    let presence = still.unwrap_or(presence);
    let (text, style) = match node.approval {
        Approval::Pending => ("pending approval", Style::Warn),
        Approval::Approved => presence,
        Approval::Rejected => ("rejected", Style::Dim),
        Approval::Revoked => ("revoked", Style::Dim),
        Approval::Quarantined => ("quarantined", Style::Bad),
    };
    let more = match node.eligibility {
        Eligibility::Eligible => "",
        Eligibility::Cordoned => ", cordoned",
        Eligibility::Draining if node.drain.as_ref().is_some_and(lattice_api::DrainView::is_done) => {
            ", drained"
        }
        Eligibility::Draining => ", draining",
        Eligibility::Outdated => ", outdated",
    };
    Cell::new(format!("{text}{more}"), style)
}

/// How a machine is, in a word or two: the worst of its conditions.
pub(crate) fn health(node: &NodeView) -> Cell {
    // What was said before the link was cut may not be so any more.
    let heard = node.presence.state == PresenceState::Connected;
    match worst(&node.conditions) {
        Some(worst) if heard => match worst.level {
            Level::Good => Cell::new("good", Style::Good),
            Level::Unknown => Cell::new(format!("{} unknown", worst.kind), Style::Warn),
            Level::Warning => Cell::new(format!("{} {}", worst.kind, worst.reason), Style::Warn),
            Level::Bad => Cell::new(format!("{} {}", worst.kind, worst.reason), Style::Bad),
        },
        _ => Cell::new("-", Style::Dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::allocation;
    use lattice_model::{
        report::PublishedPort,
        resource::Intent,
        spec::{ContainerPort, Protocol},
    };

    #[test]
    fn an_allocation_in_a_table() {
        let mut view = allocation("default/shop/web", 1, 1, Intent::Run);
        assert_eq!(state(&view), Cell::new("running", Style::Good));
        view.status.health = Health::Starting;
        assert_eq!(state(&view), Cell::new("running (health: starting)", Style::Warn));
        view.status.state = AllocationState::BackingOff;
        view.status.exit_code = Some(1);
        view.status.reason = Some("x".repeat(200));
        let text = format!("backing_off (1): {}…", "x".repeat(MAX_REASON - 1));
        assert_eq!(state(&view), Cell::new(text, Style::Bad));
        view.status.ports = vec![
            PublishedPort {
                target: ContainerPort { port: 80, protocol: Protocol::Tcp },
                host_ip: [127, 0, 0, 1].into(),
                host_port: 32768,
            },
            PublishedPort {
                target: ContainerPort { port: 53, protocol: Protocol::Udp },
                host_ip: std::net::Ipv6Addr::LOCALHOST.into(),
                host_port: 53,
            },
        ];
        assert_eq!(ports(&view), "127.0.0.1:32768->80/tcp [::1]:53->53/udp");
    }

    #[test]
    fn times() {
        assert_eq!(time(Timestamp(1_700_000_000_000), &TimeZone::UTC), "2023-11-14 22:13:20");
        assert_eq!(age(Timestamp(1000), Timestamp(1500)), "0s");
        assert_eq!(age(Timestamp(0), Timestamp(192_000)), "3m12s");
        assert_eq!(age(Timestamp(10), Timestamp(0)), "0s");
    }
}
