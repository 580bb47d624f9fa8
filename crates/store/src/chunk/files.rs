//! Chunks that a journal names instead of a part: media and attached files. They follow the same rules (W1–W4): the list is what a collector reads.

use std::collections::HashMap;

use bytes::Bytes;
use runtree_core::manifest::{ChunkRecord, FilesRecord};
use runtree_core::{ChunkHash, Result, RunId, WriterId};

use super::SaveSession;
use crate::layout;
use crate::store::{Created, Store};

/// Where the next list of a writer goes. One per writer, shared by nobody else: lists are numbered in the order in which they are written.
#[derive(Debug)]
pub struct FileList {
    run: RunId,
    writer: WriterId,
    next: u64,
}

impl FileList {
    /// The lists of `writer` in `run`, which has written none yet.
    pub fn new(run: RunId, writer: WriterId) -> Self {
        Self {
            run,
            writer,
            next: 0,
        }
    }
}

impl Store {
    /// Lists chunks that journals of a run name (W3). Nothing is written if there is none.
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn list_files(&self, list: &mut FileList, mut chunks: Vec<ChunkHash>) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        chunks.sort_unstable();
        let record = FilesRecord { chunks };
        loop {
            let path = layout::file_list(list.run, list.writer, list.next);
            list.next += 1;
            match self.create_record(&path, &record)? {
                Created::Created | Created::ExistsEqual => return Ok(()),
                // One of ours, whose answer was lost.
                Created::ExistsOther(_) => {}
            }
        }
    }
}

impl SaveSession {
    /// Says that a journal will name every chunk of this session: makes them durable, publishes their list (W3), and looks again (W4); what a collector took meanwhile is
    /// put again from `refill`. Once this returned the journal may name them. Nothing is written if there is no chunk.
    ///
    /// # Errors
    /// `LostData` if a chunk is gone and `refill` does not have it; else as the store says.
    pub fn publish_files(
        self,
        list: &mut FileList,
        mut refill: impl FnMut(&ChunkRecord) -> Result<Option<Bytes>>,
    ) -> Result<()> {
        let placed = self.placed();
        if placed.is_empty() {
            return Ok(());
        }
        let paths: Vec<_> = placed
            .iter()
            .map(|(name, _)| layout::chunk_object(name))
            .collect();
        self.store.sync_dirs(&paths)?;
        let chunks = placed.iter().map(|(_, chunk)| chunk.hash).collect();
        self.store.list_files(list, chunks)?;
        let objects: HashMap<_, _> = placed
            .iter()
            .map(|(name, chunk)| (chunk.hash, *name))
            .collect();
        let chunks = placed.iter().map(|(_, chunk)| chunk);
        self.store
            .look_again(&self.rounds, chunks, &objects, &mut refill)
            .map(drop)
    }
}
