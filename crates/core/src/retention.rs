//! Retention: which checkpoints of a run stay. A pure function, (policy, checkpoints with what is known about each, now) → a decision with its reasons for every one.
//!
//! A [`Policy`] is a union of rules: whatever one of them keeps, stays. [`plan`] looks at nothing and deletes nothing; whoever applies what it says (the engine)
//! reads facts from the store first, and puts what goes into the trash, where it can be taken out again.
//!
//! **What counts.** The *history* of a run are its checkpoints that are whole, lie on its effective timeline and were not saved again at their step; rules that count or rank
//! ([`Policy::keep_last`], [`Policy::keep_interval`], [`Policy::keep_best`]) see these alone, so that a damaged checkpoint, one that an abandoned tail left behind
//! or a step that was saved twice uses up nobody's place. The newest of the history stays whatever the policy says.
//!
//! **What is never in it.** Checkpoints of other runs: a fork's policy does not reach what it inherited. Saves that are not committed. What cannot be read is kept: it counts for
//! nothing, but only a person decides that it is worthless.
//!
//! What a metric is worth at a checkpoint is for the caller to say (DESIGN §8): given directly, else the effective value at exactly its step, else none.

mod plan;
mod policy;

pub use plan::{
    Candidate, Decision, KeepReason, MissingMetric, Plan, Protection, Reason, Whole, plan,
};
pub use policy::{KeepBest, Policy, needs_direction};
