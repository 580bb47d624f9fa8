//! A safetensors file of one state tree: header, then the tensors' bytes with no hole.
//!
//! Layout: `u64` LE header length | JSON header, padded with spaces to a multiple of 8 | data. Tensors stand by alignment of their
//! dtype (largest first), then by name, so that every tensor of an aligned buffer is aligned. `__metadata__` says where the file comes from.
//!
//! What safetensors can not hold — `c32`, `c128` and numpy's own dtypes (text, dates, long doubles) — is stored as `U8` with one more dimension,
//! the bytes of an element; the JSON file beside it has the real dtype and shape (docs/formats/export.md). Two tensors of one name get `name`,
//! `name#2`, …; the JSON's `stored_as` says which is which.

use std::collections::HashSet;

use runtree_core::state::{Dtype, TensorRecord};
use serde_json::{Map, Value, json};

/// Largest header that safetensors' own reader takes.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// The header and the order of what follows it.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Everything before the data.
    pub(crate) header: Vec<u8>,
    /// Indices of the tensors in the order in which their bytes follow.
    pub(crate) order: Vec<usize>,
    /// The name in the file of each tensor that was given, by index; none if it is not in the file.
    pub(crate) names: Vec<Option<String>>,
}

/// Lays out those tensors for which `wanted` says yes.
///
/// # Errors
/// `Unsupported` if the header would be larger than safetensors allows; the message says how large.
pub(crate) fn lay_out(
    tensors: &[TensorRecord],
    wanted: impl Fn(&TensorRecord) -> bool,
    metadata: &[(&str, String)],
) -> runtree_core::Result<Layout> {
    let mut order: Vec<usize> = (0..tensors.len())
        .filter(|&i| wanted(&tensors[i]))
        .collect();
    let names = unique_names(tensors, &order);
    order.sort_by(|&a, &b| {
        let alignment = |i: usize| std::cmp::Reverse(alignment(&tensors[i].dtype));
        alignment(a)
            .cmp(&alignment(b))
            .then_with(|| names[a].cmp(&names[b]))
    });
    let mut header = Map::new();
    let metadata: Map<String, Value> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Value::String(value.clone())))
        .collect();
    header.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut end = 0_u64;
    for &index in &order {
        let tensor = &tensors[index];
        let start = end;
        end += tensor.byte_len().unwrap_or(0);
        let mut shape = tensor.shape.clone();
        let dtype = native_dtype(&tensor.dtype).unwrap_or_else(|| {
            shape.push(tensor.dtype.item_bytes());
            "U8"
        });
        let name = names[index].clone().unwrap_or_default();
        header.insert(
            name,
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let mut text = serde_json::to_vec(&header).expect("BUG: a map of JSON values serializes");
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() > MAX_HEADER_BYTES {
        return Err(runtree_core::Error::unsupported(format!(
            "a safetensors header of {} bytes for {} tensors; the format allows {MAX_HEADER_BYTES}",
            text.len(),
            order.len()
        ))
        .with_hint("export fewer tensors per file with --keys GLOB"));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(Layout {
        header: bytes,
        order,
        names,
    })
}

/// The format's own name of a dtype, or none if it has none.
pub(crate) fn native_dtype(dtype: &Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::Bool => "BOOL",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::U16 => "U16",
        Dtype::I16 => "I16",
        Dtype::U32 => "U32",
        Dtype::I32 => "I32",
        Dtype::U64 => "U64",
        Dtype::I64 => "I64",
        Dtype::F16 => "F16",
        Dtype::BF16 => "BF16",
        Dtype::F32 => "F32",
        Dtype::F64 => "F64",
        Dtype::C64 => "C64",
        Dtype::F8E4M3FN => "F8_E4M3",
        Dtype::F8E5M2 => "F8_E5M2",
        Dtype::F8E4M3FNUZ => "F8_E4M3FNUZ",
        Dtype::F8E5M2FNUZ => "F8_E5M2FNUZ",
        Dtype::F8E8M0FNU => "F8_E8M0",
        _ => return None,
    })
}

fn alignment(dtype: &Dtype) -> u64 {
    if native_dtype(dtype).is_some() {
        dtype.item_bytes()
    } else {
        1
    }
}

fn unique_names(tensors: &[TensorRecord], order: &[usize]) -> Vec<Option<String>> {
    let mut taken: HashSet<String> = HashSet::from(["__metadata__".to_owned()]);
    let mut names = vec![None; tensors.len()];
    for &index in order {
        let wanted = &tensors[index].name;
        let mut name = wanted.clone();
        let mut count = 1;
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}#{count}");
        }
        names[index] = Some(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dtype: &str, shape: &[u64]) -> TensorRecord {
        TensorRecord {
            name: name.to_owned(),
            dtype: dtype.parse().unwrap(),
            shape: shape.to_vec(),
            global_shape: None,
            global_offset: None,
            extents: Vec::new(),
        }
    }

    #[test]
    fn the_header_covers_the_data_without_holes_and_aligned() {
        let tensors = [
            tensor("b", "bf16", &[3]),
            tensor("a", "f32", &[]),
            tensor("a", "f64", &[2, 0]),
            tensor("text", "numpy:<U2", &[2]),
            tensor("skipped", "f32", &[9]),
        ];
        let layout = lay_out(
            &tensors,
            |t| t.name != "skipped",
            &[("format", "x".to_owned())],
        )
        .unwrap();
        let length = u64::from_le_bytes(layout.header[..8].try_into().unwrap());
        assert_eq!(length % 8, 0);
        assert_eq!(length as usize + 8, layout.header.len());
        let header: Value = serde_json::from_slice(&layout.header[8..]).unwrap();
        assert_eq!(header["a#2"]["data_offsets"], json!([0, 0]));
        assert_eq!(header["a"]["data_offsets"], json!([0, 4]));
        assert_eq!(header["b"]["data_offsets"], json!([4, 10]));
        assert_eq!(
            header["text"],
            json!({"dtype": "U8", "shape": [2, 8], "data_offsets": [10, 26]})
        );
        assert_eq!(layout.order, [2, 1, 0, 3]);
        assert_eq!(layout.names[4], None);
    }
}
