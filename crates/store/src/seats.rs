//! Seats: which process is a rank of a launch. Each is taken once, by one conditional create, and never given back.

use runtree_core::{AttemptNumber, Error, Result, RunId, WriterId};

use crate::layout::{self, ObjectPath};
use crate::store::{Created, Store};
use crate::word::{checked, unchecked};

impl Store {
    /// Takes the seat of a rank in a launch for the process that `writer` names; `false` if another process has it.
    ///
    /// # Errors
    /// As the store says.
    pub fn take_seat(
        &self,
        run: RunId,
        attempt: AttemptNumber,
        rank: u32,
        writer: WriterId,
    ) -> Result<bool> {
        let path = layout::seat(run, attempt, rank);
        let taken = self.create_bytes(&path, checked(&writer.to_string()))?;
        Ok(!matches!(taken, Created::ExistsOther(_)))
    }

    /// Who has the seat of a rank in a launch.
    ///
    /// # Errors
    /// `Corrupt` if the object does not hold a writer id.
    pub fn find_seat(
        &self,
        run: RunId,
        attempt: AttemptNumber,
        rank: u32,
    ) -> Result<Option<WriterId>> {
        let path = layout::seat(run, attempt, rank);
        self.try_read_bytes(&path)?
            .map(|bytes| parse_writer(&bytes, &path))
            .transpose()
    }

    /// Seats of a run that are taken, ascending.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_seats(&self, run: RunId) -> Result<Vec<(AttemptNumber, u32)>> {
        self.parsed(&layout::attempts(run), false, layout::parse_seat)
    }
}

fn parse_writer(bytes: &[u8], path: &ObjectPath) -> Result<WriterId> {
    layout::parse_id(unchecked(bytes, path)?)
        .ok_or_else(|| Error::corrupt(format!("{path} does not hold a writer id")))
}
