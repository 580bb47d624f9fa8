//! Encodes chunks and removes the raw objects that become redundant, with the real code of the store: what a trainer does in the background.

use runtree_core::manifest::{BlockChecksums, ChunkRecord};
use runtree_core::{Result, Timestamp};
use runtree_store::{ObjectEncoding, Redundant, Rounds, Store, checksum};

use super::saver::{CONTENTS, SAVED, content};
use super::{Actor, Dice, Fault, Turn};

/// Chunks that one encoder encodes.
const ROUNDS: usize = 8;

/// Encodes a chunk against another one a few times; putting the object and removing the raw one are two turns.
#[derive(Debug)]
pub struct Encoder {
    fault: Fault,
    left: usize,
    /// What the encoder saw of `gc/`, perhaps long ago.
    rounds: Option<Rounds>,
    redundant: Vec<Redundant>,
}

impl Encoder {
    /// An encoder that has not begun.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            left: ROUNDS,
            rounds: None,
            redundant: Vec::new(),
        }
    }
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

impl Actor for Encoder {
    fn step(&mut self, store: &Store, dice: &mut Dice) -> Result<Turn> {
        if !self.redundant.is_empty() {
            let redundant = std::mem::take(&mut self.redundant);
            if self.fault == Fault::RawGoesAtOnce {
                for candidate in &redundant {
                    store.delete(&runtree_store::layout::chunk_object(&candidate.object))?;
                }
            } else {
                store.remove_redundant(&redundant, Timestamp(0))?;
            }
            return Ok(Turn::Moved);
        }
        let Some(rounds) = self.rounds.take() else {
            self.rounds = Some(store.list_rounds()?);
            return Ok(if self.left == 0 {
                Turn::Done
            } else {
                Turn::Moved
            });
        };
        self.left -= 1;
        let (chunk, base) = (record(dice.below(SAVED)), record(dice.below(CONTENTS)));
        // What is not there, or goes while it is read, is nobody's error here: the bank is counted after every turn.
        drop(store.encode_chunk(&chunk, None, Some(&base), &rounds));
        for object in store.list_objects(chunk.hash)? {
            if object.encoding == ObjectEncoding::Raw {
                self.redundant.push(Redundant {
                    chunk: chunk.clone(),
                    object,
                });
            }
        }
        Ok(Turn::Moved)
    }
}
