//! Who may come in. The gates of a request, in order:
//! 1. on TCP, `Host` is one of this server's names and `Origin`, where there is one, is one of its
//!    own pages: so no page of the web reaches a server on loopback, by DNS rebinding or otherwise;
//! 2. who asks: on the socket the user of the other process, on TCP a bearer token;
//! 3. whether they may, by what the route needs.
//!
//! The socket admits the server's own user and root, and nobody else: other users of the machine
//! are not admins. There are no cookies, so there is nothing that a browser adds by itself.

use super::error::ApiError;
use crate::{
    clock,
    rows::{self, Audit},
    state::Core,
};
use axum::{
    extract::{ConnectInfo, Extension, Request, State},
    http::{Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use lattice_api::{AuditOutcome, Credential, ErrorBody, ErrorCode, Scope};
use lattice_identity::{ApiScope, ApiToken};
use lattice_model::TokenId;
use lattice_store::Transaction;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long a request may take to be answered; for a stream, its beginning.
const PATIENCE: Duration = Duration::from_secs(55);
/// The most refused attempts that are written down, one in so many milliseconds.
const DENIED_EVERY: i64 = 200;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It changes nothing.
    Read,
    /// It changes something, or reaches into a container.
    Full,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerInfo {
    /// Over TCP.
    Tcp(SocketAddr),
    /// On the socket; the user id where the system told.
    Unix(Option<u32>),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// As audit entries say it.
    pub(crate) name: String,
    pub(crate) credential: Credential,
    pub(crate) scope: Scope,
    pub(crate) token: Option<TokenId>,
    /// Where from.
    pub(crate) from: String,
}

impl Principal {
    /// What the process itself does, for whoever runs it.
    pub(crate) fn process() -> Self {
        Self {
            name: "local".into(),
            credential: Credential::LocalSocket,
            scope: Scope::Full,
            token: None,
            from: "this process".into(),
        }
    }

    /// An audit entry of theirs.
    pub(crate) fn audit(&self, action: &str, subject: impl Into<String>, details: &str) -> Audit {
        let details = match details {
            "" => format!("from {}", self.from),
            text => format!("{text}; from {}", self.from),
        };
        Audit::new(&self.name, action, subject, details)
    }
}

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
    let principal = match authenticate(&core, peer, &request) {
        Ok(principal) => principal,
        Err(body) => return ApiError(body).into_response(),
    };
    request.extensions_mut().insert(principal);
    if let Err(body) = fresh_enough(&core, &mut request).await {
        return ApiError(body).into_response();
    }
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
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

/// Gate 3, for one route.
pub(crate) async fn authorise(
    State((core, need)): State<(Arc<Core>, Need)>,
    Extension(principal): Extension<Principal>,
    request: Request,
    next: Next,
) -> Response {
    if need == Need::Full && principal.scope != Scope::Full {
        let what = format!("{} {}", request.method(), request.uri().path());
        denied(&core, &principal, &what).await;
        let text = format!("{} may look and change nothing", principal.name);
        let hint = "use a token of scope full (`lattice token create --api --scope full`)";
        return ApiError(ErrorBody::new(ErrorCode::Forbidden, text, hint)).into_response();
    }
    next.run(request).await
}

/// Writes a refused attempt down, though not more often than a few times in a second.
async fn denied(core: &Core, principal: &Principal, what: &str) {
    tracing::warn!(who = principal.name, what, "an attempt was refused");
    {
        let mut last = core.live.last_denied.lock();
        let now = clock::now();
        if now.0 - last.0 < DENIED_EVERY {
            return;
        }
        *last = now;
    }
    let entry = Audit { outcome: AuditOutcome::Denied, ..principal.audit("api.request", what, "") };
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

fn authenticate(core: &Core, peer: PeerInfo, request: &Request) -> Result<Principal, ErrorBody> {
    let address = match peer {
        PeerInfo::Unix(uid) => return local(uid),
        PeerInfo::Tcp(address) => address,
    };
    let unauthenticated = |text: &str| {
        let hint = "send `Authorization: Bearer lap1_…` with a token that `lattice api-token create` made; \
                    on the server's machine, `lattice` needs none";
        Err(ErrorBody::new(ErrorCode::Unauthenticated, text, hint))
    };
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return unauthenticated("no credential was sent");
    };
    let bearer = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let token = match bearer.map(ApiToken::parse) {
        Some(Ok(token)) => token,
        Some(Err(error)) => return unauthenticated(&error.to_string()),
        None => return unauthenticated("the credential is not a bearer token"),
    };
    let snapshot = core.snapshot();
    // An unknown id and a wrong secret are refused with the same words.
    let now = clock::now();
    let admitted =
        snapshot.api_tokens.get(&token.id()).map(|row| row.record.admit(&token, now).map(|()| row));
    let row = match admitted {
        Some(Ok(row)) => row,
        Some(Err(lattice_identity::TokenRefused::Expired)) => {
            return unauthenticated("the API token has expired");
        }
        _ => return unauthenticated("the server does not know this API token"),
    };
    core.live.token_use.lock().insert(token.id(), lattice_model::Timestamp(now.0 / 60_000 * 60_000));
    let scope = match row.record.scope {
        ApiScope::ReadOnly => Scope::Read,
        ApiScope::Full => Scope::Full,
    };
    Ok(Principal {
        name: format!("token:{}", row.record.name),
        credential: Credential::ApiToken,
        scope,
        token: Some(token.id()),
        from: address.to_string(),
    })
}

fn local(uid: Option<u32>) -> Result<Principal, ErrorBody> {
    let own = rustix::process::geteuid().as_raw();
    match uid {
        Some(uid) if uid == own || uid == 0 => Ok(Principal {
            name: "local".into(),
            credential: Credential::LocalSocket,
            scope: Scope::Full,
            token: None,
            from: format!("the socket, user {uid}"),
        }),
        _ => Err(ErrorBody::new(
            ErrorCode::Forbidden,
            "the socket is for the user who runs the server, and for root",
            "ask that user for an API token (`lattice token create --api`)",
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
