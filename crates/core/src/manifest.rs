//! Immutable JSON records of a store: births of runs, attempts, part manifests, commits, tombstones, pins.
//!
//! Every record starts with `format` and `version`; a reader refuses a version it does not know ([`Record::load`]). Records are
//! written in one canonical form (field order of the struct, no spaces), so that two writers of the same facts write the same
//! bytes and "exists and is equal" is success. Their last field, `check`, is a checksum of all before it: a flipped bit that leaves
//! valid JSON must not move a run's history. Only parts have none, since commits hold the hash of their bytes. What the records mean
//! and when they are written is PROTOCOL; the byte layout is `docs/formats/records.md`. Parsers here trust nothing: see [`PartManifest::check`].

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::hash::{ChunkHash, PartHash};
use crate::id::{
    AttemptNumber, ComponentName, DisplayId, ProjectName, RunId, SaveKey, Step, StoreId, WriterId,
};

mod check;
mod part;

pub use part::{BlockChecksums, ChunkRecord, Entry, EntryContent, Extent, PartManifest};

/// Bytes of a block: the unit that is read, decoded and verified on its own.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Most bytes of a chunk: one object, one PUT.
pub const MAX_CHUNK_BYTES: u64 = 64 << 20;
/// Most bytes of a JSON record that a reader accepts (a part of 1 TB with 100,000 tensors has about 60 MB).
pub const MAX_RECORD_BYTES: u64 = 1 << 30;

/// A versioned JSON record.
pub trait Record: Serialize + DeserializeOwned {
    /// The value of the field `format`.
    const FORMAT: &'static str;
    /// The version this build writes, and the newest it reads.
    const VERSION: u32;
    /// Whether the last field is a checksum of the bytes before it. Not where another record holds the hash of the whole.
    const CHECKED: bool;

    /// The canonical bytes.
    fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Head<'a, T> {
            format: &'static str,
            version: u32,
            #[serde(flatten)]
            body: &'a T,
        }
        let mut bytes = serde_json::to_vec(&Head {
            format: Self::FORMAT,
            version: Self::VERSION,
            body: self,
        })
        .expect("BUG: records have string keys and no failing serializer");
        if Self::CHECKED {
            bytes.pop();
            let check = check_field(&bytes);
            bytes.extend_from_slice(check.as_bytes());
        }
        bytes
    }

    /// Parses bytes that were read as `what` (an object's path, for the error).
    ///
    /// # Errors
    /// `Unsupported` if the version is newer than this build; `Corrupt` if the bytes are not this record.
    fn load(bytes: &[u8], what: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        if bytes.len() as u64 > MAX_RECORD_BYTES {
            return Err(Error::corrupt(format!(
                "{what} has {} bytes, a record has at most {MAX_RECORD_BYTES}",
                bytes.len()
            )));
        }
        let corrupt = |error: serde_json::Error| {
            Error::corrupt(format!("{what} is not a {} record", Self::FORMAT)).with_source(error)
        };
        let head: Head = serde_json::from_slice(bytes).map_err(corrupt)?;
        if head.format != Self::FORMAT {
            return Err(Error::corrupt(format!(
                "{what} is a {} record, expected {}",
                head.format,
                Self::FORMAT
            )));
        }
        if Self::CHECKED {
            verify_check(bytes, what)?;
        }
        if head.version == 0 {
            return Err(Error::corrupt(format!(
                "{what} has {} version 0, which never was",
                Self::FORMAT
            )));
        }
        if head.version > Self::VERSION {
            return Err(Error::unsupported(format!(
                "{what} has {} version {}, this runtree reads up to {}",
                Self::FORMAT,
                head.version,
                Self::VERSION
            ))
            .with_hint("upgrade runtree: pip install -U runtree"));
        }
        serde_json::from_slice(bytes).map_err(corrupt)
    }
}

/// Bytes of [`check_field`].
const CHECK_FIELD_BYTES: usize = r#","check":"0123456789abcdef"}"#.len();

/// The end of a record that begins with `bytes`: its last field and the closing brace.
fn check_field(bytes: &[u8]) -> String {
    let hash = blake3::hash(bytes).to_hex();
    format!(r#","check":"{}"}}"#, &hash[..16])
}

/// Compares the end of a record with what precedes it.
fn verify_check(bytes: &[u8], what: &str) -> Result<()> {
    let (body, found) = bytes.split_at(bytes.len().saturating_sub(CHECK_FIELD_BYTES));
    if found == check_field(body).as_bytes() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{what} is damaged: its checksum does not match its content"
    )))
}

macro_rules! record {
    ($name:ident, $format:literal, $version:literal, checked: $checked:literal) => {
        impl Record for $name {
            const FORMAT: &'static str = $format;
            const VERSION: u32 = $version;
            const CHECKED: bool = $checked;
        }
    };
}

/// `runtree.json`: what a store is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// The store's id.
    pub id: StoreId,
    /// When it was made.
    pub created: Timestamp,
    /// Features a reader must know.
    pub required_to_read: Vec<String>,
    /// Features a writer must know.
    pub required_to_write: Vec<String>,
    /// Whether conditional create was probed and is atomic here.
    pub conditional_create: bool,
}
record!(StoreRecord, "runtree.store", 1, checked: true);

/// A point of a run's history: after `step` of `attempt` of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BasePoint {
    /// The run.
    pub run: RunId,
    /// The launch of that run that is built upon.
    pub attempt: AttemptNumber,
    /// Inherited up to and including this step.
    pub step: Step,
}

/// A checkpoint by its name in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointName {
    /// The run that saved it.
    pub run: RunId,
    /// Under which key.
    pub key: SaveKey,
}

/// Where a run was forked from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForkOrigin {
    /// The run the user named.
    pub declared: RunId,
    /// The ancestor whose own history holds the step, its attempt, and the step (inclusive).
    pub owner: BasePoint,
    /// The checkpoint that `load()` starts from, if the fork names one: at `step` or before it.
    pub checkpoint: Option<CheckpointName>,
}

/// `runs/<run>/run`: a run's immutable birth record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: ProjectName,
    /// Its display id, as taken at birth.
    pub display_id: DisplayId,
    /// The caller's own name for it, unique in the project.
    pub key: Option<String>,
    /// Its name at birth.
    pub name: String,
    /// The root's name, shared by the lineage.
    pub experiment: String,
    /// When it was born.
    pub created: Timestamp,
    /// Where it was forked from.
    pub fork: Option<ForkOrigin>,
    /// A checkpoint of another run it starts from without forking.
    pub base: Option<CheckpointName>,
    /// Its config at birth: a JSON object, the inherited keys merged in.
    pub config: Value,
    /// Dotted paths of the config keys that were inherited and not overridden.
    pub inherited_config: Vec<String>,
    /// Its tags at birth.
    pub tags: Vec<String>,
    /// Its notes at birth.
    pub notes: Option<String>,
}
record!(RunRecord, "runtree.run", 1, checked: true);

/// `runs/<run>/attempts/<n>`: one launch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The run.
    pub run: RunId,
    /// The launch's number.
    pub attempt: AttemptNumber,
    /// What it is built upon; none for the first launch of a root.
    pub base: Option<BasePoint>,
    /// The checkpoint that all ranks load.
    pub checkpoint: Option<CheckpointName>,
    /// What made this launch: `start`, `fork`, `resume`, `rewind`.
    pub kind: AttemptKind,
    /// Equal in all processes of the launch.
    pub launch_key: String,
    /// When it was made.
    pub created: Timestamp,
    /// Host, command line, git commit and the like; for people.
    pub launch: BTreeMap<String, String>,
}
record!(AttemptRecord, "runtree.attempt", 1, checked: true);

/// What made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    /// The first launch of a root.
    Start,
    /// The first launch of a fork.
    Fork,
    /// A later launch that continues the run.
    Resume,
    /// The same process going back to an earlier step.
    Rewind,
}

/// How far a writer's journal was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPosition {
    /// The writer.
    pub writer: WriterId,
    /// Frames `0..ordinal` were durable.
    pub ordinal: u64,
    /// The running hash after them (docs/formats/journal.md), hexadecimal.
    #[serde(with = "hex_u64")]
    pub hash: u64,
}

record!(PartManifest, "runtree.part", 1, checked: false);

/// `runs/<run>/commits/<key>`: the one object that decides whether a checkpoint exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The run.
    pub run: RunId,
    /// The save.
    pub key: SaveKey,
    /// What was decided.
    pub outcome: Outcome,
    /// The parts, sorted by (component, rank); empty if abandoned.
    pub parts: Vec<CommittedPart>,
}
record!(CommitRecord, "runtree.commit", 1, checked: true);

/// What a commit decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The checkpoint exists.
    Committed,
    /// It never will.
    Abandoned,
}

/// A part as its commit names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommittedPart {
    /// Who wrote it.
    pub component: ComponentName,
    /// Which of them.
    pub rank: u32,
    /// BLAKE3 of the manifest's bytes.
    pub hash: PartHash,
}

/// `runs/<run>/parts/<key>/<component>-<rank>.ok`: the writer looked again (W4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartConfirmation {
    /// BLAKE3 of the manifest that is confirmed.
    pub hash: PartHash,
}
record!(PartConfirmation, "runtree.part-ok", 1, checked: true);

/// `runs/<run>/tombstones/<key>.<i>`: even `i` deleted, odd restored; the highest decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Why, in words.
    pub reason: String,
    /// When, by the writer's clock; for people.
    pub created: Timestamp,
}
record!(TombstoneRecord, "runtree.tombstone", 1, checked: true);

/// `pins/<name>`: keeps a checkpoint whatever retention says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Why, in words.
    pub reason: String,
    /// When, by the writer's clock; for people.
    pub created: Timestamp,
    /// Set for a lease: rewritten by its holder, it lapses when unchanged for this long.
    pub ttl_seconds: Option<u64>,
}
record!(PinRecord, "runtree.pin", 1, checked: true);

/// `projects/<project>/settings/<lamport>-<writer>`: a small value that belongs to a project; per key the largest (Lamport count, writer)
/// counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingRecord {
    /// What is set: `view/<name>`, `head/<root run>`.
    pub key: String,
    /// Its value; none takes it away.
    pub value: Option<serde_json::Value>,
    /// When, by the writer's clock; for people.
    pub created: Timestamp,
}
record!(SettingRecord, "runtree.setting", 1, checked: true);

/// `runs/<run>/files/<writer>-<n>`: chunks that a journal names, written before the events that do. They are kept as long as the run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// The chunks, ascending, each once.
    pub chunks: Vec<ChunkHash>,
}
record!(FilesRecord, "runtree.files", 1, checked: true);

/// `gc/<n>`: a round of a collector; its names are nobody's dedup hits any more (W1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// File names of the objects the collector wants to delete.
    pub objects: Vec<String>,
    /// When, by the collector's clock; for people.
    pub created: Timestamp,
}
record!(RoundRecord, "runtree.gc-round", 1, checked: true);

/// `u64` as 16 hexadecimal digits.
pub(crate) mod hex_u64 {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        // One spelling: what `serialize` writes.
        let hexadecimal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(hexadecimal) {
            return Err(serde::de::Error::custom(
                "not 16 lowercase hexadecimal digits",
            ));
        }
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
