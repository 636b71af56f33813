//! Compose files, read by the server for whoever has no command line at hand.

use lattice_model::{StackName, spec::StackSpec};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use utoipa::ToSchema;

/// The most variables that a reading may be given.
pub const MAX_COMPOSE_VARIABLES: usize = 1000;

/// The most bytes that the body of a reading may have: a file of the largest size, written as JSON.
pub const MAX_COMPOSE_BYTES: usize = 4 << 20;

/// Body of [`paths::COMPOSE`](crate::paths::COMPOSE).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ComposeRead {
    /// The text of the Compose file, at most 1 MiB.
    pub source: String,
    /// The stack's name; outranks `name:` in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The variables that the file may name, at most 1000. The server's own are never looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for ComposeRead {
    /// Leaves out the text and the values, which may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, name, env } = self;
        f.debug_struct("ComposeRead")
            .field("source", &format_args!("{} bytes", source.len()))
            .field("name", name)
            .field("env", &env.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// What a Compose file says. Nothing was deployed: that is [`paths::STACK`](crate::paths::STACK), with what stands
/// here as `name` and `spec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComposeView {
    /// The stack's name; absent where there is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<StackName>,
    /// The stack; absent where there is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<StackSpec>,
    /// Errors, for which there is no `spec`, and warnings; by line.
    pub problems: Vec<ComposeProblem>,
}

/// A problem of a Compose file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComposeProblem {
    /// Whether nothing can be deployed because of it.
    pub severity: ComposeSeverity,
    /// Counted from 1.
    pub line: u32,
    /// Counted in characters from 1.
    pub column: u32,
    /// The keys that lead to it, such as `services.web.ports[0]`; empty for the file as a whole.
    pub path: String,
    /// Its kind, such as `unknown_key` or `not_supported`; there may be more kinds later.
    pub code: String,
    /// What is wrong, and why.
    pub message: String,
    /// What to do instead; empty where the message says it.
    pub hint: String,
}

/// How bad a problem of a Compose file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComposeSeverity {
    /// The file cannot be deployed.
    Error,
    /// It can; something in it has no effect, or another than one may think.
    Warning,
}
