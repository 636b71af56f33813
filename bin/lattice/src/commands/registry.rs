//! `registry`. A login is a secret of the project, named after the registry's host; so it is sealed,
//! has versions, and goes to the nodes that fetch images of that registry, and to no others.

use crate::{
    args::{RegistryCommand, RegistryLoginArgs},
    context::Context,
    error::CliError,
    show,
    table::Table,
    terminal::{self, note},
};
use anyhow::Context as _;
use lattice_model::{
    SecretName,
    goal::{RegistryLogin, SecretValue},
    spec::{registry_of_secret, registry_secret},
};
use std::io::{self, IsTerminal, Read};

/// The longest password or token.
const MAX_PASSWORD: u64 = 16 << 10;

fn secret(host: &str) -> anyhow::Result<SecretName> {
    registry_secret(host).ok_or_else(|| {
        CliError::Usage(format!(
            "{host:?} is no registry's host; write it as in the image's name: ghcr.io, registry.example:5000"
        ))
        .into()
    })
}

/// `lattice registry …`.
pub(crate) async fn run(ctx: &Context, command: RegistryCommand) -> anyhow::Result<()> {
    let project = ctx.project_or_default();
    match command {
        RegistryCommand::Login(args) => {
            let name = secret(&args.host)?;
            let password = SecretValue::new(password(&args)?);
            let login = RegistryLogin { username: args.username, password };
            let value = serde_json::to_vec(&login).context("the login cannot be written down")?;
            let view = ctx.client.set_secret(&project, &name, value).await?;
            if ctx.is_json() {
                ctx.json(&view)?;
            } else {
                note(&format!(
                    "nodes that fetch images of {} for the project {project} log in as {}; whether it is right shows when one does",
                    args.host, login.username
                ));
            }
        }
        RegistryCommand::Ls => {
            let now = ctx.now();
            let mut table = Table::new(&["REGISTRY", "SET", "BY"]);
            let mut logins = ctx.client.secrets(&project).await?.items;
            logins.retain(|secret| registry_of_secret(&secret.name).is_some());
            if ctx.is_json() {
                return ctx.json(&logins);
            }
            for login in logins {
                table.row([
                    registry_of_secret(&login.name).unwrap_or_default().into(),
                    format!("{} ago", show::age(login.updated_at, now)).into(),
                    login.updated_by.into(),
                ]);
            }
            let none = format!(
                "Project {project} logs in to no registry; `lattice registry login HOST -u USER` sets a login."
            );
            ctx.table(&table, &none)?;
        }
        RegistryCommand::Logout(args) => {
            ctx.client.delete_secret(&project, &secret(&args.host)?).await?;
            note(&format!("the login to {} is deleted", args.host));
        }
    }
    Ok(())
}

fn password(args: &RegistryLoginArgs) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    if io::stdin().is_terminal() {
        let question = format!("Password or token of {} at {} (not shown): ", args.username, args.host);
        value = terminal::ask_hidden(&question)?.into_bytes();
    } else {
        let read = io::stdin().lock().take(MAX_PASSWORD + 1).read_to_end(&mut value);
        read.context("standard input cannot be read")?;
    }
    // As `docker login --password-stdin` takes it.
    while value.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        value.pop();
    }
    if value.is_empty() || value.len() as u64 > MAX_PASSWORD || std::str::from_utf8(&value).is_err() {
        let text = "the password is empty, too long or no text; give it by standard input or at the prompt";
        return Err(CliError::Usage(text.into()).into());
    }
    Ok(value)
}
