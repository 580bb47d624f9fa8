//! `runtree show` of a checkpoint: its tensors, how they are stored, what is in them.

use runtree_core::manifest::CheckpointName;
use runtree_core::wire::{
    CheckpointInfo, EncodingKind, TensorEncoding, TensorInfo, TensorStatistics,
};
use runtree_core::{ErrorKind, Result};
use runtree_engine::{Engine, glob_matches};
use serde::Serialize;
use serde_json::Number;

use super::checkpoint;
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::output::Output;
use crate::table::{Align, Cell, Table};

/// More bytes than this are read only if somebody asks for it: a look should not take minutes.
const UNASKED_BYTES: u64 = 256 << 20;
/// Tensors in a table unless `--limit` says another number.
const SHOWN: usize = 100;
/// Bytes between two moves of the progress bar.
const STEP_BYTES: u64 = 128 << 20;

/// What of a checkpoint's tensors is shown.
#[derive(Debug, clap::Args)]
pub(super) struct TensorArgs {
    /// Read the tensors of a checkpoint for their statistics, however large they are
    #[arg(long)]
    stats: bool,
    /// Read no tensor
    #[arg(long, conflicts_with = "stats")]
    no_stats: bool,
    /// Only tensors of a checkpoint whose dotted name matches this glob
    #[arg(long, value_name = "GLOB")]
    keys: Option<String>,
    /// Tensors of a checkpoint that are shown [default: 100; with --json: all]
    #[arg(long, short = 'n')]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    info: &'a CheckpointInfo,
    tensor_list: &'a [Row],
}

/// A tensor that is shown.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    info: TensorInfo,
    /// Null where they were not taken.
    statistics: Option<TensorStatistics>,
    #[serde(skip)]
    place: u64,
}

/// Shows a checkpoint.
pub(super) fn show(
    engine: &Engine,
    name: CheckpointName,
    info: &CheckpointInfo,
    args: &TensorArgs,
    out: &mut Output,
) -> Result<(), Failure> {
    let (mut rows, left) = rows(engine, name, args, out.json)?;
    if out.json {
        statistics(engine, name, args, &mut rows, out)?;
        return out.json(&Document {
            info,
            tensor_list: &rows,
        });
    }
    checkpoint::print(info, out)?;
    if rows.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let several = Several::of(&rows);
    list(&rows, several, out)?;
    if left > 0 {
        out.remark(&format!("{} more; --limit shows them.", human::count(left)));
    }
    // What is here already stays on the screen while the tensors are read.
    out.flush()?;
    if statistics(engine, name, args, &mut rows, out)? {
        out.line("")?;
        table(&rows, several, out)?;
    }
    Ok(())
}

/// The tensors to show, and how many more there are. Of a checkpoint that is not complete or damaged, there are none: its state says why.
fn rows(
    engine: &Engine,
    name: CheckpointName,
    args: &TensorArgs,
    json: bool,
) -> Result<(Vec<Row>, u64), Failure> {
    let all = match engine.tensors_with_encodings(name) {
        Ok(all) => all,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let mut rows: Vec<Row> = (0..)
        .zip(all)
        .map(|(place, info)| Row {
            info,
            statistics: None,
            place,
        })
        .filter(|row| {
            let keys = args.keys.as_ref();
            keys.is_none_or(|keys| glob_matches(keys, &row.info.name))
        })
        .collect();
    let limit = args.limit.unwrap_or(if json { usize::MAX } else { SHOWN });
    let left = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    Ok((rows, left as u64))
}

/// Takes the statistics of what is shown, and says whether it did.
fn statistics(
    engine: &Engine,
    name: CheckpointName,
    args: &TensorArgs,
    rows: &mut [Row],
    out: &mut Output,
) -> Result<bool, Failure> {
    if args.no_stats || rows.is_empty() {
        return Ok(false);
    }
    let places: Vec<u64> = rows.iter().map(|row| row.place).collect();
    let mut scan = engine.statistics(engine.load_plan(name)?, Some(&places), u64::MAX)?;
    let bytes = scan.open_bytes();
    if bytes > UNASKED_BYTES && !args.stats {
        let size = human::bytes(bytes);
        out.remark(&format!(
            "Statistics are left out: they would read {size}; --stats takes them."
        ));
        return Ok(false);
    }
    let bar = out.bar("reading tensors");
    bar.set_length(bytes);
    let mut found = Vec::with_capacity(rows.len());
    let read = loop {
        if scan.is_done() {
            break Ok(());
        }
        match scan.step(STEP_BYTES) {
            Ok(mut done) => found.append(&mut done),
            Err(error) => break Err(error),
        }
        bar.set_position(bytes - scan.open_bytes());
    };
    bar.finish_and_clear();
    match read {
        Ok(()) => {}
        Err(error) if args.stats => return Err(error.into()),
        Err(error) => {
            out.remark(&format!("Statistics are left out: {}.", error.chain()));
            return Ok(false);
        }
    }
    found.sort_unstable_by_key(|statistics| statistics.tensor);
    for (row, statistics) in rows.iter_mut().zip(found) {
        row.statistics = Some(statistics);
    }
    Ok(true)
}

/// Whether a name needs its part or its entry beside it.
#[derive(Clone, Copy)]
struct Several {
    parts: bool,
    entries: bool,
}

impl Several {
    fn of(rows: &[Row]) -> Self {
        let differ = |text: fn(&Row) -> &str| rows.iter().any(|row| text(row) != text(&rows[0]));
        Self {
            parts: differ(|row| row.info.part.as_str()),
            entries: differ(|row| row.info.entry.as_str()),
        }
    }

    fn heads(self) -> impl Iterator<Item = (&'static str, Align)> {
        let part = self.parts.then_some(("PART", Align::Left));
        part.into_iter()
            .chain(self.entries.then_some(("ENTRY", Align::Flexible)))
    }

    fn cells(self, row: &Row) -> impl Iterator<Item = Cell> {
        let cell = |text: &str| Cell::styled(text, Style::Dim);
        let part = self.parts.then(|| cell(&row.info.part));
        part.into_iter()
            .chain(self.entries.then(|| cell(&row.info.entry)))
    }
}

fn list(rows: &[Row], several: Several, out: &mut Output) -> Result<(), Failure> {
    let heads = [
        ("TENSOR", Align::Flexible),
        ("TYPE", Align::Left),
        ("SHAPE", Align::Left),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("AS", Align::Left),
    ];
    let mut table = Table::new(heads.into_iter().chain(several.heads()));
    for row in rows {
        let info = &row.info;
        let mut shape = format!("{:?}", info.shape);
        if let Some(global) = &info.global_shape {
            shape = format!("{shape} of {global:?}");
        }
        let stored = info.encoding.as_ref().map(|encoding| encoding.stored_bytes);
        let cells = [
            Cell::styled(&info.name, Style::Name),
            info.dtype.as_str().into(),
            shape.into(),
            human::bytes(info.bytes).into(),
            stored.map(human::bytes).unwrap_or_default().into(),
            info.encoding.as_ref().map(kind).unwrap_or_default(),
        ];
        table.row(cells.into_iter().chain(several.cells(row)));
    }
    table.print(out)
}

/// `raw`, `planes`, `difference 3`.
fn kind(encoding: &TensorEncoding) -> Cell {
    let word = match encoding.kind {
        EncodingKind::Raw => "raw",
        EncodingKind::Planes => "planes",
        EncodingKind::Difference => "difference",
        EncodingKind::Mixed => "mixed",
        EncodingKind::Missing => return Cell::styled("missing", Style::Bad),
    };
    match encoding.depth {
        0 => word.into(),
        depth => format!("{word} {depth}").into(),
    }
}

fn table(rows: &[Row], several: Several, out: &mut Output) -> Result<(), Failure> {
    let heads = [
        ("TENSOR", Align::Flexible),
        ("MIN", Align::Right),
        ("MAX", Align::Right),
        ("MEAN", Align::Right),
        ("STD", Align::Right),
        ("NORM", Align::Right),
        ("NOT FINITE", Align::Left),
    ];
    let mut table = Table::new(heads.into_iter().chain(several.heads()));
    for row in rows {
        let statistics = row.statistics.as_ref();
        let finite = statistics.and_then(|statistics| statistics.finite.as_ref());
        let cells = match finite {
            None => <[String; 5]>::default(),
            Some(finite) => [
                number(&finite.min),
                number(&finite.max),
                human::value(finite.mean.0),
                human::value(finite.std.0),
                human::value(finite.norm.0),
            ],
        };
        let bad = statistics.map(nonfinite).unwrap_or_default();
        let cells = std::iter::once(Cell::styled(&row.info.name, Style::Name))
            .chain(cells.map(Cell::from))
            .chain([Cell::styled(bad, Style::Bad)])
            .chain(several.cells(row));
        table.row(cells);
    }
    table.print(out)
}

/// An extreme: integers are exact.
fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => human::value(value),
        _ => number.to_string(),
    }
}

/// `3 NaN, 1 inf, 2 -inf`.
fn nonfinite(statistics: &TensorStatistics) -> String {
    let counts = [
        (statistics.nan, "NaN"),
        (statistics.positive_infinity, "inf"),
        (statistics.negative_infinity, "-inf"),
    ];
    let texts = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", human::count(count)));
    texts.collect::<Vec<_>>().join(", ")
}
