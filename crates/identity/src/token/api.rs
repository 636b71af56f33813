//! API tokens: how people's tools and programs authenticate to the REST API (`lap1_…`).
//!
//! Payload: `token id (16) | secret (32)`. Stored hashed, like join tokens.

use super::{
    TokenParseError, TokenRefused, TokenSecret, TokenSecretHash,
    envelope::{self, Reader},
};
use lattice_model::{ProjectName, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

const PREFIX: &str = "lap1_";

/// An API token. `Debug` leaves the secret out; [`ApiToken::reveal`] is the token itself.
#[derive(Clone)]
pub struct ApiToken {
    id: TokenId,
    secret: TokenSecret,
}

impl ApiToken {
    /// Puts one together; the caller stores an [`ApiTokenRecord`] with the secret's hash.
    pub fn new(id: TokenId, secret: TokenSecret) -> Self {
        Self { id, secret }
    }

    /// Reads a token; white space around it does not matter.
    ///
    /// # Errors
    /// [`TokenParseError`].
    pub fn parse(text: &str) -> Result<Self, TokenParseError> {
        let payload = envelope::decode("an API token", PREFIX, text)?;
        let mut reader = Reader(&payload);
        let token = Self { id: reader.token_id()?, secret: TokenSecret::from_bytes(reader.array()?) };
        reader.end()?;
        Ok(token)
    }

    /// The token as the person keeps it. **A secret.**
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new(Vec::with_capacity(48));
        payload.extend_from_slice(self.id.uuid().as_bytes());
        payload.extend_from_slice(self.secret.expose());
        envelope::encode(PREFIX, &payload)
    }

    /// Names the token's record.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The secret.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({})", self.id)
    }
}

/// What an API token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiScope {
    /// Reading alone.
    ReadOnly,
    /// Everything that its project allows; everything at all without one.
    Full,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It changes nothing.
    Read,
    /// It changes something, or shows a secret.
    Write,
}

/// An API token as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiTokenRecord {
    /// Its id, which the token carries.
    pub id: TokenId,
    /// Of its secret.
    pub hash: TokenSecretHash,
    /// For people: whose, or what for.
    pub name: String,
    /// What it allows.
    pub scope: ApiScope,
    /// The one project that it is for; none: the whole cluster.
    pub project: Option<ProjectName>,
    /// When it was made.
    pub created: Timestamp,
    /// The first instant at which it is of no use; none: never.
    pub expires: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
}

impl ApiTokenRecord {
    /// Whether the presented token is this one and still good.
    ///
    /// # Errors
    /// [`TokenRefused`]; the secret is judged first.
    pub fn admit(&self, presented: &ApiToken, now: Timestamp) -> Result<(), TokenRefused> {
        let Self { id, hash, name: _, scope: _, project: _, created: _, expires, revoked } = self;
        if presented.id != *id {
            return Err(TokenRefused::Unknown);
        }
        if presented.secret.hash(*id) != *hash {
            return Err(TokenRefused::Forged);
        }
        if revoked.is_some() {
            return Err(TokenRefused::Revoked);
        }
        if expires.is_some_and(|expires| now >= expires) {
            return Err(TokenRefused::Expired);
        }
        Ok(())
    }

    /// Whether it allows a request about `project`; `None` is about the cluster as a whole (nodes, tokens,
    /// pools), which a token of one project may not touch.
    ///
    /// # Errors
    /// [`TokenRefused::NotAllowed`].
    pub fn allow(&self, access: Access, project: Option<&ProjectName>) -> Result<(), TokenRefused> {
        let scope = self.scope == ApiScope::Full || access == Access::Read;
        let within = self.project.as_ref().is_none_or(|own| Some(own) == project);
        if scope && within { Ok(()) } else { Err(TokenRefused::NotAllowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(token: &ApiToken, scope: ApiScope, project: Option<&str>) -> ApiTokenRecord {
        ApiTokenRecord {
            id: token.id(),
            hash: token.secret().hash(token.id()),
            name: "ci".to_owned(),
            scope,
            project: project.map(|name| ProjectName::new(name).unwrap()),
            created: Timestamp(0),
            expires: Some(Timestamp(100)),
            revoked: None,
        }
    }

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
        }
    }

    #[test]
    fn admits_and_allows_by_record() {
        let token = ApiToken::new(TokenId::from_random(1), TokenSecret::from_bytes([1; 32]));
        let full = record(&token, ApiScope::Full, None);
        assert_eq!(full.admit(&token, Timestamp(99)), Ok(()));
        assert_eq!(full.admit(&token, Timestamp(100)), Err(TokenRefused::Expired));
        let forged = ApiToken::new(token.id(), TokenSecret::from_bytes([2; 32]));
        assert_eq!(full.admit(&forged, Timestamp(0)), Err(TokenRefused::Forged));
        let other = ApiToken::new(TokenId::from_random(2), token.secret().clone());
        assert_eq!(full.admit(&other, Timestamp(0)), Err(TokenRefused::Unknown));
        let revoked = ApiTokenRecord { revoked: Some(Timestamp(5)), ..full.clone() };
        assert_eq!(revoked.admit(&token, Timestamp(0)), Err(TokenRefused::Revoked));

        let (shop, blog) = (ProjectName::new("shop").unwrap(), ProjectName::new("blog").unwrap());
        assert_eq!(full.allow(Access::Write, None), Ok(()));
        let reader = record(&token, ApiScope::ReadOnly, Some("shop"));
        assert_eq!(reader.allow(Access::Read, Some(&shop)), Ok(()));
        for (access, project) in
            [(Access::Write, Some(&shop)), (Access::Read, Some(&blog)), (Access::Read, None)]
        {
            assert_eq!(reader.allow(access, project), Err(TokenRefused::NotAllowed));
        }
    }
}
