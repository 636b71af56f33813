//! The keys outside the database, and envelopes: what a server stores is sealed by a key of its own
//! (a data key), and that one is wrapped by a key of the [`KeyRing`]. To go over to a new key only the
//! data keys are wrapped anew; the values stay as they are.
//!
//! A ring is a file of one line for each key, the first of which seals and all of which open; the
//! file of a single [`MasterKey`] is one. Going over has three steps, each of which may be the last
//! before a crash: 1. the new key is put in front, durably; 2. what older keys wrap is wrapped anew, in
//! pieces of any size; 3. when nothing needs the older keys any more, they are taken out.

use crate::{IdentityError, KeyId, MasterKey, keyfile};
use std::path::Path;
use zeroize::Zeroizing;

/// The most keys of a ring: more than two at a time are a rotation that never ends.
pub(crate) const MAX_KEYS: usize = 16;

/// The keys of a server; the newest first. Never empty.
#[derive(Clone)]
pub struct KeyRing {
    current: MasterKey,
    older: Vec<MasterKey>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

/// A value under a data key of its own, which a key of the ring wraps.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The data key, wrapped.
    pub key: Vec<u8>,
    /// The value, sealed by the data key.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} bytes)", self.value.len())
    }
}

impl KeyRing {
    /// A ring of one key.
    pub const fn of(key: MasterKey) -> Self {
        Self { current: key, older: Vec::new() }
    }

    /// Reads a ring from a file of mode 0600, or makes one with a new key.
    ///
    /// # Errors
    /// As [`keyfile::load_or_create`]; [`IdentityError::DamagedKeyFile`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let text = keyfile::load_or_create(path, || Ok(Self::of(MasterKey::generate()?).text()))?;
        Self::parse(&text, path)
    }

    /// Reads a ring from the text of a file, or of what stands in for one.
    ///
    /// # Errors
    /// [`IdentityError::DamagedKeyFile`] names `path`.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, IdentityError> {
        let damaged = |problem| IdentityError::DamagedKeyFile { path: path.to_owned(), problem };
        let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
        let mut keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut read = || keys.next().map(|line| MasterKey::parse(line).map_err(damaged)).transpose();
        let current = read()?.ok_or_else(|| damaged("it has no key"))?;
        let mut older = Vec::new();
        while let Some(key) = read()? {
            if older.len() + 1 >= MAX_KEYS {
                return Err(damaged("it has more than 16 keys"));
            }
            older.push(key);
        }
        Ok(Self { current, older })
    }

    /// As it is written down, for the file and for a backup.
    pub fn text(&self) -> Zeroizing<Vec<u8>> {
        // One allocation of the final size: growing would leave copies of the keys behind.
        let mut text = Zeroizing::new(Vec::with_capacity(128 * (self.older.len() + 1)));
        for key in self.keys() {
            text.extend_from_slice(&key.line());
        }
        text
    }

    /// Writes it down, durably: after a crash the file has the old ring or this one.
    ///
    /// # Errors
    /// [`IdentityError::KeyFile`].
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        keyfile::replace(path, &self.text())
    }

    /// The key that seals.
    pub const fn current(&self) -> &MasterKey {
        &self.current
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// The key that sealed this, or the newest, which then says what is missing.
    pub fn of_sealed(&self, sealed: &[u8]) -> &MasterKey {
        MasterKey::sealed_by(sealed).map_or(&self.current, |id| self.get(id).unwrap_or(&self.current))
    }

    /// A key by its id.
    pub fn get(&self, id: KeyId) -> Option<&MasterKey> {
        self.keys().find(|key| key.id() == id)
    }

    /// Whether whatever `other` opens opens here, too.
    pub fn covers(&self, other: &Self) -> bool {
        other.keys().all(|key| self.get(key.id()).is_some())
    }

    /// Whether older keys are kept.
    pub const fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// Step 1: the same with a new key in front.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`]; [`IdentityError::TooManyKeys`] where sixteen are kept already.
    pub fn with_new_key(&self) -> Result<Self, IdentityError> {
        if self.older.len() + 2 > MAX_KEYS {
            return Err(IdentityError::TooManyKeys);
        }
        Ok(Self { current: MasterKey::generate()?, older: self.keys().cloned().collect() })
    }

    /// Step 3: the newest key alone.
    #[must_use]
    pub fn without_older(&self) -> Self {
        Self::of(self.current.clone())
    }

    /// Opens what any key of the ring sealed.
    ///
    /// # Errors
    /// As [`MasterKey::open`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        self.of_sealed(sealed).open(context, sealed)
    }

    /// Seals a value under a new data key, for one place.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Envelope, IdentityError> {
        let bytes = Zeroizing::new(crate::pki::random::<32>()?);
        let data = MasterKey::from_bytes(*bytes);
        let key = self.current.seal(&key_context(context), bytes.as_slice())?;
        Ok(Envelope { key, value: data.seal(context, plaintext)? })
    }

    /// Opens what [`KeyRing::seal`] made for the same place.
    ///
    /// # Errors
    /// As [`MasterKey::open`].
    pub fn open_envelope(
        &self,
        context: &str,
        envelope: &Envelope,
    ) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        self.data_key(context, &envelope.key)?.open(context, &envelope.value)
    }

    fn data_key(&self, context: &str, wrapped: &[u8]) -> Result<MasterKey, IdentityError> {
        let bytes = self.open(&key_context(context), wrapped)?;
        let bytes: Zeroizing<[u8; 32]> =
            Zeroizing::new(bytes.as_slice().try_into().map_err(|_| IdentityError::NotSealed)?);
        Ok(MasterKey::from_bytes(*bytes))
    }

    /// Step 2, for one data key: wrapped by the newest key; nothing where it is already.
    ///
    /// # Errors
    /// As [`MasterKey::open`].
    pub fn rewrap(&self, context: &str, wrapped: &[u8]) -> Result<Option<Vec<u8>>, IdentityError> {
        if MasterKey::sealed_by(wrapped) == Some(self.current.id()) {
            return Ok(None);
        }
        let context = key_context(context);
        let bytes = self.open(&context, wrapped)?;
        self.current.seal(&context, &bytes).map(Some)
    }
}

/// A wrapped data key is good for its own place alone, and is no value.
fn key_context(context: &str) -> String {
    format!("data key/{context}")
}

/// Whether two secrets are the same, in a time that tells nothing of where they differ.
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rotation_may_stop_anywhere_and_everything_still_opens(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..8),
            rewrapped in 0usize..8,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("master.key");
            let ring = KeyRing::load_or_create(&path).unwrap();
            let context = |n: usize| format!("secret/a/{n}");
            let mut sealed: Vec<_> =
                values.iter().enumerate().map(|(n, value)| ring.seal(&context(n), value).unwrap()).collect();
            ring.with_new_key().unwrap().save(&path).unwrap();
            // Whoever starts after a crash reads the file.
            let ring = KeyRing::load_or_create(&path).unwrap();
            prop_assert!(ring.has_older() && ring.covers(&ring.without_older()));
            prop_assert!(!ring.without_older().covers(&ring));
            for (n, envelope) in sealed.iter_mut().enumerate().take(rewrapped) {
                let value = envelope.value.clone();
                envelope.key = ring.rewrap(&context(n), &envelope.key).unwrap().unwrap();
                prop_assert!(ring.rewrap(&context(n), &envelope.key).unwrap().is_none(), "once is enough");
                prop_assert_eq!(&value, &envelope.value, "the value stays as it is");
            }
            for (n, value) in values.iter().enumerate() {
                prop_assert_eq!(&*ring.open_envelope(&context(n), &sealed[n]).unwrap(), value);
                prop_assert!(ring.open_envelope(&context(n + 1), &sealed[n]).is_err(), "moved to another place");
            }
            ring.without_older().save(&path).unwrap();
            let ring = KeyRing::load_or_create(&path).unwrap();
            for (n, envelope) in sealed.iter().enumerate() {
                prop_assert_eq!(ring.open_envelope(&context(n), envelope).is_ok(), n < rewrapped, "the old key is gone");
            }
        }
    }

    #[test]
    fn the_file_of_one_key_is_a_ring_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let key = MasterKey::load_or_create(&path).unwrap();
        let ring = KeyRing::load_or_create(&path).unwrap();
        assert_eq!(ring.current().id(), key.id());
        let shown = format!("{ring:?}");
        assert!(
            !String::from_utf8_lossy(&ring.text())
                .split_whitespace()
                .nth(2)
                .is_none_or(|key| shown.contains(key))
        );
        assert_eq!(*ring.open("x", &key.seal("x", b"old").unwrap()).unwrap(), b"old");
        for text in ["", "\n\n", "lmk1 a b", "lmk2 0 0", "\u{0}"] {
            assert!(KeyRing::parse(text.as_bytes(), &path).is_err(), "{text:?}");
        }
        assert!(same_secret(b"a", b"a") && !same_secret(b"a", b"b") && !same_secret(b"a", b"aa"));
    }
}
