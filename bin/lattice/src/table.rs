//! A table for people: columns as wide as they need to be, colour only where it means something.
//!
//! Rejected: a table crate; borders and wrapping are what it would bring, and both stand in the
//! way of `grep` and `awk`.

/// What a cell's colour means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Beside the point.
    Dim,
}

impl Style {
    /// Colours a text, where colours are wanted.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
        };
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text with a meaning.
    pub(crate) fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: clean(&text.into()), style }
    }

    /// What is shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What its colour means.
    pub(crate) const fn style(&self) -> Style {
        self.style
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Style::Plain)
    }
}

/// Replaces what would move the cursor or worse: texts come from nodes and containers.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text of at most `max` characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell shows as `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.resize(self.header.len(), Cell::default());
        for cell in &mut cells {
            if cell.text.is_empty() {
                *cell = Cell::new("-", Style::Dim);
            }
        }
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, a line each, without blanks at their ends.
    pub(crate) fn render(&self, colour: bool) -> String {
        let mut widths: Vec<_> = self.header.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
            let mut gap = 0;
            for ((text, style), width) in cells.zip(&widths) {
                out.push_str(&" ".repeat(gap));
                out.push_str(&style.paint(text, colour));
                gap = width - text.chars().count() + 2;
            }
            out.push('\n');
        };
        line(&mut self.header.iter().map(|name| (*name, Style::Dim)));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| (cell.text.as_str(), cell.style)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "NODE"]);
        table.row(["shop/web#1".into(), Cell::new("running", Style::Good), "laptop".into()]);
        table.row(["größe".into(), Cell::new("failed: no\x1b[2J image", Style::Bad), "".into()]);
        table
    }

    #[test]
    fn columns_stand_under_each_other() {
        insta::assert_snapshot!(table().render(false), @r"
        NAME        STATE                 NODE
        shop/web#1  running               laptop
        größe       failed: no [2J image  -
        ");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table().render(true);
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        assert_eq!(plain, table().render(false));
        assert!(coloured.contains("\x1b[32mrunning\x1b[0m"));
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
