//! What the tests of saving, loading, exporting and inspecting share: a store (a directory or a fresh place in the bucket) and states of plain bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, EntryContent};
use runtree_core::state::{Dtype, Framework, StateKey, StateNode, TensorLeaf};
use runtree_core::{Result, Step};
use runtree_engine::{
    Engine, EntrySource, LaunchKey, LoadedManifest, PendingSave, ReadJob, RunSpec, RunWriter,
    SaveRequest, TensorSource,
};
use runtree_testkit::place::Place;

/// A store that goes away with it.
pub(crate) struct Bench {
    pub(crate) place: Place,
    pub(crate) engine: Arc<Engine>,
}

impl Deref for Bench {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::at(Place::new())
    }

    /// For what can be about a disk alone: see `disk_only.rs`.
    pub(crate) fn on_disk() -> Self {
        Self::at(Place::on_disk())
    }

    pub(crate) fn at(place: Place) -> Self {
        let engine = Engine::open(place.options("cache")).unwrap();
        Self { place, engine }
    }

    /// Another process on the same store.
    pub(crate) fn other(&self) -> Arc<Engine> {
        Engine::open(self.options("cache")).unwrap()
    }

    /// A run of one process.
    pub(crate) fn run(&self) -> Arc<RunWriter> {
        self.engine
            .start_run(RunSpec::new("digits".parse().unwrap()))
            .unwrap()
    }

    /// The ranks of one launch.
    pub(crate) fn ranks(&self, count: u32) -> Vec<Arc<RunWriter>> {
        let spec = |rank, run| RunSpec {
            launch_key: LaunchKey::Named("job-1".to_owned()),
            rank,
            world_size: count,
            run,
            ..RunSpec::new("digits".parse().unwrap())
        };
        let first = self.engine.start_run(spec(0, None)).unwrap();
        let run = first.run();
        let others = (1..count).map(|rank| self.engine.start_run(spec(rank, Some(run))).unwrap());
        std::iter::once(Arc::clone(&first)).chain(others).collect()
    }
}

/// A tensor of the tests: name, dtype, shape, bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<u8>,
}

/// `count` bytes that differ by `seed`; compressible by nobody's luck.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A tensor of bytes.
pub(crate) fn bytes(name: &str, data: Vec<u8>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::U8,
        shape: vec![data.len() as u64],
        data,
    }
}

/// A tensor of `f32`.
pub(crate) fn floats(name: &str, values: &[f32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: vec![values.len() as u64],
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

/// A dict of tensors, and a list of long byte strings.
pub(crate) fn state<'a>(tensors: &'a [Tensor], blobs: &'a [Vec<u8>]) -> EntrySource<'a> {
    let leaf = |index: usize| {
        StateNode::Tensor(TensorLeaf {
            tensor: index as u32,
            framework: Framework::Numpy,
            view: None,
            parameter: false,
            requires_grad: false,
            device: None,
        })
    };
    let mut keys: Vec<StateKey> = tensors
        .iter()
        .map(|tensor| StateKey::Str(tensor.name.clone()))
        .collect();
    let mut values: Vec<StateNode> = (0..tensors.len()).map(leaf).collect();
    keys.push(StateKey::Str("blobs".to_owned()));
    values.push(StateNode::List {
        v: (0..blobs.len())
            .map(|blob| StateNode::LongBytes {
                blob: blob as u32,
                mutable: false,
            })
            .collect(),
    });
    EntrySource::State {
        path: "state".to_owned(),
        tree: StateNode::Dict {
            kind: runtree_core::state::DictKind::Plain,
            k: keys,
            v: values,
        },
        tensors: tensors
            .iter()
            .map(|tensor| TensorSource {
                name: tensor.name.clone(),
                dtype: tensor.dtype.clone(),
                shape: tensor.shape.clone(),
                global_shape: None,
                global_offset: None,
                data: tensor.data.as_slice().into(),
            })
            .collect(),
        blobs: blobs
            .iter()
            .map(|blob| Cow::Borrowed(blob.as_slice()))
            .collect(),
    }
}

/// A request for one step.
pub(crate) fn at(step: i64, entries: Vec<EntrySource<'_>>) -> SaveRequest<'_> {
    SaveRequest {
        step: Some(Step(step)),
        ..SaveRequest::of(entries)
    }
}

/// Saves tensors and waits until they are a checkpoint.
pub(crate) fn save(run: &Arc<RunWriter>, step: i64, tensors: &[Tensor]) -> CheckpointName {
    let pending = run.save(at(step, vec![state(tensors, &[])])).unwrap();
    pending.wait(None).unwrap();
    pending.name()
}

/// What a loaded checkpoint holds: tensors and byte strings by name, all parts together.
pub(crate) fn load(engine: &Engine, name: CheckpointName) -> Result<BTreeMap<String, Vec<u8>>> {
    let manifest = engine.load_plan(name)?;
    read_all(engine, &manifest)
}

pub(crate) fn read_all(
    engine: &Engine,
    manifest: &LoadedManifest,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut wanted = Vec::new();
    for (part, record) in manifest.parts.iter().enumerate() {
        for entry in &record.entries {
            match &entry.content {
                EntryContent::State { tensors, blobs, .. } => {
                    for tensor in tensors {
                        wanted.push((part, tensor.name.clone(), tensor.extents.as_slice()));
                    }
                    for (index, blob) in blobs.iter().enumerate() {
                        wanted.push((part, format!("blob {index}"), blob.as_slice()));
                    }
                }
                EntryContent::File { extents, .. } => {
                    wanted.push((part, entry.path.clone(), extents.as_slice()));
                }
                EntryContent::Directory { .. } | EntryContent::Symlink { .. } => {}
            }
        }
    }
    let mut buffers: Vec<Vec<u8>> = wanted
        .iter()
        .map(|(_, _, extents)| vec![0xaa; extents.iter().map(|extent| extent.bytes as usize).sum()])
        .collect();
    let jobs = wanted
        .iter()
        .zip(&mut buffers)
        .map(|((part, name, extents), into)| ReadJob {
            part: *part,
            extents,
            what: name,
            into,
        })
        .collect();
    engine.read_tensors(manifest, jobs, 0)?;
    Ok(wanted
        .into_iter()
        .map(|(_, name, _)| name)
        .zip(buffers)
        .collect())
}

/// What [`load`] should give for tensors and byte strings.
pub(crate) fn expected(tensors: &[Tensor], blobs: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
    let tensors = tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.data.clone()));
    let blobs = blobs
        .iter()
        .enumerate()
        .map(|(index, blob)| (format!("blob {index}"), blob.clone()));
    tensors.chain(blobs).collect()
}

/// Waits for a save that must fail, and gives its error.
pub(crate) fn failure(pending: &PendingSave) -> runtree_core::Error {
    pending
        .wait(Some(std::time::Duration::from_secs(20)))
        .expect_err("this save can not succeed")
}
