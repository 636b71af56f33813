//! Secrets: versions, unchanged values, going back, and keys that are rotated, with what is on disk.

#![allow(clippy::unwrap_used)]

mod support;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lattice_identity::{KeyRing, MasterKey};
use lattice_model::{AllocationId, Goal, report::ReportKind};
use lattice_server::{KeySource, RestoreTo, Server, ServerConfig};
use lattice_store::{Key, Kind, Op, SqliteOptions, SqliteStore, Store, Transaction};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use support::*;

const PLANTED: &str = "planted-7f3a-value";
const SECRET: &str = "/v1/projects/default/secrets/pw";
const SHOP: &str = "/v1/projects/default/stacks/shop";

async fn set(world: &World, value: &str) -> Value {
    let (status, answer) = world.bytes("PUT", SECRET, value.to_owned()).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

async fn versions(world: &World) -> Vec<(u64, bool)> {
    let list = world.get(&format!("{SECRET}/versions")).await;
    let items = list["items"].as_array().unwrap().iter();
    items.map(|v| (v["version"].as_u64().unwrap(), v["current"].as_bool().unwrap())).collect()
}

fn stack(restart: bool) -> Value {
    let mount = json!({ "secret": "pw", "target": "/run/secrets/pw" });
    let web = json!({ "image": "nginx", "secrets": [mount], "restart_on_secret": restart });
    json!({ "spec": { "workloads": { "web": web } } })
}

fn value_of(goal: &Goal) -> Option<String> {
    let value = goal.allocations.values().next()?.secrets.values().next()?;
    Some(String::from_utf8(value.reveal().to_vec()).unwrap())
}

#[tokio::test]
async fn each_new_value_is_a_version_and_one_can_go_back() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    let first = set(&world, "one").await;
    assert_eq!((&first["version"], &first["changed"]), (&json!(1), &json!(true)));
    let again = set(&world, "one").await;
    assert_eq!((&again["version"], &again["changed"]), (&json!(1), &json!(false)), "the same value");
    world.ok("PUT", SHOP, Some(stack(false))).await;
    loop {
        if value_of(&agent.goal(&mut link).await).as_deref() == Some("one") {
            break;
        }
    }
    set(&world, "two").await;
    let goal = agent.goal(&mut link).await;
    assert_eq!(value_of(&goal).as_deref(), Some("two"));
    let generation = || async { world.get(&format!("{SHOP}/workloads/web")).await["generation"].clone() };
    assert_eq!(generation().await, json!(1), "files change, and nothing is replaced");
    assert_eq!(versions(&world).await, [(2, true), (1, false)]);
    let back = world.ok("POST", &format!("{SECRET}/rollback"), Some(json!({ "version": 1 }))).await;
    assert_eq!((&back["version"], &back["changed"]), (&json!(3), &json!(true)));
    assert_eq!(value_of(&agent.goal(&mut link).await).as_deref(), Some("one"));
    // Who asked for it is replaced, by its policy.
    world.ok("PUT", SHOP, Some(stack(true))).await;
    let before = generation().await.as_u64().unwrap();
    set(&world, "three").await;
    assert_eq!(generation().await, json!(before + 1));
    set(&world, "three").await;
    assert_eq!(generation().await, json!(before + 1), "the same value replaces nothing");
    // Ten are kept.
    for n in 0..12 {
        set(&world, &format!("value {n}")).await;
    }
    let kept = versions(&world).await;
    assert_eq!((kept.len(), kept[0], kept[9]), (10, (16, true), (7, false)));
    let (status, gone) =
        world.ask("POST", &format!("{SECRET}/rollback"), Some(json!({ "version": 6 }))).await;
    assert_eq!((status, &gone["code"]), (404, &json!("not_found")));
    // In use it stays; unused it goes with all its versions, and its name begins anew.
    assert_eq!(world.ask("DELETE", SECRET, None).await.0, 409);
    world.ok("DELETE", SHOP, None).await;
    world.ok("DELETE", SECRET, None).await;
    set(&world, "new").await;
    assert_eq!(versions(&world).await, [(1, true)]);
    let audit = world.get("/v1/audit?limit=1000").await.to_string();
    assert!(
        audit.contains("secret.rollback") && audit.contains("secret.delete") && !audit.contains("value 3")
    );
}

fn on_disk(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(on_disk(&path));
        } else if path.is_file() {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn holds(all: &[u8], wanted: &[u8]) -> bool {
    all.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test]
async fn a_new_key_takes_over_and_nothing_of_a_value_is_ever_on_disk() {
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    set(&world, "former-2b9c-value").await;
    set(&world, PLANTED).await;
    world.ok("PUT", SHOP, Some(stack(false))).await;
    let file = world.home.path().join("master.key");
    let before = std::fs::read_to_string(&file).unwrap();
    let done = world.ok("POST", "/v1/rotate-key", None).await;
    // Both versions, and the authority.
    assert_eq!((&done["rewrapped"], &done["left"]), (&json!(3), &json!(0)), "{done:#}");
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after.starts_with(&format!("lmk1 {}", done["key"].as_str().unwrap())));
    assert!(after.ends_with(&before), "the former key stays for a while");
    // With the new key alone everything opens, after a restart.
    let new_alone = after.lines().next().unwrap().to_owned() + "\n";
    world
        .restart_with(
            |home| {
                let file = home.join("master.key");
                std::fs::write(&file, &new_alone).unwrap();
            },
            |_| {},
        )
        .await;
    drop(link);
    link = agent.connect().await.unwrap();
    loop {
        if value_of(&agent.goal(&mut link).await).as_deref() == Some(PLANTED) {
            break;
        }
    }
    let back = world.ok("POST", &format!("{SECRET}/rollback"), Some(json!({ "version": 1 }))).await;
    assert_eq!(back["version"], json!(3));
    // Raw, and as base64, hexadecimal and a list of numbers would begin.
    let all = on_disk(world.home.path());
    let base64 = BASE64_STANDARD.encode(PLANTED);
    let numbers = PLANTED.bytes().take(8).map(|b| b.to_string()).collect::<Vec<_>>().join(",");
    let hex: String = PLANTED.bytes().map(|b| format!("{b:02x}")).collect();
    for form in [PLANTED, "former-2b9c", &base64[..20], &hex, &numbers] {
        assert!(!holds(&all, form.as_bytes()), "{form} is on the server's disk");
    }
    // The former key alone opens nothing any more.
    world.stop().await;
    std::fs::write(&file, &before).unwrap();
    let failed = Server::start(config(world.home.path()), Default::default()).await;
    assert!(failed.unwrap_err().to_string().contains("master key"));
}

#[tokio::test]
async fn keys_may_lie_elsewhere_or_come_from_a_program() {
    let vault = tempfile::tempdir().unwrap();
    let path = vault.path().join("ring");
    let mut world = World::with(|config| config.key_source = KeySource::File(path.clone())).await;
    set(&world, PLANTED).await;
    assert!(!world.home.path().join("master.key").exists());
    let command = vec!["cat".to_owned(), path.display().to_string()];
    world.restart(|config| config.key_source = KeySource::Command(command)).await;
    assert_eq!(set(&world, PLANTED).await["changed"], json!(false), "it opens what the file's key sealed");
    let (status, refused) = world.ask("POST", "/v1/rotate-key", None).await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")));
    // A new first line is taken up by itself at the start, within the first hour.
    world.stop().await;
    let broken = vec!["false".to_owned()];
    let key_source = KeySource::Command(broken);
    let config = ServerConfig { key_source, ..config(world.home.path()) };
    let failed = Server::start(config, Default::default()).await;
    assert!(failed.unwrap_err().to_string().contains("key_command"));
}

/// What a stopped server's store has, and what becomes of it.
async fn in_store(home: &Path, change: impl FnOnce(&MasterKey) -> Vec<Op>) -> Vec<String> {
    let store = SqliteStore::open(home.join("store.db"), SqliteOptions::default()).unwrap();
    let ring = KeyRing::load_or_create(&home.join("master.key")).unwrap();
    let ops = change(ring.current());
    if !ops.is_empty() {
        store.apply(Transaction::new(ops)).await.unwrap();
    }
    let listing = store.list(Kind::new("secret"), None).await.unwrap();
    store.close().await;
    listing.records.iter().map(|record| record.body.to_string()).collect()
}

async fn start_again(world: &mut World) {
    world.server = Some(Server::start(config(world.home.path()), Default::default()).await.unwrap());
}

async fn set_as(world: &World, name: &str, value: &str) -> Value {
    let (status, answer) =
        world.bytes("PUT", &format!("/v1/projects/default/secrets/{name}"), value.to_owned()).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

#[tokio::test]
async fn a_row_of_before_envelopes_is_read_and_becomes_one() {
    let mut world = World::new().await;
    world.stop().await;
    let rows = in_store(world.home.path(), |key| {
        let sealed = BASE64_STANDARD.encode(key.seal("secret/default/old", PLANTED.as_bytes()).unwrap());
        let body = json!({
            "project": "default", "name": "old", "version": 4, "updated_at": 1_700_000_000_000u64,
            "updated_by": "ada", "sealed": sealed,
        });
        let key = Key::new(Kind::new("secret"), "default/old");
        let (project, owner) = (Some("default".into()), Some("admin".into()));
        vec![Op::Create { key, project, owner, body: body.to_string().into() }]
    })
    .await;
    assert!(!rows[0].contains("\"key\""), "{rows:?}");
    start_again(&mut world).await;
    // It is read: the same value makes no version.
    let same = set_as(&world, "old", PLANTED).await;
    assert_eq!((&same["version"], &same["changed"]), (&json!(4), &json!(false)));
    assert_eq!(world.ok("POST", "/v1/rotate-key", None).await["left"], json!(0));
    assert_eq!(set_as(&world, "old", PLANTED).await["changed"], json!(false));
    // What it was before a change can be gone back to.
    set_as(&world, "old", "another").await;
    let path = "/v1/projects/default/secrets/old/rollback";
    assert_eq!(world.ok("POST", path, Some(json!({ "version": 4 }))).await["version"], json!(6));
    assert_eq!(set_as(&world, "old", PLANTED).await["changed"], json!(false));
    world.stop().await;
    let rows = in_store(world.home.path(), |_| Vec::new()).await;
    assert!(rows[0].contains("\"key\":"), "{rows:?}");
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_finished_by_another() {
    let mut world = World::new().await;
    let all = ["a", "b", "c", "d"];
    for name in all {
        set_as(&world, name, "value").await;
    }
    // The new key is on the disk; of the rows one is under it.
    world.stop().await;
    let file = world.home.path().join("master.key");
    KeyRing::load_or_create(&file).unwrap().with_new_key().unwrap().save(&file).unwrap();
    start_again(&mut world).await;
    set_as(&world, "b", "other").await;
    let reads = async |world: &World| {
        for name in all {
            let value = if name == "b" { "other" } else { "value" };
            assert_eq!(set_as(world, name, value).await["changed"], json!(false), "{name}");
        }
    };
    reads(&world).await;
    let done = world.ok("POST", "/v1/rotate-key", None).await;
    // Four secrets, what one of them was before, and the authority.
    assert_eq!((&done["rewrapped"], &done["left"]), (&json!(6), &json!(0)), "{done:#}");
    assert_eq!(done["file"], json!(file));
    world.stop().await;
    KeyRing::load_or_create(&file).unwrap().without_older().save(&file).unwrap();
    start_again(&mut world).await;
    reads(&world).await;
}

#[tokio::test]
async fn there_is_a_bound_on_how_many_and_how_much() {
    let world = World::new().await;
    let (status, body) = world.bytes("PUT", SECRET, vec![b'x'; lattice_api::MAX_SECRET_BYTES + 1]).await;
    assert_eq!((status, &body["code"]), (413, &json!("too_large")), "{body:#}");
    for n in 0..500 {
        set_as(&world, &format!("s{n}"), "v").await;
    }
    let (status, body) = world.bytes("PUT", SECRET, "v").await;
    assert_eq!(status, 409, "{body:#}");
    assert!(
        body["message"].as_str().unwrap().contains("500") && body["hint"].as_str().unwrap().contains("rm")
    );
    // What is there can change, and another project has room.
    assert_eq!(set_as(&world, "s7", "w").await["version"], json!(2));
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    assert_eq!(world.bytes("PUT", "/v1/projects/lab/secrets/pw", "v").await.0, 200);
}

#[tokio::test]
async fn a_pool_that_is_trusted_no_longer_learns_nothing_new() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    set(&world, "one").await;
    world.ok("PUT", SHOP, Some(stack(false))).await;
    while value_of(&agent.goal(&mut link).await).as_deref() != Some("one") {}
    world.ok("PATCH", "/v1/pools/default", Some(json!({ "trusted": false }))).await;
    // It runs on, without a new word.
    loop {
        let goal = agent.goal(&mut link).await;
        assert_eq!(goal.allocations.len(), 1);
        if value_of(&goal).is_none() {
            break;
        }
    }
    set(&world, "two").await;
    // More of it waits, and says what to do.
    world.ok("POST", &format!("{SHOP}/workloads/web/scale"), Some(json!({ "replicas": 2 }))).await;
    let web =
        world.until(&format!("{SHOP}/workloads/web"), |web| web.to_string().contains("not trusted")).await;
    assert!(web.to_string().contains("lattice pool set"), "{web:#}");
    world.ok("PATCH", "/v1/pools/default", Some(json!({ "trusted": true }))).await;
    while value_of(&agent.goal(&mut link).await).as_deref() != Some("two") {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_the_ring_back_to_where_the_configuration_has_it() {
    use lattice_backup::{Key, Lock, Place, PlaceOptions, name_of, passphrase, save, write};
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("vault/ring");
    std::fs::create_dir(ring.parent().unwrap()).unwrap();
    let source = KeySource::File(ring.clone());
    let mut world = World::with(|config| config.key_source = source.clone()).await;
    set(&world, PLANTED).await;
    world.ok("POST", "/v1/rotate-key", None).await;
    world.stop().await;
    let settings = folder.path().join("server.toml");
    let text = format!(
        "home = {:?}\n[secrets]\nkey_file = {ring:?}\n[api]\nlisten = \"127.0.0.1:0\"\n[agents]\nlisten = \"127.0.0.1:0\"\n",
        world.home.path()
    );
    std::fs::write(&settings, text).unwrap();
    let read = || ServerConfig::read(&settings, world.home.path()).unwrap();
    let dump = lattice_server::dump_stopped(&read(), lattice_backup::Reason::Asked).await.unwrap();
    let place =
        Place::open(folder.path().join("backups").to_str().unwrap(), &PlaceOptions::default()).unwrap();
    let words = || passphrase("correct horse battery staple").unwrap();
    let lock = Lock::Passphrase(words());
    let name = name_of("lattice", lattice_model::Timestamp(1_700_000_000_000), [1; 6]);
    save(&place, &name, move |out| write(out, &lock, &dump)).await.unwrap();

    let to = RestoreTo { home: world.home.path().to_owned(), config: Some(settings.clone()), replace: true };
    let restore = || lattice_server::restore(&place, None, Key::Passphrase(words()), &to);
    // Never over somebody else's keys.
    let kept = std::fs::read(&ring).unwrap();
    std::fs::remove_file(&ring).unwrap();
    MasterKey::load_or_create(&ring).unwrap();
    let refused = restore().await.unwrap_err().to_string();
    assert!(refused.contains("move it away"), "{refused}");
    std::fs::remove_dir_all(ring.parent().unwrap()).unwrap();
    let refused = restore().await.unwrap_err().to_string();
    assert!(refused.contains("mount it"), "{refused}");
    std::fs::create_dir(ring.parent().unwrap()).unwrap();
    restore().await.unwrap();
    assert_eq!(std::fs::read(&ring).unwrap(), kept);
    assert!(!world.home.path().join("master.key").exists(), "no second copy");
    world.server = Some(Server::start(read(), Default::default()).await.unwrap());
    assert_eq!(set(&world, PLANTED).await["changed"], json!(false));
    // Where it has not moved, it stays as it is.
    world.stop().await;
    restore().await.unwrap();
    assert_eq!(std::fs::read(&ring).unwrap(), kept);
}

/// Does as it is told until an update to this generation is done; gives the one allocation.
async fn done(world: &World, agent: &mut Agent, link: &mut Link, generation: u64) -> AllocationId {
    let mut only = None;
    loop {
        if let Ok(goal) = tokio::time::timeout(Duration::from_millis(50), agent.goal(link)).await {
            let mut said: Vec<_> = goal.allocations.keys().map(|id| running(*id)).collect();
            said.extend(goal.remove.iter().map(|id| ReportKind::AllocationGone { id: *id }));
            agent.say(link, said).await;
            only = goal.allocations.keys().next().copied().filter(|_| goal.allocations.len() == 1);
        }
        let view = world.get(&format!("{SHOP}/rollout")).await["workloads"][0].clone();
        if (&view["state"], &view["generation"]) == (&json!("done"), &json!(generation))
            && let Some(only) = only
        {
            return only;
        }
    }
}

#[tokio::test]
async fn a_restart_for_a_secret_is_a_version_like_any_other() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    set(&world, "one").await;
    let (first, mut second) = (stack(true), stack(true));
    second["spec"]["workloads"]["web"]["image"] = json!("nginx:2");
    let mut were = Vec::new();
    world.ok("PUT", SHOP, Some(first)).await;
    were.push(soon("the first", done(&world, &mut agent, &mut link, 1)).await);
    world.ok("PUT", SHOP, Some(second)).await;
    were.push(soon("the second", done(&world, &mut agent, &mut link, 2)).await);
    set(&world, "two").await;
    were.push(soon("the second with another value", done(&world, &mut agent, &mut link, 3)).await);
    // Back to the first, and a new value before anything moves.
    world.ok("POST", &format!("{SHOP}/rollout/undo"), None).await;
    set(&world, "three").await;
    were.push(soon("the first with another value", done(&world, &mut agent, &mut link, 5)).await);
    // The same value replaces nothing, another one does.
    set(&world, "three").await;
    set(&world, "four").await;
    were.push(soon("the last", done(&world, &mut agent, &mut link, 6)).await);
    let all: std::collections::BTreeSet<_> = were.iter().collect();
    assert_eq!(all.len(), 5, "each time another container: {were:?}");
}
