//! Reading everything again: is what the store holds what was saved?

use std::collections::HashMap;

use runtree_core::manifest::{CheckpointName, ChunkRecord};
use runtree_core::{CheckpointId, ChunkHash, Error, ErrorKind, Result};
use runtree_store::ObjectName;

use super::VerifyReport;
use crate::engine::Engine;
use crate::parallel::work_off;
use crate::save::threads;

mod records;

/// A chunk, and where it is needed: the first checkpoint that was seen to, and how many more.
struct Needed {
    chunk: ChunkRecord,
    by: String,
    others: u64,
}

/// [`Engine::verify`].
pub(super) fn verify(engine: &Engine, checkpoint: Option<CheckpointName>) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let names = match checkpoint {
        Some(name) => vec![name],
        None => engine.existing_checkpoints(&engine.store().list_runs()?)?,
    };
    let mut needed: HashMap<ChunkHash, Needed> = HashMap::new();
    for name in names {
        let by = format!(
            "checkpoint {} (step {} of run {})",
            CheckpointId::of(name.run, name.key),
            name.key.step,
            name.run
        );
        let manifest = match engine.load_plan(name) {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound && checkpoint.is_some() => {
                return Err(error);
            }
            Err(error) if is_finding(&error) => {
                report.checkpoints += 1;
                report.problems.push(format!("{by}: {}", error.chain()));
                continue;
            }
            Err(error) => return Err(error),
        };
        report.checkpoints += 1;
        for part in &manifest.parts {
            for chunk in &part.chunks {
                needed
                    .entry(chunk.hash)
                    .and_modify(|needed| needed.others += u64::from(needed.by != by))
                    .or_insert_with(|| Needed {
                        chunk: chunk.clone(),
                        by: by.clone(),
                        others: 0,
                    });
            }
        }
    }
    if checkpoint.is_none() {
        let mut found = records::Found::default();
        records::verify_pins(engine, &mut found)?;
        for run in engine.store().list_runs()? {
            records::verify_run(engine, run, &mut found)?;
        }
        report.problems.append(&mut found.problems);
        for (chunk, by) in found.chunks {
            needed
                .entry(chunk.hash)
                .and_modify(|needed| needed.others += u64::from(needed.by != by))
                .or_insert(Needed {
                    chunk,
                    by,
                    others: 0,
                });
        }
    }
    let mut needed: Vec<Needed> = needed.into_values().collect();
    needed.sort_by_key(|needed| needed.chunk.hash);
    report.chunks = needed.len() as u64;
    report.bytes = needed.iter().map(|needed| needed.chunk.bytes).sum();
    let mut problems = verify_chunks(engine, &needed)?;
    problems.sort();
    report.problems.append(&mut problems);
    Ok(report)
}

fn is_finding(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported
    )
}

fn verify_chunks(engine: &Engine, needed: &[Needed]) -> Result<Vec<String>> {
    let verify = |problems: &mut Vec<String>, needed| {
        problems.extend(verify_chunk(engine, needed)?);
        Ok(())
    };
    let problems = work_off(needed, threads(), "verifying", Vec::new, verify)?;
    Ok(problems.concat())
}

fn verify_chunk(engine: &Engine, needed: &Needed) -> Result<Option<String>> {
    let chunk = &needed.chunk;
    let others = match needed.others {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let problem = |what: String| Some(format!("{}{others}: {what}", needed.by));
    match engine.store().verify_chunk(chunk) {
        Ok(verdict) => {
            let spare = if verdict.healthy.is_empty() {
                ""
            } else {
                "; another object of it is healthy, nothing is lost"
            };
            let names = |objects: &[ObjectName]| {
                let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
                names.join(", ")
            };
            if !verdict.damaged.is_empty() {
                let damaged = names(&verdict.damaged);
                return Ok(problem(format!("chunk object {damaged} is damaged{spare}")));
            }
            if !verdict.without_base.is_empty() {
                let objects = names(&verdict.without_base);
                return Ok(problem(format!(
                    "chunk object {objects} is a difference to a chunk that can not be read{spare}"
                )));
            }
            if verdict.healthy.is_empty() {
                let what = format!("chunk {} ({} bytes) is missing", chunk.hash, chunk.bytes);
                return Ok(problem(what));
            }
            Ok(None)
        }
        Err(error) if is_finding(&error) => Ok(problem(error.chain())),
        Err(error) => Err(error),
    }
}
