//! What a run's metrics come to, and finding them by name.

use runtree_core::float::JsonFloat;
use runtree_core::{ErrorKind, RunId, Step, wire};
use runtree_engine::{HistoryQuery, MetricFilter, RunSpec};

use crate::support::*;

/// The facts of a metric as its points say them.
fn by_points(bench: &Bench, run: RunId, fact: &wire::MetricInfo) -> wire::MetricInfo {
    let history = |inherited| {
        let query = HistoryQuery {
            inherited,
            ..HistoryQuery::default()
        };
        let columns = bench.engine.history(run, &fact.name, query).unwrap();
        let steps = columns.steps.into_iter().map(Step);
        steps.zip(columns.values).collect::<Vec<_>>()
    };
    let value = |(step, value): (Step, f64)| wire::MetricValue {
        step,
        value: JsonFloat(value),
    };
    let best = |points: &[(Step, f64)], better: fn(f64, f64) -> bool| {
        let finite = points.iter().copied().filter(|point| point.1.is_finite());
        finite
            .reduce(|best, next| if better(next.1, best.1) { next } else { best })
            .map(value)
    };
    let (all, own) = (history(true), history(false));
    wire::MetricInfo {
        name: fact.name.clone(),
        system: false,
        points: all.len() as u64,
        nonfinite: all.iter().filter(|point| !point.1.is_finite()).count() as u64,
        steps: wire::StepRange {
            first: all[0].0,
            last: all[all.len() - 1].0,
        },
        min: best(&all, |a, b| a < b),
        max: best(&all, |a, b| a > b),
        last: value(all[all.len() - 1]),
        own_points: own.len() as u64,
        own_min: best(&own, |a, b| a < b),
        own_max: best(&own, |a, b| a > b),
        own_last: own.last().copied().map(value),
    }
}

#[test]
fn what_is_kept_of_a_series_says_what_its_points_say() {
    let bench = Bench::new();
    // Launches that end before their heirs begin, that are cut, that meet their heirs at the base step, in several orders.
    let mut runs = vec![bench.trained("root", 0..=40, &[10, 20])];
    for (at, first, last) in [(40, 41, 60), (30, 31, 35), (20, 20, 25), (41, 45, 50)] {
        for parent in runs.clone() {
            let Ok(run) = bench.engine.start_run(RunSpec {
                ..fork_of(parent, at)
            }) else {
                continue;
            };
            for step in first..=last {
                let odd = [f64::NAN, f64::INFINITY, 1.0, -3.0];
                let values = [
                    ("loss", loss(step) - at as f64),
                    ("odd", odd[step as usize % 4]),
                ];
                run.log(Some(Step(step)), None, &values, true).unwrap();
            }
            run.finish(None, None, None).unwrap();
            runs.push(run.run());
        }
    }
    assert_eq!(runs.len(), 10);
    for run in runs {
        let facts = bench.engine.metrics(run, &MetricFilter::All).unwrap();
        assert!(!facts.is_empty());
        for fact in &facts {
            let expected = by_points(&bench, run, fact);
            // Through JSON, where NaN is equal to itself.
            let [told, expected] =
                [fact, &expected].map(|fact| serde_json::to_string(fact).unwrap());
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn metrics_are_found_by_a_regular_expression() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for name in ["train/loss", "train/acc", "val/loss", "loss"] {
        run.log(Some(Step(0)), None, &[(name, 1.0)], true).unwrap();
    }
    run.finish(None, None, None).unwrap();
    let names = |pattern: &str| -> Vec<String> {
        let found = bench
            .engine
            .metrics(run.run(), &MetricFilter::Matching(pattern.to_owned()))
            .unwrap();
        found.into_iter().map(|fact| fact.name).collect()
    };
    assert_eq!(names("loss$"), ["loss", "train/loss", "val/loss"]);
    assert_eq!(names("^train/"), ["train/acc", "train/loss"]);
    assert_eq!(names("(?i)ACC|^loss"), ["loss", "train/acc"]);
    assert!(names("nobody").is_empty());
    for wrong in ["(", "[a", &"a".repeat(1001)] {
        assert_error(
            bench
                .engine
                .metrics(run.run(), &MetricFilter::Matching(wrong.to_owned())),
            ErrorKind::Invalid,
            &[],
        );
    }
}
