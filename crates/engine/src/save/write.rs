//! Chunks on their way into the store: hashed, found or put, on the pool's threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::manifest::ChunkRecord;
use runtree_core::{ChunkHash, Error, Result, RunId};
use runtree_store::{SaveSession, Store, checksum};

use super::committer::Waker;
use super::outlive::{Held, Outlive};
use super::progress::Progress;
use super::stage::Sink;
use crate::engine::Engine;

/// Longest wait for what was deleted of the run before. A full disk is not made fuller by waiting, and a slow one not faster: then both go on together.
const PRUNE_PATIENCE: Duration = Duration::from_secs(30);

/// What the chunk jobs of one save share: its session in the store, begun by the first of them (W1 costs a listing, which the trainer does not wait for).
#[derive(Debug)]
pub(crate) struct Writing {
    store: Store,
    /// Whose save it is: what was deleted of this run before goes first. None for a save that a process before this one staged.
    saver: Option<(Arc<Engine>, RunId)>,
    session: RwLock<Option<SaveSession>>,
    /// Bytes of chunks that were found and not put: if a collector takes such an object before the part is confirmed, they are put from here. None
    /// if the save is larger than the staging memory: then it needs every segment back at once.
    kept: Mutex<Option<HashMap<ChunkHash, Bytes>>>,
    /// So that the save may outlive this process.
    pub(crate) outlive: Arc<Outlive>,
}

impl Writing {
    pub(crate) fn new(engine: Arc<Engine>, run: RunId) -> Self {
        let mut writing = Self::recovered(engine.store().clone());
        writing.saver = Some((engine, run));
        writing
    }

    /// Of a save that a process before this one staged.
    pub(crate) fn recovered(store: Store) -> Self {
        Self {
            store,
            saver: None,
            session: RwLock::new(None),
            kept: Mutex::new(Some(HashMap::new())),
            outlive: Arc::default(),
        }
    }

    /// Keeps no chunk's memory from now on.
    pub(crate) fn keep_nothing(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The bytes of a chunk, if they are still here.
    pub(crate) fn kept(&self, hash: &ChunkHash) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()?.get(hash).cloned()
    }

    /// The session, to publish with; a new one if there was no chunk to write.
    pub(crate) fn take_session(&self) -> Result<SaveSession> {
        let taken = self
            .session
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match taken {
            Some(session) => Ok(session),
            None => self.begin(),
        }
    }

    /// Begins to write: once what was deleted of the run before is gone, so that the disk never holds more than a policy keeps, a little trash, and this.
    fn begin(&self) -> Result<SaveSession> {
        if let Some((engine, run)) = &self.saver {
            let deadline = Instant::now() + PRUNE_PATIENCE;
            if engine.retainer().has_pruned(*run) {
                engine.encoder().wait_at_rest(*run, deadline);
            }
            engine.retainer().settle(*run, deadline);
            engine.retainer().expect(*run);
        }
        self.store.begin_save()
    }

    fn write(&self, bytes: Bytes) -> Result<ChunkRecord> {
        let sum = checksum(&bytes);
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        if session.is_none() {
            drop(session);
            let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
            if session.is_none() {
                *session = Some(self.begin()?);
            }
            drop(session);
        }
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        let session = session
            .as_ref()
            .ok_or_else(|| Error::internal("a chunk was written after its part was published"))?;
        let put = session.put_chunk(bytes.clone(), sum)?;
        if put.written == 0 {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = kept.as_mut() {
                kept.insert(put.record.hash, bytes);
            }
        }
        Ok(put.record)
    }
}

/// Puts the chunks of one save before the writing threads.
#[derive(Debug)]
pub(crate) struct ChunkJobs {
    pub(crate) engine: Arc<Engine>,
    pub(crate) writing: Arc<Writing>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) waker: Waker,
}

impl Sink for ChunkJobs {
    fn in_turns(&self) {
        self.writing.keep_nothing();
    }

    fn hold(&self, held: Held) {
        self.writing.outlive.hold(held);
        self.waker.wake();
    }

    /// Has chunk `index` written.
    fn submit(&self, index: usize, bytes: Bytes) {
        let job = ChunkJob {
            writing: Arc::clone(&self.writing),
            progress: Arc::clone(&self.progress),
            waker: self.waker.clone(),
            index,
        };
        let pool = &self.engine.saver().pool;
        pool.submit(Box::new(move || job.run(bytes)));
    }
}

impl ChunkJobs {
    /// Ends the save: its chunks will not come.
    pub(crate) fn fail(&self, error: Error) {
        self.progress.fail(error);
        self.waker.wake();
    }
}

/// One chunk to write.
#[derive(Debug)]
struct ChunkJob {
    writing: Arc<Writing>,
    progress: Arc<Progress>,
    waker: Waker,
    index: usize,
}

impl ChunkJob {
    /// Writes the chunk and says so.
    fn run(self, bytes: Bytes) {
        let mut report = Report {
            job: &self,
            result: Some(Err(Arc::new(Error::internal("a writing thread panicked")))),
        };
        report.result = Some(if self.progress.chunks_are_done() {
            // Failed or cancelled already: the bytes are not wanted any more.
            Err(Arc::new(cancelled(&self.progress)))
        } else {
            self.writing.write(bytes).map_err(Arc::new)
        });
    }
}

/// The error of a save that was given up.
pub(crate) fn cancelled(progress: &Progress) -> Error {
    Error::conflict(format!(
        "save {} was cancelled before it was published",
        progress.key()
    ))
}

/// Reports when it is dropped: even a panic ends the chunk.
struct Report<'j> {
    job: &'j ChunkJob,
    result: Option<Result<ChunkRecord, Arc<Error>>>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            let failed = result.is_err();
            let last = self.job.progress.chunk_done(self.job.index, result);
            if last || failed {
                self.job.waker.wake();
            }
        }
    }
}
