//! Allocations, their logs, and commands inside of them.
//!
//! **Exec** is a WebSocket on [`paths::ALLOCATION_EXEC`](crate::paths::ALLOCATION_EXEC):
//! the client's first message is text, an [`ExecStart`]. From then on binary messages are data,
//! the first byte saying of which channel ([`CHANNEL_STDIN`] and friends), at most
//! [`MAX_EXEC_FRAME`] bytes; text messages are [`ExecClientMessage`] and [`ExecServerMessage`].
//! The server's last message is `exit` or `error`; then it closes. A client that goes away ends
//! the command's input, and the command is not killed: an engine has no way to.

use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_model::{
    AllocationId, NodeId, NodeName, ProjectName, StackName, Timestamp, VolumeName, WorkloadName,
    report::AllocationStatus,
    resource::{Allocation, Intent, Superseded},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

use crate::error::ErrorBody;

/// One placed instance of a workload on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllocationView {
    /// Its id.
    pub id: AllocationId,
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// The service.
    pub workload: WorkloadName,
    /// Which of the replicas, from 1.
    pub slot: u32,
    /// The node's id.
    pub node_id: NodeId,
    /// The node's name.
    pub node: NodeName,
    /// The workload's generation that it was made from.
    pub generation: u64,
    /// Which of the runs that were asked for, or due, it is of.
    #[serde(default)]
    pub restart: u64,
    /// When the run that it is of was due, where that was by a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The image.
    pub image: String,
    /// Whether it should run, be stopped, or go.
    pub intent: Intent,
    /// Why another one has its slot; absent where it is the slot's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Superseded>,
    /// Whether its node is lost: away for so long that its work was placed elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_lost: bool,
    /// What its node reported last, or `unknown` while the node is not heard of.
    pub status: AllocationStatus,
    /// The GPUs that are its own, by the names that its node gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Why it was placed there.
    pub explanation: String,
}

impl AllocationView {
    /// The view of a row, with its node's name.
    pub fn of(allocation: &Allocation, node: NodeName) -> Self {
        let Allocation {
            id,
            workload,
            slot,
            node: node_id,
            generation,
            spec,
            intent,
            restart,
            due,
            gpus,
            world: _,
            replaces: _,
            status,
            superseded,
            serving_since: _,
            placed_at,
            explanation,
        } = allocation.clone();
        Self {
            id,
            project: workload.project,
            stack: workload.stack,
            workload: workload.workload,
            slot,
            node_id,
            node,
            generation,
            restart,
            due,
            image: spec.image.clone(),
            intent,
            superseded,
            node_lost: false,
            status,
            gpus,
            placed_at,
            explanation,
        }
    }

    /// Whether it runs, and no health check says otherwise.
    pub fn is_serving(&self) -> bool {
        self.intent == Intent::Run && self.superseded.is_none() && self.status.is_serving()
    }

    /// Whether it is of a former version, stopped, and kept to go back to.
    pub fn is_kept(&self) -> bool {
        self.superseded == Some(Superseded::Retired) && !self.is_going()
    }

    /// Whether it counts for nothing: its node is lost, and another one was placed in its stead or it is
    /// to go when the node is back.
    pub fn is_lost(&self) -> bool {
        self.superseded == Some(Superseded::Lost) || (self.node_lost && self.is_going())
    }

    /// Whether it is on its way out.
    pub fn is_going(&self) -> bool {
        self.intent == Intent::Remove
    }
}

/// Query of [`paths::ALLOCATIONS`](crate::paths::ALLOCATIONS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AllocationQuery {
    /// Only those of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of stacks with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Only those of services with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Only those on a node: a name, an id, or an id's first characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Also those that have ended or are on their way out.
    #[serde(default)]
    pub all: bool,
}

/// Query of [`paths::ALLOCATION_LOGS`](crate::paths::ALLOCATION_LOGS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Go on until the container ends.
    #[serde(default)]
    pub follow: bool,
    /// Only the last so many lines; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// Only what was written at or after this instant, by the node's clock, in milliseconds since
    /// 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Say when each line was written.
    #[serde(default)]
    pub timestamps: bool,
}

/// One line of the answer of [`paths::ALLOCATION_LOGS`](crate::paths::ALLOCATION_LOGS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LogRecord {
    /// A line of the container's.
    Line(LogLine),
    /// The stream could not go on, and ends with this.
    Failed {
        /// Why.
        error: ErrorBody,
    },
}

/// A line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Where it was written.
    pub stream: LogStream,
    /// When, by the node's clock, where timestamps were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<Timestamp>,
    /// What was written where that is UTF-8, its line end included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was written where that is not UTF-8, in base64 with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
}

impl LogLine {
    /// A line of these bytes.
    pub fn new(stream: LogStream, at_ms: Option<Timestamp>, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { stream, at_ms, text: Some(text.to_owned()), data_base64: None },
            Err(_) => Self { stream, at_ms, text: None, data_base64: Some(BASE64_STANDARD.encode(bytes)) },
        }
    }

    /// The bytes, as the container wrote them; `None` when the base64 is damaged.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.data_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(data)) => BASE64_STANDARD.decode(data).ok(),
            (None, None) => Some(Vec::new()),
        }
    }
}

/// Where a container writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output; the only one of a container with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The first message of an exec session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// The command; at least one word.
    pub argv: Vec<String>,
    /// Whether it gets a terminal; then standard error comes on standard output's channel.
    #[serde(default)]
    pub tty: bool,
    /// Whether it gets standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Environment variables besides the container's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `user` or `user:group`; the container's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The folder that it begins in, an absolute path; the container's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The terminal's size at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// Copy files instead of running a command: nothing of the above counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesStart>,
}

/// Files to copy into or out of a container, running or not, as a tar archive on the channels of
/// standard input and output. The exit code is 0, or 1 when nothing is at the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesStart {
    /// An absolute path inside the container; with `volume` it counts nothing.
    pub path: String,
    /// A volume that the allocation mounts, whole, also where nothing of it was ever started: names
    /// in the archive begin with `volume/`. It is filled only while nothing that runs mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeName>,
    /// What to do there.
    pub copy: CopyFiles,
}

/// What to do with files of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CopyFiles {
    /// Unpack the archive that comes on standard input in this folder.
    In,
    /// Send what is there on standard output; names begin with the path's last part.
    Out,
    /// Say on standard output what is there: `folder` or `file`.
    Look,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A text message of the client's in an exec session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecClientMessage {
    /// The terminal has another size now.
    Resize {
        /// The size.
        size: TerminalSize,
    },
    /// Nothing more comes on standard input.
    StdinClosed,
}

/// A text message of the server's in an exec session. Either is the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecServerMessage {
    /// The command ended.
    Exit {
        /// Its exit code.
        code: i64,
    },
    /// The command could not be started, or was lost.
    Error {
        /// Why.
        error: ErrorBody,
    },
}

/// First byte of a binary message with standard input.
pub const CHANNEL_STDIN: u8 = 0;
/// First byte of a binary message with standard output.
pub const CHANNEL_STDOUT: u8 = 1;
/// First byte of a binary message with standard error.
pub const CHANNEL_STDERR: u8 = 2;
/// The most bytes of a message in an exec session, the channel's byte included.
pub const MAX_EXEC_FRAME: usize = 64 << 10;

/// A binary message of an exec session.
pub fn exec_frame(channel: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + 1);
    frame.push(channel);
    frame.extend_from_slice(data);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn log_lines_carry_any_bytes() {
        for bytes in [&b"plain\n"[..], b"", b"\xff\xfe\x00", "gr\u{fc}n\n".as_bytes()] {
            let line = LogLine::new(LogStream::Stderr, Some(Timestamp(7)), bytes);
            let record = LogRecord::Line(line.clone());
            let json = serde_json::to_string(&record).unwrap();
            assert!(!json.contains('\n'), "one record is one line of NDJSON: {json}");
            assert_eq!(serde_json::from_str::<LogRecord>(&json).unwrap(), record);
            assert_eq!(line.bytes().unwrap(), bytes);
        }
        let failed = LogRecord::Failed { error: ErrorBody::new(ErrorCode::NodeOffline, "gone", "wait") };
        let json = serde_json::to_string(&failed).unwrap();
        assert_eq!(json, r#"{"error":{"code":"node_offline","message":"gone","hint":"wait"}}"#);
        assert_eq!(serde_json::from_str::<LogRecord>(&json).unwrap(), failed);
    }

    #[test]
    fn exec_messages_are_as_documented() {
        let resize = ExecClientMessage::Resize { size: TerminalSize { cols: 80, rows: 24 } };
        assert_eq!(
            serde_json::to_string(&resize).unwrap(),
            r#"{"type":"resize","size":{"cols":80,"rows":24}}"#
        );
        assert_eq!(
            serde_json::to_string(&ExecClientMessage::StdinClosed).unwrap(),
            r#"{"type":"stdin_closed"}"#
        );
        let exit: ExecServerMessage = serde_json::from_str(r#"{"type":"exit","code":137}"#).unwrap();
        assert_eq!(exit, ExecServerMessage::Exit { code: 137 });
        let start: ExecStart = serde_json::from_str(r#"{"argv":["sh"],"tty":true}"#).unwrap();
        assert!(start.tty && !start.stdin && start.env.is_empty());
        assert!(serde_json::from_str::<ExecStart>(r#"{"argv":["sh"],"privileged":true}"#).is_err());
        assert_eq!(exec_frame(CHANNEL_STDIN, b"ab"), [0, b'a', b'b']);
    }
}
