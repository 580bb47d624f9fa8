//! Reading everything again: is what the store holds what was saved?

use std::collections::{BTreeMap, HashMap, HashSet};

use runtree_core::manifest::{CheckpointName, ChunkRecord};
use runtree_core::{CheckpointId, ChunkHash, Error, ErrorKind, Result, RunId};
use runtree_store::ObjectName;

use super::{Sample, VerifyReport};
use crate::engine::Engine;
use crate::parallel::work_off;
use crate::save::threads;

mod records;

pub(crate) use records::BadLists;

/// What a verification goes through.
pub(crate) struct Gathered {
    /// Every chunk that is needed, sorted.
    pub(crate) chunks: Vec<Needed>,
    pub(crate) lists: BTreeMap<RunId, BadLists>,
}

/// A chunk, and where it is needed: the first checkpoint that was seen to, and how many more.
pub(crate) struct Needed {
    pub(crate) chunk: ChunkRecord,
    pub(crate) by: String,
    others: u64,
}

/// [`Engine::verify`].
pub(super) fn verify(
    engine: &Engine,
    checkpoint: Option<CheckpointName>,
    sample: Option<Sample>,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let Gathered {
        chunks: mut needed,
        lists,
    } = gather(engine, checkpoint, &mut report)?;
    let problems = lists.into_values().flat_map(|bad| bad.problems);
    report.problems.extend(problems);
    if let Some(sample) = sample {
        report.sampled_from = Some(needed.len() as u64);
        needed = sample.of(needed, engine.options.entropy.bits());
    }
    report.chunks = needed.len() as u64;
    report.bytes = needed.iter().map(|needed| needed.chunk.bytes).sum();
    let mut problems = verify_chunks(engine, &needed)?;
    problems.sort();
    report.problems.append(&mut problems);
    Ok(report)
}

/// Checkpoints that exist, and deleted ones that forks start from: their next launch loads those.
fn all_that_count(engine: &Engine) -> Result<Vec<CheckpointName>> {
    let mut names = engine.existing_checkpoints(&engine.store().list_runs()?)?;
    let known: HashSet<CheckpointName> = names.iter().copied().collect();
    match engine.relied_checkpoints() {
        Ok(relied) => names.extend(relied.iter().filter(|name| !known.contains(name))),
        // A record that can not be read is found among the records.
        Err(error) if is_finding(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(names)
}

/// Reads everything but chunks, and says which chunks are needed, sorted.
pub(crate) fn gather(
    engine: &Engine,
    checkpoint: Option<CheckpointName>,
    report: &mut VerifyReport,
) -> Result<Gathered> {
    let mut lists = BTreeMap::new();
    let names = match checkpoint {
        Some(name) => vec![name],
        None => all_that_count(engine)?,
    };
    let mut needed: HashMap<ChunkHash, Needed> = HashMap::new();
    for name in names {
        let by = described(name);
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
        lists = found.lists;
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
    Ok(Gathered {
        chunks: needed,
        lists,
    })
}

/// A checkpoint, for people.
pub(crate) fn described(name: CheckpointName) -> String {
    format!(
        "checkpoint {} (step {} of run {})",
        CheckpointId::of(name.run, name.key),
        name.key.step,
        name.run
    )
}

impl Sample {
    /// As many of these as it says, at least one, whichever `seed` chooses.
    fn of(self, mut needed: Vec<Needed>, seed: u128) -> Vec<Needed> {
        let all = needed.len();
        let count = match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(all),
            Self::Fraction(fraction) => (all as f64 * fraction).ceil() as usize,
        };
        needed.sort_by_cached_key(|needed| {
            let mut hasher = blake3::Hasher::new();
            hasher
                .update(&seed.to_le_bytes())
                .update(needed.chunk.hash.as_bytes());
            *hasher.finalize().as_bytes()
        });
        needed.truncate(count.clamp(1, all.max(1)));
        needed
    }
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
