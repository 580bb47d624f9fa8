//! Runs that nobody touched since they were folded: a refresh passes over them after a few questions to the file system.
//!
//! A trace is taken before its run is read and kept after all of it is folded, in the index too, so that the first refresh of a
//! process need not list every folder of the store. One that still holds says that the index has all there is; one that is missing or
//! does not hold says nothing, and the run is looked at as if there were none. So traces may be lost, late or another process's.
//! They mean nothing to an index of another generation, and a run with damage has none.
//!
//! Those of runs whose journals may still grow are kept apart: of a large store a process reads only these, and of the others what it asks for.

use std::collections::{BTreeSet, HashMap, HashSet};

use runtree_core::{Result, RunId};
use runtree_index::{FoldItem, Index as _};
use runtree_store::RunTrace;

use crate::engine::Engine;

/// What the keys of traces in the index begin with, and of those that have a journal that may grow.
const CLOSED: &str = "seen/";
const OPEN: &str = "open/";

#[derive(Debug, Default)]
pub(super) struct Seen {
    traces: HashMap<RunId, RunTrace>,
    /// Runs whose journals may grow.
    open: BTreeSet<RunId>,
    loaded: Loaded,
    /// Runs that the index was asked for one by one.
    asked: HashSet<RunId>,
    /// Those that the index does not have.
    unsaved: HashSet<RunId>,
}

/// Which traces were read from the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Loaded {
    #[default]
    None,
    Open,
    All,
}

impl Seen {
    pub(super) fn get(&self, run: RunId) -> Option<&RunTrace> {
        self.traces.get(&run)
    }

    /// Whether a run has a journal that may grow.
    pub(super) fn is_open(&self, run: RunId) -> bool {
        self.open.contains(&run)
    }

    /// Keeps what `run`, all folded, is recognised by.
    pub(super) fn note(&mut self, run: RunId, trace: Option<RunTrace>, saved: Saved) {
        let Some(trace) = trace else {
            return;
        };
        match saved {
            Saved::Yes => self.unsaved.remove(&run),
            Saved::No => self.unsaved.insert(run),
        };
        self.insert(run, trace);
    }

    fn insert(&mut self, run: RunId, trace: RunTrace) {
        if trace.is_open() {
            self.open.insert(run);
        } else {
            self.open.remove(&run);
        }
        self.traces.insert(run, trace);
    }

    pub(super) fn forget(&mut self, run: RunId) {
        self.unsaved.remove(&run);
        self.open.remove(&run);
        self.traces.remove(&run);
    }
}

/// Whether the index has a trace already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saved {
    Yes,
    No,
}

/// A trace as the index keeps it, in one of two places; without one, nothing is kept.
pub(super) fn items(run: RunId, generation: &[u8], trace: Option<&RunTrace>) -> [FoldItem; 2] {
    let is_open = trace.is_some_and(RunTrace::is_open);
    [(CLOSED, !is_open), (OPEN, is_open)].map(|(prefix, is_here)| FoldItem::Stamp {
        key: format!("{prefix}{run}"),
        value: match trace.filter(|_| is_here) {
            Some(trace) => [generation, &trace.to_bytes()].concat(),
            None => Vec::new(),
        },
    })
}

fn parse(value: &[u8], generation: &[u8]) -> Option<RunTrace> {
    RunTrace::parse(value.strip_prefix(generation)?)
}

impl Engine {
    /// Reads every trace that the index keeps, once.
    pub(super) fn load_all_seen(&self, seen: &mut Seen, generation: &[u8]) -> Result<()> {
        self.load_open_seen(seen, generation)?;
        if seen.loaded < Loaded::All {
            self.load_below(CLOSED, seen, generation)?;
            seen.loaded = Loaded::All;
        }
        Ok(())
    }

    /// Reads the traces of runs whose journals may grow, once.
    pub(super) fn load_open_seen(&self, seen: &mut Seen, generation: &[u8]) -> Result<()> {
        if seen.loaded < Loaded::Open {
            self.load_below(OPEN, seen, generation)?;
            seen.loaded = Loaded::Open;
        }
        Ok(())
    }

    fn load_below(&self, prefix: &str, seen: &mut Seen, generation: &[u8]) -> Result<()> {
        for (key, value) in self.index.stamps(prefix)? {
            let run = key.strip_prefix(prefix).and_then(|run| run.parse().ok());
            if let (Some(run), Some(trace)) = (run, parse(&value, generation))
                // What this process has noted since is newer.
                && !seen.traces.contains_key(&run)
            {
                seen.insert(run, trace);
            }
        }
        Ok(())
    }

    /// Reads the trace of one run, once.
    pub(super) fn load_seen(&self, seen: &mut Seen, generation: &[u8], run: RunId) -> Result<()> {
        if seen.loaded == Loaded::All || seen.traces.contains_key(&run) || !seen.asked.insert(run) {
            return Ok(());
        }
        let value = self.index.stamp(&format!("{CLOSED}{run}"))?;
        if let Some(trace) = value.and_then(|value| parse(&value, generation)) {
            seen.insert(run, trace);
        }
        Ok(())
    }

    /// Notes in a new trace which journals grow no more, as far as the index has read them.
    pub(super) fn close_trace(&self, run: RunId, trace: &mut Option<RunTrace>) -> Result<()> {
        if let Some(trace) = trace
            && trace.is_open()
        {
            trace.close(&self.index.closed_writers(run)?);
        }
        Ok(())
    }

    /// Gives the index the traces it does not have; whether it took them.
    pub(super) fn save_seen(&self, seen: &mut Seen, generation: &[u8]) -> bool {
        let runs = seen.unsaved.iter();
        let items: Vec<FoldItem> = runs
            .flat_map(|run| items(*run, generation, seen.get(*run)))
            .collect();
        // What is not kept costs the next process time, and this one nothing: a query must not fail for it.
        let is_saved = self.index.apply(&items).is_ok();
        if is_saved {
            seen.unsaved.clear();
        }
        is_saved
    }
}
