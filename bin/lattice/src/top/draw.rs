//! Draws the state of `top`. Nothing here decides anything.

use super::state::{Look, Tab, Top, cpu_share, memory_share};
use crate::{
    resolve, show,
    table::{self, Cell as Text, clean},
};
use lattice_api::{NodeView, WorkloadView};
use lattice_model::Timestamp;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState, Tabs, Wrap},
};

/// Characters of a bar.
const BAR: usize = 8;
/// Below so many columns only what matters most is shown.
const NARROW: u16 = 100;

/// How the screen looks: what the frame does not know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) colour: bool,
    pub(crate) now: Timestamp,
}

impl Theme {
    /// A meaning as the terminal shows it; without colours what is wrong is bold and what is beside the point dim.
    fn style(self, meaning: table::Style) -> Style {
        let plain = Style::default();
        let colour = |colour| if self.colour { plain.fg(colour) } else { plain };
        match meaning {
            table::Style::Plain => plain,
            table::Style::Good => colour(Color::Green),
            table::Style::Warn => colour(Color::Yellow),
            table::Style::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
            table::Style::Dim => plain.add_modifier(Modifier::DIM),
        }
    }

    fn cell(self, text: &Text) -> Cell<'static> {
        Cell::from(text.text().to_owned()).style(self.style(text.style()))
    }
}

/// How many rows a list has on a screen of this height.
pub(crate) const fn page(height: u16) -> usize {
    height.saturating_sub(5) as usize
}

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, top: &Top, theme: Theme) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header(top, theme)), head);
    let troubles = top.notices().len();
    let titles = Tab::ALL.iter().enumerate().map(|(at, tab)| match tab {
        Tab::Attention if troubles > 0 => format!("{} {} ({troubles})", at + 1, tab.title()),
        _ => format!("{} {}", at + 1, tab.title()),
    });
    let chosen = Tab::ALL.iter().position(|tab| *tab == top.tab);
    let highlight = Style::default().add_modifier(Modifier::REVERSED);
    frame.render_widget(Tabs::new(titles).select(chosen).highlight_style(highlight), tabs);
    match (&top.look, top.tab) {
        (_, Tab::Logs) => logs(frame, body, top, theme),
        (None, _) => {
            let text = if top.error.is_some() { "" } else { "asking the server …" };
            frame.render_widget(Paragraph::new(text), body);
        }
        (Some(_), Tab::Nodes) => nodes(frame, body, top, theme),
        (Some(_), Tab::Services) => services(frame, body, top, theme),
        (Some(_), Tab::Attention) => attention(frame, body, top, theme),
        (Some(_), Tab::Events) => events(frame, body, top, theme),
    }
    frame.render_widget(Paragraph::new(footer(top)).style(theme.style(table::Style::Dim)), foot);
    if top.help {
        help(frame);
    }
}

fn header(top: &Top, theme: Theme) -> Line<'static> {
    if let Some(error) = &top.error {
        let text = format!("{} What is below is old.", clean(error));
        return Line::styled(text, theme.style(table::Style::Bad));
    }
    let Some(Look { status, workloads, .. }) = &top.look else { return Line::default() };
    let wanted: u32 = workloads.iter().map(|w| w.replicas).sum();
    let serving: u32 = workloads.iter().map(|w| w.serving).sum();
    let nodes = status.nodes;
    let away = nodes.disconnected + nodes.lost + nodes.unknown;
    let mut spans = vec![
        Span::styled(clean(&status.name), Style::default().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  nodes: {} connected", nodes.connected)),
    ];
    let mut say = |count: u32, what: &str, meaning| {
        if count > 0 {
            spans.push(Span::styled(format!(", {count} {what}"), theme.style(meaning)));
        }
    };
    say(away, "not", table::Style::Bad);
    say(nodes.suspended, "suspended", table::Style::Warn);
    say(nodes.away, "away", table::Style::Dim);
    say(nodes.pending, "ask to join", table::Style::Warn);
    say(nodes.quarantined, "set apart", table::Style::Bad);
    let meaning = if serving < wanted { table::Style::Warn } else { table::Style::Good };
    spans.push(Span::styled(format!("  {serving}/{wanted} replicas serve"), theme.style(meaning)));
    spans.push(Span::raw(format!("  up {}", show::age(status.started_at, theme.now))));
    Line::from(spans)
}

fn footer(top: &Top) -> String {
    if top.typing {
        return format!("filter: {}_   Enter keeps it, Esc drops it", top.filter);
    }
    let filter = if top.filter.is_empty() { String::new() } else { format!("filter: {}   ", top.filter) };
    let keys = match top.tab {
        Tab::Nodes => "Enter details  l logs  s sort  / filter  ? help  q quit",
        Tab::Services => "Enter replicas  l logs  s sort  / filter  ? help  q quit",
        Tab::Attention | Tab::Events => "/ filter  ? help  q quit",
        Tab::Logs => "up and down scroll  End follows  / filter  ? help  q quit",
    };
    let order = match top.tab {
        Tab::Nodes | Tab::Services => format!("{}   ", top.order.title()),
        _ => String::new(),
    };
    format!("{filter}{order}{keys}")
}

/// `####---- 45 %`, green below 70 %, red from 90 % on.
fn bar(share: Option<f64>, text: &str) -> Text {
    let Some(share) = share else { return Text::new("unknown", table::Style::Dim) };
    let filled = (share * BAR as f64).round() as usize;
    let style = match share {
        share if share >= 0.9 => table::Style::Bad,
        share if share >= 0.7 => table::Style::Warn,
        _ => table::Style::Good,
    };
    Text::new(format!("{}{} {text}", "█".repeat(filled), "░".repeat(BAR - filled)), style)
}

/// A column: its title, its width, and whether narrow screens have it.
type Column = (&'static str, Constraint, bool);

/// A list with the chosen row marked.
fn list(
    frame: &mut Frame<'_>,
    area: Rect,
    theme: Theme,
    columns: &[Column],
    rows: Vec<Vec<Text>>,
    chosen: Option<usize>,
) {
    let wide = area.width >= NARROW;
    let kept: Vec<usize> = (0..columns.len()).filter(|at| wide || columns[*at].2).collect();
    let header = Row::new(kept.iter().map(|at| columns[*at].0)).style(theme.style(table::Style::Dim));
    let rows = rows.into_iter().map(|cells| {
        Row::new(kept.iter().filter_map(|at| cells.get(*at)).map(|cell| theme.cell(cell)).collect::<Vec<_>>())
    });
    let table = Table::new(rows, kept.iter().map(|at| columns[*at].1))
        .header(header)
        .column_spacing(2)
        .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(chosen));
}

fn node_cells(node: &NodeView) -> Vec<Text> {
    let load = node.load.as_ref();
    vec![
        node.name.as_str().into(),
        show::node_state(node),
        show::health(node),
        bar(cpu_share(node), &load.map(|load| load.cpu.to_string()).unwrap_or_default()),
        bar(memory_share(node), &load.map(|load| load.memory.to_string()).unwrap_or_default()),
        load.map_or_else(|| "".into(), |load| load.disk_free.to_string().into()),
        format!("{} cpu, {}", node.reserved.cpu, node.reserved.memory).into(),
        node.allocations.to_string().into(),
        node.pool.as_str().into(),
    ]
}

fn nodes(frame: &mut Frame<'_>, area: Rect, top: &Top, theme: Theme) {
    let nodes = top.nodes();
    let chosen = nodes.get(top.row()).copied();
    let (area, below) = split(area, top.details && chosen.is_some());
    if nodes.is_empty() {
        let text = if top.filter.is_empty() {
            "No node yet. `lattice token create` makes a token, `lattice-agent join` uses it."
        } else {
            "No node matches the filter."
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let columns: [Column; 9] = [
        ("NODE", Constraint::Min(12), true),
        ("STATE", Constraint::Length(18), true),
        ("HEALTH", Constraint::Length(16), false),
        ("CPU", Constraint::Length(15), true),
        ("MEMORY", Constraint::Length(18), true),
        ("DISK FREE", Constraint::Length(9), false),
        ("RESERVED", Constraint::Length(18), false),
        ("RUNS", Constraint::Length(4), true),
        ("POOL", Constraint::Length(10), false),
    ];
    let rows = nodes.iter().map(|node| node_cells(node)).collect();
    list(frame, area, theme, &columns, rows, Some(top.row()));
    if let (Some(below), Some(node)) = (below, chosen) {
        node_details(frame, below, top, node, theme);
    }
}

/// The lower half for details, where they are open.
fn split(area: Rect, open: bool) -> (Rect, Option<Rect>) {
    if !open {
        return (area, None);
    }
    let [above, below] =
        Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    (above, Some(below))
}

fn framed(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn node_details(frame: &mut Frame<'_>, area: Rect, top: &Top, node: &NodeView, theme: Theme) {
    let block = framed(format!(" {} ", node.name));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [graph, text] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(inner);
    let load = top.load_of(node.id);
    // The newest at the right edge.
    let from = load.len().saturating_sub(usize::from(graph.width));
    let line = Sparkline::default().data(&load[from..]).max(1000).style(theme.style(table::Style::Good));
    frame.render_widget(line, graph);
    let facts = &node.facts;
    let mut lines = vec![Line::raw(format!(
        "{} {}, {} x {}, {}, agent {}, owner {}",
        clean(&facts.os_version),
        facts.arch,
        facts.cpus,
        clean(&facts.cpu_model),
        facts.memory,
        clean(&facts.agent_version),
        node.owner
    ))];
    let ill = node.conditions.iter().filter(|c| c.level != lattice_model::health::Level::Good);
    lines.extend(ill.map(|c| {
        let style = theme.style(table::Style::Warn);
        Line::styled(format!("{}: {}", c.kind, clean(&c.message)), style)
    }));
    lines.extend(top.on(node.id).into_iter().map(|a| {
        let state = show::state(a);
        Line::from(vec![
            Span::raw(format!("{}  ", resolve::allocation_name(a))),
            Span::styled(state.text().to_owned(), theme.style(state.style())),
        ])
    }));
    frame.render_widget(Paragraph::new(lines), text);
}

fn service_cells(service: &WorkloadView) -> Vec<Text> {
    let style = show::workload_style(service.state);
    vec![
        Text::from(Top::key_of(service).to_string()),
        Text::new(service.state.to_string(), style),
        format!("{}/{}", service.serving, service.replicas).into(),
        service.allocations.iter().map(|a| u64::from(a.status.restarts)).sum::<u64>().to_string().into(),
        service.spec.image.as_str().into(),
        service.reason().unwrap_or_default().into(),
    ]
}

fn services(frame: &mut Frame<'_>, area: Rect, top: &Top, theme: Theme) {
    let services = top.services();
    let chosen = services.get(top.row()).copied();
    let (area, below) = split(area, top.details && chosen.is_some());
    if services.is_empty() {
        let text = if top.filter.is_empty() {
            "Nothing is deployed. `lattice deploy` in a folder with a Compose file deploys it."
        } else {
            "No service matches the filter."
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let columns: [Column; 6] = [
        ("SERVICE", Constraint::Min(20), true),
        ("STATE", Constraint::Length(11), true),
        ("SERVE", Constraint::Length(7), true),
        ("RESTARTS", Constraint::Length(8), true),
        ("IMAGE", Constraint::Length(24), false),
        ("WHY", Constraint::Min(20), false),
    ];
    list(frame, area, theme, &columns, services.iter().map(|s| service_cells(s)).collect(), Some(top.row()));
    if let (Some(below), Some(service)) = (below, chosen) {
        let block = framed(format!(" {} ", Top::key_of(service)));
        let inner = block.inner(below);
        frame.render_widget(block, below);
        replicas(frame, inner, service, theme);
    }
}

fn replicas(frame: &mut Frame<'_>, area: Rect, service: &WorkloadView, theme: Theme) {
    let columns: [Column; 5] = [
        ("REPLICA", Constraint::Length(8), true),
        ("NODE", Constraint::Length(18), true),
        ("STATE", Constraint::Min(20), true),
        ("PORTS", Constraint::Length(28), false),
        ("FOR", Constraint::Length(10), true),
    ];
    let mut rows: Vec<Vec<Text>> = service
        .allocations
        .iter()
        .map(|a| {
            let since = a.status.started_at.unwrap_or(a.placed_at);
            vec![
                format!("#{}", a.slot).into(),
                a.node.as_str().into(),
                show::state(a),
                show::ports(a).into(),
                show::age(since, theme.now).into(),
            ]
        })
        .collect();
    rows.extend(service.stuck().map(|slot| {
        vec![
            format!("#{}", slot.slot).into(),
            "-".into(),
            Text::new(format!("pending: {}", slot.why), table::Style::Warn),
        ]
    }));
    list(frame, area, theme, &columns, rows, None);
}

fn attention(frame: &mut Frame<'_>, area: Rect, top: &Top, theme: Theme) {
    let notices = top.notices();
    if notices.is_empty() {
        let text = "Nothing needs a look: every node and every service is as it should be.";
        frame.render_widget(Paragraph::new(text).style(theme.style(table::Style::Good)), area);
        return;
    }
    let columns: [Column; 2] =
        [("WHAT", Constraint::Percentage(30), true), ("WHY", Constraint::Percentage(70), true)];
    let rows = notices
        .into_iter()
        .map(|notice| {
            let style = if notice.bad { table::Style::Bad } else { table::Style::Warn };
            vec![Text::new(notice.subject, style), notice.text.into()]
        })
        .collect();
    list(frame, area, theme, &columns, rows, Some(top.row()));
}

fn events(frame: &mut Frame<'_>, area: Rect, top: &Top, theme: Theme) {
    let columns: [Column; 4] = [
        ("AGO", Constraint::Length(8), true),
        ("WHAT", Constraint::Length(26), false),
        ("OF", Constraint::Length(28), true),
        ("", Constraint::Min(20), true),
    ];
    let rows = top
        .events()
        .into_iter()
        .map(|event| {
            let why = event.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            vec![
                show::age(event.at, theme.now).into(),
                event.kind.as_str().into(),
                event.subject.as_str().into(),
                format!("{}{why}", event.message).into(),
            ]
        })
        .collect();
    list(frame, area, theme, &columns, rows, Some(top.row()));
}

fn logs(frame: &mut Frame<'_>, area: Rect, top: &Top, theme: Theme) {
    let Some(name) = &top.following else {
        let text = "Choose a service or a node and press l: what its containers write comes here.";
        frame.render_widget(Paragraph::new(text), area);
        return;
    };
    let above = top.row();
    let place = if above == 0 { "following".into() } else { format!("{above} lines above the end") };
    let block = framed(format!(" {name}: {place} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = top.shown_lines();
    if lines.is_empty() {
        frame.render_widget(Paragraph::new("nothing yet"), inner);
        return;
    }
    let end = lines.len().saturating_sub(above);
    let begin = end.saturating_sub(usize::from(inner.height));
    let drawn: Vec<Line<'_>> = lines[begin..end]
        .iter()
        .map(|line| {
            let meaning = if line.stderr { table::Style::Warn } else { table::Style::Plain };
            Line::from(vec![
                Span::styled(format!("{} ", line.who), theme.style(table::Style::Dim)),
                Span::styled(line.text.as_str(), theme.style(meaning)),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(drawn), inner);
}

fn help(frame: &mut Frame<'_>) {
    let text = "1-5, Tab    the lists: nodes, services, attention, events, logs\n\
                up, down    choose; j and k, PageUp and PageDown, g and G as well\n\
                Enter       details of the chosen node or service\n\
                l           what the containers of the chosen one write\n\
                s           sort: trouble first, by name, busiest first\n\
                /           filter what is listed; Esc drops the filter\n\
                q, Ctrl-C   quit\n\n\
                Any key goes back.";
    let area = frame.area();
    let (width, height) = (area.width.min(72), area.height.min(12));
    let area =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys ");
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), area);
}
