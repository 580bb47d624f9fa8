//! What a part references, without the rest of it: a manifest may describe a hundred thousand tensors, and who collects asks for its chunks alone.

use runtree_core::manifest::{FilesRecord, PartManifest, Record as _};
use runtree_core::{ChunkHash, ComponentName, Error, PartHash, Result, RunId, SaveKey, WriterId};
use serde::Deserialize;

use super::Store;
use crate::layout::{self, ObjectPath};

/// A chunk that a part references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct OutlinedChunk {
    /// Which.
    pub hash: ChunkHash,
    /// Its raw bytes.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Outline {
    format: String,
    version: u32,
    chunks: Vec<OutlinedChunk>,
}

impl Store {
    /// The chunks of a part. `committed` is what its commit says of its bytes; without it the part is pending.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if the bytes are others than were committed, or no part; `Unsupported` if a newer runtree wrote it.
    pub fn read_part_chunks(
        &self,
        run: RunId,
        key: SaveKey,
        (component, rank): (&ComponentName, u32),
        committed: Option<PartHash>,
    ) -> Result<Vec<OutlinedChunk>> {
        let path = layout::part(run, key, component, rank);
        let bytes = self.read_bytes(&path)?;
        if let Some(expected) = committed {
            let found = PartHash::of(&bytes);
            if found != expected {
                return Err(Error::corrupt(format!(
                    "{path} has the hash {found}, its commit says {expected}"
                )));
            }
        }
        parse_outline(&bytes, &path)
    }

    /// The chunks that a list of files names.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub fn read_file_list(
        &self,
        run: RunId,
        writer: WriterId,
        number: u64,
    ) -> Result<Vec<ChunkHash>> {
        let record: FilesRecord = self.read_record(&layout::file_list(run, writer, number))?;
        Ok(record.chunks)
    }
}

fn parse_outline(bytes: &[u8], path: &ObjectPath) -> Result<Vec<OutlinedChunk>> {
    let corrupt = || Error::corrupt(format!("{path} is not a {} record", PartManifest::FORMAT));
    let outline: Outline =
        serde_json::from_slice(bytes).map_err(|error| corrupt().with_source(error))?;
    if outline.format != PartManifest::FORMAT {
        return Err(corrupt());
    }
    if outline.version > PartManifest::VERSION {
        return Err(Error::unsupported(format!(
            "{path} has version {}, this runtree reads up to {}",
            outline.version,
            PartManifest::VERSION
        ))
        .with_hint("upgrade runtree: pip install -U runtree"));
    }
    Ok(outline.chunks)
}
