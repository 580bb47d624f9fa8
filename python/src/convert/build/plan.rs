//! The first phase of a load: which leaves are wanted, what each goes into, and which box of a tensor it is. Refuses what does not fit `into=`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use runtree_core::state::region::Region;
use runtree_core::state::{Framework, StateNode, TensorLeaf};

use super::{Builder, Use};
use crate::convert::frameworks::adapter;
use crate::convert::select::join;

impl<'a, 'py> Builder<'a, 'py> {
    /// Plans a node and all below it; `into` is what the caller has in its place.
    pub(super) fn plan(
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
}
