//! Metrics of a run's effective history.

use std::collections::BTreeSet;

use runtree_core::float::JsonFloat;
use runtree_core::lineage::{Segment, Timeline};
use runtree_core::wire::XAxis;
use runtree_core::{Result, RunId, Step, wire};
use runtree_index::Snapshot;
use runtree_metrics::Query;

use crate::series::{MetricName, SeriesView, SystemMetric, rows_of, system_segments};

/// Every metric of a run: users' along the timeline, the machine's of the run itself.
pub(super) fn metric_infos(
    snapshot: &dyn Snapshot,
    run: RunId,
    timeline: &Timeline,
) -> Result<Vec<wire::MetricInfo>> {
    let mut infos = infos_of(snapshot, run, timeline.segments(), SystemMetric::No)?;
    let system = system_segments(snapshot, run, None)?;
    infos.extend(infos_of(snapshot, run, &system, SystemMetric::Yes)?);
    infos.sort_by(|a, b| (a.system, &a.name).cmp(&(b.system, &b.name)));
    Ok(infos)
}

fn infos_of(
    snapshot: &dyn Snapshot,
    run: RunId,
    segments: &[Segment],
    kind: SystemMetric,
) -> Result<Vec<wire::MetricInfo>> {
    let mut rows = rows_of(snapshot, segments, Vec::new())?;
    for own in rows.values_mut() {
        own.retain(|row| row.system == (kind == SystemMetric::Yes));
    }
    let names: BTreeSet<MetricName> = rows.values().flatten().map(MetricName::of).collect();
    let mut infos = Vec::new();
    for name in names {
        let view = SeriesView::along(snapshot, segments, &name, &rows)?;
        let query = Query {
            axis: XAxis::Step,
            from: None,
            to: None,
            pixels: 1,
            shifts: Vec::new(),
        };
        let buckets = view.stitched().buckets(&query, &view)?.buckets;
        let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
            continue;
        };
        let value = |step: Step, value: f64| wire::MetricValue {
            step,
            value: JsonFloat(value),
        };
        let mut info = wire::MetricInfo {
            name: name.to_string(),
            system: kind == SystemMetric::Yes,
            points: 0,
            nonfinite: 0,
            steps: wire::StepRange {
                first: Step(first.x_first),
                last: Step(last.x_last),
            },
            min: None,
            max: None,
            last: value(Step(last.x_last), last.last),
            own: false,
        };
        for bucket in &buckets {
            info.points += bucket.count;
            info.nonfinite += bucket.nonfinite;
            info.own |= segments[bucket.segment as usize].id.run == run;
            let smaller = |than: &wire::MetricValue| bucket.min < than.value.0;
            if bucket.min.is_finite() && info.min.as_ref().is_none_or(smaller) {
                info.min = Some(value(bucket.min_step, bucket.min));
            }
            let larger = |than: &wire::MetricValue| bucket.max > than.value.0;
            if bucket.max.is_finite() && info.max.as_ref().is_none_or(larger) {
                info.max = Some(value(bucket.max_step, bucket.max));
            }
        }
        infos.push(info);
    }
    Ok(infos)
}
