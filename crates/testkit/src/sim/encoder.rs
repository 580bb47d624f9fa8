//! Encodes chunks and removes the raw objects that become redundant, with the real code of the store: what a trainer does in the background.

use runtree_core::manifest::{BlockChecksums, ChunkRecord};
use runtree_core::{Result, Timestamp};
use runtree_store::{ObjectEncoding, Redundant, checksum, layout};

use super::Fault;
use super::saver::{CONTENTS, SAVED, content};
use super::world::Actor;

/// Chunks that one encoder encodes.
const ROUNDS: usize = 6;

/// Encodes a chunk against another one a few times, and removes its raw objects.
pub(super) fn encode(actor: &mut Actor) -> Result<()> {
    let store = actor.store.clone();
    // Two rounds are enough to forget one; then there is quiet.
    let rounds = if actor.fault == Fault::NoGivingWay {
        3
    } else {
        ROUNDS
    };
    for _ in 0..rounds {
        // What it saw of `gc/` is old by the time it has encoded.
        let rounds = store.list_rounds()?;
        let chunk = record(actor.dice.below(SAVED));
        let base = record(actor.dice.below(CONTENTS));
        // What is not there, or goes while it is read, is nobody's error here.
        drop(store.encode_chunk(&chunk, None, Some(&base), &rounds));
        let mut redundant = Vec::new();
        for object in store.list_objects(chunk.hash)? {
            if object.encoding == ObjectEncoding::Raw {
                redundant.push(Redundant {
                    chunk: chunk.clone(),
                    object,
                });
            }
        }
        if actor.fault == Fault::RawGoesAtOnce {
            for candidate in &redundant {
                store.delete(&layout::chunk_object(&candidate.object))?;
            }
        } else {
            store.remove_redundant(&redundant, Timestamp(0))?;
            store.forget_rounds(0)?;
        }
    }
    Ok(())
}

/// The record of one of the world's contents, whether it is in the store or not.
fn record(which: usize) -> ChunkRecord {
    let data = content(which);
    let sum = checksum(&data);
    ChunkRecord {
        hash: sum.hash,
        bytes: data.len() as u64,
        crc64: BlockChecksums(sum.crc64.0),
        object: String::new(),
    }
}
