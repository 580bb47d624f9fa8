//! Names that are taken once: a project's prefix, its run numbers, its run keys. Each is one conditional create.

use std::collections::BTreeSet;

use runtree_core::{DisplayId, Error, ProjectName, Result, RunId};

use crate::layout::{self, ObjectPath};
use crate::store::{Created, Store};
use crate::word::{checked, unchecked};

/// Numbers that are tried in a row: each loss means that another run took one meanwhile.
const NUMBER_TRIES: u64 = 10_000;

/// Highest number behind initials that several projects have: with it, the longest initials still fit.
const MAX_PREFIX_NUMBER: u32 = 999;

impl Store {
    /// Sets a project's prefix, if none is set; returns the one that is.
    ///
    /// # Errors
    /// `Invalid` if `prefix` can not stand before a number; `Corrupt` if the stored one can not.
    pub fn set_prefix(&self, project: &ProjectName, prefix: &str) -> Result<String> {
        DisplayId::check_prefix(prefix)?;
        let path = layout::project_prefix(project);
        match self.create_bytes(&path, checked(prefix))? {
            Created::Created | Created::ExistsEqual => Ok(prefix.to_owned()),
            Created::ExistsOther(winner) => parse_prefix(&winner, &path),
        }
    }

    /// A project's prefix, if one is set.
    ///
    /// # Errors
    /// `Corrupt` if it can not stand before a number.
    pub fn read_prefix(&self, project: &ProjectName) -> Result<Option<String>> {
        let path = layout::project_prefix(project);
        self.try_read_bytes(&path)?
            .map(|bytes| parse_prefix(&bytes, &path))
            .transpose()
    }

    /// The initials of a project; with a number behind them where another project of this store has the same. Then `VP-1` names one run of
    /// the store, and an address or a printed command that holds it leads to that run. Not a promise: two projects that begin at the same
    /// moment, and stores that are merged, may still share a prefix.
    fn free_prefix(&self, project: &ProjectName) -> Result<String> {
        let initials = DisplayId::default_prefix(project.as_str());
        let mut taken = BTreeSet::new();
        for (listed, _) in self.names(&layout::projects())? {
            let Some(path) = layout::listed_project_prefix(&listed) else {
                continue;
            };
            // One that can not be read is its own project's trouble.
            taken.extend(
                self.try_read_bytes(&path)?
                    .and_then(|bytes| parse_prefix(&bytes, &path).ok()),
            );
        }
        let numbered = (2..=MAX_PREFIX_NUMBER).map(|number| format!("{initials}{number}"));
        Ok(std::iter::once(initials.clone())
            .chain(numbered)
            .find(|prefix| !taken.contains(prefix))
            .unwrap_or(initials))
    }

    /// Takes the next number of a project for `run`, and the project's prefix (its initials, if none was set).
    ///
    /// Numbers are never given twice. A creation that is interrupted after this leaves a gap.
    ///
    /// # Errors
    /// As the store says; `Conflict` if thousands of others take numbers at the same moment.
    pub fn take_number(&self, project: &ProjectName, run: RunId) -> Result<DisplayId> {
        let prefix = match self.read_prefix(project)? {
            Some(prefix) => prefix,
            None => self.set_prefix(project, &self.free_prefix(project)?)?,
        };
        let last = self.last_number(project)?;
        let content = checked(&run.to_string());
        for offset in 1..=NUMBER_TRIES {
            let number = last
                .checked_add(offset)
                .ok_or_else(|| Error::corrupt(format!("the numbers of {project:?} are used up")))?;
            match self.create_bytes(&layout::number(project, number), content.clone())? {
                // `ExistsEqual`: an earlier try of ours whose answer was lost.
                Created::Created | Created::ExistsEqual => return DisplayId::new(&prefix, number),
                Created::ExistsOther(_) => {}
            }
        }
        Err(Error::conflict(format!(
            "no free run number in {project:?} after {NUMBER_TRIES} tries"
        )))
    }

    /// A number that is taken while the next one is not; 0 if the first is free.
    ///
    /// By steps that double, then halve (Bentley and Yao 1976, "An almost optimal algorithm for unbounded searching"): 34 questions in a project of a
    /// hundred thousand runs, where a listing would be long. Numbers are taken one after another, so this is the highest but where runs were pulled
    /// from elsewhere or objects were removed by hand; any number that is free will do.
    fn last_number(&self, project: &ProjectName) -> Result<u64> {
        let is_taken = |number| Ok(self.head(&layout::number(project, number))?.is_some());
        let (mut taken, mut free) = (0, 1);
        while is_taken(free)? {
            taken = free;
            free = free.saturating_mul(2);
            if free == taken {
                return Ok(taken);
            }
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if is_taken(middle)? {
                taken = middle;
            } else {
                free = middle;
            }
        }
        Ok(taken)
    }

    /// Who has a number in a project.
    ///
    /// # Errors
    /// `Corrupt` if the object does not hold a run id.
    pub fn find_number(&self, project: &ProjectName, number: u64) -> Result<Option<RunId>> {
        self.read_run_id(&layout::number(project, number))
    }

    /// Gives a key in a project to `run`, unless somebody has it; returns who has it now.
    ///
    /// # Errors
    /// `Corrupt` if the object does not hold a run id.
    pub fn claim_key(&self, project: &ProjectName, key: &str, run: RunId) -> Result<RunId> {
        let path = layout::run_key(project, key);
        match self.create_bytes(&path, checked(&run.to_string()))? {
            Created::Created | Created::ExistsEqual => Ok(run),
            Created::ExistsOther(winner) => parse_run_id(&winner, &path),
        }
    }

    /// Who has a key in a project.
    ///
    /// # Errors
    /// `Corrupt` if the object does not hold a run id.
    pub fn find_key(&self, project: &ProjectName, key: &str) -> Result<Option<RunId>> {
        self.read_run_id(&layout::run_key(project, key))
    }

    pub(crate) fn read_run_id(&self, path: &ObjectPath) -> Result<Option<RunId>> {
        self.try_read_bytes(path)?
            .map(|bytes| parse_run_id(&bytes, path))
            .transpose()
    }
}

fn parse_run_id(bytes: &[u8], path: &ObjectPath) -> Result<RunId> {
    layout::parse_id(unchecked(bytes, path)?)
        .ok_or_else(|| Error::corrupt(format!("{path} does not hold a run id")))
}

fn parse_prefix(bytes: &[u8], path: &ObjectPath) -> Result<String> {
    let prefix = unchecked(bytes, path)?;
    DisplayId::check_prefix(prefix)
        .map_err(|_| Error::corrupt(format!("{path} does not hold a run prefix")))?;
    Ok(prefix.to_owned())
}
