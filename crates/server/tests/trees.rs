//! Files that travel with a deployment: uploaded, named by a stack, given to the nodes that mount them.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_link::{LinkError, message::TreeRequest};
use lattice_tree::{Packer, Tree};
use serde_json::{Value, json};
use std::path::Path;
use support::*;

fn tree(contents: &[u8]) -> Tree {
    let mut packer = Packer::new();
    packer.file(Path::new("app.conf"), 0o444, (0, 0), contents).unwrap();
    packer.finish().unwrap()
}

fn path(project: &str, tree: &Tree) -> String {
    format!("/v1/projects/{project}/trees/{}", tree.digest)
}

fn stack(tree: &Tree) -> Value {
    let mount = json!({ "tree": tree.digest, "target": "/etc/app" });
    json!({ "spec": { "workloads": { "web": { "image": "nginx", "trees": [mount] } } } })
}

const SHOP: &str = "/v1/projects/default/stacks/shop";

#[tokio::test]
async fn files_are_uploaded_once_and_given_to_the_node_that_mounts_them_and_to_no_other() {
    let world = World::new().await;
    let (desk, _desk_link) = world.node("desk").await;
    let (attic, _attic_link) = world.node("attic").await;
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    let tree = tree(&[7; 100_000]);
    // 1. A stack that names what is not there is refused, with the digests.
    let (status, refused) = world.ask("PUT", SHOP, Some(stack(&tree))).await;
    assert_eq!((status, &refused["code"]), (409, &json!("missing_trees")), "{refused:#}");
    assert_eq!(refused["details"][0]["path"], json!(tree.digest));
    assert_eq!(world.ask("HEAD", &path("default", &tree), None).await.0, 404);
    // 2. Uploaded, it is there, for this project alone.
    let (status, view) = world.bytes("PUT", &path("default", &tree), tree.archive.clone()).await;
    assert_eq!((status, &view["bytes"]), (200, &json!(tree.archive.len())), "{view:#}");
    assert_eq!(world.ask("HEAD", &path("default", &tree), None).await.0, 200);
    assert_eq!(world.ask("HEAD", &path("lab", &tree), None).await.0, 404);
    let elsewhere = world.ask("PUT", "/v1/projects/lab/stacks/shop", Some(stack(&tree))).await;
    assert_eq!(elsewhere.1["code"], "missing_trees", "that another project has it is nobody's to know");
    world.ok("PUT", SHOP, Some(stack(&tree))).await;
    let audit = world.get("/v1/audit").await;
    assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "tree.upload"));
    // 3. The node whose goal names it gets it; others do not, and this one gets no others.
    let list = world.until("/v1/allocations", |list| list["items"][0]["id"].is_string()).await;
    let placed = list["items"][0]["node"].as_str().unwrap().to_owned();
    let (holder, stranger) = if placed == "desk" { (&desk, &attic) } else { (&attic, &desk) };
    let request = TreeRequest { digest: tree.digest, offset: 0 };
    let mut reader = soon("files", holder.bulk().fetch_tree(request)).await.unwrap();
    let mut got = Vec::new();
    while let Some(bytes) = soon("bytes", reader.next()).await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, tree.archive);
    let refused = stranger.bulk().fetch_tree(request).await.map(drop).unwrap_err();
    assert!(matches!(&refused, LinkError::Refused(r) if r.code == "tree_unknown"), "{refused}");
    let second = self::tree(b"another");
    world.bytes("PUT", &path("default", &second), second.archive.clone()).await;
    let unnamed = TreeRequest { digest: second.digest, offset: 0 };
    assert!(holder.bulk().fetch_tree(unnamed).await.is_err());
    // 4. Where the archive is lost, deploying again asks for it again.
    let name = tree.digest.to_string();
    let file = world.home.path().join("blobs/sha256").join(&name[..2]).join(&name[2..]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(world.ask("PUT", SHOP, Some(stack(&tree))).await.1["code"], "missing_trees");
    let lost = holder.bulk().fetch_tree(request).await.map(drop).unwrap_err();
    assert!(lost.to_string().contains("does not have the files"), "{lost}");
}

#[tokio::test]
async fn what_is_no_tree_or_too_much_is_refused_and_says_why() {
    let world = World::with(|config| config.blobs_per_project = lattice_model::Bytes(20_000)).await;
    let tree = tree(&[1; 10_000]);
    assert_eq!(world.bytes("PUT", &path("lab", &tree), tree.archive.clone()).await.0, 404, "no such project");
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    for (what, digest, body, code) in [
        ("another digest", "00".repeat(32), tree.archive.clone(), "mismatch"),
        (
            "no archive",
            lattice_model::spec::TreeDigest::of(b"noise").to_string(),
            b"noise".to_vec(),
            "invalid_spec",
        ),
        ("no digest", "abc".into(), vec![], "invalid_request"),
    ] {
        let (_, answer) = world.bytes("PUT", &format!("/v1/projects/default/trees/{digest}"), body).await;
        assert_eq!(answer["code"], code, "{what}: {answer:#}");
    }
    let (status, answer) = world.bytes("PUT", &path("default", &tree), tree.archive.clone()).await;
    assert_eq!(status, 200, "{answer:#}");
    // The same again is no second one; another is too much for this project, and not for the next.
    assert_eq!(world.bytes("PUT", &path("default", &tree), tree.archive.clone()).await.0, 200);
    let more = self::tree(&[2; 10_000]);
    let (_, answer) = world.bytes("PUT", &path("default", &more), more.archive.clone()).await;
    assert_eq!(answer["code"], "too_large", "{answer:#}");
    assert_eq!(world.bytes("PUT", &path("lab", &more), more.archive.clone()).await.0, 200);
    assert_eq!(std::fs::read_dir(world.home.path().join("blobs/tmp")).unwrap().count(), 0);
}
