//! Points of one series, by columns.

use std::ops::Range;

use runtree_core::{Step, Timestamp};

use crate::block::{Block, MAX_POINTS};

/// One value of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// What the trainer counted.
    pub step: Step,
    /// When it was logged.
    pub timestamp: Timestamp,
    /// The value; NaN and ±Inf are data.
    pub value: f64,
}

/// Points of one series, steps strictly ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    steps: Vec<i64>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Points {
    /// No points.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes points as they arrived, in any order of steps: of several at one step the last wins.
    pub fn from_arrival(points: impl IntoIterator<Item = Point>) -> Self {
        let mut columns = Self::new();
        let mut late = Vec::new();
        for point in points {
            match columns.steps.last() {
                Some(&last) if point.step.0 < last => late.push(point),
                Some(&last) if point.step.0 == last && late.is_empty() => {
                    columns.pop();
                    columns.push(point);
                }
                _ => {
                    // Once something came late, arrival order must be kept for what comes after it: it may repeat a late step.
                    if late.is_empty() {
                        columns.push(point);
                    } else {
                        late.push(point);
                    }
                }
            }
        }
        if late.is_empty() {
            return columns;
        }
        // Stable: equal steps stay in order of arrival, so the last of each run of equals is the one that counts.
        late.sort_by_key(|point| point.step);
        let mut newer = Self::new();
        for point in late {
            if newer.steps.last() == Some(&point.step.0) {
                newer.pop();
            }
            newer.push(point);
        }
        Self::merge(&columns, &newer)
    }

    /// Takes columns that a decoder read; `None` unless they have one length and steps ascend strictly.
    pub(crate) fn from_columns(
        steps: Vec<i64>,
        timestamps: Vec<i64>,
        values: Vec<f64>,
    ) -> Option<Self> {
        let fits = steps.len() == timestamps.len()
            && steps.len() == values.len()
            && steps.is_sorted_by(|a, b| a < b);
        fits.then_some(Self {
            steps,
            timestamps,
            values,
        })
    }

    /// Steps, timestamps in microseconds and values.
    pub fn into_columns(self) -> (Vec<i64>, Vec<i64>, Vec<f64>) {
        (self.steps, self.timestamps, self.values)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The point at an index.
    pub fn get(&self, index: usize) -> Option<Point> {
        Some(Point {
            step: Step(*self.steps.get(index)?),
            timestamp: Timestamp(self.timestamps[index]),
            value: self.values[index],
        })
    }

    /// The points, by ascending step.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Point> + DoubleEndedIterator + '_ {
        (0..self.len()).map(|index| Point {
            step: Step(self.steps[index]),
            timestamp: Timestamp(self.timestamps[index]),
            value: self.values[index],
        })
    }

    /// The steps, strictly ascending.
    pub fn steps(&self) -> &[i64] {
        &self.steps
    }

    /// Microseconds since the epoch, one per step.
    pub fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }

    /// The values, one per step.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The point at exactly a step.
    pub fn at(&self, step: Step) -> Option<Point> {
        let index = self.steps.binary_search(&step.0).ok()?;
        self.get(index)
    }

    /// Indices of the points at steps `first..=last`.
    pub fn range(&self, first: Step, last: Step) -> Range<usize> {
        let start = self.steps.partition_point(|&step| step < first.0);
        let end = self.steps.partition_point(|&step| step <= last.0);
        start..end.max(start)
    }

    /// A copy of the points at some indices.
    ///
    /// # Panics
    /// If the range leaves `0..len`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self {
            steps: self.steps[range.clone()].to_vec(),
            timestamps: self.timestamps[range.clone()].to_vec(),
            values: self.values[range].to_vec(),
        }
    }

    /// Both together; where both have a step, `newer` wins.
    pub fn merge(older: &Self, newer: &Self) -> Self {
        let mut merged = Self::with_capacity(older.len() + newer.len());
        let (mut left, mut right) = (0, 0);
        while left < older.len() && right < newer.len() {
            match older.steps[left].cmp(&newer.steps[right]) {
                std::cmp::Ordering::Less => {
                    merged.extend_from(older, left..left + 1);
                    left += 1;
                }
                order => {
                    merged.extend_from(newer, right..right + 1);
                    right += 1;
                    left += usize::from(order.is_eq());
                }
            }
        }
        merged.extend_from(older, left..older.len());
        merged.extend_from(newer, right..newer.len());
        merged
    }

    /// Cuts the points into blocks of [`MAX_POINTS`], what is left over in the last.
    pub fn into_blocks(self) -> Vec<Block> {
        if self.len() <= MAX_POINTS {
            return Block::new(self).into_iter().collect();
        }
        (0..self.len())
            .step_by(MAX_POINTS)
            .filter_map(|start| Block::new(self.slice(start..self.len().min(start + MAX_POINTS))))
            .collect()
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            steps: Vec::with_capacity(capacity),
            timestamps: Vec::with_capacity(capacity),
            values: Vec::with_capacity(capacity),
        }
    }

    /// Appends points of another series of the same metric; the caller knows that their steps follow.
    pub(crate) fn extend_from(&mut self, other: &Self, range: Range<usize>) {
        self.steps.extend_from_slice(&other.steps[range.clone()]);
        self.timestamps
            .extend_from_slice(&other.timestamps[range.clone()]);
        self.values.extend_from_slice(&other.values[range]);
    }

    fn push(&mut self, point: Point) {
        self.steps.push(point.step.0);
        self.timestamps.push(point.timestamp.0);
        self.values.push(point.value);
    }

    fn pop(&mut self) {
        self.steps.pop();
        self.timestamps.pop();
        self.values.pop();
    }
}
