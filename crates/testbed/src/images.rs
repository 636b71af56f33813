//! Images get in from the host's engine, by an archive that is made once for all nodes.

use crate::{error::Result, run::run};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Saves an image of the host's engine into a folder, unless it is there.
pub(crate) fn save(image: &str, folder: &Path) -> Result<PathBuf> {
    let name: String = image.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = folder.join(format!("{name}.tar"));
    if !path.exists() {
        let new = folder.join(format!("{name}.new"));
        let what =
            format!("taking {image} from this machine's engine (`make images` makes those of the tests)");
        run(&what, Command::new("docker").args(["save", "--output"]).arg(&new).arg(image))?;
        std::fs::rename(&new, &path).map_err(crate::TestbedError::file("write", &path))?;
    }
    Ok(path)
}
