//! A corpus of files as people write them, with what becomes of each checked in beside it.
//! After a change on purpose: `INSTA_UPDATE=always cargo nextest run -p lattice-compose files`,
//! and read the difference.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use lattice_compose::{
    FileFault, Files, Found, Loaded, NoFiles, Options, Source, Text, load, normalize_project_name,
};
use support::Disk;

/// What a project's folder has beside its Compose file, for `tests/corpus`.
fn disk() -> Disk {
    Disk::of(&[
        (".env", "DB_PASSWORD=postgres\nDB_USERNAME=postgres\nDB_DATABASE_NAME=immich\n"),
        (".env.production", "LOCAL_DOMAIN=example.com\nSECRET_KEY_BASE='a$b'\n"),
        ("Caddyfile", "example.com"),
        ("Dockerfile", "FROM scratch"),
        ("alertmanager/config.yml", "route: {}"),
        ("backend/Dockerfile", "FROM node"),
        (
            "common/services.yaml",
            "services:\n  web:\n    image: nginx\n    env_file: web.env\n    volumes: [\"./html:/html:ro\"]\n",
        ),
        ("common/web.env", "FROM=common\n"),
        ("common/html/index.html", "hello"),
        ("dags/example.py", ""),
        ("db.env", "POSTGRES_PASSWORD=x\nPOSTGRES_DB=nextcloud\nPOSTGRES_USER=nextcloud\n"),
        ("db/password.txt", "hush"),
        ("elasticsearch/Dockerfile", "FROM es"),
        ("elasticsearch/config/elasticsearch.yml", ""),
        ("frontend/Dockerfile", "FROM node"),
        ("frontend/src/index.js", ""),
        ("ghost.env", "mail__transport=SMTP\n"),
        ("grafana/config.monitoring", "GF_SECURITY_ADMIN_USER=admin\n"),
        ("grafana/provisioning/datasources/a.yml", ""),
        (
            "infra/compose.yaml",
            "services:\n  redis:\n    image: redis:${REDIS_TAG:-7}\n    env_file: redis.env\n",
        ),
        ("infra/.env", "REDIS_TAG=6\n"),
        ("infra/redis.env", "WHERE=infra\n"),
        ("kibana/Dockerfile", "FROM kibana"),
        ("kibana/config/kibana.yml", ""),
        ("mail/compose.yaml", "services:\n  smtp:\n    image: postfix:${MAIL_TAG}\n    ports: [\"25:25\"]\n"),
        ("mail/override.yaml", "services:\n  smtp:\n    ports: !override [\"2525:25\"]\n"),
        ("mail/vars.env", "MAIL_TAG=3\n"),
        ("mosquitto/config/mosquitto.conf", ""),
        ("my.cnf", ""),
        ("n8n/backup/credentials/a.json", ""),
        ("nginx.conf", ""),
        ("prometheus/prometheus.yml", ""),
        ("proxy/Dockerfile", "FROM nginx"),
        ("secrets/root.txt", "hush"),
        ("setup/Dockerfile", "FROM bash"),
        ("setup/entrypoint.sh", ""),
        ("site/index.html", ""),
        ("volumes/api/kong.yml", ""),
        ("volumes/db/roles.sql", ""),
        ("volumes/logs/vector.yml", ""),
        ("web/Dockerfile", "FROM nginx"),
    ])
}

fn variables(name: &str) -> Option<String> {
    match name {
        "DB_PASSWORD" => Some("s3cret".into()),
        "LOG_LEVEL" => Some("debug".into()),
        "EMPTY" => Some(String::new()),
        "REPLICAS" => Some("4".into()),
        "PWD" => Some("/home/me/project".into()),
        _ => None,
    }
}

fn outcome(text: &str, disk: &dyn Files) -> String {
    let fallback = normalize_project_name("My Folder");
    let options = Options {
        fallback_name: Some(&fallback),
        folder: Some("/home/me/project"),
        ..Options::new(&variables)
    };
    match load(&[Source { name: "compose.yaml", text: text.as_bytes() }], &options, disk) {
        Ok(loaded) => {
            let Loaded { name, spec, builds, trees, secrets, warnings } = loaded;
            let mut text = format!("stack {name}\n");
            warnings.iter().for_each(|w| text.push_str(&format!("{w}\n")));
            builds
                .iter()
                .for_each(|(service, build)| text.push_str(&format!("build {service}: {build:?}\n")));
            trees.iter().for_each(|tree| text.push_str(&format!("{tree:?}\n")));
            secrets.iter().for_each(|secret| text.push_str(&format!("{secret:?}\n")));
            text + &serde_json::to_string_pretty(&spec).unwrap()
        }
        Err(errors) => errors.to_string(),
    }
}

fn snapshots(folder: &str, least: usize, disk: &dyn Files) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= least, "the corpus is missing");
    for path in files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let outcome = outcome(&std::fs::read_to_string(&path).unwrap(), disk);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&folder);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(stem, outcome));
    }
}

/// One subject each.
#[test]
fn files_by_subject() {
    snapshots("tests/files", 10, &NoFiles);
}

/// Files as people have them, in a folder where all that they name is there.
#[test]
fn files_of_every_day() {
    snapshots("tests/corpus", 35, &disk());
}

/// The real disk, for the examples.
struct Folder(std::path::PathBuf);

impl Files for Folder {
    fn read(&self, path: &str, _: usize) -> Result<Text, FileFault> {
        let bytes = std::fs::read(self.0.join(path)).map_err(|_| FileFault::Missing)?;
        Ok(Text { name: path.to_owned(), bytes })
    }

    fn look(&self, path: &str) -> Found {
        match std::fs::metadata(self.0.join(path)) {
            Ok(found) if found.is_dir() => Found::Folder,
            Ok(_) => Found::File,
            Err(_) => Found::Missing,
        }
    }
}

#[test]
fn the_examples_load_as_they_are_and_with_nothing_to_say() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders: Vec<_> = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut loaded = 0;
    for folder in folders.into_iter().filter(|folder| folder.join("compose.yaml").exists()) {
        let text = std::fs::read(folder.join("compose.yaml")).unwrap();
        let source = Source { name: "compose.yaml", text: &text };
        let outcome = load(&[source], &Options::new(&|_| None), &Folder(folder.clone()));
        let stack = outcome.unwrap_or_else(|errors| panic!("{}: {errors}", folder.display()));
        assert!(stack.warnings.is_empty(), "{}: {:?}", folder.display(), stack.warnings);
        loaded += 1;
    }
    assert!(loaded >= 3, "the examples are missing");
}
