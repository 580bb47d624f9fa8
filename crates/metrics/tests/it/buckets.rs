use proptest::prelude::*;
use runtree_core::lineage::Segment;
use runtree_core::wire::XAxis;
use runtree_core::{ErrorKind, Step};
use runtree_metrics::{Buckets, Point, Points, Query, Stitched};

use crate::series::{any_arrivals, any_segments, shelve};
use crate::support::{Noise, Shelf, point, segment};

fn query(axis: XAxis, from: Option<i64>, to: Option<i64>, pixels: u32) -> Query {
    Query {
        axis,
        from,
        to,
        pixels,
        shifts: Vec::new(),
    }
}

/// A point on the chart.
type Drawn = (i64, i64, f64, u32);

/// Every effective point as (x, step, value, segment).
fn drawn(series: &Stitched, shelf: &Shelf, axis: XAxis) -> Vec<Drawn> {
    let all = series.points(Step::MIN, Step::MAX, shelf).unwrap();
    let shifts = match axis {
        XAxis::Relative => runtree_metrics::relative_shifts(&series.time_spans(shelf).unwrap()),
        _ => vec![0; series.segments().len()],
    };
    let draw = |(point, segment): (Point, u32)| {
        let x = if axis == XAxis::Step {
            point.step.0
        } else {
            point.timestamp.0 - shifts[segment as usize]
        };
        (x, point.step.0, point.value, segment)
    };
    all.points
        .iter()
        .zip(all.segments.iter().copied())
        .map(draw)
        .collect()
}

/// Holds every bucket to the points of the interval it declares.
fn check(buckets: &Buckets, drawn: &[Drawn], from: Option<i64>, to: Option<i64>) {
    let wanted: Vec<&Drawn> = drawn
        .iter()
        .filter(|(x, ..)| from.is_none_or(|from| from <= *x) && to.is_none_or(|to| *x <= to))
        .collect();
    assert_eq!(buckets.points as usize, wanted.len());
    for bucket in &buckets.buckets {
        let mut inside: Vec<&&Drawn> = wanted
            .iter()
            .filter(|(x, _, _, segment)| {
                *segment == bucket.segment && bucket.x_first <= *x && *x <= bucket.x_last
            })
            .collect();
        inside.sort_by_key(|(x, step, ..)| (*x, *step));
        assert_eq!(bucket.count as usize, inside.len(), "{bucket:?}");
        let finite: Vec<f64> = inside
            .iter()
            .map(|at| at.2)
            .filter(|value| value.is_finite())
            .collect();
        assert_eq!(bucket.nonfinite as usize, inside.len() - finite.len());
        let last = inside.last().unwrap();
        assert_eq!((bucket.x_first, bucket.x_last), (inside[0].0, last.0));
        assert_eq!(bucket.last.to_bits(), last.2.to_bits());
        assert_eq!(bucket.first.to_bits(), inside[0].2.to_bits());
        if finite.is_empty() {
            assert!(bucket.min.is_nan() && bucket.max.is_nan() && bucket.mean.is_nan());
            continue;
        }
        assert!(
            finite
                .iter()
                .all(|value| bucket.min <= *value && *value <= bucket.max)
        );
        let holds =
            |step: Step, value: f64| inside.iter().any(|at| at.1 == step.0 && at.2 == value);
        assert!(holds(bucket.min_step, bucket.min) && holds(bucket.max_step, bucket.max));
        let mean = finite
            .iter()
            .map(|value| value / finite.len() as f64)
            .sum::<f64>();
        let scale = finite
            .iter()
            .fold(0.0, |scale: f64, value| scale.max(value.abs()));
        let overflows = finite.iter().sum::<f64>().is_infinite() || scale > 1e300;
        assert!(
            overflows || (bucket.mean - mean).abs() <= 1e-9 * scale + f64::MIN_POSITIVE,
            "{bucket:?} {mean}"
        );
    }
}

proptest! {
    #[test]
    fn every_bucket_is_exact_for_the_interval_it_declares_on_every_axis(
        segments in any_segments(),
        attempts in prop::collection::vec(any_arrivals(), 6),
        from in prop::option::of(-40_i64..220),
        to in prop::option::of(-40_i64..220),
        pixels in 1_u32..50,
    ) {
        let segments: Vec<Segment> = segments.into_iter().take(6).collect();
        let mut shelf = Shelf::default();
        let blocks = shelve(&mut shelf, &attempts[..segments.len()]);
        let series = Stitched::new(&segments, blocks, &shelf).unwrap();
        for axis in [XAxis::Step, XAxis::Wall, XAxis::Relative] {
            let unit = if axis == XAxis::Step { 1 } else { 1000 };
            let (from, to) = (from.map(|x| x * unit), to.map(|x| x * unit));
            let buckets = series.buckets(&query(axis, from, to, pixels), &shelf).unwrap();
            check(&buckets, &drawn(&series, &shelf, axis), from, to);
            prop_assert!(buckets.buckets.len() < pixels as usize + segments.len());
        }
    }

    #[test]
    fn long_series_stay_exact_where_edges_move_and_where_time_jumps(
        seed in 1_u64..,
        count in 3000_i64..20_000,
        stride in 1_i64..4,
        clock_jumps in any::<bool>(),
        zoom in prop::option::of((0_i64..40_000, 0_i64..40_000)),
        pixels in 1_u32..200,
    ) {
        let mut noise = Noise(seed);
        let mut time = 0;
        let points = (0..count).map(|index| {
            time += 50 + (noise.next() % 100) as i64;
            if clock_jumps && noise.next().is_multiple_of(500) {
                time -= 10_000;
            }
            let value = if noise.next().is_multiple_of(997) { f64::NAN } else { noise.unit() };
            point(index * stride, time, value)
        });
        let points: Vec<Point> = points.collect();
        let half = points.len() / 2;
        let base = points[half].step.0;
        let segments = [segment(1, i64::MIN, base), segment(2, base, i64::MAX)];
        let mut shelf = Shelf::default();
        // The parent goes on after the child began, and the child has a point at the base step.
        let blocks = shelve(&mut shelf, &[vec![points[..half + half / 3].to_vec()], vec![points[half..].to_vec()]]);
        let series = Stitched::new(&segments, blocks, &shelf).unwrap();
        for axis in [XAxis::Step, XAxis::Wall, XAxis::Relative] {
            let (from, to) = zoom.map_or((None, None), |(a, b)| (Some(a.min(b)), Some(a.max(b))));
            let buckets = series.buckets(&query(axis, from, to, pixels), &shelf).unwrap();
            check(&buckets, &drawn(&series, &shelf, axis), from, to);
            prop_assert!(clock_jumps || buckets.buckets.len() <= pixels as usize + 1);
        }
    }
}

fn line(count: i64) -> (Stitched, Shelf) {
    let mut shelf = Shelf::default();
    let points = (0..count).map(|step| point(step, 100_000 * step, (step % 1000) as f64));
    let blocks = vec![shelf.put(Points::from_arrival(points))];
    let series = Stitched::new(&[segment(1, i64::MIN, i64::MAX)], blocks, &shelf).unwrap();
    (series, shelf)
}

#[test]
fn where_pixels_hold_four_sub_blocks_no_payload_is_opened_and_none_is_off_by_more_than_a_sixth() {
    let (series, shelf) = line(200_000);
    for axis in [XAxis::Step, XAxis::Wall, XAxis::Relative] {
        let pixels = 200_000 / 256 / 4;
        let buckets = series
            .buckets(&query(axis, None, None, pixels), &shelf)
            .unwrap();
        assert_eq!(
            (buckets.points, buckets.buckets.len()),
            (200_000, pixels as usize)
        );
        assert_eq!(shelf.loads.get(), 0, "{axis:?}");
        let most = buckets
            .buckets
            .iter()
            .map(|bucket| bucket.count)
            .max()
            .unwrap();
        let even = 200_000.0 / f64::from(pixels);
        assert!((most as f64) < even * (1.0 + 2.0 / 6.0), "{most} {even}");
    }
    let fine = series
        .buckets(&query(XAxis::Step, Some(1000), Some(1999), 1000), &shelf)
        .unwrap();
    assert_eq!(shelf.loads.get(), 1);
    assert!(fine.buckets.iter().all(|bucket| bucket.count == 1) && fine.buckets.len() == 1000);
}

#[test]
fn segments_are_never_mixed_and_say_where_they_begin() {
    let segments = [
        segment(1, i64::MIN, 50),
        segment(2, 51, 80),
        segment(3, 80, i64::MAX),
    ];
    let run = |from: i64, to: i64, late: i64| {
        let points = (from..to).map(|step| point(step, late + 10 * step, 1.0));
        vec![points.collect::<Vec<_>>()]
    };
    let mut shelf = Shelf::default();
    let blocks = shelve(
        &mut shelf,
        &[run(5, 90, 0), run(90, 95, 1000), run(81, 120, 5000)],
    );
    let series = Stitched::new(&segments, blocks, &shelf).unwrap();
    let on_steps = series
        .buckets(&query(XAxis::Step, None, None, 1), &shelf)
        .unwrap();
    let counts = |buckets: &Buckets| -> Vec<(u32, u64)> {
        buckets
            .buckets
            .iter()
            .map(|bucket| (bucket.segment, bucket.count))
            .collect()
    };
    assert_eq!(counts(&on_steps), [(0, 46), (2, 39)]);
    // Nothing was logged from 51 to 80: that stretch has no beginning, and the last one begins at its base step.
    assert_eq!(on_steps.starts, [Some(5), None, Some(80)]);
    let in_time = series
        .buckets(&query(XAxis::Relative, None, None, 1), &shelf)
        .unwrap();
    assert_eq!(counts(&in_time), [(0, 46), (2, 39)]);
    assert_eq!(in_time.starts, [Some(0), None, Some(450)]);
    let on_the_wall = series
        .buckets(&query(XAxis::Wall, None, None, 1), &shelf)
        .unwrap();
    assert_eq!(on_the_wall.starts, [Some(50), None, Some(5810)]);
}

#[test]
fn non_finite_values_are_counted_and_never_drawn_as_numbers() {
    let mut shelf = Shelf::default();
    let values = [f64::NAN, 2.0, f64::INFINITY, -1.0, f64::NEG_INFINITY];
    let points = (0..5)
        .zip(values)
        .map(|(step, value)| point(step, 0, value));
    let blocks = vec![shelf.put(Points::from_arrival(points))];
    let series = Stitched::new(&[segment(1, i64::MIN, i64::MAX)], blocks, &shelf).unwrap();
    let buckets = series
        .buckets(&query(XAxis::Step, None, None, 1), &shelf)
        .unwrap();
    let bucket = &buckets.buckets[0];
    assert_eq!((bucket.count, bucket.nonfinite), (5, 3));
    assert_eq!((bucket.min, bucket.max, bucket.mean), (-1.0, 2.0, 0.5));
    assert_eq!((bucket.min_step, bucket.max_step), (Step(3), Step(1)));
    assert!(bucket.first.is_nan() && bucket.last == f64::NEG_INFINITY);
    let single = series
        .buckets(&query(XAxis::Step, Some(0), Some(0), 10), &shelf)
        .unwrap();
    assert!(single.buckets[0].mean.is_nan() && single.buckets[0].min.is_nan());
}

#[test]
fn a_mean_of_huge_values_is_finite() {
    let mut shelf = Shelf::default();
    let points = (0..4).map(|step| point(step, 0, f64::MAX));
    let blocks = vec![shelf.put(Points::from_arrival(points))];
    let series = Stitched::new(&[segment(1, i64::MIN, i64::MAX)], blocks, &shelf).unwrap();
    let buckets = series
        .buckets(&query(XAxis::Step, None, None, 1), &shelf)
        .unwrap();
    assert_eq!(buckets.buckets[0].mean, f64::MAX);
}

#[test]
fn the_whole_range_of_steps_and_empty_ranges_are_drawn_without_overflow() {
    let mut shelf = Shelf::default();
    let ends = [
        point(i64::MIN, i64::MIN, 1.0),
        point(0, 0, 2.0),
        point(i64::MAX, i64::MAX, 3.0),
    ];
    let blocks = vec![shelf.put(Points::from_arrival(ends))];
    let series = Stitched::new(&[segment(1, i64::MIN, i64::MAX)], blocks, &shelf).unwrap();
    for axis in [XAxis::Step, XAxis::Wall] {
        let buckets = series
            .buckets(&query(axis, None, None, 65_536), &shelf)
            .unwrap();
        assert_eq!(buckets.buckets.len(), 3);
        assert_eq!(
            series
                .buckets(&query(axis, None, None, 1), &shelf)
                .unwrap()
                .buckets
                .len(),
            1
        );
    }
    let backwards = series
        .buckets(&query(XAxis::Step, Some(5), Some(4), 10), &shelf)
        .unwrap();
    assert!(backwards.buckets.is_empty());
    let nothing = Stitched::new(&[], Vec::new(), &shelf).unwrap();
    assert_eq!(
        nothing
            .buckets(&query(XAxis::Wall, None, None, 10), &shelf)
            .unwrap()
            .points,
        0
    );
}

#[test]
fn a_query_of_no_pixels_or_with_the_wrong_shifts_is_invalid() {
    let (series, shelf) = line(10);
    for pixels in [0, 65_537] {
        let error = series
            .buckets(&query(XAxis::Step, None, None, pixels), &shelf)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(
            error.message(),
            format!("a chart has 1 to 65536 pixels, not {pixels}")
        );
    }
    let mut wrong = query(XAxis::Relative, None, None, 10);
    wrong.shifts = vec![1, 2];
    let error = series.buckets(&wrong, &shelf).unwrap_err();
    assert_eq!(error.message(), "relative time has 2 shifts for 1 segments");
    wrong.shifts = vec![500_000];
    let shifted = series.buckets(&wrong, &shelf).unwrap();
    assert_eq!(shifted.starts, [Some(-500_000)]);
}
