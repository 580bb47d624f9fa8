//! The decision.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use crate::clock::Timestamp;
use crate::id::{AttemptNumber, RunId, Step};
use crate::manifest::CheckpointName;
use crate::reference::Direction;

use super::policy::{Age, KeepBest, Policy};

/// Why a checkpoint keeps its bytes, whatever a policy says, and even in the trash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Somebody pinned it.
    Pinned {
        /// Why, in words.
        reason: String,
    },
    /// Somebody uses it at the moment: a lease that has not lapsed.
    Leased {
        /// For what, in words.
        reason: String,
    },
    /// A run was forked at it.
    ForkedBy(RunId),
    /// A run started from it without forking.
    BaseOf(RunId),
}

/// Whether a checkpoint can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// As far as is known.
    Yes,
    /// It is damaged; how, in words.
    Damaged(String),
}

/// A committed checkpoint that the run itself saved and that is not in the trash, and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: CheckpointName,
    /// When it was committed, by the store's clock.
    pub created: Timestamp,
    /// Whether it lies on the run's effective timeline: what an abandoned tail left behind does not.
    pub effective: bool,
    /// Whether it can be read.
    pub whole: Whole,
    /// Its tags.
    pub tags: Vec<String>,
    /// What holds it.
    pub protections: Vec<Protection>,
    /// Its values of the metrics of [`Policy::keep_best`], in that order.
    pub values: Vec<Option<f64>>,
}

/// Why a checkpoint stays.
#[derive(Clone, Debug, PartialEq)]
pub enum KeepReason {
    /// It is the newest of the history.
    Newest,
    /// It is among the newest so many.
    Last(u32),
    /// Its step is a multiple.
    Interval(u64),
    /// It is among the best.
    Best {
        /// By which metric.
        metric: String,
        /// Which end of it.
        mode: Direction,
        /// 1 for the best.
        rank: u32,
        /// Its value.
        value: f64,
    },
    /// It has no finite value of a metric that ranks.
    WithoutMetric(String),
    /// It is young.
    NewerThan(u64),
    /// It is tagged.
    Tagged(Vec<String>),
    /// Something holds it.
    Protected(Protection),
    /// It is damaged: a person decides.
    Damaged(String),
    /// A rule ranks by this metric, and nothing has a value of it.
    Unranked(String),
}

/// Why a checkpoint stays, or goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// What keeps it.
    Keep(KeepReason),
    /// No rule keeps it.
    NoRule,
    /// It was saved again at its step, and no rule keeps it.
    SavedAgain,
    /// It lies on a tail that a launch abandoned, and no rule keeps it.
    Abandoned(AttemptNumber),
}

/// What becomes of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Which.
    pub name: CheckpointName,
    /// Whether it stays.
    pub keep: bool,
    /// Why: everything that keeps it, or the one thing to say about one that goes.
    pub reasons: Vec<Reason>,
}

/// A decision for every checkpoint, ascending by (step, attempt, k).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Them.
    pub decisions: Vec<Decision>,
}

impl Plan {
    /// Keeps everything, because nothing is ranked by a metric that `rule` ranks by.
    pub fn keep_all(candidates: &[Candidate], rule: &KeepBest) -> Self {
        let mut ordered: Vec<&Candidate> = candidates.iter().collect();
        ordered.sort_by_key(|candidate| order(candidate));
        let newest = history(&ordered).last().copied();
        let decision = |(at, candidate): (usize, &&Candidate)| {
            let why = KeepReason::Unranked(rule.metric.clone());
            let mut reasons = vec![Reason::Keep(why)];
            if Some(at) == newest {
                reasons.insert(0, Reason::Keep(KeepReason::Newest));
            }
            Decision {
                name: candidate.name,
                keep: true,
                reasons,
            }
        };
        Self {
            decisions: ordered.iter().enumerate().map(decision).collect(),
        }
    }

    /// Those that go.
    pub fn deleted(&self) -> impl Iterator<Item = CheckpointName> {
        self.decisions
            .iter()
            .filter(|decision| !decision.keep)
            .map(|decision| decision.name)
    }

    /// The newest of the history, which everything else relies on.
    pub fn newest(&self) -> Option<CheckpointName> {
        self.decisions
            .iter()
            .rfind(|decision| decision.reasons.contains(&Reason::Keep(KeepReason::Newest)))
            .map(|decision| decision.name)
    }
}

/// A rule ranks by a metric that no checkpoint of the history has a finite value of: nothing can be said about the best, so nothing may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMetric(pub KeepBest);

/// Decides about every candidate. `now` is the store's clock.
///
/// The same whatever order the candidates come in. Asked again about what it kept, it keeps that, unless a copy of a step that something held has outlived the copy
/// that was saved after it: then that one counts.
///
/// # Errors
/// [`MissingMetric`].
///
/// # Panics
/// If a candidate has not as many values as the policy has rules of [`Policy::keep_best`].
pub fn plan(
    policy: &Policy,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<Plan, MissingMetric> {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by_key(|candidate| order(candidate));
    let history = history(&ordered);
    let mut reasons: Vec<Vec<KeepReason>> = vec![Vec::new(); ordered.len()];
    if let Some(&newest) = history.last() {
        reasons[newest].push(KeepReason::Newest);
    }
    if let Some(count) = policy.keep_last {
        for &at in history.iter().rev().take(count as usize) {
            reasons[at].push(KeepReason::Last(count));
        }
    }
    if let Some(interval) = policy.keep_interval {
        for &at in &history {
            if is_multiple(ordered[at].name.key.step, interval) {
                reasons[at].push(KeepReason::Interval(interval));
            }
        }
    }
    for (index, rule) in policy.keep_best.iter().enumerate() {
        let values: Vec<(usize, Option<f64>)> = history
            .iter()
            .map(|&at| {
                (
                    at,
                    ordered[at].values[index].filter(|value| value.is_finite()),
                )
            })
            .collect();
        rank(rule, policy.keep_without_metric, &values, &mut reasons)?;
    }
    for (candidate, reasons) in ordered.iter().zip(&mut reasons) {
        keep_singly(policy, candidate, now, reasons);
    }
    let history: BTreeSet<usize> = history.into_iter().collect();
    let decisions = ordered.iter().zip(reasons).enumerate();
    Ok(Plan {
        decisions: decisions
            .map(|(at, (candidate, kept))| Decision {
                name: candidate.name,
                keep: !kept.is_empty(),
                reasons: if kept.is_empty() {
                    vec![why_not(candidate, history.contains(&at))]
                } else {
                    kept.into_iter().map(Reason::Keep).collect()
                },
            })
            .collect(),
    })
}

fn order(candidate: &Candidate) -> (Step, AttemptNumber, u32, RunId) {
    let key = candidate.name.key;
    (key.step, key.attempt, key.k, candidate.name.run)
}

/// Places of the checkpoints that count, ascending: whole, on the timeline, the last word at their step.
fn history(ordered: &[&Candidate]) -> Vec<usize> {
    let mut history: Vec<usize> = Vec::new();
    for (at, candidate) in ordered.iter().enumerate() {
        if !candidate.effective || candidate.whole != Whole::Yes {
            continue;
        }
        if let Some(&last) = history.last()
            && ordered[last].name.key.step == candidate.name.key.step
        {
            history.pop();
        }
        history.push(at);
    }
    history
}

fn is_multiple(step: Step, interval: u64) -> bool {
    step.0.unsigned_abs().is_multiple_of(interval)
}

fn rank(
    rule: &KeepBest,
    keep_without: bool,
    values: &[(usize, Option<f64>)],
    reasons: &mut [Vec<KeepReason>],
) -> Result<(), MissingMetric> {
    let mut ranked: Vec<(usize, f64)> = values
        .iter()
        .filter_map(|&(at, value)| Some((at, value?)))
        .collect();
    if ranked.is_empty() && !values.is_empty() {
        return Err(MissingMetric(rule.clone()));
    }
    ranked.sort_by(|a, b| {
        // All are finite, so all compare; -0 and 0 are a tie.
        let rising = a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal);
        let by_value = match rule.mode {
            Direction::Min => rising,
            Direction::Max => rising.reverse(),
        };
        by_value.then(b.0.cmp(&a.0))
    });
    for (rank, &(at, value)) in (1..).zip(ranked.iter().take(rule.count as usize)) {
        reasons[at].push(KeepReason::Best {
            metric: rule.metric.clone(),
            mode: rule.mode,
            rank,
            value,
        });
    }
    if keep_without {
        for &(at, _) in values.iter().filter(|(_, value)| value.is_none()) {
            reasons[at].push(KeepReason::WithoutMetric(rule.metric.clone()));
        }
    }
    Ok(())
}

/// Rules that look at one checkpoint alone.
fn keep_singly(
    policy: &Policy,
    candidate: &Candidate,
    now: Timestamp,
    reasons: &mut Vec<KeepReason>,
) {
    if let Whole::Damaged(how) = &candidate.whole {
        reasons.push(KeepReason::Damaged(how.clone()));
    }
    if let Some(age) = policy.keep_newer_than_micros
        && i128::from(now.0) - i128::from(candidate.created.0) < i128::from(age)
    {
        reasons.push(KeepReason::NewerThan(age));
    }
    if !candidate.tags.is_empty() {
        reasons.push(KeepReason::Tagged(candidate.tags.clone()));
    }
    reasons.extend(
        candidate
            .protections
            .iter()
            .cloned()
            .map(KeepReason::Protected),
    );
}

fn why_not(candidate: &Candidate, counts: bool) -> Reason {
    if !candidate.effective {
        Reason::Abandoned(candidate.name.key.attempt)
    } else if counts {
        Reason::NoRule
    } else {
        Reason::SavedAgain
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { reason } if reason.is_empty() => f.write_str("pinned"),
            Self::Pinned { reason } => write!(f, "pinned: {reason}"),
            Self::Leased { reason } => write!(f, "in use: {reason}"),
            Self::ForkedBy(run) => write!(f, "run {run} was forked here"),
            Self::BaseOf(run) => write!(f, "run {run} started from it"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(reason) => reason.fmt(f),
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::SavedAgain => f.write_str("this step was saved again"),
            Self::Abandoned(attempt) => write!(f, "left behind by attempt {attempt}"),
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Last(count) => write!(f, "one of the last {count}"),
            Self::Interval(interval) => write!(f, "a multiple of {interval}"),
            Self::Best {
                metric,
                mode,
                rank: 1,
                value,
            } => {
                write!(f, "{} {metric} {value}", end(*mode))
            }
            Self::Best {
                metric,
                mode,
                rank,
                value,
            } => {
                write!(f, "number {rank} by {} {metric} {value}", end(*mode))
            }
            Self::WithoutMetric(metric) => write!(f, "has no value of {metric}"),
            Self::NewerThan(micros) => write!(f, "younger than {}", Age(*micros)),
            Self::Tagged(tags) => write!(f, "tagged {}", tags.join(", ")),
            Self::Protected(protection) => protection.fmt(f),
            Self::Damaged(how) => write!(f, "damaged: {how}"),
            Self::Unranked(metric) => write!(f, "{metric} is not known yet"),
        }
    }
}

fn end(mode: Direction) -> &'static str {
    match mode {
        Direction::Min => "least",
        Direction::Max => "largest",
    }
}
