//! Filling buckets: by summaries where a sub-block may be taken whole, else point by point.

use std::collections::HashMap;
use std::sync::Arc;

use runtree_core::{Result, Step};

use super::axis::{Axis, Item};
use super::grid::Grid;
use super::{Bucket, Buckets};
use crate::point::Points;
use crate::series::{BlockSource, Piece};

/// Buckets that grow.
pub(super) struct Collector<'a> {
    grid: Grid,
    axis: &'a Axis,
    pieces: &'a [Piece],
    source: &'a dyn BlockSource,
    /// The piece that was opened last: its neighbours on the axis are mostly of the same.
    opened: Option<(usize, Arc<Points>)>,
    /// Key and place of the bucket that was added to last: nearly always the next one too.
    current: Option<((usize, u32), usize)>,
    places: HashMap<(usize, u32), usize>,
    sums: Vec<Sum>,
}

/// A bucket that grows.
struct Sum {
    bucket: Bucket,
    sum: f64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        grid: Grid,
        axis: &'a Axis,
        pieces: &'a [Piece],
        source: &'a dyn BlockSource,
    ) -> Self {
        Self {
            grid,
            axis,
            pieces,
            source,
            opened: None,
            current: None,
            places: HashMap::new(),
            sums: Vec::new(),
        }
    }

    pub(super) fn add_all(&mut self, items: &[Item<'_>]) -> Result<()> {
        for item in items {
            if let Some(pixel) = self.pixel_of_whole(item) {
                self.add_summary(pixel, item);
                continue;
            }
            let points = self.open(item.piece)?;
            let range = points.range(item.summary.step_first, item.summary.step_last);
            let xs = if self.axis.is_time() {
                points.timestamps()
            } else {
                points.steps()
            };
            let (xs, steps) = (&xs[range.clone()], &points.steps()[range.clone()]);
            self.add_points(item.segment, xs, steps, &points.values()[range]);
        }
        Ok(())
    }

    /// The pixel that takes a sub-block by its summary, if one may.
    fn pixel_of_whole(&self, item: &Item<'_>) -> Option<u32> {
        let ordered = !self.axis.is_time() || item.summary.is_ordered_in_time();
        if !ordered || !self.grid.contains(item.span) {
            return None;
        }
        let (first, last) = item.span;
        let (left, right) = (self.grid.pixel(first), self.grid.pixel(last));
        if left == right {
            return Some(left);
        }
        let moves = item.movable && self.grid.holds_many(item.span);
        moves.then(|| self.grid.pixel(first.midpoint(last)))
    }

    fn open(&mut self, piece: usize) -> Result<Arc<Points>> {
        if let Some((opened, points)) = &self.opened
            && *opened == piece
        {
            return Ok(points.clone());
        }
        let points = self.pieces[piece].load(self.source)?;
        self.opened = Some((piece, points.clone()));
        Ok(points)
    }

    fn add_summary(&mut self, pixel: u32, item: &Item<'_>) {
        let (sub, span, segment) = (item.summary, item.span, item.segment);
        self.add(
            segment,
            pixel,
            Sum {
                bucket: Bucket {
                    segment: segment as u32,
                    x_first: span.0,
                    x_last: span.1,
                    count: u64::from(sub.n),
                    nonfinite: u64::from(sub.nonfinite),
                    first: sub.first,
                    last: sub.last,
                    min: sub.min,
                    max: sub.max,
                    mean: f64::NAN,
                    min_step: sub.min_step,
                    max_step: sub.max_step,
                },
                sum: sub.sum,
            },
        );
    }

    fn add_points(&mut self, segment: usize, xs: &[i64], steps: &[i64], values: &[f64]) {
        let shift = self.axis.shift(segment);
        let mut pixel = 0;
        // The x of the pixel that the point before fell into.
        let mut inside = None::<std::ops::RangeInclusive<i64>>;
        for ((&x, &step), &value) in xs.iter().zip(steps).zip(values) {
            let x = x.saturating_sub(shift);
            if !self.grid.contains((x, x)) {
                continue;
            }
            if !inside.as_ref().is_some_and(|inside| inside.contains(&x)) {
                pixel = self.grid.pixel(x);
                inside = Some(x..=self.grid.last_of(pixel));
            }
            let finite = value.is_finite();
            let extreme = if finite { value } else { f64::NAN };
            let bucket = Bucket {
                segment: segment as u32,
                x_first: x,
                x_last: x,
                count: 1,
                nonfinite: u64::from(!finite),
                first: value,
                last: value,
                min: extreme,
                max: extreme,
                mean: f64::NAN,
                min_step: Step(step),
                max_step: Step(step),
            };
            let sum = if finite { value } else { 0.0 };
            self.add(segment, pixel, Sum { bucket, sum });
        }
    }

    fn add(&mut self, segment: usize, pixel: u32, new: Sum) {
        let key = (segment, pixel);
        let place = match self.current {
            Some((current, place)) if current == key => place,
            _ => {
                let next = self.sums.len();
                let place = *self.places.entry(key).or_insert(next);
                self.current = Some((key, place));
                if place == next {
                    self.sums.push(new);
                    return;
                }
                place
            }
        };
        self.sums[place].merge(&new);
    }

    pub(super) fn finish(self, into: &mut Buckets) {
        let mean = |Sum { mut bucket, sum }: Sum| {
            let finite = bucket.count - bucket.nonfinite;
            if finite > 0 {
                let mean = sum / finite as f64;
                // Finite values may add up beyond f64: their mean still lies between them.
                bucket.mean = if mean.is_nan() {
                    bucket.min.midpoint(bucket.max)
                } else {
                    mean.clamp(bucket.min, bucket.max)
                };
            }
            bucket
        };
        into.buckets = self.sums.into_iter().map(mean).collect();
        into.buckets
            .sort_by_key(|bucket| (bucket.x_first, bucket.segment));
        into.points = into.buckets.iter().map(|bucket| bucket.count).sum();
    }
}

impl Sum {
    fn merge(&mut self, new: &Self) {
        let (bucket, new_bucket) = (&mut self.bucket, &new.bucket);
        if new_bucket.x_first < bucket.x_first {
            (bucket.x_first, bucket.first) = (new_bucket.x_first, new_bucket.first);
        }
        // At one instant the higher step is the last, and it comes later.
        if new_bucket.x_last >= bucket.x_last {
            (bucket.x_last, bucket.last) = (new_bucket.x_last, new_bucket.last);
        }
        let had_none = bucket.count == bucket.nonfinite;
        let has_any = new_bucket.count > new_bucket.nonfinite;
        if has_any && (had_none || new_bucket.min < bucket.min) {
            (bucket.min, bucket.min_step) = (new_bucket.min, new_bucket.min_step);
        }
        if has_any && (had_none || new_bucket.max > bucket.max) {
            (bucket.max, bucket.max_step) = (new_bucket.max, new_bucket.max_step);
        }
        bucket.count += new_bucket.count;
        bucket.nonfinite += new_bucket.nonfinite;
        self.sum += new.sum;
    }
}
