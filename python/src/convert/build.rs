//! State tree → Python, in three phases: plan where every tensor goes, read all of them with the interpreter free, make the objects.
//!
//! The plan is made and checked against `into=` before a byte is read, so a state that does not fit changes nothing. A tensor that
//! only one leaf names and whose `into` leaf has contiguous host memory is read straight into that; everything else into fresh
//! memory of its framework. `load_state_dict` of stateful leaves is called last, when nothing can fail any more but they.

use std::collections::{BTreeMap, HashMap};

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};
use runtree_core::Error;
use runtree_core::manifest::Extent;
use runtree_core::state::{Framework, StateKey, StateNode, TensorLeaf, TensorRecord};
use runtree_engine::{Engine, LoadedManifest, ReadJob};

use super::frameworks::{Classes, adapter};
use super::select::join;
use crate::errors::{IntoPyResult as _, to_py_err};

/// Bytes read between two looks for Ctrl-C.
const BATCH_BYTES: usize = 512 << 20;

/// What to load, and into what.
pub(crate) struct Load<'a, 'py> {
    pub(crate) engine: &'a Engine,
    pub(crate) manifest: &'a LoadedManifest,
    pub(crate) part: usize,
    pub(crate) tree: &'a StateNode,
    pub(crate) tensors: &'a [TensorRecord],
    pub(crate) blobs: &'a [Vec<Extent>],
    pub(crate) into: Option<Bound<'py, PyAny>>,
    pub(crate) device: Option<String>,
}

/// Memory of a record, and the object that has it.
pub(super) struct Base<'py> {
    pub(super) object: Bound<'py, PyAny>,
    pub(super) adapter: Bound<'py, PyModule>,
    pub(super) address: usize,
    /// Whether `object` is the caller's own leaf.
    pub(super) direct: bool,
}

/// A leaf of a record, and what it goes into.
pub(super) type Use<'a, 'py> = (&'a TensorLeaf, Option<Bound<'py, PyAny>>);

/// What is known so far of the objects of a load.
pub(super) struct Builder<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) classes: Classes<'py>,
    pub(super) load: &'a Load<'a, 'py>,
    /// For every record in use, the leaves that name it and what they go into.
    pub(super) uses: BTreeMap<u32, Vec<Use<'a, 'py>>>,
    pub(super) used_blobs: BTreeMap<u32, Vec<u8>>,
    pub(super) bases: HashMap<u32, Base<'py>>,
    /// Leaves made so far, so that one object that was saved twice comes back as one.
    pub(super) leaves: HashMap<String, Bound<'py, PyAny>>,
    /// `load_state_dict` calls to make at the end.
    pub(super) restores: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    /// Whether shards are wrapped, because a `load_state_dict` is going to get them.
    pub(super) wrap_shards: bool,
}

/// Loads an entry.
///
/// # Errors
/// `Invalid` if `into` does not fit, `Corrupt` if bytes are damaged, and what `load_state_dict` raises.
pub(crate) fn build<'py>(py: Python<'py>, load: &Load<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let mut builder = Builder {
        py,
        classes: Classes::new(py)?,
        load,
        uses: BTreeMap::new(),
        used_blobs: BTreeMap::new(),
        bases: HashMap::new(),
        leaves: HashMap::new(),
        restores: Vec::new(),
        wrap_shards: false,
    };
    builder.plan(load.tree, load.into.as_ref(), "")?;
    builder.allocate()?;
    builder.read()?;
    let state = builder.make(load.tree, load.into.as_ref(), "")?;
    for (target, state) in std::mem::take(&mut builder.restores) {
        target.call_method1(intern!(py, "load_state_dict"), (state,))?;
    }
    Ok(state)
}

impl<'a, 'py> Builder<'a, 'py> {
    fn invalid(&self, path: &str, message: &str) -> PyErr {
        let path = if path.is_empty() { "state" } else { path };
        to_py_err(
            self.py,
            &Error::invalid(format!("`{path}` of into= {message}")),
        )
    }

    // ---- Phase 1: what goes where.

    fn plan(
        &mut self,
        node: &'a StateNode,
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<()> {
        let into = into.filter(|into| !into.is_none());
        match node {
            StateNode::Dict { k, v, .. } => {
                let dict = self.dict_target(into, path)?;
                if let Some(dict) = &dict {
                    self.check_keys(dict, k, path)?;
                }
                for (key, child) in k.iter().zip(v) {
                    let child_into = match &dict {
                        Some(dict) => dict.get_item(self.key(key)?)?,
                        None => None,
                    };
                    self.plan(child, child_into.as_ref(), &join(path, &key.path_part()))?;
                }
                Ok(())
            }
            StateNode::List { v }
            | StateNode::Tuple { v }
            | StateNode::Deque { v, .. }
            | StateNode::NamedTuple { v, .. } => {
                let items = self.items_target(into, v.len(), path)?;
                for (index, child) in v.iter().enumerate() {
                    let child_into = items.as_ref().map(|items| items[index].clone());
                    self.plan(child, child_into.as_ref(), &join(path, &index.to_string()))?;
                }
                Ok(())
            }
            StateNode::Set { v, .. } => v.iter().try_for_each(|child| self.plan(child, None, path)),
            StateNode::Stateful { state, .. } => {
                let inner = into.filter(|into| !self.is_stateful(into));
                self.plan(state, inner, path)
            }
            StateNode::Enum { value, .. } => self.plan(value, None, path),
            StateNode::LongStr { blob } | StateNode::LongBytes { blob, .. } => {
                self.used_blobs.entry(*blob).or_default();
                Ok(())
            }
            StateNode::Tensor(leaf) => {
                let target = into
                    .filter(|into| self.framework_of(into).is_some())
                    .cloned();
                if let (Some(into), None) = (into, &target) {
                    let name = into.get_type().fully_qualified_name()?;
                    return Err(self.invalid(
                        path,
                        &format!("is a {name}; the checkpoint has a tensor there"),
                    ));
                }
                self.uses
                    .entry(leaf.tensor)
                    .or_default()
                    .push((leaf, target));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn dict_target(
        &self,
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(into) = into else { return Ok(None) };
        if self.is_stateful(into) {
            return Ok(None);
        }
        if let Ok(dict) = into.cast::<PyDict>() {
            return Ok(Some(dict.clone()));
        }
        let name = into.get_type().fully_qualified_name()?;
        Err(self.invalid(
            path,
            &format!("is a {name}; the checkpoint has a dict there"),
        ))
    }

    fn check_keys(&self, dict: &Bound<'py, PyDict>, keys: &[StateKey], path: &str) -> PyResult<()> {
        let known = PySet::empty(self.py)?;
        for key in keys {
            known.add(self.key(key)?)?;
        }
        for (key, value) in dict.iter() {
            // Plain values are only replaced by what is there; objects that nothing would restore are a mistake.
            let wants = self.framework_of(&value).is_some() || self.is_stateful(&value);
            if wants && !known.contains(&key)? {
                let names: Vec<String> = keys.iter().map(StateKey::path_part).take(20).collect();
                let message = format!(
                    "has {}, which the checkpoint has not; it has {}",
                    key.repr()?,
                    names.join(", ")
                );
                return Err(self.invalid(path, &message));
            }
        }
        Ok(())
    }

    pub(super) fn items_target(
        &self,
        into: Option<&Bound<'py, PyAny>>,
        length: usize,
        path: &str,
    ) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let Some(into) = into else { return Ok(None) };
        let name = into.get_type().fully_qualified_name()?;
        let sequence = into.is_instance_of::<PyList>()
            || into.is_instance_of::<PyTuple>()
            || into.is_instance(&self.classes.deque)?;
        if !sequence {
            return Err(self.invalid(
                path,
                &format!("is a {name}; the checkpoint has a sequence there"),
            ));
        }
        let items = into.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        if items.len() != length {
            let message = format!("has {} items, the checkpoint {length}", items.len());
            return Err(self.invalid(path, &message));
        }
        Ok(Some(items))
    }

    pub(super) fn is_stateful(&self, object: &Bound<'py, PyAny>) -> bool {
        !object.is_exact_instance_of::<PyDict>()
            && object
                .hasattr(intern!(self.py, "load_state_dict"))
                .unwrap_or(false)
    }

    pub(super) fn framework_of(&self, object: &Bound<'py, PyAny>) -> Option<Framework> {
        let is_a = |class: &Option<Bound<'py, pyo3::types::PyType>>| {
            class
                .as_ref()
                .is_some_and(|class| object.is_instance(class).unwrap_or(false))
        };
        if is_a(&self.classes.torch_tensor) {
            Some(Framework::Torch)
        } else if is_a(&self.classes.numpy_array) {
            Some(Framework::Numpy)
        } else if is_a(&self.classes.jax_array) {
            Some(Framework::Jax)
        } else {
            None
        }
    }

    // ---- Memory.

    fn allocate(&mut self) -> PyResult<()> {
        let uses = std::mem::take(&mut self.uses);
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, leaves) in &uses {
            let record = &self.load.tensors[*index as usize];
            let bytes = record.byte_len().unwrap_or(0) as usize;
            let mut base = None;
            for (leaf, into) in leaves {
                let Some(into) = into else { continue };
                let Some(framework) = self.framework_of(into) else {
                    continue;
                };
                let adapter = adapter(self.py, framework)?;
                let shape = leaf.view.as_ref().map_or(&record.shape, |view| &view.shape);
                let answer = adapter.call_method1(
                    intern!(self.py, "target"),
                    (
                        into,
                        record.dtype.to_string(),
                        PyTuple::new(self.py, shape)?,
                    ),
                )?;
                if let Ok(reason) = answer.extract::<String>() {
                    return Err(self.invalid(&record.name, &reason));
                }
                let address: usize = answer.extract()?;
                // Two records into one memory would be written by two threads at once.
                let free = taken
                    .range(..address + bytes)
                    .next_back()
                    .is_none_or(|(_, end)| *end <= address);
                if leaves.len() == 1 && leaf.view.is_none() && address != 0 && free {
                    taken.insert(address, address + bytes);
                    base = Some(Base {
                        object: into.clone(),
                        adapter,
                        address,
                        direct: true,
                    });
                }
            }
            let base = match base {
                Some(base) => base,
                None => self.fresh(leaves[0].0.framework, record)?,
            };
            self.bases.insert(*index, base);
        }
        self.uses = uses;
        Ok(())
    }

    /// New memory, in the framework the leaf came from, else numpy's, else bytes.
    fn fresh(&self, framework: Framework, record: &TensorRecord) -> PyResult<Base<'py>> {
        let adapter = self.available(framework)?;
        let arguments = (
            record.dtype.to_string(),
            PyTuple::new(self.py, &record.shape)?,
        );
        let (object, address) = adapter
            .call_method1(intern!(self.py, "empty"), arguments)?
            .extract()?;
        Ok(Base {
            object,
            adapter,
            address,
            direct: false,
        })
    }

    pub(super) fn available(&self, framework: Framework) -> PyResult<Bound<'py, PyModule>> {
        for candidate in [framework, Framework::Numpy] {
            match adapter(self.py, candidate) {
                Err(error) if error.is_instance_of::<PyModuleNotFoundError>(self.py) => {}
                found => return found,
            }
        }
        self.py.import("runtree._memory")
    }

    // ---- Phase 2: bytes.

    fn read(&mut self) -> PyResult<()> {
        let mut wanted: Vec<(&'a [Extent], String, usize, usize)> = Vec::new();
        for (index, base) in &self.bases {
            let record = &self.load.tensors[*index as usize];
            let bytes = record.byte_len().unwrap_or(0) as usize;
            if bytes > 0 {
                wanted.push((&record.extents, record.name.clone(), base.address, bytes));
            }
        }
        let load = self.load;
        for (index, blob) in &mut self.used_blobs {
            let extents = load
                .blobs
                .get(*index as usize)
                .map_or(&[][..], Vec::as_slice);
            let bytes = extents.iter().map(|extent| extent.bytes).sum::<u64>();
            // A manifest was checked before: extents lie in chunks that the store has. The sum is what will be read, never a claim alone.
            blob.resize(bytes as usize, 0);
            if !blob.is_empty() {
                wanted.push((
                    extents,
                    format!("blob {index}"),
                    blob.as_mut_ptr() as usize,
                    blob.len(),
                ));
            }
        }
        // In the order of the file, so that a disk sees one stream.
        wanted.sort_by_key(|(extents, ..)| {
            extents
                .first()
                .map_or((0, 0), |extent| (extent.chunk, extent.offset))
        });
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let batch = rest.iter().take_while(|(.., length)| {
                let fits = bytes == 0 || bytes + length <= BATCH_BYTES;
                bytes += length;
                fits
            });
            let count = batch.count();
            let (batch, later) = rest.split_at(count);
            self.read_batch(batch)?;
            self.py.check_signals()?;
            rest = later;
        }
        Ok(())
    }

    #[expect(
        unsafe_code,
        reason = "bytes go from the disk straight into the tensors they belong to; a safe buffer between would be one more copy of everything"
    )]
    fn read_batch(&self, batch: &[(&[Extent], String, usize, usize)]) -> PyResult<()> {
        let (engine, manifest, part) = (self.load.engine, self.load.manifest, self.load.part);
        self.py
            .detach(|| {
                let jobs = batch
                    .iter()
                    .map(|(extents, what, address, bytes)| ReadJob {
                        part,
                        extents,
                        what,
                        // SAFETY: the framework said that `bytes` from `address` on are the elements of an object which `self.bases` (or `self.used_blobs`)
                        // keeps alive and which is either new, so nobody else has it, or the caller's `into` leaf, lent to us for the load. `allocate`
                        // lets no two jobs overlap. Any bit pattern is a valid u8.
                        into: unsafe {
                            std::slice::from_raw_parts_mut(*address as *mut u8, *bytes)
                        },
                    })
                    .collect();
                engine.read_tensors(manifest, jobs, 0)
            })
            .into_py(self.py)
    }
}
