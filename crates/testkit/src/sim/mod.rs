//! Deterministic simulation of the protocol: one seed, the real code of writers and collectors over an in-memory object store.
//!
//! A [`World`] holds a store and some actors, each on a thread of its own with a handle of its own, as if it were a process. Only one of them moves at a time: before each
//! call of the store the `stage` decides, by the seed, who goes on, for how many calls, and who is killed. So every interleaving of calls can happen, also those in which
//! somebody stands still while another does all its work, and a seed always plays the same. Whenever something was deleted or became needed, the `bank` is counted:
//!
//! - no chunk is missing of a checkpoint that is committed and not deleted, or that is in the trash;
//! - nor of one that a fork or a pin relies on, or that a journal names;
//! - what was acknowledged is committed.
//!
//! A [`Fault`] leaves one rule of the protocol out, or swaps two of its steps: an actor does something else, or its handle of the store lies (`lies`). The tests demand that
//! each of them is caught, so the simulator can not be blind.
//!
//! In some worlds there is a second store: pushers copy to it, others delete and collect there, or delete here what is kept there. In some the server fails: requests that are
//! not done, answers that are lost after they were, conflicts that are none, bodies that break off; actors work through [`runtree_store::wrappers::Retry`], as everybody does.
//!
//! Each world ends with a power cut, many in the midst of everything: names whose directory was not synced since may be gone then.
//!
//! What it does not cover: tearing inside one object, deletions that a power cut undoes (the power-cut tests on real file systems do), and stores without list-after-write (refused by the protocol).

mod bank;
mod collector;
mod courier;
mod disk;
mod encoder;
mod keeper;
mod lies;
mod saver;
mod scribe;
mod seat;
mod stage;
mod trash;
mod weather;
mod world;

pub use world::World;

/// A rule that is left out, to prove that the simulator would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is left out.
    None,
    /// W1: a writer counts on objects in an open round.
    HitInRound,
    /// W2: the name of an object returns.
    ReusedPutId,
    /// W3: chunks that a journal names are listed nowhere.
    UnlistedFiles,
    /// W4: a writer confirms without looking again.
    NoSecondLook,
    /// W4 before W3: a writer looks again before it publishes.
    LookBeforePublishing,
    /// W4 of a fork or a pin.
    NoSecondLookOfForks,
    /// W5: a commit replaces what was decided.
    UnconditionalCommit,
    /// An undelete without an intent.
    NoIntent,
    /// G1: a collector shows its round to nobody.
    NoRound,
    /// G2 before G1: what is needed was listed before the round was there.
    ListBeforeRound,
    /// G2: roots are listed before the round, chunks after it.
    RootsBeforeRound,
    /// G2: births are those of the runs that were listed before the tombstones.
    RunsListedOnce,
    /// G2: intents are looked for last.
    IntentsLate,
    /// G2: a part that is published and not committed is garbage.
    PendingIsGarbage,
    /// G2: what only a difference needs is garbage.
    BasesAreGarbage,
    /// G2: deleted checkpoints are garbage at once.
    TrashIsGarbage,
    /// G3: an object in an open round is somebody's healthy other one.
    CondemnedCounts,
    /// G4 before G3: the round is closed before its objects are deleted.
    CloseFirst,
    /// G4: a round is taken back when it is closed, so that nobody can see that it was there.
    ForgottenRound,
    /// A collector does not give way to a higher number, and old rounds are forgotten all the same.
    NoGivingWay,
    /// W4 of a copy from another store.
    NoSecondLookOfCopies,
    /// W1 of a copy: it counts on objects in an open round.
    CopyHitInRound,
    /// An eviction looks whether the other store has it, and pins it there later.
    LookBeforePin,
    /// What is put to be synced later never is.
    SkippedDirectorySync,
    /// G3: a collector goes by a tombstone whose writer was killed before it was durable.
    VolatileTombstones,
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

    /// Once in `of` times.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
