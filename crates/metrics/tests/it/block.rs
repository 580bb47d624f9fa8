use proptest::prelude::*;
use runtree_core::ErrorKind;
use runtree_metrics::{Block, Points, Summaries, Summary};

use crate::support::{any_point, bits, hex, point};

fn any_block(most: usize) -> impl Strategy<Value = Block> {
    let regular = (
        1..most,
        any::<i64>(),
        any::<i64>(),
        1_i64..1000,
        any::<u64>(),
    );
    let regular = regular.prop_map(|(count, start, time, stride, seed)| {
        let mut noise = crate::support::Noise(seed | 1);
        let points = (0..count as i64).map(|index| {
            let value = match seed % 4 {
                0 => f64::from(noise.unit() as f32),
                1 => noise.unit(),
                2 => f64::from_bits(noise.next()),
                _ => index as f64 * 1e-5,
            };
            point(
                start.wrapping_add(index.wrapping_mul(stride)),
                time.wrapping_add(index),
                value,
            )
        });
        Block::new(Points::from_arrival(points)).unwrap()
    });
    let odd = prop::collection::vec(any_point(), 1..300)
        .prop_map(|points| Block::new(Points::from_arrival(points)).unwrap());
    prop_oneof![regular, odd]
}

proptest! {
    #[test]
    fn a_block_comes_back_bit_for_bit(block in any_block(4096)) {
        let back = Block::decode(&block.encode()).unwrap();
        prop_assert_eq!(bits(back.points()), bits(block.points()));
    }

    #[test]
    fn summaries_come_back_and_say_what_a_loop_over_the_points_says(block in any_block(1000)) {
        let summaries = block.summaries();
        let points = block.points();
        prop_assert_eq!(summaries.as_slice().len(), points.len().div_ceil(256));
        for (index, summary) in summaries.as_slice().iter().enumerate() {
            let range = 256 * index..points.len().min(256 * index + 256);
            let values = &points.values()[range.clone()];
            let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            prop_assert_eq!(summary.n as usize, range.len());
            prop_assert_eq!(summary.nonfinite as usize, range.len() - finite.len());
            prop_assert_eq!(summary.step_first.0, points.steps()[range.start]);
            prop_assert_eq!(summary.step_last.0, points.steps()[range.end - 1]);
            prop_assert_eq!(summary.first.to_bits(), values[0].to_bits());
            prop_assert_eq!(summary.last.to_bits(), values[values.len() - 1].to_bits());
            prop_assert_eq!(summary.time_min.0, *points.timestamps()[range.clone()].iter().min().unwrap());
            prop_assert_eq!(summary.time_max.0, *points.timestamps()[range].iter().max().unwrap());
            let min = finite.iter().copied().fold(f64::NAN, f64::min);
            let max = finite.iter().copied().fold(f64::NAN, f64::max);
            prop_assert!(min.is_nan() == summary.min.is_nan() && (min.is_nan() || min == summary.min));
            prop_assert!(max.is_nan() == summary.max.is_nan() && (max.is_nan() || max == summary.max));
            let sum: f64 = finite.iter().sum();
            prop_assert!(sum.to_bits() == summary.sum.to_bits() || sum == summary.sum);
            if !min.is_nan() {
                prop_assert_eq!(points.at(summary.min_step).unwrap().value, summary.min);
                prop_assert_eq!(points.at(summary.max_step).unwrap().value, summary.max);
            }
        }
        // NaN is not equal to itself, so bytes are compared.
        let bytes = summaries.encode();
        prop_assert_eq!(Summaries::decode(&bytes).unwrap().encode(), bytes);
        let total = summaries.total();
        prop_assert_eq!(total.n as usize, points.len());
        let whole = Summary::of(points, 0..points.len()).unwrap();
        prop_assert_eq!(
            (total.nonfinite, total.min_step, total.max_step, total.time_min, total.time_max),
            (whole.nonfinite, whole.min_step, whole.max_step, whole.time_min, whole.time_max)
        );
    }

    #[test]
    fn any_bytes_are_a_block_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut block = b"RTM\x01".to_vec();
        block.extend(&bytes);
        if let Ok(block) = Block::decode(&block) {
            prop_assert!(block.points().len() <= 4096);
        }
        prop_assert!(Block::decode(&bytes).is_err());
        let _ = Summaries::decode(&bytes);
    }

    #[test]
    fn a_damaged_block_never_panics_and_a_shortened_one_is_an_error(
        block in any_block(600), at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let bytes = block.encode();
        let mut damaged = bytes.clone();
        let at = at.index(bytes.len());
        damaged[at] ^= 1 << bit;
        if let Ok(block) = Block::decode(&damaged) {
            prop_assert!(block.points().len() <= 4096);
        }
        prop_assert!(Block::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn a_newer_block_is_unsupported_and_says_what_to_do() {
    let block = Block::new(Points::from_arrival([point(1, 2, 3.0)])).unwrap();
    let mut bytes = block.encode();
    bytes[3] = 2;
    let error = Block::decode(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.message(),
        "block payloads have version 2, this runtree reads up to 1"
    );
    assert!(error.hint().unwrap().contains("upgrade"));
    let mut bytes = block.summaries().encode();
    bytes[0] = 9;
    assert_eq!(
        Summaries::decode(&bytes).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn bytes_after_the_end_and_a_claimed_length_are_refused() {
    let block = Block::new(Points::from_arrival([point(1, 2, 3.0)])).unwrap();
    let mut bytes = block.encode();
    bytes.push(0);
    assert_eq!(
        Block::decode(&bytes).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let error = Block::decode(b"RTM\x01\xff\xff\xff\xff\x0f").unwrap_err();
    assert_eq!(
        error.message(),
        "metric payload has 4294967295 points in a block, at most 4096 are read"
    );
    assert!(Block::decode(b"RTM\x01\x00").is_err());
}

#[test]
fn the_format_of_a_block_does_not_change_unnoticed() {
    let points = (0..3).map(|step| point(step, 1_000 * step, f64::from(step as f32 * 0.5)));
    let block = Block::new(Points::from_arrival(points)).unwrap();
    let hex = hex(&block.encode());
    // docs/formats/block.md walks through these bytes.
    assert_eq!(hex, "52544d010300020000d00f0000000000000000003f0000803f");
    let golden = (0..25).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
    let golden: Vec<u8> = golden.collect();
    assert_eq!(Block::decode(&golden).unwrap(), block);
}
