//! A directory as a checkpoint of a run that no process is training: a save by a tool.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use runtree_core::{AttemptNumber, Error, Result, RunId, Step, wire};

use crate::engine::Engine;
use crate::save::{self, EntrySource, Owner, RunSaves, SaveRequest, Tool};

/// [`Engine::import_dir`], with metrics of the checkpoint.
pub(crate) fn import_dir(
    engine: &Arc<Engine>,
    run: RunId,
    directory: &Path,
    step: Step,
    name: Option<String>,
    metrics: BTreeMap<String, f64>,
) -> Result<wire::CheckpointInfo> {
    let attempt = attempt_of(engine, run, step)?;
    let saves = RunSaves::starting_at(next_k(engine, run, attempt, step)?);
    let tool = Arc::new(Tool::open(engine, run, attempt, saves, "import")?);
    let owner: Arc<dyn Owner> = tool.clone();
    let request = SaveRequest {
        name,
        metrics,
        ..SaveRequest::of(vec![EntrySource::Directory(directory.to_owned())])
    };
    let pending = save::save(&owner, step, request)?;
    let saved = pending.wait(None);
    tool.close()?;
    saved?;
    pending.result(None)
}

/// The launch that a step is of: the one that holds it, where the run was launched again since, or nobody would find the checkpoint on the run's timeline;
/// else the newest.
fn attempt_of(engine: &Engine, run: RunId, step: Step) -> Result<AttemptNumber> {
    let timeline = engine.timeline(run)?;
    let holder = timeline
        .segments()
        .iter()
        .rfind(|segment| segment.id.run == run && segment.first <= step && step <= segment.last);
    if let Some(segment) = holder {
        return Ok(segment.id.attempt);
    }
    let newest = engine.store().list_attempts(run)?.into_iter().max();
    newest.ok_or_else(|| Error::not_found(format!("run {run} has no launch in this store")))
}

/// The first number that no save of this step in this attempt has: another process may have saved it.
fn next_k(engine: &Engine, run: RunId, attempt: AttemptNumber, step: Step) -> Result<u32> {
    let store = engine.store();
    let taken = store
        .list_commits(run)?
        .into_iter()
        .chain(store.list_pending(run)?);
    let highest = taken
        .filter(|key| (key.attempt, key.step) == (attempt, step))
        .map(|key| key.k)
        .max();
    Ok(highest.map_or(0, |k| k + 1))
}
