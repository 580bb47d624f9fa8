//! Damaged objects: removed where another one holds the chunk, condemned where none does.
//!
//! An object is damaged if its raw bytes have not the hash that it is named by, read twice, the second time from the disk itself. It is deleted like any other: by a round, once
//! another object of the chunk was read to its end. If there is none, its round stays open for ever. What an open round names is nobody's dedup hit, so the next save
//! that has the bytes puts them anew and heals every checkpoint that needs them; then a collection finds the damaged one redundant.
//!
//! If there is another store that may have it, it is fetched from there (`refetch`).

use std::collections::{BTreeMap, HashMap, HashSet};

use runtree_core::manifest::{CheckpointName, ChunkRecord};
use runtree_core::{CheckpointId, ChunkHash, ErrorKind, Result, RunId};
use runtree_store::{ChunkVerdict, FileList, ObjectEncoding, ObjectName, Store, layout};

use crate::engine::Engine;
use crate::inspect::VerifyReport;
use crate::inspect::verify::{BadLists, described, gather};
use crate::parallel::work_off;
use crate::save::threads;

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RepairReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Distinct chunks that were read.
    pub chunks: u64,
    /// Objects that do not hold what their names say.
    pub damaged_objects: u64,
    /// Those of them that were removed: another object holds the chunk.
    pub removed_objects: u64,
    /// Chunks that were encoded once more, because the damaged object was what differences rely on.
    pub encoded_chunks: u64,
    /// Objects that are all there is of a chunk: no save counts on them any more.
    pub condemned_objects: u64,
    /// Chunks that were fetched from another store, or are whole again with what was.
    pub refetched_chunks: u64,
    /// Commits and parts that were.
    pub refetched_records: u64,
    /// Runs of which a list of what journals name was damaged or missing, and was written anew.
    pub mended_lists: u64,
    /// Checkpoints that can not be read as long as nobody puts what is damaged or missing.
    pub unreadable: Vec<Unreadable>,
    /// What else is damaged: records, journals, files of runs.
    pub problems: Vec<String>,
}

/// A checkpoint that can not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unreadable {
    /// Its id.
    pub id: String,
    /// Which it is, in words.
    pub what: String,
    /// Chunks of it that no object holds.
    pub chunks: u64,
    /// Their raw bytes.
    pub bytes: u64,
}

impl Engine {
    /// Reads every chunk that is needed, and removes or condemns the objects that are damaged. What nothing here holds is fetched from another store, if there is one.
    ///
    /// # Errors
    /// As the stores say; damage is no error.
    pub fn repair(&self, dry_run: bool, from: Option<&Store>) -> Result<RepairReport> {
        if !dry_run {
            self.require_writable()?;
        }
        let refetched_records = from.map_or(Ok(0), |from| self.refetch_records(from, dry_run))?;
        let mut verified = VerifyReport::default();
        let gathered = gather(self, None, &mut verified)?;
        let needed = gathered.chunks.into_iter().map(|needed| needed.chunk);
        let chunks = self.with_bases(needed.collect())?;
        let verdicts = self.verdicts(&chunks)?;
        let damaged = |verdict: &ChunkVerdict| verdict.damaged.len() as u64;
        let mut report = RepairReport {
            dry_run,
            chunks: chunks.len() as u64,
            damaged_objects: verdicts.values().map(damaged).sum(),
            refetched_records,
            problems: verified.problems,
            ..RepairReport::default()
        };
        let (mut spare, mut lost) = (Vec::new(), Vec::new());
        for (index, verdict) in &verdicts {
            let chunk = &chunks[*index];
            if verdict.healthy.is_empty() {
                lost.extend(&verdict.damaged);
                continue;
            }
            let is_encoded = |name: &ObjectName| name.encoding != ObjectEncoding::Raw;
            if verdict.damaged.iter().any(is_encoded) && !verdict.healthy.iter().any(is_encoded) {
                report.encoded_chunks += 1;
                if !dry_run {
                    self.encode_again(chunk)?;
                }
            }
            spare.extend(verdict.damaged.iter().map(|name| (chunk, *name)));
        }
        report.condemned_objects = self.condemn(lost, dry_run)?;
        let hurt: Vec<&ChunkRecord> = verdicts
            .iter()
            .filter(|(_, verdict)| verdict.healthy.is_empty())
            .map(|(index, _)| &chunks[*index])
            .collect();
        let mut unreadable: HashSet<ChunkHash> = hurt.iter().map(|chunk| chunk.hash).collect();
        if let Some(from) = from {
            let whole = self.refetch_chunks(from, &hurt, dry_run)?;
            report.refetched_chunks = whole.len() as u64;
            unreadable.retain(|hash| !whole.contains(hash));
        }
        for (index, verdict) in &verdicts {
            let chunk = &chunks[*index];
            if verdict.healthy.is_empty() && !unreadable.contains(&chunk.hash) {
                report.condemned_objects -=
                    (verdict.damaged.len() as u64).min(report.condemned_objects);
                spare.extend(verdict.damaged.iter().map(|name| (chunk, *name)));
            }
        }
        report.removed_objects = self.remove_damaged(&spare, dry_run)?;
        report.unreadable = self.unreadable(&unreadable)?;
        report.mended_lists = self.mend_lists(gathered.lists, dry_run)?;
        Ok(report)
    }

    /// Chunks, and all that their differences hang on.
    fn with_bases(&self, mut chunks: Vec<ChunkRecord>) -> Result<Vec<ChunkRecord>> {
        let store = self.store();
        let mut known: HashSet<ChunkHash> = chunks.iter().map(|chunk| chunk.hash).collect();
        let mut from = 0;
        while from < chunks.len() {
            let hashes: Vec<ChunkHash> = chunks[from..].iter().map(|chunk| chunk.hash).collect();
            from = chunks.len();
            for (name, _) in store.objects_of(hashes)?.into_values().flatten() {
                if let ObjectEncoding::Delta(base) = name.encoding
                    && !known.contains(&base)
                    && let Some(record) = store.base_record(&name)?
                {
                    known.insert(base);
                    chunks.push(record);
                }
            }
        }
        Ok(chunks)
    }

    /// What is wrong, by the index of the chunk.
    fn verdicts(&self, chunks: &[ChunkRecord]) -> Result<BTreeMap<usize, ChunkVerdict>> {
        let verify = |found: &mut Vec<(usize, ChunkVerdict)>, index: usize| {
            match self.store().verify_chunk(&chunks[index]) {
                Ok(verdict) if verdict.damaged.is_empty() && !verdict.healthy.is_empty() => {}
                Ok(verdict) => found.push((index, verdict)),
                // What a newer build wrote is for that one to judge.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
            Ok(())
        };
        let found = work_off(0..chunks.len(), threads(), "verifying", Vec::new, verify)?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Puts a self-contained object of a chunk whose encoded one is damaged. Differences to it were written because there was one that stays; without it they might
    /// become too deep once the chunk is encoded against something else.
    fn encode_again(&self, chunk: &ChunkRecord) -> Result<()> {
        let rounds = self.store().list_rounds()?;
        self.store()
            .encode_chunk(chunk, None, None, &rounds)
            .map(drop)
    }

    fn remove_damaged(&self, spare: &[(&ChunkRecord, ObjectName)], dry_run: bool) -> Result<u64> {
        if dry_run || spare.is_empty() {
            return Ok(spare.len() as u64);
        }
        let store = self.store();
        let names = spare.iter().map(|(_, name)| *name);
        let Some(rounds) = store.open_rounds(names, self.now())? else {
            return Ok(0);
        };
        let all = store.list_rounds()?;
        let mut removed = 0;
        for (chunk, name) in spare {
            if store.has_healthy_outside(chunk, &all)? {
                rounds.delete(&[*name])?;
                removed += 1;
            }
        }
        rounds.close()?;
        Ok(removed)
    }

    /// Puts objects into a round that nobody closes.
    fn condemn(&self, mut names: Vec<ObjectName>, dry_run: bool) -> Result<u64> {
        let rounds = self.store().list_rounds()?;
        names.retain(|name| !rounds.condemns(name));
        let count = names.len() as u64;
        if count > 0
            && !dry_run
            && let Some(rounds) = self.store().open_rounds(names, self.now())?
        {
            rounds.leave_open();
        }
        Ok(count)
    }

    /// Lists anew what journals name, and removes lists that can not be read: until then no collector deletes anything, because they may list any chunk.
    fn mend_lists(&self, lists: BTreeMap<RunId, BadLists>, dry_run: bool) -> Result<u64> {
        let count = lists.len() as u64;
        if dry_run {
            return Ok(count);
        }
        let store = self.store();
        for (run, bad) in lists {
            let mut list = FileList::new(run, self.new_writer_id());
            store.list_files(&mut list, bad.unlisted.into_iter().collect())?;
            for (writer, number) in bad.damaged {
                store.delete(&layout::file_list(run, writer, number))?;
            }
        }
        Ok(count)
    }

    /// The checkpoints that need one of these chunks.
    fn unreadable(&self, lost: &HashSet<ChunkHash>) -> Result<Vec<Unreadable>> {
        let mut found = Vec::new();
        if lost.is_empty() {
            return Ok(found);
        }
        for name in self.existing_checkpoints(&self.store().list_runs()?)? {
            let Ok(manifest) = self.load_plan(name) else {
                // Reported with the records.
                continue;
            };
            let chunks = manifest.parts.iter().flat_map(|part| &part.chunks);
            let hurt: HashMap<ChunkHash, u64> = chunks
                .filter(|chunk| lost.contains(&chunk.hash))
                .map(|chunk| (chunk.hash, chunk.bytes))
                .collect();
            if !hurt.is_empty() {
                found.push(unreadable(name, &hurt));
            }
        }
        Ok(found)
    }
}

fn unreadable(name: CheckpointName, hurt: &HashMap<ChunkHash, u64>) -> Unreadable {
    Unreadable {
        id: CheckpointId::of(name.run, name.key).to_string(),
        what: described(name),
        chunks: hurt.len() as u64,
        bytes: hurt.values().sum(),
    }
}
