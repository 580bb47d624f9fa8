//! A naive index: keeps every fact in lists and computes each answer from scratch.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::event::Event;
use runtree_core::lineage::{AttemptFacts, AttemptId, Timeline};
use runtree_core::manifest::{Outcome, RunRecord};
use runtree_core::{RunId, SaveKey, Step};
use runtree_index::{FoldItem, FrameContent};
use serde_json::Value;

/// One step's place in a total order of writers' words.
type Order = (u64, u64, u64);

/// Points as they were logged: metric, step, value.
type Log = Vec<(String, i64, f64)>;

/// A step and the bits of the value there.
pub(crate) type Place = (i64, u64);

/// The smallest and the largest finite value, each where it was first.
pub(crate) type Extremes = (Option<Place>, Option<Place>);

/// What the model says of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) config: Value,
    pub(crate) deleted: bool,
    pub(crate) last_step: Option<Step>,
    /// Metric to its last value, its smallest and its largest.
    pub(crate) metrics: BTreeMap<String, (Place, Extremes)>,
    pub(crate) checkpoints: u64,
    pub(crate) first_nonfinite: Option<(i64, String)>,
    pub(crate) last_good: Option<i64>,
    pub(crate) root: RunId,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) runs: BTreeMap<RunId, RunRecord>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptFacts>,
    /// (launch, time of opening, writer) to points in order of logging.
    points: BTreeMap<(AttemptId, i64, u64), Log>,
    words: Vec<(RunId, Order, Event)>,
    committed: BTreeSet<(RunId, SaveKey)>,
    tombstones: BTreeMap<(RunId, SaveKey), u32>,
}

impl Model {
    pub(crate) fn of(items: &[FoldItem]) -> Self {
        let mut model = Self::default();
        let mut lowered: BTreeMap<AttemptId, Step> = BTreeMap::new();
        for item in items {
            match item {
                FoldItem::RunBorn(record) => {
                    model.runs.insert(record.run, (**record).clone());
                }
                FoldItem::Attempt(record) => {
                    let id = AttemptId {
                        run: record.run,
                        attempt: record.attempt,
                    };
                    let facts = AttemptFacts {
                        base: record.base,
                        lowered_start: None,
                    };
                    model.attempts.insert(id, facts);
                }
                FoldItem::Commit(record) if record.outcome == Outcome::Committed => {
                    model.committed.insert((record.run, record.key));
                }
                FoldItem::Tombstone {
                    checkpoint, number, ..
                } => {
                    let highest = model
                        .tombstones
                        .entry((checkpoint.run, checkpoint.key))
                        .or_default();
                    *highest = (*highest).max(*number);
                }
                FoldItem::Frames(range) => {
                    let mut place = None;
                    for frame in &range.frames {
                        match &frame.content {
                            FrameContent::Event(Event::Opened {
                                attempt: Some(attempt),
                                at,
                                ..
                            }) => {
                                let id = AttemptId {
                                    run: range.run,
                                    attempt: *attempt,
                                };
                                place = Some((id, at.0, range.writer.to_bits()));
                            }
                            FrameContent::Event(Event::StartLowered { first }) => {
                                let lowest = lowered.entry(place.unwrap().0).or_insert(*first);
                                *lowest = (*lowest).min(*first);
                            }
                            FrameContent::Event(event) => {
                                let lamport = lamport(event);
                                let order = (lamport, range.writer.to_bits(), frame.ordinal);
                                model.words.push((range.run, order, event.clone()));
                            }
                            FrameContent::Sealed(_) => {
                                unreachable!("the items of these tests come from journals")
                            }
                            FrameContent::Points(batch) => {
                                let log = model.points.entry(place.unwrap()).or_default();
                                for (name, points) in batch.iter() {
                                    let name = match name.rank {
                                        None => name.name.clone(),
                                        Some(rank) => format!("{}[rank {rank}]", name.name),
                                    };
                                    for point in points {
                                        log.push((name.clone(), point.step.0, point.value));
                                    }
                                }
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for (id, first) in lowered {
            if let Some(facts) = model.attempts.get_mut(&id) {
                facts.lowered_start = Some(first);
            }
        }
        model.words.sort_by_key(|word| word.1);
        model
    }

    /// What one launch itself logged, by metric.
    pub(crate) fn own(&self, id: AttemptId) -> BTreeMap<String, BTreeMap<i64, f64>> {
        let mut own: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
        // Writers in the order of their opening: the later one's points replace.
        for ((_, _, _), log) in self.points.iter().filter(|((other, _, _), _)| *other == id) {
            for (metric, step, value) in log {
                own.entry(metric.clone()).or_default().insert(*step, *value);
            }
        }
        own
    }

    pub(crate) fn answer(&self, run: RunId) -> Answer {
        let record = &self.runs[&run];
        let newest = self.attempts.keys().rfind(|id| id.run == run).copied();
        let timeline = newest.map(|leaf| Timeline::of(&self.attempts, leaf).unwrap());
        let segments = timeline.as_ref().map_or(&[][..], Timeline::segments);
        let mut effective: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
        for segment in segments {
            for (metric, points) in self.own(segment.id) {
                let inside = points.range(segment.first.0..=segment.last.0);
                effective
                    .entry(metric)
                    .or_default()
                    .extend(inside.map(|(&step, &value)| (step, value)));
            }
        }
        effective.retain(|_, points| !points.is_empty());
        let first_nonfinite = effective
            .iter()
            .filter_map(|(metric, points)| {
                let (&step, _) = points.iter().find(|(_, value)| !value.is_finite())?;
                Some((step, metric.clone()))
            })
            .min();
        let complete: Vec<i64> = self
            .committed
            .iter()
            .filter(|name| {
                self.tombstones
                    .get(name)
                    .is_none_or(|number| number % 2 == 1)
            })
            .filter(|(run, key)| {
                let id = AttemptId {
                    run: *run,
                    attempt: key.attempt,
                };
                timeline
                    .as_ref()
                    .is_some_and(|timeline| timeline.holds(id, key.step))
            })
            .map(|(_, key)| key.step.0)
            .collect();
        let mut answer = Answer {
            name: record.name.clone(),
            tags: record.tags.iter().cloned().collect(),
            config: record.config.clone(),
            deleted: false,
            last_step: effective
                .values()
                .filter_map(|points| points.keys().last())
                .max()
                .map(|&step| Step(step)),
            metrics: effective
                .iter()
                .map(|(metric, points)| {
                    let (&step, &value) = points.iter().next_back().unwrap();
                    let finite = || points.iter().filter(|(_, value)| value.is_finite());
                    let first_with = |wanted: Option<f64>| {
                        let (&step, &value) =
                            finite().find(|(_, value)| Some(**value) == wanted)?;
                        Some((step, bits(value)))
                    };
                    let extremes = (
                        first_with(finite().map(|(_, &value)| value).reduce(f64::min)),
                        first_with(finite().map(|(_, &value)| value).reduce(f64::max)),
                    );
                    (metric.clone(), ((step, bits(value)), extremes))
                })
                .collect(),
            checkpoints: complete.len() as u64,
            last_good: first_nonfinite.as_ref().and_then(|&(step, _)| {
                complete.iter().copied().filter(|&saved| saved < step).max()
            }),
            first_nonfinite,
            root: self.root(run),
        };
        for (_, _, event) in self.words.iter().filter(|(other, _, _)| *other == run) {
            match event {
                Event::Name { name, .. } => answer.name.clone_from(name),
                Event::Tags { add, remove, .. } => {
                    for tag in remove {
                        answer.tags.remove(tag);
                    }
                    answer.tags.extend(add.iter().cloned());
                }
                Event::Config { patch, .. } => merge(&mut answer.config, patch),
                Event::Deleted { deleted, .. } => answer.deleted = *deleted,
                _ => {}
            }
        }
        answer
    }

    fn root(&self, run: RunId) -> RunId {
        let mut run = run;
        while let Some(fork) = self.runs.get(&run).and_then(|record| record.fork.as_ref()) {
            run = fork.owner.run;
        }
        run
    }
}

/// NaN is NaN, whatever its bits.
pub(crate) fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

fn lamport(event: &Event) -> u64 {
    match event {
        Event::Name { lamport, .. }
        | Event::Tags { lamport, .. }
        | Event::Config { lamport, .. }
        | Event::Deleted { lamport, .. } => lamport.0,
        _ => 0,
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => target.clone_from(patch),
    }
}
