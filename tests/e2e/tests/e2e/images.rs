//! A folder with a Dockerfile on two machines, each with an engine of its own, and no registry anywhere.

use lattice_e2e::{BUSYBOX, Bed, Output, PATIENCE, until};
use std::{fs, path::Path};

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
