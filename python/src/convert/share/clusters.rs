//! Which leaves have memory in common.

use std::collections::HashMap;

use runtree_core::state::Dtype;

use super::LeafMemory;

/// Leaves that have memory in common, by their numbers. A leaf is in one cluster at most.
#[derive(Default)]
pub(super) struct Clusters {
    by_member: HashMap<usize, Vec<usize>>,
}

impl Clusters {
    /// Finds them: among leaves of host memory by overlap, elsewhere (devices, shards) those that are the very same view.
    pub(super) fn of(leaves: &[LeafMemory]) -> Self {
        let mut clusters = Self::default();
        clusters.add_overlapping(leaves);
        clusters.add_same_views(leaves);
        clusters
    }

    /// All leaves that share memory with a leaf, itself among them, in the order of the tree; none if it is alone.
    pub(super) fn members(&self, leaf: usize) -> Option<&[usize]> {
        self.by_member.get(&leaf).map(Vec::as_slice)
    }

    fn add(&mut self, members: &[usize]) {
        if members.len() < 2 {
            return;
        }
        let mut members = members.to_vec();
        members.sort_unstable();
        for &member in &members {
            self.by_member.insert(member, members.clone());
        }
    }

    /// Walks through memory: a leaf that begins before the end of those before it is with them.
    fn add_overlapping(&mut self, leaves: &[LeafMemory]) {
        let mut open: Vec<usize> = Vec::new();
        let mut end = 0;
        for index in by_dtype_and_address(leaves) {
            let leaf = &leaves[index];
            let overlaps = open.first().is_some_and(|first: &usize| {
                let base = &leaves[*first];
                // A view begins at an element of what it is a view of.
                let item = leaf.dtype.item_bytes().max(1);
                leaf.address < end
                    && leaf.dtype == base.dtype
                    && ((leaf.address - base.address) as u64).is_multiple_of(item)
            });
            if overlaps {
                end = end.max(leaf.end());
            } else {
                self.add(&open);
                open.clear();
                end = leaf.end();
            }
            open.push(index);
        }
        self.add(&open);
    }

    /// Of several views that begin in one place, those that are the same as the first.
    fn add_same_views(&mut self, leaves: &[LeafMemory]) {
        let mut same: HashMap<(usize, Option<&str>), Vec<usize>> = HashMap::new();
        for (index, leaf) in leaves.iter().enumerate() {
            if leaf.may_be_viewed() || leaf.elements() == 0 {
                continue;
            }
            let found = same
                .entry((leaf.address, leaf.device.as_deref()))
                .or_default();
            if found
                .first()
                .is_none_or(|first| leaves[*first].same_view(leaf))
            {
                found.push(index);
            }
        }
        for members in same.values() {
            self.add(members);
        }
    }
}

/// The numbers of the leaves that may be views of others, as they lie in memory. Views are counted in elements, so that every dtype is on its own.
fn by_dtype_and_address(leaves: &[LeafMemory]) -> impl Iterator<Item = usize> {
    let mut dtypes: Vec<&Dtype> = Vec::new();
    let mut places: Vec<(usize, usize, usize)> = Vec::with_capacity(leaves.len());
    for (index, leaf) in leaves.iter().enumerate() {
        if leaf.may_be_viewed() && leaf.span() > 0 {
            let dtype = dtypes.iter().position(|dtype| **dtype == leaf.dtype);
            let dtype = dtype.unwrap_or_else(|| {
                dtypes.push(&leaf.dtype);
                dtypes.len() - 1
            });
            places.push((dtype, leaf.address, index));
        }
    }
    places.sort_unstable();
    places.into_iter().map(|(.., index)| index)
}
