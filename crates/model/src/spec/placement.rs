//! Which nodes a workload may run on, and how its replicas spread over them.

use crate::{
    name::{StackName, WorkloadName},
    taint::Toleration,
    time::Duration,
    unit::{Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Where replicas may be (Compose's `deploy.placement`; the pool stands beside it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    /// Each has to hold of a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub constraints: Vec<Constraint>,
    /// Replicas are spread evenly over the values of these, the first counting most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub spread: Vec<NodeAttribute>,
    /// The most replicas on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// Of what runs on a node that is short of memory, the lowest makes way first; 0 unless said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i16,
    /// The taints of nodes that it bears.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Whether replicas move only because they are unevenly spread.
    #[serde(default, skip_serializing_if = "Rebalancing::is_gentle")]
    pub rebalance: Rebalancing,
    /// What makes a node better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers: Vec<Preference>,
    /// Whom it wants near.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Affinity>,
    /// Whom it does not want near.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<Affinity>,
    /// By how many replicas one value of what it is spread over may be ahead of another; absent is any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<u32>,
    /// How long it takes, of what ends: it is put where it will probably come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// Whether its replicas are a gang: those that have no place get one together, or none of them does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gang: bool,
}

/// Whether replicas move only because they are unevenly spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rebalancing {
    /// One by one, where the cluster's policy allows it.
    #[default]
    Gentle,
    /// Never.
    Off,
}

impl Rebalancing {
    const fn is_gentle(&self) -> bool {
        matches!(self, Self::Gentle)
    }
}

/// The most preferences, and the most neighbours wanted near or apart, of a workload.
pub const MAX_WISHES: usize = 50;

/// A constraint that makes a node better where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// What is to hold.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: Constraint,
    /// How much better, 1 to 100; below 0, how much worse.
    pub weight: i8,
}

impl Preference {
    /// The weight where nothing is said.
    pub const WEIGHT: i8 = 10;
}

/// Other work of the project that is near or is not: on the same node, or where an attribute has the same value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// Whose.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub to: Neighbour,
    /// What has the same value for all that are near each other; absent is the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub over: Option<NodeAttribute>,
    /// How much better that is, 1 to 100; absent is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
}

/// By what others are known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Neighbour {
    /// A service of the same stack: `db`.
    Service(WorkloadName),
    /// A service of another stack of the project: `shop/db`.
    Of(StackName, WorkloadName),
    /// All that have a label: `tier=front`.
    Label(String, String),
}

impl FromStr for Neighbour {
    type Err = InvalidNeighbour;

    fn from_str(text: &str) -> Result<Self, InvalidNeighbour> {
        let wrong = || InvalidNeighbour(text.chars().take(200).collect());
        let text = text.trim();
        if let Some((key, value)) = text.split_once('=') {
            let plain = !key.is_empty() && text.len() <= MOST && !text.chars().any(char::is_control);
            return plain.then(|| Self::Label(key.to_owned(), value.to_owned())).ok_or_else(wrong);
        }
        match text.split_once('/') {
            Some((stack, service)) => {
                let (stack, service) = (stack.parse(), service.parse());
                stack.ok().zip(service.ok()).map(|(stack, service)| Self::Of(stack, service))
            }
            None => text.parse().ok().map(Self::Service),
        }
        .ok_or_else(wrong)
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::Of(stack, service) => write!(f, "{stack}/{service}"),
            Self::Label(key, value) => write!(f, "{key}={value}"),
        }
    }
}

/// Why a text names no neighbour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no other work; write a service of the stack, STACK/SERVICE for one of another, or KEY=VALUE for all that have a label"
)]
pub struct InvalidNeighbour(String);

const fn is_zero(n: &i16) -> bool {
    *n == 0
}

impl PlacementSpec {
    /// What agents are told of it: the rest is the planner's alone, and agents of earlier versions refuse words that they
    /// do not know.
    #[must_use]
    pub fn for_agents(&self) -> Self {
        let Self { constraints, spread, max_per_node, priority, .. } = self.clone();
        Self { constraints, spread, max_per_node, priority, ..Self::default() }
    }

    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that has to hold of a node: `node.labels.disk == ssd`, `node.region in (eu, us)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    /// What of the node.
    pub attribute: NodeAttribute,
    /// What has to be true of it.
    pub test: Test,
}

/// What has to be true of a value. Text is compared without regard to case, as Swarm does. A node without the attribute
/// passes [`Test::NotIn`] and [`Test::Absent`] alone; an absent label is the empty text besides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is one of these.
    In(BTreeSet<String>),
    /// It is none of these.
    NotIn(BTreeSet<String>),
    /// There is one.
    Exists,
    /// There is none.
    Absent,
    /// It is a number, an amount of bytes or a version that stands so to this one.
    Than(Than, String),
}

/// How a quantity stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Than {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
}

impl Than {
    /// Whether `a` stands so to `b`.
    pub fn holds<T: Ord>(self, a: &T, b: &T) -> bool {
        match self {
            Self::AtLeast => a >= b,
            Self::AtMost => a <= b,
            Self::Above => a > b,
            Self::Below => a < b,
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::Below => "<",
        }
    }
}

/// Something of a node that has a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NodeAttribute {
    /// `node.id`.
    Id,
    /// `node.hostname`: what people call the node.
    Name,
    /// `node.platform.os`.
    Os,
    /// `node.platform.arch`, as the machine or as Docker names it.
    Arch,
    /// `node.pool`.
    Pool,
    /// `node.owner`.
    Owner,
    /// `node.lan`: `closed` where containers do not reach the network of the node's owner.
    Lan,
    /// `node.labels.KEY`; absent is the empty text. `node.region` and `node.site` are short for those labels.
    Label(String),
    /// `node.cpu`: processors that are lent.
    Cpu,
    /// `node.memory`: memory that is lent.
    Memory,
    /// `node.disk`: disk space that is lent.
    Disk,
    /// `node.engine`: the version of the container engine.
    Engine,
    /// `node.agent`: the version of the agent.
    Agent,
    /// `node.battery`: `yes` where it has one.
    Battery,
    /// `node.gpu.model`: of a GPU that the node lends; words of it will do.
    GpuModel,
    /// `node.gpu.memory`: of a GPU that the node lends.
    GpuMemory,
    /// `node.gpu.count`: the GPUs that the node lends.
    GpuCount,
}

/// What can be compared as more or less: a number, or the numbers of a version from left to right.
pub type Quantity = [u64; 4];

impl NodeAttribute {
    /// Those with a fixed name.
    const NAMED: [(&'static str, Self); 16] = [
        ("node.id", Self::Id),
        ("node.hostname", Self::Name),
        ("node.platform.os", Self::Os),
        ("node.platform.arch", Self::Arch),
        ("node.pool", Self::Pool),
        ("node.owner", Self::Owner),
        ("node.lan", Self::Lan),
        ("node.cpu", Self::Cpu),
        ("node.memory", Self::Memory),
        ("node.disk", Self::Disk),
        ("node.engine", Self::Engine),
        ("node.agent", Self::Agent),
        ("node.battery", Self::Battery),
        ("node.gpu.model", Self::GpuModel),
        ("node.gpu.memory", Self::GpuMemory),
        ("node.gpu.count", Self::GpuCount),
    ];

    /// A value of it as something that is more or less; none where it is no such thing.
    pub fn quantity(&self, value: &str) -> Option<Quantity> {
        let one = |number: u64| [number, 0, 0, 0];
        match self {
            Self::Memory | Self::Disk | Self::GpuMemory => {
                value.parse::<Bytes>().ok().map(|bytes| one(bytes.0))
            }
            Self::Cpu => value.parse::<Cpu>().ok().map(|cpu| one(cpu.0.into())),
            Self::GpuCount | Self::Label(_) => value.parse().ok().map(one),
            Self::Engine | Self::Agent => version(value),
            Self::Id
            | Self::Name
            | Self::Os
            | Self::Arch
            | Self::Pool
            | Self::Owner
            | Self::Lan
            | Self::Battery
            | Self::GpuModel => None,
        }
    }

    /// Whether each value of it is a quantity, so that one that is none is a mistake.
    const fn is_quantity(&self) -> bool {
        matches!(
            self,
            Self::Memory
                | Self::Disk
                | Self::GpuMemory
                | Self::Cpu
                | Self::GpuCount
                | Self::Engine
                | Self::Agent
        )
    }
}

/// `24`, `20.10.24+dfsg1`: up to four numbers, and what follows them is of no matter.
fn version(text: &str) -> Option<Quantity> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = [0; 4];
    let parts = text[..end].split('.').filter(|part| !part.is_empty());
    let parts: Vec<u64> = parts.map_while(|part| part.parse().ok()).take(4).collect();
    numbers[..parts.len()].copy_from_slice(&parts);
    (!parts.is_empty()).then_some(numbers)
}

/// Why a text is no constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no constraint on nodes; write node.id, node.hostname, node.platform.os, node.platform.arch, node.pool, node.owner, node.lan, node.battery, node.gpu.model, node.region, node.site or node.labels.KEY, then == or != and a value, in or not in and (one, two), exists, or does not exist; or node.cpu, node.memory, node.disk, node.gpu.memory, node.gpu.count, node.engine, node.agent or a label, then ==, !=, >=, <=, > or < and how much"
)]
pub struct InvalidConstraint(String);

impl InvalidConstraint {
    fn of(text: &str) -> Self {
        Self(text.chars().take(200).collect())
    }
}

impl FromStr for NodeAttribute {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        let text = text.trim();
        if let Some((_, named)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(named.clone());
        }
        Ok(match text {
            "node.region" => Self::Label("region".into()),
            "node.site" => Self::Label("site".into()),
            other => match other.strip_prefix("node.labels.") {
                Some(key)
                    if !key.is_empty() && key.len() <= 256 && key.chars().all(|c| c.is_ascii_graphic()) =>
                {
                    Self::Label(key.to_owned())
                }
                _ => return Err(InvalidConstraint::of(text)),
            },
        })
    }
}

impl fmt::Display for NodeAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "node.labels.{key}"),
            named => {
                let name = Self::NAMED.iter().find(|(_, known)| known == named).map(|(name, _)| *name);
                f.write_str(name.unwrap_or("node"))
            }
        }
    }
}

impl Constraint {
    /// Whether a node's value passes, for attributes with one value; `equal` says which texts are the same beyond case.
    /// Those of GPUs have a value for each GPU and are judged by the scheduler.
    pub fn holds(&self, value: Option<&str>, equal: impl Fn(&str, &str) -> bool) -> bool {
        let text = value.unwrap_or_default();
        let same = |asked: &str| {
            text.eq_ignore_ascii_case(asked)
                || equal(text, asked)
                || (self.attribute.is_quantity()
                    && self.attribute.quantity(asked) == self.attribute.quantity(text))
        };
        match &self.test {
            Test::In(values) => values.iter().any(|asked| same(asked)),
            Test::NotIn(values) => !values.iter().any(|asked| same(asked)),
            Test::Exists => value.is_some_and(|value| !value.is_empty()),
            Test::Absent => value.is_none_or(str::is_empty),
            Test::Than(than, asked) => {
                let (has, asked) = (self.attribute.quantity(text), self.attribute.quantity(asked));
                has.zip(asked).is_some_and(|(has, asked)| than.holds(&has, &asked))
            }
        }
    }
}

/// The values in `(one, two)`.
fn list(text: &str) -> Option<BTreeSet<String>> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values: BTreeSet<String> = inside.split(',').map(|value| value.trim().to_owned()).collect();
    (!values.contains("")).then_some(values)
}

/// What follows the attribute.
fn test(rest: &str) -> Option<Test> {
    let one = |rest: &str| BTreeSet::from([rest.trim().to_owned()]);
    let than = |than, rest: &str| Some(Test::Than(than, rest.trim().to_owned()));
    // The longer signs first; whichever else stands later belongs to the value.
    if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        return Some(Test::In(one(rest)));
    }
    if let Some(rest) = rest.strip_prefix("!=") {
        return Some(Test::NotIn(one(rest)));
    }
    for sign in [Than::AtLeast, Than::AtMost, Than::Above, Than::Below] {
        if let Some(rest) = rest.strip_prefix(sign.sign()) {
            return than(sign, rest);
        }
    }
    let mut words = rest.split_whitespace();
    let known: Vec<&str> = words.by_ref().take(3).collect();
    match known.as_slice() {
        ["exists"] => Some(Test::Exists),
        ["does", "not", "exist"] if words.next().is_none() => Some(Test::Absent),
        ["not", ..] => {
            let after = rest.strip_prefix("not")?.trim_start().strip_prefix("in")?;
            list(after).map(Test::NotIn)
        }
        _ => list(rest.strip_prefix("in")?).map(Test::In),
    }
}

impl FromStr for Constraint {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        let wrong = || InvalidConstraint::of(text);
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).ok_or_else(wrong)?;
        let attribute: NodeAttribute = text[..end].parse()?;
        let test = test(text[end..].trim()).ok_or_else(wrong)?;
        let known = match &test {
            Test::In(values) | Test::NotIn(values) => {
                values.iter().all(|one| !attribute.is_quantity() || attribute.quantity(one).is_some())
            }
            Test::Than(_, value) => attribute.quantity(value).is_some(),
            Test::Exists | Test::Absent => true,
        };
        let constraint = Self { attribute, test };
        // As it will be written, which may be a sign longer.
        if !known || text.len() > MOST || constraint.to_string().len() > MOST {
            return Err(wrong());
        }
        Ok(constraint)
    }
}

/// The longest text of a constraint, in bytes.
const MOST: usize = 1024;

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attribute = &self.attribute;
        let values = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(", ");
        match &self.test {
            Test::In(one) if one.len() == 1 => write!(f, "{attribute} == {}", values(one)),
            Test::NotIn(one) if one.len() == 1 => write!(f, "{attribute} != {}", values(one)),
            Test::In(many) => write!(f, "{attribute} in ({})", values(many)),
            Test::NotIn(many) => write!(f, "{attribute} not in ({})", values(many)),
            Test::Exists => write!(f, "{attribute} exists"),
            Test::Absent => write!(f, "{attribute} does not exist"),
            Test::Than(than, value) => write!(f, "{attribute} {} {value}", than.sign()),
        }
    }
}

macro_rules! as_text {
    ($($name:ident: $error:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}

as_text!(Constraint: InvalidConstraint, NodeAttribute: InvalidConstraint, Neighbour: InvalidNeighbour);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_come_back_as_they_were() {
        for text in [
            "node.labels.disk == ssd",
            "node.lan == closed",
            "node.hostname != attic",
            "node.platform.arch == x86_64",
            "node.gpu.model == RTX 4090",
            "node.gpu.memory >= 16g",
            "node.gpu.count != 2",
            "node.labels.region in (eu, us)",
            "node.owner not in (ann, bob)",
            "node.labels.rack exists",
            "node.labels.rack does not exist",
            "node.labels.level > 3",
            "node.memory < 64g",
            "node.cpu >= 2.5",
            "node.engine >= 24.0",
            "node.battery == no",
        ] {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), text);
        }
        let same = |a: &str, b: &str| assert_eq!(a.parse::<Constraint>().unwrap().to_string(), b);
        same("node.labels.a==b!=c", "node.labels.a == b!=c");
        same(" node.region=eu ", "node.labels.region == eu");
        same("node.site in(a,b)", "node.labels.site in (a, b)");
        same("node.labels.x not  in (b, a)", "node.labels.x not in (a, b)");
        for text in [
            "",
            "node.labels.",
            "engine.labels.x == 1",
            "disk == ssd",
            "node.hostname >= a",
            "node.gpu.memory >= much",
            "node.gpu.count == few",
            "node.gpu.model >= H100",
            "node.labels.x > some",
            "node.labels.x in (a,,b)",
            "node.labels.x in a",
            "node.labels.x does exist",
            "node.labels.x",
            "node.memory == lots",
        ] {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
    }

    #[test]
    fn neighbours_come_back_as_they_were() {
        for text in ["db", "shop/db", "tier=front", "tier=", "a/b=c"] {
            assert_eq!(text.parse::<Neighbour>().unwrap().to_string(), text);
        }
        for text in ["", "/", "a/b/c", "a b", "=x", "shop/"] {
            assert!(text.parse::<Neighbour>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_holds_of_a_value() {
        let holds =
            |text: &str, value: Option<&str>| text.parse::<Constraint>().unwrap().holds(value, |_, _| false);
        assert!(holds("node.labels.a == B", Some("b")) && !holds("node.labels.a == b", None));
        assert!(holds("node.labels.a != b", None) && holds("node.labels.a not in (b, c)", Some("d")));
        assert!(holds("node.labels.a exists", Some("x")) && !holds("node.labels.a exists", Some("")));
        assert!(holds("node.labels.a does not exist", None) && !holds("node.labels.a > 3", None));
        assert!(holds("node.labels.a > 3", Some("10")) && !holds("node.labels.a > 3", Some("three")));
        assert!(
            holds("node.memory >= 16g", Some("17179869184")) && holds("node.memory == 1g", Some("1024m"))
        );
        assert!(
            holds("node.engine >= 20.10", Some("20.10.24+dfsg1"))
                && !holds("node.engine > 24", Some("20.10"))
        );
    }
}
