//! The words that every other crate uses: ids, names, units, what people ask for
//! ([`spec`]), what is stored ([`resource`]), what a node is told ([`goal`]) and what it
//! answers ([`report`]).
//!
//! Pure: no clock, no randomness, no I/O. A type here may be serialised to the store and
//! inside a goal; the REST API and the agent protocol own their wire types and embed only the
//! declared documents of [`spec`].

pub mod access;
pub mod alert;
pub mod container;
pub mod goal;
pub mod health;
pub mod id;
pub mod machine;
pub mod metric;
pub mod name;
pub mod pool;
pub mod quota;
pub mod report;
pub mod resource;
pub mod spec;
pub mod standing;
pub mod taint;
pub mod time;
pub mod timetable;
pub mod unit;

pub use access::{Binding, InvalidBinding, Place, Role};
pub use goal::{Goal, GoalAllocation, GoalId, GoalNetwork, GoalVolume, SealedGoal};
pub use id::{AllocationId, ClusterId, NetworkId, NodeId, RequestId, StackId, TokenId, VolumeId};
pub use name::{
    InvalidName, NetworkName, NodeName, OwnerName, PoolName, ProjectName, SecretName, StackKey, StackName,
    UserName, VolumeKey, VolumeName, WorkloadKey, WorkloadName,
};
pub use quota::{Quota, Usage};
pub use standing::{Standing, StandingState};
pub use time::{Duration, Timestamp};
pub use unit::{BitRate, Bytes, Cpu};
