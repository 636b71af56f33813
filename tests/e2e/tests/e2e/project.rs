//! A project with an image that is built here, files of its folder, a configuration and a secret.

use lattice_api::{AllocationView, SecretView};
use lattice_e2e::{BUSYBOX, Output, PATIENCE, Up, http, until};
use std::{fs, net::SocketAddr, path::Path};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

fn page(up: &Up) -> String {
    until("the board answers", PATIENCE, || {
        let all: Vec<AllocationView> = up.lattice(&["ps", "-o", "json", "noticeboard"]).ok().json();
        let port = all.iter().flat_map(|a| &a.status.ports).next().ok_or("no port yet")?;
        match http(SocketAddr::new(port.host_ip, port.host_port)) {
            Ok((200, body)) => Ok(body),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn what_a_project_brings_along_reaches_its_containers() {
    let folder = tempfile::tempdir().unwrap();
    copy(&lattice_e2e::repository().join("examples/noticeboard"), folder.path());
    let file = folder.path().join("compose.yaml").display().to_string();
    let mut up = Up::new();
    up.start();
    let deploy = |more: &[&str]| {
        let mut command = up.command(&[&["deploy", "-f", &file][..], more].concat());
        command.env("BUSYBOX_IMAGE", BUSYBOX);
        Output::of(&command, b"")
    };
    // Nothing is there yet, and a dry run brings nothing.
    let planned = deploy(&["--dry-run"]).ok();
    for words in
        ["would be built from web", "folder ./site", "would be uploaded", "noticeboard_token would be set"]
    {
        assert!(planned.text().contains(words), "{words}: {}", planned.text());
    }
    let secrets: Vec<SecretView> = up.lattice(&["secret", "ls", "-o", "json"]).ok().json();
    assert!(secrets.is_empty());

    let _ = deploy(&[]).ok();
    let first = page(&up);
    for words in ["Welcome to the board.", "bring cake", "bring bread", "the token has 17 bytes"] {
        assert!(first.contains(words), "{words}: {first}");
    }
    // The same again: the same image from the builder's cache, the same files, the same secret.
    let before: Vec<AllocationView> = up.lattice(&["ps", "-o", "json", "noticeboard"]).ok().json();
    let _ = deploy(&[]).ok();
    let after: Vec<AllocationView> = up.lattice(&["ps", "-o", "json", "noticeboard"]).ok().json();
    assert_eq!(before[0].id, after[0].id);
    let secrets: Vec<SecretView> = up.lattice(&["secret", "ls", "-o", "json"]).ok().json();
    assert_eq!(secrets[0].version, 1);

    fs::write(folder.path().join("site/friday.txt"), "friday: bring tea\n").unwrap();
    let _ = deploy(&[]).ok();
    until("the changed page is served", PATIENCE, || {
        let page = page(&up);
        if page.contains("bring tea") { Ok(()) } else { Err(page) }
    });
    let _ = up.lattice(&["rm", "-y", "--volumes", "noticeboard"]).ok();
    let config = up.command(&["config", "-f", &file]);
    assert!(!Output::of(&config, b"").ok().text().contains("not-a-real-token"));
}
