//! Join tokens and API tokens. A secret is shown once, when it is made.

use super::{
    error::{ApiError, invalid, not_found, refuse},
    extract::{Body, Names},
    guard::{self, object_of_join_token},
    principal::{Principal, Proof},
};
use crate::{
    clock,
    rows::{self, ApiTokenRow, Event, JoinTokenRow},
    state::{Core, Refused},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{
    ApiTokenCreate, ApiTokenView, ErrorBody, ErrorCode, JoinTokenCreate, JoinTokenView, List, TokenCreated,
};
use lattice_identity::{
    ApiToken, ApiTokenRecord, AutoApprove, Cidr, JoinToken, Object, Permission, ServerAddress, TokenPolicy,
    TokenRecord, TokenSecret,
};
use lattice_model::{Duration, PoolName, TokenId};
use lattice_planner::Row;
use std::sync::Arc;

/// The longest life of a join token: a year.
const MAX_TTL: u64 = 365 * 86_400_000;
/// The most uses of a join token.
const MAX_USES: u32 = 100_000;
/// The most roles of a token.
const MAX_ROLES: usize = 16;
/// The most tokens of a kind that may exist.
const MAX_TOKENS: usize = 1000;

type Answer<T> = Result<Json<T>, ApiError>;

fn internal(error: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
}

pub(crate) async fn list_join(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<JoinTokenView>> {
    let snapshot = core.snapshot();
    let seen = |row: &&Row<JoinTokenRow>| who.may(Permission::JoinTokenLook, &object_of_join_token(row));
    let mut items: Vec<_> = snapshot.join_tokens.values().filter(seen).map(|row| view_join(row)).collect();
    items.sort_by_key(|view| (view.created_at, view.id));
    Json(List { items, revision: snapshot.revision })
}

fn view_join(row: &JoinTokenRow) -> JoinTokenView {
    let JoinTokenRow { record, description, owner, fixes_pool: _ } = row.clone();
    let TokenRecord { id, hash: _, policy, used, created, created_by, revoked: _ } = record;
    JoinTokenView {
        id,
        pool: policy.pool,
        uses: policy.uses.unwrap_or(u32::MAX),
        used,
        auto_approve: policy.auto_approve.is_some(),
        owner,
        description,
        created_by,
        created_at: created,
        expires_at: policy.expires.unwrap_or(lattice_model::Timestamp(i64::MAX)),
    }
}

pub(crate) async fn create_join(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(request): Body<JoinTokenCreate>,
) -> Answer<TokenCreated> {
    let pool = request.pool.clone().unwrap_or_else(PoolName::default_pool);
    who.require(&core, Permission::JoinTokenChange, &Object::Pool(pool)).await?;
    Ok(Json(make_join(&core, &who, request, None).await?))
}

/// Who may use a join token that is not for everybody.
pub(crate) struct Only {
    /// Where they find the server.
    pub(crate) server: ServerAddress,
    /// From where they are approved; from elsewhere a person has to.
    pub(crate) addresses: Vec<Cidr>,
}

/// Makes a join token.
pub(crate) async fn make_join(
    core: &Core,
    who: &Principal,
    request: JoinTokenCreate,
    only: Option<Only>,
) -> Result<TokenCreated, ErrorBody> {
    let JoinTokenCreate { pool, ttl_ms, uses, auto_approve, owner, description } = request;
    if let Some(pool) = &pool {
        super::pools::find(&core.snapshot(), pool)?;
    }
    let ttl = ttl_ms.unwrap_or(3_600_000);
    let uses = uses.unwrap_or(1);
    if !(1..=MAX_TTL).contains(&ttl) {
        return Err(invalid("ttl_ms is out of range", "1 ms to a year (31536000000)"));
    }
    if !(1..=MAX_USES).contains(&uses) {
        return Err(invalid("uses is out of range", "1 to 100000"));
    }
    if description.chars().count() > 200 || description.chars().any(char::is_control) {
        return Err(invalid(
            "description is too long or has control characters",
            "at most 200 printable characters",
        ));
    }
    let (server, addresses) = match only {
        Some(Only { server, addresses }) => (Some(server), addresses),
        None => (None, Vec::new()),
    };
    let (now, fixes_pool) = (clock::now(), pool.is_some());
    let (id, expires) = (TokenId::from_random(clock::random_bits()), now + Duration(ttl));
    let secret = TokenSecret::generate().map_err(internal)?;
    let record = TokenRecord {
        id,
        hash: secret.hash(id),
        policy: TokenPolicy {
            pool: pool.unwrap_or_else(PoolName::default_pool),
            uses: Some(uses),
            expires: Some(expires),
            auto_approve: auto_approve.then_some(AutoApprove { addresses, owner: None }),
        },
        used: 0,
        created: now,
        created_by: who.name.clone(),
        revoked: None,
    };
    let row = JoinTokenRow { record, description, owner: owner.unwrap_or_else(|| who.owner()), fixes_pool };
    let servers = server.map_or_else(
        || core.advertised.iter().take(lattice_identity::token::MAX_SERVERS).cloned().collect(),
        |server| vec![server],
    );
    let root = core.authority.read().root_fingerprint();
    let token = JoinToken::new(servers, root, id, secret).map_err(internal)?;
    core.commit(|snapshot| {
        let mut ops = Vec::new();
        if snapshot.join_tokens.len() >= MAX_TOKENS {
            // One that is good for nothing any more makes room; the oldest, as people may still ask about the others.
            let of_use = |record: &TokenRecord| {
                record.revoked.is_none()
                    && record.policy.expires.is_none_or(|end| end > now)
                    && record.policy.uses.is_none_or(|uses| record.used < uses)
            };
            let dead = snapshot.join_tokens.values().filter(|row| !of_use(&row.record));
            let Some(oldest) = dead.min_by_key(|row| row.record.created) else {
                return refuse(super::error::conflict(
                    "there are 1000 join tokens",
                    "delete those that nobody needs (`lattice token rm`)",
                ));
            };
            ops.push(rows::delete::<JoinTokenRow>(oldest.record.id, Some(oldest.revision)));
        }
        let details = format!(
            "pool {}, {uses} uses, ends at {}, auto-approve {auto_approve}",
            row.record.policy.pool, expires.0
        );
        let event = Event::new("token.created", id.to_string(), "a join token was made")
            .because(Some(details.clone()));
        ops.extend([
            rows::create(&row),
            rows::create(&who.audit("join_token.create", id.to_string(), &details)),
        ]);
        ops.extend(rows::events([event]));
        Ok((ops, ()))
    })
    .await?;
    Ok(TokenCreated { id, token: token.reveal().to_string(), expires_at: Some(expires) })
}

pub(crate) async fn delete_join(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let id: TokenId = names.get("id")?;
    core.commit(|snapshot| {
        let Some(row) = snapshot.join_tokens.get(&id) else {
            return refuse(not_found("join token", &id.to_string(), "lattice token ls"));
        };
        let audit = who.audit("join_token.delete", id.to_string(), "");
        Ok((vec![rows::delete::<JoinTokenRow>(id, Some(row.revision)), rows::create(&audit)], ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a token is somebody's own, or theirs to see and end.
fn own_or(who: &Principal, row: &ApiTokenRow, permission: Permission) -> bool {
    let own = who.user.is_some() && who.user == row.record.owner;
    own || who.proof == Proof::Token(row.record.id) || who.may(permission, &Object::Cluster)
}

pub(crate) async fn list_api(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<ApiTokenView>> {
    let snapshot = core.snapshot();
    let used = core.live.token_use.lock().clone();
    let view = |row: &ApiTokenRow| {
        let ApiTokenRecord { id, hash: _, name, roles, owner, created, expires, revoked: _ } =
            row.record.clone();
        ApiTokenView {
            id,
            name,
            roles,
            owner,
            created_by: row.created_by.clone(),
            created_at: created,
            expires_at: expires,
            last_used_at: used.get(&id).copied(),
        }
    };
    let seen = |row: &&Row<ApiTokenRow>| own_or(&who, row, Permission::UserLook);
    let mut items: Vec<_> = snapshot.api_tokens.values().filter(seen).map(|row| view(row)).collect();
    items.sort_by_key(|view| (view.created_at, view.id));
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn create_api(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(request): Body<ApiTokenCreate>,
) -> Answer<TokenCreated> {
    // A token that leaks must not be able to live on in others that it made.
    if matches!(who.proof, Proof::Token(_)) {
        who.require(&core, Permission::UserChange, &Object::Cluster).await?;
    }
    if let Some(role) = request.roles.iter().find(|role| !who.may_give(role)) {
        let text = format!("{} is not {role}, so no token of theirs can be", who.name);
        guard::denied(&core, &who, &format!("an API token as {role}")).await;
        let hint = "ask for roles within your own (`lattice whoami`)";
        return Err(ErrorBody::new(ErrorCode::Forbidden, text, hint).into());
    }
    Ok(Json(make_api(&core, &who, request).await?))
}

/// Makes an API token.
pub(crate) async fn make_api(
    core: &Core,
    who: &Principal,
    request: ApiTokenCreate,
) -> Result<TokenCreated, ErrorBody> {
    let ApiTokenCreate { name, roles, ttl_ms } = request;
    if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(invalid(
            "the token's name is empty, too long, or has control characters",
            "1 to 100 printable characters",
        ));
    }
    if roles.is_empty() || roles.len() > MAX_ROLES {
        return Err(invalid(
            "a token needs a role, and at most 16",
            "viewer, admin, developer@project/NAME, operator@pool/NAME …",
        ));
    }
    if ttl_ms.is_some_and(|ttl| !(1..=10 * MAX_TTL).contains(&ttl)) {
        return Err(invalid("ttl_ms is out of range", "1 ms to ten years"));
    }
    let now = clock::now();
    let id = TokenId::from_random(clock::random_bits());
    let expires = ttl_ms.map(|ttl| now + Duration(ttl));
    let secret = TokenSecret::generate().map_err(internal)?;
    let as_text = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let record = ApiTokenRecord {
        id,
        hash: secret.hash(id),
        name: name.clone(),
        roles,
        owner: who.user.clone(),
        created: now,
        expires,
        revoked: None,
    };
    let row = ApiTokenRow { record, created_by: who.name.clone() };
    core.commit(|snapshot| {
        if snapshot.api_tokens.len() >= MAX_TOKENS {
            return refuse(super::error::conflict(
                "there are 1000 API tokens",
                "delete those that nobody needs",
            ));
        }
        let audit = who.audit("api_token.create", id.to_string(), &format!("{name}, {as_text}"));
        Ok((vec![rows::create(&row), rows::create(&audit)], ()))
    })
    .await
    .map_err(ErrorBody::from)?;
    Ok(TokenCreated { id, token: ApiToken::new(id, secret).reveal().to_string(), expires_at: expires })
}

pub(crate) async fn delete_api(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let id: TokenId = names.get("id")?;
    core.commit(|snapshot| {
        let row = snapshot.api_tokens.get(&id).filter(|row| own_or(&who, row, Permission::UserChange));
        let Some(row) = row else {
            return Err(Refused::Body(not_found("API token", &id.to_string(), "lattice api-token ls")));
        };
        let audit = who.audit("api_token.delete", id.to_string(), &row.record.name);
        Ok((vec![rows::delete::<ApiTokenRow>(id, Some(row.revision)), rows::create(&audit)], ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
