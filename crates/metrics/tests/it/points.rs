use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::Step;
use runtree_metrics::{Point, Points};

use crate::support::{any_point, bits, point};

/// What points are by definition: a map in which later arrivals overwrite.
fn model(points: &[Point]) -> Vec<(i64, i64, u64)> {
    let map: BTreeMap<i64, Point> = points.iter().map(|point| (point.step.0, *point)).collect();
    map.into_values()
        .map(|point| (point.step.0, point.timestamp.0, point.value.to_bits()))
        .collect()
}

proptest! {
    #[test]
    fn the_last_write_at_a_step_wins_in_any_order_of_arrival(
        points in prop::collection::vec(any_point(), 0..200),
    ) {
        prop_assert_eq!(bits(&Points::from_arrival(points.iter().copied())), model(&points));
    }

    #[test]
    fn merging_is_arriving_later(
        older in prop::collection::vec(any_point(), 0..100),
        newer in prop::collection::vec(any_point(), 0..100),
    ) {
        let merged = Points::merge(
            &Points::from_arrival(older.iter().copied()),
            &Points::from_arrival(newer.iter().copied()),
        );
        let both: Vec<Point> = older.into_iter().chain(newer).collect();
        prop_assert_eq!(bits(&merged), model(&both));
    }

    #[test]
    fn a_range_holds_exactly_the_steps_asked_for(
        points in prop::collection::vec(any_point(), 0..100),
        first in -60_i64..60,
        last in -60_i64..60,
    ) {
        let points = Points::from_arrival(points);
        let range = points.range(Step(first), Step(last));
        let expected: Vec<i64> = points.steps().iter().copied()
            .filter(|step| (first..=last).contains(step)).collect();
        let slice = points.slice(range);
        prop_assert_eq!(slice.steps(), &expected[..]);
    }
}

#[test]
fn cutting_into_blocks_keeps_every_point_and_no_block_is_too_large() {
    for count in [0, 1, 4096, 4097, 8192, 10_000] {
        let points = Points::from_arrival((0..count).map(|step| point(step, step, step as f64)));
        let blocks = points.clone().into_blocks();
        assert!(blocks.iter().all(|block| block.points().len() <= 4096));
        assert_eq!(blocks.len(), points.len().div_ceil(4096));
        let together = blocks
            .iter()
            .flat_map(|block| bits(block.points()))
            .collect::<Vec<_>>();
        assert_eq!(together, bits(&points));
    }
}

#[test]
fn a_point_is_found_at_its_step_alone() {
    let points = Points::from_arrival([point(3, 1, 0.5), point(9, 2, f64::NAN)]);
    assert_eq!(
        points.at(Step(3)).unwrap().value.to_bits(),
        0.5_f64.to_bits()
    );
    assert!(points.at(Step(9)).unwrap().value.is_nan());
    assert!(points.at(Step(4)).is_none());
}
