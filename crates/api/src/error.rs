//! The body of every refusal: a code for programs, a message and a hint for people.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What a request is refused with. The HTTP status is [`ErrorCode::status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// What happened and why, in a sentence.
    pub message: String,
    /// What to do next; empty where nothing can be advised.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Each single thing that is wrong, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Problem>,
    /// How long to wait before the next attempt, in milliseconds; also in `Retry-After`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorBody {
    /// A refusal with a hint and without details.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into(), details: Vec::new(), retry_after_ms: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Vec<Problem>) -> Self {
        self.details = details;
        self
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: lattice_model::Duration) -> Self {
        self.retry_after_ms = Some(wait.0);
        self
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for problem in &self.details {
            write!(f, "\n  {problem}")?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n{}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for ErrorBody {}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where in the body, as a path: `spec.workloads.web.ports`; empty when it is about the whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)+) => {
        /// What a refusal is about, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
            /// A code that this version does not know: a newer server's.
            #[serde(other)]
            Unknown,
        }

        impl ErrorCode {
            /// Every code that a server of this version sends.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As it is written in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Unknown => "unknown",
                }
            }

            /// The HTTP status that it travels with.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)+
                    Self::Unknown => 500,
                }
            }
        }
    };
}

codes! {
    /// The request cannot be read: not JSON, an unknown field, a bad name or number.
    InvalidRequest = "invalid_request", 400;
    /// The request is well formed and asks for what cannot be; `details` say what.
    InvalidSpec = "invalid_spec", 422;
    /// No credential, or one that is unknown or has expired.
    Unauthenticated = "unauthenticated", 401;
    /// The credential does not allow this, or Host or Origin is not one of this server's.
    Forbidden = "forbidden", 403;
    /// There is no such thing.
    NotFound = "not_found", 404;
    /// A name or prefix fits several things; `details` list them.
    Ambiguous = "ambiguous", 409;
    /// The present state does not allow this, e.g. a node that still has allocations.
    Conflict = "conflict", 409;
    /// The project may not use that much; `details` say of what, with use and limit.
    QuotaExceeded = "quota_exceeded", 409;
    /// What was given to be compared is not what is there, e.g. a key's fingerprint.
    Mismatch = "mismatch", 412;
    /// A stack names trees that its project has not uploaded; the `path` of each detail is a digest.
    MissingTrees = "missing_trees", 409;
    /// A stack names images that its project has not uploaded; the `path` of each detail is an id.
    MissingImages = "missing_images", 409;
    /// An image has layers that its project has not uploaded; the `path` of each detail is a digest.
    MissingLayers = "missing_layers", 409;
    /// The body is over its limit.
    TooLarge = "too_large", 413;
    /// A login by code that nobody has approved yet (RFC 8628): ask again after the interval.
    AuthorizationPending = "authorization_pending", 400;
    /// A login by code that is asked about too often (RFC 8628): wait longer from now on.
    SlowDown = "slow_down", 400;
    /// A login by code that is too old or unknown (RFC 8628): begin anew.
    ExpiredToken = "expired_token", 400;
    /// A login by code that a person turned away (RFC 8628).
    AccessDenied = "access_denied", 400;
    /// Too many requests of this kind at once.
    TooManyRequests = "too_many_requests", 429;
    /// The revision to watch from is no longer kept: list again, then watch from the list's revision.
    TooOld = "too_old", 410;
    /// This path knows no such method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// This server cannot do that.
    Unsupported = "unsupported", 501;
    /// The node that would have to answer is not connected.
    NodeOffline = "node_offline", 503;
    /// The server is starting, stopping, or cannot reach its store.
    Unavailable = "unavailable", 503;
    /// A fault of the server's; its log has more.
    Internal = "internal", 500;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_they_say() {
        for code in ErrorCode::ALL {
            let text = serde_json::to_string(code).unwrap();
            assert_eq!(text, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<ErrorCode>(&text).unwrap(), *code);
            assert!((400..600).contains(&code.status()), "{code}");
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"from_the_future\"").unwrap(), ErrorCode::Unknown);
    }

    #[test]
    fn a_refusal_reads_well() {
        let body =
            ErrorBody::new(ErrorCode::InvalidSpec, "the stack cannot run", "change it").with_details(vec![
                Problem {
                    hint: Some("at most 1000".into()),
                    ..Problem::at("workloads.web.replicas", "5000 are too many")
                },
            ]);
        assert_eq!(
            body.to_string(),
            "the stack cannot run\n  workloads.web.replicas: 5000 are too many (at most 1000)\nchange it"
        );
        assert_eq!(
            serde_json::to_string(&ErrorBody::new(ErrorCode::NotFound, "m", "")).unwrap(),
            r#"{"code":"not_found","message":"m"}"#
        );
    }
}
