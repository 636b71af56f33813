//! The control plane saves itself, comes back from that, and moves.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use lattice_backup::{
    Key, Place, PlaceOptions, Session, State, list, load, name_of, passphrase, read, save, transcode,
};
use lattice_model::Timestamp;
use lattice_server::{BackupConfig, MoveSide, RestoreTo, Server, ServerConfig, ServerError};
use serde_json::json;
use std::path::{Path, PathBuf};
use support::*;
use tokio_util::sync::CancellationToken;

const WORDS: &str = "correct horse battery staple";

fn place(folder: &Path) -> Place {
    Place::open(folder.to_str().unwrap(), &PlaceOptions::default()).unwrap()
}

fn key() -> Key {
    Key::Passphrase(passphrase(WORDS).unwrap())
}

fn secret_file(folder: &Path) -> PathBuf {
    let file = folder.join("passphrase");
    lattice_identity::keyfile::replace(&file, format!("{WORDS}\n").as_bytes()).unwrap();
    file
}

fn section(folder: &Path) -> BackupConfig {
    BackupConfig {
        url: folder.join("there").display().to_string(),
        options: PlaceOptions::default(),
        every: lattice_model::Duration::from_secs(3600),
        keep: 2,
        passphrase_file: Some(secret_file(folder)),
        recipients: Vec::new(),
    }
}

async fn dump(world: &World, recipients: &[String]) -> (u16, Vec<u8>) {
    let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = json!({ "recipients": recipients }).to_string();
    let request = Request::post("/v1/backup/dump")
        .header("host", "lattice")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    let status = answer.status().as_u16();
    (status, soon("a body", answer.into_body().collect()).await.unwrap().to_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_encrypted_and_written_down() {
    let world = World::new().await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let (status, refusal) = dump(&world, &[]).await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&refusal));
    assert!(String::from_utf8_lossy(&refusal).contains("without encryption"));
    assert_eq!(dump(&world, &["age1nobody".into()]).await.0, 400);

    let session = Session::new();
    let (status, bytes) = dump(&world, &[session.recipient()]).await;
    assert_eq!(status, 200);
    let mut names = Vec::new();
    let contents = read(&bytes[..], &session.key(), &mut |name, _| {
        names.push(name.to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["keys/master.key"]);
    assert_eq!((contents.manifest.kinds["stack"], contents.manifest.header.incarnation), (1, 1));
    let audit = world.get("/v1/audit").await.to_string();
    assert!(audit.contains("backup.dump") && audit.contains(&session.recipient()), "{audit}");
    // Without a place in the configuration the server makes none by itself.
    let (status, body) = world.ask("POST", "/v1/backup", None).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(world.get("/v1/backup").await["place"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_makes_them_by_itself_and_says_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let config = section(folder.path());
    // A file is where the folder should be: the first attempts fail, and say so.
    std::fs::write(folder.path().join("there"), "in the way").unwrap();
    let mut world = World::with(|server| server.backup = Some(config.clone())).await;
    world.ok("POST", "/v1/backup", None).await;
    let event = world.event("backup.failed").await;
    assert!(event["cause"].as_str().unwrap().contains("there"), "{event:#}");
    let status = world.until("/v1/status", |status| status["backup"]["running"] == false).await;
    assert!(status["warnings"].to_string().contains("last backup"), "{status:#}");
    assert!(status["backup"]["last"].is_null());

    std::fs::remove_file(folder.path().join("there")).unwrap();
    for n in 0..3 {
        let before = world.get("/v1/backup").await["last"]["name"].clone();
        world.ok("POST", "/v1/backup", None).await;
        world
            .until("/v1/backup", |status| status["last"]["name"] != before && status["running"] == false)
            .await;
        let there = list(&place(&folder.path().join("there"))).await.unwrap();
        assert_eq!(there.len(), (n + 1).min(2), "two are kept: {there:?}");
        assert!(there.iter().all(|found| found.state == State::Good));
    }
    let status = world.get("/v1/status").await;
    assert_eq!(
        (&status["backup"]["error"], &status["backup"]["overdue"], &status["warnings"]),
        (&json!(null), &json!(false), &json!([]))
    );
    let last = status["backup"]["last"].clone();
    assert!(last["rows"].as_u64().unwrap() > 3, "{last}");
    world.event("backup.made").await;
    // A restart knows the last one, and does not make another before it is due.
    world.restart(|server| server.backup = Some(config)).await;
    assert_eq!(world.until("/v1/backup", |status| !status["last"].is_null()).await["last"], last);
}

/// Everything of a server goes into a backup and comes back elsewhere under the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_server_comes_back_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let vault = place(&folder.path().join("vault"));
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let mut goal = agent.goal(&mut link).await;
    while goal.allocations.is_empty() {
        goal = agent.goal(&mut link).await;
    }
    std::fs::create_dir_all(world.home.path().join("blobs/ab")).unwrap();
    std::fs::write(world.home.path().join("blobs/ab/abcd"), "content").unwrap();
    let session = Session::new();
    let (_, bytes) = dump(&world, &[session.recipient()]).await;
    let name = name_of("lattice", Timestamp(now()), [1; 6]);
    let lock = lattice_backup::Lock::Passphrase(passphrase(WORDS).unwrap());
    let label =
        save(&vault, &name, move |out| transcode(&bytes[..], &session.key(), out, &lock)).await.unwrap();
    assert_eq!(label.blobs, 1);
    // The node goes on: what it sees next is in no backup.
    world.ok("PUT", SHOP, Some(web("nginx:2"))).await;
    let seen = agent.goal(&mut link).await;
    drop(link);
    agent.connect().await.unwrap();

    let (api, agents) = (world.server().api_addr(), world.server().agent_addr());
    world.stop().await;
    let old = std::mem::replace(&mut world.home, tempfile::tempdir().unwrap());
    std::fs::remove_dir_all(old.path()).unwrap();

    let to = RestoreTo { home: world.home.path().to_owned(), config: None, replace: false };
    let wrong = Key::Passphrase(passphrase("another passphrase").unwrap());
    let refused = lattice_server::restore(&vault, None, wrong, &to).await.unwrap_err();
    assert!(refused.to_string().contains("another one"), "{refused}");
    assert_eq!(std::fs::read_dir(&to.home).unwrap().count(), 0, "a wrong passphrase leaves nothing");
    let restored = lattice_server::restore(&vault, None, key(), &to).await.unwrap();
    assert_eq!((restored.incarnation, restored.blobs, restored.rows), (2, 1, label.rows));
    assert_eq!(std::fs::read_to_string(to.home.join("blobs/ab/abcd")).unwrap(), "content");
    let again = lattice_server::restore(&vault, None, key(), &to).await.unwrap_err();
    assert!(matches!(again, ServerError::NotEmpty { .. }), "{again}");

    let config = ServerConfig { api_listen: api, agent_listen: agents, ..config(&to.home) };
    world.server = Some(Server::start(config, CancellationToken::new()).await.unwrap());
    // By itself, with its old key and a newer session value than the store's.
    let mut link = agent.connect().await.unwrap();
    let now = agent.goal(&mut link).await;
    assert_eq!(now.allocations.keys().collect::<Vec<_>>(), goal.allocations.keys().collect::<Vec<_>>());
    assert!(seen.allocations != goal.allocations || seen == now);
    assert_eq!(agent.goal.unwrap().0.incarnation, 2);
    let status = world.get("/v1/status").await;
    assert_eq!((&status["incarnation"], &status["warnings"]), (&json!(2), &json!([])));
    assert!(world.get("/v1/audit").await.to_string().contains("store.restore"));
    world.event("store.restored").await;
    // Only the first start believes: a copy of the node is noticed again.
    world.restart(|_| {}).await;
    assert_eq!(world.get("/v1/events?limit=1000").await.to_string().matches("store.restored").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_moved_aside_when_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let vault = place(&folder.path().join("vault"));
    let mut world = World::new().await;
    let session = Session::new();
    let (_, bytes) = dump(&world, &[session.recipient()]).await;
    let name = name_of("lattice", Timestamp(now()), [1; 6]);
    let lock = lattice_backup::Lock::Passphrase(passphrase(WORDS).unwrap());
    save(&vault, &name, move |out| transcode(&bytes[..], &session.key(), out, &lock)).await.unwrap();
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let to = RestoreTo { home: world.home.path().to_owned(), config: None, replace: true };
    let runs = lattice_server::restore(&vault, None, key(), &to).await.unwrap_err();
    assert!(matches!(runs, ServerError::Runs { .. }), "{runs}");
    world.stop().await;
    let restored = lattice_server::restore(&vault, Some(&name), key(), &to).await.unwrap();
    assert!(restored.replaced.unwrap().join("store.db").is_file());
    // The same backup once more: the store that it left has incarnation 2, so that the next has 3.
    assert_eq!(restored.incarnation, 2);
    assert_eq!(lattice_server::restore(&vault, None, key(), &to).await.unwrap().incarnation, 3);
    // One that was interrupted bars the server, and is begun anew without a word.
    std::fs::create_dir(to.home.join(".restore")).unwrap();
    let barred = Server::start(config(&to.home), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(barred, ServerError::HalfRestored { .. }), "{barred}");
    let resumed = RestoreTo { replace: false, ..to };
    lattice_server::restore(&vault, None, key(), &resumed).await.unwrap();
    world.server = Some(Server::start(config(&resumed.home), CancellationToken::new()).await.unwrap());
    assert_eq!(world.get("/v1/stacks").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let vault = place(&folder.path().join("vault"));
    let home = folder.path().join("first");
    let file = folder.path().join("server.toml");
    std::fs::write(
        &file,
        "cluster_name = \"attic\"\n[api]\nlisten = \"127.0.0.1:0\"\n[agents]\nlisten = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let config = ServerConfig::read(&file, &home).unwrap();
    let server = Server::start(config.clone(), CancellationToken::new()).await.unwrap();
    // Not while it runs: its store is locked.
    assert!(lattice_server::dump_stopped(&config, lattice_backup::Reason::Asked).await.is_err());
    server.shutdown();
    server.wait().await;
    let dumped = lattice_server::dump_stopped(&config, lattice_backup::Reason::Asked).await.unwrap();
    assert_eq!(dumped.header.cluster_name, "attic");
    let lock = lattice_backup::Lock::Passphrase(passphrase(WORDS).unwrap());
    let name = name_of("attic", Timestamp(now()), [1; 6]);
    save(&vault, &name, move |out| lattice_backup::write(out, &lock, &dumped)).await.unwrap();

    let elsewhere = folder.path().join("etc/server.toml");
    let to =
        RestoreTo { home: folder.path().join("second"), config: Some(elsewhere.clone()), replace: false };
    let restored = lattice_server::restore(&vault, None, key(), &to).await.unwrap();
    assert_eq!(restored.settings.as_deref(), Some(elsewhere.as_path()));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), std::fs::read(&file).unwrap());
    let config = ServerConfig::read(&elsewhere, &to.home).unwrap();
    let server = Server::start(config, CancellationToken::new()).await.unwrap();
    assert_eq!(server.status().name, "attic");
    server.shutdown();
    server.wait().await;
    let (label, ()) = load(&vault, None, |input| {
        std::io::copy(input, &mut std::io::sink()).unwrap();
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(label.name, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_installation_moves_and_the_old_store_is_not_started_by_accident() {
    let mut world = World::new().await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let here = world.home.path().to_owned();
    let from = MoveSide::Config(Box::new(config(&here)));
    let to = MoveSide::Sqlite(here.join("moved.db"));
    assert!(lattice_server::migrate(&from, &to).await.is_err(), "not while the server runs");
    let stacks = world.get("/v1/stacks").await["items"].clone();
    world.stop().await;
    let moved = lattice_server::migrate(&from, &to).await.unwrap();
    assert!(moved.rows > 3 && moved.sha256.len() == 64, "{moved:?}");
    let refused = Server::start(config(&here), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&refused, ServerError::Moved { to } if to.contains("moved.db")), "{refused}");
    assert!(matches!(lattice_server::migrate(&from, &to).await, Err(ServerError::Moved { .. })));
    // The new one is the cluster, keys and all.
    std::fs::rename(here.join("store.db"), here.join("old.db")).unwrap();
    std::fs::rename(here.join("moved.db"), here.join("store.db")).unwrap();
    world.server = Some(Server::start(config(&here), CancellationToken::new()).await.unwrap());
    assert_eq!(world.get("/v1/stacks").await["items"], stacks);
    assert_eq!(world.get("/v1/status").await["incarnation"], 1);
    world.stop().await;
    // Not into a store that has something.
    let old = MoveSide::Sqlite(here.join("old.db"));
    assert!(lattice_server::reopen(&old).await.unwrap() && !lattice_server::reopen(&old).await.unwrap());
    assert!(matches!(lattice_server::migrate(&old, &from).await, Err(ServerError::Import(_))));
    assert!(
        MoveSide::read("postgres://u:secret@h/d", &here)
            .is_err_and(|error| !error.to_string().contains("secret"))
    );
}
