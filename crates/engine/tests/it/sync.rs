//! Stores that talk to each other: what is copied, what is not, and what a copy that was broken off leaves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runtree_core::manifest::CheckpointName;
use runtree_core::retention::Policy;
use runtree_core::{Clock as _, ErrorKind, RunId};
use runtree_engine::sync::{self, SyncCheckpoints, SyncReport, SyncSelection};
use runtree_engine::{
    CheckpointScope, Engine, EngineOptions, GcOptions, HistoryQuery, OpenMode, Store, SystemClock,
    TrashBound, UnknownMetric,
};

use crate::support::{Bench, error_of, keyed, log, named, save, train};

/// An engine on another store, with an index of its own: a directory or, beside `scripts/with-s3`, a real bucket.
struct Other {
    engine: Arc<Engine>,
    _dir: tempfile::TempDir,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts the server says where it is"
)]
fn bucket() -> Option<EngineOptions> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let bucket = std::env::var("RUNTREE_TEST_BUCKET").ok()?;
    let place = NEXT.fetch_add(1, Ordering::Relaxed);
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
    let options = EngineOptions::new(
        format!("{bucket}/engine-{}-{place}", std::process::id()),
        "",
    );
    Some(options.with_settings(settings.collect()))
}

fn directory() -> Other {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions::new(dir.path().join("store"), dir.path().join("cache"));
    Other {
        engine: Engine::open(options).unwrap(),
        _dir: dir,
    }
}

/// Every place that a store can be in here.
fn places() -> Vec<Other> {
    let mut places = vec![directory()];
    if let Some(mut options) = bucket() {
        let dir = tempfile::tempdir().unwrap();
        options.cache_dir = dir.path().join("cache");
        places.push(Other {
            engine: Engine::open(options).unwrap(),
            _dir: dir,
        });
    }
    places
}

fn copy(from: &Store, to: &Store, selection: &SyncSelection) -> SyncReport {
    sync::sync(from, to, selection, &|_| {}).unwrap()
}

fn all() -> SyncSelection {
    SyncSelection::default()
}

fn steps(engine: &Engine, run: RunId) -> Vec<i64> {
    let all = engine.checkpoints(
        run,
        CheckpointScope {
            inherited: true,
            ..CheckpointScope::default()
        },
    );
    all.unwrap().iter().map(|info| info.step.0).collect()
}

fn history(engine: &Engine, run: RunId) -> (Vec<i64>, Vec<u64>) {
    let columns = engine
        .history(run, "loss", HistoryQuery::default())
        .unwrap();
    (
        columns.steps,
        columns.values.iter().map(|value| value.to_bits()).collect(),
    )
}

/// Everything that two stores show of a run is the same, and every byte of its checkpoints is there.
fn assert_same(here: &Engine, there: &Engine, run: RunId) {
    assert_eq!(history(here, run), history(there, run));
    assert_eq!(steps(here, run), steps(there, run));
    for info in there.checkpoints(run, CheckpointScope::default()).unwrap() {
        let name = there.find_checkpoint(info.id.parse().unwrap()).unwrap();
        assert_eq!(there.verify(Some(name)).unwrap().problems, [""; 0]);
    }
    let (one, two) = (here.run(run).unwrap(), there.run(run).unwrap());
    assert_eq!(one.summary.display_id, two.summary.display_id);
    assert_eq!(one.summary.config, two.summary.config);
}

#[test]
fn a_store_is_copied_whole_and_a_second_time_nothing_is_sent() {
    for other in places() {
        let bench = Bench::new();
        let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
        let child = bench.forked(run, 20, 30, &[30]);
        let (here, there) = (bench.engine.store(), other.engine.store());
        let plan = sync::plan(here, there, &all()).unwrap();
        assert_eq!((plan.runs.len(), plan.checkpoints.len()), (2, 5));
        let report = copy(here, there, &all());
        assert_eq!((report.checkpoints, report.clashes), (5, 0));
        assert_eq!(report.chunks, plan.chunks);
        for run in [run, child] {
            assert_same(&bench.engine, &other.engine, run);
        }
        let again = copy(here, there, &all());
        assert_eq!((again.checkpoints, again.chunks, again.bytes), (0, 0, 0));
        assert!(other.engine.verify(None).unwrap().problems.is_empty());
    }
}

#[test]
fn encoded_checkpoints_are_copied_as_they_are_kept() {
    for other in places() {
        let bench = Bench::new();
        let run = bench.trained("a", 0..=60, &[10, 20, 30, 40, 50, 60]);
        bench.engine.encode_cold(&[run], &mut |_| {}).unwrap();
        copy(bench.engine.store(), other.engine.store(), &all());
        assert_same(&bench.engine, &other.engine, run);
        assert_eq!(
            other.engine.stats(None).unwrap().stored_bytes,
            bench.engine.stats(None).unwrap().stored_bytes
        );
    }
}

#[test]
fn a_run_that_goes_on_is_copied_again_and_again() {
    for other in places() {
        let bench = Bench::new();
        let run = bench.start(named("a"));
        for round in 0..4 {
            train(&run, round * 10 + 1..=round * 10 + 10, &[round * 10 + 10]);
            run.flush().unwrap();
            copy(bench.engine.store(), other.engine.store(), &all());
            assert_same(&bench.engine, &other.engine, run.run());
        }
        run.finish(None, None, None).unwrap();
        copy(bench.engine.store(), other.engine.store(), &all());
        assert_same(&bench.engine, &other.engine, run.run());
        assert!(other.engine.verify(None).unwrap().problems.is_empty());
    }
}

#[test]
fn one_checkpoint_brings_its_own_bytes_and_a_fork_what_it_starts_from() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let child = bench.forked(run, 20, 30, &[30]);
    let other = directory();
    let (here, there) = (bench.engine.store(), other.engine.store());
    let name = named_at(&bench.engine, run, 30);
    let one = SyncSelection {
        runs: Some(BTreeSet::from([run])),
        checkpoints: SyncCheckpoints::Only(BTreeSet::from([name])),
        restore: false,
        ..SyncSelection::default()
    };
    let report = copy(here, there, &one);
    assert_eq!(report.checkpoints, 1);
    assert_eq!(steps(&other.engine, run), [30]);
    assert_eq!(history(&other.engine, run), history(&bench.engine, run));
    let fork = SyncSelection {
        runs: Some(BTreeSet::from([child])),
        checkpoints: SyncCheckpoints::None,
        restore: false,
        ..SyncSelection::default()
    };
    let report = copy(here, there, &fork);
    assert_eq!(report.checkpoints, 1, "where it was forked");
    assert_eq!(steps(&other.engine, run), [20, 30]);
    assert_eq!(history(&other.engine, child), history(&bench.engine, child));
}

fn named_at(engine: &Engine, run: RunId, step: i64) -> CheckpointName {
    let reference = format!("{run}@{step}").parse().unwrap();
    engine
        .resolve_checkpoint(&reference, None, runtree_engine::Purpose::Read)
        .unwrap()
}

fn keep_last(engine: &Engine, run: RunId) {
    let policy = Policy {
        keep_last: Some(1),
        ..Policy::default()
    };
    let plan = engine
        .plan_prune(run, &policy, UnknownMetric::Refuse)
        .unwrap();
    engine
        .apply_prune(&plan, None, TrashBound { checkpoints: 0 })
        .unwrap();
}

#[test]
fn deleting_is_a_statement_about_one_store() {
    for other in places() {
        let bench = Bench::new();
        let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
        let (here, there) = (bench.engine.store(), other.engine.store());
        copy(here, there, &all());
        // Pruned there: a push does not fill it again.
        keep_last(&other.engine, run);
        assert_eq!(steps(&other.engine, run), [40]);
        let plan = sync::plan(here, there, &all()).unwrap();
        assert_eq!((plan.checkpoints.len(), plan.deleted_there), (0, 3));
        copy(here, there, &all());
        assert_eq!(steps(&other.engine, run), [40]);
        // Nor does a pull take away what is here.
        copy(there, here, &all());
        assert_eq!(steps(&bench.engine, run), [10, 20, 30, 40]);
        // Wanted again, it is sent again.
        let restore = SyncSelection {
            restore: true,
            ..all()
        };
        let report = copy(here, there, &restore);
        assert_eq!(report.checkpoints, 3);
        assert!(report.chunks > 0, "the bytes were freed there");
        assert_same(&bench.engine, &other.engine, run);
        // Pruned here: the archive stays.
        keep_last(&bench.engine, run);
        copy(here, there, &all());
        assert_eq!(steps(&other.engine, run), [10, 20, 30, 40]);
        assert_eq!(steps(&bench.engine, run), [40]);
    }
}

#[test]
fn what_is_sent_again_is_held_until_it_is_out_of_the_trash() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=40, &[10, 20, 30, 40]);
    let other = directory();
    let (here, there) = (bench.engine.store(), other.engine.store());
    copy(here, there, &all());
    keep_last(&other.engine, run);
    let restore = SyncSelection {
        restore: true,
        ..all()
    };
    // A collector at every step that the copy tells of, also between the part and the end of the trash.
    let collect = |_: &SyncReport| {
        let options = GcOptions {
            grace: std::time::Duration::ZERO,
            ..GcOptions::default()
        };
        other.engine.gc(&options, &mut |_| {}).unwrap();
    };
    let report = sync::sync(here, there, &restore, &collect).unwrap();
    assert_eq!(report.checkpoints, 3);
    assert_same(&bench.engine, &other.engine, run);
    assert!(there.list_pins().unwrap().is_empty(), "the leases are gone");
}

#[test]
fn numbers_and_keys_that_others_have_stay_theirs() {
    let bench = Bench::new();
    let other = directory();
    let theirs = other
        .engine
        .start_run(keyed("k", runtree_engine::ResumePolicy::Never))
        .unwrap();
    theirs.finish(None, None, None).unwrap();
    let mine = bench.start(keyed("k", runtree_engine::ResumePolicy::Never));
    log(&mine, 1, 1.0).unwrap();
    mine.finish(None, None, None).unwrap();
    let report = copy(bench.engine.store(), other.engine.store(), &all());
    assert_eq!(report.clashes, 2, "the number and the key");
    assert_eq!(
        other
            .engine
            .run(theirs.run())
            .unwrap()
            .summary
            .key
            .as_deref(),
        Some("k")
    );
    assert_eq!(
        history(&other.engine, mine.run()),
        history(&bench.engine, mine.run())
    );
}

#[test]
fn what_is_damaged_is_not_spread_and_the_rest_is_copied() {
    let bench = Bench::new();
    let run = bench.trained("a", 0..=30, &[10, 20, 30]);
    let plan = bench
        .engine
        .load_plan(named_at(&bench.engine, run, 20))
        .unwrap();
    let chunk = &plan.parts[0].chunks[0];
    let path = bench.engine.store().root().unwrap().join("chunks");
    let path = path.join(&chunk.object[..2]).join(&chunk.object);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let other = directory();
    let failed = sync::sync(bench.engine.store(), other.engine.store(), &all(), &|_| {});
    let error = error_of(failed);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("step 20"), "{error:?}");
    assert_eq!(steps(&other.engine, run), [10, 30]);
    assert!(other.engine.verify(None).unwrap().problems.is_empty());
}

#[test]
fn a_store_that_may_only_be_read_is_no_destination() {
    let bench = Bench::new();
    bench.trained("a", 0..=10, &[10]);
    let other = directory();
    let location = other.engine.store().root().unwrap().to_owned();
    let now = SystemClock.now();
    let read = runtree_engine::open_store(
        &location,
        &runtree_engine::Settings::new(),
        OpenMode::ReadOnly,
        now,
    );
    let failed = sync::sync(bench.engine.store(), &read.unwrap(), &all(), &|_| {});
    assert_eq!(error_of(failed).kind(), ErrorKind::Denied);
}

#[test]
fn a_run_trains_on_a_bucket() {
    let Some(mut options) = bucket() else { return };
    let dir = tempfile::tempdir().unwrap();
    options.cache_dir = dir.path().join("cache");
    let engine = Engine::open(options.clone()).unwrap();
    let run = engine
        .start_run(keyed("k", runtree_engine::ResumePolicy::Allow))
        .unwrap();
    train(&run, 0..=20, &[10, 20]);
    run.finish(None, None, None).unwrap();
    let again = engine
        .start_run(keyed("k", runtree_engine::ResumePolicy::Allow))
        .unwrap();
    train(&again, 21..=30, &[30]);
    let child = engine
        .start_run(crate::support::fork_of(run.run(), 20))
        .unwrap();
    train(&child, 21..=25, &[]);
    save(&child, 25);
    child.finish(None, None, None).unwrap();
    again.finish(None, None, None).unwrap();
    // Somebody else, somewhere else.
    options.cache_dir = dir.path().join("far");
    let far = Engine::open(options.with_mode(OpenMode::ReadWrite)).unwrap();
    assert_eq!(steps(&far, run.run()), [10, 20, 30]);
    assert_eq!(history(&far, child.run()).0, (0..=25).collect::<Vec<_>>());
    keep_last(&far, run.run());
    assert_eq!(steps(&far, run.run()), [20, 30], "a fork starts from 20");
    assert!(far.verify(None).unwrap().problems.is_empty());
    let home = directory();
    copy(far.store(), home.engine.store(), &all());
    assert_same(&far, &home.engine, child.run());
}
