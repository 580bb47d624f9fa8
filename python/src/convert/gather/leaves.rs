//! Leaves of a state tree.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};
use runtree_core::state::{DateTimeClass, Dtype, Framework, StateNode, TensorLeaf};

use super::plain_torch::PlainTorch;
use super::{Blob, Walker, shown};
use crate::convert::frameworks::adapter;
use crate::convert::kinds::{class_name, decimal, type_name};
use crate::convert::share::LeafMemory;

/// Texts and byte strings up to this length stand in the tree itself; longer ones are chunks.
const INLINE_BYTES: usize = 1024;

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

impl<'py> Walker<'py> {
    pub(super) fn enumeration(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<StateNode> {
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

    pub(super) fn datetime(
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

    pub(super) fn numpy_scalar(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<StateNode> {
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

    pub(super) fn tensor(
        &mut self,
        object: &Bound<'py, PyAny>,
        framework: Framework,
        path: &str,
    ) -> PyResult<StateNode> {
        if framework == Framework::Torch
            && let Some(plain) = self.plain_tensor(object, path)?
        {
            return Ok(plain);
        }
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

    fn plain_tensor(
        &mut self,
        object: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<Option<StateNode>> {
        let torch = match &mut self.plain_torch {
            Some(torch) => torch,
            unknown => unknown.insert(PlainTorch::new(self.py)?),
        };
        let Some(plain) = torch.describe(object, path)? else {
            return Ok(None);
        };
        let leaf = TensorLeaf {
            tensor: self.memory.len() as u32,
            framework: Framework::Torch,
            view: None,
            parameter: plain.parameter,
            requires_grad: plain.requires_grad,
            device: plain.memory.device.clone(),
        };
        self.memory.push(plain.memory);
        Ok(Some(StateNode::Tensor(leaf)))
    }

    pub(super) fn text(&mut self, text: &Bound<'py, PyString>) -> PyResult<StateNode> {
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

    pub(super) fn plain_text(&mut self, text: &Bound<'py, PyString>, path: &str) -> String {
        if let Ok(text) = text.to_str() {
            return text.to_owned();
        }
        self.problem(path, "is a path that is not UTF-8".to_owned());
        String::new()
    }

    pub(super) fn bytes(&mut self, bytes: &Bound<'py, PyBytes>) -> StateNode {
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

    pub(super) fn owned_bytes(&mut self, bytes: Vec<u8>, mutable: bool) -> StateNode {
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

    pub(super) fn blob(&mut self, blob: Blob) -> u32 {
        self.blobs.push(blob);
        self.blobs.len() as u32 - 1
    }
}
