//! Files in and out of containers: Docker's archive calls, which also work on containers that do
//! not run and have no `tar` of their own.

use super::{
    client::{Docker, QUICK},
    fault::unreachable,
    stream,
    wire::query_value,
};
use crate::{
    checks::checked,
    error::{Result, RuntimeError},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bollard::{body_stream, errors::Error};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use lattice_model::{Duration, container::ContainerId};
use serde::Deserialize;

/// The longest that unpacking an archive may take.
const LONG: Duration = Duration::from_secs(3600);
/// The most bytes of an engine's complaint that are read.
const MAX_COMPLAINT: usize = 64 << 10;
/// Go's bit for a folder in `FileMode`.
const IS_FOLDER: u64 = 1 << 31;

fn path_of(id: &ContainerId, path: &str) -> Result<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(RuntimeError::Refused {
            what: format!("files at {:?}", path.chars().take(80).collect::<String>()),
            message: "a path inside a container is absolute".to_owned(),
        });
    }
    let name = checked("container", &id.0)?;
    Ok(format!("/containers/{name}/archive?path={}", query_value(path)))
}

pub(super) async fn is_folder(engine: &Docker, id: &ContainerId, path: &str) -> Result<Option<bool>> {
    #[derive(Deserialize)]
    struct Stat {
        mode: u64,
    }
    let request = Request::builder().method(Method::HEAD).uri(path_of(id, path)?);
    let call = async { engine.wire().send(request.body(bollard::body_full(Bytes::new()))?).await };
    let response = engine.within(QUICK, || format!("files of container {}", id.0), call).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let stat = response.headers().get("x-docker-container-path-stat");
    let stat = stat.and_then(|value| BASE64_STANDARD.decode(value).ok());
    let stat = stat.and_then(|json: Vec<u8>| serde_json::from_slice::<Stat>(&json).ok());
    stat.map(|stat| Some(stat.mode & IS_FOLDER != 0)).ok_or_else(|| RuntimeError::Refused {
        what: format!("{path:?} in container {}", id.0),
        message: format!("the engine answered {}", response.status()),
    })
}

pub(super) async fn read(
    engine: &Docker,
    id: &ContainerId,
    path: &str,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let uri = path_of(id, path)?;
    let call = engine.wire().request::<()>(Method::GET, &uri, None, false);
    let what = || format!("{path:?} in container {}", id.0);
    let response = engine.within(QUICK, what, call).await?;
    let socket = engine.wire().socket().to_owned();
    let bytes = stream::body_bytes(response.into_body());
    Ok(bytes.map(move |read| read.map_err(|error| unreachable(&error, &socket))).boxed())
}

pub(super) async fn write(
    engine: &Docker,
    id: &ContainerId,
    folder: &str,
    archive: BoxStream<'static, Bytes>,
) -> Result<()> {
    write_within(LONG, engine, id, folder, archive).await
}

pub(super) async fn write_within(
    limit: Duration,
    engine: &Docker,
    id: &ContainerId,
    folder: &str,
    archive: BoxStream<'static, Bytes>,
) -> Result<()> {
    let uri = format!("{}&noOverwriteDirNonDir=1", path_of(id, folder)?);
    let request =
        Request::builder().method(Method::PUT).uri(uri).header(header::CONTENT_TYPE, "application/x-tar");
    let call = async {
        let response = engine.wire().send(request.body(body_stream(archive))?).await?;
        if response.status().is_success() { Ok(()) } else { Err(complaint(response).await) }
    };
    engine.within(limit, || format!("folder {folder:?} in container {}", id.0), call).await
}

pub(super) async fn complaint(response: Response<Incoming>) -> Error {
    let status_code = response.status().as_u16();
    let mut body = stream::body_bytes(response.into_body());
    let mut text = Vec::new();
    while let Some(Ok(bytes)) = body.next().await {
        if text.len() + bytes.len() > MAX_COMPLAINT {
            break;
        }
        text.extend_from_slice(&bytes);
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str()).map(str::to_owned);
    Error::DockerResponseServerError {
        status_code,
        message: message.unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned()),
    }
}
