//! Points to test with.

use proptest::prelude::*;
use runtree_core::lineage::{AttemptId, Segment};
use runtree_core::{AttemptNumber, Error, Result, RunId, Step, Timestamp};
use runtree_metrics::{Point, Points, StoredBlock};

/// A deterministic source of noise (xorshift): sizes and charts must not change between runs.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In `-1..1`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

pub(crate) fn point(step: i64, time: i64, value: f64) -> Point {
    Point {
        step: Step(step),
        timestamp: Timestamp(time),
        value,
    }
}

/// Points with their value's bits: NaN equals itself.
pub(crate) fn bits(points: &Points) -> Vec<(i64, i64, u64)> {
    let exact = |point: Point| (point.step.0, point.timestamp.0, point.value.to_bits());
    points.iter().map(exact).collect()
}

pub(crate) fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<f32>().prop_map(f64::from),
        3 => any::<u64>().prop_map(f64::from_bits),
        2 => (-100_i32..100).prop_map(f64::from),
        1 => prop::sample::select(vec![
            f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324,
        ]),
    ]
}

pub(crate) fn any_step() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => -50_i64..50,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0]),
    ]
}

pub(crate) fn any_point() -> impl Strategy<Value = Point> {
    let time = prop_oneof![0_i64..1_000_000_000, any::<i64>()];
    (any_step(), time, any_value()).prop_map(|(step, time, value)| point(step, time, value))
}

/// Blocks as an index would keep them.
#[derive(Default)]
pub(crate) struct Shelf {
    blocks: Vec<Vec<u8>>,
    pub(crate) loads: std::cell::Cell<usize>,
}

impl Shelf {
    /// Stores points as blocks, in order.
    pub(crate) fn put(&mut self, points: Points) -> Vec<StoredBlock> {
        let store = |block: runtree_metrics::Block| {
            self.blocks.push(block.encode());
            StoredBlock {
                id: self.blocks.len() as u64 - 1,
                summaries: block.summaries(),
            }
        };
        points.into_blocks().into_iter().map(store).collect()
    }
}

impl runtree_metrics::BlockSource for Shelf {
    fn load(&self, id: u64) -> Result<Points> {
        self.loads.set(self.loads.get() + 1);
        let bytes = self.blocks.get(id as usize);
        let bytes = bytes.ok_or_else(|| Error::not_found(format!("block {id}")))?;
        Ok(runtree_metrics::Block::decode(bytes)?.into_points())
    }

    fn load_times(&self, id: u64) -> Result<runtree_metrics::Times> {
        let bytes = self.blocks.get(id as usize);
        let bytes = bytes.ok_or_else(|| Error::not_found(format!("block {id}")))?;
        runtree_metrics::Block::decode_times(bytes)
    }
}

pub(crate) fn segment(attempt: u32, first: i64, last: i64) -> Segment {
    Segment {
        id: AttemptId {
            run: RunId::from_parts(1, 1),
            attempt: AttemptNumber(attempt),
        },
        first: Step(first),
        last: Step(last),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
