//! A control group per machine: what stops all its processes at once, containers included, and what counts them.
//!
//! The group is at the same path in every hierarchy: dockerd puts its containers' groups below it (`--cgroup-parent`),
//! and daemons go into `daemons` beside those. Frozen and counted is by version 2, which also mixed systems have
//! mounted, else by version 1's freezer.

use crate::{
    error::{Result, TestbedError},
    run::{PATIENCE, script, until},
};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// Every group of a testbed begins so.
pub(crate) const PREFIX: &str = "lattice-testbed";

/// A machine's group.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// Below a hierarchy's root, without a slash in front.
    path: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Two,
    One,
}

impl Cgroup {
    pub(crate) fn new(path: String) -> Self {
        debug_assert!(path.starts_with(PREFIX), "only what the sweep finds again");
        Self { path }
    }

    /// The hierarchy that freezes.
    fn hierarchy() -> Result<(Kind, PathBuf)> {
        let two =
            |path: &Path| path.join("cgroup.procs").exists() && path.join("cgroup.controllers").exists();
        let root = Path::new(ROOT);
        for path in [root.join("unified"), root.to_owned()] {
            if two(&path) {
                return Ok((Kind::Two, path));
            }
        }
        let freezer = root.join("freezer");
        if freezer.join("cgroup.procs").exists() {
            return Ok((Kind::One, freezer));
        }
        Err(TestbedError::Unfit {
            problem: format!("no control groups are mounted at {ROOT}"),
            hint: "mount cgroup2 there, as systemd and container engines do",
        })
    }

    /// As dockerd wants it.
    pub(crate) fn parent(&self) -> String {
        format!("/{}", self.path)
    }

    /// Makes it, and gives the file into which a daemon writes itself.
    pub(crate) fn prepare(&self) -> Result<PathBuf> {
        let folder = Self::hierarchy()?.1.join(&self.path).join("daemons");
        script("making a control group", "mkdir -p \"$1\"", &[folder.as_os_str()])?;
        Ok(folder.join("cgroup.procs"))
    }

    fn own(&self) -> Result<(Kind, PathBuf)> {
        let (kind, root) = Self::hierarchy()?;
        Ok((kind, root.join(&self.path)))
    }

    /// Whether all of it stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        let Ok((kind, own)) = self.own() else { return false };
        let (file, word) = match kind {
            Kind::Two => ("cgroup.events", "frozen 1"),
            Kind::One => ("freezer.state", "FROZEN"),
        };
        std::fs::read_to_string(own.join(file)).is_ok_and(|text| text.lines().any(|line| line == word))
    }

    /// Stops every process in it, or lets them go on; returns when it is so.
    pub(crate) fn freeze(&self, yes: bool) -> Result<()> {
        let (kind, own) = self.own()?;
        let (file, word) = match (kind, yes) {
            (Kind::Two, true) => ("cgroup.freeze", "1"),
            (Kind::Two, false) => ("cgroup.freeze", "0"),
            (Kind::One, true) => ("freezer.state", "FROZEN"),
            (Kind::One, false) => ("freezer.state", "THAWED"),
        };
        let file = own.join(file);
        script("freezing", "printf %s \"$2\" >\"$1\"", &[file.as_os_str(), word.as_ref()])?;
        until(if yes { "all stands still" } else { "all goes on" }, PATIENCE, || {
            let is = self.is_frozen();
            Ok(if is == yes { Ok(()) } else { Err(format!("frozen: {is}")) })
        })
    }

    /// Removes it from every hierarchy, with what is below it. Where a process is left in it, it stays.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_tree(&self.path)
    }
}

/// Removes a group and all below it in every hierarchy. What a killed process is still in for a moment is tried again.
pub(crate) fn remove_tree(path: &str) -> Result<()> {
    let text = "find \"$1\" -mindepth 1 -maxdepth 3 -type d -path \"*/$2\" -prune 2>/dev/null |
        while read -r group; do find \"$group\" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
        find \"$1\" -mindepth 1 -maxdepth 3 -type d -path \"*/$2\" -prune 2>/dev/null";
    until("the control groups are empty", PATIENCE, || {
        let left = script("removing control groups", text, &[ROOT.as_ref(), path.as_ref()])?;
        Ok(if left.trim().is_empty() { Ok(()) } else { Err(left) })
    })
}

/// The testbeds that have groups, by the name after the prefix.
pub(crate) fn present() -> Vec<String> {
    let Ok((_, root)) = Cgroup::hierarchy() else { return Vec::new() };
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|n| n.starts_with(PREFIX))
        .collect()
}
