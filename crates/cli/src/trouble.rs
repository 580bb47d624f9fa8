//! What is wrong with a run, in one line, with the command that helps.

use runtree_core::event::RunStatus;
use runtree_core::wire::RunSummary;

use crate::look::clean;

/// Says when a metric stopped being a number, and where to start again.
pub(crate) fn nonfinite(run: &RunSummary) -> Option<String> {
    let bad = run.first_nonfinite.as_ref()?;
    // The latest value tells NaN from an infinity; a metric that recovered is neither any more.
    let what = match run.metrics.get(&bad.metric).map(|latest| latest.value.0) {
        Some(value) if value.is_nan() => "is NaN from",
        Some(value) if value.is_infinite() => "is infinite from",
        _ => "was not finite at",
    };
    let advice = match bad.last_good {
        Some(step) => format!(
            "last good checkpoint {step}: runtree fork {}@{step}",
            run.display_id
        ),
        None => "there is no checkpoint before it".to_owned(),
    };
    Some(format!(
        "{} {what} step {}; {advice}",
        clean(&bad.metric),
        bad.step
    ))
}

/// Whether a metric is still no number: one that recovered stops nobody from going on.
fn is_broken(run: &RunSummary) -> bool {
    let latest = run
        .first_nonfinite
        .as_ref()
        .and_then(|bad| run.metrics.get(&bad.metric));
    latest.is_some_and(|latest| !latest.value.0.is_finite())
}

/// Says that a run ended badly, and how to go on.
pub(crate) fn died(run: &RunSummary) -> Option<String> {
    let reason = run.status_reason.as_deref().map(clean);
    let what = match (run.status, reason) {
        (RunStatus::Failed, Some(reason)) => format!("failed: {reason}"),
        (RunStatus::Failed, None) => "failed".to_owned(),
        (RunStatus::Stopped, Some(reason)) => format!("stopped: {reason}"),
        (RunStatus::Lost, Some(reason)) => format!("lost: {reason}"),
        (RunStatus::Lost, None) => {
            "lost: it ended without a word (killed, or its machine died)".to_owned()
        }
        _ => return None,
    };
    let last = match run.last_step {
        Some(step) => format!("{what}; last step {step}"),
        None => what,
    };
    // Who stopped a run knows how to go on; a diverged one is not to be continued from where it is.
    if run.status == RunStatus::Stopped || run.checkpoints == 0 || is_broken(run) {
        return Some(last);
    }
    let resume = match &run.key {
        Some(key) => format!("resume it with run_id={key:?}, resume=\"allow\", or "),
        None => String::new(),
    };
    Some(format!(
        "{last}; {resume}runtree fork {}@latest",
        run.display_id
    ))
}
