//! A store, who works on it, and the seed that decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, MutexGuard, PoisonError};
use std::thread;

use runtree_core::{Error, Result, RunId, Timestamp};
use runtree_store::object_store::memory::InMemory;
use runtree_store::wrappers::{Retry, RetryPolicy};
use runtree_store::{Mode, ObjectStore, Random, Store};

use super::bank::Bank;
use super::disk::Disk;
use super::lies::Lies;
use super::seat::{Seat, Shared};
use super::stage::Stage;
use super::weather::{FAILURE, Weather};
use super::{Dice, Fault, collector, courier, encoder, keeper, saver, scribe, trash};

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
    /// Copies to the other store.
    Pusher,
    /// Deletes here what the other store keeps.
    Evicter,
    /// Deletes at the other store, and collects what it deleted.
    Archivist,
    /// Collects at the other store.
    FarCollector,
}

impl Role {
    /// Whether it works on the other store, and knows nothing of this one.
    fn is_far(self) -> bool {
        matches!(self, Self::Archivist | Self::FarCollector)
    }
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
    /// The other store, of those who go between.
    other: Option<Other>,
}

struct Other {
    store: Store,
    lies: Lies,
    shared: Arc<Shared>,
}

impl Actor {
    fn far(&self) -> &Other {
        self.other
            .as_ref()
            .unwrap_or_else(|| unreachable!("who goes between stores has two"))
    }

    /// The other store.
    pub(super) fn other(&self) -> &Store {
        &self.far().store
    }

    pub(super) fn lies_there(&self) -> &Lies {
        &self.far().lies
    }

    pub(super) fn bank_there(&self) -> MutexGuard<'_, Bank> {
        let bank = &self.far().shared.bank;
        bank.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn freeze_rounds_there(&self) {
        let far = self.far();
        far.lies.freeze_rounds(&far.shared.objects);
    }

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
    there: Option<Arc<Shared>>,
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
        let ids = Arc::new(AtomicU64::new(seed));
        let mut dice = Dice::new(seed);
        let runs: Vec<RunId> = (0..2)
            .map(|i| RunId::from_parts(i, u128::from(dice.roll())))
            .collect();
        let trash = match fault {
            // What is deleted may go at once, so that who takes it back meets a collector.
            Fault::NoIntent
            | Fault::IntentsLate
            | Fault::RunsListedOnce
            | Fault::VolatileTombstones => 0,
            _ => 1 + (seed % 2) as u32,
        };
        let roles = roles(seed, fault);
        let has_two = roles.iter().any(|role| role.is_far());
        let stage = Arc::new(Stage::new(roles.len(), dice));
        let side = |is_born: bool| -> Result<Arc<Shared>> {
            let objects = Arc::new(InMemory::new());
            let over = Arc::clone(&objects) as Arc<_>;
            let names = if fault == Fault::ReusedPutId {
                few(&ids)
            } else {
                random(&ids)
            };
            let store = Store::create_over_with(over, Timestamp(0), names)?;
            saver::put_garbage(&store)?;
            if is_born {
                courier::bear(&store, &runs)?;
            }
            let raw = Store::open_over(Arc::clone(&objects) as Arc<_>, Mode::ReadOnly)?;
            let bank = Bank::new(raw, runs.clone(), trash as usize);
            let disk = Disk::new(fault);
            Ok(Arc::new(Shared::new(
                objects,
                disk,
                Arc::clone(&stage),
                bank,
            )))
        };
        let shared = side(has_two)?;
        let there = has_two.then(|| side(false)).transpose()?;
        Ok(Self {
            shared,
            there,
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
        let mut power = self
            .cuts_power()
            .then(|| Dice::new(self.seed.rotate_left(32)));
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
            if let Some(dice) = &mut power
                && dice.once_in(2)
            {
                self.shared.stage.cut_power(dice);
            }
            self.shared.stage.begin();
        });
        for side in self.sides() {
            side.count();
            if let Some(dice) = &mut power {
                futures::executor::block_on(side.disk.cut(&side.objects, dice))
                    .map_err(|error| Error::internal("the disk can not lose").with_source(error))?;
                side.count();
            }
            let bank = side.bank.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(loss) = bank.loss() {
                return Err(Error::corrupt(loss));
            }
        }
        Ok(())
    }

    fn sides(&self) -> impl Iterator<Item = &Arc<Shared>> {
        [&self.shared].into_iter().chain(&self.there)
    }

    /// Whether the world ends with a power cut. Where a rule is left out it could hide what that rule is worth.
    fn cuts_power(&self) -> bool {
        matches!(
            self.fault,
            Fault::None | Fault::SkippedDirectorySync | Fault::VolatileTombstones
        )
    }

    /// Whether the server fails now and then.
    fn is_foul(&self) -> bool {
        self.fault == Fault::None && self.seed % 3 == 1
    }

    /// An actor's handle on a store.
    fn sit(
        &self,
        me: usize,
        role: Role,
        shared: &Arc<Shared>,
        lies: &Lies,
        ids: Random,
    ) -> Result<Store> {
        let weather = if self.is_foul() {
            Weather::foul(Dice::new(!self.seed ^ (me as u64 + 1) << 40))
        } else {
            Weather::fair()
        };
        let seat: Arc<dyn ObjectStore> = Arc::new(Seat {
            me,
            shared: Arc::clone(shared),
            lies: lies.clone(),
            weather,
        });
        let over = if self.is_foul() {
            let pause = Arc::new(|_| Box::pin(async {}) as _);
            Retry::new(seat, RetryPolicy::default(), pause)
        } else {
            seat
        };
        debug_assert!(self.there.is_some() || !role.is_far());
        Store::open_over_disk(over, Arc::clone(&shared.disk) as Arc<_>, ids)
    }

    fn play(&self, me: usize, role: Role) -> Result<()> {
        let lies = Lies::new(match (role, self.fault) {
            (Role::Collector | Role::Deleter, fault) => fault,
            // What it takes for a healthy object is its own part of the protocol.
            (Role::Encoder, Fault::CondemnedCounts)
            | (Role::Saver(_) | Role::Reclaimer, Fault::UnconditionalCommit) => self.fault,
            _ => Fault::None,
        });
        let reuses = self.fault == Fault::ReusedPutId && matches!(role, Role::Saver(_));
        let ids = || {
            if reuses {
                few(&self.ids)
            } else {
                random(&self.ids)
            }
        };
        let home = match &self.there {
            Some(there) if role.is_far() => there,
            _ => &self.shared,
        };
        let other = match &self.there {
            Some(there) if matches!(role, Role::Pusher | Role::Evicter) => {
                let lies = Lies::new(Fault::None);
                let store = self.sit(me, role, there, &lies, ids())?;
                let shared = Arc::clone(there);
                Some(Other {
                    store,
                    lies,
                    shared,
                })
            }
            _ => None,
        };
        let mut actor = Actor {
            store: self.sit(me, role, home, &lies, ids())?,
            lies,
            dice: Dice::new(self.seed ^ (me as u64 + 1) << 32),
            fault: self.fault,
            runs: self.runs.clone(),
            trash: if self.fault == Fault::TrashIsGarbage {
                0
            } else {
                self.trash
            },
            shared: Arc::clone(home),
            other,
        };
        match role {
            Role::Saver(run) => saver::save(&mut actor, self.runs[run]),
            Role::Collector | Role::FarCollector => collector::collect(&mut actor),
            Role::Encoder => encoder::encode(&mut actor),
            Role::Keeper => keeper::keep(&mut actor),
            Role::Deleter | Role::Archivist => trash::delete(&mut actor),
            Role::Undeleter => trash::undelete(&mut actor),
            Role::Scribe => scribe::write(&mut actor),
            Role::Reclaimer => trash::reclaim(&mut actor),
            Role::Pusher => courier::push(&mut actor),
            Role::Evicter => courier::evict(&mut actor),
        }
    }

    /// An error of somebody who was not killed is one, if no rule was left out.
    fn judge(&self, role: Role, error: Option<String>) {
        // Who is killed, or whose server fails more often than it tries again, gives up.
        let gives_up = |error: &String| error.contains("was killed") || error.contains(FAILURE);
        let Some(error) = error.filter(|error| !gives_up(error)) else {
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
            if seed % 4 == 3 {
                roles.extend([Role::Pusher, Role::Archivist, Role::FarCollector]);
                roles.push(if seed % 8 == 3 {
                    Role::Pusher
                } else {
                    Role::Evicter
                });
                return roles;
            }
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
        Fault::RunsListedOnce => {
            roles = vec![
                Role::Saver(0),
                Role::Collector,
                Role::Deleter,
                Role::Keeper,
                Role::Keeper,
            ];
        }
        Fault::NoSecondLookOfCopies | Fault::CopyHitInRound => {
            roles = vec![
                Role::Saver(0),
                Role::Saver(1),
                Role::Pusher,
                Role::Archivist,
                Role::FarCollector,
            ];
        }
        Fault::LookBeforePin => {
            roles = vec![
                Role::Saver(0),
                Role::Pusher,
                Role::Evicter,
                Role::Archivist,
                Role::FarCollector,
            ];
        }
        Fault::TrashIsGarbage | Fault::VolatileTombstones => roles.push(Role::Deleter),
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
