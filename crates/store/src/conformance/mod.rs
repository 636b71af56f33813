//! What every part of the port has to do, as tests that a part runs on itself.
//!
//! Enter at [`conformance_tests!`](crate::conformance_tests): one test for each case, each with a
//! [`Subject`] of its own; or at [`CASES`]. A failing case panics and says what it saw.

#![allow(clippy::unwrap_used)]

mod dumps;
mod leases;
mod rows;
mod watching;

pub use dumps::*;
pub use leases::*;
pub use rows::*;
pub use watching::*;

use crate::{Applied, ApplyError, Key, Kind, Op, Revision, Store, StoreError, Transaction};
use futures::future::BoxFuture;
use lattice_model::Duration;
use std::sync::Arc;

/// A store under test.
#[async_trait::async_trait]
pub trait Subject: Send + Sync {
    /// Opens the store: the first time empty, later (each time after [`Store::close`]) as it was.
    async fn open(&self) -> Arc<dyn Store>;
    /// Lets `span` pass for the leases: by moving the clock, or by waiting.
    async fn pass(&self, span: Duration);
}

/// Expands to one tokio test for each case of the suite; the expression makes a fresh
/// [`Subject`](crate::conformance::Subject).
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::conformance_cases!($crate::conformance_tests, @each $subject);
    };
    (@each $subject:expr; $($case:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$case(&$subject).await;
        }
    )+};
}

/// Gives the names of all cases to a macro, after what it is given besides.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($macro:path, $($before:tt)*) => {
        $macro! { $($before)*;
            rows_are_compared_and_swapped, refused_transactions_write_nothing, checks_only_assert,
            puts_and_deletes_without_expectation, bounds_are_kept, guards_fence, requests_are_applied_once,
            concurrent_writers_lose_no_update, listings_show_one_revision, pages_come_in_the_order_of_creation,
            pages_cost_what_they_hold, rows_survive_reopening,
            a_closed_store_says_so,
            changes_come_in_order_without_a_gap, a_listing_and_its_watch_miss_nothing,
            watches_resume_anywhere, changes_say_what_happened, compaction_ends_old_watches,
            slow_watchers_lose_nothing, a_watch_ends_with_its_store,
            leases_are_exclusive_and_end, leases_survive_reopening, released_leases_are_free, odd_leases_are_refused,
            restores_raise_the_incarnation,
            dumps_go_into_empty_stores, dumps_are_refused_by_stores_in_use, damaged_dumps_are_refused,
        }
    };
}

/// A case of the suite.
pub type Case = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>;

macro_rules! list {
    (; $($case:ident),+ $(,)?) => {
        /// All cases by name, for a part whose start is too dear for a test each.
        pub const CASES: &[(&str, Case)] = &[$((stringify!($case), |subject| Box::pin($case(subject)))),+];
    };
}

conformance_cases!(list,);

const THING: Kind = Kind::new("thing");
const OTHER: Kind = Kind::new("other_thing");

fn thing(id: &str) -> Key {
    Key::new(THING, id)
}

fn create(id: &str, body: &str) -> Op {
    Op::Create { key: thing(id), project: Some("shop".into()), owner: Some("ada".into()), body: body.into() }
}

fn update(id: &str, expected: Revision, body: &str) -> Op {
    Op::Update { key: thing(id), expected, body: body.into() }
}

fn put(id: &str, body: &str) -> Op {
    Op::Put { key: thing(id), project: None, owner: None, body: body.into() }
}

fn delete(id: &str, expected: Option<Revision>) -> Op {
    Op::Delete { key: thing(id), expected }
}

async fn apply(store: &Arc<dyn Store>, ops: impl IntoIterator<Item = Op>) -> Result<Applied, ApplyError> {
    store.apply(Transaction::new(ops)).await
}

async fn done(store: &Arc<dyn Store>, ops: impl IntoIterator<Item = Op>) -> Revision {
    apply(store, ops).await.unwrap().revision
}

async fn body(store: &Arc<dyn Store>, id: &str) -> Option<String> {
    store.get(&thing(id)).await.unwrap().map(|record| record.body.to_string())
}

/// The revisions of the first conflict that a transaction met.
#[track_caller]
fn conflict(result: Result<Applied, ApplyError>, at: &str) -> (Option<Revision>, Option<Revision>) {
    match result {
        Err(ApplyError::Conflict { key, expected, actual }) => {
            assert_eq!(key, thing(at));
            (expected, actual)
        }
        other => panic!("a conflict at {at} was expected, and this came: {other:?}"),
    }
}

fn closed(error: &StoreError) -> bool {
    matches!(error, StoreError::Closed)
}
