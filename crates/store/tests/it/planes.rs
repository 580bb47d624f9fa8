//! The encoding of cold chunks: what goes in comes out, and nothing that comes in breaks it.

use proptest::prelude::*;
use runtree_core::manifest::BLOCK_BYTES;
use runtree_store::chunk::planes::{self, FOOTER_BYTES, MAX_TAIL_BYTES, Tail};

use crate::support::{BLOCK, noise};

fn tail_of(object: &[u8]) -> runtree_core::Result<Tail> {
    let start = object.len().saturating_sub(MAX_TAIL_BYTES);
    Tail::parse(&object[start..], object.len() as u64)
}

fn decode(object: &[u8]) -> runtree_core::Result<Vec<u8>> {
    let tail = tail_of(object)?;
    let mut raw = vec![0; tail.raw_bytes as usize];
    let mut scratch = Vec::new();
    for (index, block) in raw.chunks_mut(BLOCK).enumerate() {
        let (at, bytes) = tail.block(index);
        let stored = &object[at as usize..at as usize + bytes];
        tail.decode(index, stored, block, &mut scratch)?;
    }
    Ok(raw)
}

/// Floats near each other, as weights are: exponents alike, mantissas noise.
fn weights(seed: u64, count: usize) -> Vec<f32> {
    noise(seed, 4 * count)
        .chunks_exact(4)
        .map(|bytes| {
            let unit =
                f64::from(u32::from_le_bytes(bytes.try_into().unwrap())) / f64::from(u32::MAX);
            ((unit - 0.5) * 0.04) as f32
        })
        .collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn weights_shrink_and_come_back() {
    let raw = bytes_of(&weights(1, 700_000));
    let object = planes::encode(&raw, Some(4)).unwrap().unwrap();
    assert!(
        object.len() * 100 < raw.len() * 92,
        "{} of {}",
        object.len(),
        raw.len()
    );
    assert_eq!(tail_of(&object).unwrap().item_bytes, 4);
    assert_eq!(decode(&object).unwrap(), raw);
    let guessed = planes::encode(&raw, None).unwrap().unwrap();
    assert!(guessed.len() <= object.len() + object.len() / 100);
    assert_eq!(decode(&guessed).unwrap(), raw);
}

#[test]
fn bf16_weights_shrink() {
    let raw: Vec<u8> = weights(2, 700_000)
        .iter()
        .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
        .collect();
    let object = planes::encode(&raw, Some(2)).unwrap().unwrap();
    assert!(
        object.len() * 100 < raw.len() * 80,
        "{} of {}",
        object.len(),
        raw.len()
    );
    assert_eq!(decode(&object).unwrap(), raw);
}

#[test]
fn noise_is_never_encoded() {
    for len in [1, 100, 10_000, BLOCK, 3 * BLOCK + 17] {
        for width in [None, Some(1), Some(2), Some(4), Some(8), Some(16)] {
            assert_eq!(
                planes::encode(&noise(3, len), width).unwrap(),
                None,
                "{len} {width:?}"
            );
        }
    }
    assert_eq!(planes::encode(&[], None).unwrap(), None);
}

#[test]
fn a_block_of_noise_among_zeros_is_stored_as_it_is() {
    let mut raw = vec![0; 4 * BLOCK];
    raw[BLOCK..2 * BLOCK].copy_from_slice(&noise(4, BLOCK));
    let object = planes::encode(&raw, Some(4)).unwrap().unwrap();
    let tail = tail_of(&object).unwrap();
    assert_eq!(tail.block(1).1, BLOCK);
    assert!(tail.block(2).1 < 1000);
    assert_eq!(decode(&object).unwrap(), raw);
}

#[test]
fn a_length_that_promises_too_much_is_refused_before_memory_is_taken() {
    let object = planes::encode(&vec![0; 2 * BLOCK], Some(4))
        .unwrap()
        .unwrap();
    for (at, value) in [(0, u64::MAX), (0, 64 * BLOCK_BYTES + 1), (0, 0)] {
        let mut hostile = object.clone();
        let footer = hostile.len() - FOOTER_BYTES;
        hostile[footer + at..footer + at + 8].copy_from_slice(&value.to_le_bytes());
        tail_of(&hostile).unwrap_err();
    }
}

#[test]
fn every_flipped_bit_of_table_and_footer_is_noticed() {
    let object = planes::encode(&vec![1; 3 * BLOCK + 5], Some(2))
        .unwrap()
        .unwrap();
    let start = object.len() - FOOTER_BYTES - 4 * 4;
    for bit in start * 8..object.len() * 8 {
        let mut damaged = object.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        tail_of(&damaged).unwrap_err();
    }
}

fn compressible() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        1..400_usize,
        (BLOCK - 40)..(BLOCK + 40),
        (2 * BLOCK)..(2 * BLOCK + 99)
    ];
    (len, any::<u64>(), 1..40_u8).prop_map(|(len, seed, range)| {
        noise(seed, len)
            .into_iter()
            .map(|byte| byte % range)
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_encoded_comes_back_and_is_smaller(
        raw in compressible(),
        width in proptest::option::of(prop_oneof![Just(1_u8), Just(2), Just(4), Just(8), Just(16), any::<u8>()]),
    ) {
        if let Some(object) = planes::encode(&raw, width).unwrap() {
            prop_assert!(object.len() < raw.len());
            prop_assert_eq!(decode(&object).unwrap(), raw);
        }
    }

    #[test]
    fn truncated_objects_are_refused(raw in compressible(), keep in 0.0..1.0_f64) {
        if let Some(object) = planes::encode(&raw, Some(4)).unwrap() {
            let keep = ((object.len() as f64) * keep) as usize;
            prop_assert!(tail_of(&object[..keep]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_panic(end in proptest::collection::vec(any::<u8>(), 0..400), size: u64) {
        let _ = Tail::parse(&end, size);
    }

    #[test]
    fn any_block_is_decoded_without_panic(stored in proptest::collection::vec(any::<u8>(), 0..400)) {
        let object = planes::encode(&vec![7; BLOCK + 100], Some(8)).unwrap().unwrap();
        let tail = tail_of(&object).unwrap();
        let mut raw = vec![0; BLOCK];
        if tail.decode(0, &stored, &mut raw, &mut Vec::new()).is_ok() {
            // zstd has no checksum here: what decodes is judged by the CRC of the raw block.
            prop_assert_eq!(raw.len(), BLOCK);
        }
    }
}
