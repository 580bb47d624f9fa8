//! A checkpoint that is about to be loaded: its manifests, read and verified once.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;
use runtree_core::Error;
use runtree_core::manifest::{Entry, EntryContent};
use runtree_engine::{Engine, LoadedManifest};

use crate::errors::to_py_err;
use crate::runtime::Owned;
use crate::whole::Whole;

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

    /// The state trees `entry` of a component's parts as one; `own_rank` is the rank whose own leaves win, `choices` says whose is taken of others.
    #[pyo3(signature = (component, entry, own_rank=None, choices=None))]
    fn whole(
        &self,
        py: Python<'_>,
        component: &str,
        entry: &str,
        own_rank: Option<u32>,
        choices: Option<BTreeMap<String, Option<u32>>>,
    ) -> PyResult<Whole> {
        let (engine, manifest) = self.inner(py)?;
        let choices = choices.unwrap_or_default();
        Whole::new(py, engine, manifest, component, entry, own_rank, choices)
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
