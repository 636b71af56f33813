//! `token` and `api-token`.

use crate::{
    args::{ApiTokenCommand, IdsArgs, TokenCommand, by_prefix},
    context::Context,
    error::CliError,
    show,
    table::{Cell, Style, Table},
    terminal::note,
};
use lattice_api::{ApiTokenCreate, JoinTokenCreate, TokenCreated, paths};
use lattice_model::{Binding, Role, Timestamp, TokenId};

/// `lattice token …`.
pub(crate) async fn join(ctx: &Context, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => {
            let request = JoinTokenCreate {
                pool: args.pool,
                ttl_ms: Some(args.ttl.0),
                uses: Some(args.uses),
                auto_approve: args.auto_approve,
                owner: args.owner,
                description: args.description,
            };
            let created = ctx.client.create_join_token(&request).await?;
            shown_once(ctx, &created)?;
            note(
                "Give it to `lattice-agent join` on the computer that is to join, by prompt, file or stdin.",
            );
            if !args.auto_approve {
                note("The computer then waits for `lattice node approve`.");
            }
            Ok(())
        }
        TokenCommand::Ls if ctx.is_json() => ctx.list_json(&paths::join_tokens(), &()).await,
        TokenCommand::Ls => {
            let now = ctx.now();
            let mut table =
                Table::new(&["ID", "POOL", "USED", "APPROVAL", "EXPIRES", "CREATED BY", "DESCRIPTION"]);
            for token in ctx.client.join_tokens().await?.items {
                let used_up = token.used >= token.uses;
                table.row([
                    token.id.short().into(),
                    token.pool.as_str().into(),
                    Cell::new(
                        format!("{}/{}", token.used, token.uses),
                        if used_up { Style::Dim } else { Style::Plain },
                    ),
                    if token.auto_approve { "automatic" } else { "by hand" }.into(),
                    expiry(Some(token.expires_at), now),
                    token.created_by.into(),
                    token.description.into(),
                ]);
            }
            ctx.table(&table, "There is no join token; `lattice token create` makes one.")
        }
        TokenCommand::Rm(args) => {
            let all = ctx.client.join_tokens().await?.items;
            for id in ids(&args, || all.iter().map(|token| token.id))? {
                ctx.client.delete_join_token(id).await?;
                note(&format!("removed {id}"));
            }
            Ok(())
        }
    }
}

/// `lattice api-token …`.
pub(crate) async fn api(ctx: &Context, command: ApiTokenCommand) -> anyhow::Result<()> {
    match command {
        ApiTokenCommand::Create(args) => {
            let roles = match args.roles.is_empty() {
                true => vec![Binding::everywhere(Role::Viewer)],
                false => args.roles,
            };
            let request = ApiTokenCreate { name: args.name, roles, ttl_ms: args.ttl.map(|ttl| ttl.0) };
            let created = ctx.client.create_api_token(&request).await?;
            shown_once(ctx, &created)?;
            note("Use it as LATTICE_TOKEN or in a file for --token-file.");
            Ok(())
        }
        ApiTokenCommand::Ls if ctx.is_json() => ctx.list_json(&paths::api_tokens(), &()).await,
        ApiTokenCommand::Ls => {
            let now = ctx.now();
            let mut table =
                Table::new(&["ID", "NAME", "OWNER", "ROLES", "EXPIRES", "LAST USED", "CREATED BY"]);
            for token in ctx.client.api_tokens().await?.items {
                table.row([
                    token.id.short().into(),
                    token.name.into(),
                    token.owner.map_or_else(|| "-".to_owned(), |owner| owner.to_string()).into(),
                    show::roles(&token.roles).into(),
                    expiry(token.expires_at, now),
                    token
                        .last_used_at
                        .map_or_else(|| "never".into(), |at| format!("{} ago", show::age(at, now)))
                        .into(),
                    token.created_by.into(),
                ]);
            }
            ctx.table(&table, "There is no API token; `lattice api-token create NAME` makes one.")
        }
        ApiTokenCommand::Rm(args) => {
            let all = ctx.client.api_tokens().await?.items;
            for id in ids(&args, || all.iter().map(|token| token.id))? {
                ctx.client.delete_api_token(id).await?;
                note(&format!("removed {id}"));
            }
            Ok(())
        }
    }
}

/// The token is data; what is said about it is not.
fn shown_once(ctx: &Context, created: &TokenCreated) -> anyhow::Result<()> {
    if ctx.is_json() {
        ctx.json(created)?;
    } else {
        ctx.line(&created.token)?;
    }
    let until = match created.expires_at {
        Some(at) => format!(" It works until {}.", show::time(at, &ctx.zone)),
        None => String::new(),
    };
    note(&format!("This is shown once; the server keeps only a hash (id {}).{until}", created.id.short()));
    Ok(())
}

fn expiry(at: Option<Timestamp>, now: Timestamp) -> Cell {
    match at {
        None => "never".into(),
        Some(at) if at <= now => Cell::new("expired", Style::Dim),
        Some(at) => format!("in {}", show::age(now, at)).into(),
    }
}

/// All of them or none: nothing is removed before every text is understood.
fn ids<I: Iterator<Item = TokenId>>(args: &IdsArgs, all: impl Fn() -> I) -> Result<Vec<TokenId>, CliError> {
    args.ids
        .iter()
        .map(|text| match by_prefix(all(), text).as_slice() {
            [id] => Ok(*id),
            [] => Err(CliError::NotFound {
                what: "token",
                name: text.clone(),
                hint: "the listing shows ids (`token ls`, `api-token ls`)".into(),
            }),
            several => Err(CliError::Ambiguous {
                name: text.clone(),
                candidates: several.iter().map(ToString::to_string).collect(),
            }),
        })
        .collect()
}
