//! What runs are sorted by, as users spell it.

use std::str::FromStr;

use runtree_core::filter::Summary;
use runtree_core::{Error, Result};

use super::RunSort;

impl FromStr for RunSort {
    type Err = Error;

    /// `created`, `last_activity`, `name`, `display_id`, `status`, `last_step`, `metric:NAME` (its last value), `min:NAME`, `max:NAME`, `config:KEY`.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "created" => RunSort::Created,
            "last_activity" => RunSort::LastActivity,
            "name" => RunSort::Name,
            "display_id" => RunSort::DisplayId,
            "status" => RunSort::Status,
            "last_step" => RunSort::LastStep,
            _ => match text.split_once(':') {
                Some(("config", key)) if !key.is_empty() => RunSort::Config(key.to_owned()),
                Some((word, name))
                    if !name.is_empty()
                        && let Some(summary) = summary_of(word) =>
                {
                    RunSort::Metric(name.to_owned(), summary)
                }
                _ => {
                    return Err(Error::invalid(format!("runs can not be sorted by {text:?}")).with_hint(
                    "sort by created, last_activity, name, display_id, status, last_step, metric:NAME, min:NAME, max:NAME or config:KEY",
                ));
                }
            },
        })
    }
}

fn summary_of(word: &str) -> Option<Summary> {
    Some(match word {
        "metric" => Summary::Last,
        "min" => Summary::Min,
        "max" => Summary::Max,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_parse_and_others_are_refused_with_the_list() {
        assert_eq!("last_step".parse::<RunSort>().unwrap(), RunSort::LastStep);
        assert_eq!(
            "metric:val/loss".parse::<RunSort>().unwrap(),
            RunSort::Metric("val/loss".to_owned(), Summary::Last)
        );
        assert_eq!(
            "min:a:b".parse::<RunSort>().unwrap(),
            RunSort::Metric("a:b".to_owned(), Summary::Min)
        );
        assert_eq!(
            "config:optim.lr".parse::<RunSort>().unwrap(),
            RunSort::Config("optim.lr".to_owned())
        );
        for bad in ["", "metric:", "size", "config"] {
            let error = bad.parse::<RunSort>().unwrap_err();
            assert!(error.hint().unwrap().contains("last_activity"), "{bad}");
        }
    }
}
