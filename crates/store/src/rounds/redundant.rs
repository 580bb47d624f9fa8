//! A collector's round (G1–G4) over objects that another encoding of the same chunk made redundant.
//!
//! It frees no chunk: every hash keeps an object that was decoded and compared with its BLAKE3 a moment before. So it needs no roots, and costs what it
//! removes, not what the store holds. The argument:
//!
//! - *A writer's dedup hit.* Its part is published either before (G2)'s listing or after (G1). In the second case W4 sees the round and puts the chunk
//!   again. In the first it references a hash that keeps a healthy object: that suffices, because a part names hashes, and objects only as hints.
//! - *Another collector.* Both may want the last two objects of one hash, each counting on the other's. But an object in any open round is no healthy other
//!   one, and a round is created before its creator looks: of two rounds the later one sees the earlier, or what it deleted.
//! - *Bases.* The other object may be a difference. It was decoded with objects in no round only, all the way down; and whoever wants one of these looks, after
//!   creating a round of its own, whether anything decodes through it: that is the collector's duty when it deletes a hash, and here nothing is deleted whose
//!   hash does not keep another object.
//! - *A power cut.* The other object may be a moment old, and its writer not have come to sync its directory: that is done here, before anything is deleted.
//! - *Depth.* Only raw objects are removed, and no difference is ever written against a chunk that is raw alone ([`Store::depth_of`]): so what lies below a difference
//!   when it is written stays, and a chain never becomes longer than it was.
//! - *Cycles* (X against Y, Y against X, in two runs that saved the same two states in opposite order): whichever raw object goes first, the other hash then
//!   has no object that decodes without the remaining raw one, which stays.

use std::collections::BTreeMap;

use runtree_core::manifest::ChunkRecord;
use runtree_core::{Error, Result, Timestamp};

use super::{KEPT_ROUNDS, Rounds};
use crate::chunk::encoded::MAX_DEPTH;
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::store::Store;

/// An object that may go, if another one of its chunk is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redundant {
    /// The chunk.
    pub chunk: ChunkRecord,
    /// Its object that may go.
    pub object: ObjectName,
}

/// What a round removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes those of `candidates` whose chunk keeps a healthy object: opens a round (G1), looks (G2), deletes (G3), closes it (G4).
    ///
    /// Killed anywhere it harms nothing: an open round's names are never hits again, and may be named by the next one.
    ///
    /// # Errors
    /// As the store says; `Internal` if a candidate is no raw object of its chunk.
    pub fn remove_redundant(&self, candidates: &[Redundant], now: Timestamp) -> Result<Removed> {
        self.check_writable()?;
        if let Some(wrong) = candidates.iter().find(|candidate| {
            candidate.object.hash != candidate.chunk.hash
                || candidate.object.encoding != ObjectEncoding::Raw
        }) {
            return Err(Error::internal(format!(
                "{} is no raw object of chunk {}",
                wrong.object, wrong.chunk.hash
            )));
        }
        let mut removed = Removed::default();
        if candidates.is_empty() {
            return Ok(removed);
        }
        let wanted: BTreeMap<ObjectName, &ChunkRecord> = candidates
            .iter()
            .map(|candidate| (candidate.object, &candidate.chunk))
            .collect();
        let Some(round) = self.open_rounds(wanted.keys().copied(), now)? else {
            // Other collectors are at work; what is redundant stays so.
            return Ok(removed);
        };
        // Every round, this one included: an object in it is nobody's healthy other one.
        let rounds = self.list_rounds()?;
        for (object, chunk) in &wanted {
            let path = layout::chunk_object(object);
            let Some(meta) = self.head(&path)? else {
                continue;
            };
            if self.has_healthy_outside(chunk, &rounds)? {
                round.delete(&[*object])?;
                removed.objects += 1;
                removed.bytes += meta.size;
            }
        }
        round.close()?;
        self.forget_rounds(KEPT_ROUNDS)?;
        Ok(removed)
    }

    /// Whether some object of a chunk decodes to exactly its bytes through objects in no open round of `rounds`, read from the disk itself. If so it is durable, with all
    /// that it is a difference to: whoever put it may not have come to that yet, and our caller deletes what else there is.
    ///
    /// # Errors
    /// As the store says.
    pub fn has_healthy_outside(&self, chunk: &ChunkRecord, rounds: &Rounds) -> Result<bool> {
        for name in self.list_objects(chunk.hash)? {
            if !rounds.condemns(&name) && self.decodes_outside(&name, chunk, rounds)? {
                let mut paths = vec![layout::chunk_object(&name)];
                self.note_bases(&name, 0, &mut paths)?;
                self.sync_dirs(&paths)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where objects lie that an object may be decoded through.
    fn note_bases(
        &self,
        name: &ObjectName,
        level: u8,
        paths: &mut Vec<layout::ObjectPath>,
    ) -> Result<()> {
        let ObjectEncoding::Delta(base) = name.encoding else {
            return Ok(());
        };
        for name in self.list_objects(base)? {
            paths.push(layout::chunk_object(&name));
            if level < MAX_DEPTH {
                self.note_bases(&name, level + 1, paths)?;
            }
        }
        Ok(())
    }
}
