//! Looking again (W4): between a dedup hit and the publication of what relies on it, a collector may have decided.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use runtree_core::manifest::ChunkRecord;
use runtree_core::{ChunkHash, Error, Result};

use super::Rounds;
use crate::layout::{self, ObjectName};
use crate::store::Store;

impl Store {
    /// If there is a round that `seen` did not show, checks every object that was published as needed, and puts what is absent or condemned again from `refill`,
    /// which is asked for the chunk's raw bytes. Returns how many objects had to be replaced; all are durable.
    ///
    /// Why once is enough: a round that begins after this lists what was published, and finds the chunk needed.
    pub(crate) fn look_again<'c>(
        &self,
        seen: &Rounds,
        chunks: impl IntoIterator<Item = &'c ChunkRecord>,
        objects: &HashMap<ChunkHash, ObjectName>,
        refill: &mut dyn FnMut(&ChunkRecord) -> Result<Option<Bytes>>,
    ) -> Result<usize> {
        let now = self.list_rounds()?;
        if seen.has_all_of(&now) {
            return Ok(0);
        }
        let mut refilled = Vec::new();
        let mut checked = BTreeSet::new();
        for chunk in chunks {
            if !checked.insert(chunk.hash)
                || self.is_hit(&objects[&chunk.hash], chunk.bytes, &now)?
            {
                continue;
            }
            let others = self.list_objects(chunk.hash)?;
            let other = self.first_hit(&others, chunk.bytes, &now)?;
            let name = match other {
                Some(other) => other,
                None => self.put_again(chunk, refill)?,
            };
            refilled.push(layout::chunk_object(&name));
        }
        self.sync_dirs(&refilled)?;
        Ok(refilled.len())
    }

    fn put_again(
        &self,
        chunk: &ChunkRecord,
        refill: &mut dyn FnMut(&ChunkRecord) -> Result<Option<Bytes>>,
    ) -> Result<ObjectName> {
        let data = match refill(chunk)? {
            Some(data) => data,
            // A condemned object is still readable until its collector deletes it.
            None => Bytes::from(self.read_chunk(chunk).map_err(|error| {
                Error::lost_data(format!(
                    "chunk {} was deleted while the save referenced it",
                    chunk.hash
                ))
                .with_source(error)
            })?),
        };
        if ChunkHash::of(&data) != chunk.hash {
            return Err(Error::lost_data(format!(
                "chunk {} was deleted while the save referenced it, and its bytes have changed since",
                chunk.hash
            )));
        }
        self.put_raw(chunk.hash, &data)
    }
}
