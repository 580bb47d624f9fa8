//! Rounds of collectors, as writers see them (W1, W4), and the one kind of round that this crate runs itself.

use std::collections::{BTreeSet, HashSet};

use runtree_core::manifest::RoundRecord;
use runtree_core::{Error, Result};

use crate::layout::{self, ObjectName};
use crate::store::Store;

mod redundant;

pub use redundant::{Redundant, Removed};

/// The rounds that a listing of `gc/` showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Every round there ever was: no round is removed, or a writer that looks again could not see that it was there.
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
        rounds.open = rounds.numbers.difference(&closed).copied().collect();
        for number in &rounds.open {
            let path = layout::round(*number);
            let record: RoundRecord = self.read_record(&path)?;
            for object in &record.objects {
                let name = object.parse().map_err(|error: Error| {
                    Error::corrupt(format!("{path} names no object")).with_source(error)
                })?;
                rounds.condemned.insert(name);
            }
        }
        Ok(rounds)
    }
}
