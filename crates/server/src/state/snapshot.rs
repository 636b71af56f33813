//! [`Snapshot`]: the rows of the store at one revision, and what a change touches.
//!
//! Rejected: reading the store for each request. The planner needs all of it at once anyway.

use crate::{
    error::ServerError,
    rows::{
        self, ApiTokenRow, AvailabilityRow, DeviceRow, Event, ImageRow, InviteRow, JoinTokenRow, LayerRow,
        LinkRow, MeasuredRow, NodeIdentity, NodeOutbox, NodeSession, PopulationRow, ProjectRow, RankingRow,
        Secret, SessionRow, Stored, TreeRow, UserRow,
    },
};
use imbl::OrdMap;
use lattice_availability::Population;
use lattice_model::{
    AllocationId, NodeId, ProjectName, StackKey, TokenId, UserName, VolumeId, VolumeKey,
    resource::{Allocation, Node, Pool, Stack, StackRevision, Volume, Workload, WorkloadRevision},
    spec::{image_registry, registry_secret},
};
use lattice_planner::{Cluster, Row};
use lattice_store::{Change, EventKind, Key, Kind, Prior, Record, Revision};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The rows at one revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) cluster: Cluster,
    pub(crate) identities: OrdMap<NodeId, Row<NodeIdentity>>,
    pub(crate) outboxes: OrdMap<NodeId, Row<NodeOutbox>>,
    pub(crate) sessions: OrdMap<NodeId, Row<NodeSession>>,
    /// What was seen of nodes' comings and goings.
    pub(crate) availability: OrdMap<NodeId, Row<AvailabilityRow>>,
    pub(crate) population: Population,
    /// How good nodes were, by the fingerprint of their keys.
    pub(crate) ranking: OrdMap<String, Row<RankingRow>>,
    /// What was measured of them, likewise.
    pub(crate) measured: OrdMap<String, Row<MeasuredRow>>,
    /// Node by the fingerprint of its key.
    pub(crate) by_key: OrdMap<String, NodeId>,
    pub(crate) join_tokens: OrdMap<TokenId, Row<JoinTokenRow>>,
    pub(crate) api_tokens: OrdMap<TokenId, Row<ApiTokenRow>>,
    pub(crate) users: OrdMap<UserName, Row<UserRow>>,
    /// Sessions of people.
    pub(crate) logins: OrdMap<TokenId, Row<SessionRow>>,
    pub(crate) invites: OrdMap<TokenId, Row<InviteRow>>,
    pub(crate) links: OrdMap<TokenId, Row<LinkRow>>,
    pub(crate) devices: OrdMap<TokenId, Row<DeviceRow>>,
    pub(crate) projects: OrdMap<ProjectName, Row<ProjectRow>>,
    /// By `project/name`.
    pub(crate) secrets: OrdMap<String, Row<Secret>>,
    /// By `project/digest`.
    pub(crate) trees: OrdMap<String, Row<TreeRow>>,
    /// By `project/digits`.
    pub(crate) layers: OrdMap<String, Row<LayerRow>>,
    /// By `project/digits`.
    pub(crate) images: OrdMap<String, Row<ImageRow>>,
    /// Kept deployments of stacks, by version.
    pub(crate) stack_revisions: OrdMap<(StackKey, u64), Row<StackRevision>>,
    /// By number, with the row's id.
    pub(crate) events: OrdMap<u64, Arc<Event>>,
    volume_keys: OrdMap<VolumeId, VolumeKey>,
}

/// What a change asks others to look at.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Stacks to plan.
    pub(crate) stacks: BTreeSet<StackKey>,
    /// Whether stacks that wait for something may find it now.
    pub(crate) pending: bool,
    /// Whether a node came or went, or is emptied.
    pub(crate) presence: bool,
    /// Nodes whose goal, or whose right to a session, may be another.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Whether somebody may do more or less than before.
    pub(crate) rights: bool,
}

/// What the owner says about where the node is.
fn owners_labels(node: &Node) -> impl PartialEq {
    let machine = &node.facts.machine;
    (machine.region.clone(), machine.site.clone(), machine.labels.clone())
}

impl Snapshot {
    /// All rows at once.
    pub(crate) fn load(revision: Revision, records: &[Arc<Record>]) -> Result<Self, ServerError> {
        let mut snapshot = Self { revision: revision.0, ..Self::default() };
        let mut touched = Touched::default();
        for record in records {
            snapshot.put(record, &mut touched)?;
        }
        Ok(snapshot)
    }

    /// One more transaction.
    pub(crate) fn apply(&mut self, change: &Change, touched: &mut Touched) -> Result<(), ServerError> {
        for event in &change.events {
            match &event.kind {
                EventKind::Put(record) => self.put(record, touched)?,
                EventKind::Delete(prior) => self.delete(&event.key, prior, touched),
            }
        }
        self.revision = change.revision.0;
        Ok(())
    }

    /// A volume by its id.
    pub(crate) fn volume(&self, id: VolumeId) -> Option<&Row<Volume>> {
        self.cluster.volumes.get(self.volume_keys.get(&id)?)
    }

    fn put(&mut self, record: &Record, touched: &mut Touched) -> Result<(), ServerError> {
        const NODE: Kind = Node::KIND;
        const IDENTITY: Kind = NodeIdentity::KIND;
        const OUTBOX: Kind = NodeOutbox::KIND;
        const SESSION: Kind = NodeSession::KIND;
        const STACK: Kind = Stack::KIND;
        const WORKLOAD: Kind = Workload::KIND;
        const VOLUME: Kind = Volume::KIND;
        const ALLOCATION: Kind = Allocation::KIND;
        const POOL: Kind = Pool::KIND;
        const STACK_REVISION: Kind = StackRevision::KIND;
        const WORKLOAD_REVISION: Kind = WorkloadRevision::KIND;
        const JOIN: Kind = JoinTokenRow::KIND;
        const API: Kind = ApiTokenRow::KIND;
        const USER: Kind = UserRow::KIND;
        const LOGIN: Kind = SessionRow::KIND;
        const INVITE: Kind = InviteRow::KIND;
        const LINK: Kind = LinkRow::KIND;
        const DEVICE: Kind = DeviceRow::KIND;
        const PROJECT: Kind = ProjectRow::KIND;
        const SECRET: Kind = Secret::KIND;
        const TREE: Kind = TreeRow::KIND;
        const LAYER: Kind = LayerRow::KIND;
        const IMAGE: Kind = ImageRow::KIND;
        const AVAILABILITY: Kind = AvailabilityRow::KIND;
        const POPULATION: Kind = PopulationRow::KIND;
        const RANKING: Kind = RankingRow::KIND;
        const MEASURED: Kind = MeasuredRow::KIND;
        const EVENT: Kind = Event::KIND;
        match record.key.kind {
            NODE => {
                let new: Row<Node> = row(record)?;
                let old = self.cluster.nodes.insert(new.id, new.clone());
                self.touch_node(old.as_ref(), &new, touched);
            }
            IDENTITY => {
                let new: Row<NodeIdentity> = row(record)?;
                self.by_key.insert(new.fingerprint.clone(), new.node);
                self.identities.insert(new.node, new);
            }
            OUTBOX => {
                let new: Row<NodeOutbox> = row(record)?;
                self.outboxes.insert(new.node, new);
            }
            SESSION => {
                let new: Row<NodeSession> = row(record)?;
                let old = self.sessions.insert(new.node, new.clone());
                // Whose session it was has to see that it is so no more.
                if old.is_some_and(|old| old.number != new.number || old.server != new.server) {
                    touched.nodes.insert(new.node);
                }
            }
            STACK => {
                let new: Row<Stack> = row(record)?;
                touched.nodes.extend(self.cluster.allocations_of_stack(&new.key).map(|row| row.node));
                touched.stacks.insert(new.key.clone());
                self.cluster.stacks.insert(new.key.clone(), new);
            }
            WORKLOAD => {
                let new: Row<Workload> = row(record)?;
                touched.stacks.insert(new.key.stack_key());
                self.cluster.put_workload(new);
            }
            VOLUME => {
                let new: Row<Volume> = row(record)?;
                touched.stacks.insert(new.key.stack_key());
                touched.nodes.extend(new.node);
                self.volume_keys.insert(new.id, new.key.clone());
                self.cluster.volumes.insert(new.key.clone(), new);
            }
            ALLOCATION => {
                let new: Row<Allocation> = row(record)?;
                let old = self.cluster.allocations().get(&new.id);
                touched.stacks.insert(new.workload.stack_key());
                touched.pending |= old.is_some_and(|old| old.intent != new.intent);
                if old.is_none_or(|old| tells_node_more(old, &new)) {
                    touched.nodes.insert(new.node);
                }
                self.cluster.put_allocation(new);
            }
            POOL => {
                let new: Row<Pool> = row(record)?;
                touched.pending = true;
                let nodes = || self.cluster.nodes.values().filter(|node| node.pool == new.name);
                touched.nodes.extend(nodes().map(|node| node.id));
                // What runs there may have to go, and what runs on every node may come.
                if self.cluster.pools.get(&new.name).is_none_or(|old| old.taints != new.taints) {
                    let there = nodes().flat_map(|node| self.cluster.allocations_on(node.id));
                    touched.stacks.extend(there.map(|row| row.workload.stack_key()));
                    touched.stacks.extend(self.cluster.globals().map(|key| key.stack_key()));
                }
                self.cluster.pools.insert(new.name.clone(), new);
            }
            STACK_REVISION => {
                let new: Row<StackRevision> = row(record)?;
                self.stack_revisions.insert((new.stack.clone(), new.version), new);
            }
            WORKLOAD_REVISION => {
                let new: Row<WorkloadRevision> = row(record)?;
                self.cluster.revisions.insert((new.key.clone(), new.generation), new);
            }
            JOIN => {
                let new: Row<JoinTokenRow> = row(record)?;
                self.join_tokens.insert(new.record.id, new);
            }
            API => {
                let new: Row<ApiTokenRow> = row(record)?;
                touched.rights = true;
                self.api_tokens.insert(new.record.id, new);
            }
            USER => {
                let new: Row<UserRow> = row(record)?;
                touched.rights = true;
                self.users.insert(new.name.clone(), new);
            }
            LOGIN => {
                let new: Row<SessionRow> = row(record)?;
                self.logins.insert(new.0.id, new);
            }
            INVITE => {
                let new: Row<InviteRow> = row(record)?;
                self.invites.insert(new.0.id, new);
            }
            LINK => {
                let new: Row<LinkRow> = row(record)?;
                self.links.insert(new.0.id, new);
            }
            DEVICE => {
                let new: Row<DeviceRow> = row(record)?;
                self.devices.insert(new.0.id, new);
            }
            PROJECT => {
                let new: Row<ProjectRow> = row(record)?;
                self.projects.insert(new.name.clone(), new);
            }
            SECRET => {
                let new: Row<Secret> = row(record)?;
                self.touch_secret(&new, touched);
                self.secrets.insert(record.key.id.to_string(), new);
            }
            TREE => {
                let new: Row<TreeRow> = row(record)?;
                self.trees.insert(record.key.id.to_string(), new);
            }
            LAYER => {
                let new: Row<LayerRow> = row(record)?;
                self.layers.insert(record.key.id.to_string(), new);
            }
            IMAGE => {
                let new: Row<ImageRow> = row(record)?;
                self.images.insert(record.key.id.to_string(), new);
            }
            AVAILABILITY => {
                let new: Row<AvailabilityRow> = row(record)?;
                self.availability.insert(new.node, new);
            }
            POPULATION => self.population = row::<PopulationRow>(record)?.value.0.clone(),
            RANKING => {
                let new: Row<RankingRow> = row(record)?;
                self.ranking.insert(new.key.clone(), new);
            }
            MEASURED => {
                let new: Row<MeasuredRow> = row(record)?;
                self.measured.insert(new.key.clone(), new);
            }
            EVENT => {
                let new: Row<Event> = row(record)?;
                self.events.insert(new.number(record.created), new.value);
            }
            // Authority, settings, sources, audit: read where they are needed.
            _ => {}
        }
        Ok(())
    }

    fn delete(&mut self, key: &Key, prior: &Prior, touched: &mut Touched) {
        let id = &*key.id;
        match key.kind {
            kind if kind == Node::KIND => {
                let Ok(id) = id.parse::<NodeId>() else { return };
                if let Some(old) = self.cluster.nodes.remove(&id) {
                    touched.nodes.insert(old.id);
                    touched.presence = true;
                    touched.stacks.extend(self.cluster.globals().map(|key| key.stack_key()));
                    touched
                        .stacks
                        .extend(self.cluster.allocations_on(old.id).map(|a| a.workload.stack_key()));
                    touched.stacks.extend(self.volumes_on(old.id));
                }
            }
            kind if kind == NodeIdentity::KIND => {
                let Ok(id) = id.parse::<NodeId>() else { return };
                if let Some(old) = self.identities.remove(&id) {
                    self.by_key.remove(&old.fingerprint);
                }
            }
            kind if kind == NodeOutbox::KIND => {
                let Ok(id) = id.parse::<NodeId>() else { return };
                self.outboxes.remove(&id);
            }
            kind if kind == NodeSession::KIND => {
                let Ok(id) = id.parse::<NodeId>() else { return };
                self.sessions.remove(&id);
            }
            kind if kind == AvailabilityRow::KIND => {
                let Ok(id) = id.parse::<NodeId>() else { return };
                self.availability.remove(&id);
            }
            kind if kind == RankingRow::KIND => drop(self.ranking.remove(id)),
            kind if kind == MeasuredRow::KIND => drop(self.measured.remove(id)),
            kind if kind == Stack::KIND => {
                let Ok(id) = id.parse::<StackKey>() else { return };
                self.cluster.stacks.remove(&id);
                touched.stacks.insert(id);
            }
            kind if kind == Workload::KIND => {
                let Ok(id) = id.parse::<lattice_model::WorkloadKey>() else { return };
                self.cluster.remove_workload(&id);
                touched.stacks.insert(id.stack_key());
            }
            kind if kind == Volume::KIND => {
                let Ok(id) = id.parse::<VolumeId>() else { return };
                let Some(key) = self.volume_keys.remove(&id) else { return };
                touched.stacks.insert(key.stack_key());
                // The name may already be another volume's.
                if self.cluster.volumes.get(&key).is_some_and(|row| row.id == id) {
                    touched.nodes.extend(self.cluster.volumes.remove(&key).and_then(|old| old.node));
                }
            }
            kind if kind == Allocation::KIND => {
                let Ok(id) = id.parse::<AllocationId>() else { return };
                if let Some(old) = self.cluster.allocations().get(&id).cloned() {
                    touched.stacks.insert(old.workload.stack_key());
                    touched.nodes.insert(old.node);
                    touched.pending = true;
                    self.cluster.remove_allocation(id);
                }
            }
            kind if kind == Pool::KIND => {
                let Ok(name) = id.parse() else { return };
                touched.pending = true;
                self.cluster.pools.remove::<lattice_model::PoolName>(&name);
            }
            kind if kind == StackRevision::KIND => {
                if let Some((stack, version)) = split_revision(id) {
                    self.stack_revisions.remove(&(stack, version));
                }
            }
            kind if kind == WorkloadRevision::KIND => {
                if let Some((key, generation)) = split_revision(id) {
                    self.cluster.revisions.remove(&(key, generation));
                }
            }
            kind if kind == JoinTokenRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                self.join_tokens.remove(&id);
            }
            kind if kind == ApiTokenRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                touched.rights = true;
                self.api_tokens.remove(&id);
            }
            kind if kind == UserRow::KIND => {
                touched.rights = true;
                self.users.remove(id);
            }
            kind if kind == SessionRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                touched.rights = true;
                self.logins.remove(&id);
            }
            kind if kind == InviteRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                self.invites.remove(&id);
            }
            kind if kind == LinkRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                self.links.remove(&id);
            }
            kind if kind == DeviceRow::KIND => {
                let Ok(id) = id.parse::<TokenId>() else { return };
                self.devices.remove(&id);
            }
            kind if kind == ProjectRow::KIND => {
                self.projects.remove(id);
            }
            kind if kind == Secret::KIND => {
                if let Some(old) = self.secrets.remove(id) {
                    self.touch_secret(&old, touched);
                }
            }
            kind if kind == TreeRow::KIND => drop(self.trees.remove(id)),
            kind if kind == LayerRow::KIND => drop(self.layers.remove(id)),
            kind if kind == ImageRow::KIND => drop(self.images.remove(id)),
            kind if kind == Event::KIND => {
                let mut same =
                    self.events.range(Event::numbers(prior.created)).filter(|(_, event)| event.key == id);
                if let Some(number) = same.next().map(|(number, _)| *number) {
                    self.events.remove(&number);
                }
            }
            _ => {}
        }
    }

    fn volumes_on(&self, node: NodeId) -> impl Iterator<Item = StackKey> {
        self.cluster.volumes.values().filter(move |row| row.node == Some(node)).map(|row| row.key.stack_key())
    }

    fn touch_node(&self, old: Option<&Row<Node>>, new: &Row<Node>, touched: &mut Touched) {
        // What secrets it gets hangs on its pool.
        let same_rights = old.is_some_and(|old| (old.approval, &old.pool) == (new.approval, &new.pool));
        if !same_rights {
            touched.nodes.insert(new.id);
        }
        let same_place = old.is_some_and(|old| {
            (old.presence.state, old.eligibility, old.drain, old.capacity, &old.pool)
                == (new.presence.state, new.eligibility, new.drain, new.capacity, &new.pool)
                && (&old.labels, &old.owner, &old.name, &old.facts.arch, &old.facts.os)
                    == (&new.labels, &new.owner, &new.name, &new.facts.arch, &new.facts.os)
                && old.distress().map(|one| (one.kind, one.reason))
                    == new.distress().map(|one| (one.kind, one.reason))
                && owners_labels(old) == owners_labels(new)
                && old.taints == new.taints
                // What waited for its owner's rules to let it work goes on when they do.
                && (old.standing.state, old.facts.machine.lan) == (new.standing.state, new.facts.machine.lan)
        });
        if !same_rights || !same_place {
            (touched.pending, touched.presence) = (true, true);
            touched.stacks.extend(self.cluster.globals().map(|key| key.stack_key()));
            touched.stacks.extend(self.cluster.allocations_on(new.id).map(|row| row.workload.stack_key()));
            touched.stacks.extend(self.volumes_on(new.id));
        }
    }

    fn touch_secret(&self, secret: &Secret, touched: &mut Touched) {
        let uses = |row: &&Row<Allocation>| {
            row.workload.project == secret.project
                && (row.spec.secrets.iter().any(|mount| mount.secret == secret.name)
                    || registry_secret(image_registry(&row.spec.image)).as_ref() == Some(&secret.name))
        };
        touched.nodes.extend(self.cluster.allocations().values().filter(uses).map(|row| row.node));
    }
}

/// Whether anything but the status differs, which the node itself has said.
fn tells_node_more(old: &Allocation, new: &Allocation) -> bool {
    (old.intent, old.restart, old.replaces, old.generation, old.node)
        != (new.intent, new.restart, new.replaces, new.generation, new.node)
}

/// The parts of a revision's id.
fn split_revision<K: std::str::FromStr>(id: &str) -> Option<(K, u64)> {
    let (key, number) = id.rsplit_once('@')?;
    Some((key.parse().ok()?, number.parse().ok()?))
}

fn row<T: Stored>(record: &Record) -> Result<Row<T>, ServerError> {
    Ok(Row { revision: record.revision.0, value: Arc::new(rows::read(record)?) })
}

/// What could not be placed, by stack.
pub(crate) type PendingByStack = BTreeMap<StackKey, Vec<lattice_planner::Pending>>;
