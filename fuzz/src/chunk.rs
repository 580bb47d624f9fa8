//! Encoded chunks, self-contained and differences. The tables have a checksum that no fuzzer guesses, so real ones are damaged: the first bytes say where.

use runtree_store::chunk::encoded::{Base, Scratch, Tail, encode};

const BLOCK_BYTES: u64 = 1 << 20;

/// Reads blocks of bytes in memory.
fn blocks_of(raw: &[u8]) -> impl FnMut(u64, &mut [u8]) -> runtree_core::Result<()> {
    |index, block| {
        let start = (index * BLOCK_BYTES) as usize;
        block.copy_from_slice(&raw[start..start + block.len()]);
        Ok(())
    }
}

/// Encoded chunks, self-contained and differences. The tables have a checksum that no fuzzer guesses, so real ones are damaged: the first bytes say where.
pub fn chunk(bytes: &[u8]) {
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
    let mut near = data.clone();
    if let Some(byte) = near.get_mut(usize::from(damage[3])) {
        *byte ^= damage[4];
    }
    for base in [None, Some(&near)] {
        let mut read_base = blocks_of(&near);
        let with = base.map(|_| Base {
            read: &mut read_base,
            depth: 1 + damage[5] % 8,
        });
        let Ok(Some(encoded)) = encode(data.len() as u64, Some(4), &mut blocks_of(&data), with)
        else {
            continue;
        };
        let mut object = encoded.bytes;
        let tail = Tail::parse(&object, object.len() as u64).expect("what was encoded parses");
        let at = usize::from(u16::from_le_bytes([damage[0], damage[1]])) % object.len();
        object[at] ^= damage[2];
        let damaged = Tail::parse(&object, object.len() as u64).unwrap_or(tail);
        let mut scratch = Scratch::default();
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
    }
}
