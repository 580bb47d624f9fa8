//! Where a run was last healthy.
//!
//! A value is *bad* if it is not finite, or if a *spike* begins at it. Of values that are not finite those count most that stay so: a
//! metric whose latest value is no number is *broken* from where its last such stretch begins. What was infinite once and recovered
//! (a `grad_norm` while the loss scale is found) does not hide what broke, it counts only where nothing is broken. So the first bad value is
//! the earliest of the first kind there is: broken and loss-like, broken, once not finite and loss-like, once not finite (where no metric is
//! loss-like); or the first spike, if that lies before it. The step that is shown with a run is the one found here, spikes apart.
//!
//! A spike: with the median `m` and the median absolute deviation `d` of the
//! [`WINDOW`] finite values before it ([`LEAST`] at least), a spike begins where the median of the next [`AHEAD`] values lies above
//! `m + max(FACTOR · 1.4826 · d, |m| / 2)`, at a value that lies above it itself. Medians on both sides, so that single outliers move nothing
//! and a noisy climb is still seen (values of one batch scatter, their level does not); a floor of half the level, so that a curve
//! without noise does not spike by rounding. Only metrics where large is bad are looked at for spikes: those whose name says loss, err,
//! ppl, nll, perplexity or grad_norm. Deterministic, no parameters.

use runtree_core::lineage::Timeline;
use runtree_core::manifest::CheckpointName;
use runtree_core::reference::is_loss_like;
use runtree_core::{Result, RunId, Step, wire};
use runtree_index::{CheckpointRow, Snapshot};
use runtree_metrics::Points;

use super::{LastGood, effective_checkpoints};
use crate::engine::Engine;
use crate::series::{MetricName, SeriesView, rows_of, timeline_of};

/// Values before a point that it is compared with.
const WINDOW: usize = 64;
/// Fewer than this many say nothing.
const LEAST: usize = 10;
/// Values from a point on whose median must be high.
const AHEAD: usize = 16;
/// Where fewer follow, this many must be there: a run that dies while it diverges did spike.
const AHEAD_LEAST: usize = 5;
/// Deviations (robust sigmas) above the median: a median of 16 is that far off by noise once in many millions.
const FACTOR: f64 = 4.0;
/// From median absolute deviation to sigma, for normal noise.
const SIGMA: f64 = 1.4826;

impl Engine {
    /// The newest checkpoint before the first non-finite or spiking value, of one metric or of what the module says.
    ///
    /// # Errors
    /// `NotFound` if the run is not there.
    pub fn last_good(&self, run: RunId, metric: Option<&str>) -> Result<LastGood> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        Health::of(&*snapshot, run, metric)?.last_good(&*snapshot)
    }
}

/// Says what broke, and the advice of [`Engine::last_good`], where the index knows that a metric was not a number: what is shown is what
/// `@last-good` names.
pub(super) fn advise(
    snapshot: &dyn Snapshot,
    run: RunId,
    summary: &mut wire::RunSummary,
) -> Result<()> {
    let Some(shown) = &mut summary.first_nonfinite else {
        return Ok(());
    };
    let health = Health::of(snapshot, run, None)?;
    if let Some(bad) = &health.nonfinite {
        shown.metric.clone_from(&bad.metric);
        shown.step = bad.step;
    }
    let good = health.last_good(snapshot)?.checkpoint;
    shown.last_good = good.map(|name| name.key.step);
    Ok(())
}

/// How bad it is that a metric was not finite; worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    BrokenLoss,
    Broken,
    OnceLoss,
    Once,
}

/// Where a metric was not finite. Ordered by what is told of several: the worst, then the earliest, then the first by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NonFinite {
    severity: Severity,
    step: Step,
    metric: String,
}

impl NonFinite {
    fn of(metric: &MetricName, points: &Points) -> Option<Self> {
        let values = points.values();
        let last_finite = values.iter().rposition(|value| value.is_finite());
        let after = last_finite.map_or(0, |index| index + 1);
        let (index, broken) = if after < values.len() {
            (after, true)
        } else {
            (values.iter().position(|value| !value.is_finite())?, false)
        };
        let severity = match (broken, is_loss_like(&metric.name)) {
            (true, true) => Severity::BrokenLoss,
            (true, false) => Severity::Broken,
            (false, true) => Severity::OnceLoss,
            (false, false) => Severity::Once,
        };
        Some(Self {
            severity,
            step: Step(points.steps()[index]),
            metric: metric.to_string(),
        })
    }
}

/// What is wrong with a run's values.
struct Health {
    timeline: Timeline,
    nonfinite: Option<NonFinite>,
    spike: Option<(Step, String)>,
}

impl Health {
    fn of(snapshot: &dyn Snapshot, run: RunId, metric: Option<&str>) -> Result<Self> {
        let timeline = timeline_of(snapshot, run)?;
        let rows = rows_of(snapshot, timeline.segments(), Vec::new())?;
        let mut names: Vec<MetricName> = rows
            .values()
            .flatten()
            .filter(|row| !row.system)
            // A metric that was always finite and may not spike needs no look.
            .filter(|row| metric.is_some() || row.stats.nonfinite > 0 || is_loss_like(&row.metric))
            .map(MetricName::of)
            .collect();
        names.sort();
        names.dedup();
        if let Some(metric) = metric {
            let wanted = MetricName::parse(metric);
            names.retain(|name| {
                *name == wanted || (wanted.rank.is_none() && name.name == wanted.name)
            });
        }
        let has_loss = names.iter().any(|name| is_loss_like(&name.name));
        let mut nonfinite: Option<NonFinite> = None;
        let mut spike: Option<(Step, String)> = None;
        for name in names {
            let view = SeriesView::along(snapshot, timeline.segments(), &name, &rows)?;
            let points = view.stitched().points(Step::MIN, Step::MAX, &view)?.points;
            let found = NonFinite::of(&name, &points)
                .filter(|found| metric.is_some() || !has_loss || found.severity != Severity::Once);
            nonfinite = nonfinite.into_iter().chain(found).min();
            if metric.is_some() || is_loss_like(&name.name) {
                let found = first_spike(&points).map(|step| (step, name.to_string()));
                spike = spike.into_iter().chain(found).min();
            }
        }
        Ok(Self {
            timeline,
            nonfinite,
            spike,
        })
    }

    fn last_good(&self, snapshot: &dyn Snapshot) -> Result<LastGood> {
        let nonfinite = self
            .nonfinite
            .as_ref()
            .map(|bad| (bad.step, bad.metric.clone()));
        let bad = nonfinite.into_iter().chain(self.spike.clone()).min();
        let candidates = effective_checkpoints(snapshot, &self.timeline)?;
        let before = |row: &&CheckpointRow| {
            bad.as_ref()
                .is_none_or(|(step, _)| row.name.key.step < *step)
        };
        let checkpoint: Option<CheckpointName> =
            candidates.iter().rfind(before).map(|row| row.name);
        Ok(LastGood {
            checkpoint,
            bad: bad.map(|(step, metric)| (metric, step)),
        })
    }
}

/// First step at which a spike begins; what is not finite is none.
fn first_spike(points: &Points) -> Option<Step> {
    let finite = points.steps().iter().zip(points.values());
    let (steps, values): (Vec<i64>, Vec<f64>) =
        finite.filter(|(_, value)| value.is_finite()).unzip();
    spike_in(&values).map(|index| Step(steps[index]))
}

/// First index of a spike among finite values.
fn spike_in(values: &[f64]) -> Option<usize> {
    (LEAST..values.len()).find(|&index| {
        let ahead = &values[index..values.len().min(index + AHEAD)];
        if ahead.len() < AHEAD_LEAST {
            return false;
        }
        let window = &values[index.saturating_sub(WINDOW)..index];
        let median = median_of(window.to_vec());
        let floor = median + median.abs() / 2.0;
        // Cheap first: most values are near the level, and need no second median.
        if values[index] <= floor {
            return false;
        }
        let level = median_of(ahead.to_vec());
        if level <= floor {
            return false;
        }
        let deviation = median_of(window.iter().map(|value| (value - median).abs()).collect());
        let limit = floor.max(median + FACTOR * SIGMA * deviation);
        level > limit && values[index] > limit
    })
}

fn median_of(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    *median
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(index: usize) -> f64 {
        1.0 + ((index * 7919) % 13) as f64 / 100.0
    }

    #[test]
    fn one_bad_batch_is_no_spike_and_a_divergence_is_one() {
        let mut values: Vec<f64> = (0..200).map(noisy).collect();
        values[100] = 50.0;
        assert_eq!(spike_in(&values), None);
        for value in &mut values[150..] {
            *value = 9.0;
        }
        assert_eq!(spike_in(&values), Some(150));
    }

    #[test]
    fn a_divergence_whose_batches_scatter_is_seen_where_it_begins() {
        // From a real run whose rate grew too far: single values still fall back to the old level.
        let healthy = (0..150).map(|index| 0.1 + f64::from((index * 37) % 11) / 50.0);
        let scattered = [
            0.07, 0.84, 0.47, 1.17, 0.84, 0.08, 2.19, 0.69, 0.84, 2.2, 1.98, 0.62, 2.43, 0.89,
            1.45, 2.18,
        ];
        let values: Vec<f64> = healthy
            .chain(scattered.into_iter().cycle().take(64))
            .collect();
        assert_eq!(spike_in(&values), Some(151));
    }

    #[test]
    fn a_curve_that_falls_or_stands_still_never_spikes() {
        let falling: Vec<f64> = (0..500).map(|index| 5.0 / f64::from(index + 1)).collect();
        assert_eq!(spike_in(&falling), None);
        assert_eq!(spike_in(&[0.25; 300]), None);
    }

    #[test]
    fn names_say_whether_small_is_good() {
        assert!(is_loss_like("train/Loss") && is_loss_like("val_ppl") && is_loss_like("cer_error"));
        assert!(!is_loss_like("accuracy") && !is_loss_like("reward"));
    }
}
