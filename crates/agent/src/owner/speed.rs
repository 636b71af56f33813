//! What the agent itself fetches and sends keeps to the owner's limit of speed, too: uploaded images, files of
//! deployments, volumes, logs, what is forwarded. Containers' own packets are counted by the firewall ([`crate::lan`]).

use super::Lent;
use lattice_link::Throttle;
use lattice_model::BitRate;
use std::sync::Arc;
use tokio::sync::watch;

/// Sets the limit whenever it changes; ends with the agent.
pub(crate) async fn keep_speed(throttle: Throttle, mut lent: watch::Receiver<Arc<Lent>>) {
    loop {
        let speeds = lent.borrow_and_update().bandwidth();
        throttle.set(speeds.up.map(BitRate::bytes), speeds.down.map(BitRate::bytes));
        if lent.changed().await.is_err() {
            return;
        }
    }
}
