//! What is wrong with a schedule, for whoever wrote it.

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// No expression, or a very long one.
    #[error(
        "an expression has from 1 to {most} characters; write five fields, as in `*/5 * * * *`, or `@daily`"
    )]
    Length {
        /// The most characters.
        most: usize,
    },
    /// A `@name` that is not known, `@reboot` among them.
    #[error(
        "{name:?} is no time; there are @hourly, @daily (@midnight), @weekly, @monthly and @yearly (@annually)"
    )]
    Nickname {
        /// What was written.
        name: String,
    },
    /// Not five and not six fields.
    #[error(
        "it has {fields} fields; write `MINUTE HOUR DAY MONTH WEEKDAY`, as in `30 2 * * MON-FRI`, with a field of \
         seconds before them where that is wanted"
    )]
    Fields {
        /// How many it has.
        fields: usize,
    },
    /// A field that says nothing.
    #[error("{why}; as in cron, a field is `*`, a number, a range `1-5`, a list `1,15` or a step `*/10`")]
    Field {
        /// What is wrong, and where.
        why: String,
    },
    /// A date that there is not.
    #[error("it is never due: there is no such date in any year")]
    Never,
    /// More often than anything should be started.
    #[error(
        "it is due twice within {least}, and a job is started at most every {least}; a service runs all the time"
    )]
    TooOften {
        /// The least distance.
        least: lattice_model::Duration,
    },
    /// A time zone that nobody knows.
    #[error("there is no time zone {zone:?}; write its IANA name, as in `Europe/Berlin` or `UTC`")]
    Zone {
        /// What was written.
        zone: String,
    },
    /// A span that is too long.
    #[error("a run may be at most {most} late; leave `catch_up` out for ten minutes")]
    CatchUp {
        /// The most.
        most: lattice_model::Duration,
    },
}
