//! Bringing one checkpoint here: what a fork from another store starts from.

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::{Reference, Selector};
use runtree_core::{CheckpointId, Error, Result};

use super::{Progress, SyncReport, SyncSelection, sync};
use crate::engine::Engine;
use crate::gc::is_deleted;
use crate::resolve::Purpose;

/// A checkpoint of another store that is here now.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Its name, the same in both stores.
    pub checkpoint: CheckpointName,
    /// The same REF for this store: the run by its RunId, the checkpoint by its id.
    pub reference: Reference,
    /// What was copied for it.
    pub report: SyncReport,
}

/// Copies the one checkpoint that a REF means in another store, with the history that leads to it, and nothing of it that is here.
///
/// The REF is resolved there alone: a run of the same name here is another one.
///
/// # Errors
/// `NotFound` if there is no such checkpoint there; `Conflict` if this store has deleted it; as the stores say.
pub fn bring(
    from: &Engine,
    to: &Engine,
    reference: &Reference,
    project: Option<&str>,
    progress: Progress<'_>,
) -> Result<Brought> {
    let run_alone = Reference {
        selector: None,
        store: None,
        ..reference.clone()
    };
    let run = from.resolve(&run_alone, project, Purpose::Write)?.run;
    let checkpoint = from.resolve_checkpoint(reference, project, Purpose::Write)?;
    let mut selection = SyncSelection::default();
    selection.add(run, Some(checkpoint));
    let report = sync(from.store(), to.store(), &selection, progress)?;
    if is_deleted(to.store(), checkpoint)? {
        return Err(Error::conflict(format!(
            "this store has deleted the checkpoint at step {} of {}",
            checkpoint.key.step, reference.run
        ))
        .with_hint("take it back with runtree undelete, or runtree pull --restore"));
    }
    to.refresh_known(run)?;
    to.refresh_known(checkpoint.run)?;
    let id = CheckpointId::of(checkpoint.run, checkpoint.key);
    let here = Reference {
        store: None,
        project: None,
        run: run.to_string(),
        nth: None,
        selector: Some(Selector::Id(id)),
    };
    Ok(Brought {
        checkpoint,
        reference: here,
        report,
    })
}
