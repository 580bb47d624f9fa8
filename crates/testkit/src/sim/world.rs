//! A store, who works on it, and the seed that decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, MutexGuard, PoisonError};
use std::thread;

use runtree_core::{Error, Result, RunId, Timestamp};
use runtree_store::object_store::memory::InMemory;
use runtree_store::{Mode, Random, Store};

use super::bank::Bank;
use super::lies::Lies;
use super::seat::{Seat, Shared};
use super::stage::Stage;
use super::{Dice, Fault, collector, encoder, keeper, saver, scribe, trash};

/// Names that a store gives under [`Fault::ReusedPutId`].
const FEW_IDS: u64 = 2;

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Saver(usize),
    Collector,
    Encoder,
    Keeper,
    Deleter,
    Undeleter,
    Scribe,
    Reclaimer,
}

/// One who works on the store, as if in a process of its own.
pub(super) struct Actor {
    pub(super) store: Store,
    pub(super) lies: Lies,
    pub(super) dice: Dice,
    pub(super) fault: Fault,
    /// Runs that are saved to.
    pub(super) runs: Vec<RunId>,
    /// Deleted checkpoints of a run that stay.
    pub(super) trash: u32,
    shared: Arc<Shared>,
}

impl Actor {
    pub(super) fn bank(&self) -> MutexGuard<'_, Bank> {
        self.shared
            .bank
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn freeze_rounds(&self) {
        self.lies.freeze_rounds(&self.shared.objects);
    }

    /// Lets others move a while.
    pub(super) fn idle(&mut self) -> Result<()> {
        let longest = 1 << self.dice.below(6);
        for _ in 0..self.dice.below(longest) {
            self.store.list_runs()?;
        }
        Ok(())
    }
}

/// A fresh store and its actors.
#[derive(Debug)]
pub struct World {
    shared: Arc<Shared>,
    roles: Vec<Role>,
    runs: Vec<RunId>,
    fault: Fault,
    seed: u64,
    ids: Arc<AtomicU64>,
    trash: u32,
}

impl World {
    /// Two savers over the same few chunks and two collectors, and others by the seed: a crowd makes the rare meetings of few rarer.
    ///
    /// # Errors
    /// What the store says.
    pub fn new(seed: u64, fault: Fault) -> Result<Self> {
        let objects = Arc::new(InMemory::new());
        let ids = Arc::new(AtomicU64::new(seed));
        let over = Arc::clone(&objects) as Arc<_>;
        let names = if fault == Fault::ReusedPutId {
            few(&ids)
        } else {
            random(&ids)
        };
        let store = Store::create_over_with(over, Timestamp(0), names)?;
        saver::put_garbage(&store)?;
        let mut dice = Dice::new(seed);
        let runs: Vec<RunId> = (0..2)
            .map(|i| RunId::from_parts(i, u128::from(dice.roll())))
            .collect();
        let trash = match fault {
            // What is deleted may go at once, so that who takes it back meets a collector.
            Fault::NoIntent | Fault::IntentsLate => 0,
            _ => 1 + (seed % 2) as u32,
        };
        let raw = Store::open_over(Arc::clone(&objects) as Arc<_>, Mode::ReadOnly)?;
        let bank = Bank::new(raw, runs.clone(), trash as usize);
        let roles = roles(seed, fault);
        let stage = Stage::new(roles.len(), dice);
        Ok(Self {
            shared: Arc::new(Shared::new(objects, stage, bank)),
            roles,
            runs,
            fault,
            seed,
            ids,
            trash,
        })
    }

    /// Lets them work until all are done or killed.
    ///
    /// # Errors
    /// `Corrupt` with what was lost, or what an actor met that can not be.
    pub fn run(self) -> Result<()> {
        let ready = Barrier::new(self.roles.len() + 1);
        thread::scope(|scope| {
            for (me, role) in self.roles.iter().enumerate() {
                let (world, ready) = (&self, &ready);
                scope.spawn(move || {
                    let stage = &world.shared.stage;
                    stage.register(me);
                    ready.wait();
                    stage.wait(me);
                    let done = catch_unwind(AssertUnwindSafe(|| world.play(me, *role)));
                    let error = match done {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error.chain()),
                        Err(_) => Some("it panicked".to_owned()),
                    };
                    world.judge(*role, error);
                    stage.leave(me);
                });
            }
            ready.wait();
            self.shared.stage.begin();
        });
        self.shared.count();
        let bank = self
            .shared
            .bank
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        bank.loss().map_or(Ok(()), |loss| Err(Error::corrupt(loss)))
    }

    fn play(&self, me: usize, role: Role) -> Result<()> {
        let lies = Lies::new(match (role, self.fault) {
            (Role::Collector | Role::Deleter, fault) => fault,
            // What it takes for a healthy object is its own part of the protocol.
            (Role::Encoder, Fault::CondemnedCounts)
            | (Role::Saver(_) | Role::Reclaimer, Fault::UnconditionalCommit) => self.fault,
            _ => Fault::None,
        });
        let seat = Seat {
            me,
            shared: Arc::clone(&self.shared),
            lies: lies.clone(),
        };
        let reuses = self.fault == Fault::ReusedPutId && matches!(role, Role::Saver(_));
        let ids = if reuses {
            few(&self.ids)
        } else {
            random(&self.ids)
        };
        let mut actor = Actor {
            store: Store::create_over_with(Arc::new(seat), Timestamp(0), ids)?,
            lies,
            dice: Dice::new(self.seed ^ (me as u64 + 1) << 32),
            fault: self.fault,
            runs: self.runs.clone(),
            trash: if self.fault == Fault::TrashIsGarbage {
                0
            } else {
                self.trash
            },
            shared: Arc::clone(&self.shared),
        };
        match role {
            Role::Saver(run) => saver::save(&mut actor, self.runs[run]),
            Role::Collector => collector::collect(&mut actor),
            Role::Encoder => encoder::encode(&mut actor),
            Role::Keeper => keeper::keep(&mut actor),
            Role::Deleter => trash::delete(&mut actor),
            Role::Undeleter => trash::undelete(&mut actor),
            Role::Scribe => scribe::write(&mut actor),
            Role::Reclaimer => trash::reclaim(&mut actor),
        }
    }

    /// An error of somebody who was not killed is one, if no rule was left out.
    fn judge(&self, role: Role, error: Option<String>) {
        let Some(error) = error.filter(|error| !error.contains("was killed")) else {
            return;
        };
        if self.fault == Fault::None {
            let mut bank = self
                .shared
                .bank
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            bank.accuse(format!("{role:?}: {error}"));
            self.shared.stage.end();
        }
    }
}

/// Who is there: by the seed, or who it takes to show a fault.
fn roles(seed: u64, fault: Fault) -> Vec<Role> {
    let mut roles = vec![Role::Saver(0), Role::Saver(1), Role::Collector];
    let encoders = [Role::Encoder, Role::Encoder];
    match fault {
        Fault::None => {
            roles.push(Role::Collector);
            if seed.is_multiple_of(2) {
                roles.extend(encoders);
            }
            if !seed.is_multiple_of(3) {
                roles.push(Role::Deleter);
                roles.push(if seed % 4 < 2 {
                    Role::Undeleter
                } else {
                    Role::Keeper
                });
            }
            if seed % 5 == 1 {
                roles.push(Role::Scribe);
            }
            if seed % 5 == 2 {
                roles.push(Role::Reclaimer);
            }
        }
        Fault::BasesAreGarbage | Fault::RawGoesAtOnce | Fault::CondemnedCounts => {
            roles.extend(encoders);
        }
        Fault::NoIntent => roles.extend([Role::Deleter, Role::Undeleter]),
        // The fewer there are, the more often just these meet.
        Fault::IntentsLate => {
            roles = vec![
                Role::Saver(0),
                Role::Collector,
                Role::Deleter,
                Role::Undeleter,
            ];
        }
        Fault::NoSecondLookOfForks => roles.extend([Role::Deleter, Role::Keeper, Role::Keeper]),
        Fault::TrashIsGarbage => roles.push(Role::Deleter),
        Fault::UnlistedFiles => roles.push(Role::Scribe),
        Fault::UnconditionalCommit => roles.push(Role::Reclaimer),
        // An encoder makes rounds and collects no garbage: a collector that stood still meanwhile finds what it planned.
        Fault::NoGivingWay => roles = vec![Role::Saver(0), Role::Collector, Role::Encoder],
        _ => roles.push(Role::Collector),
    }
    roles
}

/// Ids that never return. All actors draw from one source, in the order in which they move.
fn random(ids: &Arc<AtomicU64>) -> Random {
    let ids = Arc::clone(ids);
    Arc::new(move || Dice::new(ids.fetch_add(1, Ordering::Relaxed)).roll())
}

/// Ids that do.
fn few(ids: &Arc<AtomicU64>) -> Random {
    let ids = Arc::clone(ids);
    Arc::new(move || ids.fetch_add(1, Ordering::Relaxed) % FEW_IDS)
}
