//! What an object is, for a state tree.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType};
use runtree_core::state::{DateTimeClass, Framework, StateKey};

use super::frameworks::Classes;

/// What objects of a class are, so that a class is looked at once.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Enumeration,
    NamedTuple,
    Path,
    DateTime(DateTimeClass),
    Array(Framework),
    NumpyScalar,
    TorchSize,
    TorchDtype,
    TorchDevice,
    Dict,
    Deque,
    Stateful,
    Unsupported,
}

impl<'py> Classes<'py> {
    /// What an object of a class that is no plain builtin is.
    pub(super) fn kind_of(
        &self,
        object: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> PyResult<Kind> {
        let (py, classes) = (object.py(), self);
        let is_a = |parent: &Option<Bound<'py, PyType>>| {
            parent
                .as_ref()
                .map_or(Ok(false), |parent| object.is_instance(parent))
        };
        let is = |other: &Option<Bound<'py, PyType>>| {
            other.as_ref().is_some_and(|other| class.is(other))
        };
        if is_a(&classes.torch_tensor)? || is_a(&classes.sharded_tensor)? {
            return Ok(Kind::Array(Framework::Torch));
        }
        if is_a(&classes.numpy_array)? {
            return Ok(Kind::Array(Framework::Numpy));
        }
        if is_a(&classes.jax_array)? {
            return Ok(Kind::Array(Framework::Jax));
        }
        if is_a(&classes.numpy_scalar)? {
            return Ok(Kind::NumpyScalar);
        }
        if object.is_instance(&classes.enumeration)? {
            return Ok(Kind::Enumeration);
        }
        if is(&classes.torch_size) {
            return Ok(Kind::TorchSize);
        }
        if is(&classes.torch_dtype) {
            return Ok(Kind::TorchDtype);
        }
        if is(&classes.torch_device) {
            return Ok(Kind::TorchDevice);
        }
        if class.is(&classes.ordered_dict)
            || class.is(&classes.default_dict)
            || class.is(&classes.counter)
        {
            return Ok(Kind::Dict);
        }
        if class.is(&classes.deque) {
            return Ok(Kind::Deque);
        }
        if object.is_instance(&classes.pure_path)? {
            return Ok(Kind::Path);
        }
        for (known, name) in [
            (&classes.datetime, DateTimeClass::DateTime),
            (&classes.date, DateTimeClass::Date),
            (&classes.time, DateTimeClass::Time),
            (&classes.timedelta, DateTimeClass::TimeDelta),
        ] {
            if class.is(known) {
                return Ok(Kind::DateTime(name));
            }
        }
        if object.is_instance_of::<PyTuple>() && class.hasattr(intern!(py, "_fields"))? {
            return Ok(Kind::NamedTuple);
        }
        let stateful = !object.is_instance_of::<PyType>()
            && object.hasattr(intern!(py, "state_dict"))?
            && object.hasattr(intern!(py, "load_state_dict"))?;
        Ok(if stateful {
            Kind::Stateful
        } else {
            Kind::Unsupported
        })
    }
}

/// An int in decimal, of any size.
pub(super) fn decimal(value: &Bound<'_, PyInt>) -> PyResult<String> {
    if let Ok(small) = value.extract::<i128>() {
        return Ok(small.to_string());
    }
    // CPython refuses `str` of very long ints; runtree does not.
    value
        .py()
        .import("runtree._leaves")?
        .call_method1("decimal", (value,))?
        .extract()
}

pub(super) fn state_key(key: &Bound<'_, PyAny>) -> PyResult<Option<StateKey>> {
    if key.is_none() {
        return Ok(Some(StateKey::None));
    }
    if let Ok(value) = key.cast_exact::<PyBool>() {
        return Ok(Some(StateKey::Bool(value.is_true())));
    }
    if let Ok(value) = key.cast_exact::<PyString>() {
        return Ok(value
            .to_str()
            .ok()
            .map(|text| StateKey::Str(text.to_owned())));
    }
    if let Ok(value) = key.cast_exact::<PyInt>() {
        return Ok(Some(StateKey::Int(decimal(value)?)));
    }
    if let Ok(items) = key.cast_exact::<PyTuple>() {
        let keys = items
            .iter()
            .map(|item| state_key(&item))
            .collect::<PyResult<Option<Vec<_>>>>()?;
        return Ok(keys.map(StateKey::Tuple));
    }
    Ok(None)
}

pub(super) fn builtin_factory(factory: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let builtins = factory.py().import("builtins")?;
    for name in [
        "int", "float", "str", "bool", "list", "dict", "set", "tuple",
    ] {
        if factory.is(&builtins.getattr(name)?) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

pub(super) fn class_name(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let class = object.get_type();
    Ok(format!("{}:{}", class.module()?, class.qualname()?))
}

pub(super) fn type_name(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.get_type().fully_qualified_name()?.to_string())
}

pub(super) fn unsupported(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let name = type_name(object)?;
    let module = object.get_type().module()?.to_string();
    Ok(if name.starts_with("omegaconf.") {
        format!("is a {name}; save OmegaConf.to_container(it)")
    } else if object.is_callable() {
        format!("is code ({name}), which runtree does not save")
    } else if object.is_instance_of::<PyDict>() {
        format!("is a {name}, a dict of its own kind; save dict(it)")
    } else if module == "builtins" {
        format!("is a {name}, which is not supported")
    } else {
        format!(
            "is a {name}, which is not supported; give it state_dict() and load_state_dict(), or save its values"
        )
    })
}
