//! Tokens of people and programs: how they authenticate to the REST API.
//!
//! Payload: `token id (16) | secret (32)`, with a prefix for each kind: API tokens (`lap1_`) are made for
//! programs, session tokens (`las1_`) come from a login, invitations (`lai1_`) set a first password, device
//! secrets (`lad1_`) wait for a login elsewhere, links (`lac1_`) sign a browser in. All are stored hashed, like join tokens.

use super::{
    TokenParseError, TokenRefused, TokenSecret, TokenSecretHash,
    envelope::{self, Reader},
};
use lattice_model::{Binding, Place, ProjectName, Role, Timestamp, TokenId, UserName};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::{fmt, marker::PhantomData};
use zeroize::Zeroizing;

/// What kind of token it is.
pub trait TokenKind {
    /// How one begins.
    const PREFIX: &'static str;
    /// What people call one.
    const WHAT: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident = $prefix:literal, $what:literal;)+) => {$(
        #[doc = concat!("Kind of ", $what, ".")]
        #[derive(Clone, Copy, Debug)]
        pub struct $kind;

        impl TokenKind for $kind {
            const PREFIX: &'static str = $prefix;
            const WHAT: &'static str = $what;
        }

        $(#[$doc])*
        pub type $alias = KeyedToken<$kind>;
    )+};
}

kinds! {
    /// What a program authenticates with.
    ApiKind, ApiToken = "lap1_", "an API token";
    /// What a login gives.
    SessionKind, SessionToken = "las1_", "a session token";
    /// Sets a first or a new password, once.
    InviteKind, InviteToken = "lai1_", "an invitation";
    /// Asks whether a login by code was approved.
    DeviceKind, DeviceToken = "lad1_", "a device secret";
    /// Signs a browser in, once.
    LinkKind, LinkToken = "lac1_", "a link to the console";
}

/// An id with a secret. `Debug` leaves the secret out; [`KeyedToken::reveal`] is the token itself.
pub struct KeyedToken<K> {
    id: TokenId,
    secret: TokenSecret,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for KeyedToken<K> {
    fn clone(&self) -> Self {
        Self { id: self.id, secret: self.secret.clone(), kind: PhantomData }
    }
}

impl<K: TokenKind> KeyedToken<K> {
    /// Puts one together; the caller stores a record with the secret's hash.
    pub fn new(id: TokenId, secret: TokenSecret) -> Self {
        Self { id, secret, kind: PhantomData }
    }

    /// Reads a token; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenParseError`].
    pub fn parse(text: &str) -> Result<Self, TokenParseError> {
        let payload = envelope::decode(K::WHAT, K::PREFIX, text)?;
        let mut reader = Reader(&payload);
        let (id, secret) = (reader.token_id()?, TokenSecret::from_bytes(reader.array()?));
        reader.end()?;
        Ok(Self::new(id, secret))
    }

    /// Whether a text begins like one.
    pub fn looks_like(text: &str) -> bool {
        text.trim_start().starts_with(K::PREFIX)
    }

    /// The token as the person keeps it. **A secret.**
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new(Vec::with_capacity(48));
        payload.extend_from_slice(self.id.uuid().as_bytes());
        payload.extend_from_slice(self.secret.expose());
        envelope::encode(K::PREFIX, &payload)
    }

    /// Names the token's record.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The secret.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }

    /// Whether a stored hash is this secret's, in constant time.
    pub fn is(&self, hash: &TokenSecretHash) -> bool {
        self.secret.hash(self.id) == *hash
    }
}

/// What the keyed hash of a session's secret is for.
const CSRF: &[u8] = b"lattice csrf v1";

impl SessionToken {
    fn csrf_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose())
    }

    /// What a page shows beside the cookie, to prove that a request is its own: of the session alone, so that
    /// nothing more is stored, and no way back to the secret.
    pub fn csrf(&self) -> String {
        hex::encode(hmac::sign(&self.csrf_key(), CSRF))
    }

    /// Whether a text is that, in constant time.
    pub fn is_csrf(&self, shown: &str) -> bool {
        hex::decode(shown).is_ok_and(|tag| hmac::verify(&self.csrf_key(), CSRF, &tag).is_ok())
    }
}

impl<K: TokenKind> fmt::Debug for KeyedToken<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", K::WHAT, self.id)
    }
}

/// An API token as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct ApiTokenRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// For people: what for.
    pub name: String,
    /// What it allows, within what its owner may do at the time.
    pub roles: Vec<Binding>,
    /// The user that it belongs to; none: whoever runs the server.
    pub owner: Option<UserName>,
    /// When it was made.
    pub created: Timestamp,
    /// The first instant at which it is of no use; none: never.
    pub expires: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
}

/// The record as it is read: before roles there were scope and project.
#[derive(Deserialize)]
struct Stored {
    id: TokenId,
    hash: TokenSecretHash,
    name: String,
    roles: Option<Vec<Binding>>,
    #[serde(default)]
    owner: Option<UserName>,
    #[serde(default)]
    scope: Option<OldScope>,
    #[serde(default)]
    project: Option<ProjectName>,
    created: Timestamp,
    expires: Option<Timestamp>,
    revoked: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OldScope {
    ReadOnly,
    Full,
}

impl From<Stored> for ApiTokenRecord {
    fn from(stored: Stored) -> Self {
        let Stored { id, hash, name, roles, owner, scope, project, created, expires, revoked } = stored;
        let roles = roles.unwrap_or_else(|| {
            let role = match (scope, &project) {
                (Some(OldScope::Full), None) => Role::Admin,
                (Some(OldScope::Full), Some(_)) => Role::Developer,
                _ => Role::Viewer,
            };
            vec![Binding { role, place: project.map_or(Place::Cluster, Place::Project) }]
        });
        Self { id, hash, name, roles, owner, created, expires, revoked }
    }
}

impl ApiTokenRecord {
    /// Whether the presented token is this one and still good.
    ///
    /// # Errors
    /// [`TokenRefused`]; the secret is judged first.
    pub fn admit(&self, presented: &ApiToken, now: Timestamp) -> Result<(), TokenRefused> {
        if presented.id != self.id {
            return Err(TokenRefused::Unknown);
        }
        if !presented.is(&self.hash) {
            return Err(TokenRefused::Forged);
        }
        self.good(now)
    }

    /// Whether it is still good, whoever presents it.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub fn good(&self, now: Timestamp) -> Result<(), TokenRefused> {
        if self.revoked.is_some() {
            return Err(TokenRefused::Revoked);
        }
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenRefused::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was_and_altered_never(id: u128, seed: [u8; 32], at in 0usize..70, noise in ".{0,120}") {
            let token = ApiToken::new(TokenId::from_random(id), TokenSecret::from_bytes(seed));
            let text = token.reveal();
            let back = ApiToken::parse(&text).unwrap();
            prop_assert_eq!(back.id(), token.id());
            prop_assert_eq!(back.secret().expose(), token.secret().expose());
            prop_assert!(ApiToken::parse(&noise).is_err());
            let other = if text[at..].starts_with('A') { 'B' } else { 'A' };
            let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            prop_assert!(ApiToken::parse(&altered).is_err());
            prop_assert!(!format!("{token:?}").contains(&text[30..60]), "shown");
            // A token of one kind is none of another, whatever its prefix says.
            prop_assert!(SessionToken::parse(&text).is_err());
            prop_assert!(SessionToken::parse(&text.replacen("lap1_", "las1_", 1)).is_err());
        }
    }

    #[test]
    fn admits_by_record() {
        let token = ApiToken::new(TokenId::from_random(1), TokenSecret::from_bytes([1; 32]));
        let record = ApiTokenRecord {
            id: token.id(),
            hash: token.secret().hash(token.id()),
            name: "ci".to_owned(),
            roles: vec!["developer@project/shop".parse().unwrap()],
            owner: Some("ada".parse().unwrap()),
            created: Timestamp(0),
            expires: Some(Timestamp(100)),
            revoked: None,
        };
        assert_eq!(record.admit(&token, Timestamp(99)), Ok(()));
        assert_eq!(record.admit(&token, Timestamp(100)), Err(TokenRefused::Expired));
        let forged = ApiToken::new(token.id(), TokenSecret::from_bytes([2; 32]));
        assert_eq!(record.admit(&forged, Timestamp(0)), Err(TokenRefused::Forged));
        let other = ApiToken::new(TokenId::from_random(2), token.secret().clone());
        assert_eq!(record.admit(&other, Timestamp(0)), Err(TokenRefused::Unknown));
        let revoked = ApiTokenRecord { revoked: Some(Timestamp(5)), ..record.clone() };
        assert_eq!(revoked.admit(&token, Timestamp(0)), Err(TokenRefused::Revoked));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ApiTokenRecord>(&text).unwrap(), record);
    }

    #[test]
    fn tokens_of_older_stores_keep_what_they_could() {
        for (scope, project, role) in [
            ("full", None, "admin"),
            ("read-only", None, "viewer"),
            ("full", Some("shop"), "developer@project/shop"),
            ("read-only", Some("shop"), "viewer@project/shop"),
        ] {
            let old = serde_json::json!({
                "id": TokenId::from_random(1), "hash": "00".repeat(32), "name": "ci", "scope": scope, "project": project,
                "created": 0, "expires": null, "revoked": null,
            });
            let record: ApiTokenRecord = serde_json::from_value(old).unwrap();
            assert_eq!(record.roles, [role.parse().unwrap()]);
            assert_eq!(record.owner, None);
        }
    }
}
