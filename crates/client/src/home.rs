//! Where a server or an agent on this machine keeps its state.

use std::{env, path::PathBuf};

/// The API's socket, below the home.
pub const API_SOCKET: &str = "server/lattice.sock";

/// `LATTICE_HOME`, else the platform's data folder: `/var/lib/lattice` for root, else
/// `$XDG_DATA_HOME/lattice` or `~/.local/share/lattice`; `~/Library/Application Support/Lattice`
/// on macOS, `%LOCALAPPDATA%\Lattice` on Windows. `None` when not even the user's home is known.
pub fn default_home() -> Option<PathBuf> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = var("LATTICE_HOME") {
        return Some(home);
    }
    if cfg!(windows) {
        return Some(var("LOCALAPPDATA")?.join("Lattice"));
    }
    if cfg!(target_os = "macos") {
        return Some(var("HOME")?.join("Library/Application Support/Lattice"));
    }
    let home = var("HOME");
    if is_root() {
        return Some("/var/lib/lattice".into());
    }
    // A relative XDG path is to be ignored, as its specification says.
    let xdg = var("XDG_DATA_HOME").filter(|path| path.is_absolute());
    Some(xdg.or_else(|| Some(home?.join(".local/share")))?.join("lattice"))
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of our own entry in /proc is our effective user; without /proc nobody is root,
    // and LATTICE_HOME says otherwise.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
