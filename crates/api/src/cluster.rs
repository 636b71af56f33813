//! The cluster as a whole: status, who is asking, tokens, events, audit and watch.

use crate::{CauseRef, EventLevel, Hidden, Rights};
use lattice_model::{
    Binding, ClusterId, NodeId, NodeName, OwnerName, PoolName, StackKey, Timestamp, TokenId, UserName,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use utoipa::{IntoParams, ToSchema};

/// What a listing answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The things, in the order that the endpoint states, else by name.
    pub items: Vec<T>,
    /// The store's revision that the list is of: watch from here and miss nothing.
    pub revision: u64,
}

/// What `GET /v1/status` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Stays the same through restores.
    pub cluster_id: ClusterId,
    /// What people call the cluster.
    pub name: String,
    /// Of the server.
    pub version: String,
    /// Of the store; a restore raises it.
    pub incarnation: u64,
    /// Of the store, now.
    pub revision: u64,
    /// Whether the server serves: the store is read, the planner and the gateway run.
    pub ready: bool,
    /// When the server started.
    pub started_at: Timestamp,
    /// Where agents connect, as join tokens carry it.
    pub agent_addresses: Vec<String>,
    /// Nodes by state.
    pub nodes: NodeCounts,
    /// How the planner is doing.
    pub planner: PlannerStatus,
    /// The backups that the server makes by itself.
    #[serde(default)]
    pub backup: crate::BackupStatus,
    /// Things that a person should look at, each with what to do.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Nodes by state. Every node is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// Approved, the link is up.
    pub connected: u32,
    /// Approved, the link is down.
    pub disconnected: u32,
    /// Approved, the link is down for so long that their work was placed elsewhere.
    #[serde(default)]
    pub lost: u32,
    /// Approved and connected, and their owners' rules let nothing run there now.
    #[serde(default)]
    pub suspended: u32,
    /// Approved, and they said that they go to sleep or are shut down.
    #[serde(default)]
    pub away: u32,
    /// Approved, and the link was never up or is not yet known.
    pub unknown: u32,
    /// Ask to join and wait for a decision.
    pub pending: u32,
    /// Turned away or thrown out.
    pub rejected: u32,
    /// Set apart since two machines use one key.
    pub quarantined: u32,
}

/// How the planner is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannerStatus {
    /// When it last ran to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How many revisions of the store it has not yet looked at.
    pub behind: u64,
    /// Slots that found no node.
    pub pending: u32,
    /// What it could not do, and why.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What `GET /v1/whoami` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// As audit entries say it.
    pub name: String,
    /// How the server knows.
    pub credential: Credential,
    /// The user, where one signed in or made the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// What they are, and where. Of a token: within what its owner may do at the time.
    pub roles: Vec<Binding>,
    /// What they may do, and where.
    #[serde(default)]
    pub rights: Rights,
    /// The token or the session, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    /// When the credential ends by itself; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What each change sends as [`CSRF_HEADER`](crate::CSRF_HEADER), where a cookie was the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Hidden>,
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The Unix socket of the server's machine, by the peer's user id.
    LocalSocket,
    /// An API token as bearer token.
    ApiToken,
    /// A session's token, as bearer token or in the console's cookie.
    Session,
}

/// Asks for a join token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenCreate {
    /// The pool that nodes join; the default pool where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// How long it works, in milliseconds; one hour where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How many nodes may join with it; one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Whether who joins with it is approved without being asked about.
    #[serde(default)]
    pub auto_approve: bool,
    /// Who lends the computers that join with it; whoever makes it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A token, shown this once; the server keeps only a hash of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// Names it in listings and for deletion.
    pub id: TokenId,
    /// The token itself: a secret.
    pub token: String,
    /// When it stops working; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenView {
    /// Its id.
    pub id: TokenId,
    /// The pool that nodes join.
    pub pool: PoolName,
    /// How many nodes may join with it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Whether who joins is approved without being asked about.
    pub auto_approve: bool,
    /// Who lends the computers that join with it.
    pub owner: OwnerName,
    /// For people.
    pub description: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Asks for an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenCreate {
    /// For people and audit entries.
    pub name: String,
    /// What it may do, and where; at least one, and none that its maker has not.
    pub roles: Vec<Binding>,
    /// How long it works, in milliseconds; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenView {
    /// Its id.
    pub id: TokenId,
    /// For people and audit entries.
    pub name: String,
    /// What it may do, and where: within what its owner may do at the time.
    pub roles: Vec<Binding>,
    /// The user that it belongs to; absent: whoever runs the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserName>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it stops working; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute; `None` is not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Rises with each event of the cluster; pass it as `after`.
    pub id: u64,
    /// When, by the clock of whoever saw it.
    pub at: Timestamp,
    /// What kind of thing, in `snake_case` with dots: `allocation.running`, `node.disconnected`.
    pub kind: String,
    /// What it happened to: `default/shop/web#1`, a node's name, …
    pub subject: String,
    /// The node that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The stack that it is about, as `project/stack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackKey>,
    /// What happened, in a sentence.
    pub message: String,
    /// How much it weighs.
    #[serde(default)]
    pub level: EventLevel,
    /// Why, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What led to it, where that is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<CauseRef>,
}

/// Query of [`paths::EVENTS`](crate::paths::EVENTS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events with a greater id. Absent: the last `limit` ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only the last `limit` ones with a lower id, to page back from the newest. Not together with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those of a stack, as `stack` of the default project or `project/stack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Only those of a node: a name, an id, or an id's first characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// An audit entry: who changed what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Rises with each entry; pass it as `after`.
    pub id: u64,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// Who, as [`Whoami::name`] says it; `system` where a rule decided.
    pub who: String,
    /// What was done: `stack.deploy`, `node.approve`, …
    pub action: String,
    /// To what.
    pub subject: String,
    /// Whether it was done or refused.
    pub outcome: AuditOutcome,
    /// More about it, never a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// How an attempt to change something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not work.
    Failed,
}

/// Query of [`paths::AUDIT`](crate::paths::AUDIT).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only entries with a greater id. Absent: the last `limit` ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only the last `limit` ones with a lower id, to page back from the newest. Not together with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Query of [`paths::WATCH`](crate::paths::WATCH).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WatchQuery {
    /// Every change after this revision; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Only these kinds, with commas between: `node,allocation`. All where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<String>,
    /// Also [`SSE_LOAD`], every few seconds: what nodes use now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loads: bool,
}

impl WatchQuery {
    /// Writes [`WatchQuery::kinds`].
    #[must_use]
    pub fn of(from: Option<u64>, kinds: &[ObjectKind]) -> Self {
        let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        Self { from, kinds: (!names.is_empty()).then(|| names.join(",")), loads: false }
    }

    /// Reads [`WatchQuery::kinds`]; empty means all.
    ///
    /// # Errors
    /// The name that is not a kind.
    pub fn kinds(&self) -> Result<Vec<ObjectKind>, &str> {
        let text = self.kinds.as_deref().unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| ObjectKind::ALL.iter().find(|k| k.as_str() == name).copied().ok_or(name)).collect()
    }
}

/// What changed, in a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// [`NodeView`](crate::NodeView); the id is the node's.
    Node,
    /// [`StackView`](crate::StackView); the id is `project/stack`.
    Stack,
    /// [`WorkloadView`](crate::WorkloadView); the id is `project/stack/service`.
    Workload,
    /// [`AllocationView`](crate::AllocationView); the id is the allocation's.
    Allocation,
    /// [`VolumeView`](crate::VolumeView); the id is the volume's.
    Volume,
    /// [`EventView`]; the id is the event's.
    Event,
    /// [`AlertView`](crate::AlertView), whose id it is. Without the object, as what an alert says hangs on others:
    /// list alerts again.
    Alert,
    /// [`PoolView`](crate::PoolView); the id is its name.
    Pool,
    /// [`ProjectView`](crate::ProjectView), whose name is the id; without the object.
    Project,
    /// A kind that this version does not know: a newer server's.
    #[serde(other)]
    Unknown,
}

impl ObjectKind {
    /// Every kind that a server of this version sends.
    pub const ALL: &[Self] = &[
        Self::Node,
        Self::Stack,
        Self::Workload,
        Self::Allocation,
        Self::Volume,
        Self::Event,
        Self::Alert,
        Self::Pool,
        Self::Project,
    ];

    /// As it is written in queries and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Stack => "stack",
            Self::Workload => "workload",
            Self::Allocation => "allocation",
            Self::Volume => "volume",
            Self::Event => "event",
            Self::Alert => "alert",
            Self::Pool => "pool",
            Self::Project => "project",
            Self::Unknown => "unknown",
        }
    }
}

/// One change. On the wire it is a server-sent event named [`SSE_CHANGE`] with this as data and
/// the revision as its id; [`SSE_ERROR`] carries an [`ErrorBody`](crate::ErrorBody) and ends the stream;
/// [`SSE_BOOKMARK`] carries a [`Bookmark`] now and then, so that a watcher of a quiet kind knows
/// from where to go on. Comments keep the connection alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// Of the change. Several changes of one transaction have the same.
    pub revision: u64,
    /// Of the object.
    pub kind: ObjectKind,
    /// Of the object, as its kind says.
    pub id: String,
    /// What happened to it.
    pub op: WatchOp,
    /// The object's view as it is now; absent after a deletion, and of kinds that are to be listed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub object: Option<serde_json::Value>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchOp {
    /// It was made or changed.
    Put,
    /// It is gone.
    Delete,
}

/// What nodes use now, of those whose load was measured since the last time. It is of the server that answers and in
/// no store, so it has no revision and is not sent again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Loads {
    /// By the nodes' ids.
    #[schema(value_type = BTreeMap<String, crate::NodeLoad>)]
    pub nodes: BTreeMap<NodeId, crate::NodeLoad>,
}

/// How far a watch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bookmark {
    /// Everything up to here has been sent.
    pub revision: u64,
}

/// What arrives on a watch, the end by [`SSE_ERROR`] aside.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchItem {
    /// A change.
    Change(WatchEvent),
    /// Nothing changed up to here.
    Bookmark(Bookmark),
}

/// Name of the server-sent event of a [`WatchEvent`].
pub const SSE_CHANGE: &str = "change";
/// Name of the server-sent event of a [`Bookmark`].
pub const SSE_BOOKMARK: &str = "bookmark";
/// Name of the server-sent event of [`Loads`].
pub const SSE_LOAD: &str = "load";
/// Name of the server-sent event of an [`ErrorBody`](crate::ErrorBody).
/// [`TooOld`](crate::ErrorCode::TooOld) says to list again.
pub const SSE_ERROR: &str = "error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_show_in_debug() {
        let created = TokenCreated {
            id: TokenId::from_random(1),
            token: "lattice_secret".into(),
            expires_at: Some(Timestamp(1)),
        };
        assert!(!format!("{created:?}").contains("lattice_secret"));
        let json = serde_json::to_string(&created).unwrap();
        assert_eq!(serde_json::from_str::<TokenCreated>(&json).unwrap(), created);
    }

    #[test]
    fn watch_kinds_read_back() {
        let query = WatchQuery::of(Some(3), &[ObjectKind::Node, ObjectKind::Allocation]);
        assert_eq!(query.kinds.as_deref(), Some("node,allocation"));
        assert_eq!(query.kinds().unwrap(), [ObjectKind::Node, ObjectKind::Allocation]);
        assert_eq!(WatchQuery::of(None, &[]).kinds().unwrap(), []);
        let wrong = WatchQuery { kinds: Some("node,car".into()), ..WatchQuery::default() };
        assert_eq!(wrong.kinds(), Err("car"));
        for kind in ObjectKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(serde_json::from_str::<ObjectKind>("\"car\"").unwrap(), ObjectKind::Unknown);
    }

    #[test]
    fn requests_refuse_unknown_fields_and_answers_do_not() {
        assert!(serde_json::from_str::<JoinTokenCreate>(r#"{"poool":"x"}"#).is_err());
        assert_eq!(serde_json::from_str::<JoinTokenCreate>("{}").unwrap(), JoinTokenCreate::default());
        let list: List<u8> =
            serde_json::from_str(r#"{"items":[1],"revision":9,"from_the_future":true}"#).unwrap();
        assert_eq!(list, List { items: vec![1], revision: 9 });
    }
}
