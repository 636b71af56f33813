//! Several files: `-f`, overrides, `include`, `extends`, `env_file`, profiles, names.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use lattice_compose::{Code, ComposeErrors, Loaded, Options, Source, TreeContent, load};
use lattice_model::spec::WorkloadSpec;
use std::{fmt::Write as _, time::Instant};
use support::Disk;

const BASE: &str = "\
services:
  web:
    image: nginx:1
    command: one
    environment: {A: base, B: base}
    labels: [x=base, y=base]
    ports: [\"80:80\", \"443:443\"]
    volumes: [\"data:/data\", \"logs:/logs\"]
    depends_on: [db]
    networks: [front]
    healthcheck: {test: one, interval: 1s}
    cap_add: [CHOWN]
    dns: 1.1.1.1
    logging: {driver: local, options: {max-size: 1m}}
    build: ./app
    ulimits: {nofile: {soft: 1, hard: 2}}
  db: {image: postgres}
volumes: {data: , logs: , other: }
networks: {front: , back: }
";

fn disk() -> Disk {
    Disk::of(&[("app/Dockerfile", "FROM scratch")])
}

fn try_with(files: &[&str], disk: &Disk, change: impl Fn(&mut Options<'_>)) -> Result<Loaded, ComposeErrors> {
    let names: Vec<String> = (0..files.len()).map(|n| format!("f{n}.yaml")).collect();
    let sources: Vec<_> =
        files.iter().zip(&names).map(|(text, name)| Source { name, text: text.as_bytes() }).collect();
    let mut options = Options { fallback_name: Some("test"), ..Options::new(&|_| None) };
    change(&mut options);
    load(&sources, &options, disk)
}

fn web(files: &[&str]) -> WorkloadSpec {
    let mut loaded = try_with(files, &disk(), |_| {}).unwrap();
    loaded.spec.workloads.remove("web").unwrap()
}

#[track_caller]
fn refused(outcome: Result<Loaded, ComposeErrors>, start: &str) {
    let errors = outcome.expect_err(start);
    assert!(errors.0.iter().any(|p| p.to_string().starts_with(start)), "wanted {start}\nfound\n{errors}");
}

#[test]
fn the_later_file_counts_by_the_rules_of_each_key() {
    let over = "\
services:
  web:
    image: nginx:2
    command: [two]
    environment: [B=over, C=over]
    labels: {y: over}
    ports: [\"443:443\", \"8080:80\"]
    volumes: [\"other:/data\"]
    depends_on: {cache: {condition: service_healthy}}
    networks: {back: {aliases: [w]}}
    healthcheck: {test: [CMD, two]}
    cap_add: [KILL, CHOWN]
    dns: [8.8.8.8, 1.1.1.1]
    logging: {options: {max-file: 2}}
    build: {target: prod}
    ulimits: {nofile: 5}
  cache: {image: redis}
";
    let loaded = try_with(&[BASE, over], &disk(), |_| {}).unwrap();
    let web = &loaded.spec.workloads["web"];
    assert_eq!(web.command.as_deref(), Some(&["two".to_owned()][..]));
    let environment: Vec<_> = web.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(environment, ["A=base", "B=over", "C=over"]);
    assert_eq!((web.labels["x"].as_str(), web.labels["y"].as_str()), ("base", "over"));
    let ports: Vec<_> = web.ports.iter().map(|p| (p.published.unwrap(), p.target.port)).collect();
    assert_eq!(ports, [(80, 80), (443, 443), (8080, 80)]);
    let mounts: Vec<_> = web.mounts.iter().map(|m| format!("{}:{}", m.volume, m.target)).collect();
    assert_eq!(mounts, ["logs:/logs", "other:/data"]);
    assert_eq!(web.depends_on.len(), 2);
    assert_eq!(web.networks.len(), 2);
    assert!(web.networks["back"].aliases.contains("w"));
    let health = web.healthcheck.as_ref().unwrap();
    assert_eq!((health.test.join(" "), health.interval.map(|d| d.0)), ("CMD two".into(), Some(1000)));
    assert_eq!(web.sandbox.cap_add.len(), 2);
    assert_eq!(web.naming.servers.len(), 2);
    assert_eq!((web.logs.max_size.map(|b| b.0), web.logs.max_files), (Some(1 << 20), Some(2)));
    let build = &loaded.builds["web"];
    assert_eq!((build.context.as_str(), build.options.join(" ")), ("app", "--target prod".into()));
    assert_eq!((web.sandbox.ulimits["nofile"].soft, web.sandbox.ulimits["nofile"].hard), (5, 5));
    // Another driver's options do not mix.
    let web = self::web(&[BASE, "services: {web: {logging: {driver: json-file}}}"]);
    assert_eq!(web.logs.max_size, None);
}

#[test]
fn tags_reset_and_replace() {
    let over = "\
services:
  web:
    ports: !reset []
    volumes: !override [\"other:/o\"]
    environment: {A: !reset null}
    command: !reset null
  db: !reset null
  new: {image: x, command: !reset a}
";
    let base = BASE.replace("    depends_on: [db]\n", "");
    let loaded = try_with(&[&base, over], &disk(), |_| {}).unwrap();
    let web = &loaded.spec.workloads["web"];
    assert!(web.ports.is_empty() && web.command.is_none());
    assert_eq!(web.mounts.len(), 1);
    assert_eq!(web.environment.len(), 1);
    assert!(!loaded.spec.workloads.contains_key("db"));
    assert_eq!(loaded.spec.workloads["new"].command, None);
}

#[test]
fn problems_name_the_file_that_they_stand_in() {
    refused(
        try_with(&[BASE, "services:\n  web:\n    privileged: true\n"], &disk(), |_| {}),
        "f1.yaml:3:5: services.web.privileged: not supported",
    );
    refused(
        try_with(&[BASE, "services: {web: {image: [a]}}"], &disk(), |_| {}),
        "f1.yaml:1:25: services.web.image",
    );
    refused(try_with(&[BASE, "a: [\n"], &disk(), |_| {}), "f1.yaml:2:1: this is no YAML");
}

#[test]
fn a_service_extends_another() {
    let text = "\
services:
  base: {image: a, environment: {A: base}, user: me}
  mid: {extends: {service: base}, environment: {B: mid}}
  top: {extends: mid, image: b}
  far: {extends: {file: sub/more.yaml, service: x}}
";
    let disk = Disk::of(&[
        (
            "sub/more.yaml",
            "services:\n  x: {extends: y, volumes: [\"./conf:/conf:ro\"]}\n  y: {image: y, env_file: y.env, build: {context: ../app}}\n",
        ),
        ("sub/conf/a", ""),
        ("sub/y.env", "Y=1"),
        ("app/Dockerfile", ""),
    ]);
    let loaded = try_with(&[text], &disk, |_| {}).unwrap();
    let top = &loaded.spec.workloads["top"];
    assert_eq!((top.image.as_str(), top.process.user.as_deref()), ("b", Some("me")));
    assert_eq!(top.environment.len(), 2);
    assert_eq!(loaded.spec.workloads["far"].environment["Y"], "1");
    assert_eq!(loaded.builds["far"].context, "app");
    assert_eq!(loaded.trees[0].content, TreeContent::Folder("sub/conf".into()));
    for (text, start) in [
        (
            "services: {a: {extends: b}, b: {extends: a}}",
            "f0.yaml:1:25: services.a.extends: services extend each other in a circle: b → a → b",
        ),
        (
            "services: {a: {extends: a}}",
            "f0.yaml:1:25: services.a.extends: services extend each other in a circle",
        ),
        (
            "services: {web: {image: a}, a: {extends: wbe}}",
            "f0.yaml:1:42: services.a.extends: there is no service `wbe` in this file to extend. Did you mean `web`?",
        ),
        (
            "services: {a: {extends: {file: none.yaml, service: b}}}",
            "f0.yaml:1:25: services.a.extends: there is no file ./none.yaml",
        ),
        (
            "services: {a: {extends: {service: b, from: c}}}",
            "f0.yaml:1:38: services.a.extends.from: Compose has no key",
        ),
        ("services: {a: {extends: {}}}", "f0.yaml:1:25: services.a.extends: it does not name a service"),
    ] {
        refused(try_with(&[text], &disk, |_| {}), start);
    }
    // An override may extend what the file below it has.
    assert_eq!(
        web(&[BASE, "services: {web: {user: me}, w: {extends: db}}"]).process.user.as_deref(),
        Some("me")
    );
}

#[test]
fn files_are_included() {
    let disk = Disk::of(&[
        (
            "a/compose.yaml",
            "include: [../b/compose.yaml]\nservices: {a: {image: \"a:${TAG}\", env_file: a.env}}\n",
        ),
        ("a/.env", "TAG=from-env"),
        ("a/a.env", "A=$TAG"),
        ("b/compose.yaml", "services: {b: {image: \"b:${TAG:-none}\"}}\nvolumes: {v: }\n"),
        ("loop.yaml", "include: [loop.yaml]\nservices: {l: {image: l}}\n"),
        ("other.yaml", "services: {s: {image: other}}\n"),
        ("x.env", "TAG=x"),
    ]);
    let text =
        "include: [a/compose.yaml]\nservices: {s: {image: s, depends_on: [a, b], volumes: [\"v:/v\"]}}\n";
    let loaded = try_with(&[text], &disk, |_| {}).unwrap();
    let image = |name: &str| loaded.spec.workloads[name].image.clone();
    assert_eq!((image("a"), image("b")), ("a:from-env".into(), "b:from-env".into()));
    assert_eq!(loaded.spec.workloads["a"].environment["A"], "from-env");
    let text = "include: [{path: a/compose.yaml, env_file: x.env, project_directory: a}]\nservices: {s: {image: s}}\n";
    let loaded = try_with(&[text], &disk, |_| {}).unwrap();
    assert_eq!(loaded.spec.workloads["a"].image, "a:x");
    for (text, start) in [
        ("include: [loop.yaml]", "loop.yaml:1:11: include[0]: ./loop.yaml includes itself"),
        ("include: [none.yaml]", "f0.yaml:1:11: include[0]: there is no file ./none.yaml"),
        ("include: [{paths: a}]", "f0.yaml:1:12: include[0].paths: Compose has no key `paths` here"),
        ("include: a", "f0.yaml:1:10: include: expected a list"),
        (
            "include: [\"https://x.example/y.git\"]",
            "f0.yaml:1:11: include[0]: not supported: files are not fetched",
        ),
        (
            "include: [other.yaml]\nservices: {s: {image: mine}}",
            "f0.yaml:1:11: include[0]: the included file declares services.s as well, on line 1 of it",
        ),
    ] {
        refused(try_with(&[text], &disk, |_| {}), start);
    }
}

#[test]
fn profiles_choose() {
    let text = "services: {a: {image: a}, b: {image: b, profiles: [x, y], privileged: true}, c: {image: c, profiles: [z], depends_on: [b]}}";
    let names = |profiles: &[&str]| {
        let profiles: Vec<String> = profiles.iter().map(|p| (*p).to_owned()).collect();
        let source = Source { name: "f0.yaml", text: text.as_bytes() };
        let options = Options { fallback_name: Some("test"), profiles: &profiles, ..Options::new(&|_| None) };
        load(&[source], &options, &Disk::default())
            .map(|l| l.spec.workloads.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(&[]).unwrap(), "a");
    assert!(names(&["y"]).unwrap_err().to_string().contains("privileged"));
    assert!(
        names(&["z"]).unwrap_err().to_string().contains(
            "the service `b` is in a profile that is not selected. Select it by `--profile x`, or write `required: false`"
        )
    );
    refused(
        try_with(&["services: {b: {image: b, profiles: [x]}}"], &Disk::default(), |_| {}),
        "f0.yaml:1:1: services: every service is in a profile that is not selected: x. Select one by `--profile NAME`",
    );
}

#[test]
fn files_of_variables() {
    let disk = Disk::of(&[
        ("one.env", "A=1\nB=${A}2\nexport C='x y'\n"),
        ("two.env", "A=two\n# comment\nSHELL_ONLY\n"),
        ("raw.env", "R=\"as $it is\"\n"),
        ("bad.env", "fine=1\nwhat is this\n"),
        ("labels.env", "com.example=1\nlattice.x=2\n"),
    ]);
    let read = |lines: &str| {
        let text = format!("services:\n  s:\n    image: a\n    {lines}\n");
        try_with(&[&text], &disk, |o| o.variables = &|name| (name == "SHELL_ONLY").then(|| "shell".into()))
    };
    let loaded = read("env_file: [one.env, ./two.env, {path: raw.env, format: raw}, {path: no.env, required: false}]\n    environment: {A: last, B: }").unwrap();
    let s = &loaded.spec.workloads["s"];
    let all: Vec<_> = s.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(all, ["A=last", "C=x y", "R=\"as $it is\"", "SHELL_ONLY=shell"]);
    for (lines, start) in [
        ("env_file: no.env", "f0.yaml:4:15: services.s.env_file: there is no file ./no.env"),
        ("env_file: bad.env", "bad.env:2:1: the line is neither"),
        ("env_file: [{required: false}]", "f0.yaml:4:16: services.s.env_file[0]: the file has no `path`"),
        (
            "env_file: [{path: raw.env, format: xml}]",
            "f0.yaml:4:40: services.s.env_file[0].format: expected `raw`",
        ),
        (
            "label_file: labels.env",
            "f0.yaml:4:17: services.s.label_file.lattice.x: the label lattice.x is refused",
        ),
    ] {
        refused(read(lines), start);
    }
}

#[test]
fn what_binds_become() {
    let mut disk = Disk::of(&[("conf/a", ""), ("one.conf", ""), ("sub/deep/f", "")]);
    disk.empty.insert("data".into());
    disk.outside.insert("link".into());
    let read = |mounts: &str| {
        let text = format!("services:\n  s:\n    image: a\n    volumes: [{mounts}]\n");
        try_with(&[&text], &disk, |o| o.folder = Some("/home/me/p"))
    };
    let volumes = |mounts: &str| {
        let loaded = read(mounts).unwrap();
        let s = &loaded.spec.workloads["s"];
        let volumes: Vec<_> = s.mounts.iter().map(|m| format!("{}:{}", m.volume, m.target)).collect();
        let trees: Vec<_> = loaded.trees.iter().map(|t| format!("{:?}", t.content)).collect();
        (volumes.join(" "), trees.join(" "), loaded.warnings.len())
    };
    for (mounts, kept, trees, warnings) in [
        ("./conf:/c:ro", "", "folder ./conf", 0),
        ("./conf:/c", "", "folder ./conf", 1),
        ("/home/me/p/conf:/c:ro", "", "folder ./conf", 0),
        ("./one.conf:/etc/one.conf:ro", "", "file ./one.conf", 0),
        ("./data:/d", "data:/d", "", 1),
        ("./data:/d:ro", "", "folder ./data", 0),
        ("./none:/d", "none:/d", "", 1),
        ("/anon", "s-anon:/anon", "", 1),
        ("{type: bind, source: ./sub/deep, target: /x, read_only: true}", "", "folder ./sub/deep", 0),
        ("./none:/d, \"./none:/e:ro\"", "none:/d none:/e", "", 2),
    ] {
        assert_eq!(volumes(mounts), (kept.to_owned(), trees.to_owned(), warnings), "{mounts}");
    }
    for (mounts, words) in [
        ("./none:/d:ro", "there is no ./none to mount"),
        ("./none.conf:/etc/none.conf", "there is no ./none.conf to mount"),
        (
            "{type: bind, source: ./none, target: /x, bind: {create_host_path: false}}",
            "there is no ./none to mount",
        ),
        ("./link:/x", "reached by a symbolic link that leads out"),
        ("../x:/x", "outside of the project's folder"),
        ("~/x:/x", "outside of the project's folder"),
        ("/srv/x:/x", "is a path of the host"),
        ("/etc/passwd:/x:ro", "belongs to the computer"),
        ("/dev/dri:/dev/dri", "belongs to the devices"),
        ("/var/run/docker.sock:/var/run/docker.sock", "the engine's socket"),
        ("{type: bind, source: ./conf, target: /x, bind: {propagation: rshared}}", "do not spread"),
        ("./conf:/a, \"./data:/a\"", "is mounted twice"),
    ] {
        let errors = read(mounts).expect_err(mounts).to_string();
        assert!(errors.contains(words), "{mounts}: {errors}");
    }
    assert_eq!(read("/etc/localtime:/etc/localtime:ro").unwrap().warnings.len(), 1);
}

#[test]
fn secrets_and_configs_come_with_their_origin() {
    let disk = Disk::of(&[("pw.txt", "hush"), ("empty.txt", ""), ("a.conf", "x")]);
    let read = |grants: &str, top: &str| {
        let text = format!("services:\n  s:\n    image: a\n    {grants}\n{top}\n");
        try_with(&[&text], &disk, |o| o.variables = &|name| (name == "PW").then(|| "var".into()))
    };
    let loaded = read(
        "secrets: [a, {source: b, target: b.txt, mode: 0400, uid: \"5\"}, c, d]",
        "secrets: {a: {file: pw.txt}, b: {environment: PW}, c: {external: true}, d: {external: {name: old}}, unused: {file: none}}",
    )
    .unwrap();
    let s = &loaded.spec.workloads["s"];
    let mounts: Vec<_> =
        s.secrets.iter().map(|m| format!("{}@{} {:o}", m.secret, m.target, m.mode)).collect();
    assert_eq!(
        mounts,
        [
            "test_a@/run/secrets/a 444",
            "test_b@/run/secrets/b.txt 400",
            "c@/run/secrets/c 444",
            "old@/run/secrets/d 444"
        ]
    );
    let sources: Vec<_> = loaded.secrets.iter().map(|s| format!("{} {}", s.name, s.from)).collect();
    assert_eq!(sources, ["test_a ./pw.txt", "test_b $PW"]);
    assert_eq!(loaded.secrets[0].value, b"hush");
    assert!(!format!("{loaded:?}").contains("hush"));
    let mut loaded = read(
        "configs: [f, {source: i, target: /etc/i}]",
        "configs: {f: {file: a.conf}, i: {content: \"x=${PW}\"}}",
    )
    .unwrap();
    let at = |name: &str| loaded.trees.iter().position(|t| t.content.entry() == name).unwrap();
    let (file, inline) = (at("a.conf"), at("i"));
    assert!(matches!(&loaded.trees[inline].content, TreeContent::Inline { text, .. } if text == b"x=var"));
    let digest = lattice_model::spec::TreeDigest::of(b"x");
    loaded.place_tree(file, digest);
    let trees = &loaded.spec.workloads["s"].trees;
    assert_eq!((trees[0].path.as_str(), trees[0].target.as_str()), ("a.conf", "/f"));
    for (grants, top, start) in [
        (
            "secrets: [x]",
            "secrets: {y: {file: pw.txt}}",
            "f0.yaml:4:15: services.s.secrets[0]: there is no secret `x`",
        ),
        ("secrets: [x]", "secrets: {x: {file: no}}", "f0.yaml:5:11: secrets.x: there is no file ./no"),
        (
            "secrets: [x]",
            "secrets: {x: {file: empty.txt}}",
            "f0.yaml:5:11: secrets.x: the value of the secret",
        ),
        (
            "secrets: [x]",
            "secrets: {x: {environment: NO}}",
            "f0.yaml:5:28: secrets.x.environment: the variable NO",
        ),
        (
            "secrets: [x]",
            "secrets: {x: {}}",
            "f0.yaml:5:11: secrets.x: it does not say where its value comes from",
        ),
        ("secrets: [x]", "secrets: {x: {driver: vault}}", "f0.yaml:5:15: secrets.x.driver: not supported"),
        ("configs: [x]", "configs: {x: {external: true}}", "f0.yaml:5:15: configs.x.external: not supported"),
        (
            "configs: [x]",
            "configs: {x: {file: a, content: b}}",
            "f0.yaml:5:11: configs.x: `file` and `content` exclude",
        ),
    ] {
        refused(read(grants, top), start);
    }
}

#[test]
fn names_are_chosen_in_order() {
    let name = |text: &str, given: Option<&'static str>, variable: bool| {
        try_with(&[text], &Disk::default(), |o| {
            o.name = given;
            if variable {
                o.variables = &|name| (name == "COMPOSE_PROJECT_NAME").then(|| "variable".into());
            }
        })
        .unwrap()
        .name
        .to_string()
    };
    let named = "name: file\nservices: {a: {image: \"a:${COMPOSE_PROJECT_NAME}\"}}";
    assert_eq!(name(named, Some("given"), true), "given");
    assert_eq!(name(named, None, true), "variable");
    assert_eq!(name(named, None, false), "file");
    assert_eq!(name("services: {a: {image: a}}", None, false), "test");
    let two = try_with(&[named, "name: later"], &Disk::default(), |_| {}).unwrap();
    assert_eq!((two.name.as_str(), two.spec.workloads["a"].image.as_str()), ("later", "a:later"));
}

#[test]
fn what_multiplies_is_refused_at_once() {
    let large: String = (0..20_000).fold(String::new(), |mut text, n| {
        let _ = write!(text, "k{n}: v, ");
        text
    });
    let mut extends = format!("services:\n  big: {{image: a, environment: {{{large}}}}}\n");
    for n in 0..2000 {
        let _ = writeln!(extends, "  s{n}: {{extends: big, environment: {{x: y}}}}");
    }
    let chain: String = (0..500).map(|n| format!("  s{n}: {{extends: s{}}}\n", n + 1)).collect();
    let mut disk = Disk::default();
    for n in 0..300 {
        disk.files.insert(format!("i{n}.yaml"), format!("include: [i{}.yaml]", n + 1).into_bytes());
        disk.files.insert(format!("e{n}.env"), b"A=1".to_vec());
    }
    let many: String = (0..300).map(|n| format!("e{n}.env, ")).collect();
    for (what, text, words) in [
        ("extends", extends, "once they are put together"),
        ("a chain", format!("services:\n{chain}"), "in a row"),
        ("includes", "include: [i0.yaml]\nservices: {a: {image: a}}".to_owned(), "in a row"),
        ("files", format!("services: {{a: {{image: a, env_file: [{many}]}}}}"), "more than 200 files"),
    ] {
        let start = Instant::now();
        let errors = try_with(&[&text], &disk, |_| {}).expect_err(what);
        assert!(
            errors.0.iter().any(|p| p.code == Code::Limit && p.message.contains(words)),
            "{what}: {errors}"
        );
        assert!(start.elapsed().as_secs() < 20, "{what} took {:?}", start.elapsed());
    }
}

/// What a file wants of the computer that it stands on, each with its place, is refused elsewhere.
#[test]
fn a_text_alone_is_refused_what_is_on_another_computer() {
    let text = "\
include: [other.yaml]
services:
  web:
    image: nginx:1
    env_file: [{path: web.env, required: false}]
    volumes: [\"./site:/site\", \"data:/data\"]
    configs: [conf]
    secrets: [token, given, kept]
  made: {build: ./app}
  both: {image: \"b:1\", build: ./app}
  more: {extends: {file: base.yaml, service: x}}
volumes: {data: }
configs: {conf: {content: hello}}
secrets: {token: {file: ./token}, given: {environment: TOKEN}, kept: {external: true}}
";
    let errors = try_with(&[text], &disk(), |options| options.local = false).expect_err("refused");
    let mut found = String::new();
    for problem in &errors.0 {
        writeln!(found, "{problem}").unwrap();
    }
    for start in
        ["f0.yaml:1:", "f0.yaml:5:", "f0.yaml:6:", "f0.yaml:9:", "f0.yaml:11:", "f0.yaml:13:", "f0.yaml:14:"]
    {
        let line =
            found.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{found}"));
        assert!(line.contains("not supported here: "), "{line}");
    }
    assert!(!found.contains("secrets.kept") && !found.contains("f0.yaml:10:"), "{found}");
}

#[test]
fn a_text_alone_is_read_as_far_as_it_goes() {
    let text = "\
name: shop
services:
  web: {image: \"nginx:$TAG\", build: ./app, volumes: [\"data:/data\"], secrets: [kept]}
volumes: {data: }
secrets: {kept: {external: true}}
";
    let tag = |name: &str| (name == "TAG").then(|| "1".to_owned());
    let options = Options { local: false, ..Options::new(&tag) };
    let file = Source { name: "compose.yaml", text: text.as_bytes() };
    let loaded = load(&[file], &options, &lattice_compose::NoFiles).unwrap();
    let web = &loaded.spec.workloads["web"];
    assert_eq!((web.image.as_str(), web.secrets.len(), loaded.builds.len()), ("nginx:1", 1, 0));
}
