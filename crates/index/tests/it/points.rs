//! Points: blocks, tails, steps logged again, NaN.

use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::Step;
use runtree_index::{Index, SeriesFilter, SeriesRow, StepSpan};
use runtree_metrics::SeriesName;

use crate::builder::{Journal, attempt_id, fold, own_points, pairs, run, show};

crate::indexes! {
    many_small_folds_make_full_blocks_and_a_tail,
    the_layout_is_the_same_however_points_arrived,
    a_step_logged_again_keeps_the_last_value,
    points_logged_into_the_past_push_later_ones_along,
    a_metric_that_is_never_finite_has_no_extremes,
    of_two_writers_of_a_launch_the_one_that_opened_later_wins,
    system_metrics_are_kept_and_shown_in_no_list,
    a_span_loads_only_the_blocks_it_meets,
    the_first_value_that_is_not_finite_is_found_in_old_blocks,
    points_before_a_launch_was_opened_are_refused,
}

fn series(index: &dyn Index, metric: &str) -> Vec<SeriesRow> {
    let filter = SeriesFilter {
        attempts: vec![attempt_id(1, 1)],
        metrics: vec![metric.to_owned()],
        system: None,
    };
    index.snapshot().unwrap().series(&filter).unwrap()
}

/// First and last step of each block, and its number of points.
fn layout(index: &dyn Index, metric: &str) -> Vec<(i64, i64, u32)> {
    let snapshot = index.snapshot().unwrap();
    let id = series(index, metric)[0].id;
    let blocks = snapshot.blocks(id, StepSpan::ALL).unwrap();
    let totals = blocks.iter().map(|block| block.summaries.total());
    totals
        .map(|total| (total.step_first.0, total.step_last.0, total.n))
        .collect()
}

fn many_small_folds_make_full_blocks_and_a_tail(index: &dyn Index) {
    fold(index, run(1, None));
    let mut journal = Journal::opened(1, 1, 1, 0);
    fold(index, [journal.whole()]);
    for fold_number in 0..100 {
        let points: Vec<_> = (0..100)
            .map(|i| {
                (
                    "loss",
                    fold_number * 100 + i,
                    (fold_number * 100 + i) as f64,
                )
            })
            .collect();
        let before = journal.frames.len();
        journal = journal.points(&points);
        fold(index, [journal.range(before, before + 1)]);
    }
    assert_eq!(
        layout(index, "loss"),
        [(0, 4095, 4096), (4096, 8191, 4096), (8192, 9999, 1808)]
    );
    let stats = series(index, "loss")[0].stats;
    assert_eq!(
        (stats.points, stats.last.step, stats.last.value),
        (10_000, Step(9999), 9999.0)
    );
    assert_eq!(stats.max.unwrap().step, Step(9999));
    let snapshot = index.snapshot().unwrap();
    let points = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
    assert!(
        pairs(&points)
            .iter()
            .enumerate()
            .all(|(i, &point)| point == (i as i64, i as f64))
    );
    assert_eq!(points.len(), 10_000);
}

fn the_layout_is_the_same_however_points_arrived(index: &dyn Index) {
    fold(index, run(1, None));
    // Backwards, thousand by thousand.
    let mut journal = Journal::opened(1, 1, 1, 0);
    for chunk in (0..9).rev() {
        let points: Vec<_> = (0..1000).map(|i| ("loss", chunk * 1000 + i, 1.5)).collect();
        journal = journal.points(&points);
    }
    for frame in 0..journal.frames.len() {
        fold(index, [journal.range(frame, frame + 1)]);
    }
    assert_eq!(
        layout(index, "loss"),
        [(0, 4095, 4096), (4096, 8191, 4096), (8192, 8999, 808)]
    );
}

fn a_step_logged_again_keeps_the_last_value(index: &dyn Index) {
    fold(index, run(1, None));
    let points: Vec<_> = (0..5000).map(|i| ("loss", i, 1.0)).collect();
    let journal = Journal::opened(1, 1, 1, 0)
        .points(&points)
        .points(&[("loss", 4999, 2.0)])
        .points(&[("loss", 10, 3.0), ("loss", 10, 4.0)]);
    for frame in 0..journal.frames.len() {
        fold(index, [journal.range(frame, frame + 1)]);
    }
    let snapshot = index.snapshot().unwrap();
    let points = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
    assert_eq!(points.len(), 5000);
    assert_eq!(points.at(Step(4999)).unwrap().value, 2.0);
    assert_eq!(points.at(Step(10)).unwrap().value, 4.0);
    let stats = series(index, "loss")[0].stats;
    assert_eq!(
        (stats.max.unwrap().step, stats.max.unwrap().value),
        (Step(10), 4.0)
    );
    assert_eq!(show(index, 1).metrics["loss"].last.value, 2.0);
    assert_eq!(layout(index, "loss"), [(0, 4095, 4096), (4096, 4999, 904)]);
}

fn points_logged_into_the_past_push_later_ones_along(index: &dyn Index) {
    fold(index, run(1, None));
    let even: Vec<_> = (0..10_000).map(|i| ("loss", i * 2, 0.0)).collect();
    let journal = Journal::opened(1, 1, 1, 0).points(&even).points(&[
        ("loss", 1, 1.0),
        ("loss", 9001, 1.0),
        ("loss", 50_000, 1.0),
    ]);
    for frame in 0..journal.frames.len() {
        fold(index, [journal.range(frame, frame + 1)]);
    }
    assert_eq!(
        layout(index, "loss"),
        [(0, 8188, 4096), (8190, 16378, 4096), (16380, 50_000, 1811)]
    );
    let stats = series(index, "loss")[0].stats;
    assert_eq!((stats.points, stats.last.step), (10_003, Step(50_000)));
    assert_eq!(stats.max.unwrap().step, Step(1));
}

fn a_metric_that_is_never_finite_has_no_extremes(index: &dyn Index) {
    fold(index, run(1, None));
    let journal = Journal::opened(1, 1, 1, 0).points(&[
        ("loss", 5, f64::NAN),
        ("loss", 6, f64::NEG_INFINITY),
        ("acc", 7, 1.0),
    ]);
    fold(index, [journal.whole()]);
    let stats = series(index, "loss")[0].stats;
    assert_eq!((stats.points, stats.nonfinite), (2, 2));
    assert_eq!((stats.min, stats.max), (None, None));
    assert_eq!(stats.first_nonfinite, Some(Step(5)));
    assert!(stats.first.value.is_nan());
    assert_eq!(stats.last.value, f64::NEG_INFINITY);
    let row = show(index, 1);
    assert_eq!(row.metrics["loss"].last.value, f64::NEG_INFINITY);
    let nonfinite = row.first_nonfinite.unwrap();
    assert_eq!(
        (nonfinite.metric.as_str(), nonfinite.step),
        ("loss", Step(5))
    );
}

fn of_two_writers_of_a_launch_the_one_that_opened_later_wins(index: &dyn Index) {
    fold(index, run(1, None));
    // The larger writer id opened first: time decides, not the id.
    let first = Journal::opened(1, 1, 9, 100).points(&[
        ("loss", 1, 1.0),
        ("loss", 2, f64::NAN),
        ("loss", 3, 1.0),
    ]);
    let second = Journal::opened(1, 1, 3, 200).points(&[("loss", 2, 2.0), ("loss", 3, 2.0)]);
    fold(index, [second.whole(), first.whole()]);
    let snapshot = index.snapshot().unwrap();
    let points = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
    assert_eq!(pairs(&points), [(1, 1.0), (2, 2.0), (3, 2.0)]);
    let row = show(index, 1);
    assert_eq!(row.metrics["loss"].last.value, 2.0);
    assert_eq!(row.first_nonfinite, None, "the NaN was replaced");
}

fn system_metrics_are_kept_and_shown_in_no_list(index: &dyn Index) {
    fold(index, run(1, None));
    let system = SeriesName {
        system: true,
        ..SeriesName::new("cpu")
    };
    let journal = Journal::opened(1, 1, 1, 0)
        .batch(&[(system, 900, f64::NAN), (SeriesName::new("loss"), 3, 0.5)]);
    fold(index, [journal.whole()]);
    let row = show(index, 1);
    assert_eq!(row.metrics.keys().collect::<Vec<_>>(), ["loss"]);
    assert_eq!(row.last_step, Some(Step(3)));
    assert_eq!(row.first_nonfinite, None);
    assert!(series(index, "cpu")[0].system);
}

fn a_span_loads_only_the_blocks_it_meets(index: &dyn Index) {
    fold(index, run(1, None));
    let points: Vec<_> = (0..10_000).map(|i| ("loss", i * 10, 0.0)).collect();
    fold(index, [Journal::opened(1, 1, 1, 0).points(&points).whole()]);
    let id = series(index, "loss")[0].id;
    let snapshot = index.snapshot().unwrap();
    let first_steps = |first, last| -> Vec<i64> {
        let span = StepSpan {
            first: Step(first),
            last: Step(last),
        };
        let blocks = snapshot.blocks(id, span).unwrap();
        blocks
            .iter()
            .map(|block| snapshot.load(block.id).unwrap().steps()[0])
            .collect()
    };
    assert_eq!(first_steps(0, 0), [0]);
    assert_eq!(first_steps(40_950, 40_960), [0, 40_960]);
    assert_eq!(first_steps(90_000, i64::MAX), [81_920]);
    assert_eq!(first_steps(100_000, i64::MAX), [0_i64; 0]);
    assert_eq!(first_steps(i64::MIN, -1), [0_i64; 0]);
}

fn the_first_value_that_is_not_finite_is_found_in_old_blocks(index: &dyn Index) {
    fold(index, run(1, None));
    let mut points: Vec<_> = (0..20_000).map(|i| ("loss", i, 0.0)).collect();
    points[9000].2 = f64::NAN;
    points[15_000].2 = f64::INFINITY;
    let journal = Journal::opened(1, 1, 1, 0)
        .points(&points)
        .points(&[("loss", 9000, 1.0)]);
    fold(index, [journal.range(0, 2)]);
    assert_eq!(show(index, 1).first_nonfinite.unwrap().step, Step(9000));
    fold(index, [journal.range(2, 3)]);
    assert_eq!(show(index, 1).first_nonfinite.unwrap().step, Step(15_000));
    assert_eq!(series(index, "loss")[0].stats.nonfinite, 1);
}

fn points_before_a_launch_was_opened_are_refused(index: &dyn Index) {
    fold(index, run(1, None));
    let journal = Journal::tool(1, 1).points(&[("loss", 1, 1.0)]);
    let error = index.apply(&[journal.whole()]).unwrap_err();
    assert_eq!(error.kind(), runtree_core::ErrorKind::Corrupt);
    assert!(error.message().contains("opened no launch"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn big_series_in_any_pieces_equal_a_map(
        pieces in prop::collection::vec((0_i64..12_000, 1_usize..5000, 1_i64..4), 1..7),
        cuts in any::<u64>(),
    ) {
        let fixture = crate::sqlite();
        let index = fixture.index.as_ref();
        fold(index, run(1, None));
        let mut journal = Journal::opened(1, 1, 1, 0);
        let mut model: BTreeMap<i64, f64> = BTreeMap::new();
        for (number, &(start, count, stride)) in pieces.iter().enumerate() {
            let points: Vec<_> = (0..count as i64)
                .map(|i| ("loss", start + i * stride, (i * 7 + number as i64) as f64))
                .collect();
            model.extend(points.iter().map(|&(_, step, value)| (step, value)));
            journal = journal.points(&points);
        }
        let mut from = 0;
        for frame in 0..journal.frames.len() {
            if cuts >> frame & 1 == 1 || frame + 1 == journal.frames.len() {
                fold(index, [journal.range(from, frame + 1)]);
                from = frame + 1;
            }
        }
        let snapshot = index.snapshot().unwrap();
        let points = own_points(snapshot.as_ref(), attempt_id(1, 1), "loss");
        prop_assert_eq!(pairs(&points), model.iter().map(|(&step, &value)| (step, value)).collect::<Vec<_>>());
        let stats = series(index, "loss")[0].stats;
        let max = model.values().copied().fold(f64::MIN, f64::max);
        let first_max = model.iter().find(|&(_, &value)| value == max).map(|(&step, _)| Step(step));
        prop_assert_eq!(stats.max.map(|max| max.step), first_max);
        prop_assert_eq!(stats.points, model.len() as u64);
        for (number, &(first, last, n)) in layout(index, "loss").iter().enumerate() {
            let steps: Vec<_> = model.keys().skip(number * 4096).take(4096).collect();
            prop_assert_eq!((first, last, n as usize), (*steps[0], **steps.last().unwrap(), steps.len()));
        }
    }
}
