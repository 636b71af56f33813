//! Connections: made to the host that takes writes, with settings under which what is acknowledged
//! is durable and what is abandoned does not hold others up.

use super::{
    Fault,
    options::{PostgresError, Target},
    trouble,
};
use std::{
    future::{Future, poll_fn},
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time};
use tokio_postgres::{AsyncMessage, Client, Statement};
use uuid::Uuid;

/// How long an answer may take before the connection counts as lost. Also what a batch waits for
/// another server's, which holds the lock for milliseconds unless it imports.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a caller waits for a database that cannot be reached.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is told the text of each notification.
pub(super) type Heard = Box<dyn Fn(&str) + Send>;

/// A connection with its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    statements: Vec<Statement>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection on which each of `statements` is prepared.
    pub(super) async fn open(target: &Target, statements: &[&str]) -> Result<Self, Fault> {
        let (client, _) = connect(target, None).await?;
        let prepared =
            answer(futures::future::try_join_all(statements.iter().map(|sql| client.prepare(sql))));
        let statements = prepared.await?;
        Ok(Self { client, statements })
    }

    /// The statement at a place of the list with which this was opened.
    pub(super) fn statement(&self, at: usize) -> &Statement {
        &self.statements[at]
    }
}

/// Waits for the database, but not for ever.
pub(super) async fn answer<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    match time::timeout(ANSWER, asked).await {
        Ok(answered) => answered.map_err(Fault::of),
        Err(_) => Err(Fault::Lost(trouble("the database did not answer within 15 seconds"))),
    }
}

/// A connection, and the task that drives it until it ends; `heard` gets the text of each
/// notification.
pub(super) async fn connect(
    target: &Target,
    heard: Option<Heard>,
) -> Result<(Client, JoinHandle<()>), Fault> {
    let config = target.with_password().map_err(|error| Fault::Lost(Box::new(error)))?;
    let (client, mut connection) = answer(config.connect(target.tls.clone())).await?;
    // Ends with the client.
    let drive = tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(note)) => heard.iter().for_each(|heard| heard(note.payload())),
                Ok(AsyncMessage::Notice(notice)) => {
                    tracing::debug!(notice = notice.message(), "the database says something");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a connection to the store's database is gone");
                    break;
                }
            }
        }
    });
    answer(client.batch_execute(&settings(&target.schema))).await?;
    Ok((client, drive))
}

/// Those of a session.
fn settings(schema: &str) -> String {
    // Nobody may hold the lock of all writers while nobody is at the other end: idle in a
    // transaction, or behind a cable that was pulled. A commit that does not wait for the disk is no
    // commit here. And the tables grow from nothing, so plans go by indices from the start; what
    // that makes of the costs must not make it compile each statement.
    format!(
        "SET search_path TO \"{schema}\"; \
         SET idle_in_transaction_session_timeout = '10s'; \
         SET lock_timeout = 0; SET statement_timeout = '60s'; \
         SET default_transaction_isolation = 'read committed'; \
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
         SELECT set_config('tcp_user_timeout', '20s', false), set_config('client_connection_check_interval', '5s', false) \
            WHERE current_setting('server_version_num')::int >= 140000; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SET plan_cache_mode = force_generic_plan; SET jit = off"
    )
}

/// Pauses between attempts: longer each time, with a random part, so that the servers of a cluster
/// do not come all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    until: Instant,
}

impl Backoff {
    /// From now on, for [`PATIENCE`].
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, until: Instant::now() + PATIENCE }
    }

    /// Waits for the next attempt; false when it is time to give up.
    pub(super) async fn again(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let random = (Uuid::new_v4().as_u128() % 1000) as f64 / 1000.0;
        time::sleep(self.pause.mul_f64(0.5 + random / 2.0)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// The first connection of a store: waits for a database that is starting, not for one that says no.
pub(super) async fn first(target: &Target) -> Result<Client, PostgresError> {
    let mut backoff = Backoff::new();
    let mut told = false;
    loop {
        match connect(target, None).await {
            Ok((client, _)) => return Ok(client),
            Err(Fault::Lost(source)) => {
                if !told {
                    tracing::warn!(
                        error = chain(&*source),
                        store = target.name,
                        "the store cannot be reached yet"
                    );
                    told = true;
                }
                if !backoff.again().await {
                    return Err(PostgresError::Connect { store: target.name.clone(), source });
                }
            }
            Err(Fault::Refused(error)) => {
                return Err(PostgresError::Connect { store: target.name.clone(), source: Box::new(error) });
            }
            Err(Fault::Final(error)) => {
                return Err(PostgresError::Connect { store: target.name.clone(), source: Box::new(error) });
            }
        }
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
