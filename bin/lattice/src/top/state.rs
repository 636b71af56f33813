//! What the screen of `top` shows and what a key does to it: no terminal, no network, no clock.

use crate::resolve;
use lattice_api::{AlertView, AllocationView, EventView, NodeView, Status, WorkloadState, WorkloadView};
use lattice_model::{
    AllocationId, NodeId, WorkloadKey,
    alert::Severity,
    health::{ConditionKind, Level},
    resource::{Approval, PresenceState},
};
use std::collections::{BTreeMap, VecDeque};

/// How many looks back a node's load is drawn.
pub(crate) const HISTORY: usize = 120;
/// How many lines of logs are kept; the oldest go.
pub(crate) const LINES: usize = 5_000;
/// How many replicas are followed at once.
pub(crate) const FOLLOWED: usize = 16;

/// What the server said at one time.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) status: Status,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) workloads: Vec<WorkloadView>,
    /// What fires.
    pub(crate) alerts: Vec<AlertView>,
    /// The newest last.
    pub(crate) events: Vec<EventView>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    #[default]
    Nodes,
    Services,
    Attention,
    Events,
    Logs,
}

impl Tab {
    pub(crate) const ALL: [Self; 5] =
        [Self::Nodes, Self::Services, Self::Attention, Self::Events, Self::Logs];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Nodes => "Nodes",
            Self::Services => "Services",
            Self::Attention => "Attention",
            Self::Events => "Events",
            Self::Logs => "Logs",
        }
    }

    /// The one `by` places further, round and round.
    fn next(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// By what nodes and services are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// What needs a look first, then by name.
    #[default]
    Trouble,
    Name,
    /// The busiest first.
    Load,
}

impl Order {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Trouble => "trouble first",
            Self::Name => "by name",
            Self::Load => "busiest first",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Name,
            Self::Name => Self::Load,
            Self::Load => Self::Trouble,
        }
    }
}

/// A key, as far as it means anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    /// Ctrl-C.
    Interrupt,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Quit,
    /// Follow what these replicas write, each under its name; nobody else any more.
    Follow(Vec<(AllocationId, String)>),
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) bad: bool,
    pub(crate) subject: String,
    pub(crate) text: String,
}

/// One line of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) who: String,
    pub(crate) text: String,
    pub(crate) stderr: bool,
}

/// Everything that is drawn.
#[derive(Debug, Default)]
pub(crate) struct Top {
    pub(crate) look: Option<Look>,
    /// Why the last look failed; what was seen before is still shown, as old.
    pub(crate) error: Option<String>,
    pub(crate) tab: Tab,
    pub(crate) order: Order,
    pub(crate) filter: String,
    pub(crate) typing: bool,
    pub(crate) help: bool,
    /// Whether the chosen node's or service's details are open.
    pub(crate) details: bool,
    pub(crate) lines: VecDeque<Line>,
    /// Whose logs are followed.
    pub(crate) following: Option<String>,
    /// The chosen row of each tab; in the logs, how many lines above the end.
    chosen: [usize; 5],
    /// Shares of the processors in use, in thousandths, the newest last.
    loads: BTreeMap<NodeId, VecDeque<u64>>,
}

impl Top {
    /// Takes in what the server said.
    pub(crate) fn see(&mut self, look: Look) {
        for node in &look.nodes {
            let load = self.loads.entry(node.id).or_default();
            load.push_back((cpu_share(node).unwrap_or(0.0) * 1000.0) as u64);
            while load.len() > HISTORY {
                load.pop_front();
            }
        }
        self.loads.retain(|id, _| look.nodes.iter().any(|node| node.id == *id));
        self.look = Some(look);
        self.error = None;
        self.keep_inside();
    }

    /// The server could not be asked.
    pub(crate) fn failed(&mut self, error: String) {
        self.error = Some(error);
    }

    /// A container wrote something.
    pub(crate) fn wrote(&mut self, line: Line) {
        let above = &mut self.chosen[Tab::Logs as usize];
        // Who reads further up goes on seeing the same lines.
        if *above > 0 && *above < LINES {
            *above += 1;
        }
        self.lines.push_back(line);
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
        self.keep_inside();
    }

    /// The chosen row of the tab that is open.
    pub(crate) fn row(&self) -> usize {
        self.chosen[self.tab as usize]
    }

    pub(crate) fn load_of(&self, node: NodeId) -> Vec<u64> {
        self.loads.get(&node).map(|load| load.iter().copied().collect()).unwrap_or_default()
    }

    /// Nodes as they are listed.
    pub(crate) fn nodes(&self) -> Vec<&NodeView> {
        let Some(look) = &self.look else { return Vec::new() };
        let mut nodes: Vec<_> = look
            .nodes
            .iter()
            .filter(|node| !matches!(node.approval, Approval::Rejected | Approval::Revoked))
            .filter(|node| self.matches(&[node.name.as_str(), node.pool.as_str(), node.owner.as_str()]))
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        match self.order {
            Order::Trouble => nodes.sort_by_key(|node| !in_trouble(node)),
            Order::Name => {}
            Order::Load => {
                nodes.sort_by(|a, b| cpu_share(b).unwrap_or(-1.0).total_cmp(&cpu_share(a).unwrap_or(-1.0)))
            }
        }
        nodes
    }

    /// Services as they are listed.
    pub(crate) fn services(&self) -> Vec<&WorkloadView> {
        let Some(look) = &self.look else { return Vec::new() };
        let mut services: Vec<_> = look
            .workloads
            .iter()
            .filter(|w| self.matches(&[w.name.as_str(), w.stack.as_str(), w.project.as_str()]))
            .collect();
        services.sort_by_cached_key(|w| resolve::workload_key(w));
        match self.order {
            Order::Trouble => services.sort_by_key(|w| !is_wrong(w.state)),
            Order::Name => {}
            Order::Load => services.sort_by_key(|w| std::cmp::Reverse(w.serving)),
        }
        services
    }

    /// What happened, the newest first.
    pub(crate) fn events(&self) -> Vec<&EventView> {
        let events = self.look.iter().flat_map(|look| look.events.iter().rev());
        events.filter(|e| self.matches(&[&e.kind, &e.subject, &e.message])).collect()
    }

    /// What a person should look at, the worst first.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let Some(look) = &self.look else { return Vec::new() };
        let mut notices: Vec<_> = notices(look)
            .into_iter()
            .filter(|notice| self.matches(&[&notice.subject, &notice.text]))
            .collect();
        notices.sort_by_key(|notice| !notice.bad);
        notices
    }

    /// Lines of logs that the filter lets through, the oldest first.
    pub(crate) fn shown_lines(&self) -> Vec<&Line> {
        self.lines.iter().filter(|line| self.matches(&[&line.who, &line.text])).collect()
    }

    fn matches(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    fn count(&self) -> usize {
        match self.tab {
            Tab::Nodes => self.nodes().len(),
            Tab::Services => self.services().len(),
            Tab::Attention => self.notices().len(),
            Tab::Events => self.events().len(),
            Tab::Logs => self.shown_lines().len(),
        }
    }

    fn keep_inside(&mut self) {
        let most = self.count().saturating_sub(1);
        let row = &mut self.chosen[self.tab as usize];
        *row = (*row).min(most);
    }

    /// What a key does; `page` is how many rows the screen has for the list.
    pub(crate) fn press(&mut self, key: Key, page: usize) -> Option<Ask> {
        if key == Key::Interrupt {
            return Some(Ask::Quit);
        }
        if self.typing {
            self.type_filter(key);
            self.keep_inside();
            return None;
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key {
            Key::Char('q') => return Some(Ask::Quit),
            Key::Escape if self.details => self.details = false,
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Escape => return Some(Ask::Quit),
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('/') => self.typing = true,
            Key::Char('s') => self.order = self.order.next(),
            Key::Tab => self.open(self.tab.next(1)),
            Key::BackTab => self.open(self.tab.next(Tab::ALL.len() - 1)),
            Key::Char(digit @ '1'..='5') => self.open(Tab::ALL[digit as usize - '1' as usize]),
            Key::Char('l') => return self.follow(),
            Key::Enter if matches!(self.tab, Tab::Nodes | Tab::Services) => self.details = !self.details,
            key => self.go(key, page.max(1)),
        }
        self.keep_inside();
        None
    }

    fn open(&mut self, tab: Tab) {
        self.tab = tab;
        self.details = false;
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.chars().count() < 64 => self.filter.push(c),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.typing = false,
            Key::Escape => (self.typing, self.filter) = (false, String::new()),
            _ => {}
        }
    }

    /// Moves the choice. Logs are read from their end, so there up is further from it.
    fn go(&mut self, key: Key, page: usize) {
        let (up, down) = match key {
            Key::Up | Key::Char('k') => (1, 0),
            Key::Down | Key::Char('j') => (0, 1),
            Key::PageUp => (page, 0),
            Key::PageDown => (0, page),
            Key::Home | Key::Char('g') => (usize::MAX, 0),
            Key::End | Key::Char('G') => (0, usize::MAX),
            _ => return,
        };
        let (less, more) = if self.tab == Tab::Logs { (down, up) } else { (up, down) };
        let row = &mut self.chosen[self.tab as usize];
        *row = row.saturating_sub(less).saturating_add(more);
    }

    /// Follows the chosen service, or what runs on the chosen node.
    fn follow(&mut self) -> Option<Ask> {
        let (name, replicas): (String, Vec<&AllocationView>) = match self.tab {
            Tab::Services => {
                let chosen = *self.services().get(self.row())?;
                (format!("{}/{}", chosen.stack, chosen.name), chosen.allocations.iter().collect())
            }
            Tab::Nodes => {
                let chosen = *self.nodes().get(self.row())?;
                (chosen.name.to_string(), self.on(chosen.id))
            }
            _ => return None,
        };
        let running = replicas.into_iter().filter(|a| !a.is_going() && !a.is_lost()).take(FOLLOWED);
        let followed = running.map(|a| (a.id, resolve::allocation_name(a))).collect();
        self.following = Some(name);
        self.lines.clear();
        self.chosen[Tab::Logs as usize] = 0;
        self.open(Tab::Logs);
        Some(Ask::Follow(followed))
    }

    /// What is placed on a node.
    pub(crate) fn on(&self, node: NodeId) -> Vec<&AllocationView> {
        let all = self.look.iter().flat_map(|look| &look.workloads).flat_map(|w| &w.allocations);
        all.filter(|a| a.node_id == node).collect()
    }

    /// The name under which a service is known.
    pub(crate) fn key_of(service: &WorkloadView) -> WorkloadKey {
        resolve::workload_key(service)
    }
}

/// The part of its processors that a node uses; absent while nobody knows.
pub(crate) fn cpu_share(node: &NodeView) -> Option<f64> {
    let cores = f64::from(node.facts.cpus.max(1));
    Some((f64::from(node.load.as_ref()?.cpu.0) / 1000.0 / cores).clamp(0.0, 1.0))
}

/// The part of its memory that a node uses; absent while nobody knows.
pub(crate) fn memory_share(node: &NodeView) -> Option<f64> {
    let most = node.facts.memory.0.max(1);
    Some((node.load.as_ref()?.memory.0 as f64 / most as f64).clamp(0.0, 1.0))
}

fn in_trouble(node: &NodeView) -> bool {
    let present = matches!(node.presence.state, PresenceState::Connected | PresenceState::New);
    let ill = node.conditions.iter().any(|condition| condition.level >= Level::Warning);
    node.approval != Approval::Approved || !present || ill
}

const fn is_wrong(state: WorkloadState) -> bool {
    matches!(
        state,
        WorkloadState::Failed | WorkloadState::Degraded | WorkloadState::Pending | WorkloadState::Unknown
    )
}

/// The built-in rule that tells of a condition.
const fn rule_of(kind: ConditionKind) -> Option<&'static str> {
    match kind {
        ConditionKind::Docker => Some("node_engine"),
        ConditionKind::Cpu => Some("node_cpu"),
        ConditionKind::Memory => Some("node_memory"),
        ConditionKind::Disk => Some("node_disk"),
        ConditionKind::Temperature => Some("node_temperature"),
        ConditionKind::Clock => Some("node_clock"),
        ConditionKind::DiskErrors | ConditionKind::Network | ConditionKind::Gpu => None,
    }
}

fn notices(look: &Look) -> Vec<Notice> {
    let notice = |bad, subject: &str, text: String| Notice { bad, subject: subject.to_owned(), text };
    let alerts = look.alerts.iter().filter(|alert| alert.hushed_by.is_none());
    let mut notices: Vec<_> = alerts
        .map(|a| {
            notice(a.severity == Severity::Critical, &a.subject.name, format!("{}: {}", a.summary, a.hint))
        })
        .collect();
    // An alert comes after a while and says what to do; until then what is so is told here.
    let told = |node: &NodeView, rules: &[&str]| {
        let id = node.id.to_string();
        look.alerts.iter().any(|alert| alert.subject.id == id && rules.contains(&alert.rule.as_str()))
    };
    notices.extend(look.status.warnings.iter().map(|text| notice(false, "server", text.clone())));
    notices.extend(look.status.planner.warnings.iter().map(|text| notice(false, "planner", text.clone())));
    if let Some(error) = &look.status.backup.error {
        notices.push(notice(true, "backup", format!("the last one failed: {error}")));
    } else if look.status.backup.overdue {
        notices.push(notice(true, "backup", "the last one is too old".into()));
    }
    for node in &look.nodes {
        let name = node.name.as_str();
        match (node.approval, node.presence.state) {
            (Approval::Pending, _) => {
                notices.push(notice(false, name, "asks to join: `lattice node approve`".into()));
            }
            (Approval::Quarantined, _) => notices.push(notice(
                true,
                name,
                node.clone_warning.clone().unwrap_or_else(|| "set apart: two machines use its key".into()),
            )),
            (Approval::Approved, PresenceState::Lost) if !told(node, &["node_lost"]) => {
                notices.push(notice(true, name, "lost: its work was placed elsewhere".into()));
            }
            (Approval::Approved, PresenceState::Disconnected)
                if !told(node, &["node_lost", "node_disconnected"]) =>
            {
                notices.push(notice(true, name, "the link is down".into()));
            }
            _ => {}
        }
        if node.presence.state == PresenceState::Connected {
            let ill = node.conditions.iter().filter(|c| c.level >= Level::Warning);
            let ill = ill.filter(|c| !rule_of(c.kind).is_some_and(|rule| told(node, &[rule])));
            notices.extend(
                ill.map(|c| notice(c.level == Level::Bad, name, format!("{}: {}", c.kind, c.message))),
            );
        }
    }
    for service in look.workloads.iter().filter(|w| is_wrong(w.state)) {
        let name = resolve::workload_key(service).to_string();
        let why = service.reason().unwrap_or_else(|| "see `lattice explain`".into());
        let bad = service.state == WorkloadState::Failed;
        notices.push(notice(bad, &name, format!("{}: {why}", service.state)));
    }
    notices
}
