//! Pools: groups of nodes, by hand or by rule. The default pool is always there.
//!
//! Who sets a rule takes nodes out of other pools, so that takes the right to change pools in the whole cluster.

use super::{
    error::{ApiError, conflict, invalid, not_found, refuse},
    extract::{Body, Names},
    guard::object_of_node,
    nodes::drain_move,
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
use lattice_api::{
    ErrorBody, ErrorCode, List, PoolChange, PoolCreate, PoolMember, PoolMove, PoolPreview, PoolPreviewNode,
    PoolQuotaChange, PoolView, Problem, Untaint,
};
use lattice_identity::{Object, Permission};
use lattice_model::{
    NodeId, PoolName, ProjectName,
    pool::{Oversubscription, PoolRule, PoolUsage},
    resource::{Approval, Node, Pool, Taint},
    taint::{MAX_TAINTS, set_taint},
};
use lattice_planner::{Cluster, Row, pools};
use lattice_store::Op;
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

pub(crate) fn view(snapshot: &Snapshot, pool: &Pool) -> PoolView {
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

pub(crate) async fn show(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<Json<PoolView>, ApiError> {
    let snapshot = core.snapshot();
    let row = find(&snapshot, &names.get("pool")?)?;
    let mut shown = view(&snapshot, row);
    let seen = |node: &&Row<Node>| who.may(Permission::NodeLook, &object_of_node(node)) && !node.has_left();
    for node in snapshot.cluster.nodes.values().filter(seen) {
        let place = pools::belongs(&snapshot.cluster, node);
        if node.pool == row.name || *place.pool == row.name {
            shown.members.push(PoolMember {
                node: node.name.clone(),
                pool: node.pool.clone(),
                belongs: place.pool.clone(),
                why: place.why(),
                stays: pools::stays(&snapshot.cluster, node),
            });
        }
    }
    shown.members.sort_by(|a, b| a.node.cmp(&b.node));
    shown.used = usage(&snapshot.cluster, &row.name);
    shown.used.retain(|project, _| who.may(Permission::ProjectLook, &Object::Project(project.clone())));
    Ok(Json(shown))
}

/// What each project uses in a pool: of services that name it, all that they ask for.
fn usage(cluster: &Cluster, pool: &PoolName) -> BTreeMap<ProjectName, PoolUsage> {
    let mut used: BTreeMap<ProjectName, PoolUsage> = BTreeMap::new();
    for row in cluster.workloads().values().filter(|row| lattice_planner::may_use(&row.spec, pool)) {
        let replicas = lattice_planner::rollout::wanted_replicas(cluster, row);
        used.entry(row.key.project.clone()).or_default().add(replicas, &row.spec);
    }
    used
}

/// What keeps a change within the quotas that pools have for its project, for the cluster as it would be. Where there
/// is such a quota, the operations see to it that the pool is as it was.
pub(crate) fn hold(
    snapshot: &Snapshot,
    project: &ProjectName,
    after: &Cluster,
) -> Result<Vec<Op>, ErrorBody> {
    let mut ops = Vec::new();
    for pool in snapshot.cluster.pools.values() {
        let quota = pool.quotas.of(project);
        if quota.is_empty() {
            continue;
        }
        let used = |cluster: &Cluster| usage(cluster, &pool.name).remove(project).unwrap_or_default();
        let over = quota.exceeded(&used(&snapshot.cluster), &used(after));
        if !over.is_empty() {
            let text = format!("the project {project} has no room for this in the pool {}", pool.name);
            let hint = format!(
                "ask for less, name another pool, or ask an operator for more (`lattice pool quota {}`)",
                pool.name
            );
            let body = ErrorBody::new(ErrorCode::QuotaExceeded, text, hint);
            return Err(body.with_details(over.into_iter().map(|text| Problem::at("", text)).collect()));
        }
        ops.push(rows::check::<Pool>(&pool.name, Some(pool.revision)));
    }
    Ok(ops)
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
    let PoolCreate { name, description, labels, trusted, projects, taint, rule, quotas, oversubscription } =
        request;
    if name.as_str() == "auto" {
        return Err(invalid(
            "a pool cannot be called auto",
            "`lattice node set NODE --pool auto` leaves it to rules; choose another name",
        )
        .into());
    }
    check(&description, &labels)?;
    if rule.is_some() {
        who.require(&core, Permission::PoolChange, &Object::Cluster).await?;
    }
    let mut taints = BTreeSet::new();
    retaint(&mut taints, taint, &[])?;
    let pool = Pool {
        name,
        description,
        labels,
        trusted,
        projects,
        taints,
        rule,
        quotas,
        oversubscription,
        created_at: clock::now(),
    };
    sound(&pool)?;
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
    if let Some(PoolRule { rule, priority, trusts_claims }) = &pool.rule {
        let claims = if *trusts_claims { ", on what nodes state" } else { "" };
        text.push_str(&format!(", rule {rule} (priority {priority}{claims})"));
    }
    if !pool.quotas.is_empty() {
        text.push_str(&format!(", quotas {}", serde_json::to_string(&pool.quotas).unwrap_or_default()));
    }
    if !pool.oversubscription.is_default() {
        let Oversubscription { cpu_percent, memory_percent } = pool.oversubscription;
        text.push_str(&format!(", promises {cpu_percent} % of processors, {memory_percent} % of memory"));
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
    if is_of_rules(find(&core.snapshot(), &name)?, &request) {
        who.require(&core, Permission::PoolChange, &Object::Cluster).await?;
    }
    core.commit(|snapshot| {
        let row = find(snapshot, &name)?;
        let pool = changed(row, request.clone())?;
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
/// Whether a change says which nodes belong to the pool by themselves, or what that means.
fn is_of_rules(pool: &Pool, change: &PoolChange) -> bool {
    let PoolChange { rule, no_rule, priority, trusts_claims, trusted, .. } = change;
    rule.is_some()
        || *no_rule
        || priority.is_some()
        || trusts_claims.is_some()
        || (trusted.is_some() && pool.rule.is_some())
}

/// A pool as a change makes it.
fn changed(row: &Pool, change: PoolChange) -> Result<Pool, ErrorBody> {
    let PoolChange {
        description,
        labels,
        trusted,
        projects,
        all_projects,
        taint,
        untaint,
        rule,
        no_rule,
        priority,
        trusts_claims,
        quotas,
        oversubscription,
    } = change;
    let mut pool = row.clone();
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
    if no_rule && (rule.is_some() || priority.is_some()) {
        return Err(invalid("the pool has either a rule or none", "leave one of the two out"));
    }
    let before = pool.rule.take().filter(|_| !no_rule);
    pool.rule = match (before, rule) {
        (None, None) if priority.is_some() => {
            return Err(invalid("the pool has no rule whose priority could be set", "give it a rule too"));
        }
        (before, Some(rule)) => {
            // Who trusts what nodes state does so for one rule.
            let same = before.as_ref().is_some_and(|before| before.rule == rule);
            let kept = before.as_ref().is_some_and(|before| before.trusts_claims && same);
            let was = before.map_or(0, |before| before.priority);
            let trusts_claims = trusts_claims.unwrap_or(kept);
            Some(PoolRule { rule, priority: priority.unwrap_or(was), trusts_claims })
        }
        (before, None) => before.map(|before| PoolRule {
            priority: priority.unwrap_or(before.priority),
            trusts_claims: trusts_claims.unwrap_or(before.trusts_claims && row.trusted == pool.trusted),
            ..before
        }),
    };
    for PoolQuotaChange { project, quota } in quotas {
        match (project, quota) {
            (None, quota) => pool.quotas.each = quota.unwrap_or_default(),
            (Some(project), Some(quota)) => drop(pool.quotas.projects.insert(project, quota)),
            (Some(project), None) => drop(pool.quotas.projects.remove(&project)),
        }
    }
    pool.oversubscription = oversubscription.unwrap_or(pool.oversubscription);
    sound(&pool)?;
    Ok(pool)
}

/// The most projects with a quota of their own.
const MAX_QUOTAS: usize = 1000;

/// Whether a pool can be as it is to be.
fn sound(pool: &Pool) -> Result<(), ErrorBody> {
    if !pool.oversubscription.is_valid() {
        return Err(invalid("that much of a node cannot be promised", "10 to 1000 per cent"));
    }
    if pool.quotas.projects.len() > MAX_QUOTAS {
        return Err(invalid("there are too many quotas", "at most 1000 projects with one of their own"));
    }
    if pool.trusted && pool.rule.as_ref().is_some_and(|rule| !rule.trusts_claims) {
        return Err(invalid(
            format!(
                "the pool {} is trusted with volumes and secrets, and by a rule nodes come into it on what they state themselves",
                pool.name
            ),
            "say that this suffices for this rule (`--trust-claims`), or that the pool is not trusted (`--trusted no`); labels by the nodes' owners never count for a trusted pool",
        ));
    }
    Ok(())
}

pub(crate) async fn preview(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Body(request): Body<PoolChange>,
) -> Result<Json<PoolPreview>, ApiError> {
    // It tells of nodes and services everywhere.
    who.require(&core, Permission::PoolChange, &Object::Cluster).await?;
    let snapshot = core.snapshot();
    let name: PoolName = names.get("pool")?;
    let (policy, now) = (&core.config.planning, clock::now());
    // One that nobody made yet is as it would be made.
    let pool = match snapshot.cluster.pools.get(&name) {
        Some(row) => changed(row, request)?,
        None => changed(&Pool { trusted: false, name, ..Pool::default_pool(now) }, request)?,
    };
    let (changes, moves) =
        pools::preview(&snapshot.cluster, pool.clone(), policy, now, &mut clock::random_bits);
    let name = |id: NodeId| snapshot.cluster.nodes.get(&id).map(|row| row.name.clone());
    let mut nodes: Vec<PoolPreviewNode> = changes
        .into_iter()
        .filter_map(|change| {
            let pools::Change { node, matches, from, to, why, stays } = change;
            Some(PoolPreviewNode { node: name(node)?, matches, from, to, why, stays })
        })
        .collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    let moves = moves.into_iter().filter_map(|one| {
        let on = snapshot.cluster.allocations().get(&one.allocation)?.node;
        Some(PoolMove { from: name(on)?, replica: drain_move(&snapshot, one) })
    });
    let moves = moves.collect();
    let there = nodes.iter().filter(|node| node.to == pool.name).count();
    let pool = PoolView::of(&pool, u32::try_from(there).unwrap_or(u32::MAX));
    Ok(Json(PoolPreview { pool, nodes, moves }))
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
        let services = snapshot.cluster.workloads().values().filter(|row| row.spec.pool.contains(&name));
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
