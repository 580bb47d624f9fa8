//! Births: racing threads and processes, crashes in between, numbers, names.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};

use runtree_core::manifest::{ForkOrigin, RunRecord};
use runtree_core::wire::{SeriesRequest, SeriesSelector, XAxis};
use runtree_core::{ErrorKind, RunId};
use runtree_engine::{
    CheckpointScope, Engine, EngineOptions, ForkSpec, OpenMode, Purpose, ResumePolicy, RunSpec,
};
use runtree_testkit::place;
use serde_json::json;

use crate::support::*;

#[test]
fn numbers_count_up_and_letters_come_from_the_project() {
    let bench = Bench::new();
    for expected in ["MP-1", "MP-2", "MP-3"] {
        assert_eq!(bench.start(spec()).display_id().to_string(), expected);
    }
    let other = "other".parse().unwrap();
    bench.engine.set_project_prefix(&other, "XYZ").unwrap();
    let run = bench.start(RunSpec::new(other.clone()));
    assert_eq!(run.display_id().to_string(), "XYZ-1");
    assert_error(
        bench.engine.set_project_prefix(&other, "ABC"),
        ErrorKind::Conflict,
        &["XYZ"],
    );
}

#[test]
fn a_project_that_a_ref_names_is_the_only_one_that_is_looked_in() {
    let bench = Bench::new();
    let run = bench.start(spec()).run();
    let named = |text: &str| bench.engine.resolve_run(text, Some("other"), Purpose::Read);
    assert_eq!(
        named("MP-1").unwrap(),
        run,
        "a bare id is found wherever it is"
    );
    assert_eq!(named("my project/MP-1").unwrap(), run);
    assert_error(named("other/MP-1"), ErrorKind::NotFound, &["MP-1", "other"]);
}

#[test]
fn threads_that_start_one_key_at_once_get_one_run() {
    let bench = Bench::new();
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|rank| {
            let (engine, barrier) = (bench.other(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                let run = engine
                    .start_run(RunSpec {
                        rank,
                        world_size: 8,
                        ..launched_as("one launch", keyed("shared", ResumePolicy::Allow))
                    })
                    .unwrap();
                let found = (run.run(), run.attempt());
                run.finish(None, None, None).unwrap();
                found
            })
        })
        .collect();
    let found: BTreeSet<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(bench.engine.runs(&Default::default()).unwrap().total, 1);
}

#[test]
fn threads_that_start_runs_of_their_own_get_different_numbers() {
    let bench = Bench::new();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let engine = Arc::clone(&bench.engine);
            std::thread::spawn(move || {
                let run = engine.start_run(spec()).unwrap();
                run.finish(None, None, None).unwrap();
                run.display_id().number()
            })
        })
        .collect();
    let numbers: BTreeSet<u64> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(numbers, (1..=8).collect());
}

/// Body of a child process; does nothing unless the variables say what.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how a test talks to its own child process"
)]
fn child_process() {
    let Ok(dir) = std::env::var("RUNTREE_TEST_DIR") else {
        return;
    };
    let store = std::env::var("RUNTREE_TEST_STORE").unwrap();
    let options = EngineOptions::new(store, std::path::Path::new(&dir).join("cache"));
    let engine = Engine::open(options.with_settings(place::settings())).unwrap();
    let run = engine
        .start_run(launched_as("job", keyed("shared", ResumePolicy::Allow)))
        .unwrap();
    if std::env::var("RUNTREE_TEST_DIE").is_ok() {
        train(&run, 0..=5, &[3]);
        run.flush().unwrap();
        std::process::abort();
    }
    println!("run={} attempt={}", run.run(), run.attempt());
    run.finish(None, None, None).unwrap();
}

fn child(bench: &Bench) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "creation::child_process", "--nocapture"])
        .env("RUNTREE_TEST_DIR", bench.dir.path())
        .env("RUNTREE_TEST_STORE", bench.location())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

#[test]
fn processes_that_start_one_key_at_once_get_one_run() {
    let bench = Bench::new();
    let children: Vec<_> = (0..4).map(|_| child(&bench).spawn().unwrap()).collect();
    let mut found = BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("run=")).unwrap();
        found.insert(line[line.find("run=").unwrap()..].to_owned());
    }
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_process_that_is_killed_leaves_what_it_flushed_and_the_next_start_needs_no_repair() {
    let bench = Bench::new();
    let status = child(&bench)
        .env("RUNTREE_TEST_DIE", "1")
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    // The same launch key: the same attempt goes on where the points end.
    let run = bench.start(launched_as("job", keyed("shared", ResumePolicy::Allow)));
    assert_eq!(run.attempt().0, 1);
    assert_eq!(run.next_step().0, 6);
    run.finish(None, None, None).unwrap();
    assert_eq!(bench.steps(run.run()), (0..=5).collect::<Vec<_>>());
    assert_eq!(
        bench
            .engine
            .checkpoints(run.run(), Default::default())
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_birth_that_stopped_half_way_is_completed_by_the_next_start() {
    let bench = Bench::new();
    let project = "my project".parse().unwrap();
    // Crash after the key was claimed.
    let claimed = RunId::from_parts(1, 1);
    bench
        .engine
        .store()
        .claim_key(&project, "half", claimed)
        .unwrap();
    assert_eq!(bench.engine.runs(&Default::default()).unwrap().total, 0);
    let run = bench.start(keyed("half", ResumePolicy::Never));
    assert_eq!(run.run(), claimed);
    run.finish(None, None, None).unwrap();
    // Crash after the run record, before its first attempt.
    let mut record = run.record().clone();
    record.run = RunId::from_parts(1, 2);
    record.key = Some("later".to_owned());
    bench
        .engine
        .store()
        .claim_key(&project, "later", record.run)
        .unwrap();
    record.display_id = bench
        .engine
        .store()
        .take_number(&project, record.run)
        .unwrap();
    let _ = bench.engine.store().create_run(&record).unwrap();
    let run = bench.start(keyed("later", ResumePolicy::Allow));
    assert_eq!((run.run(), run.attempt().0), (record.run, 1));
}

#[test]
fn a_run_that_was_born_and_not_yet_launched_is_shown_with_what_it_inherits() {
    let bench = Bench::new();
    let parent = bench.trained("parent", 0..=10, &[5]);
    let fork = bench.start(fork_of(parent, 7));
    fork.finish(None, None, None).unwrap();
    let project = "my project".parse().unwrap();
    // Between the record and the first launch: for a moment, or for ever after a crash.
    let mut born = Vec::new();
    for (bits, fork) in [(2, fork.record().fork.clone()), (3, None)] {
        let mut record = fork_of_record(fork.clone(), &bench, parent);
        record.run = RunId::from_parts(1, bits);
        record.display_id = bench
            .engine
            .store()
            .take_number(&project, record.run)
            .unwrap();
        let _ = bench.engine.store().create_run(&record).unwrap();
        born.push(record.run);
    }
    let listed = bench.engine.runs(&Default::default()).unwrap().runs;
    for (run, steps) in born.into_iter().zip([8, 0]) {
        assert!(listed.iter().any(|row| row.id == run.to_string()));
        let detail = bench.engine.run(run).unwrap();
        assert_eq!(detail.metrics.first().map_or(0, |fact| fact.points), steps);
        let request = SeriesRequest {
            series: vec![SeriesSelector {
                run: run.to_string(),
                metric: "loss".to_owned(),
                attempt: None,
                from: None,
            }],
            x: XAxis::Step,
            x_metric: None,
            from: None,
            to: None,
            pixels: 100,
            inherited: true,
        };
        assert_eq!(
            bench.engine.series(&request).unwrap().series[0].points,
            steps
        );
        let scope = CheckpointScope {
            inherited: true,
            ..CheckpointScope::default()
        };
        let saved = bench.engine.checkpoints(run, scope).unwrap();
        assert_eq!(saved.len() as u64, steps / 8);
        assert!(bench.engine.lineage(run).is_ok());
    }
    assert_error(
        bench.engine.run(RunId::from_parts(1, 9)),
        ErrorKind::NotFound,
        &[],
    );
}

fn fork_of_record(fork: Option<ForkOrigin>, bench: &Bench, like: RunId) -> RunRecord {
    RunRecord {
        key: None,
        fork,
        ..bench.engine.store().read_run(like).unwrap()
    }
}

#[test]
fn a_run_is_found_by_everything_people_call_it() {
    let bench = Bench::new();
    let first = bench.trained("same", 0..=1, &[]);
    bench.clock.advance(1);
    let second = bench.trained("same", 0..=1, &[]);
    bench.clock.advance(1);
    let keyed = bench.start(RunSpec {
        name: Some("other name".to_owned()),
        ..keyed("my-key", ResumePolicy::Never)
    });
    keyed.finish(None, None, None).unwrap();
    let find = |text: &str, project, purpose| bench.engine.resolve_run(text, project, purpose);
    let read = |text: &str| find(text, None, Purpose::Read).unwrap();
    assert_eq!(read("MP-1"), first);
    assert_eq!(read("mp-2"), second);
    assert_eq!(read("my-key"), keyed.run());
    assert_eq!(read("other name"), keyed.run());
    assert_eq!(read("my project/other name"), keyed.run());
    assert_eq!(read(&first.to_string()), first);
    assert_eq!(read("same"), second);
    assert_eq!(read("same~2"), first);
    assert_eq!(
        find("2", Some("my project"), Purpose::Write).unwrap(),
        second
    );
    assert_error(
        find("same", None, Purpose::Write),
        ErrorKind::Invalid,
        &["MP-1", "MP-2", "~2"],
    );
    assert_error(
        find("nobody", None, Purpose::Read),
        ErrorKind::NotFound,
        &["nobody", "MP-3"],
    );
    let unique = (6..=26)
        .map(|length| second.to_string()[..length].to_owned())
        .find(|prefix| {
            !first.to_string().starts_with(prefix.as_str())
                && !keyed.run().to_string().starts_with(prefix.as_str())
        })
        .unwrap();
    assert_eq!(find(&unique, None, Purpose::Write).unwrap(), second);
    assert_error(
        find(&second.to_string()[..6], None, Purpose::Write),
        ErrorKind::Invalid,
        &["MP-1"],
    );
}

#[test]
fn a_store_that_is_open_for_reading_is_not_written_to() {
    let bench = Bench::new();
    let run = bench.trained("A", 0..=5, &[5]);
    let reader = bench.reader();
    assert_eq!(reader.summary(run).unwrap().last_step.unwrap().0, 5);
    assert!(!reader.store_info().writable);
    assert_error(
        reader.start_run(spec()),
        ErrorKind::Denied,
        &["reading only"],
    );
    assert_error(
        reader.fork(ForkSpec::new(at_step(run, 5))),
        ErrorKind::Denied,
        &[],
    );
    assert_error(reader.delete_run(run), ErrorKind::Denied, &[]);
    let mut nowhere = bench.options("cache").with_mode(OpenMode::ReadOnly);
    nowhere.location.push("nothing");
    assert_error(Engine::open(nowhere), ErrorKind::NotFound, &[]);
}

#[test]
fn a_config_that_is_no_object_and_a_name_that_is_none_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let odd = RunSpec {
        config: Some(json!([1, 2])),
        ..spec()
    };
    assert_error(bench.engine.start_run(odd), ErrorKind::Invalid, &["object"]);
    assert_error(
        bench.engine.start_run(named("")),
        ErrorKind::Invalid,
        &["name"],
    );
    assert_error(
        bench.engine.start_run(named("a\nb")),
        ErrorKind::Invalid,
        &["name"],
    );
    assert_eq!(bench.engine.store().list_runs().unwrap(), []);
}

#[test]
fn the_store_is_the_nearest_one_upwards() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    std::fs::create_dir_all(&deep).unwrap();
    let here = |explicit| runtree_engine::discover_store(&deep, explicit);
    assert_eq!(here(None), deep.join(".runtree"));
    let store = dir.path().join("a/.runtree");
    Engine::open(EngineOptions::new(&store, dir.path().join("cache"))).unwrap();
    assert_eq!(here(None), store);
    assert_eq!(here(Some("/elsewhere")), std::path::Path::new("/elsewhere"));
}
