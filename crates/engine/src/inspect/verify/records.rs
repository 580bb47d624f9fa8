//! Verifying what is no checkpoint: births, launches, journals, segments, names, pins, attached files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use runtree_core::event::Event;
use runtree_core::manifest::{ChunkRecord, PartConfirmation, RunRecord, TombstoneRecord};
use runtree_core::{ChunkHash, Result, RunId, WriterId};
use runtree_metrics::{Limits, PointsBatch};
use runtree_store::{Cursor, FrameKind, JournalReader, layout};

use crate::engine::Engine;
use crate::fold::damage::{RunDamage, Told, corrupt, missing_attempt, missing_commit};
use crate::fold::sealed::{Sealed, event};

/// What was found, and what else has to be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) problems: Vec<String>,
    /// Chunks of attached files, and whose they are.
    pub(super) chunks: Vec<(ChunkRecord, String)>,
    /// What is wrong with the lists of what journals name.
    pub(super) lists: BTreeMap<RunId, BadLists>,
}

/// Lists of a run that can not be read, and what is in no other.
#[derive(Debug, Default)]
pub(crate) struct BadLists {
    pub(crate) damaged: Vec<(WriterId, u64)>,
    /// Chunks that journals name, and collectors do not know of.
    pub(crate) unlisted: BTreeSet<ChunkHash>,
    pub(crate) problems: Vec<String>,
}

impl Found {
    /// Notes an error that is damage; any other is passed on.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.problems.push(corrupt(error)?);
                Ok(None)
            }
        }
    }
}

/// Reads every pin.
pub(super) fn verify_pins(engine: &Engine, found: &mut Found) -> Result<()> {
    for name in engine.store().list_pins()? {
        match engine.store().read_pin(&name) {
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => {}
            read => {
                found.note(read)?;
            }
        }
    }
    Ok(())
}

/// Reads everything of a run that is no checkpoint.
pub(super) fn verify_run(engine: &Engine, run: RunId, found: &mut Found) -> Result<()> {
    let store = engine.store();
    let attempts = store.list_attempts(run)?;
    match found.note(store.try_read_run(run))? {
        Some(Some(record)) => verify_names(engine, &record, found)?,
        // A birth that was interrupted.
        Some(None) if attempts.is_empty() => return Ok(()),
        Some(None) => found.problems.push(format!(
            "{} is missing, and the run was launched",
            layout::run(run)
        )),
        None => {}
    }
    let mut told = Told::default();
    let mut gaps = RunDamage::default();
    gaps.note_gaps(run, &attempts);
    found.problems.append(&mut gaps.lineage);
    for attempt in attempts {
        found.note(store.read_attempt(run, attempt))?;
    }
    for (attempt, rank) in store.list_seats(run)? {
        found.note(store.find_seat(run, attempt, rank))?;
    }
    verify_saves(engine, run, found)?;
    // Before the journals: a list is there before the event that needs it.
    let first = found.chunks.len();
    let listed = read_lists(engine, run, found)?;
    verify_journals(engine, run, &mut told, found)?;
    verify_lists(engine, run, first, &listed, found);
    let is_copy = store.is_copy(run)?;
    for key in told.saved {
        // Of a run that was born elsewhere a checkpoint may never have been copied.
        if !is_copy && !store.has_commit(run, key)? {
            found.problems.push(missing_commit(run, key));
        }
    }
    let attempts = store.list_attempts(run)?;
    for attempt in told.attempts {
        let text = missing_attempt(layout::attempt(run, attempt).as_ref());
        if !attempts.contains(&attempt) && !found.problems.contains(&text) {
            found.problems.push(text);
        }
    }
    Ok(())
}

/// The chunks that are listed for the journals of a run.
fn read_lists(engine: &Engine, run: RunId, found: &mut Found) -> Result<HashSet<ChunkHash>> {
    let store = engine.store();
    let mut listed = HashSet::new();
    for (writer, number) in store.list_file_lists(run)? {
        match store.read_file_list(run, writer, number) {
            Ok(chunks) => listed.extend(chunks),
            Err(error) => {
                let problem = corrupt(error)?;
                let bad = found.lists.entry(run).or_default();
                bad.damaged.push((writer, number));
                bad.problems.push(problem);
            }
        }
    }
    Ok(listed)
}

/// Whether everything that journals name is listed, so that collectors know of it.
fn verify_lists(
    engine: &Engine,
    run: RunId,
    first: usize,
    listed: &HashSet<ChunkHash>,
    found: &mut Found,
) {
    if !engine.store().has_file_lists() {
        return;
    }
    for (chunk, by) in &found.chunks[first..] {
        if !listed.contains(&chunk.hash) {
            let bad = found.lists.entry(run).or_default();
            bad.unlisted.insert(chunk.hash);
            bad.problems.push(format!(
                "{by}: chunk {} is in no list of {} that can be read, and a collector takes what is not listed",
                chunk.hash,
                layout::file_lists(run)
            ));
        }
    }
}

/// The objects that lead to the run by number and key.
fn verify_names(engine: &Engine, record: &RunRecord, found: &mut Found) -> Result<()> {
    let (store, project) = (engine.store(), &record.project);
    found.note(store.read_prefix(project))?;
    let number = record.display_id.number();
    if let Some(by_number) = found.note(store.find_number(project, number))? {
        let path = layout::number(project, number);
        check_leads_here(record.run, path.as_ref(), by_number, found);
    }
    if let Some(key) = &record.key
        && let Some(by_key) = found.note(store.find_key(project, key))?
    {
        let path = layout::run_key(project, key);
        check_leads_here(record.run, path.as_ref(), by_key, found);
    }
    Ok(())
}

fn check_leads_here(run: RunId, path: &str, read: Option<RunId>, found: &mut Found) {
    match read {
        Some(there) if there == run => {}
        Some(there) => found.problems.push(format!(
            "{path} names run {there}, and belongs to run {run}"
        )),
        None => found
            .problems
            .push(format!("{path} is missing, it belongs to run {run}")),
    }
}

/// What checkpoints do not need, but somebody wrote: confirmations, parts without a commit, commits of deleted checkpoints, tombstones.
fn verify_saves(engine: &Engine, run: RunId, found: &mut Found) -> Result<()> {
    let store = engine.store();
    let tombstones = store.list_tombstones(run)?;
    for &(key, highest) in &tombstones {
        for number in 0..=highest {
            let path = layout::tombstone(run, key, number);
            match store.read_record::<TombstoneRecord>(&path) {
                Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => {
                    found
                        .problems
                        .push(format!("{path} is missing, and a later one is there"));
                }
                read => {
                    found.note(read)?;
                }
            }
        }
    }
    let pending = store.list_pending(run)?;
    for key in store.list_commits(run)? {
        if tombstones.iter().any(|(deleted, _)| *deleted == key) {
            found.note(store.read_commit(run, key))?;
        }
        verify_confirmations(engine, run, key, found)?;
    }
    for key in pending {
        for part in store.list_parts(run, key)? {
            found.note(store.read_part(run, key, &part.component, part.rank))?;
        }
        verify_confirmations(engine, run, key, found)?;
    }
    Ok(())
}

fn verify_confirmations(
    engine: &Engine,
    run: RunId,
    key: runtree_core::SaveKey,
    found: &mut Found,
) -> Result<()> {
    for part in engine.store().list_parts(run, key)? {
        if part.confirmed {
            let path = layout::part_confirmation(run, key, &part.component, part.rank);
            found.note(engine.store().read_record::<PartConfirmation>(&path))?;
        }
    }
    Ok(())
}

/// Every frame of every journal and segment, and every position that a part recorded.
fn verify_journals(engine: &Engine, run: RunId, told: &mut Told, found: &mut Found) -> Result<()> {
    let store = engine.store();
    // What can not be read is reported with its checkpoint.
    let (mut recorded, _) = engine.recorded_positions(run)?;
    // Before the journals: what is collected in between is then known to be sealed.
    let sealed = Sealed::list(store, run)?;
    let journals = store.list_journals(run)?;
    for writer in sealed.writers() {
        let first = journals.iter().find(|journal| journal.writer == writer);
        let first = first.map_or(u64::MAX, |journal| journal.first_ordinal);
        verify_segments(engine, run, (writer, &sealed), first, told, found)?;
    }
    for journal in journals {
        let positions = recorded.remove(&journal.writer).unwrap_or_default();
        let reader = if journal.first_ordinal == 0 {
            JournalReader::open(store, run, journal.writer, Cursor::START).map(Some)
        } else if sealed.reach(journal.writer, 0) < journal.first_ordinal {
            found.problems.push(format!(
                "journal {} of run {run} starts with frame {}, and what is before it was not sealed",
                journal.writer, journal.first_ordinal
            ));
            continue;
        } else {
            engine.open_behind_sealed(run, journal.writer, &sealed)
        };
        let Some(Some(mut reader)) = found.note(reader)? else {
            continue;
        };
        for position in positions {
            reader.expect(position);
        }
        let read = read_all(&mut reader, run, told, found);
        if found.note(read)?.is_some() && reader.tail_is_damaged()? {
            found.problems.push(format!(
                "journal {} of run {run} is damaged in its last frame ({} bytes after frame {}), which is ignored",
                journal.writer,
                reader.torn_bytes(),
                reader.cursor().ordinal
            ));
        }
    }
    let missing: BTreeMap<WriterId, _> = recorded;
    for (writer, positions) in missing {
        found.note(engine.check_recorded(run, writer, &sealed, &positions))?;
    }
    Ok(())
}

/// Every segment of a journal whose first frame that is there is `first`.
fn verify_segments(
    engine: &Engine,
    run: RunId,
    (writer, sealed): (WriterId, &Sealed),
    first: u64,
    told: &mut Told,
    found: &mut Found,
) -> Result<()> {
    for name in sealed.of(writer) {
        let segment = engine.open_segment(run, name);
        let Some(segment) = found.note(segment)? else {
            continue;
        };
        for group in 0..segment.groups() {
            found.note(segment.read_group(group))?;
        }
        let Some(events) = found.note(segment.events())? else {
            continue;
        };
        for (ordinal, payload) in events {
            // The journal says the same where it has the frame.
            if ordinal < first
                && let Some(event) = found.note(event(ordinal, payload))?
            {
                hear(event, run, told, found);
            }
        }
    }
    Ok(())
}

/// What an event tells of other objects: what was saved, and the chunks of what is attached.
fn hear(event: Event, run: RunId, told: &mut Told, found: &mut Found) {
    told.take_event(&event);
    let by = match &event {
        Event::File { name, .. } => format!("file {name:?} of run {run}"),
        Event::Media { name, step, .. } => format!("{name:?} at step {step} of run {run}"),
        _ => return,
    };
    let chunks = event.chunks().cloned().map(|chunk| (chunk, by.clone()));
    found.chunks.extend(chunks);
}

fn read_all(
    reader: &mut JournalReader,
    run: RunId,
    told: &mut Told,
    found: &mut Found,
) -> Result<()> {
    while let Some(frame) = reader.next_frame()? {
        match frame.kind {
            FrameKind::Event => {
                hear(frame.event()?, run, told, found);
            }
            FrameKind::Points => {
                PointsBatch::decode(&frame.payload, Limits::default())?;
            }
        }
    }
    Ok(())
}
