//! A snapshot: one read transaction on a connection of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::MutexGuard;

use runtree_core::lineage::{AttemptFacts, AttemptId, AttemptSource};
use runtree_core::manifest::{BasePoint, CheckpointName, PinRecord};
use runtree_core::wire::ProjectInfo;
use runtree_core::{AttemptNumber, CheckpointId, ProjectName, Result, RunId, Step, Timestamp};
use runtree_metrics::block::MAX_POINTS;
use runtree_metrics::{BlockSource, Points, StoredBlock, Times};
use rusqlite::{Connection, params};

use super::checkpoints::{self, save_key};
use super::fields::kind;
use super::fold::cursor_at;
use super::keys::{
    find_attempt, find_run, from_json, run_blob, run_of, sortable, to_json, writer_of,
};
use super::known::Known;
use super::points::Place;
use super::{
    Owned, SqliteIndex, console, family, from_sqlite, lock, media, names, points, runs, series,
    settle,
};
use crate::item::PinFacts;
use crate::query::{
    ConsoleQuery, Liveness, MediaQuery, MetricChoice, RunLookup, RunQuery, SeriesFilter, StepSpan,
};
use crate::row::{
    AlertCount, AlertRow, AttemptRow, CheckpointRow, ConsoleSlice, FileRow, KnownKeys, LabelRow,
    LostRow, MediaKeyRow, MediaRow, RunRow, RunSlice, SeriesId, SeriesRow, SeriesStats, WriterRow,
};
use crate::r#trait::Snapshot;

/// A read transaction; gives its connection back when it ends.
pub(super) struct SqliteSnapshot<'a> {
    index: &'a SqliteIndex,
    owned: Option<Owned>,
}

impl<'a> SqliteSnapshot<'a> {
    /// Begins a read transaction; says whether everything it sees is settled.
    pub(super) fn begin(index: &'a SqliteIndex, owned: Owned) -> Result<(Self, bool)> {
        owned
            .connection
            .execute_batch("BEGIN")
            .map_err(from_sqlite)?;
        let snapshot = Self {
            index,
            owned: Some(owned),
        };
        snapshot.known().keep_or_forget(snapshot.connection())?;
        let settled = settle::is_settled(snapshot.connection())?;
        Ok((snapshot, settled))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.owned().connection
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.owned().known)
    }

    fn owned(&self) -> &Owned {
        self.owned.as_ref().expect("BUG: taken only when dropped")
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.connection()
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
            .map_err(from_sqlite)
    }

    /// Loads a launch and everything it is based on.
    fn load_chain(&self, id: AttemptId) -> Result<()> {
        let Some(row) = find_attempt(self.connection(), id)? else {
            return Ok(());
        };
        let chain = self.rows(
            "WITH RECURSIVE chain(id) AS (
               SELECT ?1 UNION SELECT attempt.base FROM chain JOIN attempt ON attempt.id = chain.id WHERE attempt.base IS NOT NULL)
             SELECT attempt.id, run.run, attempt.number, attempt.base, attempt.base_step, attempt.lowered, attempt.record IS NOT NULL, run.id
             FROM chain JOIN attempt ON attempt.id = chain.id JOIN run ON run.id = attempt.run_id",
            [row],
            |row| {
                let id = AttemptId {
                    run: run_of(row.get(1)?),
                    attempt: AttemptNumber(row.get(2)?),
                };
                let base: Option<i64> = row.get(3)?;
                let step: Option<i64> = row.get(4)?;
                let lowered: Option<i64> = row.get(5)?;
                Ok((row.get::<_, i64>(0)?, id, base.zip(step), lowered, row.get::<_, bool>(6)?, row.get::<_, i64>(7)?))
            },
        )?;
        let ids: HashMap<i64, AttemptId> =
            chain.iter().map(|launch| (launch.0, launch.1)).collect();
        let mut known = self.known();
        for (row, id, base, lowered, recorded, run) in chain {
            known.runs.insert(id.run, run);
            let base = base.and_then(|(base, step)| {
                let base = ids.get(&base)?;
                Some(BasePoint {
                    run: base.run,
                    attempt: base.attempt,
                    step: Step(step),
                })
            });
            // Merely mentioned by somebody: not known here. A fork's first launch is known from its birth record.
            if recorded || base.is_some() {
                let facts = AttemptFacts {
                    base,
                    lowered_start: lowered.map(Step),
                };
                known.launches.insert(id, (row, facts));
            }
        }
        Ok(())
    }

    /// The row of a launch.
    pub(super) fn row_of(&self, id: AttemptId) -> Result<Option<i64>> {
        let known = self.known().launches.get(&id).map(|(row, _)| *row);
        match known {
            Some(row) => Ok(Some(row)),
            None => find_attempt(self.connection(), id),
        }
    }

    /// The row of a run.
    pub(super) fn row_of_run(&self, run: RunId) -> Result<Option<i64>> {
        let known = self.known().runs.get(&run).copied();
        match known {
            Some(row) => Ok(Some(row)),
            None => find_run(self.connection(), run),
        }
    }

    /// The rows of some runs as a JSON array: one parameter, however many they are.
    fn rows_of_runs(&self, runs: &[RunId]) -> Result<String> {
        let mut rows = Vec::with_capacity(runs.len());
        for &run in runs {
            rows.extend(self.row_of_run(run)?);
        }
        Ok(to_json(&rows))
    }

    fn tail(&self, series: i64) -> Result<Points> {
        if let Some(points) = self.known().tail(series) {
            return Ok(points.clone());
        }
        let points = points::tail(self.connection(), series)?;
        self.known().keep_tail(series, &points);
        Ok(points)
    }
}

impl Drop for SqliteSnapshot<'_> {
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take()
            && owned.connection.execute_batch("COMMIT").is_ok()
        {
            self.index.give_back(owned);
        }
    }
}

impl AttemptSource for SqliteSnapshot<'_> {
    fn attempt(&self, id: AttemptId) -> Result<Option<AttemptFacts>> {
        if let Some((_, facts)) = self.known().launches.get(&id) {
            return Ok(Some(*facts));
        }
        self.load_chain(id)?;
        Ok(self.known().launches.get(&id).map(|(_, facts)| *facts))
    }
}

impl BlockSource for SqliteSnapshot<'_> {
    fn load(&self, id: u64) -> Result<Points> {
        match points::place(id) {
            Place::Tail(series) => self.tail(series),
            Place::Block(series, number) => points::block(self.connection(), series, number),
        }
    }

    fn load_times(&self, id: u64) -> Result<Times> {
        match points::place(id) {
            Place::Tail(series) => self.tail(series).map(|points| Times::of(&points)),
            Place::Block(series, number) => points::block_times(self.connection(), series, number),
        }
    }
}

impl Snapshot for SqliteSnapshot<'_> {
    fn projects(&self, liveness: Liveness) -> Result<Vec<ProjectInfo>> {
        self.rows(
            "SELECT project, sum(shown = 0), sum(shown = 0 AND status = 'running' AND sign >= ?1),
               max(CASE WHEN shown = 0 THEN last_activity END)
             FROM run WHERE shown IN (0, 1) GROUP BY project ORDER BY project",
            [runs::cutoff(liveness)],
            |row| {
                Ok(ProjectInfo {
                    name: row.get(0)?,
                    runs: row.get::<_, i64>(1)? as u64,
                    running: row.get::<_, i64>(2)? as u64,
                    last_activity: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                })
            },
        )
    }

    fn known_keys(&self, project: &ProjectName) -> Result<KnownKeys> {
        names::of(self, project)
    }

    fn runs(&self, query: &RunQuery) -> Result<RunSlice> {
        runs::page(self.connection(), query)
    }

    fn run_ids(&self, query: &RunQuery) -> Result<Vec<RunId>> {
        runs::ids(self.connection(), query)
    }

    fn run(
        &self,
        run: RunId,
        metrics: &MetricChoice,
        liveness: Liveness,
    ) -> Result<Option<RunRow>> {
        match find_run(self.connection(), run)? {
            Some(id) => runs::row(self.connection(), id, metrics, liveness),
            None => Ok(None),
        }
    }

    fn labels(&self, runs: &[RunId]) -> Result<Vec<LabelRow>> {
        self.rows(
            "SELECT run, display_id, name FROM json_each(?1) AS wanted CROSS JOIN run ON run.id = wanted.value
             WHERE +shown IS NOT NULL",
            [self.rows_of_runs(runs)?],
            |row| {
                Ok(LabelRow {
                    run: run_of(row.get(0)?),
                    display_id: row.get(1)?,
                    name: row.get(2)?,
                })
            },
        )
    }

    fn find_runs(&self, project: Option<&ProjectName>, lookup: &RunLookup) -> Result<Vec<RunId>> {
        runs::find(self.connection(), project, lookup)
    }

    fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>> {
        let found = self.rows(
            "SELECT attempt.record, attempt.lowered, attempt.id,
               (SELECT max(alive) FROM writer WHERE writer.run_id = run.id AND writer.attempt = attempt.number)
             FROM run JOIN attempt ON attempt.run_id = run.id
             WHERE run.run = ?1 AND attempt.record IS NOT NULL ORDER BY attempt.number",
            [run_blob(run)],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<i64>>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<i64>>(3)?,
                ))
            },
        )?;
        let mut attempts = Vec::with_capacity(found.len());
        for (record, lowered, id, alive) in found {
            let record: runtree_core::manifest::AttemptRecord =
                from_json(&record, "a launch's record")?;
            let stats = self.rows(
                "SELECT stats FROM series WHERE attempt_id = ?1 AND system = 0",
                [id],
                |row| row.get::<_, Vec<u8>>(0),
            )?;
            let mut steps: Option<(Step, Step)> = None;
            for stats in stats {
                let stats = SeriesStats::from_bytes(&stats)?;
                let (first, last) = (stats.first.step, stats.last.step);
                steps =
                    Some(steps.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
            }
            attempts.push(AttemptRow {
                last_activity: alive
                    .map_or(record.created, |alive| record.created.max(Timestamp(alive))),
                record,
                lowered_start: lowered.map(Step),
                steps,
            });
        }
        Ok(attempts)
    }

    fn writers(&self, run: RunId) -> Result<Vec<WriterRow>> {
        let found = self.rows(
            "SELECT writer.writer, writer.attempt, rank, world_size, opened, alive, closed, process, offset, ordinal, hash
             FROM run JOIN writer ON writer.run_id = run.id WHERE run.run = ?1 ORDER BY writer.writer",
            [run_blob(run)],
            |row| {
                let time = |at| -> rusqlite::Result<Option<Timestamp>> {
                    Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
                };
                let writer = WriterRow {
                    writer: writer_of(row.get(0)?),
                    attempt: row.get::<_, Option<u32>>(1)?.map(AttemptNumber),
                    rank: row.get(2)?,
                    world_size: row.get(3)?,
                    opened: time(4)?,
                    last_alive: time(5)?,
                    closed: time(6)?,
                    process: BTreeMap::new(),
                    cursor: cursor_at(row, 8)?,
                };
                Ok((writer, row.get::<_, Option<String>>(7)?))
            },
        )?;
        found
            .into_iter()
            .map(|(mut writer, process)| {
                if let Some(process) = process {
                    writer.process = from_json(&process, "a writer's process")?;
                }
                Ok(writer)
            })
            .collect()
    }

    fn children(&self, run: RunId) -> Result<Vec<RunId>> {
        self.rows(
            "SELECT run FROM run WHERE (owner = ?1 OR declared = ?1) AND +shown IS NOT NULL ORDER BY created, run",
            [run_blob(run)],
            |row| row.get(0).map(run_of),
        )
    }

    fn family(&self, root: RunId) -> Result<Vec<RunId>> {
        family::of(self, root)
    }

    fn checkpoints_of(&self, runs: &[RunId]) -> Result<Vec<CheckpointRow>> {
        checkpoints::of(self, runs)
    }

    fn find_checkpoint(&self, id: CheckpointId) -> Result<Option<CheckpointName>> {
        let found = self.rows(
            "SELECT run.run, checkpoint.attempt, checkpoint.step, checkpoint.k FROM checkpoint JOIN run ON run.id = checkpoint.run_id
             WHERE checkpoint = ?1 ORDER BY run.run",
            [sortable(id.to_bits())],
            |row| {
                Ok(CheckpointName {
                    run: run_of(row.get(0)?),
                    key: save_key(row, 1)?,
                })
            },
        )?;
        Ok(found.first().copied())
    }

    fn damage(&self, runs: &[RunId]) -> Result<Vec<(CheckpointName, String)>> {
        let found = self.rows(
            "SELECT field.key, field.value FROM json_each(?1) AS wanted CROSS JOIN field ON field.run_id = wanted.value
             WHERE field.kind = ?2 AND field.value <> '' ORDER BY field.run_id, field.key",
            params![self.rows_of_runs(runs)?, kind::CHECKPOINT_DAMAGE],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        let named = |(key, what): (String, String)| {
            let (run, key) = key.split_once('/')?;
            let (run, key) = (run.parse().ok()?, key.parse().ok()?);
            Some((CheckpointName { run, key }, what))
        };
        Ok(found.into_iter().filter_map(named).collect())
    }

    fn started_from(&self, run: RunId) -> Result<Vec<(AttemptId, CheckpointName)>> {
        let found = self.rows(
            "SELECT run.run, attempt.number, attempt.checkpoint_key
             FROM attempt JOIN run ON run.id = attempt.run_id
             WHERE attempt.checkpoint_run = ?1 ORDER BY run.run, attempt.number",
            [run_blob(run)],
            |row| {
                let id = AttemptId {
                    run: run_of(row.get(0)?),
                    attempt: AttemptNumber(row.get(1)?),
                };
                Ok((id, row.get::<_, String>(2)?))
            },
        )?;
        found
            .into_iter()
            .map(|(id, key)| {
                let key = key.parse()?;
                Ok((id, CheckpointName { run, key }))
            })
            .collect()
    }

    fn pins(&self) -> Result<Vec<PinFacts>> {
        let found = self.rows("SELECT name, record FROM pin ORDER BY name", [], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?))
        })?;
        found
            .into_iter()
            .map(|(name, record)| {
                let record: PinRecord = from_json(&record, "a pin")?;
                Ok(PinFacts {
                    name,
                    record: Some(record),
                })
            })
            .collect()
    }

    fn series(&self, filter: &SeriesFilter) -> Result<Vec<SeriesRow>> {
        let rows = series::list(self, filter)?;
        let small = rows
            .iter()
            .filter(|row| row.stats.points < MAX_POINTS as u64);
        self.known().tail_only.extend(small.map(|row| row.id.0));
        Ok(rows)
    }

    fn blocks(&self, series: SeriesId, span: StepSpan) -> Result<Vec<StoredBlock>> {
        let full = if self.known().tail_only.contains(&series.0) {
            Vec::new()
        } else {
            points::full_blocks(self.connection(), series.0, span)?
        };
        let tail = points::tail_block(series.0, self.tail(series.0)?, span);
        Ok(full.into_iter().chain(tail).collect())
    }

    fn console(&self, query: &ConsoleQuery) -> Result<ConsoleSlice> {
        console::page(self, query)
    }

    fn files(&self, run: RunId) -> Result<Vec<FileRow>> {
        let found = self.rows(
            "SELECT file.name, bytes, chunks, at FROM run JOIN file ON file.run_id = run.id WHERE run.run = ?1 ORDER BY file.name",
            [run_blob(run)],
            |row| {
                let file = FileRow {
                    name: row.get(0)?,
                    bytes: row.get::<_, i64>(1)? as u64,
                    chunks: Vec::new(),
                    at: Timestamp(row.get(3)?),
                };
                Ok((file, row.get::<_, String>(2)?))
            },
        )?;
        found
            .into_iter()
            .map(|(mut file, chunks)| {
                file.chunks = from_json(&chunks, "a file's chunks")?;
                Ok(file)
            })
            .collect()
    }

    fn media_keys(&self, attempt: AttemptId, span: StepSpan) -> Result<Vec<MediaKeyRow>> {
        media::keys(self, attempt, span)
    }

    fn media_steps(
        &self,
        attempt: AttemptId,
        span: StepSpan,
        name: Option<(&str, Option<u32>)>,
    ) -> Result<Vec<Step>> {
        media::steps(self, attempt, span, name)
    }

    fn media(&self, query: &MediaQuery) -> Result<Vec<MediaRow>> {
        media::entries(self, query)
    }

    fn alerts(&self, run: RunId, limit: u32) -> Result<Vec<AlertRow>> {
        media::alerts(self, run, limit)
    }

    fn alert_count(&self, run: RunId) -> Result<AlertCount> {
        media::alert_count(self, run)
    }

    fn lost(&self, run: RunId) -> Result<Vec<LostRow>> {
        let found = self.rows(
            "SELECT lost.attempt, reason, points, at FROM run JOIN lost ON lost.run_id = run.id
             WHERE run.run = ?1 ORDER BY at, writer, ordinal",
            [run_blob(run)],
            |row| {
                let lost = LostRow {
                    attempt: row.get::<_, Option<u32>>(0)?.map(AttemptNumber),
                    reason: row.get(1)?,
                    points: BTreeMap::new(),
                    at: Timestamp(row.get(3)?),
                };
                Ok((lost, row.get::<_, String>(2)?))
            },
        )?;
        found
            .into_iter()
            .map(|(mut lost, points)| {
                lost.points = from_json(&points, "lost points")?;
                Ok(lost)
            })
            .collect()
    }
}
