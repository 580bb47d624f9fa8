use proptest::prelude::*;
use runtree_core::{ErrorKind, Step, Timestamp};
use runtree_metrics::{BatchBuilder, Limits, PointsBatch, SeriesIndex, SeriesName};

use crate::support::{any_step, any_value, hex};

type Row = (i64, i64, Vec<(usize, f64)>);

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let cells = prop_oneof![
        // Most rows log the same metrics; some log a few, perhaps one twice.
        3 => prop::collection::vec(any_value(), 5).prop_map(|values| values.into_iter().enumerate().collect()),
        1 => prop::collection::vec((0_usize..8, any_value()), 0..6),
    ];
    prop::collection::vec((any_step(), any::<i64>(), cells), 0..120)
}

fn names() -> Vec<SeriesName> {
    let mut names: Vec<SeriesName> = ["train/loss", "train/accuracy", "lr", "验证/损失", "a b - c"]
        .map(SeriesName::new)
        .to_vec();
    names.push(SeriesName {
        name: "cpu".to_owned(),
        system: true,
        rank: None,
    });
    names.push(SeriesName {
        name: "loss".to_owned(),
        system: false,
        rank: Some(0),
    });
    names.push(SeriesName {
        name: "loss".to_owned(),
        system: false,
        rank: Some(u32::MAX),
    });
    names
}

fn build(rows: &[Row]) -> (BatchBuilder, Vec<SeriesIndex>) {
    let mut builder = BatchBuilder::new();
    let series: Vec<SeriesIndex> = names()
        .iter()
        .map(|name| builder.series(name).unwrap())
        .collect();
    for (step, time, cells) in rows {
        let row: Vec<_> = cells
            .iter()
            .map(|&(at, value)| (series[at], value))
            .collect();
        builder.push(Step(*step), Timestamp(*time), &row).unwrap();
    }
    (builder, series)
}

/// Points per series in order of arrival, by a loop over the rows.
fn model(rows: &[Row]) -> Vec<Vec<(i64, i64, u64)>> {
    let mut series = vec![Vec::new(); names().len()];
    for (step, time, cells) in rows {
        for &(at, value) in cells {
            series[at].push((*step, *time, value.to_bits()));
        }
    }
    series
}

fn read(batch: &PointsBatch, name: &SeriesName) -> Vec<(i64, i64, u64)> {
    let series = batch.iter().filter(|(found, _)| *found == name);
    series
        .flat_map(|(_, points)| points)
        .map(|point| (point.step.0, point.timestamp.0, point.value.to_bits()))
        .collect()
}

proptest! {
    #[test]
    fn a_batch_gives_back_every_point_of_every_series_in_order_of_arrival(rows in any_rows()) {
        let (mut builder, _) = build(&rows);
        let Some(bytes) = builder.take() else {
            prop_assert!(rows.iter().all(|(_, _, cells)| cells.is_empty()));
            return Ok(());
        };
        let batch = PointsBatch::decode(&bytes, Limits::default()).unwrap();
        for (name, expected) in names().iter().zip(model(&rows)) {
            prop_assert_eq!(read(&batch, name), expected, "{:?}", name);
        }
        prop_assert_eq!(batch.len(), rows.iter().map(|(_, _, cells)| cells.len()).sum::<usize>());
        let of_user = rows.iter().filter(|(_, _, cells)| cells.iter().any(|(at, _)| *at != 5));
        prop_assert_eq!(batch.max_step(), of_user.map(|(step, ..)| Step(*step)).max());
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(PointsBatch::decode(&bytes, Limits::default()).is_err());
        let limits = Limits { max_points: 1000, ..Limits::default() };
        for flags in [0, 1] {
            let mut batch = b"RTB\x01".to_vec();
            batch.push(flags);
            batch.extend(&bytes);
            if let Ok(batch) = PointsBatch::decode(&batch, limits) {
                prop_assert!(batch.len() <= 1000);
            }
        }
    }

    #[test]
    fn a_damaged_batch_never_panics_and_a_shortened_one_is_an_error(
        rows in any_rows(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let (mut builder, _) = build(&rows);
        let Some(bytes) = builder.take() else { return Ok(()) };
        let at = at.index(bytes.len());
        prop_assert!(PointsBatch::decode(&bytes[..at], Limits::default()).is_err());
        let mut damaged = bytes;
        damaged[at] ^= 1 << bit;
        if let Ok(batch) = PointsBatch::decode(&damaged, Limits::default()) {
            let points: usize = batch.iter().map(|(_, points)| points.len()).sum();
            prop_assert_eq!(points, batch.len());
        }
    }
}

#[test]
fn series_stay_registered_after_a_batch_was_taken() {
    let mut builder = BatchBuilder::new();
    let loss = builder.series(&SeriesName::new("loss")).unwrap();
    let unused = builder.series(&SeriesName::new("unused")).unwrap();
    assert_ne!(loss, unused);
    for step in 0..3 {
        builder
            .push(Step(step), Timestamp(step), &[(loss, 1.5)])
            .unwrap();
        assert_eq!(builder.points(), 1);
        let batch = PointsBatch::decode(&builder.take().unwrap(), Limits::default()).unwrap();
        assert_eq!(batch.series(), [SeriesName::new("loss")]);
        assert_eq!(batch.points(0)[0].step, Step(step));
        assert!(batch.points(1).is_empty());
    }
    assert_eq!(builder.series(&SeriesName::new("loss")).unwrap(), loss);
    assert!(builder.is_empty() && builder.take().is_none());
}

#[test]
fn a_full_batch_says_so_and_can_be_taken() {
    let mut builder = BatchBuilder::new();
    let row: Vec<_> = (0..100_000)
        .map(|at| {
            (
                builder.series(&SeriesName::new(format!("m{at}"))).unwrap(),
                f64::from(at),
            )
        })
        .collect();
    for step in 0..20 {
        builder.push(Step(step), Timestamp(0), &row).unwrap();
    }
    let error = builder.push(Step(20), Timestamp(0), &row).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let bytes = builder.take().unwrap();
    assert!(bytes.len() < 64 << 20);
    let batch = PointsBatch::decode(&bytes, Limits::default()).unwrap();
    assert_eq!((batch.len(), batch.series().len()), (2_000_000, 100_000));
    builder.push(Step(20), Timestamp(0), &row).unwrap();
}

#[test]
fn a_series_needs_a_name_of_bounded_length() {
    let mut builder = BatchBuilder::new();
    assert_eq!(
        builder.series(&SeriesName::new("")).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let long = builder
        .series(&SeriesName::new("x".repeat(1025)))
        .unwrap_err();
    assert!(long.message().ends_with("has 1025") && long.message().len() < 200);
    builder.series(&SeriesName::new("x".repeat(1024))).unwrap();
    let other = BatchBuilder::new().series(&SeriesName::new("a")).unwrap();
    let unknown = BatchBuilder::new().push(Step(0), Timestamp(0), &[(other, 1.0)]);
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_batch_beyond_the_limits_is_refused_before_it_is_unpacked() {
    let rows: Vec<Row> = (0..1000).map(|step| (step, step, vec![(0, 1.0)])).collect();
    let bytes = build(&rows).0.take().unwrap();
    // Constants: a few dozen bytes stand for all points, so the length of the bytes is no bound.
    assert!(bytes.len() < 100, "{}", bytes.len());
    let limits = Limits {
        max_points: 999,
        ..Limits::default()
    };
    let error = PointsBatch::decode(&bytes, limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.message(),
        "metric payload has 1000 rows in a group, at most 999 are read"
    );
}

#[test]
fn the_format_of_a_batch_does_not_change_unnoticed() {
    let mut builder = BatchBuilder::new();
    let loss = builder.series(&SeriesName::new("a/loss")).unwrap();
    let lr = builder.series(&SeriesName::new("a/lr")).unwrap();
    builder
        .push(Step(7), Timestamp(1_000_000), &[(loss, 0.5), (lr, 0.1)])
        .unwrap();
    builder
        .push(Step(8), Timestamp(2_000_000), &[(loss, 0.25)])
        .unwrap();
    let hex = hex(&builder.take().unwrap());
    // docs/formats/batch.md walks through these bytes.
    assert_eq!(
        hex,
        "525442010002000006612f6c6f7373000301720202020201010201010000010e80897a000000003f019a9999999999b93f108092f401000000803e"
    );
}

#[test]
fn a_newer_batch_is_unsupported() {
    let mut bytes = build(&[(1, 2, vec![(0, 1.0)])]).0.take().unwrap();
    bytes[3] = 7;
    let error = PointsBatch::decode(&bytes, Limits::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    bytes[3] = 1;
    bytes[4] = 0x80;
    assert_eq!(
        PointsBatch::decode(&bytes, Limits::default())
            .unwrap_err()
            .message(),
        "batch has unknown flags 128"
    );
}
