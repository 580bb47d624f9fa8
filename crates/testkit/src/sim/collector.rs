//! A collector as the protocol describes it (G1–G4), reduced to what it must get right: the product's own comes with a later part and takes its place here.

use std::collections::HashSet;

use runtree_core::manifest::{Outcome, RoundRecord};
use runtree_core::{ChunkHash, Error, Result, Timestamp};
use runtree_store::chunk::encoded::MAX_DEPTH;
use runtree_store::{Created, ObjectEncoding, ObjectName, Store, layout};

use super::{Actor, Dice, Fault, Turn};

/// Rounds of one collector.
const ROUNDS: usize = 3;

/// Collects a few times, one action a turn.
#[derive(Debug)]
pub struct Collector {
    fault: Fault,
    left: usize,
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
            left: ROUNDS,
            stage: Stage::Start,
        }
    }

    fn end_round(&mut self) -> Turn {
        self.left -= 1;
        self.stage = Stage::Start;
        if self.left == 0 {
            Turn::Done
        } else {
            Turn::Moved
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
        if self.fault != Fault::BasesAreGarbage {
            add_bases(store, &mut reachable)?;
        }
        let mine: HashSet<&ObjectName> = wanted.iter().collect();
        let usable =
            |name: &ObjectName| !(rounds.condemns(name) || own.is_some() && mine.contains(name));
        let mut doomed = Vec::new();
        for name in wanted {
            let mut redundant = false;
            // Of a hash that is needed only raw objects ever go: differences rely on its encoded ones.
            if name.encoding == ObjectEncoding::Raw {
                for other in store.list_objects(name.hash)? {
                    redundant |= other != *name && decodes(store, &other, &usable, 0)?;
                }
            }
            if !reachable.contains(&name.hash) || redundant {
                doomed.push(*name);
            }
        }
        Ok(doomed)
    }
}

/// Adds every chunk that a difference of a reachable one needs.
fn add_bases(store: &Store, reachable: &mut HashSet<ChunkHash>) -> Result<()> {
    let mut open: Vec<ChunkHash> = reachable.iter().copied().collect();
    while let Some(hash) = open.pop() {
        for name in store.list_objects(hash)? {
            if let ObjectEncoding::Delta(base) = name.encoding
                && reachable.insert(base)
            {
                open.push(base);
            }
        }
    }
    Ok(())
}

/// Whether an object decodes through usable ones.
fn decodes(
    store: &Store,
    name: &ObjectName,
    usable: &impl Fn(&ObjectName) -> bool,
    depth: u8,
) -> Result<bool> {
    if !usable(name) || depth > MAX_DEPTH {
        return Ok(false);
    }
    let ObjectEncoding::Delta(base) = name.encoding else {
        return Ok(true);
    };
    for other in store.list_objects(base)? {
        if decodes(store, &other, usable, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Actor for Collector {
    fn step(&mut self, store: &Store, dice: &mut Dice) -> Result<Turn> {
        // Between two rounds there is time in which others see none.
        if matches!(self.stage, Stage::Start) && dice.below(6) != 0 {
            return Ok(Turn::Moved);
        }
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
                    return Ok(self.end_round());
                }
                None => {
                    let closed =
                        store.create_bytes(&layout::round_closed(number), bytes::Bytes::new())?;
                    closed.or_conflict(|| format!("round {number} is closed already"))?;
                    return Ok(self.end_round());
                }
            },
            Stage::Taken => return Err(Error::internal("a collector without a stage")),
        };
        Ok(Turn::Moved)
    }
}
