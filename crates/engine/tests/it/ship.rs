//! A live run with a remote: pushed while it trains, caught up after the remote was away, deleted here where the remote keeps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtree_core::ErrorKind;
use runtree_core::retention::Policy;
use runtree_engine::sync::{self, SyncSelection};
use runtree_engine::{
    CheckpointScope, Engine, EngineOptions, Purpose, RemoteSpec, ResumePolicy, RetentionScope,
    RunWriter, Settings, TrashBound, UnknownMetric, WarningKind,
};

use crate::support::{Bench, error_of, keyed, save, train};

const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// A place for a remote, which is away as long as a file lies where its directory belongs.
struct Away(PathBuf);

impl Away {
    fn new(bench: &Bench) -> Self {
        let place = bench.dir.path().join("remote");
        std::fs::write(&place, "in the way").unwrap();
        Self(place)
    }

    fn comes_back(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn spec(location: &Path, keep_local: Option<u32>) -> RemoteSpec {
    RemoteSpec {
        location: location.to_owned(),
        settings: Settings::new(),
        keep_local,
    }
}

fn at(bench: &Bench, location: &Path) -> Arc<Engine> {
    let cache = bench.dir.path().join("cache-of-remote");
    Engine::open(EngineOptions::new(location, cache)).unwrap()
}

fn steps(engine: &Engine, run: &RunWriter) -> Vec<i64> {
    let all = engine.checkpoints(run.run(), CheckpointScope::default());
    all.unwrap().iter().map(|info| info.step.0).collect()
}

fn start(bench: &Bench) -> Arc<RunWriter> {
    bench.start(keyed("k", ResumePolicy::Allow))
}

#[test]
fn a_checkpoint_is_at_the_remote_while_the_run_goes_on_and_the_rest_when_it_ends() {
    let bench = Bench::new();
    let place = bench.dir.path().join("remote");
    let run = start(&bench);
    run.ship_to(spec(&place, None)).unwrap();
    train(&run, 0..=9, &[]);
    let name = save(&run, 9);
    run.wait_remote(name.key, LONG).unwrap();
    let there = at(&bench, &place);
    assert_eq!(steps(&there, &run), [9]);
    train(&run, 10..=20, &[]);
    let report = run.finish(None, None, None).unwrap();
    let remote = report.remote.unwrap();
    assert!(remote.complete && remote.behind.is_empty(), "{remote:?}");
    assert_eq!(report.warnings, []);
    let columns = there.history(run.run(), "loss", Default::default());
    assert_eq!(columns.unwrap().steps, (0..=20).collect::<Vec<_>>());
    let summary = there.summary(run.run()).unwrap();
    assert_eq!(summary.status, runtree_core::event::RunStatus::Completed);
}

#[test]
fn a_remote_that_is_away_is_felt_by_nobody_and_is_caught_up_with() {
    let bench = Bench::new();
    let away = Away::new(&bench);
    let run = start(&bench);
    run.ship_to(spec(&away.0, None)).unwrap();
    train(&run, 0..=20, &[10, 20]);
    let name = save(&run, 20);
    let error = error_of(run.wait_remote(name.key, Some(Duration::from_millis(300))));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("durable here"), "{error:?}");
    let remote = run.health().remote.unwrap();
    assert!(remote.error.is_some(), "{remote:?}");
    assert_eq!(remote.behind.len(), 2);
    away.comes_back();
    run.wait_remote(name.key, LONG).unwrap();
    assert_eq!(run.health().remote.unwrap().error, None);
    assert_eq!(steps(&at(&bench, &away.0), &run), [10, 20, 20]);
    run.finish(None, None, None).unwrap();
}

#[test]
fn finish_says_what_is_still_local_and_the_next_launch_sends_it() {
    let bench = Bench::new();
    let away = Away::new(&bench);
    let run = start(&bench);
    run.ship_to(spec(&away.0, None)).unwrap();
    train(&run, 0..=20, &[10, 20]);
    let report = run.finish(None, None, None).unwrap();
    let remote = report.remote.unwrap();
    assert!(!remote.complete);
    let behind: Vec<i64> = remote.behind.iter().map(|step| step.0).collect();
    assert_eq!(behind, [10, 20]);
    let told = report
        .warnings
        .iter()
        .find(|warning| warning.kind == WarningKind::Unpushed)
        .unwrap();
    for word in ["2 checkpoints", "10", "20", "runtree push"] {
        assert!(told.message.contains(word), "{}", told.message);
    }
    away.comes_back();
    let again = start(&bench);
    again.ship_to(spec(&away.0, None)).unwrap();
    assert!(
        again
            .finish(None, None, None)
            .unwrap()
            .remote
            .unwrap()
            .complete
    );
    assert_eq!(steps(&at(&bench, &away.0), &run), [10, 20]);
}

#[test]
fn what_the_remote_keeps_is_deleted_here_and_comes_back_when_it_is_wanted() {
    let bench = Bench::new();
    let place = bench.dir.path().join("remote");
    let run = start(&bench);
    run.ship_to(spec(&place, Some(1))).unwrap();
    train(&run, 0..=30, &[10, 20, 30]);
    run.finish(None, None, None).unwrap();
    assert_eq!(steps(&bench.engine, &run), [30]);
    // Nothing else is taken for what is elsewhere: 10 is the best by a metric, and the one at or before 15.
    for (text, step) in [("@<=15", 10), ("@20", 20), ("@best:loss:max", 10)] {
        let reference = format!("{}{text}", run.run()).parse().unwrap();
        let found = bench
            .engine
            .resolve_checkpoint(&reference, None, Purpose::Read);
        let error = error_of(found);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let said = format!("step {step} is in {}", place.display());
        assert!(error.message().contains(&said), "{error:?}");
        assert!(error.hint().unwrap().contains("--restore"), "{error:?}");
    }
    let there = at(&bench, &place);
    assert_eq!(steps(&there, &run), [10, 20, 30]);
    // Retention there does not take the only copy.
    let policy = Policy {
        keep_last: Some(1),
        ..Policy::default()
    };
    let plan = there.plan_prune(run.run(), &policy, UnknownMetric::Refuse);
    there
        .apply_prune(&plan.unwrap(), None, TrashBound { checkpoints: 0 })
        .unwrap();
    assert_eq!(steps(&there, &run), [10, 20, 30]);
    // A pull leaves out what is deleted here, unless it is told to bring it back.
    let mut selection = SyncSelection::default();
    sync::sync(there.store(), bench.engine.store(), &selection, &|_| {}).unwrap();
    assert_eq!(steps(&bench.engine, &run), [30]);
    selection.restore = true;
    sync::sync(there.store(), bench.engine.store(), &selection, &|_| {}).unwrap();
    assert_eq!(steps(&bench.engine, &run), [10, 20, 30]);
    assert!(bench.engine.verify(None).unwrap().problems.is_empty());
    // The next push sees that they are here, and lets go of them there.
    let again = start(&bench);
    again.ship_to(spec(&place, Some(3))).unwrap();
    again.finish(None, None, None).unwrap();
    let plan = there.plan_prune(run.run(), &policy, UnknownMetric::Refuse);
    let gone = plan.unwrap().deleted().count();
    assert_eq!(gone, 2);
}

#[test]
fn what_the_remote_has_deleted_stays_here() {
    let bench = Bench::new();
    let place = bench.dir.path().join("remote");
    let run = start(&bench);
    train(&run, 0..=30, &[10, 20, 30]);
    run.finish(None, None, None).unwrap();
    let there = at(&bench, &place);
    sync::sync(
        bench.engine.store(),
        there.store(),
        &SyncSelection::default(),
        &|_| {},
    )
    .unwrap();
    let first = there
        .checkpoints(run.run(), CheckpointScope::default())
        .unwrap()
        .remove(0);
    let first = there.find_checkpoint(first.id.parse().unwrap()).unwrap();
    there.delete_checkpoint(first, "by hand").unwrap();
    let again = start(&bench);
    again.ship_to(spec(&place, Some(1))).unwrap();
    again.finish(None, None, None).unwrap();
    assert_eq!(steps(&bench.engine, &run), [10, 30]);
    assert_eq!(steps(&there, &run), [20, 30], "a push does not refill it");
}

#[test]
fn a_remote_that_can_not_be_meant_is_refused_at_once() {
    let bench = Bench::new();
    let run = start(&bench);
    let failed = run.ship_to(spec(Path::new("ftp://somewhere"), None));
    assert_eq!(error_of(failed).kind(), ErrorKind::Invalid);
    let error = error_of(run.wait_remote(save(&run, 1).key, LONG));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    run.finish(None, None, None).unwrap();
}

#[test]
fn the_remote_keeps_what_its_own_policy_says_and_a_pin_for_who_evicted_can_be_taken_back() {
    let bench = Bench::new();
    let place = bench.dir.path().join("remote");
    let run = start(&bench);
    run.ship_to(spec(&place, None)).unwrap();
    train(&run, 0..=9, &[]);
    run.wait_remote(save(&run, 0).key, LONG).unwrap();
    let there = at(&bench, &place);
    let policy = Policy {
        keep_last: Some(2),
        ..Policy::default()
    };
    there
        .set_retention(&RetentionScope::Store, Some(&policy))
        .unwrap();
    for step in 1..6 {
        run.wait_remote(save(&run, step).key, LONG).unwrap();
    }
    run.finish(None, None, None).unwrap();
    there.refresh().unwrap();
    assert_eq!(steps(&there, &run), [4, 5]);
    assert_eq!(steps(&bench.engine, &run), [0, 1, 2, 3, 4, 5]);

    // A copy by somebody else leaves the pin alone: the evicter may stand between it and its tombstone. A user who says so takes it back.
    let info = there
        .checkpoints(run.run(), CheckpointScope::default())
        .unwrap();
    let name = there.find_checkpoint(info[0].id.parse().unwrap()).unwrap();
    let keep = || {
        sync::keep(
            bench.engine.store(),
            there.store(),
            name,
            runtree_core::Timestamp(0),
        )
    };
    assert!(keep().unwrap());
    let refused = error_of(there.delete_checkpoint(name, "a test"));
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    sync::sync(
        bench.engine.store(),
        there.store(),
        &SyncSelection::default(),
        &|_| {},
    )
    .unwrap();
    assert_eq!(
        error_of(there.delete_checkpoint(name, "a test")).kind(),
        ErrorKind::Conflict
    );
    there.pin(name, "mine").unwrap();
    there.unpin(name).unwrap();
    assert!(
        there.delete_checkpoint(name, "a test").is_err(),
        "pinned for the other store"
    );
    there.unpin(name).unwrap();
    there.delete_checkpoint(name, "a test").unwrap();
}
