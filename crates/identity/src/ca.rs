//! The cluster's own certificate authority.
//!
//! A root (20 years, P-256) is made once; agents pin its fingerprint. It signs intermediates
//! (1 year), which sign everything else and are rotated without anybody noticing, because every
//! chain carries its intermediate. Leaves never outlive the intermediate that signed them.
//!
//! A certificate's purpose is in its extended key usage and in one URI name:
//! `lattice://<cluster>/server` with serverAuth, `lattice://<cluster>/node/<node>` with clientAuth.
//! So a node's certificate can never serve, and a server's never passes as a node.
//!
//! Of a signing request only the public key is used: names, usages and extensions in it are what
//! the agent wishes, and the server decides those. Rejected: RSA (slow to make on small machines,
//! nothing gained), one long-lived signing key without intermediates (it could not be rotated).

use crate::{CLOCK_SKEW, Fingerprint, IdentityError, MasterKey, pki};
use base64::{Engine, engine::general_purpose::STANDARD};
use lattice_model::{ClusterId, Duration, NodeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a root is valid: 20 years.
pub const ROOT_VALIDITY: Duration = Duration(20 * 365 * DAY.0);
/// How long an intermediate is valid: 1 year.
pub const INTERMEDIATE_VALIDITY: Duration = Duration(365 * DAY.0);
/// How long a node's certificate is valid: 24 hours.
pub const NODE_VALIDITY: Duration = DAY;
/// The largest signing request, in bytes; a P-256 one has about 300.
pub const MAX_REQUEST: usize = 8 * 1024;
/// The most names in a server certificate.
pub const MAX_SERVER_NAMES: usize = 100;

/// The names under which a server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
}

impl ServerNames {
    /// Sorts hosts (names or addresses, without port) into the two kinds, each once.
    pub fn from_hosts<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = Self::default();
        for host in hosts {
            match host.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(ip) if !names.ips.contains(&ip) => names.ips.push(ip),
                Ok(_) => {}
                Err(_) if !names.dns.iter().any(|known| known == host) => names.dns.push(host.to_owned()),
                Err(_) => {}
            }
        }
        names
    }
}

/// A certificate for a server, with its key.
pub struct ServerCertificate {
    /// Leaf, intermediate, root: the root too, so that a client that knows only its fingerprint can
    /// build the chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key (PKCS#8).
    pub key: PrivateKeyDer<'static>,
    /// In hexadecimal.
    pub serial: String,
    /// The end of validity.
    pub not_after: Timestamp,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain: _, key: _, serial, not_after } = self;
        f.debug_struct("ServerCertificate")
            .field("serial", serial)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate for a node. The node has the key.
#[derive(Clone, Debug)]
pub struct IssuedCert {
    /// Leaf and intermediate, DER: what the node presents.
    pub chain: Vec<CertificateDer<'static>>,
    /// The root, DER; the node checks it against the fingerprint in its token, and keeps it.
    pub root: CertificateDer<'static>,
    /// In hexadecimal.
    pub serial: String,
    /// The end of validity.
    pub not_after: Timestamp,
}

/// An authority as it is stored: certificates in the clear, keys sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedAuthority {
    /// Of this format; 1.
    pub version: u32,
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// The cluster's name, for people.
    pub name: String,
    /// The root certificate.
    pub root_pem: String,
    /// The intermediate that signs now.
    pub intermediate_pem: String,
    /// Sealed PKCS#8, base64.
    pub root_key: String,
    /// Sealed PKCS#8, base64.
    pub intermediate_key: String,
}

struct Authority {
    cert: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, IdentityError> {
        Ok(Issuer::from_ca_cert_der(&self.cert, &self.key)?)
    }

    fn window(&self) -> Result<(Timestamp, Timestamp), IdentityError> {
        let cert = pki::parse(&self.cert)?;
        Ok((pki::not_before(&cert), pki::not_after(&cert)))
    }
}

/// Root and present intermediate of one cluster. No `Debug`: it holds private keys.
pub struct CertificateAuthority {
    cluster: ClusterId,
    name: String,
    root: Authority,
    intermediate: Authority,
}

impl CertificateAuthority {
    /// Makes root and intermediate of a new cluster. `name` is for people: it stands in the
    /// certificates' common names.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`], [`IdentityError::Certificate`].
    pub fn create(cluster: ClusterId, name: &str, now: Timestamp) -> Result<Self, IdentityError> {
        let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (mut params, _) =
            base(&format!("Lattice root of {name} {}", cluster.short()), now, now + ROOT_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = Authority { cert: params.self_signed(&key)?.der().clone(), key };
        let intermediate = make_intermediate(&root, &name, now)?;
        Ok(Self { cluster, name, root, intermediate })
    }

    /// For the store, private keys sealed for this cluster.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn export(&self, master: &MasterKey) -> Result<ExportedAuthority, IdentityError> {
        let Self { cluster, name, root, intermediate } = self;
        let seal = |role, key: &KeyPair| {
            master
                .seal(&key_context(*cluster, role), key.serialized_der())
                .map(|sealed| STANDARD.encode(sealed))
        };
        Ok(ExportedAuthority {
            version: 1,
            cluster: *cluster,
            name: name.clone(),
            root_pem: pki::pem("CERTIFICATE", &root.cert),
            intermediate_pem: pki::pem("CERTIFICATE", &intermediate.cert),
            root_key: seal("root", &root.key)?,
            intermediate_key: seal("intermediate", &intermediate.key)?,
        })
    }

    /// Back from the store.
    ///
    /// # Errors
    /// Those of [`MasterKey::open`]; [`IdentityError::DamagedAuthority`] when a key is not the one of
    /// its certificate.
    pub fn import(master: &MasterKey, stored: &ExportedAuthority) -> Result<Self, IdentityError> {
        let ExportedAuthority {
            version,
            cluster,
            name,
            root_pem,
            intermediate_pem,
            root_key,
            intermediate_key,
        } = stored;
        let damaged = |problem| IdentityError::DamagedAuthority { problem };
        if *version != 1 {
            return Err(damaged("its version is not known here; it was written by a newer server"));
        }
        let load = |role, pem: &str, sealed: &str| -> Result<Authority, IdentityError> {
            let cert = pki::cert_from_pem(pem).ok_or(damaged("a certificate is not PEM"))?;
            let sealed = STANDARD.decode(sealed).map_err(|_| damaged("a key is not base64"))?;
            let der = master.open(&key_context(*cluster, role), &sealed)?;
            let key = KeyPair::from_pkcs8_der_and_sign_algo(
                &PrivatePkcs8KeyDer::from(der.as_slice()),
                &PKCS_ECDSA_P256_SHA256,
            )?;
            if pki::parse(&cert)?.public_key().raw != key.subject_public_key_info() {
                return Err(damaged("a key does not belong to its certificate"));
            }
            Ok(Authority { cert, key })
        };
        let root = load("root", root_pem, root_key)?;
        let intermediate = load("intermediate", intermediate_pem, intermediate_key)?;
        let root_cert = pki::parse(&root.cert)?;
        if pki::parse(&intermediate.cert)?.verify_signature(Some(root_cert.public_key())).is_err() {
            return Err(damaged("the intermediate was not signed by the root"));
        }
        Ok(Self { cluster: *cluster, name: name.clone(), root, intermediate })
    }

    /// Makes a new intermediate. What older ones signed stays valid until its own end.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`], [`IdentityError::Certificate`].
    pub fn rotate_intermediate(&mut self, now: Timestamp) -> Result<(), IdentityError> {
        self.intermediate = make_intermediate(&self.root, &self.name, now)?;
        Ok(())
    }

    /// Whether the intermediate should be rotated: two thirds of its life are over, or it has not
    /// begun by this clock.
    ///
    /// # Errors
    /// [`IdentityError::BadCertificate`].
    pub fn intermediate_due(&self, now: Timestamp) -> Result<bool, IdentityError> {
        let (from, until) = self.intermediate.window()?;
        Ok(now < from || now.since(from).0 >= until.since(from).0 / 3 * 2)
    }

    /// The cluster that this authority is of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root.cert
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> String {
        pki::pem("CERTIFICATE", &self.root.cert)
    }

    /// What agents pin: SHA-256 of the root's DER.
    pub fn root_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.root.cert)
    }

    /// The intermediate that signs now, DER.
    pub fn intermediate_der(&self) -> &CertificateDer<'static> {
        &self.intermediate.cert
    }

    /// A certificate, with a new key, for a server that is reached under these names.
    ///
    /// # Errors
    /// [`IdentityError::BadServerName`], [`IdentityError::IntermediateOutOfTime`].
    pub fn issue_server(
        &self,
        names: &ServerNames,
        now: Timestamp,
        validity: Duration,
    ) -> Result<ServerCertificate, IdentityError> {
        let bad = |name: &str, problem| IdentityError::BadServerName { name: name.to_owned(), problem };
        if names.dns.is_empty() && names.ips.is_empty() {
            return Err(bad("", "there is no name at all"));
        }
        if names.dns.len() + names.ips.len() > MAX_SERVER_NAMES {
            return Err(bad("", "there are more than 100 names"));
        }
        let not_after = self.leaf_end(now, validity)?;
        let (mut params, serial) = base(&format!("Lattice server of {}", self.name), now, not_after)?;
        for name in &names.dns {
            DnsName::try_from(name.as_str()).map_err(|_| bad(name, "it is no DNS name"))?;
            let name = name.as_str().try_into().map_err(|_| bad(name, "it is not ASCII"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(names.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        params.subject_alt_names.push(uri(pki::server_uri(self.cluster))?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &self.intermediate.issuer()?)?;
        Ok(ServerCertificate {
            chain: vec![leaf.der().clone(), self.intermediate.cert.clone(), self.root.cert.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()).into(),
            serial,
            not_after,
        })
    }

    /// Signs a node's own key. The caller has approved the node, and on renewal has checked that the
    /// key is the registered one ([`request_public_key`]).
    ///
    /// # Errors
    /// [`IdentityError::BadRequest`], [`IdentityError::IntermediateOutOfTime`].
    pub fn issue_node(
        &self,
        node: NodeId,
        csr_der: &[u8],
        now: Timestamp,
        validity: Duration,
    ) -> Result<IssuedCert, IdentityError> {
        let public = SubjectPublicKeyInfo::from_der(&request_public_key(csr_der)?)?;
        let not_after = self.leaf_end(now, validity)?;
        let (mut params, serial) = base(&format!("Lattice node {node}"), now, not_after)?;
        params.subject_alt_names.push(uri(pki::node_uri(self.cluster, node))?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&public, &self.intermediate.issuer()?)?;
        Ok(IssuedCert {
            chain: vec![leaf.der().clone(), self.intermediate.cert.clone()],
            root: self.root.cert.clone(),
            serial,
            not_after,
        })
    }

    /// The end of a leaf: whole seconds, and never after the intermediate's.
    fn leaf_end(&self, now: Timestamp, validity: Duration) -> Result<Timestamp, IdentityError> {
        let (from, until) = self.intermediate.window()?;
        if now < from || now >= until {
            return Err(IdentityError::IntermediateOutOfTime { from, until, now });
        }
        let end = (now + validity).min(until);
        Ok(Timestamp(end.0.div_euclid(1000) * 1000))
    }
}

/// Checks a signing request (size, signature, kind of key) and returns its public key as
/// SubjectPublicKeyInfo DER, the form in which keys are registered.
///
/// # Errors
/// [`IdentityError::BadRequest`].
pub fn request_public_key(csr_der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let bad = |problem| IdentityError::BadRequest { problem };
    if csr_der.len() > MAX_REQUEST {
        return Err(bad("it is larger than 8 KiB"));
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(csr_der) else {
        return Err(bad("it is not DER of a PKCS#10 request"));
    };
    // The signature proves that the sender has the private key.
    request.verify_signature().map_err(|_| bad("its signature is wrong"))?;
    let raw = request.certification_request_info.subject_pki.raw;
    let public = SubjectPublicKeyInfo::from_der(raw).map_err(|_| bad("its key is of an unknown kind"))?;
    if *public.algorithm() != PKCS_ECDSA_P256_SHA256 && *public.algorithm() != PKCS_ED25519 {
        return Err(bad("its key is neither P-256 nor Ed25519"));
    }
    Ok(public.subject_public_key_info())
}

fn make_intermediate(root: &Authority, name: &str, now: Timestamp) -> Result<Authority, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let (_, root_end) = root.window()?;
    let (mut params, serial) = base("", now, (now + INTERMEDIATE_VALIDITY).min(root_end))?;
    // A name of its own for each, so that chains with two of them in sight are built at once.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Lattice intermediate of {name} {}", &serial[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.signed_by(&key, &root.issuer()?)?;
    Ok(Authority { cert: cert.der().clone(), key })
}

fn base(
    common_name: &str,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(CertificateParams, String), IdentityError> {
    let mut serial = pki::random::<16>()?;
    // Positive and of full length, as RFC 5280 wants serial numbers.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Lattice");
    if !common_name.is_empty() {
        // At most 64 characters, says RFC 5280.
        params.distinguished_name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    }
    params.not_before = pki::date(pki::earlier(now, CLOCK_SKEW))?;
    params.not_after = pki::date(not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok((params, hex::encode(serial)))
}

fn uri(text: String) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(text.try_into()?))
}

fn key_context(cluster: ClusterId, role: &str) -> String {
    format!("authority/{cluster}/{role}-key")
}

/// The private key of an authority never leaves it but sealed; this exists for `keyfile` users that
/// hand a server certificate's key to disk.
impl ServerCertificate {
    /// The key's PKCS#8 DER, wiped when dropped.
    pub fn key_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.secret_der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeKey, peer_node};

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::create(ClusterId::from_random(1), "home", NOW).unwrap()
    }

    #[test]
    fn an_authority_survives_the_store_and_keeps_its_pin() {
        let master = MasterKey::from_bytes([1; 32]);
        let mut ca = authority();
        let pin = ca.root_fingerprint();
        let text = serde_json::to_string(&ca.export(&master).unwrap()).unwrap();
        assert!(!text.contains("PRIVATE"));
        let stored: ExportedAuthority = serde_json::from_str(&text).unwrap();
        let mut back = CertificateAuthority::import(&master, &stored).unwrap();
        assert_eq!(back.root_fingerprint(), pin);
        let before = back.intermediate_der().clone();
        back.rotate_intermediate(NOW).unwrap();
        assert_ne!(&before, back.intermediate_der());
        assert_eq!(back.root_fingerprint(), pin);
        // Another master key, another cluster's id, or swapped keys do not open.
        assert!(CertificateAuthority::import(&MasterKey::from_bytes([2; 32]), &stored).is_err());
        let moved = ExportedAuthority { cluster: ClusterId::from_random(2), ..stored.clone() };
        assert!(CertificateAuthority::import(&master, &moved).is_err());
        ca.rotate_intermediate(NOW).unwrap();
        let mixed =
            ExportedAuthority { intermediate_pem: ca.export(&master).unwrap().intermediate_pem, ..stored };
        assert!(matches!(
            CertificateAuthority::import(&master, &mixed),
            Err(IdentityError::DamagedAuthority { .. })
        ));
    }

    #[test]
    fn a_node_certificate_says_who_and_until_when() {
        let ca = authority();
        let key = NodeKey::generate().unwrap();
        let node = NodeId::from_random(7);
        let issued = ca.issue_node(node, &key.csr_der("laptop").unwrap(), NOW, NODE_VALIDITY).unwrap();
        let peer = peer_node(&issued.chain[0]).unwrap();
        assert_eq!((peer.cluster, peer.node), (ca.cluster(), node));
        assert_eq!(peer.serial, issued.serial);
        assert_eq!(peer.not_after, NOW + NODE_VALIDITY);
        assert_eq!(peer.public_key_fingerprint, key.fingerprint());
        assert_eq!(Fingerprint::of(&issued.root), ca.root_fingerprint());
        let cert = pki::parse(&issued.chain[0]).unwrap();
        assert_eq!(pki::not_before(&cert), pki::earlier(NOW, CLOCK_SKEW));
        let server = ca.issue_server(&ServerNames::from_hosts(["localhost", "::1"]), NOW, DAY).unwrap();
        assert!(matches!(peer_node(&server.chain[0]), Err(IdentityError::NotANode)));
        assert!(peer_node(b"noise").is_err());
    }

    #[test]
    fn what_a_request_asks_for_beyond_its_key_is_ignored() {
        let ca = authority();
        let pair = KeyPair::generate().unwrap();
        let mut wishes = CertificateParams::new(["server.example".to_owned()]).unwrap();
        wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wishes.subject_alt_names.push(uri(pki::node_uri(ca.cluster(), NodeId::from_random(666))).unwrap());
        let csr = wishes.serialize_request(&pair).unwrap();
        let issued = ca.issue_node(NodeId::from_random(7), csr.der(), NOW, DAY).unwrap();
        assert_eq!(peer_node(&issued.chain[0]).unwrap().node, NodeId::from_random(7));
        let cert = pki::parse(&issued.chain[0]).unwrap();
        assert!(!cert.is_ca());
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    }

    #[test]
    fn bad_requests_are_refused() {
        let good = NodeKey::generate().unwrap().csr_der("n").unwrap();
        assert!(request_public_key(&good).is_ok());
        for at in [good.len() - 1, good.len() / 2, 40] {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(request_public_key(&altered).is_err(), "byte {at}");
        }
        assert!(request_public_key(&good[..good.len() - 1]).is_err());
        assert!(request_public_key(&[0; MAX_REQUEST + 1]).is_err());
        let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let csr = CertificateParams::default().serialize_request(&ed).unwrap();
        assert!(authority().issue_node(NodeId::from_random(1), csr.der(), NOW, DAY).is_ok());
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let csr = CertificateParams::default().serialize_request(&p384).unwrap();
        assert!(matches!(request_public_key(csr.der()), Err(IdentityError::BadRequest { .. })));
    }

    #[test]
    fn leaves_end_with_their_intermediate_and_an_ended_one_signs_nothing() {
        let mut ca = authority();
        let names = ServerNames::from_hosts(["localhost"]);
        let late = NOW + Duration(INTERMEDIATE_VALIDITY.0 - DAY.0 / 2);
        assert!(!ca.intermediate_due(NOW + Duration(200 * DAY.0)).unwrap());
        assert!(ca.intermediate_due(late).unwrap());
        assert_eq!(ca.issue_server(&names, late, DAY).unwrap().not_after, NOW + INTERMEDIATE_VALIDITY);
        let after = NOW + INTERMEDIATE_VALIDITY;
        assert!(matches!(
            ca.issue_server(&names, after, DAY),
            Err(IdentityError::IntermediateOutOfTime { .. })
        ));
        ca.rotate_intermediate(after).unwrap();
        assert_eq!(ca.issue_server(&names, after, DAY).unwrap().not_after, after + DAY);
    }

    #[test]
    fn names_that_no_certificate_can_carry_are_refused() {
        let ca = authority();
        for host in ["a b", "host:7443", "x/y", ""] {
            let names = ServerNames { dns: vec![host.to_owned()], ips: vec![] };
            assert!(ca.issue_server(&names, NOW, DAY).is_err(), "{host:?}");
        }
        assert!(ca.issue_server(&ServerNames::default(), NOW, DAY).is_err());
    }
}
