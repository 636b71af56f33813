//! Secrets: versions, unchanged values, going back, and keys that are rotated, with what is on disk.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::Goal;
use serde_json::{Value, json};
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

fn on_disk(folder: &std::path::Path) -> Vec<u8> {
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
    use base64::Engine as _;
    let base64 = base64::prelude::BASE64_STANDARD.encode(PLANTED);
    let numbers = PLANTED.bytes().take(8).map(|b| b.to_string()).collect::<Vec<_>>().join(",");
    let hex: String = PLANTED.bytes().map(|b| format!("{b:02x}")).collect();
    for form in [PLANTED, "former-2b9c", &base64[..20], &hex, &numbers] {
        assert!(!holds(&all, form.as_bytes()), "{form} is on the server's disk");
    }
    // The former key alone opens nothing any more.
    world.stop().await;
    std::fs::write(&file, &before).unwrap();
    let failed = lattice_server::Server::start(config(world.home.path()), Default::default()).await;
    assert!(failed.unwrap_err().to_string().contains("master key"));
}

#[tokio::test]
async fn keys_may_lie_elsewhere_or_come_from_a_program() {
    let vault = tempfile::tempdir().unwrap();
    let path = vault.path().join("ring");
    let mut world =
        World::with(|config| config.key_source = lattice_server::KeySource::File(path.clone())).await;
    set(&world, PLANTED).await;
    assert!(!world.home.path().join("master.key").exists());
    let command = vec!["cat".to_owned(), path.display().to_string()];
    world.restart(|config| config.key_source = lattice_server::KeySource::Command(command)).await;
    assert_eq!(set(&world, PLANTED).await["changed"], json!(false), "it opens what the file's key sealed");
    let (status, refused) = world.ask("POST", "/v1/rotate-key", None).await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")));
    // A new first line is taken up by itself at the start, within the first hour.
    world.stop().await;
    let broken = vec!["false".to_owned()];
    let key_source = lattice_server::KeySource::Command(broken);
    let config = lattice_server::ServerConfig { key_source, ..config(world.home.path()) };
    let failed = lattice_server::Server::start(config, Default::default()).await;
    assert!(failed.unwrap_err().to_string().contains("key_command"));
}
