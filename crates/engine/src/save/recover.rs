//! The other end of [`super::outlive`]: saves that were staged when their process died, written by the next one that starts a run of the store.
//!
//! Nothing here is special to a reader: the same writers put the same chunks, and the same committer publishes, confirms and commits. Whatever the dead process
//! had put already is found by its hash. What becomes of a note:
//!
//! | | note |
//! |---|---|
//! | its save is a checkpoint, or its part is there | goes |
//! | nobody wants it: it is decided, or somebody went on with the run since | goes |
//! | it can not be written now (a full disk) | stays; its run does not start before it is written, or given up by starting with `RUNTREE_STAGING_DIR=none` |
//! | it can not be written at all (its memory is gone) | goes, with a warning |
//! | nobody came for it for [`KEEP`] | goes: the memory belongs to a machine, and its owner may not come back |

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use runtree_core::event::Event;
use runtree_core::manifest::{AttemptRecord, CheckpointName, Record as _};
use runtree_core::{Error, ErrorKind, Result, RunId};
use runtree_shm::{Abandoned, sweep, tidy};
use runtree_store::{Cursor, JournalReader};

use super::commit::{Active, Owner};
use super::committer::RunSaves;
use super::outlive::{StagedRecord, location};
use super::pending::share;
use super::progress::{Ended, Progress};
use super::request::Role;
use super::stage::Sink as _;
use super::tool::Tool;
use super::write::{ChunkJobs, Writing};
use crate::engine::Engine;
use crate::live::{Warning, WarningKind};

/// How long all that was recovered waits for parts of ranks that left theirs on other machines.
const PARTS_PATIENCE: Duration = Duration::from_secs(10);
/// How long what nobody comes for is kept.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What became of the saves that were found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// What is lost, in words.
    lost: Vec<String>,
    /// What could not be written now.
    left: Vec<(RunId, String)>,
}

/// A save of a process that is gone, on its way again.
struct Recovering<'r> {
    room: &'r Abandoned,
    note: String,
    record: StagedRecord,
    tool: Arc<Tool>,
    progress: Arc<Progress>,
}

impl Recovered {
    /// What users are told.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Warning> + '_ {
        let left = self.left.iter().map(|(_, text)| text);
        self.lost.iter().chain(left).map(|text| Warning {
            kind: WarningKind::Save,
            message: text.clone(),
        })
    }

    /// Refuses to start a run of which something is left: whoever goes on without it gives it up, and that is not for us to decide.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn require_nothing_left(&self, run: RunId) -> Result<()> {
        match self.left.iter().find(|(of, _)| *of == run) {
            None => Ok(()),
            Some((_, text)) => Err(Error::unavailable(text.clone()).with_hint(
                "start again when there is space; RUNTREE_STAGING_DIR=none gives it up and starts from the checkpoint before",
            )),
        }
    }

    fn fail(&mut self, room: &Abandoned, note: &str, record: &StagedRecord, error: &Error) {
        let text = format!(
            "the save of step {} was staged when its process died, and can not be written: {}",
            record.part.key.step,
            error.chain()
        );
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied) {
            self.left.push((record.part.run, text));
        } else {
            self.lost.push(text);
            let _ = room.remove_note(note);
        }
    }
}

impl Engine {
    /// Writes what processes that are gone had staged for this store ([`Engine::stage_in`]), and waits for whoever is doing so. [`Engine::start_run`] does it if nobody
    /// did before; it takes as long as the disk needs.
    pub fn recover_staged(self: &Arc<Self>) {
        let base = self.saver().base().clone();
        let mut recovered = Recovered::default();
        if let Some(base) = base
            && let Err(error) = self.recover_below(&base, &mut recovered)
            // Where nothing can be staged so, nothing was.
            && !matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            )
        {
            recovered.lost.push(format!(
                "what a process before this one had staged can not be looked for: {error}"
            ));
        }
        let saver = self.saver();
        let mut kept = saver
            .recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(recovered);
    }

    /// What became of what was staged.
    pub(crate) fn take_recovered(self: &Arc<Self>) -> Recovered {
        let take = || {
            let kept = &self.saver().recovered;
            kept.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        take().unwrap_or_else(|| {
            self.recover_staged();
            take().unwrap_or_default()
        })
    }

    fn recover_below(self: &Arc<Self>, base: &Path, recovered: &mut Recovered) -> io::Result<()> {
        let now = UNIX_EPOCH + Duration::from_micros(u64::try_from(self.now().0).unwrap_or(0));
        let before = now.checked_sub(KEEP).unwrap_or(UNIX_EPOCH);
        let found = sweep(base, &self.shelf())?;
        let mut begun = Vec::new();
        for room in &found.rooms {
            // What can not be read in one says nothing of the others.
            for note in room.notes().unwrap_or_default() {
                begun.extend(self.begin_noted(room, note, before, recovered));
            }
        }
        wait_for(&begun);
        for save in &begun {
            save.settle(recovered);
        }
        drop(begun);
        for room in &found.rooms {
            let _ = room.tidy(before);
        }
        drop(found);
        tidy(base, before)
    }

    /// Has the save of a note written, if somebody wants it; takes the note away if nobody does.
    fn begin_noted<'r>(
        self: &Arc<Self>,
        room: &'r Abandoned,
        note: String,
        before: SystemTime,
        recovered: &mut Recovered,
    ) -> Option<Recovering<'r>> {
        // Neither what a newer runtree wrote nor what is too old is touched here: it is tidied away in time.
        if room.written(&note).ok()? < before {
            return None;
        }
        let record = StagedRecord::load(&room.read_note(&note).ok()?, &note).ok()?;
        if record.store != self.store.id() || record.location != location(self) {
            return None;
        }
        let begun = self.find_wanted(&record).and_then(|launch| {
            let Some(launch) = launch else {
                let _ = room.remove_note(&note);
                return Ok(None);
            };
            self.begin(room, &record, launch).map(Some)
        });
        match begun {
            Ok(Some((tool, progress))) => Some(Recovering {
                room,
                note,
                record,
                tool,
                progress,
            }),
            Ok(None) => None,
            Err(error) => {
                recovered.fail(room, &note, &record, &error);
                None
            }
        }
    }

    /// The launch that saved, if the save is undecided and nobody went on with the run since: neither as a newer launch, nor by joining this one.
    fn find_wanted(&self, record: &StagedRecord) -> Result<Option<AttemptRecord>> {
        let (run, key) = (record.part.run, record.part.key);
        let launch = match self.store.read_attempt(run, key.attempt) {
            Ok(launch) => launch,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_wanted = self.store.read_commit(run, key)?.is_none()
            && self.find_rival(&launch).is_none()
            && !self.was_joined_since(record)?;
        Ok(is_wanted.then_some(launch))
    }

    /// Whether a process that trains has written to the run which had not when the note was left.
    fn was_joined_since(&self, record: &StagedRecord) -> Result<bool> {
        let run = record.part.run;
        // A journal whose beginning was sealed and collected held points: it belonged to a launch.
        let sealed = self.store.list_segments(run)?;
        if sealed
            .iter()
            .any(|name| !record.writers.contains(&name.writer))
        {
            return Ok(true);
        }
        for journal in self.store.list_journals(run)? {
            if record.writers.contains(&journal.writer) {
                continue;
            }
            let mut reader = JournalReader::open(&self.store, run, journal.writer, Cursor::START)?;
            let first = reader.next_frame()?.and_then(|frame| frame.event().ok());
            // Tools belong to no launch. Of a journal without a first frame nobody knows: its writer may be about to write it.
            if !matches!(first, Some(Event::Opened { attempt: None, .. })) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Has a save written.
    fn begin(
        self: &Arc<Self>,
        room: &Abandoned,
        record: &StagedRecord,
        launch: AttemptRecord,
    ) -> Result<(Arc<Tool>, Arc<Progress>)> {
        let chunks = staged_chunks(room, record)?;
        let part = &record.part;
        let saves = RunSaves::default();
        let tool = Tool::open(self, part.run, part.key.attempt, saves, "recover")?;
        let tool = Arc::new(tool.in_place_of(launch, part.journal));
        let owner: Arc<dyn Owner> = tool.clone();
        let progress = Progress::new(part.key, chunks.len());
        let writing = Arc::new(Writing::recovered(self.store.clone()));
        let jobs = ChunkJobs {
            engine: Arc::clone(self),
            writing: Arc::clone(&writing),
            progress: Arc::clone(&progress),
            waker: owner.saves().waker(),
        };
        for (index, bytes) in chunks.into_iter().enumerate() {
            jobs.submit(index, bytes);
        }
        progress.set_staged();
        let role = Arc::new(Role {
            component: part.component.clone(),
            rank: part.rank,
            process_rank: part.rank,
            parts: part.parts.clone(),
            sharded: part.sharded,
        });
        let pin = record.pin.then_some(CheckpointName {
            run: part.run,
            key: part.key,
        });
        let active = Active::new(Arc::clone(&progress), role, writing, part.clone(), pin);
        owner.saves().add(&owner, Arc::new(active));
        Ok((tool, progress))
    }
}

/// Waits until every part is there, and then a little for those of other machines, all together.
fn wait_for(begun: &[Recovering<'_>]) {
    for save in begun {
        save.progress.wait_published(Instant::now() + FOREVER);
    }
    let deadline = Instant::now() + PARTS_PATIENCE;
    for save in begun {
        let is_alone = save.record.part.parts.values().sum::<u32>() == 1;
        save.progress.wait((!is_alone).then_some(deadline));
    }
}

impl Recovering<'_> {
    /// Takes the note away if the save, or at least its part, needs the memory no more.
    fn settle(&self, recovered: &mut Recovered) {
        let _ = self.tool.close();
        match self.progress.outcome() {
            Some(Ended::Declined(error) | Ended::Failed(error))
                if self.progress.published().is_none() =>
            {
                recovered.fail(self.room, &self.note, &self.record, &share(&error));
            }
            // A note that can not be taken away is found unwanted the next time.
            _ => drop(self.room.remove_note(&self.note)),
        }
    }
}

/// The chunks of a save, as they lie in a room.
fn staged_chunks(room: &Abandoned, record: &StagedRecord) -> Result<Vec<Bytes>> {
    let segments: Vec<Bytes> = record
        .segments
        .iter()
        .map(|name| room.memory(name).map(Bytes::from_owner))
        .collect::<io::Result<_>>()
        .map_err(|error| Error::corrupt("its memory is gone").with_source(error))?;
    record
        .places
        .iter()
        .map(|place| {
            let segment = segments.get(place.segment as usize)?;
            let end = place.offset.checked_add(place.bytes)?;
            (end <= segment.len() as u64)
                .then(|| segment.slice(place.offset as usize..end as usize))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::corrupt("its note speaks of memory that is not there"))
}
