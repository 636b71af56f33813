//! The agent's end: trusts one root and nothing else, never the system's store.
//!
//! At enrolment the agent has the root's fingerprint alone (from its token). The server sends its
//! root with the chain; the verifier takes the certificate with that fingerprint as the one anchor,
//! and webpki does the rest: chain, time, purpose, name. Later the agent has the root itself.

use super::{ALPN, CertSlot, Clock, TlsError, provider, tolerating_skew};
use crate::{Fingerprint, IdentityError, pki};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// More certificates than a chain of ours has; a longer one is not looked through.
const MAX_CHAIN: usize = 10;

/// Which authority an agent trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The root with this fingerprint, which the server must send: at enrolment.
    Fingerprint(Fingerprint),
    /// This root: afterwards. The server need not send it.
    Root(CertificateDer<'static>),
}

impl Trust {
    /// The fingerprint of the trusted root.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Fingerprint(fingerprint) => *fingerprint,
            Self::Root(root) => Fingerprint::of(root),
        }
    }
}

/// The configuration of an agent's connections. An empty slot connects without a certificate.
///
/// # Errors
/// [`IdentityError::Tls`] when the root is not a certificate.
pub fn client_config(
    trust: Trust,
    certificate: Arc<CertSlot>,
    clock: Clock,
) -> Result<ClientConfig, IdentityError> {
    let known = match &trust {
        Trust::Fingerprint(_) => None,
        Trust::Root(root) => Some(anchored(root)?),
    };
    let verifier = PinnedVerifier { pin: trust.fingerprint(), known };
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn anchored(root: &CertificateDer<'_>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

#[derive(Debug)]
struct PinnedVerifier {
    pin: Fingerprint,
    known: Option<Arc<WebPkiServerVerifier>>,
}

impl PinnedVerifier {
    /// Says what the other end is, where it is not ours.
    fn stranger(&self, end_entity: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Error {
        let topmost = chain.last().unwrap_or(end_entity);
        let refused = match pki::stated_cluster(end_entity) {
            Some(cluster) => {
                TlsError::WrongAuthority { expected: self.pin, presented: Fingerprint::of(topmost), cluster }
            }
            None => TlsError::Intercepted { issuer: pki::issuer_name(end_entity) },
        };
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = &intermediates[..intermediates.len().min(MAX_CHAIN)];
        let inner = match &self.known {
            Some(known) => known.clone(),
            // A root is never the end entity, so only the others are looked at.
            None => match chain.iter().find(|cert| Fingerprint::of(cert) == self.pin) {
                Some(root) => anchored(root)?,
                None => return Err(self.stranger(end_entity, chain)),
            },
        };
        let verified = tolerating_skew(now, |now| {
            inner.verify_server_cert(end_entity, chain, server_name, ocsp_response, now)
        });
        match verified {
            // Also a chain that shows our root and was not signed by it.
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Err(self.stranger(end_entity, chain)),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
