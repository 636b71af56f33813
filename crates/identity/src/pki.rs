//! Shared small parts of the public key infrastructure: randomness, times, PEM, and reading a
//! node's identity out of its certificate.

use crate::{Fingerprint, IdentityError};
use base64::{Engine, engine::general_purpose::STANDARD};
use lattice_model::{ClusterId, Duration, NodeId, Timestamp};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// How far two clocks may be apart: certificates are valid from that long before they are made,
/// and verifiers accept one until that long after its end (and before its start). Five minutes.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The URI scheme of the name that binds a certificate to cluster and role.
const SCHEME: &str = "lattice://";

pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::Randomness)?;
    Ok(bytes)
}

/// X.509 knows whole seconds; fractions are cut.
pub(crate) fn date(at: Timestamp) -> Result<OffsetDateTime, IdentityError> {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000))
        .map_err(|_| IdentityError::BadCertificate { problem: "its dates are out of range" })
}

pub(crate) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(by.0).unwrap_or(i64::MAX)))
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

pub(crate) fn node_uri(cluster: ClusterId, node: NodeId) -> String {
    format!("{SCHEME}{cluster}/node/{node}")
}

pub(crate) fn server_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}/server")
}

/// Who a client is, out of its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
    /// The end of the certificate; a session does not outlive it by more than [`CLOCK_SKEW`].
    pub not_after: Timestamp,
    /// Of the public key (SubjectPublicKeyInfo): the one that the node registered.
    pub public_key_fingerprint: Fingerprint,
}

/// Reads the node out of a certificate. It verifies nothing: hand it what TLS has verified.
///
/// # Errors
/// [`IdentityError::BadCertificate`] when it cannot be read, [`IdentityError::NotANode`] when it has
/// not exactly one name of the form `lattice://<cluster>/node/<node>`.
pub fn peer_node(cert_der: &[u8]) -> Result<PeerIdentity, IdentityError> {
    let cert = parse(cert_der)?;
    let [uri] = uris(&cert)[..] else { return Err(IdentityError::NotANode) };
    let (cluster, role) = split_uri(uri).ok_or(IdentityError::NotANode)?;
    let node = role.strip_prefix("node/").and_then(|id| id.parse().ok()).ok_or(IdentityError::NotANode)?;
    // One spelling only, so that equal text means an equal node.
    if node_uri(cluster, node) != uri {
        return Err(IdentityError::NotANode);
    }
    Ok(PeerIdentity {
        cluster,
        node,
        serial: hex::encode(cert.raw_serial()),
        not_after: not_after(&cert),
        public_key_fingerprint: Fingerprint::of(cert.public_key().raw),
    })
}

/// The cluster that a certificate says it is of, whatever its role.
pub(crate) fn stated_cluster(cert_der: &[u8]) -> Option<ClusterId> {
    let cert = parse(cert_der).ok()?;
    uris(&cert).into_iter().find_map(|uri| split_uri(uri).map(|(cluster, _)| cluster))
}

/// Who signed a certificate, in words for people; bounded.
pub(crate) fn issuer_name(cert_der: &[u8]) -> String {
    let Ok(cert) = parse(cert_der) else { return "an unreadable certificate".to_owned() };
    let issuer = cert.issuer();
    let common = issuer.iter_common_name().find_map(|name| name.as_str().ok());
    let organisation = issuer.iter_organization().find_map(|name| name.as_str().ok());
    let text = match (common, organisation) {
        (Some(common), Some(organisation)) => format!("{common} ({organisation})"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => issuer.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

pub(crate) fn parse(cert_der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(cert_der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(IdentityError::BadCertificate { problem: "bytes follow it" }),
        Err(_) => Err(IdentityError::BadCertificate { problem: "it is not DER of a certificate" }),
    }
}

pub(crate) fn not_before(cert: &X509Certificate<'_>) -> Timestamp {
    Timestamp(cert.validity().not_before.timestamp().saturating_mul(1000))
}

pub(crate) fn not_after(cert: &X509Certificate<'_>) -> Timestamp {
    Timestamp(cert.validity().not_after.timestamp().saturating_mul(1000))
}

pub(crate) fn cert_from_pem(text: &str) -> Option<CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(text.as_bytes()).ok()
}

fn uris<'a>(cert: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = cert.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect()
}

fn split_uri(uri: &str) -> Option<(ClusterId, &str)> {
    let (cluster, role) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    Some((cluster.parse().ok()?, role))
}
