//! What is to be kept, as people say it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reference::{Direction, is_loss_like};

/// Words that leave open which end of a metric is the best, beside those of [`is_loss_like`]; short ones, so they count as whole words alone.
const EITHER_END: [&str; 9] = [
    "mse", "rmse", "mae", "wer", "cer", "bpb", "bpc", "kl", "entropy",
];

/// Whether a metric's name leaves open which end of it is the best: whoever ranks by one has to say.
pub fn needs_direction(metric: &str) -> bool {
    let name = metric.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    is_loss_like(&name) || words.any(|word| EITHER_END.contains(&word))
}

/// Keeps the best checkpoints by a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepBest {
    /// The metric.
    pub metric: String,
    /// Which end of it is the best.
    pub mode: Direction,
    /// How many.
    pub count: u32,
}

/// What of a run's checkpoints is kept: the union of its rules. Steps are the trainer's; times are microseconds of the store's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// Those whose step is a multiple of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_interval: Option<u64>,
    /// The best by some metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_best: Vec<KeepBest>,
    /// Those that are younger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_newer_than_micros: Option<u64>,
    /// Those of the history that have no value of a metric in `keep_best`, as long as one ranks by it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub keep_without_metric: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_interval: None,
            keep_best: Vec::new(),
            keep_newer_than_micros: None,
            keep_without_metric: true,
        }
    }
}

impl Policy {
    /// Refuses what can not be meant.
    ///
    /// # Errors
    /// `Invalid`: a policy without a rule would delete all but the newest; counts and intervals are at least 1.
    pub fn check(&self) -> Result<()> {
        let least_one = |what: &str, value: Option<u64>| match value {
            Some(0) => Err(Error::invalid(format!("{what} is at least 1, not 0"))),
            _ => Ok(()),
        };
        least_one("keep_last", self.keep_last.map(u64::from))?;
        least_one("keep_interval", self.keep_interval)?;
        for best in &self.keep_best {
            least_one("the count of keep_best", Some(u64::from(best.count)))?;
            if best.metric.is_empty() {
                return Err(Error::invalid("keep_best names no metric"));
            }
        }
        if self.keep_last.is_none()
            && self.keep_interval.is_none()
            && self.keep_best.is_empty()
            && self.keep_newer_than_micros.is_none()
        {
            return Err(Error::invalid("the policy has no rule, and would delete all but the newest checkpoint")
                .with_hint("say what to keep: keep_last, keep_interval, keep_best or keep_newer_than; keep_last=1 if only the newest is wanted"));
        }
        Ok(())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Vec::new();
        rules.extend(self.keep_last.map(|count| format!("the last {count}")));
        rules.extend(
            self.keep_interval
                .map(|steps| format!("every {steps} steps")),
        );
        for best in &self.keep_best {
            let others = if self.keep_without_metric {
                " and what has no value of it"
            } else {
                ""
            };
            rules.push(format!("the best by {best}{others}"));
        }
        rules.extend(
            self.keep_newer_than_micros
                .map(|age| format!("what is younger than {}", Age(age))),
        );
        write!(f, "keep {}", rules.join(", "))
    }
}

/// A length of time in the largest unit that says it exactly.
pub(super) struct Age(pub(super) u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "min"),
            (1_000_000, "s"),
        ];
        for (micros, unit) in units {
            if self.0 >= micros && self.0.is_multiple_of(micros) {
                return write!(f, "{} {unit}", self.0 / micros);
            }
        }
        write!(f, "{:.3} s", self.0 as f64 / 1e6)
    }
}

/// `METRIC[:min|max][:COUNT]`, as in `val/loss:min:3`.
impl FromStr for KeepBest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, count) = match text.rsplit_once(':') {
            Some((rest, count))
                if count.bytes().all(|b| b.is_ascii_digit()) && !count.is_empty() =>
            {
                let count = count.parse().map_err(|_| {
                    Error::invalid(format!("{count} checkpoints are more than can be counted"))
                })?;
                (rest, count)
            }
            _ => (text, 1),
        };
        let (metric, mode) = match rest.rsplit_once(':') {
            Some((metric, "min")) => (metric, Some(Direction::Min)),
            Some((metric, "max")) => (metric, Some(Direction::Max)),
            _ => (rest, None),
        };
        Self::new(metric, mode, count)
    }
}

impl KeepBest {
    /// The rule, if it says all it has to.
    ///
    /// # Errors
    /// `Invalid` if the metric's name does not tell which end of it is the best, and `mode` does not either; or the metric has no name.
    pub fn new(metric: &str, mode: Option<Direction>, count: u32) -> Result<Self> {
        if metric.is_empty() {
            return Err(Error::invalid("keep_best names no metric"));
        }
        let mode = match mode {
            Some(mode) => mode,
            None if needs_direction(metric) => {
                return Err(Error::invalid(format!(
                    "is a small or a large value of {metric:?} the best?"
                ))
                .with_hint(format!("say {metric}:min or {metric}:max")));
            }
            None => Direction::Max,
        };
        Ok(Self {
            metric: metric.to_owned(),
            mode,
            count,
        })
    }
}

impl fmt::Display for KeepBest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Direction::Min => "min",
            Direction::Max => "max",
        };
        write!(f, "{}:{mode}", self.metric)?;
        if self.count != 1 {
            write!(f, ":{}", self.count)?;
        }
        Ok(())
    }
}
