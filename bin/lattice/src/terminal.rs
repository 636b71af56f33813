//! The person's side: stdout for data, stderr for everything else, questions, raw mode.

use crate::error::CliError;
use lattice_api::TerminalSize;
use std::io::{self, BufRead, IsTerminal, Write};

/// Writes data to stdout.
pub(crate) fn data(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::StdoutClosed.into()),
        other => Ok(other?),
    }
}

/// Writes a line for people to stderr. Nobody listening there is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes to stderr as it is.
pub(crate) fn note_raw(bytes: &[u8]) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(bytes).and_then(|()| err.flush());
}

/// Whether a stream is to have colours.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Asks a question; anything but `y` or `yes` is no.
///
/// # Errors
/// [`CliError::Usage`] when nobody is there to answer.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line.
///
/// # Errors
/// [`CliError::Usage`] when nobody is there to answer.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "this needs an answer ({}) and there is no terminal to give it; say --yes",
            question.trim()
        ))
        .into());
    }
    note_raw(question.as_bytes());
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks for a line that is not shown.
pub(crate) fn ask_hidden(question: &str) -> anyhow::Result<String> {
    note_raw(question.as_bytes());
    let mode = Mode::hidden()?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(mode);
    note("");
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) use mode::{Mode, size};

#[cfg(unix)]
mod mode {
    use super::TerminalSize;
    use rustix::{
        stdio::stdin,
        termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
    };

    /// Another mode of the terminal; the former one comes back when this is dropped.
    pub(crate) struct Mode(Termios);

    impl Mode {
        fn set(change: impl FnOnce(&mut Termios)) -> anyhow::Result<Self> {
            let former = tcgetattr(stdin())?;
            let mut mode = former.clone();
            change(&mut mode);
            tcsetattr(stdin(), OptionalActions::Flush, &mode)?;
            Ok(Self(former))
        }

        /// Every key goes to the program as it is.
        pub(crate) fn raw() -> anyhow::Result<Self> {
            Self::set(Termios::make_raw)
        }

        /// What is typed is not shown.
        pub(crate) fn hidden() -> anyhow::Result<Self> {
            Self::set(|mode| mode.local_modes.remove(LocalModes::ECHO))
        }
    }

    impl Drop for Mode {
        fn drop(&mut self) {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
        }
    }

    /// The terminal's size.
    pub(crate) fn size() -> Option<TerminalSize> {
        let size = tcgetwinsize(stdin()).ok()?;
        (size.ws_col > 0).then_some(TerminalSize { cols: size.ws_col, rows: size.ws_row })
    }
}

#[cfg(not(unix))]
mod mode {
    use super::{CliError, TerminalSize};

    /// Another mode of the terminal.
    pub(crate) struct Mode;

    impl Mode {
        fn refuse() -> anyhow::Result<Self> {
            Err(CliError::Failed(
                "terminals are not supported on this system yet; leave -t away, or pipe the input".into(),
            )
            .into())
        }

        pub(crate) fn raw() -> anyhow::Result<Self> {
            Self::refuse()
        }

        pub(crate) fn hidden() -> anyhow::Result<Self> {
            Self::refuse()
        }
    }

    pub(crate) fn size() -> Option<TerminalSize> {
        None
    }
}
