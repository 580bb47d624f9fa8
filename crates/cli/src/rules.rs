//! Retention rules on the command line.

use runtree_core::retention::{KeepBest, Policy};
use runtree_core::{Error, Result, parse_duration};

/// What to keep; a checkpoint stays if one of them keeps it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Rules {
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep those whose step is a multiple of K
    #[arg(long, visible_alias = "keep-every", value_name = "K")]
    keep_interval: Option<u64>,
    /// Keep the best by a metric, as in `val/loss:min:3`; again for another metric
    ///
    /// Its value at a checkpoint is the one given to it, else the effective point at exactly its step. `max` is the default, but a name like a
    /// loss needs `min` or `max` spelled out.
    #[arg(long, value_name = "METRIC[:min|max][:N]")]
    keep_best: Vec<KeepBest>,
    /// Keep those that are younger, as in `90s`, `15m`, `2h`, `7d`, `1w`
    #[arg(long, value_name = "AGE", value_parser = age)]
    keep_newer_than: Option<u64>,
    /// Do not keep what has no value of a metric of --keep-best
    #[arg(long, requires = "keep_best")]
    no_keep_without_metric: bool,
}

fn age(text: &str) -> Result<u64> {
    parse_duration(text)
        .and_then(|micros| u64::try_from(micros).ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{text:?} is no length of time, like 90s, 15m, 2h, 7d or 1w"
            ))
        })
}

impl Rules {
    /// The policy that they are; none if no rule was given.
    pub(crate) fn policy(self) -> Result<Option<Policy>> {
        let policy = Policy {
            keep_last: self.keep_last,
            keep_interval: self.keep_interval,
            keep_best: self.keep_best,
            keep_newer_than_micros: self.keep_newer_than,
            keep_without_metric: !self.no_keep_without_metric,
        };
        if policy == Policy::default() {
            return Ok(None);
        }
        policy.check()?;
        Ok(Some(policy))
    }
}
