//! Goals, as a server that means harm would send them: whatever one says, the reconciler goes on, and nothing that it
//! has made exceeds what the owner of the machine lends.

use crate::{Draw, Subject, corpus::STACKS, json};
use lattice_converge::{Effect, Folders, Input, Listing, NodePolicy, Operation, Outcome, Reconciler};
use lattice_model::{
    Bytes, Cpu, Goal, GoalId, NodeId, Timestamp,
    container::{ContainerConfig, ContainerId, ContainerSeen, ContainerState, MountSource},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Goals, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub struct Goals(Vec<Value>);

impl Subject for Goals {
    const NAME: &'static str = "goals";

    fn draw(draw: &mut dyn Draw) -> Self {
        let count = draw.between(1, 3);
        Self((0..count).map(|_| goal(draw)).collect())
    }

    fn check(&self) -> Result<(), String> {
        let policy = NodePolicy::lending(Cpu::from_cores(2), Bytes::GIB);
        let folders = Folders { secrets: "/run/fuzz".into(), trees: "/var/fuzz".into() };
        let mut machine = Machine {
            reconciler: Reconciler::new(NodeId::from_random(1), policy.clone(), folders, BTreeMap::new()),
            now: Timestamp(1_000_000),
            containers: BTreeMap::new(),
        };
        machine.input(Input::Listed(Listing::default()), &policy)?;
        for (goal, revision) in self.0.iter().zip(1..) {
            // As the agent reads it: from bytes.
            let Ok(goal) = serde_json::from_str::<Goal>(&goal.to_string()) else { continue };
            let back = serde_json::to_string(&goal).map_err(|error| error.to_string())?;
            if serde_json::from_str::<Goal>(&back).ok().as_ref() != Some(&goal) {
                return Err("a goal is another after its JSON".to_owned());
            }
            machine.input(Input::Goal(GoalId { incarnation: 1, revision }, goal), &policy)?;
            machine.now = Timestamp(machine.now.0 + 60_000);
            machine.input(Input::Tick, &policy)?;
        }
        Ok(())
    }
}

struct Machine {
    reconciler: Reconciler,
    now: Timestamp,
    containers: BTreeMap<ContainerId, ContainerSeen>,
}

impl Machine {
    fn seen(&mut self, container: &ContainerId, state: ContainerState) -> Outcome {
        let container = self.containers.get_mut(container).map(|container| {
            container.state = state;
            container.started_at = Some(self.now);
            Box::new(container.clone())
        });
        Outcome::Seen(container)
    }

    /// Gives an input, and carries out what comes of it.
    fn input(&mut self, input: Input, policy: &NodePolicy) -> Result<(), String> {
        let (mut waiting, mut random, mut steps) = (vec![input], 0_u128, 0);
        while let Some(input) = waiting.pop() {
            steps += 1;
            if steps > 2000 {
                return Err("it never settles".to_owned());
            }
            let effects = self.reconciler.step(input, self.now, &mut || {
                random += 1;
                random * 7919
            });
            for effect in effects {
                let Effect::Run(id, operation) = effect else { continue };
                let outcome = match operation {
                    Operation::Create { config, .. } => {
                        within(&config, policy)?;
                        let id = ContainerId(format!("c{}", self.containers.len()));
                        self.containers.insert(id.clone(), ContainerSeen::just_created(id.clone(), *config));
                        Outcome::Created(id)
                    }
                    Operation::Start { container, .. } => self.seen(&container, ContainerState::Running),
                    Operation::Stop { container, .. } => self.seen(&container, ContainerState::Exited),
                    _ => Outcome::Done,
                };
                waiting.push(Input::Done(id, Ok(outcome)));
            }
        }
        Ok(())
    }
}

/// Whether a container stays within what is lent.
fn within(config: &ContainerConfig, policy: &NodePolicy) -> Result<(), String> {
    let beyond = |what: &str| Err(format!("a container beyond what is lent: {what}: {config:?}"));
    if config.memory_limit > policy.memory || config.memory_limit.0 == 0 {
        return beyond("memory");
    }
    if config.cpu_limit > policy.cpu || config.cpu_limit.0 == 0 {
        return beyond("processors");
    }
    if config.pids_limit == 0 {
        return beyond("processes");
    }
    if config.ports.iter().any(|port| !port.host_ip.is_loopback()) {
        return beyond("ports");
    }
    if config.gpus.is_some() {
        return beyond("GPUs");
    }
    let outside = config.mounts.iter().find(|mount| match &mount.source {
        MountSource::Volume(name) => name.contains('/'),
        MountSource::SecretFile(path) => !path.starts_with("/run/fuzz/") || path.contains(".."),
        MountSource::Tree(path) => {
            !path.starts_with("/var/fuzz/") || path.split('/').any(|part| part == "..")
        }
    });
    if let Some(mount) = outside {
        return beyond(&format!("{mount:?}"));
    }
    Ok(())
}

fn goal(draw: &mut dyn Draw) -> Value {
    let stack = draw.of(&STACKS);
    let id = |n: usize| format!("00000000-0000-7000-8000-{n:012}");
    let names = |key: &str| {
        stack[key].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let with_ids = |names: &[String], from: usize| -> Value {
        names
            .iter()
            .enumerate()
            .map(|(n, name)| (name.clone(), json!(id(from + n))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let (volumes, networks) = (names("volumes"), names("networks"));
    let mut goal = json!({ "allocations": {}, "volumes": {}, "networks": {} });
    for (n, (name, spec)) in stack["workloads"].as_object().into_iter().flatten().enumerate().take(4) {
        goal["allocations"][id(n)] = json!({
            "workload": format!("default/fuzz/{name}"),
            "slot": 1,
            "desired": "run",
            "restart": 0,
            "spec": spec,
            "volumes": with_ids(&volumes, 100),
            "networks": with_ids(&networks, 200),
        });
    }
    for (n, name) in volumes.iter().enumerate() {
        goal["volumes"][id(100 + n)] =
            json!({ "key": format!("default/fuzz/{name}"), "exists": false, "epoch": 1 });
    }
    for (n, name) in networks.iter().enumerate() {
        goal["networks"][id(200 + n)] =
            json!({ "stack": "default/fuzz", "name": name, "spec": stack["networks"][name] });
    }
    if draw.below(8) != 0 {
        json::alter(draw, &mut goal, &STACKS);
    }
    goal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A goal that is refused at once tries nothing.
    #[test]
    fn every_stack_makes_a_goal_that_is_taken() {
        struct Plain(usize);
        impl Draw for Plain {
            fn below(&mut self, bound: usize) -> usize {
                if bound == STACKS.len() { self.0 } else { 0 }
            }
            fn bits(&mut self) -> u64 {
                0
            }
        }
        for n in 0..STACKS.len() {
            let goal = goal(&mut Plain(n));
            let read: Result<Goal, _> = serde_json::from_value(goal.clone());
            assert!(read.is_ok(), "{n}: {:?}", read.err());
        }
    }
}
