//! What goes in and out of the reconciler: the words between it, which decides, and the shell,
//! which carries out.

use crate::{policy::NodePolicy, pressure::Pressure, record::AllocationRecord};
use lattice_model::{
    AllocationId, Bytes, Duration, Goal, GoalId, Timestamp,
    container::{ContainerConfig, ContainerId, ContainerSeen, LABEL_ALLOCATION, NetworkSeen, VolumeSeen},
    goal::{RegistryLogin, SecretValue},
    report::ReportKind,
    spec::{ImageDigest, TreeDigest},
};
use std::collections::{BTreeMap, BTreeSet};

/// Names one operation that the shell was asked to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What the shell is asked to do to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch an image.
    Pull {
        /// Its reference.
        image: String,
        /// As `os/arch` or `os/arch/variant`; `None` is the machine's own.
        platform: Option<String>,
        /// Who fetches it, where its registry wants to know.
        login: Option<Box<RegistryLogin>>,
    },
    /// Fetch an uploaded image from the server.
    FetchImage {
        /// Its id.
        image: ImageDigest,
        /// What people call it.
        name: String,
    },
    /// Make a bridge network.
    CreateNetwork {
        /// The engine's name.
        name: String,
        /// Whether it leads nowhere outside.
        internal: bool,
        /// Lattice's labels and people's.
        labels: BTreeMap<String, String>,
    },
    /// Remove a network of ours.
    RemoveNetwork {
        /// The engine's name.
        name: String,
    },
    /// Make an empty volume.
    CreateVolume {
        /// The engine's name.
        name: String,
        /// Lattice's labels.
        labels: BTreeMap<String, String>,
    },
    /// Delete a volume with its data, because somebody asked for it.
    RemoveVolume {
        /// The engine's name.
        name: String,
    },
    /// Fetch a tree of files and unpack it.
    FetchTree {
        /// Which.
        tree: TreeDigest,
    },
    /// Remove an unpacked tree.
    RemoveTree {
        /// Which.
        tree: TreeDigest,
    },
    /// Make a container.
    Create {
        /// Whose.
        allocation: AllocationId,
        /// From what.
        config: Box<ContainerConfig>,
        /// Written first.
        files: Vec<SecretFile>,
    },
    /// Start a container.
    Start {
        /// Whose.
        allocation: AllocationId,
        /// Which.
        container: ContainerId,
        /// Written first, since memory is empty after the machine restarted.
        files: Vec<SecretFile>,
    },
    /// Write the present values of secrets, while a container has them mounted.
    WriteSecrets {
        /// Whose.
        allocation: AllocationId,
        /// All of them.
        files: Vec<SecretFile>,
    },
    /// Stop a container, killing it after the grace period.
    Stop {
        /// Whose.
        allocation: AllocationId,
        /// Which.
        container: ContainerId,
        /// How long it may take.
        grace: Duration,
    },
    /// Remove a container that does not run, and its secret files.
    Remove {
        /// Whose.
        allocation: AllocationId,
        /// Which.
        container: ContainerId,
    },
}

/// A secret to be written to a file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The file's owner; none leaves it to the agent's user.
    pub uid: Option<u32>,
    /// The file's group; likewise.
    pub gid: Option<u32>,
    /// What to write.
    pub value: SecretValue,
}

/// How an operation ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and what was to go is gone.
    Done,
    /// The container was made.
    Created(ContainerId),
    /// The container is as seen after the operation; `None` when it has vanished.
    Seen(Option<Box<ContainerSeen>>),
}

/// How an operation failed. The text is for people and names the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The engine did not answer; nothing is known.
    Unreachable(String),
    /// The image is not on the machine.
    ImageMissing,
    /// A port on the node is taken by something else.
    PortInUse(String),
    /// What it was about is not there.
    Missing(String),
    /// The engine refused.
    Other(String),
}

impl Failure {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::ImageMissing => "its image is not on the machine",
            Self::Unreachable(text) | Self::PortInUse(text) | Self::Missing(text) | Self::Other(text) => text,
        }
    }
}

/// Everything of ours that the engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Containers with this node's label.
    pub containers: Vec<ContainerSeen>,
    /// Networks with this node's label.
    pub networks: Vec<NetworkSeen>,
    /// Volumes with this node's label.
    pub volumes: Vec<VolumeSeen>,
    /// Trees of files that are unpacked whole; these are on the agent's disk and not the engine's.
    pub trees: BTreeSet<TreeDigest>,
}

/// Whether work may run now, by the owner's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    #[default]
    Open,
    /// What has begun may go on and end, and nothing is begun; why.
    NothingNew(String),
    /// Nothing may: what runs is stopped and waits; why.
    Closed(String),
}

/// What the shell tells the reconciler.
#[derive(Clone, Debug)]
pub enum Input {
    /// A goal arrived, or was read from disk.
    Goal(GoalId, Goal),
    /// The owner's word changed.
    Policy(NodePolicy),
    /// Whether work may run now, by the owner's rules.
    Admission(Admission),
    /// The machine is short of something, or not any more.
    Pressure(Pressure),
    /// The engine was listed.
    Listed(Listing),
    /// A container was looked at, after an event.
    Container(Box<ContainerSeen>),
    /// A container has vanished.
    Vanished(ContainerId),
    /// How far fetching an image is: bytes that are here, and bytes in all as far as is known.
    Progress(OperationId, Bytes, Bytes),
    /// An operation ended.
    Done(OperationId, Result<Outcome, Failure>),
    /// The engine does not answer.
    RuntimeLost(String),
    /// There is a link to the server again.
    Linked,
    /// It is the time that was asked for.
    Tick,
}

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Keep the goal that was just given, before anything else.
    KeepGoal(GoalId),
    /// Carry out, and answer with [`Input::Done`].
    Run(OperationId, Operation),
    /// Tell the server.
    Report(ReportKind),
    /// Keep what is remembered of an allocation; `None` forgets it.
    Save(AllocationId, Option<Box<AllocationRecord>>),
    /// Give [`Input::Tick`] at this instant; it replaces an earlier wish.
    WakeAt(Timestamp),
}

impl Operation {
    /// The allocation that it is about, if one.
    pub fn allocation(&self) -> Option<AllocationId> {
        match self {
            Self::Create { allocation, .. }
            | Self::WriteSecrets { allocation, .. }
            | Self::Start { allocation, .. }
            | Self::Stop { allocation, .. }
            | Self::Remove { allocation, .. } => Some(*allocation),
            _ => None,
        }
    }

    pub(crate) fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Start { container, .. } | Self::Stop { container, .. } | Self::Remove { container, .. } => {
                Some(container)
            }
            _ => None,
        }
    }

    /// What no two operations may be about at a time.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Pull { image, platform: None, login: _ } => format!("image {image}"),
            Self::Pull { image, platform: Some(platform), login: _ } => {
                format!("image {image} for {platform}")
            }
            Self::FetchImage { image, name: _ } => format!("image {image}"),
            Self::CreateNetwork { name, .. } | Self::RemoveNetwork { name } => format!("network {name}"),
            Self::CreateVolume { name, .. } | Self::RemoveVolume { name } => format!("volume {name}"),
            Self::FetchTree { tree } | Self::RemoveTree { tree } => format!("tree {tree}"),
            Self::Create { allocation, .. }
            | Self::WriteSecrets { allocation, .. }
            | Self::Start { allocation, .. }
            | Self::Stop { allocation, .. }
            | Self::Remove { allocation, .. } => format!("{LABEL_ALLOCATION} {allocation}"),
        }
    }
}
