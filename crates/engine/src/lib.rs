//! The composer: what a run does, what a store answers. Everything the edges (Python, command line, server) call is here.
//!
//! The store is the truth and the index a cache of it (`fold`); the engine writes records and journals (`runs`, [`live`],
//! `annotate`, [`save`]), makes cold checkpoints small (`encode`), folds what it and others wrote, and answers (`queries`, `series`, [`load`], [`inspect`],
//! [`export`]). All calls are synchronous, take `&self` and may be made from any thread.
//!
//! Errors are [`runtree_core::Error`]: the kind says what the caller must do. Policy lives here, never in the edges; paths and
//! bytes live in `store`, tables in `index`, arithmetic on series in `metrics`.

mod annotate;
mod builder;
mod discover;
mod encode;
mod engine;
pub mod export;
mod fold;
pub mod gc;
pub mod inspect;
pub mod job;
pub mod layouts;
pub mod live;
pub mod load;
mod parallel;
mod picture;
mod python_json;
mod queries;
mod resolve;
mod retain;
mod runs;
pub mod save;
mod seal;
mod series;
mod settings;
mod ship;
pub mod sync;

pub use annotate::Annotation;
pub use builder::{OsEntropy, SystemClock};
pub use discover::discover_store;
pub use encode::{CostEstimate, EncodeReport};
pub use engine::{Engine, EngineOptions, Entropy, OpenMode, ScanOptions, open_store};
pub use export::{
    ExportLayout, ExportOptions, ExportReport, MetricsExport, MetricsFormat, MetricsReport,
    MetricsScope, glob_matches,
};
pub use fold::{ReindexProgress, ReindexReport};
pub use gc::{GcOptions, GcProgress, GcReport, Kept, RepairReport, TrashBound, Unreadable};
pub use inspect::{Sample, StatisticsScan, StatsReport, StatsRow, VerifyReport};
pub use layouts::{
    DirectoryLayout, ImportInto, ImportReport, Incoming, Place, RunExportReport, RunImport,
    RunLayout,
};
pub use live::{
    FinishReport, Health, MediaContent, MediaEntry, MediaSource, RunWriter, Warning, WarningKind,
};
pub use load::{
    DISTRIBUTED_STATE, Differing, FoundTensor, LoadedManifest, MAX_STRETCHES, ReadJob, RegionRead,
    ShardSource, WholeBlob, WholeRequest, WholeState, WholeTensor,
};
pub use picture::Pixels;
pub use queries::{
    CheckpointScope, LastGood, MediaContentInfo, MediaSelection, MetricFilter, RunColumn, RunQuery,
    RunSort, RunTable,
};
pub use resolve::{Purpose, Resolved};
pub use retain::{
    PolicyOrigin, PruneDecision, PrunePlan, PruneReport, RetentionScope, UnknownMetric,
};
pub use runs::{ForkChoice, ForkSpec, LaunchKey, LogRanks, ResumePolicy, RunSpec};
pub use runtree_index::ConsoleFilter;
pub use runtree_store::Store;
pub use runtree_store::remote::{RemoteAddress, Settings, fetch_object, list_objects};
pub use save::{
    EntrySource, IfBusy, PendingSave, Ready, SaveRequest, TensorData, TensorSource, leave_staging,
};
pub use seal::{SEAL_BYTES, SealReport};
pub use series::{HistoryColumns, HistoryQuery, HistoryStretch};
pub use ship::{RemoteReport, RemoteSpec};
