//! What a chart draws: first, minimum, maximum, last, mean and count per pixel column (M4), exact at every zoom.
//!
//! The range is cut into equal pixels. A sub-block (256 points with a [`Summary`](crate::Summary)) inside one pixel is taken by its summary. One
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

use runtree_core::wire::XAxis;
use runtree_core::{Error, Result, Step};

use crate::series::{BlockSource, Stitched};

mod axis;
mod collect;
mod grid;

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
    /// For [`XAxis::Relative`]: what is subtracted from the timestamps of each segment. Empty:
    /// [`relative_shifts`](crate::relative_shifts) of this series.
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
    let axis = axis::Axis::of(series, query, source)?;
    let mut buckets = Buckets {
        starts: axis.starts(series, source)?,
        ..Buckets::default()
    };
    let Some((first, last)) = axis.ends(series, source)? else {
        return Ok(buckets);
    };
    let grid = grid::Grid {
        from: query.from.unwrap_or(first),
        to: query.to.unwrap_or(last),
        pixels: query.pixels,
    };
    if grid.from <= grid.to {
        let items = axis.items(series, &grid, source)?;
        let mut collector = collect::Collector::new(grid, &axis, series.pieces(), source);
        collector.add_all(&items)?;
        collector.finish(&mut buckets);
    }
    Ok(buckets)
}
