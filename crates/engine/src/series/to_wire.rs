//! Buckets by columns, as they go over the wire.

use runtree_core::float::JsonFloat;
use runtree_core::lineage::Segment;
use runtree_core::{RunId, wire};
use runtree_metrics::{Bucket, Buckets, Joined, JoinedBucket};

/// Buckets over steps or time.
pub(super) fn buckets(
    selector: &wire::SeriesSelector,
    run: RunId,
    logged: u64,
    segments: &[Segment],
    found: &Buckets,
) -> wire::SeriesBuckets {
    let shown = Shown::of(run, segments, |index| {
        let x_start = found.starts.get(index).copied().flatten()?;
        Some((x_start, None))
    });
    let list: Vec<&Bucket> = found.buckets.iter().collect();
    columns(selector, run, (found.points, logged), &list, shown)
}

/// Buckets over another metric.
pub(super) fn joined(
    selector: &wire::SeriesSelector,
    run: RunId,
    logged: u64,
    segments: &[Segment],
    found: &Joined,
) -> wire::SeriesBuckets {
    let shown = Shown::of(run, segments, |index| {
        let (step, place) = found.starts.get(index).copied().flatten()?;
        Some((step.0, Some(JsonFloat(place))))
    });
    let list: Vec<&Bucket> = found.buckets.iter().map(|joined| &joined.bucket).collect();
    let places = |of: fn(&JoinedBucket) -> f64| {
        let places = found.buckets.iter().map(of);
        Some(places.map(JsonFloat).collect())
    };
    wire::SeriesBuckets {
        place_first: places(|joined| joined.place_first),
        place_last: places(|joined| joined.place_last),
        unplaced: Some(found.unplaced),
        ..columns(selector, run, (found.points, logged), &list, shown)
    }
}

/// The segments that have a point; the others draw nothing and are left out.
struct Shown {
    index_of: Vec<Option<u32>>,
    segments: Vec<wire::SeriesSegment>,
}

impl Shown {
    /// `start` says where a segment begins, if it has a point: in units of the axis, and its place over another metric.
    fn of(
        run: RunId,
        segments: &[Segment],
        start: impl Fn(usize) -> Option<(i64, Option<JsonFloat>)>,
    ) -> Self {
        let mut shown = Self {
            index_of: vec![None; segments.len()],
            segments: Vec::new(),
        };
        for (index, segment) in segments.iter().enumerate() {
            let Some((x_start, place_start)) = start(index) else {
                continue;
            };
            shown.index_of[index] = Some(shown.segments.len() as u32);
            shown.segments.push(wire::SeriesSegment {
                run: segment.id.run.to_string(),
                attempt: segment.id.attempt,
                inherited: segment.id.run != run,
                x_start,
                place_start,
            });
        }
        shown
    }
}

fn columns(
    selector: &wire::SeriesSelector,
    run: RunId,
    (points, logged): (u64, u64),
    list: &[&Bucket],
    shown: Shown,
) -> wire::SeriesBuckets {
    let floats = |of: fn(&Bucket) -> f64| -> Vec<JsonFloat> {
        list.iter().map(|bucket| JsonFloat(of(bucket))).collect()
    };
    let segment_of = |bucket: &&Bucket| shown.index_of[bucket.segment as usize].unwrap_or_default();
    wire::SeriesBuckets {
        run: run.to_string(),
        metric: selector.metric.clone(),
        attempt: selector.attempt,
        points,
        logged,
        x_first: list.iter().map(|bucket| bucket.x_first).collect(),
        x_last: list.iter().map(|bucket| bucket.x_last).collect(),
        place_first: None,
        place_last: None,
        unplaced: None,
        min: floats(|bucket| bucket.min),
        max: floats(|bucket| bucket.max),
        mean: floats(|bucket| bucket.mean),
        first: floats(|bucket| bucket.first),
        last: floats(|bucket| bucket.last),
        count: list.iter().map(|bucket| bucket.count).collect(),
        nonfinite: list.iter().map(|bucket| bucket.nonfinite).collect(),
        segment: list.iter().map(segment_of).collect(),
        segments: shown.segments,
    }
}
