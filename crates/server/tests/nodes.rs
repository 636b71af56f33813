//! How computers become nodes, stay nodes, and stop being nodes.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_identity::{Challenge, Fingerprint, JoinToken, TokenSecret, challenge::prove};
use lattice_link::message::*;
use lattice_model::TokenId;
use serde_json::json;
use support::*;

#[tokio::test]
async fn a_person_approves_on_evidence() {
    let world = World::new().await;
    let token = world.token(false).await;
    let mut agent = Agent::new(&token, "attic");
    let mut joining = agent.join(agent.request(&token)).await;
    let JoinUpdate::Pending { node, fingerprint, .. } = joining.next().await else { panic!("not pending") };
    assert_eq!(fingerprint, agent.key.fingerprint().evidence());
    let view = world.get("/v1/nodes/attic").await;
    assert_eq!((&view["approval"], &view["id"]), (&json!("pending"), &json!(node)));

    // The same key asks again: the same node, and no second use of the token.
    let mut again = agent.join(agent.request(&token)).await;
    assert!(matches!(again.next().await, JoinUpdate::Pending { node: same, .. } if same == node));
    assert_eq!(world.get("/v1/join-tokens").await["items"][0]["used"], 1);

    let wrong = json!({ "fingerprint": "00".repeat(32) });
    assert_eq!(world.ask("POST", "/v1/nodes/attic/approve", Some(wrong)).await.0, 412);
    world
        .ok("POST", "/v1/nodes/attic/approve", Some(json!({ "fingerprint": fingerprint, "name": "loft" })))
        .await;
    let JoinUpdate::Approved(approved) = joining.next().await else { panic!("not approved") };
    agent.approved(approved);
    let _link = agent.connect().await.unwrap();
    let view = world.until("/v1/nodes/loft", |node| node["presence"]["state"] == "connected").await;
    assert_eq!(view["approval"], "approved");
    assert!(view["certificate_expires_at"].is_i64());
    let audit = world.get("/v1/audit").await.to_string();
    assert!(audit.contains("node.approve") && audit.contains("join_token.create"), "{audit}");
}

#[tokio::test]
async fn tokens_are_refused_with_their_reason() {
    let world = World::new().await;
    let token = world.token(false).await;
    let agent = Agent::new(&token, "attic");
    let altered = |id, secret| JoinToken::new(token.servers().to_vec(), token.root(), id, secret).unwrap();
    let forged = altered(token.id(), TokenSecret::generate().unwrap());
    assert_eq!(agent.join(agent.request(&forged)).await.refused().await, "token_forged");
    let unknown = altered(TokenId::from_random(5), token.secret().clone());
    assert_eq!(agent.join(agent.request(&unknown)).await.refused().await, "token_unknown");
    let mut other_key = agent.request(&token);
    other_key.public_key = Agent::new(&token, "x").key.public_key_der().to_vec();
    assert_eq!(agent.join(other_key).await.refused().await, "malformed");

    agent.join(agent.request(&token)).await.next().await;
    let second = Agent::new(&token, "attic");
    assert_eq!(second.join(second.request(&token)).await.refused().await, "token_used_up");

    let short = world.ok("POST", "/v1/join-tokens", Some(json!({ "ttl_ms": 1 }))).await;
    let short = JoinToken::parse(short["token"].as_str().unwrap()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(second.join(second.request(&short)).await.refused().await, "token_expired");

    // A token of another cluster: its root is not this server's, so the agent does not even ask.
    let elsewhere = World::new().await;
    let foreign = elsewhere.token(false).await;
    let foreign =
        JoinToken::new(token.servers().to_vec(), foreign.root(), foreign.id(), foreign.secret().clone())
            .unwrap();
    let lost = Agent::new(&foreign, "attic");
    let dialled = tokio::spawn(async move { lost.enrolment().await }).await;
    assert!(dialled.is_err(), "an agent trusted a root that its token does not name");
}

#[tokio::test]
async fn rejected_and_revoked_nodes_get_nothing() {
    let world = World::new().await;
    let token = world.token(false).await;
    let agent = Agent::new(&token, "attic");
    let mut joining = agent.join(agent.request(&token)).await;
    joining.next().await;
    world.ok("POST", "/v1/nodes/attic/reject", Some(json!({ "reason": "not ours" }))).await;
    assert_eq!(joining.refused().await, "node_rejected");
    assert_eq!(agent.join(agent.request(&token)).await.refused().await, "node_rejected");
    assert_eq!(world.ask("DELETE", "/v1/nodes/attic", None).await.0, 204);

    let (mut agent, mut link) = world.node("cellar").await;
    assert_eq!(world.ask("DELETE", "/v1/nodes/cellar", None).await.0, 409);
    world.ok("POST", "/v1/nodes/cellar/revoke", Some(json!({ "reason": "lost" }))).await;
    assert_eq!(goodbye(&mut link).await, "node_revoked");
    assert_eq!(code(&agent.connect().await.err().unwrap()), "node_revoked");
    let refused = agent.enrolment().await.challenge(agent.node.unwrap()).await.unwrap_err();
    assert_eq!(code(&refused), "node_revoked");
    assert_eq!(world.ask("POST", "/v1/nodes/cellar/approve", None).await.0, 409);
}

#[tokio::test]
async fn a_node_comes_back_by_its_key() {
    let world = World::new().await;
    let (mut agent, link) = world.node("attic").await;
    drop(link);
    // Its certificate has ended: it comes without one.
    let connection = agent.enrolment().await;
    let leaf = Fingerprint::of(&connection.server_chain()[0]);
    let node = agent.node.unwrap();
    let csr_der = agent.key.csr_der("test").unwrap();
    let challenge = Challenge::from_bytes(connection.challenge(node).await.unwrap());
    let signature = prove(&agent.key, node, &challenge, &leaf, &csr_der).unwrap();
    let request = RenewRequest { node, challenge: challenge.as_bytes().to_vec(), signature, csr_der };
    let certificate = connection.renew(request.clone()).await.unwrap();
    agent.certify(&certificate);
    agent.connect().await.unwrap();

    let stranger = Agent::new(&world.token(false).await, "x");
    let csr_der = stranger.key.csr_der("test").unwrap();
    let signature = prove(&stranger.key, node, &challenge, &leaf, &csr_der).unwrap();
    let refused = connection.renew(RenewRequest { signature, csr_der, ..request }).await.unwrap_err();
    assert_eq!(code(&refused), "challenge_wrong_key");
}

#[tokio::test]
async fn a_copied_node_is_noticed_and_a_person_decides() {
    let world = World::new().await;
    let (mut agent, link) = world.node("attic").await;
    drop(link);
    let before = agent.ratchet.clone();
    let mut link = agent.connect().await.unwrap();
    agent.say(&mut link, vec![lattice_model::report::ReportKind::RuntimeBack]).await;
    let good = std::mem::replace(&mut agent.ratchet, before);
    // The copy has the value of the last session.
    assert_eq!(code(&agent.connect().await.err().unwrap()), "node_quarantined");
    assert_eq!(goodbye(&mut link).await, "node_quarantined");
    agent.ratchet = good;
    assert_eq!(code(&agent.connect().await.err().unwrap()), "node_quarantined");
    let view = world.get("/v1/nodes/attic").await;
    assert_eq!(view["approval"], "quarantined");
    assert!(view["clone_warning"].as_str().unwrap().contains("copy"), "{view}");
    world.event("node.quarantined").await;

    world.ok("POST", "/v1/nodes/attic/approve", None).await;
    agent.connect().await.unwrap();
    assert!(world.get("/v1/nodes/attic").await["clone_warning"].is_null());
}

#[tokio::test]
async fn a_newer_session_takes_over_and_old_agents_get_no_work() {
    let world = World::with(|config| config.min_agent_version = Some("0.2.0".into())).await;
    let (mut agent, mut first) = world.node("attic").await;
    assert_eq!(first.welcome.notice.as_ref().unwrap().code, "outdated");
    assert_eq!(world.get("/v1/nodes/attic").await["eligibility"], "outdated");
    agent.version = "0.2.0".into();
    let second = agent.connect().await.unwrap();
    assert!(second.welcome.notice.is_none());
    assert_eq!(goodbye(&mut first).await, "session_replaced");
    let view = world.get("/v1/nodes/attic").await;
    assert_eq!((&view["eligibility"], &view["presence"]["state"]), (&json!("eligible"), &json!("connected")));
    drop(second);
    world.until("/v1/nodes/attic", |node| node["presence"]["state"] == "disconnected").await;
}

#[tokio::test]
async fn a_name_is_one_nodes_and_an_id_is_nobody_elses_name() {
    let world = World::new().await;
    let tokens = [world.token(false).await, world.token(false).await];
    // At once, with tokens of their own: nothing but the name is common to them.
    let agents = tokens.each_ref().map(|token| Agent::new(token, "attic"));
    let (mut first, mut second) = tokio::join!(
        agents[0].join(agents[0].request(&tokens[0])),
        agents[1].join(agents[1].request(&tokens[1]))
    );
    let JoinUpdate::Pending { node, .. } = first.next().await else { panic!("not pending") };
    second.next().await;
    let names: std::collections::BTreeSet<String> = world.get("/v1/nodes").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["attic".to_owned(), "attic-2".to_owned()].into());

    // One that calls itself as another one's id begins is not approved in its place.
    let token = world.token(false).await;
    let liar = Agent::new(&token, &node.to_string()[..8]);
    liar.join(liar.request(&token)).await.next().await;
    assert_eq!(world.get(&format!("/v1/nodes/{node}")).await["id"], json!(node));
    let approved = world.ask("POST", &format!("/v1/nodes/{}/approve", &node.to_string()[..8]), None).await;
    assert_eq!((approved.0, &approved.1["code"]), (409, &json!("ambiguous")), "{}", approved.1);
}

#[tokio::test]
async fn who_claims_a_newer_store_stops_planning_until_it_is_thrown_out() {
    let world = World::new().await;
    let (mut liar, link) = world.node("liar").await;
    let (mut attic, mut attic_link) = world.node("attic").await;
    drop(link);
    liar.goal = Some((lattice_model::GoalId { incarnation: u64::MAX, revision: 1 }, [0; 32]));
    let _link = liar.connect().await.unwrap();
    world.event("store.behind").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    assert!(world.get("/v1/status").await["warnings"].to_string().contains("liar"));
    world.ok("POST", "/v1/nodes/liar/revoke", Some(json!({}))).await;
    while attic.goal(&mut attic_link).await.allocations.is_empty() {}
    assert_eq!(world.get("/v1/status").await["warnings"], json!([]));
}

#[tokio::test]
async fn a_node_that_comes_back_while_it_is_missed_is_connected() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    // The end of one session and the beginning of the next are written at the same time.
    for _ in 0..30 {
        drop(link);
        link = agent.connect().await.unwrap();
    }
    agent.say(&mut link, vec![lattice_model::report::ReportKind::RuntimeBack]).await;
    world.until("/v1/nodes/attic", |node| node["presence"]["state"] == "connected").await;
    world.event("node.runtime_back").await;
    assert_eq!(world.get("/v1/nodes/attic").await["presence"]["state"], "connected");
}

#[tokio::test]
async fn nodes_of_a_restored_store_are_no_copies() {
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    agent.goal(&mut link).await;
    drop(link);
    let mut older = Vec::new();
    world.restart_with(|home| older = std::fs::read(home.join("store.db")).unwrap(), |_| {}).await;
    let mut link = agent.connect().await.unwrap();
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    while agent.goal(&mut link).await.allocations.is_empty() {}
    drop(link);
    agent.connect().await.unwrap();
    let put_back = |home: &std::path::Path| {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(home.join(format!("store.db{suffix}")));
        }
        std::fs::write(home.join("store.db"), older).unwrap();
    };
    world.restart_with(put_back, |_| {}).await;
    assert_eq!(code(&agent.connect().await.err().unwrap()), "store_behind");
    world.event("store.behind").await;
    assert_eq!(world.get("/v1/nodes/attic").await["approval"], "approved");

    world.restart(|config| config.accept_older_store = true).await;
    let mut link = agent.connect().await.unwrap();
    assert!(agent.goal(&mut link).await.allocations.is_empty());
    assert_eq!(agent.goal.unwrap().0.incarnation, 2);
    assert!(world.get("/v1/audit").await.to_string().contains("store.accept_older"));
    drop(link);
    agent.connect().await.unwrap();
}
