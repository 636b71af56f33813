//! Disks: which there are, what is mounted from them, and the errors that the kernel counted.

use super::Roots;
use lattice_model::{
    Bytes,
    machine::{DiskFacts, DiskKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A file system's space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// What users may still write.
    pub(crate) free: Bytes,
    /// All of it that users may have.
    pub(crate) total: Bytes,
    /// Files that it can hold still, in thousandths of all; `None` where it does not count.
    pub(crate) inodes_free_permille: Option<u32>,
}

/// The space on the file system of `path`.
pub(crate) fn space(path: &Path) -> Option<Space> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
    // What root alone may fill is not there for containers.
    let reserved = stat.f_bfree.saturating_sub(stat.f_bavail);
    let files = stat.f_files;
    Some(Space {
        free: bytes(stat.f_bavail),
        total: bytes(stat.f_blocks.saturating_sub(reserved)),
        inodes_free_permille: (files > 0)
            .then(|| u32::try_from(u128::from(stat.f_favail) * 1000 / u128::from(files)).unwrap_or(1000)),
    })
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    /// `major:minor`.
    device: String,
    point: String,
    read_only: bool,
    source: String,
}

fn mounts(roots: &Roots) -> Vec<Mount> {
    let line = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let first: Vec<&str> = first.split(' ').collect();
        let second: Vec<&str> = second.split(' ').collect();
        let flags = [*first.get(5)?, second.get(2).copied().unwrap_or_default()];
        Some(Mount {
            device: (*first.get(2)?).to_owned(),
            point: unescape(first.get(4)?),
            read_only: flags.iter().any(|flags| flags.split(',').any(|flag| flag == "ro")),
            source: unescape(second.get(1)?),
        })
    };
    roots.read("proc/self/mountinfo").lines().filter_map(line).collect()
}

/// Blanks and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                out.push(value);
                rest = &more[3..];
            }
            None => {
                out.push(byte);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The mount that a path is on.
fn mount_of<'m>(mounts: &'m [Mount], path: &str) -> Option<&'m Mount> {
    let path = Path::new(path);
    // Of equals the later one covers the earlier.
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.len())
}

/// Whether the file system of `path` takes no writes.
pub(super) fn is_read_only(roots: &Roots, path: &str) -> bool {
    mount_of(&mounts(roots), path).is_some_and(|mount| mount.read_only)
}

/// The disk below each device: by `major:minor` and by name, partitions and mapped devices included.
fn below(roots: &Roots, disks: &[String]) -> BTreeMap<String, String> {
    let mut below = BTreeMap::new();
    for disk in disks {
        let mut parts = vec![format!("sys/block/{disk}")];
        for part in roots.names(&format!("sys/block/{disk}")) {
            let folder = format!("sys/block/{disk}/{part}");
            if roots.exists(&format!("{folder}/partition")) {
                below.insert(part, disk.clone());
                parts.push(folder);
            }
        }
        below.insert(disk.clone(), disk.clone());
        for part in parts {
            below.insert(roots.read(&format!("{part}/dev")), disk.clone());
        }
    }
    // Encrypted, mapped and mirrored ones lie on others, some of them on each other.
    for _ in 0..4 {
        for name in roots.names("sys/block") {
            let slaves = roots.names(&format!("sys/block/{name}/slaves"));
            if let Some(disk) = slaves.iter().find_map(|slave| below.get(slave)).cloned() {
                below.insert(roots.read(&format!("sys/block/{name}/dev")), disk.clone());
                below.insert(name, disk);
            }
        }
    }
    below
}

/// The machine's own disks, in the order of their names.
fn own(roots: &Roots) -> Vec<String> {
    let passing = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "drbd", "mtdblock"];
    let names = roots.names("sys/block").into_iter();
    let own = names.filter(|name| !passing.iter().any(|prefix| name.starts_with(prefix)));
    own.filter(|name| {
        let has = |what: &str| roots.number(&format!("sys/block/{name}/{what}")).unwrap_or(0);
        // A stick comes and goes; memory cards say that they are removable, and boards start from them.
        has("size") > 0 && (has("removable") == 0 || name.starts_with("mmcblk"))
    })
    .collect()
}

fn kind(roots: &Roots, disk: &str) -> DiskKind {
    let of = |what: &str| roots.read(&format!("sys/block/{disk}/{what}"));
    let words = format!("{} {}", of("device/vendor"), of("device/model")).to_ascii_lowercase();
    let made_up = ["qemu", "vmware", "virtual", "vbox", "msft", "xen", "amazon elastic block", "google"];
    match disk {
        _ if made_up.iter().any(|maker| words.contains(maker)) => DiskKind::Virtual,
        _ if disk.starts_with("vd") || disk.starts_with("xvd") => DiskKind::Virtual,
        _ if disk.starts_with("nvme") => DiskKind::Nvme,
        _ if disk.starts_with("mmcblk") => DiskKind::Card,
        _ => match of("queue/rotational").as_str() {
            "0" => DiskKind::Ssd,
            "1" => DiskKind::Hdd,
            _ => DiskKind::Unknown,
        },
    }
}

/// The machine's own disks.
pub(super) fn disks(
    roots: &Roots,
    data_root: Option<&str>,
    space: &dyn Fn(&Path) -> Option<Space>,
) -> Vec<DiskFacts> {
    let (own, mounts) = (own(roots), mounts(roots));
    let below = below(roots, &own);
    let disk_of = |mount: &Mount| {
        // btrfs and the like have numbers that are no device's.
        let name = mount.source.rsplit('/').next().unwrap_or_default();
        let mapped = mount.source.strip_prefix("/dev/mapper/").and_then(|name| mapped(roots, name));
        below.get(&mount.device).or_else(|| below.get(mapped.as_deref().unwrap_or(name))).cloned()
    };
    let engine = data_root.and_then(|root| mount_of(&mounts, root));
    let engine_disk = engine.and_then(disk_of);
    own.into_iter()
        .map(|name| {
            let is_engine = engine_disk.as_ref() == Some(&name);
            let here = || mounts.iter().filter(|mount| disk_of(mount).as_ref() == Some(&name));
            let mount = match engine.filter(|_| is_engine) {
                Some(mount) => Some(mount),
                None => here().min_by_key(|mount| mount.point.len()),
            };
            let size = roots.number(&format!("sys/block/{name}/size")).unwrap_or(0);
            DiskFacts {
                kind: kind(roots, &name),
                size: Bytes(size.saturating_mul(512)),
                free: mount.and_then(|mount| space(Path::new(&mount.point))).map(|space| space.free),
                mount: mount.map(|mount| mount.point.clone()),
                engine: is_engine,
                name,
            }
        })
        .collect()
}

/// The kernel's name of a mapped device: `dm-0`.
fn mapped(roots: &Roots, name: &str) -> Option<String> {
    roots.names("sys/block").into_iter().find(|dm| roots.read(&format!("sys/block/{dm}/dm/name")) == name)
}

/// The errors that file systems and disks counted since they were made or plugged in, by who counts.
pub(super) fn errors(roots: &Roots) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    for name in roots.names("sys/fs/ext4") {
        if let Some(count) = roots.number(&format!("sys/fs/ext4/{name}/errors_count")) {
            errors.insert(format!("ext4 on {name}"), count);
        }
    }
    for name in roots.names("sys/fs/btrfs") {
        let folder = format!("sys/fs/btrfs/{name}/devinfo");
        for device in roots.names(&folder) {
            let text = roots.read(&format!("{folder}/{device}/error_stats"));
            let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
            let counts: Vec<u64> = text.lines().filter_map(count).collect();
            if !counts.is_empty() {
                errors.insert(format!("btrfs {name}, device {device}"), counts.iter().sum());
            }
        }
    }
    errors
}

/// Mirrors that miss a disk.
pub(super) fn degraded(roots: &Roots) -> BTreeSet<String> {
    let names = roots.names("sys/block").into_iter();
    names
        .filter(|name| roots.number(&format!("sys/block/{name}/md/degraded")).is_some_and(|n| n > 0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_are_read() {
        assert_eq!(unescape("/mnt/my\\040disk\\134x"), "/mnt/my disk\\x");
        assert_eq!(unescape("/plain\\"), "/plain\\");
    }

    #[test]
    fn the_space_of_this_machine_is_known() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.free > Bytes(0) && space.total > space.free, "{space:?}");
        assert_eq!(super::space(Path::new("/nowhere/at/all")), None);
    }
}
