//! A corpus of files as people write them, with what becomes of each checked in beside it.
//! After a change on purpose: `INSTA_UPDATE=always cargo nextest run -p lattice-compose files`,
//! and read the difference.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lattice_compose::{NoFiles, Options, Source, load, normalize_project_name};

fn variables(name: &str) -> Option<String> {
    match name {
        "DB_PASSWORD" => Some("s3cret".into()),
        "LOG_LEVEL" => Some("debug".into()),
        "EMPTY" => Some(String::new()),
        "REPLICAS" => Some("4".into()),
        _ => None,
    }
}

#[test]
fn corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus is missing");
    for path in files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let fallback = normalize_project_name("My Folder");
        let options = Options { fallback_name: Some(&fallback), ..Options::new(&variables) };
        let outcome =
            match load(&[Source { name: "compose.yaml", text: text.as_bytes() }], &options, &NoFiles) {
                Ok(loaded) => {
                    let warnings: String = loaded.warnings.iter().map(|w| format!("{w}\n")).collect();
                    format!(
                        "stack {}\n{warnings}{}",
                        loaded.name,
                        serde_json::to_string_pretty(&loaded.spec).unwrap()
                    )
                }
                Err(errors) => errors.to_string(),
            };
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&folder);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(stem, outcome));
    }
}

#[test]
fn the_examples_load_as_they_are_and_with_nothing_to_say() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders: Vec<_> = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files = folders.iter().map(|folder| folder.join("compose.yaml")).filter(|file| file.exists());
    let mut loaded = 0;
    for file in files {
        let text = std::fs::read(&file).unwrap();
        let options = Options::new(&|_| None);
        let source = Source { name: "compose.yaml", text: &text };
        let stack = load(&[source], &options, &NoFiles)
            .unwrap_or_else(|errors| panic!("{}: {errors}", file.display()));
        assert!(stack.warnings.is_empty(), "{}: {:?}", file.display(), stack.warnings);
        loaded += 1;
    }
    assert!(loaded >= 2, "the examples are missing");
}
