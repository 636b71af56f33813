//! Secrets: sealed where they are stored, given to the nodes that run what mounts them, and to
//! nobody else.

use super::{
    error::{ApiError, conflict, not_found, refuse},
    extract::{Names, Raw},
    principal::Principal,
    projects,
};
use crate::{
    clock,
    rows::{self, ProjectRow, Secret, secret_id},
    state::Core,
};
use axum::{
    Json,
    extract::{Extension, State},
    http::StatusCode,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_api::{ErrorBody, ErrorCode, List, SecretView};
use lattice_model::{ProjectName, SecretName};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

fn view(secret: &Secret) -> SecretView {
    let Secret { project, name, version, updated_at, updated_by, sealed: _ } = secret.clone();
    SecretView { project, name, version, updated_at, updated_by }
}

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    names: Names,
) -> Result<Json<List<SecretView>>, ApiError> {
    let project: ProjectName = names.get("project")?;
    let snapshot = core.snapshot();
    let items = snapshot.secrets.values().filter(|row| row.project == project).map(|row| view(row)).collect();
    Ok(Json(List { items, revision: snapshot.revision }))
}

pub(crate) async fn set(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Raw(value): Raw,
) -> Result<Json<SecretView>, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let id = secret_id(&project, &name);
    let sealed = core.master.seal(&format!("secret/{id}"), &value).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
    })?;
    let sealed = BASE64_STANDARD.encode(sealed);
    let done = core
        .commit(|snapshot| {
            let home = projects::must_exist(snapshot, &project)?;
            let old = snapshot.secrets.get(&id);
            // The same again is nothing new: a deployment sets what its file names each time, and no
            // container is to be replaced for it.
            if let (Some(old), Some(known)) = (old, core.secret(snapshot, &project, &name))
                && bool::from(known.reveal().ct_eq(&value))
            {
                return Ok((Vec::new(), view(old)));
            }
            let secret = Secret {
                project: project.clone(),
                name: name.clone(),
                version: old.map_or(1, |old| old.version + 1),
                updated_at: clock::now(),
                updated_by: who.name.clone(),
                sealed: sealed.clone(),
            };
            let write = match old {
                Some(old) => rows::update(&secret, old.revision),
                None => rows::create(&secret),
            };
            let audit = who.audit("secret.set", id.clone(), &format!("version {}", secret.version));
            let home = rows::check::<ProjectRow>(&project, Some(home.revision));
            Ok((vec![write, home, rows::create(&audit)], view(&secret)))
        })
        .await?;
    Ok(Json(done.value))
}

pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<StatusCode, ApiError> {
    let (project, name): (ProjectName, SecretName) = (names.get("project")?, names.get("name")?);
    let id = secret_id(&project, &name);
    core.commit(|snapshot| {
        let Some(old) = snapshot.secrets.get(&id) else {
            return refuse(not_found("secret", &id, "lattice secret ls"));
        };
        let user = snapshot.cluster.workloads().values().find(|row| {
            row.key.project == project && row.spec.secrets.iter().any(|mount| mount.secret == name)
        });
        if let Some(user) = user {
            return refuse(conflict(
                format!("{} mounts the secret {name}", user.key),
                "deploy it without the secret first",
            ));
        }
        let audit = who.audit("secret.delete", id.clone(), "");
        Ok((vec![rows::delete::<Secret>(&id, Some(old.revision)), rows::create(&audit)], ()))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
