//! Backups to play with.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use lattice_backup::{Dump, FORMAT, Header, Reason, SecretFile};
use lattice_model::{ClusterId, Timestamp};
use lattice_store::{Key, Kind, Record, Revision};
use std::{path::PathBuf, sync::Arc};

pub fn record(kind: &str, id: &str, revision: u64, body: &str) -> Arc<Record> {
    Arc::new(Record {
        key: Key::new(kind.parse::<Kind>().unwrap(), id),
        revision: Revision(revision),
        created: Revision(1),
        project: revision.is_multiple_of(2).then(|| Arc::from("default")),
        owner: None,
        body: Arc::from(body),
    })
}

pub fn dump(created_at: i64, records: Vec<Arc<Record>>, blobs: Option<PathBuf>) -> Dump {
    Dump {
        header: Header {
            format: FORMAT,
            lattice: "0.1.0".into(),
            created_at: Timestamp(created_at),
            reason: Reason::Asked,
            cluster_id: ClusterId::from_random(7),
            cluster_name: "attic".into(),
            incarnation: 3,
            revision: 99,
            schema: 1,
        },
        records,
        keys: vec![("master.key".into(), SecretFile(b"lmk1 the key\n".to_vec().into()))],
        settings: vec![("server.toml".into(), b"cluster_name = \"attic\"\n".to_vec())],
        blobs,
    }
}

pub fn rows() -> Vec<Arc<Record>> {
    vec![
        record("node", "a", 4, r#"{"name":"über \"quoted\" \u0000"}"#),
        record("node", "b", 99, "{}"),
        record("stack", "default/shop", 5, &format!("{{\"x\":\"{}\"}}", "y".repeat(3000))),
    ]
}
