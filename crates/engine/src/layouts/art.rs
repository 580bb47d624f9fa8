//! What ART keeps beside a model's checkpoints: its history and what it was trained from.

use runtree_core::{ErrorKind, Result};
use serde_json::Value;

use super::history::{self, History};
use super::place::{Beside, Files};

/// How many bytes the files may have: what a bucket holds is not believed either.
const LONGEST_HISTORY: u64 = 1 << 30;
const LONGEST_MODEL: u64 = 1 << 20;

/// What is known of a model besides its checkpoints.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// What it was trained from.
    pub(super) trained_from: Option<String>,
    /// Its metrics.
    pub(super) history: History,
    /// What was left out, and why.
    pub(super) left_out: Option<String>,
}

/// Reads what lies beside the checkpoints.
pub(super) fn read(files: &Files<'_>, beside: Beside) -> Result<Model> {
    let model = match files.read("model.json", LONGEST_MODEL, beside) {
        // Nothing depends on it.
        Err(error) if error.kind() == ErrorKind::Invalid => None,
        read => read?,
    };
    let said: Option<Value> = model.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let trained_from = said
        .as_ref()
        .and_then(|model| model.get("base_model")?.as_str())
        .filter(|base| !base.is_empty())
        .map(str::to_owned);
    let (history, left_out) = match files.read("history.jsonl", LONGEST_HISTORY, beside) {
        Err(error) if error.kind() == ErrorKind::Invalid => {
            (History::default(), Some(error.message().to_owned()))
        }
        read => (history::parse(&read?.unwrap_or_default()), None),
    };
    Ok(Model {
        trained_from,
        history,
        left_out,
    })
}
