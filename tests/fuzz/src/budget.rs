//! How long a target tries. A fixed budget: inputs and seconds, whichever is used up first.

use std::{env, time::Duration};

/// What one target may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Inputs.
    pub inputs: usize,
    /// Time.
    pub time: Duration,
}

impl Budget {
    /// `LATTICE_FUZZ_INPUTS` and `LATTICE_FUZZ_SECONDS`, for each target; 20000 and 3 unless said.
    ///
    /// # Panics
    /// When one of them is no number: a budget that is misread would be none.
    pub fn of_environment() -> Self {
        let read = |name: &str, usual: u64| match env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
            Err(_) => usual,
        };
        Self {
            inputs: usize::try_from(read("LATTICE_FUZZ_INPUTS", 20_000)).unwrap_or(usize::MAX),
            time: Duration::from_secs(read("LATTICE_FUZZ_SECONDS", 3)),
        }
    }
}
