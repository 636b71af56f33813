//! Devices that a toolkit has described to engines (the Container Device Interface, CDI): which names of
//! `nvidia.com/gpu` there are. The descriptions are JSON or YAML; of both the few lines that matter are read, since
//! the engine reads the rest itself and the proof shows whether it could.

use std::{collections::BTreeSet, fs, path::Path};

/// Where descriptions are, where an engine does not say, from the root without the first slash.
pub const CDI_DIRS: [&str; 2] = ["etc/cdi", "var/run/cdi"];

/// How large a description may be.
const MOST: u64 = 4 << 20;

/// The names of NVIDIA's devices that are described below `root` in these folders: `all`, `0`, `GPU-…`.
pub fn cdi_devices(root: &Path, folders: &[String]) -> BTreeSet<String> {
    let usual: Vec<String>;
    let folders = match folders {
        [] => {
            usual = CDI_DIRS.map(str::to_owned).into();
            &usual
        }
        folders => folders,
    };
    let mut names = BTreeSet::new();
    for folder in folders {
        let entries = fs::read_dir(root.join(folder.trim_start_matches('/'))).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            let small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST);
            let Some(text) = small.then(|| fs::read_to_string(&path).ok()).flatten() else { continue };
            match kind {
                "json" => names.extend(json(&text)),
                "yaml" | "yml" => names.extend(yaml(&text)),
                _ => {}
            }
        }
    }
    names
}

fn json(text: &str) -> BTreeSet<String> {
    let Ok(spec) = serde_json::from_str::<serde_json::Value>(text) else { return BTreeSet::new() };
    if spec["kind"] != "nvidia.com/gpu" {
        return BTreeSet::new();
    }
    let devices = spec["devices"].as_array().into_iter().flatten();
    devices.filter_map(|device| device["name"].as_str().map(str::to_owned)).collect()
}

/// As `nvidia-ctk` writes it: `devices:` at the margin, and `name:` of each before or after what it edits, which is
/// further in.
fn yaml(text: &str) -> BTreeSet<String> {
    let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let kind = text.lines().find_map(|line| line.strip_prefix("kind:")).map(bare);
    if kind.as_deref() != Some("nvidia.com/gpu") {
        return BTreeSet::new();
    }
    let within = text.lines().skip_while(|line| line.trim_end() != "devices:").skip(1);
    let within = within.take_while(|line| line.starts_with([' ', '-', '#']) || line.trim().is_empty());
    let lines: Vec<(usize, &str)> = within
        .map(|line| {
            (line.len() - line.trim_start_matches([' ', '-']).len(), line.trim_start_matches([' ', '-']))
        })
        .collect();
    let Some(margin) = lines.iter().filter(|(_, text)| text.contains(':')).map(|(at, _)| *at).min() else {
        return BTreeSet::new();
    };
    let names = lines.iter().filter(|(at, _)| *at == margin);
    names.filter_map(|(_, text)| text.strip_prefix("name:").map(bare)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  hooks:
  - args:
    - nvidia-ctk
    name: no
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      name: no
  name: \"0\"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: GPU-5f3c
- containerEdits: {}
  name: all
kind: nvidia.com/gpu
";

    #[test]
    fn names_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(cdi_devices(root.path(), &[]).is_empty());
        write("etc/cdi/nvidia.yaml", YAML);
        write("var/run/cdi/more.json", r#"{"kind":"nvidia.com/gpu","devices":[{"name":"1"},{"x":1}]}"#);
        write("var/run/cdi/other.json", r#"{"kind":"intel.com/gpu","devices":[{"name":"2"}]}"#);
        write("var/run/cdi/broken.json", "{");
        write("etc/cdi/other.yaml", "kind: x\ndevices:\n- name: 3\n");
        write("etc/cdi/empty.yaml", "kind: nvidia.com/gpu\ndevices:\n");
        let names = cdi_devices(root.path(), &[]);
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["0", "1", "GPU-5f3c", "all"]);
        assert_eq!(cdi_devices(root.path(), &["/var/run/cdi".into()]).len(), 1);
    }
}
