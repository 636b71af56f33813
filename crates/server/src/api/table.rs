//! Every route once. What is not here does not exist; what is here states who may use it, takes and
//! gives what it says, and stands in the OpenAPI document.
//!
//! **To state who may use a route**, give it an [`Access`] first:
//! - `on(P::StackChange, guard::project)`: a [`Permission`] of `identity::access`, and how the object that
//!   it is about is found by the names in the path: [`guard::cluster`], [`guard::project`] (`{project}`),
//!   [`guard::node`] (`{node}`), [`guard::allocation`], [`guard::join_token`] (`{id}`), or a function of the
//!   same form. The guard then refuses before the handler runs; what somebody may not see is 404 for them,
//!   what they may see and not do is 403;
//! - `Access::Listing(P::StackLook)`: everybody who is known gets a listing, from which the handler leaves
//!   out what [`Principal::may`](super::principal::Principal::may) does not allow;
//! - `Access::InBody(P::StackChange)`: the body names the object, so the handler asks again with
//!   [`Principal::require`](super::principal::Principal::require);
//! - `Access::Known`: it is about whoever asks and nobody else, or the handler sees to the rest;
//! - `Access::Open`: anybody, to become known. The handler counts tries in `Live::gate` before all else.
//!
//! A stream takes a place of `Live::open` and ends when the place is cut. What a new permission means for
//! each role is one table in `identity::access`. `tests/access.rs` tries every route without credential, as
//! a viewer, and as the developer of another project: a new route needs its line there.

use super::{
    alerts, allocations, backups, builds, cluster, compose, console,
    error::ApiError,
    events,
    guard::{self, Access},
    images, jobs, link, login, nodes, pages, pools, projects, ranking, rollout, schedules, secrets, stacks,
    streams, tokens, trees, users, watch, workloads,
};
use crate::state::Core;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::Method,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, head, patch, post, put},
};
use lattice_api::{self as api, ErrorBody, ErrorCode, paths};
use lattice_identity::Permission as P;
use std::sync::Arc;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{RefOr, Schema, path::Parameter},
};

/// A type as the document needs it: its reference and the schemas behind it.
pub(crate) type Described = (RefOr<Schema>, Vec<(String, RefOr<Schema>)>);

/// What travels in a body.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// JSON of a type.
    Json(fn() -> Described),
    /// JSON of a list of a type.
    List(fn() -> Described),
    /// Another media type, described by a type where there is one.
    Other(&'static str, Option<fn() -> Described>),
}

/// One method of one path.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) query: Option<fn() -> Vec<Parameter>>,
    pub(crate) takes: Content,
    pub(crate) gives: Content,
    limit: usize,
    service: MethodRouter<Arc<Core>>,
}

fn described<T: ToSchema>() -> Described {
    let name = T::name().into_owned();
    let mut schemas = vec![(name.clone(), T::schema())];
    T::schemas(&mut schemas);
    (utoipa::openapi::Ref::from_schema_name(name).into(), schemas)
}

fn parameters<T: IntoParams>() -> Vec<Parameter> {
    T::into_params(|| None)
}

impl Route {
    fn new(
        access: Access,
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        service: MethodRouter<Arc<Core>>,
    ) -> Self {
        let limit = api::MAX_REQUEST_BYTES;
        let (takes, gives) = (Content::Empty, Content::Empty);
        Self { method, path, id, summary, access, query: None, takes, gives, limit, service }
    }

    fn query<T: IntoParams>(self) -> Self {
        Self { query: Some(parameters::<T>), ..self }
    }

    fn takes<T: ToSchema>(self) -> Self {
        Self { takes: Content::Json(described::<T>), ..self }
    }

    fn gives<T: ToSchema>(self) -> Self {
        Self { gives: Content::Json(described::<T>), ..self }
    }

    fn lists<T: ToSchema>(self) -> Self {
        Self { gives: Content::List(described::<T>), ..self }
    }

    fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// The most bytes of what anybody may send: enough for the longest password.
const SMALL: usize = 16 << 10;

/// The table.
#[rustfmt::skip]
pub(crate) fn table() -> Vec<Route> {
    let look = |access, path, id, summary, service| Route::new(access, Method::GET, path, id, summary, service);
    let change = |access, method, path, id, summary, service| Route::new(access, method, path, id, summary, service);
    let (on, known, list) = (Access::On, Access::Known, Access::Listing);
    let (html, form) = (Content::Other("text/html", None), Content::Other("application/x-www-form-urlencoded", None));
    let (post_, put_, delete_) = (Method::POST, Method::PUT, Method::DELETE);
    vec![
        look(known, paths::STATUS, "status", "How the cluster and its server are doing.", get(cluster::status)).gives::<api::Status>(),
        look(known, paths::WHOAMI, "whoami", "Who is asking.", get(cluster::whoami)).gives::<api::Whoami>(),
        Route { gives: Content::Other("application/json", None), ..look(known, paths::OPENAPI, "openapi", "This document.", get(cluster::openapi)) },
        look(list(P::JoinTokenLook), paths::JOIN_TOKENS, "list_join_tokens", "Join tokens, without their secrets.", get(tokens::list_join)).lists::<api::JoinTokenView>(),
        change(Access::InBody(P::JoinTokenChange), post_.clone(), paths::JOIN_TOKENS, "create_join_token", "Makes a join token; its secret is shown this once.", post(tokens::create_join)).takes::<api::JoinTokenCreate>().gives::<api::TokenCreated>(),
        change(on(P::JoinTokenChange, guard::join_token), delete_.clone(), paths::JOIN_TOKEN, "delete_join_token", "Ends a join token. Nodes that joined with it stay.", delete(tokens::delete_join)),
        look(known, paths::API_TOKENS, "list_api_tokens", "API tokens, without their secrets.", get(tokens::list_api)).lists::<api::ApiTokenView>(),
        change(known, post_.clone(), paths::API_TOKENS, "create_api_token", "Makes an API token; it is shown this once.", post(tokens::create_api)).takes::<api::ApiTokenCreate>().gives::<api::TokenCreated>(),
        change(known, delete_.clone(), paths::API_TOKEN, "delete_api_token", "Ends an API token at once.", delete(tokens::delete_api)),
        change(Access::Open, post_.clone(), paths::LOGIN, "login", "Signs in by password.", post(login::login)).takes::<api::Login>().gives::<api::SessionCreated>().limit(SMALL),
        change(known, post_.clone(), paths::LOGOUT, "logout", "Ends the session that asks.", post(login::logout)),
        change(Access::Open, post_.clone(), paths::DEVICE_CODES, "start_device_login", "Begins a login by code (RFC 8628).", post(login::device_start)).takes::<api::DeviceStart>().gives::<api::DeviceStarted>().limit(SMALL),
        change(Access::Open, post_.clone(), paths::DEVICE_TOKEN, "poll_device_login", "Asks what came of a login by code.", post(login::device_token)).takes::<api::DevicePoll>().gives::<api::SessionCreated>().limit(SMALL),
        change(known, post_.clone(), paths::DEVICE_DECISION, "decide_device_login", "Lets a login by code in as oneself, or turns it away; only in a session.", post(login::device_decision)).takes::<api::DeviceDecision>().gives::<api::DeviceDecided>().limit(SMALL),
        Route { gives: html, ..look(Access::Open, paths::DEVICE_PAGE, "device_page", "The page on which a login by code is approved.", get(pages::device)) },
        Route { gives: html, takes: form, ..change(Access::Open, post_.clone(), paths::DEVICE_PAGE, "device_form", "Its form.", post(pages::device_post)).limit(SMALL) },
        change(known, post_.clone(), paths::CONSOLE_LINKS, "create_console_link", "Makes a link that signs a browser in as oneself, once; not with an API token.", post(link::create)).gives::<api::ConsoleLink>(),
        change(Access::Open, post_.clone(), paths::CONSOLE_LINK_USE, "use_console_link", "Signs a browser in by a link.", post(link::open)).takes::<api::ConsoleLinkUse>().gives::<api::SessionCreated>().limit(SMALL),
        change(on(P::UserChange, guard::cluster), post_.clone(), paths::INVITES, "create_invite", "Makes an invitation, and the user where there is none; it is shown this once.", post(users::invite)).takes::<api::InviteCreate>().gives::<api::InviteCreated>(),
        change(Access::Open, post_.clone(), paths::INVITE_ACCEPT, "accept_invite", "Takes an invitation: sets the password and signs in.", post(login::accept_invite)).takes::<api::InviteAccept>().gives::<api::SessionCreated>().limit(SMALL),
        Route { gives: html, ..look(Access::Open, paths::INVITE_PAGE, "invite_page", "The page on which an invitation is taken.", get(pages::invite)) },
        Route { gives: html, takes: form, ..change(Access::Open, post_.clone(), paths::INVITE_PAGE, "invite_form", "Its form.", post(pages::invite_post)).limit(SMALL) },
        look(known, paths::USERS, "list_users", "Users; without the right to see all, oneself.", get(users::list)).lists::<api::UserView>(),
        change(on(P::UserChange, guard::cluster), post_.clone(), paths::USERS, "create_user", "Makes a user.", post(users::create)).takes::<api::UserCreate>().gives::<api::UserView>(),
        look(known, paths::USER, "get_user", "One user.", get(users::show)).gives::<api::UserView>(),
        change(on(P::UserChange, guard::cluster), delete_.clone(), paths::USER, "delete_user", "Removes a user with their sessions and API tokens.", delete(users::remove)),
        change(on(P::UserChange, guard::cluster), post_.clone(), paths::USER_DISABLE, "disable_user", "Keeps a user out: their sessions and tokens end at once.", post(users::disable)).gives::<api::UserView>(),
        change(on(P::UserChange, guard::cluster), post_.clone(), paths::USER_ENABLE, "enable_user", "Lets a user in again.", post(users::enable)).gives::<api::UserView>(),
        change(known, put_.clone(), paths::USER_PASSWORD, "set_password", "Sets one's own password, or as an admin anybody's.", put(users::set_password)).takes::<api::PasswordChange>().limit(SMALL),
        change(Access::InBody(P::MembersChange), post_.clone(), paths::USER_GRANT, "grant_roles", "Gives a user roles, none beyond one's own.", post(users::grant)).takes::<api::RolesChange>().gives::<api::UserView>(),
        change(Access::InBody(P::MembersChange), post_.clone(), paths::USER_REVOKE, "revoke_roles", "Takes roles from a user.", post(users::revoke)).takes::<api::RolesChange>().gives::<api::UserView>(),
        change(known, delete_.clone(), paths::USER_SESSIONS, "end_sessions", "Ends all sessions of oneself, or as an admin of anybody.", delete(users::sign_out)),
        look(list(P::ProjectLook), paths::PROJECTS, "list_projects", "Projects.", get(projects::list)).lists::<api::ProjectView>(),
        change(on(P::ProjectChange, guard::cluster), post_.clone(), paths::PROJECTS, "create_project", "Makes a project.", post(projects::create)).takes::<api::ProjectCreate>().gives::<api::ProjectView>(),
        look(on(P::ProjectLook, guard::project), paths::PROJECT, "get_project", "One project: quotas, use, members.", get(projects::show)).gives::<api::ProjectView>(),
        change(on(P::ProjectChange, guard::project), delete_.clone(), paths::PROJECT, "delete_project", "Removes a project in which nothing is left.", delete(projects::remove)),
        change(on(P::ProjectChange, guard::project), put_.clone(), paths::PROJECT_QUOTA, "set_quota", "Sets what a project may use at the most.", put(projects::set_quota)).takes::<api::QuotaChange>().gives::<api::ProjectView>(),
        look(list(P::NodeLook), paths::NODES, "list_nodes", "Every node that asked to join and was not removed.", get(nodes::list)).lists::<api::NodeView>(),
        look(list(P::NodeLook), paths::RANKING, "list_ranking", "Nodes by how good they are, the best first.", get(ranking::list)).query::<api::RankingQuery>().lists::<api::RankedNode>(),
        look(on(P::NodeLook, guard::node), paths::NODE, "get_node", "One node.", get(nodes::show)).gives::<api::NodeView>(),
        change(on(P::NodeChange, guard::node), delete_.clone(), paths::NODE, "delete_node", "Removes a node that is emptied or lost, has left or never came in; its key is forgotten.", delete(nodes::remove)).query::<api::DeleteNodeQuery>(),
        change(on(P::NodeApprove, guard::node), post_.clone(), paths::NODE_APPROVE, "approve_node", "Takes a node in, or decides which of two copies goes on: the one that connects next.", post(nodes::approve)).takes::<api::ApproveNode>().gives::<api::NodeView>(),
        change(on(P::NodeApprove, guard::node), post_.clone(), paths::NODE_REJECT, "reject_node", "Turns a node away that waits for a decision.", post(nodes::reject)).takes::<api::NodeReason>().gives::<api::NodeView>(),
        change(on(P::NodeRevoke, guard::node), post_.clone(), paths::NODE_REVOKE, "revoke_node", "Throws a node out: its link is cut at once.", post(nodes::revoke)).takes::<api::NodeReason>().gives::<api::NodeView>(),
        change(on(P::NodePause, guard::node), post_.clone(), paths::NODE_CORDON, "cordon_node", "Gives a node no new work.", post(nodes::cordon)).gives::<api::NodeView>(),
        change(on(P::NodePause, guard::node), post_.clone(), paths::NODE_UNCORDON, "uncordon_node", "Gives a node new work again.", post(nodes::uncordon)).gives::<api::NodeView>(),
        change(on(P::NodeChange, guard::node), post_.clone(), paths::NODE_DRAIN, "drain_node", "Empties a node: it gets no new work, and what can run elsewhere moves there; or says what would move.", post(nodes::drain)).takes::<api::DrainNode>().gives::<api::DrainResult>(),
        change(on(P::NodeChange, guard::node), Method::PATCH, paths::NODE, "change_node", "Changes a node's pool and labels.", patch(nodes::change)).takes::<api::NodeChange>().gives::<api::NodeView>(),
        change(on(P::NodeChange, guard::node), post_.clone(), paths::NODE_PREVIEW, "preview_node", "What a change of a node would do.", post(nodes::preview)).takes::<api::NodeChange>().gives::<api::NodePreview>(),
        look(list(P::PoolLook), paths::POOLS, "list_pools", "Pools: groups of nodes.", get(pools::list)).lists::<api::PoolView>(),
        change(on(P::PoolChange, guard::cluster), post_.clone(), paths::POOLS, "create_pool", "Makes a pool.", post(pools::create)).takes::<api::PoolCreate>().gives::<api::PoolView>(),
        look(on(P::PoolLook, guard::pool), paths::POOL, "get_pool", "One pool.", get(pools::show)).gives::<api::PoolView>(),
        change(on(P::PoolChange, guard::pool), Method::PATCH, paths::POOL, "change_pool", "Changes a pool.", patch(pools::change)).takes::<api::PoolChange>().gives::<api::PoolView>(),
        change(on(P::PoolChange, guard::pool), post_.clone(), paths::POOL_PREVIEW, "preview_pool", "What a change of a pool would do.", post(pools::preview)).takes::<api::PoolChange>().gives::<api::PoolPreview>(),
        change(on(P::PoolChange, guard::pool), delete_.clone(), paths::POOL, "delete_pool", "Removes a pool that nothing uses.", delete(pools::remove)),
        look(on(P::StackLook, guard::project), paths::ROLLOUT, "get_rollout", "How the last deployment of a stack fares, and the versions that are kept.", get(rollout::status)).gives::<api::RolloutView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::ROLLOUT_UNDO, "undo_rollout", "Deploys a former version of a stack again.", post(rollout::undo)).query::<api::UndoQuery>().gives::<api::DeployResult>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::ROLLOUT_PAUSE, "pause_rollout", "Holds rollouts of a stack where they are.", post(rollout::pause)).query::<api::RolloutQuery>().gives::<api::RolloutView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::ROLLOUT_RESUME, "resume_rollout", "Lets paused rollouts of a stack go on.", post(rollout::resume)).query::<api::RolloutQuery>().gives::<api::RolloutView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::ROLLOUT_PROMOTE, "promote_rollout", "Lets new versions take over that are tried beside the old ones.", post(rollout::promote)).query::<api::RolloutQuery>().gives::<api::RolloutView>(),
        look(list(P::StackLook), paths::STACKS, "list_stacks", "Stacks.", get(stacks::list)).query::<api::StackQuery>().lists::<api::StackView>(),
        look(on(P::StackLook, guard::project), paths::STACK, "get_stack", "A stack with all that belongs to it.", get(stacks::show)).gives::<api::StackDetail>(),
        change(on(P::StackChange, guard::project), put_.clone(), paths::STACK, "deploy_stack", "Deploys a stack, or says what that would change.", put(stacks::deploy)).query::<api::DeployQuery>().takes::<api::DeployRequest>().gives::<api::DeployResult>().limit(api::MAX_DEPLOY_BYTES),
        change(on(P::StackChange, guard::project), delete_.clone(), paths::STACK, "delete_stack", "Removes a stack; its volumes stay unless asked otherwise.", delete(stacks::remove)).query::<api::DeleteStackQuery>().gives::<api::StackView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::COMPOSE, "read_compose", "What a Compose file says, or every problem of it with its place; nothing is changed.", post(compose::read)).takes::<api::ComposeRead>().gives::<api::ComposeView>().limit(api::MAX_COMPOSE_BYTES),
        look(list(P::StackLook), paths::WORKLOADS, "list_workloads", "Services of all stacks.", get(workloads::list)).query::<api::WorkloadQuery>().lists::<api::WorkloadView>(),
        look(on(P::StackLook, guard::project), paths::WORKLOAD, "get_workload", "One service.", get(workloads::show)).gives::<api::WorkloadView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::WORKLOAD_START, "start_workload", "Starts a stopped service.", post(workloads::start)).gives::<api::WorkloadView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::WORKLOAD_STOP, "stop_workload", "Stops a service and keeps its containers.", post(workloads::stop)).gives::<api::WorkloadView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::WORKLOAD_RESTART, "restart_workload", "Restarts the containers of a service.", post(workloads::restart)).gives::<api::WorkloadView>(),
        look(on(P::StackLook, guard::project), paths::EXPLAIN, "explain_workload", "Why the replicas of a service are where they are, and where one more would go.", get(workloads::explain)).gives::<api::ExplainView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::WORKLOAD_SCALE, "scale_workload", "Changes how many replicas run.", post(workloads::scale)).takes::<api::Scale>().gives::<api::WorkloadView>(),
        look(list(P::NodeLook), paths::ALERTS, "list_alerts", "Alerts that fire, the worst first.", get(alerts::list)).lists::<api::AlertView>(),
        look(list(P::StackLook), paths::JOB_RUNS, "list_job_runs", "What jobs did: each run with its exit code, oldest first.", get(jobs::runs)).query::<api::JobRunQuery>().lists::<api::JobRunView>(),
        look(list(P::StackLook), paths::MISSED_RUNS, "list_missed_runs", "When jobs were due by their schedules and did not run, oldest first.", get(schedules::missed)).query::<api::JobRunQuery>().lists::<api::MissedRunsView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::SCHEDULE_PAUSE, "pause_schedule", "Holds the schedule of a job; a run that goes on goes on.", post(schedules::pause)).gives::<api::WorkloadView>(),
        change(on(P::StackChange, guard::project), post_.clone(), paths::SCHEDULE_RESUME, "resume_schedule", "Lets the schedule of a job go on; what was due meanwhile is not made up for.", post(schedules::resume)).gives::<api::WorkloadView>(),
        look(list(P::StackLook), paths::ALLOCATIONS, "list_allocations", "Placed instances of services.", get(allocations::list)).query::<api::AllocationQuery>().lists::<api::AllocationView>(),
        look(on(P::StackLook, guard::allocation), paths::ALLOCATION, "get_allocation", "One instance.", get(allocations::show)).gives::<api::AllocationView>(),
        Route { gives: Content::Other("application/x-ndjson", Some(described::<api::LogRecord>)), ..look(on(P::LogsLook, guard::allocation), paths::ALLOCATION_LOGS, "logs", "What an instance wrote, one record a line.", get(streams::logs)).query::<api::LogQuery>() },
        Route { gives: Content::Other("application/octet-stream", Some(described::<api::ExecServerMessage>)), takes: Content::Other("application/octet-stream", Some(described::<api::ExecStart>)), ..look(on(P::Exec, guard::allocation), paths::ALLOCATION_EXEC, "exec", "Runs a command in an instance: upgrades to WebSocket.", get(streams::exec)) },
        change(Access::InBody(P::StackChange), post_, paths::RUN, "run", "Runs one image as a stack with one service.", post(stacks::run)).takes::<api::RunRequest>().gives::<api::DeployResult>().limit(api::MAX_DEPLOY_BYTES),
        look(list(P::StackLook), paths::VOLUMES, "list_volumes", "Named volumes.", get(stacks::volumes)).query::<api::VolumeQuery>().lists::<api::VolumeView>(),
        look(on(P::SecretLook, guard::project), paths::SECRETS, "list_secrets", "Secrets of a project, without their values.", get(secrets::list)).lists::<api::SecretView>(),
        Route { takes: Content::Other("application/octet-stream", None), ..change(on(P::SecretChange, guard::project), put_.clone(), paths::SECRET, "set_secret", "Sets a secret to the raw bytes of the body.", put(secrets::set)).gives::<api::SecretView>().limit(api::MAX_SECRET_BYTES) },
        change(on(P::SecretChange, guard::project), delete_, paths::SECRET, "delete_secret", "Deletes a secret that nothing uses.", delete(secrets::remove)),
        look(on(P::SecretLook, guard::project), paths::SECRET_VERSIONS, "list_secret_versions", "The versions of a secret, the newest first, without their values.", get(secrets::versions)).lists::<api::SecretVersionView>(),
        change(on(P::SecretChange, guard::project), Method::POST, paths::SECRET_ROLLBACK, "rollback_secret", "Makes a new version with the value of an earlier one.", post(secrets::rollback)).takes::<api::SecretRollback>().gives::<api::SecretView>(),
        change(on(P::ServerChange, guard::cluster), Method::POST, paths::ROTATE_KEY, "rotate_key", "Goes over to a new key for what the server seals.", post(secrets::rotate_key)).gives::<api::KeyRotation>(),
        change(on(P::StackChange, guard::project), Method::HEAD, paths::TREE, "has_tree", "Whether a project has a tree of files: 404 where not.", head(trees::look)),
        Route { takes: Content::Other("application/x-tar", None), ..change(on(P::StackChange, guard::project), Method::PUT, paths::TREE, "put_tree", "Uploads a tree of files that a stack of the project will name.", put(trees::upload)).gives::<api::TreeView>() },
        change(on(P::StackChange, guard::project), Method::HEAD, paths::LAYER, "has_layer", "Whether a project has a layer of an image: 404 where not.", head(images::look)),
        Route { takes: Content::Other("application/zstd", None), ..change(on(P::StackChange, guard::project), Method::PUT, paths::LAYER, "put_layer", "Uploads a layer of an image, as one frame of zstd that states its size.", put(images::upload)).gives::<api::LayerView>() },
        look(on(P::StackLook, guard::project), paths::IMAGES, "list_images", "Images that a project uploaded.", get(images::list)).lists::<api::ImageView>(),
        look(on(P::StackChange, guard::project), paths::IMAGE, "get_image", "An uploaded image that is wholly there.", get(images::show)).gives::<api::ImageView>(),
        Route { takes: Content::Other("application/octet-stream", None), ..change(on(P::StackChange, guard::project), put_, paths::IMAGE, "put_image", "Takes in an image whose layers are uploaded: its configuration, byte for byte.", put(images::register)).gives::<api::ImageView>().limit(api::MAX_IMAGE_CONFIG_BYTES) },
        Route { gives: Content::Other("application/x-ndjson", Some(described::<api::BuildRecord>)), ..change(on(P::StackChange, guard::project), Method::POST, paths::BUILDS, "build_image", "Builds an image on a node, of an uploaded tree: what happens, one record a line.", post(builds::build)).takes::<api::BuildStart>() },
        look(list(P::StackLook), paths::EVENTS, "list_events", "What happened, oldest first.", get(events::list)).query::<api::EventQuery>().lists::<api::EventView>(),
        look(list(P::StackLook), paths::EVENT_CHAIN, "get_event_chain", "What led to an event, and what came of it.", get(events::chain)).gives::<api::EventChain>(),
        look(on(P::AuditLook, guard::cluster), paths::AUDIT, "list_audit", "Who changed what, oldest first.", get(cluster::audit)).query::<api::AuditQuery>().lists::<api::AuditView>(),
        look(on(P::ClusterLook, guard::cluster), paths::BACKUP, "backup_status", "How the backups are doing that the server makes by itself.", get(backups::status)).gives::<api::BackupStatus>(),
        change(on(P::ServerChange, guard::cluster), Method::POST, paths::BACKUP, "create_backup", "Makes a backup now, where the configuration says.", post(backups::create)).gives::<api::BackupStatus>(),
        Route { gives: Content::Other("application/octet-stream", None), ..change(on(P::ServerChange, guard::cluster), Method::POST, paths::BACKUP_DUMP, "dump", "The whole control plane, keys included, encrypted to the recipients that are given.", post(backups::dump)).takes::<api::BackupDump>() },
        Route { gives: Content::Other("text/event-stream", Some(described::<api::WatchEvent>)), ..look(list(P::StackLook), paths::WATCH, "watch", "Every change, as server-sent events.", get(watch::watch)).query::<api::WatchQuery>() },
    ]
}

/// The API as a service.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let mut router = Router::new();
    for route in table() {
        let service = route
            .service
            .layer(DefaultBodyLimit::max(route.limit))
            .layer(middleware::from_fn_with_state((Arc::clone(&core), route.access), guard::authorise));
        router = router.route(route.path, service);
    }
    router
        .fallback(async |request: Request| {
            if let Some(response) = console::answer(&request) {
                return response;
            }
            let hint = "the paths are in /v1/openapi.json";
            stranger(request, ErrorBody::new(ErrorCode::NotFound, "the API has no such path", hint))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let hint = "the methods are in /v1/openapi.json";
            stranger(
                request,
                ErrorBody::new(ErrorCode::MethodNotAllowed, "this path knows no such method", hint),
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&core), guard::enter))
        .with_state(core)
}

/// Who is not known is told that, and nothing about paths.
fn stranger(request: Request, otherwise: ErrorBody) -> Response {
    let (mut parts, _) = request.into_parts();
    ApiError(guard::asker(&mut parts).err().unwrap_or(otherwise)).into_response()
}
