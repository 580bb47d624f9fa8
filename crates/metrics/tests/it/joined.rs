use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::wire::AxisMode;
use runtree_core::{ErrorKind, Step};
use runtree_metrics::{Joined, JoinedQuery, Point, Points, Stitched, joined};

use crate::series::{any_arrivals, any_segments, model, shelve};
use crate::support::{Shelf, point, segment};

fn query(mode: AxisMode) -> JoinedQuery {
    JoinedQuery {
        mode,
        from: None,
        to: None,
        pixels: 10,
    }
}

/// A series of two launches: what each logged, `(step, value)`; the second goes on after `joint`.
fn two(shelf: &mut Shelf, joint: i64, a: &[(i64, f64)], b: &[(i64, f64)]) -> Stitched {
    let segments = [segment(1, i64::MIN, joint), segment(2, joint, i64::MAX)];
    let points = |list: &[(i64, f64)]| {
        Points::from_arrival(list.iter().map(|(step, value)| point(*step, 0, *value)))
    };
    let blocks = vec![shelf.put(points(a)), shelf.put(points(b))];
    Stitched::new(&segments, blocks, shelf).unwrap()
}

/// Place of each bucket of one point.
fn places(answer: &Joined) -> Vec<(i64, f64)> {
    let buckets = answer.buckets.iter();
    let mut places: Vec<_> = buckets
        .map(|joined| (joined.bucket.x_first, joined.place_first))
        .collect();
    places.sort_by_key(|(step, _)| *step);
    places
}

#[test]
fn a_counter_that_launches_start_at_zero_goes_on_over_the_joint() {
    let mut shelf = Shelf::default();
    let values = two(&mut shelf, 2, &[(1, 9.0), (2, 8.0)], &[(3, 7.0), (4, 6.0)]);
    let restarted = two(
        &mut shelf,
        2,
        &[(1, 10.0), (2, 20.0)],
        &[(3, 10.0), (4, 20.0)],
    );
    let restored = two(
        &mut shelf,
        2,
        &[(1, 10.0), (2, 20.0)],
        &[(3, 30.0), (4, 40.0)],
    );
    let amounts = two(
        &mut shelf,
        2,
        &[(1, 10.0), (2, 10.0)],
        &[(3, 10.0), (4, 10.0)],
    );
    let over = |axis: &Stitched, mode| {
        places(&joined(&values, &shelf, axis, &shelf, &query(mode)).unwrap())
    };
    let expected = [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)];
    assert_eq!(over(&restarted, AxisMode::Continued), expected);
    assert_eq!(over(&restored, AxisMode::Continued), expected);
    assert_eq!(over(&amounts, AxisMode::Sum), expected);
    assert_eq!(
        joined(&values, &shelf, &restarted, &shelf, &query(AxisMode::Value))
            .unwrap()
            .buckets
            .len(),
        4,
        "as they are, both launches stand over each other, told apart by segment"
    );
}

#[test]
fn a_point_stands_at_the_latest_finite_value_before_it() {
    let mut shelf = Shelf::default();
    let values = two(
        &mut shelf,
        9,
        &[(0, 1.0), (1, f64::NAN), (3, 2.0), (5, 3.0)],
        &[],
    );
    let axis = two(&mut shelf, 9, &[(1, 100.0), (3, f64::NAN), (4, 200.0)], &[]);
    let answer = joined(&values, &shelf, &axis, &shelf, &query(AxisMode::Value)).unwrap();
    assert_eq!((answer.points, answer.unplaced), (3, 1));
    let [left, right] = answer.buckets.as_slice() else {
        panic!("{answer:?}");
    };
    assert_eq!((left.place_first, left.place_last), (100.0, 100.0));
    let bucket = left.bucket;
    assert_eq!(
        (
            bucket.count,
            bucket.nonfinite,
            bucket.x_first,
            bucket.x_last
        ),
        (2, 1, 1, 3)
    );
    assert_eq!(
        (bucket.min, bucket.max, bucket.mean, bucket.last),
        (2.0, 2.0, 2.0, 2.0)
    );
    assert!(bucket.first.is_nan());
    assert_eq!((right.place_first, right.bucket.first), (200.0, 3.0));
    assert_eq!(answer.starts, [Some((Step(1), 100.0)), None]);
}

#[test]
fn without_a_place_nothing_is_drawn_and_it_is_said() {
    let mut shelf = Shelf::default();
    let values = two(&mut shelf, 9, &[(0, 1.0), (1, 2.0)], &[]);
    let axis = two(&mut shelf, 9, &[], &[]);
    let answer = joined(&values, &shelf, &axis, &shelf, &query(AxisMode::Sum)).unwrap();
    assert_eq!((answer.buckets.len(), answer.unplaced), (0, 2));
    let refused = JoinedQuery {
        pixels: 0,
        ..query(AxisMode::Value)
    };
    let refused = joined(&values, &shelf, &axis, &shelf, &refused).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// Where each step of the axis stands, by hand.
fn model_places(axis: &BTreeMap<i64, (u32, Point)>, mode: AxisMode) -> BTreeMap<i64, f64> {
    let mut places = BTreeMap::new();
    let (mut last, mut shift, mut launch) = (None::<f64>, 0.0, None);
    for (step, (segment, point)) in axis {
        if !point.value.is_finite() {
            continue;
        }
        let place = match mode {
            AxisMode::Value => point.value,
            AxisMode::Sum => last.unwrap_or(0.0) + point.value,
            AxisMode::Continued => {
                if launch != Some(*segment)
                    && let Some(last) = last
                    && point.value + shift < last
                {
                    shift = last;
                }
                launch = Some(*segment);
                point.value + shift
            }
        };
        if place.is_finite() {
            places.insert(*step, place);
            last = Some(place);
        }
    }
    places
}

proptest! {
    #[test]
    fn every_point_with_a_place_is_in_the_bucket_of_its_pixel_and_segment(
        segments in any_segments(),
        value_arrivals in prop::collection::vec(any_arrivals(), 6),
        axis_arrivals in prop::collection::vec(any_arrivals(), 6),
        mode in prop::sample::select(vec![AxisMode::Value, AxisMode::Continued, AxisMode::Sum]),
        range in prop::option::of((-150.0_f64..150.0, 0.0_f64..200.0)),
        pixels in 1_u32..40,
    ) {
        let mut shelf = Shelf::default();
        let segments = &segments[..segments.len().min(6)];
        let blocks = shelve(&mut shelf, &value_arrivals[..segments.len()]);
        let values = Stitched::new(segments, blocks, &shelf).unwrap();
        let blocks = shelve(&mut shelf, &axis_arrivals[..segments.len()]);
        let axis = Stitched::new(segments, blocks, &shelf).unwrap();
        let query = JoinedQuery {
            mode,
            from: range.map(|(from, _)| from),
            to: range.map(|(from, width)| from + width),
            pixels,
        };
        let answer = joined(&values, &shelf, &axis, &shelf, &query).unwrap();

        let places = model_places(&model(segments, &axis_arrivals), mode);
        let drawn: Vec<(f64, u32, Point)> = model(segments, &value_arrivals)
            .into_iter()
            .filter_map(|(step, (segment, point))| {
                let (_, place) = places.range(..=step).next_back()?;
                Some((*place, segment, point))
            })
            .collect();
        let all = values.points(Step::MIN, Step::MAX, &shelf).unwrap().points.len();
        prop_assert_eq!(answer.unplaced as usize, all - drawn.len());
        let inside: Vec<_> = drawn
            .iter()
            .filter(|(place, ..)| range.is_none_or(|(from, width)| from <= *place && *place <= from + width))
            .collect();
        prop_assert_eq!(answer.points as usize, inside.len());
        let mut counted = 0;
        for found in &answer.buckets {
            let own: Vec<_> = inside
                .iter()
                .filter(|(place, segment, _)| {
                    *segment == found.bucket.segment && found.place_first <= *place && *place <= found.place_last
                })
                .collect();
            counted += own.len();
            prop_assert_eq!(found.bucket.count as usize, own.len());
            let values: Vec<f64> = own.iter().map(|(_, _, point)| point.value).collect();
            let finite = || values.iter().copied().filter(|value| value.is_finite());
            prop_assert_eq!(found.bucket.first.to_bits(), values[0].to_bits());
            prop_assert_eq!(found.bucket.last.to_bits(), values[values.len() - 1].to_bits());
            prop_assert_eq!(found.bucket.nonfinite as usize, values.len() - finite().count());
            if finite().count() == 0 {
                prop_assert!(found.bucket.min.is_nan() && found.bucket.max.is_nan());
            } else {
                prop_assert_eq!(found.bucket.min, finite().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(found.bucket.max, finite().fold(f64::NEG_INFINITY, f64::max));
            }
        }
        prop_assert_eq!(counted, inside.len(), "each point is in one bucket");
        prop_assert!(answer.buckets.windows(2).all(|pair| pair[0].place_first <= pair[1].place_first));
        let mut per_segment = BTreeMap::new();
        for found in &answer.buckets {
            *per_segment.entry(found.bucket.segment).or_insert(0_u32) += 1;
        }
        prop_assert!(per_segment.values().all(|count| *count <= pixels));
    }
}
