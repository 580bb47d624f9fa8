//! The thread that pushes.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, ErrorKind, Result, RunId, SaveKey};
use runtree_store::Store;

use super::prune::Pruner;
use super::state::{Ended, Shared, Turn};
use super::{EVICTED_TO, RemoteReport, RemoteSpec, evict};
use crate::engine::{Engine, OpenMode, open_store};
use crate::parallel::yield_to_everybody;
use crate::sync::{SyncSelection, sync};

/// How long a remote may be away before somebody is told.
const BEFORE_A_WARNING: Duration = Duration::from_secs(10);

/// Whom to tell what is wrong.
type Report = Box<dyn Fn(String) + Send>;

/// Pushes one run.
#[derive(Debug)]
pub(crate) struct Shipper {
    shared: Arc<Shared>,
    location: String,
}

impl Shipper {
    /// Begins to push a run, whose store it does not keep open longer than the engine lives.
    ///
    /// # Errors
    /// `Unavailable` if no thread can be started.
    pub(crate) fn begin(
        engine: &Arc<Engine>,
        run: RunId,
        spec: RemoteSpec,
        report: impl Fn(String) + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let location = spec.location.display().to_string();
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            engine: Arc::downgrade(engine),
            run,
            spec,
            there: None,
            knows_family: false,
            pruner: Pruner::default(),
            report: Box::new(report),
        };
        std::thread::Builder::new()
            .name("runtree-push".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| {
                Error::unavailable("can not start a thread that pushes").with_source(error)
            })?;
        Ok(Self { shared, location })
    }

    /// A checkpoint of the run was committed.
    pub(crate) fn add(&self, key: SaveKey) {
        self.shared.add(key);
    }

    /// Waits until a checkpoint that is committed here is at the remote.
    ///
    /// # Errors
    /// `Unavailable` if it is not by then.
    pub(crate) fn wait_for(&self, key: SaveKey, deadline: Option<Instant>) -> Result<()> {
        self.shared.wait_for(key, deadline)
    }

    /// Pushes what is left, as long as bytes arrive and until `deadline`; then it ends.
    pub(crate) fn finish(&self, deadline: Option<Instant>) -> RemoteReport {
        self.shared.finish(deadline);
        self.report()
    }

    pub(crate) fn report(&self) -> RemoteReport {
        self.shared.report(&self.location)
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

struct Worker {
    shared: Arc<Shared>,
    engine: Weak<Engine>,
    run: RunId,
    spec: RemoteSpec,
    /// The remote, once it could be opened.
    there: Option<Store>,
    /// Whether the run's ancestors were pushed: they do not change any more, and there may be many.
    knows_family: bool,
    pruner: Pruner,
    report: Report,
}

impl Worker {
    fn work(&mut self) {
        yield_to_everybody();
        while let Turn::Push(checkpoints) = self.shared.next() {
            let push = || self.push(checkpoints.last().copied());
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(push))
                .unwrap_or_else(|_| Err(Error::internal("the pushing thread panicked")));
            let Some(ended) = ended.transpose() else {
                break;
            };
            let (ended, text) = match ended {
                Ok(ended) => (ended, None),
                Err(error) => {
                    let text = error.chain();
                    (Ended::Failed(error), Some(text))
                }
            };
            let failing = self.shared.ended(&checkpoints, ended);
            if let Some(text) = text.filter(|_| failing > BEFORE_A_WARNING) {
                (self.report)(format!(
                    "{} can not be pushed to, and is tried again: {text}; what is saved here is safe",
                    self.spec.location.display()
                ));
            }
        }
        self.shared.leave();
    }

    /// Pushes what is there; none if the engine is gone.
    fn push(&mut self, newest: Option<SaveKey>) -> Result<Option<Ended>> {
        let Some(engine) = self.engine.upgrade() else {
            return Ok(None);
        };
        let there = if let Some(there) = &self.there {
            there.clone()
        } else {
            let (location, settings) = (&self.spec.location, &self.spec.settings);
            let there = open_store(location, settings, OpenMode::Create, engine.now())?;
            self.there.insert(there).clone()
        };
        let now = engine.now();
        let selection = SyncSelection {
            runs: Some(BTreeSet::from([self.run])),
            alone: self.knows_family,
            ..SyncSelection::default()
        };
        let shared = &self.shared;
        let progress = |_: &_| shared.moved();
        match sync(engine.store(), &there, &selection, &progress) {
            Ok(_) => self.knows_family = true,
            // Deleted while it was copied; the next look does not find it any more.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                sync(engine.store(), &there, &selection, &progress)?;
            }
            Err(error) => return Err(error),
        }
        let run = self.run;
        // What was just sent was read and verified for that.
        let trusted = newest.map(|key| CheckpointName { run, key });
        if let Some(newest) = trusted {
            self.pruner.prune(&engine, &there, &self.spec, newest)?;
        }
        if let Some(keep) = self.spec.keep_local
            && !self.shared.is_abandoned()
        {
            let reason = format!("{EVICTED_TO}{}", self.spec.location.display());
            evict::evict(&engine, &there, run, keep, trusted, &reason)?;
        }
        Ok(Some(Ended::Complete(now)))
    }
}
