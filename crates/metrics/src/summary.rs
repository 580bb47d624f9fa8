//! What is known of points without decoding them.
//!
//! A chart of ten million points is drawn from these: one [`Summary`] per [`SUB_POINTS`] points, kept beside a block's payload
//! as bytes of their own ([`Summaries::encode`], `docs/formats/block.md`).

use std::ops::Range;
use std::sync::Arc;

use runtree_core::{Error, Result, Step, Timestamp};

use crate::block::MAX_POINTS;
use crate::bytes::Reader;
use crate::point::Points;

/// Points that one summary stands for, except the last of a block.
pub const SUB_POINTS: usize = 256;

const VERSION: u8 = 1;
const SUMMARY_BYTES: usize = 112;

/// What is known of some points with ascending steps. NaN and ±Inf are counted, never part of `sum`, `min`, `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Points, at least one.
    pub n: u32,
    /// Of them NaN or ±Inf.
    pub nonfinite: u32,
    /// Step of the first point.
    pub step_first: Step,
    /// Step of the last point.
    pub step_last: Step,
    /// Timestamp of the first point.
    pub time_first: Timestamp,
    /// Timestamp of the last point.
    pub time_last: Timestamp,
    /// Smallest timestamp: clocks may jump, and users may pass their own.
    pub time_min: Timestamp,
    /// Largest timestamp.
    pub time_max: Timestamp,
    /// Sum of the finite values.
    pub sum: f64,
    /// Value of the first point, finite or not.
    pub first: f64,
    /// Value of the last point, finite or not.
    pub last: f64,
    /// Smallest finite value; NaN if there is none.
    pub min: f64,
    /// Largest finite value; NaN if there is none.
    pub max: f64,
    /// First step with the smallest value; the first step if there is none.
    pub min_step: Step,
    /// First step with the largest value; the first step if there is none.
    pub max_step: Step,
}

impl Summary {
    /// Summarises some of the points; `None` if there are none in the range.
    pub fn of(points: &Points, range: Range<usize>) -> Option<Self> {
        let steps = points.steps().get(range.clone())?;
        let timestamps = points.timestamps().get(range.clone())?;
        let values = points.values().get(range)?;
        let mut summary = Self {
            n: steps.len() as u32,
            nonfinite: 0,
            step_first: Step(*steps.first()?),
            step_last: Step(*steps.last()?),
            time_first: Timestamp(*timestamps.first()?),
            time_last: Timestamp(*timestamps.last()?),
            time_min: Timestamp(*timestamps.iter().min()?),
            time_max: Timestamp(*timestamps.iter().max()?),
            sum: 0.0,
            first: *values.first()?,
            last: *values.last()?,
            min: f64::NAN,
            max: f64::NAN,
            min_step: Step(*steps.first()?),
            max_step: Step(*steps.first()?),
        };
        for (&step, &value) in steps.iter().zip(values) {
            if !value.is_finite() {
                summary.nonfinite += 1;
                continue;
            }
            summary.sum += value;
            // Negated comparisons: true as well while the extreme is still NaN.
            if summary.min.is_nan() || value < summary.min {
                (summary.min, summary.min_step) = (value, Step(step));
            }
            if summary.max.is_nan() || value > summary.max {
                (summary.max, summary.max_step) = (value, Step(step));
            }
        }
        Some(summary)
    }

    /// What is known of these points and of `later` ones, whose steps all follow.
    pub fn followed_by(&self, later: &Self) -> Self {
        let mut both = Self {
            n: self.n.saturating_add(later.n),
            nonfinite: self.nonfinite.saturating_add(later.nonfinite),
            step_last: later.step_last,
            time_last: later.time_last,
            time_min: self.time_min.min(later.time_min),
            time_max: self.time_max.max(later.time_max),
            sum: self.sum + later.sum,
            last: later.last,
            ..*self
        };
        if self.min.is_nan() || later.min < self.min {
            (both.min, both.min_step) = (later.min, later.min_step);
        }
        if self.max.is_nan() || later.max > self.max {
            (both.max, both.max_step) = (later.max, later.max_step);
        }
        if both.nonfinite == both.n {
            (both.min_step, both.max_step) = (self.min_step, self.max_step);
        }
        both
    }

    /// Whether the first and last point are also the earliest and the latest.
    pub(crate) fn is_ordered_in_time(&self) -> bool {
        self.time_first == self.time_min && self.time_last == self.time_max
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.n.to_le_bytes());
        out.extend(self.nonfinite.to_le_bytes());
        for number in [
            self.step_first.0,
            self.step_last.0,
            self.time_first.0,
            self.time_last.0,
            self.time_min.0,
            self.time_max.0,
            self.min_step.0,
            self.max_step.0,
        ] {
            out.extend(number.to_le_bytes());
        }
        for value in [self.sum, self.first, self.last, self.min, self.max] {
            out.extend(value.to_le_bytes());
        }
    }

    fn get(bytes: &[u8; SUMMARY_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            word
        };
        let int = |at: usize| i64::from_le_bytes(word(at));
        let float = |at: usize| f64::from_le_bytes(word(at));
        let counts = u64::from_le_bytes(word(0));
        Self {
            n: counts as u32,
            nonfinite: (counts >> 32) as u32,
            step_first: Step(int(1)),
            step_last: Step(int(2)),
            time_first: Timestamp(int(3)),
            time_last: Timestamp(int(4)),
            time_min: Timestamp(int(5)),
            time_max: Timestamp(int(6)),
            min_step: Step(int(7)),
            max_step: Step(int(8)),
            sum: float(9),
            first: float(10),
            last: float(11),
            min: float(12),
            max: float(13),
        }
    }

    fn is_sound(&self) -> bool {
        let inside = |step: Step| self.step_first <= step && step <= self.step_last;
        let span = self.step_last.0.wrapping_sub(self.step_first.0) as u64;
        (1..=SUB_POINTS as u32).contains(&self.n)
            && self.nonfinite <= self.n
            && self.step_first <= self.step_last
            && u64::from(self.n) - 1 <= span
            && self.time_min <= self.time_first.min(self.time_last)
            && self.time_first.max(self.time_last) <= self.time_max
            && inside(self.min_step)
            && inside(self.max_step)
    }
}

/// The summaries of a block, one per [`SUB_POINTS`] points, by ascending step. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Summaries(Arc<[Summary]>);

impl Summaries {
    pub(crate) fn of(points: &Points) -> Self {
        let sub = |start: usize| Summary::of(points, start..points.len().min(start + SUB_POINTS));
        Self(
            (0..points.len())
                .step_by(SUB_POINTS)
                .filter_map(sub)
                .collect(),
        )
    }

    /// Those of some points of a block, perhaps of none: never stored.
    pub(crate) fn of_some(summaries: impl Iterator<Item = Summary>) -> Self {
        Self(summaries.collect())
    }

    /// The summaries.
    pub fn as_slice(&self) -> &[Summary] {
        &self.0
    }

    /// One summary of the whole block.
    pub fn total(&self) -> Summary {
        let (first, rest) = self
            .0
            .split_first()
            .expect("BUG: a block has at least one point, so one summary");
        rest.iter()
            .fold(*first, |total, later| total.followed_by(later))
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.0.len() * SUMMARY_BYTES);
        out.push(VERSION);
        self.0.iter().for_each(|summary| summary.put(&mut out));
        out
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// `Unsupported` for a newer version; `Corrupt` if they contradict themselves.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(unknown_version("summaries", version, VERSION));
        }
        let most = MAX_POINTS.div_ceil(SUB_POINTS);
        let (records, odd) = reader.rest().as_chunks::<SUMMARY_BYTES>();
        if records.is_empty() || records.len() > most || !odd.is_empty() {
            return Err(Error::corrupt(format!(
                "summaries of a block have {} bytes, 1 to {most} records of {SUMMARY_BYTES} expected",
                reader.rest().len()
            )));
        }
        let summaries: Arc<[Summary]> = records.iter().map(Summary::get).collect();
        let ascending = summaries.is_sorted_by(|a, b| a.step_last < b.step_first);
        if !ascending || !summaries.iter().all(Summary::is_sound) {
            return Err(Error::corrupt("summaries of a block contradict themselves"));
        }
        Ok(Self(summaries))
    }
}

pub(crate) fn unknown_version(what: &str, found: u8, known: u8) -> Error {
    if found < known {
        return Error::corrupt(format!("{what} have version {found}, which never was"));
    }
    Error::unsupported(format!(
        "{what} have version {found}, this runtree reads up to {known}"
    ))
    .with_hint("upgrade runtree: pip install -U runtree")
}
