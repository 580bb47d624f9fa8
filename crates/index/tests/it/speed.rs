//! Measurements: `cargo test --release -p runtree-index -- --ignored --nocapture speed`.

use std::time::Instant;

use runtree_index::Index as _;
use runtree_metrics::SeriesName;

use crate::builder::{Journal, fold, run};

fn bytes_in(folder: &std::path::Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// Noise that looks like a loss, born as float32 like what trainers log.
fn loss(step: i64) -> f64 {
    let noise = (step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    f64::from((2.0 / (1.0 + step as f64 / 1000.0) + noise as f64 / 67_108_864.0) as f32)
}

fn measure(what: &str, frames: i64, series: usize, rows: i64, frames_per_apply: usize) {
    let folder = tempfile::tempdir().unwrap();
    let index = runtree_index::SqliteIndex::open(folder.path()).unwrap();
    fold(&index, run(1, None));
    let names: Vec<_> = (0..series)
        .map(|i| SeriesName::new(format!("metric/{i}")))
        .collect();
    let mut journal = Journal::opened(1, 1, 1, 0);
    for frame in 0..frames {
        let points: Vec<_> = (0..rows)
            .flat_map(|row| {
                let step = frame * rows + row;
                names
                    .iter()
                    .map(move |name| (name.clone(), step, loss(step)))
            })
            .collect();
        journal = journal.batch(&points);
    }
    let total = (frames * rows * series as i64) as f64;
    let mut items = Vec::new();
    let mut from = 0;
    while from < journal.frames.len() {
        let to = (from + frames_per_apply).min(journal.frames.len());
        items.push([journal.range(from, to)]);
        from = to;
    }
    let started = Instant::now();
    for item in &items {
        index.apply(item).unwrap();
    }
    let elapsed = started.elapsed();
    let started = Instant::now();
    drop(index.snapshot().unwrap());
    let settled = started.elapsed();
    drop(index);
    println!(
        "{what}: {:.2} M points/s, {:.2} bytes a point, settled in {settled:?}",
        total / elapsed.as_secs_f64() / 1e6,
        bytes_in(folder.path()) as f64 / total
    );
}

#[test]
#[ignore = "a measurement"]
fn points_are_folded_fast_and_kept_small() {
    measure("reindex, 10 series x 1 M points", 1000, 10, 1000, 100);
    measure("live, 10 series, 1000 rows a flush", 300, 10, 1000, 1);
    measure("live, 100 series, 100 rows a flush", 300, 100, 100, 1);
    measure("live, 10 series, 1 row a flush", 5000, 10, 1, 1);
}
