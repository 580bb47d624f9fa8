//! A checkpoint's parts as one state: what a rank loads on any world size.
//!
//! Every rank saved a tree of its own. Laid over each other, their leaves are of three kinds: shards of one global tensor, which are put
//! together (or of which any box is read, and nothing else); leaves that are equal everywhere, or that one rank alone has; and leaves that
//! differ by rank, such as a random generator or the place in a data set. For the rank that saved a part, its own leaf is the answer. On
//! another world size nothing says who gets which: those are listed as [`Differing`], and the caller chooses.
//!
//! A stateful object without shards is one leaf here: half of one rank's data loader and half of another's is nobody's.
//!
//! The walk over the trees makes the state, with answers of `compare`; `tensor` says where the elements of a box are, and `read` reads them.

use std::collections::BTreeMap;

use runtree_core::manifest::{EntryContent, Extent};
use runtree_core::state::{StateKey, StateNode};
use runtree_core::{Error, Result};

use super::LoadedManifest;
use crate::engine::Engine;

mod compare;
mod read;
mod tensor;
mod walk;

pub use tensor::{MAX_STRETCHES, RegionRead, ShardSource, WholeTensor};

use compare::Comparer;

/// Class of the root of a state whose leaves several ranks saved each some of, as torch's distributed checkpoints divide them: no rank's own
/// tree is complete, the state is all of them together.
pub const DISTRIBUTED_STATE: &str = "runtree.torch:DistributedState";

/// Bytes that stand beside the tensors.
#[derive(Clone, Debug)]
pub struct WholeBlob {
    /// Index into [`LoadedManifest::parts`].
    pub part: usize,
    /// Where they are.
    pub extents: Vec<Extent>,
}

/// The state trees of all ranks as one.
#[derive(Clone, Debug, Default)]
pub struct WholeState {
    /// The tree; leaves name [`WholeState::tensors`] and [`WholeState::blobs`].
    pub tree: Option<StateNode>,
    /// Its tensors.
    pub tensors: Vec<WholeTensor>,
    /// Its long byte strings.
    pub blobs: Vec<WholeBlob>,
    /// Leaves that differ by rank and that nothing was chosen for; the tree has the first rank's.
    pub differing: Vec<Differing>,
}

/// A leaf that differs by rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Its dotted path.
    pub path: String,
    /// Its keys, from the root.
    pub keys: Vec<StateKey>,
    /// Ranks that have it.
    pub ranks: Vec<u32>,
}

/// Who asks for a state.
#[derive(Clone, Debug, Default)]
pub struct WholeRequest {
    /// The rank whose own leaves win; none on another world size.
    pub own_rank: Option<u32>,
    /// What was chosen for leaves that differ, by dotted path: a rank's, or none of them.
    pub choices: BTreeMap<String, Option<u32>>,
}

impl WholeState {
    /// The tensor of a dotted name.
    pub fn tensor(&self, name: &str) -> Option<&WholeTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

impl Engine {
    /// Lays the state trees `entry` of all parts of `component` over each other. Reads manifests that are loaded already, and the bytes of small
    /// leaves where only those can tell whether ranks differ.
    ///
    /// # Errors
    /// `NotFound` if no part has such a state; `Corrupt` if shards of one name do not belong to one tensor.
    pub fn whole_state(
        &self,
        manifest: &LoadedManifest,
        component: &str,
        entry: &str,
        request: &WholeRequest,
    ) -> Result<WholeState> {
        let mut trees = Vec::new();
        for (part, record) in manifest.parts.iter().enumerate() {
            let content = record.entries.iter().find_map(|found| {
                let state = found.path == entry && record.component.as_str() == component;
                match &found.content {
                    EntryContent::State {
                        tree,
                        tensors,
                        blobs,
                    } if state => Some((tree, tensors, blobs)),
                    _ => None,
                }
            });
            if let Some((tree, tensors, blobs)) = content {
                trees.push(walk::PartTree {
                    part,
                    rank: record.rank,
                    tree,
                    tensors,
                    blobs,
                });
            }
        }
        if trees.is_empty() {
            return Err(Error::not_found(format!(
                "no part of {component} has a state tree `{entry}`"
            )));
        }
        if let Some(own) = request.own_rank {
            // Own leaves are preferred, and own shards are read before replicas of them.
            trees.sort_by_key(|tree| tree.rank != own);
        }
        walk::lay_over(&trees, request, &Comparer::new(self, manifest))
    }
}
