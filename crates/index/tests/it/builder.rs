//! Builds facts: runs, launches, journals.

use std::collections::BTreeMap;

use runtree_core::event::{Event, Lamport, RunStatus};
use runtree_core::lineage::AttemptId;
use runtree_core::manifest::{
    AttemptKind, AttemptRecord, BasePoint, CheckpointName, CommitRecord, ForkOrigin, Outcome,
    RunRecord,
};
use runtree_core::{
    AttemptNumber, ComponentName, DisplayId, RunId, SaveKey, Step, Timestamp, WriterId,
};
use runtree_index::{
    FoldItem, Frame, FrameContent, FrameRange, Index, JournalCursor, Liveness, MetricChoice,
    PartFacts, RunRow, SeriesFilter, Snapshot, StepSpan,
};
use runtree_metrics::{BatchBuilder, Limits, Points, PointsBatch, SeriesName};
use serde_json::{Value, json};

/// The time of all tests: nothing is lost.
pub(crate) const NOW: Liveness = Liveness {
    now: Timestamp(1_000_000),
    lost_after_micros: 10_000_000,
};

pub(crate) fn run_id(n: u64) -> RunId {
    RunId::from_parts(n, u128::from(n) * 77)
}

pub(crate) fn attempt_id(n: u64, attempt: u32) -> AttemptId {
    AttemptId {
        run: run_id(n),
        attempt: AttemptNumber(attempt),
    }
}

pub(crate) fn base(n: u64, attempt: u32, step: i64) -> BasePoint {
    BasePoint {
        run: run_id(n),
        attempt: AttemptNumber(attempt),
        step: Step(step),
    }
}

pub(crate) fn key(attempt: u32, step: i64, k: u32) -> SaveKey {
    SaveKey {
        attempt: AttemptNumber(attempt),
        step: Step(step),
        k,
    }
}

pub(crate) fn record(n: u64, fork: Option<BasePoint>) -> RunRecord {
    RunRecord {
        run: run_id(n),
        project: "demo".parse().unwrap(),
        display_id: DisplayId::new("DEM", n).unwrap(),
        key: None,
        name: format!("run-{n}"),
        experiment: "demo".to_owned(),
        created: Timestamp(n as i64 * 10),
        fork: fork.map(|owner| ForkOrigin {
            declared: owner.run,
            owner,
            checkpoint: None,
        }),
        base: None,
        config: json!({}),
        inherited_config: Vec::new(),
        tags: Vec::new(),
        notes: None,
    }
}

pub(crate) fn born(record: RunRecord) -> FoldItem {
    FoldItem::RunBorn(Box::new(record))
}

pub(crate) fn attempt(n: u64, number: u32, base: Option<BasePoint>) -> FoldItem {
    let kind = match (&base, number) {
        (None, _) => AttemptKind::Start,
        (Some(_), 1) => AttemptKind::Fork,
        _ => AttemptKind::Resume,
    };
    FoldItem::Attempt(Box::new(AttemptRecord {
        run: run_id(n),
        attempt: AttemptNumber(number),
        base,
        checkpoint: None,
        kind,
        launch_key: format!("{n}-{number}"),
        created: Timestamp(n as i64 * 10 + i64::from(number)),
        launch: BTreeMap::new(),
    }))
}

/// A run with its first launch.
pub(crate) fn run(n: u64, fork: Option<BasePoint>) -> Vec<FoldItem> {
    vec![born(record(n, fork)), attempt(n, 1, fork)]
}

pub(crate) fn part(n: u64, key: SaveKey, rank: u32, ranks: u32) -> PartFacts {
    PartFacts {
        checkpoint: CheckpointName {
            run: run_id(n),
            key,
        },
        component: ComponentName::trainer(),
        rank,
        declared: BTreeMap::from([(ComponentName::trainer(), ranks)]),
        name: None,
        created: Timestamp(key.step.0),
        metrics: BTreeMap::new(),
        bytes: 100,
        tensors: 3,
        confirmed: true,
    }
}

pub(crate) fn commit(n: u64, key: SaveKey, outcome: Outcome) -> FoldItem {
    FoldItem::Commit(CommitRecord {
        run: run_id(n),
        key,
        outcome,
        parts: Vec::new(),
    })
}

/// A journal: frames that can be cut into ranges anywhere.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) run: u64,
    pub(crate) writer: WriterId,
    pub(crate) frames: Vec<Frame>,
}

impl Journal {
    /// A tool's journal.
    pub(crate) fn tool(run: u64, writer: u64) -> Self {
        Self {
            run,
            writer: WriterId::from_bits(writer),
            frames: Vec::new(),
        }
    }

    /// A process's journal, opened.
    pub(crate) fn opened(run: u64, attempt: u32, writer: u64, at: i64) -> Self {
        Self::tool(run, writer).event(Event::Opened {
            attempt: Some(AttemptNumber(attempt)),
            rank: 0,
            world_size: 1,
            at: Timestamp(at),
            process: BTreeMap::from([("host".to_owned(), format!("h{writer}"))]),
        })
    }

    fn push(mut self, content: FrameContent) -> Self {
        let ordinal = self.frames.len() as u64;
        self.frames.push(Frame { ordinal, content });
        self
    }

    pub(crate) fn event(self, event: Event) -> Self {
        self.push(FrameContent::Event(event))
    }

    pub(crate) fn points(self, points: &[(&str, i64, f64)]) -> Self {
        let named: Vec<_> = points
            .iter()
            .map(|&(metric, step, value)| (SeriesName::new(metric), step, value))
            .collect();
        self.batch(&named)
    }

    pub(crate) fn batch(self, points: &[(SeriesName, i64, f64)]) -> Self {
        self.push(FrameContent::Points(batch(points)))
    }

    pub(crate) fn status(self, lamport: u64, attempt: Option<u32>, status: RunStatus) -> Self {
        self.event(Event::Status {
            lamport: Lamport(lamport),
            attempt: attempt.map(AttemptNumber),
            status,
            reason: Some(format!("because {lamport}")),
            at: Timestamp(500),
        })
    }

    pub(crate) fn config(self, lamport: u64, patch: Value) -> Self {
        self.event(Event::Config {
            lamport: Lamport(lamport),
            patch,
        })
    }

    /// Where a reader stands before frame `ordinal`.
    pub(crate) fn cursor(&self, ordinal: usize) -> JournalCursor {
        match ordinal {
            0 => JournalCursor::default(),
            ordinal => JournalCursor {
                offset: ordinal as u64 * 100,
                ordinal: ordinal as u64,
                // Uses all 64 bits, as real hashes do.
                hash: (self.writer.to_bits() ^ ordinal as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            },
        }
    }

    pub(crate) fn range(&self, from: usize, to: usize) -> FoldItem {
        FoldItem::Frames(FrameRange {
            run: run_id(self.run),
            writer: self.writer,
            before: self.cursor(from),
            after: self.cursor(to),
            frames: self.frames[from..to].to_vec(),
        })
    }

    pub(crate) fn whole(&self) -> FoldItem {
        self.range(0, self.frames.len())
    }
}

pub(crate) fn batch(points: &[(SeriesName, i64, f64)]) -> PointsBatch {
    let mut builder = BatchBuilder::new();
    for (name, step, value) in points {
        let series = builder.series(name).unwrap();
        builder
            .push(Step(*step), Timestamp(*step), &[(series, *value)])
            .unwrap();
    }
    PointsBatch::decode(&builder.take().unwrap(), Limits::default()).unwrap()
}

/// Items that lie in one list, in one apply.
pub(crate) fn fold(index: &dyn Index, items: impl IntoIterator<Item = FoldItem>) {
    let items: Vec<_> = items.into_iter().collect();
    index.apply(&items).unwrap();
}

pub(crate) fn show(index: &dyn Index, n: u64) -> RunRow {
    index
        .snapshot()
        .unwrap()
        .run(run_id(n), &MetricChoice::All, NOW)
        .unwrap()
        .unwrap()
}

/// Points of one metric of one launch, of all its writers, as a reader merges them.
pub(crate) fn own_points(snapshot: &dyn Snapshot, id: AttemptId, metric: &str) -> Points {
    let filter = SeriesFilter {
        attempts: vec![id],
        metrics: vec![metric.to_owned()],
        system: None,
    };
    let mut merged = Points::new();
    for series in snapshot.series(&filter).unwrap() {
        for block in snapshot.blocks(series.id, StepSpan::ALL).unwrap() {
            merged = Points::merge(&merged, &snapshot.load(block.id).unwrap());
        }
    }
    merged
}

pub(crate) fn pairs(points: &Points) -> Vec<(i64, f64)> {
    points
        .iter()
        .map(|point| (point.step.0, point.value))
        .collect()
}
