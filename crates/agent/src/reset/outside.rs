//! What an agent has on a machine that is neither in the engine nor in its folder. Whoever adds something
//! of the kind (a table of the firewall, a unit of a service manager) adds an [`Outside`] to [`all`]: reset
//! then shows it, removes it, looks again, and says by hand how.

use super::survey::{Item, ItemKind};
use crate::secrets::SecretsDir;
use lattice_model::NodeId;
use std::{collections::BTreeSet, fs, io, path::Path};

/// A kind of thing.
pub(super) trait Outside: Send + Sync {
    /// What is there of these nodes.
    fn found(&self, nodes: &BTreeSet<NodeId>) -> io::Result<Vec<Item>>;

    /// Removes one; one that is gone is fine.
    fn remove(&self, item: &Item) -> io::Result<()>;

    /// How a person removes it.
    fn by_hand(&self, item: &Item) -> String;
}

/// All kinds that there are.
pub(super) fn all() -> Vec<Box<dyn Outside>> {
    vec![Box::new(Secrets)]
}

/// Secrets as files in memory.
struct Secrets;

impl Outside for Secrets {
    fn found(&self, nodes: &BTreeSet<NodeId>) -> io::Result<Vec<Item>> {
        let folders = nodes.iter().flat_map(|node| SecretsDir::left(*node));
        Ok(folders.map(|folder| Item::new(ItemKind::Secrets, folder.display())).collect())
    }

    fn remove(&self, item: &Item) -> io::Result<()> {
        match fs::remove_dir_all(Path::new(&item.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn by_hand(&self, item: &Item) -> String {
        format!("rm -r {}", item.name)
    }
}
