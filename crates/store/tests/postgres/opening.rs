//! Opening: passwords, TLS, several hosts, and what is refused.

use super::{options, put};
use lattice_postgres_kit::{Options, Postgres};
use lattice_store::{PostgresError, PostgresOptions, PostgresStore, Store, postgres::SCHEMA};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{error::Error, fs, net::TcpListener};

/// Everything that an error says.
fn words(error: &PostgresError) -> String {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_certificates_are_checked_and_not_told() {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other) = (authority("ours"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let postgres = Postgres::with(&Options {
        parent: None,
        settings: ["ssl = on", "ssl_cert_file = 'own.crt'", "ssl_key_file = 'own.key'"]
            .map(String::from)
            .into(),
        hba: vec![
            "hostssl all secretive 127.0.0.1/32 scram-sha-256".to_owned(),
            "host all secretive all reject".to_owned(),
        ],
        files: vec![("own.crt".to_owned(), certificate.pem()), ("own.key".to_owned(), key.serialize_pem())],
    });
    postgres.sql("lattice", "CREATE ROLE secretive LOGIN PASSWORD 'h0rse-battery'");
    postgres.sql("lattice", "GRANT CREATE ON DATABASE lattice TO secretive");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (ca, wrong_ca) = (file("ca.pem", &ours.pem()), file("other.pem", &other.pem()));
    let port = postgres.address().port();
    let url = |password: &str, host: &str, mode: &str| {
        format!("postgres://secretive{password}@{host}:{port}/lattice?sslmode={mode}")
    };
    let with = |url: String, ca: &std::path::Path| PostgresOptions {
        ca_file: Some(ca.to_owned()),
        ..PostgresOptions::new(url)
    };

    // By the URL, and by a file whose end of line is not the password's.
    let good = with(url(":h0rse-battery", "localhost", "verify-full"), &ca);
    assert!(!format!("{good:?}").contains("battery"), "{good:?}");
    let store = PostgresStore::open(&good).await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    assert!(!format!("{store:?}").contains("battery"), "{store:?}");
    store.close().await;
    let by_file = PostgresOptions {
        password_file: Some(file("password", "h0rse-battery\n")),
        ..with(url("", "localhost", "require"), &ca)
    };
    PostgresStore::open(&by_file).await.unwrap().close().await;
    // Another name of the same host is none that the certificate has.
    PostgresStore::open(&with(url(":h0rse-battery", "127.0.0.1", "verify-ca"), &ca))
        .await
        .unwrap()
        .close()
        .await;

    for (options, says) in [
        (with(url(":wrong-battery", "localhost", "verify-full"), &ca), "password authentication failed"),
        (with(url(":h0rse-battery", "127.0.0.1", "verify-full"), &ca), "certificate"),
        (with(url(":h0rse-battery", "localhost", "verify-full"), &wrong_ca), "certificate"),
        (with(url(":h0rse-battery", "localhost", "verify-ca"), &wrong_ca), "certificate"),
        (with(url(":h0rse-battery", "localhost", "disable"), &ca), "pg_hba"),
        (with(url(":h0rse-battery", "localhost", "prefer"), &ca), "sslmode"),
        (PostgresOptions { password_file: Some(file("password", "x")), ..good.clone() }, "say it once"),
        (PostgresOptions { password_file: Some(folder.path().join("none")), ..by_file.clone() }, "none"),
    ] {
        let refused = PostgresStore::open(&options).await.map(drop).unwrap_err();
        let words = words(&refused);
        assert!(words.contains(says) && !words.contains("battery"), "{says:?} was expected: {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let postgres = Postgres::start();
    // As a standby answers: every session is read only.
    let standby = Postgres::start();
    standby.sql("lattice", "ALTER DATABASE lattice SET default_transaction_read_only = on");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://lattice@{nobody},{},{}/lattice", standby.address(), postgres.address());
    let store = PostgresStore::open(&PostgresOptions::new(url)).await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    assert_eq!(postgres.sql("lattice", "SELECT count(*) FROM lattice.records"), "1");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newer_or_no_store_is_refused_and_left_alone() {
    let postgres = Postgres::start();
    let open = async |schema: &str| PostgresStore::open(&options(postgres.url(), schema)).await;
    let missing = PostgresStore::open_existing(&options(postgres.url(), "ours")).await.map(drop).unwrap_err();
    assert!(matches!(missing, PostgresError::Missing { .. }), "{missing:?}");
    let store = open("ours").await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    let cluster = store.cluster().await.unwrap();
    store.close().await;
    let store = open("ours").await.unwrap();
    assert_eq!(store.cluster().await.unwrap(), cluster);
    store.close().await;
    assert_eq!(
        postgres.sql("lattice", "SELECT count(*) FROM ours.writers"),
        "0",
        "closed servers leave no row"
    );

    postgres.sql("lattice", &format!("UPDATE ours.meta SET schema = {}", SCHEMA + 1));
    let refused = open("ours").await.map(drop).unwrap_err();
    assert!(
        matches!(refused, PostgresError::NewerSchema { found, known: SCHEMA, .. } if found == SCHEMA + 1)
    );
    assert!(refused.to_string().contains("install the newer version again"), "{refused}");
    postgres.sql("lattice", "CREATE SCHEMA theirs; CREATE TABLE theirs.notes (x int)");
    let refused = open("theirs").await.map(drop).unwrap_err();
    assert!(matches!(refused, PostgresError::NotAStore { .. }), "{refused:?}");
    assert_eq!(postgres.sql("lattice", "SELECT count(*) FROM pg_tables WHERE schemaname = 'theirs'"), "1");
    postgres.sql("lattice", "CREATE DATABASE old ENCODING 'SQL_ASCII' TEMPLATE template0");
    let url = format!("postgres://lattice@{}/old", postgres.address());
    let refused = PostgresStore::open(&PostgresOptions::new(url)).await.map(drop).unwrap_err();
    assert!(matches!(refused, PostgresError::Unfit { .. }), "{refused:?}");

    for (url, says) in [
        ("sqlite", "postgres://"),
        ("postgres://u@/db", "host"),
        ("postgres://u@h", "database"),
        ("postgres://u:p@h/db?sslcert=x", "ca_file"),
        ("postgres://u:p@h/db?nonsense=x", "nonsense"),
        ("postgres://u:p@h/db?target_session_attrs=read-only", "read-only"),
    ] {
        let refused = PostgresOptions::new(url).check().unwrap_err();
        assert!(words(&refused).contains(says), "{url}: {}", words(&refused));
    }
    assert!(options("postgres://u@h/db".to_owned(), "Bad\"Name").check().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_make_one_store() {
    let postgres = Postgres::start();
    let open = |_| {
        let options = PostgresOptions::new(postgres.url());
        async move { PostgresStore::open(&options).await.unwrap() }
    };
    let stores = futures::future::join_all((0..6).map(open)).await;
    let clusters = futures::future::join_all(stores.iter().map(|store| store.cluster())).await;
    assert!(clusters.windows(2).all(|pair| pair[0].as_ref().unwrap() == pair[1].as_ref().unwrap()));
    for store in stores {
        store.close().await;
    }
}
