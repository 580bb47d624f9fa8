//! The product's collector, over the whole store.

use std::time::Duration;

use runtree_core::{Result, Timestamp};
use runtree_engine::gc::{Collector, Memory};
use runtree_engine::{GcOptions, TrashBound};

use super::Fault;
use super::world::Actor;

/// Collections of one collector.
const COLLECTIONS: usize = 4;

/// Collects a few times, without grace.
pub(super) fn collect(actor: &mut Actor) -> Result<()> {
    let memory = Memory::default();
    // Some come when there is something to collect; differences take long to be all that is left of a chunk.
    let longest = match actor.fault {
        Fault::BasesAreGarbage => 100,
        Fault::NoGivingWay => 1,
        _ => 8,
    };
    for _ in 0..actor.dice.below(longest) {
        actor.idle()?;
    }
    let collections = match actor.fault {
        Fault::IntentsLate => 4 * COLLECTIONS,
        _ => COLLECTIONS,
    };
    for _ in 0..collections {
        // Between two collections there is time in which others see no round.
        actor.idle()?;
        let options = GcOptions {
            grace: Duration::ZERO,
            trash: TrashBound {
                checkpoints: actor.trash,
            },
            ..GcOptions::default()
        };
        Collector::new(&actor.store, &memory, Timestamp(0))
            .keeping(0)
            .collect_all(&options, &mut |_| {})?;
    }
    Ok(())
}
