//! Out of the store and into it: directories byte for byte, state trees as safetensors + JSON, anything as one tar stream.
//!
//! What is exported was verified block by block while it was read. A target directory appears whole or not at all, and nothing that was
//! there is overwritten. The formats are described in `docs/formats/export.md`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::{CheckpointId, Error, Result, RunId, Step, wire};

use crate::engine::Engine;
use crate::load::LoadedManifest;

pub(crate) mod directory;
mod glob;
pub(crate) mod import;
pub(crate) mod members;
mod metrics;
mod pretrained;
mod report;
mod safetensors;
mod tar;

pub use glob::matches as glob_matches;
pub use metrics::{MetricsExport, MetricsFormat, MetricsReport, MetricsScope};

use directory::{Access, Durability};
use members::{Body, Member};

/// How a checkpoint is laid out on export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportLayout {
    /// As it was saved: files byte for byte, a state tree as `<name>.safetensors` and `<name>.json`.
    #[default]
    AsSaved,
    /// What `from_pretrained` loads: the model's weights in `model.safetensors`, or several files and their index, shards put together.
    Hf,
}

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Only tensors whose dotted name, and files whose path, matches this glob.
    pub keys: Option<String>,
    /// The layout.
    pub layout: ExportLayout,
    /// Most bytes of tensors in one file of the layout [`ExportLayout::Hf`]; none: 5 GB, as the libraries that read it take it.
    pub max_file_bytes: Option<u64>,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportReport {
    /// Where.
    pub directory: PathBuf,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl Engine {
    /// Writes a checkpoint into a directory that does not exist yet, or is empty. It appears whole or not at all.
    ///
    /// # Errors
    /// `Conflict` if something is there; `Corrupt`, `NotFound`, `Unsupported` as [`Engine::load_plan`].
    pub fn export(
        &self,
        checkpoint: CheckpointName,
        directory: &Path,
        options: &ExportOptions,
    ) -> Result<ExportReport> {
        directory::check_target(directory)?;
        let manifest = self.load_plan(checkpoint)?;
        let members = members(self, &manifest, options)?;
        let (files, bytes) = directory::write(
            self,
            &manifest,
            &members,
            directory,
            Access::AsSaved,
            Durability::Durable,
        )?;
        Ok(ExportReport {
            directory: directory.to_owned(),
            files,
            bytes,
        })
    }

    /// Writes a checkpoint, as it was saved, as one tar stream: for downloads. Memory is bounded, no temporary file is made.
    ///
    /// # Errors
    /// As [`Engine::export`]; `Unavailable` if `out` refuses. What was written before an error has no end mark, so that it is not a tar archive.
    pub fn write_tar(&self, checkpoint: CheckpointName, out: impl Write) -> Result<()> {
        let manifest = self.load_plan(checkpoint)?;
        let members = members::as_saved(&manifest, None)?;
        let failed = |error: std::io::Error| {
            Error::unavailable("can not write the archive").with_source(error)
        };
        let mut archive = tar::Archive::new(out);
        for Member { path, mode, body } in &members {
            match body {
                Body::Directory => archive
                    .member(path, *mode, tar::Member::Directory)
                    .map_err(failed)?,
                Body::Symlink(target) => archive
                    .member(path, *mode, tar::Member::Symlink(target))
                    .map_err(failed)?,
                Body::File { .. } | Body::Tensors { .. } => {
                    let bytes = body.bytes();
                    archive
                        .member(path, *mode, tar::Member::File(bytes))
                        .map_err(failed)?;
                    directory::write_body(self, &manifest, path, body, &mut |bytes| {
                        archive.data().write_all(bytes).map_err(failed)
                    })?;
                    archive.pad(bytes).map_err(failed)?;
                }
            }
        }
        archive.finish().map_err(failed)
    }

    /// Saves a directory as a checkpoint of a run, without a live process, and waits until it exists.
    ///
    /// # Errors
    /// `Invalid` for what can not be saved (devices, links that leave the directory); else as a save's result.
    pub fn import_dir(
        self: &Arc<Self>,
        run: RunId,
        directory: &Path,
        step: Step,
        name: Option<String>,
    ) -> Result<wire::CheckpointInfo> {
        import::import_dir(self, run, directory, step, name, BTreeMap::new())
    }

    /// A read-only copy of a checkpoint, as it was saved, in the user's cache: made once, then found.
    ///
    /// Every byte was verified when it was made. Delete it freely; it is made again.
    ///
    /// # Errors
    /// As [`Engine::export`].
    pub fn materialize(&self, checkpoint: CheckpointName) -> Result<PathBuf> {
        let target = self.cached_directory(checkpoint);
        // Only `directory::write` makes this name, by renaming what is complete.
        if target.is_dir() {
            return Ok(target);
        }
        let manifest = self.load_plan(checkpoint)?;
        let members = members::as_saved(&manifest, None)?;
        match directory::write(
            self,
            &manifest,
            &members,
            &target,
            Access::ReadOnly,
            Durability::Durable,
        ) {
            Ok(_) => Ok(target),
            // Another process was faster: it wrote the same bytes.
            Err(error) if error.kind() == runtree_core::ErrorKind::Conflict && target.is_dir() => {
                Ok(target)
            }
            Err(error) => Err(error),
        }
    }
}

impl Engine {
    /// Where [`Engine::materialize`] has a checkpoint, if it was asked for it.
    pub(crate) fn cached_directory(&self, checkpoint: CheckpointName) -> PathBuf {
        let id = CheckpointId::of(checkpoint.run, checkpoint.key);
        let all = self.options.cache_dir.join("dirs");
        all.join(self.store().id().to_string()).join(id.to_string())
    }
}

fn members(
    engine: &Engine,
    manifest: &LoadedManifest,
    options: &ExportOptions,
) -> Result<Vec<Member>> {
    let keys = options.keys.as_deref();
    match options.layout {
        ExportLayout::AsSaved => members::as_saved(manifest, keys),
        ExportLayout::Hf => pretrained::members(engine, manifest, keys, options.max_file_bytes),
    }
}
