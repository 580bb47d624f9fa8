//! Thinned series: points that are there, few of them, and none of the extremes missing.

use proptest::prelude::*;
use runtree_core::Step;
use runtree_metrics::Stitched;

use crate::series::{any_arrivals, any_segments, model, shelve};
use crate::support::{Shelf, point, segment};

proptest! {
    #[test]
    fn a_thinned_series_keeps_ends_and_extremes_and_invents_nothing(
        segments in any_segments(),
        attempts in prop::collection::vec(any_arrivals(), 6),
        (first, last) in (-40_i64..220, -40_i64..220),
        at_most in 1_usize..120,
    ) {
        let mut shelf = Shelf::default();
        let segments = &segments[..segments.len().min(6)];
        let blocks = shelve(&mut shelf, &attempts[..segments.len()]);
        let series = Stitched::new(segments, blocks, &shelf).unwrap();
        let all: Vec<_> = model(segments, &attempts).into_values()
            .filter(|(_, point)| (first..=last).contains(&point.step.0))
            .collect();

        let thin = series.thinned(Step(first), Step(last), at_most, &shelf).unwrap();
        let exact = |(segment, point): (u32, runtree_metrics::Point)| (segment, point.step, point.timestamp, point.value.to_bits());
        let found: Vec<_> = thin.segments.iter().copied().zip(thin.points.iter()).map(exact).collect();
        let there: Vec<_> = all.iter().copied().map(exact).collect();
        prop_assert!(found.iter().all(|point| there.contains(point)), "{found:?} of {there:?}");
        prop_assert!(found.is_sorted_by_key(|&(_, step, ..)| step));
        if all.len() <= at_most {
            prop_assert_eq!(&found, &there);
        }
        prop_assert!(found.len() <= at_most.max(4));
        let whole = series.thinned(Step(first), Step(last), all.len(), &shelf).unwrap();
        prop_assert_eq!(whole.points.len(), all.len());
        prop_assert_eq!(found.first(), there.first());
        prop_assert_eq!(found.last(), there.last());

        let values = || all.iter().map(|(_, point)| point.value);
        let kept = || thin.points.values().iter().copied();
        let least = |values: &mut dyn Iterator<Item = f64>| values.filter(|value| value.is_finite()).reduce(f64::min);
        prop_assert_eq!(least(&mut kept()), least(&mut values()));
        let is_odd = |value: f64| !value.is_finite();
        prop_assert_eq!(kept().any(is_odd), values().any(is_odd));
        if !values().any(is_odd) {
            let most = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
            prop_assert_eq!(most(&mut kept()), most(&mut values()));
        }
    }
}

#[test]
fn thinning_a_long_series_decodes_few_payloads_whole() {
    let segments = [segment(1, i64::MIN, 399_999), segment(2, 400_000, i64::MAX)];
    let run =
        |from: i64, to: i64| (from..to).map(|step| point(step, 7 * step, (step % 977) as f64));
    let mut shelf = Shelf::default();
    let attempts = [
        vec![run(0, 500_000).collect()],
        vec![run(400_000, 1_000_000).collect()],
    ];
    let blocks = shelve(&mut shelf, &attempts);
    let series = Stitched::new(&segments, blocks, &shelf).unwrap();
    shelf.loads.set(0);
    let thin = series.thinned(Step::MIN, Step::MAX, 1000, &shelf).unwrap();
    assert!((500..=1010).contains(&thin.points.len()));
    assert!(
        thin.points
            .iter()
            .all(|point| point.timestamp.0 == 7 * point.step.0)
    );
    // Those where the segments' ends cut a sub-block.
    assert!(shelf.loads.get() <= 2, "{}", shelf.loads.get());
}
