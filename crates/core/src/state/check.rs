//! What a state tree from a store must be before anybody follows its indexes.

use super::{Dtype, MAX_DEPTH, StateNode, TensorLeaf, TensorRecord, element_count, too_deep};
use crate::error::{Error, Result};

impl StateNode {
    /// Checks that every leaf names what exists, views fit, dicts pair keys with values, and nesting is bounded.
    ///
    /// # Errors
    /// `Corrupt` with what is wrong.
    pub fn check(&self, tensors: &[TensorRecord], blobs: usize) -> Result<()> {
        self.check_at(tensors, blobs, 0)
    }

    fn check_at(&self, tensors: &[TensorRecord], blobs: usize, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let all = |nodes: &[Self]| {
            nodes
                .iter()
                .try_for_each(|node| node.check_at(tensors, blobs, depth + 1))
        };
        match self {
            Self::NamedTuple { fields, v, .. } if fields.len() != v.len() => {
                Err(Error::corrupt(format!(
                    "named tuple with {} fields and {} values",
                    fields.len(),
                    v.len()
                )))
            }
            Self::Int { v } => check_int(v),
            Self::Enum { value, .. } if !matches!(**value, Self::Str { .. } | Self::Int { .. }) => {
                Err(Error::corrupt("enum whose value is no text and no integer"))
            }
            Self::NumpyScalar { dtype, v } => check_scalar(dtype, v),
            Self::Dict { k, v, .. } if k.len() != v.len() => Err(Error::corrupt(format!(
                "dict with {} keys and {} values",
                k.len(),
                v.len()
            ))),
            Self::List { v }
            | Self::Tuple { v }
            | Self::Deque { v, .. }
            | Self::Set { v, .. }
            | Self::NamedTuple { v, .. } => all(v),
            Self::Dict { kind, k, v } => {
                kind.check()?;
                k.iter().try_for_each(|key| key.check_at(depth + 1))?;
                all(v)
            }
            Self::LongStr { blob } | Self::LongBytes { blob, .. } if *blob as usize >= blobs => {
                Err(Error::corrupt(format!("leaf names blob {blob} of {blobs}")))
            }
            Self::Tensor(leaf) => leaf.check(tensors),
            Self::Enum { value: inner, .. } | Self::Stateful { state: inner, .. } => {
                inner.check_at(tensors, blobs, depth + 1)
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn check_int(digits: &str) -> Result<()> {
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    let start: String = digits.chars().take(40).collect();
    Err(Error::corrupt(format!("{start:?} is not an integer")))
}

fn check_scalar(dtype: &Dtype, text: &str) -> Result<()> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|error| {
        Error::corrupt(format!("{dtype} scalar is not base 64")).with_source(error)
    })?;
    if bytes.len() as u64 == dtype.item_bytes() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{dtype} scalar has {} bytes, {} expected",
        bytes.len(),
        dtype.item_bytes()
    )))
}

impl TensorLeaf {
    fn check(&self, tensors: &[TensorRecord]) -> Result<()> {
        let record = tensors.get(self.tensor as usize).ok_or_else(|| {
            Error::corrupt(format!(
                "leaf names tensor {} of {}",
                self.tensor,
                tensors.len()
            ))
        })?;
        let Some(view) = &self.view else {
            return Ok(());
        };
        if view.shape.len() != view.strides.len() {
            return Err(Error::corrupt(format!(
                "view of tensor {:?} has {} sizes and {} strides",
                record.name,
                view.shape.len(),
                view.strides.len()
            )));
        }
        if view.shape.contains(&0) {
            return Ok(());
        }
        let last =
            view.shape
                .iter()
                .zip(&view.strides)
                .try_fold(view.offset, |last, (size, stride)| {
                    (size - 1)
                        .checked_mul(*stride)
                        .and_then(|span| last.checked_add(span))
                });
        match (last, element_count(&record.shape)) {
            (Some(last), Some(count)) if last < count => Ok(()),
            _ => Err(Error::corrupt(format!(
                "view of tensor {:?} leaves its storage",
                record.name
            ))),
        }
    }
}
