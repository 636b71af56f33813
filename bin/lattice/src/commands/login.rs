//! `login`, `logout`, `whoami`.

use crate::{
    args::{ApproveLoginArgs, LoginArgs, LoginCommand, LogoutArgs},
    commands::interrupted,
    context::{Context, NamedServer},
    error::{CliError, INTERRUPTED},
    servers::{Remembered, Servers},
    show,
    table::clean,
    terminal::{self, note},
};
use lattice_api::{
    DeviceDecision, DevicePoll, DeviceStart, ErrorCode, Hidden, InviteAccept, Login, SessionCreated, paths,
};
use lattice_client::Client;
use std::{
    io::{self, IsTerminal, Read},
    process::ExitCode,
    time::Duration,
};

/// What a server is told of this computer, for the listing of sessions.
fn computer() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().chars().take(64).collect()
}

/// A secret from the terminal, which does not show it, or a line of standard input.
pub(crate) fn secret(question: &str) -> anyhow::Result<Hidden> {
    if io::stdin().is_terminal() {
        return Ok(Hidden(terminal::ask_hidden(question)?));
    }
    let mut text = String::new();
    io::stdin().lock().take(4096).read_to_string(&mut text)?;
    Ok(Hidden(text.lines().next().unwrap_or_default().to_owned()))
}

/// A new password: twice at a terminal, where nobody sees what they type.
pub(crate) fn new_password(whose: &str) -> anyhow::Result<Hidden> {
    let first = secret(&format!("New password of {whose} (not shown): "))?;
    if io::stdin().is_terminal() && secret("The same again: ")? != first {
        return Err(CliError::Usage("the two passwords differ; nothing was changed".into()).into());
    }
    Ok(first)
}

/// `lattice login …`.
pub(crate) async fn login(ctx: &Context, args: LoginArgs) -> anyhow::Result<ExitCode> {
    if let Some(LoginCommand::Approve(args)) = args.command {
        return approve(ctx, args).await.map(|()| ExitCode::SUCCESS);
    }
    let Some(server) = ctx.named_server() else {
        return Err(CliError::Usage(
            "the socket of this machine needs no login; name another server with --server https://HOST"
                .into(),
        )
        .into());
    };
    // A token from elsewhere is for other commands; a login begins as nobody.
    let client = Client::new(ctx.client.endpoint().clone(), None);
    let session = if args.invite {
        let code = secret("Invitation (not shown): ")?;
        if !io::stdin().is_terminal() {
            return Err(
                CliError::Usage("an invitation asks for a password, which needs a terminal".into()).into()
            );
        }
        let password = new_password("yours")?;
        client.accept_invite(&InviteAccept { code, password, client: computer(), cookie: false }).await?
    } else if let Some(user) = args.user {
        let password = secret(&format!("Password of {user} (not shown): "))?;
        client.login(&Login { user, password, client: computer(), cookie: false }).await?
    } else {
        let by_code = by_code(&client);
        tokio::select! {
            session = by_code => session?,
            () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
        }
    };
    remember(&server, session)?;
    Ok(ExitCode::SUCCESS)
}

async fn by_code(client: &Client) -> anyhow::Result<SessionCreated> {
    let begun = client.start_device_login(&DeviceStart { client: computer() }).await?;
    note(&format!("Open {}", clean(&begun.verification_uri)));
    note(&format!("and enter the code {}, or run where you are signed in:", clean(&begun.user_code)));
    note(&format!("  lattice login approve {}", clean(&begun.user_code)));
    let mut pause = Duration::from_millis(begun.interval_ms.clamp(500, 60_000));
    let question = DevicePoll { device_code: begun.device_code };
    loop {
        tokio::time::sleep(pause).await;
        match client.poll_device_login(&question).await {
            Ok(session) => return Ok(session),
            Err(error) => match error.code() {
                Some(ErrorCode::AuthorizationPending) => {}
                Some(ErrorCode::SlowDown) => pause += Duration::from_secs(2),
                Some(ErrorCode::TooManyRequests | ErrorCode::Unavailable) => pause += Duration::from_secs(1),
                _ => return Err(error.into()),
            },
        }
    }
}

fn remember(server: &NamedServer, session: SessionCreated) -> anyhow::Result<()> {
    let SessionCreated { id: _, token, csrf: _, user, expires_at } = session;
    let Some(token) = token else {
        let text = "the server kept the session's token to itself; it may be of another version";
        return Err(CliError::Failed(text.into()).into());
    };
    let mut servers = Servers::load()?;
    let user = user.map_or_else(|| "local".to_owned(), |user| user.to_string());
    let remembered = Remembered { user: user.clone(), token: token.0, expires_at, ca: server.ca.clone() };
    servers.servers.insert(server.url.clone(), remembered);
    servers.current = Some(server.url.clone());
    servers.save()?;
    note(&format!("{user} is signed in to {}; commands go there from now on", server.url));
    Ok(())
}

async fn approve(ctx: &Context, args: ApproveLoginArgs) -> anyhow::Result<()> {
    let decision = DeviceDecision { user_code: args.code, deny: args.deny };
    let decided = ctx.client.decide_device_login(&decision).await?;
    let what = if decided.approved { "is let in" } else { "is turned away" };
    note(&format!("{} at {} {what}", clean(&decided.client), clean(&decided.address)));
    Ok(())
}

/// `lattice console`: the link is data, so that it can be given to a program that opens it.
pub(crate) async fn console(ctx: &Context) -> anyhow::Result<()> {
    let link = ctx.client.create_console_link().await?;
    if ctx.is_json() {
        return ctx.json(&link);
    }
    ctx.line(&clean(&link.url.0))?;
    note("good once, for five minutes: whoever opens it is signed in as you");
    Ok(())
}

/// `lattice logout`.
pub(crate) async fn logout(ctx: &Context, args: LogoutArgs) -> anyhow::Result<()> {
    let mut servers = Servers::load()?;
    let Some(server) = ctx.named_server().filter(|server| servers.servers.contains_key(&server.url)) else {
        return Err(CliError::Usage("you are not signed in there; `lattice login` signs in".into()).into());
    };
    let user = servers.servers.get(&server.url).and_then(|known| known.user.parse().ok());
    let ended = match (args.all, user) {
        (true, Some(user)) => ctx.client.end_sessions(&user).await,
        _ => ctx.client.logout().await,
    };
    // Forgotten here in any case; a session that has ended already is no failure.
    servers.servers.remove(&server.url);
    if servers.current.as_deref() == Some(server.url.as_str()) {
        servers.current = None;
    }
    servers.save()?;
    match ended {
        Ok(()) => note(&format!("signed out of {}", server.url)),
        Err(error) if error.code() == Some(ErrorCode::Unauthenticated) => {
            note(&format!("the session on {} had ended already", server.url));
        }
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context("the session is forgotten here, and may be open there until it ends by itself"));
        }
    }
    Ok(())
}

/// `lattice whoami`.
pub(crate) async fn whoami(ctx: &Context) -> anyhow::Result<()> {
    if ctx.is_json() {
        return ctx.object_json(&paths::whoami()).await;
    }
    let who = ctx.client.whoami().await?;
    ctx.line(&clean(&who.name))?;
    ctx.line(&format!("  on     {}", ctx.client.endpoint()))?;
    ctx.line(&format!(
        "  roles  {}",
        if who.roles.is_empty() { "none".into() } else { show::roles(&who.roles) }
    ))?;
    if let Some(at) = who.expires_at {
        ctx.line(&format!("  until  {}", show::time(at, &ctx.zone)))?;
    }
    Ok(())
}
