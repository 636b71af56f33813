//! Who asks, and what they may do.
//!
//! A [`Principal`] is made of a credential and of what the store says about it at the time. A stream
//! that stays open is looked at again whenever that changes ([`Principal::again`]).

use super::error::not_seen;
use crate::{
    rows::{Audit, UserRow},
    state::{Core, Snapshot},
};
use lattice_api::{Credential, ErrorBody, ErrorCode, Rights};
use lattice_identity::{
    ApiToken, Object, Permission, SessionToken, TokenRefused, allows, allows_somewhere, may_give,
};
use lattice_model::{Binding, OwnerName, Place, PoolName, ProjectName, Role, Timestamp, TokenId, UserName};
use std::sync::Arc;

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The socket, or this process itself.
    Local,
    /// An API token.
    Token(TokenId),
    /// A session.
    Session(TokenId),
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// As audit entries say it.
    pub(crate) name: String,
    pub(crate) proof: Proof,
    /// The user behind it; none: whoever runs the server.
    pub(crate) user: Option<UserName>,
    /// What they are.
    pub(crate) roles: Arc<[Binding]>,
    /// What they may do at the most: a token never can more than whoever made it.
    ceiling: Option<Arc<[Binding]>>,
    /// When the credential ends by itself.
    pub(crate) expires: Option<Timestamp>,
    /// Where from.
    pub(crate) from: String,
}

impl Principal {
    /// Whoever runs the server.
    pub(crate) fn local(from: String) -> Self {
        Self {
            name: "local".into(),
            proof: Proof::Local,
            user: None,
            roles: [Binding::everywhere(Role::Admin)].into(),
            ceiling: None,
            expires: None,
            from,
        }
    }

    /// What the process itself does, for whoever runs it.
    pub(crate) fn process() -> Self {
        Self::local("this process".into())
    }

    /// Whoever presents an API token. An unknown id and a wrong secret are refused with the same words.
    pub(crate) fn of_token(
        snapshot: &Snapshot,
        token: &ApiToken,
        from: String,
        now: Timestamp,
    ) -> Result<Self, &'static str> {
        let row = snapshot.api_tokens.get(&token.id()).filter(|row| token.is(&row.record.hash));
        if row.is_some_and(|row| row.record.good(now) == Err(TokenRefused::Expired)) {
            return Err("the API token has expired");
        }
        row.and_then(|_| Self::token(snapshot, token.id(), from, now))
            .ok_or("the server does not know this API token")
    }

    fn token(snapshot: &Snapshot, id: TokenId, from: String, now: Timestamp) -> Option<Self> {
        let record = &snapshot.api_tokens.get(&id)?.record;
        record.good(now).ok()?;
        let owner = record.owner.as_ref();
        // What its owner may do at this moment bounds it; without them it is nothing.
        let ceiling = match owner {
            Some(owner) => Some(known(snapshot, owner)?.roles.clone().into()),
            None => None,
        };
        Some(Self {
            name: owner.map_or_else(
                || format!("token:{}", record.name),
                |owner| format!("token:{} of {owner}", record.name),
            ),
            proof: Proof::Token(id),
            user: record.owner.clone(),
            roles: record.roles.clone().into(),
            ceiling,
            expires: record.expires,
            from,
        })
    }

    /// Whoever presents a session's token.
    pub(crate) fn of_session(
        core: &Core,
        snapshot: &Snapshot,
        token: &SessionToken,
        from: String,
        now: Timestamp,
    ) -> Result<Self, &'static str> {
        let row = snapshot.logins.get(&token.id()).filter(|row| token.is(&row.0.hash));
        let used = core.live.token_use.lock().get(&token.id()).copied();
        let good = row.filter(|row| row.0.good(core.config.sessions, used, now));
        good.and_then(|_| Self::session(snapshot, token.id(), from, now)).ok_or("the session has ended")
    }

    fn session(snapshot: &Snapshot, id: TokenId, from: String, now: Timestamp) -> Option<Self> {
        let record = &snapshot.logins.get(&id)?.0;
        if now >= record.expires {
            return None;
        }
        let Some(user) = &record.user else {
            return Some(Self {
                proof: Proof::Session(id),
                expires: Some(record.expires),
                ..Self::local(from)
            });
        };
        let user = known(snapshot, user)?;
        Some(Self {
            name: user.name.to_string(),
            proof: Proof::Session(id),
            user: Some(user.name.clone()),
            roles: user.roles.clone().into(),
            ceiling: None,
            expires: Some(record.expires),
            from,
        })
    }

    /// The same as the store has it now; nothing where the credential is good no more.
    pub(crate) fn again(&self, snapshot: &Snapshot, now: Timestamp) -> Option<Self> {
        match self.proof {
            Proof::Local => Some(self.clone()),
            Proof::Token(id) => Self::token(snapshot, id, self.from.clone(), now),
            Proof::Session(id) => Self::session(snapshot, id, self.from.clone(), now),
        }
    }

    /// Whether they may do the same as another.
    pub(crate) fn same_rights(&self, other: &Self) -> bool {
        (&self.roles, &self.ceiling, &self.user) == (&other.roles, &other.ceiling, &other.user)
    }

    /// How they proved it, on the wire.
    pub(crate) const fn credential(&self) -> (Credential, Option<TokenId>) {
        match self.proof {
            Proof::Local => (Credential::LocalSocket, None),
            Proof::Token(id) => (Credential::ApiToken, Some(id)),
            Proof::Session(id) => (Credential::Session, Some(id)),
        }
    }

    /// As the owner of what they make.
    pub(crate) fn owner(&self) -> OwnerName {
        self.user.as_ref().and_then(|user| user.as_str().parse().ok()).unwrap_or_else(OwnerName::admin)
    }

    fn layers(&self) -> impl Iterator<Item = &[Binding]> {
        std::iter::once(&*self.roles).chain(self.ceiling.as_deref())
    }

    /// Whether they may do it.
    pub(crate) fn may(&self, permission: Permission, object: &Object) -> bool {
        let owner = self.owner();
        self.layers().all(|roles| allows(Some(owner.as_str()), roles, permission, object))
    }

    /// Whether they may do it to anything at all.
    pub(crate) fn may_somewhere(&self, permission: Permission) -> bool {
        self.layers().all(|roles| allows_somewhere(roles, permission))
    }

    /// All that they may do, by names.
    pub(crate) fn rights(&self) -> Rights {
        let of = |object: &Object| -> Vec<String> {
            let all = Permission::ALL.iter().filter(|permission| self.may(**permission, object));
            all.map(|permission| permission.as_str().to_owned()).collect()
        };
        let own = |pool: PoolName| of(&Object::Node { pool, owner: self.owner() });
        let mut rights = Rights { cluster: of(&Object::Cluster), ..Rights::default() };
        for binding in self.layers().flatten() {
            match &binding.place {
                Place::Cluster => {}
                Place::Project(project) => {
                    rights
                        .projects
                        .entry(project.clone())
                        .or_insert_with_key(|p| of(&Object::Project(p.clone())));
                }
                Place::Pool(pool) => {
                    rights
                        .pools
                        .entry(pool.clone())
                        .or_insert_with_key(|pool| of(&Object::Pool(pool.clone())));
                    rights.own_nodes_in.entry(pool.clone()).or_insert_with_key(|pool| own(pool.clone()));
                }
            }
        }
        // A pool that no role names: what holds there holds in all the others.
        let elsewhere = (0..).filter_map(|n| PoolName::new(format!("pool-{n}")).ok());
        let elsewhere = elsewhere.into_iter().find(|pool| !rights.pools.contains_key(pool));
        rights.own_nodes = elsewhere.map(own).unwrap_or_default();
        rights
    }

    /// Whether they may see what is in a project.
    pub(crate) fn sees(&self, project: &ProjectName) -> bool {
        self.may(Permission::StackLook, &Object::Project(project.clone()))
    }

    /// Whether they may hand a role on.
    pub(crate) fn may_give(&self, binding: &Binding) -> bool {
        self.layers().all(|roles| may_give(roles, binding))
    }

    /// Why they may not do it: what they may not even see does not exist for them.
    pub(crate) fn refused(&self, permission: Permission, object: &Object) -> ErrorBody {
        if *object != Object::Cluster && !self.may(permission.to_see(), object) {
            return not_seen();
        }
        let at = match object {
            Object::Cluster => "the cluster".to_owned(),
            Object::Project(project) => format!("project {project}"),
            Object::Pool(pool) => format!("pool {pool}"),
            Object::Node { pool, .. } => format!("a node of pool {pool}"),
        };
        let text = format!("{} may not do this: it takes {} on {at}", self.name, permission.as_str());
        let hint = "`lattice whoami` shows what you may do; an admin gives more (`lattice user grant`)";
        ErrorBody::new(ErrorCode::Forbidden, text, hint)
    }

    /// An audit entry of theirs.
    pub(crate) fn audit(&self, action: &str, subject: impl Into<String>, details: &str) -> Audit {
        let details = match details {
            "" => format!("from {}", self.from),
            text => format!("{text}; from {}", self.from),
        };
        Audit::new(&self.name, action, subject, details)
    }

    /// Refuses, and writes the attempt down, unless they may do it. For handlers that learn from the
    /// body what a request is about; see `table`.
    pub(crate) async fn require(
        &self,
        core: &Core,
        permission: Permission,
        object: &Object,
    ) -> Result<(), ErrorBody> {
        if self.may(permission, object) {
            return Ok(());
        }
        super::guard::denied(core, self, &format!("{} on {object:?}", permission.as_str())).await;
        Err(self.refused(permission, object))
    }
}

/// A user who is not kept out.
fn known<'a>(snapshot: &'a Snapshot, name: &UserName) -> Option<&'a UserRow> {
    snapshot.users.get(name).map(|row| &*row.value).filter(|row| !row.disabled)
}
