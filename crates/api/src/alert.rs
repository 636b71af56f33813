//! Alerts: what deserves a person's attention now.

use lattice_model::{
    Timestamp,
    alert::{AlertState, Severity, Subject},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// The rule, the kind of thing and its id: the same while it fires.
    pub id: String,
    /// The rule's id.
    pub rule: String,
    /// What the rule says, in a few words.
    pub title: String,
    /// What to do, in a sentence.
    pub hint: String,
    /// Where to read more: a file and a section of the documentation.
    pub doc: String,
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// How far it is.
    pub state: AlertState,
    /// Since when it is so.
    pub since: Timestamp,
    /// When it began to fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired_at: Option<Timestamp>,
    /// What is so, in a sentence, as it was when it began to fire.
    pub summary: String,
    /// Whether it comes and goes, so that it has to hold still for longer before it is over.
    #[serde(default)]
    pub flapping: bool,
    /// The rule whose alert of the same thing says all that this one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hushed_by: Option<String>,
}
