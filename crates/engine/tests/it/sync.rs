//! Stores that talk to each other: what is copied, what is not, and what a copy that was broken off leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::retention::Policy;
use runtree_core::{Clock as _, ErrorKind, RunId};
use runtree_engine::sync::{self, SyncCheckpoints, SyncReport, SyncSelection};
use runtree_engine::{
    CheckpointScope, Engine, GcOptions, HistoryQuery, OpenMode, Purpose, Store, SystemClock,
    TrashBound, UnknownMetric,
};
use runtree_testkit::place::{self, Place};

use crate::support::{Bench, error_of, keyed, log, named, save, train};

/// An engine on another store, with an index of its own.
struct Other {
    engine: Arc<Engine>,
    place: Place,
}

fn other_at(place: Place) -> Other {
    Other {
        engine: Engine::open(place.options("cache")).unwrap(),
        place,
    }
}

fn other() -> Other {
    other_at(Place::new())
}

/// Two stores: a disk and a disk or, if there is a bucket, a disk and the bucket, both ways.
fn pairs() -> Vec<(Bench, Other)> {
    match Place::in_bucket() {
        Some(bucket) => vec![
            (Bench::at(Place::new()), other_at(Place::directory())),
            (Bench::at(Place::directory()), other_at(bucket)),
        ],
        None => vec![(Bench::new(), other())],
    }
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
    for (bench, other) in pairs() {
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
    for (bench, other) in pairs() {
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
    for (bench, other) in pairs() {
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
    let other = other();
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
    for (bench, other) in pairs() {
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
    let other = other();
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
    assert_eq!(there.list_pins().unwrap(), [], "the leases are gone");
}

#[test]
fn numbers_and_keys_that_others_have_stay_theirs() {
    let bench = Bench::new();
    let other = other();
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
    // Bare, both are of the store that they are asked of; the other one is named by where it comes from.
    let resolve = |text: &str| {
        let project = theirs_project(&other.engine, theirs.run());
        other
            .engine
            .resolve_run(text, Some(&project), Purpose::Write)
    };
    let id = other
        .engine
        .store()
        .read_run(theirs.run())
        .unwrap()
        .display_id;
    let mine_there = other.engine.store().read_run(mine.run()).unwrap();
    assert_eq!(mine_there.display_id, id);
    assert_eq!(resolve(&id.to_string()).unwrap(), theirs.run());
    assert_eq!(resolve("k").unwrap(), theirs.run());
    let here = bench.engine.store().id().to_string();
    assert_eq!(resolve(&format!("{id}.{here}")).unwrap(), mine.run());
    assert_eq!(
        resolve(&format!("{id}.{}", &here[..8])).unwrap(),
        mine.run()
    );
    let there = other.engine.store().id();
    assert_eq!(resolve(&format!("{id}.{there}")).unwrap(), theirs.run());
    let nowhere = error_of(resolve(&format!("{id}.zzzz")));
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

fn theirs_project(engine: &Engine, run: RunId) -> String {
    let record = engine.store().read_run(run).unwrap();
    record.project.as_str().to_owned()
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
    let path = format!("chunks/{}/{}", &chunk.object[..2], chunk.object);
    bench.damage(path, |bytes| bytes[0] ^= 1);
    let other = other();
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
    let other = other();
    let (location, settings) = (other.place.location(), place::settings());
    let now = SystemClock.now();
    let read = runtree_engine::open_store(location, &settings, OpenMode::ReadOnly, now);
    let failed = sync::sync(bench.engine.store(), &read.unwrap(), &all(), &|_| {});
    assert_eq!(error_of(failed).kind(), ErrorKind::Denied);
}

#[test]
fn a_run_that_trained_here_is_forked_and_pruned_from_elsewhere_and_copied_home() {
    let bench = Bench::new();
    let run = bench.start(keyed("k", runtree_engine::ResumePolicy::Allow));
    train(&run, 0..=20, &[10, 20]);
    run.finish(None, None, None).unwrap();
    let again = bench.start(keyed("k", runtree_engine::ResumePolicy::Allow));
    train(&again, 21..=30, &[30]);
    let child = bench.start(crate::support::fork_of(run.run(), 20));
    train(&child, 21..=25, &[]);
    save(&child, 25);
    child.finish(None, None, None).unwrap();
    again.finish(None, None, None).unwrap();
    // Somebody else, somewhere else.
    let far = bench.elsewhere("far");
    assert_eq!(steps(&far, run.run()), [10, 20, 30]);
    assert_eq!(history(&far, child.run()).0, (0..=25).collect::<Vec<_>>());
    keep_last(&far, run.run());
    assert_eq!(steps(&far, run.run()), [20, 30], "a fork starts from 20");
    assert!(far.verify(None).unwrap().problems.is_empty());
    let home = other_at(Place::directory());
    copy(far.store(), home.engine.store(), &all());
    assert_same(&far, &home.engine, child.run());
}

/// The one that the server of the suite is really asked for: every other store of the tests is there when it is opened.
#[test]
fn a_store_is_made_where_none_is() {
    let bench = Bench::new();
    let mut options = bench.options("cache");
    options.location = bench.location().with_file_name(format!(
        "{}-made",
        bench.location().file_name().unwrap().to_str().unwrap()
    ));
    let missing = Engine::open(options.clone().with_mode(OpenMode::ReadWrite));
    assert_eq!(error_of(missing).kind(), ErrorKind::NotFound);
    let made = Engine::open(options.clone()).unwrap();
    let run = made.start_run(named("a")).unwrap();
    train(&run, 0..=3, &[3]);
    run.finish(None, None, None).unwrap();
    let again = Engine::open(options).unwrap();
    assert_eq!(again.store().id(), made.store().id());
    assert_ne!(again.store().id(), bench.engine.store().id());
    assert_eq!(steps(&again, run.run()), [3]);
}
