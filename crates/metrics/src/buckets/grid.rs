//! The equal pixels that a range is cut into.

use super::MIN_SUBS;

/// The equal pixels of a query.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) pixels: u32,
}

impl Grid {
    /// Units of x in the range: up to 2^64.
    fn units(self) -> u128 {
        (i128::from(self.to) - i128::from(self.from) + 1) as u128
    }

    /// The pixel of an x inside the range.
    pub(super) fn pixel(self, x: i64) -> u32 {
        let offset = x.abs_diff(self.from);
        (u128::from(offset) * u128::from(self.pixels) / self.units()) as u32
    }

    /// Last x of a pixel.
    pub(super) fn last_of(self, pixel: u32) -> i64 {
        let edge = (u128::from(pixel) + 1) * self.units();
        let offset = edge.div_ceil(u128::from(self.pixels)) - 1;
        (i128::from(self.from) + offset as i128) as i64
    }

    pub(super) fn contains(self, (first, last): (i64, i64)) -> bool {
        self.from <= first && last <= self.to
    }

    pub(super) fn touches(self, (first, last): (i64, i64)) -> bool {
        first <= self.to && last >= self.from
    }

    /// Whether a pixel anywhere touches at least [`MIN_SUBS`] sub-blocks as wide as this: one less of them fits into it.
    pub(super) fn holds_many(self, (first, last): (i64, i64)) -> bool {
        let width = u128::from(last.abs_diff(first)) + 1;
        width * u128::from(self.pixels) * u128::from(MIN_SUBS - 1) <= self.units()
    }
}
