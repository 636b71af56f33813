//! From a deployment to a goal, from a report to a status, and over restarts.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_link::message::*;
use lattice_model::{AllocationId, Goal, goal::DesiredState, report::ReportKind};
use serde_json::json;
use support::*;

#[tokio::test]
async fn a_deployment_becomes_a_goal_and_reports_become_a_status() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    let empty = agent.goal(&mut link).await;
    assert!(empty.allocations.is_empty());

    let started = std::time::Instant::now();
    let result = world.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    let goal = agent.goal(&mut link).await;
    println!("API to goal: {:?}", started.elapsed());
    assert_eq!(result["placements"][0]["node"], "attic", "{result:#}");
    let (id, allocation) = goal.allocations.first_key_value().unwrap();
    assert_eq!((allocation.spec.image.as_str(), allocation.desired), ("nginx:1", DesiredState::Run));
    let volume = allocation.volumes["data"];
    assert!(!goal.volumes[&volume].exists);

    agent.say(&mut link, vec![ReportKind::VolumeCreated { id: volume }, running(*id)]).await;
    let view = world.get(WEB).await;
    assert_eq!((&view["state"], &view["serving"]), (&json!("running"), &json!(1)), "{view:#}");
    assert_eq!(world.get("/v1/volumes").await["items"][0]["state"], "available");
    assert!(agent.goal(&mut link).await.volumes[&volume].exists);

    // Data that is away blocks its users, and is asked after also while it has none.
    agent.say(&mut link, vec![ReportKind::VolumeMissing { id: volume }]).await;
    world.event("volume.missing").await;
    world.ok("POST", &format!("{WEB}/scale"), Some(json!({"replicas": 0}))).await;
    while !agent.goal(&mut link).await.remove.contains(id) {}
    agent.say(&mut link, vec![ReportKind::AllocationGone { id: *id }]).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if goal.remove.is_empty() {
            break goal;
        }
    };
    assert!(goal.allocations.is_empty() && goal.volumes[&volume].missing, "{goal:#?}");
    let found = ReportKind::VolumeFound { id: volume };
    agent.say(&mut link, vec![found.clone(), found]).await;
    world.event("volume.found").await;
    assert_eq!(world.get("/v1/volumes").await["items"][0]["state"], "available");
    assert!(agent.goal(&mut link).await.volumes.is_empty());
    world.ok("POST", &format!("{WEB}/scale"), Some(json!({"replicas": 1}))).await;
    let goal = agent.goal(&mut link).await;
    let id = goal.allocations.first_key_value().unwrap().0;
    agent.say(&mut link, vec![running(*id)]).await;

    // What was deployed is deployed: the same again changes nothing, another image replaces it.
    let same = world.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    assert!(
        same["changes"].as_array().unwrap().iter().all(|change| change["kind"] == "unchanged"),
        "{same:#}"
    );
    world.ok("PUT", SHOP, Some(web("nginx:2"))).await;
    let goal = agent.goal(&mut link).await;
    let (new, allocation) = goal.allocations.first_key_value().unwrap();
    assert_eq!((allocation.spec.image.as_str(), allocation.replaces), ("nginx:2", Some(*id)));
    agent.say(&mut link, vec![ReportKind::AllocationGone { id: *id }, running(*new)]).await;

    world.ok("POST", &format!("{WEB}/stop"), None).await;
    loop {
        if agent.goal(&mut link).await.allocations.values().all(|a| a.desired == DesiredState::Stop) {
            break;
        }
    }
    world.ok("POST", &format!("{WEB}/start"), None).await;
    world.ok("POST", &format!("{WEB}/restart"), None).await;
    loop {
        if agent
            .goal(&mut link)
            .await
            .allocations
            .values()
            .all(|a| a.restart == 1 && a.desired == DesiredState::Run)
        {
            break;
        }
    }
    world.ok("DELETE", &format!("{SHOP}?volumes=true"), None).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if goal.allocations.is_empty() && goal.volumes.get(&volume).is_some_and(|volume| volume.delete) {
            break goal;
        }
    };
    assert!(goal.networks.is_empty());
    agent
        .say(
            &mut link,
            vec![ReportKind::AllocationGone { id: *new }, ReportKind::VolumeDeleted { id: volume }],
        )
        .await;
    world.until("/v1/stacks", |list| list["items"] == json!([])).await;
    assert_eq!(world.get("/v1/volumes").await["items"], json!([]));
}

#[tokio::test]
async fn a_node_speaks_for_itself_alone_and_once() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    let id = *goal.allocations.first_key_value().unwrap().0;

    let (mut stranger, mut other) = world.node("cellar").await;
    stranger.say(&mut other, vec![running(id), ReportKind::AllocationGone { id }]).await;
    assert_eq!(world.get(&format!("/v1/allocations/{id}")).await["status"]["state"], "assigned");
    assert_eq!(world.event("report.refused").await["node"], "cellar");

    // The ack is lost: the agent says everything again, and it takes effect once.
    let batch = vec![agent.report(running(id)), agent.report(ReportKind::RuntimeBack)];
    agent.repeat(&mut link, batch.clone()).await;
    drop(link);
    agent.waiting = 2;
    let mut link = agent.connect().await.unwrap();
    assert_eq!(link.welcome.ack_up_to, 2);
    agent.repeat(&mut link, batch).await;
    let events = world.get("/v1/events?limit=1000&node=attic").await;
    let count =
        |kind| events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((count("allocation.running"), count("node.runtime_back")), (1, 1));
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    let id = *goal.allocations.first_key_value().unwrap().0;
    agent.say(&mut link, vec![running(id)]).await;
    let before = world.get(&format!("/v1/allocations/{id}")).await;
    drop(link);
    world.restart(|_| {}).await;
    // Nothing is known of the node yet, and nothing is taken from it.
    let node = world.get("/v1/nodes/attic").await;
    assert_ne!(node["presence"]["state"], "connected");
    assert_eq!(world.get(&format!("/v1/allocations/{id}")).await["status"]["state"], "unknown");
    let mut link = agent.connect().await.unwrap();
    assert_eq!(link.welcome.ack_up_to, agent.seq);
    assert_eq!(world.get(&format!("/v1/allocations/{id}")).await, before);
    // It has its goal already: the next thing it hears is the answer to what it says.
    let report = agent.report(ReportKind::RuntimeBack);
    link.io.send.send(AgentMessage::Reports(vec![report])).await.unwrap();
    assert_eq!(soon("the ack", link.io.recv.recv()).await.unwrap(), ServerMessage::Ack(agent.seq));
}

#[tokio::test]
async fn a_store_behind_its_agents_plans_nothing() {
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    agent.goal(&mut link).await;
    drop(link);
    let (seen, hash) = agent.goal.unwrap();
    agent.goal = Some((lattice_model::GoalId { revision: seen.revision + 100_000, ..seen }, hash));
    let link = agent.connect().await.unwrap();
    world.event("store.behind").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let status = world.get("/v1/status").await;
    assert!(status["warnings"][0].as_str().unwrap().contains("behind"), "{status:#}");
    assert_eq!(world.get("/v1/allocations?all=true").await["items"], json!([]));
    drop(link);
    world.restart(|config| config.accept_older_store = true).await;
    let mut link = agent.connect().await.unwrap();
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    assert_eq!((goal.allocations.len(), agent.goal.unwrap().0.incarnation), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_what_waits_says_why() {
    let world = World::new().await;
    let huge = |memory: &str| json!({ "spec": { "workloads": { "web": { "image": "nginx", "resources": { "reserved_memory": memory.parse::<lattice_model::Bytes>().unwrap() } } } } });
    // Without a node it waits; with one that is too small it can never be.
    let waits = world.ok("PUT", SHOP, Some(huge("64g"))).await;
    assert_eq!(waits["pending"][0]["slot"], 1, "{waits:#}");
    let view = world.until(WEB, |view| view["state"] == "pending").await;
    assert!(view["pending"][0]["why"].as_str().unwrap().contains("no nodes"), "{view:#}");
    let (_agent, _link) = world.node("attic").await;
    let (status, refused) = world.ask("PUT", SHOP, Some(huge("64g"))).await;
    assert_eq!((status, &refused["code"]), (422, &json!("invalid_spec")), "{refused:#}");
    let text = refused.to_string();
    assert!(text.contains("64 GiB") && text.contains("4 GiB"), "{text}");
    // Smaller, it is placed at once.
    let fits = world.ok("PUT", SHOP, Some(huge("1g"))).await;
    assert_eq!(fits["placements"][0]["node"], "attic");
    world.until(WEB, |view| view["allocations"].as_array().is_some_and(|all| all.len() == 1)).await;
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let world = World::new().await;
    let (_agent, _link) = world.node("attic").await;
    let revision = world.get("/v1/status").await["revision"].clone();
    let result = world.ok("PUT", &format!("{SHOP}?dry_run=true"), Some(web("nginx"))).await;
    assert_eq!(
        (&result["dry_run"], &result["placements"][0]["node"]),
        (&json!(true), &json!("attic")),
        "{result:#}"
    );
    assert_eq!(world.get("/v1/stacks").await["items"], json!([]));
    assert_eq!(world.get("/v1/volumes").await["items"], json!([]));
    let later = world.get("/v1/status").await["revision"].clone();
    // The ratchet's confirmation may come in between, a deployment does not.
    assert!(later.as_u64().unwrap() - revision.as_u64().unwrap() <= 1);
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    let id: AllocationId = *goal.allocations.first_key_value().unwrap().0;
    let (mut stranger, mut other) = world.node("cellar").await;
    assert_eq!(stranger.goal(&mut other).await, Goal::default(), "a node is told of itself alone");
    let path = format!("/v1/allocations/{id}/logs?timestamps=true");
    let answer = async {
        let asked = loop {
            if let ServerMessage::OpenStream(asked) = soon("a request", link.io.recv.recv()).await.unwrap() {
                break asked;
            }
        };
        assert!(matches!(&asked.request, StreamRequest::Logs(logs) if logs.allocation == id));
        // Another node that knows the number gets nothing, and takes nothing from whom it is for.
        let mut stolen = stranger.bulk().open(asked.stream).await.unwrap();
        assert!(matches!(stolen.recv.recv().await.unwrap(), Some(BulkFrame::Close(BulkEnd::Failed(_)))));
        let stream = agent.bulk().open(asked.stream).await.unwrap();
        stream
            .send
            .data(channel::STDOUT, "2024-05-06T07:08:09.5Z one\n2024-05-06T07:08:10Z tw".into())
            .await
            .unwrap();
        stream.send.data(channel::STDERR, "oops".into()).await.unwrap();
        stream.send.data(channel::STDOUT, "o\n".into()).await.unwrap();
        stream.send.close(BulkEnd::Done).await.unwrap();
        // A number is good once.
        let mut again = agent.bulk().open(asked.stream).await.unwrap();
        assert!(matches!(again.recv.recv().await.unwrap(), Some(BulkFrame::Close(BulkEnd::Failed(_)))));
    };
    let (text, ()) = tokio::join!(world.get(&path), answer);
    let text = text.as_str().unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({ "stream": "stdout", "at_ms": 1_714_979_289_500_i64, "text": "one\n" }),
        "{text}"
    );
    assert_eq!(
        (&lines[1]["text"], &lines[2]["text"], &lines[2]["stream"]),
        (&json!("two\n"), &json!("oops"), &json!("stderr"))
    );
    drop(link);
    world.until("/v1/nodes/attic", |node| node["presence"]["state"] == "disconnected").await;
    assert_eq!(world.ask("GET", &path, None).await.0, 503);
}

#[tokio::test]
async fn secrets_reach_the_goal_and_nothing_else() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    let stack = json!({ "spec": { "workloads": { "web": { "image": "nginx", "secrets": [{ "secret": "pw", "target": "/run/secrets/pw" }] } } } });
    assert_eq!(world.ask("PUT", SHOP, Some(stack.clone())).await.0, 422);
    let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
    let (status, _) =
        send(stream, "PUT", "/v1/projects/default/secrets/pw", &[("host", "x")], "hunter2-value").await;
    assert_eq!(status, 200);
    // The same again is nothing new.
    let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
    send(stream, "PUT", "/v1/projects/default/secrets/pw", &[("host", "x")], "hunter2-value").await;
    let listed = world.get("/v1/projects/default/secrets").await;
    assert_eq!(listed["items"][0]["version"], 1, "{listed}");
    world.ok("PUT", SHOP, Some(stack)).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    assert_eq!(goal.allocations.values().next().unwrap().secrets["pw"].reveal(), b"hunter2-value");
    for path in ["/v1/projects/default/secrets", "/v1/events", "/v1/audit", SHOP] {
        assert!(!world.get(path).await.to_string().contains("hunter2"), "{path}");
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(world.home.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.push(std::fs::read(path).unwrap());
        }
    }
    let needle = b"hunter2-value";
    assert!(
        !files.iter().any(|file| file.windows(needle.len()).any(|part| part == needle)),
        "a secret lies in the open"
    );
    assert_eq!(world.ask("DELETE", "/v1/projects/default/secrets/pw", None).await.0, 409);
}

#[tokio::test]
async fn a_command_runs_over_a_websocket() {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let goal = loop {
        let goal = agent.goal(&mut link).await;
        if !goal.allocations.is_empty() {
            break goal;
        }
    };
    let id = *goal.allocations.first_key_value().unwrap().0;
    // Without an upgrade it is refused with words.
    assert_eq!(world.ask("GET", &format!("/v1/allocations/{id}/exec"), None).await.0, 400);

    let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
    let request = format!("ws://lattice/v1/allocations/{id}/exec").into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let start = json!({ "argv": ["cat", "s3cret-argument"], "stdin": true, "tty": true, "size": { "cols": 80, "rows": 24 } });
    socket.send(Message::Text(start.to_string().into())).await.unwrap();
    let asked = loop {
        if let ServerMessage::OpenStream(asked) = soon("a request", link.io.recv.recv()).await.unwrap() {
            break asked;
        }
    };
    assert!(matches!(&asked.request, StreamRequest::Exec(exec) if exec.size == Some((80, 24)) && exec.stdin));
    let mut bulk = agent.bulk().open(asked.stream).await.unwrap();
    socket.send(Message::Binary(lattice_api::exec_frame(0, b"hello").into())).await.unwrap();
    socket
        .send(Message::Text(
            json!({ "type": "resize", "size": { "cols": 100, "rows": 30 } }).to_string().into(),
        ))
        .await
        .unwrap();
    socket.send(Message::Text(json!({ "type": "stdin_closed" }).to_string().into())).await.unwrap();
    let mut heard = Vec::new();
    loop {
        match soon("input", bulk.recv.recv()).await.unwrap().unwrap() {
            BulkFrame::Data { channel: channel::STDIN, bytes } => heard.extend_from_slice(&bytes),
            BulkFrame::Data { channel, bytes } => {
                let size: TerminalSize = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((channel, size.columns, size.rows), (channel::CONTROL, 100, 30));
            }
            BulkFrame::End(channel::STDIN) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, b"hello");
    bulk.send.data(channel::STDOUT, "hello".into()).await.unwrap();
    bulk.send.close(BulkEnd::Exit(7)).await.unwrap();
    let output = soon("output", socket.next()).await.unwrap().unwrap();
    assert_eq!(output.into_data()[..], *b"\x01hello");
    let last = soon("the exit", socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&last).unwrap(),
        json!({ "type": "exit", "code": 7 })
    );
    let audit = world.get("/v1/audit").await.to_string();
    assert!(audit.contains("allocation.exec") && !audit.contains("s3cret"), "{audit}");

    // What no agent could read is refused here, and costs no session.
    let exec = async |start: serde_json::Value| {
        let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
        let request = format!("ws://lattice/v1/allocations/{id}/exec").into_client_request().unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        socket.send(Message::Text(start.to_string().into())).await.unwrap();
        socket
    };
    let mut socket = exec(json!({ "argv": ["echo", "x".repeat(100_000)] })).await;
    let refused = soon("a refusal", socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(refused.contains("too_large"), "{refused}");

    // Much of both ways at once: nobody waits for the other to read first.
    let socket = exec(json!({ "argv": ["cat"], "stdin": true })).await;
    let asked = loop {
        if let ServerMessage::OpenStream(asked) = soon("a request", link.io.recv.recv()).await.unwrap() {
            break asked;
        }
    };
    let (send, mut recv) = agent.bulk().open(asked.stream).await.unwrap().split();
    const CHUNKS: usize = 400;
    let command = tokio::spawn(async move {
        // It reads its input only when its output is read.
        for _ in 0..CHUNKS {
            send.data(channel::STDOUT, vec![b'o'; 32 << 10].into()).await.unwrap();
        }
        while recv.recv().await.unwrap().unwrap() != BulkFrame::End(channel::STDIN) {}
        send.close(BulkEnd::Exit(0)).await.unwrap();
    });
    // The client gives more than fits under way before its output is read.
    let (mut given, mut output) = socket.split();
    let giving = tokio::spawn(async move {
        for _ in 0..CHUNKS {
            let frame = lattice_api::exec_frame(0, &[b'i'; 32 << 10]);
            given.send(Message::Binary(frame.into())).await.unwrap();
        }
        let closed = json!({ "type": "stdin_closed" }).to_string();
        given.send(Message::Text(closed.into())).await.unwrap();
        given
    });
    let mut read = 0;
    while read < CHUNKS * (32 << 10) {
        read += soon("output", output.next()).await.unwrap().unwrap().into_data().len() - 1;
    }
    let _given = soon("the end of the input", giving).await.unwrap();
    soon("the end of the command", command).await.unwrap();
}

#[tokio::test]
async fn one_use_is_one_node_and_parallel_changes_all_count() {
    let world = World::new().await;
    let token = world.token(true).await;
    let agents: Vec<Agent> = (0..6).map(|n| Agent::new(&token, &format!("n{n}"))).collect();
    let joins = agents.iter().map(|agent| async { agent.join(agent.request(&token)).await.next().await });
    let results = futures::future::join_all(joins).await;
    let approved = results.iter().filter(|update| matches!(update, JoinUpdate::Approved(_))).count();
    assert_eq!(approved, 1, "{results:?}");
    assert_eq!(world.get("/v1/nodes").await["items"].as_array().unwrap().len(), 1);

    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    let restart = format!("{WEB}/restart");
    futures::future::join_all((0..12).map(|_| world.ok("POST", &restart, None))).await;
    assert_eq!(world.get(WEB).await["restart"], 12);
}

/// What is held has a node and volumes, and nothing of it runs until it is started; nobody deploys
/// over it, and it takes the place of nothing that is there.
#[tokio::test]
async fn a_stack_is_held_until_it_is_started() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    agent.goal(&mut link).await;
    let held = world.ok("PUT", &format!("{SHOP}?hold=true"), Some(web("nginx:1"))).await;
    assert_eq!(held["placements"][0]["node"], "attic", "{held:#}");
    let goal = agent.goal(&mut link).await;
    let (id, allocation) = goal.allocations.first_key_value().unwrap();
    assert_eq!(allocation.desired, DesiredState::Stop);
    let volume = allocation.volumes["data"];
    assert!(goal.volumes.contains_key(&volume));
    agent.say(&mut link, vec![ReportKind::VolumeCreated { id: volume }, stopped(*id)]).await;
    let view = world.get(WEB).await;
    assert_eq!((&view["state"], &view["desired"]), (&json!("stopped"), &json!("hold")), "{view:#}");

    let refused = world.ask("PUT", SHOP, Some(web("nginx:2"))).await;
    assert_eq!(refused.0, 409, "{refused:?}");
    assert!(refused.1.to_string().contains("is held"), "{refused:?}");
    world.ok("POST", &format!("{WEB}/start"), None).await;
    while agent.goal(&mut link).await.allocations[id].desired != DesiredState::Run {}
    agent.say(&mut link, vec![running(*id)]).await;
    assert_eq!(world.get(WEB).await["state"], "running");

    // Neither over a stack, nor over data that a stack left.
    let again = world.ask("PUT", &format!("{SHOP}?hold=true"), Some(web("nginx:1"))).await;
    assert!(again.0 == 409 && again.1.to_string().contains("already"), "{again:?}");
    world.ok("DELETE", SHOP, None).await;
    while !agent.goal(&mut link).await.remove.contains(id) {}
    agent.say(&mut link, vec![ReportKind::AllocationGone { id: *id }]).await;
    while world.ask("GET", SHOP, None).await.0 != 404 {}
    let again = world.ask("PUT", &format!("{SHOP}?hold=true"), Some(web("nginx:1"))).await;
    assert!(again.0 == 409 && again.1.to_string().contains("exists already, and its data"), "{again:?}");
}

#[tokio::test]
async fn a_compose_file_is_read_and_what_it_says_is_deployed() {
    let world = World::new().await;
    let path = "/v1/projects/default/compose";
    let source = "services:\n  web: {image: \"nginx:$TAG\"}\n";
    let good = json!({ "source": source, "name": "shop", "env": { "TAG": "1" } });
    let read = world.ok("POST", path, Some(good)).await;
    assert_eq!(
        (&read["name"], &read["spec"]["workloads"]["web"]["image"], &read["problems"]),
        (&json!("shop"), &json!("nginx:1"), &json!([])),
        "{read:#}"
    );
    assert_eq!(world.get("/v1/stacks").await["items"], json!([]), "reading deploys nothing");
    let request = json!({ "spec": read["spec"], "source": source });
    world.ok("PUT", SHOP, Some(request)).await;
    assert_eq!(world.get("/v1/stacks").await["items"][0]["name"], "shop");

    // Every problem has its place; what this server's machine has is not looked at.
    let bad =
        "services:\n  web:\n    image: a\n    imge: b\n    env_file: /etc/hostname\n    command: $HOME\n";
    let read = world.ok("POST", path, Some(json!({ "source": bad, "name": "shop" }))).await;
    assert!(read["spec"].is_null() && read["name"].is_null(), "{read:#}");
    let problems = read["problems"].as_array().unwrap();
    let at = |line: u32| problems.iter().find(|problem| problem["line"] == line).cloned().unwrap_or_default();
    assert_eq!(
        (&at(4)["code"], &at(4)["severity"], &at(4)["path"]),
        (&json!("unknown_key"), &json!("error"), &json!("services.web.imge"))
    );
    assert_eq!((&at(5)["code"], &at(6)["code"]), (&json!("not_supported"), &json!("variable")), "{read:#}");
    let (status, answer) = world.ask("POST", path, Some(json!({ "source": "", "files": {} }))).await;
    assert_eq!(status, 400, "{answer}");
    let many: serde_json::Map<String, serde_json::Value> =
        (0..1001).map(|n| (format!("A{n}"), json!(""))).collect();
    let (status, answer) = world.ask("POST", path, Some(json!({ "source": source, "env": many }))).await;
    assert_eq!(status, 400, "{answer}");
    let missing = json!({ "source": source, "name": "shop" });
    let (status, answer) = world.ask("POST", "/v1/projects/nowhere/compose", Some(missing)).await;
    assert_eq!(status, 404, "{answer}");
}
