//! What the command line itself refuses, and how every error is shown.

use crate::terminal::note;
use lattice_api::ErrorCode;
use lattice_client::ClientError;
use std::process::ExitCode;

/// Something did not work.
pub(crate) const FAILED: u8 = 1;
/// It was asked for in a way that cannot be understood; clap uses the same.
pub(crate) const USAGE: u8 = 2;
/// There is no such thing.
pub(crate) const NOT_FOUND: u8 = 3;
/// Nobody answers.
pub(crate) const UNREACHABLE: u8 = 4;
/// Somebody pressed Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// What the command line itself refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Flags or names that make no sense together.
    #[error("{0}")]
    Usage(String),
    /// There is no such thing.
    #[error("there is no {what} {name:?}; {hint}")]
    NotFound { what: &'static str, name: String, hint: String },
    /// Several things have the name.
    #[error("{name:?} fits several: {}; write one of these in full", candidates.join(", "))]
    Ambiguous { name: String, candidates: Vec<String> },
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// Somebody pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(&'static str),
    /// Whoever read our output has gone, `head` for example. Not worth a word.
    #[error("standard output was closed")]
    StdoutClosed,
}

/// Shows an error and its causes, and says with which code to end.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = exit_code(error);
    if code != 0 {
        let mut text = error.to_string();
        // A hint stands behind the message; causes stand behind both.
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text.push_str("\n  because: ");
                text.push_str(&cause);
            }
        }
        note(&format!("error: {text}"));
    }
    ExitCode::from(code)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<CliError>() {
        return match error {
            CliError::Usage(_) | CliError::Ambiguous { .. } => USAGE,
            CliError::NotFound { .. } => NOT_FOUND,
            CliError::Failed(_) => FAILED,
            CliError::Interrupted(_) => INTERRUPTED,
            CliError::StdoutClosed => 0,
        };
    }
    match error.downcast_ref::<ClientError>() {
        Some(
            ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Untrusted { .. },
        ) => UNREACHABLE,
        Some(ClientError::Api(body)) if body.code == ErrorCode::NotFound => NOT_FOUND,
        Some(ClientError::Api(body)) if body.code == ErrorCode::Ambiguous => USAGE,
        Some(
            ClientError::InvalidEndpoint { .. } | ClientError::Authorities { .. } | ClientError::InvalidToken,
        ) => USAGE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_api::ErrorBody;

    #[test]
    fn codes_are_as_the_help_says() {
        let api = |code| ClientError::Api(ErrorBody::new(code, "m", ""));
        for (error, code) in [
            (anyhow::Error::from(CliError::Usage("x".into())), 2),
            (CliError::StdoutClosed.into(), 0),
            (api(ErrorCode::NotFound).into(), 3),
            (api(ErrorCode::Conflict).into(), 1),
            (
                ClientError::Unreachable {
                    place: "here".into(),
                    source: std::io::ErrorKind::NotFound.into(),
                }
                .into(),
                4,
            ),
            (anyhow::anyhow!("else"), 1),
            (anyhow::Error::from(api(ErrorCode::NotFound)).context("while looking"), 3),
        ] {
            assert_eq!(exit_code(&error), code, "{error}");
        }
    }
}
