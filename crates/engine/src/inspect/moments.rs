//! Statistics of numbers that come in pieces: counts, extremes, mean, spread, norm.
//!
//! Runs of [`RUN`] elements are summed up by themselves, with the corrected two-pass formula, and merged into what was there, with the pairwise update: both
//! as in Chan, Golub, LeVeque, "Algorithms for Computing the Sample Variance: Analysis and Recommendations", The American Statistician 37 (1983) 242–247.
//! So nothing is the difference of two large sums, as it is where squares are added up and the square of the mean is taken off. Where elements are cut into
//! pieces changes the last digits alone; whoever cuts at the same places and merges in the same order gets the same bits, on any number of threads.

use runtree_core::float::JsonFloat;
use runtree_core::state::Dtype;
use runtree_core::wire::FiniteStatistics;
use serde_json::Number;

use super::decode::decode_run_of;

/// Elements that are summed up at a time: their values stay in the first-level cache. A power of two, see [`Moments::of_finite`].
const RUN: usize = 1024;
/// Sums that go on side by side, so that additions need not wait for each other.
const LANES: usize = 8;

/// What is known of the elements so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) elements: u64,
    pub(crate) nan: u64,
    pub(crate) positive_infinity: u64,
    pub(crate) negative_infinity: u64,
    /// Elements that the rest is about.
    finite: u64,
    min: f64,
    max: f64,
    /// Extremes of 64-bit integers, which `f64` rounds.
    wide: Option<(i128, i128)>,
    mean: f64,
    /// Σ (x − mean)².
    spread: f64,
    /// Σ x².
    squares: f64,
}

impl Moments {
    /// Elements of which nothing else is known.
    pub(crate) fn counted(elements: u64) -> Self {
        Self {
            elements,
            ..Self::default()
        }
    }

    /// Adds whole elements of a dtype. Of one that holds no numbers, they are only counted.
    pub(crate) fn add(&mut self, dtype: &Dtype, bytes: &[u8]) {
        let item = dtype.item_bytes().max(1) as usize;
        let Some(decode) = decode_run_of(dtype) else {
            self.merge(&Self::counted((bytes.len() / item) as u64));
            return;
        };
        let mut values = [0.0; RUN];
        for run in bytes.chunks(RUN * item) {
            let values = &mut values[..run.len() / item];
            decode(run, values);
            let mut found = Self::of_run(values);
            found.wide = match dtype {
                Dtype::I64 => extremes(run, |bytes| i64::from_le_bytes(bytes).into()),
                Dtype::U64 => extremes(run, |bytes| u64::from_le_bytes(bytes).into()),
                _ => None,
            };
            self.merge(&found);
        }
    }

    /// Of at most [`RUN`] values.
    fn of_run(values: &[f64]) -> Self {
        // Zero times what is not finite is NaN.
        if sum(values, |x| x * 0.0) == 0.0 {
            return Self::of_finite(values);
        }
        let mut finite = [0.0; RUN];
        let mut count = 0;
        let mut others = Self::default();
        for &x in values {
            if x.is_finite() {
                finite[count] = x;
                count += 1;
            } else if x.is_nan() {
                others.nan += 1;
            } else if x > 0.0 {
                others.positive_infinity += 1;
            } else {
                others.negative_infinity += 1;
            }
        }
        others.elements = (values.len() - count) as u64;
        others.merge(&Self::of_finite(&finite[..count]));
        others
    }

    /// Of at most [`RUN`] finite values.
    fn of_finite(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let smaller = |a: f64, b: f64| if b < a { b } else { a };
        let larger = |a: f64, b: f64| if b > a { b } else { a };
        let (min, max) = (
            lanes(values, f64::INFINITY, smaller)
                .into_iter()
                .fold(f64::INFINITY, smaller),
            lanes(values, f64::NEG_INFINITY, larger)
                .into_iter()
                .fold(f64::NEG_INFINITY, larger),
        );
        let mut found = Self {
            elements: values.len() as u64,
            finite: values.len() as u64,
            min,
            max,
            squares: sum(values, |x| x * x),
            ..Self::default()
        };
        if min >= max {
            // One value, however often: its sum would be rounded.
            found.mean = min;
        } else if !values.is_empty() {
            // Scaled by a power of two, so that a sum of finite values is finite.
            let scale = 1.0 / RUN as f64;
            let mean = sum(values, |x| x * scale) * (RUN as f64 / count);
            let deviation = sum(values, |x| x - mean);
            let spread = sum(values, |x| (x - mean) * (x - mean));
            let corrected = spread - deviation * deviation / count;
            // A deviation is beyond `f64` only where the values span more than its range.
            let is_sound = deviation.is_finite() && corrected.is_finite();
            found.mean = if is_sound {
                mean + deviation / count
            } else {
                mean
            };
            found.spread = if is_sound {
                corrected.max(0.0)
            } else {
                f64::INFINITY
            };
        }
        found
    }

    /// Adds what is known of other elements.
    pub(crate) fn merge(&mut self, other: &Self) {
        let finite = self.finite + other.finite;
        if self.finite == 0 {
            (self.min, self.max) = (other.min, other.max);
            (self.mean, self.spread, self.squares) = (other.mean, other.spread, other.squares);
            self.wide = other.wide;
        } else if other.finite > 0 {
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
            self.wide = match (self.wide, other.wide) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (one, another) => one.or(another),
            };
            let weight = other.finite as f64 / finite as f64;
            let apart = other.mean - self.mean;
            self.spread += other.spread + apart * apart * (self.finite as f64 * weight);
            self.mean = if apart.is_finite() {
                self.mean + apart * weight
            } else {
                self.mean * (1.0 - weight) + other.mean * weight
            };
            self.squares += other.squares;
        }
        self.finite = finite;
        self.elements += other.elements;
        self.nan += other.nan;
        self.positive_infinity += other.positive_infinity;
        self.negative_infinity += other.negative_infinity;
    }

    /// What the finite elements, which have this dtype, are like.
    pub(crate) fn finite(&self, dtype: &Dtype) -> Option<FiniteStatistics> {
        if self.finite == 0 {
            return None;
        }
        let exact = |value: f64, wide: Option<i128>| match (wide, is_integer(dtype)) {
            (Some(value), _) => i64::try_from(value)
                .map(Number::from)
                .or_else(|_| u64::try_from(value).map(Number::from))
                .ok(),
            (None, true) => Some(Number::from(value as i64)),
            (None, false) => Number::from_f64(value),
        };
        let count = self.finite as f64;
        Some(FiniteStatistics {
            min: exact(self.min, self.wide.map(|(min, _)| min))?,
            max: exact(self.max, self.wide.map(|(_, max)| max))?,
            mean: JsonFloat(self.mean.clamp(self.min, self.max)),
            std: JsonFloat((self.spread / count).sqrt()),
            norm: JsonFloat(self.squares.sqrt()),
        })
    }
}

/// Whether extremes of a dtype are integers.
fn is_integer(dtype: &Dtype) -> bool {
    matches!(
        dtype,
        Dtype::Bool
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64
    )
}

/// Smallest and largest of 64-bit integers.
fn extremes(run: &[u8], read: impl Fn([u8; 8]) -> i128) -> Option<(i128, i128)> {
    let (elements, _) = run.as_chunks::<8>();
    elements
        .iter()
        .map(|bytes| read(*bytes))
        .fold(None, |found: Option<(i128, i128)>, value| {
            let (min, max) = found.unwrap_or((value, value));
            Some((min.min(value), max.max(value)))
        })
}

fn lanes(values: &[f64], start: f64, add: impl Fn(f64, f64) -> f64) -> [f64; LANES] {
    let mut lanes = [start; LANES];
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        for (lane, x) in lanes.iter_mut().zip(row) {
            *lane = add(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = add(*lane, *x);
    }
    lanes
}

fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    lanes(values, 0.0, |sum, x| sum + of(x)).iter().sum()
}

#[cfg(test)]
mod tests;
