//! A certificate that is replaced at runtime: connections made from then on use the new one, those that exist go on.

use super::provider;
use crate::{Fingerprint, IdentityError};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// The certificate that one end presents; empty for an agent that is not approved yet.
#[derive(Default)]
pub struct CertSlot {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl CertSlot {
    /// A slot without a certificate.
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a certificate in, in place of the present one.
    ///
    /// # Errors
    /// [`IdentityError::Tls`] when the key is not the one of the chain's first certificate; the present one then stays.
    pub fn swap(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), IdentityError> {
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// Takes the certificate out: connections from then on are without one. For a node whose certificate has
    /// ended, so that it can reach the renewal endpoint.
    pub fn clear(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The fingerprint of the present leaf: what renewal is bound to ([`crate::challenge`]).
    pub fn leaf_fingerprint(&self) -> Option<Fingerprint> {
        self.get()?.cert.first().map(|leaf| Fingerprint::of(leaf))
    }

    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for CertSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertSlot").field("leaf", &self.leaf_fingerprint()).finish()
    }
}

impl ResolvesServerCert for CertSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

impl ResolvesClientCert for CertSlot {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.get()
    }

    fn has_certs(&self) -> bool {
        self.get().is_some()
    }
}
