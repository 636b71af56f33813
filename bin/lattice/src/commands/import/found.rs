//! Compose projects out of what an engine lists, by the labels that Docker Compose writes. Pure.

use lattice_runtime::docker::{ComposeContainer, ComposeVolume};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

const PROJECT: &str = "com.docker.compose.project";
const FOLDER: &str = "com.docker.compose.project.working_dir";
const FILES: &str = "com.docker.compose.project.config_files";
const ENV_FILES: &str = "com.docker.compose.project.environment_file";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
const VOLUME: &str = "com.docker.compose.volume";

/// A Compose project on an engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Where it was started from, if a container says so.
    pub(crate) folder: Option<PathBuf>,
    /// Its Compose files, absolute.
    pub(crate) files: Vec<PathBuf>,
    /// What was given as `--env-file`.
    pub(crate) env_files: Vec<PathBuf>,
    pub(crate) members: Vec<Member>,
    pub(crate) volumes: Vec<Kept>,
}

/// A container of a project.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) container: ComposeContainer,
    pub(crate) service: String,
    /// Which of the service's containers, from 1.
    pub(crate) number: u32,
    /// Made by `docker compose run`.
    pub(crate) one_off: bool,
    depends_on: BTreeSet<String>,
}

/// A volume that the project made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its name on the engine.
    pub(crate) name: String,
    /// What the file calls it.
    pub(crate) key: String,
}

/// Sorts what was listed into projects, by name.
pub(crate) fn projects(containers: Vec<ComposeContainer>, volumes: Vec<ComposeVolume>) -> Vec<Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for container in containers {
        let label = |name: &str| container.labels.get(name).filter(|value| !value.is_empty());
        let (Some(project), Some(service)) = (label(PROJECT).cloned(), label(SERVICE).cloned()) else {
            continue;
        };
        let found = all.entry(project).or_default();
        let folder = label(FOLDER).map(PathBuf::from);
        let paths = |name: &str| -> Vec<PathBuf> {
            let listed = label(name).map(String::as_str).unwrap_or_default().split(',');
            let listed = listed.map(str::trim).filter(|path| !path.is_empty());
            // Old versions write them relative to the folder.
            listed.map(|path| folder.as_deref().unwrap_or(Path::new("")).join(path)).collect()
        };
        let (files, env_files) = (paths(FILES), paths(ENV_FILES));
        let member = Member {
            number: label(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(1),
            one_off: label(ONE_OFF).is_some_and(|word| word.eq_ignore_ascii_case("true")),
            depends_on: label(DEPENDS_ON)
                .map(String::as_str)
                .unwrap_or_default()
                .split(',')
                .filter_map(|one| one.split(':').next())
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            service,
            container,
        };
        // A one-off may have been made with other files.
        if !member.one_off && found.files.is_empty() {
            (found.folder, found.files, found.env_files) = (folder, files, env_files);
        }
        found.members.push(member);
    }
    for volume in volumes {
        let label = |name: &str| volume.labels.get(name).filter(|value| !value.is_empty()).cloned();
        let (Some(project), Some(key)) = (label(PROJECT), label(VOLUME)) else { continue };
        all.entry(project).or_default().volumes.push(Kept { name: volume.name, key });
    }
    for (name, found) in &mut all {
        found.name.clone_from(name);
        found.members.sort_by(|a, b| {
            (&a.service, a.one_off, a.number, &a.container.name).cmp(&(
                &b.service,
                b.one_off,
                b.number,
                &b.container.name,
            ))
        });
    }
    all.into_values().collect()
}

impl Found {
    /// The containers of services.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.one_off)
    }

    /// How many containers of services there are, and how many of them run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.replicas().count(), self.replicas().filter(|member| member.container.is_up()).count())
    }

    /// What state it is in, for people.
    pub(crate) fn state(&self) -> String {
        match self.counts() {
            (0, _) => "only volumes".to_owned(),
            (_, 0) => "stopped".to_owned(),
            (all, up) if all == up => "running".to_owned(),
            (all, up) => format!("{up} of {all} run"),
        }
    }

    /// The names of its services.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.replicas().map(|member| member.service.as_str()).collect()
    }

    /// Every volume that it uses, anonymous ones included.
    pub(crate) fn all_volumes(&self) -> BTreeSet<&str> {
        let mounted = self.members.iter().flat_map(|member| &member.container.mounts);
        let mounted = mounted.filter_map(|mount| mount.volume.as_deref());
        self.volumes.iter().map(|volume| volume.name.as_str()).chain(mounted).collect()
    }

    /// What runs, in the order in which it is stopped: those of a wave at once, whoever depends on
    /// another one before it. Where services depend on each other in a circle, all of them at once.
    pub(crate) fn stop_order(&self) -> Vec<Vec<&Member>> {
        let mut left: Vec<&Member> = self.replicas().filter(|member| member.container.is_up()).collect();
        let mut waves = Vec::new();
        while !left.is_empty() {
            let needed: BTreeSet<&String> = left.iter().flat_map(|member| &member.depends_on).collect();
            let (wave, rest): (Vec<&Member>, Vec<&Member>) =
                left.iter().partition(|member| !needed.contains(&member.service));
            let (wave, rest) = if wave.is_empty() { (rest, wave) } else { (wave, rest) };
            waves.push(wave);
            left = rest;
        }
        waves
    }
}

/// A project as `-o json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<'a> {
    project: &'a str,
    state: String,
    services: BTreeSet<&'a str>,
    containers: usize,
    running: usize,
    volumes: Vec<ListedVolume<'a>>,
    folder: Option<&'a Path>,
    files: Vec<ListedFile<'a>>,
}

#[derive(Debug, Serialize)]
struct ListedVolume<'a> {
    name: &'a str,
    bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ListedFile<'a> {
    path: &'a Path,
    exists: bool,
}

impl<'a> Listed<'a> {
    pub(crate) fn of(
        found: &'a Found,
        sizes: &BTreeMap<String, u64>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let (containers, running) = found.counts();
        let volumes = found.all_volumes().into_iter();
        let files = found.files.iter();
        Self {
            project: &found.name,
            state: found.state(),
            services: found.services(),
            containers,
            running,
            volumes: volumes.map(|name| ListedVolume { name, bytes: sizes.get(name).copied() }).collect(),
            folder: found.folder.as_deref(),
            files: files.map(|path| ListedFile { path, exists: exists(path) }).collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lattice_model::Duration;
    use lattice_runtime::docker::ComposeMount;
    use proptest::prelude::*;

    /// A container as Docker Compose labels it.
    pub(crate) fn container(
        project: &str,
        service: &str,
        state: &str,
        more: &[(&str, &str)],
    ) -> ComposeContainer {
        let mut labels: BTreeMap<String, String> =
            [(PROJECT, project), (SERVICE, service), (NUMBER, "1"), (ONE_OFF, "False")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        ComposeContainer {
            id: format!("id-{service}-{}", labels[NUMBER]),
            name: format!("{project}-{service}-{}", labels[NUMBER]),
            image: "busybox".into(),
            image_id: "sha256:00112233445566778899".into(),
            labels,
            state: state.into(),
            environment: Vec::new(),
            mounts: Vec::new(),
            restart: "no".into(),
            grace: Duration::from_secs(10),
        }
    }

    pub(crate) fn mounts(mut container: ComposeContainer, mounts: &[(&str, &str)]) -> ComposeContainer {
        let mount = |(source, target): &(&str, &str)| ComposeMount {
            volume: (!source.starts_with('/')).then(|| (*source).to_owned()),
            source: (*source).to_owned(),
            target: (*target).to_owned(),
            writable: true,
        };
        container.mounts = mounts.iter().map(mount).collect();
        container
    }

    pub(crate) fn volume(project: &str, key: &str) -> ComposeVolume {
        let labels = [(PROJECT, project), (VOLUME, key)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        ComposeVolume { name: format!("{project}_{key}"), labels }
    }

    #[test]
    fn projects_are_found_by_their_labels() {
        let files = [(FOLDER, "/srv/shop"), (FILES, "/srv/shop/compose.yaml,more.yaml")];
        let one_off = [(ONE_OFF, "True"), (NUMBER, "1"), (FILES, "/elsewhere.yaml")];
        let mut stranger = container("x", "web", "running", &[]);
        stranger.labels.remove(PROJECT);
        let all = projects(
            vec![
                container("shop", "web", "running", &files),
                container("shop", "migrate", "exited", &one_off),
                container("shop", "db", "exited", &[(NUMBER, "2")]),
                stranger,
            ],
            vec![volume("shop", "data"), volume("old", "left")],
        );
        let names: Vec<_> = all.iter().map(|found| (found.name.as_str(), found.state())).collect();
        assert_eq!(names, [("old", "only volumes".to_owned()), ("shop", "1 of 2 run".to_owned())]);
        let shop = &all[1];
        assert_eq!(shop.files, [PathBuf::from("/srv/shop/compose.yaml"), "/srv/shop/more.yaml".into()]);
        assert_eq!(shop.services(), BTreeSet::from(["db", "web"]));
        assert_eq!(shop.volumes, [Kept { name: "shop_data".into(), key: "data".into() }]);
    }

    proptest! {
        /// Everything that runs is stopped once, and nobody after somebody whom he depends on, but in a circle.
        #[test]
        fn whoever_depends_goes_first(edges in prop::collection::vec((0usize..6, 0usize..6), 0..10), up in prop::collection::vec(any::<bool>(), 6)) {
            let members = (0..6).map(|n| {
                let depends: Vec<String> =
                    edges.iter().filter(|(a, b)| *a == n && a > b).map(|(_, b)| format!("s{b}:service_started:true")).collect();
                let depends = depends.join(",");
                let state = if up[n] { "running" } else { "exited" };
                container("p", &format!("s{n}"), state, &[(DEPENDS_ON, &depends)])
            });
            let all = projects(members.collect(), Vec::new());
            let waves = all[0].stop_order();
            let mut gone = BTreeSet::new();
            for wave in &waves {
                let here: BTreeSet<&str> = wave.iter().map(|m| m.service.as_str()).collect();
                for member in wave {
                    prop_assert!(member.container.is_up());
                    for needed in &member.depends_on {
                        prop_assert!(!gone.contains(needed) && !here.contains(needed.as_str()), "{} after {needed}", member.service);
                    }
                }
                gone.extend(wave.iter().map(|m| m.service.clone()));
            }
            prop_assert_eq!(gone.len(), up.iter().filter(|up| **up).count());
        }
    }

    #[test]
    fn a_circle_is_stopped_at_once() {
        let a = container("p", "a", "running", &[(DEPENDS_ON, "b:service_started:true")]);
        let b = container("p", "b", "running", &[(DEPENDS_ON, "a:service_started:true")]);
        assert_eq!(
            projects(vec![a, b], Vec::new())[0].stop_order().iter().map(Vec::len).collect::<Vec<_>>(),
            [2]
        );
    }
}
