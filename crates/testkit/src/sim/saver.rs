//! A run that saves a few checkpoints over a small pool of chunks, so that dedup hits, puts and collectors meet all the time.

use std::collections::BTreeMap;

use bytes::Bytes;
use runtree_core::manifest::{
    CheckpointName, ChunkRecord, Entry, EntryContent, Extent, JournalPosition, PartConfirmation,
    PartManifest,
};
use runtree_core::{
    AttemptNumber, ChunkHash, ComponentName, Error, Result, RunId, SaveKey, Step, Timestamp,
    WriterId,
};
use runtree_store::{Store, checksum, layout};

use super::Fault;
use super::world::Actor;

/// Different contents that savers save.
pub(super) const SAVED: usize = 4;
/// Different contents there are in the whole world: those that nobody saves are garbage of checkpoints long deleted.
pub(super) const CONTENTS: usize = 6;
/// Bytes of each: enough that encoding pays, and the same, so that each can be a difference to any other.
const CONTENT_BYTES: usize = 600;
/// Saves of one saver.
const SAVES: i64 = 4;

/// Saves a few times.
pub(super) fn save(actor: &mut Actor, run: RunId) -> Result<()> {
    let store = actor.store.clone();
    for step in 0..SAVES {
        let key = SaveKey {
            attempt: AttemptNumber::FIRST,
            step: Step(step),
            k: 0,
        };
        if actor.fault == Fault::NoGivingWay {
            actor.idle()?;
        }
        let session = begin(actor)?;
        let mut chunks = Vec::new();
        for _ in 0..2 {
            let data = content(actor.dice.below(SAVED));
            let sum = checksum(&data);
            chunks.push(session.put_chunk(data, sum)?.record);
        }
        if actor.fault == Fault::LookBeforePublishing {
            actor.freeze_rounds();
        }
        let part = session.publish(manifest(run, key, chunks))?;
        let is_committed = if actor.fault == Fault::NoSecondLook {
            force(&store, run, key, &part)?;
            store.help_commit(run, key)?
        } else {
            part.confirm(|chunk| Ok(content_of(chunk.hash)))?
                .try_commit()?
        };
        actor.lies.thaw_rounds();
        if is_committed.committed().is_some() {
            actor.bank().acknowledge(CheckpointName { run, key });
        }
    }
    Ok(())
}

/// W1.
pub(super) fn begin(actor: &Actor) -> Result<runtree_store::SaveSession> {
    actor
        .lies
        .rounds_name_nothing(actor.fault == Fault::HitInRound);
    let session = actor.store.begin_save();
    actor.lies.rounds_name_nothing(false);
    session
}

/// The faulty way: confirmed by hand.
fn force(
    store: &Store,
    run: RunId,
    key: SaveKey,
    part: &runtree_store::PublishedPart,
) -> Result<()> {
    let component = &part.manifest().component;
    let hash = store.read_part(run, key, component, 0)?.1;
    let path = layout::part_confirmation(run, key, component, 0);
    let confirmed = store.create_record(&path, &PartConfirmation { hash })?;
    confirmed.or_conflict(|| format!("{path} says something else"))
}

fn manifest(run: RunId, key: SaveKey, chunks: Vec<ChunkRecord>) -> PartManifest {
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
        run,
        key,
        component: ComponentName::trainer(),
        rank: 0,
        parts: BTreeMap::from([(ComponentName::trainer(), 1)]),
        sharded: false,
        name: None,
        created: Timestamp(key.step.0),
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

/// One of the world's few contents: states of a tensor, a few bytes away from each other.
pub(super) fn content(which: usize) -> Bytes {
    let mut dice = super::Dice::new(7);
    let mut bytes: Vec<u8> = (0..CONTENT_BYTES)
        .map(|_| (dice.roll() % 11) as u8)
        .collect();
    bytes[which] += 100;
    Bytes::from(bytes)
}

/// The content of a hash.
pub(super) fn content_of(hash: ChunkHash) -> Option<Bytes> {
    (0..CONTENTS)
        .map(content)
        .find(|data| checksum(data).hash == hash)
}

/// The hashes of everything a saver may save.
pub(super) fn all_hashes() -> impl Iterator<Item = ChunkHash> {
    static HASHES: std::sync::OnceLock<Vec<ChunkHash>> = std::sync::OnceLock::new();
    let all = || {
        (0..CONTENTS)
            .map(|which| checksum(&content(which)).hash)
            .collect()
    };
    HASHES.get_or_init(all).iter().copied()
}

/// Puts what nobody needs any more: raw what savers will find, and encoded what may be taken for a base and be gone a moment later.
pub(super) fn put_garbage(store: &Store) -> Result<()> {
    let session = store.begin_save()?;
    for which in 0..CONTENTS {
        let data = content(which);
        let sum = checksum(&data);
        let chunk = session.put_chunk(data, sum)?.record;
        if which >= SAVED {
            store.encode_chunk(&chunk, None, None, &store.list_rounds()?)?;
        }
    }
    Ok(())
}

/// Some checkpoint that is committed, if there is one.
pub(super) fn some_checkpoint(actor: &mut Actor) -> Result<Option<CheckpointName>> {
    let run = actor.runs[actor.dice.below(actor.runs.len())];
    let keys = actor.store.list_commits(run)?;
    if keys.is_empty() {
        return Ok(None);
    }
    let key = keys[actor.dice.below(keys.len())];
    let commit = actor
        .store
        .read_commit(run, key)?
        .ok_or_else(|| Error::internal("a listed commit is gone"))?;
    let is_committed = commit.outcome == runtree_core::manifest::Outcome::Committed;
    Ok(is_committed.then_some(CheckpointName { run, key }))
}
