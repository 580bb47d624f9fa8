//! Times what the design sets targets for: `cargo run --release -p runtree-metrics --example speed`.
//!
//! A stitched series of ten million points at 1000 pixels, twenty series of one million, a `log` of ten metrics, and encoding.
#![expect(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::Instant;

use runtree_core::lineage::{AttemptId, Segment};
use runtree_core::wire::XAxis;
use runtree_core::{AttemptNumber, Error, Result, RunId, Step, Timestamp};
use runtree_metrics::{
    BatchBuilder, Block, Limits, Point, Points, PointsBatch, Query, SeriesName, Stitched,
    StoredBlock,
};

/// Blocks as an index keeps them: payload and summaries as bytes.
type Shelf = Vec<(Vec<u8>, Vec<u8>)>;

fn value(step: i64) -> f64 {
    let noise = step
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .wrapping_add(0x1405_7b7e) as u64
        >> 40;
    f64::from((2.0 / (1.0 + step as f64 * 1e-5) + noise as f64 * 1e-8) as f32)
}

fn shelve(count: i64) -> Shelf {
    let point = |step: i64| Point {
        step: Step(step),
        timestamp: Timestamp(1_795_000_000_000_000 + 100_000 * step),
        value: value(step),
    };
    let blocks = Points::from_arrival((0..count).map(point)).into_blocks();
    let bytes = |block: &Block| (block.encode(), block.summaries().encode());
    blocks.iter().map(bytes).collect()
}

fn stored(shelf: &Shelf) -> Result<Vec<StoredBlock>> {
    let block = |(id, (_, summaries)): (usize, &(Vec<u8>, Vec<u8>))| {
        let summaries = runtree_metrics::Summaries::decode(summaries)?;
        Ok(StoredBlock {
            id: id as u64,
            summaries,
        })
    };
    shelf.iter().enumerate().map(block).collect()
}

/// A lineage of ten attempts, each with every point, each counting for a tenth.
fn segments(count: i64, of: i64) -> Vec<Segment> {
    let edge = |at: i64| match at {
        0 => Step::MIN,
        at if at == of => Step::MAX,
        at => Step(count / of * at),
    };
    let segment = |at: i64| Segment {
        id: AttemptId {
            run: RunId::from_parts(1, at as u128),
            attempt: AttemptNumber::FIRST,
        },
        first: edge(at),
        last: edge(at + 1),
    };
    (0..of).map(segment).collect()
}

fn chart(name: &str, shelf: &Shelf, count: i64, lineage: i64, axis: XAxis) -> Result<()> {
    let loads = std::cell::Cell::new(0);
    let source = |id: u64| {
        loads.set(loads.get() + 1);
        let (payload, _) = shelf
            .get(id as usize)
            .ok_or_else(|| Error::not_found("no block"))?;
        Ok(Block::decode(payload)?.into_points())
    };
    let start = Instant::now();
    let blocks = stored(shelf)?;
    let decoded = start.elapsed();
    let segments = segments(count, lineage);
    let blocks = vec![blocks; segments.len()];
    let start = Instant::now();
    let series = Stitched::new(&segments, blocks, &source)?;
    let query = Query {
        axis,
        from: None,
        to: None,
        pixels: 1000,
        shifts: Vec::new(),
    };
    let buckets = series.buckets(&query, &source)?;
    println!(
        "{name} {axis:?}: summaries decoded {decoded:?}, stitched and bucketed {:?}, {} buckets of {} points, {} payloads opened",
        start.elapsed(),
        buckets.buckets.len(),
        buckets.points,
        loads.get()
    );
    Ok(())
}

/// A chain of forks, each ten steps after the one before, each going on for another ten that do not count.
fn deep_chain(length: i64) -> Result<()> {
    let segments = segments(10 * length, length);
    let point = |step: i64| Point {
        step: Step(step),
        timestamp: Timestamp(1_795_000_000_000_000 + 100_000 * step),
        value: value(step),
    };
    let mut shelf = Shelf::new();
    let mut blocks = Vec::new();
    for at in 0..length {
        let points = Points::from_arrival((10 * at + 1..10 * at + 21).map(point));
        for block in points.into_blocks() {
            blocks.push(vec![StoredBlock {
                id: shelf.len() as u64,
                summaries: block.summaries(),
            }]);
            shelf.push((block.encode(), Vec::new()));
        }
    }
    let source = |id: u64| Ok(Block::decode(&shelf[id as usize].0)?.into_points());
    let start = Instant::now();
    let series = Stitched::new(&segments, blocks, &source)?;
    let stitched = start.elapsed();
    let all = series.points(Step::MIN, Step::MAX, &source)?;
    let read = start.elapsed();
    let query = Query {
        axis: XAxis::Step,
        from: None,
        to: None,
        pixels: 1000,
        shifts: Vec::new(),
    };
    let buckets = series.buckets(&query, &source)?;
    println!(
        "chain of {length} forks: stitched {stitched:?}, {} points read {:?}, {} buckets {:?}",
        all.points.len(),
        read.saturating_sub(stitched),
        buckets.buckets.len(),
        start.elapsed().saturating_sub(read)
    );
    Ok(())
}

fn main() -> Result<()> {
    let start = Instant::now();
    let long = shelve(10_000_000);
    let bytes: usize = long.iter().map(|(payload, _)| payload.len()).sum();
    println!(
        "10 M points into blocks: {:?}, {:.2} bytes a point",
        start.elapsed(),
        bytes as f64 / 1e7
    );
    let start = Instant::now();
    for (payload, _) in &long {
        Block::decode(payload)?;
    }
    println!("10 M points out of blocks: {:?}", start.elapsed());
    for axis in [XAxis::Step, XAxis::Wall, XAxis::Relative] {
        chart("10 M points, 10 segments", &long, 10_000_000, 10, axis)?;
    }
    deep_chain(1_000)?;
    let short = shelve(1_000_000);
    chart("1 M points, 1 segment", &short, 1_000_000, 1, XAxis::Step)?;

    let mut builder = BatchBuilder::new();
    let names = (0..10).map(|at| SeriesName::new(format!("train/metric_{at}")));
    let series = names
        .map(|name| builder.series(&name))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for step in 0..100_000 {
        let row: Vec<_> = series.iter().map(|&at| (at, value(step))).collect();
        builder.push(Step(step), Timestamp(step * 100_000), &row)?;
    }
    println!("log of 10 metrics: {:?}", start.elapsed() / 100_000);
    let start = Instant::now();
    let bytes = builder.take().unwrap_or_default();
    println!(
        "1 M points into a batch: {:?}, {} bytes",
        start.elapsed(),
        bytes.len()
    );
    let start = Instant::now();
    let batch = PointsBatch::decode(&bytes, Limits::default())?;
    let points: usize = batch.iter().map(|(_, points)| points.len()).sum();
    println!(
        "1 M points out of a batch: {:?} ({points})",
        start.elapsed()
    );
    Ok(())
}
