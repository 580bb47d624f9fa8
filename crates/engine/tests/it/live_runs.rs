//! The live run: what `log` promises.

use std::time::{Duration, Instant};

use runtree_core::event::{Event, RunStatus};
use runtree_core::{ErrorKind, Step, Timestamp};
use runtree_engine::{HistoryQuery, LogRanks, RunSpec};
use runtree_store::{Cursor, FrameKind, JournalReader};
use serde_json::json;

use crate::support::*;

#[test]
fn steps_count_by_themselves_from_zero_and_after_the_largest() {
    let bench = Bench::new();
    let run = bench.start(spec());
    assert_eq!((run.next_step(), run.last_step()), (Step(0), None));
    run.log(None, None, &[("loss", 1.0)], true).unwrap();
    log(&run, 10, 2.0).unwrap();
    log(&run, 5, 3.0).unwrap();
    run.log(None, None, &[("loss", 4.0)], true).unwrap();
    assert_eq!(
        (run.next_step(), run.last_step()),
        (Step(12), Some(Step(11)))
    );
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), [0, 5, 10, 11]);
}

#[test]
fn the_last_frame_of_a_finished_journal_is_its_closing_one() {
    let bench = Bench::new();
    let run = bench.start(spec());
    log(&run, 0, 1.0).unwrap();
    run.finish(None, None, None).unwrap();
    let store = bench.engine.store();
    let writer = store.list_journals(run.run()).unwrap()[0].writer;
    let mut reader = JournalReader::open(store, run.run(), writer, Cursor::START).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    let (last, before) = frames.split_last().unwrap();
    assert!(before.iter().any(|frame| frame.kind == FrameKind::Points));
    let event: Event = serde_json::from_slice(&last.payload).unwrap();
    assert!(
        matches!(event, Event::Closed { .. }),
        "{event:?} comes last"
    );
}

#[test]
fn values_without_commit_wait_for_the_call_that_commits() {
    let bench = Bench::new();
    let run = bench.start(spec());
    run.log(None, None, &[("a", 1.0)], false).unwrap();
    run.log(None, None, &[("b", 2.0)], false).unwrap();
    assert_eq!(run.next_step(), Step(0));
    run.log(None, None, &[("c", 3.0)], true).unwrap();
    assert_eq!(run.next_step(), Step(1));
    // Another step completes what waited; the end completes the rest.
    run.log(Some(Step(7)), None, &[("a", 4.0)], false).unwrap();
    run.log(Some(Step(9)), None, &[("a", 5.0)], false).unwrap();
    run.finish(None, None, None).unwrap();
    let history = |metric| {
        let found = bench
            .engine
            .history(run.run(), metric, HistoryQuery::default())
            .unwrap();
        found
            .steps
            .into_iter()
            .zip(found.values)
            .collect::<Vec<_>>()
    };
    assert_eq!(history("a"), [(0, 1.0), (7, 4.0), (9, 5.0)]);
    assert_eq!(history("b"), [(0, 2.0)]);
    assert_eq!(history("c"), [(0, 3.0)]);
}

#[test]
fn the_last_word_of_a_step_wins_and_what_is_not_a_number_is_kept() {
    let bench = Bench::new();
    let run = bench.start(spec());
    for value in [1.0, f64::NAN] {
        log(&run, 3, value).unwrap();
    }
    log(&run, 4, f64::INFINITY).unwrap();
    log(&run, 5, f64::NEG_INFINITY).unwrap();
    log(&run, 6, 0.5).unwrap();
    run.flush().unwrap();
    log(&run, 6, 0.25).unwrap();
    run.finish(None, None, None).unwrap();
    let values = bench.values(run.run());
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f64::INFINITY, f64::NEG_INFINITY, 0.25]);
    let detail = bench.engine.run(run.run()).unwrap();
    assert_eq!(
        (detail.metrics[0].points, detail.metrics[0].nonfinite),
        (4, 3)
    );
    assert_eq!(detail.summary.first_nonfinite.unwrap().step, Step(3));
}

#[test]
fn no_step_is_taken_by_itself_after_the_last_there_is() {
    let bench = Bench::new();
    let run = bench.start(spec());
    log(&run, i64::MAX, 1.0).unwrap();
    for commit in [true, false] {
        let refused = run.log(None, None, &[("loss", 2.0)], commit);
        assert_error(refused, ErrorKind::Invalid, &["9223372036854775807"]);
    }
    assert_error(run.automatic_step(), ErrorKind::Invalid, &[]);
    log(&run, 5, 0.5).unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), [5, i64::MAX]);
    assert_eq!(bench.values(run.run()), [0.5, 1.0]);
    // What is inherited counts too.
    let child = bench.start(fork_of(run.run(), i64::MAX));
    assert_error(
        child.log(None, None, &[("loss", 2.0)], true),
        ErrorKind::Invalid,
        &[],
    );
    child.finish(None, None, None).unwrap();
    assert_eq!(bench.values(child.run()), [0.5, 1.0]);
}

#[test]
fn timestamps_are_what_was_passed() {
    let bench = Bench::new();
    let run = bench.start(spec());
    run.log(Some(Step(0)), Some(Timestamp(42)), &[("loss", 1.0)], true)
        .unwrap();
    run.finish(None, None, None).unwrap();
    let history = bench
        .engine
        .history(run.run(), "loss", HistoryQuery::default())
        .unwrap();
    assert_eq!(history.timestamps, [42]);
}

#[test]
fn every_rank_may_keep_a_series_of_its_own() {
    let bench = Bench::new();
    let rank = |rank, run| RunSpec {
        rank,
        run,
        world_size: 2,
        log_ranks: LogRanks::All,
        ..launched_as("job", spec())
    };
    let zero = bench.start(rank(0, None));
    let one = bench.start(rank(1, Some(zero.run())));
    for step in 0..5 {
        log(&zero, step, 0.0).unwrap();
        log(&one, step, 1.0).unwrap();
    }
    one.finish(None, None, None).unwrap();
    zero.finish(None, None, None).unwrap();
    let names: Vec<_> = bench
        .engine
        .run(zero.run())
        .unwrap()
        .metrics
        .into_iter()
        .map(|metric| metric.name)
        .collect();
    assert_eq!(names, ["loss[rank 0]", "loss[rank 1]"]);
    let history = |name: &str| {
        bench
            .engine
            .history(zero.run(), name, HistoryQuery::default())
            .unwrap()
            .values
    };
    assert_eq!(history("loss[rank 1]"), [1.0; 5]);
    assert_eq!(history("loss[rank 0]"), [0.0; 5]);
    let error = error_of(
        bench
            .engine
            .history(zero.run(), "nothing", HistoryQuery::default()),
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("loss[rank 1]"));
}

#[test]
fn what_is_said_of_a_run_while_it_lives_is_shown() {
    let bench = Bench::new();
    let run = bench.start(RunSpec {
        config: Some(json!({"lr": 0.1, "model": {"width": 8}})),
        tags: vec!["one".to_owned()],
        ..named("before")
    });
    run.update_config(json!({"model": {"depth": 2}})).unwrap();
    run.add_tags(vec!["two".to_owned()]).unwrap();
    run.set_name("after").unwrap();
    run.set_notes("# notes").unwrap();
    run.console("stderr", vec!["a warning".to_owned()]).unwrap();
    run.flush().unwrap();
    // A later word from elsewhere wins over it, and the run's next word over that.
    let annotation = |name: &str| runtree_engine::Annotation {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    bench
        .other()
        .annotate(run.run(), annotation("from outside"))
        .unwrap();
    let name = || bench.engine.summary(run.run()).unwrap().name;
    assert_eq!(name(), "from outside");
    run.set_name("my own").unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(name(), "my own");
    let detail = bench.engine.run(run.run()).unwrap();
    assert_eq!(
        detail.summary.config,
        json!({"lr": 0.1, "model": {"width": 8, "depth": 2}})
    );
    assert_eq!(detail.summary.tags, ["one", "two"]);
    assert_eq!(detail.notes.as_deref(), Some("# notes"));
    assert_eq!(detail.summary.status, RunStatus::Completed);
    let console = bench
        .engine
        .console(run.run(), None, 10, Default::default())
        .unwrap();
    assert_eq!(
        (
            console.lines[0].stream.as_str(),
            console.lines[0].text.as_str()
        ),
        ("stderr", "a warning")
    );
    assert_error(run.update_config(json!(3)), ErrorKind::Invalid, &["object"]);
}

#[test]
fn system_metrics_belong_to_their_run_and_follow_each_other_over_launches() {
    let bench = Bench::new();
    let first = bench.start(keyed_root());
    for _ in 0..3 {
        bench.clock.advance(10);
        first.log_system(None, &[("gpu", 1.0)]).unwrap();
    }
    train(&first, 0..=3, &[]);
    first.finish(None, None, None).unwrap();
    let second = bench.start(keyed_root());
    bench.clock.advance(10);
    second.log_system(None, &[("gpu", 2.0)]).unwrap();
    second.finish(None, None, None).unwrap();
    let history = bench
        .engine
        .history(first.run(), "gpu", HistoryQuery::default())
        .unwrap();
    assert_eq!(history.values, [1.0, 1.0, 1.0, 2.0]);
    assert!(history.steps.windows(2).all(|pair| pair[0] < pair[1]));
    let child = bench.forked(first.run(), 2, 5, &[]);
    let detail = bench.engine.run(child).unwrap();
    assert!(detail.metrics.iter().all(|metric| !metric.system));
    assert_eq!(
        bench.engine.summary(first.run()).unwrap().last_step,
        Some(Step(3))
    );
}

fn keyed_root() -> RunSpec {
    keyed("sys", runtree_engine::ResumePolicy::Allow)
}

#[test]
fn a_flush_comes_by_itself_within_the_second() {
    let bench = Bench::new();
    let run = bench.start(spec());
    train(&run, 0..=9, &[]);
    let reader = bench.other();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let seen = reader.summary(run.run()).unwrap().last_step;
        // The thread says that it flushed a moment after the bytes can be seen.
        if seen == Some(Step(9)) && run.health().last_flush.is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "still {seen:?}");
        std::thread::yield_now();
    }
}

#[test]
fn log_costs_microseconds() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let names: Vec<String> = (0..10)
        .map(|index| format!("train/metric_{index}"))
        .collect();
    let mut values: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.0)).collect();
    let mut times = Vec::new();
    for step in 0..20_000 {
        for value in &mut values {
            value.1 = f64::from(step);
        }
        let start = Instant::now();
        run.log(Some(Step(i64::from(step))), None, &values, true)
            .unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    // Generous: other tests share the machine. The bench holds the real bound.
    assert!(
        times[10_000] < Duration::from_micros(20),
        "{:?}",
        times[10_000]
    );
    println!("median log of 10 metrics: {:?}", times[10_000]);
    run.finish(None, None, None).unwrap();
    let report = run.finish(None, None, None).unwrap();
    assert_eq!(report.last_step, Some(Step(19_999)));
    assert_eq!(
        bench.engine.run(run.run()).unwrap().metrics[3].points,
        20_000
    );
}

#[test]
fn a_disk_that_refuses_is_said_and_points_wait_for_it() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix_is_root() {
        // Permissions do not stop root; the journal's folder is replaced by a file instead.
        return refuses_by_a_file();
    }
    let bench = Bench::on_disk();
    let run = bench.start(spec());
    let runs = bench.store_dir().join("runs");
    std::fs::set_permissions(&runs, std::fs::Permissions::from_mode(0o500)).unwrap();
    train(&run, 0..=3, &[]);
    std::fs::set_permissions(&runs, std::fs::Permissions::from_mode(0o700)).unwrap();
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()).len(), 4);
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// The journal of a run is gone beneath its writer: what was logged before is lost with it, what comes after must not raise.
fn refuses_by_a_file() {
    let bench = Bench::on_disk();
    let run = bench.start(spec());
    let journal = format!("runs/{}/journal", run.run());
    let journal = bench.store_dir().join(journal);
    let aside = bench.dir.path().join("aside");
    std::fs::rename(&journal, &aside).unwrap();
    std::fs::write(&journal, "in the way").unwrap();
    // The open file still takes what is written: appends go on where the file was moved to.
    train(&run, 0..=3, &[]);
    run.flush().unwrap();
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(&aside, &journal).unwrap();
    train(&run, 4..=5, &[]);
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), (0..=5).collect::<Vec<_>>());
}

#[test]
fn ever_new_combinations_of_metrics_are_all_kept() {
    let bench = Bench::new();
    let run = bench.start(spec());
    let names: Vec<String> = (0..200).map(|index| format!("m{index:03}")).collect();
    // More combinations than one batch takes, faster than it is flushed.
    for step in 0..16_000_usize {
        let (start, stride) = (step % 200, 1 + 2 * (step / 200));
        let values: Vec<(&str, f64)> = (0..20)
            .map(|index| (names[(start + index * stride) % 200].as_str(), step as f64))
            .collect();
        run.log(Some(Step(step as i64)), None, &values, true)
            .unwrap();
    }
    let report = run.finish(None, None, None).unwrap();
    assert!(report.dropped_points.is_empty(), "{report:?}");
    let history = bench
        .engine
        .history(run.run(), "m000", HistoryQuery::default());
    let steps = history.unwrap().steps;
    let expected = (0..16_000_usize).filter(|step| {
        let (start, stride) = (step % 200, 1 + 2 * (step / 200));
        (0..20).any(|index| (start + index * stride) % 200 == 0)
    });
    assert_eq!(steps, expected.map(|step| step as i64).collect::<Vec<_>>());
}
