//! Configs: JSON objects, merged deeply, compared by dotted path.

use runtree_core::wire::ConfigChange;
use runtree_core::{Error, Result};
use serde_json::Value;

/// Refuses anything but an object.
pub(crate) fn require_object(config: &Value) -> Result<&Value> {
    if config.is_object() {
        return Ok(config);
    }
    Err(Error::invalid("a config is an object with string keys"))
}

/// `over` merged into `base`: objects key by key, everything else replaced whole.
pub(crate) fn merge(base: &Value, over: &Value) -> Value {
    let (Value::Object(base_map), Value::Object(over_map)) = (base, over) else {
        return over.clone();
    };
    let mut merged = base_map.clone();
    for (key, value) in over_map {
        let value = match merged.get(key) {
            Some(below) => merge(below, value),
            None => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    Value::Object(merged)
}

/// Leaves by dotted path, in order. An empty object is a leaf.
pub(crate) fn leaves(config: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(config, String::new(), &mut found);
    found
}

fn collect<'a>(value: &'a Value, path: String, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() || path.is_empty() => {
            for (key, below) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(below, path, found);
            }
        }
        leaf => found.push((path, leaf)),
    }
}

/// Dotted paths of the leaves of `base` that `over` says nothing about.
pub(crate) fn inherited_keys(base: &Value, over: &Value) -> Vec<String> {
    let merged = merge(base, over);
    let own: std::collections::BTreeSet<String> =
        leaves(over).into_iter().map(|(path, _)| path).collect();
    let was: std::collections::BTreeSet<String> =
        leaves(base).into_iter().map(|(path, _)| path).collect();
    leaves(&merged)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| was.contains(path) && !own.contains(path))
        .collect()
}

/// What differs, by dotted path in order.
pub(crate) fn diff(before: &Value, after: &Value) -> Vec<ConfigChange> {
    let before: std::collections::BTreeMap<_, _> = leaves(before).into_iter().collect();
    let after: std::collections::BTreeMap<_, _> = leaves(after).into_iter().collect();
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| ConfigChange {
            key: key.clone(),
            before: before
                .get(key)
                .map_or(Value::Null, |value| (*value).clone()),
            after: after.get(key).map_or(Value::Null, |value| (*value).clone()),
            had_before: before.contains_key(key),
            has_after: after.contains_key(key),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_merge_deeply_and_explicit_keys_win() {
        let base = json!({"lr": 0.1, "model": {"layers": 4, "width": 8}, "data": [1, 2]});
        let over = json!({"lr": 0.01, "model": {"width": 16}, "data": [3]});
        assert_eq!(
            merge(&base, &over),
            json!({"lr": 0.01, "model": {"layers": 4, "width": 16}, "data": [3]})
        );
        assert_eq!(inherited_keys(&base, &over), ["model.layers"]);
    }

    #[test]
    fn a_diff_names_what_came_went_and_changed() {
        let changes = diff(
            &json!({"a": 1, "b": {"c": 2}}),
            &json!({"b": {"c": 3}, "d": null}),
        );
        let keys: Vec<_> = changes
            .iter()
            .map(|change| (change.key.as_str(), change.had_before, change.has_after))
            .collect();
        assert_eq!(
            keys,
            [("a", true, false), ("b.c", true, true), ("d", false, true)]
        );
    }
}
