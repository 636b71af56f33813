//! Users, their roles, and invitations.

use super::{
    error::{ApiError, conflict, invalid, not_found, not_seen, refuse},
    extract::{Body, Names},
    guard::{self, PeerInfo},
    login::{own_url, prove, secret, strong},
    principal::{Principal, Proof},
};
use crate::{
    clock,
    rows::{self, ApiTokenRow, InviteRow, SessionRow, UserRow},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{ConnectInfo, Extension, State},
    http::{HeaderMap, StatusCode},
};
use lattice_api::{
    ErrorBody, ErrorCode, Hidden, InviteCreate, InviteCreated, List, PasswordChange, RolesChange, UserCreate,
    UserView, paths,
};
use lattice_identity::{InviteRecord, InviteToken, Object, Permission};
use lattice_model::{Binding, Duration, Place, TokenId, UserName};
use lattice_planner::Row;
use lattice_store::Op;
use std::sync::Arc;

type Answer<T> = Result<Json<T>, ApiError>;

/// The most users.
const MAX_USERS: usize = 10_000;
/// The most roles of a user.
const MAX_ROLES: usize = 100;
/// The most invitations that are open.
const MAX_INVITES: usize = 1000;
/// The longest life of an invitation, and the usual one.
const MAX_INVITE: Duration = Duration::from_secs(30 * 86_400);
const USUAL_INVITE: Duration = Duration::from_secs(86_400);
/// Names by which audit entries call something else.
const RESERVED: [&str; 2] = ["local", "system"];

fn none(name: &UserName) -> ErrorBody {
    not_found("user", name.as_str(), "lattice user ls")
}

fn view(core: &Core, snapshot: &Snapshot, row: &UserRow) -> UserView {
    let UserRow { name, password, disabled, roles, created_at, created_by } = row.clone();
    let used = core.live.token_use.lock();
    let own: Vec<_> = snapshot.logins.values().filter(|row| row.0.user.as_ref() == Some(&name)).collect();
    let seen = own.iter().map(|row| row.0.used.max(used.get(&row.0.id).copied().unwrap_or_default()));
    UserView {
        last_seen_at: seen.max(),
        sessions: u32::try_from(own.len()).unwrap_or(u32::MAX),
        has_password: password.is_some(),
        name,
        roles,
        disabled,
        created_by,
        created_at,
    }
}

/// Whether somebody may see a user: everybody themselves.
fn sees(who: &Principal, name: &UserName) -> bool {
    who.user.as_ref() == Some(name) || who.may(Permission::UserLook, &Object::Cluster)
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<UserView>> {
    let snapshot = core.snapshot();
    let seen = snapshot.users.values().filter(|row| sees(&who, &row.name));
    let items = seen.map(|row| view(&core, &snapshot, row)).collect();
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn show(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer<UserView> {
    let name: UserName = names.get("user")?;
    if !sees(&who, &name) {
        return Err(not_seen().into());
    }
    let snapshot = core.snapshot();
    let row = snapshot.users.get(&name).ok_or_else(|| none(&name))?;
    Ok(Json(view(&core, &snapshot, row)))
}

fn text_of(roles: &[Binding]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The object where a role is given.
fn object(place: &Place) -> Object {
    match place {
        Place::Cluster => Object::Cluster,
        Place::Project(project) => Object::Project(project.clone()),
        Place::Pool(pool) => Object::Pool(pool.clone()),
    }
}

/// Refuses roles that somebody may not give or take.
async fn may_change(core: &Core, who: &Principal, roles: &[Binding]) -> Result<(), ErrorBody> {
    for role in roles {
        who.require(core, Permission::MembersChange, &object(&role.place)).await?;
        if !who.may_give(role) {
            guard::denied(core, who, &format!("the role {role}")).await;
            let text = format!("{} is not {role}, and so cannot make others that", who.name);
            return Err(ErrorBody::new(ErrorCode::Forbidden, text, "ask an admin of the cluster"));
        }
        if let Place::Project(project) = &role.place {
            super::projects::must_exist(&core.snapshot(), project)?;
        }
    }
    Ok(())
}

/// Joins roles, each once.
fn joined(have: &[Binding], more: &[Binding]) -> Result<Vec<Binding>, ErrorBody> {
    let mut all = have.to_vec();
    all.extend(more.iter().filter(|role| !have.contains(role)).cloned());
    all.sort();
    all.dedup();
    if all.len() > MAX_ROLES {
        return Err(invalid("a user has at most 100 roles", "give one for the whole cluster instead"));
    }
    Ok(all)
}

fn new_user(
    snapshot: &Snapshot,
    name: &UserName,
    roles: &[Binding],
    who: &Principal,
) -> Result<UserRow, ErrorBody> {
    if RESERVED.contains(&name.as_str()) {
        return Err(invalid(format!("nobody can be called {name}"), "choose another name"));
    }
    if snapshot.users.len() >= MAX_USERS {
        return Err(conflict("there are 10000 users", "remove those that are gone (`lattice user rm`)"));
    }
    Ok(UserRow {
        name: name.clone(),
        password: None,
        disabled: false,
        roles: joined(&[], roles)?,
        created_at: clock::now(),
        created_by: who.name.clone(),
    })
}

pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    Body(UserCreate { name, roles, password }): Body<UserCreate>,
) -> Answer<UserView> {
    may_change(&core, &who, &roles).await?;
    let password = match password {
        Some(password) => Some(core.live.gate.hash(peer, strong(&password, &name)?).await?),
        None => None,
    };
    let done = core
        .commit(|snapshot| {
            if snapshot.users.contains_key(&name) {
                return refuse(conflict(
                    format!("there is a user {name} already"),
                    "`lattice user grant` gives more roles",
                ));
            }
            let row = UserRow { password: password.clone(), ..new_user(snapshot, &name, &roles, &who)? };
            let audit = who.audit("user.create", name.to_string(), &text_of(&row.roles));
            Ok((vec![rows::create(&row), rows::create(&audit)], row))
        })
        .await?;
    Ok(Json(view(&core, &core.snapshot(), &done.value)))
}

/// Changes a user, with an audit entry; nothing where nothing changes.
async fn change(
    core: &Core,
    who: &Principal,
    name: &UserName,
    action: &str,
    how: impl Fn(&Snapshot, &UserRow) -> Result<(UserRow, Vec<Op>, String), ErrorBody> + Send + Sync,
) -> Result<UserView, ErrorBody> {
    core.commit(|snapshot| {
        let row = snapshot.users.get(name).ok_or_else(|| none(name))?;
        let (changed, more, says) = how(snapshot, row)?;
        if changed == *row.value && more.is_empty() {
            return Ok((Vec::new(), ()));
        }
        let mut ops = vec![rows::update(&changed, row.revision)];
        ops.extend(more);
        ops.push(rows::create(&who.audit(action, name.to_string(), &says)));
        Ok((ops, ()))
    })
    .await?;
    let snapshot = core.snapshot();
    let row = snapshot.users.get(name).ok_or_else(|| none(name))?;
    Ok(view(core, &snapshot, row))
}

/// What ends every session of a user, but one.
fn end_sessions(snapshot: &Snapshot, name: &UserName, but: Option<TokenId>) -> Vec<Op> {
    let own =
        snapshot.logins.values().filter(|row| row.0.user.as_ref() == Some(name) && Some(row.0.id) != but);
    own.map(|row| rows::delete::<SessionRow>(row.0.id, None)).collect()
}

fn end_invites(snapshot: &Snapshot, name: &UserName) -> impl Iterator<Item = Op> {
    snapshot
        .invites
        .values()
        .filter(|row| row.0.user == *name)
        .map(|row| rows::delete::<InviteRow>(row.0.id, None))
        .take(100)
        .collect::<Vec<_>>()
        .into_iter()
}

pub(crate) async fn disable(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer<UserView> {
    let name: UserName = names.get("user")?;
    let view = change(&core, &who, &name, "user.disable", |snapshot, row| {
        let mut ops = end_sessions(snapshot, &name, None);
        ops.extend(end_invites(snapshot, &name));
        Ok((UserRow { disabled: true, ..row.clone() }, ops, "sessions and tokens end".into()))
    });
    Ok(Json(view.await?))
}

pub(crate) async fn enable(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Answer<UserView> {
    let name: UserName = names.get("user")?;
    let view = change(&core, &who, &name, "user.enable", |_, row| {
        Ok((UserRow { disabled: false, ..row.clone() }, Vec::new(), String::new()))
    });
    Ok(Json(view.await?))
}

pub(crate) async fn grant(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(RolesChange { roles }): Body<RolesChange>,
) -> Answer<UserView> {
    let name: UserName = names.get("user")?;
    may_change(&core, &who, &roles).await?;
    let view = change(&core, &who, &name, "user.grant", |_, row| {
        Ok((UserRow { roles: joined(&row.roles, &roles)?, ..row.clone() }, Vec::new(), text_of(&roles)))
    });
    Ok(Json(view.await?))
}

pub(crate) async fn revoke(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(RolesChange { roles }): Body<RolesChange>,
) -> Answer<UserView> {
    let name: UserName = names.get("user")?;
    for role in &roles {
        who.require(&core, Permission::MembersChange, &object(&role.place)).await?;
    }
    let view = change(&core, &who, &name, "user.revoke", |_, row| {
        if let Some(role) = roles.iter().find(|role| !row.roles.contains(role)) {
            let text = format!("{name} is not {role}");
            return Err(conflict(text, format!("{name} is: {}", text_of(&row.roles))));
        }
        let left = row.roles.iter().filter(|role| !roles.contains(role)).cloned().collect();
        Ok((UserRow { roles: left, ..row.clone() }, Vec::new(), text_of(&roles)))
    });
    Ok(Json(view.await?))
}

/// Whether it is the user themselves in a session: they may then do some things to themselves.
fn themselves(who: &Principal, name: &UserName) -> Option<TokenId> {
    match who.proof {
        Proof::Session(id) if who.user.as_ref() == Some(name) => Some(id),
        _ => None,
    }
}

pub(crate) async fn set_password(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    names: Names,
    Body(PasswordChange { password, current }): Body<PasswordChange>,
) -> Result<StatusCode, ApiError> {
    let name: UserName = names.get("user")?;
    let own = themselves(&who, &name);
    match (own, current) {
        // A session that was left open must not be enough to lock its owner out.
        (Some(_), Some(current)) => drop(prove(&core, peer, name.as_str(), &current).await?),
        (Some(_), None) => {
            return Err(invalid("the present password is needed", "send it as `current`").into());
        }
        (None, _) => {
            if !sees(&who, &name) {
                return Err(not_seen().into());
            }
            who.require(&core, Permission::UserChange, &Object::Cluster).await?;
        }
    }
    let hash = core.live.gate.hash(peer, strong(&password, &name)?).await?;
    change(&core, &who, &name, "user.password", |snapshot, row| {
        let mut ops = end_sessions(snapshot, &name, own);
        ops.extend(end_invites(snapshot, &name));
        let row = UserRow { password: Some(hash.clone()), ..row.clone() };
        Ok((row, ops, "a new password; other sessions end".into()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn sign_out(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let name: UserName = names.get("user")?;
    if themselves(&who, &name).is_none() {
        if !sees(&who, &name) {
            return Err(not_seen().into());
        }
        who.require(&core, Permission::UserChange, &Object::Cluster).await?;
    }
    core.commit(|snapshot| {
        if !snapshot.users.contains_key(&name) {
            return refuse(none(&name));
        }
        let mut ops = end_sessions(snapshot, &name, None);
        if !ops.is_empty() {
            ops.push(rows::create(&who.audit("session.delete", name.to_string(), "all sessions")));
        }
        Ok((ops, ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let name: UserName = names.get("user")?;
    core.commit(|snapshot| {
        let row = snapshot.users.get(&name).ok_or_else(|| none(&name))?;
        let mut ops = vec![rows::delete::<UserRow>(&name, Some(row.revision))];
        ops.extend(end_sessions(snapshot, &name, None));
        ops.extend(end_invites(snapshot, &name));
        // A user of the same name one day must not find them.
        let tokens = snapshot.api_tokens.values().filter(|row| row.record.owner.as_ref() == Some(&name));
        let tokens: Vec<&Row<ApiTokenRow>> = tokens.collect();
        if tokens.len() > 500 {
            let text = format!("{name} has {} API tokens", tokens.len());
            return refuse(conflict(text, "delete most of them first (`lattice api-token rm`)"));
        }
        ops.extend(tokens.iter().map(|row| rows::delete::<ApiTokenRow>(row.record.id, Some(row.revision))));
        let says = format!("with {} API tokens", tokens.len());
        ops.push(rows::create(&who.audit("user.delete", name.to_string(), &says)));
        Ok((ops, ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn invite(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    headers: HeaderMap,
    Body(InviteCreate { user, roles, ttl_ms }): Body<InviteCreate>,
) -> Answer<InviteCreated> {
    may_change(&core, &who, &roles).await?;
    let ttl = ttl_ms.map_or(USUAL_INVITE, Duration);
    if !(60_000..=MAX_INVITE.0).contains(&ttl.0) {
        return Err(invalid("ttl_ms is out of range", "a minute to 30 days").into());
    }
    let (id, secret) = (TokenId::from_random(clock::random_bits()), secret()?);
    let now = clock::now();
    let record = InviteRecord {
        id,
        hash: secret.hash(id),
        user: user.clone(),
        created_by: who.name.clone(),
        created: now,
        expires: now + ttl,
    };
    core.commit(|snapshot| {
        if snapshot.invites.values().filter(|row| row.0.expires > now).count() >= MAX_INVITES {
            return refuse(conflict("there are 1000 open invitations", "wait until some are taken"));
        }
        let mut ops: Vec<Op> = end_invites(snapshot, &user).collect();
        match snapshot.users.get(&user) {
            Some(row) if row.disabled => {
                let hint = format!("run `lattice user enable {user}` first");
                return refuse(conflict(format!("{user} is disabled"), hint));
            }
            Some(row) => {
                let changed = UserRow { roles: joined(&row.roles, &roles)?, ..(*row.value).clone() };
                ops.push(rows::update(&changed, row.revision));
            }
            None => ops.push(rows::create(&new_user(snapshot, &user, &roles, &who)?)),
        }
        ops.push(rows::create(&InviteRow(record.clone())));
        let says = format!("{} until {}", text_of(&roles), record.expires.0);
        ops.push(rows::create(&who.audit("user.invite", user.to_string(), &says)));
        Ok((ops, ()))
    })
    .await?;
    let code = InviteToken::new(id, secret).reveal().to_string();
    let url = format!("{}{}?code={code}", own_url(&core, &headers, peer), paths::INVITE_PAGE);
    Ok(Json(InviteCreated { user, code: Hidden(code), url: Hidden(url), expires_at: record.expires }))
}
