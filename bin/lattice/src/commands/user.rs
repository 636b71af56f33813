//! `user` and `project`.

use crate::{
    args::{MemberCommand, ProjectCommand, QuotaArgs, UserCommand},
    commands::login::{new_password, secret},
    context::Context,
    show,
    table::{Cell, Style, Table},
    terminal::note,
};
use lattice_api::{
    InviteCreate, PasswordChange, ProjectCreate, ProjectView, QuotaChange, RolesChange, UserCreate, paths,
};
use lattice_model::{Binding, Place, Quota, Role};

/// `lattice user …`.
pub(crate) async fn user(ctx: &Context, command: UserCommand) -> anyhow::Result<()> {
    let client = &ctx.client;
    match command {
        UserCommand::Ls if ctx.is_json() => ctx.list_json(&paths::users(), &()).await?,
        UserCommand::Ls => {
            let now = ctx.now();
            let mut table = Table::new(&["NAME", "STATE", "ROLES", "SESSIONS", "SEEN", "CREATED BY"]);
            for user in client.users().await?.items {
                let state = match (user.disabled, user.has_password) {
                    (true, _) => Cell::new("disabled", Style::Warn),
                    (false, true) => Cell::new("active", Style::Good),
                    (false, false) => Cell::new("invited", Style::Dim),
                };
                table.row([
                    user.name.as_str().into(),
                    state,
                    show::roles(&user.roles).into(),
                    user.sessions.to_string().into(),
                    user.last_seen_at
                        .map_or_else(|| "-".to_owned(), |at| format!("{} ago", show::age(at, now)))
                        .into(),
                    user.created_by.into(),
                ]);
            }
            ctx.table(&table, "There is no user; `lattice user invite NAME --role admin` makes the first.")?;
        }
        UserCommand::Create(args) => {
            let password = if args.no_password { None } else { Some(new_password(args.name.as_str())?) };
            let view =
                client.create_user(&UserCreate { name: args.name, roles: args.roles, password }).await?;
            note(&format!("{} is: {}", view.name, show::roles(&view.roles)));
        }
        UserCommand::Invite(args) => {
            let request = InviteCreate { user: args.name, roles: args.roles, ttl_ms: Some(args.ttl.0) };
            let invite = client.create_invite(&request).await?;
            if ctx.is_json() {
                ctx.json(&invite)?;
            } else {
                ctx.line(&invite.url.0)?;
            }
            note(&format!(
                "{} opens it once, until {}, and sets a password; or runs `lattice login --invite --server URL` and gives the code.",
                invite.user,
                show::time(invite.expires_at, &ctx.zone)
            ));
        }
        UserCommand::Rm(args) => {
            for name in &args.names {
                client.delete_user(name).await?;
                note(&format!("{name} is removed, with sessions and API tokens"));
            }
        }
        UserCommand::Disable(args) => {
            for name in &args.names {
                note(&format!(
                    "{} is kept out; sessions and tokens ended",
                    client.disable_user(name).await?.name
                ));
            }
        }
        UserCommand::Enable(args) => {
            for name in &args.names {
                note(&format!("{} is let in again", client.enable_user(name).await?.name));
            }
        }
        UserCommand::Passwd(args) => {
            let who = client.whoami().await?;
            let own = who.credential == lattice_api::Credential::Session
                && (args.name.is_none() || args.name == who.user);
            let Some(name) = args.name.or(who.user) else {
                return Err(crate::error::CliError::Usage(
                    "whose password? The socket is nobody's: name a user".into(),
                )
                .into());
            };
            let current = if own { Some(secret("Present password (not shown): ")?) } else { None };
            let password = new_password(name.as_str())?;
            client.set_password(&name, &PasswordChange { password, current }).await?;
            note(&format!("the password of {name} is set; other sessions ended"));
        }
        UserCommand::Grant(args) => {
            let view = client.grant_roles(&args.name, &RolesChange { roles: args.roles }).await?;
            note(&format!("{} is: {}", view.name, show::roles(&view.roles)));
        }
        UserCommand::Revoke(args) => {
            let view = client.revoke_roles(&args.name, &RolesChange { roles: args.roles }).await?;
            note(&format!("{} is: {}", view.name, show::roles(&view.roles)));
        }
    }
    Ok(())
}

/// `used/limit`, or what is used alone.
fn of(used: impl ToString, limit: Option<impl ToString>) -> String {
    match limit {
        Some(limit) => format!("{}/{}", used.to_string(), limit.to_string()),
        None => used.to_string(),
    }
}

fn quota_line(project: &ProjectView) -> [String; 5] {
    let (used, quota) = (&project.used, &project.quota);
    [
        of(used.stacks, quota.stacks),
        of(used.replicas, quota.replicas),
        of(used.cpu, quota.cpu),
        of(used.memory, quota.memory),
        of(used.volumes, quota.volumes),
    ]
}

/// `lattice project …`.
pub(crate) async fn project(ctx: &Context, command: ProjectCommand) -> anyhow::Result<()> {
    let client = &ctx.client;
    match command {
        ProjectCommand::Ls if ctx.is_json() => ctx.list_json(&paths::projects(), &()).await?,
        ProjectCommand::Ls => {
            let mut table = Table::new(&[
                "NAME",
                "STACKS",
                "REPLICAS",
                "CPU",
                "MEMORY",
                "VOLUMES",
                "MEMBERS",
                "DESCRIPTION",
            ]);
            for project in client.projects().await?.items {
                let [stacks, replicas, cpu, memory, volumes] = quota_line(&project);
                table.row([
                    project.name.as_str().into(),
                    stacks.into(),
                    replicas.into(),
                    cpu.into(),
                    memory.into(),
                    volumes.into(),
                    project.members.len().to_string().into(),
                    project.description.into(),
                ]);
            }
            ctx.table(&table, "There is no project that you may see.")?;
        }
        ProjectCommand::Create(args) => {
            let request = ProjectCreate {
                name: args.name,
                description: args.description,
                quota: changed(Quota::default(), &args.quota),
            };
            note(&format!("project {} is made", client.create_project(&request).await?.name));
        }
        ProjectCommand::Rm(args) => {
            for name in &args.names {
                client.delete_project(name).await?;
                note(&format!("project {name} is removed"));
            }
        }
        ProjectCommand::Quota(args) => {
            let mut project = client.project(&args.name).await?;
            let quota = changed(if args.quota.none { Quota::default() } else { project.quota }, &args.quota);
            if quota != project.quota {
                project = client.set_quota(&args.name, &QuotaChange { quota }).await?;
            }
            if ctx.is_json() {
                return ctx.json(&project);
            }
            let mut table = Table::new(&["STACKS", "REPLICAS", "CPU", "MEMORY", "VOLUMES"]);
            table.row(quota_line(&project).map(Cell::from));
            ctx.table(&table, "")?;
        }
        ProjectCommand::Members(args) => {
            let role = |role: Role| Binding { role, place: Place::Project(args.name.clone()) };
            match args.command {
                None => {}
                Some(MemberCommand::Add(member)) => {
                    let change = RolesChange { roles: vec![role(member.role)] };
                    client.grant_roles(&member.user, &change).await?;
                }
                Some(MemberCommand::Rm(member)) => {
                    let change = RolesChange { roles: vec![role(member.role)] };
                    client.revoke_roles(&member.user, &change).await?;
                }
            }
            let project = client.project(&args.name).await?;
            if ctx.is_json() {
                return ctx.json(&project.members);
            }
            let mut table = Table::new(&["USER", "ROLES"]);
            for member in project.members {
                table.row([member.user.as_str().into(), show::roles(&member.roles).into()]);
            }
            ctx.table(
                &table,
                "Nobody has a role in this project alone; `lattice project members NAME add USER` gives one.",
            )?;
        }
    }
    Ok(())
}

/// A quota with what was said changed.
fn changed(quota: Quota, args: &QuotaArgs) -> Quota {
    Quota {
        cpu: args.cpus.or(quota.cpu),
        memory: args.memory.or(quota.memory),
        replicas: args.replicas.or(quota.replicas),
        volumes: args.volumes.or(quota.volumes),
        stacks: args.stacks.or(quota.stacks),
    }
}
