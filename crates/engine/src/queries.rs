//! What the index answers, as the edges show it.

use runtree_core::event::RunStatus;
use runtree_core::lineage::Timeline;
use runtree_core::manifest::CheckpointName;
use runtree_core::{CheckpointId, Error, Result, RunId, Step, wire};

use crate::engine::Engine;

/// Which runs are wanted, in which order. The default is: all that are not deleted, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct RunQuery {
    /// Of this project alone.
    pub project: Option<String>,
    /// Of this lineage alone, by its root.
    pub root: Option<RunId>,
    /// Words that must all occur in display id, key, name, tags, notes or config.
    pub search: Option<String>,
    /// In one of these states; empty: any.
    pub statuses: Vec<RunStatus>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// The order.
    pub sort: RunSort,
    /// Whether it is turned round.
    pub descending: bool,
    /// At most this many.
    pub limit: usize,
    /// What the page before gave.
    pub cursor: Option<String>,
    /// Whether deleted runs are shown too.
    pub deleted: bool,
    /// Metrics whose latest values are wanted; `None`: all.
    pub metrics: Option<Vec<String>>,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self {
            project: None,
            root: None,
            search: None,
            statuses: Vec::new(),
            tags: Vec::new(),
            sort: RunSort::Created,
            descending: true,
            limit: 100,
            cursor: None,
            deleted: false,
            metrics: None,
        }
    }
}

/// What runs are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSort {
    /// Birth.
    Created,
    /// Newest sign of life.
    LastActivity,
    /// Name.
    Name,
    /// Display id: project, then number.
    DisplayId,
    /// Status.
    Status,
    /// Last effective step.
    LastStep,
    /// Latest effective value of a metric; runs without it last.
    Metric(String),
    /// A config key, by its dotted path; runs without it last.
    Config(String),
}

/// Which checkpoints are wanted besides a run's own complete ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointScope {
    /// Those of ancestors on the timeline.
    pub inherited: bool,
    /// Those with parts missing, and abandoned ones.
    pub pending: bool,
    /// Those in the trash.
    pub deleted: bool,
}

/// Where a run was last healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// The newest checkpoint before the first bad value; the newest at all if nothing is bad.
    pub checkpoint: Option<CheckpointName>,
    /// The first bad value: metric and step.
    pub bad: Option<(String, Step)>,
}

impl Engine {
    /// Projects by name.
    pub fn projects(&self) -> Result<Vec<wire::ProjectInfo>> {
        Err(Error::internal("not built yet"))
    }

    /// A page of runs.
    pub fn runs(&self, query: &RunQuery) -> Result<wire::RunPage> {
        let _ = query;
        Err(Error::internal("not built yet"))
    }

    /// A run, whole.
    pub fn run(&self, run: RunId) -> Result<wire::RunDetail> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// A run as lists show it.
    pub fn summary(&self, run: RunId) -> Result<wire::RunSummary> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// The family of a run.
    pub fn lineage(&self, run: RunId) -> Result<wire::LineageTree> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// The effective history of a run's newest attempt.
    pub fn timeline(&self, run: RunId) -> Result<Timeline> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// Checkpoints of a run, ascending by step.
    pub fn checkpoints(
        &self,
        run: RunId,
        scope: CheckpointScope,
    ) -> Result<Vec<wire::CheckpointInfo>> {
        let _ = (run, scope);
        Err(Error::internal("not built yet"))
    }

    /// One checkpoint, as the run that saved it sees it.
    pub fn checkpoint_info(&self, checkpoint: CheckpointName) -> Result<wire::CheckpointInfo> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// Lines of a run's console, oldest first.
    pub fn console(
        &self,
        run: RunId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<wire::ConsolePage> {
        let _ = (run, cursor, limit);
        Err(Error::internal("not built yet"))
    }

    /// The bytes of an attached file.
    pub fn read_file(&self, run: RunId, name: &str) -> Result<Vec<u8>> {
        let _ = (run, name);
        Err(Error::internal("not built yet"))
    }

    /// What differs between two runs: config and latest metrics.
    pub fn diff_runs(&self, a: RunId, b: RunId) -> Result<wire::DiffReport> {
        let _ = (a, b);
        Err(Error::internal("not built yet"))
    }

    /// How the newest resumed attempt repeats the ghost tail it replaced.
    pub fn resume_report(&self, run: RunId) -> Result<Option<wire::ResumeReport>> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// The newest checkpoint before the first non-finite or spiking value.
    pub fn last_good(&self, run: RunId, metric: Option<&str>) -> Result<LastGood> {
        let _ = (run, metric);
        Err(Error::internal("not built yet"))
    }

    /// The checkpoint with an id, whichever run saved it; deleted ones too.
    pub fn find_checkpoint(&self, id: CheckpointId) -> Result<CheckpointName> {
        let _ = id;
        Err(Error::internal("not built yet"))
    }
}
