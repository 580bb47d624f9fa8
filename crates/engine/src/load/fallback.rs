//! What happens when the newest checkpoint is damaged: one process alone goes back to the newest good one, loudly; several ranks never do.
//!
//! Ranks decide separately. If one of them fell back, it would train on another step than the others, and nobody would notice; so
//! with more than one rank damage is an error on the rank that met it.

use runtree_core::manifest::CheckpointName;
use runtree_core::wire::CheckpointState;
use runtree_core::{Error, ErrorKind, Result, RunId};

use super::LoadedManifest;
use crate::engine::Engine;
use crate::queries::CheckpointScope;

/// Says that an older checkpoint was loaded than was asked for. The edge warns with it.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// What was asked for, and is damaged.
    pub wanted: CheckpointName,
    /// What was loaded.
    pub used: CheckpointName,
    /// What is wrong with the first, in words that end in what was used.
    pub message: String,
}

impl Engine {
    /// Loads a checkpoint with `load`, which may read as much as it likes; if that finds damage and `world_size` is 1, the newest older checkpoint
    /// on `run`'s timeline that loads.
    ///
    /// For `latest` alone: who names a checkpoint gets that one or an error.
    ///
    /// # Errors
    /// What `load` returned for `wanted`, if nothing older loads either or nothing but damage can be gone back from.
    pub fn load_or_fall_back<T>(
        &self,
        run: RunId,
        wanted: CheckpointName,
        world_size: u32,
        mut load: impl FnMut(&LoadedManifest) -> Result<T>,
    ) -> Result<(T, Option<Fallback>)> {
        let mut attempt =
            |name: CheckpointName| self.load_plan(name).and_then(|manifest| load(&manifest));
        let error = match attempt(wanted) {
            Ok(loaded) => return Ok((loaded, None)),
            Err(error) if error.kind() == ErrorKind::Corrupt && world_size <= 1 => error,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Err(with_hint(
                    error,
                    "ranks never go back by themselves; start the launch again to resume from the newest good checkpoint, or name one",
                ));
            }
            Err(error) => return Err(error),
        };
        for used in self.older_than(run, wanted)? {
            match attempt(used) {
                Ok(loaded) => {
                    let message = format!(
                        "{}; loaded the checkpoint of step {} instead of step {}",
                        error.chain(),
                        used.key.step,
                        wanted.key.step
                    );
                    return Ok((
                        loaded,
                        Some(Fallback {
                            wanted,
                            used,
                            message,
                        }),
                    ));
                }
                Err(other) if matches!(other.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(other) => return Err(other),
            }
        }
        Err(with_hint(
            error,
            "no older checkpoint of the run can be loaded",
        ))
    }

    /// Complete checkpoints on the timeline of `run` before `wanted`, newest first.
    fn older_than(&self, run: RunId, wanted: CheckpointName) -> Result<Vec<CheckpointName>> {
        let scope = CheckpointScope {
            inherited: true,
            ..CheckpointScope::default()
        };
        let mut found = Vec::new();
        for info in self.checkpoints(run, scope)? {
            if info.effective && info.state == CheckpointState::Complete {
                found.push(info.checkpoint_name()?);
            }
        }
        // The query's order is by step, then attempt, then k: what stands before `wanted` is older.
        let end = found
            .iter()
            .position(|name| *name == wanted)
            .unwrap_or(found.len());
        found.truncate(end);
        found.reverse();
        Ok(found)
    }
}

fn with_hint(error: Error, hint: &str) -> Error {
    if error.hint().is_some() {
        return error;
    }
    error.with_hint(hint)
}
