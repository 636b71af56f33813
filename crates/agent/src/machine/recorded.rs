//! Machines as text: each file in `tests/recorded` has the kernel's files of one, a section for each
//! (`== path`), and last what is to be read from them (`== expected`).

use super::{Readings, Roots, Space, cpu_model, facts};
use lattice_model::{Bytes, machine::DiskFacts};
use lattice_runtime::EngineInfo;
use std::{fmt::Write as _, fs, path::Path};

/// The machine of a text, in a folder of its own, and what is expected of it.
fn unpack(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = String::new();
    for section in text.split("== ").skip(1) {
        let (path, body) = section.split_once('\n').unwrap();
        if path == "expected" {
            expected = body.trim_end().to_owned();
            continue;
        }
        // A line may have several files of one line each: `path = text`.
        let (path, body) = path.split_once(" = ").map_or((path, body), |(path, text)| (path, text));
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body.trim_end_matches('\n')).unwrap();
    }
    (folder, expected)
}

fn engine(data_root: &str) -> EngineInfo {
    EngineInfo {
        version: "28.0.0".into(),
        api_version: "1.48".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        cpus: 4,
        memory: Bytes::GIB,
        data_root: data_root.into(),
        security_options: vec![],
        rootless: false,
        cgroup_version: Some(2),
        in_vm_guess: false,
        podman: false,
        missing_limits: vec![],
        storage_driver: "overlay2".into(),
        runtimes: ["runc".to_owned()].into(),
        default_runtime: "runc".into(),
        cdi_dirs: vec![],
    }
}

fn space(path: &Path) -> Option<Space> {
    // By the path's length, so that one sees which was asked.
    let gib = u64::try_from(path.to_string_lossy().len()).unwrap();
    Some(Space { free: Bytes(gib << 30), total: Bytes(500 << 30), inodes_free_permille: Some(900) })
}

fn summary(roots: &Roots) -> String {
    let facts = facts(roots, Some(&engine("/var/lib/docker")), &space);
    let mut text = String::new();
    let words = facts.cpu_features.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    writeln!(text, "cpu: {} | {} cores | {words}", cpu_model(roots), facts.cores).unwrap();
    writeln!(text, "runs in: {}", facts.virtualization).unwrap();
    for disk in &facts.disks {
        writeln!(text, "disk: {disk}").unwrap();
    }
    for gpu in &facts.gpus {
        writeln!(text, "gpu: {gpu}").unwrap();
    }
    writeln!(text, "battery: {}", facts.battery).unwrap();
    let readings = Readings::take(roots, Path::new("/var/lib/docker"), &space);
    let Readings {
        jiffies,
        memory,
        memory_stalled,
        cpu_waited,
        space: _,
        read_only,
        disk_errors,
        degraded,
        way_out,
        packets,
    } = readings;
    writeln!(text, "ticks: {jiffies:?}").unwrap();
    let memory = memory.map(|(free, all)| format!("{free} of {all} available"));
    writeln!(
        text,
        "memory: {}, stalled {memory_stalled:?}, cpu waited {cpu_waited:?}",
        memory.unwrap_or_default()
    )
    .unwrap();
    writeln!(text, "trouble: read-only {read_only}, errors {disk_errors:?}, degraded {degraded:?}").unwrap();
    write!(text, "net: way out {way_out:?}, packets {packets:?}").unwrap();
    text
}

#[test]
fn recorded_machines_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let (mut seen, mut wrong) = (0, String::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (folder, expected) = unpack(&fs::read_to_string(&path).unwrap());
        let found = summary(&Roots::at(folder.path()));
        if found != expected {
            writeln!(wrong, "{}: found\n{found}\n\nexpected\n{expected}\n", path.display()).unwrap();
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_machine_that_tells_nothing_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let facts = facts(&Roots::at(folder.path()), None, &space);
    assert_eq!(facts.disks, Vec::<DiskFacts>::new());
    let readings = Readings::take(&Roots::at(folder.path()), Path::new("/"), &|_| None);
    assert_eq!(readings, Readings::default());
}
