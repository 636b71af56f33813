//! Taints of nodes, and who bears them.
//!
//! A taint is what an operator has against work on a node (`gpu=train:refuse`, `maintenance:evict`); a workload that
//! tolerates it goes there all the same. Beginning: [`Taint`]. Rejected: taints that agents set, since an owner says by
//! rules what may run, and health and standing have words of their own.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// The most taints of a node or a pool, and the most tolerations of a workload.
pub const MAX_TAINTS: usize = 50;

/// What a node has against work that does not bear it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "RawTaint")]
pub struct Taint {
    /// What it is called.
    pub key: String,
    /// Which of that; empty is none in particular.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does to work that does not bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaintEffect {
    /// Nothing new comes; what runs stays.
    Refuse,
    /// New work comes only where no other node takes it.
    Avoid,
    /// Nothing new comes, and what runs moves by turns, as from a node that is emptied.
    Evict,
}

/// A taint that a workload bears.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "RawToleration")]
pub struct Toleration {
    /// What the taint is called.
    pub key: String,
    /// Which of that; none is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Toleration {
    /// Whether a workload with this bears `taint`.
    pub fn bears(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// The first of the taints with one of the effects that none of the tolerations bears.
pub fn not_borne<'t>(
    taints: impl IntoIterator<Item = &'t Taint>,
    tolerates: &[Toleration],
    effects: &[TaintEffect],
) -> Option<&'t Taint> {
    taints
        .into_iter()
        .find(|taint| effects.contains(&taint.effect) && !tolerates.iter().any(|one| one.bears(taint)))
}

/// What two workloads that share a node bear both.
pub fn borne_by_both(one: &[Toleration], other: &[Toleration]) -> Vec<Toleration> {
    let both = |a: &Toleration, b: &Toleration| match (&a.value, &b.value) {
        _ if a.key != b.key => None,
        (None, _) => Some(b.clone()),
        (_, None) => Some(a.clone()),
        (x, y) => (x == y).then(|| a.clone()),
    };
    let pairs = one.iter().flat_map(|a| other.iter().filter_map(move |b| both(a, b)));
    pairs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Sets a taint: another of the same key and effect goes.
pub fn set_taint(taints: &mut BTreeSet<Taint>, taint: Taint) {
    taints.retain(|other| other.key != taint.key || other.effect != taint.effect);
    taints.insert(taint);
}

/// Why a text is no taint or no toleration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTaint {
    /// It is no taint.
    #[error(
        "{0:?} is no taint; write KEY=VALUE:EFFECT or KEY:EFFECT, where the effect is refuse, avoid or evict"
    )]
    Taint(String),
    /// It is no toleration.
    #[error("{0:?} is no toleration; write KEY=VALUE, or KEY for any value")]
    Toleration(String),
    /// A key or a value has characters that neither may have.
    #[error(
        "{0:?} is no key or value of a taint; use at most 256 visible characters without '=', ':' and ',', and no '-' at the end of a key"
    )]
    Word(String),
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

fn word(text: &str) -> Result<(), InvalidTaint> {
    let plain = |c: char| c.is_ascii_graphic() && !"=:,".contains(c);
    if text.len() <= 256 && text.chars().all(plain) { Ok(()) } else { Err(InvalidTaint::Word(short(text))) }
}

fn key(text: &str) -> Result<(), InvalidTaint> {
    if text.is_empty() || text.ends_with('-') {
        return Err(InvalidTaint::Word(short(text)));
    }
    word(text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: TaintEffect,
}

impl TryFrom<RawTaint> for Taint {
    type Error = InvalidTaint;

    fn try_from(raw: RawTaint) -> Result<Self, InvalidTaint> {
        key(&raw.key)?;
        word(&raw.value)?;
        Ok(Self { key: raw.key, value: raw.value, effect: raw.effect })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToleration {
    key: String,
    #[serde(default)]
    value: Option<String>,
}

impl TryFrom<RawToleration> for Toleration {
    type Error = InvalidTaint;

    fn try_from(raw: RawToleration) -> Result<Self, InvalidTaint> {
        key(&raw.key)?;
        word(raw.value.as_deref().unwrap_or_default())?;
        Ok(Self { key: raw.key, value: raw.value })
    }
}

impl TaintEffect {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Avoid => "avoid",
            Self::Evict => "evict",
        }
    }
}

impl FromStr for TaintEffect {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "avoid" => Ok(Self::Avoid),
            "evict" => Ok(Self::Evict),
            other => Err(InvalidTaint::Taint(short(other))),
        }
    }
}

impl FromStr for Taint {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        let wrong = || InvalidTaint::Taint(short(text));
        let (name, effect) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        let effect = effect.parse().map_err(|_| wrong())?;
        RawTaint { key: key.to_owned(), value: value.to_owned(), effect }.try_into()
    }
}

impl FromStr for Toleration {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        let text = text.trim();
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(InvalidTaint::Toleration(short(text)));
        }
        RawToleration { key: key.to_owned(), value }.try_into()
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, effect } = self;
        if value.is_empty() { write!(f, "{key}:{effect}") } else { write!(f, "{key}={value}:{effect}") }
    }
}

impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => f.write_str(&self.key),
            Some(value) => write!(f, "{}={value}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_and_tolerations_come_back_as_they_were() {
        for text in ["gpu=train:refuse", "maintenance:evict", "slow-disk=1:avoid"] {
            let taint: Taint = text.parse().unwrap();
            assert_eq!(taint.to_string(), text);
            let json = serde_json::to_string(&taint).unwrap();
            assert_eq!(serde_json::from_str::<Taint>(&json).unwrap(), taint);
        }
        for text in ["gpu=train", "gpu", "gpu="] {
            let toleration: Toleration = text.parse().unwrap();
            assert_eq!(toleration.to_string(), text);
            let json = serde_json::to_string(&toleration).unwrap();
            assert_eq!(serde_json::from_str::<Toleration>(&json).unwrap(), toleration);
        }
        for text in ["", ":refuse", "gpu", "gpu:keep", "a b:refuse", "a=b=c:refuse", "a-:refuse", "=x:refuse"]
        {
            assert!(text.parse::<Taint>().is_err(), "{text}");
        }
        for text in ["", "=v", "a b", "a=b:c", "a-"] {
            assert!(text.parse::<Toleration>().is_err(), "{text}");
        }
        for json in [r#"{"key":"","effect":"refuse"}"#, r#"{"key":"a","effect":"refuse","more":1}"#] {
            assert!(serde_json::from_str::<Taint>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn one_bears_what_it_names() {
        let taint: Taint = "gpu=train:refuse".parse().unwrap();
        let bears = |text: &str| text.parse::<Toleration>().unwrap().bears(&taint);
        assert!(bears("gpu") && bears("gpu=train") && !bears("gpu=") && !bears("gpu=show") && !bears("cpu"));
        let mut taints = BTreeSet::from([taint]);
        set_taint(&mut taints, "gpu=show:refuse".parse().unwrap());
        set_taint(&mut taints, "gpu=show:avoid".parse().unwrap());
        let all: Vec<String> = taints.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["gpu=show:refuse", "gpu=show:avoid"]);
        let all =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Toleration>>();
        let both = borne_by_both(&all(&["gpu", "a=1", "b"]), &all(&["gpu=train", "a=2", "b"]));
        assert_eq!(both, all(&["b", "gpu=train"]));
        let hard = [TaintEffect::Refuse, TaintEffect::Evict];
        assert_eq!(not_borne(&taints, &["gpu".parse().unwrap()], &hard), None);
        assert_eq!(not_borne(&taints, &["gpu=train".parse().unwrap()], &hard), taints.first());
    }
}
