//! A checkpoint that is about to be loaded: its manifests, read and verified once.

use std::sync::Arc;

use pyo3::prelude::*;
use runtree_core::Error;
use runtree_core::manifest::{Entry, EntryContent};
use runtree_engine::{Engine, LoadedManifest};

use crate::convert::build::{Load, build};
use crate::convert::select::select;
use crate::errors::to_py_err;
use crate::runtime::Owned;

/// The native half of a load.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct Plan {
    inner: Owned<(Arc<Engine>, LoadedManifest)>,
}

impl Plan {
    pub(crate) fn new(engine: Arc<Engine>, manifest: LoadedManifest) -> Self {
        Self {
            inner: Owned::new((engine, manifest)),
        }
    }

    fn inner(&self, py: Python<'_>) -> PyResult<&(Arc<Engine>, LoadedManifest)> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this load belongs to the process this one was forked from"),
            )
        })
    }
}

#[pymethods]
impl Plan {
    /// `(component, rank, sharded, [(path, kind)])` for each part.
    #[expect(
        clippy::type_complexity,
        reason = "a tuple for the Python layer, which names its fields"
    )]
    fn parts(
        &self,
        py: Python<'_>,
    ) -> PyResult<Vec<(String, u32, bool, Vec<(String, &'static str)>)>> {
        let (_, manifest) = self.inner(py)?;
        Ok(manifest
            .parts
            .iter()
            .map(|part| {
                let entries = part
                    .entries
                    .iter()
                    .map(|entry| (entry.path.clone(), kind(entry)));
                (
                    part.component.to_string(),
                    part.rank,
                    part.sharded,
                    entries.collect(),
                )
            })
            .collect())
    }

    /// Loads the state tree `path` of a part.
    #[pyo3(signature = (part, path, into=None, keys=None, device=None))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        part: usize,
        path: &str,
        into: Option<Bound<'py, PyAny>>,
        keys: Option<Vec<String>>,
        device: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (engine, manifest) = self.inner(py)?;
        let entry = manifest
            .parts
            .get(part)
            .and_then(|part| part.entries.iter().find(|entry| entry.path == path));
        let Some(EntryContent::State {
            tree,
            tensors,
            blobs,
        }) = entry.map(|entry| &entry.content)
        else {
            return Err(to_py_err(
                py,
                &Error::not_found(format!("checkpoint has no state tree `{path}`")),
            ));
        };
        let selected = match &keys {
            Some(keys) => Some(select(tree, keys).ok_or_else(|| {
                let error =
                    Error::not_found(format!("nothing in the checkpoint matches keys={keys:?}"))
                        .with_hint("list what there is with checkpoint.tensors()");
                to_py_err(py, &error)
            })?),
            None => None,
        };
        let load = Load {
            engine,
            manifest,
            part,
            tree: selected.as_ref().unwrap_or(tree),
            tensors,
            blobs,
            into,
            device,
        };
        build(py, &load)
    }
}

fn kind(entry: &Entry) -> &'static str {
    match entry.content {
        EntryContent::State { .. } => "state",
        EntryContent::File { .. } => "file",
        EntryContent::Directory { .. } => "directory",
        EntryContent::Symlink { .. } => "symlink",
    }
}
