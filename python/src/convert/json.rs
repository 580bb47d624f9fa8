//! What the engine answers, as dicts, lists and scalars.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use runtree_core::Error;
use serde::Serialize;
use serde_json::Value;

use crate::errors::to_py_err;

/// Any record of the engine as Python objects.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    record: &impl Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(record).map_err(|error| {
        to_py_err(
            py,
            &Error::internal("can not encode a record").with_source(error),
        )
    })?;
    value_to_python(py, &value)
}

/// A JSON value as Python objects.
pub(crate) fn value_to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => {
            if let Some(value) = number.as_i64() {
                value.into_pyobject(py)?.into_any()
            } else if let Some(value) = number.as_u64() {
                value.into_pyobject(py)?.into_any()
            } else {
                PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any()
            }
        }
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(value_to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (key, field) in fields {
                dict.set_item(key, value_to_python(py, field)?)?;
            }
            dict.into_any()
        }
    })
}

/// A config: dicts with text keys, lists, scalars. NaN and infinities become the strings that metrics have in JSON; anything else its `str()`.
pub(crate) fn config_to_value(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > runtree_core::state::MAX_DEPTH {
        return Err(to_py_err(
            object.py(),
            &Error::invalid("config is nested too deep, or contains itself"),
        ));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(Value::Bool(value.is_true()));
    }
    if let Ok(value) = object.cast::<PyInt>() {
        return Ok(match (value.extract::<i64>(), value.extract::<u64>()) {
            (Ok(value), _) => value.into(),
            (_, Ok(value)) => value.into(),
            _ => Value::String(value.str()?.to_string_lossy().into_owned()),
        });
    }
    if let Ok(value) = object.cast::<PyFloat>() {
        let value = value.extract::<f64>()?;
        return Ok(
            serde_json::to_value(runtree_core::float::JsonFloat(value)).unwrap_or(Value::Null)
        );
    }
    if let Ok(value) = object.cast::<PyString>() {
        return Ok(Value::String(value.to_string_lossy().into_owned()));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let mut fields = serde_json::Map::new();
        for (key, value) in dict.iter() {
            fields.insert(
                key.str()?.to_string_lossy().into_owned(),
                config_to_value(&value, depth + 1)?,
            );
        }
        return Ok(Value::Object(fields));
    }
    if object.is_instance_of::<PyList>()
        || object.is_instance_of::<pyo3::types::PyTuple>()
        || object.is_instance_of::<pyo3::types::PySet>()
        || object.is_instance_of::<pyo3::types::PyFrozenSet>()
    {
        return object
            .try_iter()?
            .map(|item| config_to_value(&item?, depth + 1))
            .collect::<PyResult<Vec<_>>>()
            .map(Value::Array);
    }
    // A scalar of numpy or a tensor of one element is a number, not the words that show it.
    if object.hasattr("dtype")?
        && let Ok(item) = object.call_method0("item")
        && (item.is_instance_of::<PyInt>()
            || item.is_instance_of::<PyFloat>()
            || item.is_instance_of::<PyString>())
    {
        return config_to_value(&item, depth + 1);
    }
    Ok(Value::String(object.str()?.to_string_lossy().into_owned()))
}

/// A config as the store will give it back.
#[pyfunction]
pub(crate) fn plain_config<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    value_to_python(object.py(), &config_to_value(object, 0)?)
}
