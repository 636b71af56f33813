//! Logins: by password, by invitation, by code; and their end.
//!
//! Nobody is known yet where these begin, so each counts its tries before it does anything
//! ([`Gate`](crate::state::gate::Gate)), and says no more than "wrong".

use super::{
    cookie,
    error::{ApiError, conflict, invalid, refuse},
    extract::Body,
    guard::PeerInfo,
    principal::{Principal, Proof},
};
use crate::{
    clock,
    rows::{self, DeviceRow, InviteRow, SessionRow, UserRow},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{ConnectInfo, Extension, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use lattice_api::{
    DeviceDecided, DeviceDecision, DevicePoll, DeviceStart, DeviceStarted, ErrorBody, ErrorCode, Hidden,
    InviteAccept, Login, SessionCreated, paths,
};
use lattice_identity::{
    DeviceAnswer, DeviceRecord, DeviceToken, InviteToken, Password, PasswordHash, SessionRecord,
    SessionToken, TokenSecret, UserCode,
};
use lattice_model::{Duration, TokenId, UserName};
use lattice_planner::Row;
use lattice_store::Op;
use std::sync::Arc;

type Answer<T> = Result<Json<T>, ApiError>;

/// How long a login by code may take.
const DEVICE_TTL: Duration = Duration::from_secs(600);
/// How often a program asks what came of it.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many logins by code wait at the same time.
const MAX_DEVICES: usize = 1000;
/// How many sessions a user has; a login beyond ends the one that was used least lately.
const MAX_SESSIONS: usize = 50;
/// How long a session of whoever runs the server lasts at the most: they make another one with a command.
const LOCAL_SESSION: Duration = Duration::from_secs(12 * 3600);

/// A secret from the system's randomness.
pub(crate) fn secret() -> Result<TokenSecret, ErrorBody> {
    TokenSecret::generate()
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log"))
}

/// Where a request came from, as audit entries say it.
pub(crate) fn origin(peer: PeerInfo) -> String {
    match peer {
        PeerInfo::Tcp(address) => address.ip().to_canonical().to_string(),
        PeerInfo::Unix(_) => "the socket".into(),
    }
}

/// What a client says of itself, fit to be shown.
pub(super) fn client_name(text: &str) -> String {
    rows::plain(text.chars().take(64).collect())
}

fn wrong() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unauthenticated,
        "the user or the password is wrong",
        "try again; an admin makes an invitation for a new password (`lattice user invite`)",
    )
}

/// The user whose password this is. Takes as long whoever is named.
pub(crate) async fn prove(
    core: &Core,
    peer: PeerInfo,
    user: &str,
    password: &Hidden,
) -> Result<UserName, ErrorBody> {
    core.live.gate.attempt(peer, Some(user))?;
    let snapshot = core.snapshot();
    let row = user.parse().ok().and_then(|name: UserName| snapshot.users.get(&name));
    let stored: Option<PasswordHash> = row.and_then(|row| row.password.clone());
    let right = core.live.gate.verify(peer, stored, Password::new(&*password.0)).await?;
    match row.filter(|row| right && !row.disabled) {
        Some(row) => {
            core.live.gate.forgive(user);
            Ok(row.name.clone())
        }
        None => {
            core.live.gate.failed(row.map(|row| row.name.as_str()), &origin(peer));
            Err(wrong())
        }
    }
}

/// What begins a session, and the session. The caller adds its own changes and the audit entry.
pub(super) fn begin(
    core: &Core,
    snapshot: &Snapshot,
    user: Option<&UserName>,
    client: &str,
    (id, secret): (TokenId, &TokenSecret),
) -> Result<(Vec<Op>, SessionCreated), ErrorBody> {
    let row = match user {
        Some(user) => Some(snapshot.users.get(user).filter(|row| !row.disabled).ok_or_else(wrong)?),
        None => None,
    };
    let now = clock::now();
    let lasts = match user {
        Some(_) => core.config.sessions.absolute,
        None => core.config.sessions.absolute.min(LOCAL_SESSION),
    };
    let record = SessionRecord {
        id,
        hash: secret.hash(id),
        user: user.cloned(),
        client: client_name(client),
        created: now,
        used: now,
        expires: now + lasts,
    };
    let mut own: Vec<_> = snapshot.logins.values().filter(|row| row.0.user.as_ref() == user).collect();
    own.sort_by_key(|row| std::cmp::Reverse(row.0.used));
    let old = own.iter().skip(MAX_SESSIONS - 1);
    let mut ops: Vec<Op> = old.map(|row| rows::delete::<SessionRow>(row.0.id, None)).collect();
    // Whoever disables them meanwhile is met.
    ops.extend(row.map(|row| rows::check::<UserRow>(&row.name, Some(row.revision))));
    let expires_at = record.expires;
    ops.push(rows::create(&SessionRow(record)));
    let token = SessionToken::new(id, secret.clone());
    let created = SessionCreated {
        id,
        token: Some(Hidden(token.reveal().to_string())),
        csrf: None,
        user: user.cloned(),
        expires_at,
    };
    Ok((ops, created))
}

fn signed_in(user: &UserName, how: &str, from: &str, client: &str) -> Op {
    let details = format!("{how}, with {:?}; from {from}", client_name(client));
    rows::create(&rows::Audit::new(user.as_str(), "session.create", user.to_string(), details))
}

pub(crate) async fn login(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Body(Login { user, password, client, cookie }): Body<Login>,
) -> Result<Response, ApiError> {
    let user = prove(&core, peer, &user, &password).await?;
    let made = (TokenId::from_random(clock::random_bits()), secret()?);
    let done = core
        .commit(|snapshot| {
            let (mut ops, created) = begin(&core, snapshot, Some(&user), &client, (made.0, &made.1))?;
            ops.push(signed_in(&user, "by password", &origin(peer), &client));
            Ok((ops, created))
        })
        .await?;
    Ok(cookie::answer(&core, done.value, cookie))
}

pub(crate) async fn logout(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Result<Response, ApiError> {
    let Proof::Session(id) = who.proof else {
        let hint = "API tokens end by `lattice api-token rm`; the socket needs no login";
        return Err(conflict("this is no session", hint).into());
    };
    core.commit(|snapshot| {
        if !snapshot.logins.contains_key(&id) {
            return Ok((Vec::new(), ()));
        }
        let audit = who.audit("session.delete", who.name.clone(), "signed out");
        Ok((vec![rows::delete::<SessionRow>(id, None), rows::create(&audit)], ()))
    })
    .await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie::gone(&core))]).into_response())
}

/// Refuses a password that is too weak.
pub(crate) fn strong(password: &Hidden, user: &UserName) -> Result<Password, ErrorBody> {
    let password = Password::new(&*password.0);
    match password.check(user.as_str()) {
        Ok(()) => Ok(password),
        Err(problem) => {
            Err(invalid(format!("the password cannot be taken: {problem}"), "choose a longer one"))
        }
    }
}

fn spent() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unauthenticated,
        "the invitation is unknown, was used, or is too old",
        "ask for another one (`lattice user invite`)",
    )
}

/// Sets an invited person's password and signs them in.
pub(crate) async fn take_invite(
    core: &Core,
    peer: PeerInfo,
    InviteAccept { code, password, client, cookie: _ }: &InviteAccept,
) -> Result<SessionCreated, ErrorBody> {
    core.live.gate.attempt(peer, None)?;
    let token = InviteToken::parse(&code.0).map_err(|_| spent())?;
    let found = |snapshot: &Snapshot| -> Option<Row<InviteRow>> {
        snapshot.invites.get(&token.id()).filter(|row| row.0.admits(&token, clock::now())).cloned()
    };
    let user = found(&core.snapshot()).ok_or_else(spent)?.0.user.clone();
    let hash = core.live.gate.hash(peer, strong(password, &user)?).await?;
    let made = (TokenId::from_random(clock::random_bits()), secret()?);
    let done = core
        .commit(|snapshot| {
            // Used once, however many open it at the same time.
            let invite = found(snapshot).ok_or_else(spent)?;
            let row = snapshot.users.get(&user).ok_or_else(spent)?;
            let (ops, created) = begin(core, snapshot, Some(&user), client, (made.0, &made.1))?;
            let changed = UserRow { password: Some(hash.clone()), ..(*row.value).clone() };
            // The row is written here, which checks its revision too.
            let mut ops: Vec<Op> = ops.into_iter().filter(|op| !matches!(op, Op::Check { .. })).collect();
            ops.push(rows::update(&changed, row.revision));
            ops.push(rows::delete::<InviteRow>(invite.0.id, Some(invite.revision)));
            // Whoever knew the old password is out.
            let others = snapshot.logins.values().filter(|row| row.0.user.as_ref() == Some(&user));
            for row in others {
                let delete = rows::delete::<SessionRow>(row.0.id, None);
                if !ops.contains(&delete) {
                    ops.push(delete);
                }
            }
            ops.push(signed_in(&user, "by invitation, with a new password", &origin(peer), client));
            Ok((ops, created))
        })
        .await?;
    Ok(done.value)
}

pub(crate) async fn accept_invite(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Body(request): Body<InviteAccept>,
) -> Result<Response, ApiError> {
    let created = take_invite(&core, peer, &request).await?;
    Ok(cookie::answer(&core, created, request.cookie))
}

/// The address of this server's pages, as whoever asks knows it: `Host` was checked by the guard.
pub(crate) fn own_url(core: &Core, headers: &HeaderMap, peer: PeerInfo) -> String {
    let scheme = if core.config.api_tls.is_some() { "https" } else { "http" };
    let said = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = match (peer, core.config.api_hosts.first()) {
        (PeerInfo::Tcp(_), _) if said.is_some() => said.unwrap_or_default().to_owned(),
        (_, Some(name)) => format!("{name}:{}", core.api_port()),
        (_, None) => format!("127.0.0.1:{}", core.api_port()),
    };
    format!("{scheme}://{host}")
}

pub(crate) async fn device_start(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    headers: HeaderMap,
    Body(DeviceStart { client }): Body<DeviceStart>,
) -> Answer<DeviceStarted> {
    core.live.gate.start(peer)?;
    let (id, secret) = (TokenId::from_random(clock::random_bits()), secret()?);
    let now = clock::now();
    let record = DeviceRecord {
        id,
        hash: secret.hash(id),
        code: UserCode::from_random(clock::random_bits()),
        client: client_name(&client),
        address: origin(peer),
        created: now,
        expires: now + DEVICE_TTL,
        answer: DeviceAnswer::Pending,
    };
    core.commit(|snapshot| {
        let alive = snapshot.devices.values().filter(|row| row.0.expires > now);
        if alive.count() >= MAX_DEVICES || snapshot.devices.values().any(|row| row.0.code == record.code) {
            let text = "too many logins wait to be approved";
            let body = ErrorBody::new(ErrorCode::TooManyRequests, text, "try again in a moment");
            return refuse(body.retry_after(Duration::from_secs(10)));
        }
        Ok((vec![rows::create(&DeviceRow(record.clone()))], ()))
    })
    .await?;
    let page = format!("{}{}", own_url(&core, &headers, peer), paths::DEVICE_PAGE);
    let code = record.code.to_string();
    Ok(Json(DeviceStarted {
        device_code: Hidden(DeviceToken::new(id, secret).reveal().to_string()),
        verification_uri_complete: format!("{page}?code={code}"),
        verification_uri: page,
        user_code: code,
        interval_ms: INTERVAL.0,
        expires_at: record.expires,
    }))
}

pub(crate) async fn device_token(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Body(DevicePoll { device_code }): Body<DevicePoll>,
) -> Answer<SessionCreated> {
    core.live.gate.question(peer)?;
    let refused = |code, text: &str, hint: &str| ErrorBody::new(code, text, hint);
    let expired = || refused(ErrorCode::ExpiredToken, "the code is unknown or too old", "begin anew");
    let token = DeviceToken::parse(&device_code.0).map_err(|_| expired())?;
    if core.live.gate.too_often(token.id()) {
        let text = "the login is asked about too often";
        return Err(refused(ErrorCode::SlowDown, text, "wait two seconds longer from now on").into());
    }
    let made = (TokenId::from_random(clock::random_bits()), secret()?);
    let done = core
        .commit(|snapshot| {
            let good = |row: &&Row<DeviceRow>| token.is(&row.0.hash) && clock::now() < row.0.expires;
            let row = snapshot.devices.get(&token.id()).filter(good).ok_or_else(expired)?;
            let forget = rows::delete::<DeviceRow>(row.0.id, Some(row.revision));
            match &row.0.answer {
                DeviceAnswer::Pending => {
                    let text = "nobody has approved the code yet";
                    refuse(refused(ErrorCode::AuthorizationPending, text, "ask again after the interval"))
                }
                DeviceAnswer::Denied => Ok((vec![forget], None)),
                DeviceAnswer::Approved(user) => {
                    let (mut ops, created) =
                        begin(&core, snapshot, Some(user), &row.0.client, (made.0, &made.1))?;
                    ops.push(forget);
                    ops.push(signed_in(user, "by code", &row.0.address, &row.0.client));
                    Ok((ops, Some(created)))
                }
            }
        })
        .await?;
    done.value.map(Json).ok_or_else(|| {
        refused(ErrorCode::AccessDenied, "somebody turned the login away", "ask who did").into()
    })
}

/// Lets a login by code in as `user`, or turns it away.
pub(crate) async fn decide_device(
    core: &Core,
    user: &UserName,
    from: &str,
    code: &str,
    deny: bool,
) -> Result<DeviceDecided, ErrorBody> {
    core.live.gate.code(user.as_str())?;
    let none = || {
        ErrorBody::new(
            ErrorCode::NotFound,
            "no login waits with this code: it has a typo, or is older than ten minutes",
            "look at it again where it is shown, or begin anew",
        )
    };
    let code: UserCode = code.parse().map_err(|_| none())?;
    let done = core
        .commit(|snapshot| {
            let waits = |row: &&Row<DeviceRow>| {
                row.0.code == code && row.0.expires > clock::now() && row.0.answer == DeviceAnswer::Pending
            };
            let row = snapshot.devices.values().find(waits).ok_or_else(none)?;
            let answer = if deny { DeviceAnswer::Denied } else { DeviceAnswer::Approved(user.clone()) };
            let record = DeviceRecord { answer, ..row.0.clone() };
            let decided = DeviceDecided {
                client: record.client.clone(),
                address: record.address.clone(),
                approved: !deny,
            };
            let action = if deny { "device.deny" } else { "device.approve" };
            let details = format!("asked from {}; from {from}", decided.address);
            let audit = rows::Audit::new(user.as_str(), action, decided.client.clone(), details);
            let ops = vec![rows::update(&DeviceRow(record), row.revision), rows::create(&audit)];
            Ok((ops, decided))
        })
        .await?;
    Ok(done.value)
}

pub(crate) async fn device_decision(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(DeviceDecision { user_code, deny }): Body<DeviceDecision>,
) -> Answer<DeviceDecided> {
    // A token would make itself a session that can more than it, and outlives it.
    let (Proof::Session(_), Some(user)) = (who.proof, &who.user) else {
        let text = "only somebody who is signed in can let a login in";
        let hint = "open the page that it shows, or run `lattice login approve` where you are signed in";
        return Err(ErrorBody::new(ErrorCode::Forbidden, text, hint).into());
    };
    Ok(Json(decide_device(&core, user, &who.from, &user_code, deny).await?))
}
