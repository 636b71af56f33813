//! The servers that somebody signed in to: `servers.json` in the platform's folder for configuration,
//! readable by its owner alone.
//!
//! It holds session tokens. Rejected: the system's keyring, which a computer without a desktop has not;
//! a file of mode 0600 in the home is what SSH keys have, too.

use crate::error::CliError;
use anyhow::Context as _;
use lattice_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
};

/// What is remembered.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Servers {
    /// The one that commands go to where none is named.
    pub(crate) current: Option<String>,
    /// By address, as `Endpoint` writes it.
    #[serde(default)]
    pub(crate) servers: BTreeMap<String, Remembered>,
}

/// A session on a server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) user: String,
    /// A secret.
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
    /// The authority that was named at the login, PEM; the system's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `LATTICE_CONFIG`, else the platform's folder for configuration.
fn folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = var("LATTICE_CONFIG") {
        return Some(folder);
    }
    if cfg!(windows) {
        return Some(var("APPDATA")?.join("Lattice"));
    }
    if cfg!(target_os = "macos") {
        return Some(var("HOME")?.join("Library/Application Support/Lattice"));
    }
    let xdg = var("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    Some(xdg.or_else(|| Some(var("HOME")?.join(".config")))?.join("lattice"))
}

/// Where the sessions are.
fn path() -> anyhow::Result<PathBuf> {
    let folder = folder().ok_or_else(|| {
        CliError::Usage("neither HOME nor LATTICE_CONFIG is set, so logins cannot be remembered".into())
    })?;
    Ok(folder.join("servers.json"))
}

impl Servers {
    /// Reads what is remembered; nothing where there is no file.
    pub(crate) fn load() -> anyhow::Result<Self> {
        match path() {
            Ok(path) => Self::read(&path),
            Err(_) => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let text = format!(
                    "{} has mode {mode:03o}, so others may have read its tokens: run `chmod 600` on it, then `lattice logout --all` and sign in again",
                    path.display()
                );
                return Err(CliError::Failed(text).into());
            }
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it and sign in again", path.display()))
    }

    /// Writes it, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        self.write(&path()?)
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("{} cannot be written", path.display());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(failed)?;
        let draft = folder.join(format!(".servers.{}.tmp", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft).with_context(failed)?;
        file.write_all(&serde_json::to_vec_pretty(self)?).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&draft, path).with_context(failed)
    }

    /// The server that is meant: by its address, or by its host alone where one has that.
    pub(crate) fn find(&self, text: &str) -> Option<(&str, &Remembered)> {
        let host = |url: &str| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            rest.rsplit_once(':').map_or(rest, |(host, _)| host).to_owned()
        };
        if let Some((url, server)) = self.servers.get_key_value(text.trim_end_matches('/')) {
            return Some((url, server));
        }
        let mut same = self.servers.iter().filter(|(url, _)| host(url) == text);
        match (same.next(), same.next()) {
            (Some((url, server)), None) => Some((url, server)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lattice/servers.json");
        assert_eq!(Servers::read(&path).unwrap(), Servers::default());
        let remembered =
            Remembered { user: "ada".into(), token: "las1_x".into(), expires_at: Timestamp(9), ca: None };
        let servers = Servers {
            current: Some("https://a.example:443".into()),
            servers: [("https://a.example:443".to_owned(), remembered)].into(),
        };
        servers.write(&path).unwrap();
        assert_eq!(Servers::read(&path).unwrap(), servers);
        assert!(!format!("{servers:?}").contains("las1_x"));
        assert!(servers.find("a.example").is_some() && servers.find("https://a.example:443/").is_some());
        assert!(servers.find("b.example").is_none());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(Servers::read(&path).unwrap_err().to_string().contains("chmod 600"));
        }
    }
}
