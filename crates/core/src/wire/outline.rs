//! What can be asked for: names of metrics, config keys and tags, and what can be drawn of a run.

use serde::{Deserialize, Serialize};

use crate::id::{AttemptNumber, Step};

wire! {
    /// What the runs of a project are described by: for completion and for choosing columns.
    pub struct ProjectKeys {
        /// Users' metrics, by name.
        pub metrics: Vec<String>,
        /// Config keys, dotted.
        pub config: Vec<String>,
        /// Tags.
        pub tags: Vec<String>,
    }

    /// What can be drawn of a run.
    pub struct RunOutline {
        /// RunId.
        pub run: String,
        /// Users' metrics of the effective history, by name.
        pub metrics: Vec<String>,
        /// Abandoned tails of its launches.
        pub ghosts: Vec<GhostTail>,
    }

    /// What a launch logged beyond its stretch of the timeline.
    pub struct GhostTail {
        /// The launch.
        pub attempt: AttemptNumber,
        /// The first of its steps that is not on the timeline.
        pub from: Step,
    }
}
