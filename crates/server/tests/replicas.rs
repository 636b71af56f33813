//! Two servers on one PostgreSQL: one cluster, one session of a node at a time, and a plan goes on when the
//! one that made it is gone.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_link::message::*;
use lattice_model::Duration;
use lattice_postgres_kit::{Cut, Postgres};
use lattice_server::{RunningServer, Server, ServerConfig, ServerError, StoreConfig};
use lattice_store::PostgresOptions;
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};
use support::*;
use tokio_util::sync::CancellationToken;

fn on(postgres: &Postgres, by: SocketAddr, home: &Path, agents: &[SocketAddr]) -> ServerConfig {
    ServerConfig {
        store: StoreConfig::Postgres(PostgresOptions::new(postgres.url_at(by))),
        advertise: agents.iter().map(ToString::to_string).collect(),
        presence_grace: Duration::from_secs(2),
        ..config(home)
    }
}

async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
    Server::start(config, CancellationToken::new()).await
}

/// A second home of the same cluster, as a person makes it.
fn second_home(first: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(first.join("master.key"), home.path().join("master.key")).unwrap();
    home
}

async fn presence(world: &World, name: &str) -> Value {
    world.get(&format!("/v1/nodes/{name}")).await["presence"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_one_session_whichever_server_it_comes_to() {
    let postgres = Postgres::start();
    let home = tempfile::tempdir().unwrap();
    let config = on(&postgres, postgres.address(), home.path(), &[]);
    let one = World { server: Some(start(config.clone()).await.unwrap()), home };

    // What a second server has to have, and what it must not share.
    let empty = tempfile::tempdir().unwrap();
    let refused = start(on(&postgres, postgres.address(), empty.path(), &[])).await.map(drop);
    assert!(matches!(refused, Err(ServerError::NoMasterKey { .. })), "{refused:?}");
    let refused = start(config).await.map(drop);
    assert!(matches!(refused, Err(ServerError::HomeInUse { .. })), "{refused:?}");

    let (mut agent, mut first) = one.node("attic").await;
    agent.goal(&mut first).await;
    let home = second_home(one.home.path());
    let two = start(on(&postgres, postgres.address(), home.path(), &[])).await.unwrap();
    let two = World { server: Some(two), home };
    // That another server starts says nothing about this one's nodes, now or after the grace.
    let before = presence(&one, "attic").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(presence(&two, "attic").await, before);

    // It comes to the other one: what the first had of it is over, and no copy is suspected.
    agent.dial(two.server().agent_addr());
    let mut second = agent.connect().await.unwrap();
    let over = async {
        loop {
            if let Err(error) = first.io.recv.recv().await {
                break error;
            }
        }
    };
    let words = format!("{:?}", soon("the end of the first session", over).await);
    assert!(words.contains("session_replaced"), "{words}");
    assert_eq!(presence(&one, "attic").await["state"], "connected");

    // Said to one, planned by whoever leads, told by the other.
    one.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    let goal = loop {
        let goal = agent.goal(&mut second).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    let id = *goal.allocations.first_key_value().unwrap().0;
    agent.say(&mut second, vec![running(id)]).await;
    one.until(WEB, |view| view["serving"] == json!(1)).await;
    // And back, time and again.
    for round in 0..4 {
        let world = if round % 2 == 0 { &one } else { &two };
        agent.dial(world.server().agent_addr());
        let _link = agent.connect().await.unwrap();
        assert_eq!(presence(world, "attic").await["state"], "connected");
    }
    let alerts = two.get("/v1/events?limit=1000").await;
    let kinds: Vec<_> =
        alerts["items"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert!(
        !kinds.contains(&json!("node.quarantined")) && !kinds.contains(&json!("store.behind")),
        "{kinds:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_cut_off_the_other_plans_on() {
    let postgres = Postgres::start();
    let cut = Cut::before(postgres.address());
    let home = tempfile::tempdir().unwrap();
    let one = start(on(&postgres, cut.address(), home.path(), &[])).await.unwrap();
    let one = World { server: Some(one), home };
    let (mut agent, mut link) = one.node("attic").await;
    agent.goal(&mut link).await;
    one.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    let goal = agent.goal(&mut link).await;
    let id = *goal.allocations.first_key_value().unwrap().0;
    agent.say(&mut link, vec![running(id)]).await;
    let home = second_home(one.home.path());
    let two = start(on(&postgres, postgres.address(), home.path(), &[])).await.unwrap();
    let two = World { server: Some(two), home };

    cut.refuse(true);
    agent.dial(two.server().agent_addr());
    let mut link = agent.connect().await.unwrap();
    // At once, and planned when the lease of the first is over.
    two.ok("POST", &format!("{WEB}/scale"), Some(json!({"replicas": 2}))).await;
    let planned = async {
        loop {
            let ServerMessage::Goal(sealed) = link.io.recv.recv().await.unwrap() else { continue };
            let goal = sealed.open().unwrap();
            if goal.allocations.len() == 2 {
                return goal;
            }
        }
    };
    let goal =
        tokio::time::timeout(std::time::Duration::from_secs(60), planned).await.expect("a plan in time");
    assert!(goal.allocations.contains_key(&id), "what ran runs on");
    // The first one comes back, as one of two.
    cut.refuse(false);
    one.until(WEB, |view| view["desired"] == json!(2) || view["replicas"] == json!(2)).await;
    assert_eq!(presence(&one, "attic").await["state"], "connected");
}
