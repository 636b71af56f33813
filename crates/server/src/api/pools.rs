//! Pools: static groups of nodes. The default pool is always there.

use super::{
    error::{ApiError, conflict, invalid, not_found, refuse},
    extract::{Body, Names},
    principal::Principal,
};
use crate::{
    clock,
    rows::{self, Event},
    state::{Core, Refused, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use lattice_api::{ErrorBody, List, PoolChange, PoolCreate, PoolView, Untaint};
use lattice_identity::{Object, Permission};
use lattice_model::{
    PoolName,
    resource::{Approval, Pool, Taint},
    taint::{MAX_TAINTS, set_taint},
};
use lattice_planner::Row;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most labels of a pool or a node.
pub(crate) const MAX_LABELS: usize = 100;

/// Makes the default pool, and those that nodes and tokens of earlier versions name.
pub(crate) async fn ensure(core: &Core) -> Result<(), Refused> {
    core.commit(|snapshot| {
        let named = snapshot.cluster.nodes.values().map(|row| row.pool.clone());
        let tokens = snapshot.join_tokens.values().map(|row| row.record.policy.pool.clone());
        let mut names: BTreeSet<PoolName> = named.chain(tokens).collect();
        names.insert(PoolName::default_pool());
        let missing = names.into_iter().filter(|name| !snapshot.cluster.pools.contains_key(name));
        let now = clock::now();
        let pool = |name: PoolName| match name == PoolName::default_pool() {
            true => Pool::default_pool(now),
            false => Pool { name, description: String::new(), ..Pool::default_pool(now) },
        };
        Ok((missing.map(|name| rows::create(&pool(name))).collect(), ()))
    })
    .await
    .map(drop)
}

/// A pool by its name.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, name: &PoolName) -> Result<&'a Row<Pool>, ErrorBody> {
    snapshot.cluster.pools.get(name).ok_or_else(|| {
        let known = snapshot.cluster.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        let mut body = not_found("pool", name.as_str(), "lattice pool ls");
        body.hint = format!("there are {known}; `lattice pool create {name}` makes it");
        body
    })
}

fn view(snapshot: &Snapshot, pool: &Pool) -> PoolView {
    let there = snapshot.cluster.nodes.values().filter(|node| node.pool == pool.name);
    let nodes = there.filter(|node| node.approval == Approval::Approved).count();
    PoolView::of(pool, u32::try_from(nodes).unwrap_or(u32::MAX))
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Json<List<PoolView>> {
    let snapshot = core.snapshot();
    let seen = |row: &&Row<Pool>| who.may(Permission::PoolLook, &Object::Pool(row.name.clone()));
    let items = snapshot.cluster.pools.values().filter(seen).map(|row| view(&snapshot, row)).collect();
    Json(List { items, revision: snapshot.revision })
}

pub(crate) async fn show(State(core): State<Arc<Core>>, names: Names) -> Result<Json<PoolView>, ApiError> {
    let snapshot = core.snapshot();
    let row = find(&snapshot, &names.get("pool")?)?;
    Ok(Json(view(&snapshot, row)))
}

/// Labels and a description that a row holds and a terminal shows.
fn check(description: &str, labels: &BTreeMap<String, String>) -> Result<(), ErrorBody> {
    if description.chars().count() > 200 || description.chars().any(char::is_control) {
        return Err(invalid(
            "the description is too long or has control characters",
            "at most 200 printable characters",
        ));
    }
    check_labels(labels)
}

/// Whether labels are ones that constraints can name.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ErrorBody> {
    let good_key = |key: &str| {
        !key.is_empty() && key.len() <= 256 && key.chars().all(|c| c.is_ascii_graphic() && c != '=')
    };
    let good_value = |value: &str| value.len() <= 256 && !value.chars().any(char::is_control);
    if labels.len() > MAX_LABELS || !labels.iter().all(|(key, value)| good_key(key) && good_value(value)) {
        let hint = "at most 100, keys of visible characters without '=', at most 256 characters each";
        return Err(invalid("a label is not as labels are", hint));
    }
    Ok(())
}

pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(request): Body<PoolCreate>,
) -> Result<Json<PoolView>, ApiError> {
    let PoolCreate { name, description, labels, trusted, projects, taint } = request;
    check(&description, &labels)?;
    let mut taints = BTreeSet::new();
    retaint(&mut taints, taint, &[])?;
    let pool = Pool { name, description, labels, trusted, projects, taints, created_at: clock::now() };
    core.commit(|snapshot| {
        if snapshot.cluster.pools.contains_key(&pool.name) {
            let hint = "`lattice pool set` changes it";
            return refuse(conflict(format!("there is a pool {} already", pool.name), hint));
        }
        let mut ops = vec![
            rows::create(&pool),
            rows::create(&who.audit("pool.create", pool.name.to_string(), &says(&pool))),
        ];
        let event = Event::new("pool.created", pool.name.to_string(), says(&pool));
        ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
        Ok((ops, ()))
    })
    .await?;
    Ok(Json(view(&core.snapshot(), &pool)))
}

fn says(pool: &Pool) -> String {
    let trusted =
        if pool.trusted { "trusted with volumes and secrets" } else { "without volumes and secrets" };
    let mut text = match &pool.projects {
        None => format!("{trusted}, for all projects"),
        Some(projects) => {
            let names = projects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{trusted}, for {}", if names.is_empty() { "no project".into() } else { names })
        }
    };
    for taint in &pool.taints {
        text.push_str(&format!(", taint {taint}"));
    }
    text
}

pub(crate) async fn change(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(request): Body<PoolChange>,
) -> Result<Json<PoolView>, ApiError> {
    let name: PoolName = names.get("pool")?;
    core.commit(|snapshot| {
        let row = find(snapshot, &name)?;
        let PoolChange { description, labels, trusted, projects, all_projects, taint, untaint } =
            request.clone();
        let mut pool = (*row.value).clone();
        pool.description = description.unwrap_or(pool.description);
        pool.trusted = trusted.unwrap_or(pool.trusted);
        pool.projects = match (all_projects, projects) {
            (true, _) => None,
            (false, Some(projects)) => Some(projects),
            (false, None) => pool.projects,
        };
        relabel(&mut pool.labels, labels);
        check(&pool.description, &pool.labels)?;
        retaint(&mut pool.taints, taint, &untaint)?;
        if pool == *row.value {
            return Ok((Vec::new(), ()));
        }
        let mut ops = vec![
            rows::update(&pool, row.revision),
            rows::create(&who.audit("pool.change", name.to_string(), &says(&pool))),
        ];
        let event = Event::new("pool.changed", name.to_string(), says(&pool));
        ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
        Ok((ops, ()))
    })
    .await?;
    let snapshot = core.snapshot();
    let row = find(&snapshot, &name)?;
    Ok(Json(view(&snapshot, row)))
}

/// Takes taints away, and sets others.
pub(crate) fn retaint(
    taints: &mut BTreeSet<Taint>,
    set: Vec<Taint>,
    take: &[Untaint],
) -> Result<(), ErrorBody> {
    taints.retain(|taint| !take.iter().any(|one| one.means(taint)));
    for taint in set {
        set_taint(taints, taint);
    }
    if taints.len() > MAX_TAINTS {
        return Err(invalid("there are too many taints", "at most 50 of a node or a pool"));
    }
    Ok(())
}

/// Sets labels, and takes those away that have no value.
pub(crate) fn relabel(labels: &mut BTreeMap<String, String>, change: BTreeMap<String, Option<String>>) {
    for (key, value) in change {
        match value {
            Some(value) => drop(labels.insert(key, value)),
            None => drop(labels.remove(&key)),
        }
    }
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let name: PoolName = names.get("pool")?;
    core.commit(|snapshot| {
        let row = find(snapshot, &name)?;
        if name == PoolName::default_pool() {
            return refuse(conflict("the default pool is always there", "`lattice pool set` changes it"));
        }
        let in_use = |what: &str, who: Vec<String>, hint: &str| {
            let text = format!(
                "{what} {} {} the pool {name}",
                who.join(", "),
                if who.len() == 1 { "uses" } else { "use" }
            );
            refuse::<()>(conflict(text, hint))
        };
        let nodes = snapshot.cluster.nodes.values().filter(|node| node.pool == name && !node.has_left());
        let nodes: Vec<String> = nodes.take(5).map(|node| node.name.to_string()).collect();
        if !nodes.is_empty() {
            in_use("the nodes", nodes, "`lattice node set NODE --pool P` moves them")?;
        }
        let services =
            snapshot.cluster.workloads().values().filter(|row| row.spec.pool.as_ref() == Some(&name));
        let services: Vec<String> = services.take(5).map(|row| row.key.to_string()).collect();
        if !services.is_empty() {
            in_use("the services", services, "deploy them to another pool first")?;
        }
        let tokens = snapshot.join_tokens.values().filter(|row| row.record.policy.pool == name);
        let tokens: Vec<String> = tokens.take(5).map(|row| row.record.id.to_string()).collect();
        if !tokens.is_empty() {
            in_use("the join tokens", tokens, "`lattice token rm` ends them")?;
        }
        let mut ops = vec![
            rows::delete::<Pool>(&name, Some(row.revision)),
            rows::create(&who.audit("pool.delete", name.to_string(), "")),
        ];
        let event = Event::new("pool.removed", name.to_string(), "nothing used it");
        ops.extend(rows::events([event.because(Some(format!("asked by {}", who.name)))]));
        Ok((ops, ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
