//! Every key of the specification has a fate; every fate is what happens; and the documentation
//! says the same.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use lattice_compose::{Code, ComposeErrors, KeyNote, Loaded, Options, Severity, Source, key_notes, load};
use std::{collections::BTreeMap, fmt::Write as _};
use support::Disk;

fn notes() -> BTreeMap<String, KeyNote> {
    key_notes().into_iter().map(|note| (note.path.clone(), note)).collect()
}

#[test]
fn every_key_of_the_specification_is_in_the_tables() {
    let notes = notes();
    let keys = include_str!("specification-keys.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for key in keys {
        count += 1;
        // What belongs to a key that is refused or without effect shares its fate.
        let mut path = key;
        let known = loop {
            match notes.get(path) {
                Some(_) if path == key => break true,
                Some(note) => break matches!(note.fate, "refused" | "harmless"),
                None => {}
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = path[..at].trim_end_matches(".*"),
                None => break false,
            }
        };
        assert!(known, "{key} is in no table, nor is what it belongs to refused or harmless");
    }
    assert!(count > 300, "the list is missing");
}

fn disk() -> Disk {
    Disk::of(&[
        ("app/Dockerfile", "FROM scratch\n"),
        ("web.env", "FROM_FILE=1\n"),
        ("labels.env", "from.file=1\n"),
        ("conf/a.conf", "x"),
        ("secret.txt", "hush"),
        ("base.yaml", "services: {base: {image: nginx, user: nobody}}\n"),
    ])
}

fn read(text: &str) -> Result<Loaded, ComposeErrors> {
    let variables = |name: &str| (name == "FROM_SHELL").then(|| "shell".to_owned());
    let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
    load(&[Source { name: "c.yaml", text: text.as_bytes() }], &options, &disk())
}

/// A service `s` with these lines, beside `other`.
fn service(lines: &str, top: &str) -> Result<Loaded, ComposeErrors> {
    let mut text = "services:\n  s:\n".to_owned();
    if !lines.contains("image:") && !lines.starts_with("build") && !lines.starts_with("extends") {
        text.push_str("    image: nginx\n");
    }
    for line in lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text.push_str("  other: {image: nginx, networks: [default, extra]}\n");
    text.push_str("networks: {extra: {}}\n");
    read(&format!("{text}{top}"))
}

fn outcome(loaded: &Loaded) -> String {
    let Loaded { name, spec, builds, trees, secrets, warnings: _ } = loaded;
    // `Build`'s own Debug hides the arguments' values, which is enough here.
    format!("{name} {} {builds:?} {trees:?} {secrets:?}", serde_json::to_string(spec).unwrap())
}

/// Each honoured key of a service, with lines that say something by it, and what they add to.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("build", "build: ./app", ""),
    ("cap_add", "cap_add: [NET_ADMIN]", ""),
    ("cap_drop", "cap_drop: [ALL]", ""),
    ("command", "command: echo hi", ""),
    ("configs", "configs: [c]", "configs: {c: {content: text}}\n"),
    ("container_name", "container_name: web-1", ""),
    ("cpu_count", "cpu_count: 2", ""),
    ("cpu_quota", "cpu_quota: 50000", ""),
    ("cpu_period", "cpu_quota: 50000\ncpu_period: 50000", ""),
    ("cpus", "cpus: 0.5", ""),
    ("depends_on", "depends_on: [other]", ""),
    ("deploy", "deploy: {replicas: 2}", ""),
    ("dns", "dns: 1.1.1.1", ""),
    ("dns_opt", "dns_opt: [use-vc]", ""),
    ("dns_search", "dns_search: example.com", ""),
    ("domainname", "domainname: example.com", ""),
    ("entrypoint", "entrypoint: [sh]", ""),
    ("env_file", "env_file: web.env", ""),
    ("environment", "environment: [A=b]", ""),
    ("expose", "expose: [80]", ""),
    ("extends", "extends: {file: base.yaml, service: base}", ""),
    ("extra_hosts", "extra_hosts: [\"db:203.0.113.7\"]", ""),
    ("gpus", "gpus: all", ""),
    ("group_add", "group_add: [mail]", ""),
    ("healthcheck", "healthcheck: {interval: 5s}", ""),
    ("hostname", "hostname: web", ""),
    ("image", "image: other", ""),
    ("init", "init: true", ""),
    ("label_file", "label_file: labels.env", ""),
    ("labels", "labels: {a: b}", ""),
    ("links", "links: [\"other:alias\"]", ""),
    ("logging", "logging: {options: {max-size: 1m, max-file: \"2\"}}", ""),
    ("mem_limit", "mem_limit: 64m", ""),
    ("mem_reservation", "mem_reservation: 32m", ""),
    ("network_mode", "network_mode: none", ""),
    ("networks", "networks: [extra]", ""),
    ("oom_score_adj", "oom_score_adj: 100", ""),
    ("pids_limit", "pids_limit: 10", ""),
    ("platform", "platform: linux/arm64", ""),
    ("ports", "ports: [\"8080-8090:80\"]", ""),
    ("profiles", "profiles: [debug]", ""),
    ("pull_policy", "pull_policy: always", ""),
    ("read_only", "read_only: true", ""),
    ("restart", "restart: \"no\"", ""),
    ("scale", "scale: 3", ""),
    ("secrets", "secrets: [pw]", "secrets: {pw: {file: secret.txt}}\n"),
    ("shm_size", "shm_size: 128m", ""),
    ("stdin_open", "stdin_open: true", ""),
    ("stop_grace_period", "stop_grace_period: 1m", ""),
    ("stop_signal", "stop_signal: SIGINT", ""),
    ("sysctls", "sysctls: {net.core.somaxconn: 1024}", ""),
    ("tmpfs", "tmpfs: /run", ""),
    ("tty", "tty: true", ""),
    ("ulimits", "ulimits: {nofile: 1024}", ""),
    ("user", "user: \"1000:1000\"", ""),
    ("volumes", "volumes: [\"./conf:/conf:ro\"]", ""),
    ("working_dir", "working_dir: /srv", ""),
    ("x-lattice", "x-lattice: {pool: [gpu, lab]}", ""),
    (
        "x-lattice.prefer",
        "x-lattice: {prefer: [node.labels.disk == ssd, {node: node.battery == no, weight: 5}]}",
        "",
    ),
    ("x-lattice.near", "x-lattice: {near: [{service: shop/db, over: node.region, weight: 5}]}", ""),
    ("x-lattice.apart", "x-lattice: {apart: [tier=front]}", ""),
    ("x-lattice.max_skew", "x-lattice: {max_skew: 1}", ""),
    ("x-lattice.lasts", "x-lattice: {lasts: 2h}", ""),
    ("x-lattice.tolerations", "x-lattice: {tolerations: [gpu, b=1, {key: c}, {key: d, value: e}]}", ""),
    ("x-lattice.array", "x-lattice: {array: 2}\ndeploy: {mode: replicated-job, replicas: 5}", ""),
    ("x-lattice.bandwidth", "x-lattice: {bandwidth: 50Mbit}", ""),
    ("x-lattice.disk", "x-lattice: {disk: 20g}", ""),
    ("x-lattice.gang", "x-lattice: {gang: true}\ndeploy: {replicas: 4}", ""),
    ("x-lattice.gpu_share", "x-lattice: {gpu_share: 25%}", ""),
    ("x-lattice.schedule", "x-lattice: {schedule: \"@daily\"}\nrestart: on-failure", ""),
    (
        "x-lattice.schedule.catch_up",
        "restart: \"no\"\nx-lattice: {schedule: {cron: \"*/5 * * * *\", zone: Asia/Tokyo, overlap: replace, catch_up: 0s}}",
        "",
    ),
    (
        "x-lattice.schedule.suspended",
        "restart: \"no\"\nx-lattice: {schedule: {cron: \"0 3 * * 1\", overlap: skip, suspended: true}}",
        "",
    ),
    ("x-lattice.rebalance", "x-lattice: {rebalance: off}", ""),
    ("x-lattice.update", "x-lattice: {update: {strategy: canary}}", ""),
    ("x-lattice.update.canary", "x-lattice: {update: {canary: 20%}}", ""),
    ("x-lattice.update.deadline", "x-lattice: {update: {deadline: 3m}}", ""),
    (
        "x-lattice.update.keep",
        "x-lattice: {update: {strategy: blue-green, bake: 0s, promote: manual, keep: 1h}}",
        "",
    ),
    ("deploy.labels", "deploy: {labels: {a: b}}", ""),
    ("deploy.mode", "deploy: {mode: global}", ""),
    ("deploy.placement", "deploy: {placement: {constraints: [node.labels.disk == ssd]}}", ""),
    ("deploy.placement.constraints", "deploy: {placement: {constraints: [node.hostname != attic]}}", ""),
    ("deploy.placement.max_replicas_per_node", "deploy: {placement: {max_replicas_per_node: 1}}", ""),
    ("deploy.placement.preferences", "deploy: {placement: {preferences: [{spread: node.labels.room}]}}", ""),
    ("deploy.replicas", "deploy: {replicas: 3}", ""),
    ("deploy.resources", "deploy: {resources: {limits: {cpus: 1}}}", ""),
    ("deploy.resources.limits", "deploy: {resources: {limits: {pids: 5}}}", ""),
    ("deploy.resources.limits.cpus", "deploy: {resources: {limits: {cpus: \"0.5\"}}}", ""),
    ("deploy.resources.limits.memory", "deploy: {resources: {limits: {memory: 64M}}}", ""),
    ("deploy.resources.limits.pids", "deploy: {resources: {limits: {pids: 7}}}", ""),
    ("deploy.resources.reservations", "deploy: {resources: {reservations: {cpus: 1}}}", ""),
    ("deploy.resources.reservations.cpus", "deploy: {resources: {reservations: {cpus: \"0.5\"}}}", ""),
    ("deploy.resources.reservations.memory", "deploy: {resources: {reservations: {memory: 32M}}}", ""),
    (
        "deploy.resources.reservations.devices",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1}]}}}",
        "",
    ),
    ("deploy.restart_policy", "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}", ""),
    ("deploy.restart_policy.condition", "deploy: {restart_policy: {condition: none}}", ""),
    ("deploy.restart_policy.delay", "deploy: {restart_policy: {delay: 5s}}", ""),
    ("deploy.restart_policy.window", "deploy: {restart_policy: {window: 5s}}", ""),
    (
        "deploy.restart_policy.max_attempts",
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 4}}",
        "",
    ),
    ("deploy.update_config", "deploy: {update_config: {parallelism: 2}}", ""),
    ("deploy.update_config.parallelism", "deploy: {update_config: {parallelism: 0}}", ""),
    ("deploy.update_config.delay", "deploy: {update_config: {delay: 3s}}", ""),
    ("deploy.update_config.failure_action", "deploy: {update_config: {failure_action: rollback}}", ""),
    ("deploy.update_config.monitor", "deploy: {update_config: {monitor: 3s}}", ""),
    ("deploy.update_config.max_failure_ratio", "deploy: {update_config: {max_failure_ratio: 0.25}}", ""),
    ("deploy.update_config.order", "deploy: {update_config: {order: start-first}}", ""),
    ("deploy.rollback_config", "deploy: {rollback_config: {order: start-first}}", ""),
];

#[test]
fn what_is_honoured_changes_what_comes_out() {
    let plain = outcome(&service("", "").unwrap());
    let mut covered = std::collections::BTreeSet::new();
    for (key, lines, top) in SAMPLES {
        let with = service(lines, top).unwrap_or_else(|errors| panic!("{key}: {errors}"));
        assert_ne!(outcome(&with), plain, "{key} is said to be honoured and changes nothing");
        assert!(with.warnings.iter().all(|w| w.code != Code::Ignored), "{key}: {:?}", with.warnings);
        covered.insert(format!("services.*.{key}"));
    }
    for note in key_notes() {
        let direct =
            note.path.strip_prefix("services.*.").is_some_and(|rest| !rest.contains(['.', '*', '[']));
        let silent = ["security_opt", "cgroup", "ipc", "isolation", "runtime"];
        if direct
            && matches!(note.fate, "honoured" | "partly")
            && !silent.iter().any(|key| note.path.ends_with(key))
        {
            assert!(covered.contains(&note.path), "{} has no sample here", note.path);
        }
    }
}

#[test]
fn what_is_refused_is_refused_by_name_and_what_is_harmless_warned_of() {
    let mut seen = 0;
    for note in key_notes() {
        let Some(key) = note.path.strip_prefix("services.*.").filter(|rest| !rest.contains(['.', '*', '[']))
        else {
            continue;
        };
        match (note.fate, service(&format!("{key}: [x]"), "")) {
            ("refused", outcome) => {
                let errors = outcome.expect_err(key);
                let p = errors.0.iter().find(|p| p.path == format!("services.s.{key}")).expect(key);
                assert_eq!((p.code, p.severity), (Code::NotSupported, Severity::Error), "{p}");
                assert!(p.line == 4 && p.message.starts_with("not supported: ") && !p.hint.is_empty(), "{p}");
                seen += 1;
            }
            ("harmless", outcome) => {
                let loaded = outcome.unwrap_or_else(|errors| panic!("{key}: {errors}"));
                let warned =
                    |w: &&lattice_compose::Problem| w.path == format!("services.s.{key}") && w.line == 4;
                assert_eq!(loaded.warnings.iter().find(warned).map(|w| w.code), Some(Code::Ignored), "{key}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert!(seen > 30);
    // What is off, empty or the default asks for nothing.
    for lines in [
        "privileged: false",
        "devices: []",
        "pid:",
        "ipc: private",
        "cgroup: private",
        "runtime: runc",
        "security_opt: [\"no-new-privileges:true\"]",
        "mac_address: \"\"",
        "oom_kill_disable: false",
        "x-anything: {a: $}",
    ] {
        let loaded = service(lines, "").unwrap_or_else(|errors| panic!("{lines}: {errors}"));
        assert!(loaded.warnings.is_empty(), "{lines}: {:?}", loaded.warnings);
    }
}

/// The table in the documentation is made of the tables in the code.
/// After a change: `UPDATE_DOCS=1 cargo nextest run -p lattice-compose the_documentation`.
#[test]
fn the_documentation_has_every_key() {
    const BEGIN: &str = "<!-- keys: made from the code's tables -->\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the mark for the table is missing");
    let mut made = format!("{before}{BEGIN}");
    let mut place = None;
    for note in key_notes() {
        let (parent, key) = note.path.rsplit_once('.').unwrap_or(("", &note.path));
        if note.note.starts_with("it belongs to a key")
            || note.note.starts_with("as `") && note.fate == "harmless"
        {
            continue;
        }
        if place.as_deref() != Some(parent) {
            let title = if parent.is_empty() { "The file itself".to_owned() } else { format!("`{parent}`") };
            let _ = write!(made, "\n### {title}\n\n| key | | |\n|---|---|---|\n");
            place = Some(parent.to_owned());
        }
        let note_text = note.note.replace('|', "\\|");
        let _ = writeln!(made, "| `{key}` | {} | {note_text} |", note.fate);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(
        text == made || std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/compose.md is behind the code: UPDATE_DOCS=1"
    );
}
