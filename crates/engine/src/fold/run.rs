//! Reads what is new about one run, and hands it to the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runtree_core::manifest::{CheckpointName, JournalPosition, TombstoneRecord};
use runtree_core::{AttemptNumber, ComponentName, ErrorKind, Result, RunId, SaveKey, WriterId};
use runtree_index::{FoldItem, Index, JournalCursor, PartFacts};
use runtree_store::layout;

use super::damage::{RunDamage, Told, corrupt, missing_attempt, missing_commit};
use super::journals::Again;
use crate::engine::Engine;

/// What is folded of a run already, so that a growing run is not read from its beginning each second. Immutable objects that were
/// folded once never need to be read again.
#[derive(Debug, Default)]
pub(super) struct Known {
    born: bool,
    /// Whether everything that was folded was whole.
    pub(super) trusted: bool,
    attempts: BTreeSet<AttemptNumber>,
    /// Decided checkpoints.
    decided: BTreeSet<SaveKey>,
    /// Parts, and whether they were confirmed when they were read.
    parts: BTreeMap<(SaveKey, ComponentName, u32), bool>,
    /// Highest tombstone of each checkpoint.
    tombstones: BTreeMap<SaveKey, u64>,
    pub(super) cursors: HashMap<WriterId, JournalCursor>,
}

/// How a fold went.
pub(super) enum Folded {
    /// All of it.
    Whole,
    /// Without what is damaged.
    Damaged(RunDamage),
    /// A journal lost what was folded of it, or a launch or commit is gone: the index has to be begun anew. What was lost is then found
    /// to be damage if anything names it, and was never durable if not.
    Shrunk,
}

impl Known {
    /// What the index holds of the run. Without `trusted`, records are read again: damage among them was found before, or never looked for.
    pub(super) fn load(index: &impl Index, run: RunId, trusted: bool) -> Result<Self> {
        let snapshot = index.snapshot()?;
        let mut known = Self {
            trusted,
            ..Self::default()
        };
        for writer in snapshot.writers(run)? {
            known.cursors.insert(writer.writer, writer.cursor);
        }
        if !trusted {
            return Ok(known);
        }
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
        Ok(known)
    }
}

impl Engine {
    /// Folds what can be read of a run, and says what can not. A damaged object hides itself, never another one.
    pub(super) fn fold_run_objects(
        &self,
        run: RunId,
        known: &mut Known,
        again: &Again,
    ) -> Result<Folded> {
        let mut damage = RunDamage::default();
        let mut items = Vec::new();
        let attempts = self.store.list_attempts(run)?;
        let commits = self.store.list_commits(run)?;
        let gone = |attempt: &AttemptNumber| attempts.binary_search(attempt).is_err();
        let undone = |key: &SaveKey| commits.binary_search(key).is_err();
        let unborn = known.born && self.store.head(&layout::run(run))?.is_none();
        if unborn || known.attempts.iter().any(gone) || known.decided.iter().any(undone) {
            return Ok(Folded::Shrunk);
        }
        if !known.born {
            match self.store.read_run(run) {
                Ok(record) => items.push(FoldItem::RunBorn(Box::new(record))),
                // A birth that is not finished: the key is claimed, the record not yet written.
                Err(error) if error.kind() == ErrorKind::NotFound && attempts.is_empty() => {
                    return Ok(Folded::Whole);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let path = layout::run(run);
                    let text = format!("{path} is missing, and the run was launched");
                    damage.lineage.push(text);
                }
                Err(error) => damage.lineage.push(corrupt(error)?),
            }
        }
        for &attempt in &attempts {
            if !known.attempts.contains(&attempt) {
                match self.store.read_attempt(run, attempt) {
                    Ok(record) => {
                        items.push(FoldItem::Attempt(Box::new(record)));
                        known.attempts.insert(attempt);
                    }
                    Err(error) => damage.lineage.push(corrupt(error)?),
                }
            }
        }
        damage.note_gaps(run, &attempts);
        let mut positions = HashMap::new();
        self.fold_checkpoints(
            run,
            &commits,
            known,
            &mut items,
            &mut positions,
            &mut damage,
        )?;
        if !items.is_empty() {
            self.index.apply(&items)?;
        }
        known.born = true;
        let mut told = Told::default();
        if self.fold_journals(run, known, again, positions, &mut told, &mut damage)? {
            return Ok(Folded::Shrunk);
        }
        self.check_told(run, known, &told, &mut damage)?;
        known.trusted = damage.is_empty();
        Ok(if damage.is_empty() {
            Folded::Whole
        } else {
            Folded::Damaged(damage)
        })
    }

    /// Compares what journals told with what is there.
    fn check_told(
        &self,
        run: RunId,
        known: &Known,
        told: &Told,
        damage: &mut RunDamage,
    ) -> Result<()> {
        let missing: Vec<SaveKey> = told.saved.difference(&known.decided).copied().collect();
        // Of a run that was born elsewhere a checkpoint may never have been copied.
        let is_copy = !missing.is_empty() && self.store.is_copy(run)?;
        for key in missing.into_iter().filter(|_| !is_copy) {
            // It may have come since the commits were listed.
            if damage.checkpoints.contains_key(&key) || self.store.has_commit(run, key)? {
                continue;
            }
            damage.checkpoints.insert(key, missing_commit(run, key));
        }
        for &attempt in told.attempts.difference(&known.attempts) {
            let path = layout::attempt(run, attempt);
            if self.store.list_attempts(run)?.contains(&attempt) {
                continue;
            }
            damage.lineage.push(missing_attempt(path.as_ref()));
        }
        damage.lineage.sort();
        damage.lineage.dedup();
        Ok(())
    }

    fn fold_checkpoints(
        &self,
        run: RunId,
        commits: &[SaveKey],
        known: &mut Known,
        items: &mut Vec<FoldItem>,
        positions: &mut HashMap<WriterId, Vec<JournalPosition>>,
        damage: &mut RunDamage,
    ) -> Result<()> {
        let pending = self.store.list_pending(run)?;
        for &key in commits {
            if known.decided.contains(&key) {
                continue;
            }
            let commit = match self.store.read_commit(run, key) {
                Ok(Some(commit)) => commit,
                Ok(None) => continue,
                Err(error) => {
                    damage.checkpoints.insert(key, corrupt(error)?);
                    self.fold_parts(run, key, known, items)?;
                    continue;
                }
            };
            let confirmed: BTreeSet<(ComponentName, u32)> = self
                .store
                .list_parts(run, key)?
                .into_iter()
                .filter(|part| part.confirmed)
                .map(|part| (part.component, part.rank))
                .collect();
            for part in &commit.parts {
                let is_confirmed = confirmed.contains(&(part.component.clone(), part.rank));
                let id = (key, part.component.clone(), part.rank);
                if known.parts.get(&id) == Some(&is_confirmed) {
                    continue;
                }
                match self.store.read_committed_part(run, key, part) {
                    Ok(manifest) => {
                        let journal = manifest.journal;
                        positions.entry(journal.writer).or_default().push(journal);
                        let facts = PartFacts::of(&manifest, is_confirmed);
                        items.push(FoldItem::Part(Box::new(facts)));
                        known.parts.insert(id, is_confirmed);
                    }
                    Err(error) => {
                        damage.checkpoints.insert(key, corrupt(error)?);
                    }
                }
            }
            if commit.parts.is_empty() {
                self.fold_parts(run, key, known, items)?;
            }
            items.push(FoldItem::Commit(commit));
            known.decided.insert(key);
        }
        for key in pending {
            self.fold_parts(run, key, known, items)?;
        }
        self.fold_tombstones(run, known, items, damage)
    }

    /// Parts that no commit vouches for. What can not be read is left to whoever commits them.
    fn fold_parts(
        &self,
        run: RunId,
        key: SaveKey,
        known: &mut Known,
        items: &mut Vec<FoldItem>,
    ) -> Result<()> {
        for part in self.store.list_parts(run, key)? {
            let id = (key, part.component.clone(), part.rank);
            if known.parts.get(&id) == Some(&part.confirmed) {
                continue;
            }
            match self.store.read_part(run, key, &part.component, part.rank) {
                Ok((manifest, _)) => {
                    let facts = PartFacts::of(&manifest, part.confirmed);
                    items.push(FoldItem::Part(Box::new(facts)));
                }
                Err(error) => {
                    corrupt(error)?;
                }
            }
            known.parts.insert(id, part.confirmed);
        }
        Ok(())
    }

    fn fold_tombstones(
        &self,
        run: RunId,
        known: &mut Known,
        items: &mut Vec<FoldItem>,
        damage: &mut RunDamage,
    ) -> Result<()> {
        for (key, number) in self.store.list_tombstones(run)? {
            if known
                .tombstones
                .get(&key)
                .is_some_and(|&seen| seen >= number)
            {
                continue;
            }
            let checkpoint = CheckpointName { run, key };
            let path = layout::tombstone(run, key, number);
            let record = match self.store.read_record::<TombstoneRecord>(&path) {
                Ok(record) => record,
                Err(error) => {
                    // That it is there says what it means; only the reason is lost.
                    damage.other.push(corrupt(error)?);
                    TombstoneRecord {
                        checkpoint,
                        reason: String::new(),
                        created: runtree_core::Timestamp::default(),
                    }
                }
            };
            items.push(FoldItem::Tombstone {
                checkpoint,
                number: u32::try_from(number).unwrap_or(u32::MAX),
                record,
            });
            known.tombstones.insert(key, number);
        }
        Ok(())
    }
}
