//! A run that logs media: chunks that a journal names.

use runtree_core::{Result, WriterId};
use runtree_store::{FileList, checksum};

use super::Fault;
use super::saver::{SAVED, begin, content, content_of};
use super::world::Actor;

/// Batches of one scribe.
const BATCHES: usize = 4;

/// Logs a few batches. What it would journal the bank is told.
pub(super) fn write(actor: &mut Actor) -> Result<()> {
    let mut list = FileList::new(actor.runs[0], WriterId::from_bits(99));
    for _ in 0..BATCHES {
        actor.idle()?;
        let session = begin(actor)?;
        let data = content(actor.dice.below(SAVED));
        let sum = checksum(&data);
        let chunk = session.put_chunk(data, sum)?.record;
        match actor.fault {
            Fault::UnlistedFiles => session.make_durable()?,
            fault => {
                if matches!(fault, Fault::NoSecondLook | Fault::LookBeforePublishing) {
                    actor.freeze_rounds();
                }
                session.publish_files(&mut list, |chunk| Ok(content_of(chunk.hash)))?;
                actor.lies.thaw_rounds();
            }
        }
        actor.bank().journal([&chunk]);
    }
    Ok(())
}
