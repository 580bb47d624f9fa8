//! A collector as the protocol describes it (G1–G4), reduced to what it must get right: the product's own comes with a later part and takes its place here.

use std::collections::HashSet;

use runtree_core::manifest::{Outcome, RoundRecord};
use runtree_core::{ChunkHash, Error, Result, Timestamp};
use runtree_store::{Created, ObjectName, Store, layout};

use super::{Actor, Dice, Fault, Turn};

/// Collects once, one action a turn.
#[derive(Debug)]
pub struct Collector {
    fault: Fault,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The faulty order: what is needed was listed before the round was there.
    Listed {
        wanted: Vec<ObjectName>,
        needless: Vec<ObjectName>,
    },
    Round {
        number: u64,
        wanted: Vec<ObjectName>,
    },
    Deleting {
        number: u64,
        doomed: Vec<ObjectName>,
    },
    Taken,
}

impl Collector {
    /// A collector that has not begun.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            stage: Stage::Start,
        }
    }

    /// Objects it would like to delete: all there are, because the world has no grace.
    fn all_objects(store: &Store) -> Result<Vec<ObjectName>> {
        let mut names = Vec::new();
        for hash in super::saver::all_hashes() {
            names.extend(store.list_objects(hash)?);
        }
        Ok(names)
    }

    fn open_round(store: &Store, wanted: &[ObjectName]) -> Result<u64> {
        let record = RoundRecord {
            objects: wanted.iter().map(ToString::to_string).collect(),
            created: Timestamp(0),
        };
        let mut number = store
            .list_rounds()?
            .numbers
            .last()
            .map_or(0, |last| last + 1);
        loop {
            match store.create_record(&layout::round(number), &record)? {
                Created::Created => return Ok(number),
                // Somebody else's round, even if it says the same: only a round's creator may delete for it.
                _ => number += 1,
            }
        }
    }

    /// G2 and the decision: which of `wanted` nothing needs.
    fn needless(
        &self,
        store: &Store,
        wanted: &[ObjectName],
        own: Option<u64>,
    ) -> Result<Vec<ObjectName>> {
        let mut reachable: HashSet<ChunkHash> = HashSet::new();
        for run in store.list_runs()? {
            // Parts before commits (`list_pending` does both in this order): what is committed in between is found among the commits.
            let mut roots = store.list_pending(run)?;
            if self.fault == Fault::PendingIsGarbage {
                roots.clear();
            }
            for key in store.list_commits(run)? {
                if store
                    .read_commit(run, key)?
                    .is_some_and(|commit| commit.outcome == Outcome::Committed)
                {
                    roots.push(key);
                }
            }
            for key in roots {
                for part in store.list_parts(run, key)? {
                    let (manifest, _) = store.read_part(run, key, &part.component, part.rank)?;
                    reachable.extend(manifest.chunks.iter().map(|chunk| chunk.hash));
                }
            }
        }
        let rounds = store.list_rounds()?;
        let mine: HashSet<&ObjectName> = wanted.iter().collect();
        let mut doomed = Vec::new();
        for name in wanted {
            let others = store.list_objects(name.hash)?;
            let healthy_other = others.iter().any(|other| {
                other != name && !rounds.condemns(other) && !(own.is_some() && mine.contains(other))
            });
            if !reachable.contains(&name.hash) || healthy_other {
                doomed.push(*name);
            }
        }
        Ok(doomed)
    }
}

impl Actor for Collector {
    fn step(&mut self, store: &Store, _dice: &mut Dice) -> Result<Turn> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Start if self.fault == Fault::ListBeforeRound => {
                let wanted = Self::all_objects(store)?;
                let needless = self.needless(store, &wanted, None)?;
                Stage::Listed { wanted, needless }
            }
            Stage::Start => {
                let wanted = Self::all_objects(store)?;
                Stage::Round {
                    number: Self::open_round(store, &wanted)?,
                    wanted,
                }
            }
            Stage::Listed { wanted, needless } => Stage::Deleting {
                number: Self::open_round(store, &wanted)?,
                doomed: needless,
            },
            Stage::Round { number, wanted } => {
                let doomed = self.needless(store, &wanted, Some(number))?;
                Stage::Deleting { number, doomed }
            }
            Stage::Deleting { number, mut doomed } => match doomed.pop() {
                Some(name) => {
                    store.delete(&layout::chunk_object(&name))?;
                    Stage::Deleting { number, doomed }
                }
                None if self.fault == Fault::ForgottenRound => {
                    store.delete(&layout::round(number))?;
                    return Ok(Turn::Done);
                }
                None => {
                    let closed =
                        store.create_bytes(&layout::round_closed(number), bytes::Bytes::new())?;
                    closed.or_conflict(|| format!("round {number} is closed already"))?;
                    return Ok(Turn::Done);
                }
            },
            Stage::Taken => return Err(Error::internal("a collector without a stage")),
        };
        Ok(Turn::Moved)
    }
}
