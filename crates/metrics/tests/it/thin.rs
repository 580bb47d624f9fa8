use proptest::prelude::*;
use runtree_core::Step;
use runtree_metrics::{Point, Stitched};

use crate::series::{any_arrivals, any_segments, model, shelve};
use crate::support::{Noise, Shelf, bits, point, segment};

proptest! {
    #[test]
    fn thinned_points_are_points_and_keep_the_shape(
        segments in any_segments(),
        attempts in prop::collection::vec(any_arrivals(), 6),
        at_most in 1_usize..300,
        (first, last) in (-40_i64..220, -40_i64..220),
    ) {
        let mut shelf = Shelf::default();
        let segments = &segments[..segments.len().min(6)];
        let blocks = shelve(&mut shelf, &attempts[..segments.len()]);
        let series = Stitched::new(segments, blocks, &shelf).unwrap();
        let effective = model(segments, &attempts);
        let wanted: Vec<(u32, Point)> = effective
            .range(first..=last.max(first))
            .filter(|(step, _)| **step <= last)
            .map(|(_, found)| *found)
            .collect();

        let thinned = series.thinned(Step(first), Step(last), at_most, &shelf).unwrap();
        let exact = |(segment, point): (u32, Point)| (segment, point.step.0, point.timestamp.0, point.value.to_bits());
        let kept: Vec<_> = thinned.segments.iter().copied().zip(thinned.points.iter()).map(exact).collect();
        let all: Vec<_> = wanted.iter().copied().map(exact).collect();
        if all.len() <= at_most {
            prop_assert_eq!(&kept, &all);
        }
        prop_assert!(kept.iter().all(|point| all.contains(point)));
        prop_assert!(kept.is_sorted_by_key(|(_, step, ..)| *step));
        prop_assert_eq!(kept.first(), all.first());
        prop_assert_eq!(kept.last(), all.last());
        let finite = || wanted.iter().map(|(_, point)| point.value).filter(|value| value.is_finite());
        let has = |value: f64| thinned.points.values().contains(&value);
        if let Some(smallest) = finite().reduce(f64::min) {
            prop_assert!(has(smallest));
        }
        let odd = wanted.iter().any(|(_, point)| !point.value.is_finite());
        prop_assert_eq!(thinned.points.values().iter().any(|value| !value.is_finite()), odd);
        if let (false, Some(largest)) = (odd, finite().reduce(f64::max)) {
            prop_assert!(has(largest));
        }
        // One more column for each segment that begins inside a column.
        prop_assert!(kept.len() <= at_most.max(4) + 4 * segments.len());
    }
}

#[test]
fn blocks_without_a_kept_point_are_not_opened() {
    let mut noise = Noise(7);
    let points: Vec<Point> = (0..400_000)
        .map(|step| point(step, step, noise.unit()))
        .collect();
    let mut shelf = Shelf::default();
    let blocks = shelve(&mut shelf, &[vec![points.clone()]]);
    let stored = blocks[0].len();
    let series = Stitched::new(&[segment(1, i64::MIN, i64::MAX)], blocks, &shelf).unwrap();
    let thinned = series.thinned(Step::MIN, Step::MAX, 40, &shelf).unwrap();
    assert!((30..=40).contains(&thinned.points.len()));
    assert!(
        shelf.loads.get() <= 40 && shelf.loads.get() < stored,
        "{}",
        shelf.loads.get()
    );

    // More columns than a chart may have: several charts side by side.
    let most = series
        .thinned(Step::MIN, Step::MAX, 399_999, &shelf)
        .unwrap();
    assert!(
        (300_000..=399_999).contains(&most.points.len()),
        "{}",
        most.points.len()
    );
    let whole = series
        .thinned(Step::MIN, Step::MAX, 400_000, &shelf)
        .unwrap();
    let all = series.points(Step::MIN, Step::MAX, &shelf).unwrap();
    assert_eq!(bits(&whole.points), bits(&all.points));
}
