//! The encodings of cold chunks: what goes in comes out, and nothing that comes in breaks it.

use proptest::prelude::*;
use runtree_core::manifest::BLOCK_BYTES;
use runtree_store::chunk::encoded::{
    self, Base, FOOTER_BYTES, MAX_DEPTH, MAX_TAIL_BYTES, Scratch, Tail,
};

use crate::support::{BLOCK, noise};

/// Reads blocks of bytes in memory.
fn blocks_of(raw: &[u8]) -> impl FnMut(u64, &mut [u8]) -> runtree_core::Result<()> {
    |index, block| {
        let start = index as usize * BLOCK;
        block.copy_from_slice(&raw[start..start + block.len()]);
        Ok(())
    }
}

fn encode(raw: &[u8], item_bytes: Option<u8>) -> runtree_core::Result<Option<Vec<u8>>> {
    let mut read = blocks_of(raw);
    let encoded = encoded::encode(raw.len() as u64, item_bytes, &mut read, None)?;
    Ok(encoded.map(|encoded| encoded.bytes))
}

fn encode_against(raw: &[u8], base: &[u8], item_bytes: Option<u8>) -> Option<encoded::Encoded> {
    let (mut read, mut read_base) = (blocks_of(raw), blocks_of(base));
    let base = Base {
        read: &mut read_base,
        depth: 3,
    };
    encoded::encode(raw.len() as u64, item_bytes, &mut read, Some(base)).unwrap()
}

fn tail_of(object: &[u8]) -> runtree_core::Result<Tail> {
    let start = object.len().saturating_sub(MAX_TAIL_BYTES);
    Tail::parse(&object[start..], object.len() as u64)
}

fn decode(object: &[u8]) -> runtree_core::Result<Vec<u8>> {
    let raw_bytes = tail_of(object)?.raw_bytes as usize;
    decode_onto(object, vec![0; raw_bytes])
}

/// Decodes over the base's bytes.
fn decode_onto(object: &[u8], base: Vec<u8>) -> runtree_core::Result<Vec<u8>> {
    let tail = tail_of(object)?;
    let mut raw = base;
    let mut scratch = Scratch::default();
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

fn bf16(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
        .collect()
}

#[test]
fn weights_shrink_and_come_back() {
    let raw = bytes_of(&weights(1, 700_000));
    let object = encode(&raw, Some(4)).unwrap().unwrap();
    assert!(
        object.len() * 100 < raw.len() * 92,
        "{} of {}",
        object.len(),
        raw.len()
    );
    assert_eq!(tail_of(&object).unwrap().item_bytes, 4);
    assert_eq!(decode(&object).unwrap(), raw);
    let guessed = encode(&raw, None).unwrap().unwrap();
    assert!(guessed.len() <= object.len() + object.len() / 100);
    assert_eq!(decode(&guessed).unwrap(), raw);
}

#[test]
fn bf16_weights_shrink() {
    let raw = bf16(&weights(2, 700_000));
    let object = encode(&raw, Some(2)).unwrap().unwrap();
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
                encode(&noise(3, len), width).unwrap(),
                None,
                "{len} {width:?}"
            );
        }
    }
    assert_eq!(encode(&[], None).unwrap(), None);
}

#[test]
fn a_block_of_noise_among_zeros_is_stored_as_it_is() {
    let mut raw = vec![0; 4 * BLOCK];
    raw[BLOCK..2 * BLOCK].copy_from_slice(&noise(4, BLOCK));
    let object = encode(&raw, Some(4)).unwrap().unwrap();
    let tail = tail_of(&object).unwrap();
    assert_eq!(tail.block(1).1, BLOCK);
    assert!(tail.block(2).1 < 1000);
    assert_eq!(decode(&object).unwrap(), raw);
}

#[test]
fn a_length_that_promises_too_much_is_refused_before_memory_is_taken() {
    let object = encode(&vec![0; 2 * BLOCK], Some(4)).unwrap().unwrap();
    for (at, value) in [(0, u64::MAX), (0, 64 * BLOCK_BYTES + 1), (0, 0)] {
        let mut hostile = object.clone();
        let footer = hostile.len() - FOOTER_BYTES;
        hostile[footer + at..footer + at + 8].copy_from_slice(&value.to_le_bytes());
        tail_of(&hostile).unwrap_err();
    }
}

#[test]
fn every_flipped_bit_of_table_and_footer_is_noticed() {
    let object = encode(&vec![1; 3 * BLOCK + 5], Some(2)).unwrap().unwrap();
    let start = object.len() - FOOTER_BYTES - 4 * 4;
    for bit in start * 8..object.len() * 8 {
        let mut damaged = object.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        tail_of(&damaged).unwrap_err();
    }
}

#[test]
fn a_difference_is_what_changed() {
    // bf16 weights of which one in fifty changed in its last bits.
    let base: Vec<u8> = bf16(&weights(2, 900_000));
    let mut raw = base.clone();
    for item in (0..900_000).step_by(50) {
        raw[2 * item] ^= 1;
    }
    let alone = encode(&raw, Some(2)).unwrap().unwrap();
    let encoded = encode_against(&raw, &base, Some(2)).unwrap();
    assert!(encoded.is_delta);
    assert!(
        encoded.bytes.len() * 20 < alone.len(),
        "{} beside {}",
        encoded.bytes.len(),
        alone.len()
    );
    let tail = tail_of(&encoded.bytes).unwrap();
    let of_base = tail.base.unwrap();
    assert_eq!((of_base.depth, of_base.crc64.len()), (3, 2));
    assert_eq!(decode_onto(&encoded.bytes, base).unwrap(), raw);
}

#[test]
fn a_block_that_is_its_bases_takes_no_bytes_and_one_that_is_noise_is_stored() {
    let base = noise(5, 5 * BLOCK + 9);
    let mut raw = base.clone();
    raw[BLOCK..2 * BLOCK].copy_from_slice(&noise(6, BLOCK));
    let encoded = encode_against(&raw, &base, Some(4)).unwrap();
    let tail = tail_of(&encoded.bytes).unwrap();
    let lengths: Vec<usize> = (0..6).map(|index| tail.block(index).1).collect();
    assert_eq!(lengths, [0, BLOCK, 0, 0, 0, 0]);
    assert!(!tail.needs_base(1) && tail.needs_base(2));
    assert_eq!(decode_onto(&encoded.bytes, base).unwrap(), raw);
}

#[test]
fn a_base_that_does_not_help_is_not_used() {
    let raw = bytes_of(&weights(1, 400_000));
    let encoded = encode_against(&raw, &noise(1, raw.len()), Some(4)).unwrap();
    assert!(!encoded.is_delta);
    assert_eq!(encoded.bytes, encode(&raw, Some(4)).unwrap().unwrap());
    assert_eq!(
        encode_against(&noise(1, BLOCK), &noise(2, BLOCK), None),
        None
    );
}

#[test]
fn a_difference_that_is_too_deep_or_that_lies_about_its_base_is_refused() {
    let base = noise(5, 2 * BLOCK);
    let mut raw = base.clone();
    raw[7] ^= 1;
    let object = encode_against(&raw, &base, None).unwrap().bytes;
    let footer = object.len() - FOOTER_BYTES;
    for (at, value) in [(14, 0), (14, MAX_DEPTH + 1), (15, 1), (13, 3)] {
        let mut hostile = object.clone();
        hostile[footer + at] = value;
        let tables = footer - 2 * 12;
        // Its checksum is right, too: nothing but the field itself is wrong.
        let sum = crc_of(&hostile[tables..footer + 16]);
        hostile[footer + 16..footer + 24].copy_from_slice(&sum.to_le_bytes());
        tail_of(&hostile).unwrap_err();
    }
}

fn crc_of(bytes: &[u8]) -> u64 {
    runtree_store::checksum(bytes).crc64.0[0]
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
        if let Some(object) = encode(&raw, width).unwrap() {
            prop_assert!(object.len() < raw.len());
            prop_assert_eq!(decode(&object).unwrap(), raw);
        }
    }

    #[test]
    fn differences_come_back(
        raw in compressible(),
        changes in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 0..40),
        width in proptest::option::of(prop_oneof![Just(1_u8), Just(2), Just(4), Just(8), Just(16)]),
    ) {
        let mut base = raw.clone();
        for (at, value) in changes {
            let at = (base.len() as f64 * at) as usize;
            base[at] = value;
        }
        if let Some(encoded) = encode_against(&raw, &base, width) {
            prop_assert!(encoded.bytes.len() < raw.len());
            prop_assert_eq!(tail_of(&encoded.bytes).unwrap().base.is_some(), encoded.is_delta);
            let under = if encoded.is_delta { base } else { vec![0; raw.len()] };
            prop_assert_eq!(decode_onto(&encoded.bytes, under).unwrap(), raw);
        }
    }

    #[test]
    fn truncated_objects_are_refused(raw in compressible(), keep in 0.0..1.0_f64) {
        if let Some(object) = encode(&raw, Some(4)).unwrap() {
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
        let object = encode(&vec![7; BLOCK + 100], Some(8)).unwrap().unwrap();
        let tail = tail_of(&object).unwrap();
        let mut raw = vec![0; BLOCK];
        if tail.decode(0, &stored, &mut raw, &mut Scratch::default()).is_ok() {
            // zstd has no checksum here: what decodes is judged by the CRC of the raw block.
            prop_assert_eq!(raw.len(), BLOCK);
        }
    }
}
