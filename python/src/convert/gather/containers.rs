//! Containers of a state tree.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtree_core::state::{DictKind, StateKey, StateNode};

use super::Walker;
use crate::convert::kinds::{builtin_factory, class_name, state_key, type_name};
use crate::convert::select::join;

impl<'py> Walker<'py> {
    pub(super) fn items(
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

    pub(super) fn dict(
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

    pub(super) fn dict_kin(
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

    pub(super) fn key(
        &mut self,
        key: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<Option<StateKey>> {
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

    pub(super) fn set(
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

    pub(super) fn named_tuple(
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
}
