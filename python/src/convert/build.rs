//! State tree → Python, in three phases: plan where every tensor goes, read all of them with the interpreter free, make the objects.
//!
//! The plan is made and checked against `into=` before a byte is read, so a state that does not fit changes nothing. Which elements of a
//! tensor are wanted is decided here, too: what the `into` leaf holds of it, or the parameter that a stateful object is about to restore; else this
//! rank's own shard, else all of it. A tensor that only one leaf names and whose `into` leaf has contiguous host memory is read straight into
//! that; everything else into fresh memory of its framework. `load_state_dict` of stateful leaves is called last, when nothing can fail
//! any more but they.

use std::collections::{BTreeMap, HashMap};

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};
use runtree_core::Error;
use runtree_core::manifest::Extent;
use runtree_core::state::region::{Region, row_major};
use runtree_core::state::{Framework, StateKey, StateNode, TensorLeaf};
use runtree_engine::{
    Engine, LoadedManifest, MAX_STRETCHES, ReadJob, RegionRead, WholeBlob, WholeTensor,
};

use super::frameworks::{Classes, adapter};
use super::pages;
use super::select::join;
use crate::errors::{IntoPyResult as _, to_py_err};

/// Bytes read between two looks for Ctrl-C.
const BATCH_BYTES: usize = 512 << 20;

/// What to load, and into what.
pub(crate) struct Load<'a, 'py> {
    pub(crate) engine: &'a Engine,
    pub(crate) manifest: &'a LoadedManifest,
    pub(crate) tree: &'a StateNode,
    pub(crate) tensors: &'a [WholeTensor],
    pub(crate) blobs: &'a [WholeBlob],
    pub(crate) into: Option<Bound<'py, PyAny>>,
    pub(crate) device: Option<String>,
    /// Makes what stands for tensors, whose bytes are then not read.
    pub(crate) stand_in: Option<Bound<'py, PyAny>>,
}

/// Memory of a box of a tensor, and the object that has it.
pub(super) struct Base<'py> {
    pub(super) object: Bound<'py, PyAny>,
    pub(super) adapter: Bound<'py, PyModule>,
    pub(super) address: usize,
    /// Whether `object` is the caller's own leaf.
    pub(super) direct: bool,
}

/// A leaf that is wanted, and what it goes into.
struct Use<'a, 'py> {
    leaf: &'a TensorLeaf,
    into: Option<Bound<'py, PyAny>>,
    /// What a stateful object has in its place: the box it holds, and the tensor that the loaded one becomes like.
    like: Option<(Region, Option<Bound<'py, PyAny>>)>,
}

/// Leaves of one box, and where each could be read to (0: nowhere).
type Sharing<'a, 'py> = Vec<(&'a TensorLeaf, Option<Bound<'py, PyAny>>, usize)>;

/// What a leaf is made of.
pub(super) struct Placed<'py> {
    pub(super) region: Region,
    pub(super) like: Option<Bound<'py, PyAny>>,
}

/// A stretch of memory to fill.
struct Destination {
    part: usize,
    extents: Vec<Extent>,
    address: usize,
    bytes: usize,
}

/// What is known so far of the objects of a load.
pub(super) struct Builder<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) classes: Classes<'py>,
    pub(super) load: &'a Load<'a, 'py>,
    uses: Vec<Use<'a, 'py>>,
    /// By address of the leaf in the tree, which does not move.
    pub(super) placed: HashMap<*const TensorLeaf, Placed<'py>>,
    pub(super) used_blobs: BTreeMap<u32, Vec<u8>>,
    pub(super) bases: HashMap<(u32, Region), Base<'py>>,
    /// Leaves made so far, so that one object that was saved twice comes back as one.
    pub(super) leaves: HashMap<String, Bound<'py, PyAny>>,
    /// `load_state_dict` calls to make at the end.
    pub(super) restores: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    /// What the stateful object holds whose state is being planned, and the keys from there on.
    templates: Option<(Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>)>,
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
        uses: Vec::new(),
        placed: HashMap::new(),
        used_blobs: BTreeMap::new(),
        bases: HashMap::new(),
        leaves: HashMap::new(),
        restores: Vec::new(),
        templates: None,
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
                if let Some(target) = into.filter(|into| self.is_stateful(into)) {
                    // Saved as `model.state_dict()`, loaded into `model`.
                    return self.plan_state(node, target, path);
                }
                let dict = self.dict_target(into, path)?;
                if let Some(dict) = &dict {
                    self.check_keys(dict, k, path)?;
                }
                for (key, child) in k.iter().zip(v) {
                    let own = self.key(key)?;
                    let child_into = match &dict {
                        Some(dict) => dict.get_item(&own)?,
                        None => None,
                    };
                    let child_path = join(path, &key.path_part());
                    self.plan_below(child, child_into.as_ref(), &child_path, own)?;
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
                    let own = index.into_pyobject(self.py)?.into_any();
                    let child_path = join(path, &index.to_string());
                    self.plan_below(child, child_into.as_ref(), &child_path, own)?;
                }
                Ok(())
            }
            StateNode::Set { v, .. } => v.iter().try_for_each(|child| self.plan(child, None, path)),
            StateNode::Stateful { state, .. } => match into {
                Some(target) if self.is_stateful(target) => self.plan_state(state, target, path),
                into => self.plan(state, into, path),
            },
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
                if self.load.stand_in.is_some() {
                    return Ok(());
                }
                let like = self.like(leaf)?;
                self.uses.push(Use {
                    leaf,
                    into: target,
                    like,
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Plans a child, which `key` leads to.
    fn plan_below(
        &mut self,
        child: &'a StateNode,
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
        key: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if let Some((_, keys)) = &mut self.templates {
            keys.push(key);
        }
        let planned = self.plan(child, into, path);
        if let Some((_, keys)) = &mut self.templates {
            keys.pop();
        }
        planned
    }

    /// Plans the state that `target` is going to be given: what it holds of each tensor is what is read.
    fn plan_state(
        &mut self,
        state: &'a StateNode,
        target: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<()> {
        let templates = if self.classes.torch_tensor.is_some() {
            let sharded = self.load.tensors.iter().any(|tensor| tensor.sharded);
            let found = adapter(self.py, Framework::Torch)?
                .call_method1(intern!(self.py, "templates"), (target, sharded))?;
            (!found.is_none()).then_some((found, Vec::new()))
        } else {
            None
        };
        let outer = std::mem::replace(&mut self.templates, templates);
        let planned = match state {
            // The state itself may be a dict that `target` would be taken for once more.
            StateNode::Dict { k, v, .. } => k.iter().zip(v).try_for_each(|(key, child)| {
                let own = self.key(key)?;
                self.plan_below(child, None, &join(path, &key.path_part()), own)
            }),
            _ => self.plan(state, None, path),
        };
        self.templates = outer;
        planned
    }

    /// What the stateful object that is being restored has in the place of a leaf.
    fn like(&self, leaf: &TensorLeaf) -> PyResult<Option<(Region, Option<Bound<'py, PyAny>>)>> {
        let Some((templates, keys)) = &self.templates else {
            return Ok(None);
        };
        if leaf.view.is_some() {
            return Ok(None);
        }
        let tensor = &self.load.tensors[leaf.tensor as usize];
        let own = tensor.own.as_ref().map(|own| own.shape.clone());
        let arguments = (
            PyTuple::new(self.py, keys)?,
            PyTuple::new(self.py, &tensor.shape)?,
            own,
        );
        let answer = templates.call_method1(intern!(self.py, "region"), arguments)?;
        if answer.is_none() {
            return Ok(None);
        }
        let (offset, shape, like): (Vec<u64>, Vec<u64>, Option<Bound<'py, PyAny>>) =
            answer.extract()?;
        Ok(Some((Region { offset, shape }, like)))
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
        let mut groups: BTreeMap<(u32, Region), Sharing<'a, 'py>> = BTreeMap::new();
        for Use { leaf, into, like } in std::mem::take(&mut self.uses) {
            let tensor = &self.load.tensors[leaf.tensor as usize];
            let (mut region, like) = match like {
                Some((region, like)) => (region, like),
                None => (tensor.default_region(), None),
            };
            let mut address = 0;
            if let Some((into, framework)) = into
                .as_ref()
                .and_then(|into| Some((into, self.framework_of(into)?)))
            {
                let shape = leaf.view.as_ref().map_or(&tensor.shape, |view| &view.shape);
                let own = tensor.own.as_ref().filter(|_| leaf.view.is_none());
                let arguments = (
                    into,
                    tensor.dtype.to_string(),
                    PyTuple::new(self.py, shape)?,
                    own.map(|own| (own.offset.clone(), own.shape.clone())),
                );
                let answer = adapter(self.py, framework)?
                    .call_method1(intern!(self.py, "target"), arguments)?;
                if let Ok(reason) = answer.extract::<String>() {
                    return Err(self.invalid(&tensor.name, &reason));
                }
                let (there, offset, shape): (usize, Vec<u64>, Vec<u64>) = answer.extract()?;
                if leaf.view.is_none() {
                    address = there;
                    region = Region { offset, shape };
                }
            }
            self.placed.insert(
                std::ptr::from_ref(leaf),
                Placed {
                    region: region.clone(),
                    like,
                },
            );
            let group = groups.entry((leaf.tensor, region)).or_default();
            group.push((leaf, into, address));
        }
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        for ((index, region), leaves) in groups {
            let tensor = &self.load.tensors[index as usize];
            let bytes = tensor.region_bytes(&region) as usize;
            let (leaf, into, address) = &leaves[0];
            // Two boxes into one memory would be written by two threads at once.
            let free = taken
                .range(..address + bytes)
                .next_back()
                .is_none_or(|(_, end)| *end <= *address);
            let base = match into {
                Some(into) if leaves.len() == 1 && *address != 0 && free => {
                    taken.insert(*address, address + bytes);
                    let framework = self.framework_of(into).unwrap_or(leaf.framework);
                    Base {
                        object: into.clone(),
                        adapter: adapter(self.py, framework)?,
                        address: *address,
                        direct: true,
                    }
                }
                _ => self.fresh(leaf.framework, tensor, &region)?,
            };
            self.bases.insert((index, region), base);
        }
        Ok(())
    }

    /// New memory, in the framework the leaf came from, else numpy's, else bytes.
    fn fresh(
        &self,
        framework: Framework,
        tensor: &WholeTensor,
        region: &Region,
    ) -> PyResult<Base<'py>> {
        let adapter = self.available(framework)?;
        let arguments = (
            tensor.dtype.to_string(),
            PyTuple::new(self.py, &region.shape)?,
        );
        let (object, address) = adapter
            .call_method1(intern!(self.py, "empty"), arguments)?
            .extract()?;
        let bytes = region.shape.iter().product::<u64>() * tensor.dtype.item_bytes();
        pages::expect_large(address, bytes as usize);
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
        let load = self.load;
        // Pieces of a bounded number of stretches, so that thin slices of many shards take no memory.
        let mut pieces: Vec<(&WholeTensor, Region, &Region, usize)> = Vec::new();
        for ((index, region), base) in &self.bases {
            let tensor = &load.tensors[*index as usize];
            if tensor.region_bytes(region) > 0 {
                for piece in region.clone().split(MAX_STRETCHES) {
                    pieces.push((tensor, piece, region, base.address));
                }
            }
        }
        // In the order of the file, so that a disk sees one stream.
        pieces.sort_by_cached_key(|(tensor, piece, ..)| {
            let source = tensor.sources.first();
            (
                source.map(|source| (source.part, source.first_place())),
                piece.offset.clone(),
            )
        });
        let mut batch = Batch::default();
        for (tensor, piece, region, address) in pieces {
            let reads = tensor
                .reads(&piece, region, &row_major(&region.shape))
                .into_py(self.py)?;
            batch.add(&tensor.name, address, reads);
            if batch.is_full() {
                self.read_batch(&mut batch)?;
            }
        }
        let blobs: Vec<u32> = self.used_blobs.keys().copied().collect();
        for index in blobs {
            let Some(stored) = load.blobs.get(index as usize) else {
                continue;
            };
            let bytes = stored
                .extents
                .iter()
                .map(|extent| extent.bytes)
                .sum::<u64>();
            // A manifest was checked before: extents lie in chunks that the store has. The sum is what will be read, never a claim alone.
            let mut blob = vec![0; bytes as usize];
            if !blob.is_empty() {
                let name = format!("blob {index}");
                batch.names.push(name);
                batch.wanted.push((
                    batch.names.len() - 1,
                    Destination {
                        part: stored.part,
                        extents: stored.extents.clone(),
                        address: blob.as_mut_ptr() as usize,
                        bytes: blob.len(),
                    },
                ));
                batch.bytes += blob.len();
            }
            self.used_blobs.insert(index, blob);
            if batch.is_full() {
                self.read_batch(&mut batch)?;
            }
        }
        self.read_batch(&mut batch)
    }

    #[expect(
        unsafe_code,
        reason = "bytes go from the disk straight into the tensors they belong to; a safe buffer between would be one more copy of everything"
    )]
    fn read_batch(&self, batch: &mut Batch) -> PyResult<()> {
        let Batch { names, wanted, .. } = std::mem::take(batch);
        let (engine, manifest) = (self.load.engine, self.load.manifest);
        self.py
            .detach(|| {
                let jobs = wanted
                    .iter()
                    .map(|(name, to)| ReadJob {
                        part: to.part,
                        extents: &to.extents,
                        what: &names[*name],
                        // SAFETY: the framework said that the elements of an object lie from its address on, and the object is kept alive by `self.bases` (or the
                        // blob by `self.used_blobs`, whose heap memory does not move) and is either new, so nobody else has it, or the caller's `into` leaf,
                        // lent to us for the load. `allocate` lets no two objects overlap, and `reads` covers each element of one once. Any bit
                        // pattern is a valid u8.
                        into: unsafe {
                            std::slice::from_raw_parts_mut(to.address as *mut u8, to.bytes)
                        },
                    })
                    .collect();
                engine.read_tensors(manifest, jobs, 0)
            })
            .into_py(self.py)?;
        self.py.check_signals()
    }
}

/// What is read at once.
#[derive(Default)]
struct Batch {
    names: Vec<String>,
    wanted: Vec<(usize, Destination)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, name: &str, address: usize, reads: Vec<RegionRead>) {
        self.names.push(name.to_owned());
        for read in reads {
            let bytes = read.extent.bytes as usize;
            self.bytes += bytes;
            self.wanted.push((
                self.names.len() - 1,
                Destination {
                    part: read.part,
                    extents: vec![read.extent],
                    address: address + read.at as usize,
                    bytes,
                },
            ));
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.wanted.len() as u64 >= MAX_STRETCHES
    }
}
