//! `x-lattice: {update: …}`: whether a new version is tried beside the old one, and how long it may take.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    yaml::{Entry, Mapping, Node},
};
use lattice_model::{
    Duration,
    spec::{
        BlueGreen, Canary, MAX_REPLICAS, Promote, Share, UpdateFailure, UpdatePolicy, UpdateStrategy,
        WorkloadSpec,
    },
};

/// How long a new version is watched where nothing is said.
const BAKE: Duration = Duration::from_secs(60);
/// How long the old set is kept where nothing is said.
const KEEP: Duration = Duration::from_secs(600);
/// The longest span: a day.
const MOST: Duration = Duration::from_secs(86_400);
/// The shortest deadline: a container that is started again counts after ten seconds.
const LEAST_DEADLINE: Duration = Duration::from_secs(10);

impl Reader<'_> {
    /// After `deploy` was read, whose `update_config` says the rest.
    pub(crate) fn x_update(&mut self, service: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let at = path.key("x-lattice");
        let entries = Self::said(service, "x-lattice").and_then(|entry| entry.value.as_mapping());
        let Some(entry) = entries.and_then(|entries| Self::said(entries, "update")) else { return };
        let at = at.key("update");
        let Some(map) = self.mapping(&entry.value, &at) else { return };
        self.check_keys(map, &at, &keys::LATTICE_UPDATE);
        if let Some(entry) = Self::said(map, "deadline") {
            spec.update.deadline = self.span(entry, &at.key("deadline"), LEAST_DEADLINE);
        }
        let Some(strategy) = self.strategy(map, &at) else { return };
        spec.update.strategy = strategy;
        if strategy.is_rolling() {
            return;
        }
        let config = Self::said(service, "deploy").and_then(|entry| entry.value.as_mapping());
        let config = config.and_then(|deploy| Self::said(deploy, "update_config"));
        let config = config.and_then(|entry| entry.value.as_mapping());
        match config.and_then(|config| Self::said(config, "failure_action")) {
            // What is tried goes back when it fails, unless somebody wants to look at it.
            None => spec.update.on_failure = UpdateFailure::Rollback,
            Some(said) if spec.update.on_failure == UpdateFailure::Continue => {
                let at = path.key("deploy");
                let at = at.key("update_config");
                let message = format!("a {} cannot go on whatever comes of it", strategy.as_str());
                let hint = "Write `pause` or `rollback`";
                self.error(Code::Conflict, said.key, at.key("failure_action"), message, hint);
            }
            Some(_) => {}
        }
        if let Some(why) = spec.cannot_run_beside() {
            let message =
                format!("a new version cannot run beside the old one ({}): {why}", strategy.as_str());
            let hint = "Change that, or write `strategy: rolling`";
            self.error(Code::Conflict, entry.key, at.key("strategy"), message, hint);
        }
    }

    fn strategy(&mut self, map: &Mapping, at: &Path<'_>) -> Option<UpdateStrategy> {
        let name = match Self::said(map, "strategy") {
            Some(entry) => self.text(&entry.value, &at.key("strategy"))?,
            None if Self::said(map, "canary").is_some() => "canary",
            None => "rolling",
        };
        let unused: &[&str] = match name {
            "rolling" => &["canary", "bake", "promote", "keep"],
            "canary" => &["keep"],
            "blue-green" => &["canary"],
            _ => {
                let entry = Self::said(map, "strategy")?;
                let what = "`rolling`, `canary` or `blue-green`";
                return self.expected(&entry.value, &at.key("strategy"), what, "");
            }
        };
        for key in unused {
            if let Some(entry) = Self::said(map, key) {
                let message = format!("it says nothing about an update that is `{}`", show(name));
                self.error(
                    Code::Conflict,
                    entry.key,
                    at.key(key),
                    message,
                    "Remove it, or change `strategy`",
                );
            }
        }
        let bake = match Self::said(map, "bake") {
            Some(entry) => self.span(entry, &at.key("bake"), Duration(0))?,
            None => BAKE,
        };
        let promote = match Self::said(map, "promote") {
            None => Promote::Auto,
            Some(entry) => match self.text(&entry.value, &at.key("promote"))? {
                "auto" => Promote::Auto,
                "manual" => Promote::Manual,
                _ => {
                    return self.expected(&entry.value, &at.key("promote"), "`auto` or `manual`", "");
                }
            },
        };
        Some(match name {
            "canary" => {
                let first = match Self::said(map, "canary") {
                    Some(entry) => self.share(&entry.value, &at.key("canary"))?,
                    None => Share::Count(1),
                };
                UpdateStrategy::Canary(Canary { first, bake, promote })
            }
            "blue-green" => {
                let keep = match Self::said(map, "keep") {
                    Some(entry) => self.span(entry, &at.key("keep"), Duration(0))?,
                    None => KEEP,
                };
                UpdateStrategy::BlueGreen(BlueGreen { bake, promote, keep })
            }
            _ => UpdatePolicy::default().strategy,
        })
    }

    /// `2`, or `20%`.
    fn share(&mut self, node: &Node, at: &Path<'_>) -> Option<Share> {
        let text = self.text(node, at)?;
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|n| (1..=100).contains(n)).map(Share::Percent),
            None => text.parse().ok().filter(|n| (1..=MAX_REPLICAS).contains(n)).map(Share::Count),
        };
        match share {
            Some(share) => Some(share),
            None => self.expected(node, at, "a number of replicas, or a share of them such as `20%`", ""),
        }
    }

    fn span(&mut self, entry: &Entry, at: &Path<'_>, least: Duration) -> Option<Duration> {
        let span = self.duration(&entry.value, at)?;
        if span < least || span > MOST {
            let message = format!("it is from {least} to {MOST}");
            self.error(Code::Invalid, entry.value.span, at, message, "Write a span within that");
            return None;
        }
        Some(span)
    }
}
