//! Saving: the blocking part is one copy of memory; hashing, writing and committing run on native threads.
//!
//! ```text
//! save() ── request ─ draft (plan) ─ stage (arena) ──► returns PendingSave      (guarded memory is staged by a thread, after that)
//!                                      │ chunk by chunk
//!                    pool threads: hash, dedup, put   (W1, W2)
//!                                      │ all chunks durable
//!                    committer: journal flushed ─ part (W3) ─ looked again (W4) ─ .ok ─ commit once all parts are (W5)
//! ```
//!
//! The order is the protocol's (docs/design/0001) and is kept by `commit` alone. Wrong calls raise in `save`; what disk, network and
//! other ranks do shows in [`PendingSave::result`] and in the run's `finish`, never in the training loop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use runtree_core::manifest::{CheckpointName, PartManifest};
use runtree_core::{Error, Result, SaveKey, Step};

use crate::engine::Engine;
use crate::live::RunWriter;

mod arena;
mod commit;
mod committer;
mod copy;
mod draft;
mod files;
mod guarded;
mod ingest;
mod memory;
mod outlive;
mod owner;
mod pending;
mod plan;
mod pool;
mod progress;
mod recover;
mod request;
mod stage;
mod tool;
mod write;

pub use pending::PendingSave;
pub use request::{EntrySource, IfBusy, Ready, SaveRequest, TensorData, TensorSource};

pub(crate) use arena::Use as StagingUse;
pub(crate) use commit::Owner;
pub(crate) use committer::RunSaves;
pub(crate) use copy::threads;
pub(crate) use ingest::{FoundKind, link_stays_inside, walk};
pub(crate) use pending::share;
pub(crate) use tool::Tool;

use arena::Arena;
use commit::Active;
use draft::Inputs;
use pool::Pool;
use progress::{Ended, Progress};
use request::Role;
use stage::{MAX_WAIT, Staged};

/// For the end of a process, which may come without destructors: takes the names of all its staging memory away. What is staged and not written stays for the next
/// one.
pub fn leave_staging() {
    runtree_shm::leave_all();
}

/// What all saves of a process share: staging memory and writing threads. One per engine; empty until the first save.
#[derive(Debug)]
pub(crate) struct Saver {
    arena: Arc<Arena>,
    pool: Pool,
    /// Where processes before this one may have left something.
    base: Mutex<Option<PathBuf>>,
    /// What became of it, until somebody is told.
    recovered: Mutex<Option<recover::Recovered>>,
}

impl Saver {
    /// Shared means of saving with at most `staging_bytes` of memory; none: half of what the process may use.
    pub(crate) fn new(staging_bytes: Option<u64>) -> Self {
        Self {
            arena: Arena::new(staging_bytes.unwrap_or_else(Arena::default_limit_bytes)),
            pool: Pool::default(),
            base: Mutex::default(),
            recovered: Mutex::default(),
        }
    }
}

impl Saver {
    /// Says that somebody will save, until what is returned is dropped: staging memory is kept for that long.
    pub(crate) fn enter(&self) -> arena::Use {
        self.arena.enter()
    }

    fn base(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether chunks are being written or wait for it.
    pub(crate) fn is_writing(&self) -> bool {
        self.pool.is_busy()
    }
}

impl Engine {
    /// Bounds the staging memory of this engine's saves from now on: two of the largest chunks at least. Memory beyond it that is there already goes back to
    /// the system when saves return it.
    pub fn limit_staging(&self, bytes: u64) {
        self.saver().arena.set_limit(bytes);
    }

    /// Stages in memory that outlives this process from now on, as far as there is room for it below `base`, a directory of a file system in memory: what a
    /// process that is killed had staged is written by the next [`Engine::recover_staged`] with the same base (docs/design/0006). None: in private memory.
    pub fn stage_in(&self, base: Option<PathBuf>) {
        self.saver().base().clone_from(&base);
        let shelf = self.shelf();
        let place = base.map(|base| memory::StagingPlace { base, shelf });
        self.saver().arena.supply().set_place(place);
    }

    /// Makes staging memory ready for saves of about `bytes` bytes, on a thread of its own: without it the first save pays for the first touch of every
    /// page, several times a copy. Call it where the size is known early: a checkpoint that was loaded, a state that was checked.
    pub fn prepare_staging(&self, bytes: u64) {
        if bytes <= stage::SMALL_BYTES {
            return;
        }
        let arena = Arc::clone(&self.saver().arena);
        // Without a thread the first save is slower, and that is all.
        let _ = std::thread::Builder::new()
            .name("runtree-stage".to_owned())
            .spawn(move || arena.prefault(bytes));
    }
}

impl RunWriter {
    /// Saves. Returns when the state has been copied; [`PendingSave::result`] says when the checkpoint exists.
    ///
    /// # Errors
    /// `Invalid` for wrong calls: sizes that do not fit, ranks that contradict each other, a step that is nowhere given. Nothing else.
    pub fn save(self: &Arc<Self>, request: SaveRequest<'_>) -> Result<PendingSave> {
        if !self.is_owner_process() {
            return Err(Error::conflict(
                "the run belongs to the parent process; a forked child can not save",
            ));
        }
        let step = request.step.or_else(|| self.last_step()).ok_or_else(|| {
            Error::invalid("save needs step=: nothing was logged yet")
                .with_hint("run.save(state, step=0)")
        })?;
        let owner: Arc<dyn Owner> = self.clone();
        save(&owner, step, request)
    }
}

/// Saves for a live run, or a tool that imports.
///
/// # Errors
/// As [`RunWriter::save`].
pub(crate) fn save(
    owner: &Arc<dyn Owner>,
    step: Step,
    mut request: SaveRequest<'_>,
) -> Result<PendingSave> {
    request::check(&request)?;
    if owner.saves().is_closed() {
        return Err(
            Error::invalid("the run is finished; nothing can be saved any more").with_hint(
                "save before run.finish(), or start the run again with resume=\"allow\"",
            ),
        );
    }
    let role = Arc::new(Role::of(&request, owner.launch_key_is_random())?);
    let mut inputs = Inputs::take(std::mem::take(&mut request.entries))?;
    let trees = inputs.take_trees();
    let draft = inputs.draft(trees)?;

    let attempt = owner.attempt();
    let key = SaveKey {
        attempt,
        step,
        k: owner
            .saves()
            .count(attempt, step, &role.component, role.rank),
    };
    let writing = Arc::new(write::Writing::new(Arc::clone(owner.engine()), owner.run()));
    let pending = |progress| PendingSave {
        engine: Arc::clone(owner.engine()),
        run: owner.run(),
        role: Arc::clone(&role),
        progress,
        outlive: Arc::clone(&writing.outlive),
    };
    if let Some(error) = owner.known_fence() {
        return Ok(pending(refused(owner, key, error)));
    }
    let patience = match request.if_busy {
        IfBusy::Wait => MAX_WAIT,
        IfBusy::Skip => std::time::Duration::ZERO,
    };
    if !owner.saves().has_room(Instant::now() + patience) {
        return Ok(pending(skipped(owner, key, request.if_busy)));
    }

    let progress = Progress::new(key, draft.chunk_bytes.len());
    let saver = owner.engine().saver();
    let chunks = write::ChunkJobs {
        engine: Arc::clone(owner.engine()),
        writing: Arc::clone(&writing),
        progress: Arc::clone(&progress),
        waker: owner.saves().waker(),
    };
    let staged = stage::stage(
        &saver.arena,
        &draft,
        request.if_busy,
        request.ready,
        &chunks,
    )
    .and_then(|staged| inputs.check_unchanged().map(|()| staged));
    let rest = match staged {
        Ok(Staged::Whole) => None,
        Ok(Staged::Rest(rest)) => Some(rest),
        Ok(Staged::NoMemory) => {
            progress.cancel();
            return Ok(pending(skipped(owner, key, request.if_busy)));
        }
        Err(error) => {
            progress.cancel();
            return Ok(pending(refused(owner, key, error)));
        }
    };
    let part = PartManifest {
        run: owner.run(),
        key,
        component: role.component.clone(),
        rank: role.rank,
        parts: role.parts.clone(),
        sharded: role.sharded,
        name: request.name,
        created: owner.engine().options.clock.now(),
        metrics: request.metrics,
        journal: commit::no_position(),
        bytes: draft.bytes,
        chunks: Vec::new(),
        entries: draft.entries,
    };
    let pin = request.pin.then(|| CheckpointName {
        run: owner.run(),
        key,
    });
    let active = Active::new(
        Arc::clone(&progress),
        Arc::clone(&role),
        Arc::clone(&writing),
        part,
        pin,
    );
    owner.saves().add(owner, Arc::new(active));
    match rest {
        None => progress.set_staged(),
        Some(rest) => guarded::copy_beside(rest, chunks),
    }
    Ok(pending(progress))
}

/// A save that failed before it was written.
fn refused(owner: &Arc<dyn Owner>, key: SaveKey, error: Error) -> Arc<Progress> {
    let error = Arc::new(error);
    owner.saves().note_failed(key, Arc::clone(&error));
    owner.save_failed(key, share(&error));
    Progress::ended(key, Ended::Failed(error))
}

/// A save for which there was no memory.
fn skipped(owner: &Arc<dyn Owner>, key: SaveKey, if_busy: IfBusy) -> Arc<Progress> {
    match if_busy {
        IfBusy::Skip => {
            let error = Error::unavailable(format!(
                "save {key} was skipped: the saves before it are still being written"
            ));
            Progress::ended(key, Ended::Declined(Arc::new(error)))
        }
        IfBusy::Wait => refused(
            owner,
            key,
            Error::unavailable(format!(
                "save {key} was skipped: no staging memory came free within {} s",
                MAX_WAIT.as_secs()
            ))
            .with_hint("save less often, or to a faster disk"),
        ),
    }
}
