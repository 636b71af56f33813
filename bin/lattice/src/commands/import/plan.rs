//! What an import comes to: which data goes where, what stays behind, what will be different. Pure.

use super::found::{Found, Member};
use lattice_compose::Loaded;
use lattice_model::{
    Bytes, VolumeName, WorkloadName,
    spec::{RestartPolicy, WorkloadSpec},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Where data comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// A volume of the engine.
    Volume(String),
    /// A folder of this machine, which was mounted where the file has a volume now.
    Folder(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(name) => f.write_str(name),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Data that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Copy {
    pub(crate) source: Source,
    /// The volume of the stack.
    pub(crate) volume: VolumeName,
    /// How much, as far as the engine counts it.
    pub(crate) bytes: Option<u64>,
}

/// Data that is not copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Behind {
    pub(crate) volume: String,
    pub(crate) why: String,
}

/// An image that the engine has and that is not built again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Image {
    pub(crate) service: WorkloadName,
    /// `sha256:…`.
    pub(crate) id: String,
}

/// What an import comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// The names of the containers that are stopped, in order.
    pub(crate) stop: Vec<Vec<String>>,
    pub(crate) copies: Vec<Copy>,
    /// Volumes of the stack that begin empty.
    pub(crate) empty: Vec<VolumeName>,
    /// Data that stays where it is.
    pub(crate) behind: Vec<Behind>,
    pub(crate) images: Vec<Image>,
    /// What will not be as it was.
    pub(crate) differs: Vec<String>,
    /// Why it cannot be.
    pub(crate) problems: Vec<String>,
}

/// What the engine knows besides.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The bytes of volumes.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// Who mounts a volume, and whether he runs.
    pub(crate) users: BTreeMap<String, Vec<(String, bool)>>,
}

/// Plans the import of what was found as what was loaded. `build` makes images anew.
pub(crate) fn plan(found: &Found, loaded: &Loaded, facts: &Facts, build: bool) -> Plan {
    let names = |wave: &Vec<&Member>| wave.iter().map(|member| member.container.name.clone()).collect();
    let mut plan = Plan { stop: found.stop_order().iter().map(names).collect(), ..Plan::default() };
    let mut taken: BTreeSet<Source> = BTreeSet::new();
    for volume in loaded.spec.volumes.keys() {
        let sources = sources(found, loaded, volume);
        let Some(source) = sources.first().cloned() else {
            plan.empty.push(volume.clone());
            continue;
        };
        for other in &sources[1..] {
            plan.behind.push(Behind {
                volume: other.to_string(),
                why: format!("another one goes into {volume}, and two cannot be mixed"),
            });
            taken.insert(other.clone());
        }
        if !taken.insert(source.clone()) {
            plan.problems.push(format!(
                "{source} would go into {volume} and into another volume; write one of them in the Compose file"
            ));
            continue;
        }
        let bytes = match &source {
            Source::Volume(name) => facts.sizes.get(name).copied(),
            Source::Folder(_) => None,
        };
        plan.copies.push(Copy { source, volume: volume.clone(), bytes });
    }
    for name in found.all_volumes() {
        if !taken.contains(&Source::Volume(name.to_owned())) {
            plan.behind.push(Behind { volume: name.to_owned(), why: why_behind(found, loaded, name) });
        }
    }
    plan.behind.sort();
    plan.behind.dedup();
    refuse(found, facts, &mut plan);
    for (service, spec) in &loaded.spec.workloads {
        let members: Vec<&Member> = found.replicas().filter(|m| m.service == service.as_str()).collect();
        if let Some(first) = members.first()
            && loaded.builds.contains_key(service)
            && !build
        {
            plan.images.push(Image { service: service.clone(), id: first.container.image_id.clone() });
        }
        let built = loaded.builds.contains_key(service);
        plan.differs.extend(differs(service, spec, &members, built));
    }
    let known = |service: &str| loaded.spec.workloads.keys().any(|name| name.as_str() == service);
    for service in found.services().into_iter().filter(|service| !known(service)) {
        plan.differs.push(format!(
            "{service} has containers and is not in the Compose files: it is stopped and not brought along (one of a profile is, with --profile)"
        ));
    }
    plan
}

/// What may be the data of a volume of the stack, the likeliest first: what the containers mount
/// where the file mounts it; else the volume of that name.
fn sources(found: &Found, loaded: &Loaded, volume: &VolumeName) -> Vec<Source> {
    let named = found.volumes.iter().find(|kept| kept.key == volume.as_str());
    let named = named.map(|kept| Source::Volume(kept.name.clone()));
    let mut mounted: Vec<Source> = Vec::new();
    for member in found.replicas() {
        let Some(spec) = loaded.spec.workloads.iter().find(|(name, _)| name.as_str() == member.service)
        else {
            continue;
        };
        for wanted in spec.1.mounts.iter().filter(|mount| mount.volume == *volume) {
            let place = |target: &str| target.trim_end_matches('/').to_owned();
            let there =
                member.container.mounts.iter().find(|mount| place(&mount.target) == place(&wanted.target));
            let source = there.map(|mount| match &mount.volume {
                Some(name) => Source::Volume(name.clone()),
                None => Source::Folder(PathBuf::from(&mount.source)),
            });
            mounted.extend(source.filter(|source| !mounted.contains(source)));
        }
    }
    // Of several, the one that the file means by its name.
    mounted.sort_by_key(|source| (Some(source) != named.as_ref(), matches!(source, Source::Folder(_))));
    if mounted.is_empty() { named.into_iter().collect() } else { mounted }
}

fn why_behind(found: &Found, loaded: &Loaded, name: &str) -> String {
    let user = found.members.iter().find_map(|member| {
        let mount = member.container.mounts.iter().find(|mount| mount.volume.as_deref() == Some(name))?;
        Some((member, mount))
    });
    let Some((member, mount)) = user else { return "nothing in the Compose files uses it".into() };
    let (service, target) = (&member.service, &mount.target);
    if !loaded.spec.workloads.keys().any(|name| name.as_str() == service) {
        return format!("{service}, which mounts it, is not in the Compose files");
    }
    if member.one_off {
        return format!("only {}, a container of `docker compose run`, mounts it", member.container.name);
    }
    format!(
        "{service} has it at {target}, where the Compose file mounts no volume; write `- NAME:{target}` to bring it along"
    )
}

/// What stands against it.
fn refuse(found: &Found, facts: &Facts, plan: &mut Plan) {
    let own: BTreeSet<&str> = found.members.iter().map(|m| m.container.name.as_str()).collect();
    for copy in &plan.copies {
        let Source::Volume(name) = &copy.source else { continue };
        let users = facts.users.get(name).into_iter().flatten();
        for (user, _) in users.filter(|(user, up)| *up && !own.contains(user.as_str())) {
            plan.problems.push(format!(
                "{name} is mounted by {user}, which runs and is not of this project; stop it first: `docker stop {user}`"
            ));
        }
    }
    for member in found.members.iter().filter(|member| member.one_off && member.container.is_up()) {
        let name = &member.container.name;
        plan.problems.push(format!(
            "{name} was begun by `docker compose run` and runs; wait for its end, or stop it: `docker stop {name}`"
        ));
    }
}

/// What will not be as it was, of one service.
fn differs(service: &WorkloadName, spec: &WorkloadSpec, members: &[&Member], built: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(first) = members.first() else {
        lines.push(format!("{service} has no container yet, and gets one"));
        return lines;
    };
    let container = &first.container;
    if !built && container.image != spec.image && container.image_id != spec.image {
        lines.push(format!(
            "{service} runs {} and the Compose file says {}: the file counts",
            container.image, spec.image
        ));
    }
    let before: BTreeMap<&str, &str> =
        container.environment.iter().filter_map(|pair| pair.split_once('=')).collect();
    let changed: Vec<&str> = spec
        .environment
        .iter()
        .filter(|(name, value)| before.get(name.as_str()) != Some(&value.as_str()))
        .map(|(name, _)| name.as_str())
        .collect();
    if !changed.is_empty() {
        lines.push(format!(
            "{service} gets other variables than its container has: {}; check the files and what the shell had when it was made",
            changed.join(", ")
        ));
    }
    if members.len() != spec.replicas as usize {
        lines.push(format!(
            "{service} has {} containers and the Compose file says {}",
            members.len(),
            spec.replicas
        ));
    }
    let open = |port: &&lattice_model::spec::PortSpec| port.host_ip.is_none();
    let ports: Vec<String> =
        spec.ports.iter().filter(open).map(|port| port.target.port.to_string()).collect();
    if !ports.is_empty() {
        lines.push(format!(
            "{service} is reached on 127.0.0.1 of its node alone (port {}), where Docker publishes on every address",
            ports.join(", ")
        ));
    }
    if spec.restart == RestartPolicy::Always && matches!(container.restart.as_str(), "no" | "") {
        let ended =
            if container.is_up() { "" } else { "; it has ended: if it is a job, write `restart: \"no\"`" };
        lines.push(format!("{service} is started again whenever it ends, which Docker does not do{ended}"));
    }
    let writes = |target: &str| {
        container
            .mounts
            .iter()
            .find(|mount| mount.volume.is_none() && mount.target.trim_end_matches('/') == target)
    };
    for mount in container.mounts.iter().filter(|mount| mount.volume.is_none()) {
        let place = mount.target.trim_end_matches('/');
        let is_volume = spec.mounts.iter().any(|wanted| wanted.target.trim_end_matches('/') == place);
        if !is_volume && writes(place).is_some_and(|mount| mount.writable) {
            lines.push(format!(
                "{service} has {} of this machine at {place} and may write there; in Lattice these files are read-only. \
                 If its data is there, write `- NAME:{place}` in an override file and give it with -f: then it is copied",
                mount.source
            ));
        }
    }
    lines
}

impl Plan {
    /// The bytes to be copied, as far as they are known.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes(self.copies.iter().filter_map(|copy| copy.bytes).sum())
    }

    /// What will happen, as people read it.
    pub(crate) fn lines(&self, found: &Found) -> String {
        let mut lines = Vec::new();
        let up: usize = self.stop.iter().map(Vec::len).sum();
        if up > 0 {
            let order: Vec<String> = self.stop.iter().map(|wave| wave.join(" and ")).collect();
            lines.push(format!("  stops {}", order.join(", then ")));
        } else {
            lines.push(format!("  nothing of {} runs, so nothing is stopped", found.name));
        }
        for Copy { source, volume, bytes } in &self.copies {
            let size = bytes.map_or_else(|| "of unknown size".to_owned(), |bytes| Bytes(bytes).to_string());
            lines.push(format!("  copies {source} ({size}) into the volume {volume}"));
        }
        for volume in &self.empty {
            lines.push(format!("  the volume {volume} begins empty: the project has no data for it"));
        }
        for Behind { volume, why } in &self.behind {
            lines.push(format!("  leaves {volume} where it is: {why}"));
        }
        for line in &self.differs {
            lines.push(format!("  differs: {line}"));
        }
        let mut text = String::new();
        for line in lines {
            text.push_str(&crate::table::clean(&line));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::found::{
            projects,
            tests::{container, mounts, volume},
        },
        *,
    };
    use lattice_compose::{Options, Source as Text, load};

    fn loaded(text: &str) -> Loaded {
        struct Nothing;
        impl lattice_compose::Files for Nothing {
            fn read(&self, _: &str, _: usize) -> Result<lattice_compose::Text, lattice_compose::FileFault> {
                Err(lattice_compose::FileFault::Missing)
            }
            fn look(&self, _: &str) -> lattice_compose::Found {
                lattice_compose::Found::Folder
            }
        }
        let none = |_: &str| None;
        let options = Options { name: Some("shop"), ..Options::new(&none) };
        load(&[Text { name: "compose.yaml", text: text.as_bytes() }], &options, &Nothing).unwrap()
    }

    const FILE: &str = "services:
  db: {image: postgres:15, volumes: ['data:/var/lib/db', '/scratch'], environment: {A: '1', B: '2'}}
  web: {build: ., ports: ['8080:80'], depends_on: [db], volumes: ['up:/up', './conf:/conf']}
  new: {image: n, volumes: ['fresh:/f']}
volumes: {data: {}, up: {}, fresh: {}}
";

    fn shop() -> Found {
        let mut db = container("shop", "db", "running", &[]);
        (db.image, db.environment) = ("postgres:15".into(), vec!["A=1".into(), "B=other".into()]);
        let db = mounts(db, &[("shop_data", "/var/lib/db/"), ("abc123", "/scratch"), ("def", "/image")]);
        let web = container(
            "shop",
            "web",
            "running",
            &[("com.docker.compose.depends_on", "db:service_started:true")],
        );
        let web = mounts(web, &[("/srv/uploads", "/up"), ("/srv/shop/conf", "/conf")]);
        let old = container("shop", "gone", "exited", &[]);
        projects(vec![db, web, old], vec![volume("shop", "data"), volume("shop", "unused")]).remove(0)
    }

    #[test]
    fn a_plan() {
        let facts = Facts { sizes: [("shop_data".into(), 5 << 20)].into(), ..Facts::default() };
        let plan = plan(&shop(), &loaded(FILE), &facts, false);
        assert!(plan.problems.is_empty(), "{plan:#?}");
        assert_eq!(plan.bytes(), Bytes::from_mib(5));
        insta::assert_snapshot!(plan.lines(&shop()));
    }

    #[test]
    fn what_others_use_is_not_torn_from_them() {
        let facts = Facts {
            users: [(
                "shop_data".into(),
                vec![("shop-db-1".into(), true), ("backup".into(), true), ("idle".into(), false)],
            )]
            .into(),
            ..Facts::default()
        };
        let mut found = shop();
        found.members[0].one_off = true;
        let problems = plan(&found, &loaded(FILE), &facts, false).problems.join("\n");
        assert!(problems.contains("mounted by backup") && !problems.contains("idle"), "{problems}");
        assert!(problems.contains("shop-db-1 was begun by `docker compose run`"), "{problems}");
    }

    #[test]
    fn of_the_volumes_of_replicas_one_is_taken_and_the_others_are_named() {
        let one = |number: &str, name: &str| {
            mounts(
                container("shop", "db", "running", &[("com.docker.compose.container-number", number)]),
                &[(name, "/scratch")],
            )
        };
        let found = projects(vec![one("2", "bbb"), one("1", "aaa")], vec![]).remove(0);
        let plan = plan(&found, &loaded(FILE), &Facts::default(), true);
        let copies: Vec<_> =
            plan.copies.iter().map(|copy| (copy.source.to_string(), copy.volume.to_string())).collect();
        assert_eq!(copies, [("aaa".to_owned(), "db-scratch".to_owned())]);
        assert!(plan.behind.iter().any(|behind| behind.volume == "bbb"), "{plan:#?}");
        assert!(plan.images.is_empty());
    }
}
