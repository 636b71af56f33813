//! What the protocol promises about bytes from the other side: they are taken whole or refused. That nothing
//! which can be sent makes a reader panic is tried by the fuzz target `messages`.

use super::*;
use crate::{
    message::*,
    proto::{agent_message, bulk_frame},
};
use lattice_model::{
    AllocationId, Goal, SealedGoal, Timestamp,
    report::{AllocationState, AllocationStatus, Report, ReportKind},
};
use proptest::prelude::*;
use prost::Message;

fn hello() -> Hello {
    let id = AllocationId::from_random(9);
    Hello {
        protocol: crate::PROTOCOL,
        agent_version: "0.1.0".into(),
        capabilities: vec!["exec".into()],
        facts: NodeFacts { hostname: "box".into(), cpus: 4, ..NodeFacts::default() },
        capacity: Capacity { cpu: Cpu(4000), memory: Amount(1 << 30), disk: Amount(1 << 40) },
        goal: Some((GoalId { incarnation: 1, revision: 2 }, [7; 32])),
        ratchet: Secret::new([1; 32]),
        boot_id: "boot".into(),
        statuses: [(id, AllocationStatus::new(AllocationState::Running).because("so"))].into(),
        outbox: OutboxMark { id: OutboxId(5), first: 3, next: 9 },
        standing: Default::default(),
    }
}

fn join() -> JoinRequest {
    JoinRequest {
        protocol: crate::PROTOCOL,
        agent_version: "0.1.0".into(),
        token_id: lattice_model::TokenId::from_random(3),
        token_secret: Secret::new("secret"),
        csr_der: vec![1; 300],
        public_key: vec![2; 44],
        name: Some("box".parse().unwrap()),
        facts: NodeFacts::default(),
        capacity: Capacity::default(),
    }
}

#[test]
fn what_is_written_is_read() {
    let request = proto::JoinRequest::from(join());
    assert_eq!(JoinRequest::try_from(request).unwrap(), join());
    let message = proto::AgentMessage::from(hello());
    assert_eq!(super::hello(message).unwrap(), hello());
    let reports = AgentMessage::Reports(vec![
        Reported::Known(Report { seq: 1, at: Timestamp(5), kind: ReportKind::RuntimeBack }),
        Reported::Unknown { seq: 4, at: Timestamp(6), kind: r#"{"volcano":1}"#.into() },
    ]);
    assert_eq!(AgentMessage::try_from(proto::AgentMessage::from(reports.clone())).unwrap(), reports);
    let refusal = Refusal::new("busy", "too many", "wait").after(Duration::from_secs(3));
    for update in [
        JoinUpdate::Refused(refusal.clone()),
        JoinUpdate::Approved(Approved {
            node: lattice_model::NodeId::from_random(1),
            cluster: lattice_model::ClusterId::from_random(2),
            certificate: Certificate { chain_der: vec![vec![1], vec![2]], not_after: Timestamp(9) },
            ratchet: Secret::new([3; 32]),
        }),
    ] {
        assert_eq!(JoinUpdate::try_from(proto::JoinUpdate::from(update.clone())).unwrap(), update);
    }
    for end in [BulkEnd::Done, BulkEnd::Exit(-1), BulkEnd::Failed(refusal)] {
        let frame = BulkFrame::Close(end);
        assert_eq!(BulkFrame::try_from(proto::BulkFrame::from(frame.clone())).unwrap(), frame);
    }
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?} {:?}", join(), hello());
    assert!(!shown.contains("secret\"") && !shown.contains("115, 101"), "{shown}");
}

#[test]
fn bounds_hold() {
    let too_long = |error: WireError| matches!(error, WireError::TooLong { .. });
    let mut request = proto::JoinRequest::from(join());
    request.csr_der = vec![0; MAX_DER + 1].into();
    assert!(too_long(JoinRequest::try_from(request).unwrap_err()));
    let reports = vec![proto::Report { seq: 1, ..Default::default() }; 2];
    let message =
        proto::AgentMessage { kind: Some(agent_message::Kind::Reports(proto::Reports { reports })) };
    assert!(AgentMessage::try_from(message).is_err(), "equal numbers");
    let long = proto::BulkData { channel: 1, bytes: vec![0; MAX_BULK + 1].into() };
    let frame = proto::BulkFrame { kind: Some(bulk_frame::Kind::Data(long)), padding: Bytes::new() };
    assert!(too_long(BulkFrame::try_from(frame).unwrap_err()));
    let refusal = proto::Refusal { code: "a b".into(), ..Default::default() };
    assert!(Refusal::try_from(refusal).is_err());
    // A full Hello fits into one message, whatever reasons it has.
    let mut full = hello();
    let status = AllocationStatus::new(AllocationState::Failed).because("é".repeat(10_000));
    full.statuses = (0..2000).map(|n| (AllocationId::from_random(n), status.clone())).collect();
    let message = proto::AgentMessage::from(full);
    assert!(message.encoded_len() <= MAX_UP, "{}", message.encoded_len());
    assert_eq!(super::hello(message).unwrap().statuses.len(), MAX_STATUSES);
}

#[test]
fn facts_are_fit_for_a_table() {
    let mut request = join();
    request.facts.hostname = format!("a\u{1b}[31m\n{}", "x".repeat(1000));
    let facts = JoinRequest::try_from(proto::JoinRequest::from(request)).unwrap().facts;
    assert!(facts.hostname.len() <= MAX_FACT && !facts.hostname.contains(char::is_control));
}

fn sealed(bytes: usize) -> SealedGoal {
    use sha2::Digest;
    let body: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    let hash = sha2::Sha256::digest(&body).into();
    SealedGoal::from_parts(GoalId { incarnation: 1, revision: 1 }, hash, body.into()).unwrap()
}

fn parts(goal: &SealedGoal) -> Vec<proto::GoalPart> {
    let len = goal.body().len().max(1);
    (0..len).step_by(GOAL_PART).map(|offset| goal_part(goal, offset)).collect()
}

#[test]
fn goals_come_whole_or_not_at_all() {
    for bytes in [0, 1, GOAL_PART - 1, GOAL_PART, GOAL_PART + 1, 5 * GOAL_PART] {
        let goal = sealed(bytes);
        let mut assembler = GoalAssembler::default();
        let mut whole: Vec<_> = parts(&goal).into_iter().map(|p| assembler.push(p).unwrap()).collect();
        assert_eq!(whole.pop().unwrap(), Some(goal), "{bytes}");
        assert!(whole.iter().all(Option::is_none));
    }
    let goal = sealed(3 * GOAL_PART);
    let mut assembler = GoalAssembler::default();
    assert!(assembler.push(parts(&goal)[1].clone()).is_err(), "no beginning");
    assembler.push(parts(&goal)[0].clone()).unwrap();
    assert!(assembler.push(parts(&goal)[2].clone()).is_err(), "a hole");
    let mut damaged = parts(&goal);
    damaged[2].body = vec![0; damaged[2].body.len()].into();
    let results: Vec<_> = damaged.into_iter().map(|p| assembler.push(p)).collect();
    assert!(results[2].is_err());
    let mut huge = parts(&goal)[0].clone();
    huge.size = u64::MAX;
    assert!(assembler.push(huge).is_err());
    let sealed = SealedGoal::seal(GoalId::default(), &Goal::default());
    assert_eq!(GoalAssembler::default().push(goal_part(&sealed, 0)).unwrap(), Some(sealed));
}

proptest! {
    #[test]
    fn clipping_keeps_characters(text in ".{0,60}", max in 4usize..50) {
        let cut = clipped(&text, max);
        prop_assert!(cut.len() <= max.max(text.len().min(max)));
        prop_assert!(text.len() > max || cut == text);
    }
}
