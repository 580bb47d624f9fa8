//! What the tests of runs and lineages share: a store (a directory or a fresh place in the bucket), a clock that is moved by hand, and trainers in one line.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use runtree_core::manifest::CheckpointName;
use runtree_core::state::{Dtype, StateKey, StateNode};
use runtree_core::{Clock, Error, ErrorKind, Result, RunId, Step, Timestamp};
use runtree_engine::{
    Engine, EntrySource, ForkChoice, HistoryQuery, LaunchKey, OpenMode, ResumePolicy, RunSpec,
    RunWriter, SaveRequest, ScanOptions, TensorSource,
};
use runtree_testkit::place::Place;

/// A clock that goes on by a microsecond at each look, and by what a test says.
#[derive(Debug)]
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// A store that goes away with the test.
pub(crate) struct Bench {
    pub(crate) place: Place,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) engine: Arc<Engine>,
    scan: ScanOptions,
}

impl Deref for Bench {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Place::new(), ScanOptions::default())
    }

    /// For what can be about a disk alone: see `disk_only.rs`.
    pub(crate) fn on_disk() -> Self {
        Self::at(Place::on_disk())
    }

    pub(crate) fn at(place: Place) -> Self {
        Self::with(place, ScanOptions::default())
    }

    /// A store that is gone through as if it had a hundred thousand runs: nothing is looked at closely unless something was published into it.
    pub(crate) fn large() -> Self {
        let scan = ScanOptions {
            small_store: 0,
            round: 0,
            throttle: 0,
        };
        Self::with(Place::new(), scan)
    }

    fn with(place: Place, scan: ScanOptions) -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(1_795_000_000_000_000)));
        let engine = open(&place, "cache", OpenMode::Create, &clock, scan).unwrap();
        Self {
            place,
            clock,
            engine,
            scan,
        }
    }

    /// Opens the store once more.
    pub(crate) fn try_open(&self, cache: &str, mode: OpenMode) -> Result<Arc<Engine>> {
        open(&self.place, cache, mode, &self.clock, self.scan)
    }

    /// Another process on the same store, as far as an engine can tell: its own caches in memory, the same index.
    pub(crate) fn other(&self) -> Arc<Engine> {
        self.elsewhere("cache")
    }

    /// Another machine on the same store: its own index.
    pub(crate) fn elsewhere(&self, cache: &str) -> Arc<Engine> {
        self.try_open(cache, OpenMode::ReadWrite).unwrap()
    }

    /// Somebody who only looks.
    pub(crate) fn reader(&self) -> Arc<Engine> {
        self.try_open("reader", OpenMode::ReadOnly).unwrap()
    }

    pub(crate) fn start(&self, spec: RunSpec) -> Arc<RunWriter> {
        self.engine.start_run(spec).unwrap()
    }

    /// A finished root that logged `loss` at some steps and saved at others.
    pub(crate) fn trained(
        &self,
        name: &str,
        steps: std::ops::RangeInclusive<i64>,
        saves: &[i64],
    ) -> RunId {
        let run = self.start(named(name));
        train(&run, steps, saves);
        run.finish(None, None, None).unwrap();
        run.run()
    }

    /// A finished fork that went on to `last`.
    pub(crate) fn forked(&self, parent: RunId, at: i64, last: i64, saves: &[i64]) -> RunId {
        let run = self.start(fork_of(parent, at));
        train(&run, at + 1..=last, saves);
        run.finish(None, None, None).unwrap();
        run.run()
    }

    /// Steps of the effective history of `loss`.
    pub(crate) fn steps(&self, run: RunId) -> Vec<i64> {
        self.engine
            .history(run, "loss", HistoryQuery::default())
            .unwrap()
            .steps
    }

    /// Values of the effective history of `loss`.
    pub(crate) fn values(&self, run: RunId) -> Vec<f64> {
        self.engine
            .history(run, "loss", HistoryQuery::default())
            .unwrap()
            .values
    }
}

fn open(
    place: &Place,
    cache: &str,
    mode: OpenMode,
    clock: &Arc<HandClock>,
    scan: ScanOptions,
) -> Result<Arc<Engine>> {
    let mut options = place.options(cache).with_mode(mode);
    options.clock = Arc::clone(clock) as Arc<dyn Clock>;
    options.scan = scan;
    Engine::open(options)
}

pub(crate) fn spec() -> RunSpec {
    RunSpec::new("my project".parse().unwrap())
}

pub(crate) fn named(name: &str) -> RunSpec {
    RunSpec {
        name: Some(name.to_owned()),
        ..spec()
    }
}

pub(crate) fn keyed(key: &str, resume: ResumePolicy) -> RunSpec {
    RunSpec {
        key: Some(key.to_owned()),
        resume,
        ..spec()
    }
}

pub(crate) fn launched_as(key: &str, spec: RunSpec) -> RunSpec {
    RunSpec {
        launch_key: LaunchKey::Named(key.to_owned()),
        ..spec
    }
}

pub(crate) fn at_step(parent: RunId, step: i64) -> ForkChoice {
    ForkChoice::RunAndStep {
        run: parent.to_string(),
        step: Step(step),
    }
}

pub(crate) fn fork_of(parent: RunId, step: i64) -> RunSpec {
    RunSpec {
        fork: at_step(parent, step),
        ..spec()
    }
}

/// What `loss` is at a step, so that a value says where it came from.
pub(crate) fn loss(step: i64) -> f64 {
    1.0 / (1.0 + step as f64)
}

/// Logs `loss` and saves, in the order a trainer does.
pub(crate) fn train(run: &Arc<RunWriter>, steps: std::ops::RangeInclusive<i64>, saves: &[i64]) {
    for step in steps {
        log(run, step, loss(step)).unwrap();
        if saves.contains(&step) {
            save(run, step);
        }
    }
}

pub(crate) fn log(run: &RunWriter, step: i64, value: f64) -> Result<()> {
    run.log(Some(Step(step)), None, &[("loss", value)], true)
}

/// Saves a small state and waits until it is there.
pub(crate) fn save(run: &Arc<RunWriter>, step: i64) -> CheckpointName {
    let bytes = step.to_le_bytes();
    let request = SaveRequest {
        step: Some(Step(step)),
        ..SaveRequest::of(vec![entry(&bytes)])
    };
    let pending = run.save(request).unwrap();
    pending.wait(None).unwrap();
    pending.name()
}

pub(crate) fn entry(bytes: &[u8]) -> EntrySource<'_> {
    let leaf = serde_json::json!({"t": "tensor", "tensor": 0, "framework": "numpy"});
    let tree = StateNode::Dict {
        kind: Default::default(),
        k: vec![StateKey::Str("w".to_owned())],
        v: vec![serde_json::from_value(leaf).unwrap()],
    };
    EntrySource::State {
        path: "state".to_owned(),
        tree,
        tensors: vec![TensorSource {
            name: "w".to_owned(),
            dtype: Dtype::U8,
            shape: vec![bytes.len() as u64],
            global_shape: None,
            global_offset: None,
            data: bytes.into(),
        }],
        blobs: Vec::new(),
    }
}

/// More than a second by the clock of a bucket, which has seconds.
pub(crate) const A_SECOND: Duration = Duration::from_millis(2100);

/// Lets time pass by the clocks of others.
pub(crate) fn pass(time: Duration) {
    assert!(mpsc::channel::<()>().1.recv_timeout(time).is_err());
}

pub(crate) fn error_of<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error,
    }
}

pub(crate) fn assert_error<T>(result: Result<T>, kind: ErrorKind, words: &[&str]) {
    let error = error_of(result);
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(
            error.message().contains(word) || error.hint().is_some_and(|hint| hint.contains(word)),
            "{word:?} is not in {error} / {:?}",
            error.hint()
        );
    }
}
