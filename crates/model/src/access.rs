//! What people may do, as it is written down: a [`Role`] and the [`Place`] where it counts, together a
//! [`Binding`], in text `developer@project/shop`.
//!
//! What a role allows is decided by `lattice-identity`; here are only the words. A binding is one
//! string wherever it is serialised, so that a person types what the API and the store say.
//! Rejected: roles with free lists of permissions, which nobody can read at a glance.

use crate::name::{InvalidName, PoolName, ProjectName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Nodes, pools, join tokens, the server itself; sees what runs, and changes none of it.
    Operator,
    /// Stacks, secrets, logs and commands in containers.
    Developer,
    /// The nodes that they lend: see, pause, revoke.
    Owner,
    /// Looks, and changes nothing.
    Viewer,
}

impl Role {
    /// Every role, most powerful first.
    pub const ALL: &[Self] = &[Self::Admin, Self::Operator, Self::Developer, Self::Owner, Self::Viewer];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Owner => "owner",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidBinding;

    fn from_str(text: &str) -> Result<Self, InvalidBinding> {
        let known = Self::ALL.iter().find(|role| role.as_str() == text);
        known.copied().ok_or_else(|| InvalidBinding::new(text, "names no role"))
    }
}

/// Where a role counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Everywhere.
    Cluster,
    /// In one project.
    Project(ProjectName),
    /// In one pool, for its nodes.
    Pool(PoolName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Project(project) => write!(f, "project/{project}"),
            Self::Pool(pool) => write!(f, "pool/{pool}"),
        }
    }
}

/// A role, and where it counts. Serialised as text: `admin`, `developer@project/shop`,
/// `operator@pool/lab`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Binding {
    /// What.
    pub role: Role,
    /// Where.
    pub place: Place,
}

impl Binding {
    /// A role in the whole cluster.
    pub const fn everywhere(role: Role) -> Self {
        Self { role, place: Place::Cluster }
    }

    /// Whether the role means something there: nodes belong to pools, stacks to projects.
    ///
    /// # Errors
    /// [`InvalidBinding`] says what would fit.
    pub fn check(&self) -> Result<(), InvalidBinding> {
        let problem = match (self.role, &self.place) {
            (Role::Developer, Place::Pool(_)) => "gives a pool to a developer, whose place is a project",
            (Role::Operator | Role::Owner, Place::Project(_)) => {
                "gives a project to an operator or owner, whose place is a pool"
            }
            _ => return Ok(()),
        };
        Err(InvalidBinding::new(&self.to_string(), problem))
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Cluster => f.pad(self.role.as_str()),
            place => f.pad(&format!("{}@{place}", self.role)),
        }
    }
}

impl From<Binding> for String {
    fn from(binding: Binding) -> Self {
        binding.to_string()
    }
}

impl TryFrom<String> for Binding {
    type Error = InvalidBinding;

    fn try_from(text: String) -> Result<Self, InvalidBinding> {
        text.parse()
    }
}

impl FromStr for Binding {
    type Err = InvalidBinding;

    fn from_str(text: &str) -> Result<Self, InvalidBinding> {
        let (role, place) = text.split_once('@').map_or((text, None), |(role, place)| (role, Some(place)));
        let named = |error: InvalidName| InvalidBinding::new(text, error.problem);
        let place = match place.map(|place| place.split_once('/').unwrap_or((place, ""))) {
            None | Some(("cluster", "")) => Place::Cluster,
            Some(("project", name)) => Place::Project(name.parse().map_err(named)?),
            Some(("pool", name)) => Place::Pool(name.parse().map_err(named)?),
            Some(_) => return Err(InvalidBinding::new(text, "names no place")),
        };
        let binding = Self { role: role.parse()?, place };
        binding.check()?;
        Ok(binding)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Binding {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        <String as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Binding {}

/// Why a text is not a role with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} {problem}; write ROLE, ROLE@project/NAME or ROLE@pool/NAME, with a role of admin, operator, developer, owner, viewer"
)]
pub struct InvalidBinding {
    /// The text, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InvalidBinding {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { text: text.chars().take(150).collect(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_read_back_what_they_print() {
        for text in [
            "admin",
            "viewer",
            "developer@project/shop",
            "operator@pool/lab",
            "owner@pool/x",
            "admin@project/a",
        ] {
            let binding: Binding = text.parse().unwrap();
            assert_eq!(binding.to_string(), text);
            let json = serde_json::to_string(&binding).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Binding>(&json).unwrap(), binding);
        }
        assert_eq!("viewer@cluster".parse::<Binding>().unwrap(), Binding::everywhere(Role::Viewer));
        for text in [
            "",
            "king",
            "admin@",
            "admin@project",
            "admin@project/",
            "admin@project/-a",
            "admin@node/x",
            "developer@pool/lab",
            "operator@project/shop",
            "owner@project/shop",
            "admin@project/a/b",
        ] {
            assert!(text.parse::<Binding>().is_err(), "{text}");
        }
    }
}
