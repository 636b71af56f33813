//! What agent and server say to each other: taken whole or refused, within every bound, and what was taken is the
//! same after it was written and read again.

use crate::{Blob, Draw, Subject, wire};
use lattice_link::{
    Refusal,
    message::{
        AgentMessage, BulkFrame, Certificate, Hello, JoinRequest, JoinUpdate, RenewRequest, TreePart,
        TreeRequest,
    },
    proto,
    wire::{GoalAssembler, MAX_REPORTS, MAX_STATUSES, MAX_UP, hello, server_kind, server_message},
};
use prost::Message;
use proto::{
    agent_message, bulk_frame, challenge_reply, join_update, renew_reply, server_message as server, tree_part,
};
use serde::{Deserialize, Serialize};
use std::{sync::LazyLock, time::Duration};

/// Bytes that come as one message, or as several of a session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Messages(Vec<Blob>);

impl Subject for Messages {
    const NAME: &'static str = "messages";
    /// For all readers together, of up to three messages as long as the codec lets through.
    const MOST: Duration = Duration::from_secs(10);

    fn draw(draw: &mut dyn Draw) -> Self {
        let count = draw.between(1, 3);
        Self(
            (0..count)
                .map(|_| {
                    let mut message = draw.of(&SEEDS).clone();
                    wire::alter(draw, &mut message, &SEEDS);
                    Blob(message)
                })
                .collect(),
        )
    }

    fn check(&self) -> Result<(), String> {
        let mut parts = GoalAssembler::default();
        for bytes in &self.0 {
            let bytes = bytes.0.as_slice();
            // Longer ones are refused before anybody reads them.
            if bytes.len() > MAX_UP {
                continue;
            }
            same::<proto::JoinRequest, JoinRequest>(bytes)?;
            same::<proto::JoinUpdate, JoinUpdate>(bytes)?;
            same::<proto::RenewRequest, RenewRequest>(bytes)?;
            same::<proto::AgentMessage, AgentMessage>(bytes)?;
            same::<proto::BulkFrame, BulkFrame>(bytes)?;
            same::<proto::TreeRequest, TreeRequest>(bytes)?;
            same::<proto::TreePart, TreePart>(bytes)?;
            let _ = proto::ChallengeReply::decode(bytes).map(Result::<Vec<u8>, Refusal>::try_from);
            let _ = proto::RenewReply::decode(bytes).map(Result::<Certificate, Refusal>::try_from);
            agent(bytes)?;
            if let Ok(message) = proto::ServerMessage::decode(bytes)
                && let Ok(Some(message)) = server_message(message, &mut parts)
                && let Ok(kind) = server_kind(message.clone())
            {
                let written = proto::ServerMessage { kind: Some(kind) };
                again(
                    "ServerMessage",
                    &message,
                    server_message(written, &mut GoalAssembler::default()).map(|m| m.expect("no goal")),
                )?;
            }
        }
        Ok(())
    }
}

/// Reads a Hello, and says it again.
fn agent(bytes: &[u8]) -> Result<(), String> {
    let Ok(message) = proto::AgentMessage::decode(bytes) else { return Ok(()) };
    if let Ok(read) = hello(message.clone()) {
        if read.statuses.len() > MAX_STATUSES {
            return Err(format!("{} states in a Hello", read.statuses.len()));
        }
        let written = proto::AgentMessage::from(read.clone());
        if written.encoded_len() > 2 * MAX_UP {
            return Err(format!("a Hello grows from {} to {} bytes", bytes.len(), written.encoded_len()));
        }
        // Reasons are cut when they are written, so it is the second writing that has to be the same.
        let once =
            hello(written).map_err(|error| format!("a Hello is refused after it was written: {error}"))?;
        again::<Hello, _>("Hello", &once, hello(once.clone().into()))?;
    }
    match AgentMessage::try_from(message) {
        Ok(AgentMessage::Reports(reports)) if reports.len() > MAX_REPORTS => {
            Err(format!("{} reports", reports.len()))
        }
        _ => Ok(()),
    }
}

/// What is taken is the same after it was written and read again.
fn same<P, T>(bytes: &[u8]) -> Result<(), String>
where
    P: Message + Default + From<T>,
    T: TryFrom<P> + Clone + PartialEq + std::fmt::Debug,
    T::Error: std::fmt::Display,
{
    let Ok(message) = P::decode(bytes) else { return Ok(()) };
    let Ok(read) = T::try_from(message) else { return Ok(()) };
    let written = P::from(read.clone()).encode_to_vec();
    let message =
        P::decode(&*written).map_err(|error| format!("what was written cannot be read: {error}"))?;
    again(std::any::type_name::<T>(), &read, T::try_from(message))
}

fn again<T: PartialEq + std::fmt::Debug, E: std::fmt::Display>(
    name: &str,
    before: &T,
    after: Result<T, E>,
) -> Result<(), String> {
    match after {
        Ok(after) if after == *before => Ok(()),
        Ok(after) => Err(format!("{name} is {before:?}, and after it was written {after:?}")),
        Err(error) => Err(format!("{name} is refused after it was written: {error}")),
    }
}

/// One message of each kind, with something in every field.
#[allow(
    clippy::needless_update,
    reason = "a field that is new is tried by its absence until somebody fills it here"
)]
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let id = || vec![1; 16].into();
    let refusal = || proto::Refusal {
        code: "busy".into(),
        message: "too many".into(),
        hint: "wait".into(),
        retry_after_ms: 5000,
    };
    let protocol = || Some(proto::ProtocolRange { min: 1, max: 1 });
    let capacity = || Some(proto::Capacity { cpu_millis: 4000, memory_bytes: 1 << 30, disk_bytes: 1 << 40 });
    let facts = || {
        br#"{"hostname":"box","os":"linux","os_version":"12","kernel":"6","arch":"x86_64","cpu_model":"x","cpus":4,"memory":1,"engine_version":"28","agent_version":"0.1.0"}"#.to_vec().into()
    };
    let status = r#"{"state":"running","health":"healthy","reason":"so","exit_code":1,"restarts":2,"started_at":5,"ports":[]}"#;
    let certificate =
        || proto::Certificate { chain_der: vec![vec![1; 50].into(), vec![2; 50].into()], not_after_ms: 9 };
    let goal_id = || Some(proto::GoalId { incarnation: 1, revision: 2 });
    let hello = proto::Hello {
        protocol: protocol(),
        agent_version: "0.1.0".into(),
        capabilities: vec!["exec".into(), "logs".into()],
        facts_json: facts(),
        capacity: capacity(),
        goal: Some(proto::GoalSeen { id: goal_id(), hash: vec![7; 32].into() }),
        ratchet: vec![b'a'; 64].into(),
        boot_id: "boot".into(),
        statuses: vec![proto::AllocationState {
            allocation_id: id(),
            status_json: status.as_bytes().to_vec().into(),
        }],
        outbox: Some(proto::OutboxMark { id: id(), first: 3, next: 9 }),
        ..Default::default()
    };
    let kinds = [
        r#"{"runtime_lost":{"reason":"gone"}}"#,
        r#""runtime_back""#,
        r#"{"allocation":{"id":"01010101-0101-0101-0101-010101010101","status":{"state":"running"}}}"#,
        r#"{"volcano":1}"#,
    ];
    let reports = kinds.iter().zip(1..).map(|(kind, seq)| proto::Report {
        seq,
        at_ms: 5,
        kind_json: kind.as_bytes().to_vec().into(),
    });
    let agent = |kind| proto::AgentMessage { kind: Some(kind) }.encode_to_vec();
    let from_server = |kind| proto::ServerMessage { kind: Some(kind) }.encode_to_vec();
    let frame = |kind| proto::BulkFrame { kind: Some(kind), ..Default::default() }.encode_to_vec();
    let body = b"{\"allocations\":{},\"volumes\":{},\"networks\":{}}".to_vec();
    let part = |offset: usize, end: usize| proto::GoalPart {
        id: goal_id(),
        hash: <sha2::Sha256 as sha2::Digest>::digest(&body).to_vec().into(),
        size: body.len() as u64,
        offset: offset as u64,
        body: body[offset..end].to_vec().into(),
    };
    let logs = r#"{"logs":{"allocation":"01010101-0101-0101-0101-010101010101","follow":true,"tail":5,"since":7,"timestamps":true}}"#;
    let exec = r#"{"exec":{"allocation":"01010101-0101-0101-0101-010101010101","command":["sh"],"tty":true,"stdin":true,"size":[80,24],"user":"a","workdir":"/","env":{"A":"b"}}}"#;
    let files = r#"{"files":{"allocation":"01010101-0101-0101-0101-010101010101","path":"/x","copy":"in"}}"#;
    let open = |json: &str| {
        from_server(server::Kind::OpenStream(proto::OpenStream {
            stream_id: 1,
            request_json: json.as_bytes().to_vec().into(),
        }))
    };
    let notice = || proto::Notice { code: "old".into(), message: "a".into(), hint: "b".into() };
    vec![
        proto::JoinRequest {
            protocol: protocol(),
            agent_version: "0.1.0".into(),
            token_id: id(),
            token_secret: vec![3; 32].into(),
            csr_der: vec![4; 300].into(),
            public_key: vec![5; 44].into(),
            name: "box".into(),
            facts_json: facts(),
            capacity: capacity(),
            ..Default::default()
        }
        .encode_to_vec(),
        proto::JoinUpdate {
            kind: Some(join_update::Kind::Pending(proto::JoinPending {
                node_id: id(),
                fingerprint: "f".into(),
                hint: "h".into(),
            })),
        }
        .encode_to_vec(),
        proto::JoinUpdate { kind: Some(join_update::Kind::Refused(refusal())) }.encode_to_vec(),
        proto::JoinUpdate {
            kind: Some(join_update::Kind::Approved(proto::JoinApproved {
                node_id: id(),
                cluster_id: id(),
                certificate: Some(certificate()),
                ratchet: vec![3; 32].into(),
            })),
        }
        .encode_to_vec(),
        proto::ChallengeReply { kind: Some(challenge_reply::Kind::Challenge(vec![1; 64].into())) }
            .encode_to_vec(),
        proto::RenewRequest {
            node_id: id(),
            challenge: vec![1; 64].into(),
            signature: vec![2; 64].into(),
            csr_der: vec![3; 300].into(),
        }
        .encode_to_vec(),
        proto::RenewReply { kind: Some(renew_reply::Kind::Approved(certificate())) }.encode_to_vec(),
        agent(agent_message::Kind::Hello(hello)),
        agent(agent_message::Kind::Reports(proto::Reports { reports: reports.collect() })),
        agent(agent_message::Kind::Heartbeat(proto::Heartbeat {
            at_ms: 5,
            cpu_millis: 1,
            memory_bytes: 2,
            disk_free_bytes: 3,
            running: 4,
            ..Default::default()
        })),
        agent(agent_message::Kind::GoalAccepted(proto::GoalId { incarnation: 1, revision: 2 })),
        agent(agent_message::Kind::RatchetStored(proto::RatchetStored {})),
        from_server(server::Kind::Welcome(proto::Welcome {
            protocol: 1,
            server_version: "0.1.0".into(),
            heartbeat_ms: 5000,
            ratchet_next: vec![b'a'; 64].into(),
            ack_up_to: 3,
            server_time_ms: 1_800_000_000_000,
            notice: Some(notice()),
            ..Default::default()
        })),
        from_server(server::Kind::Goal(part(0, body.len()))),
        from_server(server::Kind::Goal(part(0, 10))),
        from_server(server::Kind::Goal(part(10, body.len()))),
        from_server(server::Kind::AckUpTo(9)),
        open(logs),
        open(exec),
        open(files),
        from_server(server::Kind::Notice(notice())),
        from_server(server::Kind::Pong(7)),
        from_server(server::Kind::RankJson(
            br#"{"points":702,"class":"laptop","badges":["kept_week"]}"#.to_vec().into(),
        )),
        from_server(server::Kind::Goodbye(refusal())),
        frame(bulk_frame::Kind::Open(5)),
        frame(bulk_frame::Kind::Data(proto::BulkData { channel: 1, bytes: b"output".to_vec().into() })),
        frame(bulk_frame::Kind::End(1)),
        frame(bulk_frame::Kind::Close(proto::BulkClose { exit_code: Some(-1), error: Some(refusal()) })),
        proto::TreeRequest { digest: vec![1; 32].into(), offset: 5 }.encode_to_vec(),
        proto::TreePart { kind: Some(tree_part::Kind::Size(5)) }.encode_to_vec(),
        proto::TreePart { kind: Some(tree_part::Kind::Data(b"x".to_vec().into())) }.encode_to_vec(),
    ]
});

/// Whether every seed is a good message: one that is refused at once tries nothing.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_taken_by_some_reader() {
        for (n, seed) in SEEDS.iter().enumerate() {
            let bytes = seed.as_slice();
            let mut parts = GoalAssembler::default();
            let taken = [
                proto::JoinRequest::decode(bytes).is_ok_and(|m| JoinRequest::try_from(m).is_ok()),
                proto::JoinUpdate::decode(bytes).is_ok_and(|m| JoinUpdate::try_from(m).is_ok()),
                proto::RenewRequest::decode(bytes).is_ok_and(|m| RenewRequest::try_from(m).is_ok()),
                proto::ChallengeReply::decode(bytes)
                    .is_ok_and(|m| Result::<Vec<u8>, Refusal>::try_from(m).is_ok()),
                proto::RenewReply::decode(bytes)
                    .is_ok_and(|m| Result::<Certificate, Refusal>::try_from(m).is_ok()),
                proto::AgentMessage::decode(bytes)
                    .is_ok_and(|m| AgentMessage::try_from(m.clone()).is_ok() || hello(m).is_ok()),
                proto::ServerMessage::decode(bytes).is_ok_and(|m| server_message(m, &mut parts).is_ok()),
                proto::BulkFrame::decode(bytes).is_ok_and(|m| BulkFrame::try_from(m).is_ok()),
                proto::TreeRequest::decode(bytes).is_ok_and(|m| TreeRequest::try_from(m).is_ok()),
                proto::TreePart::decode(bytes).is_ok_and(|m| TreePart::try_from(m).is_ok()),
            ];
            // The second half of a goal is none without the first.
            assert!(taken.contains(&true) || n == 15, "seed {n}");
        }
    }
}
