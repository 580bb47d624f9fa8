//! Boxes of elements in a tensor, and how one is copied out of others: what a shard holds, what a rank wants, and which stretches of
//! memory both have in common.
//!
//! ```text
//! global 4 × 6            shard A = rows 0–1          wanted = columns 1–2           copies from A (row-major on both sides)
//! . . . . . .             # # # # # #                 . w w . . .                    A[1..3] → w[0..2]
//! . . . . . .             # # # # # #                 . w w . . .                    A[7..9] → w[2..4]
//! . . . . . .             . . . . . .                 . w w . . .
//! . . . . . .             . . . . . .                 . w w . . .
//! ```
//!
//! Everything counts elements; bytes are the caller's. Boxes come from manifests that were checked ([`TensorRecord::check`]), so that
//! the products of their sizes fit into 64 bits.
//!
//! [`TensorRecord::check`]: super::TensorRecord

use crate::error::{Error, Result};

/// A box of elements of a tensor: where it begins and how far it reaches, per dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    /// First element, per dimension.
    pub offset: Vec<u64>,
    /// Elements, per dimension. A tensor of no dimension has one element.
    pub shape: Vec<u64>,
}

/// Elements that lie one after another on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First element in the source's memory, which is row-major.
    pub source: u64,
    /// First element in the target's memory.
    pub target: u64,
    /// How many.
    pub count: u64,
}

impl Region {
    /// All of a tensor.
    pub fn whole(shape: &[u64]) -> Self {
        Self {
            offset: vec![0; shape.len()],
            shape: shape.to_vec(),
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether it lies inside a tensor of `shape`.
    pub fn fits(&self, shape: &[u64]) -> bool {
        self.offset.len() == shape.len()
            && self.shape.len() == shape.len()
            && (self.offset.iter().zip(&self.shape))
                .zip(shape)
                .all(|((offset, size), whole)| {
                    offset.checked_add(*size).is_some_and(|end| end <= *whole)
                })
    }

    /// What two boxes have in common; `None` if that is nothing, or they have another number of dimensions.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.shape.len() != other.shape.len() {
            return None;
        }
        let mut found = Self {
            offset: Vec::with_capacity(self.shape.len()),
            shape: Vec::with_capacity(self.shape.len()),
        };
        for d in 0..self.shape.len() {
            let start = self.offset[d].max(other.offset[d]);
            let end = (self.offset[d] + self.shape[d]).min(other.offset[d] + other.shape[d]);
            if start >= end {
                return None;
            }
            found.offset.push(start);
            found.shape.push(end - start);
        }
        Some(found)
    }

    /// What is left without `other`, in boxes that do not overlap: at most two per dimension.
    pub fn without(&self, other: &Self) -> Vec<Self> {
        let Some(hole) = self.intersection(other) else {
            return vec![self.clone()];
        };
        let mut left = Vec::new();
        let mut middle = self.clone();
        for d in 0..self.shape.len() {
            let end = middle.offset[d] + middle.shape[d];
            let (hole_start, hole_end) = (hole.offset[d], hole.offset[d] + hole.shape[d]);
            for (from, to) in [(middle.offset[d], hole_start), (hole_end, end)] {
                if from < to {
                    let mut piece = middle.clone();
                    piece.offset[d] = from;
                    piece.shape[d] = to - from;
                    left.push(piece);
                }
            }
            // What lies before and behind in this dimension is dealt with: the rest is as wide as the hole.
            middle.offset[d] = hole_start;
            middle.shape[d] = hole.shape[d];
        }
        left
    }

    /// The same box, seen from a tensor that begins at `origin`.
    fn relative_to(&self, origin: &[u64]) -> impl Iterator<Item = u64> {
        self.offset
            .iter()
            .zip(origin)
            .map(|(offset, origin)| offset - origin)
    }

    /// Cuts it along its first dimensions into boxes of at most `most` stretches each, as [`stretches`] of any source would count them. In order:
    /// row-major, one box's elements follow those of the one before.
    pub fn split(self, most: u64) -> Vec<Self> {
        self.cut(most.max(1), &|shape| {
            shape
                .split_last()
                .map_or(1, |(_, rows)| rows.iter().product())
        })
    }

    /// Cuts it along its first dimensions into boxes of at most `most` elements each, in order.
    pub fn windows(self, most: u64) -> Vec<Self> {
        self.cut(most.max(1), &|shape| shape.iter().product())
    }

    fn cut(self, most: u64, weigh: &dyn Fn(&[u64]) -> u64) -> Vec<Self> {
        if self.is_empty() || weigh(&self.shape) <= most {
            return vec![self];
        }
        let axis = self.shape.iter().position(|size| *size > 1).unwrap_or(0);
        let mut row = self.shape.clone();
        row[axis] = 1;
        let inner = weigh(&row);
        let step = (most / inner.max(1)).max(1);
        let end = self.offset[axis] + self.shape[axis];
        let mut pieces = Vec::new();
        let mut from = self.offset[axis];
        while from < end {
            let to = (from + step).min(end);
            let mut piece = self.clone();
            piece.offset[axis] = from;
            piece.shape[axis] = to - from;
            // One row may still be too much: then it is cut behind this dimension.
            if inner > most {
                pieces.extend(piece.cut(most, weigh));
            } else {
                pieces.push(piece);
            }
            from = to;
        }
        pieces
    }
}

/// Row-major strides of a shape, in elements.
pub fn row_major(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1_u64; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d].saturating_mul(shape[d]);
    }
    strides
}

/// Whether no two elements of a strided view share memory; may say no to exotic views that do not either.
pub fn is_injective(shape: &[u64], strides: &[u64]) -> bool {
    if shape.len() != strides.len() {
        return false;
    }
    if shape.contains(&0) {
        return true;
    }
    let mut axes: Vec<(u64, u64)> = (strides.iter().copied())
        .zip(shape.iter().copied())
        .filter(|(_, size)| *size > 1)
        .collect();
    axes.sort_unstable();
    let mut reach = 0_u64;
    for (stride, size) in axes {
        // An axis must step over everything that the finer ones reach.
        if stride <= reach {
            return false;
        }
        let Some(more) = stride.checked_mul(size - 1) else {
            return false;
        };
        let Some(sum) = reach.checked_add(more) else {
            return false;
        };
        reach = sum;
    }
    true
}

/// The stretches of `wanted` that lie one after another both in a row-major `source` and in a `target` with `strides`, in the order of
/// `wanted`. `wanted` lies inside both.
///
/// As long as possible: dimensions that are whole on both sides are one stretch.
pub fn stretches<'a>(
    wanted: &'a Region,
    source: &Region,
    target: &Region,
    strides: &'a [u64],
) -> impl Iterator<Item = Stretch> + use<'a> {
    let dimensions = wanted.shape.len();
    let source_strides = row_major(&source.shape);
    // From the back: a dimension joins if one step of it is just behind the stretch of those after it, on both sides.
    let mut count = 1;
    let mut outer = dimensions;
    while outer > 0 {
        let size = wanted.shape[outer - 1];
        if size != 1 && (source_strides[outer - 1] != count || strides[outer - 1] != count) {
            break;
        }
        count *= size;
        outer -= 1;
    }
    let start = |origin: &[u64], strides: &[u64]| -> u64 {
        wanted
            .relative_to(origin)
            .zip(strides)
            .map(|(at, stride)| at * stride)
            .sum()
    };
    let first = Stretch {
        source: start(&source.offset, &source_strides),
        target: start(&target.offset, strides),
        count,
    };
    let mut index = vec![0_u64; outer];
    let mut next = (!wanted.is_empty()).then_some(first);
    std::iter::from_fn(move || {
        let current = next?;
        let mut following = current;
        next = None;
        for d in (0..outer).rev() {
            index[d] += 1;
            following.source += source_strides[d];
            following.target += strides[d];
            if index[d] < wanted.shape[d] {
                next = Some(following);
                break;
            }
            index[d] = 0;
            following.source -= source_strides[d] * wanted.shape[d];
            following.target -= strides[d] * wanted.shape[d];
        }
        Some(current)
    })
}

/// Which source every element of `wanted` comes from: pairs of an index into `sources` and a box, which together are `wanted` and do not
/// overlap. Earlier sources are preferred; replicas and overlaps are fine.
///
/// # Errors
/// `Corrupt` naming the first box that no source has.
pub fn cover<'a>(
    wanted: &Region,
    sources: impl IntoIterator<Item = &'a Region>,
) -> Result<Vec<(usize, Region)>> {
    let mut found = Vec::new();
    let mut open = if wanted.is_empty() {
        Vec::new()
    } else {
        vec![wanted.clone()]
    };
    for (index, source) in sources.into_iter().enumerate() {
        if open.is_empty() {
            break;
        }
        let mut left = Vec::with_capacity(open.len());
        for region in open {
            match region.intersection(source) {
                Some(common) => {
                    found.push((index, common));
                    left.extend(region.without(source));
                }
                None => left.push(region),
            }
        }
        open = left;
    }
    match open.first() {
        None => Ok(found),
        Some(hole) => Err(Error::corrupt(format!(
            "no shard holds the elements {:?} from {:?} on",
            hole.shape, hole.offset
        ))),
    }
}
