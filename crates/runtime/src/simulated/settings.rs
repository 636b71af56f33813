//! How an engine is: its images, its delays, and what goes wrong.

use super::program::Program;
use crate::port::EngineInfo;
use lattice_model::{Bytes, Duration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How an engine is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Delays and failures follow from it.
    pub seed: u64,
    /// What its clock says when it is made.
    pub epoch: Timestamp,
    /// How long its calls take.
    pub delays: Delays,
    /// What goes wrong from the start.
    pub faults: Faults,
    /// What it has, by reference.
    pub images: BTreeMap<String, Arc<Program>>,
    /// What it can pull, by reference.
    pub registry: BTreeMap<String, Arc<Program>>,
    /// What it can pull under every other reference.
    pub any_image: Option<Arc<Program>>,
    /// What it says about itself.
    pub info: EngineInfo,
}

impl Settings {
    /// An engine without images and faults, with some milliseconds for each call, whose clock is
    /// at `epoch` now.
    pub fn new(seed: u64, epoch: Timestamp) -> Self {
        Self {
            seed,
            epoch,
            delays: Delays::usual(),
            faults: Faults::default(),
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            any_image: None,
            info: EngineInfo {
                version: "0.0.0-simulated".to_owned(),
                api_version: "1.44".to_owned(),
                os: "linux".to_owned(),
                arch: "amd64".to_owned(),
                cpus: 8,
                memory: Bytes::from_mib(16 << 10),
                data_root: String::new(),
                security_options: Vec::new(),
                rootless: false,
                cgroup_version: Some(2),
                in_vm_guess: false,
                podman: false,
                missing_limits: Vec::new(),
                storage_driver: "simulated".to_owned(),
                runtimes: ["simulated".to_owned()].into(),
                default_runtime: "simulated".to_owned(),
                cdi_dirs: Vec::new(),
            },
        }
    }

    /// With an image that the engine has.
    #[must_use]
    pub fn with_image(mut self, image: &str, program: Program) -> Self {
        self.images.insert(full(image), Arc::new(program));
        self
    }
}

/// An image's reference with its tag.
pub(super) fn full(image: &str) -> String {
    let (name, tag) = crate::checks::image_parts(image);
    format!("{name}{}{tag}", if image.contains('@') { '@' } else { ':' })
}

/// From `min` to `max`, each as likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Span {
    /// Nothing.
    pub const ZERO: Self = Self { min: Duration(0), max: Duration(0) };

    /// In milliseconds.
    pub const fn millis(min: u64, max: u64) -> Self {
        Self { min: Duration(min), max: Duration(max) }
    }
}

/// How long calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// What only looks.
    pub look: Span,
    /// What makes or removes something, and a stop besides the time that the program takes.
    pub change: Span,
    /// A start.
    pub start: Span,
    /// A pull.
    pub pull: Span,
}

impl Delays {
    /// Everything at once.
    pub const fn none() -> Self {
        Self { look: Span::ZERO, change: Span::ZERO, start: Span::ZERO, pull: Span::ZERO }
    }

    /// About what an idle engine takes on a good disk.
    pub const fn usual() -> Self {
        Self {
            look: Span::millis(1, 3),
            change: Span::millis(5, 40),
            start: Span::millis(100, 300),
            pull: Span::millis(200, 4000),
        }
    }
}

/// What goes wrong. Each can be switched while the engine is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nobody answers, and streams end.
    pub unreachable: bool,
    /// Each call takes so much longer; over two minutes it is a timeout without an effect.
    pub slow: Duration,
    /// Of 1000 calls so many are refused without an effect.
    pub refused: u16,
    /// Of 1000 calls so many are carried out, and their answers are lost.
    pub lost: u16,
    /// Of 1000 events so many are lost.
    pub deaf: u16,
    /// There is no room for an image, a volume or a container.
    pub disk_full: bool,
    /// Ports of the host that somebody else has.
    pub ports_in_use: BTreeSet<u16>,
    /// What pulls meet, besides images that are not there.
    pub registry: Option<RegistryFault>,
}

/// What is wrong with the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryFault {
    /// It does not answer.
    Unreachable,
    /// It wants a login.
    Unauthorised,
}

/// Vigna's SplitMix64: small, good enough for delays, and the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn within(&mut self, span: Span) -> Duration {
        let width = span.max.0.saturating_sub(span.min.0).saturating_add(1);
        Duration(span.min.0 + self.next() % width)
    }

    /// True `share` times of 1000.
    pub(super) fn happens(&mut self, share: u16) -> bool {
        share > 0 && self.next() % 1000 < u64::from(share)
    }
}
