//! What can go wrong between a client and the server.

use lattice_api::{ErrorBody, ErrorCode};
use std::{io, time::Duration};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach the Lattice server at {place}; is `lattice up` running?")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "the Lattice server at {place} did not answer within {} s; look at `lattice status` and the server's log",
        after.as_secs()
    )]
    Timeout {
        /// Where.
        place: String,
        /// How long.
        after: Duration,
    },
    /// The server refused, and says why.
    #[error(transparent)]
    Api(ErrorBody),
    /// The address is not one that can be used.
    #[error("the server address {text:?} {problem}")]
    InvalidEndpoint {
        /// As it was given.
        text: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Its certificate is not to be believed.
    #[error(
        "{place} is not believed to be the server that it says; if its certificate is of an authority of your own, name that with --ca-file"
    )]
    Untrusted {
        /// Where.
        place: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The authorities cannot be used.
    #[error("the authorities to believe cannot be used ({problem}); give certificates in PEM")]
    Authorities {
        /// What is wrong with them.
        problem: String,
    },
    /// The token cannot be one.
    #[error(
        "the API token is empty or has spaces in it; sign in with `lattice login`, or make one with `lattice api-token create`"
    )]
    InvalidToken,
    /// The request cannot be written down.
    #[error("the request cannot be sent; this is a fault of this program")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke.
    #[error("the connection to the Lattice server broke; try again")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what the API says.
    #[error(
        "the server's answer is not what this version understands ({what}); are `lattice` and the server of the same version?"
    )]
    Protocol {
        /// What was found.
        what: String,
    },
    /// The answer is larger than it may be.
    #[error("the server's answer is larger than {limit} bytes; ask for less at once")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
}

impl ClientError {
    /// The code of the server's refusal, where it is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(body) => Some(body.code),
            _ => None,
        }
    }

    pub(crate) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Broken(Box::new(error))
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::protocol(error.to_string())
    }
}

/// What a refusal says: its body, or what the status means where a proxy or a broken server wrote it.
pub(crate) fn refusal(status: u16, body: &[u8]) -> ClientError {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        return ClientError::Api(body);
    }
    ClientError::protocol(format!("HTTP status {status} without an explanation"))
}
