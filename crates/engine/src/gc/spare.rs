//! Objects of needed chunks that have another object: second copies, and what a killed collector condemned.

use runtree_core::Result;
use runtree_core::manifest::{BlockChecksums, ChunkRecord};
use runtree_store::{ObjectEncoding, ObjectName, OpenRounds, checksum, layout};

use super::collect::{Candidate, Collector};
use super::report::GcReport;

impl Collector<'_> {
    /// Deletes raw objects of needed chunks that have another object, which is read to its end.
    pub(super) fn sweep_spare(
        &self,
        rounds: &OpenRounds,
        spare: &[Candidate],
        report: &mut GcReport,
    ) -> Result<()> {
        let mut open = None;
        for &(name, bytes) in spare {
            // Differences rely on encoded objects: what lies below one when it is written stays.
            if name.encoding != ObjectEncoding::Raw {
                continue;
            }
            // All rounds, this collector's included: an object in one is nobody's healthy other one.
            let open = match &open {
                Some(open) => open,
                None => open.insert(self.store.list_rounds()?),
            };
            let others = self.store.list_objects(name.hash)?;
            if others.iter().all(|other| open.condemns(other)) {
                continue;
            }
            let Some(chunk) = self.record_of(&others)? else {
                continue;
            };
            if self.store.has_healthy_outside(&chunk, open)? {
                rounds.delete(&[name])?;
                report.removed_objects += 1;
                report.freed_bytes += bytes;
            }
        }
        Ok(())
    }

    /// What a manifest would say of a chunk, from a raw object of it that is whole.
    fn record_of(&self, objects: &[ObjectName]) -> Result<Option<ChunkRecord>> {
        for name in objects {
            if name.encoding != ObjectEncoding::Raw {
                continue;
            }
            let Some(bytes) = self.store.try_read_bytes(&layout::chunk_object(name))? else {
                continue;
            };
            let sum = checksum(&bytes);
            if sum.hash == name.hash {
                return Ok(Some(ChunkRecord {
                    hash: sum.hash,
                    bytes: bytes.len() as u64,
                    crc64: BlockChecksums(sum.crc64.0),
                    object: String::new(),
                }));
            }
        }
        Ok(None)
    }
}

/// Of the objects of one needed chunk those that it could do without: raw ones beside another raw one, and those that a killed collector condemned, as long as another one is left.
pub(super) fn spare_of(
    same: &[ObjectName],
    is_condemned: impl Fn(&ObjectName) -> bool,
) -> Vec<ObjectName> {
    if same.len() < 2 || same.iter().all(&is_condemned) {
        return Vec::new();
    }
    let is_raw = |name: &&ObjectName| name.encoding == ObjectEncoding::Raw;
    // Sorted by put id: whoever collects keeps the same one.
    let kept = same.iter().filter(is_raw).find(|name| !is_condemned(name));
    let is_spare = |name: &&ObjectName| {
        is_condemned(name) || is_raw(name) && kept.is_some_and(|kept| kept != *name)
    };
    same.iter().filter(is_spare).copied().collect()
}
