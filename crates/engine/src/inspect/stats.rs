//! What checkpoints weigh: whole, stored, and what sharing and encoding save; how deep their differences go; what still waits to be encoded.

use std::collections::{HashMap, HashSet};

use runtree_core::manifest::CheckpointName;
use runtree_core::{CheckpointId, ChunkHash, ErrorKind, Result, RunId};

use super::objects::Objects;
use crate::encode::survivors;
use crate::engine::Engine;

/// What the store, or a run, holds.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StatsReport {
    /// Runs.
    pub runs: u64,
    /// Complete checkpoints.
    pub checkpoints: u64,
    /// Raw bytes of all of them, each counted whole.
    pub logical_bytes: u64,
    /// Bytes of distinct objects.
    pub stored_bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// What sharing chunks (forks included) and encoding them saves: logical minus stored.
    pub saved_bytes: u64,
    /// Checkpoints that could not be read, and are not counted.
    pub unreadable: u64,
    /// Cold checkpoints that no encoder came to yet.
    pub waiting: u64,
    /// Of the chunks that are kept as differences only: how many differences lie between them and a full one, index 0 for one.
    pub depths: Vec<u64>,
    /// One row per run; of one run, one per checkpoint.
    pub rows: Vec<StatsRow>,
}

/// A run or a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StatsRow {
    /// REF of the run or the checkpoint.
    pub reference: String,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Raw bytes, each checkpoint counted whole.
    pub logical_bytes: u64,
    /// Bytes of objects that no row before this one needs: the rows add up to the whole.
    pub stored_bytes: u64,
    /// Most differences between one of its chunks and a full one.
    pub depth: u64,
    /// Cold checkpoints that no encoder came to yet.
    pub waiting: u64,
}

/// A readable checkpoint.
struct Weighed {
    name: CheckpointName,
    logical_bytes: u64,
    hashes: Vec<ChunkHash>,
}

/// [`Engine::stats`].
pub(super) fn stats(engine: &Engine, run: Option<RunId>) -> Result<StatsReport> {
    let runs = match run {
        Some(run) => vec![run],
        None => engine.store().list_runs()?,
    };
    let mut report = StatsReport {
        runs: runs.len() as u64,
        ..StatsReport::default()
    };
    let mut weighed = Vec::new();
    for name in engine.existing_checkpoints(&runs)? {
        match engine.load_plan(name) {
            Ok(manifest) => weighed.push(Weighed {
                name,
                logical_bytes: manifest.parts.iter().map(|part| part.bytes).sum(),
                hashes: manifest
                    .parts
                    .iter()
                    .flat_map(|part| part.chunks.iter().map(|chunk| chunk.hash))
                    .collect(),
            }),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                report.unreadable += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let all: HashSet<ChunkHash> = weighed
        .iter()
        .flat_map(|checkpoint| checkpoint.hashes.iter().copied())
        .collect();
    report.chunks = all.len() as u64;
    let objects = Objects::of(engine, &all)?;
    report.stored_bytes = objects.bytes_of(&all);
    for hash in &all {
        if let depth @ 1.. = objects.depth(*hash) {
            report.depths.resize(report.depths.len().max(depth), 0);
            report.depths[depth - 1] += 1;
        }
    }
    let mut waiting = HashSet::new();
    for &run in &runs {
        waiting.extend(waiting_of(engine, run, &weighed, &objects)?);
    }
    report.waiting = waiting.len() as u64;
    let mut seen = HashSet::new();
    for checkpoint in &weighed {
        report.checkpoints += 1;
        report.logical_bytes += checkpoint.logical_bytes;
        let reference = reference(engine, checkpoint.name, run.is_some())?;
        if report
            .rows
            .last()
            .is_none_or(|row| row.reference != reference)
        {
            report.rows.push(StatsRow {
                reference,
                ..StatsRow::default()
            });
        }
        let row = report.rows.last_mut().expect("BUG: a row was just pushed");
        let new: HashSet<ChunkHash> = checkpoint
            .hashes
            .iter()
            .copied()
            .filter(|hash| seen.insert(*hash))
            .collect();
        let depth = checkpoint
            .hashes
            .iter()
            .map(|hash| objects.depth(*hash))
            .max();
        row.checkpoints += 1;
        row.logical_bytes += checkpoint.logical_bytes;
        row.stored_bytes += objects.bytes_of(&new);
        row.depth = row.depth.max(depth.unwrap_or(0) as u64);
        row.waiting += u64::from(waiting.contains(&checkpoint.name));
    }
    report.saved_bytes = report.logical_bytes.saturating_sub(report.stored_bytes);
    Ok(report)
}

fn reference(engine: &Engine, name: CheckpointName, of_checkpoint: bool) -> Result<String> {
    let run = engine.store().try_read_run(name.run)?.map_or_else(
        || name.run.to_string(),
        |record| record.display_id.to_string(),
    );
    Ok(if of_checkpoint {
        format!("{run}@{}", CheckpointId::of(name.run, name.key))
    } else {
        run
    })
}

/// Cold checkpoints that nobody encoded: encoders go from the oldest to the newest, so it is those after the last one in which anything is encoded. (Some chunks never
/// are, because they do not become smaller.)
fn waiting_of(
    engine: &Engine,
    run: RunId,
    weighed: &[Weighed],
    objects: &Objects,
) -> Result<Vec<CheckpointName>> {
    let cold = survivors::cold(engine, run, &mut HashSet::new())?;
    let by_name: HashMap<CheckpointName, &Weighed> =
        weighed.iter().map(|one| (one.name, one)).collect();
    let is_encoded = |name: CheckpointName, hot: &HashSet<ChunkHash>| {
        by_name.get(&name).is_none_or(|one| {
            let mut own = one
                .hashes
                .iter()
                .filter(|hash| !hot.contains(*hash))
                .peekable();
            own.peek().is_none() || own.any(|hash| objects.is_encoded(*hash))
        })
    };
    let first = cold
        .iter()
        .rposition(|one| is_encoded(one.name, &one.hot))
        .map_or(0, |last| last + 1);
    Ok(cold[first..].iter().map(|one| one.name).collect())
}
