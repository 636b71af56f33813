//! Dumps and importing them.

use super::{Subject, create, delete, done, put, thing, update};
use crate::{ClusterMeta, ImportError, Record, Revision, Store, StoreDump, WatchError};
use lattice_model::{ClusterId, Duration};
use std::sync::Arc;
use uuid::Uuid;

/// A dump of some other store, with revisions that this one never gave.
fn dump() -> StoreDump {
    let record = |id: &str, revision, created, project: Option<&str>| {
        Arc::new(Record {
            key: thing(id),
            revision: Revision(revision),
            created: Revision(created),
            project: project.map(Arc::from),
            owner: project.map(|_| "ada".into()),
            body: format!("{{\"id\":\"{id} ä\"}}").into(),
        })
    };
    StoreDump {
        cluster: ClusterMeta { cluster_id: ClusterId::new(Uuid::new_v4()), incarnation: 7, schema: 1 },
        revision: Revision(900),
        records: vec![
            record("a", 17, 3, Some("shop")),
            record("b", 900, 900, None),
            record("c", 44, 44, None),
        ],
    }
}

async fn same(store: &Arc<dyn Store>, dump: &StoreDump) {
    let found = StoreDump::of(&**store).await.unwrap();
    assert_eq!((found.revision, &found.records), (dump.revision, &dump.records));
    assert_eq!(
        (found.cluster.cluster_id, found.cluster.incarnation),
        (dump.cluster.cluster_id, dump.cluster.incarnation)
    );
}

/// What was imported is there exactly, for good, and the store goes on from it.
pub async fn dumps_go_into_empty_stores(subject: &dyn Subject) {
    let dump = dump();
    let store = subject.open().await;
    let mut early = store.watch(Revision::ZERO).await.unwrap();
    store.import(dump.clone()).await.unwrap();
    same(&store, &dump).await;
    let old = early.next().await.unwrap();
    assert!(matches!(old, Err(WatchError::TooOld { oldest: Revision(900), .. })), "{old:?}");
    let again = store.import(dump.clone()).await;
    assert!(matches!(again, Err(ImportError::NotEmpty { revision: Revision(900) })), "{again:?}");
    store.close().await;

    let store = subject.open().await;
    same(&store, &dump).await;
    let too_old = store.watch(Revision(899)).await;
    assert!(matches!(too_old, Err(WatchError::TooOld { oldest: Revision(900), .. })), "{too_old:?}");
    let mut watch = store.watch(Revision(900)).await.unwrap();
    let next = done(&store, [update("a", Revision(17), "2"), delete("c", Some(Revision(44)))]).await;
    assert_eq!(next, Revision(901));
    assert_eq!(watch.next().await.unwrap().unwrap().revision, next);
    let row = store.get(&thing("a")).await.unwrap().unwrap();
    assert_eq!((row.created, row.project.as_deref()), (Revision(3), Some("shop")));
    store.close().await;
}

/// Only a store that nobody wrote to, and that nobody works on, takes a dump.
pub async fn dumps_are_refused_by_stores_in_use(subject: &dyn Subject) {
    let store = subject.open().await;
    let held = store.acquire_lease("leader", "x", Duration::from_secs(600)).await.unwrap();
    match store.import(dump()).await {
        Err(ImportError::InUse { lease, holder }) => {
            assert_eq!((lease.as_str(), holder.as_str()), ("leader", "x"));
        }
        other => panic!("{other:?}"),
    }
    store.release_lease("leader", held.epoch).await.unwrap();
    done(&store, [create("a", "1")]).await;
    done(&store, [delete("a", None)]).await;
    let before = store.cluster().await.unwrap();
    let refused = store.import(dump()).await;
    assert!(matches!(refused, Err(ImportError::NotEmpty { revision: Revision(2) })), "{refused:?}");
    assert_eq!(store.cluster().await.unwrap(), before);
    assert!(store.list_all().await.unwrap().records.is_empty());
    store.close().await;
}

/// What no store has written is refused, and leaves the store empty.
pub async fn damaged_dumps_are_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    let with = |change: &dyn Fn(&mut Vec<Arc<Record>>)| {
        let mut dump = dump();
        change(&mut dump.records);
        dump
    };
    let edit = |edit: &dyn Fn(&mut Record)| with(&|records| edit(Arc::make_mut(&mut records[1])));
    for damaged in [
        with(&|records| records.swap(0, 1)),
        with(&|records| records[1] = Arc::clone(&records[0])),
        edit(&|record| record.revision = Revision(901)),
        edit(&|record| record.created = Revision::ZERO),
        edit(&|record| (record.revision, record.created) = (Revision(5), Revision(6))),
        edit(&|record| record.body = "\0".into()),
        edit(&|record| record.owner = Some("".into())),
    ] {
        let refused = store.import(damaged).await;
        assert!(matches!(refused, Err(ImportError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(done(&store, [put("a", "1")]).await, Revision(1), "the store is still empty");
    store.close().await;
}
