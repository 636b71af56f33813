//! What needs a real container.

use super::{Stage, stage::alias};
use crate::{EngineEventKind, ExecConfig, LogChunk, LogStream, Runtime, RuntimeError, TerminalSize};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_model::{
    Bytes,
    container::{ContainerId, ContainerMount, MountSource},
    report::PublishedPort,
    spec::{ContainerPort, Protocol},
};
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const SERVE: [&str; 3] =
    ["sh", "-c", "mkdir -p /srv; echo here I am >/srv/index.html; httpd -f -p 80 -h /srv"];

/// One container on two networks answers to its alias on each, to those who are there.
pub async fn names_resolve_on_each_network(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let (front, back) = (stage.network("front").await, stage.network("back").await);
        let mut web = stage.config("web", &SERVE);
        web.networks = [(front.clone(), alias("web")), (back.clone(), alias("api"))].into();
        stage.start(&web).await;
        let mut client = stage.config("client", &["sleep", "1000"]);
        client.networks = [(front, BTreeSet::new()), (back.clone(), BTreeSet::new())].into();
        let client = stage.start(&client).await;
        let mut lonely = stage.config("lonely", &["sleep", "1000"]);
        lonely.networks = [(back, BTreeSet::new())].into();
        let lonely = stage.start(&lonely).await;
        let fetch = async |from: &ContainerId, name: &str| {
            let url = format!("http://{name}/");
            // The server may take a moment to listen.
            let script = "for i in $(seq 100); do wget -q -O- \"$0\" && exit; sleep 0.1; done; exit 1";
            stage.exec(from, &["sh", "-c", script, &url]).await
        };
        for name in ["web", "api"] {
            assert_eq!(fetch(&client, name).await.0, "here I am\n", "{name}");
        }
        assert_eq!(fetch(&lonely, "api").await.0, "here I am\n");
        let (_, _, code) = stage.exec(&lonely, &["nslookup", "web"]).await;
        assert_ne!(code, 0, "who is not on a network knows no names of it");
    })
    .await;
}

/// Reachable on loopback, and told by listings.
pub async fn a_port_is_published(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let published = PublishedPort {
            target: ContainerPort { port: 80, protocol: Protocol::Tcp },
            host_ip: Ipv4Addr::LOCALHOST.into(),
            host_port: port,
        };
        let network = stage.network("net").await;
        let mut web = stage.config("web", &SERVE);
        web.networks = [(network, BTreeSet::new())].into();
        web.ports = vec![published.clone()];
        let id = stage.start(&web).await;
        let mut answer = String::new();
        while !answer.contains("here I am") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
            answer.clear();
            let _ = stream.read_to_string(&mut answer).await;
        }
        assert_eq!(stage.listed(&id).await.unwrap().ports, [published]);
    })
    .await;
}

/// What one container wrote, the next one reads, and a reader only reads.
pub async fn a_volume_outlives_its_container(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let volume = stage.name("data");
        stage.runtime.create_volume(&volume, &stage.labels(stage.node)).await.unwrap();
        let with = |what: &str, script: &str, read_only: bool| {
            let mut config = stage.config(what, &["sh", "-c", script]);
            let source = MountSource::Volume(volume.clone());
            config.mounts = vec![ContainerMount { source, target: "/data".to_owned(), read_only }];
            config
        };
        for (script, read_only, code) in [
            ("echo kept >/data/file", false, 0),
            ("[ $(cat /data/file) = kept ]", false, 0),
            ("[ $(cat /data/file) = kept ] && ! touch /data/other 2>/dev/null", true, 0),
        ] {
            let id = stage.start(&with("a", script, read_only)).await;
            assert_eq!(stage.ended(&id).await.exit_code, Some(code), "{script}");
            stage.runtime.remove(&id, false).await.unwrap();
        }
        assert!(stage.runtime.volume_exists(stage.node, &volume).await.unwrap());
    })
    .await;
}

/// Read-only, and never made up when it is not there.
pub async fn a_secret_is_a_file(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let path = std::env::temp_dir().join(stage.name("secret"));
        std::fs::write(&path, "hush").unwrap();
        let with = |path: &str| {
            let script = "[ $(cat /run/secrets/word) = hush ] && ! echo x >/run/secrets/word";
            let mut config = stage.config("a", &["sh", "-c", script]);
            let source = MountSource::SecretFile(path.to_owned());
            // Read-only whatever is asked.
            config.mounts =
                vec![ContainerMount { source, target: "/run/secrets/word".to_owned(), read_only: false }];
            config
        };
        let started = stage.runtime.create(&with(path.to_str().unwrap())).await;
        let ended = match &started {
            Ok(id) => {
                stage.runtime.start(id).await.unwrap();
                Some(stage.ended(id).await.exit_code)
            }
            Err(_) => None,
        };
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ended, Some(Some(0)), "{started:?}");
        stage.runtime.remove(&started.unwrap(), true).await.unwrap();
        let missing = match stage.runtime.create(&with(path.to_str().unwrap())).await {
            Ok(id) => stage.runtime.start(&id).await,
            Err(error) => Err(error),
        };
        assert!(matches!(missing, Err(RuntimeError::Refused { .. })), "{missing:?}");
        assert!(!path.exists(), "an engine must not make a folder of it");
    })
    .await;
}

/// Only the capabilities that were asked for, and none to be gained.
pub async fn containers_are_hardened(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        // Bits by capabilities(7): CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7,
        // SETPCAP 8, NET_BIND_SERVICE 10.
        let usual = [0, 1, 3, 5, 6, 7, 8, 10].iter().fold(0u64, |mask, bit| mask | 1 << bit);
        for (what, capabilities, mask) in
            [("usual", None, usual), ("none", Some(BTreeSet::new()), 0), ("one", Some(alias("CHOWN")), 1)]
        {
            let mut config = stage.config(what, &["sleep", "1000"]);
            config.capabilities = capabilities.unwrap_or(config.capabilities);
            let id = stage.start(&config).await;
            for process in ["1", "self"] {
                let (status, _, _) = stage.exec(&id, &["cat", &format!("/proc/{process}/status")]).await;
                let field = |name: &str| {
                    let line = status.lines().find(|line| line.starts_with(name)).expect("the field");
                    line.rsplit_once('\t').unwrap().1.to_owned()
                };
                for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
                    let found = u64::from_str_radix(&field(set), 16).unwrap();
                    assert_eq!(found, mask, "{what} {process} {set} {found:x}");
                }
                assert_eq!(field("NoNewPrivs:"), "1", "{what} {process}");
            }
        }
    })
    .await;
}

/// As the container's own cgroup says.
pub async fn limits_hold_inside(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let script = "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes;
            cat pids.max 2>/dev/null || cat pids/pids.max;
            cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us";
        let (out, err, _) = stage.exec(&id, &["sh", "-c", script]).await;
        let numbers: Vec<u64> = out.split_whitespace().map(|n| n.parse().expect("a limit")).collect();
        let [memory, pids, quota, period] = numbers[..] else { panic!("{out:?} {err:?}") };
        assert_eq!((memory, pids), (64 << 20, 64));
        assert_eq!(quota * 2, period, "half a core");
        let usage = stage.runtime.usage(&id).await.unwrap();
        assert_eq!(usage.memory_limit, Bytes::from_mib(64));
        assert!(usage.pids >= 1 && usage.memory < usage.memory_limit && usage.cpu_nanos > 0, "{usage:?}");
    })
    .await;
}

/// Input until its end, both outputs apart, environment, user and exit code.
pub async fn exec_has_input_and_exit_code(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let config = ExecConfig {
            argv: ["sh", "-c", "cat; echo \"$WORD $(id -u)\" >&2; exit 5"].map(str::to_owned).into(),
            stdin: true,
            env: [("WORD".to_owned(), "hello".to_owned())].into(),
            user: Some("1234".to_owned()),
            ..ExecConfig::default()
        };
        let mut session = stage.runtime.exec(&id, config).await.unwrap();
        // More than any buffer on the way holds, so that both directions have to flow at once.
        let input: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let sent = input.clone();
        let mut to = session.input;
        let writer = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
            to
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(chunk) = session.output.next().await {
            let LogChunk { stream, bytes } = chunk.unwrap();
            if stream == LogStream::Stdout { &mut out } else { &mut err }.extend_from_slice(&bytes);
        }
        writer.await.unwrap();
        assert!(out == input, "{} of {} bytes came back", out.len(), input.len());
        assert_eq!(String::from_utf8_lossy(&err), "hello 1234\n");
        assert_eq!(session.control.exit_code().await.unwrap(), 5);
        let gone = ContainerId("0".repeat(64));
        let config = ExecConfig { argv: vec!["true".to_owned()], ..ExecConfig::default() };
        assert!(matches!(stage.runtime.exec(&gone, config).await, Err(RuntimeError::NotFound { .. })));
        let (_, _, code) = stage.exec(&id, &["false"]).await;
        assert_eq!(code, 1, "no input is an end of input");
    })
    .await;
}

/// A program on a terminal may print what looks like a frame's header.
pub async fn a_terminal_passes_every_byte(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let script =
            r"stty -opost; printf '\001\000\000\000\177\377\377\377'; read line; stty size; echo $line";
        let config = ExecConfig {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
            tty: true,
            stdin: true,
            size: Some(TerminalSize { rows: 31, columns: 97 }),
            ..ExecConfig::default()
        };
        let mut session = stage.runtime.exec(&id, config).await.unwrap();
        let mut out = Vec::new();
        while out.len() < 8 {
            out.extend_from_slice(&session.output.next().await.unwrap().unwrap().bytes);
        }
        assert_eq!(out, [1, 0, 0, 0, 127, 255, 255, 255]);
        session.control.resize(TerminalSize { rows: 40, columns: 120 }).await.unwrap();
        session.input.write_all(b"typed\n").await.unwrap();
        let rest: Vec<_> = session.output.try_collect().await.unwrap();
        let rest: Vec<u8> = rest.into_iter().flat_map(|chunk| chunk.bytes).collect();
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains("40 120") && rest.ends_with("typed\n"), "{rest:?}");
        assert_eq!(session.control.exit_code().await.unwrap(), 0);
    })
    .await;
}

/// Who takes more memory than allowed is killed, and the reason is told.
pub async fn memory_is_enforced_and_told(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut events = stage.runtime.events(stage.node).await.unwrap();
        // The container outlives what is killed: an engine that hears of the end first forgets the cause.
        let hungry = "tail /dev/zero; code=$?; sleep 2; exit $code";
        let mut config = stage.config("a", &["sh", "-c", hungry]);
        config.memory_limit = Bytes::from_mib(16);
        let id = stage.start(&config).await;
        let seen = stage.ended(&id).await;
        assert_eq!((seen.exit_code, seen.out_of_memory), (Some(137), true), "{seen:?}");
        stage.event(&mut events, &id, |kind| kind == EngineEventKind::OutOfMemory).await;
    })
    .await;
}

/// What was in one volume is in another, as it was; while a container that mounts it runs, nobody
/// else writes to it; and nothing is left of what carried it.
pub async fn a_volume_is_carried(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let (from, to) = (stage.name("from"), stage.name("to"));
        for volume in [&from, &to] {
            stage.runtime.create_volume(volume, &stage.labels(stage.node)).await.unwrap();
        }
        let with = |volume: &str, what: &str, script: &str| {
            let mut config = stage.config(what, &["sh", "-c", script]);
            let source = MountSource::Volume(volume.to_owned());
            config.mounts = vec![ContainerMount { source, target: "/data".to_owned(), read_only: false }];
            config
        };
        let script = "cd /data && mkdir -p 'a b/empty' && echo hello >'a b/f' && chown 70:71 'a b/f' \
             && chmod 4750 'a b/f' && ln -s 'a b/f' link && ln 'a b/f' hard && mkfifo pipe \
             && head -c 3000000 /dev/zero >big && touch -d '2020-01-02 03:04:05' big 'a b/empty' \
             && chown 999:998 . && chmod 700 .";
        let made = stage.start(&with(&from, "make", script)).await;
        assert_eq!(stage.ended(&made).await.exit_code, Some(0));
        let read = async |volume: &str| -> Vec<u8> {
            let parts = stage.runtime.read_volume(stage.node, volume).await.unwrap();
            parts.try_collect::<Vec<_>>().await.unwrap().concat()
        };
        let archive = read(&from).await;
        let stream = |bytes: &[u8]| {
            let parts: Vec<_> = bytes.chunks(70_000).map(bytes::Bytes::copy_from_slice).collect();
            futures::stream::iter(parts).boxed()
        };
        stage.runtime.write_volume(stage.node, &to, stream(&archive)).await.unwrap();
        assert!(read(&to).await == archive, "it is what it was, times and owners of folders included");

        let user = stage.start(&with(&to, "user", "sleep 1000")).await;
        let refused = stage.runtime.write_volume(stage.node, &to, stream(&archive)).await.unwrap_err();
        assert!(matches!(&refused, RuntimeError::Conflict { message, .. } if message.contains("runs and mounts it")), "{refused}");
        stage.runtime.remove(&user, true).await.unwrap();
        let gone = stage.runtime.read_volume(stage.node, &stage.name("none")).await.err().unwrap();
        assert!(matches!(gone, RuntimeError::NotFound { .. }), "{gone}");
        let foreign = stage.runtime.read_volume(stage.other, &from).await.err().unwrap();
        assert!(matches!(foreign, RuntimeError::Refused { .. }), "{foreign}");
        stage.runtime.remove(&made, true).await.unwrap();
        assert_eq!(stage.runtime.list(stage.node).await.unwrap(), [], "what carried them is gone");
        // One that was left, by somebody who stopped in the middle, is in nobody's way.
        let half = stage.runtime.read_volume(stage.node, &from).await.unwrap();
        std::mem::drop(half);
        // What it left is cleared away in the background.
        let mut removed = stage.runtime.remove_volume(stage.node, &from).await;
        for _ in 0..300 {
            if !matches!(removed, Err(RuntimeError::Conflict { .. })) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            removed = stage.runtime.remove_volume(stage.node, &from).await;
        }
        removed.unwrap();
    })
    .await;
}
