//! The filter language of run lists, shared by the API and the command line: words, and `key:value` terms.
//!
//! ```text
//! status:running tag:baseline root:MMP-3 deleted:true adamw 3e-4
//! ```
//!
//! Terms narrow a [`RunQuery`]; every other word must occur somewhere in the run (as `search`).

use runtree_core::{Error, Result};
use runtree_engine::{Engine, Purpose, RunQuery, RunSort};

/// Narrows `query` by `text`.
///
/// # Errors
/// `Invalid` for a value that a term does not take; as [`Engine::resolve_run`] for `root:`.
pub fn refine(engine: &Engine, query: &mut RunQuery, text: &str) -> Result<()> {
    let mut words: Vec<&str> = Vec::new();
    for term in text.split_whitespace() {
        match term.split_once(':') {
            Some(("status", status)) => query.statuses.push(status.parse()?),
            Some(("tag", tag)) => query.tags.push(tag.to_owned()),
            Some(("project", project)) => query.project = Some(project.to_owned()),
            Some(("root", run)) => {
                let run = engine.resolve_run(run, query.project.as_deref(), Purpose::Read)?;
                query.root = Some(engine.summary(run)?.root.parse()?);
            }
            Some(("deleted", "true")) => query.deleted = true,
            Some(("deleted", "false")) => query.deleted = false,
            Some(("deleted", other)) => {
                return Err(Error::invalid(format!(
                    "deleted: takes true or false, not {other:?}"
                )));
            }
            _ => words.push(term),
        }
    }
    if !words.is_empty() {
        let words = words.join(" ");
        query.search = Some(match query.search.take() {
            Some(search) => format!("{search} {words}"),
            None => words,
        });
    }
    Ok(())
}

/// Parses what runs are sorted by: `created`, `last_activity`, `name`, `display_id`, `status`, `last_step`, `metric:NAME`, `config:KEY`.
///
/// # Errors
/// `Invalid`, listing what there is.
pub fn parse_sort(text: &str) -> Result<RunSort> {
    Ok(match text {
        "created" => RunSort::Created,
        "last_activity" => RunSort::LastActivity,
        "name" => RunSort::Name,
        "display_id" => RunSort::DisplayId,
        "status" => RunSort::Status,
        "last_step" => RunSort::LastStep,
        _ => match text.split_once(':') {
            Some(("metric", name)) if !name.is_empty() => RunSort::Metric(name.to_owned()),
            Some(("config", key)) if !key.is_empty() => RunSort::Config(key.to_owned()),
            _ => {
                return Err(Error::invalid(format!("runs can not be sorted by {text:?}")).with_hint(
                    "sort by created, last_activity, name, display_id, status, last_step, metric:NAME or config:KEY",
                ));
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_parse_and_others_are_refused_with_the_list() {
        assert_eq!(parse_sort("last_step").unwrap(), RunSort::LastStep);
        assert_eq!(
            parse_sort("metric:val/loss").unwrap(),
            RunSort::Metric("val/loss".to_owned())
        );
        assert_eq!(
            parse_sort("config:optim.lr").unwrap(),
            RunSort::Config("optim.lr".to_owned())
        );
        for bad in ["", "metric:", "size", "config"] {
            let error = parse_sort(bad).unwrap_err();
            assert!(error.hint().unwrap().contains("last_activity"), "{bad}");
        }
    }
}
