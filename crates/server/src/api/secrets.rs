//! Secrets: sealed where they are stored, given to the nodes that run what mounts them, and to
//! nobody else. Each new value is a version; the last ten are kept, so that one can be gone back to.

use super::{
    error::{ApiError, conflict, not_found, refuse},
    extract::{Body, Names, Raw},
    principal::Principal,
    projects,
};
use crate::{
    clock, keys,
    rows::{self, Event, FormerSecret, ProjectRow, Secret, Stored, former_secret_id, secret_id},
    state::{Core, Refused, Snapshot, core::store_refusal},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{ErrorBody, ErrorCode, KeyRotation, List, SecretRollback, SecretVersionView, SecretView};
use lattice_identity::{IdentityError, same_secret};
use lattice_model::{
    ProjectName, SecretName,
    resource::{Workload, WorkloadRevision},
};
use lattice_store::{Key, Op};
use std::sync::Arc;

/// How many values of a secret are kept, the present one included.
const KEPT: u64 = 10;
/// How many secrets a project may have: their present values are in the server's memory.
const MOST: usize = 500;

fn view(secret: &Secret) -> SecretView {
    let Secret { project, name, version, updated_at, updated_by, sealed: _, key: _ } = secret.clone();
    SecretView { project, name, version, updated_at, updated_by, changed: None }
}

fn internal(error: &IdentityError) -> ErrorBody {
    tracing::error!(%error, "a secret cannot be sealed or opened");
    ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<List<SecretView>>, ApiError> {
    let project: ProjectName = names.get("project")?;
    let snapshot = core.snapshot();
    let items = snapshot.secrets.values().filter(|row| row.project == project).map(|row| view(row)).collect();
    Ok(Json(List { items, revision: snapshot.revision }))
}

pub(crate) async fn set(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Raw(value): Raw,
) -> Result<Json<SecretView>, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let done = core
        .commit(|snapshot| {
            let action = ("secret.set", "");
            change(&core, snapshot, &who, &project, &name, &value, action)
        })
        .await?;
    Ok(Json(done.value))
}

/// Makes a version of a value, unless it is the present one already.
fn change(
    core: &Core,
    snapshot: &Snapshot,
    who: &Principal,
    project: &ProjectName,
    name: &SecretName,
    value: &[u8],
    (action, why): (&str, &str),
) -> Result<(Vec<Op>, SecretView), Refused> {
    let home = projects::must_exist(snapshot, project)?;
    let id = secret_id(project, name);
    let old = snapshot.secrets.get(&id);
    if let Some(old) = old {
        // A value that cannot be opened any more is replaced, whatever it was.
        let same = core.keys.open(old).is_ok_and(|present| same_secret(&present, value));
        if same {
            return Ok((Vec::new(), SecretView { changed: Some(false), ..view(old) }));
        }
    }
    if old.is_none() && snapshot.secrets.values().filter(|row| row.project == *project).count() >= MOST {
        let hint = "remove those that nothing uses (`lattice secret rm`), or use another project";
        return refuse(conflict(
            format!("the project {project} has {MOST} secrets, the most there can be"),
            hint,
        ));
    }
    let version = old.map_or(1, |old| old.version + 1);
    let (sealed, key) = core.keys.seal(project, name, version, value).map_err(|error| internal(&error))?;
    let secret = Secret {
        project: project.clone(),
        name: name.clone(),
        version,
        updated_at: clock::now(),
        updated_by: who.name.clone(),
        sealed,
        key,
    };
    let mut ops = match old {
        Some(old) => {
            vec![rows::update(&secret, old.revision), rows::put(&FormerSecret((*old.value).clone()))]
        }
        None => vec![rows::create(&secret)],
    };
    if version > KEPT {
        ops.push(rows::delete::<FormerSecret>(former_secret_id(project, name, version - KEPT), None));
    }
    let details = match why {
        "" => format!("version {version}"),
        why => format!("version {version}, {why}"),
    };
    ops.push(rows::check::<ProjectRow>(project, Some(home.revision)));
    ops.push(rows::create(&who.audit(action, id, &details)));
    let mut events = Vec::new();
    for row in users(snapshot, project, name).filter(|row| row.spec.restart_on_secret) {
        // As at an update: new containers, one after the other, by its own policy. None of those before
        // counts as alike, and the generation is one to come back to.
        let generation = row.generation + 1;
        let stack = snapshot.cluster.stacks.get(&row.key.stack_key());
        let networks = row.spec.networks.keys();
        let networks =
            networks.filter_map(|name| Some((name.clone(), stack?.networks.get(name)?.id))).collect();
        let (key, spec) = (row.key.clone(), Arc::clone(&row.spec));
        ops.push(rows::put(&WorkloadRevision { key, generation, spec, networks, came_up: false }));
        let workload = Workload { generation, alike: Vec::new(), ..(*row.value).clone() };
        ops.push(rows::update(&workload, row.revision));
        let text = format!("its secret {name} has another value, so its containers are replaced");
        events.push(Event::new("workload.update", row.key.to_string(), text).of(&row.key));
    }
    ops.extend(rows::events(events));
    Ok((ops, SecretView { changed: Some(true), ..view(&secret) }))
}

/// The services that mount a secret.
fn users<'a>(
    snapshot: &'a Snapshot,
    project: &'a ProjectName,
    name: &'a SecretName,
) -> impl Iterator<Item = &'a lattice_planner::Row<Workload>> {
    snapshot.cluster.workloads().values().filter(move |row| {
        row.key.project == *project && row.spec.secrets.iter().any(|mount| mount.secret == *name)
    })
}

/// The former values' rows of a secret, the newest first.
async fn former(core: &Core, project: &ProjectName, name: &SecretName) -> Result<Vec<Secret>, ErrorBody> {
    let listing = core.store.list(FormerSecret::KIND, Some(project.as_str())).await;
    let listing = listing.map_err(|error| store_refusal(&error.into()))?;
    let read = listing.records.iter().filter_map(|record| rows::read::<FormerSecret>(record).ok());
    let mut found: Vec<Secret> = read.map(|FormerSecret(row)| row).filter(|row| row.name == *name).collect();
    found.sort_by_key(|row| std::cmp::Reverse(row.version));
    Ok(found)
}

pub(crate) async fn versions(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<List<SecretVersionView>>, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let snapshot = core.snapshot();
    let id = secret_id(&project, &name);
    let present = snapshot.secrets.get(&id).ok_or_else(|| not_found("secret", &id, "lattice secret ls"))?;
    let mut items = Vec::new();
    let former = former(&core, &project, &name).await?;
    for row in
        std::iter::once(&*present.value).chain(former.iter().filter(|row| row.version < present.version))
    {
        items.push(SecretVersionView {
            version: row.version,
            set_at: row.updated_at,
            set_by: row.updated_by.clone(),
            current: row.version == present.version,
        });
    }
    Ok(Json(List { items, revision: snapshot.revision }))
}

pub(crate) async fn rollback(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(SecretRollback { version }): Body<SecretRollback>,
) -> Result<Json<SecretView>, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let id = secret_id(&project, &name);
    let key = Key::of(FormerSecret::KIND, former_secret_id(&project, &name, version));
    let record = core.store.get(&key).await.map_err(|error| store_refusal(&error.into()))?;
    let snapshot = core.snapshot();
    let present = snapshot.secrets.get(&id).filter(|row| row.version == version);
    let value = match (present, record.and_then(|record| rows::read::<FormerSecret>(&record).ok())) {
        (Some(present), _) => core.keys.open(present),
        (None, Some(FormerSecret(row))) => core.keys.open(&row),
        (None, None) => {
            let what = format!("{id} version {version}");
            return Err(not_found("secret", &what, &format!("lattice secret versions {name}")).into());
        }
    };
    let value = value.map_err(|error| internal(&error))?;
    let why = format!("the value of version {version}");
    let done = core
        .commit(|snapshot| {
            if !snapshot.secrets.contains_key(&id) {
                return refuse(not_found("secret", &id, "lattice secret ls"));
            }
            change(&core, snapshot, &who, &project, &name, &value, ("secret.rollback", &why))
        })
        .await?;
    Ok(Json(done.value))
}

pub(crate) async fn rotate_key(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<KeyRotation>, ApiError> {
    // A task of its own: it goes on when the one who asked is gone.
    let done = tokio::spawn(async move { keys::rotate(&core, &who).await }).await;
    let done = done.map_err(|_| ErrorBody::new(ErrorCode::Unavailable, "the server is going down", ""))?;
    Ok(Json(done?))
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let id = secret_id(&project, &name);
    core.commit(|snapshot| {
        let Some(old) = snapshot.secrets.get(&id) else {
            return refuse(not_found("secret", &id, "lattice secret ls"));
        };
        if let Some(user) = users(snapshot, &project, &name).next() {
            return refuse(conflict(
                format!("{} mounts the secret {name}", user.key),
                "deploy it without the secret first",
            ));
        }
        let first = old.version.saturating_sub(KEPT).max(1);
        let mut ops = vec![rows::delete::<Secret>(&id, Some(old.revision))];
        ops.extend(
            (first..old.version).map(|version| {
                rows::delete::<FormerSecret>(former_secret_id(&project, &name, version), None)
            }),
        );
        ops.push(rows::create(&who.audit("secret.delete", id.clone(), "with all its versions")));
        Ok((ops, ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
