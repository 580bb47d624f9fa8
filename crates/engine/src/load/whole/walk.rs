//! The walk over all trees at once: which nodes lie over each other, and whose is the answer.
//!
//! What was decided is put into the result by [`collect`], which numbers tensors and blobs anew.

use std::collections::HashMap;

use runtree_core::manifest::Extent;
use runtree_core::state::{StateKey, StateNode, TensorLeaf, TensorRecord};
use runtree_core::{Error, Result};

use super::{Comparer, DISTRIBUTED_STATE, Differing, WholeRequest, WholeState};

mod collect;

/// The tree of one part.
pub(super) struct PartTree<'a> {
    pub(super) part: usize,
    pub(super) rank: u32,
    pub(super) tree: &'a StateNode,
    pub(super) tensors: &'a [TensorRecord],
    pub(super) blobs: &'a [Vec<Extent>],
}

impl PartTree<'_> {
    pub(super) fn record(&self, tensor: u32) -> Result<&TensorRecord> {
        self.tensors.get(tensor as usize).ok_or_else(|| {
            Error::corrupt(format!("leaf names tensor {tensor}, which is not there"))
        })
    }

    pub(super) fn blob(&self, blob: u32) -> Result<&[Extent]> {
        self.blobs
            .get(blob as usize)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::corrupt(format!("leaf names blob {blob}, which is not there")))
    }
}

/// A node of one of the trees.
pub(super) type Node<'a> = (&'a PartTree<'a>, &'a StateNode);

struct Walk<'a> {
    request: &'a WholeRequest,
    /// Whether the first tree is the asking rank's own and complete in itself: then its leaves are the answer, and the others only lend shards.
    own: bool,
    /// Whether no tree is complete: then a sequence stands as a dict of its indices, since each rank has some of the items.
    spread: bool,
    comparer: &'a Comparer<'a>,
    state: WholeState,
    /// New numbers of tensors and blobs, by part and old number: what was shared stays shared.
    tensors: HashMap<(usize, u32), u32>,
    blobs: HashMap<(usize, u32), u32>,
    /// Shards of each part by name: a rank may hold several of one tensor, of which its leaf names the first.
    shards: HashMap<(usize, &'a str), Vec<&'a TensorRecord>>,
}

/// Lays trees over each other; the first one's leaves are preferred.
pub(super) fn lay_over(
    trees: &[PartTree<'_>],
    request: &WholeRequest,
    comparer: &Comparer<'_>,
) -> Result<WholeState> {
    let mut shards: HashMap<(usize, &str), Vec<&TensorRecord>> = HashMap::new();
    for tree in trees {
        for record in tree.tensors {
            if record.global_shape.is_some() {
                shards
                    .entry((tree.part, record.name.as_str()))
                    .or_default()
                    .push(record);
            }
        }
    }
    let spread = trees.iter().all(
        |tree| matches!(tree.tree, StateNode::Stateful { class, .. } if class == DISTRIBUTED_STATE),
    );
    let mut walk = Walk {
        request,
        spread,
        own: !spread && request.own_rank == Some(trees[0].rank),
        comparer,
        state: WholeState::default(),
        tensors: HashMap::new(),
        blobs: HashMap::new(),
        shards,
    };
    let nodes: Vec<Node<'_>> = trees.iter().map(|tree| (tree, tree.tree)).collect();
    let tree = walk.node(&nodes, &mut Vec::new())?;
    walk.state.tree = tree;
    Ok(walk.state)
}

impl<'a> Walk<'a> {
    /// One node of the result, or none if it was chosen that nobody's is taken.
    fn node(&mut self, nodes: &[Node<'a>], keys: &mut Vec<StateKey>) -> Result<Option<StateNode>> {
        let (first, node) = nodes[0];
        match node {
            StateNode::Dict { kind, .. }
                if nodes
                    .iter()
                    .all(|(_, node)| matches!(node, StateNode::Dict { .. })) =>
            {
                let mut order: Vec<&StateKey> = Vec::new();
                let mut children: HashMap<&StateKey, Vec<Node<'a>>> = HashMap::new();
                for (at, (tree, node)) in nodes.iter().enumerate() {
                    let StateNode::Dict { k, v, .. } = node else {
                        continue;
                    };
                    for (key, value) in k.iter().zip(v) {
                        let found = children.entry(key).or_default();
                        if found.is_empty() && (at == 0 || !self.own) {
                            order.push(key);
                        }
                        found.push((*tree, value));
                    }
                }
                let (mut k, mut v) = (Vec::new(), Vec::new());
                for key in order {
                    keys.push(key.clone());
                    let made = self.node(&children[key], keys)?;
                    keys.pop();
                    if let Some(made) = made {
                        k.push(key.clone());
                        v.push(made);
                    }
                }
                if self.spread && is_sequence(&k) {
                    let mut items: Vec<(&StateKey, StateNode)> = k.iter().zip(v).collect();
                    items.sort_by_key(|(key, _)| index_of(key));
                    return Ok(Some(StateNode::List {
                        v: items.into_iter().map(|(_, item)| item).collect(),
                    }));
                }
                Ok(Some(StateNode::Dict {
                    kind: kind.clone(),
                    k,
                    v,
                }))
            }
            StateNode::List { .. }
            | StateNode::Tuple { .. }
            | StateNode::Deque { .. }
            | StateNode::NamedTuple { .. }
                if are_alike(nodes) =>
            {
                let items = items_of(node);
                let mut made = Vec::with_capacity(items.len());
                for index in 0..items.len() {
                    let children: Vec<Node<'a>> = nodes
                        .iter()
                        .map(|(tree, node)| (*tree, &items_of(node)[index]))
                        .collect();
                    keys.push(StateKey::Int(index.to_string()));
                    let item = self.node(&children, keys)?;
                    keys.pop();
                    // A place in a sequence stays, or the ones behind it would move.
                    made.push(item.unwrap_or(StateNode::None));
                }
                let mut node = node.clone();
                if let StateNode::List { v }
                | StateNode::Tuple { v }
                | StateNode::Deque { v, .. }
                | StateNode::NamedTuple { v, .. } = &mut node
                {
                    *v = made;
                }
                Ok(Some(node))
            }
            StateNode::Stateful { class, .. }
                if nodes
                    .iter()
                    .all(|(_, node)| matches!(node, StateNode::Stateful { .. }))
                    && (self.own
                        || (self.spread && keys.is_empty())
                        || nodes.iter().any(|(tree, node)| has_shards(tree, node))) =>
            {
                let inner: Vec<Node<'a>> = nodes
                    .iter()
                    .filter_map(|(tree, node)| match node {
                        StateNode::Stateful { state, .. } => Some((*tree, &**state)),
                        _ => None,
                    })
                    .collect();
                let state = self.node(&inner, keys)?;
                Ok(state.map(|state| StateNode::Stateful {
                    class: class.clone(),
                    state: Box::new(state),
                }))
            }
            StateNode::Tensor(leaf) if shard_of(first, leaf).is_some() => {
                let all = nodes.iter().all(|(tree, node)| match node {
                    StateNode::Tensor(leaf) => shard_of(tree, leaf).is_some(),
                    _ => false,
                });
                if all {
                    return self.shards(nodes, leaf).map(Some);
                }
                self.leaf(nodes, keys)
            }
            _ => self.leaf(nodes, keys),
        }
    }

    /// A leaf that is no shard.
    fn leaf(&mut self, nodes: &[Node<'a>], keys: &[StateKey]) -> Result<Option<StateNode>> {
        let (first, node) = nodes[0];
        if !self.own {
            let mut same = true;
            for other in &nodes[1..] {
                same = same && self.comparer.same(nodes[0], *other)?;
            }
            if !same {
                return self.choose(nodes, keys);
            }
        }
        self.adopt(first, node).map(Some)
    }

    /// A leaf that differs by rank.
    fn choose(&mut self, nodes: &[Node<'a>], keys: &[StateKey]) -> Result<Option<StateNode>> {
        let parts: Vec<String> = keys.iter().map(StateKey::path_part).collect();
        let path = parts.join(".");
        let (tree, node) = match self.request.choices.get(&path) {
            Some(None) => return Ok(None),
            Some(Some(rank)) => *nodes
                .iter()
                .find(|(tree, _)| tree.rank == *rank)
                .ok_or_else(|| {
                    Error::invalid(format!("rank {rank} has no `{path}` in this checkpoint"))
                })?,
            None => {
                self.state.differing.push(Differing {
                    path,
                    keys: keys.to_vec(),
                    ranks: nodes.iter().map(|(tree, _)| tree.rank).collect(),
                });
                nodes[0]
            }
        };
        self.adopt(tree, node).map(Some)
    }
}

/// The record of a leaf, if it is a shard.
fn shard_of<'a>(tree: &'a PartTree<'_>, leaf: &TensorLeaf) -> Option<&'a TensorRecord> {
    tree.tensors
        .get(leaf.tensor as usize)
        .filter(|record| record.global_shape.is_some())
}

/// The index that a key is, in a dict that stands for a sequence.
fn index_of(key: &StateKey) -> Option<usize> {
    match key {
        StateKey::Int(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Whether keys are the indices of a sequence, in any order.
fn is_sequence(keys: &[StateKey]) -> bool {
    let mut indices: Vec<usize> = keys.iter().filter_map(index_of).collect();
    indices.sort_unstable();
    indices.len() == keys.len()
        && !indices.is_empty()
        && indices.iter().enumerate().all(|(at, index)| at == *index)
}

/// Whether all nodes are the same kind of sequence, equally long.
fn are_alike(nodes: &[Node<'_>]) -> bool {
    let (_, first) = nodes[0];
    nodes.iter().all(|(_, node)| {
        std::mem::discriminant(*node) == std::mem::discriminant(first)
            && items_of(node).len() == items_of(first).len()
    })
}

fn items_of(node: &StateNode) -> &[StateNode] {
    match node {
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. } => v,
        _ => &[],
    }
}

/// Whether a shard lies at or below a node.
fn has_shards(tree: &PartTree<'_>, node: &StateNode) -> bool {
    match node {
        StateNode::Tensor(leaf) => shard_of(tree, leaf).is_some(),
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. }
        | StateNode::Dict { v, .. } => v.iter().any(|node| has_shards(tree, node)),
        StateNode::Stateful { state, .. } => has_shards(tree, state),
        _ => false,
    }
}
