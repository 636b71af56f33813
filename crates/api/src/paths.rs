//! Every route once: a template for the server's router and the OpenAPI document, and a builder
//! of the same name in lower case for clients.

use std::fmt::{Display, Write};

macro_rules! routes {
    ($($(#[$doc:meta])* $template:ident, $builder:ident($($arg:ident),*) = $path:literal;)+) => {
        $(
            $(#[$doc])*
            pub const $template: &str = $path;

            $(#[$doc])*
            ///
            /// The path with its parts filled in, percent-encoded.
            pub fn $builder($($arg: impl Display),*) -> String {
                fill($template, &[$(&$arg as &dyn Display),*])
            }
        )+

        /// Every template, for tests that look for gaps.
        pub const ALL: &[&str] = &[$($template),+];
    };
}

routes! {
    /// `GET`: [`Status`](crate::Status).
    STATUS, status() = "/v1/status";
    /// `GET`: [`Whoami`](crate::Whoami).
    WHOAMI, whoami() = "/v1/whoami";
    /// `GET`: the OpenAPI document.
    OPENAPI, openapi() = "/v1/openapi.json";
    /// `GET`: list of [`JoinTokenView`](crate::JoinTokenView). `POST` [`JoinTokenCreate`](crate::JoinTokenCreate): [`TokenCreated`](crate::TokenCreated).
    JOIN_TOKENS, join_tokens() = "/v1/join-tokens";
    /// `DELETE`: 204.
    JOIN_TOKEN, join_token(id) = "/v1/join-tokens/{id}";
    /// `GET`: list of [`ApiTokenView`](crate::ApiTokenView). `POST` [`ApiTokenCreate`](crate::ApiTokenCreate): [`TokenCreated`](crate::TokenCreated).
    API_TOKENS, api_tokens() = "/v1/api-tokens";
    /// `DELETE`: 204.
    API_TOKEN, api_token(id) = "/v1/api-tokens/{id}";
    /// `POST` [`Login`](crate::Login): [`SessionCreated`](crate::SessionCreated).
    LOGIN, login() = "/v1/login";
    /// `POST` without a body: 204; the session that asks ends.
    LOGOUT, logout() = "/v1/logout";
    /// `POST` [`DeviceStart`](crate::DeviceStart): [`DeviceStarted`](crate::DeviceStarted).
    DEVICE_CODES, device_codes() = "/v1/device-codes";
    /// `POST` [`DevicePoll`](crate::DevicePoll): [`SessionCreated`](crate::SessionCreated).
    DEVICE_TOKEN, device_token() = "/v1/device-codes/token";
    /// `POST` [`DeviceDecision`](crate::DeviceDecision): [`DeviceDecided`](crate::DeviceDecided).
    DEVICE_DECISION, device_decision() = "/v1/device-codes/decision";
    /// `GET`, and `POST` of its form: the page on which a person approves a login by code.
    DEVICE_PAGE, device_page() = "/device";
    /// `POST` without a body: [`ConsoleLink`](crate::ConsoleLink).
    CONSOLE_LINKS, console_links() = "/v1/console-links";
    /// `POST` [`ConsoleLinkUse`](crate::ConsoleLinkUse): [`SessionCreated`](crate::SessionCreated).
    CONSOLE_LINK_USE, console_link_use() = "/v1/console-links/use";
    /// `POST` [`InviteCreate`](crate::InviteCreate): [`InviteCreated`](crate::InviteCreated).
    INVITES, invites() = "/v1/invites";
    /// `POST` [`InviteAccept`](crate::InviteAccept): [`SessionCreated`](crate::SessionCreated).
    INVITE_ACCEPT, invite_accept() = "/v1/invites/accept";
    /// `GET`, and `POST` of its form: the page on which an invited person sets their password.
    INVITE_PAGE, invite_page() = "/invite";
    /// `GET`: list of [`UserView`](crate::UserView). `POST` [`UserCreate`](crate::UserCreate): [`UserView`](crate::UserView).
    USERS, users() = "/v1/users";
    /// `GET`: [`UserView`](crate::UserView). `DELETE`: 204.
    USER, user(user) = "/v1/users/{user}";
    /// `POST` without a body: [`UserView`](crate::UserView).
    USER_DISABLE, user_disable(user) = "/v1/users/{user}/disable";
    /// `POST` without a body: [`UserView`](crate::UserView).
    USER_ENABLE, user_enable(user) = "/v1/users/{user}/enable";
    /// `PUT` [`PasswordChange`](crate::PasswordChange): 204.
    USER_PASSWORD, user_password(user) = "/v1/users/{user}/password";
    /// `POST` [`RolesChange`](crate::RolesChange): [`UserView`](crate::UserView).
    USER_GRANT, user_grant(user) = "/v1/users/{user}/grant";
    /// `POST` [`RolesChange`](crate::RolesChange): [`UserView`](crate::UserView).
    USER_REVOKE, user_revoke(user) = "/v1/users/{user}/revoke";
    /// `DELETE`: 204; all of the user's sessions end.
    USER_SESSIONS, user_sessions(user) = "/v1/users/{user}/sessions";
    /// `GET`: list of [`ProjectView`](crate::ProjectView). `POST` [`ProjectCreate`](crate::ProjectCreate): [`ProjectView`](crate::ProjectView).
    PROJECTS, projects() = "/v1/projects";
    /// `GET`: [`ProjectView`](crate::ProjectView). `DELETE`: 204.
    PROJECT, project(project) = "/v1/projects/{project}";
    /// `PUT` [`QuotaChange`](crate::QuotaChange): [`ProjectView`](crate::ProjectView).
    PROJECT_QUOTA, project_quota(project) = "/v1/projects/{project}/quota";
    /// `GET`: list of [`NodeView`](crate::NodeView).
    NODES, nodes() = "/v1/nodes";
    /// `GET`: [`NodeView`](crate::NodeView). `PATCH` [`NodeChange`](crate::NodeChange): [`NodeView`](crate::NodeView). `DELETE` ?[`DeleteNodeQuery`](crate::DeleteNodeQuery): 204. `node` is a name, an id, or an id's first characters.
    NODE, node(node) = "/v1/nodes/{node}";
    /// `GET` ?[`RankingQuery`](crate::RankingQuery): list of [`RankedNode`](crate::RankedNode), the best first.
    RANKING, ranking() = "/v1/ranking";
    /// `POST` [`ApproveNode`](crate::ApproveNode): [`NodeView`](crate::NodeView).
    NODE_APPROVE, node_approve(node) = "/v1/nodes/{node}/approve";
    /// `POST` [`NodeReason`](crate::NodeReason): [`NodeView`](crate::NodeView).
    NODE_REJECT, node_reject(node) = "/v1/nodes/{node}/reject";
    /// `POST` [`NodeReason`](crate::NodeReason): [`NodeView`](crate::NodeView).
    NODE_REVOKE, node_revoke(node) = "/v1/nodes/{node}/revoke";
    /// `POST` without a body: [`NodeView`](crate::NodeView).
    NODE_CORDON, node_cordon(node) = "/v1/nodes/{node}/cordon";
    /// `POST` without a body: [`NodeView`](crate::NodeView).
    NODE_UNCORDON, node_uncordon(node) = "/v1/nodes/{node}/uncordon";
    /// `GET`: list of [`PoolView`](crate::PoolView). `POST` [`PoolCreate`](crate::PoolCreate): [`PoolView`](crate::PoolView).
    POOLS, pools() = "/v1/pools";
    /// `GET`: [`PoolView`](crate::PoolView). `PATCH` [`PoolChange`](crate::PoolChange): [`PoolView`](crate::PoolView). `DELETE`: 204.
    POOL, pool(pool) = "/v1/pools/{pool}";
    /// `POST` [`PoolChange`](crate::PoolChange): [`PoolPreview`](crate::PoolPreview); nothing is changed.
    POOL_PREVIEW, pool_preview(pool) = "/v1/pools/{pool}/preview";
    /// `GET`: [`ExplainView`](crate::ExplainView).
    EXPLAIN, explain(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/explain";
    /// `GET`: [`RolloutView`](crate::RolloutView).
    ROLLOUT, rollout(project, stack) = "/v1/projects/{project}/stacks/{stack}/rollout";
    /// `POST` ?[`UndoQuery`](crate::UndoQuery): [`DeployResult`](crate::DeployResult).
    ROLLOUT_UNDO, rollout_undo(project, stack) = "/v1/projects/{project}/stacks/{stack}/rollout/undo";
    /// `POST` ?[`RolloutQuery`](crate::RolloutQuery): [`RolloutView`](crate::RolloutView).
    ROLLOUT_PAUSE, rollout_pause(project, stack) = "/v1/projects/{project}/stacks/{stack}/rollout/pause";
    /// `POST` ?[`RolloutQuery`](crate::RolloutQuery): [`RolloutView`](crate::RolloutView).
    ROLLOUT_RESUME, rollout_resume(project, stack) = "/v1/projects/{project}/stacks/{stack}/rollout/resume";
    /// `POST` ?[`RolloutQuery`](crate::RolloutQuery): [`RolloutView`](crate::RolloutView).
    ROLLOUT_PROMOTE, rollout_promote(project, stack) = "/v1/projects/{project}/stacks/{stack}/rollout/promote";
    /// `POST` [`DrainNode`](crate::DrainNode): [`DrainResult`](crate::DrainResult).
    NODE_DRAIN, node_drain(node) = "/v1/nodes/{node}/drain";
    /// `POST` [`NodeChange`](crate::NodeChange): [`NodePreview`](crate::NodePreview); nothing is changed.
    NODE_PREVIEW, node_preview(node) = "/v1/nodes/{node}/preview";
    /// `GET` ?[`StackQuery`](crate::StackQuery): list of [`StackView`](crate::StackView).
    STACKS, stacks() = "/v1/stacks";
    /// `GET`: [`StackDetail`](crate::StackDetail). `PUT` ?[`DeployQuery`](crate::DeployQuery) [`DeployRequest`](crate::DeployRequest): [`DeployResult`](crate::DeployResult). `DELETE` ?[`DeleteStackQuery`](crate::DeleteStackQuery): [`StackView`](crate::StackView).
    STACK, stack(project, stack) = "/v1/projects/{project}/stacks/{stack}";
    /// `POST` [`ComposeRead`](crate::ComposeRead): [`ComposeView`](crate::ComposeView); nothing is changed.
    COMPOSE, compose(project) = "/v1/projects/{project}/compose";
    /// `GET` ?[`WorkloadQuery`](crate::WorkloadQuery): list of [`WorkloadView`](crate::WorkloadView).
    WORKLOADS, workloads() = "/v1/workloads";
    /// `GET`: [`WorkloadView`](crate::WorkloadView).
    WORKLOAD, workload(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}";
    /// `POST` without a body: [`WorkloadView`](crate::WorkloadView).
    WORKLOAD_START, workload_start(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/start";
    /// `POST` without a body: [`WorkloadView`](crate::WorkloadView).
    WORKLOAD_STOP, workload_stop(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/stop";
    /// `POST` without a body: [`WorkloadView`](crate::WorkloadView).
    WORKLOAD_RESTART, workload_restart(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/restart";
    /// `POST` [`Scale`](crate::Scale): [`WorkloadView`](crate::WorkloadView).
    WORKLOAD_SCALE, workload_scale(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/scale";
    /// `GET` ?[`JobRunQuery`](crate::JobRunQuery): list of [`JobRunView`](crate::JobRunView), oldest first.
    JOB_RUNS, job_runs() = "/v1/job-runs";
    /// `GET` ?[`JobRunQuery`](crate::JobRunQuery): list of [`MissedRunsView`](crate::MissedRunsView), oldest first.
    MISSED_RUNS, missed_runs() = "/v1/missed-runs";
    /// `POST` without a body: [`WorkloadView`](crate::WorkloadView).
    SCHEDULE_PAUSE, schedule_pause(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/schedule/pause";
    /// `POST` without a body: [`WorkloadView`](crate::WorkloadView).
    SCHEDULE_RESUME, schedule_resume(project, stack, workload) = "/v1/projects/{project}/stacks/{stack}/workloads/{workload}/schedule/resume";
    /// `GET` ?[`AllocationQuery`](crate::AllocationQuery): list of [`AllocationView`](crate::AllocationView).
    ALLOCATIONS, allocations() = "/v1/allocations";
    /// `GET`: [`AllocationView`](crate::AllocationView). `id` is an id or its first characters.
    ALLOCATION, allocation(id) = "/v1/allocations/{id}";
    /// `GET` ?[`LogQuery`](crate::LogQuery): `application/x-ndjson` of [`LogRecord`](crate::LogRecord).
    ALLOCATION_LOGS, allocation_logs(id) = "/v1/allocations/{id}/logs";
    /// `GET` with an upgrade to WebSocket: see [`crate::allocation`].
    ALLOCATION_EXEC, allocation_exec(id) = "/v1/allocations/{id}/exec";
    /// `POST` [`RunRequest`](crate::RunRequest): [`DeployResult`](crate::DeployResult).
    RUN, run() = "/v1/run";
    /// `GET` ?[`VolumeQuery`](crate::VolumeQuery): list of [`VolumeView`](crate::VolumeView).
    VOLUMES, volumes() = "/v1/volumes";
    /// `GET`: list of [`SecretView`](crate::SecretView).
    SECRETS, secrets(project) = "/v1/projects/{project}/secrets";
    /// `PUT` of the raw value, at most [`MAX_SECRET_BYTES`](crate::MAX_SECRET_BYTES): [`SecretView`](crate::SecretView). `DELETE`: 204.
    SECRET, secret(project, name) = "/v1/projects/{project}/secrets/{name}";
    /// `GET`: list of [`SecretVersionView`](crate::SecretVersionView), the newest first.
    SECRET_VERSIONS, secret_versions(project, name) = "/v1/projects/{project}/secrets/{name}/versions";
    /// `POST` [`SecretRollback`](crate::SecretRollback): [`SecretView`](crate::SecretView).
    SECRET_ROLLBACK, secret_rollback(project, name) = "/v1/projects/{project}/secrets/{name}/rollback";
    /// `POST` without a body: [`KeyRotation`](crate::KeyRotation).
    ROTATE_KEY, rotate_key() = "/v1/rotate-key";
    /// `HEAD`: 200 where the project has the tree, else 404. `PUT` of its archive, at most 64 MiB: [`TreeView`](crate::TreeView). `digest` is the SHA-256 of the archive.
    TREE, tree(project, digest) = "/v1/projects/{project}/trees/{digest}";
    /// `HEAD`: 200 where the project has the layer, else 404. `PUT` of its frame of zstd: [`LayerView`](crate::LayerView). `digest` is `sha256:…` of the unpacked archive.
    LAYER, layer(project, digest) = "/v1/projects/{project}/layers/{digest}";
    /// `GET`: list of [`ImageView`](crate::ImageView).
    IMAGES, images(project) = "/v1/projects/{project}/images";
    /// `GET`: [`ImageView`](crate::ImageView). `PUT` of its configuration: [`ImageView`](crate::ImageView). `digest` is the image's id.
    IMAGE, image(project, digest) = "/v1/projects/{project}/images/{digest}";
    /// `POST` [`BuildStart`](crate::BuildStart): `application/x-ndjson`, see [`BuildRecord`](crate::BuildRecord).
    BUILDS, builds(project) = "/v1/projects/{project}/builds";
    /// `GET` ?[`EventQuery`](crate::EventQuery): list of [`EventView`](crate::EventView), oldest first.
    EVENTS, events() = "/v1/events";
    /// `GET`: [`EventChain`](crate::EventChain).
    EVENT_CHAIN, event_chain(id) = "/v1/events/{id}/chain";
    /// `GET`: list of [`AlertView`](crate::AlertView), the worst first.
    ALERTS, alerts() = "/v1/alerts";
    /// `GET` ?[`AuditQuery`](crate::AuditQuery): list of [`AuditView`](crate::AuditView), oldest first.
    AUDIT, audit() = "/v1/audit";
    /// `GET`: [`BackupStatus`](crate::BackupStatus). `POST` without a body: makes one now; [`BackupStatus`](crate::BackupStatus).
    BACKUP, backup() = "/v1/backup";
    /// `POST` [`BackupDump`](crate::BackupDump): `application/octet-stream`, an age file.
    BACKUP_DUMP, backup_dump() = "/v1/backup/dump";
    /// `GET` ?[`WatchQuery`](crate::WatchQuery): `text/event-stream`, see [`WatchEvent`](crate::WatchEvent).
    WATCH, watch() = "/v1/watch";
}

fn fill(template: &str, args: &[&dyn Display]) -> String {
    let mut path = String::with_capacity(template.len() + 16);
    let mut args = args.iter();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        if let Some(arg) = args.next() {
            encode(&arg.to_string(), &mut path);
        }
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    path.push_str(rest);
    path
}

/// Percent-encodes all but what RFC 3986 calls unreserved; a segment of dots alone is encoded
/// too, since `..` would be another path.
fn encode(segment: &str, out: &mut String) {
    let dots = segment.bytes().all(|b| b == b'.');
    for byte in segment.bytes() {
        match byte {
            b'.' if dots => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_in_and_encoded() {
        assert_eq!(status(), "/v1/status");
        assert_eq!(
            workload_scale("default", "shop", "web"),
            "/v1/projects/default/stacks/shop/workloads/web/scale"
        );
        assert_eq!(node("a/b ?é"), "/v1/nodes/a%2Fb%20%3F%C3%A9");
        assert_eq!(node_cordon(".."), "/v1/nodes/%2E%2E/cordon");
    }

    #[test]
    fn templates_are_unique_and_under_v1() {
        let unique: std::collections::BTreeSet<_> = ALL.iter().collect();
        assert_eq!(unique.len(), ALL.len());
        // Pages for people have the address that people type.
        let page = |path: &&str| [DEVICE_PAGE, INVITE_PAGE].contains(path);
        assert!(ALL.iter().all(|path| path.starts_with("/v1/") || page(path)));
    }
}
