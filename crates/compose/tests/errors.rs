//! Each kind of refusal: its place, its words, its way out; and the limits.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lattice_compose::{
    Code, ComposeErrors, Loaded, MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS, NoFiles, Options, Severity, Source,
    load, normalize_project_name,
};
use lattice_model::spec::RestartPolicy;
use std::{fmt::Write as _, time::Instant};

fn read(text: &str) -> Result<Loaded, ComposeErrors> {
    let options = Options { fallback_name: Some("test"), ..Options::new(&|_| None) };
    load(&[Source { name: "c.yaml", text: text.as_bytes() }], &options, &NoFiles)
}

/// A service `s` with these lines, of which the first stands on line 4.
fn service(lines: &str) -> Result<Loaded, ComposeErrors> {
    let mut text = "services:\n  s:\n    image: nginx\n".to_owned();
    for line in lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
    read(&text)
}

#[track_caller]
fn refused(outcome: Result<Loaded, ComposeErrors>, start: &str) {
    let errors = outcome.expect_err(start);
    assert!(errors.0.iter().any(|p| p.to_string().starts_with(start)), "wanted {start}\nfound\n{errors}");
    for p in errors.0 {
        assert!(!p.message.ends_with('.') && !p.hint.ends_with('.'), "{p:?}");
    }
}

#[test]
fn places_and_words() {
    for (lines, start) in [
        (
            "command: {a: b}",
            "c.yaml:4:14: services.s.command: expected a text or a list of texts, found a mapping",
        ),
        ("command: [a, [b]]", "c.yaml:4:18: services.s.command[1]: expected a text, found a list"),
        ("environment: text", "c.yaml:4:18: services.s.environment: expected a mapping"),
        (
            "environment: {A: [b]}",
            "c.yaml:4:22: services.s.environment.A: expected a single value, found a list",
        ),
        ("ports: 80", "c.yaml:4:12: services.s.ports: expected a list"),
        ("ports: [\"0-3:0-3\"]", "c.yaml:4:13: services.s.ports[0]: `0-3:0-3` is no port of the container"),
        (
            "ports: [\"80:1-65535\"]",
            "c.yaml:4:13: services.s.ports[0]: the two ranges have different lengths",
        ),
        ("ports: [1-65535]", "c.yaml:4:13: services.s.ports[0]: the service publishes more than 1000 ports"),
        ("ports: [{published: 80}]", "c.yaml:4:13: services.s.ports[0]: the port has no `target`"),
        (
            "ports: [{target: 80, mode: x}]",
            "c.yaml:4:32: services.s.ports[0].mode: expected `host` or `ingress`",
        ),
        (
            "ports: [{target: 80, host_ip: x}]",
            "c.yaml:4:35: services.s.ports[0].host_ip: `x` is no IP address",
        ),
        (
            "ports: [{target: 80, hostip: x}]",
            "c.yaml:4:26: services.s.ports[0].hostip: Compose has no key `hostip` here. Did you mean `host_ip`?",
        ),
        ("ports: [80, 80]", "c.yaml:4:17: services.s.ports[1]: the container's port 80 is published twice"),
        (
            "expose: [\"1:2\"]",
            "c.yaml:4:14: services.s.expose[0]: `expose` takes ports of the container only",
        ),
        ("volumes: [name]", "c.yaml:4:15: services.s.volumes[0]: `name` does not say where"),
        ("volumes: [\"a:/proc/x\"]", "c.yaml:4:15: services.s.volumes[0]: `/proc/x`: /proc, /sys and /dev"),
        (
            "volumes: [\"C:/d:/d\"]",
            "c.yaml:4:15: services.s.volumes[0]: not supported: `C:/d` is a path of the host",
        ),
        (
            "volumes: [{type: volume, source: a}]",
            "c.yaml:4:15: services.s.volumes[0]: the mount has no `target`",
        ),
        ("volumes: [{source: a, target: /a}]", "c.yaml:4:15: services.s.volumes[0]: the mount has no `type`"),
        ("volumes: [\"a:/a:nocopy\"]", "c.yaml:4:15: services.s.volumes[0]: the mount option `nocopy`"),
        (
            "networks: {default: {ipv4_address: 1.2.3.4}}",
            "c.yaml:4:26: services.s.networks.default.ipv4_address: not supported: addresses",
        ),
        (
            "networks: {default: {aliases: [a b]}}",
            "c.yaml:4:36: services.s.networks.default.aliases[0]: `a b` cannot",
        ),
        (
            "network_mode: none\nnetworks: [default]",
            "c.yaml:4:5: services.s.network_mode: `network_mode` and",
        ),
        ("network_mode: service:x", "c.yaml:4:19: services.s.network_mode: not supported: containers"),
        (
            "depends_on: {s: {condition: service_done}}",
            "c.yaml:4:33: services.s.depends_on.s.condition: expected a condition",
        ),
        ("depends_on: [none]", "c.yaml:4:18: services.s.depends_on[0]: there is no service `none`"),
        ("healthcheck: {test: []}", "c.yaml:4:25: services.s.healthcheck.test: the list begins with"),
        ("healthcheck: {test: [CMD]}", "c.yaml:4:25: services.s.healthcheck.test: the list begins with"),
        ("restart: on-failure:x", "c.yaml:4:14: services.s.restart: expected a restart policy"),
        ("deploy: {mode: spread}", "c.yaml:4:20: services.s.deploy.mode: expected `replicated`, `global`"),
        (
            "deploy: {replicas: -1}",
            "c.yaml:4:24: services.s.deploy.replicas: expected a whole number from 0 to 1000, found `-1`",
        ),
        (
            "deploy: {placement: {constraints: [node.role == manager]}}",
            "c.yaml:4:40: services.s.deploy.placement.constraints: not supported: the control plane runs no workloads",
        ),
        (
            "deploy: {resources: {limits: {memory: 1k}}}",
            "c.yaml:4:43: services.s.deploy.resources.limits.memory: 1 KiB is less",
        ),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
            "c.yaml:4:51: services.s.deploy.resources.reservations.devices[0]: not supported: devices other than GPUs",
        ),
        (
            "labels: [lattice.node=x]",
            "c.yaml:4:14: services.s.labels.lattice.node: the label lattice.node is refused",
        ),
        (
            "stop_grace_period: soon",
            "c.yaml:4:24: services.s.stop_grace_period: expected a span of time, found `soon`",
        ),
        ("stop_grace_period: 1h1s", "c.yaml:4:24: services.s.stop_grace_period: this is more than an hour"),
        ("x-lattice: {pool: a b}", "c.yaml:4:23: services.s.x-lattice.pool: pool name"),
        ("x-lattice: {pool: [a, b c]}", "c.yaml:4:27: services.s.x-lattice.pool[1]: pool name"),
        ("x-lattice: {pool: [a, a]}", "c.yaml:4:23: services.s.x-lattice.pool: the pool a is named twice"),
        ("x-lattice: {pool: []}", "c.yaml:4:23: services.s.x-lattice.pool: the list of pools is empty"),
        ("x-lattice: {disk: 20x}", "c.yaml:4:23: services.s.x-lattice.disk: "),
        ("x-lattice: {bandwidth: 50M}", "c.yaml:4:28: services.s.x-lattice.bandwidth: "),
        (
            "x-lattice: {gpu_share: 1.5}",
            "c.yaml:4:28: services.s.x-lattice.gpu_share: `1.5` is no share of a GPU",
        ),
        (
            "gpus: all\nx-lattice: {gpu_share: 0.5}",
            "c.yaml:5:17: services.s.x-lattice.gpu_share: a share is of one GPU",
        ),
        (
            "x-lattice: {gang: true}\ndeploy: {mode: global}",
            "c.yaml:4:17: services.s.x-lattice.gang: a gang is placed all at once",
        ),
        (
            "x-lattice: {spread: 1}",
            "c.yaml:4:17: services.s.x-lattice.spread: Lattice has no key `spread` here",
        ),
        (
            "deploy: {x-lattice: {pool: a}}",
            "c.yaml:4:26: services.s.deploy.x-lattice.pool: Lattice has no key",
        ),
        ("image: a", "c.yaml:4:5: services.s: the key `image` stands twice; the first is on line 3"),
        ("<<: text", "c.yaml:4:9: services.s: `<<` merges a single value"),
        ("command: !!binary aGk=", "c.yaml:4:14: the tag "),
        ("environment: {A: \"a\\0b\"}", "c.yaml:4:22: services.s.environment.A: the text contains a NUL"),
    ] {
        refused(service(lines), start);
    }
}

#[test]
fn whole_files() {
    for (text, start) in [
        ("", "c.yaml:1:1: the file is empty"),
        ("# nothing\n", "c.yaml:1:1: the file is empty"),
        ("- a\n", "c.yaml:1:1: expected a mapping"),
        ("text", "c.yaml:1:1: expected a mapping"),
        ("name: x\n", "c.yaml:1:1: services: the file has no services"),
        ("services: {}\n", "c.yaml:1:1: services: the file has no services"),
        ("services: {a: {image: b}}\n---\nx: y\n", "c.yaml:2:1: there is more than one YAML document"),
        ("services:\n\ta: b\n", "c.yaml:2:"),
        ("services: {a: {image: b}\n", "c.yaml:"),
        ("services: {a: {image: *nowhere}}\n", "c.yaml:1:23: this is no YAML: "),
        ("services: &s\n  a: *s\n", "c.yaml:2:6: this alias stands inside of what it refers to"),
        ("? [a]\n: b\n", "c.yaml:1:3: a key is a list"),
        ("name: My Shop\nservices: {a: {image: b}}\n", "c.yaml:1:7: name: `My Shop` cannot name a stack"),
        (
            "name: ${N:?}\nservices: {a: {image: b}}\n",
            "c.yaml:1:7: name: the required variable N has no value",
        ),
    ] {
        refused(read(text), start);
    }
    let source = Source { name: "c.yaml", text: b"services:\n  a: \xff\n" };
    let options = Options { fallback_name: Some("x"), ..Options::new(&|_| None) };
    refused(load(&[source], &options, &NoFiles), "c.yaml:2:6: the file is no UTF-8 text");
    refused(load(&[], &options, &NoFiles), ":1:1: no file is given");
}

#[test]
fn names() {
    for (folder, name) in
        [("My Shop", "myshop"), ("_a-b_C", "a-b_c"), ("été", "t"), ("...", ""), ("9lives", "9lives")]
    {
        assert_eq!(normalize_project_name(folder), name);
    }
    let text = b"name: file\nservices: {a: {image: b}}\n";
    let with = |name, fallback_name| {
        let options = Options { name, fallback_name, ..Options::new(&|_| None) };
        load(&[Source { name: "c.yaml", text }], &options, &NoFiles)
    };
    assert_eq!(with(Some("given"), Some("folder")).unwrap().name.as_str(), "given");
    assert_eq!(with(None, Some("folder")).unwrap().name.as_str(), "file");
    refused(with(Some("No"), None), "c.yaml:1:1: `No` cannot name a stack");
}

#[test]
fn restart_is_always_unless_said_or_awaited() {
    let policy = |lines: &str| {
        let loaded = service(lines).unwrap();
        loaded.spec.workloads.into_values().next().unwrap().restart
    };
    assert_eq!(policy(""), RestartPolicy::Always);
    assert_eq!(policy("restart: no"), RestartPolicy::Never);
    assert_eq!(policy("restart: on-failure:0"), RestartPolicy::OnFailure { max_retries: None });
    let waits = "services:\n  job:\n    image: a\n    restart: POLICY\n  app:\n    image: a\n    depends_on: {job: {condition: service_completed_successfully}}\n";
    assert!(read(&waits.replace("POLICY", "on-failure")).is_ok());
    refused(
        read(&waits.replace("POLICY", "always")),
        "c.yaml:7:18: services.app.depends_on.job: it waits for `job` to complete",
    );
}

#[test]
fn ports_meet_by_address_and_protocol() {
    let two = |a: &str, b: &str| {
        read(&format!(
            "services:\n  a: {{image: x, ports: [\"{a}\"]}}\n  b: {{image: x, ports: [\"{b}\"]}}\n"
        ))
        .is_ok()
    };
    for (a, b, fine) in [
        ("80:80", "80:80", false),
        ("80:80", "80:80/udp", true),
        ("80:80", "127.0.0.1:80:80", false),
        ("127.0.0.1:80:80", "127.0.0.2:80:80", true),
        ("0.0.0.0:80:80", "127.0.0.2:80:80", false),
        ("0.0.0.0:80:80", "[::1]:80:80", true),
        ("[::]:80:80", "127.0.0.2:80:80", false),
        ("[::ffff:127.0.0.1]:80:80", "127.0.0.1:80:80", false),
        ("80-90:80-90", "85:1", false),
        ("80", "80", true),
    ] {
        assert_eq!(two(a, b), fine, "{a} and {b}");
    }
}

#[test]
fn rendering_points_at_the_place() {
    let text = "services:\n  web:\n    image: nginx\n    devices: [\"/dev/kvm\"]\n";
    let errors = read(text).unwrap_err();
    assert_eq!(
        errors.render(|name| (name == "c.yaml").then_some(text)),
        "c.yaml:4:5: services.web.devices: not supported: the devices of a node belong to its owner. \
         Remove it; ask for a GPU by `gpus: all`, and pass data through a volume or the network.\n   |\n 4 |     devices: [\"/dev/kvm\"]\n   |     ^"
    );
    let json = serde_json::to_string(&errors).unwrap();
    assert_eq!(serde_json::from_str::<ComposeErrors>(&json).unwrap(), errors);
    let long = format!("services: {{{}a: {{image: b, iamge: c}}}}\n\u{1b}[31m: \n", " ".repeat(5000));
    for line in read(&long).unwrap_err().render(|_| Some(&long)).lines() {
        assert!(line.chars().count() < 300 && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn warnings_do_not_stop() {
    let loaded = read("version: '3'\nservices: {a: {image: \"b$C\"}}\nvolumes: {unused: }\n").unwrap();
    let codes: Vec<_> = loaded.warnings.iter().map(|w| (w.severity, w.code, w.line)).collect();
    assert_eq!(
        codes,
        [
            (Severity::Warning, Code::Ignored, 1),
            (Severity::Warning, Code::Variable, 2),
            (Severity::Warning, Code::Ignored, 3)
        ]
    );
}

#[test]
fn variables_are_found_in_their_line() {
    for (lines, line, column) in [
        ("command:\n  - |\n    one\n    $V\n", 7, 1),
        ("command:\n  - |\n\n\n    one\n    $V\n", 9, 1),
        ("command:\n  - |-\n    $V\n", 6, 1),
        ("command: [a, b$V]", 4, 19),
        ("command: [a, \"$V\"]", 4, 18),
    ] {
        let loaded = service(lines).unwrap();
        let places: Vec<_> = loaded.warnings.iter().map(|w| (w.line, w.column)).collect();
        assert_eq!(places, [(line, column)], "{lines}");
    }
}

#[test]
fn many_problems_are_bounded_and_sorted() {
    let mut text = "services:\n  a:\n    image: b\n".to_owned();
    for n in 0..5000 {
        let _ = writeln!(text, "    enviromnt{n}: $V{n}");
    }
    let errors = read(&text).unwrap_err();
    assert_eq!(errors.0.len(), MAX_PROBLEMS + 1);
    assert!(errors.0.is_sorted_by_key(|p| p.line));
    assert!(
        errors.0[0].severity == Severity::Error
            && errors.0[MAX_PROBLEMS].message.ends_with("more problems are not shown")
    );
}

#[test]
fn hostile_files_are_refused_at_once() {
    let lol = |levels: usize| {
        let mut text = "x-0: &a0 lol\n".to_owned();
        for n in 1..levels {
            let alias = format!("*a{}", n - 1);
            let _ = writeln!(text, "x-{n}: &a{n} [{}]", [alias.as_str(); 9].join(", "));
        }
        text + "services: {a: {image: b}}\n"
    };
    let merges = {
        let keys: String = (0..20_000).map(|n| format!("k{n}: ,")).collect();
        format!("x-a: &a {{{keys}}}\nx-b:\n{}", "- {<<: *a}\n".repeat(50_000))
    };
    let long_text = format!("x-a: &a {}\nx-b: [{}]\n", "y".repeat(100_000), "*a,".repeat(1000));
    let chain: String = (1..20_000).fold("x-0: &a0 [x]\n".to_owned(), |mut text, n| {
        let _ = writeln!(text, "x-{n}: &a{n} [*a{}]", n - 1);
        text
    });
    let deep_block: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    for (what, text, words) in [
        ("billion laughs", lol(30), "once its aliases are expanded"),
        ("merges", merges, "once its aliases are expanded"),
        ("one long text", long_text, "once its aliases are expanded"),
        ("a chain of aliases", chain, "levels deep"),
        ("flow nesting", "[".repeat(MAX_BYTES), "levels deep"),
        ("sequence nesting", "- ".repeat(MAX_BYTES / 2), "levels deep"),
        ("block nesting", deep_block, "levels deep"),
        ("many values", "- a\n".repeat(200_000), "once its aliases are expanded"),
        ("ten megabytes", "a".repeat(10 << 20), "the most is"),
        ("ten megabytes of nesting", "[{".repeat(5 << 20), "the most is"),
    ] {
        let start = Instant::now();
        let errors = read(&text).expect_err(what);
        assert!(
            errors.0.iter().any(|p| p.code == Code::Limit && p.message.contains(words)),
            "{what}: {errors}"
        );
        // Unoptimised and beside other tests; what is meant is "not minutes".
        assert!(start.elapsed().as_secs() < 20, "{what} took {:?}", start.elapsed());
    }
    let fits = format!(
        "x-a: {}1{}\nservices: {{a: {{image: b}}}}\n",
        "[".repeat(MAX_DEPTH - 1),
        "]".repeat(MAX_DEPTH - 1)
    );
    assert!(read(&fits).is_ok());
    let many: String = (0..201).map(|n| format!("  s{n}: {{image: a}}\n")).collect();
    refused(
        read(&format!("services:\n{many}")),
        "c.yaml:1:1: services: the file has 201 services; the most is 200",
    );
}

#[test]
fn what_cannot_be_tried_beside_itself_is_refused_where_that_is_asked_for() {
    let canary = "x-lattice: {update: {strategy: canary}}";
    for (lines, start) in [
        (
            "ports: [\"8080:80\"]",
            "c.yaml:5:17: services.s.x-lattice.update.strategy: a new version cannot run beside the old one (canary): it publishes port 8080",
        ),
        (
            "volumes: [\"data:/data\"]",
            "c.yaml:5:17: services.s.x-lattice.update.strategy: a new version cannot run beside the old one (canary): it writes to the volume data",
        ),
        (
            "restart: \"no\"",
            "c.yaml:5:17: services.s.x-lattice.update.strategy: a new version cannot run beside the old one (canary): it is a job",
        ),
        (
            "deploy: {update_config: {failure_action: continue}}",
            "c.yaml:4:30: services.s.deploy.update_config.failure_action: a canary cannot go on whatever comes of it",
        ),
    ] {
        let mut text = format!("services:\n  s:\n    image: nginx\n    {lines}\n    {canary}\n");
        text.push_str("volumes: {data: {}}\n");
        refused(read(&text), start);
    }
    for (update, start) in [
        (
            "{canary: 0%}",
            "c.yaml:4:34: services.s.x-lattice.update.canary: expected a number of replicas, or a share of them such as `20%`",
        ),
        (
            "{strategy: blue-green, canary: 1}",
            "c.yaml:4:48: services.s.x-lattice.update.canary: it says nothing about an update that is `blue-green`",
        ),
        (
            "{bake: 1m}",
            "c.yaml:4:26: services.s.x-lattice.update.bake: it says nothing about an update that is `rolling`",
        ),
        ("{deadline: 1s}", "c.yaml:4:36: services.s.x-lattice.update.deadline: it is from 10s to 1d"),
        (
            "{strategy: magic}",
            "c.yaml:4:36: services.s.x-lattice.update.strategy: expected `rolling`, `canary` or `blue-green`",
        ),
    ] {
        refused(service(&format!("x-lattice: {{update: {update}}}")), start);
    }
    // A port of the node's choice and a volume that is only read are in nobody's way.
    let fine = "ports: [\"80\", \"8080-8090:81\"]\nx-lattice: {update: {canary: 25%, promote: manual}}";
    let spec = service(fine).unwrap().spec.workloads.into_values().next().unwrap();
    assert_eq!(
        spec.update.on_failure,
        lattice_model::spec::UpdateFailure::Rollback,
        "unless somebody says otherwise"
    );
}

#[test]
fn a_schedule_is_a_jobs_and_has_times() {
    let at = |rest: &str| format!("c.yaml:5:{rest}");
    for (schedule, start) in [
        (
            "0 0 31 2 *",
            at("27: services.s.x-lattice.schedule: it is never due: there is no such date in any year"),
        ),
        ("* * *", at("27: services.s.x-lattice.schedule: it has 3 fields")),
        ("61 * * * *", at("27: services.s.x-lattice.schedule: ")),
        ("*/2 * * * * *", at("27: services.s.x-lattice.schedule: it is due twice within 10s")),
        ("@reboot", at("27: services.s.x-lattice.schedule: \"@reboot\" is no time")),
    ] {
        refused(service(&format!("restart: \"no\"\nx-lattice: {{schedule: \"{schedule}\"}}")), &start);
    }
    for (schedule, start) in [
        ("zone: UTC", at("27: services.s.x-lattice.schedule: it says no times")),
        (
            "cron: \"@daily\", zone: Berlin",
            at("50: services.s.x-lattice.schedule.zone: there is no time zone \"Berlin\""),
        ),
        (
            "cron: \"@daily\", overlap: allow",
            at("53: services.s.x-lattice.schedule.overlap: two runs of a job do not go on"),
        ),
        (
            "cron: \"@daily\", overlap: no",
            at("53: services.s.x-lattice.schedule.overlap: expected `skip` or `replace`"),
        ),
        ("cron: \"@daily\", catch_up: 8d", at("54: services.s.x-lattice.schedule.catch_up: ")),
        (
            "cron: \"@daily\", time_zone: UTC",
            at("44: services.s.x-lattice.schedule.time_zone: Lattice has no key"),
        ),
    ] {
        refused(service(&format!("restart: \"no\"\nx-lattice: {{schedule: {{{schedule}}}}}")), &start);
    }
    refused(
        service("x-lattice: {schedule: \"@daily\"}"),
        "c.yaml:4:17: services.s.x-lattice.schedule: only a job has a schedule",
    );
    refused(
        service("deploy: {mode: global-job}\nx-lattice: {schedule: \"@daily\"}"),
        "c.yaml:5:17: services.s.x-lattice.schedule: what runs once on each node has no schedule",
    );
}
