//! The owner's guide says what the code does: `UPDATE_DOCS=1` writes the table of reasons anew.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lattice_rules::{Preset, Reason, Rules};
use std::{fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- reasons -->\n";
const END: &str = "<!-- /reasons -->";

fn guide() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/owner.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_table_of_reasons_is_that_of_the_code() {
    let mut table = String::from("| code | what is so | what you can do |\n|---|---|---|\n");
    for reason in Reason::ALL {
        writeln!(table, "| `{}` | {} | {} |", reason.code(), reason.says(), reason.todo()).unwrap();
    }
    let (path, text) = guide();
    let from = text.find(BEGIN).unwrap() + BEGIN.len();
    let to = text.find(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, format!("{}{table}{}", &text[..from], &text[to..])).unwrap();
    }
    assert_eq!(
        &text[from..to],
        table,
        "UPDATE_DOCS=1 cargo nextest run -p lattice-rules --test documentation"
    );
}

#[test]
fn the_rules_of_the_guide_are_taken_and_its_presets_are_there() {
    let (_, text) = guide();
    let mut blocks = 0;
    for block in text.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        Rules::parse(block).and_then(|rules| rules.check(Some("UTC"))).unwrap();
        // What is commented out is an alternative that is understood as well.
        blocks += 1;
    }
    assert!(blocks >= 4, "{blocks}");
    for preset in Preset::ALL {
        assert!(text.contains(&format!("| `{preset}` | {} |", preset.says())), "{preset}");
    }
}
