//! A run that saves a few checkpoints over a small pool of chunks, so that dedup hits, puts and collectors meet all the time.

use std::collections::BTreeMap;

use bytes::Bytes;
use runtree_core::manifest::{
    ChunkRecord, Entry, EntryContent, Extent, JournalPosition, PartConfirmation, PartManifest,
};
use runtree_core::{
    AttemptNumber, ChunkHash, ComponentName, Error, Result, RunId, SaveKey, Step, Timestamp,
    WriterId,
};
use runtree_store::{ConfirmedPart, PublishedPart, SaveSession, Store, checksum, layout};

use super::{Actor, Dice, Fault, Turn};

/// Different contents that savers save.
pub(super) const SAVED: usize = 3;
/// Different contents there are in the whole world: those that nobody saves are garbage of checkpoints long deleted.
pub(super) const CONTENTS: usize = 6;
/// Bytes of each: enough that encoding pays, and the same, so that each can be a difference to any other.
const CONTENT_BYTES: usize = 600;
/// Saves of one saver.
const SAVES: i64 = 3;

/// Saves a few times, one action a turn.
#[derive(Debug)]
pub struct Saver {
    run: RunId,
    fault: Fault,
    step: i64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Putting {
        session: SaveSession,
        chunks: Vec<ChunkRecord>,
    },
    Published(PublishedPart),
    Confirmed(ConfirmedPart),
    /// The faulty way: confirmed by hand.
    Forced,
    Taken,
}

impl Saver {
    /// A saver of `run`.
    pub fn new(run: RunId, fault: Fault) -> Self {
        Self {
            run,
            fault,
            step: 0,
            stage: Stage::Idle,
        }
    }

    fn key(&self) -> SaveKey {
        SaveKey {
            attempt: AttemptNumber::FIRST,
            step: Step(self.step),
            k: 0,
        }
    }

    fn manifest(&self, chunks: Vec<ChunkRecord>) -> PartManifest {
        let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
        let extents = (0..)
            .zip(&chunks)
            .map(|(index, chunk)| Extent {
                chunk: index,
                offset: 0,
                bytes: chunk.bytes,
            })
            .collect();
        PartManifest {
            run: self.run,
            key: self.key(),
            component: ComponentName::trainer(),
            rank: 0,
            parts: BTreeMap::from([(ComponentName::trainer(), 1)]),
            sharded: false,
            name: None,
            created: Timestamp(self.step),
            metrics: BTreeMap::new(),
            journal: JournalPosition {
                writer: WriterId::from_bits(1),
                ordinal: 0,
                hash: 0,
            },
            bytes,
            chunks,
            entries: vec![Entry {
                path: "weights".to_owned(),
                content: EntryContent::File {
                    extents,
                    bytes,
                    mode: 0o644,
                    tensors: Vec::new(),
                },
            }],
        }
    }
}

/// One of the world's few contents: states of a tensor, a few bytes away from each other.
pub(super) fn content(which: usize) -> Bytes {
    let mut dice = Dice::new(7);
    let mut bytes: Vec<u8> = (0..CONTENT_BYTES)
        .map(|_| (dice.roll() % 11) as u8)
        .collect();
    bytes[which] += 100;
    Bytes::from(bytes)
}

/// The hashes of everything a saver may save.
pub(super) fn all_hashes() -> impl Iterator<Item = ChunkHash> {
    (0..CONTENTS).map(|which| checksum(&content(which)).hash)
}

/// Puts what nobody needs any more, raw and encoded: bases that may be gone a moment later.
pub(super) fn put_garbage(store: &Store) -> Result<()> {
    let session = store.begin_save()?;
    for which in SAVED..CONTENTS {
        let data = content(which);
        let sum = checksum(&data);
        let chunk = session.put_chunk(data, sum)?.record;
        store.encode_chunk(&chunk, None, None, &store.list_rounds()?)?;
    }
    Ok(())
}

impl Actor for Saver {
    fn step(&mut self, store: &Store, dice: &mut Dice) -> Result<Turn> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Idle if self.step == SAVES => return Ok(Turn::Done),
            Stage::Idle => Stage::Putting {
                session: store.begin_save()?,
                chunks: Vec::new(),
            },
            Stage::Putting {
                session,
                mut chunks,
            } if chunks.len() < 2 => {
                let data = content(dice.below(SAVED));
                let sum = checksum(&data);
                chunks.push(session.put_chunk(data, sum)?.record);
                Stage::Putting { session, chunks }
            }
            Stage::Putting { session, chunks } => {
                Stage::Published(session.publish(self.manifest(chunks))?)
            }
            Stage::Published(part) if self.fault == Fault::NoSecondLook => {
                let key = self.key();
                let listed = store.list_parts(self.run, key)?;
                let hash = store.read_part(self.run, key, &listed[0].component, 0)?.1;
                let path = layout::part_confirmation(self.run, key, &part.manifest().component, 0);
                let confirmed = store.create_record(&path, &PartConfirmation { hash })?;
                confirmed.or_conflict(|| format!("{path} says something else"))?;
                Stage::Forced
            }
            Stage::Published(part) => Stage::Confirmed(part.confirm(|chunk| {
                let all = (0..CONTENTS).map(content);
                Ok(all
                    .into_iter()
                    .find(|data| checksum(data).hash == chunk.hash))
            })?),
            Stage::Confirmed(part) => {
                part.try_commit()?
                    .committed()
                    .ok_or_else(|| Error::internal("a part alone was not committed"))?;
                self.step += 1;
                Stage::Idle
            }
            Stage::Forced => {
                store.help_commit(self.run, self.key())?;
                self.step += 1;
                Stage::Idle
            }
            Stage::Taken => return Err(Error::internal("a saver without a stage")),
        };
        Ok(Turn::Moved)
    }
}
