//! Which run stands on which row, and the connectors before it. Nothing recurses: a chain of 10,000 forks is one loop.
//!
//! Parents stand before children, children by birth. Far from the margin an only child stands right below its parent, in the same
//! column, as commits do in `git log --graph`: so a long chain of forks stays narrow.

use std::collections::BTreeMap;

use runtree_core::wire::LineageTree;

use crate::look::{Look, columns};

/// Most columns that connectors may take; what is deeper is drawn at that depth.
const MAX_DEPTH: usize = 30;

/// From this depth on, an only child takes its parent's column.
const CHAIN_DEPTH: usize = 12;

/// Which way the graph grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Parents above children.
    RootFirst,
    /// Children above parents.
    NewestFirst,
}

/// Where a run stands.
#[derive(Debug)]
pub(super) struct Place {
    /// Index into the tree's runs.
    pub(super) run: usize,
    /// Connectors and the run's own mark.
    pub(super) graph: String,
    /// What stands in these columns on rows between this run and its children.
    pub(super) below: String,
}

/// The rows of a family, root first.
pub(super) fn places(tree: &LineageTree, look: Look) -> Vec<Place> {
    let index: BTreeMap<&str, usize> = tree
        .runs
        .iter()
        .enumerate()
        .map(|(position, run)| (run.summary.id.as_str(), position))
        .collect();
    let mut children = vec![Vec::new(); tree.runs.len()];
    let mut roots = Vec::new();
    for (position, run) in tree.runs.iter().enumerate() {
        let owner = run.summary.owner.as_ref();
        match owner.and_then(|owner| index.get(owner.id.as_str())) {
            Some(&parent) if parent != position => children[parent].push(position),
            _ => roots.push(position),
        }
    }
    let node = look.glyph('●', '*');
    let (bar, tee, corner) = if look.unicode {
        ("│ ", "├─", "╰─")
    } else {
        ("| ", "|-", "`-")
    };
    let mut places = Vec::with_capacity(tree.runs.len());
    // (run, columns left of it, its connector)
    let mut stack: Vec<(usize, String, &str)> = roots
        .into_iter()
        .rev()
        .map(|root| (root, String::new(), ""))
        .collect();
    while let Some((run, lead, connector)) = stack.pop() {
        let deeper = match connector {
            "" => lead.clone(),
            _ if columns(&lead) >= MAX_DEPTH => lead.clone(),
            connector if connector == tee => format!("{lead}{bar}"),
            _ => format!("{lead}  "),
        };
        let own = if children[run].is_empty() { "  " } else { bar };
        places.push(Place {
            run,
            graph: format!("{lead}{connector}{node} "),
            below: format!("{deeper}{own}"),
        });
        match children[run].as_slice() {
            [] => {}
            [only] if columns(&deeper) >= CHAIN_DEPTH => stack.push((*only, deeper, "")),
            [siblings @ .., last] => {
                stack.push((*last, deeper.clone(), corner));
                stack.extend(
                    siblings
                        .iter()
                        .rev()
                        .map(|&child| (child, deeper.clone(), tee)),
                );
            }
        }
    }
    places
}

/// Connectors of a graph whose rows were turned round.
pub(super) fn upside_down(graph: &str) -> String {
    graph
        .chars()
        .map(|c| match c {
            '╰' => '╭',
            '`' => ',',
            other => other,
        })
        .collect()
}
