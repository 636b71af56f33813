//! What a tree may hold, and that unpacking gives what was packed and nothing elsewhere; the fuzz target
//! `archives` tries the same with whatever else comes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use lattice_tree::{MAX_ENTRIES, Packer, TreeError, check, pack_folder, unpack};
use std::{
    fs,
    io::Cursor,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};
use tar::{EntryType, Header};

fn raw(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, link) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn what_could_leave_its_folder_is_refused_by_name() {
    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    for (entries, word) in [
        (&[("/etc/passwd", Regular, "")][..], "leads out"),
        (&[("../x", Regular, "")], "leads out"),
        (&[("a/../../x", Regular, "")], "leads out"),
        (&[("a/../x", Regular, "")], "leads out"),
        (&[("x", Link, "/etc/passwd")], "hard link"),
        (&[("x", Link, "y")], "hard link"),
        (&[("x", Block, "")], "device"),
        (&[("x", Char, "")], "device"),
        (&[("x", Fifo, "")], "pipe"),
        (&[("x", Symlink, "/etc")], "leads out"),
        (&[("x", Symlink, "..")], "leads out"),
        (&[("a", Directory, ""), ("a/x", Symlink, "../../y")], "leads out"),
        (&[("x", Symlink, "y"), ("x/z", Regular, "")], "no folder"),
        (&[("x/z", Regular, ""), ("x", Symlink, "y")], "twice"),
        (&[("x", Regular, ""), ("x", Regular, "")], "twice"),
        (&[("x", Regular, ""), ("./x", Symlink, "y")], "twice"),
        // Lexically it stays inside, and the kernel would not.
        (&[("a/b", Symlink, ".."), ("c", Symlink, "a/b/../../etc")], "leads out"),
        (&[("a", Symlink, "b"), ("b", Symlink, "a")], "circle"),
        (&[(".", Regular, "")], "root"),
        (&[("x", EntryType::XGlobalHeader, "")], ""),
        (&[("x", EntryType::Continuous, "")], "kind"),
    ] {
        let archive = raw(entries);
        let error = check(&*archive).unwrap_err();
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("tree");
        assert!(unpack(Cursor::new(&archive), &into, false).is_err());
        assert!(!into.exists(), "nothing is written of what is refused");
        assert!(error.to_string().contains(word), "{entries:?}: {error}");
    }
    let fine = [
        ("./", Directory, ""),
        ("a/b/c", Regular, ""),
        ("l", Symlink, "a/b/../b/c"),
        ("a/up", Symlink, "../l"),
    ];
    assert_eq!(check(&*raw(&fine)).unwrap().entries, 4);
}

#[test]
fn there_are_bounds() {
    let mut packer = Packer::new();
    for n in 0..MAX_ENTRIES {
        packer.folder(Path::new(&format!("d{n}")), 0o755).unwrap();
    }
    assert!(matches!(packer.folder(Path::new("more"), 0o755), Err(TreeError::TooMuch { .. })));
    let implied: Vec<String> = (0..MAX_ENTRIES / 2 + 1).map(|n| format!("d{n}/x")).collect();
    let entries: Vec<_> = implied.iter().map(|path| (path.as_str(), EntryType::Regular, "")).collect();
    assert!(
        matches!(check(&*raw(&entries)), Err(TreeError::TooMuch { .. })),
        "folders that are only implied count"
    );
    let deep = ["d"; 70].join("/");
    assert!(check(&*raw(&[(&deep[..99], EntryType::Regular, "")])).is_ok());
    let mut packer = Packer::new();
    packer.file(Path::new(&deep), 0o644, (0, 0), b"").unwrap();
    assert!(packer.finish().unwrap_err().to_string().contains("deeper"));
    let mut packer = Packer::new();
    packer.file(Path::new("a"), 0o644, (0, 0), &vec![0; 40 << 20]).unwrap();
    assert!(matches!(
        packer.file(Path::new("b"), 0o644, (0, 0), &vec![0; 40 << 20]),
        Err(TreeError::TooMuch { .. })
    ));
    // A header that promises more than there is.
    let mut header = Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(check(&header.as_bytes()[..]).is_err());
}

#[test]
fn a_folder_comes_out_as_it_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("conf.d/empty")).unwrap();
    fs::write(source.join("conf.d/site.conf"), "server {}").unwrap();
    fs::write(source.join("run.sh"), "#!/bin/sh").unwrap();
    fs::set_permissions(source.join("run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(source.join("conf.d/empty"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("conf.d/site.conf", source.join("current")).unwrap();
    fs::create_dir(source.join(".git")).unwrap();
    fs::write(source.join(".git/config"), "x").unwrap();
    let skip = |path: &Path| path == Path::new(".git");
    let tree = pack_folder(&source, &skip).unwrap();
    assert_eq!(tree.digest, pack_folder(&source, &skip).unwrap().digest, "the same files, the same digest");
    let into = folder.path().join("tree");
    assert_eq!(unpack(Cursor::new(&tree.archive), &into, false).unwrap(), tree.summary);
    assert_eq!(fs::read_to_string(into.join("current")).unwrap(), "server {}");
    let mode = |path: &str| fs::metadata(into.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run.sh"), mode("conf.d/empty")), (0o755, 0o755));
    assert!(!into.join(".git").exists());
    assert!(unpack(Cursor::new(&tree.archive), &into, false).is_err(), "only into a new folder");
    lattice_tree::remove(&into).unwrap();
    lattice_tree::remove(&into).unwrap();
    symlink("/etc/passwd", source.join("out")).unwrap();
    assert!(pack_folder(&source, &skip).unwrap_err().to_string().contains("leads out"));
    // A single file keeps its name and mode.
    let tree = pack_folder(&source.join("run.sh"), &skip).unwrap();
    unpack(Cursor::new(&tree.archive), &into, false).unwrap();
    assert_eq!(mode("run.sh"), 0o755);
}

#[test]
fn a_build_context_is_what_is_not_ignored_and_always_the_dockerfile() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    };
    for name in
        ["Dockerfile", ".dockerignore", "src/main.rs", "src/gen/a", "target/x", "target/keep/y", "b.md"]
    {
        write(name);
    }
    let ignore = lattice_tree::Ignore::parse("*\n!src\nsrc/gen\n!target/keep\n").unwrap();
    let always = [Path::new("Dockerfile"), Path::new(".dockerignore")];
    let more = [("inline".into(), b"FROM x".to_vec())].into();
    let tree = lattice_tree::pack_context(dir.path(), &ignore, &always, &more).unwrap();
    let names = |archive: &[u8]| {
        let mut archive = tar::Archive::new(archive);
        let names =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        names.map(|name| name.trim_end_matches('/').to_owned()).collect::<Vec<_>>().join(" ")
    };
    let all = ". .dockerignore Dockerfile src src/main.rs target target/keep target/keep/y inline";
    assert_eq!(names(&tree.archive), all);
    let mut out = Vec::new();
    let files = [("Dockerfile".into(), b"FROM y".to_vec()), ("z".into(), b"z".to_vec())].into();
    lattice_tree::with_files(&*tree.archive, &files, &mut out).unwrap();
    assert!(names(&out).ends_with("inline Dockerfile z"), "{}", names(&out));
    lattice_tree::check(&*out).unwrap();
    let read = |path: &str, max| lattice_tree::read_file(&*out, Path::new(path), max);
    assert_eq!(read("Dockerfile", 10).unwrap().unwrap(), b"FROM y");
    assert_eq!(read("none", 10).unwrap(), None);
    assert!(read("Dockerfile", 3).is_err());
}
