//! `backup` and `migrate`. Passphrases come from a file, standard input or a prompt: an argument would
//! stand in the shell's history and in the list of processes.

use crate::{
    args::{
        BackupCommand, BackupCreateArgs, BackupReadArgs, BackupRestoreArgs, KeyArgs, MigrateArgs, PlaceArgs,
    },
    context::Context,
    error::CliError,
    show,
    table::{Cell, Style, Table, clean},
    terminal::{self, note},
    up::home_or_default,
};
use anyhow::Context as _;
use lattice_api::BackupDump;
use lattice_backup::{
    Found, Key, Label, Lock, Place, PlaceOptions, Session, State, list, load, name_of, passphrase, pipe,
    prune, save, transcode, verify, write,
};
use lattice_client::ClientError;
use lattice_server::{BackupConfig, MoveSide, RestoreTo, ServerConfig, dump_stopped};
use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often the server is asked whether its backup is made.
const LOOK: Duration = Duration::from_millis(200);
/// The longest passphrase or key file, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// `lattice backup …`.
pub(crate) async fn run(ctx: &Context, command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create(args) => create(ctx, args).await,
        BackupCommand::Ls(args) => ls(ctx, &args.place).await,
        BackupCommand::Verify(args) => check(ctx, args).await,
        BackupCommand::Restore(args) => restore(ctx, args).await,
    }
}

/// The place, and `[backup]` of the configuration where that names it.
fn place(args: &PlaceArgs) -> anyhow::Result<(Place, Option<BackupConfig>)> {
    let config = match &args.config {
        Some(path) if path.exists() => {
            ServerConfig::read(path, &home_or_default(None)?.join("server"))?.backup
        }
        _ => None,
    };
    let usual = config.as_ref().map(|config| config.options.clone()).unwrap_or_default();
    let options = PlaceOptions {
        endpoint: args.s3_endpoint.clone().or(usual.endpoint),
        region: args.s3_region.clone().or(usual.region),
        credentials_file: args.s3_credentials.clone().or(usual.credentials_file),
    };
    let of_config = config.as_ref().map(|config| config.url.clone());
    let url = args.place.clone().or(of_config).ok_or_else(|| {
        CliError::Usage(
            "say where the backups are: --place FOLDER or --place s3://BUCKET/PREFIX, or --config with a [backup] section"
                .into(),
        )
    })?;
    // What the configuration says of the key goes with its place alone.
    let config = config.filter(|config| config.url == url);
    Ok((Place::open(&url, &options)?, config))
}

fn read_limited(path: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    let mut text = zeroize::Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_KEY)
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
        return Ok(text);
    }
    let open = std::fs::File::open(path);
    open.and_then(|file| file.take(MAX_KEY).read_to_string(&mut text))
        .with_context(|| format!("the file {} cannot be read", path.display()))?;
    Ok(text)
}

/// The passphrase that is named, or that is typed; `twice` where nothing else would tell of a slip.
fn secret(
    args: &KeyArgs,
    config: Option<&BackupConfig>,
    twice: bool,
) -> anyhow::Result<lattice_backup::Passphrase> {
    let file =
        args.passphrase_file.as_deref().or(config.and_then(|config| config.passphrase_file.as_deref()));
    if let Some(file) = file {
        return Ok(passphrase(&read_limited(file)?)?);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "a backup is encrypted: give --passphrase-file FILE (- is standard input) or a key (--recipient to create, --identity to read)"
                .into(),
        )
        .into());
    }
    let first = zeroize::Zeroizing::new(terminal::ask_hidden("Passphrase of the backup (not shown): ")?);
    let given = passphrase(&first)?;
    if twice && *first != *zeroize::Zeroizing::new(terminal::ask_hidden("Once more: ")?) {
        return Err(CliError::Usage("the two are not the same".into()).into());
    }
    Ok(given)
}

fn lock(args: &KeyArgs, recipients: &[String], config: Option<&BackupConfig>) -> anyhow::Result<Lock> {
    let of_config = config.map(|config| config.recipients.as_slice()).unwrap_or_default();
    let recipients =
        if recipients.is_empty() && args.passphrase_file.is_none() { of_config } else { recipients };
    match recipients {
        [] => Ok(Lock::Passphrase(secret(args, config, true)?)),
        some => Ok(Lock::recipients(some)?),
    }
}

fn key(args: &KeyArgs, identity: Option<&PathBuf>, config: Option<&BackupConfig>) -> anyhow::Result<Key> {
    match identity {
        Some(file) => Ok(Key::identities(&read_limited(file)?)?),
        None => Ok(Key::Passphrase(secret(args, config, false)?)),
    }
}

async fn create(ctx: &Context, args: BackupCreateArgs) -> anyhow::Result<()> {
    let BackupCreateArgs { place: at, key, recipients, home, keep } = args;
    if at.place.is_none() && at.config.is_none() {
        return by_server(ctx).await;
    }
    let (place, config) = place(&at)?;
    let lock = lock(&key, &recipients, config.as_ref())?;
    let random = random()?;
    let label = match ctx.client.status().await {
        Ok(status) => {
            let session = Session::new();
            let mut stream =
                ctx.client.backup_dump(&BackupDump { recipients: vec![session.recipient()] }).await?;
            let (writer, reader) = pipe();
            let fed = async {
                while let Some(piece) = stream.next().await {
                    match piece {
                        // The reader's end says why it stopped.
                        Ok(bytes) => drop(writer.feed(bytes).await),
                        Err(error) => {
                            writer.give_up(&error.to_string()).await;
                            return Err(error);
                        }
                    }
                }
                let _ = writer.finish().await;
                Ok(())
            };
            let name = name_of(&status.name, ctx.now(), random);
            let kept = save(&place, &name, move |out| transcode(reader, &session.key(), out, &lock));
            let (fed, kept) = tokio::join!(fed, kept);
            fed?;
            kept?
        }
        Err(error @ ClientError::Unreachable { .. }) => {
            let Some(config) = stopped(&at, home.as_deref())? else { return Err(error.into()) };
            note("the server does not run: its folder is read directly");
            let dump = dump_stopped(&config, lattice_backup::Reason::Asked).await?;
            let name = name_of(&dump.header.cluster_name, dump.header.created_at, random);
            save(&place, &name, move |out| write(out, &lock, &dump)).await?
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(keep) = keep.or(config.map(|config| config.keep)) {
        for name in prune(&place, label.header.cluster_id, keep, ctx.now()).await? {
            note(&format!("{name} is removed: the newest {keep} are kept"));
        }
    }
    note(&format!("{} rows of revision {} are in {place}", label.rows, label.header.revision));
    told(ctx, &label)
}

fn told(ctx: &Context, label: &Label) -> anyhow::Result<()> {
    if ctx.is_json() { ctx.json(label) } else { ctx.line(&label.name) }
}

/// The installation on this machine, where there is one.
fn stopped(at: &PlaceArgs, home: Option<&Path>) -> anyhow::Result<Option<ServerConfig>> {
    let home = home_or_default(home.map(Path::to_owned))?.join("server");
    let config = match &at.config {
        Some(path) => ServerConfig::read(path, &home)?,
        None => ServerConfig::new(home),
    };
    Ok(config.home.is_dir().then_some(config))
}

fn random() -> anyhow::Result<[u8; 6]> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::Failed(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}

/// The server makes one, where its configuration says.
async fn by_server(ctx: &Context) -> anyhow::Result<()> {
    let before = ctx.client.backup_status().await?;
    ctx.client.create_backup().await?;
    loop {
        let status = ctx.client.backup_status().await?;
        if !status.running && status.attempted_at != before.attempted_at {
            if let Some(error) = status.error {
                return Err(CliError::Failed(format!("the server could not make the backup: {error}")).into());
            }
            let Some(last) = status.last else { continue };
            note(&format!(
                "{} rows of revision {} are in {}",
                last.rows,
                last.revision,
                status.place.unwrap_or_default()
            ));
            return if ctx.is_json() { ctx.json(&last) } else { ctx.line(&last.name) };
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ls(ctx: &Context, args: &PlaceArgs) -> anyhow::Result<()> {
    let (place, _) = place(args)?;
    let found = list(&place).await?;
    if ctx.is_json() {
        let view = |found: &Found| {
            let (state, problem) = words(&found.state);
            serde_json::json!({ "name": found.name, "state": state, "problem": problem, "label": found.label })
        };
        return ctx.json(&found.iter().map(view).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["NAME", "MADE", "CLUSTER", "REVISION", "ROWS", "SIZE", "STATE"]);
    for found in &found {
        let (state, problem) = words(&found.state);
        let style = if found.state == State::Good { Style::Good } else { Style::Bad };
        let state =
            problem.map_or_else(|| state.to_owned(), |problem| format!("{state}: {}", clean(problem)));
        let of = |view: fn(&Label) -> String| found.label.as_ref().map_or_else(|| "-".to_owned(), view);
        let made =
            found.label.as_ref().map_or_else(|| "-".into(), |l| show::time(l.header.created_at, &ctx.zone));
        table.row([
            found.name.as_str().into(),
            made.into(),
            of(|label| clean(&label.header.cluster_name)).into(),
            of(|label| label.header.revision.to_string()).into(),
            of(|label| label.rows.to_string()).into(),
            of(|label| lattice_model::Bytes(label.bytes).to_string()).into(),
            Cell::new(state, style),
        ]);
    }
    ctx.table(&table, &format!("{place} has no backup; `lattice backup create --place PLACE` makes one."))
}

fn words(state: &State) -> (&'static str, Option<&str>) {
    match state {
        State::Good => ("good", None),
        State::Broken(problem) => ("broken", Some(problem)),
        State::Unfinished => ("unfinished", None),
    }
}

async fn check(ctx: &Context, args: BackupReadArgs) -> anyhow::Result<()> {
    let BackupReadArgs { name, place: at, key: secret, identity } = args;
    let (place, config) = place(&at)?;
    let key = key(&secret, identity.as_ref(), config.as_ref())?;
    let runtime = tokio::runtime::Handle::current();
    let (label, found) = load(&place, name.as_deref(), move |input| verify(input, &key, &runtime)).await?;
    if ctx.is_json() {
        let view = serde_json::json!({
            "label": label, "rows": found.restored_rows, "kinds": found.manifest.kinds, "parts": found.manifest.parts,
        });
        return ctx.json(&view);
    }
    note(&format!(
        "{} is good: all of its {} parts are as they were written, and its {} rows of revision {} went into a scratch store",
        label.name,
        found.manifest.parts.len() + 1,
        found.restored_rows,
        label.header.revision
    ));
    ctx.line(&label.name)
}

async fn restore(ctx: &Context, args: BackupRestoreArgs) -> anyhow::Result<()> {
    let BackupRestoreArgs { name, place: at, key: secret, identity, home, replace } = args;
    let (place, config) = place(&at)?;
    let key = key(&secret, identity.as_ref(), config.as_ref())?;
    let to = RestoreTo { home: home_or_default(home)?.join("server"), config: at.config.clone(), replace };
    let restored = lattice_server::restore(&place, name.as_deref(), key, &to).await?;
    let header = &restored.label.header;
    if ctx.is_json() {
        let view = serde_json::json!({
            "label": restored.label, "home": restored.home, "incarnation": restored.incarnation,
            "rows": restored.rows, "blobs": restored.blobs, "settings": restored.settings, "replaced": restored.replaced,
        });
        return ctx.json(&view);
    }
    let age = show::age(header.created_at, ctx.now());
    note(&format!("restored {} ({} of {age} ago)", restored.label.name, clean(&header.cluster_name)));
    note(&format!(
        "  {} rows of revision {}, {} blobs and the keys are in {}; the incarnation is {}",
        restored.rows,
        header.revision,
        restored.blobs,
        restored.home.display(),
        restored.incarnation
    ));
    if let Some(replaced) = &restored.replaced {
        note(&format!("  what was there is in {}", replaced.display()));
    }
    if let Some(settings) = &restored.settings {
        note(&format!("  the old server's settings are in {}", settings.display()));
    }
    note("next:");
    note("  1. Be sure that the old server does not come back: it would be a second one of the same name.");
    note(
        "  2. Let the old server's name or address lead to this machine: agents dial what their token said.",
    );
    let server = match &at.config {
        Some(path) => format!("lattice server --config {}", path.display()),
        None => "lattice server (or lattice up)".to_owned(),
    };
    note(&format!(
        "  3. Start it: {server}. Agents come back by themselves, and what runs is not restarted."
    ));
    note(
        "  4. What was deployed after the backup was made is not in it, and is stopped where it runs: deploy it again.",
    );
    ctx.line(&restored.label.name)
}

/// `lattice migrate`.
pub(crate) async fn migrate(ctx: &Context, args: MigrateArgs) -> anyhow::Result<()> {
    let MigrateArgs { from, to, reopen, home } = args;
    let home = home_or_default(home)?.join("server");
    if let Some(side) = reopen {
        let side = MoveSide::read(&side, &home)?;
        match lattice_server::reopen(&side).await? {
            true => note(&format!("{side} counts again")),
            false => note(&format!("{side} was not marked as moved")),
        }
        return Ok(());
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(CliError::Usage("say --from and --to".into()).into());
    };
    let (from, to) = (MoveSide::read(&from, &home)?, MoveSide::read(&to, &home)?);
    let moved = lattice_server::migrate(&from, &to).await?;
    if ctx.is_json() {
        return ctx.json(&serde_json::json!({
            "from": from.to_string(), "to": to.to_string(), "rows": moved.rows, "revision": moved.revision,
            "sha256": moved.sha256,
        }));
    }
    note(&format!(
        "{} rows of revision {} are in {to}, compared on both sides (SHA-256 {})",
        moved.rows, moved.revision, moved.sha256
    ));
    note(&format!("{from} is kept and marked as moved; no server starts on it. Start the server with {to}."));
    ctx.line(&moved.rows.to_string())
}
