//! The words of alerts: how bad, how far, about what, and which of them somebody means.
//!
//! Beginning: [`Subject`] and [`Matcher`]. What makes an alert is the business of `lattice-alert`.

use crate::name::{NodeName, OwnerName, PoolName, ProjectName, StackName, WorkloadName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest value of a matcher, in bytes.
pub const MAX_MATCHER_VALUE: usize = 128;

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Info,
    /// Somebody should look, today.
    Warning,
    /// Something does not work, or data is in danger: now.
    Critical,
}

impl Severity {
    /// All, the mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no severity; use info, warning or critical"))
    }
}

/// How far an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// What its rule asks for is so, and not yet for as long as the rule asks. Nobody is told.
    Pending,
    /// It is so for long enough.
    Firing,
    /// It was firing, and is not so any more for long enough.
    Resolved,
}

impl AlertState {
    /// All, in the order in which an alert takes them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Firing, Self::Resolved];

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of thing an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// The cluster as a whole, or its control plane.
    Cluster,
    /// A computer.
    Node,
    /// A group of nodes.
    Pool,
    /// A service of a stack.
    Workload,
    /// A volume of a stack.
    Volume,
    /// Somebody who signs in, or tries to.
    User,
    /// An owner's question.
    Support,
}

impl SubjectKind {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Cluster, Self::Node, Self::Pool, Self::Workload, Self::Volume, Self::User, Self::Support];

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Pool => "pool",
            Self::Workload => "workload",
            Self::Volume => "volume",
            Self::User => "user",
            Self::Support => "support",
        }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an alert is about. Kind and id say which it is; the rest is for people and matchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Subject {
    /// What kind of thing.
    pub kind: SubjectKind,
    /// Its id among its kind: a node's, a volume's, `project/stack/service`, a pool's or a user's name. Of the cluster:
    /// which part of it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The node that it is, or is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The pool that it is, or is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Who lends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// The project that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// The stack that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// The service that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
}

impl Subject {
    /// A thing of which no more is known than its kind, id and name.
    pub fn plain(kind: SubjectKind, id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            name: name.into(),
            node: None,
            pool: None,
            owner: None,
            project: None,
            stack: None,
            workload: None,
        }
    }

    /// A part of the control plane.
    pub fn cluster(part: &str) -> Self {
        Self::plain(SubjectKind::Cluster, part, part)
    }
}

/// What a matcher looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MatchOn {
    /// The rule.
    Rule,
    /// How bad it is.
    Severity,
    /// What kind of thing it is about.
    Kind,
    /// What people call that thing.
    Name,
    /// The node.
    Node,
    /// The pool.
    Pool,
    /// Who lends the node.
    Owner,
    /// The project.
    Project,
    /// The stack.
    Stack,
    /// The service.
    Workload,
}

impl MatchOn {
    /// All.
    pub const ALL: [Self; 10] = [
        Self::Rule,
        Self::Severity,
        Self::Kind,
        Self::Name,
        Self::Node,
        Self::Pool,
        Self::Owner,
        Self::Project,
        Self::Stack,
        Self::Workload,
    ];

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Severity => "severity",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Node => "node",
            Self::Pool => "pool",
            Self::Owner => "owner",
            Self::Project => "project",
            Self::Stack => "stack",
            Self::Workload => "workload",
        }
    }

    /// What an alert has there; empty where it has nothing.
    pub fn of<'a>(self, rule: &'a str, severity: Severity, subject: &'a Subject) -> &'a str {
        fn text<T: AsRef<str>>(name: Option<&T>) -> &str {
            name.map_or("", AsRef::as_ref)
        }
        match self {
            Self::Rule => rule,
            Self::Severity => severity.as_str(),
            Self::Kind => subject.kind.as_str(),
            Self::Name => &subject.name,
            Self::Node => text(subject.node.as_ref()),
            Self::Pool => text(subject.pool.as_ref()),
            Self::Owner => text(subject.owner.as_ref()),
            Self::Project => text(subject.project.as_ref()),
            Self::Stack => text(subject.stack.as_ref()),
            Self::Workload => text(subject.workload.as_ref()),
        }
    }
}

impl fmt::Display for MatchOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that an alert has to be for somebody to mean it. People write `pool=lab`, `rule=node_*`, `project!=shop`;
/// `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// What it looks at.
    pub on: MatchOn,
    /// What has to be there; `*` stands for any characters. Empty: nothing is there.
    pub value: String,
    /// Whether anything but that has to be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
}

impl Matcher {
    /// Whether it means an alert.
    pub fn means(&self, rule: &str, severity: Severity, subject: &Subject) -> bool {
        like(&self.value, self.on.of(rule, severity, subject)) != self.not
    }

    /// Whether all of them mean an alert. None at all mean every one.
    pub fn all_mean(all: &[Self], rule: &str, severity: Severity, subject: &Subject) -> bool {
        all.iter().all(|one| one.means(rule, severity, subject))
    }
}

/// Whether a text is like a pattern, in which `*` stands for any characters. Linear in both but for the last star's way
/// back, so that no pattern is a burden.
fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.on, if self.not { "!=" } else { "=" }, self.value)
    }
}

impl FromStr for Matcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |what: String| Err(format!("{what}; write for example pool=lab, rule=node_* or project!=shop"));
        let Some((left, value)) = text.split_once('=') else { return wrong(format!("{text:?} has no '='")) };
        let (left, not) = left.strip_suffix('!').map_or((left, false), |left| (left, true));
        let Some(on) = MatchOn::ALL.into_iter().find(|on| on.as_str() == left) else {
            let known = MatchOn::ALL.map(MatchOn::as_str).join(", ");
            return wrong(format!("{left:?} is nothing that alerts have ({known})"));
        };
        if value.len() > MAX_MATCHER_VALUE || value.chars().any(char::is_control) {
            return wrong(format!("the value of {left} is too long or has control characters"));
        }
        Ok(Self { on, value: value.to_owned(), not })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_read_as_people_write_them() {
        for text in ["pool=lab", "rule=node_*", "project!=shop", "owner="] {
            assert_eq!(text.parse::<Matcher>().unwrap().to_string(), text);
        }
        for wrong in ["", "pool", "car=red", "=x", "name=a\u{7}"] {
            assert!(wrong.parse::<Matcher>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn matchers_mean_what_they_say() {
        let subject = Subject {
            pool: Some("lab".parse().unwrap()),
            ..Subject::plain(SubjectKind::Node, "1", "quiet-otter")
        };
        for (text, means) in [
            ("pool=lab", true),
            ("pool!=lab", false),
            ("pool=l*", true),
            ("pool=*a*", true),
            ("pool=*c", false),
            ("rule=node_*", true),
            ("rule=*_lo*st", true),
            ("rule=node_lost*x", false),
            ("name=quiet*quiet-otter", false),
            ("severity=critical", true),
            ("project=", true),
            ("project!=", false),
            ("project=*", true),
            ("kind=node", true),
        ] {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.means("node_lost", Severity::Critical, &subject), means, "{text}");
        }
        assert!(Matcher::all_mean(&[], "x", Severity::Info, &subject));
    }
}
