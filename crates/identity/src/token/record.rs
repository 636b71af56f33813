//! What the server stores about a join token, and who is admitted by it. Pure decisions.

use super::{TokenSecret, TokenSecretHash};
use crate::{Fingerprint, IdentityError};
use lattice_model::{OwnerName, PoolName, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// A range of addresses, e.g. `192.168.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether an address lies in it. An IPv4 address that came as IPv6 (`::ffff:…`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u64::from(base.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                base.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::not_a("a range of addresses", text, "192.168.0.0/16");
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { base, bits })
    }
}

impl TryFrom<String> for Cidr {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

/// When a node is approved without a person. Every field that is set must hold; with none set, the token alone
/// suffices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoApprove {
    /// The node's address lies in one of these; empty: any address.
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// The node names this owner; none: any owner.
    #[serde(default)]
    pub owner: Option<OwnerName>,
}

impl AutoApprove {
    /// Whether the rule approves a node seen at `address` that names `owner`.
    pub fn approves(&self, address: IpAddr, owner: Option<&OwnerName>) -> bool {
        let Self { addresses, owner: wanted } = self;
        (addresses.is_empty() || addresses.iter().any(|range| range.contains(address)))
            && wanted.as_ref().is_none_or(|wanted| Some(wanted) == owner)
    }
}

/// What a token allows. No `Default`: somebody must choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPolicy {
    /// The pool that nodes join.
    pub pool: PoolName,
    /// How many nodes may join; none: any number.
    pub uses: Option<u32>,
    /// The first instant at which it is of no use; none: never.
    pub expires: Option<Timestamp>,
    /// The rule of approval; none: a person approves each node.
    pub auto_approve: Option<AutoApprove>,
}

impl TokenPolicy {
    /// Whether such a token may stand on a command line, where other users of the machine can read it:
    /// single use, at most an hour, approval by hand.
    pub fn fits_command_line(&self, now: Timestamp) -> bool {
        let Self { pool: _, uses, expires, auto_approve } = self;
        *uses == Some(1)
            && expires.is_some_and(|expires| expires.since(now).0 <= 3_600_000)
            && auto_approve.is_none()
    }
}

/// A join token as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// What it allows.
    pub policy: TokenPolicy,
    /// How many nodes have joined by it.
    pub used: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
}

/// What an agent presents: the token without its addresses.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Which token.
    pub id: TokenId,
    /// Its secret.
    pub secret: TokenSecret,
    /// The root that the token names.
    pub root: Fingerprint,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenRefused {
    /// No such token here.
    #[error(
        "this server does not know the token; it was deleted, or made before the store was restored. Make a new one with `lattice token create`"
    )]
    Unknown,
    /// The id exists, the secret is wrong.
    #[error(
        "the token was altered: its secret is not the one that was given out. Copy it again, or make a new one with `lattice token create`"
    )]
    Forged,
    /// All uses are spent.
    #[error("the token has been used as often as it allows. Make a new one with `lattice token create`")]
    UsedUp,
    /// Its time is over.
    #[error("the token has expired. Make a new one with `lattice token create`, longer with --ttl")]
    Expired,
    /// A person revoked it.
    #[error("the token has been revoked. Ask the operator for another one")]
    Revoked,
    /// It is of another cluster.
    #[error(
        "the token belongs to another cluster: it names another root certificate than this server's. Take a token that this cluster made"
    )]
    Foreign,
}

impl TokenRefused {
    /// A stable word for the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "token_unknown",
            Self::Forged => "token_forged",
            Self::UsedUp => "token_used_up",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::Foreign => "token_foreign",
        }
    }
}

impl TokenRecord {
    /// Judges what an agent presents, given the record under its id, if there is one.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub fn judge(
        record: Option<&Self>,
        presented: &Presented,
        our_root: &Fingerprint,
        now: Timestamp,
    ) -> Result<(), TokenRefused> {
        if presented.root != *our_root {
            return Err(TokenRefused::Foreign);
        }
        let record = record.filter(|record| record.id == presented.id).ok_or(TokenRefused::Unknown)?;
        record.admit(&presented.secret, now)
    }

    /// Whether one more node may join. The caller stores [`TokenRecord::spent`] in the transaction that
    /// creates the node; a node whose key is known already spends nothing when it repeats itself.
    ///
    /// # Errors
    /// [`TokenRefused`]; the secret is judged first, so that only who has it learns the state.
    pub fn admit(&self, presented: &TokenSecret, now: Timestamp) -> Result<(), TokenRefused> {
        let Self { id, hash, policy, used, created: _, created_by: _, revoked } = self;
        if presented.hash(*id) != *hash {
            return Err(TokenRefused::Forged);
        }
        if revoked.is_some() {
            return Err(TokenRefused::Revoked);
        }
        if policy.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenRefused::Expired);
        }
        if policy.uses.is_some_and(|uses| *used >= uses) {
            return Err(TokenRefused::UsedUp);
        }
        Ok(())
    }

    /// The record after one more use.
    #[must_use]
    pub fn spent(&self) -> Self {
        Self { used: self.used.saturating_add(1), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(uses: Option<u32>, expires: Option<i64>) -> (TokenRecord, Presented) {
        let (id, secret) = (TokenId::from_random(1), TokenSecret::from_bytes([5; 32]));
        let policy = TokenPolicy {
            pool: PoolName::new("home").unwrap(),
            uses,
            expires: expires.map(Timestamp),
            auto_approve: None,
        };
        let record = TokenRecord {
            id,
            hash: secret.hash(id),
            policy,
            used: 0,
            created: Timestamp(0),
            created_by: "ada".to_owned(),
            revoked: None,
        };
        (record, Presented { id, secret, root: Fingerprint::of(b"root") })
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let root = Fingerprint::of(b"root");
        let (record, presented) = record(Some(2), Some(100));
        let judge = |record: &TokenRecord, presented: &Presented, now| {
            TokenRecord::judge(Some(record), presented, &root, Timestamp(now))
        };
        assert_eq!(judge(&record, &presented, 99), Ok(()));
        assert_eq!(judge(&record, &presented, 100), Err(TokenRefused::Expired));
        assert_eq!(judge(&record.spent(), &presented, 0), Ok(()));
        assert_eq!(judge(&record.spent().spent(), &presented, 0), Err(TokenRefused::UsedUp));
        let revoked = TokenRecord { revoked: Some(Timestamp(1)), ..record.clone() };
        assert_eq!(judge(&revoked, &presented, 0), Err(TokenRefused::Revoked));
        let foreign = Presented { root: Fingerprint::of(b"other"), ..presented.clone() };
        assert_eq!(judge(&record, &foreign, 0), Err(TokenRefused::Foreign));
        let forged = Presented { secret: TokenSecret::from_bytes([6; 32]), ..presented.clone() };
        assert_eq!(judge(&record, &forged, 0), Err(TokenRefused::Forged));
        assert_eq!(
            judge(&revoked, &forged, 200),
            Err(TokenRefused::Forged),
            "the state is not told to a forger"
        );
        assert_eq!(TokenRecord::judge(None, &presented, &root, Timestamp(0)), Err(TokenRefused::Unknown));
        let other = Presented { id: TokenId::from_random(2), ..presented };
        assert_eq!(judge(&record, &other, 0), Err(TokenRefused::Unknown));
    }

    #[test]
    fn a_record_survives_the_store_without_the_secret() {
        let (record, presented) = record(None, None);
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains(&hex::encode(presented.secret.expose())));
        let back: TokenRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.admit(&presented.secret, Timestamp(i64::MAX)), Ok(()));
    }

    #[test]
    fn rules_hold_in_all_their_parts() {
        let owner = OwnerName::new("ada").unwrap();
        let home: IpAddr = "192.168.1.7".parse().unwrap();
        let rule = AutoApprove {
            addresses: vec!["192.168.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            owner: Some(owner.clone()),
        };
        assert!(rule.approves(home, Some(&owner)));
        assert!(rule.approves("::ffff:192.168.1.7".parse().unwrap(), Some(&owner)));
        assert!(rule.approves("fd12::1".parse().unwrap(), Some(&owner)));
        assert!(!rule.approves("192.169.0.1".parse().unwrap(), Some(&owner)));
        assert!(!rule.approves(home, None));
        assert!(AutoApprove { addresses: vec![], owner: None }.approves(home, None));
        for text in ["1.2.3.4/33", "::/129", "x/8", "1.2.3.4/", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains(home));
        assert!("::/0".parse::<Cidr>().unwrap().contains("fd12::1".parse().unwrap()));
        let (short, _) = record(Some(1), Some(60_000));
        assert!(short.policy.fits_command_line(Timestamp(0)));
        assert!(!record(Some(2), Some(60_000)).0.policy.fits_command_line(Timestamp(0)));
    }

    proptest! {
        #[test]
        fn a_range_contains_its_neighbours_exactly(base: u32, bits in 0u8..=32, other: u32) {
            let range: Cidr = format!("{}/{bits}", std::net::Ipv4Addr::from(base)).parse().unwrap();
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let inside = range.contains(IpAddr::V4(other.into()));
            prop_assert_eq!(inside, base & mask == other & mask);
            prop_assert_eq!(range.to_string().parse::<Cidr>().unwrap(), range);
        }
    }
}
