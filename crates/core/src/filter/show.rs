//! A filter as text.

use std::fmt::{self, Write as _};

use super::{Comparison, Field, Filter, Relation, Summary, Value};

pub(super) fn filter(filter: &Filter, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match filter {
        Filter::All(filters) => joined(filters, " and ", f),
        Filter::Any(filters) => joined(filters, " or ", f),
        Filter::Not(inner) => {
            f.write_str("not ")?;
            inside(inner, f)
        }
        Filter::Word(word) => quote(word, f),
        Filter::Compare {
            field: of,
            comparison,
            value: with,
        } => write!(f, "{} {} {}", field(of), operator(*comparison), value(with)),
        Filter::Relative(relation, run) => {
            f.write_str(name(*relation))?;
            f.write_char('(')?;
            quote(run, f)?;
            f.write_char(')')
        }
    }
}

fn joined(filters: &[Filter], between: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, each) in filters.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        inside(each, f)?;
    }
    Ok(())
}

/// In parentheses where it would fall apart without.
fn inside(each: &Filter, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match each {
        Filter::All(_) | Filter::Any(_) => {
            f.write_char('(')?;
            filter(each, f)?;
            f.write_char(')')
        }
        _ => filter(each, f),
    }
}

pub(super) fn field(field: &Field) -> String {
    match field {
        Field::Id => "id".to_owned(),
        Field::Name => "name".to_owned(),
        Field::Key => "key".to_owned(),
        Field::Project => "project".to_owned(),
        Field::Status => "status".to_owned(),
        Field::Tag => "tag".to_owned(),
        Field::Notes => "notes".to_owned(),
        Field::Created => "created".to_owned(),
        Field::Active => "active".to_owned(),
        Field::Step => "step".to_owned(),
        Field::Attempt => "attempt".to_owned(),
        Field::Number => "number".to_owned(),
        Field::ForkStep => "fork_step".to_owned(),
        Field::Checkpoints => "checkpoints".to_owned(),
        Field::Deleted => "deleted".to_owned(),
        Field::Config(key) => format!("config.{}", quoted(key)),
        Field::Metric(metric, summary) => format!("{}({})", of(*summary), quoted(metric)),
    }
}

fn of(summary: Summary) -> &'static str {
    match summary {
        Summary::Last => "last",
        Summary::Min => "min",
        Summary::Max => "max",
    }
}

fn name(relation: Relation) -> &'static str {
    match relation {
        Relation::Descendants => "descendants",
        Relation::Ancestors => "ancestors",
        Relation::Forks => "forks",
        Relation::Root => "root",
    }
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Contains => "~",
        Comparison::ContainsNot => "!~",
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Number(_, text) => text.clone(),
        Value::Time(when) => when.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    // Writing to a string does not fail.
    let _ = quote(text, &mut quoted);
    quoted
}

fn quote(text: &str, f: &mut dyn fmt::Write) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
