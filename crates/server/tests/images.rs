//! Images without a registry: uploaded layer by layer, named by a stack, given to the nodes that run them.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_link::{LinkError, message::ImagePartRequest};
use lattice_model::spec::ImageDigest;
use serde_json::{Value, json};
use support::*;

struct Image {
    config: Vec<u8>,
    id: ImageDigest,
    layers: Vec<(ImageDigest, Vec<u8>)>,
}

fn frame(layer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    lattice_image::compress(layer, layer.len() as u64, &mut out).unwrap();
    out
}

fn image(arch: &str, layers: &[&[u8]]) -> Image {
    let layers: Vec<_> = layers.iter().map(|layer| (ImageDigest::of(layer), frame(layer))).collect();
    let ids: Vec<ImageDigest> = layers.iter().map(|(digest, _)| *digest).collect();
    let config =
        json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } });
    let config = config.to_string().into_bytes();
    Image { id: ImageDigest::of(&config), config, layers }
}

fn layer(project: &str, digest: ImageDigest) -> String {
    format!("/v1/projects/{project}/layers/{digest}")
}

fn at(project: &str, id: ImageDigest) -> String {
    format!("/v1/projects/{project}/images/{id}")
}

fn stack(image: &Image) -> Value {
    let pin = json!({ "from": "server", "digest": image.id });
    json!({ "spec": { "workloads": { "web": { "image": "lattice/shop-web:x", "pin": pin } } } })
}

const SHOP: &str = "/v1/projects/default/stacks/shop";

#[tokio::test]
async fn an_image_is_uploaded_once_and_given_to_the_node_that_runs_it_and_to_no_other() {
    let world = World::new().await;
    let (desk, _desk_link) = world.node("desk").await;
    let (attic, _attic_link) = world.node("attic").await;
    let image = image("amd64", &[&[7; 100_000], b"upper"]);
    // 1. Nothing is there: neither the image nor what it is made of.
    let (status, refused) = world.ask("PUT", SHOP, Some(stack(&image))).await;
    assert_eq!((status, &refused["code"]), (409, &json!("missing_images")), "{refused:#}");
    assert_eq!(refused["details"][0]["path"], json!(image.id));
    let (status, refused) = world.bytes("PUT", &at("default", image.id), image.config.clone()).await;
    assert_eq!((status, &refused["code"]), (409, &json!("missing_layers")), "{refused:#}");
    assert_eq!(refused["details"].as_array().unwrap().len(), 2);
    // 2. Layers, then the configuration.
    for (digest, frame) in &image.layers {
        assert_eq!(world.ask("HEAD", &layer("default", *digest), None).await.0, 404);
        let (status, view) = world.bytes("PUT", &layer("default", *digest), frame.clone()).await;
        assert_eq!((status, &view["stored"]), (200, &json!(frame.len())), "{view:#}");
        assert_eq!(world.ask("HEAD", &layer("default", *digest), None).await.0, 200);
    }
    let (status, view) = world.bytes("PUT", &at("default", image.id), image.config.clone()).await;
    assert_eq!((status, &view["platform"], &view["bytes"]), (200, &json!("linux/amd64"), &json!(100_005)));
    assert_eq!(world.get(&at("default", image.id)).await["id"], json!(image.id));
    // 3. Another project neither learns of a layer nor gets to use it, whoever knows the digest.
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    assert_eq!(world.ask("HEAD", &layer("lab", image.layers[0].0), None).await.0, 404);
    assert_eq!(world.ask("GET", &at("lab", image.id), None).await.0, 404);
    let (_, refused) = world.bytes("PUT", &at("lab", image.id), image.config.clone()).await;
    assert_eq!(refused["code"], "missing_layers", "{refused:#}");
    let elsewhere = world.ask("PUT", "/v1/projects/lab/stacks/shop", Some(stack(&image))).await;
    assert_eq!(elsewhere.1["code"], "missing_images");
    // 4. Deployed, it says what it is made for, whatever was sent.
    world.ok("PUT", SHOP, Some(stack(&image))).await;
    let list = world.until("/v1/allocations", |list| list["items"][0]["id"].is_string()).await;
    let placed = list["items"][0]["node"].as_str().unwrap().to_owned();
    let (holder, stranger) = if placed == "desk" { (&desk, &attic) } else { (&attic, &desk) };
    let workload = world.get("/v1/projects/default/stacks/shop/workloads/web").await;
    assert_eq!(workload["spec"]["pin"]["platforms"], json!(["linux/amd64"]), "{workload:#}");
    // 5. The node whose goal names it gets each part, from anywhere on; others get none.
    let ask = |layer, offset| ImagePartRequest { image: image.id, layer, offset };
    let parts = [
        (ask(None, 0), image.config.clone()),
        (ask(Some(image.layers[0].0), 0), image.layers[0].1.clone()),
        (ask(Some(image.layers[1].0), 3), image.layers[1].1.clone()),
    ];
    for (request, whole) in &parts {
        let mut reader = soon("a part", holder.bulk().fetch_image_part(*request)).await.unwrap();
        assert_eq!(reader.size(), whole.len() as u64);
        let mut got = Vec::new();
        while let Some(bytes) = soon("bytes", reader.next()).await.unwrap() {
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, whole[usize::try_from(request.offset).unwrap()..]);
        let refused = stranger.bulk().fetch_image_part(*request).await.map(drop).unwrap_err();
        assert!(matches!(&refused, LinkError::Refused(r) if r.code == "image_unknown"), "{refused}");
    }
    // 6. Nor does the holder get what is uploaded and not in its goal: another image, or its layer.
    let other = self::image("amd64", &[b"another"]);
    world.bytes("PUT", &layer("default", other.layers[0].0), other.layers[0].1.clone()).await;
    world.bytes("PUT", &at("default", other.id), other.config.clone()).await;
    for request in [
        ImagePartRequest { image: other.id, layer: None, offset: 0 },
        ImagePartRequest { image: other.id, layer: Some(other.layers[0].0), offset: 0 },
        ask(Some(other.layers[0].0), 0),
    ] {
        let refused = holder.bulk().fetch_image_part(request).await.map(drop).unwrap_err();
        assert!(matches!(&refused, LinkError::Refused(r) if r.code == "image_unknown"), "{refused}");
    }
    // 7. Where a layer is lost, it is not taken for there.
    let name = image.layers[1].0.hex();
    let file = world.home.path().join("blobs/images/sha256").join(&name[..2]).join(&name[2..]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(world.ask("GET", &at("default", image.id), None).await.0, 404);
    assert_eq!(world.ask("PUT", SHOP, Some(stack(&image))).await.1["code"], "missing_images");
    let lost = holder.bulk().fetch_image_part(parts[2].0).await.map(drop).unwrap_err();
    assert!(lost.to_string().contains("does not have a layer"), "{lost}");
    let audit = world.get("/v1/audit").await;
    let actions: Vec<&Value> =
        audit["items"].as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert!(actions.contains(&&json!("layer.upload")) && actions.contains(&&json!("image.upload")));
}

#[tokio::test]
async fn what_is_no_layer_no_image_or_too_much_is_refused_and_says_why() {
    let world = World::with(|config| config.images_per_project = lattice_model::Bytes(20_000)).await;
    let image = image("amd64", &[&[1; 15_000]]);
    let (digest, frame) = image.layers[0].clone();
    let bomb = self::frame(&vec![0; 1 << 20]);
    for (what, path, body, code) in [
        ("another digest", layer("default", ImageDigest::of(b"x")), frame.clone(), "mismatch"),
        ("no frame", layer("default", digest), vec![1; 15_000], "invalid_spec"),
        ("a frame cut short", layer("default", digest), frame[..frame.len() - 2].to_vec(), "invalid_spec"),
        ("a bomb", layer("default", ImageDigest::of(&vec![0; 1 << 20])), bomb, "too_large"),
        ("no digest", "/v1/projects/default/layers/abc".into(), vec![], "invalid_request"),
        ("another configuration", at("default", ImageDigest::of(b"x")), image.config.clone(), "mismatch"),
        ("no configuration", at("default", ImageDigest::of(b"{}")), b"{}".to_vec(), "invalid_spec"),
    ] {
        let (_, answer) = world.bytes("PUT", &path, body).await;
        assert_eq!(answer["code"], code, "{what}: {answer:#}");
    }
    // The same again is no second one; another is too much for this project, and not for the next.
    for _ in 0..2 {
        assert_eq!(world.bytes("PUT", &layer("default", digest), frame.clone()).await.0, 200);
    }
    let more = self::image("amd64", &[&[2; 15_000]]).layers.remove(0);
    let (_, answer) = world.bytes("PUT", &layer("default", more.0), more.1.clone()).await;
    assert_eq!(answer["code"], "too_large", "{answer:#}");
    assert_eq!(world.bytes("PUT", &layer("lab", more.0), more.1).await.0, 200);
    assert_eq!(std::fs::read_dir(world.home.path().join("blobs/images/tmp")).unwrap().count(), 0);
}
