//! Rows: as they are kept in `results.json`, and as a table.

use crate::benchmark::{Figure, Measured, Target};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::{fs, io::Write as _, path::Path};

/// One figure, as the file keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The figure's name.
    pub(crate) name: String,
    /// In `unit`.
    pub(crate) value: f64,
    /// Of value and reference.
    pub(crate) unit: String,
    /// The same of what it is compared with, measured in the same run; null where there is no such thing.
    pub(crate) reference: Option<f64>,
    /// Value divided by reference.
    pub(crate) ratio: Option<f64>,
    /// What measures it again.
    pub(crate) command: String,
}

impl Row {
    /// Of a figure that was measured. Numbers keep four digits, since more would pretend.
    pub(crate) fn new(figure: &Figure, measured: &Measured, command: String) -> Self {
        let ratio = measured.reference.filter(|reference| *reference > 0.0).map(|r| measured.value / r);
        Self {
            name: figure.name.to_owned(),
            value: rounded(measured.value),
            unit: figure.unit.to_owned(),
            reference: measured.reference.map(rounded),
            ratio: ratio.map(rounded),
            command,
        }
    }

    fn reaches(&self, target: Target) -> Option<bool> {
        match target {
            Target::AtMost(bound) => Some(self.value <= bound),
            Target::AtLeast(bound) => Some(self.value >= bound),
            Target::RatioAtMost(bound) => self.ratio.map(|ratio| ratio <= bound),
        }
    }
}

/// Four significant digits; whole numbers stay whole.
fn rounded(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let digits = (3 - number.abs().log10().floor() as i32).max(0);
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

/// Puts rows into the file: one of the same name is replaced where it stands, another one comes last. The file is
/// whole at any time.
///
/// # Errors
/// When the file is not such a list, or cannot be written.
pub(crate) fn merge(path: &Path, new: &[Row]) -> anyhow::Result<()> {
    let mut rows: Vec<Row> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a list of rows; move it away", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    for row in new {
        match rows.iter_mut().find(|old| old.name == row.name) {
            Some(old) => *old = row.clone(),
            None => rows.push(row.clone()),
        }
    }
    let folder = path.parent().context("the results have no folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, &rows)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}

/// The rows for people.
pub(crate) fn table(rows: &[(Row, Target)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = ["name", "value", "unit", "reference", "ratio", "target", "verdict"].map(String::from);
    let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    let mut lines = vec![head];
    for (row, target) in rows {
        lines.push([
            row.name.clone(),
            row.value.to_string(),
            row.unit.clone(),
            number(row.reference),
            number(row.ratio),
            match target {
                Target::AtMost(bound) => format!("≤ {bound}"),
                Target::AtLeast(bound) => format!("≥ {bound}"),
                Target::RatioAtMost(bound) => format!("ratio ≤ {bound}"),
            },
            match row.reaches(*target) {
                Some(true) => "reached",
                Some(false) => "MISSED",
                None => "no reference",
            }
            .to_owned(),
        ]);
    }
    let widths: [usize; 7] =
        std::array::from_fn(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            // Numbers stand to the right, words to the left.
            if matches!(at, 1 | 3 | 4) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64) -> Row {
        let command = format!("make bench ONLY={name}");
        Row { name: name.into(), value, unit: "ms".into(), reference: None, ratio: None, command }
    }

    #[test]
    fn a_new_run_replaces_its_own_rows_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/results.json");
        merge(&path, &[row("a", 1.0), row("b", 2.0)]).unwrap();
        merge(&path, &[row("b", 3.0), row("c", 4.0)]).unwrap();
        let rows: Vec<Row> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(rows, [row("a", 1.0), row("b", 3.0), row("c", 4.0)]);
        let first: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let keys: Vec<_> = first[0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.len(), 6, "{keys:?}");
        fs::write(&path, "{}").unwrap();
        assert!(merge(&path, &[row("a", 1.0)]).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn numbers_and_verdicts() {
        assert_eq!(rounded(1234.56), 1235.0);
        assert_eq!(rounded(0.123_456), 0.1235);
        assert_eq!(rounded(49_876.4), 49_876.0);
        let figure = Figure { name: "x", unit: "ms", target: Target::RatioAtMost(1.2) };
        let measured = Measured { name: "x", value: 500.0, reference: Some(400.0) };
        let row = Row::new(&figure, &measured, String::new());
        assert_eq!((row.ratio, row.reaches(figure.target)), (Some(1.25), Some(false)));
        assert_eq!(row.reaches(Target::AtMost(500.0)), Some(true));
        assert_eq!(row.reaches(Target::AtLeast(501.0)), Some(false));
        let text = table(&[(row, figure.target)]);
        assert!(text.contains("MISSED") && text.contains("ratio ≤ 1.2"), "{text}");
        let alone = Measured { reference: None, ..measured };
        assert_eq!(Row::new(&figure, &alone, String::new()).reaches(figure.target), None);
    }
}
