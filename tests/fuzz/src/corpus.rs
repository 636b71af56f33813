//! What inputs are made of: the Compose files that people have, and the stacks that they say.

use crate::disk::Disk;
use lattice_compose::{Options, Source, load};
use lattice_model::spec::StackSpec;
use serde_json::Value;
use std::{path::Path, sync::LazyLock};

/// Parts of Compose files that only count together.
const TOGETHER: &str = "include: [infra/compose.yaml]
include: [{path: [other.yaml, infra/compose.yaml], env_file: .env, project_directory: infra}]
    extends: {file: other.yaml, service: web}
    extends: {file: common/services.yaml, service: app}
    extends: web
    env_file: db.env
    env_file: [{path: db.env, required: false}, .env]
    label_file: db.env
    volumes: [./conf:/conf, ../out:/out, data:/data, '${HOME}:/home', /var/run/docker.sock:/s]
    build: {context: ., dockerfile_inline: FROM a, args: {A: $A}, secrets: [s]}
    secrets: [{source: s, target: /t, uid: '1', mode: 0400}]
    configs: [{source: c, target: /c}]
    <<: *a
    ports: ['80-90:8080-8090', '127.0.0.1::53/udp', {target: 80, published: '8000-8010'}]
    deploy: {replicas: 3, resources: {limits: {cpus: '0.5', memory: 1g}}, update_config: {order: start-first}}
    image: ${IMAGE:?no image}${TAG:+:$TAG}
    profiles: [a]
    depends_on: {web: {condition: service_healthy}}
x-lattice: {pool: gpu}
";

/// Every Compose file of the corpora, and [`TOGETHER`].
pub(crate) static COMPOSE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/compose/tests");
    let mut paths: Vec<_> = ["files", "corpus"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(tests.join(folder)).expect("the corpora of the crate compose"))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    let texts = paths.iter().map(|path| std::fs::read(path).expect("a file of the corpora"));
    texts.chain([TOGETHER.as_bytes().to_vec()]).collect()
});

/// The stacks of those files that can be deployed as they are.
pub(crate) static STACKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let variables = |_: &str| Some("1".to_owned());
    let options = Options { fallback_name: Some("fuzz"), build: false, ..Options::new(&variables) };
    let load = |text: &Vec<u8>| load(&[Source { name: "c.yaml", text }], &options, &Disk::everything()).ok();
    let stacks: Vec<Value> =
        COMPOSE.iter().filter_map(load).filter_map(|loaded| serde_json::to_value(loaded.spec).ok()).collect();
    assert!(stacks.len() > 5, "the corpora have files that can be deployed");
    let image = "{\"workloads\":{\"web\":{\"image\":\"fuzz\"}}}";
    let smallest: StackSpec = serde_json::from_str(image).expect("the smallest stack");
    std::iter::once(serde_json::to_value(smallest).unwrap_or_default()).chain(stacks).collect()
});
