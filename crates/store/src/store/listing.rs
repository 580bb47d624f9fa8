//! What is in a store, by name. Sorted; what no layout function can have made is ignored.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore as _};
use runtree_core::{
    AttemptNumber, ComponentName, Error, ProjectName, Result, RunId, SaveKey, StoreId, WriterId,
};

use super::Store;
use crate::chunk::block_checksum;
use crate::error::from_object;
use crate::layout::{self, ObjectName, ObjectPath, PinName};
use crate::wait::block_on;

/// A part that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedPart {
    /// Who wrote it.
    pub component: ComponentName,
    /// Which of them.
    pub rank: u32,
    /// Whether its writer looked again after publishing it (W4): it may be committed.
    pub confirmed: bool,
}

/// A journal that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedJournal {
    /// Whose.
    pub writer: WriterId,
    /// Its first frame that is there: 0, unless what is before it was sealed and collected.
    pub first_ordinal: u64,
    /// Bytes of all its pieces.
    pub bytes: u64,
    /// Changes when a piece is written to, as far as the store's own stamps tell.
    pub tag: u64,
}

/// A piece of a journal that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListedPiece {
    pub(super) writer: WriterId,
    pub(super) first_ordinal: u64,
    pub(super) bytes: u64,
    /// Of [`ListedJournal::tag`].
    pub(super) tag: u64,
}

impl ListedPiece {
    /// What an object is as a piece of a journal of the run.
    pub(super) fn parse(run: RunId, object: &ObjectMeta) -> Option<Self> {
        let path = object.location.as_ref();
        let rest = path.strip_prefix(layout::journals(run).as_ref())?;
        let (writer, piece) = rest.strip_prefix('/')?.split_once('/')?;
        let tag = object.e_tag.as_deref().unwrap_or_default();
        Some(Self {
            writer: layout::parse_id(writer)?,
            first_ordinal: layout::parse_journal_piece(piece)?,
            bytes: object.size,
            tag: block_checksum(tag.as_bytes()),
        })
    }

    /// The journals that sorted pieces are.
    pub(super) fn journals(pieces: Vec<Self>) -> Vec<ListedJournal> {
        let mut journals: BTreeMap<WriterId, (u64, u64, Vec<u8>)> = BTreeMap::new();
        for piece in pieces {
            // Sorted: the first piece of a writer comes first.
            let (_, bytes, tags) = journals
                .entry(piece.writer)
                .or_insert_with(|| (piece.first_ordinal, 0, Vec::new()));
            *bytes += piece.bytes;
            tags.extend_from_slice(&piece.tag.to_le_bytes());
        }
        journals
            .into_iter()
            .map(|(writer, (first_ordinal, bytes, tags))| ListedJournal {
                writer,
                first_ordinal,
                bytes,
                tag: block_checksum(&tags),
            })
            .collect()
    }
}

impl Store {
    /// The stores that a run was copied from, sorted; none if it was born here.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_origins(&self, run: RunId) -> Result<Vec<StoreId>> {
        let names = self.names(&layout::copied(run))?;
        let mut origins: Vec<StoreId> = names
            .iter()
            .filter_map(|(name, _)| name.parse().ok())
            .collect();
        origins.sort_unstable();
        Ok(origins)
    }

    /// Names right below `directory`, `true` for directories. On a local disk without asking for any file's size.
    pub(crate) fn names(&self, directory: &ObjectPath) -> Result<Vec<(String, bool)>> {
        let fail = |error| from_object(error, &format!("list {directory}"));
        if let Some(local) = self.local() {
            return local.names(directory).map_err(fail);
        }
        let mut listed =
            block_on(self.objects().list_with_delimiter(Some(directory))).map_err(fail)?;
        // Some servers, and consoles of others, keep folders: an empty object whose name is the folder's own and a slash.
        listed
            .objects
            .retain(|object| object.location != *directory);
        let name = |path: &ObjectPath| path.filename().map(ToOwned::to_owned);
        let directories = listed
            .common_prefixes
            .iter()
            .filter_map(|path| Some((name(path)?, true)));
        let files = listed
            .objects
            .iter()
            .filter_map(|object| Some((name(&object.location)?, false)));
        Ok(directories.chain(files).collect())
    }

    /// Parsed names right below `directory`, of one kind, sorted.
    pub(crate) fn parsed<T: Ord>(
        &self,
        directory: &ObjectPath,
        directories: bool,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut parsed: Vec<T> = self
            .names(directory)?
            .iter()
            .filter(|(_, is_directory)| *is_directory == directories)
            .filter_map(|(name, _)| parse(name))
            .collect();
        parsed.sort();
        Ok(parsed)
    }

    /// Objects below `directory`.
    pub(crate) fn objects_below(&self, directory: &ObjectPath) -> Result<Vec<ObjectMeta>> {
        block_on(self.objects().list(Some(directory)).try_collect())
            .map_err(|error| from_object(error, &format!("list {directory}")))
    }

    /// Every run that has a directory, oldest first. One whose creation was interrupted has no birth record yet.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_runs(&self) -> Result<Vec<RunId>> {
        self.parsed(&layout::runs(), true, layout::parse_id)
    }

    /// Launches of a run, ascending.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_attempts(&self, run: RunId) -> Result<Vec<AttemptNumber>> {
        self.parsed(&layout::attempts(run), false, layout::parse_attempt)
    }

    /// Saves of a run that are decided, ascending by (attempt, step, k).
    ///
    /// # Errors
    /// As the store says.
    pub fn list_commits(&self, run: RunId) -> Result<Vec<SaveKey>> {
        self.parsed(&layout::commits(run), false, layout::parse_id)
    }

    /// Whether a save of a run is decided, as far as a listing can say: its commit may be damaged.
    ///
    /// # Errors
    /// As the store says.
    pub fn has_commit(&self, run: RunId, key: SaveKey) -> Result<bool> {
        Ok(self.head(&layout::commit(run, key))?.is_some())
    }

    /// Saves of a run that have parts, decided or not, ascending.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_saves(&self, run: RunId) -> Result<Vec<SaveKey>> {
        self.parsed(&layout::all_parts(run), true, layout::parse_id)
    }

    /// Lists of chunks that journals of a run name: whose, and which of theirs.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_file_lists(&self, run: RunId) -> Result<Vec<(WriterId, u64)>> {
        self.parsed(&layout::file_lists(run), false, layout::parse_file_list)
    }

    /// Whether a run is a copy of one that was born in another store: what is not here may be there.
    ///
    /// # Errors
    /// As the store says.
    pub fn is_copy(&self, run: RunId) -> Result<bool> {
        let stores: Vec<StoreId> = self.parsed(&layout::copied(run), false, layout::parse_id)?;
        Ok(!stores.is_empty())
    }

    /// Names of the chunk objects whose hash begins with the byte `shard`, unsorted.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_shard(&self, shard: u8) -> Result<Vec<ObjectName>> {
        let names = self.names(&layout::chunk_shard_of(shard))?;
        Ok(names
            .into_iter()
            .filter(|(_, is_directory)| !is_directory)
            .filter_map(|(name, _)| name.parse().ok())
            .filter(|name: &ObjectName| name.hash.as_bytes()[0] == shard)
            .collect())
    }

    /// Saves of a run that have parts and are not decided, ascending.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_pending(&self, run: RunId) -> Result<Vec<SaveKey>> {
        // Parts first: what is decided between the two listings is then not reported as pending for ever.
        let mut pending = self.list_saves(run)?;
        let decided = self.list_commits(run)?;
        pending.retain(|key| decided.binary_search(key).is_err());
        Ok(pending)
    }

    /// Parts of a save that are there, sorted by (component, rank).
    ///
    /// # Errors
    /// As the store says.
    pub fn list_parts(&self, run: RunId, key: SaveKey) -> Result<Vec<ListedPart>> {
        let listed = self.parsed(&layout::parts(run, key), false, layout::parse_part)?;
        let mut parts: BTreeMap<(ComponentName, u32), (bool, bool)> = BTreeMap::new();
        for (component, rank, is_confirmation) in listed {
            let seen = parts.entry((component, rank)).or_default();
            *if is_confirmation {
                &mut seen.1
            } else {
                &mut seen.0
            } = true;
        }
        Ok(parts
            .into_iter()
            .filter(|(_, (published, _))| *published)
            .map(|((component, rank), (_, confirmed))| ListedPart {
                component,
                rank,
                confirmed,
            })
            .collect())
    }

    /// Checkpoints of a run about which tombstones speak, with the highest index: [`layout::is_deleted`] says what it means.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_tombstones(&self, run: RunId) -> Result<Vec<(SaveKey, u64)>> {
        let listed = self.parsed(&layout::tombstones(run), false, layout::parse_tombstone)?;
        let mut highest: BTreeMap<SaveKey, u64> = BTreeMap::new();
        // Sorted by (key, index): the last one of a key stays.
        highest.extend(listed);
        Ok(highest.into_iter().collect())
    }

    /// Every pin.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_pins(&self) -> Result<Vec<PinName>> {
        self.parsed(&layout::pins(), false, PinName::parse)
    }

    /// Journals of a run, sorted by writer.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_journals(&self, run: RunId) -> Result<Vec<ListedJournal>> {
        Ok(ListedPiece::journals(self.list_journal_pieces(run)?))
    }

    /// The pieces of one journal, ascending: each by its first frame.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_pieces(&self, run: RunId, writer: WriterId) -> Result<Vec<u64>> {
        self.parsed(
            &layout::journal(run, writer),
            false,
            layout::parse_journal_piece,
        )
    }

    /// The pieces that the journals of a run are made of, sorted.
    pub(super) fn list_journal_pieces(&self, run: RunId) -> Result<Vec<ListedPiece>> {
        let objects = self.objects_below(&layout::journals(run))?;
        let mut pieces: Vec<_> = objects
            .iter()
            .filter_map(|object| ListedPiece::parse(run, object))
            .collect();
        pieces.sort();
        Ok(pieces)
    }

    /// Projects that have a directory, sorted. One whose escaped name is a hash is found through its first run.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_projects(&self) -> Result<Vec<ProjectName>> {
        let mut projects = Vec::new();
        for (escaped, is_directory) in self.names(&layout::projects())? {
            if !is_directory || !layout::is_escaped(&escaped) {
                continue;
            }
            let name = match layout::unescape(&escaped) {
                Some(name) => name.parse().ok(),
                None => self.project_behind_hash(&escaped)?,
            };
            projects.extend(name);
        }
        projects.sort();
        Ok(projects)
    }

    fn project_behind_hash(&self, escaped: &str) -> Result<Option<ProjectName>> {
        let numbers = ObjectPath::parse(format!("projects/{escaped}/numbers"))
            .map_err(|error| Error::internal("an escaped name is no path").with_source(error))?;
        for (number, _) in self.names(&numbers)? {
            let Some(number) = layout::parse_number::<u64>(&number) else {
                continue;
            };
            let path = ObjectPath::parse(format!("{numbers}/{number}"))
                .map_err(|error| Error::internal("a number is no path").with_source(error))?;
            let Some(run) = self.read_run_id(&path)? else {
                continue;
            };
            let Some(record) = self.try_read_run(run)? else {
                continue;
            };
            if layout::escape(record.project.as_str()) == escaped {
                return Ok(Some(record.project));
            }
        }
        Ok(None)
    }
}
