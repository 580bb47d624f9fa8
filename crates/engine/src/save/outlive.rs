//! How a staged save outlives its process: a note beside the memory that says what it is and where it belongs (docs/design/0006).
//!
//! The order: everything staged, the journal durable through what was logged before the save, the note. And back: the part confirmed, the note removed, the
//! memory used again. So whoever finds a note finds memory that nothing has written to since, and a journal without a hole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use runtree_core::manifest::{JournalPosition, PartManifest, Record};
use runtree_core::{RunId, StoreId, WriterId};
use runtree_shm::Room;
use serde::{Deserialize, Serialize};

use super::commit::Owner;
use crate::engine::Engine;

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedPlace {
    /// Index of its segment.
    pub(crate) segment: u32,
    /// Its first byte there.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) bytes: u64,
}

/// The memory of a save that is staged whole.
#[derive(Debug)]
pub(crate) struct Held {
    /// Where its segments have their names.
    pub(crate) room: Arc<Room>,
    /// Its segments.
    pub(crate) memory: Vec<Bytes>,
    /// Their names.
    pub(crate) names: Vec<String>,
    /// Where its chunks lie in them, by index.
    pub(crate) places: Vec<StagedPlace>,
}

/// The note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedRecord {
    /// The store that it belongs to.
    pub(crate) store: StoreId,
    /// Where that is: a copy of a store has its id.
    pub(crate) location: String,
    /// The part, but for the chunks. Its journal is durable that far.
    pub(crate) part: PartManifest,
    /// Whether to pin the checkpoint.
    pub(crate) pin: bool,
    /// Everybody who had written to the run: whoever comes later may have gone on without this save.
    pub(crate) writers: Vec<WriterId>,
    /// Names of the segments.
    pub(crate) segments: Vec<String>,
    /// Where the chunks lie in them.
    pub(crate) places: Vec<StagedPlace>,
}

impl Record for StagedRecord {
    const FORMAT: &'static str = "runtree.staged";
    const VERSION: u32 = 1;
    const CHECKED: bool = true;
}

/// What a save does to outlive its process.
#[derive(Debug, Default)]
pub(crate) struct Outlive(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing: it is not staged yet, or does not lie in memory that outlives the process, or is done.
    #[default]
    Nothing,
    /// It could.
    Waiting(Held),
    /// It does.
    Noted(Noted),
    /// It must not.
    Cancelled,
}

#[derive(Debug)]
struct Noted {
    room: Arc<Room>,
    name: String,
    position: JournalPosition,
    memory: Vec<Bytes>,
}

impl Outlive {
    /// Takes what is staged.
    pub(crate) fn hold(&self, held: Held) {
        self.set(State::Waiting(held));
    }

    /// Whether a note could be left.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(*self.lock(), State::Waiting(_))
    }

    /// How far the journal is durable, if there is a note.
    pub(crate) fn position(&self) -> Option<JournalPosition> {
        match &*self.lock() {
            State::Noted(noted) => Some(noted.position),
            _ => None,
        }
    }

    /// Leaves the note of a save of `part`.
    pub(crate) fn leave_note(&self, owner: &dyn Owner, part: Option<PartManifest>, pin: bool) {
        let waiting = {
            let mut state = self.lock();
            match &*state {
                State::Waiting(_) => std::mem::take(&mut *state),
                _ => return,
            }
        };
        if let (State::Waiting(held), Some(part)) = (waiting, part)
            && let Some(noted) = note(owner, held, part, pin)
        {
            self.set(State::Noted(noted));
        }
    }

    /// Takes the note away and lets go of the memory.
    pub(crate) fn let_go(&self) {
        self.set(State::Nothing);
    }

    /// The same, and there will be none.
    pub(crate) fn cancel(&self) {
        self.set(State::Cancelled);
    }

    /// What was cancelled stays so.
    fn set(&self, state: State) {
        let old = {
            let mut now = self.lock();
            match *now {
                State::Cancelled => state,
                _ => std::mem::replace(&mut *now, state),
            }
        };
        // Without the lock: a note is a file, and somebody may be asking how the save is.
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(owner: &dyn Owner, held: Held, part: PartManifest, pin: bool) -> Option<Noted> {
    let engine = owner.engine();
    // If the journal can not be written, publishing meets the same disk, and says so.
    let position = owner.flush().ok()?;
    let name = format!("{}-{}-{}-{}", part.run, part.key, part.component, part.rank);
    let record = StagedRecord {
        store: engine.store().id(),
        location: location(engine),
        part: PartManifest {
            journal: position,
            ..part
        },
        pin,
        writers: writers_of(engine, owner.run())?,
        segments: held.names,
        places: held.places,
    };
    held.room
        .write_note(&name, &record.segments, &record.to_bytes())
        .ok()?;
    Some(Noted {
        room: held.room,
        name,
        position,
        memory: held.memory,
    })
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.room.remove_note(&self.name).is_err() {
            // The note still speaks of this memory: nothing else may ever lie there.
            std::mem::forget(std::mem::take(&mut self.memory));
        }
    }
}

/// Where a store is, whatever name it was opened by.
pub(crate) fn location(engine: &Engine) -> String {
    let path = &engine.options.location;
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    real.display().to_string()
}

/// Whoever has written to a run, those included whose journals are gone because they were sealed.
fn writers_of(engine: &Engine, run: RunId) -> Option<Vec<WriterId>> {
    let sealed = engine.store().list_segments(run).ok()?;
    let journals = engine.store().list_journals(run).ok()?;
    let mut writers: Vec<WriterId> = journals.iter().map(|journal| journal.writer).collect();
    writers.extend(sealed.iter().map(|segment| segment.writer));
    writers.sort_unstable();
    writers.dedup();
    Some(writers)
}
