//! Refusals as HTTP: the code's status, `ErrorBody` as JSON.

use crate::state::Refused;
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use lattice_api::{ErrorBody, ErrorCode};

/// What a handler refuses with.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) ErrorBody);

impl<E: Into<ErrorBody>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = self.0.retry_after_ms.map(|wait| wait.div_ceil(1000));
        let mut response = (status, Json(self.0)).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// There is no such thing.
pub(crate) fn not_found(what: &str, name: &str, list: &str) -> ErrorBody {
    let shown: String = name.chars().take(80).collect();
    ErrorBody::new(
        ErrorCode::NotFound,
        format!("there is no {what} {shown:?}"),
        format!("`{list}` shows what there is"),
    )
}

/// There is no such thing, or whoever asks may not see it: the answer is the same.
pub(crate) fn not_seen() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NotFound,
        "there is no such thing, or you may not see it",
        "`lattice whoami` shows what you may do; an admin gives more (`lattice user grant`)",
    )
}

/// The request cannot be read.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidRequest, message, hint)
}

/// The present state does not allow it.
pub(crate) fn conflict(message: impl Into<String>, hint: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Conflict, message, hint)
}

/// Within a decision.
pub(crate) fn refuse<T>(body: ErrorBody) -> Result<T, Refused> {
    Err(Refused::Body(body))
}
