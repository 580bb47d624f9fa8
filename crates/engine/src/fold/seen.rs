//! Runs that nobody touched since they were folded: a refresh passes over them after a few questions to the file system.
//!
//! A trace is taken before its run is read and kept after all of it is folded, in the index too, so that the first refresh of a
//! process need not list every folder of the store. One that still holds says that the index has all there is; one that is missing or
//! does not hold says nothing, and the run is looked at as if there were none. So traces may be lost, late or another process's.
//! They mean nothing to an index of another generation, and a run with damage has none.

use std::collections::{HashMap, HashSet};

use runtree_core::{Result, RunId};
use runtree_index::{FoldItem, Index as _};
use runtree_store::RunTrace;

use crate::engine::Engine;

/// What the keys of traces in the index begin with.
const PREFIX: &str = "seen/";

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None` until those in the index were read.
    traces: Option<HashMap<RunId, RunTrace>>,
    /// Those that the index does not have.
    unsaved: HashSet<RunId>,
}

impl Seen {
    pub(super) fn get(&self, run: RunId) -> Option<&RunTrace> {
        self.traces.as_ref()?.get(&run)
    }

    /// Keeps what `run`, all folded, is recognised by.
    pub(super) fn note(&mut self, run: RunId, trace: Option<RunTrace>, saved: Saved) {
        let (Some(trace), Some(traces)) = (trace, &mut self.traces) else {
            return;
        };
        match saved {
            Saved::Yes => self.unsaved.remove(&run),
            Saved::No => self.unsaved.insert(run),
        };
        traces.insert(run, trace);
    }

    pub(super) fn forget(&mut self, run: RunId) {
        self.unsaved.remove(&run);
        if let Some(traces) = &mut self.traces {
            traces.remove(&run);
        }
    }
}

/// Whether the index has a trace already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saved {
    Yes,
    No,
}

/// A trace as the index keeps it; without one, nothing is kept.
pub(super) fn item(run: RunId, generation: &[u8], trace: Option<&RunTrace>) -> FoldItem {
    let value = trace.map_or_else(Vec::new, |trace| {
        [generation, trace.to_text().as_bytes()].concat()
    });
    FoldItem::Stamp {
        key: format!("{PREFIX}{run}"),
        value,
    }
}

impl Engine {
    /// Reads the traces that the index keeps, once.
    pub(super) fn load_seen(&self, seen: &mut Seen, generation: &[u8]) -> Result<()> {
        if seen.traces.is_some() {
            return Ok(());
        }
        let parse = |(key, value): (String, Vec<u8>)| {
            let run = key.strip_prefix(PREFIX)?.parse().ok()?;
            let text = std::str::from_utf8(value.strip_prefix(generation)?).ok()?;
            Some((run, RunTrace::parse(text)?))
        };
        let kept = self.index.stamps(PREFIX)?;
        seen.traces = Some(kept.into_iter().filter_map(parse).collect());
        Ok(())
    }

    /// Gives the index the traces it does not have.
    pub(super) fn save_seen(&self, seen: &mut Seen, generation: &[u8]) {
        let items: Vec<FoldItem> = seen
            .unsaved
            .iter()
            .map(|run| item(*run, generation, seen.get(*run)))
            .collect();
        // What is not kept costs the next process time, and this one nothing: a query must not fail for it.
        if self.index.apply(&items).is_ok() {
            seen.unsaved.clear();
        }
    }
}
