//! Byte planes: every block's bytes regrouped by their position in an item, and the difference of two blocks.
//!
//! The exponents of floats are alike and their low mantissa bits are noise: planes put like beside like. Pure transforms of memory; what is done with
//! them is in [`super::encoded`].

/// Item sizes that have planes.
pub(super) const WIDTHS: [u8; 5] = [1, 2, 4, 8, 16];

/// Plane `p` holds byte `p` of every whole item; what is left of the last item follows the planes.
pub(super) fn split(item_bytes: u8, raw: &[u8], planes: &mut [u8]) {
    match item_bytes {
        2 => split_items::<2>(raw, planes),
        4 => split_items::<4>(raw, planes),
        8 => split_items::<8>(raw, planes),
        16 => split_items::<16>(raw, planes),
        _ => planes.copy_from_slice(raw),
    }
}

/// Undoes [`split`].
pub(super) fn join(item_bytes: u8, planes: &[u8], raw: &mut [u8]) {
    match item_bytes {
        2 => join_items::<2>(planes, raw),
        4 => join_items::<4>(planes, raw),
        8 => join_items::<8>(planes, raw),
        16 => join_items::<16>(planes, raw),
        _ => raw.copy_from_slice(planes),
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

fn split_items<const W: usize>(raw: &[u8], planes: &mut [u8]) {
    let (items, rest) = raw.as_chunks::<W>();
    let count = items.len();
    planes[count * W..].copy_from_slice(rest);
    for (position, plane) in planes[..count * W]
        .chunks_exact_mut(count.max(1))
        .enumerate()
    {
        for (byte, item) in plane.iter_mut().zip(items) {
            *byte = item[position];
        }
    }
}

fn join_items<const W: usize>(planes: &[u8], raw: &mut [u8]) {
    let (items, rest) = raw.as_chunks_mut::<W>();
    let count = items.len();
    rest.copy_from_slice(&planes[count * W..]);
    for (position, plane) in planes[..count * W].chunks_exact(count.max(1)).enumerate() {
        for (byte, item) in plane.iter().zip(items.iter_mut()) {
            item[position] = *byte;
        }
    }
}
