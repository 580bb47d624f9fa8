//! The attempt tree, and what follows from it: owners, timelines, effective histories. Pure functions over immutable facts.
//!
//! An attempt is one launch of a run; its base (run, attempt, step) never changes. Fork, resume and rewind are one thing: a new
//! attempt based on an earlier one. So a run's effective history is the walk from its newest attempt to the root of the tree,
//! each attempt contributing the steps between its own start and the lowest base step met on the way down:
//!
//! ```text
//! attempt 1   0────────50──────90            timeline of 3:  1 (..=50), 2 (51..=70), 3 (71..)
//! attempt 2            └─51────70────80      ghost tails:    1 (51..=90), 2 (71..=80)
//! attempt 3                    └─71──────▶
//! ```
//!
//! No timeline is stored. Nothing here recurses, so a chain of 10,000 forks is walked in one loop.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::id::{AttemptNumber, RunId, Step};
use crate::manifest::BasePoint;

/// Names an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The launch.
    pub attempt: AttemptNumber,
}

/// What lineage knows of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptFacts {
    /// What it is built upon.
    pub base: Option<BasePoint>,
    /// First step of its own history, if its journal lowered it below `base.step + 1`.
    pub lowered_start: Option<Step>,
}

/// Where attempts are looked up: the index, a store, or a map in tests.
pub trait AttemptSource {
    /// The facts of an attempt, or `None` if it is not known here.
    ///
    /// # Errors
    /// Whatever reading them meets.
    fn attempt(&self, id: AttemptId) -> Result<Option<AttemptFacts>>;
}

impl AttemptSource for BTreeMap<AttemptId, AttemptFacts> {
    fn attempt(&self, id: AttemptId) -> Result<Option<AttemptFacts>> {
        Ok(self.get(&id).copied())
    }
}

/// A stretch of effective history: what `attempt` logged at steps `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose points.
    pub id: AttemptId,
    /// First step, inclusive. Equal to the step where the segment before ends if this attempt's own point at its base step wins there.
    pub first: Step,
    /// Last step, inclusive.
    pub last: Step,
}

/// An effective history: segments from the root to the leaf, disjoint but for base steps (see [`Timeline::segments`]).
///
/// The default is that of a run that was never launched: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    segments: Vec<Segment>,
}

impl Timeline {
    /// Walks from `leaf` to the root.
    ///
    /// # Errors
    /// `NotFound` if an attempt on the way is not in `source`; `Corrupt` if bases form a circle.
    pub fn of(source: &impl AttemptSource, leaf: AttemptId) -> Result<Self> {
        Self::up_to(source, leaf, Step::MAX)
    }

    /// The history of `leaf` up to and including `last`.
    ///
    /// # Errors
    /// As [`Timeline::of`].
    pub fn up_to(source: &impl AttemptSource, leaf: AttemptId, last: Step) -> Result<Self> {
        let mut segments = Vec::new();
        let (mut id, mut last) = (leaf, last);
        let mut seen = std::collections::HashSet::new();
        loop {
            if !seen.insert(id) {
                return Err(Error::corrupt(format!(
                    "attempts of run {} are based on each other in a circle",
                    id.run
                )));
            }
            let facts = source.attempt(id)?.ok_or_else(|| {
                Error::not_found(format!(
                    "attempt {} of run {} is not in this store",
                    id.attempt, id.run
                ))
            })?;
            let first = facts.first_own_step();
            if first <= last {
                segments.push(Segment { id, first, last });
            }
            let Some(base) = facts.base else { break };
            if facts.lowered_start == Some(Step::MIN) {
                // Everything is this attempt's own: there is no step below it to inherit.
                break;
            }
            // Where this attempt's own history starts is where the base's stops to count: one step below a lowered start, else the base step
            // itself, at which the base still counts for metrics that this attempt did not log there.
            last = last.min(last_inherited_step(base.step, facts.lowered_start));
            id = AttemptId {
                run: base.run,
                attempt: base.attempt,
            };
        }
        segments.reverse();
        Ok(Self { segments })
    }

    /// The segments, from the root to the leaf. Neighbours meet at a base step F: the earlier one ends at F, the later one starts
    /// at F, and *per metric* the later one's point at F wins.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whose history holds `step`: the segment in which it lies. At a base step, where neighbours meet, that is the base's attempt and not
    /// the attempt built on it: the fork step belongs to the parent.
    pub fn owner_at(&self, step: Step) -> Option<AttemptId> {
        self.segments_at(step).next().map(|segment| segment.id)
    }

    /// The segments in which `step` lies, from the root on: one, but for base steps. They ascend, so that none is searched for from an end:
    /// who asks for every checkpoint of a chain of 10,000 forks asks 10,000 times.
    fn segments_at(&self, step: Step) -> impl Iterator<Item = &Segment> {
        let start = self.segments.partition_point(|segment| segment.last < step);
        self.segments[start..]
            .iter()
            .take_while(move |segment| segment.first <= step)
    }

    /// The leaf's stretch, if it has any.
    pub fn leaf(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// Whether what `attempt` did at `step` is on this timeline. A checkpoint saved at its attempt's base step is on it: the attempt's own point wins there.
    pub fn holds(&self, id: AttemptId, step: Step) -> bool {
        self.segments_at(step).any(|segment| segment.id == id)
    }
}

impl AttemptFacts {
    /// First step at which this attempt's own points count: its base step (its own point wins there), a lowered start, or everything.
    pub fn first_own_step(&self) -> Step {
        first_own_step(self.base.map(|base| base.step), self.lowered_start)
    }
}

/// First step at which an attempt's own points count: its base step (its own point wins there), a lowered start, or everything.
pub fn first_own_step(base: Option<Step>, lowered_start: Option<Step>) -> Step {
    match (base, lowered_start) {
        (None, _) => Step::MIN,
        (Some(base), None) => base,
        (Some(base), Some(lowered)) => lowered.min(base),
    }
}

/// Last step that an attempt inherits from its base: the base step, at which the base counts where the attempt has no own point, or the
/// step before a lowered start. A start lowered to the base step itself takes that step from the base.
pub fn last_inherited_step(base: Step, lowered_start: Option<Step>) -> Step {
    match lowered_start {
        Some(lowered) if lowered <= base => lowered.previous(),
        _ => base,
    }
}

/// Resolves who owns `step` for a fork of `leaf`: walks up while the step lies at or below the fork step of a *run*.
///
/// Returns the attempt whose own history holds the step. Steps above everything logged belong to the leaf (the caller checks the range).
///
/// # Errors
/// As [`Timeline::of`].
pub fn resolve_owner(
    source: &impl AttemptSource,
    leaf: AttemptId,
    step: Step,
) -> Result<AttemptId> {
    let timeline = Timeline::of(source, leaf)?;
    Ok(timeline.owner_at(step).unwrap_or(leaf))
}
