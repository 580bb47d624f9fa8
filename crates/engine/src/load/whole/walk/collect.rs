//! The result of a walk: tensors and blobs of many parts under numbers of their own, each once; what was shared in a part stays shared.

use runtree_core::state::{StateNode, TensorLeaf};
use runtree_core::{Error, Result};

use super::{Node, PartTree, Walk};
use crate::load::{ShardSource, WholeBlob, WholeTensor};

impl<'a> Walk<'a> {
    /// Shards of all parts as one tensor.
    pub(super) fn shards(&mut self, nodes: &[Node<'a>], leaf: &TensorLeaf) -> Result<StateNode> {
        let (first, _) = nodes[0];
        let key = (first.part, leaf.tensor);
        let index = if let Some(index) = self.tensors.get(&key) {
            *index
        } else {
            let record = first.record(leaf.tensor)?;
            let shape = record.global_shape.clone().unwrap_or_default();
            let mut sources = Vec::new();
            for (tree, node) in nodes {
                let StateNode::Tensor(leaf) = node else {
                    continue;
                };
                let named = tree.record(leaf.tensor)?;
                let others = self.shards.get(&(tree.part, named.name.as_str()));
                let others = others.map_or(&[][..], Vec::as_slice);
                for shard in std::iter::once(named).chain(
                    others
                        .iter()
                        .copied()
                        .filter(|other| !std::ptr::eq(*other, named)),
                ) {
                    if shard.global_shape.as_ref() != Some(&shape) || shard.dtype != record.dtype {
                        return Err(Error::corrupt(format!(
                            "shards of {:?} are {} {shape:?} on rank {} and {} {:?} on rank {}",
                            record.name,
                            record.dtype,
                            first.rank,
                            shard.dtype,
                            shard.global_shape.as_deref().unwrap_or_default(),
                            tree.rank
                        ))
                        .with_hint("optimizer states of pipeline stages have clashing numbers: save get_optimizer_state_dict(...), which names them"));
                    }
                    sources.push(ShardSource::new(tree.part, shard));
                }
            }
            let own = self
                .request
                .own_rank
                .filter(|own| *own == first.rank)
                .map(|_| sources[0].region.clone());
            self.push_tensor(
                key,
                WholeTensor {
                    name: record.name.clone(),
                    dtype: record.dtype.clone(),
                    shape,
                    sharded: true,
                    own,
                    sources,
                },
            )
        };
        Ok(StateNode::Tensor(TensorLeaf {
            tensor: index,
            ..leaf.clone()
        }))
    }

    fn push_tensor(&mut self, key: (usize, u32), tensor: WholeTensor) -> u32 {
        let index = self.state.tensors.len() as u32;
        self.state.tensors.push(tensor);
        self.tensors.insert(key, index);
        index
    }

    /// A node of one part with everything below it, renumbered.
    pub(super) fn adopt(&mut self, tree: &'a PartTree<'a>, node: &StateNode) -> Result<StateNode> {
        let mut node = node.clone();
        self.renumber(tree, &mut node)?;
        Ok(node)
    }

    fn renumber(&mut self, tree: &'a PartTree<'a>, node: &mut StateNode) -> Result<()> {
        match node {
            StateNode::Tensor(leaf) => {
                let key = (tree.part, leaf.tensor);
                leaf.tensor = if let Some(index) = self.tensors.get(&key) {
                    *index
                } else {
                    let record = tree.record(leaf.tensor)?;
                    let source = ShardSource::new(tree.part, record);
                    let tensor = WholeTensor {
                        name: record.name.clone(),
                        dtype: record.dtype.clone(),
                        shape: record
                            .global_shape
                            .clone()
                            .unwrap_or_else(|| record.shape.clone()),
                        sharded: record.global_shape.is_some(),
                        own: record.global_shape.as_ref().map(|_| source.region.clone()),
                        sources: vec![source],
                    };
                    self.push_tensor(key, tensor)
                };
                Ok(())
            }
            StateNode::LongStr { blob } | StateNode::LongBytes { blob, .. } => {
                let key = (tree.part, *blob);
                *blob = if let Some(index) = self.blobs.get(&key) {
                    *index
                } else {
                    let index = self.state.blobs.len() as u32;
                    self.state.blobs.push(WholeBlob {
                        part: tree.part,
                        extents: tree.blob(*blob)?.to_vec(),
                    });
                    self.blobs.insert(key, index);
                    index
                };
                Ok(())
            }
            StateNode::List { v }
            | StateNode::Tuple { v }
            | StateNode::Deque { v, .. }
            | StateNode::Set { v, .. }
            | StateNode::NamedTuple { v, .. }
            | StateNode::Dict { v, .. } => {
                v.iter_mut().try_for_each(|node| self.renumber(tree, node))
            }
            StateNode::Stateful { state: inner, .. } | StateNode::Enum { value: inner, .. } => {
                self.renumber(tree, inner)
            }
            _ => Ok(()),
        }
    }
}
