//! Links to the console: whoever is at a terminal gets into a browser without a password.
//!
//! A link is a secret that is good once, for five minutes. It stands behind the `#` of the address, which a browser
//! sends nowhere: not to a proxy, not into a log, not to another page. The console takes it off the address and gives
//! it for a session. Rejected: the secret in the path (it would stand in logs), a session made when the link is made
//! (it would lie about unused), a permanent token on loopback (each program on the machine is there).

use super::{
    cookie,
    error::ApiError,
    extract::Body,
    guard::PeerInfo,
    login::{begin, client_name, origin, own_url, secret},
    principal::{Principal, Proof},
};
use crate::{
    clock,
    rows::{self, LinkRow},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{ConnectInfo, Extension, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use lattice_api::{ConsoleLink, ConsoleLinkUse, ErrorBody, ErrorCode, Hidden};
use lattice_identity::{LinkRecord, LinkToken};
use lattice_model::{Duration, TokenId};
use lattice_planner::Row;
use std::sync::Arc;

/// How long a link is good.
const TTL: Duration = Duration::from_secs(300);
/// How many wait to be opened, of everybody.
const MAX_LINKS: usize = 100;

pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Proof::Token(_) = who.proof {
        // It would make itself a session that can more than it, and outlives it.
        let hint = "sign in with `lattice login`, or run `lattice console` on the server's machine";
        let text = "an API token cannot make a link to the console";
        return Err(ErrorBody::new(ErrorCode::Forbidden, text, hint).into());
    }
    let (id, secret) = (TokenId::from_random(clock::random_bits()), secret()?);
    let (now, hash) = (clock::now(), secret.hash(id));
    let record = LinkRecord { id, hash, user: who.user.clone(), expires: now + TTL };
    let expires_at = record.expires;
    core.commit(|snapshot| {
        if snapshot.links.values().filter(|row| row.0.expires > now).count() >= MAX_LINKS {
            let text = "too many links to the console wait to be opened";
            let body =
                ErrorBody::new(ErrorCode::TooManyRequests, text, "open one of them, or wait five minutes");
            return super::error::refuse(body.retry_after(TTL));
        }
        let audit = who.audit("console_link.create", who.name.clone(), "");
        Ok((vec![rows::create(&LinkRow(record.clone())), rows::create(&audit)], ()))
    })
    .await?;
    let code = LinkToken::new(id, secret);
    let url = Hidden(format!("{}/#{}", own_url(&core, &headers, peer), &*code.reveal()));
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(ConsoleLink { url, expires_at })).into_response())
}

fn spent() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unauthenticated,
        "the link is unknown, was used, or is older than five minutes",
        "make another one with `lattice console`, or sign in by password",
    )
}

pub(crate) async fn open(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Body(ConsoleLinkUse { code, client }): Body<ConsoleLinkUse>,
) -> Result<Response, ApiError> {
    core.live.gate.attempt(peer, None)?;
    let token = LinkToken::parse(&code.0).map_err(|_| spent())?;
    let made = (TokenId::from_random(clock::random_bits()), secret()?);
    let done = core
        .commit(|snapshot: &Snapshot| {
            let good = |row: &&Row<LinkRow>| row.0.admits(&token, clock::now());
            let row = snapshot.links.get(&token.id()).filter(good).ok_or_else(spent)?;
            let user = row.0.user.as_ref();
            let (mut ops, created) = begin(&core, snapshot, user, &client, (made.0, &made.1))?;
            // Of two who open it at the same time, one is met by its revision.
            ops.push(rows::delete::<LinkRow>(row.0.id, Some(row.revision)));
            let name = user.map_or("local", |user| user.as_str());
            let details = format!("by link, with {:?}; from {}", client_name(&client), origin(peer));
            ops.push(rows::create(&rows::Audit::new(name, "session.create", name.to_owned(), details)));
            Ok((ops, created))
        })
        .await?;
    Ok(cookie::answer(&core, done.value, true))
}
