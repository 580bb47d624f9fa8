//! Encoded chunks. The table has a checksum that no fuzzer guesses, so real ones are damaged: the first bytes say where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtree_store::chunk::planes::{Tail, encode};

const BLOCK_BYTES: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    drop(Tail::parse(bytes, bytes.len() as u64));
    let Some((damage, data)) = bytes.split_first_chunk::<6>() else {
        return;
    };
    // Long enough, and regular enough, that encoding pays.
    let data: Vec<u8> = data
        .iter()
        .copied()
        .cycle()
        .take(data.len().saturating_mul(64))
        .collect();
    let Ok(Some(mut object)) = encode(&data, Some(4)) else {
        return;
    };
    let tail = Tail::parse(&object, object.len() as u64).expect("what was encoded parses");
    let at = usize::from(u16::from_le_bytes([damage[0], damage[1]])) % object.len();
    object[at] ^= damage[2];
    let damaged = Tail::parse(&object, object.len() as u64).unwrap_or(tail);
    let mut scratch = Vec::new();
    for index in 0..damaged.raw_bytes.div_ceil(BLOCK_BYTES) as usize {
        let (at, stored) = damaged.block(index);
        let mut raw =
            vec![0; (damaged.raw_bytes - index as u64 * BLOCK_BYTES).min(BLOCK_BYTES) as usize];
        drop(damaged.decode(
            index,
            &object[at as usize..at as usize + stored],
            &mut raw,
            &mut scratch,
        ));
    }
});
