//! What the engine answers and the edges show: one set of types for the JSON API, `--json` and Python.
//!
//! Field names are the contract of API v1 (snapshot-tested in `server`). Times are microseconds since the epoch, UTC; floats
//! that are not finite are the strings of [`JsonFloat`](crate::float::JsonFloat); ids are text.
//!
//! One module per thing that is shown (a run, its lineage, a checkpoint, tensors, a chart, a difference). Here: errors, and what is larger than a run.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::ErrorKind;

macro_rules! wire {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
        )*
    };
}

// Behind the macro, which they use.
mod checkpoint;
mod diff;
mod lineage;
mod media;
mod outline;
mod prune;
mod run;
mod series;
mod tensors;

pub use checkpoint::{CheckpointInfo, CheckpointState, PartInfo};
pub use diff::{ConfigChange, DiffReport, MetricPair, TensorChange, TensorChangeKind};
pub use lineage::{
    AttemptInfo, BaseInfo, ChildInfo, LineageRun, LineageTree, SegmentInfo, StepRange, SweepMetric,
    SweepTable,
};
pub use media::{
    AlertInfo, AlertSummary, MediaEntry, MediaItemInfo, MediaKey, MediaList, MediaPage, ProcessInfo,
};
pub use outline::{GhostTail, ProjectKeys, RunOutline};
pub use prune::{PruneDecisionInfo, PruneInfo};
pub use run::{
    ConsoleLine, ConsolePage, FileInfo, ForkRequest, LostPoints, MetricInfo, MetricValue,
    NonFinite, ResumeReport, RunDetail, RunLabel, RunMetric, RunPage, RunSummary,
};
pub use series::{
    AxisMode, MetricAxis, SeriesBuckets, SeriesRequest, SeriesResponse, SeriesSegment,
    SeriesSelector, XAxis,
};
pub use tensors::{EncodingKind, FiniteStatistics, TensorEncoding, TensorInfo, TensorStatistics};

wire! {
    /// The one error envelope of the API.
    pub struct ErrorBody {
        /// The error.
        pub error: ErrorDetail,
    }

    /// What went wrong and what to do next.
    pub struct ErrorDetail {
        /// What the caller must do.
        pub kind: ErrorKind,
        /// What went wrong.
        pub message: String,
        /// The exact next step.
        pub hint: Option<String>,
    }

    /// The store a server serves.
    pub struct StoreInfo {
        /// Store id.
        pub id: String,
        /// Where it is, as a user writes it.
        pub location: String,
        /// Version of the runtree that serves it.
        pub version: String,
        /// Whether this server may write (fork, pin, delete).
        pub writable: bool,
    }

    /// A view that somebody saved: what the address of a page says behind its path.
    pub struct SavedView {
        /// Its name, unique in the project.
        pub name: String,
        /// The query part of the address, without the question mark.
        pub query: String,
        /// When it was saved last.
        pub updated: Timestamp,
    }

    /// A project in a list.
    pub struct ProjectInfo {
        /// Name.
        pub name: String,
        /// Number of runs that are not deleted.
        pub runs: u64,
        /// Of them running now.
        pub running: u64,
        /// Newest activity of any run.
        pub last_activity: Option<Timestamp>,
    }
}
