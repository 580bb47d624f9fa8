//! How points become x, and in which order sub-blocks stand on it.

use runtree_core::wire::XAxis;
use runtree_core::{Error, Result, Step};

use super::Query;
use super::grid::Grid;
use crate::series::{BlockSource, Stitched, relative_shifts};
use crate::summary::Summary;

/// How points become x.
pub(super) struct Axis {
    /// What is subtracted from the timestamps of each segment; `None` for steps.
    shifts: Option<Vec<i64>>,
}

/// A sub-block on the axis; all its points count.
pub(super) struct Item<'a> {
    /// Index of its piece.
    pub(super) piece: usize,
    pub(super) segment: usize,
    pub(super) summary: &'a Summary,
    /// Smallest and largest x.
    pub(super) span: (i64, i64),
    /// Whether an edge may move across it: then its summary is taken whole by one pixel.
    pub(super) movable: bool,
}

impl Axis {
    pub(super) fn of(series: &Stitched, query: &Query, source: &dyn BlockSource) -> Result<Self> {
        let segments = series.segments().len();
        let shifts = match query.axis {
            XAxis::Step => None,
            XAxis::Wall => Some(vec![0; segments]),
            XAxis::Relative if query.shifts.is_empty() => {
                Some(relative_shifts(&series.time_spans(source)?))
            }
            XAxis::Relative if query.shifts.len() == segments => Some(query.shifts.clone()),
            XAxis::Relative => {
                return Err(Error::invalid(format!(
                    "relative time has {} shifts for {segments} segments",
                    query.shifts.len(),
                )));
            }
        };
        Ok(Self { shifts })
    }

    /// Whether x is time; else it is the step.
    pub(super) fn is_time(&self) -> bool {
        self.shifts.is_some()
    }

    /// What is subtracted from the timestamps of a segment, or from its steps: nothing.
    pub(super) fn shift(&self, segment: usize) -> i64 {
        self.shifts.as_ref().map_or(0, |shifts| shifts[segment])
    }

    /// Where each segment that has points begins.
    pub(super) fn starts(
        &self,
        series: &Stitched,
        source: &dyn BlockSource,
    ) -> Result<Vec<Option<i64>>> {
        if self.is_time() {
            let spans = series.time_spans(source)?.into_iter().enumerate();
            let start = |(segment, span): (usize, Option<_>)| {
                let (first, _): (runtree_core::Timestamp, _) = span?;
                Some(first.0.saturating_sub(self.shift(segment)))
            };
            return Ok(spans.map(start).collect());
        }
        let mut starts = vec![None; series.segments().len()];
        for piece in series.pieces().iter().rev() {
            let begins = series.segments()[piece.segment].first;
            // The root begins at its first point, what is built upon something at its base step.
            let start = if begins == Step::MIN {
                piece.first
            } else {
                begins
            };
            starts[piece.segment] = Some(start.0);
        }
        Ok(starts)
    }

    /// Smallest and largest x of all points.
    pub(super) fn ends(
        &self,
        series: &Stitched,
        source: &dyn BlockSource,
    ) -> Result<Option<(i64, i64)>> {
        if !self.is_time() {
            let ends = series.ends(source)?;
            return Ok(ends.map(|(first, last)| (first.0, last.0)));
        }
        let mut ends: Option<(i64, i64)> = None;
        for piece in series.pieces() {
            for summary in piece.effective(source)?.as_slice() {
                let (first, last) = self.span(piece.segment, summary);
                let (low, high) = ends.unwrap_or((first, last));
                ends = Some((low.min(first), high.max(last)));
            }
        }
        Ok(ends)
    }

    /// The sub-blocks that reach into the range, in order of steps.
    pub(super) fn items<'a>(
        &self,
        series: &'a Stitched,
        grid: &Grid,
        source: &dyn BlockSource,
    ) -> Result<Vec<Item<'a>>> {
        let mut items: Vec<Item<'a>> = Vec::new();
        for (index, piece) in series.pieces().iter().enumerate() {
            // Time is known only from the points that count, and may go back: every piece is looked at.
            if !self.is_time() && !grid.touches((piece.first.0, piece.last.0)) {
                continue;
            }
            let item = |summary: &'a Summary| Item {
                piece: index,
                segment: piece.segment,
                summary,
                span: self.span(piece.segment, summary),
                movable: true,
            };
            items.extend(piece.effective(source)?.as_slice().iter().map(item));
        }
        if self.is_time() {
            fix_in_time(&mut items);
        }
        items.retain(|item| grid.touches(item.span));
        Ok(items)
    }

    fn span(&self, segment: usize, summary: &Summary) -> (i64, i64) {
        if self.is_time() {
            let shift = self.shift(segment);
            (
                summary.time_min.0.saturating_sub(shift),
                summary.time_max.0.saturating_sub(shift),
            )
        } else {
            (summary.step_first.0, summary.step_last.0)
        }
    }
}

/// Decides which sub-blocks edges may move across where x is time.
///
/// None, unless all stand in order: one that was moved could carry points past those of another, and intervals would overlap.
/// Not those that share an instant with a neighbour: both buckets would declare it.
fn fix_in_time(items: &mut [Item<'_>]) {
    let in_order = items.iter().all(|item| item.summary.is_ordered_in_time())
        && items.is_sorted_by(|a, b| a.span.1 <= b.span.0);
    let mut before = None;
    for index in 0..items.len() {
        let (first, last) = items[index].span;
        let after = items.get(index + 1).map(|item| item.span.0);
        items[index].movable =
            in_order && before.is_none_or(|x| x < first) && after.is_none_or(|x| last < x);
        before = Some(last);
    }
}
