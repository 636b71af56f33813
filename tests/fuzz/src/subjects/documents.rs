//! Files that people write, and those that an agent finds at its start: configuration, identity, certificate, the
//! list of former nodes. Read or refused with a message of its own, and no secret in it.

use crate::{Blob, Draw, Subject, json, text};
use lattice_agent_core::{AgentConfig, HomePaths};
use lattice_server::ServerConfig;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, sync::LazyLock};

/// What kind of file, and what is in it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    file: File,
    text: Blob,
}

/// Which file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum File {
    Agent,
    Server,
    Identity,
    Certificate,
    FormerNodes,
}

const AGENT: &str = "cpu = 2.5\nmemory = \"60%\"\npublish_beyond_loopback = false\nprojects = [\"default\"]\nallow_capabilities = [\"NET_ADMIN\"]\nmax_ulimits = { nofile = 65536 }\ngpus = [\"0\"]\nmax_log = \"1g\"\ndocker_host = \"/var/run/docker.sock\"\nproxy = \"http://user:s3cretword@proxy.example:3128\"\nheartbeat_seconds = 5\n";
const SERVER: &str = "home = \"/tmp/x\"\ncluster_name = \"attic\"\nmin_agent_version = \"0.1.0\"\n[store]\nurl = \"postgres://user:s3cretword@h1,h2/db?sslmode=require\"\nschema = \"lattice\"\n[api]\nlisten = \"127.0.0.1:7400\"\nhosts = [\"lattice.example\"]\nsession_secs = 3600\nsession_idle_secs = 600\n[agents]\nlisten = \"0.0.0.0:7443\"\nadvertise = [\"a.example:1\", \"10.0.0.1\"]\nheartbeat_secs = 5\npresence_grace_secs = 30\n[planning]\nnode_loss_after_secs = 120\nmany_nodes_least = 3\nmany_nodes_percent = 50\nstrategy = \"spread\"\n[blobs]\npath = \"/tmp/b\"\nper_project = \"1g\"\n[backup]\nurl = \"/b\"\nevery = \"6h\"\nkeep = 3\nrecipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]\n";
const IDENTITY: &str = r#"{"version":1,"node":"01010101-0101-0101-0101-010101010101","cluster":"01010101-0101-0101-0101-010101010102","name":"box","servers":["lattice.example:7443"],"root":"AAAA","joined_at":5}"#;
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
const FORMER: &str = "01010101-0101-0101-0101-010101010101\n01010101-0101-0101-0101-010101010102\n";

/// One for all: each kind of file has its own name in it.
static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

impl Subject for Document {
    const NAME: &'static str = "documents";

    fn draw(draw: &mut dyn Draw) -> Self {
        let (file, seed) = *draw.of(&[
            (File::Agent, AGENT),
            (File::Server, SERVER),
            (File::Identity, IDENTITY),
            (File::Certificate, CERTIFICATE),
            (File::FormerNodes, FORMER),
        ]);
        let mut bytes = seed.as_bytes().to_vec();
        if let (File::Identity, true, Ok(mut value)) = (file, draw.one_in(2), serde_json::from_str(seed)) {
            json::alter(draw, &mut value, &[]);
            bytes = value.to_string().into_bytes();
        } else {
            text::alter(draw, &mut bytes, &[AGENT.as_bytes(), SERVER.as_bytes()]);
        }
        Self { file, text: Blob(bytes) }
    }

    fn check(&self) -> Result<(), String> {
        let Self { file, text } = self;
        if let (File::Server, Ok(text)) = (file, std::str::from_utf8(&text.0)) {
            let config = ServerConfig::parse(
                text,
                Path::new("/etc/lattice/server.toml"),
                Path::new("/var/lib/lattice"),
            );
            return match config {
                Ok(config) => config.check().map_err(|error| format!("it is read and then refused: {error}")),
                Err(error) => self.secretless(&error.to_string()),
            };
        }
        let home = HomePaths::new(FOLDER.path());
        fs::create_dir_all(home.dir()).map_err(|error| error.to_string())?;
        let put = |name: &str| put(&home, name, &text.0).map_err(|error| error.to_string());
        let outcome = match file {
            File::Agent => {
                put("agent.toml")?;
                AgentConfig::load(&home.config()).map(|config| format!("{config:?}"))
            }
            File::Identity => {
                put("identity.json")?;
                home.identity()
                    .and_then(|identity| identity.map(|identity| identity.root()).transpose())
                    .map(|_| String::new())
            }
            File::Certificate => {
                put("node.crt")?;
                home.certificate().map(|_| String::new())
            }
            File::FormerNodes => {
                put("former-nodes")?;
                home.former_nodes().map(|_| String::new())
            }
            File::Server => return Ok(()),
        };
        self.secretless(&outcome.unwrap_or_else(|error| error.to_string()))
    }
}

/// As the agent keeps its files: for its user alone.
fn put(home: &HomePaths, name: &str, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let options = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(home.dir().join(name));
    options.and_then(|mut file| std::io::Write::write_all(&mut file, text))
}

impl Document {
    /// No message shows a password that stands where one belongs.
    fn secretless(&self, said: &str) -> Result<(), String> {
        let text = String::from_utf8_lossy(&self.text.0);
        // What was put into another place than an address's password is no secret.
        let secret =
            |line: &str| line.trim_start().starts_with("proxy") || line.trim_start().starts_with("url");
        let in_place = text.matches("://user:s3cretword@").count() == text.matches("s3cretword").count()
            && text.lines().filter(|line| line.contains("s3cretword")).all(secret);
        if in_place && said.contains("s3cretword") {
            Err(format!("a password is shown: {said}"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is refused at once tries nothing.
    #[test]
    fn what_inputs_are_made_from_is_good() {
        let folder = FOLDER.path();
        ServerConfig::parse(SERVER, Path::new("server.toml"), folder).unwrap();
        let home = HomePaths::new(folder);
        fs::create_dir_all(home.dir()).unwrap();
        put(&home, "agent.toml", AGENT.as_bytes()).unwrap();
        AgentConfig::load(&home.config()).unwrap();
        put(&home, "identity.json", IDENTITY.as_bytes()).unwrap();
        put(&home, "node.crt", CERTIFICATE.as_bytes()).unwrap();
        put(&home, "former-nodes", FORMER.as_bytes()).unwrap();
        home.identity().unwrap().unwrap().root().unwrap();
        assert_eq!((home.certificate().unwrap().len(), home.former_nodes().unwrap().len()), (1, 2));
    }
}
