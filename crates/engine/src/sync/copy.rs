//! Copying what is missing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use runtree_core::manifest::{CheckpointName, ChunkRecord, CommitRecord, PinRecord, RunRecord};
use runtree_core::{CheckpointId, Error, ErrorKind, Result, RunId, WriterId};
use runtree_store::layout::{self, SettingScope};
use runtree_store::{Copying, ObjectPath, Store, system_random};

use super::{CONCURRENCY, Progress, SyncPlan, SyncReport};
use crate::gc::{is_deleted, undelete};
use crate::parallel::work_off;

/// How long a checkpoint that is copied again is held there if its copier dies: longer than one takes on a slow link.
const LEASE_SECONDS: u64 = 24 * 3600;

/// Copies what a plan names. Broken off anywhere it leaves a store that is whole, and is finished by the next.
///
/// # Errors
/// As the stores say; what was copied by then is there. A checkpoint that is damaged at the source ends the copy when all others are done.
pub fn copy(
    from: &Store,
    to: &Store,
    plan: &SyncPlan,
    progress: Progress<'_>,
) -> Result<SyncReport> {
    let job = Job {
        copying: Copying::begin(from, to)?,
        report: Mutex::new(SyncReport::default()),
        concurrency: plan.concurrency.unwrap_or(CONCURRENCY).max(1),
        progress,
    };
    let mut by_run: BTreeMap<RunId, Vec<&CommitRecord>> = BTreeMap::new();
    for commit in &plan.checkpoints {
        by_run.entry(commit.run).or_default().push(commit);
    }
    let mut projects: Vec<_> = plan.projects.values().cloned().collect();
    projects.sort();
    projects.dedup();
    for project in projects {
        job.settings(&SettingScope::Project(project))?;
    }
    let mut damaged = None;
    for &run in &plan.runs {
        job.records(run)?;
        job.history(run)?;
        job.file_lists(run)?;
        for commit in by_run.remove(&run).unwrap_or_default() {
            match job.checkpoint(commit) {
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    damaged.get_or_insert(error.in_context(format!(
                        "checkpoint at step {} of run {} was not copied",
                        commit.key.step, commit.run
                    )));
                }
                other => other?,
            }
        }
        job.note(|report| report.runs += 1);
    }
    let report = *job.report.lock().unwrap_or_else(PoisonError::into_inner);
    damaged.map_or(Ok(report), Err)
}

struct Job<'p> {
    copying: Copying,
    report: Mutex<SyncReport>,
    concurrency: usize,
    progress: Progress<'p>,
}

impl Job<'_> {
    fn note(&self, change: impl FnOnce(&mut SyncReport)) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut report);
        (self.progress)(&report);
    }

    /// Copies an immutable object; another one under its name is an error.
    fn object(&self, path: &ObjectPath) -> Result<()> {
        let sent = self.copying.object(path)?.ok_or_else(|| {
            Error::conflict(format!(
                "{path} is another one in {}",
                self.copying.to().objects()
            ))
            .with_hint("the stores tell different stories of one run; runtree verify both")
        })?;
        self.note(|report| report.bytes += sent);
        Ok(())
    }

    /// Copies an object whose name somebody else may have there, who keeps it.
    fn claim(&self, path: &ObjectPath) -> Result<()> {
        match self.copying.object(path)? {
            Some(sent) => self.note(|report| report.bytes += sent),
            None => self.note(|report| report.clashes += 1),
        }
        Ok(())
    }

    fn settings(&self, scope: &SettingScope) -> Result<()> {
        let (from, to) = (self.copying.from(), self.copying.to());
        let there = to.list_settings(scope)?;
        for setting in from.list_settings(scope)? {
            if !there.contains(&setting) {
                self.object(&layout::setting(scope, setting.0, setting.1))?;
            }
        }
        Ok(())
    }

    /// Number, key, birth, launches.
    fn records(&self, run: RunId) -> Result<()> {
        let from = self.copying.from();
        let record = from.read_run(run)?;
        self.names(&record)?;
        self.copying.note_origin(run)?;
        self.object(&layout::run(run))?;
        let there = self.copying.to().list_attempts(run)?;
        for attempt in from.list_attempts(run)? {
            if !there.contains(&attempt) {
                self.object(&layout::attempt(run, attempt))?;
            }
        }
        Ok(())
    }

    fn names(&self, record: &RunRecord) -> Result<()> {
        let project = &record.project;
        self.claim(&layout::project_prefix(project))?;
        self.claim(&layout::number(project, record.display_id.number()))?;
        if let Some(key) = &record.key {
            self.claim(&layout::run_key(project, key))?;
        }
        Ok(())
    }

    /// Journals and segments.
    fn history(&self, run: RunId) -> Result<()> {
        let (from, to) = (self.copying.from(), self.copying.to());
        let segments = to.list_segments(run)?;
        for segment in from.list_segments(run)? {
            if !segments.contains(&segment) {
                // Read as a segment first: what is damaged is not spread.
                from.read_segment(run, &segment)?;
                self.object(&layout::segment(run, &segment))?;
            }
        }
        let pieces = pieces_of(from, run)?;
        let theirs = pieces_of(to, run)?;
        for (writer, pieces) in pieces {
            let have = theirs.get(&writer).map_or(&[][..], Vec::as_slice);
            let sent = from.copy_journal(to, run, writer, &pieces, have)?;
            self.note(|report| report.bytes += sent);
        }
        Ok(())
    }

    fn file_lists(&self, run: RunId) -> Result<()> {
        let there = self.copying.to().list_file_lists(run)?;
        let lists = self.copying.from().list_file_lists(run)?;
        let missing: Vec<_> = lists
            .into_iter()
            .filter(|list| !there.contains(list))
            .collect();
        let send = |(): &mut (), list| {
            let sent = self.copying.file_list(run, list)?;
            self.note(|report| report.bytes += sent);
            Ok(())
        };
        work_off(missing, self.concurrency, "copying", || (), send).map(drop)
    }

    /// Copies a checkpoint. One that is deleted there, and wanted again, is needed by nobody until it is taken out of the trash: a collector would take the bytes as they
    /// arrive. So a lease holds it from before the first is sent until it is restored.
    fn checkpoint(&self, commit: &CommitRecord) -> Result<()> {
        let to = self.copying.to();
        let name = CheckpointName {
            run: commit.run,
            key: commit.key,
        };
        if !is_deleted(to, name)? {
            return self.send_checkpoint(commit);
        }
        let now = to.time()?;
        let holder = WriterId::from_bits(system_random());
        let lease = PinRecord {
            checkpoint: name,
            reason: format!("being copied from {}", self.copying.from().objects()),
            created: now,
            ttl_seconds: Some(LEASE_SECONDS),
        };
        let held = format!("copy-{}-{holder}", CheckpointId::of(name.run, name.key));
        to.write_pin(&held, &lease)?;
        let restored = self
            .send_checkpoint(commit)
            .and_then(|()| undelete(to, name, holder, now));
        let taken_back = to.delete_pin(&held);
        restored?;
        taken_back
    }

    fn send_checkpoint(&self, commit: &CommitRecord) -> Result<()> {
        let from = self.copying.from();
        let mut chunks: Vec<ChunkRecord> = Vec::new();
        for part in &commit.parts {
            chunks.extend(
                from.read_committed_part(commit.run, commit.key, part)?
                    .chunks,
            );
        }
        chunks.sort_unstable_by_key(|chunk| chunk.hash);
        chunks.dedup_by_key(|chunk| chunk.hash);
        let send = |(): &mut (), chunk: &ChunkRecord| {
            let sent = self.copying.send(chunk)?;
            if sent > 0 {
                self.note(|report| {
                    report.chunks += 1;
                    report.bytes += sent;
                });
            }
            Ok(())
        };
        work_off(&chunks, self.concurrency, "copying", || (), send)?;
        let others = commit.parts.len() > 1;
        for part in &commit.parts {
            let sent = self.copying.part(commit.run, commit.key, part, others)?;
            self.note(|report| report.bytes += sent);
        }
        self.copying.commit(commit)?;
        self.note(|report| report.checkpoints += 1);
        Ok(())
    }
}

/// Pieces of a run's journals, by writer.
fn pieces_of(store: &Store, run: RunId) -> Result<BTreeMap<WriterId, Vec<u64>>> {
    let mut pieces = BTreeMap::new();
    for journal in store.list_journals(run)? {
        pieces.insert(journal.writer, store.list_pieces(run, journal.writer)?);
    }
    Ok(pieces)
}
