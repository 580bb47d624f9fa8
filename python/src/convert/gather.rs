//! Python → state tree: walks an object and says what there is to save.
//!
//! Nothing is copied here but small leaves. Tensors and long byte strings stay where they are; [`Gathered`] keeps their owners
//! alive until the engine has staged them. What is not supported is collected with its path, all of it, so that `check()` can
//! report everything at once; nothing is written if there is any.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet,
    PyString, PyTuple,
};
use runtree_core::float::JsonFloat;
use runtree_core::state::{DictKind, MAX_DEPTH, StateNode};
use runtree_engine::{EntrySource, TensorSource};

use super::frameworks::Classes;
use super::kinds::{Kind, class_name, decimal, unsupported};
use super::share::{self, Devices, LeafMemory, Tensor};
use super::transfer::Transfer;
use crate::guarded::GuardedMemory;

mod containers;
mod leaves;
mod plain_torch;
mod quiet;

use plain_torch::PlainTorch;

/// A tree, and where its bytes are.
pub(crate) struct Gathered {
    /// The tree.
    tree: StateNode,
    /// The tensors its leaves name.
    tensors: Vec<Tensor>,
    /// The byte strings its leaves name.
    blobs: Vec<Blob>,
    /// What can not be saved.
    pub(crate) problems: Vec<Problem>,
    /// What is on its way from a device.
    pub(crate) transfer: Option<Transfer>,
    /// Whether guarded host memory is among it.
    pub(crate) reads_on: bool,
}

/// A long byte string.
enum Blob {
    /// Immutable, so it is read where it is.
    Bytes(Py<PyBytes>),
    /// A copy.
    Owned(Vec<u8>),
}

/// A leaf that can not be saved.
pub(crate) struct Problem {
    /// Dotted path.
    path: String,
    /// Why.
    reason: String,
}

impl Gathered {
    /// Bytes of tensors and long byte strings.
    fn bytes(&self, py: Python<'_>) -> u64 {
        let tensors: u64 = self
            .tensors
            .iter()
            .map(|tensor| tensor.memory.len() as u64)
            .sum();
        let blobs: usize = self.blobs.iter().map(|blob| blob.as_slice(py).len()).sum();
        tensors + blobs as u64
    }

    /// What the engine copies: views of memory that `self` keeps alive. The tree and the names are moved out, so it is asked for once.
    pub(crate) fn take_entry<'a>(&'a mut self, py: Python<'a>, path: &str) -> EntrySource<'a> {
        let tensor = |tensor: &'a mut Tensor| {
            let Tensor {
                name,
                dtype,
                shape,
                global_shape,
                global_offset,
                memory,
            } = tensor;
            TensorSource {
                name: std::mem::take(name),
                dtype: dtype.clone(),
                shape: std::mem::take(shape),
                global_shape: global_shape.take(),
                global_offset: global_offset.take(),
                data: memory.data(py),
            }
        };
        let blob = |blob: &'a Blob| Cow::Borrowed(blob.as_slice(py));
        EntrySource::State {
            path: path.to_owned(),
            tree: std::mem::replace(&mut self.tree, StateNode::None),
            tensors: self.tensors.iter_mut().map(tensor).collect(),
            blobs: self.blobs.iter().map(blob).collect(),
        }
    }

    /// Whether a leaf is a shard of a global tensor.
    pub(crate) fn sharded(&self) -> bool {
        self.tensors
            .iter()
            .any(|tensor| tensor.global_shape.is_some())
    }
}

impl Blob {
    /// The bytes.
    fn as_slice<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes.bind(py).as_bytes(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Walks `root`. Memory in `guarded` may be copied after the save has returned.
///
/// # Errors
/// Only what `state_dict()`s and frameworks raise; unsupported leaves are in [`Gathered::problems`].
pub(crate) fn gather(
    root: &Bound<'_, PyAny>,
    guarded: Option<&GuardedMemory>,
    devices: Devices,
) -> PyResult<Gathered> {
    let mut walker = Walker {
        py: root.py(),
        classes: Classes::new(root.py())?,
        kinds: HashMap::new(),
        memory: Vec::new(),
        blobs: Vec::new(),
        problems: Vec::new(),
        open: HashSet::new(),
        keep: Vec::new(),
        plain_torch: None,
    };
    let _quiet = quiet::NoCollection::begin();
    let tree = walker.walk(root, "", 0)?;
    let Walker {
        py,
        memory,
        blobs,
        problems,
        ..
    } = walker;
    let placement = share::place(py, memory, guarded, devices)?;
    let mut tree = tree;
    share::number_leaves(&mut tree, &placement.placed);
    Ok(Gathered {
        tree,
        tensors: placement.tensors,
        blobs,
        problems,
        transfer: placement.transfer,
        reads_on: placement.reads_on,
    })
}

struct Walker<'py> {
    py: Python<'py>,
    classes: Classes<'py>,
    kinds: HashMap<usize, Kind>,
    memory: Vec<LeafMemory>,
    blobs: Vec<Blob>,
    problems: Vec<Problem>,
    /// Containers on the way from the root: meeting one again is a cycle.
    open: HashSet<usize>,
    /// Once a tensor of torch was met.
    plain_torch: Option<PlainTorch<'py>>,
    /// What `state_dict()` made lives until the walk ends: an address must not be used twice.
    keep: Vec<Py<PyAny>>,
}

impl<'py> Walker<'py> {
    fn walk(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
        depth: usize,
    ) -> PyResult<StateNode> {
        if depth > MAX_DEPTH {
            return Ok(self.problem(path, format!("is nested more than {MAX_DEPTH} deep")));
        }
        if object.is_none() {
            return Ok(StateNode::None);
        }
        if let Ok(value) = object.cast_exact::<PyBool>() {
            return Ok(StateNode::Bool { v: value.is_true() });
        }
        if let Ok(value) = object.cast_exact::<PyFloat>() {
            return Ok(StateNode::Float {
                v: JsonFloat(value.extract()?),
            });
        }
        if let Ok(value) = object.cast_exact::<PyInt>() {
            return Ok(StateNode::Int { v: decimal(value)? });
        }
        if let Ok(value) = object.cast_exact::<PyString>() {
            return self.text(value);
        }
        if let Ok(value) = object.cast_exact::<PyBytes>() {
            return Ok(self.bytes(value));
        }
        if let Ok(value) = object.cast_exact::<PyByteArray>() {
            return Ok(self.owned_bytes(value.to_vec(), true));
        }
        if let Ok(value) = object.cast_exact::<PyComplex>() {
            return Ok(StateNode::Complex {
                re: JsonFloat(value.getattr(intern!(self.py, "real"))?.extract()?),
                im: JsonFloat(value.getattr(intern!(self.py, "imag"))?.extract()?),
            });
        }
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            return self.container(object, path, |walker| {
                walker.dict(dict, DictKind::Plain, path, depth)
            });
        }
        if object.is_exact_instance_of::<PyList>() {
            return self.container(object, path, |walker| {
                Ok(StateNode::List {
                    v: walker.items(object, path, depth)?,
                })
            });
        }
        if object.is_exact_instance_of::<PyTuple>() {
            return self.container(object, path, |walker| {
                Ok(StateNode::Tuple {
                    v: walker.items(object, path, depth)?,
                })
            });
        }
        if object.is_exact_instance_of::<PySet>() {
            return self.set(object, false, path, depth);
        }
        if object.is_exact_instance_of::<PyFrozenSet>() {
            return self.set(object, true, path, depth);
        }
        match self.kind(object)? {
            Kind::Enumeration => self.enumeration(object, path),
            Kind::NamedTuple => self.container(object, path, |walker| {
                walker.named_tuple(object, path, depth)
            }),
            Kind::Path => Ok(StateNode::Path {
                v: self.plain_text(&object.str()?, path),
            }),
            Kind::DateTime(class) => self.datetime(object, class),
            Kind::Array(framework) => self.tensor(object, framework, path),
            Kind::NumpyScalar => self.numpy_scalar(object, path),
            Kind::TorchSize => Ok(StateNode::TorchSize {
                v: object.extract()?,
            }),
            Kind::TorchDtype => Ok(StateNode::TorchDtype {
                v: object
                    .str()?
                    .to_cow()?
                    .trim_start_matches("torch.")
                    .to_owned(),
            }),
            Kind::TorchDevice => Ok(StateNode::TorchDevice {
                v: object.str()?.to_string(),
            }),
            Kind::Dict => {
                self.container(object, path, |walker| walker.dict_kin(object, path, depth))
            }
            Kind::Deque => self.container(object, path, |walker| {
                Ok(StateNode::Deque {
                    maxlen: object.getattr(intern!(walker.py, "maxlen"))?.extract()?,
                    v: walker.items(object, path, depth)?,
                })
            }),
            Kind::Stateful => self.container(object, path, |walker| {
                let state = object.call_method0(intern!(walker.py, "state_dict"))?;
                walker.keep.push(state.clone().unbind());
                Ok(StateNode::Stateful {
                    class: class_name(object)?,
                    state: Box::new(walker.walk(&state, path, depth + 1)?),
                })
            }),
            Kind::Unsupported => Ok(self.problem(path, unsupported(object)?)),
        }
    }

    fn problem(&mut self, path: &str, reason: String) -> StateNode {
        self.problems.push(Problem {
            path: shown(path),
            reason,
        });
        StateNode::None
    }

    fn container(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
        walk: impl FnOnce(&mut Self) -> PyResult<StateNode>,
    ) -> PyResult<StateNode> {
        let address = object.as_ptr() as usize;
        if !self.open.insert(address) {
            return Ok(self.problem(path, "contains itself".to_owned()));
        }
        let node = walk(self);
        self.open.remove(&address);
        node
    }

    fn kind(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Kind> {
        let class = object.get_type();
        if let Some(kind) = self.kinds.get(&(class.as_ptr() as usize)) {
            return Ok(*kind);
        }
        let kind = self.classes.kind_of(object, &class)?;
        // Only where the class alone decides: instances may carry `state_dict` of their own. The object keeps its class alive.
        if !matches!(kind, Kind::Stateful | Kind::Unsupported) {
            self.kinds.insert(class.as_ptr() as usize, kind);
        }
        Ok(kind)
    }
}

fn shown(path: &str) -> String {
    if path.is_empty() {
        "state".to_owned()
    } else {
        path.to_owned()
    }
}

/// Problems as one message.
pub(crate) fn describe_problems(problems: &[Problem]) -> String {
    const SHOWN: usize = 10;
    let mut text = problems
        .iter()
        .take(SHOWN)
        .map(|problem| format!("`{}` {}", problem.path, problem.reason))
        .collect::<Vec<_>>()
        .join("; ");
    if problems.len() > SHOWN {
        let _ = write!(text, "; and {} more", problems.len() - SHOWN);
    }
    text
}

/// Walks a state tree without saving it: `(bytes, tensors, [(path, reason)])`.
#[pyfunction]
#[expect(
    clippy::type_complexity,
    reason = "a tuple for the Python layer, which names its fields"
)]
pub(crate) fn check_state(
    py: Python<'_>,
    state: &Bound<'_, PyAny>,
) -> PyResult<(u64, usize, Vec<(String, String)>)> {
    let gathered = gather(state, None, Devices::Count)?;
    let bytes = gathered.bytes(py);
    let problems = gathered
        .problems
        .into_iter()
        .map(|problem| (problem.path, problem.reason));
    Ok((bytes, gathered.tensors.len(), problems.collect()))
}
