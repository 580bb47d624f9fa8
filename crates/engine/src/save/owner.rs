//! A live run as somebody who saves.

use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, JournalPosition};
use runtree_core::{AttemptNumber, Error, Result, RunId, SaveKey};

use super::commit::Owner;
use super::committer::RunSaves;
use crate::engine::Engine;
use crate::live::{RunWriter, WarningKind, fenced_error};

impl Owner for RunWriter {
    fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn run(&self) -> RunId {
        Self::run(self)
    }

    fn attempt(&self) -> AttemptNumber {
        Self::attempt(self)
    }

    fn launch_key_is_random(&self) -> bool {
        Self::launch_key_is_random(self)
    }

    fn saves(&self) -> &RunSaves {
        &self.saves
    }

    fn flush(&self) -> Result<JournalPosition> {
        Self::flush(self)
    }

    fn known_fence(&self) -> Option<Error> {
        self.fenced_by()
            .map(|newer| fenced_error(self.display_id(), newer))
    }

    fn check_fence(&self) -> Result<()> {
        Self::check_fence(self)
    }

    fn saved(&self, key: SaveKey, made_commit: bool) {
        self.note_saved(key);
        // The checkpoint is there whatever becomes of this: what the disk refuses now is written and warned of like points.
        let _ = Self::flush(self);
        let run = Self::run(self);
        self.note_committed(CheckpointName { run, key }, made_commit);
        self.encode_older();
    }

    fn save_failed(&self, key: SaveKey, error: Error) {
        self.warn(
            WarningKind::Save,
            format!("save {key} is not durable: {}", error.chain()),
        );
    }
}
