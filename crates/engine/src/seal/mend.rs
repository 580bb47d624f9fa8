//! Writing damaged segments again, from the frames that they cover.

use runtree_core::{ErrorKind, Result, RunId};
use runtree_store::{Cursor, JournalReader, SegmentName};

use super::{SealReport, Unsealed};
use crate::engine::Engine;
use crate::fold::sealed::Sealed;

impl Engine {
    /// Reads every segment of a run, and writes those that are damaged again.
    ///
    /// # Errors
    /// `Corrupt` that names the first one whose frames are not in its journal any more.
    pub(super) fn mend_segments(
        &self,
        run: RunId,
        sealed: &Sealed,
        done: &mut dyn FnMut(SealReport),
    ) -> Result<()> {
        let mut failed = None;
        for name in sealed.writers().flat_map(|writer| sealed.of(writer)) {
            let Err(damage) = self.open_segment(run, name) else {
                continue;
            };
            if damage.kind() != ErrorKind::Corrupt {
                return Err(damage);
            }
            match self.seal_again(run, name) {
                Ok(Some(report)) => done(report),
                // Another segment that is whole may cover the same: then nothing is lost.
                Ok(None) if self.is_covered_otherwise(run, name, sealed) => {}
                Ok(None) => drop(failed.get_or_insert(damage)),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Seals exactly the frames of a segment; none if the journal does not have them all.
    fn seal_again(&self, run: RunId, name: &SegmentName) -> Result<Option<SealReport>> {
        let read = || -> Result<Option<Vec<u8>>> {
            let mut reader = JournalReader::open(&self.store, run, name.writer, Cursor::START)?;
            let mut attempt = None;
            while reader.cursor().ordinal < name.from {
                let Some(frame) = reader.next_frame()? else {
                    return Ok(None);
                };
                attempt = attempt.or(super::launch_of(&frame)?);
            }
            let mut unsealed = Unsealed::new(run, name.writer, reader, attempt);
            while unsealed.reader.cursor().ordinal < name.to {
                let Some(frame) = unsealed.reader.next_frame()? else {
                    return Ok(None);
                };
                unsealed.add(&frame)?;
            }
            unsealed.next_segment()
        };
        let bytes = match read() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut report = SealReport {
            journals: 1,
            segments: 1,
            points: 0,
            bytes: bytes.len() as u64,
        };
        let frames = name.from..name.to;
        let written = self
            .store
            .create_segment(run, name.writer, frames, bytes.into())?;
        report.points = self.open_segment(run, &written)?.head().points;
        Ok(Some(report))
    }

    fn is_covered_otherwise(&self, run: RunId, damaged: &SegmentName, sealed: &Sealed) -> bool {
        let mut ordinal = damaged.from;
        while ordinal < damaged.to {
            match self.segment_at(run, damaged.writer, sealed, ordinal) {
                Ok(Some(segment)) => ordinal = segment.head().to,
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }
}
