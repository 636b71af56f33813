//! The part on PostgreSQL, on real instances of it: the suite, several servers on one database,
//! connections that break at chosen moments, kill -9, passwords and TLS.

#![allow(clippy::unwrap_used)]

mod broken;
mod killed;
mod opening;
mod several;
mod suite;

use lattice_postgres_kit::Postgres;
use lattice_store::{
    ApplyError, Key, Kind, Op, PostgresOptions, PostgresStore, Revision, Store, Transaction,
};
use std::sync::Arc;

const ROW: Kind = Kind::new("row");

fn options(url: String, schema: &str) -> PostgresOptions {
    PostgresOptions { schema: schema.to_owned(), ..PostgresOptions::new(url) }
}

async fn open(postgres: &Postgres) -> Arc<dyn Store> {
    open_at(postgres.url()).await
}

async fn open_at(url: String) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(&PostgresOptions::new(url)).await.unwrap())
}

fn key(id: impl ToString) -> Key {
    Key::new(ROW, id.to_string())
}

fn put(id: impl ToString, body: &str) -> Transaction {
    Transaction::new([Op::Put { key: key(id), project: None, owner: None, body: body.into() }])
}

/// Adds one to a number by compare-and-swap, as often as it takes; gives the revision.
async fn add_one(store: &Arc<dyn Store>, id: &str) -> Revision {
    loop {
        let row = store.get(&key(id)).await.unwrap().unwrap();
        let body = (row.body.parse::<u64>().unwrap() + 1).to_string().into();
        match store.apply(Transaction::new([Op::Update { key: key(id), expected: row.revision, body }])).await
        {
            Ok(applied) => return applied.revision,
            Err(ApplyError::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
