//! `runtree runs`

use runtree_core::Timestamp;
use runtree_core::wire::{RunPage, RunSummary};
use runtree_engine::{OpenMode, RunQuery};

use crate::context::{Context, now};
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::table::{Align, Cell, Table};

/// Metrics that are shown when none are asked for.
const DEFAULT_METRICS: usize = 3;

/// List runs
///
/// A filter is words that must occur in the id, name, key, project, tags, notes or config,
/// and conditions on fields, config and metrics, joined by and, or, not and parentheses:
///
///   runtree runs adamw status:failed --sort metric:val/loss --asc
///   runtree runs 'config.lr < 1e-4 and min(val/loss) < 0.5' --sort min:val/loss --asc
///   runtree runs 'descendants(MMP-42) created > -7d' --columns id,name,config.lr,metric:loss
///
/// Fields: id name key project status tag notes created active step attempt number
/// fork_step checkpoints deleted config.KEY METRIC last(METRIC) min(METRIC) max(METRIC).
/// Comparisons: = != < <= > >= ~ (contains) !~ in (a, b). Short for =: status:failed tag:x.
/// Relatives: descendants(RUN) ancestors(RUN) forks(RUN) root(RUN), root:RUN.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Words and conditions
    filter: Vec<String>,
    /// created, last_activity, name, display_id, status, last_step, metric:NAME, min:NAME, max:NAME or config:KEY
    #[arg(long, default_value = "created")]
    sort: String,
    /// Smallest or oldest first
    #[arg(long)]
    asc: bool,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 50)]
    limit: usize,
    /// What the page before gave as `next_cursor`
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Columns: id, name, key, project, status, step, parent, children, checkpoints, tags, age, metric:NAME, config.KEY
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[])?;
    let query = RunQuery {
        filter: args.filter.join(" ").parse()?,
        project: session.project().map(str::to_owned),
        sort: args.sort.parse()?,
        descending: !args.asc,
        limit: args.limit,
        cursor: args.after,
        ..RunQuery::default()
    };
    let page = session.engine.runs(&query)?;
    if context.out.json {
        return context.out.json(&page);
    }
    let columns = if args.columns.is_empty() {
        default_columns(&page)
    } else {
        args.columns
    };
    let now = now();
    let mut table = Table::new(columns.iter().map(|column| head(column)));
    for run in &page.runs {
        table.row(columns.iter().map(|column| cell(run, column, now)));
    }
    table.print(&mut context.out)?;
    let shown = page.runs.len() as u64;
    if page.total == 0 {
        context
            .out
            .remark("no runs yet: runtree.init(\"my-project\") in a script starts one");
    } else if shown < page.total {
        context.out.remark(&format!(
            "{shown} of {} runs; --limit {} shows all.",
            human::count(page.total),
            page.total
        ));
    }
    Ok(())
}

fn default_columns(page: &RunPage) -> Vec<String> {
    let projects: std::collections::BTreeSet<_> =
        page.runs.iter().map(|run| &run.project).collect();
    let mut columns: Vec<String> = ["id", "name", "status", "step"].map(str::to_owned).to_vec();
    if projects.len() > 1 {
        columns.insert(0, "project".to_owned());
    }
    // Metrics that most runs have come first: they are what runs are compared by.
    let mut metrics: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for name in page.runs.iter().flat_map(|run| run.metrics.keys()) {
        *metrics.entry(name).or_default() += 1;
    }
    let mut metrics: Vec<_> = metrics.into_iter().collect();
    metrics.sort_by_key(|(name, runs)| (std::cmp::Reverse(*runs), *name));
    columns.extend(
        metrics
            .iter()
            .take(DEFAULT_METRICS)
            .map(|(name, _)| format!("metric:{name}")),
    );
    if page.runs.iter().any(|run| run.fork_step.is_some()) {
        columns.push("parent".to_owned());
    }
    if page.runs.iter().any(|run| !run.tags.is_empty()) {
        columns.push("tags".to_owned());
    }
    columns.push("age".to_owned());
    columns
}

fn head(column: &str) -> (String, Align) {
    match column {
        "name" | "key" | "project" | "tags" => (column.to_uppercase(), Align::Flexible),
        "step" | "children" | "checkpoints" | "age" => (column.to_uppercase(), Align::Right),
        _ => match column.split_once(':') {
            Some(("metric", name)) => (name.to_owned(), Align::Right),
            _ => match column.strip_prefix("config.") {
                Some(key) => (key.to_owned(), Align::Flexible),
                None => (column.to_uppercase(), Align::Left),
            },
        },
    }
}

fn cell(run: &RunSummary, column: &str, now: Timestamp) -> Cell {
    let text = match column {
        "id" => return Cell::styled(&run.display_id, Style::Name),
        "status" => {
            let status = if run.deleted {
                "deleted"
            } else {
                run.status.as_str()
            };
            return Cell::styled(status, human::status_style(run.status));
        }
        "name" => run.name.clone(),
        "key" => run.key.clone().unwrap_or_default(),
        "project" => run.project.clone(),
        "step" => run
            .last_step
            .map(|step| step.to_string())
            .unwrap_or_default(),
        "parent" => match (&run.owner, run.fork_step) {
            (Some(owner), Some(step)) => format!("{}@{step}", owner.display_id),
            _ => String::new(),
        },
        "children" => run.children.to_string(),
        "checkpoints" => run.checkpoints.to_string(),
        "tags" => run.tags.join(","),
        "age" => human::age(now, run.last_activity),
        _ => return other_cell(run, column),
    };
    text.into()
}

fn other_cell(run: &RunSummary, column: &str) -> Cell {
    if let Some(name) = column.strip_prefix("metric:") {
        return match run.metrics.get(name).map(|latest| latest.value.0) {
            Some(value) if value.is_finite() => human::value(value).into(),
            Some(value) => Cell::styled(human::value(value), Style::Bad),
            None => Cell::default(),
        };
    }
    let key = column.strip_prefix("config.").unwrap_or(column);
    // A key may contain dots itself, so the longest name wins at every level.
    config_value(&run.config, key).map_or_else(Cell::default, |value| human::json(value).into())
}

pub(super) fn config_value<'a>(
    config: &'a serde_json::Value,
    path: &str,
) -> Option<&'a serde_json::Value> {
    if let Some(value) = config.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.')
        .find_map(|(at, _)| config_value(config.get(&path[..at])?, &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_columns_find_nested_keys_and_keys_with_dots() {
        let config = serde_json::json!({"optim": {"lr": 1e-3, "a.b": 2}, "x.y": 3});
        assert_eq!(config_value(&config, "optim.lr"), Some(&1e-3.into()));
        assert_eq!(config_value(&config, "optim.a.b"), Some(&2.into()));
        assert_eq!(config_value(&config, "x.y"), Some(&3.into()));
        assert_eq!(config_value(&config, "optim.momentum"), None);
    }
}
