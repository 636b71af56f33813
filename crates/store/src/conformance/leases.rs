//! Leases and the identity of the cluster.

use super::Subject;
use crate::{Lease, LeaseError};
use lattice_model::Duration;

/// Long enough that it does not end while a case runs on a real clock.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(2);

#[track_caller]
fn lost(result: Result<Lease, LeaseError>) -> (u64, Option<u64>) {
    match result {
        Err(LeaseError::Lost { epoch, actual, .. }) => (epoch, actual),
        other => panic!("a lost lease was expected, and this came: {other:?}"),
    }
}

/// One holder at a time, until the lease ends; each holding under an epoch of its own.
pub async fn leases_are_exclusive_and_end(subject: &dyn Subject) {
    let store = subject.open().await;
    assert_eq!(store.lease("leader").await.unwrap(), None);
    let one = store.acquire_lease("leader", "x", SHORT).await.unwrap();
    assert_eq!((one.epoch, one.holder.as_str(), one.name.as_str()), (1, "x", "leader"));
    assert!(one.expires_in <= SHORT);
    match store.acquire_lease("leader", "y", SHORT).await {
        Err(LeaseError::Held { name, by, remaining }) => {
            assert_eq!((name.as_str(), by.as_str()), ("leader", "x"));
            assert!(remaining <= SHORT && remaining > Duration(0), "{remaining}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        store.acquire_lease("else", "y", SHORT).await.unwrap().epoch,
        1,
        "each lease counts for itself"
    );

    subject.pass(Duration::from_secs(1)).await;
    let renewed = store.renew_lease("leader", 1, SHORT).await.unwrap();
    assert_eq!(renewed.epoch, 1, "a renewal is the same holding");
    subject.pass(Duration::from_millis(1500)).await;
    assert_eq!(store.lease("leader").await.unwrap().map(|lease| lease.holder).as_deref(), Some("x"));
    subject.pass(Duration::from_millis(1500)).await;
    assert_eq!(store.lease("leader").await.unwrap(), None, "it ended by itself");
    assert_eq!(lost(store.renew_lease("leader", 1, SHORT).await), (1, None), "and cannot be revived");

    assert_eq!(store.acquire_lease("leader", "y", SHORT).await.unwrap().epoch, 2);
    assert_eq!(lost(store.renew_lease("leader", 1, LONG).await), (1, Some(2)));
    assert!(matches!(store.release_lease("leader", 1).await, Err(LeaseError::Lost { actual: Some(2), .. })));
    let again = store.acquire_lease("leader", "y", LONG).await.unwrap();
    assert_eq!(again.epoch, 3, "who acquires again begins a new holding");
    assert_eq!(lost(store.renew_lease("leader", 2, LONG).await), (2, Some(3)));
    assert_eq!(lost(store.renew_lease("never", 1, LONG).await), (1, None));
    store.close().await;
}

/// A lease and its epoch outlive the server, and no longer than the lease.
pub async fn leases_survive_reopening(subject: &dyn Subject) {
    let store = subject.open().await;
    store.acquire_lease("long", "x", LONG).await.unwrap();
    store.acquire_lease("short", "x", SHORT).await.unwrap();
    store.close().await;
    let store = subject.open().await;
    let held = store.acquire_lease("long", "y", LONG).await;
    assert!(matches!(&held, Err(LeaseError::Held { remaining, .. }) if *remaining <= LONG), "{held:?}");
    assert_eq!(store.renew_lease("long", 1, LONG).await.unwrap().epoch, 1);
    subject.pass(Duration::from_secs(3)).await;
    assert_eq!(store.acquire_lease("short", "y", LONG).await.unwrap().epoch, 2, "the epoch goes on");
    store.close().await;
}

/// A released lease can be taken at once, under the next epoch.
pub async fn released_leases_are_free(subject: &dyn Subject) {
    let store = subject.open().await;
    store.acquire_lease("leader", "x", LONG).await.unwrap();
    store.release_lease("leader", 1).await.unwrap();
    assert_eq!(store.lease("leader").await.unwrap(), None);
    assert!(matches!(store.release_lease("leader", 1).await, Err(LeaseError::Lost { actual: None, .. })));
    assert_eq!(store.acquire_lease("leader", "y", LONG).await.unwrap().epoch, 2);
    store.close().await;
}

/// What makes no sense as a lease is refused.
pub async fn odd_leases_are_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    let long = "n".repeat(300);
    for (name, holder, ttl) in [
        ("", "x", LONG),
        ("l", "", LONG),
        (&long, "x", LONG),
        ("l", "x", Duration(0)),
        ("l", "x", Duration(u64::MAX)),
    ] {
        let refused = store.acquire_lease(name, holder, ttl).await;
        assert!(matches!(refused, Err(LeaseError::Invalid { .. })), "{refused:?}");
    }
    store.close().await;
}

/// The cluster's id stays, and a restore raises the incarnation for good.
pub async fn restores_raise_the_incarnation(subject: &dyn Subject) {
    let store = subject.open().await;
    let new = store.cluster().await.unwrap();
    assert_eq!(new.incarnation, 1);
    let raised = store.raise_incarnation().await.unwrap();
    assert_eq!((raised.incarnation, raised.cluster_id, raised.schema), (2, new.cluster_id, new.schema));
    store.close().await;
    let store = subject.open().await;
    assert_eq!(store.cluster().await.unwrap(), raised);
    store.close().await;
}
