//! In a module of this name, so that the test runner bounds how many run at once.

mod left;
mod verbs;

use lattice_testbed::{Options, Testbed};
use std::{
    fmt::Debug,
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

const BUSYBOX: &str = "lattice-test/busybox:1";

fn up(options: &Options) -> Testbed {
    Testbed::up(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Looks until it is so.
#[track_caller]
fn until<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > Duration::from_secs(60) => panic!("not: {what}; but {seen:?}"),
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// The traces of a testbed on this machine: folder, control groups, loop devices, mounts, interfaces, processes.
fn traces(name: &str) -> Vec<String> {
    let mut traces = Vec::new();
    let folder = lattice_testbed::folder().join(name);
    if folder.exists() {
        traces.push(folder.display().to_string());
    }
    let mut groups = |path: &Path| {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let group = entry.file_name().to_string_lossy().into_owned();
            if group.starts_with("lattice-testbed") && group.ends_with(name) {
                traces.push(entry.path().display().to_string());
            }
        }
    };
    groups(Path::new("/sys/fs/cgroup"));
    for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        groups(&entry.path());
    }
    let has = |text: String| text.contains(&format!("/{name}/"));
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = device.path().join("loop/backing_file");
        if fs::read_to_string(&file).is_ok_and(has) {
            traces.push(file.display().to_string());
        }
    }
    if fs::read_to_string("/proc/self/mountinfo").is_ok_and(has) {
        traces.push("a mount".to_owned());
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if has(String::from_utf8_lossy(&words).into_owned()) {
            traces.push(String::from_utf8_lossy(&words).replace('\0', " "));
        }
    }
    traces
}
