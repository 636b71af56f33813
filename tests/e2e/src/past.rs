//! What a machine has that was away for a very long time.

use crate::{agent::Agent, cluster::Cluster};
use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_identity::{CertificateAuthority, ExportedAuthority, MasterKey, NodeKey, ca::NODE_VALIDITY};
use lattice_model::{Duration, Timestamp};
use lattice_store::{Key, Kind};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Puts in place of an agent's certificate one that its own cluster could have signed `days` ago, and that ended a day
/// later. Server and agent must be stopped.
///
/// # Panics
/// When server or agent keep their state in another way than this knows.
pub fn expired_certificate(cluster: &Cluster, agent: &Agent, days: u64) {
    let server = cluster.home().join("server");
    let store = cluster.store();
    let record = cluster.block_on(store.get(&Key::new(Kind::new("authority"), "ca"))).expect("the store");
    let record = record.expect("the cluster has an authority");
    let stored: ExportedAuthority = serde_json::from_str(&record.body).expect("an authority");
    let master = MasterKey::load_or_create(&only(&server, ".key")).expect("the master key");
    let mut authority = CertificateAuthority::import(&master, &stored).expect("an authority");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let now = Timestamp(i64::try_from(now.as_millis()).expect("a clock"));
    let then = Timestamp(now.0 - i64::try_from(Duration::from_secs(days * 86_400).0).expect("days"));
    authority.rotate_intermediate(then).expect("an intermediate of that time");
    let key = NodeKey::load_or_create(&agent.folder().join("node.key")).expect("the node's key");
    let request = key.csr_der(agent.name()).expect("a request");
    let node = agent.node().parse().expect("a node");
    let issued = authority.issue_node(node, &request, then, NODE_VALIDITY).expect("a certificate");
    assert!(issued.not_after < now);
    let file = agent.folder().join("node.crt");
    let before = std::fs::read_to_string(&file).expect("the certificate");
    assert!(before.starts_with("-----BEGIN CERTIFICATE-----"), "{before}");
    let pem: String = issued.chain.iter().map(|der| pem(der)).collect();
    std::fs::write(file, pem).expect("the certificate");
    cluster.block_on(store.close());
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The one file of a folder whose name ends so.
fn only(folder: &Path, end: &str) -> PathBuf {
    let all = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found: Vec<_> = all.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "files *{end} in {}: {found:?}", folder.display());
    found.into_iter().next().expect("one")
}
