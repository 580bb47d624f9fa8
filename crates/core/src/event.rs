//! What a journal holds besides points: control events, as JSON, one per frame.
//!
//! A journal has one writer (a process; a command that annotates a run is one too). Facts that only its writer can know (points,
//! console, health) stand in any order between writers. Fields that several writers may set (name, notes, tags, config, status) carry a
//! [`Lamport`] count: the fold takes the larger (count, writer id), whatever order journals are read in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::id::{AttemptNumber, SaveKey, Step};
use crate::manifest::ChunkRecord;
use crate::media::{AlertLevel, MediaItem, MediaKind};

/// A Lamport count: one more than the largest the writer had seen for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lamport(pub u64);

/// A control event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Always the first frame: who writes here.
    Opened {
        /// The launch this process belongs to; none for a tool.
        attempt: Option<AttemptNumber>,
        /// Its rank, 0 where there is one process.
        rank: u32,
        /// How many ranks its component has.
        world_size: u32,
        /// When.
        at: Timestamp,
        /// Host, pid, command line, versions, git commit; for people.
        process: BTreeMap<String, String>,
    },
    /// Nothing happened, but the process lives.
    Alive {
        /// When.
        at: Timestamp,
    },
    /// The start of this attempt's own history moved down, before its first point: points of the base from `first` on are not inherited.
    StartLowered {
        /// First step of this attempt's own history.
        first: Step,
    },
    /// A checkpoint was loaded.
    Loaded {
        /// The run that saved it, as text.
        run: crate::id::RunId,
        /// The save.
        key: SaveKey,
        /// When.
        at: Timestamp,
    },
    /// A checkpoint was damaged when it was loaded: later launches verify it before they resume from it, until one has loaded it.
    Damaged {
        /// The run that saved it.
        run: crate::id::RunId,
        /// The save.
        key: SaveKey,
        /// What is hurt, in words.
        what: String,
        /// When.
        at: Timestamp,
    },
    /// A hint that `commits/<key>` was written; the index confirms it by reading that.
    Saved {
        /// The save.
        key: SaveKey,
    },
    /// The run's name changed.
    Name {
        /// Its order.
        lamport: Lamport,
        /// The new name.
        name: String,
    },
    /// The notes changed.
    Notes {
        /// Its order.
        lamport: Lamport,
        /// The new notes; empty removes them.
        notes: String,
    },
    /// Tags were added or removed, each on its own.
    Tags {
        /// Its order.
        lamport: Lamport,
        /// Added.
        add: Vec<String>,
        /// Removed.
        remove: Vec<String>,
    },
    /// Config keys were set, deep-merged over what was there.
    Config {
        /// Its order.
        lamport: Lamport,
        /// A JSON object.
        patch: Value,
    },
    /// The run's status changed.
    Status {
        /// Its order.
        lamport: Lamport,
        /// The launch it speaks of; none from a tool.
        attempt: Option<AttemptNumber>,
        /// The status.
        status: RunStatus,
        /// Why, in words.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// Metric values given directly to a checkpoint, later ones winning per name.
    CheckpointMetrics {
        /// Its order.
        lamport: Lamport,
        /// The checkpoint.
        key: SaveKey,
        /// The values.
        #[serde(with = "crate::float::map")]
        metrics: BTreeMap<String, f64>,
    },
    /// Tags of a checkpoint.
    CheckpointTags {
        /// Its order.
        lamport: Lamport,
        /// The checkpoint.
        key: SaveKey,
        /// Added.
        add: Vec<String>,
        /// Removed.
        remove: Vec<String>,
    },
    /// The run was deleted, or brought back.
    Deleted {
        /// Its order.
        lamport: Lamport,
        /// Whether it is deleted now.
        deleted: bool,
        /// When.
        at: Timestamp,
    },
    /// Lines of the console.
    Console {
        /// `stdout` or `stderr`.
        stream: String,
        /// Time of the first line.
        at: Timestamp,
        /// The lines, without line ends.
        lines: Vec<String>,
    },
    /// A file was attached to the run.
    File {
        /// Its name in the run.
        name: String,
        /// Its length.
        bytes: u64,
        /// Its chunks, in order.
        chunks: Vec<ChunkRecord>,
        /// When.
        at: Timestamp,
    },
    /// Images, texts, histograms, tables or files were logged at a step, under a name like a metric's. The last word of a launch at (name, rank, step) counts.
    Media {
        /// The name.
        name: String,
        /// The rank, where ranks keep series of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank: Option<u32>,
        /// At which step.
        step: Step,
        /// When.
        at: Timestamp,
        /// What all items are.
        kind: MediaKind,
        /// The items, in order; at least one.
        items: Vec<MediaItem>,
    },
    /// The program said something that somebody should see.
    Alert {
        /// In a few words.
        title: String,
        /// More of them; may be empty.
        text: String,
        /// How much it matters.
        level: AlertLevel,
        /// The last step that was logged before.
        step: Option<Step>,
        /// When.
        at: Timestamp,
    },
    /// What was found out about the process after its journal was opened: added to `process` of `opened`.
    Environment {
        /// Facts by name.
        facts: BTreeMap<String, String>,
        /// When.
        at: Timestamp,
    },
    /// Points were dropped: the queue was full, or their step lay before the start.
    Lost {
        /// Why, in words.
        reason: String,
        /// How many, per metric.
        points: BTreeMap<String, u64>,
        /// When.
        at: Timestamp,
    },
    /// Always the last frame of a journal that was finished.
    Closed {
        /// When.
        at: Timestamp,
    },
    /// Something that a newer runtree writes. Read and passed over, never written.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Event {
    /// The chunks that an event names outside of every checkpoint: they are kept as long as the run is. Who decides what may be deleted asks here.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkRecord> {
        let (files, items): (&[ChunkRecord], &[MediaItem]) = match self {
            Self::File { chunks, .. } => (chunks, &[]),
            Self::Media { items, .. } => (&[], items),
            _ => (&[], &[]),
        };
        files
            .iter()
            .chain(items.iter().flat_map(|item| &item.chunks))
    }
}

/// How a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process of its newest attempt is alive.
    Running,
    /// Finished well.
    Completed,
    /// Finished with an exception, or by the user's word.
    Failed,
    /// Stopped by a signal or by the user.
    Stopped,
    /// Nothing was heard of it for a while, and it never said goodbye. Derived, never journaled as such by the run itself.
    Lost,
    /// A fork that nothing was logged to yet.
    Created,
}

impl RunStatus {
    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Created => "created",
        }
    }
}

impl std::str::FromStr for RunStatus {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Running,
            Self::Completed,
            Self::Failed,
            Self::Stopped,
            Self::Lost,
            Self::Created,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| {
            crate::Error::invalid(format!(
                "{text:?} is not a run status (completed, failed, stopped, lost)"
            ))
        })
    }
}
