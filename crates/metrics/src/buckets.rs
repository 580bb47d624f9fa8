//! What a chart draws: first, minimum, maximum, last, mean and count per pixel column (M4), exact at every zoom.
//!
//! The range is cut into equal pixels. A sub-block (256 points with a [`Summary`]) inside one pixel is taken by its summary. One
//! that lies across an edge is taken whole as well, by the pixel that holds its middle, if the pixel is wide enough to hold at
//! least [`MIN_SUBS`] like it: the edge moves to the nearest sub-block edge, by at most a sixth of a pixel. Otherwise its points
//! are loaded and fall exactly where they belong:
//!
//! ```text
//! pixels      │             k             │            k+1            │
//! sub-blocks  ├──────┼──────┼──────┼──────┼──┬──┼──────┼──────┼──────┼┤
//! moved edge                                    ╵ here, by the middle
//! ```
//!
//! So a bucket holds all points of the interval it declares, `x_first..=x_last`, and no other. NaN and ±Inf are counted and may
//! be `first` or `last`, but never enter `min`, `max` and `mean`.
//!
//! Steps ascend; time may not (clocks jump, a parent goes on after its child began). Where pieces are not in order of time no
//! edge moves, and buckets are exact on the equal grid.

use std::collections::HashMap;

use runtree_core::wire::XAxis;
use runtree_core::{Error, Result, Step};

use crate::series::{BlockSource, Piece, Stitched, relative_shifts};
use crate::summary::Summary;

/// A sub-block across an edge is not opened where a pixel touches at least this many as wide as it.
pub const MIN_SUBS: u32 = 4;
/// Most pixels of a query.
pub const MAX_PIXELS: u32 = 1 << 16;

/// What to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The x axis.
    pub axis: XAxis,
    /// Left edge in units of the axis (steps, or microseconds), inclusive; none: the first point.
    pub from: Option<i64>,
    /// Right edge, inclusive; none: the last point.
    pub to: Option<i64>,
    /// Pixel columns, 1 to [`MAX_PIXELS`].
    pub pixels: u32,
    /// For [`XAxis::Relative`]: what is subtracted from the timestamps of each segment. Empty: [`relative_shifts`] of this series.
    pub shifts: Vec<i64>,
}

/// The points of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Index of the segment that all its points are of.
    pub segment: u32,
    /// x of the first point.
    pub x_first: i64,
    /// x of the last point.
    pub x_last: i64,
    /// Points.
    pub count: u64,
    /// Of them NaN or ±Inf.
    pub nonfinite: u64,
    /// Value at `x_first`, finite or not.
    pub first: f64,
    /// Value at `x_last`, finite or not.
    pub last: f64,
    /// Smallest finite value; NaN if there is none.
    pub min: f64,
    /// Largest finite value; NaN if there is none.
    pub max: f64,
    /// Mean of the finite values; NaN if there is none.
    pub mean: f64,
    /// Step of the smallest value.
    pub min_step: Step,
    /// Step of the largest value.
    pub max_step: Step,
}

/// An answer: buckets by ascending x.
///
/// There is at most one bucket for each pixel and segment: where segments follow each other in x, at most `pixels` and one more for
/// each segment that begins inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The buckets; empty ones are left out.
    pub buckets: Vec<Bucket>,
    /// Points they stand for.
    pub points: u64,
    /// For each segment the x where its stretch begins: its base step, or the time of its first point; `None` if it has no points.
    pub starts: Vec<Option<i64>>,
}

/// Buckets of a stitched series.
pub(crate) fn of(series: &Stitched, query: &Query, source: &dyn BlockSource) -> Result<Buckets> {
    if query.pixels == 0 || query.pixels > MAX_PIXELS {
        return Err(Error::invalid(format!(
            "a chart has 1 to {MAX_PIXELS} pixels, not {}",
            query.pixels
        )));
    }
    let (axis, starts) = Axis::of(series, query, source)?;
    let mut buckets = Buckets {
        starts,
        ..Buckets::default()
    };
    let ends = series
        .pieces()
        .iter()
        .filter_map(|piece| axis.piece_span(piece))
        .reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
    let Some((first, last)) = ends else {
        return Ok(buckets);
    };
    let grid = Grid {
        from: query.from.unwrap_or(first),
        to: query.to.unwrap_or(last),
        pixels: query.pixels,
    };
    if grid.from > grid.to {
        return Ok(buckets);
    }
    let mut collector = Collector {
        grid,
        axis: &axis,
        edges_move: axis.is_ordered(series.pieces()),
        current: None,
        places: HashMap::new(),
        sums: Vec::new(),
    };
    collector.add_all(series.pieces(), source)?;
    collector.finish(&mut buckets);
    Ok(buckets)
}

/// How points become x.
struct Axis {
    /// Per segment; `None` for steps.
    shifts: Option<Vec<i64>>,
}

impl Axis {
    /// The axis, and where each segment begins on it.
    fn of(
        series: &Stitched,
        query: &Query,
        source: &dyn BlockSource,
    ) -> Result<(Self, Vec<Option<i64>>)> {
        let mut starts = vec![None; series.segments().len()];
        if query.axis == XAxis::Step {
            for piece in series.pieces().iter().rev() {
                let begins = series.segments()[piece.segment].first;
                starts[piece.segment] = Some(if begins == Step::MIN {
                    piece.first.0
                } else {
                    begins.0
                });
            }
            return Ok((Self { shifts: None }, starts));
        }
        let spans = series.time_spans(source)?;
        let shifts = match query.axis {
            XAxis::Relative if query.shifts.is_empty() => relative_shifts(&spans),
            XAxis::Relative if query.shifts.len() == spans.len() => query.shifts.clone(),
            XAxis::Relative => {
                return Err(Error::invalid(format!(
                    "relative time has {} shifts for {} segments",
                    query.shifts.len(),
                    spans.len()
                )));
            }
            XAxis::Wall | XAxis::Step => vec![0; spans.len()],
        };
        for ((start, span), shift) in starts.iter_mut().zip(&spans).zip(&shifts) {
            *start = span.map(|(first, _)| first.0.saturating_sub(*shift));
        }
        Ok((
            Self {
                shifts: Some(shifts),
            },
            starts,
        ))
    }

    /// Smallest and largest x of a sub-block.
    fn span(&self, segment: usize, sub: &Summary) -> (i64, i64) {
        match &self.shifts {
            None => (sub.step_first.0, sub.step_last.0),
            Some(shifts) => (
                sub.time_min.0.saturating_sub(shifts[segment]),
                sub.time_max.0.saturating_sub(shifts[segment]),
            ),
        }
    }

    /// Smallest and largest x of a piece; by whole sub-blocks on an axis of time.
    fn piece_span(&self, piece: &Piece) -> Option<(i64, i64)> {
        let subs = piece.counted().map(|sub| self.span(piece.segment, sub));
        let (first, last) = subs.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))?;
        Some(match self.shifts {
            None => (first.max(piece.first.0), last.min(piece.last.0)),
            Some(_) => (first, last),
        })
    }

    /// Whether all points stand in order of x, so that moved edges leave the buckets' intervals apart.
    fn is_ordered(&self, pieces: &[Piece]) -> bool {
        if self.shifts.is_none() {
            return true;
        }
        let mut before = i64::MIN;
        pieces.iter().all(|piece| {
            piece.counted().all(|sub| {
                let (first, last) = self.span(piece.segment, sub);
                let ordered = sub.is_ordered_in_time() && before <= first;
                before = last;
                ordered
            })
        })
    }
}

impl Piece {
    /// The sub-blocks that reach into the steps that count.
    fn counted(&self) -> impl Iterator<Item = &Summary> {
        let subs = self.summaries.as_slice();
        let start = subs.partition_point(|sub| sub.step_last < self.first);
        let end = subs.partition_point(|sub| sub.step_first <= self.last);
        subs.get(start..end).unwrap_or_default().iter()
    }
}

/// The equal pixels of a query.
#[derive(Clone, Copy)]
struct Grid {
    from: i64,
    to: i64,
    pixels: u32,
}

impl Grid {
    /// Units of x in the range: up to 2^64.
    fn units(self) -> u128 {
        (i128::from(self.to) - i128::from(self.from) + 1) as u128
    }

    /// The pixel of an x inside the range.
    fn pixel(self, x: i64) -> u32 {
        let offset = x.abs_diff(self.from);
        (u128::from(offset) * u128::from(self.pixels) / self.units()) as u32
    }

    /// Last x of a pixel.
    fn last_of(self, pixel: u32) -> i64 {
        let edge = (u128::from(pixel) + 1) * self.units();
        let offset = edge.div_ceil(u128::from(self.pixels)) - 1;
        (i128::from(self.from) + offset as i128) as i64
    }

    fn contains(self, (first, last): (i64, i64)) -> bool {
        self.from <= first && last <= self.to
    }

    fn touches(self, (first, last): (i64, i64)) -> bool {
        first <= self.to && last >= self.from
    }

    /// Whether a pixel anywhere touches at least [`MIN_SUBS`] sub-blocks as wide as this: one less of them fits into it.
    fn holds_many(self, (first, last): (i64, i64)) -> bool {
        let width = u128::from(last.abs_diff(first)) + 1;
        width * u128::from(self.pixels) * u128::from(MIN_SUBS - 1) <= self.units()
    }
}

struct Collector<'a> {
    grid: Grid,
    axis: &'a Axis,
    edges_move: bool,
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

impl Collector<'_> {
    fn add_all(&mut self, pieces: &[Piece], source: &dyn BlockSource) -> Result<()> {
        for (index, piece) in pieces.iter().enumerate() {
            let mut loaded = None;
            // On an axis of time neighbours may share an instant; then neither may be moved away from it.
            let mut before = neighbour(self.axis, pieces[..index].last(), Iterator::last);
            let after = neighbour(self.axis, pieces.get(index + 1), |mut subs| subs.next());
            let mut subs = piece.counted().peekable();
            while let Some(sub) = subs.next() {
                let span = self.axis.span(piece.segment, sub);
                let next = subs
                    .peek()
                    .map(|sub| self.axis.span(piece.segment, sub))
                    .or(after);
                let alone = before.is_none_or(|(_, last)| last < span.0)
                    && next.is_none_or(|(first, _)| span.1 < first);
                before = Some(span);
                if !self.grid.touches(span) {
                    continue;
                }
                if let Some(pixel) = self.pixel_of_whole(piece, sub, span, alone) {
                    self.add_summary(piece.segment, pixel, sub, span);
                    continue;
                }
                if loaded.is_none() {
                    loaded = Some(piece.load(source)?);
                }
                let Some(points) = &loaded else { continue };
                let first = sub.step_first.max(piece.first);
                let range = points.range(first, sub.step_last.min(piece.last));
                let xs = match &self.axis.shifts {
                    None => points.steps(),
                    Some(_) => points.timestamps(),
                };
                self.add_points(
                    piece.segment,
                    &xs[range.clone()],
                    &points.steps()[range.clone()],
                    &points.values()[range],
                );
            }
        }
        Ok(())
    }

    /// The pixel that takes a sub-block by its summary, if one may.
    fn pixel_of_whole(
        &self,
        piece: &Piece,
        sub: &Summary,
        span: (i64, i64),
        alone: bool,
    ) -> Option<u32> {
        let counts = piece.first <= sub.step_first && sub.step_last <= piece.last;
        let ordered = self.axis.shifts.is_none() || sub.is_ordered_in_time();
        if !counts || !ordered || !self.grid.contains(span) {
            return None;
        }
        let (left, right) = (self.grid.pixel(span.0), self.grid.pixel(span.1));
        if left == right {
            return Some(left);
        }
        let moves = self.edges_move && alone && self.grid.holds_many(span);
        let middle = span.0.midpoint(span.1);
        moves.then(|| self.grid.pixel(middle))
    }

    fn add_summary(&mut self, segment: usize, pixel: u32, sub: &Summary, span: (i64, i64)) {
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
        let shift = self.axis.shifts.as_ref().map_or(0, |all| all[segment]);
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

    fn finish(self, into: &mut Buckets) {
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

/// The span of a sub-block of a neighbouring piece.
fn neighbour<'a>(
    axis: &Axis,
    piece: Option<&'a Piece>,
    pick: impl FnOnce(Box<dyn Iterator<Item = &'a Summary> + 'a>) -> Option<&'a Summary>,
) -> Option<(i64, i64)> {
    let piece = piece?;
    pick(Box::new(piece.counted())).map(|sub| axis.span(piece.segment, sub))
}
