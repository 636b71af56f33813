//! Doing what the plan says.

use super::{
    InstallArgs, UninstallArgs,
    plan::{self, Machine, Step},
    unit::{Facts, STATE, UNIT, is_own, unit},
};
use crate::{
    error::CliError,
    terminal::{self, note},
};
use anyhow::Context as _;
use lattice_server::ServerConfig;
use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// Where the program goes when it is where a service cannot read it.
const PROGRAM: &str = "/usr/local/bin/lattice";

/// `lattice server install`.
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<()> {
    let InstallArgs { config, user, dry_run, root, .. } = args;
    let (program, copy_program) = program(root.is_some())?;
    let text = absolute(config)?;
    let present = below(root.as_deref(), config);
    let known = match present.exists() {
        true => Some(ServerConfig::read(&present, &Path::new(STATE).join("server"))?),
        false => None,
    };
    if let Some(known) = known.as_ref().filter(|known| !is_own(&known.home)) {
        return Err(CliError::Usage(format!(
            "the configuration has its home in {}, which the service may not write: leave `home` away or set it below {STATE}, and move the state there",
            known.home.display()
        ))
        .into());
    }
    let low = |known: &ServerConfig| known.api_listen.port() < 1024 || known.agent_listen.port() < 1024;
    let backups = known.as_ref().and_then(|known| known.backup.as_ref()).map(|backup| backup.url.clone());
    let backups = backups.filter(|url| url.starts_with('/') && !is_own(Path::new(url)));
    let facts = Facts {
        program,
        config: text,
        user: user.clone(),
        low_port: known.as_ref().is_some_and(low),
        backups,
    };
    let steps = plan::install(&Machine { root: root.clone(), copy_program }, &facts);
    if *dry_run {
        for step in &steps {
            note(&format!("would {step}"));
        }
        return terminal::data(unit(&facts).as_bytes());
    }
    if root.is_none() {
        ready()?;
    }
    for step in &steps {
        perform(step)?;
        note(&step.to_string());
    }
    match root {
        None => note(&format!(
            "the server runs, and starts with this machine: LATTICE_HOME={STATE} lattice status; journalctl -u {UNIT}"
        )),
        Some(root) => note(&format!("installed below {}; nothing was started", root.display())),
    }
    Ok(())
}

/// `lattice server uninstall`.
pub(crate) fn uninstall(args: &UninstallArgs) -> anyhow::Result<()> {
    let UninstallArgs { config, user, purge, confirm, dry_run, root, .. } = args;
    let steps = plan::uninstall(
        &Machine { root: root.clone(), copy_program: false },
        &absolute(config)?,
        user,
        *purge,
    );
    if *dry_run {
        for step in &steps {
            note(&format!("would {step}"));
        }
        return Ok(());
    }
    if *purge {
        let present = below(root.as_deref(), config);
        let name = match present.exists() {
            true => ServerConfig::read(&present, Path::new(STATE))?.cluster_name,
            false => ServerConfig::new(STATE).cluster_name,
        };
        let given = match confirm {
            Some(given) => given.clone(),
            None => terminal::ask(&format!(
                "This deletes the control plane {name:?} with its keys; nodes and what runs on them stay, without it. Its name, to go on: "
            ))?,
        };
        if given != name {
            return Err(CliError::Usage(format!(
                "{given:?} is not the cluster's name, so nothing was changed"
            ))
            .into());
        }
    }
    if root.is_none() {
        ready()?;
    }
    for step in &steps {
        perform(step)?;
        note(&step.to_string());
    }
    if !*purge {
        note(&format!("state and configuration stay in {STATE} and {}", config.display()));
    }
    Ok(())
}

/// Where the service finds this program, and whether it has to be copied there first.
fn program(to_root: bool) -> anyhow::Result<(String, bool)> {
    let here = std::env::current_exe().context("the path of this program cannot be found")?;
    // ProtectHome and PrivateTmp hide these from the service.
    let hidden =
        ["/home", "/root", "/run/user", "/tmp", "/var/tmp"].iter().any(|folder| here.starts_with(folder));
    match here.to_str() {
        Some(text)
            if !hidden
                && !to_root
                && ["/usr", "/opt", "/bin"].iter().any(|folder| here.starts_with(folder)) =>
        {
            Ok((text.to_owned(), false))
        }
        _ => Ok((PROGRAM.to_owned(), true)),
    }
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| path.is_absolute() && !text.contains(['\n', '\r']));
    let text = text.ok_or_else(|| CliError::Usage("--config takes an absolute path".into()))?;
    Ok(text.to_owned())
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

/// Whether this machine takes a service from us.
fn ready() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CliError::Usage("this takes root: sudo lattice server install".into()).into());
    }
    if !Path::new("/run/systemd/system").is_dir() {
        let text = "systemd does not run here: start `lattice server` by whatever does, or install into an image with --root";
        return Err(CliError::Failed(text.into()).into());
    }
    Ok(())
}

fn perform(step: &Step) -> anyhow::Result<()> {
    match step {
        Step::CopyProgram { to } => {
            let here = std::env::current_exe()?;
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            // Beside it and renamed: the old one may be running.
            let beside = to.with_extension("new");
            fs::copy(&here, &beside)
                .and_then(|_| fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)))
                .and_then(|()| fs::rename(&beside, to))
                .with_context(|| format!("{} cannot be written", to.display()))
        }
        Step::MakeUser { name } => match ids(name) {
            Some(_) => Ok(()),
            None => command(
                "useradd",
                &[
                    "--system",
                    "--user-group",
                    "--home-dir",
                    STATE,
                    "--no-create-home",
                    "--shell",
                    "/usr/sbin/nologin",
                    name,
                ],
            ),
        },
        Step::MakeFolder { path, mode, owner } => {
            if path.is_dir() && owner.is_none() {
                return Ok(());
            }
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(*mode)))
                .with_context(|| format!("the folder {} cannot be made", path.display()))?;
            owned(path, owner.as_deref(), owner.as_deref())
        }
        Step::WriteFile { path, mode, text, keep, group } => {
            if *keep && path.exists() {
                return Ok(());
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            write(path, *mode, text).with_context(|| format!("{} cannot be written", path.display()))?;
            owned(path, None, group.as_deref())
        }
        Step::Enable { unit, link } => {
            if let Some(folder) = link.parent() {
                fs::create_dir_all(folder)?;
            }
            let _ = fs::remove_file(link);
            std::os::unix::fs::symlink(unit, link)
                .with_context(|| format!("{} cannot be made", link.display()))
        }
        Step::Systemctl { args, may_fail } => match command("systemctl", args) {
            Err(error) if *may_fail => {
                note(&format!("note: {error:#}"));
                Ok(())
            }
            other => other,
        },
        Step::RemoveFile { path } => gone(path, fs::remove_file(path)),
        Step::RemoveFolder { path } => gone(path, fs::remove_dir_all(path)),
        Step::RemoveUser { name } => match ids(name) {
            Some(_) => command("userdel", &[name]),
            None => Ok(()),
        },
    }
}

fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(beside, path)
}

fn gone(path: &Path, removed: std::io::Result<()>) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn owned(path: &Path, owner: Option<&str>, group: Option<&str>) -> anyhow::Result<()> {
    let find = |name: Option<&str>| {
        name.map(|name| ids(name).ok_or_else(|| CliError::Failed(format!("there is no user {name}"))))
    };
    let (owner, group) = (find(owner).transpose()?, find(group).transpose()?);
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    chown(path, owner.map(|ids| ids.0), group.map(|ids| ids.1))
        .with_context(|| format!("{} cannot be given to its user", path.display()))
}

/// User and group id of a user.
fn ids(name: &str) -> Option<(u32, u32)> {
    let id = |flag| {
        let output = Command::new("id").args([flag, name]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().parse().ok())?
    };
    Some((id("-u")?, id("-g")?))
}

fn command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("{program} cannot be started"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CliError::Failed(format!("{program} {} failed: {said}", args.join(" "))).into())
}
