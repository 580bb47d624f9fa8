//! Forks and pins: records that name a checkpoint without having its bytes.

use runtree_core::manifest::{BasePoint, CheckpointName, ForkOrigin, PinRecord, RunRecord};
use runtree_core::{DisplayId, ErrorKind, Result, RunId, Timestamp};
use runtree_engine::gc::Reliance;
use runtree_store::{Store, layout};

use super::Fault;
use super::saver::some_checkpoint;
use super::world::Actor;

/// Forks and pins of one keeper.
const TRIES: u64 = 8;

/// Forks and pins what it finds, and takes some pins back.
pub(super) fn keep(actor: &mut Actor) -> Result<()> {
    let store = actor.store.clone();
    for number in 0..TRIES {
        actor.idle()?;
        let reliance = Reliance::begin(&store)?;
        let Some(name) = some_checkpoint(actor)? else {
            continue;
        };
        if is_deleted(&store, name)? {
            continue;
        }
        let pin = format!("pin-{number}");
        let is_pin = actor.dice.once_in(2);
        if is_pin {
            store.write_pin(&pin, &pin_of(name))?;
        } else {
            fork(actor, name, number)?;
        }
        let checked = match actor.fault {
            Fault::NoSecondLookOfForks => Ok(()),
            _ => reliance.check(&store, name),
        };
        match checked {
            Ok(()) => actor.bank().rely(name),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                if is_pin {
                    store.delete_pin(&pin)?;
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        if is_pin && actor.dice.once_in(3) {
            actor.idle()?;
            actor.bank().release(name);
            store.delete_pin(&pin)?;
        }
    }
    Ok(())
}

pub(super) fn is_deleted(store: &Store, name: CheckpointName) -> Result<bool> {
    let tombstones = store.list_tombstones(name.run)?;
    Ok(tombstones
        .iter()
        .any(|&(key, highest)| key == name.key && layout::is_deleted(highest)))
}

fn pin_of(checkpoint: CheckpointName) -> PinRecord {
    PinRecord {
        checkpoint,
        reason: "a simulation".to_owned(),
        created: Timestamp(0),
        ttl_seconds: None,
    }
}

fn fork(actor: &mut Actor, checkpoint: CheckpointName, number: u64) -> Result<()> {
    let run = RunId::from_parts(1000 + number, u128::from(actor.dice.roll()));
    let record = RunRecord {
        run,
        project: "simulation".parse()?,
        display_id: DisplayId::new("SIM", number + 1)?,
        key: None,
        name: "a fork".to_owned(),
        experiment: "a simulation".to_owned(),
        created: Timestamp(0),
        fork: Some(ForkOrigin {
            declared: checkpoint.run,
            owner: BasePoint {
                run: checkpoint.run,
                attempt: checkpoint.key.attempt,
                step: checkpoint.key.step,
            },
            checkpoint: Some(checkpoint),
        }),
        base: None,
        config: serde_json::json!({}),
        inherited_config: Vec::new(),
        tags: Vec::new(),
        notes: None,
    };
    actor
        .store
        .create_run(&record)?
        .or_conflict(|| format!("{run} is taken"))
}
