//! Noticing cheaply that nothing changed, or that what is there was touched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use runtree_core::{Result, RunId, SaveKey, WriterId};

use super::listing::ListedPiece;
use super::{ListedJournal, Store};
use crate::error::from_object;
use crate::layout;
use crate::local::{Entries, LocalStore, Look, Mark, take};
use crate::wait::block_on;

/// Threads that look at runs, and how many runs are worth one.
const MAX_LOOKERS: usize = 4;
const LEAST_SHARE: usize = 2000;
/// Runs of a bucket that are listed at once: an answer takes some 20 ms, most of them spent on the way.
const LISTED_AT_ONCE: usize = 32;

/// What a run's folder looked like. Two equal stamps mean that there is nothing new to fold.
///
/// What is added changes a count or a length, since everything in a run's folder is immutable or append-only: no clock's resolution can
/// hide it. Journals have the store's change tag besides, because what was damaged in place has the length it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunStamp {
    born: bool,
    attempts: usize,
    commits: usize,
    tombstones: usize,
    /// Files in the part directories of saves that are not decided.
    pending_parts: usize,
    pending: usize,
    segments: usize,
    journals: Vec<ListedJournal>,
}

impl std::hash::Hash for ListedJournal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.writer, self.bytes, self.tag).hash(state);
    }
}

impl RunStamp {
    /// A text that is equal if and only if the stamps are: an index stores it.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}.{}.{}.{}.{}.{}.{}",
            u8::from(self.born),
            self.attempts,
            self.commits,
            self.tombstones,
            self.pending,
            self.pending_parts,
            self.segments
        );
        for journal in &self.journals {
            write!(
                text,
                ".{}={}-{:x}",
                journal.writer, journal.bytes, journal.tag
            )
            .expect("BUG: writing to a string fails never");
        }
        text
    }

    /// Journals that were written to since the stamp whose text is `before`, and are as long as they were then, or shorter: their writer only ever makes
    /// them longer, so something else touched what was there. In a bucket a journal is many objects, and one that is gone leaves no other trace.
    pub fn rewritten_since(&self, before: &str) -> Vec<WriterId> {
        let before: BTreeMap<&str, (&str, &str)> = before
            .split('.')
            .filter_map(|word| {
                let (writer, state) = word.split_once('=')?;
                Some((writer, state.split_once('-')?))
            })
            .collect();
        let journals = self.journals.iter().filter(|journal| {
            before
                .get(journal.writer.to_string().as_str())
                .is_some_and(|&(bytes, tag)| {
                    let is_longer = bytes.parse().is_ok_and(|bytes: u64| bytes < journal.bytes);
                    !is_longer && tag != format!("{:x}", journal.tag)
                })
        });
        journals.map(|journal| journal.writer).collect()
    }
}

/// By what a run's folder is recognised as untouched, without listing it: that all its directories and the lengths of its journals
/// are what they were. Much cheaper than a [`RunStamp`], and weaker: a touched folder may have an equal stamp.
///
/// Two questions can be asked of it. [`Store::is_untouched`] looks at everything. [`Store::changed_runs`] looks at the run's folder alone, whose change
/// time every object that is published anywhere below it sets, and at the journals that are still written to: all that writers of this store do is
/// noticed, not what other hands did to a file deep inside.
///
/// There is none of a store behind an object store, on a network file system, or of a folder that was touched in the last seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTrace {
    digest: [u8; 16],
    folder: Mark,
    /// Pieces of journals.
    pieces: Vec<Piece>,
    /// Saves that have parts and are not decided.
    pending: Vec<SaveKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    writer: WriterId,
    first_ordinal: u64,
    /// None if its writer has closed it: it grows no more.
    open: Option<Mark>,
}

impl RunTrace {
    /// Notes that these writers have closed their journals.
    pub fn close(&mut self, writers: &BTreeSet<WriterId>) {
        for piece in &mut self.pieces {
            if writers.contains(&piece.writer) {
                piece.open = None;
            }
        }
    }

    /// Whether it has journals that may still grow.
    pub fn is_open(&self) -> bool {
        self.pieces.iter().any(|piece| piece.open.is_some())
    }

    /// Bytes that [`RunTrace::parse`] reads: an index stores them. Integers in little-endian order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.digest.to_vec();
        self.folder.write(&mut bytes);
        bytes.extend((self.pieces.len() as u32).to_le_bytes());
        for piece in &self.pieces {
            bytes.extend(piece.writer.to_bits().to_le_bytes());
            bytes.extend(piece.first_ordinal.to_le_bytes());
            bytes.push(u8::from(piece.open.is_some()));
            if let Some(mark) = piece.open {
                mark.write(&mut bytes);
            }
        }
        let pending: Vec<String> = self.pending.iter().map(ToString::to_string).collect();
        bytes.extend(pending.join(" ").as_bytes());
        bytes
    }

    /// What [`RunTrace::to_bytes`] wrote; `None` of anything else.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let digest = *take(from)?;
        let folder = Mark::read(from)?;
        let count = u32::from_le_bytes(*take(from)?);
        let mut pieces = Vec::new();
        for _ in 0..count {
            let writer = WriterId::from_bits(u64::from_le_bytes(*take(from)?));
            let first_ordinal = u64::from_le_bytes(*take(from)?);
            let open = match take(from)? {
                [0] => None,
                [1] => Some(Mark::read(from)?),
                _ => return None,
            };
            pieces.push(Piece {
                writer,
                first_ordinal,
                open,
            });
        }
        let words = std::str::from_utf8(bytes).ok()?.split(' ');
        let pending = words.filter(|word| !word.is_empty()).map(layout::parse_id);
        Some(Self {
            digest,
            folder,
            pieces,
            pending: pending.collect::<Option<_>>()?,
        })
    }
}

impl RunTrace {
    fn holds(&self, run: RunId, local: &LocalStore, folders: &Entries) -> bool {
        folders.mark(&run.to_string()) == self.folder
            && self.pieces.iter().all(|piece| {
                let path = layout::journal_piece(run, piece.writer, piece.first_ordinal);
                piece.open.is_none_or(|mark| mark == local.mark(&path))
            })
    }
}

impl Store {
    /// What a run's folder looks like now.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamp(&self, run: RunId) -> Result<RunStamp> {
        if self.local().is_none() {
            return block_on(self.listed_stamp(run));
        }
        self.stamp_of(run, &self.list_pending(run)?)
    }

    /// What the folders of many runs of a bucket look like now, asked for all at once. None of a disk's: there each is cheap, and
    /// [`run_stamp_and_trace`](Store::run_stamp_and_trace) tells more.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamps(&self, runs: &[RunId]) -> Result<HashMap<RunId, RunStamp>> {
        if self.local().is_some() {
            return Ok(HashMap::new());
        }
        let listed = runs
            .iter()
            .map(|&run| async move { Ok((run, self.listed_stamp(run).await?)) });
        block_on(
            futures::stream::iter(listed)
                .buffer_unordered(LISTED_AT_ONCE)
                .try_collect(),
        )
    }

    /// A stamp by one listing of all that the run has. Its pages are not of one moment; but a stamp that shows a moment that never was is not the next one either, and
    /// then the run is folded once more.
    async fn listed_stamp(&self, run: RunId) -> Result<RunStamp> {
        let folder = layout::run_folder(run);
        let objects: Vec<ObjectMeta> = self
            .objects()
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| from_object(error, &format!("list {folder}")))?;
        let mut stamp = RunStamp::default();
        let mut decided = BTreeSet::new();
        let mut parts: BTreeMap<SaveKey, usize> = BTreeMap::new();
        let mut pieces = Vec::new();
        for object in &objects {
            let path = object.location.as_ref().strip_prefix(folder.as_ref());
            let Some(path) = path.and_then(|path| path.strip_prefix('/')) else {
                continue;
            };
            match path.split_once('/') {
                None => stamp.born |= path == "run",
                Some(("attempts", _)) => stamp.attempts += 1,
                Some(("commits", key)) => {
                    stamp.commits += 1;
                    decided.extend(layout::parse_id::<SaveKey>(key));
                }
                Some(("tombstones", _)) => stamp.tombstones += 1,
                Some(("metrics", _)) => stamp.segments += 1,
                Some(("parts", part)) => {
                    let key = part.split_once('/').map(|(key, _)| key);
                    if let Some(key) = key.and_then(layout::parse_id) {
                        *parts.entry(key).or_default() += 1;
                    }
                }
                Some(("journal", _)) => pieces.extend(ListedPiece::parse(run, object)),
                Some(_) => {}
            }
        }
        parts.retain(|key, _| !decided.contains(key));
        stamp.pending = parts.len();
        stamp.pending_parts = parts.values().sum();
        pieces.sort();
        stamp.journals = ListedPiece::journals(pieces);
        Ok(stamp)
    }

    /// What a run's folder looks like now, and how to recognise it as long as it stays so.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamp_and_trace(&self, run: RunId) -> Result<(RunStamp, Option<RunTrace>)> {
        // Begun before anything is listed: what changes from here on is too young for the look to count.
        if self.local().is_none() {
            return Ok((self.run_stamp(run)?, None));
        }
        let look = self.local().and_then(LocalStore::look);
        let pending = self.list_pending(run)?;
        let stamp = self.stamp_of(run, &pending)?;
        let Some(look) = look else {
            return Ok((stamp, None));
        };
        let pieces: Vec<_> = self
            .list_journal_pieces(run)?
            .into_iter()
            .map(|piece| (piece.writer, piece.first_ordinal))
            .collect();
        Ok((stamp, see(look, run, pieces, pending)))
    }

    /// Whether nothing at all happened to a run's folder since `trace` was taken. `false` says nothing.
    pub fn is_untouched(&self, run: RunId, trace: &RunTrace) -> bool {
        let look = self.local().and_then(LocalStore::look);
        let pieces = trace.pieces.iter();
        let pieces = pieces.map(|piece| (piece.writer, piece.first_ordinal));
        let seen = look.and_then(|look| see(look, run, pieces, trace.pending.clone()));
        seen.is_some_and(|seen| seen.digest == trace.digest)
    }

    /// Of some runs those to which a writer of this store may have done something since their traces were taken: all but those of which it is certain that
    /// nobody did. One question to the file system for each, and one for each journal that is not closed; many runs are asked about at once.
    pub fn changed_runs<'t>(
        &self,
        runs: &[RunId],
        trace_of: impl Fn(RunId) -> Option<&'t RunTrace> + Sync,
    ) -> Vec<RunId> {
        let of = |runs: &[RunId]| -> Vec<RunId> {
            // Each thread has its own: of a file that several share, the kernel counts the users at every question.
            let local = self.local();
            let folders = local.and_then(|local| local.entries(&layout::runs()));
            let Some((local, folders)) = local.zip(folders) else {
                return runs.to_vec();
            };
            let is_changed = |run: &RunId| {
                let trace = trace_of(*run);
                !trace.is_some_and(|trace| trace.holds(*run, local, &folders))
            };
            runs.iter().copied().filter(is_changed).collect()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = runs
            .len()
            .div_ceil(threads.min(MAX_LOOKERS))
            .max(LEAST_SHARE);
        let mut shares = runs.chunks(share);
        let own = shares.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let helpers: Vec<_> = shares.map(|runs| scope.spawn(|| of(runs))).collect();
            let mut changed = of(own);
            for helper in helpers {
                changed.extend(helper.join().expect("BUG: a look panics never"));
            }
            changed
        })
    }

    fn stamp_of(&self, run: RunId, pending: &[SaveKey]) -> Result<RunStamp> {
        let mut pending_parts = 0;
        for key in pending {
            pending_parts += self.names(&layout::parts(run, *key))?.len();
        }
        Ok(RunStamp {
            born: self.head(&layout::run(run))?.is_some(),
            attempts: self.names(&layout::attempts(run))?.len(),
            commits: self.names(&layout::commits(run))?.len(),
            tombstones: self.names(&layout::tombstones(run))?.len(),
            pending_parts,
            pending: pending.len(),
            segments: self.names(&layout::metrics(run))?.len(),
            journals: self.list_journals(run)?,
        })
    }
}

/// Looks at every directory that a [`RunStamp`] lists, and at every journal.
fn see(
    mut look: Look<'_>,
    run: RunId,
    pieces: impl IntoIterator<Item = (WriterId, u64)>,
    pending: Vec<SaveKey>,
) -> Option<RunTrace> {
    let folder = look.directory(&layout::run_folder(run));
    let fixed = [
        layout::attempts(run),
        layout::commits(run),
        layout::tombstones(run),
        layout::all_parts(run),
        layout::journals(run),
        layout::metrics(run),
    ];
    for directory in &fixed {
        look.directory(directory);
    }
    for key in &pending {
        look.directory(&layout::parts(run, *key));
    }
    let pieces = pieces.into_iter().map(|(writer, first_ordinal)| {
        look.directory(&layout::journal(run, writer));
        let mark = look.file(&layout::journal_piece(run, writer, first_ordinal));
        Piece {
            writer,
            first_ordinal,
            open: Some(mark),
        }
    });
    let pieces = pieces.collect();
    Some(RunTrace {
        digest: look.finish()?,
        folder,
        pieces,
        pending,
    })
}
