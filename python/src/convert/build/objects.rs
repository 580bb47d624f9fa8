//! The third phase of a load: objects, over memory that is filled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyString, PyTuple,
};
use runtree_core::Error;
use runtree_core::state::{DateTimeClass, DictKind, Framework, StateKey, StateNode, TensorLeaf};

use super::Builder;
use crate::convert::frameworks::adapter;
use crate::convert::select::join;
use crate::errors::to_py_err;

impl<'a, 'py> Builder<'a, 'py> {
    pub(super) fn make(
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
            StateNode::Stateful { class, state } => {
                if let Some(target) = into.filter(|into| self.is_stateful(into)) {
                    self.restore(state, target, path)?
                } else {
                    let made = self.make(state, into, path)?;
                    match &self.load.stand_in {
                        Some(stand_in) => stand_in.call_method1("stateful", (class, made))?,
                        None => made,
                    }
                }
            }
        })
    }

    /// Makes the state of a stateful leaf and notes the call that gives it to `target`.
    fn restore(
        &mut self,
        state: &'a StateNode,
        target: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = self.make(state, None, path)?;
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
            let state = self.make_dict(kind, keys, values, None, path)?;
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
        let view = leaf
            .view
            .as_ref()
            .map(|view| (view.offset, view.shape.clone(), view.strides.clone()));
        if let Some(stand_in) = &self.load.stand_in {
            let framework = match leaf.framework {
                Framework::Torch => "torch",
                Framework::Numpy => "numpy",
                Framework::Jax => "jax",
            };
            return stand_in.call_method1("tensor", (leaf.tensor, framework, view));
        }
        let unplanned = || to_py_err(py, &Error::internal("a tensor was not planned"));
        let placed = self
            .placed
            .get(&std::ptr::from_ref(leaf))
            .ok_or_else(unplanned)?;
        let base = self
            .bases
            .get(&(leaf.tensor, placed.region.clone()))
            .ok_or_else(unplanned)?;
        if base.direct {
            return Ok(base.object.clone());
        }
        // `Debug` of plain data: equal leaves, equal text.
        let like = placed
            .like
            .as_ref()
            .map_or(0, |like| like.as_ptr() as usize);
        let identity = format!("{leaf:?} {:?} {like}", placed.region);
        let made = if let Some(made) = self.leaves.get(&identity) {
            made.clone()
        } else {
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
            if let Some(like) = &placed.like {
                made = adapter(py, Framework::Torch)?.call_method1("distribute", (made, like))?;
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

    pub(super) fn key(&self, key: &StateKey) -> PyResult<Bound<'py, PyAny>> {
        key_object(self.py, key)
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

/// A key of a dict.
pub(crate) fn key_object<'py>(py: Python<'py>, key: &StateKey) -> PyResult<Bound<'py, PyAny>> {
    Ok(match key {
        StateKey::Str(text) => PyString::new(py, text).into_any(),
        StateKey::Int(digits) => int(py, digits)?,
        StateKey::Bool(value) => pyo3::types::PyBool::new(py, *value).to_owned().into_any(),
        StateKey::None => py.None().into_bound(py),
        StateKey::Tuple(keys) => {
            let keys = keys
                .iter()
                .map(|key| key_object(py, key))
                .collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(py, keys)?.into_any()
        }
    })
}
