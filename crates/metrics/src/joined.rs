//! What a chart draws over another metric: a value over tokens seen, over cost, over another value.
//!
//! Both series are stitched along the same timeline and joined by step: a point stands at the latest finite value of the other
//! metric at or before its step. Points before the first of these have no place and are counted as such. Then the range is cut
//! into equal pixels, and a bucket holds first, minimum, maximum, last, mean and count of the points that fall into one, per
//! segment: every point is looked at, none is sampled away.
//!
//! A counter that each launch starts at zero would fold the curve back upon itself at every fork and resume;
//! [`AxisMode::Continued`] carries it over the joint:
//!
//! ```text
//! logged      0 .. 40 │ 1 .. 30        the launch began to count again: 1 < 40
//! on the axis 0 .. 40 │ 41 .. 70
//! logged      0 .. 40 │ 41 .. 70       it went on counting: as it is
//! ```
//!
//! The cost is that of reading both series whole; steps and times ([`buckets`](crate::buckets)) need their summaries alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtree_core::wire::AxisMode;
use runtree_core::{Error, Result, Step};

use crate::buckets::{Bucket, MAX_PIXELS};
use crate::point::{Point, Points};
use crate::series::{BlockSource, Stitched};

/// What to draw over another metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinedQuery {
    /// How the other metric's values become places.
    pub mode: AxisMode,
    /// Left edge, inclusive; none: the smallest place there is.
    pub from: Option<f64>,
    /// Right edge, inclusive; none: the largest.
    pub to: Option<f64>,
    /// Pixel columns, 1 to [`MAX_PIXELS`].
    pub pixels: u32,
}

/// The points of one segment in one pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinedBucket {
    /// Smallest place of its points.
    pub place_first: f64,
    /// Largest.
    pub place_last: f64,
    /// The points, in order of steps: here `x_first` and `x_last` are steps.
    pub bucket: Bucket,
}

/// An answer: buckets by ascending first place, then segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// The buckets; empty ones are left out.
    pub buckets: Vec<JoinedBucket>,
    /// Points they stand for.
    pub points: u64,
    /// Points without a place: the other metric had no finite value yet.
    pub unplaced: u64,
    /// For each segment of the drawn series where it begins, step and place: at its base, which may lie before its first point; the root, and
    /// what has no place at its base, at its first point that has one. `None` if it has no such point.
    pub starts: Vec<Option<(Step, f64)>>,
}

/// Buckets of `values` over `axis`, which is stitched along the same timeline or a longer one.
///
/// # Errors
/// `Invalid` if the query is out of bounds; what the sources meet.
pub fn joined(
    values: &Stitched,
    value_source: &dyn BlockSource,
    axis: &Stitched,
    axis_source: &dyn BlockSource,
    query: &JoinedQuery,
) -> Result<Joined> {
    if query.pixels == 0 || query.pixels > MAX_PIXELS {
        return Err(Error::invalid(format!(
            "a chart has 1 to {MAX_PIXELS} pixels, not {}",
            query.pixels
        )));
    }
    let mut answer = Joined {
        starts: vec![None; values.segments().len()],
        ..Joined::default()
    };
    let walk = || Places::new(axis, axis_source, query.mode);
    let Some(grid) = Grid::of(values, value_source, query, walk)? else {
        answer.unplaced = count(values, value_source)?;
        return Ok(answer);
    };
    let mut places = walk();
    let mut collector = Collector::default();
    for piece in values.pieces() {
        let points = piece.load(value_source)?;
        let base = values.segments()[piece.segment].first;
        let start = &mut answer.starts[piece.segment];
        if base != Step::MIN && start.is_none() {
            *start = places.at(base)?.map(|place| (base, place));
        }
        for index in points.range(piece.first, piece.last) {
            let Some(point) = points.get(index) else {
                break;
            };
            let Some(place) = places.at(point.step)? else {
                answer.unplaced += 1;
                continue;
            };
            answer.starts[piece.segment].get_or_insert((point.step, place));
            if let Some(pixel) = grid.pixel(place) {
                collector.add(pixel, piece.segment as u32, place, &point);
                answer.points += 1;
            }
        }
    }
    answer.buckets = collector.finish();
    Ok(answer)
}

fn count(series: &Stitched, source: &dyn BlockSource) -> Result<u64> {
    let mut count = 0;
    for piece in series.pieces() {
        let points = piece.load(source)?;
        count += points.range(piece.first, piece.last).len() as u64;
    }
    Ok(count)
}

/// The other metric, walked in ascending steps: where each step stands.
struct Places<'a> {
    series: &'a Stitched,
    source: &'a dyn BlockSource,
    mode: AxisMode,
    /// The piece that is walked, and what is left of it.
    piece: usize,
    opened: Option<(Arc<Points>, std::ops::Range<usize>)>,
    segment: Option<usize>,
    shift: f64,
    place: Option<f64>,
}

impl<'a> Places<'a> {
    fn new(series: &'a Stitched, source: &'a dyn BlockSource, mode: AxisMode) -> Self {
        Self {
            series,
            source,
            mode,
            piece: 0,
            opened: None,
            segment: None,
            shift: 0.0,
            place: None,
        }
    }

    /// Where a step stands; steps must be asked for in ascending order.
    fn at(&mut self, step: Step) -> Result<Option<f64>> {
        while self.next(step)?.is_some() {}
        Ok(self.place)
    }

    /// The next place at or before a step, and whether there was one.
    fn next(&mut self, until: Step) -> Result<Option<f64>> {
        loop {
            let Some(piece) = self.series.pieces().get(self.piece) else {
                return Ok(None);
            };
            if piece.first > until {
                return Ok(None);
            }
            let (points, left) = if let Some(opened) = &mut self.opened {
                opened
            } else {
                let points = piece.load(self.source)?;
                let range = points.range(piece.first, piece.last);
                self.opened.insert((points, range))
            };
            let Some(point) = left.clone().next().and_then(|index| points.get(index)) else {
                self.piece += 1;
                self.opened = None;
                continue;
            };
            if point.step > until {
                return Ok(None);
            }
            left.start += 1;
            if !point.value.is_finite() {
                continue;
            }
            let place = self.place_of(piece.segment, point.value);
            // Beyond the largest number there is no place: the last one stays.
            if place.is_finite() {
                self.place = Some(place);
                return Ok(Some(place));
            }
        }
    }

    fn place_of(&mut self, segment: usize, value: f64) -> f64 {
        match self.mode {
            AxisMode::Value => value,
            AxisMode::Sum => self.place.unwrap_or(0.0) + value,
            AxisMode::Continued => {
                let before = self.place.filter(|_| self.segment != Some(segment));
                self.segment = Some(segment);
                if let Some(before) = before
                    && value + self.shift < before
                {
                    self.shift = before;
                }
                value + self.shift
            }
        }
    }
}

/// Equal pixels over a range of places.
#[derive(Clone, Copy)]
struct Grid {
    from: f64,
    to: f64,
    pixels: u32,
}

impl Grid {
    /// The range that was asked for; open ends are those of the places while `values` was logged. `None` if there is no place.
    fn of<'a>(
        values: &Stitched,
        source: &dyn BlockSource,
        query: &JoinedQuery,
        walk: impl Fn() -> Places<'a>,
    ) -> Result<Option<Self>> {
        let (mut from, mut to) = (query.from, query.to);
        if from.is_none() || to.is_none() {
            let Some((first, last)) = values.ends(source)? else {
                return Ok(None);
            };
            let mut places = walk();
            let mut ends = places.at(first)?.map(|place| (place, place));
            while let Some(place) = places.next(last)? {
                let (low, high) = ends.unwrap_or((place, place));
                ends = Some((low.min(place), high.max(place)));
            }
            let Some((low, high)) = ends else {
                return Ok(None);
            };
            from = from.or(Some(low));
            to = to.or(Some(high));
        }
        let pixels = query.pixels;
        Ok(from.zip(to).map(|(from, to)| Self { from, to, pixels }))
    }

    fn pixel(self, place: f64) -> Option<u32> {
        if !(self.from <= place && place <= self.to) {
            return None;
        }
        // Halved: the width of a range from -MAX to MAX is no number.
        let width = self.to / 2.0 - self.from / 2.0;
        if width <= 0.0 {
            return Some(0);
        }
        let share = (place / 2.0 - self.from / 2.0) / width;
        Some(((share * f64::from(self.pixels)) as u32).min(self.pixels - 1))
    }
}

/// Buckets that grow.
#[derive(Default)]
struct Collector {
    places: BTreeMap<(u32, u32), usize>,
    sums: Vec<(JoinedBucket, f64)>,
    /// The bucket that was added to last: on a counter nearly always the next one too.
    current: Option<((u32, u32), usize)>,
}

impl Collector {
    fn add(&mut self, pixel: u32, segment: u32, place: f64, point: &Point) {
        let key = (pixel, segment);
        let at = match self.current {
            Some((current, at)) if current == key => at,
            _ => *self.places.entry(key).or_insert_with(|| {
                self.sums.push((empty(segment, place, point), 0.0));
                self.sums.len() - 1
            }),
        };
        self.current = Some((key, at));
        let (joined, sum) = &mut self.sums[at];
        joined.place_first = joined.place_first.min(place);
        joined.place_last = joined.place_last.max(place);
        let bucket = &mut joined.bucket;
        bucket.count += 1;
        bucket.x_last = point.step.0;
        bucket.last = point.value;
        if !point.value.is_finite() {
            bucket.nonfinite += 1;
            return;
        }
        *sum += point.value;
        // NaN: nothing was finite yet.
        if bucket.min.is_nan() || point.value < bucket.min {
            (bucket.min, bucket.min_step) = (point.value, point.step);
        }
        if bucket.max.is_nan() || point.value > bucket.max {
            (bucket.max, bucket.max_step) = (point.value, point.step);
        }
    }

    fn finish(self) -> Vec<JoinedBucket> {
        let Self { places, sums, .. } = self;
        let finished = |at: usize| {
            let (mut joined, sum) = sums[at];
            let bucket = &mut joined.bucket;
            bucket.mean = sum / (bucket.count - bucket.nonfinite) as f64;
            joined
        };
        let mut buckets: Vec<_> = places.into_values().map(finished).collect();
        // Segments may share a pixel, one beginning further right in it.
        buckets.sort_by(|a, b| {
            let places = a.place_first.total_cmp(&b.place_first);
            places.then(a.bucket.segment.cmp(&b.bucket.segment))
        });
        buckets
    }
}

fn empty(segment: u32, place: f64, point: &Point) -> JoinedBucket {
    JoinedBucket {
        place_first: place,
        place_last: place,
        bucket: Bucket {
            segment,
            x_first: point.step.0,
            x_last: point.step.0,
            count: 0,
            nonfinite: 0,
            first: point.value,
            last: point.value,
            min: f64::NAN,
            max: f64::NAN,
            mean: f64::NAN,
            min_step: point.step,
            max_step: point.step,
        },
    }
}
