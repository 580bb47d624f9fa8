//! A part manifest: what one (component, rank) wrote, and where its bytes are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JournalPosition;
use crate::clock::Timestamp;
use crate::hash::ChunkHash;
use crate::id::{ComponentName, RunId, SaveKey};
use crate::state::{StateNode, TensorRecord};

/// `runs/<run>/parts/<key>/<component>-<rank>`: what one (component, rank) wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartManifest {
    /// The run.
    pub run: RunId,
    /// The save.
    pub key: SaveKey,
    /// Who wrote this part.
    pub component: ComponentName,
    /// Which of them, from 0.
    pub rank: u32,
    /// The declared part set: component → number of ranks. The checkpoint exists when all of them are confirmed.
    pub parts: BTreeMap<ComponentName, u32>,
    /// Whether leaves of this part are shards of global tensors.
    pub sharded: bool,
    /// The checkpoint's own name, if the user gave one.
    pub name: Option<String>,
    /// When `save` was called.
    pub created: Timestamp,
    /// Metrics given with `save(metrics=)`.
    #[serde(with = "crate::float::map")]
    pub metrics: BTreeMap<String, f64>,
    /// How far this writer's journal was durable before the part was written.
    pub journal: JournalPosition,
    /// Raw bytes of all entries.
    pub bytes: u64,
    /// The chunks, in order of use; entries and tensors name them by index.
    pub chunks: Vec<ChunkRecord>,
    /// Files and state trees.
    pub entries: Vec<Entry>,
}
/// A chunk that a part references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// BLAKE3 of the raw bytes.
    pub hash: ChunkHash,
    /// Raw bytes, at most [`MAX_CHUNK_BYTES`](super::MAX_CHUNK_BYTES).
    pub bytes: u64,
    /// CRC-64/NVME of each [`BLOCK_BYTES`](super::BLOCK_BYTES) of raw bytes, 16 hexadecimal digits each, one after another.
    pub crc64: BlockChecksums,
    /// File name of the object that the writer referenced: a hint, tried first. Any object of the hash serves.
    pub object: String,
}

/// One CRC-64/NVME per block of a chunk. In JSON: 16 lowercase hexadecimal digits per block, concatenated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockChecksums(pub Vec<u64>);

impl Serialize for BlockChecksums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(self.0.len() * 16);
        for crc in &self.0 {
            write!(text, "{crc:016x}").expect("BUG: writing to a string fails never");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for BlockChecksums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let well_formed = text.len().is_multiple_of(16)
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(serde::de::Error::custom(
                "block checksums are not groups of 16 lowercase hexadecimal digits",
            ));
        }
        let group = |at: usize| {
            u64::from_str_radix(&text[at..at + 16], 16).map_err(serde::de::Error::custom)
        };
        (0..text.len())
            .step_by(16)
            .map(group)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A piece of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Index into [`PartManifest::chunks`].
    pub chunk: u32,
    /// First byte in the raw chunk.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// One file or one state tree inside a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The state's name (`state` for `save`), or the file's path inside the saved directory, `/` between its parts.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub content: EntryContent,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryContent {
    /// A state tree whose tensors and long byte strings are in chunks.
    State {
        /// The tree; leaves name `tensors` and `blobs` by index.
        tree: StateNode,
        /// The tensors.
        tensors: Vec<TensorRecord>,
        /// Byte strings and texts too long for the manifest.
        blobs: Vec<Vec<Extent>>,
    },
    /// A regular file.
    File {
        /// Its bytes, in order.
        extents: Vec<Extent>,
        /// Its length.
        bytes: u64,
        /// Unix permission bits (`0o777` mask).
        mode: u32,
        /// Tensors that lie in it, as the file itself names them: their extents are parts of the file's. Empty where it names none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tensors: Vec<TensorRecord>,
    },
    /// An empty directory.
    Directory {
        /// Unix permission bits.
        mode: u32,
    },
    /// A symbolic link that stays inside the saved directory.
    Symlink {
        /// Where it points, relative to its own directory.
        target: String,
    },
}

impl EntryContent {
    /// The tensors in it, a state's or those that a file names.
    pub fn tensors(&self) -> &[TensorRecord] {
        match self {
            Self::State { tensors, .. } | Self::File { tensors, .. } => tensors,
            Self::Directory { .. } | Self::Symlink { .. } => &[],
        }
    }
}
