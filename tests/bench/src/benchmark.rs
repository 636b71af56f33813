//! What a benchmark is: its figures with their targets, and how they are measured.

use crate::{lab::Lab, select::Wanted};
use async_trait::async_trait;

/// One benchmark. To add one, write a file in `benchmarks/` and name it in [`crate::benchmarks::ALL`].
#[async_trait]
pub(crate) trait Benchmark: Sync {
    /// What it measures, for the line that says that it runs.
    fn about(&self) -> &'static str;

    /// What it yields. All names begin alike, up to a `/`, or are alone.
    fn figures(&self) -> &'static [Figure];

    /// What somebody has to give to it, as in `make bench ONLY=name DATA=folder`.
    fn arguments(&self) -> &'static [Argument] {
        &[]
    }

    /// Measures at least the figures that are wanted.
    ///
    /// # Errors
    /// Whatever keeps it from measuring. A target that is missed is none.
    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome>;

    /// What its figures have in common.
    fn name(&self) -> &'static str {
        let first = self.figures().first().map_or("", |figure| figure.name);
        first.split_once('/').map_or(first, |(family, _)| family)
    }
}

/// A number that a benchmark yields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Unique; people type it after `ONLY=`.
    pub(crate) name: &'static str,
    /// Of its value and of its reference.
    pub(crate) unit: &'static str,
    /// What it has to reach.
    pub(crate) target: Target,
}

/// What a figure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Its value is not above this.
    AtMost(f64),
    /// Its value is not below this.
    AtLeast(f64),
    /// Its value, divided by its reference, is not above this.
    RatioAtMost(f64),
}

/// Something that somebody has to give: a variable of make's command line, so of the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    /// As it is typed: `DATA`.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
}

impl Argument {
    /// What was given; empty is nothing.
    pub(crate) fn value(&self) -> Option<String> {
        std::env::var(self.name).ok().filter(|value| !value.is_empty())
    }
}

/// What a benchmark found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Its figures.
    pub(crate) measured: Vec<Measured>,
    /// What else is worth knowing; printed below the table.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Adds a figure that stands alone.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        self.measured.push(Measured { name, value, reference: None });
    }

    /// Adds a figure with what was measured beside it in the same run.
    pub(crate) fn compare(&mut self, name: &'static str, value: f64, reference: f64) {
        self.measured.push(Measured { name, value, reference: Some(reference) });
    }

    /// Adds something worth knowing.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// A figure's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// The figure's name.
    pub(crate) name: &'static str,
    /// In the figure's unit.
    pub(crate) value: f64,
    /// The same of the reference, where one was measured in this run.
    pub(crate) reference: Option<f64>,
}
