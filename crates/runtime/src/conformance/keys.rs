//! What the keys of a specification do, observed inside a real container.

use super::Stage;
use crate::{ExecConfig, LogOptions, Runtime, RuntimeError};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_model::{
    Bytes, Duration,
    container::{ContainerId, ContainerMount, ContainerState, MountSource},
    spec::{
        GpuCount, GpuRequest, HostEntry, LogSpec, NamingSpec, ProcessSpec, SandboxSpec, TmpfsSpec, Ulimit,
    },
};
use std::{collections::BTreeSet, sync::Arc};

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// What a script in the container says.
async fn says(stage: &Stage, id: &ContainerId, script: &str) -> String {
    let (out, err, code) = stage.exec(id, &["sh", "-c", script]).await;
    assert_eq!(code, 0, "{script}: {out} {err}");
    out.trim().to_owned()
}

fn tmpfs(target: &str) -> TmpfsSpec {
    TmpfsSpec { target: target.to_owned(), size: None, mode: None, uid: None, gid: None, exec: false }
}

/// User, groups, folder, names and the kernel's favour.
pub async fn a_process_is_who_it_should_be(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut config = stage.config("a", &SLEEP);
        config.process = ProcessSpec {
            user: Some("1234:5678".to_owned()),
            groups: vec!["4321".to_owned()],
            working_dir: Some("/var/tmp".to_owned()),
            hostname: Some("attic".to_owned()),
            domainname: Some("example.org".to_owned()),
            oom_score_adj: Some(500),
            ..ProcessSpec::default()
        };
        let id = stage.start(&config).await;
        assert_eq!(says(stage, &id, "id -u; id -g").await, "1234\n5678");
        let groups = says(stage, &id, "id -G").await;
        assert!(groups.split(' ').any(|group| group == "4321"), "{groups}");
        assert_eq!(says(stage, &id, "pwd; readlink /proc/1/cwd").await, "/var/tmp\n/var/tmp");
        assert_eq!(says(stage, &id, "hostname").await, "attic");
        assert_eq!(says(stage, &id, "cat /proc/sys/kernel/domainname").await, "example.org");
        assert_eq!(says(stage, &id, "cat /proc/1/oom_score_adj").await, "500");
        let config = ExecConfig {
            argv: vec!["pwd".to_owned()],
            workdir: Some("/etc".to_owned()),
            ..ExecConfig::default()
        };
        let session = stage.runtime.exec(&id, config).await.unwrap();
        let said: Vec<_> = session.output.try_collect().await.unwrap();
        let said: Vec<u8> = said.into_iter().flat_map(|chunk| chunk.bytes).collect();
        assert_eq!(String::from_utf8(said).unwrap(), "/etc\n", "a command may begin elsewhere");
    })
    .await;
}

/// Whoever asks for an init gets one, or hears that the engine has none.
pub async fn an_init_reaps(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let with = |what: &str, init: bool| {
            let mut config = stage.config(what, &SLEEP);
            config.process.init = init;
            config
        };
        let without = stage.start(&with("without", false)).await;
        assert_eq!(says(stage, &without, "cat /proc/1/comm").await, "sleep");
        let started = match stage.runtime.create(&with("with", true)).await {
            Ok(id) => stage.runtime.start(&id).await.map(|()| id),
            Err(error) => Err(error),
        };
        match started {
            Ok(id) => {
                let first = says(stage, &id, "cat /proc/1/comm").await;
                assert!(first.contains("init") || first.contains("catatonit"), "process 1 is {first}");
                let zombie = "sh -c 'sh -c : &'; sleep 0.2; ! grep -l '^State:.Z' /proc/[0-9]*/status";
                says(stage, &id, zombie).await;
            }
            Err(RuntimeError::Refused { message, .. }) => assert!(message.contains("init"), "{message}"),
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
}

/// The root cannot be written, what lies in memory can, up to its size.
pub async fn a_read_only_root_has_places_to_write(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut config = stage.config("a", &SLEEP);
        config.sandbox = SandboxSpec {
            read_only: true,
            tmpfs: vec![
                tmpfs("/all"),
                TmpfsSpec {
                    size: Some(Bytes::from_mib(4)),
                    mode: Some(0o750),
                    uid: Some(12),
                    gid: Some(34),
                    exec: true,
                    ..tmpfs("/small")
                },
            ],
            shm_size: Some(Bytes::from_mib(8)),
            ..SandboxSpec::default()
        };
        let id = stage.start(&config).await;
        assert_eq!(says(stage, &id, "touch /x 2>/dev/null || echo no").await, "no");
        assert_eq!(says(stage, &id, "touch /all/x && echo yes").await, "yes");
        let size = async |path: &str| {
            let script = format!("df -k {path} | tail -n1 | awk '{{print $2}}'");
            says(stage, &id, &script).await.parse::<u64>().unwrap() * 1024
        };
        assert_eq!(Bytes(size("/small").await), Bytes::from_mib(4));
        assert_eq!(Bytes(size("/all").await), config.memory_limit, "never more than its memory");
        assert_eq!(Bytes(size("/dev/shm").await), Bytes::from_mib(8));
        assert_eq!(says(stage, &id, "stat -c '%a %u %g' /small").await, "750 12 34");
        let run = |dir: &str| {
            format!("cp /bin/true {dir}/true 2>/dev/null; {dir}/true 2>/dev/null && echo ran || echo no")
        };
        assert_eq!(says(stage, &id, &run("/all")).await, "no", "nothing is run from memory unless it may");
        assert_eq!(says(stage, &id, &run("/small")).await, "ran");
    })
    .await;
}

/// Limits and settings of the kernel, of this container alone.
pub async fn kernel_limits_and_settings_hold(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut config = stage.config("a", &SLEEP);
        config.networks = [(stage.network("net").await, BTreeSet::new())].into();
        config.sandbox.ulimits = [
            ("nofile".to_owned(), Ulimit { soft: 123, hard: 456 }),
            ("core".to_owned(), Ulimit { soft: 0, hard: 0 }),
        ]
        .into();
        config.sandbox.sysctls =
            [("net.core.somaxconn", "777"), ("kernel.msgmax", "4321"), ("fs.mqueue.msg_max", "9")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let id = stage.start(&config).await;
        let plain = stage.start(&stage.config("plain", &SLEEP)).await;
        assert_eq!(says(stage, &id, "ulimit -Sn; ulimit -Hn; ulimit -c").await, "123\n456\n0");
        let settings = "cd /proc/sys; cat net/core/somaxconn kernel/msgmax fs/mqueue/msg_max";
        assert_eq!(says(stage, &id, settings).await, "777\n4321\n9");
        let others = says(stage, &plain, settings).await;
        assert!(!others.contains("777") && !others.contains("4321"), "{others}");
    })
    .await;
}

/// Lines of `/etc/hosts` and of `/etc/resolv.conf`.
pub async fn names_are_found_as_told(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut config = stage.config("a", &SLEEP);
        config.networks = [(stage.network("net").await, BTreeSet::new())].into();
        let host = |name: &str, address: &str| HostEntry {
            name: name.to_owned(),
            address: address.parse().unwrap(),
        };
        config.naming = NamingSpec {
            hosts: vec![host("db.example", "192.0.2.7"), host("six.example", "2001:db8::7")],
            servers: vec!["192.0.2.53".parse().unwrap()],
            search: vec!["corp.example".to_owned()],
            options: vec!["ndots:3".to_owned()],
        };
        let id = stage.start(&config).await;
        let hosts = says(stage, &id, "cat /etc/hosts").await;
        for (address, name) in [("192.0.2.7", "db.example"), ("2001:db8::7", "six.example")] {
            let line = hosts.lines().find(|line| line.split_whitespace().any(|word| word == name));
            assert!(line.is_some_and(|line| line.starts_with(address)), "{hosts}");
        }
        let resolver = says(stage, &id, "cat /etc/resolv.conf").await;
        let has = |key: &str, value: &str| {
            resolver
                .lines()
                .any(|line| line.starts_with(key) && line.split_whitespace().any(|word| word == value))
        };
        assert!(has("search", "corp.example") && has("options", "ndots:3"), "{resolver}");
        // On a network the engine answers itself, and asks these servers for what it does not know.
        assert!(
            has("nameserver", "192.0.2.53")
                || has("nameserver", "127.0.0.11")
                || resolver.contains("192.0.2.53")
        );
        let mut lonely = stage.config("lonely", &SLEEP);
        lonely.naming.servers = config.naming.servers.clone();
        let lonely = stage.start(&lonely).await;
        says(stage, &lonely, "true").await;
    })
    .await;
}

/// The signal that was asked for, and no other.
pub async fn a_stop_sends_its_signal(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let script = "trap 'exit 7' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done";
        let mut config = stage.config("a", &["sh", "-c", script]);
        config.process.stop_signal = Some("SIGUSR1".to_owned());
        let id = stage.start(&config).await;
        stage.says(&id, "ready").await;
        stage.runtime.stop(&id, Duration::from_secs(60)).await.unwrap();
        let seen = stage.listed(&id).await.unwrap();
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(9)));
    })
    .await;
}

/// However much it says, no more than the bound is kept, and that is the end of it.
pub async fn output_is_bounded(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        // Some 8 MB of lines of 80 characters.
        let script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678 | head -n 100000; echo end";
        let mut config = stage.config("a", &["sh", "-c", script]);
        config.logs = LogSpec { max_size: Some(Bytes(64 << 10)), max_files: Some(2) };
        let id = stage.start(&config).await;
        assert_eq!(stage.ended(&id).await.exit_code, Some(0));
        let mut logs = stage.runtime.logs(&id, LogOptions::default()).await.unwrap();
        let (mut kept, mut last) = (0, Vec::new());
        while let Some(chunk) = logs.next().await {
            let bytes = chunk.unwrap().bytes;
            kept += bytes.len();
            last = bytes.to_vec();
        }
        assert!(kept <= 128 << 10, "{kept} bytes are kept");
        assert!(last.ends_with(b"end\n"), "the end is kept");
    })
    .await;
}

/// Its own terminal, whose output comes as it is; and an input that stays open.
pub async fn a_container_may_have_a_terminal(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let script =
            r"[ -t 0 ] && [ -t 1 ] && printf '\001\000\000\000\000\000\000\005 terminal\n'; sleep 1000";
        let mut config = stage.config("a", &["sh", "-c", script]);
        config.process.tty = true;
        let id = stage.start(&config).await;
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut logs = stage.runtime.logs(&id, options).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"terminal\r\n") {
            said.extend_from_slice(&logs.next().await.expect("it goes on").expect("output").bytes);
        }
        assert_eq!(said, b"\x01\0\0\0\0\0\0\x05 terminal\r\n");

        let mut closed = stage.config("closed", &["cat"]);
        let id = stage.start(&closed).await;
        assert_eq!(stage.ended(&id).await.exit_code, Some(0), "no input is an end of input");
        (closed.name, closed.process.stdin_open) = (stage.name("open"), true);
        let id = stage.start(&closed).await;
        says(stage, &id, "true").await;
        assert_eq!(stage.listed(&id).await.unwrap().state, ContainerState::Running);
    })
    .await;
}

/// A folder of the node that came with the deployment: read, and never written.
pub async fn a_tree_is_read_only(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let dir = std::env::temp_dir().join(stage.name("tree"));
        std::fs::create_dir_all(dir.join("conf.d")).unwrap();
        std::fs::write(dir.join("conf.d/site"), "listen 80").unwrap();
        let mount = |path: &std::path::Path, target: &str| ContainerMount {
            source: MountSource::Tree(path.to_str().unwrap().to_owned()),
            target: target.to_owned(),
            read_only: false,
        };
        let mut config = stage.config("a", &SLEEP);
        config.mounts = vec![mount(&dir, "/etc/app"), mount(&dir.join("conf.d/site"), "/site")];
        let id = stage.start(&config).await;
        let seen = says(stage, &id, "cat /etc/app/conf.d/site /site; touch /etc/app/x 2>/dev/null || echo; echo x 2>/dev/null >/site || echo no").await;
        stage.runtime.remove(&id, true).await.unwrap();
        let untouched = !dir.join("x").exists() && std::fs::read(dir.join("conf.d/site")).unwrap() == b"listen 80";
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(seen, "listen 80listen 80\nno");
        assert!(untouched);
    })
    .await;
}

/// An image that is there for one platform is not taken for another's.
pub async fn a_platform_is_heeded(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let own = stage.runtime.info().await.unwrap().arch;
        let other = if own == "arm64" { "amd64" } else { "arm64" };
        let mut config = stage.config("a", &SLEEP);
        config.platform = Some(format!("linux/{other}"));
        match stage.runtime.create(&config).await {
            Err(RuntimeError::ImageMissing { image, .. }) => {
                assert!(image.contains(&config.image), "{image}")
            }
            other => panic!("{other:?}"),
        }
        config.platform = Some(format!("linux/{own}"));
        let id = stage.start(&config).await;
        says(stage, &id, "true").await;
    })
    .await;
}

/// Whoever needs a GPU gets one, or hears that there is none; it never runs without.
pub async fn a_gpu_is_given_or_refused(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut config = stage.config("a", &SLEEP);
        config.gpus = Some(GpuRequest {
            capabilities: ["utility".to_owned()].into(),
            ..GpuRequest::any(GpuCount::Exactly(1))
        });
        let started = match stage.runtime.create(&config).await {
            Ok(id) => stage.runtime.start(&id).await.map(|()| id),
            Err(error) => Err(error),
        };
        match started {
            Ok(id) => assert_eq!(says(stage, &id, "ls /dev/nvidiactl").await, "/dev/nvidiactl"),
            Err(RuntimeError::Refused { message, .. }) => {
                assert!(message.contains("device driver") || message.contains("gpu"), "{message}");
            }
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
}
