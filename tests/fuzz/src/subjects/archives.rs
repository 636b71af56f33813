//! Archives of files that travel with a deployment: whatever one holds, nothing is written outside of its folder,
//! and no link in it leads out.

use crate::{Blob, Draw, Subject, text};
use lattice_tree::{Summary, check, unpack};
use serde::{Deserialize, Serialize};
use std::{fs, io::Cursor, path::Path};
use tar::{Builder, EntryType, Header};

/// Bytes of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Archive(Blob);

const PATHS: &[&str] = &[
    "a",
    "b",
    "a/b",
    "a/b/c",
    "./a",
    "a/./b",
    "l",
    "l/x",
    "../beside",
    "a/../b",
    "..",
    ".",
    "",
    "/",
    "/etc/x",
    "a//b",
    "a/",
    "d/d/d/d/d/d/d/d",
    "A",
    "x y",
    "\u{e9}",
    "...",
    "a\\b",
    "C:",
    "beside",
    "tree",
];
const TARGETS: &[&str] = &[
    "a",
    "b",
    "l",
    "a/b",
    "..",
    "../beside",
    ".",
    "../tree/a",
    "/etc",
    "a/../..",
    "",
    "l/l",
    "./a/./b",
    "../a",
    "../../x",
];

impl Subject for Archive {
    const NAME: &'static str = "archives";

    fn draw(draw: &mut dyn Draw) -> Self {
        let mut builder = Builder::new(Vec::new());
        for _ in 0..draw.below(9) {
            let entry = entry(draw);
            if let Some((header, contents)) = entry {
                let _ = builder.append(&header, Cursor::new(contents));
            }
        }
        let mut archive = builder.into_inner().unwrap_or_default();
        if draw.one_in(4) {
            text::alter(draw, &mut archive, &[]);
        }
        Self(Blob(archive))
    }

    fn check(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (tree, beside) = (folder.path().join("tree"), folder.path().join("beside"));
        fs::write(&beside, "as it was").map_err(|error| error.to_string())?;
        let fine = check(self.0.0.as_slice());
        let unpacked = unpack(Cursor::new(&self.0.0), &tree, false);
        match (&fine, &unpacked) {
            (Ok(before), Ok(after)) if before == after => {}
            (Ok(_), Ok(after)) => return Err(format!("it was said to have {fine:?} and had {after:?}")),
            (Err(_), Ok(_)) => return Err("what is refused was unpacked".to_owned()),
            (Err(_), Err(_)) if tree.exists() => {
                return Err("something was written of what is refused".to_owned());
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => return Err(format!("it is fine and is not unpacked: {error}")),
        }
        let mut seen = Summary::default();
        if tree.exists() {
            inside(&tree, &tree.canonicalize().map_err(|error| error.to_string())?, &mut seen)?;
        }
        let others = fs::read_dir(folder.path()).map_err(|error| error.to_string())?.count();
        if others != 1 + usize::from(tree.exists()) || fs::read(&beside).ok().as_deref() != Some(b"as it was")
        {
            return Err("something was written outside of the folder".to_owned());
        }
        if let Ok(summary) = unpacked
            && seen.bytes != summary.bytes
        {
            return Err(format!("{summary:?} was said and {seen:?} is there"));
        }
        lattice_tree::remove(&tree).map_err(|error| error.to_string())
    }
}

/// No link in a folder leads out of the tree.
fn inside(folder: &Path, tree: &Path, seen: &mut Summary) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let what = fs::symlink_metadata(&path).map_err(|error| error.to_string())?;
        seen.entries += 1;
        if what.is_dir() {
            inside(&path, tree, seen)?;
        } else if what.is_symlink() {
            if path.canonicalize().is_ok_and(|end| !end.starts_with(tree)) {
                return Err(format!("the link {} leads out", path.display()));
            }
        } else if what.is_file() {
            use std::os::unix::fs::PermissionsExt as _;
            if what.permissions().mode() & 0o6000 != 0 {
                return Err(format!("{} gives another user's rights", path.display()));
            }
            seen.bytes += what.len();
        } else {
            return Err(format!("{} is neither file, folder nor link", path.display()));
        }
    }
    Ok(())
}

fn entry(draw: &mut dyn Draw) -> Option<(Header, Vec<u8>)> {
    use EntryType::{
        Block, Char, Continuous, Directory, Fifo, GNULongLink, GNULongName, GNUSparse, Link, Regular,
        Symlink, XGlobalHeader, XHeader,
    };
    let kinds = [
        Regular,
        Directory,
        Symlink,
        Regular,
        Directory,
        Symlink,
        Link,
        Block,
        Char,
        Fifo,
        Continuous,
        GNULongName,
        GNULongLink,
        XHeader,
        XGlobalHeader,
        GNUSparse,
    ];
    let kind = *draw.of(&kinds);
    let mut header = if draw.one_in(4) { Header::new_ustar() } else { Header::new_gnu() };
    header.set_entry_type(kind);
    let path = draw.of(PATHS).as_bytes();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    if kind == Symlink || kind == Link {
        let target = draw.of(TARGETS).as_bytes();
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    }
    let contents = match kind {
        Regular | Continuous | GNUSparse => draw.bytes(40),
        GNULongName | GNULongLink => {
            let times = *draw.of(&[1, 30, 300, 2000]);
            [draw.of(PATHS).repeat(times).as_bytes(), b"\0"].concat()
        }
        XHeader | XGlobalHeader => {
            let value = if draw.one_in(2) { draw.of(TARGETS) } else { draw.of(PATHS) };
            let key =
                draw.of(&["path", "linkpath", "size", "uid", "mtime", "SCHILY.xattr.a", "GNU.sparse.major"]);
            record(key, value)
        }
        _ => Vec::new(),
    };
    header.set_size(contents.len() as u64);
    header.set_mode(*draw.of(&[0o644, 0o755, 0o4755, 0o000, 0o7777, 0o2600, u32::MAX]));
    header.set_uid(*draw.of(&[0, 1000, u64::from(u32::MAX), 1 << 40]));
    header.set_gid(*draw.of(&[0, 1000]));
    header.set_mtime(draw.bits() & 0xffff_ffff);
    header.set_cksum();
    Some((header, contents))
}

/// A record of a PAX header: its own length stands in front of it.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}
