//! How a run is doing, as far as that does not depend on the time now.

use runtree_core::event::RunStatus;
use runtree_core::{AttemptNumber, Timestamp};

use super::fields::StatusColumn;

/// A status word about a launch (or from a tool, about the run), in the order in which later ones win.
pub(super) struct Word {
    pub(super) attempt: Option<AttemptNumber>,
    pub(super) column: StatusColumn,
}

/// A process of a run.
pub(super) struct Process {
    pub(super) attempt: AttemptNumber,
    pub(super) alive: Option<Timestamp>,
    pub(super) is_closed: bool,
}

/// A status before the clock is asked.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    /// `Running` stands for "running, or lost if `sign` is too long ago".
    pub(super) status: RunStatus,
    pub(super) reason: Option<String>,
    /// Newest sign of life of the newest launch.
    pub(super) sign: Timestamp,
}

/// The word that counts: the last one, unless a launch's own last word follows the failure of one of its ranks. That failure stands until the launch
/// begins again (a rank 0 that was restarted says "running"), whatever the other ranks say when they leave.
fn deciding(newest: AttemptNumber, launched: Timestamp, words: Vec<Word>) -> Option<Word> {
    let mut words: Vec<Word> = words
        .into_iter()
        .filter(|word| match word.attempt {
            Some(attempt) => attempt == newest,
            None => word.column.at >= launched,
        })
        .collect();
    if words.last()?.attempt.is_some() {
        let begins = words
            .iter()
            .rposition(|word| word.column.status == RunStatus::Running)
            .map_or(0, |at| at + 1);
        let failed = words[begins..]
            .iter()
            .position(|word| word.attempt.is_some() && word.column.status == RunStatus::Failed);
        if let Some(at) = failed {
            return Some(words.swap_remove(begins + at));
        }
    }
    words.pop()
}

/// Decides by the last word about the newest launch, else by the signs of life of its processes.
///
/// `waits` says that nothing started this launch yet: a fork, or a run that was rewound by hand, is created and not lost. A
/// resume that opened no journal is being launched, and lost if that takes too long.
///
/// A tool's word counts only if it was spoken after that launch began: who stops a run does not stop its relaunch.
pub(super) fn standing(
    newest: AttemptNumber,
    launched: Timestamp,
    waits: bool,
    words: Vec<Word>,
    processes: &[Process],
) -> Standing {
    let last = deciding(newest, launched, words);
    let sign = processes
        .iter()
        .filter(|process| process.attempt == newest && !process.is_closed)
        .filter_map(|process| process.alive)
        .fold(launched, Timestamp::max);
    if let Some(Word { column, .. }) = last
        && !matches!(column.status, RunStatus::Running | RunStatus::Created)
    {
        return Standing {
            status: column.status,
            reason: column.reason,
            sign,
        };
    }
    let mut newest_processes = processes
        .iter()
        .filter(|process| process.attempt == newest)
        .peekable();
    let has_process = newest_processes.peek().is_some();
    let status = if processes.is_empty() || (waits && !has_process) {
        RunStatus::Created
    } else if has_process && newest_processes.all(|process| process.is_closed) {
        RunStatus::Completed
    } else {
        RunStatus::Running
    };
    Standing {
        status,
        reason: None,
        sign,
    }
}
