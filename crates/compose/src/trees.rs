//! What binds and nameless volumes become, once all services are read.
//!
//! A file, or a folder with something in it, travels as a tree and is mounted read-only. A folder
//! that is missing or empty and is mounted writable is where a program keeps its data: it becomes
//! a named volume, which stays when the service is deployed again, and says so. The name is made
//! of the path alone, so that nothing else in the file can change it.

use crate::{
    files::{Found, base_name, shown},
    load::{TreeContent, TreeSource},
    mounts::Bind,
    problem::{Code, show},
    read::{DEPLOY_THERE, Reader},
    service::{Draft, Placed},
};
use lattice_model::{
    VolumeName,
    spec::{MountSpec, StackSpec, VolumeSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// How names end that are files and not folders.
const FILE_ENDINGS: [&str; 40] = [
    "yml",
    "yaml",
    "json",
    "conf",
    "cnf",
    "cfg",
    "ini",
    "toml",
    "xml",
    "sql",
    "sh",
    "bash",
    "py",
    "rb",
    "js",
    "ts",
    "lua",
    "php",
    "pl",
    "env",
    "txt",
    "properties",
    "pem",
    "crt",
    "cert",
    "key",
    "csr",
    "p12",
    "jks",
    "htpasswd",
    "log",
    "html",
    "tmpl",
    "template",
    "db",
    "sqlite",
    "sqlite3",
    "csv",
    "list",
    "vcl",
];

fn looks_like_file(path: &str) -> bool {
    let name = base_name(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| FILE_ENDINGS.contains(&ending.as_str()))
        || matches!(
            name,
            "Caddyfile" | "Corefile" | "Procfile" | "Makefile" | "Dockerfile" | ".htpasswd" | ".env"
        )
}

/// A volume's name made of a path, always the same for the same one.
fn slug(prefix: &str, path: &str) -> String {
    let mut text = String::new();
    for c in format!("{prefix}-{path}").chars() {
        match c {
            c if c.is_ascii_alphanumeric() => text.push(c.to_ascii_lowercase()),
            '_' => text.push('_'),
            _ if text.ends_with('-') => {}
            _ => text.push('-'),
        }
    }
    let text = text.trim_matches(['-', '_']);
    if text.len() <= 50 {
        return if text.is_empty() { "files".into() } else { text.into() };
    }
    // FNV-1a over the whole, since the cut one may be that of another path.
    let hash = format!("{prefix}\0{path}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{:08x}", &text[..50], hash >> 32)
}

impl Reader<'_> {
    /// Turns binds and nameless volumes into volumes and trees.
    pub(crate) fn files_of(
        &mut self,
        drafts: &mut [Draft],
        declared: &BTreeSet<VolumeName>,
        spec: &mut StackSpec,
    ) -> Vec<TreeSource> {
        let fresh = |name: String| {
            let taken = VolumeName::new(name.clone()).is_ok_and(|n| declared.contains(&n));
            VolumeName::new(if taken { format!("{name}-files") } else { name })
        };
        for draft in drafts.iter_mut() {
            for at in std::mem::take(&mut draft.anonymous) {
                let Ok(volume) = fresh(slug(draft.name.as_str(), &at.value)) else { continue };
                let message = format!(
                    "the volume at {} has no name; it is kept as `{volume}`, and every replica shares it",
                    show(&at.value)
                );
                let hint = format!(
                    "Write `- {volume}:{}`, and `{volume}:` under the top-level `volumes`",
                    show(&at.value)
                );
                self.problems.warn(Code::Differs, at.span, &at.path, message, hint);
                spec.volumes.insert(volume.clone(), VolumeSpec::default());
                draft.spec.mounts.push(MountSpec { volume, target: at.value, read_only: false });
            }
        }
        for draft in drafts.iter_mut() {
            if self.local {
                break;
            }
            for at in std::mem::take(&mut draft.binds) {
                let what = format!("{} is", show(&shown(&at.value.source)));
                let hint = format!(
                    "For data use a named volume (`- data:{}`), {}",
                    show(&at.value.target),
                    DEPLOY_THERE
                );
                self.elsewhere(at.span, &at.path, &what, &hint);
            }
        }
        // Where one service writes into a folder, the others see what it wrote.
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let mut written: BTreeSet<String> = BTreeSet::new();
        for at in drafts.iter().flat_map(|d| &d.binds) {
            let Bind { source, read_only, create, .. } = &at.value;
            let what = *found.entry(source.clone()).or_insert_with(|| self.disk.look(source));
            let empty = what == Found::EmptyFolder
                || what == Found::Missing && *create && !looks_like_file(source) && !source.is_empty();
            if empty && !read_only {
                written.insert(source.clone());
            }
        }
        let mut trees: BTreeMap<TreeContent, Vec<(lattice_model::WorkloadName, String)>> = BTreeMap::new();
        for draft in drafts.iter_mut() {
            for at in std::mem::take(&mut draft.binds) {
                let what = found.get(&at.value.source).copied().unwrap_or(Found::Missing);
                if written.contains(&at.value.source) {
                    let Ok(volume) = fresh(slug("", &at.value.source)) else { continue };
                    self.say_volume(&at, what, &volume);
                    spec.volumes.insert(volume.clone(), VolumeSpec::default());
                    let Bind { target, read_only, .. } = at.value;
                    draft.spec.mounts.push(MountSpec { volume, target, read_only });
                } else if let Some(content) = self.tree(&at, what) {
                    trees.entry(content).or_default().push((draft.name.clone(), at.value.target));
                }
            }
        }
        trees.into_iter().map(|(content, mounts)| TreeSource { content, mounts }).collect()
    }

    fn say_volume(&mut self, at: &Placed<Bind>, what: Found, volume: &VolumeName) {
        let state = if what == Found::Missing { "is not there" } else { "is empty" };
        let message = format!(
            "{} {state}, so it is kept as the volume `{volume}` on the node, not in your folder",
            show(&shown(&at.value.source))
        );
        let hint = format!(
            "Write `- {volume}:{}`, and `{volume}:` under the top-level `volumes`, to have it so whatever the folder holds",
            show(&at.value.target)
        );
        self.problems.warn(Code::Differs, at.span, &at.path, message, hint);
    }

    fn tree(&mut self, at: &Placed<Bind>, what: Found) -> Option<TreeContent> {
        let Bind { source, read_only, .. } = &at.value;
        let name = show(&shown(source));
        let mut refuse = |code, message: String, hint: &str| {
            self.error(code, at.span, &at.path, message, hint);
            None
        };
        let content = match what {
            Found::File => TreeContent::File { path: source.clone(), mode: None },
            Found::Folder | Found::EmptyFolder => TreeContent::Folder(source.clone()),
            Found::Missing => {
                return refuse(
                    Code::Reference,
                    format!("there is no {name} to mount"),
                    "Create it, check the path, or use a named volume for data: `- data:/path`",
                );
            }
            Found::Outside => {
                return refuse(
                    Code::NotSupported,
                    format!(
                        "not supported: {name} is reached by a symbolic link that leads out of the project's folder"
                    ),
                    "Put the files themselves into the folder",
                );
            }
            Found::Other => {
                return refuse(
                    Code::NotSupported,
                    format!("not supported: {name} is neither a file nor a folder, or cannot be read"),
                    "Mount a file or a folder",
                );
            }
        };
        if !read_only {
            let message = format!("{name} travels with the deployment and is read-only in the container");
            let hint = "Write `:ro` behind it; what the service writes belongs into a named volume";
            self.problems.warn(Code::Differs, at.span, &at.path, message, hint);
        }
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths() {
        for (prefix, path, name) in [
            ("web", "/app/node_modules", "web-app-node_modules"),
            ("", "data/db", "data-db"),
            ("", ".data", "data"),
            ("", "données", "donn-es"),
            ("", "…", "files"),
        ] {
            assert_eq!(slug(prefix, path), name);
        }
        let (a, b) = (slug("", &"x/".repeat(100)), slug("", &"x/".repeat(101)));
        assert!(a != b && a.len() <= 63 && VolumeName::new(a).is_ok());
        assert!(
            looks_like_file("conf/nginx.conf") && looks_like_file("Caddyfile") && !looks_like_file("conf.d")
        );
    }
}
