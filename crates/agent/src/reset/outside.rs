//! What an agent has on a machine that is neither in the engine nor in its folder. Whoever adds something
//! of the kind (a table of the firewall, a unit of a service manager) adds an [`Outside`] to [`all`]: reset
//! then shows it, removes it, looks again, and says by hand how.

use super::survey::{Item, ItemKind};
use crate::{lan::table_name, secrets::SecretsDir};
use lattice_model::NodeId;
use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

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
    vec![Box::new(Secrets), Box::new(Tables)]
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

/// The tables of nftables by which containers were kept out of the owner's network.
struct Tables;

impl Outside for Tables {
    fn found(&self, nodes: &BTreeSet<NodeId>) -> io::Result<Vec<Item>> {
        let Some(output) = nft(&["list", "tables", "inet"])? else { return Ok(Vec::new()) };
        let there: BTreeSet<&str> =
            output.lines().filter_map(|line| line.split_whitespace().last()).collect();
        let names = nodes.iter().map(|node| table_name(*node)).filter(|name| there.contains(name.as_str()));
        Ok(names.map(|name| Item::new(ItemKind::Firewall, format!("table inet {name}"))).collect())
    }

    fn remove(&self, item: &Item) -> io::Result<()> {
        let name = item.name.split_whitespace().last().unwrap_or_default();
        nft(&["delete", "table", "inet", name]).map(drop)
    }

    fn by_hand(&self, item: &Item) -> String {
        format!("nft delete {}, as root", item.name)
    }
}

/// What `nft` says; nothing where there is none, or whoever asks may not: then this agent made no table either.
fn nft(args: &[&str]) -> io::Result<Option<String>> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin");
    let output = match Command::new("nft").args(args).env("PATH", path).env("LC_ALL", "C").output() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        other => other?,
    };
    let words = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        false if words.contains("No such file") || words.contains("not permitted") => Ok(None),
        false => Err(io::Error::other(words.trim().to_owned())),
    }
}
