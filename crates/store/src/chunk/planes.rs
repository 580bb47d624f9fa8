//! Byte planes: every block's bytes regrouped by their position in an item, and the difference of two blocks.
//!
//! The exponents of floats are alike and their low mantissa bits are noise: planes put like beside like. Pure transforms of memory; what is done with
//! them is in [`super::encoded`].
//!
//! Tiles of a fixed number of items go through integers of their size, two by two: that is what the compiler turns into the interleaving instructions that every processor
//! has (measured on one core: items of 2 and 4 bytes join at 12 to 18 GB/s where a loop over bytes makes 3, and split at 13 and 6 where it makes 2.5). So there is no intrinsic here and nothing to detect at run time.

/// Item sizes that have planes.
pub(super) const WIDTHS: [u8; 5] = [1, 2, 4, 8, 16];

/// Items that are regrouped at a time.
const TILE: usize = 64;

/// Plane `p` holds byte `p` of every whole item; what is left of the last item follows the planes.
pub(super) fn split(item_bytes: u8, raw: &[u8], planes: &mut [u8]) {
    match item_bytes {
        2 => split_tiles(raw, planes, |tile| halves(&tile.map(u16::from_le_bytes))),
        4 => split_tiles(raw, planes, |tile| quarters(&tile.map(u32::from_le_bytes))),
        8 => split_tiles(raw, planes, |tile| eighths(&tile.map(u64::from_le_bytes))),
        16 => split_tiles(raw, planes, |tile| {
            let items = tile.map(u128::from_le_bytes);
            let low = eighths(&tile_of(|at| items[at] as u64));
            let high = eighths(&tile_of(|at| (items[at] >> 64) as u64));
            std::array::from_fn(|plane| {
                if plane < 8 {
                    low[plane]
                } else {
                    high[plane - 8]
                }
            })
        }),
        _ => planes.copy_from_slice(raw),
    }
}

/// Undoes [`split`].
pub(super) fn join(item_bytes: u8, planes: &[u8], raw: &mut [u8]) {
    join_with(item_bytes, planes, raw, |raw, joined| {
        raw.copy_from_slice(joined);
    });
}

/// `raw ^=` what [`join`] would make of `planes`.
pub(super) fn join_xor(item_bytes: u8, planes: &[u8], raw: &mut [u8]) {
    join_with(item_bytes, planes, raw, xor);
}

fn join_with(item_bytes: u8, planes: &[u8], raw: &mut [u8], put: impl Fn(&mut [u8], &[u8])) {
    match item_bytes {
        2 => join_tiles(planes, raw, put, |[a, b]| pairs(a, b).map(u16::to_le_bytes)),
        4 => join_tiles(planes, raw, put, |[a, b, c, d]| {
            fours(pairs(a, b), pairs(c, d)).map(u32::to_le_bytes)
        }),
        8 => join_tiles(planes, raw, put, |planes| {
            eights(planes).map(u64::to_le_bytes)
        }),
        16 => join_tiles::<16>(planes, raw, put, |planes| {
            let low = eights(std::array::from_fn(|plane| planes[plane]));
            let high = eights(std::array::from_fn(|plane| planes[plane + 8]));
            tile_of(|at| (u128::from(low[at]) | u128::from(high[at]) << 64).to_le_bytes())
        }),
        _ => put(raw, planes),
    }
}

/// `to ^= from`.
pub(super) fn xor(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

/// Whether all bytes are 0.
pub(super) fn is_zero(block: &[u8]) -> bool {
    // Word by word with an early end per 4 KiB: the compiler turns the inner loop into wide loads.
    block
        .chunks(4096)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

fn split_tiles<const W: usize>(
    raw: &[u8],
    planes: &mut [u8],
    split: impl Fn(&[[u8; W]; TILE]) -> [[u8; TILE]; W],
) {
    let (items, rest) = raw.as_chunks::<W>();
    let count = items.len();
    planes[count * W..].copy_from_slice(rest);
    let (tiles, last) = items.as_chunks::<TILE>();
    for (number, tile) in tiles.iter().enumerate() {
        for (position, plane) in split(tile).iter().enumerate() {
            planes[position * count + number * TILE..][..TILE].copy_from_slice(plane);
        }
    }
    for position in 0..W {
        let plane = &mut planes[position * count..][..count];
        for (byte, item) in plane[tiles.len() * TILE..].iter_mut().zip(last) {
            *byte = item[position];
        }
    }
}

fn join_tiles<const W: usize>(
    planes: &[u8],
    raw: &mut [u8],
    put: impl Fn(&mut [u8], &[u8]),
    join: impl Fn([&[u8; TILE]; W]) -> [[u8; W]; TILE],
) {
    let (items, rest) = raw.as_chunks_mut::<W>();
    let count = items.len();
    put(rest, &planes[count * W..]);
    let plane: [&[u8]; W] = std::array::from_fn(|position| &planes[position * count..][..count]);
    let (tiles, last) = items.as_chunks_mut::<TILE>();
    let done = tiles.len() * TILE;
    for (number, tile) in tiles.iter_mut().enumerate() {
        let of_tile = plane.map(|plane| {
            plane[number * TILE..]
                .first_chunk()
                .expect("BUG: a plane has an item's byte for each item")
        });
        put(tile.as_flattened_mut(), join(of_tile).as_flattened());
    }
    for (at, item) in last.iter_mut().enumerate() {
        put(item, &plane.map(|plane| plane[done + at]));
    }
}

fn pairs(low: &[u8; TILE], high: &[u8; TILE]) -> [u16; TILE] {
    tile_of(|at| u16::from(low[at]) | u16::from(high[at]) << 8)
}

fn fours(low: [u16; TILE], high: [u16; TILE]) -> [u32; TILE] {
    tile_of(|at| u32::from(low[at]) | u32::from(high[at]) << 16)
}

fn eights(planes: [&[u8; TILE]; 8]) -> [u64; TILE] {
    let four = |first: usize| {
        fours(
            pairs(planes[first], planes[first + 1]),
            pairs(planes[first + 2], planes[first + 3]),
        )
    };
    let (low, high) = (four(0), four(4));
    tile_of(|at| u64::from(low[at]) | u64::from(high[at]) << 32)
}

fn halves(items: &[u16; TILE]) -> [[u8; TILE]; 2] {
    [
        items.map(|item| item as u8),
        items.map(|item| (item >> 8) as u8),
    ]
}

fn quarters(items: &[u32; TILE]) -> [[u8; TILE]; 4] {
    [
        items.map(|item| item as u8),
        items.map(|item| (item >> 8) as u8),
        items.map(|item| (item >> 16) as u8),
        items.map(|item| (item >> 24) as u8),
    ]
}

fn eighths(items: &[u64; TILE]) -> [[u8; TILE]; 8] {
    let low = quarters(&items.map(|item| item as u32));
    let high = quarters(&items.map(|item| (item >> 32) as u32));
    std::array::from_fn(|plane| {
        if plane < 4 {
            low[plane]
        } else {
            high[plane - 4]
        }
    })
}

fn tile_of<T>(item: impl FnMut(usize) -> T) -> [T; TILE] {
    std::array::from_fn(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_those_of_the_definition_at_every_length() {
        for width in WIDTHS.map(usize::from) {
            for length in [
                0,
                1,
                width,
                63 * width,
                64 * width,
                64 * width + 1,
                200 * width + width - 1,
                1 << 12,
            ] {
                let raw: Vec<u8> = (0..length).map(|at| ((at * 131) >> 3) as u8).collect();
                let items = length / width;
                let mut expected = Vec::with_capacity(length);
                for position in 0..width {
                    expected.extend((0..items).map(|item| raw[item * width + position]));
                }
                expected.extend(&raw[items * width..]);
                let mut planes = vec![0; length];
                split(width as u8, &raw, &mut planes);
                assert_eq!(planes, expected, "{length} bytes, items of {width}");
                let mut joined = vec![9; length];
                join(width as u8, &planes, &mut joined);
                assert_eq!(joined, raw, "{length} bytes, items of {width}");
                let mut difference = raw.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>();
                join_xor(width as u8, &planes, &mut difference);
                assert!(difference.iter().all(|byte| *byte == 0x5a));
            }
        }
    }
}
