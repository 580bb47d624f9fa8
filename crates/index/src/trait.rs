//! The two traits an index implements: [`Index`] takes facts, [`Snapshot`] answers.

use std::collections::{BTreeSet, HashSet};

use runtree_core::lineage::{AttemptFacts, AttemptId, AttemptSource};
use runtree_core::manifest::CheckpointName;
use runtree_core::wire::ProjectInfo;
use runtree_core::{CheckpointId, ProjectName, Result, RunId, Step, WriterId};
use runtree_metrics::{BlockSource, StoredBlock};

use crate::item::{FoldItem, JournalCursor, PinFacts};
use crate::query::{
    ConsoleQuery, Liveness, MediaQuery, MetricChoice, RunLookup, RunQuery, SeriesFilter, StepSpan,
};
use crate::row::{
    AlertCount, AlertRow, AttemptRow, CheckpointRow, ConsoleSlice, FileRow, KnownKeys, LabelRow,
    LostRow, MediaKeyRow, MediaRow, RunRow, RunSlice, SeriesId, SeriesRow, WriterRow,
};

/// A database that facts are folded into.
///
/// Safe to use from many threads and many processes at once. Needs no lock of its caller: a fold is one transaction, and an
/// item that another process folded first is skipped.
pub trait Index: Send + Sync {
    /// Folds items, all or none. Idempotent.
    ///
    /// # Errors
    /// `Conflict` if frames start where the index does not stand (nothing is folded: read [`Index::cursor`] and the journal
    /// again); `Unavailable` if the database stays locked or its disk fails.
    fn apply(&self, items: &[FoldItem]) -> Result<()>;

    /// How far the journal of `writer` was folded; the beginning if it never was.
    ///
    /// # Errors
    /// `Unavailable`.
    fn cursor(&self, run: RunId, writer: WriterId) -> Result<JournalCursor>;

    /// Writers of a run whose closing frame is folded: their journals grow no more.
    ///
    /// # Errors
    /// `Unavailable`.
    fn closed_writers(&self, run: RunId) -> Result<BTreeSet<WriterId>>;

    /// Every run that anything folded mentions.
    ///
    /// # Errors
    /// `Unavailable`.
    fn mentioned_runs(&self) -> Result<HashSet<RunId>>;

    /// What a [`FoldItem::Stamp`] remembered.
    ///
    /// # Errors
    /// `Unavailable`.
    fn stamp(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// All that [`FoldItem::Stamp`]s remembered under keys that begin with `prefix`, in any order.
    ///
    /// # Errors
    /// `Unavailable`.
    fn stamps(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;

    /// A consistent view of everything folded so far; later folds do not change it. Short-lived: it holds back the database's
    /// housekeeping while it lives.
    ///
    /// # Errors
    /// `Unavailable`.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>>;

    /// Forgets everything, so that all is folded again.
    ///
    /// # Errors
    /// `Unavailable`.
    fn clear(&self) -> Result<()>;
}

/// Answers questions about one moment. Lists are in a stated order; nothing depends on how facts were batched.
///
/// As an [`AttemptSource`] it loads a whole chain of bases at the first question, so that walks cost one query; as a
/// [`BlockSource`] it loads the points of the blocks that [`Snapshot::blocks`] listed.
pub trait Snapshot: AttemptSource + BlockSource + Send {
    /// Every project that has a run, by name.
    ///
    /// # Errors
    /// `Unavailable`, as every method here.
    fn projects(&self, liveness: Liveness) -> Result<Vec<ProjectInfo>>;

    /// What the runs of a project that are not deleted are described by, each sorted.
    ///
    /// # Errors
    /// `Unavailable`.
    fn known_keys(&self, project: &ProjectName) -> Result<KnownKeys>;

    /// A page of runs.
    ///
    /// # Errors
    /// `Invalid` if the cursor is not one of this query's.
    fn runs(&self, query: &RunQuery) -> Result<RunSlice>;

    /// Every run that a query holds for, in its order; its limit and cursor do not count.
    ///
    /// # Errors
    /// `Unavailable`.
    fn run_ids(&self, query: &RunQuery) -> Result<Vec<RunId>>;

    /// One run.
    ///
    /// # Errors
    /// `Unavailable`.
    fn run(&self, run: RunId, metrics: &MetricChoice, liveness: Liveness)
    -> Result<Option<RunRow>>;

    /// What people call some runs, in one question; those that are not there are left out.
    ///
    /// # Errors
    /// `Unavailable`.
    fn labels(&self, runs: &[RunId]) -> Result<Vec<LabelRow>>;

    /// The runs that `lookup` may mean, newest first; deleted ones included.
    ///
    /// # Errors
    /// `Unavailable`.
    fn find_runs(&self, project: Option<&ProjectName>, lookup: &RunLookup) -> Result<Vec<RunId>>;

    /// Launches of a run, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>>;

    /// Writers of a run's journals, by writer id.
    ///
    /// # Errors
    /// `Unavailable`.
    fn writers(&self, run: RunId) -> Result<Vec<WriterRow>>;

    /// Direct forks of a run (it is their owner or their declared parent), oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    fn children(&self, run: RunId) -> Result<Vec<RunId>>;

    /// Everything that shares a root, the root included, parents before children, then by birth.
    ///
    /// # Errors
    /// `Unavailable`.
    fn family(&self, root: RunId) -> Result<Vec<RunId>>;

    /// Checkpoints that a run saved itself, ascending by (step, attempt, k); pending, abandoned and deleted ones included.
    ///
    /// # Errors
    /// `Unavailable`.
    fn checkpoints(&self, run: RunId) -> Result<Vec<CheckpointRow>> {
        self.checkpoints_of(&[run])
    }

    /// [`Snapshot::checkpoints`] of several runs at once, run by run in any order of runs.
    ///
    /// # Errors
    /// `Unavailable`.
    fn checkpoints_of(&self, runs: &[RunId]) -> Result<Vec<CheckpointRow>>;

    /// The checkpoint with an id.
    ///
    /// # Errors
    /// `Unavailable`.
    fn find_checkpoint(&self, id: CheckpointId) -> Result<Option<CheckpointName>>;

    /// Checkpoints that a launch of one of `runs` found damaged and no later launch of that run loaded, its own and inherited ones, and what
    /// was hurt.
    ///
    /// # Errors
    /// `Unavailable`.
    fn damage(&self, runs: &[RunId]) -> Result<Vec<(CheckpointName, String)>>;

    /// Launches that start from a checkpoint of `run`: (launch, checkpoint), by launch.
    ///
    /// # Errors
    /// `Unavailable`.
    fn started_from(&self, run: RunId) -> Result<Vec<(AttemptId, CheckpointName)>>;

    /// Pins that stand, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    fn pins(&self) -> Result<Vec<PinFacts>>;

    /// Series of launches, by launch, metric, rank, precedence. Empty series do not exist.
    ///
    /// # Errors
    /// `Unavailable`.
    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesRow>>;

    /// Blocks of a series that meet `span`: disjoint, ascending, full but for the last, whose rest may still grow. Their points
    /// are loaded by id ([`BlockSource::load`]), in this snapshot only.
    ///
    /// The layout is canonical: block `i` holds the points `4096 i .. 4096 (i + 1)` in order of steps, however they arrived.
    ///
    /// # Errors
    /// `Corrupt` if what is stored can not be decoded.
    fn blocks(&self, series: SeriesId, span: StepSpan) -> Result<Vec<StoredBlock>>;

    /// Lines of a run's console, by (launch, time, writer, order of printing).
    ///
    /// # Errors
    /// `Invalid` if the cursor is none.
    fn console(&self, query: &ConsoleQuery) -> Result<ConsoleSlice>;

    /// Files attached to a run, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    fn files(&self, run: RunId) -> Result<Vec<FileRow>>;

    /// Names that a launch logged media under within some steps, by name and rank.
    ///
    /// # Errors
    /// `Unavailable`.
    fn media_keys(&self, attempt: AttemptId, span: StepSpan) -> Result<Vec<MediaKeyRow>>;

    /// Steps within `span` at which a launch logged media, of one (name, rank) or of any; ascending, each once.
    ///
    /// # Errors
    /// `Unavailable`.
    fn media_steps(
        &self,
        attempt: AttemptId,
        span: StepSpan,
        name: Option<(&str, Option<u32>)>,
    ) -> Result<Vec<Step>>;

    /// What a launch logged under a name, by step.
    ///
    /// # Errors
    /// `Unavailable`.
    fn media(&self, query: &MediaQuery) -> Result<Vec<MediaRow>>;

    /// The newest alerts of a run, at most `limit`, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    fn alerts(&self, run: RunId, limit: u32) -> Result<Vec<AlertRow>>;

    /// How many alerts a run has.
    ///
    /// # Errors
    /// `Unavailable`.
    fn alert_count(&self, run: RunId) -> Result<AlertCount>;

    /// Points that were dropped, by time.
    ///
    /// # Errors
    /// `Unavailable`.
    fn lost(&self, run: RunId) -> Result<Vec<LostRow>>;
}

impl AttemptSource for Box<dyn Snapshot + '_> {
    fn attempt(&self, id: AttemptId) -> Result<Option<AttemptFacts>> {
        self.as_ref().attempt(id)
    }
}
