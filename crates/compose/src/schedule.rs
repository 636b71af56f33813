//! `x-lattice: {schedule: "30 2 * * *"}`: when a job runs by itself.

use crate::{
    keys,
    problem::{Code, show},
    read::{Path, Reader},
    yaml::{Mapping, Value},
};
use lattice_cron::{CronError, Times};
use lattice_model::spec::{Mode, Overlap, RestartPolicy, Schedule, WorkloadSpec};

impl Reader<'_> {
    /// After `deploy` and `restart` were read, which say whether it is a job.
    pub(crate) fn x_schedule(&mut self, service: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let at = path.key("x-lattice");
        let entries = Self::said(service, "x-lattice").and_then(|entry| entry.value.as_mapping());
        let Some(entry) = entries.and_then(|entries| Self::said(entries, "schedule")) else { return };
        let at = at.key("schedule");
        if spec.restart == RestartPolicy::Always {
            let message =
                "only a job has a schedule, and this is a service: it is started again whenever it ends";
            let hint =
                "Write `deploy: {mode: replicated-job}`, or `restart: \"no\"` or `restart: on-failure`";
            self.error(Code::Conflict, entry.key, at, message, hint);
        } else if spec.mode == Mode::Global {
            let message =
                "what runs once on each node has no schedule: nobody could say what a node has missed";
            self.error(Code::Conflict, entry.key, at, message, "Write `deploy: {mode: replicated-job}`");
        }
        let Value::Mapping(map) = &*entry.value.value else {
            let Some(cron) = self.text(&entry.value, &at) else { return };
            let schedule = Schedule::of(cron);
            if let Err(error) = Times::of(&schedule) {
                self.error(Code::Invalid, entry.value.span, at, error.to_string(), "");
            }
            spec.schedule = Some(schedule);
            return;
        };
        self.check_keys(map, &at, &keys::LATTICE_SCHEDULE);
        let Some(cron) = Self::said(map, "cron") else {
            let hint = "Write `{cron: \"30 2 * * *\", zone: Europe/Berlin}`";
            self.error(Code::Invalid, entry.value.span, at, "it says no times", hint);
            return;
        };
        let Some(text) = self.text(&cron.value, &at.key("cron")) else { return };
        let mut schedule = Schedule::of(text);
        let zone = Self::said(map, "zone");
        if let Some(entry) = zone {
            let Some(text) = self.text(&entry.value, &at.key("zone")) else { return };
            text.clone_into(&mut schedule.zone);
        }
        if let Some(entry) = Self::said(map, "overlap") {
            match self.text(&entry.value, &at.key("overlap")) {
                Some("skip") => {}
                Some("replace") => schedule.overlap = Overlap::Replace,
                Some("allow") => {
                    let message = "two runs of a job do not go on beside each other: a replica has one container at \
                                   a time, by which logs, volumes and the history name it";
                    let hint = "Write `skip` or `replace`; or several services, each with times of its own";
                    self.error(Code::NotSupported, entry.value.span, at.key("overlap"), message, hint);
                }
                Some(other) => {
                    let message = format!("expected `skip` or `replace`, found `{}`", show(other));
                    self.error(Code::Invalid, entry.value.span, at.key("overlap"), message, "");
                }
                None => {}
            }
        }
        let late = Self::said(map, "catch_up");
        if let Some(span) = late.and_then(|entry| self.duration(&entry.value, &at.key("catch_up"))) {
            schedule.catch_up = span;
        }
        if let Some(entry) = Self::said(map, "suspended") {
            schedule.suspended = self.boolean(&entry.value, &at.key("suspended")).unwrap_or(false);
        }
        if let Err(error) = Times::of(&schedule) {
            let (entry, key) = match &error {
                CronError::Zone { .. } => (zone.unwrap_or(cron), "zone"),
                CronError::CatchUp { .. } => (late.unwrap_or(cron), "catch_up"),
                _ => (cron, "cron"),
            };
            self.error(Code::Invalid, entry.value.span, at.key(key), error.to_string(), "");
        }
        spec.schedule = Some(schedule);
    }
}
