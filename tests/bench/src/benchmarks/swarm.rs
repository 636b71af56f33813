//! What Docker Swarm takes for the same stack: an overlay network, a service with one replica, until its container
//! runs. The engine becomes a swarm of its own on loopback for that, and leaves it afterwards; one that is in a swarm
//! already is left as it is.

use crate::{
    cluster::idle_command,
    engine::{Event, Events, millis, now, text},
    lab::{IMAGE, Lab},
    progress::Progress,
};
use anyhow::{Context as _, bail};
use serde_json::json;
use std::time::Duration;

const ROUNDS: usize = 15;
const WARM_UP: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds of each round.
pub(super) async fn measure(lab: &Lab, events: &mut Events) -> anyhow::Result<Vec<f64>> {
    let engine = lab.engine();
    let state = text(&engine.get("/info").await?, &["Swarm", "LocalNodeState"])?;
    if state != "inactive" {
        bail!("this engine is in a swarm of somebody's ({state})");
    }
    let had_bridge = engine.get("/networks/docker_gwbridge").await.is_ok();
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let body = json!({ "ListenAddr": format!("127.0.0.1:{port}"), "AdvertiseAddr": "127.0.0.1" });
    // Written down first: it may have happened even if the answer is lost.
    lab.in_swarm(had_bridge);
    engine.post("/swarm/init", Some(&body)).await.context("no swarm can be made on loopback")?;
    // By its id, or Swarm would ask a registry for it.
    let image = engine.image(IMAGE).await?;
    let mut times = Vec::new();
    let mut progress = Progress::new("rounds of Docker Swarm", ROUNDS + WARM_UP);
    for round in 0..ROUNDS + WARM_UP {
        let time = service(lab, events, &image, &format!("bench-{}-s{round}", lab.run())).await?;
        progress.step(&format!("{time:.0} ms"));
        times.push(time);
    }
    Ok(times.split_off(WARM_UP))
}

async fn service(lab: &Lab, events: &mut Events, image: &str, name: &str) -> anyhow::Result<f64> {
    let engine = lab.engine();
    let (key, value) = lab.label();
    let network =
        json!({ "Name": name, "Driver": "overlay", "CheckDuplicate": true, "Labels": { &key: &value } });
    let body = json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": { "Image": image, "Command": idle_command(), "StopGracePeriod": 1_000_000_000 },
            "Resources": { "Limits": { "MemoryBytes": 1_u64 << 30, "Pids": 2048 } },
            "RestartPolicy": { "Condition": "any" },
            "Networks": [{ "Target": name }],
        },
        "Mode": { "Replicated": { "Replicas": 1 } },
    });
    events.drain();
    let begin = now();
    let network = text(&engine.post("/networks/create", Some(&network)).await?, &["Id"])?;
    let service = text(&engine.post("/services/create", Some(&body)).await?, &["ID"])?;
    let of = |event: &Event| event.attribute("com.docker.swarm.service.name") == Some(name);
    let fits = |event: &Event| event.is("container", "start") && of(event);
    let seen = events.until(&format!("the start of service {name}"), PATIENCE, fits).await?;
    let id = seen.last().map(|event| event.actor.id.clone()).unwrap_or_default();
    let time = millis(begin, engine.started_at(&id).await?);
    engine.delete(&format!("/services/{service}")).await?;
    let gone = |event: &Event| event.is("container", "destroy") && event.actor.id == id;
    events.until(&format!("the end of service {name}"), PATIENCE, gone).await?;
    // Its task holds the network for a moment longer.
    for _ in 0..100 {
        if engine.delete(&format!("/networks/{network}")).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(time)
}
