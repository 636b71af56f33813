//! Where testbeds keep their state, whose each is, and the removal of those that nobody has any more.
//!
//! A testbed's folder is there before anything else of it and goes last. What it needs to be judged by others is in
//! `owner.json`, which is in the folder from its first moment.

use crate::{
    cgroup::{self, Cgroup},
    error::{Result, TestbedError},
    machine::{self, Identity, Tie},
    run::{rooted, said},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

const OWNER: &str = "owner.json";

/// Who a testbed lives by: a process, or nobody.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    process: Option<(u32, u64)>,
}

/// The folder with every testbed of this user, in `/tmp` whatever `TMPDIR` says: a socket's path has at most 107 bytes.
pub fn folder() -> PathBuf {
    PathBuf::from(format!("/tmp/{}-{}", cgroup::PREFIX, rustix::process::getuid().as_raw()))
}

/// The folder, made and ours alone: a name in /tmp can be taken by anybody.
fn own_folder() -> Result<PathBuf> {
    let path = folder();
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(TestbedError::file("make", path)(error)),
    }
    let meta = fs::symlink_metadata(&path).map_err(TestbedError::file("read", &path))?;
    if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(TestbedError::Unfit {
            problem: format!("{} belongs to somebody else, or others may write there", path.display()),
            hint: "remove it",
        });
    }
    Ok(path)
}

/// A machine's control group.
pub(crate) fn group(bed: &str, machine: &str) -> String {
    format!("{}/{machine}", bed_group(bed))
}

fn bed_group(bed: &str) -> String {
    format!("{}-{}-{bed}", cgroup::PREFIX, rustix::process::getuid().as_raw())
}

/// A name that no other testbed has.
pub(crate) fn fresh_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Identity { pid, begun } = Identity::own();
    format!("{prefix}-{pid}-{begun}-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// Whether a name can be a testbed's: it is part of paths.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(fine) || name.starts_with('-') {
        return Err(TestbedError::Senseless(format!(
            "{name:?} cannot be a name: take up to 40 of a-z, 0-9 and '-', and begin with none of '-'"
        )));
    }
    Ok(())
}

/// Makes a testbed's folder.
///
/// # Errors
/// [`TestbedError::Taken`], and where this user may not make testbeds.
pub(crate) fn claim(name: &str, tie: Tie) -> Result<PathBuf> {
    check_name(name)?;
    if said(rooted("true").arg("--version")).is_ok_and(|said| said.code != 0) {
        return Err(TestbedError::NeedsRoot);
    }
    let parent = own_folder()?;
    let path = parent.join(name);
    // Whole from its first moment, as others sweep what has no owner.
    let new = parent.join(format!(".{}", fresh_name("new")));
    fs::create_dir(&new).map_err(TestbedError::file("make", &new))?;
    let own = Identity::own();
    let process = (tie == Tie::Process).then_some((own.pid, own.begun));
    let text = serde_json::to_vec(&Owner { process }).unwrap_or_default();
    fs::write(new.join(OWNER), text).map_err(TestbedError::file("write", new.join(OWNER)))?;
    // A rename replaces no folder that has something in it.
    if let Err(error) = fs::rename(&new, &path) {
        let _ = fs::remove_dir_all(&new);
        return Err(match path.exists() {
            true => TestbedError::Taken { name: name.to_owned() },
            false => TestbedError::file("make", path)(error),
        });
    }
    Ok(path)
}

/// The names of this user's testbeds.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| check_name(name).is_ok()).collect();
    names.sort();
    names
}

/// What a testbed lives by, as its folder says.
pub(crate) fn tie(folder: &Path) -> Tie {
    match owner(folder) {
        Some(Owner { process: None }) => Tie::Free,
        _ => Tie::Process,
    }
}

fn owner(folder: &Path) -> Option<Owner> {
    serde_json::from_slice(&fs::read(folder.join(OWNER)).ok()?).ok()
}

/// Removes the testbeds whose process has ended; gives their names. What cannot be removed is tried again next time.
pub fn sweep() -> Vec<String> {
    let mut swept = Vec::new();
    for name in names() {
        let path = folder().join(&name);
        if let Some(Owner { process: Some((pid, begun)) }) = owner(&path)
            && !(Identity { pid, begun }).is_alive()
        {
            remove(&path);
            swept.push(name);
        }
    }
    // A folder that somebody removed by hand leaves groups.
    let own = bed_group("");
    for group in cgroup::present() {
        if let Some(name) = group.strip_prefix(&own)
            && !folder().join(name).exists()
        {
            let _ = cgroup::remove_tree(&group);
        }
    }
    swept
}

/// Ends whatever runs of a testbed, and removes what is left. Never fails: what is left then is swept later.
pub(crate) fn remove(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let machines = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in machines.filter(|entry| entry.path().is_dir()) {
        if let Ok(machine) = entry.file_name().into_string() {
            let _ = machine::kill(&entry.path(), &Cgroup::new(group(name, &machine)));
        }
    }
    let _ = cgroup::remove_tree(&bed_group(name));
    if fs::remove_dir_all(path).is_err() {
        // Engines leave files of root.
        let _ = said(rooted("rm").args(["-rf", "--one-file-system"]).arg(path));
    }
}
