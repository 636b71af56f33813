//! Uploaded images that nothing names any more, and layers that no image has: the rows go after a day,
//! the blob with the last row.

use crate::{
    clock,
    rows::{self, ImageRow, LayerRow},
    state::{Core, Refused, Snapshot},
};
use lattice_model::{Duration, ProjectName, Timestamp, spec::ImageDigest};
use lattice_store::Op;
use std::{collections::BTreeSet, time::SystemTime};

/// How long an unused image stays: whoever uploaded it may be about to deploy, or go back to it; and
/// what the next build shares with it need not be uploaded again.
const KEEP: Duration = Duration::from_secs(86_400);
/// How young a blob without a row may be: its upload may still be under way on another server.
const YOUNG: std::time::Duration = std::time::Duration::from_secs(3600);
/// How many rows are changed at once.
const AT_ONCE: usize = 500;

/// Notes what is unused, and removes what was for long enough.
pub(crate) async fn sweep(core: &Core) {
    if let Err(refused) = forget(core).await {
        tracing::warn!(?refused, "unused images were not cleared away");
    }
    if let Err(error) = remove(core).await {
        tracing::warn!(%error, "layers that nothing names were not removed");
    }
}

async fn forget(core: &Core) -> Result<(), Refused> {
    while core
        .commit(|snapshot| {
            let ops: Vec<Op> = changes(snapshot, clock::now()).into_iter().take(AT_ONCE).collect();
            let more = ops.len() == AT_ONCE;
            Ok((ops, more))
        })
        .await?
        .value
    {}
    Ok(())
}

/// Everything that a project's stacks name, or that still runs.
fn used(snapshot: &Snapshot) -> BTreeSet<(ProjectName, ImageDigest)> {
    let workloads = snapshot.cluster.workloads().values().map(|row| (&row.key.project, &row.spec));
    // A version that one can come back to needs its image.
    let kept = snapshot.cluster.revisions.values().map(|row| (&row.key.project, &row.spec));
    let allocations = snapshot.cluster.allocations().values().map(|row| (&row.workload.project, &row.spec));
    let all = workloads.chain(allocations).chain(kept);
    all.filter_map(|(project, spec)| Some((project.clone(), spec.uploaded_image()?))).collect()
}

fn changes(snapshot: &Snapshot, now: Timestamp) -> Vec<Op> {
    let used = used(snapshot);
    let old = |since: Timestamp| since + KEEP <= now;
    let mut ops = Vec::new();
    let mut kept = BTreeSet::new();
    for (id, row) in &snapshot.images {
        let used = used.contains(&(row.project.clone(), row.id));
        if !used && row.unused_since.is_some_and(old) {
            ops.push(rows::delete::<ImageRow>(id, Some(row.revision)));
            continue;
        }
        kept.extend(row.layers.iter().map(|layer| (row.project.clone(), *layer)));
        if used == row.unused_since.is_some() {
            let unused_since = if used { None } else { Some(now) };
            ops.push(rows::update(&ImageRow { unused_since, ..(*row.value).clone() }, row.revision));
        }
    }
    for (id, row) in &snapshot.layers {
        let used = kept.contains(&(row.project.clone(), row.digest));
        match (used, row.unused_since) {
            (true, None) => {}
            (false, Some(since)) if old(since) => {
                ops.push(rows::delete::<LayerRow>(id, Some(row.revision)));
            }
            (false, Some(_)) => {}
            (_, since) => {
                let unused_since = if since.is_some() { None } else { Some(now) };
                ops.push(rows::update(&LayerRow { unused_since, ..(*row.value).clone() }, row.revision));
            }
        }
    }
    ops
}

/// Layers that no project has any more.
async fn remove(core: &Core) -> std::io::Result<()> {
    let found = core.layers.list().await?;
    let snapshot = core.snapshot();
    let named: BTreeSet<[u8; 32]> = snapshot.layers.values().map(|row| *row.digest.as_bytes()).collect();
    let old = |written: SystemTime| written.elapsed().is_ok_and(|age| age > YOUNG);
    for blob in found.iter().filter(|blob| !named.contains(blob.digest.as_bytes()) && old(blob.written)) {
        core.layers.remove(blob.digest).await?;
        tracing::info!(digest = %blob.digest, "a layer that nothing names is removed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::{
        resource::Workload,
        spec::{ImagePin, ImageSource, WorkloadSpec},
    };
    use lattice_planner::Row;

    #[test]
    fn what_nothing_names_goes_after_a_day_with_what_only_it_had() {
        fn row<T>(value: T) -> Row<T> {
            Row { revision: 1, value: std::sync::Arc::new(value) }
        }
        let [used, old, young, shared, own] =
            [b"used", b"oldx", b"youn", b"shar", b"ownx"].map(|text| ImageDigest::of(text));
        let mut snapshot = Snapshot::default();
        let image = |id, layers: &[ImageDigest], unused: Option<i64>| {
            row(ImageRow {
                project: ProjectName::default_project(),
                id,
                platform: "linux/amd64".into(),
                layers: layers.to_vec(),
                config: String::new(),
                uploaded_at: Timestamp(0),
                uploaded_by: "x".into(),
                unused_since: unused.map(Timestamp),
                built_of: None,
            })
        };
        let layer = |digest, unused: Option<i64>| {
            row(LayerRow {
                project: ProjectName::default_project(),
                digest,
                bytes: 1,
                stored: 1,
                uploaded_at: Timestamp(0),
                uploaded_by: "x".into(),
                unused_since: unused.map(Timestamp),
            })
        };
        snapshot.images.insert("used".into(), image(used, &[shared], Some(5)));
        snapshot.images.insert("old".into(), image(old, &[shared, own], Some(5)));
        snapshot.images.insert("young".into(), image(young, &[shared], None));
        snapshot.layers.insert("shared".into(), layer(shared, Some(3)));
        snapshot.layers.insert("own".into(), layer(own, None));
        let mut spec = WorkloadSpec::of_image("lattice/shop-web:1");
        spec.pin = Some(ImagePin { from: ImageSource::Server, digest: used, platforms: BTreeSet::new() });
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
        let ops: Vec<String> =
            changes(&snapshot, Timestamp(86_400_005)).iter().map(|op| format!("{op:?}")).collect();
        let count = |word: &str| ops.iter().filter(|op| op.starts_with(word)).count();
        // Gone: old. Used again: used, shared. Unused from now on: young, own.
        assert_eq!((count("Delete"), count("Update")), (1, 4), "{ops:#?}");
        assert!(ops.iter().any(|op| op.starts_with("Delete") && op.contains("old")), "{ops:#?}");
    }
}
