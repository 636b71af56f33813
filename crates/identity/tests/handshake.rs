//! Real TLS handshakes, both ends in memory: who gets in, who does not, and what they are told.
#![allow(clippy::unwrap_used, clippy::result_large_err)]

use lattice_identity::{
    CertSlot, CertificateAuthority, Challenge, ChallengeKey, Clock, Fingerprint, IssuedCert, NodeKey,
    ServerNames, ca, challenge, explain, peer_node,
    tls::{self, Explanation, Trouble, Trust},
};
use lattice_model::{ClusterId, Duration, NodeId, Timestamp};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName};
use std::{
    io::{Read, Write},
    sync::Arc,
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn at(now: Timestamp) -> Clock {
    Clock::new(move || now)
}

struct World {
    ca: CertificateAuthority,
    slot: Arc<CertSlot>,
}

impl World {
    fn new(id: u128) -> Self {
        let ca = CertificateAuthority::create(ClusterId::from_random(id), "home", NOW).unwrap();
        let slot = CertSlot::empty();
        let world = Self { ca, slot };
        world.renew_server(NOW);
        world
    }

    fn renew_server(&self, now: Timestamp) {
        let names = ServerNames::from_hosts(["localhost", "127.0.0.1", "::1"]);
        let server = self.ca.issue_server(&names, now, Duration(30 * DAY.0)).unwrap();
        self.slot.swap(server.chain, server.key).unwrap();
    }

    fn server(&self, now: Timestamp) -> ServerConfig {
        tls::server_config(self.ca.cluster(), self.ca.root_der(), self.slot.clone(), at(now)).unwrap()
    }

    fn pin(&self) -> Trust {
        Trust::Fingerprint(self.ca.root_fingerprint())
    }

    fn root(&self) -> Trust {
        Trust::Root(self.ca.root_der().clone())
    }

    fn node(&self, now: Timestamp) -> (NodeKey, IssuedCert, Arc<CertSlot>) {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr_der("laptop").unwrap();
        let issued = self.ca.issue_node(NodeId::from_random(7), &csr, now, ca::NODE_VALIDITY).unwrap();
        let slot = CertSlot::empty();
        slot.swap(issued.chain.clone(), key.private_key()).unwrap();
        (key, issued, slot)
    }
}

fn client(trust: Trust, slot: Arc<CertSlot>, now: Timestamp) -> ClientConfig {
    tls::client_config(trust, slot, at(now)).unwrap()
}

#[derive(Debug)]
struct Met {
    server_leaf: Fingerprint,
    client_leaf: Option<CertificateDer<'static>>,
}

/// Errors of the client's end and of the server's.
type Refused = (Option<rustls::Error>, Option<rustls::Error>);

/// Lets both ends talk until neither has anything to say, then passes one byte each way.
fn shake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Met, Refused> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..20 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = &wire[..];
        while !bytes.is_empty() && server_error.is_none() {
            server.read_tls(&mut bytes).unwrap();
            server_error = server.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = &wire[..];
        while !bytes.is_empty() && client_error.is_none() {
            client.read_tls(&mut bytes).unwrap();
            client_error = client.process_new_packets().err();
        }
    }
    if client_error.is_some() || server_error.is_some() {
        return Err((client_error, server_error));
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.alpn_protocol(), Some(tls::ALPN));
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    client.writer().write_all(b"!").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut &wire[..]).unwrap();
    server.process_new_packets().unwrap();
    let mut byte = [0];
    server.reader().read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"!");
    Ok(Met {
        server_leaf: Fingerprint::of(&client.peer_certificates().unwrap()[0]),
        client_leaf: server.peer_certificates().map(|chain| chain[0].clone().into_owned()),
    })
}

fn client_trouble(refused: Refused) -> Explanation {
    let error = refused.0.expect("the client refuses or is told");
    explain(&error).unwrap_or_else(|| panic!("no explanation of {error:?}"))
}

#[test]
fn a_pinned_root_lets_an_unapproved_agent_in_by_name_and_by_address() {
    let world = World::new(1);
    for name in ["localhost", "127.0.0.1", "::1"] {
        let met = shake(client(world.pin(), CertSlot::empty(), NOW), world.server(NOW), name).unwrap();
        assert!(met.client_leaf.is_none());
        assert_eq!(Some(met.server_leaf), world.slot.leaf_fingerprint());
    }
}

#[test]
fn a_server_of_another_authority_is_refused_and_named() {
    let (ours, theirs) = (World::new(1), World::new(2));
    for trust in [ours.pin(), ours.root()] {
        let refused =
            shake(client(trust, CertSlot::empty(), NOW), theirs.server(NOW), "localhost").unwrap_err();
        assert!(refused.1.is_some(), "the server is told by an alert");
        let why = client_trouble(refused);
        assert_eq!(why.trouble, Trouble::WrongAuthority);
        assert!(why.message.contains(&theirs.ca.cluster().to_string()), "{}", why.message);
        assert!(why.message.contains(&theirs.ca.root_fingerprint().to_string()), "{}", why.message);
    }
}

#[test]
fn a_set_up_with_the_same_names_but_a_new_root_is_refused() {
    // The same cluster id and names; only the keys differ.
    let (ours, theirs) = (World::new(1), World::new(1));
    let refused =
        shake(client(ours.root(), CertSlot::empty(), NOW), theirs.server(NOW), "localhost").unwrap_err();
    assert_eq!(client_trouble(refused).trouble, Trouble::WrongAuthority);
}

#[test]
fn showing_our_root_without_being_signed_by_it_does_not_help() {
    let (ours, theirs) = (World::new(1), World::new(2));
    let names = ServerNames::from_hosts(["localhost"]);
    let server = theirs.ca.issue_server(&names, NOW, DAY).unwrap();
    let mut chain = server.chain.clone();
    chain.push(ours.ca.root_der().clone());
    theirs.slot.swap(chain, server.key).unwrap();
    let refused =
        shake(client(ours.pin(), CertSlot::empty(), NOW), theirs.server(NOW), "localhost").unwrap_err();
    assert_eq!(client_trouble(refused).trouble, Trouble::WrongAuthority);
}

#[test]
fn interception_is_told_by_its_issuer() {
    let world = World::new(1);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW.0 / 1000 - 60).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Corporate Inspection CA");
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialized_der().to_vec());
    world.slot.swap(vec![cert.der().clone()], der.into()).unwrap();
    for trust in [world.pin(), world.root()] {
        let refused =
            shake(client(trust, CertSlot::empty(), NOW), world.server(NOW), "localhost").unwrap_err();
        let why = client_trouble(refused);
        assert_eq!(why.trouble, Trouble::Intercepted);
        assert!(why.message.contains("Corporate Inspection CA"), "{}", why.message);
    }
}

#[test]
fn a_name_that_the_certificate_lacks_is_named() {
    let world = World::new(1);
    let refused =
        shake(client(world.pin(), CertSlot::empty(), NOW), world.server(NOW), "other.example").unwrap_err();
    let why = client_trouble(refused);
    assert_eq!(why.trouble, Trouble::NameMismatch);
    assert!(why.message.contains("other.example") && why.message.contains("localhost"), "{}", why.message);
}

#[test]
fn a_node_is_known_by_its_certificate() {
    let world = World::new(1);
    let (key, issued, slot) = world.node(NOW);
    let met = shake(client(world.root(), slot, NOW), world.server(NOW), "localhost").unwrap();
    let peer = peer_node(&met.client_leaf.unwrap()).unwrap();
    assert_eq!((peer.cluster, peer.node), (world.ca.cluster(), NodeId::from_random(7)));
    assert_eq!((peer.serial, peer.public_key_fingerprint), (issued.serial, key.fingerprint()));
}

#[test]
fn an_expired_node_certificate_is_refused_after_the_stated_tolerance_and_told() {
    let world = World::new(1);
    let (_, issued, slot) = world.node(NOW);
    let just = issued.not_after + Duration::from_secs(299);
    assert!(shake(client(world.root(), slot.clone(), just), world.server(just), "localhost").is_ok());
    let late = issued.not_after + Duration::from_secs(302);
    let refused =
        shake(client(world.root(), slot.clone(), late), world.server(late), "localhost").unwrap_err();
    let server_says = explain(refused.1.as_ref().unwrap()).unwrap();
    assert_eq!(server_says.trouble, Trouble::Expired);
    assert_eq!(client_trouble(refused).trouble, Trouble::OwnCertificateExpired);
    // Without it the agent still reaches the renewal endpoint.
    slot.clear();
    assert!(shake(client(world.root(), slot, late), world.server(late), "localhost").is_ok());
}

#[test]
fn clocks_may_differ_by_the_stated_skew_and_no_more() {
    let world = World::new(1);
    let early = |seconds: i64| Timestamp(NOW.0 - seconds * 1000);
    // Backdated by five minutes, and verified with five more.
    let behind = |seconds| {
        shake(client(world.pin(), CertSlot::empty(), early(seconds)), world.server(NOW), "localhost")
    };
    assert!(behind(599).is_ok());
    assert_eq!(client_trouble(behind(620).unwrap_err()).trouble, Trouble::NotYetValid);
    let end = NOW + Duration(30 * DAY.0);
    let ahead = |by: Duration| {
        shake(client(world.pin(), CertSlot::empty(), end + by), world.server(NOW), "localhost")
    };
    assert!(ahead(Duration::from_secs(299)).is_ok());
    let why = client_trouble(ahead(HOUR).unwrap_err());
    assert_eq!(why.trouble, Trouble::Expired);
    assert!(why.message.contains("UTC") && why.hint.contains("date and time"), "{why:?}");
}

#[test]
fn a_node_of_a_foreign_cluster_is_refused_and_told() {
    let (ours, theirs) = (World::new(1), World::new(2));
    let (_, _, slot) = theirs.node(NOW);
    let refused = shake(client(ours.root(), slot, NOW), ours.server(NOW), "localhost").unwrap_err();
    assert_eq!(explain(refused.1.as_ref().unwrap()).unwrap().trouble, Trouble::NotOurNode);
    assert_eq!(client_trouble(refused).trouble, Trouble::OwnCertificateRefused);
    // The right root and another cluster's id in the name (a cluster restored under a new id).
    let renamed =
        tls::server_config(ClusterId::from_random(9), ours.ca.root_der(), ours.slot.clone(), at(NOW))
            .unwrap();
    let (_, _, slot) = ours.node(NOW);
    let refused = shake(client(ours.root(), slot, NOW), renamed, "localhost").unwrap_err();
    assert_eq!(explain(refused.1.as_ref().unwrap()).unwrap().trouble, Trouble::NotOurNode);
}

#[test]
fn certificates_serve_their_own_role_alone() {
    let world = World::new(1);
    // A server's certificate is no node's.
    let refused =
        shake(client(world.root(), world.slot.clone(), NOW), world.server(NOW), "localhost").unwrap_err();
    assert_eq!(explain(refused.1.as_ref().unwrap()).unwrap().trouble, Trouble::NotOurNode);
    // A node's certificate does not serve.
    let (_, issued, slot) = world.node(NOW);
    let server = tls::server_config(world.ca.cluster(), world.ca.root_der(), slot, at(NOW)).unwrap();
    assert_eq!(issued.chain.len(), 2);
    assert!(shake(client(world.root(), CertSlot::empty(), NOW), server, "localhost").is_err());
}

#[test]
fn certificates_are_replaced_at_runtime_and_old_intermediates_stay_good() {
    let mut world = World::new(1);
    let (_, _, node) = world.node(NOW);
    let server = world.server(NOW);
    let first = shake(client(world.root(), node.clone(), NOW), server.clone(), "localhost").unwrap();
    world.ca.rotate_intermediate(NOW).unwrap();
    world.renew_server(NOW);
    // The same configuration object, as the running server has it.
    let second = shake(client(world.root(), node, NOW), server.clone(), "localhost").unwrap();
    assert_ne!(first.server_leaf, second.server_leaf);
    assert_eq!(Some(second.server_leaf), world.slot.leaf_fingerprint());
    assert!(second.client_leaf.is_some(), "signed by the intermediate of before");
    assert!(shake(client(world.pin(), CertSlot::empty(), NOW), server, "localhost").is_ok());
    // A key that is not the certificate's is refused, and the present certificate stays.
    let key = NodeKey::generate().unwrap();
    let (_, issued, _) = world.node(NOW);
    assert!(world.slot.swap(issued.chain, key.private_key()).is_err());
    assert_eq!(Some(second.server_leaf), world.slot.leaf_fingerprint());
}

#[test]
fn plain_text_and_wrapped_errors_are_explained() {
    let world = World::new(1);
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection =
        ClientConnection::new(Arc::new(client(world.pin(), CertSlot::empty(), NOW)), name).unwrap();
    connection.read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).unwrap();
    let error = connection.process_new_packets().unwrap_err();
    assert_eq!(explain(&error).unwrap().trouble, Trouble::NotLattice);
    let wrapped = std::io::Error::other(std::io::Error::other(error));
    assert_eq!(tls::explain_chain(&wrapped).unwrap().trouble, Trouble::NotLattice);
    assert_eq!(tls::explain_chain(&std::io::Error::other("else")), None);
}

#[test]
fn a_node_whose_certificate_ended_long_ago_comes_back_by_its_key() {
    let world = World::new(1);
    let (key, issued, slot) = world.node(NOW);
    let later = NOW + Duration(20 * DAY.0);
    assert!(shake(client(world.root(), slot.clone(), later), world.server(later), "localhost").is_err());
    slot.clear();
    let met = shake(client(world.root(), slot.clone(), later), world.server(later), "localhost").unwrap();

    let (secret, node) = (ChallengeKey::new(&[1; 32]), peer_node(&issued.chain[0]).unwrap().node);
    let own_leaf = world.slot.leaf_fingerprint().unwrap();
    let challenge = Challenge::issue(&secret, &own_leaf, later).unwrap();
    let csr = key.csr_der("laptop").unwrap();
    let signature = challenge::prove(&key, node, &challenge, &met.server_leaf, &csr).unwrap();
    let proof = challenge::Proof { node, challenge: &challenge, csr_der: &csr, signature: &signature };
    challenge::check(&secret, &own_leaf, key.public_key_der(), &proof, later).unwrap();
    let renewed = world.ca.issue_node(node, &csr, later, ca::NODE_VALIDITY).unwrap();
    slot.swap(renewed.chain, key.private_key()).unwrap();
    let met = shake(client(world.root(), slot, later), world.server(later), "localhost").unwrap();
    assert_eq!(peer_node(&met.client_leaf.unwrap()).unwrap().serial, renewed.serial);
}

#[test]
fn no_process_wide_provider_is_needed_or_made() {
    let world = World::new(1);
    shake(client(world.pin(), CertSlot::empty(), NOW), world.server(NOW), "localhost").unwrap();
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
