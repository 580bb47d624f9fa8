//! Charts and numbers along a lineage.

use runtree_core::wire::{
    AxisMode, MetricAxis, SeriesBuckets, SeriesRequest, SeriesSelector, XAxis,
};
use runtree_core::{AttemptNumber, ErrorKind, RunId, Step};
use runtree_engine::{
    CheckpointScope, HistoryQuery, MetricFilter, Purpose, ResumePolicy, RunQuery, RunWriter,
};

use crate::support::*;

fn chart(bench: &Bench, run: RunId, x: XAxis, inherited: bool) -> SeriesBuckets {
    let request = SeriesRequest {
        series: vec![SeriesSelector {
            run: run.to_string(),
            metric: "loss".to_owned(),
            attempt: None,
            from: None,
        }],
        x,
        x_metric: None,
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
            from: None,
        }],
        x: XAxis::Step,
        x_metric: None,
        from: Some(11),
        to: None,
        pixels: 100,
        inherited: true,
    };
    let ghost = bench.engine.series(&ghost).unwrap().series.remove(0);
    assert_eq!((ghost.points, ghost.x_first[0]), (20, 11));
}

#[test]
fn over_tokens_a_fork_goes_on_from_what_its_parent_had_seen() {
    let bench = Bench::new();
    let both = |run: &RunWriter, step: i64, tokens: f64| {
        let values = [("loss", 1.0 / (step + 1) as f64), ("tokens", tokens)];
        run.log(Some(Step(step)), None, &values, true).unwrap();
    };
    let parent = bench.start(keyed("p", ResumePolicy::Never));
    (0..=10).for_each(|step| both(&parent, step, 100.0 * step as f64));
    parent.finish(None, None, None).unwrap();
    // The fork's process counts from zero again.
    let child = bench.start(fork_of(parent.run(), 5));
    (6..=8).for_each(|step| both(&child, step, 100.0 * (step - 5) as f64));
    child.finish(None, None, None).unwrap();
    let request = SeriesRequest {
        series: vec![SeriesSelector {
            run: child.run().to_string(),
            metric: "loss".to_owned(),
            attempt: None,
            from: None,
        }],
        x: XAxis::Step,
        x_metric: Some(MetricAxis {
            metric: "tokens".to_owned(),
            mode: AxisMode::Continued,
            from: None,
            to: None,
        }),
        from: None,
        to: None,
        pixels: 1000,
        inherited: true,
    };
    let drawn = bench.engine.series(&request).unwrap().series.remove(0);
    let places: Vec<f64> = drawn.place_first.unwrap().iter().map(|x| x.0).collect();
    assert_eq!(
        places,
        (0..=8)
            .map(|step| 100.0 * f64::from(step))
            .collect::<Vec<_>>()
    );
    assert_eq!(drawn.x_first, (0..=8).collect::<Vec<_>>());
    assert_eq!(drawn.unplaced, Some(0));
    let starts: Vec<_> = drawn
        .segments
        .iter()
        .map(|each| each.place_start.unwrap().0)
        .collect();
    // At the fork step, where its parent had seen as much; not at the fork's first point.
    assert_eq!(starts, [0.0, 500.0]);
    // Its own points alone stand where they stood: what was seen before counts.
    let own = SeriesRequest {
        inherited: false,
        ..request.clone()
    };
    let own = bench.engine.series(&own).unwrap().series.remove(0);
    let places: Vec<f64> = own.place_first.unwrap().iter().map(|x| x.0).collect();
    assert_eq!(places, [600.0, 700.0, 800.0]);
    let both_ranges = SeriesRequest {
        from: Some(3),
        ..request
    };
    let refused = bench.engine.series(&both_ranges).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn a_series_is_asked_for_from_where_it_is_known() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for step in [1, 2, 3, 10, 11] {
        log(&run, step, loss(step)).unwrap();
    }
    run.flush().unwrap();
    let selector = |from| SeriesSelector {
        run: run.run().to_string(),
        metric: "loss".to_owned(),
        attempt: None,
        from,
    };
    let ask = || {
        let request = SeriesRequest {
            series: vec![selector(None), selector(Some(10))],
            x: XAxis::Step,
            x_metric: None,
            from: Some(2),
            to: None,
            pixels: 100,
            inherited: true,
        };
        bench.engine.series(&request).unwrap().series
    };
    let series = ask();
    assert_eq!(series[0].x_first, [2, 3, 10, 11]);
    assert_eq!(series[1].x_first, [10, 11]);
    assert_eq!((series[0].logged, series[1].logged), (5, 5));
    // What comes in behind what is known shows in the count, whatever range is asked for.
    log(&run, 5, 0.0).unwrap();
    log(&run, 12, 0.0).unwrap();
    run.flush().unwrap();
    let series = ask();
    assert_eq!((series[1].points, series[1].logged), (3, 7));
    // What an ancestor logs is none of a fork's.
    let fork = bench.forked(bench.trained("A", 0..=100, &[]), 50, 60, &[]);
    let forked = chart(&bench, fork, XAxis::Step, true);
    assert_eq!((forked.points, forked.logged), (61, 10));
}

#[test]
fn an_outline_names_what_can_be_drawn() {
    let bench = Bench::new();
    let first = bench.start(keyed("k", ResumePolicy::Allow));
    train(&first, 0..=30, &[10]);
    first
        .log(Some(Step(30)), None, &[("late", 1.0)], true)
        .unwrap();
    first.flush().unwrap();
    drop(first);
    let second = bench.start(keyed("k", ResumePolicy::Allow));
    train(&second, 11..=20, &[]);
    second.finish(None, None, None).unwrap();
    let outlines = bench.engine.outlines(&[second.run()]).unwrap();
    // `late` was logged on the abandoned tail alone.
    assert_eq!(outlines[0].metrics, ["loss"]);
    let ghosts: Vec<_> = outlines[0]
        .ghosts
        .iter()
        .map(|ghost| (ghost.attempt, ghost.from))
        .collect();
    assert_eq!(ghosts, [(AttemptNumber(1), Step(11))]);
    let keys = bench.engine.project_keys("my project").unwrap();
    assert_eq!(keys.metrics, ["loss"]);
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
    // What the fork logged itself is told apart from what it shows.
    let own = |value: &Option<runtree_core::wire::MetricValue>| {
        value.as_ref().map(|value| (value.step, value.value.0))
    };
    assert_eq!(loss_info.own_points, 2);
    assert_eq!(own(&loss_info.own_min), Some((Step(52), -3.0)));
    assert_eq!(own(&loss_info.own_max), Some((Step(51), 3.0)));
    assert_eq!(own(&loss_info.own_last), Some((Step(52), -3.0)));
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

/// Statements that the index runs while something is asked once more; the least of some, for a run that has just become old enough to be recognised as
/// untouched costs some once.
fn statements(ask: impl Fn()) -> u64 {
    let once = || {
        let before = runtree_index::statements::on_this_thread();
        ask();
        runtree_index::statements::on_this_thread() - before
    };
    (0..8).map(|_| once()).min().unwrap()
}

#[test]
fn a_chain_of_forks_costs_as_many_questions_as_a_run() {
    let bench = Bench::new();
    let mut tip = bench.trained("root", 0..=3, &[]);
    let mut costs = Vec::new();
    for depth in 1..=40 {
        let at = 3 * depth;
        tip = bench.forked(tip, at, at + 3, &[]);
        if ![10, 20, 40].contains(&depth) {
            continue;
        }
        let engine = &bench.engine;
        let asked: [(&str, &dyn Fn()); 5] = [
            ("chart", &|| {
                assert_eq!(chart(&bench, tip, XAxis::Step, true).points, at as u64 + 4);
            }),
            ("history", &|| {
                assert_eq!(bench.steps(tip).len(), at as usize + 4);
            }),
            ("metrics", &|| {
                let metrics = engine.metrics(tip, &MetricFilter::All).unwrap();
                assert_eq!(metrics[0].points, at as u64 + 4);
            }),
            ("page", &|| {
                engine.run(tip).unwrap();
            }),
            ("list", &|| {
                let page = engine
                    .runs(&RunQuery {
                        limit: 5,
                        ..RunQuery::default()
                    })
                    .unwrap();
                assert_eq!(page.total, depth as u64 + 1);
            }),
        ];
        costs.push(asked.map(|(what, ask)| (what, statements(ask))));
    }
    assert!(costs[0].iter().all(|&(_, count)| count > 0), "{costs:?}");
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[1], costs[2]);
}
