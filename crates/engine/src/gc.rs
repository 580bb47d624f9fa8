//! Deleting what nothing needs: rounds of the protocol (G1–G4) over the whole store, or over what one run's trash let go.
//!
//! Nothing here locks, and no clock decides what is safe: `docs/design/0012` has the argument. `roots` says who protects a checkpoint, `trash` which deleted ones keep
//! their bytes, `survey` lists all roots in the order of the protocol, `needed` adds the bases of differences, `collect` opens rounds and deletes, also what is there twice (`spare`). `rely` and
//! `undelete` are the writers' side, of those who have no bytes at hand. `repair` removes what is damaged. `memory` makes the second collection of a process cheap.
//!
//! A collection that can not tell what is needed deletes nothing: `Corrupt`, with the object that can not be read.

use std::time::{Duration, Instant};

use runtree_core::{Result, RunId};

use crate::engine::Engine;

mod collect;
mod journals;
mod memory;
mod needed;
mod reclaim;
mod refetch;
mod rely;
mod repair;
mod report;
mod roots;
mod spare;
mod survey;
mod trash;
mod undelete;

pub use collect::{Collector, GC_SHARDS};
pub use memory::Memory;
pub use rely::Reliance;
pub use repair::{RepairReport, Unreadable};
pub use report::{GcOptions, GcProgress, GcReport, Kept};
pub use roots::TrashBound;
pub use trash::{Buried, in_trash};
pub(crate) use undelete::is_deleted;
pub use undelete::undelete;

/// How long nobody has written to a temporary file before its writer counts as killed, whatever the grace: a save whose file is taken away fails.
const LEFTOVER_IDLE: Duration = Duration::from_secs(3600);

impl Engine {
    /// Deletes what nothing needs: chunk objects, leftovers of killed writers, leases that lapsed, and journals that segments stand for. Safe beside any number of writers, forks
    /// and other collectors.
    ///
    /// # Errors
    /// `Denied` if the store was opened for reading only, unless nothing is done; `Corrupt` if it can not be told what is needed: then no chunk is deleted.
    pub fn gc(
        &self,
        options: &GcOptions,
        progress: &mut dyn FnMut(GcProgress),
    ) -> Result<GcReport> {
        if !options.dry_run {
            self.require_writable()?;
        }
        let began = Instant::now();
        let collector = Collector::new(self.store(), &self.gc, self.now());
        let mut report = collector.collect_all(options, progress)?;
        report.lapsed_leases = self.remove_lapsed(options)?;
        if !options.dry_run {
            (report.leftover_files, report.leftover_bytes) = self
                .store()
                .remove_leftovers(options.grace.max(LEFTOVER_IDLE))?;
        }
        for run in self.store().list_runs()? {
            let pieces = self.remove_covered(run, options.dry_run)?;
            report.journal_pieces += pieces.files;
            report.journal_bytes += pieces.bytes;
        }
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Frees what left the trash of a run, for who just put something in: no grace, since writers look again themselves. `bound` is how much of the trash stays.
    /// Cheap when it is called again and again: what was read of immutable objects is remembered.
    ///
    /// # Errors
    /// `Denied` if the store was opened for reading only; `Corrupt` if it can not be told what is needed: then nothing is deleted.
    pub fn collect_trash(&self, run: RunId, bound: TrashBound) -> Result<GcReport> {
        self.require_writable()?;
        let began = Instant::now();
        let collector = Collector::new(self.store(), &self.gc, self.now());
        let mut report = collector.collect_trash(run, bound)?;
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Removes leases that have been lapsed for longer than the grace: by then their holders have long been told that they do not hold.
    fn remove_lapsed(&self, options: &GcOptions) -> Result<u64> {
        let pins = roots::pins(self.store())?;
        let Some(now) = roots::time_for(self.store(), &pins)? else {
            return Ok(0);
        };
        let grace = i64::try_from(options.grace.as_micros()).unwrap_or(i64::MAX);
        let lapsed = pins.iter().filter(|pin| pin.lapsed_for(now) > Some(grace));
        let mut removed = 0;
        for pin in lapsed {
            removed += 1;
            if !options.dry_run {
                self.store()
                    .delete(&runtree_store::layout::pin(&pin.name))?;
            }
        }
        Ok(removed)
    }
}
