//! What comes in: JSON bodies, queries, names in paths. Every rejection is an `ErrorBody`.

use super::error::{ApiError, invalid};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
    response::IntoResponse,
};
use lattice_api::{ErrorBody, ErrorCode};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// A JSON body. An empty one reads as `{}`, so that optional fields need no body at all.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Raw::from_request(request, state).await?.0;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            invalid(
                format!("the body cannot be read: {error}"),
                "the API's document (/v1/openapi.json) says what it takes",
            )
            .into()
        })
    }
}

/// The bytes of a body, within the route's limit.
pub(crate) struct Raw(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejected: BytesRejection| {
            let body = match rejected.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    ErrorBody::new(ErrorCode::TooLarge, "the body is over its limit", "make it smaller")
                }
                _ => invalid("the body did not arrive as a whole", "send it again"),
            };
            body.into()
        })
    }
}

/// A query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejected| {
            let text = rejected.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            invalid(
                format!("the query cannot be read: {text}"),
                "the API's document (/v1/openapi.json) says what it takes",
            )
            .into()
        })
    }
}

/// The parts of a path by name.
pub(crate) struct Names(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid("the path cannot be read", "percent-encode UTF-8 in it"))?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Names {
    /// A part as it stands there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A part as a name or an id.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Result<T, ErrorBody>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name).parse().map_err(|error| invalid(format!("{error}"), "correct the path"))
    }

    /// `project` and `stack`.
    pub(crate) fn stack(&self) -> Result<lattice_model::StackKey, ErrorBody> {
        Ok(lattice_model::StackKey { project: self.get("project")?, stack: self.get("stack")? })
    }

    /// `project`, `stack` and `workload`.
    pub(crate) fn workload(&self) -> Result<lattice_model::WorkloadKey, ErrorBody> {
        Ok(self.stack()?.workload(self.get("workload")?))
    }
}
