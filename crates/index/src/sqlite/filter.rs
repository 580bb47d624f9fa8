//! A filter as a condition of SQL over `run`.
//!
//! Below a `NOT` every leaf is 0 or 1 and never null, so that it is what the filter language says it is: a run without a value is everything that
//! is not `=`. Elsewhere null selects nothing, as 0 does, and a comparison that stands bare finds its index.

use runtree_core::filter::{Comparison, Field, Filter, Relation, Summary, Value};
use runtree_core::{Result, RunId};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value as Sql;

use super::keys::{find_name, run_blob};
use super::runs::{STATUS, cutoff};
use crate::query::Liveness;

/// Makes `fold(text)`, lower case as Unicode has it; SQLite's own knows ASCII alone.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("fold", 1, flags, |context| {
        Ok(context.get_raw(0).as_str_or_null()?.map(str::to_lowercase))
    })
}

/// Conditions and their parameters; `?` in order.
pub(super) struct Conditions<'c> {
    connection: &'c Connection,
    liveness: Liveness,
    /// Whether what is made now stands below a `NOT`.
    negated: bool,
    /// Values of the `?`, in order.
    pub(super) parameters: Vec<Sql>,
}

impl<'c> Conditions<'c> {
    pub(super) fn new(connection: &'c Connection, liveness: Liveness) -> Self {
        Self {
            connection,
            liveness,
            negated: false,
            parameters: Vec::new(),
        }
    }

    /// The condition of a filter; its parameters are added.
    pub(super) fn of(&mut self, filter: &Filter<RunId>) -> Result<String> {
        Ok(match filter {
            Filter::All(filters) => self.joined(filters, " AND ", "1")?,
            Filter::Any(filters) => self.joined(filters, " OR ", "0")?,
            Filter::Not(inner) => self.not(|conditions| conditions.of(inner))?,
            Filter::Word(word) => {
                self.parameters.push(Sql::Text(word.to_lowercase()));
                "(run.id IN (SELECT run_id FROM search WHERE instr(text, ?) > 0))".to_owned()
            }
            Filter::Compare {
                field,
                comparison,
                value,
            } => match comparison {
                Comparison::NotEqual => {
                    self.not(|conditions| conditions.leaf(field, Comparison::Equal, value))?
                }
                Comparison::ContainsNot => {
                    self.not(|conditions| conditions.leaf(field, Comparison::Contains, value))?
                }
                comparison => self.leaf(field, *comparison, value)?,
            },
            Filter::Relative(relation, run) => self.relative(*relation, *run),
        })
    }

    fn not(&mut self, inner: impl FnOnce(&mut Self) -> Result<String>) -> Result<String> {
        let outer = std::mem::replace(&mut self.negated, true);
        let condition = inner(self);
        self.negated = outer;
        Ok(format!("NOT {}", condition?))
    }

    /// A condition on columns of `run` itself. One within `IN (SELECT …)` needs nothing: there, null leaves a row out.
    fn own(&self, condition: &str) -> String {
        if self.negated {
            format!("ifnull({condition}, 0)")
        } else {
            format!("({condition})")
        }
    }

    fn own_text(&mut self, column: &str, comparison: Comparison, value: &Value) -> String {
        let condition = self.text(column, comparison, value);
        self.own(&condition)
    }

    fn own_number(&mut self, column: &str, comparison: Comparison, value: &Value) -> String {
        let condition = self.number(column, comparison, value);
        self.own(&condition)
    }

    fn joined(&mut self, filters: &[Filter<RunId>], with: &str, none: &str) -> Result<String> {
        if filters.is_empty() {
            return Ok(none.to_owned());
        }
        let conditions: Vec<String> = filters
            .iter()
            .map(|filter| self.of(filter))
            .collect::<Result<_>>()?;
        Ok(format!("({})", conditions.join(with)))
    }

    fn leaf(&mut self, field: &Field, comparison: Comparison, value: &Value) -> Result<String> {
        Ok(match field {
            Field::Id => self.id(comparison, value),
            Field::Name => self.own_text("run.name", comparison, value),
            Field::Key => self.own_text("run.key", comparison, value),
            Field::Project => self.own_text("run.project", comparison, value),
            Field::Status => self.status(comparison, value),
            Field::Tag => format!(
                "(run.id IN (SELECT run_id FROM tag WHERE {}))",
                self.text("tag", comparison, value)
            ),
            Field::Notes => format!(
                "(run.id IN (SELECT run_id FROM detail WHERE {}))",
                self.text("notes", comparison, value)
            ),
            Field::Created => self.own_number("run.created", comparison, value),
            Field::Active => self.own_number("run.last_activity", comparison, value),
            Field::Step => self.own_number("run.last_step", comparison, value),
            Field::Attempt => self.own_number("run.attempt", comparison, value),
            Field::Number => self.own_number("run.number", comparison, value),
            Field::ForkStep => format!(
                "(run.owner IS NOT NULL AND run.id IN (SELECT run_id FROM attempt WHERE number = 1 AND {}))",
                self.number("base_step", comparison, value)
            ),
            Field::Checkpoints => format!(
                "(run.id IN (SELECT run_id FROM detail WHERE {}))",
                self.number("checkpoints", comparison, value)
            ),
            Field::Deleted => {
                let deleted = as_text(value) == "true";
                self.parameters.push(Sql::Integer(i64::from(deleted)));
                "(run.shown = ?)".to_owned()
            }
            Field::Config(key) => {
                let key = self.name(key)?;
                self.parameters.push(key);
                format!(
                    "(run.id IN (SELECT run_id FROM config WHERE key_id = ? AND {}))",
                    self.config(comparison, value)
                )
            }
            Field::Metric(metric, summary) => {
                let metric = self.name(metric)?;
                self.parameters.push(metric);
                let column = match summary {
                    Summary::Last => "value",
                    Summary::Min => "min",
                    Summary::Max => "max",
                };
                format!(
                    "(run.id IN (SELECT run_id FROM latest WHERE metric_id = ? AND {}))",
                    self.number(column, comparison, value)
                )
            }
        })
    }

    /// Row of a name; of one that nothing is called, a row that nothing has.
    fn name(&self, name: &str) -> Result<Sql> {
        find_name(self.connection, name).map(|id| Sql::Integer(id.unwrap_or(-1)))
    }

    fn text(&mut self, column: &str, comparison: Comparison, value: &Value) -> String {
        let text = as_text(value);
        if comparison == Comparison::Contains {
            self.parameters.push(Sql::Text(text.to_lowercase()));
            return format!("instr(fold({column}), ?) > 0");
        }
        self.parameters.push(Sql::Text(text));
        format!("{column} {} ?", sign(comparison))
    }

    /// Status now. What is not running is so in the table, where an index has it.
    fn status(&mut self, comparison: Comparison, value: &Value) -> String {
        if comparison != Comparison::Equal {
            self.parameters.push(Sql::Integer(cutoff(self.liveness)));
            return self.own_text(STATUS, comparison, value);
        }
        let (condition, parameter) = status_is(&as_text(value), self.liveness);
        self.parameters.push(parameter);
        self.own(condition)
    }

    fn number(&mut self, column: &str, comparison: Comparison, value: &Value) -> String {
        let number = match value {
            Value::Number(number, _) if number.is_nan() => {
                // NaN is null, and equal to itself alone.
                let null = match comparison {
                    Comparison::Equal => "IS NULL",
                    _ => "IS NULL AND 0",
                };
                return format!("{column} {null}");
            }
            Value::Number(number, _) => Sql::Real(*number),
            Value::Time(when) => Sql::Integer(when.from(self.liveness.now).0),
            Value::Text(_) => Sql::Null,
        };
        self.parameters.push(number);
        format!("{column} {} ?", sign(comparison))
    }

    /// A config value: as a number if both are numbers, else as text.
    fn config(&mut self, comparison: Comparison, value: &Value) -> String {
        match value {
            Value::Number(number, text)
                if number.is_finite() && comparison != Comparison::Contains =>
            {
                self.parameters.push(Sql::Real(*number));
                self.parameters.push(Sql::Text(text.clone()));
                let sign = sign(comparison);
                format!("(number {sign} ? OR (number IS NULL AND text {sign} ?))")
            }
            _ if comparison == Comparison::Contains => self.text("text", comparison, value),
            _ => format!(
                "(number IS NULL AND {})",
                self.text("text", comparison, value)
            ),
        }
    }

    fn id(&mut self, comparison: Comparison, value: &Value) -> String {
        let text = as_text(value);
        if comparison == Comparison::Equal
            && let Ok(run) = text.parse::<RunId>()
        {
            self.parameters.push(Sql::Blob(run_blob(run).to_vec()));
            return "(run.run = ?)".to_owned();
        }
        if comparison == Comparison::Equal {
            // Display ids are written in capitals; nobody types them so.
            self.parameters.push(Sql::Text(text.to_uppercase()));
            return self.own("run.display_id = ?");
        }
        self.own_text("run.display_id", comparison, value)
    }

    fn relative(&mut self, relation: Relation, run: RunId) -> String {
        let id = Sql::Blob(run_blob(run).to_vec());
        let (condition, count) = match relation {
            Relation::Root => ("(run.root = (SELECT root FROM run WHERE run = ?))", 1),
            // `IS` is never null.
            Relation::Forks => ("(run.owner IS ? OR run.declared IS ?)", 2),
            Relation::Descendants => (
                "(run.run IN (
                   WITH RECURSIVE below(run) AS (
                     SELECT run FROM run WHERE owner = ? OR declared = ?
                     UNION SELECT heir.run FROM below JOIN run AS heir ON heir.owner = below.run
                     UNION SELECT heir.run FROM below JOIN run AS heir ON heir.declared = below.run)
                   SELECT run FROM below))",
                2,
            ),
            Relation::Ancestors => (
                "(run.run IN (
                   WITH RECURSIVE above(run) AS (
                     SELECT owner FROM run WHERE run = ? UNION SELECT declared FROM run WHERE run = ?
                     UNION SELECT heir.owner FROM above JOIN run AS heir ON heir.run = above.run
                     UNION SELECT heir.declared FROM above JOIN run AS heir ON heir.run = above.run)
                   SELECT run FROM above WHERE run IS NOT NULL))",
                2,
            ),
        };
        self.parameters.extend(std::iter::repeat_n(id, count));
        condition.to_owned()
    }
}

/// The condition that a run's status now is `status`, with its parameter.
pub(super) fn status_is(status: &str, liveness: Liveness) -> (&'static str, Sql) {
    let cutoff = Sql::Integer(cutoff(liveness));
    match status {
        "lost" => ("run.status = 'running' AND run.sign < ?", cutoff),
        "running" => (
            "run.status = 'running' AND ifnull(run.sign >= ?, 1)",
            cutoff,
        ),
        other => ("run.status = ?", Sql::Text(other.to_owned())),
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Number(_, text) => text.clone(),
        Value::Time(when) => when.to_string(),
    }
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::NotEqual => "<>",
        Comparison::Equal | Comparison::Contains | Comparison::ContainsNot => "=",
    }
}
