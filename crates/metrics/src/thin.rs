//! Fewer points that draw the same curve.
//!
//! The columns are a chart's ([`buckets`](crate::buckets)), so what to keep of each is known from summaries; only blocks that hold a
//! kept point are decoded, each once.

use runtree_core::wire::XAxis;
use runtree_core::{Result, Step};

use crate::buckets::{Bucket, MAX_PIXELS, Query};
use crate::point::Points;
use crate::series::{BlockSource, Stitched, StitchedPoints};

/// What a column keeps: its first, smallest, largest and last point.
const POINTS_PER_COLUMN: usize = 4;

impl Stitched {
    /// At most about `at_most` of the points at steps `first..=last`: of equal columns of steps the first, smallest, largest and last.
    /// A point that is not finite is kept in preference to the largest, so that it is never thinned away unseen. All points, if they
    /// are no more.
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
        let Some((begin, end)) = self.ends(source)? else {
            return Ok(StitchedPoints::default());
        };
        let (first, last) = (first.max(begin), last.min(end));
        if first > last {
            return Ok(StitchedPoints::default());
        }
        let mut points = 0;
        let mut kept = Vec::new();
        for query in queries(first, last, at_most) {
            let buckets = self.buckets(&query, source)?;
            points += buckets.points;
            for bucket in &buckets.buckets {
                kept.extend(self.kept_of(bucket, source)?);
            }
        }
        if points <= at_most as u64 {
            return self.points(first, last, source);
        }
        self.points_at(&kept, source)
    }

    /// Steps of the points that a column keeps, ascending.
    fn kept_of(&self, bucket: &Bucket, source: &dyn BlockSource) -> Result<Vec<Step>> {
        let (first, last) = (Step(bucket.x_first), Step(bucket.x_last));
        let seen = !bucket.first.is_finite() || !bucket.last.is_finite();
        let largest = if bucket.nonfinite == 0 || seen {
            bucket.max_step
        } else {
            let found = self.points(first, last, source)?.points;
            let odd = found.iter().find(|point| !point.value.is_finite());
            odd.map_or(bucket.max_step, |point| point.step)
        };
        let mut steps = vec![first, bucket.min_step, largest, last];
        steps.sort_unstable();
        steps.dedup();
        Ok(steps)
    }

    /// The points at some ascending steps; where there is none, nothing.
    fn points_at(&self, steps: &[Step], source: &dyn BlockSource) -> Result<StitchedPoints> {
        let mut found = StitchedPoints {
            points: Points::with_capacity(steps.len()),
            segments: Vec::with_capacity(steps.len()),
        };
        let mut rest = steps;
        for piece in self.pieces() {
            let start = rest.partition_point(|step| *step < piece.first);
            let (here, later) =
                rest[start..].split_at(rest[start..].partition_point(|step| *step <= piece.last));
            rest = later;
            if here.is_empty() {
                continue;
            }
            let points = piece.load(source)?;
            for step in here {
                let range = points.range(*step, *step);
                found
                    .segments
                    .resize(found.segments.len() + range.len(), piece.segment as u32);
                found.points.extend_from(&points, range);
            }
        }
        Ok(found)
    }
}

/// A chart has at most [`MAX_PIXELS`] columns; more are several charts side by side.
fn queries(first: Step, last: Step, at_most: usize) -> impl Iterator<Item = Query> {
    let columns = (at_most / POINTS_PER_COLUMN).max(1);
    let charts = columns.div_ceil(MAX_PIXELS as usize);
    let pixels = columns.div_ceil(charts) as u32;
    let span = i128::from(last.0) - i128::from(first.0) + 1;
    let edge = move |chart: usize| {
        let at = i128::from(first.0) + span * chart as i128 / charts as i128;
        // The edge after the last chart may lie one beyond the last step there is.
        (at - 1).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    };
    (0..charts)
        .map(move |chart| Query {
            axis: XAxis::Step,
            from: Some(if chart == 0 { first.0 } else { edge(chart) + 1 }),
            to: Some(edge(chart + 1)),
            pixels,
            shifts: Vec::new(),
        })
        .filter(|query| query.from <= query.to)
}
