//! Several nodes on one machine: each a machine of its own as far as its processes can tell, with a network interface,
//! a Docker engine, a disk and an agent, and each can be hurt as real ones are.
//!
//! Enter at [`Testbed::up`]; [`Testbed::node`] gives a [`Node`] and its verbs: drop, lose, delay, fill, freeze, kill,
//! revive. The program `lattice-testbed` has the same verbs as commands. `docs/testbed.md` is for people.
//!
//! ```text
//!   namespace "hub"          namespace "server"        namespaces of n1, n2, n3 …
//!  ┌───────────────┐  veth  ┌────────────────────┐   ┌─────────────────────────────────┐
//!  │ bridge br0    ├────────┤ eth0 10.77.0.1     │   │ eth0 10.77.0.11                 │
//!  │  nft: drops   │        │ lattice server     │   │ dockerd, containers, agent      │
//!  │  wire: delays │        └────────────────────┘   │ its disk: a file behind a loop  │
//!  │               ├──────────────── veth ───────────┤ device, which survives a kill   │
//!  └───────────────┘                                 └─────────────────────────────────┘
//! ```
//!
//! What must be true: nothing is in the host's network namespace, mounts or engine, so several testbeds have the same
//! addresses and are in nobody's way. Each machine is a process-id namespace whose first process holds everything:
//! when it is killed, the kernel ends all processes in it and takes mounts and interfaces with it. The first processes
//! of a testbed of tests end with the test's process, whatever ends that (their standard input does). What the kernel
//! does not remove, folders and cgroups, the next testbed sweeps: [`sweep`].
//!
//! All state is in files below [`folder`], so that a command can go on where an earlier one ended.
//!
//! Rejected: `ip netns` (its `exec` mounts another /sys over the cgroups, and names stay behind); tc's netem for delays
//! (small kernels come without it, and what tests rest on must not depend on the kernel: see `wire`); containers as
//! nodes (an engine in a container is another thing than an engine on a machine).

mod bed;
mod cgroup;
mod engine;
mod error;
mod faults;
mod house;
mod images;
mod machine;
mod network;
mod node;
mod programs;
mod run;
mod server;
mod sweep;

pub use bed::{Options, Testbed};
pub use engine::Engine;
pub use error::TestbedError;
pub use faults::{Direction, Faults};
pub use house::House;
pub use machine::{Machine, Power, Tie};
pub use node::Node;
pub use programs::{program, programs_folder};
pub use run::{Said, rooted};
pub use server::Server;
pub use sweep::{folder, sweep};
