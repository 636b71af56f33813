//! Sessions of people, invitations, and logins by code (RFC 8628), as they are stored; and when each is
//! good. The secrets are [`crate::token::api`]'s.

use crate::{
    TokenSecretHash,
    token::api::{KeyedToken, LinkToken},
};
use lattice_model::{Duration, Timestamp, TokenId, UserName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How long sessions last. No `Default`: somebody must choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Without a request.
    pub idle: Duration,
    /// At the most.
    pub absolute: Duration,
}

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// Whose; none: of whoever runs the server, which is said and never what is left out.
    #[serde(deserialize_with = "Option::deserialize")]
    pub user: Option<UserName>,
    /// What they signed in with, for people: the name of a computer.
    pub client: String,
    /// When they signed in.
    pub created: Timestamp,
    /// When it was used last, written down now and then.
    pub used: Timestamp,
    /// The first instant at which it is of no use.
    pub expires: Timestamp,
}

impl SessionRecord {
    /// Whether it is still good. `used` is the last use that memory knows of, later than the one written down.
    pub fn good(&self, policy: SessionPolicy, used: Option<Timestamp>, now: Timestamp) -> bool {
        let used = used.map_or(self.used, |used| used.max(self.used));
        now < self.expires && now.since(used) < policy.idle
    }
}

/// An invitation as stored: whoever has it sets the user's password, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// Whose password it sets.
    pub user: UserName,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created: Timestamp,
    /// The first instant at which it is of no use.
    pub expires: Timestamp,
}

impl InviteRecord {
    /// Whether a token is this one's, and in time.
    pub fn admits<K: crate::TokenKind>(&self, token: &KeyedToken<K>, now: Timestamp) -> bool {
        token.id() == self.id && token.is(&self.hash) && now < self.expires
    }
}

/// A link to the console as stored: whoever opens it in time is signed in, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// As whom; none: as whoever runs the server.
    #[serde(deserialize_with = "Option::deserialize")]
    pub user: Option<UserName>,
    /// The first instant at which it is of no use.
    pub expires: Timestamp,
}

impl LinkRecord {
    /// Whether a token is this one's, and in time.
    pub fn admits(&self, token: &LinkToken, now: Timestamp) -> bool {
        token.id() == self.id && token.is(&self.hash) && now < self.expires
    }
}

/// What a person reads on one machine and types on another: eight letters, `BCDF-GHJK`.
///
/// Consonants alone, so that no word comes out (RFC 8628, 6.1); 20^8 are 2.6e10 codes, guessed at a bounded
/// rate, by people who are known, within ten minutes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserCode(String);

const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

impl UserCode {
    /// Makes one of random bits.
    pub fn from_random(mut bits: u128) -> Self {
        let mut letter = || {
            let letter = LETTERS[(bits % 20) as usize] as char;
            bits /= 20;
            letter
        };
        let mut half = || -> String { std::iter::repeat_with(&mut letter).take(4).collect() };
        let (first, second) = (half(), half());
        Self(format!("{first}-{second}"))
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(…)")
    }
}

impl FromStr for UserCode {
    type Err = crate::IdentityError;

    /// Reads what people type: any case, with or without the dash, blanks anywhere.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || crate::IdentityError::not_a("a login code", text, "BCDF-GHJK");
        let letters: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_uppercase())
            .take(9)
            .collect();
        let known = |c: char| u8::try_from(c).is_ok_and(|c| LETTERS.contains(&c));
        if letters.chars().count() != 8 || !letters.chars().all(known) {
            return Err(wrong());
        }
        Ok(Self(format!("{}-{}", &letters[..4], &letters[4..])))
    }
}

/// A login by code as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its id, which the device's secret carries.
    pub id: TokenId,
    /// Of that secret.
    pub hash: TokenSecretHash,
    /// What the person types.
    pub code: UserCode,
    /// What asks, for people: the name of a computer, as it says itself.
    pub client: String,
    /// Where it asked from.
    pub address: String,
    /// When.
    pub created: Timestamp,
    /// The first instant at which it is of no use.
    pub expires: Timestamp,
    /// What came of it.
    pub answer: DeviceAnswer,
}

/// What came of a login by code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceAnswer {
    /// Nobody has said anything yet.
    Pending,
    /// This user signed it in.
    Approved(UserName),
    /// Somebody turned it away.
    Denied,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InviteToken, TokenSecret};
    use proptest::prelude::*;

    #[test]
    fn sessions_end_by_rest_and_by_age() {
        let policy = SessionPolicy { idle: Duration(100), absolute: Duration(1000) };
        let id = TokenId::from_random(1);
        let session = SessionRecord {
            id,
            hash: TokenSecret::from_bytes([1; 32]).hash(id),
            user: Some("ada".parse().unwrap()),
            client: "laptop".into(),
            created: Timestamp(0),
            used: Timestamp(0),
            expires: Timestamp(1000),
        };
        let good = |used: Option<i64>, now| session.good(policy, used.map(Timestamp), Timestamp(now));
        assert!(good(None, 99) && !good(None, 100));
        assert!(good(Some(950), 999) && !good(Some(999), 1000));
        assert!(good(Some(-5), 99), "memory that was lost takes nothing away");
        let mut row = serde_json::to_value(&session).unwrap();
        row.as_object_mut().unwrap().remove("user");
        assert!(serde_json::from_value::<SessionRecord>(row).is_err(), "nobody in particular is no admin");
    }

    #[test]
    fn an_invitation_is_for_its_token_and_its_time() {
        let (id, secret) = (TokenId::from_random(1), TokenSecret::from_bytes([1; 32]));
        let invite = InviteRecord {
            id,
            hash: secret.hash(id),
            user: "ada".parse().unwrap(),
            created_by: "local".into(),
            created: Timestamp(0),
            expires: Timestamp(10),
        };
        let token = InviteToken::new(id, secret);
        assert!(invite.admits(&token, Timestamp(9)) && !invite.admits(&token, Timestamp(10)));
        assert!(!invite.admits(&InviteToken::new(id, TokenSecret::from_bytes([2; 32])), Timestamp(0)));
    }

    #[test]
    fn a_link_is_for_its_token_and_its_time() {
        let (id, secret) = (TokenId::from_random(1), TokenSecret::from_bytes([1; 32]));
        let link = LinkRecord { id, hash: secret.hash(id), user: None, expires: Timestamp(10) };
        let token = LinkToken::new(id, secret);
        assert!(link.admits(&token, Timestamp(9)) && !link.admits(&token, Timestamp(10)));
        assert!(!link.admits(&LinkToken::new(id, TokenSecret::from_bytes([2; 32])), Timestamp(0)));
    }

    proptest! {
        #[test]
        fn codes_are_read_however_they_are_typed(bits: u128) {
            let code = UserCode::from_random(bits);
            let text = code.to_string();
            prop_assert_eq!(text.len(), 9);
            for typed in [text.clone(), text.to_lowercase(), text.replace('-', ""), format!(" {} ", text.replace('-', " "))] {
                prop_assert_eq!(&typed.parse::<UserCode>().unwrap(), &code);
            }
            prop_assert!(text[..8].parse::<UserCode>().is_err());
            prop_assert!([text.as_str(), "B"].concat().parse::<UserCode>().is_err());
            prop_assert!(text.replace(&text[..1], "A").parse::<UserCode>().is_err());
        }
    }
}
