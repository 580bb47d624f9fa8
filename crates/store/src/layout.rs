//! Where things are in a store: the only place that builds or parses object paths.
//!
//! ```text
//! runtree.json                       projects/<project>/{prefix, numbers/<n>, keys/<key>, settings/<lamport>-<writer>}
//! chunks/<2 hex>/<hash>.<put id>[.z | .d~<base>]
//! runs/<run>/run                     runs/<run>/attempts/<n>          runs/<run>/journal/<writer>/<ordinal>.log
//! runs/<run>/parts/<key>/<component>-<rank>[.ok]                      runs/<run>/commits/<key>
//! runs/<run>/tombstones/<key>.<i>    runs/<run>/metrics/<segment>     runs/<run>/files/<writer>-<n>
//! runs/<run>/copied/<store>          pins/<name>                      gc/<n>[.closed]     settings/<lamport>-<writer>
//! ```
//!
//! Names that people choose are escaped ([`escape`]), so that no name reaches another directory, hides, or collides with a file of
//! the protocol. Parsing a listed name is strict: what does not print back to itself is somebody else's file and is ignored.

use runtree_core::{
    AttemptNumber, ChunkHash, ComponentName, ProjectName, PutId, RunId, SaveKey, StoreId, WriterId,
};

pub use object_store::path::Path as ObjectPath;

mod object_name;
mod segment_name;
pub use object_name::{ObjectEncoding, ObjectName};
pub use segment_name::SegmentName;

/// Longest escaped name; longer ones are replaced by their hash.
pub const MAX_ESCAPED_BYTES: usize = 200;

/// Prefix of temporary files; never listed, never read.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("BUG: layout builds paths from escaped and typed parts only")
}

/// `runtree.json`.
pub fn store_record() -> ObjectPath {
    path("runtree.json")
}

/// `projects`.
pub fn projects() -> ObjectPath {
    path("projects")
}

/// `projects/<project>`.
pub fn project(project: &ProjectName) -> ObjectPath {
    path(&format!("projects/{}", escape(project.as_str())))
}

/// `projects/<project>/prefix`.
pub fn project_prefix(project: &ProjectName) -> ObjectPath {
    path(&format!("projects/{}/prefix", escape(project.as_str())))
}

/// The prefix of a project whose directory was listed.
pub fn listed_project_prefix(listed: &str) -> Option<ObjectPath> {
    is_escaped(listed).then(|| path(&format!("projects/{listed}/prefix")))
}

/// `projects/<project>/numbers`.
pub fn numbers(project: &ProjectName) -> ObjectPath {
    path(&format!("projects/{}/numbers", escape(project.as_str())))
}

/// `projects/<project>/numbers/<n>`.
pub fn number(project: &ProjectName, number: u64) -> ObjectPath {
    path(&format!(
        "projects/{}/numbers/{number}",
        escape(project.as_str())
    ))
}

/// `projects/<project>/keys/<key>`.
pub fn run_key(project: &ProjectName, key: &str) -> ObjectPath {
    path(&format!(
        "projects/{}/keys/{}",
        escape(project.as_str()),
        escape(key)
    ))
}

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingScope {
    /// This store's own: what it keeps and deletes. They never travel to another store.
    Store,
    /// A project's: they travel with it.
    Project(ProjectName),
}

/// `settings`, `projects/<project>/settings`.
pub fn settings(scope: &SettingScope) -> ObjectPath {
    match scope {
        SettingScope::Store => path("settings"),
        SettingScope::Project(project) => {
            path(&format!("projects/{}/settings", escape(project.as_str())))
        }
    }
}

/// `<settings>/<lamport>-<writer>`.
pub fn setting(scope: &SettingScope, lamport: u64, writer: WriterId) -> ObjectPath {
    settings(scope).join(format!("{lamport}-{writer}"))
}

/// `runs`.
pub fn runs() -> ObjectPath {
    path("runs")
}

/// `runs/<run>`.
pub fn run_folder(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}"))
}

/// The folder of the run that an object below one of its folders belongs to, as text.
pub(crate) fn run_folder_of(location: &ObjectPath) -> Option<&str> {
    let text = location.as_ref();
    let rest = text.strip_prefix("runs/")?;
    let (run, below) = rest.split_once('/')?;
    below
        .contains('/')
        .then(|| &text[.."runs/".len() + run.len()])
}

/// The run whose folder an object lies in, at any depth.
pub(crate) fn run_of(location: &ObjectPath) -> Option<RunId> {
    let rest = location.as_ref().strip_prefix("runs/")?;
    parse_id(rest.split_once('/')?.0)
}

/// Files that say which runs were published into; a run's is that of the last bits of its id, which are random.
pub(crate) const TOUCHED_FILES: usize = 1024;

/// `touched`.
pub(crate) fn all_touched() -> ObjectPath {
    path("touched")
}

/// Name in `touched/` of the file that `run` shares with others.
pub(crate) fn touched_name(place: usize) -> String {
    format!("{place:03x}")
}

/// Which file of `touched/` is `run`'s.
pub(crate) fn touched_place(run: RunId) -> usize {
    run.to_bits() as usize % TOUCHED_FILES
}

/// `runs/<run>/run`.
pub fn run(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/run"))
}

/// `runs/<run>/attempts`.
pub fn attempts(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/attempts"))
}

/// `runs/<run>/attempts/<n>`.
pub fn attempt(run: RunId, attempt: AttemptNumber) -> ObjectPath {
    path(&format!("runs/{run}/attempts/{attempt}"))
}

/// `runs/<run>/attempts/<n>.<rank>`.
pub fn seat(run: RunId, attempt: AttemptNumber, rank: u32) -> ObjectPath {
    path(&format!("runs/{run}/attempts/{attempt}.{rank}"))
}

/// `runs/<run>/journal`.
pub fn journals(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/journal"))
}

/// `runs/<run>/journal/<writer>`.
pub fn journal(run: RunId, writer: WriterId) -> ObjectPath {
    path(&format!("runs/{run}/journal/{writer}"))
}

/// `runs/<run>/journal/<writer>/<first ordinal>.log`.
pub fn journal_piece(run: RunId, writer: WriterId, first_ordinal: u64) -> ObjectPath {
    path(&format!(
        "runs/{run}/journal/{writer}/{first_ordinal:020}.log"
    ))
}

/// `runs/<run>/parts`.
pub fn all_parts(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/parts"))
}

/// `runs/<run>/parts/<key>`.
pub fn parts(run: RunId, key: SaveKey) -> ObjectPath {
    path(&format!("runs/{run}/parts/{key}"))
}

/// `runs/<run>/parts/<key>/<component>-<rank>`.
pub fn part(run: RunId, key: SaveKey, component: &ComponentName, rank: u32) -> ObjectPath {
    path(&format!("runs/{run}/parts/{key}/{component}-{rank}"))
}

/// `runs/<run>/parts/<key>/<component>-<rank>.ok`.
pub fn part_confirmation(
    run: RunId,
    key: SaveKey,
    component: &ComponentName,
    rank: u32,
) -> ObjectPath {
    path(&format!("runs/{run}/parts/{key}/{component}-{rank}.ok"))
}

/// `runs/<run>/commits`.
pub fn commits(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/commits"))
}

/// `runs/<run>/commits/<key>`.
pub fn commit(run: RunId, key: SaveKey) -> ObjectPath {
    path(&format!("runs/{run}/commits/{key}"))
}

/// `runs/<run>/tombstones`.
pub fn tombstones(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/tombstones"))
}

/// `runs/<run>/tombstones/<key>.<i>`.
pub fn tombstone(run: RunId, key: SaveKey, index: u64) -> ObjectPath {
    path(&format!("runs/{run}/tombstones/{key}.{index}"))
}

/// `runs/<run>/metrics`.
pub fn metrics(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/metrics"))
}

/// `runs/<run>/metrics/<segment>`.
pub fn segment(run: RunId, name: &SegmentName) -> ObjectPath {
    path(&format!("runs/{run}/metrics/{name}"))
}

/// `runs/<run>/files`.
pub fn file_lists(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/files"))
}

/// `runs/<run>/files/<writer>-<n>`.
pub fn file_list(run: RunId, writer: WriterId, number: u64) -> ObjectPath {
    path(&format!("runs/{run}/files/{writer}-{number}"))
}

/// `runs/<run>/copied`.
pub fn copied(run: RunId) -> ObjectPath {
    path(&format!("runs/{run}/copied"))
}

/// `runs/<run>/copied/<store>`: the run was born in another store, and this is a copy of what was there, or of some of it.
pub fn copied_from(run: RunId, store: StoreId) -> ObjectPath {
    path(&format!("runs/{run}/copied/{store}"))
}

/// Whether the highest tombstone index of a checkpoint says that it is deleted: even deletes, odd restores.
pub const fn is_deleted(highest_index: u64) -> bool {
    highest_index.is_multiple_of(2)
}

/// `pins`.
pub fn pins() -> ObjectPath {
    path("pins")
}

/// `pins/<name>`.
pub fn pin(name: &PinName) -> ObjectPath {
    path(&format!("pins/{}", name.0))
}

/// `gc`.
pub fn rounds() -> ObjectPath {
    path("gc")
}

/// `gc/<n>`.
pub fn round(number: u64) -> ObjectPath {
    path(&format!("gc/{number}"))
}

/// `gc/<n>.closed`.
pub fn round_closed(number: u64) -> ObjectPath {
    path(&format!("gc/{number}.closed"))
}

/// `chunks`.
pub fn chunks() -> ObjectPath {
    path("chunks")
}

/// `chunks/<2 hex>`: where every object of `hash` is.
pub fn chunk_shard(hash: ChunkHash) -> ObjectPath {
    path(&format!("chunks/{:02x}", hash.as_bytes()[0]))
}

/// `chunks/<2 hex>`: where every object is whose hash begins with `shard`.
pub fn chunk_shard_of(shard: u8) -> ObjectPath {
    path(&format!("chunks/{shard:02x}"))
}

/// `chunks/<2 hex>/<name>`.
pub fn chunk_object(name: &ObjectName) -> ObjectPath {
    path(&format!("chunks/{:02x}/{name}", name.hash.as_bytes()[0]))
}

/// A pin's name as it stands in the store: escaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinName(String);

impl PinName {
    /// The name for a pin that people call `name`.
    pub fn of(name: &str) -> Self {
        Self(escape(name))
    }

    /// What people call it; `None` if it was too long to stand in a path.
    pub fn name(&self) -> Option<String> {
        unescape(&self.0)
    }

    /// The last part of its path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a listed name.
    pub fn parse(listed: &str) -> Option<Self> {
        is_escaped(listed).then(|| Self(listed.to_owned()))
    }
}

/// Parses a listed `<component>-<rank>` or `<component>-<rank>.ok`; the flag says which.
pub fn parse_part(listed: &str) -> Option<(ComponentName, u32, bool)> {
    let (name, confirmation) = listed
        .strip_suffix(".ok")
        .map_or((listed, false), |name| (name, true));
    let (component, rank) = name.rsplit_once('-')?;
    Some((component.parse().ok()?, parse_number(rank)?, confirmation))
}

/// Parses a listed `<key>.<i>`.
pub fn parse_tombstone(listed: &str) -> Option<(SaveKey, u64)> {
    let (key, index) = listed.split_once('.')?;
    Some((key.parse().ok()?, parse_number(index)?))
}

/// Parses a listed `<lamport>-<writer>`.
pub fn parse_setting(listed: &str) -> Option<(u64, WriterId)> {
    let (lamport, writer) = listed.split_once('-')?;
    let id = writer.parse::<WriterId>().ok()?;
    (id.to_string() == writer).then_some((parse_number(lamport)?, id))
}

/// Parses a listed `<writer>-<n>`.
pub fn parse_file_list(listed: &str) -> Option<(WriterId, u64)> {
    let (writer, number) = listed.split_once('-')?;
    let id = writer.parse::<WriterId>().ok()?;
    (id.to_string() == writer).then_some((id, parse_number(number)?))
}

/// Parses a listed `<n>.<rank>`.
pub fn parse_seat(listed: &str) -> Option<(AttemptNumber, u32)> {
    let (attempt, rank) = listed.split_once('.')?;
    Some((parse_attempt(attempt)?, parse_number(rank)?))
}

/// Parses a listed `<n>` or `<n>.closed`; the flag says which.
pub fn parse_round(listed: &str) -> Option<(u64, bool)> {
    let (number, closed) = listed
        .strip_suffix(".closed")
        .map_or((listed, false), |number| (number, true));
    Some((parse_number(number)?, closed))
}

/// Parses a listed `<first ordinal, 20 digits>.log`.
pub fn parse_journal_piece(listed: &str) -> Option<u64> {
    let digits = listed.strip_suffix(".log")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// Parses decimal digits in their one spelling: no sign, no leading zero.
pub fn parse_number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Escapes a name that people chose so that it can stand as one part of a path, on every file system and bucket.
///
/// Everything but `A-Z a-z 0-9 _ -` becomes `%XX` (uppercase, of the UTF-8 bytes): no dot, no slash, nothing that a shell or a
/// file system treats specially. A result longer than [`MAX_ESCAPED_BYTES`] becomes `~` and the BLAKE3 of the name. The empty name is `%`.
pub fn escape(name: &str) -> String {
    use std::fmt::Write as _;
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut escaped = String::with_capacity(name.len());
    for &byte in name.as_bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("BUG: writing to a string fails never");
        }
    }
    if escaped.len() > MAX_ESCAPED_BYTES {
        return format!("~{}", blake3::hash(name.as_bytes()).to_hex());
    }
    escaped
}

/// The name that [`escape`] made `escaped` from; `None` if it is a hash or not an escaped name.
pub fn unescape(escaped: &str) -> Option<String> {
    if escaped == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (escape(&name) == escaped).then_some(name)
}

/// Whether `listed` is something that [`escape`] can have made.
pub fn is_escaped(listed: &str) -> bool {
    match listed.strip_prefix('~') {
        Some(hash) => hash.parse::<ChunkHash>().is_ok(),
        None => unescape(listed).is_some(),
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Parses a listed id.
pub(crate) fn parse_id<T: std::str::FromStr>(listed: &str) -> Option<T> {
    listed.parse().ok()
}

/// Parses a listed attempt number.
pub(crate) fn parse_attempt(listed: &str) -> Option<AttemptNumber> {
    parse_number(listed)
        .filter(|&number: &u32| number > 0)
        .map(AttemptNumber)
}

/// A put id's text, for object names.
pub(crate) fn parse_put_id(text: &str) -> Option<PutId> {
    text.parse().ok()
}
