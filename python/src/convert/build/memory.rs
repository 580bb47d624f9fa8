//! Memory for what was planned: the caller's own where a leaf can be read straight into it, else new memory of the leaf's framework.

use std::collections::BTreeMap;

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use runtree_core::state::region::Region;
use runtree_core::state::{Framework, TensorLeaf};
use runtree_engine::WholeTensor;

use super::{Base, Builder, Placed, Use};
use crate::convert::frameworks::adapter;
use crate::convert::pages;

/// Leaves of one box, and where each could be read to (0: nowhere).
type Sharing<'a, 'py> = Vec<(&'a TensorLeaf, Option<Bound<'py, PyAny>>, usize)>;

impl<'a, 'py> Builder<'a, 'py> {
    /// Gives every leaf that is wanted its box, and every box its memory.
    pub(super) fn allocate(&mut self) -> PyResult<()> {
        let mut groups: BTreeMap<(u32, Region), Sharing<'a, 'py>> = BTreeMap::new();
        for Use { leaf, into, like } in std::mem::take(&mut self.uses) {
            let tensor = &self.load.tensors[leaf.tensor as usize];
            let (mut region, like) = match like {
                Some((region, like)) => (region, like),
                None => (tensor.default_region(), None),
            };
            let mut address = 0;
            if let Some((into, framework)) = into
                .as_ref()
                .and_then(|into| Some((into, self.framework_of(into)?)))
            {
                let shape = leaf.view.as_ref().map_or(&tensor.shape, |view| &view.shape);
                let own = tensor.own.as_ref().filter(|_| leaf.view.is_none());
                let arguments = (
                    into,
                    tensor.dtype.to_string(),
                    PyTuple::new(self.py, shape)?,
                    own.map(|own| (own.offset.clone(), own.shape.clone())),
                );
                let answer = adapter(self.py, framework)?
                    .call_method1(intern!(self.py, "target"), arguments)?;
                if let Ok(reason) = answer.extract::<String>() {
                    return Err(self.invalid(&tensor.name, &reason));
                }
                let (there, offset, shape): (usize, Vec<u64>, Vec<u64>) = answer.extract()?;
                if leaf.view.is_none() {
                    address = there;
                    region = Region { offset, shape };
                }
            }
            self.placed.insert(
                std::ptr::from_ref(leaf),
                Placed {
                    region: region.clone(),
                    like,
                },
            );
            let group = groups.entry((leaf.tensor, region)).or_default();
            group.push((leaf, into, address));
        }
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        for ((index, region), leaves) in groups {
            let tensor = &self.load.tensors[index as usize];
            let bytes = tensor.region_bytes(&region) as usize;
            let (leaf, into, address) = &leaves[0];
            // Two boxes into one memory would be written by two threads at once.
            let free = taken
                .range(..address + bytes)
                .next_back()
                .is_none_or(|(_, end)| *end <= *address);
            let base = match into {
                Some(into) if leaves.len() == 1 && *address != 0 && free => {
                    taken.insert(*address, address + bytes);
                    let framework = self.framework_of(into).unwrap_or(leaf.framework);
                    Base {
                        object: into.clone(),
                        adapter: adapter(self.py, framework)?,
                        address: *address,
                        direct: true,
                    }
                }
                _ => self.fresh(leaf.framework, tensor, &region)?,
            };
            self.bases.insert((index, region), base);
        }
        Ok(())
    }

    /// New memory, in the framework the leaf came from, else numpy's, else bytes.
    fn fresh(
        &self,
        framework: Framework,
        tensor: &WholeTensor,
        region: &Region,
    ) -> PyResult<Base<'py>> {
        let adapter = self.available(framework)?;
        let arguments = (
            tensor.dtype.to_string(),
            PyTuple::new(self.py, &region.shape)?,
        );
        let (object, address) = adapter
            .call_method1(intern!(self.py, "empty"), arguments)?
            .extract()?;
        let bytes = region.shape.iter().product::<u64>() * tensor.dtype.item_bytes();
        pages::expect_large(address, bytes as usize);
        Ok(Base {
            object,
            adapter,
            address,
            direct: false,
        })
    }

    pub(super) fn available(&self, framework: Framework) -> PyResult<Bound<'py, PyModule>> {
        for candidate in [framework, Framework::Numpy] {
            match adapter(self.py, candidate) {
                Err(error) if error.is_instance_of::<PyModuleNotFoundError>(self.py) => {}
                found => return found,
            }
        }
        self.py.import("runtree._memory")
    }
}
