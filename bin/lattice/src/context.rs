//! What every command needs: the client, the project, and how to write data.

use crate::{
    args::{Format, Global},
    error::CliError,
    servers::Servers,
    table::Table,
    terminal,
};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use lattice_api::{AllocationQuery, AllocationView, List, StackQuery, WorkloadQuery, paths};
use lattice_client::{API_SOCKET, ApiToken, Client, Endpoint, default_home};
use lattice_model::{ProjectName, StackKey, Timestamp, WorkloadKey};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// What every command needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    /// The server, where it is another one than this machine's socket.
    server: Option<NamedServer>,
    project: Option<ProjectName>,
    format: Format,
    /// Whether stdout has colours.
    pub(crate) colour: bool,
    /// The zone that times are shown in.
    pub(crate) zone: TimeZone,
}

/// A server that one signs in to.
#[derive(Clone, Debug)]
pub(crate) struct NamedServer {
    /// As the endpoint writes it.
    pub(crate) url: String,
    /// The authority that was named, PEM.
    pub(crate) ca: Option<String>,
}

/// Where commands go, and with what.
fn server(global: &Global) -> anyhow::Result<(Endpoint, Option<NamedServer>, Option<ApiToken>)> {
    let said = global.ca_file.as_ref().map(|file| {
        std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read; check --ca-file", file.display()))
    });
    let said = said.transpose()?;
    let servers = Servers::load()?;
    let here = std::env::var_os("LATTICE_HOME").is_some_and(|home| !home.is_empty());
    let text = match &global.server {
        Some(text) => Some(text.clone()),
        // Whoever names a home means the server that lives there.
        None if here => None,
        None => servers.current.clone(),
    };
    let Some(text) = text else {
        let home = default_home().ok_or_else(|| {
            CliError::Usage("neither HOME nor LATTICE_HOME is set, so the server's socket cannot be found; set LATTICE_HOME".into())
        })?;
        return Ok((Endpoint::Unix(home.join(API_SOCKET)), None, None));
    };
    let known = servers.find(&text);
    let (url, remembered) = known.map_or((text.as_str(), None), |(url, server)| (url, Some(server)));
    let ca = said.or_else(|| remembered.and_then(|server| server.ca.clone()));
    let endpoint = Endpoint::parse_with(url, ca.as_deref().map(str::as_bytes))?;
    if matches!(endpoint, Endpoint::Unix(_)) {
        return Ok((endpoint, None, None));
    }
    let url = endpoint.to_string();
    // `https://host` is remembered with its port.
    let remembered = remembered.or_else(|| servers.servers.get(&url));
    let token = remembered.map(|server| ApiToken::new(&server.token)).transpose()?;
    Ok((endpoint, Some(NamedServer { url, ca }), token))
}

impl Context {
    /// Reads flags and environment.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let (endpoint, server, remembered) = server(global)?;
        let token = match (&global.token_file, std::env::var("LATTICE_TOKEN")) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).with_context(|| {
                    format!("the token file {} cannot be read; check --token-file", file.display())
                })?;
                Some(ApiToken::new(&text)?)
            }
            (None, Ok(text)) if !text.is_empty() => Some(ApiToken::new(&text)?),
            _ => remembered,
        };
        Ok(Self {
            client: Client::new(endpoint, token),
            server,
            project: global.project.clone(),
            format: global.output,
            colour: terminal::colours(&std::io::stdout()),
            zone: TimeZone::system(),
        })
    }

    /// The server, where it is another one than this machine's socket.
    pub(crate) fn named_server(&self) -> Option<NamedServer> {
        self.server.clone()
    }

    /// Whether data is written for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The project that was named.
    pub(crate) fn project(&self) -> Option<&ProjectName> {
        self.project.as_ref()
    }

    /// The project that was named, else the default one.
    pub(crate) fn project_or_default(&self) -> ProjectName {
        self.project.clone().unwrap_or_else(ProjectName::default_project)
    }

    /// The project as a query takes it.
    pub(crate) fn project_query(&self) -> Option<String> {
        self.project.as_ref().map(ToString::to_string)
    }

    /// Now, by this machine's clock.
    pub(crate) fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The items of a listing, as the server wrote them.
    pub(crate) async fn list_json(&self, path: &str, query: &impl Serialize) -> anyhow::Result<()> {
        let list: List<serde_json::Value> = self.client.get(path, query).await?;
        self.json(&list.items)
    }

    /// Something, as the server wrote it.
    pub(crate) async fn object_json(&self, path: &str) -> anyhow::Result<()> {
        let object: serde_json::Value = self.client.get(path, &[("", ""); 0]).await?;
        self.json(&object)
    }

    /// JSON for programs.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        terminal::data(text.as_bytes())
    }

    /// A table for people; where it has no row, `empty` says what to do.
    pub(crate) fn table(&self, table: &Table, empty: &str) -> anyhow::Result<()> {
        if table.is_empty() {
            terminal::note(empty);
            return Ok(());
        }
        terminal::data(table.render(self.colour).as_bytes())
    }

    /// A line of data.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        terminal::data(format!("{text}\n").as_bytes())
    }

    /// The keys of all workloads, sorted.
    pub(crate) async fn workload_keys(&self) -> anyhow::Result<Vec<WorkloadKey>> {
        let list =
            self.client.workloads(&WorkloadQuery { project: self.project_query(), stack: None }).await?;
        let mut keys: Vec<_> = list.items.iter().map(crate::resolve::workload_key).collect();
        keys.sort();
        Ok(keys)
    }

    /// The stack that is meant.
    pub(crate) async fn stack(&self, text: &str) -> anyhow::Result<StackKey> {
        let list = self.client.stacks(&StackQuery { project: self.project_query() }).await?;
        let keys: Vec<_> = list.items.iter().map(crate::resolve::stack_key).collect();
        Ok(crate::resolve::stack(&keys, text, self.project())?)
    }

    /// The allocations that are meant.
    pub(crate) async fn targets(&self, text: &str) -> anyhow::Result<Vec<AllocationView>> {
        let query =
            AllocationQuery { project: self.project_query(), all: true, ..AllocationQuery::default() };
        let list: List<AllocationView> = self.client.get(&paths::allocations(), &query).await?;
        let found = crate::resolve::allocations(&list.items, text, self.project())?;
        Ok(found.into_iter().cloned().collect())
    }
}
