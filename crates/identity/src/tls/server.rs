//! The server's end: presents its chain, asks for a client certificate and lets clients without one in (to enrol
//! and to renew; what they may call is the gateway's decision). A certificate that is presented
//! must be good: chain to our root, in time, for clients, and of a node of this cluster.

use super::{ALPN, CertSlot, Clock, TlsError, provider, tolerating_skew};
use crate::{IdentityError, pki};
use lattice_model::ClusterId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

/// The configuration of the agents' port.
///
/// # Errors
/// [`IdentityError::Tls`] when the root is not a certificate.
pub fn server_config(
    cluster: ClusterId,
    root: &CertificateDer<'_>,
    certificate: Arc<CertSlot>,
    clock: Clock,
) -> Result<ServerConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(NodeVerifier { cluster, inner }))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket would carry a client over the end of its certificate, and costs half a connect.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[derive(Debug)]
struct NodeVerifier {
    cluster: ClusterId,
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for NodeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified =
            tolerating_skew(now, |now| self.inner.verify_client_cert(end_entity, intermediates, now))?;
        let refused = match pki::peer_node(end_entity) {
            Ok(peer) if peer.cluster == self.cluster => return Ok(verified),
            Ok(peer) => TlsError::ForeignCluster { cluster: peer.cluster },
            Err(_) => TlsError::NotANode,
        };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
