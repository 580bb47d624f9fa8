//! Opening and closing the rounds of one collection (G1, G4), and forgetting those that nobody has to see any more.
//!
//! A collection may need several rounds, because a round's record is read by every writer and is therefore kept small. All are opened before anything is listed.
//!
//! *Giving way.* After the last round is there, its creator lists `gc/` again, and deletes nothing unless its last round is the highest of all. So the highest number
//! only ever grows, and who looks again (W4) after a round's creator listed sees a number that was not there before: the round's, or a higher one. This is what
//! lets old rounds be forgotten; `docs/design/0012` has the argument.

use runtree_core::manifest::RoundRecord;
use runtree_core::{Result, Timestamp};

use super::Rounds;
use crate::layout::{self, ObjectName};
use crate::store::{Created, Store};

/// Objects of one round: its record stays below a megabyte.
pub const MAX_ROUND_OBJECTS: usize = 8_192;
/// How often a collector that met another one tries again.
const TRIES: u32 = 4;

/// Rounds that are open, of one collection. Only who holds this may delete what they name.
#[derive(Debug)]
#[must_use = "rounds that are not closed stay open for ever"]
pub struct OpenRounds {
    store: Store,
    numbers: Vec<u64>,
    /// What they name, sorted.
    objects: Vec<ObjectName>,
}

impl Store {
    /// Opens rounds that name `objects` (G1); `None` if other collectors were in the way each time.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the store says.
    pub fn open_rounds(
        &self,
        objects: impl IntoIterator<Item = ObjectName>,
        now: Timestamp,
    ) -> Result<Option<OpenRounds>> {
        self.check_writable()?;
        let mut objects: Vec<ObjectName> = objects.into_iter().collect();
        objects.sort_unstable();
        for _ in 0..TRIES {
            let mut next = self.highest_round()?.map_or(0, |highest| highest + 1);
            let mut numbers = Vec::new();
            for batch in objects.chunks(MAX_ROUND_OBJECTS) {
                let number = self.open_round(batch, next, now)?;
                numbers.push(number);
                next = number + 1;
            }
            let rounds = OpenRounds {
                store: self.clone(),
                numbers,
                objects,
            };
            if rounds.numbers.last().copied() == self.highest_round()? || rounds.numbers.is_empty()
            {
                return Ok(Some(rounds));
            }
            objects = rounds.close()?;
        }
        Ok(None)
    }

    /// Creates a round under the first number from `number` on that nobody has.
    fn open_round(&self, objects: &[ObjectName], mut number: u64, now: Timestamp) -> Result<u64> {
        let record = RoundRecord {
            objects: objects.iter().map(ToString::to_string).collect(),
            created: now,
        };
        loop {
            match self.create_record(&layout::round(number), &record)? {
                Created::Created => return Ok(number),
                // Somebody else's, even if it says the same: only a round's creator may delete for it.
                Created::ExistsEqual | Created::ExistsOther(_) => number += 1,
            }
        }
    }

    fn highest_round(&self) -> Result<Option<u64>> {
        let names = self.names(&layout::rounds())?;
        let numbers = names
            .iter()
            .filter_map(|(name, _)| layout::parse_round(name));
        Ok(numbers
            .filter(|(_, is_closing)| !is_closing)
            .map(|(number, _)| number)
            .max())
    }

    /// Removes closed rounds that more than `keep` newer ones follow. Those that are left say enough to who looks again, however long its listing takes. Nothing is
    /// removed from a store that an older runtree may write to: it knows of no such thing.
    ///
    /// # Errors
    /// As the store says.
    pub fn forget_rounds(&self, keep: u64) -> Result<()> {
        self.check_writable()?;
        if !self.has_file_lists() {
            return Ok(());
        }
        let names = self.names(&layout::rounds())?;
        let listed: Vec<(u64, bool)> = names
            .iter()
            .filter_map(|(name, _)| layout::parse_round(name))
            .collect();
        let highest = listed
            .iter()
            .filter(|(_, is_closing)| !is_closing)
            .map(|(number, _)| *number)
            .max();
        let Some(limit) = highest.and_then(|highest| highest.checked_sub(keep)) else {
            return Ok(());
        };
        for (number, is_closing) in listed {
            if is_closing && number < limit {
                // The round first: what is left of a crash between the two is a word about a round that is not there, never a round that looks open.
                self.delete(&layout::round(number))?;
                self.delete(&layout::round_closed(number))?;
            }
        }
        Ok(())
    }

    /// Removes rounds that a killed collector left open and none of whose objects is there any more: names never return, so they say nothing.
    ///
    /// # Errors
    /// As the store says.
    pub fn forget_dead_rounds(&self, keep: u64) -> Result<()> {
        self.check_writable()?;
        let rounds = self.list_rounds()?;
        let limit = rounds
            .numbers
            .last()
            .and_then(|last| last.checked_sub(keep));
        let Some(limit) = limit.filter(|_| self.has_file_lists()) else {
            return Ok(());
        };
        for &number in rounds.open.range(..limit) {
            let Some(objects) = self.read_round(number)? else {
                continue;
            };
            let mut is_dead = true;
            for object in &objects {
                is_dead = is_dead && self.head(&layout::chunk_object(object))?.is_none();
            }
            if is_dead {
                self.delete(&layout::round(number))?;
            }
        }
        Ok(())
    }
}

impl OpenRounds {
    /// Whether one of them names an object.
    pub fn name(&self, object: &ObjectName) -> bool {
        self.objects.binary_search(object).is_ok()
    }

    /// What they name, sorted.
    pub fn objects(&self) -> &[ObjectName] {
        &self.objects
    }

    /// Their numbers.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The rounds of others that are open now.
    ///
    /// # Errors
    /// As [`Store::list_rounds`].
    pub fn others(&self) -> Result<Rounds> {
        self.store.list_rounds_but(&self.numbers)
    }

    /// Deletes objects that they name (G3); each one that was not there any more is deleted already.
    ///
    /// # Errors
    /// `Internal` if they do not name one of them; else as the store says.
    pub fn delete(&self, objects: &[ObjectName]) -> Result<()> {
        if let Some(foreign) = objects.iter().find(|object| !self.name(object)) {
            return Err(runtree_core::Error::internal(format!(
                "{foreign} is in none of this collector's rounds"
            )));
        }
        self.store.delete_objects(objects)
    }

    /// Closes them (G4), and gives back what they named.
    ///
    /// # Errors
    /// As the store says; those that are left open harm nothing.
    pub fn close(self) -> Result<Vec<ObjectName>> {
        for &number in &self.numbers {
            self.store
                .create_bytes(&layout::round_closed(number), bytes::Bytes::new())?
                .or_conflict(|| format!("round {number} was closed by somebody else"))?;
        }
        Ok(self.objects)
    }

    /// Leaves them open for ever: what they name is nobody's dedup hit any more, and whoever has the bytes puts them again.
    pub fn leave_open(self) {}
}
