//! Compose files, read for whoever has their text and no command line: the console's editor.
//!
//! What comes in is a text and variables; there is no disk, no environment of this process and no engine behind it,
//! so what a file wants of the computer that it stands on is refused. Nothing is stored, and nothing of the text is
//! logged. Deploying goes the way of everybody, with the specification that stands in the answer.

use super::{
    error::{ApiError, invalid},
    extract::{Body, Names},
    projects,
};
use crate::state::Core;
use axum::{Json, extract::State};
use lattice_api::{
    ComposeProblem, ComposeRead, ComposeSeverity, ComposeView, ErrorBody, ErrorCode, MAX_COMPOSE_VARIABLES,
};
use lattice_compose::{NoFiles, Options, Problem, Severity, Source, load};
use lattice_model::ProjectName;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many files are read at once; a reading takes far less than a second, and the next one waits.
static READING: Semaphore = Semaphore::const_new(2);

pub(crate) async fn read(
    State(core): State<Arc<Core>>,
    names: Names,
    Body(request): Body<ComposeRead>,
) -> Result<Json<ComposeView>, ApiError> {
    let project: ProjectName = names.get("project")?;
    projects::must_exist(&core.snapshot(), &project)?;
    if request.env.len() > MAX_COMPOSE_VARIABLES {
        let hint = format!("at most {MAX_COMPOSE_VARIABLES}; send those that the file names");
        return Err(invalid(format!("there are {} variables", request.env.len()), hint).into());
    }
    let ended = |why: &str| ErrorBody::new(ErrorCode::Internal, why, "send it again");
    let _turn = READING.acquire().await.map_err(|_| ended("the server is going down"))?;
    // A large file would hold up other requests on this thread.
    let view = tokio::task::spawn_blocking(move || view(&request)).await;
    Ok(Json(view.map_err(|_| ended("the reading ended early"))?))
}

fn view(request: &ComposeRead) -> ComposeView {
    let ComposeRead { source, name, env } = request;
    let variables = |name: &str| env.get(name).cloned();
    let profiles: Vec<String> = env
        .get("COMPOSE_PROFILES")
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(|profile| profile.trim().to_owned())
        .filter(|profile| !profile.is_empty())
        .collect();
    let options =
        Options { name: name.as_deref(), profiles: &profiles, local: false, ..Options::new(&variables) };
    let file = Source { name: "compose.yaml", text: source.as_bytes() };
    match load(&[file], &options, &NoFiles) {
        Ok(loaded) => ComposeView {
            name: Some(loaded.name),
            spec: Some(loaded.spec),
            problems: loaded.warnings.into_iter().map(problem).collect(),
        },
        Err(errors) => {
            ComposeView { name: None, spec: None, problems: errors.0.into_iter().map(problem).collect() }
        }
    }
}

fn problem(found: Problem) -> ComposeProblem {
    let Problem { file: _, line, column, path, code, message, hint, severity } = found;
    let code = serde_json::to_value(code).ok().and_then(|code| Some(code.as_str()?.to_owned()));
    let severity = match severity {
        Severity::Error => ComposeSeverity::Error,
        Severity::Warning => ComposeSeverity::Warning,
    };
    ComposeProblem { severity, line, column, path, code: code.unwrap_or_default(), message, hint }
}
