//! Stores on disk with checkpoints and garbage in them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtree_core::manifest::CheckpointName;
use runtree_core::state::{Dtype, StateNode};
use runtree_core::{Result, Step};
use runtree_engine::{
    Engine, EngineOptions, EntrySource, GcOptions, OpenMode, RunSpec, RunWriter, SaveRequest,
    TensorSource, TrashBound,
};
use runtree_store::{Mode, ObjectStore, Store};

/// Bytes of a checkpoint.
const BYTES: usize = 50_000;

pub(crate) fn open(dir: &Path) -> Arc<Engine> {
    let options = EngineOptions::new(dir.join("store"), dir.join("cache"));
    Engine::open(options).expect("a store")
}

/// An engine over wrapped objects, with an index of its own.
pub(crate) fn open_wrapped(
    dir: &Path,
    wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
) -> Arc<Engine> {
    let path = dir.join("store");
    let store = Store::open_wrapped(&path, Mode::ReadWrite, wrap).expect("a store");
    let options = EngineOptions::new(path, dir.join("wrapped")).with_mode(OpenMode::ReadWrite);
    Engine::over(store, options).expect("an engine")
}

pub(crate) fn start(engine: &Arc<Engine>) -> Arc<RunWriter> {
    let spec = RunSpec::new("digits".parse().expect("a name"));
    engine.start_run(spec).expect("a run")
}

/// Bytes that differ by seed.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut dice = runtree_testkit::sim::Dice::new(seed);
    (0..BYTES / 8)
        .flat_map(|_| dice.roll().to_le_bytes())
        .collect()
}

pub(crate) fn try_save(run: &Arc<RunWriter>, step: i64, bytes: &[u8]) -> Result<CheckpointName> {
    let leaf = serde_json::json!({"t": "tensor", "tensor": 0, "framework": "numpy"});
    let tree: StateNode = serde_json::from_value(leaf).expect("a tree");
    let entry = EntrySource::State {
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
    };
    let request = SaveRequest {
        step: Some(Step(step)),
        ..SaveRequest::of(vec![entry])
    };
    let pending = run.save(request)?;
    pending.wait(None)?;
    Ok(pending.name())
}

pub(crate) fn save(run: &Arc<RunWriter>, step: i64, seed: u64) -> CheckpointName {
    try_save(run, step, &noise(seed)).expect("a checkpoint")
}

/// Nothing is too young, and nothing stays in the trash.
pub(crate) fn everything() -> GcOptions {
    GcOptions {
        grace: Duration::ZERO,
        trash: TrashBound { checkpoints: 0 },
        ..GcOptions::default()
    }
}

pub(crate) fn assert_sound(engine: &Engine) {
    let problems = engine.verify(None).expect("a verdict").problems;
    assert!(problems.is_empty(), "{problems:?}");
}

pub(crate) fn chunk_files(dir: &Path) -> usize {
    let shards = std::fs::read_dir(dir.join("store/chunks")).expect("chunks");
    let of = |shard: std::fs::DirEntry| std::fs::read_dir(shard.path()).expect("a shard").count();
    shards.map(|shard| of(shard.expect("a shard"))).sum()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
