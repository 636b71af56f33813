//! What became of operations, and what follows from it.

use crate::{
    config::fixed,
    reconciler::{Reconciler, Trouble},
    words::{Failure, Operation, OperationId, Outcome},
};
use lattice_model::{
    AllocationId, GoalAllocation, Timestamp,
    container::{ContainerSeen, NetworkSeen, VolumeSeen},
    spec::PullPolicy,
};
use std::collections::BTreeSet;

/// How the image of an allocation is fetched.
pub(crate) fn image_of(wanted: &GoalAllocation) -> Operation {
    let spec = &wanted.spec;
    match spec.uploaded_image() {
        Some(image) => Operation::FetchImage { image, name: spec.image.clone() },
        None => Operation::Pull {
            image: spec.engine_image(),
            platform: spec.platform.clone(),
            login: wanted.registry.clone().map(Box::new),
        },
    }
}

impl Reconciler {
    pub(crate) fn take_result(&mut self, id: OperationId, result: Result<Outcome, Failure>, now: Timestamp) {
        let Some(operation) = self.under_way.remove(&id) else { return };
        self.fetched.remove(&operation.subject());
        let allocation = operation.allocation();
        if let Some(tracked) = allocation.and_then(|id| self.tracked.get_mut(&id)) {
            tracked.busy = None;
        }
        match result {
            Ok(outcome) => self.take_success(operation, outcome, now),
            Err(failure) => self.take_failure(&operation, &failure, now),
        }
    }

    fn take_success(&mut self, operation: Operation, outcome: Outcome, now: Timestamp) {
        self.troubles.remove(&operation.subject());
        self.note_secrets(&operation);
        if let Some(tracked) = operation.allocation().and_then(|id| self.tracked.get_mut(&id)) {
            match &operation {
                // Only halfway: what is tried in a circle has to slow down, too.
                Operation::Create { .. } | Operation::Remove { .. } => {
                    tracked.trouble.iter_mut().for_each(|trouble| trouble.retry_at = now);
                }
                _ => tracked.trouble = None,
            }
            match &operation {
                Operation::Create { .. } => (tracked.renew, tracked.fetched) = (false, false),
                // A container that ends within the blink of an eye is never seen running.
                Operation::Start { .. } => (tracked.record.stopped, tracked.ended_at) = (false, None),
                _ => {}
            }
        }
        match (operation, outcome) {
            (_, Outcome::Seen(Some(seen))) => self.see(*seen, now),
            (Operation::Start { container, .. } | Operation::Stop { container, .. }, Outcome::Seen(None))
            | (Operation::Remove { container, .. }, _) => self.unsee(&container),
            (Operation::Create { config, .. }, Outcome::Created(id)) => {
                self.see(ContainerSeen::just_created(id, *config), now)
            }
            (Operation::CreateNetwork { name, labels, .. }, _) => {
                let id = NetworkSeen { name: name.clone(), labels, bridge: None }.network();
                if let (Some(view), Some(id)) = (&mut self.view, id) {
                    view.networks.insert(id, name.clone());
                    self.made_networks.insert(id, name);
                }
            }
            (Operation::RemoveNetwork { name }, _) => {
                self.made_networks.retain(|_, other| *other != name);
                if let Some(view) = &mut self.view {
                    view.networks.retain(|_, other| *other != name);
                }
            }
            (Operation::CreateVolume { name, labels }, _) => {
                let id = VolumeSeen { name: name.clone(), labels }.volume();
                if let (Some(view), Some(id)) = (&mut self.view, id) {
                    view.volumes.insert(id, name.clone());
                    self.made_volumes.insert(id, name);
                }
            }
            (Operation::RemoveVolume { name }, _) => {
                self.made_volumes.retain(|_, other| *other != name);
                if let Some(view) = &mut self.view {
                    view.volumes.retain(|_, other| *other != name);
                }
            }
            (Operation::FetchTree { tree }, _) => self.tree_arrived(tree),
            (Operation::RemoveTree { tree }, _) => self.tree_left(tree),
            (pull @ (Operation::Pull { .. } | Operation::FetchImage { .. }), _) => {
                self.image_arrived(&pull.subject());
            }
            _ => {}
        }
    }

    fn image_arrived(&mut self, subject: &str) {
        let Some((_, goal)) = &self.goal else { return };
        for (id, _) in goal.allocations.iter().filter(|(_, a)| image_of(a).subject() == subject) {
            if let Some(tracked) = self.tracked.get_mut(id) {
                (tracked.needs_image, tracked.fetched) = (false, true);
                tracked.trouble = None;
            }
        }
    }

    /// Somebody may bring the image by other means, so the engine is asked again before the registry.
    fn image_refused(&mut self, subject: &str, trouble: &Trouble) {
        let Some((_, goal)) = &self.goal else { return };
        for (id, _) in goal.allocations.iter().filter(|(_, a)| image_of(a).subject() == subject) {
            if let Some(tracked) = self.tracked.get_mut(id).filter(|tracked| tracked.needs_image) {
                tracked.needs_image = false;
                tracked.trouble = Some(trouble.clone());
            }
        }
    }

    fn take_failure(&mut self, operation: &Operation, failure: &Failure, now: Timestamp) {
        let subject = operation.subject();
        let Some(id) = operation.allocation() else {
            let trouble = Trouble::again(self.troubles.get(&subject), failure.text(), now);
            if matches!(operation, Operation::Pull { .. } | Operation::FetchImage { .. }) {
                self.image_refused(&subject, &trouble);
            }
            self.troubles.insert(subject, trouble);
            return;
        };
        let wanted = self.goal.as_ref().and_then(|(_, goal)| goal.allocations.get(&id));
        // An uploaded image is not pulled: it was brought along.
        let never = wanted.is_some_and(|wanted| {
            wanted.spec.pull == PullPolicy::Never && wanted.spec.uploaded_image().is_none()
        });
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        match (operation, failure) {
            (Operation::Create { .. }, Failure::ImageMissing) if never => {
                let why = "its image is not on this machine, and its pull policy is never; bring it, or let it be fetched";
                tracked.trouble = Some(Trouble::again(tracked.trouble.as_ref(), why, now));
            }
            (Operation::Create { .. }, Failure::ImageMissing) => tracked.needs_image = true,
            (Operation::Start { .. }, Failure::PortInUse(_)) => {
                tracked.trouble = Some(Trouble::again(tracked.trouble.as_ref(), failure.text(), now));
                self.give_up_dynamic_ports(id);
            }
            // Its container, or a network that it was made with: what is made anew has both.
            (Operation::Start { .. }, Failure::Missing(_)) => {
                tracked.trouble = Some(Trouble::again(tracked.trouble.as_ref(), failure.text(), now));
                tracked.renew = true;
            }
            (_, Failure::Missing(_)) => {
                // Something of what it needs was taken away behind our back: look again.
                tracked.trouble = Some(Trouble::again(tracked.trouble.as_ref(), failure.text(), now));
                if let Some(container) = operation.container().cloned() {
                    self.unsee(&container);
                }
            }
            _ => tracked.trouble = Some(Trouble::again(tracked.trouble.as_ref(), failure.text(), now)),
        }
    }

    /// Ports that the node chose are chosen anew; ports that people asked for stay asked for.
    fn give_up_dynamic_ports(&mut self, id: AllocationId) {
        let Some(wanted) = self.goal.as_ref().and_then(|(_, goal)| goal.allocations.get(&id)) else { return };
        let fixed: BTreeSet<u16> = wanted.spec.ports.iter().filter_map(fixed).collect();
        if let Some(tracked) = self.tracked.get_mut(&id) {
            let chosen = tracked.record.ports.extract_if(.., |port| !fixed.contains(&port.host_port));
            let chosen: Vec<u16> = chosen.map(|port| port.host_port).collect();
            tracked.renew = !chosen.is_empty();
            tracked.refused_ports.extend(chosen);
        }
    }
}
