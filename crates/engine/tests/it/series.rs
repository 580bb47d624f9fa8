//! Charts and numbers along a lineage.

use runtree_core::wire::{SeriesBuckets, SeriesRequest, SeriesSelector, XAxis};
use runtree_core::{AttemptNumber, ErrorKind, RunId, Step};
use runtree_engine::{CheckpointScope, HistoryQuery, Purpose, ResumePolicy};

use crate::support::*;

fn chart(bench: &Bench, run: RunId, x: XAxis, inherited: bool) -> SeriesBuckets {
    let request = SeriesRequest {
        series: vec![SeriesSelector {
            run: run.to_string(),
            metric: "loss".to_owned(),
            attempt: None,
        }],
        x,
        from: None,
        to: None,
        pixels: 500,
        inherited,
    };
    bench.engine.series(&request).unwrap().series.remove(0)
}

#[test]
fn a_fork_is_one_curve_whose_segments_say_where_it_was_forked() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[]);
    bench.clock.advance(3600);
    let b = bench.forked(a, 50, 120, &[]);
    let curve = chart(&bench, b, XAxis::Step, true);
    assert_eq!(curve.points, 121);
    assert_eq!(curve.segments.len(), 2);
    assert_eq!(curve.segments[0].run, a.to_string());
    assert!(curve.segments[0].inherited && !curve.segments[1].inherited);
    assert_eq!(curve.segments[1].x_start, 50);
    let own = chart(&bench, b, XAxis::Step, false);
    assert_eq!((own.points, own.x_first[0]), (70, 51));
    // On the axis of training time the hour between parent and child is taken out; on the clock's it is not.
    let relative = chart(&bench, b, XAxis::Relative, true);
    assert_eq!(relative.x_first[0], 0);
    assert!(*relative.x_last.last().unwrap() < 60_000_000);
    let wall = chart(&bench, b, XAxis::Wall, true);
    let gap = wall.segments[1].x_start - wall.x_first[0];
    assert!(gap >= 3_600_000_000, "{gap}");
}

#[test]
fn a_chart_counts_every_point_and_keeps_extremes() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for step in 0..30_000 {
        let value = if step == 12_345 { 99.0 } else { loss(step) };
        log(&run, step, value).unwrap();
    }
    log(&run, 30_000, f64::NAN).unwrap();
    run.finish(None, None, None).unwrap();
    let curve = chart(&bench, run.run(), XAxis::Step, true);
    assert_eq!(curve.points, 30_001);
    assert_eq!(curve.count.iter().sum::<u64>(), 30_001);
    assert_eq!(curve.nonfinite.iter().sum::<u64>(), 1);
    assert!(curve.max.iter().any(|max| max.0 == 99.0));
    assert!(curve.x_first.len() <= 501);
    let thinned = bench
        .engine
        .history(
            run.run(),
            "loss",
            HistoryQuery {
                points: Some(400),
                ..HistoryQuery::default()
            },
        )
        .unwrap();
    assert!(thinned.steps.len() <= 400 && thinned.steps.len() > 100);
    assert!(thinned.values.contains(&99.0) && thinned.values.last().unwrap().is_nan());
    let zoomed = HistoryQuery {
        steps: Some((Step(100), Step(110))),
        ..HistoryQuery::default()
    };
    let zoomed = bench.engine.history(run.run(), "loss", zoomed).unwrap();
    assert_eq!(zoomed.steps, (100..=110).collect::<Vec<_>>());
}

#[test]
fn a_ghost_tail_is_a_series_of_its_own() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=30, &[10]);
    first.flush().unwrap();
    drop(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    train(&second, 11..=20, &[]);
    second.finish(None, None, None).unwrap();
    let run = second.run();
    assert_eq!(chart(&bench, run, XAxis::Step, true).points, 21);
    let ghost = SeriesRequest {
        series: vec![SeriesSelector {
            run: run.to_string(),
            metric: "loss".to_owned(),
            attempt: Some(AttemptNumber(1)),
        }],
        x: XAxis::Step,
        from: Some(11),
        to: None,
        pixels: 100,
        inherited: true,
    };
    let ghost = bench.engine.series(&ghost).unwrap().series.remove(0);
    assert_eq!((ghost.points, ghost.x_first[0]), (20, 11));
}

#[test]
fn statistics_are_of_the_effective_history() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[]);
    let b = bench.start(fork_of(a, 50));
    log(&b, 51, 3.0).unwrap();
    log(&b, 52, -3.0).unwrap();
    b.log(Some(Step(52)), None, &[("only/here", 1.0)], true)
        .unwrap();
    b.finish(None, None, None).unwrap();
    let metrics = bench.engine.run(b.run()).unwrap().metrics;
    let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["loss", "only/here"]);
    let loss_info = &metrics[0];
    assert_eq!(loss_info.points, 53);
    assert_eq!(
        (loss_info.steps.first, loss_info.steps.last),
        (Step(0), Step(52))
    );
    let max = loss_info.max.as_ref().unwrap();
    assert_eq!((max.step, max.value.0), (Step(51), 3.0));
    let min = loss_info.min.as_ref().unwrap();
    assert_eq!((min.step, min.value.0), (Step(52), -3.0));
    assert_eq!(loss_info.last.value.0, -3.0);
    assert!(loss_info.own);
    let summary = bench.engine.summary(b.run()).unwrap();
    assert_eq!(summary.metrics["loss"].value.0, -3.0);
    assert_eq!(summary.last_step, Some(Step(52)));
}

#[test]
fn checkpoints_are_listed_along_the_lineage_with_the_values_of_their_steps() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=100, &[20, 50, 80]);
    let b = bench.start(fork_of(a, 50));
    train(&b, 51..=70, &[60]);
    save(&b, 60);
    b.finish(None, None, None).unwrap();
    let scope = |inherited| CheckpointScope {
        inherited,
        ..CheckpointScope::default()
    };
    let seen = bench.engine.checkpoints(b.run(), scope(true)).unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|info| (info.step.0, info.k, info.inherited, info.superseded))
        .collect();
    assert_eq!(
        seen,
        [
            (20, 0, true, false),
            (50, 0, true, false),
            (60, 0, false, true),
            (60, 1, false, false)
        ]
    );
    let own = bench.engine.checkpoints(a, scope(false)).unwrap();
    assert_eq!(own[0].metrics["loss"].0, loss(20));
    assert_eq!(
        own[0].reference,
        format!("{}@20", bench.engine.summary(a).unwrap().display_id)
    );
    assert_eq!(own[1].forks.len(), 1);
    let reference = format!("{}@60", b.display_id()).parse().unwrap();
    let latest = bench
        .engine
        .resolve_checkpoint(&reference, None, Purpose::Read)
        .unwrap();
    assert_eq!(latest.key.k, 1);
    assert_eq!(bench.engine.checkpoint_info(latest).unwrap().step, Step(60));
}

#[test]
fn last_good_is_before_the_first_bad_value() {
    let bench = Bench::new();
    let nan = bench.start(named("nan"));
    train(&nan, 0..=39, &[10, 20, 30]);
    log(&nan, 25, f64::NAN).unwrap();
    nan.finish(None, None, None).unwrap();
    let good = bench.engine.last_good(nan.run(), None).unwrap();
    assert_eq!(good.bad, Some(("loss".to_owned(), Step(25))));
    assert_eq!(good.checkpoint.unwrap().key.step, Step(20));
    assert_eq!(
        bench
            .engine
            .summary(nan.run())
            .unwrap()
            .first_nonfinite
            .unwrap()
            .last_good,
        Some(Step(20))
    );
    let spike = bench.start(named("spike"));
    for step in 0..60 {
        let value = if step < 40 { 1.0 + loss(step) } else { 1e3 };
        log(&spike, step, value).unwrap();
        if step % 15 == 0 {
            save(&spike, step);
        }
    }
    spike.finish(None, None, None).unwrap();
    let good = bench.engine.last_good(spike.run(), Some("loss")).unwrap();
    assert_eq!(good.bad, Some(("loss".to_owned(), Step(40))));
    assert_eq!(good.checkpoint.unwrap().key.step, Step(30));
    let healthy = bench.trained("healthy", 0..=50, &[50]);
    let good = bench.engine.last_good(healthy, None).unwrap();
    assert_eq!(
        (good.bad, good.checkpoint.unwrap().key.step),
        (None, Step(50))
    );
}

#[test]
fn what_stays_broken_is_told_before_what_recovered() {
    let bench = Bench::new();
    let run = bench.start(named("amp"));
    for step in 0..=60 {
        // The loss scale is found, once; a score of nothing is no number, once; then the loss breaks, after a first warning.
        let norm = if step == 3 { f64::INFINITY } else { 1.0 };
        let score = if step == 0 { f64::NAN } else { 0.5 };
        let loss = if step == 7 || step >= 45 {
            f64::NAN
        } else {
            loss(step)
        };
        let row = [("grad_norm", norm), ("score", score), ("loss", loss)];
        run.log(Some(Step(step)), None, &row, true).unwrap();
        if step % 20 == 0 {
            save(&run, step);
        }
    }
    run.finish(None, None, None).unwrap();
    let shown = bench.engine.run(run.run()).unwrap().summary;
    let shown = shown.first_nonfinite.unwrap();
    assert_eq!((shown.metric.as_str(), shown.step), ("loss", Step(45)));
    assert_eq!(shown.last_good, Some(Step(40)));
    let tree = bench.engine.lineage(run.run()).unwrap();
    assert_eq!(
        tree.runs[0].summary.first_nonfinite.as_ref(),
        Some(&shown),
        "show and tree say the same"
    );
    let good = bench.engine.last_good(run.run(), None).unwrap();
    assert_eq!(good.bad, Some(("loss".to_owned(), Step(45))));
    assert_eq!(good.checkpoint.unwrap().key.step, Step(40));
    // Asked for by name, what recovered counts.
    let good = bench
        .engine
        .last_good(run.run(), Some("grad_norm"))
        .unwrap();
    assert_eq!(good.bad, Some(("grad_norm".to_owned(), Step(3))));
    assert_eq!(good.checkpoint.unwrap().key.step, Step(0));
}

#[test]
fn where_nothing_stays_broken_only_losses_tell_of_what_recovered() {
    let bench = Bench::new();
    let run = bench.start(named("healthy"));
    for step in 0..=20 {
        let score = if step == 0 { f64::NAN } else { 0.5 };
        let row = [("score", score), ("loss", loss(step))];
        run.log(Some(Step(step)), None, &row, true).unwrap();
    }
    save(&run, 20);
    run.finish(None, None, None).unwrap();
    let good = bench.engine.last_good(run.run(), None).unwrap();
    assert_eq!(good.bad, None);
    assert_eq!(good.checkpoint.unwrap().key.step, Step(20));
    let shown = bench.engine.run(run.run()).unwrap().summary;
    assert_eq!(shown.first_nonfinite.unwrap().last_good, Some(Step(20)));
}

#[test]
fn a_metric_whose_name_is_odd_is_listed_escaped() {
    let bench = Bench::new();
    let run = bench.start(named("odd"));
    run.log(Some(Step(0)), None, &[("a\u{1b}[2J\nb", 1.0)], true)
        .unwrap();
    run.finish(None, None, None).unwrap();
    let error = error_of(bench.engine.history(run.run(), "loss", Default::default()));
    assert_eq!(error.hint(), Some(r#"it has "a\u{1b}[2J\nb""#));
}

#[test]
fn a_run_of_runs_is_resolved_quickly_however_deep() {
    let bench = Bench::new();
    let mut run = bench.trained("root", 0..=2, &[2]);
    for depth in 1..60 {
        let child = bench.start(fork_of(run, 2 + depth - 1));
        log(&child, 2 + depth, loss(2 + depth)).unwrap();
        child.finish(None, None, None).unwrap();
        run = child.run();
    }
    assert_eq!(bench.steps(run), (0..=61).collect::<Vec<_>>());
    let tree = bench.engine.lineage(run).unwrap();
    assert_eq!(tree.runs.len(), 60);
    assert_eq!(tree.experiment, "root");
    assert_eq!(bench.engine.run(run).unwrap().segments.len(), 60);
}

#[test]
fn two_runs_are_compared_by_config_and_latest_values() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=10, &[]);
    let b = bench.start(runtree_engine::RunSpec {
        config: Some(serde_json::json!({"lr": 0.5})),
        ..fork_of(a, 5)
    });
    log(&b, 6, 2.0).unwrap();
    b.finish(None, None, None).unwrap();
    let diff = bench.engine.diff_runs(a, b.run()).unwrap();
    assert_eq!(diff.config.len(), 1);
    assert_eq!(diff.config[0].key, "lr");
    assert_eq!(diff.metrics["loss"].a.as_ref().unwrap().step, Step(10));
    assert_eq!(diff.metrics["loss"].b.as_ref().unwrap().value.0, 2.0);
    assert_error(
        bench.engine.diff_runs(a, RunId::from_parts(1, 1)),
        ErrorKind::NotFound,
        &[],
    );
}
