//! `completion` and `man`: what a shell and `man` know of this program, made from the same
//! definitions as the parser, so that they never tell another story.

use crate::{
    args::{Cli, ManArgs},
    error::CliError,
    terminal::{self, note},
};
use clap::CommandFactory;
use clap_complete::Shell;

/// `lattice completion`.
pub(crate) fn completion(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lattice", &mut script);
    terminal::data(&script)
}

/// `lattice man`: one page to stdout, or all of them into a folder.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(root, folder))
            .map_err(|error| CliError::Failed(format!("{}: {error}", folder.display())))?;
        note(&format!(
            "the pages are in {}; `man -l {}/lattice.1` shows one",
            folder.display(),
            folder.display()
        ));
        return Ok(());
    }
    let mut command = &root;
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| CliError::NotFound {
            what: "command",
            name: args.command.join(" "),
            hint: "`lattice --help` lists them".into(),
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    terminal::data(&page)
}
