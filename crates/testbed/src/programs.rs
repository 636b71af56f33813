//! Where the programs under test are.

use crate::error::{Result, TestbedError};
use std::path::PathBuf;

/// The folder of the programs: `LATTICE_BIN_DIR`, else where this program was built.
pub fn programs_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("LATTICE_BIN_DIR").filter(|folder| !folder.is_empty()) {
        return folder.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(&own);
    // A test is built one folder deeper than the programs are.
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder).to_owned(),
        _ => folder.to_owned(),
    }
}

/// A program of this repository.
///
/// # Errors
/// [`TestbedError::NotBuilt`].
pub fn program(name: &str) -> Result<PathBuf> {
    let path = programs_folder().join(name);
    if path.is_file() { Ok(path) } else { Err(TestbedError::NotBuilt { path }) }
}
