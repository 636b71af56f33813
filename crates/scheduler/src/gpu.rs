//! Which GPUs an ask gets: [`assign`]. Pure choice among the [`GpuUnit`]s of one node, whole GPUs or instances.
//!
//! Whoever asks for several gets those that reach each other by NVLink, where there are such; whoever asks for
//! one gets the smallest that will do, and of these one whose loss leaves the most links to others. Asks that
//! name what they want choose first.
//!
//! A card tells less memory than its name says (80 GB are 79.6 GiB, 16 GB with error correction 15.0 GiB), so one
//! that has 93 % of what is asked for will do.

use lattice_model::{
    Bytes,
    machine::{GpuFacts, GpuUnit},
    resource::Node,
    spec::{Constraint, GpuCount, GpuRequest, NodeAttribute, Test, Than},
};
use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

/// What others have of GPUs, in thousandths of each, by id.
pub type Taken = BTreeMap<String, u16>;

/// How much of the memory that is asked for will do, in percent.
const ENOUGH: u128 = 93;

/// Whether a GPU with this memory will do for an ask for so much.
fn has(memory: Bytes, asked: Bytes) -> bool {
    u128::from(memory.0) * 100 >= u128::from(asked.0) * ENOUGH
}

/// Whether a unit is what is asked for, by request and constraints.
fn suits(unit: &GpuUnit<'_>, request: &GpuRequest, constraints: &[Constraint]) -> bool {
    let named = request.ids.is_empty() || request.ids.iter().any(|id| unit.is_called(id));
    named && is_such(unit, request, constraints)
}

/// Whether a unit is of the kind that is asked for, whatever it is called.
pub fn is_such(unit: &GpuUnit<'_>, request: &GpuRequest, constraints: &[Constraint]) -> bool {
    let GpuRequest { count: _, driver, ids: _, capabilities: _, model, memory, share: _ } = request;
    driver.as_ref().is_none_or(|driver| unit.gpu.vendor.as_str().eq_ignore_ascii_case(driver))
        && model.as_ref().is_none_or(|model| unit.gpu.is_model(model))
        && memory.is_none_or(|memory| has(unit.memory, memory))
        && constraints.iter().all(|constraint| unit_holds(constraint, unit))
}

/// What constraints on the node's GPUs mean for each that is handed out. Those on the rest of the node hold of any.
fn unit_holds(constraint: &Constraint, unit: &GpuUnit<'_>) -> bool {
    let Constraint { attribute, test } = constraint;
    let model = |asked: &String| unit.gpu.is_model(asked);
    let amount = |text: &str| text.parse::<Bytes>().unwrap_or_default();
    // As much as it says, give or take what a card keeps for itself.
    let equal = |asked: &String| has(unit.memory, amount(asked)) && has(amount(asked), unit.memory);
    match (attribute, test) {
        (NodeAttribute::GpuModel, Test::In(values)) => values.iter().any(model),
        (NodeAttribute::GpuModel, Test::NotIn(values)) => !values.iter().any(model),
        (NodeAttribute::GpuMemory, Test::In(values)) => values.iter().any(equal),
        (NodeAttribute::GpuMemory, Test::NotIn(values)) => !values.iter().any(equal),
        (NodeAttribute::GpuMemory, Test::Than(Than::AtLeast, asked)) => has(unit.memory, amount(asked)),
        (NodeAttribute::GpuMemory, Test::Than(Than::Below, asked)) => !has(unit.memory, amount(asked)),
        (NodeAttribute::GpuMemory, Test::Than(than, asked)) => than.holds(&unit.memory, &amount(asked)),
        (NodeAttribute::GpuModel, Test::Than(..)) => false,
        (NodeAttribute::GpuModel | NodeAttribute::GpuMemory, Test::Absent) => false,
        _ => true,
    }
}

/// Whether a constraint on the GPUs of a node holds: of their number, or of one of them at least.
pub(crate) fn node_holds(constraint: &Constraint, node: &Node) -> bool {
    let units = node.facts.machine.gpu_units();
    let lent: Vec<&GpuUnit<'_>> = units.iter().filter(|unit| unit.lent).collect();
    if constraint.attribute == NodeAttribute::GpuCount {
        return match &constraint.test {
            Test::Exists => !lent.is_empty(),
            Test::Absent => lent.is_empty(),
            _ => constraint.holds(Some(&lent.len().to_string()), |_, _| false),
        };
    }
    match (lent.as_slice(), &constraint.test) {
        // A node without any has none that is such a one.
        ([], test) => matches!(test, Test::NotIn(_) | Test::Absent),
        (_, Test::Absent) => false,
        (lent, _) => lent.iter().any(|unit| unit_holds(constraint, unit)),
    }
}

/// The value of an attribute of GPUs, to spread over: of the first that is lent.
pub(crate) fn attribute<'n>(node: &'n Node, attribute: &NodeAttribute) -> Cow<'n, str> {
    let units = node.facts.machine.gpu_units();
    let mut lent = units.iter().filter(|unit| unit.lent);
    match attribute {
        NodeAttribute::GpuCount => lent.count().to_string().into(),
        NodeAttribute::GpuMemory => lent.next().map_or(0, |unit| unit.memory.0).to_string().into(),
        _ => lent.next().map_or_else(String::new, |unit| unit.gpu.model.clone()).into(),
    }
}

/// What lacks of a node that could never hold the asks, whatever is in use there; nothing where it could.
pub(crate) fn unsuitable(asks: &[GpuRequest], constraints: &[Constraint], node: &Node) -> Option<String> {
    let units = node.facts.machine.gpu_units();
    let lent: Vec<GpuUnit<'_>> = units.iter().filter(|unit| unit.lent).copied().collect();
    // Proven or not: one that is proven anew makes nobody go.
    choose(asks, constraints, &lent, &Taken::new()).err().map(|request| {
        let has = match units.as_slice() {
            [] => "it has none".to_owned(),
            _ => format!("it lends {}", list(&lent)),
        };
        format!("it needs {request}, and {has}")
    })
}

/// The GPUs of `node` for each of `asks`, in their order, beside what is `taken` of them.
///
/// # Errors
/// What is lacking, for people.
pub fn assign(
    asks: &[GpuRequest],
    constraints: &[Constraint],
    node: &Node,
    taken: &Taken,
) -> Result<Vec<Vec<String>>, String> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let units = node.facts.machine.gpu_units();
    let usable: Vec<GpuUnit<'_>> = units.iter().filter(|unit| unit.is_usable()).copied().collect();
    choose(asks, constraints, &usable, taken).map_err(|request| {
        let used_of = |unit: &&GpuUnit<'_>| taken.get(unit.id).copied().unwrap_or(0);
        let used = usable.iter().filter(|unit| used_of(unit) >= GpuRequest::WHOLE).count();
        let in_part = usable.iter().filter(|unit| (1..GpuRequest::WHOLE).contains(&used_of(unit))).count();
        let not_proven = units.iter().filter(|unit| unit.lent).count() - usable.len();
        let mut has = format!("it lends {}", list(&usable));
        if used > 0 {
            has += &format!(", {used} in use");
        }
        if in_part > 0 {
            has += &format!(", {in_part} in part");
        }
        if not_proven > 0 {
            has += &format!(", {not_proven} not proven");
        }
        format!("it needs {request}, and {has}")
    })
}

/// `none`, `1 NVIDIA L4 (22.5 GiB)`.
fn list(units: &[GpuUnit<'_>]) -> String {
    let mut kinds: Vec<(&GpuFacts, Bytes, u32)> = Vec::new();
    for unit in units {
        match kinds.iter_mut().find(|(gpu, memory, _)| gpu.model == unit.gpu.model && *memory == unit.memory)
        {
            Some((.., n)) => *n += 1,
            None => kinds.push((unit.gpu, unit.memory, 1)),
        }
    }
    if kinds.is_empty() {
        return "none".to_owned();
    }
    let one = |(gpu, memory, n): &(&GpuFacts, Bytes, u32)| format!("{n} {} ({memory})", gpu.model);
    kinds.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// The error is the first ask that gets none.
fn choose<'r>(
    asks: &'r [GpuRequest],
    constraints: &[Constraint],
    units: &[GpuUnit<'_>],
    taken: &Taken,
) -> Result<Vec<Vec<String>>, &'r GpuRequest> {
    let mut taken = taken.clone();
    let mut given = vec![Vec::new(); asks.len()];
    // Who has the least choice chooses first; of those that take all that is left, none is before another.
    let mut order: Vec<usize> = (0..asks.len()).collect();
    let fitting =
        |ask: &GpuRequest| units.iter().filter(|unit| suits(unit, ask, constraints)).collect::<Vec<_>>();
    order.sort_by_key(|at| {
        let ask = &asks[*at];
        (ask.ids.is_empty(), ask.count == GpuCount::All, fitting(ask).len(), Reverse(ask.each()))
    });
    for at in order {
        let ask = &asks[at];
        let all = fitting(ask);
        let used = |unit: &GpuUnit<'_>| taken.get(unit.id).copied().unwrap_or(0);
        let has_room = |unit: &&&GpuUnit<'_>| used(unit).saturating_add(ask.each()) <= GpuRequest::WHOLE;
        let mut free: Vec<&GpuUnit<'_>> = all.iter().filter(has_room).copied().collect();
        if ask.each() < GpuRequest::WHOLE {
            // What is shared already is shared on.
            let most = free.iter().map(|unit| used(unit)).max();
            free.retain(|unit| Some(used(unit)) == most);
        }
        let chosen = match ask.count {
            // All of them are all: not those that others left.
            GpuCount::All if all.is_empty() || free.len() < all.len() => return Err(ask),
            GpuCount::All => free,
            GpuCount::Exactly(n) => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                if n == 0 || free.len() < n {
                    return Err(ask);
                }
                best(&free, n)
            }
        };
        // An id and the number of the same GPU are one GPU.
        if ask.ids.len() > chosen.len() {
            return Err(ask);
        }
        for unit in &chosen {
            *taken.entry(unit.id.to_owned()).or_default() += ask.each();
        }
        given[at] = chosen.iter().map(|unit| unit.id.to_owned()).collect();
    }
    Ok(given)
}

fn linked(a: &GpuUnit<'_>, b: &GpuUnit<'_>) -> bool {
    a.gpu.links.contains(b.id) || b.gpu.links.contains(a.id)
}

/// `n` of `free`, of which there are enough: those with the most links among each other; of equals those with the
/// fewest links to what is left, then the smallest, then the first.
fn best<'u, 'f>(free: &[&'u GpuUnit<'f>], n: usize) -> Vec<&'u GpuUnit<'f>> {
    let links = |one: &GpuUnit<'_>, others: &[&GpuUnit<'_>]| {
        others.iter().filter(|other| other.id != one.id && linked(one, other)).count()
    };
    let grow = |start: &'u GpuUnit<'f>| {
        let mut set = vec![start];
        while set.len() < n {
            let left = free.iter().copied().filter(|unit| !set.iter().any(|had| had.id == unit.id));
            // The last of equals counts for max_by_key, the first is wanted.
            let next = left.rev().max_by_key(|unit| (links(unit, &set), Reverse(unit.memory)));
            let Some(next) = next else { break };
            set.push(next);
        }
        set
    };
    let worth = |set: &[&'u GpuUnit<'f>]| {
        let inside: usize = set.iter().map(|unit| links(unit, set)).sum();
        let all: usize = set.iter().map(|unit| links(unit, free)).sum();
        let memory: u128 = set.iter().map(|unit| u128::from(unit.memory.0)).sum();
        (inside, Reverse(all - inside), Reverse(memory))
    };
    let mut chosen: Vec<&GpuUnit<'_>> =
        free.iter().rev().map(|start| grow(start)).max_by_key(|set| worth(set)).unwrap_or_default();
    chosen.sort_by_key(|unit| (unit.gpu.index, unit.id));
    chosen
}
