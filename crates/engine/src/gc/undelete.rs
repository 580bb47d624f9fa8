//! Taking a checkpoint out of the trash, while collectors may be emptying it.
//!
//! 1. Intent: a short lease on it. For every collection that begins from now on it is needed.
//! 2. W4: whatever an earlier collection condemned is put again while it can still be read; what is gone is gone, and the lease is taken back.
//! 3. `restored` is written, and the lease taken back: collectors look for leases before they look for tombstones, so one of the two is always seen.

use bytes::Bytes;
use runtree_core::manifest::{CheckpointName, PinRecord, TombstoneRecord};
use runtree_core::{CheckpointId, Error, Result, Timestamp, WriterId};
use runtree_store::{Store, Tombstone};

use super::rely::chunks_of;

/// How long an intent holds if its holder dies: longer than looking at a checkpoint and putting what is condemned takes.
const INTENT_SECONDS: u64 = 3600;

/// Takes a checkpoint out of the trash; `false` if it was not in it. `holder` names the intent and is nobody else's.
///
/// # Errors
/// `NotFound` that says what of it is gone, if a collector was there before; else as the store says.
pub fn undelete(
    store: &Store,
    name: CheckpointName,
    holder: WriterId,
    now: Timestamp,
) -> Result<bool> {
    if !is_deleted(store, name)? {
        return Ok(false);
    }
    let id = CheckpointId::of(name.run, name.key);
    let intent = format!("undelete-{id}-{holder}");
    let lease = PinRecord {
        checkpoint: name,
        reason: "being undeleted".to_owned(),
        created: now,
        ttl_seconds: Some(INTENT_SECONDS),
    };
    store.write_pin(&intent, &lease)?;
    let restored = heal(store, name).and_then(|()| {
        let record = TombstoneRecord {
            checkpoint: name,
            reason: "undelete".to_owned(),
            created: now,
        };
        store.write_tombstone(Tombstone::Restored, &record)
    });
    let taken_back = store.delete_pin(&intent);
    let restored = restored?;
    taken_back?;
    Ok(restored)
}

/// Whether the highest tombstone of a checkpoint says that it is deleted.
pub(crate) fn is_deleted(store: &Store, name: CheckpointName) -> Result<bool> {
    let tombstones = store.list_tombstones(name.run)?;
    Ok(tombstones
        .into_iter()
        .any(|(key, highest)| key == name.key && runtree_store::layout::is_deleted(highest)))
}

/// Makes everything of a checkpoint readable through objects in no open round.
fn heal(store: &Store, name: CheckpointName) -> Result<()> {
    let chunks = chunks_of(store, name)?;
    let rounds = store.list_rounds()?;
    let lost = store.lost_chunks(&chunks, &rounds)?;
    if lost.is_empty() {
        return Ok(());
    }
    // What is condemned can be read until its collector deletes it.
    let session = store.begin_save()?;
    let mut gone = Vec::new();
    for chunk in chunks.iter().filter(|chunk| lost.contains(&chunk.hash)) {
        match store.read_chunk(chunk) {
            Ok(bytes) => {
                let sum = runtree_store::checksum(&bytes);
                session.put_chunk(Bytes::from(bytes), sum)?;
            }
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => gone.push(chunk),
            // Damaged, of a difference whose base is gone, or of a newer build.
            Err(error) => return Err(error),
        }
    }
    let Some(first) = gone.first() else {
        return session.make_durable();
    };
    let bytes: u64 = gone.iter().map(|chunk| chunk.bytes).sum();
    let id = CheckpointId::of(name.run, name.key);
    Err(Error::not_found(format!(
        "checkpoint {id} left the trash: {} of its {} chunks are gone ({bytes} bytes), the first is {}",
        gone.len(),
        chunks.len(),
        first.hash
    ))
    .with_hint("the trash keeps the two checkpoints of a run that were deleted last; pin what must stay"))
}
