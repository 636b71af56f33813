//! What holds for every text: reading ends, never panics, names places that exist, and what is
//! escaped comes back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use lattice_compose::{ComposeErrors, Loaded, MAX_PROBLEMS, NoFiles, Options, Source, load, parse_env};
use proptest::prelude::*;
use std::sync::LazyLock;
use support::Disk;

/// Every file of the corpora, in lines.
static LINES: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths: Vec<_> = ["files", "corpus"]
        .iter()
        .flat_map(|name| std::fs::read_dir(folder.join(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read_to_string(p).unwrap().lines().map(str::to_owned).collect()).collect()
});

fn read(text: &[u8]) -> Result<Loaded, ComposeErrors> {
    let variables = |name: &str| {
        (name.len().is_multiple_of(2) && !name.starts_with("COMPOSE_")).then(|| "value $X ${Y".to_owned())
    };
    let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
    load(&[Source { name: "c.yaml", text }], &options, &NoFiles)
}

/// Whatever comes out is in order.
fn sound(text: &[u8]) -> Result<(), TestCaseError> {
    let lines = u32::try_from(text.split(|b| *b == b'\n').count()).unwrap();
    match read(text) {
        Ok(loaded) => {
            // What was accepted is valid in the model's own eyes.
            let json = serde_json::to_string(&loaded.spec).unwrap();
            prop_assert_eq!(
                serde_json::from_str::<lattice_model::spec::StackSpec>(&json).unwrap(),
                loaded.spec
            );
        }
        Err(errors) => {
            prop_assert!(!errors.0.is_empty() && errors.0.len() <= MAX_PROBLEMS + 1);
            for p in &errors.0 {
                prop_assert!(p.line >= 1 && p.column >= 1 && p.line <= lines + 1, "{p}");
                prop_assert!(!p.to_string().chars().any(char::is_control), "{p:?}");
                p.render(&String::from_utf8_lossy(text));
            }
        }
    }
    Ok(())
}

const SEEDS: [&str; 6] = [
    include_str!("files/01-postgres-web.yaml"),
    include_str!("files/03-anchors.yaml"),
    include_str!("files/04-ports.yaml"),
    include_str!("files/05-networks.yaml"),
    include_str!("files/09-conflicts.yaml"),
    include_str!("files/10-interpolation.yaml"),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        sound(&bytes)?;
    }

    #[test]
    fn any_yaml_like_text(text in "([a-z$ ]{0,4}[-:{}\\[\\]*&<>|!?#'\"%@`,.~\t\n \\\\]){0,60}") {
        sound(text.as_bytes())?;
    }

    #[test]
    fn mutated_files(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<prop::sample::Index>()), 1..8),
    ) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        let spice = b"{}[]:-&*!|>'\"%@#?,\n \t$\0\xc3<~0";
        for (at, kind, other) in edits {
            if bytes.is_empty() {
                break;
            }
            let (at, other) = (at.index(bytes.len()), other.index(bytes.len()));
            match kind {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, spice[other % spice.len()]),
                2 => bytes[at] = spice[other % spice.len()],
                _ => {
                    let piece = bytes[at.min(other)..at.max(other)].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        sound(&bytes)?;
    }

    /// Lines of files as people have them, exchanged, indented anew and put on top of each other;
    /// what they name is there and is such a file too.
    #[test]
    fn files_out_of_the_lines_of_others(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6u8), 1..12),
        base in any::<prop::sample::Index>(),
        keep in 0..100usize,
    ) {
        let mut lines = LINES[base.index(LINES.len())].clone();
        lines.truncate(lines.len().min(keep + 5));
        for (file, line, kind) in picks {
            let other = &LINES[file.index(LINES.len())];
            let piece = &other[line.index(other.len())];
            let at = line.index(lines.len() + 1);
            match kind {
                0 => lines.insert(at, piece.clone()),
                1 => lines.insert(at, format!("  {piece}")),
                2 => lines.insert(at, piece.trim_start().to_owned()),
                3 if at < lines.len() => lines[at] = piece.clone(),
                4 if at < lines.len() => drop(lines.remove(at)),
                _ => lines.insert(at, format!("    extends: {{file: other.yaml, service: {}}}", piece.trim().trim_end_matches(':'))),
            }
        }
        let text = lines.join("\n");
        let other = LINES[keep % LINES.len()].join("\n");
        let disk = Disk::of(&[
            ("other.yaml", &text),
            ("common/services.yaml", &other),
            ("db.env", &other),
            (".env", &text),
            ("infra/compose.yaml", &other),
            ("Dockerfile", ""),
        ]);
        let variables = |name: &str| (!name.starts_with("COMPOSE_") && name.len() % 2 == 1).then(|| "value".to_owned());
        let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
        let sources = [Source { name: "a.yaml", text: text.as_bytes() }, Source { name: "b.yaml", text: other.as_bytes() }];
        for sources in [&sources[..1], &sources[..]] {
            match load(sources, &options, &disk) {
                Ok(loaded) => {
                    for warning in loaded.warnings {
                        prop_assert!(warning.line >= 1 && warning.column >= 1 && !warning.file.is_empty(), "{warning}");
                    }
                }
                Err(errors) => {
                    prop_assert!(!errors.0.is_empty());
                    for p in errors.0 {
                        prop_assert!(p.line >= 1 && p.column >= 1 && !p.file.is_empty(), "{p:?}");
                        prop_assert!(!p.to_string().chars().any(char::is_control), "{p:?}");
                    }
                }
            }
        }
    }

    /// `$$` is one `$`, and nothing else is touched.
    #[test]
    fn escaped_text_comes_back(value in "[ -~äöü€]{0,40}") {
        let quoted = value.replace('\'', "''").replace('$', "$$");
        let text = format!("services:\n  a:\n    image: b\n    environment:\n      V: '{quoted}'\n");
        let loaded = read(text.as_bytes()).unwrap();
        let web = loaded.spec.workloads.into_values().next().unwrap();
        prop_assert_eq!(&web.environment["V"], &value);
    }

    /// The value of a variable is never expanded again.
    #[test]
    fn variables_arrive_as_they_are(value in "[^\0]{0,40}", default in "[a-z$]{0,5}") {
        let text = format!("services:\n  a:\n    image: b\n    environment:\n      V: 'a${{NAME:-{}}}z'\n", default.replace('$', "$$"));
        let variables = |name: &str| (name == "NAME").then(|| value.clone());
        let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
        let loaded = load(&[Source { name: "c.yaml", text: text.as_bytes() }], &options, &NoFiles).unwrap();
        let web = loaded.spec.workloads.into_values().next().unwrap();
        let expected = if value.is_empty() { format!("a{default}z") } else { format!("a{value}z") };
        prop_assert_eq!(&web.environment["V"], &expected);
    }

    #[test]
    fn quoted_env_lines_come_back(value in "[^\0\r]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let text = format!("# comment\nexport V=\"{quoted}\" # more\nW=1\n");
        let file = parse_env(Source { name: ".env", text: text.as_bytes() }, &|_| None).unwrap();
        prop_assert_eq!(&file.values["V"], &value);
        prop_assert_eq!(&file.values["W"], "1");
    }

    #[test]
    fn any_env_text(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[A-C=:'\"\\\\$ #\n{}]{0,60}") {
        let _ = parse_env(Source { name: ".env", text: &bytes }, &|_| None);
        let _ = parse_env(Source { name: ".env", text: text.as_bytes() }, &|_| None);
    }
}
