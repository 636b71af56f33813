//! Passwords: argon2id, 19 MiB, two passes, one lane, as OWASP's Password Storage Cheat Sheet asks for.
//!
//! Hashing takes [`MEMORY_KIB`] of memory for tens of milliseconds, so a caller bounds how many run at
//! the same time. Stored as a PHC string, which carries its parameters: hashes made with other ones go
//! on to be good. Rejected: rules about digits and symbols, which make passwords worse (NIST SP 800-63B);
//! length is what counts.

use crate::IdentityError;
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::OnceLock};
use zeroize::Zeroizing;

/// Memory of one hashing, in KiB.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
pub const PASSES: u32 = 2;
/// The shortest password, in characters.
pub const MIN_CHARS: usize = 12;
/// The longest, in bytes: nobody types more, and hashing reads all of it.
pub const MAX_BYTES: usize = 1024;

/// A password as somebody typed it, wiped when dropped. Never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Wraps what was typed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Whether it may become a user's password.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, user: &str) -> Result<(), &'static str> {
        let chars = self.0.chars().count();
        if self.0.len() > MAX_BYTES {
            return Err("it has more than 1024 bytes");
        }
        if chars < MIN_CHARS {
            return Err("it has fewer than 12 characters; several words make a good one");
        }
        let first = self.0.chars().next();
        if self.0.chars().all(|c| Some(c) == first) {
            return Err("it is one character again and again");
        }
        if self.0.trim().eq_ignore_ascii_case(user) {
            return Err("it is the user's name");
        }
        Ok(())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A password's hash as stored, a PHC string. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

fn hasher() -> Result<Argon2<'static>, IdentityError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|_| IdentityError::Hashing)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl PasswordHash {
    /// Hashes with a fresh salt. Slow by intention.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`] or [`IdentityError::Hashing`].
    pub fn make(password: &Password) -> Result<Self, IdentityError> {
        let salt = crate::pki::random::<16>()?;
        let hash = hasher()?
            .hash_password_with_salt(password.0.as_bytes(), &salt)
            .map_err(|_| IdentityError::Hashing)?;
        Ok(Self(hash.to_string()))
    }

    /// Whether a password is this one's, in constant time. `None`, for somebody who does not exist or has
    /// no password, takes as long and is never right. Slow by intention.
    pub fn verify(stored: Option<&Self>, password: &Password) -> bool {
        static DECOY: OnceLock<Option<PasswordHash>> = OnceLock::new();
        if password.0.len() > MAX_BYTES {
            return false;
        }
        let hash = stored.or_else(|| {
            DECOY.get_or_init(|| Self::make(&Password::new("nobody has this password")).ok()).as_ref()
        });
        let right = hash.is_some_and(|hash| {
            hasher()
                .is_ok_and(|hasher| hasher.verify_password(password.0.as_bytes(), hash.0.as_str()).is_ok())
        });
        right && stored.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let right = Password::new("correct horse battery staple");
        let hash = PasswordHash::make(&right).unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(PasswordHash::verify(Some(&hash), &right));
        assert!(!PasswordHash::verify(Some(&hash), &Password::new("correct horse battery stapler")));
        assert_ne!(PasswordHash::make(&right).unwrap(), hash, "salted");
        // Nobody's password is right, not even the decoy's.
        assert!(!PasswordHash::verify(None, &Password::new("nobody has this password")));
        assert!(!PasswordHash::verify(Some(&PasswordHash("damaged".into())), &right));
        assert!(!PasswordHash::verify(Some(&hash), &Password::new("x".repeat(MAX_BYTES + 1))));
        let shown = format!("{hash:?} {right:?}");
        assert!(!shown.contains("argon2id") && !shown.contains("horse"));
    }

    #[test]
    fn length_is_what_counts() {
        for (text, good) in [
            ("correct horse", true),
            ("twelve chars", true),
            ("eleven char", false),
            ("aaaaaaaaaaaaaaaa", false),
            ("Ada.Lovelace.1815", false),
            ("ünïcödé wörds", true),
        ] {
            assert_eq!(Password::new(text).check("ada.lovelace.1815").is_ok(), good, "{text}");
        }
        assert!(Password::new("xy".repeat(513)).check("ada").is_err());
    }
}
