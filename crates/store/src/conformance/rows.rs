//! Transactions and reads.

use super::{OTHER, Subject, THING, apply, body, closed, conflict, create, delete, done, put, thing, update};
use crate::{
    ApplyError, Guard, Key, MAX_BODY_BYTES, MAX_NAME_BYTES, MAX_OPS, Op, Page, Revision, StoreError,
    Transaction,
};
use lattice_model::{Duration, RequestId};
use std::{sync::Arc, time::Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Create, update and delete take a row only in the state that they expect.
pub async fn rows_are_compared_and_swapped(subject: &dyn Subject) {
    let store = subject.open().await;
    assert_eq!(store.revision().await.unwrap(), Revision::ZERO);
    assert!(store.get(&thing("a")).await.unwrap().is_none());
    assert_eq!(
        conflict(apply(&store, [update("a", Revision(1), "1")]).await, "a"),
        (Some(Revision(1)), None)
    );

    assert_eq!(done(&store, [create("a", "1")]).await, Revision(1));
    assert_eq!(conflict(apply(&store, [create("a", "2")]).await, "a"), (None, Some(Revision(1))));
    assert_eq!(done(&store, [update("a", Revision(1), "2")]).await, Revision(2));
    let stale = apply(&store, [update("a", Revision(1), "3")]).await;
    assert_eq!(conflict(stale, "a"), (Some(Revision(1)), Some(Revision(2))));

    let row = store.get(&thing("a")).await.unwrap().unwrap();
    assert_eq!((row.revision, row.created, &*row.body), (Revision(2), Revision(1), "2"));
    assert_eq!(
        (row.project.as_deref(), row.owner.as_deref()),
        (Some("shop"), Some("ada")),
        "an update keeps them"
    );

    let stale = apply(&store, [delete("a", Some(Revision(1)))]).await;
    assert_eq!(conflict(stale, "a"), (Some(Revision(1)), Some(Revision(2))));
    assert_eq!(done(&store, [delete("a", Some(Revision(2)))]).await, Revision(3));
    assert_eq!(
        conflict(apply(&store, [delete("a", Some(Revision(2)))]).await, "a"),
        (Some(Revision(2)), None)
    );

    assert_eq!(done(&store, [create("a", "4")]).await, Revision(4));
    let row = store.get(&thing("a")).await.unwrap().unwrap();
    assert_eq!((row.revision, row.created), (Revision(4), Revision(4)), "created again, it is another row");
    store.close().await;
}

/// One refused operation refuses all, wherever it stands, and takes no revision.
pub async fn refused_transactions_write_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let first = done(&store, [create("a", "1"), create("b", "1")]).await;
    let ops = [update("a", first, "2"), put("c", "2"), delete("b", None), create("d", "2")];
    for at in 0..=ops.len() {
        let mut ops = ops.to_vec();
        ops.insert(at, update("missing", first, "2"));
        assert_eq!(conflict(apply(&store, ops).await, "missing"), (Some(first), None));
        assert_eq!(store.revision().await.unwrap(), first);
    }
    let rows = store.list_all().await.unwrap().records;
    let ids: Vec<_> = rows.iter().map(|row| (&*row.key.id, row.revision, &*row.body)).collect();
    assert_eq!(ids, [("a", first, "1"), ("b", first, "1")]);

    let all = done(&store, ops).await;
    assert_eq!(all, first.next(), "one revision for the whole transaction");
    let rows = store.list_all().await.unwrap().records;
    let ids: Vec<_> = rows.iter().map(|row| (&*row.key.id, row.revision, &*row.body)).collect();
    assert_eq!(ids, [("a", all, "2"), ("c", all, "2"), ("d", all, "2")]);
    store.close().await;
}

/// A check guards a transaction and changes nothing itself.
pub async fn checks_only_assert(subject: &dyn Subject) {
    let store = subject.open().await;
    let at = done(&store, [create("a", "1")]).await;
    let check = |id, expected| Op::Check { key: thing(id), expected };
    assert_eq!(done(&store, [check("a", Some(at)), check("b", None)]).await, at, "it takes no revision");
    assert_eq!(conflict(apply(&store, [check("a", None)]).await, "a"), (None, Some(at)));
    assert_eq!(conflict(apply(&store, [put("c", "1"), check("b", Some(at))]).await, "b"), (Some(at), None));
    assert_eq!(body(&store, "c").await, None);
    // Judged on the state before, wherever it stands.
    let both = done(&store, [put("a", "2"), check("a", Some(at)), check("b", None), create("b", "1")]).await;
    assert_eq!(both, at.next());
    store.close().await;
}

/// Put replaces whatever is there, and delete without expectation removes it.
pub async fn puts_and_deletes_without_expectation(subject: &dyn Subject) {
    let store = subject.open().await;
    let made = done(&store, [create("a", "1")]).await;
    let new = Op::Put { key: thing("a"), project: Some("bank".into()), owner: None, body: "2".into() };
    let replaced = done(&store, [new]).await;
    let row = store.get(&thing("a")).await.unwrap().unwrap();
    assert_eq!((row.created, row.revision, &*row.body), (made, replaced, "2"));
    assert_eq!((row.project.as_deref(), row.owner.as_deref()), (Some("bank"), None));
    assert!(store.list(THING, Some("shop")).await.unwrap().records.is_empty());
    assert_eq!(store.list(THING, Some("bank")).await.unwrap().records, [row]);

    let gone = done(&store, [delete("a", None)]).await;
    assert_eq!(gone, replaced.next());
    assert_eq!(done(&store, [delete("a", None)]).await, gone, "what is absent takes no revision");
    assert_eq!(done(&store, []).await, gone, "neither does nothing");
    store.close().await;
}

/// What is too large or makes no sense is refused with its reason; what is just within is taken.
pub async fn bounds_are_kept(subject: &dyn Subject) {
    let store = subject.open().await;
    let large = "x".repeat(MAX_BODY_BYTES);
    let long = "n".repeat(MAX_NAME_BYTES);
    done(&store, [create(&long, &large)]).await;
    assert_eq!(body(&store, &long).await, Some(large.clone()));
    let over = large + "x";
    let named = |id: &str, project: &str| Op::Put {
        key: thing(id),
        project: Some(project.into()),
        owner: None,
        body: "1".into(),
    };
    let many = (0..=MAX_OPS).map(|n| put(&n.to_string(), "1"));
    let heavy = (0..9).map(|n| put(&n.to_string(), &over[1..]));
    for ops in [vec![put("a", &over)], many.collect(), heavy.collect(), vec![put(&(long.clone() + "n"), "1")]]
    {
        let refused = apply(&store, ops).await;
        assert!(
            matches!(refused, Err(ApplyError::TooLarge { size, limit, .. }) if size > limit),
            "{refused:?}"
        );
    }
    let twice = vec![put("a", "1"), delete("a", None)];
    for ops in
        [twice, vec![named("", "p")], vec![named("a", "")], vec![named("a\n", "p")], vec![put("a", "\0")]]
    {
        let refused = apply(&store, ops).await;
        assert!(matches!(refused, Err(ApplyError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(store.list_all().await.unwrap().records.len(), 1);
    // All that may be asked at once.
    done(&store, (0..MAX_OPS).map(|n| put(&n.to_string(), "\"ä\u{1F600}\""))).await;
    assert_eq!(body(&store, "7").await.as_deref(), Some("\"ä\u{1F600}\""));
    store.close().await;
}

/// A transaction is applied only while the lease under which it was decided is held.
pub async fn guards_fence(subject: &dyn Subject) {
    let store = subject.open().await;
    let ttl = Duration::from_secs(2);
    let guarded = |epoch, id: &str| {
        Transaction::new([put(id, "1")]).with_guard(Guard { lease: "leader".to_owned(), epoch })
    };
    let fenced = |result: Result<_, ApplyError>| match result {
        Err(ApplyError::Fenced { lease, epoch, actual }) => {
            assert_eq!(lease, "leader");
            (epoch, actual)
        }
        other => panic!("fencing was expected, and this came: {other:?}"),
    };
    assert_eq!(fenced(store.apply(guarded(1, "a")).await), (1, None), "never held");
    let one = store.acquire_lease("leader", "x", ttl).await.unwrap().epoch;
    store.apply(guarded(one, "a")).await.unwrap();
    assert_eq!(fenced(store.apply(guarded(one + 1, "b")).await), (one + 1, Some(one)));
    subject.pass(Duration::from_secs(3)).await;
    assert_eq!(fenced(store.apply(guarded(one, "b")).await), (one, None), "over by itself");
    let two = store.acquire_lease("leader", "y", Duration::from_secs(600)).await.unwrap().epoch;
    assert_eq!(fenced(store.apply(guarded(one, "b")).await), (one, Some(two)));
    store.apply(guarded(two, "b")).await.unwrap();
    store.release_lease("leader", two).await.unwrap();
    assert_eq!(fenced(store.apply(guarded(two, "c")).await), (two, None));
    assert_eq!(body(&store, "b").await.as_deref(), Some("1"));
    assert_eq!(body(&store, "c").await, None);
    store.close().await;
}

/// A request id settles a lost reply: however often and at whatever time it comes, once is applied.
pub async fn requests_are_applied_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let id = || RequestId::new(Uuid::new_v4());
    let request = id();
    assert_eq!(store.settled(request).await.unwrap(), None);
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (store, body) = (Arc::clone(&store), n.to_string());
        tasks.spawn(async move {
            store.apply(Transaction::new([create("once", &body)]).with_request(request)).await.unwrap()
        });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|applied| applied.revision == Revision(1)), "{answers:?}");
    assert_eq!(answers.iter().filter(|applied| !applied.replayed).count(), 1, "{answers:?}");
    assert_eq!(store.revision().await.unwrap(), Revision(1));

    // A refusal is not kept: nothing happened, so asking again is safe.
    let request_b = id();
    let on = |revision| Transaction::new([update("once", revision, "9")]).with_request(request_b);
    conflict(store.apply(on(Revision(7))).await, "once");
    assert_eq!(store.settled(request_b).await.unwrap(), None);
    let second = store.apply(on(Revision(1))).await.unwrap();
    assert_eq!((second.revision, second.replayed), (Revision(2), false));

    // Its answer outlives the server, later changes, and the lease under which it was decided.
    done(&store, [put("else", "1")]).await;
    store.close().await;
    let store = subject.open().await;
    let guard = Guard { lease: "lost".to_owned(), epoch: 1 };
    let again = store.apply(on(Revision(1)).with_guard(guard)).await.unwrap();
    assert_eq!((again.revision, again.replayed), (Revision(2), true));
    assert_eq!(store.settled(request).await.unwrap().unwrap().revision, Revision(1));
    assert_eq!(store.revision().await.unwrap(), Revision(3));
    store.close().await;
}

/// Of many writers that read, add one and write, each addition is there in the end.
pub async fn concurrent_writers_lose_no_update(subject: &dyn Subject) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 12;
    let store = subject.open().await;
    done(&store, [create("sum", "0")]).await;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut conflicts = 0_u64;
            for n in 0..EACH {
                loop {
                    let row = store.get(&thing("sum")).await.unwrap().unwrap();
                    let sum = (row.body.parse::<u64>().unwrap() + 1).to_string();
                    let own = create(&format!("{writer}-{n}"), &sum);
                    match store.apply(Transaction::new([update("sum", row.revision, &sum), own])).await {
                        Ok(_) => break,
                        Err(ApplyError::Conflict { .. }) => conflicts += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            conflicts
        });
    }
    tasks.join_all().await;
    assert_eq!(body(&store, "sum").await, Some((WRITERS * EACH).to_string()));
    let listing = store.list_all().await.unwrap();
    assert_eq!(listing.records.len() as u64, WRITERS * EACH + 1);
    assert_eq!(listing.revision, Revision(WRITERS * EACH + 1), "refused ones took no revision");
    store.close().await;
}

/// A listing shows the state of one revision, whatever is written meanwhile, in order.
pub async fn listings_show_one_revision(subject: &dyn Subject) {
    let store = subject.open().await;
    let other = |body: &str| Op::Put {
        key: Key::new(OTHER, "z"),
        project: Some("q".into()),
        owner: None,
        body: body.into(),
    };
    done(&store, [put("b", "0"), put("a", "0"), other("0")]).await;
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 1..=150 {
                let body = n.to_string();
                done(&store, [put("b", &body), put("a", &body), other(&body)]).await;
            }
        }
    });
    let mut last = Revision::ZERO;
    while !writer.is_finished() {
        let listing = store.list_all().await.unwrap();
        assert!(listing.revision >= last, "listings do not go back");
        last = listing.revision;
        let expected = (listing.revision, (listing.revision.0 - 1).to_string());
        for row in &listing.records {
            assert_eq!(
                (row.revision, row.body.to_string()),
                expected,
                "all rows are of the listing's revision"
            );
        }
        assert_eq!(listing.records.len(), 3);
    }
    writer.await.unwrap();
    let ids =
        |listing: crate::Listing| listing.records.iter().map(|row| row.key.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(store.list_all().await.unwrap()), ["other_thing/z", "thing/a", "thing/b"]);
    assert_eq!(ids(store.list(THING, None).await.unwrap()), ["thing/a", "thing/b"]);
    assert_eq!(ids(store.list(OTHER, Some("q")).await.unwrap()), ["other_thing/z"]);
    assert!(ids(store.list(OTHER, Some("")).await.unwrap()).is_empty());
    store.close().await;
}

/// A page has the rows by when they were created, whatever their ids are and whoever wrote them last.
pub async fn pages_come_in_the_order_of_creation(subject: &dyn Subject) {
    let store = subject.open().await;
    let page = async |page, limit| {
        let listing = store.page(THING, page, limit).await.unwrap();
        assert_eq!(listing.revision, store.revision().await.unwrap());
        listing.records.iter().map(|row| row.key.id.to_string()).collect::<Vec<_>>()
    };
    assert!(page(Page::Last, 5).await.is_empty() && page(Page::After(Revision::ZERO), 5).await.is_empty());
    let first = done(&store, [create("m", "1")]).await;
    let second = done(&store, [create("z", "1"), create("b", "1")]).await;
    let other = Op::Put { key: Key::new(OTHER, "x"), project: None, owner: None, body: "1".into() };
    done(&store, [other]).await;
    done(&store, [create("a", "1")]).await;
    done(&store, [update("m", first, "2")]).await;
    assert_eq!(page(Page::After(Revision::ZERO), 9).await, ["m", "b", "z", "a"]);
    assert_eq!(page(Page::After(first), 2).await, ["b", "z"]);
    assert_eq!(page(Page::After(second), 2).await, ["a"]);
    assert_eq!(page(Page::After(store.revision().await.unwrap()), 2).await, [""; 0]);
    assert_eq!(page(Page::Before(second), 9).await, ["m"]);
    assert_eq!(page(Page::Before(Revision(second.0 + 1)), 2).await, ["b", "z"]);
    assert_eq!(page(Page::Before(first), 2).await, [""; 0]);
    assert_eq!(page(Page::Last, 2).await, ["z", "a"]);
    assert_eq!(page(Page::Last, 0).await, [""; 0]);
    done(&store, [delete("a", None), delete("z", None)]).await;
    assert_eq!(page(Page::Last, 9).await, ["m", "b"]);
    store.close().await;
}

/// Among a hundred thousand rows a page takes a small part of what all of them take.
pub async fn pages_cost_what_they_hold(subject: &dyn Subject) {
    const ROWS: usize = 100_000;
    let store = subject.open().await;
    let mut middle = Revision::ZERO;
    for from in (0..ROWS).step_by(MAX_OPS) {
        let ids =
            (from..ROWS.min(from + MAX_OPS)).map(|n| format!("{:08x}", n.wrapping_mul(0x9E37_79B1) as u32));
        let at = done(&store, ids.map(|id| create(&id, "{}"))).await;
        if from < ROWS / 2 {
            middle = at;
        }
    }
    let began = Instant::now();
    assert_eq!(store.list(THING, None).await.unwrap().records.len(), ROWS);
    let all = began.elapsed();
    let mut pages: Vec<_> = Vec::new();
    for page in [Page::Last, Page::Before(middle), Page::After(middle), Page::After(Revision::ZERO)].repeat(5)
    {
        let began = Instant::now();
        assert_eq!(store.page(THING, page, 100).await.unwrap().records.len(), 100);
        pages.push(began.elapsed());
    }
    // The median, since others are busy on this machine too. A thousandth would be fair; sorting or walking all
    // of them is no less than a fifth.
    pages.sort();
    assert!(pages[pages.len() / 2] * 20 < all, "pages took {pages:?}, and all {all:?}");
    store.close().await;
}

/// Everything is there again after the store was closed and opened.
pub async fn rows_survive_reopening(subject: &dyn Subject) {
    let store = subject.open().await;
    done(&store, [create("a", "1"), create("b", "1")]).await;
    done(&store, [delete("b", None), put("c", "{}")]).await;
    let before = store.list_all().await.unwrap();
    store.close().await;
    let store = subject.open().await;
    let after = store.list_all().await.unwrap();
    assert_eq!((before.revision, before.records), (after.revision, after.records));
    assert_eq!(done(&store, [put("d", "1")]).await, before.revision.next());
    store.close().await;
}

/// After closing, every call is answered, with the reason.
pub async fn a_closed_store_says_so(subject: &dyn Subject) {
    let store = subject.open().await;
    done(&store, [create("a", "1")]).await;
    store.close().await;
    store.close().await;
    let refused = apply(&store, [put("a", "2")]).await;
    assert!(matches!(&refused, Err(ApplyError::Store(StoreError::Closed))), "{refused:?}");
    assert!(store.get(&thing("a")).await.is_err_and(|error| closed(&error)));
    assert!(store.list_all().await.is_err_and(|error| closed(&error)));
    assert!(store.compact(Revision(1)).await.is_err_and(|error| closed(&error)));
    assert!(store.lease("x").await.is_err_and(|error| closed(&error)));
    assert!(store.watch(Revision::ZERO).await.is_err());
}
