//! The parts of a checkpoint as one state, for Python: load all of it or some, read boxes of its tensors, list its leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use runtree_core::state::region::{Region, is_injective};
use runtree_core::state::{StateKey, StateNode};
use runtree_core::{Error, Result};
use runtree_engine::{
    Engine, LoadedManifest, MAX_STRETCHES, ReadJob, RegionRead, WholeRequest, WholeState,
};

use crate::convert::build::{Load, build, key_object};
use crate::convert::select::select;
use crate::errors::{IntoPyResult as _, to_py_err};
use crate::runtime::Owned;

/// Bytes read between two looks for Ctrl-C.
const BATCH_BYTES: u64 = 512 << 20;

struct Inner {
    engine: Arc<Engine>,
    manifest: LoadedManifest,
    state: WholeState,
}

/// The native half of a load.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct Whole {
    inner: Owned<Inner>,
}

/// A tensor as the Python layer sees it: name, dtype, shape, whether it was saved as shards, and `(offset, shape)` of what is stored.
type TensorFacts = (String, String, Vec<u64>, bool, Vec<(Vec<u64>, Vec<u64>)>);

/// A box to read: tensor, offset, shape, address, strides in elements.
#[derive(FromPyObject)]
pub(crate) struct ReadRequest {
    tensor: usize,
    offset: Vec<u64>,
    shape: Vec<u64>,
    address: usize,
    strides: Vec<u64>,
}

impl Whole {
    pub(crate) fn new(
        py: Python<'_>,
        engine: &Arc<Engine>,
        manifest: &LoadedManifest,
        component: &str,
        entry: &str,
        own_rank: Option<u32>,
        choices: BTreeMap<String, Option<u32>>,
    ) -> PyResult<Self> {
        let request = WholeRequest { own_rank, choices };
        let state = py
            .detach(|| engine.whole_state(manifest, component, entry, &request))
            .into_py(py)?;
        Ok(Self {
            inner: Owned::new(Inner {
                engine: Arc::clone(engine),
                manifest: manifest.clone(),
                state,
            }),
        })
    }

    fn inner(&self, py: Python<'_>) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this load belongs to the process this one was forked from"),
            )
        })
    }
}

impl Inner {
    fn selected(&self, py: Python<'_>, keys: Option<&[String]>) -> PyResult<StateNode> {
        let tree = self.state.tree.clone().unwrap_or(StateNode::None);
        match keys {
            None => Ok(tree),
            Some(keys) => select(&tree, keys).ok_or_else(|| {
                let error =
                    Error::not_found(format!("nothing in the checkpoint matches keys={keys:?}"))
                        .with_hint("list what there is with checkpoint.tensors()");
                to_py_err(py, &error)
            }),
        }
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        tree: &StateNode,
        into: Option<Bound<'py, PyAny>>,
        device: Option<String>,
        stand_in: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        build(
            py,
            &Load {
                engine: &self.engine,
                manifest: &self.manifest,
                tree,
                tensors: &self.state.tensors,
                blobs: &self.state.blobs,
                into,
                device,
                stand_in,
            },
        )
    }
}

#[pymethods]
impl Whole {
    /// `(path, keys, ranks)` of the leaves that differ by rank and were not chosen, among those that `keys` selects.
    #[pyo3(signature = (keys=None))]
    #[expect(
        clippy::type_complexity,
        reason = "a tuple for the Python layer, which names its fields"
    )]
    fn differing<'py>(
        &self,
        py: Python<'py>,
        keys: Option<Vec<String>>,
    ) -> PyResult<Vec<(String, Bound<'py, PyTuple>, Vec<u32>)>> {
        let inner = self.inner(py)?;
        let tree = inner.selected(py, keys.as_deref())?;
        inner
            .state
            .differing
            .iter()
            .filter(|leaf| find(&tree, &leaf.keys).is_some())
            .map(|leaf| {
                let keys = leaf
                    .keys
                    .iter()
                    .map(|key| key_object(py, key))
                    .collect::<PyResult<Vec<_>>>()?;
                Ok((
                    leaf.path.clone(),
                    PyTuple::new(py, keys)?,
                    leaf.ranks.clone(),
                ))
            })
            .collect()
    }

    /// Loads the tree, or what `keys` selects of it.
    #[pyo3(signature = (into=None, keys=None, device=None))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        into: Option<Bound<'py, PyAny>>,
        keys: Option<Vec<String>>,
        device: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let tree = inner.selected(py, keys.as_deref())?;
        inner.load(py, &tree, into, device, None)
    }

    /// The tree without the bytes of its tensors: `stand_in.tensor(index, framework, view)` and `stand_in.opaque(class, bytes)` make what stands for them.
    fn skeleton<'py>(
        &self,
        py: Python<'py>,
        stand_in: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let tree = inner.selected(py, None)?;
        inner.load(py, &tree, None, None, Some(stand_in))
    }

    /// The leaf, or what lies below, at a dotted path.
    fn value<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let tree = inner.state.tree.as_ref().and_then(|tree| at(tree, path));
        let tree = tree.ok_or_else(|| {
            to_py_err(
                py,
                &Error::not_found(format!("the checkpoint has no `{path}`")),
            )
        })?;
        inner.load(py, tree, None, None, None)
    }

    /// Its tensors, in the order of their indices.
    fn tensors(&self, py: Python<'_>) -> PyResult<Vec<TensorFacts>> {
        let facts = self.inner(py)?.state.tensors.iter().map(|tensor| {
            let stored = tensor
                .sources
                .iter()
                .map(|source| (source.region.offset.clone(), source.region.shape.clone()));
            (
                tensor.name.clone(),
                tensor.dtype.to_string(),
                tensor.shape.clone(),
                tensor.sharded,
                stored.collect(),
            )
        });
        Ok(facts.collect())
    }

    /// Reads boxes of tensors to addresses, verified. The caller owns the memory there, and no two boxes share any of it.
    #[expect(
        unsafe_code,
        reason = "bytes go straight into the tensors they belong to, which may have gaps between their rows; a safe buffer would be one more copy"
    )]
    fn read(&self, py: Python<'_>, requests: Bound<'_, PyList>) -> PyResult<()> {
        let inner = self.inner(py)?;
        let mut boxes = Vec::with_capacity(requests.len());
        for request in requests.iter() {
            let request: ReadRequest = request.extract()?;
            let wanted = Region {
                offset: request.offset,
                shape: request.shape,
            };
            if request.tensor >= inner.state.tensors.len()
                || !is_injective(&wanted.shape, &request.strides)
            {
                return Err(to_py_err(
                    py,
                    &Error::invalid(
                        "a box to read has no tensor, or its destination shares memory with itself",
                    ),
                ));
            }
            if !wanted.is_empty() {
                boxes.push((request.tensor, wanted, request.address, request.strides));
            }
        }
        let units = boxes.iter().flat_map(|(tensor, wanted, address, strides)| {
            wanted
                .clone()
                .split(MAX_STRETCHES)
                .into_iter()
                .map(move |piece| (*tensor, piece, wanted, *address, strides.as_slice()))
        });
        let mut batch: Vec<(usize, RegionRead, usize)> = Vec::new();
        let mut held = 0;
        let flush = |batch: &mut Vec<(usize, RegionRead, usize)>| -> PyResult<()> {
            let result = py.detach(|| {
                let jobs = batch
                    .iter()
                    .map(|(tensor, read, address)| ReadJob {
                        part: read.part,
                        extents: std::slice::from_ref(&read.extent),
                        what: &inner.state.tensors[*tensor].name,
                        // SAFETY: the Python layer, this class's only caller, passes the address and strides of a tensor that it keeps alive during the call
                        // and that holds `shape` elements of the tensor's dtype (it checked both). Strides are injective and `reads` covers each element once,
                        // so no two jobs overlap; and two requests never share a destination. Any bit pattern is a valid u8.
                        into: unsafe {
                            std::slice::from_raw_parts_mut(
                                (*address + read.at as usize) as *mut u8,
                                read.extent.bytes as usize,
                            )
                        },
                    })
                    .collect();
                inner.engine.read_tensors(&inner.manifest, jobs, 0)
            });
            batch.clear();
            result.into_py(py)?;
            py.check_signals()
        };
        for (tensor, piece, target, address, strides) in units {
            let reads: Result<Vec<RegionRead>> =
                inner.state.tensors[tensor].reads(&piece, target, strides);
            for read in reads.into_py(py)? {
                held += read.extent.bytes;
                batch.push((tensor, read, address));
            }
            if held >= BATCH_BYTES || batch.len() as u64 >= MAX_STRETCHES {
                flush(&mut batch)?;
                held = 0;
            }
        }
        flush(&mut batch)
    }
}

/// The node that a list of keys leads to.
fn find<'a>(node: &'a StateNode, keys: &[StateKey]) -> Option<&'a StateNode> {
    let Some((key, rest)) = keys.split_first() else {
        return Some(node);
    };
    match node {
        StateNode::Stateful { state, .. } => find(state, keys),
        StateNode::Dict { k, v, .. } => {
            let at = k.iter().position(|each| each == key)?;
            find(&v[at], rest)
        }
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. } => match key {
            StateKey::Int(digits) => find(v.get(digits.parse::<usize>().ok()?)?, rest),
            _ => None,
        },
        _ => None,
    }
}

/// The node at a dotted path; keys may have dots of their own.
fn at<'a>(node: &'a StateNode, path: &str) -> Option<&'a StateNode> {
    if path.is_empty() {
        return Some(node);
    }
    let below = |part: &str| -> Option<&str> {
        let rest = path.strip_prefix(part)?;
        if rest.is_empty() {
            Some(rest)
        } else {
            rest.strip_prefix('.')
        }
    };
    match node {
        StateNode::Stateful { state, .. } => at(state, path),
        StateNode::Dict { k, v, .. } => k
            .iter()
            .zip(v)
            .find_map(|(key, value)| at(value, below(&key.path_part())?)),
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. } => v
            .iter()
            .enumerate()
            .find_map(|(index, value)| at(value, below(&index.to_string())?)),
        _ => None,
    }
}
