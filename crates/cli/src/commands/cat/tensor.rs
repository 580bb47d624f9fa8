//! `runtree cat` of a tensor: its first values, or what an index selects.

use runtree_core::state::index::{Selection, TensorIndex};
use runtree_core::state::region::Region;
use runtree_core::{Error, wire};
use runtree_engine::{Engine, FoundTensor, LoadedManifest};
use serde::Serialize;

use super::elements;
use crate::context::Context;
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean};
use crate::output::Output;

/// Values that are printed if nobody says how many.
const FIRST: u64 = 20;

/// A tensor with values of it.
#[derive(Debug, Serialize)]
struct Excerpt {
    #[serde(flatten)]
    tensor: wire::TensorInfo,
    elements: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<Slice>,
    values: Vec<serde_json::Value>,
}

/// What an index selected.
#[derive(Debug, Serialize)]
struct Slice {
    index: String,
    shape: Vec<u64>,
}

/// Prints the values that `index` selects of a tensor, or its first ones.
pub(super) fn print(
    engine: &Engine,
    manifest: &LoadedManifest,
    found: &FoundTensor,
    index: Option<&TensorIndex>,
    limit: Option<u64>,
    context: &mut Context,
) -> Result<(), Failure> {
    let tensor = &found.tensor;
    let selection = index.map_or_else(
        || Ok(Selection::whole(&tensor.shape)),
        |index| index.select(&tensor.shape),
    )?;
    let limit = limit.unwrap_or(if index.is_some() { u64::MAX } else { FIRST });
    let out = &mut context.out;
    if out.json {
        let mut values = Vec::new();
        engine.read_selection(manifest, tensor, &selection, limit, |bytes| {
            values.extend(elements::decode(&tensor.dtype, bytes));
            Ok(())
        })?;
        return out.json(&Excerpt {
            tensor: info(found),
            elements: Selection::whole(&tensor.shape).elements(),
            slice: index.map(|index| Slice {
                index: index.to_string(),
                shape: selection.shape(),
            }),
            values,
        });
    }
    let elements = selection.elements();
    let shape = selection.shape();
    let index_text = index.map(ToString::to_string).unwrap_or_default();
    out.line(format!(
        "{}{index_text} {} {shape:?} {}",
        out.look.paint(Style::Name, &clean(&tensor.name)),
        tensor.dtype,
        human::bytes(elements * tensor.dtype.item_bytes())
    ))?;
    // Without an index the first values stand in a list, whatever the shape.
    let rows: &[u64] = if index.is_some() { &shape } else { &[] };
    let mut lines = Lines::new(rows);
    let mut failed = None;
    let read = engine.read_selection(manifest, tensor, &selection, limit, |bytes| {
        let values = elements::decode(&tensor.dtype, bytes);
        lines.print(&values, out).map_err(|failure| {
            failed = Some(failure);
            Error::unavailable("nobody takes what is printed")
        })
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    read?;
    lines.end(out)?;
    let left = elements.saturating_sub(limit);
    if left > 0 {
        out.remark(&format!("{} more; --limit shows them.", human::count(left)));
    }
    Ok(())
}

fn info(found: &FoundTensor) -> wire::TensorInfo {
    let tensor = &found.tensor;
    wire::TensorInfo {
        name: tensor.name.clone(),
        entry: found.entry.clone(),
        part: found.parts.join(", "),
        dtype: tensor.dtype.to_string(),
        shape: tensor.shape.clone(),
        global_shape: None,
        bytes: tensor.region_bytes(&Region::whole(&tensor.shape)),
        encoding: None,
    }
}

/// Values as lines: of two dimensions and more, a row a line and an empty one between matrices, as `numpy.loadtxt` reads them.
struct Lines {
    /// Values of a line, lines of a matrix.
    row: u64,
    matrix: u64,
    printed: u64,
}

impl Lines {
    fn new(shape: &[u64]) -> Self {
        let (row, rows) = match shape {
            [.., rows, row] => (*row, *rows),
            _ => (1, u64::MAX),
        };
        Self {
            row,
            matrix: row.saturating_mul(rows),
            printed: 0,
        }
    }

    fn print(&mut self, values: &[serde_json::Value], out: &mut Output) -> Result<(), Failure> {
        let mut text = String::new();
        for value in values {
            if self.printed > 0 && self.printed.is_multiple_of(self.matrix) {
                text.push('\n');
            }
            if !self.printed.is_multiple_of(self.row) {
                text.push('\t');
            }
            text.push_str(&human::json(value));
            self.printed += 1;
            if self.printed.is_multiple_of(self.row) {
                text.push('\n');
            }
        }
        out.bytes(text.as_bytes())
    }

    /// Ends a row that was cut off.
    fn end(&self, out: &mut Output) -> Result<(), Failure> {
        if self.printed.is_multiple_of(self.row.max(1)) {
            return Ok(());
        }
        out.bytes(b"\n")
    }
}
