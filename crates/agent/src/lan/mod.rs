//! Keeps containers out of the owner's network.
//!
//! | file | what |
//! |---|---|
//! | `fence` | the state: what is to hold and what holds; the gate before each start; the task that watches |
//! | `firewall` | the trait of what can be asked of a host, and its part on Linux: the programs `ip` and `nft` |
//! | `changes` | hears of it when routes, addresses or tables of the firewall change |
//! | `resolvers` | whom this host and its engine ask for names |
//!
//! What the rules are is [`lattice_lan`]'s. Here they are applied as one transaction, so that there is never a moment
//! without them; looked after, since anybody with root's rights may flush them; and no container starts while they do
//! not hold, or while one of its node's networks has no bridge where they hold: an engine in a virtual machine, or
//! in a network namespace that is not known.
//!
//! The owner's limit of speed is in the same table. Where the kernel cannot count, the network is closed without it, and it
//! is said that the limit is not kept.
//!
//! The table outlives the agent, as containers do. Rejected: a crate that speaks nftables' netlink, none of which
//! has what is used here; iptables, which has no transaction over both versions of IP, and which others flush; `tc` for
//! the limit of speed, whose queues would have to be put on each bridge as it comes and on the owner's own interface, need more
//! of the kernel than many have, and do not fall with the table.

mod changes;
mod fence;
mod firewall;
mod resolvers;

pub(crate) use fence::{Fence, Wish};
pub use fence::{LanStatus, SpeedStatus};
#[cfg(target_os = "linux")]
pub use firewall::Nftables;
pub use firewall::{Firewall, NoFirewall};

use lattice_model::{NodeId, container::bridge_prefix};

/// What the table of a node is called, in the family `inet`.
pub(crate) fn table_name(node: NodeId) -> String {
    format!("lattice_{}", bridge_prefix(node).trim_start_matches("lt"))
}

/// Whether a node's table is there.
///
/// # Errors
/// Why nobody can tell.
pub async fn lan_table_present(firewall: &dyn Firewall, node: NodeId) -> Result<bool, String> {
    Ok(firewall.listing(&table_name(node)).await?.is_some())
}

/// Removes a node's table, where it is there. Containers that still run reach the owner's network from then on, as fast
/// as it goes.
///
/// # Errors
/// Why it may still be there.
pub async fn remove_lan_table(firewall: &dyn Firewall, node: NodeId) -> Result<(), String> {
    firewall.remove(&table_name(node)).await
}
