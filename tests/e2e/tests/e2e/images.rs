//! A folder with a Dockerfile on two machines, each with an engine of its own, and no registry anywhere; and a
//! registry with a wall around it.

use lattice_e2e::{BUSYBOX, Bed, Cluster, Output, PATIENCE, until};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

fn project(folder: &Path, page: &str) {
    let dockerfile = format!(
        "FROM {BUSYBOX}\nRUN head -c 3000000 /dev/urandom > /base\nCOPY page /page\nCMD [\"sleep\", \"3600\"]\n"
    );
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("page"), page).unwrap();
    // Alone on its network, with one replica for each machine.
    let compose = "services:\n  web:\n    build: .\n    deploy:\n      replicas: 2\n      placement: {max_replicas_per_node: 1}\n";
    fs::write(folder.join("compose.yaml"), compose).unwrap();
}

/// What each machine's container has in its page.
fn pages(bed: &Bed) -> Vec<(String, String)> {
    let read = |found: &lattice_e2e::Found| {
        (found.node.clone(), bed.docker(&found.node, &["exec", &found.container, "cat", "/page"]))
    };
    let mut pages: Vec<_> = bed.running("boards").iter().map(read).collect();
    pages.sort();
    pages
}

#[test]
fn a_folder_with_a_dockerfile_runs_on_two_machines_without_a_registry() {
    let bed = Bed::up(2, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml").display().to_string();
    let deploy = || Output::of(&bed.command(&["deploy", "--name", "boards", "-f", &file]), b"").ok();
    project(folder.path(), "first");
    deploy().says(&["3 of 3 layers uploaded"]);
    let both = |page: &str| vec![("n1".to_owned(), page.to_owned()), ("n2".to_owned(), page.to_owned())];
    until("both machines run it", PATIENCE, || match pages(&bed) {
        found if found == both("first") => Ok(()),
        found => Err(format!("{found:?}")),
    });
    // The engines have the very image that was built, under its name.
    let image = |node: &str| {
        let id = bed.running("boards").into_iter().find(|found| found.node == node).unwrap().container;
        let ran = bed.docker(node, &["container", "inspect", "--format", "{{.Image}}", &id]);
        let name = bed.docker(node, &["image", "inspect", "--format", "{{index .RepoTags 0}}", &ran]);
        assert!(name.starts_with("lattice/boards-web:"), "{name}");
        ran
    };
    assert_eq!(image("n1"), image("n2"));
    // The same again: nothing is sent, and nothing is replaced.
    let before = bed.running("boards");
    deploy().says(&["there already"]);
    assert_eq!(bed.running("boards"), before);
    // One layer changed: it alone is sent.
    project(folder.path(), "second");
    deploy().says(&["1 of 3 layers uploaded"]);
    until("both machines run the new one", PATIENCE, || match pages(&bed) {
        found if found == both("second") => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let _ = bed.lattice(&["rm", "-y", "boards"]).ok();
}

/// Debian's registry on a port of loopback, which wants a login; it ends with the test.
struct Registry {
    address: String,
    child: std::process::Child,
    folder: tempfile::TempDir,
}

const PASSWORD: &str = "not-a-real-password";
/// `htpasswd -B` of it for `ann`.
const HTPASSWD: &str = "ann:$2y$05$Pzsi..aEPQEgaAMQjzu.hOdHDgzBg06H8g8263k712Fes7RdYLtSW\n";

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let (users, config) = (folder.path().join("users"), folder.path().join("config.yml"));
        fs::write(&users, HTPASSWD).unwrap();
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            folder.path().join("data").display(),
            users.display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker-registry; scripts/deps.sh test installs it");
        until("the registry listens", PATIENCE, || {
            std::net::TcpStream::connect(&address).map_err(|e| e.to_string())
        });
        Self { address, child, folder }
    }

    fn docker(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_CONFIG", self.folder.path().join("docker"));
        Output::of(&command, input).ok()
    }

    /// Pushes an image with this page as `app:1`, and leaves nothing of it on the engine.
    fn push(&self, page: &str) -> String {
        let name = format!("{}/app:1", self.address);
        let dockerfile = format!("FROM {BUSYBOX}\nRUN echo {page} > /page\n");
        let _ = self.docker(&["build", "--quiet", "--tag", &name, "-"], dockerfile.as_bytes());
        let _ = self.docker(&["login", "-u", "ann", "--password-stdin", &self.address], PASSWORD.as_bytes());
        let _ = self.docker(&["push", "--quiet", &name], b"");
        let shown = self.docker(&["image", "inspect", "--format", "{{index .RepoDigests 0}}", &name], b"");
        let digest = shown.text().rsplit('@').next().unwrap().to_owned();
        let _ = self.docker(&["rmi", "--force", &name], b"");
        digest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_image_of_a_registry_is_pinned_and_fetched_with_the_projects_login() {
    let registry = Registry::start();
    let first = registry.push("first");
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let address = registry.address.clone();
    let compose = |replicas: u32| {
        format!(
            "services:\n  web:\n    image: {}/app:1\n    command: [sleep, \"3600\"]\n    deploy: {{replicas: {replicas}}}\n",
            address
        )
    };
    let page = |allocation: &lattice_api::AllocationView| {
        let said = cluster.lattice(&["exec", &allocation.id.to_string(), "cat", "/page"]);
        if said.code == 0 { said.text().to_owned() } else { said.to_string() }
    };
    // 1. Without a login the reason is said, and what to do; nothing is pinned.
    cluster.deploy("walled", &compose(1), &["--no-wait"]).ok().says(&["is not pinned to a digest"]);
    cluster.all_are("walled", 1, "without a login", |a| {
        a.status.reason.as_deref().is_some_and(|reason| reason.contains("log in to the registry"))
    });
    // 2. With one it runs, without anything being deployed again.
    let login = ["registry", "login", &address, "-u", "ann"];
    let _ = cluster.lattice_with_input(&login, format!("{PASSWORD}\n").as_bytes()).ok();
    cluster.lattice(&["registry", "ls"]).ok().says(&[&address]);
    cluster.serving("walled", 1);
    // 3. Deployed again, it is pinned; the tag moves on, and another replica is the same image.
    let _ = cluster.deploy("walled", &compose(1), &[]).ok();
    let second = registry.push("second");
    assert_ne!(first, second);
    let _ = cluster.lattice(&["scale", "walled/web=2"]).ok();
    let both = cluster.serving("walled", 2);
    assert_eq!(both.iter().map(page).collect::<Vec<_>>(), ["first", "first"]);
    // 4. Deployed once more, it goes on to what the tag stands for now.
    let _ = cluster.deploy("walled", &compose(1), &[]).ok();
    until("the new image runs", PATIENCE, || {
        let found = page(&cluster.serving("walled", 1)[0]);
        if found == "second" { Ok(()) } else { Err(found) }
    });
    // 5. A registry that is down replaces no container.
    let (before, last) = (cluster.starts("walled"), compose(1));
    drop(registry);
    cluster.deploy("walled", &last, &[]).ok().says(&["stays with sha256:"]);
    assert_eq!(cluster.starts("walled"), before);
    // Nobody wrote the password down.
    assert!(!cluster.server_log().contains(PASSWORD) && !agent.log().contains(PASSWORD));
    let _ = cluster.lattice(&["rm", "-y", "walled"]).ok();
    for digest in [first, second] {
        let image = format!("{address}/app@{digest}");
        until("the image goes", PATIENCE, || {
            let gone = Output::of(Command::new("docker").args(["rmi", "--force", &image]), b"");
            if gone.code == 0 { Ok(()) } else { Err(gone) }
        });
    }
}
