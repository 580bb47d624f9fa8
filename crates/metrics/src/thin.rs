//! A series thinned to some points that keep its shape: the first, smallest, largest and last of equal columns.
//!
//! Columns are those of a chart ([`Stitched::buckets`]), so that which points to keep is known from summaries, with steps and values.
//! Only their timestamps are looked up, and most of those in payloads' time columns alone: of ten million points a hundredth is decoded.

use std::sync::Arc;

use runtree_core::wire::XAxis;
use runtree_core::{Error, Result, Step, Timestamp};

use crate::buckets::{Bucket, MAX_PIXELS, Query};
use crate::point::{Point, Points};
use crate::series::{BlockSource, Stitched, StitchedPoints, Times};

/// Points that a column keeps.
const POINTS_PER_COLUMN: usize = 4;

/// Step, value and index of the segment.
type Kept = (Step, f64, u32);

impl Stitched {
    /// At most about `at_most` of the points at steps `first..=last`, all of them if they are no more. A point that is not finite is kept in
    /// preference to the largest, so that it is never thinned away unseen.
    ///
    /// # Errors
    /// What `source` meets.
    pub fn thinned(
        &self,
        first: Step,
        last: Step,
        at_most: usize,
        source: &dyn BlockSource,
    ) -> Result<StitchedPoints> {
        let pieces = self.pieces();
        let (Some(lowest), Some(highest)) = (pieces.first(), pieces.last()) else {
            return Ok(StitchedPoints::default());
        };
        let (from, to) = (first.max(lowest.first), last.min(highest.last));
        if from > to {
            return Ok(StitchedPoints::default());
        }
        let columns = (at_most / POINTS_PER_COLUMN).clamp(1, MAX_PIXELS as usize);
        let query = Query {
            axis: XAxis::Step,
            from: Some(from.0),
            to: Some(to.0),
            pixels: columns as u32,
            shifts: Vec::new(),
        };
        let buckets = self.buckets(&query, source)?;
        if buckets.points <= at_most as u64 {
            return self.points(from, to, source);
        }
        let mut kept = Vec::with_capacity(buckets.buckets.len() * POINTS_PER_COLUMN);
        for bucket in &buckets.buckets {
            self.keep(bucket, &mut kept, source)?;
        }
        kept.sort_by_key(|&(step, ..)| step);
        kept.dedup_by_key(|&mut (step, ..)| step);
        if kept.len() > at_most {
            kept = merge_columns(&kept, columns);
        }
        let mut clock = Clock {
            stitched: self,
            opened: None,
        };
        let mut points = Vec::with_capacity(kept.len());
        for &(step, value, _) in &kept {
            points.push(Point {
                step,
                timestamp: clock.time_at(step, source)?,
                value,
            });
        }
        Ok(StitchedPoints {
            points: Points::from_arrival(points),
            segments: kept.iter().map(|&(.., segment)| segment).collect(),
        })
    }

    fn keep(&self, bucket: &Bucket, kept: &mut Vec<Kept>, source: &dyn BlockSource) -> Result<()> {
        let (first, last) = (Step(bucket.x_first), Step(bucket.x_last));
        let mut keep = |step, value| kept.push((step, value, bucket.segment));
        keep(first, bucket.first);
        keep(last, bucket.last);
        let has_finite = bucket.count > bucket.nonfinite;
        if has_finite {
            keep(bucket.min_step, bucket.min);
        }
        // Summaries count those that are not finite and do not say where they are.
        let is_hidden = bucket.nonfinite > 0 && bucket.first.is_finite() && bucket.last.is_finite();
        let odd = if is_hidden {
            let found = self.points(first, last, source)?.points;
            found.iter().find(|point| !point.value.is_finite())
        } else {
            None
        };
        match odd {
            Some(odd) => keep(odd.step, odd.value),
            None if has_finite => keep(bucket.max_step, bucket.max),
            None => {}
        }
        Ok(())
    }
}

/// Keeps of each column what is kept of a bucket: where segments are shorter than columns, every segment has buckets of its own.
fn merge_columns(kept: &[Kept], columns: usize) -> Vec<Kept> {
    let (Some(&(first, ..)), Some(&(last, ..))) = (kept.first(), kept.last()) else {
        return Vec::new();
    };
    let span = i128::from(last.0) - i128::from(first.0) + 1;
    let column_of =
        |&(step, ..): &Kept| (i128::from(step.0) - i128::from(first.0)) * columns as i128 / span;
    let mut merged = Vec::new();
    for column in kept.chunk_by(|a, b| column_of(a) == column_of(b)) {
        let finite = || column.iter().filter(|(_, value, _)| value.is_finite());
        let smallest = finite().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let largest = finite().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let odd = column.iter().find(|(_, value, _)| !value.is_finite());
        let mut of_column: Vec<Kept> = [column.first(), smallest, odd.or(largest), column.last()]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        of_column.sort_by_key(|&(step, ..)| step);
        of_column.dedup_by_key(|&mut (step, ..)| step);
        merged.extend(of_column);
    }
    merged
}

/// Looks up timestamps at ascending steps.
struct Clock<'a> {
    stitched: &'a Stitched,
    opened: Option<(usize, Arc<Times>)>,
}

impl Clock<'_> {
    fn time_at(&mut self, step: Step, source: &dyn BlockSource) -> Result<Timestamp> {
        let missing = || {
            Error::corrupt(format!(
                "a block of metric points has no point at step {step}, its summary says"
            ))
        };
        let pieces = self.stitched.pieces();
        let index = pieces.partition_point(|piece| piece.last < step);
        let piece = pieces.get(index).ok_or_else(missing)?;
        let subs = piece.effective(source)?.as_slice();
        let sub = subs.get(subs.partition_point(|sub| sub.step_last < step));
        match sub {
            Some(sub) if sub.step_first == step => return Ok(sub.time_first),
            Some(sub) if sub.step_last == step => return Ok(sub.time_last),
            _ => {}
        }
        let times = match &self.opened {
            Some((opened, times)) if *opened == index => Arc::clone(times),
            _ => {
                let times = Arc::new(piece.load_times(source)?);
                self.opened = Some((index, Arc::clone(&times)));
                times
            }
        };
        times.at(step).ok_or_else(missing)
    }
}
