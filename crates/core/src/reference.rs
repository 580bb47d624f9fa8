//! The REF grammar: how people name runs and checkpoints.
//!
//! ```text
//! REF      := [STORE#][project/]run[@selector]
//! run      := display id | key | name (name~2: the next older of that name) | RunId prefix
//! selector := step | latest | <=500 | best:METRIC[:min|max] | last-good[:METRIC] | name | checkpoint id
//! ```
//!
//! Keys and names of runs are their owners' and may hold anything but control characters. One that holds `/`, `#`, `@` or ends in `~` and a
//! number can not be spelled here: such a run is named by its display id or RunId, as the errors say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{CheckpointId, ProjectName, Step};

/// A parsed REF. What it names is decided by whoever has an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Before `#`.
    pub store: Option<String>,
    /// Before `/`.
    pub project: Option<ProjectName>,
    /// The run: a display id, key, name or RunId prefix; tried in that order.
    pub run: String,
    /// `~n` after a name: 1 is the newest.
    pub nth: Option<u32>,
    /// After `@`.
    pub selector: Option<Selector>,
}

/// Which step or checkpoint of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A step.
    Step(Step),
    /// The newest complete checkpoint on the effective timeline.
    Latest,
    /// The newest checkpoint at or before a step.
    AtMost(Step),
    /// The best checkpoint by a metric; direction as spelled.
    Best(String, Option<Direction>),
    /// The newest checkpoint before the first non-finite or spiking value (of a metric, or of any loss-like one).
    LastGood(Option<String>),
    /// A checkpoint's own name.
    Name(String),
    /// A checkpoint's id.
    Id(CheckpointId),
}

/// Whether small or large is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Small is good.
    Min,
    /// Large is good.
    Max,
}

/// Words in names of metrics where small is good.
const LOSS_LIKE: [&str; 6] = ["loss", "err", "ppl", "nll", "perplexity", "grad_norm"];

/// Whether a metric's name says that small is good.
pub fn is_loss_like(metric: &str) -> bool {
    let name = metric.to_ascii_lowercase();
    LOSS_LIKE.iter().any(|word| name.contains(word))
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(format!("{text:?} is not a REF: {why}"))
                .with_hint("a REF is [STORE#][project/]run[@selector], like MMP-42@500; a run whose key or name holds / # @ is named by its display id")
        };
        let (store, rest) = match text[..free_text_start(text)].rfind('#') {
            Some(0) => return Err(invalid("nothing before #")),
            Some(at) => (Some(text[..at].to_owned()), &text[at + 1..]),
            None => (None, text),
        };
        let (path, selector) = match rest.split_once('@') {
            Some((path, selector)) => (
                path,
                Some(
                    selector
                        .parse()
                        .map_err(|error: Error| error.in_context(format!("{text:?}")))?,
                ),
            ),
            None => (rest, None),
        };
        let (project, run) = match path.split_once('/') {
            Some((project, run)) => {
                let project = project
                    .parse()
                    .map_err(|error: Error| error.in_context(format!("{text:?}")))?;
                (Some(project), run)
            }
            None => (None, path),
        };
        let (run, nth) = match run.rsplit_once('~') {
            // A name may contain `~`; only digits after it count back.
            Some((run, nth)) if nth.bytes().all(|byte| byte.is_ascii_digit()) => {
                match nth.parse::<u32>() {
                    Ok(nth) if nth > 0 => (run, Some(nth)),
                    _ => return Err(invalid("after ~ stands a number from 1")),
                }
            }
            _ => (run, None),
        };
        if run.is_empty() {
            return Err(invalid("no run"));
        }
        Ok(Self {
            store,
            project,
            run: run.to_owned(),
            nth,
            selector,
        })
    }
}

/// Where a metric's name begins, in which `#` means nothing; else the end.
fn free_text_start(text: &str) -> usize {
    let metric = ["@best:", "@last-good:"];
    let starts = metric.iter().filter_map(|start| text.find(start));
    starts.min().unwrap_or(text.len())
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("{text:?} is not a selector: {why}"));
        if let Ok(step) = text.parse() {
            return Ok(Self::Step(Step(step)));
        }
        if let Some(step) = text.strip_prefix("<=") {
            return step
                .trim()
                .parse()
                .map(|step| Self::AtMost(Step(step)))
                .map_err(|_| invalid("after <= stands a step"));
        }
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if text == "last-good" {
            return Ok(Self::LastGood(None));
        }
        if let Some(metric) = text.strip_prefix("last-good:") {
            return if metric.is_empty() {
                Err(invalid("no metric"))
            } else {
                Ok(Self::LastGood(Some(metric.to_owned())))
            };
        }
        if let Some(best) = text.strip_prefix("best:") {
            let (metric, direction) = match best.rsplit_once(':') {
                Some((metric, "min")) => (metric, Some(Direction::Min)),
                Some((metric, "max")) => (metric, Some(Direction::Max)),
                _ => (best, None),
            };
            return if metric.is_empty() {
                Err(invalid("no metric"))
            } else {
                Ok(Self::Best(metric.to_owned(), direction))
            };
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if text.is_empty() {
            return Err(invalid("nothing after @"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(store) = &self.store {
            write!(f, "{store}#")?;
        }
        if let Some(project) = &self.project {
            write!(f, "{project}/")?;
        }
        f.write_str(&self.run)?;
        if let Some(nth) = self.nth {
            write!(f, "~{nth}")?;
        }
        self.selector
            .as_ref()
            .map_or(Ok(()), |selector| write!(f, "@{selector}"))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "{step}"),
            Self::Latest => f.write_str("latest"),
            Self::AtMost(step) => write!(f, "<={step}"),
            Self::Best(metric, None) => write!(f, "best:{metric}"),
            Self::Best(metric, Some(Direction::Min)) => write!(f, "best:{metric}:min"),
            Self::Best(metric, Some(Direction::Max)) => write!(f, "best:{metric}:max"),
            Self::LastGood(None) => f.write_str("last-good"),
            Self::LastGood(Some(metric)) => write!(f, "last-good:{metric}"),
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}
