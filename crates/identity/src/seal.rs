//! Secrets at rest: sealed under a master key that lives outside the database.
//!
//! Format: `version (1) | key id (8) | nonce (24) | XChaCha20-Poly1305 ciphertext and tag`. Version,
//! key id and the caller's context are authenticated with it, so a sealed value that is moved to
//! another row does not open. The key id makes rotation possible: whoever holds the older key can
//! see which values still need it ([`MasterKey::sealed_by`]). A random 24-byte nonce needs no
//! counter; AES-GCM with its 12 bytes would.

use crate::{IdentityError, keyfile, pki};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use std::{fmt, path::Path};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 24;
const HEADER: usize = 1 + 8 + NONCE;
const FILE_PREFIX: &str = "lmk1";

/// Names a master key without telling it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The 32 bytes under which a server seals what it stores. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<[u8; 32]>,
    id: KeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self::from_bytes(pki::random()?))
    }

    /// Wraps key material.
    pub fn from_bytes(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        let digest: [u8; 32] =
            Sha256::new().chain_update(b"lattice master key id v1").chain_update(*key).finalize().into();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self { key, id: KeyId(id) }
    }

    /// Reads the key from a file of mode 0600, or makes one. The file is one line,
    /// `lmk1 <key id> <key>` in hexadecimal, so that a damaged one is told from another one.
    ///
    /// # Errors
    /// As [`keyfile::load_or_create`]; [`IdentityError::DamagedKeyFile`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let text = keyfile::load_or_create(path, || Ok(Self::generate()?.line()))?;
        let damaged = |problem| IdentityError::DamagedKeyFile { path: path.to_owned(), problem };
        let text = std::str::from_utf8(&text).map_err(|_| damaged("it is not text"))?;
        Self::parse(text).map_err(damaged)
    }

    /// Its line in a file.
    pub(crate) fn line(&self) -> Zeroizing<Vec<u8>> {
        let digits = Zeroizing::new(hex::encode(*self.key));
        let mut line = Zeroizing::new(Vec::with_capacity(128));
        for part in [FILE_PREFIX, " ", &self.id.to_string(), " ", &digits, "\n"] {
            line.extend_from_slice(part.as_bytes());
        }
        line
    }

    /// Reads [`MasterKey::line`], or says what is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (Some(FILE_PREFIX), Some(id), Some(digits), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("it is not a master key of a known version");
        };
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, key.as_mut_slice()).map_err(|_| "the key is not 64 digits")?;
        let loaded = Self::from_bytes(*key);
        if loaded.id.to_string() != id {
            return Err("its checksum is wrong");
        }
        Ok(loaded)
    }

    /// Which key this is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Seals a secret for one place; `context` names the place, e.g. `secret/<project>/<name>`.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let nonce = pki::random::<NONCE>()?;
        let mut sealed = Vec::with_capacity(HEADER + plaintext.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&nonce);
        let aad = self.aad(context);
        let ciphertext = XChaCha20Poly1305::new((&*self.key).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: &aad })
            // Only a plaintext beyond 256 GiB fails.
            .map_err(|_| IdentityError::NotSealed)?;
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] made for the same place.
    ///
    /// # Errors
    /// [`IdentityError::NotSealed`], [`IdentityError::OtherMasterKey`], [`IdentityError::SealBroken`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let wanted = Self::sealed_by(sealed).ok_or(IdentityError::NotSealed)?;
        if wanted != self.id {
            return Err(IdentityError::OtherMasterKey { wanted, present: self.id });
        }
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&sealed[9..HEADER]);
        XChaCha20Poly1305::new((&*self.key).into())
            .decrypt(&XNonce::from(nonce), Payload { msg: &sealed[HEADER..], aad: &self.aad(context) })
            .map(Zeroizing::new)
            .map_err(|_| IdentityError::SealBroken { context: context.chars().take(200).collect() })
    }

    /// Which key sealed this; `None` when it is not sealed data of a known version.
    pub fn sealed_by(sealed: &[u8]) -> Option<KeyId> {
        if sealed.len() < HEADER + 16 || sealed[0] != VERSION {
            return None;
        }
        let mut id = [0; 8];
        id.copy_from_slice(&sealed[1..9]);
        Some(KeyId(id))
    }

    /// A key for another purpose, e.g. [`crate::ChallengeKey`]: HMAC-SHA-256 of the purpose. The
    /// same on every start, and telling nothing of the master key.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*self.key);
        let tag = ring::hmac::sign(&key, format!("lattice derived key v1\0{purpose}").as_bytes());
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(tag.as_ref());
        derived
    }

    fn aad(&self, context: &str) -> Vec<u8> {
        let mut aad = vec![VERSION];
        aad.extend_from_slice(&self.id.0);
        aad.extend_from_slice(context.as_bytes());
        aad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn opens_only_unaltered_under_the_same_key_and_context(
            plain in prop::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>(),
        ) {
            let key = MasterKey::from_bytes([7; 32]);
            let sealed = key.seal("secret/a", &plain).unwrap();
            prop_assert_eq!(&*key.open("secret/a", &sealed).unwrap(), &plain);
            prop_assert!(matches!(key.open("secret/b", &sealed), Err(IdentityError::SealBroken { .. })), "moved");
            let other = MasterKey::from_bytes([8; 32]);
            prop_assert!(matches!(other.open("secret/a", &sealed), Err(IdentityError::OtherMasterKey { .. })), "other key");
            let mut altered = sealed.clone();
            let bit = bit.index(altered.len() * 8);
            altered[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key.open("secret/a", &altered).is_err());
            prop_assert!(key.open("secret/a", &sealed[..sealed.len() - 1]).is_err());
        }

        #[test]
        fn opening_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(MasterKey::from_bytes([7; 32]).open("x", &noise).is_err());
        }
    }

    #[test]
    fn the_file_gives_the_same_key_again_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let key = MasterKey::load_or_create(&path).unwrap();
        let sealed = key.seal("x", b"secret").unwrap();
        assert_eq!(*MasterKey::load_or_create(&path).unwrap().open("x", &sealed).unwrap(), b"secret");
        assert!(!format!("{key:?}").contains(&hex::encode(*key.key)));
        assert_ne!(*key.derive("a"), *key.derive("b"));
        let text = std::fs::read_to_string(&path).unwrap();
        let flipped = if text.ends_with("0\n") { "1\n" } else { "0\n" };
        keyfile::replace(&path, format!("{}{flipped}", &text[..text.len() - 2]).as_bytes()).unwrap();
        let error = MasterKey::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
