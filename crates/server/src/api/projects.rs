//! Projects: what exists, who works there, what it may use.
//!
//! A quota counts what replicas ask for, whether they run or not, so that a deployment is refused at
//! once and not when its last replica finds no room. Two deployments at the same time cannot pass on the
//! same room: where there is a quota, each writes the project's row at the revision that it saw.

use super::{
    error::{ApiError, conflict, invalid, not_found, refuse},
    extract::{Body, Names},
    pools,
    principal::Principal,
};
use crate::{
    clock,
    rows::{self, ApiTokenRow, ProjectRow, UserRow},
    state::{Core, Refused, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{ErrorBody, ErrorCode, List, Member, Problem, ProjectCreate, ProjectView, QuotaChange};
use lattice_identity::{Object, Permission};
use lattice_model::{Binding, Place, ProjectName, Quota, Usage};
use lattice_planner::{Cluster, Row};
use lattice_store::Op;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

type Answer<T> = Result<Json<T>, ApiError>;

/// The most projects.
const MAX_PROJECTS: usize = 10_000;
/// How many roles end with their project in one transaction.
const MAX_ENDS: usize = 900;

/// A project that something may be put into.
pub(crate) fn must_exist<'a>(
    snapshot: &'a Snapshot,
    name: &ProjectName,
) -> Result<&'a Row<ProjectRow>, ErrorBody> {
    match snapshot.projects.get(name) {
        Some(row) if row.deleting => {
            let hint = "make it again when it is gone (`lattice project create`)";
            Err(conflict(format!("the project {name} is being removed"), hint))
        }
        Some(row) => Ok(row),
        None => Err(ErrorBody::new(
            ErrorCode::NotFound,
            format!("there is no project {name}"),
            format!("make it with `lattice project create {name}`, or ask an admin to"),
        )),
    }
}

/// What projects use, counted in one go.
fn usage(cluster: &Cluster) -> BTreeMap<ProjectName, Usage> {
    let mut all: BTreeMap<ProjectName, Usage> = BTreeMap::new();
    for row in cluster.stacks.values().filter(|row| !row.deleting) {
        all.entry(row.key.project.clone()).or_default().stacks += 1;
    }
    for row in cluster.volumes.values().filter(|row| !row.deleting) {
        all.entry(row.key.project.clone()).or_default().volumes += 1;
    }
    for row in cluster.workloads().values() {
        let (cpu, memory) = row.spec.resources.reserved();
        all.entry(row.key.project.clone()).or_default().add(row.replicas, cpu, memory);
    }
    all
}

fn usage_of(cluster: &Cluster, name: &ProjectName) -> Usage {
    usage(cluster).remove(name).unwrap_or_default()
}

/// What keeps a change within its project: that it exists, and has room for the cluster as it would be.
/// The operations belong into the change's transaction.
pub(crate) fn hold(snapshot: &Snapshot, name: &ProjectName, after: &Cluster) -> Result<Vec<Op>, ErrorBody> {
    let row = must_exist(snapshot, name)?;
    let mut ops = pools::hold(snapshot, name, after)?;
    if row.quota.is_empty() && ops.is_empty() {
        return Ok(vec![rows::check::<ProjectRow>(name, Some(row.revision))]);
    }
    let over = row.quota.exceeded(&usage_of(&snapshot.cluster, name), &usage_of(after, name));
    if !over.is_empty() {
        let hint = "ask for less, remove something, or ask an admin for more (`lattice project quota`)";
        let body = ErrorBody::new(
            ErrorCode::QuotaExceeded,
            format!("the project {name} has no room for this"),
            hint,
        );
        return Err(body.with_details(over.into_iter().map(|text| Problem::at("", text)).collect()));
    }
    let next = ProjectRow { turn: row.turn + 1, ..(*row.value).clone() };
    ops.push(rows::update(&next, row.revision));
    Ok(ops)
}

fn view(snapshot: &Snapshot, row: &ProjectRow, used: Usage) -> ProjectView {
    let ProjectRow { name, description, quota, turn: _, deleting, created_at, created_by } = row.clone();
    let place = Place::Project(name.clone());
    let members = snapshot.users.values().filter_map(|user| {
        let roles: Vec<Binding> = user.roles.iter().filter(|role| role.place == place).cloned().collect();
        (!roles.is_empty()).then(|| Member { user: user.name.clone(), roles })
    });
    ProjectView {
        members: members.collect(),
        name,
        description,
        quota,
        used,
        deleting,
        created_by,
        created_at,
    }
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<ProjectView>> {
    let snapshot = core.snapshot();
    let mut used = usage(&snapshot.cluster);
    let seen = |row: &&Row<ProjectRow>| who.may(Permission::ProjectLook, &Object::Project(row.name.clone()));
    let rows = snapshot.projects.values().filter(seen);
    let items = rows.map(|row| view(&snapshot, row, used.remove(&row.name).unwrap_or_default())).collect();
    Json(List { items, revision: snapshot.revision })
}

fn shown(snapshot: &Snapshot, name: &ProjectName) -> Result<ProjectView, ErrorBody> {
    let row = snapshot
        .projects
        .get(name)
        .ok_or_else(|| not_found("project", name.as_str(), "lattice project ls"))?;
    Ok(view(snapshot, row, usage_of(&snapshot.cluster, name)))
}

pub(crate) async fn show(State(core): State<Arc<Core>>, names: Names) -> Answer<ProjectView> {
    Ok(Json(shown(&core.snapshot(), &names.get("project")?)?))
}

fn new(name: &ProjectName, description: &str, quota: Quota, by: &str) -> ProjectRow {
    ProjectRow {
        name: name.clone(),
        description: description.to_owned(),
        quota,
        turn: 0,
        deleting: false,
        created_at: clock::now(),
        created_by: by.to_owned(),
    }
}

pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(ProjectCreate { name, description, quota }): Body<ProjectCreate>,
) -> Answer<ProjectView> {
    if description.chars().count() > 200 || description.chars().any(char::is_control) {
        return Err(invalid(
            "description is too long or has control characters",
            "at most 200 printable characters",
        )
        .into());
    }
    core.commit(|snapshot| {
        if snapshot.projects.contains_key(&name) {
            let hint = "`lattice project quota` changes what it may use";
            return refuse(conflict(format!("there is a project {name} already"), hint));
        }
        if snapshot.projects.len() >= MAX_PROJECTS {
            return refuse(conflict("there are 10000 projects", "remove those that are empty"));
        }
        let row = new(&name, &description, quota, &who.name);
        Ok((vec![rows::create(&row), rows::create(&who.audit("project.create", name.to_string(), ""))], ()))
    })
    .await?;
    Ok(Json(shown(&core.snapshot(), &name)?))
}

pub(crate) async fn set_quota(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(QuotaChange { quota }): Body<QuotaChange>,
) -> Answer<ProjectView> {
    let name: ProjectName = names.get("project")?;
    core.commit(|snapshot| {
        let row = must_exist(snapshot, &name)?;
        if row.quota == quota {
            return Ok((Vec::new(), ()));
        }
        let changed = ProjectRow { quota, ..(*row.value).clone() };
        let says = serde_json::to_string(&quota).unwrap_or_default();
        let audit = who.audit("project.quota", name.to_string(), &says);
        Ok((vec![rows::update(&changed, row.revision), rows::create(&audit)], ()))
    })
    .await?;
    Ok(Json(shown(&core.snapshot(), &name)?))
}

/// What is in a project, in words; empty where nothing is.
fn contents(snapshot: &Snapshot, name: &ProjectName) -> String {
    let cluster = &snapshot.cluster;
    let counts = [
        ("stacks", cluster.stacks.values().filter(|row| row.key.project == *name).count()),
        ("volumes", cluster.volumes.values().filter(|row| row.key.project == *name).count()),
        ("secrets", snapshot.secrets.values().filter(|row| row.project == *name).count()),
    ];
    let some = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    some.collect::<Vec<_>>().join(", ")
}

fn not_empty(name: &ProjectName, contents: &str) -> ErrorBody {
    conflict(
        format!("the project {name} is not empty: {contents}"),
        "remove them first (`lattice rm --volumes`, `lattice secret rm`)",
    )
}

/// In two steps: first nothing new comes in, then it is looked whether something is left. In one, a
/// deployment that began before could put something into a project that is gone after.
pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let name: ProjectName = names.get("project")?;
    if name == ProjectName::default_project() {
        return Err(conflict("the project default stays", "remove what is in it").into());
    }
    core.commit(|snapshot| {
        let row = snapshot.projects.get(&name);
        let row = row.ok_or_else(|| not_found("project", name.as_str(), "lattice project ls"))?;
        let left = contents(snapshot, &name);
        if !left.is_empty() {
            return refuse(not_empty(&name, &left));
        }
        let marked = ProjectRow { deleting: true, ..(*row.value).clone() };
        Ok((if marked == *row.value { Vec::new() } else { vec![rows::update(&marked, row.revision)] }, ()))
    })
    .await?;
    let left = core
        .commit(|snapshot| {
            let Some(row) = snapshot.projects.get(&name) else { return Ok((Vec::new(), String::new())) };
            let left = contents(snapshot, &name);
            if !left.is_empty() {
                let kept = ProjectRow { deleting: false, ..(*row.value).clone() };
                return Ok((vec![rows::update(&kept, row.revision)], left));
            }
            let mut ops = ends(snapshot, &name)?;
            ops.push(rows::delete::<ProjectRow>(&name, Some(row.revision)));
            ops.push(rows::create(&who.audit("project.delete", name.to_string(), "")));
            Ok((ops, left))
        })
        .await?
        .value;
    if left.is_empty() { Ok(StatusCode::NO_CONTENT) } else { Err(not_empty(&name, &left).into()) }
}

/// Takes the roles that were for this project: one of the same name one day is another one.
fn ends(snapshot: &Snapshot, name: &ProjectName) -> Result<Vec<Op>, Refused> {
    let place = Place::Project(name.clone());
    let without = |roles: &[Binding]| -> Option<Vec<Binding>> {
        let left: Vec<_> = roles.iter().filter(|role| role.place != place).cloned().collect();
        (left.len() < roles.len()).then_some(left)
    };
    let mut ops = Vec::new();
    for row in snapshot.users.values() {
        if let Some(roles) = without(&row.roles) {
            ops.push(rows::update(&UserRow { roles, ..(*row.value).clone() }, row.revision));
        }
    }
    for row in snapshot.api_tokens.values() {
        match without(&row.record.roles) {
            Some(roles) if roles.is_empty() => {
                ops.push(rows::delete::<ApiTokenRow>(row.record.id, Some(row.revision)));
            }
            Some(roles) => {
                let mut changed = (*row.value).clone();
                changed.record.roles = roles;
                ops.push(rows::update(&changed, row.revision));
            }
            None => {}
        }
    }
    if ops.len() > MAX_ENDS {
        let text = format!("{} users and tokens have roles in the project {name}", ops.len());
        return refuse(conflict(text, "take most of them first (`lattice user revoke`)"));
    }
    Ok(ops)
}

/// Makes the project that exists from the start, and those that an older store only names.
pub(crate) async fn ensure(core: &Core) -> Result<(), Refused> {
    core.commit(|snapshot| {
        let cluster = &snapshot.cluster;
        let mut named: BTreeSet<&ProjectName> = BTreeSet::new();
        let default = ProjectName::default_project();
        named.insert(&default);
        named.extend(cluster.stacks.values().map(|row| &row.key.project));
        named.extend(cluster.volumes.values().map(|row| &row.key.project));
        named.extend(snapshot.secrets.values().map(|row| &row.project));
        let missing = named.into_iter().filter(|name| !snapshot.projects.contains_key(*name)).take(500);
        let ops = missing.map(|name| rows::create(&new(name, "", Quota::default(), "system"))).collect();
        Ok((ops, ()))
    })
    .await
    .map(drop)
}
