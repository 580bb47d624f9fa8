//! Bytes per point, printed and held: run with `--nocapture` to see them.

use runtree_core::{Step, Timestamp};
use runtree_metrics::{BatchBuilder, Limits, Points, PointsBatch, SeriesName};

use crate::support::{Noise, point};

/// Ten metrics as a trainer has them: noisy losses born as f32, a schedule, counters.
fn training(rows: i64, single: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let names = [
        "train/loss",
        "train/accuracy",
        "train/grad_norm",
        "train/lr",
        "train/tokens_per_second",
        "train/epoch",
        "val/loss",
        "val/perplexity",
        "reward/mean",
        "reward/kl",
    ];
    let series = names.map(|name| builder.series(&SeriesName::new(name)).unwrap());
    let mut noise = Noise(7);
    let mut time = 1_795_000_000_000_000;
    for step in 0..rows {
        time += 100_000 + (noise.unit() * 3000.0) as i64;
        let decay = 2.3 * (-(step as f64) / 800.0).exp();
        let values = [
            decay + 0.3 + 0.05 * noise.unit(),
            1.0 - decay / 3.0 + 0.02 * noise.unit(),
            1.2 + 0.4 * noise.unit(),
            3e-4 * (1.0 - step as f64 / 100_000.0),
            51_000.0 + 900.0 * noise.unit(),
            (step / 250) as f64,
            decay + 0.4 + 0.05 * noise.unit(),
            (decay + 0.4 + 0.05 * noise.unit()).exp(),
            noise.unit(),
            0.02 + 0.01 * noise.unit(),
        ];
        let values = values.map(|value| {
            if single {
                f64::from(value as f32)
            } else {
                value
            }
        });
        let row: Vec<_> = series.into_iter().zip(values).collect();
        builder.push(Step(step), Timestamp(time), &row).unwrap();
    }
    let bytes = builder.take().unwrap();
    let batch = PointsBatch::decode(&bytes, Limits::default()).unwrap();
    assert_eq!(batch.len() as i64, 10 * rows);
    bytes
}

fn block(single: bool) -> usize {
    let mut noise = Noise(3);
    let mut time = 1_795_000_000_000_000;
    let points = (0..4096).map(|step| {
        time += 100_000 + (noise.unit() * 3000.0) as i64;
        let value = 2.3 * (-(step as f64) / 800.0).exp() + 0.3 + 0.05 * noise.unit();
        point(
            step,
            time,
            if single {
                f64::from(value as f32)
            } else {
                value
            },
        )
    });
    let blocks = Points::from_arrival(points).into_blocks();
    assert_eq!(blocks.len(), 1);
    blocks[0].encode().len()
}

#[test]
fn float32_values_cost_less_than_six_bytes_a_point_and_a_single_row_little_more_than_its_names() {
    for rows in [1, 2, 10, 100, 1000, 10_000] {
        let single = training(rows, true).len();
        let double = training(rows, false).len();
        println!(
            "batch of {rows:>5} rows x 10 metrics: {:6.2} bytes a point born as f32, {:6.2} as f64 ({single}, {double} bytes)",
            single as f64 / (10 * rows) as f64,
            double as f64 / (10 * rows) as f64,
        );
        if rows >= 1000 {
            assert!(single < 60 * rows as usize, "{single}");
            assert!(double < 90 * rows as usize);
        }
        if rows == 1 {
            // 120 bytes of names, 40 of values, 11 of step and time.
            assert!(single < 200, "{single}");
        }
    }
    let (single, double) = (block(true), block(false));
    println!(
        "block of 4096 points: {:.2} bytes a point born as f32, {:.2} as f64",
        single as f64 / 4096.0,
        double as f64 / 4096.0
    );
    assert!(single < 6 * 4096, "{single}");
    assert!(double < 10 * 4096, "{double}");
}
