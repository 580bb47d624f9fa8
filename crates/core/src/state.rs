//! State trees: what `save` takes and `load` gives back, without pickle.
//!
//! A tree is plain data. Tensors and long byte strings live in chunks and are named by index from the leaves; everything else
//! stands in the tree itself. The Python edge converts objects to trees and back ([`StateNode`] has one variant per supported
//! type); nothing in a tree names code that a reader would run: named tuples, enums and stateful objects carry their class's
//! name as text only.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::float::JsonFloat;
use crate::manifest::Extent;

mod check;
mod dtype;
pub mod index;
pub mod region;

use check::check_int;

pub use dtype::Dtype;

/// Deepest nesting of a tree that is written or read.
///
/// A level is two levels of JSON, of which a parser takes 127 before it fears for its stack; what was written must be readable.
pub const MAX_DEPTH: usize = 60;

/// One node of a state tree. JSON: an object tagged by `t`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum StateNode {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool {
        /// The value.
        v: bool,
    },
    /// An integer of any size, in decimal.
    Int {
        /// The digits, `-` before them if negative.
        v: String,
    },
    /// A float.
    Float {
        /// The value; NaN and infinities included.
        v: JsonFloat,
    },
    /// A complex number.
    Complex {
        /// Real part.
        re: JsonFloat,
        /// Imaginary part.
        im: JsonFloat,
    },
    /// Text.
    Str {
        /// The text.
        v: String,
    },
    /// Text that is stored in a blob as UTF-8 (with surrogates as Python's `surrogatepass` writes them).
    LongStr {
        /// Index of the blob.
        blob: u32,
    },
    /// Bytes; `bytearray` if `mutable`.
    Bytes {
        /// Base 64.
        v: String,
        /// Whether it was a `bytearray`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mutable: bool,
    },
    /// Bytes that are stored in a blob.
    LongBytes {
        /// Index of the blob.
        blob: u32,
        /// Whether it was a `bytearray`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mutable: bool,
    },
    /// `list`.
    List {
        /// Its items.
        v: Vec<StateNode>,
    },
    /// `tuple`.
    Tuple {
        /// Its items.
        v: Vec<StateNode>,
    },
    /// A named tuple.
    NamedTuple {
        /// Its class, `module:qualname`; text only.
        class: String,
        /// Field names.
        fields: Vec<String>,
        /// Field values.
        v: Vec<StateNode>,
    },
    /// A dict and its kin, in order.
    Dict {
        /// Which kind of dict.
        #[serde(default, skip_serializing_if = "DictKind::is_plain")]
        kind: DictKind,
        /// Keys.
        k: Vec<StateKey>,
        /// Values.
        v: Vec<StateNode>,
    },
    /// `collections.deque`.
    Deque {
        /// Its bound.
        maxlen: Option<u64>,
        /// Its items.
        v: Vec<StateNode>,
    },
    /// `set` or `frozenset`; items in the order of their JSON, so that equal sets are equal trees.
    Set {
        /// Whether it was a `frozenset`.
        frozen: bool,
        /// Its items.
        v: Vec<StateNode>,
    },
    /// A tensor or array.
    Tensor(TensorLeaf),
    /// A numpy scalar.
    NumpyScalar {
        /// Its dtype.
        dtype: Dtype,
        /// Its bytes, little endian, base 64.
        v: String,
    },
    /// `torch.Size`.
    TorchSize {
        /// The sizes.
        v: Vec<i64>,
    },
    /// `torch.dtype`.
    TorchDtype {
        /// Its name without `torch.`.
        v: String,
    },
    /// `torch.device`.
    TorchDevice {
        /// As `str(device)`.
        v: String,
    },
    /// `datetime.datetime`, `date`, `time` or `timedelta`.
    DateTime {
        /// Which of them.
        class: DateTimeClass,
        /// ISO 8601 (microseconds since 0 for `timedelta`).
        v: String,
    },
    /// A `pathlib` path.
    Path {
        /// As text.
        v: String,
    },
    /// A str or int enum.
    Enum {
        /// Its class, `module:qualname`; text only.
        class: String,
        /// The member's name.
        name: String,
        /// The member's value, a `Str` or `Int`.
        value: Box<StateNode>,
    },
    /// An object with `state_dict` and `load_state_dict`: a leaf that is restored in place.
    Stateful {
        /// Its class, `module:qualname`; text only.
        class: String,
        /// What `state_dict()` returned.
        state: Box<StateNode>,
    },
}

/// Kinds of dict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DictKind {
    /// `dict`.
    #[default]
    Plain,
    /// `collections.OrderedDict`.
    Ordered,
    /// `collections.Counter`.
    Counter,
    /// `collections.defaultdict`; the factory is one of `int`, `float`, `str`, `bool`, `list`, `dict`, `set`, `tuple`, or none.
    Default(Option<String>),
}

impl DictKind {
    /// Factories of a `defaultdict` that are known by name; nothing else is ever called.
    pub const FACTORIES: [&str; 8] = [
        "int", "float", "str", "bool", "list", "dict", "set", "tuple",
    ];

    fn check(&self) -> Result<()> {
        match self {
            Self::Default(Some(factory)) if !Self::FACTORIES.contains(&factory.as_str()) => Err(
                Error::corrupt(format!("defaultdict with the unknown factory {factory:?}")),
            ),
            _ => Ok(()),
        }
    }

    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

/// A key of a dict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "t", content = "v", rename_all = "snake_case")]
pub enum StateKey {
    /// Text.
    Str(String),
    /// An integer, in decimal.
    Int(String),
    /// A bool.
    Bool(bool),
    /// `None`.
    None,
    /// A tuple of keys.
    Tuple(Vec<StateKey>),
}

impl StateKey {
    fn check_at(&self, depth: usize) -> Result<()> {
        match self {
            Self::Int(digits) => check_int(digits),
            Self::Tuple(_) if depth >= MAX_DEPTH => Err(too_deep()),
            Self::Tuple(keys) => keys.iter().try_for_each(|key| key.check_at(depth + 1)),
            Self::Str(_) | Self::Bool(_) | Self::None => Ok(()),
        }
    }

    /// How the key stands in a tensor's dotted name.
    pub fn path_part(&self) -> String {
        match self {
            Self::Str(text) | Self::Int(text) => text.clone(),
            Self::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
            Self::None => "None".to_owned(),
            Self::Tuple(keys) => format!(
                "({})",
                keys.iter()
                    .map(Self::path_part)
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        }
    }
}

/// Which class of `datetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateTimeClass {
    /// `datetime.datetime`.
    DateTime,
    /// `datetime.date`.
    Date,
    /// `datetime.time`.
    Time,
    /// `datetime.timedelta`.
    TimeDelta,
}

/// Which library a tensor came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    /// numpy.
    Numpy,
    /// torch.
    Torch,
    /// jax.
    Jax,
}

/// A leaf that is a tensor, or a view into one that other leaves share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorLeaf {
    /// Index of the tensor record.
    pub tensor: u32,
    /// Where it came from.
    pub framework: Framework,
    /// Set if the leaf is a view of a shared storage, which the record then holds as a one-dimensional tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<TensorView>,
    /// `torch.nn.Parameter`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parameter: bool,
    /// `requires_grad`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requires_grad: bool,
    /// Where it was, as `str(device)`; absent for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A strided view, in elements of the tensor's dtype.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorView {
    /// First element.
    pub offset: u64,
    /// Shape.
    pub shape: Vec<u64>,
    /// Strides.
    pub strides: Vec<u64>,
}

/// A tensor's bytes: row-major, little endian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Dotted path in the tree, the first leaf's if shared: `model.layers.0.weight`.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape of what this part holds.
    pub shape: Vec<u64>,
    /// Shape of the global tensor this is a shard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_shape: Option<Vec<u64>>,
    /// Where the shard starts in the global tensor, per dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_offset: Option<Vec<u64>>,
    /// Where the bytes are; empty for an empty tensor.
    pub extents: Vec<Extent>,
}

impl TensorRecord {
    /// Bytes of the tensor, or `None` if its shape overflows 2^64.
    pub fn byte_len(&self) -> Option<u64> {
        element_count(&self.shape)?.checked_mul(self.dtype.item_bytes())
    }

    pub(crate) fn check(&self) -> Result<u64> {
        let bytes = self.byte_len().ok_or_else(|| {
            Error::corrupt(format!(
                "shape {:?} of {} overflows",
                self.shape, self.dtype
            ))
        })?;
        match (&self.global_shape, &self.global_offset) {
            (None, None) => {}
            (Some(global), Some(offset))
                if global.len() == self.shape.len() && offset.len() == self.shape.len() =>
            {
                let inside = |((part, global), offset): ((&u64, &u64), &u64)| {
                    offset.checked_add(*part).is_some_and(|end| end <= *global)
                };
                if !self.shape.iter().zip(global).zip(offset).all(inside) {
                    return Err(Error::corrupt(format!(
                        "shard {:?} at {offset:?} is outside {global:?}",
                        self.shape
                    )));
                }
            }
            _ => {
                return Err(Error::corrupt(
                    "global shape and offset do not fit the shape",
                ));
            }
        }
        Ok(bytes)
    }
}

pub(crate) fn element_count(shape: &[u64]) -> Option<u64> {
    // A zero anywhere makes it empty, whatever the other sizes multiply to.
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_u64, |count, size| count.checked_mul(*size))
}

fn too_deep() -> Error {
    Error::corrupt(format!("state tree is nested more than {MAX_DEPTH} deep"))
}
