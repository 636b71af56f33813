//! What a person decides about the database: [`PostgresOptions`], checked and taken apart. Nothing
//! here prints a password: what names the store in messages is made from user, hosts and database.

use super::trouble;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one host may take to answer.
const CONNECT: Duration = Duration::from_secs(5);

/// Which database, and how to get in.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user@host:5432,host2:5432/database`. Of several hosts the one that takes writes
    /// is used. `sslmode` is `verify-full` (also under the name `require`), `verify-ca` or
    /// `disable`; where the URL does not say, it is `disable` on loopback and Unix sockets and
    /// `verify-full` elsewhere.
    pub url: String,
    /// Holds the password, if the URL does not; read at each connection, so that it may change.
    pub password_file: Option<PathBuf>,
    /// PEM certificates that are trusted to vouch for the database; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// The schema in the database that holds the tables; made if it is not there.
    pub schema: String,
}

/// Why a store in a PostgreSQL database was not opened; nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL or what belongs to it.
    #[error("the store's database is not named well ({problem}): write postgres://user@host:5432/database")]
    Url {
        /// What is wrong.
        problem: String,
    },
    /// A file that was named.
    #[error("the file {} for the store's database cannot be used: check its path, its permissions and what is in it",
        path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// No connection, or not one that can be worked with.
    #[error(
        "the store {store} cannot be reached: check that the database runs, its address, and who may enter it"
    )]
    Connect {
        /// The database, without the password.
        store: String,
        /// What was said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A newer program has written it.
    #[error(
        "the store {store} has schema {found}, and this program knows schemas up to {known}: install the newer \
        version again, or restore a backup that was made before the upgrade"
    )]
    NewerSchema {
        /// The database, without the password.
        store: String,
        /// Its schema.
        found: u32,
        /// [`crate::postgres::SCHEMA`].
        known: u32,
    },
    /// It is something else.
    #[error(
        "the schema {schema:?} in {store} is not a store of Lattice, and is left as it is: name another schema or \
        database"
    )]
    NotAStore {
        /// The database, without the password.
        store: String,
        /// The schema.
        schema: String,
    },
    /// There is none, and none was to be made.
    #[error("there is no store in the schema {schema:?} of {store}: check the URL and the schema")]
    Missing {
        /// The database, without the password.
        store: String,
        /// The schema.
        schema: String,
    },
    /// It could lose or change what is written.
    #[error(
        "the database of the store {store} has {problem}: make one with `CREATE DATABASE … ENCODING 'UTF8'`"
    )]
    Unfit {
        /// The database, without the password.
        store: String,
        /// What does not fit.
        problem: String,
    },
    /// The database refused.
    #[error(
        "the store {store} cannot be opened: look at the cause; the user needs the right to create a schema in \
        the database, or a schema that is its own"
    )]
    Database {
        /// The database, without the password.
        store: String,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl PostgresOptions {
    /// The schema where nobody says otherwise.
    pub const SCHEMA: &'static str = "lattice";

    /// The database of a URL, with everything else as usual.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), password_file: None, ca_file: None, schema: Self::SCHEMA.to_owned() }
    }

    /// What messages call the store: the URL without the password; a URL that makes no sense has no
    /// name.
    pub fn name(&self) -> String {
        self.resolve().map_or_else(|_| "postgres".to_owned(), |target| target.name)
    }

    /// Whether it makes sense, without asking the database.
    ///
    /// # Errors
    /// [`PostgresError::Url`] or [`PostgresError::File`].
    pub fn check(&self) -> Result<(), PostgresError> {
        self.resolve().map(drop)
    }

    pub(super) fn resolve(&self) -> Result<Target, PostgresError> {
        let Self { url, password_file, ca_file, schema } = self;
        let wrong = |problem: String| PostgresError::Url { problem };
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty() || schema.len() > 63 || !schema.chars().all(named) || schema.starts_with("pg_") {
            return Err(wrong("the schema is not 1 to 63 of the characters a-z, 0-9 and _".to_owned()));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("it does not begin with postgres://".to_owned()));
        }
        let (url, mode) = split_mode(url).map_err(|problem| wrong(problem.to_owned()))?;
        // The cause could quote the URL, and with it the password.
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            wrong(format!("the URL is not understood: {}", if cause.contains('@') { "" } else { &cause }))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(wrong("it names no host".to_owned()));
        }
        if config.get_dbname().is_none() {
            return Err(wrong("it names no database".to_owned()));
        }
        if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(wrong("target_session_attrs=read-only: the store has to write".to_owned()));
        }
        if config.get_password().is_some() && password_file.is_some() {
            return Err(wrong("the password is in the URL and in a file: say it once".to_owned()));
        }
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(config.get_connect_timeout().copied().unwrap_or(CONNECT));
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3).tcp_user_timeout(Duration::from_secs(20));
        if config.get_application_name().is_none() {
            config.application_name("lattice");
        }
        let local = config.get_hosts().iter().all(is_local)
            && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        let mode = mode.unwrap_or(if local { Mode::Disable } else { Mode::VerifyFull });
        config.ssl_mode(if mode == Mode::Disable { SslMode::Disable } else { SslMode::Require });
        let tls = tls(mode, ca_file.as_deref())?;
        let name = name(&config);
        let target =
            Target { config, tls, name, schema: schema.clone(), password_file: password_file.clone() };
        target.with_password()?;
        Ok(target)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, password_file, ca_file, schema } = self;
        // The URL may hold a password.
        f.debug_struct("PostgresOptions")
            .field("password_file", password_file)
            .field("ca_file", ca_file)
            .field("schema", schema)
            .finish_non_exhaustive()
    }
}

/// Options, taken apart.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    pub(super) tls: MakeRustlsConnect,
    /// What messages call the store.
    pub(super) name: String,
    pub(super) schema: String,
    password_file: Option<PathBuf>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// How to connect now.
    pub(super) fn with_password(&self) -> Result<Config, PostgresError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let read = fs::read_to_string(path);
            let text = read.map_err(|source| PostgresError::File { path: path.clone(), source })?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    VerifyCa,
    VerifyFull,
}

/// Takes `sslmode` out of the URL, since the client library knows fewer of them.
fn split_mode(url: &str) -> Result<(String, Option<Mode>), &'static str> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let mut mode = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sslmode", "disable") => mode = Some(Mode::Disable),
            ("sslmode", "verify-ca") => mode = Some(Mode::VerifyCa),
            ("sslmode", "verify-full" | "require") => mode = Some(Mode::VerifyFull),
            ("sslmode", _) => {
                return Err(
                    "sslmode is verify-full, verify-ca or disable here; what others allow, whoever stands \
                    between could read",
                );
            }
            ("sslrootcert" | "sslcert" | "sslkey" | "passfile", _) => {
                return Err("files are not named in the URL: use password_file and ca_file");
            }
            _ => rest.push(pair),
        }
    }
    let rest = rest.join("&");
    Ok((if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") }, mode))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn name(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    format!("postgres://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

fn tls(mode: Mode, ca_file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
    let provider = Arc::new(ring::default_provider());
    let wrong = |error: TlsError| PostgresError::Url { problem: error.to_string() };
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let file = |source: Box<dyn Error + Send + Sync>| PostgresError::File {
                path: path.to_owned(),
                source: io::Error::other(source),
            };
            let text =
                fs::read(path).map_err(|source| PostgresError::File { path: path.to_owned(), source })?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| file(Box::new(error)))?;
                roots.add(certificate).map_err(|error| file(Box::new(error)))?;
            }
            if roots.is_empty() {
                return Err(file(trouble("there is no PEM certificate in it")));
            }
        }
        None if mode == Mode::Disable => {}
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let problem =
                    "this system has no trusted certificates: name the database's CA as ca_file".to_owned();
                return Err(PostgresError::Url { problem });
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let config = match mode {
        Mode::VerifyCa => {
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let inner = inner.map_err(|error| PostgresError::Url { problem: error.to_string() })?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName(inner)))
                .with_no_client_auth()
        }
        Mode::VerifyFull | Mode::Disable => builder.with_root_certificates(roots).with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// `verify-ca`: whoever the trusted authority vouches for, under whatever name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // The name is what the inner one looks at last, when everything else was right.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
