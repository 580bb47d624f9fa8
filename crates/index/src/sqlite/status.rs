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
    let last = words.into_iter().rev().find(|word| match word.attempt {
        Some(attempt) => attempt == newest,
        None => word.column.at >= launched,
    });
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
