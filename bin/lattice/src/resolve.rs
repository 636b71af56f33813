//! What people type becomes what is meant: `web`, `shop/web`, `default/shop/web`, `web#2`, or the
//! first characters of an allocation's id. What fits several things is refused with the list.

use crate::error::CliError;
use lattice_api::{AllocationView, StackView, WorkloadView};
use lattice_model::{ProjectName, StackKey, WorkloadKey};

/// The fewest characters of an id that are taken for one.
const MIN_PREFIX: usize = 4;
/// The most names that an error lists.
const MAX_LISTED: usize = 8;

/// The key of a workload.
pub(crate) fn workload_key(view: &WorkloadView) -> WorkloadKey {
    WorkloadKey { project: view.project.clone(), stack: view.stack.clone(), workload: view.name.clone() }
}

/// The key of a stack.
pub(crate) fn stack_key(view: &StackView) -> StackKey {
    StackKey { project: view.project.clone(), stack: view.name.clone() }
}

/// The name of an allocation, without the project where that is the default one.
pub(crate) fn allocation_name(view: &AllocationView) -> String {
    let name = format!("{}/{}#{}", view.stack, view.workload, view.slot);
    if view.project == ProjectName::default_project() { name } else { format!("{}/{name}", view.project) }
}

/// One workload.
pub(crate) fn workload(
    keys: &[WorkloadKey],
    text: &str,
    project: Option<&ProjectName>,
) -> Result<WorkloadKey, CliError> {
    let found = matching(keys, text, project);
    one(&found, "service", text, keys)
}

/// One stack.
pub(crate) fn stack(
    keys: &[StackKey],
    text: &str,
    project: Option<&ProjectName>,
) -> Result<StackKey, CliError> {
    let parts: Vec<_> = text.split('/').collect();
    let found: Vec<_> = keys
        .iter()
        .filter(|key| match parts.as_slice() {
            [stack] => key.stack.as_str() == *stack && project.is_none_or(|p| *p == key.project),
            [p, stack] => key.stack.as_str() == *stack && key.project.as_str() == *p,
            _ => false,
        })
        .collect();
    one(&found, "stack", text, keys)
}

/// A workload, or all workloads of a stack where no workload has the name.
pub(crate) fn workloads(
    keys: &[WorkloadKey],
    text: &str,
    project: Option<&ProjectName>,
) -> Result<Vec<WorkloadKey>, CliError> {
    let missing = match workload(keys, text, project) {
        Ok(key) => return Ok(vec![key]),
        Err(error @ CliError::NotFound { .. }) => error,
        Err(error) => return Err(error),
    };
    let mut stacks: Vec<_> = keys.iter().map(WorkloadKey::stack_key).collect();
    stacks.dedup();
    match stack(&stacks, text, project) {
        Ok(found) => Ok(keys.iter().filter(|key| key.stack_key() == found).cloned().collect()),
        Err(CliError::NotFound { .. }) => Err(missing),
        Err(error) => Err(error),
    }
}

/// The allocations that a name or an id means: those of one workload, one replica, or one id. Of
/// a workload, those on their way out count only where there are no others.
pub(crate) fn allocations<'a>(
    all: &'a [AllocationView],
    text: &str,
    project: Option<&ProjectName>,
) -> Result<Vec<&'a AllocationView>, CliError> {
    let (name, slot) = match text.split_once('#') {
        None => (text, None),
        Some((name, slot)) => match slot.parse::<u32>() {
            Ok(slot) => (name, Some(slot)),
            Err(_) => {
                return Err(CliError::Usage(format!(
                    "{text:?}: what stands behind # is the number of a replica, such as web#1"
                )));
            }
        },
    };
    let mut keys: Vec<_> = all.iter().map(key_of).collect();
    keys.sort();
    keys.dedup();
    let missing = match workload(&keys, name, project) {
        Ok(key) => {
            let mut found: Vec<_> =
                all.iter().filter(|a| key_of(a) == key && slot.is_none_or(|slot| a.slot == slot)).collect();
            if found.iter().any(|a| !a.is_going()) {
                found.retain(|a| !a.is_going());
            }
            found.sort_by_key(|a| (a.slot, a.placed_at));
            if found.is_empty() {
                return Err(CliError::NotFound {
                    what: "replica",
                    name: text.to_owned(),
                    hint: format!("`lattice ps -a` shows those of {key}"),
                });
            }
            return Ok(found);
        }
        Err(error @ CliError::NotFound { .. }) => error,
        Err(error) => return Err(error),
    };
    let prefix = text.to_ascii_lowercase().replace('-', "");
    if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(missing);
    }
    let found: Vec<_> =
        all.iter().filter(|a| a.id.uuid().simple().to_string().starts_with(&prefix)).collect();
    match found.as_slice() {
        [] => Err(missing),
        [_] => Ok(found),
        several => Err(CliError::Ambiguous {
            name: text.to_owned(),
            candidates: several.iter().take(MAX_LISTED).map(|a| a.id.to_string()).collect(),
        }),
    }
}

fn key_of(view: &AllocationView) -> WorkloadKey {
    WorkloadKey { project: view.project.clone(), stack: view.stack.clone(), workload: view.workload.clone() }
}

fn matching<'a>(keys: &'a [WorkloadKey], text: &str, project: Option<&ProjectName>) -> Vec<&'a WorkloadKey> {
    let parts: Vec<_> = text.split('/').collect();
    let matches = |key: &&WorkloadKey| match parts.as_slice() {
        [name] => key.workload.as_str() == *name && project.is_none_or(|p| *p == key.project),
        [stack, name] => {
            key.workload.as_str() == *name
                && key.stack.as_str() == *stack
                && project.is_none_or(|p| *p == key.project)
        }
        [p, stack, name] => {
            key.workload.as_str() == *name && key.stack.as_str() == *stack && key.project.as_str() == *p
        }
        _ => false,
    };
    keys.iter().filter(matches).collect()
}

fn one<K: Clone + ToString>(found: &[&K], what: &'static str, text: &str, all: &[K]) -> Result<K, CliError> {
    match found {
        [key] => Ok((*key).clone()),
        [] => {
            let mut names: Vec<_> = all.iter().take(MAX_LISTED).map(ToString::to_string).collect();
            if all.len() > MAX_LISTED {
                names.push("…".into());
            }
            let hint = if names.is_empty() {
                format!("there is no {what} at all yet; `lattice deploy` makes some")
            } else {
                format!("there are {}", names.join(", "))
            };
            Err(CliError::NotFound { what, name: text.to_owned(), hint })
        }
        several => Err(CliError::Ambiguous {
            name: text.to_owned(),
            candidates: several.iter().take(MAX_LISTED).map(|key| key.to_string()).collect(),
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lattice_model::{
        AllocationId, NodeId, NodeName, Timestamp,
        report::{AllocationState, AllocationStatus},
        resource::Intent,
    };

    /// An allocation of a workload.
    pub(crate) fn allocation(key: &str, slot: u32, id: u128, intent: Intent) -> AllocationView {
        let key: WorkloadKey = key.parse().unwrap();
        AllocationView {
            id: AllocationId::from_random(id),
            project: key.project,
            stack: key.stack,
            workload: key.workload,
            slot,
            node_id: NodeId::from_random(1),
            node: NodeName::new("laptop").unwrap(),
            generation: 1,
            restart: 0,
            due: None,
            image: "nginx".into(),
            intent,
            superseded: None,
            node_lost: false,
            status: AllocationStatus::new(AllocationState::Running),
            gpus: Vec::new(),
            placed_at: Timestamp(i64::from(slot)),
            explanation: String::new(),
        }
    }

    fn keys() -> Vec<WorkloadKey> {
        ["default/blog/db", "default/blog/web", "default/shop/cart", "default/shop/web", "lab/shop/cart"]
            .map(|key| key.parse().unwrap())
            .to_vec()
    }

    #[test]
    fn a_name_is_taken_where_it_is_unique() {
        let keys = keys();
        let find = |text: &str| workload(&keys, text, None).map(|key| key.to_string());
        assert_eq!(find("db").unwrap(), "default/blog/db");
        assert_eq!(find("shop/web").unwrap(), "default/shop/web");
        assert_eq!(find("lab/shop/cart").unwrap(), "lab/shop/cart");
        let error = find("web").unwrap_err().to_string();
        assert!(error.contains("default/blog/web, default/shop/web"), "{error}");
        assert!(matches!(find("shop/cart"), Err(CliError::Ambiguous { .. })));
        assert!(matches!(find("cache"), Err(CliError::NotFound { .. })));
        assert!(matches!(find("a/b/c/d"), Err(CliError::NotFound { .. })));
        let lab = ProjectName::new("lab").unwrap();
        assert_eq!(workload(&keys, "cart", Some(&lab)).unwrap().to_string(), "lab/shop/cart");
        assert!(workload(&keys, "db", Some(&lab)).is_err());
        assert!(workload(&[], "db", None).unwrap_err().to_string().contains("lattice deploy"));
    }

    #[test]
    fn a_stack_stands_for_its_services() {
        let keys = keys();
        let found = workloads(&keys, "blog", None).unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["default/blog/db", "default/blog/web"]
        );
        assert_eq!(workloads(&keys, "lab/shop", None).unwrap().len(), 1);
        assert!(matches!(workloads(&keys, "shop", None), Err(CliError::Ambiguous { .. })));
        assert!(matches!(workloads(&keys, "nothing", None), Err(CliError::NotFound { what: "service", .. })));
    }

    #[test]
    fn allocations_by_service_replica_or_id() {
        let all = [
            allocation("default/shop/web", 2, 0xbeef << 112, Intent::Run),
            allocation("default/shop/web", 1, 0xbeea << 112, Intent::Run),
            allocation("default/shop/web", 1, 0xcafe << 112, Intent::Remove),
            allocation("default/shop/beef", 1, 0xdead << 112, Intent::Run),
        ];
        let slots = |text: &str| {
            allocations(&all, text, None).map(|found| found.iter().map(|a| a.slot).collect::<Vec<_>>())
        };
        assert_eq!(slots("web").unwrap(), [1, 2]);
        assert_eq!(slots("shop/web#2").unwrap(), [2]);
        assert!(matches!(slots("web#3"), Err(CliError::NotFound { what: "replica", .. })));
        assert!(matches!(slots("web#x"), Err(CliError::Usage(_))));
        assert_eq!(allocations(&all, "cafe", None).unwrap()[0].id, all[2].id);
        assert_eq!(allocations(&all, "beef", None).unwrap()[0].id, all[3].id, "a name comes before an id");
        assert_eq!(allocations(&all, &all[0].id.to_string(), None).unwrap()[0].id, all[0].id);
        assert!(matches!(slots("bee"), Err(CliError::NotFound { .. })), "too short for an id");
        assert_eq!(allocation_name(&all[0]), "shop/web#2");
    }
}
