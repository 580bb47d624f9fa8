//! Python → state tree: walks an object and says what there is to save.
//!
//! Nothing is copied here but small leaves. Tensors and long byte strings stay where they are; [`Gathered`] keeps their owners
//! alive until the engine has staged them. What is not supported is collected with its path, all of it, so that `check()` can
//! report everything at once; nothing is written if there is any.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet,
    PyString, PyTuple,
};
use runtree_core::float::JsonFloat;
use runtree_core::state::{
    DateTimeClass, DictKind, Dtype, Framework, MAX_DEPTH, StateKey, StateNode, TensorLeaf,
};

use super::frameworks::{Classes, adapter};
use super::kinds::{Kind, builtin_factory, class_name, decimal, state_key, type_name, unsupported};
use super::select::join;
use super::share::{self, LeafMemory, Tensor};

/// Texts and byte strings up to this length stand in the tree itself; longer ones are chunks.
const INLINE_BYTES: usize = 1024;

/// A tree, and where its bytes are.
pub(crate) struct Gathered {
    /// The tree.
    pub(crate) tree: StateNode,
    /// The tensors its leaves name.
    pub(crate) tensors: Vec<Tensor>,
    /// The byte strings its leaves name.
    pub(crate) blobs: Vec<Blob>,
    /// What can not be saved.
    pub(crate) problems: Vec<Problem>,
}

/// A long byte string.
pub(crate) enum Blob {
    /// Immutable, so it is read where it is.
    Bytes(Py<PyBytes>),
    /// A copy.
    Owned(Vec<u8>),
}

/// A leaf that can not be saved.
pub(crate) struct Problem {
    /// Dotted path.
    pub(crate) path: String,
    /// Why.
    pub(crate) reason: String,
}

impl Gathered {
    /// Bytes of tensors and long byte strings.
    pub(crate) fn bytes(&self, py: Python<'_>) -> u64 {
        let tensors: u64 = self
            .tensors
            .iter()
            .map(|tensor| tensor.memory.len() as u64)
            .sum();
        let blobs: usize = self.blobs.iter().map(|blob| blob.as_slice(py).len()).sum();
        tensors + blobs as u64
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
    pub(crate) fn as_slice<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes.bind(py).as_bytes(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Walks `root`.
///
/// # Errors
/// Only what `state_dict()`s and frameworks raise; unsupported leaves are in [`Gathered::problems`].
pub(crate) fn gather(root: &Bound<'_, PyAny>) -> PyResult<Gathered> {
    let mut walker = Walker {
        py: root.py(),
        classes: Classes::new(root.py())?,
        kinds: HashMap::new(),
        memory: Vec::new(),
        blobs: Vec::new(),
        problems: Vec::new(),
        open: HashSet::new(),
        keep: Vec::new(),
    };
    let tree = walker.walk(root, "", 0)?;
    let Walker {
        py,
        memory,
        blobs,
        problems,
        ..
    } = walker;
    let (tensors, placed) = share::place(py, memory)?;
    let mut tree = tree;
    share::number_leaves(&mut tree, &placed);
    Ok(Gathered {
        tree,
        tensors,
        blobs,
        problems,
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

    fn items(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
        depth: usize,
    ) -> PyResult<Vec<StateNode>> {
        object
            .try_iter()?
            .enumerate()
            .map(|(index, item)| self.walk(&item?, &join(path, &index.to_string()), depth + 1))
            .collect()
    }

    fn dict(
        &mut self,
        dict: &Bound<'py, PyDict>,
        kind: DictKind,
        path: &str,
        depth: usize,
    ) -> PyResult<StateNode> {
        let (mut k, mut v) = (
            Vec::with_capacity(dict.len()),
            Vec::with_capacity(dict.len()),
        );
        // A copy of the pairs: a `state_dict()` further down may touch this very dict.
        let pairs: Vec<_> = dict.iter().collect();
        for (key, value) in pairs {
            let Some(key) = self.key(&key, path)? else {
                continue;
            };
            let node = self.walk(&value, &join(path, &key.path_part()), depth + 1)?;
            k.push(key);
            v.push(node);
        }
        Ok(StateNode::Dict { kind, k, v })
    }

    fn dict_kin(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
        depth: usize,
    ) -> PyResult<StateNode> {
        let dict = object.cast::<PyDict>()?;
        let class = object.get_type();
        let kind = if class.is(&self.classes.ordered_dict) {
            DictKind::Ordered
        } else if class.is(&self.classes.counter) {
            DictKind::Counter
        } else {
            let factory = object.getattr(intern!(self.py, "default_factory"))?;
            if factory.is_none() {
                DictKind::Default(None)
            } else {
                let Some(name) = builtin_factory(&factory)? else {
                    let reason = format!(
                        "is a defaultdict whose factory is {}, not one of int, float, str, bool, list, dict, set, tuple",
                        factory.repr()?
                    );
                    return Ok(self.problem(path, reason));
                };
                DictKind::Default(Some(name))
            }
        };
        // `PyDict::iter` of an OrderedDict would give insertion order, which `move_to_end` does not change.
        if kind == DictKind::Ordered {
            let plain = PyDict::new(self.py);
            for pair in object.call_method0(intern!(self.py, "items"))?.try_iter()? {
                let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair?.extract()?;
                plain.set_item(key, value)?;
            }
            return self.dict(&plain, kind, path, depth);
        }
        self.dict(dict, kind, path, depth)
    }

    fn key(&mut self, key: &Bound<'py, PyAny>, path: &str) -> PyResult<Option<StateKey>> {
        if let Some(key) = state_key(key)? {
            return Ok(Some(key));
        }
        let reason = format!(
            "has the key {} of type {}; keys are str, int, bool, None and tuples of them",
            key.repr()?,
            type_name(key)?
        );
        self.problem(path, reason);
        Ok(None)
    }

    fn set(
        &mut self,
        object: &Bound<'py, PyAny>,
        frozen: bool,
        path: &str,
        depth: usize,
    ) -> PyResult<StateNode> {
        let tensors = self.memory.len();
        let blobs = self.blobs.len();
        let mut v = self.items(object, path, depth)?;
        if self.memory.len() != tensors || self.blobs.len() != blobs {
            self.memory.truncate(tensors);
            self.blobs.truncate(blobs);
            return Ok(self.problem(
                path,
                "is a set with tensors or long strings in it".to_owned(),
            ));
        }
        // Equal sets must be equal trees, whatever order they iterate in.
        v.sort_by_cached_key(|node| serde_json::to_string(node).unwrap_or_default());
        Ok(StateNode::Set { frozen, v })
    }

    fn named_tuple(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
        depth: usize,
    ) -> PyResult<StateNode> {
        let fields: Vec<String> = object.getattr(intern!(self.py, "_fields"))?.extract()?;
        let v = object
            .try_iter()?
            .zip(&fields)
            .map(|(item, field)| self.walk(&item?, &join(path, field), depth + 1))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(StateNode::NamedTuple {
            class: class_name(object)?,
            fields,
            v,
        })
    }

    fn enumeration(&mut self, object: &Bound<'py, PyAny>, path: &str) -> PyResult<StateNode> {
        let value = object.getattr(intern!(self.py, "value"))?;
        let value = if let Ok(value) = value.cast_exact::<PyInt>() {
            StateNode::Int { v: decimal(value)? }
        } else if let Ok(value) = value.cast_exact::<PyString>() {
            // In the tree itself, however long it is: an enum's value is no blob.
            let Ok(text) = value.to_str() else {
                let reason = "is an enum member whose value has lone surrogates".to_owned();
                return Ok(self.problem(path, reason));
            };
            StateNode::Str { v: text.to_owned() }
        } else {
            let reason = format!(
                "is an enum member whose value is a {}, not a str or int",
                type_name(&value)?
            );
            return Ok(self.problem(path, reason));
        };
        let name = object.getattr(intern!(self.py, "name"))?;
        Ok(StateNode::Enum {
            class: class_name(object)?,
            name: name.extract::<Option<String>>()?.unwrap_or_default(),
            value: Box::new(value),
        })
    }

    fn datetime(
        &mut self,
        object: &Bound<'py, PyAny>,
        class: DateTimeClass,
    ) -> PyResult<StateNode> {
        let v = if class == DateTimeClass::TimeDelta {
            let microsecond = self.classes.timedelta.call1((0, 0, 1))?;
            object.floor_div(microsecond)?.str()?.to_string()
        } else {
            object
                .call_method0(intern!(self.py, "isoformat"))?
                .extract()?
        };
        Ok(StateNode::DateTime { class, v })
    }

    fn numpy_scalar(&mut self, object: &Bound<'py, PyAny>, path: &str) -> PyResult<StateNode> {
        let described = adapter(self.py, Framework::Numpy)?
            .call_method1(intern!(self.py, "scalar_bytes"), (object,))?;
        if let Ok(reason) = described.extract::<String>() {
            return Ok(self.problem(path, reason));
        }
        let (dtype, bytes): (String, Vec<u8>) = described.extract()?;
        match dtype.parse() {
            Ok(dtype) => Ok(StateNode::NumpyScalar {
                dtype,
                v: BASE64.encode(bytes),
            }),
            Err(_) => Ok(self.problem(
                path,
                format!("has the numpy dtype {dtype}, which is not supported"),
            )),
        }
    }

    fn tensor(
        &mut self,
        object: &Bound<'py, PyAny>,
        framework: Framework,
        path: &str,
    ) -> PyResult<StateNode> {
        let described =
            adapter(self.py, framework)?.call_method1(intern!(self.py, "describe"), (object,))?;
        if let Ok(reason) = described.extract::<String>() {
            return Ok(self.problem(path, reason));
        }
        // Shards of the same tensor that this rank holds beside the first.
        let more: Vec<Described<'_>> = match described.getattr_opt(intern!(self.py, "more"))? {
            Some(more) => more.extract()?,
            None => Vec::new(),
        };
        let described: Described<'_> = described.extract()?;
        let Ok(dtype) = described.dtype.parse::<Dtype>() else {
            return Ok(self.problem(
                path,
                format!("has the dtype {}, which is not supported", described.dtype),
            ));
        };
        let leaf = TensorLeaf {
            tensor: self.memory.len() as u32,
            framework,
            view: None,
            parameter: described.parameter,
            requires_grad: described.requires_grad,
            device: described.device.clone(),
        };
        for described in std::iter::once(described).chain(more) {
            self.memory.push(LeafMemory {
                name: shown(path),
                framework,
                dtype: dtype.clone(),
                shape: described.shape,
                strides: described.strides,
                address: described.address,
                owner: described.owner.unbind(),
                device: described.device,
                global: described.global_shape.zip(described.global_offset),
            });
        }
        Ok(StateNode::Tensor(leaf))
    }

    fn text(&mut self, text: &Bound<'py, PyString>) -> PyResult<StateNode> {
        if let Ok(text) = text.to_str() {
            if text.len() <= INLINE_BYTES {
                return Ok(StateNode::Str { v: text.to_owned() });
            }
            return Ok(StateNode::LongStr {
                blob: self.blob(Blob::Owned(text.as_bytes().to_vec())),
            });
        }
        // A lone surrogate, as in file names that are not UTF-8.
        let bytes = text.call_method1(intern!(self.py, "encode"), ("utf-8", "surrogatepass"))?;
        let bytes = bytes.cast_into::<PyBytes>()?.as_bytes().to_vec();
        Ok(StateNode::LongStr {
            blob: self.blob(Blob::Owned(bytes)),
        })
    }

    fn plain_text(&mut self, text: &Bound<'py, PyString>, path: &str) -> String {
        if let Ok(text) = text.to_str() {
            return text.to_owned();
        }
        self.problem(path, "is a path that is not UTF-8".to_owned());
        String::new()
    }

    fn bytes(&mut self, bytes: &Bound<'py, PyBytes>) -> StateNode {
        let inline = bytes.as_bytes();
        if inline.len() <= INLINE_BYTES {
            return StateNode::Bytes {
                v: BASE64.encode(inline),
                mutable: false,
            };
        }
        StateNode::LongBytes {
            blob: self.blob(Blob::Bytes(bytes.clone().unbind())),
            mutable: false,
        }
    }

    fn owned_bytes(&mut self, bytes: Vec<u8>, mutable: bool) -> StateNode {
        if bytes.len() <= INLINE_BYTES {
            return StateNode::Bytes {
                v: BASE64.encode(bytes),
                mutable,
            };
        }
        StateNode::LongBytes {
            blob: self.blob(Blob::Owned(bytes)),
            mutable,
        }
    }

    fn blob(&mut self, blob: Blob) -> u32 {
        self.blobs.push(blob);
        self.blobs.len() as u32 - 1
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

/// What a framework's `describe` answers: a tensor in host memory.
#[derive(FromPyObject)]
struct Described<'py> {
    owner: Bound<'py, PyAny>,
    dtype: String,
    shape: Vec<u64>,
    strides: Option<Vec<u64>>,
    address: usize,
    parameter: bool,
    requires_grad: bool,
    device: Option<String>,
    global_shape: Option<Vec<u64>>,
    global_offset: Option<Vec<u64>>,
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

/// Values of a log call or of `metrics=`, by name.
pub(crate) type Metrics = BTreeMap<String, f64>;
