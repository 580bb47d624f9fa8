//! Deterministic simulation of the protocol: one thread, one seed, the real code of `runtree-store` over an in-memory object store.
//!
//! A [`World`] holds a store and some [`Actor`]s, each a state machine whose step is one action of the protocol (W1, a put of W2, W3, W4, W5; G1, G2, one
//! deletion of G3, G4). The seed picks who moves next and who crashes. After every step the bank is counted: *no chunk of a committed checkpoint is ever
//! missing*. A [`Fault`] leaves one rule of the protocol out; the tests demand that each of them is caught, so the simulator can not be blind.
//!
//! What it does not cover: tearing inside one object (the power-cut tests do) and stores without list-after-write (refused by the protocol).

mod collector;
mod encoder;
mod saver;

use std::sync::Arc;

use runtree_core::manifest::Outcome;
use runtree_core::{Error, Result, RunId, Timestamp};
use runtree_store::Store;
use runtree_store::object_store::memory::InMemory;

pub use collector::Collector;
pub use encoder::Encoder;
pub use saver::Saver;

/// A rule that is left out, to prove that the simulator would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is left out.
    None,
    /// A writer confirms without looking again (W4).
    NoSecondLook,
    /// A collector lists before it opens its round (G2 before G1).
    ListBeforeRound,
    /// A collector takes back its round when it closes it, so that nobody can see that it was there.
    ForgottenRound,
    /// A collector counts a part that is published and not yet committed as garbage.
    PendingIsGarbage,
    /// A collector does not look for bases: what only a difference needs is garbage to it.
    BasesAreGarbage,
    /// An encoder deletes raw objects as soon as it has put another one, without a round.
    RawGoesAtOnce,
}

/// A splitmix64 generator: small, seeded, the same on every platform (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

/// What an actor did with its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something; it has more to do.
    Moved,
    /// It is finished.
    Done,
}

/// Somebody who works on the store, one action at a time.
pub trait Actor: std::fmt::Debug {
    /// Takes the next action.
    ///
    /// # Errors
    /// What the store says; the simulation ends with it.
    fn step(&mut self, store: &Store, dice: &mut Dice) -> Result<Turn>;
}

/// A store, who works on it, and the seed that decides.
#[derive(Debug)]
pub struct World {
    store: Store,
    dice: Dice,
    actors: Vec<Box<dyn Actor>>,
    runs: Vec<RunId>,
}

impl World {
    /// A fresh store with two savers over the same few chunks, two collectors and, in every second world, two encoders.
    ///
    /// # Errors
    /// What the store says.
    pub fn new(seed: u64, fault: Fault) -> Result<Self> {
        let objects = Arc::new(InMemory::new());
        let puts = std::sync::atomic::AtomicU64::new(seed);
        let random = Arc::new(move || {
            Dice::new(puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).roll()
        });
        let store = Store::create_over_with(objects, Timestamp(0), random)?;
        // Every second world is without encoders and the garbage that they may take for bases: a crowd makes the rare meetings of the others rarer.
        let encodes = seed.is_multiple_of(2)
            || matches!(fault, Fault::BasesAreGarbage | Fault::RawGoesAtOnce);
        if encodes {
            saver::put_garbage(&store)?;
        }
        let mut dice = Dice::new(seed);
        let runs: Vec<RunId> = (0..2)
            .map(|i| RunId::from_parts(i, u128::from(dice.roll())))
            .collect();
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        for run in &runs {
            actors.push(Box::new(Saver::new(*run, fault)));
        }
        for _ in 0..2 {
            actors.push(Box::new(Collector::new(fault)));
            if encodes {
                actors.push(Box::new(Encoder::new(fault)));
            }
        }
        Ok(Self {
            store,
            dice,
            actors,
            runs,
        })
    }

    /// Lets them work until all are done or crashed; every tenth turn somebody may crash for good.
    ///
    /// # Errors
    /// `Corrupt` with what was lost, or what the store said.
    pub fn run(mut self) -> Result<()> {
        while !self.actors.is_empty() {
            let who = self.dice.below(self.actors.len());
            // One in 64: often enough that most seeds see a crash, seldom enough that most work gets done.
            let crashes = self.dice.below(64) == 0;
            if crashes || self.actors[who].step(&self.store, &mut self.dice)? == Turn::Done {
                self.actors.swap_remove(who);
            }
            self.count_the_bank()?;
        }
        Ok(())
    }

    /// The invariant: whatever is committed can be read, to the byte.
    fn count_the_bank(&self) -> Result<()> {
        for run in &self.runs {
            for key in self.store.list_commits(*run)? {
                let commit = self
                    .store
                    .read_commit(*run, key)?
                    .ok_or_else(|| Error::corrupt("a listed commit is gone"))?;
                if commit.outcome != Outcome::Committed {
                    continue;
                }
                for part in &commit.parts {
                    let manifest = self.store.read_committed_part(*run, key, part)?;
                    for chunk in &manifest.chunks {
                        self.store.read_chunk(chunk).map_err(|error| {
                            Error::corrupt(format!("{run} {key} lost {}", chunk.hash))
                                .with_source(error)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}
