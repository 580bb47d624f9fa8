//! Reads what is new about one run, and hands it to the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runtree_core::manifest::{CheckpointName, TombstoneRecord};
use runtree_core::{AttemptNumber, ComponentName, ErrorKind, Result, RunId, SaveKey, WriterId};
use runtree_index::{FoldItem, Frame, FrameContent, FrameRange, Index, JournalCursor, PartFacts};
use runtree_metrics::{Limits, PointsBatch};
use runtree_store::{Cursor, FrameKind, JournalReader, layout};

use crate::engine::Engine;

/// Frames of at most about this many bytes are folded in one transaction.
const RANGE_BYTES: usize = 8 << 20;
/// At most this many frames are.
const RANGE_FRAMES: usize = 2048;
/// How often a fold that met another one tries again.
const TRIES: usize = 8;

/// What is folded of a run already, so that a growing run is not read from its beginning each second. Immutable objects that were
/// folded once never need to be read again.
#[derive(Debug, Default)]
pub(super) struct Known {
    born: bool,
    attempts: BTreeSet<AttemptNumber>,
    /// Decided checkpoints.
    decided: BTreeSet<SaveKey>,
    /// Parts, and whether they were confirmed when they were read.
    parts: BTreeMap<(SaveKey, ComponentName, u32), bool>,
    /// Highest tombstone of each checkpoint.
    tombstones: BTreeMap<SaveKey, u64>,
    cursors: HashMap<WriterId, JournalCursor>,
}

impl Known {
    /// What the index holds of the run.
    pub(super) fn load(index: &impl Index, run: RunId) -> Result<Self> {
        let snapshot = index.snapshot()?;
        let mut known = Self::default();
        for attempt in snapshot.attempts(run)? {
            known.attempts.insert(attempt.record.attempt);
        }
        known.born = !snapshot
            .find_runs(None, &runtree_index::RunLookup::Prefix(run.to_string()))?
            .is_empty();
        for row in snapshot.checkpoints(run)? {
            let key = row.name.key;
            if row.outcome.is_some() {
                known.decided.insert(key);
            }
            if let Some((number, _)) = row.tombstone {
                known.tombstones.insert(key, u64::from(number));
            }
            for part in row.parts.into_iter().filter(|part| part.present) {
                known
                    .parts
                    .insert((key, part.component, part.rank), part.confirmed);
            }
        }
        for writer in snapshot.writers(run)? {
            known.cursors.insert(writer.writer, writer.cursor);
        }
        Ok(known)
    }
}

impl Engine {
    pub(super) fn fold_run_objects(&self, run: RunId, known: &mut Known) -> Result<()> {
        let mut items = Vec::new();
        if !known.born {
            match self.store.read_run(run) {
                Ok(record) => items.push(FoldItem::RunBorn(Box::new(record))),
                // A birth that is not finished: the key is claimed, the record not yet written.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for attempt in self.store.list_attempts(run)? {
            if !known.attempts.contains(&attempt) {
                let record = self.store.read_attempt(run, attempt)?;
                items.push(FoldItem::Attempt(Box::new(record)));
                known.attempts.insert(attempt);
            }
        }
        self.fold_checkpoints(run, known, &mut items)?;
        if !items.is_empty() {
            self.index.apply(&items)?;
        }
        known.born = true;
        for journal in self.store.list_journals(run)? {
            let cursor = known.cursors.get(&journal.writer);
            if cursor.is_none_or(|cursor| cursor.offset < journal.bytes) {
                self.fold_journal(run, journal.writer, known)?;
            }
        }
        Ok(())
    }

    fn fold_checkpoints(
        &self,
        run: RunId,
        known: &mut Known,
        items: &mut Vec<FoldItem>,
    ) -> Result<()> {
        let commits = self.store.list_commits(run)?;
        let pending = self.store.list_pending(run)?;
        let new = commits.iter().filter(|key| !known.decided.contains(key));
        let new: Vec<SaveKey> = new.copied().collect();
        for &key in new.iter().chain(&pending) {
            for part in self.store.list_parts(run, key)? {
                let id = (key, part.component.clone(), part.rank);
                if known
                    .parts
                    .get(&id)
                    .is_some_and(|&seen| seen == part.confirmed)
                {
                    continue;
                }
                match self.store.read_part(run, key, &part.component, part.rank) {
                    Ok((manifest, _)) => {
                        let facts = PartFacts::of(&manifest, part.confirmed);
                        items.push(FoldItem::Part(Box::new(facts)));
                    }
                    // A damaged part is what loads and `verify` complain about; the run's other facts are shown all the same.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {}
                    Err(error) => return Err(error),
                }
                known.parts.insert(id, part.confirmed);
            }
        }
        for key in new {
            match self.store.read_commit(run, key) {
                Ok(Some(commit)) => {
                    items.push(FoldItem::Commit(commit));
                    known.decided.insert(key);
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        for (key, number) in self.store.list_tombstones(run)? {
            if known
                .tombstones
                .get(&key)
                .is_some_and(|&seen| seen >= number)
            {
                continue;
            }
            let record: TombstoneRecord = self
                .store
                .read_record(&layout::tombstone(run, key, number))?;
            items.push(FoldItem::Tombstone {
                checkpoint: CheckpointName { run, key },
                number: u32::try_from(number).unwrap_or(u32::MAX),
                record,
            });
            known.tombstones.insert(key, number);
        }
        Ok(())
    }

    fn fold_journal(&self, run: RunId, writer: WriterId, known: &mut Known) -> Result<()> {
        let mut tries = 0;
        let mut before = match known.cursors.get(&writer) {
            Some(cursor) => *cursor,
            None => self.index.cursor(run, writer)?,
        };
        loop {
            let mut reader = JournalReader::open(&self.store, run, writer, to_store(before))?;
            let conflict = loop {
                let (range, more) = read_range(&mut reader, run, writer, before)?;
                let after = range.after;
                if after != before {
                    match self.index.apply(&[FoldItem::Frames(range)]) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                            break true;
                        }
                        Err(error) => return Err(error),
                    }
                    before = after;
                    known.cursors.insert(writer, after);
                }
                if !more {
                    break false;
                }
            };
            if !conflict {
                return Ok(());
            }
            // Somebody else folded some of these frames: go on where the index stands.
            tries += 1;
            before = self.index.cursor(run, writer)?;
        }
    }
}

/// Reads frames until the range is large enough or the journal ends; says whether there may be more.
fn read_range(
    reader: &mut JournalReader,
    run: RunId,
    writer: WriterId,
    before: JournalCursor,
) -> Result<(FrameRange, bool)> {
    let mut frames = Vec::new();
    let mut bytes = 0;
    let mut more = true;
    while bytes < RANGE_BYTES && frames.len() < RANGE_FRAMES {
        let Some(frame) = reader.next_frame()? else {
            more = false;
            break;
        };
        bytes += frame.payload.len();
        let content = match frame.kind {
            FrameKind::Event => FrameContent::Event(frame.event()?),
            FrameKind::Points => {
                FrameContent::Points(PointsBatch::decode(&frame.payload, Limits::default())?)
            }
        };
        frames.push(Frame {
            ordinal: frame.ordinal,
            content,
        });
    }
    let after = from_store(reader.cursor());
    Ok((
        FrameRange {
            run,
            writer,
            before,
            after,
            frames,
        },
        more,
    ))
}

fn to_store(cursor: JournalCursor) -> Cursor {
    Cursor {
        offset: cursor.offset,
        ordinal: cursor.ordinal,
        hash: cursor.hash,
    }
}

fn from_store(cursor: Cursor) -> JournalCursor {
    JournalCursor {
        offset: cursor.offset,
        ordinal: cursor.ordinal,
        hash: cursor.hash,
    }
}
