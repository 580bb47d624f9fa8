//! `keys=`: which leaves of a saved tree are wanted, by globs over dotted paths.

use runtree_core::state::StateNode;

/// Keeps what lies at, above or below a path that one of `patterns` matches; `None` if nothing does.
///
/// Dicts lose the keys that nobody asked for; lists and tuples stay whole if any item is wanted, so that indices keep their meaning.
pub(crate) fn select(node: &StateNode, patterns: &[String]) -> Option<StateNode> {
    keep(node, "", patterns)
}

/// Whether a dotted name, or a path above it, matches one of `patterns`: the same tensors as [`select`] keeps of a dict.
pub(crate) fn selects(patterns: &[String], name: &str) -> bool {
    let above = name.match_indices('.').map(|(dot, _)| &name[..dot]);
    above
        .chain([name])
        .any(|path| patterns.iter().any(|pattern| matches(pattern, path)))
}

/// A child's dotted path.
pub(crate) fn join(path: &str, part: &str) -> String {
    if path.is_empty() {
        part.to_owned()
    } else {
        format!("{path}.{part}")
    }
}

fn keep(node: &StateNode, path: &str, patterns: &[String]) -> Option<StateNode> {
    if !path.is_empty() && patterns.iter().any(|pattern| matches(pattern, path)) {
        return Some(node.clone());
    }
    match node {
        StateNode::Dict { kind, k, v } => {
            let (keys, values): (Vec<_>, Vec<_>) = k
                .iter()
                .zip(v)
                .filter_map(|(key, value)| {
                    let kept = keep(value, &join(path, &key.path_part()), patterns)?;
                    Some((key.clone(), kept))
                })
                .unzip();
            (!keys.is_empty()).then(|| StateNode::Dict {
                kind: kind.clone(),
                k: keys,
                v: values,
            })
        }
        StateNode::List { v } | StateNode::Tuple { v } | StateNode::Deque { v, .. } => {
            any_item(v, path, patterns).then(|| node.clone())
        }
        StateNode::NamedTuple { fields, v, .. } => fields
            .iter()
            .zip(v)
            .any(|(field, value)| keep(value, &join(path, field), patterns).is_some())
            .then(|| node.clone()),
        StateNode::Stateful { state, .. } => keep(state, path, patterns),
        _ => None,
    }
}

fn any_item(items: &[StateNode], path: &str, patterns: &[String]) -> bool {
    items
        .iter()
        .enumerate()
        .any(|(index, item)| keep(item, &join(path, &index.to_string()), patterns).is_some())
}

/// Glob with `*` (any run of characters, dots included) and `?`.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where the last `*` was, and how far it has eaten: the only place to come back to.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(symbol) if *symbol == '?' || *symbol == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((star_at, eaten)) => {
                    star = Some((star_at, eaten + 1));
                    at = star_at + 1;
                    read = eaten + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|symbol| *symbol == '*')
}
