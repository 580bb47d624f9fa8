//! The index is a cache: whatever happens to it, answers are the same.

use std::time::Duration;

use runtree_core::wire::{SeriesRequest, SeriesSelector, XAxis};
use runtree_core::{RunId, Step};
use runtree_engine::{
    Annotation, CheckpointScope, Engine, ForkSpec, ResumePolicy, RunQuery, RunSpec,
};
use serde_json::{Value, json};

use crate::support::*;

/// A store with a bit of everything.
pub(crate) fn forest(bench: &Bench) -> Vec<RunId> {
    let first = bench.start(RunSpec {
        config: Some(json!({"lr": 0.1})),
        ..keyed("root", ResumePolicy::Allow)
    });
    train(&first, 0..=5000, &[100, 2000]);
    log(&first, 5001, f64::NAN).unwrap();
    first
        .console("stdout", vec!["a".to_owned(), "b".to_owned()])
        .unwrap();
    first.log_system(None, &[("cpu", 0.3)]).unwrap();
    first.flush().unwrap();
    drop(first);
    let root = bench.start(keyed("root", ResumePolicy::Allow));
    train(&root, 2001..=2100, &[2100]);
    root.add_tags(vec!["x".to_owned()]).unwrap();
    root.finish(None, None, None).unwrap();
    let child = bench.forked(root.run(), 1500, 1600, &[1600]);
    let grandchild = bench.forked(child, 1550, 1700, &[]);
    let idle = bench
        .engine
        .fork(ForkSpec::new(at_step(grandchild, 100)))
        .unwrap();
    let checkpoint = bench
        .engine
        .checkpoints(root.run(), CheckpointScope::default())
        .unwrap();
    let name = bench
        .engine
        .find_checkpoint(checkpoint[0].id.parse().unwrap())
        .unwrap();
    bench.engine.pin(name, "paper").unwrap();
    bench
        .engine
        .delete_checkpoint(
            bench
                .engine
                .find_checkpoint(checkpoint[1].id.parse().unwrap())
                .unwrap(),
            "old",
        )
        .unwrap();
    bench.engine.delete_run(idle).unwrap();
    vec![root.run(), child, grandchild, idle]
}

/// Everything the edges show, as JSON.
pub(crate) fn portrait(engine: &Engine, runs: &[RunId]) -> Value {
    let all = CheckpointScope {
        inherited: true,
        pending: true,
        deleted: true,
    };
    let mut query = RunQuery {
        deleted: true,
        ..RunQuery::default()
    };
    let mut found = vec![
        json!(engine.projects().unwrap()),
        json!(engine.runs(&query).unwrap()),
    ];
    query.sort = runtree_engine::RunSort::LastStep;
    found.push(json!(engine.runs(&query).unwrap()));
    for &run in runs {
        found.push(json!(engine.run(run).unwrap()));
        found.push(json!(engine.checkpoints(run, all).unwrap()));
        found.push(json!(engine.lineage(run).unwrap()));
        found.push(json!(
            engine.console(run, None, 100, Default::default()).unwrap()
        ));
        for x in [XAxis::Step, XAxis::Relative, XAxis::Wall] {
            let selector = |attempt| SeriesSelector {
                run: run.to_string(),
                metric: "loss".to_owned(),
                attempt,
                from: None,
            };
            let request = SeriesRequest {
                series: vec![
                    selector(None),
                    selector(Some(runtree_core::AttemptNumber(1))),
                ],
                x,
                x_metric: None,
                from: None,
                to: None,
                pixels: 37,
                inherited: true,
            };
            found.push(json!(engine.series(&request).unwrap()));
        }
    }
    Value::Array(found)
}

/// A value without the fields of some names, wherever they are in it.
fn without(value: Value, names: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter(|(field, _)| !names.contains(&field.as_str()));
            Value::Object(
                kept.map(|(field, value)| (field, without(value, names)))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(|item| without(item, names)).collect(),
        other => other,
    }
}

#[test]
fn a_reindex_changes_no_answer() {
    let bench = Bench::new();
    let runs = forest(&bench);
    let before = portrait(&bench.engine, &runs);
    let mut seen = Vec::new();
    let report = bench
        .engine
        .reindex_with(&mut |progress| seen.push(progress.runs_done))
        .unwrap();
    assert_eq!(
        (report.runs, report.attempts, report.checkpoints),
        (4, 5, 4)
    );
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(portrait(&bench.engine, &runs), before);
    // Another machine that folds it all at once, and a process whose index was cleared beneath it.
    assert_eq!(portrait(&bench.elsewhere("fresh"), &runs), before);
    let other = bench.other();
    bench.engine.reindex().unwrap();
    assert_eq!(portrait(&other, &runs), before);
}

#[test]
fn a_deleted_index_comes_back_by_itself() {
    let bench = Bench::new();
    let runs = forest(&bench);
    let before = portrait(&bench.engine, &runs);
    std::fs::remove_dir_all(bench.dir.path().join("cache")).unwrap();
    assert_eq!(portrait(&bench.other(), &runs), before);
}

#[test]
fn folding_every_moment_gives_what_folding_once_gives() {
    let bench = Bench::new();
    let watcher = bench.elsewhere("watcher");
    let run = bench.start(named("r"));
    for step in 0..=300 {
        log(&run, step, loss(step)).unwrap();
        if step % 30 == 0 {
            save(&run, step);
            watcher.refresh().unwrap();
        }
    }
    run.finish(None, None, None).unwrap();
    let runs = [run.run()];
    assert_eq!(
        portrait(&watcher, &runs),
        portrait(&bench.elsewhere("once"), &runs)
    );
}

#[test]
fn what_others_do_to_runs_that_were_long_untouched_is_seen() {
    see_what_others_do(&Bench::new());
}

#[test]
fn a_large_store_is_folded_as_a_small_one() {
    see_what_others_do(&Bench::large());
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for a file system's clock, which nobody signals"
)]
fn see_what_others_do(bench: &Bench) {
    let runs: Vec<RunId> = (0..9)
        .map(|number| bench.trained(&format!("r{number}"), 0..=20, &[5, 10, 20]))
        .collect();
    let elsewhere = bench.elsewhere("elsewhere");
    let name = |run: RunId, index: usize| {
        let saved = elsewhere.checkpoints(run, CheckpointScope::default());
        let id = &saved.unwrap()[index].id;
        elsewhere.find_checkpoint(id.parse().unwrap()).unwrap()
    };
    // Old enough to be passed over, and then passed over: by this process, and through what the index keeps by any later one.
    std::thread::sleep(Duration::from_millis(2_100));
    bench.engine.refresh().unwrap();
    bench.engine.refresh().unwrap();
    let before = bench.engine.change_counter();
    bench.engine.refresh().unwrap();
    assert_eq!(bench.engine.change_counter(), before);

    let launch = |run: RunId| {
        let spec = RunSpec {
            run: Some(run),
            ..spec()
        };
        elsewhere.start_run(spec).unwrap()
    };
    let alive = launch(runs[0]);
    log(&alive, 30, 0.5).unwrap();
    alive.flush().unwrap();
    save(&launch(runs[1]), 20);
    launch(runs[2]).rewind(Step(7)).unwrap();
    elsewhere
        .delete_checkpoint(name(runs[3], 1), "old")
        .unwrap();
    elsewhere.pin(name(runs[4], 0), "paper").unwrap();
    elsewhere.delete_run(runs[5]).unwrap();
    let named = Annotation {
        name: Some("another".to_owned()),
        ..Annotation::default()
    };
    elsewhere.annotate(runs[6], named).unwrap();
    let child = elsewhere.fork(ForkSpec::new(at_step(runs[7], 9))).unwrap();

    let mut all = runs.clone();
    all.push(child);
    // The live one says every few seconds that it lives, and a bucket takes longer to answer all this.
    let calm = |engine: &Engine| without(portrait(engine, &all), &["last_activity", "last_alive"]);
    let wanted = calm(&bench.elsewhere("fresh"));
    assert_eq!(calm(&bench.other()), wanted);
    assert_eq!(calm(&bench.engine), wanted);
    let (_, changed) = bench.engine.changes_since(before);
    assert!(!changed.contains(&runs[8]) && changed.contains(&runs[6]));

    // The journal of the live one grows while its directories stay as they are.
    std::thread::sleep(Duration::from_millis(2_100));
    bench.engine.refresh().unwrap();
    log(&alive, 31, 0.25).unwrap();
    alive.flush().unwrap();
    assert_eq!(bench.steps(runs[0]).last(), Some(&31));
}

#[test]
fn several_processes_fold_and_train_at_once_and_no_point_is_lost() {
    let bench = Bench::new();
    let readers: Vec<_> = (0..3).map(|_| bench.other()).collect();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watching: Vec<_> = readers
        .into_iter()
        .map(|reader| {
            let done = std::sync::Arc::clone(&done);
            std::thread::spawn(move || {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    reader.runs(&RunQuery::default()).unwrap();
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let trainers: Vec<_> = (0..2)
        .map(|_| {
            let engine = bench.other();
            std::thread::spawn(move || {
                let run = engine.start_run(spec()).unwrap();
                for step in 0..5000 {
                    log(&run, step, loss(step)).unwrap();
                    if step % 500 == 0 {
                        run.flush().unwrap();
                    }
                }
                run.finish(None, None, None).unwrap();
                run.run()
            })
        })
        .collect();
    let runs: Vec<RunId> = trainers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for thread in watching {
        thread.join().unwrap();
    }
    for run in runs {
        assert_eq!(bench.steps(run), (0..5000).collect::<Vec<_>>());
    }
}

#[test]
fn changes_are_counted_and_named() {
    let bench = Bench::new();
    let a = bench.trained("A", 0..=3, &[]);
    let b = bench.trained("B", 0..=3, &[]);
    bench.engine.refresh().unwrap();
    let start = bench.engine.change_counter();
    bench.engine.refresh().unwrap();
    assert_eq!(bench.engine.changes_since(start), (start, vec![]));
    bench.other().delete_run(b).unwrap();
    bench.engine.refresh().unwrap();
    let (now, runs) = bench.engine.changes_since(start);
    assert!(now > start);
    assert_eq!(runs, [b]);
    assert!(bench.engine.changes_since(0).1.contains(&a));
}

#[test]
fn a_run_that_falls_silent_counts_as_a_change_once() {
    let bench = Bench::new();
    let dies = bench.start(named("dies"));
    train(&dies, 0..=3, &[]);
    dies.flush().unwrap();
    bench.trained("ends", 0..=3, &[]);
    bench.engine.refresh().unwrap();
    bench.engine.notice_silence().unwrap();
    let start = bench.engine.change_counter();
    bench.engine.notice_silence().unwrap();
    assert_eq!(bench.engine.changes_since(start), (start, vec![]));
    bench.clock.advance(61);
    bench.engine.notice_silence().unwrap();
    let (now, runs) = bench.engine.changes_since(start);
    assert_eq!(runs, [dies.run()]);
    bench.engine.notice_silence().unwrap();
    assert_eq!(bench.engine.change_counter(), now);
}

#[test]
fn a_damaged_journal_is_named_and_hides_no_other_run() {
    let bench = Bench::new();
    let hurt = bench.start(named("hurt"));
    train(&hurt, 0..=10, &[]);
    hurt.flush().unwrap();
    train(&hurt, 11..=20, &[]);
    hurt.finish(None, None, None).unwrap();
    let whole = bench.trained("whole", 0..=10, &[]);
    let pieces = bench.files(&format!("runs/{}/journal", hurt.run()));
    // In a bucket a sync is a piece of its own, and the end of the last one may be a torn tail.
    bench.damage(&pieces[0], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let fresh = bench.elsewhere("fresh");
    assert_eq!(
        fresh
            .history(whole, "loss", Default::default())
            .unwrap()
            .steps
            .len(),
        11
    );
    assert_eq!(fresh.damaged_runs().len(), 1);
    let error = error_of(fresh.history(hurt.run(), "loss", Default::default()));
    assert_eq!(error.kind(), runtree_core::ErrorKind::Corrupt, "{error}");
    assert_eq!(fresh.run(whole).unwrap().summary.last_step, Some(Step(10)));
}

#[test]
fn a_finish_with_a_deadline_keeps_it() {
    let bench = Bench::new();
    let run = bench.start(spec());
    train(&run, 0..=3, &[]);
    let start = std::time::Instant::now();
    run.finish(None, None, Some(Duration::from_secs(20)))
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.steps(run.run()).len(), 4);
}
