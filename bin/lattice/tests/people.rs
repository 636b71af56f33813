//! People at the command line, against a real server: users, logins by password and by code, projects.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use lattice_server::{RunningServer, Server, ServerConfig};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
};
use tokio_util::sync::CancellationToken;

struct World {
    folder: tempfile::TempDir,
    server: RunningServer,
    runtime: tokio::runtime::Runtime,
}

const PASSWORD: &str = "correct horse battery staple\n";

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config = ServerConfig {
            api_listen: "127.0.0.1:0".parse().unwrap(),
            agent_listen: "127.0.0.1:0".parse().unwrap(),
            ..ServerConfig::new(folder.path().join("server"))
        };
        let server = runtime.block_on(Server::start(config, CancellationToken::new())).unwrap();
        Self { folder, server, runtime }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.api_addr())
    }

    /// As whoever runs the server, or as somebody with a home of their own.
    fn command(&self, person: Option<&str>, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lattice"));
        command.args(line.split(' ')).env_clear();
        match person {
            None => command.env("LATTICE_HOME", self.folder.path()),
            Some(person) => command.env("HOME", self.folder.path().join(person)),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, person: Option<&str>, line: &str, input: &str) -> Output {
        let mut child = self.command(person, line).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a command that has to work writes.
    fn ok(&self, person: Option<&str>, line: &str, input: &str) -> String {
        let output = self.run(person, line, input);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, person: Option<&str>, line: &str, says: &str) {
        let output = self.run(person, line, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(says), "{line}: {output:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.shutdown();
        // Its tasks end with the runtime.
        let _ = &self.runtime;
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn people_sign_in_and_do_what_they_may() {
    let world = World::new();
    let (server, ada, bob) = (world.url(), Some("ada"), Some("bob"));
    world.ok(None, "project create shop --replicas 3", "");
    world.ok(None, "user create ada --role developer@project/shop", PASSWORD);
    assert!(world.ok(None, "user ls", "").contains("developer@project/shop"));
    world.refused(ada, &format!("--server {server} login --user ada"), "wrong");
    world.ok(ada, &format!("--server {server} login --user ada"), PASSWORD);
    let kept = world.folder.path().join("ada/.config/lattice/servers.json");
    assert_eq!(mode(&kept), 0o600);
    // From now on commands go there.
    let who = world.ok(ada, "whoami", "");
    assert!(
        who.starts_with("ada\n") && who.contains(&server) && who.contains("developer@project/shop"),
        "{who}"
    );
    assert!(world.ok(ada, "project ls", "").contains("0/3"));
    world.refused(ada, "token create", "may not");
    world.refused(ada, "secret ls --project default", "may not see");
    world.ok(ada, "secret set --project shop key", "value");
    world.refused(ada, "api-token create more --role admin", "is not admin");
    let token = world.ok(ada, "api-token create ci --role developer@project/shop", "");
    assert!(token.starts_with("lap1_"));

    // On another computer by a code, which she approves where she is signed in.
    let mut login = world.command(bob, &format!("--server {server} login")).spawn().unwrap();
    let mut lines = BufReader::new(login.stderr.take().unwrap()).lines();
    let code =
        lines.find_map(|line| Some(line.unwrap().trim().strip_prefix("lattice login approve ")?.to_owned()));
    world.ok(ada, &format!("login approve {}", code.unwrap()), "");
    assert!(login.wait().unwrap().success());
    assert!(world.ok(bob, "whoami", "").starts_with("ada\n"));
    world.ok(bob, "logout", "");
    world.refused(bob, &format!("--server {server} whoami"), "no credential");

    // Kept out at once.
    world.ok(None, "user disable ada", "");
    world.refused(ada, "whoami", "session has ended");
    world.ok(ada, "logout", "");
    assert!(!std::fs::read_to_string(&kept).unwrap().contains("las1_"));
}

#[test]
fn an_invitation_is_a_link_and_a_project_ends_empty() {
    let world = World::new();
    let link = world.ok(None, "user invite ada --role admin", "");
    assert!(link.starts_with("http://127.0.0.1:") && link.contains("/invite?code=lai1_"), "{link}");
    world.refused(None, "login", "needs no login");
    world.refused(None, "login --server http://example.org", "plain HTTP");
    world.ok(None, "project create lab --description x", "");
    world.ok(None, "user create bob", PASSWORD);
    let members = world.ok(None, "project members lab add bob --role viewer", "");
    assert!(members.contains("bob") && members.contains("viewer@project/lab"), "{members}");
    assert!(world.ok(None, "project quota lab --memory 1g --stacks 2", "").contains("0/2"));
    world.ok(None, "project rm lab", "");
    world.refused(None, "project rm lab", "no project");
    world.refused(None, "project rm default", "stays");
    world.ok(None, "user rm bob", "");
    assert!(!world.ok(None, "user ls", "").contains("bob"));
}
