//! From written chunks to a checkpoint, in the protocol's order, for one part.
//!
//! (1) chunks are in the store and their directories synced, (2) the journal is durable through everything logged before this save, and its
//! position recorded, (3) the part takes its name, (4) the writer looks again and confirms, (5) whoever sees all declared parts confirmed
//! commits, (6) the outcome is read back, (7) the journal says so. A newer attempt is looked for before (3) and before (5): a fenced launch never commits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use runtree_core::manifest::{CheckpointName, JournalPosition, Outcome, PartManifest, PinRecord};
use runtree_core::{AttemptNumber, Error, Result, RunId, SaveKey, WriterId};
use runtree_store::{CommitProgress, ConfirmedPart};

use super::committer::{PARTS_TIMEOUT, RunSaves};
use super::progress::{Ended, PartsHere, Progress};
use super::request::Role;
use super::write::{Writing, cancelled};
use crate::engine::Engine;

/// Who saves: the live run of a process, or a tool that imports.
pub(crate) trait Owner: Send + Sync {
    /// The open store.
    fn engine(&self) -> &Arc<Engine>;
    /// The run.
    fn run(&self) -> RunId;
    /// The launch that saves.
    fn attempt(&self) -> AttemptNumber;
    /// Whether nothing but chance names the launch, so that no other process can be part of it.
    fn launch_key_is_random(&self) -> bool;
    /// Its saves.
    fn saves(&self) -> &RunSaves;
    /// Makes everything logged before durable; says how far the journal is, and notices a newer launch.
    fn flush(&self) -> Result<JournalPosition>;
    /// The error of a launch whose run continues elsewhere, if that is known; reads nothing.
    fn known_fence(&self) -> Option<Error>;
    /// Refuses if the run continues elsewhere, looking at the store now.
    fn check_fence(&self) -> Result<()>;
    /// Journals that a commit was written, durably if the disk lets it: without the commit this is all that says that there was one.
    /// `made_commit`: whether it was this process that made it, of all whose parts are in it.
    fn saved(&self, key: SaveKey, made_commit: bool);
    /// Whether a part that can not be written now will never be.
    fn is_last_hope(&self) -> bool {
        true
    }
    /// Warns the user once, and remembers for `finish`.
    fn save_failed(&self, key: SaveKey, error: Error);
}

/// A save that the committer looks after.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) progress: Arc<Progress>,
    pub(crate) role: Arc<Role>,
    writing: Arc<Writing>,
    /// What the part will say; taken when it is published.
    part: Mutex<Option<PartManifest>>,
    confirmed: Mutex<Option<ConfirmedPart>>,
    pin: Option<CheckpointName>,
}

impl Active {
    pub(crate) fn new(
        progress: Arc<Progress>,
        role: Arc<Role>,
        writing: Arc<Writing>,
        part: PartManifest,
        pin: Option<CheckpointName>,
    ) -> Self {
        Self {
            progress,
            role,
            writing,
            part: Mutex::new(Some(part)),
            confirmed: Mutex::new(None),
            pin,
        }
    }
}

impl Active {
    /// Whether everything is there for a note by which the next process could finish this save.
    pub(crate) fn wants_note(&self) -> bool {
        self.writing.outlive.is_waiting()
    }

    /// Leaves that note. Where it can not be written the save does not outlive the process, and that is all.
    pub(crate) fn leave_note(&self, owner: &dyn Owner) {
        let part = self
            .part
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let pin = self.pin.is_some();
        self.writing.outlive.leave_note(owner, part, pin);
    }

    /// Takes the note away, and lets go of the memory that it speaks of.
    pub(crate) fn let_go(&self) {
        self.writing.outlive.let_go();
    }
}

/// The journal position of a draft, replaced when the part is published.
pub(crate) fn no_position() -> JournalPosition {
    JournalPosition {
        writer: WriterId::from_bits(0),
        ordinal: 0,
        hash: 0,
    }
}

/// Publishes and confirms the part of a save whose chunks are written, and tries to commit.
///
/// A part that can not be written will never come: the save is given up in the store at once, as far as the store can be written to, so that the
/// other ranks learn it now and not when their patience ends. A `Conflict` is different: another process has the name, and its part counts.
pub(crate) fn publish(owner: &dyn Owner, save: &Active) -> Result<Option<Ended>> {
    let published = publish_part(owner, save);
    let error = match &published {
        Err(error) => Some(error),
        Ok(Some(Ended::Failed(error))) => Some(error.as_ref()),
        Ok(_) => None,
    };
    let hopeless = owner.is_last_hope()
        && error.is_some_and(|error| error.kind() != runtree_core::ErrorKind::Conflict);
    if hopeless && save.role.part_count() > 1 && save.progress.published().is_none() {
        let store = owner.engine().store();
        // Best effort: if this can not be written either, the others wait until they give up by themselves.
        let _ = store.abandon(owner.run(), save.progress.key());
    }
    published
}

fn publish_part(owner: &dyn Owner, save: &Active) -> Result<Option<Ended>> {
    if save.progress.is_cancelled() {
        return Ok(Some(Ended::Declined(Arc::new(cancelled(&save.progress)))));
    }
    let chunks = match save.progress.take_chunks() {
        Ok(chunks) => chunks,
        Err(error) => return Ok(Some(Ended::Failed(error))),
    };
    // Where there is a note, everything logged before the save is durable since it was written.
    let journal = match save.writing.outlive.position() {
        Some(position) => position,
        None => owner.flush()?,
    };
    owner.check_fence()?;
    let part = save
        .part
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let part = part.ok_or_else(|| Error::internal("a part was published twice"))?;
    let session = save.writing.take_session()?;
    let published = session
        .publish(PartManifest {
            chunks,
            journal,
            ..part
        })
        .map_err(|error| explain_conflict(error, &save.role))?;
    let confirmed = published.confirm(|chunk| Ok(save.writing.kept(&chunk.hash)))?;
    save.writing.keep_nothing();
    save.let_go();
    save.progress.set_published(confirmed.hash());
    save.progress
        .keep_waiting_until(Instant::now() + PARTS_TIMEOUT);
    *save
        .confirmed
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(confirmed);
    try_commit(owner, save)
}

/// Commits if all parts are confirmed; otherwise says nothing yet, or gives up.
pub(crate) fn try_commit(owner: &dyn Owner, save: &Active) -> Result<Option<Ended>> {
    let key = save.progress.key();
    owner.check_fence()?;
    let confirmed = save
        .confirmed
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let confirmed = confirmed
        .as_ref()
        .ok_or_else(|| Error::internal("a save is committed before its part is confirmed"))?;
    let record = match confirmed.try_commit()? {
        CommitProgress::Decided(record) => record,
        CommitProgress::Waiting { present, .. } => {
            let mut here = PartsHere::new();
            for (component, rank) in present {
                here.entry(component).or_default().push(rank);
            }
            save.progress.set_parts_here(here);
            let late = save
                .progress
                .gives_up_at()
                .is_some_and(|at| at <= Instant::now());
            return if late {
                Err(missing_parts(key, &save.role, &save.progress.parts_here()))
            } else {
                Ok(None)
            };
        }
    };
    if record.outcome == Outcome::Abandoned {
        return Err(Error::conflict(format!(
            "save {key} was given up by another process before all its parts were there"
        ))
        .with_hint("another rank could not write its part (its own error says why), or a later launch of the run took the save for dead"));
    }
    let ours = record.parts.iter().any(|part| {
        part.component == save.role.component
            && part.rank == save.role.rank
            && part.hash == confirmed.hash()
    });
    if !ours {
        return Err(Error::conflict(format!(
            "checkpoint {key} was committed without this part of {} rank {}",
            save.role.component, save.role.rank
        ))
        .with_hint("pass the same parts= on every process"));
    }
    // Read back: what is acknowledged is what a reader finds. It is durable since it was decided.
    let found = owner.engine().store().read_commit(owner.run(), key)?;
    if found.as_ref() != Some(&record) {
        return Err(Error::corrupt(format!(
            "the commit of save {key} reads back differently"
        )));
    }
    if let Some(checkpoint) = save.pin {
        pin(owner.engine(), checkpoint)
            .map_err(|error| error.in_context("the checkpoint exists but is not pinned"))?;
    }
    owner.saved(key, confirmed.made_commit());
    Ok(Some(Ended::Committed))
}

fn pin(engine: &Engine, checkpoint: CheckpointName) -> Result<()> {
    let id = runtree_core::CheckpointId::of(checkpoint.run, checkpoint.key);
    let record = PinRecord {
        checkpoint,
        reason: "save(pin=True)".to_owned(),
        created: engine.options.clock.now(),
        ttl_seconds: None,
    };
    engine.store().write_pin(&format!("{id}"), &record)
}

/// A second rank that saves an unsharded state finds the first one's part: that has a hint of its own.
fn explain_conflict(error: Error, role: &Role) -> Error {
    if error.kind() != runtree_core::ErrorKind::Conflict || role.sharded || role.process_rank == 0 {
        return error;
    }
    error
        .in_context(format!(
            "rank {} saved what another rank saves",
            role.process_rank
        ))
        .with_hint("save on rank 0 only, or pass sharded=True")
}

/// Which parts are here, in words.
pub(crate) fn missing_parts(key: SaveKey, role: &Role, here: &PartsHere) -> Error {
    let count: usize = here.values().map(Vec::len).sum();
    let total = role.part_count();
    let which = if role.parts.len() == 1 {
        ranks(here.get(&role.component))
    } else {
        let each: Vec<String> = role
            .parts
            .keys()
            .map(|component| format!("{component}: {}", ranks(here.get(component))))
            .collect();
        each.join("; ")
    };
    Error::unavailable(format!(
        "save {key}: {count} of {total} parts here ({which}); are all ranks on the same store?"
    ))
    .with_hint("every declared rank must call save for this step; see RUNTREE_STORE on each host")
}

fn ranks(here: Option<&Vec<u32>>) -> String {
    match here.map(Vec::as_slice) {
        None | Some([]) => "none".to_owned(),
        Some([rank]) => format!("rank {rank}"),
        Some(ranks) => {
            let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
            format!("ranks {}", ranks.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use runtree_core::ComponentName;

    use super::*;

    #[test]
    fn missing_parts_are_named() {
        let role = Role {
            component: ComponentName::trainer(),
            rank: 0,
            process_rank: 0,
            parts: BTreeMap::from([(ComponentName::trainer(), 8)]),
            sharded: true,
        };
        let here = PartsHere::from([(ComponentName::trainer(), vec![0, 1])]);
        let key: SaveKey = "1-500-0".parse().unwrap();
        assert_eq!(
            missing_parts(key, &role, &here).message(),
            "save 1-500-0: 2 of 8 parts here (ranks 0, 1); are all ranks on the same store?"
        );
    }
}
