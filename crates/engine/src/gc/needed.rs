//! Which chunks are needed: the set that roots reach, and the bases of what they reach.
//!
//! A hash is kept by its first eight bytes, in eight bytes: a million chunks take sixteen megabytes. Two chunks that share them are both kept when one is needed,
//! so a collision keeps a little garbage and never loses anything.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use runtree_core::{ChunkHash, Result};
use runtree_store::{ObjectEncoding, ObjectName, Store};

/// The first eight bytes of a hash.
pub(super) type Prefix = u64;

/// Directories of chunks.
pub(super) const SHARDS: u64 = 256;

/// The first eight bytes of a hash, most significant first.
pub(super) fn prefix(hash: &ChunkHash) -> Prefix {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// What is a hash already needs no hashing.
#[derive(Debug, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The tables take their tag from the upper bits and their place from the lower ones; those of one shard share the uppermost byte.
        self.0 = value.rotate_left(13);
    }
}

/// A set of chunks.
pub(super) type Prefixes = HashSet<Prefix, BuildHasherDefault<Identity>>;

/// The differences of a store, by chunk: from the names of its objects alone.
#[derive(Debug, Default)]
pub(super) struct Differences {
    bases: HashMap<Prefix, Vec<Prefix>, BuildHasherDefault<Identity>>,
}

impl Differences {
    pub(super) fn note(&mut self, name: &ObjectName) {
        if let ObjectEncoding::Delta(base) = name.encoding {
            let bases = self.bases.entry(prefix(&name.hash)).or_default();
            let base = prefix(&base);
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }

    /// Adds the bases of every difference of a chunk of the set, and theirs.
    pub(super) fn close(&self, set: &mut Prefixes) {
        let mut open: Vec<Prefix> = set
            .iter()
            .filter(|&prefix| self.bases.contains_key(prefix))
            .copied()
            .collect();
        while let Some(at) = open.pop() {
            for &base in self.bases.get(&at).into_iter().flatten() {
                if set.insert(base) {
                    open.push(base);
                }
            }
        }
    }
}

/// Calls `each` for the chunk objects of one directory after another, sorted.
pub(super) fn walk(
    store: &Store,
    mut each: impl FnMut(&[ObjectName]),
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    for shard in 0..=u8::MAX {
        let mut names = store.list_shard(shard)?;
        names.sort_unstable();
        each(&names);
        progress(u64::from(shard) + 1);
    }
    Ok(())
}
