//! Rules of pools: the server that plans looks now and then where each node belongs, and moves those that the
//! planner's [`pools`] names. Each move is an event and an audit entry, with its reason. What runs on them moves by the
//! next plan.

use crate::{
    clock,
    rows::{self, Audit, Event},
    state::Core,
};
use lattice_planner::pools::{self, Since};

/// What it remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    since: Since,
}

impl Keeper {
    /// Looks at all nodes once.
    pub(crate) async fn look(&mut self, core: &Core) {
        if core.live.leads_since.lock().is_none() || core.live.behind().is_some() {
            *self = Self::default();
            return;
        }
        let (now, hold) = (clock::now(), core.config.pool_hold);
        let written = core
            .commit(|snapshot| {
                let mut since = self.since.clone();
                let moves = pools::moves(&snapshot.cluster, &mut since, hold, now);
                let (mut ops, mut news) = (Vec::new(), Vec::new());
                for one in &moves {
                    let Some(row) = snapshot.cluster.nodes.get(&one.node) else { continue };
                    let (name, text) = (row.name.to_string(), format!("pool {} -> {}", one.from, one.to));
                    ops.push(rows::update(&one.of(row, now), row.revision));
                    ops.push(rows::create(&Audit::new(
                        "system",
                        "node.repool",
                        name.clone(),
                        format!("{text}: {}", one.why),
                    )));
                    let event = Event::new("node.repooled", name, text).on(row);
                    news.push(event.because(Some(one.why.clone())));
                }
                ops.extend(rows::events(news));
                Ok((ops, since))
            })
            .await;
        match written {
            Ok(done) => self.since = done.value,
            // They belong elsewhere still, and go with the next look.
            Err(refused) => {
                tracing::warn!(?refused, "nodes were not moved to the pools whose rules hold of them")
            }
        }
    }
}
