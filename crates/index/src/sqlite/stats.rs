//! [`SeriesStats`] as a blob, and how stretches of one series add up.

use runtree_core::{Error, Result, Step, Timestamp};
use runtree_metrics::{Points, Summary};

use crate::row::{MetricPoint, SeriesStats};

const BYTES: usize = 8 * 14;

impl SeriesStats {
    /// Of ascending points; none if there are none.
    pub(super) fn of(points: &Points) -> Option<Self> {
        let whole = Summary::of(points, 0..points.len())?;
        let first_nonfinite = (whole.nonfinite > 0)
            .then(|| points.iter().find(|point| !point.value.is_finite()))
            .flatten()
            .map(|point| point.step);
        Some(Self {
            points: points.len() as u64,
            nonfinite: u64::from(whole.nonfinite),
            first: MetricPoint {
                step: whole.step_first,
                value: whole.first,
            },
            last: MetricPoint {
                step: whole.step_last,
                value: whole.last,
            },
            min: finite(whole.min_step, whole.min),
            max: finite(whole.max_step, whole.max),
            first_nonfinite,
            first_time: whole.time_min,
            last_time: whole.time_max,
        })
    }

    /// Of this stretch and a later one, whose steps all follow.
    pub(super) fn followed_by(&self, later: &Self) -> Self {
        let pick = |a: Option<MetricPoint>,
                    b: Option<MetricPoint>,
                    better: fn(f64, f64) -> bool| match (a, b) {
            (Some(a), Some(b)) if better(b.value, a.value) => Some(b),
            (None, b) => b,
            (a, _) => a,
        };
        Self {
            points: self.points + later.points,
            nonfinite: self.nonfinite + later.nonfinite,
            first: self.first,
            last: later.last,
            min: pick(self.min, later.min, |b, a| b < a),
            max: pick(self.max, later.max, |b, a| b > a),
            first_nonfinite: self.first_nonfinite.or(later.first_nonfinite),
            first_time: self.first_time.min(later.first_time),
            last_time: self.last_time.max(later.last_time),
        }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        let mut put = |word: u64| out.extend(word.to_le_bytes());
        put(self.points);
        put(self.nonfinite);
        let none = MetricPoint {
            step: Step::MIN,
            value: f64::NAN,
        };
        for point in [
            self.first,
            self.last,
            self.min.unwrap_or(none),
            self.max.unwrap_or(none),
        ] {
            put(point.step.0 as u64);
            put(point.value.to_bits());
        }
        // Two words: every step may be somebody's, so none can stand for "no such step".
        put(u64::from(self.first_nonfinite.is_some()));
        put(self.first_nonfinite.unwrap_or_default().0 as u64);
        put(self.first_time.0 as u64);
        put(self.last_time.0 as u64);
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (words, odd) = bytes.as_chunks::<8>();
        if bytes.len() != BYTES || !odd.is_empty() {
            return Err(Error::corrupt(format!(
                "what the index knows of a series has {} bytes, {BYTES} expected",
                bytes.len()
            )));
        }
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let point = |at: usize| MetricPoint {
            step: Step(word(at) as i64),
            value: f64::from_bits(word(at + 1)),
        };
        let finite = |point: MetricPoint| finite(point.step, point.value);
        Ok(Self {
            points: word(0),
            nonfinite: word(1),
            first: point(2),
            last: point(4),
            min: finite(point(6)),
            max: finite(point(8)),
            first_nonfinite: (word(10) != 0).then_some(Step(word(11) as i64)),
            first_time: Timestamp(word(12) as i64),
            last_time: Timestamp(word(13) as i64),
        })
    }
}

fn finite(step: Step, value: f64) -> Option<MetricPoint> {
    (!value.is_nan()).then_some(MetricPoint { step, value })
}
