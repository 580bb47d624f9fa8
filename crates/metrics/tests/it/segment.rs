//! Segments: what was logged comes back bit for bit, and bytes that somebody else made lead to an error, never further.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use runtree_core::{AttemptNumber, ErrorKind, RunId, Step, Timestamp, WriterId};
use runtree_metrics::{
    BatchBuilder, Limits, PointsBatch, SealedSeries, Segment, SegmentBuilder, SeriesName,
};

use crate::support::{Noise, any_step, any_value};

const WRITER: WriterId = WriterId::from_bits(42);
const FROM: u64 = 7;

fn names() -> Vec<SeriesName> {
    let ranked = |name: &str, rank| SeriesName {
        rank,
        ..SeriesName::new(name)
    };
    let mut names: Vec<SeriesName> = ["train/loss", "lr", "验证/损失", "a b - c", "lo", "lr/x"]
        .map(SeriesName::new)
        .to_vec();
    names.extend([ranked("loss", Some(0)), ranked("loss", Some(u32::MAX))]);
    names.extend([ranked("loss", None), ranked("loss", Some(3))]);
    names.push(SeriesName {
        system: true,
        ..SeriesName::new("loss")
    });
    names
}

/// One `log` call: step, time, values of some of [`names`].
type Row = (i64, i64, Vec<(usize, f64)>);

fn batch(rows: &[Row]) -> Option<PointsBatch> {
    let mut builder = BatchBuilder::new();
    let series: Vec<_> = names()
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
    let bytes = builder.take()?;
    Some(PointsBatch::decode(&bytes, Limits::default()).unwrap())
}

fn begin() -> SegmentBuilder {
    let run = RunId::from_parts(1_700_000_000_000, 1);
    SegmentBuilder::new(run, WRITER, AttemptNumber(3), FROM, 0xabc)
}

fn seal(frames: &[Vec<Row>]) -> Vec<u8> {
    let mut builder = begin();
    for (number, rows) in frames.iter().enumerate() {
        if let Some(batch) = batch(rows) {
            builder.push_points(FROM + number as u64, &batch);
        }
    }
    builder
        .finish(FROM + frames.len() as u64 + 1, 0xdef)
        .unwrap()
}

/// Per series and step: time, bits of the value, ordinal.
type Model = BTreeMap<(SeriesName, i64), (i64, u64, u64)>;

/// The last of each series and step, by a loop over the rows.
fn model(frames: &[Vec<Row>]) -> Model {
    let mut model = Model::new();
    for (number, rows) in frames.iter().enumerate() {
        for (step, time, cells) in rows {
            for &(at, value) in cells {
                let point = (*time, value.to_bits(), FROM + number as u64);
                model.insert((names()[at].clone(), *step), point);
            }
        }
    }
    model
}

fn read(segment: &Segment) -> Vec<SealedSeries> {
    let groups = 0..segment.groups();
    groups
        .flat_map(|group| segment.read_group(group).unwrap())
        .collect()
}

fn as_model(series: &[SealedSeries]) -> Model {
    let mut model = Model::new();
    for series in series {
        for (point, &ordinal) in series.points.iter().zip(&series.ordinals) {
            let key = (series.name.clone(), point.step.0);
            let value = (point.timestamp.0, point.value.to_bits(), ordinal);
            assert_eq!(model.insert(key, value), None, "one row for each step");
        }
    }
    model
}

fn any_frames() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let cells = prop::collection::vec((0_usize..names().len(), any_value()), 0..9);
    let row = (any_step(), any::<i64>(), cells);
    prop::collection::vec(prop::collection::vec(row, 0..25), 0..8)
}

proptest! {
    #[test]
    fn the_last_value_of_each_step_comes_back_bit_for_bit(frames in any_frames()) {
        let bytes = seal(&frames);
        let segment = Segment::open(bytes.clone()).unwrap();
        let expected = model(&frames);
        prop_assert_eq!(segment.head().points, expected.len() as u64);
        prop_assert_eq!(as_model(&read(&segment)), expected);
        let newest = frames.iter().flatten().filter(|(_, _, cells)| !cells.is_empty());
        let newest = newest.map(|(_, time, _)| *time).max();
        prop_assert_eq!(segment.head().newest.map(|time| time.0), newest);
        // Whoever seals the same frames makes the same object.
        prop_assert_eq!(seal(&frames), bytes);
    }

    #[test]
    fn what_stood_in_earlier_frames_can_be_left_out(frames in any_frames(), from in 0_u64..10) {
        let mut series = read(&Segment::open(seal(&frames)).unwrap());
        let mut expected = as_model(&series);
        for series in &mut series {
            series.keep_from(FROM + from);
        }
        expected.retain(|_, (_, _, ordinal)| *ordinal >= FROM + from);
        prop_assert_eq!(as_model(&series), expected);
    }

    #[test]
    fn damage_is_an_error_and_nothing_worse(frames in any_frames(), at in any::<prop::sample::Index>(), bits in 1_u8..) {
        let mut bytes = seal(&frames);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(segment) = Segment::open(bytes) {
            drop(segment.events());
            for group in 0..segment.groups() {
                drop(segment.read_group(group));
            }
        }
    }
}

#[test]
fn events_stand_beside_the_points() {
    let mut builder = begin();
    let events = [
        (7, b"opened".to_vec()),
        (9, Vec::new()),
        (300, vec![7; 100_000]),
    ];
    for (ordinal, payload) in &events {
        builder.push_event(*ordinal, payload).unwrap();
    }
    let batch = batch(&[(1, 2, vec![(0, f64::NAN)])]).unwrap();
    builder.push_points(8, &batch);
    assert_eq!(builder.points(), 1);
    let segment = Segment::open(builder.finish(301, 0xdef).unwrap()).unwrap();
    assert_eq!(segment.events().unwrap(), events);
    let head = segment.head();
    assert_eq!((head.from, head.to), (7, 301));
    assert_eq!((head.hash_from, head.hash_to), (0xabc, 0xdef));
    assert_eq!((head.attempt, head.writer), (AttemptNumber(3), WRITER));
    // And without any points: what is behind the last of them is sealed too.
    let mut builder = begin();
    builder.push_event(7, b"closed").unwrap();
    let segment = Segment::open(builder.finish(8, 1).unwrap()).unwrap();
    assert_eq!((segment.groups(), segment.head().points), (0, 0));
    assert_eq!(segment.events().unwrap(), [(7, b"closed".to_vec())]);
}

#[test]
fn a_long_metric_can_be_read_alone_and_short_ones_share() {
    let mut frames = Vec::new();
    for frame in 0..10 {
        let steps = frame * 10_000..(frame + 1) * 10_000;
        let long = |step: i64| (step, step, vec![(0, step as f64), (1, 0.5)]);
        let mut rows: Vec<Row> = steps.map(long).collect();
        rows.push((frame, frame, vec![(2, 1.0), (3, 2.0), (4, 3.0), (6, 4.0)]));
        frames.push(rows);
    }
    let segment = Segment::open(seal(&frames)).unwrap();
    let names: Vec<Vec<String>> = (0..segment.groups())
        .map(|group| {
            let series = segment.read_group(group).unwrap();
            series.into_iter().map(|series| series.name.name).collect()
        })
        .collect();
    assert_eq!(
        names,
        [
            vec!["a b - c", "lo", "loss"],
            vec!["lr"],
            vec!["train/loss"],
            vec!["验证/损失"]
        ]
    );
    assert_eq!(as_model(&read(&segment)), model(&frames));
}

#[test]
fn a_metric_of_more_rows_than_a_group_holds_continues_in_the_next() {
    let rows = (1 << 20) + 5;
    let mut builder = begin();
    let frame: Vec<Row> = (0..rows).map(|step| (step, step, vec![(0, 1.0)])).collect();
    builder.push_points(FROM, &batch(&frame).unwrap());
    let segment = Segment::open(builder.finish(FROM + 1, 0).unwrap()).unwrap();
    let lengths: Vec<usize> = (0..segment.groups())
        .map(|group| segment.read_group(group).unwrap()[0].points.len())
        .collect();
    assert_eq!(lengths, [1 << 20, 5]);
}

#[test]
fn what_claims_too_much_is_refused_before_anything_is_allocated() {
    let frames = vec![vec![(1, 1, vec![(0, 1.0), (6, 2.0)])]];
    let bytes = seal(&frames);
    let refused = |bytes: Vec<u8>, words: &str| {
        let error = Segment::open(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.chain().contains(words), "{}", error.chain());
    };
    refused(Vec::new(), "not a Parquet file");
    refused(b"PAR1\0\0\0\0PAR1".to_vec(), "Parquet");
    let mut footer = bytes.clone();
    let end = footer.len() - 8;
    footer[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(footer, "a footer of 4294967295 bytes");
    refused(bytes[..bytes.len() - 1].to_vec(), "not a Parquet file");
    let mut cut = bytes.clone();
    cut.drain(4..20);
    assert!(
        Segment::open(cut)
            .and_then(|segment| segment.read_group(0))
            .is_err()
    );
    // The size of the first page: its header follows the magic (there are no events), field 2 after field 1.
    let mut page = bytes.clone();
    assert_eq!(
        (page[4], page[6]),
        (0x15, 0x15),
        "two integers begin a page's header"
    );
    page.splice(7..8, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    refused(page, "");
    // A version that is not known yet is another thing than damage. The head stands in the footer as it is.
    let text = br#""version":1"#;
    let at = bytes.windows(text.len()).position(|window| window == text);
    let mut newer = bytes;
    newer[at.unwrap() + text.len() - 1] = b'2';
    assert_eq!(
        Segment::open(newer).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment-v1.parquet")
}

/// A bit of everything.
fn golden_frames() -> Vec<Vec<Row>> {
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    vec![
        vec![
            (i64::MIN, 0, vec![(0, 0.5), (6, -0.0)]),
            (
                2,
                1_700_000_000_000_000,
                vec![(0, f64::NAN), (1, 3e-4), (2, odd)],
            ),
        ],
        vec![
            (2, 1_700_000_000_100_000, vec![(0, f64::NEG_INFINITY)]),
            (i64::MAX, i64::MAX, vec![(0, 5e-324), (7, 1.0), (10, 2.0)]),
        ],
    ]
}

#[test]
fn a_segment_that_an_earlier_build_wrote_is_read() {
    let segment = Segment::open(std::fs::read(golden()).unwrap()).unwrap();
    assert_eq!(as_model(&read(&segment)), model(&golden_frames()));
    assert_eq!(
        segment.events().unwrap(),
        [(7, br#"{"event":"alive","at":1}"#.to_vec())]
    );
}

/// `cargo test -p runtree-metrics write_golden -- --ignored` after a new version was decided; never to make a test pass.
#[test]
#[ignore = "writes the golden file"]
fn write_golden() {
    let mut builder = begin();
    builder
        .push_event(FROM, br#"{"event":"alive","at":1}"#)
        .unwrap();
    for (number, rows) in golden_frames().iter().enumerate() {
        builder.push_points(FROM + 1 + number as u64 - 1, &batch(rows).unwrap());
    }
    std::fs::write(golden(), builder.finish(FROM + 3, 0xdef).unwrap()).unwrap();
}

/// Ten metrics as a trainer has them, and one alone; see `size.rs`.
fn training(rows: i64, metrics: usize, single: bool) -> Vec<u8> {
    let mut builder = begin();
    let mut noise = Noise(7);
    let mut time = 1_795_000_000_000_000;
    let mut frames: Vec<Vec<Row>> = Vec::new();
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
        let exact = |value: f64| {
            if single {
                f64::from(value as f32)
            } else {
                value
            }
        };
        let cells = values.map(exact).into_iter().enumerate().take(metrics);
        if step % 10 == 0 {
            frames.push(Vec::new());
        }
        frames
            .last_mut()
            .unwrap()
            .push((step, time, cells.collect()));
    }
    for (number, rows) in frames.iter().enumerate() {
        builder.push_points(FROM + number as u64, &batch(rows).unwrap());
    }
    builder.finish(FROM + frames.len() as u64, 0).unwrap()
}

#[test]
fn a_sealed_point_costs_at_most_five_bytes_born_as_f32_and_nine_as_f64() {
    for (rows, metrics) in [(1000, 10), (10_000, 10), (100_000, 1), (50_000, 10)] {
        let points = rows * metrics as i64;
        let bytes = |single| training(rows, metrics, single).len() as f64 / points as f64;
        let (single, double) = (bytes(true), bytes(false));
        println!(
            "segment of {rows:>6} rows x {metrics:>2} metrics: {single:.2} bytes a point born as f32, {double:.2} as f64"
        );
        assert!(single <= 5.0 && double <= 9.0);
    }
}
