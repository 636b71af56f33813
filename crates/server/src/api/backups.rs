//! Backups: how they are doing, one now, and a dump for whoever keeps it.

use super::{
    error::{ApiError, conflict, invalid},
    extract::Body,
    principal::Principal,
};
use crate::{
    backups::{gather, schedule},
    rows,
    state::{Core, core::store_refusal},
};
use axum::{
    Json,
    body::Body as Stream,
    extract::{Extension, State},
    http::header,
    response::{IntoResponse, Response},
};
use lattice_api::{BackupDump, BackupStatus, ErrorBody, ErrorCode};
use lattice_backup::{Lock, Reason, pipe, write};
use lattice_store::Transaction;
use std::sync::Arc;

/// The most recipients of a dump.
const MAX_RECIPIENTS: usize = 32;

pub(crate) async fn status(State(core): State<Arc<Core>>) -> Json<BackupStatus> {
    Json(schedule::status(&core))
}

pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<BackupStatus>, ApiError> {
    if core.config.backup.is_none() {
        let hint = "add a [backup] section to the server's configuration, or say where it goes: `lattice backup create --to PLACE`";
        return Err(conflict("the server has no place for backups", hint).into());
    }
    written(&core, &who, "backup.ask", "").await?;
    core.live.backups.ask();
    Ok(Json(schedule::status(&core)))
}

pub(crate) async fn dump(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Body(BackupDump { recipients }): Body<BackupDump>,
) -> Result<Response, ApiError> {
    if recipients.len() > MAX_RECIPIENTS {
        return Err(invalid(format!("more than {MAX_RECIPIENTS} recipients"), "give fewer").into());
    }
    let lock = Lock::recipients(&recipients)
        .map_err(|error| invalid(error.to_string(), "`lattice backup create` gives a key of its own"))?;
    // Before anything leaves: whoever has it has the cluster.
    written(&core, &who, "backup.dump", &format!("for {}", recipients.join(", "))).await?;
    let dump = gather(&core, Reason::Asked).await.map_err(|error| {
        tracing::error!(%error, "the control plane cannot be dumped");
        ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log and its disk")
    })?;
    let (mut writer, reader) = pipe();
    tokio::task::spawn_blocking(move || match write(&mut writer, &lock, &dump) {
        // That the client has gone is its own business.
        Ok(_) => drop(writer.end()),
        Err(error) => {
            tracing::warn!(%error, "a dump was given up");
            writer.fail(&error.to_string());
        }
    });
    // An error instead of a piece breaks the connection: half a dump never looks like a whole one.
    let pieces = futures::stream::try_unfold(reader, async |mut reader| {
        Ok::<_, lattice_backup::BackupError>(reader.next().await?.map(|bytes| (bytes, reader)))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Stream::from_stream(pieces)).into_response())
}

async fn written(core: &Core, who: &Principal, action: &str, details: &str) -> Result<(), ErrorBody> {
    let entry = who.audit(action, "backup", details);
    let applied = core.store.apply(Transaction::new([rows::create(&entry)])).await;
    applied.map(drop).map_err(|error| store_refusal(&error))
}
