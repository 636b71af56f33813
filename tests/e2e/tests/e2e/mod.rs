//! Subjects, and the Compose files that several of them deploy.

mod backup;
mod bad_input;
mod builds;
mod changes;
mod cut;
mod docker_restart;
mod first_light;
mod full_disk;
mod hard;
mod health;
mod hours;
mod identity;
mod images;
mod import;
mod jobs;
mod killed;
mod kit;
mod lan;
mod local_api;
mod node_loss;
mod nodes;
mod project;
mod ranking;
mod replicas;
mod reset;
mod rollouts;
mod schedules;
mod secrets;
mod service;
mod speed;
mod stranger;
mod untouched;

use lattice_e2e::{BUSYBOX, POSTGRES};

/// A web server that says its host's name, `more` added to the service; each line must be indented by four.
fn web(more: &str) -> String {
    format!(
        r#"services:
  web:
    image: {BUSYBOX}
    command:
      - sh
      - -c
      - mkdir -p /tmp/www && echo "hello from $$(hostname)" >/tmp/www/index.html && echo ready;
        trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/www & wait
    ports: ["8080"]
    deploy: {{ resources: {{ limits: {{ cpus: "0.25", memory: 32M }} }} }}
{more}"#
    )
}

/// Services that sleep; each name with its further lines, indented by four.
fn sleepers(services: &[(&str, &str)]) -> String {
    let mut text = "services:\n".to_owned();
    for (name, more) in services {
        text.push_str(&format!(
            "  {name}:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    \
             command: [sh, -c, \"trap 'exit 0' TERM; echo begun; sleep 100000 & wait\"]\n    \
             deploy: {{ resources: {{ limits: {{ cpus: \"0.1\", memory: 16M }} }} }}\n{more}"
        ));
    }
    text
}

/// The repository's example with a database, and what it takes to deploy it here.
fn shop() -> (String, (&'static str, &'static str)) {
    let path = lattice_e2e::repository().join("examples/shop/compose.yaml");
    (path.display().to_string(), ("POSTGRES_IMAGE", POSTGRES))
}
