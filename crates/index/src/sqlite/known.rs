//! What a read connection remembers of the file: chains of launches, rows, small series.
//!
//! A question about a chain of a thousand forks walks all of it, and the next question walks it again. As long as nobody has committed in between, both find
//! the same, so the connection keeps what it found. `PRAGMA data_version` says whether somebody has: it changes for a connection when another one, of this process or of any
//! other, commits; and read connections never write.

use std::collections::{HashMap, HashSet};

use runtree_core::lineage::{AttemptFacts, AttemptId};
use runtree_core::{Result, RunId};
use runtree_metrics::Points;
use rusqlite::Connection;

use super::from_sqlite;

/// Most points of decoded tails that a snapshot keeps: 24 MiB.
const MAX_POINTS: usize = 1 << 20;
/// Most that an idle connection keeps.
const MAX_IDLE_POINTS: usize = 1 << 16;

/// What was found in the file as it was at `version`.
#[derive(Debug, Default)]
pub(super) struct Known {
    version: Option<i64>,
    /// Launches whose whole chains were loaded, and their rows.
    pub(super) launches: HashMap<AttemptId, (i64, AttemptFacts)>,
    /// Rows of their runs.
    pub(super) runs: HashMap<RunId, i64>,
    /// Series with no full block.
    pub(super) tail_only: HashSet<i64>,
    tails: HashMap<i64, Points>,
    /// Points in `tails`.
    points: usize,
}

impl Known {
    /// Forgets everything unless the read transaction that `connection` is in sees what the last one saw.
    pub(super) fn keep_or_forget(&mut self, connection: &Connection) -> Result<()> {
        let version: i64 = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(from_sqlite)?;
        if self.version != Some(version) {
            *self = Self {
                version: Some(version),
                ..Self::default()
            };
        }
        Ok(())
    }

    pub(super) fn tail(&self, series: i64) -> Option<&Points> {
        self.tails.get(&series)
    }

    pub(super) fn keep_tail(&mut self, series: i64, points: &Points) {
        if self.points + points.len() <= MAX_POINTS {
            self.points += points.len();
            self.tails.insert(series, points.clone());
        }
    }

    /// Lets go of what is too much for a connection that may stay idle.
    pub(super) fn shrink(&mut self) {
        if self.points > MAX_IDLE_POINTS {
            self.tails = HashMap::new();
            self.points = 0;
        }
    }
}
