//! The link over real TCP and TLS on loopback: what agents and servers see when all is well, and
//! when the network, the other side or somebody in between is not.

#![cfg(all(feature = "server", feature = "client"))]
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use futures::StreamExt;
use lattice_link::{
    Backoff, CloseReason, LinkError,
    client::{self, BulkDialer, Connection, Proxy},
    code,
    message::*,
    outbox::{Bound, Outbox},
    proto,
    server::Limits,
    wire,
};
use lattice_model::{
    GoalId, NodeId, SealedGoal, Timestamp,
    report::ReportKind,
    spec::{ImageDigest, TreeDigest},
};
use sha2::Digest;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use support::*;
use tokio::{io::AsyncReadExt, net::TcpStream};

#[tokio::test]
async fn a_node_joins_after_a_decision_and_renews() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let connection = dialer(server.addr, ca.client(None)).dial().await.unwrap();
    let mut updates = std::pin::pin!(connection.join(join_request()).await.unwrap());
    let first = soon("pending", updates.next()).await.unwrap().unwrap();
    assert!(matches!(first, JoinUpdate::Pending { .. }), "{first:?}");
    server.gateway.decided.send_replace(true);
    let second = soon("approved", updates.next()).await.unwrap().unwrap();
    assert!(matches!(second, JoinUpdate::Approved(_)), "{second:?}");
    assert!(soon("the end", updates.next()).await.is_none());

    let node = NodeId::from_random(1);
    let challenge = connection.challenge(node).await.unwrap();
    let request =
        |signature| RenewRequest { node, challenge: challenge.clone(), signature, csr_der: vec![5; 100] };
    let certificate = connection.renew(request(challenge.clone())).await.unwrap();
    assert_eq!(certificate.chain_der, [vec![5; 100]]);
    let refused = connection.renew(request(vec![])).await.unwrap_err();
    assert!(matches!(&refused, LinkError::Refused(r) if r.code == "proof_wrong"), "{refused}");

    let mut forged = join_request();
    forged.token_secret = Secret::new("guess");
    let mut old = join_request();
    old.protocol = ProtocolRange { min: 0, max: 0 };
    for (request, code) in [(forged, "token_unknown"), (old, code::VERSION)] {
        let mut updates = std::pin::pin!(connection.join(request).await.unwrap());
        match soon("a refusal", updates.next()).await.unwrap().unwrap() {
            JoinUpdate::Refused(refusal) => assert_eq!(refusal.code, code),
            other => panic!("{other:?}"),
        }
    }
    server.end().await;
}

#[tokio::test]
async fn goals_go_down_and_reports_up_once() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let dialer = dialer(server.addr, ca.client(Some(&ca)));
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(&dir.path().join("o.db"), OutboxId(4), Bound::default()).unwrap();
    outbox.push_all([ReportKind::RuntimeBack, ReportKind::RuntimeBack], Timestamp(1)).unwrap();
    for _ in 0..2 {
        let hello = Hello { outbox: outbox.mark().unwrap(), ..hello() };
        let (welcome, mut session) = soon("welcome", client::connect(&dialer, hello)).await.unwrap();
        assert_eq!(welcome.protocol, 1);
        // The agent forgets what it had sent: everything again, and each takes effect once.
        outbox.push(ReportKind::RuntimeBack, Timestamp(2)).unwrap();
        let reports = outbox.unacked(0, 256).unwrap();
        let last = reports.last().unwrap().seq();
        session.send.send(AgentMessage::Reports(reports)).await.unwrap();
        assert_eq!(soon("ack", session.recv.recv()).await.unwrap(), ServerMessage::Ack(last));
    }
    let taken: Vec<u64> = server.gateway.reports.lock().iter().map(Reported::seq).collect();
    assert_eq!(taken, [1, 2, 3, 4]);
    outbox.ack(4).unwrap();

    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    until("the session", || server.gateway.sessions.lock().len() == 3).await;
    let body = noise(SealedGoal::MAX_BYTES);
    let id = GoalId { incarnation: 1, revision: 7 };
    let goal = SealedGoal::from_parts(id, sha2::Sha256::digest(&body).into(), body.to_vec().into()).unwrap();
    let down = server.gateway.sessions.lock()[2].clone();
    down.send(ServerMessage::Goal(goal.clone())).await.unwrap();
    down.send(ServerMessage::Ack(4)).await.unwrap();
    assert_eq!(soon("the goal", session.recv.recv()).await.unwrap(), ServerMessage::Goal(goal));
    assert_eq!(soon("the ack", session.recv.recv()).await.unwrap(), ServerMessage::Ack(4));
    session.send.send(AgentMessage::GoalAccepted(id)).await.unwrap();
    until("accepted", || server.gateway.goals.lock().contains(&id)).await;
    server.end().await;
}

#[tokio::test]
async fn a_server_that_goes_says_so_and_its_successor_is_found() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let (addr, gateway) = (server.addr, server.gateway.clone());
    let dialer = dialer(addr, ca.client(Some(&ca)));
    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    server.end().await;
    let error = soon("goodbye", session.recv.recv()).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused(r) if r.code == code::SHUTTING_DOWN), "{error}");
    assert!(error.retry_after().is_some());
    drop(session);
    let mut backoff = Backoff::default();
    let error = client::connect(&dialer, hello()).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable(_)), "{error}");
    let agent = tokio::spawn(async move {
        loop {
            match client::connect(&dialer, hello()).await {
                Ok(found) => return (found, backoff.failures()),
                Err(_) => tokio::time::sleep(backoff.next(1 << 62, None).as_std()).await,
            }
        }
    });
    let server = Running::start_at(&ca, limits(), addr, gateway).await;
    let ((_, session), _) = soon("the agent comes back", agent).await.unwrap();
    drop(session);
    server.end().await;
}

#[tokio::test]
async fn a_killed_server_is_noticed_at_once() {
    let ca = Arc::new(Ca::new());
    let machine = tokio::runtime::Runtime::new().unwrap();
    let (ca2, gateway) = (ca.clone(), Arc::new(Recorder::default()));
    let start =
        async move { Running::start_at(&ca2, limits(), "127.0.0.1:0".parse().unwrap(), gateway).await };
    let server = machine.spawn(start).await.unwrap();
    let dialer = Arc::new(dialer(server.addr, ca.client(Some(&ca))));
    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let mut stream = BulkDialer::new(dialer.clone()).open(StreamId(1)).await.unwrap();
    // All its tasks and sockets go, and nobody says goodbye.
    machine.shutdown_background();
    let killed = Instant::now();
    let error = soon("the agent notices", session.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    let error = soon("the stream ends", stream.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    assert!(killed.elapsed() < dialer.keepalive.interval, "{:?}", killed.elapsed());
    let addr = server.addr;
    let server = Running::start_at(&ca, limits(), addr, server.gateway).await;
    soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_cut_link_is_noticed_on_both_sides() {
    let ca = Ca::new();
    let server = Running::start(&ca, Limits { keepalive: quick(), ..limits() }).await;
    let network = Forwarder::start(server.addr).await;
    let mut dialer = dialer(network.addr, ca.client(Some(&ca)));
    dialer.keepalive = quick();
    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    // A link that is only quiet lives on.
    let quiet = tokio::time::timeout(3 * (quick().interval + quick().timeout), session.recv.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    network.blackhole.send_replace(true);
    let cut = Instant::now();
    let error = soon("the agent notices", session.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(CloseReason::Silent)), "{error:?}");
    until("the server notices", || !server.gateway.ends.lock().is_empty()).await;
    let bound = quick().interval + quick().timeout;
    assert!(cut.elapsed() < bound * 4, "{:?}", cut.elapsed());
    let end = server.gateway.ends.lock().pop().unwrap();
    assert!(matches!(end, LinkError::Closed(CloseReason::Silent)), "{end:?}");
    let error = session.send.send(AgentMessage::RatchetStored).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(CloseReason::Silent)), "{error:?}");
    network.blackhole.send_replace(false);
    soon("the link is back", client::connect(&dialer, hello())).await.unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_part_of_an_image_is_asked_for_by_both_names() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let bulk = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(Some(&ca)))));
    let image = ImageDigest::of(b"image");
    for (layer, offset, whole) in [
        (None, 4, b"configuration".to_vec()),
        (Some(ImageDigest::of(b"layer")), 0, ImageDigest::of(b"layer").as_bytes().to_vec()),
    ] {
        let request = ImagePartRequest { image, layer, offset };
        let mut reader = soon("a part", bulk.fetch_image_part(request)).await.unwrap();
        assert_eq!(reader.size(), whole.len() as u64);
        let mut got = Vec::new();
        while let Some(bytes) = soon("bytes", reader.next()).await.unwrap() {
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, whole[usize::try_from(offset).unwrap()..]);
    }
    let stranger = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(None))));
    let request = ImagePartRequest { image, layer: None, offset: 0 };
    assert!(stranger.fetch_image_part(request).await.is_err(), "without a certificate");
}

#[tokio::test]
async fn a_tree_comes_in_pieces_and_goes_on_where_it_broke_off() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let bulk = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(Some(&ca)))));
    let digest = TreeDigest::of(&archive());
    let mut got = Vec::new();
    let mut reader = soon("a tree", bulk.fetch_tree(TreeRequest { digest, offset: 0 })).await.unwrap();
    assert_eq!(reader.size(), 300_000);
    let broke = loop {
        match soon("bytes", reader.next()).await {
            Ok(bytes) => got.extend_from_slice(&bytes.unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(&broke, LinkError::Refused(r) if r.code == code::BUSY), "{broke}");
    assert_eq!(got.len(), 150_000);
    let offset = got.len() as u64;
    let mut reader = bulk.fetch_tree(TreeRequest { digest, offset }).await.unwrap();
    while let Some(bytes) = soon("bytes", reader.next()).await.unwrap() {
        assert!(bytes.len() <= wire::MAX_BULK);
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, archive());
    let unknown = TreeRequest { digest: TreeDigest::of(b"x"), offset: 0 };
    let refused = bulk.fetch_tree(unknown).await.map(drop).unwrap_err();
    assert!(matches!(&refused, LinkError::Refused(r) if r.code == code::TREE_UNKNOWN), "{refused}");
    let beyond = bulk.fetch_tree(TreeRequest { digest, offset: 1 << 30 }).await.map(drop).unwrap_err();
    assert!(format!("{beyond:?}").contains("offset"), "{beyond:?}");
    let stranger = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(None))));
    assert!(stranger.fetch_tree(TreeRequest { digest, offset: 0 }).await.is_err(), "without a certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_does_not_delay_the_session() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let dialer = Arc::new(dialer(server.addr, ca.client(Some(&ca))));
    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let bulk = BulkDialer::new(dialer).with_idle(Duration::from_millis(50));
    assert!(!bulk.is_connected(), "dialled only when it is needed");
    let (send, mut recv) = bulk.open(StreamId(1)).await.unwrap().split();
    let size = 10 << 20;
    let data = noise(size);
    let sent = data.clone();
    let sender = tokio::spawn(async move {
        send.data(channel::STDIN, sent).await.unwrap();
        send.end(channel::STDIN).await.unwrap();
        send
    });
    let echo = tokio::spawn(async move {
        let mut back = Vec::new();
        loop {
            match recv.recv().await.unwrap() {
                Some(BulkFrame::Data { channel: channel::STDIN, bytes }) => back.extend_from_slice(&bytes),
                Some(BulkFrame::Close(end)) => {
                    assert!(recv.recv().await.unwrap().is_none());
                    return (back, end);
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let mut slowest = Duration::ZERO;
    let mut seq = 0;
    while !echo.is_finished() {
        seq += 1;
        let report = Reported::Unknown { seq, at: Timestamp(0), kind: "{}".into() };
        let start = Instant::now();
        session.send.send(AgentMessage::Heartbeat(Heartbeat::default())).await.unwrap();
        session.send.send(AgentMessage::Reports(vec![report])).await.unwrap();
        assert_eq!(soon("ack", session.recv.recv()).await.unwrap(), ServerMessage::Ack(seq));
        slowest = slowest.max(start.elapsed());
    }
    let (back, end) = soon("the echo", echo).await.unwrap();
    assert_eq!(end, BulkEnd::Exit(size as i64));
    assert!(back == data, "the echo differs");
    assert!(slowest < Duration::from_secs(2), "a heartbeat took {slowest:?} beside a stream");
    assert!(server.gateway.heartbeats.load(Ordering::SeqCst) > 0);
    drop(sender.await.unwrap());

    let mut refused = bulk.open(StreamId(13)).await.unwrap();
    let frame = soon("a refusal", refused.recv.recv()).await.unwrap();
    assert!(
        matches!(&frame, Some(BulkFrame::Close(BulkEnd::Failed(r))) if r.code == "no_stream"),
        "{frame:?}"
    );
    assert!(bulk.is_connected());
    drop(refused);
    until("the bulk connection is closed", || server.connections.len() == 1).await;
    assert!(!bulk.is_connected());
    server.end().await;
}

/// A log that trickles while nobody reads it: a browser in the background, a terminal that is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_that_nobody_reads_for_a_while_break_nothing() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let bulk = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(Some(&ca)))));
    let (send, mut recv) = bulk.open(StreamId(1)).await.unwrap().split();
    let line = "the kettle boils\n";
    let count = 8000;
    let sender = tokio::spawn(async move {
        for _ in 0..count {
            send.data(channel::STDIN, Bytes::from_static(line.as_bytes())).await?;
            // One by one, so that they are not put together on the way.
            tokio::task::yield_now().await;
        }
        send.end(channel::STDIN).await?;
        Ok::<_, LinkError>(send)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut back = 0;
    loop {
        match soon("the echo", recv.recv()).await.unwrap() {
            Some(BulkFrame::Data { bytes, .. }) => back += bytes.len(),
            Some(BulkFrame::Close(end)) => break assert_eq!(end, BulkEnd::Exit((count * line.len()) as i64)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, count * line.len());
    drop(sender.await.unwrap().unwrap());
    server.end().await;
}

async fn raw_session(connection: &Connection, message: proto::AgentMessage) -> proto::ServerMessage {
    let origin = "https://localhost".parse().unwrap();
    let mut client = proto::control_client::ControlClient::with_origin(connection.clone(), origin);
    let messages = futures::stream::iter([message]).chain(futures::stream::pending());
    let mut replies = client.session(messages).await.unwrap().into_inner();
    soon("a reply", replies.message()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_breaks_the_protocol_is_refused() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let dialer = dialer(server.addr, ca.client(Some(&ca)));
    let mut too_long = proto::AgentMessage::from(hello());
    if let Some(proto::agent_message::Kind::Hello(hello)) = &mut too_long.kind {
        hello.boot_id = "x".repeat(2 << 20);
    }
    let no_hello = proto::AgentMessage::from(AgentMessage::RatchetStored);
    for message in [too_long, no_hello, proto::AgentMessage::default()] {
        let reply = raw_session(&dialer.dial().await.unwrap(), message).await;
        match reply.kind {
            Some(proto::server_message::Kind::Goodbye(refusal)) => assert_eq!(refusal.code, code::MALFORMED),
            other => panic!("{other:?}"),
        }
    }
    // In the middle of a session, too.
    let (_, mut session) = client::connect(&dialer, hello()).await.unwrap();
    let report = |seq| Reported::Unknown { seq, at: Timestamp(0), kind: "{}".into() };
    session.send.send(AgentMessage::Reports(vec![report(2), report(1)])).await.unwrap();
    let error = soon("goodbye", session.recv.recv()).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused(r) if r.code == code::MALFORMED), "{error}");

    let foreign = Hello { protocol: ProtocolRange { min: 8, max: 9 }, ..hello() };
    let error = soon("refused", client::connect(&dialer, foreign)).await.unwrap_err();
    match error {
        LinkError::VersionRefused(refusal) => {
            assert_eq!(refusal.hint, "update the server");
            assert!(refusal.message.contains("8 to 9"), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
    server.end().await;
}

#[tokio::test]
async fn certificates_decide_who_may_say_what() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = Running::start(&ca, limits()).await;
    let try_with = async |tls| {
        let dialer = dialer(server.addr, tls);
        soon("an answer", client::connect(&dialer, hello())).await.map(drop).unwrap_err()
    };
    let error = try_with(ca.client(None)).await;
    assert!(matches!(&error, LinkError::Refused(r) if r.code == code::CERTIFICATE_REQUIRED), "{error:?}");
    let bulk = BulkDialer::new(Arc::new(dialer(server.addr, ca.client(None))));
    let error = bulk.open(StreamId(1)).await.map(drop).unwrap_err();
    assert!(matches!(&error, LinkError::Refused(r) if r.code == code::CERTIFICATE_REQUIRED), "{error:?}");
    // The server shows a certificate of another CA than the pinned one.
    let error = try_with(other.client(Some(&ca))).await;
    let unknown = matches!(&error, LinkError::Tls { source: rustls::Error::InvalidCertificate(_), .. });
    assert!(unknown, "{error:?}");
    // The agent does; with TLS 1.3 it learns so only after its own side of the handshake.
    for _ in 0..10 {
        let error = try_with(ca.client(Some(&other))).await;
        let told = matches!(&error, LinkError::Tls { source: rustls::Error::AlertReceived(_), .. });
        assert!(told, "{error:?}");
    }
    assert!(server.gateway.ends.lock().is_empty() && server.gateway.sessions.lock().is_empty());
    server.end().await;
}

#[tokio::test]
async fn a_revoked_node_is_cut_at_once() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let dialer = Arc::new(dialer(server.addr, ca.client(Some(&ca))));
    let other = support::dialer(server.addr, ca.client(Some(&ca)));
    let (_, mut session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let (_, mut kept) = soon("welcome", client::connect(&other, hello())).await.unwrap();
    let mut stream = BulkDialer::new(dialer.clone()).open(StreamId(1)).await.unwrap();
    until("three connections", || server.connections.len() == 3).await;
    // Which is which, the gateway knows by the certificate; here, the first and the third have one.
    let leaves = std::sync::Mutex::new(Vec::new());
    server.connections.cut(|peer| {
        leaves.lock().unwrap().push(peer.leaf().to_vec());
        false
    });
    let leaves = leaves.into_inner().unwrap();
    let revoked =
        leaves.iter().find(|leaf| leaves.iter().filter(|l| l == leaf).count() == 2).unwrap().clone();
    assert_eq!(server.connections.cut(|peer| peer.leaf() == revoked), 2);
    let error = soon("the session ends", session.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    let error = soon("the stream ends", stream.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    until("the server knows why", || {
        matches!(server.gateway.ends.lock().first(), Some(LinkError::Closed(CloseReason::Cut)))
    })
    .await;
    let report = Reported::Unknown { seq: 1, at: Timestamp(0), kind: "{}".into() };
    kept.send.send(AgentMessage::Reports(vec![report])).await.unwrap();
    assert_eq!(soon("ack", kept.recv.recv()).await.unwrap(), ServerMessage::Ack(1));
    server.end().await;
}

#[tokio::test]
async fn the_way_out_may_be_a_proxy() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let (proxy, task) = proxy().await;
    let mut dialer = dialer(server.addr, ca.client(Some(&ca)));
    dialer.proxy = Some(format!("http://me:pass@{proxy}").parse::<Proxy>().unwrap());
    soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    dialer.proxy = Some(format!("http://me:wrong@{proxy}").parse::<Proxy>().unwrap());
    let error = soon("407", client::connect(&dialer, hello())).await.map(drop).unwrap_err();
    assert!(matches!(error, LinkError::Proxy { status: Some(407), .. }), "{error:?}");
    assert!(error.to_string().contains("set user and password") && !error.to_string().contains("wrong"));
    task.abort();
    let _ = task.await;
    let error = soon("no proxy", client::connect(&dialer, hello())).await.map(drop).unwrap_err();
    assert!(matches!(error, LinkError::Proxy { status: None, .. }), "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let ca = Ca::new();
    let server = Running::start(&ca, limits()).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut dialer = dialer(closed, ca.client(Some(&ca)));
    dialer.addresses.push(format!("127.0.0.1:{}", server.addr.port()).parse().unwrap());
    let (_, session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    assert_eq!(session.connection.address(), server.addr.to_string());
    assert!(!session.connection.server_chain().is_empty());
    server.end().await;
}

#[tokio::test]
async fn a_storm_is_admitted_at_a_bounded_rate() {
    let ca = Ca::new();
    let full = Limits { max_sessions: 1, ..limits() };
    let server = Running::start(&ca, full).await;
    let dialer = dialer(server.addr, ca.client(Some(&ca)));
    let (_, session) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let error = soon("busy", client::connect(&dialer, hello())).await.map(drop).unwrap_err();
    assert!(matches!(&error, LinkError::Refused(r) if r.code == code::BUSY), "{error:?}");
    assert_eq!(error.retry_after().unwrap().as_std(), limits().busy_retry_after);
    drop(session);
    until("the place is free", || server.connections.is_empty()).await;
    soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    server.end().await;

    // Nobody waits longer than the bound; who would have to is closed unheard.
    let slow = Limits {
        handshakes_per_second: 1,
        handshake_burst: 2,
        max_handshake_wait: Duration::ZERO,
        handshake_timeout: Duration::from_millis(200),
        ..limits()
    };
    let server = Running::start(&ca, slow).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(TcpStream::connect(server.addr).await.unwrap());
    }
    // And who says nothing is closed too.
    for mut socket in sockets {
        let end = soon("closed", socket.read(&mut [0; 16])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed() {
    let ca = Ca::new();
    let idle = Limits { first_message_timeout: Duration::from_millis(100), ..limits() };
    let server = Running::start(&ca, idle).await;
    let connection = dialer(server.addr, ca.client(Some(&ca))).dial().await.unwrap();
    let error = soon("closed", connection.ended()).await;
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn a_key_has_few_connections_and_the_newest_stay() {
    let ca = Ca::new();
    let server = Running::start(&ca, Limits { max_connections_per_key: 2, ..limits() }).await;
    let dialer = Arc::new(dialer(server.addr, ca.client(Some(&ca))));
    let other = support::dialer(server.addr, ca.client(Some(&ca)));
    let (_, mut kept) = soon("welcome", client::connect(&other, hello())).await.unwrap();
    let (_, mut first) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let _bulk = BulkDialer::new(dialer.clone()).open(StreamId(1)).await.unwrap();
    until("three connections", || server.connections.len() == 3).await;
    // Its network is gone without a word, and it comes back.
    let (_, mut second) = soon("welcome", client::connect(&dialer, hello())).await.unwrap();
    let error = soon("the old session ends", first.recv.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Closed(_)), "{error:?}");
    until("three connections", || server.connections.len() == 3).await;
    for session in [&mut kept, &mut second] {
        let report = Reported::Unknown { seq: 1, at: Timestamp(0), kind: "{}".into() };
        session.send.send(AgentMessage::Reports(vec![report])).await.unwrap();
        assert_eq!(soon("ack", session.recv.recv()).await.unwrap(), ServerMessage::Ack(1));
    }
    server.end().await;
}

/// Whether a connection without a certificate is answered.
#[cfg(target_os = "linux")]
async fn served(connection: &Connection) -> bool {
    let answer = soon("an answer", connection.challenge(NodeId::from_random(1))).await;
    matches!(answer, Ok(_) | Err(LinkError::Refused(_)))
}

/// Only Linux has all of 127.0.0.0/8 without asking.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_does_not_keep_the_others_out() {
    let ca = Ca::new();
    let few = Limits {
        max_uncertified_per_address: 2,
        concurrent_handshakes: 3,
        address_concurrent_handshakes: 2,
        handshake_timeout: Duration::from_secs(60),
        max_handshake_wait: Duration::from_secs(60),
        first_message_timeout: Duration::from_secs(60),
        ..limits()
    };
    let server = Running::start(&ca, few).await;
    let elsewhere = Forwarder::start_from(server.addr, "127.0.0.2:0".parse().unwrap()).await;
    let (here, there) = (dialer(server.addr, ca.client(None)), dialer(elsewhere.addr, ca.client(None)));
    let waiting = [here.dial().await.unwrap(), here.dial().await.unwrap()];
    assert!(served(&waiting[0]).await && served(&waiting[1]).await);
    if let Ok(third) = soon("a handshake", here.dial()).await {
        assert!(!served(&third).await);
    }
    let kept = soon("a place", there.dial()).await.unwrap();
    // Whoever shows a certificate is not counted.
    let node = dialer(server.addr, ca.client(Some(&ca)));
    soon("welcome", client::connect(&node, hello())).await.unwrap();
    // Sockets that say nothing hold the handshakes of their address, and no others.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    let again = soon("a handshake", there.dial()).await.unwrap();
    assert!(served(&kept).await && served(&again).await);
    // Places that are given back can be had again.
    drop((silent, waiting));
    soon("a place", async { while !served(&here.dial().await.unwrap()).await {} }).await;
    server.end().await;
}
