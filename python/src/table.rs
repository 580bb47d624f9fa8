//! Columns of runs as the buffers of Arrow's format: Python wraps them without touching a value.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runtree_engine::{RunColumn, RunTable};

/// A column: name, type (`text`, `integer`, `float`, `boolean`, `time`, `texts`), and Arrow's buffers in their order; none where nothing is missing.
type Column<'py> = (String, &'static str, Vec<Option<Bound<'py, PyBytes>>>);

/// Rows and columns of a table.
pub(crate) fn to_python(py: Python<'_>, table: RunTable) -> (usize, Vec<Column<'_>>) {
    let columns = table.columns.into_iter();
    let columns = columns.map(|(name, column)| {
        let (kind, buffers) = buffers(column);
        let bytes = |buffer: Option<Vec<u8>>| buffer.map(|bytes| PyBytes::new(py, &bytes));
        (name, kind, buffers.into_iter().map(bytes).collect())
    });
    (table.rows, columns.collect())
}

fn buffers(column: RunColumn) -> (&'static str, Vec<Option<Vec<u8>>>) {
    match column {
        RunColumn::Integer(values) => ("integer", fixed(&values, i64::to_le_bytes)),
        RunColumn::Time(values) => ("time", fixed(&values, i64::to_le_bytes)),
        RunColumn::Float(values) => ("float", fixed(&values, f64::to_le_bytes)),
        RunColumn::Boolean(values) => {
            let set = bitmap(values.iter().map(|value| *value == Some(true)));
            ("boolean", vec![validity(&values), Some(set)])
        }
        RunColumn::Text(values) => {
            let texts = values
                .iter()
                .map(|value| value.as_deref().unwrap_or_default());
            let (offsets, data) = texts_of(texts);
            ("text", vec![validity(&values), Some(offsets), Some(data)])
        }
        RunColumn::Texts(rows) => {
            let lengths = rows.iter().map(Vec::len);
            let (offsets, data) = texts_of(rows.iter().flatten().map(String::as_str));
            let rows = Some(offsets_of(lengths));
            ("texts", vec![None, rows, None, Some(offsets), Some(data)])
        }
    }
}

fn fixed<T: Copy + Default>(
    values: &[Option<T>],
    bytes: impl Fn(T) -> [u8; 8],
) -> Vec<Option<Vec<u8>>> {
    let data = values
        .iter()
        .flat_map(|value| bytes(value.unwrap_or_default()));
    vec![validity(values), Some(data.collect())]
}

fn texts_of<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> (Vec<u8>, Vec<u8>) {
    let offsets = offsets_of(texts.clone().map(str::len));
    (offsets, texts.flat_map(str::bytes).collect())
}

/// Where each value begins, and where the last one ends.
fn offsets_of(lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut end = 0_i64;
    let mut offsets = end.to_le_bytes().to_vec();
    for length in lengths {
        end += length as i64;
        offsets.extend(end.to_le_bytes());
    }
    offsets
}

fn validity<T>(values: &[Option<T>]) -> Option<Vec<u8>> {
    let missing = values.iter().any(Option::is_none);
    missing.then(|| bitmap(values.iter().map(Option::is_some)))
}

/// Bits, the lowest of a byte first.
fn bitmap(bits: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = vec![0; bits.len().div_ceil(8)];
    for (index, bit) in bits.enumerate() {
        bytes[index / 8] |= u8::from(bit) << (index % 8);
    }
    bytes
}
