//! Who may do what: the table of roles, and the one question [`allows`].
//!
//! Three things decide: the permission that a request needs, the object that it is about, and the
//! bindings of whoever asks. A binding counts where its place covers the object. Pure; the server
//! states permission and object for each of its routes.
//!
//! Rejected: a policy language. Five roles and a few dozen cells can be read by the person who
//! grants them, and tested cell by cell.

use lattice_model::{Binding, OwnerName, Place, PoolName, ProjectName, Role};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// See how the cluster as a whole fares: warnings, events that are of no node and no stack.
    ClusterLook,
    /// Read who changed what.
    AuditLook,
    /// Change the server itself: settings, backup, restore.
    ServerChange,
    /// See users, their roles and everybody's API tokens.
    UserLook,
    /// Make, change and remove users, and everybody's API tokens.
    UserChange,
    /// Give and take roles at a place.
    MembersChange,
    /// See a project, its quotas and members.
    ProjectLook,
    /// Make and remove projects, and set quotas.
    ProjectChange,
    /// See nodes.
    NodeLook,
    /// Take nodes in and turn them away.
    NodeApprove,
    /// Give a node no new work, or work again.
    NodePause,
    /// Throw a node out.
    NodeRevoke,
    /// Rename, relabel, move and forget nodes.
    NodeChange,
    /// See pools.
    PoolLook,
    /// Make, change and remove pools.
    PoolChange,
    /// See join tokens.
    JoinTokenLook,
    /// Make and end join tokens.
    JoinTokenChange,
    /// See stacks, services, instances, volumes.
    StackLook,
    /// Deploy, scale, start, stop and remove.
    StackChange,
    /// Read what containers write.
    LogsLook,
    /// Run commands in containers, and copy files from and to them.
    Exec,
    /// See the names of secrets.
    SecretLook,
    /// Set and delete secrets.
    SecretChange,
}

impl Permission {
    /// Every permission.
    pub const ALL: &[Self] = &[
        Self::ClusterLook,
        Self::AuditLook,
        Self::ServerChange,
        Self::UserLook,
        Self::UserChange,
        Self::MembersChange,
        Self::ProjectLook,
        Self::ProjectChange,
        Self::NodeLook,
        Self::NodeApprove,
        Self::NodePause,
        Self::NodeRevoke,
        Self::NodeChange,
        Self::PoolLook,
        Self::PoolChange,
        Self::JoinTokenLook,
        Self::JoinTokenChange,
        Self::StackLook,
        Self::StackChange,
        Self::LogsLook,
        Self::Exec,
        Self::SecretLook,
        Self::SecretChange,
    ];

    /// As it is written in refusals and in the API's document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterLook => "cluster.look",
            Self::AuditLook => "audit.look",
            Self::ServerChange => "server.change",
            Self::UserLook => "user.look",
            Self::UserChange => "user.change",
            Self::MembersChange => "members.change",
            Self::ProjectLook => "project.look",
            Self::ProjectChange => "project.change",
            Self::NodeLook => "node.look",
            Self::NodeApprove => "node.approve",
            Self::NodePause => "node.pause",
            Self::NodeRevoke => "node.revoke",
            Self::NodeChange => "node.change",
            Self::PoolLook => "pool.look",
            Self::PoolChange => "pool.change",
            Self::JoinTokenLook => "join_token.look",
            Self::JoinTokenChange => "join_token.change",
            Self::StackLook => "stack.look",
            Self::StackChange => "stack.change",
            Self::LogsLook => "logs.look",
            Self::Exec => "exec",
            Self::SecretLook => "secret.look",
            Self::SecretChange => "secret.change",
        }
    }

    /// What somebody needs so that the object's existence is no secret to them.
    #[must_use]
    pub const fn to_see(self) -> Self {
        match self {
            Self::ClusterLook | Self::ServerChange => Self::ClusterLook,
            Self::AuditLook => Self::AuditLook,
            Self::UserLook | Self::UserChange => Self::UserLook,
            Self::MembersChange | Self::ProjectLook | Self::ProjectChange => Self::ProjectLook,
            Self::NodeLook | Self::NodeApprove | Self::NodePause | Self::NodeRevoke | Self::NodeChange => {
                Self::NodeLook
            }
            Self::PoolLook | Self::PoolChange => Self::PoolLook,
            Self::JoinTokenLook | Self::JoinTokenChange => Self::JoinTokenLook,
            Self::StackLook | Self::StackChange | Self::LogsLook | Self::Exec => Self::StackLook,
            Self::SecretLook | Self::SecretChange => Self::SecretLook,
        }
    }

    /// Whether it changes nothing.
    pub fn is_look(self) -> bool {
        self.to_see() == self || self == Self::LogsLook
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The cluster as a whole.
    Cluster,
    /// A project, or anything in it.
    Project(ProjectName),
    /// A pool, or a join token for it.
    Pool(PoolName),
    /// A node.
    Node {
        /// The pool that it works in.
        pool: PoolName,
        /// Who lends it.
        owner: OwnerName,
    },
}

/// Whether a role allows it at all, somewhere. **The table**; docs/users.md shows it to people.
const fn of_role(role: Role, permission: Permission) -> bool {
    use Permission as P;
    match role {
        Role::Admin => true,
        Role::Operator => matches!(
            permission,
            P::ClusterLook
                | P::AuditLook
                | P::ServerChange
                | P::ProjectLook
                | P::NodeLook
                | P::NodeApprove
                | P::NodePause
                | P::NodeRevoke
                | P::NodeChange
                | P::PoolLook
                | P::PoolChange
                | P::JoinTokenLook
                | P::JoinTokenChange
                | P::StackLook
                | P::LogsLook
                | P::SecretLook
        ),
        Role::Developer => matches!(
            permission,
            P::ProjectLook
                | P::StackLook
                | P::StackChange
                | P::LogsLook
                | P::Exec
                | P::SecretLook
                | P::SecretChange
        ),
        Role::Owner => matches!(permission, P::NodeLook | P::NodePause | P::NodeRevoke),
        Role::Viewer => matches!(
            permission,
            P::ClusterLook
                | P::AuditLook
                | P::ProjectLook
                | P::NodeLook
                | P::PoolLook
                | P::JoinTokenLook
                | P::StackLook
                | P::LogsLook
                | P::SecretLook
        ),
    }
}

/// Whether a place contains an object.
fn covers(place: &Place, object: &Object) -> bool {
    match (place, object) {
        (Place::Cluster, _) => true,
        (Place::Project(own), Object::Project(project)) => own == project,
        (Place::Pool(own), Object::Pool(pool) | Object::Node { pool, .. }) => own == pool,
        _ => false,
    }
}

/// Whether whoever has these bindings may do it. `name` is theirs, by which nodes are their own.
///
/// Projects are made and limited from above: whoever is an admin of one project does not set its
/// quotas.
pub fn allows(name: Option<&str>, bindings: &[Binding], permission: Permission, object: &Object) -> bool {
    let own = || matches!(object, Object::Node { owner, .. } if Some(owner.as_str()) == name);
    bindings.iter().any(|binding| {
        of_role(binding.role, permission)
            && covers(&binding.place, object)
            && (binding.role != Role::Owner || own())
            && (permission != Permission::ProjectChange || binding.place == Place::Cluster)
    })
}

/// Whether these bindings allow it on anything at all.
pub fn allows_somewhere(bindings: &[Binding], permission: Permission) -> bool {
    bindings.iter().any(|binding| of_role(binding.role, permission))
}

/// Whether whoever has `bindings` may hand on `wanted`: never more than they have.
pub fn may_give(bindings: &[Binding], wanted: &Binding) -> bool {
    let within = |own: &Place| *own == Place::Cluster || *own == wanted.place;
    Permission::ALL.iter().filter(|permission| of_role(wanted.role, **permission)).all(|permission| {
        bindings.iter().any(|own| {
            of_role(own.role, *permission)
                && within(&own.place)
                // Own nodes alone are less than every node.
                && (own.role != Role::Owner || wanted.role == Role::Owner)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bindings(text: &str) -> Vec<Binding> {
        text.split_whitespace().map(|part| part.parse().unwrap()).collect()
    }

    fn project(name: &str) -> Object {
        Object::Project(name.parse().unwrap())
    }

    fn node(pool: &str, owner: &str) -> Object {
        Object::Node { pool: pool.parse().unwrap(), owner: owner.parse().unwrap() }
    }

    #[test]
    fn roles_do_what_they_say() {
        use Permission as P;
        for (who, permission, object, allowed) in [
            ("admin", P::ServerChange, Object::Cluster, true),
            ("admin", P::Exec, project("shop"), true),
            ("admin@project/shop", P::MembersChange, project("shop"), true),
            ("admin@project/shop", P::ProjectChange, project("shop"), false),
            ("admin@project/shop", P::StackChange, project("blog"), false),
            ("admin@project/shop", P::UserChange, Object::Cluster, false),
            ("operator", P::NodeApprove, node("lab", "ada"), true),
            ("operator", P::StackLook, project("shop"), true),
            ("operator", P::StackChange, project("shop"), false),
            ("operator", P::Exec, project("shop"), false),
            ("operator", P::SecretChange, project("shop"), false),
            ("operator", P::UserLook, Object::Cluster, false),
            ("operator@pool/lab", P::NodeApprove, node("lab", "ada"), true),
            ("operator@pool/lab", P::NodeApprove, node("home", "ada"), false),
            ("operator@pool/lab", P::JoinTokenChange, Object::Pool("lab".parse().unwrap()), true),
            ("operator@pool/lab", P::ServerChange, Object::Cluster, false),
            ("developer@project/shop", P::StackChange, project("shop"), true),
            ("developer@project/shop", P::Exec, project("shop"), true),
            ("developer@project/shop", P::StackLook, project("blog"), false),
            ("developer@project/shop", P::MembersChange, project("shop"), false),
            ("developer@project/shop", P::NodeLook, node("lab", "me"), false),
            ("developer", P::SecretChange, project("blog"), true),
            ("developer", P::NodePause, node("lab", "ada"), false),
            ("owner", P::NodeLook, node("lab", "me"), true),
            ("owner", P::NodeRevoke, node("lab", "me"), true),
            ("owner", P::NodeRevoke, node("lab", "ada"), false),
            ("owner", P::NodeApprove, node("lab", "me"), false),
            ("owner@pool/home", P::NodePause, node("lab", "me"), false),
            ("viewer", P::AuditLook, Object::Cluster, true),
            ("viewer", P::LogsLook, project("shop"), true),
            ("viewer", P::StackChange, project("shop"), false),
            ("viewer", P::UserLook, Object::Cluster, false),
            ("viewer@project/shop", P::StackLook, project("shop"), true),
            ("viewer@project/shop", P::ClusterLook, Object::Cluster, false),
            ("viewer@pool/lab", P::NodeLook, node("lab", "ada"), true),
            ("", P::StackLook, project("shop"), false),
        ] {
            assert_eq!(
                allows(Some("me"), &bindings(who), permission, &object),
                allowed,
                "{who:?} {permission:?} {object:?}"
            );
        }
    }

    #[test]
    fn only_looking_is_a_viewers() {
        for permission in Permission::ALL {
            assert!(of_role(Role::Admin, *permission));
            if !permission.is_look() {
                assert!(!of_role(Role::Viewer, *permission), "{permission:?}");
            }
            // Whoever may change something may see it.
            for role in Role::ALL.iter().filter(|role| of_role(**role, *permission)) {
                assert!(of_role(*role, permission.to_see()), "{role} {permission:?}");
            }
            assert_eq!(permission.to_see().to_see(), permission.to_see());
        }
        let names: std::collections::BTreeSet<_> = Permission::ALL.iter().map(|p| p.as_str()).collect();
        assert_eq!(names.len(), Permission::ALL.len());
    }

    fn any_binding() -> impl Strategy<Value = Binding> {
        let place = prop_oneof![
            Just(Place::Cluster),
            "[ab]".prop_map(|name| Place::Project(name.parse().unwrap())),
            "[ab]".prop_map(|name| Place::Pool(name.parse().unwrap())),
        ];
        (proptest::sample::select(Role::ALL), place).prop_map(|(role, place)| Binding { role, place })
    }

    fn objects() -> Vec<Object> {
        let mut all = vec![Object::Cluster];
        for name in ["a", "b", "c"] {
            all.extend([
                project(name),
                Object::Pool(name.parse().unwrap()),
                node(name, "me"),
                node(name, "ada"),
            ]);
        }
        all
    }

    proptest! {
        /// What is handed on allows nothing that its giver may not do.
        #[test]
        fn nobody_gives_more_than_they_have(
            own in proptest::collection::vec(any_binding(), 0..4),
            wanted in any_binding(),
        ) {
            if may_give(&own, &wanted) {
                for permission in Permission::ALL {
                    for object in objects() {
                        let given = allows(Some("me"), std::slice::from_ref(&wanted), *permission, &object);
                        prop_assert!(!given || allows(Some("me"), &own, *permission, &object),
                            "{own:?} gave {wanted}: {permission:?} on {object:?}");
                    }
                }
            }
            for binding in &own {
                prop_assert!(may_give(&own, binding), "{own:?} may give {binding}");
            }
        }

        /// More bindings never allow less, and what is allowed on something is allowed somewhere.
        #[test]
        fn bindings_only_add(
            own in proptest::collection::vec(any_binding(), 0..4),
            more in any_binding(),
            permission in proptest::sample::select(Permission::ALL),
        ) {
            let mut larger = own.clone();
            larger.push(more);
            for object in objects() {
                let before = allows(Some("me"), &own, permission, &object);
                prop_assert!(!before || allows(Some("me"), &larger, permission, &object));
                prop_assert!(!before || allows_somewhere(&own, permission));
            }
        }
    }
}
