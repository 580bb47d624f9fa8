//! State tree → Python, in three phases: plan where every tensor goes, read all of them with the interpreter free, make the objects.
//!
//! The plan is made and checked against `into=` before a byte is read, so a state that does not fit changes nothing. A tensor that
//! only one leaf names and whose `into` leaf has contiguous host memory is read straight into that; everything else into fresh
//! memory of its framework. `load_state_dict` of stateful leaves is called last, when nothing can fail any more but they.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyString, PyTuple,
};
use runtree_core::Error;
use runtree_core::manifest::Extent;
use runtree_core::state::{
    DateTimeClass, DictKind, Framework, StateKey, StateNode, TensorLeaf, TensorRecord,
};
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
struct Base<'py> {
    object: Bound<'py, PyAny>,
    adapter: Bound<'py, PyModule>,
    address: usize,
    /// Whether `object` is the caller's own leaf.
    direct: bool,
}

/// A leaf of a record, and what it goes into.
type Use<'a, 'py> = (&'a TensorLeaf, Option<Bound<'py, PyAny>>);

struct Builder<'a, 'py> {
    py: Python<'py>,
    classes: Classes<'py>,
    load: &'a Load<'a, 'py>,
    /// For every record in use, the leaves that name it and what they go into.
    uses: BTreeMap<u32, Vec<Use<'a, 'py>>>,
    used_blobs: BTreeMap<u32, Vec<u8>>,
    bases: HashMap<u32, Base<'py>>,
    /// Leaves made so far, so that one object that was saved twice comes back as one.
    leaves: HashMap<String, Bound<'py, PyAny>>,
    /// `load_state_dict` calls to make at the end.
    restores: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    /// Whether shards are wrapped, because a `load_state_dict` is going to get them.
    wrap_shards: bool,
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

    fn dict_target(
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

    fn items_target(
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

    fn is_stateful(&self, object: &Bound<'py, PyAny>) -> bool {
        !object.is_exact_instance_of::<PyDict>()
            && object
                .hasattr(intern!(self.py, "load_state_dict"))
                .unwrap_or(false)
    }

    fn framework_of(&self, object: &Bound<'py, PyAny>) -> Option<Framework> {
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

    fn available(&self, framework: Framework) -> PyResult<Bound<'py, PyModule>> {
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

    // ---- Phase 3: objects.

    fn make(
        &mut self,
        node: &'a StateNode,
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let into = into.filter(|into| !into.is_none());
        Ok(match node {
            StateNode::None => py.None().into_bound(py),
            StateNode::Bool { v } => pyo3::types::PyBool::new(py, *v).to_owned().into_any(),
            StateNode::Int { v } => int(py, v)?,
            StateNode::Float { v } => PyFloat::new(py, v.0).into_any(),
            StateNode::Complex { re, im } => PyComplex::from_doubles(py, re.0, im.0).into_any(),
            StateNode::Str { v } => PyString::new(py, v).into_any(),
            StateNode::LongStr { blob } => {
                let bytes = PyBytes::new(py, self.blob(*blob));
                bytes.call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))?
            }
            StateNode::Bytes { v, mutable } => bytes(py, &self.decode(v)?, *mutable),
            StateNode::LongBytes { blob, mutable } => bytes(py, self.blob(*blob), *mutable),
            StateNode::List { v } => {
                let items = self.make_items(v, into, path)?;
                if let Some(list) = into.and_then(|into| into.cast::<PyList>().ok()) {
                    for (index, item) in items.into_iter().enumerate() {
                        list.set_item(index, item)?;
                    }
                    return Ok(list.clone().into_any());
                }
                PyList::new(py, items)?.into_any()
            }
            StateNode::Tuple { v } => PyTuple::new(py, self.make_items(v, into, path)?)?.into_any(),
            StateNode::NamedTuple { class, fields, v } => {
                let items = PyTuple::new(py, self.make_items(v, into, path)?)?;
                py.import("runtree._leaves")?
                    .call_method1("named_tuple", (class, fields.clone(), items))?
            }
            StateNode::Dict { kind, k, v } => self.make_dict(kind, k, v, into, path)?,
            StateNode::Deque { maxlen, v } => {
                let items = PyList::new(py, self.make_items(v, into, path)?)?;
                self.classes.deque.call1((items, *maxlen))?
            }
            StateNode::Set { frozen, v } => {
                let items = self.make_items(v, None, path)?;
                if *frozen {
                    PyFrozenSet::new(py, items)?.into_any()
                } else {
                    PySet::new(py, items)?.into_any()
                }
            }
            StateNode::Tensor(leaf) => self.make_leaf(leaf, into)?,
            StateNode::NumpyScalar { dtype, v } => {
                let arguments = (dtype.to_string(), PyBytes::new(py, &self.decode(v)?));
                self.available(Framework::Numpy)?
                    .call_method1("scalar", arguments)?
            }
            StateNode::TorchSize { v } => {
                self.torch_value("size", PyList::new(py, v)?.into_any())?
            }
            StateNode::TorchDtype { v } => {
                self.torch_value("dtype", PyString::new(py, v).into_any())?
            }
            StateNode::TorchDevice { v } => {
                self.torch_value("device", PyString::new(py, v).into_any())?
            }
            StateNode::DateTime { class, v } => {
                let parse = |class: &Bound<'py, pyo3::types::PyType>| {
                    class.call_method1("fromisoformat", (v,))
                };
                match class {
                    DateTimeClass::DateTime => parse(&self.classes.datetime)?,
                    DateTimeClass::Date => parse(&self.classes.date)?,
                    DateTimeClass::Time => parse(&self.classes.time)?,
                    DateTimeClass::TimeDelta => {
                        self.classes.timedelta.call1((0, 0, int(py, v)?))?
                    }
                }
            }
            StateNode::Path { v } => py.import("pathlib")?.getattr("Path")?.call1((v,))?,
            StateNode::Enum { class, name, value } => {
                let value = self.make(value, None, path)?;
                py.import("runtree._leaves")?
                    .call_method1("enumeration", (class, name, value))?
            }
            StateNode::Stateful { state, .. } => match into.filter(|into| self.is_stateful(into)) {
                Some(target) => self.restore(state, target, path)?,
                None => self.make(state, into, path)?,
            },
        })
    }

    /// Makes the state of a stateful leaf and notes the call that gives it to `target`.
    fn restore(
        &mut self,
        state: &'a StateNode,
        target: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outer = std::mem::replace(&mut self.wrap_shards, true);
        let made = self.make(state, None, path);
        self.wrap_shards = outer;
        let mut state = made?;
        if self
            .load
            .tensors
            .iter()
            .any(|record| record.global_shape.is_some())
        {
            state =
                adapter(self.py, Framework::Torch)?.call_method1("distribute", (target, state))?;
        }
        self.restores.push((target.clone(), state));
        Ok(target.clone())
    }

    fn make_items(
        &mut self,
        items: &'a [StateNode],
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let targets = self.items_target(into, items.len(), path)?;
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let target = targets.as_ref().map(|targets| &targets[index]);
                self.make(item, target, &join(path, &index.to_string()))
            })
            .collect()
    }

    fn make_dict(
        &mut self,
        kind: &DictKind,
        keys: &'a [StateKey],
        values: &'a [StateNode],
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        if let Some(target) = into.filter(|into| self.is_stateful(into)) {
            // Saved as `model.state_dict()`, loaded into `model`.
            let outer = std::mem::replace(&mut self.wrap_shards, true);
            let made = self.make_dict(kind, keys, values, None, path);
            self.wrap_shards = outer;
            let mut state = made?;
            if self
                .load
                .tensors
                .iter()
                .any(|record| record.global_shape.is_some())
            {
                state =
                    adapter(py, Framework::Torch)?.call_method1("distribute", (target, state))?;
            }
            self.restores.push((target.clone(), state));
            return Ok(target.clone());
        }
        let target = self.dict_target(into, path)?;
        let dict = match (&target, kind) {
            (Some(dict), _) => dict.clone().into_any(),
            (None, DictKind::Plain) => PyDict::new(py).into_any(),
            (None, DictKind::Ordered) => self.classes.ordered_dict.call0()?,
            (None, DictKind::Counter) => self.classes.counter.call0()?,
            (None, DictKind::Default(None)) => self.classes.default_dict.call0()?,
            (None, DictKind::Default(Some(factory))) => {
                let factory = py
                    .import("runtree._leaves")?
                    .call_method1("factory", (factory,))?;
                self.classes.default_dict.call1((factory,))?
            }
        };
        for (key, value) in keys.iter().zip(values) {
            let child_path = join(path, &key.path_part());
            let key = self.key(key)?;
            let child_into = match &target {
                Some(target) => target.get_item(&key)?,
                None => None,
            };
            let value = self.make(value, child_into.as_ref(), &child_path)?;
            dict.set_item(key, value)?;
        }
        Ok(dict)
    }

    fn make_leaf(
        &mut self,
        leaf: &'a TensorLeaf,
        into: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let base = self
            .bases
            .get(&leaf.tensor)
            .ok_or_else(|| to_py_err(py, &Error::internal("a tensor was not planned")))?;
        if base.direct {
            return Ok(base.object.clone());
        }
        let record = &self.load.tensors[leaf.tensor as usize];
        // `Debug` of plain data: equal leaves, equal text.
        let identity = format!("{leaf:?} {}", self.wrap_shards);
        let made = if let Some(made) = self.leaves.get(&identity) {
            made.clone()
        } else {
            let view = leaf
                .view
                .as_ref()
                .map(|view| (view.offset, view.shape.clone(), view.strides.clone()));
            let device = if into.is_some() {
                None
            } else {
                self.load.device.clone()
            };
            let arguments = (
                &base.object,
                view,
                leaf.parameter,
                leaf.requires_grad,
                device,
            );
            let mut made = base.adapter.call_method1(intern!(py, "leaf"), arguments)?;
            if let (true, Some(global), Some(offset)) = (
                self.wrap_shards,
                &record.global_shape,
                &record.global_offset,
            ) {
                let arguments = (made, PyTuple::new(py, global)?, PyTuple::new(py, offset)?);
                made = adapter(py, Framework::Torch)?.call_method1("shard", arguments)?;
            }
            self.leaves.insert(identity, made.clone());
            made
        };
        match into.and_then(|into| self.framework_of(into).map(|framework| (into, framework))) {
            Some((into, framework)) => {
                adapter(py, framework)?.call_method1(intern!(py, "copy_into"), (into, made))?;
                Ok(into.clone())
            }
            None => Ok(made),
        }
    }

    fn torch_value(&self, what: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match adapter(self.py, Framework::Torch) {
            Ok(torch) => torch.call_method1(what, (value,)),
            Err(error) if error.is_instance_of::<PyModuleNotFoundError>(self.py) => self
                .py
                .import("runtree._memory")?
                .call_method1(what, (value,)),
            Err(error) => Err(error),
        }
    }

    fn key(&self, key: &StateKey) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match key {
            StateKey::Str(text) => PyString::new(py, text).into_any(),
            StateKey::Int(digits) => int(py, digits)?,
            StateKey::Bool(value) => pyo3::types::PyBool::new(py, *value).to_owned().into_any(),
            StateKey::None => py.None().into_bound(py),
            StateKey::Tuple(keys) => {
                let keys = keys
                    .iter()
                    .map(|key| self.key(key))
                    .collect::<PyResult<Vec<_>>>()?;
                PyTuple::new(py, keys)?.into_any()
            }
        })
    }

    fn blob(&self, index: u32) -> &[u8] {
        self.used_blobs.get(&index).map_or(&[], Vec::as_slice)
    }

    fn decode(&self, text: &str) -> PyResult<Vec<u8>> {
        BASE64.decode(text).map_err(|error| {
            to_py_err(
                self.py,
                &Error::corrupt("state tree has bytes that are not base 64").with_source(error),
            )
        })
    }
}

fn bytes<'py>(py: Python<'py>, bytes: &[u8], mutable: bool) -> Bound<'py, PyAny> {
    if mutable {
        PyByteArray::new(py, bytes).into_any()
    } else {
        PyBytes::new(py, bytes).into_any()
    }
}

fn int<'py>(py: Python<'py>, digits: &str) -> PyResult<Bound<'py, PyAny>> {
    match digits.parse::<i64>() {
        Ok(value) => Ok(value.into_pyobject(py)?.into_any()),
        Err(_) => py
            .import("runtree._leaves")?
            .call_method1("integer", (digits,)),
    }
}
