//! Whole checkpoints of a command, into its run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Selector;
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_core::{Error, ErrorKind, Result, RunId, SaveKey, Step};
use serde_json::Value;

use super::watch::{Ready, Watch};
use crate::engine::Engine;
use crate::export::import::import_dir;
use crate::layouts::{read_small, same};
use crate::live::RunWriter;
use crate::python_json;
use crate::queries::CheckpointScope;
use crate::save::{EntrySource, SaveRequest};

/// How often a save is tried while the trainer deletes what is read.
const TRIES: usize = 4;
const LONGEST_TRAINER_STATE: u64 = 64 << 20;

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// It is in the run.
    Saved(Box<CheckpointInfo>),
    /// The command saves with runtree itself, and has saved this step.
    ByItself(Step),
}

/// Takes whole checkpoints into the run of a launch.
#[derive(Debug)]
pub struct Taker {
    engine: Arc<Engine>,
    writer: Arc<RunWriter>,
    own: BTreeSet<SaveKey>,
}

impl Taker {
    /// For a launch.
    pub fn new(writer: &Arc<RunWriter>) -> Self {
        let engine = Arc::clone(writer.engine());
        Self {
            engine,
            writer: Arc::clone(writer),
            own: BTreeSet::new(),
        }
    }

    /// Takes in what an earlier launch left, which no launch is there for: before the next one decides where it goes on.
    ///
    /// # Errors
    /// As [`Taker::take`].
    pub fn take_left(engine: &Arc<Engine>, run: RunId, ready: &Ready) -> Result<CheckpointInfo> {
        let directory = ready.directory();
        let metrics = metrics_of(directory, ready.step);
        import_dir(engine, run, directory, ready.step, ready.label(), metrics)
    }

    /// Saves one, and returns when it is durable.
    ///
    /// # Errors
    /// `Conflict` if somebody wrote into its files meanwhile: it was not whole; `Invalid` for what can not be saved; else as a save's result.
    pub fn take(&mut self, ready: &Ready) -> Result<Taken> {
        if self.was_saved(ready.step)? {
            return Ok(Taken::ByItself(ready.step));
        }
        let mut tries = TRIES;
        loop {
            match self.save(ready) {
                Ok(info) => return Ok(Taken::Saved(Box::new(info))),
                // The trainer deleted its own name of a file, which counts as a change of the file. Another one is a change of what it holds.
                Err(error)
                    if error.kind() == ErrorKind::Conflict && tries > 1 && ready.is_unchanged() =>
                {
                    tries -= 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn save(&mut self, ready: &Ready) -> Result<CheckpointInfo> {
        let directory = ready.directory().to_owned();
        let pending = self.writer.save(SaveRequest {
            step: Some(ready.step),
            name: ready.label(),
            metrics: metrics_of(&directory, ready.step),
            ..SaveRequest::of(vec![EntrySource::Directory(directory)])
        })?;
        self.own.insert(pending.key());
        pending.wait_staged(None);
        if !ready.is_unchanged() {
            pending.cancel();
            return Err(Error::conflict(format!(
                "files of {} changed while they were read",
                ready.name
            )));
        }
        pending.result(None)
    }

    /// Whether the command itself saved a step in this launch, or is about to.
    fn was_saved(&self, step: Step) -> Result<bool> {
        let (store, run) = (self.engine.store(), self.writer.run());
        let mut keys = store.list_commits(run)?;
        keys.extend(store.list_pending(run)?);
        let attempt = self.writer.attempt();
        Ok(keys
            .iter()
            .any(|key| key.attempt == attempt && key.step == step && !self.own.contains(key)))
    }
}

impl Ready {
    /// What the checkpoint is called: only a name that a REF can have; `0042` is a step there.
    fn label(&self) -> Option<String> {
        matches!(self.name.parse(), Ok(Selector::Name(_))).then(|| self.name.clone())
    }
}

impl Watch {
    /// Says that what was there at the start is of this run: of an earlier launch, which may have been killed before it took it in. What is whole of it, and not
    /// in the run with the same content, is ready.
    ///
    /// # Errors
    /// As reading both says.
    pub fn adopt(&mut self, engine: &Engine, run: RunId) -> Result<()> {
        let scope = CheckpointScope {
            inherited: false,
            ..CheckpointScope::default()
        };
        let mut saved: BTreeMap<Step, Vec<CheckpointName>> = BTreeMap::new();
        for info in engine.checkpoints(run, scope)? {
            if info.state == CheckpointState::Complete {
                saved
                    .entry(info.step)
                    .or_default()
                    .push(info.checkpoint_name()?);
            }
        }
        self.adopt_unless(|directory, step| {
            for name in saved.get(&step).into_iter().flatten() {
                if same::find_difference(engine, *name, directory)?.is_none() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// What a trainer of Hugging Face logged at a step: `best:eval_loss:min` finds its checkpoint by it.
fn metrics_of(directory: &Path, step: Step) -> BTreeMap<String, f64> {
    let read = read_small(&directory.join("trainer_state.json"), LONGEST_TRAINER_STATE);
    let text = read.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let state = text
        .and_then(|text| python_json::parse(&text))
        .unwrap_or_default();
    let rows = state.get("log_history").and_then(Value::as_array);
    let mut metrics = BTreeMap::new();
    for row in rows.into_iter().flatten().filter_map(Value::as_object) {
        if row.get("step").and_then(Value::as_i64) != Some(step.0) {
            continue;
        }
        let named = row
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "step" | "epoch"));
        metrics.extend(
            named.filter_map(|(name, value)| Some((name.clone(), python_json::number(value)?))),
        );
    }
    metrics
}

/// The numbers in a line that is a JSON object, as Python writes it; nested ones with `/` between their names.
pub fn metrics_in_line(line: &[u8]) -> BTreeMap<String, f64> {
    fn add(prefix: &str, value: &Value, found: &mut BTreeMap<String, f64>) {
        if let Value::Object(object) = value {
            for (name, value) in object {
                let name = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}/{name}")
                };
                add(&name, value, found);
            }
        } else if let Some(number) = python_json::number(value) {
            found.insert(prefix.to_owned(), number);
        }
    }
    let mut found = BTreeMap::new();
    let text = std::str::from_utf8(line).unwrap_or_default().trim();
    if text.starts_with('{')
        && let Some(value) = python_json::parse(text)
    {
        add("", &value, &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_an_object_gives_its_numbers() {
        let found = |line: &str| metrics_in_line(line.as_bytes());
        let nested = found("{\"eval\": {\"loss\": 0.5, \"name\": \"x\"}, \"n\": 3}\n");
        assert_eq!(
            nested,
            [("eval/loss".to_owned(), 0.5), ("n".to_owned(), 3.0)].into()
        );
        let broken = found("{\"acc\": 0.5, \"ppl\": NaN}");
        assert!(broken["ppl"].is_nan() && (broken["acc"] - 0.5).abs() < f64::EPSILON);
        for line in ["loss 0.5", "[1, 2]", "7", "{", ""] {
            assert!(found(line).is_empty(), "{line}");
        }
    }
}
