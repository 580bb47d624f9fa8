//! Rounds of collectors, as writers see them (W1, W4) and as collectors open and close them (G1, G4), and the one kind of collection that this crate runs itself.

use std::collections::{BTreeSet, HashSet};

use runtree_core::manifest::RoundRecord;
use runtree_core::{Error, Result};

use crate::layout::{self, ObjectName};
use crate::store::Store;

mod again;
mod lost;
mod open;
mod redundant;

pub use open::{MAX_ROUND_OBJECTS, OpenRounds};
pub use redundant::{Redundant, Removed};

/// Closed rounds that are kept below the highest. One would do if a listing were a photograph; it is a walk, and may miss what comes while it goes, and what goes.
/// So that a walk misses every new round, this many would have to begin and end during it.
pub const KEPT_ROUNDS: u64 = 64;

/// The rounds that a listing of `gc/` showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Every round that is there: the highest never goes, so that a writer that looks again sees that there was a new one.
    pub numbers: BTreeSet<u64>,
    /// Those that are not closed.
    pub open: BTreeSet<u64>,
    /// What the open ones want to delete: these objects do not exist for a writer.
    condemned: HashSet<ObjectName>,
}

impl Rounds {
    /// Whether an open round wants to delete `object`.
    pub fn condemns(&self, object: &ObjectName) -> bool {
        self.condemned.contains(object)
    }

    /// What the open rounds want to delete.
    pub fn condemned(&self) -> impl Iterator<Item = &ObjectName> {
        self.condemned.iter()
    }

    /// Whether every round of `later` was there already.
    pub fn has_all_of(&self, later: &Self) -> bool {
        later.numbers.is_subset(&self.numbers)
    }
}

impl Store {
    /// Reads `gc/`: which rounds there are, and what the open ones want to delete.
    ///
    /// # Errors
    /// `Corrupt` if a round can not be read: then nobody knows what it condemns, and no dedup hit is safe.
    pub fn list_rounds(&self) -> Result<Rounds> {
        self.list_rounds_but(&[])
    }

    /// The same, without what the rounds `own` condemn: who opened them knows that.
    pub(crate) fn list_rounds_but(&self, own: &[u64]) -> Result<Rounds> {
        let mut rounds = Rounds::default();
        let mut closed = BTreeSet::new();
        for (name, _) in self.names(&layout::rounds())? {
            match layout::parse_round(&name) {
                Some((number, false)) => {
                    rounds.numbers.insert(number);
                }
                Some((number, true)) => {
                    closed.insert(number);
                }
                None => {}
            }
        }
        let open: Vec<u64> = rounds.numbers.difference(&closed).copied().collect();
        for number in open {
            if own.contains(&number) {
                continue;
            }
            // One that is gone since it was listed had been closed: what it named is deleted, or as good as any other object.
            if let Some(objects) = self.read_round(number)? {
                rounds.open.insert(number);
                rounds.condemned.extend(objects);
            }
        }
        Ok(rounds)
    }

    /// What a round names; `None` if it was forgotten.
    pub(crate) fn read_round(&self, number: u64) -> Result<Option<Vec<ObjectName>>> {
        let path = layout::round(number);
        let Some(record) = self.try_read_record::<RoundRecord>(&path)? else {
            return Ok(None);
        };
        let parse = |object: &String| {
            object.parse().map_err(|error: Error| {
                Error::corrupt(format!("{path} names no object")).with_source(error)
            })
        };
        record
            .objects
            .iter()
            .map(parse)
            .collect::<Result<_>>()
            .map(Some)
    }
}
