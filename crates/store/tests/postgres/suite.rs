//! The suite of all parts.

use super::options;
use lattice_model::Duration;
use lattice_postgres_kit::Postgres;
use lattice_store::{
    PostgresStore, Store,
    conformance::{CASES, Subject},
};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};

struct Schema {
    url: String,
    name: &'static str,
}

#[async_trait::async_trait]
impl Subject for Schema {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&options(self.url.clone(), self.name)).await.unwrap())
    }

    async fn pass(&self, span: Duration) {
        tokio::time::sleep(span.as_std()).await;
    }
}

/// One instance for all cases, each in a schema of its own: a start takes longer than a case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance() {
    let postgres = Postgres::start();
    let at_once = Arc::new(Semaphore::new(6));
    let mut tasks = JoinSet::new();
    let mut running = std::collections::HashMap::new();
    for (name, case) in CASES {
        let (at_once, url) = (Arc::clone(&at_once), postgres.url());
        let task = tasks.spawn(async move {
            let _permit = at_once.acquire().await.unwrap();
            case(&Schema { url, name }).await;
        });
        running.insert(task.id(), *name);
    }
    let mut failed = Vec::new();
    while let Some(done) = tasks.join_next_with_id().await {
        if let Err(error) = done {
            failed.push(running[&error.id()]);
        }
    }
    assert!(failed.is_empty(), "these cases failed, each as said above: {failed:?}");
}
