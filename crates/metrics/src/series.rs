//! The stitch: what a series effectively is along a [`Timeline`](runtree_core::lineage::Timeline).
//!
//! The caller lists, for every segment, the blocks of that segment's attempt in order of arrival; payloads are loaded only where
//! they are needed. The result is a sequence of pieces in ascending steps that never overlap:
//!
//! - points outside their attempt's segment do not appear, however late they arrived;
//! - where blocks of one attempt overlap, the one that arrived later wins, step by step;
//! - at a base step, where two segments meet, the later segment's own point wins; without one, the earlier's counts.
//!   The blocks are those of one metric, so this is decided per metric.
//!
//! Exact history ([`Stitched::points`]) and charts ([`Stitched::buckets`]) read the same pieces.

use std::sync::{Arc, OnceLock};

use runtree_core::lineage::Segment;
use runtree_core::{Result, Step, Timestamp};

use crate::buckets::{self, Buckets, Query};
use crate::point::{Point, Points};
use crate::summary::{Summaries, Summary};

/// A block whose payload was not loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBlock {
    /// What the [`BlockSource`] knows it by.
    pub id: u64,
    /// Its summaries.
    pub summaries: Summaries,
}

/// Where payloads come from. Closures `Fn(u64) -> Result<Points>` are sources.
pub trait BlockSource {
    /// Loads the points of a block.
    ///
    /// # Errors
    /// Whatever reading it meets.
    fn load(&self, id: u64) -> Result<Points>;

    /// Loads the steps and timestamps of a block, for who knows its values from summaries. Implemented where that costs less.
    ///
    /// # Errors
    /// As [`BlockSource::load`].
    fn load_times(&self, id: u64) -> Result<Times> {
        self.load(id).map(|points| Times::of(&points))
    }
}

/// When the points of a block were logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    steps: Vec<i64>,
    timestamps: Vec<i64>,
}

impl Times {
    /// Those of some points.
    pub fn of(points: &Points) -> Self {
        Self {
            steps: points.steps().to_vec(),
            timestamps: points.timestamps().to_vec(),
        }
    }

    pub(crate) fn from_columns(steps: Vec<i64>, timestamps: Vec<i64>) -> Self {
        Self { steps, timestamps }
    }

    /// When the point at `step` was logged.
    pub fn at(&self, step: Step) -> Option<Timestamp> {
        let index = self.steps.binary_search(&step.0).ok()?;
        self.timestamps.get(index).copied().map(Timestamp)
    }
}

impl<F: Fn(u64) -> Result<Points>> BlockSource for F {
    fn load(&self, id: u64) -> Result<Points> {
        self(id)
    }
}

/// Takes the index of a segment, points, and which of them count.
pub type VisitPiece<'a> = dyn FnMut(usize, &Points, std::ops::Range<usize>) -> Result<()> + 'a;

/// A series stitched along a timeline.
#[derive(Clone, Debug)]
pub struct Stitched {
    pieces: Vec<Piece>,
    segments: Vec<Segment>,
}

/// Points of a stitched series and where each came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StitchedPoints {
    /// The points.
    pub points: Points,
    /// For each of them the index of its segment.
    pub segments: Vec<u32>,
}

/// A part of one block that counts.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) segment: usize,
    /// Steps that count, inclusive; the block may hang over on both sides.
    pub(crate) first: Step,
    pub(crate) last: Step,
    /// Of the whole block.
    summaries: Summaries,
    /// Of the points that count, once they were wanted and differ from `summaries`.
    effective: OnceLock<Summaries>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Stored(u64),
    /// Merged from overlapping blocks.
    Loaded(Arc<Points>),
}

impl Stitched {
    /// Stitches. `blocks[i]` are all blocks of this series that `segments[i].id` has, in order of arrival; they may overlap and
    /// may hang outside the segment. For the points of one attempt alone pass one segment.
    ///
    /// # Errors
    /// What `source` meets: payloads are loaded where blocks overlap, and to see whether there is a point at a base step.
    pub fn new(
        segments: &[Segment],
        blocks: Vec<Vec<StoredBlock>>,
        source: &dyn BlockSource,
    ) -> Result<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        // The step at which a later segment has a point of its own, if the segment before may have one there too.
        let mut taken: Option<Step> = None;
        for (index, (segment, blocks)) in segments.iter().zip(blocks).enumerate().rev() {
            let (first, mut last) = (segment.first, segment.last);
            if taken == Some(last) {
                if last == Step::MIN {
                    continue;
                }
                last = last.previous();
            }
            if first > last {
                // The whole segment was its base step, and it is taken already.
                continue;
            }
            let own = disjoint_pieces(index, first, last, blocks, source)?;
            let mut own_at_first = false;
            for piece in own.iter().filter(|piece| piece.first <= first) {
                own_at_first |= piece.has_point_at(first, source)?;
            }
            taken = own_at_first.then_some(first);
            pieces.extend(own.into_iter().rev());
        }
        pieces.reverse();
        Ok(Self {
            pieces,
            segments: segments.to_vec(),
        })
    }

    /// The segments it was stitched along.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The points at steps `first..=last`.
    ///
    /// # Errors
    /// What `source` meets.
    pub fn points(
        &self,
        first: Step,
        last: Step,
        source: &dyn BlockSource,
    ) -> Result<StitchedPoints> {
        let mut stitched = StitchedPoints::default();
        let inside = |piece: &&Piece| piece.last >= first && piece.first <= last;
        for piece in self.pieces.iter().filter(inside) {
            let points = piece.load(source)?;
            let range = points.range(piece.first.max(first), piece.last.min(last));
            let segments = stitched.segments.len() + range.len();
            stitched.segments.resize(segments, piece.segment as u32);
            stitched.points.extend_from(&points, range);
        }
        Ok(stitched)
    }

    /// Hands the points of some steps over, ascending and a block at once: the index of their segment, points, and which of them count. For who must not
    /// hold all of them.
    ///
    /// # Errors
    /// What `source` and `visit` meet.
    pub fn for_each_piece(
        &self,
        (first, last): (Step, Step),
        source: &dyn BlockSource,
        visit: &mut VisitPiece<'_>,
    ) -> Result<()> {
        let inside = |piece: &&Piece| piece.last >= first && piece.first <= last;
        for piece in self.pieces.iter().filter(inside) {
            let points = piece.load(source)?;
            let range = points.range(piece.first.max(first), piece.last.min(last));
            if !range.is_empty() {
                visit(piece.segment, &points, range)?;
            }
        }
        Ok(())
    }

    /// The point at exactly a step, and the index of its segment.
    ///
    /// # Errors
    /// What `source` meets.
    pub fn point_at(&self, step: Step, source: &dyn BlockSource) -> Result<Option<(Point, usize)>> {
        // Pieces ascend and do not overlap: at most one can hold the step.
        let index = self.pieces.partition_point(|piece| piece.last < step);
        let Some(piece) = self.pieces.get(index).filter(|piece| piece.first <= step) else {
            return Ok(None);
        };
        let point = piece.load(source)?.at(step);
        Ok(point.map(|point| (point, piece.segment)))
    }

    /// First and last step that has a point; `None` without points.
    ///
    /// # Errors
    /// What `source` meets: a payload is loaded where the first or last block hangs over its segment.
    pub fn ends(&self, source: &dyn BlockSource) -> Result<Option<(Step, Step)>> {
        // Pieces ascend: the outermost ones with points are enough, and the others need not be opened.
        let mut first = None;
        for piece in &self.pieces {
            first = piece.effective(source)?.as_slice().first();
            if first.is_some() {
                break;
            }
        }
        let mut last = None;
        for piece in self.pieces.iter().rev() {
            last = piece.effective(source)?.as_slice().last();
            if last.is_some() {
                break;
            }
        }
        Ok(first
            .zip(last)
            .map(|(first, last)| (first.step_first, last.step_last)))
    }

    /// The last point, and the index of its segment.
    ///
    /// # Errors
    /// What `source` meets.
    pub fn last_point(&self, source: &dyn BlockSource) -> Result<Option<(Point, usize)>> {
        for piece in self.pieces.iter().rev() {
            let points = piece.load(source)?;
            let last = points.range(piece.first, piece.last).next_back();
            if let Some(point) = last.and_then(|index| points.get(index)) {
                return Ok(Some((point, piece.segment)));
            }
        }
        Ok(None)
    }

    /// For every segment the timestamps of the first and last of its points that count; `None` where it has none.
    ///
    /// # Errors
    /// What `source` meets: a payload is loaded where a segment ends inside a block.
    pub fn time_spans(
        &self,
        source: &dyn BlockSource,
    ) -> Result<Vec<Option<(Timestamp, Timestamp)>>> {
        let mut spans = vec![None; self.segments.len()];
        for piece in &self.pieces {
            let subs = piece.effective(source)?.as_slice();
            if let (Some(first), Some(last)) = (subs.first(), subs.last()) {
                let (start, _) = spans[piece.segment].unwrap_or((first.time_first, last.time_last));
                spans[piece.segment] = Some((start, last.time_last));
            }
        }
        Ok(spans)
    }

    /// What a chart of some pixels draws.
    ///
    /// # Errors
    /// `Invalid` if the query is; what `source` meets.
    pub fn buckets(&self, query: &Query, source: &dyn BlockSource) -> Result<Buckets> {
        buckets::of(self, query, source)
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl Piece {
    pub(crate) fn load(&self, source: &dyn BlockSource) -> Result<Arc<Points>> {
        match &self.data {
            Data::Stored(id) => source.load(*id).map(Arc::new),
            Data::Loaded(points) => Ok(points.clone()),
        }
    }

    pub(crate) fn load_times(&self, source: &dyn BlockSource) -> Result<Times> {
        match &self.data {
            Data::Stored(id) => source.load_times(*id),
            Data::Loaded(points) => Ok(Times::of(points)),
        }
    }

    fn has_point_at(&self, step: Step, source: &dyn BlockSource) -> Result<bool> {
        if step < self.first || step > self.last {
            return Ok(false);
        }
        let subs = self.summaries.as_slice();
        let sub = subs.get(subs.partition_point(|sub| sub.step_last < step));
        let Some(sub) = sub.filter(|sub| sub.step_first <= step) else {
            return Ok(false);
        };
        // Full of points, so this one too; or at an end, where there is one.
        let span = sub.step_last.0.wrapping_sub(sub.step_first.0) as u64;
        if sub.step_first == step || sub.step_last == step || span == u64::from(sub.n) - 1 {
            return Ok(true);
        }
        Ok(self.load(source)?.at(step).is_some())
    }

    /// Summaries of the points that count. The payload is loaded, once, where a sub-block hangs over.
    pub(crate) fn effective(&self, source: &dyn BlockSource) -> Result<&Summaries> {
        if let Some(effective) = self.effective.get() {
            return Ok(effective);
        }
        let subs = self.summaries.as_slice();
        let start = subs.partition_point(|sub| sub.step_last < self.first);
        let end = subs.partition_point(|sub| sub.step_first <= self.last);
        let counted = subs.get(start..end).unwrap_or_default();
        let hangs_over = |sub: &Summary| sub.step_first < self.first || self.last < sub.step_last;
        if counted.len() == subs.len() && !counted.iter().any(hangs_over) {
            return Ok(&self.summaries);
        }
        let effective = if counted.iter().any(hangs_over) {
            let points = self.load(source)?;
            let cut = |sub: &Summary| {
                if !hangs_over(sub) {
                    return Some(*sub);
                }
                let first = sub.step_first.max(self.first);
                Summary::of(&points, points.range(first, sub.step_last.min(self.last)))
            };
            Summaries::of_some(counted.iter().filter_map(cut))
        } else {
            Summaries::of_some(counted.iter().copied())
        };
        Ok(self.effective.get_or_init(|| effective))
    }
}

/// The blocks of one attempt as pieces by ascending step; those that overlap are loaded and merged in order of arrival.
fn disjoint_pieces(
    segment: usize,
    first: Step,
    last: Step,
    blocks: Vec<StoredBlock>,
    source: &dyn BlockSource,
) -> Result<Vec<Piece>> {
    struct Block {
        first: Step,
        last: Step,
        arrival: usize,
        stored: StoredBlock,
    }
    let mut sorted: Vec<Block> = Vec::with_capacity(blocks.len());
    for (arrival, stored) in blocks.into_iter().enumerate() {
        let subs = stored.summaries.as_slice();
        let (Some(low), Some(high)) = (subs.first(), subs.last()) else {
            continue;
        };
        let block = Block {
            first: low.step_first,
            last: high.step_last,
            arrival,
            stored,
        };
        if block.first <= last && block.last >= first {
            sorted.push(block);
        }
    }
    sorted.sort_by_key(|block| (block.first, block.arrival));

    let mut pieces = Vec::with_capacity(sorted.len());
    let mut add = |summaries: Summaries, data: Data, low: Step, high: Step| {
        pieces.push(Piece {
            segment,
            first: first.max(low),
            last: last.min(high),
            summaries,
            effective: OnceLock::new(),
            data,
        });
    };
    let mut rest = sorted.into_iter().peekable();
    while let Some(block) = rest.next() {
        let mut end = block.last;
        let mut cluster = vec![block];
        while let Some(next) = rest.next_if(|next| next.first <= end) {
            end = end.max(next.last);
            cluster.push(next);
        }
        if let [_] = cluster[..] {
            let block = cluster.swap_remove(0);
            let data = Data::Stored(block.stored.id);
            add(block.stored.summaries, data, block.first, block.last);
            continue;
        }
        cluster.sort_by_key(|block| block.arrival);
        let mut merged = Points::new();
        for block in cluster {
            merged = Points::merge(&merged, &source.load(block.stored.id)?);
        }
        let counted = merged.slice(merged.range(first, last));
        for block in counted.into_blocks() {
            let summaries = block.summaries();
            let points = block.into_points();
            let (low, high) = (points.steps()[0], points.steps()[points.len() - 1]);
            add(
                summaries,
                Data::Loaded(Arc::new(points)),
                Step(low),
                Step(high),
            );
        }
    }
    Ok(pieces)
}

/// What to subtract from the timestamps of each segment so that time starts at 0 and the gap between a segment and the one
/// before it is taken out: its first point stands where the last one before it stood.
///
/// Pass what [`Stitched::time_spans`] says of one metric, or the union over all metrics of a run to give them one axis.
pub fn relative_shifts(spans: &[Option<(Timestamp, Timestamp)>]) -> Vec<i64> {
    let mut elapsed = 0_i64;
    let shift = |span: &Option<(Timestamp, Timestamp)>| {
        // A segment without points draws nothing; any shift does.
        let (first, last) = (*span)?;
        let shift = first.0.saturating_sub(elapsed);
        elapsed = elapsed.saturating_add(last.micros_since(first).max(0));
        Some(shift)
    };
    let shifts: Vec<Option<i64>> = spans.iter().map(shift).collect();
    shifts.into_iter().map(Option::unwrap_or_default).collect()
}
