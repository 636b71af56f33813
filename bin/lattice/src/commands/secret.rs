//! `secret`. Values come from a file, standard input or a prompt: an argument would stand in the
//! shell's history and in the list of processes.

use crate::{
    args::{SecretCommand, SecretSetArgs},
    context::Context,
    error::CliError,
    show,
    table::Table,
    terminal::{self, note},
};
use anyhow::Context as _;
use lattice_api::{MAX_SECRET_BYTES, SecretView, paths};
use std::io::{self, IsTerminal, Read};

/// `lattice secret …`.
pub(crate) async fn run(ctx: &Context, command: SecretCommand) -> anyhow::Result<()> {
    let project = ctx.project_or_default();
    match command {
        SecretCommand::Set(args) => {
            let view = ctx.client.set_secret(&project, &args.name, value(&args)?).await?;
            match (view.changed, ctx.is_json()) {
                (_, true) => ctx.json(&view)?,
                (Some(false), _) => {
                    note(&format!("{} has this value already (version {})", view.name, view.version));
                }
                _ => note(&told(&view, "is set")),
            }
        }
        SecretCommand::Versions(args) if ctx.is_json() => {
            ctx.list_json(&paths::secret_versions(&project, &args.name), &()).await?;
        }
        SecretCommand::Versions(args) => {
            let now = ctx.now();
            let mut table = Table::new(&["VERSION", "SET", "BY", "CURRENT"]);
            for version in ctx.client.secret_versions(&project, &args.name).await?.items {
                table.row([
                    version.version.to_string().into(),
                    format!("{} ago", show::age(version.set_at, now)).into(),
                    version.set_by.into(),
                    if version.current { "yes" } else { "" }.into(),
                ]);
            }
            ctx.table(&table, "")?;
        }
        SecretCommand::Rollback(args) => {
            let view = ctx.client.rollback_secret(&project, &args.name, args.version).await?;
            match (view.changed, ctx.is_json()) {
                (_, true) => ctx.json(&view)?,
                (Some(false), _) => {
                    note(&format!("{} has that value already (version {})", view.name, view.version))
                }
                _ => note(&told(&view, &format!("has the value of version {} again", args.version))),
            }
        }
        SecretCommand::RotateKey => {
            let done = ctx.client.rotate_key().await?;
            if ctx.is_json() {
                ctx.json(&done)?;
            } else {
                note(&format!(
                    "a new key ({}) seals; {} stored values are under it",
                    done.key, done.rewrapped
                ));
                if done.left > 0 {
                    note(&format!("{} are not yet; the server goes on by itself", done.left));
                }
                note(&format!(
                    "keep {0}: it has the new key, and the older ones until nothing needs them; a copy of it that you keep elsewhere has to be made anew",
                    done.file
                ));
                note(
                    "backups made before have the former key in them and need nothing else; make one now: `lattice backup create`",
                );
            }
        }
        SecretCommand::Ls if ctx.is_json() => ctx.list_json(&paths::secrets(&project), &()).await?,
        SecretCommand::Ls => {
            let now = ctx.now();
            let mut table = Table::new(&["NAME", "VERSION", "SET", "BY"]);
            for secret in ctx.client.secrets(&project).await?.items {
                table.row([
                    secret.name.as_str().into(),
                    secret.version.to_string().into(),
                    format!("{} ago", show::age(secret.updated_at, now)).into(),
                    secret.updated_by.into(),
                ]);
            }
            ctx.table(
                &table,
                &format!("Project {project} has no secret; `lattice secret set NAME` sets one."),
            )?;
        }
        SecretCommand::Rm(args) => {
            for name in &args.names {
                ctx.client.delete_secret(&project, name).await?;
                note(&format!("{name} is deleted"));
            }
        }
    }
    Ok(())
}

fn told(view: &SecretView, what: &str) -> String {
    format!(
        "{} {what} (version {}); files of running containers change, and services with `x-lattice: {{restart_on_secret: true}}` are updated",
        view.name, view.version
    )
}

fn value(args: &SecretSetArgs) -> anyhow::Result<Vec<u8>> {
    let limit = MAX_SECRET_BYTES as u64 + 1;
    let mut value = Vec::new();
    match &args.file {
        Some(file) => {
            let open = std::fs::File::open(file);
            open.and_then(|open| open.take(limit).read_to_end(&mut value))
                .with_context(|| format!("the file {} cannot be read; check --from-file", file.display()))?;
        }
        None if io::stdin().is_terminal() => {
            value = terminal::ask_hidden(&format!("Value of {} (not shown): ", args.name))?.into_bytes();
        }
        None => {
            io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut value)
                .context("standard input cannot be read")?;
        }
    }
    if value.is_empty() {
        return Err(
            CliError::Usage("the value is empty; give it by standard input or --from-file".into()).into()
        );
    }
    if value.len() > MAX_SECRET_BYTES {
        return Err(CliError::Usage(format!(
            "the value has more than the {MAX_SECRET_BYTES} bytes that a secret may have; put large data into a volume"
        ))
        .into());
    }
    Ok(value)
}
