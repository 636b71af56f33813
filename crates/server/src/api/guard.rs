//! Who may come in. The gates of a request, in order:
//! 1. on TCP, `Host` is one of this server's names and `Origin`, where there is one, is one of its
//!    own pages: so no page of the web reaches a server on loopback, by DNS rebinding or otherwise;
//! 2. who asks: on the socket the user of the other process, on TCP a bearer token, or else the cookie of a
//!    page of this server ([`cookie`]);
//! 3. whether they may: the route states the permission, and how its object is found ([`Access`]).
//!
//! The socket admits the server's own user and root, and nobody else: other users of the machine
//! are not admins. A cookie is added by the browser itself, so it counts only with what a foreign page cannot
//! send: the page's own origin, and the session's proof with each change.

use super::{
    cookie,
    error::{ApiError, not_seen},
    extract::Names,
    principal::Principal,
};
use crate::{
    clock,
    rows::{self, JoinTokenRow},
    state::{Core, Snapshot},
};
use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use lattice_api::{AuditOutcome, ErrorBody, ErrorCode, Hidden};
use lattice_identity::{ApiToken, Object, Permission, SessionToken};
use lattice_model::{Timestamp, TokenId};
use lattice_planner::Row;
use lattice_store::Transaction;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long a request may take to be answered; for a stream, its beginning.
const PATIENCE: Duration = Duration::from_secs(55);
/// The same for an upload: 64 MiB at half a megabit a second.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(1100);
/// The most refused attempts that are written down, one in so many milliseconds.
const DENIED_EVERY: i64 = 200;

/// How a route is authorised. Without one no route can be written down.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// Anybody at all: it is how people become known. The handler counts their tries.
    Open,
    /// Whoever is known: it tells or changes what is theirs alone, which the handler sees to.
    Known,
    /// Whoever is known: the handler leaves out what they may not see ([`Principal::may`]).
    Listing(Permission),
    /// Whoever may do it to the object that the path names.
    On(Permission, Locate),
    /// Whoever may do it somewhere; the object is in the body, so the handler asks again, for that
    /// object ([`Principal::require`]).
    InBody(Permission),
}

impl Access {
    /// As the API's document says it.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Known => "known",
            Self::Listing(permission) | Self::On(permission, _) | Self::InBody(permission) => {
                permission.as_str()
            }
        }
    }
}

/// How the object of a request is found by the names in its path; nothing where there is none.
pub(crate) type Locate = fn(&Snapshot, &Names) -> Option<Object>;

/// The cluster as a whole.
pub(crate) fn cluster(_: &Snapshot, _: &Names) -> Option<Object> {
    Some(Object::Cluster)
}

/// `{project}`, whether it exists or not: to whom it is foreign, that makes no difference.
pub(crate) fn project(_: &Snapshot, names: &Names) -> Option<Object> {
    names.get("project").ok().map(Object::Project)
}

/// `{node}`.
pub(crate) fn node(snapshot: &Snapshot, names: &Names) -> Option<Object> {
    super::nodes::find(snapshot, names.text("node")).ok().map(object_of_node)
}

/// `{pool}`, where there is one.
pub(crate) fn pool(snapshot: &Snapshot, names: &Names) -> Option<Object> {
    let name = names.get("pool").ok()?;
    snapshot.cluster.pools.contains_key::<lattice_model::PoolName>(&name).then_some(Object::Pool(name))
}

/// A node as an object.
pub(crate) fn object_of_node(node: &Row<lattice_model::resource::Node>) -> Object {
    Object::Node { pool: node.pool.clone(), owner: node.owner.clone() }
}

/// `{id}` of an allocation: its project.
pub(crate) fn allocation(snapshot: &Snapshot, names: &Names) -> Option<Object> {
    let row = super::allocations::find(snapshot, names.text("id")).ok()?;
    Some(Object::Project(row.workload.project.clone()))
}

/// `{id}` of a join token: its pool.
pub(crate) fn join_token(snapshot: &Snapshot, names: &Names) -> Option<Object> {
    let id: TokenId = names.get("id").ok()?;
    snapshot.join_tokens.get(&id).map(|row| object_of_join_token(row))
}

/// A join token as an object.
pub(crate) fn object_of_join_token(row: &JoinTokenRow) -> Object {
    Object::Pool(row.record.policy.pool.clone())
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerInfo {
    /// Over TCP.
    Tcp(SocketAddr),
    /// On the socket; the user id where the system told.
    Unix(Option<u32>),
}

/// What came of gate 2, until the route says whether it matters.
#[derive(Clone)]
pub(crate) struct Asker(Result<Principal, ErrorBody>);

/// Gates 1 and 2, for every request whatever its path.
pub(crate) async fn enter(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    mut request: Request,
    next: Next,
) -> Response {
    if let PeerInfo::Tcp(_) = peer
        && let Err(body) = own_host(&core, &request)
    {
        return ApiError(body).into_response();
    }
    let (asker, csrf) = match authenticate(&core, peer, &request) {
        Ok((who, csrf)) => (Ok(who), csrf),
        Err(body) => (Err(body), cookie::Csrf(None)),
    };
    if asker.is_ok()
        && let Err(body) = fresh_enough(&core, &mut request).await
    {
        return ApiError(body).into_response();
    }
    request.extensions_mut().insert(Asker(asker));
    request.extensions_mut().insert(csrf);
    // An upload is slow where the network is; what falls silent is ended by its handler.
    let path = request.uri().path();
    let uploads = request.method() == Method::PUT && (path.contains("/trees/") || path.contains("/layers/"));
    let patience = if uploads { UPLOAD_PATIENCE } else { PATIENCE };
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = "the request took too long and was given up; it may have happened all the same";
            ApiError(ErrorBody::new(
                ErrorCode::Unavailable,
                text,
                "look at the present state, then try again",
            ))
            .into_response()
        }
    }
}

/// Gate 3, for one route. The handler gets the [`Principal`] as an extension.
pub(crate) async fn authorise(
    State((core, access)): State<(Arc<Core>, Access)>,
    request: Request,
    next: Next,
) -> Response {
    match judge(&core, access, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn judge(core: &Core, access: Access, request: Request) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    if matches!(access, Access::Open) {
        return Ok(Request::from_parts(parts, body));
    }
    let who = asker(&mut parts)?;
    let refused = match access {
        Access::Open | Access::Known | Access::Listing(_) => None,
        Access::InBody(permission) => {
            (!who.may_somewhere(permission)).then(|| who.refused(permission, &Object::Cluster))
        }
        Access::On(permission, locate) => {
            let names = Names::from_request_parts(&mut parts, &()).await?;
            match locate(&core.snapshot(), &names) {
                Some(object) => (!who.may(permission, &object)).then(|| who.refused(permission, &object)),
                // Whoever may do it to all of them is told by the handler what there is.
                None if who.may(permission, &Object::Cluster) => None,
                // A viewer of everything is told that it may not, and a stranger nothing.
                None if who.may(permission.to_see(), &Object::Cluster) => {
                    Some(who.refused(permission, &Object::Cluster))
                }
                None => Some(not_seen()),
            }
        }
    };
    if let Some(body) = refused {
        denied(core, &who, &format!("{} {}", parts.method, parts.uri.path())).await;
        return Err(body.into());
    }
    parts.extensions.insert(who);
    Ok(Request::from_parts(parts, body))
}

/// Whoever asks, for what has no route of its own.
pub(crate) fn asker(parts: &mut axum::http::request::Parts) -> Result<Principal, ErrorBody> {
    match parts.extensions.remove::<Asker>() {
        Some(Asker(asker)) => asker,
        None => Err(ErrorBody::new(
            ErrorCode::Internal,
            "the request came in by another door",
            "look at the server's log",
        )),
    }
}

/// Writes a refused attempt down, though not more often than a few times in a second.
pub(crate) async fn denied(core: &Core, principal: &Principal, what: &str) {
    tracing::warn!(who = principal.name, what, "an attempt was refused");
    {
        let mut last = core.live.last_denied.lock();
        let now = clock::now();
        if now.0 - last.0 < DENIED_EVERY {
            return;
        }
        *last = now;
    }
    let entry = rows::Audit { outcome: AuditOutcome::Denied, ..principal.audit("api.request", what, "") };
    if let Err(error) = core.store.apply(Transaction::new([rows::create(&entry)])).await {
        tracing::warn!(%error, "a refused attempt was not written down");
    }
}

fn own_host(core: &Core, request: &Request) -> Result<(), ErrorBody> {
    let own = |authority: &str| {
        let (host, port) = split(authority);
        let named = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
            || core.config.api_hosts.iter().any(|known| known.eq_ignore_ascii_case(&host));
        named && port.is_none_or(|port| port == core.api_port())
    };
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
    let refuse = |what: &str, said: &str| {
        let said: String = said.chars().take(100).collect();
        let message = format!("the {what} {said:?} is not one of this server's");
        Err(ErrorBody::new(
            ErrorCode::Forbidden,
            message,
            "use 127.0.0.1 or localhost with the server's port, or add the name to api.hosts",
        ))
    };
    match host {
        Some(host) if own(host) => {}
        Some(host) => return refuse("Host", host),
        None => return refuse("Host", ""),
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin) => match origin.split_once("://") {
            Some(("http" | "https", authority)) if own(authority) => Ok(()),
            _ => refuse("Origin", origin),
        },
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(authority: &str) -> (String, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host.to_ascii_lowercase(), port.strip_prefix(':').map(|port| port.parse().unwrap_or(0)));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host.to_ascii_lowercase(), Some(port.parse().unwrap_or(0))),
        None => (authority.to_ascii_lowercase(), None),
    }
}

fn authenticate(
    core: &Core,
    peer: PeerInfo,
    request: &Request,
) -> Result<(Principal, cookie::Csrf), ErrorBody> {
    let address = match peer {
        PeerInfo::Unix(uid) => return local(uid).map(|who| (who, cookie::Csrf(None))),
        PeerInfo::Tcp(address) => address,
    };
    let unauthenticated = |text: &str| {
        let hint = "sign in with `lattice login`, or send `Authorization: Bearer lap1_…` with a token that \
                    `lattice api-token create` made; on the server's machine, `lattice` needs neither";
        Err(ErrorBody::new(ErrorCode::Unauthenticated, text, hint))
    };
    let now = clock::now();
    let from = address.ip().to_canonical().to_string();
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        let Some(text) = cookie::read(core, request.headers()) else {
            return unauthenticated("no credential was sent");
        };
        let Ok(token) = SessionToken::parse(text) else {
            return unauthenticated("the cookie is not this server's");
        };
        // Before it is asked whether the session lives: a foreign page learns nothing about it.
        cookie::own_page(&token, request)?;
        let who = match Principal::of_session(core, &core.snapshot(), &token, from, now) {
            Ok(who) => who,
            Err(text) => return unauthenticated(text),
        };
        used(core, token.id(), now);
        return Ok((who, cookie::Csrf(Some(Hidden(token.csrf())))));
    };
    let bearer = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let Some(bearer) = bearer else { return unauthenticated("the credential is not a bearer token") };
    let known = if SessionToken::looks_like(bearer) {
        SessionToken::parse(bearer).map(|token| {
            let known = Principal::of_session(core, &core.snapshot(), &token, from, now);
            known.map(|who| (token.id(), who))
        })
    } else {
        ApiToken::parse(bearer).map(|token| {
            let known = Principal::of_token(&core.snapshot(), &token, from, now);
            known.map(|who| (token.id(), who))
        })
    };
    let known = match known {
        Ok(known) => known,
        Err(error) => return unauthenticated(&error.to_string()),
    };
    match known {
        Ok((id, who)) => {
            used(core, id, now);
            Ok((who, cookie::Csrf(None)))
        }
        Err(text) => unauthenticated(text),
    }
}

/// Remembers when a credential was used, to the minute.
fn used(core: &Core, id: TokenId, now: Timestamp) {
    core.live.token_use.lock().insert(id, Timestamp(now.0 / 60_000 * 60_000));
}

fn local(uid: Option<u32>) -> Result<Principal, ErrorBody> {
    let own = rustix::process::geteuid().as_raw();
    match uid {
        Some(uid) if uid == own || uid == 0 => Ok(Principal::local(format!("the socket, user {uid}"))),
        _ => Err(ErrorBody::new(
            ErrorCode::Forbidden,
            "the socket is for the user who runs the server, and for root",
            "sign in with `lattice login --server URL`, or ask that user for an API token (`lattice api-token create`)",
        )),
    }
}

/// `min_revision` and `consistent`: waits until memory is as new as the caller asks, and takes both
/// out of the query, whatever the route.
async fn fresh_enough(core: &Core, request: &mut Request) -> Result<(), ErrorBody> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    if request.method() != Method::GET || !(query.contains("min_revision=") || query.contains("consistent="))
    {
        return Ok(());
    }
    let mut wanted = 0;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("min_revision", value)) => {
                let read = value.parse::<u64>();
                wanted = wanted.max(read.map_err(|_| {
                    super::error::invalid(
                        "min_revision is not a number",
                        "take it from an answer's `revision`",
                    )
                })?);
            }
            Some(("consistent", "true")) => {
                let head =
                    core.store.revision().await.map_err(|e| crate::state::core::store_refusal(&e.into()))?;
                wanted = wanted.max(head.0);
            }
            Some(("consistent", _)) => {}
            _ => rest.push(pair),
        }
    }
    if core.caught_up(wanted).await.is_none() {
        let text = format!("the server is not at revision {wanted} yet");
        return Err(ErrorBody::new(
            ErrorCode::Unavailable,
            text,
            "ask again, or list anew: a restored store begins lower",
        ));
    }
    let path = request.uri().path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    Ok(())
}
