//! What is to be done, as data.

use super::unit::{Facts, STATE, UNIT, first_config, unit};
use std::{fmt, path::PathBuf};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Copy the running program to where others find it.
    CopyProgram { to: PathBuf },
    /// Make the user, where there is none.
    MakeUser { name: String },
    /// Make a folder, where there is none.
    MakeFolder { path: PathBuf, mode: u32, owner: Option<String> },
    /// Write a file; an existing one stays as it is where that is said.
    WriteFile { path: PathBuf, mode: u32, text: String, keep: bool, group: Option<String> },
    /// Have it start with the machine, without systemd: what `systemctl enable` would do.
    Enable { unit: PathBuf, link: PathBuf },
    /// Ask systemd.
    Systemctl { args: Vec<&'static str>, may_fail: bool },
    /// Remove a file or a link, where there is one.
    RemoveFile { path: PathBuf },
    /// Remove a folder with all that is in it.
    RemoveFolder { path: PathBuf },
    /// Remove the user.
    RemoveUser { name: String },
}

/// What is known of the machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Where everything goes below, and nothing is started; `None`: this machine itself.
    pub(super) root: Option<PathBuf>,
    /// Where the running program is, when others cannot read it there.
    pub(super) copy_program: bool,
}

impl Machine {
    fn below(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => path.into(),
        }
    }

    fn unit(&self) -> PathBuf {
        self.below(&format!("/etc/systemd/system/{UNIT}"))
    }

    fn link(&self) -> PathBuf {
        self.below(&format!("/etc/systemd/system/multi-user.target.wants/{UNIT}"))
    }
}

/// The steps of an installation.
pub(super) fn install(machine: &Machine, facts: &Facts) -> Vec<Step> {
    let Facts { program, config, user, .. } = facts;
    let mut steps = Vec::new();
    if machine.copy_program {
        steps.push(Step::CopyProgram { to: machine.below(program) });
    }
    let real = machine.root.is_none();
    if real {
        steps.push(Step::MakeUser { name: user.clone() });
    }
    let owner = real.then(|| user.clone());
    let config = machine.below(config);
    if let Some(folder) = config.parent() {
        // Readable for others: what is secret in it has its own mode.
        steps.push(Step::MakeFolder { path: folder.to_owned(), mode: 0o755, owner: None });
    }
    steps.extend([
        Step::WriteFile { path: config, mode: 0o640, text: first_config(), keep: true, group: owner.clone() },
        Step::MakeFolder { path: machine.below(STATE), mode: 0o700, owner },
        Step::WriteFile { path: machine.unit(), mode: 0o644, text: unit(facts), keep: false, group: None },
    ]);
    if real {
        steps.push(Step::Systemctl { args: vec!["daemon-reload"], may_fail: false });
        steps.push(Step::Systemctl { args: vec!["enable", UNIT], may_fail: false });
        // Also one that runs already: its unit or program may be another now.
        steps.push(Step::Systemctl { args: vec!["restart", UNIT], may_fail: false });
    } else {
        steps.push(Step::Enable {
            unit: PathBuf::from(format!("/etc/systemd/system/{UNIT}")),
            link: machine.link(),
        });
    }
    steps
}

/// The steps of taking it away. `purge` also takes state, configuration and user.
pub(super) fn uninstall(machine: &Machine, config: &str, user: &str, purge: bool) -> Vec<Step> {
    let real = machine.root.is_none();
    let mut steps = Vec::new();
    if real {
        steps.push(Step::Systemctl { args: vec!["disable", "--now", UNIT], may_fail: true });
    }
    steps.extend([Step::RemoveFile { path: machine.link() }, Step::RemoveFile { path: machine.unit() }]);
    if real {
        steps.push(Step::Systemctl { args: vec!["daemon-reload"], may_fail: true });
    }
    if purge {
        steps.push(Step::RemoveFolder { path: machine.below(STATE) });
        steps.push(Step::RemoveFile { path: machine.below(config) });
        if real {
            steps.push(Step::RemoveUser { name: user.to_owned() });
        }
    }
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CopyProgram { to } => write!(f, "copy this program to {}", to.display()),
            Self::MakeUser { name } => write!(f, "make the system user {name}, where there is none"),
            Self::MakeFolder { path, mode, owner } => {
                write!(f, "make the folder {} (mode {mode:o}", path.display())?;
                match owner {
                    Some(owner) => write!(f, ", of {owner})"),
                    None => f.write_str(")"),
                }
            }
            Self::WriteFile { path, mode, keep, group, .. } => {
                write!(f, "write {} (mode {mode:o}", path.display())?;
                if let Some(group) = group {
                    write!(f, ", group {group}")?;
                }
                f.write_str(if *keep { "), where there is none" } else { ")" })
            }
            Self::Enable { link, .. } => {
                write!(f, "link {}, so that it starts with the machine", link.display())
            }
            Self::Systemctl { args, .. } => write!(f, "systemctl {}", args.join(" ")),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::RemoveFolder { path } => write!(f, "remove {} with all that is in it", path.display()),
            Self::RemoveUser { name } => write!(f, "remove the user {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            program: "/usr/local/bin/lattice".into(),
            config: "/etc/lattice/server.toml".into(),
            user: "lattice".into(),
            low_port: false,
            backups: None,
        }
    }

    fn told(steps: &[Step]) -> String {
        steps.iter().map(|step| format!("{step}\n")).collect()
    }

    #[test]
    fn the_unit_is_hardened_and_starts_with_the_machine() {
        insta::assert_snapshot!("unit", unit(&facts()));
        let odd = Facts {
            program: "/opt/my tools/100%/lattice".into(),
            low_port: true,
            backups: Some("/mnt/backups".into()),
            ..facts()
        };
        let text = unit(&odd);
        assert!(text.contains("ExecStart=\"/opt/my tools/100%%/lattice\" server"), "{text}");
        assert!(
            text.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE\nReadWritePaths=-/mnt/backups\n"),
            "{text}"
        );
    }

    #[test]
    fn installing_and_taking_away() {
        let here = Machine { root: None, copy_program: true };
        insta::assert_snapshot!("install", told(&install(&here, &facts())));
        insta::assert_snapshot!(
            "uninstall",
            told(&uninstall(&here, "/etc/lattice/server.toml", "lattice", false))
        );
        insta::assert_snapshot!(
            "purge",
            told(&uninstall(&here, "/etc/lattice/server.toml", "lattice", true))
        );
    }

    #[test]
    fn below_a_root_nothing_of_this_machine_is_touched() {
        let there = Machine { root: Some("/image".into()), copy_program: true };
        let all = [install(&there, &facts()), uninstall(&there, "/etc/lattice/server.toml", "lattice", true)]
            .concat();
        for step in all {
            let inside = |path: &PathBuf| path.starts_with("/image");
            assert!(
                match &step {
                    Step::CopyProgram { to: path }
                    | Step::MakeFolder { path, owner: None, .. }
                    | Step::WriteFile { path, group: None, .. }
                    | Step::Enable { link: path, .. }
                    | Step::RemoveFile { path }
                    | Step::RemoveFolder { path } => inside(path),
                    _ => false,
                },
                "{step}"
            );
        }
    }

    #[test]
    fn without_purge_data_stays() {
        let here = Machine { root: None, copy_program: false };
        let steps = uninstall(&here, "/etc/lattice/server.toml", "lattice", false);
        assert!(!told(&steps).contains("/var/lib") && !told(&steps).contains("server.toml"));
    }
}
