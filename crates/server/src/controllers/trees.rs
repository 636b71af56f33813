//! Uploaded files that nothing names any more: the row goes after a day, the archive with the last row.

use crate::{
    clock,
    rows::{self, TreeRow},
    state::{Core, Refused, Snapshot},
};
use lattice_model::{Duration, ProjectName, Timestamp, spec::TreeDigest};
use lattice_store::Op;
use std::{collections::BTreeSet, time::SystemTime};

/// How long an unused tree stays: whoever uploaded it may be about to deploy, or go back to it.
const KEEP: Duration = Duration::from_secs(86_400);
/// How young an archive without a row may be: its upload may still be under way on another server.
const YOUNG: std::time::Duration = std::time::Duration::from_secs(3600);
/// How many rows are changed at once.
const AT_ONCE: usize = 500;

/// Notes what is unused, and removes what was for long enough.
pub(crate) async fn sweep(core: &Core) {
    if let Err(refused) = forget(core).await {
        tracing::warn!(?refused, "unused files were not cleared away");
    }
    if let Err(error) = remove(core).await {
        tracing::warn!(%error, "archives that nothing names were not removed");
    }
}

async fn forget(core: &Core) -> Result<(), Refused> {
    while core
        .commit(|snapshot| {
            let ops: Vec<Op> = changes(snapshot, clock::now()).take(AT_ONCE).collect();
            let more = ops.len() == AT_ONCE;
            Ok((ops, more))
        })
        .await?
        .value
    {}
    Ok(())
}

/// Everything that a project's stacks name, or that still runs.
fn used(snapshot: &Snapshot) -> BTreeSet<(ProjectName, TreeDigest)> {
    let workloads = snapshot.cluster.workloads().values().map(|row| (&row.key.project, &row.spec));
    // A version that one can come back to needs its files.
    let kept = snapshot.cluster.revisions.values().map(|row| (&row.key.project, &row.spec));
    let allocations = snapshot.cluster.allocations().values().map(|row| (&row.workload.project, &row.spec));
    let all = workloads.chain(allocations).chain(kept);
    all.flat_map(|(project, spec)| spec.trees.iter().map(|mount| (project.clone(), mount.tree))).collect()
}

fn changes(snapshot: &Snapshot, now: Timestamp) -> impl Iterator<Item = Op> {
    let used = used(snapshot);
    snapshot.trees.iter().filter_map(move |(id, row)| {
        let used = used.contains(&(row.project.clone(), row.digest));
        match (used, row.unused_since) {
            (true, None) => None,
            (true, Some(_)) => {
                Some(rows::update(&TreeRow { unused_since: None, ..(*row.value).clone() }, row.revision))
            }
            (false, None) => {
                Some(rows::update(&TreeRow { unused_since: Some(now), ..(*row.value).clone() }, row.revision))
            }
            (false, Some(since)) if since + KEEP <= now => {
                Some(rows::delete::<TreeRow>(id, Some(row.revision)))
            }
            (false, Some(_)) => None,
        }
    })
}

/// Archives that no project has any more.
async fn remove(core: &Core) -> std::io::Result<()> {
    let found = core.blobs.list().await?;
    let snapshot = core.snapshot();
    let named: BTreeSet<TreeDigest> = snapshot.trees.values().map(|row| row.digest).collect();
    let old = |written: SystemTime| written.elapsed().is_ok_and(|age| age > YOUNG);
    for blob in found.iter().filter(|blob| !named.contains(&blob.digest) && old(blob.written)) {
        core.blobs.remove(blob.digest).await?;
        tracing::info!(digest = %blob.digest, "files that nothing names are removed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::{
        resource::Workload,
        spec::{TreeMount, WorkloadSpec},
    };
    use lattice_planner::Row;

    fn row<T>(value: T) -> Row<T> {
        Row { revision: 1, value: std::sync::Arc::new(value) }
    }

    #[test]
    fn what_nothing_names_goes_after_a_day_and_what_is_named_again_stays() {
        let (digest, other) = (TreeDigest::of(b"a"), TreeDigest::of(b"b"));
        let project = ProjectName::default_project();
        let tree = |project: &ProjectName, digest, unused_since: Option<i64>| {
            row(TreeRow {
                project: project.clone(),
                digest,
                bytes: 1,
                uploaded_at: Timestamp(0),
                uploaded_by: "x".into(),
                unused_since: unused_since.map(Timestamp),
            })
        };
        let mut spec = WorkloadSpec::of_image("img");
        spec.trees.push(TreeMount { tree: digest, path: String::new(), target: "/x".into() });
        let mut snapshot = Snapshot::default();
        snapshot.cluster.put_workload(row(Workload {
            key: "default/shop/web".parse().unwrap(),
            spec: spec.into(),
            generation: 1,
            replicas: 1,
            desired: lattice_model::goal::DesiredState::Run,
            restart: 0,
            alike: Vec::new(),
            settled: 0,
            rolled_back: None,
            rollout: None,
            moved_at: None,
            timetable: None,
        }));
        let elsewhere: ProjectName = "lab".parse().unwrap();
        snapshot.trees.insert("used".into(), tree(&project, digest, None));
        snapshot.trees.insert("used-again".into(), tree(&project, digest, Some(5)));
        snapshot.trees.insert("old".into(), tree(&project, other, Some(5)));
        snapshot.trees.insert("new".into(), tree(&project, other, None));
        snapshot.trees.insert("young".into(), tree(&project, other, Some(1000)));
        snapshot.trees.insert("anothers".into(), tree(&elsewhere, digest, None));
        let mut ops: Vec<String> =
            changes(&snapshot, Timestamp(86_400_005)).map(|op| format!("{op:?}")).collect();
        ops.sort();
        let count = |word: &str| ops.iter().filter(|op| op.starts_with(word)).count();
        assert_eq!((count("Delete"), count("Update")), (1, 3), "{ops:#?}");
        assert!(ops[0].contains("tree/old") || ops[0].contains("old"), "{ops:#?}");
    }
}
