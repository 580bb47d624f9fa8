//! A run's config as its columns: merged, flattened, searched.

use std::collections::BTreeMap;

use runtree_core::Result;
use runtree_core::manifest::RunRecord;
use rusqlite::Connection;
use serde_json::Value;

use super::super::keys::from_json;
use super::rows_with;

pub(super) fn config(connection: &Connection, run_id: i64, record: &RunRecord) -> Result<Value> {
    let mut config = record.config.clone();
    let patches = rows_with(
        connection,
        "SELECT patch FROM patch WHERE run_id = ?1 ORDER BY lamport, writer, ordinal",
        run_id,
        |row| row.get::<_, String>(0),
    )?;
    for patch in patches {
        merge(&mut config, from_json(&patch, "a config patch")?);
    }
    Ok(config)
}

/// Deep merge: objects key by key, everything else is replaced.
fn merge(config: &mut Value, patch: Value) {
    // A loop over pairs, not recursion: patches come from journals and may nest as deep as the JSON parser allows.
    let mut work = vec![(config, patch)];
    while let Some((target, patch)) = work.pop() {
        match (target, patch) {
            (Value::Object(target), Value::Object(patch)) => {
                let mut patch: BTreeMap<String, Value> = patch.into_iter().collect();
                for key in patch.keys() {
                    target.entry(key.clone()).or_insert(Value::Null);
                }
                for (key, slot) in target.iter_mut() {
                    if let Some(value) = patch.remove(key) {
                        work.push((slot, value));
                    }
                }
            }
            (target, patch) => *target = patch,
        }
    }
}

/// Dotted paths and values of everything in a config that is not a non-empty object.
pub(super) fn config_leaves(config: &Value) -> Vec<(String, &Value)> {
    let mut leaves = Vec::new();
    let mut work = vec![(String::new(), config)];
    while let Some((path, value)) = work.pop() {
        match value {
            Value::Object(object) if !object.is_empty() => {
                for (key, value) in object.iter().rev() {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    work.push((path, value));
                }
            }
            _ if path.is_empty() => {}
            value => leaves.push((path, value)),
        }
    }
    leaves
}

/// A config value as a number, if it is one, and as a user would write it.
pub(super) fn config_columns(value: &Value) -> (Option<f64>, String) {
    match value {
        Value::Number(number) => (number.as_f64(), number.to_string()),
        Value::String(text) => (None, text.clone()),
        other => (None, other.to_string()),
    }
}

/// What free-text search looks through, in lowercase; fields are kept apart by a character nobody types.
pub(super) fn search_text(
    record: &RunRecord,
    name: &str,
    notes: Option<&str>,
    tags: &[String],
    leaves: &[(String, &Value)],
) -> String {
    let mut text = format!("{name}\n{}\n{}", record.display_id, record.project);
    if let Some(key) = &record.key {
        text.push('\n');
        text.push_str(key);
    }
    if let Some(notes) = notes {
        text.push('\n');
        text.push_str(notes);
    }
    for tag in tags {
        text.push('\n');
        text.push_str(tag);
    }
    for (_, value) in leaves {
        text.push('\n');
        text.push_str(&config_columns(value).1);
    }
    text.to_lowercase()
}
