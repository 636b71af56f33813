//! Names that people choose, validated where they enter.
//!
//! Every name is 1 to 63 characters of `a-z A-Z 0-9 . _ -` and begins with a letter or a digit:
//! what the Compose specification allows for services, bounded so that it fits a DNS label, a
//! Docker name and a table cell.

use crate::id::NodeId;
use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, str::FromStr};

/// The longest name, in characters.
pub const MAX_NAME: usize = 63;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {text:?} {problem}; use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
)]
pub struct InvalidName {
    /// What was to be named, e.g. "stack".
    pub what: &'static str,
    /// The text, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let fail = |problem| Err(InvalidName { what, text: text.chars().take(80).collect(), problem });
    match text.chars().next() {
        None => return fail("is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => return fail("begins with another character"),
        Some(_) => {}
    }
    if text.len() > MAX_NAME {
        return fail("is too long");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return fail("has another character in it");
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $what:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`InvalidName`] says what is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )+};
}

names! {
    /// Who stacks belong to.
    ProjectName = "project",
    /// A named group of nodes.
    PoolName = "pool",
    /// A Compose project.
    StackName = "stack",
    /// One service of a stack.
    WorkloadName = "service",
    /// A named volume of a stack.
    VolumeName = "volume",
    /// A network of a stack.
    NetworkName = "network",
    /// A computer.
    NodeName = "node",
    /// Who lends a computer.
    OwnerName = "owner",
    /// A secret of a project.
    SecretName = "secret",
    /// A person who signs in; also how they are named as a node's owner.
    UserName = "user",
}

impl ProjectName {
    /// The project that exists from the start.
    pub fn default_project() -> Self {
        Self("default".into())
    }
}

impl PoolName {
    /// The pool that exists from the start.
    pub fn default_pool() -> Self {
        Self("default".into())
    }
}

impl OwnerName {
    /// The person who installed the control plane, until users exist.
    pub fn admin() -> Self {
        Self("admin".into())
    }
}

impl NodeName {
    /// What a node is called that was given no name: by its id.
    pub fn of_id(id: NodeId) -> Self {
        Self(id.to_string())
    }
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ }),+ $(,)?) => {$(
        $(#[$doc])*
        ///
        /// Serialised as its parts with `/` between them, which no name contains.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            $(#[allow(missing_docs)] pub $field: $type,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts = [$(self.$field.as_str()),+];
                f.pad(&parts.join("/"))
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <String as utoipa::PartialSchema>::schema()
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $name {}

        impl From<$name> for String {
            fn from(key: $name) -> Self {
                key.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let mut parts = text.split('/');
                let key = Self { $($field: parts.next().unwrap_or_default().parse()?,)+ };
                match parts.next() {
                    None => Ok(key),
                    Some(_) => Err(InvalidName {
                        what: "qualified",
                        text: text.chars().take(80).collect(),
                        problem: "has too many parts",
                    }),
                }
            }
        }
    )+};
}

keys! {
    /// Names a stack within the cluster: `project/stack`.
    StackKey { project: ProjectName, stack: StackName },
    /// Names a workload within the cluster: `project/stack/service`.
    WorkloadKey { project: ProjectName, stack: StackName, workload: WorkloadName },
    /// Names a volume within the cluster: `project/stack/volume`.
    VolumeKey { project: ProjectName, stack: StackName, volume: VolumeName },
}

impl StackKey {
    /// A workload of this stack.
    pub fn workload(&self, workload: WorkloadName) -> WorkloadKey {
        WorkloadKey { project: self.project.clone(), stack: self.stack.clone(), workload }
    }

    /// A volume of this stack.
    pub fn volume(&self, volume: VolumeName) -> VolumeKey {
        VolumeKey { project: self.project.clone(), stack: self.stack.clone(), volume }
    }
}

impl WorkloadKey {
    /// The stack that the workload belongs to.
    pub fn stack_key(&self) -> StackKey {
        StackKey { project: self.project.clone(), stack: self.stack.clone() }
    }
}

impl VolumeKey {
    /// The stack that the volume belongs to.
    pub fn stack_key(&self) -> StackKey {
        StackKey { project: self.project.clone(), stack: self.stack.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        for (text, problem) in [
            ("", "is empty"),
            ("-a", "begins with another character"),
            ("a b", "has another character in it"),
            ("é", "begins with another character"),
        ] {
            assert_eq!(StackName::new(text).map_err(|e| e.problem), Err(problem), "{text:?}");
        }
        assert!(StackName::new("a".repeat(63)).is_ok());
        assert!(StackName::new("a".repeat(64)).is_err());
    }

    #[test]
    fn keys_read_back_what_they_print() {
        let key: WorkloadKey = "default/shop/web".parse().unwrap();
        assert_eq!(key.to_string(), "default/shop/web");
        assert!("default/shop".parse::<WorkloadKey>().is_err());
        assert!("default/shop/web/more".parse::<WorkloadKey>().is_err());
    }
}
