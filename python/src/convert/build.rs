//! State tree → Python, in three phases: plan where every tensor goes, read all of them with the interpreter free, make the objects.
//!
//! The plan is made and checked against `into=` before a byte is read, so a state that does not fit changes nothing. Which elements of a
//! tensor are wanted is decided with it: what the `into` leaf holds of it, or the parameter that a stateful object is about to restore; else this
//! rank's own shard, else all of it. A tensor that only one leaf names and whose `into` leaf has contiguous host memory is read straight into
//! that; everything else into fresh memory of its framework. `load_state_dict` of stateful leaves is called last, when nothing can fail
//! any more but they.

use std::collections::{BTreeMap, HashMap};

use pyo3::intern;
use pyo3::prelude::*;
use runtree_core::state::region::Region;
use runtree_core::state::{StateNode, TensorLeaf};
use runtree_engine::{Engine, LoadedManifest, WholeBlob, WholeTensor};

use super::frameworks::Classes;

mod memory;
mod objects;
mod plan;
mod read;
mod targets;

pub(crate) use objects::key_object;

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
struct Base<'py> {
    object: Bound<'py, PyAny>,
    adapter: Bound<'py, PyModule>,
    address: usize,
    /// Whether `object` is the caller's own leaf.
    direct: bool,
}

/// A leaf that is wanted, and what it goes into.
struct Use<'a, 'py> {
    leaf: &'a TensorLeaf,
    into: Option<Bound<'py, PyAny>>,
    /// What a stateful object has in its place: the box it holds, and the tensor that the loaded one becomes like.
    like: Option<(Region, Option<Bound<'py, PyAny>>)>,
}

/// What a leaf is made of.
struct Placed<'py> {
    region: Region,
    like: Option<Bound<'py, PyAny>>,
}

/// What is known so far of the objects of a load.
struct Builder<'a, 'py> {
    py: Python<'py>,
    classes: Classes<'py>,
    load: &'a Load<'a, 'py>,
    uses: Vec<Use<'a, 'py>>,
    /// By address of the leaf in the tree, which does not move.
    placed: HashMap<*const TensorLeaf, Placed<'py>>,
    used_blobs: BTreeMap<u32, Vec<u8>>,
    bases: HashMap<(u32, Region), Base<'py>>,
    /// Leaves made so far, so that one object that was saved twice comes back as one.
    leaves: HashMap<String, Bound<'py, PyAny>>,
    /// `load_state_dict` calls to make at the end.
    restores: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
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
