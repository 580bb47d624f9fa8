//! What a run logged besides numbers, as edges show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{AttemptNumber, Step};
use crate::media::{AlertLevel, MediaKind};

wire! {
    /// What media a run's history has.
    pub struct MediaList {
        /// Names, sorted.
        pub keys: Vec<MediaKey>,
        /// Steps at which anything was logged, ascending; of more than 10,000 every so many, the first and the last among them.
        pub steps: Vec<Step>,
    }

    /// A name that media were logged under.
    pub struct MediaKey {
        /// The name; of one rank it is `name[rank 3]`.
        pub name: String,
        /// What the newest entry is.
        pub kind: MediaKind,
        /// At how many steps.
        pub entries: u64,
        /// The first of them.
        pub first: Step,
        /// The last of them.
        pub last: Step,
        /// Whether this run logged some of it itself.
        pub own: bool,
    }

    /// A page of entries.
    pub struct MediaPage {
        /// Entries of one name, ascending by step.
        pub entries: Vec<MediaEntry>,
        /// First step of the next page, if there is one.
        pub next_step: Option<Step>,
    }

    /// What was logged under a name at a step.
    pub struct MediaEntry {
        /// The name.
        pub name: String,
        /// What all items are.
        pub kind: MediaKind,
        /// At which step.
        pub step: Step,
        /// When.
        pub at: Timestamp,
        /// RunId of the run that logged it.
        pub run: String,
        /// Its launch.
        pub attempt: AttemptNumber,
        /// Whether that is another run than the one asked for.
        pub inherited: bool,
        /// The items, in order.
        pub items: Vec<MediaItemInfo>,
    }

    /// A picture, text, histogram, table or file.
    pub struct MediaItemInfo {
        /// What its bytes are: `image/png`, `text/plain`, `application/json`.
        pub content_type: String,
        /// How many.
        pub bytes: u64,
        /// Words beside it.
        pub caption: Option<String>,
        /// A file's name.
        pub file_name: Option<String>,
        /// Pixels across.
        pub width: Option<u32>,
        /// Pixels down.
        pub height: Option<u32>,
        /// Hash of its first chunk: equal pictures have equal ones. None for what is inline.
        pub hash: Option<String>,
        /// The whole content, if it is short text; everything else is asked for.
        pub inline: Option<String>,
    }

    /// Something a program wanted to be seen.
    pub struct AlertInfo {
        /// In a few words.
        pub title: String,
        /// In more; may be empty.
        pub text: String,
        /// How much it matters.
        pub level: AlertLevel,
        /// The last step that was logged before.
        pub step: Option<Step>,
        /// When.
        pub at: Timestamp,
        /// The launch.
        pub attempt: AttemptNumber,
        /// The rank.
        pub rank: u32,
    }

    /// Alerts of a run, counted.
    pub struct AlertSummary {
        /// How many.
        pub count: u64,
        /// The level of the worst.
        pub worst: AlertLevel,
    }

    /// A process of a run.
    pub struct ProcessInfo {
        /// The launch it belongs to.
        pub attempt: AttemptNumber,
        /// Its rank.
        pub rank: u32,
        /// How many ranks its launch has.
        pub world_size: u32,
        /// When it began.
        pub opened: Option<Timestamp>,
        /// Newest sign of life.
        pub last_alive: Option<Timestamp>,
        /// When it said goodbye.
        pub closed: Option<Timestamp>,
        /// Host, pid, command line, versions, commit, GPUs.
        pub facts: BTreeMap<String, String>,
    }
}
