//! Points as rows of a segment: by metric, then by step, one for each series and step.

use std::collections::HashMap;

use super::{MAX_GROUP_ROWS, OWN_GROUP_ROWS};
use crate::batch::SeriesName;

/// Points of one series, in order of arrival until they are sorted.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) steps: Vec<i64>,
    pub(super) timestamps: Vec<i64>,
    pub(super) values: Vec<f64>,
    pub(super) ordinals: Vec<i64>,
}

impl Columns {
    fn take(&self, rows: &[u32]) -> Self {
        let at = |row: &u32| *row as usize;
        Self {
            steps: rows.iter().map(|row| self.steps[at(row)]).collect(),
            timestamps: rows.iter().map(|row| self.timestamps[at(row)]).collect(),
            values: rows.iter().map(|row| self.values[at(row)]).collect(),
            ordinals: rows.iter().map(|row| self.ordinals[at(row)]).collect(),
        }
    }

    /// By ascending step; of several points at one step the last that arrived.
    fn sorted(self) -> Self {
        if self.steps.is_sorted_by(|a, b| a < b) {
            return self;
        }
        let mut rows: Vec<u32> = (0..self.steps.len() as u32).collect();
        // Stable: equal steps stay in order of arrival.
        rows.sort_by_key(|&row| self.steps[row as usize]);
        let mut last: Vec<u32> = Vec::with_capacity(rows.len());
        for row in rows {
            match last.last_mut() {
                Some(before) if self.steps[*before as usize] == self.steps[row as usize] => {
                    *before = row;
                }
                _ => last.push(row),
            }
        }
        self.take(&last)
    }
}

/// All rows of one metric, whoever logged it.
pub(super) struct MetricRows {
    pub(super) name: String,
    pub(super) columns: Columns,
    pub(super) kinds: Kinds,
}

/// Rank and system flag of rows.
pub(super) enum Kinds {
    /// The same for all.
    One((Option<u32>, bool)),
    Each(Vec<(Option<u32>, bool)>),
}

impl MetricRows {
    pub(super) fn len(&self) -> usize {
        self.columns.steps.len()
    }

    pub(super) fn kind(&self, row: usize) -> (Option<u32>, bool) {
        match &self.kinds {
            Kinds::One(kind) => *kind,
            Kinds::Each(kinds) => kinds[row],
        }
    }
}

/// Sorts what was logged.
pub(super) fn sort(series: HashMap<SeriesName, Columns>) -> Vec<MetricRows> {
    let mut series: Vec<(SeriesName, Columns)> = series.into_iter().collect();
    // By name, then users' before system's, then rank: the order of `SeriesName`'s fields.
    series.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut metrics: Vec<MetricRows> = Vec::with_capacity(series.len());
    let mut rest = series.into_iter().peekable();
    while let Some((name, columns)) = rest.next() {
        let mut variants = vec![((name.rank, name.system), columns.sorted())];
        while let Some((other, columns)) = rest.next_if(|(other, _)| other.name == name.name) {
            variants.push(((other.rank, other.system), columns.sorted()));
        }
        metrics.push(merge(name.name, variants));
    }
    metrics
}

fn merge(name: String, mut variants: Vec<((Option<u32>, bool), Columns)>) -> MetricRows {
    if variants.len() == 1 {
        let (kind, columns) = variants.swap_remove(0);
        return MetricRows {
            name,
            columns,
            kinds: Kinds::One(kind),
        };
    }
    let mut all = Columns::default();
    let mut kinds = Vec::new();
    for (kind, columns) in variants {
        kinds.resize(kinds.len() + columns.steps.len(), kind);
        all.steps.extend(columns.steps);
        all.timestamps.extend(columns.timestamps);
        all.values.extend(columns.values);
        all.ordinals.extend(columns.ordinals);
    }
    let mut rows: Vec<u32> = (0..all.steps.len() as u32).collect();
    // Stable: at one step the variants stay in their order.
    rows.sort_by_key(|&row| all.steps[row as usize]);
    MetricRows {
        name,
        kinds: Kinds::Each(rows.iter().map(|&row| kinds[row as usize]).collect()),
        columns: all.take(&rows),
    }
}

/// A stretch of one metric's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) metric: usize,
    pub(super) rows: std::ops::Range<usize>,
}

/// Cuts rows into row groups: a metric with many rows has its own, so that it can be read alone; small ones share, so that ten thousand of them are no
/// ten thousand groups.
pub(super) fn groups(metrics: &[MetricRows]) -> Vec<Vec<Stretch>> {
    let mut groups = Vec::new();
    let mut shared: Vec<Stretch> = Vec::new();
    let mut shared_rows = 0;
    for (metric, rows) in metrics.iter().enumerate() {
        let own = rows.len() >= OWN_GROUP_ROWS;
        if (own || shared_rows >= OWN_GROUP_ROWS) && !shared.is_empty() {
            groups.push(std::mem::take(&mut shared));
            shared_rows = 0;
        }
        if !own {
            shared_rows += rows.len();
            shared.push(Stretch {
                metric,
                rows: 0..rows.len(),
            });
            continue;
        }
        for start in (0..rows.len()).step_by(MAX_GROUP_ROWS) {
            let rows = start..rows.len().min(start + MAX_GROUP_ROWS);
            groups.push(vec![Stretch { metric, rows }]);
        }
    }
    if !shared.is_empty() {
        groups.push(shared);
    }
    groups
}
