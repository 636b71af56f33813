//! The key that an agent makes for itself and never gives away: P-256, in a PEM file of mode 0600.
//!
//! It does three things: it signs the certificate request, it authenticates the node's end of
//! mTLS, and it proves the node after its certificate has ended ([`crate::challenge`]). Signatures
//! made here carry a context, so that none can be taken for another, nor for one that TLS made.

use crate::{Fingerprint, IdentityError, keyfile};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PublicKeyData, SigningKey, SubjectPublicKeyInfo,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, path::Path};
use zeroize::Zeroizing;

/// A node's key pair.
pub struct NodeKey {
    pair: KeyPair,
    public: Vec<u8>,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.fingerprint().evidence())
    }
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] when there is no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self::wrap(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads the key (PKCS#8 PEM, mode 0600), or makes it.
    ///
    /// # Errors
    /// As [`keyfile::load_or_create`]; [`IdentityError::DamagedKeyFile`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let text = keyfile::load_or_create(path, || {
            let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            Ok(Zeroizing::new(made.serialize_pem().into_bytes()))
        })?;
        let damaged = |problem| IdentityError::DamagedKeyFile { path: path.to_owned(), problem };
        let text = std::str::from_utf8(&text).map_err(|_| damaged("it is not text"))?;
        KeyPair::from_pkcs8_pem_and_sign_algo(text, &PKCS_ECDSA_P256_SHA256)
            .map(Self::wrap)
            .map_err(|_| damaged("it is not a P-256 key as PKCS#8 PEM"))
    }

    fn wrap(pair: KeyPair) -> Self {
        let public = pair.subject_public_key_info();
        Self { pair, public }
    }

    /// The public key as SubjectPublicKeyInfo DER: what the server registers.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    /// Of the public key; [`Fingerprint::evidence`] is the form to read out loud.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.public)
    }

    /// A PKCS#10 request for this key. The common name is for people; the server sets its own.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`].
    pub fn csr_der(&self, common_name: &str) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
        Ok(params.serialize_request(&self.pair)?.der().to_vec())
    }

    /// Signs bytes for one purpose.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] when there is no randomness.
    pub fn sign(&self, context: &str, bytes: &[u8]) -> Result<Vec<u8>, IdentityError> {
        Ok(self.pair.sign(&message(context, bytes))?)
    }

    /// The private key for the TLS stack ([`crate::CertSlot::swap`]).
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialized_der().to_vec()).into()
    }
}

/// Whether `signature` is of the holder of that public key (SubjectPublicKeyInfo DER, P-256 or
/// Ed25519) for this purpose and these bytes.
pub fn verify(public_key_der: &[u8], context: &str, bytes: &[u8], signature: &[u8]) -> bool {
    let Ok(public) = SubjectPublicKeyInfo::from_der(public_key_der) else { return false };
    let algorithm: &dyn VerificationAlgorithm = if *public.algorithm() == PKCS_ECDSA_P256_SHA256 {
        &ECDSA_P256_SHA256_ASN1
    } else if *public.algorithm() == PKCS_ED25519 {
        &ED25519
    } else {
        return false;
    };
    UnparsedPublicKey::new(algorithm, public.der_bytes()).verify(&message(context, bytes), signature).is_ok()
}

/// Lengths in front, so that no two pairs of context and bytes give the same message. The 0x00 in
/// front keeps it apart from TLS 1.3, whose signed messages begin with 0x20, and from DER.
fn message(context: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = b"\0lattice signature v1\0".to_vec();
    message.extend_from_slice(&(context.len() as u64).to_be_bytes());
    message.extend_from_slice(context.as_bytes());
    message.extend_from_slice(bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_context_and_bytes_alone() {
        let key = NodeKey::generate().unwrap();
        let signature = key.sign("a", b"bytes").unwrap();
        assert!(verify(key.public_key_der(), "a", b"bytes", &signature));
        assert!(!verify(key.public_key_der(), "b", b"bytes", &signature));
        assert!(!verify(key.public_key_der(), "a", b"Bytes", &signature));
        assert!(!verify(key.public_key_der(), "ab", b"ytes", &signature));
        assert!(!verify(NodeKey::generate().unwrap().public_key_der(), "a", b"bytes", &signature));
        assert!(!verify(b"noise", "a", b"bytes", &signature));
        assert!(!verify(key.public_key_der(), "a", b"bytes", &signature[1..]));
    }

    #[test]
    fn the_file_gives_the_same_key_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let key = NodeKey::load_or_create(&path).unwrap();
        let again = NodeKey::load_or_create(&path).unwrap();
        assert_eq!(key.fingerprint(), again.fingerprint());
        let evidence = key.fingerprint().evidence();
        assert_eq!(evidence.split(' ').map(str::len).collect::<Vec<_>>(), [4; 8]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("BEGIN PRIVATE KEY"));
        keyfile::replace(&path, b"half a k").unwrap();
        assert!(matches!(NodeKey::load_or_create(&path), Err(IdentityError::DamagedKeyFile { .. })));
    }
}
