use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::lineage::Segment;
use runtree_core::{Step, Timestamp};
use runtree_metrics::{Point, Points, Stitched, StoredBlock, relative_shifts};

use crate::support::{Shelf, any_value, point, segment};

/// Neighbouring segments as timelines have them: each ends at the step where the next begins, or right before it.
pub(crate) fn any_segments() -> impl Strategy<Value = Vec<Segment>> {
    prop::collection::vec((0_i64..40, any::<bool>()), 0..6).prop_map(|cuts| {
        let mut segments = vec![segment(1, i64::MIN, i64::MAX)];
        let mut at = -20;
        for (index, (gap, lowered)) in cuts.into_iter().enumerate() {
            at += gap;
            let last = segments.last_mut().unwrap();
            let end = if lowered { at - 1 } else { at };
            if end < last.first.0 {
                continue;
            }
            last.last = Step(end);
            segments.push(segment(index as u32 + 2, at, i64::MAX));
        }
        segments
    })
}

/// What each attempt logged: several arrivals, each stored on its own, so that blocks overlap.
pub(crate) fn any_arrivals() -> impl Strategy<Value = Vec<Vec<Point>>> {
    let one = (-30_i64..200, any_value()).prop_map(|(step, value)| point(step, 1000 * step, value));
    let run = (-30_i64..150, 1_usize..60, any_value()).prop_map(|(start, count, value)| {
        let at = |index: usize| point(start + index as i64, 1000 * (start + index as i64), value);
        (0..count).map(at).collect()
    });
    let arrival = prop_oneof![prop::collection::vec(one, 1..5), run];
    prop::collection::vec(arrival, 0..5)
}

/// The same by a map: later segments overwrite where they may.
pub(crate) fn model(
    segments: &[Segment],
    attempts: &[Vec<Vec<Point>>],
) -> BTreeMap<i64, (u32, Point)> {
    let mut effective = BTreeMap::new();
    for (index, (segment, arrivals)) in segments.iter().zip(attempts).enumerate() {
        for point in arrivals.iter().flatten() {
            if segment.first <= point.step && point.step <= segment.last {
                effective.insert(point.step.0, (index as u32, *point));
            }
        }
    }
    effective
}

pub(crate) fn shelve(shelf: &mut Shelf, attempts: &[Vec<Vec<Point>>]) -> Vec<Vec<StoredBlock>> {
    let mut store = |arrivals: &Vec<Vec<Point>>| {
        let blocks = arrivals.iter();
        blocks
            .flat_map(|points| shelf.put(Points::from_arrival(points.iter().copied())))
            .collect()
    };
    attempts.iter().map(&mut store).collect()
}

proptest! {
    #[test]
    fn the_stitch_is_what_a_map_says_point_by_point(
        segments in any_segments(),
        attempts in prop::collection::vec(any_arrivals(), 6),
        (first, last) in (-40_i64..220, -40_i64..220),
    ) {
        let mut shelf = Shelf::default();
        let blocks = shelve(&mut shelf, &attempts[..segments.len().min(6)]);
        let segments = &segments[..segments.len().min(6)];
        let expected = model(segments, &attempts);
        let series = Stitched::new(segments, blocks, &shelf).unwrap();

        let all = series.points(Step::MIN, Step::MAX, &shelf).unwrap();
        let exact = |(segment, point): (u32, Point)| (segment, point.step.0, point.timestamp.0, point.value.to_bits());
        let found: Vec<_> = all.segments.iter().copied().zip(all.points.iter()).map(exact).collect();
        let wanted: Vec<_> = expected.values().copied().map(exact).collect();
        prop_assert_eq!(&found, &wanted);

        let some = series.points(Step(first), Step(last), &shelf).unwrap();
        let wanted = expected.keys().copied().filter(|step| (first..=last).contains(step));
        let wanted: Vec<i64> = wanted.collect();
        prop_assert_eq!(some.points.steps(), &wanted[..]);

        for step in (-40..220).chain([i64::MIN, i64::MAX]) {
            let found = series.point_at(Step(step), &shelf).unwrap();
            let found = found.map(|(point, segment)| exact((segment as u32, point)));
            prop_assert_eq!(found, expected.get(&step).copied().map(exact));
        }
        let newest = series.last_point(&shelf).unwrap().map(|(point, at)| exact((at as u32, point)));
        prop_assert_eq!(newest, expected.values().next_back().copied().map(exact));

        let spans = series.time_spans(&shelf).unwrap();
        for (index, span) in spans.iter().enumerate() {
            let own: Vec<_> = expected.values().filter(|(at, _)| *at as usize == index).collect();
            let wanted = own.first().map(|(_, point)| point.timestamp).zip(own.last().map(|(_, point)| point.timestamp));
            prop_assert_eq!(*span, wanted);
        }
    }
}

#[test]
fn at_the_base_step_the_childs_own_point_wins_for_this_metric_alone() {
    let segments = [segment(1, i64::MIN, 50), segment(2, 50, i64::MAX)];
    let parent: Vec<Point> = (0..=100).map(|step| point(step, step, 1.0)).collect();
    let with_own = (50..60).map(|step| point(step, step, 2.0)).collect();
    let without: Vec<Point> = (51..60).map(|step| point(step, step, 2.0)).collect();
    for (child, owner_of_50) in [(with_own, 1), (without, 0)] {
        let mut shelf = Shelf::default();
        let blocks = shelve(&mut shelf, &[vec![parent.clone()], vec![child]]);
        let series = Stitched::new(&segments, blocks, &shelf).unwrap();
        let (_, owner) = series.point_at(Step(50), &shelf).unwrap().unwrap();
        assert_eq!(owner, owner_of_50);
        let all = series.points(Step::MIN, Step::MAX, &shelf).unwrap();
        assert_eq!(all.points.steps(), (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn an_own_point_at_the_base_step_is_seen_wherever_it_stands_in_its_block() {
    // The child also delivered what does not count, so that its point at the base step is the last of a block, or of a sub-block.
    let segments = [segment(1, i64::MIN, 500), segment(2, 500, i64::MAX)];
    let parent: Vec<Point> = (0..=500).map(|step| point(step, step, 1.0)).collect();
    for (first, last) in [(490, 500), (500 - 255, 600), (500, 510), (0, 500)] {
        // With holes, so that the number of points does not say that each step has one.
        let own = (first..=last).filter(|step| step % 3 != 0 || *step == first);
        let child = own.map(|step| point(step, step, 2.0)).collect();
        let mut shelf = Shelf::default();
        let blocks = shelve(&mut shelf, &[vec![parent.clone()], vec![child]]);
        let series = Stitched::new(&segments, blocks, &shelf).unwrap();
        let all = series.points(Step::MIN, Step::MAX, &shelf).unwrap();
        assert!(
            all.points.steps().is_sorted_by(|a, b| a < b),
            "{first}..={last}"
        );
        let at = all.points.at(Step(500)).unwrap();
        assert_eq!(at.value, 2.0, "{first}..={last}");
    }
}

#[test]
fn stitching_blocks_that_do_not_overlap_opens_none_of_them() {
    let segments = [segment(1, i64::MIN, 9_999), segment(2, 10_000, i64::MAX)];
    let run = |from: i64, to: i64| (from..to).map(|step| point(step, step, 0.0)).collect();
    let mut shelf = Shelf::default();
    let blocks = shelve(
        &mut shelf,
        &[vec![run(0, 20_000)], vec![run(10_000, 30_000)]],
    );
    let series = Stitched::new(&segments, blocks, &shelf).unwrap();
    assert_eq!(shelf.loads.get(), 0);
    assert_eq!(
        series
            .points(Step(0), Step(10), &shelf)
            .unwrap()
            .points
            .len(),
        11
    );
    assert_eq!(shelf.loads.get(), 1);
}

#[test]
fn a_chain_of_ten_thousand_segments_is_stitched() {
    let segments: Vec<Segment> = (0..10_000)
        .map(|at| segment(at as u32 + 1, at, if at == 9_999 { i64::MAX } else { at }))
        .collect();
    let mut shelf = Shelf::default();
    let attempts: Vec<_> = (0..10_000)
        .map(|at| vec![vec![point(at, at, 0.5), point(at + 1, at, 0.5)]])
        .collect();
    let blocks = shelve(&mut shelf, &attempts);
    let series = Stitched::new(&segments, blocks, &shelf).unwrap();
    let all = series.points(Step::MIN, Step::MAX, &shelf).unwrap();
    assert_eq!(all.points.steps(), (0..=10_000).collect::<Vec<_>>());
}

#[test]
fn a_block_that_can_not_be_loaded_is_an_error() {
    let blocks = shelve(&mut Shelf::default(), &[vec![vec![point(1, 1, 1.0)]]]);
    let segments = [segment(1, i64::MIN, i64::MAX)];
    let empty = Shelf::default();
    let series = Stitched::new(&segments, blocks, &empty).unwrap();
    assert!(series.points(Step::MIN, Step::MAX, &empty).is_err());
}

#[test]
fn relative_time_takes_the_gap_between_segments_out() {
    let at = |first, last| Some((Timestamp(first), Timestamp(last)));
    let shifts = relative_shifts(&[
        at(1000, 1500),
        None,
        at(9000, 9400),
        at(9100, 9100),
        at(20_000, 20_001),
    ]);
    assert_eq!(shifts, [1000, 0, 8500, 8200, 19_100]);
}
