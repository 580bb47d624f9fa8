//! What retention has to know about the checkpoints of a run.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::lineage::Timeline;
use runtree_core::manifest::CheckpointName;
use runtree_core::retention::{Candidate, Policy, Whole};
use runtree_core::{DisplayId, Result, RunId, Step, Timestamp};
use runtree_index::{CheckpointRow, Snapshot};
use runtree_store::layout;

use crate::engine::Engine;
use crate::queries::is_on;
use crate::series::{MetricName, rows_of, timeline_of};

/// Them.
pub(super) struct Facts {
    pub(super) run: RunId,
    pub(super) display_id: DisplayId,
    pub(super) candidates: Vec<Candidate>,
    /// The store's clock.
    pub(super) now: Timestamp,
    bytes: BTreeMap<CheckpointName, u64>,
}

impl Facts {
    /// Reads them. `damaged` are checkpoints that were found so a moment ago.
    pub(super) fn read(
        engine: &Engine,
        run: RunId,
        policy: &Policy,
        damaged: &BTreeMap<CheckpointName, String>,
    ) -> Result<Self> {
        engine.refresh_for(run)?;
        engine.check_lineage(run)?;
        let record = engine.store.read_run(run)?;
        let names = engine.existing_checkpoints(&[run])?;
        let mut protections = engine.protected_checkpoints(run)?;
        let snapshot = engine.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        if !policy.keep_best.is_empty() {
            // What is effective at a checkpoint's step may be an ancestor's.
            engine.check_damage(timeline.segments().iter().map(|segment| segment.id.run))?;
        }
        let quarantine = engine.quarantine(&*snapshot, run, &timeline)?;
        let rows: BTreeMap<CheckpointName, CheckpointRow> = snapshot
            .checkpoints(run)?
            .into_iter()
            .map(|row| (row.name, row))
            .collect();
        let values = values(engine, run, policy, &names, &rows)?;
        // Ages cost a question for each; only one rule asks for them.
        let by_age = policy.keep_newer_than_micros.is_some();
        let mut facts = Self {
            run,
            display_id: record.display_id,
            candidates: Vec::with_capacity(names.len()),
            now: if by_age {
                engine.store_time()?
            } else {
                Timestamp(0)
            },
            bytes: BTreeMap::new(),
        };
        for (name, values) in names.into_iter().zip(values) {
            let row = rows.get(&name);
            let wrong = match (damaged.get(&name), quarantine.of(name), row) {
                (Some(text), ..) => Some(text.clone()),
                (None, Some(text), _) => Some(text.to_owned()),
                (None, None, None) => Some("the index does not know it yet".to_owned()),
                (None, None, Some(_)) => None,
            };
            facts.bytes.insert(name, row.map_or(0, |row| row.bytes));
            let created = if by_age {
                engine.store.stamp(&layout::commit(run, name.key))?
            } else {
                None
            };
            facts.candidates.push(Candidate {
                name,
                // A commit without a stamp went away this moment: as young as can be.
                created: created.unwrap_or(facts.now),
                effective: is_on(&timeline, name),
                whole: wrong.map_or(Whole::Yes, Whole::Damaged),
                tags: row.map(|row| row.tags.clone()).unwrap_or_default(),
                protections: protections.remove(&name).unwrap_or_default(),
                values,
            });
        }
        Ok(facts)
    }

    pub(super) fn bytes_of(&self, name: CheckpointName) -> u64 {
        self.bytes.get(&name).copied().unwrap_or(0)
    }

    /// Every metric that a checkpoint was given or a launch of the timeline logged.
    pub(super) fn metric_names(&self, engine: &Engine) -> Result<Vec<String>> {
        let snapshot = engine.snapshot()?;
        let timeline = timeline_of(&*snapshot, self.run)?;
        let given = snapshot.checkpoints(self.run)?;
        let given = given.into_iter().flat_map(|row| row.metrics.into_keys());
        let logged = logged(&*snapshot, &timeline, Vec::new())?;
        let names: BTreeSet<String> = given
            .chain(logged.into_iter().map(|name| name.name))
            .collect();
        Ok(names.into_iter().collect())
    }
}

/// Series of users' metrics along a timeline, of some metrics or of all.
fn logged(
    snapshot: &dyn Snapshot,
    timeline: &Timeline,
    metrics: Vec<String>,
) -> Result<BTreeSet<MetricName>> {
    let rows = rows_of(snapshot, timeline.segments(), metrics)?;
    let rows = rows.values().flatten().filter(|row| !row.system);
    Ok(rows.map(MetricName::of).collect())
}

/// Per checkpoint its values of the metrics that rank: given to it, else the effective value at exactly its step; where ranks keep series of their own, the mean over the ranks.
fn values(
    engine: &Engine,
    run: RunId,
    policy: &Policy,
    names: &[CheckpointName],
    rows: &BTreeMap<CheckpointName, CheckpointRow>,
) -> Result<Vec<Vec<Option<f64>>>> {
    let steps: BTreeSet<Step> = names.iter().map(|name| name.key.step).collect();
    let steps: Vec<Step> = steps.into_iter().collect();
    let mut values = vec![Vec::with_capacity(policy.keep_best.len()); names.len()];
    for rule in &policy.keep_best {
        let effective = effective(engine, run, &rule.metric, &steps)?;
        for (name, values) in names.iter().zip(&mut values) {
            let given = rows.get(name).and_then(|row| row.metrics.get(&rule.metric));
            let at_step = || {
                let at = steps.binary_search(&name.key.step).ok()?;
                effective[at]
            };
            values.push(given.copied().or_else(at_step));
        }
    }
    Ok(values)
}

fn effective(
    engine: &Engine,
    run: RunId,
    metric: &str,
    steps: &[Step],
) -> Result<Vec<Option<f64>>> {
    let found = engine.values_at(run, metric, steps)?;
    if found.iter().any(Option::is_some) {
        return Ok(found);
    }
    let ranked = {
        let snapshot = engine.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        logged(&*snapshot, &timeline, vec![metric.to_owned()])?
    };
    let mut sums = vec![(0.0, 0_u32); steps.len()];
    for name in ranked.iter().filter(|name| name.rank.is_some()) {
        let values = engine.values_at(run, &name.to_string(), steps)?;
        for (sum, value) in sums.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    }
    let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
    Ok(sums.into_iter().map(mean).collect())
}

impl Engine {
    /// The time by the store's clock; of a store that can not be written to, by this host's.
    fn store_time(&self) -> Result<Timestamp> {
        if self.is_writable() {
            self.store.time()
        } else {
            Ok(self.now())
        }
    }
}
